/* The contract of a layer that trains. train.c uses it and names no layer. It is a table apart from that of layer.h,
 * so that a program without training links none of it.
 *
 * A pass gives a layer the frames that it needs together. A layer that looks at one frame at a time gets contiguous
 * frames, as one step of many rows. A layer that looks at sequences gets all steps of its part's rows. A layer that
 * mixes the rows of a batch gets the whole batch, in one part.
 */
#ifndef TRNN_TRAINING_H
#define TRNN_TRAINING_H

#include "layer.h"

/* A further value that a layer reads, as trnn_read, with its gradient. */
typedef struct {
    const float *x; /* (steps, batch, in) */
    float *dx;      /* as x: written by backward(); NULL: not needed */
    trnn_frame in;
    int32_t still;
    int32_t steps;
    const int32_t *lengths;
} trnn_pass_read;

/* One pass of one layer in training, over some rows of a batch. No two arrays overlap. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    float *weights[TRNN_PARAMS_MAX]; /* in the order of params(); NULL for an absent one */
    float *grads[TRNN_PARAMS_MAX];   /* as the weights, added to; NULL for a frozen or absent one */
    float *state;                    /* the layer's state of row 0, before the sequence, then after it */
    float *dstate;                   /* gradient of the state after the sequence, then of that before it */
    size_t state_stride;             /* floats from a row's state to the next */
    void *tape;    /* the bytes that tape() asks for: kept from forward() to the other two */
    void *scratch; /* this part's working memory; contents do not matter between calls */
    const void *x; /* (steps, batch, in) */
    float *y;      /* (steps, batch, out) */
    float *dy;     /* as y: its gradient */
    float *dx;     /* as x: written by backward(); NULL: not needed */
    trnn_frame in, out;
    int32_t steps, batch;
    int32_t from, to;        /* the steps of this call of forward() or backward(): one by one within a loop */
    int32_t first, rows;     /* this part's rows of the batch, in forward() and backward() */
    int32_t part, parts;     /* this part's number, in transpose() and gradients() */
    const int32_t *lengths;  /* NULL, or (batch,) */
    size_t frame;            /* frames of the layer's array before x */
    int32_t hidden;          /* 1: where y is a state, backward() leaves all of that state's gradient in dy */
    uint32_t seed[2];        /* of random numbers */
    int32_t still;           /* 1: x is one frame a row for all steps */
    float *source, *dsource; /* as state and dstate, of the layer that wrote x; NULL for a net's input */
    int32_t count;           /* further values that it reads */
    trnn_pass_read others[TRNN_READS_MAX - 1];
    trnn_due due; /* as in trnn_call */
} trnn_pass;

struct trnn_layer_training {
    /* Can it train on `frames` frames within the lengths? NULL: yes. */
    trnn_status (*check)(const trnn_layer *layer, trnn_frame in, int64_t frames);

    /* Bytes of tape; NULL: none. */
    trnn_layer_bytes *tape;

    /* Bytes of working memory; NULL: those of the type's scratch(). */
    trnn_layer_bytes *scratch;

    /* Write the part's share of the transposed matrices that backward() reads to the tape. It is called before
     * each pass, because weights change between passes. NULL: none. */
    void (*transpose)(const trnn_pass *pass);

    /* Compute y, and keep on the tape what backward() and gradients() need; NULL: as the type's run(). */
    void (*forward)(const trnn_pass *pass);

    /* Compute dx from dy, and keep what gradients() needs; NULL: y is x and dx is dy. It writes dx: train.c adds up
     * the gradients of a value that several layers read. */
    void (*backward)(const trnn_pass *pass);

    /* For a delay: as its type's after(), for the part's rows; and its gradient: before any layer of the loop goes
     * back through the step, write dx from dstate. */
    void (*after)(const trnn_pass *pass);
    void (*after_backward)(const trnn_pass *pass);

    /* Add the part's share of the gradients of the weights, over all steps and rows at once. No two parts add to
     * the same number. NULL: no weights. */
    void (*gradients)(const trnn_pass *pass);

    int sequences;    /* 1: looks at sequences, or at several values */
    int across_batch; /* 1: mixes the rows of a batch */

    const void *family; /* as in trnn_layer_type */
};

/* The forward part of a pass as a call of run(). */
static inline trnn_call trnn_call_of(const trnn_pass *pass, const void *weights[TRNN_PARAMS_MAX])
{
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++) weights[p] = pass->weights[p];
    return (trnn_call){
        .layer = pass->layer,
        .isa = pass->isa,
        .weights = weights,
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
        .due = pass->due,
    };
}

/* As trnn_call_mask; and its gradient, which is 0. */
static inline const float *trnn_pass_mask(const trnn_pass *pass)
{
    return TRNN_WITH_GRAPHS && pass->count && !pass->others[0].still ? pass->others[0].x : NULL;
}
static inline void trnn_mask_backward(const trnn_pass *pass)
{
    float *const dx = trnn_pass_mask(pass) ? pass->others[0].dx : NULL;
    for (int32_t t = pass->from; dx && t < pass->to; t++)
        trnn_zero(dx + (size_t)t * (size_t)pass->batch + (size_t)pass->first,
                  (size_t)pass->rows * sizeof(float));
}

/* As trnn_start_run, for the part's rows. began (batch,): 1 for rows that begin with the values. */
void trnn_start_forward(const trnn_pass *pass, size_t numbers, float *began);

/* Behind the layer's backward pass, from its step `from` on: write the gradients of the values that its state began with,
 * and clear that of the state. They are zero for later steps, and for rows that had begun before the pass. */
void trnn_start_backward(const trnn_pass *pass, const float *began);

/* Is the number at place i dropped, as a share p of all are? A multiply-and-shift hash with full avalanche ("lowbias32" of
 * Wellons's hash-prospector), keyed twice. It has no state, so the order of rows and parts does not matter. */
static inline int trnn_is_dropped(const uint32_t seed[2], size_t i, float p)
{
    uint32_t h = (uint32_t)i ^ seed[0];
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h = (h ^ h >> 16) + seed[1] + (uint32_t)((uint64_t)i >> 32);
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return (h ^ h >> 16) >> 8 < (uint32_t)((double)p * 16777216.0);
}

/* ---- transposed weights -------------------------------------------------------------------------- */

/* Floats of the transpose of a matrix of `rows` packed rows and `depth` columns. */
static inline size_t trnn_transposed_size(int32_t rows, int32_t depth)
{
    return trnn_times((size_t)rows, (size_t)trnn_ceil(depth, TRNN_PANEL) * TRNN_PANEL);
}

/* transposed = the transpose of the first `rows` packed rows of a float32 matrix. It is packed itself: `depth` rows
 * of `rows` numbers, in the order of the packed rows. The part does its share of the groups. trnn_transpose_into writes
 * the `rows` numbers from the `first` one on, of `all` in a row. */
void trnn_transpose_into(trnn_matrix matrix, int32_t rows, float *transposed, size_t first, size_t all,
                         int32_t part, int32_t parts);
static inline void trnn_transpose(trnn_matrix matrix, int32_t rows, float *transposed, int32_t part,
                                  int32_t parts)
{
    trnn_transpose_into(matrix, rows, transposed, 0, (size_t)rows, part, parts);
}

/* The transpose as a matrix. */
static inline trnn_matrix trnn_transposed_matrix(const float *transposed, int32_t rows, int32_t depth)
{
    return trnn_matrix_of(transposed, TRNN_F32, 1, depth, rows);
}

/* The gradients of a matrix's weights and bias: dy (rows, cols) times x, both dense. The part does its share of
 * the groups. */
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

/* Layer normalisation backwards: x^ = (x - mean) / sqrt(var + eps) is x * scale + shift. norm.c. */
typedef struct {
    float scale, shift;
} trnn_standard;
trnn_standard trnn_standard_of(const trnn_kernels *isa, const float *x, size_t size, float eps);

/* dx of `size` numbers that are normalised together; each `span` of them share a weight (NULL: none). dx may be dy. */
void trnn_standard_backward(trnn_standard own, const float *x, const float *dy, float *dx, size_t size,
                            const float *weight, size_t span);

#endif
