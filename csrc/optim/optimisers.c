/* The tables of the optimisers. A program links those that it names. */
#include "optimiser.h"

#define TRNN_OPTIMISER_RULES
#define TRNN_OPTIMISER(lower, ...)                                                                   \
    static void lower##_step(const trnn_kernels *isa, const trnn_update *update, size_t n, float *w, \
                             const float *g, float *const *state)                                    \
    {                                                                                                \
        TRNN_KERNEL(isa, update_##lower)(update, n, w, g, state);                                    \
    }                                                                                                \
    const trnn_optimiser trnn_##lower = {.name = #lower,                                             \
                                         .facts = {__VA_ARGS__},                                     \
                                         .states = lower##_states,                                   \
                                         .coefficients = lower##_coefficients,                       \
                                         .update = lower##_step};
#include "optimisers.def"
#undef TRNN_OPTIMISER
