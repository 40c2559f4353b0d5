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
    float *bias, *tape, *tape_h; /* (G,), (B, G), (B, G) with G = gates * H packed */
    void *input, *hidden;        /* the products' own */
} gates_scratch;

TRNN_NOINLINE gates_scratch place_scratch(const trnn_layer *layer, int32_t batch, trnn_cursor *cursor)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const size_t gates = trnn_gates_size(layer), sums = trnn_times((size_t)batch, gates);
    gates_scratch scratch = {NULL, NULL, NULL, NULL, NULL};
    scratch.bias = trnn_take(cursor, a->bias ? gates : 0);
    scratch.tape = trnn_take(cursor, sums);
    scratch.tape_h = trnn_take(cursor, trnn_facts_of(layer)->apart ? sums : 0);
    const int32_t size = trnn_output_size(layer), deep = a->input_size > size ? a->input_size : size;
    const size_t product = trnn_product_scratch(layer->format, batch, deep); /* enough for either */
    scratch.input = trnn_take_bytes(cursor, product);
    scratch.hidden = trnn_take_bytes(cursor, product);
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
    const size_t units = (size_t)layer->as.recurrent.hidden_size, gates = (size_t)trnn_facts_of(layer)->gates;
    const size_t batch = (size_t)job->batch, frames = (size_t)job->steps * batch;
    const char *names = trnn_layer_gates(layer);
    for (size_t gate = 0; names[gate]; gate++)
        for (size_t b = 0; b < batch; b++) {
            float *row = job->gates + (gate * frames + t * batch + b) * units;
            const float *packed = tape + b * trnn_gates_size(layer) + gate * TRNN_PANEL;
            for (size_t j = 0; j < units; j += TRNN_PANEL)
                trnn_copy(row + j, packed + j * gates,
                          (units - j < TRNN_PANEL ? units - j : TRNN_PANEL) * sizeof(float));
        }
}

void trnn_gates(const trnn_gates_job *job)
{
    const trnn_layer *layer = job->layer;
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const trnn_cell_facts *facts = trnn_facts_of(layer);
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
    if (slots[BIAS_IH]) trnn_add_biases(facts, gates, slots[BIAS_IH], slots[BIAS_HH], scratch.bias);

    float *inner = job->gates; /* behind the named gates */
    for (const char *name = trnn_layer_gates(layer); *name; name++)
        inner += (size_t)job->steps * step * units;
    float *state = job->state + (size_t)job->direction * trnn_direction_state(layer);
    trnn_product input =
        trnn_product_of(trnn_matrix_ih(layer, facts->gates, slots[WEIGHT_IH]), job->batch, (int32_t)gates,
                        slots[BIAS_IH] ? scratch.bias : NULL, NULL, NULL, scratch.input);
    trnn_cell cell = {.hidden = trnn_matrix_hh(layer, facts->gates, slots[WEIGHT_HH]),
                      .rows = job->batch,
                      .units = a->hidden_size,
                      .args = a,
                      .input = &input,
                      .bias_hh = slots[BIAS_HH],
                      .vectors = slots[VECTORS],
                      .h = state,
                      .states = state + size,
                      .gates_stride = gates,
                      .h_stride = job->state_stride,
                      .states_stride = job->state_stride,
                      .y_stride = units,
                      .scratch = scratch.hidden,
                      .tape = scratch.tape,
                      .tape_h = scratch.tape_h};

    for (int32_t i = 0; i < job->steps; i++) {
        const size_t t = (size_t)(reverse ? job->steps - 1 - i : i);
        input.x = job->x + t * step * (size_t)a->input_size;
        cell.y = inner + t * step * units;
        back->step_taped(job->isa, &cell);
        unpack(job, scratch.tape, t);
        cell.h = job->y + t * step * out + job->direction * size;
        cell.h_stride = out;
    }
}
