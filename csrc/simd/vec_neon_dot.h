/* NEON with the dot product instructions of ARMv8.2 (Cortex-A76 and later). */
#include "vec_neon.h"
