/* One lane of plain C: the reference, and what runs where nothing else is known. */
#ifndef TRNN_VEC_SCALAR_H
#define TRNN_VEC_SCALAR_H

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define VF_LANES     1
#define VF_REGISTERS 16
#define VF_TILE_ROWS 1
#ifndef VF_FUSED
#define VF_FUSED 0
#endif

typedef float vf;

TRNN_INLINE vf vf_load(const float *p) { return *p; }
TRNN_INLINE void vf_store(float *p, vf a) { *p = a; }
TRNN_INLINE vf vf_set(float a) { return a; }
TRNN_INLINE vf vf_add(vf a, vf b) { return a + b; }
TRNN_INLINE vf vf_sub(vf a, vf b) { return a - b; }
TRNN_INLINE vf vf_mul(vf a, vf b) { return a * b; }
TRNN_INLINE vf vf_div(vf a, vf b) { return a / b; }
TRNN_INLINE vf vf_min(vf a, vf b) { return a < b ? a : b; }
TRNN_INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y) { return a < b ? x : y; }

TRNN_INLINE vf vf_fma(vf a, vf b, vf c)
{
#if VF_FUSED
    return __builtin_fmaf(a, b, c); /* an instruction: the build gives the flag, never libm's */
#else
    return a * b + c; /* twice rounded: the build says -ffp-contract=off */
#endif
}

TRNN_INLINE vf vf_abs(vf a)
{
    vf_bits bits = {a};
    bits.u &= 0x7fffffffu;
    return bits.f;
}

TRNN_INLINE vf vf_copysign(vf a, vf b)
{
    vf_bits magnitude = {a}, sign = {b};
    magnitude.u = (magnitude.u & 0x7fffffffu) | (sign.u & 0x80000000u);
    return magnitude.f;
}

TRNN_INLINE vf vf_exp2i(vf n)
{
    vf_bits bits = {n + (VF_MAGIC + 127)};
    bits.u <<= 23;
    return bits.f;
}

TRNN_INLINE vf vf_load_f16(const uint16_t *p) { return trnn_widen_f16(*p); }
TRNN_INLINE vf vf_load_bf16(const uint16_t *p) { return trnn_widen_bf16(*p); }

/* Without -fno-math-errno __builtin_sqrtf would call sqrtf for the sake of errno, so the instruction is named; with
 * it the compiler can make vectors of loops. */
#if defined(__NO_MATH_ERRNO__) && !defined(TRNN_SOFT_SQRT) &&               \
    (defined(__SSE2__) || defined(__aarch64__) || defined(__riscv_fsqrt) || \
     (defined(__ARM_FP) && (__ARM_FP & 4)))
TRNN_INLINE vf vf_sqrt(vf a) { return __builtin_sqrtf(a); }
#elif defined(__SSE__) && !defined(TRNN_SOFT_SQRT)
TRNN_INLINE vf vf_sqrt(vf a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
#elif defined(__aarch64__) && !defined(TRNN_SOFT_SQRT)
TRNN_INLINE vf vf_sqrt(vf a)
{
    vf root;
    __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(a));
    return root;
}
#elif defined(__riscv_fsqrt) && !defined(TRNN_SOFT_SQRT)
TRNN_INLINE vf vf_sqrt(vf a)
{
    vf root;
    __asm__("fsqrt.s %0, %1" : "=f"(root) : "f"(a));
    return root;
}
#elif defined(__ARM_FP) && (__ARM_FP & 4) && !defined(TRNN_SOFT_SQRT)
TRNN_INLINE vf vf_sqrt(vf a)
{
    vf root;
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(a));
    return root;
}
#else
/* Without a square root instruction: bit by bit, exactly rounded, never libm. */
TRNN_INLINE vf vf_sqrt(vf a)
{
    if (!(a > 0.0f) || a > 3.4028234663852886e38f) return a < 0.0f ? (a - a) / (a - a) : a;
    vf_bits bits = {a};
    int32_t exponent = (int32_t)(bits.u >> 23);
    uint32_t mantissa = bits.u & 0x7fffffu;
    if (exponent == 0) {
        while (!(mantissa & 0x800000u)) mantissa <<= 1, exponent--;
        exponent++;
    } else {
        mantissa |= 0x800000u;
    }
    exponent -= 127;
    uint64_t square = (uint64_t)mantissa << (exponent & 1 ? 26 : 25); /* root has 25 bits */
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 24; bit; bit >>= 1)
        if ((root | bit) * (root | bit) <= square) root |= bit;
    const uint32_t rounded = (uint32_t)((root + 1) >> 1); /* a root is never half way between floats */
    bits.u = ((uint32_t)((exponent >> 1) + 127) << 23) + (rounded - 0x800000u);
    return bits.f;
}
#endif

#include "dot_scalar.h"

#endif
