/* Sizes, statuses and weights: what the functions of tinyrnn.h say, to good callers and to bad ones. */
#include "check.h"
#include "../../csrc/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

static void names(void)
{
    for (int status = 0; status < TRNN_STATUS_COUNT; status++) {
        check(strlen(trnn_status_text((trnn_status)status)) > 1, "status %d has no text", status);
        const size_t exception = strlen(trnn_status_exception((trnn_status)status));
        check(status == TRNN_OK ? exception == 0 : exception > 5, "status %d has no exception", status);
    }
    for (int32_t kind = 0; kind < trnn_layer_count(); kind++) {
        const trnn_layer layer = trnn_layer_at(kind);
        const char *name = trnn_layer_name(&layer);
        const trnn_layer named = trnn_layer_named(name);
        check(strlen(name) > 1, "layer %d has no name", (int)kind);
        check(layer.training != NULL, "%s has no training", name);
        check(named.type == layer.type && named.training == layer.training, "%s is not found by its name",
              name);
    }
    check(!trnn_layer_named("lst").type && !trnn_layer_named("lstms").type && !trnn_layer_named("").type,
          "a layer of no such name");
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++) {
        check(strlen(trnn_format_name((trnn_format)format)) > 3, "format %d has no name", format);
        for (int other = 0; other < format; other++)
            check(strcmp(trnn_format_name((trnn_format)format), trnn_format_name((trnn_format)other)) != 0,
                  "formats %d and %d share a name", format, other);
    }
    const trnn_kernels *list[ISAS_MAX] = {NULL}, *first[1];
    const int32_t count = trnn_isa_list(list, ISAS_MAX);
    check(count > 0 && count < ISAS_MAX && list[count] == NULL, "%d instruction sets", (int)count);
    check(trnn_isa_list(NULL, 0) == count && trnn_isa_list(first, 1) == count && first[0] == list[0],
          "a list without room");
    check(trnn_isa_best() == list[count - 1], "the best is the last");
    for (int32_t i = 0; i < count; i++) {
        check(trnn_isa_find(trnn_isa_name(list[i])) == list[i], "%s cannot be found", trnn_isa_name(list[i]));
        char longer[32];
        snprintf(longer, sizeof longer, "%s_", trnn_isa_name(list[i]));
        check(trnn_isa_find(longer) == NULL, "%s is found", longer);
    }
    check(trnn_isa_find("") == NULL && trnn_isa_find("scala") == NULL, "half a name finds nothing");
#if !defined(TRNN_ISA_ONLY)
    check(!trnn_isa_fused(trnn_isa_find("scalar")), "scalar is not fused");
#endif
}

/* ---- arguments by name ------------------------------------------------------------------------- */

/* The list names each member of a struct once, in its order: their bytes and those of the members that it
 * leaves out are all that the struct has, from `start` on. */
static void covers(const trnn_argument *list, size_t start, size_t left_out, const char *what)
{
    static const size_t sizes[] = {sizeof(int32_t), sizeof(float), sizeof(double), sizeof(const float *)};
    size_t bytes = left_out, free = start;
    for (; list->name; list++) {
        check(strlen(list->name) > 0 && list->offset >= free, "%s: %s is out of order", what, list->name);
        check(!list->live || list->type == TRNN_FLOAT || list->type == TRNN_INT32, "%s: %s cannot be live",
              what, list->name);
        free = list->offset + sizes[list->type];
        bytes += sizes[list->type];
    }
    check(free <= list->offset, "%s: the end lies before the last argument", what);
    bytes = (bytes + sizeof(double) - 1) / sizeof(double) * sizeof(double);
    const size_t all = (list->offset - start + sizeof(double) - 1) / sizeof(double) * sizeof(double);
    check(bytes == all, "%s: a list of %d bytes for %d", what, (int)bytes, (int)all);
}

static void arguments(void)
{
    for (int32_t i = 0; i < trnn_layer_count(); i++) {
        const trnn_layer layer = trnn_layer_at(i);
        covers(trnn_layer_arguments(&layer), offsetof(trnn_layer, as), 0, trnn_layer_name(&layer));
    }
    covers(trnn_loss_arguments(), 0,
           sizeof(const trnn_loss_type *) + sizeof(trnn_reduction) + sizeof(int32_t), "losses");
    covers(trnn_rule_arguments(), 0, sizeof(const trnn_optimiser *), "rules");
}

/* What is live changes in a plan and in a training that are laid out, and what it changes is y. */
static void adjusting(void)
{
    trnn_layer layer = {TRNN_TRAINED(leaky_relu), .as.activation = {0.5f}};
    const trnn_net net = trnn_chain(&layer, 1, (trnn_frame){1, 1, 1});
    const int32_t steps = 1;
    memory plan = memory_take(trnn_plan_bytes(&net)), scratch;
    trnn_sizes sizes;
    check(trnn_plan_init(plan.at, &net, 1, &steps, &sizes) == TRNN_OK, "a plan");
    scratch = memory_take(sizes.scratch_bytes);
    const void *weights[] = {NULL};
    const float x = -8.0f;
    float y = 0.0f;
    const trnn_job job = {.isa = trnn_isa_best(),
                          .weights = weights,
                          .scratch = scratch.at,
                          .x = {&x},
                          .y = {&y},
                          .steps = {1}};
    trnn_run((const trnn_plan *)(void *)plan.at, &job);
    check(y == -4.0f, "a slope of 0.5: %g", (double)y);
    layer.as.activation.slope = 0.25f;
    trnn_run((const trnn_plan *)(void *)plan.at, &job);
    check(y == -4.0f, "a plan has a copy");
    trnn_plan_adjust((trnn_plan *)(void *)plan.at, 0, &layer);
    trnn_run((const trnn_plan *)(void *)plan.at, &job);
    check(y == -2.0f, "a slope of 0.25: %g", (double)y);
    memory_release(&scratch);
    memory_release(&plan);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Bytes that a number takes at least. */
static const double number_bytes[TRNN_FORMAT_COUNT] = {4, 2, 2, 1, 0.5};

/* All tensors of a layer go in, twice, and come out again, at once and in chunks. */
static void packing(const trnn_layer *layer, const char *name)
{
    trnn_param params[TRNN_PARAMS_MAX];
    const int32_t count = trnn_layer_params(layer, params);
    const size_t bytes = trnn_layer_weights_bytes(layer);
    memory w = memory_take(bytes), fresh = memory_take(bytes);
    tensor before[TRNN_PARAMS_MAX], tensors[TRNN_PARAMS_MAX];
    double wanted = 0.0;
    dice d = dice_named(name);
    memset(w.at, 0, w.bytes);
    memset(fresh.at, 0, fresh.bytes);
    for (int32_t p = 0; p < count; p++) {
        check(params[p].rank >= 1 && params[p].rank <= 4 && strlen(params[p].name) > 1, "%s: tensor %d", name,
              (int)p);
        check(params[p].offset % TRNN_ALIGN == 0, "%s: %s is not aligned", name, params[p].name);
        check(params[p].format == (params[p].rank > 1 ? layer->format : TRNN_F32), "%s: format of %s", name,
              params[p].name);
        before[p] = tensor_roll(&params[p], &d, 0);
        tensors[p] = tensor_roll(&params[p], &d, 0);
        wanted += (double)tensors[p].rows * (double)tensors[p].cols * number_bytes[params[p].format] +
                  (double)tensors[p].scales.bytes * (params[p].format == TRNN_INT4 ? 0.5 : 1.0);
        tensor_pack(&before[p], &params[p], w.at);
    }
    for (int32_t p = 0; p < count; p++) tensor_pack(&tensors[p], &params[p], w.at);
    for (int32_t p = count; p-- > 0;) tensor_pack(&tensors[p], &params[p], fresh.at);
    check(memcmp(w.at, fresh.at, bytes) == 0, "%s: what was there before shows", name);
    for (int32_t p = 0; p < count; p++) { /* in chunks that end within rows */
        if (params[p].format != TRNN_F32) continue;
        const size_t numbers = tensors[p].rows * tensors[p].cols;
        memset((char *)fresh.at + params[p].offset, 0, trnn_param_bytes(&params[p]));
        for (size_t first = 0, chunk = 1; first < numbers; first += chunk, chunk += 6) {
            const size_t left = numbers - first;
            trnn_param_pack_chunk(&params[p], fresh.at, (const float *)tensors[p].numbers.at + first, first,
                                  chunk < left ? chunk : left);
        }
    }
    check(memcmp(w.at, fresh.at, bytes) == 0, "%s: chunks give other weights", name);
    check(bytes % TRNN_ALIGN == 0 && (double)bytes >= wanted, "%s: %lu bytes", name, (unsigned long)bytes);
    for (int32_t p = 0; p < count; p++) {
        tensor back = tensor_take(&params[p]);
        trnn_param_unpack(&params[p], w.at, back.numbers.at, back.scales.bytes ? back.scales.at : NULL);
        check(memcmp(back.numbers.at, tensors[p].numbers.at, back.numbers.bytes) == 0 &&
                  memcmp(back.scales.at, tensors[p].scales.at, back.scales.bytes) == 0,
              "%s: %s comes back changed", name, params[p].name);
        tensor_release(&back);
        tensor_release(&before[p]);
        tensor_release(&tensors[p]);
    }
    memory_release(&w);
    memory_release(&fresh);
}

static void all_packing(void)
{
    model m;
    for (int32_t i = 0; model_get(i, &m); i++)
        for (int32_t l = 0; l < m.count; l++) packing(&m.layers[l], m.name);
}

/* An embedding gives the very numbers that it was given. */
static void embeddings(trnn_format format, int32_t rows, int32_t dim)
{
    model m = {"an embedding", {1, rows}, 1, {EMBEDDING(rows, dim)}};
    m.layers[0].format = format;
    trnn_param params[TRNN_PARAMS_MAX];
    trnn_layer_params(&m.layers[0], params);
    dice d = dice_named(m.name);
    tensor table = tensor_roll(&params[0], &d, 3);
    if (format == TRNN_F16 || format == TRNN_BF16) /* every finite half, if there are rows enough */
        for (uint32_t i = 0, largest = format == TRNN_F16 ? 0x7bff : 0x7f7f; i < table.rows * table.cols; i++)
            ((uint16_t *)(void *)table.numbers.at)[i] =
                (uint16_t)(i / 2 % (largest + 1) | (i % 2 ? 0x8000u : 0));
    if (format == TRNN_INT8 && rows == 1) memset(table.numbers.at, 127, table.numbers.bytes);
    weights w = {.at = {memory_take(trnn_layer_weights_bytes(&m.layers[0]))}};
    w.pointers[0] = w.at[0].at;
    memset(w.at[0].at, 0, w.at[0].bytes);
    tensor_pack(&table, &params[0], w.at[0].at);

    net n = net_open(&m, &w, 1, 1);
    memory x = memory_floats((size_t)rows), y = memory_floats((size_t)rows * (size_t)dim);
    for (int32_t i = 0; i < rows; i++) memcpy(x.at + i, &i, sizeof i);
    net_run(&n, trnn_isa_best(), x.at, y.at, 1, NULL);
    int same = 1;
    for (size_t i = 0; i < table.rows * table.cols; i++) {
        const float wanted = tensor_at(&table, i / table.cols, i % table.cols);
        same &= same_bits(&wanted, y.at + i, 1);
    }
    check(same, "%s: an embedding of %d is not its table", trnn_format_name(format), (int)dim);
    memory_release(&x);
    memory_release(&y);
    tensor_release(&table);
    net_close(&n);
    weights_release(&w);
}

static void all_embeddings(void)
{
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++) {
        embeddings((trnn_format)format, 7, 1);
        embeddings((trnn_format)format, 3, 31);
        embeddings((trnn_format)format, 5, 33);
        embeddings((trnn_format)format, 128, 512);
        embeddings((trnn_format)format, 1, 3 * TRNN_INT8_DEPTH); /* no sum, so no depth is too much */
    }
}

/* ---- which formats a layer may have ------------------------------------------------------------ */

static trnn_status checked(trnn_layer layer, int format)
{
    layer.format = (trnn_format)format;
    return trnn_layer_check(&layer);
}

static void formats(void)
{
    static const trnn_layer with[] = {RECURRENT(lstm, 5, 7, .proj_size = 3),
                                      RECURRENT(gru, 5, 7),
                                      RECURRENT(rnn, 5, 7),
                                      LINEAR(5, 7, 1),
                                      EMBEDDING(5, 7),
                                      CONV1D(6, 6, 3, 1, 1, 2, 1)};
    static const trnn_layer without[] = {NORM(layer_norm, 5, 1, 1),
                                         NORM(layer_norm, 5, 0, 0),
                                         NORM(batch_norm, 5, 1, 1),
                                         PLAIN(flatten),
                                         PLAIN(identity),
                                         PLAIN(relu),
                                         LEAKY_RELU(0.1f),
                                         PLAIN(sigmoid),
                                         PLAIN(tanh),
                                         SOFTMAX(softmax, 0),
                                         SOFTMAX(log_softmax, 1)};
    enum { WITH = sizeof with / sizeof with[0], WITHOUT = sizeof without / sizeof without[0] };
    for (int format = -1; format <= TRNN_FORMAT_COUNT; format++) {
        const int none = format < 0 || format == TRNN_FORMAT_COUNT;
        for (int i = 0; i < WITH; i++)
            check(checked(with[i], format) == (none ? TRNN_E_ARGUMENT : TRNN_OK), "%s in format %d",
                  trnn_layer_name(&with[i]), format);
        for (int i = 0; i < WITHOUT; i++)
            check(checked(without[i], format) == (format == TRNN_F32 ? TRNN_OK : TRNN_E_ARGUMENT),
                  "%s in format %d", trnn_layer_name(&without[i]), format);
    }

    enum { DEEP = TRNN_INT8_DEPTH };
    static const struct {
        trnn_layer layer;
        int good;
    } deep[] = {
        {LINEAR(DEEP, 2, 1), 1},
        {LINEAR(DEEP + 1, 2, 1), 0},
        {RECURRENT(gru, DEEP, 2), 1},
        {RECURRENT(gru, DEEP + 1, 2), 0},
        {RECURRENT(lstm, 2, DEEP + 1, .proj_size = 1), 0}, /* of the projection */
        {CONV1D(DEEP / 4, 2, 4, 1, 1, 1, 1), 1},
        {CONV1D(DEEP / 4 + 1, 2, 4, 1, 1, 1, 1), 0},
        {CONV1D(DEEP / 2, 2, 4, 1, 1, 2, 1), 1}, /* of a group */
        {EMBEDDING(2, DEEP + 1), 1},
    };
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++)
        for (int format = 0; format < TRNN_FORMAT_COUNT; format++)
            check(checked(deep[i].layer, format) ==
                      (format == TRNN_INT8 && !deep[i].good ? TRNN_E_SIZE : TRNN_OK),
                  "%s in %s, deep case %d", trnn_layer_name(&deep[i].layer),
                  trnn_format_name((trnn_format)format), (int)i);
}

static int is_recurrent(const trnn_layer *layer) { return layer->type && trnn_layer_gates(layer) != NULL; }

/* ---- sizes ----------------------------------------------------------------------------------- */

static void sane_sizes(const model *m)
{
    const weights none = {0};
    net one = net_open(m, &none, 1, 1), many = net_open(m, &none, 5, 3), longer = net_open(m, &none, 5, 9);
    check(many.sizes.batch == 5 && many.sizes.steps[0] == 3, "%s: batch and steps", m->name);
    check(many.sizes.in[0].frame.rows == m->frame.rows && many.sizes.in[0].frame.cols == m->frame.cols,
          "%s: frame", m->name);
    check(many.sizes.state_bytes % TRNN_ALIGN == 0 && many.sizes.scratch_bytes % TRNN_ALIGN == 0,
          "%s: sizes are not aligned", m->name);
    check(one.sizes.state_bytes <= many.sizes.state_bytes &&
              one.sizes.scratch_bytes <= many.sizes.scratch_bytes,
          "%s: a larger batch is smaller", m->name);
    check(longer.sizes.state_bytes == many.sizes.state_bytes, "%s: state grows with steps", m->name);
    check(longer.sizes.scratch_bytes >= many.sizes.scratch_bytes, "%s: scratch shrinks with steps", m->name);
    size_t end = 0;
    for (int32_t i = 0; i < m->count; i++) {
        size_t offset, numbers;
        trnn_plan_state(net_plan(&many), i, &offset, &numbers);
        check((numbers > 0) == is_recurrent(&m->layers[i]), "%s: state", m->name);
        check(offset == end, "%s: state of layer %d overlaps, or leaves a hole", m->name, (int)i);
        end = offset + numbers;
    }
    check(many.sizes.state_bytes == 5 * one.sizes.state_bytes && end * sizeof(float) <= one.sizes.state_bytes,
          "%s: state is not rows", m->name);
    check(many.sizes.state_bytes % (5 * TRNN_ALIGN) == 0, "%s: a row of state is not aligned", m->name);
    net_close(&one);
    net_close(&many);
    net_close(&longer);
}

static void all_sane_sizes(void)
{
    model m;
    for (int32_t i = 0; model_get(i, &m); i++) sane_sizes(&m);
}

/* ---- absurd sizes ---------------------------------------------------------------------------- */

/* Arguments at the edges of what they may be, ordinary ones among them so that some nets pass. */
static int32_t absurd(dice *d)
{
    static const int32_t most = (int32_t)1 << 28;
    const int32_t values[] = {0,         1,        1,        1,        2,       3,       16,
                              1000,      46341,    65535,    1 << 20,  1 << 24, 1 << 25, most / 4,
                              most - 15, most - 1, most,     most + 1, 1 << 29, 1 << 30, INT32_MAX - 1,
                              INT32_MAX, -1,       INT32_MIN};
    return values[dice_roll(d) % (sizeof values / sizeof values[0])];
}

/* A flag, mostly a good one. */
static int32_t flag(dice *d)
{
    const uint32_t roll = dice_roll(d) % 16;
    return roll == 0 ? absurd(d) : (int32_t)(roll % 2);
}

/* Now and then of no type, or without its training. */
static trnn_layer absurd_layer(dice *d)
{
    const uint32_t format = dice_roll(d) % 16; /* mostly float32, which every layer may have */
    const int32_t roll = (int32_t)(dice_roll(d) % (uint32_t)(trnn_layer_count() + 1));
    trnn_layer layer;
    memset(&layer, 0, sizeof layer);
    if (roll < trnn_layer_count()) layer = trnn_layer_at(roll);
    if (dice_roll(d) % 64 == 0) layer.training = NULL;
    layer.format = (trnn_format)(format == 15 ? absurd(d) : format <= TRNN_INT4 ? (int32_t)format : TRNN_F32);
    if (is_recurrent(&layer)) {
        layer.as.recurrent =
            (trnn_recurrent_args){absurd(d), absurd(d), flag(d) ? absurd(d) : 0, flag(d), flag(d), 0};
    } else if (layer.type == &trnn_linear) {
        layer.as.linear = (trnn_linear_args){absurd(d), absurd(d), flag(d)};
    } else if (layer.type == &trnn_embedding) {
        layer.as.embedding = (trnn_embedding_args){absurd(d), absurd(d)};
    } else if (layer.type == &trnn_conv1d) {
        layer.as.conv1d =
            (trnn_conv1d_args){absurd(d), absurd(d), absurd(d), absurd(d), absurd(d),
                               absurd(d), flag(d),   absurd(d), absurd(d), (trnn_pad)(flag(d) != 0)};
        if (flag(d)) layer.as.conv1d.groups = 1;
    } else if (layer.type == &trnn_conv_steps) {
        layer.as.conv1d =
            (trnn_conv1d_args){absurd(d), absurd(d), absurd(d), 1, absurd(d), 1, flag(d), 0, 0, 0};
    } else if (layer.type == &trnn_unfold_steps) {
        layer.as.unfold = (trnn_unfold_args){absurd(d), absurd(d), absurd(d), absurd(d),
                                             absurd(d), absurd(d), absurd(d), flag(d)};
    } else if (layer.type == &trnn_conv2d) {
        layer.as.conv1d = (trnn_conv1d_args){absurd(d), absurd(d), absurd(d), absurd(d), absurd(d),
                                             absurd(d), flag(d),   absurd(d), absurd(d), 0,
                                             absurd(d), absurd(d), absurd(d), absurd(d), absurd(d)};
        if (flag(d)) layer.as.conv1d.groups = 1;
    } else if (layer.type == &trnn_conv_transpose1d) {
        layer.as.conv_transpose = (trnn_conv_transpose_args){
            absurd(d), absurd(d), absurd(d), absurd(d), absurd(d), absurd(d), flag(d), absurd(d), flag(d)};
        if (flag(d)) layer.as.conv_transpose.groups = 1;
    } else if (layer.type == &trnn_max_pool || layer.type == &trnn_avg_pool) {
        layer.as.pool = (trnn_pool_args){absurd(d), absurd(d), absurd(d), absurd(d), absurd(d), absurd(d),
                                         absurd(d), absurd(d), flag(d),   0,         0};
    } else if (layer.type == &trnn_adaptive_max_pool || layer.type == &trnn_adaptive_avg_pool) {
        layer.as.adaptive = (trnn_adaptive_args){absurd(d), absurd(d)};
    } else if (layer.type == &trnn_layer_norm || layer.type == &trnn_batch_norm) {
        layer.as.norm = (trnn_norm_args){absurd(d), flag(d), flag(d), 1e-5f};
    } else if (layer.type == &trnn_group_norm) {
        layer.as.norm = (trnn_norm_args){absurd(d), flag(d), flag(d), 1e-5f, .groups = flag(d)};
    } else if (layer.type == &trnn_prelu) {
        layer.as.prelu.num_parameters = absurd(d);
    } else if (layer.type == &trnn_softmax || layer.type == &trnn_log_softmax) {
        layer.as.softmax.over_rows = flag(d);
    }
    return layer;
}

/* A size in bytes, in a number that cannot overflow. */
static double bytes_of(double a, double b, double c) { return a * b * c * (double)sizeof(float); }

static double bytes_of_frames(double frames, trnn_frame frame)
{
    return bytes_of(frames * frame.planes, frame.rows, frame.cols);
}

/* The frame that a layer reads, or an absurd one. */
static trnn_frame absurd_frame(dice *d, const trnn_layer *layer)
{
    trnn_frame frame = {dice_roll(d) % 4 ? 1 : absurd(d), absurd(d), absurd(d)};
    if (dice_roll(d) % 4 == 0) return frame;
    if (is_recurrent(layer)) return (trnn_frame){1, 1, layer->as.recurrent.input_size};
    if (layer->type == &trnn_linear) frame.cols = layer->as.linear.in_features;
    if (layer->type == &trnn_embedding) frame.rows = 1;
    if (layer->type == &trnn_conv_steps) return (trnn_frame){1, 1, layer->as.conv1d.in_channels};
    if (layer->type == &trnn_unfold_steps)
        return (trnn_frame){1, layer->as.unfold.rows, layer->as.unfold.cols};
    if (layer->type == &trnn_conv1d) frame.rows = layer->as.conv1d.in_channels;
    if (layer->type == &trnn_conv2d) frame.planes = layer->as.conv1d.in_channels;
    if (layer->type == &trnn_conv_transpose1d) frame.rows = layer->as.conv_transpose.in_channels;
    if (layer->type == &trnn_layer_norm) frame.cols = layer->as.norm.size;
    if (layer->type == &trnn_batch_norm) frame.rows = layer->as.norm.size;
    if (layer->type == &trnn_group_norm) frame.planes = layer->as.norm.size;
    return frame;
}

/* A training of the same layers: `planned` is what a plan of them says. Where several things are wrong, the
 * two may name different ones. */
static void absurd_training(memory *training, const trnn_net *net, int32_t batch, int32_t steps,
                            trnn_status planned, int32_t seen[TRNN_STATUS_COUNT])
{
    const trnn_layer *layers = net->layers;
    const int32_t count = net->count;
    const double limit = (double)PTRDIFF_MAX;
    trnn_training_sizes before, after;
    memset(&before, 0x5a, sizeof before);
    after = before;
    const trnn_status status = trnn_training_init(training->at, net, batch, &steps, &after);
    seen[status]++;
    if (planned == TRNN_OK)
        check(status == TRNN_OK || status == TRNN_E_FORMAT || status == TRNN_E_TRAINING ||
                  status == TRNN_E_SIZE,
              "training: %d", (int)status);
    else
        check(status != TRNN_OK, "a training without a plan: %d", (int)planned);
    if (status != TRNN_OK) {
        check(memcmp(&before, &after, sizeof after) == 0, "a training that fails writes sizes");
        return;
    }
    const double tape = (double)after.tape_bytes, frames = (double)batch * (double)steps;
    const double most = tape * (1.0 + 1e-15); /* sums of doubles of this size are rounded */
    const double in = bytes_of_frames(frames, after.in[0].frame),
                 out = bytes_of_frames((double)batch * after.out_steps[0], after.out[0].frame);
    check(tape + (double)after.state_bytes + (double)after.scratch_bytes <= limit, "sizes beyond addresses");
    check((double)after.x[0] + in <= most && (double)after.dx[0] + in <= most,
          "x or dx lies beyond the tape");
    check((double)after.y[0] + out <= most && (double)after.dy[0] + out <= most,
          "y or dy lies beyond the tape");
    check(after.stages >= 1 && after.stages <= 2 * count + 1, "%d stages", (int)after.stages);
    if (count == 1 && is_recurrent(&layers[0])) { /* the largest of their arrays */
        const double gates = layers[0].type == &trnn_lstm ? 4 : layers[0].type == &trnn_gru ? 3 : 1;
        check(tape >= bytes_of(frames, layers[0].as.recurrent.hidden_size, gates), "the tape is too small");
    }
}

static void absurd_sizes(void)
{
    enum { ROUNDS = 240000 };
    const double limit = (double)PTRDIFF_MAX;
    dice d = dice_named("absurd");
    const trnn_net two = {.count = 2, .inputs = 1};
    memory plan = memory_take(trnn_plan_bytes(&two)), training = memory_take(trnn_training_bytes(&two));
    int32_t seen[TRNN_STATUS_COUNT] = {0}, trained[TRNN_STATUS_COUNT] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        const trnn_layer layers[2] = {absurd_layer(&d), absurd_layer(&d)};
        const int32_t count = 1 + (int32_t)(dice_roll(&d) % 2);
        const trnn_status good = trnn_layer_check(&layers[0]);
        check(good == TRNN_OK || good == TRNN_E_ARGUMENT || good == TRNN_E_SIZE, "layer check: %d",
              (int)good);
        if (good == TRNN_OK) {
            trnn_param params[TRNN_PARAMS_MAX];
            const int32_t tensors = trnn_layer_params(&layers[0], params);
            double wanted = 0.0;
            for (int32_t p = 0; p < tensors; p++) {
                const int32_t *const shape = params[p].shape;
                check(shape[0] > 0 && shape[1] > 0 && shape[2] > 0 && shape[3] > 0, "%s: a shape wraps",
                      trnn_layer_name(&layers[0]));
                wanted += bytes_of(shape[0], shape[1], shape[2]) * shape[3] * number_bytes[params[p].format] /
                          number_bytes[TRNN_F32];
            }
            const size_t bytes = trnn_layer_weights_bytes(&layers[0]);
            check((double)bytes >= wanted && (double)bytes <= limit, "%s: %.3g bytes of weights, wanted %.3g",
                  trnn_layer_name(&layers[0]), (double)bytes, wanted);
        }

        const trnn_frame frame = absurd_frame(&d, &layers[0]);
        const int32_t batch = absurd(&d), steps = absurd(&d);
        trnn_sizes before, after;
        memset(&before, 0x5a, sizeof before);
        after = before;
        const trnn_net net = trnn_chain(layers, count, frame);
        const trnn_status status = trnn_plan_init(plan.at, &net, batch, &steps, &after);
        seen[status]++;
        check(status == TRNN_OK || status == TRNN_E_ARGUMENT || status == TRNN_E_SIZE ||
                  status == TRNN_E_SHAPE || status == TRNN_E_GRAPH || status == TRNN_E_TIME,
              "plan: %d", (int)status);
        absurd_training(&training, &net, batch, steps, status, trained);
        if (status != TRNN_OK) {
            check(memcmp(&before, &after, sizeof after) == 0, "a plan that fails writes sizes");
            continue;
        }
        check((double)after.state_bytes <= limit &&
                  (double)after.scratch_bytes + (double)after.part_bytes <= limit,
              "sizes beyond addresses");
        const double frames = (double)batch * (double)steps;
        const trnn_frame in = after.in[0].frame, out = after.out[0].frame;
        check(bytes_of_frames(frames, out) <= limit, "%s: y is %d x %d x %d x %d x %d",
              trnn_layer_name(&layers[0]), (int)steps, (int)batch, (int)out.planes, (int)out.rows,
              (int)out.cols);
        check(bytes_of_frames(frames, in) <= limit, "%s: x is %d x %d x %d x %d x %d",
              trnn_layer_name(&layers[0]), (int)steps, (int)batch, (int)in.planes, (int)in.rows,
              (int)in.cols);
        check(out.planes > 0 && out.rows > 0 && out.cols > 0, "an empty frame");
        const trnn_recurrent_args *a = &layers[0].as.recurrent;
        if (count == 1 && is_recurrent(&layers[0])) { /* the largest of their arrays */
            const double gates = layers[0].type == &trnn_lstm ? 4 : layers[0].type == &trnn_gru ? 3 : 1;
            const int32_t most = batch < 64 ? 64 / batch : 1, chunk = steps < most ? steps : most;
            if (chunk > 1) /* a single step makes its gates group by group */
                check((double)after.scratch_bytes >=
                          bytes_of((double)chunk * (double)batch, a->hidden_size, gates),
                      "scratch is too small");
            check((double)after.state_bytes >= bytes_of(batch, out.cols, 1), "state is too small");
        }
    }
    check(seen[TRNN_OK] > 20 && seen[TRNN_E_ARGUMENT] > 20 && seen[TRNN_E_SIZE] > 20 &&
              seen[TRNN_E_SHAPE] > 20,
          "absurd nets: %d good, %d argument, %d size, %d shape", (int)seen[TRNN_OK],
          (int)seen[TRNN_E_ARGUMENT], (int)seen[TRNN_E_SIZE], (int)seen[TRNN_E_SHAPE]);
    check(trained[TRNN_OK] > 20 && trained[TRNN_E_FORMAT] > 10 && trained[TRNN_E_SIZE] > 20,
          "absurd trainings: %d good, %d format, %d size", (int)trained[TRNN_OK], (int)trained[TRNN_E_FORMAT],
          (int)trained[TRNN_E_SIZE]);
    memory_release(&plan);
    memory_release(&training);
}

/* ---- bad calls ------------------------------------------------------------------------------- */

/* A call that has to fail with `wanted`, and to write nothing. */
static void refused(const model *m, int32_t steps, const int32_t *lengths, int32_t stride, int32_t bad_index,
                    trnn_status wanted, const char *what)
{
    enum { BATCH = 3, STEPS = 4 };
    weights w = weights_roll(m);
    net n = net_open(m, &w, BATCH, STEPS);
    memory x = net_input(&n, what, STEPS * BATCH), y = memory_floats(STEPS * BATCH * n.out);
    memory state = memory_take(n.state.bytes);
    if (bad_index)
        memcpy(x.at + (steps > STEPS ? 0 : STEPS * BATCH * n.in - 1), &bad_index, sizeof bad_index);
    for (size_t i = 0; i < n.state.bytes / sizeof(float); i++) n.state.at[i] = (float)i;
    for (size_t i = 0; i < y.bytes / sizeof(float); i++) y.at[i] = 77.0f;
    memcpy(state.at, n.state.at, n.state.bytes);
    trnn_job job = net_job(&n, trnn_isa_best(), x.at, y.at, steps, lengths);
    job.stride = stride;
    const trnn_status status = trnn_run(net_plan(&n), &job);
    check(status == wanted, "%s: %s, wanted %s", what, trnn_status_text(status), trnn_status_text(wanted));
    check(same_bits(state.at, n.state.at, n.state.bytes / sizeof(float)), "%s: the state changed", what);
    size_t left = 0;
    for (size_t i = 0; i < y.bytes / sizeof(float); i++) left += y.at[i] == 77.0f;
    check(left * sizeof(float) == y.bytes, "%s: y was written", what);
    memory_release(&x);
    memory_release(&y);
    memory_release(&state);
    net_close(&n);
    weights_release(&w);
}

static void bad_calls(void)
{
    static const model characters = {
        "bad characters", {1, 1}, 3, {EMBEDDING(9, 5), RECURRENT(lstm, 5, 6, .bias = 1), LINEAR(6, 9, 1)}};
    static const model both = {"bad both ways", {1, 5}, 1, {RECURRENT(gru, 5, 6, .bidirectional = 1)}};
    static const int32_t good[] = {4, 1, 2}, zero[] = {4, 0, 2}, below[] = {-1, 4, 4}, beyond[] = {4, 2, 5};
    refused(&characters, 4, NULL, 0, 9, TRNN_E_INDEX, "index 9 of 9");
    refused(&characters, 4, NULL, 0, -1, TRNN_E_INDEX, "index -1");
    refused(&characters, 4, NULL, 0, INT32_MIN, TRNN_E_INDEX, "index INT32_MIN");
    refused(&characters, 4, good, 0, INT32_MAX, TRNN_E_INDEX, "index INT32_MAX");
    refused(&characters, 4, zero, 0, 0, TRNN_E_LENGTHS, "length 0");
    refused(&characters, 4, below, 0, 0, TRNN_E_LENGTHS, "length -1");
    refused(&characters, 4, beyond, 0, 0, TRNN_E_LENGTHS, "length 5 of 4");
    refused(&characters, 0, NULL, 0, 0, TRNN_E_STEPS, "0 steps");
    refused(&characters, -1, NULL, 0, 0, TRNN_E_STEPS, "-1 steps");
    refused(&characters, INT32_MIN, NULL, 0, 0, TRNN_E_STEPS, "INT32_MIN steps");
    /* The bad index stops a core that would go on. */
    refused(&characters, (1 << 28) + 1, NULL, 0, -1, TRNN_E_STEPS, "more steps than any size may be");
    refused(&characters, INT32_MAX, NULL, 0, -1, TRNN_E_STEPS, "INT32_MAX steps");
    refused(&both, 5, NULL, 0, 0, TRNN_E_STEPS, "5 steps of 4 both ways");
    refused(&both, 0, NULL, 0, 0, TRNN_E_STEPS, "0 steps both ways");
    refused(&both, 4, beyond, 0, 0, TRNN_E_LENGTHS, "length 5 of 4 both ways");
    refused(&characters, 4, NULL, 2, 0, TRNN_E_ARGUMENT, "3 rows of a batch of 2");
    refused(&characters, 4, NULL, -3, 0, TRNN_E_ARGUMENT, "a batch of -3");
}

/* A part of a batch looks at its own indices, of every step, and at no other's. */
static void indices_of_a_part(void)
{
    enum { STEPS = 4, BATCH = 3 };
    static const model m = {"a part", {1, 2}, 1, {EMBEDDING(9, 5)}};
    weights w = weights_roll(&m);
    for (int32_t bad = 0; bad < STEPS * BATCH * 2; bad++) {
        net n = net_open(&m, &w, 1, 2);
        memory x = memory_floats(STEPS * BATCH * 2), y = memory_floats(STEPS * BATCH * n.out);
        memory scratch = memory_take(n.sizes.scratch_bytes + n.sizes.part_bytes);
        memset(x.at, 0, x.bytes);
        memcpy(x.at + bad, &(int32_t){9}, sizeof(int32_t));
        trnn_job job = net_job(&n, trnn_isa_best(), x.at + 2, y.at + n.out, STEPS, NULL);
        job.scratch = scratch.at;
        job.stride = BATCH;
        const int own = bad / 2 % BATCH == 1;
        check(trnn_run(net_plan(&n), &job) == (own ? TRNN_E_INDEX : TRNN_OK), "a bad index at %d", (int)bad);
        memory_release(&x);
        memory_release(&y);
        memory_release(&scratch);
        net_close(&n);
    }
    weights_release(&w);
}

/* Asked between blocks: writes an index that no table has, after the core has looked at all of them. */
typedef struct {
    float *index;
    int asked, stop_at;
} meddler;

static int meddle(void *context)
{
    meddler *m = context;
    const int32_t wild = INT32_MAX;
    if (m->index) memcpy(m->index, &wild, sizeof wild);
    return ++m->asked == m->stop_at;
}

/* An index that changes while a run is under way reads as a row of zeros; a poll that says so ends the run. */
static void changes_on_the_way(void)
{
    enum { STEPS = 7, BLOCK = 2, WIDTH = 5 };
    static const model m = {"changes on the way", {1, 1}, 1, {EMBEDDING(9, WIDTH)}};
    weights w = weights_roll(&m);
    net n = net_open(&m, &w, 1, BLOCK);
    memory x = memory_floats(STEPS), y = memory_floats(STEPS * WIDTH);
    memset(x.at, 0, x.bytes);
    for (size_t i = 0; i < STEPS * WIDTH; i++) y.at[i] = 77.0f;
    meddler meddling = {x.at + STEPS - 1, 0, 0};
    trnn_job job = net_job(&n, trnn_isa_best(), x.at, y.at, STEPS, NULL);
    job.poll = meddle;
    job.context = &meddling;
    check(trnn_run(net_plan(&n), &job) == TRNN_OK, "an index that changed is no error");
    check(meddling.asked == (STEPS - 1) / BLOCK, "asked %d times", meddling.asked);
    for (size_t i = 0; i < WIDTH; i++) check(y.at[(STEPS - 1) * WIDTH + i] == 0.0f, "no row of zeros");

    for (size_t i = 0; i < STEPS * WIDTH; i++) y.at[i] = 77.0f;
    memset(x.at, 0, x.bytes);
    meddling = (meddler){NULL, 0, 2};
    check(trnn_run(net_plan(&n), &job) == TRNN_E_INTERRUPTED, "the run went on");
    for (size_t i = 0; i < STEPS * WIDTH; i++)
        check((y.at[i] == 77.0f) == (i >= 2 * BLOCK * WIDTH), "number %d of an ended run", (int)i);
    memory_release(&x);
    memory_release(&y);
    net_close(&n);
    weights_release(&w);
}

/* Nets that do not fit together. */
static void bad_nets(void)
{
    static const struct {
        model model;
        int32_t batch, steps;
        trnn_status wanted;
    } nets[] = {
        /* clang-format off: a table, a net a line */
        {{"linear of 6 reads 5", {1, 5}, 1, {LINEAR(6, 2, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"lstm reads 2 rows", {2, 5}, 1, {RECURRENT(lstm, 5, 3)}}, 1, 1, TRNN_E_SHAPE},
        {{"gru of 6 reads 7", {1, 5}, 2, {LINEAR(5, 7, 1), RECURRENT(gru, 6, 3)}}, 1, 1, TRNN_E_SHAPE},
        {{"conv1d of 2 channels reads 3", {3, 5}, 1, {CONV1D(2, 2, 3, 1, 1, 1, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"conv1d longer than its input", {2, 4}, 1, {CONV1D(2, 2, 3, 1, 2, 1, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"reflection as long as the input",
          {1, 4},
          1,
          {CONV1D(1, 2, 3, 1, 1, 1, 1, 4, 0, TRNN_PAD_REFLECT)}},
         1,
         1,
         TRNN_E_SHAPE},
        {{"conv2d of 2 channels reads 3", {5, 5, 3}, 1, {CONV2D(2, 2, 3, 1, 1, 1, 1, 0, 0, 0, 3, 1, 1)}},
         1,
         1,
         TRNN_E_SHAPE},
        {{"conv2d higher than its input", {2, 5, 2}, 1, {CONV2D(2, 2, 3, 1, 1, 1, 1, 0, 0, 0, 3, 1, 1)}},
         1,
         1,
         TRNN_E_SHAPE},
        {{"conv2d without rows", {5, 5, 2}, 1, {CONV2D(2, 2, 3, 1, 1, 1, 1)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"conv1d with rows", {2, 5}, 1, {CONV1D(2, 2, 3, 1, 1, 1, 1, 0, 0, 0, 3, 1, 1)}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"transposed to nothing", {2, 1}, 1, {TRANSPOSED(2, 2, 3, 1, 1, 1, 1, 2)}}, 1, 1, TRNN_E_SHAPE},
        {{"transposed, padded by a stride", {2, 4}, 1, {TRANSPOSED(2, 2, 3, 2, 1, 1, 1, 0, 2)}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"max pool of nothing", {2, 2}, 1, {POOL(max_pool, 1, 1, 0, 1, 3, 1, 0, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"max pool with much padding", {2, 9}, 1, {POOL(max_pool, 1, 1, 0, 1, 3, 1, 2, 1)}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"avg pool, dilated", {2, 9}, 1, {POOL(avg_pool, 1, 1, 0, 1, 3, 1, 0, 2)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"group norm of 4 in 3", {4, 5}, 1, {NORM(group_norm, 4, 1, 1, .groups = 3)}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"group norm of 4 reads 5", {5, 5}, 1, {NORM(group_norm, 4, 1, 1, .groups = 2)}},
         1,
         1,
         TRNN_E_SHAPE},
        {{"layer norm of 3", {3, 5}, 1, {NORM(layer_norm, 3, 1, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"batch norm of 5", {3, 5}, 1, {NORM(batch_norm, 5, 1, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"embedding reads 2 rows", {2, 5}, 1, {EMBEDDING(5, 2)}}, 1, 1, TRNN_E_SHAPE},
        {{"embedding in the middle", {1, 5}, 2, {PLAIN(relu), EMBEDDING(5, 2)}}, 1, 1, TRNN_E_SHAPE},

        {{"no layers", {1, 5}, 0, {PLAIN(relu)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"an empty frame", {0, 5}, 1, {PLAIN(relu)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"an empty batch", {1, 5}, 1, {PLAIN(relu)}}, 0, 1, TRNN_E_ARGUMENT},
        {{"no steps", {1, 5}, 1, {PLAIN(relu)}}, 1, 0, TRNN_E_ARGUMENT},
        {{"a kind that is none", {1, 5}, 1, {{.type = NULL}}}, 1, 1, TRNN_E_ARGUMENT},
        {{"projected to its own size", {1, 5}, 1, {RECURRENT(lstm, 5, 3, .proj_size = 3)}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"a projected gru", {1, 5}, 1, {RECURRENT(gru, 5, 3, .proj_size = 2)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"a relu lstm", {1, 5}, 1, {RECURRENT(lstm, 5, 3, .relu = 1)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"a flag of 2", {1, 5}, 1, {LINEAR(5, 3, 2)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"groups that do not divide", {6, 5}, 1, {CONV1D(6, 6, 3, 1, 1, 4, 1)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"a bias without a weight", {1, 5}, 1, {NORM(layer_norm, 5, 0, 1)}}, 1, 1, TRNN_E_ARGUMENT},

        {{"gates beyond an int32", {1, 1 << 20}, 1, {RECURRENT(lstm, 1 << 20, 1 << 26)}}, 1, 1, TRNN_E_SIZE},
        {{"a flat frame beyond an int32", {1 << 14, 1 << 15}, 1, {PLAIN(flatten)}}, 1, 1, TRNN_E_SIZE},
        {{"2^30 rows", {1 << 10, 3}, 1, {LINEAR(3, 2, 1)}}, 1 << 10, 1 << 10, TRNN_E_SIZE},
        /* clang-format on */
    };
    const trnn_net two = {.count = 2, .inputs = 1};
    memory plan = memory_take(trnn_plan_bytes(&two));
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        trnn_sizes before, after;
        memset(&before, 0x5a, sizeof before);
        after = before;
        const model *m = &nets[i].model;
        const trnn_net net = model_net(m);
        const trnn_status status = trnn_plan_init(plan.at, &net, nets[i].batch, &nets[i].steps, &after);
        check(status == nets[i].wanted, "%s: %s", m->name, trnn_status_text(status));
        check(memcmp(&before, &after, sizeof after) == 0, "%s: sizes were written", m->name);
    }
    memory_release(&plan);
}

/* Plans and states are plain bytes: copied elsewhere they go on as before. */
static void copies(void)
{
    model m;
    for (int32_t i = 0; model_get(i, &m) && strcmp(m.name, "characters") != 0; i++) continue;
    weights w = weights_roll(&m);
    net n = net_open(&m, &w, 2, 3), other = net_open(&m, &w, 2, 3);
    memory x = net_input(&n, "copies", 12), y = memory_floats(12 * n.out), again = memory_floats(12 * n.out);
    net_run(&n, trnn_isa_best(), x.at, y.at, 6, NULL);
    memset(other.plan.at, 0, other.plan.bytes);
    memcpy(other.plan.at, n.plan.at, n.plan.bytes);
    memcpy(other.state.at, n.state.at, n.state.bytes);
    net_run(&n, trnn_isa_best(), x.at, y.at, 6, NULL);
    net_run(&other, trnn_isa_best(), x.at, again.at, 6, NULL);
    check(same_bits(y.at, again.at, 12 * n.out), "a copied stream goes another way");
    memory_release(&x);
    memory_release(&y);
    memory_release(&again);
    net_close(&n);
    net_close(&other);
    weights_release(&w);
}

void test_calls(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {
        {"names of statuses, kinds, instruction sets", names},
        {"lists of arguments cover their structs", arguments},
        {"live arguments of a plan", adjusting},
        {"weights in and out, lossless", all_packing},
        {"embeddings give their numbers", all_embeddings},
        {"formats that a layer may have", formats},
        {"sizes", all_sane_sizes},
        {"absurd sizes", absurd_sizes},
        {"bad calls write nothing", bad_calls},
        {"indices of a part of a batch", indices_of_a_part},
        {"what changes on the way, and a run that ends early", changes_on_the_way},
        {"nets that do not fit together", bad_nets},
        {"copies of plan and state", copies},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        check_group(groups[i].name);
        groups[i].run();
    }
}
