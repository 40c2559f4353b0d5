/* One level of a recurrent stack.
 *
 * One product computes the input part of the gates for a chunk of steps, bias included; then each step adds the hidden
 * part. In a chunk of a single step both parts are computed together, group by group. The state of a row is, for each
 * direction, h (P or H), then the cell's other states (H each). The reverse direction goes from a row's last step to
 * its first. Steps read the weights in ascending and descending order by turns: where matrices are larger than the
 * cache, a step first reads what is still in it.
 */
#include "recurrent.h"

/* Names of the slots of both directions; a cell names its vectors itself. */
static const char *const slot_names[2][VECTORS] = {
    {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"},
    {"weight_ih_reverse", "weight_hh_reverse", "bias_ih_reverse", "bias_hh_reverse", "weight_hr_reverse"},
};

#define ACTIVATION_AT(d, i, member) offsetof(trnn_layer, as.recurrent.activations[d][i].member)
#define ACTIVATION(name, d, i)                                      \
    {name, ACTIVATION_AT(d, i, function), TRNN_INT32, 0},           \
        {name "_alpha", ACTIVATION_AT(d, i, alpha), TRNN_FLOAT, 0}, \
        {name "_beta", ACTIVATION_AT(d, i, beta), TRNN_FLOAT, 0}

const trnn_argument trnn_recurrent_arguments[] = {
    TRNN_INT_OF(recurrent, input_size),
    TRNN_INT_OF(recurrent, hidden_size),
    TRNN_INT_OF(recurrent, proj_size),
    TRNN_INT_OF(recurrent, bias),
    TRNN_INT_OF(recurrent, bidirectional),
    TRNN_INT_OF(recurrent, relu),
    TRNN_INT_OF(recurrent, level),
    TRNN_INT_OF(recurrent, peephole),
    ACTIVATION("recurrent_activation", 0, 0),
    ACTIVATION("activation", 0, 1),
    ACTIVATION("output_activation", 0, 2),
    ACTIVATION("recurrent_activation_reverse", 1, 0),
    ACTIVATION("activation_reverse", 1, 1),
    ACTIVATION("output_activation_reverse", 1, 2),
    {"clip", offsetof(trnn_layer, as.recurrent.clip), TRNN_FLOAT, 0},
    TRNN_INT_OF(recurrent, layer_norm),
    {"cell_clip", offsetof(trnn_layer, as.recurrent.cell_clip), TRNN_FLOAT, 0},
    TRNN_INT_OF(recurrent, rank),
    TRNN_INT_OF(recurrent, input_rank),
    {"zoneout", offsetof(trnn_layer, as.recurrent.zoneout), TRNN_FLOAT, 0},
    {"zoneout_cell", offsetof(trnn_layer, as.recurrent.zoneout_cell), TRNN_FLOAT, 0},
    {"recurrent_dropout", offsetof(trnn_layer, as.recurrent.recurrent_dropout), TRNN_FLOAT, 0},
    {"zoneout_mean", offsetof(trnn_layer, as.recurrent.zoneout_mean), TRNN_INT32, 1},
    TRNN_END_OF(recurrent),
};

/* Has the cell an argument that only general ones take? They lie together, and are zeros where they are not given. */
static int has_options(const trnn_recurrent_args *a)
{
    const char *first = (const char *)&a->activations, *end = (const char *)&a->recurrent_dropout;
    int found = 0;
    while (first < end) found |= *first++;
    return found || a->peephole == TRNN_PEEPHOLE_MATRIX;
}

trnn_status trnn_recurrent_check(const trnn_layer *layer)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    const int32_t hidden = a->hidden_size, proj = a->proj_size;
    assert(facts->gates >= 1 && facts->gates <= TRNN_GROUP && facts->states <= TRNN_CELL_STATES_MAX);
    assert(!facts->projection || (!facts->own && !facts->no_hh));
    assert(!facts->no_hh || !facts->apart);
    assert(facts->second < facts->gates &&
           (!facts->second || (!facts->apart && !facts->no_hh && !facts->projection)));
    if (!trnn_is_size(a->input_size) || !trnn_is_size(hidden)) return TRNN_E_ARGUMENT;
    if (facts->output ? !trnn_is_size(proj) : proj < 0 || proj >= hidden || (proj > 0 && !facts->projection))
        return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->bias) || !trnn_is_flag(a->bidirectional)) return TRNN_E_ARGUMENT;
    if (a->level < 0 || a->level > TRNN_SIZE_MAX) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->relu) || (a->relu && !facts->relu)) return TRNN_E_ARGUMENT;
    if (a->peephole < 0 || a->peephole > TRNN_PEEPHOLE_MATRIX || (a->peephole && !facts->peephole))
        return TRNN_E_ARGUMENT;
    const trnn_recurrent_general *general = trnn_recurrent_kind_of(layer)->general;
    if ((!TRNN_WITH_PROJECTION && proj) || (!TRNN_WITH_BIDIRECTIONAL && a->bidirectional) ||
        (!TRNN_WITH_TWO_ROUNDS && facts->second) ||
        (!TRNN_WITH_CELL_OPTIONS && (general || !(a->recurrent_dropout == 0.0f))))
        return TRNN_E_LEFT_OUT;
    if (general ? !general->takes(a, facts) : has_options(a)) return TRNN_E_ARGUMENT;
    if (TRNN_WITH_CELL_OPTIONS &&
        (!trnn_is_share(a->recurrent_dropout) || (a->recurrent_dropout > 0.0f && facts->no_hh)))
        return TRNN_E_ARGUMENT;
    if (!trnn_is_depth(layer->format, a->input_size) || !trnn_is_depth(layer->format, hidden) ||
        (proj && !trnn_is_depth(layer->format, proj)))
        return TRNN_E_SIZE;
    return hidden > TRNN_SIZE_MAX / 8 ? TRNN_E_SIZE : TRNN_OK; /* gates * hidden fits an int32 */
}

trnn_status trnn_recurrent_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    if (trnn_frame_rows(in) != 1 || in.cols != layer->as.recurrent.input_size) return TRNN_E_SHAPE;
    *out = (trnn_frame){1, 1, trnn_output_size(layer) * trnn_directions(layer)};
    return TRNN_OK;
}

int trnn_recurrent_full_sequence(const trnn_layer *layer) { return layer->as.recurrent.bidirectional; }

int32_t trnn_recurrent_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    const int32_t units = a->hidden_size, gates = facts->gates;
    const trnn_format format = layer->format;
    const trnn_recurrent_general *general = trnn_general_of(layer);
    for (int32_t d = 0; d < trnn_directions(layer); d++, params += RECURRENT_SLOTS) {
        const char *const *names = slot_names[d];
        trnn_param_panels(&params[WEIGHT_IH], names[WEIGHT_IH], format, gates, units,
                          trnn_input_depth(layer));
        if (!facts->no_hh)
            trnn_param_panels(&params[WEIGHT_HH], names[WEIGHT_HH], format, gates, units,
                              trnn_hidden_depth(layer));
        const int biases = a->bias && !facts->shared; /* else they are its vectors */
        if (biases) trnn_param_bias(&params[BIAS_IH], names[BIAS_IH], gates, units);
        if (biases && !facts->no_hh) trnn_param_bias(&params[BIAS_HH], names[BIAS_HH], gates, units);
        const int32_t projected = trnn_rank(layer) ? trnn_rank(layer) : trnn_projected(layer);
        if (projected) trnn_param_panels(&params[WEIGHT_HR], names[WEIGHT_HR], format, 1, projected, units);
        const int32_t vectors = trnn_vectors(layer);
        if (trnn_has_matrices(layer))
            trnn_param_panels(&params[VECTORS], facts->vector_names[d], format, vectors, units, units);
        else if (vectors)
            trnn_param_bias(&params[VECTORS], facts->vector_names[d], vectors, units);
        if (general) general->params(layer, d, params);
        for (int32_t slot = WEIGHT_IH; slot <= BIAS_HH; slot++) params[slot].second = trnn_second(facts);
    }
    /* Only general cells use the last slots. A run sets a pointer for each slot that is counted. */
    return trnn_directions(layer) * RECURRENT_SLOTS - (general ? 0 : RECURRENT_SLOTS - 1 - WEIGHT_IR);
}

size_t trnn_recurrent_state(const trnn_layer *layer)
{
    return trnn_times(trnn_direction_state(layer), (size_t)trnn_directions(layer));
}

/* Of (levels * directions, size) numbers the rows of this level: first those of h, then those of the other states. */
int trnn_recurrent_start(const trnn_layer *layer, int32_t r, int32_t p, trnn_start_part *part)
{
    const int32_t units = layer->as.recurrent.hidden_size, h = trnn_output_size(layer),
                  directions = trnn_directions(layer);
    if (r > trnn_facts_of(layer)->states || p >= directions) return 0;
    part->size = (size_t)(r ? units : h);
    part->state =
        (size_t)p * trnn_direction_state(layer) + (r ? (size_t)h + (size_t)(r - 1) * part->size : 0);
    part->value = trnn_times((size_t)layer->as.recurrent.level * (size_t)directions + (size_t)p, part->size);
    return 1;
}

typedef struct {
    float
        *gates; /* (chunk, B, gates * H packed); for two rounds in a chunk of one step the first one's tape */
    float *bias;  /* (trnn_biases_size,) */
    float *inner; /* (B, H): the cell's output before its projection, or of its first round */
    float *low;   /* low rank: (chunk, B, rank), what weight_ih multiplies */
    void *input, *hidden, *projection; /* scratch of the products */
    float *work;
} recurrent_scratch;

/* Takes only what a run needs: to place all of it would take longer than a step of few units. */
static recurrent_scratch place_scratch(const trnn_layer *layer, int32_t batch, int32_t steps,
                                       trnn_cursor *cursor)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_format format = layer->format;
    recurrent_scratch scratch = {.gates = NULL};
    const int32_t chunk = trnn_chunk_steps(batch, steps), rows = chunk * batch;
    const int two = trnn_second(trnn_facts_of(layer)) > 0, projected = trnn_projected(layer) > 0;
    if (chunk > 1 || two || trnn_facts_of(layer)->no_hh)
        scratch.gates = trnn_take(cursor, trnn_times((size_t)rows, trnn_gates_size(layer)));
    if (a->bias) scratch.bias = trnn_take(cursor, trnn_biases_size(layer));
    if (projected || two)
        scratch.inner = trnn_take(cursor, trnn_times((size_t)batch, (size_t)a->hidden_size));
    if (trnn_input_rank(layer))
        scratch.low = trnn_take(cursor, trnn_times((size_t)rows, (size_t)trnn_input_rank(layer)));
    if (trnn_is_integer(format)) {
        scratch.input =
            trnn_take_bytes(cursor, trnn_product_scratch(format, rows, trnn_input_deepest(layer)));
        scratch.hidden =
            trnn_take_bytes(cursor, trnn_product_scratch(format, batch, trnn_state_depth(layer)));
        if (projected)
            scratch.projection = trnn_take_bytes(cursor, trnn_product_scratch(format, batch, a->hidden_size));
    }
    if (trnn_general_of(layer)) scratch.work = trnn_take(cursor, trnn_cell_work(layer, batch));
    return scratch;
}

size_t trnn_recurrent_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)in, (void)out;
    trnn_cursor cursor = {NULL, 0};
    place_scratch(layer, batch, steps, &cursor);
    return cursor.bytes;
}

void trnn_add_biases(const trnn_kernels *isa, const trnn_cell_facts *facts, size_t size, const float *bias_ih,
                     const float *bias_hh, float *bias)
{
    if (bias_hh)
        TRNN_KERNEL(isa, biases_f32)(bias_ih, bias_hh, bias, size, facts->gates, facts->apart);
    else
        trnn_copy(bias, bias_ih, size * sizeof(float));
}

const float *trnn_low_input(const trnn_kernels *isa, const trnn_layer *layer, const void *weight_ir,
                            int32_t rows, const float *x, float *low, void *scratch)
{
    const trnn_product product = trnn_product_of(trnn_matrix_ir(layer, weight_ir), rows,
                                                 trnn_input_rank(layer), NULL, x, low, scratch);
    TRNN_KERNEL(isa, product)(&product);
    return low;
}

static trnn_rows rows_of(const trnn_call *call)
{
    return trnn_rows_of(call->lengths, trnn_call_mask(call), call->batch, call->start);
}

/* Writes y at step t for the rows that it does not compute: zeros beyond a row's end, else h. */
TRNN_NOINLINE void rest(const trnn_call *call, const trnn_rows *rows, const float *state, int32_t t,
                        int32_t offset, int32_t size)
{
    const size_t out = (size_t)call->out.cols, bytes = (size_t)size * sizeof(float);
    for (int32_t b = 0; b < call->batch; b++) {
        float *y = call->y + ((size_t)t * (size_t)call->batch + (size_t)b) * out + offset;
        if (trnn_has_ended(rows, t, b))
            trnn_zero(y, bytes);
        else if (trnn_is_masked(rows, t, b))
            trnn_copy(y, state + (size_t)b * call->state_stride, bytes);
    }
}

/* A chunk of a cell without a product with h. */
typedef struct {
    const trnn_call *call;
    const float *gates; /* of the chunk */
    trnn_cell cell;     /* with the steps and rows of one call of its kernel */
    float *state;
    int32_t first, offset, size;
} scan;

static float *scan_y(const scan *me, int32_t t, int32_t b)
{
    const size_t at = (size_t)t * (size_t)me->call->batch + (size_t)b;
    return me->call->y + at * (size_t)me->call->out.cols + me->offset;
}

/* The cell's steps from step t on, of its rows from row b on. */
static inline void scan_rows(scan *me, int32_t t, int32_t b)
{
    const trnn_call *call = me->call;
    const size_t row = (size_t)b, at = (size_t)(t - me->first) * (size_t)call->batch + row;
    trnn_cell *cell = &me->cell;
    float *h = me->state + row * call->state_stride;
    cell->gates = me->gates + at * cell->gates_stride;
    cell->y = scan_y(me, t, b);
    cell->before = h;
    cell->states = h + me->size;
    trnn_recurrent_kind_of(call->layer)->step(call->isa, cell);
    const float *last = cell->y + cell->y_step * (cell->steps - 1);
    for (int32_t r = 0; r < cell->rows; r++)
        trnn_copy(h + (size_t)r * call->state_stride, last + (size_t)r * cell->y_stride,
                  (size_t)me->size * sizeof(float));
}

/* Row b alone: each run of steps that it computes in one call. */
TRNN_NOINLINE void scan_row(scan *me, const trnn_rows *rows, int32_t count, int32_t b, int reverse)
{
    const size_t bytes = (size_t)me->size * sizeof(float);
    const int32_t forth = reverse ? -1 : 1,
                  inside = trnn_row_steps(rows->lengths, b, rows->start + me->first, count);
    int32_t t = me->first + (reverse ? inside - 1 : 0);
    for (int32_t left = inside, steps; left > 0; left -= steps, t += forth * steps) {
        for (steps = 0; steps < left && !trnn_is_masked(rows, t + forth * steps, b);) steps++;
        me->cell.steps = steps;
        if (steps > 0) {
            scan_rows(me, t, b);
        } else {
            trnn_copy(scan_y(me, t, b), me->state + (size_t)b * me->call->state_stride, bytes);
            steps = 1;
        }
    }
    for (t = me->first + inside; t < me->first + count; t++) trnn_zero(scan_y(me, t, b), bytes);
}

/* A cell without a product with h goes through a chunk in one call of its kernel, for all rows or, if they compute
 * different steps, for each. */
void trnn_recurrent_scan(const trnn_call *call, const trnn_cell *cell, float *state, int32_t first,
                         int32_t count, int reverse, int32_t offset)
{
    const trnn_rows rows = rows_of(call);
    const ptrdiff_t forth = reverse ? -call->batch : call->batch;
    scan me = {call, cell->gates, *cell, state, first, offset, trnn_output_size(call->layer)};
    me.cell.gates_step = forth * (ptrdiff_t)cell->gates_stride;
    me.cell.y_step = forth * (ptrdiff_t)cell->y_stride;
    if (rows.all) {
        me.cell.steps = count;
        scan_rows(&me, reverse ? first + count - 1 : first, 0);
        return;
    }
    me.cell.rows = 1;
    for (int32_t b = 0; b < call->batch; b++) scan_row(&me, &rows, count, b, reverse);
}

/* The second round's product of the input, from the first one's. */
static trnn_product second_input(const trnn_call *call, const void *const *slots, const trnn_product *first)
{
    const size_t at = trnn_round_at(call->layer, 1);
    trnn_product second = *first;
    second.matrix = trnn_matrix_ih(call->layer, 1, slots[WEIGHT_IH]);
    second.cols = (int32_t)(trnn_gates_size(call->layer) - at);
    second.bias = first->bias ? first->bias + at : NULL;
    second.y = first->y + at;
    return second;
}

static void second_product(const trnn_call *call, const void *const *slots, const trnn_product *input)
{
    const trnn_product second = second_input(call, slots, input);
    TRNN_KERNEL(call->isa, product)(&second);
}

/* Both rounds of a step. The second one reads the weights in the other order. */
static void two_rounds(const trnn_call *call, const void *const *slots, const trnn_cell *cell, float *y)
{
    const trnn_recurrent_kind *kind = trnn_recurrent_kind_of(call->layer);
    trnn_cell second = *cell;
    trnn_product input;
    if (cell->input) {
        input = second_input(call, slots, cell->input);
        input.descending = !cell->descending;
        second.input = &input;
    }
    second.hidden = trnn_matrix_hh(call->layer, 1, slots[WEIGHT_HH]);
    second.gates += trnn_round_at(call->layer, 1);
    second.h = cell->y;
    second.h_stride = cell->y_stride;
    second.between = cell->tape;
    second.tape = NULL;
    second.y = y;
    second.y_stride = (size_t)call->out.cols;
    second.descending = !cell->descending;
    kind->round1(call->isa, cell);
    kind->step(call->isa, &second);
}

const trnn_recurrent_two trnn_recurrent_rounds = {second_product, two_rounds};

/* Runs one direction, which writes its columns of y. `slots` are the direction's weights, `state`
 * its numbers of row 0. */
static void run_direction(const trnn_call *call, const recurrent_scratch *scratch, const void *const *slots,
                          float *state, int32_t direction)
{
    const trnn_layer *layer = call->layer;
    const trnn_recurrent_kind *kind = trnn_recurrent_kind_of(layer);
    const trnn_cell_facts *facts = &kind->facts;
    const trnn_recurrent_two *two = TRNN_WITH_TWO_ROUNDS ? kind->two : NULL;
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const int32_t units = a->hidden_size, size = trnn_output_size(layer), reverse = direction;
    const int32_t offset = direction * size;
    const size_t gates = trnn_gates_size(layer), batch = (size_t)call->batch, out = (size_t)call->out.cols;
    const int32_t chunk = trnn_chunk_steps(call->batch, call->steps);
    const int together = chunk == 1 && !kind->scan, projects = trnn_projected(layer) > 0;

    if (slots[BIAS_IH])
        trnn_add_biases(call->isa, facts, gates, slots[BIAS_IH], slots[BIAS_HH], scratch->bias);
    trnn_cell_norm norm;
    trnn_cell_options options;
    const int general = trnn_general_of(layer) != NULL;
    if (general) {
        norm = TRNN_NORM_OF(slots, scratch->bias);
        options = trnn_options_of(layer, direction, &norm, slots[WEIGHT_HR], scratch->work);
    }
    const float *bias = slots[BIAS_IH] && !(TRNN_WITH_CELL_OPTIONS && a->layer_norm) ? scratch->bias : NULL;
    const size_t sums = two ? trnn_round_at(layer, 1) : gates; /* of the first round */
    trnn_product input = trnn_product_of(trnn_matrix_ih(layer, 0, slots[WEIGHT_IH]), 0, (int32_t)sums, bias,
                                         NULL, scratch->gates, scratch->input);
    input.y_stride = gates;
    const trnn_rows rows = rows_of(call);
    int32_t first = 0; /* step of the chunk, in the order of time */

    /* Every member is named; else compilers first clear all of the struct, in every step. */
    trnn_cell cell = {.hidden = trnn_matrix_hh(layer, 0, slots[WEIGHT_HH]),
                      .rows = call->batch,
                      .units = units,
                      .args = a,
                      .gates = scratch->gates,
                      .input = together ? &input : NULL,
                      .bias_hh = trnn_hidden_bias(facts, gates, slots[BIAS_IH], scratch->bias),
                      .vectors = slots[VECTORS],
                      .options = general ? &options : NULL,
                      .h = state,
                      .before = state,
                      .between = NULL,
                      .states = state + size,
                      .y = scratch->inner,
                      .gates_stride = gates,
                      .h_stride = call->state_stride,
                      .before_stride = call->state_stride,
                      .states_stride = call->state_stride,
                      .y_stride = projects || two ? (size_t)units : out,
                      .scratch = scratch->hidden,
                      .descending = call->descending,
                      .tape = two ? scratch->gates : NULL,
                      .tape_h = NULL,
                      .steps = 1,
                      .gates_step = 0,
                      .y_step = 0};

    for (int32_t i = 0; i < call->steps; i++) {
        const int32_t t = reverse ? call->steps - 1 - i : i;
        cell.descending = input.descending = (call->descending + i) & 1;
        if (!together && i % chunk == 0) {
            const int32_t count = call->steps - i < chunk ? call->steps - i : chunk;
            first = reverse ? t - count + 1 : t;
            input.rows = count * call->batch;
            input.x = trnn_input_of(call->isa, layer, slots[WEIGHT_IR], input.rows,
                                    (const float *)call->x + (size_t)first * batch * (size_t)a->input_size,
                                    scratch->low, scratch->input);
            TRNN_KERNEL(call->isa, product)(&input);
            if (two) two->product(call, slots, &input);
            if (kind->scan) {
                kind->scan(call, &cell, state, first, count, reverse, offset);
                i += count - 1;
                continue;
            }
        }
        if (!rows.all) rest(call, &rows, state, t, offset, size);
        int32_t b, end = 0;
        while (trnn_next_rows(&rows, t, call->batch, &b, &end)) {
            const size_t row = (size_t)b, at = (size_t)t * batch + row;
            float *y = call->y + at * out + offset;
            float *h = state + row * call->state_stride;

            cell.rows = end - b;
            if (together) {
                input.rows = end - b;
                input.x = trnn_input_of(call->isa, layer, slots[WEIGHT_IR], input.rows,
                                        (const float *)call->x + at * (size_t)a->input_size, scratch->low,
                                        scratch->input);
            } else {
                cell.gates = scratch->gates + (at - (size_t)first * batch) * gates;
            }
            cell.h = cell.before = h;
            cell.states = h + size;
            if (two) {
                if (!together) cell.tape = scratch->gates + (at - (size_t)first * batch) * gates;
                two->step(call, slots, &cell, y);
            } else {
                cell.y = projects ? scratch->inner : y;
                kind->step(call->isa, &cell);
            }

            if (projects) {
                trnn_product project =
                    trnn_product_of(trnn_matrix_hr(layer, slots[WEIGHT_HR]), cell.rows, size,
                                    trnn_is_jordan(layer) ? slots[BIAS_HR] : NULL, cell.y,
                                    trnn_is_jordan(layer) ? scratch->work : y, scratch->projection);
                if (!trnn_is_jordan(layer)) project.y_stride = out;
                project.descending = cell.descending;
                TRNN_KERNEL(call->isa, product)(&project);
                if (trnn_is_jordan(layer))
                    trnn_general_of(layer)->output(call->isa, a, reverse, cell.rows, scratch->work, y, out);
            }
            for (int32_t r = 0; r < end - b; r++)
                trnn_copy(h + (size_t)r * call->state_stride, y + (size_t)r * out,
                          (size_t)size * sizeof(float));
        }
    }
}

void trnn_recurrent_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    trnn_cursor cursor = {call->scratch, 0};
    const recurrent_scratch scratch = place_scratch(layer, call->batch, call->steps, &cursor);

    for (int32_t d = 0; d < trnn_directions(layer); d++) {
        float *state = call->state + (size_t)d * trnn_direction_state(layer);
        run_direction(call, &scratch, call->weights + d * RECURRENT_SLOTS, state, d);
    }
}
