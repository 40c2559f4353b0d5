/* Layers that map each number by itself: activations as in torch.nn, and functions. kernels/maps.def has the formulas. */
#include "training.h"

const trnn_argument trnn_activation_arguments[] = {
    TRNN_LIVE_FLOAT_OF(activation, slope),
    TRNN_END_OF(activation),
};

const trnn_argument trnn_elu_arguments[] = {
    TRNN_LIVE_FLOAT_OF(elu, alpha),
    TRNN_LIVE_FLOAT_OF(elu, scale),
    TRNN_LIVE_FLOAT_OF(elu, rate),
    TRNN_END_OF(elu),
};

const trnn_argument trnn_softplus_arguments[] = {
    TRNN_LIVE_FLOAT_OF(softplus, beta),
    TRNN_LIVE_FLOAT_OF(softplus, threshold),
    TRNN_END_OF(softplus),
};

const trnn_argument trnn_clip_arguments[] = {
    TRNN_LIVE_FLOAT_OF(clip, min),
    TRNN_LIVE_FLOAT_OF(clip, max),
    TRNN_END_OF(clip),
};

const trnn_argument trnn_scale_arguments[] = {
    TRNN_LIVE_FLOAT_OF(scale, scale),
    TRNN_LIVE_FLOAT_OF(scale, shift),
    TRNN_END_OF(scale),
};

static trnn_status any_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status elu_check(const trnn_layer *layer)
{
    return layer->as.elu.rate > 0.0f ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status softplus_check(const trnn_layer *layer)
{
    const float beta = layer->as.softplus.beta;
    return beta < 0.0f || beta > 0.0f ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status clip_check(const trnn_layer *layer)
{
    return layer->as.clip.min <= layer->as.clip.max ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status elementwise_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

/* The arguments of a layer, which are floats only, as its map's constants. */
static const float *constants_of(const trnn_layer *layer) { return (const float *)(const void *)&layer->as; }

static size_t numbers_of_call(const trnn_call *call)
{
    return (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
}

static size_t numbers_of_pass(const trnn_pass *pass)
{
    return (size_t)pass->rows * trnn_frame_size(pass->in);
}

/* The layer `name`, which is the map of that name. */
#define ELEMENTWISE(name_, check_)                                                                \
    static void name_##_run(const trnn_call *call)                                                \
    {                                                                                             \
        TRNN_KERNEL(call->isa, map_##name_)                                                       \
        (call->x, call->y, numbers_of_call(call), constants_of(call->layer));                     \
    }                                                                                             \
    static void name_##_backward(const trnn_pass *pass)                                           \
    {                                                                                             \
        if (!pass->dx) return;                                                                    \
        TRNN_KERNEL(pass->isa, map_##name_##_back)                                                \
        (pass->x, pass->y, pass->dy, pass->dx, numbers_of_pass(pass), constants_of(pass->layer)); \
    }                                                                                             \
    const trnn_layer_type trnn_##name_ = {                                                        \
        .name = #name_, .check = check_, .frame = elementwise_frame, .run = name_##_run};         \
    const trnn_layer_training trnn_##name_##_training = {.backward = name_##_backward}

ELEMENTWISE(relu, any_check);
ELEMENTWISE(leaky_relu, any_check);
ELEMENTWISE(sigmoid, any_check);
ELEMENTWISE(tanh, any_check);
ELEMENTWISE(elu, elu_check);
ELEMENTWISE(gelu, any_check);
ELEMENTWISE(gelu_tanh, any_check);
ELEMENTWISE(silu, any_check);
ELEMENTWISE(mish, any_check);
ELEMENTWISE(softplus, softplus_check);
ELEMENTWISE(softsign, any_check);
ELEMENTWISE(tanhshrink, any_check);
ELEMENTWISE(hardtanh, clip_check);
ELEMENTWISE(hardsigmoid, any_check);
ELEMENTWISE(hardswish, any_check);

ELEMENTWISE(exp, any_check);
ELEMENTWISE(log, any_check);
ELEMENTWISE(sqrt, any_check);
ELEMENTWISE(abs, any_check);
ELEMENTWISE(sign, any_check);
ELEMENTWISE(neg, any_check);
ELEMENTWISE(reciprocal, any_check);
ELEMENTWISE(scale, any_check);
ELEMENTWISE(clip, clip_check);
