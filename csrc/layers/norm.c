/* Layer normalisation over the last axis of a frame or the whole frame; group normalisation of some channels of a frame; and
 * batch normalisation of channels: by the running statistics, in training by those of the batch. As torch.nn.LayerNorm,
 * GroupNorm (an InstanceNorm has as many groups as channels) and BatchNorm1d, BatchNorm2d.
 *
 * Channels are a frame's planes, the rows of a single plane, or the numbers of a single row. */
#include "training.h"

const trnn_argument trnn_norm_arguments[] = {
    TRNN_INT_OF(norm, size),
    TRNN_INT_OF(norm, affine),
    TRNN_INT_OF(norm, bias),
    TRNN_LIVE_FLOAT_OF(norm, eps),
    TRNN_LIVE_FLOAT_OF(norm, momentum),
    TRNN_INT_OF(norm, use_running_stats),
    TRNN_INT_OF(norm, groups),
    TRNN_END_OF(norm),
};

static trnn_status norm_check(const trnn_layer *layer)
{
    const trnn_norm_args *a = &layer->as.norm;
    if (!trnn_is_size(a->size) || !(a->eps >= 0.0f)) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->affine) || !trnn_is_flag(a->bias) || !trnn_is_flag(a->use_running_stats))
        return TRNN_E_ARGUMENT;
    return a->bias && !a->affine ? TRNN_E_ARGUMENT : TRNN_OK;
}

/* weight and bias, of both normalisations. */
static int32_t affine_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_norm_args *a = &layer->as.norm;
    if (a->affine) trnn_param_vector(&params[0], "weight", a->size);
    if (a->bias) trnn_param_vector(&params[1], "bias", a->size);
    return 2;
}

/* ---- LayerNorm ------------------------------------------------------------------------------ */

static trnn_status layer_norm_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const size_t size = (size_t)layer->as.norm.size, cols = (size_t)in.cols;
    if (cols != size && (size_t)in.rows * cols != size && trnn_frame_size(in) != size) return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

static void layer_norm_run(const trnn_call *call)
{
    const size_t size = (size_t)call->layer->as.norm.size;
    const size_t numbers = (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
    const float *x = call->x;
    for (size_t i = 0; i < numbers; i += size)
        TRNN_KERNEL(call->isa, layer_norm_f32)(x + i, call->y + i, size, call->layer->as.norm.eps,
                                               call->weights[0], call->weights[1]);
}

/* ---- training: x^ = (x - mean) / sqrt(var + eps), dx^ = weight dy,
 *      dx = (dx^ - mean(dx^) - x^ mean(dx^ x^)) / sqrt(var + eps),  dweight += dy x^,  dbias += dy */

static float standardised(trnn_standard own, float x) { return x * own.scale + own.shift; }

/* For `count` numbers with this mean and this sum of squared distances from it. */
TRNN_NOINLINE trnn_standard standard_of(const trnn_kernels *isa, double mean, double squares, double count,
                                        float eps)
{
    const float average = (float)mean, var = (float)(squares / count);
    trnn_standard own;
    TRNN_KERNEL(isa, norm_scale_f32)(&own.scale, &own.shift, 1, eps, &average, &var, NULL, NULL);
    return own;
}

/* The sum of a - origin, times b - origin unless b is NULL. It runs in lanes, so that no addition waits for another. */
TRNN_NOINLINE double sum_of(const float *a, const float *b, double origin, size_t size)
{
    enum { LANES = 8 };
    double lanes[LANES] = {0.0};
    size_t at = 0;
    if (!b)
        for (; at + LANES <= size; at += LANES)
            for (size_t i = 0; i < LANES; i++) lanes[i] += (double)a[at + i] - origin;
    else
        for (; at + LANES <= size; at += LANES)
            for (size_t i = 0; i < LANES; i++)
                lanes[i] += ((double)a[at + i] - origin) * ((double)b[at + i] - origin);
    for (size_t i = 0; at + i < size; i++)
        lanes[i] += ((double)a[at + i] - origin) * (b ? (double)b[at + i] - origin : 1.0);
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

trnn_standard trnn_standard_of(const trnn_kernels *isa, const float *x, size_t size, float eps)
{
    const double mean = sum_of(x, NULL, 0.0, size) / (double)size;
    return standard_of(isa, mean, sum_of(x, x, mean, size), (double)size, eps);
}

/* dx of `size` numbers that are normalised together; each `span` of them share a weight. */
void trnn_standard_backward(trnn_standard own, const float *x, const float *dy, float *dx, size_t size,
                            const float *weight, size_t span)
{
    for (size_t i = 0; i < size; weight += weight != NULL)
        for (const size_t end = i + span; i < end; i++) dx[i] = weight ? *weight * dy[i] : dy[i];
    const double sum = sum_of(dx, NULL, 0.0, size),
                 along = (double)own.scale * sum_of(dx, x, 0.0, size) + (double)own.shift * sum;
    const float mean = (float)(sum / (double)size), slope = (float)(along / (double)size);
    for (size_t i = 0; i < size; i++) dx[i] = (dx[i] - mean - standardised(own, x[i]) * slope) * own.scale;
}

static void layer_norm_backward(const trnn_pass *pass)
{
    const size_t size = (size_t)pass->layer->as.norm.size;
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    for (size_t at = 0; pass->dx && at < numbers; at += size) {
        const float *x = (const float *)pass->x + at;
        trnn_standard_backward(trnn_standard_of(pass->isa, x, size, pass->layer->as.norm.eps), x,
                               pass->dy + at, pass->dx + at, size, pass->weights[0], 1);
    }
}

static void layer_norm_gradients(const trnn_pass *pass)
{
    const size_t size = (size_t)pass->layer->as.norm.size;
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    if (pass->part > 0 || !pass->grads[0]) return;
    for (size_t at = 0; at < numbers; at += size) {
        const float *x = (const float *)pass->x + at, *dy = pass->dy + at;
        const trnn_standard own = trnn_standard_of(pass->isa, x, size, pass->layer->as.norm.eps);
        for (size_t i = 0; i < size; i++) pass->grads[0][i] += dy[i] * standardised(own, x[i]);
        for (size_t i = 0; pass->grads[1] && i < size; i++) pass->grads[1][i] += dy[i];
    }
}

const trnn_layer_type trnn_layer_norm = {
    .name = "layer_norm",
    .check = norm_check,
    .frame = layer_norm_frame,
    .params = affine_params,
    .run = layer_norm_run,
};

const trnn_layer_training trnn_layer_norm_training = {
    .backward = layer_norm_backward,
    .gradients = layer_norm_gradients,
};

/* ---- channels ------------------------------------------------------------------------------------- */

static trnn_status channels_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const int32_t size = layer->as.norm.size;
    const int in_rows = in.planes == 1 && (in.rows == size || (in.rows == 1 && in.cols == size));
    if (in.planes != size && !in_rows) return TRNN_E_SHAPE;
    *out = in;
    return TRNN_OK;
}

/* Numbers of a channel. */
static size_t channel_length(const trnn_layer *layer, trnn_frame in)
{
    return trnn_frame_size(in) / (size_t)layer->as.norm.size;
}

/* ---- GroupNorm ------------------------------------------------------------------------------------- */

static trnn_status group_norm_check(const trnn_layer *layer)
{
    const trnn_norm_args *a = &layer->as.norm;
    const trnn_status status = norm_check(layer);
    if (status) return status;
    return trnn_is_size(a->groups) && a->size % a->groups == 0 ? TRNN_OK : TRNN_E_ARGUMENT;
}

static void group_norm_run(const trnn_call *call)
{
    const trnn_norm_args *a = &call->layer->as.norm;
    const size_t channels = (size_t)(a->size / a->groups), length = channel_length(call->layer, call->in);
    const size_t sets = (size_t)call->steps * (size_t)call->batch * (size_t)a->groups;
    const float *x = call->x, *weight = call->weights[0], *bias = call->weights[1];
    float *y = call->y;
    for (size_t set = 0; set < sets; set++, x += channels * length) {
        TRNN_KERNEL(call->isa, layer_norm_f32)(x, y, channels * length, a->eps, NULL, NULL);
        const size_t first = set % (size_t)a->groups * channels;
        for (size_t channel = first; channel < first + channels; channel++, y += length) {
            const float scale = weight ? weight[channel] : 1.0f, shift = bias ? bias[channel] : 0.0f;
            for (size_t i = 0; weight && i < length; i++) y[i] *= scale;
            for (size_t i = 0; bias && i < length; i++) y[i] += shift;
        }
    }
}

static void group_norm_backward(const trnn_pass *pass)
{
    const trnn_norm_args *a = &pass->layer->as.norm;
    const size_t channels = (size_t)(a->size / a->groups), length = channel_length(pass->layer, pass->in);
    const size_t size = channels * length, sets = (size_t)pass->rows * (size_t)a->groups;
    for (size_t set = 0; pass->dx && set < sets; set++) {
        const float *x = (const float *)pass->x + set * size, *dy = pass->dy + set * size;
        const float *weight = pass->weights[0];
        if (weight) weight += set % (size_t)a->groups * channels;
        trnn_standard_backward(trnn_standard_of(pass->isa, x, size, pass->layer->as.norm.eps), x, dy,
                               pass->dx + set * size, size, weight, length);
    }
}

static void group_norm_gradients(const trnn_pass *pass)
{
    const trnn_norm_args *a = &pass->layer->as.norm;
    const size_t channels = (size_t)(a->size / a->groups), length = channel_length(pass->layer, pass->in);
    const size_t size = channels * length, sets = (size_t)pass->rows * (size_t)a->groups;
    if (!pass->grads[0]) return;
    for (size_t set = 0; set < sets; set++) { /* each part does some of the groups completely */
        const size_t group = set % (size_t)a->groups;
        if (group % (size_t)pass->parts != (size_t)pass->part) continue;
        const float *x = (const float *)pass->x + set * size, *dy = pass->dy + set * size;
        const trnn_standard own = trnn_standard_of(pass->isa, x, size, pass->layer->as.norm.eps);
        for (size_t channel = group * channels; channel < (group + 1) * channels;
             channel++, x += length, dy += length) {
            double sum = 0.0, along = 0.0;
            for (size_t i = 0; i < length; i++) {
                sum += (double)dy[i];
                along += (double)dy[i] * (double)standardised(own, x[i]);
            }
            pass->grads[0][channel] += (float)along;
            if (pass->grads[1]) pass->grads[1][channel] += (float)sum;
        }
    }
}

const trnn_layer_type trnn_group_norm = {
    .name = "group_norm",
    .check = group_norm_check,
    .frame = channels_frame,
    .params = affine_params,
    .run = group_norm_run,
};

const trnn_layer_training trnn_group_norm_training = {
    .backward = group_norm_backward,
    .gradients = group_norm_gradients,
};

/* ---- BatchNorm ------------------------------------------------------------------------------------- */

static int32_t batch_norm_params(const trnn_layer *layer, trnn_param *params)
{
    const int32_t affine = affine_params(layer, params), size = layer->as.norm.size;
    trnn_param_vector(&params[affine], "running_mean", size);
    trnn_param_vector(&params[affine + 1], "running_var", size);
    return affine + 2;
}

typedef struct {
    float *scale, *shift; /* (channels,) each */
} batch_norm_scratch;

static batch_norm_scratch batch_norm_place(const trnn_layer *layer, trnn_cursor *cursor)
{
    const trnn_norm_args *a = &layer->as.norm;
    batch_norm_scratch scratch = {NULL, NULL};
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
    const size_t length = channel_length(call->layer, call->in), numbers = channels * length;
    trnn_cursor cursor = {call->scratch, 0};
    const batch_norm_scratch scratch = batch_norm_place(call->layer, &cursor);
    TRNN_KERNEL(call->isa, norm_scale_f32)(scratch.scale, scratch.shift, channels, call->layer->as.norm.eps,
                                           call->weights[2], call->weights[3], call->weights[0],
                                           call->weights[1]);

    const float *x = call->x;
    float *y = call->y;
    for (int64_t n = (int64_t)call->steps * call->batch; n > 0; n--, x += numbers, y += numbers) {
        if (length == 1) {
            TRNN_KERNEL(call->isa, affine_f32)(x, y, channels, scratch.scale, scratch.shift);
            continue;
        }
        /* A channel has one scale, which is copied over a panel. */
        for (size_t channel = 0; channel < channels; channel++) {
            float scale[TRNN_PANEL], shift[TRNN_PANEL];
            for (size_t i = 0; i < TRNN_PANEL; i++) {
                scale[i] = scratch.scale[channel];
                shift[i] = scratch.shift[channel];
            }
            for (size_t i = channel * length; i < (channel + 1) * length; i += TRNN_PANEL) {
                const size_t left = (channel + 1) * length - i;
                TRNN_KERNEL(call->isa, affine_f32)(x + i, y + i, left < TRNN_PANEL ? left : TRNN_PANEL, scale,
                                                   shift);
            }
        }
    }
}

/* ---- training: as LayerNorm, but channel by channel over all frames of the batch within the lengths. The running
 *      statistics move by `momentum`; their variance is the unbiased one. With use_running_stats they do not move and
 *      do not depend on x, so y is that of batch_norm_run and dx = weight dy / sqrt(var + eps). */

/* A variance needs more than one number a channel. */
static trnn_status batch_norm_train_check(const trnn_layer *layer, trnn_frame in, int64_t frames)
{
    const trnn_norm_args *a = &layer->as.norm;
    const int enough = a->use_running_stats || (int64_t)trnn_frame_size(in) * frames > a->size;
    return enough ? TRNN_OK : TRNN_E_STATISTICS;
}

/* A walk over the numbers of one channel, in all frames within the lengths. */
typedef struct {
    size_t length; /* numbers of a channel in a frame */
    size_t size;   /* numbers of a frame */
} channel_walk;

static channel_walk walk_of(const trnn_pass *pass)
{
    return (channel_walk){channel_length(pass->layer, pass->in), trnn_frame_size(pass->in)};
}

/* The first number of a channel in frame `f`; SIZE_MAX if the frame is beyond its row's end. */
TRNN_NOINLINE size_t channel_at(const trnn_pass *pass, const channel_walk *walk, int32_t f, size_t channel)
{
    const int32_t t = f / pass->batch, b = f % pass->batch;
    if (pass->lengths && pass->lengths[b] <= t) return SIZE_MAX;
    return (size_t)f * walk->size + channel * walk->length;
}

#define EACH_NUMBER(pass, walk, channel, i)                                   \
    for (int32_t f = 0; f < (pass)->steps * (pass)->batch; f++)               \
        for (size_t first = channel_at(pass, &(walk), f, channel), i = first; \
             first != SIZE_MAX && i < first + (walk).length; i++)

/* The tape: each channel's scale and shift. */
static size_t batch_norm_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    return trnn_times((size_t)layer->as.norm.size, sizeof(trnn_standard));
}

static void batch_norm_forward(const trnn_pass *pass)
{
    const trnn_norm_args *a = &pass->layer->as.norm;
    const channel_walk walk = walk_of(pass);
    const float *x = pass->x, *weight = pass->weights[0], *bias = pass->weights[1];
    trnn_standard *kept = pass->tape;
    if (a->use_running_stats) {
        const void *weights[TRNN_PARAMS_MAX];
        const trnn_call call = trnn_call_of(pass, weights);
        for (size_t channel = 0; channel < (size_t)a->size; channel++)
            kept[channel] = standard_of(pass->isa, (double)pass->weights[2][channel],
                                        (double)pass->weights[3][channel], 1.0, a->eps);
        batch_norm_run(&call);
        return;
    }
    trnn_zero(pass->y, (size_t)(pass->steps * pass->batch) * walk.size * sizeof(float));
    for (size_t channel = 0; channel < (size_t)a->size; channel++) {
        double sum = 0.0, squares = 0.0, count = 0.0;
        EACH_NUMBER(pass, walk, channel, i)
        {
            sum += (double)x[i];
            count += 1.0;
        }
        const double mean = sum / count;
        EACH_NUMBER(pass, walk, channel, i) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        const trnn_standard own = standard_of(pass->isa, mean, squares, count, a->eps);
        EACH_NUMBER(pass, walk, channel, i)
        {
            const float normal = standardised(own, x[i]);
            pass->y[i] = (weight ? normal * weight[channel] : normal) + (bias ? bias[channel] : 0.0f);
        }
        kept[channel] = own;
        float *running_mean = &pass->weights[2][channel], *running_var = &pass->weights[3][channel];
        *running_mean += a->momentum * ((float)mean - *running_mean);
        *running_var += a->momentum * ((float)(squares / (count - 1.0)) - *running_var);
    }
}

static void batch_norm_backward(const trnn_pass *pass)
{
    const channel_walk walk = walk_of(pass);
    const trnn_standard *kept = pass->tape;
    const float *x = pass->x, *dy = pass->dy, *weight = pass->weights[0];
    if (!pass->dx) return;
    trnn_zero(pass->dx, (size_t)(pass->steps * pass->batch) * walk.size * sizeof(float));
    for (size_t channel = 0; channel < (size_t)pass->layer->as.norm.size; channel++) {
        const trnn_standard own = kept[channel];
        const float scale = weight ? own.scale * weight[channel] : own.scale;
        if (pass->layer->as.norm.use_running_stats) {
            EACH_NUMBER(pass, walk, channel, i) pass->dx[i] = dy[i] * scale;
            continue;
        }
        double sum = 0.0, along = 0.0, count = 0.0;
        EACH_NUMBER(pass, walk, channel, i)
        {
            sum += (double)dy[i];
            along += (double)dy[i] * (double)standardised(own, x[i]);
            count += 1.0;
        }
        const float mean = (float)(sum / count), slope = (float)(along / count);
        EACH_NUMBER(pass, walk, channel, i)
        pass->dx[i] = (dy[i] - mean - standardised(own, x[i]) * slope) * scale;
    }
}

static void batch_norm_gradients(const trnn_pass *pass)
{
    const channel_walk walk = walk_of(pass);
    const trnn_standard *kept = pass->tape;
    const float *x = pass->x, *dy = pass->dy;
    for (size_t channel = 0; channel < (size_t)pass->layer->as.norm.size; channel++) {
        if ((int32_t)(channel % (size_t)pass->parts) != pass->part || !pass->grads[0]) continue;
        double sum = 0.0, along = 0.0;
        EACH_NUMBER(pass, walk, channel, i)
        {
            sum += (double)dy[i];
            along += (double)dy[i] * (double)standardised(kept[channel], x[i]);
        }
        pass->grads[0][channel] += (float)along;
        if (pass->grads[1]) pass->grads[1][channel] += (float)sum;
    }
}

const trnn_layer_type trnn_batch_norm = {
    .name = "batch_norm",
    .check = norm_check,
    .frame = channels_frame,
    .params = batch_norm_params,
    .scratch = batch_norm_scratch_bytes,
    .run = batch_norm_run,
};

const trnn_layer_training trnn_batch_norm_training = {
    .check = batch_norm_train_check,
    .tape = batch_norm_tape,
    .forward = batch_norm_forward,
    .backward = batch_norm_backward,
    .gradients = batch_norm_gradients,
    .across_batch = 1,
};
