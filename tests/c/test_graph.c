/* Nets that are graphs: a chain given as a graph; concat, slice and arithmetic along each axis; random graphs against a
 * reference in double, with the same bits in every way of running them; their gradients against differences of the
 * reference; how well values share scratch; nets that cannot be. */
#include "check.h"
#include "../../csrc/layers/layer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 9, BATCH = 3, PORTS = 4, VALUES = PORTS + LAYERS_MAX, GRAPHS = 120 };

static const int32_t ends[BATCH] = {4, 9, 1};

static const uint32_t unwritten = 0x7fc5a5a5u; /* a NaN that nothing computes */

static void mark(const memory *m)
{
    for (size_t i = 0; i < m->bytes / sizeof(float); i++) memcpy(m->at + i, &unwritten, sizeof unwritten);
}

static size_t marks(const memory *m)
{
    size_t left = 0;
    for (size_t i = 0; i < m->bytes / sizeof(float); i++)
        left += memcmp(m->at + i, &unwritten, sizeof unwritten) == 0;
    return left;
}

static int same(const memory *a, const memory *b)
{
    return a->bytes == b->bytes && memcmp(a->at, b->at, a->bytes) == 0;
}

/* ---- random graphs ------------------------------------------------------------------------------ */

typedef struct {
    model m; /* its name and its layers */
    trnn_reads reads[LAYERS_MAX];
    int32_t twin[LAYERS_MAX]; /* the layer whose weights it has: its own number, or that of an equal one */
    int32_t inputs, outputs;  /* the last `copies` outputs are also another output, or an input */
    int32_t copies;
    int32_t output[PORTS];
    int32_t width[VALUES], axis[VALUES], root[VALUES]; /* of each value: (1, 1, width) */
} graph;

static trnn_net net_of(const graph *g, int32_t outputs)
{
    trnn_net net = {g->m.layers, g->m.count, g->reads, g->inputs, outputs, {{{0, 0, 0}, 0}}, {0}};
    for (int32_t i = 0; i < g->inputs; i++) net.input[i] = (trnn_value){{1, 1, g->width[i]}, g->axis[i]};
    memcpy(net.output, g->output, (size_t)outputs * sizeof g->output[0]);
    return net;
}

/* What is known of a graph while it is drawn. */
typedef struct {
    graph *g;
    dice *d;
    int32_t uses[VALUES];
    int matrix[VALUES];  /* its frame is a matrix, which only one layer reads */
    int bounded[VALUES]; /* within about +-1, so that a product or a loop does not grow without end */
    int delays;
} sketch;

static int32_t roll(dice *d, int32_t sides) { return (int32_t)((dice_roll(d) >> 8) % (uint32_t)sides); }

/* A value, rather one that nobody reads yet. */
static int32_t pick(const sketch *s)
{
    const int32_t values = s->g->inputs + s->g->m.count;
    int32_t v = roll(s->d, values);
    for (int32_t i = 0; i < values && s->uses[v] && roll(s->d, 4); i++) v = roll(s->d, values);
    while (s->matrix[v]) v--; /* the first value is none */
    return v;
}

/* Adds a layer that reads `count` values, and writes `width` numbers. */
static int32_t put(sketch *s, trnn_layer layer, int32_t width, int bounded, int32_t count,
                   const int32_t *reads)
{
    graph *g = s->g;
    const int32_t i = g->m.count++, v = g->inputs + i;
    g->m.layers[i] = layer;
    g->reads[i].count = count;
    g->width[v] = width;
    g->axis[v] = 0;
    g->root[v] = layer.type == &trnn_identity || layer.type == &trnn_reshape ? g->root[reads[0]] : v;
    s->uses[v] = 0;
    s->matrix[v] = 0;
    s->bounded[v] = bounded;
    for (int32_t r = 0; r < count; r++) {
        g->reads[i].value[r] = reads[r];
        if (reads[r] < v && g->axis[reads[r]]) g->axis[v] = 1;
        s->uses[reads[r]]++;
    }
    return v;
}

static const trnn_layer two_values[] = {PLAIN(add), PLAIN(subtract), PLAIN(minimum), PLAIN(maximum),
                                        PLAIN(lt),  PLAIN(ge),       PLAIN(multiply)};
enum { TWO_VALUES = sizeof two_values / sizeof two_values[0] };

static void draw_two(sketch *s)
{
    const graph *g = s->g;
    const trnn_layer layer = two_values[roll(s->d, TWO_VALUES)];
    int32_t reads[2] = {pick(s), roll(s->d, 3) ? pick(s) : roll(s->d, g->inputs)};
    const int32_t a = g->width[reads[0]], b = g->width[reads[1]];
    if (a != b && a != 1 && b != 1) reads[1] = reads[0]; /* a value that is read twice */
    if (s->delays && !g->axis[reads[0]] && !g->axis[reads[1]]) return;
    const int first = s->bounded[reads[0]], second = s->bounded[reads[1]];
    const int32_t width = a != b && b > a && reads[1] != reads[0] ? b : a;
    const int compares = layer.type == &trnn_lt || layer.type == &trnn_ge;
    if (layer.type != &trnn_multiply || first || second)
        put(s, layer, width, compares || (first && second), 2, reads);
}

/* A choice between two values, by a third one. */
static void draw_where(sketch *s)
{
    const graph *g = s->g;
    int32_t reads[3], width = 1;
    int per_step = !s->delays;
    for (int i = 0; i < 3; i++) {
        reads[i] = pick(s);
        if (g->width[reads[i]] != 1 && width != 1 && g->width[reads[i]] != width) reads[i] = reads[i - 1];
        if (g->width[reads[i]] != 1) width = g->width[reads[i]];
        per_step |= g->axis[reads[i]];
    }
    if (per_step)
        put(s, (trnn_layer)PLAIN(where), width, s->bounded[reads[1]] && s->bounded[reads[2]], 3, reads);
}

/* A power of numbers above 0. */
static void draw_power(sketch *s)
{
    int32_t reads[2] = {pick(s), pick(s)};
    if (!s->bounded[reads[0]] || !s->bounded[reads[1]] || (s->delays && !s->g->axis[reads[0]])) return;
    const int32_t a = s->g->width[reads[0]], b = s->g->width[reads[1]];
    reads[0] = put(s, (trnn_layer)PLAIN(exp), a, 0, 1, &reads[0]);
    if (a != b && a != 1 && b != 1) reads[1] = reads[0];
    put(s, (trnn_layer)PLAIN(raise), reads[1] == reads[0] || a != 1 ? a : b, 0, 2, reads);
}

/* A value times another one as a matrix, whose rows are as many as the value has columns. */
static void draw_matmul(sketch *s)
{
    int32_t reads[2] = {pick(s), pick(s)};
    const int32_t depth = s->g->width[reads[0]], numbers = s->g->width[reads[1]], cols = numbers / depth;
    if (cols == 0 || cols * depth != numbers || !s->bounded[reads[0]]) return;
    if (s->delays && (!s->g->axis[reads[0]] || !s->g->axis[reads[1]])) return;
    const trnn_layer shape = {TRNN_TRAINED(reshape), .as.reshape = {1, depth, -1}};
    reads[1] = put(s, shape, numbers, s->bounded[reads[1]], 1, &reads[1]);
    s->matrix[reads[1]] = 1;
    put(s, (trnn_layer)PLAIN(matmul), cols, 0, 2, reads);
}

static const trnn_layer_type *const reductions[] = {
    &trnn_sum, &trnn_mean, &trnn_amax, &trnn_amin, &trnn_var, &trnn_prod, &trnn_vector_norm, &trnn_logsumexp};
static const trnn_layer_training *const reductions_trained[] = {
    &trnn_sum_training, &trnn_mean_training, &trnn_amax_training,        &trnn_amin_training,
    &trnn_var_training, &trnn_prod_training, &trnn_vector_norm_training, &trnn_logsumexp_training};

static void draw_reduction(sketch *s, int32_t v)
{
    const int32_t kind = roll(s->d, 8);
    const trnn_layer layer = {.type = reductions[kind],
                              .training = reductions_trained[kind],
                              .as.reduce = {.cols = 1, .keep = roll(s->d, 2), .correction = 0}};
    const int bounded = s->bounded[v];
    if (bounded || kind == 2 || kind == 3) put(s, layer, 1, bounded && kind > 0 && kind < 6, 1, &v);
}

static void draw_padding(sketch *s, int32_t v)
{
    trnn_layer layer = {TRNN_TRAINED(padding), .as.padding = {.value = 0.5f}};
    trnn_padding_args *a = &layer.as.padding;
    const int32_t width = s->g->width[v];
    a->mode = roll(s->d, 4);
    a->cols_before = a->mode == TRNN_PAD_ZEROS && width > 1 ? roll(s->d, 3) - 1 : roll(s->d, 2);
    a->cols_after = roll(s->d, 3);
    const int32_t most = a->mode == TRNN_PAD_REFLECT ? width - 1 : width;
    if (a->mode != TRNN_PAD_ZEROS && (a->cols_before > most || a->cols_after > most)) return;
    put(s, layer, width + a->cols_before + a->cols_after, s->bounded[v], 1, &v);
}

static void draw_concat(sketch *s)
{
    const trnn_layer layer = {TRNN_TRAINED(concat), .as.concat = {TRNN_COLS}};
    int32_t reads[TRNN_READS_MAX], width = 0, count = 1 + roll(s->d, 4);
    int bounded = 1, per_step = !s->delays;
    for (int32_t r = 0; r < count; r++) {
        reads[r] = pick(s);
        width += s->g->width[reads[r]];
        bounded &= s->bounded[reads[r]];
        per_step |= s->g->axis[reads[r]];
    }
    if (per_step) put(s, layer, width, bounded, count, reads);
}

/* A value per sequence of a multiple of `size` numbers, at least `least` and at most `most`; -1: not found. */
static int32_t find_start(const sketch *s, int32_t size, int32_t least, int32_t most)
{
    const graph *g = s->g;
    const int32_t values = g->inputs + g->m.count, first = roll(s->d, values);
    for (int32_t k = 0; k < values; k++) {
        const int32_t v = (first + k) % values;
        if (!g->axis[v] && g->width[v] % size == 0 && g->width[v] >= least && g->width[v] <= most) return v;
    }
    return -1;
}

/* Most recurrent layers and delays begin with values where they can; these follow what they read already. */
static void draw_starts(sketch *s, trnn_layer *layer, trnn_reads *reads)
{
    const int delay = layer->type == &trnn_delay, lstm = layer->type == &trnn_lstm;
    const int32_t size = delay ? layer->as.delay.cols : layer->as.recurrent.hidden_size, own = reads->count;
    int32_t level = 0;
    if (roll(s->d, 8) == 0) return;
    for (int32_t r = 0; r < 1 + lstm; r++) {
        int32_t v = find_start(s, size, (level + 1) * size, delay ? size : VALUES * 18);
        const int32_t width = (level + 1 + roll(s->d, 2) * !delay) * size;
        const int32_t from = find_start(s, 1, 1, VALUES * 18);
        if (from >= 0 && !s->delays && (v < 0 || roll(s->d, 2)))
            v = put(s, (trnn_layer)LINEAR(s->g->width[from], width, 1), width, 0, 1, &from);
        if (v < 0) break;
        reads->value[reads->count++] = v;
        if (!r && !delay) level = layer->as.recurrent.level = roll(s->d, s->g->width[v] / size);
    }
    if (reads->count != own + 1 + lstm) reads->count = own;
}

/* A delay of what is there, or of what comes later: then close_loop() follows. */
static void draw_delay(sketch *s)
{
    const int32_t v = pick(s), width = s->g->width[v], steps = 1 + roll(s->d, 3);
    const int back = roll(s->d, 3) > 0;
    trnn_layer layer = {TRNN_TRAINED(delay), .as.delay = {1, 1, width, steps}};
    trnn_reads reads = {1, {v}};
    if (!s->g->axis[v] || s->delays == 3) return;
    draw_starts(s, &layer, &reads);
    const int bounded = (back || s->bounded[v]) && (reads.count == 1 || s->bounded[reads.value[1]]);
    const int32_t own = put(s, layer, width, bounded, reads.count, reads.value);
    s->g->axis[own] = 1;
    s->delays++;
    if (!back) return;
    s->g->reads[s->g->m.count - 1].value[0] = -1;
    s->uses[v]--;
}

/* Some recurrent layers read a mask: whether a number of what they read is below another. */
static void draw_mask(sketch *s, trnn_reads *reads)
{
    const int32_t v = reads->value[0], width = s->g->width[v], first = roll(s->d, width);
    if (width == 1 || s->g->m.count > LAYERS_MAX - 16 || roll(s->d, 3)) return;
    int32_t number[2];
    for (int i = 0; i < 2; i++) {
        const trnn_slice_args one = {TRNN_COLS, (first + i) % width, 1};
        number[i] = put(s, (trnn_layer){TRNN_TRAINED(slice), .as.slice = one}, 1, s->bounded[v], 1, &v);
    }
    reads->value[reads->count++] = put(s, (trnn_layer)PLAIN(lt), 1, 1, 2, number);
}

static void draw_recurrent(sketch *s, trnn_layer layer, int32_t v)
{
    trnn_reads reads = {1, {v}};
    draw_mask(s, &reads);
    const int32_t own = reads.count;
    draw_starts(s, &layer, &reads);
    const int bounded = reads.count == own || s->bounded[reads.value[own]];
    put(s, layer, layer.as.recurrent.hidden_size, bounded, reads.count, reads.value);
}

static void draw_layer(sketch *s)
{
    static const int32_t widths[] = {1, 3, 18};
    const int32_t v = pick(s), width = s->g->width[v], out = widths[roll(s->d, 3)], per_step = s->g->axis[v];
    const int bounded = s->bounded[v];
    const int32_t start = roll(s->d, width), size = 1 + roll(s->d, width - start);
    if (s->delays && !per_step) return; /* a loop has only layers per step */
    switch (roll(s->d, 20)) {
    case 0: put(s, (trnn_layer)LINEAR(width, out, roll(s->d, 2)), out, 0, 1, &v); break;
    case 1:
        if (per_step) draw_recurrent(s, (trnn_layer)RECURRENT(lstm, width, out, .bias = 1), v);
        break;
    case 2:
        if (per_step) draw_recurrent(s, (trnn_layer)RECURRENT(gru, width, out, .bias = 1), v);
        break;
    case 3: put(s, (trnn_layer)PLAIN(relu), width, bounded, 1, &v); break;
    case 4: put(s, (trnn_layer)PLAIN(tanh), width, 1, 1, &v); break;
    case 5: put(s, (trnn_layer)PLAIN(identity), width, bounded, 1, &v); break;
    case 6:
        if (width == 18 && roll(s->d, 2))
            put(s, (trnn_layer)NORM(group_norm, 18, 1, 1, .groups = 3), width, 0, 1, &v);
        else if (width > 2)
            put(s, (trnn_layer)NORM(layer_norm, width, 1, 1), width, 0, 1, &v);
        break;
    case 7:
        put(s, (trnn_layer){TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, start, size}}, size, bounded, 1, &v);
        break;
    case 8: draw_concat(s); break;
    case 9: draw_delay(s); break;
    case 10: draw_where(s); break;
    case 11: draw_power(s); break;
    case 12:
    case 13: draw_matmul(s); break;
    case 14: draw_reduction(s, v); break;
    case 15: draw_padding(s, v); break;
    case 16: put(s, (trnn_layer)CONV1D(1, 1, 3, 1, 1, 1, 1, 1, 1), width, 0, 1, &v); break;
    case 17:
        put(s, (trnn_layer)POOL(avg_pool, 1, 1, 0, 1, 3, 2, 1, 1, 0, 1), (width - 1) / 2 + 1, bounded, 1, &v);
        break;
    default: draw_two(s);
    }
}

/* Gives a delay what it reads: tanh of a linear layer of what was made since, or its own value. */
static void close_loop(sketch *s, int32_t i)
{
    graph *g = s->g;
    const int32_t own = g->inputs + i;
    int32_t v = own + roll(s->d, g->inputs + g->m.count - own);
    if (!g->axis[v] || s->matrix[v]) v = own;
    if (roll(s->d, 8)) {
        v = put(s, (trnn_layer)LINEAR(g->width[v], g->width[own], 1), g->width[own], 0, 1, &v);
        v = put(s, (trnn_layer)PLAIN(tanh), g->width[own], 1, 1, &v);
    } else {
        v = own;
    }
    g->reads[i].value[0] = v;
    s->uses[v]++;
}

static void put_output(sketch *s, int32_t v)
{
    s->g->output[s->g->outputs++] = v;
    s->uses[v]++;
}

static int has_root(const graph *g, int32_t root)
{
    for (int32_t o = 0; o < g->outputs; o++)
        if (g->root[g->output[o]] == root) return 1;
    return 0;
}

/* What nobody reads is an output; of more than two such values the first ones are joined before. */
static void end_graph(sketch *s)
{
    graph *g = s->g;
    for (int joined = 1; joined;) {
        trnn_reads unread = {0, {0}};
        int32_t width = 0, all = 0;
        joined = 0;
        for (int32_t v = 0; v < g->inputs + g->m.count; v++)
            if (!s->uses[v] && ++all && unread.count < TRNN_READS_MAX) {
                unread.value[unread.count++] = v;
                width += g->width[v];
            }
        if (all <= 2) break;
        const trnn_layer layer = {TRNN_TRAINED(concat), .as.concat = {TRNN_COLS}};
        put(s, layer, width, 0, unread.count, unread.value);
        joined = 1;
    }
    const int32_t values = g->inputs + g->m.count;
    for (int32_t v = 0; v < values; v++)
        if (!s->uses[v]) put_output(s, v);
    if (g->outputs == 0) put_output(s, values - 1);
    const int32_t other = roll(s->d, values); /* an output that others read */
    if (!has_root(g, g->root[other])) put_output(s, other);
    if (roll(s->d, 3) == 0) g->copies = 1, put_output(s, roll(s->d, 2) ? g->output[0] : 0);
}

static int masked(const graph *g, int32_t i)
{
    return g->m.layers[i].type->masks && g->reads[i].count > 1 && g->axis[g->reads[i].value[1]];
}

static int begins(const graph *g, int32_t i)
{
    return g->m.layers[i].type->state && g->reads[i].count > 1 + masked(g, i);
}

static graph graph_draw(int32_t number)
{
    graph g;
    memset(&g, 0, sizeof g);
    snprintf(g.m.name, sizeof g.m.name, "graph %d", (int)number);
    dice d = dice_named(g.m.name);
    sketch s = {.g = &g, .d = &d};
    g.inputs = 1 + roll(&d, 3);
    for (int32_t i = 0; i < g.inputs; i++) {
        g.width[i] = i == 0 ? 3 : 1 + roll(&d, 4);
        g.axis[i] = i == 0 || roll(&d, 2);
        g.root[i] = i;
    }
    const int32_t layers = 2 + roll(&d, 9);
    for (int32_t i = 0; i < 4 * layers && g.m.count < layers; i++) draw_layer(&s);
    for (int32_t i = g.m.count; i-- > 0;)
        if (g.reads[i].value[0] < 0) close_loop(&s, i);
    end_graph(&s);
    for (int32_t i = 0; i < g.m.count; i++) {
        g.twin[i] = i;
        for (int32_t j = 0; j < i && g.twin[i] == i; j++)
            if (memcmp(&g.m.layers[i], &g.m.layers[j], sizeof g.m.layers[i]) == 0) g.twin[i] = g.twin[j];
    }
    return g;
}

/* Weights of which equal layers have the same. */
static weights weights_of(const graph *g)
{
    weights w = weights_roll(&g->m);
    for (int32_t i = 0; i < g->m.count; i++) w.pointers[i] = w.pointers[g->twin[i]];
    return w;
}

/* Frames of a value. */
static size_t frames_of(int32_t axis, int32_t steps) { return (size_t)(axis ? steps : 1) * BATCH; }

/* Memory for a value of (STEPS, BATCH, width), or (BATCH, width). */
static memory value_take(const graph *g, int32_t v)
{
    return memory_floats(frames_of(g->axis[v], STEPS) * (size_t)g->width[v]);
}

static void roll_into(const memory *m, dice *d, int exponent)
{
    for (size_t i = 0; i < m->bytes / sizeof(float); i++) m->at[i] = dice_float(d, exponent);
}

/* ---- the reference ---------------------------------------------------------------------------------- */

/* All numbers that a net's outputs depend on, in double: weights, then x and state of all rows. */
typedef struct {
    const graph *g;
    double *all;
    size_t count;
    size_t tensor[LAYERS_MAX][TRNN_PARAMS_MAX]; /* their places, x as (steps, batch, width) */
    size_t weights_end[LAYERS_MAX];
    size_t x[PORTS], state;
    size_t row_state, offset[LAYERS_MAX]; /* floats of a row's state, and a layer's place in it */
    size_t mark[LAYERS_MAX]; /* place of the number that says whether the layer's state has begun */
} point;

static double *take_doubles(size_t count)
{
    double *all = calloc(count + 1, sizeof *all);
    if (!all) abort();
    return all;
}

/* The layer's packed tensors as doubles, in the order of params(); returns how many numbers. */
static size_t unpack(const trnn_layer *layer, const void *packed, double *to, size_t *places)
{
    trnn_param params[TRNN_PARAMS_MAX];
    const int32_t count = trnn_layer_params(layer, params);
    size_t at = 0;
    for (int32_t p = 0; p < count; p++) {
        tensor one = tensor_take(&params[p]);
        if (to) trnn_param_unpack(&params[p], packed, one.numbers.at, NULL);
        if (places) places[p] = at;
        for (size_t k = 0; k < one.rows * one.cols; k++, at++)
            if (to) to[at] = (double)one.numbers.at[k];
        tensor_release(&one);
    }
    return at;
}

static point point_of(const graph *g, const weights *w, const memory *x, const memory *state,
                      const trnn_plan *plan)
{
    point p = {.g = g, .row_state = state->bytes / sizeof(float) / BATCH};
    for (int32_t i = 0; i < g->m.count; i++) {
        size_t numbers;
        trnn_plan_state(plan, i, &p.offset[i], &numbers);
        p.mark[i] = p.offset[i] + numbers;
        if (g->twin[i] != i) continue;
        const size_t at = p.count;
        p.count += unpack(&g->m.layers[i], NULL, NULL, p.tensor[i]);
        for (int32_t t = 0; t < TRNN_PARAMS_MAX; t++) p.tensor[i][t] += at;
        p.weights_end[i] = p.count;
    }
    for (int32_t i = 0; i < g->inputs; i++) p.x[i] = p.count, p.count += x[i].bytes / sizeof(float);
    p.state = p.count;
    p.count += state->bytes / sizeof(float);
    p.all = take_doubles(p.count);
    for (int32_t i = 0; i < g->m.count; i++)
        if (g->twin[i] == i && w->pointers[i])
            unpack(&g->m.layers[i], w->pointers[i], p.all + p.tensor[i][0], NULL);
    for (int32_t i = 0; i < g->inputs; i++)
        for (size_t k = 0; k < x[i].bytes / sizeof(float); k++) p.all[p.x[i] + k] = (double)x[i].at[k];
    for (size_t k = 0; k < state->bytes / sizeof(float); k++) p.all[p.state + k] = (double)state->at[k];
    return p;
}

/* y = b + W x */
static void affine(double *y, const double *w, const double *b, const double *x, int32_t rows, int32_t cols)
{
    for (int32_t r = 0; r < rows; r++) {
        y[r] = b ? b[r] : 0;
        for (int32_t c = 0; c < cols; c++) y[r] += w[r * cols + c] * x[c];
    }
}

static double sigmoid_of(double x) { return 1 / (1 + exp(-x)); }

/* One step of an LSTM or a GRU; `state` is h, then c. */
static void step_cell(const trnn_layer *layer, double *const *tensor, const double *x, double *state,
                      double *y)
{
    const int32_t size = layer->as.recurrent.hidden_size, lstm = layer->type == &trnn_lstm;
    double in[4 * 18], hidden[4 * 18], *const c = state + size;
    affine(in, tensor[0], tensor[2], x, (lstm ? 4 : 3) * size, layer->as.recurrent.input_size);
    affine(hidden, tensor[1], tensor[3], state, (lstm ? 4 : 3) * size, size);
    for (int32_t j = 0; j < size; j++) {
        const double first = sigmoid_of(in[j] + hidden[j]),
                     second = sigmoid_of(in[size + j] + hidden[size + j]), of = hidden[2 * size + j];
        if (lstm) {
            c[j] = second * c[j] + first * tanh(in[2 * size + j] + of);
            state[j] = sigmoid_of(in[3 * size + j] + hidden[3 * size + j]) * tanh(c[j]);
        } else {
            state[j] = (1 - second) * tanh(in[2 * size + j] + first * of) + second * state[j];
        }
        y[j] = state[j];
    }
}

static double joined(const trnn_layer_type *type, double a, double b)
{
    if (type == &trnn_add) return a + b;
    if (type == &trnn_subtract) return a - b;
    if (type == &trnn_multiply) return a * b;
    if (type == &trnn_raise) return pow(a, b);
    if (type == &trnn_lt) return a < b;
    if (type == &trnn_ge) return a >= b;
    return type == &trnn_minimum ? fmin(a, b) : fmax(a, b);
}

static double reduced(const trnn_layer_type *type, const double *x, int32_t count)
{
    double sum = 0, squares = 0, product = 1, most = x[0], least = x[0], exps = 0, spread = 0;
    for (int32_t j = 0; j < count; j++) {
        sum += x[j];
        squares += x[j] * x[j];
        product *= x[j];
        most = fmax(most, x[j]);
        least = fmin(least, x[j]);
        exps += exp(x[j]);
    }
    for (int32_t j = 0; j < count; j++) spread += (x[j] - sum / count) * (x[j] - sum / count);
    if (type == &trnn_sum) return sum;
    if (type == &trnn_mean) return sum / count;
    if (type == &trnn_amax) return most;
    if (type == &trnn_amin) return least;
    if (type == &trnn_var) return spread / count;
    if (type == &trnn_prod) return product;
    return type == &trnn_vector_norm ? sqrt(squares) : log(exps);
}

/* Number j of a row that a pad makes wider. */
static double padded(const trnn_padding_args *a, const double *x, int32_t count, int32_t j)
{
    int32_t i = j - a->cols_before;
    if (i >= 0 && i < count) return x[i];
    if (a->mode == TRNN_PAD_REPLICATE) return x[i < 0 ? 0 : count - 1];
    if (a->mode == TRNN_PAD_CIRCULAR) return x[(i + count) % count];
    if (a->mode == TRNN_PAD_REFLECT) return x[i < 0 ? -i : 2 * count - 2 - i];
    return (double)a->value;
}

static void norm(double *y, const double *x, int32_t count, const double *weight, const double *bias)
{
    double mean = 0, variance = 0;
    for (int32_t j = 0; j < count; j++) mean += x[j] / count;
    for (int32_t j = 0; j < count; j++) variance += (x[j] - mean) * (x[j] - mean) / count;
    for (int32_t j = 0; j < count; j++)
        y[j] = weight[j] * (x[j] - mean) / sqrt(variance + (double)1e-5f) + bias[j];
}

/* A row's state begins with the values x: of h, then of c; of a delay the frame of all steps before. */
static void reference_start(const trnn_layer *layer, const double *const *x, int32_t count, double *state)
{
    const int delay = layer->type == &trnn_delay;
    const int32_t parts = delay ? layer->as.delay.steps : count;
    const int32_t size = delay ? layer->as.delay.cols : layer->as.recurrent.hidden_size;
    for (int32_t k = 0; k < parts; k++)
        for (int32_t j = 0; j < size; j++)
            state[k * size + j] = delay ? x[0][j] : x[k][layer->as.recurrent.level * size + j];
}

/* What layer i writes at step t, of the values of one row. A delay's value is what was read some steps before. */
static void reference_layer(const point *p, double *const *values, int32_t i, int32_t t, double *begin,
                            double *state)
{
    const graph *g = p->g;
    const trnn_layer *layer = &g->m.layers[i];
    const trnn_layer_type *type = layer->type;
    const trnn_reads *reads = &g->reads[i];
    const int32_t own = g->inputs + i, width = g->width[own];
    double *y = values[own] + (g->axis[own] ? t : 0) * width, *tensor[TRNN_PARAMS_MAX];
    const double *x[TRNN_READS_MAX];
    for (int32_t k = 0; k < TRNN_PARAMS_MAX; k++) tensor[k] = p->all + p->tensor[g->twin[i]][k];
    for (int32_t r = 0; r < reads->count; r++) {
        const int32_t v = reads->value[r];
        x[r] = values[v] + (g->axis[v] ? t : 0) * g->width[v];
    }
    if (t == 0 && begins(g, i)) {
        if (begin[p->mark[i]] < 0.5) {
            const int32_t first = 1 + masked(g, i);
            reference_start(layer, x + first, reads->count - first, begin + p->offset[i]);
            reference_start(layer, x + first, reads->count - first, state + p->offset[i]);
        }
        state[p->mark[i]] = 1;
    }
    if (type == &trnn_linear) {
        affine(y, tensor[0], layer->as.linear.bias ? tensor[1] : NULL, x[0], width,
               layer->as.linear.in_features);
    } else if (masked(g, i) && x[1][0] == 0) {
        memcpy(y, state + p->offset[i], (size_t)width * sizeof *y);
    } else if (type == &trnn_lstm || type == &trnn_gru) {
        step_cell(layer, tensor, x[0], state + p->offset[i], y);
    } else if (type == &trnn_layer_norm) {
        norm(y, x[0], width, tensor[0], tensor[1]);
    } else if (type == &trnn_group_norm) {
        for (int32_t j = 0; j < width; j += width / 3)
            norm(y + j, x[0] + j, width / 3, tensor[0] + j, tensor[1] + j);
    } else if (type == &trnn_conv1d) {
        for (int32_t j = 0; j < width; j++) {
            y[j] = tensor[1][0];
            for (int32_t k = 0; k < 3; k++)
                if (j + k > 0 && j + k <= width) y[j] += tensor[0][k] * x[0][j + k - 1];
        }
    } else if (type == &trnn_avg_pool) {
        const int32_t read = g->width[reads->value[0]];
        for (int32_t j = 0; j < width; j++) { /* of three, one of which can be padding */
            y[j] = 0;
            for (int32_t k = 2 * j - 1; k < 2 * j + 2; k++)
                if (k >= 0 && k < read) y[j] += x[0][k] / 3;
        }
    } else if (type == &trnn_delay) {
        const int32_t late = layer->as.delay.steps;
        memcpy(y, t < late ? begin + p->offset[i] + t * width : x[0] - late * width,
               (size_t)width * sizeof *y);
    } else if (type == &trnn_concat) {
        for (int32_t r = 0; r < reads->count; r++)
            for (int32_t j = 0; j < g->width[reads->value[r]]; j++) *y++ = x[r][j];
    } else if (type == &trnn_matmul) {
        const int32_t depth = g->width[reads->value[0]];
        for (int32_t j = 0; j < width; j++) {
            y[j] = 0;
            for (int32_t k = 0; k < depth; k++) y[j] += x[0][k] * x[1][k * width + j];
        }
    } else {
        for (size_t k = 0; k < sizeof reductions / sizeof reductions[0]; k++)
            if (type == reductions[k]) y[0] = reduced(type, x[0], g->width[reads->value[0]]);
        for (int32_t j = 0; j < width; j++) {
            if (type == &trnn_reshape) y[j] = x[0][j];
            if (type == &trnn_exp) y[j] = exp(x[0][j]);
            if (type == &trnn_padding) y[j] = padded(&layer->as.padding, x[0], g->width[reads->value[0]], j);
            if (type == &trnn_where) {
                const int which = x[0][g->width[reads->value[0]] == 1 ? 0 : j] != 0 ? 1 : 2;
                y[j] = x[which][g->width[reads->value[which]] == 1 ? 0 : j];
            }
            if (type == &trnn_relu) y[j] = x[0][j] > 0 ? x[0][j] : 0;
            if (type == &trnn_tanh) y[j] = tanh(x[0][j]);
            if (type == &trnn_identity) y[j] = x[0][j];
            if (type == &trnn_slice) y[j] = x[0][layer->as.slice.start + j];
            if (reads->count == 2)
                y[j] = joined(type, x[0][g->width[reads->value[0]] == 1 ? 0 : j],
                              x[1][g->width[reads->value[1]] == 1 ? 0 : j]);
        }
    }
}

/* Row b for so many steps: all its values, each (steps, width) and the first at `values`; and its final state. */
static void reference_row(const point *p, int32_t b, int32_t steps, double **values, double *state)
{
    const graph *g = p->g;
    double *begin = state + p->row_state;
    memcpy(begin, p->all + p->state + (size_t)b * p->row_state, p->row_state * sizeof *begin);
    memcpy(state, begin, p->row_state * sizeof *state);
    for (int32_t v = 0; v + 1 < g->inputs + g->m.count; v++) values[v + 1] = values[v] + STEPS * g->width[v];
    for (int32_t v = 0; v < g->inputs; v++)
        for (int32_t t = 0; t < (g->axis[v] ? steps : 1); t++)
            memcpy(values[v] + t * g->width[v], p->all + p->x[v] + (t * BATCH + b) * g->width[v],
                   (size_t)g->width[v] * sizeof(double));
    for (int32_t t = 0; t < steps; t++)
        for (int32_t i = 0; i < g->m.count; i++) reference_layer(p, values, i, t, begin, state);
    for (int32_t i = 0; i < g->m.count; i++) {
        if (g->m.layers[i].type != &trnn_delay) continue;
        const int32_t late = g->m.layers[i].as.delay.steps, width = g->m.layers[i].as.delay.cols;
        for (int32_t k = 0; k < late; k++)
            memcpy(state + p->offset[i] + k * width,
                   steps + k < late ? begin + p->offset[i] + (steps + k) * width
                                    : values[g->reads[i].value[0]] + (steps + k - late) * width,
                   (size_t)width * sizeof *state);
    }
}

/* Room for the values of a row, its state, and the state before. */
static double *reference_room(const point *p, double **state)
{
    size_t count = 0;
    for (int32_t v = 0; v < p->g->inputs + p->g->m.count; v++) count += (size_t)(STEPS * p->g->width[v]);
    double *room = take_doubles(count + 2 * p->row_state);
    *state = room + count;
    return room;
}

/* ---- runs --------------------------------------------------------------------------------------------- */

/* A way of running: rows of the batch in a plan, steps of a block, steps of a call; the same for all rows. */
typedef struct {
    int32_t rows, block, call;
} way;

/* A graph with what it reads, and what a run of it gives. */
typedef struct {
    graph g;
    weights w;
    memory x[PORTS], begin;
    memory y[PORTS], state;
} trial;

static trial trial_open(int32_t number)
{
    trial t;
    memset(&t, 0, sizeof t);
    t.g = graph_draw(number);
    t.w = weights_of(&t.g);
    dice d = dice_named(t.g.m.name);
    const trnn_net net = net_of(&t.g, t.g.outputs);
    memory plan = memory_take(trnn_plan_bytes(&net));
    trnn_sizes sizes;
    const trnn_status status = trnn_plan_init(plan.at, &net, BATCH, &(int32_t){STEPS}, &sizes);
    if (!check(status == TRNN_OK, "%s: %s", t.g.m.name, trnn_status_text(status))) abort();
    for (int32_t i = 0; i < t.g.inputs; i++) {
        t.x[i] = value_take(&t.g, i);
        roll_into(&t.x[i], &d, 1);
    }
    for (int32_t o = 0; o < t.g.outputs; o++) t.y[o] = value_take(&t.g, t.g.output[o]);
    t.begin = memory_take(sizes.state_bytes);
    t.state = memory_take(sizes.state_bytes);
    roll_into(&t.begin, &d, -1);
    for (int32_t i = 0; i < t.g.m.count; i++) {
        size_t offset, numbers, row = sizes.state_bytes / sizeof(float) / BATCH;
        trnn_plan_state((const trnn_plan *)(const void *)plan.at, i, &offset, &numbers);
        for (size_t b = 0; begins(&t.g, i) && b < BATCH; b++)
            t.begin.at[b * row + offset + numbers] = (float)((b + (size_t)number) % 2);
    }
    memory_release(&plan);
    return t;
}

static void trial_close(trial *t)
{
    for (int32_t i = 0; i < t->g.inputs; i++) memory_release(&t->x[i]);
    for (int32_t o = 0; o < t->g.outputs; o++) memory_release(&t->y[o]);
    memory_release(&t->begin);
    memory_release(&t->state);
    weights_release(&t->w);
}

/* Frame (t, b) of a value. */
static float *frame_at(const graph *g, int32_t v, float *array, int32_t t, int32_t b)
{
    return array + (size_t)((g->axis[v] ? t * BATCH : 0) + b) * (size_t)g->width[v];
}

/* Runs `rows` rows from `first` on for so many steps, from dirty scratch. */
static void run_rows(trial *t, const trnn_kernels *isa, const way *how, int32_t first, int32_t steps,
                     const int32_t *lengths)
{
    const graph *g = &t->g;
    const trnn_net net = net_of(g, g->outputs);
    memory plan = memory_take(trnn_plan_bytes(&net));
    trnn_sizes sizes;
    trnn_plan_init(plan.at, &net, how->rows, &how->block, &sizes);
    memory scratch = memory_take(sizes.scratch_bytes + (how->rows < BATCH ? sizes.part_bytes : 0));
    const size_t row = sizes.state_bytes / sizeof(float) / (size_t)how->rows;
    for (int32_t start = 0; start < steps; start += how->call) {
        trnn_job job = {
            .isa = isa,
            .weights = t->w.pointers,
            .state = t->state.at + (size_t)first * row,
            .scratch = scratch.at,
            .steps = {steps - start < how->call ? steps - start : how->call},
            .lengths = {lengths ? lengths + first : NULL},
            .stride = how->rows < BATCH ? BATCH : 0,
            .descending = start & 1,
        };
        memset(scratch.at, 0xff, scratch.bytes);
        for (int32_t i = 0; i < g->inputs; i++) job.x[i] = frame_at(g, i, t->x[i].at, start, first);
        for (int32_t o = 0; o < g->outputs; o++)
            job.y[o] = frame_at(g, g->output[o], t->y[o].at, start, first);
        const trnn_status status = trnn_run((const trnn_plan *)(const void *)plan.at, &job);
        check(status == TRNN_OK, "%s: run: %s", g->m.name, trnn_status_text(status));
    }
    memory_release(&plan);
    memory_release(&scratch);
}

/* Runs all rows, part by part. Each part writes its own rows of every y, and no other number. */
static void run(trial *t, const trnn_kernels *isa, const way *how, const int32_t *lengths)
{
    memcpy(t->state.at, t->begin.at, t->begin.bytes);
    for (int32_t o = 0; o < t->g.outputs; o++) mark(&t->y[o]);
    for (int32_t first = 0; first < BATCH; first += how->rows) {
        run_rows(t, isa, how, first, STEPS, lengths);
        for (int32_t o = 0; o < t->g.outputs; o++)
            check(marks(&t->y[o]) * BATCH ==
                      t->y[o].bytes / sizeof(float) * (size_t)(BATCH - first - how->rows),
                  "%s on %s: rows %d to %d of output %d", t->g.m.name, trnn_isa_name(isa), (int)first,
                  (int)(first + how->rows - 1), (int)o);
    }
}

/* Copies of what a run gave: outputs, then the state. */
typedef struct {
    memory of[PORTS + 1];
    int32_t count;
} record;

static memory copy_of(const memory *m)
{
    memory copy = memory_floats(m->bytes / sizeof(float));
    memcpy(copy.at, m->at, m->bytes);
    return copy;
}

static record record_take(const trial *t)
{
    record r = {.count = t->g.outputs + 1};
    for (int32_t o = 0; o < t->g.outputs; o++) r.of[o] = copy_of(&t->y[o]);
    r.of[t->g.outputs] = copy_of(&t->state);
    return r;
}

static void record_release(record *r)
{
    for (int32_t i = 0; i < r->count; i++) memory_release(&r->of[i]);
}

static void same_record(const trial *t, const record *wanted, const char *isa, const char *what, int number)
{
    for (int32_t i = 0; i < wanted->count; i++)
        check(same(&wanted->of[i], i < t->g.outputs ? &t->y[i] : &t->state), "%s on %s: %s %d: %s %d",
              t->g.m.name, isa, what, number, i < t->g.outputs ? "output" : "state", (int)i);
}

/* A row with a length has the numbers and the state of one that is given no more steps. */
static void run_lengths(trial *t, const trnn_kernels *isa, const record *whole)
{
    static const way all = {BATCH, 4, STEPS}, one = {1, 4, STEPS};
    const graph *g = &t->g;
    run(t, isa, &all, ends);
    for (int32_t o = 0; o < g->outputs; o++)
        for (int32_t b = 0; b < BATCH; b++)
            for (int32_t s = 0; s < ends[b]; s++) {
                const int32_t v = g->output[o];
                check(same_bits(frame_at(g, v, t->y[o].at, s, b), frame_at(g, v, whole->of[o].at, s, b),
                                (size_t)g->width[v]),
                      "%s on %s, with lengths: output %d, row %d, step %d", g->m.name, trnn_isa_name(isa),
                      (int)o, (int)b, (int)s);
            }
    memory with = copy_of(&t->state);
    memcpy(t->state.at, t->begin.at, t->begin.bytes);
    for (int32_t b = 0; b < BATCH; b++) run_rows(t, isa, &one, b, ends[b], NULL);
    check(same(&with, &t->state), "%s on %s, with lengths: state", g->m.name, trnn_isa_name(isa));
    memory_release(&with);
}

/* Within 1e-4 of the reference, or of its largest number. */
static void near(const trial *t, const trnn_kernels *isa, const float *at, const double *wanted, size_t count,
                 const char *what)
{
    double largest = 1, off = 0;
    for (size_t k = 0; k < count; k++) {
        largest = fmax(largest, fabs(wanted[k]));
        off = fmax(off, fabs((double)at[k] - wanted[k]));
        if (isnan(at[k])) off = INFINITY;
    }
    check(off <= 1e-4 * largest, "%s on %s: %s is %g off", t->g.m.name, trnn_isa_name(isa), what, off);
}

static void as_reference(const trial *t, const trnn_kernels *isa, const point *p)
{
    const graph *g = &t->g;
    double *values[VALUES], *state;
    values[0] = reference_room(p, &state);
    for (int32_t b = 0; b < BATCH; b++) {
        reference_row(p, b, STEPS, values, state);
        for (int32_t o = 0; o < g->outputs; o++)
            for (int32_t s = 0; s < (g->axis[g->output[o]] ? STEPS : 1); s++) {
                const int32_t v = g->output[o];
                near(t, isa, frame_at(g, v, t->y[o].at, s, b), values[v] + s * g->width[v],
                     (size_t)g->width[v], "an output");
            }
        near(t, isa, t->state.at + (size_t)b * p->row_state, state, p->row_state, "the state");
    }
    free(values[0]);
}

static point point_of_trial(const trial *t)
{
    const trnn_net net = net_of(&t->g, t->g.outputs);
    memory plan = memory_take(trnn_plan_bytes(&net));
    trnn_sizes sizes;
    trnn_plan_init(plan.at, &net, BATCH, &(int32_t){STEPS}, &sizes);
    const point p = point_of(&t->g, &t->w, t->x, &t->begin, (const trnn_plan *)(const void *)plan.at);
    memory_release(&plan);
    return p;
}

static void random_graphs(void)
{
    static const way ways[] = {{BATCH, STEPS, STEPS}, {BATCH, 1, 1}, {BATCH, 4, STEPS}, {BATCH, 4, 2},
                               {BATCH, 2, 7},         {1, 4, STEPS}, {1, STEPS, STEPS}, {1, 2, 3},
                               {1, 1, STEPS},         {1, 1, 1}};
    int32_t starts = 0, masks = 0;
    for (int32_t number = 0; number < GRAPHS; number++) {
        trial t = trial_open(number);
        for (int32_t i = 0; i < t.g.m.count; i++) starts += begins(&t.g, i), masks += masked(&t.g, i);
        point p = point_of_trial(&t);
        record fused = {.count = 0};
        const trnn_kernels *isa;
        for (int32_t k = 0; (isa = isa_get(k)); k++) {
            run(&t, isa, &ways[0], NULL);
            as_reference(&t, isa, &p);
            record whole = record_take(&t);
            for (int w = 1; w < (int)(sizeof ways / sizeof ways[0]); w++) {
                run(&t, isa, &ways[w], NULL);
                same_record(&t, &whole, trnn_isa_name(isa), "way", w);
            }
            if (trnn_isa_fused(isa) && fused.count)
                same_record(&t, &fused, trnn_isa_name(isa), "as another set", 0);
            run_lengths(&t, isa, &whole);
            if (trnn_isa_fused(isa) && !fused.count)
                fused = whole;
            else
                record_release(&whole);
        }
        record_release(&fused);
        free(p.all);
        trial_close(&t);
    }
    check(masks > GRAPHS / 8, "%d layers read a mask", (int)masks);
    check(starts > GRAPHS / 6, "%d states begin with values", (int)starts);
}

/* ---- gradients ------------------------------------------------------------------------------------------ */

/* A trial laid out for training. */
typedef struct {
    trial *t;
    int32_t outputs; /* that have gradients of their own */
    trnn_training_sizes sizes;
    memory plan, tape, state, dstate, dy[PORTS], end; /* end: the gradient of the final state */
    memory grads[LAYERS_MAX];
    void *weight_at[LAYERS_MAX];
    float *grad_at[LAYERS_MAX];
} lesson;

enum { DY = -5 };

static lesson lesson_open(trial *t)
{
    lesson l;
    memset(&l, 0, sizeof l);
    l.t = t;
    l.outputs = t->g.outputs - t->g.copies;
    const trnn_net net = net_of(&t->g, l.outputs);
    l.plan = memory_take(trnn_training_bytes(&net));
    const trnn_status status = trnn_training_init(l.plan.at, &net, BATCH, &(int32_t){STEPS}, &l.sizes);
    if (!check(status == TRNN_OK, "%s: training: %s", t->g.m.name, trnn_status_text(status))) abort();
    l.tape = memory_take(l.sizes.tape_bytes);
    l.state = memory_take(l.sizes.state_bytes);
    l.dstate = memory_take(l.sizes.state_bytes);
    l.end = memory_take(l.sizes.state_bytes);
    memset(l.tape.at, 0, l.tape.bytes);
    dice d = dice_named("lesson");
    roll_into(&l.end, &d, DY);
    for (int32_t o = 0; o < l.outputs; o++) {
        l.dy[o] = value_take(&t->g, t->g.output[o]);
        roll_into(&l.dy[o], &d, DY);
    }
    for (int32_t i = 0; i < t->g.m.count; i++) {
        l.grads[i] = memory_take(t->w.at[i].bytes);
        l.weight_at[i] = t->w.pointers[i] ? t->w.at[t->g.twin[i]].at : NULL;
        l.grad_at[i] = t->w.pointers[i] ? l.grads[t->g.twin[i]].at : NULL;
    }
    return l;
}

static void lesson_close(lesson *l)
{
    for (int32_t o = 0; o < l->outputs; o++) memory_release(&l->dy[o]);
    for (int32_t i = 0; i < l->t->g.m.count; i++) memory_release(&l->grads[i]);
    memory_release(&l->plan);
    memory_release(&l->tape);
    memory_release(&l->state);
    memory_release(&l->dstate);
    memory_release(&l->end);
}

static float *tape_at(const lesson *l, size_t bytes) { return l->tape.at + bytes / sizeof(float); }

/* How a pass is made. */
typedef struct {
    const trnn_kernels *isa;
    int32_t parts, to_input;
    const int32_t *lengths;
} manner;

/* Is step t of row b within the row's length? */
static int counts(const int32_t *lengths, int32_t t, int32_t b) { return !lengths || t < lengths[b]; }

/* A whole pass, the last part first; scratch is dirty, and x beyond a row's end is no number. */
static void pass(lesson *l, const manner *how)
{
    const graph *g = &l->t->g;
    memory scratch[BATCH + 1], x[PORTS];
    trnn_training_job jobs[BATCH + 1];
    const trnn_training *plan = (const trnn_training *)(const void *)l->plan.at;
    for (int32_t i = 0; i < g->inputs; i++) {
        x[i] = copy_of(&l->t->x[i]);
        for (int32_t b = 0; g->axis[i] && b < BATCH; b++)
            for (int32_t s = 0; s < STEPS; s++)
                for (int32_t j = 0; j < g->width[i] && !counts(how->lengths, s, b); j++)
                    frame_at(g, i, x[i].at, s, b)[j] = NAN;
    }
    for (int32_t i = 0; i < g->m.count; i++) memset(l->grads[i].at, 0, l->grads[i].bytes);
    memcpy(l->state.at, l->t->begin.at, l->state.bytes);
    memcpy(l->dstate.at, l->end.at, l->end.bytes);
    for (int32_t part = 0; part < how->parts; part++) {
        scratch[part] = memory_take(l->sizes.scratch_bytes);
        memset(scratch[part].at, 0xff, scratch[part].bytes);
        trnn_training_job *job = &jobs[part];
        *job = (trnn_training_job){.isa = how->isa,
                                   .weights = l->weight_at,
                                   .grads = l->grad_at,
                                   .state = l->state.at,
                                   .dstate = l->dstate.at,
                                   .tape = l->tape.at,
                                   .scratch = scratch[part].at,
                                   .steps = {STEPS},
                                   .lengths = {how->lengths},
                                   .to_input = how->to_input,
                                   .part = part,
                                   .parts = how->parts};
        for (int32_t i = 0; i < g->inputs; i++) {
            job->x[i] = x[i].at;
            job->x_step[i] = BATCH;
            job->x_row[i] = 1;
        }
        const trnn_status status = trnn_training_check(plan, job);
        check(status == TRNN_OK, "%s: training: %s", g->m.name, trnn_status_text(status));
    }
    for (int32_t stage = 0; stage < l->sizes.stages; stage++)
        for (int32_t part = how->parts; part-- > 0;) trnn_forward(plan, &jobs[part], stage);
    for (int32_t o = 0; o < l->outputs; o++) {
        float *dy = tape_at(l, l->sizes.dy[o]);
        memcpy(dy, l->dy[o].at, l->dy[o].bytes);
        for (int32_t b = 0; g->axis[g->output[o]] && b < BATCH; b++)
            for (int32_t s = 0; s < STEPS; s++)
                if (!counts(how->lengths, s, b))
                    memset(frame_at(g, g->output[o], dy, s, b), 0,
                           (size_t)g->width[g->output[o]] * sizeof(float));
    }
    for (int32_t stage = l->sizes.stages; stage-- > 0;)
        for (int32_t part = how->parts; part-- > 0;) trnn_backward(plan, &jobs[part], stage);
    for (int32_t part = how->parts; part-- > 0;) trnn_gradients(plan, &jobs[part]);
    for (int32_t part = 0; part < how->parts; part++) memory_release(&scratch[part]);
    for (int32_t i = 0; i < g->inputs; i++) memory_release(&x[i]);
}

/* What a pass gave: gradients of weights; then y, states, dx. */
static memory everything(const lesson *l)
{
    const graph *g = &l->t->g;
    const float *from[LAYERS_MAX + 2 * PORTS + 2];
    size_t count[LAYERS_MAX + 2 * PORTS + 2], all = 0;
    int32_t pieces = 0;
    for (int32_t i = 0; i < g->m.count; i++)
        from[pieces] = l->grads[i].at, count[pieces++] = l->grads[i].bytes / sizeof(float);
    for (int32_t o = 0; o < l->outputs; o++)
        from[pieces] = tape_at(l, l->sizes.y[o]), count[pieces++] = l->t->y[o].bytes / sizeof(float);
    for (int32_t i = 0; i < g->inputs; i++)
        from[pieces] = tape_at(l, l->sizes.dx[i]), count[pieces++] = l->t->x[i].bytes / sizeof(float);
    from[pieces] = l->state.at, count[pieces++] = l->state.bytes / sizeof(float);
    from[pieces] = l->dstate.at, count[pieces++] = l->state.bytes / sizeof(float);
    for (int32_t k = 0; k < pieces; k++) all += count[k];
    memory m = memory_floats(all);
    all = 0;
    for (int32_t k = 0; k < pieces; all += count[k++]) memcpy(m.at + all, from[k], count[k] * sizeof(float));
    return m;
}

/* The sum of y times dy, and of the final state times its gradient. */
static double loss_of(const lesson *l, const point *p, const int32_t *lengths)
{
    const graph *g = p->g;
    double *values[VALUES], *state, sum = 0;
    values[0] = reference_room(p, &state);
    for (int32_t b = 0; b < BATCH; b++) {
        const int32_t steps = lengths ? lengths[b] : STEPS;
        reference_row(p, b, steps, values, state);
        for (int32_t o = 0; o < l->outputs; o++) {
            const int32_t v = g->output[o];
            for (int32_t s = 0; s < (g->axis[v] ? steps : 1); s++)
                for (int32_t j = 0; j < g->width[v]; j++)
                    sum += values[v][s * g->width[v] + j] * (double)frame_at(g, v, l->dy[o].at, s, b)[j];
        }
        for (size_t j = 0; j < p->row_state; j++)
            sum += state[j] * (double)l->end.at[(size_t)b * p->row_state + j];
    }
    free(values[0]);
    return sum;
}

/* Compares gradients of the point's numbers from .. to - 1 with the change of the loss along a random direction. */
static void along(const lesson *l, const point *p, const double *gradient, size_t from, size_t to,
                  const manner *how, const char *what, int32_t number)
{
    const double step = 1e-7;
    double *begin = take_doubles(to - from), *direction = take_doubles(to - from), sum = 0, sizes = 0,
           loss[2];
    dice d = dice_named(what);
    memcpy(begin, p->all + from, (to - from) * sizeof *begin);
    for (size_t k = 0; k < to - from; k++) {
        direction[k] = (double)dice_float(&d, 0);
        sum += gradient[from + k] * direction[k];
        sizes += fabs(gradient[from + k] * direction[k]);
    }
    for (int side = 0; side < 2; side++) {
        for (size_t k = 0; k < to - from; k++)
            p->all[from + k] = begin[k] + (side ? step : -step) * direction[k];
        loss[side] = loss_of(l, p, how->lengths);
    }
    memcpy(p->all + from, begin, (to - from) * sizeof *begin);
    const double slope = (loss[1] - loss[0]) / (2 * step);
    check(fabs(slope - sum) <= 2e-4 * sizes + 1e-6, "%s on %s%s: gradient of %s %d: got %g, expected %g",
          p->g->m.name, trnn_isa_name(how->isa), how->lengths ? ", with lengths" : "", what, (int)number, sum,
          slope);
    free(begin);
    free(direction);
}

static void as_differences(const lesson *l, const point *p, const manner *how)
{
    const graph *g = p->g;
    double *gradient = take_doubles(p->count);
    for (int32_t i = 0; i < g->m.count; i++)
        if (g->twin[i] == i && l->grad_at[i])
            unpack(&g->m.layers[i], l->grads[i].at, gradient + p->tensor[i][0], NULL);
    for (int32_t i = 0; i < g->inputs; i++)
        for (size_t k = 0; k < l->t->x[i].bytes / sizeof(float); k++)
            gradient[p->x[i] + k] = (double)tape_at(l, l->sizes.dx[i])[k];
    for (size_t k = 0; k < p->count - p->state; k++) gradient[p->state + k] = (double)l->dstate.at[k];
    for (int32_t i = 0; i < g->m.count; i++)
        for (size_t b = 0; begins(g, i) && b < BATCH; b++)
            gradient[p->state + b * p->row_state + p->mark[i]] = 0; /* no function of it */

    for (int32_t i = 0; i < g->m.count; i++)
        if (g->twin[i] == i && l->grad_at[i])
            along(l, p, gradient, p->tensor[i][0], p->weights_end[i], how, "layer", i);
    for (int32_t i = 0; i < g->inputs; i++)
        along(l, p, gradient, p->x[i], i + 1 < g->inputs ? p->x[i + 1] : p->state, how, "input", i);
    along(l, p, gradient, p->state, p->count, how, "state", 0);
    free(gradient);
}

/* Layers without gradients, and a pass that does not go back to the input: all other gradients stay as they are. */
static void frozen(lesson *l, const manner *how)
{
    const graph *g = &l->t->g;
    memory all = everything(l);
    float *grad_at[LAYERS_MAX];
    memcpy(grad_at, l->grad_at, sizeof grad_at);
    for (int32_t keep = 0; keep < 3; keep++) {
        manner short_way = *how;
        short_way.to_input = keep == 2;
        size_t at = 0;
        for (int32_t i = 0; i < g->m.count; i++)
            l->grad_at[i] = keep == 0 || g->twin[i] % 2 == keep % 2 ? grad_at[i] : NULL;
        pass(l, &short_way);
        for (int32_t i = 0; i < g->m.count; i++) {
            const size_t count = l->grads[i].bytes / sizeof(float);
            if (g->twin[i] == i && l->grad_at[i])
                check(same_bits(all.at + at, l->grads[i].at, count), "%s on %s: layer %d, others frozen",
                      g->m.name, trnn_isa_name(how->isa), (int)i);
            at += count;
        }
    }
    memcpy(l->grad_at, grad_at, sizeof grad_at);
    memory_release(&all);
}

static void random_gradients(void)
{
    static const way whole = {BATCH, STEPS, STEPS};
    for (int32_t number = 0; number < GRAPHS; number++) {
        trial t = trial_open(number);
        lesson l = lesson_open(&t);
        point p = point_of_trial(&t);
        memory fused[2] = {{NULL, NULL, 0}, {NULL, NULL, 0}};
        const trnn_kernels *isa;
        for (int32_t k = 0; (isa = isa_get(k)); k++)
            for (int with = 0; with < 2; with++) {
                manner how = {isa, 1, 1, with ? ends : NULL};
                pass(&l, &how);
                as_differences(&l, &p, &how);
                memory one = everything(&l);
                run(&t, isa, &whole, NULL);
                for (int32_t o = 0; !with && o < l.outputs; o++)
                    check(same_bits(tape_at(&l, l.sizes.y[o]), t.y[o].at, t.y[o].bytes / sizeof(float)),
                          "%s on %s: output %d is not as in use", t.g.m.name, trnn_isa_name(isa), (int)o);
                check(with || same(&l.state, &t.state), "%s on %s: the state is not as in use", t.g.m.name,
                      trnn_isa_name(isa));
                for (how.parts = 2; how.parts <= BATCH + 1; how.parts++) {
                    pass(&l, &how);
                    memory again = everything(&l);
                    check(same(&one, &again), "%s on %s%s: %d parts", t.g.m.name, trnn_isa_name(isa),
                          with ? ", with lengths" : "", (int)how.parts);
                    memory_release(&again);
                }
                how.parts = 1;
                if (!with) frozen(&l, &how);
                if (trnn_isa_fused(isa) && fused[with].block)
                    check(same(&one, &fused[with]), "%s on %s: gradients as on another set", t.g.m.name,
                          trnn_isa_name(isa));
                if (trnn_isa_fused(isa) && !fused[with].block)
                    fused[with] = one;
                else
                    memory_release(&one);
            }
        for (int with = 0; with < 2; with++)
            if (fused[with].block) memory_release(&fused[with]);
        free(p.all);
        lesson_close(&l);
        trial_close(&t);
    }
}

/* ---- a chain ---------------------------------------------------------------------------------------------- */

static void chains(void)
{
    model m;
    for (int32_t k = 0; model_get(k, &m); k++) {
        trnn_reads reads[LAYERS_MAX];
        for (int32_t i = 0; i < m.count; i++) reads[i] = (trnn_reads){1, {i}};
        const trnn_net chain = model_net(&m);
        trnn_net given = chain;
        given.reads = reads;
        check(trnn_plan_bytes(&given) == trnn_plan_bytes(&chain), "%s: bytes of its plan", m.name);

        weights w = weights_roll(&m);
        net n = net_open(&m, &w, BATCH, STEPS), other = net_open(&m, &w, BATCH, STEPS);
        memset(&other.sizes, 0, sizeof other.sizes);
        memset(&n.sizes, 0, sizeof n.sizes);
        trnn_plan_init(n.plan.at, &chain, BATCH, &(int32_t){STEPS}, &n.sizes);
        trnn_plan_init(other.plan.at, &given, BATCH, &(int32_t){STEPS}, &other.sizes);
        check(memcmp(&n.sizes, &other.sizes, sizeof n.sizes) == 0, "%s: other sizes", m.name);

        const size_t frames = (size_t)STEPS * BATCH;
        memory x = net_input(&n, m.name, frames), y = memory_floats(frames * n.out),
               again = memory_floats(frames * n.out);
        const trnn_kernels *isa;
        for (int32_t i = 0; (isa = isa_get(i)); i++) {
            memset(n.state.at, 0, n.state.bytes);
            memset(other.state.at, 0, other.state.bytes);
            net_run(&n, isa, x.at, y.at, STEPS, NULL);
            net_run(&other, isa, x.at, again.at, STEPS, NULL);
            check(same(&y, &again) && same(&n.state, &other.state), "%s on %s: other bits", m.name,
                  trnn_isa_name(isa));
        }
        trnn_training_sizes one, two;
        memory training = memory_take(trnn_training_bytes(&chain));
        memset(&one, 0, sizeof one);
        memset(&two, 0, sizeof two);
        const trnn_status first = trnn_training_init(training.at, &chain, BATCH, &(int32_t){STEPS}, &one);
        const trnn_status second = trnn_training_init(training.at, &given, BATCH, &(int32_t){STEPS}, &two);
        check(first == second && memcmp(&one, &two, sizeof one) == 0, "%s: training of other sizes", m.name);
        memory_release(&training);
        memory_release(&x);
        memory_release(&y);
        memory_release(&again);
        net_close(&n);
        net_close(&other);
        weights_release(&w);
    }
}

/* ---- frames of three axes ------------------------------------------------------------------------------ */

enum { P = 2, R = 3, C = 4, N = P * R * C };

/* x times a value per sequence, plus x; then x again beside it along each axis, of which a part is cut out:
 * exact, number by number. */
static void along_axes(void)
{
    static const trnn_frame scales[] = {{P, R, C}, {1, R, 1}, {P, 1, C}, {1, 1, 1}};
    static const int32_t size[] = {P, R, C};
    for (int s = 0; s < 4; s++)
        for (int32_t axis = TRNN_PLANES; axis <= TRNN_COLS; axis++) {
            const trnn_layer layers[] = {{TRNN_TRAINED(multiply)},
                                         {TRNN_TRAINED(add)},
                                         {TRNN_TRAINED(concat), .as.concat = {axis}},
                                         {TRNN_TRAINED(slice), .as.slice = {axis, 1, size[axis]}}};
            const trnn_reads reads[] = {{2, {0, 1}}, {2, {2, 0}}, {2, {3, 0}}, {1, {4}}};
            const trnn_net net = {layers, 4, reads, 2, 1, {{{P, R, C}, 1}, {scales[s], 0}}, {5}};
            memory plan = memory_take(trnn_plan_bytes(&net));
            trnn_sizes sizes;
            const trnn_status status = trnn_plan_init(plan.at, &net, BATCH, &(int32_t){STEPS}, &sizes);
            if (!check(status == TRNN_OK, "frames of three axes: %s", trnn_status_text(status))) abort();
            const size_t numbers = frame_size(scales[s]);
            memory x = memory_floats(STEPS * BATCH * N), scale = memory_floats(BATCH * numbers),
                   y = memory_floats(STEPS * BATCH * N), scratch = memory_take(sizes.scratch_bytes);
            dice d = dice_named("frames");
            roll_into(&x, &d, 1);
            roll_into(&scale, &d, 1);
            const trnn_kernels *isa;
            for (int32_t k = 0; (isa = isa_get(k)); k++) {
                const void *none[4] = {NULL, NULL, NULL, NULL};
                const trnn_job job = {.isa = isa,
                                      .weights = none,
                                      .scratch = scratch.at,
                                      .x = {x.at, scale.at},
                                      .y = {y.at},
                                      .steps = {STEPS}};
                memset(scratch.at, 0xff, scratch.bytes);
                check(trnn_run((const trnn_plan *)(const void *)plan.at, &job) == TRNN_OK, "a run of frames");
                int wrong = 0;
                for (size_t i = 0; i < STEPS * BATCH * N; i++) {
                    const size_t frame = i / N * N, b = i / N % BATCH;
                    size_t at[] = {i % N / (R * C), i / C % R, i % C};
                    const int second = ++at[axis] == (size_t)size[axis]; /* beyond the first of the two */
                    if (second) at[axis] = 0;
                    const float one = x.at[frame + (at[0] * R + at[1]) * C + at[2]];
                    const trnn_frame f = scales[s];
                    const size_t place =
                        ((f.planes == 1 ? 0 : at[0]) * (size_t)f.rows + (f.rows == 1 ? 0 : at[1])) *
                            (size_t)f.cols +
                        (f.cols == 1 ? 0 : at[2]);
                    const float product = one * scale.at[b * numbers + place];
                    wrong += y.at[i] != (second ? one : product + one);
                }
                check(wrong == 0, "on %s, axis %d, scale %d: %d numbers are wrong", trnn_isa_name(isa),
                      (int)axis, s, wrong);
            }
            memory_release(&plan);
            memory_release(&x);
            memory_release(&scale);
            memory_release(&y);
            memory_release(&scratch);
        }
}

/* ---- turns ------------------------------------------------------------------------------------------------ */

/* A layer that reduces: the sum of the steps so far, of 3 numbers. */
static trnn_status total_check(const trnn_layer *layer) { return layer ? TRNN_OK : TRNN_E_ARGUMENT; }

static trnn_status total_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    *out = in;
    return total_check(layer);
}

static size_t total_state(const trnn_layer *layer) { return layer ? 3 : 0; }

static void total_run(const trnn_call *call)
{
    for (int32_t b = 0; b < call->batch; b++) {
        float *sum = call->state + (size_t)b * call->state_stride;
        for (int32_t t = 0; t < call->steps; t++)
            for (int32_t j = 0; j < 3; j++) sum[j] += ((const float *)call->x)[(t * call->batch + b) * 3 + j];
        memcpy(call->y + 3 * b, sum, 3 * sizeof *sum);
    }
}

static const trnn_layer_type total = {
    .name = "total",
    .check = total_check,
    .frame = total_frame,
    .time = TRNN_TIME_REDUCE,
    .state = total_state,
    .run = total_run,
};

/* Layers per sequence before and after a sum over the steps, some of which read what the first block made. */
static void turns(void)
{
    /* f = tanh(s), a = tanh(x + f), r = tanh(total(a)); outputs a * tanh(f) and tanh(r + f) */
    static const trnn_layer layers[] = {PLAIN(tanh),      PLAIN(add),  PLAIN(tanh),
                                        {.type = &total}, PLAIN(tanh), PLAIN(tanh),
                                        PLAIN(multiply),  PLAIN(add),  PLAIN(tanh)};
    static const trnn_reads reads[] = {{1, {1}}, {2, {0, 2}}, {1, {3}},    {1, {4}}, {1, {5}},
                                       {1, {2}}, {2, {4, 7}}, {2, {6, 2}}, {1, {9}}};
    static const void *const none[9] = {NULL};
    const trnn_net net = {layers, 9, reads, 2, 2, {{{1, 1, 3}, 1}, {{1, 1, 3}, 0}}, {8, 10}};
    memory plan = memory_take(trnn_plan_bytes(&net)), x = memory_floats(STEPS * BATCH * 3),
           s = memory_floats(BATCH * 3), y = memory_floats(STEPS * BATCH * 3),
           last = memory_floats(BATCH * 3);
    const trnn_kernels *isa;
    dice d = dice_named("turns");
    roll_into(&x, &d, 0);
    roll_into(&s, &d, 0);
    for (int32_t k = 0; (isa = isa_get(k)); k++)
        for (int32_t steps = 1; steps <= STEPS; steps++) {
            trnn_sizes sizes;
            const trnn_status status = trnn_plan_init(plan.at, &net, BATCH, &steps, &sizes);
            check(status == TRNN_OK && !sizes.full_sequence, "turns: %s", trnn_status_text(status));
            memory state = memory_take(sizes.state_bytes), scratch = memory_take(sizes.scratch_bytes);
            memset(state.at, 0, state.bytes);
            memset(scratch.at, 0xff, scratch.bytes);
            const trnn_job job = {.isa = isa,
                                  .weights = none,
                                  .state = state.at,
                                  .scratch = scratch.at,
                                  .x = {x.at, s.at},
                                  .y = {y.at, last.at},
                                  .steps = {STEPS}};
            mark(&y);
            mark(&last);
            check(trnn_run((const trnn_plan *)(const void *)plan.at, &job) == TRNN_OK, "turns: a run");
            double off = 0;
            for (int32_t i = 0; i < BATCH * 3; i++) {
                const double f = tanh((double)s.at[i]);
                double sum = 0;
                for (int32_t t = 0; t < STEPS; t++) {
                    const double a = tanh((double)x.at[t * BATCH * 3 + i] + f);
                    sum += a;
                    off = fmax(off, fabs((double)y.at[t * BATCH * 3 + i] - a * tanh(f)));
                }
                off = fmax(off, fabs((double)last.at[i] - tanh(tanh(sum) + f)));
            }
            check(off < 1e-5 && marks(&y) == 0 && marks(&last) == 0, "on %s, blocks of %d: %g off",
                  trnn_isa_name(isa), (int)steps, off);
            memory_release(&state);
            memory_release(&scratch);
        }
    memory_release(&plan);
    memory_release(&x);
    memory_release(&s);
    memory_release(&y);
    memory_release(&last);
}

/* ---- how well values share scratch ------------------------------------------------------------------- */

static void values_in_scratch(void)
{
    enum { MANY = 1000 };
    int tight = 0, some = 0;
    for (int32_t number = 0; number < MANY; number++) {
        const graph g = graph_draw(number);
        const trnn_net net = net_of(&g, g.outputs);
        memory plan = memory_take(trnn_plan_bytes(&net));
        trnn_sizes sizes;
        const trnn_status status =
            trnn_plan_init(plan.at, &net, number % 3 ? 4 : 1, &(int32_t){number % 2 ? 1 : 16}, &sizes);
        if (!check(status == TRNN_OK, "%s: %s", g.m.name, trnn_status_text(status))) abort();
        check(sizes.value_bytes >= sizes.widest_bytes, "%s: values of %lu bytes in %lu", g.m.name,
              (unsigned long)sizes.widest_bytes, (unsigned long)sizes.value_bytes);
        tight += sizes.value_bytes == sizes.widest_bytes;
        some += sizes.value_bytes > 0;
        memory_release(&plan);
    }
    check(tight >= MANY * 98 / 100 && some > MANY / 2, "%d of %d graphs need no more than what is needed",
          tight, (int)MANY);
}

/* Of one row and one step, two halves of x become halves of y in their places; more need places of their own. */
static void views(void)
{
    static const trnn_layer layers[] = {{TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 0, 3}},
                                        {TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 3, 3}},
                                        PLAIN(tanh),
                                        PLAIN(relu),
                                        {TRNN_TRAINED(concat), .as.concat = {TRNN_COLS}}};
    static const trnn_reads reads[] = {{1, {0}}, {1, {0}}, {1, {1}}, {1, {2}}, {2, {3, 4}}};
    const trnn_net net = {layers, 5, reads, 1, 1, {{{1, 1, 6}, 1}}, {5}};
    memory plan = memory_take(trnn_plan_bytes(&net));
    for (int32_t batch = 1; batch <= 2; batch++)
        for (int32_t steps = 1; steps <= 2; steps++) {
            trnn_sizes sizes;
            const trnn_status status = trnn_plan_init(plan.at, &net, batch, &steps, &sizes);
            check(status == TRNN_OK && (sizes.value_bytes == 0) == (batch * steps == 1),
                  "%d rows and %d steps take %lu bytes", (int)batch, (int)steps,
                  (unsigned long)sizes.value_bytes);
        }
    memory_release(&plan);
}

/* In a loop the same holds for several steps of one row: two values of it have places of their own, the delay's and the
 * sum. Of two rows four more have, two of them in places of others. */
static void views_in_a_loop(void)
{
    enum { HALF = 3 };
    static const trnn_layer layers[] = {{TRNN_TRAINED(delay), .as.delay = {1, 1, HALF, 1}},
                                        {TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 0, HALF}},
                                        PLAIN(add),
                                        PLAIN(tanh),
                                        {TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, HALF, HALF}},
                                        PLAIN(relu),
                                        {TRNN_TRAINED(concat), .as.concat = {TRNN_COLS}},
                                        {TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 1, HALF}}};
    static const trnn_reads reads[] = {{1, {8}}, {1, {0}}, {2, {1, 2}}, {1, {3}},
                                       {1, {0}}, {1, {5}}, {2, {4, 6}}, {1, {7}}};
    const trnn_net net = {layers, 8, reads, 1, 1, {{{1, 1, 2 * HALF}, 1}}, {7}};
    memory plan = memory_take(trnn_plan_bytes(&net));
    for (int32_t batch = 1; batch <= 2; batch++)
        for (int32_t steps = 1; steps <= 4; steps++) {
            trnn_sizes sizes;
            const trnn_status status = trnn_plan_init(plan.at, &net, batch, &steps, &sizes);
            const size_t one = trnn_align((size_t)(batch * steps * HALF) * sizeof(float));
            check(status == TRNN_OK &&
                      (batch == 1 ? sizes.value_bytes == 2 * one : sizes.value_bytes > 2 * one),
                  "%d rows and %d steps take %lu bytes", (int)batch, (int)steps,
                  (unsigned long)sizes.value_bytes);
        }
    memory_release(&plan);
}

/* ---- nets that cannot be --------------------------------------------------------------------------------- */

#define PER_STEP {{1, 1, 3}, 1}
#define ONCE     {{1, 1, 3}, 0}
#define SECOND   {{1, 1, 3}, 2}
#define DELAY(w) {TRNN_TRAINED(delay), .as.delay = {1, 1, w, 1}}
#define CONCAT                                         \
    {                                                  \
        TRNN_TRAINED(concat), .as.concat = {TRNN_COLS} \
    }

static void cannot_be(void)
{
    static const struct {
        const char *name;
        trnn_status wanted, trained; /* trained: of training, where a plan can be */
        trnn_layer layers[4];
        trnn_reads reads[4];
        int32_t count, inputs, outputs;
        trnn_value input[3];
        int32_t output[2];
    } nets[] = {
        /* clang-format off */
        {"it can be", TRNN_OK, TRNN_OK,
         {PLAIN(relu), PLAIN(add)}, {{1, {0}}, {2, {1, 0}}}, 2, 1, 1, {PER_STEP}, {2}},
        {"an input that nobody reads", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 2, 1, {PER_STEP, PER_STEP}, {2}},
        {"a value that nobody reads", TRNN_E_GRAPH, 0,
         {PLAIN(relu), PLAIN(relu)}, {{1, {0}}, {1, {0}}}, 2, 1, 1, {PER_STEP}, {2}},
        {"value -1", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{1, {-1}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"its own value", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{1, {1}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a later value", TRNN_E_GRAPH, 0,
         {PLAIN(relu), PLAIN(relu)}, {{1, {2}}, {1, {1}}}, 2, 1, 1, {PER_STEP}, {2}},
        {"a delay of a value beyond the last", TRNN_E_GRAPH, 0,
         {DELAY(3)}, {{1, {2}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a delay of value -1", TRNN_E_GRAPH, 0,
         {DELAY(3)}, {{1, {-1}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"no reads", TRNN_E_GRAPH, 0,
         {CONCAT}, {{0, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"nine reads", TRNN_E_GRAPH, 0,
         {CONCAT}, {{9, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"relu of two", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{2, {0, 0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a sum of one", TRNN_E_GRAPH, 0,
         {PLAIN(add)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a sum of three", TRNN_E_GRAPH, 0,
         {PLAIN(add)}, {{3, {0, 0, 0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"output 2 of 2", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {2}},
        {"output -1", TRNN_E_GRAPH, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {-1}},
        {"one value twice an output", TRNN_OK, TRNN_E_GRAPH,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 2, {PER_STEP}, {1, 1}},
        {"no outputs", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 0, {PER_STEP}, {1}},
        {"nine outputs", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 9, {PER_STEP}, {1}},
        {"no inputs", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 0, 1, {PER_STEP}, {1}},
        {"nine inputs", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 9, 1, {PER_STEP}, {1}},
        {"axis 5", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 1, {{{1, 1, 3}, 5}}, {1}},
        {"axis -1", TRNN_E_ARGUMENT, 0,
         {PLAIN(relu)}, {{1, {0}}}, 1, 1, 1, {{{1, 1, 3}, -1}}, {1}},
        {"a slice of axis 3", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(slice), .as.slice = {3, 0, 1}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reshape with two sizes left open", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(reshape), .as.reshape = {1, -1, -1}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reshape of 3 to 2", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(reshape), .as.reshape = {1, 1, 2}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reshape of 3 to 2 rows", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(reshape), .as.reshape = {1, 2, -1}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reshape of 3 to 2^84", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(reshape), .as.reshape = {1 << 28, 1 << 28, 1 << 28}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reshape of 3 to 2^56 and more", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(reshape), .as.reshape = {1 << 28, 1 << 28, -1}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"columns as two axes", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(permute), .as.permute = {TRNN_PLANES, TRNN_COLS, TRNN_COLS}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"axis 3 as columns", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(permute), .as.permute = {TRNN_PLANES, TRNN_ROWS, 3}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a pad of an unknown mode", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.mode = 4}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a pad that repeats -1", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.cols_after = -1, .mode = TRNN_PAD_REPLICATE}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a reflection of 3 numbers in 3", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.cols_before = 3, .mode = TRNN_PAD_REFLECT}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a circle of 4 numbers of 3", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.cols_after = 4, .mode = TRNN_PAD_CIRCULAR}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a pad that leaves nothing", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.cols_before = -2, .cols_after = -1}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a pad of 2^28", TRNN_E_SIZE, 0,
         {{TRNN_TRAINED(padding), .as.padding = {.rows_before = 1 << 28}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a sum over an axis twice", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(sum), .as.reduce = {.cols = 2}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a variance with a correction of -1", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(var), .as.reduce = {.cols = 1, .correction = -1}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a product of (1, 3) and (1, 3)", TRNN_E_SHAPE, 0,
         {PLAIN(matmul)}, {{2, {0, 0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a product of 2 and 3 planes", TRNN_E_SHAPE, 0,
         {PLAIN(matmul)}, {{2, {0, 1}}}, 1, 2, 1, {{{2, 3, 3}, 1}, {{3, 3, 3}, 1}}, {2}},
        {"a product of one", TRNN_E_GRAPH, 0,
         {PLAIN(matmul)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a choice of two", TRNN_E_GRAPH, 0,
         {PLAIN(where)}, {{2, {0, 0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a delay of no step", TRNN_E_ARGUMENT, 0,
         {{TRNN_TRAINED(delay), .as.delay = {1, 1, 3, 0}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a sum of 3 and 2", TRNN_E_SHAPE, 0,
         {PLAIN(add)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 1, 2}, 1}}, {2}},
        {"3 columns beside 2 rows", TRNN_E_SHAPE, 0,
         {CONCAT}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 2, 3}, 1}}, {2}},
        {"a slice beyond the end", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 2, 2}}}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a slice of 2^28 from 2^28 on", TRNN_E_SHAPE, 0,
         {{TRNN_TRAINED(slice), .as.slice = {TRNN_COLS, 1 << 28, 1 << 28}}},
         {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a delay of another frame", TRNN_E_SHAPE, 0,
         {DELAY(2)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"a delay of a later value of another frame", TRNN_E_SHAPE, 0,
         {DELAY(2), CONCAT}, {{1, {2}}, {2, {0, 1}}}, 2, 1, 1, {PER_STEP}, {2}},
        {"indices of a layer's value", TRNN_E_SHAPE, 0,
         {PLAIN(identity), EMBEDDING(9, 2)}, {{1, {0}}, {1, {1}}}, 2, 1, 1, {PER_STEP}, {2}},
        {"indices that another layer reads", TRNN_E_SHAPE, 0,
         {EMBEDDING(9, 2), PLAIN(relu)}, {{1, {0}}, {1, {0}}}, 2, 1, 2, {{{1, 1, 1}, 1}}, {1, 2}},
        {"indices that a layer before read", TRNN_E_SHAPE, 0,
         {PLAIN(relu), EMBEDDING(9, 2)}, {{1, {0}}, {1, {0}}}, 2, 1, 2, {{{1, 1, 1}, 1}}, {1, 2}},
        {"indices that a delay reads", TRNN_E_SHAPE, 0,
         {EMBEDDING(9, 2), DELAY(1)}, {{1, {0}}, {1, {0}}}, 2, 1, 2, {{{1, 1, 1}, 1}}, {1, 2}},
        {"indices as an output", TRNN_E_SHAPE, 0,
         {EMBEDDING(9, 2)}, {{1, {0}}}, 1, 1, 2, {{{1, 1, 1}, 1}}, {1, 0}},
        {"an lstm per sequence", TRNN_E_TIME, 0,
         {RECURRENT(lstm, 3, 2)}, {{1, {0}}}, 1, 1, 1, {ONCE}, {1}},
        {"a delay per sequence", TRNN_E_TIME, 0,
         {DELAY(3)}, {{1, {0}}}, 1, 1, 1, {ONCE}, {1}},
        {"a sum of two axes of time", TRNN_E_TIME, 0,
         {PLAIN(add)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, SECOND}, {2}},
        {"frames of two axes of time side by side", TRNN_E_TIME, 0,
         {CONCAT}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, SECOND}, {2}},
        {"a delay of a later value per sequence", TRNN_E_TIME, 0,
         {DELAY(3), PLAIN(relu)}, {{1, {2}}, {1, {0}}}, 2, 1, 1, {ONCE}, {1}},
        {"a loop on two axes", TRNN_E_TIME, 0,
         {DELAY(3), PLAIN(add), PLAIN(add)}, {{1, {3}}, {2, {1, 2}}, {2, {0, 2}}}, 3, 2, 2, {PER_STEP, SECOND}, {3, 4}},
        {"both ways in a loop", TRNN_E_LOOP, 0,
         {DELAY(2), PLAIN(add), RECURRENT(gru, 2, 1, .bidirectional = 1)},
         {{1, {3}}, {2, {0, 1}}, {1, {2}}}, 3, 1, 1, {{{1, 1, 2}, 1}}, {3}},
        {"a layer per sequence in a loop", TRNN_E_LOOP, 0,
         {DELAY(3), PLAIN(relu), PLAIN(add)}, {{1, {3}}, {1, {0}}, {2, {1, 2}}}, 3, 1, 1, {ONCE}, {3}},
        {"batch norm in a loop", TRNN_OK, TRNN_E_LOOP,
         {DELAY(3), PLAIN(add), NORM(batch_norm, 3, 1, 1)},
         {{1, {3}}, {2, {0, 1}}, {1, {2}}}, 3, 1, 1, {PER_STEP}, {3}},
        {"a gru that begins with a value", TRNN_OK, TRNN_OK,
         {RECURRENT(gru, 3, 3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"a gru that begins with two", TRNN_E_GRAPH, 0,
         {RECURRENT(gru, 3, 3)}, {{3, {0, 1, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"an lstm that begins with h alone", TRNN_E_GRAPH, 0,
         {RECURRENT(lstm, 3, 3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"a gru that begins with a value per step", TRNN_E_TIME, 0,
         {RECURRENT(gru, 3, 3)}, {{3, {0, 1, 2}}}, 1, 3, 1, {PER_STEP, {{1, 1, 1}, 1}, PER_STEP}, {3}},
        {"a gru with a mask", TRNN_OK, TRNN_OK,
         {RECURRENT(gru, 3, 3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 1, 1}, 1}}, {2}},
        {"a gru with a mask that begins with a value", TRNN_OK, TRNN_OK,
         {RECURRENT(gru, 3, 3)}, {{3, {0, 1, 2}}}, 1, 3, 1, {PER_STEP, {{1, 1, 1}, 1}, ONCE}, {3}},
        {"a gru with a mask after the value that it begins with", TRNN_E_GRAPH, 0,
         {RECURRENT(gru, 3, 3)}, {{3, {0, 2, 1}}}, 1, 3, 1, {PER_STEP, {{1, 1, 1}, 1}, ONCE}, {3}},
        {"a gru with a mask of 3 numbers", TRNN_E_SHAPE, 0,
         {RECURRENT(gru, 3, 3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, PER_STEP}, {2}},
        {"a gru with a mask of another axis", TRNN_E_TIME, 0,
         {RECURRENT(gru, 3, 3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 1, 1}, 2}}, {2}},
        {"a linear layer with a mask", TRNN_E_GRAPH, 0,
         {LINEAR(3, 3, 1)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 1, 1}, 1}}, {2}},
        {"a gru of 2 that begins with 3 numbers", TRNN_E_SHAPE, 0,
         {RECURRENT(gru, 3, 2)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"the second level of one", TRNN_E_SHAPE, 0,
         {RECURRENT(gru, 3, 3, .level = 1)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"level -1", TRNN_E_ARGUMENT, 0,
         {RECURRENT(gru, 3, 3, .level = -1)}, {{1, {0}}}, 1, 1, 1, {PER_STEP}, {1}},
        {"both ways from one", TRNN_E_SHAPE, 0,
         {RECURRENT(gru, 3, 3, .bidirectional = 1)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"a delay that begins with a later value", TRNN_E_GRAPH, 0,
         {DELAY(3), PLAIN(relu), PLAIN(add)}, {{2, {0, 3}}, {1, {1}}, {2, {2, 3}}}, 3, 2, 1, {PER_STEP, ONCE}, {4}},
        {"a delay that begins with 2 numbers", TRNN_E_SHAPE, 0,
         {DELAY(3)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, {{1, 1, 2}, 0}}, {2}},
        {"a linear layer that begins with a value", TRNN_E_GRAPH, 0,
         {LINEAR(3, 3, 0)}, {{2, {0, 1}}}, 1, 2, 1, {PER_STEP, ONCE}, {2}},
        {"a delay of 2^28 steps", TRNN_E_SIZE, 0,
         {{TRNN_TRAINED(delay), .as.delay = {1 << 14, 1 << 14, 1 << 14, 1 << 28}}}, {{1, {0}}}, 1, 1, 1,
         {{{1 << 14, 1 << 14, 1 << 14}, 1}}, {1}},
        /* clang-format on */
    };
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++) {
        const trnn_net net = {nets[k].layers,
                              nets[k].count,
                              nets[k].reads,
                              nets[k].inputs,
                              nets[k].outputs,
                              {nets[k].input[0], nets[k].input[1], nets[k].input[2]},
                              {nets[k].output[0], nets[k].output[1]}};
        const int32_t steps[TRNN_AXES_MAX] = {2, 2, 2, 2};
        trnn_sizes sizes, before;
        trnn_training_sizes trained, trained_before;
        memory plan = memory_take(trnn_plan_bytes(&net)), training = memory_take(trnn_training_bytes(&net));
        memset(&sizes, 0x5a, sizeof sizes);
        memset(&trained, 0x5a, sizeof trained);
        before = sizes;
        trained_before = trained;
        const trnn_status status = trnn_plan_init(plan.at, &net, 1, steps, &sizes);
        const trnn_status learns = trnn_training_init(training.at, &net, 1, steps, &trained);
        const trnn_status wanted = nets[k].wanted != TRNN_OK ? nets[k].wanted : nets[k].trained;
        check(status == nets[k].wanted, "%s: %s", nets[k].name, trnn_status_text(status));
        check(learns == wanted, "%s: training: %s", nets[k].name, trnn_status_text(learns));
        check(status == TRNN_OK || memcmp(&sizes, &before, sizeof sizes) == 0, "%s: sizes", nets[k].name);
        check(learns == TRNN_OK || memcmp(&trained, &trained_before, sizeof trained) == 0,
              "%s: sizes of training", nets[k].name);
        memory_release(&plan);
        memory_release(&training);
    }
}

void test_graph(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {
        {"a chain as a graph", chains},
        {"frames of three axes", along_axes},
        {"random graphs, in every way", random_graphs},
        {"their gradients", random_gradients},
        {"layers per sequence take turns", turns},
        {"values share scratch", values_in_scratch},
        {"values within values", views},
        {"values within values, in a loop", views_in_a_loop},
        {"graphs that cannot be", cannot_be},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        check_group(groups[i].name);
        groups[i].run();
    }
}
