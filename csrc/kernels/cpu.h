/* A function for each line of isa.def: do the processor and the operating system have this instruction set? Each call
 * asks them anew. 0 or 1. */
#ifndef TRNN_CPU_H
#define TRNN_CPU_H

#define TRNN_ISA(name, flags) int trnn_cpu_has_##name(void);
#include "isa.def"
#undef TRNN_ISA

#endif
