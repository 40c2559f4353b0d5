/* The gates of a recurrent layer in a run, by the cell's own formula (cells/<name>.inc). Runs the steps of one
 * direction again, with a tape, from the h that the run wrote. Works in any format: only backward steps need float32. */
#include "recurrent.h"

const char *trnn_layer_gates(const trnn_layer *layer)
{
    if (layer->type->run != trnn_recurrent_run) return NULL;
    const char *names = trnn_facts_of(layer)->gate_names;
    return names ? names : "";
}

typedef struct {
    float *bias, *tape, *tape_h; /* (trnn_biases_size,), (B, G), (B, G) with G = gates * H packed */
    float *between;              /* two rounds: (B, H), the result of the first one */
    float *low;                  /* low rank: (B, rank), what weight_ih multiplies */
    void *input, *hidden;        /* the products' own */
    float *work;
} gates_scratch;

TRNN_NOINLINE gates_scratch place_scratch(const trnn_layer *layer, int32_t batch, trnn_cursor *cursor)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const size_t gates = trnn_gates_size(layer), sums = trnn_times((size_t)batch, gates);
    gates_scratch scratch = {.bias = NULL};
    scratch.bias = trnn_take(cursor, trnn_biases_size(layer));
    scratch.tape = trnn_take(cursor, sums);
    scratch.tape_h = trnn_take(cursor, trnn_facts_of(layer)->apart ? sums : 0);
    const size_t m = trnn_times((size_t)batch, (size_t)a->hidden_size);
    scratch.between = trnn_take(cursor, trnn_facts_of(layer)->second ? m : 0);
    scratch.low = trnn_take(cursor, trnn_times((size_t)batch, (size_t)trnn_input_rank(layer)));
    const int32_t size = trnn_state_depth(layer), input = trnn_input_deepest(layer),
                  deep = input > size ? input : size;
    const size_t product = trnn_product_scratch(layer->format, batch, deep); /* enough for either */
    scratch.input = trnn_take_bytes(cursor, product);
    scratch.hidden = trnn_take_bytes(cursor, product);
    scratch.work = trnn_take(cursor, trnn_cell_work(layer, batch));
    return scratch;
}

size_t trnn_gates_bytes(const trnn_layer *layer, int32_t batch)
{
    trnn_cursor cursor = {NULL, 0};
    place_scratch(layer, batch, &cursor);
    return cursor.bytes;
}

/* Step t of the tape from packed order to the rows of each named gate. */
static void unpack(const trnn_gates_job *job, const float *tape, size_t t)
{
    const trnn_layer *layer = job->layer;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    const size_t units = (size_t)layer->as.recurrent.hidden_size;
    const size_t batch = (size_t)job->batch, frames = (size_t)job->steps * batch;
    const char *names = trnn_layer_gates(layer);
    for (size_t gate = 0; names[gate]; gate++) {
        const size_t first = (size_t)trnn_round_gates(facts, 0); /* gates of the first round */
        const int round = gate >= first;
        const size_t gates = (size_t)trnn_round_gates(facts, round), own = gate - (round ? first : 0);
        for (size_t b = 0; b < batch; b++) {
            float *row = job->gates + (gate * frames + t * batch + b) * units;
            const float *packed =
                tape + b * trnn_gates_size(layer) + trnn_round_at(layer, round) + own * TRNN_PANEL;
            for (size_t j = 0; j < units; j += TRNN_PANEL)
                trnn_copy(row + j, packed + j * gates,
                          (units - j < TRNN_PANEL ? units - j : TRNN_PANEL) * sizeof(float));
        }
    }
}

void trnn_gates(const trnn_gates_job *job)
{
    const trnn_layer *layer = job->layer;
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    const trnn_recurrent_kind *kind = trnn_recurrent_kind_of(layer);
    const trnn_recurrent_back *back = layer->training->family;
    const int32_t size = trnn_output_size(layer), reverse = job->direction;
    const size_t gates = trnn_gates_size(layer), units = (size_t)a->hidden_size;
    const size_t step = (size_t)job->batch, out = (size_t)(size * trnn_directions(layer));
    trnn_cursor cursor = {job->scratch, 0};
    const gates_scratch scratch = place_scratch(layer, job->batch, &cursor);

    trnn_param params[TRNN_PARAMS_MAX];
    size_t bytes;
    trnn_layer_slots(layer, params, &bytes);
    const void *slots[RECURRENT_SLOTS];
    for (int32_t i = 0; i < RECURRENT_SLOTS; i++) {
        const trnn_param *param = &params[job->direction * RECURRENT_SLOTS + i];
        slots[i] = param->rank ? (const char *)job->weights + param->offset : NULL;
    }
    if (slots[BIAS_IH]) trnn_add_biases(job->isa, facts, gates, slots[BIAS_IH], slots[BIAS_HH], scratch.bias);

    float *inner = job->gates; /* behind the named gates */
    for (const char *name = trnn_layer_gates(layer); *name; name++)
        inner += (size_t)job->steps * step * units;
    float *state = job->state + (size_t)job->direction * trnn_direction_state(layer);
    const trnn_cell_norm norm = TRNN_NORM_OF(slots, scratch.bias);
    trnn_cell_options options = trnn_options_of(layer, reverse, &norm, slots[WEIGHT_HR], scratch.work);
    options.shows = 1;
    const float *bias = slots[BIAS_IH] && !a->layer_norm ? scratch.bias : NULL;
    trnn_product input = trnn_product_of(trnn_matrix_ih(layer, 0, slots[WEIGHT_IH]), job->batch,
                                         (int32_t)gates, bias, NULL, NULL, scratch.input);
    trnn_cell cell = {.hidden = trnn_matrix_hh(layer, 0, slots[WEIGHT_HH]),
                      .rows = job->batch,
                      .units = a->hidden_size,
                      .args = a,
                      .input = &input,
                      .bias_hh = trnn_hidden_bias(facts, gates, slots[BIAS_IH], scratch.bias),
                      .vectors = slots[VECTORS],
                      .options = &options,
                      .h = state,
                      .before = state,
                      .states = state + size,
                      .gates_stride = gates,
                      .h_stride = job->state_stride,
                      .before_stride = job->state_stride,
                      .states_stride = job->state_stride,
                      .y_stride = units,
                      .scratch = scratch.hidden,
                      .tape = scratch.tape,
                      .tape_h = scratch.tape_h,
                      .steps = 1};
    if (facts->no_hh) {
        input.y = scratch.tape;
        cell.gates = scratch.tape;
    }

    for (int32_t i = 0; i < job->steps; i++) {
        const size_t t = (size_t)(reverse ? job->steps - 1 - i : i);
        input.x = trnn_input_of(job->isa, layer, slots[WEIGHT_IR], job->batch,
                                job->x + t * step * (size_t)a->input_size, scratch.low, scratch.input);
        cell.y = inner + t * step * units;
        if (facts->second) {
            const size_t at2 = trnn_round_at(layer, 1);
            trnn_product input2 = input;
            trnn_cell cell2 = cell;
            input2.matrix = trnn_matrix_ih(layer, 1, slots[WEIGHT_IH]);
            input2.bias = bias ? bias + at2 : NULL;
            cell.y = scratch.between;
            kind->round1(job->isa, &cell);
            cell2.hidden = trnn_matrix_hh(layer, 1, slots[WEIGHT_HH]);
            cell2.input = &input2;
            cell2.h = scratch.between;
            cell2.h_stride = units;
            cell2.between = scratch.tape;
            cell2.tape = scratch.tape + at2;
            back->step_taped(job->isa, &cell2);
        } else {
            if (facts->no_hh) TRNN_KERNEL(job->isa, product)(&input);
            back->step_taped(job->isa, &cell);
        }
        unpack(job, scratch.tape, t);
        cell.h = cell.before = job->y + t * step * out + job->direction * size;
        cell.h_stride = cell.before_stride = out;
    }
}
