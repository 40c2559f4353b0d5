/* Compiled with the flags of the baseline, so that these functions run on every processor. */
#include "cpu.h"

int trnn_cpu_has_scalar(void) { return 1; }

#if defined(__x86_64__) || defined(_M_X64)

#include <cpuid.h>

enum { SSE_STATE = 0x2, AVX_STATE = 0x4, AVX512_STATE = 0xe0 };

/* The register states that the operating system saves; 0 if it does not say. */
static unsigned int saved_states(void)
{
    unsigned int a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static int saves(unsigned int states) { return (saved_states() & states) == states; }

int trnn_cpu_has_sse2(void) { return 1; /* part of x86-64 */ }

int trnn_cpu_has_scalar_fma(void)
{
    unsigned int a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_FMA) && saves(SSE_STATE | AVX_STATE);
}

int trnn_cpu_has_avx2(void)
{
    unsigned int a, b, c, d;
    if (!trnn_cpu_has_scalar_fma() || !__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

int trnn_cpu_has_avx512(void)
{
    const unsigned int wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    unsigned int a, b, c, d;
    return trnn_cpu_has_avx2() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & wanted) == wanted &&
           saves(SSE_STATE | AVX_STATE | AVX512_STATE);
}

int trnn_cpu_has_avx512vnni(void)
{
    unsigned int a, b, c, d;
    return trnn_cpu_has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_AVX512VNNI);
}

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
#endif

int trnn_cpu_has_scalar_fma(void) { return 1; /* part of aarch64 */ }

int trnn_cpu_has_neon(void) { return 1; /* part of aarch64 */ }

int trnn_cpu_has_neon_dot(void)
{
#if defined(__linux__)
    const unsigned long hwcap_asimddp = 1ul << 20; /* Linux, asm/hwcap.h */
    return (getauxval(AT_HWCAP) & hwcap_asimddp) != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
    return 1; /* without Linux to ask, the build's own word */
#else
    return 0;
#endif
}

#elif defined(__arm__) && defined(__linux__)

#include <sys/auxv.h>

int trnn_cpu_has_neon(void)
{
    const unsigned long hwcap_neon = 1ul << 12; /* Linux, asm/hwcap.h */
    return (getauxval(AT_HWCAP) & hwcap_neon) != 0;
}

#elif defined(__riscv_flen)

int trnn_cpu_has_scalar_fma(void) { return 1; /* part of the F extension */ }

#elif defined(__arm__)

int trnn_cpu_has_neon(void) { return 1; /* without an operating system to ask, the build's own word */ }

#endif
