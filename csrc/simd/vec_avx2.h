/* AVX2 with FMA: eight lanes. */
#ifndef TRNN_VEC_AVX2_H
#define TRNN_VEC_AVX2_H

#include <immintrin.h>

#define VF_LANES     8
#define VF_REGISTERS 16
#define VF_TILE_ROWS 6
#define VF_FUSED     1

typedef __m256 vf;

TRNN_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
TRNN_INLINE void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
TRNN_INLINE vf vf_set(float a) { return _mm256_set1_ps(a); }
TRNN_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
TRNN_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
TRNN_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
TRNN_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
TRNN_INLINE vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
TRNN_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
TRNN_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
TRNN_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
TRNN_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

TRNN_INLINE vf vf_copysign(vf a, vf b)
{
    const vf sign = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b));
}

TRNN_INLINE vf vf_if_less(vf a, vf b, vf x, vf y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

TRNN_INLINE vf vf_exp2i(vf n)
{
    const __m256i whole = _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(VF_MAGIC + 127)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(whole, 23));
}

TRNN_INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

TRNN_INLINE vf vf_load_bf16(const uint16_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

#include "dot_avx2.h"

#endif
