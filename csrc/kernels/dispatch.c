/* Which tables this build holds and this machine can run. */
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

const trnn_kernels *trnn_isa_get(int32_t i)
{
    for (int32_t built = 0; built < ISAS; built++)
        if (isas[built].runs() && i-- == 0) return isas[built].kernels;
    return NULL;
}

const trnn_kernels *trnn_isa_find(const char *name)
{
    const trnn_kernels *isa;
    for (int32_t i = 0; (isa = trnn_isa_get(i)) != NULL; i++) {
        const char *a = isa->name, *b = name;
        while (*a && *a == *b) a++, b++;
        if (*a == *b) return isa;
    }
    return NULL;
}

const trnn_kernels *trnn_isa_best(void)
{
    const trnn_kernels *best = NULL, *isa;
    for (int32_t i = 0; (isa = trnn_isa_get(i)) != NULL; i++) best = isa;
    return best;
}

const char *trnn_isa_name(const trnn_kernels *isa)
{
    return isa->name;
}

int trnn_isa_fused(const trnn_kernels *isa)
{
    return isa->fused;
}
