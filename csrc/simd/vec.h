/* The contract of an instruction set: a vector of floats and the operations on it, as inline functions of a file
 * vec_<isa>.h. Arguments are a, b, c, x, y: vectors (vf); p: a place in memory, which need not be aligned.
 *
 * Sizes:
 *
 *   VF_LANES                             floats of a vector: 1, 4, 8 or 16
 *   VF_REGISTERS                         vector registers that code may use
 *   VF_TILE_ROWS                         1 .. 6: rows of a product whose sums stay in registers (product.inc)
 *   VF_FUSED                             1: vf_fma rounds once
 *
 * Memory:
 *
 *   vf   vf_load(const float *p), void vf_store(float *p, a)
 *   vf   vf_set(float a)                 every lane is a
 *   vf   vf_load_f16(const uint16_t *p)  finite float16 numbers, widened exactly
 *   vf   vf_load_bf16(const uint16_t *p) bfloat16 numbers, widened exactly
 *
 * Arithmetic, rounded once, as IEEE 754 says:
 *
 *   vf   vf_add(a, b), vf_sub, vf_mul, vf_div, vf_sqrt(a)
 *   vf   vf_fma(a, b, c)                 a * b + c; rounded twice where VF_FUSED is 0
 *   vf   vf_exp2i(a)                     2^a for whole a in -126 .. 127
 *
 * Choice, exact:
 *
 *   vf   vf_min(a, b), vf_max            the smaller, the larger; a NaN in b stays. The results for two zeros and for
 *                                        a NaN in a depend on the machine
 *   vf   vf_abs(a)
 *   vf   vf_copysign(a, b)               the magnitude of a with the sign of b
 *   vf   vf_if_less(a, b, x, y)          a < b ? x : y; y where a or b is NaN
 *
 * Inputs of a product, for an instruction set that can multiply a vector by one lane of a register. Where a file does
 * not define them, vec.h does, and broadcasts each input as it reads it:
 *
 *   vf_inputs, VF_INPUTS                 a register of VF_INPUTS inputs
 *   vf_inputs vf_load_inputs(const float *p)
 *   vf_inputs vf_set_inputs(float a)     one input, in lane 0
 *   vf   vf_fma_input(a, inputs, int lane, c)   vf_fma(a, input `lane`, c); lane is a constant
 *
 * Optional operations, each announced by a macro:
 *
 *   VF_LOADS_MOVE                        loads that advance their pointer:
 *     const char *vf_load_panel(const char *p, vf *v)   the VF_PER_PANEL registers of a panel; returns the next panel
 *   VF_MASKS                             16 lanes, of which the first `count` (1 .. 16) are in memory:
 *     vf   vf_load_part(const float *p, size_t count, float fill)   the others are `fill`
 *     void vf_store_part(float *p, a, size_t count)
 *   VF_IN_ORDER                          no operation: some processors execute in order, so long loops are unrolled
 *   VF_ROW                               by hand (by_hand/): one row times a full float32 group of 3 or 4 panels
 *     void vf_row(...)                   as product_panels in product.inc calls it
 *
 * and, in the dot_<...>.h that it includes, exact sums of integer products for a panel of 16 rows:
 *
 *   vd                                   the 16 sums, int32, in one or more registers
 *   VD_STEP                              planes of 4 k that vd_dot8 takes at once (1 or 2)
 *   vd_inputs, VD_INPUTS                 the activations of so many planes (1, 2 or 4)
 *   VD_UNSIGNED                          1: vd_dot8 takes activations that are 128 higher; vd_start corrects the sums
 *   VD_TILE_ROWS, VD_TILE_PANELS         rows and panels whose sums stay in registers
 *   vd_inputs vd_load_inputs(const char *x)
 *   vd   vd_start(const int32_t *p)      the sums' first values: p[0 .. 15] where VD_UNSIGNED, else 0
 *   vd   vd_dot8(vd sum, w, stride, inputs, int lane)   sum + VD_STEP * 4 products a row. w: planes [16][4] of codes
 *                                        -127 .. 127, stride bytes apart; lane: the first one's place in the inputs
 *   vd   vd_dot4(w, stride, x)           32 products a row. w: 4 planes [16][4] of two codes 0 .. 15 a byte;
 *                                        x: 32 codes -127 .. 127, the first 16 for the low halves
 *   vf   vd_float(vd sum, int j, int32_t less)   the j-th register of sum - less as floats, halves to even
 *
 * There are no reciprocal estimates, because they differ between machines, and no sums across lanes, because a
 * result would then depend on the width.
 */
#ifndef TRNN_VEC_H
#define TRNN_VEC_H

#include "../config.h"
#include "../format.h"

/* 1.5 * 2^23: adding it leaves a whole number in a float's low bits, rounded half to even. */
#define VF_MAGIC 12582912.0f

/* The same bits as a float and as an integer. */
typedef union {
    float f;
    int32_t i;
    uint32_t u;
} vf_bits;

/* Registers of a panel of packed weights. */
#define VF_PER_PANEL (TRNN_PANEL / VF_LANES)

#define VF_HEADER_TEXT(isa) #isa
#define VF_HEADER_OF(isa)   VF_HEADER_TEXT(vec_##isa.h)
#define VF_HEADER(isa)      VF_HEADER_OF(isa)
#include VF_HEADER(TRNN_ISA_NAME)

/* Without an instruction that takes a lane, an input is broadcast as it is read. */
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
