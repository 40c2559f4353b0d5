/* LSTM, with an optional projection of its output. As torch.nn.LSTM: gates i f g o,
 *
 *     i, f, o = sigmoid(Wx x + b_ih + Wh h + b_hh),  g = tanh(...)
 *     c' = f c + i g,  h' = o tanh c',  with a projection h' = W_hr (o tanh c').
 */
#include "recurrent.h"

static void lstm_step(const trnn_kernels *isa, const trnn_cell *cell) { TRNN_KERNEL(isa, lstm)(cell); }
static void lstm_step_taped(const trnn_kernels *isa, const trnn_cell *cell)
{
    TRNN_KERNEL(isa, lstm_taped)(cell);
}
static void lstm_step_back(const trnn_kernels *isa, const trnn_cell_back *cell)
{
    TRNN_KERNEL(isa, lstm_back)(cell);
}

static const trnn_recurrent_kind lstm_kind = {
    .gates = 4, .has_cell = 1, .hidden_gate = -1, .projects = 1, .step = lstm_step};
static const trnn_recurrent_back lstm_back = {.step_taped = lstm_step_taped, .step_back = lstm_step_back};

const trnn_layer_type trnn_lstm = TRNN_RECURRENT_TYPE("lstm", lstm_kind);
const trnn_layer_training trnn_lstm_training = TRNN_RECURRENT_TRAINING(lstm_back);
