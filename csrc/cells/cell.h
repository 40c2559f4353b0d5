/* The contract of a recurrent cell: one file, which holds its facts and its formula, and a line in cells.def.
 *
 * A step makes sums a of each gate, H numbers each, and the formula makes the new h of them:
 *
 *     a = Wx x + b_ih + Wh h + b_hh
 *     h', states' = formula(a, h, states, vectors)
 *
 * The file is read by layers/cells.c for its facts, and by kernels.c, once per instruction set and with
 * TRNN_CELL_FORMULAS defined, for its formula: two functions over a register of units, which kernels/cell.inc calls.
 *
 *     name_forward(cell_unit *u)         sets u->y and u->state from the sums; with a tape keeps what comes now:
 *     name_backward(cell_unit_back *u)   from u->dh and u->dstate to the gradients of the sums, of u->state, and
 *                                        where the facts say so of u->h and the vectors
 *
 * What a step hands on, u->y and u->state, is without_tiny, and so is what a step back hands on. Where all that
 * a unit's gradients are made of is zero, those of its sums are zero: such units pad the last panel.
 */
#ifndef TRNN_CELL_H
#define TRNN_CELL_H

#include <stdint.h>

enum { TRNN_CELL_STATES_MAX = 2 };

typedef struct {
    int32_t gates;   /* 1 .. TRNN_GROUP: matrices have so many rows for each unit, in the formula's order */
    int32_t states;  /* 0 .. TRNN_CELL_STATES_MAX: vectors of H numbers that a step hands on beside h */
    int32_t own;     /* 1: the formula reads h itself, beside the product; then there is no projection */
    int32_t no_hh;   /* 1: no product with h, so neither weight_hh nor bias_hh */
    uint32_t apart;  /* bit g: the formula takes the hidden part of gate g, bias included, apart from x's */
    int32_t vectors; /* vectors of H parameters that the formula reads: one tensor, (vectors * H,), */
    const char *vector_names[2]; /* of these names, the second for the reverse direction */
    const char *gate_names;      /* a letter for each gate, whose activation the tape then keeps; or NULL */
    int32_t projection, relu;    /* 1: takes these arguments of trnn_recurrent_args */
} trnn_cell_facts;

#endif
