/* NEON: aarch64, where every processor has it, and ARMv7, whose NEON has no division, no square
 * root, no fused multiply-add that every model knows, and flushes subnormal numbers to zero. */
#ifndef TRNN_VEC_NEON_H
#define TRNN_VEC_NEON_H

#include <arm_neon.h>

#define VF_LANES 4

typedef float32x4_t vf;

TRNN_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
TRNN_INLINE void vf_store(float *p, vf a) { vst1q_f32(p, a); }
TRNN_INLINE vf vf_set(float a) { return vdupq_n_f32(a); }
TRNN_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
TRNN_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
TRNN_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
TRNN_INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
TRNN_INLINE vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
TRNN_INLINE vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
TRNN_INLINE vf vf_copysign(vf a, vf b) { return vbslq_f32(vdupq_n_u32(0x80000000u), b, a); }

TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y)
{
#if defined(__aarch64__)
    return vbslq_f32(vcltq_f32(a, b), x, y);
#else
    uint32x4_t less; /* GCC 12 makes four scalar comparisons of vcltq_f32 */
    __asm__("vcgt.f32 %q0, %q1, %q2" : "=w"(less) : "w"(b), "w"(a));
    return vbslq_f32(less, x, y);
#endif
}

TRNN_INLINE vf vf_exp2i(vf n)
{
    const int32x4_t whole = vreinterpretq_s32_f32(vaddq_f32(n, vdupq_n_f32(VF_MAGIC + 127)));
    return vreinterpretq_f32_s32(vshlq_n_s32(whole, 23));
}

TRNN_INLINE vf vf_load_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }

#define VF_INPUTS 4

typedef float32x4_t vf_inputs;

TRNN_INLINE vf_inputs vf_load_inputs(const float *p) { return vld1q_f32(p); }
TRNN_INLINE vf_inputs vf_set_inputs(float a) { return vdupq_n_f32(a); }

#define VF_LOADS_MOVE

/* Four registers with one instruction, which moves the pointer on as well. */
TRNN_INLINE const char *vf_load_panel(const char *from, vf *v)
{
    const float *p = (const float *)(const void *)from;
#if defined(__aarch64__)
    const float32x4x4_t four = vld1q_f32_x4(p);
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) v[i] = four.val[i];
    p += 16;
    __asm__("" : "+r"(p)); /* or the compiler makes a sum of its own of every address */
    return (const char *)p;
#else
    float32x4x4_t four; /* GCC 12 has no intrinsic for it */
    __asm__("vldmia %0!, %h1" : "+r"(p), "=w"(four) : "m"(*(const float (*)[16])p));
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) v[i] = four.val[i];
    return (const char *)p;
#endif
}

#if defined(__aarch64__)

#define VF_REGISTERS 32
#define VF_TILE_ROWS 5
#define VF_FUSED     1

TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }

/* One row times a full group of 3 or 4 panels, by hand: sums in v16 to v31, a panel of weights loaded into
 * v0 to v3 or v4 to v7 while the one before is multiplied. Compilers either load too late for processors
 * that run in order (Cortex-A53), or so early that sums are spilled. k goes on by 4, `turns` times. */
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

TRNN_INLINE vf vf_fma_input(vf a, vf_inputs inputs, int lane, vf c)
{
    switch (lane) {
    case 0: return vfmaq_laneq_f32(c, a, inputs, 0);
    case 1: return vfmaq_laneq_f32(c, a, inputs, 1);
    case 2: return vfmaq_laneq_f32(c, a, inputs, 2);
    default: return vfmaq_laneq_f32(c, a, inputs, 3);
    }
}

TRNN_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
TRNN_INLINE vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
TRNN_INLINE vf vf_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

#else

#define VF_REGISTERS 16
#define VF_TILE_ROWS 2
#define VF_FUSED     0

/* VMLA is one instruction, and rounds the product before it adds. */
TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return vmlaq_f32(c, a, b); }

TRNN_INLINE vf vf_fma_input(vf a, vf_inputs inputs, int lane, vf c)
{
    switch (lane) {
    case 0: return vmlaq_lane_f32(c, a, vget_low_f32(inputs), 0);
    case 1: return vmlaq_lane_f32(c, a, vget_low_f32(inputs), 1);
    case 2: return vmlaq_lane_f32(c, a, vget_high_f32(inputs), 0);
    default: return vmlaq_lane_f32(c, a, vget_high_f32(inputs), 1);
    }
}

/* The scalar unit divides as IEEE 754 says; NEON's estimates would need steps to come near. */
TRNN_INLINE vf vf_div(vf a, vf b)
{
    float p[4], q[4];
    vst1q_f32(p, a);
    vst1q_f32(q, b);
    for (int i = 0; i < 4; i++) p[i] /= q[i];
    return vld1q_f32(p);
}

TRNN_INLINE vf vf_sqrt(vf a)
{
    float p[4];
    vst1q_f32(p, a);
    for (int i = 0; i < 4; i++)
        __asm__("vsqrt.f32 %0, %0" : "+t"(p[i])); /* __builtin_sqrtf would set errno */
    return vld1q_f32(p);
}

/* Not every ARMv7 knows float16. Subnormal ones are lifted to normal floats, which NEON does not flush. */
TRNN_INLINE vf vf_load_f16(const uint16_t *p)
{
    const uint32x4_t half = vmovl_u16(vld1_u16(p));
    const uint32x4_t size = vandq_u32(half, vdupq_n_u32(0x7fff));
    const uint32x4_t bits = vaddq_u32(vshlq_n_u32(size, 13), vdupq_n_u32(112u << 23));
    const vf low = vsubq_f32(vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(1u << 23))), vf_set(0x1p-14f));
    const vf value = vbslq_f32(vcltq_u32(size, vdupq_n_u32(0x0400)), low, vreinterpretq_f32_u32(bits));
    const uint32x4_t sign = vshlq_n_u32(vandq_u32(half, vdupq_n_u32(0x8000)), 16);
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(value), sign));
}

#endif

#include "dot_neon.h"

#endif
