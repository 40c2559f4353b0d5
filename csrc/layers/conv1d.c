/* One-dimensional convolution over frames of (channels, length). As torch.nn.Conv1d.
 *
 * A frame is unrolled to (output length, in_channels / groups * kernel_size), multiplied, and transposed to
 * (channels, length). So an output is one chain over input channels, then kernel positions, padding included.
 */
#include "conv.h"

static trnn_status conv1d_check(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (a->pad_left < 0 || a->pad_left > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    if (a->pad_right < 0 || a->pad_right > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    if (a->padding_mode != TRNN_PAD_ZEROS && a->padding_mode != TRNN_PAD_REFLECT) return TRNN_E_ARGUMENT;
    return trnn_conv_check(layer);
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

static size_t conv1d_scratch_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                   int32_t steps)
{
    (void)in, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    trnn_conv_place(layer, out.cols, 1, &cursor);
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
    const trnn_conv_scratch scratch = trnn_conv_open(layer, call->out.cols, 1, call->scratch);
    const int32_t units = scratch.units;

    for (size_t group = 0; group < groups; group++) {
        const trnn_conv_group me =
            trnn_conv_group_of(layer, group, call->weights[0], call->weights[1], &scratch);
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

static size_t conv1d_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                          int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    return trnn_times(trnn_conv_transposed_size(layer), sizeof(float));
}

static void conv1d_transpose(const trnn_pass *pass)
{
    const trnn_conv_scratch scratch = trnn_conv_open(pass->layer, pass->out.cols, 1, pass->scratch);
    trnn_conv_transpose(pass, &scratch, pass->tape);
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
    const int32_t units = trnn_conv_units(layer), depth = (int32_t)trnn_conv_depth(layer);
    const size_t in = conv1d_numbers(layer, pass->in), out = conv1d_numbers(layer, pass->out);
    const trnn_conv_scratch scratch = trnn_conv_open(layer, pass->out.cols, 1, pass->scratch);
    if (!pass->dx) return;

    const float *dy = pass->dy;
    float *dx = pass->dx;
    for (size_t n = (size_t)pass->rows * groups, i = 0; i < n; i++, dy += out, dx += in) {
        const trnn_matrix transposed = trnn_conv_transposed(layer, pass->tape, i % groups);
        transpose_frame(dy, (size_t)units, (size_t)pass->out.cols, scratch.product);
        const trnn_product product =
            trnn_product_of(transposed, pass->out.cols, depth, NULL, scratch.product, scratch.unrolled, NULL);
        TRNN_KERNEL(pass->isa, product)(&product);
        trnn_zero(dx, in * sizeof(float));
        fold(layer, scratch.unrolled, pass->in, pass->out, dx);
    }
}

/* Adds one group's gradients, over all frames, to dw and db, which are in panels. */
static void conv1d_add(const trnn_pass *pass, size_t group, trnn_matrix matrix,
                       const trnn_conv_scratch *scratch, float *dw, float *db)
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
    const trnn_conv_scratch scratch = trnn_conv_open(pass->layer, pass->out.cols, 1, pass->scratch);
    trnn_conv_gradients(pass, &scratch, conv1d_add);
}

const trnn_layer_type trnn_conv1d = {
    .name = "conv1d",
    .check = conv1d_check,
    .frame = conv1d_frame,
    .params = trnn_conv_params,
    .scratch = conv1d_scratch_bytes,
    .run = conv1d_run,
};

const trnn_layer_training trnn_conv1d_training = {
    .tape = conv1d_tape,
    .transpose = conv1d_transpose,
    .backward = conv1d_backward,
    .gradients = conv1d_gradients,
};
