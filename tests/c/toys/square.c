/* A toy layer, x * x of each number, in plain C. */
#include "training.h"

static trnn_status square_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status square_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

static void square_run(const trnn_call *call)
{
    const size_t numbers = (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
    const float *x = call->x;
    for (size_t i = 0; i < numbers; i++) call->y[i] = x[i] * x[i];
}

static void square_backward(const trnn_pass *pass)
{
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    const float *x = pass->x;
    for (size_t i = 0; pass->dx && i < numbers; i++) pass->dx[i] = pass->dy[i] * (x[i] + x[i]);
}

const trnn_layer_type trnn_square = {
    .name = "square", .check = square_check, .frame = square_frame, .run = square_run};
const trnn_layer_training trnn_square_training = {.backward = square_backward};
