/* What RNN, LSTM and GRU share: one level of a stack, in one or two directions, through time. */
#ifndef TRNN_RECURRENT_H
#define TRNN_RECURRENT_H

#include "layer.h"

/* The slots of one direction, in PyTorch's order. */
enum { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_HR, RECURRENT_SLOTS };

/* Names of the two directions' slots. */
extern const char *const trnn_recurrent_names[2][RECURRENT_SLOTS];

/* What tells one cell from another: the family of its layer type. */
typedef struct {
    int32_t gates;
    int has_cell;        /* keeps c beside h */
    int32_t hidden_gate; /* the gate whose hidden bias is not added to the input's part; -1: none */
    void (*step)(const trnn_kernels *isa, const trnn_cell *cell);
} trnn_recurrent_kind;

trnn_status trnn_recurrent_check(const trnn_layer *layer);
trnn_status trnn_recurrent_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out);
int32_t trnn_recurrent_params(const trnn_layer *layer, trnn_param *params);
size_t trnn_recurrent_state(const trnn_layer *layer);
size_t trnn_recurrent_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps);
void trnn_recurrent_run(const trnn_call *call);
int trnn_recurrent_whole(const trnn_layer *layer);

/* The layer type of a cell. */
#define TRNN_RECURRENT_TYPE(text, kind)    \
    {                                      \
        .name = text,                      \
        .check = trnn_recurrent_check,     \
        .frame = trnn_recurrent_frame,     \
        .params = trnn_recurrent_params,   \
        .state = trnn_recurrent_state,     \
        .scratch = trnn_recurrent_scratch, \
        .run = trnn_recurrent_run,         \
        .whole = trnn_recurrent_whole,     \
        .family = &(kind),                 \
    }

#endif
