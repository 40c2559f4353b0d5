/* The contract of an optimiser: one file, which holds its facts, its coefficients and its formula, and a line in
 * optimisers.def.
 *
 * The file is read by optimisers.c, with TRNN_OPTIMISER_RULES defined, for the work that is done once a step:
 *
 *     uint32_t name_states(const trnn_rule *rule)      bit i: a step needs the i-th state
 *     trnn_coefficients name_coefficients(const trnn_rule *rule, int64_t steps)
 *                                                      for a tensor with `steps` earlier steps
 *
 * and by kernels.c, once per instruction set and with TRNN_OPTIMISER_FORMULAS defined, for the work on every number:
 *
 *     name_update(const trnn_update *u, vf *w, vf g, vf *const *state)      state[i]: NULL if the step does not need it
 *
 * A panel is padded with zeros. Where weight, gradient and states are zero they must stay zero. A moment that decays
 * goes through update_moment (kernels/optim.inc).
 */
#ifndef TRNN_OPTIMISER_H
#define TRNN_OPTIMISER_H

#include "../kernels/kernels.h"

typedef struct {
    const char *states[TRNN_STATES_MAX]; /* their names in torch.optim; NULL: there are fewer */
    uint32_t always;                     /* bit i: every rule needs the i-th state */
    uint32_t sometimes; /* bit i: some rules do. Each combination is compiled as its own loop */
} trnn_optimiser_facts;

/* The numbers of a step that all weights of a tensor share; trnn_update has them as floats. */
typedef struct {
    double rate, eps;
    double first, first_new;   /* factors of a moment's old value and of the gradient */
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

/* The core has no libm. The square root of a finite a >= 0, within two units in its last place, and a^n: the same
 * bits on every machine. */
double trnn_root(double a);
double trnn_power(double a, int64_t n);

#endif
