/* Dropout, as torch.nn.Dropout: outside training y is x. */
#include "training.h"

const trnn_argument trnn_dropout_arguments[] = {
    TRNN_LIVE_FLOAT_OF(dropout, p),
    TRNN_END_OF(dropout),
};

static trnn_status dropout_check(const trnn_layer *layer)
{
    return layer->as.dropout.p >= 0.0f && layer->as.dropout.p <= 1.0f ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status dropout_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

/* A pseudo-random number of 24 bits for place i: a multiply-and-shift hash with full avalanche ("lowbias32" of
 * Wellons's hash-prospector), keyed twice. It has no state, so the order of rows and parts does not matter. */
static uint32_t hashed(const uint32_t seed[2], size_t i)
{
    uint32_t h = (uint32_t)i ^ seed[0];
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h = (h ^ h >> 16) + seed[1] + (uint32_t)((uint64_t)i >> 32);
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return (h ^ h >> 16) >> 8;
}

/* to = from / (1 - p) where the place is kept, else 0: y from x, and dx from dy. */
static void drop(const trnn_pass *pass, const float *from, float *to)
{
    const float p = pass->layer->as.dropout.p, scale = p < 1.0f ? 1.0f / (1.0f - p) : 0.0f;
    const size_t size = trnn_frame_size(pass->in);
    const size_t first = pass->frame * size, numbers = (size_t)pass->rows * size;
    const uint32_t dropped = (uint32_t)((double)p * 16777216.0);
    for (size_t i = 0; i < numbers; i++)
        to[i] = hashed(pass->seed, first + i) < dropped ? 0.0f : from[i] * scale;
}

static void dropout_forward(const trnn_pass *pass) { drop(pass, pass->x, pass->y); }

static void dropout_backward(const trnn_pass *pass)
{
    if (pass->dx) drop(pass, pass->dy, pass->dx);
}

const trnn_layer_type trnn_dropout = {
    .name = "dropout",
    .check = dropout_check,
    .frame = dropout_frame,
};

const trnn_layer_training trnn_dropout_training = {
    .forward = dropout_forward,
    .backward = dropout_backward,
};
