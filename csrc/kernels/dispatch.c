/* The instruction sets that this build has and this machine can run. */
#include "../tinyrnn.h"
#include "cpu.h"
#include "kernels.h"

static const struct {
    const trnn_kernels *kernels;
    int (*runs)(void);
} isas[] = {
#define TRNN_ISA(name, flags) {&trnn_kernels__##name, trnn_cpu_has_##name},
#include "isa.def"
#undef TRNN_ISA
};

enum { ISAS = sizeof isas / sizeof isas[0] };

int32_t trnn_isa_list(const trnn_kernels **list, int32_t room)
{
    int32_t count = 0;
    for (int32_t i = 0; i < ISAS; i++) {
        if (!isas[i].runs()) continue;
        if (count < room) list[count] = isas[i].kernels;
        count++;
    }
    return count;
}

const trnn_kernels *trnn_isa_find(const char *name)
{
    for (int32_t i = 0; i < ISAS; i++)
        if (trnn_same_name(isas[i].kernels->name, name)) return isas[i].runs() ? isas[i].kernels : NULL;
    return NULL;
}

const trnn_kernels *trnn_isa_best(void)
{
    const trnn_kernels *list[ISAS];
    return list[trnn_isa_list(list, ISAS) - 1];
}

const char *trnn_isa_name(const trnn_kernels *isa) { return isa->name; }

int trnn_isa_fused(const trnn_kernels *isa) { return isa->fused; }
