/* x to a constant exponent, as torch.pow. */
#include "power.h"
#include "training.h"

const trnn_argument trnn_pow_arguments[] = {
    TRNN_LIVE_FLOAT_OF(pow, exponent),
    TRNN_END_OF(pow),
};

static trnn_status pow_check(const trnn_layer *layer)
{
    const float p = layer->as.pow.exponent;
    return p - p == 0.0f ? TRNN_OK : TRNN_E_ARGUMENT; /* finite */
}

static trnn_status pow_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

static void pow_run(const trnn_call *call)
{
    const float *x = call->x, p = call->layer->as.pow.exponent;
    const size_t numbers = (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
    for (size_t i = 0; i < numbers; i++) call->y[i] = trnn_power_of(x[i], p);
}

/* dx = p x^(p - 1) dy */
static void pow_backward(const trnn_pass *pass)
{
    const float *x = pass->x, p = pass->layer->as.pow.exponent;
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    if (!pass->dx) return;
    for (size_t i = 0; i < numbers; i++)
        pass->dx[i] = p == 0.0f ? 0.0f : pass->dy[i] * (p * trnn_power_of(x[i], p - 1.0f));
}

const trnn_layer_type trnn_pow = {
    .name = "pow",
    .check = pow_check,
    .frame = pow_frame,
    .run = pow_run,
};

const trnn_layer_training trnn_pow_training = {.backward = pow_backward};
