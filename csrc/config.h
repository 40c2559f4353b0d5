/* The compiler, the C library, and the sizes that belong to the weight format. No other file names libc, except
 * kernels/cpu.c, which asks Linux on ARM what the processor has.
 *
 * A port without <string.h> replaces trnn_copy and trnn_zero here, and nothing else.
 */
#ifndef TRNN_CONFIG_H
#define TRNN_CONFIG_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "switches.h"

/* Rows of a panel, the unit of packed weights. The number belongs to the weight format, not to the machine: every
 * instruction set reads panels of 16, in one, two, four or sixteen registers. */
#define TRNN_PANEL 16

/* Panels side by side for each k, so that four of them are read as one stream of memory. */
#define TRNN_GROUP 4

/* Alignment, in bytes, of packed weights and of every buffer that the core places. */
#define TRNN_ALIGN 64

/* The largest argument of a layer, batch or number of steps. */
#define TRNN_SIZE_MAX ((int32_t)1 << 28)

/* States smaller than this (2^-64) become zero. A state that decays would otherwise become subnormal, and many
 * processors compute with subnormal numbers a hundred times slower. */
#define TRNN_TINY 5.421010862427522e-20f

#if defined(__GNUC__)
#define TRNN_INLINE static inline __attribute__((always_inline, unused))
#else
#define TRNN_INLINE static inline
#endif

#if defined(__GNUC__) && !defined(__clang__) /* GCC would also clone it for constant arguments */
#define TRNN_NOINLINE static __attribute__((noinline, noclone, unused))
#elif defined(__GNUC__)
#define TRNN_NOINLINE static __attribute__((noinline, unused))
#else
#define TRNN_NOINLINE static
#endif

/* Before a loop over registers whose body is long: unrolled, it would only be larger. */
#if defined(__clang__)
#define TRNN_ROLLED _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__)
#define TRNN_ROLLED _Pragma("GCC unroll 1")
#else
#define TRNN_ROLLED
#endif

#if defined(__clang__)
#define TRNN_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TRNN_UNROLL _Pragma("GCC unroll 16")
#else
#define TRNN_UNROLL
#endif

#define trnn_copy(destination, source, bytes) memcpy(destination, source, bytes)
#define trnn_zero(destination, bytes)         memset(destination, 0, bytes)

/* Are two names the same? Without strcmp, which a core may not have. */
TRNN_INLINE int trnn_same_name(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

#endif
