/* What RNN, LSTM and GRU share: one level of a stack, in one or two directions, through time. */
#ifndef TRNN_RECURRENT_H
#define TRNN_RECURRENT_H

#include "training.h"

/* The slots of one direction, in PyTorch's order. */
enum { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_HR, RECURRENT_SLOTS };

/* Names of the two directions' slots. */
extern const char *const trnn_recurrent_names[2][RECURRENT_SLOTS];

/* What tells one cell from another: the family of its layer type. */
typedef struct {
    int32_t gates;
    int has_cell;        /* keeps c beside h */
    int32_t hidden_gate; /* the gate whose hidden bias is not added to the input's part; -1: none */
    int projects;        /* knows proj_size */
    int rectifies;       /* knows relu */
    void (*step)(const trnn_kernels *isa, const trnn_cell *cell);
} trnn_recurrent_kind;

/* And of its training. */
typedef struct {
    void (*step_taped)(const trnn_kernels *isa, const trnn_cell *cell);
    void (*step_back)(const trnn_kernels *isa, const trnn_cell_back *cell);
} trnn_recurrent_back;

static inline const trnn_recurrent_kind *trnn_recurrent_kind_of(const trnn_layer *layer)
{
    return layer->type->family;
}

/* Numbers of h: what a step writes and the next one reads. */
static inline int32_t trnn_output_size(const trnn_layer *layer)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    return a->proj_size ? a->proj_size : a->hidden_size;
}

static inline int32_t trnn_directions(const trnn_layer *layer)
{
    return layer->as.recurrent.bidirectional ? 2 : 1;
}

/* Numbers of one gate vector in packed order. */
static inline size_t trnn_gates_size(const trnn_layer *layer)
{
    return (size_t)trnn_ceil(layer->as.recurrent.hidden_size, TRNN_PANEL) * TRNN_PANEL *
           (size_t)trnn_recurrent_kind_of(layer)->gates;
}

/* Numbers of one direction's state for one stream: h, then c. */
static inline size_t trnn_direction_state(const trnn_layer *layer)
{
    return (size_t)trnn_output_size(layer) +
           (trnn_recurrent_kind_of(layer)->has_cell ? (size_t)layer->as.recurrent.hidden_size : 0);
}

/* Rows that the input's product takes at once: enough for its tiles, few enough that what it writes stays in
 * the cache beside the weights. */
#define TRNN_CHUNK_ROWS 64

/* Steps of so many rows. */
static inline int32_t trnn_chunk_steps(int32_t batch, int32_t steps)
{
    const int32_t most = batch < TRNN_CHUNK_ROWS ? TRNN_CHUNK_ROWS / batch : 1;
    return steps < most ? steps : most;
}

/* bias (size,) = b_ih + b_hh, but for the gate that needs its hidden bias apart. No overlap. */
void trnn_add_biases(const trnn_recurrent_kind *kind, size_t size, const float *bias_ih, const float *bias_hh,
                     float *bias);

/* Which rows a step computes: those with lengths beyond it; all where lengths is NULL. */
typedef struct {
    const int32_t *lengths;
    int32_t step;
} trnn_ends;

/* The next run of such rows, b .. end - 1, after the row before `*end` and below `last`; 0: there is none. */
static inline int trnn_next_rows(trnn_ends ends, int32_t last, int32_t *b, int32_t *end)
{
    for (*b = *end; ends.lengths && *b < last && ends.lengths[*b] <= ends.step;) (*b)++;
    for (*end = ends.lengths ? *b : last; *end < last && ends.lengths[*end] > ends.step;) (*end)++;
    return *b < last;
}

trnn_status trnn_recurrent_check(const trnn_layer *layer);
trnn_status trnn_recurrent_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out);
int32_t trnn_recurrent_params(const trnn_layer *layer, trnn_param *params);
size_t trnn_recurrent_state(const trnn_layer *layer);
trnn_layer_bytes trnn_recurrent_scratch;
void trnn_recurrent_run(const trnn_call *call);
int trnn_recurrent_full_sequence(const trnn_layer *layer);

/* Training: bptt.c. */
trnn_layer_bytes trnn_recurrent_tape, trnn_recurrent_train_scratch;
void trnn_recurrent_transpose(const trnn_pass *pass);
void trnn_recurrent_forward(const trnn_pass *pass);
void trnn_recurrent_backward(const trnn_pass *pass);
void trnn_recurrent_gradients(const trnn_pass *pass);

/* The layer type of a cell. */
#define TRNN_RECURRENT_TYPE(text, kind)                \
    {                                                  \
        .name = text,                                  \
        .check = trnn_recurrent_check,                 \
        .frame = trnn_recurrent_frame,                 \
        .params = trnn_recurrent_params,               \
        .state = trnn_recurrent_state,                 \
        .scratch = trnn_recurrent_scratch,             \
        .run = trnn_recurrent_run,                     \
        .full_sequence = trnn_recurrent_full_sequence, \
        .family = &(kind),                             \
    }

/* And its training. */
#define TRNN_RECURRENT_TRAINING(back)            \
    {                                            \
        .tape = trnn_recurrent_tape,             \
        .scratch = trnn_recurrent_train_scratch, \
        .transpose = trnn_recurrent_transpose,   \
        .forward = trnn_recurrent_forward,       \
        .backward = trnn_recurrent_backward,     \
        .gradients = trnn_recurrent_gradients,   \
        .sequences = 1,                          \
        .family = &(back),                       \
    }

#endif
