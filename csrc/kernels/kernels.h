/* The kernels of an instruction set, and the structs that they take.
 *
 * kernels.c is compiled once per line of isa.def, and exports a table of the kernels that kernels.def lists. All but
 * the two for benchmarks give the same bits on every ISA with a fused multiply-add. A row's result never depends on
 * the other rows.
 *
 * Packed weights (format.h) are the rows of a matrix in panels of 16, and the panels in groups of up to 4. A group
 * of a cell with several gates holds the gates of the same 16 units, so its width is their number. Other matrices
 * have groups of 4, and a last one of 1 to 4.
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
    int32_t width;  /* panels of a full group */
} trnn_matrix;

/* One product: y[m][n] = bias[n] + sum_k w[n][k] * x[m][k]. With float weights it is one chain of multiply-adds in
 * ascending k. With integer weights x is rounded to codes row by row, sums of codes are exact, and the chain runs
 * over the blocks that share a scale. */
typedef struct {
    trnn_matrix matrix;
    int32_t rows;      /* M */
    int32_t cols;      /* N: numbers of a row of y, at most panels * 16 */
    const float *bias; /* (panels * 16,), or NULL for zeros */
    const float *x;    /* (M, K), rows x_stride apart */
    float *y;          /* (M, N), rows y_stride apart; no overlap with the others */
    size_t x_stride, y_stride;
    void *scratch;      /* trnn_product_scratch(format, M, K) bytes, aligned to 64 */
    int32_t descending; /* 1: the last group first; changes no bit */
} trnn_product;

/* Layer normalisation of a cell's sums, and of c' of an LSTM (NULL without): gains as in PyTorch, without padding. Of a
 * FastGRNN zeta and nu, (1,) each, are in the place of c and c_bias; the others are NULL. */
typedef struct {
    const float *ih, *hh;    /* (gates * H,) */
    const float *c, *c_bias; /* (H,) */
    const float
        *bias; /* (gates * H packed,), or NULL: it is added behind the norm, the input part is without */
} trnn_cell_norm;

/* The two parts of a row's sums, each normalised over all of its numbers, and their sum, with zeros below TRNN_TINY:
 * normal_x = LN(x) gain_x + bias, normal_hidden = LN(hidden) gain_hidden. x, hidden and bias are `parts` times `size`
 * numbers, side by side in panels of 16 of each part; or, if size is no multiple of 16, one part. The gains are arrays, as
 * in PyTorch; so are the results. All but the gains have room for whole panels. */
typedef struct {
    size_t parts, size;
    float eps;
    const float *x, *hidden, *bias, *gain_x, *gain_hidden;
    float *normal_x, *normal_hidden, *sum;
} trnn_norm_sums;

/* Random numbers of training: a seed, NULL: none, and the place of the first one. */
typedef struct {
    const uint32_t *seed;
    size_t place;
} trnn_dice;

/* What a cell of layers/general.c has beside the others. */
typedef struct {
    const trnn_cell_activation *activations; /* the three of a direction */
    const trnn_cell_norm *norm; /* NULL: none. With a norm the tape is the input part of the sums */
    /* Low rank: weight_hr, (rank, H), by which h is multiplied first; that goes to low (B, rank), or NULL. */
    const void *factor;
    float *low;
    trnn_dice dice; /* of zoneout */
    float *work;    /* trnn_cell_work numbers */
    int32_t shows;  /* 1: the tape takes the gates' activations in place of their sums */
} trnn_cell_options;

/* One step of a cell for several rows, before its projection: y from the sums of its gates and what else its formula
 * reads. Members for which the cell has no fact (cells/cell.h) are not read. For a cell of two rounds, one round: its
 * matrix and gates are meant by `hidden`, `gates` and so on. */
typedef struct {
    trnn_matrix hidden; /* (gates * H, numbers of h: H, or P with a projection); not read if no_hh */
    int32_t rows;       /* B */
    int32_t units;      /* H */
    const trnn_recurrent_args *args;
    /* The input part of the sums, bias included: (B, gates * H packed). If `input` is not NULL, this product gives it
     * instead: it is computed group by group, and its y is not used. */
    const float *gates;
    const trnn_product *input;
    /* (gates * H packed,): what the hidden sums begin with, b_hh of apart gates and zeros for others; NULL: zeros for all */
    const float *bias_hh;
    const float *vectors;             /* (vectors * H packed,) */
    const trnn_cell_options *options; /* general cells; else not read */
    const float *h;                   /* (B, depth), rows h_stride apart: what `hidden` multiplies */
    const float *before; /* own, zoneout: the h before the step, (B, H), rows before_stride apart; may be h */
    const float *between; /* second round: the first one's tape, rows gates_stride apart */
    float *states;        /* (B, states * H), rows states_stride apart, updated in place */
    float *y;             /* (B, H), rows y_stride apart; does not overlap h */
    size_t gates_stride, h_stride, before_stride, states_stride, y_stride;
    void *scratch;      /* trnn_product_scratch of the hidden matrix, aligned to 64 */
    int32_t descending; /* 1: the last group first; changes no bit */
    float *tape;        /* <cell>_taped: as `gates`: a number for each gate; may be `gates` */
    float *tape_h;      /* <cell>_taped: as `tape`, for apart gates: a second number for each */
    /* no_hh: steps, and how far the next one's `gates` and `y` are, which may be negative. A step's h is the y before
     * it. One step may keep a tape, if `tape` is not NULL. */
    int32_t steps;
    ptrdiff_t gates_step, y_step;
} trnn_cell;

/* The same step in the backward pass: from the tape to the gradients of the gates' sums. Padding units get zeros.
 * The gradient of what the step wrote is dh = dh_sum + dh_own + dy; in the first of two rounds it is dh_sum. */
typedef struct {
    int32_t rows;  /* B */
    int32_t units; /* H */
    const trnn_recurrent_args *args;
    float *gates;         /* (B, gates * H packed): the tape, then the gradients of the sums */
    float *hidden;        /* apart gates: as `gates`: tape_h, then the gradients of the hidden parts */
    float *between;       /* second round: as `gates`, of the first one */
    const float *vectors; /* (vectors * H packed,) */
    const trnn_cell_options *options; /* as the forward step's */
    const float *bias_hh;             /* with a norm: as the forward step's */
    float *dnorm;    /* with a norm: (B, trnn_norms_size), each row's share of these gradients, added to */
    float *dvectors; /* (B, vectors * H packed), rows dvectors_stride apart: each row's share */
    const float *dy; /* (B, H), rows dy_stride apart: gradient of the step's output; or NULL */
    const float *dh_sum; /* (B, H), rows h_stride apart: gradient of h through the next step's sums */
    float *dh_own;       /* own: as dh_sum: gradient of h through the next step's formula; then of h_before */
    const float *h_before;      /* own: (B, H), rows h_stride apart */
    const float *states_before; /* (B, states * H), rows states_stride apart */
    float *dstates;             /* as states_before: gradients of the new states, then of states_before */
    size_t gates_stride, dvectors_stride, dy_stride, h_stride, states_stride;
    size_t dnorm_stride;
} trnn_cell_back;

/* The input of a matrix, and the place of its gradient. */
typedef struct {
    int32_t depth;  /* K */
    const float *x; /* (M, K), rows x_stride apart */
    size_t x_stride;
    float *dw; /* packed, float32, as the weights; overlaps nothing else */
    float *db; /* packed (panels * 16,), or NULL */
} trnn_gradient_term;

/* Weight gradients of one product, or of two products that were added:
 * dw[n][k] += sum_m dy[m][n] * x[m][k], db[n] += sum_m dy[m][n]. Each is one chain of multiply-adds in ascending m
 * that starts from the old value. */
typedef struct {
    int32_t rows;    /* M */
    int32_t cols;    /* N: numbers of a row of dy, at most panels * 16 */
    int32_t panels;  /* of all rows of the matrix */
    int32_t width;   /* panels of a full group */
    const float *dy; /* (M, N), rows dy_stride apart */
    size_t dy_stride;
    int32_t part, parts; /* the groups g of the matrix with g % parts == part */
    int32_t terms;
    trnn_gradient_term term[2];
} trnn_weight_gradient;

/* One step of an optimiser: the numbers that all weights of a tensor share. optim/optim.c computes them. */
typedef struct {
    const trnn_rule *rule;  /* for its flags */
    int32_t plain;          /* 1: scale is 1, there is no limit, both penalties are 0 */
    float scale, limit;     /* gradients are scaled, then clipped to +-limit */
    float weight_decay, l1; /* penalties that are added to the gradient */
    float keep;             /* factor of a weight: 1 less decoupled weight decay */
    float rate;
    float first, first_new; /* as in trnn_coefficients (optim/optimiser.h) */
    float second, second_new;
    float eps; /* above 0 */
} trnn_update;

struct trnn_kernels {
    const char *name;
    int fused;
#if !defined(TRNN_ISA_ONLY)
#define TRNN_ENTRY(type, name, parameters, ...) type(*name) parameters;
#include "kernels.def"
#undef TRNN_ENTRY
#endif
};

/* The function of a kernel: trnn_<name>__<isa>. */
#define TRNN_FUNCTION_OF(name, isa) trnn_##name##__##isa
#define TRNN_FUNCTION(name, isa)    TRNN_FUNCTION_OF(name, isa)

/* A kernel of an instruction set: TRNN_KERNEL(isa, product)(&product) calls it. A build for a single instruction set
 * calls the function without a table, so that the linker drops the kernels that are not called. */
#if defined(TRNN_ISA_ONLY)
#define TRNN_KERNEL(isa, name)                  ((void)(isa), TRNN_FUNCTION(name, TRNN_ISA_ONLY))
#define TRNN_ENTRY(type, name, parameters, ...) type TRNN_FUNCTION(name, TRNN_ISA_ONLY) parameters;
#include "kernels.def"
#undef TRNN_ENTRY
#else
#define TRNN_KERNEL(isa, name) ((isa)->name)
#endif

#define TRNN_ISA(name, ...) extern const trnn_kernels trnn_kernels__##name;
#include "isa.def"
#undef TRNN_ISA

#endif
