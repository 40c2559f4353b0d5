/* LSTM, with an optional projection of its output. As torch.nn.LSTM: gates i f g o,
 *
 *     i, f, o = sigmoid(Wx x + b_ih + Wh h + b_hh),  g = tanh(...)
 *     c' = f c + i g,  h' = o tanh c',  with a projection h' = W_hr (o tanh c').
 */
#include "recurrent.h"

static const trnn_recurrent_kind lstm_kind = {.gates = 4, .has_cell = 1, .hidden_gate = -1};

static int32_t lstm_params(const trnn_layer *layer, trnn_param *params)
{
    return trnn_recurrent_params(layer, &lstm_kind, params);
}

static size_t lstm_state(const trnn_layer *layer)
{
    return trnn_recurrent_state(layer, &lstm_kind);
}

static size_t lstm_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch, int32_t steps)
{
    (void)in, (void)out;
    return trnn_recurrent_scratch(layer, &lstm_kind, batch, steps);
}

static void lstm_run(const trnn_call *call)
{
    trnn_recurrent_run(call, &lstm_kind, call->isa->lstm_f32);
}

const trnn_layer_type trnn_lstm = {
    .name = "lstm",
    .check = trnn_recurrent_check,
    .frame = trnn_recurrent_frame,
    .params = lstm_params,
    .state = lstm_state,
    .scratch = lstm_scratch,
    .run = lstm_run,
    .whole = trnn_recurrent_whole,
};
