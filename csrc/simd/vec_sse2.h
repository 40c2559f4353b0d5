/* SSE2: what every x86-64 has. No fused multiply-add. */
#ifndef TRNN_VEC_SSE2_H
#define TRNN_VEC_SSE2_H

#include <emmintrin.h>

#define VF_LANES     4
#define VF_REGISTERS 16
#define VF_TILE_ROWS 2
#define VF_FUSED     0

typedef __m128 vf;

TRNN_INLINE vf vf_load(const float *p) { return _mm_loadu_ps(p); }
TRNN_INLINE void vf_store(float *p, vf a) { _mm_storeu_ps(p, a); }
TRNN_INLINE vf vf_set(float a) { return _mm_set1_ps(a); }
TRNN_INLINE vf vf_add(vf a, vf b) { return _mm_add_ps(a, b); }
TRNN_INLINE vf vf_sub(vf a, vf b) { return _mm_sub_ps(a, b); }
TRNN_INLINE vf vf_mul(vf a, vf b) { return _mm_mul_ps(a, b); }
TRNN_INLINE vf vf_div(vf a, vf b) { return _mm_div_ps(a, b); }
TRNN_INLINE vf vf_sqrt(vf a) { return _mm_sqrt_ps(a); }
TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
TRNN_INLINE vf vf_min(vf a, vf b) { return _mm_min_ps(a, b); }
TRNN_INLINE vf vf_max(vf a, vf b) { return _mm_max_ps(a, b); }
TRNN_INLINE vf vf_abs(vf a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }

TRNN_INLINE vf vf_copysign(vf a, vf b)
{
    const vf sign = _mm_set1_ps(-0.0f);
    return _mm_or_ps(_mm_andnot_ps(sign, a), _mm_and_ps(sign, b));
}

TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y)
{
    const vf less = _mm_cmplt_ps(a, b);
    return _mm_or_ps(_mm_and_ps(less, x), _mm_andnot_ps(less, y));
}

TRNN_INLINE vf vf_exp2i(vf n)
{
    const __m128i whole = _mm_castps_si128(_mm_add_ps(n, _mm_set1_ps(VF_MAGIC + 127)));
    return _mm_castsi128_ps(_mm_slli_epi32(whole, 23));
}

/* 2^112 makes up for the exponent's other bias, and lifts what looks subnormal. */
TRNN_INLINE vf vf_load_f16(const uint16_t *p)
{
    const __m128i half = _mm_loadl_epi64((const __m128i *)(const void *)p);
    const __m128i wide = _mm_unpacklo_epi16(half, _mm_setzero_si128());
    const __m128i size = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x7fff)), 13);
    const __m128i sign = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x8000)), 16);
    return _mm_or_ps(_mm_mul_ps(_mm_castsi128_ps(size), _mm_set1_ps(0x1p112f)), _mm_castsi128_ps(sign));
}

TRNN_INLINE vf vf_load_bf16(const uint16_t *p)
{
    const __m128i half = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
}

#include "dot_scalar.h"

#endif
