/* Layers that map each number by itself: relu, leaky relu, sigmoid, tanh, dropout; and those that compute nothing:
 * identity, flatten. As in torch.nn. */
#include "training.h"

const trnn_argument trnn_activation_arguments[] = {
    TRNN_LIVE_FLOAT_OF(activation, slope),
    TRNN_END_OF(activation),
};

static trnn_status activation_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status activation_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

/* The map of a layer: its type's `family`. */
static trnn_map map_of(const trnn_layer *layer) { return *(const trnn_map *)layer->type->family; }

/* Only leaky_relu has this argument. */
static float slope_of(const trnn_layer *layer)
{
    return map_of(layer) == TRNN_MAP_LEAKY_RELU ? layer->as.activation.slope : 0.0f;
}

static void activation_run(const trnn_call *call)
{
    const size_t numbers = (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
    TRNN_KERNEL(call->isa, map_f32)(map_of(call->layer), call->x, call->y, numbers, slope_of(call->layer));
}

/* dx = f'(x) dy; the slopes of sigmoid and tanh are computed from y. The slopes of relu and leaky_relu at 0 are
 * PyTorch's. relu does not multiply, so dx is 0 where it is flat, even if dy is infinite. Where x is NaN, dx is dy. */
static void activation_backward(const trnn_pass *pass)
{
    const trnn_map map = map_of(pass->layer);
    const float slope = slope_of(pass->layer);
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    const float *x = pass->x, *y = pass->y, *dy = pass->dy;
    float *dx = pass->dx;
    if (!dx) return;
    if (map == TRNN_MAP_SIGMOID)
        for (size_t i = 0; i < numbers; i++) dx[i] = dy[i] * (y[i] * (1.0f - y[i]));
    else if (map == TRNN_MAP_TANH)
        for (size_t i = 0; i < numbers; i++) dx[i] = dy[i] * (1.0f - y[i] * y[i]);
    else if (map == TRNN_MAP_RELU)
        for (size_t i = 0; i < numbers; i++) dx[i] = x[i] <= 0.0f ? __builtin_copysignf(0.0f, dy[i]) : dy[i];
    else
        for (size_t i = 0; i < numbers; i++) dx[i] = x[i] > 0.0f ? dy[i] : dy[i] * slope;
}

#define ACTIVATION(name_, map)                                       \
    static const trnn_map name_##_map = map;                         \
    const trnn_layer_type trnn_##name_ = {.name = #name_,            \
                                          .check = activation_check, \
                                          .frame = activation_frame, \
                                          .run = activation_run,     \
                                          .family = &name_##_map};   \
    const trnn_layer_training trnn_##name_##_training = {.backward = activation_backward}

ACTIVATION(relu, TRNN_MAP_RELU);
ACTIVATION(leaky_relu, TRNN_MAP_LEAKY_RELU);
ACTIVATION(sigmoid, TRNN_MAP_SIGMOID);
ACTIVATION(tanh, TRNN_MAP_TANH);

/* ---- Identity and Flatten: y is x ---------------------------------------------------------------- */

static trnn_status flatten_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    const size_t numbers = trnn_frame_size(in);
    if (numbers > (size_t)TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){1, 1, (int32_t)numbers};
    return TRNN_OK;
}

const trnn_argument trnn_none_arguments[] = {{NULL, offsetof(trnn_layer, as), TRNN_INT32, 0}};

const trnn_layer_type trnn_identity = {
    .name = "identity", .check = activation_check, .frame = activation_frame};
const trnn_layer_type trnn_flatten = {.name = "flatten", .check = activation_check, .frame = flatten_frame};

const trnn_layer_training trnn_identity_training = {.backward = NULL};
const trnn_layer_training trnn_flatten_training = {.backward = NULL};

/* ---- Dropout: outside training y is x ----------------------------------------------------------- */

const trnn_argument trnn_dropout_arguments[] = {
    TRNN_LIVE_FLOAT_OF(dropout, p),
    TRNN_END_OF(dropout),
};

static trnn_status dropout_check(const trnn_layer *layer)
{
    return layer->as.dropout.p >= 0.0f && layer->as.dropout.p <= 1.0f ? TRNN_OK : TRNN_E_ARGUMENT;
}

/* A pseudo-random number of 24 bits for place i: a multiply-and-shift hash with full avalanche ("lowbias32" of
 * Wellons's hash-prospector), keyed twice. It has no state, so the order of rows and parts does not matter. */
static uint32_t hashed(const uint32_t seed[2], size_t i)
{
    uint32_t h = (uint32_t)i ^ seed[0];
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h = (h ^ h >> 16) + seed[1] + (uint32_t)((uint64_t)i >> 32);
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return (h ^ h >> 16) >> 8;
}

/* to = from / (1 - p) where the place is kept, else 0: y from x, and dx from dy. */
static void drop(const trnn_pass *pass, const float *from, float *to)
{
    const float p = pass->layer->as.dropout.p, scale = p < 1.0f ? 1.0f / (1.0f - p) : 0.0f;
    const size_t size = trnn_frame_size(pass->in);
    const size_t first = pass->frame * size, numbers = (size_t)pass->rows * size;
    const uint32_t dropped = (uint32_t)((double)p * 16777216.0);
    for (size_t i = 0; i < numbers; i++)
        to[i] = hashed(pass->seed, first + i) < dropped ? 0.0f : from[i] * scale;
}

static void dropout_forward(const trnn_pass *pass) { drop(pass, pass->x, pass->y); }

static void dropout_backward(const trnn_pass *pass)
{
    if (pass->dx) drop(pass, pass->dy, pass->dx);
}

const trnn_layer_type trnn_dropout = {
    .name = "dropout",
    .check = dropout_check,
    .frame = activation_frame,
};

const trnn_layer_training trnn_dropout_training = {
    .forward = dropout_forward,
    .backward = dropout_backward,
};
