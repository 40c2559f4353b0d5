/* y = W x + b over the last axis of a frame. As torch.nn.Linear. */
#include "layer.h"

static trnn_status linear_check(const trnn_layer *layer)
{
    const trnn_linear_args *a = &layer->as.linear;
    if (!trnn_is_size(a->in_features) || !trnn_is_size(a->out_features)) return TRNN_E_ARGUMENT;
    if (!trnn_is_depth(layer->format, a->in_features)) return TRNN_E_SIZE;
    return trnn_is_flag(a->bias) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status linear_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_linear_args *a = &layer->as.linear;
    if (in.cols != a->in_features) return TRNN_E_SHAPE;
    *out = (trnn_frame){in.rows, a->out_features};
    return TRNN_OK;
}

static int32_t linear_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_linear_args *a = &layer->as.linear;
    const int32_t units = a->out_features;
    params[0] = trnn_param_panels("weight", layer->format, 1, units, a->in_features);
    params[1] = a->bias ? trnn_param_bias("bias", 1, units) : trnn_param_absent();
    return 2;
}

static size_t linear_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                             int32_t steps)
{
    (void)out;
    const size_t rows = trnn_times(trnn_times((size_t)steps, (size_t)batch), (size_t)in.rows);
    if (rows > (size_t)TRNN_SIZE_MAX) return SIZE_MAX;
    return trnn_product_scratch(layer->format, (int32_t)rows, in.cols);
}

static void linear_run(const trnn_call *call)
{
    const trnn_linear_args *a = &call->layer->as.linear;
    const trnn_matrix matrix =
        trnn_matrix_of(call->weights[0], call->layer->format, 1, a->out_features, a->in_features);
    trnn_product product = trnn_product_of(matrix, call->steps * call->batch * call->in.rows, a->out_features,
                                           call->weights[1], call->x, call->y, call->scratch);
    product.backwards = call->backwards;
    call->isa->product(&product);
}

const trnn_layer_type trnn_linear = {
    .name = "linear",
    .check = linear_check,
    .frame = linear_frame,
    .params = linear_params,
    .scratch = linear_scratch,
    .run = linear_run,
};
