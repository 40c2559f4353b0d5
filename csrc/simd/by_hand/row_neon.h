/* VF_ROW on aarch64: one row times a full float32 group of 3 or 4 panels. Sums are in v16 to v31; a panel of weights
 * is loaded into v0 to v3 or v4 to v7 while the one before is multiplied. Compilers either load too late for
 * processors that run in order (Cortex-A53), or so early that sums are spilled: 325 cycles for four k of 64 outputs
 * instead of 228 in LLVM's model of that processor. The same bits as the operations that it replaces.
 */
#ifndef TRNN_ROW_NEON_H
#define TRNN_ROW_NEON_H

#define VF_ROW

/* clang-format off */
#define ROW_LOAD_LOW  "ld1 {v0.4s-v3.4s}, [%[w]], #64\n"
#define ROW_LOAD_HIGH "ld1 {v4.4s-v7.4s}, [%[w]], #64\n"
#define ROW_FMA(s, a, lane) "fmla v" #s ".4s, v" #a ".4s, v8.s[" #lane "]\n"
#define ROW_LOW(s0, s1, s2, s3, lane) \
    ROW_FMA(s0, 0, lane) ROW_FMA(s1, 1, lane) ROW_FMA(s2, 2, lane) ROW_FMA(s3, 3, lane)
#define ROW_HIGH(s0, s1, s2, s3, lane) \
    ROW_FMA(s0, 4, lane) ROW_FMA(s1, 5, lane) ROW_FMA(s2, 6, lane) ROW_FMA(s3, 7, lane)

/* Four panels of one k; three panels of two. `next` loads what follows. */
#define ROW_4(lane, next) \
    ROW_LOAD_HIGH ROW_LOW(16, 17, 18, 19, lane) \
    ROW_LOAD_LOW ROW_HIGH(20, 21, 22, 23, lane) \
    ROW_LOAD_HIGH ROW_LOW(24, 25, 26, 27, lane) \
    next ROW_HIGH(28, 29, 30, 31, lane)
#define ROW_3(lane, other, next) \
    ROW_LOAD_HIGH ROW_LOW(16, 17, 18, 19, lane) \
    ROW_LOAD_LOW ROW_HIGH(20, 21, 22, 23, lane) \
    ROW_LOAD_HIGH ROW_LOW(24, 25, 26, 27, lane) \
    ROW_LOAD_LOW ROW_HIGH(16, 17, 18, 19, other) \
    ROW_LOAD_HIGH ROW_LOW(20, 21, 22, 23, other) \
    next ROW_HIGH(24, 25, 26, 27, other)

#define ROW(turn, load_last, store_last) \
    __asm__ volatile( \
        "ld1 {v16.4s-v19.4s}, [%[init]], #64\n" \
        "ld1 {v20.4s-v23.4s}, [%[init]], #64\n" \
        "ld1 {v24.4s-v27.4s}, [%[init]], #64\n" load_last \
        "1: ldr q8, [%[x]], #16\n" ROW_LOAD_LOW turn \
        "subs %w[turns], %w[turns], #1\n" \
        "b.ne 1b\n" \
        "st1 {v16.4s-v19.4s}, [%[y]], #64\n" \
        "st1 {v20.4s-v23.4s}, [%[y]], #64\n" \
        "st1 {v24.4s-v27.4s}, [%[y]], #64\n" store_last \
        : [w] "+r"(w), [init] "+r"(init), [x] "+r"(x), [y] "+r"(y), [turns] "+r"(turns) \
        : \
        : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v16", "v17", "v18", "v19", \
          "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31")

/* y = init + sum over 4 * turns k; turns is at least 1. */
TRNN_INLINE void vf_row(int32_t width, const char *w, const float *init, const float *x, int32_t turns, float *y)
{
    if (width == 4)
        ROW(ROW_4(0, ROW_LOAD_LOW) ROW_4(1, ROW_LOAD_LOW) ROW_4(2, ROW_LOAD_LOW) ROW_4(3, ),
            "ld1 {v28.4s-v31.4s}, [%[init]]\n", "st1 {v28.4s-v31.4s}, [%[y]]\n");
    else
        ROW(ROW_3(0, 1, ROW_LOAD_LOW) ROW_3(2, 3, ), , );
}
/* clang-format on */

#endif
