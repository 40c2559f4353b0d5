/* The contract of a loss. loss.c uses it and names no loss.
 *
 * A loss is a const table of functions over its arguments; it owns no memory. Most losses look at one number or one
 * distribution at a time, and loss.c calls them with the frames that count. CTC looks at a whole row of the batch.
 */
#ifndef TRNN_LOSS_H
#define TRNN_LOSS_H

#include "../kernels/kernels.h"
#include "../layout.h"
#include "../tinyrnn.h"

/* Contiguous frames: rows of one last axis each. */
typedef struct {
    const trnn_loss *loss;
    const trnn_kernels *isa;
    const float *y;        /* (rows, cols) */
    const void *target;    /* (rows, cols) float32, or (rows,) int32 classes */
    float *dy;             /* (rows, cols), or NULL */
    float *values;         /* (rows, cols), for a loss with classes (rows,); or NULL */
    size_t rows, cols;     /* cols >= 1 */
    int32_t probabilities; /* 1: float32 targets of a loss with classes */
    double scale;          /* factor of every gradient: 1 / count for a mean */
    void *scratch;
} trnn_loss_part;

/* All steps of one row of the batch. */
typedef struct {
    const trnn_loss *loss;
    const trnn_kernels *isa;
    const float *y;        /* (steps, cols), steps stride apart */
    const int32_t *target; /* (count,) */
    float *dy;             /* as y, or NULL */
    size_t stride;         /* floats */
    int32_t steps, cols, count;
    double scale;
    void *scratch;
} trnn_loss_row;

struct trnn_loss_type {
    const char *name;

    /* Are the arguments in range? NULL: all are. */
    trnn_status (*check)(const trnn_loss *loss);

    /* Bytes of working memory; NULL: none. */
    size_t (*scratch)(size_t steps, size_t numbers, size_t target_steps);

    /* Are the targets in range, and does the loss fit the frames? NULL: yes. */
    trnn_status (*look)(const trnn_loss_part *part);

    /* The part's share of a mean's divisor; NULL: its numbers. */
    double (*count)(const trnn_loss_part *part);

    /* Adds every value to *sum, one after the other, and writes dy and values. */
    void (*add)(const trnn_loss_part *part, double *sum);

    /* For a loss that looks at whole rows: in place of look, count and add. The result is the row's value. */
    trnn_status (*look_row)(const trnn_loss_row *row);
    double (*row)(const trnn_loss_row *row);

    int classes; /* 1: a target is one class for each last axis of y */
};

#endif
