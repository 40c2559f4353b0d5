/* The one file that is compiled once per instruction set: the algorithms of the .inc files over the
 * operations of one simd/vec_<isa>.h, and the table that exports them. The build defines
 * TRNN_ISA_NAME and gives the flags that isa.def lists. */
#include "kernels.h"
#include "../optim/optimiser.h"
#include "../simd/vec.h"

#include "panel.inc"
#include "integer.inc"
#include "product.inc"
#include "act.inc"
#include "cell.inc"
#include "../cells/cells.def"
#undef TRNN_CELL
#undef TRNN_CELL_FORMULAS
#include "grad.inc"
#include "norm.inc"
#include "floor.inc"
#include "optim.inc"
#include "../optim/optimisers.def"
#undef TRNN_OPTIMISER
#undef TRNN_OPTIMISER_FORMULAS

#define TABLE_OF(isa) trnn_kernels__##isa
#define TABLE(isa)    TABLE_OF(isa)
#define TEXT_OF(isa)  #isa
#define TEXT(isa)     TEXT_OF(isa)

const trnn_kernels TABLE(TRNN_ISA_NAME) = {
    .name = TEXT(TRNN_ISA_NAME),
    .fused = VF_FUSED,
    .product = product,
#define TRNN_CELL(NAME, name, ...) .name = name, .name##_taped = name##_taped, .name##_back = name##_back,
#include "../cells/cells.def"
#undef TRNN_CELL
    .weight_gradient = weight_gradient,
    .map_f32 = map_f32,
    .softmax_f32 = softmax_f32,
    .layer_norm_f32 = layer_norm_f32,
    .norm_scale_f32 = norm_scale_f32,
    .affine_f32 = affine_f32,
    .read_f32 = read_f32,
    .peak_f32 = peak_f32,
#define TRNN_OPTIMISER(name, ...) .update_##name = update_##name,
#include "../optim/optimisers.def"
#undef TRNN_OPTIMISER
    .clip_f32 = clip_f32,
    .squares_f32 = squares_f32,
};
