/* What the C tests share: counted checks, exact pseudo-random floats, guarded memory, nets. */
#ifndef CHECK_H
#define CHECK_H

#include "../../csrc/tinyrnn.h"

/* ---- counting -------------------------------------------------------------------------------- */

/* Counts a check and prints it when it fails; returns `truth`. */
int check(int truth, const char *format, ...);

/* Ends the group before, printing its line, and begins one; NULL: only ends. */
void check_group(const char *name);

/* Prints "N passed, N failed"; the program's exit code. */
int check_result(void);

#define ISAS_MAX 16

/* The i-th instruction set to test, of all that this machine runs or of the one that --isa names. */
const trnn_kernels *isa_get(int32_t i); /* NULL past the last */
int isa_only(const char *name);         /* 0: there is none of that name */

/* ---- numbers --------------------------------------------------------------------------------- */

/* A 64-bit linear congruential generator: the same numbers on every machine. */
typedef struct {
    uint64_t state;
} dice;

dice dice_named(const char *name);
uint32_t dice_roll(dice *d);
float dice_float(dice *d, int exponent); /* 23 bits and a sign, times 2^(exponent - 23): exact */

int same_bits(const float *a, const float *b, size_t count);
uint64_t fingerprint(const float *numbers, size_t count); /* FNV-1a 64 of their bits */

/* ---- memory ---------------------------------------------------------------------------------- */

/* `bytes` between guards that memory_release checks. AddressSanitizer sees them as poison. */
typedef struct {
    char *block;
    float *at;
    size_t bytes;
} memory;

memory memory_take(size_t bytes);   /* aligned to 64, as weights, state and scratch have to be */
memory memory_bytes(size_t bytes);  /* aligned to 4 and no more */
memory memory_floats(size_t count); /* the same for `count` floats, as x and y may be */
void memory_release(memory *m);

/* ---- tensors --------------------------------------------------------------------------------- */

/* A tensor as trnn_param_pack takes it, in the param's format. */
typedef struct {
    trnn_format format;
    size_t rows, cols;
    memory numbers, scales; /* scales: of no bytes for floats */
} tensor;

tensor tensor_take(const trnn_param *param);                        /* of dirty memory */
tensor tensor_roll(const trnn_param *param, dice *d, int exponent); /* of about +-2^exponent */
float tensor_scale(const tensor *t, size_t row, size_t col);        /* of integers, */
int tensor_code(const tensor *t, size_t row, size_t col);           /* and what it multiplies */
float tensor_at(const tensor *t, size_t row, size_t col);           /* the number that it is */
void tensor_pack(const tensor *t, const trnn_param *param, void *weights);
void tensor_release(tensor *t);

/* ---- nets ------------------------------------------------------------------------------------ */

/* Layers as a table has them; the arguments are those of tinyrnn.h, in its order. */
/* clang-format off */
#define RECURRENT(name_, ...) {TRNN_TRAINED(name_), .as.recurrent = {__VA_ARGS__}}
#define LINEAR(in, out, b)   {TRNN_TRAINED(linear), .as.linear = {in, out, b}}
#define EMBEDDING(rows, dim) {TRNN_TRAINED(embedding), .as.embedding = {rows, dim}}
#define CONV1D(...)          {TRNN_TRAINED(conv1d), .as.conv1d = {__VA_ARGS__}}
#define CONV2D(...)          {TRNN_TRAINED(conv2d), .as.conv1d = {__VA_ARGS__}}
#define TRANSPOSED(...)      {TRNN_TRAINED(conv_transpose1d), .as.conv_transpose = {__VA_ARGS__}}
#define POOL(name_, ...)      {TRNN_TRAINED(name_), .as.pool = {__VA_ARGS__}}
#define ADAPTIVE(name_, ...)  {TRNN_TRAINED(name_), .as.adaptive = {__VA_ARGS__}}
#define NORM(name_, ...)      {TRNN_TRAINED(name_), .as.norm = {__VA_ARGS__, .eps = 1e-5f}}
#define LEAKY_RELU(s)        {TRNN_TRAINED(leaky_relu), .as.activation = {s}}
#define PRELU(n)             {TRNN_TRAINED(prelu), .as.prelu = {n}}
#define POW(p)               {TRNN_TRAINED(pow), .as.pow = {p}}
#define SOFTMAX(name_, rows)  {TRNN_TRAINED(name_), .as.softmax = {rows}}
#define PLAIN(name_)         {TRNN_TRAINED(name_)}
/* clang-format on */

const char *kind_name(const trnn_layer_type *kind);

#define LAYERS_MAX 24
#define NAME_ROOM  56

typedef struct {
    char name[NAME_ROOM];
    struct {
        int32_t rows, cols;
        int32_t planes; /* 0: 1 */
    } frame;
    int32_t count;
    trnn_layer layers[LAYERS_MAX];
} model;

trnn_net model_net(const model *m); /* a chain */

int model_get(int32_t i, model *m);   /* the i-th of models.c; 0 past the last */
int trained_get(int32_t i, model *m); /* the i-th of those that are trained */

typedef struct {
    memory at[LAYERS_MAX];
    const void *pointers[LAYERS_MAX];
} weights;

weights weights_roll(const model *m); /* seeded by the model's name */
void weights_release(weights *w);

/* A model laid out, with its state and its scratch; all of exactly the size that was asked for. */
typedef struct {
    const model *model;
    const weights *weights;
    trnn_sizes sizes;
    memory plan, state, scratch;
    size_t in, out;     /* numbers of a frame */
    size_t row_state;   /* numbers of state of one row: the row's length without what aligns it */
    int32_t descending; /* of its next call */
} net;

static inline size_t frame_size(trnn_frame frame)
{
    return (size_t)frame.planes * (size_t)frame.rows * (size_t)frame.cols;
}

const trnn_plan *net_plan(const net *n);

net net_open(const model *m, const weights *w, int32_t batch, int32_t steps);
void net_close(net *n);

/* A call of `steps` steps, of which the caller may change what it likes. */
trnn_job net_job(const net *n, const trnn_kernels *isa, const float *x, float *y, int32_t steps,
                 const int32_t *lengths);

/* trnn_run that has to succeed, from dirty scratch, and has to write the whole of y. */
void net_run(net *n, const trnn_kernels *isa, const float *x, float *y, int32_t steps,
             const int32_t *lengths);

/* Numbers that a net may read, `frames` of them: floats of +-2, or indices. */
memory net_input(const net *n, const char *seed, size_t frames);

/* Row b's numbers of the state, (row_state,), out of the net or into it. */
void net_get_row(const net *n, int32_t b, float *row);
void net_put_row(const net *n, int32_t b, const float *row);

/* What golden.inc has of training: a pass of a net, and a small net after some steps of Adam. */
memory train_pass(const model *m, const trnn_kernels *isa);
memory train_steps(const trnn_kernels *isa);

/* Unit j of the inner output by the double formula of a cell: of its gates' activations, its states, which become those
 * after the step, and h before it. */
typedef double gate_formula(const double *gates, double *states, double h);

/* The gates of a model of one recurrent layer, against a run of it; without a formula only its walk. */
void gates_of_model(const model *m, const trnn_kernels *isa, gate_formula *formula);

/* The groups, each in its own file. */
void test_bits(void);   /* test_bits.c */
void test_golden(void); /* test_golden.c */
int record_golden(const char *isa);
void test_kernels(void);   /* test_kernels.c */
void test_calls(void);     /* test_calls.c */
void test_loss(void);      /* test_loss.c */
void test_optim(void);     /* test_optim.c */
void test_train(void);     /* test_train.c */
void test_graph(void);     /* test_graph.c */
void test_gates(void);     /* test_gates.c */
void test_time(void);      /* test_time.c */
void test_attention(void); /* test_attention.c */
void test_rates(void);     /* test_rates.c */

#endif
