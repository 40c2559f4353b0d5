/* y = the row of the table at an index. As torch.nn.Embedding. net.c or train.c has checked the indices; one that
 * has gone out of range since reads as a row of zeros. */
#include "../index.h"
#include "training.h"

const trnn_argument trnn_embedding_arguments[] = {
    TRNN_INT_OF(embedding, num_embeddings),
    TRNN_INT_OF(embedding, embedding_dim),
    TRNN_INT_OF(embedding, padding),
    TRNN_END_OF(embedding),
};

static trnn_status embedding_check(const trnn_layer *layer)
{
    const trnn_embedding_args *a = &layer->as.embedding;
    if (a->padding < 0 || a->padding > a->num_embeddings) return TRNN_E_ARGUMENT;
    return trnn_is_size(a->num_embeddings) && trnn_is_size(a->embedding_dim) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status embedding_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (trnn_frame_rows(in) != 1) return TRNN_E_SHAPE;
    *out = (trnn_frame){1, in.cols, layer->as.embedding.embedding_dim};
    return TRNN_OK;
}

static int32_t embedding_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_embedding_args *a = &layer->as.embedding;
    trnn_param_table(&params[0], "weight", layer->format, 2, a->num_embeddings, a->embedding_dim);
    return 1;
}

/* One row of the table as floats. */
static void widen(trnn_format format, const char *row, size_t size, float *y)
{
    uint16_t half;
    float scale = 0.0f;
    if (trnn_is_half(format)) {
        for (size_t i = 0; i < size; i++) {
            trnn_copy(&half, row + i * sizeof half, sizeof half);
            y[i] = trnn_is_f16(format) ? trnn_widen_f16(half) : trnn_widen_bf16(half);
        }
    } else if (trnn_is_int8(format)) {
        trnn_copy(&scale, row, sizeof scale);
        for (size_t i = 0; i < size; i++) y[i] = (float)((const int8_t *)row)[sizeof scale + i] * scale;
    } else if (trnn_is_int4(format)) {
        for (size_t i = 0; i < size; i++) {
            const size_t at = i % TRNN_BLOCK, middle = TRNN_BLOCK / 2;
            const char *block = row + i / TRNN_BLOCK * 18;
            trnn_copy(&half, block, sizeof half);
            const int two = ((const uint8_t *)block)[sizeof half + at % middle];
            y[i] = (float)((at < middle ? two & 15 : two >> 4) - TRNN_INT4_ZERO) * trnn_widen_bf16(half);
        }
    } else {
        trnn_copy(y, row, size * sizeof(float));
    }
}

static int32_t embedding_indices(const trnn_layer *layer) { return layer->as.embedding.num_embeddings; }

static void embedding_run(const trnn_call *call)
{
    const int32_t *index = call->x, size = call->layer->as.embedding.embedding_dim;
    const trnn_format format = call->layer->format;
    const size_t bytes = trnn_row_bytes(format, size);
    const size_t count = (size_t)call->steps * (size_t)call->batch * (size_t)call->in.cols;
    float *y = call->y;
    for (size_t i = 0; i < count; i++, y += size) {
        const int32_t row = trnn_index_at(index, i, call->layer->as.embedding.num_embeddings);
        if (row < 0)
            trnn_zero(y, (size_t)size * sizeof(float));
        else
            widen(format, (const char *)call->weights[0] + (size_t)row * bytes, (size_t)size, y);
    }
}

/* ---- training: a row's gradient is the sum of dy where its index stands ---------------------------- */

static void embedding_backward(const trnn_pass *pass) { (void)pass; /* indices have no gradient */ }

static void embedding_gradients(const trnn_pass *pass)
{
    const trnn_embedding_args *a = &pass->layer->as.embedding;
    const int32_t *index = pass->x, padding = a->padding - 1;
    const size_t size = (size_t)a->embedding_dim;
    const size_t count = (size_t)pass->rows * (size_t)pass->in.cols;
    const float *dy = pass->dy;
    for (size_t i = 0; i < count; i++, dy += size) {
        const int32_t at = trnn_index_at(index, i, a->num_embeddings);
        if (at < 0 || at == padding || at % pass->parts != pass->part) continue;
        float *row = pass->grads[0] + (size_t)at * size;
        for (size_t j = 0; j < size; j++) row[j] += dy[j];
    }
}

const trnn_layer_type trnn_embedding = {
    .name = "embedding",
    .check = embedding_check,
    .frame = embedding_frame,
    .params = embedding_params,
    .run = embedding_run,
    .indices = embedding_indices,
};

const trnn_layer_training trnn_embedding_training = {
    .backward = embedding_backward,
    .gradients = embedding_gradients,
};
