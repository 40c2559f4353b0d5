/* AVX-512 (F, VL, DQ, BW): sixteen lanes, a panel in one register. With or without VNNI. */
#ifndef TRNN_VEC_AVX512_H
#define TRNN_VEC_AVX512_H

#include <immintrin.h>

#define VF_LANES     16
#define VF_REGISTERS 32
#define VF_TILE_ROWS 6
#define VF_FUSED     1

typedef __m512 vf;

TRNN_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
TRNN_INLINE void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
TRNN_INLINE vf vf_set(float a) { return _mm512_set1_ps(a); }
TRNN_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
TRNN_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
TRNN_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
TRNN_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
TRNN_INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
TRNN_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
TRNN_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
TRNN_INLINE vf vf_abs(vf a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }

TRNN_INLINE vf vf_copysign(vf a, vf b)
{
    const vf sign = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b));
}

TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

#define VF_MASKS
TRNN_INLINE vf vf_load_part(const float *p, size_t count, float fill)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << count) - 1u), p);
}
TRNN_INLINE void vf_store_part(float *p, vf a, size_t count)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1u), a);
}

TRNN_INLINE vf vf_exp2i(vf n)
{
    const __m512i whole = _mm512_castps_si512(_mm512_add_ps(n, _mm512_set1_ps(VF_MAGIC + 127)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(whole, 23));
}

TRNN_INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

TRNN_INLINE vf vf_load_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

#if defined(__AVX512VNNI__)
#include "dot_vnni.h"
#else
#include "dot_avx2.h"
#endif

#endif
