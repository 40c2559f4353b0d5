/* GRU. As torch.nn.GRU, whose reset gate acts after the hidden product: gates r z n,
 *
 *     r, z = sigmoid(Wx x + b_ih + Wh h + b_hh)
 *     n = tanh(Wx x + b_in + r (Wh h + b_hn)),  h' = (1 - z) n + z h.
 */
#include "recurrent.h"

static const trnn_recurrent_kind gru_kind = {.gates = 3, .has_cell = 0, .hidden_gate = 2};

static int32_t gru_params(const trnn_layer *layer, trnn_param *params)
{
    return trnn_recurrent_params(layer, &gru_kind, params);
}

static size_t gru_state(const trnn_layer *layer)
{
    return trnn_recurrent_state(layer, &gru_kind);
}

static size_t gru_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch, int32_t steps)
{
    (void)in, (void)out;
    return trnn_recurrent_scratch(layer, &gru_kind, batch, steps);
}

static void gru_run(const trnn_call *call)
{
    trnn_recurrent_run(call, &gru_kind, call->isa->gru_f32);
}

const trnn_layer_type trnn_gru = {
    .name = "gru",
    .check = trnn_recurrent_check,
    .frame = trnn_recurrent_frame,
    .params = gru_params,
    .state = gru_state,
    .scratch = gru_scratch,
    .run = gru_run,
    .whole = trnn_recurrent_whole,
};
