/* A step of an optimiser: what is worked out once, in double, and how tensors are cut into chunks.
 *
 * A rule and a number of steps become a trnn_update, which holds every coefficient as the float that the
 * optimiser's formula takes. Knows the contract, no optimiser by name. The arithmetic here is sums, products, quotients and a root of our own,
 * so it has the same bits on every machine.
 */
#include "optimiser.h"

/* Numbers of a chunk: a multiple of a panel, small enough to share fairly, large enough that its call is
 * free. */
#define CHUNK 4096

/* The smallest normal float. */
#define LEAST_EPS 1.1754943508222875e-38

const char *trnn_optimiser_name(const trnn_optimiser *optimiser) { return optimiser->name; }

const char *trnn_optimiser_state(const trnn_optimiser *optimiser, int32_t i)
{
    return optimiser->facts.states[i] ? optimiser->facts.states[i] : "";
}

const trnn_argument *trnn_rule_arguments(void)
{
    static const trnn_argument arguments[] = {
        {"maximize", offsetof(trnn_rule, maximize), TRNN_INT32, 0},
        {"nesterov", offsetof(trnn_rule, nesterov), TRNN_INT32, 0},
        {"centered", offsetof(trnn_rule, centered), TRNN_INT32, 0},
        {"amsgrad", offsetof(trnn_rule, amsgrad), TRNN_INT32, 0},
        {"decoupled", offsetof(trnn_rule, decoupled), TRNN_INT32, 0},
        {"lr", offsetof(trnn_rule, lr), TRNN_DOUBLE, 0},
        {"weight_decay", offsetof(trnn_rule, weight_decay), TRNN_DOUBLE, 0},
        {"l1", offsetof(trnn_rule, l1), TRNN_DOUBLE, 0},
        {"momentum", offsetof(trnn_rule, momentum), TRNN_DOUBLE, 0},
        {"dampening", offsetof(trnn_rule, dampening), TRNN_DOUBLE, 0},
        {"alpha", offsetof(trnn_rule, alpha), TRNN_DOUBLE, 0},
        {"beta1", offsetof(trnn_rule, beta1), TRNN_DOUBLE, 0},
        {"beta2", offsetof(trnn_rule, beta2), TRNN_DOUBLE, 0},
        {"lr_decay", offsetof(trnn_rule, lr_decay), TRNN_DOUBLE, 0},
        {"eps", offsetof(trnn_rule, eps), TRNN_DOUBLE, 0},
        {NULL, sizeof(trnn_rule), TRNN_INT32, 0},
    };
    return arguments;
}

int trnn_rule_uses(const trnn_rule *rule, int32_t i) { return rule->optimiser->states(rule) >> i & 1; }

/* ---- numbers ----------------------------------------------------------------------------------- */

/* Newton's method; the first guess has half the exponent and is at most 6 % off. */
double trnn_root(double a)
{
    union {
        double f;
        uint64_t u;
    } guess = {a};
    if (!(a > 0.0)) return 0.0;
    if (a < 2.2250738585072014e-308) return trnn_root(a * 18446744073709551616.0) / 4294967296.0;
    guess.u = (guess.u >> 1) + 0x1ff7a3bea91d9b1bu;
    for (int i = 0; i < 4; i++) guess.f = 0.5 * (guess.f + a / guess.f);
    return guess.f;
}

/* By squaring. */
double trnn_power(double a, int64_t n)
{
    double result = 1.0;
    for (; n > 0; n >>= 1, a *= a)
        if (n & 1) result *= a;
    return result;
}

/* The step of a tensor that has done `steps` before it. */
static trnn_update update_of(const trnn_rule *rule, int64_t steps, float scale, float limit)
{
    const trnn_coefficients c = rule->optimiser->coefficients(rule, steps);
    trnn_update u = {.rule = rule,
                     .scale = rule->maximize ? -scale : scale,
                     .limit = limit,
                     .weight_decay = rule->decoupled ? 0.0f : (float)rule->weight_decay,
                     .l1 = (float)rule->l1,
                     .keep = rule->decoupled ? (float)(1.0 - rule->lr * rule->weight_decay) : 1.0f,
                     .rate = (float)c.rate,
                     .first = (float)c.first,
                     .first_new = (float)c.first_new,
                     .second = (float)c.second,
                     .second_new = (float)c.second_new,
                     .eps = (float)(c.eps > LEAST_EPS ? c.eps : LEAST_EPS)};
    u.plain = u.scale == 1.0f && u.limit == TRNN_NO_LIMIT && u.weight_decay == 0.0f && u.l1 == 0.0f;
    return u;
}

/* ---- chunks ------------------------------------------------------------------------------------ */

/* A tensor without gradients has no chunks, so that a step skips it. */
static size_t chunks_of(const trnn_tensor *tensor)
{
    return tensor->gradients ? (tensor->numbers + CHUNK - 1) / CHUNK : 0;
}

size_t trnn_tensors_chunks(const trnn_tensor *tensors, int32_t count)
{
    size_t chunks = 0;
    for (int32_t i = 0; i < count; i++) chunks += chunks_of(&tensors[i]);
    return chunks;
}

/* A walk through a part's share of the chunks. */
typedef struct {
    const trnn_tensor *tensor; /* of the chunk at hand */
    size_t first, numbers;     /* its place in the tensor */
    size_t index, end;         /* its place among all chunks, and the part's end */
    size_t next;               /* the tensor's next chunk */
} chunks;

static chunks chunks_open(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts)
{
    const size_t all = trnn_tensors_chunks(tensors, count), share = all / (size_t)parts,
                 more = all % (size_t)parts;
    const size_t p = (size_t)part, begin = p * share + (p < more ? p : more);
    chunks walk = {tensors, 0, 0, begin - 1, begin + share + (p < more), begin};
    while (walk.index + 1 < walk.end && walk.next >= chunks_of(walk.tensor))
        walk.next -= chunks_of(walk.tensor++);
    return walk;
}

/* The next chunk; 0 past the last. */
static int chunks_next(chunks *walk)
{
    if (++walk->index >= walk->end) return 0;
    while (walk->next >= chunks_of(walk->tensor)) {
        walk->tensor++;
        walk->next = 0;
    }
    walk->first = walk->next++ * CHUNK;
    walk->numbers = walk->tensor->numbers - walk->first < CHUNK ? walk->tensor->numbers - walk->first : CHUNK;
    return 1;
}

/* ---- a step ------------------------------------------------------------------------------------- */

void trnn_tensors_measure(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, double *sums,
                          int32_t part, int32_t parts)
{
    for (chunks walk = chunks_open(tensors, count, part, parts); chunks_next(&walk);)
        sums[walk.index] = TRNN_KERNEL(isa, squares_f32)(walk.tensor->gradients + walk.first, walk.numbers);
}

double trnn_tensors_norm(const trnn_tensor *tensors, int32_t count, const double *sums, int32_t *bad)
{
    double total = 0.0;
    *bad = -1;
    for (int32_t i = 0; i < count; i++) {
        double sum = 0.0;
        for (size_t left = chunks_of(&tensors[i]); left > 0; left--) sum += *sums++;
        if (!(sum - sum == 0.0)) *bad = i;
        total += sum;
    }
    return *bad < 0 ? trnn_root(total) : total;
}

float trnn_clip_scale(double norm, double max_norm)
{
    const double scale = max_norm / (norm + 1e-6);
    return scale < 1.0 ? (float)scale : 1.0f;
}

void trnn_tensors_update(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                         float limit, int32_t part, int32_t parts)
{
    const trnn_tensor *known = NULL; /* the tensor of `update`: most tensors share rule and steps */
    trnn_update update = {.plain = 0};
    for (chunks walk = chunks_open(tensors, count, part, parts); chunks_next(&walk);) {
        const trnn_tensor *tensor = walk.tensor;
        if (!known || known->rule != tensor->rule || known->steps != tensor->steps)
            update = update_of(tensor->rule, tensor->steps, scale, limit);
        known = tensor;
        float *state[TRNN_STATES_MAX];
        const trnn_optimiser *optimiser = tensor->rule->optimiser;
        const uint32_t states = optimiser->states(tensor->rule);
        for (int32_t i = 0; i < TRNN_STATES_MAX; i++)
            state[i] = states >> i & 1 ? tensor->state[i] + walk.first : NULL;
        optimiser->update(isa, &update, walk.numbers, tensor->weights + walk.first,
                          tensor->gradients + walk.first, state);
    }
}

/* Only steps that use a state count. */
void trnn_tensors_count(trnn_tensor *tensors, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (tensors[i].gradients)
            tensors[i].steps += tensors[i].rule->optimiser->states(tensors[i].rule) != 0;
}

/* ---- gradients ---------------------------------------------------------------------------------- */

void trnn_tensors_clip(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                       float limit, int32_t part, int32_t parts)
{
    for (chunks walk = chunks_open(tensors, count, part, parts); chunks_next(&walk);)
        TRNN_KERNEL(isa, clip_f32)(walk.tensor->gradients + walk.first, walk.numbers, scale, limit);
}

void trnn_tensors_clear(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts)
{
    for (chunks walk = chunks_open(tensors, count, part, parts); chunks_next(&walk);)
        trnn_zero(walk.tensor->gradients + walk.first, walk.numbers * sizeof(float));
}
