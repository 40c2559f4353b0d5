/* x above 0, else weight x, as torch.nn.PReLU. Channels are a frame's first axis that is
 * longer than 1: planes, rows or columns. */
#include "training.h"

const trnn_argument trnn_prelu_arguments[] = {
    TRNN_INT_OF(prelu, num_parameters),
    TRNN_END_OF(prelu),
};

static trnn_status prelu_check(const trnn_layer *layer)
{
    return trnn_is_size(layer->as.prelu.num_parameters) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status prelu_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const int32_t count = layer->as.prelu.num_parameters;
    const int32_t channels = in.planes > 1 ? in.planes : in.rows > 1 ? in.rows : in.cols;
    if (count != 1 && count != channels) return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

static int32_t prelu_params(const trnn_layer *layer, trnn_param *params)
{
    trnn_param_vector(&params[0], "weight", layer->as.prelu.num_parameters);
    return 1;
}

/* Numbers of a frame that share a weight. */
static size_t numbers_of_weight(const trnn_layer *layer, trnn_frame in)
{
    return trnn_frame_size(in) / (size_t)layer->as.prelu.num_parameters;
}

/* to = from where x is above 0, else weight from: y from x, and dx from dy. `numbers` are those of all frames. */
static void prelu_apply(const trnn_layer *layer, trnn_frame in, size_t numbers, const float *weight,
                        const float *x, const float *from, float *to)
{
    const size_t each = numbers_of_weight(layer, in), channels = (size_t)layer->as.prelu.num_parameters;
    if (each == 1) {
        for (size_t first = 0; first < numbers; first += channels)
            for (size_t c = 0; c < channels; c++) {
                const size_t i = first + c;
                to[i] = x[i] > 0.0f ? from[i] : from[i] * weight[c];
            }
        return;
    }
    for (size_t first = 0, c = 0; first < numbers; first += each, c = c + 1 == channels ? 0 : c + 1) {
        const float slope = weight[c];
        for (size_t i = first; i < first + each; i++) to[i] = x[i] > 0.0f ? from[i] : from[i] * slope;
    }
}

static void prelu_run(const trnn_call *call)
{
    const size_t frames = (size_t)call->steps * (size_t)call->batch;
    prelu_apply(call->layer, call->in, frames * trnn_frame_size(call->in), call->weights[0], call->x, call->x,
                call->y);
}

static void prelu_backward(const trnn_pass *pass)
{
    if (!pass->dx) return;
    prelu_apply(pass->layer, pass->in, (size_t)pass->rows * trnn_frame_size(pass->in), pass->weights[0],
                pass->x, pass->dy, pass->dx);
}

/* dweight is the sum of x dy where x is not above 0. */
static void prelu_gradients(const trnn_pass *pass)
{
    const size_t channels = (size_t)pass->layer->as.prelu.num_parameters;
    const size_t each = numbers_of_weight(pass->layer, pass->in), frames = (size_t)pass->rows;
    const float *x = pass->x, *dy = pass->dy;
    if (!pass->grads[0]) return;
    for (size_t c = (size_t)pass->part; c < channels; c += (size_t)pass->parts) {
        double sum = 0.0;
        for (size_t frame = 0; frame < frames; frame++)
            for (size_t i = (frame * channels + c) * each, end = i + each; i < end; i++)
                sum += x[i] > 0.0f ? 0.0 : (double)x[i] * (double)dy[i];
        pass->grads[0][c] += (float)sum;
    }
}

const trnn_layer_type trnn_prelu = {
    .name = "prelu",
    .check = prelu_check,
    .frame = prelu_frame,
    .params = prelu_params,
    .run = prelu_run,
};

const trnn_layer_training trnn_prelu_training = {
    .backward = prelu_backward,
    .gradients = prelu_gradients,
};
