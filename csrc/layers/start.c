/* The state that a layer begins with, where that is values of the net: how they get into a row's state, and how the
 * gradient of that state gets back to them.
 *
 * Behind the layer's own numbers a row's state has one more, the mark: 0 before the row's first step, then 1. So a state
 * of zeros begins, and one that is carried on from an earlier call does not begin again, row by row.
 */
#include "training.h"

/* Numbers of a frame that has been checked. */
static size_t start_size(trnn_frame in) { return (size_t)in.planes * (size_t)in.rows * (size_t)in.cols; }

/* Loads a row's r-th value. */
static void load(const trnn_layer *layer, int32_t r, const float *value, float *state)
{
    trnn_start_part part;
    for (int32_t p = 0; layer->type->start(layer, r, p, &part); p++)
        trnn_copy(state + part.state, value + part.value, part.size * sizeof(float));
}

void trnn_start_run(const trnn_call *call, size_t numbers)
{
    const int32_t first = trnn_call_mask(call) != NULL;
    float *state = call->state;
    for (size_t b = 0; b < (size_t)call->batch; b++, state += call->state_stride) {
        if (state[numbers] != 0) continue;
        state[numbers] = 1;
        for (int32_t r = first; r < call->count; r++) {
            const trnn_read *read = &call->others[r];
            load(call->layer, r - first, read->x + b * start_size(read->in), state);
        }
    }
}

void trnn_start_forward(const trnn_pass *pass, size_t numbers, float *began)
{
    const int32_t first = trnn_pass_mask(pass) != NULL;
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *state = pass->state + (size_t)b * pass->state_stride;
        began[b] = state[numbers] == 0;
        if (began[b] == 0) continue;
        state[numbers] = 1;
        for (int32_t r = first; r < pass->count; r++) {
            const trnn_pass_read *read = &pass->others[r];
            load(pass->layer, r - first, read->x + (size_t)b * start_size(read->in), state);
        }
    }
}

void trnn_start_backward(const trnn_pass *pass, const float *began)
{
    const int32_t first = trnn_pass_mask(pass) != NULL;
    trnn_start_part part;
    for (int32_t r = first; r < pass->count; r++) {
        const trnn_pass_read *read = &pass->others[r];
        const size_t size = start_size(read->in);
        for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
            float *dstate = pass->dstate + (size_t)b * pass->state_stride;
            float *dx = read->dx ? read->dx + (size_t)b * size : NULL;
            if (dx) trnn_zero(dx, size * sizeof(float));
            if (pass->from > 0 || began[b] == 0) continue;
            for (int32_t p = 0; pass->layer->type->start(pass->layer, r - first, p, &part); p++) {
                for (size_t i = 0; dx && i < part.size; i++) dx[part.value + i] += dstate[part.state + i];
                trnn_zero(dstate + part.state, part.size * sizeof(float));
            }
        }
    }
}
