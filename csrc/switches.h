/* The switches of a build: what it leaves out. Each is a macro for the compiler's command line, the same one for
 * every file: -DTRNN_WITH_INT4=0. A program drops by itself, when it is linked with -ffunction-sections,
 * -fdata-sections and -Wl,--gc-sections, the layers, losses and trainings that it does not name; the switches are
 * for what the linker cannot see. docs/c-guide.md says what they save.
 *
 *   switch            default   0 leaves out
 *   TRNN_WITH_F16     1         weights in float16
 *   TRNN_WITH_BF16    1         weights in bfloat16
 *   TRNN_WITH_INT8    1         weights in int8
 *   TRNN_WITH_INT4    1         weights in int4
 *
 * trnn_layer_check says TRNN_E_LEFT_OUT of a layer in a format that was left out.
 *
 *   TRNN_ISA_ONLY     not defined: a table for each instruction set in kernels/isa.def, one of which the caller
 *                     chooses as the program runs. Defined as one of their names (scalar, neon ...), the build has
 *                     that one alone: kernels are called directly, and the linker drops those that nobody calls
 *   TRNN_ISAS         not defined, or the lines of isa.def that the build shall have, which csrc/Makefile writes
 *   TRNN_SOFT_SQRT    defined: the square root of a processor without such an instruction. Chosen where needed
 *   NDEBUG            defined: no assert
 *
 * A build must round as IEEE 754 says and contract no product and sum: -std=c99 or -ffp-contract=off.
 */
#ifndef TRNN_SWITCHES_H
#define TRNN_SWITCHES_H

#ifndef TRNN_WITH_F16
#define TRNN_WITH_F16 1
#endif

#ifndef TRNN_WITH_BF16
#define TRNN_WITH_BF16 1
#endif

#ifndef TRNN_WITH_INT8
#define TRNN_WITH_INT8 1
#endif

#ifndef TRNN_WITH_INT4
#define TRNN_WITH_INT4 1
#endif

#if defined(__FAST_MATH__)
#error "tinyrnn's bits are those of IEEE 754: build it without -ffast-math"
#endif

#endif
