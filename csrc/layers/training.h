/* The contract of a layer that trains: the half of it that train.c knows, apart from layer.h, so that a program
 * that trains nothing links none of it.
 *
 * A layer that looks at one frame at a time is given frames without a gap, as one step of many rows; one that
 * looks at sequences gets all steps of its part's rows, and one that mixes the rows of a batch is given the
 * whole batch, in one part.
 */
#ifndef TRNN_TRAINING_H
#define TRNN_TRAINING_H

#include "layer.h"

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
    int32_t part, parts;    /* which part it is, in transpose() and gradients() */
    const int32_t *lengths; /* NULL, or (batch,) */
    size_t frame;           /* frames of the layer's array before x */
    uint32_t seed[2];       /* of random numbers */
} trnn_pass;

struct trnn_layer_training {
    /* Can it train on so many frames `in`? The frames are those that count. NULL: yes. */
    trnn_status (*check)(const trnn_layer *layer, trnn_frame in, int64_t frames);

    /* Bytes of tape; NULL: none. */
    trnn_layer_bytes *tape;

    /* Bytes of working memory; NULL: those of the type's scratch(). */
    trnn_layer_bytes *scratch;

    /* Lay the matrices that backward() needs out on the tape, transposed, before each pass, since weights
     * change between them: a share for each part. NULL: none. */
    void (*transpose)(const trnn_pass *pass);

    /* Compute y, and keep what the others need; NULL: as the type's run(). */
    void (*forward)(const trnn_pass *pass);

    /* dx from dy, and what gradients() needs; NULL: y is x and dx is dy, nothing is computed. */
    void (*backward)(const trnn_pass *pass);

    /* Add the gradients of the weights, over all steps and rows at once, a share for each part: no number is
     * summed by two of them. NULL: no weights. */
    void (*gradients)(const trnn_pass *pass);

    int sequences;    /* 1: looks at sequences */
    int across_batch; /* 1: mixes the rows of a batch */

    const void *family; /* as the type's */
};

/* What run() computes forwards of a pass, with the scratch of scratch(). */
static inline trnn_call trnn_call_of(const trnn_pass *pass)
{
    trnn_call call = {
        .layer = pass->layer,
        .isa = pass->isa,
        .state = pass->state,
        .scratch = pass->scratch,
        .x = pass->x,
        .y = pass->y,
        .state_stride = pass->state_stride,
        .in = pass->in,
        .out = pass->out,
        .steps = pass->steps,
        .batch = pass->batch,
        .lengths = pass->lengths,
    };
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++) call.weights[p] = pass->weights[p];
    return call;
}

/* ---- a matrix the other way round ---------------------------------------------------------------- */

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
    return (trnn_weight_gradient){
        .rows = rows,
        .cols = cols,
        .panels = matrix.panels,
        .width = matrix.width,
        .dy = dy,
        .dy_stride = (size_t)cols,
        .part = pass->part,
        .parts = pass->parts,
        .terms = 1,
        .term = {{matrix.depth, x, (size_t)matrix.depth, dw, db}},
    };
}

#endif
