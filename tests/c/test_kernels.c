/* The tables themselves: what every entry promises to layers, on numbers of every kind. */
#include "check.h"
#include "../../csrc/kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int32_t widths[] = {1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 100, 128, 130};

enum { WIDTHS = sizeof widths / sizeof widths[0] };

static memory rolled(const char *seed, size_t count, int exponent)
{
    dice d = dice_named(seed);
    memory m = memory_floats(count);
    for (size_t i = 0; i < count; i++) m.at[i] = dice_float(&d, exponent);
    return m;
}

/* ---- packed weights -------------------------------------------------------------------------- */

static trnn_matrix matrix_of(const trnn_param *param, const memory *weights)
{
    const trnn_matrix matrix = {(const char *)weights->at + param->offset, param->format, param->cols,
                                (param->units + TRNN_PANEL - 1) / TRNN_PANEL * param->gates,
                                param->gates == 1 ? TRNN_GROUP : param->gates};
    return matrix;
}

/* A Linear layer: its tensors, and room for them packed. */
typedef struct {
    trnn_layer layer;
    trnn_param params[TRNN_PARAMS_MAX];
    tensor w, b;
    memory packed;
} linear;

static linear linear_open(trnn_format format, int32_t depth, int32_t cols)
{
    linear l = {.layer = {TRNN_TRAINED(linear), .format = format, .as.linear = {depth, cols, 1}}};
    dice d = dice_named("linear");
    trnn_layer_params(&l.layer, l.params);
    l.w = tensor_roll(&l.params[0], &d, 0);
    l.b = tensor_roll(&l.params[1], &d, 0);
    l.packed = memory_take(trnn_layer_weights_bytes(&l.layer));
    memset(l.packed.at, 0, l.packed.bytes);
    return l;
}

static void linear_close(linear *l)
{
    tensor_release(&l->w);
    tensor_release(&l->b);
    memory_release(&l->packed);
}

/* ---- product --------------------------------------------------------------------------------- */

/* a * b + c, rounded once. Not libm's fmaf: MinGW's rounds twice. The product is exact in double; a sum that is not is
 * rounded to odd, so that rounding it to float is the only rounding to nearest (Boldo and Melquiond, 2008). */
static float fused_multiply_add(float a, float b, float c)
{
    const double product = (double)a * b, sum = product + c, part = sum - product;
    const double error = (product - (sum - part)) + (c - part);
    double odd = sum;
    uint64_t bits;
    memcpy(&bits, &odd, sizeof bits);
    if (error != 0 && isfinite(sum) && !(bits & 1)) bits += (error > 0) == (sum > 0) ? 1 : (uint64_t)-1;
    memcpy(&odd, &bits, sizeof bits);
    return (float)odd;
}

static float multiply_add(int fused, float a, float b, float c)
{
    const float product = a * b;
    return fused ? fused_multiply_add(a, b, c) : product + c;
}

/* How an integer product reads a row: code = number * inverse, to the nearest, halves to even. */
typedef struct {
    float scale, inverse;
} rounding;

static rounding rounding_of(const float *x, int32_t depth)
{
    const rounding silent = {0.0f, 0.0f}, broken = {NAN, 0.0f};
    float top = 0.0f;
    for (int32_t k = 0; k < depth; k++) {
        if (!isfinite(x[k])) return broken;
        top = fmaxf(top, fabsf(x[k]));
    }
    const rounding usual = {top / 127.0f, 127.0f / top};
    return top < 0x1p-64f ? silent : usual;
}

static int code_of(rounding r, float x)
{
    const float wanted = x * r.inverse;
    return (int)nearbyintf(wanted);
}

/* The promises in plain C, of output n of a row. With floats one chain of multiply-adds in ascending k that
 * starts from the bias. */
static float float_promise(int fused, const tensor *w, size_t n, const float *x, float bias)
{
    for (size_t k = 0; k < w->cols; k++) bias = multiply_add(fused, tensor_at(w, n, k), x[k], bias);
    return bias;
}

/* With integers exact sums of codes, and a chain over those that share a scale. */
static float integer_promise(int fused, const tensor *w, size_t n, const float *x, rounding r, float bias)
{
    const size_t block = w->format == TRNN_INT4 ? TRNN_BLOCK : w->cols;
    float total = 0.0f;
    if (isnan(r.scale)) return NAN;
    for (size_t first = 0; first < w->cols; first += block) {
        int64_t sum = 0;
        for (size_t k = first; k < w->cols && k < first + block; k++)
            sum += tensor_code(w, n, k) * code_of(r, x[k]);
        if (w->format == TRNN_INT8)
            return multiply_add(fused, (float)sum, tensor_scale(w, n, 0) * r.scale, bias);
        total = multiply_add(fused, (float)sum, tensor_scale(w, n, first), total);
    }
    return multiply_add(fused, total, r.scale, bias);
}

/* Every row of x, (rows, depth), `gap` floats apart, through a Linear, weights in ascending and descending order. */
static void product_of(const trnn_kernels *isa, linear *l, int32_t rows, const memory *x, size_t gap,
                       int bias, const char *what)
{
    const int32_t depth = l->layer.as.linear.in_features, cols = l->layer.as.linear.out_features;
    const size_t x_stride = (size_t)depth + gap, y_stride = (size_t)cols + gap;
    memory y[2];
    memory scratch = memory_take(trnn_product_scratch(l->layer.format, rows, depth));
    tensor_pack(&l->w, &l->params[0], l->packed.at);
    tensor_pack(&l->b, &l->params[1], l->packed.at);
    for (int descending = 0; descending < 2; descending++) {
        y[descending] = memory_floats((size_t)rows * y_stride - gap);
        for (size_t i = 0; i < y[0].bytes / sizeof(float); i++) y[descending].at[i] = 77.0f;
        memset(scratch.at, 0xff, scratch.bytes);
        const trnn_product p = {.matrix = matrix_of(&l->params[0], &l->packed),
                                .rows = rows,
                                .cols = cols,
                                .bias = bias ? l->packed.at + l->params[1].offset / sizeof(float) : NULL,
                                .x = x->at,
                                .y = y[descending].at,
                                .x_stride = x_stride,
                                .y_stride = y_stride,
                                .scratch = scratch.at,
                                .descending = descending};
        TRNN_KERNEL(isa, product)(&p);
    }
    int same = 1, gaps = 1;
    for (int32_t m = 0; m < rows; m++) {
        const float *own = x->at + (size_t)m * x_stride, *got = y[0].at + (size_t)m * y_stride;
        const rounding r = rounding_of(own, depth);
        for (size_t n = 0; n < l->w.rows; n++) {
            const float start = bias ? l->b.numbers.at[n] : 0.0f;
            const float wanted = l->layer.format < TRNN_INT8
                                     ? float_promise(isa->fused, &l->w, n, own, start)
                                     : integer_promise(isa->fused, &l->w, n, own, r, start);
            same &= same_bits(&wanted, got + n, 1) || (isnan(wanted) && isnan(got[n]));
        }
        for (size_t i = 0; m < rows - 1 && i < gap; i++) gaps &= got[(size_t)cols + i] == 77.0f;
    }
    check(same, "%s product on %s, %s: %d rows, depth %d, %d columns is not its chain",
          trnn_format_name(l->layer.format), isa->name, what, (int)rows, (int)depth, (int)cols);
    check(gaps, "product on %s: %d rows, %d columns writes between rows", isa->name, (int)rows, (int)cols);
    check(memcmp(y[0].at, y[1].at, y[0].bytes) == 0, "%s product on %s, %s: descending",
          trnn_format_name(l->layer.format), isa->name, what);
    memory_release(&y[0]);
    memory_release(&y[1]);
    memory_release(&scratch);
}

static void products(const trnn_kernels *isa)
{
    enum { GAP = 3 };
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++)
        for (int32_t rows = 1; rows <= 13; rows++)
            for (int i = 0; i < WIDTHS; i++) {
                const int32_t depth = widths[(i * 7 + rows) % WIDTHS];
                linear l = linear_open((trnn_format)format, depth, widths[i]);
                memory x = rolled("x", (size_t)rows * ((size_t)depth + GAP) - GAP, 0);
                product_of(isa, &l, rows, &x, GAP, i % 2, "rolled");
                memory_release(&x);
                linear_close(&l);
            }
}

/* ---- integers at their edges ------------------------------------------------------------------ */

/* All products of a row at their largest, of one sign: nothing may saturate, nothing overflow. */
static void full_codes(const trnn_kernels *isa, trnn_format format, int32_t rows, int32_t depth, int32_t cols)
{
    const int low = format == TRNN_INT8 ? -127 : -8, high = format == TRNN_INT8 ? 127 : 7;
    linear l = linear_open(format, depth, cols);
    memory x = memory_floats((size_t)rows * (size_t)depth);
    dice d = dice_named("signs");
    for (int32_t k = 0; k < depth; k++) {
        const int up = dice_roll(&d) >> 31;
        for (int32_t m = 0; m < rows; m++) x.at[m * depth + k] = up ? 3.0f : -3.0f;
        for (int32_t n = 0; n < cols; n++) {
            const int with = n % 4 < 2 ? up : !up; /* x's sign or the other; even columns all of one sign */
            ((int8_t *)l.w.numbers.at)[(size_t)n * (size_t)depth + (size_t)k] =
                (int8_t)((n % 2 ? n % 4 == 1 : with) ? high : low);
        }
    }
    product_of(isa, &l, rows, &x, 0, 1, "full codes");
    memory_release(&x);
    linear_close(&l);
}

/* Rows of every kind side by side: none may change its neighbours. */
static void odd_rows(const trnn_kernels *isa, trnn_format format, int32_t depth, int32_t cols)
{
    enum { ROWS = 11 };
    static const float huge = 3.4028235e38f, below = 0x1.fffffep-65f, just = 0x1p-64f;
    static const uint32_t nan_bits = 0x7fc0ff80u; /* a NaN whose low byte is no code */
    linear l = linear_open(format, depth, cols);
    for (int32_t at = 0; at < depth; at += 1 + depth / 7) {
        memory x = rolled("odd rows", (size_t)(ROWS * depth), 0);
        float *rows[ROWS];
        for (int m = 0; m < ROWS; m++) rows[m] = x.at + m * depth;
        for (int32_t k = 0; k < depth; k++) {
            rows[0][k] = k % 2 ? -0.0f : 0.0f;
            rows[1][k] = k % 2 ? -below : below;    /* silent */
            rows[2][k] *= just / 2;                 /* all but silent */
            rows[8][k] = (float)(k % 255) - 127.5f; /* half way between codes, but for the largest */
            rows[9][k] *= huge;
        }
        rows[2][at] = just;
        rows[3][at] = INFINITY;
        rows[5][at] = -INFINITY;
        memcpy(&rows[6][at], &nan_bits, sizeof nan_bits);
        rows[8][at] = 127.0f;
        rows[9][at] = -huge;
        product_of(isa, &l, ROWS, &x, 0, 1, "odd rows");
        for (int m = 0; m < ROWS; m++) { /* and each alone */
            memory own = memory_floats((size_t)depth);
            memcpy(own.at, rows[m], own.bytes);
            product_of(isa, &l, 1, &own, 0, 0, "an odd row");
            memory_release(&own);
        }
        memory_release(&x);
    }
    linear_close(&l);
}

static void integers(const trnn_kernels *isa)
{
    static const int32_t depths[] = {1, 4, 7, 8, 33, 64, 130, 1000};
    for (int format = TRNN_INT8; format <= TRNN_INT4; format++) {
        for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
            for (int32_t rows = 1; rows <= 9; rows += i % 2 ? 1 : 4)
                full_codes(isa, (trnn_format)format, rows, depths[i], 67);
        full_codes(isa, (trnn_format)format, 1, TRNN_INT8_DEPTH, 4);
        full_codes(isa, (trnn_format)format, 5, TRNN_INT8_DEPTH - 3, 2);
        odd_rows(isa, (trnn_format)format, 1, 5);
        odd_rows(isa, (trnn_format)format, 37, 70);
        odd_rows(isa, (trnn_format)format, 130, 17);
    }
}

/* ---- halves ---------------------------------------------------------------------------------- */

/* Does the instruction set keep numbers below the smallest normal one? NEON of ARMv7 does not. */
static int keeps_subnormal(const trnn_kernels *isa)
{
    const float x = -100.0f;
    float y;
    TRNN_KERNEL(isa, map_exp)(&x, &y, 1, NULL);
    return y != 0.0f;
}

/* Every finite number of a half format, as a weight: times 1, plus a zero that leaves a zero's sign. */
static void halves(const trnn_kernels *isa)
{
    static const float one = 1.0f;
    const int subnormal = keeps_subnormal(isa);
    for (int format = TRNN_F16; format <= TRNN_BF16; format++) {
        const int32_t finite = format == TRNN_F16 ? 0x7c00 : 0x7f80;
        linear l = linear_open((trnn_format)format, 1, 2 * finite);
        uint16_t *numbers = (uint16_t *)(void *)l.w.numbers.at;
        for (int32_t i = 0; i < 2 * finite; i++)
            numbers[i] = (uint16_t)(i < finite ? i : 0x8000 + i - finite);
        for (int32_t i = 0; i < 2 * finite; i++) l.b.numbers.at[i] = -0.0f;
        tensor_pack(&l.w, &l.params[0], l.packed.at);
        tensor_pack(&l.b, &l.params[1], l.packed.at);
        memory y = memory_floats((size_t)(2 * finite));
        const trnn_product p = {.matrix = matrix_of(&l.params[0], &l.packed),
                                .rows = 1,
                                .cols = 2 * finite,
                                .bias = l.packed.at + l.params[1].offset / sizeof(float),
                                .x = &one,
                                .y = y.at};
        TRNN_KERNEL(isa, product)(&p);
        int wrong = 0;
        for (int32_t i = 0; i < 2 * finite; i++) {
            float wanted = tensor_at(&l.w, (size_t)i, 0);
            if (!subnormal && fpclassify(wanted) == FP_SUBNORMAL) wanted = wanted < 0.0f ? -0.0f : 0.0f;
            wrong += !same_bits(&wanted, y.at + i, 1);
        }
        check(wrong == 0, "%s on %s: %d of %d are not widened exactly", trnn_format_name((trnn_format)format),
              isa->name, wrong, (int)(2 * finite));
        memory_release(&y);
        linear_close(&l);
    }
}

/* ---- maps ------------------------------------------------------------------------------------ */

/* In units of the last place of the correctly rounded value. */
static double ulps(float got, double wanted)
{
    const float nearest = (float)wanted;
    if (got == nearest || (isnan(got) && isnan(nearest))) return 0.0;
    if (isinf(got) || isinf(nearest) || isnan(got) || isnan(nearest)) return INFINITY;
    int exponent;
    frexp((double)nearest, &exponent);
    return fabs((double)got - wanted) / ldexp(1.0, exponent < -125 ? -149 : exponent - 24);
}

/* The maps, with constants for all of them. */
static const float map_constants[3] = {0.5f, 1.25f, 0.75f};

typedef struct {
    const char *name;
    void (*forward)(const float *x, float *y, size_t n, const float *k);
    void (*back)(const float *x, const float *y, const float *dy, float *dx, size_t n, const float *k);
} map_kernels;

enum {
#define TRNN_MAP(name, ...) MAP_##name,
#include "../../csrc/kernels/maps.def"
#undef TRNN_MAP
    MAPS
};

static map_kernels map_get(const trnn_kernels *isa, int map)
{
    const map_kernels all[MAPS] = {
#define TRNN_MAP(name, ...) {#name, TRNN_KERNEL(isa, map_##name), TRNN_KERNEL(isa, map_##name##_back)},
#include "../../csrc/kernels/maps.def"
#undef TRNN_MAP
    };
    return all[map];
}

static double sigmoid_exact(double x) { return x < 0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x)); }
static double softplus_exact(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }

static double map_exact(int map, double x)
{
    const double a = (double)map_constants[0], b = (double)map_constants[1], c = (double)map_constants[2];
    const double bend = sqrt(8.0 / acos(-1.0)) * (x + 0.044715 * x * x * x);
    if (isnan(x)) return map == MAP_sign ? 0.0 : x;
    switch (map) {
    case MAP_exp: return exp(x);
    case MAP_log: return log(x);
    case MAP_sqrt: return sqrt(x);
    case MAP_abs: return fabs(x);
    case MAP_sign: return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0;
    case MAP_neg: return -x;
    case MAP_reciprocal: return 1.0 / x;
    case MAP_scale: return a * x + b;
    case MAP_clip:
    case MAP_hardtanh: return fmin(fmax(x, a), b);
    case MAP_relu: return fmax(x, 0.0);
    case MAP_leaky_relu: return x > 0 ? x : a * x;
    case MAP_sigmoid: return sigmoid_exact(x);
    case MAP_tanh: return tanh(x);
    case MAP_elu: return x > 0 ? b * x : a * expm1(c * x);
    case MAP_gelu: return 0.5 * x * erfc(-x / sqrt(2.0));
    case MAP_gelu_tanh: return x * sigmoid_exact(bend);
    case MAP_silu: return x * sigmoid_exact(x);
    case MAP_mish: return x * tanh(softplus_exact(x));
    case MAP_softplus: return a * x > b ? x : softplus_exact(a * x) / a;
    case MAP_softsign: return x / (1.0 + fabs(x));
    case MAP_tanhshrink: return x - tanh(x);
    case MAP_hardsigmoid: return fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0;
    case MAP_hardswish: return x * fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0;
    default: return NAN;
    }
}

/* What every set keeps over all floats, in ULP; 0: no bound, since a difference or an argument is rounded. */
static double map_bound(int map)
{
    switch (map) {
    case MAP_gelu_tanh:
    case MAP_tanhshrink:
    case MAP_hardsigmoid:
    case MAP_hardswish:
    case MAP_scale:
    case MAP_elu: return 0.0;
    case MAP_gelu:
    case MAP_silu:
    case MAP_mish:
    case MAP_softplus: return 6.0;
    default: return 2.5;
    }
}

/* Floats of every sign and exponent, and many where the curve bends. */
static memory probes(void)
{
    enum { EXPONENTS = 512, EACH = 24, NEAR = 20000 };
    dice d = dice_named("probes");
    memory x = memory_floats(EXPONENTS * EACH + NEAR);
    for (uint32_t i = 0; i < EXPONENTS * EACH; i++) {
        const uint32_t bits = i / EACH << 23 | (i % EACH ? dice_roll(&d) >> 9 : 0);
        memcpy(x.at + i, &bits, sizeof bits);
    }
    for (int i = 0; i < NEAR; i++) x.at[EXPONENTS * EACH + i] = dice_float(&d, i % 2 ? 7 : 3);
    return x;
}

static void maps(const trnn_kernels *isa)
{
    const int subnormal = keeps_subnormal(isa);
    memory x = probes();
    const size_t count = x.bytes / sizeof(float);
    memory y = memory_floats(count);
    check(subnormal || strcmp(isa->name, "neon") == 0, "%s flushes subnormal numbers", isa->name);
    for (int map = 0; map < MAPS; map++) {
        const map_kernels m = map_get(isa, map);
        const int composed = map_bound(map) > 2.5; /* of factors that may be subnormal */
        m.forward(x.at, y.at, count, map_constants);
        double most = 0.0, apart = 0.0;
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            const double wanted = map_exact(map, (double)x.at[i]);
            const double small = !composed ? 2.4e-38 : subnormal ? 1e-35 : 1e-30;
            if ((!subnormal || composed) &&
                fabs(wanted) < small) { /* a factor that was flushed is times |x| */
                const double gap = fabs((double)y.at[i] - wanted);
                check(gap < (subnormal  ? 1e-41
                             : composed ? 4e-36
                                        : 2.4e-38),
                      "%s on %s: %a", m.name, isa->name, (double)x.at[i]);
                continue;
            }
            if (!subnormal && fabs((double)x.at[i]) < 1.2e-38) continue; /* log, reciprocal */
            const double error = ulps(y.at[i], wanted);
            if (error > most) most = error, at = i;
            if (fabs((double)x.at[i]) < 1e30)
                apart = fmax(apart, fabs((double)y.at[i] - wanted) / fmax(1.0, fabs(wanted)));
        }
        if (map_bound(map) > 0.0)
            check(most <= map_bound(map), "%s on %s: %.2f ulp at %a", m.name, isa->name, most,
                  (double)x.at[at]);
        else
            check(apart <= 3e-7, "%s on %s: %.2g", m.name, isa->name, apart);

        /* A number alone, at every place of an array, and in place. */
        for (size_t n = 1; n <= 49; n++) {
            memory part = memory_floats(n), own = memory_floats(n);
            memcpy(part.at, x.at + 3000, n * sizeof(float));
            m.forward(part.at, own.at, n, map_constants);
            m.forward(part.at, part.at, n, map_constants);
            check(same_bits(own.at, y.at + 3000, n) && same_bits(part.at, own.at, n), "%s on %s: %d numbers",
                  m.name, isa->name, (int)n);
            memory_release(&part);
            memory_release(&own);
        }
    }
    memory_release(&x);
    memory_release(&y);
}

/* dx against differences of the exact map, away from its bends; at every place of an array, and in place. */
static void maps_back(const trnn_kernels *isa)
{
    enum { COUNT = 400 };
    memory x = memory_floats(COUNT), y = memory_floats(COUNT), dy = memory_floats(COUNT),
           dx = memory_floats(COUNT);
    dice d = dice_named("slopes");
    for (int map = 0; map < MAPS; map++) {
        const map_kernels m = map_get(isa, map);
        const int positive = map == MAP_log || map == MAP_sqrt || map == MAP_reciprocal;
        for (int i = 0; i < COUNT; i++) {
            const float value = dice_float(&d, 2);
            x.at[i] = positive ? 0.25f + fabsf(value) : value;
            dy.at[i] = dice_float(&d, 0);
        }
        m.forward(x.at, y.at, COUNT, map_constants);
        m.back(x.at, y.at, dy.at, dx.at, COUNT, map_constants);
        for (int i = 0; i < COUNT; i++) {
            static const double bends[] = {-3.0, 0.0, 0.5, 1.25, 2.5, 3.0};
            const double at = (double)x.at[i], h = 1e-5;
            int bent = 0;
            for (size_t b = 0; b < sizeof bends / sizeof bends[0]; b++) bent |= fabs(at - bends[b]) < 2 * h;
            if (bent) continue;
            const double slope = (map_exact(map, at + h) - map_exact(map, at - h)) / (2 * h);
            const double wanted = slope * (double)dy.at[i];
            check(fabs((double)dx.at[i] - wanted) < 3e-6 * fmax(1.0, fabs(slope)),
                  "%s back on %s at %g: %g, not %g", m.name, isa->name, at, (double)dx.at[i], wanted);
        }
        for (size_t n = 1; n <= 33; n++) {
            memory own = memory_floats(n);
            memcpy(own.at, dy.at + 7, n * sizeof(float));
            m.back(x.at + 7, y.at + 7, own.at, own.at, n, map_constants);
            check(same_bits(own.at, dx.at + 7, n), "%s back on %s: %d numbers", m.name, isa->name, (int)n);
            memory_release(&own);
        }
    }
    memory_release(&x);
    memory_release(&y);
    memory_release(&dy);
    memory_release(&dx);
}

static void specials(const trnn_kernels *isa)
{
    const float inf = INFINITY, huge = 3.4028235e38f;
    static const float nan_bits = NAN;
    const struct {
        int map;
        float x, y;
    } wanted[] = {
        {MAP_exp, 0.0f, 1.0f},         {MAP_exp, -0.0f, 1.0f},
        {MAP_exp, inf, inf},           {MAP_exp, -inf, 0.0f},
        {MAP_exp, huge, inf},          {MAP_exp, -huge, 0.0f},
        {MAP_sigmoid, 0.0f, 0.5f},     {MAP_sigmoid, inf, 1.0f},
        {MAP_sigmoid, -inf, 0.0f},     {MAP_sigmoid, huge, 1.0f},
        {MAP_sigmoid, -huge, 0.0f},    {MAP_tanh, inf, 1.0f},
        {MAP_tanh, -inf, -1.0f},       {MAP_tanh, huge, 1.0f},
        {MAP_tanh, -huge, -1.0f},      {MAP_tanh, 0.0f, 0.0f},
        {MAP_tanh, -0.0f, -0.0f},      {MAP_leaky_relu, -inf, -inf},
        {MAP_leaky_relu, 2.0f, 2.0f},  {MAP_leaky_relu, -2.0f, -1.0f},
        {MAP_log, 0.0f, -inf},         {MAP_log, -0.0f, -inf},
        {MAP_log, 1.0f, 0.0f},         {MAP_log, inf, inf},
        {MAP_sqrt, -0.0f, -0.0f},      {MAP_sqrt, inf, inf},
        {MAP_abs, -0.0f, 0.0f},        {MAP_sign, nan_bits, 0.0f},
        {MAP_sign, -0.0f, 0.0f},       {MAP_sign, -inf, -1.0f},
        {MAP_neg, 0.0f, -0.0f},        {MAP_neg, -0.0f, 0.0f},
        {MAP_reciprocal, -0.0f, -inf}, {MAP_reciprocal, -inf, -0.0f},
        {MAP_clip, -inf, 0.5f},        {MAP_clip, inf, 1.25f},
        {MAP_elu, -inf, -0.5f},        {MAP_elu, inf, inf},
        {MAP_elu, -0.0f, -0.0f},       {MAP_gelu, huge, huge},
        {MAP_gelu, -0.0f, -0.0f},      {MAP_gelu_tanh, huge, huge},
        {MAP_silu, inf, inf},          {MAP_mish, huge, huge},
        {MAP_softplus, -inf, 0.0f},    {MAP_softplus, inf, inf},
        {MAP_softsign, huge, 1.0f},    {MAP_hardsigmoid, inf, 1.0f},
        {MAP_hardsigmoid, -inf, 0.0f}, {MAP_hardswish, huge, huge},
        {MAP_hardswish, inf, inf},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const map_kernels m = map_get(isa, wanted[i].map);
        float y;
        m.forward(&wanted[i].x, &y, 1, map_constants);
        check(same_bits(&y, &wanted[i].y, 1), "%s on %s of %g: %g", m.name, isa->name, (double)wanted[i].x,
              (double)y);
    }
    for (int map = 0; map < MAPS; map++) {
        const map_kernels m = map_get(isa, map);
        const float one = 1.0f;
        float y = 0.0f, dx = 0.0f;
        m.forward(&nan_bits, &y, 1, map_constants);
        check(isnan(y) || map == MAP_sign, "%s on %s loses NaN", m.name, isa->name);
        m.back(&one, &one, &nan_bits, &dx, 1, map_constants); /* where none but sign is flat */
        check(isnan(dx) || map == MAP_sign, "%s back on %s loses NaN", m.name, isa->name);
    }
    for (int log = 0; log < 2; log++) { /* a NaN anywhere, the padding's share too */
        for (size_t at = 0; at < 17; at++) {
            float x[17] = {0}, y[17];
            x[at] = nan_bits;
            TRNN_KERNEL(isa, softmax_f32)(x, y, 17, log);
            check(isnan(y[0]) && isnan(y[at]) && isnan(y[16]), "softmax on %s loses NaN", isa->name);
        }
        float far[3] = {-huge, huge, 0.0f};
        TRNN_KERNEL(isa, softmax_f32)(far, far, 3, log);
        check(far[1] == (log ? 0.0f : 1.0f) && (log ? far[0] <= -huge : far[0] == 0.0f),
              "softmax on %s of huge numbers: %g %g %g", isa->name, (double)far[0], (double)far[1],
              (double)far[2]);
    }
}

/* ---- what needs a whole array ----------------------------------------------------------------- */

static void distributions(const trnn_kernels *isa)
{
    for (int i = 0; i < WIDTHS; i++) {
        const size_t n = (size_t)widths[i];
        memory x = rolled("distribution", n, 4), y = memory_floats(n), logs = memory_floats(n);
        TRNN_KERNEL(isa, softmax_f32)(x.at, y.at, n, 0);
        TRNN_KERNEL(isa, softmax_f32)(x.at, logs.at, n, 1);
        double sum = 0.0, apart = 0.0, total = 0.0, top = x.at[0];
        for (size_t k = 0; k < n; k++) top = fmax(top, (double)x.at[k]);
        for (size_t k = 0; k < n; k++) sum += exp((double)x.at[k] - top);
        for (size_t k = 0; k < n; k++) {
            const double share = exp((double)x.at[k] - top) / sum;
            apart = fmax(apart, fabs((double)y.at[k] - share));
            apart = fmax(apart, fabs((double)logs.at[k] - log(share)) / fmax(1.0, fabs(log(share))));
            total += (double)y.at[k];
        }
        check(apart < 5e-7 && fabs(total - 1.0) < 1e-6, "softmax on %s of %d: %.2g", isa->name, (int)n,
              apart);
        memcpy(logs.at, x.at, n * sizeof(float));
        TRNN_KERNEL(isa, softmax_f32)(logs.at, logs.at, n, 0);
        check(same_bits(logs.at, y.at, n), "softmax on %s of %d in place", isa->name, (int)n);
        memory_release(&x);
        memory_release(&y);
        memory_release(&logs);
    }
}

static void norms(const trnn_kernels *isa)
{
    for (int i = 0; i < WIDTHS; i++) {
        const size_t n = (size_t)widths[i];
        memory x = rolled("x", n, 2), y = memory_floats(n), w = rolled("w", n, 0), b = rolled("b", n, 0);
        double mean = 0.0, var = 0.0, apart = 0.0;
        for (size_t k = 0; k < n; k++) mean += (double)x.at[k] / (double)n;
        for (size_t k = 0; k < n; k++) var += pow((double)x.at[k] - mean, 2) / (double)n;
        TRNN_KERNEL(isa, layer_norm_f32)(x.at, y.at, n, 1e-3f, w.at, b.at);
        for (size_t k = 0; k < n; k++)
            apart = fmax(apart, fabs(((double)x.at[k] - mean) / sqrt(var + (double)1e-3f) * (double)w.at[k] +
                                     (double)b.at[k] - (double)y.at[k]));
        check(apart < 2e-6, "layer norm on %s of %d: %.2g", isa->name, (int)n, apart);

        memory own = memory_floats(n), scale = memory_floats(n), shift = memory_floats(n);
        memcpy(own.at, x.at, n * sizeof(float));
        TRNN_KERNEL(isa, layer_norm_f32)(own.at, own.at, n, 1e-3f, w.at, b.at);
        check(same_bits(own.at, y.at, n), "layer norm on %s of %d in place", isa->name, (int)n);

        for (size_t k = 0; k < n; k++) own.at[k] = 0.25f + y.at[k] * y.at[k];
        TRNN_KERNEL(isa, norm_scale_f32)(scale.at, shift.at, n, 1e-3f, x.at, own.at, w.at, b.at);
        TRNN_KERNEL(isa, affine_f32)(b.at, y.at, n, scale.at, shift.at);
        apart = 0.0;
        for (size_t k = 0; k < n; k++)
            apart = fmax(apart, fabs((double)(b.at[k] - x.at[k]) / sqrt((double)own.at[k] + (double)1e-3f) *
                                         (double)w.at[k] +
                                     (double)b.at[k] - (double)y.at[k]));
        check(apart < 4e-6, "batch norm on %s of %d: %.2g", isa->name, (int)n, apart);
        memory_release(&x);
        memory_release(&y);
        memory_release(&w);
        memory_release(&b);
        memory_release(&own);
        memory_release(&scale);
        memory_release(&shift);
    }
}

/* A row's sums as layer_norm_f32 and plain C have them, in panels of each gate and as a line. */
static void norms_of_sums(const trnn_kernels *isa)
{
    static const size_t shapes[][2] = {{1, 1}, {1, 75}, {1, 16}, {3, 16}, {4, 48}, {3, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const size_t parts = shapes[i][0], size = shapes[i][1], n = parts * size, room = (n + 15) / 16 * 16;
        memory x = rolled("sums_x", room, 2), hidden = rolled("sums_h", room, 1), bias = rolled("b", room, 0);
        memory gain_x = rolled("w", n, 0), gain_hidden = rolled("g", n, 0), line = memory_floats(n);
        memory normal_x = memory_floats(room), normal_hidden = memory_floats(room), sum = memory_floats(room);
        memory own_x = memory_floats(n), own_hidden = memory_floats(n), own_bias = memory_floats(n);
        const trnn_norm_sums norms = {parts,   size,      1e-5f,          x.at,        hidden.at,
                                      bias.at, gain_x.at, gain_hidden.at, normal_x.at, normal_hidden.at,
                                      sum.at};
        TRNN_KERNEL(isa, norm_sums_f32)(&norms);
        const float *const packed[] = {x.at, hidden.at, bias.at};
        float *const lines[] = {line.at, own_hidden.at, own_bias.at};
        for (size_t a = 0; a < 3; a++)
            for (size_t k = 0; k < n; k++) {
                const size_t unit = k % size, panel = unit / 16 * parts + k / size;
                lines[a][k] = packed[a][parts == 1 ? k : panel * 16 + unit % 16];
            }
        TRNN_KERNEL(isa, layer_norm_f32)(line.at, own_x.at, n, 1e-5f, gain_x.at, own_bias.at);
        TRNN_KERNEL(isa, layer_norm_f32)(own_hidden.at, own_hidden.at, n, 1e-5f, gain_hidden.at, NULL);
        for (size_t k = 0; k < n; k++) {
            const float both = own_x.at[k] + own_hidden.at[k];
            line.at[k] = fabsf(both) < TRNN_TINY ? 0.0f : both;
        }
        check(same_bits(own_x.at, normal_x.at, n) && same_bits(own_hidden.at, normal_hidden.at, n) &&
                  same_bits(line.at, sum.at, n),
              "normalised sums on %s of %d times %d", isa->name, (int)parts, (int)size);
        memory *const all[] = {&x,     &hidden,   &bias,          &gain_x, &gain_hidden, &line,
                               &own_x, &normal_x, &normal_hidden, &sum,    &own_hidden,  &own_bias};
        for (size_t a = 0; a < sizeof all / sizeof all[0]; a++) memory_release(all[a]);
    }
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* The sums of all gates begin with their biases, each in the part that is its own. */
static void biases(const trnn_kernels *isa)
{
    static const struct {
        int32_t gates;
        uint32_t apart;
    } kinds[] = {{1, 0}, {3, 4}, {4, 0}, {4, 9}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (size_t panels = 1; panels <= 5; panels += 2) {
            const size_t gates = (size_t)kinds[i].gates, n = panels * gates * TRNN_PANEL;
            const uint32_t apart = kinds[i].apart;
            memory ih = rolled("b_ih", n, 0), hh = rolled("b_hh", n, 0), y = memory_floats(2 * n);
            for (size_t k = 0; k < 2 * n; k++) y.at[k] = 77.0f;
            TRNN_KERNEL(isa, biases_f32)(ih.at, hh.at, y.at, n, kinds[i].gates, apart);
            int same = 1;
            for (size_t k = 0; k < n; k++) {
                const int own = apart >> k / TRNN_PANEL % gates & 1;
                const float input = own ? ih.at[k] : ih.at[k] + hh.at[k], hidden = own ? hh.at[k] : 0.0f;
                same &= y.at[k] == input && y.at[n + k] == (apart ? hidden : 77.0f);
            }
            check(same, "biases of %d gates on %s, %d panels", kinds[i].gates, isa->name, (int)panels);
            memory_release(&ih);
            memory_release(&hh);
            memory_release(&y);
        }
}

static double sigma(double x) { return 1.0 / (1.0 + exp(-x)); }

/* One step in double precision from torch.nn's formulas, on weights as PyTorch has them. */
static void oracle(const trnn_layer_type *kind, int relu, int32_t units, const double *gates,
                   const double *hidden, const double *h, double *c, double *y)
{
    for (int32_t j = 0; j < units; j++) {
        double sum[4];
        const int32_t count = kind == &trnn_lstm ? 4 : kind == &trnn_gru ? 2 : 1;
        for (int32_t g = 0; g < count; g++) sum[g] = gates[g * units + j] + hidden[g * units + j];
        if (kind == &trnn_lstm) {
            c[j] = sigma(sum[1]) * c[j] + sigma(sum[0]) * tanh(sum[2]);
            y[j] = sigma(sum[3]) * tanh(c[j]);
        } else if (kind == &trnn_gru) {
            const double n = tanh(gates[2 * units + j] + sigma(sum[0]) * hidden[2 * units + j]);
            y[j] = (1.0 - sigma(sum[1])) * n + sigma(sum[1]) * h[j];
        } else {
            y[j] = relu ? fmax(0.0, sum[0]) : tanh(sum[0]);
        }
    }
}

/* W x + b in double precision. */
static void affine(const tensor *w, const float *b, const double *x, double *y)
{
    for (size_t n = 0; n < w->rows; n++) {
        y[n] = (double)b[n];
        for (size_t k = 0; k < w->cols; k++) y[n] += (double)tensor_at(w, n, k) * x[k];
    }
}

/* A row of floats as a product of that format reads it. */
static void as_read(trnn_format format, const float *x, int32_t count, double *read)
{
    const rounding r = rounding_of(x, count);
    for (int32_t k = 0; k < count; k++)
        read[k] = format < TRNN_INT8 ? (double)x[k] : (double)code_of(r, x[k]) * (double)r.scale;
}

/* A whole layer against the oracle, over a few steps from zeros. */
static void recurrent(const trnn_kernels *isa, const trnn_layer_type *kind, trnn_format format, int relu,
                      int32_t in, int32_t units)
{
    enum { STEPS = 6, GATES = 4 * 130, PARAMS = 4 };
    model m = {
        "oracle", {1, in}, 1, {{.type = kind, .format = format, .as.recurrent = {in, units, 0, 1, 0, relu}}}};
    weights w = weights_roll(&m);
    net n = net_open(&m, &w, 1, STEPS);
    memory x = net_input(&n, "oracle", STEPS), y = memory_floats(STEPS * n.out);
    tensor tensors[PARAMS];
    net_run(&n, isa, x.at, y.at, STEPS, NULL);

    trnn_param params[TRNN_PARAMS_MAX];
    check(trnn_layer_params(&m.layers[0], params) == PARAMS, "a layer with biases has 4 tensors");
    for (int p = 0; p < PARAMS; p++) {
        tensors[p] = tensor_take(&params[p]);
        trnn_param_unpack(&params[p], w.pointers[0], tensors[p].numbers.at, tensors[p].scales.at);
    }
    double h[130] = {0}, c[130] = {0}, next[130], read[130], from_x[GATES], from_h[GATES], apart = 0.0;
    const float zeros[130] = {0};
    for (int t = 0; t < STEPS; t++) { /* h as the layer gave it: a step's error is not the next one's */
        const float *before = t ? y.at + (t - 1) * units : zeros;
        as_read(format, x.at + t * in, in, read);
        affine(&tensors[0], tensors[2].numbers.at, read, from_x);
        as_read(format, before, units, read);
        affine(&tensors[1], tensors[3].numbers.at, read, from_h);
        for (int32_t j = 0; j < units; j++) h[j] = (double)before[j];
        oracle(kind, relu, units, from_x, from_h, h, c, next);
        for (int32_t j = 0; j < units; j++)
            apart = fmax(apart, fabs(next[j] - (double)y.at[t * units + j]) / fmax(1.0, fabs(next[j])));
    }
    check(apart < 2e-6, "%s %s %dx%d on %s: %.2g from double precision", trnn_format_name(format),
          kind_name(kind), (int)in, (int)units, isa->name, apart);
    for (int p = 0; p < PARAMS; p++) tensor_release(&tensors[p]);
    memory_release(&x);
    memory_release(&y);
    net_close(&n);
    weights_release(&w);
}

static void cells(const trnn_kernels *isa)
{
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++)
        for (int i = format % 2; i < WIDTHS; i += format ? 2 : 1) {
            const int32_t in = widths[(i * 5 + 2) % WIDTHS], units = widths[i];
            recurrent(isa, &trnn_lstm, (trnn_format)format, 0, in, units);
            recurrent(isa, &trnn_gru, (trnn_format)format, 0, in, units);
            recurrent(isa, &trnn_rnn, (trnn_format)format, 0, in, units);
            recurrent(isa, &trnn_rnn, (trnn_format)format, 1, in, units);
        }
}

/* ---- cells, with their input or after it ------------------------------------------------------- */

static void step(const trnn_kernels *isa, const trnn_layer_type *kind, const trnn_cell *cell)
{
    if (kind == &trnn_lstm)
        cell->tape ? TRNN_KERNEL(isa, lstm_taped)(cell) : TRNN_KERNEL(isa, lstm)(cell);
    else if (kind == &trnn_gru)
        cell->tape ? TRNN_KERNEL(isa, gru_taped)(cell) : TRNN_KERNEL(isa, gru)(cell);
    else
        cell->tape ? TRNN_KERNEL(isa, rnn_taped)(cell) : TRNN_KERNEL(isa, rnn)(cell);
}

/* One step of some rows three ways: the input's product first, both together, both together descending and
 * row by row. All strides are more than they need be. */
static void together(const trnn_kernels *isa, const trnn_layer_type *kind, trnn_format format, int32_t rows,
                     int32_t in, int32_t units)
{
    enum { GAP = 5, WAYS = 3 };
    const int32_t gates = kind == &trnn_lstm ? 4 : kind == &trnn_gru ? 3 : 1;
    const size_t wide = (size_t)(gates * ((units + TRNN_PANEL - 1) / TRNN_PANEL * TRNN_PANEL));
    const size_t stride = (size_t)units + GAP, count = (size_t)rows * stride - GAP;
    const model m = {
        "together", {1, in}, 1, {{.type = kind, .format = format, .as.recurrent = {in, units, 0, 1, 0, 0}}}};
    weights w = weights_roll(&m);
    trnn_param params[TRNN_PARAMS_MAX];
    trnn_layer_params(&m.layers[0], params);
    memory x = rolled("x", (size_t)rows * ((size_t)in + GAP) - GAP, 1), h = rolled("h", count, 0);
    memory bias = rolled("bias", wide, 0), sums = memory_floats((size_t)rows * (wide + GAP) - GAP);
    memory c[WAYS], y[WAYS], own[2];
    own[0] = memory_take(trnn_product_scratch(format, rows, in));
    own[1] = memory_take(trnn_product_scratch(format, rows, units));
    for (int way = 0; way < WAYS; way++) {
        c[way] = rolled("c", count, 0);
        y[way] = memory_floats(count);
        for (size_t i = 0; i < count; i++) y[way].at[i] = 77.0f;
        for (int i = 0; i < 2; i++) memset(own[i].at, 0xff, own[i].bytes);
        trnn_product input = {.matrix = matrix_of(&params[0], &w.at[0]),
                              .rows = rows,
                              .cols = (int32_t)wide,
                              .bias = bias.at,
                              .x = x.at,
                              .y = sums.at,
                              .x_stride = (size_t)in + GAP,
                              .y_stride = wide + GAP,
                              .scratch = own[0].at};
        trnn_cell cell = {.hidden = matrix_of(&params[1], &w.at[0]),
                          .rows = rows,
                          .units = units,
                          .args = &m.layers[0].as.recurrent,
                          .gates = sums.at,
                          .bias_hh = w.at[0].at + params[3].offset / sizeof(float),
                          .h = h.at,
                          .before = h.at,
                          .states = c[way].at,
                          .y = y[way].at,
                          .gates_stride = wide + GAP,
                          .h_stride = stride,
                          .before_stride = stride,
                          .states_stride = stride,
                          .y_stride = stride,
                          .scratch = own[1].at};
        if (way == 0) {
            TRNN_KERNEL(isa, product)(&input);
            step(isa, kind, &cell);
            continue;
        }
        input.y = NULL;
        cell.input = &input;
        cell.gates = NULL;
        cell.descending = input.descending = way - 1;
        if (way == 2) input.rows = cell.rows = 1;
        for (int32_t done = 0; done < rows; done += cell.rows) {
            step(isa, kind, &cell);
            input.x += input.x_stride;
            cell.h += stride, cell.before += stride, cell.states += stride, cell.y += stride;
        }
    }
    for (int way = 1; way < WAYS; way++)
        check(same_bits(y[0].at, y[way].at, count) && same_bits(c[0].at, c[way].at, count),
              "%s %s %dx%d on %s, %d rows: %s", trnn_format_name(format), kind_name(kind), (int)in,
              (int)units, isa->name, (int)rows,
              way == 1 ? "input and hidden part together" : "descending, alone");
    int gaps = 1;
    for (size_t i = 0; i < count; i++) gaps &= i % stride < (size_t)units || y[1].at[i] == 77.0f;
    check(gaps, "%s on %s writes between rows", kind_name(kind), isa->name);
    for (int way = 0; way < WAYS; way++) {
        memory_release(&c[way]);
        memory_release(&y[way]);
    }
    memory_release(&own[0]);
    memory_release(&own[1]);
    memory_release(&x);
    memory_release(&h);
    memory_release(&bias);
    memory_release(&sums);
    weights_release(&w);
}

static void all_together(const trnn_kernels *isa)
{
    static const trnn_layer_type *const kinds[] = {&trnn_lstm, &trnn_gru, &trnn_rnn};
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++)
        for (int kind = 0; kind < 3; kind++)
            for (int i = 0; i < WIDTHS; i++)
                together(isa, kinds[kind], (trnn_format)format, 1 + i * 5 % 13, widths[(i * 3 + 1) % WIDTHS],
                         widths[i]);
}

/* ---- silence --------------------------------------------------------------------------------- */

/* 100,000 steps of zeros. A step is a function of the state, so once a step leaves every bit as it
 * was, so do all that follow: the rest need not be run. */
static void silence(const trnn_kernels *isa, const trnn_layer_type *kind, trnn_format format, int relu,
                    int zeros_in_the_end)
{
    enum { SILENT = 100000, UNITS = 20 };
    model m = {"silence",
               {1, UNITS},
               1,
               {{.type = kind, .format = format, .as.recurrent = {UNITS, UNITS, 0, 0, 0, relu}}}};
    weights w = weights_roll(&m);
    if (!zeros_in_the_end) { /* h' = tanh(8 h) has a fixed point near 1; relu(h) stays where it is */
        trnn_param params[TRNN_PARAMS_MAX];
        memory tensor = memory_floats((size_t)UNITS * UNITS);
        trnn_layer_params(&m.layers[0], params);
        for (int i = 0; i < UNITS * UNITS; i++) tensor.at[i] = i % (UNITS + 1) ? 0.0f : relu ? 1.0f : 8.0f;
        trnn_param_pack(&params[1], w.at[0].at, tensor.at, NULL);
        memory_release(&tensor);
    }
    net n = net_open(&m, &w, 1, 1);
    memory x = net_input(&n, "noise", 1), y = memory_floats(n.out), before = memory_take(n.state.bytes);
    for (int i = 0; i < 3; i++) net_run(&n, isa, x.at, y.at, 1, NULL);
    memset(x.at, 0, x.bytes);

    const size_t numbers = n.state.bytes / sizeof(float);
    int subnormal = 0, still = 0;
    for (int t = 0; t < SILENT && !still; t++) {
        memcpy(before.at, n.state.at, n.state.bytes);
        net_run(&n, isa, x.at, y.at, 1, NULL);
        for (size_t i = 0; i < numbers; i++) subnormal += fpclassify(n.state.at[i]) == FP_SUBNORMAL;
        for (size_t i = 0; i < n.out; i++) subnormal += fpclassify(y.at[i]) == FP_SUBNORMAL;
        still = same_bits(before.at, n.state.at, numbers);
    }
    check(subnormal == 0, "%s %s on %s: %d subnormal numbers in silence", trnn_format_name(format),
          kind_name(kind), isa->name, subnormal);
    check(still, "%s %s on %s never rests", trnn_format_name(format), kind_name(kind), isa->name);
    int zeros = 1;
    for (size_t i = 0; i < n.out; i++) zeros &= n.state.at[i] == 0.0f;
    check(zeros == zeros_in_the_end, "%s on %s: silence ends at %g", kind_name(kind), isa->name,
          (double)n.state.at[0]);
    memory_release(&x);
    memory_release(&y);
    memory_release(&before);
    net_close(&n);
    weights_release(&w);
}

/* ---- gradients of weights ---------------------------------------------------------------------- */

/* A matrix of so many packed rows in groups of `width` panels, its rows being dy's first `cols`. */
typedef struct {
    int32_t panels, width, cols;
} rows_of_panels;

/* Where packed weights and gradients have number k of row n. */
static size_t place_of(const rows_of_panels *shape, int32_t depth, int32_t n, int32_t k)
{
    const int32_t first = n / TRNN_PANEL / shape->width * shape->width, left = shape->panels - first;
    const size_t wide = (size_t)(left < shape->width ? left : shape->width) * TRNN_PANEL;
    const size_t before = (size_t)first * TRNN_PANEL;
    return before * (size_t)depth + (size_t)k * wide + (size_t)n - before;
}

/* One or two terms in so many parts, the last one first: each number is its chain from what was there. */
static void weight_gradient_of(const trnn_kernels *isa, rows_of_panels shape, int32_t rows, int32_t depth,
                               int32_t other, int32_t parts, int bias)
{
    enum { GAP = 3 };
    const int32_t depths[2] = {depth, other}, terms = other ? 2 : 1;
    const size_t dy_stride = (size_t)shape.cols + GAP, wide = (size_t)shape.panels * TRNN_PANEL;
    memory dy = rolled("dy", (size_t)rows * dy_stride - GAP, 0), x[2], dw[2], db[2];
    trnn_weight_gradient o = {.rows = rows,
                              .cols = shape.cols,
                              .panels = shape.panels,
                              .width = shape.width,
                              .dy = dy.at,
                              .dy_stride = dy_stride,
                              .parts = parts,
                              .terms = terms};
    dice d = dice_named("gradients");
    for (int i = 0; i < terms; i++) {
        const size_t stride = (size_t)depths[i] + GAP;
        x[i] = rolled(i ? "h" : "x", (size_t)rows * stride - GAP, 0);
        dw[i] = memory_take(wide * (size_t)depths[i] * sizeof(float));
        db[i] = memory_take(wide * sizeof(float));
        for (size_t k = 0; k < wide * (size_t)depths[i]; k++) dw[i].at[k] = dice_float(&d, 0);
        for (size_t k = 0; k < wide; k++) db[i].at[k] = dice_float(&d, 0);
        o.term[i] = (trnn_gradient_term){depths[i], x[i].at, stride, dw[i].at, bias ? db[i].at : NULL};
    }
    for (o.part = parts - 1; o.part >= 0; o.part--) TRNN_KERNEL(isa, weight_gradient)(&o);

    int same = 1, same_bias = 1;
    d = dice_named("gradients");
    for (int i = 0; i < terms; i++) {
        memory start = memory_floats(wide * (size_t)depths[i]);
        for (size_t k = 0; k < wide * (size_t)depths[i]; k++) start.at[k] = dice_float(&d, 0);
        for (int32_t n = 0; n < (int32_t)wide; n++) {
            const float *from = dy.at + n;
            for (int32_t k = 0; k < depths[i]; k++) {
                const size_t place = place_of(&shape, depths[i], n, k);
                float sum = start.at[place];
                for (int32_t m = 0; n < shape.cols && m < rows; m++)
                    sum = multiply_add(isa->fused, from[(size_t)m * dy_stride],
                                       x[i].at[(size_t)m * o.term[i].x_stride + (size_t)k], sum);
                same &= same_bits(&sum, dw[i].at + place, 1);
            }
            float sum = dice_float(&d, 0);
            for (int32_t m = 0; bias && n < shape.cols && m < rows; m++) sum += from[(size_t)m * dy_stride];
            same_bias &= same_bits(&sum, db[i].at + n, 1);
        }
        memory_release(&start);
    }
    check(same, "weight gradient on %s: %d rows, %d columns, depth %d and %d, in %d parts is not its chain",
          isa->name, (int)rows, (int)shape.cols, (int)depth, (int)other, (int)parts);
    check(same_bias, "weight gradient on %s: %d rows, %d columns: the bias", isa->name, (int)rows,
          (int)shape.cols);
    for (int i = 0; i < terms; i++) {
        memory_release(&x[i]);
        memory_release(&dw[i]);
        memory_release(&db[i]);
    }
    memory_release(&dy);
}

/* Rows around the 128 that are kept side by side; groups of a cell's gates, groups of 4 and fewer. */
static void weight_gradients(const trnn_kernels *isa)
{
    static const int32_t rows[] = {1, 2, 3, 7, 16, 127, 128, 129, 300};
    enum { ROWS = sizeof rows / sizeof rows[0] };
    for (int i = 0; i < WIDTHS; i++)
        for (int r = i % 2; r < ROWS; r += rows[r] > 16 && widths[i] > 65 ? 4 : 2) {
            const int32_t panels = (widths[i] + TRNN_PANEL - 1) / TRNN_PANEL;
            const int32_t depth = widths[(i * 5 + r) % (WIDTHS - 3)],
                          other = widths[(i + 3 * r) % (WIDTHS - 5)];
            weight_gradient_of(isa, (rows_of_panels){panels, TRNN_GROUP, widths[i]}, rows[r], depth,
                               r % 4 == 1 ? other : 0, 1 + i % 3, i % 4 != 0);
            if (widths[i] > 33) continue;
            for (int32_t gates = 3; gates <= 4; gates++)
                weight_gradient_of(isa, (rows_of_panels){panels * gates, gates, panels * gates * TRNN_PANEL},
                                   rows[r], depth, r % 4 == 0 ? other : 0, 1 + r % 3, r % 4 != 2);
        }
}

/* ---- cells backwards ----------------------------------------------------------------------------- */

static void step_back(const trnn_kernels *isa, const trnn_layer_type *kind, const trnn_cell_back *cell)
{
    if (kind == &trnn_lstm)
        TRNN_KERNEL(isa, lstm_back)(cell);
    else if (kind == &trnn_gru)
        TRNN_KERNEL(isa, gru_back)(cell);
    else
        TRNN_KERNEL(isa, rnn_back)(cell);
}

static int32_t gates_of(const trnn_layer_type *kind)
{
    return kind == &trnn_lstm ? 4 : kind == &trnn_gru ? 3 : 1;
}

/* A step back, with all that it reads and writes; strides are more than they need be. */
typedef struct {
    trnn_cell_back cell;
    memory gates, hidden, dy, dh_sum, dh_own, h, c, dc;
} way_back;

static way_back way_back_roll(const trnn_layer_type *kind, int relu, int32_t rows, int32_t units, int with_dy)
{
    enum { GAP = 5 };
    static const trnn_recurrent_args args[2] = {{.relu = 0}, {.relu = 1}};
    const size_t stride = (size_t)units + GAP, count = (size_t)rows * stride - GAP;
    const size_t wide = (size_t)(gates_of(kind) * ((units + TRNN_PANEL - 1) / TRNN_PANEL * TRNN_PANEL));
    way_back w;
    w.gates = rolled("gates", (size_t)rows * (wide + GAP) - GAP, 0);
    w.hidden = rolled("hidden", (size_t)rows * (wide + GAP) - GAP, 0);
    w.dy = rolled("dy", (size_t)rows * (stride + 2) - GAP - 2, 0);
    w.dh_sum = rolled("dh_sum", count, 0);
    w.dh_own = rolled("dh_own", count, 0);
    w.h = rolled("h", count, 0);
    w.c = rolled("c", count, 1);
    w.dc = rolled("dc", count, 0);
    for (size_t i = 0; i < w.gates.bytes / sizeof(float); i++) { /* sigmoids are in 0 .. 1 */
        const int gate = (int)(i % (wide + GAP) / TRNN_PANEL) % gates_of(kind);
        if ((kind == &trnn_lstm && gate != 2) || (kind == &trnn_gru && gate != 2))
            w.gates.at[i] = 0.5f + 0.5f * w.gates.at[i];
        else if (relu && w.gates.at[i] < 0.0f)
            w.gates.at[i] = 0.0f;
    }
    w.cell = (trnn_cell_back){.rows = rows,
                              .units = units,
                              .args = &args[relu],
                              .gates = w.gates.at,
                              .hidden = kind == &trnn_gru ? w.hidden.at : w.gates.at,
                              .dy = with_dy ? w.dy.at : NULL,
                              .dh_sum = w.dh_sum.at,
                              .dh_own = kind == &trnn_gru ? w.dh_own.at : NULL,
                              .h_before = kind == &trnn_gru ? w.h.at : NULL,
                              .states_before = kind == &trnn_lstm ? w.c.at : NULL,
                              .dstates = kind == &trnn_lstm ? w.dc.at : NULL,
                              .gates_stride = wide + GAP,
                              .dy_stride = stride + 2,
                              .h_stride = stride,
                              .states_stride = stride};
    return w;
}

static void way_back_release(way_back *w)
{
    memory_release(&w->gates);
    memory_release(&w->hidden);
    memory_release(&w->dy);
    memory_release(&w->dh_sum);
    memory_release(&w->dh_own);
    memory_release(&w->h);
    memory_release(&w->c);
    memory_release(&w->dc);
}

/* What one unit's step gives in double precision: by the chain rule from torch.nn's formulas. */
typedef struct {
    double gates[4], hidden[3], carried; /* carried: dc, or dh_own */
} unit_back;

static unit_back unit_back_of(const trnn_layer_type *kind, int relu, const double *gates, double hidden_n,
                              double before, double dh, double dc)
{
    unit_back u = {{0}, {0}, 0.0};
    if (kind == &trnn_lstm) {
        const double i = gates[0], f = gates[1], g = gates[2], o = gates[3], t = tanh(f * before + i * g);
        const double all = dc + dh * o * (1.0 - t * t);
        u.gates[0] = all * g * i * (1.0 - i);
        u.gates[1] = all * before * f * (1.0 - f);
        u.gates[2] = all * i * (1.0 - g * g);
        u.gates[3] = dh * t * o * (1.0 - o);
        u.carried = all * f;
    } else if (kind == &trnn_gru) { /* h' = (1 - z) n + z h, n = tanh(x_n + r hidden_n) */
        const double r = gates[0], z = gates[1], n = gates[2], dn = dh * (1.0 - z) * (1.0 - n * n);
        u.gates[0] = u.hidden[0] = dn * hidden_n * r * (1.0 - r);
        u.gates[1] = u.hidden[1] = dh * (before - n) * z * (1.0 - z);
        u.gates[2] = dn;
        u.hidden[2] = dn * r;
        u.carried = dh * z;
    } else {
        u.gates[0] = relu ? (gates[0] > 0.0 ? dh : 0.0) : dh * (1.0 - gates[0] * gates[0]);
    }
    return u;
}

/* Against the oracle, against other rows and against scalar_fma; nothing between rows is written. */
static void back_of(const trnn_kernels *isa, const trnn_layer_type *kind, int relu, int32_t rows,
                    int32_t units, int with_dy)
{
    const trnn_kernels *yardstick = trnn_isa_find("scalar_fma");
    const int32_t gates = gates_of(kind);
    way_back all = way_back_roll(kind, relu, rows, units, with_dy),
             start = way_back_roll(kind, relu, rows, units, with_dy);
    way_back other = way_back_roll(kind, relu, rows, units, with_dy);
    const size_t stride = all.cell.gates_stride, h_stride = all.cell.h_stride,
                 wide = stride - (h_stride - (size_t)units);
    step_back(isa, kind, &all.cell);
    double apart = 0.0;
    int gaps = 1, zeros = 1;
    for (size_t row = 0; row < (size_t)rows; row++) {
        for (size_t i = 0; i < wide; i++) {
            const size_t unit = i / (size_t)(gates * TRNN_PANEL) * TRNN_PANEL + i % TRNN_PANEL;
            const size_t gate = i / TRNN_PANEL % (size_t)gates, at = row * stride + i,
                         h = row * h_stride + unit;
            if (unit >= (size_t)units) {
                zeros &= all.gates.at[at] == 0.0f && (kind != &trnn_gru || all.hidden.at[at] == 0.0f);
                continue;
            }
            double own[4];
            for (int32_t g = 0; g < gates; g++)
                own[g] = (double)start.gates.at[at - gate * TRNN_PANEL + (size_t)g * TRNN_PANEL];
            const double dh = (double)start.dh_sum.at[h] +
                              (kind == &trnn_gru ? (double)start.dh_own.at[h] : 0.0) +
                              (with_dy ? (double)start.dy.at[row * start.cell.dy_stride + unit] : 0.0);
            const double before = kind == &trnn_lstm ? (double)start.c.at[h] : (double)start.h.at[h];
            const double hidden_n =
                kind == &trnn_gru ? (double)start.hidden.at[at - gate * TRNN_PANEL + 2 * TRNN_PANEL] : 0.0;
            const unit_back u = unit_back_of(kind, relu, own, hidden_n, before, dh, (double)start.dc.at[h]);
            apart = fmax(apart, fabs(u.gates[gate] - (double)all.gates.at[at]));
            if (kind == &trnn_gru) apart = fmax(apart, fabs(u.hidden[gate] - (double)all.hidden.at[at]));
            if (kind == &trnn_gru) apart = fmax(apart, fabs(u.carried - (double)all.dh_own.at[h]));
            if (kind == &trnn_lstm) apart = fmax(apart, fabs(u.carried - (double)all.dc.at[h]));
        }
        for (size_t i = wide; row + 1 < (size_t)rows && i < stride; i++)
            gaps &= same_bits(all.gates.at + row * stride + i, start.gates.at + row * stride + i, 1) &&
                    same_bits(all.hidden.at + row * stride + i, start.hidden.at + row * stride + i, 1);
        for (size_t i = (size_t)units; row + 1 < (size_t)rows && i < h_stride; i++)
            gaps &= same_bits(all.dc.at + row * h_stride + i, start.dc.at + row * h_stride + i, 1) &&
                    same_bits(all.dh_own.at + row * h_stride + i, start.dh_own.at + row * h_stride + i, 1);
    }
    const char *name = kind_name(kind);
    check(apart < 2e-6, "%s back on %s: %d rows, %d units: %.2g from double precision", name, isa->name,
          (int)rows, (int)units, apart);
    check(zeros, "%s back on %s: %d units: padding is not zero", name, isa->name, (int)units);
    check(gaps, "%s back on %s: %d units: writes between rows", name, isa->name, (int)units);

    other.cell.rows = 1; /* row by row, on the yardstick if its bits are to be the same */
    for (int32_t row = 0; row < rows; row++) {
        step_back(isa->fused && yardstick ? yardstick : isa, kind, &other.cell);
        other.cell.gates += stride, other.cell.hidden += stride, other.cell.dh_sum += h_stride;
        if (with_dy) other.cell.dy += other.cell.dy_stride;
        if (kind == &trnn_gru) other.cell.dh_own += h_stride, other.cell.h_before += h_stride;
        if (kind == &trnn_lstm) other.cell.states_before += h_stride, other.cell.dstates += h_stride;
    }
    check(memcmp(all.gates.at, other.gates.at, all.gates.bytes) == 0 &&
              memcmp(all.hidden.at, other.hidden.at, all.hidden.bytes) == 0 &&
              memcmp(all.dc.at, other.dc.at, all.dc.bytes) == 0 &&
              memcmp(all.dh_own.at, other.dh_own.at, all.dh_own.bytes) == 0,
          "%s back on %s: %d rows, %d units: row by row", name, isa->name, (int)rows, (int)units);
    way_back_release(&all);
    way_back_release(&start);
    way_back_release(&other);
}

/* A gradient that fades ends at zero, with nothing subnormal on the way; a NaN stays one. */
static void fading(const trnn_kernels *isa, const trnn_layer_type *kind)
{
    way_back w = way_back_roll(kind, 0, 1, 17, 0);
    memory gates = memory_floats(w.gates.bytes / sizeof(float)),
           hidden = memory_floats(w.hidden.bytes / sizeof(float));
    memcpy(gates.at, w.gates.at, gates.bytes);
    memcpy(hidden.at, w.hidden.at, hidden.bytes);
    for (size_t i = 0; i < gates.bytes / sizeof(float); i++) /* a gate that keeps most */
        if (i / TRNN_PANEL % (size_t)gates_of(kind) == 1) gates.at[i] = 0.75f;
    float *const carried = kind == &trnn_lstm ? w.dc.at : w.dh_own.at;
    memset(w.dh_sum.at, 0, w.dh_sum.bytes);
    int tiny = 0, left = 1;
    for (int t = 0; t < 400; t++) {
        memcpy(w.gates.at, gates.at, gates.bytes);
        memcpy(w.hidden.at, hidden.at, hidden.bytes);
        step_back(isa, kind, &w.cell);
        left = 0;
        for (int32_t i = 0; i < 17; i++) {
            tiny += carried[i] != 0.0f && fabsf(carried[i]) < 0x1p-64f;
            left += carried[i] != 0.0f;
        }
    }
    check(tiny == 0 && left == 0, "%s back on %s: a gradient fades to %g", kind_name(kind), isa->name,
          (double)carried[0]);

    const float too_small = 0x1p-66f;
    for (int32_t i = 0; i < 17; i++) w.dh_sum.at[i] = i == 16 ? NAN : too_small;
    memcpy(w.gates.at, gates.at, gates.bytes);
    step_back(isa, kind, &w.cell);
    const size_t last = (size_t)(gates_of(kind) * TRNN_PANEL);
    check(w.gates.at[0] == 0.0f && carried[0] == 0.0f, "%s back on %s: 2^-66 is not flushed", kind_name(kind),
          isa->name);
    check(isnan(w.gates.at[last]) && isnan(carried[16]), "%s back on %s loses NaN", kind_name(kind),
          isa->name);
    memory_release(&gates);
    memory_release(&hidden);
    way_back_release(&w);
}

static void cells_back(const trnn_kernels *isa)
{
    for (int i = 0; i < WIDTHS; i++)
        for (int32_t rows = 1; rows <= 5; rows += 2) {
            back_of(isa, &trnn_lstm, 0, rows, widths[i], rows > 1);
            back_of(isa, &trnn_gru, 0, rows, widths[i], rows < 5);
            back_of(isa, &trnn_rnn, 0, rows, widths[i], rows != 3);
            back_of(isa, &trnn_rnn, 1, rows, widths[i], rows > 1);
        }
    fading(isa, &trnn_lstm);
    fading(isa, &trnn_gru);
}

/* ---- cells that keep a tape ------------------------------------------------------------------------ */

/* A step of some rows without a tape, with one, and with one in place of the gates: the same state, and on
 * the tape what makes it. */
static void taped(const trnn_kernels *isa, const trnn_layer_type *kind, int32_t rows, int32_t units)
{
    enum { GAP = 5, WAYS = 3, IN = 3 };
    const int32_t gates = gates_of(kind);
    const size_t wide = (size_t)(gates * ((units + TRNN_PANEL - 1) / TRNN_PANEL * TRNN_PANEL)),
                 tape_stride = wide + GAP;
    const size_t stride = (size_t)units + GAP, count = (size_t)rows * stride - GAP;
    const size_t tape_count = (size_t)rows * tape_stride - GAP;
    const model m = {"taped", {1, IN}, 1, {{.type = kind, .as.recurrent = {IN, units, 0, 1, 0, 0}}}};
    weights w = weights_roll(&m);
    trnn_param params[TRNN_PARAMS_MAX];
    trnn_layer_params(&m.layers[0], params);
    memory h = rolled("h", count, 0), before = rolled("c", count, 0), sums = rolled("sums", tape_count, 0);
    memory c[WAYS], y[WAYS], tape[WAYS], tape_h[WAYS];
    for (int way = 0; way < WAYS; way++) {
        c[way] = rolled("c", count, 0);
        y[way] = memory_floats(count);
        tape[way] = rolled("sums", tape_count, 0);
        tape_h[way] = memory_floats(tape_count);
        for (size_t i = 0; i < count; i++) y[way].at[i] = 77.0f;
        for (size_t i = 0; i < tape_count; i++) tape_h[way].at[i] = 77.0f;
        const trnn_cell cell = {.hidden = matrix_of(&params[1], &w.at[0]),
                                .rows = rows,
                                .units = units,
                                .args = &m.layers[0].as.recurrent,
                                .gates = way == 2 ? tape[way].at : sums.at,
                                .bias_hh = w.at[0].at + params[3].offset / sizeof(float),
                                .h = h.at,
                                .before = h.at,
                                .states = c[way].at,
                                .y = y[way].at,
                                .gates_stride = tape_stride,
                                .h_stride = stride,
                                .before_stride = stride,
                                .states_stride = stride,
                                .y_stride = stride,
                                .tape = way ? tape[way].at : NULL,
                                .tape_h = way ? tape_h[way].at : NULL};
        step(isa, kind, &cell);
    }
    for (int way = 1; way < WAYS; way++)
        check(same_bits(y[0].at, y[way].at, count) && same_bits(c[0].at, c[way].at, count),
              "%s on %s, %d rows, %d units: a tape changes the step", kind_name(kind), isa->name, (int)rows,
              (int)units);
    check(same_bits(tape[1].at, tape[2].at, tape_count) && same_bits(tape_h[1].at, tape_h[2].at, tape_count),
          "%s on %s, %d rows, %d units: the tape in place of the gates", kind_name(kind), isa->name,
          (int)rows, (int)units);

    double apart = 0.0;
    for (size_t row = 0; row < (size_t)rows; row++)
        for (size_t unit = 0; unit < (size_t)units; unit++) {
            const size_t i =
                unit / TRNN_PANEL * (size_t)(gates * TRNN_PANEL) + unit % TRNN_PANEL + row * tape_stride;
            const float *t = tape[1].at + i, *own_y = y[1].at + row * stride + unit;
            if (kind == &trnn_lstm) {
                const double cell =
                    (double)t[16] * (double)before.at[row * stride + unit] + (double)t[0] * (double)t[32];
                apart = fmax(apart, fabs(cell - (double)c[1].at[row * stride + unit]));
                apart = fmax(apart, fabs((double)t[48] * tanh(cell) - (double)*own_y));
            } else if (kind == &trnn_gru) {
                const double n = tanh((double)sums.at[i + 32] + (double)t[0] * (double)tape_h[1].at[i + 32]);
                apart = fmax(apart, fabs(n - (double)t[32]));
                apart = fmax(apart, fabs(n + (double)t[16] * ((double)h.at[row * stride + unit] - n) -
                                         (double)*own_y));
            } else {
                apart = fmax(apart, fabs((double)t[0] - (double)*own_y));
            }
        }
    check(apart < (kind == &trnn_rnn ? 1e-30 : 2e-6), "%s on %s, %d units: the tape is %.2g off",
          kind_name(kind), isa->name, (int)units, apart);
    for (int way = 0; way < WAYS; way++) {
        memory_release(&c[way]);
        memory_release(&y[way]);
        memory_release(&tape[way]);
        memory_release(&tape_h[way]);
    }
    memory_release(&h);
    memory_release(&before);
    memory_release(&sums);
    weights_release(&w);
}

static void cells_taped(const trnn_kernels *isa)
{
    for (int i = 0; i < WIDTHS; i++) {
        taped(isa, &trnn_lstm, 1 + i * 5 % 13, widths[i]);
        taped(isa, &trnn_gru, 1 + i * 3 % 13, widths[i]);
        taped(isa, &trnn_rnn, 1 + i * 7 % 13, widths[i]);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void reads(const trnn_kernels *isa)
{
    memory x = memory_take(256 * sizeof(float));
    for (int i = 0; i < 256; i++) x.at[i] = (float)i;
    check(TRNN_KERNEL(isa, read_f32)(x.at, 256) == 255.0f * 128.0f, "read on %s", isa->name);
    size_t numbers = 0;
    const float sum = TRNN_KERNEL(isa, peak_f32)(4, &numbers);
    check(numbers > 0 && numbers % 4 == 0 && sum == sum, "peak on %s", isa->name);
    memory_release(&x);
}

static void silences(const trnn_kernels *isa)
{
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++) {
        silence(isa, &trnn_lstm, (trnn_format)format, 0, 1);
        silence(isa, &trnn_gru, (trnn_format)format, 0, 1);
        silence(isa, &trnn_rnn, (trnn_format)format, 0, 1);
        silence(isa, &trnn_rnn, (trnn_format)format, 1, 1);
    }
    silence(isa, &trnn_rnn, TRNN_F32, 0, 0);
    silence(isa, &trnn_rnn, TRNN_F32, 1, 0);
}

void test_kernels(void)
{
    static const struct {
        const char *name;
        void (*run)(const trnn_kernels *isa);
    } groups[] = {
        {"products, bit for bit their chain", products},
        {"integers at their edges", integers},
        {"halves, every one of them", halves},
        {"functions of a number", maps},
        {"their slopes", maps_back},
        {"zeros, infinities, NaN", specials},
        {"softmax against double precision", distributions},
        {"norms against double precision", norms},
        {"normalised sums", norms_of_sums},
        {"biases of all gates", biases},
        {"cells against double precision", cells},
        {"cells together with their input", all_together},
        {"100,000 steps of silence", silences},
        {"gradients of weights, bit for bit", weight_gradients},
        {"cells backwards, in double precision", cells_back},
        {"cells that keep a tape", cells_taped},
        {"read and peak", reads},
    };
    const trnn_kernels *isa;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        check_group(groups[i].name);
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) groups[i].run(isa);
    }
}
