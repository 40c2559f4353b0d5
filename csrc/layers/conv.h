/* What convolutions share: their weights, and a group's matrix. Each output is one chain over the group's input channels,
 * then kernel positions: a row of unrolled input times the group's matrix.
 *
 * Each group of channels is a matrix of its own, in panels. Panels of small groups, as in a depthwise convolution,
 * would be mostly padding. If there are several groups with fewer rows than a panel, the weights are kept by rows, and
 * each group is copied to a panel when it is needed.
 */
#ifndef TRNN_CONV_H
#define TRNN_CONV_H

#include "training.h"

/* Checks all arguments but those of padding. `axes`: 2 for a layer that has arguments of rows. */
trnn_status trnn_conv_check(const trnn_layer *layer, int axes);

size_t trnn_conv_depth(const trnn_layer *layer);  /* products that an output sums */
int32_t trnn_conv_units(const trnn_layer *layer); /* output channels of a group */
int trnn_conv_by_rows(const trnn_layer *layer);   /* are the weights kept by rows? */
int32_t trnn_conv_params(const trnn_layer *layer, trnn_param *params);

typedef struct {
    int32_t units, depth; /* of a group's matrix: computed once, because divisions are slow */
    int by_rows;
    float *unrolled; /* (rows, depth) */
    float *product;  /* (rows, out_channels / groups), or NULL */
    void *own;       /* scratch of the product */

    /* For weights that are kept by rows: */
    void *panel;   /* one group's matrix, or its gradient */
    void *numbers; /* (units, depth) numbers or codes, between rows and panel */
    float *scales; /* of the codes, as in trnn_param_pack */
    float *bias;   /* (16,) */
} trnn_conv_scratch;

/* Takes the arrays for `rows` unrolled rows; `product`: 1: with an array for their product. */
trnn_conv_scratch trnn_conv_place(const trnn_layer *layer, int32_t rows, int product, trnn_cursor *cursor);

/* Lays out the scratch of one call, and sets the padding of the panel to zero. */
trnn_conv_scratch trnn_conv_open(const trnn_layer *layer, int32_t rows, int product, void *memory);

typedef struct {
    trnn_matrix matrix;
    const float *bias; /* 16 numbers for each panel, or NULL */
} trnn_conv_group;

/* A group's matrix and bias; `weights` and `bias` are those of all groups. Valid until the scratch is used again. */
trnn_conv_group trnn_conv_group_of(const trnn_layer *layer, size_t group, const void *weights,
                                   const float *bias, const trnn_conv_scratch *scratch);

/* ---- training: each group's transposed matrix, in an array on the tape ------------------------------ */

size_t trnn_conv_transposed_size(const trnn_layer *layer); /* floats of all groups */
void trnn_conv_transpose(const trnn_pass *pass, const trnn_conv_scratch *scratch, float *transposed);
trnn_matrix trnn_conv_transposed(const trnn_layer *layer, const float *transposed, size_t group);

/* Adds a group's gradients, over all frames, to dw and db, which are in panels. */
typedef void trnn_conv_add(const trnn_pass *pass, size_t group, trnn_matrix matrix,
                           const trnn_conv_scratch *scratch, float *dw, float *db);

/* Adds the part's share of all groups' gradients. */
void trnn_conv_gradients(const trnn_pass *pass, const trnn_conv_scratch *scratch, trnn_conv_add *add);

#endif
