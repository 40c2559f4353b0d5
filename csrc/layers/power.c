/* Logarithm, exp and powers in double, without vectors and without libm. */
#include "power.h"
#include "../config.h"

typedef union {
    double d;
    uint64_t u;
} double_bits;

/* Of a number that is normal as a double, as every float is: x = 2^e m, m in [sqrt 1/2, sqrt 2), ln m = 2 artanh(s),
 * s = (m - 1) / (m + 1), by artanh's series up to s^21. */
double trnn_log_double(double x)
{
    if (x == 0.0) return -(double)__builtin_inff();
    if (!(x > 0.0 && x - x == 0.0)) return x > 0.0 ? x : (double)__builtin_nanf("");
    double_bits bits = {x};
    int32_t e = (int32_t)(bits.u >> 52) - 1023;
    bits.u = (bits.u & 0xfffffffffffffu) | 0x3ff0000000000000u;
    if (bits.d > 1.4142135623730951) bits.d *= 0.5, e++;
    const double s = (bits.d - 1.0) / (bits.d + 1.0), z = s * s;
    double series = 0.0;
    for (int odd = 21; odd >= 1; odd -= 2) series = series * z + 1.0 / odd;
    return e * 0.6931471805599453 + 2.0 * s * series;
}

/* 2^n exp(r), r = x - n ln 2, by the series of exp up to r^13. */
double trnn_exp_double(double x)
{
    if (x != x) return x;
    x = x > 200.0 ? 200.0 : x < -200.0 ? -200.0 : x;
    const double scaled = x * 1.4426950408889634;
    const int32_t n = (int32_t)(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
    const double r = x - n * 0.6931471805599453;
    double series = 1.0;
    for (int i = 13; i >= 1; i--) series = series * r / i + 1.0;
    const double_bits power = {.u = (uint64_t)(1023 + n) << 52};
    return series * power.d;
}

float trnn_power_of(float x, float p)
{
    const double size = (double)(x < 0.0f ? -x : x);
    const int large = p > 1e9f || p < -1e9f; /* whole and even, as every float beyond 2^24 */
    const int64_t whole = large || p != p ? 0 : (int64_t)p;
    const int is_whole = large || (float)whole == p;
    if (p == 0.0f || x == 1.0f) return 1.0f;
    if (x != x || p != p) return x + p;
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
        y = size == 1.0 ? 1.0 : trnn_exp_double((double)p * trnn_log_double(size));
        if (x < 0.0f && !is_whole) return __builtin_nanf("");
    }
    return is_whole && (whole & 1) ? __builtin_copysignf((float)y, x) : (float)y;
}
