/* exp(x - max) / sum, over a frame's last axis or over its channels, or the logarithm of that.
 * As torch.nn.Softmax and torch.nn.LogSoftmax. */
#include "training.h"

/* `family` of the type: 1 for the logarithm. */
static const int plain = 0, logarithm = 1;

static int is_log(const trnn_layer *layer) { return *(const int *)layer->type->family; }

const trnn_argument trnn_softmax_arguments[] = {
    TRNN_INT_OF(softmax, over_rows),
    TRNN_END_OF(softmax),
};

static trnn_status softmax_check(const trnn_layer *layer)
{
    return trnn_is_flag(layer->as.softmax.over_rows) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status softmax_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (layer->as.softmax.over_rows && in.planes != 1) return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

/* A copy of one column of a frame. */
static size_t softmax_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)out, (void)batch, (void)steps;
    return layer->as.softmax.over_rows ? trnn_times((size_t)in.rows, sizeof(float)) : 0;
}

static void softmax_run(const trnn_call *call)
{
    const int log = is_log(call->layer);
    const size_t rows = trnn_frame_rows(call->in), cols = (size_t)call->in.cols;
    const float *x = call->x;
    float *y = call->y;
    for (int64_t n = (int64_t)call->steps * call->batch; n > 0; n--, x += rows * cols, y += rows * cols) {
        if (call->layer->as.softmax.over_rows) {
            float *column = call->scratch;
            for (size_t c = 0; c < cols; c++) {
                for (size_t r = 0; r < rows; r++) column[r] = x[r * cols + c];
                TRNN_KERNEL(call->isa, softmax_f32)(column, column, rows, log);
                for (size_t r = 0; r < rows; r++) y[r * cols + c] = column[r];
            }
        } else {
            for (size_t r = 0; r < rows; r++)
                TRNN_KERNEL(call->isa, softmax_f32)(x + r * cols, y + r * cols, cols, log);
        }
    }
}

/* ---- training: dx = y (dy - sum dy y), and of the logarithm dx = dy - exp(y) sum dy ------------------- */

/* One distribution p, `apart` floats from one number to the next; p may be dx. */
static void softmax_one_back(int log, size_t n, size_t apart, const float *p, const float *dy, float *dx)
{
    double sum = 0.0;
    for (size_t i = 0; i < n * apart; i += apart) sum += log ? (double)dy[i] : (double)dy[i] * (double)p[i];
    for (size_t i = 0; i < n * apart; i += apart)
        dx[i] = log ? dy[i] - p[i] * (float)sum : p[i] * (dy[i] - (float)sum);
}

static void softmax_backward(const trnn_pass *pass)
{
    if (!pass->dx) return;
    const size_t rows = trnn_frame_rows(pass->in), cols = (size_t)pass->in.cols, size = rows * cols;
    const size_t all = (size_t)pass->rows * size;
    const int log = is_log(pass->layer);
    const float *const p = log ? pass->dx : pass->y;
    if (log) TRNN_KERNEL(pass->isa, map_exp)(pass->y, pass->dx, all, NULL);
    for (size_t at = 0; at < all; at += size) {
        if (pass->layer->as.softmax.over_rows)
            for (size_t c = at; c < at + cols; c++)
                softmax_one_back(log, rows, cols, p + c, pass->dy + c, pass->dx + c);
        else
            for (size_t r = at; r < at + size; r += cols)
                softmax_one_back(log, cols, 1, p + r, pass->dy + r, pass->dx + r);
    }
}

const trnn_layer_type trnn_softmax = {
    .name = "softmax",
    .check = softmax_check,
    .frame = softmax_frame,
    .scratch = softmax_scratch,
    .run = softmax_run,
    .family = &plain,
};
const trnn_layer_type trnn_log_softmax = {
    .name = "log_softmax",
    .check = softmax_check,
    .frame = softmax_frame,
    .scratch = softmax_scratch,
    .run = softmax_run,
    .family = &logarithm,
};

const trnn_layer_training trnn_softmax_training = {.backward = softmax_backward};
const trnn_layer_training trnn_log_softmax_training = {.backward = softmax_backward};
