/* Number by number: relu, leaky relu, sigmoid, tanh. As in torch.nn. */
#include "layer.h"

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

static void activation_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    const trnn_map map = layer->kind == TRNN_RELU      ? TRNN_MAP_RELU
                         : layer->kind == TRNN_SIGMOID ? TRNN_MAP_SIGMOID
                         : layer->kind == TRNN_TANH    ? TRNN_MAP_TANH
                                                       : TRNN_MAP_LEAKY_RELU;
    const float slope = map == TRNN_MAP_LEAKY_RELU ? layer->as.activation.slope : 0.0f;
    const size_t numbers =
        (size_t)call->steps * (size_t)call->batch * (size_t)call->in.rows * (size_t)call->in.cols;
    call->isa->map_f32(map, call->x, call->y, numbers, slope);
}

#define ACTIVATION(symbol, text)     \
    const trnn_layer_type symbol = { \
        .name = text, .check = activation_check, .frame = activation_frame, .run = activation_run}

ACTIVATION(trnn_relu, "relu");
ACTIVATION(trnn_leaky_relu, "leaky_relu");
ACTIVATION(trnn_sigmoid, "sigmoid");
ACTIVATION(trnn_tanh, "tanh");

/* ---- what computes nothing: Identity (a Dropout at inference) and Flatten ------------------- */

static trnn_status flatten_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    if (in.rows > TRNN_SIZE_MAX / in.cols) return TRNN_E_SIZE;
    *out = (trnn_frame){1, in.rows * in.cols};
    return TRNN_OK;
}

const trnn_layer_type trnn_identity = {
    .name = "identity", .check = activation_check, .frame = activation_frame};
const trnn_layer_type trnn_flatten = {.name = "flatten", .check = activation_check, .frame = flatten_frame};
