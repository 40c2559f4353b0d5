/* Integer sums in plain C. */
#ifndef TRNN_DOT_SCALAR_H
#define TRNN_DOT_SCALAR_H

#define VD_STEP        1
#define VD_UNSIGNED    0
#define VD_TILE_ROWS   1
#define VD_TILE_PANELS 1

typedef struct {
    int32_t v[TRNN_PANEL];
} vd;

#define VD_INPUTS 1
typedef const int8_t *vd_inputs;
TRNN_INLINE vd_inputs vd_load_inputs(const char *x) { return (const int8_t *)x; }

TRNN_INLINE vd vd_start(const int32_t *p)
{
    const vd zero = {{0}};
    (void)p;
    return zero;
}

TRNN_INLINE vd vd_dot8(vd sum, const char *w, size_t stride, vd_inputs b, int lane)
{
    const int8_t *a = (const int8_t *)w;
    (void)stride, (void)lane;
    for (int i = 0; i < TRNN_PANEL; i++)
        for (int k = 0; k < 4; k++) sum.v[i] += a[4 * i + k] * b[k];
    return sum;
}

TRNN_INLINE vd vd_dot4(const char *w, size_t stride, const char *x)
{
    vd sum = {{0}};
    for (int plane = 0; plane < 4; plane++) {
        const uint8_t *a = (const uint8_t *)w + (size_t)plane * stride;
        const int8_t *b = (const int8_t *)x + plane * 4;
        for (int i = 0; i < TRNN_PANEL; i++)
            for (int k = 0; k < 4; k++)
                sum.v[i] += (a[4 * i + k] & 15) * b[k] + (a[4 * i + k] >> 4) * b[16 + k];
    }
    return sum;
}

TRNN_INLINE vf vd_float(vd sum, int j, int32_t less)
{
    float lanes[VF_LANES];
    for (int i = 0; i < VF_LANES; i++) lanes[i] = (float)(sum.v[j * VF_LANES + i] - less);
    return vf_load(lanes);
}

#endif
