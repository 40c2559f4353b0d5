/* Integer sums with NEON, with the dot product instructions where the build has them. */
#ifndef TRNN_DOT_NEON_H
#define TRNN_DOT_NEON_H

#define VD_UNSIGNED 0

/* Four codes in every lane. */
TRNN_INLINE int8x16_t four_codes(const char *x)
{
    int32_t four;
    trnn_copy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

TRNN_INLINE int8x16_t sixteen_codes(const char *w) { return vld1q_s8((const int8_t *)w); }

/* A plane of 64 codes. */
typedef struct {
    int8x16_t v[4];
} plane;

TRNN_INLINE plane plane_load(const char *w)
{
    plane p;
#if defined(__aarch64__)
    const int8x16x4_t four = vld1q_s8_x4((const int8_t *)w);
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) p.v[i] = four.val[i];
#else
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) p.v[i] = sixteen_codes(w + 16 * i);
#endif
    return p;
}

#define VD_TILE_ROWS 1

#if defined(__ARM_FEATURE_DOTPROD)
#define VD_STEP        1
#define VD_TILE_PANELS 4
#define VD_SUMS        4 /* registers: four rows in each */
#else
/* A register holds two rows' sums, each in two halves: k = 0, 1 and k = 2, 3 of every plane. Two products of
 * 127 * 127 fit in 16 bits, so two planes are added up before they widen. */
#define VD_STEP        2
#define VD_TILE_PANELS 1
#define VD_SUMS        8
#endif

typedef struct {
    int32x4_t v[VD_SUMS];
} vd;

TRNN_INLINE vd vd_start(const int32_t *p)
{
    vd sum;
    (void)p;
    TRNN_UNROLL
    for (int i = 0; i < VD_SUMS; i++) sum.v[i] = vdupq_n_s32(0);
    return sum;
}

#if defined(__ARM_FEATURE_DOTPROD)

#define VD_INPUTS 4
typedef int8x16_t vd_inputs;
TRNN_INLINE vd_inputs vd_load_inputs(const char *x) { return sixteen_codes(x); }

/* sum + a times four codes of x. */
TRNN_INLINE int32x4_t dot_lane(int32x4_t sum, int8x16_t a, int8x16_t x, int lane)
{
    switch (lane) {
    case 0: return vdotq_laneq_s32(sum, a, x, 0);
    case 1: return vdotq_laneq_s32(sum, a, x, 1);
    case 2: return vdotq_laneq_s32(sum, a, x, 2);
    default: return vdotq_laneq_s32(sum, a, x, 3);
    }
}

TRNN_INLINE vd vd_dot8(vd sum, const char *w, size_t stride, vd_inputs codes, int lane)
{
    const plane p = plane_load(w);
    (void)stride;
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) sum.v[i] = dot_lane(sum.v[i], p.v[i], codes, lane);
    return sum;
}

TRNN_INLINE vd vd_dot4(const char *w, size_t stride, const char *x)
{
    vd sum = vd_start(NULL);
    TRNN_UNROLL
    for (int plane = 0; plane < 4; plane++) {
        const int8x16_t a = four_codes(x + plane * 4), b = four_codes(x + 16 + plane * 4);
        TRNN_UNROLL
        for (int i = 0; i < 4; i++) {
            const uint8x16_t two = vld1q_u8((const uint8_t *)w + (size_t)plane * stride + 16 * i);
            const uint8x16_t low = vandq_u8(two, vdupq_n_u8(15)), high = vshrq_n_u8(two, 4);
            sum.v[i] = vdotq_s32(sum.v[i], vreinterpretq_s8_u8(low), a);
            sum.v[i] = vdotq_s32(sum.v[i], vreinterpretq_s8_u8(high), b);
        }
    }
    return sum;
}

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    return vcvtq_f32_s32(vsubq_s32(sum.v[j], vdupq_n_s32(less)));
}

#else

/* sum + a * x, of the first eight bytes and of the last. */
TRNN_INLINE int16x8_t low_products(int16x8_t sum, int8x16_t a, int8x16_t x)
{
    return vmlal_s8(sum, vget_low_s8(a), vget_low_s8(x));
}

TRNN_INLINE int16x8_t high_products(int16x8_t sum, int8x16_t a, int8x16_t x)
{
#if defined(__aarch64__)
    return vmlal_high_s8(sum, a, x); /* GCC 12 does not find it by itself */
#else
    return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(x));
#endif
}

#define VD_INPUTS 2
typedef struct {
    int8x16_t of[2];
} vd_inputs;
TRNN_INLINE vd_inputs vd_load_inputs(const char *x)
{
    return (vd_inputs){{four_codes(x), four_codes(x + 4)}};
}

TRNN_INLINE vd vd_dot8(vd sum, const char *w, size_t stride, vd_inputs codes, int lane)
{
    const plane p = plane_load(w), q = plane_load(w + stride);
    const int8x16_t a = codes.of[0], b = codes.of[1];
    const int16x8_t zero = vdupq_n_s16(0);
    (void)lane;
    TRNN_UNROLL
    for (int i = 0; i < 4; i++) {
        sum.v[2 * i] = vpadalq_s16(sum.v[2 * i], low_products(low_products(zero, p.v[i], a), q.v[i], b));
        sum.v[2 * i + 1] =
            vpadalq_s16(sum.v[2 * i + 1], high_products(high_products(zero, p.v[i], a), q.v[i], b));
    }
    return sum;
}

/* Eight products of 15 * 127 fit in 16 bits. */
TRNN_INLINE vd vd_dot4(const char *w, size_t stride, const char *x)
{
    int16x8_t sums[8];
    TRNN_UNROLL
    for (int i = 0; i < 8; i++) sums[i] = vdupq_n_s16(0);
    TRNN_UNROLL
    for (int plane = 0; plane < 4; plane++) {
        const int8x16_t a = four_codes(x + plane * 4), b = four_codes(x + 16 + plane * 4);
        TRNN_UNROLL
        for (int i = 0; i < 4; i++) {
            const uint8x16_t two = vld1q_u8((const uint8_t *)w + (size_t)plane * stride + 16 * i);
            const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(two, vdupq_n_u8(15)));
            const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(two, 4));
            sums[2 * i] = low_products(low_products(sums[2 * i], low, a), high, b);
            sums[2 * i + 1] = high_products(high_products(sums[2 * i + 1], low, a), high, b);
        }
    }
    vd sum;
    TRNN_UNROLL
    for (int i = 0; i < 8; i++) sum.v[i] = vpaddlq_s16(sums[i]);
    return sum;
}

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    const int32x4_t a = sum.v[2 * j], b = sum.v[2 * j + 1];
#if defined(__aarch64__)
    const int32x4_t rows = vpaddq_s32(a, b);
#else
    const int32x4_t rows = vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)),
                                        vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
    return vcvtq_f32_s32(vsubq_s32(rows, vdupq_n_s32(less)));
}

#endif

#endif
