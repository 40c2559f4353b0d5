/* All optimisers. Only this file links every optimiser into a program. */
#include "optimiser.h"

static const trnn_optimiser *const all[] = {
#define TRNN_OPTIMISER(lower, ...) &trnn_##lower,
#include "optimisers.def"
#undef TRNN_OPTIMISER
};

int32_t trnn_optimiser_count(void) { return (int32_t)(sizeof all / sizeof all[0]); }

const trnn_optimiser *trnn_optimiser_at(int32_t i) { return all[i]; }
