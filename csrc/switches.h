/* The switches of a build. Each is a macro for the compiler's command line, the same for every file:
 * -DTRNN_WITH_INT4=0. Layers, losses and trainings need no switch: a program compiled with -ffunction-sections
 * -fdata-sections and linked with -Wl,--gc-sections has only those that it names. docs/c-guide.md has the sizes.
 *
 *   switch            default   0 leaves out
 *   TRNN_WITH_F16     1         weights in float16
 *   TRNN_WITH_BF16    1         weights in bfloat16
 *   TRNN_WITH_INT8    1         weights in int8
 *   TRNN_WITH_INT4    1         weights in int4
 *   TRNN_WITH_GRAPHS         1  nets that are no chains: several inputs, outputs, reads or axes of time, loops
 *   TRNN_WITH_BIDIRECTIONAL  1  recurrent layers of both directions
 *   TRNN_WITH_PROJECTION     1  LSTMs with a projection, Jordan networks
 *   TRNN_WITH_TWO_ROUNDS     1  GRUs whose reset gate acts before the product
 *   TRNN_WITH_CELL_OPTIONS   1  the cells of layers/general.c: any functions of gates, clips, layer normalisation, zoneout,
 *                               FastGRNN, Jordan networks; and recurrent_dropout
 *   TRNN_WITH_HIDDEN         1  the gradients of hidden states: trnn_training_job.hidden is taken for 0
 *
 * For a layer with what was left out, trnn_layer_check returns TRNN_E_LEFT_OUT, and trnn_plan_init for such a net.
 *
 *   TRNN_ISA_ONLY     not defined: a table for each instruction set in kernels/isa.def, one of which the caller
 *                     chooses at run time. Defined as one of their names (scalar, neon ...), the build has only
 *                     that one: kernels are called directly, and the linker drops those that are not called
 *   TRNN_ISAS         not defined, or the lines of isa.def that the build has; csrc/Makefile defines it
 *   TRNN_NO_WITNESSES defined: no table that no machine of the architecture chooses, as in wheels
 *   TRNN_SOFT_SQRT    defined: compute square roots without an instruction. Chosen by itself where there is none
 *   NDEBUG            defined: no assertions
 *
 * A build must round as IEEE 754 says and must not contract a product and a sum: -std=c99 or -ffp-contract=off.
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

#ifndef TRNN_WITH_GRAPHS
#define TRNN_WITH_GRAPHS 1
#endif

#ifndef TRNN_WITH_BIDIRECTIONAL
#define TRNN_WITH_BIDIRECTIONAL 1
#endif

#ifndef TRNN_WITH_PROJECTION
#define TRNN_WITH_PROJECTION 1
#endif

#ifndef TRNN_WITH_TWO_ROUNDS
#define TRNN_WITH_TWO_ROUNDS 1
#endif

#ifndef TRNN_WITH_CELL_OPTIONS
#define TRNN_WITH_CELL_OPTIONS 1
#endif

#ifndef TRNN_WITH_HIDDEN
#define TRNN_WITH_HIDDEN 1
#endif

#if defined(__FAST_MATH__)
#error "tinyrnn's bits are those of IEEE 754: build it without -ffast-math"
#endif

#endif
