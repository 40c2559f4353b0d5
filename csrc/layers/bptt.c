/* Backpropagation through time, for one level of a recurrent stack.
 *
 * With a_t the sums of a step's gates and da_t their gradient,
 *
 *     a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
 *
 *     dh_t     = dy_t + W_hh^T da_{t+1}              the gradient of the step's output
 *     da_t     = step_back(dh_t)                     the cell's formula: cells/<name>.inc
 *     dx_t     = W_ih^T da_t
 *     dW_ih   += sum_t da_t x_t^T,      db_ih += sum_t da_t
 *     dW_hh   += sum_t da_t h_{t-1}^T,  db_hh += sum_t da_t
 *
 * (Goodfellow, Bengio and Courville, "Deep Learning" (2016), section 10.2.2). Only the first two lines are
 * sequential; the others are one matrix product over many steps, the last two over all of them.
 *
 * If a formula reads a gate's hidden part apart, as a GRU does, the gradients of the hidden parts are an array of
 * their own, `hidden`; else `hidden` is the same array as da. With a projection h_t = W_hr m_t, one more product
 * gives dm_t from dh_t. For a cell of two rounds, whose last gates multiply m_t = first(h_{t-1}) in the place of
 * h_{t-1}, the step is da2_t = step_back(dh_t), dm_t = W_hh2^T da2_t, da1_t = round1_back(dm_t); the sums of a row are
 * those of the first round, then those of the second. After a row's end, and at a step that is
 * masked, its state stays and da_t is zero; dy_t of a masked step, whose y is h, adds to the gradient of h.
 */
#include "recurrent.h"

/* One direction's tape; NULL for arrays that its cell does not need. Step t goes from state t to state t + 1, in the
 * reverse direction from t + 1 to t. */
typedef struct {
    float *gates;      /* (T, B, G): a_t, then what the formula keeps, then da_t */
    float *hidden;     /* apart gates: (T, B, G); else the array `gates` */
    float *h;          /* (T + 1, B, P) */
    float *states;     /* (T + 1, B, S), S = states * H */
    float *dvectors;   /* (T, B, V): each step's and row's share */
    float *dnorm;      /* trnn_has_norm: (B, trnn_norms_size): each row's share */
    float *inner;      /* projection, or two rounds: (T, B, H), m_t */
    float *dprojected; /* projection: (T, B, P), dh_t; Jordan: before, y_t's sums */
    float *transposed_ih, *transposed_hh, *transposed_hr; /* transposed matrices: (I, G), (P, G1), (H, P) */
    float *transposed_hh2;                                /* two rounds: (P, G2), with G1 + G2 = G */
    float *dh;                                            /* (B, P): W_hh^T da of the step after */
    float *dh_own;          /* own: (B, H): gradient of h_t through the formula of the step after */
    float *dstates;         /* (B, S) */
    float *dinner;          /* projection, or two rounds: (B, H), dm_t */
    float *dropped;         /* recurrent_dropout: (T, B, P): the h that the product sees */
    float *low, *dlow;      /* low rank: (T, B, rank): W_hr h, and its gradient */
    float *low_x, *dlow_x;  /* the same of W_ih: W_ir x */
    float *transposed_ir;   /* (I, rank) */
    float *transposed_seen; /* peepholes that are matrices: (H, V) */
    float *dseen;           /* the same: (B, H) */
} direction_tape;

static direction_tape place_tape(const trnn_layer *layer, int32_t batch, int32_t steps, trnn_cursor *cursor)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    const int32_t units = a->hidden_size, size = trnn_output_size(layer);
    const int32_t sums = (int32_t)trnn_gates_size(layer);
    const size_t gates = (size_t)sums, states = trnn_states_size(layer), vectors = trnn_vectors_size(layer);
    const size_t rows = (size_t)batch, frames = trnn_times((size_t)steps, rows),
                 after = trnn_plus(frames, rows), h = (size_t)size, m = (size_t)units;
    const int projects = trnn_projected(layer) > 0, two = trnn_second(facts) > 0;
    const int32_t sums1 = two ? (int32_t)trnn_round_at(layer, 1) : sums;
    direction_tape tape = {.gates = NULL};
    tape.gates = trnn_take(cursor, trnn_times(frames, gates));
    tape.hidden = trnn_has_apart(layer) ? trnn_take(cursor, trnn_times(frames, gates)) : tape.gates;
    tape.h = trnn_take(cursor, trnn_times(after, h));
    if (states > 0) tape.states = trnn_take(cursor, trnn_times(after, states));
    if (vectors > 0) tape.dvectors = trnn_take(cursor, trnn_times(frames, vectors));
    tape.dnorm = trnn_take(cursor, trnn_times(rows, trnn_norms_size(layer)));
    if (projects || two) tape.inner = trnn_take(cursor, trnn_times(frames, m));
    if (projects) tape.dprojected = trnn_take(cursor, trnn_times(frames, h));
    tape.transposed_ih = trnn_take(cursor, trnn_transposed_size(sums, trnn_input_depth(layer)));
    if (!facts->no_hh)
        tape.transposed_hh = trnn_take(cursor, trnn_transposed_size(sums1, trnn_hidden_depth(layer)));
    if (two) tape.transposed_hh2 = trnn_take(cursor, trnn_transposed_size(sums - sums1, size));
    if (projects || trnn_rank(layer))
        tape.transposed_hr =
            trnn_take(cursor, trnn_transposed_size(trnn_rank(layer) ? trnn_rank(layer) : size, units));
    tape.dh = trnn_take(cursor, trnn_times(rows, h));
    if (trnn_has_own(layer)) tape.dh_own = trnn_take(cursor, trnn_times(rows, m));
    if (trnn_drops(layer)) tape.dropped = trnn_take(cursor, trnn_times(frames, h));
    if (trnn_rank(layer)) {
        tape.low = trnn_take(cursor, trnn_times(frames, (size_t)trnn_rank(layer)));
        tape.dlow = trnn_take(cursor, trnn_times(frames, (size_t)trnn_rank(layer)));
    }
    if (trnn_input_rank(layer)) {
        tape.low_x = trnn_take(cursor, trnn_times(frames, (size_t)trnn_input_rank(layer)));
        tape.dlow_x = trnn_take(cursor, trnn_times(frames, (size_t)trnn_input_rank(layer)));
        tape.transposed_ir = trnn_take(cursor, trnn_transposed_size(trnn_input_rank(layer), a->input_size));
    }
    if (trnn_has_matrices(layer)) {
        tape.transposed_seen = trnn_take(cursor, trnn_transposed_size((int32_t)vectors, units));
        tape.dseen = trnn_take(cursor, trnn_times(rows, m));
    }
    if (states > 0) tape.dstates = trnn_take(cursor, trnn_times(rows, states));
    if (projects || two) tape.dinner = trnn_take(cursor, trnn_times(rows, m));
    return tape;
}

size_t trnn_recurrent_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                           int32_t steps)
{
    (void)in, (void)out;
    trnn_cursor cursor = {NULL, 0};
    for (int32_t d = 0; d < trnn_directions(layer); d++) place_tape(layer, batch, steps, &cursor);
    return cursor.bytes;
}

typedef struct {
    float *bias; /* (trnn_biases_size,) */
    float *dx;   /* bidirectional: (chunk, B, I): the reverse direction's dx, which is then added */
    float *work; /* a general cell's */
} part_scratch;

static part_scratch place_part(const trnn_layer *layer, int32_t batch, int32_t steps, trnn_cursor *cursor)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const size_t rows = trnn_times((size_t)trnn_chunk_steps(batch, steps), (size_t)batch);
    part_scratch scratch = {NULL, NULL, NULL};
    scratch.bias = trnn_take(cursor, trnn_biases_size(layer));
    scratch.dx = trnn_take(cursor, trnn_directions(layer) > 1 ? trnn_times(rows, (size_t)a->input_size) : 0);
    scratch.work = trnn_take(cursor, trnn_cell_work(layer, batch));
    return scratch;
}

size_t trnn_recurrent_train_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                    int32_t steps)
{
    (void)in, (void)out;
    trnn_cursor cursor = {NULL, 0};
    place_part(layer, batch, steps, &cursor);
    return cursor.bytes;
}

/* One direction of a pass. */
typedef struct {
    const trnn_pass *pass;
    const trnn_layer *layer;
    const trnn_recurrent_kind *kind;
    const trnn_recurrent_back *back;
    direction_tape tape;
    part_scratch scratch;
    float *const *weights, *const *grads; /* the direction's slots */
    float *state, *dstate;                /* the direction's numbers of row 0 */
    int32_t batch, input, gates, gates1;  /* B, I, G, G1 */
    int32_t deep;                         /* numbers that W_ih multiplies: I, or its rank */
    int32_t units, size;                  /* H, P */
    int32_t states, vectors;              /* S, V */
    int32_t out, offset;                  /* numbers of a frame of y; the direction's first one */
    int32_t norms;                        /* numbers of a row of dnorm */
    int reverse;
    trnn_rows rows;            /* that a step computes */
    trnn_cell_options options; /* a general cell's, without what differs step by step */
    int32_t chunk;             /* steps of one product: several, if the part is the whole batch */
} direction;

static direction direction_of(const trnn_pass *pass, int32_t d)
{
    const trnn_layer *layer = pass->layer;
    const size_t state = (size_t)d * trnn_direction_state(layer);
    trnn_cursor on_tape = {pass->tape, 0}, in_scratch = {pass->scratch, 0};
    const int32_t size = trnn_output_size(layer);
    direction me = {
        .pass = pass,
        .layer = layer,
        .kind = trnn_recurrent_kind_of(layer),
        .back = layer->training->family,
        .scratch = place_part(layer, pass->batch, pass->steps, &in_scratch),
        .weights = pass->weights + d * RECURRENT_SLOTS,
        .grads = pass->grads + d * RECURRENT_SLOTS,
        .state = pass->state + state,
        .dstate = pass->dstate + state,
        .batch = pass->batch,
        .input = layer->as.recurrent.input_size,
        .deep = trnn_input_depth(layer),
        .gates = (int32_t)trnn_gates_size(layer),
        .gates1 =
            (int32_t)(trnn_second(trnn_facts_of(layer)) ? trnn_round_at(layer, 1) : trnn_gates_size(layer)),
        .units = layer->as.recurrent.hidden_size,
        .size = size,
        .states = (int32_t)trnn_states_size(layer),
        .vectors = (int32_t)trnn_vectors_size(layer),
        .out = pass->out.cols,
        .offset = d * size,
        .norms = (int32_t)trnn_norms_size(layer),
        .reverse = d == 1,
        .rows = trnn_rows_of(pass->lengths, trnn_pass_mask(pass), pass->batch, 0),
        .chunk = pass->rows == pass->batch ? trnn_chunk_steps(pass->batch, pass->steps) : 1,
    };
    for (int32_t before = 0; before <= d; before++)
        me.tape = place_tape(layer, pass->batch, pass->steps, &on_tape);
    return me;
}

/* A phase of the pass, direction by direction. */
static void each_direction(const trnn_pass *pass, void (*phase)(const direction *me))
{
    for (int32_t d = 0; d < trnn_directions(pass->layer); d++) {
        direction me = direction_of(pass, d);
        const trnn_cell_norm norm = TRNN_NORM_OF(me.weights, me.scratch.bias);
        me.options = trnn_options_of(pass->layer, d, &norm, me.weights[WEIGHT_HR], me.scratch.work);
        phase(&me);
    }
}

/* Facts of a direction that a build may leave out. */
static int is_reverse(const direction *me) { return TRNN_WITH_BIDIRECTIONAL && me->reverse; }
static int keeps_hidden(const direction *me) { return TRNN_WITH_HIDDEN && me->pass->hidden; }
static int projects(const direction *me) { return trnn_projected(me->layer) > 0; }
static const trnn_cell_norm *norm_of(const direction *me)
{
    return TRNN_WITH_CELL_OPTIONS ? me->options.norm : NULL;
}
static int rounds_of(const direction *me) { return trnn_rounds(trnn_facts_of(me->layer)); }
static int32_t rank_of(const direction *me) { return trnn_rank(me->layer); }
static int32_t input_rank_of(const direction *me) { return trnn_input_rank(me->layer); }

/* The step that comes i-th, and the states that it goes from and to. */
static int32_t step_at(const direction *me, int32_t i)
{
    return is_reverse(me) ? me->pass->steps - 1 - i : i;
}
static int32_t state_before(const direction *me, int32_t t) { return t + is_reverse(me); }
static int32_t state_after(const direction *me, int32_t t) { return t + !is_reverse(me); }

/* The chunk that begins with the i-th step: how many steps, and the first of them in the order of time. */
static int32_t chunk_at(const direction *me, int32_t i, int32_t *first)
{
    const int32_t left = me->pass->to - i, count = left < me->chunk ? left : me->chunk;
    *first = step_at(me, is_reverse(me) ? i + count - 1 : i);
    return count;
}

/* Row b at step t of an array (T, B, size): its place, and a pointer to it. */
static size_t place(const direction *me, int32_t t, int32_t b, int32_t size)
{
    return ((size_t)t * (size_t)me->batch + (size_t)b) * (size_t)size;
}
static float *at(const direction *me, float *array, int32_t t, int32_t b, int32_t size)
{
    return array + place(me, t, b, size);
}

static trnn_matrix matrix_ih(const direction *me, int round)
{
    return trnn_matrix_ih(me->layer, round, me->weights[WEIGHT_IH]);
}
static trnn_matrix matrix_hh(const direction *me, int round)
{
    return trnn_matrix_hh(me->layer, round, me->weights[WEIGHT_HH]);
}
static trnn_matrix matrix_hr(const direction *me)
{
    return trnn_matrix_hr(me->layer, me->weights[WEIGHT_HR]);
}

static trnn_matrix matrix_ir(const direction *me)
{
    return trnn_matrix_ir(me->layer, me->weights[WEIGHT_IR]);
}

static trnn_matrix matrix_seen(const direction *me)
{
    return trnn_matrix_seen(me->layer, me->weights[VECTORS]);
}

/* The place and the number of a round's sums in a row of G. */
static int32_t round_at(const direction *me, int round) { return round ? me->gates1 : 0; }
static int32_t round_sums(const direction *me, int round)
{
    return round ? me->gates - me->gates1 : me->gates1;
}

static void transpose_direction(const direction *me)
{
    const direction_tape *tape = &me->tape;
    const int32_t part = me->pass->part, parts = me->pass->parts;
    for (int round = 0; round < rounds_of(me); round++) {
        const int32_t sums = round_sums(me, round);
        float *hh = round ? tape->transposed_hh2 : tape->transposed_hh;
        if (me->pass->dx || input_rank_of(me))
            trnn_transpose_into(matrix_ih(me, round), sums, tape->transposed_ih, (size_t)round_at(me, round),
                                (size_t)me->gates, part, parts);
        if (hh) trnn_transpose(matrix_hh(me, round), sums, hh, part, parts);
    }
    if (me->pass->dx && input_rank_of(me))
        trnn_transpose(matrix_ir(me), input_rank_of(me), tape->transposed_ir, part, parts);
    if (tape->transposed_hr)
        trnn_transpose(matrix_hr(me), rank_of(me) ? rank_of(me) : me->size, tape->transposed_hr, part, parts);
    if (trnn_has_matrices(me->layer))
        trnn_transpose(matrix_seen(me), me->vectors, tape->transposed_seen, part, parts);
}

void trnn_recurrent_transpose(const trnn_pass *pass) { each_direction(pass, transpose_direction); }

/* ---- forward pass ------------------------------------------------------------------------------- */

static void copy_numbers(float *to, const float *from, int32_t numbers)
{
    trnn_copy(to, from, (size_t)numbers * sizeof(float));
}

static void clear_numbers(float *to, int32_t numbers) { trnn_zero(to, (size_t)numbers * sizeof(float)); }

/* Copies the initial state to the tape; at the end, the final state from it. */
static void begin_forward(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    const int32_t start = state_before(me, step_at(me, pass->from));
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        const float *state = me->state + (size_t)b * pass->state_stride;
        copy_numbers(at(me, tape->h, start, b, me->size), state, me->size);
        if (tape->states)
            copy_numbers(at(me, tape->states, start, b, me->states), state + me->size, me->states);
    }
}

static void end_forward(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    const int32_t end = state_after(me, step_at(me, pass->to - 1));
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *state = me->state + (size_t)b * pass->state_stride;
        copy_numbers(state, at(me, tape->h, end, b, me->size), me->size);
        if (tape->states)
            copy_numbers(state + me->size, at(me, tape->states, end, b, me->states), me->states);
    }
}

/* Drops numbers of rows b .. end - 1 of an array (B, P), where `from` and `to` have row b: the same numbers at all steps.
 * `to` may be `from`. */
static void drop_state(const direction *me, int32_t b, int32_t end, const float *from, float *to)
{
    const float p = me->layer->as.recurrent.recurrent_dropout, scale = p < 1.0f ? 1.0f / (1.0f - p) : 0.0f;
    const size_t size = (size_t)me->size, first = (size_t)(is_reverse(me) * me->batch + b) * size;
    for (size_t i = 0; i < (size_t)(end - b) * size; i++)
        to[i] = trnn_is_dropped(me->pass->seed, first + i, p) ? 0.0f : from[i] * scale;
}

/* The dice of row b at step t, which zoneout throws: behind those of drop_state(). */
static trnn_dice dice_of(const direction *me, int32_t t, int32_t b)
{
    const size_t frames = (size_t)me->pass->steps * (size_t)me->batch,
                 row = (size_t)is_reverse(me) * frames + place(me, t, b, 1);
    return (trnn_dice){me->layer->as.recurrent.zoneout_mean ? NULL : me->pass->seed,
                       2 * ((size_t)me->batch + row) * (size_t)me->units};
}

/* A general cell's options from row b on at step t. */
static trnn_cell_options options_at(const direction *me, int32_t t, int32_t b)
{
    trnn_cell_options options = me->options;
    if (rank_of(me)) options.low = at(me, me->tape.low, t, b, rank_of(me));
    if (trnn_has_zoneout(me->layer)) options.dice = dice_of(me, t, b);
    return options;
}

static const float *hidden_bias(const direction *me)
{
    return trnn_hidden_bias(&me->kind->facts, (size_t)me->gates, me->weights[BIAS_IH], me->scratch.bias);
}

/* Rows b .. end - 1 of step t. */
static void step_forward(const direction *me, int32_t t, int32_t b, int32_t end)
{
    const direction_tape *tape = &me->tape;
    const int32_t units = me->units, size = me->size;
    float *h = at(me, tape->h, state_after(me, t), b, size), *gates = at(me, tape->gates, t, b, me->gates);
    const trnn_cell_options options = options_at(me, t, b);
    trnn_cell cell = {
        .hidden = matrix_hh(me, 0),
        .rows = end - b,
        .units = units,
        .args = &me->layer->as.recurrent,
        .gates = gates,
        .bias_hh = hidden_bias(me),
        .vectors = me->weights[VECTORS],
        .options = &options,
        .h = at(me, tape->h, state_before(me, t), b, size),
        .before = at(me, tape->h, state_before(me, t), b, size),
        .states = tape->states ? at(me, tape->states, state_after(me, t), b, me->states) : NULL,
        .y = projects(me) ? at(me, tape->inner, t, b, units) : h,
        .gates_stride = (size_t)me->gates,
        .h_stride = (size_t)size,
        .before_stride = (size_t)size,
        .states_stride = (size_t)me->states,
        .y_stride = (size_t)units,
        .tape = gates,
        .tape_h = at(me, tape->hidden, t, b, me->gates),
        .steps = 1,
    };
    if (trnn_drops(me->layer)) {
        float *dropped = at(me, tape->dropped, t, b, size);
        drop_state(me, b, end, cell.h, dropped);
        cell.h = dropped;
    }
    if (rounds_of(me) > 1) {
        cell.y = at(me, tape->inner, t, b, units);
        me->kind->round1(me->pass->isa, &cell);
        if (trnn_drops(me->layer)) drop_state(me, b, end, cell.y, cell.y); /* no projection, so P is H */
        cell.hidden = matrix_hh(me, 1);
        cell.h = cell.y;
        cell.between = gates;
        cell.gates = cell.tape = gates + me->gates1;
        cell.y = h;
        cell.h_stride = (size_t)units;
    }
    me->back->step_taped(me->pass->isa, &cell);
    if (projects(me)) {
        const int output = trnn_is_jordan(me->layer);
        float *sums = at(me, tape->dprojected, t, b, size);
        const trnn_product project =
            trnn_product_of(matrix_hr(me), end - b, size, output ? me->weights[BIAS_HR] : NULL, cell.y,
                            output ? sums : h, NULL);
        TRNN_KERNEL(me->pass->isa, product)(&project);
        if (output)
            trnn_general_of(me->layer)->output(me->pass->isa, cell.args, is_reverse(me), end - b, sums, h,
                                               (size_t)size);
    }
}

/* The input part of a_t, for the chunk that begins with the i-th step. */
static void input_forward(const direction *me, int32_t i)
{
    const trnn_pass *pass = me->pass;
    int32_t t;
    const int32_t steps = chunk_at(me, i, &t);
    const float *bias = me->weights[BIAS_IH] && !norm_of(me) ? me->scratch.bias : NULL;
    const float *x =
        trnn_input_of(pass->isa, me->layer, me->weights[WEIGHT_IR], steps * pass->rows,
                      (const float *)pass->x + place(me, t, pass->first, me->input),
                      input_rank_of(me) ? at(me, me->tape.low_x, t, pass->first, me->deep) : NULL, NULL);
    float *gates = at(me, me->tape.gates, t, pass->first, me->gates);
    for (int round = 0; round < rounds_of(me); round++) {
        const int32_t first = round_at(me, round);
        trnn_product product =
            trnn_product_of(matrix_ih(me, round), steps * pass->rows, round_sums(me, round),
                            bias ? bias + first : NULL, x, gates + first, NULL);
        product.y_stride = (size_t)me->gates;
        TRNN_KERNEL(pass->isa, product)(&product);
    }
}

static void add_biases(const direction *me)
{
    if (me->weights[BIAS_IH])
        trnn_add_biases(me->pass->isa, &me->kind->facts, (size_t)me->gates, me->weights[BIAS_IH],
                        me->weights[BIAS_HH], me->scratch.bias);
}

static void forward_direction(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    const int32_t units = me->units, size = me->size, last = pass->first + pass->rows;

    begin_forward(me);
    add_biases(me);
    for (int32_t i = pass->from; i < pass->to; i++) {
        if ((i - pass->from) % me->chunk == 0) input_forward(me, i);

        const int32_t t = step_at(me, i), before = state_before(me, t), after = state_after(me, t);
        if (tape->states)
            trnn_copy(at(me, tape->states, after, pass->first, me->states),
                      at(me, tape->states, before, pass->first, me->states),
                      (size_t)pass->rows * (size_t)me->states * sizeof(float));
        int32_t b, end = pass->first;
        while (trnn_next_rows(&me->rows, t, last, &b, &end)) step_forward(me, t, b, end);

        for (b = pass->first; b < last; b++) {
            float *y = at(me, pass->y, t, b, me->out) + me->offset, *h = at(me, tape->h, after, b, size);
            const int rests = !me->rows.all && trnn_rests(&me->rows, t, b);
            if (rests) copy_numbers(h, at(me, tape->h, before, b, size), size);
            if (rests && tape->inner) clear_numbers(at(me, tape->inner, t, b, units), units);
            if (rests && trnn_drops(me->layer)) clear_numbers(at(me, tape->dropped, t, b, size), size);
            if (rests && rank_of(me)) clear_numbers(at(me, tape->low, t, b, rank_of(me)), rank_of(me));
            if (rests && trnn_has_ended(&me->rows, t, b))
                clear_numbers(y, size);
            else
                copy_numbers(y, h, size);
        }
    }
    end_forward(me);
}

void trnn_recurrent_forward(const trnn_pass *pass) { each_direction(pass, forward_direction); }

/* ---- backward pass ------------------------------------------------------------------------------ */

/* Reads the gradient of the final state; at the end, writes that of the initial state. */
static void begin_backward(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        const float *dstate = me->dstate + (size_t)b * pass->state_stride;
        copy_numbers(at(me, tape->dh, 0, b, me->size), dstate, me->size);
        if (tape->dstates)
            copy_numbers(at(me, tape->dstates, 0, b, me->states), dstate + me->size, me->states);
        if (tape->dh_own) clear_numbers(at(me, tape->dh_own, 0, b, me->units), me->units);
    }
}

static void end_backward(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
        float *dstate = me->dstate + (size_t)b * pass->state_stride;
        const float *dh = at(me, tape->dh, 0, b, me->size);
        copy_numbers(dstate, dh, me->size);
        for (int32_t j = 0; tape->dh_own && j < me->units; j++)
            dstate[j] = dh[j] + at(me, tape->dh_own, 0, b, me->units)[j];
        if (tape->dstates)
            copy_numbers(dstate + me->size, at(me, tape->dstates, 0, b, me->states), me->states);
    }
}

/* All of dL/dh_t of row b in the place of dy_t: for a row that rests, whose h has it then, and in a pass with `hidden`,
 * whose step takes it from there, without the flush: a gradient that fades is seen as it is. */
static void gather_gradient(const direction *me, int32_t t, int32_t b, int rests)
{
    float *dy = at(me, me->pass->dy, t, b, me->out) + me->offset, *dh = at(me, me->tape.dh, 0, b, me->size),
          *own = me->tape.dh_own ? at(me, me->tape.dh_own, 0, b, me->units) : NULL;
    for (int32_t j = 0; j < me->size; j++) {
        const float all = (own ? dh[j] + own[j] : dh[j]) + dy[j]; /* in the order of the step */
        dh[j] = rests ? dh[j] + dy[j] : 0.0f;
        if (own && !rests) own[j] = 0.0f;
        dy[j] = all;
    }
}

/* dm_t = W_hr^T dh_t, dh_t = dy_t + the gradient from the step after. */
static void unproject(const direction *me, int32_t t, int32_t b, int32_t end)
{
    const direction_tape *tape = &me->tape;
    const int32_t size = me->size;
    float *dprojected = at(me, tape->dprojected, t, b, size);
    for (int32_t row = b; row < end; row++) {
        const float *dy = at(me, me->pass->dy, t, row, me->out) + me->offset,
                    *dh = at(me, tape->dh, 0, row, size);
        float *sum = at(me, tape->dprojected, t, row, size);
        float *d = trnn_is_jordan(me->layer) ? me->scratch.work : sum;
        for (int32_t j = 0; j < size; j++) d[j] = dh[j] + dy[j];
        if (trnn_is_jordan(me->layer))
            trnn_general_of(me->layer)->output_back(me->pass->isa, &me->layer->as.recurrent, is_reverse(me),
                                                    sum, at(me, tape->h, state_after(me, t), row, size), d,
                                                    d + size);
    }
    const trnn_product product =
        trnn_product_of(trnn_transposed_matrix(tape->transposed_hr, me->size, me->units), end - b, me->units,
                        NULL, dprojected, at(me, tape->dinner, 0, b, me->units), NULL);
    TRNN_KERNEL(me->pass->isa, product)(&product);
}

/* Rows b .. end - 1 of step t: da_t, and W_hh^T da_t for the step before. */
static void step_backward(const direction *me, int32_t t, int32_t b, int32_t end)
{
    const direction_tape *tape = &me->tape;
    const int32_t units = me->units, size = me->size, before = state_before(me, t);
    float *dh = at(me, tape->dh, 0, b, size);
    for (int32_t row = b; keeps_hidden(me) && row < end; row++) gather_gradient(me, t, row, 0);
    if (projects(me)) unproject(me, t, b, end);

    const trnn_cell_options options = options_at(me, t, b);
    trnn_cell_back cell = {
        .rows = end - b,
        .units = units,
        .args = &me->layer->as.recurrent,
        .gates = at(me, tape->gates, t, b, me->gates) + (rounds_of(me) > 1 ? me->gates1 : 0),
        .hidden = at(me, tape->hidden, t, b, me->gates),
        .between = at(me, tape->gates, t, b, me->gates),
        .vectors = me->weights[VECTORS],
        .options = &options,
        .bias_hh = hidden_bias(me),
        .dnorm = norm_of(me) ? at(me, tape->dnorm, 0, b, me->norms) : NULL,
        .dnorm_stride = (size_t)me->norms,
        .dvectors = tape->dvectors ? at(me, tape->dvectors, t, b, me->vectors) : NULL,
        .dy = projects(me) ? NULL : at(me, me->pass->dy, t, b, me->out) + me->offset,
        .dh_sum = projects(me) ? at(me, tape->dinner, 0, b, units) : dh,
        .dh_own = tape->dh_own ? at(me, tape->dh_own, 0, b, units) : NULL,
        .h_before = at(me, tape->h, before, b, size),
        .states_before = tape->states ? at(me, tape->states, before, b, me->states) : NULL,
        .dstates = tape->dstates ? at(me, tape->dstates, 0, b, me->states) : NULL,
        .gates_stride = (size_t)me->gates,
        .dvectors_stride = (size_t)me->vectors,
        .dy_stride = (size_t)me->out,
        .h_stride = (size_t)units,
        .states_stride = (size_t)me->states,
    };
    me->back->step_back(me->pass->isa, &cell);
    if (rounds_of(me) > 1) {
        const trnn_matrix transposed = trnn_transposed_matrix(tape->transposed_hh2, round_sums(me, 1), size);
        float *dinner = at(me, tape->dinner, 0, b, units);
        trnn_product product = trnn_product_of(transposed, end - b, units, NULL, cell.gates, dinner, NULL);
        product.x_stride = (size_t)me->gates;
        TRNN_KERNEL(me->pass->isa, product)(&product);
        if (trnn_drops(me->layer)) drop_state(me, b, end, dinner, dinner);
        cell.gates = cell.between;
        cell.dh_sum = dinner;
        me->back->round1_back(me->pass->isa, &cell);
    }

    if (!tape->transposed_hh) {
        clear_numbers(dh, (end - b) * size);
        return;
    }
    const int32_t depth = trnn_hidden_depth(me->layer);
    float *dlow = rank_of(me) ? at(me, tape->dlow, t, b, depth) : NULL;
    trnn_product product = trnn_product_of(trnn_transposed_matrix(tape->transposed_hh, me->gates1, depth),
                                           end - b, depth, NULL, cell.hidden, dlow ? dlow : dh, NULL);
    product.x_stride = (size_t)me->gates;
    TRNN_KERNEL(me->pass->isa, product)(&product);
    if (rank_of(me)) {
        product = trnn_product_of(trnn_transposed_matrix(tape->transposed_hr, depth, size), end - b, size,
                                  NULL, dlow, dh, NULL);
        TRNN_KERNEL(me->pass->isa, product)(&product);
    }
    if (trnn_drops(me->layer)) drop_state(me, b, end, dh, dh);
    if (!trnn_has_matrices(me->layer)) return;
    float *dseen = at(me, tape->dseen, 0, b, units), *dstates = cell.dstates;
    product = trnn_product_of(trnn_transposed_matrix(tape->transposed_seen, me->vectors, units), end - b,
                              units, NULL, cell.dvectors, dseen, NULL);
    TRNN_KERNEL(me->pass->isa, product)(&product);
    for (size_t j = 0; j < (size_t)(end - b) * (size_t)units; j++) {
        const float d = dstates[j] + dseen[j];
        dstates[j] = d < TRNN_TINY && d > -TRNN_TINY ? 0.0f : d;
    }
}

/* dx of the chunk that begins with the i-th step, and before it the gradient of what W_ih multiplies, where that has a
 * low rank; the reverse direction adds to dx. */
static void input_backward(const direction *me, int32_t i)
{
    const trnn_pass *pass = me->pass;
    int32_t t;
    const int32_t steps = chunk_at(me, i, &t);
    const trnn_matrix transposed = trnn_transposed_matrix(me->tape.transposed_ih, me->gates, me->deep);
    float *gates = at(me, me->tape.gates, t, pass->first, me->gates);
    float *dlow = input_rank_of(me) ? at(me, me->tape.dlow_x, t, pass->first, me->deep) : NULL;
    float *dx = pass->dx ? at(me, pass->dx, t, pass->first, me->input) : NULL,
          *own = is_reverse(me) ? me->scratch.dx : dx;
    trnn_product product =
        trnn_product_of(transposed, steps * pass->rows, me->deep, NULL, gates, dlow ? dlow : own, NULL);
    TRNN_KERNEL(pass->isa, product)(&product);
    if (!pass->dx) return;
    if (dlow) {
        product = trnn_product_of(trnn_transposed_matrix(me->tape.transposed_ir, me->deep, me->input),
                                  steps * pass->rows, me->input, NULL, dlow, own, NULL);
        TRNN_KERNEL(pass->isa, product)(&product);
    }
    const size_t numbers = (size_t)(steps * pass->rows) * (size_t)me->input;
    for (size_t j = 0; is_reverse(me) && j < numbers; j++) dx[j] += own[j];
}

static void backward_direction(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    const int32_t last = pass->first + pass->rows;

    begin_backward(me);
    if (norm_of(me)) {
        add_biases(me);
        if (pass->to == pass->steps)
            clear_numbers(at(me, tape->dnorm, 0, pass->first, me->norms), pass->rows * me->norms);
    }
    for (int32_t i = pass->to - 1; i >= pass->from; i--) {
        const int32_t t = step_at(me, i);
        int32_t b, end = pass->first;
        for (b = pass->first; !me->rows.all && b < last; b++) {
            if (!trnn_rests(&me->rows, t, b)) continue;
            if (TRNN_WITH_GRAPHS && !trnn_has_ended(&me->rows, t, b)) /* masked */
                gather_gradient(me, t, b, 1);
            else if (keeps_hidden(me))
                clear_numbers(at(me, pass->dy, t, b, me->out) + me->offset, me->size);
            clear_numbers(at(me, tape->gates, t, b, me->gates), me->gates);
            clear_numbers(at(me, tape->hidden, t, b, me->gates), me->gates);
            if (tape->dvectors) clear_numbers(at(me, tape->dvectors, t, b, me->vectors), me->vectors);
            if (projects(me)) clear_numbers(at(me, tape->dprojected, t, b, me->size), me->size);
            if (rank_of(me)) clear_numbers(at(me, tape->dlow, t, b, rank_of(me)), rank_of(me));
        }
        while (trnn_next_rows(&me->rows, t, last, &b, &end)) step_backward(me, t, b, end);

        if ((pass->dx || input_rank_of(me)) && (i - pass->from) % me->chunk == 0) input_backward(me, i);
    }
    end_backward(me);
}

void trnn_recurrent_backward(const trnn_pass *pass)
{
    each_direction(pass, backward_direction);
    trnn_mask_backward(pass);
}

/* ---- weight gradients --------------------------------------------------------------------------- */

/* Gradients from the packed row `first` on; NULL where there are none. */
static float *from_row(float *grads, size_t first, int32_t depth)
{
    return grads ? grads + first * (size_t)depth : NULL;
}

static void gradients_of_direction(const direction *me)
{
    const trnn_pass *pass = me->pass;
    const direction_tape *tape = &me->tape;
    const int32_t frames = pass->steps * pass->batch;
    for (int round = 0; round < rounds_of(me); round++) {
        const int32_t sums = round_sums(me, round);
        const size_t first = (size_t)round_at(me, round); /* packed rows before it, in matrices and biases */
        const size_t stride = (size_t)me->gates;
        trnn_weight_gradient ih = trnn_weight_gradient_of(
            pass, matrix_ih(me, round), frames, sums, tape->gates + first,
            input_rank_of(me) ? tape->low_x : pass->x, from_row(me->grads[WEIGHT_IH], first, me->deep),
            norm_of(me) ? NULL : from_row(me->grads[BIAS_IH], first, 1));
        ih.dy_stride = stride;
        if (tape->transposed_hh) {
            const float *h = trnn_drops(me->layer) ? tape->dropped
                                                   : at(me, tape->h, state_before(me, 0), 0, me->size),
                        *before = round         ? tape->inner
                                  : rank_of(me) ? tape->low
                                                : h;
            if (rank_of(me)) {
                const trnn_weight_gradient hr = trnn_weight_gradient_of(
                    pass, matrix_hr(me), frames, rank_of(me), tape->dlow, h, me->grads[WEIGHT_HR], NULL);
                TRNN_KERNEL(pass->isa, weight_gradient)(&hr);
            }
            trnn_weight_gradient hh = trnn_weight_gradient_of(
                pass, matrix_hh(me, round), frames, sums, tape->hidden + first, before,
                from_row(me->grads[WEIGHT_HH], first, trnn_hidden_depth(me->layer)),
                norm_of(me) ? NULL : from_row(me->grads[BIAS_HH], first, 1));
            hh.dy_stride = stride;
            if (tape->hidden == tape->gates) { /* one pass over da_t for both */
                ih.terms = 2;
                ih.term[1] = hh.term[0];
            } else {
                TRNN_KERNEL(pass->isa, weight_gradient)(&hh);
            }
        }
        TRNN_KERNEL(pass->isa, weight_gradient)(&ih);
    }
    if (input_rank_of(me)) {
        const trnn_weight_gradient ir = trnn_weight_gradient_of(
            pass, matrix_ir(me), frames, me->deep, tape->dlow_x, pass->x, me->grads[WEIGHT_IR], NULL);
        TRNN_KERNEL(pass->isa, weight_gradient)(&ir);
    }
    const float *dnorm = tape->dnorm; /* the steps have summed these, row by row */
    for (int32_t slot = 0; norm_of(me) && pass->part == 0 && slot < RECURRENT_SLOTS; slot++) {
        const size_t count = trnn_norm_size(me->layer, slot);
        for (int32_t b = 0; me->grads[slot] && b < me->batch; b++)
            for (size_t j = 0; j < count; j++) me->grads[slot][j] += dnorm[(size_t)(b * me->norms) + j];
        dnorm += count;
    }
    if (trnn_has_matrices(me->layer)) {
        const trnn_weight_gradient seen = trnn_weight_gradient_of(
            pass, matrix_seen(me), frames, me->vectors, tape->dvectors,
            at(me, tape->states, state_before(me, 0), 0, me->states), me->grads[VECTORS], NULL);
        TRNN_KERNEL(pass->isa, weight_gradient)(&seen);
    } else if (tape->dvectors) { /* a sum over rows, like a bias gradient */
        const trnn_matrix none = trnn_matrix_of(NULL, TRNN_F32, 1, me->vectors, 0);
        const trnn_weight_gradient vectors =
            trnn_weight_gradient_of(pass, none, frames, me->vectors, tape->dvectors, tape->dvectors,
                                    me->grads[VECTORS], me->grads[VECTORS]);
        TRNN_KERNEL(pass->isa, weight_gradient)(&vectors);
    }
    if (projects(me)) {
        const trnn_weight_gradient hr = trnn_weight_gradient_of(
            pass, matrix_hr(me), frames, me->size, tape->dprojected, tape->inner, me->grads[WEIGHT_HR],
            trnn_is_jordan(me->layer) ? me->grads[BIAS_HR] : NULL);
        TRNN_KERNEL(pass->isa, weight_gradient)(&hr);
    }
}

void trnn_recurrent_gradients(const trnn_pass *pass) { each_direction(pass, gradients_of_direction); }
