/* A bump cursor: the same walk over a list of arrays measures them or places them.
 *
 * With base NULL it measures; with memory as base it returns pointers. The list is written once, so sizes and pointers
 * cannot disagree. After an overflow, bytes stays SIZE_MAX.
 */
#ifndef TRNN_LAYOUT_H
#define TRNN_LAYOUT_H

#include "config.h"

typedef struct {
    char *base; /* NULL: measure only */
    size_t bytes;
} trnn_cursor;

/* a * b, SIZE_MAX if that overflows or either is SIZE_MAX already. */
static inline size_t trnn_times(size_t a, size_t b)
{
    if (a == 0 || b == 0) return 0;
    return a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

/* a + b, SIZE_MAX if that overflows. */
static inline size_t trnn_plus(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

/* Bytes rounded up to a multiple of TRNN_ALIGN. */
static inline size_t trnn_align(size_t bytes)
{
    return bytes > SIZE_MAX - TRNN_ALIGN ? SIZE_MAX : (bytes + TRNN_ALIGN - 1) / TRNN_ALIGN * TRNN_ALIGN;
}

/* The next bytes, aligned; NULL while measuring. */
static inline void *trnn_take_bytes(trnn_cursor *cursor, size_t bytes)
{
    void *place = cursor->base ? cursor->base + cursor->bytes : NULL;
    cursor->bytes = trnn_plus(cursor->bytes, trnn_align(bytes));
    return place;
}

/* The next `count` floats, aligned; NULL while measuring. */
static inline float *trnn_take(trnn_cursor *cursor, size_t count)
{
    return trnn_take_bytes(cursor, trnn_times(count, sizeof(float)));
}

static inline size_t trnn_larger(size_t a, size_t b) { return a > b ? a : b; }

/* How many parts of `part` cover `whole`. */
static inline int32_t trnn_ceil(int32_t whole, int32_t part) { return (whole + part - 1) / part; }

/* A size of the caller's: 1 .. TRNN_SIZE_MAX. */
static inline int trnn_is_size(int32_t value) { return value >= 1 && value <= TRNN_SIZE_MAX; }

/* A flag of the caller's: 0 or 1. */
static inline int trnn_is_flag(int32_t value) { return value == 0 || value == 1; }

/* A share of a whole. */
static inline int trnn_is_share(float value) { return value >= 0.0f && value <= 1.0f; }

#endif
