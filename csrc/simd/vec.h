/* The contract of an instruction set: a vector of floats and the operations on it.
 *
 * A vec_<isa>.h defines VF_LANES (1, 4, 8 or 16), VF_REGISTERS (vector registers that code may
 * use), VF_TILE_ROWS (rows that a product computes together, 1 .. 6: as many as stay in registers,
 * see product.inc), VF_FUSED (1 if vf_fma rounds once), the type vf, and as static inline functions:
 *
 *   vf   vf_load(const float *p)         p need not be aligned
 *   void vf_store(float *p, vf a)
 *   vf   vf_set(float a)                 every lane is a
 *   vf   vf_add(a, b) vf_sub vf_mul vf_div vf_sqrt(a)    rounded once, as IEEE 754 says
 *   vf   vf_fma(a, b, c)                 a * b + c, rounded once where VF_FUSED
 *   vf   vf_min(a, b)                    a < b ? a : b. With a constant for a, a NaN in b stays
 *   vf   vf_max(a, b)                    a > b ? a : b. The same
 *   vf   vf_abs(a)
 *   vf   vf_copysign(a, b)               the magnitude of a with the sign of b
 *   vf   vf_if_less(a, b, x, y)          a < b ? x : y; y where a or b is NaN
 *   vf   vf_exp2i(n)                     2^n for whole n in -126 .. 127
 *   vf   vf_load_f16(const uint16_t *p)  finite float16 numbers, widened exactly
 *   vf   vf_load_bf16(const uint16_t *p) bfloat16 numbers, widened exactly
 *
 * and, in the dot_<...>.h that it includes, exact sums of integer products for a panel of 16 rows:
 *
 *   vd                                   the sums, int32, as many registers as it takes
 *   VD_STEP                              planes of 4 k that vd_dot8 takes at once (1 or 2)
 *   VD_UNSIGNED                          1: vd_dot8 wants activations 128 higher, and vd_start makes up for it
 *   VD_TILE_ROWS, VD_TILE_PANELS         rows and panels whose sums stay in registers
 *   vd   vd_start(const int32_t *p)      what sums begin at: p[16] where VD_UNSIGNED, else 0
 *   vd   vd_dot8(vd sum, w, stride, x)   sum + VD_STEP * 4 products a row. w: planes [16][4] of codes -127 .. 127,
 *                                        stride bytes apart; x: as many codes -127 .. 127 (+ 128)
 *   vd   vd_dot4(w, stride, x)           32 products a row. w: 4 planes [16][4] of two codes 0 .. 15 a byte;
 *                                        x: 32 codes -127 .. 127, the first 16 for the low halves
 *   vf   vd_float(vd sum, int j, int32_t less)   the j-th register of sum - less as floats, halves to even
 *
 * There are no reciprocal estimates and no sums across lanes: the former differ between machines,
 * the latter would make a result depend on the width.
 */
#ifndef TRNN_VEC_H
#define TRNN_VEC_H

#include "../config.h"

/* 1.5 * 2^23: adding it leaves a whole number in a float's low bits, rounded half to even. */
#define VF_MAGIC 12582912.0f

/* The same bits as float, as integer. */
typedef union {
    float f;
    int32_t i;
    uint32_t u;
} vf_bits;

/* Registers that a panel of packed weights takes. */
#define VF_PER_PANEL (TRNN_PANEL / VF_LANES)

#define VF_HEADER_TEXT(isa) #isa
#define VF_HEADER_OF(isa)   VF_HEADER_TEXT(vec_##isa.h)
#define VF_HEADER(isa)      VF_HEADER_OF(isa)
#include VF_HEADER(TRNN_ISA_NAME)

#endif
