/* Plain C with the hardware's fused multiply-add: the yardstick of the same-bits promise. */
#define VF_FUSED 1
#include "vec_scalar.h"
