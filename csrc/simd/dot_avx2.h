/* Integer sums with AVX2, and with AVX-512 that has no VNNI. maddubs multiplies unsigned by signed and adds
 * pairs in 16 bits, which saturate: |x| * (w with the sign of x) stays within 2 * 127 * 127 = 32258. */
#ifndef TRNN_DOT_AVX2_H
#define TRNN_DOT_AVX2_H

#define VD_STEP        1
#define VD_UNSIGNED    0
#define VD_TILE_ROWS   1
#define VD_TILE_PANELS 4

typedef struct {
    __m256i v[2];
} vd;

/* Four codes in every lane. */
TRNN_INLINE __m256i four_codes(const char *x)
{
    int32_t four;
    trnn_copy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

#define VD_INPUTS 1
typedef __m256i vd_inputs;
TRNN_INLINE vd_inputs vd_load_inputs(const char *x) { return four_codes(x); }

TRNN_INLINE vd vd_start(const int32_t *p)
{
    (void)p;
    return (vd){{_mm256_setzero_si256(), _mm256_setzero_si256()}};
}

TRNN_INLINE vd vd_dot8(vd sum, const char *w, size_t stride, vd_inputs codes, int lane)
{
    const __m256i size = _mm256_abs_epi8(codes), one = _mm256_set1_epi16(1);
    (void)stride, (void)lane;
    TRNN_UNROLL
    for (int i = 0; i < 2; i++) {
        const __m256i weight = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * i));
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(weight, codes));
        sum.v[i] = _mm256_add_epi32(sum.v[i], _mm256_madd_epi16(pairs, one));
    }
    return sum;
}

/* Eight pairs of at most 2 * 15 * 127 = 3810 fit in 16 bits. */
TRNN_INLINE vd vd_dot4(const char *w, size_t stride, const char *x)
{
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256i pairs[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    TRNN_UNROLL
    for (int plane = 0; plane < 4; plane++) {
        const __m256i a = four_codes(x + plane * 4), b = four_codes(x + 16 + plane * 4);
        TRNN_UNROLL
        for (int i = 0; i < 2; i++) {
            const char *from = w + (size_t)plane * stride + 32 * i;
            const __m256i two = _mm256_loadu_si256((const __m256i *)(const void *)from);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(two, 4), low);
            pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16(_mm256_and_si256(two, low), a));
            pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16(high, b));
        }
    }
    return (vd){{_mm256_madd_epi16(pairs[0], one), _mm256_madd_epi16(pairs[1], one)}};
}

#if VF_LANES == 16

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    (void)j;
    const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(sum.v[0]), sum.v[1], 1);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(all, _mm512_set1_epi32(less)));
}

#else

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(sum.v[j], _mm256_set1_epi32(less)));
}

#endif

#endif
