/* Compiled once per instruction set: the algorithms of the .inc files with the operations of simd/vec_<isa>.h, and the
 * table that exports them. The build defines TRNN_ISA_NAME and passes the flags of isa.def.
 *
 * With TRNN_ISA_EXTENDS among these flags, only the integer products are compiled. Kernels of the kind `floats` are
 * those of the instruction set that is extended; those of the kind `integers` are, too, but with the products here. */
#include "kernels.h"
#include "../optim/optimiser.h"
#include "../simd/vec.h"

#include "panel.inc"
#include "integer.inc"

/* `parameters` and `arguments` of kernels.def with the integer products after them. */
#define AND_INTEGERS(...) (__VA_ARGS__, const integer_products *integers)
#define AND_OURS(...)     (__VA_ARGS__, &integer_table)
#define AND_THEIRS(...)   (__VA_ARGS__, integers)

/* The function of a kernel of the kind `integers` that takes the products: trnn_<name>_with__<isa>. */
#define WITH(name, isa) TRNN_FUNCTION(name##_with, isa)

#if defined(TRNN_ISA_EXTENDS)

#define TABLE_floats(name)                                 TRNN_FUNCTION(name, TRNN_ISA_EXTENDS)
#define TABLE_integers(name)                               TRNN_FUNCTION(name, TRNN_ISA_NAME)
#define FUNCTION_floats(type, name, parameters, arguments) type TABLE_floats(name) parameters;
#define FUNCTION_integers(type, name, parameters, arguments) \
    type WITH(name, TRNN_ISA_EXTENDS)                        \
    AND_INTEGERS parameters;                                 \
    static type TABLE_integers(name) parameters { WITH(name, TRNN_ISA_EXTENDS) AND_OURS arguments; }

#else

#include "product.inc"
#include "act.inc"
#include "map.inc"
#include "maps.def"
#undef TRNN_MAP
#include "cell.inc"
#include "../cells/cells.def"
#undef TRNN_CELL
#undef TRNN_CELL_TWO
#undef TRNN_CELL_SCAN
#undef TRNN_CELL_FORMULAS
#include "grad.inc"
#include "norm.inc"
#include "floor.inc"
#include "optim.inc"
#include "../optim/optimisers.def"
#undef TRNN_OPTIMISER
#undef TRNN_OPTIMISER_FORMULAS

#define RETURN_void
#define RETURN_float  return
#define RETURN_double return

#define TABLE_floats(name)   TRNN_FUNCTION(name, TRNN_ISA_NAME)
#define TABLE_integers(name) TRNN_FUNCTION(name, TRNN_ISA_NAME)
#define FUNCTION_floats(type, name, parameters, arguments) \
    type TRNN_FUNCTION(name, TRNN_ISA_NAME) parameters { RETURN_##type name arguments; }
#if defined(TRNN_ISA_ONLY)
#define FUNCTION_integers(type, name, parameters, arguments) \
    type TRNN_FUNCTION(name, TRNN_ISA_NAME) parameters { name AND_OURS arguments; }
#else
#define FUNCTION_integers(type, name, parameters, arguments) \
    type WITH(name, TRNN_ISA_NAME)                           \
    AND_INTEGERS parameters;                                 \
    type WITH(name, TRNN_ISA_NAME)                           \
    AND_INTEGERS parameters { name AND_THEIRS arguments; }   \
    static type TRNN_FUNCTION(name, TRNN_ISA_NAME) parameters { name AND_OURS arguments; }
#endif

#endif

#define TRNN_ENTRY(type, name, parameters, arguments, kind) FUNCTION_##kind(type, name, parameters, arguments)
#include "kernels.def"
#undef TRNN_ENTRY

#define TABLE_OF(isa) trnn_kernels__##isa
#define TABLE(isa)    TABLE_OF(isa)
#define TEXT_OF(isa)  #isa
#define TEXT(isa)     TEXT_OF(isa)

const trnn_kernels TABLE(TRNN_ISA_NAME) = {
    .name = TEXT(TRNN_ISA_NAME),
    .fused = VF_FUSED,
#if !defined(TRNN_ISA_ONLY)
#define TRNN_ENTRY(type, name, parameters, arguments, kind) .name = TABLE_##kind(name),
#include "kernels.def"
#undef TRNN_ENTRY
#endif
};
