/* Compiled once per instruction set: the algorithms of the .inc files with the operations of simd/vec_<isa>.h, and the
 * table that exports them. The build defines TRNN_ISA_NAME and passes the flags of isa.def. */
#include "kernels.h"
#include "../optim/optimiser.h"
#include "../simd/vec.h"

#include "panel.inc"
#include "integer.inc"
#include "product.inc"
#include "act.inc"
#include "map.inc"
#include "maps.def"
#undef TRNN_MAP
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
#if !defined(TRNN_ISA_ONLY)
#define TRNN_ENTRY(type, name, parameters, arguments) .name = name,
#include "kernels.def"
#undef TRNN_ENTRY
#endif
};

#if defined(TRNN_ISA_ONLY)
#define RETURN_void
#define RETURN_float  return
#define RETURN_double return
#define TRNN_ENTRY(type, name, parameters, arguments) \
    type trnn_kernel_##name parameters { RETURN_##type name arguments; }
#include "kernels.def"
#undef TRNN_ENTRY
#endif
