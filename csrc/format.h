/* The formats of a matrix's numbers, and their layout.
 *
 * A packed matrix consists of groups of up to 4 panels of 16 rows (pack.c). The bytes of a group with `wide` rows
 * of K numbers are, by format:
 *
 *   F32         [k][wide] floats
 *   F16, BF16   [k][wide] halves
 *   INT8        wide scales (float), wide starts (int32: -128 times the row's sum of codes, for processors that
 *               multiply unsigned activations), then [k / 4][wide][4] codes; k padded to a multiple of 8
 *   INT4        for each 32 of k: wide scales (bfloat16), then [4][wide][4] bytes; byte j of plane p holds
 *               the codes of k = 4 p + j (low) and k = 16 + 4 p + j (high), each plus 8
 *
 * A table that is read by rows (an embedding) keeps each row of `cols` numbers as
 *
 *   F32, F16, BF16   the numbers
 *   INT8             its scale, then codes, padded to 4 bytes
 *   INT4             for each 32: its scale (bfloat16), then 16 bytes: codes i (low) and i + 16 (high), plus 8
 *
 * A number is code * scale. Codes of INT8 are -127 .. 127, of INT4 -8 .. 7.
 */
#ifndef TRNN_FORMAT_H
#define TRNN_FORMAT_H

#include "layout.h"
#include "tinyrnn.h"

/* Numbers of a row that share an INT4 scale. */
#define TRNN_BLOCK 32

/* Added to a stored INT4 code, so that it is not negative. */
#define TRNN_INT4_ZERO 8

/* Added to an INT8 activation on processors that multiply unsigned by signed. */
#define TRNN_INT8_ZERO 128

/* INT8 sums of more terms could overflow: 127 * 127 * 2^17 < 2^31. */
#define TRNN_INT8_DEPTH ((int32_t)1 << 17)

static inline size_t trnn_round_up(size_t number, size_t part)
{
    return number > SIZE_MAX - part ? SIZE_MAX : (number + part - 1) / part * part;
}

/* Does the build have this format? */
static inline int trnn_has_format(trnn_format format)
{
    switch (format) {
    case TRNN_F16: return TRNN_WITH_F16;
    case TRNN_BF16: return TRNN_WITH_BF16;
    case TRNN_INT8: return TRNN_WITH_INT8;
    case TRNN_INT4: return TRNN_WITH_INT4;
    default: return format == TRNN_F32;
    }
}

/* Is it this format? A constant 0 for a format that was left out, so that the compiler drops the code for it. */
static inline int trnn_is_f16(trnn_format format) { return TRNN_WITH_F16 && format == TRNN_F16; }
static inline int trnn_is_bf16(trnn_format format) { return TRNN_WITH_BF16 && format == TRNN_BF16; }
static inline int trnn_is_int8(trnn_format format) { return TRNN_WITH_INT8 && format == TRNN_INT8; }
static inline int trnn_is_int4(trnn_format format) { return TRNN_WITH_INT4 && format == TRNN_INT4; }
static inline int trnn_is_half(trnn_format format) { return trnn_is_f16(format) || trnn_is_bf16(format); }
static inline int trnn_is_integer(trnn_format format) { return trnn_is_int8(format) || trnn_is_int4(format); }

/* Bytes of a group of `width` panels; SIZE_MAX beyond what can be addressed. */
static inline size_t trnn_group_bytes(trnn_format format, int32_t width, int32_t depth)
{
    const size_t wide = (size_t)width * TRNN_PANEL, k = (size_t)depth;
    if (trnn_is_half(format)) return trnn_times(wide, trnn_times(k, 2));
    if (trnn_is_int8(format)) return trnn_times(wide, trnn_plus(8, trnn_round_up(k, 8)));
    if (trnn_is_int4(format))
        return trnn_times(wide, trnn_times(trnn_round_up(k, TRNN_BLOCK) / TRNN_BLOCK, 18));
    return trnn_times(wide, trnn_times(k, 4));
}

/* Bytes of one row of a table. */
static inline size_t trnn_row_bytes(trnn_format format, int32_t cols)
{
    const size_t n = (size_t)cols;
    if (trnn_is_half(format)) return trnn_times(n, 2);
    if (trnn_is_int8(format)) return trnn_plus(4, trnn_round_up(n, 4));
    if (trnn_is_int4(format)) return trnn_times(trnn_round_up(n, TRNN_BLOCK) / TRNN_BLOCK, 18);
    return trnn_times(n, 4);
}

/* Activations of an integer product. A row is its codes, padded with zeros to whole blocks, then the sums of its
 * blocks (int32), then its scale. */
static inline size_t trnn_codes_bytes(int32_t depth) { return trnn_round_up((size_t)depth, TRNN_BLOCK); }

static inline size_t trnn_activation_bytes(int32_t depth)
{
    const size_t codes = trnn_codes_bytes(depth);
    return trnn_align(codes + codes / TRNN_BLOCK * sizeof(int32_t) + sizeof(float));
}

/* Bytes of scratch for a product of `rows` rows. */
static inline size_t trnn_product_scratch(trnn_format format, int32_t rows, int32_t depth)
{
    return trnn_is_integer(format) ? trnn_times((size_t)rows, trnn_activation_bytes(depth)) : 0;
}

/* A bfloat16 as float. */
static inline float trnn_widen_bf16(uint16_t half)
{
    union {
        uint32_t u;
        float f;
    } bits = {(uint32_t)half << 16};
    return bits.f;
}

/* A finite float16 as float, without a subnormal intermediate result, which some machines flush. */
static inline float trnn_widen_f16(uint16_t half)
{
    union {
        uint32_t u;
        float f;
    } bits = {((uint32_t)(half & 0x7fff) << 13) + (112u << 23)};
    if (!(half & 0x7c00)) { /* subnormal: 2^-14 (1 + fraction) less 2^-14 */
        bits.u += 1u << 23;
        bits.f -= 0x1p-14f;
    }
    bits.u |= (uint32_t)(half & 0x8000) << 16;
    return bits.f;
}

#endif
