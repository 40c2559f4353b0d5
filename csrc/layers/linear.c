/* y = W x + b over the last axis of a frame. As torch.nn.Linear. */
#include "training.h"

const trnn_argument trnn_linear_arguments[] = {
    TRNN_INT_OF(linear, in_features),
    TRNN_INT_OF(linear, out_features),
    TRNN_INT_OF(linear, bias),
    TRNN_END_OF(linear),
};

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
    *out = (trnn_frame){in.planes, in.rows, a->out_features};
    return TRNN_OK;
}

static int32_t linear_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_linear_args *a = &layer->as.linear;
    const int32_t units = a->out_features;
    trnn_param_panels(&params[0], "weight", layer->format, 1, units, a->in_features);
    if (a->bias) trnn_param_bias(&params[1], "bias", 1, units);
    return 2;
}

static size_t linear_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                             int32_t steps)
{
    (void)out;
    const size_t rows = trnn_times(trnn_times((size_t)steps, (size_t)batch), trnn_frame_rows(in));
    if (rows > (size_t)TRNN_SIZE_MAX) return SIZE_MAX;
    return trnn_product_scratch(layer->format, (int32_t)rows, in.cols);
}

static trnn_matrix linear_matrix(const trnn_layer *layer, const void *weights)
{
    const trnn_linear_args *a = &layer->as.linear;
    return trnn_matrix_of(weights, layer->format, 1, a->out_features, a->in_features);
}

static void linear_run(const trnn_call *call)
{
    const trnn_linear_args *a = &call->layer->as.linear;
    const trnn_matrix matrix = linear_matrix(call->layer, call->weights[0]);
    trnn_product product =
        trnn_product_of(matrix, call->steps * call->batch * (int32_t)trnn_frame_rows(call->in),
                        a->out_features, call->weights[1], call->x, call->y, call->scratch);
    product.descending = call->descending;
    TRNN_KERNEL(call->isa, product)(&product);
}

/* ---- training: the transpose of W on the tape, dx = W^T dy, dW += dy x^T, db += dy ------------------ */

static size_t linear_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                          int32_t steps)
{
    (void)batch, (void)steps, (void)layer;
    return trnn_times(trnn_transposed_size(out.cols, in.cols), sizeof(float));
}

static void linear_transpose(const trnn_pass *pass)
{
    if (pass->dx)
        trnn_transpose(linear_matrix(pass->layer, pass->weights[0]), pass->out.cols, pass->tape, pass->part,
                       pass->parts);
}

static void linear_backward(const trnn_pass *pass)
{
    if (!pass->dx) return;
    const trnn_matrix transposed = trnn_transposed_matrix(pass->tape, pass->out.cols, pass->in.cols);
    const trnn_product product = trnn_product_of(transposed, pass->rows * (int32_t)trnn_frame_rows(pass->in),
                                                 pass->in.cols, NULL, pass->dy, pass->dx, NULL);
    TRNN_KERNEL(pass->isa, product)(&product);
}

static void linear_gradients(const trnn_pass *pass)
{
    const trnn_weight_gradient gradient = trnn_weight_gradient_of(
        pass, linear_matrix(pass->layer, pass->weights[0]), pass->rows * (int32_t)trnn_frame_rows(pass->in),
        pass->out.cols, pass->dy, pass->x, pass->grads[0], pass->grads[1]);
    TRNN_KERNEL(pass->isa, weight_gradient)(&gradient);
}

const trnn_layer_type trnn_linear = {
    .name = "linear",
    .check = linear_check,
    .frame = linear_frame,
    .params = linear_params,
    .scratch = linear_scratch,
    .run = linear_run,
};

const trnn_layer_training trnn_linear_training = {
    .tape = linear_tape,
    .transpose = linear_transpose,
    .backward = linear_backward,
    .gradients = linear_gradients,
};
