/* y = W x + b over the last axis of a frame. As torch.nn.Linear. */
#include "layer.h"

static trnn_status linear_check(const trnn_layer *layer)
{
    const trnn_linear_args *a = &layer->as.linear;
    if (!trnn_is_size(a->in_features) || !trnn_is_size(a->out_features)) return TRNN_E_ARGUMENT;
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
    params[0] = trnn_param_panels("weight", 2, 1, units, a->in_features);
    params[1] = a->bias ? trnn_param_panels("bias", 1, 1, units, 1) : trnn_param_absent();
    return 2;
}

static void linear_run(const trnn_call *call)
{
    const trnn_product product = trnn_product_of(
        call->steps * call->batch * call->in.rows, call->layer->as.linear.in_features,
        call->layer->as.linear.out_features, call->weights[0], call->weights[1], call->x, call->y);
    call->isa->product_f32(&product);
}

const trnn_layer_type trnn_linear = {
    .name = "linear",
    .check = linear_check,
    .frame = linear_frame,
    .params = linear_params,
    .run = linear_run,
};
