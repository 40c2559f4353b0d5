/* Layer normalisation over the last axis of a frame or all of it, and batch normalisation by the
 * running statistics. As torch.nn.LayerNorm, and torch.nn.BatchNorm1d in evaluation. */
#include "layer.h"

static trnn_status norm_check(const trnn_layer *layer)
{
    const trnn_norm_args *a = &layer->as.norm;
    if (!trnn_is_size(a->size) || !(a->eps >= 0.0f)) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->affine) || !trnn_is_flag(a->bias)) return TRNN_E_ARGUMENT;
    return a->bias && !a->affine ? TRNN_E_ARGUMENT : TRNN_OK;
}

/* weight and bias, which both norms may have. */
static int32_t affine_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_norm_args *a = &layer->as.norm;
    params[0] = a->affine ? trnn_param_vector("weight", a->size) : trnn_param_absent();
    params[1] = a->bias ? trnn_param_vector("bias", a->size) : trnn_param_absent();
    return 2;
}

/* ---- LayerNorm ------------------------------------------------------------------------------ */

static trnn_status layer_norm_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const int32_t size = layer->as.norm.size;
    if (in.cols != size && (int64_t)in.rows * in.cols != size) return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

static void layer_norm_run(const trnn_call *call)
{
    const size_t size = (size_t)call->layer->as.norm.size;
    const size_t numbers =
        (size_t)call->steps * (size_t)call->batch * (size_t)call->in.rows * (size_t)call->in.cols;
    const float *x = call->x;
    for (size_t i = 0; i < numbers; i += size)
        call->isa->layer_norm_f32(x + i, call->y + i, size, call->layer->as.norm.eps, call->weights[0],
                                  call->weights[1]);
}

const trnn_layer_type trnn_layer_norm = {
    .name = "layer_norm",
    .check = norm_check,
    .frame = layer_norm_frame,
    .params = affine_params,
    .run = layer_norm_run,
};

/* ---- BatchNorm1d ---------------------------------------------------------------------------- */

/* Channels are a frame's rows, or the numbers of a frame that is one row of them. */
static int channels_are_rows(const trnn_layer *layer, trnn_frame in)
{
    return in.rows == layer->as.norm.size;
}

static trnn_status batch_norm_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (!channels_are_rows(layer, in) && (in.rows != 1 || in.cols != layer->as.norm.size))
        return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

static int32_t batch_norm_params(const trnn_layer *layer, trnn_param *params)
{
    const int32_t affine = affine_params(layer, params), size = layer->as.norm.size;
    params[affine] = trnn_param_vector("running_mean", size);
    params[affine + 1] = trnn_param_vector("running_var", size);
    return affine + 2;
}

typedef struct {
    float *scale, *shift; /* (channels,) each */
} batch_norm_scratch;

static batch_norm_scratch batch_norm_place(const trnn_layer *layer, trnn_cursor *cursor)
{
    const trnn_norm_args *a = &layer->as.norm;
    batch_norm_scratch scratch;
    scratch.scale = trnn_take(cursor, (size_t)a->size);
    scratch.shift = trnn_take(cursor, (size_t)a->size);
    return scratch;
}

static size_t batch_norm_scratch_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                       int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    batch_norm_place(layer, &cursor);
    return cursor.bytes;
}

static void batch_norm_run(const trnn_call *call)
{
    const size_t channels = (size_t)call->layer->as.norm.size;
    const size_t numbers = (size_t)call->in.rows * (size_t)call->in.cols;
    trnn_cursor cursor = {call->scratch, 0};
    const batch_norm_scratch scratch = batch_norm_place(call->layer, &cursor);
    call->isa->norm_scale_f32(scratch.scale, scratch.shift, channels, call->layer->as.norm.eps,
                              call->weights[2], call->weights[3], call->weights[0], call->weights[1]);

    const float *x = call->x;
    float *y = call->y;
    for (int64_t n = (int64_t)call->steps * call->batch; n > 0; n--, x += numbers, y += numbers) {
        if (!channels_are_rows(call->layer, call->in)) {
            call->isa->affine_f32(x, y, channels, scratch.scale, scratch.shift);
            continue;
        }
        /* As above, one multiply-add a number: a row has one scale, spread over a panel. */
        const size_t cols = (size_t)call->in.cols;
        for (size_t row = 0; row < channels; row++) {
            float scale[TRNN_PANEL], shift[TRNN_PANEL];
            for (size_t i = 0; i < TRNN_PANEL; i++) {
                scale[i] = scratch.scale[row];
                shift[i] = scratch.shift[row];
            }
            for (size_t i = row * cols; i < (row + 1) * cols; i += TRNN_PANEL) {
                const size_t left = (row + 1) * cols - i;
                call->isa->affine_f32(x + i, y + i, left < TRNN_PANEL ? left : TRNN_PANEL, scale, shift);
            }
        }
    }
}

const trnn_layer_type trnn_batch_norm = {
    .name = "batch_norm",
    .check = norm_check,
    .frame = batch_norm_frame,
    .params = batch_norm_params,
    .scratch = batch_norm_scratch_bytes,
    .run = batch_norm_run,
};
