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
TRNN_INLINE vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
TRNN_INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
TRNN_INLINE vf vf_copysign(vf a, vf b) { return vbslq_f32(vdupq_n_u32(0x80000000u), b, a); }
TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y) { return vbslq_f32(vcltq_f32(a, b), x, y); }

TRNN_INLINE vf vf_exp2i(vf n)
{
    const int32x4_t whole = vreinterpretq_s32_f32(vaddq_f32(n, vdupq_n_f32(VF_MAGIC)));
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(whole, vdupq_n_s32(127)), 23));
}

#if defined(__aarch64__)

#define VF_REGISTERS 32
#define VF_TILE_ROWS 5
#define VF_FUSED     1

TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
TRNN_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
TRNN_INLINE vf vf_sqrt(vf a) { return vsqrtq_f32(a); }

#else

#define VF_REGISTERS 16
#define VF_TILE_ROWS 2
#define VF_FUSED     0

TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return vaddq_f32(vmulq_f32(a, b), c); }

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
    for (int i = 0; i < 4; i++) p[i] = __builtin_sqrtf(p[i]);
    return vld1q_f32(p);
}

#endif

#endif
