/* NEON: aarch64, where every processor has it, and ARMv7, whose NEON has no division, no square
 * root, no fused multiply-add that every model knows, and flushes subnormal numbers to zero. */
#ifndef TRNN_VEC_NEON_H
#define TRNN_VEC_NEON_H

#include <arm_neon.h>

#define VF_LANES 4
#define VF_IN_ORDER

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
#if defined(__aarch64__)
#include "by_hand/row_neon.h"
#endif

#endif
