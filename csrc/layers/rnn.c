/* Elman RNN: h' = tanh(Wx x + b_ih + Wh h + b_hh), or relu. As torch.nn.RNN. */
#include "recurrent.h"

static const trnn_recurrent_kind rnn_kind = {.gates = 1, .has_cell = 0, .hidden_gate = -1};

static int32_t rnn_params(const trnn_layer *layer, trnn_param *params)
{
    return trnn_recurrent_params(layer, &rnn_kind, params);
}

static size_t rnn_state(const trnn_layer *layer)
{
    return trnn_recurrent_state(layer, &rnn_kind);
}

static size_t rnn_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch, int32_t steps)
{
    (void)in, (void)out;
    return trnn_recurrent_scratch(layer, &rnn_kind, batch, steps);
}

static void rnn_run(const trnn_call *call)
{
    trnn_recurrent_run(call, &rnn_kind, call->isa->rnn_f32);
}

const trnn_layer_type trnn_rnn = {
    .name = "rnn",
    .check = trnn_recurrent_check,
    .frame = trnn_recurrent_frame,
    .params = rnn_params,
    .state = rnn_state,
    .scratch = rnn_scratch,
    .run = rnn_run,
    .whole = trnn_recurrent_whole,
};
