/* Dropout, as torch.nn.Dropout: outside training y is x. */
#include "training.h"

const trnn_argument trnn_dropout_arguments[] = {
    TRNN_LIVE_FLOAT_OF(dropout, p),
    TRNN_END_OF(dropout),
};

static trnn_status dropout_check(const trnn_layer *layer)
{
    return trnn_is_share(layer->as.dropout.p) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status dropout_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

/* to = from / (1 - p) where the place is kept, else 0: y from x, and dx from dy. */
static void drop(const trnn_pass *pass, const float *from, float *to)
{
    const float p = pass->layer->as.dropout.p, scale = p < 1.0f ? 1.0f / (1.0f - p) : 0.0f;
    const size_t size = trnn_frame_size(pass->in);
    const size_t first = pass->frame * size, numbers = (size_t)pass->rows * size;
    for (size_t i = 0; i < numbers; i++)
        to[i] = trnn_is_dropped(pass->seed, first + i, p) ? 0.0f : from[i] * scale;
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
