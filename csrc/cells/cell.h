/* The contract of a recurrent cell: one file, which holds its facts and its formula, and a line in cells.def.
 *
 * A step computes the sum a of each gate, H numbers each; the formula computes the new h from them:
 *
 *     a = Wx x + b_ih + Wh h + b_hh
 *     h', states' = formula(a, h, states, vectors)
 *
 * The file is read by layers/cells.c for its facts, and by kernels.c, once per instruction set and with
 * TRNN_CELL_FORMULAS defined, for its formula: two functions over a register of units, which kernels/cell.inc calls.
 *
 *     name_forward(cell_unit *u)         sets u->y and u->state from the sums. If there is a tape, keeps on it what
 *                                        the backward pass needs
 *     name_backward(cell_unit_back *u)   computes, from u->dh and u->dstate, the gradients of the sums, of u->state,
 *                                        and where the facts say so of u->h and the vectors
 *
 * Both apply without_tiny to what they pass to the next step: u->y and u->state, u->dstate and u->dh_own. Units that
 * pad the last panel are zero; the gradients of their sums must then be zero, too.
 *
 * Both are compiled for size, which costs little: most of the time goes to the products. A cell that most nets have
 * is compiled for speed: `#define CELL_FAST_name ~,` beside its formula.
 *
 * A cell of two rounds, TRNN_CELL_TWO, has a second product with the result m of a first formula in the place of h, for
 * its last gates:
 *
 *     a1 = Wx1 x + b1 + Wh1 h,  m = first(a1, h, states),  a2 = Wx2 x + b2 + Wh2 m,  h', states' = formula(a1, a2, ...)
 *
 *     name_first(cell_unit *u)                from the sums of the first gates: sets u->y, which is m, and keeps on the
 *                                             tape, which is always there, what the others need
 *     name_forward(cell_unit *u)              as above; cell_between() is what the first formula kept
 *     name_backward(cell_unit_back *u)        as above; it may set the gradients of first gates, too, and keep others
 *     name_first_backward(cell_unit_back *u)  from u->dh, the gradient of m: sets the remaining gradients of first
 *                                             gates, and u->dh_own and u->dstate, which are as name_backward left them
 *
 * A cell without a product with h, TRNN_CELL_SCAN and .no_hh = 1, has the two formulas of any cell; its sums are their
 * input parts. One kernel walks many of its steps.
 */
#ifndef TRNN_CELL_H
#define TRNN_CELL_H

#include <stdint.h>

enum { TRNN_CELL_STATES_MAX = 2 };

typedef struct {
    int32_t gates;   /* 1 .. TRNN_GROUP: rows of a matrix for each unit, in the formula's order */
    int32_t states;  /* 0 .. TRNN_CELL_STATES_MAX: vectors of H numbers that a step passes on beside h */
    int32_t own;     /* 1: the formula reads h itself, not only its product; excludes a projection */
    int32_t no_hh;   /* 1: no product with h, so neither weight_hh nor bias_hh; excludes apart, too */
    int32_t second;  /* gates of the second round, the last ones; excludes apart, no_hh and a projection */
    uint32_t apart;  /* bit g: the formula reads both parts of gate g's sum; bias_hh is in the hidden one */
    int32_t vectors; /* vectors of H parameters that the formula reads: one tensor, (vectors * H,) */
    const char *vector_names[2]; /* names of that tensor, forwards and in the reverse direction */
    const char *gate_names;      /* a letter for each gate whose activation the tape keeps; or NULL */
    int32_t projection, relu;    /* 1: the cell takes these arguments of trnn_recurrent_args */
    int32_t peephole;            /* 1: it takes this one, too, and has the vectors only with it */
    int32_t layer_norm;          /* 1: it takes this one, too (layers/general.c) */
    int32_t
        shared; /* 1: a FastGRNN (layers/general.c): a gate and the candidate share their sum. The vectors are a
                     * bias for each, in the place of bias_ih and bias_hh; zeta and nu are a number each */
    int32_t output; /* 1: a Jordan network (layers/general.c): its projection has a bias and a function */
} trnn_cell_facts;

#endif
