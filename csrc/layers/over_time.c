/* One frame for a sequence: its last step, or the sum, the mean or the maximum of its steps, number by number. The state is
 * what came of the steps so far, so a stream gives the value of these. Sums are in ascending order of steps. A NaN wins a
 * maximum, and of equal numbers the first, which gets the gradient, as in torch.max. With a mask only its steps count; where
 * none does, the value is 0. */
#include "training.h"

typedef enum { LAST, SUM, MEAN, MAX } reduction;

static reduction reduction_of(const trnn_layer *layer) { return *(const reduction *)layer->type->family; }

const trnn_argument trnn_frame_arguments[] = {
    TRNN_INT_OF(frame, planes),
    TRNN_INT_OF(frame, rows),
    TRNN_INT_OF(frame, cols),
    TRNN_END_OF(frame),
};

static trnn_frame over_time_own(const trnn_layer *layer)
{
    const trnn_frame_args *a = &layer->as.frame;
    return (trnn_frame){a->planes, a->rows, a->cols};
}

static trnn_status over_time_check(const trnn_layer *layer)
{
    if (!trnn_is_frame(over_time_own(layer))) return TRNN_E_ARGUMENT;
    return trnn_frame_size(over_time_own(layer)) > (size_t)TRNN_SIZE_MAX ? TRNN_E_SIZE : TRNN_OK;
}

static trnn_status over_time_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    *out = over_time_own(layer);
    return trnn_same_frame(in, *out) ? TRNN_OK : TRNN_E_SHAPE;
}

/* The numbers of a frame, then of a mean the count of steps, of a maximum whether there was one (0 or 1). A float counts
 * to 2^24 only, so the count is two: of 2^20 steps each, and the rest. */
static size_t over_time_state(const trnn_layer *layer)
{
    const reduction kind = reduction_of(layer);
    return trnn_plus(trnn_frame_size(over_time_own(layer)), kind == MEAN ? 2 : kind == MAX ? 1 : 0);
}

static void count_step(float count[2])
{
    count[1] += 1.0f;
    if (count[1] < 1048576.0f) return;
    count[0] += 1.0f;
    count[1] = 0.0f;
}

static float steps_of(const float count[2])
{
    return (float)((double)count[0] * 1048576.0 + (double)count[1]);
}

static void add_frame(float *restrict sum, const float *restrict x, size_t numbers)
{
    for (size_t i = 0; i < numbers; i++) sum[i] += x[i];
}

/* most = the larger one. `step` (numbers,), or NULL, learns which step each number is from. */
static void larger_of(float *restrict most, const float *restrict x, size_t numbers, int32_t *restrict step,
                      int32_t t)
{
    if (!step) {
        for (size_t i = 0; i < numbers; i++) most[i] = most[i] >= x[i] || most[i] != most[i] ? most[i] : x[i];
        return;
    }
    for (size_t i = 0; i < numbers; i++) {
        if (most[i] >= x[i] || most[i] != most[i]) continue;
        most[i] = x[i];
        step[i] = t;
    }
}

/* Takes step t of a row into its state. */
static void take_step(reduction kind, float *state, const float *x, size_t numbers, int32_t *step, int32_t t)
{
    float *const rest = state + numbers;
    if (kind == LAST || (kind == MAX && rest[0] == 0.0f)) {
        trnn_copy(state, x, numbers * sizeof(float));
        for (size_t i = 0; step && i < numbers; i++) step[i] = t;
    } else if (kind == MAX) {
        larger_of(state, x, numbers, step, t);
    } else {
        add_frame(state, x, numbers);
    }
    if (kind == MAX) rest[0] = 1.0f;
    if (kind == MEAN) count_step(rest);
}

/* y = the value of the steps that a row's state has. */
static void write_row(reduction kind, float *restrict y, const float *restrict state, size_t numbers)
{
    if (kind != MEAN) {
        trnn_copy(y, state, numbers * sizeof(float));
        return;
    }
    const float steps = steps_of(state + numbers);
    for (size_t i = 0; i < numbers; i++) y[i] = steps > 0.0f ? state[i] / steps : 0.0f;
}

/* Does a step of a row count? */
static int counts(const float *mask, int32_t batch, int32_t t, int32_t b)
{
    return trnn_counts(mask, (size_t)t * (size_t)batch + (size_t)b);
}

/* The last of a row's first `steps` steps that counts; -1: none does. */
static int32_t last_counted(const float *mask, int32_t batch, int32_t steps, int32_t b)
{
    while (steps > 0 && !counts(mask, batch, steps - 1, b)) steps--;
    return steps - 1;
}

static void over_time_run(const trnn_call *call)
{
    const float *const mask = trnn_call_mask(call);
    const reduction kind = reduction_of(call->layer);
    const size_t numbers = trnn_frame_size(call->in);
    for (int32_t b = 0; b < call->batch; b++) {
        const float *const x = (const float *)call->x + (size_t)b * numbers;
        float *const state = call->state + (size_t)b * call->state_stride;
        const int32_t steps = trnn_row_steps(call->lengths, b, call->start, call->steps),
                      last = last_counted(mask, call->batch, steps, b);
        for (int32_t t = kind == LAST && last > 0 ? last : 0; t <= last; t++)
            if (counts(mask, call->batch, t, b))
                take_step(kind, state, x + (size_t)t * (size_t)call->batch * numbers, numbers, NULL, t);
        write_row(kind, call->y + (size_t)b * numbers, state, numbers);
    }
}

/* ---- training ------------------------------------------------------------------------------------------ */

/* Of a mean the steps of each row, of a maximum the step of each of its numbers; -1: from the state before the pass. */
static size_t over_time_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                             int32_t steps)
{
    (void)out, (void)steps;
    const reduction kind = reduction_of(layer);
    const size_t row = kind == MEAN ? 1 : kind == MAX ? trnn_frame_size(in) : 0;
    return trnn_times(trnn_times((size_t)batch, row), sizeof(float)); /* an int32_t has the size of a float */
}

static void over_time_forward(const trnn_pass *pass)
{
    const float *const mask = trnn_pass_mask(pass);
    const reduction kind = reduction_of(pass->layer);
    const size_t numbers = trnn_frame_size(pass->in);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        const float *const x = (const float *)pass->x + (size_t)b * numbers;
        float *const state = pass->state + (size_t)b * pass->state_stride;
        int32_t *const step = kind == MAX ? (int32_t *)pass->tape + (size_t)b * numbers : NULL;
        const int32_t steps = trnn_row_steps(pass->lengths, b, 0, pass->steps);
        for (size_t i = 0; step && i < numbers; i++) step[i] = -1;
        for (int32_t t = 0; t < steps; t++)
            if (counts(mask, pass->batch, t, b))
                take_step(kind, state, x + (size_t)t * (size_t)pass->batch * numbers, numbers, step, t);
        write_row(kind, pass->y + (size_t)b * numbers, state, numbers);
        if (kind == MEAN) ((float *)pass->tape)[b] = steps_of(state + numbers);
    }
}

/* The gradients of a row's state, from those after the sequence to those of what each step took: d (numbers,). */
static void state_backward(const trnn_pass *pass, reduction kind, int32_t b, float *d, size_t numbers)
{
    const float *const dy = pass->dy + (size_t)b * numbers;
    const float steps = kind == MEAN ? ((const float *)pass->tape)[b] : 1.0f;
    for (size_t i = 0; i < numbers && steps > 0.0f; i++) d[i] += kind == MEAN ? dy[i] / steps : dy[i];
    for (size_t i = numbers; i < over_time_state(pass->layer); i++) d[i] = 0.0f; /* a count has none */
}

static void over_time_backward(const trnn_pass *pass)
{
    const float *const mask = trnn_pass_mask(pass);
    const reduction kind = reduction_of(pass->layer);
    const size_t numbers = trnn_frame_size(pass->in), bytes = numbers * sizeof(float);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *const d = pass->dstate + (size_t)b * pass->state_stride;
        const int32_t *const step = kind == MAX ? (const int32_t *)pass->tape + (size_t)b * numbers : NULL;
        const int32_t steps = trnn_row_steps(pass->lengths, b, 0, pass->steps),
                      last = last_counted(mask, pass->batch, steps, b);
        state_backward(pass, kind, b, d, numbers);
        for (int32_t t = 0; pass->dx && t < pass->steps; t++) {
            float *const dx = pass->dx + ((size_t)t * (size_t)pass->batch + (size_t)b) * numbers;
            if (t > last || kind == MAX || (kind == LAST && t < last) || !counts(mask, pass->batch, t, b))
                trnn_zero(dx, bytes);
            else
                trnn_copy(dx, d, bytes);
        }
        for (size_t i = 0; step && i < numbers; i++) {
            if (step[i] < 0) continue;
            if (pass->dx) pass->dx[((size_t)step[i] * (size_t)pass->batch + (size_t)b) * numbers + i] = d[i];
            d[i] = 0.0f;
        }
        if (kind == LAST && last >= 0) trnn_zero(d, bytes); /* the step takes the place of what was there */
    }
    trnn_mask_backward(pass);
}

#define OVER_TIME(name_, kind)                                                           \
    static const reduction name_##_kind = kind;                                          \
    const trnn_layer_type trnn_##name_ = {.name = #name_,                                \
                                          .check = over_time_check,                      \
                                          .frame = over_time_frame,                      \
                                          .masks = 1,                                    \
                                          .time = TRNN_TIME_REDUCE,                      \
                                          .state = over_time_state,                      \
                                          .run = over_time_run,                          \
                                          .family = &name_##_kind};                      \
    const trnn_layer_training trnn_##name_##_training = {.tape = over_time_tape,         \
                                                         .forward = over_time_forward,   \
                                                         .backward = over_time_backward, \
                                                         .sequences = 1}

OVER_TIME(last_step, LAST);
OVER_TIME(sum_steps, SUM);
OVER_TIME(mean_steps, MEAN);
OVER_TIME(max_steps, MAX);
