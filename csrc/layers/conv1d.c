/* One-dimensional convolution over frames of (channels, length). As torch.nn.Conv1d.
 *
 * A frame is unrolled to (output length, in_channels / groups * kernel_size), multiplied, and transposed to
 * (channels, length). So an output is one chain over input channels, then kernel positions, padding included.
 *
 * Each group of channels is a matrix of its own, in panels. Panels of small groups, as in a depthwise convolution,
 * would be mostly padding. If there are several groups with fewer rows than a panel, the weights are kept by rows, and
 * each group is copied to a panel when it is needed.
 */
#include "training.h"

const trnn_argument trnn_conv1d_arguments[] = {
    TRNN_INT_OF(conv1d, in_channels),
    TRNN_INT_OF(conv1d, out_channels),
    TRNN_INT_OF(conv1d, kernel_size),
    TRNN_INT_OF(conv1d, stride),
    TRNN_INT_OF(conv1d, dilation),
    TRNN_INT_OF(conv1d, groups),
    TRNN_INT_OF(conv1d, bias),
    TRNN_INT_OF(conv1d, pad_left),
    TRNN_INT_OF(conv1d, pad_right),
    TRNN_INT_OF(conv1d, padding_mode),
    TRNN_END_OF(conv1d),
};

static trnn_status conv1d_check(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t sizes[] = {a->in_channels, a->out_channels, a->kernel_size,
                             a->stride,      a->dilation,     a->groups};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!trnn_is_size(sizes[i])) return TRNN_E_ARGUMENT;
    if (a->in_channels % a->groups) return TRNN_E_ARGUMENT;
    if (a->out_channels % a->groups) return TRNN_E_ARGUMENT;
    if (a->pad_left < 0 || a->pad_left > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    if (a->pad_right < 0 || a->pad_right > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    if (a->padding_mode != TRNN_PAD_ZEROS && a->padding_mode != TRNN_PAD_REFLECT) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->bias)) return TRNN_E_ARGUMENT;
    const int64_t depth = (int64_t)(a->in_channels / a->groups) * a->kernel_size;
    return trnn_is_depth(layer->format, depth) ? TRNN_OK : TRNN_E_SIZE;
}

static trnn_status conv1d_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (in.planes != 1 || in.rows != a->in_channels) return TRNN_E_SHAPE;
    const int64_t left = a->pad_left, right = a->pad_right;
    if (a->padding_mode == TRNN_PAD_REFLECT && (left >= in.cols || right >= in.cols)) return TRNN_E_SHAPE;
    const int64_t span = (int64_t)a->dilation * (a->kernel_size - 1) + 1;
    const int64_t padded = in.cols + left + right;
    if (padded < span) return TRNN_E_SHAPE;
    const int64_t length = (padded - span) / a->stride + 1;
    if (length > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){1, a->out_channels, (int32_t)length};
    return TRNN_OK;
}

/* Products that an output sums. */
static size_t conv1d_depth(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    return trnn_times((size_t)(a->in_channels / a->groups), (size_t)a->kernel_size);
}

/* Output channels of a group. */
static int32_t conv1d_units(const trnn_layer *layer)
{
    return layer->as.conv1d.out_channels / layer->as.conv1d.groups;
}

/* Are the weights kept by rows? */
static int conv1d_by_rows(const trnn_layer *layer)
{
    return layer->as.conv1d.groups > 1 && conv1d_units(layer) < TRNN_PANEL;
}

static int32_t conv1d_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t groups = a->groups, units = conv1d_units(layer), depth = (int32_t)conv1d_depth(layer);
    if (conv1d_by_rows(layer)) {
        params[0] = trnn_param_table("weight", layer->format, 3, a->out_channels, depth);
        params[1] = trnn_param_vector("bias", a->out_channels);
    } else {
        params[0] = trnn_param_panels("weight", layer->format, 1, units, depth);
        params[1] = trnn_param_bias("bias", 1, units);
        params[0].repeat = params[1].repeat = groups;
    }
    params[0].rank = 3;
    params[0].shape[0] = params[1].shape[0] = a->out_channels;
    params[0].shape[1] = a->in_channels / groups;
    params[0].shape[2] = a->kernel_size;
    if (!a->bias) params[1] = trnn_param_absent();
    return 2;
}

typedef struct {
    int32_t units, depth; /* of a group's matrix: computed once, because divisions are slow */
    int by_rows;
    float *unrolled; /* (length, depth) */
    float *product;  /* (length, out_channels / groups) */
    void *own;       /* scratch of the product */

    /* For weights that are kept by rows: */
    void *panel;   /* one group's matrix, or its gradient */
    void *numbers; /* (units, depth) numbers or codes, between rows and panel */
    float *scales; /* of the codes, as in trnn_param_pack */
    float *bias;   /* (16,) */
} conv1d_scratch;

static conv1d_scratch conv1d_place(const trnn_layer *layer, trnn_frame out, trnn_cursor *cursor)
{
    const int32_t units = conv1d_units(layer), depth = (int32_t)conv1d_depth(layer);
    const int by_rows = conv1d_by_rows(layer);
    const size_t length = (size_t)out.cols;
    const size_t numbers = trnn_times(by_rows ? (size_t)units : 0, (size_t)depth); /* and as many scales */
    conv1d_scratch scratch = {.units = units, .depth = depth, .by_rows = by_rows};
    scratch.unrolled = trnn_take(cursor, trnn_times(length, (size_t)depth));
    scratch.product = trnn_take(cursor, trnn_times(length, (size_t)units));
    scratch.own = trnn_take_bytes(cursor, trnn_product_scratch(layer->format, out.cols, depth));
    scratch.panel = trnn_take_bytes(cursor, by_rows ? trnn_group_bytes(layer->format, 1, depth) : 0);
    scratch.numbers = trnn_take(cursor, numbers);
    scratch.scales = trnn_take(cursor, numbers);
    scratch.bias = trnn_take(cursor, by_rows ? TRNN_PANEL : 0);
    return scratch;
}

/* Lays out the scratch of one call, and sets the padding of the panel to zero. */
static conv1d_scratch conv1d_open(const trnn_layer *layer, trnn_frame out, void *memory)
{
    trnn_cursor cursor = {memory, 0};
    const conv1d_scratch scratch = conv1d_place(layer, out, &cursor);
    if (scratch.by_rows) {
        trnn_zero(scratch.panel, trnn_group_bytes(layer->format, 1, scratch.depth));
        trnn_zero(scratch.bias, TRNN_PANEL * sizeof(float));
    }
    return scratch;
}

/* ---- a group's matrix ------------------------------------------------------------------------------ */

/* Copies a group from the rows of all groups to the panel. */
static void conv1d_to_panel(const trnn_layer *layer, size_t group, const void *rows,
                            const conv1d_scratch *scratch)
{
    const size_t units = (size_t)scratch->units, depth = (size_t)scratch->depth;
    if (layer->format == TRNN_F32) {
        const float *const first = (const float *)rows + group * units * depth;
        float *const panel = scratch->panel;
        for (size_t unit = 0; unit < units; unit++)
            for (size_t k = 0; k < depth; k++) panel[k * TRNN_PANEL + unit] = first[unit * depth + k];
        return;
    }
    trnn_param by_rows = trnn_param_table("weight", layer->format, 2, scratch->units, scratch->depth);
    const trnn_param in_panel = trnn_param_panels("weight", layer->format, 1, scratch->units, scratch->depth);
    by_rows.offset = group * trnn_param_bytes(&by_rows);
    trnn_param_unpack(&by_rows, rows, scratch->numbers, scratch->scales);
    trnn_param_pack(&in_panel, scratch->panel, scratch->numbers, scratch->scales);
}

/* Copies a float32 group from the panel to the rows of all groups. */
static void conv1d_from_panel(size_t group, float *rows, const conv1d_scratch *scratch)
{
    const size_t units = (size_t)scratch->units, depth = (size_t)scratch->depth;
    float *const first = rows + group * units * depth;
    const float *const panel = scratch->panel;
    for (size_t unit = 0; unit < units; unit++)
        for (size_t k = 0; k < depth; k++) first[unit * depth + k] = panel[k * TRNN_PANEL + unit];
}

/* A group's bias, padded with zeros to a panel. */
static float *conv1d_widen_bias(size_t group, const float *bias, const conv1d_scratch *scratch)
{
    const size_t units = (size_t)scratch->units;
    if (!bias) return NULL;
    trnn_copy(scratch->bias, bias + group * units, units * sizeof(float));
    return scratch->bias;
}

typedef struct {
    trnn_matrix matrix;
    const float *bias; /* 16 numbers for each panel, or NULL */
} conv1d_group;

/* A group's matrix and bias; `weights` and `bias` are those of all groups. Valid until the scratch is used again. */
static conv1d_group conv1d_group_of(const trnn_layer *layer, size_t group, const void *weights,
                                    const float *bias, const conv1d_scratch *scratch)
{
    const int32_t units = scratch->units, depth = scratch->depth;
    const size_t panels = (size_t)trnn_ceil(units, TRNN_PANEL);
    if (scratch->by_rows) {
        conv1d_to_panel(layer, group, weights, scratch);
        weights = scratch->panel;
        bias = conv1d_widen_bias(group, bias, scratch);
    } else {
        weights = (const char *)weights + group * panels * trnn_group_bytes(layer->format, 1, depth);
        if (bias) bias += group * panels * TRNN_PANEL;
    }
    return (conv1d_group){trnn_matrix_of(weights, layer->format, 1, units, depth), bias};
}

static size_t conv1d_scratch_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                   int32_t steps)
{
    (void)in, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    conv1d_place(layer, out, &cursor);
    return cursor.bytes;
}

/* The position that is read for position `at` of a padded channel; -1: none, the number is 0. */
static int64_t read_at(const trnn_layer *layer, int64_t at, int32_t length)
{
    if (at >= 0 && at < length) return at;
    if (layer->as.conv1d.padding_mode == TRNN_PAD_ZEROS) return -1;
    return at < 0 ? -at : 2 * ((int64_t)length - 1) - at;
}

/* Unrolls a group of channels of one frame: row l has the numbers that output l multiplies. */
static void unroll(const trnn_layer *layer, const float *x, trnn_frame in, trnn_frame out, float *rows)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t channels = a->in_channels / a->groups;
    const int32_t taps = a->kernel_size, dilation = a->dilation;
    for (int32_t l = 0; l < out.cols; l++) {
        const int64_t first = (int64_t)l * a->stride - a->pad_left;
        const int inside = first >= 0 && first + (int64_t)dilation * (taps - 1) < in.cols;
        for (int32_t channel = 0; channel < channels; channel++, rows += taps) {
            const float *from = x + (size_t)channel * (size_t)in.cols;
            if (inside && dilation == 1)
                trnn_copy(rows, from + first, (size_t)taps * sizeof(float));
            else
                for (int32_t tap = 0; tap < taps; tap++) {
                    const int64_t at = read_at(layer, first + (int64_t)tap * dilation, in.cols);
                    rows[tap] = at < 0 ? 0.0f : from[at];
                }
        }
    }
}

/* Numbers of one group's channels in a frame. */
static size_t conv1d_numbers(const trnn_layer *layer, trnn_frame frame)
{
    return (size_t)(frame.rows / layer->as.conv1d.groups) * (size_t)frame.cols;
}

static void conv1d_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    const size_t length = (size_t)call->out.cols, frames = (size_t)call->steps * (size_t)call->batch;
    const size_t in = conv1d_numbers(layer, call->in), out = conv1d_numbers(layer, call->out);
    const size_t groups = (size_t)layer->as.conv1d.groups;
    const conv1d_scratch scratch = conv1d_open(layer, call->out, call->scratch);
    const int32_t units = scratch.units;

    for (size_t group = 0; group < groups; group++) {
        const conv1d_group me = conv1d_group_of(layer, group, call->weights[0], call->weights[1], &scratch);
        for (size_t n = 0; n < frames; n++) {
            const float *x = (const float *)call->x + (n * groups + group) * in;
            float *y = call->y + (n * groups + group) * out;
            unroll(layer, x, call->in, call->out, scratch.unrolled);
            const trnn_product product = trnn_product_of(me.matrix, call->out.cols, units, me.bias,
                                                         scratch.unrolled, scratch.product, scratch.own);
            TRNN_KERNEL(call->isa, product)(&product);
            for (size_t unit = 0; unit < (size_t)units; unit++, y += length)
                for (size_t l = 0; l < length; l++) y[l] = scratch.product[l * (size_t)units + unit];
        }
    }
}

/* ---- training: each group's transposed matrix on the tape ------------------------------------------ */

/* A group's transposed matrix on the tape. */
static float *conv1d_transposed(const trnn_pass *pass, size_t group)
{
    const size_t size = trnn_transposed_size(conv1d_units(pass->layer), (int32_t)conv1d_depth(pass->layer));
    return (float *)pass->tape + group * size;
}

static size_t conv1d_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                          int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const size_t transposed = trnn_transposed_size(a->out_channels / a->groups, (int32_t)conv1d_depth(layer));
    return trnn_times(trnn_times(transposed, (size_t)a->groups), sizeof(float));
}

static void conv1d_transpose(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const conv1d_scratch scratch = conv1d_open(layer, pass->out, pass->scratch);
    for (size_t group = 0; pass->dx && group < (size_t)layer->as.conv1d.groups; group++) {
        const conv1d_group me = conv1d_group_of(layer, group, pass->weights[0], NULL, &scratch);
        trnn_transpose(me.matrix, conv1d_units(layer), conv1d_transposed(pass, group), pass->part,
                       pass->parts);
    }
}

/* Transposes a group's dy (units, length) to the layout of the product: (length, units). */
static void transpose_frame(const float *dy, size_t units, size_t length, float *rows)
{
    for (size_t unit = 0; unit < units; unit++)
        for (size_t l = 0; l < length; l++) rows[l * units + unit] = dy[unit * length + l];
}

/* The reverse of unroll: adds each number to the position that it was read from. */
static void fold(const trnn_layer *layer, const float *rows, trnn_frame in, trnn_frame out, float *dx)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t channels = a->in_channels / a->groups;
    for (int32_t l = 0; l < out.cols; l++) {
        const int64_t first = (int64_t)l * a->stride - a->pad_left;
        for (int32_t channel = 0; channel < channels; channel++)
            for (int32_t tap = 0; tap < a->kernel_size; tap++, rows++) {
                const int64_t at = read_at(layer, first + (int64_t)tap * a->dilation, in.cols);
                if (at >= 0) dx[(size_t)channel * (size_t)in.cols + (size_t)at] += *rows;
            }
    }
}

static void conv1d_backward(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const size_t groups = (size_t)layer->as.conv1d.groups;
    const int32_t units = conv1d_units(layer), depth = (int32_t)conv1d_depth(layer);
    const size_t in = conv1d_numbers(layer, pass->in), out = conv1d_numbers(layer, pass->out);
    const conv1d_scratch scratch = conv1d_open(layer, pass->out, pass->scratch);
    if (!pass->dx) return;

    const float *dy = pass->dy;
    float *dx = pass->dx;
    for (size_t n = (size_t)pass->rows * groups, i = 0; i < n; i++, dy += out, dx += in) {
        const trnn_matrix transposed =
            trnn_transposed_matrix(conv1d_transposed(pass, i % groups), units, depth);
        transpose_frame(dy, (size_t)units, (size_t)pass->out.cols, scratch.product);
        const trnn_product product =
            trnn_product_of(transposed, pass->out.cols, depth, NULL, scratch.product, scratch.unrolled, NULL);
        TRNN_KERNEL(pass->isa, product)(&product);
        trnn_zero(dx, in * sizeof(float));
        fold(layer, scratch.unrolled, pass->in, pass->out, dx);
    }
}

/* Adds one group's gradients, over all frames, to dw and db, which are in panels. */
static void conv1d_add(const trnn_pass *pass, size_t group, trnn_matrix matrix, const conv1d_scratch *scratch,
                       float *dw, float *db)
{
    const trnn_layer *layer = pass->layer;
    const size_t groups = (size_t)layer->as.conv1d.groups;
    const size_t in = conv1d_numbers(layer, pass->in), out = conv1d_numbers(layer, pass->out);
    const int32_t units = scratch->units;
    for (size_t n = 0; n < (size_t)pass->rows; n++) {
        const float *x = (const float *)pass->x + (n * groups + group) * in;
        const float *dy = pass->dy + (n * groups + group) * out;
        unroll(layer, x, pass->in, pass->out, scratch->unrolled);
        transpose_frame(dy, (size_t)units, (size_t)pass->out.cols, scratch->product);
        const trnn_weight_gradient gradient = trnn_weight_gradient_of(
            pass, matrix, pass->out.cols, units, scratch->product, scratch->unrolled, dw, db);
        TRNN_KERNEL(pass->isa, weight_gradient)(&gradient);
    }
}

static void conv1d_gradients(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const int32_t units = conv1d_units(layer), depth = (int32_t)conv1d_depth(layer);
    const size_t padded = (size_t)trnn_ceil(units, TRNN_PANEL) * TRNN_PANEL;
    const conv1d_scratch scratch = conv1d_open(layer, pass->out, pass->scratch);
    const trnn_matrix matrix = trnn_matrix_of(NULL, TRNN_F32, 1, units, depth);
    float *const dw = pass->grads[0], *const db = pass->grads[1];

    for (size_t group = 0; group < (size_t)layer->as.conv1d.groups; group++) {
        if (!scratch.by_rows) {
            conv1d_add(pass, group, matrix, &scratch, dw + group * padded * (size_t)depth,
                       db ? db + group * padded : NULL);
            continue;
        }
        if (group % (size_t)pass->parts != (size_t)pass->part) continue;
        trnn_pass alone = *pass; /* each part does some of the groups completely */
        alone.part = 0;
        alone.parts = 1;
        conv1d_to_panel(layer, group, dw, &scratch);
        float *const bias = conv1d_widen_bias(group, db, &scratch);
        conv1d_add(&alone, group, matrix, &scratch, scratch.panel, bias);
        conv1d_from_panel(group, dw, &scratch);
        if (bias) trnn_copy(db + group * (size_t)units, bias, (size_t)units * sizeof(float));
    }
}

const trnn_layer_type trnn_conv1d = {
    .name = "conv1d",
    .check = conv1d_check,
    .frame = conv1d_frame,
    .params = conv1d_params,
    .scratch = conv1d_scratch_bytes,
    .run = conv1d_run,
};

const trnn_layer_training trnn_conv1d_training = {
    .tape = conv1d_tape,
    .transpose = conv1d_transpose,
    .backward = conv1d_backward,
    .gradients = conv1d_gradients,
};
