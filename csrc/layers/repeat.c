/* One frame a sequence at each of the sequence's steps, zeros beyond a row's end. A second value that it reads gives only
 * the axis of time. */
#include "several.h"

static trnn_status repeat_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status repeat_join(const trnn_layer *layer, const trnn_frame *in, int32_t count, trnn_frame *out)
{
    (void)layer;
    *out = in[0];
    return count <= 2 ? TRNN_OK : TRNN_E_GRAPH;
}

static void copy_frames(const trnn_walk *w, const int32_t *lengths, int32_t start, size_t numbers,
                        const float *x, float *y)
{
    const size_t bytes = numbers * sizeof(float);
    for (int32_t t = w->from; t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++) {
            float *const to = y + trnn_walk_at(w, t, b, 0) * numbers;
            if (lengths && lengths[b] <= start + t)
                trnn_zero(to, bytes);
            else
                trnn_copy(to, x + (size_t)b * numbers, bytes);
        }
}

static void repeat_run(const trnn_call *call)
{
    const trnn_walk w = trnn_walk_of_call(call);
    copy_frames(&w, call->lengths, call->start, trnn_frame_size(call->in), call->x, call->y);
}

static void repeat_forward(const trnn_pass *pass)
{
    const trnn_walk w = trnn_walk_of_pass(pass);
    copy_frames(&w, pass->lengths, 0, trnn_frame_size(pass->in), pass->x, pass->y);
}

/* dx is a sum over the steps, in ascending order; within a loop, over the step at hand. */
static void repeat_backward(const trnn_pass *pass)
{
    const trnn_walk w = trnn_walk_of_pass(pass);
    const size_t numbers = trnn_frame_size(pass->in);
    const trnn_pass_read *const axis = pass->count ? &pass->others[0] : NULL;
    for (int32_t b = w.first; b < w.first + w.rows; b++) {
        float *const dx = pass->dx ? pass->dx + (size_t)b * numbers : NULL;
        if (dx) trnn_zero(dx, numbers * sizeof(float));
        for (int32_t t = w.from; t < w.to; t++) {
            const float *const dy = pass->dy + trnn_walk_at(&w, t, b, 0) * numbers;
            if (axis && axis->dx) {
                const size_t size = trnn_frame_size(axis->in);
                trnn_zero(axis->dx + trnn_walk_at(&w, t, b, 0) * size, size * sizeof(float));
            }
            for (size_t i = 0; dx && (!pass->lengths || t < pass->lengths[b]) && i < numbers; i++)
                dx[i] += dy[i];
        }
    }
}

const trnn_layer_type trnn_repeat = {
    .name = "repeat",
    .check = repeat_check,
    .join = repeat_join,
    .time = TRNN_TIME_SPREAD,
    .run = repeat_run,
};

const trnn_layer_training trnn_repeat_training = {
    .forward = repeat_forward,
    .backward = repeat_backward,
    .sequences = 1,
};
