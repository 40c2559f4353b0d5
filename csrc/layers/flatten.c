/* Layers that compute nothing: identity, and flatten as in torch.nn. y is x. */
#include "training.h"

static trnn_status identity_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status identity_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

static trnn_status flatten_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    const size_t numbers = trnn_frame_size(in);
    if (numbers > (size_t)TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){1, 1, (int32_t)numbers};
    return TRNN_OK;
}

const trnn_argument trnn_none_arguments[] = {{NULL, offsetof(trnn_layer, as), TRNN_INT32, 0}};

const trnn_layer_type trnn_identity = {.name = "identity", .check = identity_check, .frame = identity_frame};
const trnn_layer_type trnn_flatten = {.name = "flatten", .check = identity_check, .frame = flatten_frame};

const trnn_layer_training trnn_identity_training = {.backward = NULL};
const trnn_layer_training trnn_flatten_training = {.backward = NULL};
