/* The gates of recurrent layers, against the runs that they are of: the walk with a tape gives the run's own bits, and
 * the activations give its output by the formula that the cell's file states. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3, STEPS = 7, GATES_MAX = 4, STATES_MAX = 2 };

/* One direction of a run: `state` is as before it, `after` as after it. */
static void gates_of_direction(const net *n, const trnn_kernels *isa, int32_t direction, const float *x,
                               const float *y, const float *state, gate_formula *formula)
{
    const trnn_layer *layer = &n->model->layers[0];
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const size_t units = (size_t)a->hidden_size,
                 size = (size_t)(a->proj_size ? a->proj_size : a->hidden_size);
    const size_t count = strlen(trnn_layer_gates(layer)), frames = STEPS * BATCH;
    const size_t row = n->sizes.state_bytes / sizeof(float) / BATCH;
    const size_t numbers = n->row_state / (size_t)(1 + a->bidirectional), own = (size_t)direction * numbers;
    memory gates = memory_floats((count + 1) * frames * units);
    const float *inner = gates.at + count * frames * units;
    memory scratch = memory_take(trnn_gates_bytes(layer, BATCH)), walked = memory_take(n->sizes.state_bytes);
    memcpy(walked.at, state, n->sizes.state_bytes);
    const trnn_gates_job job = {.isa = isa,
                                .layer = layer,
                                .weights = n->weights->pointers[0],
                                .direction = direction,
                                .steps = STEPS,
                                .batch = BATCH,
                                .x = x,
                                .y = y,
                                .state = walked.at,
                                .state_stride = row,
                                .gates = gates.at,
                                .scratch = scratch.at};
    trnn_gates(&job);

    int same = 1;
    double apart = 0.0;
    for (size_t b = 0; b < BATCH; b++) {
        const float *before = state + b * row + own, *after = n->state.at + b * row + own;
        same &= same_bits(walked.at + b * row + own + size, after + size, numbers - size);
        for (size_t i = 0; !a->proj_size && i < STEPS; i++)
            same &= same_bits(inner + (i * BATCH + b) * units,
                              y + (i * BATCH + b) * n->out + (size_t)direction * size, units);
        for (size_t j = 0; formula && j < units; j++) {
            double states[STATES_MAX] = {0.0}, values[GATES_MAX], h = (double)before[j % size];
            for (size_t s = 0; size + s * units < numbers; s++)
                states[s] = (double)before[size + s * units + j];
            for (size_t i = 0; i < STEPS; i++) {
                const size_t at = ((direction ? STEPS - 1 - i : i) * BATCH + b) * units + j;
                for (size_t gate = 0; gate < count; gate++)
                    values[gate] = (double)gates.at[gate * frames * units + at];
                h = formula(values, states, h);
                apart = fmax(apart, fabs(h - (double)inner[at]));
            }
        }
    }
    check(same, "gates of %s on %s: direction %d does not walk as the run did", n->model->name,
          trnn_isa_name(isa), (int)direction);
    check(apart < 5e-6, "gates of %s on %s: direction %d is %.2g from its formula", n->model->name,
          trnn_isa_name(isa), (int)direction, apart);
    memory_release(&gates);
    memory_release(&scratch);
    memory_release(&walked);
}

void gates_of_model(const model *m, const trnn_kernels *isa, gate_formula *formula)
{
    weights w = weights_roll(m);
    net n = net_open(m, &w, BATCH, STEPS);
    memory x = net_input(&n, "gates", (size_t)(STEPS * BATCH)), state = memory_take(n.sizes.state_bytes);
    memory y = memory_floats((size_t)(STEPS * BATCH) * n.out);
    net_run(&n, isa, x.at, y.at, STEPS, NULL); /* so that no state is zero */
    memcpy(state.at, n.state.at, n.sizes.state_bytes);
    net_run(&n, isa, x.at, y.at, STEPS, NULL);
    for (int32_t d = 0; d <= m->layers[0].as.recurrent.bidirectional; d++)
        gates_of_direction(&n, isa, d, x.at, y.at, state.at, formula);
    memory_release(&x);
    memory_release(&y);
    memory_release(&state);
    net_close(&n);
    weights_release(&w);
}

static double lstm(const double *gates, double *states, double h)
{
    (void)h;
    states[0] = gates[1] * states[0] + gates[0] * gates[2];
    return gates[3] * tanh(states[0]);
}

static double lstm_coupled(const double *gates, double *states, double h)
{
    (void)h;
    states[0] = (1.0 - gates[0]) * states[0] + gates[0] * gates[1];
    return gates[2] * tanh(states[0]);
}

static double gru(const double *gates, double *states, double h)
{
    (void)states;
    return (1.0 - gates[1]) * gates[2] + gates[1] * h;
}

static double min_gru(const double *gates, double *states, double h)
{
    (void)states;
    return (1.0 - gates[0]) * h + gates[0] * gates[1];
}

static double min_lstm(const double *gates, double *states, double h)
{
    (void)states;
    return (gates[1] * h + gates[0] * gates[2]) / (gates[0] + gates[1]);
}

static double qrnn(const double *gates, double *states, double h)
{
    (void)h;
    states[0] = gates[1] * states[0] + (1.0 - gates[1]) * gates[0];
    return gates[2] * states[0];
}

static void names(void)
{
    const trnn_layer layers[] = {
        {TRNN_TRAINED(lstm)},       {TRNN_TRAINED(gru)},          {TRNN_TRAINED(rnn)},
        {TRNN_TRAINED(gru_before)}, {TRNN_TRAINED(lstm_coupled)}, {TRNN_TRAINED(min_gru)},
        {TRNN_TRAINED(min_lstm)},   {TRNN_TRAINED(qrnn)},         {TRNN_TRAINED(fastgrnn)}};
    static const char *const wanted[] = {"ifgo", "rzn", "", "rzn", "igo", "zn", "ifg", "zfo", "z"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        check(strcmp(trnn_layer_gates(&layers[i]), wanted[i]) == 0, "names of the gates of %s", wanted[i]);
    const trnn_layer linear = {TRNN_TRAINED(linear)};
    check(trnn_layer_gates(&linear) == NULL, "a linear layer has no gates");
}

void test_gates(void)
{
    check_group("gates");
    names();
    const trnn_kernels *isa;
    model m;
    for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++)
        for (int32_t i = 0; model_get(i, &m); i++) {
            const trnn_layer_type *type = m.layers[0].type;
            if (m.count > 1 || !trnn_layer_gates(&m.layers[0])) continue;
            m.layers[0].training = trnn_layer_named(trnn_layer_name(&m.layers[0])).training;
            gate_formula *formula = type == &trnn_lstm            ? lstm
                                    : type == &trnn_lstm_peephole ? lstm
                                    : type == &trnn_lstm_coupled  ? lstm_coupled
                                    : type == &trnn_gru           ? gru
                                    : type == &trnn_gru_before    ? gru
                                    : type == &trnn_min_gru       ? min_gru
                                    : type == &trnn_min_lstm      ? min_lstm
                                    : type == &trnn_qrnn          ? qrnn
                                                                  : NULL;
            gates_of_model(&m, isa, formula);
        }
}
