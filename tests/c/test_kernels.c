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

/* ---- product --------------------------------------------------------------------------------- */

/* The promise in plain C: one chain of multiply-adds in ascending k that starts from the bias. */
static float chain(int fused, const float *w, const float *x, int32_t depth, float sum)
{
    for (int32_t k = 0; k < depth; k++) {
        const float product = w[k] * x[k];
        sum = fused ? fmaf(w[k], x[k], sum) : product + sum;
    }
    return sum;
}

/* `rows` rows through a packed (cols, depth) matrix, rows of x and y further apart than they are long. */
static void product_of(const trnn_kernels *isa, int32_t rows, int32_t depth, int32_t cols, int bias)
{
    enum { GAP = 3 };
    const size_t x_stride = (size_t)depth + GAP, y_stride = (size_t)cols + GAP;
    const trnn_layer layer = {.kind = TRNN_LINEAR, .as.linear = {depth, cols, 1}};
    memory w = rolled("w", (size_t)cols * (size_t)depth, 0), b = rolled("b", (size_t)cols, 0);
    memory x = rolled("x", (size_t)rows * x_stride - GAP, 0),
           y = memory_floats((size_t)rows * y_stride - GAP);
    memory packed = memory_take(trnn_layer_weights_bytes(&layer));
    trnn_param params[TRNN_PARAMS_MAX];
    trnn_layer_params(&layer, params);
    memset(packed.at, 0, packed.bytes);
    trnn_param_pack(&params[0], packed.at, w.at, NULL);
    trnn_param_pack(&params[1], packed.at, b.at, NULL);
    for (size_t i = 0; i < y.bytes / sizeof(float); i++) y.at[i] = 77.0f;

    trnn_product p = {.rows = rows, .cols = cols, .x = x.at, .y = y.at};
    p.matrix.weights = (const char *)packed.at + params[0].offset;
    p.matrix.depth = depth;
    p.matrix.panels = (cols + TRNN_PANEL - 1) / TRNN_PANEL;
    p.matrix.width = TRNN_GROUP;
    p.bias = bias ? packed.at + params[1].offset / sizeof(float) : NULL;
    p.x_stride = x_stride;
    p.y_stride = y_stride;
    isa->product(&p);
    int same = 1, gaps = 1;
    for (int32_t m = 0; m < rows; m++) {
        const float *row = y.at + (size_t)m * y_stride;
        for (int32_t n = 0; n < cols; n++) {
            const float wanted = chain(trnn_isa_fused(isa), w.at + (size_t)n * (size_t)depth,
                                       x.at + (size_t)m * x_stride, depth, bias ? b.at[n] : 0.0f);
            same &= same_bits(&wanted, row + n, 1);
        }
        for (int i = 0; m < rows - 1 && i < GAP; i++) gaps &= row[cols + i] == 77.0f;
    }
    check(same, "product on %s: %d rows, depth %d, %d columns is not its chain", trnn_isa_name(isa),
          (int)rows, (int)depth, (int)cols);
    check(gaps, "product on %s: %d rows, %d columns writes between rows", trnn_isa_name(isa), (int)rows,
          (int)cols);
    memory_release(&w);
    memory_release(&b);
    memory_release(&x);
    memory_release(&y);
    memory_release(&packed);
}

static void products(const trnn_kernels *isa)
{
    for (int32_t rows = 1; rows <= 13; rows++)
        for (int i = 0; i < WIDTHS; i++)
            product_of(isa, rows, widths[(i * 7 + rows) % WIDTHS], widths[i], i % 2);
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

static double exact(trnn_map map, double x)
{
    if (map == TRNN_MAP_EXP) return exp(x);
    if (map == TRNN_MAP_TANH) return tanh(x);
    return x < 0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x));
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

/* Does the instruction set keep numbers below the smallest normal one? NEON of ARMv7 does not. */
static int keeps_subnormal(const trnn_kernels *isa)
{
    const float x = -100.0f;
    float y;
    isa->map_f32(TRNN_MAP_EXP, &x, &y, 1, 0.0f);
    return y != 0.0f;
}

static void maps(const trnn_kernels *isa)
{
    static const char *const names[] = {"exp", "sigmoid", "tanh"};
    const int subnormal = keeps_subnormal(isa);
    memory x = probes();
    const size_t count = x.bytes / sizeof(float);
    memory y = memory_floats(count);
    check(subnormal || strcmp(isa->name, "neon") == 0, "%s flushes subnormal numbers", isa->name);
    for (int map = TRNN_MAP_EXP; map <= TRNN_MAP_TANH; map++) {
        isa->map_f32((trnn_map)map, x.at, y.at, count, 0.0f);
        double most = 0.0;
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            const double wanted = exact((trnn_map)map, (double)x.at[i]);
            if (!subnormal && fabs(wanted) < 2.4e-38) {
                check(fabs((double)y.at[i]) < 2.4e-38, "%s on %s: %a", names[map], isa->name,
                      (double)x.at[i]);
                continue;
            }
            const double error = ulps(y.at[i], wanted);
            if (error > most) most = error, at = i;
        }
        check(most <= 2.5, "%s on %s: %.2f ulp at %a", names[map], isa->name, most, (double)x.at[at]);

        /* A number alone, at every place of an array, and in place. */
        for (size_t n = 1; n <= 49; n++) {
            memory part = memory_floats(n), own = memory_floats(n);
            memcpy(part.at, x.at + 3000, n * sizeof(float));
            isa->map_f32((trnn_map)map, part.at, own.at, n, 0.0f);
            isa->map_f32((trnn_map)map, part.at, part.at, n, 0.0f);
            check(same_bits(own.at, y.at + 3000, n) && same_bits(part.at, own.at, n), "%s on %s: %d numbers",
                  names[map], isa->name, (int)n);
            memory_release(&part);
            memory_release(&own);
        }
    }
    memory_release(&x);
    memory_release(&y);
}

static void specials(const trnn_kernels *isa)
{
    const float inf = INFINITY, huge = 3.4028235e38f;
    static const float nan_bits = NAN;
    const struct {
        trnn_map map;
        float x, y;
    } wanted[] = {
        {TRNN_MAP_EXP, 0.0f, 1.0f},        {TRNN_MAP_EXP, -0.0f, 1.0f},
        {TRNN_MAP_EXP, inf, inf},          {TRNN_MAP_EXP, -inf, 0.0f},
        {TRNN_MAP_EXP, huge, inf},         {TRNN_MAP_EXP, -huge, 0.0f},
        {TRNN_MAP_SIGMOID, 0.0f, 0.5f},    {TRNN_MAP_SIGMOID, inf, 1.0f},
        {TRNN_MAP_SIGMOID, -inf, 0.0f},    {TRNN_MAP_SIGMOID, huge, 1.0f},
        {TRNN_MAP_SIGMOID, -huge, 0.0f},   {TRNN_MAP_TANH, inf, 1.0f},
        {TRNN_MAP_TANH, -inf, -1.0f},      {TRNN_MAP_TANH, huge, 1.0f},
        {TRNN_MAP_TANH, -huge, -1.0f},     {TRNN_MAP_TANH, 0.0f, 0.0f},
        {TRNN_MAP_TANH, -0.0f, -0.0f},     {TRNN_MAP_LEAKY_RELU, -inf, -inf},
        {TRNN_MAP_LEAKY_RELU, 2.0f, 2.0f}, {TRNN_MAP_LEAKY_RELU, -2.0f, -1.0f},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        float y;
        isa->map_f32(wanted[i].map, &wanted[i].x, &y, 1, 0.5f);
        check(same_bits(&y, &wanted[i].y, 1), "map %d on %s of %g: %g", (int)wanted[i].map, isa->name,
              (double)wanted[i].x, (double)y);
    }
    for (int map = 0; map < TRNN_MAP_COUNT; map++) {
        float y = 0.0f;
        isa->map_f32((trnn_map)map, &nan_bits, &y, 1, 0.5f);
        check(isnan(y), "map %d on %s loses NaN", map, isa->name);
    }
    for (int log = 0; log < 2; log++) { /* a NaN anywhere, the padding's share too */
        for (size_t at = 0; at < 17; at++) {
            float x[17] = {0}, y[17];
            x[at] = nan_bits;
            isa->softmax_f32(x, y, 17, log);
            check(isnan(y[0]) && isnan(y[at]) && isnan(y[16]), "softmax on %s loses NaN", isa->name);
        }
        float far[3] = {-huge, huge, 0.0f};
        isa->softmax_f32(far, far, 3, log);
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
        isa->softmax_f32(x.at, y.at, n, 0);
        isa->softmax_f32(x.at, logs.at, n, 1);
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
        isa->softmax_f32(logs.at, logs.at, n, 0);
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
        isa->layer_norm_f32(x.at, y.at, n, 1e-3f, w.at, b.at);
        for (size_t k = 0; k < n; k++)
            apart = fmax(apart, fabs(((double)x.at[k] - mean) / sqrt(var + (double)1e-3f) * (double)w.at[k] +
                                     (double)b.at[k] - (double)y.at[k]));
        check(apart < 2e-6, "layer norm on %s of %d: %.2g", isa->name, (int)n, apart);

        memory own = memory_floats(n), scale = memory_floats(n), shift = memory_floats(n);
        memcpy(own.at, x.at, n * sizeof(float));
        isa->layer_norm_f32(own.at, own.at, n, 1e-3f, w.at, b.at);
        check(same_bits(own.at, y.at, n), "layer norm on %s of %d in place", isa->name, (int)n);

        for (size_t k = 0; k < n; k++) own.at[k] = 0.25f + y.at[k] * y.at[k];
        isa->norm_scale_f32(scale.at, shift.at, n, 1e-3f, x.at, own.at, w.at, b.at);
        isa->affine_f32(b.at, y.at, n, scale.at, shift.at);
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

/* ---- cells ----------------------------------------------------------------------------------- */

static double sigma(double x) { return 1.0 / (1.0 + exp(-x)); }

/* One step in double precision from torch.nn's formulas, on weights as PyTorch has them. */
static void oracle(trnn_kind kind, int relu, int32_t units, const double *gates, const double *hidden,
                   const double *h, double *c, double *y)
{
    for (int32_t j = 0; j < units; j++) {
        double sum[4];
        const int32_t count = kind == TRNN_LSTM ? 4 : kind == TRNN_GRU ? 2 : 1;
        for (int32_t g = 0; g < count; g++) sum[g] = gates[g * units + j] + hidden[g * units + j];
        if (kind == TRNN_LSTM) {
            c[j] = sigma(sum[1]) * c[j] + sigma(sum[0]) * tanh(sum[2]);
            y[j] = sigma(sum[3]) * tanh(c[j]);
        } else if (kind == TRNN_GRU) {
            const double n = tanh(gates[2 * units + j] + sigma(sum[0]) * hidden[2 * units + j]);
            y[j] = (1.0 - sigma(sum[1])) * n + sigma(sum[1]) * h[j];
        } else {
            y[j] = relu ? fmax(0.0, sum[0]) : tanh(sum[0]);
        }
    }
}

/* W x + b in double precision. */
static void affine(const float *w, const float *b, const double *x, int32_t rows, int32_t cols, double *y)
{
    for (int32_t n = 0; n < rows; n++) {
        y[n] = (double)b[n];
        for (int32_t k = 0; k < cols; k++) y[n] += (double)w[(size_t)n * (size_t)cols + (size_t)k] * x[k];
    }
}

/* A whole layer against the oracle, over a few steps from zeros. */
static void recurrent(const trnn_kernels *isa, trnn_kind kind, int relu, int32_t in, int32_t units)
{
    enum { STEPS = 6, GATES = 4 * 130, PARAMS = 4 };
    const int32_t gates = (kind == TRNN_LSTM ? 4 : kind == TRNN_GRU ? 3 : 1) * units;
    model m = {"oracle", {1, in}, 1, {{.kind = kind, .as.recurrent = {in, units, 0, 1, 0, relu}}}};
    weights w = weights_roll(&m);
    net n = net_open(&m, &w, 1, STEPS);
    memory x = net_input(&n, "oracle", STEPS), y = memory_floats(STEPS * n.out), tensors[PARAMS];
    net_run(&n, isa, x.at, y.at, STEPS, NULL);

    trnn_param params[TRNN_PARAMS_MAX];
    check(trnn_layer_params(&m.layers[0], params) == PARAMS, "a layer with biases has 4 tensors");
    for (int p = 0; p < PARAMS; p++) {
        tensors[p] = memory_floats((size_t)params[p].shape[0] * (size_t)params[p].shape[1]);
        trnn_param_unpack(&params[p], w.pointers[0], tensors[p].at, NULL);
    }
    double h[130] = {0}, c[130] = {0}, next[130], input[130], from_x[GATES], from_h[GATES], apart = 0.0;
    for (int t = 0; t < STEPS; t++) {
        for (int32_t i = 0; i < in; i++) input[i] = (double)x.at[t * in + i];
        affine(tensors[0].at, tensors[2].at, input, gates, in, from_x);
        affine(tensors[1].at, tensors[3].at, h, gates, units, from_h);
        oracle(kind, relu, units, from_x, from_h, h, c, next);
        memcpy(h, next, sizeof h);
        for (int32_t j = 0; j < units; j++)
            apart = fmax(apart, fabs(h[j] - (double)y.at[t * units + j]) / fmax(1.0, fabs(h[j])));
    }
    check(apart < 2e-6, "%s %dx%d on %s: %.2g from double precision", trnn_kind_name(kind), (int)in,
          (int)units, isa->name, apart);
    for (int p = 0; p < PARAMS; p++) memory_release(&tensors[p]);
    memory_release(&x);
    memory_release(&y);
    net_close(&n);
    weights_release(&w);
}

static void cells(const trnn_kernels *isa)
{
    for (int i = 0; i < WIDTHS; i++) {
        const int32_t in = widths[(i * 5 + 2) % WIDTHS], units = widths[i];
        recurrent(isa, TRNN_LSTM, 0, in, units);
        recurrent(isa, TRNN_GRU, 0, in, units);
        recurrent(isa, TRNN_RNN, 0, in, units);
        recurrent(isa, TRNN_RNN, 1, in, units);
    }
}

/* ---- silence --------------------------------------------------------------------------------- */

/* 100,000 steps of zeros. A step is a function of the state, so once a step leaves every bit as it
 * was, so do all that follow: the rest need not be run. */
static void silence(const trnn_kernels *isa, trnn_kind kind, int relu, int zeros_in_the_end)
{
    enum { SILENT = 100000, UNITS = 20 };
    model m = {"silence", {1, UNITS}, 1, {{.kind = kind, .as.recurrent = {UNITS, UNITS, 0, 0, 0, relu}}}};
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
    check(subnormal == 0, "%s on %s: %d subnormal numbers in silence", trnn_kind_name(kind), isa->name,
          subnormal);
    check(still, "%s on %s never rests", trnn_kind_name(kind), isa->name);
    int zeros = 1;
    for (size_t i = 0; i < n.out; i++) zeros &= n.state.at[i] == 0.0f;
    check(zeros == zeros_in_the_end, "%s on %s: silence ends at %g", trnn_kind_name(kind), isa->name,
          (double)n.state.at[0]);
    memory_release(&x);
    memory_release(&y);
    memory_release(&before);
    net_close(&n);
    weights_release(&w);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void reads(const trnn_kernels *isa)
{
    memory x = memory_take(256 * sizeof(float));
    for (int i = 0; i < 256; i++) x.at[i] = (float)i;
    check(isa->read_f32(x.at, 256) == 255.0f * 128.0f, "read on %s", isa->name);
    size_t numbers = 0;
    const float sum = isa->peak_f32(4, &numbers);
    check(numbers > 0 && numbers % 4 == 0 && sum == sum, "peak on %s", isa->name);
    memory_release(&x);
}

static void silences(const trnn_kernels *isa)
{
    silence(isa, TRNN_LSTM, 0, 1);
    silence(isa, TRNN_GRU, 0, 1);
    silence(isa, TRNN_RNN, 0, 1);
    silence(isa, TRNN_RNN, 1, 1);
    silence(isa, TRNN_RNN, 0, 0);
    silence(isa, TRNN_RNN, 1, 0);
}

void test_kernels(void)
{
    static const struct {
        const char *name;
        void (*run)(const trnn_kernels *isa);
    } groups[] = {
        {"products, bit for bit their chain", products},
        {"exp, sigmoid, tanh within 2.5 ulp", maps},
        {"zeros, infinities, NaN", specials},
        {"softmax against double precision", distributions},
        {"norms against double precision", norms},
        {"cells against double precision", cells},
        {"100,000 steps of silence", silences},
        {"read and peak", reads},
    };
    const trnn_kernels *isa;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        check_group(groups[i].name);
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) groups[i].run(isa);
    }
}
