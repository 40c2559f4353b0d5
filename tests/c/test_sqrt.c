/* The square root without an instruction (simd/vec_scalar.h, TRNN_SOFT_SQRT) gives the bits of sqrtf. */
#include "../../csrc/simd/vec.h"

#include <math.h>
#include <stdio.h>

static int passed, failed;

static void compare(uint32_t u)
{
    vf_bits x, root, wanted;
    x.u = u;
    root.f = vf_sqrt(x.f);
    wanted.f = sqrtf(x.f);
    if (root.u == wanted.u || (isnan(root.f) && isnan(wanted.f))) {
        passed++;
    } else if (failed++ < 20) {
        printf("FAILED sqrt(%a) = %a, wanted %a\n", (double)x.f, (double)root.f, (double)wanted.f);
    }
}

int main(void)
{
    uint32_t roll = 1;
    for (uint32_t exponent = 0; exponent < 512; exponent++) { /* the sign on top */
        for (uint32_t i = 0; i < 64; i++) {
            compare(exponent << 23 | i);
            compare(exponent << 23 | (0x7fffffu - i));
            compare(exponent << 23 | 1u << i % 23);
        }
        for (int i = 0; i < 500; i++) {
            roll = roll * 1664525u + 1013904223u;
            compare(exponent << 23 | roll >> 9);
        }
    }
    for (uint32_t i = 1; i < 4096; i++) { /* squares, and their neighbours, where rounding turns */
        vf_bits square;
        square.f = (float)i * (float)i;
        compare(square.u);
        compare(square.u - 1);
        compare(square.u + 1);
    }
    printf("%-42s %7d passed %4d failed\n", "square root in software", passed, failed);
    return failed > 0;
}
