/* What RNN, LSTM and GRU share: one level of a stack, in one or two directions, through time. */
#ifndef TRNN_RECURRENT_H
#define TRNN_RECURRENT_H

#include "layer.h"

/* The slots of one direction, in PyTorch's order. */
enum { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_HR, RECURRENT_SLOTS };

/* Names of the two directions' slots. */
extern const char *const trnn_recurrent_names[2][RECURRENT_SLOTS];

/* What tells one cell from another. */
typedef struct {
    int32_t gates;
    int has_cell;        /* keeps c beside h */
    int32_t hidden_gate; /* the gate whose hidden bias is not added to the input's part; -1: none */
} trnn_recurrent_kind;

trnn_status trnn_recurrent_check(const trnn_layer *layer);
trnn_status trnn_recurrent_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out);
int trnn_recurrent_whole(const trnn_layer *layer);

int32_t trnn_recurrent_params(const trnn_layer *layer, const trnn_recurrent_kind *kind, trnn_param *params);
size_t trnn_recurrent_state(const trnn_layer *layer, const trnn_recurrent_kind *kind);
size_t trnn_recurrent_scratch(const trnn_layer *layer, const trnn_recurrent_kind *kind, int32_t batch,
                              int32_t steps);
void trnn_recurrent_run(const trnn_call *call, const trnn_recurrent_kind *kind,
                        void (*step)(const trnn_cell *cell));

#endif
