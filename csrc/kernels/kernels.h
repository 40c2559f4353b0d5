/* The table of kernels: what a layer may ask of an instruction set.
 *
 * kernels.c is compiled once per line of isa.def and exports one such table; kernels.def is the list of its
 * entries. Every one but the two for benchmarks gives the same bits on every ISA with a fused multiply-add, for any number of rows: a
 * row's result never depends on its neighbours.
 *
 * Packed weights (format.h): the rows of a matrix in panels of 16, the panels in groups of up to 4. A
 * cell's group holds the gates of the same 16 units, so its width is the number of gates; everything
 * else has groups of 4 and a last one of 1 to 4.
 */
#ifndef TRNN_KERNELS_H
#define TRNN_KERNELS_H

#include "../cells/cell.h"
#include "../config.h"
#include "../format.h"
#include "../tinyrnn.h"

/* Packed weights: (panels * 16, depth). */
typedef struct {
    const void *weights;
    trnn_format format;
    int32_t depth;  /* K */
    int32_t panels; /* of all rows */
    int32_t width;  /* panels of a full group: 3 or 4 */
} trnn_matrix;

/* One product: y[m][n] = bias[n] + sum_k w[n][k] * x[m][k]. With float weights k ascends in one chain of
 * multiply-adds. With integers x is rounded to codes row by row, sums of codes are exact, and the chain
 * runs over the blocks of one scale. */
typedef struct {
    trnn_matrix matrix;
    int32_t rows;      /* M */
    int32_t cols;      /* N: valid numbers of a row of y; at most panels * 16 */
    const float *bias; /* (panels * 16,), or NULL for zeros */
    const float *x;    /* (M, K), rows x_stride apart */
    float *y;          /* (M, N), rows y_stride apart; no overlap with the others */
    size_t x_stride, y_stride;
    void *scratch;      /* trnn_product_scratch(format, M, K) bytes, aligned to 64 */
    int32_t descending; /* 1: the last group first; changes no bit */
} trnn_product;

/* One step of a cell for several streams, with its projection to come: y from the sums of its gates and what
 * else its formula reads. cells/cell.h says what a cell's facts are; what it does without is idle. */
typedef struct {
    trnn_matrix
        hidden; /* (gates * H, numbers of h: H, or P with a projection); no_hh: no weights, only its shape */
    int32_t rows;  /* B */
    int32_t units; /* H */
    const trnn_recurrent_args *args;
    const float *gates; /* (B, gates * H in packed order): the input's part, bias included; or NULL and */
    const trnn_product
        *input;           /* the product of B rows that gives it, done here group by group; its y is idle */
    const float *bias_hh; /* packed (gates * H,), or NULL: read for apart gates only */
    const float *vectors; /* packed (vectors * H,) */
    const float *h;       /* (B, depth), rows h_stride apart */
    float *states;        /* (B, states * H), rows states_stride apart, updated in place */
    float *y;             /* (B, H), rows y_stride apart; does not overlap h */
    size_t gates_stride, h_stride, states_stride, y_stride;
    void *scratch;      /* trnn_product_scratch of the hidden matrix, aligned to 64 */
    int32_t descending; /* 1: the last group first; changes no bit */
    float *tape;   /* _taped: (B, gates * H in packed order), rows gates_stride apart, for what the formula
                         * keeps in place of the gates' sums; it may be `gates` */
    float *tape_h; /* _taped, apart gates: as large, for what it keeps of their hidden parts */
} trnn_cell;

/* The same step backwards, from what the tape holds: the gradients of the sums that the gates were made of.
 * Padding units get zeros. dh = dh_sum + dh_own + dy. */
typedef struct {
    int32_t rows;  /* B */
    int32_t units; /* H */
    const trnn_recurrent_args *args;
    float *gates;         /* (B, gates * H packed): the tape; becomes the gradients of its sums */
    float *hidden;        /* apart gates: (B, gates * H packed): tape_h; becomes those of the hidden parts */
    const float *vectors; /* packed (vectors * H,) */
    float *dvectors;      /* (B, vectors * H packed), rows dvectors_stride apart: each row's share */
    const float *dy;      /* (B, H), rows dy_stride apart: gradient of what the step wrote; or NULL */
    const float *dh_sum;  /* (B, H), rows h_stride apart: what the next step's gates gave */
    float *dh_own; /* own: (B, H), rows h_stride apart: what the next step's h gave; becomes this one's */
    const float *h_before;      /* own: (B, H), rows h_stride apart */
    const float *states_before; /* (B, states * H), rows states_stride apart */
    float *dstates;             /* as these: gradients of the new states; become those of states_before */
    size_t gates_stride, dvectors_stride, dy_stride, h_stride, states_stride;
} trnn_cell_back;

/* What a matrix multiplied, and where its gradient goes. */
typedef struct {
    int32_t depth;  /* K */
    const float *x; /* (M, K), rows x_stride apart */
    size_t x_stride;
    float *dw; /* packed, float32, as the weights; overlaps nothing else */
    float *db; /* packed (panels * 16,), or NULL */
} trnn_gradient_term;

/* Gradients of the weights of one product, or of two that were added:
 * dw[n][k] += sum_m dy[m][n] * x[m][k], db[n] += sum_m dy[m][n]; m ascends in one chain of multiply-adds that
 * starts from what is there. */
typedef struct {
    int32_t rows;    /* M */
    int32_t cols;    /* N: numbers of a row of dy, at most panels * 16 */
    int32_t panels;  /* of all rows of the matrix */
    int32_t width;   /* panels of a full group */
    const float *dy; /* (M, N), rows dy_stride apart */
    size_t dy_stride;
    int32_t part, parts; /* does the groups g of the matrix for which g % parts is part */
    int32_t terms;
    trnn_gradient_term term[2];
} trnn_weight_gradient;

typedef enum {
    TRNN_MAP_EXP,
    TRNN_MAP_SIGMOID,
    TRNN_MAP_TANH,
    TRNN_MAP_RELU,
    TRNN_MAP_LEAKY_RELU,
    TRNN_MAP_COUNT
} trnn_map;

/* One step of an optimiser: what is the same for all numbers of a tensor. optim/optim.c works it out. */
typedef struct {
    const trnn_rule *rule;  /* for its flags */
    int32_t plain;          /* 1: scale is 1, limit none, both penalties 0 */
    float scale, limit;     /* gradients are scaled, then kept within +-limit */
    float weight_decay, l1; /* penalties that go through the gradient */
    float keep;             /* what decoupled weight decay leaves of a weight, else 1 */
    float rate;
    float first, first_new;   /* what a moment keeps, and what it takes of the gradient */
    float second, second_new; /* the same for the moment of squares */
    float eps;                /* above 0 */
} trnn_update;

struct trnn_kernels {
    const char *name;
    int fused;
#if !defined(TRNN_ISA_ONLY)
#define TRNN_ENTRY(type, name, parameters, arguments) type(*name) parameters;
#include "kernels.def"
#undef TRNN_ENTRY
#endif
};

/* A kernel of an instruction set, to be called: TRNN_KERNEL(isa, product)(&product). A build for one set alone
 * calls the function itself, so that the linker drops the kernels that nobody calls. */
#if defined(TRNN_ISA_ONLY)
#define TRNN_KERNEL(isa, name)                        ((void)(isa), trnn_kernel_##name)
#define TRNN_ENTRY(type, name, parameters, arguments) type trnn_kernel_##name parameters;
#include "kernels.def"
#undef TRNN_ENTRY
#else
#define TRNN_KERNEL(isa, name) ((isa)->name)
#endif

#define TRNN_ISA(name, ...) extern const trnn_kernels trnn_kernels__##name;
#include "isa.def"
#undef TRNN_ISA

#endif
