/* Elman RNN: h' = tanh(Wx x + b_ih + Wh h + b_hh), or relu. As torch.nn.RNN. */
#include "recurrent.h"

static void rnn_step(const trnn_kernels *isa, const trnn_cell *cell) { TRNN_KERNEL(isa, rnn)(cell); }
static void rnn_step_taped(const trnn_kernels *isa, const trnn_cell *cell)
{
    TRNN_KERNEL(isa, rnn_taped)(cell);
}
static void rnn_step_back(const trnn_kernels *isa, const trnn_cell_back *cell)
{
    TRNN_KERNEL(isa, rnn_back)(cell);
}

static const trnn_recurrent_kind rnn_kind = {
    .gates = 1, .has_cell = 0, .hidden_gate = -1, .rectifies = 1, .step = rnn_step};
static const trnn_recurrent_back rnn_back = {.step_taped = rnn_step_taped, .step_back = rnn_step_back};

const trnn_layer_type trnn_rnn = TRNN_RECURRENT_TYPE("rnn", rnn_kind);
const trnn_layer_training trnn_rnn_training = TRNN_RECURRENT_TRAINING(rnn_back);
