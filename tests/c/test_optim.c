/* Optimisers: every formula on every instruction set, in any number of parts, and the norm before them. */
#include "check.h"
#include "../../csrc/kernels/kernels.h"

#include <math.h>
#include <string.h>

/* What goldens are of; each formula with all that it has, and without. */
static const struct {
    const char *name;
    trnn_rule rule;
    uint64_t golden; /* of weights and states after STEPS, on all fused sets of x86-64 and ARM */
} rules[] = {
    {"sgd", {.optimiser = &trnn_sgd, .lr = 0.1}, 0xb61cf0d982d24829u},
    {"sgd momentum",
     {.optimiser = &trnn_sgd,
      .lr = 0.1,
      .momentum = 0.9,
      .dampening = 0.25,
      .weight_decay = 0.01,
      .maximize = 1},
     0x84ba7bc7f7266f81u},
    {"sgd nesterov",
     {.optimiser = &trnn_sgd, .lr = 0.1, .momentum = 0.9, .nesterov = 1, .l1 = 0.01},
     0x4e67455538ee5604u},
    {"rmsprop", {.optimiser = &trnn_rmsprop, .lr = 0.01, .alpha = 0.99, .eps = 1e-8}, 0x6eb16575c6a3bac8u},
    {"rmsprop centered",
     {.optimiser = &trnn_rmsprop,
      .lr = 0.01,
      .alpha = 0.9,
      .eps = 0.0,
      .centered = 1,
      .momentum = 0.5,
      .l1 = 0.1},
     0x3bf0d67aa32dd185u},
    {"adagrad", {.optimiser = &trnn_adagrad, .lr = 0.1, .lr_decay = 0.1, .eps = 1e-10}, 0xe35ce83c1a0fa9bdu},
    {"adam",
     {.optimiser = &trnn_adam, .lr = 0.001, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
     0xa95964fb1808a769u},
    {"adam amsgrad",
     {.optimiser = &trnn_adam,
      .lr = 0.01,
      .beta1 = 0.9,
      .beta2 = 0.5,
      .eps = 1e-8,
      .amsgrad = 1,
      .weight_decay = 0.1},
     0x44ee25b0863c9cb1u},
    {"adamw",
     {.optimiser = &trnn_adam,
      .lr = 0.01,
      .beta1 = 0.5,
      .beta2 = 0.9,
      .decoupled = 1,
      .weight_decay = 0.1,
      .l1 = 0.1},
     0x6b34be119ea3016au},
};

enum { RULES = sizeof rules / sizeof rules[0], TENSORS = 5, STEPS = 20, PARTS = 3, CHUNKS_MAX = 16 };

static const size_t sizes[TENSORS] = {16, 1, 4096 * 2 + 48, 33, 256};

/* The last PADDING numbers of a tensor are as those that pad a panel: always zero. */
enum { PADDING = 5 };

typedef struct {
    trnn_tensor tensors[TENSORS];
    memory at[TENSORS][2 + TRNN_STATES_MAX];
} tuned;

static size_t live(size_t numbers) { return numbers > PADDING ? numbers - PADDING : numbers; }

static tuned tuned_open(const trnn_rule *rule)
{
    tuned t;
    dice d = dice_named("weights");
    for (int i = 0; i < TENSORS; i++) {
        for (int k = 0; k < 2 + TRNN_STATES_MAX; k++) {
            t.at[i][k] = memory_floats(sizes[i]);
            memset(t.at[i][k].at, 0, t.at[i][k].bytes);
        }
        for (size_t j = 0; j < live(sizes[i]); j++) t.at[i][0].at[j] = dice_float(&d, 0);
        t.tensors[i] = (trnn_tensor){.rule = rule,
                                     .weights = t.at[i][0].at,
                                     .gradients = t.at[i][1].at,
                                     .numbers = sizes[i],
                                     .steps = 0};
        for (int k = 0; k < TRNN_STATES_MAX; k++)
            t.tensors[i].state[k] = trnn_rule_uses(rule, k) ? t.at[i][2 + k].at : NULL;
    }
    return t;
}

static void tuned_close(tuned *t)
{
    for (int i = 0; i < TENSORS; i++)
        for (int k = 0; k < 2 + TRNN_STATES_MAX; k++) memory_release(&t->at[i][k]);
}

static void gradients_roll(tuned *t, dice *d)
{
    for (int i = 0; i < TENSORS; i++)
        for (size_t j = 0; j < live(sizes[i]); j++) t->at[i][1].at[j] = dice_float(d, (int)(j % 5) - 4);
}

/* STEPS steps in so many parts, the last ones first. */
static void steps_of(tuned *t, const trnn_kernels *isa, int32_t parts, double *norm)
{
    dice d = dice_named("gradients");
    double sums[CHUNKS_MAX];
    int32_t bad;
    check(trnn_tensors_chunks(t->tensors, TENSORS) <= CHUNKS_MAX, "more chunks than there is room for");
    for (int step = 0; step < STEPS; step++) {
        gradients_roll(t, &d);
        for (int32_t part = parts; part-- > 0;)
            trnn_tensors_measure(isa, t->tensors, TENSORS, sums, part, parts);
        *norm = trnn_tensors_norm(t->tensors, TENSORS, sums, &bad);
        check(bad < 0, "%s: a finite gradient is not", trnn_isa_name(isa));
        const float scale = step % 2 ? trnn_clip_scale(*norm, 20.0) : 1.0f;
        const float limit = step % 3 ? 0.7f : TRNN_NO_LIMIT;
        for (int32_t part = parts; part-- > 0;)
            trnn_tensors_update(isa, t->tensors, TENSORS, scale, limit, part, parts);
        trnn_tensors_count(t->tensors, TENSORS);
    }
}

static int same_tuned(const tuned *a, const tuned *b)
{
    int same = 1;
    for (int i = 0; i < TENSORS; i++)
        for (int k = 0; k < 2 + TRNN_STATES_MAX; k++)
            same &= same_bits(a->at[i][k].at, b->at[i][k].at, sizes[i]);
    return same;
}

static int near_tuned(const tuned *a, const tuned *b, float bound)
{
    int near = 1;
    for (int i = 0; i < TENSORS; i++)
        for (size_t j = 0; j < sizes[i]; j++) near &= fabsf(a->at[i][0].at[j] - b->at[i][0].at[j]) <= bound;
    return near;
}

static uint64_t fingerprint_of(const tuned *t)
{
    uint64_t hash = 0;
    for (int i = 0; i < TENSORS; i++)
        for (int k = 0; k < 2 + TRNN_STATES_MAX; k++)
            hash = hash * 31 + fingerprint(t->at[i][k].at, sizes[i]);
    return hash;
}

/* The same steps in plain double, as torch.optim writes them. */
static double sign_of(double a) { return (double)(a > 0.0) - (double)(a < 0.0); }

static double promise_of(const trnn_rule *r, double w, double g, double *state, int step, double scale,
                         double limit)
{
    g = fmax(-limit, fmin(limit, g * scale)) * (r->maximize ? -1.0 : 1.0);
    g += (r->decoupled ? 0.0 : r->weight_decay * w) + r->l1 * sign_of(w);
    if (r->optimiser == &trnn_sgd) {
        if (r->momentum == 0.0) return w - r->lr * g;
        state[0] = step == 0 ? g : r->momentum * state[0] + (1.0 - r->dampening) * g;
        return w - r->lr * (r->nesterov ? g + r->momentum * state[0] : state[0]);
    }
    if (r->optimiser == &trnn_rmsprop) {
        state[0] = r->alpha * state[0] + (1.0 - r->alpha) * g * g;
        state[2] = r->alpha * state[2] + (1.0 - r->alpha) * g;
        const double spread = state[0] - (r->centered ? state[2] * state[2] : 0.0);
        state[1] = r->momentum * state[1] + (g == 0.0 ? 0.0 : g / (sqrt(spread) + r->eps));
        return w - r->lr * state[1];
    }
    if (r->optimiser == &trnn_adagrad) {
        state[0] += g * g;
        return w - r->lr / (1.0 + step * r->lr_decay) * (g == 0.0 ? 0.0 : g / (sqrt(state[0]) + r->eps));
    }
    state[0] = r->beta1 * state[0] + (1.0 - r->beta1) * g;
    state[1] = r->beta2 * state[1] + (1.0 - r->beta2) * g * g;
    state[2] = fmax(state[2], state[1]);
    const double square = (r->amsgrad ? state[2] : state[1]) / (1.0 - pow(r->beta2, step + 1));
    const double mean = state[0] / (1.0 - pow(r->beta1, step + 1));
    const double quotient = mean == 0.0 ? 0.0 : mean / (sqrt(square) + r->eps);
    return (r->decoupled ? w * (1.0 - r->lr * r->weight_decay) : w) - r->lr * quotient;
}

/* One tensor's weights after STEPS, against the promise. */
static void against_promise(const trnn_rule *rule, const tuned *t, const char *name)
{
    enum { SPAN = 3 };
    static double states[64][TRNN_STATES_MAX], w[64];
    memset(states, 0, sizeof states);
    tuned fresh = tuned_open(rule);
    dice d = dice_named("gradients");
    for (size_t j = 0; j < sizes[SPAN]; j++) w[j] = fresh.at[SPAN][0].at[j];
    for (int step = 0; step < STEPS; step++) {
        gradients_roll(&fresh, &d);
        double squares = 0.0;
        for (int i = 0; i < TENSORS; i++)
            for (size_t j = 0; j < sizes[i]; j++)
                squares += (double)fresh.at[i][1].at[j] * (double)fresh.at[i][1].at[j];
        const double scale = step % 2 ? fmin(1.0, 20.0 / (sqrt(squares) + 1e-6)) : 1.0;
        for (size_t j = 0; j < sizes[SPAN]; j++)
            w[j] = promise_of(rule, w[j], fresh.at[SPAN][1].at[j], states[j], step, scale,
                              step % 3 ? 0.7f : TRNN_NO_LIMIT);
    }
    for (size_t j = 0; j < sizes[SPAN]; j++)
        check(fabs(t->at[SPAN][0].at[j] - w[j]) < 1e-5, "%s: weight %lu is %g, expected %g", name,
              (unsigned long)j, (double)t->at[SPAN][0].at[j], w[j]);
    tuned_close(&fresh);
}

static void one_rule(int32_t k)
{
    const trnn_kernels *isa;
    const char *name = rules[k].name;
    tuned plain = tuned_open(&rules[k].rule);
    double norm, other;
    steps_of(&plain, isa_get(0), 1, &norm);
    against_promise(&rules[k].rule, &plain, name);
    for (int32_t i = 0; (isa = isa_get(i)) != NULL; i++) {
        tuned t = tuned_open(&rules[k].rule), shared = tuned_open(&rules[k].rule);
        steps_of(&t, isa, 1, &other);
        check(norm == other, "%s on %s: the norm is %.17g, elsewhere %.17g", name, trnn_isa_name(isa), other,
              norm);
        steps_of(&shared, isa, PARTS, &other);
        check(norm == other && same_tuned(&t, &shared), "%s on %s: parts differ", name, trnn_isa_name(isa));
        check(near_tuned(&t, &plain, 1e-5f), "%s on %s: far off", name, trnn_isa_name(isa));
        if (trnn_isa_fused(isa))
            check(fingerprint_of(&t) == rules[k].golden, "%s on %s: fingerprint 0x%016llxu", name,
                  trnn_isa_name(isa), (unsigned long long)fingerprint_of(&t));
        for (int s = 0; s < TENSORS; s++)
            for (size_t j = live(sizes[s]); j < sizes[s]; j++)
                check(t.at[s][0].at[j] == 0.0f, "%s on %s: padding of tensor %d", name, trnn_isa_name(isa),
                      s);
        tuned_close(&t);
        tuned_close(&shared);
    }
    tuned_close(&plain);
}

/* The last tensor that is not finite is found, whatever it holds and wherever. */
static void bad_gradients(const trnn_kernels *isa)
{
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    tuned t = tuned_open(&rules[0].rule);
    double sums[CHUNKS_MAX];
    int32_t bad;
    for (int i = 0; i < TENSORS; i++) {
        for (size_t k = 0; k < 3; k++) {
            float *number = &t.at[i][1].at[sizes[i] / 2];
            *number = wrong[k];
            trnn_tensors_measure(isa, t.tensors, TENSORS, sums, 0, 1);
            const double norm = trnn_tensors_norm(t.tensors, TENSORS, sums, &bad);
            check(bad == i && !isfinite(norm), "%s: tensor %d is bad, found %d", trnn_isa_name(isa), i,
                  (int)bad);
            trnn_tensors_clip(isa, t.tensors, TENSORS, 1.0f, 2.0f, 0, 1);
            check(k == 0 ? isnan(*number) : fabsf(*number) == 2.0f, "%s: clipped to %g", trnn_isa_name(isa),
                  (double)*number);
            *number = 3.0e38f; /* its square is no float */
            trnn_tensors_measure(isa, t.tensors, TENSORS, sums, 0, 1);
            check(fabs(trnn_tensors_norm(t.tensors, TENSORS, sums, &bad) / 3.0e38f - 1.0) < 1e-12 && bad < 0,
                  "%s: a large gradient", trnn_isa_name(isa));
            trnn_tensors_clear(t.tensors, TENSORS, 0, 1);
            check(*number == 0.0f, "%s: not cleared", trnn_isa_name(isa));
        }
    }
    tuned_close(&t);
}

/* A tensor without a gradient is passed over, by every part; the others have the bits that they have among
 * themselves. */
static void no_gradient(int32_t k, const trnn_kernels *isa)
{
    tuned t = tuned_open(&rules[k].rule), all = tuned_open(&rules[k].rule);
    double sums[CHUNKS_MAX];
    int32_t bad;
    for (int turn = 0; turn < TENSORS + 2; turn++) { /* none lacks, then each, then all do */
        dice d = dice_named("gradients");
        for (int i = 0; i < TENSORS; i++) t.tensors[i].gradients = t.at[i][1].at;
        gradients_roll(&t, &d);
        double wanted = 0.0;
        for (int i = 0; i < TENSORS; i++) {
            if (turn == i + 1 || turn == TENSORS + 1) t.tensors[i].gradients = NULL;
            if (t.tensors[i].gradients)
                for (size_t j = 0; j < sizes[i]; j++) wanted += (double)t.at[i][1].at[j] * t.at[i][1].at[j];
            memcpy(all.at[i][0].at, t.at[i][0].at, sizes[i] * sizeof(float));
            all.tensors[i].steps = t.tensors[i].steps;
        }
        for (int32_t part = PARTS; part-- > 0;)
            trnn_tensors_measure(isa, t.tensors, TENSORS, sums, part, PARTS);
        const double norm = trnn_tensors_norm(t.tensors, TENSORS, sums, &bad);
        check(fabs(norm * norm - wanted) <= 1e-12 * wanted && bad < 0, "%s: the norm of turn %d",
              trnn_isa_name(isa), turn);
        for (int32_t part = PARTS; part-- > 0;)
            trnn_tensors_update(isa, t.tensors, TENSORS, 1.0f, TRNN_NO_LIMIT, part, PARTS);
        trnn_tensors_count(t.tensors, TENSORS);
        for (int i = 0; i < TENSORS; i++) {
            const int still = same_bits(t.at[i][0].at, all.at[i][0].at, sizes[i]);
            const int counts = rules[k].rule.optimiser != &trnn_sgd || trnn_rule_uses(&rules[k].rule, 0);
            check(still == !t.tensors[i].gradients, "%s: tensor %d of turn %d", trnn_isa_name(isa), i, turn);
            check(t.tensors[i].steps == all.tensors[i].steps + (counts && t.tensors[i].gradients),
                  "%s: steps of tensor %d", trnn_isa_name(isa), i);
        }
    }
    tuned_close(&t);
    tuned_close(&all);
}

/* Moments that nothing feeds end at zero, not among subnormal numbers. */
static void silence(const trnn_kernels *isa)
{
    static const trnn_rule adam = {
        .optimiser = &trnn_adam, .lr = 0.1, .beta1 = 0.5, .beta2 = 0.5, .eps = 1e-8};
    tuned t = tuned_open(&adam);
    t.at[0][1].at[0] = 1.0f;
    for (int step = 0; step < 200; step++) {
        trnn_tensors_update(isa, t.tensors, TENSORS, 1.0f, TRNN_NO_LIMIT, 0, 1);
        trnn_tensors_count(t.tensors, TENSORS);
        t.at[0][1].at[0] = 0.0f;
        for (int k = 2; k < 4; k++) {
            const float moment = t.at[0][k].at[0];
            check(moment == 0.0f || fabsf(moment) > 1e-34f, "%s: a moment of %g", trnn_isa_name(isa),
                  (double)moment);
        }
    }
    check(t.at[0][2].at[0] == 0.0f && t.at[0][3].at[0] == 0.0f, "%s: moments stay", trnn_isa_name(isa));
    tuned_close(&t);
}

void test_optim(void)
{
    const trnn_kernels *isa;
    check_group("optimisers");
    for (int32_t k = 0; k < RULES; k++) one_rule(k);
    for (int32_t i = 0; (isa = isa_get(i)) != NULL; i++) {
        bad_gradients(isa);
        silence(isa);
        for (int32_t k = 0; k < RULES; k++) no_gradient(k, isa);
    }
    for (int32_t i = 0; i < trnn_optimiser_count(); i++)
        check(trnn_optimiser_name(trnn_optimiser_at(i))[0] &&
                  trnn_optimiser_state(trnn_optimiser_at(i), 0)[0],
              "optimiser %d has no name", i);
}
