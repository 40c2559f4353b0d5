/* Axes of other rates: windows of windows of steps against plain loops, whole, in blocks, in calls in which each row has
 * steps of its own, and as parts of a batch; with all bits the same. What cannot be. Gradients are Python's to test
 * (tests/nets/test_rates.py). */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, MOST = 23, LEVELS = 3, CHANNELS = 2, NETS = 60 };

static int32_t roll(dice *d, int32_t sides) { return (int32_t)((dice_roll(d) >> 8) % (uint32_t)sides); }

/* A net of unfold_steps and flatten in turn; its outputs are the last value and the mean of it over time. */
typedef struct {
    trnn_layer layers[2 * LEVELS + 1];
    int32_t levels;
    int32_t out; /* numbers of a frame */
    trnn_reads reads[2 * LEVELS + 1];
} windows;

static windows draw(dice *d)
{
    windows w;
    memset(&w, 0, sizeof w);
    w.levels = 1 + roll(d, LEVELS);
    w.out = CHANNELS;
    for (int32_t i = 0; i < w.levels; i++) {
        const int32_t taps = 1 + roll(d, 3), dilation = 1 + roll(d, 2), reach = (taps - 1) * dilation;
        w.layers[2 * i] = (trnn_layer){TRNN_TRAINED(unfold_steps),
                                       .as.unfold = {1, w.out, taps, 1 + roll(d, 3), dilation,
                                                     roll(d, reach + 1), roll(d, reach + 1), 0}};
        w.layers[2 * i + 1] = (trnn_layer)PLAIN(flatten);
        w.out *= taps;
    }
    w.layers[2 * w.levels] = (trnn_layer){TRNN_TRAINED(mean_steps), .as.frame = {1, 1, w.out}};
    for (int32_t i = 0; i < 2 * w.levels + 1; i++) w.reads[i] = (trnn_reads){1, {i}};
    return w;
}

static trnn_net net_of(const windows *w)
{
    return (trnn_net){.layers = w->layers,
                      .count = 2 * w->levels + 1,
                      .reads = w->reads,
                      .inputs = 1,
                      .outputs = 2,
                      .input = {{{1, 1, CHANNELS}, 1}},
                      .output = {2 * w->levels, 2 * w->levels + 1}};
}

/* One row's frames by plain loops: `*steps` becomes their number; `ends` as in trnn_job. */
static float *frames_of(const windows *w, const float *x, int32_t *steps, int ends)
{
    int32_t numbers = CHANNELS, count = *steps;
    float *values = malloc(((size_t)count + 1) * CHANNELS * sizeof(float));
    memcpy(values, x, (size_t)count * CHANNELS * sizeof(float));
    for (int32_t level = 0; level < w->levels; level++) {
        const trnn_unfold_args *a = &w->layers[2 * level].as.unfold;
        const int32_t reach = (a->kernel_size - 1) * a->dilation;
        const int32_t room = count + a->pad_left + (ends ? a->pad_right : 0) - reach;
        const int32_t due = room > 0 ? (room - 1) / a->stride + 1 : 0; /* as torch.nn.Conv1d counts them */
        float *next = malloc(((size_t)due + 1) * (size_t)(numbers * a->kernel_size) * sizeof(float)),
              *to = next;
        for (int32_t n = 0; n < due; n++)
            for (int32_t i = 0; i < numbers; i++)
                for (int32_t tap = 0; tap < a->kernel_size; tap++) {
                    const int32_t at = n * a->stride - a->pad_left + tap * a->dilation;
                    *to++ = at >= 0 && at < count ? values[at * numbers + i] : 0.0f;
                }
        free(values);
        values = next;
        numbers *= a->kernel_size;
        count = due;
    }
    *steps = count;
    return values;
}

/* A net laid out for blocks of `block` steps, with what a stream of it has given so far. */
typedef struct {
    const windows *w;
    memory plan, state, scratch, y, mean;
    trnn_sizes sizes;
    int32_t got[ROWS];
    float *all[ROWS];
} stream;

static stream open_stream(const windows *w, int32_t block)
{
    const trnn_net net = net_of(w);
    stream me;
    memset(&me, 0, sizeof me);
    me.w = w;
    me.plan = memory_take(trnn_plan_bytes(&net));
    check(trnn_plan_init(me.plan.at, &net, ROWS, &block, &me.sizes) == TRNN_OK, "a net of windows");
    me.state = memory_take(me.sizes.state_bytes);
    me.scratch = memory_take(me.sizes.scratch_bytes);
    me.mean = memory_floats((size_t)(ROWS * w->out));
    memset(me.state.at, 0, me.state.bytes);
    for (int32_t b = 0; b < ROWS; b++) me.all[b] = malloc((size_t)(2 * MOST * w->out) * sizeof(float));
    return me;
}

static void close_stream(stream *me)
{
    memory_release(&me->plan);
    memory_release(&me->state);
    memory_release(&me->scratch);
    memory_release(&me->mean);
    for (int32_t b = 0; b < ROWS; b++) free(me->all[b]);
}

/* Runs some steps; row b gets lengths[b] of them. */
static trnn_status run(stream *me, const float *x, int32_t steps, const int32_t *lengths, int ends)
{
    static const void *const weights[2 * LEVELS + 1] = {NULL};
    const trnn_plan *plan = (const trnn_plan *)(void *)me->plan.at;
    trnn_job job = {.isa = isa_get(0),
                    .weights = weights,
                    .state = me->state.at,
                    .scratch = me->scratch.at,
                    .x = {x},
                    .steps = {steps},
                    .lengths = {lengths},
                    .ends = ends};
    int32_t due[ROWS], most = trnn_plan_steps(plan, &job, 0, due);
    const size_t frame = (size_t)me->w->out;
    memory y = memory_floats((size_t)most * ROWS * frame);
    job.y[0] = y.at;
    job.y[1] = me->mean.at;
    memset(me->scratch.at, 0x5a, me->scratch.bytes);
    const trnn_status status = trnn_run(plan, &job);
    for (int32_t b = 0; status == TRNN_OK && b < ROWS; b++)
        for (int32_t n = 0; n < due[b]; n++)
            memcpy(me->all[b] + (size_t)me->got[b]++ * frame, y.at + (size_t)(n * ROWS + b) * frame,
                   frame * sizeof(float));
    memory_release(&y);
    return status;
}

static void check_row(const stream *me, const float *x, int32_t b, int32_t steps, int ends, const char *way)
{
    float *row = malloc((size_t)steps * CHANNELS * sizeof(float) + 1);
    for (int32_t t = 0; t < steps; t++)
        memcpy(row + t * CHANNELS, x + (t * ROWS + b) * CHANNELS, CHANNELS * sizeof(float));
    int32_t count = steps;
    float *right = frames_of(me->w, row, &count, ends);
    check(count == me->got[b], "%s: row %d of %d steps has %d frames, not %d", way, (int)b, (int)steps,
          (int)me->got[b], (int)count);
    if (count == me->got[b])
        check(same_bits(me->all[b], right, (size_t)(count * me->w->out)), "%s: row %d of %d steps", way,
              (int)b, (int)steps);
    free(right);
    free(row);
}

/* Whole sequences, in blocks. A sequence that is too short for a frame is refused. */
static void test_whole(const windows *w, const float *x, dice *d)
{
    for (int32_t block = 1; block <= MOST; block += 1 + roll(d, 6)) {
        const int32_t steps = 1 + roll(d, MOST);
        int32_t lengths[ROWS] = {steps, 1 + roll(d, steps), 1 + roll(d, steps)}, fits = 1;
        const int with = roll(d, 2), ends = roll(d, 2);
        for (int32_t level = 1; level <= w->levels; level++)
            for (int32_t b = 0; b < ROWS; b++) {
                windows some = *w;
                int32_t count = with ? lengths[b] : steps;
                some.levels = level;
                free(frames_of(&some, x, &count, ends));
                fits &= count > 0;
            }
        stream me = open_stream(w, block);
        const trnn_status status = run(&me, x, steps, with ? lengths : NULL, ends);
        check(status == (fits || !ends ? TRNN_OK : TRNN_E_SHORT), "%d steps: %s", (int)steps,
              trnn_status_text(status));
        for (int32_t b = 0; status == TRNN_OK && b < ROWS; b++)
            check_row(&me, x, b, with ? lengths[b] : steps, ends, "whole");
        close_stream(&me);
    }
}

/* A stream: in each call each row has some of its steps; the last call ends it. */
static void test_calls_of(const windows *w, const float *x, dice *d)
{
    stream me = open_stream(w, 1 + roll(d, 5));
    int32_t at[ROWS] = {0};
    float part[MOST * ROWS * CHANNELS];
    while (at[0] < MOST && at[1] < MOST && at[2] < MOST) {
        int32_t lengths[ROWS], steps = 0;
        for (int32_t b = 0; b < ROWS; b++) {
            lengths[b] = 1 + roll(d, MOST - at[b]) % 4;
            if (lengths[b] > steps) steps = lengths[b];
        }
        memset(part, 0x5a, sizeof part);
        for (int32_t b = 0; b < ROWS; b++)
            for (int32_t t = 0; t < lengths[b]; t++)
                memcpy(part + (t * ROWS + b) * CHANNELS, x + ((at[b] + t) * ROWS + b) * CHANNELS,
                       CHANNELS * sizeof(float));
        check(run(&me, part, steps, lengths, 0) == TRNN_OK, "a call of a stream");
        for (int32_t b = 0; b < ROWS; b++) at[b] += lengths[b];
    }
    for (int32_t b = 0; b < ROWS; b++) check_row(&me, x, b, at[b], 0, "calls");
    close_stream(&me);
}

/* The count of steps goes on for ever, and a state that a caller has spoilt does no harm. */
static void test_counts(void)
{
    windows w;
    memset(&w, 0, sizeof w);
    w.levels = 1;
    w.out = 3 * CHANNELS;
    w.layers[0] = (trnn_layer){TRNN_TRAINED(unfold_steps), .as.unfold = {1, CHANNELS, 3, 4, 1, 1, 1, 0}};
    w.layers[1] = (trnn_layer)PLAIN(flatten);
    w.layers[2] = (trnn_layer){TRNN_TRAINED(mean_steps), .as.frame = {1, 1, w.out}};
    for (int32_t i = 0; i < 3; i++) w.reads[i] = (trnn_reads){1, {i}};
    static const float spoilt[] = {-1.0f, 1e30f, -1e30f, 16777216.0f, 0.5f};
    float x[7 * ROWS * CHANNELS] = {0};
    stream me = open_stream(&w, 7);
    for (int32_t i = 0; i < 30; i++) {
        me.got[0] = me.got[1] = me.got[2] = 0;
        run(&me, x, 7, NULL, 0);
        const int32_t right = (7 * (i + 1) + 2) / 4 - (7 * i + 2) / 4;
        check(me.got[0] == right, "frames of call %d: %d, not %d", (int)i, (int)me.got[0], (int)right);
    }
    for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        me.got[0] = me.got[1] = me.got[2] = 0;
        me.state.at[0] = spoilt[i];
        check(run(&me, x, 7, NULL, 0) == TRNN_OK && me.got[0] <= 2, "a spoilt state");
    }
    close_stream(&me);
}

/* Values of two rates cannot be added, a loop has one rate, and a value per sequence has none. */
static void test_refusals(void)
{
    const trnn_layer unfold = {TRNN_TRAINED(unfold_steps), .as.unfold = {1, 1, 2, 2, 1, 0, 0, 0}};
    const trnn_layer same = {TRNN_TRAINED(unfold_steps), .as.unfold = {1, 1, 2, 2, 1, 0, 0, 0}};
    const trnn_layer other = {TRNN_TRAINED(unfold_steps), .as.unfold = {1, 1, 2, 1, 1, 1, 0, 0}};
    const trnn_layer add = PLAIN(add), delay = {TRNN_TRAINED(delay), .as.delay = {1, 1, 1, 1}};
    const trnn_layer flatten = PLAIN(flatten), linear = LINEAR(2, 1, 1);
    const struct {
        const char *what;
        trnn_layer layers[6];
        trnn_reads reads[6];
        int32_t count, axis;
        trnn_status status;
    } cases[] = {
        {"two equal rates", {unfold, same, add}, {{1, {0}}, {1, {0}}, {2, {1, 2}}}, 3, 1, TRNN_OK},
        {"two rates", {unfold, other, add}, {{1, {0}}, {1, {0}}, {2, {1, 2}}}, 3, 1, TRNN_E_TIME},
        {"a value per sequence", {unfold}, {{1, {0}}}, 1, 0, TRNN_E_TIME},
        {"a loop over two rates",
         {delay, add, unfold, flatten, linear},
         {{1, {5}}, {2, {0, 1}}, {1, {2}}, {1, {3}}, {1, {4}}},
         5,
         1,
         TRNN_E_TIME},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const trnn_net net = {.layers = cases[c].layers,
                              .count = cases[c].count,
                              .reads = cases[c].reads,
                              .inputs = 1,
                              .outputs = 1,
                              .input = {{{1, 1, 1}, cases[c].axis}},
                              .output = {cases[c].count}};
        const int32_t steps = 4;
        memory plan = memory_take(trnn_plan_bytes(&net));
        trnn_sizes sizes;
        const trnn_status status = trnn_plan_init(plan.at, &net, 2, &steps, &sizes);
        check(status == cases[c].status, "%s: %s", cases[c].what, trnn_status_text(status));
        memory_release(&plan);
    }
}

void test_rates(void)
{
    check_group("rates");
    test_refusals();
    test_counts();
    dice d = dice_named("rates");
    float x[MOST * ROWS * CHANNELS];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = dice_float(&d, 1);
    for (int32_t i = 0; i < NETS; i++) {
        const windows w = draw(&d);
        test_whole(&w, x, &d);
        test_calls_of(&w, x, &d);
    }
}
