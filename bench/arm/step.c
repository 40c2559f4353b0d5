/* Steps of one recurrent layer, for counting:
 *
 *     step ISA KIND INPUT HIDDEN FORMAT STEPS          KIND lstm, gru or rnn; FORMAT float32, int8 ...
 *
 * Two runs that differ in STEPS differ by the instructions of that many calls of trnn_run and of nothing else. */
#include "../../csrc/tinyrnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Memory aligned as the core wants it, every byte the same: silence apart, no instruction is chosen by what
 * numbers are. As a float 0x3c3c3c3c is 0.01, so nothing overflows and nothing is subnormal, in any format. */
static void *filled(int byte, size_t bytes)
{
    char *block = malloc(bytes + 64);
    if (!block) abort();
    block += 64 - (uintptr_t)block % 64;
    return memset(block, byte, bytes);
}

int main(int argc, char **argv)
{
    if (argc != 7) return 2;
    trnn_layer layer = trnn_layer_named(argv[2]);
    while (layer.format < TRNN_FORMAT_COUNT && strcmp(trnn_format_name(layer.format), argv[5]) != 0)
        layer.format++;
    trnn_recurrent_args *sizes_of = &layer.as.recurrent;
    sizes_of->input_size = atoi(argv[3]);
    sizes_of->hidden_size = atoi(argv[4]);
    sizes_of->bias = 1;

    const trnn_kernels *isa = trnn_isa_find(argv[1]);
    const trnn_net net = trnn_chain(&layer, 1, (trnn_frame){1, 1, sizes_of->input_size});
    const int32_t one = 1;
    void *plan = filled(0, trnn_plan_bytes(&net));
    trnn_sizes sizes;
    if (!isa || !layer.type || layer.format == TRNN_FORMAT_COUNT || trnn_layer_check(&layer) != TRNN_OK ||
        trnn_plan_init(plan, &net, 1, &one, &sizes) != TRNN_OK) {
        fprintf(stderr, "step: no %s %s on %s here\n", argv[5], argv[2], argv[1]);
        return 1;
    }
    const void *weights = filled(0x3c, trnn_layer_weights_bytes(&layer));
    const trnn_job job = {
        .isa = isa,
        .weights = &weights,
        .state = filled(0, sizes.state_bytes),
        .scratch = filled(0, sizes.scratch_bytes),
        .x = {filled(0x3c, (size_t)sizes_of->input_size * sizeof(float))},
        .y = {filled(0, (size_t)sizes.out[0].frame.cols * sizeof(float))},
        .steps = {1},
    };
    for (int steps = atoi(argv[6]); steps > 0; steps--)
        if (trnn_run(plan, &job) != TRNN_OK) return 1;
    return 0;
}
