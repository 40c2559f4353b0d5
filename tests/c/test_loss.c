/* Losses: every kind under every way a job can lie, in memory of exactly the size that was asked for; the
 * same bits on every fused instruction set, and the ones recorded here; bad jobs write nothing. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEPS  7
#define BATCH  3
#define ROWS   2
#define COLS   19
#define LABELS 3

static const int32_t ends[BATCH] = {7, 1, 5}, labels[BATCH] = {3, 0, 2};
static const float weights_of[COLS] = {0.5f, 1.0f, 2.0f, 0.25f, 3.0f, 1.0f, 1.5f, 0.75f, 1.0f, 4.0f,
                                       1.0f, 1.0f, 0.5f, 2.0f,  1.0f, 8.0f, 1.0f, 0.5f,  1.25f};

static const trnn_loss losses[] = {
    {.type = &trnn_loss_mse},
    {.type = &trnn_loss_l1, .reduction = TRNN_SUM},
    {.type = &trnn_loss_huber, .delta = 0.75f},
    {.type = &trnn_loss_bce_with_logits, .classes = 1},
    {.type = &trnn_loss_bce_with_logits, .classes = COLS, .weight = weights_of, .pos_weight = weights_of},
    {.type = &trnn_loss_cross_entropy, .ignore_index = 4},
    {.type = &trnn_loss_cross_entropy, .classes = COLS, .weight = weights_of, .label_smoothing = 0.125f},
    {.type = &trnn_loss_ctc, .blank = 18},
    {.type = &trnn_loss_ctc, .reduction = TRNN_SUM, .zero_infinity = 1},
};
#define LOSSES ((int)(sizeof losses / sizeof losses[0]))

/* A job and all its memory. */
typedef struct {
    trnn_loss_job job;
    memory y, target, dy, values, scratch;
    size_t numbers, targets, singles;
} desk;

/* The i-th way that frames can lie and count: lengths, last steps, the order of axes, distributions. */
static desk desk_open(const trnn_loss *loss, int way)
{
    desk k;
    dice d = dice_named(trnn_loss_name(loss->type));
    const int ctc = loss->type == &trnn_loss_ctc, classes = loss->type == &trnn_loss_cross_entropy;
    memset(&k, 0, sizeof k);
    k.job.rows = ctc ? 1 : ROWS;
    k.job.cols = COLS;
    k.job.steps = STEPS;
    k.job.batch = BATCH;
    k.job.lengths = way & 1 ? ends : NULL;
    k.job.last = !ctc && (way & 2) != 0;
    k.job.y_rows_first = (way & 4) != 0;
    k.job.target_rows_first = (way & 8) != 0;
    k.job.probabilities = classes && (way & 16) != 0;
    k.job.target_steps = LABELS;
    k.job.target_lengths = labels;

    const size_t rows = (size_t)k.job.rows, frames = STEPS * BATCH;
    const int indices = ctc || (classes && !k.job.probabilities);
    k.numbers = frames * rows * COLS;
    k.targets = ctc ? BATCH * LABELS : (k.job.last ? BATCH : frames) * rows * (indices ? 1 : COLS);
    k.singles = ctc ? BATCH : classes ? frames * rows : k.numbers;
    k.y = memory_floats(k.numbers);
    k.target = memory_floats(k.targets);
    k.dy = memory_floats(k.numbers);
    k.values = memory_floats(k.singles);
    k.scratch = memory_take(trnn_loss_scratch_bytes(loss, STEPS, BATCH, rows * COLS, LABELS));
    for (size_t i = 0; i < k.numbers; i++) {
        const float number = dice_float(&d, 2);
        k.y.at[i] = ctc ? -fabsf(number) : number;
    }
    for (size_t i = 0; i < k.targets; i++) {
        const int32_t index = 1 + (int32_t)(dice_roll(&d) % 17); /* neither of the two blanks */
        const float number = fabsf(dice_float(&d, 0));
        memcpy(k.target.at + i, indices ? (const void *)&index : (const void *)&number, sizeof(float));
    }
    k.job.y = k.y.at;
    k.job.target = k.target.at;
    k.job.dy = k.dy.at;
    k.job.values = k.values.at;
    k.job.scratch = k.scratch.at;
    return k;
}

static void desk_close(desk *k)
{
    memory_release(&k->y);
    memory_release(&k->target);
    memory_release(&k->dy);
    memory_release(&k->values);
    memory_release(&k->scratch);
}

static void fill_dirty(desk *k)
{
    memset(k->dy.at, 0xff, k->dy.bytes);
    memset(k->values.at, 0xff, k->values.bytes);
    memset(k->scratch.at, 0xff, k->scratch.bytes);
}

/* How many floats are as fill_dirty left them. */
static size_t count_dirty(const float *numbers, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, numbers + i, sizeof bits);
        left += bits == 0xffffffffu;
    }
    return left;
}

/* One loss, in every way: a fingerprint of all values and gradients. */
static uint64_t loss_print(const trnn_loss *loss, const trnn_kernels *isa)
{
    uint64_t print = 0;
    for (int way = 0; way < 32; way++) {
        desk k = desk_open(loss, way);
        double value = -1.0, again = -1.0;
        k.job.isa = isa;
        fill_dirty(&k);
        const trnn_status status = trnn_loss_run(loss, &k.job, &value);
        const char *name = trnn_loss_name(loss->type);
        check(status == TRNN_OK, "%s, way %d: %s", name, way, trnn_status_text(status));
        check(value > 0.0 && value < 1e4, "%s, way %d: value %g", name, way, value);
        check(count_dirty(k.dy.at, k.numbers) == 0, "%s, way %d: dy is not written", name, way);
        check(count_dirty(k.values.at, k.singles) == 0, "%s, way %d: values are not written", name, way);
        const float single = (float)value;
        print = print * 31 + fingerprint(&single, 1);
        print = print * 31 + fingerprint(k.dy.at, k.numbers);
        print = print * 31 + fingerprint(k.values.at, k.singles);

        k.job.dy = k.job.values = NULL; /* nobody has to want them */
        fill_dirty(&k);
        trnn_loss_run(loss, &k.job, &again);
        check(memcmp(&again, &value, sizeof value) == 0, "%s, way %d: another value alone", name, way);
        desk_close(&k);
    }
    return print;
}

/* What every fused instruction set gives. Recorded on x86-64. */
static const uint64_t recorded[LOSSES] = {
    0xc005f6d24fc131a4ull, 0x4def712959f2fa78ull, 0x3d78e1d378748cacull,
    0x18fa2ae93a211b72ull, 0x850ed381894e0ce4ull, 0x83e65d57260f56ceull,
    0x4c844063edd7b1d1ull, 0xe3e968ad32022628ull, 0xd200debc97ffabf0ull,
};

static void losses_in_every_way(void)
{
    const trnn_kernels *isa;
    for (int32_t i = 0; (isa = isa_get(i)) != NULL; i++)
        for (int l = 0; l < LOSSES; l++) {
            const uint64_t print = loss_print(&losses[l], isa);
            if (trnn_isa_fused(isa))
                check(print == recorded[l], "%s on %s: 0x%08lx%08lx", trnn_loss_name(losses[l].type),
                      trnn_isa_name(isa), (unsigned long)(print >> 32), (unsigned long)(print & 0xffffffffu));
        }
}

/* A step that a mask leaves out is not read, and a mask of the first steps of each row is its lengths. */
static void losses_with_masks(void)
{
    uint8_t mask[STEPS * BATCH];
    for (int l = 0; l < LOSSES - 2; l++) /* all but ctc */
        for (int way = 0; way < 32; way++) {
            double want = -1.0, value = -2.0;
            desk k = desk_open(&losses[l], way | 1), m = desk_open(&losses[l], way & ~1);
            const int rows_first = k.job.target_rows_first, y_rows_first = k.job.y_rows_first;
            const size_t frame = ROWS * COLS, targets = m.targets / (m.job.last ? BATCH : STEPS * BATCH);
            k.job.isa = m.job.isa = trnn_isa_best();
            for (int t = 0; t < STEPS; t++)
                for (int b = 0; b < BATCH; b++) {
                    const int at = rows_first ? b * STEPS + t : t * BATCH + b;
                    const int y_at = y_rows_first ? b * STEPS + t : t * BATCH + b;
                    mask[at] = t < ends[b] ? (uint8_t)(1 + t) : 0;
                    if (mask[at]) continue;
                    memset(m.y.at + frame * (size_t)y_at, 0xff, frame * sizeof(float));
                    if (!m.job.last)
                        memset(m.target.at + targets * (size_t)at, 0xff, targets * sizeof(float));
                }
            m.job.mask = mask;
            fill_dirty(&k);
            fill_dirty(&m);
            check(trnn_loss_run(&losses[l], &k.job, &want) == TRNN_OK, "loss %d, way %d: lengths", l, way);
            check(trnn_loss_run(&losses[l], &m.job, &value) == TRNN_OK, "loss %d, way %d: mask", l, way);
            check(memcmp(&value, &want, sizeof value) == 0, "loss %d, way %d: the value", l, way);
            check(memcmp(m.dy.at, k.dy.at, k.numbers * sizeof(float)) == 0, "loss %d, way %d: dy", l, way);
            check(memcmp(m.values.at, k.values.at, k.singles * sizeof(float)) == 0, "loss %d, way %d: values",
                  l, way);
            m.job.lengths = ends; /* both say the same */
            trnn_loss_run(&losses[l], &m.job, &value);
            check(memcmp(&value, &want, sizeof value) == 0, "loss %d, way %d: mask and lengths", l, way);
            memset(mask, 0, sizeof mask);
            trnn_loss_run(&losses[l], &m.job, &value);
            check(losses[l].reduction == TRNN_SUM ? value == 0.0 : isnan(value), "loss %d: a mean of nothing",
                  l);
            for (size_t i = 0; i < m.numbers; i++) check(m.dy.at[i] == 0.0f, "loss %d: dy of nothing", l);
            desk_close(&k);
            desk_close(&m);
        }
}

/* Arguments that no loss may have. */
static void bad_losses(void)
{
    const trnn_loss bad[] = {
        {.type = NULL},
        {.reduction = (trnn_reduction)2},
        {.type = &trnn_loss_huber, .delta = 0.0f},
        {.type = &trnn_loss_huber, .delta = -1.0f},
        {.type = &trnn_loss_huber, .delta = NAN},
        {.type = &trnn_loss_huber, .delta = INFINITY},
        {.type = &trnn_loss_cross_entropy, .label_smoothing = -0.1f},
        {.type = &trnn_loss_cross_entropy, .label_smoothing = 1.1f},
        {.type = &trnn_loss_cross_entropy, .label_smoothing = NAN},
        {.type = &trnn_loss_ctc, .blank = -1},
        {.type = &trnn_loss_ctc, .zero_infinity = 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check(trnn_loss_check(&bad[i]) == TRNN_E_LOSS, "bad loss %lu passes", (unsigned long)i);
    for (int l = 0; l < LOSSES; l++)
        check(trnn_loss_check(&losses[l]) == TRNN_OK, "loss %d does not pass", l);
    check(trnn_loss_scratch_bytes(&losses[7], INT32_MAX, 1, COLS, INT32_MAX) == SIZE_MAX, "an absurd size");
}

/* Runs a job that has to fail. */
static void expect(const trnn_loss *loss, desk *k, trnn_status wanted, const char *what)
{
    double value = -1.0;
    fill_dirty(k);
    k->job.isa = trnn_isa_best();
    const trnn_status status = trnn_loss_run(loss, &k->job, &value);
    check(status == wanted, "%s: %s", what, trnn_status_text(status));
    check(value == -1.0, "%s: the value is written", what);
    check(count_dirty(k->dy.at, k->numbers) == k->numbers, "%s: dy is written", what);
    check(count_dirty(k->values.at, k->singles) == k->singles, "%s: values are written", what);
}

/* Changes one field of a good job, expects an error, and opens a good one again. */
#define EXPECT(loss, way, wanted, ...)                   \
    do {                                                 \
        desk k = desk_open(&losses[loss], way);          \
        int32_t *const target = (int32_t *)k.target.at;  \
        (void)target;                                    \
        __VA_ARGS__;                                     \
        expect(&losses[loss], &k, wanted, #__VA_ARGS__); \
        desk_close(&k);                                  \
    } while (0)

static void bad_jobs(void)
{
    static const int32_t none[BATCH] = {7, 0, 5}, beyond[BATCH] = {7, 8, 5}, less[BATCH] = {3, -1, 2},
                         more[BATCH] = {3, 0, 4};
    for (int l = 0; l < LOSSES; l++) {
        EXPECT(l, 0, TRNN_E_LOSS_SHAPE, k.job.steps = 0);
        EXPECT(l, 0, TRNN_E_LOSS_SHAPE, k.job.batch = -1);
        EXPECT(l, 0, TRNN_E_LOSS_SHAPE, k.job.rows = 0);
        EXPECT(l, 0, TRNN_E_LOSS_SHAPE, k.job.cols = INT32_MIN);
        EXPECT(l, 0, TRNN_E_SIZE, k.job.steps = k.job.batch = k.job.cols = 1 << 28);
        EXPECT(l, 0, TRNN_E_LENGTHS, k.job.lengths = none);
        EXPECT(l, 0, TRNN_E_LENGTHS, k.job.lengths = beyond);
        EXPECT(l, 0, TRNN_E_LOSS, k.job.last = 2);
        EXPECT(l, 0, TRNN_E_LOSS, k.job.y_rows_first = -1);
        EXPECT(l, 0, TRNN_E_LOSS, k.job.target_rows_first = 2);
    }
    EXPECT(0, 0, TRNN_E_LOSS, k.job.probabilities = 1);
    EXPECT(4, 0, TRNN_E_LOSS_SHAPE, k.job.cols = COLS - 1);
    EXPECT(6, 0, TRNN_E_LOSS_SHAPE, k.job.cols = COLS - 1);
    EXPECT(5, 0, TRNN_E_TARGET, target[k.targets - 1] = COLS);
    EXPECT(5, 3, TRNN_E_TARGET, target[1] = -1);
    EXPECT(5, 1, TRNN_E_TARGET, target[0] = INT32_MIN);
    EXPECT(7, 0, TRNN_E_TARGET, target[2] = 18);
    EXPECT(8, 0, TRNN_E_TARGET, target[2 * LABELS + 1] = 0);
    EXPECT(7, 0, TRNN_E_TARGET, target[0] = COLS);
    EXPECT(7, 0, TRNN_E_LOSS_SHAPE, k.job.last = 1);
    EXPECT(7, 0, TRNN_E_LOSS_SHAPE, k.job.rows = 2);
    EXPECT(7, 0, TRNN_E_LOSS_SHAPE, k.job.cols = 18); /* the blank is class 18 */
    EXPECT(7, 0, TRNN_E_LOSS_SHAPE, k.job.target_steps = -1);
    EXPECT(7, 0, TRNN_E_TARGET_LENGTHS, k.job.target_lengths = less);
    EXPECT(7, 0, TRNN_E_TARGET_LENGTHS, k.job.target_lengths = more);
    EXPECT(7, 0, TRNN_E_MASK, k.job.mask = (const uint8_t *)k.y.at);
}

void test_loss(void)
{
    check_group("losses in every way");
    losses_in_every_way();
    check_group("losses with masks");
    losses_with_masks();
    check_group("losses that cannot be");
    bad_losses();
    bad_jobs();
    check_group(NULL);
}
