/* y = the row of the table that the index names. As torch.nn.Embedding. net.c has checked the indices. */
#include "layer.h"

static trnn_status embedding_check(const trnn_layer *layer)
{
    const trnn_embedding_args *a = &layer->as.embedding;
    return trnn_is_size(a->num_embeddings) && trnn_is_size(a->embedding_dim) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status embedding_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (in.rows != 1) return TRNN_E_SHAPE;
    *out = (trnn_frame){in.cols, layer->as.embedding.embedding_dim};
    return TRNN_OK;
}

static int32_t embedding_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_embedding_args *a = &layer->as.embedding;
    params[0] = trnn_param_plain("weight", 2, a->num_embeddings, a->embedding_dim);
    return 1;
}

static void embedding_run(const trnn_call *call)
{
    const int32_t *index = call->x;
    const size_t size = (size_t)call->layer->as.embedding.embedding_dim;
    const size_t count = (size_t)call->steps * (size_t)call->batch * (size_t)call->in.cols;
    for (size_t i = 0; i < count; i++)
        trnn_copy(call->y + i * size, call->weights[0] + (size_t)index[i] * size, size * sizeof(float));
}

const trnn_layer_type trnn_embedding = {
    .name = "embedding",
    .check = embedding_check,
    .frame = embedding_frame,
    .params = embedding_params,
    .run = embedding_run,
    .indices = 1,
};
