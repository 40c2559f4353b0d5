/* Arithmetic of two values, number by number: add, subtract, multiply, divide, minimum, maximum. As in NumPy, an axis of
 * one of the frames may be 1, and a value may be per sequence; its numbers then count again and again. The rules at the
 * edges are PyTorch's: a NaN wins, and the gradient of equal numbers goes to both halves in minimum and maximum. */
#include "several.h"

typedef enum { ADD, SUBTRACT, MULTIPLY, DIVIDE, MINIMUM, MAXIMUM } operation;

static operation operation_of(const trnn_layer *layer) { return *(const operation *)layer->type->family; }

static trnn_status arithmetic_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

/* The size of an axis of the result; 0: the sizes do not fit. */
static int32_t joined(int32_t a, int32_t b) { return a == b || b == 1 ? a : a == 1 ? b : 0; }

static trnn_status arithmetic_join(const trnn_layer *layer, const trnn_frame *in, int32_t count,
                                   trnn_frame *out)
{
    (void)layer;
    if (count != 2) return TRNN_E_GRAPH;
    *out = (trnn_frame){joined(in[0].planes, in[1].planes), joined(in[0].rows, in[1].rows),
                        joined(in[0].cols, in[1].cols)};
    return out->planes && out->rows && out->cols ? TRNN_OK : TRNN_E_SHAPE;
}

/* How far apart the numbers of a frame lie along each axis of the result: 0 where the frame has one. */
typedef struct {
    size_t plane, row, col;
} strides;

static strides strides_of(trnn_frame in)
{
    return (strides){
        .plane = in.planes == 1 ? 0 : trnn_frame_size((trnn_frame){1, in.rows, in.cols}),
        .row = in.rows == 1 ? 0 : (size_t)in.cols,
        .col = in.cols == 1 ? 0 : 1,
    };
}

TRNN_INLINE float result(operation op, float a, float b)
{
    switch (op) {
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    case MINIMUM: return a < b || a != a ? a : b;
    case MAXIMUM: return a > b || a != a ? a : b;
    }
    return 0.0f;
}

/* The factors of dy in da and in db. */
TRNN_INLINE float slope_a(operation op, float a, float b)
{
    switch (op) {
    case ADD:
    case SUBTRACT: return 1.0f;
    case MULTIPLY: return b;
    case DIVIDE: return 1.0f / b;
    case MINIMUM: return a < b ? 1.0f : a == b ? 0.5f : 0.0f;
    case MAXIMUM: return a > b ? 1.0f : a == b ? 0.5f : 0.0f;
    }
    return 0.0f;
}

TRNN_INLINE float slope_b(operation op, float a, float b)
{
    switch (op) {
    case ADD: return 1.0f;
    case SUBTRACT: return -1.0f;
    case MULTIPLY: return a;
    case DIVIDE: return -(a / b / b);
    case MINIMUM:
    case MAXIMUM: return slope_a(op, b, a);
    }
    return 0.0f;
}

/* `count` numbers; a and b are `a_stride` and `b_stride` apart. */
TRNN_INLINE void compute_row(operation op, size_t count, const float *a, size_t a_stride, const float *b,
                             size_t b_stride, float *restrict y)
{
    if (a_stride == 1 && b_stride == 1)
        for (size_t i = 0; i < count; i++) y[i] = result(op, a[i], b[i]);
    else
        for (size_t i = 0; i < count; i++) y[i] = result(op, a[i * a_stride], b[i * b_stride]);
}

/* Adds `count` terms to da, `to` apart. The other value's numbers are read, too. */
TRNN_INLINE void add_row(operation op, int of_b, size_t count, const float *a, size_t a_stride,
                         const float *b, size_t b_stride, const float *dy, float *d, size_t to)
{
    for (size_t i = 0; i < count; i++) {
        const float x = a[i * a_stride], z = b[i * b_stride];
        d[i * to] += dy[i] * (of_b ? slope_b(op, x, z) : slope_a(op, x, z));
    }
}

/* One switch for a row, and the loop of each operation by itself. */
#define EACH_OPERATION(op, call)          \
    switch (op) {                         \
    case ADD: call(ADD); break;           \
    case SUBTRACT: call(SUBTRACT); break; \
    case MULTIPLY: call(MULTIPLY); break; \
    case DIVIDE: call(DIVIDE); break;     \
    case MINIMUM: call(MINIMUM); break;   \
    case MAXIMUM: call(MAXIMUM); break;   \
    }

static void compute_numbers(operation op, size_t count, const float *a, size_t a_stride, const float *b,
                            size_t b_stride, float *y)
{
#define COMPUTE(op) compute_row(op, count, a, a_stride, b, b_stride, y)
    EACH_OPERATION(op, COMPUTE)
}

static void add_numbers(operation op, int of_b, size_t count, const float *a, size_t a_stride, const float *b,
                        size_t b_stride, const float *dy, float *d, size_t to)
{
#define ADD_TERMS(op) add_row(op, of_b, count, a, a_stride, b, b_stride, dy, d, to)
    EACH_OPERATION(op, ADD_TERMS)
}

/* Two values and the result, with the frames that a part works on. */
typedef struct {
    operation op;
    trnn_walk walk;
    trnn_frame in[2], out;
    int still[2];
    const float *x[2];
    const float *dy;
} two;

/* y, or with `d` the gradient of the which-th value, over the numbers of one frame. */
static void walk_frame(const two *me, const float *a, const float *b, float *y, const float *dy, float *d,
                       int which)
{
    const strides sa = strides_of(me->in[0]), sb = strides_of(me->in[1]), to = strides_of(me->in[which]);
    const size_t cols = (size_t)me->out.cols;
    size_t at = 0;
    for (size_t p = 0; p < (size_t)me->out.planes; p++)
        for (size_t r = 0; r < (size_t)me->out.rows; r++, at += cols) {
            const float *pa = a + p * sa.plane + r * sa.row, *pb = b + p * sb.plane + r * sb.row;
            if (y)
                compute_numbers(me->op, cols, pa, sa.col, pb, sb.col, y + at);
            else
                add_numbers(me->op, which, cols, pa, sa.col, pb, sb.col, dy + at,
                            d + p * to.plane + r * to.row, to.col);
        }
}

/* Values whose numbers lie side by side in frames of this size: no frame is read twice. */
static void compute_side_by_side(operation op, const trnn_walk *w, size_t numbers, const float *a,
                                 const float *b, float *y)
{
    const int all = w->rows == w->batch; /* no gap between the steps */
    for (int32_t t = w->from; t < w->to; t += all ? w->to - w->from : 1) {
        const size_t at = trnn_walk_at(w, t, w->first, 0) * numbers;
        const size_t count = (all ? (size_t)(w->to - w->from) : 1) * (size_t)w->rows * numbers;
        compute_numbers(op, count, a + at, 1, b + at, 1, y + at);
    }
}

static void compute(const two *me, float *y)
{
    const trnn_walk *w = &me->walk;
    const size_t numbers = trnn_frame_size(me->out), a = trnn_frame_size(me->in[0]),
                 b = trnn_frame_size(me->in[1]);
    for (int32_t t = w->from; t < w->to; t++) {
        for (int32_t row = w->first; row < w->first + w->rows; row++)
            walk_frame(me, me->x[0] + trnn_walk_at(w, t, row, me->still[0]) * a,
                       me->x[1] + trnn_walk_at(w, t, row, me->still[1]) * b,
                       y + trnn_walk_at(w, t, row, 0) * numbers, NULL, NULL, 0);
    }
}

/* d = the gradient of the which-th value: a sum over the places where its numbers count. */
static void go_back(const two *me, int which, float *d)
{
    const trnn_walk *w = &me->walk;
    const size_t size[2] = {trnn_frame_size(me->in[0]), trnn_frame_size(me->in[1])},
                 numbers = trnn_frame_size(me->out);
    if (!d) return;
    for (int32_t t = w->from; t < w->to; t++) {
        const size_t at = trnn_walk_at(w, t, w->first, me->still[which]) * size[which];
        if (t == w->from || !me->still[which])
            trnn_zero(d + at, (size_t)w->rows * size[which] * sizeof(float));
        for (int32_t row = w->first; row < w->first + w->rows; row++) {
            const float *a = me->x[0] + trnn_walk_at(w, t, row, me->still[0]) * size[0],
                        *b = me->x[1] + trnn_walk_at(w, t, row, me->still[1]) * size[1];
            walk_frame(me, a, b, NULL, me->dy + trnn_walk_at(w, t, row, 0) * numbers,
                       d + trnn_walk_at(w, t, row, me->still[which]) * size[which], which);
        }
    }
}

static void arithmetic_run(const trnn_call *call)
{
    const trnn_read *other = call->others;
    const operation op = operation_of(call->layer);
    const trnn_walk walk = trnn_walk_of_call(call);
    if (!call->still && !other->still && trnn_same_frame(call->in, other->in)) {
        compute_side_by_side(op, &walk, trnn_frame_size(call->out), call->x, other->x, call->y);
        return;
    }
    const two me = {
        .op = op,
        .walk = walk,
        .in = {call->in, other->in},
        .out = call->out,
        .still = {call->still, other->still},
        .x = {call->x, other->x},
    };
    compute(&me, call->y);
}

static two two_of(const trnn_pass *pass)
{
    return (two){
        .op = operation_of(pass->layer),
        .walk = trnn_walk_of_pass(pass),
        .in = {pass->in, pass->others[0].in},
        .out = pass->out,
        .still = {pass->still, pass->others[0].still},
        .x = {pass->x, pass->others[0].x},
        .dy = pass->dy,
    };
}

static void arithmetic_forward(const trnn_pass *pass)
{
    const two me = two_of(pass);
    if (!me.still[0] && !me.still[1] && trnn_same_frame(me.in[0], me.in[1]))
        compute_side_by_side(me.op, &me.walk, trnn_frame_size(me.out), me.x[0], me.x[1], pass->y);
    else
        compute(&me, pass->y);
}

static void arithmetic_backward(const trnn_pass *pass)
{
    const two me = two_of(pass);
    go_back(&me, 0, pass->dx);
    go_back(&me, 1, pass->others[0].dx);
}

#define ARITHMETIC(name_, op)                                            \
    static const operation name_##_operation = op;                       \
    const trnn_layer_type trnn_##name_ = {.name = #name_,                \
                                          .check = arithmetic_check,     \
                                          .join = arithmetic_join,       \
                                          .time = TRNN_TIME_MIX,         \
                                          .run = arithmetic_run,         \
                                          .family = &name_##_operation}; \
    const trnn_layer_training trnn_##name_##_training = {                \
        .forward = arithmetic_forward, .backward = arithmetic_backward, .sequences = 1}

ARITHMETIC(add, ADD);
ARITHMETIC(subtract, SUBTRACT);
ARITHMETIC(multiply, MULTIPLY);
ARITHMETIC(divide, DIVIDE);
ARITHMETIC(minimum, MINIMUM);
ARITHMETIC(maximum, MAXIMUM);
