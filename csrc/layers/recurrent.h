/* The driver of all recurrent cells through time: one level of a stack, in one or two directions. A cell is its facts
 * (cells/cell.h) and its three kernels. */
#ifndef TRNN_RECURRENT_H
#define TRNN_RECURRENT_H

#include "training.h"

/* The slots of one direction, in PyTorch's order. */
enum {
    WEIGHT_IH,
    WEIGHT_HH,
    BIAS_IH,
    BIAS_HH,
    WEIGHT_HR,
    VECTORS,
    BIAS_HR = VECTORS, /* of a Jordan network, which has no vectors */
    NORM_IH,
    WEIGHT_IR = NORM_IH, /* of a FastGRNN, which has no such norm */
    NORM_HH,
    NORM_C,
    NORM_C_BIAS,
    RECURRENT_SLOTS
};

/* `count` steps of one direction whose input part is known, the first of them in the order of time is `first`: `cell` is
 * its cell, `state` its numbers of row 0, `offset` its first column of y. */
typedef void trnn_recurrent_chunk(const trnn_call *call, const trnn_cell *cell, float *state, int32_t first,
                                  int32_t count, int reverse, int32_t offset);

/* What a run does for a cell of two rounds alone, so that a program without one leaves it out. `slots` are the weights of
 * a direction; `input` and `cell` are the first round's, which the second one's are made of. */
typedef struct {
    void (*product)(const trnn_call *call, const void *const *slots, const trnn_product *input);
    void (*step)(const trnn_call *call, const void *const *slots, const trnn_cell *cell, float *y);
} trnn_recurrent_two;

/* What a cell of general.c has beside the others: whether its own arguments are in range; the tensors of its norms, which
 * and other tensors that are added to those of a direction. Of a Jordan network its output, row by row: y (rows, P), rows
 * y_stride apart, from its sums (rows, P); and from y and dy of a row, (P,) each, the gradient of its sums, in their place,
 * with `work` as a step has it. `reverse` is the direction. No overlap. */
typedef struct {
    int (*takes)(const trnn_recurrent_args *args, const trnn_cell_facts *facts);
    void (*params)(const trnn_layer *layer, int32_t direction, trnn_param *params);
    void (*output)(const trnn_kernels *isa, const trnn_recurrent_args *args, int reverse, int32_t rows,
                   const float *sums, float *y, size_t y_stride);
    void (*output_back)(const trnn_kernels *isa, const trnn_recurrent_args *args, int reverse, float *sums,
                        const float *y, const float *dy, float *work);
} trnn_recurrent_general;

/* A cell: `family` of its layer type. */
typedef struct {
    trnn_cell_facts facts;
    void (*step)(const trnn_kernels *isa, const trnn_cell *cell);   /* the last round */
    void (*round1)(const trnn_kernels *isa, const trnn_cell *cell); /* the first of two; else NULL */
    const trnn_recurrent_two *two; /* cells of two rounds: trnn_recurrent_rounds; else NULL */
    trnn_recurrent_chunk *scan;    /* cells without a product with h: trnn_recurrent_scan; else NULL */
    const trnn_recurrent_general *general; /* NULL: no cell of general.c */
} trnn_recurrent_kind;

/* Its backward pass: `family` of its training. */
typedef struct {
    void (*step_taped)(const trnn_kernels *isa, const trnn_cell *cell);
    void (*step_back)(const trnn_kernels *isa, const trnn_cell_back *cell);
    void (*round1_back)(const trnn_kernels *isa, const trnn_cell_back *cell);
} trnn_recurrent_back;

static inline const trnn_recurrent_kind *trnn_recurrent_kind_of(const trnn_layer *layer)
{
    return layer->type->family;
}

static inline const trnn_cell_facts *trnn_facts_of(const trnn_layer *layer)
{
    return &trnn_recurrent_kind_of(layer)->facts;
}

/* What a build may leave out is a constant there: what a cell of general.c has; what a cell of two rounds has; the numbers
 * of a projection, 0 for none; whether the cell is a Jordan network; the directions. */
static inline const trnn_recurrent_general *trnn_general_of(const trnn_layer *layer)
{
    return TRNN_WITH_CELL_OPTIONS ? trnn_recurrent_kind_of(layer)->general : NULL;
}
static inline int32_t trnn_second(const trnn_cell_facts *facts)
{
    return TRNN_WITH_TWO_ROUNDS ? facts->second : 0;
}
static inline int32_t trnn_projected(const trnn_layer *layer)
{
    return TRNN_WITH_PROJECTION ? layer->as.recurrent.proj_size : 0;
}
static inline int trnn_is_jordan(const trnn_layer *layer)
{
    return TRNN_WITH_PROJECTION && trnn_general_of(layer) && trnn_facts_of(layer)->output;
}

/* Numbers of h, the output of a step. */
static inline int32_t trnn_output_size(const trnn_layer *layer)
{
    return trnn_projected(layer) ? trnn_projected(layer) : layer->as.recurrent.hidden_size;
}

static inline int32_t trnn_directions(const trnn_layer *layer)
{
    return TRNN_WITH_BIDIRECTIONAL && layer->as.recurrent.bidirectional ? 2 : 1;
}

/* Options of a cell, likewise: the ranks of weight_hh and of weight_ih, 0 for none; whether peepholes are matrices;
 * whether training drops what weight_hh multiplies; whether states stay, with some probability. */
static inline int32_t trnn_rank(const trnn_layer *layer)
{
    return TRNN_WITH_CELL_OPTIONS ? layer->as.recurrent.rank : 0;
}
static inline int32_t trnn_input_rank(const trnn_layer *layer)
{
    return TRNN_WITH_CELL_OPTIONS ? layer->as.recurrent.input_rank : 0;
}
static inline int trnn_has_matrices(const trnn_layer *layer)
{
    return TRNN_WITH_CELL_OPTIONS && layer->as.recurrent.peephole == TRNN_PEEPHOLE_MATRIX;
}
static inline int trnn_drops(const trnn_layer *layer)
{
    return TRNN_WITH_CELL_OPTIONS && layer->as.recurrent.recurrent_dropout > 0.0f;
}
static inline int trnn_has_zoneout(const trnn_layer *layer)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    return TRNN_WITH_CELL_OPTIONS && (a->zoneout > 0.0f || a->zoneout_cell > 0.0f);
}

/* Numbers that weight_hh and weight_ih multiply, the depth of the matrices; the most that a product of a step with the
 * state, and of the input, has. */
static inline int32_t trnn_hidden_depth(const trnn_layer *layer)
{
    return trnn_rank(layer) ? trnn_rank(layer) : trnn_output_size(layer);
}
static inline int32_t trnn_input_depth(const trnn_layer *layer)
{
    return trnn_input_rank(layer) ? trnn_input_rank(layer) : layer->as.recurrent.input_size;
}
static inline int32_t trnn_input_deepest(const trnn_layer *layer)
{
    const int32_t rank = trnn_input_rank(layer), input = layer->as.recurrent.input_size;
    return rank > input ? rank : input;
}
static inline int32_t trnn_state_depth(const trnn_layer *layer)
{
    return trnn_has_matrices(layer) ? layer->as.recurrent.hidden_size : trnn_output_size(layer);
}

/* Does the step before get a gradient of h beside that through the sums? */
static inline int trnn_has_own(const trnn_layer *layer)
{
    return trnn_facts_of(layer)->own || trnn_has_zoneout(layer);
}

/* Vectors of parameters; with matrices in their place, matrices. */
static inline int32_t trnn_vectors(const trnn_layer *layer)
{
    const trnn_cell_facts *facts = trnn_facts_of(layer);
    if (facts->shared && !layer->as.recurrent.bias) return 0;
    return facts->peephole && !layer->as.recurrent.peephole ? 0 : facts->vectors;
}

/* Packed units; numbers of all gates and of all vectors of parameters, packed; numbers of all states but h. */
static inline size_t trnn_packed_units(const trnn_layer *layer)
{
    return (size_t)trnn_ceil(layer->as.recurrent.hidden_size, TRNN_PANEL) * TRNN_PANEL;
}
static inline size_t trnn_gates_size(const trnn_layer *layer)
{
    return trnn_packed_units(layer) * (size_t)trnn_facts_of(layer)->gates;
}
static inline size_t trnn_vectors_size(const trnn_layer *layer)
{
    return trnn_packed_units(layer) * (size_t)trnn_vectors(layer);
}
static inline size_t trnn_states_size(const trnn_layer *layer)
{
    return (size_t)layer->as.recurrent.hidden_size * (size_t)trnn_facts_of(layer)->states;
}

/* Numbers of one direction's state for one stream: h, then the others. */
static inline size_t trnn_direction_state(const trnn_layer *layer)
{
    return (size_t)trnn_output_size(layer) + trnn_states_size(layer);
}

/* The rounds of a cell, 0 and for some cells 1: how many; the gates of one; the place of its first sum among all sums
 * of a row, and of its first row in a matrix or a bias, packed. */
static inline int trnn_rounds(const trnn_cell_facts *facts) { return trnn_second(facts) ? 2 : 1; }
static inline int32_t trnn_round_gates(const trnn_cell_facts *facts, int round)
{
    return round ? trnn_second(facts) : facts->gates - trnn_second(facts);
}
static inline size_t trnn_round_at(const trnn_layer *layer, int round)
{
    return round ? trnn_packed_units(layer) * (size_t)trnn_round_gates(trnn_facts_of(layer), 0) : 0;
}

/* A direction's matrices in its layer's format, for a round: `weights` is the whole tensor's. trnn_matrix_hh gives the
 * shape even where there is no weight_hh. */
static inline trnn_matrix trnn_round_matrix(const trnn_layer *layer, int round, const void *weights,
                                            int32_t depth)
{
    const int32_t gates = trnn_round_gates(trnn_facts_of(layer), round);
    const size_t skipped = trnn_round_at(layer, round) / TRNN_PANEL;
    if (skipped) weights = (const char *)weights + skipped * trnn_group_bytes(layer->format, 1, depth);
    return trnn_matrix_of(weights, layer->format, gates, layer->as.recurrent.hidden_size, depth);
}
static inline trnn_matrix trnn_matrix_ih(const trnn_layer *layer, int round, const void *weights)
{
    return trnn_round_matrix(layer, round, weights, trnn_input_depth(layer));
}
static inline trnn_matrix trnn_matrix_hh(const trnn_layer *layer, int round, const void *weights)
{
    return trnn_round_matrix(layer, round, weights, trnn_hidden_depth(layer));
}
static inline trnn_matrix trnn_matrix_hr(const trnn_layer *layer, const void *weights)
{
    return trnn_matrix_of(weights, layer->format, 1,
                          trnn_rank(layer) ? trnn_rank(layer) : trnn_output_size(layer),
                          layer->as.recurrent.hidden_size);
}

static inline trnn_matrix trnn_matrix_ir(const trnn_layer *layer, const void *weights)
{
    return trnn_matrix_of(weights, layer->format, 1, trnn_input_rank(layer), layer->as.recurrent.input_size);
}

/* What weight_ih multiplies of x (rows, I): x itself, or with a low rank weight_ir x (rows, rank), which goes to `low`.
 * `scratch` serves a product of trnn_input_deepest numbers. No overlap. */
const float *trnn_low_input(const trnn_kernels *isa, const trnn_layer *layer, const void *weight_ir,
                            int32_t rows, const float *x, float *low, void *scratch);
static inline const float *trnn_input_of(const trnn_kernels *isa, const trnn_layer *layer,
                                         const void *weight_ir, int32_t rows, const float *x, float *low,
                                         void *scratch)
{
    return trnn_input_rank(layer) ? trnn_low_input(isa, layer, weight_ir, rows, x, low, scratch) : x;
}

/* The matrices of peepholes. */
static inline trnn_matrix trnn_matrix_seen(const trnn_layer *layer, const void *weights)
{
    const int32_t units = layer->as.recurrent.hidden_size;
    return trnn_matrix_of(weights, layer->format, trnn_vectors(layer), units, units);
}

/* Working numbers of a step of a general cell, for so many rows: the sums' two parts, what a low rank leaves of h or
 * matrices make of c, and its arrays. */
enum { TRNN_GENERAL_ARRAYS = 28, TRNN_NORM_ARRAYS = 40 };
static inline size_t trnn_cell_work(const trnn_layer *layer, int32_t rows)
{
    if (!trnn_general_of(layer)) return 0;
    if (trnn_is_jordan(layer)) { /* its output has arrays of P numbers, while no step has any */
        const size_t size = (size_t)layer->as.recurrent.proj_size + TRNN_PANEL,
                     units = trnn_packed_units(layer);
        const size_t most = size > units ? size : units;
        return trnn_times(2 * (size_t)rows + TRNN_GENERAL_ARRAYS, most);
    }
    const size_t seen = trnn_has_matrices(layer) ? trnn_vectors_size(layer) : 0;
    const size_t sums = 2 * trnn_gates_size(layer) + seen + (size_t)trnn_rank(layer);
    return trnn_plus(
        trnn_times((size_t)rows, sums),
        (layer->as.recurrent.layer_norm ? TRNN_GENERAL_ARRAYS + TRNN_NORM_ARRAYS : TRNN_GENERAL_ARRAYS) *
            trnn_packed_units(layer));
}

/* With layer normalisation, and of a FastGRNN's zeta and nu, numbers of a tensor whose gradient the steps sum up
 * themselves, as it is in memory; of all. */
static inline size_t trnn_norm_size(const trnn_layer *layer, int32_t slot)
{
    const trnn_recurrent_args *a = &layer->as.recurrent;
    const size_t units = (size_t)a->hidden_size, gates = (size_t)trnn_facts_of(layer)->gates;
    if (!trnn_general_of(layer)) return 0;
    if (trnn_facts_of(layer)->shared) return slot == NORM_C || slot == NORM_C_BIAS;
    if (!a->layer_norm) return 0;
    if (slot == BIAS_IH || slot == BIAS_HH) return a->bias ? trnn_gates_size(layer) : 0;
    if (slot == NORM_IH || slot == NORM_HH) return gates * units;
    return (slot == NORM_C || slot == NORM_C_BIAS) && trnn_facts_of(layer)->states ? units : 0;
}
static inline size_t trnn_norms_size(const trnn_layer *layer)
{
    size_t size = 0;
    for (int32_t slot = 0; slot < RECURRENT_SLOTS; slot++) size += trnn_norm_size(layer, slot);
    return size;
}
static inline int trnn_has_norm(const trnn_layer *layer)
{
    return trnn_general_of(layer) && (layer->as.recurrent.layer_norm || trnn_facts_of(layer)->shared);
}
#define TRNN_NORM_OF(slots, sum)                                                \
    (trnn_cell_norm)                                                            \
    {                                                                           \
        .ih = (slots)[NORM_IH], .hh = (slots)[NORM_HH], .c = (slots)[NORM_C],   \
        .c_bias = (slots)[NORM_C_BIAS], .bias = (slots)[BIAS_IH] ? (sum) : NULL \
    }

/* The options of a general cell in one direction: `norm` is its norm, if it has one, `factor` its weight_hr. */
static inline trnn_cell_options trnn_options_of(const trnn_layer *layer, int32_t direction,
                                                const trnn_cell_norm *norm, const void *factor, float *work)
{
    return (trnn_cell_options){
        .activations = layer->as.recurrent.activations[direction],
        .norm = trnn_has_norm(layer) ? norm : NULL,
        .factor = factor,
        .work = work,
    };
}

/* Are the hidden parts of sums an array of their own? */
static inline int trnn_has_apart(const trnn_layer *layer)
{
    return trnn_facts_of(layer)->apart || (TRNN_WITH_CELL_OPTIONS && layer->as.recurrent.layer_norm);
}

/* Rows of one input product: enough for its tiles, and few enough that its results stay in the cache beside the
 * weights. */
#define TRNN_CHUNK_ROWS 64

/* Steps of a chunk. */
static inline int32_t trnn_chunk_steps(int32_t batch, int32_t steps)
{
    if (steps == 1) return 1; /* a division takes time */
    const int32_t most = batch < TRNN_CHUNK_ROWS ? TRNN_CHUNK_ROWS / batch : 1;
    return steps < most ? steps : most;
}

/* What the sums of `size` gates begin with: bias (size,) = b_ih + b_hh those of the input part, b_ih alone for apart gates and
 * where there is no b_hh. If gates are apart, as many numbers behind them those of the hidden part: b_hh of these gates, else
 * zeros. No overlap. */
void trnn_add_biases(const trnn_kernels *isa, const trnn_cell_facts *facts, size_t size, const float *bias_ih,
                     const float *bias_hh, float *bias);
static inline size_t trnn_biases_size(const trnn_layer *layer)
{
    if (!layer->as.recurrent.bias) return 0;
    return trnn_times(trnn_gates_size(layer), trnn_facts_of(layer)->apart ? 2 : 1);
}

/* What the hidden sums begin with; NULL: zeros. `bias_ih` is NULL without biases. Cells with apart gates have b_hh. */
static inline const float *trnn_hidden_bias(const trnn_cell_facts *facts, size_t size, const float *bias_ih,
                                            const float *bias)
{
    return bias_ih && facts->apart ? bias + size : NULL;
}

/* The rows that a step computes: those that have not ended, and whose mask is not 0. A masked row keeps its state, and
 * its y is its h. */
typedef struct {
    const int32_t *lengths; /* NULL, or (batch,) */
    const float *mask;      /* NULL, or (steps, batch) */
    int32_t batch;
    int32_t start; /* steps of the sequence before the first one */
    int all;       /* 1: every step computes all rows */
} trnn_rows;

static inline trnn_rows trnn_rows_of(const int32_t *lengths, const float *mask, int32_t batch, int32_t start)
{
    return (trnn_rows){lengths, mask, batch, start, !lengths && !mask};
}
static inline int trnn_has_ended(const trnn_rows *rows, int32_t t, int32_t b)
{
    return rows->lengths && rows->lengths[b] <= rows->start + t;
}
static inline int trnn_is_masked(const trnn_rows *rows, int32_t t, int32_t b)
{
    return !trnn_counts(rows->mask, (size_t)t * (size_t)rows->batch + (size_t)b);
}
static inline int trnn_rests(const trnn_rows *rows, int32_t t, int32_t b)
{
    return trnn_has_ended(rows, t, b) || trnn_is_masked(rows, t, b);
}

/* Finds the next run of rows that step t computes, b .. end - 1, from row `*end` on and below `last`; 0: there is none. */
static inline int trnn_next_rows(const trnn_rows *rows, int32_t t, int32_t last, int32_t *b, int32_t *end)
{
    for (*b = *end; !rows->all && *b < last && trnn_rests(rows, t, *b);) (*b)++;
    for (*end = rows->all ? last : *b; *end < last && !trnn_rests(rows, t, *end);) (*end)++;
    return *b < last;
}

trnn_status trnn_recurrent_check(const trnn_layer *layer);
trnn_status trnn_recurrent_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out);
int32_t trnn_recurrent_params(const trnn_layer *layer, trnn_param *params);
size_t trnn_recurrent_state(const trnn_layer *layer);
int trnn_recurrent_start(const trnn_layer *layer, int32_t r, int32_t p, trnn_start_part *part);
trnn_layer_bytes trnn_recurrent_scratch;
trnn_recurrent_chunk trnn_recurrent_scan;
extern const trnn_recurrent_two trnn_recurrent_rounds;
void trnn_recurrent_run(const trnn_call *call);
int trnn_recurrent_full_sequence(const trnn_layer *layer);

/* Training: bptt.c. */
trnn_layer_bytes trnn_recurrent_tape, trnn_recurrent_train_scratch;
void trnn_recurrent_transpose(const trnn_pass *pass);
void trnn_recurrent_forward(const trnn_pass *pass);
void trnn_recurrent_backward(const trnn_pass *pass);
void trnn_recurrent_gradients(const trnn_pass *pass);

/* The two tables of a cell, whose steps are lower_kind and lower_back. */
#define TRNN_RECURRENT_LAYER(lower)                              \
    const trnn_layer_type trnn_##lower = {                       \
        .name = #lower,                                          \
        .check = trnn_recurrent_check,                           \
        .frame = trnn_recurrent_frame,                           \
        .start = TRNN_WITH_GRAPHS ? trnn_recurrent_start : NULL, \
        .params = trnn_recurrent_params,                         \
        .state = trnn_recurrent_state,                           \
        .scratch = trnn_recurrent_scratch,                       \
        .run = trnn_recurrent_run,                               \
        .full_sequence = trnn_recurrent_full_sequence,           \
        .masks = 1,                                              \
        .family = &lower##_kind,                                 \
    };                                                           \
    const trnn_layer_training trnn_##lower##_training = {        \
        .tape = trnn_recurrent_tape,                             \
        .scratch = trnn_recurrent_train_scratch,                 \
        .transpose = trnn_recurrent_transpose,                   \
        .forward = trnn_recurrent_forward,                       \
        .backward = trnn_recurrent_backward,                     \
        .gradients = trnn_recurrent_gradients,                   \
        .sequences = 1,                                          \
        .family = &lower##_back,                                 \
    };

#endif
