/* What was read some steps before. It may read a value that is computed later, so a net can feed back. */
#include "training.h"

const trnn_argument trnn_delay_arguments[] = {
    TRNN_INT_OF(delay, planes), TRNN_INT_OF(delay, rows), TRNN_INT_OF(delay, cols),
    TRNN_INT_OF(delay, steps),  TRNN_END_OF(delay),
};

static trnn_frame own_frame(const trnn_layer *layer)
{
    const trnn_delay_args *a = &layer->as.delay;
    return (trnn_frame){a->planes, a->rows, a->cols};
}

static trnn_status delay_check(const trnn_layer *layer)
{
    if (!trnn_is_frame(own_frame(layer)) || !trnn_is_size(layer->as.delay.steps)) return TRNN_E_ARGUMENT;
    return trnn_frame_size(own_frame(layer)) > (size_t)TRNN_SIZE_MAX ? TRNN_E_SIZE : TRNN_OK;
}

/* The plan compares it with the frame of the value that it reads, which may not be known yet. */
static trnn_status delay_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)in;
    *out = own_frame(layer);
    return TRNN_OK;
}

/* The last `steps` frames, the oldest first. */
static size_t delay_state(const trnn_layer *layer)
{
    return trnn_times(trnn_frame_size(own_frame(layer)), (size_t)layer->as.delay.steps);
}

/* One value, the frame of each of them. */
static int delay_start(const trnn_layer *layer, int32_t r, int32_t p, trnn_start_part *part)
{
    const size_t numbers = trnn_frame_size(own_frame(layer));
    *part = (trnn_start_part){(size_t)p * numbers, 0, numbers};
    return r == 0 && p < layer->as.delay.steps;
}

static int has_ended(const int32_t *lengths, int32_t b, int32_t step)
{
    return lengths && lengths[b] <= step;
}

/* One row at one step: y is the oldest frame, or 0 beyond the row's end. */
static void delay_row(float *y, const float *state, size_t bytes, int ended)
{
    if (ended)
        trnn_zero(y, bytes);
    else
        trnn_copy(y, state, bytes);
}

/* x follows the frames of the state, and the oldest one leaves it. */
static void take_row(float *state, const float *x, size_t numbers, size_t all)
{
    for (size_t i = numbers; i < all; i++) state[i - numbers] = state[i];
    trnn_copy(state + all - numbers, x, numbers * sizeof(float));
}

static void delay_run(const trnn_call *call)
{
    const size_t numbers = trnn_frame_size(call->out);
    for (int32_t b = 0; b < call->batch; b++)
        delay_row(call->y + (size_t)b * numbers, call->state + (size_t)b * call->state_stride,
                  numbers * sizeof(float), has_ended(call->lengths, b, call->start));
}

static void delay_after(const trnn_call *call)
{
    const size_t numbers = trnn_frame_size(call->out), all = delay_state(call->layer);
    for (int32_t b = 0; b < call->batch; b++)
        if (!has_ended(call->lengths, b, call->start))
            take_row(call->state + (size_t)b * call->state_stride,
                     (const float *)call->x + (size_t)b * numbers, numbers, all);
}

/* ---- training: the gradient of the state moves the other way ----------------------------------------- */

/* Row b at the pass's step of an array of frames. */
static size_t frame_place(const trnn_pass *pass, int32_t b)
{
    return ((size_t)pass->from * (size_t)pass->batch + (size_t)b) * trnn_frame_size(pass->out);
}

static void delay_forward(const trnn_pass *pass)
{
    const size_t bytes = trnn_frame_size(pass->out) * sizeof(float);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++)
        delay_row(pass->y + frame_place(pass, b), pass->state + (size_t)b * pass->state_stride, bytes,
                  has_ended(pass->lengths, b, pass->from));
}

static void delay_forward_after(const trnn_pass *pass)
{
    const size_t numbers = trnn_frame_size(pass->out), all = delay_state(pass->layer);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++)
        if (!has_ended(pass->lengths, b, pass->from))
            take_row(pass->state + (size_t)b * pass->state_stride,
                     (const float *)pass->x + frame_place(pass, b), numbers, all);
}

/* dx is the gradient of the newest frame. */
static void delay_after_backward(const trnn_pass *pass)
{
    const size_t numbers = trnn_frame_size(pass->out), all = delay_state(pass->layer);
    for (int32_t b = pass->first; pass->dx && b < pass->first + pass->rows; b++)
        delay_row(pass->dx + frame_place(pass, b),
                  pass->dstate + (size_t)b * pass->state_stride + all - numbers, numbers * sizeof(float),
                  has_ended(pass->lengths, b, pass->from));
}

/* The gradients of the others are those of the frames before the step, and dy is that of the oldest. */
static void delay_backward(const trnn_pass *pass)
{
    const size_t numbers = trnn_frame_size(pass->out), all = delay_state(pass->layer);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *dstate = pass->dstate + (size_t)b * pass->state_stride;
        if (has_ended(pass->lengths, b, pass->from)) continue;
        for (size_t i = all; i > numbers; i--) dstate[i - 1] = dstate[i - 1 - numbers];
        trnn_copy(dstate, pass->dy + frame_place(pass, b), numbers * sizeof(float));
    }
}

const trnn_layer_type trnn_delay = {
    .name = "delay",
    .check = delay_check,
    .frame = delay_frame,
    .start = delay_start,
    .state = delay_state,
    .run = delay_run,
    .after = delay_after,
    .loops = trnn_find_loops,
};

const trnn_layer_training trnn_delay_training = {
    .forward = delay_forward,
    .backward = delay_backward,
    .after = delay_forward_after,
    .after_backward = delay_after_backward,
    .sequences = 1,
};
