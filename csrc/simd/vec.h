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
 *   vf   vf_min(a, b)                    the smaller; a NaN in b stays. Which of two zeros, or what a NaN in a
 *   vf   vf_max(a, b)                    gives, is the machine's. The same
 *   vf   vf_abs(a)
 *   vf   vf_copysign(a, b)               the magnitude of a with the sign of b
 *   vf   vf_if_less(a, b, x, y)          a < b ? x : y; y where a or b is NaN
 *   vf   vf_exp2i(n)                     2^n for whole n in -126 .. 127
 *   vf_inputs, VF_INPUTS                some inputs of a product, one of which multiplies a vector: VF_INPUTS in a
 *                                        register where an instruction takes one lane of it, else where they lie
 *   vf_inputs vf_load_inputs(const float *p)   VF_INPUTS of them
 *   vf_inputs vf_set_inputs(float a)     one of them, as the first; where VF_INPUTS is more than 1
 *   vf   vf_fma_input(a, inputs, int lane, c)  vf_fma(a, input `lane`, c); lane is a constant
 *   VF_LOADS_MOVE, const char *vf_load_panel(const char *p, vf *v)   where defined: the VF_PER_PANEL registers of
 *                                        a panel; returns where the next one is. For loads that move their pointer
 *   VF_ROW, vf_row                       where defined: one row times a full float32 group of 3 or 4 panels, by hand
 *   VF_MASKS, vf vf_load_part(const float *p, size_t count, float fill), void vf_store_part(float *p, vf a, size_t count)
 *                                        where defined, of 16 lanes the first `count` (1 .. 16): nothing else is
 *                                        read or written; the other lanes are `fill`
 *   vf   vf_load_f16(const uint16_t *p)  finite float16 numbers, widened exactly
 *   vf   vf_load_bf16(const uint16_t *p) bfloat16 numbers, widened exactly
 *
 * and, in the dot_<...>.h that it includes, exact sums of integer products for a panel of 16 rows:
 *
 *   vd                                   the sums, int32, as many registers as it takes
 *   VD_STEP                              planes of 4 k that vd_dot8 takes at once (1 or 2)
 *   vd_inputs, VD_INPUTS                 the activations of so many planes (1, 2 or 4)
 *   vd_inputs vd_load_inputs(const char *x)
 *   VD_UNSIGNED                          1: vd_dot8 wants activations 128 higher, and vd_start makes up for it
 *   VD_TILE_ROWS, VD_TILE_PANELS         rows and panels whose sums stay in registers
 *   vd   vd_start(const int32_t *p)      what sums begin at: p[16] where VD_UNSIGNED, else 0
 *   vd   vd_dot8(vd sum, w, stride, inputs, int lane)   sum + VD_STEP * 4 products a row. w: planes [16][4] of codes
 *                                        -127 .. 127, stride bytes apart; lane: the first one's place in the inputs
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
#include "../format.h"

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

/* Where nothing takes a lane, an input is broadcast as it is read. */
#if !defined(VF_INPUTS)
#define VF_INPUTS 1
typedef const float *vf_inputs;
TRNN_INLINE vf_inputs vf_load_inputs(const float *p) { return p; }
TRNN_INLINE vf vf_fma_input(vf a, vf_inputs inputs, int lane, vf c)
{
    return vf_fma(a, vf_set(inputs[lane]), c);
}
#endif

#endif
