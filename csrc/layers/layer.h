/* The contract that every layer keeps. net.c, train.c and pack.c know this and layers.def.
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

/* One pass of one layer in training, over some rows of a batch. No two arrays overlap. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    float *weights[TRNN_PARAMS_MAX]; /* in the order of params(); NULL for an absent one */
    float *grads[TRNN_PARAMS_MAX];   /* as the weights; NULL for one that is frozen or absent. Added to */
    float *state;        /* the layer's own numbers of row 0, rows are state_stride apart: before */
    float *dstate;       /* and after the sequence, then their gradients */
    size_t state_stride; /* floats */
    void *tape;          /* what forward() leaves to the others; the layer's own bytes */
    void *scratch;       /* means nothing before or after; this part's own */
    const void *x;       /* (steps, batch, in) */
    float *y;            /* (steps, batch, out) */
    float *dy;           /* as y: its gradient */
    float *dx;           /* as x: written by backward(); NULL: nobody asks */
    trnn_frame in, out;
    int32_t steps, batch;
    int32_t first, rows;    /* the rows of the batch that are this part's, in forward() and backward() */
    int32_t part, parts;    /* which part it is, in turn() and gradients() */
    const int32_t *lengths; /* NULL, or (batch,) */
    size_t frame;           /* frames of the layer's array before x */
    uint32_t seed[2];       /* of random numbers */
} trnn_pass;

/* Bytes that a layer wants of something, at most `steps` steps of `batch` rows. */
typedef size_t trnn_layer_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                int32_t steps);

typedef struct {
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

    int indices; /* 1: reads int32 indices */

    /* ---- training (train.c). A layer that looks at one frame at a time is given frames without a gap,
     * as one step of many rows; one that looks at sequences gets all steps of its part's rows, and one that
     * mixes the rows of a batch is given the whole batch, in one part. */

    /* Bytes of tape; NULL: none. */
    trnn_layer_bytes *tape;

    /* Bytes of working memory; NULL: those of scratch(). */
    trnn_layer_bytes *train_scratch;

    /* Lay the matrices that backward() needs out on the tape, transposed, before each pass, since weights
     * change between them: a share for each part. NULL: none. */
    void (*transpose)(const trnn_pass *pass);

    /* Compute y, and keep what the others need; NULL: as run(). */
    void (*forward)(const trnn_pass *pass);

    /* dx from dy, and what gradients() needs; NULL: y is x and dx is dy, nothing is computed. */
    void (*backward)(const trnn_pass *pass);

    /* Add the gradients of the weights, over all steps and rows at once, a share for each part: no number is
     * summed by two of them. NULL: no weights. */
    void (*gradients)(const trnn_pass *pass);

    int sequences;    /* 1: looks at sequences */
    int across_batch; /* 1: mixes the rows of a batch */

    const void *family; /* what a family of layers keeps for itself, as recurrent.h does */
} trnn_layer_type;

#define TRNN_LAYER(NAME, name, arguments)     \
    extern const trnn_layer_type trnn_##name; \
    extern const trnn_argument trnn_##arguments##_arguments[];
#include "layers.def"
#undef TRNN_LAYER

/* Entries of trnn_<family>_arguments, which lists every member of trnn_<family>_args. */
#define TRNN_INT_OF(family, member)        {#member, offsetof(trnn_layer, as.family.member), TRNN_INT32, 0}
#define TRNN_LIVE_FLOAT_OF(family, member) {#member, offsetof(trnn_layer, as.family.member), TRNN_FLOAT, 1}
#define TRNN_END_OF(family) \
    {NULL, offsetof(trnn_layer, as.family) + sizeof(trnn_##family##_args), TRNN_INT32, 0}

const trnn_layer_type *trnn_layer_type_of(const trnn_layer *layer);

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
    trnn_matrix matrix;
    matrix.weights = weights;
    matrix.format = format;
    matrix.depth = depth;
    matrix.panels = trnn_ceil(units, TRNN_PANEL) * gates;
    matrix.width = gates == 1 ? TRNN_GROUP : gates;
    return matrix;
}

/* A product of a matrix of `units` rows with `rows` rows of x, everything dense. */
static inline trnn_product trnn_product_of(trnn_matrix matrix, int32_t rows, int32_t units, const void *bias,
                                           const float *x, float *y, void *scratch)
{
    trnn_product product;
    product.matrix = matrix;
    product.rows = rows;
    product.cols = units;
    product.bias = bias;
    product.x = x;
    product.y = y;
    product.x_stride = (size_t)matrix.depth;
    product.y_stride = (size_t)units;
    product.scratch = scratch;
    product.descending = 0;
    return product;
}

/* ---- for training: a pass as a call ------------------------------------------------------------- */

/* What run() computes forwards of a pass, with the scratch of scratch(). */
static inline trnn_call trnn_call_of(const trnn_pass *pass)
{
    trnn_call call;
    call.layer = pass->layer;
    call.isa = pass->isa;
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++) call.weights[p] = pass->weights[p];
    call.state = pass->state;
    call.scratch = pass->scratch;
    call.x = pass->x;
    call.y = pass->y;
    call.state_stride = pass->state_stride;
    call.in = pass->in;
    call.out = pass->out;
    call.steps = pass->steps;
    call.batch = pass->batch;
    call.lengths = pass->lengths;
    call.start = call.descending = 0;
    return call;
}

/* ---- for training: a matrix the other way round ------------------------------------------------- */

/* Floats of the transpose of a matrix of `rows` packed rows and `depth` columns. */
static inline size_t trnn_transposed_size(int32_t rows, int32_t depth)
{
    return trnn_times((size_t)rows, (size_t)trnn_ceil(depth, TRNN_PANEL) * TRNN_PANEL);
}

/* transposed = the transpose of the first `rows` packed rows of a float32 matrix, packed in turn: `depth` rows of
 * `rows` numbers in the order of the packed rows. The part does its share of the groups. */
void trnn_transpose(trnn_matrix matrix, int32_t rows, float *transposed, int32_t part, int32_t parts);

/* The transpose as a matrix. */
static inline trnn_matrix trnn_transposed_matrix(const float *transposed, int32_t rows, int32_t depth)
{
    return trnn_matrix_of(transposed, TRNN_F32, 1, depth, rows);
}

/* The gradients of a matrix's weights and bias, everything dense: M rows of dy (N numbers) times x. The part
 * does its share of the groups. */
static inline trnn_weight_gradient trnn_weight_gradient_of(const trnn_pass *pass, trnn_matrix matrix,
                                                           int32_t rows, int32_t cols, const float *dy,
                                                           const float *x, float *dw, float *db)
{
    trnn_weight_gradient gradient;
    gradient.rows = rows;
    gradient.cols = cols;
    gradient.panels = matrix.panels;
    gradient.width = matrix.width;
    gradient.dy = dy;
    gradient.dy_stride = (size_t)cols;
    gradient.part = pass->part;
    gradient.parts = pass->parts;
    gradient.terms = 1;
    gradient.term[0] = (trnn_gradient_term){matrix.depth, x, (size_t)matrix.depth, dw, db};
    return gradient;
}

/* May a product of this depth have this format? */
static inline int trnn_is_depth(trnn_format format, int64_t depth)
{
    return depth <= (format == TRNN_INT8 ? TRNN_INT8_DEPTH : TRNN_SIZE_MAX);
}

#endif
