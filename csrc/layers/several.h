/* How a layer that reads several values walks over their frames, in use and in training. */
#ifndef TRNN_SEVERAL_H
#define TRNN_SEVERAL_H

#include "training.h"

/* Some frames that lie together in all values: `frames` of them, or one of a value that is still. */
typedef struct {
    int32_t first, rows; /* of the batch */
    int32_t batch;
    int32_t from, to;
} trnn_walk;

static inline trnn_walk trnn_walk_of_call(const trnn_call *call)
{
    return (trnn_walk){0, call->batch, call->batch, 0, call->steps};
}

static inline trnn_walk trnn_walk_of_pass(const trnn_pass *pass)
{
    return (trnn_walk){pass->first, pass->rows, pass->batch, pass->from, pass->to};
}

/* The frame of step t and row b in a value. */
static inline size_t trnn_walk_at(const trnn_walk *walk, int32_t t, int32_t b, int still)
{
    return (still ? 0 : (size_t)t * (size_t)walk->batch) + (size_t)b;
}

#endif
