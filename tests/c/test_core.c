/* The C core, tested as a C program would use it.
 *
 *     test_core                  on every instruction set that this machine runs
 *     test_core --isa NAME       on one
 *     test_core --golden         only the comparison with golden.inc
 *     test_core --record         prints golden.inc anew, computed by scalar_fma, or by that of --isa
 */
#include "check.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *isa = "scalar_fma";
    int golden = 0, record = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--record") == 0) {
            record = 1;
        } else if (strcmp(argv[i], "--golden") == 0) {
            golden = 1;
        } else if (strcmp(argv[i], "--isa") != 0 || i + 1 == argc) {
            printf("usage: %s [--isa NAME] [--golden] [--record]\n", argv[0]);
            return 1;
        } else if (!isa_only(isa = argv[++i])) {
            printf("no instruction set %s here\n", argv[i]);
            return 1;
        }
    }
    if (record) return record_golden(isa);
    test_golden();
    if (!golden) {
        test_bits();
        test_kernels();
        test_calls();
        test_loss();
        test_optim();
        test_train();
        test_graph();
        test_gates();
        test_time();
        test_attention();
        test_rates();
    }
    return check_result();
}
