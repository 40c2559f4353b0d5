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

#define VF_HEADER_TEXT(isa) #isa
#define VF_HEADER_OF(isa)   VF_HEADER_TEXT(vec_##isa.h)
#define VF_HEADER(isa)      VF_HEADER_OF(isa)
#include VF_HEADER(TRNN_ISA_NAME)

/* Registers that a panel of packed weights takes. */
#define VF_PER_PANEL (TRNN_PANEL / VF_LANES)

#endif
