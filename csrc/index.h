/* How the core reads the caller's indices, classes and labels.
 *
 * They are checked before anything is written, but another thread may write to them after that. trnn_index_at() reads
 * one once, and never returns one that is out of range. */
#ifndef TRNN_INDEX_H
#define TRNN_INDEX_H

#include <stddef.h>
#include <stdint.h>

/* indices[i] where it lies in 0 .. count - 1; else -1. */
static inline int32_t trnn_index_at(const int32_t *indices, size_t i, int32_t count)
{
    const volatile int32_t *once = indices; /* so that no compiler reads it a second time */
    const int32_t index = once[i];
    return index >= 0 && index < count ? index : -1;
}

#endif
