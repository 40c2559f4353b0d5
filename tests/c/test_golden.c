/* The same numbers on every machine: golden.inc holds a checksum of what each model gives, and some of it.
 *
 * With a fused multiply-add every bit agrees. Without one, numbers agree within UNFUSED_BOUND,
 * or within UNFUSED_BOUND of their size where that is above 1: with the golden ones, and with all of
 * scalar_fma's where the machine has that too. (Where a layer rounds what it reads to codes, a number on the
 * edge between two could fall on the other side and move what follows by more; of these none does.)
 * `make record` writes the table.
 */
#include "check.h"
#include "../../csrc/kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 12, BATCH = 3, LONG = 1000, SHOWN = 4, SWEEP = 1 << 14 };

#define UNFUSED_BOUND 2e-6

static const struct {
    const char *name;
    uint64_t checksum;
    float shown[SHOWN];
} table[] = {
#define GOLDEN(name, checksum, ...) {name, checksum, {__VA_ARGS__}},
#include "golden.inc"
#undef GOLDEN
    {NULL, 0, {0.0f}},
};

/* The place of shown number k among `count`. */
static size_t shown_at(int k, size_t count) { return (size_t)k * (count - 1) / (SHOWN - 1); }

/* y and state after `steps` steps from a state of zeros. */
static memory run_model(const model *m, const trnn_kernels *isa, int32_t batch, int32_t steps)
{
    weights w = weights_roll(m);
    net n = net_open(m, &w, batch, steps < 16 ? steps : 16);
    memory x = net_input(&n, m->name, (size_t)steps * (size_t)batch);
    const size_t written = (size_t)steps * (size_t)batch * n.out;
    memory all = memory_floats(written + (size_t)batch * n.row_state);
    net_run(&n, isa, x.at, all.at, steps, NULL);
    for (int32_t b = 0; b < batch; b++) net_get_row(&n, b, all.at + written + (size_t)b * n.row_state);
    memory_release(&x);
    net_close(&n);
    weights_release(&w);
    return all;
}

/* exp, sigmoid or tanh of floats of every sign and exponent, subnormal ones and infinities too, but for NaN. */
static memory run_map(int32_t map, const trnn_kernels *isa)
{
    dice d = dice_named("sweep");
    memory all = memory_floats(SWEEP);
    for (uint32_t i = 0; i < SWEEP; i++) {
        const uint32_t bits = i << 18 | (i % 64 ? dice_roll(&d) >> 14 : 0);
        const float zero = 0.0f;
        memcpy(all.at + i, (bits & 0x7fffffffu) > 0x7f800000u ? (const void *)&zero : (const void *)&bits, 4);
    }
    if (map == 0) TRNN_KERNEL(isa, map_exp)(all.at, all.at, SWEEP, NULL);
    if (map == 1) TRNN_KERNEL(isa, map_sigmoid)(all.at, all.at, SWEEP, NULL);
    if (map == 2) TRNN_KERNEL(isa, map_tanh)(all.at, all.at, SWEEP, NULL);
    return all;
}

/* The i-th thing that has a line in the table: every model, long runs, maps, every trained model's pass,
 * steps of an optimiser; 0 past the last. */
static int golden_run(int32_t i, const trnn_kernels *isa, char name[NAME_ROOM], memory *all)
{
    static const struct {
        const trnn_layer_type *kind;
        trnn_format format;
        const char *name;
    } longs[] = {{&trnn_lstm, TRNN_F32, "lstm 64x128, 1000 steps"},
                 {&trnn_gru, TRNN_F32, "gru 64x128, 1000 steps"},
                 {&trnn_lstm, TRNN_INT8, "int8 lstm 64x128, 1000 steps"},
                 {&trnn_gru, TRNN_INT4, "int4 gru 64x128, 1000 steps"}};
    static const char *const maps[] = {"map exp", "map sigmoid", "map tanh"};
    enum { LONGS = sizeof longs / sizeof longs[0], MAPS = sizeof maps / sizeof maps[0] };

    model m;
    int32_t models = 0, passes = 0;
    while (model_get(models, &m)) models++;
    while (trained_get(passes, &m)) passes++;
    if (i > models + LONGS + MAPS + passes) return 0;
    if (i == models + LONGS + MAPS + passes) {
        strcpy(name, "train by adam");
        if (isa) *all = train_steps(isa);
    } else if (i >= models + LONGS + MAPS) {
        trained_get(i - models - LONGS - MAPS, &m);
        strcpy(name, m.name);
        if (isa) *all = train_pass(&m, isa);
    } else if (i >= models + LONGS) {
        strcpy(name, maps[i - models - LONGS]);
        if (isa) *all = run_map(i - models - LONGS, isa);
    } else if (i >= models) {
        strcpy(name, longs[i - models].name);
        memset(&m, 0, sizeof m);
        strcpy(m.name, name);
        m.frame.rows = 1;
        m.frame.cols = 64;
        m.count = 1;
        m.layers[0].type = longs[i - models].kind;
        m.layers[0].format = longs[i - models].format;
        m.layers[0].as.recurrent = (trnn_recurrent_args){64, 128, 0, 1, 0, 0};
        if (isa) *all = run_model(&m, isa, 1, LONG);
    } else {
        model_get(i, &m);
        strcpy(name, m.name);
        if (isa) *all = run_model(&m, isa, BATCH, STEPS);
    }
    return 1;
}

int record_golden(const char *isa)
{
    const trnn_kernels *yardstick = trnn_isa_find(isa);
    if (!yardstick) {
        fprintf(stderr, "%s does not run here\n", isa);
        return 1;
    }
    printf("/* Written by `make record`: name, checksum of all numbers, and %d of them. */\n", SHOWN);
    char name[NAME_ROOM];
    memory all;
    for (int32_t i = 0; golden_run(i, yardstick, name, &all); i++) {
        const size_t count = all.bytes / sizeof(float);
        printf("GOLDEN(\"%s\", 0x%08lx%08lxu", name, (unsigned long)(fingerprint(all.at, count) >> 32),
               (unsigned long)(fingerprint(all.at, count) & 0xffffffffu));
        for (int k = 0; k < SHOWN; k++) {
            const float number = all.at[shown_at(k, count)];
            printf(isinf(number) ? ", INFINITY" : ", %af", (double)number);
        }
        printf(")\n");
        memory_release(&all);
    }
    return 0;
}

/* How far a is from b, in units of the larger of 1 and |b|. */
static double distance(float a, float b)
{
    if (a == b) return 0.0;
    const double apart = fabs((double)a - (double)b) / fmax(1.0, fabs((double)b));
    return apart == apart ? apart : INFINITY;
}

static double farthest(const float *a, const float *b, size_t count)
{
    double most = 0.0;
    for (size_t i = 0; i < count; i++) most = fmax(most, distance(a[i], b[i]));
    return most;
}

void test_golden(void)
{
    const trnn_kernels *const yardstick = trnn_isa_find("scalar_fma"), *isa;
    double most = 0.0;
    char name[NAME_ROOM];
    int32_t cases = 0;
    int unfused = 0;
    for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) unfused |= !trnn_isa_fused(isa);
    check_group("golden numbers");
    for (; golden_run(cases, NULL, name, NULL); cases++) {
        int32_t line = 0;
        while (table[line].name && strcmp(table[line].name, name) != 0) line++;
        if (!check(table[line].name != NULL, "%s: not in golden.inc", name)) continue;
        memory wanted = {NULL, NULL, 0}, all;
        if (yardstick && unfused) golden_run(cases, yardstick, name, &wanted);
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) {
            golden_run(cases, isa, name, &all);
            const size_t count = all.bytes / sizeof(float);
            if (trnn_isa_fused(isa)) {
                check(fingerprint(all.at, count) == table[line].checksum, "%s on %s: the checksum", name,
                      trnn_isa_name(isa));
                for (int s = 0; s < SHOWN; s++)
                    check(all.at[shown_at(s, count)] == table[line].shown[s], "%s on %s: %.9g, golden %.9g",
                          name, trnn_isa_name(isa), (double)all.at[shown_at(s, count)],
                          (double)table[line].shown[s]);
            } else {
                double apart = wanted.block ? farthest(all.at, wanted.at, count) : 0.0;
                for (int s = 0; s < SHOWN; s++)
                    apart = fmax(apart, distance(all.at[shown_at(s, count)], table[line].shown[s]));
                check(apart <= UNFUSED_BOUND, "%s on %s: %.2g from the golden numbers", name,
                      trnn_isa_name(isa), apart);
                most = fmax(most, apart);
            }
            memory_release(&all);
        }
        if (wanted.block) memory_release(&wanted);
    }
    check(cases + 1 == (int32_t)(sizeof table / sizeof table[0]),
          "golden.inc has lines that nothing computes");
    if (unfused) printf("without a fused multiply-add: within %.2g of the golden numbers\n", most);
}
