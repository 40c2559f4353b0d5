/* One-dimensional convolution over time, causal: frames are (channels,), and
 *
 *     y_t = b + sum over channels i and taps k of W[i, k] x_{t - (taps - 1 - k) * dilation}
 *
 * As torch.nn.Conv1d of a sequence that (taps - 1) * dilation frames precede. These are the state, the oldest first, zeros in
 * a new stream. So a stream gives what a whole sequence gives. Rows of x are unrolled for some steps at a time and multiplied.
 * Beyond a row's end y is zero, and the state stays.
 */
#include "conv.h"

static trnn_status conv_steps_check(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (a->stride != 1 || a->pad_left || a->pad_right || a->padding_mode) return TRNN_E_ARGUMENT;
    return trnn_conv_check(layer, 1);
}

static trnn_status conv_steps_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (trnn_frame_rows(in) != 1 || in.cols != layer->as.conv1d.in_channels) return TRNN_E_SHAPE;
    *out = (trnn_frame){1, 1, layer->as.conv1d.out_channels};
    return TRNN_OK;
}

/* Frames of the state. */
static size_t history_of(const trnn_layer *layer)
{
    return trnn_times((size_t)(layer->as.conv1d.kernel_size - 1), (size_t)layer->as.conv1d.dilation);
}

static size_t conv_steps_state(const trnn_layer *layer)
{
    return trnn_times(history_of(layer), (size_t)layer->as.conv1d.in_channels);
}

/* Rows of a product: enough for its tiles, and few enough that they stay in the cache. */
enum { ROWS_AT_ONCE = 64 };

static int32_t steps_at_once(int32_t batch, int32_t steps)
{
    const int32_t most = batch < ROWS_AT_ONCE ? ROWS_AT_ONCE / batch : 1;
    return steps < most ? steps : most;
}

static size_t conv_steps_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                 int32_t steps)
{
    (void)in, (void)out;
    trnn_cursor cursor = {NULL, 0};
    trnn_conv_place(layer, steps_at_once(batch, steps) * batch, 0, &cursor);
    return cursor.bytes;
}

/* Some steps of some rows of a batch, with what came before. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    const float *x;       /* (steps, batch, in) */
    const float *history; /* frames before x of row 0; rows are history_stride apart */
    size_t history_stride;
    int32_t batch, first, rows; /* of the batch */
    int32_t from, to;           /* steps of x */
    int32_t start;              /* steps of the sequence before x */
    const int32_t *lengths;
    int32_t chunk; /* steps of a product: several, if the rows are the whole batch */
} window;

static int is_beyond(const window *w, int32_t t, int32_t b)
{
    return w->lengths && w->lengths[b] <= w->start + t;
}

/* The steps from `from` on that come before row b's end. */
static int32_t steps_left(const window *w, int32_t b)
{
    const int32_t steps = w->to - w->from, left = w->lengths ? w->lengths[b] - w->start - w->from : steps;
    return left < 0 ? 0 : left < steps ? left : steps;
}

/* Steps of the chunk that begins at step t. */
static int32_t chunk_from(const window *w, int32_t t) { return w->to - t < w->chunk ? w->to - t : w->chunk; }

/* Row b at step t of an array (steps, batch, numbers). */
static size_t row_at(const window *w, int32_t t, int32_t b, size_t numbers)
{
    return ((size_t)t * (size_t)w->batch + (size_t)b) * numbers;
}

/* The group's channels of a frame: position `at` of row b, negative in the history. */
static const float *frame_before(const window *w, size_t group, int64_t at, int32_t b)
{
    const size_t in = (size_t)w->layer->as.conv1d.in_channels;
    const size_t channels = in / (size_t)w->layer->as.conv1d.groups;
    if (at >= 0) return w->x + row_at(w, (int32_t)at, b, in) + group * channels;
    const size_t place = (size_t)((int64_t)history_of(w->layer) + at);
    return w->history + (size_t)b * w->history_stride + place * in + group * channels;
}

/* Unrolls the rows of `steps` steps from t on: (steps * rows, channels * taps); zeros beyond a row's end. */
static void unroll_steps(const window *w, size_t group, int32_t t, int32_t steps, float *unrolled)
{
    const trnn_conv1d_args *a = &w->layer->as.conv1d;
    const size_t channels = (size_t)(a->in_channels / a->groups), taps = (size_t)a->kernel_size;
    for (int32_t end = t + steps; t < end; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++, unrolled += channels * taps) {
            if (is_beyond(w, t, b)) {
                trnn_zero(unrolled, channels * taps * sizeof(float));
                continue;
            }
            for (size_t tap = 0; tap < taps; tap++) {
                const int64_t at = t - (int64_t)(taps - 1 - tap) * a->dilation;
                const float *const from = frame_before(w, group, at, b);
                for (size_t channel = 0; channel < channels; channel++)
                    unrolled[channel * taps + tap] = from[channel];
            }
        }
}

static void conv_steps_compute(const window *w, const void *weights, const float *bias, void *memory,
                               int32_t descending, float *y)
{
    const trnn_layer *layer = w->layer;
    const size_t out = (size_t)layer->as.conv1d.out_channels;
    const trnn_conv_scratch scratch = trnn_conv_open(layer, w->chunk * w->batch, 0, memory);
    for (size_t group = 0; group < (size_t)layer->as.conv1d.groups; group++) {
        const trnn_conv_group me = trnn_conv_group_of(layer, group, weights, bias, &scratch);
        for (int32_t t = w->from; t < w->to; t += w->chunk) {
            const int32_t steps = chunk_from(w, t);
            unroll_steps(w, group, t, steps, scratch.unrolled);
            trnn_product product =
                trnn_product_of(me.matrix, steps * w->rows, scratch.units, me.bias, scratch.unrolled,
                                y + row_at(w, t, w->first, out) + group * (size_t)scratch.units, scratch.own);
            product.y_stride = out;
            product.descending = descending;
            TRNN_KERNEL(w->isa, product)(&product);
        }
    }
    for (int32_t t = w->from; w->lengths && t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++)
            if (is_beyond(w, t, b)) trnn_zero(y + row_at(w, t, b, out), out * sizeof(float));
}

/* The frames of x follow those of the state, and the oldest ones leave it. */
static void keep_frames(const window *w, float *state, size_t state_stride)
{
    const size_t in = (size_t)w->layer->as.conv1d.in_channels, all = history_of(w->layer);
    for (int32_t b = w->first; b < w->first + w->rows; b++) {
        float *const row = state + (size_t)b * state_stride;
        const size_t steps = (size_t)steps_left(w, b), fresh = steps < all ? steps : all;
        for (size_t i = fresh * in; i < all * in; i++) row[i - fresh * in] = row[i];
        for (size_t f = 0; f < fresh; f++)
            trnn_copy(row + (all - fresh + f) * in,
                      w->x + row_at(w, w->from + (int32_t)(steps - fresh + f), b, in), in * sizeof(float));
    }
}

static void conv_steps_run(const trnn_call *call)
{
    const window w = {
        .layer = call->layer,
        .isa = call->isa,
        .x = call->x,
        .history = call->state,
        .history_stride = call->state_stride,
        .batch = call->batch,
        .rows = call->batch,
        .to = call->steps,
        .start = call->start,
        .lengths = call->lengths,
        .chunk = steps_at_once(call->batch, call->steps),
    };
    conv_steps_compute(&w, call->weights[0], call->weights[1], call->scratch, call->descending, call->y);
    keep_frames(&w, call->state, call->state_stride);
}

/* ---- training: the tape has the state before the sequence ------------------------------------------ */

typedef struct {
    float *history;    /* (batch, history, in) */
    float *transposed; /* each group's transposed matrix */
} conv_steps_taped;

static conv_steps_taped place_history(const trnn_layer *layer, int32_t batch, trnn_cursor *cursor)
{
    conv_steps_taped tape;
    tape.history = trnn_take(cursor, trnn_times((size_t)batch, conv_steps_state(layer)));
    tape.transposed = trnn_take(cursor, trnn_conv_transposed_size(layer));
    return tape;
}

static size_t conv_steps_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)in, (void)out, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    place_history(layer, batch, &cursor);
    return cursor.bytes;
}

static conv_steps_taped taped_of(const trnn_pass *pass)
{
    trnn_cursor cursor = {pass->tape, 0};
    return place_history(pass->layer, pass->batch, &cursor);
}

static window window_of(const trnn_pass *pass)
{
    return (window){
        .layer = pass->layer,
        .isa = pass->isa,
        .x = pass->x,
        .history = taped_of(pass).history,
        .history_stride = conv_steps_state(pass->layer),
        .batch = pass->batch,
        .first = pass->first,
        .rows = pass->rows,
        .from = pass->from,
        .to = pass->to,
        .lengths = pass->lengths,
        .chunk = pass->rows == pass->batch ? steps_at_once(pass->batch, pass->steps) : 1,
    };
}

static void conv_steps_transpose(const trnn_pass *pass)
{
    const window w = window_of(pass);
    const trnn_conv_scratch scratch = trnn_conv_open(pass->layer, w.chunk * w.batch, 0, pass->scratch);
    trnn_conv_transpose(pass, &scratch, taped_of(pass).transposed);
}

static void conv_steps_forward(const trnn_pass *pass)
{
    const window w = window_of(pass);
    const size_t numbers = w.history_stride;
    for (int32_t b = pass->first; pass->from == 0 && b < pass->first + pass->rows; b++)
        trnn_copy(taped_of(pass).history + (size_t)b * numbers, pass->state + (size_t)b * pass->state_stride,
                  numbers * sizeof(float));
    conv_steps_compute(&w, pass->weights[0], pass->weights[1], pass->scratch, 0, pass->y);
    keep_frames(&w, pass->state, pass->state_stride);
}

/* The place of the gradient of the frame at position `at` of row b: in dx, or before the pass's steps in dstate. */
static float *gradient_at(const trnn_pass *pass, const window *w, int64_t at, int32_t b)
{
    const size_t in = (size_t)pass->in.cols;
    if (at >= pass->from) return pass->dx + row_at(w, (int32_t)at, b, in);
    const size_t place = (size_t)((int64_t)history_of(pass->layer) + at - pass->from);
    return pass->dstate + (size_t)b * pass->state_stride + place * in;
}

/* Begins the sums: the gradients of the frames that the state after the pass's steps consists of. */
static void begin_sums(const trnn_pass *pass, const window *w)
{
    const size_t in = (size_t)pass->in.cols, all = history_of(pass->layer);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *const dstate = pass->dstate + (size_t)b * pass->state_stride;
        const int32_t steps = steps_left(w, b);
        for (int32_t t = pass->from; t < pass->to; t++)
            trnn_zero(pass->dx + row_at(w, t, b, in), in * sizeof(float));
        if (steps == 0) continue;
        for (size_t f = all; f-- > 0;) {
            const int64_t at = (int64_t)pass->from + steps - (int64_t)all + (int64_t)f;
            trnn_copy(gradient_at(pass, w, at, b), dstate + f * in, in * sizeof(float));
        }
        const size_t gone = (size_t)steps < all ? (size_t)steps : all;
        trnn_zero(dstate, gone * in * sizeof(float));
    }
}

/* The reverse of unroll_steps: adds each number to the frame that it was read from, the last step first. */
static void fold_steps(const trnn_pass *pass, const window *w, size_t group, int32_t t, int32_t steps,
                       const float *unrolled)
{
    const trnn_conv1d_args *a = &pass->layer->as.conv1d;
    const size_t channels = (size_t)(a->in_channels / a->groups), taps = (size_t)a->kernel_size;
    for (int32_t i = steps - 1; i >= 0; i--)
        for (int32_t b = w->first; b < w->first + w->rows; b++) {
            const float *const row =
                unrolled + ((size_t)i * (size_t)w->rows + (size_t)(b - w->first)) * channels * taps;
            for (size_t tap = 0; tap < taps && !is_beyond(w, t + i, b); tap++) {
                const int64_t at = t + i - (int64_t)(taps - 1 - tap) * a->dilation;
                float *const to = gradient_at(pass, w, at, b) + group * channels;
                for (size_t channel = 0; channel < channels; channel++)
                    to[channel] += row[channel * taps + tap];
            }
        }
}

/* The gradient of a frame is a sum over the steps that read it, the last one first: so within a loop, where steps go back
 * one by one, the state's gradient has what the later ones added. */
static void conv_steps_backward(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const window w = window_of(pass);
    const size_t out = (size_t)layer->as.conv1d.out_channels;
    for (int32_t t = pass->from; pass->lengths && t < pass->to; t++)
        for (int32_t b = pass->first; b < pass->first + pass->rows; b++)
            if (is_beyond(&w, t, b)) trnn_zero(pass->dy + row_at(&w, t, b, out), out * sizeof(float));
    if (!pass->dx) return;

    const trnn_conv_scratch scratch = trnn_conv_open(layer, w.chunk * w.batch, 0, pass->scratch);
    const float *const transposed = taped_of(pass).transposed;
    begin_sums(pass, &w);
    for (size_t group = 0; group < (size_t)layer->as.conv1d.groups; group++) {
        const trnn_matrix matrix = trnn_conv_transposed(layer, transposed, group);
        for (int32_t end = w.to, t; end > w.from; end = t) {
            t = end - w.from > w.chunk ? end - w.chunk : w.from;
            trnn_product product =
                trnn_product_of(matrix, (end - t) * w.rows, scratch.depth, NULL,
                                pass->dy + row_at(&w, t, w.first, out) + group * (size_t)scratch.units,
                                scratch.unrolled, NULL);
            product.x_stride = out;
            TRNN_KERNEL(pass->isa, product)(&product);
            fold_steps(pass, &w, group, t, end - t, scratch.unrolled);
        }
    }
}

static void conv_steps_add(const trnn_pass *pass, size_t group, trnn_matrix matrix,
                           const trnn_conv_scratch *scratch, float *dw, float *db)
{
    const window w = window_of(pass);
    const size_t out = (size_t)pass->out.cols;
    for (int32_t t = 0; t < pass->steps; t += w.chunk) {
        const int32_t steps = chunk_from(&w, t);
        const float *const dy = pass->dy + row_at(&w, t, 0, out) + group * (size_t)scratch->units;
        unroll_steps(&w, group, t, steps, scratch->unrolled);
        trnn_weight_gradient gradient = trnn_weight_gradient_of(
            pass, matrix, steps * pass->batch, scratch->units, dy, scratch->unrolled, dw, db);
        gradient.dy_stride = out;
        TRNN_KERNEL(pass->isa, weight_gradient)(&gradient);
    }
}

static void conv_steps_gradients(const trnn_pass *pass)
{
    const window w = window_of(pass);
    const trnn_conv_scratch scratch = trnn_conv_open(pass->layer, w.chunk * w.batch, 0, pass->scratch);
    trnn_conv_gradients(pass, &scratch, conv_steps_add);
}

const trnn_layer_type trnn_conv_steps = {
    .name = "conv_steps",
    .check = conv_steps_check,
    .frame = conv_steps_frame,
    .params = trnn_conv_params,
    .state = conv_steps_state,
    .scratch = conv_steps_scratch,
    .run = conv_steps_run,
};

const trnn_layer_training trnn_conv_steps_training = {
    .tape = conv_steps_tape,
    .transpose = conv_steps_transpose,
    .forward = conv_steps_forward,
    .backward = conv_steps_backward,
    .gradients = conv_steps_gradients,
    .sequences = 1,
};
