/* Windows of steps: frame n is the steps n * stride - pad_left + k * dilation, k = 0 .. kernel_size - 1, side by side.
 *
 *     x (steps, rows, cols)    y (frames, rows, cols, kernel_size), as torch.Tensor.unfold
 *
 * A frame is due with its last step, so y is on an axis of another rate. Convolutions and pools over time are layers that
 * read these frames. The state is the count of steps, then the last (kernel_size - 1) * dilation of them, the oldest first.
 */
#include "training.h"

static const trnn_unfold_args *unfold_args(const trnn_layer *layer) { return &layer->as.unfold; }

static int64_t unfold_reach(const trnn_unfold_args *a) { return (int64_t)(a->kernel_size - 1) * a->dilation; }

static size_t unfold_numbers(const trnn_unfold_args *a)
{
    return trnn_times((size_t)a->rows, (size_t)a->cols);
}

static trnn_status unfold_check(const trnn_layer *layer)
{
    const trnn_unfold_args *a = unfold_args(layer);
    if (!trnn_is_size(a->rows) || !trnn_is_size(a->cols) || !trnn_is_size(a->kernel_size) ||
        !trnn_is_size(a->stride) || !trnn_is_size(a->dilation) || !trnn_is_flag(a->lowest))
        return TRNN_E_ARGUMENT;
    const int64_t reach = unfold_reach(a);
    if (a->pad_left < 0 || a->pad_left > reach || a->pad_right < 0 || a->pad_right > reach)
        return TRNN_E_ARGUMENT;
    return reach + a->stride < TRNN_RATE_MAX ? TRNN_OK : TRNN_E_SIZE; /* the state counts in a float */
}

static trnn_status unfold_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_unfold_args *a = unfold_args(layer);
    if (in.planes != 1 || in.rows != a->rows || in.cols != a->cols) return TRNN_E_SHAPE;
    *out = (trnn_frame){in.rows, in.cols, a->kernel_size};
    return TRNN_OK;
}

static trnn_rate unfold_rate(const trnn_layer *layer)
{
    const trnn_unfold_args *a = unfold_args(layer);
    return (trnn_rate){(int32_t)unfold_reach(a) - a->pad_left, a->stride, a->pad_right};
}

static size_t unfold_state(const trnn_layer *layer)
{
    const trnn_unfold_args *a = unfold_args(layer);
    return trnn_plus(1, trnn_times((size_t)unfold_reach(a), unfold_numbers(a)));
}

/* A row's sequence: what came before a call, and the call's steps. Positions count from its first step. */
typedef struct {
    const trnn_unfold_args *args;
    const float *history; /* the steps -reach .. -1 */
    const float *x;       /* (steps, batch, rows, cols), at the row */
    size_t step;          /* floats from a step of x to the next */
    int32_t seen, steps;  /* steps before the call, as far as they count, and of the call */
} row;

static row unfolded_row(const trnn_layer *layer, const float *x, int32_t batch, int32_t b, const float *state,
                        float count, int32_t steps)
{
    const trnn_unfold_args *a = unfold_args(layer);
    const size_t numbers = unfold_numbers(a);
    return (row){a, state, x + (size_t)b * numbers, (size_t)batch * numbers, trnn_rate_seen(count), steps};
}

/* The position of the oldest step of the i-th frame that is due in the call. */
static int64_t window_begin(const row *me, trnn_rate rate, int32_t i)
{
    return (trnn_rate_due(rate, me->seen) + i) * rate.stride - me->args->pad_left - me->seen;
}

/* The step at a position; NULL: padding. */
static const float *unfolded_step(const row *me, int64_t at)
{
    const int64_t reach = unfold_reach(me->args);
    if (at >= me->steps || at < -reach || at < -(int64_t)me->seen) return NULL;
    return at >= 0 ? me->x + (size_t)at * me->step
                   : me->history + (size_t)(reach + at) * unfold_numbers(me->args);
}

static void write_window(const row *me, int64_t begin, float *y)
{
    const trnn_unfold_args *a = me->args;
    const size_t numbers = unfold_numbers(a), taps = (size_t)a->kernel_size;
    const float one = 1.0f, padding = a->lowest ? -one / (one - one) : 0.0f;
    for (size_t tap = 0; tap < taps; tap++) {
        const float *const from = unfolded_step(me, begin + (int64_t)tap * a->dilation);
        for (size_t i = 0; i < numbers; i++) y[i * taps + tap] = from ? from[i] : padding;
    }
}

/* Writes the frames that are due of one row, and zeros beyond them. y (due.steps, batch, rows, cols, kernel_size). */
static void write_windows(const trnn_layer *layer, const row *me, trnn_due due, int32_t batch, int32_t b,
                          float *y)
{
    const trnn_rate rate = unfold_rate(layer);
    const size_t numbers = trnn_times(unfold_numbers(me->args), (size_t)me->args->kernel_size);
    for (int32_t i = 0; i < due.steps; i++) {
        float *const frame = y + ((size_t)i * (size_t)batch + (size_t)b) * numbers;
        if (i < due.frames[b])
            write_window(me, window_begin(me, rate, i), frame);
        else
            trnn_zero(frame, numbers * sizeof(float));
    }
}

/* The steps of the call follow those of the state, and the oldest ones leave it. */
static void keep_unfolded(const trnn_layer *layer, const row *me, float *state)
{
    const trnn_unfold_args *a = me->args;
    const size_t numbers = unfold_numbers(a), all = (size_t)unfold_reach(a), steps = (size_t)me->steps;
    const size_t fresh = steps < all ? steps : all;
    float *const history = state + 1;
    for (size_t i = fresh * numbers; i < all * numbers; i++) history[i - fresh * numbers] = history[i];
    for (size_t f = 0; f < fresh; f++)
        trnn_copy(history + (all - fresh + f) * numbers, me->x + (steps - fresh + f) * me->step,
                  numbers * sizeof(float));
    state[0] = trnn_rate_count(unfold_rate(layer), a->pad_left, state[0], me->steps);
}

static void unfold_run(const trnn_call *call)
{
    for (int32_t b = 0; b < call->batch; b++) {
        float *const state = call->state + (size_t)b * call->state_stride;
        const int32_t steps = trnn_row_steps(call->lengths, b, call->start, call->steps);
        const row me = unfolded_row(call->layer, call->x, call->batch, b, state + 1, state[0], steps);
        write_windows(call->layer, &me, call->due, call->batch, b, call->y);
        keep_unfolded(call->layer, &me, state);
    }
}

/* ---- training: the tape has the count of each row's steps before the sequence ------------------------- */

static size_t unfold_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                          int32_t steps)
{
    (void)layer, (void)in, (void)out, (void)steps;
    return trnn_times((size_t)batch, sizeof(float));
}

static void unfold_forward(const trnn_pass *pass)
{
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *const state = pass->state + (size_t)b * pass->state_stride;
        const int32_t steps = trnn_row_steps(pass->lengths, b, 0, pass->steps);
        const row me = unfolded_row(pass->layer, pass->x, pass->batch, b, state + 1, state[0], steps);
        ((float *)pass->tape)[b] = state[0];
        write_windows(pass->layer, &me, pass->due, pass->batch, b, pass->y);
        keep_unfolded(pass->layer, &me, state);
    }
}

/* The gradients of a row's steps: dx of the call's and dstate of those before, whose own terms dstate has first. */
static void begin_window_sums(const trnn_pass *pass, const row *me, int32_t b, float *dhistory)
{
    const size_t numbers = unfold_numbers(me->args), all = (size_t)unfold_reach(me->args),
                 steps = (size_t)me->steps;
    float *const dx = pass->dx ? pass->dx + (size_t)b * numbers : NULL;
    for (int32_t t = 0; dx && t < pass->steps; t++)
        trnn_zero(dx + (size_t)t * me->step, numbers * sizeof(float));
    for (size_t f = all; f-- > 0;) { /* the last ones of the sequence are the state after it */
        float *const from = dhistory + f * numbers;
        if (f + steps >= all) {
            if (dx) trnn_copy(dx + (f + steps - all) * me->step, from, numbers * sizeof(float));
        } else {
            trnn_copy(dhistory + (f + steps) * numbers, from, numbers * sizeof(float));
        }
    }
    trnn_zero(dhistory, (steps < all ? steps : all) * numbers * sizeof(float));
}

static void add_window(const trnn_pass *pass, const row *me, int32_t b, int64_t begin, const float *dy,
                       float *dhistory)
{
    const trnn_unfold_args *a = me->args;
    const size_t numbers = unfold_numbers(a), taps = (size_t)a->kernel_size;
    for (size_t tap = 0; tap < taps; tap++) {
        const int64_t at = begin + (int64_t)tap * a->dilation;
        if (!unfolded_step(me, at) || (at >= 0 && !pass->dx)) continue;
        float *const to = at >= 0 ? pass->dx + (size_t)at * me->step + (size_t)b * numbers
                                  : dhistory + (size_t)(unfold_reach(a) + at) * numbers;
        for (size_t i = 0; i < numbers; i++) to[i] += dy[i * taps + tap];
    }
}

static void unfold_backward(const trnn_pass *pass)
{
    const trnn_rate rate = unfold_rate(pass->layer);
    const size_t numbers = trnn_frame_size(pass->out);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *const dstate = pass->dstate + (size_t)b * pass->state_stride;
        const int32_t steps = trnn_row_steps(pass->lengths, b, 0, pass->steps);
        const row me = unfolded_row(pass->layer, pass->x, pass->batch, b, pass->state + 1,
                                    ((const float *)pass->tape)[b], steps);
        begin_window_sums(pass, &me, b, dstate + 1);
        for (int32_t i = pass->due.frames[b] - 1; i >= 0; i--)
            add_window(pass, &me, b, window_begin(&me, rate, i),
                       pass->dy + ((size_t)i * (size_t)pass->batch + (size_t)b) * numbers, dstate + 1);
        dstate[0] = 0.0f; /* a count has none */
    }
}

const trnn_argument trnn_unfold_arguments[] = {
    TRNN_INT_OF(unfold, rows),      TRNN_INT_OF(unfold, cols),     TRNN_INT_OF(unfold, kernel_size),
    TRNN_INT_OF(unfold, stride),    TRNN_INT_OF(unfold, dilation), TRNN_INT_OF(unfold, pad_left),
    TRNN_INT_OF(unfold, pad_right), TRNN_INT_OF(unfold, lowest),   TRNN_END_OF(unfold)};

const trnn_layer_type trnn_unfold_steps = {.name = "unfold_steps",
                                           .check = unfold_check,
                                           .frame = unfold_frame,
                                           .time = TRNN_TIME_RATE,
                                           .rate = unfold_rate,
                                           .pacing = &trnn_rates,
                                           .state = unfold_state,
                                           .run = unfold_run};

const trnn_layer_training trnn_unfold_steps_training = {
    .tape = unfold_tape, .forward = unfold_forward, .backward = unfold_backward, .sequences = 1};
