/* tinyrnn: recurrent networks in memory that the caller provides.
 *
 * The core allocates nothing, locks nothing, prints nothing and has no global that changes.
 * Order of use:
 *
 *     trnn_layer net[] = {                                  describe the net
 *         {.type = &trnn_lstm, .as.recurrent = {.input_size = 40, .hidden_size = 128, .bias = 1}},
 *         {.type = &trnn_linear, .as.linear = {.in_features = 128, .out_features = 10, .bias = 1}},
 *     };
 *     trnn_layer_params / trnn_param_pack                   lay PyTorch's tensors out as weights
 *     trnn_chain / trnn_plan_bytes / trnn_plan_init         fix every size and offset
 *     trnn_run                                              run steps; state carries on
 *
 * docs/c-guide.md is a longer introduction. A program links the layers that it names, and no others.
 *
 * Words: T steps, B batch, I input size, H hidden size, P projection size, D directions. A frame is the
 * input of a layer at one step: planes x rows x cols numbers. (F,) is 1 x 1 x F; a convolution reads
 * 1 x channels x length, one of pictures channels x rows x cols.
 * All arrays are C-contiguous. They are float32, except an embedding's int32 indices. Sequences are
 * time-major: (T, B, frame).
 */
#ifndef TINYRNN_H
#define TINYRNN_H

#include <stddef.h>
#include <stdint.h>

#define TINYRNN_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors: mistakes of the caller; a broken invariant of the core is an assert ---------- */

typedef enum {
#define TRNN_STATUS(name, exception, text) TRNN_##name,
#include "status.def"
#undef TRNN_STATUS
    TRNN_STATUS_COUNT
} trnn_status;

const char *trnn_status_text(trnn_status status);
const char *trnn_status_exception(trnn_status status); /* the Python exception's name */

/* ---- instruction sets ---------------------------------------------------------------------- */

typedef struct trnn_kernels trnn_kernels; /* a const table of functions, one per ISA */

/* Lists the instruction sets that this build has and this machine can run, in rising order of preference.
 * Writes the first `room` of them to `list` and returns how many there are. Each call asks the processor,
 * which takes microseconds in a virtual machine: call once and keep the pointers. */
int32_t trnn_isa_list(const trnn_kernels **list, int32_t room);
const trnn_kernels *trnn_isa_find(const char *name); /* NULL if there is none of that name */
const trnn_kernels *trnn_isa_best(void);
const char *trnn_isa_name(const trnn_kernels *isa); /* "scalar", "avx2", "neon" ... */
int trnn_isa_fused(const trnn_kernels *isa); /* 1: fused multiply-add; all of these give the same bits */

/* ---- arguments by name ---------------------------------------------------------------------- */

/* How a binding to another language reads and writes an argument of a layer, a loss or an optimiser. */

typedef enum {
    TRNN_INT32,
    TRNN_FLOAT,
    TRNN_DOUBLE,
    TRNN_FLOATS /* a const float *, to trnn_loss.classes numbers */
} trnn_argument_type;

typedef struct {
    const char *name; /* of the member of its struct; NULL ends a list */
    size_t offset;    /* bytes into the trnn_layer, trnn_loss or trnn_rule; in the last entry: to their end */
    trnn_argument_type type;
    int32_t live; /* 1: may change after a net has been laid out (trnn_plan_adjust) */
} trnn_argument;

/* ---- layers -------------------------------------------------------------------------------- */

typedef struct {
    int32_t planes, rows, cols;
} trnn_frame;

/* A layer that runs is one const table of functions, and its training is another: &trnn_lstm and
 * &trnn_lstm_training, and so on for each name in layers.def. A program that only runs nets links no training. */
typedef struct trnn_layer_type trnn_layer_type;
typedef struct trnn_layer_training trnn_layer_training;

#define TRNN_LAYER(name, arguments)           \
    extern const trnn_layer_type trnn_##name; \
    extern const trnn_layer_training trnn_##name##_training;
#include "layers/layers.def"
#undef TRNN_LAYER

/* What is beyond the ends of an axis: a convolution knows the first two. */
typedef enum { TRNN_PAD_ZEROS, TRNN_PAD_REFLECT, TRNN_PAD_REPLICATE, TRNN_PAD_CIRCULAR } trnn_pad;

/* Arguments, as torch.nn names them. Flags are 0 or 1. */

/* The functions of a cell's gates: ONNX' list, with its alpha and beta. */
typedef enum {
    TRNN_SIGMOID,
    TRNN_TANH,
    TRNN_RELU,
    TRNN_AFFINE,           /* alpha x + beta */
    TRNN_LEAKY_RELU,       /* x, below 0 alpha x */
    TRNN_THRESHOLDED_RELU, /* x, below alpha 0 */
    TRNN_SCALED_TANH,      /* alpha tanh(beta x) */
    TRNN_HARD_SIGMOID,     /* alpha x + beta within 0 .. 1 */
    TRNN_ELU,              /* x, below 0 alpha (exp(x) - 1) */
    TRNN_SOFTSIGN,         /* x / (1 + |x|) */
    TRNN_SOFTPLUS,         /* log(1 + exp(x)) */
    TRNN_CELL_FUNCTIONS
} trnn_cell_function;

typedef struct {
    int32_t function; /* a trnn_cell_function */
    float alpha, beta;
} trnn_cell_activation;

enum { TRNN_PEEPHOLE_MATRIX = 2 };

typedef struct { /* RNN, LSTM, GRU: one level of a stack */
    int32_t input_size, hidden_size;
    int32_t proj_size; /* LSTM, below hidden_size; 0: none. Jordan: numbers of y, any */
    int32_t bias, bidirectional;
    int32_t relu;  /* RNN only: relu in place of tanh */
    int32_t level; /* of its stack, from 0: which rows of the values that its state begins with are its own */
    int32_t
        peephole; /* coupled LSTM, general LSTMs: the gates see c; general ones: or, as TRNN_PEEPHOLE_MATRIX says, c[t-1] */
    /* The general cells only, by direction: the functions of the gates; of g, n or an RNN's h'; of c'. The sums that they
     * read are clipped to +-clip, c' is not; 0: no clip. */
    trnn_cell_activation activations[2][3];
    float clip;
    int32_t layer_norm; /* general LSTMs and GRU: layer normalisation (Ba et al., 2016) */
    float cell_clip;    /* general LSTMs: c' is within +-cell_clip; 0: no clip */
    /* FastGRNN: the hidden product is weight_hh, (hidden_size, rank), times weight_hr, (rank, hidden_size); 0: no rank.
     * That of the input is weight_ih, (hidden_size, input_rank), times weight_ir, (input_rank, input_size), likewise. */
    int32_t rank, input_rank;
    /* RNN, LSTM, GRU, general and without a projection: the shares of h and of c that stay as they were (Krueger et al.,
     * 2017): in training at random, else on average. */
    float zoneout, zoneout_cell;
    /* Training: the share of what weight_hh multiplies that is dropped, the same in all steps (Gal and Ghahramani, 2016). */
    float recurrent_dropout;
    int32_t zoneout_mean; /* training: zoneout as else, on average */
} trnn_recurrent_args;

typedef struct {
    int32_t in_features, out_features, bias;
} trnn_linear_args;

typedef struct { /* reads int32 indices; only as a net's first layer */
    int32_t num_embeddings, embedding_dim;
    int32_t padding; /* training: 1 + the index whose row gets no gradient; 0: none */
} trnn_embedding_args;

typedef struct { /* conv1d, conv2d; conv_steps: stride 1, no padding */
    int32_t in_channels, out_channels, kernel_size, stride, dilation, groups, bias;
    int32_t pad_left, pad_right;
    int32_t padding_mode; /* a trnn_pad */
    /* conv2d: along the rows of its planes, where the above is along their columns. 0 in the others. */
    int32_t kernel_rows, stride_rows, dilation_rows, pad_top, pad_bottom;
} trnn_conv1d_args;

/* The weight's rows are the columns of PyTorch's: weight[o * kernel_size + k][i] is its weight[i][o][k], of each group. */
typedef struct {
    int32_t in_channels, out_channels, kernel_size, stride, dilation, groups, bias;
    int32_t padding, output_padding;
} trnn_conv_transpose_args;

typedef struct
{ /* max_pool, avg_pool: over the rows and columns of each plane. 1d: over columns, the rest of rows is 1 */
    int32_t kernel_rows, stride_rows, pad_rows, dilation_rows; /* avg_pool: dilation 1 */
    int32_t kernel_cols, stride_cols, pad_cols, dilation_cols;
    int32_t ceil_mode, count_include_pad;
    int32_t divisor; /* avg_pool: in place of the count; 0: none */
} trnn_pool_args;

typedef struct
{ /* adaptive_max_pool, adaptive_avg_pool: the size of what they write; 0: that of what they read */
    int32_t rows, cols;
} trnn_adaptive_args;

typedef struct {
    int32_t size; /* layer_norm: numbers that are normalised together; batch_norm, group_norm: channels */
    int32_t affine, bias;
    float eps;
    float momentum;            /* batch_norm, training: how far a batch moves the running statistics */
    int32_t use_running_stats; /* batch_norm, training: 1: normalise by the running statistics, which stay */
    int32_t groups;            /* group_norm: of channels that are normalised together */
} trnn_norm_args;

typedef struct {
    float slope; /* leaky_relu */
} trnn_activation_args;

typedef struct {
    int32_t
        num_parameters; /* 1, or one for each plane of a frame, each row of a single plane, each number of a single row */
} trnn_prelu_args;

typedef struct { /* scale x above 0, alpha (exp(rate x) - 1) below */
    float alpha, scale;
    float rate; /* above 0 */
} trnn_elu_args;

typedef struct { /* log(1 + exp(beta x)) / beta; x where beta x is above the threshold */
    float beta;  /* not 0 */
    float threshold;
} trnn_softplus_args;

typedef struct { /* clip, hardtanh */
    float min, max;
} trnn_clip_args;

typedef struct { /* scale x + shift */
    float scale, shift;
} trnn_scale_args;

typedef struct {
    float exponent;
} trnn_pow_args;

typedef struct {
    float p; /* the share of the numbers that training sets to zero */
} trnn_dropout_args;

typedef struct {
    int32_t over_rows; /* 1: over a frame's rows (channels); 0: over its columns */
} trnn_softmax_args;

typedef enum { TRNN_PLANES, TRNN_ROWS, TRNN_COLS } trnn_frame_axis;

typedef struct { /* the same numbers as another frame; one of the sizes may be -1: what is left */
    int32_t planes, rows, cols;
} trnn_reshape_args;

typedef struct {                /* the axis of x that becomes the planes, rows and columns of y: each once */
    int32_t planes, rows, cols; /* a trnn_frame_axis each */
} trnn_permute_args;

typedef struct { /* numbers around a frame */
    int32_t planes_before, planes_after, rows_before, rows_after, cols_before, cols_after;
    int32_t mode; /* a trnn_pad. With zeros a pad may be negative: so many numbers are cut off */
    float value;  /* in place of zeros */
} trnn_padding_args;

typedef struct {                /* sum, mean, amax, amin, prod, var, std, vector_norm, logsumexp */
    int32_t planes, rows, cols; /* flags: the axes that become one number */
    int32_t keep;               /* 1: they stay, with size 1; 0: the others move to the end of the frame */
    int32_t correction;         /* var, std: the sum of squares is divided by the count less this */
} trnn_reduce_args;

typedef struct { /* a frame of one number, whatever it reads: for operations of a value and a number */
    float number;
} trnn_constant_args;

typedef struct {  /* frames side by side; reads several values */
    int32_t axis; /* a trnn_frame_axis */
} trnn_concat_args;

typedef struct {  /* the part start .. start + size - 1 of a frame */
    int32_t axis; /* a trnn_frame_axis */
    int32_t start, size;
} trnn_slice_args;

typedef struct {
    int32_t planes, rows, cols; /* the frame of the value that it reads */
    int32_t steps;              /* how many steps ago */
} trnn_delay_args;

typedef struct {                /* over time: last_step, sum_steps, mean_steps, max_steps */
    int32_t planes, rows, cols; /* the frame of the value that it reads */
} trnn_frame_args;

typedef struct {         /* reads what a recurrent layer wrote */
    int32_t directions;  /* of that layer */
    int32_t numbers;     /* of the state of one direction (trnn_plan_state) */
    int32_t start, size; /* the part of them that it writes, such as 0 and P or H: `h` */
} trnn_final_state_args;

typedef struct {         /* reads query and keys (size,), and values (V,); writes (V,) */
    int32_t size, heads; /* size and V are multiples of heads */
    float scale;         /* of the product of query and key: finite */
} trnn_attention_args;

typedef struct { /* as attention, with the score w . tanh(query + key) */
    int32_t size;
} trnn_additive_args;

typedef struct {        /* unfold_steps: windows of steps */
    int32_t rows, cols; /* of the frames that it reads */
    int32_t kernel_size, stride, dilation;
    int32_t pad_left, pad_right; /* steps of padding, each <= (kernel_size - 1) * dilation */
    int32_t lowest;              /* 1: padding is -infinity, for a maximum; 0: zeros */
} trnn_unfold_args;

/* The format of a layer's matrices. Biases and all other tensors stay float32.
 * Halves are widened exactly, and the arithmetic is float32. A product of integer weights also rounds its
 * activations, row by row, to codes -127 .. 127; their scale is the row's largest magnitude / 127. */
typedef enum {
    TRNN_F32,
    TRNN_F16,
    TRNN_BF16,
    TRNN_INT8, /* codes -127 .. 127, a float32 scale per row */
    TRNN_INT4, /* codes -8 .. 7, a bfloat16 scale per 32 numbers of a row */
    TRNN_FORMAT_COUNT
} trnn_format;

const char *trnn_format_name(trnn_format format); /* "float32", "int8" ... */

typedef struct {
    const trnn_layer_type *type;
    const trnn_layer_training *training; /* NULL: the layer is never trained */
    trnn_format format;
    union {
        trnn_recurrent_args recurrent;
        trnn_linear_args linear;
        trnn_embedding_args embedding;
        trnn_conv1d_args conv1d;
        trnn_conv_transpose_args conv_transpose;
        trnn_pool_args pool;
        trnn_adaptive_args adaptive;
        trnn_norm_args norm;
        trnn_activation_args activation;
        trnn_prelu_args prelu;
        trnn_elu_args elu;
        trnn_softplus_args softplus;
        trnn_clip_args clip;
        trnn_scale_args scale;
        trnn_pow_args pow;
        trnn_dropout_args dropout;
        trnn_softmax_args softmax;
        trnn_reshape_args reshape;
        trnn_permute_args permute;
        trnn_padding_args padding;
        trnn_reduce_args reduce;
        trnn_constant_args constant;
        trnn_concat_args concat;
        trnn_slice_args slice;
        trnn_delay_args delay;
        trnn_frame_args frame;
        trnn_final_state_args final_state;
        trnn_attention_args attention;
        trnn_additive_args additive;
        trnn_unfold_args unfold;
    } as;
} trnn_layer;

/* Both tables of a layer that is to be trained: {TRNN_TRAINED(lstm), .as.recurrent = {...}}. */
#define TRNN_TRAINED(name) .type = &trnn_##name, .training = &trnn_##name##_training

const char *trnn_layer_name(const trnn_layer *layer); /* "lstm", as in layers.def */

/* All layers, for a program that learns only at run time which layers its net has. A call of one of these
 * functions links every layer. Type and training are set, the rest is 0. */
int32_t trnn_layer_count(void);
trnn_layer trnn_layer_at(int32_t i);           /* 0 <= i < trnn_layer_count() */
trnn_layer trnn_layer_named(const char *name); /* its type is NULL if there is none of that name */

const trnn_argument *trnn_layer_arguments(const trnn_layer *layer); /* all, in the order of their struct */

/* Checks a layer's arguments, without its neighbours. Every other function expects a layer that passed. */
trnn_status trnn_layer_check(const trnn_layer *layer);

/* ---- parameters and weights ---------------------------------------------------------------- */

#define TRNN_PARAMS_MAX 20

/* One named tensor of a layer, and its place in the layer's weights. The caller uses name, rank and shape;
 * the rest is for trnn_param_pack. */
typedef struct {
    const char *name; /* PyTorch's, without the level: "weight_ih", "weight_hh_reverse", "bias" */
    int32_t rank;
    int32_t shape[4];
    trnn_format format;
    size_t offset;                      /* bytes into the layer's weights */
    int32_t repeat, gates, units, cols; /* panels: `repeat` matrices of (gates * units, cols) */
    int32_t second; /* the last gates, if they are packed as a matrix of their own; else 0 */
} trnn_param;

/* Fills `params` with the layer's tensors, in PyTorch's order; returns how many. */
int32_t trnn_layer_params(const trnn_layer *layer, trnn_param params[TRNN_PARAMS_MAX]);

/* Bytes of one layer's weights, which are aligned to 64. 0: none; SIZE_MAX: more than can be addressed. */
size_t trnn_layer_weights_bytes(const trnn_layer *layer);

/* Lay one tensor out as weights, and convert it back. Lossless. With rows = shape[0] and cols the product of the
 * other sizes,
 *
 *   format      numbers: (rows, cols)   scales
 *   F32         float                   NULL
 *   F16, BF16   uint16_t, their bits    NULL
 *   INT8        int8_t, -127 .. 127     (rows,)
 *   INT4        int8_t, -8 .. 7         (rows, cols / 32 rounded up), each a bfloat16
 *
 * C-contiguous; the caller has checked the codes. `weights` is the layer's whole buffer, zeroed before the
 * first pack. Nothing may overlap. */
void trnn_param_pack(const trnn_param *param, void *weights, const void *numbers, const float *scales);
void trnn_param_unpack(const trnn_param *param, const void *weights, void *numbers, float *scales);

/* Packs `count` of an F32 tensor's C-contiguous numbers, from the `first` one on, so that a large tensor can be
 * made piece by piece. */
void trnn_param_pack_chunk(const trnn_param *param, void *weights, const float *numbers, size_t first,
                           size_t count);

/* Bytes that the tensor takes from `offset` on, padding included. */
size_t trnn_param_bytes(const trnn_param *param);

/* ---- nets: layers over numbered values ------------------------------------------------------- */

#define TRNN_READS_MAX 8 /* values that a layer reads */
#define TRNN_PORTS_MAX 8 /* inputs of a net; outputs of a net */
#define TRNN_AXES_MAX  4 /* axes of time */

/* A value is per step or per sequence. (steps, B, frame) or (B, frame), float32, or int32 indices. Most nets have one
 * axis of time, 1; the steps of each axis are a number of their own. A layer that changes the rate writes on an axis whose
 * number is larger than those of the inputs. */
typedef struct {
    trnn_frame frame;
    int32_t axis; /* 1 ..: one frame for each step of this axis of time; 0: one frame for the sequence */
} trnn_value;

/* A change of the rate: frame n is due with step first + n * stride of the axis of time before it. A sequence is followed
 * by `after` steps of padding. */
typedef struct {
    int32_t first, stride, after; /* 0 <= first, 1 <= stride, 0 <= after */
} trnn_rate;

typedef struct {
    int32_t count;
    int32_t value[TRNN_READS_MAX];
} trnn_reads;

/* A net: its layers in order. Its values are numbered: first the inputs, then what each layer writes. A layer reads
 * values with smaller numbers than its own. A delay may read any: it writes what it read at the step before.
 *
 * A recurrent layer and a delay may read, after that value, those that their state begins with, each one frame for the
 * sequence: a recurrent layer `h`, of (levels * directions, P) numbers, and one of (levels * directions, H) for each
 * other state, such as an LSTM's `c`; a delay a frame as its own, which stands for all steps before the first. They
 * count where a row's state is zeros, as it is at first.
 *
 * A recurrent layer may read a mask, too, before those and after its own value: a number for each step, on the same axis.
 * Where it is 0 the step does not count for its row: the state stays, and the layer writes its `h`. last_step, sum_steps,
 * mean_steps and max_steps may read one after their own value, and attention layers after theirs: one of the keys. */
typedef struct {
    const trnn_layer *layers;
    int32_t count;
    const trnn_reads
        *reads; /* (count,); NULL: a chain, in which each layer reads what the one before it wrote */
    int32_t inputs, outputs;
    trnn_value input[TRNN_PORTS_MAX];
    int32_t output[TRNN_PORTS_MAX]; /* the values that the caller gets */
} trnn_net;

/* A chain of `count` layers that reads a frame for each step. */
trnn_net trnn_chain(const trnn_layer *layers, int32_t count, trnn_frame frame);

/* ---- plans: a net laid out for a largest batch and a largest number of steps ---------------- */

/* Plain memory: it can be copied, and it points only to const tables. */
typedef struct trnn_plan trnn_plan;

typedef struct {
    int32_t inputs, outputs;
    trnn_value in[TRNN_PORTS_MAX], out[TRNN_PORTS_MAX];
    int32_t batch;                /* exact */
    int32_t steps[TRNN_AXES_MAX]; /* of each axis of time: the block that scratch has room for */
    size_t state_bytes;           /* state of a stream */
    size_t value_bytes;           /* the part of scratch that holds values between layers */
    size_t widest_bytes;          /* its lower bound: the most bytes of values that are needed at once */
    size_t scratch_bytes;         /* working memory of one call; streams may share it in turn */
    size_t part_bytes;            /* additional scratch of a job with a stride */
    /* Of a row's step, at most: bytes of weights; of a layer with few, 4 for every pair of a number that it reads and
     * one that it writes. */
    size_t cost;
    int32_t full_sequence; /* 1: the net needs the full sequence, so a call takes at most `steps` steps */
    uint32_t indices;      /* bit i: the i-th input is int32 indices */
    int32_t views;         /* 1: there are layers that need not run in a plan of one row and one step */
} trnn_sizes;

/* Bytes of a net's plan. 0: none; SIZE_MAX: more than can be addressed. */
size_t trnn_plan_bytes(const trnn_net *net);

/* Lays a net out in `memory` (trnn_plan_bytes(net) bytes, aligned to 8), for blocks of `steps` steps: a number for each
 * axis of time. A run may take more blocks of axis 1; of the other axes it has all steps at once, at most these. If a
 * layer cannot read its values, returns an error and leaves `*sizes` unchanged. The plan keeps copies of the layers, and
 * no pointer to the net. */
trnn_status trnn_plan_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                           trnn_sizes *sizes);

/* The place of a layer's state in a row of the state, which is (B, state_bytes / B). Each row's numbers are
 * contiguous, so a plan of the same layers with another batch can run some of the rows. A layer keeps, for each
 * direction, `h` (P or H), then an LSTM's `c` (H). The offset is in floats; numbers is 0 without state. If the state
 * begins with values of the net, one more number follows: 0 before the row's first step, else not 0. */
void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers);
int trnn_plan_begins(const trnn_plan *plan, int32_t layer); /* 1: it begins with values of the net */

/* Replaces the arguments of the plan's i-th layer. Only live ones (trnn_argument) may differ. They apply from the
 * next run on, and may apply to a run that is under way. */
void trnn_plan_adjust(trnn_plan *plan, int32_t i, const trnn_layer *layer);

typedef struct {
    const trnn_kernels *isa;
    const void *const *weights; /* one per layer (NULL for a layer without), each aligned to 64; const */
    float *state;               /* state_bytes, aligned to 64; zeros at first; read and written */
    void *scratch;              /* scratch_bytes, aligned to 64; contents do not matter between calls */
    const void
        *x[TRNN_PORTS_MAX]; /* each (steps, B, in frame) or (B, in frame): float32, or int32 indices; const */
    float *y[TRNN_PORTS_MAX]; /* each (steps, B, out frame) or (B, out frame); each overlaps nothing else */
    int32_t steps[TRNN_AXES_MAX]; /* of each axis of time; a stream has all those of axes 2 .. in each run */
    const int32_t *lengths[TRNN_AXES_MAX]; /* NULL, or (B,) with 1 <= lengths[b] <= steps: row b ends there;
                                            * recurrent layers write zeros beyond and keep its state as of
                                            * its last step */
    int32_t stride; /* rows from one step to the next in x and y, where B is part of a larger batch:
                             * scratch then has part_bytes more. 0: B */
    int32_t ends;   /* 1: the sequences end with this run: windows of steps that reach beyond are padded */
    int32_t descending; /* 1: the first step reads the weights from their end. The bits are the same. Where
                             * the weights are larger than the cache, a stream that alternates it from step to
                             * step first reads what is still in the cache */
    int (*poll)(void *context); /* NULL, or called after each block of the plan's steps; 0: continue */
    void *context;              /* the argument of poll */
} trnn_job;

/* Runs `steps` steps of the plan's batch. On an error nothing has been written, with one exception: after
 * E_INTERRUPTED, which poll asked for, y and the state are complete up to the last block. `lengths` must not
 * change during the run. x may: an index that has gone out of range reads as a row of zeros. */
trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job);

/* The steps of an output in a run of the job, whose state, steps, lengths and `ends` count: the most of any row, and
 * those of each in `lengths` (B,), if it is not NULL. A layer that changes the rate (unfold_steps) writes a frame for some
 * of the steps that it reads; from the state it knows which. A run can be due no frame: 0. y has room for these steps. It
 * is not written beyond those of a row. */
int32_t trnn_plan_steps(const trnn_plan *plan, const trnn_job *job, int32_t output, int32_t *lengths);

/* The axis of the inputs that an axis of another rate follows, and how; 0 for an axis of the inputs. */
int32_t trnn_plan_rate(const trnn_plan *plan, int32_t axis, trnn_rate *rate);

/* ---- gates: what those of a recurrent layer did in a run --------------------------------------- */

/* A letter for each gate, in the order of their rows in weight_ih: "ifgo". "" for a cell that names none, NULL for a
 * layer that is not recurrent. */
const char *trnn_layer_gates(const trnn_layer *layer);

typedef struct {
    const trnn_kernels *isa;
    const trnn_layer *layer; /* recurrent, in any format, with both tables (TRNN_TRAINED) */
    const void *weights;     /* as in the run, aligned to 64 */
    int32_t direction;       /* 0, or 1 for the reverse one */
    int32_t steps, batch;
    const float *x;      /* (steps, B, in frame): what the layer read */
    const float *y;      /* (steps, B, out frame): what it wrote */
    float *state;        /* rows of the layer's state before the run; the direction's states beside `h` */
    size_t state_stride; /* become those after it. Floats from one row to the next */
    float *gates;  /* (named gates + 1, steps, B, H): their activations, then `h` before its projection */
    void *scratch; /* trnn_gates_bytes, aligned to 64 */
} trnn_gates_job;

size_t trnn_gates_bytes(const trnn_layer *layer, int32_t batch);

/* Walks the steps again with the cell's own formula. */
void trnn_gates(const trnn_gates_job *job);

/* ---- training: the tape, and gradients through time ------------------------------------------
 *
 *     trnn_training_bytes / trnn_training_init     lay a net out for training: every size is known
 *     trnn_forward                                 run it, and keep on the tape what the next two read
 *     trnn_backward                                from the gradient of y to those of all layers' outputs
 *     trnn_gradients                               from these to the gradients of the weights
 *
 * trnn_forward copies x to the tape and writes y there. The caller writes dy to the tape before trnn_backward.
 *
 * Threads can share the work in `parts`. In the forward and the backward pass each part takes its rows of the
 * batch; in trnn_gradients each takes its share of the weights. No two parts add to the same number, so the
 * bits do not depend on the parts. All parts must have returned from one call before any begins the next: the
 * forward pass of stages 0 .. stages - 1, the backward pass of the stages in descending order, then the
 * gradients. There is one stage, unless a layer mixes the rows of a batch. */

typedef struct trnn_training trnn_training; /* plain memory, like a plan */

typedef struct {
    int32_t inputs, outputs;
    trnn_value in[TRNN_PORTS_MAX], out[TRNN_PORTS_MAX];
    int32_t batch;                                /* exact */
    int32_t steps[TRNN_AXES_MAX];                 /* of each axis of time: the largest number */
    size_t state_bytes;                           /* as in trnn_sizes */
    size_t tape_bytes;                            /* the tape of one pass */
    size_t scratch_bytes;                         /* working memory of one part */
    size_t x[TRNN_PORTS_MAX], dx[TRNN_PORTS_MAX]; /* bytes into the tape, each as its input */
    size_t y[TRNN_PORTS_MAX], dy[TRNN_PORTS_MAX]; /* each as its output */
    int32_t out_steps[TRNN_PORTS_MAX];            /* of each output: the largest number */
    size_t
        lengths[TRNN_PORTS_MAX]; /* of one of another rate, (B,) int32: bytes into the tape; else SIZE_MAX */
    int32_t stages;              /* calls of trnn_forward, and of trnn_backward, that make a pass */
    uint32_t indices;            /* bit i: the i-th input is int32 indices, and has no dx */
} trnn_training_sizes;

/* Bytes of a net's training. 0: none; SIZE_MAX: more than can be addressed. */
size_t trnn_training_bytes(const trnn_net *net);

/* As trnn_plan_init. Every layer must be float32 and have its `training` set. */
trnn_status trnn_training_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                               trnn_training_sizes *sizes);

/* As trnn_plan_adjust. */
void trnn_training_adjust(trnn_training *training, int32_t i, const trnn_layer *layer);

typedef struct {
    const trnn_kernels *isa;
    /* One per layer, as in trnn_job. The forward pass moves the running statistics of batch_norm. */
    void *const *weights;
    /* One per layer, laid out as its weights, aligned to 64: gradients are added to it. NULL: frozen. */
    float *const *grads;
    float *state;  /* state_bytes, aligned to 64: the initial state, then the final one */
    float *dstate; /* state_bytes: the gradient of the final state, then that of the initial one */
    void *tape;    /* tape_bytes, aligned to 64, zeros at first */
    void *scratch; /* scratch_bytes, aligned to 64: one for each part */
    const void *x[TRNN_PORTS_MAX]; /* float32 frames or int32 indices; trnn_forward copies them to the tape */
    size_t x_step[TRNN_PORTS_MAX]; /* frames from a step to the next in x */
    size_t x_row[TRNN_PORTS_MAX];  /* frames from a row of the batch to the next in x */
    int32_t steps[TRNN_AXES_MAX];
    const int32_t
        *lengths[TRNN_AXES_MAX]; /* NULL, or (B,) with 1 <= lengths[b] <= steps; x counts as 0 beyond
                                            * them */
    int32_t ends;                /* as in trnn_job */
    int32_t to_input;    /* 1: backward pass to x and the initial state; 0: to the lowest layer with grads */
    int32_t hidden;      /* 1: the backward pass keeps the gradient of each h: trnn_training_hidden */
    uint32_t seed[2];    /* of dropout: another one for each pass */
    int32_t part, parts; /* part is 0 .. parts - 1 */
} trnn_training_job;

/* Checks all of a job, and counts the steps of axes of other rates on the tape. Call it before trnn_forward. */
trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job);

/* As trnn_plan_steps. */
int32_t trnn_training_steps(const trnn_training *training, const trnn_training_job *job, int32_t output,
                            int32_t *lengths);

/* Expect a job that passed. */
void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage);
void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage);
void trnn_gradients(const trnn_training *training, const trnn_training_job *job);

/* After a backward pass with `hidden`, the gradient of the loss with respect to each hidden state of the recurrent layer
 * `i`, on the tape: (steps, batch, directions * size). It counts y of the step and all later steps of the direction; it is
 * zero behind a row's end. */
const float *trnn_training_hidden(const trnn_training *training, const trnn_training_job *job, int32_t i,
                                  int32_t *steps);

/* For an initial state that all rows share and that trains: adds the rows of its gradient to `sum`, ascending.
 * sum (count,); row b begins at rows + b * stride, in floats, as in `dstate`. They must not overlap. */
void trnn_rows_add(float *sum, const float *rows, size_t stride, int32_t batch, int32_t count);

/* ---- training: losses ------------------------------------------------------------------------- */

/* A loss is a const table of functions: &trnn_loss_mse, and so on for each name in losses.def. */
typedef struct trnn_loss_type trnn_loss_type;

#define TRNN_LOSS(name) extern const trnn_loss_type trnn_loss_##name;
#include "loss/losses.def"
#undef TRNN_LOSS

/* The loss of a batch is the mean of the values, or their sum. */
typedef enum { TRNN_MEAN, TRNN_SUM } trnn_reduction;

/* A loss, with the arguments of its torch.nn namesake. Flags are 0 or 1. A type ignores the arguments of others. */
typedef struct {
    const trnn_loss_type *type;
    trnn_reduction reduction;
    float delta;           /* huber: > 0 */
    float label_smoothing; /* cross_entropy: 0 .. 1 */
    int32_t ignore_index;  /* cross_entropy: a target that does not count */
    int32_t blank;         /* ctc: a class */
    int32_t zero_infinity; /* ctc: 1: a target too long for its input has loss 0, not infinity */
    int32_t classes; /* numbers of weight and of pos_weight: the last axis of y, or for bce_with_logits 1 */
    const float *weight;     /* cross_entropy, bce_with_logits: (classes,), or NULL for ones */
    const float *pos_weight; /* bce_with_logits: (classes,), or NULL for ones */
} trnn_loss;

const char *trnn_loss_name(const trnn_loss_type *type); /* "cross_entropy", as in losses.def */

/* All losses, for a program that learns only at run time which one it needs. A call links every one. */
int32_t trnn_loss_count(void);
const trnn_loss_type *trnn_loss_at(int32_t i); /* 0 <= i < trnn_loss_count() */

const trnn_argument *trnn_loss_arguments(void); /* all but type, reduction and classes */

/* Checks a loss's arguments. The functions below expect a loss that passed. */
trnn_status trnn_loss_check(const trnn_loss *loss);

/* Bytes of working memory for frames of so many numbers; target_steps as in the job. SIZE_MAX: too many. */
size_t trnn_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                               int32_t target_steps);

/* The output of a net, and its target:
 *
 *   mse, l1, huber, bce_with_logits   float32, as y
 *   cross_entropy                     int32 classes, as y without its last axis; with `probabilities` as y
 *   ctc                               int32 classes, (B, target_steps), and target_lengths of each row;
 *                                     y is log-probabilities, and its frame has one row
 */
typedef struct {
    const trnn_kernels *isa;
    const float *y;     /* (steps, B, frame); classes are the columns of a frame */
    const void *target; /* may change during the run: a class that has gone out of range does not count */
    float *dy;          /* as y: written, not added to; overlaps nothing else. NULL: not needed */
    float *values;      /* the loss of each number, each target (cross_entropy) or each row (ctc); or NULL */
    int32_t rows, cols; /* a frame of y: rows of its last axis */
    int32_t steps, batch;
    const int32_t *lengths; /* NULL, or (B,) with 1 <= lengths[b] <= steps: beyond, y is not read, dy is 0 */
    int32_t last;           /* 1: the target has no axis of steps; it belongs to each row's last step */
    int32_t probabilities;  /* cross_entropy: 1: targets are distributions */
    int32_t y_rows_first;   /* 1: y, dy and values are (B, steps, ...) */
    int32_t target_rows_first;     /* 1: the target is (B, steps, ...) */
    int32_t target_steps;          /* ctc */
    const int32_t *target_lengths; /* ctc: (B,), 0 <= target_lengths[b] <= target_steps */
    void *scratch;                 /* trnn_loss_scratch_bytes, aligned to 64; contents do not matter */
    /* NULL, or (steps, B), with target_rows_first (B, steps): 0 where a step does not count: y and target are not
     * read, dy is 0. With `last` each row's last step that counts. Not for ctc. */
    const uint8_t *mask;
} trnn_loss_job;

/* Computes the loss and its gradient. A mean divides by the number of numbers that count, or by the sum of
 * their targets' weights; it is NaN where nothing counts. Sums are in double, in the order of y. On an error nothing
 * has been written. */
trnn_status trnn_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value);

/* ---- training: optimisers --------------------------------------------------------------------- */

/* An optimiser is a const table: &trnn_adam, and so on for each line of optimisers.def. */
typedef struct trnn_optimiser trnn_optimiser;

#define TRNN_OPTIMISER(name, ...) extern const trnn_optimiser trnn_##name;
#include "optim/optimisers.def"
#undef TRNN_OPTIMISER

#define TRNN_STATES_MAX 3

const char *trnn_optimiser_name(const trnn_optimiser *optimiser); /* "adam" */

/* The name of its i-th state, 0 <= i < TRNN_STATES_MAX: "exp_avg"; "": it has none. */
const char *trnn_optimiser_state(const trnn_optimiser *optimiser, int32_t i);

/* All optimisers, for a program that learns only at run time which one it needs. A call links every one. */
int32_t trnn_optimiser_count(void);
const trnn_optimiser *trnn_optimiser_at(int32_t i); /* 0 <= i < trnn_optimiser_count() */

/* Hyperparameters, as torch.optim names them. Flags are 0 or 1. An optimiser ignores those of others. */
typedef struct {
    const trnn_optimiser *optimiser;
    int32_t maximize;
    int32_t nesterov;           /* sgd */
    int32_t centered;           /* rmsprop */
    int32_t amsgrad, decoupled; /* adam; decoupled: weight decay that bypasses the moments, as in AdamW */
    double lr, weight_decay, l1;
    double momentum;     /* sgd, rmsprop */
    double dampening;    /* sgd */
    double alpha;        /* rmsprop */
    double beta1, beta2; /* adam: in [0, 1) */
    double lr_decay;     /* adagrad */
    double eps;          /* all but sgd; raised to the smallest normal float, so that a step is 0 where all
                          * gradients were 0, as in the padding of a panel */
} trnn_rule;

const trnn_argument *trnn_rule_arguments(void); /* all but the optimiser */

int trnn_rule_uses(const trnn_rule *rule, int32_t i); /* 1: a step needs the i-th state */

/* One tensor's numbers in packed weights, padding included, with its gradients and states. */
typedef struct {
    const trnn_rule *rule;
    float *weights, *gradients; /* (numbers,) each; without gradients (NULL) at this step, weights, state and
                                    * steps stay as they are */
    float *state[TRNN_STATES_MAX]; /* (numbers,), zeros at first; NULL where the rule does not use it */
    size_t numbers;
    int64_t steps; /* steps so far in which the rule used a state */
} trnn_tensor;

/* A step of an optimiser over `count` tensors:
 *
 *     trnn_tensors_measure            sums of squares of the gradients
 *     trnn_tensors_norm               the norm of all gradients, and a tensor whose gradient is not finite
 *     trnn_tensors_update             the step, with clipping
 *     trnn_tensors_count              count the step
 *
 * Tensors are processed in chunks. A call does the share of `part` among `parts`, so that threads can share a
 * step; 0 and 1 do all of it. The bits do not depend on the parts. A tensor's gradients may be NULL in one step
 * and present in another: `sums` then needs the room of trnn_tensors_chunks while all are present. */
size_t trnn_tensors_chunks(const trnn_tensor *tensors, int32_t count);
void trnn_tensors_measure(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, double *sums,
                          int32_t part, int32_t parts); /* sums: (chunks,) */

/* The square root of the sum of all squares, tensor by tensor in double: the same bits on every ISA.
 * `*bad` is the last tensor with a NaN or an infinity, in which the backward pass met it first; -1: none. */
double trnn_tensors_norm(const trnn_tensor *tensors, int32_t count, const double *sums, int32_t *bad);

/* The factor for gradients of this norm: max_norm / (norm + 1e-6), at most 1. */
float trnn_clip_scale(double norm, double max_norm);

#define TRNN_NO_LIMIT 3.4028234663852886e38f /* a limit that bounds no finite gradient */

/* Updates weights and states by the gradients, scaled by `scale`, then clipped to +-limit. The gradients
 * themselves stay as they are. */
void trnn_tensors_update(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                         float limit, int32_t part, int32_t parts);
void trnn_tensors_count(trnn_tensor *tensors, int32_t count);

/* Scale and clip the gradients in place; set them to zero. */
void trnn_tensors_clip(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                       float limit, int32_t part, int32_t parts);
void trnn_tensors_clear(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts);

#ifdef __cplusplus
}
#endif

#endif
