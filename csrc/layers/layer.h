/* The contract that every layer keeps; training.h has the other half of it. net.c and layer.c know this and no
 * layer by name.
 *
 * A layer is a const table of functions over its arguments; it owns no memory.
 */
#ifndef TRNN_LAYER_H
#define TRNN_LAYER_H

#include "../kernels/kernels.h"
#include "../layout.h"
#include "../tinyrnn.h"

/* One run of one layer. x and y do not overlap. Frames t, b of x start at row t * batch + b. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    const void *weights[TRNN_PARAMS_MAX]; /* in the order of params(); NULL for an absent one */
    float *state;                         /* the layer's own numbers of row 0; rows are state_stride apart */
    void *scratch;                        /* the layer's own bytes */
    const void *x;                        /* (steps, batch, in) */
    float *y;                             /* (steps, batch, out) */
    size_t state_stride;                  /* floats */
    trnn_frame in, out;
    int32_t steps, batch;
    const int32_t *lengths; /* NULL, or (batch,): steps of each row, of the caller's whole sequence, */
    int32_t start;          /* of which this many ran in earlier blocks */
    int32_t descending;     /* which end of its weights the first step begins at; changes no bit */
} trnn_call;

/* Bytes that a layer wants of something, at most `steps` steps of `batch` rows. */
typedef size_t trnn_layer_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                int32_t steps);

struct trnn_layer_type {
    const char *name;

    /* Are the arguments in range? */
    trnn_status (*check)(const trnn_layer *layer);

    /* What frame does it write when it reads `in`? E_SHAPE if it cannot. */
    trnn_status (*frame)(const trnn_layer *layer, trnn_frame in, trnn_frame *out);

    /* Its tensors, in PyTorch's order; NULL: none. A tensor that is absent takes a slot with
     * rank 0, so that weights[] has the same order whatever the options. */
    int32_t (*params)(const trnn_layer *layer, trnn_param *params);

    /* Numbers of state for one stream; NULL: none. */
    size_t (*state)(const trnn_layer *layer);

    /* Bytes of working memory; NULL: none. */
    trnn_layer_bytes *scratch;

    /* Compute; NULL: y is x, seen as another frame. */
    void (*run)(const trnn_call *call);

    /* Does it read the future, and so need a whole sequence in one call? NULL: no. */
    int (*full_sequence)(const trnn_layer *layer);

    /* How many numbers an index may be: it reads int32 indices 0 .. that - 1. NULL: it reads floats. */
    int32_t (*indices)(const trnn_layer *layer);

    const void *family; /* what a family of layers keeps for itself, as recurrent.h does */
};

/* Entries of trnn_<family>_arguments, which lists every member of trnn_<family>_args. */
#define TRNN_INT_OF(family, member)        {#member, offsetof(trnn_layer, as.family.member), TRNN_INT32, 0}
#define TRNN_LIVE_FLOAT_OF(family, member) {#member, offsetof(trnn_layer, as.family.member), TRNN_FLOAT, 1}
#define TRNN_END_OF(family) \
    {NULL, offsetof(trnn_layer, as.family) + sizeof(trnn_##family##_args), TRNN_INT32, 0}

/* params() with every tensor's offset filled in, absent ones (rank 0) included; the bytes of all. */
int32_t trnn_layer_slots(const trnn_layer *layer, trnn_param slots[TRNN_PARAMS_MAX], size_t *bytes);

/* A slot that the options leave empty. */
static inline trnn_param trnn_param_absent(void)
{
    trnn_param param = {NULL, 0, {0, 0, 0}, TRNN_F32, 0, 1, 0, 0, 0};
    return param;
}

/* A table that is read by rows, kept as PyTorch has it. */
static inline trnn_param trnn_param_table(const char *name, trnn_format format, int32_t rank, int32_t rows,
                                          int32_t cols)
{
    trnn_param param = {name, rank, {rows, cols, 1}, format, 0, 1, 0, rows, cols};
    return param;
}

/* A vector, kept as PyTorch has it. */
static inline trnn_param trnn_param_vector(const char *name, int32_t size)
{
    return trnn_param_table(name, TRNN_F32, 1, size, 1);
}

/* A matrix of (gates * units, cols), kept in panels. */
static inline trnn_param trnn_param_panels(const char *name, trnn_format format, int32_t gates, int32_t units,
                                           int32_t cols)
{
    trnn_param param = {name, 2, {gates * units, cols, 1}, format, 0, 1, gates, units, cols};
    return param;
}

/* What is added to such a matrix's products: (gates * units,), in its order of rows. */
static inline trnn_param trnn_param_bias(const char *name, int32_t gates, int32_t units)
{
    trnn_param param = {name, 1, {gates * units, 1, 1}, TRNN_F32, 0, 1, gates, units, 1};
    return param;
}

/* A packed matrix of `gates` gates of `units` rows. */
static inline trnn_matrix trnn_matrix_of(const void *weights, trnn_format format, int32_t gates,
                                         int32_t units, int32_t depth)
{
    return (trnn_matrix){
        .weights = weights,
        .format = format,
        .depth = depth,
        .panels = trnn_ceil(units, TRNN_PANEL) * gates,
        .width = gates == 1 ? TRNN_GROUP : gates,
    };
}

/* A product of a matrix of `units` rows with `rows` rows of x, everything dense. */
static inline trnn_product trnn_product_of(trnn_matrix matrix, int32_t rows, int32_t units, const void *bias,
                                           const float *x, float *y, void *scratch)
{
    return (trnn_product){
        .matrix = matrix,
        .rows = rows,
        .cols = units,
        .bias = bias,
        .x = x,
        .y = y,
        .x_stride = (size_t)matrix.depth,
        .y_stride = (size_t)units,
        .scratch = scratch,
    };
}

/* May a product of this depth have this format? */
static inline int trnn_is_depth(trnn_format format, int64_t depth)
{
    return depth <= (format == TRNN_INT8 ? TRNN_INT8_DEPTH : TRNN_SIZE_MAX);
}

#endif
