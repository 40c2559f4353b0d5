/* One-dimensional convolution over frames of (channels, length). As torch.nn.Conv1d.
 *
 * A frame is unrolled to (output length, in_channels / groups * kernel_size), multiplied, and turned
 * back to (channels, length). So a result is one chain over input channel, then tap, padding included.
 */
#include "layer.h"

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
    if (in.rows != a->in_channels) return TRNN_E_SHAPE;
    const int64_t left = a->pad_left, right = a->pad_right;
    if (a->padding_mode == TRNN_PAD_REFLECT && (left >= in.cols || right >= in.cols)) return TRNN_E_SHAPE;
    const int64_t span = (int64_t)a->dilation * (a->kernel_size - 1) + 1;
    const int64_t padded = in.cols + left + right;
    if (padded < span) return TRNN_E_SHAPE;
    const int64_t length = (padded - span) / a->stride + 1;
    if (length > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){a->out_channels, (int32_t)length};
    return TRNN_OK;
}

/* Numbers that one output is a sum of. */
static size_t conv1d_depth(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    return trnn_times((size_t)(a->in_channels / a->groups), (size_t)a->kernel_size);
}

static int32_t conv1d_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t groups = a->groups, units = a->out_channels / groups;
    const size_t depth = conv1d_depth(layer);
    params[0] = trnn_param_panels("weight", layer->format, 1, units, (int32_t)depth);
    params[0].rank = 3;
    params[0].shape[0] = a->out_channels;
    params[0].shape[1] = a->in_channels / groups;
    params[0].shape[2] = a->kernel_size;
    params[0].repeat = groups;
    params[1] = a->bias ? trnn_param_bias("bias", 1, units) : trnn_param_absent();
    params[1].shape[0] = a->out_channels;
    params[1].repeat = groups;
    return 2;
}

typedef struct {
    float *unrolled; /* (length, depth) */
    float *product;  /* (length, out_channels / groups) */
    void *own;       /* the product's */
} conv1d_scratch;

static conv1d_scratch conv1d_place(const trnn_layer *layer, trnn_frame out, trnn_cursor *cursor)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const size_t units = (size_t)(a->out_channels / a->groups);
    conv1d_scratch scratch;
    scratch.unrolled = trnn_take(cursor, trnn_times((size_t)out.cols, conv1d_depth(layer)));
    scratch.product = trnn_take(cursor, trnn_times((size_t)out.cols, units));
    scratch.own =
        trnn_take_bytes(cursor, trnn_product_scratch(layer->format, out.cols, (int32_t)conv1d_depth(layer)));
    return scratch;
}

static size_t conv1d_scratch_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                   int32_t steps)
{
    (void)in, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    conv1d_place(layer, out, &cursor);
    return cursor.bytes;
}

/* Where position `at` of a channel is read, in the padding too; -1: nowhere, it is 0. */
static int64_t read_at(const trnn_layer *layer, int64_t at, int32_t length)
{
    if (at >= 0 && at < length) return at;
    if (layer->as.conv1d.padding_mode == TRNN_PAD_ZEROS) return -1;
    return at < 0 ? -at : 2 * ((int64_t)length - 1) - at;
}

/* One group of channels of one frame: row l holds what output l is a sum of. */
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

static void conv1d_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t groups = a->groups, units = a->out_channels / groups;
    const size_t depth = conv1d_depth(layer), length = (size_t)call->out.cols;
    const size_t padded = (size_t)trnn_ceil(units, TRNN_PANEL) * TRNN_PANEL;
    const size_t bytes = trnn_group_bytes(layer->format, 1, (int32_t)depth) * (padded / TRNN_PANEL);
    const size_t in = (size_t)(a->in_channels / groups) * (size_t)call->in.cols;
    trnn_cursor cursor = {call->scratch, 0};
    const conv1d_scratch scratch = conv1d_place(layer, call->out, &cursor);

    const float *x = call->x;
    float *y = call->y;
    for (int64_t n = (int64_t)call->steps * call->batch * groups, i = 0; i < n; i++, x += in) {
        const size_t group = (size_t)(i % groups);
        unroll(layer, x, call->in, call->out, scratch.unrolled);
        const trnn_matrix matrix = trnn_matrix_of((const char *)call->weights[0] + group * bytes,
                                                  layer->format, 1, units, (int32_t)depth);
        const float *bias = call->weights[1];
        const trnn_product product =
            trnn_product_of(matrix, call->out.cols, units, bias ? bias + group * padded : NULL,
                            scratch.unrolled, scratch.product, scratch.own);
        call->isa->product(&product);
        for (size_t unit = 0; unit < (size_t)units; unit++, y += length)
            for (size_t l = 0; l < length; l++) y[l] = scratch.product[l * (size_t)units + unit];
    }
}

/* ---- training: each group's transposed matrix on the tape ------------------------------------------ */

/* What one group of channels is to a frame. */
typedef struct {
    trnn_matrix matrix;
    size_t weight, bias; /* floats, into the tensors and their gradients */
    size_t turned;       /* floats, into the tape */
    size_t x, y;         /* numbers of its channels in a frame */
} conv1d_group;

static conv1d_group conv1d_group_of(const trnn_pass *pass, int32_t group)
{
    const trnn_conv1d_args *a = &pass->layer->as.conv1d;
    const int32_t units = a->out_channels / a->groups, depth = (int32_t)conv1d_depth(pass->layer);
    conv1d_group me;
    me.bias = (size_t)group * (size_t)trnn_ceil(units, TRNN_PANEL) * TRNN_PANEL;
    me.weight = me.bias * (size_t)depth;
    me.matrix = trnn_matrix_of(pass->weights[0] + me.weight, TRNN_F32, 1, units, depth);
    me.turned = (size_t)group * trnn_turned_size(units, depth);
    me.x = (size_t)(a->in_channels / a->groups) * (size_t)pass->in.cols;
    me.y = (size_t)units * (size_t)pass->out.cols;
    return me;
}

static size_t conv1d_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                          int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const size_t turned = trnn_turned_size(a->out_channels / a->groups, (int32_t)conv1d_depth(layer));
    return trnn_times(trnn_times(turned, (size_t)a->groups), sizeof(float));
}

static void conv1d_turn(const trnn_pass *pass)
{
    const trnn_conv1d_args *a = &pass->layer->as.conv1d;
    for (int32_t group = 0; pass->dx && group < a->groups; group++) {
        const conv1d_group me = conv1d_group_of(pass, group);
        trnn_turn(me.matrix, a->out_channels / a->groups, (float *)pass->tape + me.turned, pass->part,
                  pass->parts);
    }
}

/* dy of a group (units, length) as rows of what the product wrote: (length, units). */
static void turn_frame(const float *dy, size_t units, size_t length, float *rows)
{
    for (size_t unit = 0; unit < units; unit++)
        for (size_t l = 0; l < length; l++) rows[l * units + unit] = dy[unit * length + l];
}

/* dx += what unrolling took from each place. */
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
    const trnn_conv1d_args *a = &pass->layer->as.conv1d;
    const int32_t units = a->out_channels / a->groups, depth = (int32_t)conv1d_depth(pass->layer);
    trnn_cursor cursor = {pass->scratch, 0};
    const conv1d_scratch scratch = conv1d_place(pass->layer, pass->out, &cursor);
    if (!pass->dx) return;

    const float *dy = pass->dy;
    float *dx = pass->dx;
    for (int64_t n = (int64_t)pass->rows * a->groups, i = 0; i < n; i++) {
        const conv1d_group me = conv1d_group_of(pass, (int32_t)(i % a->groups));
        const trnn_matrix turned = trnn_turned_matrix((float *)pass->tape + me.turned, units, depth);
        turn_frame(dy, (size_t)units, (size_t)pass->out.cols, scratch.product);
        const trnn_product product =
            trnn_product_of(turned, pass->out.cols, depth, NULL, scratch.product, scratch.unrolled, NULL);
        pass->isa->product(&product);
        trnn_zero(dx, me.x * sizeof(float));
        fold(pass->layer, scratch.unrolled, pass->in, pass->out, dx);
        dy += me.y;
        dx += me.x;
    }
}

static void conv1d_gradients(const trnn_pass *pass)
{
    const trnn_conv1d_args *a = &pass->layer->as.conv1d;
    const int32_t units = a->out_channels / a->groups;
    trnn_cursor cursor = {pass->scratch, 0};
    const conv1d_scratch scratch = conv1d_place(pass->layer, pass->out, &cursor);

    const float *x = pass->x, *dy = pass->dy;
    for (int64_t n = (int64_t)pass->rows * a->groups, i = 0; i < n; i++) {
        const conv1d_group me = conv1d_group_of(pass, (int32_t)(i % a->groups));
        unroll(pass->layer, x, pass->in, pass->out, scratch.unrolled);
        turn_frame(dy, (size_t)units, (size_t)pass->out.cols, scratch.product);
        const trnn_outer outer =
            trnn_outer_of(pass, me.matrix, pass->out.cols, units, scratch.product, scratch.unrolled,
                          pass->grads[0] + me.weight, pass->grads[1] ? pass->grads[1] + me.bias : NULL);
        pass->isa->outer(&outer);
        x += me.x;
        dy += me.y;
    }
}

const trnn_layer_type trnn_conv1d = {
    .name = "conv1d",
    .check = conv1d_check,
    .frame = conv1d_frame,
    .params = conv1d_params,
    .scratch = conv1d_scratch_bytes,
    .run = conv1d_run,
    .tape = conv1d_tape,
    .turn = conv1d_turn,
    .backward = conv1d_backward,
    .gradients = conv1d_gradients,
};
