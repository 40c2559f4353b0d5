/* Numbers of the caller's that the core looks something up by: indices, classes, labels.
 *
 * They are checked before anything is written, and another thread may write to them after that. So whoever
 * looks one up reads it through trnn_index_at(): once, and never out of range. */
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
