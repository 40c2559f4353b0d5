/* Layers over time: reductions, final_state, repeat, conv_steps. Values against plain loops in double, and the same bits step
 * by step, in blocks, in one call and on every instruction set. Gradients are Python's to test (tests/nets/test_temporal.py). */
#include "check.h"

#include <math.h>
#include <string.h>

enum { BATCH = 3, STEPS = 7, NUMBERS = 5, UNITS = 4 };

#define OVER_TIME(name_)                                 \
    {                                                    \
        TRNN_TRAINED(name_), .as.frame = {1, 1, NUMBERS} \
    }

/* A net with its memory, for blocks of `block` steps. */
typedef struct {
    memory plan, state, scratch, weights;
    const void *pointers[2];
    trnn_sizes sizes;
} laid;

static laid lay_net(const trnn_net *net, int32_t block)
{
    laid me;
    memset(&me, 0, sizeof me);
    me.plan = memory_take(trnn_plan_bytes(net));
    check(trnn_plan_init(me.plan.at, net, BATCH, &block, &me.sizes) == TRNN_OK, "a net over time");
    me.state = memory_take(me.sizes.state_bytes);
    me.scratch = memory_take(me.sizes.scratch_bytes);
    me.weights = memory_take(trnn_layer_weights_bytes(&net->layers[0]));
    memset(me.state.at, 0, me.state.bytes);
    memset(me.scratch.at, 0x5a, me.scratch.bytes);
    memset(me.weights.at, 0, me.weights.bytes);
    me.pointers[0] = me.weights.at;
    return me;
}

static void release_net(laid *me)
{
    memory_release(&me->plan);
    memory_release(&me->state);
    memory_release(&me->scratch);
    memory_release(&me->weights);
}

/* Reductions of one input: y has a frame for each row and kind. */
static const trnn_layer reductions[] = {OVER_TIME(last_step), OVER_TIME(sum_steps), OVER_TIME(mean_steps),
                                        OVER_TIME(max_steps)};

static trnn_net reductions_net(void)
{
    static const trnn_reads reads[] = {{1, {0}}, {1, {0}}, {1, {0}}, {1, {0}}};
    return (trnn_net){.layers = reductions,
                      .count = 4,
                      .reads = reads,
                      .inputs = 1,
                      .outputs = 4,
                      .input = {{{1, 1, NUMBERS}, 1}},
                      .output = {1, 2, 3, 4}};
}

/* Runs calls of `call` steps in blocks of `block`; y (4, BATCH, NUMBERS). */
static void run_reductions(const trnn_kernels *isa, const float *x, int32_t call, int32_t block,
                           const int32_t *lengths, float *y)
{
    const trnn_net net = reductions_net();
    laid me = lay_net(&net, block);
    for (int32_t t = 0; t < STEPS; t += call) {
        trnn_job job = {.isa = isa,
                        .weights = me.pointers,
                        .state = me.state.at,
                        .scratch = me.scratch.at,
                        .x = {x + t * BATCH * NUMBERS},
                        .steps = {STEPS - t < call ? STEPS - t : call},
                        .lengths = {lengths}};
        const void *const weights[4] = {NULL};
        job.weights = weights;
        for (int32_t o = 0; o < 4; o++) job.y[o] = y + o * BATCH * NUMBERS;
        check(trnn_run((const trnn_plan *)(void *)me.plan.at, &job) == TRNN_OK, "a run over time");
    }
    release_net(&me);
}

static void test_reductions(const trnn_kernels *isa)
{
    static const int32_t given[BATCH] = {STEPS, 1, 4};
    dice d = dice_named("over time");
    float x[STEPS * BATCH * NUMBERS], whole[4 * BATCH * NUMBERS], y[4 * BATCH * NUMBERS];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = dice_float(&d, 1);
    for (int with = 0; with < 2; with++) {
        const int32_t *const lengths = with ? given : NULL;
        run_reductions(isa, x, STEPS, STEPS, lengths, whole);
        for (int32_t i = 0; i < BATCH * NUMBERS; i++) {
            const int32_t steps = lengths ? lengths[i / NUMBERS] : STEPS;
            double sum = 0.0, most = x[i];
            for (int32_t t = 0; t < steps; t++) {
                const double number = x[t * BATCH * NUMBERS + i];
                sum += number;
                if (number > most) most = number;
            }
            const double right[4] = {x[(steps - 1) * BATCH * NUMBERS + i], sum, sum / steps, most};
            for (int32_t o = 0; o < 4; o++)
                check(fabs((double)whole[o * BATCH * NUMBERS + i] - right[o]) < 1e-5,
                      "%s of %d steps: %g, not %g", trnn_layer_name(&reductions[o]), (int)steps,
                      (double)whole[o * BATCH * NUMBERS + i], right[o]);
        }
        for (int32_t block = 1; block < STEPS; block++) {
            run_reductions(isa, x, STEPS, block, lengths, y);
            check(same_bits(y, whole, 4 * BATCH * NUMBERS), "blocks of %d steps", (int)block);
            if (lengths) continue;
            run_reductions(isa, x, block, STEPS, NULL, y);
            check(same_bits(y, whole, 4 * BATCH * NUMBERS), "calls of %d steps", (int)block);
        }
    }
}

/* What cannot read the state of what, and what cannot be in a loop. */
static void test_refusals(void)
{
    const trnn_layer gru = RECURRENT(gru, NUMBERS, UNITS, .bias = 1), linear = LINEAR(NUMBERS, NUMBERS, 1);
    const struct {
        trnn_layer writer;
        trnn_final_state_args args;
        trnn_status status;
    } cases[] = {
        {gru, {1, UNITS, 0, UNITS}, TRNN_OK},          {gru, {2, UNITS, 0, UNITS}, TRNN_E_SHAPE},
        {gru, {1, UNITS + 1, 0, UNITS}, TRNN_E_SHAPE}, {gru, {1, UNITS, 1, UNITS - 1}, TRNN_E_SHAPE},
        {gru, {1, UNITS, 1, UNITS}, TRNN_E_ARGUMENT},  {gru, {3, UNITS, 0, UNITS}, TRNN_E_ARGUMENT},
        {linear, {1, UNITS, 0, UNITS}, TRNN_E_GRAPH},
    };
    const int32_t steps = 1;
    trnn_sizes sizes;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const trnn_layer layers[] = {cases[i].writer,
                                     {TRNN_TRAINED(final_state), .as.final_state = cases[i].args}};
        const trnn_net net = trnn_chain(layers, 2, (trnn_frame){1, 1, NUMBERS});
        const trnn_net alone = trnn_chain(layers + 1, 1, (trnn_frame){1, 1, NUMBERS});
        memory plan = memory_take(trnn_plan_bytes(&net));
        check(trnn_plan_init(plan.at, &net, 1, &steps, &sizes) == cases[i].status, "final_state %d", (int)i);
        check(trnn_plan_init(plan.at, &alone, 1, &steps, &sizes) != TRNN_OK, "final_state %d of an input",
              (int)i);
        memory_release(&plan);
    }
}

/* The final state is the state: zeros in, zeros out, and then what the caller puts there. */
static void test_final_state(const trnn_kernels *isa)
{
    const trnn_layer layers[] = {RECURRENT(gru, NUMBERS, UNITS, .bias = 1),
                                 {TRNN_TRAINED(final_state), .as.final_state = {1, UNITS, 0, UNITS}}};
    const trnn_net net = trnn_chain(layers, 2, (trnn_frame){1, 1, NUMBERS});
    laid me = lay_net(&net, 2);
    float x[STEPS * BATCH * NUMBERS], y[BATCH * UNITS];
    memset(x, 0, sizeof x);
    const size_t row = me.state.bytes / sizeof(float) / BATCH;
    for (size_t i = 0; i < BATCH * row; i++) me.state.at[i] = 1.0f + (float)i;
    const trnn_job job = {.isa = isa,
                          .weights = me.pointers,
                          .state = me.state.at,
                          .scratch = me.scratch.at,
                          .x = {x},
                          .y = {y},
                          .steps = {STEPS}};
    check(trnn_run((const trnn_plan *)(void *)me.plan.at, &job) == TRNN_OK, "a run of a GRU");
    for (size_t b = 0; b < BATCH; b++)
        check(same_bits(y + b * UNITS, me.state.at + b * row, UNITS), "the final state of row %d", (int)b);
    check(y[0] > 0.0f && y[0] < 1.0f, "a GRU of zeros halves its state: %g", (double)y[0]);
    release_net(&me);
}

/* ---- conv_steps: the bits of conv1d of the same frames side by side -------------------------------------- */

static void test_conv(const trnn_kernels *isa, int32_t channels, int32_t out, int32_t taps, int32_t dilation,
                      int32_t groups)
{
    enum { LENGTH = 9, ROWS = 2 };
    const int32_t before = (taps - 1) * dilation;
    model steps = {.name = "conv over time", .frame = {1, channels}, .count = 1},
          frame = {.name = "conv over time",
                   .frame = {channels, LENGTH},
                   .count = 1}; /* one name: equal weights */
    steps.layers[0] = (trnn_layer){TRNN_TRAINED(conv_steps),
                                   .as.conv1d = {channels, out, taps, 1, dilation, groups, 1, 0, 0, 0}};
    frame.layers[0] = (trnn_layer){TRNN_TRAINED(conv1d),
                                   .as.conv1d = {channels, out, taps, 1, dilation, groups, 1, before, 0, 0}};
    weights w = weights_roll(&steps), v = weights_roll(&frame);
    net over_time = net_open(&steps, &w, ROWS, LENGTH), blocks = net_open(&steps, &w, ROWS, 2),
        in_frame = net_open(&frame, &v, ROWS, 1);
    const size_t in = (size_t)channels, numbers = (size_t)out;
    memory x = net_input(&over_time, "conv", LENGTH * ROWS), side = memory_floats(in * LENGTH * ROWS),
           y = memory_floats(numbers * LENGTH * ROWS), z = memory_floats(numbers * LENGTH * ROWS),
           apart = memory_floats(numbers * LENGTH * ROWS);
    for (size_t t = 0; t < LENGTH; t++)
        for (size_t i = 0; i < in * ROWS; i++) side.at[i * LENGTH + t] = x.at[t * in * ROWS + i];
    net_run(&over_time, isa, x.at, y.at, LENGTH, NULL);
    net_run(&in_frame, isa, side.at, apart.at, 1, NULL);
    for (size_t t = 0; t < LENGTH; t++)
        for (size_t i = 0; i < numbers * ROWS; i++) z.at[t * numbers * ROWS + i] = apart.at[i * LENGTH + t];
    check(same_bits(y.at, z.at, numbers * LENGTH * ROWS), "%d to %d channels, %d taps, not as conv1d",
          (int)channels, (int)out, (int)taps);
    net_run(&blocks, isa, x.at, z.at, 4, NULL);
    for (size_t t = 4; t < LENGTH; t++)
        net_run(&blocks, isa, x.at + t * in * ROWS, z.at + t * numbers * ROWS, 1, NULL);
    check(same_bits(y.at, z.at, numbers * LENGTH * ROWS), "%d taps in blocks and steps", (int)taps);
    check(same_bits(over_time.state.at, blocks.state.at, over_time.state.bytes / sizeof(float)), "the state");
    memory_release(&x);
    memory_release(&side);
    memory_release(&y);
    memory_release(&z);
    memory_release(&apart);
    net_close(&over_time);
    net_close(&blocks);
    net_close(&in_frame);
    weights_release(&w);
    weights_release(&v);
}

void test_time(void)
{
    check_group("over time");
    test_refusals();
    const trnn_kernels *isa;
    for (int32_t i = 0; (isa = isa_get(i)); i++) {
        test_reductions(isa);
        test_final_state(isa);
        test_conv(isa, 4, 17, 3, 1, 1);
        test_conv(isa, 6, 51, 4, 2, 3);
        test_conv(isa, 20, 20, 2, 5, 20);
        test_conv(isa, 17, 65, 1, 1, 1);
    }
}
