/* GRU. As torch.nn.GRU, whose reset gate acts after the hidden product: gates r z n,
 *
 *     r, z = sigmoid(Wx x + b_ih + Wh h + b_hh)
 *     n = tanh(Wx x + b_in + r (Wh h + b_hn)),  h' = (1 - z) n + z h.
 */
#include "recurrent.h"

static void gru_step(const trnn_kernels *isa, const trnn_cell *cell) { TRNN_KERNEL(isa, gru)(cell); }
static void gru_step_taped(const trnn_kernels *isa, const trnn_cell *cell)
{
    TRNN_KERNEL(isa, gru_taped)(cell);
}
static void gru_step_back(const trnn_kernels *isa, const trnn_cell_back *cell)
{
    TRNN_KERNEL(isa, gru_back)(cell);
}

static const trnn_recurrent_kind gru_kind = {.gates = 3, .has_cell = 0, .hidden_gate = 2, .step = gru_step};
static const trnn_recurrent_back gru_back = {.step_taped = gru_step_taped, .step_back = gru_step_back};

const trnn_layer_type trnn_gru = TRNN_RECURRENT_TYPE("gru", gru_kind);
const trnn_layer_training trnn_gru_training = TRNN_RECURRENT_TRAINING(gru_back);
