/* The contract of a layer that runs; training.h is that of a layer that trains. net.c and layer.c use this contract
 * and name no layer.
 *
 * A layer is a const table of functions over its arguments; it owns no memory.
 */
#ifndef TRNN_LAYER_H
#define TRNN_LAYER_H

#include "../kernels/kernels.h"
#include "../layout.h"
#include "../tinyrnn.h"

/* A further value that a layer reads: its frames, (steps, batch, in). */
typedef struct {
    const float *x;
    trnn_frame in;
    int32_t
        still; /* 1: not on the layer's axis of time; per sequence (steps is 1) or on an axis of its own */
    int32_t steps;
    const int32_t *lengths; /* NULL, or (batch,) of its axis */
} trnn_read;

/* The frames on an axis of another rate that are due in one call. */
typedef struct {
    int32_t steps;         /* the most of any row: y is (steps, batch, out) */
    const int32_t *frames; /* (batch,): those of each row. y is zero beyond them */
} trnn_due;

/* The part of a row's state that a part of a value begins: the place of each, in floats. */
typedef struct {
    size_t state, value, size;
} trnn_start_part;

/* One run of one layer. Values and y do not overlap. Row b at step t is frame t * batch + b. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    const void *const *weights; /* in the order of params(); NULL for an absent one */
    float *state;               /* the layer's state of row 0; rows are state_stride apart */
    void *scratch;              /* the bytes that scratch() asks for */
    const void *x;              /* (steps, batch, in) */
    float *y;                   /* (steps, batch, out) */
    size_t state_stride;        /* floats */
    trnn_frame in, out;
    int32_t steps, batch;
    const int32_t *lengths; /* NULL, or (batch,): steps of each row in the caller's sequence */
    int32_t start;          /* steps of that sequence that ran in earlier blocks */
    int32_t descending;     /* as in trnn_job */
    int32_t still;          /* 1: x is one frame a row for all steps */
    const float *source;    /* the state of the layer that wrote x, of row 0; NULL for a net's input */
    int32_t count;          /* further values that it reads */
    const trnn_read *others;
    trnn_due due; /* of a layer that changes the rate: the frames that it writes */
} trnn_call;

/* Bytes of memory for a layer, for at most `steps` steps of `batch` rows. For scratch, `steps` is the most of any value
 * that it reads; they can be on other axes (TRNN_TIME_ATTEND). */
typedef size_t trnn_layer_bytes(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                int32_t steps);

/* What a layer does with time. */
typedef enum {
    TRNN_TIME_KEEP, /* it reads and writes values of one axis of time, or of none if it has no state */
    TRNN_TIME_MIX,  /* as KEEP, and some of the values may be per sequence: they count at each step */
    TRNN_TIME_ATTEND, /* as KEEP for the first value; the others are all on one axis, whichever: their full sequence */
    TRNN_TIME_REDUCE, /* from a value per step to one per sequence: after each call that of the steps so far */
    TRNN_TIME_SPREAD, /* from a value per sequence to one per step: on the axis of its last value, or on axis 1 */
    TRNN_TIME_RATE /* as KEEP, but the value that it writes is on an axis of another rate */
} trnn_time;

/* The code for axes of other rates (plan.h). */
typedef struct trnn_pacing trnn_pacing;
extern const trnn_pacing trnn_rates;

/* Finds the loops of a net whose layers and values are known (loops.c). */
typedef struct trnn_graph trnn_graph;
typedef struct trnn_node trnn_node;
trnn_status trnn_find_loops(trnn_graph *graph, trnn_node *nodes);

struct trnn_layer_type {
    const char *name;

    /* Are the arguments in range? */
    trnn_status (*check)(const trnn_layer *layer);

    /* The frame that it writes when it reads `in`; E_SHAPE if it cannot read that. */
    trnn_status (*frame)(const trnn_layer *layer, trnn_frame in, trnn_frame *out);

    /* In place of frame(), for a layer that reads several values; E_GRAPH if they are too few or too many. */
    trnn_status (*join)(const trnn_layer *layer, const trnn_frame *in, int32_t count, trnn_frame *out);

    /* For a layer that reads the state of the layer that wrote x (trnn_call.source): can it read that of `writer`?
     * E_GRAPH for a layer of another kind. NULL: it reads none. */
    trnn_status (*source)(const trnn_layer *layer, const trnn_layer *writer);

    /* For a layer whose state may begin with values of the net: what the p-th part of the r-th of them becomes; 0: there
     * is none. The layer then reads these values after its own one, all or none of them, each one frame for the
     * sequence. They count before a row's first step. The state has one more number a row (start.c). NULL: it has a
     * state of zeros at first, or what the caller gives. */
    int (*start)(const trnn_layer *layer, int32_t r, int32_t p, trnn_start_part *part);

    /* 1: after its own value, before those that its state begins with, it may read a mask: a number for each step, on its
     * axis of time. Steps whose number is 0 do not count (trnn_call_mask). 0: it reads none. */
    int masks;

    trnn_time time;

    /* For TRNN_TIME_RATE. The first number of the layer's state is the rows' count of steps (trnn_rate_count). */
    trnn_rate (*rate)(const trnn_layer *layer);
    const trnn_pacing *pacing; /* &trnn_rates */

    /* Its tensors, in PyTorch's order; NULL: none. All slots are zeros before: one that it does not
     * fill has rank 0, an absent tensor's, so that the order of weights[] does not depend on the arguments. */
    int32_t (*params)(const trnn_layer *layer, trnn_param *params);

    /* Numbers of state for one stream; NULL: none. */
    size_t (*state)(const trnn_layer *layer);

    /* Bytes of working memory; NULL: none. */
    trnn_layer_bytes *scratch;

    /* Compute; NULL: y is x under another frame. */
    void (*run)(const trnn_call *call);

    /* For a delay, which always runs step by step: after every layer of its loop has run, take x into the state. Its
     * run() does not read x. frame() gets the frame that it writes. NULL: no delay. */
    void (*after)(const trnn_call *call);

    /* Does it need the full sequence in one call? NULL: no. */
    int (*full_sequence)(const trnn_layer *layer);

    /* The layer reads int32 indices: their number n, for indices 0 .. n - 1. NULL: it reads floats. */
    int32_t (*indices)(const trnn_layer *layer);

    const void *family; /* data of a family of layers, such as recurrent.h's */

    /* For a delay: &trnn_find_loops. */
    trnn_status (*loops)(trnn_graph *graph, trnn_node *nodes);
};

static inline int trnn_is_frame(trnn_frame frame)
{
    return trnn_is_size(frame.planes) && trnn_is_size(frame.rows) && trnn_is_size(frame.cols);
}

static inline int trnn_same_frame(trnn_frame a, trnn_frame b)
{
    return a.planes == b.planes && a.rows == b.rows && a.cols == b.cols;
}

/* Rows of all planes of a frame; numbers of a frame. SIZE_MAX: more than can be addressed. */
static inline size_t trnn_frame_rows(trnn_frame frame)
{
    return trnn_times((size_t)frame.planes, (size_t)frame.rows);
}
static inline size_t trnn_frame_size(trnn_frame frame)
{
    return trnn_times(trnn_frame_rows(frame), (size_t)frame.cols);
}

#define TRNN_RATE_MAX (1 << 23) /* a count of steps is exact in a float */

/* The steps in a count, which a caller may have changed. */
static inline int32_t trnn_rate_seen(float count)
{
    return count > 0.0f && count <= 2.0f * TRNN_RATE_MAX ? (int32_t)count : 0;
}

/* The steps of a row so far, as a layer's state has them: exact up to first + stride + `least`, from there on modulo the
 * stride. `least` is how many of them tell apart what the layer must know. */
static inline float trnn_rate_count(trnn_rate rate, int32_t least, float count, int32_t steps)
{
    const int64_t sum = (int64_t)trnn_rate_seen(count) + steps, most = (int64_t)least + rate.first + 1;
    return (float)(sum < most ? sum : most + (sum - most) % rate.stride);
}

/* The frames that are due within so many steps from the beginning. */
static inline int64_t trnn_rate_due(trnn_rate rate, int64_t steps)
{
    return steps <= rate.first ? 0 : (steps - 1 - rate.first) / rate.stride + 1;
}

/* Of `steps` steps from `start` on those that come before row b's end. */
static inline int32_t trnn_row_steps(const int32_t *lengths, int32_t b, int32_t start, int32_t steps)
{
    const int32_t left = lengths ? lengths[b] - start : steps;
    return left < 0 ? 0 : left < steps ? left : steps;
}

/* The mask that the layer reads, (steps, batch); NULL: all steps count. No other of its further values is on its axis. */
static inline const float *trnn_call_mask(const trnn_call *call)
{
    return TRNN_WITH_GRAPHS && call->count && !call->others[0].still ? call->others[0].x : NULL;
}

/* Does a step of a row count, the one of this frame? NULL: all do. */
static inline int trnn_counts(const float *mask, size_t frame) { return !mask || !(mask[frame] == 0.0f); }

/* Before the first step: rows whose state has not begun begin with the further values of the call. `numbers` are those
 * of the layer's own state. */
void trnn_start_run(const trnn_call *call, size_t numbers);

/* Entries of trnn_<family>_arguments, the list of all members of trnn_<family>_args. */
#define TRNN_INT_OF(family, member)        {#member, offsetof(trnn_layer, as.family.member), TRNN_INT32, 0}
#define TRNN_LIVE_FLOAT_OF(family, member) {#member, offsetof(trnn_layer, as.family.member), TRNN_FLOAT, 1}
#define TRNN_END_OF(family) \
    {NULL, offsetof(trnn_layer, as.family) + sizeof(trnn_##family##_args), TRNN_INT32, 0}

/* params() with every tensor's offset, absent tensors (rank 0) included; `bytes` is the size of all. */
int32_t trnn_layer_slots(const trnn_layer *layer, trnn_param slots[TRNN_PARAMS_MAX], size_t *bytes);

/* What params() fills a slot with: a table that is read by rows, laid out as in PyTorch. */
void trnn_param_table(trnn_param *param, const char *name, trnn_format format, int32_t rank, int32_t rows,
                      int32_t cols);

/* A vector, laid out as in PyTorch. */
void trnn_param_vector(trnn_param *param, const char *name, int32_t size);

/* A matrix of (gates * units, cols), in panels. */
void trnn_param_panels(trnn_param *param, const char *name, trnn_format format, int32_t gates, int32_t units,
                       int32_t cols);

/* The bias of such a matrix: (gates * units,), in its order of rows. */
void trnn_param_bias(trnn_param *param, const char *name, int32_t gates, int32_t units);

/* A packed matrix of `gates` gates of `units` rows. */
static inline trnn_matrix trnn_matrix_of(const void *weights, trnn_format format, int32_t gates,
                                         int32_t units, int32_t depth)
{
    return (trnn_matrix){
        .weights = weights,
        .format = format,
        .depth = depth,
        .panels = trnn_ceil(units, TRNN_PANEL) * gates,
        .width = TRNN_GROUP / gates * gates,
    };
}

/* A product of a matrix of `units` rows with `rows` rows of x, everything dense. */
static inline trnn_product trnn_product_of(trnn_matrix matrix, int32_t rows, int32_t units, const void *bias,
                                           const float *x, float *y, void *scratch)
{
    return (trnn_product){
        .matrix = matrix,
        .rows = rows,
        .cols = units,
        .bias = bias,
        .x = x,
        .y = y,
        .x_stride = (size_t)matrix.depth,
        .y_stride = (size_t)units,
        .scratch = scratch,
    };
}

/* May a product of this depth have this format? */
static inline int trnn_is_depth(trnn_format format, int64_t depth)
{
    return depth <= (format == TRNN_INT8 ? TRNN_INT8_DEPTH : TRNN_SIZE_MAX);
}

#endif
