/* exp(x - max) / sum, over a frame's last axis or over its channels, or the logarithm of that.
 * As torch.nn.Softmax and torch.nn.LogSoftmax. */
#include "layer.h"

static trnn_status softmax_check(const trnn_layer *layer)
{
    return trnn_is_flag(layer->as.softmax.over_rows) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status softmax_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

/* One column of a frame, gathered. */
static size_t softmax_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)out, (void)batch, (void)steps;
    return layer->as.softmax.over_rows ? trnn_times((size_t)in.rows, sizeof(float)) : 0;
}

static void softmax_run(const trnn_call *call)
{
    const int log = call->layer->kind == TRNN_LOG_SOFTMAX;
    const size_t rows = (size_t)call->in.rows, cols = (size_t)call->in.cols;
    const float *x = call->x;
    float *y = call->y;
    for (int64_t n = (int64_t)call->steps * call->batch; n > 0; n--, x += rows * cols, y += rows * cols) {
        if (call->layer->as.softmax.over_rows) {
            float *column = call->scratch;
            for (size_t c = 0; c < cols; c++) {
                for (size_t r = 0; r < rows; r++) column[r] = x[r * cols + c];
                call->isa->softmax_f32(column, column, rows, log);
                for (size_t r = 0; r < rows; r++) y[r * cols + c] = column[r];
            }
        } else {
            for (size_t r = 0; r < rows; r++) call->isa->softmax_f32(x + r * cols, y + r * cols, cols, log);
        }
    }
}

const trnn_layer_type trnn_softmax = {
    .name = "softmax",
    .check = softmax_check,
    .frame = softmax_frame,
    .scratch = softmax_scratch,
    .run = softmax_run,
};
const trnn_layer_type trnn_log_softmax = {
    .name = "log_softmax",
    .check = softmax_check,
    .frame = softmax_frame,
    .scratch = softmax_scratch,
    .run = softmax_run,
};
