/* Recurrent cells with options: any activations and a clip, as ONNX has them. What the cells of cells/ compute in one walk
 * over the weights, a step does here in three: products, functions of each gate (kernels/maps.def), and what joins the
 * gates, in plain C. That is compiled once for all instruction sets, and has the same bits on all.
 *
 *     a = Wx x + b_ih + Wh h + b_hh, clipped to +-clip where a function reads it
 *
 *     RNN    h' = g(a)
 *     LSTM   i, f, o = f(a + p c), o with c';  c' = f c + i g(a),  h' = o h(c'); coupled: f is 1 - i;
 *            with a cell_clip c' is clipped to +-cell_clip before anything sees it
 *     GRU    r, z = f(a),  n = g(Wx x + b_ih + r (Wh h + b_hh)),  h' = n + z (h - n)
 *     the same, before: n = g(Wx x + b_ih + Wh (r h) + b_hh)
 *
 * And FastGRNN (Kusupati et al., 2018), whose gate and candidate share one sum a = Wx x + Wh h without biases:
 *
 *     z = f(a + b_z),  n = g(a + b_n),  h' = (sigmoid(zeta) (1 - z) + sigmoid(nu)) n + z h,  zeta and nu a number each
 *
 * And a Jordan network (Jordan, 1986), an RNN that sees its output:
 *
 *     m = g(Wx x + b_ih + Wh y + b_hh),  y' = h(Wr m + b_hr)
 *
 * Peepholes may be matrices, V c for each of i, f and o; all see the c of the step before. The W_hh of a FastGRNN may have
 * a low rank: W_hh h is U1 (U2 h). So may its W_ih: the drivers give a step what W1 multiplies (trnn_input_of).
 *
 * With zoneout (Krueger et al., 2017) h and c stay with some probability what they were, in training, and are on average
 * what that makes of them, else; a step's own h is computed from the c' before that.
 *
 * With layer normalisation (Ba, Kiros and Hinton, 2016) Wx x and Wh h become LN(Wx x) and LN(Wh h), each over all gates of
 * a row, with a gain, before biases are added; and an LSTM's h' = o h(LN(c')), with gain and bias.
 *
 * The tape keeps the sums a, from which the backward pass has the functions and their slopes. Sums below TRNN_TINY count
 * as zeros, and states and their gradients become zeros.
 */
#include "recurrent.h"

enum { GATE, CANDIDATE, OUTPUT };

/* A step of one cell: what all its rows share. */
typedef struct {
    const trnn_kernels *isa;
    const trnn_cell_facts *facts;
    const trnn_recurrent_args *args;
    const trnn_cell_activation *functions;
    size_t units, packed; /* H, and a multiple of a panel */
    size_t gates, first;  /* of this round; of those before */
    int two, last;        /* rounds; 1: this is the last one */
    const trnn_cell_norm *norm;
    const uint32_t *seed; /* of zoneout; NULL: on average */
    float *next;          /* the next array */
} general;

/* An array of H numbers in whole panels, the rest zeros. */
TRNN_NOINLINE float *array_of(general *g)
{
    float *array = g->next;
    g->next += g->packed;
    trnn_zero(array + g->units, (g->packed - g->units) * sizeof(float));
    return array;
}

static general general_of(const trnn_kernels *isa, const trnn_cell_facts *facts, int round,
                          const trnn_recurrent_args *args, const trnn_cell_activation *functions, float *work)
{
    const size_t units = (size_t)args->hidden_size;
    return (general){.isa = isa,
                     .facts = facts,
                     .args = args,
                     .functions = functions,
                     .units = units,
                     .packed = (units + TRNN_PANEL - 1) / TRNN_PANEL * TRNN_PANEL,
                     .gates = (size_t)trnn_round_gates(facts, round),
                     .first = round ? (size_t)trnn_round_gates(facts, 0) : 0,
                     .two = facts->second > 0,
                     .last = round || !facts->second,
                     .next = work};
}

#define EPS 1e-5f

static float no_tiny(float a) { return a < TRNN_TINY && a > -TRNN_TINY ? 0.0f : a; }

/* The i-th of `count` vectors that are packed side by side, from and to an array. */
TRNN_NOINLINE float *unpacked(general *g, const float *row, size_t i, size_t count)
{
    float *array = array_of(g);
    for (size_t j = 0; j < g->packed; j += TRNN_PANEL)
        trnn_copy(array + j, row + j * count + i * TRNN_PANEL, TRNN_PANEL * sizeof(float));
    return array;
}
TRNN_NOINLINE void pack_into(const general *g, float *row, size_t i, size_t count, const float *array)
{
    for (size_t j = 0; j < g->packed; j += TRNN_PANEL)
        trnn_copy(row + j * count + i * TRNN_PANEL, array + j, TRNN_PANEL * sizeof(float));
}

/* Arithmetic on arrays, functions once for all cells. y may be any of the others. */
TRNN_NOINLINE void flush(const general *g, float *y)
{
    for (size_t j = 0; j < g->units; j++) y[j] = no_tiny(y[j]);
}
TRNN_NOINLINE void multiply(const general *g, float *y, const float *a, const float *b)
{
    for (size_t j = 0; j < g->units; j++) y[j] = a[j] * b[j];
}
TRNN_NOINLINE void add(const general *g, float *y, const float *a)
{
    for (size_t j = 0; j < g->units; j++) y[j] += a[j];
}
TRNN_NOINLINE void subtract(const general *g, float *y, const float *a, const float *b)
{
    for (size_t j = 0; j < g->units; j++) y[j] = a[j] - b[j];
}
TRNN_NOINLINE void add_product(const general *g, float *y, const float *a, const float *b)
{
    for (size_t j = 0; j < g->units; j++) y[j] += a[j] * b[j];
}
TRNN_NOINLINE float *one_minus(general *g, const float *a)
{
    float *y = array_of(g);
    for (size_t j = 0; j < g->units; j++) y[j] = 1.0f - a[j];
    return y;
}

/* ---- zoneout ----------------------------------------------------------------------------------------- */

/* `after` becomes what is left of it, by a share p of the numbers from the one at `place` on. */
TRNN_NOINLINE void zone(const general *g, float p, size_t place, const float *before, float *after)
{
    for (size_t j = 0; j < g->units; j++) {
        if (!g->seed)
            after[j] = (1.0f - p) * after[j] + p * before[j];
        else if (trnn_is_dropped(g->seed, place + j, p))
            after[j] = before[j];
    }
}

/* From d, the gradient of what is left, to that of `after`, in place; returns that of `before`. */
TRNN_NOINLINE float *zone_back(general *g, float p, size_t place, float *d)
{
    float *before = array_of(g);
    for (size_t j = 0; j < g->units; j++) {
        const float share = !g->seed ? p : trnn_is_dropped(g->seed, place + j, p) ? 1.0f : 0.0f;
        before[j] = share * d[j];
        d[j] *= 1.0f - share;
    }
    return before;
}

/* ---- layer normalisation: lines of gates * H numbers, without padding ---------------------------------- */

/* Room for a line. */
static float *line_after(general *g)
{
    float *line = g->next;
    g->next += g->gates * g->packed;
    return line;
}

/* A line, with what the gates' vectors that are packed side by side have in it. */
TRNN_NOINLINE float *line_of(general *g, const float *row)
{
    float *line = line_after(g);
    const size_t whole = g->units / TRNN_PANEL * TRNN_PANEL, rest = g->units - whole;
    for (size_t i = 0; i < g->gates; i++) {
        const float *from = row + i * TRNN_PANEL;
        float *to = line + i * g->units;
        for (size_t j = 0; j < whole; j += TRNN_PANEL)
            trnn_copy(to + j, from + j * g->gates, TRNN_PANEL * sizeof(float));
        if (rest) trnn_copy(to + whole, from + whole * g->gates, rest * sizeof(float));
    }
    trnn_zero(line + g->gates * g->units, g->gates * (g->packed - g->units) * sizeof(float));
    return line;
}

/* Packed vectors as norm_sums_f32 reads them: where they have padding as a line. */
static const float *unpadded(general *g, const float *row)
{
    return g->units == g->packed ? row : line_of(g, row);
}

/* The bias behind the norms, likewise, or zeros; NULL: there are no norms. */
TRNN_NOINLINE const float *norm_bias(general *g)
{
    if (!g->norm || g->norm->bias) return g->norm ? unpadded(g, g->norm->bias) : NULL;
    float *zeros = line_after(g);
    trnn_zero(zeros, g->gates * g->packed * sizeof(float));
    return zeros;
}

/* From d, the gradient of y, to that of x, in place; adds those of gain and bias to `gains` and `biases` (NULL: none). */
TRNN_NOINLINE void normalise_back(const general *g, const float *x, float *d, size_t size, const float *gain,
                                  float *gains, float *biases)
{
    const trnn_standard own = trnn_standard_of(g->isa, x, size, EPS);
    for (size_t j = 0; j < size; j++) gains[j] += d[j] * (x[j] * own.scale + own.shift);
    for (size_t j = 0; biases && j < size; j++) biases[j] += d[j];
    trnn_standard_backward(own, x, d, d, size, gain, 1);
}

/* ---- functions ------------------------------------------------------------------------------------- */

#define MAP(name, x, y, k)              TRNN_KERNEL(g->isa, map_##name)(x, y, g->units, k)
#define MAP_BACK(name, x, y, dy, dx, k) TRNN_KERNEL(g->isa, map_##name##_back)(x, y, dy, dx, g->units, k)

static const float unit_range[] = {0.0f, 1.0f}, no_threshold[] = {1.0f, 3.4e38f};

/* In one pass, since it is the cheapest of gates; a NaN stays. */
static void hard_sigmoid(const general *g, trnn_cell_activation f, const float *x, float *y)
{
    for (size_t j = 0; j < g->units; j++) {
        const float a = f.alpha * x[j] + f.beta, low = a < 0.0f ? 0.0f : a;
        y[j] = low > 1.0f ? 1.0f : low;
    }
}

/* y = f(clip(x)) with the `which` function; the output's is of c', which is not clipped. No overlap. */
TRNN_NOINLINE void apply(const general *g, int which, const float *x, float *y)
{
    const trnn_cell_activation f = g->functions[which];
    const float clip = which == OUTPUT ? 0.0f : g->args->clip, bounds[] = {-clip, clip};
    const float line[] = {f.alpha, f.beta}, inner[] = {f.beta, 0.0f}, outer[] = {f.alpha, 0.0f};
    const float curve[] = {f.alpha, 1.0f, 1.0f};
    if (clip > 0.0f) {
        MAP(clip, x, y, bounds);
        x = y;
    }
    switch (f.function) {
    case TRNN_SIGMOID: MAP(sigmoid, x, y, NULL); break;
    case TRNN_TANH: MAP(tanh, x, y, NULL); break;
    case TRNN_RELU: MAP(relu, x, y, NULL); break;
    case TRNN_AFFINE: MAP(scale, x, y, line); break;
    case TRNN_LEAKY_RELU: MAP(leaky_relu, x, y, line); break;
    case TRNN_THRESHOLDED_RELU:
        for (size_t j = 0; j < g->units; j++) y[j] = x[j] < f.alpha ? 0.0f : x[j];
        break;
    case TRNN_SCALED_TANH:
        MAP(scale, x, y, inner);
        MAP(tanh, y, y, NULL);
        MAP(scale, y, y, outer);
        break;
    case TRNN_HARD_SIGMOID: hard_sigmoid(g, f, x, y); break;
    case TRNN_ELU: MAP(elu, x, y, curve); break;
    case TRNN_SOFTSIGN: MAP(softsign, x, y, NULL); break;
    case TRNN_SOFTPLUS: MAP(softplus, x, y, no_threshold);
    }
}

/* d, the gradient of y, becomes that of x. */
TRNN_NOINLINE void apply_back(const general *g, int which, const float *x, const float *y, float *d)
{
    const trnn_cell_activation f = g->functions[which];
    const float clip = which == OUTPUT ? 0.0f : g->args->clip, bounds[] = {-clip, clip};
    const float line[] = {f.alpha, f.beta}, inner[] = {f.beta, 0.0f}, both[] = {f.alpha * f.beta, 0.0f};
    const float curve[] = {f.alpha, 1.0f, 1.0f};
    float *spare = g->next, *other = spare + g->packed;
    if (clip > 0.0f) {
        MAP_BACK(clip, x, x, d, d, bounds);
        MAP(clip, x, spare, bounds);
        x = spare;
    }
    switch (f.function) {
    case TRNN_SIGMOID: MAP_BACK(sigmoid, x, y, d, d, NULL); break;
    case TRNN_TANH: MAP_BACK(tanh, x, y, d, d, NULL); break;
    case TRNN_RELU: MAP_BACK(relu, x, y, d, d, NULL); break;
    case TRNN_AFFINE: MAP_BACK(scale, x, y, d, d, line); break;
    case TRNN_LEAKY_RELU: MAP_BACK(leaky_relu, x, y, d, d, line); break;
    case TRNN_THRESHOLDED_RELU:
        for (size_t j = 0; j < g->units; j++) d[j] = x[j] < f.alpha ? 0.0f : d[j];
        break;
    case TRNN_SCALED_TANH:
        MAP(scale, x, spare, inner);
        MAP(tanh, spare, other, NULL);
        MAP_BACK(tanh, spare, other, d, d, NULL);
        MAP_BACK(scale, spare, other, d, d, both);
        break;
    case TRNN_HARD_SIGMOID:
        MAP(scale, x, spare, line);
        MAP_BACK(clip, spare, spare, d, d, unit_range);
        MAP_BACK(scale, spare, spare, d, d, line);
        break;
    case TRNN_ELU: MAP_BACK(elu, x, y, d, d, curve); break;
    case TRNN_SOFTSIGN: MAP_BACK(softsign, x, y, d, d, NULL); break;
    case TRNN_SOFTPLUS: MAP_BACK(softplus, x, y, d, d, no_threshold);
    }
}

/* An array of f(x). */
TRNN_NOINLINE float *applied(general *g, int which, const float *x)
{
    float *y = array_of(g);
    apply(g, which, x, y);
    return y;
}

static float *product_of_arrays(general *g, const float *a, const float *b)
{
    float *y = array_of(g);
    multiply(g, y, a, b);
    return y;
}

/* ---- forward pass ---------------------------------------------------------------------------------- */

/* The two parts of a row's sums, packed. With layer normalisation also as lines: both normalised, biases included, and
 * their sum. */
typedef struct {
    const float *x, *hidden;
    const float *bias_hh; /* packed, read for apart gates */
    float *normal_x, *normal_hidden, *normal;
} general_sums;

/* bias: norm_bias. */
TRNN_NOINLINE general_sums sums_of(general *g, const float *x, const float *hidden, const float *bias,
                                   const float *bias_hh)
{
    general_sums sums = {x, hidden, bias_hh, NULL, NULL, NULL};
    if (!g->norm) return sums;
    sums.normal_x = line_after(g);
    sums.normal_hidden = line_after(g);
    sums.normal = line_after(g);
    const size_t parts = g->units == g->packed ? g->gates : 1;
    const trnn_norm_sums norms = {.parts = parts,
                                  .size = g->gates * g->units / parts,
                                  .eps = EPS,
                                  .x = unpadded(g, x),
                                  .hidden = unpadded(g, hidden),
                                  .bias = bias,
                                  .gain_x = g->norm->ih,
                                  .gain_hidden = g->norm->hh,
                                  .normal_x = sums.normal_x,
                                  .normal_hidden = sums.normal_hidden,
                                  .sum = sums.normal};
    TRNN_KERNEL(g->isa, norm_sums_f32)(&norms);
    return sums;
}

/* The two parts of a gate, which may be changed: the input part, and the hidden part of an apart gate with its own bias. */
static float *input_part(general *g, const general_sums *sums, size_t gate)
{
    return g->norm ? sums->normal_x + gate * g->units : unpacked(g, sums->x, gate, g->gates);
}
static float *apart_part(general *g, const general_sums *sums, size_t gate)
{
    float *a = g->norm ? sums->normal_hidden + gate * g->units : unpacked(g, sums->hidden, gate, g->gates);
    if (sums->bias_hh) add(g, a, unpacked(g, sums->bias_hh, gate, g->gates));
    return a;
}

/* A row: its sums, and where what it leaves goes. */
typedef struct {
    general_sums sums;
    const float *h, *between;
    float *state, *y, *tape, *tape_h;
    const float *seen; /* what matrices make of c, packed; NULL: there are none */
    size_t place;      /* of its random numbers: of h, then of c */
    int shows;
} general_row;

/* The sum of a gate, which may be changed. */
TRNN_NOINLINE float *sum_of(general *g, const general_sums *sums, size_t gate)
{
    if (g->norm) return sums->normal + gate * g->units;
    float *a = array_of(g);
    const size_t wide = g->gates * TRNN_PANEL;
    const float *x = sums->x + gate * TRNN_PANEL, *hidden = sums->hidden + gate * TRNN_PANEL;
    for (size_t j = 0; j < g->packed; j += TRNN_PANEL, x += wide, hidden += wide)
        for (size_t i = 0; i < TRNN_PANEL; i++) a[j + i] = no_tiny(x[i] + hidden[i]);
    return a;
}

TRNN_NOINLINE void keep(const general *g, const general_row *row, size_t gate, const float *sum,
                        const float *y)
{
    if (row->tape && (row->shows || !g->norm)) pack_into(g, row->tape, gate, g->gates, row->shows ? y : sum);
}

/* The sum with what a peephole sees. */
static void add_seen(const general *g, const float *p, const float *c, float *a)
{
    if (!p) return;
    add_product(g, a, p, c);
    flush(g, a);
}

/* The gates of an LSTM: numbers of each, and the peepholes, NULL where there are none or where they are matrices. */
typedef struct {
    int coupled;
    size_t candidate, output;
    const float *p_i, *p_f, *p_o;
} lstm_gates;

TRNN_NOINLINE lstm_gates lstm_gates_of(general *g, const float *vectors)
{
    const int coupled = g->facts->gates == 3;
    lstm_gates at = {coupled, coupled ? 1 : 2, coupled ? 2 : 3, NULL, NULL, NULL};
    if (!vectors || g->args->peephole == TRNN_PEEPHOLE_MATRIX) return at;
    at.p_i = unpacked(g, vectors, 0, at.output);
    at.p_f = coupled ? NULL : unpacked(g, vectors, 1, at.output);
    at.p_o = unpacked(g, vectors, at.candidate, at.output);
    return at;
}

/* c = f c + i g, clipped */
static void next_cell(const general *g, float *c, const float *f, const float *i, const float *candidate)
{
    multiply(g, c, f, c);
    add_product(g, c, i, candidate);
    flush(g, c);
    const float most = g->args->cell_clip;
    for (size_t j = 0; most > 0.0f && j < g->units; j++) {
        const float high = c[j] > most ? most : c[j];
        c[j] = high < -most ? -most : high;
    }
}

/* What the output's function reads: c', or LN(c'). */
static const float *normal_cell(general *g, const float *c)
{
    if (!g->norm) return c;
    float *normal = array_of(g);
    TRNN_KERNEL(g->isa, layer_norm_f32)(c, normal, g->units, EPS, g->norm->c, g->norm->c_bias);
    return normal;
}

static void lstm_row(general *g, const lstm_gates *at, const general_row *row)
{
    float *c = row->state;
    float *a_i = sum_of(g, &row->sums, 0), *a_f = at->coupled ? NULL : sum_of(g, &row->sums, 1);
    float *a_g = sum_of(g, &row->sums, at->candidate), *a_o = sum_of(g, &row->sums, at->output);
    float *const seen[] = {a_i, at->coupled ? a_o : a_f, at->coupled ? NULL : a_o};
    for (size_t i = 0; row->seen && i < 3 && seen[i]; i++) {
        add(g, seen[i], unpacked(g, row->seen, i, at->output));
        flush(g, seen[i]);
    }
    add_seen(g, at->p_i, c, a_i);
    add_seen(g, at->p_f, c, a_f);
    const float *i = applied(g, GATE, a_i), *f = a_f ? applied(g, GATE, a_f) : one_minus(g, i);
    const float *candidate = applied(g, CANDIDATE, a_g);
    const float stays = g->args->zoneout_cell;
    float *before = stays > 0.0f ? array_of(g) : NULL;
    if (before) trnn_copy(before, c, g->units * sizeof(float));
    next_cell(g, c, f, i, candidate);
    add_seen(g, at->p_o, c, a_o);
    const float *o = applied(g, GATE, a_o);
    multiply(g, row->y, o, applied(g, OUTPUT, normal_cell(g, c)));
    if (before) zone(g, stays, row->place + g->units, before, c);
    keep(g, row, 0, a_i, i);
    if (a_f) keep(g, row, 1, a_f, f);
    keep(g, row, at->candidate, a_g, candidate);
    keep(g, row, at->output, a_o, o);
}

/* y = n + z (h - n) */
static void mix_states(const general *g, const float *z, const float *n, const float *h, float *y)
{
    subtract(g, y, h, n);
    multiply(g, y, y, z);
    add(g, y, n);
}

static void gru_row(general *g, const general_row *row)
{
    const float *a_r = sum_of(g, &row->sums, 0), *a_z = sum_of(g, &row->sums, 1);
    const float *r = applied(g, GATE, a_r), *z = applied(g, GATE, a_z);
    float *a_n = input_part(g, &row->sums, 2), *hidden = apart_part(g, &row->sums, 2);
    add_product(g, a_n, r, hidden);
    flush(g, a_n);
    const float *n = applied(g, CANDIDATE, a_n);
    mix_states(g, z, n, row->h, row->y);
    keep(g, row, 0, a_r, r);
    keep(g, row, 1, a_z, z);
    keep(g, row, 2, a_n, n);
    if (row->tape_h && !g->norm) pack_into(g, row->tape_h, 2, g->gates, hidden);
}

static void gru_before_row(general *g, const general_row *row)
{
    if (!g->last) {
        const float *a_r = sum_of(g, &row->sums, 0), *a_z = sum_of(g, &row->sums, 1),
                    *r = applied(g, GATE, a_r);
        keep(g, row, 0, a_r, r);
        keep(g, row, 1, a_z, row->shows ? applied(g, GATE, a_z) : a_z);
        multiply(g, row->y, r, row->h);
        return;
    }
    const float *a_n = sum_of(g, &row->sums, 0), *n = applied(g, CANDIDATE, a_n);
    const float *kept = unpacked(g, row->between, 1, g->first);
    mix_states(g, row->shows ? kept : applied(g, GATE, kept), n, row->h, row->y);
    keep(g, row, 0, a_n, n);
}

static void rnn_row(general *g, const general_row *row)
{
    const float *a = sum_of(g, &row->sums, 0);
    apply(g, CANDIDATE, a, row->y);
    if (!row->shows) keep(g, row, 0, a, a); /* no gate has a name */
}

/* A FastGRNN's gate and candidate: their sums and values; share = zeta (1 - z) + nu, which n has in h', with
 * zeta and nu behind their sigmoids. */
typedef struct {
    float *a_z, *a_n;
    const float *z, *rest, *n; /* rest = 1 - z */
    float *share;
    float zeta, nu;
} fastgrnn;

TRNN_NOINLINE float sigmoid_of(const general *g, const float *x)
{
    float y;
    TRNN_KERNEL(g->isa, map_sigmoid)(x, &y, 1, NULL);
    return y;
}

TRNN_NOINLINE fastgrnn fastgrnn_of(general *g, const float *a, const trnn_cell_norm *scalars,
                                   const float *biases)
{
    fastgrnn of = {.zeta = sigmoid_of(g, scalars->c), .nu = sigmoid_of(g, scalars->c_bias)};
    float **const sums[] = {&of.a_z, &of.a_n};
    for (size_t i = 0; i < 2; i++) {
        float *sum = *sums[i] = array_of(g);
        trnn_copy(sum, a, g->units * sizeof(float));
        if (biases) add(g, sum, unpacked(g, biases, i, 2));
        flush(g, sum);
    }
    of.z = applied(g, GATE, of.a_z);
    of.rest = one_minus(g, of.z);
    of.n = applied(g, CANDIDATE, of.a_n);
    of.share = array_of(g);
    for (size_t j = 0; j < g->units; j++) of.share[j] = of.zeta * of.rest[j] + of.nu;
    return of;
}

static void fastgrnn_row(general *g, const trnn_cell *cell, const general_row *row)
{
    const float *a = sum_of(g, &row->sums, 0);
    const fastgrnn of = fastgrnn_of(g, a, cell->options->norm, cell->vectors);
    multiply(g, row->y, of.share, of.n);
    add_product(g, row->y, of.z, row->h);
    keep(g, row, 0, a, of.z);
}

TRNN_NOINLINE void general_step(const trnn_kernels *isa, const trnn_cell *cell, const trnn_cell_facts *facts,
                                int round)
{
    general g = general_of(isa, facts, round, cell->args, cell->options->activations, cell->options->work);
    g.norm = facts->shared ? NULL : cell->options->norm;
    g.seed = cell->options->dice.seed;
    const size_t wide = g.gates * g.packed, rows = (size_t)cell->rows, all = rows * wide;
    float *hidden = g.next, *from_x = hidden + all;
    g.next = from_x + all;
    trnn_product product =
        trnn_product_of(cell->hidden, cell->rows, (int32_t)wide, NULL, cell->h, hidden, cell->scratch);
    product.x_stride = cell->h_stride;
    product.descending = cell->descending;
    if (g.args->rank) { /* U1 (U2 h) */
        const int32_t rank = g.args->rank;
        trnn_product inner = product;
        inner.matrix = trnn_matrix_of(cell->options->factor, cell->hidden.format, 1, rank, cell->units);
        inner.cols = rank;
        inner.y = cell->options->low ? cell->options->low : g.next;
        inner.y_stride = product.x_stride = (size_t)rank;
        product.x = inner.y;
        g.next += rows * (size_t)rank;
        TRNN_KERNEL(isa, product)(&inner);
    }
    TRNN_KERNEL(isa, product)(&product);
    const float *seen = NULL;
    const size_t seen_size = (size_t)facts->vectors * g.packed;
    if (g.args->peephole == TRNN_PEEPHOLE_MATRIX) { /* V c */
        const trnn_matrix matrix =
            trnn_matrix_of(cell->vectors, cell->hidden.format, facts->vectors, cell->units, cell->units);
        trnn_product of_c = trnn_product_of(matrix, cell->rows, (int32_t)seen_size, NULL, cell->states,
                                            g.next, cell->scratch);
        of_c.x_stride = cell->states_stride;
        seen = g.next;
        g.next += rows * seen_size;
        TRNN_KERNEL(isa, product)(&of_c);
    }
    if (cell->input) {
        trnn_product input = *cell->input;
        input.rows = cell->rows;
        input.cols = (int32_t)wide;
        input.y = from_x;
        input.y_stride = wide;
        TRNN_KERNEL(isa, product)(&input);
    }
    const lstm_gates at = lstm_gates_of(&g, facts->states ? cell->vectors : NULL);
    const float *bias = norm_bias(&g);
    float *const arrays = g.next;
    for (size_t r = 0; r < rows; r++, g.next = arrays) {
        const size_t sums = r * cell->gates_stride;
        const general_row row = {
            .sums = sums_of(&g, cell->input ? from_x + r * wide : cell->gates + sums, hidden + r * wide, bias,
                            cell->bias_hh),
            .h = cell->before + r * cell->before_stride,
            .between = round ? cell->between + sums : NULL,
            .state = facts->states ? cell->states + r * cell->states_stride : NULL,
            .y = cell->y + r * cell->y_stride,
            .tape = cell->tape ? cell->tape + sums : NULL,
            .tape_h = cell->tape && facts->apart ? cell->tape_h + sums : NULL,
            .seen = seen ? seen + r * seen_size : NULL,
            .place = cell->options->dice.place + 2 * r * g.units,
            .shows = cell->options->shows,
        };
        if (cell->tape && g.norm && !cell->options->shows)
            trnn_copy(cell->tape_h + sums, hidden + r * wide, wide * sizeof(float));
        if (facts->states)
            lstm_row(&g, &at, &row);
        else if (facts->shared)
            fastgrnn_row(&g, cell, &row);
        else if (facts->gates == 1)
            rnn_row(&g, &row);
        else if (g.two)
            gru_before_row(&g, &row);
        else
            gru_row(&g, &row);
        flush(&g, row.y);
        if (g.last && g.args->zoneout > 0.0f) zone(&g, g.args->zoneout, row.place, row.h, row.y);
    }
}

/* ---- backward pass --------------------------------------------------------------------------------- */

/* A row: its sums, which become their gradients, and the gradient of what it wrote. */
typedef struct {
    float *gates, *hidden, *between, *dvectors, *own, *dstate;
    const float *h, *state, *dh;
    general_sums sums; /* with layer normalisation; then these are their gradients, as lines: */
    float *dx, *dhidden;
    float *dnorm, *dnorm_c; /* as trnn_norm_size has them, those of c' last */
    size_t place;           /* as general_row's */
} general_row_back;

/* A gate's sum on the tape, and its gradient in its place; also for the hidden part, where one is apart. */
static float *kept_sum(general *g, const general_row_back *row, size_t gate)
{
    return g->norm ? sum_of(g, &row->sums, gate) : unpacked(g, row->gates, gate, g->gates);
}
TRNN_NOINLINE void sum_gradient(const general *g, const general_row_back *row, size_t gate, const float *da)
{
    if (g->norm) {
        trnn_copy(row->dx + gate * g->units, da, g->units * sizeof(float));
        trnn_copy(row->dhidden + gate * g->units, da, g->units * sizeof(float));
        return;
    }
    pack_into(g, row->gates, gate, g->gates, da);
    if (g->facts->apart) pack_into(g, row->hidden, gate, g->gates, da);
}

/* a d, and back through the function of x, whose value is y. */
TRNN_NOINLINE float *gradient_of(general *g, int which, const float *x, const float *y, const float *a,
                                 const float *d)
{
    float *da = product_of_arrays(g, a, d);
    apply_back(g, which, x, y, da);
    return da;
}

static void lstm_row_back(general *g, const lstm_gates *at, const general_row_back *row)
{
    const float *c = row->state, *dh = row->dh;
    float *a_i = kept_sum(g, row, 0), *a_f = at->coupled ? NULL : kept_sum(g, row, 1);
    float *a_g = kept_sum(g, row, at->candidate), *a_o = kept_sum(g, row, at->output);
    if (g->norm) {
        add_seen(g, at->p_i, c, a_i);
        add_seen(g, at->p_f, c, a_f);
    }
    const float *i = applied(g, GATE, a_i), *f = a_f ? applied(g, GATE, a_f) : one_minus(g, i);
    const float *candidate = applied(g, CANDIDATE, a_g);
    float *after = array_of(g), *seen = array_of(g), *before = row->dstate;
    trnn_copy(after, c, g->units * sizeof(float));
    next_cell(g, after, f, i, candidate);
    if (g->norm) add_seen(g, at->p_o, after, a_o);
    const float *o = applied(g, GATE, a_o), *read = normal_cell(g, after), *t = applied(g, OUTPUT, read);
    const float *da_o = gradient_of(g, GATE, a_o, o, dh, t);
    float *dc = gradient_of(g, OUTPUT, read, t, dh, o);
    if (g->norm) normalise_back(g, after, dc, g->units, g->norm->c, row->dnorm_c, row->dnorm_c + g->units);
    const float stays = g->args->zoneout_cell,
                *stayed = stays > 0.0f ? zone_back(g, stays, row->place + g->units, row->dstate) : NULL;
    add(g, dc, row->dstate);
    if (at->p_o) add_product(g, dc, da_o, at->p_o);
    const float most = g->args->cell_clip;
    for (size_t j = 0; most > 0.0f && j < g->units; j++) /* what was clipped is at a bound */
        if (after[j] >= most || after[j] <= -most) dc[j] = 0.0f;
    if (a_f)
        trnn_copy(seen, candidate, g->units * sizeof(float));
    else
        subtract(g, seen, candidate, c);
    const float *da_i = gradient_of(g, GATE, a_i, i, dc, seen);
    const float *da_f = a_f ? gradient_of(g, GATE, a_f, f, dc, c) : NULL;
    sum_gradient(g, row, 0, da_i);
    if (da_f) sum_gradient(g, row, 1, da_f);
    sum_gradient(g, row, at->candidate, gradient_of(g, CANDIDATE, a_g, candidate, dc, i));
    sum_gradient(g, row, at->output, da_o);
    multiply(g, before, dc, f);
    if (stayed) add(g, before, stayed);
    if (g->args->peephole == TRNN_PEEPHOLE_MATRIX) { /* the driver multiplies by these, and sums */
        pack_into(g, row->dvectors, 0, at->output, da_i);
        if (da_f) pack_into(g, row->dvectors, 1, at->output, da_f);
        pack_into(g, row->dvectors, at->candidate, at->output, da_o);
    }
    if (at->p_i) {
        add_product(g, before, da_i, at->p_i);
        pack_into(g, row->dvectors, 0, at->output, product_of_arrays(g, da_i, c));
        pack_into(g, row->dvectors, at->candidate, at->output, product_of_arrays(g, da_o, after));
    }
    if (at->p_f) {
        add_product(g, before, da_f, at->p_f);
        pack_into(g, row->dvectors, 1, at->output, product_of_arrays(g, da_f, c));
    }
    flush(g, before);
}

/* dh through z and n = g(a_n): the gradients of their sums; and of h by z. */
TRNN_NOINLINE void mix_states_back(general *g, const general_row_back *row, const float *a_z,
                                   const float *a_n, const float **da_z, const float **da_n)
{
    const float *z = applied(g, GATE, a_z), *n = applied(g, CANDIDATE, a_n);
    float *by_z = array_of(g);
    subtract(g, by_z, row->h, n);
    multiply(g, row->own, row->dh, z);
    *da_z = gradient_of(g, GATE, a_z, z, row->dh, by_z);
    *da_n = gradient_of(g, CANDIDATE, a_n, n, row->dh, one_minus(g, z));
}

static void gru_row_back(general *g, const general_row_back *row)
{
    const float *a_r = kept_sum(g, row, 0), *a_z = kept_sum(g, row, 1), *r = applied(g, GATE, a_r);
    const float *hidden = g->norm ? apart_part(g, &row->sums, 2) : unpacked(g, row->hidden, 2, g->gates);
    float *a_n = g->norm ? input_part(g, &row->sums, 2) : kept_sum(g, row, 2);
    if (g->norm) {
        add_product(g, a_n, r, hidden);
        flush(g, a_n);
    }
    const float *da_z, *da_n;
    mix_states_back(g, row, a_z, a_n, &da_z, &da_n);
    sum_gradient(g, row, 0, gradient_of(g, GATE, a_r, r, da_n, hidden));
    sum_gradient(g, row, 1, da_z);
    sum_gradient(g, row, 2, da_n);
    const float *da_hidden = product_of_arrays(g, da_n, r);
    if (g->norm)
        trnn_copy(row->dhidden + 2 * g->units, da_hidden, g->units * sizeof(float));
    else
        pack_into(g, row->hidden, 2, g->gates, da_hidden);
}

static void gru_before_row_back(general *g, const general_row_back *row)
{
    if (g->last) {
        const float *a_z = unpacked(g, row->between, 1, g->first), *a_n = kept_sum(g, row, 0), *da_z, *da_n;
        mix_states_back(g, row, a_z, a_n, &da_z, &da_n);
        pack_into(g, row->between, 1, g->first, da_z);
        sum_gradient(g, row, 0, da_n);
        return;
    }
    const float *a_r = kept_sum(g, row, 0), *r = applied(g, GATE, a_r);
    sum_gradient(g, row, 0, gradient_of(g, GATE, a_r, r, row->dh, row->h));
    add_product(g, row->own, row->dh, r);
}

static void rnn_row_back(general *g, const general_row_back *row)
{
    const float *a = kept_sum(g, row, 0), *y = applied(g, CANDIDATE, a);
    float *da = array_of(g);
    trnn_copy(da, row->dh, g->units * sizeof(float));
    apply_back(g, CANDIDATE, a, y, da);
    sum_gradient(g, row, 0, da);
}

static void fastgrnn_row_back(general *g, const trnn_cell_back *cell, const general_row_back *row)
{
    const fastgrnn of = fastgrnn_of(g, kept_sum(g, row, 0), cell->options->norm, cell->vectors);
    const float *dshare = product_of_arrays(g, row->dh, of.n);
    float *dz = array_of(g), *da_n = gradient_of(g, CANDIDATE, of.a_n, of.n, row->dh, of.share),
          *da = array_of(g);
    float dzeta = 0.0f, dnu = 0.0f;
    for (size_t j = 0; j < g->units; j++) {
        dzeta += dshare[j] * of.rest[j];
        dnu += dshare[j];
        dz[j] = row->dh[j] * row->h[j] - of.zeta * dshare[j];
    }
    row->dnorm[0] += dzeta * of.zeta * (1.0f - of.zeta);
    row->dnorm[1] += dnu * of.nu * (1.0f - of.nu);
    apply_back(g, GATE, of.a_z, of.z, dz);
    if (cell->vectors) {
        pack_into(g, row->dvectors, 0, 2, dz);
        pack_into(g, row->dvectors, 1, 2, da_n);
    }
    trnn_copy(da, da_n, g->units * sizeof(float));
    add(g, da, dz);
    sum_gradient(g, row, 0, da);
    multiply(g, row->own, row->dh, of.z);
}

/* Adds a line to a packed vector, or puts it there. */
TRNN_NOINLINE void pack_line(general *g, float *packed, const float *line, int adds)
{
    float *const arrays = g->next;
    for (size_t gate = 0; gate < g->gates; gate++, g->next = arrays) {
        float *array = array_of(g);
        trnn_copy(array, line + gate * g->units, g->units * sizeof(float));
        if (adds) add(g, array, unpacked(g, packed, gate, g->gates));
        pack_into(g, packed, gate, g->gates, array);
    }
}

/* From the gradients of the normalised parts to those of the products, and of what joins in. */
static void norm_row_back(general *g, const general_row_back *row)
{
    const size_t size = g->gates * g->units, packed = g->gates * g->packed;
    float *to = row->dnorm;
    if (g->norm->bias) {
        pack_line(g, to, row->dx, 1);
        pack_line(g, to + packed, row->dhidden, 1);
        to += 2 * packed;
    }
    normalise_back(g, line_of(g, row->gates), row->dx, size, g->norm->ih, to, NULL);
    normalise_back(g, line_of(g, row->hidden), row->dhidden, size, g->norm->hh, to + size, NULL);
    pack_line(g, row->gates, row->dx, 0);
    pack_line(g, row->hidden, row->dhidden, 0);
}

TRNN_NOINLINE void general_back(const trnn_kernels *isa, const trnn_cell_back *cell,
                                const trnn_cell_facts *facts, int round)
{
    general g = general_of(isa, facts, round, cell->args, cell->options->activations, cell->options->work);
    g.norm = facts->shared ? NULL : cell->options->norm;
    g.seed = cell->options->dice.seed;
    const lstm_gates at = lstm_gates_of(&g, facts->states ? cell->vectors : NULL);
    const float *bias = norm_bias(&g);
    float *const arrays = g.next;
    for (size_t r = 0; r < (size_t)cell->rows; r++, g.next = arrays) {
        const size_t sums = r * cell->gates_stride, h = r * cell->h_stride;
        float *dh = array_of(&g), *own = cell->dh_own ? cell->dh_own + h : NULL;
        trnn_copy(dh, cell->dh_sum + h, g.units * sizeof(float));
        flush(&g, dh);
        if (own && g.last) add(&g, dh, own);
        if (g.last && cell->dy) add(&g, dh, cell->dy + r * cell->dy_stride);
        const size_t place = cell->options->dice.place + 2 * r * g.units;
        const float stays = g.last ? g.args->zoneout : 0.0f,
                    *stayed = stays > 0.0f ? zone_back(&g, stays, place, dh) : NULL;
        float *dnorm = cell->options->norm ? cell->dnorm + r * cell->dnorm_stride : NULL;
        general_row_back row = {
            .gates = cell->gates + sums,
            .hidden = facts->apart || g.norm ? cell->hidden + sums : NULL,
            .between = round ? cell->between + sums : NULL,
            .dvectors = facts->vectors && cell->vectors ? cell->dvectors + r * cell->dvectors_stride : NULL,
            .own = own,
            .dstate = facts->states ? cell->dstates + r * cell->states_stride : NULL,
            .h = facts->own ? cell->h_before + h : NULL,
            .state = facts->states ? cell->states_before + r * cell->states_stride : NULL,
            .dh = dh,
            .dnorm = dnorm,
            .dnorm_c = g.norm ? dnorm + cell->dnorm_stride - 2 * g.units : NULL,
            .place = place,
        };
        if (g.norm) {
            row.sums = sums_of(&g, row.gates, row.hidden, bias, cell->bias_hh);
            row.dx = line_after(&g);
            row.dhidden = line_after(&g);
        }
        if (facts->states)
            lstm_row_back(&g, &at, &row);
        else if (facts->shared)
            fastgrnn_row_back(&g, cell, &row);
        else if (facts->gates == 1)
            rnn_row_back(&g, &row);
        else if (g.two)
            gru_before_row_back(&g, &row);
        else
            gru_row_back(&g, &row);
        if (stayed && !facts->own) trnn_zero(own, g.units * sizeof(float));
        if (stayed) add(&g, own, stayed);
        if (g.norm) norm_row_back(&g, &row);
        if (own && (!g.two || !g.last)) flush(&g, own);
    }
}

/* ---- the output of a Jordan network ---------------------------------------------------------------- */

static general output_of(const trnn_kernels *isa, const trnn_recurrent_args *args, int reverse, float *work)
{
    const size_t size = (size_t)args->proj_size;
    return (general){.isa = isa,
                     .args = args,
                     .functions = args->activations[reverse],
                     .units = size,
                     .packed = (size + TRNN_PANEL - 1) / TRNN_PANEL * TRNN_PANEL,
                     .next = work};
}

static void jordan_output(const trnn_kernels *isa, const trnn_recurrent_args *args, int reverse, int32_t rows,
                          const float *sums, float *y, size_t y_stride)
{
    const general g = output_of(isa, args, reverse, NULL);
    for (size_t r = 0; r < (size_t)rows; r++) {
        apply(&g, OUTPUT, sums + r * g.units, y + r * y_stride);
        flush(&g, y + r * y_stride);
    }
}

static void jordan_output_back(const trnn_kernels *isa, const trnn_recurrent_args *args, int reverse,
                               float *sums, const float *y, const float *dy, float *work)
{
    general g = output_of(isa, args, reverse, work);
    float *d = array_of(&g);
    trnn_copy(d, dy, g.units * sizeof(float));
    apply_back(&g, OUTPUT, sums, y, d);
    trnn_copy(sums, d, g.units * sizeof(float));
}

/* ---- arguments and tensors ------------------------------------------------------------------------- */

/* Of the slots from NORM_IH on, and behind them a FastGRNN's of the last two. */
static const char *const norm_names[2][RECURRENT_SLOTS - NORM_IH + 2] = {
    {"weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c", "zeta", "nu"},
    {"weight_ln_ih_reverse", "weight_ln_hh_reverse", "weight_ln_c_reverse", "bias_ln_c_reverse",
     "zeta_reverse", "nu_reverse"},
};

static int general_takes(const trnn_recurrent_args *a, const trnn_cell_facts *facts)
{
    for (int i = 0; i < 6; i++) {
        const trnn_cell_activation f = a->activations[i / 3][i % 3];
        if (f.function < 0 || f.function >= TRNN_CELL_FUNCTIONS) return 0;
        if (!(f.alpha - f.alpha == 0.0f) || !(f.beta - f.beta == 0.0f)) return 0;
    }
    if (!trnn_is_flag(a->layer_norm) || (a->layer_norm && !facts->layer_norm)) return 0;
    if (!(a->cell_clip >= 0.0f) || !(a->cell_clip - a->cell_clip == 0.0f)) return 0;
    if (a->cell_clip > 0.0f && !facts->states) return 0;
    if (a->rank < 0 || a->rank > a->hidden_size || (a->rank && !facts->shared)) return 0;
    if (a->input_rank < 0 || a->input_rank > a->hidden_size || (a->input_rank && !facts->shared)) return 0;
    if (a->peephole == TRNN_PEEPHOLE_MATRIX && a->layer_norm) return 0;
    if (!trnn_is_share(a->zoneout) || !trnn_is_share(a->zoneout_cell)) return 0;
    if ((a->zoneout > 0.0f || a->zoneout_cell > 0.0f) && (a->proj_size || facts->shared)) return 0;
    if (a->zoneout_cell > 0.0f && !facts->states) return 0;
    return a->clip >= 0.0f && a->clip - a->clip == 0.0f;
}

static void general_params(const trnn_layer *layer, int32_t d, trnn_param *params)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    if (trnn_facts_of(layer)->output && a->bias)
        trnn_param_bias(&params[BIAS_HR], d ? "bias_hr_reverse" : "bias_hr", 1, a->proj_size);
    if (a->input_rank)
        trnn_param_panels(&params[WEIGHT_IR], d ? "weight_ir_reverse" : "weight_ir", layer->format, 1,
                          a->input_rank, a->input_size);
    const char *const *names = norm_names[d] + 2 * trnn_facts_of(layer)->shared;
    for (int32_t slot = NORM_IH; slot < RECURRENT_SLOTS; slot++)
        if (trnn_norm_size(layer, slot))
            trnn_param_vector(&params[slot], names[slot - NORM_IH], (int32_t)trnn_norm_size(layer, slot));
}

static const trnn_recurrent_general general_options = {general_takes, general_params, jordan_output,
                                                       jordan_output_back};

/* ---- every cell ------------------------------------------------------------------------------------ */

#define STEPS(lower, step, round)                                                          \
    static void lower##_##step(const trnn_kernels *isa, const trnn_cell *cell)             \
    {                                                                                      \
        general_step(isa, cell, &lower##_kind.facts, round);                               \
    }                                                                                      \
    static void lower##_##step##_back(const trnn_kernels *isa, const trnn_cell_back *cell) \
    {                                                                                      \
        general_back(isa, cell, &lower##_kind.facts, round);                               \
    }

#define LAST_ROUND(lower, round, first, first_back, rounds, ...)                                \
    STEPS(lower, step, round)                                                                   \
    static const trnn_recurrent_kind lower##_kind = {.facts = {__VA_ARGS__},                    \
                                                     .step = lower##_step,                      \
                                                     .round1 = first,                           \
                                                     .two = rounds,                             \
                                                     .general = &general_options};              \
    static const trnn_recurrent_back lower##_back = {                                           \
        .step_taped = lower##_step, .step_back = lower##_step_back, .round1_back = first_back}; \
    TRNN_RECURRENT_LAYER(lower)

#define GENERAL(lower, ...)                        \
    static const trnn_recurrent_kind lower##_kind; \
    LAST_ROUND(lower, 0, NULL, NULL, NULL, __VA_ARGS__)

#define GENERAL_TWO(lower, ...)                    \
    static const trnn_recurrent_kind lower##_kind; \
    STEPS(lower, step1, 0)                         \
    LAST_ROUND(lower, 1, lower##_step1, lower##_step1_back, &trnn_recurrent_rounds, __VA_ARGS__)

#define PEEPHOLES .vector_names = {"weight_peephole", "weight_peephole_reverse"}, .peephole = 1

GENERAL(rnn_general, .gates = 1)
GENERAL(lstm_general, .gates = 4, .states = 1, .gate_names = "ifgo", .projection = 1, .vectors = 3,
        .layer_norm = 1, PEEPHOLES)
GENERAL(lstm_coupled_general, .gates = 3, .states = 1, .gate_names = "igo", .projection = 1, .vectors = 2,
        .layer_norm = 1, PEEPHOLES)
GENERAL(gru_general, .gates = 3, .apart = 1u << 2, .own = 1, .gate_names = "rzn", .layer_norm = 1)
GENERAL_TWO(gru_before_general, .gates = 3, .second = 1, .own = 1, .gate_names = "rzn")
GENERAL(fastgrnn, .gates = 1, .own = 1, .gate_names = "z", .vectors = 2,
        .vector_names = {"bias_ih", "bias_ih_reverse"}, .shared = 1)
GENERAL(jordan, .gates = 1, .projection = 1, .output = 1)
