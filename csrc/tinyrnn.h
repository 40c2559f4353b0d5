/* tinyrnn: recurrent networks in memory that the caller hands over.
 *
 * The core allocates nothing, locks nothing, prints nothing and keeps no global that changes.
 * Order of use:
 *
 *     trnn_layer net[] = {                                  describe the net
 *         {.type = &trnn_lstm, .as.recurrent = {.input_size = 40, .hidden_size = 128, .bias = 1}},
 *         {.type = &trnn_linear, .as.linear = {.in_features = 128, .out_features = 10, .bias = 1}},
 *     };
 *     trnn_layer_params / trnn_param_pack                   lay PyTorch's tensors out as weights
 *     trnn_plan_bytes / trnn_plan_init                      fix every size and offset
 *     trnn_run                                              run steps; state carries on
 *
 * docs/c-guide.md is the longer way in. A program links the layers that it names, and no others.
 *
 * Words: T steps, B batch, I input size, H hidden size, P projection size, D directions. A frame
 * is what a layer reads at one step: rows x cols numbers; (F,) is 1 x F, and a convolution reads
 * channels x length. All arrays are C-contiguous and, but for an embedding's int32 indices,
 * float32. Sequences are time-major: (T, B, frame).
 */
#ifndef TINYRNN_H
#define TINYRNN_H

#include <stddef.h>
#include <stdint.h>

#define TINYRNN_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors: what the user got wrong; a broken invariant of ours is an assert ------------- */

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

/* The instruction sets that this build holds and this machine can run, in rising order of preference:
 * the first `room` of them into `list`; returns how many there are. Asks the processor each time, which
 * is slow in a virtual machine (microseconds a question): ask once and keep the pointers. */
int32_t trnn_isa_list(const trnn_kernels **list, int32_t room);
const trnn_kernels *trnn_isa_find(const char *name); /* NULL if there is none of that name */
const trnn_kernels *trnn_isa_best(void);
const char *trnn_isa_name(const trnn_kernels *isa); /* "scalar", "avx2", "neon" ... */
int trnn_isa_fused(const trnn_kernels *isa);        /* 1: fused multiply-add; all such give the same bits */

/* ---- arguments by name ---------------------------------------------------------------------- */

/* What a binding to another language needs to read and write an argument of a layer, a loss or an optimiser. */

typedef enum {
    TRNN_INT32,
    TRNN_FLOAT,
    TRNN_DOUBLE,
    TRNN_FLOATS /* a const float *, to as many numbers as trnn_loss.classes says */
} trnn_argument_type;

typedef struct {
    const char *name; /* the member's in its struct; NULL ends a list */
    size_t offset; /* bytes, into the trnn_layer, trnn_loss or trnn_rule; of the end: where the struct ends */
    trnn_argument_type type;
    int32_t live; /* 1: may change in what has been laid out: see trnn_plan_adjust */
} trnn_argument;

/* ---- layers -------------------------------------------------------------------------------- */

typedef struct {
    int32_t rows, cols;
} trnn_frame;

/* What a layer does is a const table of functions, and what its training does another one, so that a program
 * that only runs nets links no training: &trnn_lstm and &trnn_lstm_training, and so on for each name in
 * layers.def. */
typedef struct trnn_layer_type trnn_layer_type;
typedef struct trnn_layer_training trnn_layer_training;

#define TRNN_LAYER(name, arguments)           \
    extern const trnn_layer_type trnn_##name; \
    extern const trnn_layer_training trnn_##name##_training;
#include "layers/layers.def"
#undef TRNN_LAYER

typedef enum { TRNN_PAD_ZEROS, TRNN_PAD_REFLECT } trnn_pad;

/* Arguments, as torch.nn names them. Flags are 0 or 1. */

typedef struct { /* RNN, LSTM, GRU: one level of a stack */
    int32_t input_size, hidden_size;
    int32_t proj_size; /* LSTM only; 0: none */
    int32_t bias, bidirectional;
    int32_t relu; /* RNN only: relu in place of tanh */
} trnn_recurrent_args;

typedef struct {
    int32_t in_features, out_features, bias;
} trnn_linear_args;

typedef struct { /* reads int32 indices; only as a net's first layer */
    int32_t num_embeddings, embedding_dim;
    int32_t padding; /* training: 1 + the index whose row gets no gradient; 0: none */
} trnn_embedding_args;

typedef struct {
    int32_t in_channels, out_channels, kernel_size, stride, dilation, groups, bias;
    int32_t pad_left, pad_right;
    int32_t padding_mode; /* a trnn_pad */
} trnn_conv1d_args;

typedef struct {
    int32_t size; /* LAYER_NORM: numbers that are normalised together; BATCH_NORM: channels */
    int32_t affine, bias;
    float eps;
    float momentum;            /* BATCH_NORM, training: how far a batch moves the running statistics */
    int32_t use_running_stats; /* BATCH_NORM, training: 1: as in use, by the running statistics, which stay */
} trnn_norm_args;

typedef struct {
    float slope; /* LEAKY_RELU */
} trnn_activation_args;

typedef struct {
    float p; /* DROPOUT: what part of the numbers training sets to zero */
} trnn_dropout_args;

typedef struct {
    int32_t over_rows; /* 1: over a frame's rows (channels); 0: over its columns */
} trnn_softmax_args;

/* How a layer keeps its matrices. Biases and everything that is no matrix stay float32.
 * Halves are widened exactly and computed with in float32. With integers a product also rounds what it
 * multiplies, row by row: to codes of -127 .. 127 of the row's largest magnitude / 127. */
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
        trnn_norm_args norm;
        trnn_activation_args activation;
        trnn_dropout_args dropout;
        trnn_softmax_args softmax;
    } as;
} trnn_layer;

/* Both tables of a layer that is to be trained: {TRNN_TRAINED(lstm), .as.recurrent = {...}}. */
#define TRNN_TRAINED(name) .type = &trnn_##name, .training = &trnn_##name##_training

const char *trnn_layer_name(const trnn_layer *layer); /* "lstm", as in layers.def */

/* All layers, for a program that learns only as it runs what its net is made of: a call of one of these
 * functions links every layer. Type and training are set, the rest is 0. */
int32_t trnn_layer_count(void);
trnn_layer trnn_layer_at(int32_t i);           /* 0 <= i < trnn_layer_count() */
trnn_layer trnn_layer_named(const char *name); /* its type is NULL if there is none of that name */

const trnn_argument *trnn_layer_arguments(const trnn_layer *layer); /* all, in the order of their struct */

/* Checks a layer's arguments alone. Every other function wants a layer that passed. */
trnn_status trnn_layer_check(const trnn_layer *layer);

/* ---- parameters and weights ---------------------------------------------------------------- */

#define TRNN_PARAMS_MAX 12

/* One named tensor of a layer and where it goes in the layer's weights. The caller uses name,
 * rank and shape; the rest is for trnn_param_pack. */
typedef struct {
    const char *name; /* PyTorch's, without the level: "weight_ih", "weight_hh_reverse", "bias" */
    int32_t rank;
    int32_t shape[3];
    trnn_format format;
    size_t offset;                      /* in bytes, into the layer's weights */
    int32_t repeat, gates, units, cols; /* panels: `repeat` matrices of (gates * units, cols) */
} trnn_param;

/* Fills `params` with the layer's tensors, in PyTorch's order; returns how many. */
int32_t trnn_layer_params(const trnn_layer *layer, trnn_param params[TRNN_PARAMS_MAX]);

/* Bytes of one layer's weights (aligned to 64). 0 means none, SIZE_MAX more than can be addressed. */
size_t trnn_layer_weights_bytes(const trnn_layer *layer);

/* Lay one tensor out as weights, and back. Lossless. With rows = shape[0] and cols the rest,
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

/* The same for `count` floats of an F32 tensor, from the `first` one of its C-contiguous numbers on: a large
 * tensor can be made chunk by chunk. */
void trnn_param_pack_chunk(const trnn_param *param, void *weights, const float *numbers, size_t first,
                           size_t count);

/* Bytes that the tensor takes from `offset` on, padding included. */
size_t trnn_param_bytes(const trnn_param *param);

/* ---- plans: a net laid out for a largest batch and a largest number of steps ---------------- */

typedef struct trnn_plan
    trnn_plan; /* plain memory: it can be copied, and points to nothing but const tables */

typedef struct {
    trnn_frame in, out;    /* frames that the net reads and writes */
    int32_t batch, steps;  /* batch is exact; steps is the block that scratch has room for */
    size_t state_bytes;    /* what a stream remembers */
    size_t scratch_bytes;  /* working memory of one call; any stream may use it in turn */
    size_t part_bytes;     /* more of it for a job with a stride */
    int32_t full_sequence; /* 1: a layer reads the future, so a call takes at most `steps` steps */
    int32_t indices;       /* 1: the input is int32 indices */
} trnn_sizes;

/* Bytes of a plan of so many layers; 0 for none, SIZE_MAX for more than can be addressed. */
size_t trnn_plan_bytes(int32_t layers);

/* Lays `count` layers out in `memory` (trnn_plan_bytes(count) bytes, aligned to 8). Returns an
 * error and leaves `*sizes` alone when a layer cannot read what the one before it writes. */
trnn_status trnn_plan_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                           int32_t batch, int32_t steps, trnn_sizes *sizes);

/* The state is (B, state_bytes / B): each row's numbers lie together, so that plans of the same layers
 * and another batch can run some of the rows. A stateful layer's place in a row is, for each direction,
 * `h` (P or H) and for an LSTM `c` (H). Offset in floats; 0 numbers for a layer without state. */
void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers);

/* Takes over the arguments of the plan's i-th layer, of which no other than live ones (trnn_argument) may have
 * changed. The next run goes by them; one under way may. */
void trnn_plan_adjust(trnn_plan *plan, int32_t i, const trnn_layer *layer);

typedef struct {
    const trnn_kernels *isa;
    const void *const *weights; /* one per layer (NULL for a layer without), each aligned to 64; const */
    float *state;               /* state_bytes, aligned to 64; zeros to begin with; read and written */
    void *scratch;              /* scratch_bytes, aligned to 64; means nothing before or after */
    const void *x;              /* (steps, B, in frame) float32, or int32 indices; const */
    float *y;                   /* (steps, B, out frame); overlaps nothing else */
    int32_t steps;
    const int32_t *lengths; /* NULL, or (B,) with 1 <= lengths[b] <= steps: row b ends there; recurrent
                             * layers write zeros beyond and keep its state as of its last step */
    int32_t stride;         /* rows from one step to the next in x and y, when B is part of a larger batch:
                             * scratch then has part_bytes more. 0: B */
    int32_t descending;     /* 0 or 1: which end of the weights the first step begins at. Changes no bit;
                             * a stream that alternates it from step to step finds in the cache what it
                             * read last, where the weights are larger than the cache. */
    int (*poll)(void *context); /* NULL, or asked after each block of the plan's steps: 0 to go on */
    void *context;              /* of poll */
} trnn_job;

/* Runs `steps` steps of the plan's batch. On an error nothing has been written; but after E_INTERRUPTED, which
 * poll asked for, y and the state are those of a block on the way. Nobody writes to lengths meanwhile; x may
 * change: an index that was in range and no longer is reads as a row of zeros. */
trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job);

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
 *     trnn_forward                                 run it, and keep on the tape what comes now:
 *     trnn_backward                                from the gradient of y to that of everything on the way
 *     trnn_gradients                               and from there to those of the weights
 *
 * The net reads the tape's x and writes its y; the caller writes dy there before it goes backward.
 *
 * Threads: the work can be shared in `parts`. Each part takes its rows of the batch forwards and backwards,
 * and its share of the weights in trnn_gradients; no number is summed by two of them, so the bits do not
 * depend on it. All parts must have ended one call before any begins the next: forwards through the stages
 * 0 .. stages - 1, backwards through them in falling order (there is one, unless a layer mixes the rows of a
 * batch), then the gradients. */

typedef struct trnn_training trnn_training; /* plain memory, as a plan is */

typedef struct {
    trnn_frame in, out;   /* frames that the net reads and writes */
    int32_t batch, steps; /* batch is exact, steps the most */
    size_t state_bytes;   /* as trnn_sizes has it */
    size_t tape_bytes;    /* what one pass keeps */
    size_t scratch_bytes; /* working memory of one part */
    size_t x, y, dy, dx;  /* bytes into the tape: (steps, B, in) and (steps, B, out) */
    int32_t stages;       /* calls of trnn_forward, of trnn_backward */
    int32_t indices;      /* 1: x is int32 indices, and has no dx */
} trnn_training_sizes;

/* Bytes of a training of so many layers; 0 for none, SIZE_MAX for more than can be addressed. */
size_t trnn_training_bytes(int32_t layers);

/* As trnn_plan_init, aligned to 8. Only float32 layers train, and those whose `training` is set. */
trnn_status trnn_training_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                               int32_t batch, int32_t steps, trnn_training_sizes *sizes);

/* As trnn_plan_adjust. */
void trnn_training_adjust(trnn_training *training, int32_t i, const trnn_layer *layer);

typedef struct {
    const trnn_kernels *isa;
    void *const
        *weights; /* one per layer, as trnn_job has them; forward moves a BatchNorm's running statistics */
    float *const
        *grads;    /* one per layer, each laid out as its weights, aligned to 64: added to. NULL: frozen */
    float *state;  /* state_bytes, aligned to 64: the initial state, then the final one */
    float *dstate; /* state_bytes: the gradients of the final state, then those of the initial one */
    void *tape;    /* tape_bytes, aligned to 64, zeros to begin with */
    void *scratch; /* scratch_bytes, aligned to 64: this part's own */
    const void *x; /* float32 frames or int32 indices, copied to the tape; frames of */
    size_t x_step, x_row; /* a row follow each other x_step frames apart, those of a step x_row */
    int32_t steps;
    const int32_t
        *lengths;        /* NULL, or (B,) with 1 <= lengths[b] <= steps: what x holds beyond is taken as 0 */
    int32_t to_input;    /* 1: backwards to x and the initial state; 0: as far as there are grads */
    uint32_t seed[2];    /* of Dropout: another one for each pass */
    int32_t part, parts; /* 0 .. parts - 1 */
} trnn_training_job;

/* Everything that can be wrong with a job, looked at before anything is written. */
trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job);

/* Want a job that passed. */
void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage);
void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage);
void trnn_gradients(const trnn_training *training, const trnn_training_job *job);

/* ---- training: losses ------------------------------------------------------------------------- */

/* What a loss computes is a const table of functions: &trnn_loss_mse, and so on for each name in losses.def. */
typedef struct trnn_loss_type trnn_loss_type;

#define TRNN_LOSS(name) extern const trnn_loss_type trnn_loss_##name;
#include "loss/losses.def"
#undef TRNN_LOSS

/* How values become one: their mean, or their sum. */
typedef enum { TRNN_MEAN, TRNN_SUM } trnn_reduction;

/* A loss, with the arguments that torch.nn's has. Flags are 0 or 1. What a type does not know is idle. */
typedef struct {
    const trnn_loss_type *type;
    trnn_reduction reduction;
    float delta;             /* HUBER: > 0 */
    float label_smoothing;   /* CROSS_ENTROPY: 0 .. 1 */
    int32_t ignore_index;    /* CROSS_ENTROPY: a target that does not count */
    int32_t blank;           /* CTC: a class */
    int32_t zero_infinity;   /* CTC: 1: a target too long for its input has loss 0, not infinity */
    int32_t classes;         /* numbers of weight and of pos_weight: as many as the last axis of y has */
    const float *weight;     /* CROSS_ENTROPY, BCE_WITH_LOGITS: (classes,), or NULL for ones */
    const float *pos_weight; /* BCE_WITH_LOGITS: (classes,), or NULL for ones */
} trnn_loss;

const char *trnn_loss_name(const trnn_loss_type *type); /* "cross_entropy", as in losses.def */

/* All losses, for a program that learns only as it runs which one it wants: a call links every one. */
int32_t trnn_loss_count(void);
const trnn_loss_type *trnn_loss_at(int32_t i); /* 0 <= i < trnn_loss_count() */

const trnn_argument *trnn_loss_arguments(void); /* all but kind, reduction and classes */

/* Checks a loss's arguments alone. The functions below want a loss that passed. */
trnn_status trnn_loss_check(const trnn_loss *loss);

/* Bytes of working memory for so many numbers a frame; target_steps as in the job. SIZE_MAX: too many. */
size_t trnn_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                               int32_t target_steps);

/* What a net wrote, and what it should have written. A target is
 *
 *   MSE, L1, HUBER, BCE_WITH_LOGITS   float32, as y
 *   CROSS_ENTROPY                     int32 classes, as y without its last axis; or with `probabilities` as y
 *   CTC                               int32 classes, (B, target_steps), and target_lengths of each row;
 *                                     y is log-probabilities, and its frame has one row
 */
typedef struct {
    const trnn_kernels *isa;
    const float *y;     /* (steps, B, frame); classes are the frame's columns */
    const void *target; /* const; may change meanwhile: a class that no longer is one does not count */
    float *dy;          /* as y: written, not added to; overlaps nothing else. NULL: not wanted */
    float *values;      /* each number's, each target's (CROSS_ENTROPY) or each row's (CTC) own loss; NULL */
    trnn_frame frame;
    int32_t steps, batch;
    const int32_t *lengths; /* NULL, or (B,) with 1 <= lengths[b] <= steps: nothing is read beyond, dy is 0 */
    int32_t last;           /* 1: the target has no axis of steps, and is each row's last step's */
    int32_t probabilities;  /* CROSS_ENTROPY */
    int32_t y_rows_first;   /* 1: y, dy and values are (B, steps, ...) */
    int32_t target_rows_first;
    int32_t target_steps;          /* CTC */
    const int32_t *target_lengths; /* CTC: (B,), 0 <= target_lengths[b] <= target_steps */
    void *scratch;                 /* trnn_loss_scratch_bytes, aligned to 64; means nothing before or after */
} trnn_loss_job;

/* The loss and its gradient. A mean is over what counts: the numbers, or the weights of the targets, within
 * the lengths; NaN where nothing does. Sums are in double, in the order of y. On an error nothing has been
 * written. */
trnn_status trnn_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value);

/* ---- training: optimisers --------------------------------------------------------------------- */

/* An optimiser is a const table: &trnn_adam, and so on for each file in optimisers.def. */
typedef struct trnn_optimiser trnn_optimiser;

#define TRNN_OPTIMISER(name, ...) extern const trnn_optimiser trnn_##name;
#include "optim/optimisers.def"
#undef TRNN_OPTIMISER

#define TRNN_STATES_MAX 3

const char *trnn_optimiser_name(const trnn_optimiser *optimiser); /* "adam" */
/* What it calls its i-th state, 0 <= i < TRNN_STATES_MAX: "exp_avg"; "" for none. */
const char *trnn_optimiser_state(const trnn_optimiser *optimiser, int32_t i);

/* All optimisers, for a program that learns only as it runs which one it wants: a call links every one. */
int32_t trnn_optimiser_count(void);
const trnn_optimiser *trnn_optimiser_at(int32_t i); /* 0 <= i < trnn_optimiser_count() */

/* Hyperparameters, as torch.optim names them. Flags are 0 or 1. What an optimiser does not know is idle. */
typedef struct {
    const trnn_optimiser *optimiser;
    int32_t maximize;
    int32_t nesterov;           /* SGD */
    int32_t centered;           /* RMSPROP */
    int32_t amsgrad, decoupled; /* ADAM; decoupled: weight decay past the moments, AdamW */
    double lr, weight_decay, l1;
    double momentum;     /* SGD, RMSPROP */
    double dampening;    /* SGD */
    double alpha;        /* RMSPROP */
    double beta1, beta2; /* ADAM: in [0, 1) */
    double lr_decay;     /* ADAGRAD */
    double eps;          /* all but SGD. What is added is never below the smallest normal float, so that 0 / 0
                          * is 0, where a number and the lanes that pad a panel have seen no gradient */
} trnn_rule;

const trnn_argument *trnn_rule_arguments(void); /* all but the optimiser */

int trnn_rule_uses(const trnn_rule *rule, int32_t i); /* 1: a step needs the i-th state */

/* One tensor's numbers in packed weights, padding included, and all that goes with them. */
typedef struct {
    const trnn_rule *rule;
    float *weights, *gradients;    /* (numbers,) each; gradients NULL for a tensor that has none at this step:
                                    * weights, state and steps stay as they are */
    float *state[TRNN_STATES_MAX]; /* (numbers,), zeros to begin with; NULL where the rule uses none */
    size_t numbers;
    int64_t steps; /* done so far, of those that needed a state: SGD's first one with momentum is its first */
} trnn_tensor;

/* A step of an optimiser over `count` tensors:
 *
 *     trnn_tensors_measure            sums of squares, for the norm and to find what is not finite
 *     trnn_tensors_norm               the norm of all gradients, and the tensor that is not finite
 *     trnn_tensors_update             the step itself, with clipping
 *     trnn_tensors_count              the step is done
 *
 * Tensors are worked through in chunks. A call with `part` and `parts` does its share of them, so that threads
 * can share a step: 0 and 1 for all of it. The bits do not depend on it. Gradients may become NULL and be
 * there again from step to step; the room of `sums` is what trnn_tensors_chunks tells while all are there. */
size_t trnn_tensors_chunks(const trnn_tensor *tensors, int32_t count);
void trnn_tensors_measure(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, double *sums,
                          int32_t part, int32_t parts); /* sums: (chunks,) */

/* The square root of the sum of all squares, tensor by tensor in double: the same bits on every ISA.
 * `*bad` is the last tensor with a NaN or an infinity, where a gradient that went wrong on its way back came
 * from; -1 for none. */
double trnn_tensors_norm(const trnn_tensor *tensors, int32_t count, const double *sums, int32_t *bad);

/* What gradients of this norm are multiplied by: max_norm / (norm + 1e-6), at most 1. */
float trnn_clip_scale(double norm, double max_norm);

#define TRNN_NO_LIMIT 3.4028234663852886e38f /* the largest float bounds no finite gradient */

/* Steps with gradients scaled by `scale`, then kept within +-limit. The gradients stay as they are. */
void trnn_tensors_update(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                         float limit, int32_t part, int32_t parts);
void trnn_tensors_count(trnn_tensor *tensors, int32_t count);

/* Gradients themselves: scaled and bounded in place, or cleared. */
void trnn_tensors_clip(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                       float limit, int32_t part, int32_t parts);
void trnn_tensors_clear(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts);

#ifdef __cplusplus
}
#endif

#endif
