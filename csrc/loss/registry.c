/* All losses. Only this file links every loss into a program. */
#include "loss.h"

static const trnn_loss_type *const types[] = {
#define TRNN_LOSS(name) &trnn_loss_##name,
#include "losses.def"
#undef TRNN_LOSS
};

int32_t trnn_loss_count(void) { return (int32_t)(sizeof types / sizeof types[0]); }

const trnn_loss_type *trnn_loss_at(int32_t i) { return types[i]; }
