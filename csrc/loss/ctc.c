/* Connectionist temporal classification, as torch.nn.CTCLoss. A. Graves et al., "Connectionist Temporal
 * Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks", ICML 2006.
 *
 * A target of L labels is S = 2 L + 1 states: a blank, and each label with a blank after it. alpha[t][s] is
 * the logarithm of the probability of all beginnings that are in state s at step t, beta[t][s] that of all
 * endings from there, without step t itself. The value is the negative logarithm of all paths, and
 *
 *   dy[t][c] = exp(y[t][c]) - sum over the states s of class c of exp(alpha[t][s] + beta[t][s] + value)
 *
 * Logarithms are kept in double; their differences are small enough for the float exp of the kernels.
 * beta is computed with the states in reverse order, in which they follow the same rule as alpha.
 */
#include "../index.h"
#include "loss.h"

static trnn_status ctc_check(const trnn_loss *loss)
{
    return trnn_is_flag(loss->zero_infinity) && loss->blank >= 0 ? TRNN_OK : TRNN_E_LOSS;
}

typedef struct {
    double *alpha;    /* (steps, S) */
    double *ends[2];  /* (S,) */
    float *exponents; /* (S, 3) */
    int32_t *labels;  /* (L,): a copy, as they are looked up many times */
} ctc_room;

/* Measures or places the arrays of a row. */
static size_t ctc_layout(void *scratch, size_t steps, size_t target_steps, ctc_room *room)
{
    trnn_cursor cursor = {scratch, 0};
    const size_t states = trnn_plus(trnn_times(target_steps, 2), 1);
    const size_t bytes = trnn_times(states, sizeof(double));
    room->alpha = trnn_take_bytes(&cursor, trnn_times(steps, bytes));
    room->ends[0] = trnn_take_bytes(&cursor, bytes);
    room->ends[1] = trnn_take_bytes(&cursor, bytes);
    room->exponents = trnn_take(&cursor, trnn_times(states, 3));
    room->labels = trnn_take_bytes(&cursor, trnn_times(target_steps, sizeof(int32_t)));
    return cursor.bytes;
}

static size_t ctc_scratch(size_t steps, size_t numbers, size_t target_steps)
{
    ctc_room room;
    (void)numbers;
    return ctc_layout(NULL, steps, target_steps, &room);
}

/* Labels are classes other than the blank. */
static trnn_status ctc_look(const trnn_loss_row *row)
{
    if (row->loss->blank >= row->cols) return TRNN_E_LOSS_SHAPE;
    for (int32_t i = 0; i < row->count; i++)
        if (row->target[i] < 0 || row->target[i] >= row->cols || row->target[i] == row->loss->blank)
            return TRNN_E_TARGET;
    return TRNN_OK;
}

/* The class of state s, counted from the start, or from the end. */
static int32_t class_of(const trnn_loss_row *row, int32_t s, int from_end)
{
    return s % 2 == 0 ? row->loss->blank : row->target[from_end ? row->count - 1 - s / 2 : s / 2];
}

/* -infinity: the logarithm of no path. */
static double nowhere(void)
{
    const double one = 1.0;
    return -one / (one - one);
}

/* ln x for x in 1 .. 3, or x = 0. NaN passes. */
static double log_of_sum(double x)
{
    if (x == 0.0) return nowhere();
    const int twice = x > 1.5;
    const double m = twice ? 0.5 * x : x, s = (m - 1.0) / (m + 1.0), z = s * s;
    const double series =
        z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11 + z / 13)))));
    return 2.0 * (s + s * series) + (twice ? 0.69314718055994531 : 0.0);
}

/* The largest of three, and what they are less it: the kernel takes exp of these exponents. */
static double spread(double a, double b, double c, float *exponents)
{
    double top = a > b ? a : b;
    top = c > top ? c : top;
    if (top == nowhere()) top = 0.0;
    exponents[0] = (float)(a - top);
    exponents[1] = (float)(b - top);
    exponents[2] = (float)(c - top);
    return top;
}

/* One step on: what reaches each state from the same one, the one before, and, past a blank between two
 * labels that differ, the one before that. */
static void advance(const trnn_loss_row *row, int from_end, const double *from, double *to, float *exponents)
{
    const int32_t states = 2 * row->count + 1;
    for (int32_t s = 0; s < states; s++) {
        const int skips = s % 2 == 1 && s > 1 && class_of(row, s, from_end) != class_of(row, s - 2, from_end);
        to[s] = spread(from[s], s > 0 ? from[s - 1] : nowhere(), skips ? from[s - 2] : nowhere(),
                       exponents + 3 * (size_t)s);
    }
    TRNN_KERNEL(row->isa, map_exp)(exponents, exponents, 3 * (size_t)states, NULL);
    for (int32_t s = 0; s < states; s++) {
        const float *e = exponents + 3 * (size_t)s;
        to[s] += log_of_sum((double)e[0] + (double)e[1] + (double)e[2]);
    }
}

/* Before the first step, as if a state had come before the first two. */
static void begin(int32_t states, double *first)
{
    for (int32_t s = 0; s < states; s++) first[s] = s < 2 ? 0.0 : nowhere();
}

/* alpha of every step; the value. */
static double forward(const trnn_loss_row *row, const ctc_room *room)
{
    const int32_t states = 2 * row->count + 1;
    float *e = room->exponents;
    for (int32_t t = 0; t < row->steps; t++) {
        double *alpha = room->alpha + (size_t)t * (size_t)states;
        const float *y = row->y + (size_t)t * row->stride;
        if (t == 0)
            begin(states, alpha);
        else
            advance(row, 0, alpha - states, alpha, e);
        for (int32_t s = 0; s < states; s++) alpha[s] += (double)y[class_of(row, s, 0)];
    }
    const double *last = room->alpha + (size_t)row->steps * (size_t)states;
    const double top = spread(last[-1], states > 1 ? last[-2] : nowhere(), nowhere(), e);
    TRNN_KERNEL(row->isa, map_exp)(e, e, 3, NULL);
    return -(top + log_of_sum((double)e[0] + (double)e[1] + (double)e[2]));
}

/* dy, from the last step to the first; states of `ends` and `beta` are counted from the end. */
static void backward(const trnn_loss_row *row, const ctc_room *room, double value)
{
    const int32_t states = 2 * row->count + 1;
    const size_t cols = (size_t)row->cols;
    double *beta = room->ends[0], *ends = room->ends[1];
    float *e = room->exponents;
    const float scale = (float)row->scale;
    for (int32_t t = row->steps - 1; t >= 0; t--) {
        const double *alpha = room->alpha + (size_t)t * (size_t)states;
        const float *y = row->y + (size_t)t * row->stride;
        float *dy = row->dy + (size_t)t * row->stride;
        if (t == row->steps - 1)
            begin(states, beta);
        else
            advance(row, 1, ends, beta, e);
        for (int32_t s = 0; s < states; s++) e[s] = (float)(alpha[s] + beta[states - 1 - s] + value);
        TRNN_KERNEL(row->isa, map_exp)(e, e, (size_t)states, NULL);
        TRNN_KERNEL(row->isa, map_exp)(y, dy, cols, NULL);
        for (int32_t s = 0; s < states; s++) dy[class_of(row, s, 0)] -= e[s];
        for (size_t c = 0; c < cols; c++) dy[c] *= scale;
        for (int32_t s = 0; s < states; s++) ends[s] = beta[s] + (double)y[class_of(row, s, 1)];
    }
}

/* The row with a copy of its labels, which no other thread can change. */
static trnn_loss_row copied(const trnn_loss_row *row, const ctc_room *room)
{
    trnn_loss_row copy = *row;
    copy.target = room->labels;
    for (int32_t i = 0; i < row->count; i++) {
        const int32_t label = trnn_index_at(row->target, (size_t)i, row->cols);
        room->labels[i] = label < 0 ? row->loss->blank : label; /* it has gone out of range */
    }
    return copy;
}

static double ctc_row(const trnn_loss_row *given)
{
    ctc_room room;
    ctc_layout(given->scratch, (size_t)given->steps, (size_t)given->count, &room);
    const trnn_loss_row copy = copied(given, &room), *row = &copy;
    const double value = forward(row, &room);
    const int none = value == -nowhere(); /* no path at all: the target is too long */
    if (row->dy && !none) backward(row, &room, value);
    if (row->dy && none) { /* there is no gradient: NaN, as PyTorch has it */
        const float fill = row->loss->zero_infinity ? 0.0f : (float)(nowhere() - nowhere());
        for (int32_t t = 0; t < row->steps; t++)
            for (int32_t c = 0; c < row->cols; c++) row->dy[(size_t)t * row->stride + (size_t)c] = fill;
    }
    return none && row->loss->zero_infinity ? 0.0 : value;
}

const trnn_loss_type trnn_loss_ctc = {
    .name = "ctc",
    .check = ctc_check,
    .scratch = ctc_scratch,
    .look_row = ctc_look,
    .row = ctc_row,
};
