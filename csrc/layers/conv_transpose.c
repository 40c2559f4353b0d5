/* One-dimensional transposed convolution over frames of (channels, length). As torch.nn.ConvTranspose1d.
 *
 * Each position of x is multiplied by its group's matrix: in_channels / groups numbers become (out_channels / groups,
 * kernel_size), and these are added to the positions of y that they fall on, in ascending order of positions of x. y begins
 * with the bias. Backwards dy is gathered in the same places, and multiplied by the transposed matrix.
 */
#include "training.h"

const trnn_argument trnn_conv_transpose_arguments[] = {
    TRNN_INT_OF(conv_transpose, in_channels),    TRNN_INT_OF(conv_transpose, out_channels),
    TRNN_INT_OF(conv_transpose, kernel_size),    TRNN_INT_OF(conv_transpose, stride),
    TRNN_INT_OF(conv_transpose, dilation),       TRNN_INT_OF(conv_transpose, groups),
    TRNN_INT_OF(conv_transpose, bias),           TRNN_INT_OF(conv_transpose, padding),
    TRNN_INT_OF(conv_transpose, output_padding), TRNN_END_OF(conv_transpose),
};

/* Rows of a group's matrix, and its columns. */
static int32_t spread_rows(const trnn_conv_transpose_args *a)
{
    return a->out_channels / a->groups * a->kernel_size;
}
static int32_t spread_depth(const trnn_conv_transpose_args *a) { return a->in_channels / a->groups; }

static trnn_status conv_transpose1d_check(const trnn_layer *layer)
{
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    const int32_t sizes[] = {a->in_channels, a->out_channels, a->kernel_size,
                             a->stride,      a->dilation,     a->groups};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!trnn_is_size(sizes[i])) return TRNN_E_ARGUMENT;
    if (a->in_channels % a->groups || a->out_channels % a->groups) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->bias) || a->padding < 0 || a->padding > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    const int32_t most = a->stride > a->dilation ? a->stride : a->dilation;
    if (a->output_padding < 0 || a->output_padding >= most) return TRNN_E_ARGUMENT;
    const int64_t rows = (int64_t)a->out_channels * a->kernel_size;
    return rows <= TRNN_SIZE_MAX && trnn_is_depth(layer->format, spread_depth(a)) ? TRNN_OK : TRNN_E_SIZE;
}

static trnn_status conv_transpose1d_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    if (in.planes != 1 || in.rows != a->in_channels) return TRNN_E_SHAPE;
    const int64_t spread_taps =
        (int64_t)(in.cols - 1) * a->stride + (int64_t)a->dilation * (a->kernel_size - 1);
    const int64_t length = spread_taps - 2 * (int64_t)a->padding + a->output_padding + 1;
    if (length < 1) return TRNN_E_SHAPE;
    if (length > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){1, a->out_channels, (int32_t)length};
    return TRNN_OK;
}

static int32_t conv_transpose1d_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    trnn_param_panels(&params[0], "weight", layer->format, 1, spread_rows(a), spread_depth(a));
    params[0].repeat = a->groups;
    params[0].shape[0] = a->out_channels * a->kernel_size;
    if (a->bias) trnn_param_vector(&params[1], "bias", a->out_channels);
    return 2;
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

enum { COLS_AT_ONCE = 64 }; /* positions of x of a product */

typedef struct {
    int32_t rows, depth; /* of a group's matrix */
    size_t at_once;
    float *x;           /* (at_once, depth) */
    float *spread_taps; /* (at_once, rows) */
    void *own;          /* scratch of the product */
} spread_scratch;

static spread_scratch place_spread(const trnn_layer *layer, int32_t length, trnn_cursor *cursor)
{
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    spread_scratch scratch = {.rows = spread_rows(a), .depth = spread_depth(a)};
    scratch.at_once = length < COLS_AT_ONCE ? (size_t)length : COLS_AT_ONCE;
    scratch.x = trnn_take(cursor, trnn_times(scratch.at_once, (size_t)scratch.depth));
    scratch.spread_taps = trnn_take(cursor, trnn_times(scratch.at_once, (size_t)scratch.rows));
    scratch.own =
        trnn_take_bytes(cursor, trnn_product_scratch(layer->format, (int32_t)scratch.at_once, scratch.depth));
    return scratch;
}

static size_t conv_transpose1d_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                       int32_t steps)
{
    (void)out, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    place_spread(layer, in.cols, &cursor);
    return cursor.bytes;
}

TRNN_NOINLINE spread_scratch open_spread(const trnn_layer *layer, int32_t length, void *memory)
{
    trnn_cursor cursor = {memory, 0};
    return place_spread(layer, length, &cursor);
}

/* `count` positions of a group's channels, the `first` one on, to rows. */
TRNN_NOINLINE void to_positions(const float *x, size_t channels, size_t length, size_t first, size_t count,
                                float *rows)
{
    for (size_t channel = 0; channel < channels; channel++)
        for (size_t p = 0; p < count; p++) rows[p * channels + channel] = x[channel * length + first + p];
}

/* ... and back. */
static void from_positions(const float *rows, size_t channels, size_t length, size_t first, size_t count,
                           float *x)
{
    for (size_t channel = 0; channel < channels; channel++)
        for (size_t p = 0; p < count; p++) x[channel * length + first + p] = rows[p * channels + channel];
}

/* The place in a channel of y on which tap `tap` of position `p` of x falls; negative or beyond its end: none. */
static int64_t spread_place(const trnn_conv_transpose_args *a, size_t p, int32_t tap)
{
    return (int64_t)p * a->stride + (int64_t)tap * a->dilation - a->padding;
}

/* Adds the numbers of `count` positions of x, the `first` one on, to a group of y, whose channels have `out` positions. */
static void spread_taps(const trnn_conv_transpose_args *a, const float *numbers, size_t first, size_t count,
                        int64_t out, float *y)
{
    const int32_t channels = a->out_channels / a->groups;
    for (size_t p = first; p < first + count; p++)
        for (int32_t channel = 0; channel < channels; channel++)
            for (int32_t tap = 0; tap < a->kernel_size; tap++, numbers++) {
                const int64_t at = spread_place(a, p, tap);
                if (at >= 0 && at < out) y[channel * out + at] += *numbers;
            }
}

/* The reverse: the gradients of these numbers. */
TRNN_NOINLINE void gather(const trnn_conv_transpose_args *a, const float *dy, size_t first, size_t count,
                          int64_t out, float *numbers)
{
    const int32_t channels = a->out_channels / a->groups;
    for (size_t p = first; p < first + count; p++)
        for (int32_t channel = 0; channel < channels; channel++)
            for (int32_t tap = 0; tap < a->kernel_size; tap++, numbers++) {
                const int64_t at = spread_place(a, p, tap);
                *numbers = at >= 0 && at < out ? dy[channel * out + at] : 0.0f;
            }
}

/* A group's matrix, and its place among those of all groups. */
TRNN_NOINLINE trnn_matrix spread_matrix(const trnn_layer *layer, const void *weights, size_t group,
                                        const spread_scratch *scratch)
{
    const size_t bytes =
        trnn_group_bytes(layer->format, trnn_ceil(scratch->rows, TRNN_PANEL), scratch->depth);
    return trnn_matrix_of((const char *)weights + group * bytes, layer->format, 1, scratch->rows,
                          scratch->depth);
}

static void conv_transpose1d_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    const size_t frames = (size_t)call->steps * (size_t)call->batch, groups = (size_t)a->groups;
    const size_t length = (size_t)call->in.cols, channels = (size_t)a->out_channels / groups;
    const int64_t out = call->out.cols;
    const float *bias = call->weights[1];
    const spread_scratch scratch = open_spread(layer, call->in.cols, call->scratch);
    const size_t depth = (size_t)scratch.depth;
    for (size_t group = 0; group < groups; group++) {
        const trnn_matrix matrix = spread_matrix(layer, call->weights[0], group, &scratch);
        for (size_t n = 0; n < frames; n++) {
            const float *x = (const float *)call->x + (n * groups + group) * depth * length;
            float *y = call->y + (n * groups + group) * channels * (size_t)out;
            for (size_t i = 0; i < channels * (size_t)out; i++)
                y[i] = bias ? bias[group * channels + i / (size_t)out] : 0.0f;
            for (size_t first = 0, count; first < length; first += count) {
                count = length - first < scratch.at_once ? length - first : scratch.at_once;
                to_positions(x, depth, length, first, count, scratch.x);
                const trnn_product product = trnn_product_of(matrix, (int32_t)count, scratch.rows, NULL,
                                                             scratch.x, scratch.spread_taps, scratch.own);
                TRNN_KERNEL(call->isa, product)(&product);
                spread_taps(a, scratch.spread_taps, first, count, out, y);
            }
        }
    }
}

/* ---- training: each group's transposed matrix on the tape ------------------------------------------------ */

static size_t spread_transposed_size(const trnn_layer *layer)
{
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    return trnn_transposed_size(spread_rows(a), spread_depth(a));
}

static size_t conv_transpose1d_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                    int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    const size_t size = trnn_times(spread_transposed_size(layer), sizeof(float));
    return trnn_times(size, (size_t)layer->as.conv_transpose.groups);
}

static void conv_transpose1d_transpose(const trnn_pass *pass)
{
    const spread_scratch scratch = open_spread(pass->layer, pass->in.cols, pass->scratch);
    const size_t size = spread_transposed_size(pass->layer);
    for (size_t group = 0; pass->dx && group < (size_t)pass->layer->as.conv_transpose.groups; group++)
        trnn_transpose(spread_matrix(pass->layer, pass->weights[0], group, &scratch), scratch.rows,
                       (float *)pass->tape + group * size, pass->part, pass->parts);
}

static void conv_transpose1d_backward(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    const size_t groups = (size_t)a->groups, length = (size_t)pass->in.cols;
    const int64_t out = pass->out.cols;
    const spread_scratch scratch = open_spread(layer, pass->in.cols, pass->scratch);
    const float *dy = pass->dy;
    float *dx = pass->dx;
    if (!dx) return;
    for (size_t i = 0; i < (size_t)pass->rows * groups; i++) {
        const trnn_matrix transposed =
            trnn_transposed_matrix((const float *)pass->tape + i % groups * spread_transposed_size(layer),
                                   scratch.rows, scratch.depth);
        for (size_t first = 0, count; first < length; first += count) {
            count = length - first < scratch.at_once ? length - first : scratch.at_once;
            gather(a, dy, first, count, out, scratch.spread_taps);
            const trnn_product product = trnn_product_of(transposed, (int32_t)count, scratch.depth, NULL,
                                                         scratch.spread_taps, scratch.x, NULL);
            TRNN_KERNEL(pass->isa, product)(&product);
            from_positions(scratch.x, (size_t)scratch.depth, length, first, count, dx);
        }
        dy += (size_t)a->out_channels / groups * (size_t)out;
        dx += (size_t)scratch.depth * length;
    }
}

static void conv_transpose1d_gradients(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const trnn_conv_transpose_args *a = &layer->as.conv_transpose;
    const size_t groups = (size_t)a->groups, length = (size_t)pass->in.cols, out = (size_t)pass->out.cols;
    const size_t channels = (size_t)a->out_channels / groups;
    const spread_scratch scratch = open_spread(layer, pass->in.cols, pass->scratch);
    const size_t depth = (size_t)scratch.depth;
    for (size_t group = 0; pass->grads[0] && group < groups; group++) {
        const trnn_matrix matrix = trnn_matrix_of(NULL, TRNN_F32, 1, scratch.rows, scratch.depth);
        float *const dw = pass->grads[0] + group * (size_t)matrix.panels * TRNN_PANEL * depth;
        for (size_t n = 0; n < (size_t)pass->rows; n++)
            for (size_t first = 0, count; first < length; first += count) {
                count = length - first < scratch.at_once ? length - first : scratch.at_once;
                to_positions((const float *)pass->x + (n * groups + group) * depth * length, depth, length,
                             first, count, scratch.x);
                gather(a, pass->dy + (n * groups + group) * channels * out, first, count, (int64_t)out,
                       scratch.spread_taps);
                const trnn_weight_gradient gradient = trnn_weight_gradient_of(
                    pass, matrix, (int32_t)count, scratch.rows, scratch.spread_taps, scratch.x, dw, NULL);
                TRNN_KERNEL(pass->isa, weight_gradient)(&gradient);
            }
    }
    for (size_t channel = 0; pass->grads[1] && channel < channels * groups; channel++) {
        if (channel % (size_t)pass->parts != (size_t)pass->part) continue;
        double sum = 0.0;
        for (size_t n = 0; n < (size_t)pass->rows; n++)
            for (size_t i = 0; i < out; i++)
                sum += (double)pass->dy[(n * channels * groups + channel) * out + i];
        pass->grads[1][channel] += (float)sum;
    }
}

const trnn_layer_type trnn_conv_transpose1d = {
    .name = "conv_transpose1d",
    .check = conv_transpose1d_check,
    .frame = conv_transpose1d_frame,
    .params = conv_transpose1d_params,
    .scratch = conv_transpose1d_scratch,
    .run = conv_transpose1d_run,
};

const trnn_layer_training trnn_conv_transpose1d_training = {
    .tape = conv_transpose1d_tape,
    .transpose = conv_transpose1d_transpose,
    .backward = conv_transpose1d_backward,
    .gradients = conv_transpose1d_gradients,
};
