/* Layers that compute nothing: identity, and other shapes of a frame. y is x. */
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

const trnn_argument trnn_reshape_arguments[] = {
    TRNN_INT_OF(reshape, planes),
    TRNN_INT_OF(reshape, rows),
    TRNN_INT_OF(reshape, cols),
    TRNN_END_OF(reshape),
};

static trnn_status reshape_check(const trnn_layer *layer)
{
    const trnn_reshape_args *a = &layer->as.reshape;
    const int32_t size[] = {a->planes, a->rows, a->cols};
    int open = 0;
    for (int i = 0; i < 3; i++) {
        if (size[i] != -1 && !trnn_is_size(size[i])) return TRNN_E_ARGUMENT;
        open += size[i] == -1;
    }
    return open > 1 ? TRNN_E_ARGUMENT : TRNN_OK;
}

static trnn_status reshape_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_reshape_args *a = &layer->as.reshape;
    const size_t numbers = trnn_frame_size(in);
    *out = (trnn_frame){a->planes, a->rows, a->cols};
    int32_t *open = a->planes == -1 ? &out->planes
                    : a->rows == -1 ? &out->rows
                    : a->cols == -1 ? &out->cols
                                    : NULL;
    if (open) {
        *open = 1;
        const size_t others = trnn_frame_size(*out);
        if (numbers / others > (size_t)TRNN_SIZE_MAX) return TRNN_E_SIZE;
        *open = (int32_t)(numbers / others);
    }
    return trnn_frame_size(*out) == numbers && numbers ? TRNN_OK : TRNN_E_SHAPE;
}

const trnn_argument trnn_none_arguments[] = {{NULL, offsetof(trnn_layer, as), TRNN_INT32, 0}};

const trnn_layer_type trnn_identity = {.name = "identity", .check = identity_check, .frame = identity_frame};
const trnn_layer_type trnn_flatten = {.name = "flatten", .check = identity_check, .frame = flatten_frame};
const trnn_layer_type trnn_reshape = {.name = "reshape", .check = reshape_check, .frame = reshape_frame};

const trnn_layer_training trnn_identity_training = {.backward = NULL};
const trnn_layer_training trnn_flatten_training = {.backward = NULL};
const trnn_layer_training trnn_reshape_training = {.backward = NULL};
