/* x to a constant exponent, as torch.pow. In double, without vectors: the same bits everywhere, and right to the last
 * place of a float but for a few in 10^6. */
#include "training.h"

const trnn_argument trnn_pow_arguments[] = {
    TRNN_LIVE_FLOAT_OF(pow, exponent),
    TRNN_END_OF(pow),
};

static trnn_status pow_check(const trnn_layer *layer)
{
    const float p = layer->as.pow.exponent;
    return p - p == 0.0f ? TRNN_OK : TRNN_E_ARGUMENT; /* finite */
}

static trnn_status pow_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer;
    *out = in;
    return TRNN_OK;
}

typedef union {
    double d;
    uint64_t u;
} double_bits;

/* ln x for x above 0, finite and normal as a double, which every float is: x = 2^e m, m in [sqrt 1/2, sqrt 2),
 * ln m = 2 artanh(s), s = (m - 1) / (m + 1), by artanh's series up to s^21. */
static double log_double(double x)
{
    double_bits bits = {x};
    int32_t e = (int32_t)(bits.u >> 52) - 1023;
    bits.u = (bits.u & 0xfffffffffffffu) | 0x3ff0000000000000u;
    if (bits.d > 1.4142135623730951) bits.d *= 0.5, e++;
    const double s = (bits.d - 1.0) / (bits.d + 1.0), z = s * s;
    double series = 0.0;
    for (int odd = 21; odd >= 1; odd -= 2) series = series * z + 1.0 / odd;
    return e * 0.6931471805599453 + 2.0 * s * series;
}

/* exp x for x within +-200: 2^n exp(r), r = x - n ln 2, by the series of exp up to r^13. */
static double exp_double(double x)
{
    const double scaled = x * 1.4426950408889634;
    const int32_t n = (int32_t)(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
    const double r = x - n * 0.6931471805599453;
    double series = 1.0;
    for (int i = 13; i >= 1; i--) series = series * r / i + 1.0;
    const double_bits power = {.u = (uint64_t)(1023 + n) << 52};
    return series * power.d;
}

/* x^p, the edges as of C's pow. */
static float power_of(float x, float p)
{
    const double size = (double)(x < 0.0f ? -x : x);
    const int large = p > 1e9f || p < -1e9f; /* whole and even, as every float beyond 2^24 */
    const int64_t whole = large ? 0 : (int64_t)p;
    const int is_whole = large || (float)whole == p;
    if (p == 0.0f) return 1.0f;
    if (x != x) return x;
    double y;
    if (is_whole && whole >= -32 && whole <= 32 && !large) {
        y = 1.0;
        double square = size;
        for (int64_t left = whole < 0 ? -whole : whole; left; left >>= 1, square *= square)
            if (left & 1) y *= square;
        if (whole < 0) y = 1.0 / y;
    } else if (size == 0.0 || size > 3.4028234663852886e38) {
        y = (size == 0.0) == (p < 0.0f) ? (double)__builtin_inff() : 0.0;
    } else {
        const double bend = (double)p * log_double(size);
        y = exp_double(bend > 200.0 ? 200.0 : bend < -200.0 ? -200.0 : bend);
        if (x < 0.0f && !is_whole) return __builtin_nanf("");
    }
    return is_whole && (whole & 1) ? __builtin_copysignf((float)y, x) : (float)y;
}

static void pow_run(const trnn_call *call)
{
    const float *x = call->x, p = call->layer->as.pow.exponent;
    const size_t numbers = (size_t)call->steps * (size_t)call->batch * trnn_frame_size(call->in);
    for (size_t i = 0; i < numbers; i++) call->y[i] = power_of(x[i], p);
}

/* dx = p x^(p - 1) dy */
static void pow_backward(const trnn_pass *pass)
{
    const float *x = pass->x, p = pass->layer->as.pow.exponent;
    const size_t numbers = (size_t)pass->rows * trnn_frame_size(pass->in);
    if (!pass->dx) return;
    for (size_t i = 0; i < numbers; i++)
        pass->dx[i] = p == 0.0f ? 0.0f : pass->dy[i] * (p * power_of(x[i], p - 1.0f));
}

const trnn_layer_type trnn_pow = {
    .name = "pow",
    .check = pow_check,
    .frame = pow_frame,
    .run = pow_run,
};

const trnn_layer_training trnn_pow_training = {.backward = pow_backward};
