/* What the processor and the operating system allow. One question per line of isa.def, asked of the
 * machine each time; 0 or 1. */
#ifndef TRNN_CPU_H
#define TRNN_CPU_H

#define TRNN_ISA(name, flags) int trnn_cpu_has_##name(void);
#include "isa.def"
#undef TRNN_ISA

#endif
