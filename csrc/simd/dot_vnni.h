/* Integer sums with AVX-512 VNNI: unsigned by signed bytes, four at once, never saturating. */
#ifndef TRNN_DOT_VNNI_H
#define TRNN_DOT_VNNI_H

#define VD_STEP        1
#define VD_UNSIGNED    1
#define VD_TILE_ROWS   4
#define VD_TILE_PANELS 4

typedef __m512i vd;

/* Four codes in every lane. */
TRNN_INLINE __m512i four_codes(const char *x)
{
    int32_t four;
    trnn_copy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

#define VD_INPUTS 1
typedef __m512i vd_inputs;
TRNN_INLINE vd_inputs vd_load_inputs(const char *x) { return four_codes(x); }

TRNN_INLINE vd vd_start(const int32_t *p) { return _mm512_loadu_si512(p); }

TRNN_INLINE vd vd_dot8(vd sum, const char *w, size_t stride, vd_inputs codes, int lane)
{
    (void)stride, (void)lane;
    return _mm512_dpbusd_epi32(sum, codes, _mm512_loadu_si512(w));
}

TRNN_INLINE vd vd_dot4(const char *w, size_t stride, const char *x)
{
    const __m512i low = _mm512_set1_epi8(15);
    vd sum = _mm512_setzero_si512();
    TRNN_UNROLL
    for (int plane = 0; plane < 4; plane++) {
        const __m512i two = _mm512_loadu_si512(w + (size_t)plane * stride);
        sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(two, low), four_codes(x + plane * 4));
        sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(_mm512_srli_epi16(two, 4), low),
                                  four_codes(x + 16 + plane * 4));
    }
    return sum;
}

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    (void)j;
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(less)));
}

#endif
