/* The contract of an optimiser: one file, which holds its facts, how a rule becomes numbers, and its formula; and
 * a line in optimisers.def.
 *
 * The file is read by optimisers.c, with TRNN_OPTIMISER_RULES defined, for what is worked out once a step:
 *
 *     uint32_t name_states(const trnn_rule *rule)      bit i: a step needs the i-th state
 *     trnn_coefficients name_coefficients(const trnn_rule *rule, int64_t steps)
 *                                                      of a tensor that has done `steps` before
 *
 * and by kernels.c, once per instruction set and with TRNN_OPTIMISER_FORMULAS defined, for what is done with
 * every number:
 *
 *     name_update(const trnn_update *u, vf *w, vf g, vf *const *state)      state[i]: NULL for none
 *
 * A weight, a gradient and states that are all zero stay zero, for such lanes pad a panel. A moment that decays
 * goes through update_moment (kernels/optim.inc).
 */
#ifndef TRNN_OPTIMISER_H
#define TRNN_OPTIMISER_H

#include "../kernels/kernels.h"

typedef struct {
    const char
        *states[TRNN_STATES_MAX]; /* what torch.optim calls what it remembers of every number; NULL: none */
    uint32_t always,
        sometimes; /* bit i: the i-th state is there in every rule, in some: each combination that can
                                 * be is a loop of its own */
} trnn_optimiser_facts;

/* What is the same for all numbers of a tensor; the floats of trnn_update are made of these. */
typedef struct {
    double rate, eps;
    double first, first_new;   /* what a moment keeps, and what it takes of the gradient */
    double second, second_new; /* the same for the moment of squares */
} trnn_coefficients;

struct trnn_optimiser {
    const char *name;
    trnn_optimiser_facts facts;
    uint32_t (*states)(const trnn_rule *rule);
    trnn_coefficients (*coefficients)(const trnn_rule *rule, int64_t steps);
    void (*update)(const trnn_kernels *isa, const trnn_update *update, size_t n, float *w, const float *g,
                   float *const *state);
};

/* Without libm, which a core may not have: the square root of a finite number of at least 0, within two units of
 * its last place, and a^n. The same bits on every machine. */
double trnn_root(double a);
double trnn_power(double a, int64_t n);

#endif
