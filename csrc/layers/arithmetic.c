/* Operations on the numbers of two or three values: arithmetic, powers, comparisons, a choice. As in NumPy, an axis of a
 * frame may be 1, and a value may be per sequence; its numbers then count again and again. The rules at the edges are
 * PyTorch's: a NaN wins, and the gradient of equal numbers goes to both halves in minimum and maximum. */
#include "power.h"
#include "several.h"

enum { MOST = 3 }; /* values of an operation */

/* The numbers of the values that lie along a row of the result: so many floats apart; of two values the third is the
 * first. */
typedef struct {
    const float *x[MOST];
    size_t apart[MOST];
} row;

typedef struct {
    int32_t values;
    void (*compute)(size_t count, const row *from, float *restrict y);
    /* Adds the terms of the gradient of the which-th value to d, `to` floats apart. */
    void (*add)(int which, size_t count, const row *from, const float *dy, float *d, size_t to);
    /* Without these: y of the numbers, and the term in the gradient of the which-th; NULL: that is 0. */
    float (*of)(float a, float b, float c);
    float (*term)(int which, float a, float b, float c, float g);
} operation;

static const operation *operation_of(const trnn_layer *layer) { return layer->type->family; }

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
    if (count != operation_of(layer)->values) return TRNN_E_GRAPH;
    *out = in[0];
    for (int32_t i = 1; i < count; i++) {
        *out = (trnn_frame){joined(out->planes, in[i].planes), joined(out->rows, in[i].rows),
                            joined(out->cols, in[i].cols)};
        if (!out->planes || !out->rows || !out->cols) return TRNN_E_SHAPE;
    }
    return TRNN_OK;
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

/* Values, their result, and the frames that a part works on. */
typedef struct {
    const operation *op;
    trnn_walk walk;
    trnn_frame in[MOST], out;
    int still[MOST];
    const float *x[MOST];
    float *y;
    const float *dy;
    float *d[MOST]; /* NULL: not needed */
} combination;

TRNN_INLINE void take_value(combination *me, int32_t i, trnn_frame in, int still, const float *x)
{
    me->in[i] = in;
    me->still[i] = still;
    me->x[i] = x;
}

/* No number counts twice: the values lie side by side in equal frames. */
static int are_side_by_side(const combination *me)
{
    for (int i = 0; i < MOST; i++)
        if (me->still[i] || !trnn_same_frame(me->in[i], me->out)) return 0;
    return 1;
}

static void compute_row(const operation *op, size_t count, const row *from, float *y)
{
    const size_t *apart = from->apart;
    if (op->compute)
        op->compute(count, from, y);
    else
        for (size_t i = 0; i < count; i++)
            y[i] = op->of(from->x[0][i * apart[0]], from->x[1][i * apart[1]], from->x[2][i * apart[2]]);
}

static void add_row(const operation *op, int which, size_t count, const row *from, const float *dy, float *d,
                    size_t to)
{
    const size_t *apart = from->apart;
    if (op->add)
        op->add(which, count, from, dy, d, to);
    else
        for (size_t i = 0; i < count; i++)
            d[i * to] += op->term(which, from->x[0][i * apart[0]], from->x[1][i * apart[1]],
                                  from->x[2][i * apart[2]], dy[i]);
}

/* The numbers of y, or what they add to the gradient of a value: of the frame at step t of row b. */
typedef enum { OF_A, OF_B, OF_C, OF_Y } target;

TRNN_NOINLINE void walk_frame(const combination *me, int32_t t, int32_t b, target what)
{
    const int which = what == OF_Y ? 0 : (int)what;
    const size_t cols = (size_t)me->out.cols;
    strides apart[MOST];
    size_t first[MOST];
    for (int i = 0; i < MOST; i++) {
        apart[i] = strides_of(me->in[i]);
        first[i] = trnn_walk_at(&me->walk, t, b, me->still[i]) * trnn_frame_size(me->in[i]);
    }
    size_t at = trnn_walk_at(&me->walk, t, b, 0) * trnn_frame_size(me->out);
    for (size_t p = 0; p < (size_t)me->out.planes; p++)
        for (size_t r = 0; r < (size_t)me->out.rows; r++, at += cols) {
            row from;
            size_t place[MOST];
            for (int i = 0; i < MOST; i++) {
                place[i] = first[i] + p * apart[i].plane + r * apart[i].row;
                from.x[i] = me->x[i] + place[i];
                from.apart[i] = apart[i].col;
            }
            if (what == OF_Y)
                compute_row(me->op, cols, &from, me->y + at);
            else
                add_row(me->op, which, cols, &from, me->dy + at, me->d[which] + place[which],
                        apart[which].col);
        }
}

static void compute_side_by_side(const combination *me)
{
    const trnn_walk *w = &me->walk;
    const size_t numbers = trnn_frame_size(me->out);
    const int all = w->rows == w->batch; /* no gap between the steps */
    for (int32_t t = w->from; t < w->to; t += all ? w->to - w->from : 1) {
        const size_t at = trnn_walk_at(w, t, w->first, 0) * numbers;
        const size_t count = (all ? (size_t)(w->to - w->from) : 1) * (size_t)w->rows * numbers;
        const row from = {{me->x[0] + at, me->x[1] + at, me->x[2] + at}, {1, 1, 1}};
        compute_row(me->op, count, &from, me->y + at);
    }
}

static void compute(const combination *me)
{
    const trnn_walk *w = &me->walk;
    if (are_side_by_side(me)) {
        compute_side_by_side(me);
        return;
    }
    for (int32_t t = w->from; t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++) walk_frame(me, t, b, OF_Y);
}

/* The gradients of the values, where they are asked for: sums over the places where a number counts. */
static void go_back(const combination *me)
{
    const trnn_walk *w = &me->walk;
    for (int which = 0; which < me->op->values; which++) {
        const int still = me->still[which];
        const size_t size = trnn_frame_size(me->in[which]);
        float *const d = me->d[which];
        for (int32_t t = w->from; d && t < w->to; t++) {
            if (t == w->from || !still)
                trnn_zero(d + trnn_walk_at(w, t, w->first, still) * size,
                          (size_t)w->rows * size * sizeof(float));
            for (int32_t b = w->first; (me->op->add || me->op->term) && b < w->first + w->rows; b++)
                walk_frame(me, t, b, (target)which);
        }
    }
}

static void arithmetic_run(const trnn_call *call)
{
    combination me; /* set by member: an initialiser first clears all of it, in every step */
    me.op = operation_of(call->layer);
    me.walk = trnn_walk_of_call(call);
    me.out = call->out;
    me.y = call->y;
    for (int32_t i = 0; i < MOST; i++) take_value(&me, i, call->in, call->still, call->x);
    for (int32_t i = 0; i < call->count; i++)
        take_value(&me, i + 1, call->others[i].in, call->others[i].still, call->others[i].x);
    compute(&me);
}

static combination combination_of(const trnn_pass *pass)
{
    combination me = {.op = operation_of(pass->layer),
                      .walk = trnn_walk_of_pass(pass),
                      .out = pass->out,
                      .y = pass->y,
                      .dy = pass->dy};
    for (int32_t i = 0; i < MOST; i++) take_value(&me, i, pass->in, pass->still, pass->x);
    for (int32_t i = 0; i < pass->count; i++)
        take_value(&me, i + 1, pass->others[i].in, pass->others[i].still, pass->others[i].x);
    return me;
}

static void arithmetic_forward(const trnn_pass *pass)
{
    const combination me = combination_of(pass);
    compute(&me);
}

static void arithmetic_backward(const trnn_pass *pass)
{
    combination me = combination_of(pass);
    me.d[0] = pass->dx;
    for (int32_t i = 0; i < pass->count; i++) me.d[i + 1] = pass->others[i].dx;
    go_back(&me);
}

/* ---- the operations ------------------------------------------------------------------------------------ */

#define TABLES(name_)                                                    \
    const trnn_layer_type trnn_##name_ = {.name = #name_,                \
                                          .check = arithmetic_check,     \
                                          .join = arithmetic_join,       \
                                          .time = TRNN_TIME_MIX,         \
                                          .run = arithmetic_run,         \
                                          .family = &name_##_operation}; \
    const trnn_layer_training trnn_##name_##_training = {                \
        .forward = arithmetic_forward, .backward = arithmetic_backward, .sequences = 1}

/* y of the numbers a, b and c, and in the gradients of their values the terms from g, which is dy. */
#define FORMULAS(name_, y_, da_, db_, dc_)                                        \
    TRNN_INLINE float name_##_of(float a, float b, float c)                       \
    {                                                                             \
        (void)c;                                                                  \
        return y_;                                                                \
    }                                                                             \
    TRNN_INLINE float name_##_term(int which, float a, float b, float c, float g) \
    {                                                                             \
        (void)a, (void)b, (void)c;                                                \
        return which == 0 ? da_ : which == 1 ? db_ : dc_;                         \
    }

/* The operation `name` of `count` values, in a loop that all share. */
#define OPERATION(name_, count, y, da, db, dc)                                                            \
    FORMULAS(name_, y, da, db, dc)                                                                        \
    static const operation name_##_operation = {.values = count, .of = name_##_of, .term = name_##_term}; \
    TABLES(name_)

/* As OPERATION, of two values, with loops of its own forwards, or both ways: faster, and larger. */
#define FAST_FORWARDS(name_, y_, da_, db_)                              \
    FORMULAS(name_, y_, da_, db_, 0.0f)                                 \
    COMPUTE(name_)                                                      \
    static const operation name_##_operation = {                        \
        .values = 2, .compute = name_##_compute, .term = name_##_term}; \
    TABLES(name_)

#define FAST(name_, y_, da_, db_)                                                                           \
    FORMULAS(name_, y_, da_, db_, 0.0f)                                                                     \
    COMPUTE(name_)                                                                                          \
    static void name_##_add(int which, size_t count, const row *from, const float *dy, float *d, size_t to) \
    {                                                                                                       \
        const float *a = from->x[0], *b = from->x[1];                                                       \
        for (size_t i = 0; i < count; i++)                                                                  \
            d[i * to] += name_##_term(which, a[i * from->apart[0]], b[i * from->apart[1]], 0.0f, dy[i]);    \
    }                                                                                                       \
    static const operation name_##_operation = {                                                            \
        .values = 2, .compute = name_##_compute, .add = name_##_add};                                       \
    TABLES(name_)

#define COMPUTE(name_)                                                                            \
    static void name_##_compute(size_t count, const row *from, float *restrict y)                 \
    {                                                                                             \
        const float *a = from->x[0], *b = from->x[1];                                             \
        const size_t to_a = from->apart[0], to_b = from->apart[1];                                \
        if (to_a == 1 && to_b == 1)                                                               \
            for (size_t i = 0; i < count; i++) y[i] = name_##_of(a[i], b[i], 0.0f);               \
        else                                                                                      \
            for (size_t i = 0; i < count; i++) y[i] = name_##_of(a[i * to_a], b[i * to_b], 0.0f); \
    }

/* 1 or 0, without a gradient. */
#define COMPARISON(name_, y)                                                    \
    static float name_##_of(float a, float b, float c)                          \
    {                                                                           \
        (void)c;                                                                \
        return (y) ? 1.0f : 0.0f;                                               \
    }                                                                           \
    static const operation name_##_operation = {.values = 2, .of = name_##_of}; \
    TABLES(name_)

/* The factors of g in the gradients of a and b where the comparison says which one wins. */
#define SHARE(a, wins, b) ((a)wins(b) ? 1.0f : (a) == (b) ? 0.5f : 0.0f)

static float log_times(float y, float a) { return (float)((double)y * trnn_log_double((double)a)); }

/* clang-format off */
FAST(add, a + b, g, g);
FAST(subtract, a - b, g, -g);
FAST(multiply, a * b, g * b, g * a);
FAST_FORWARDS(divide, a / b, g * (1.0f / b), g * -(a / b / b));
FAST_FORWARDS(minimum, a < b || a != a ? a : b, g * SHARE(a, <, b), g * SHARE(b, <, a));
FAST_FORWARDS(maximum, a > b || a != a ? a : b, g * SHARE(a, >, b), g * SHARE(b, >, a));
OPERATION(raise, 2, trnn_power_of(a, b),
          b == 0.0f ? 0.0f : g * (b * trnn_power_of(a, b - 1.0f)),
          a == 0.0f && b >= 0.0f ? 0.0f : g * log_times(trnn_power_of(a, b), a), 0.0f);
OPERATION(where, 3, a != 0.0f ? b : c, 0.0f, a != 0.0f ? g : 0.0f, a != 0.0f ? 0.0f : g);
COMPARISON(eq, a == b);
COMPARISON(ne, a != b);
COMPARISON(lt, a < b);
COMPARISON(le, a <= b);
COMPARISON(gt, a > b);
COMPARISON(ge, a >= b);
/* clang-format on */

/* ---- a number as a value ------------------------------------------------------------------------------- */

const trnn_argument trnn_constant_arguments[] = {
    TRNN_LIVE_FLOAT_OF(constant, number),
    TRNN_END_OF(constant),
};

static trnn_status constant_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    (void)layer, (void)in;
    *out = (trnn_frame){1, 1, 1};
    return TRNN_OK;
}

static void constant_run(const trnn_call *call)
{
    const size_t frames = (size_t)call->steps * (size_t)call->batch;
    for (size_t i = 0; i < frames; i++) call->y[i] = call->layer->as.constant.number;
}

static void constant_backward(const trnn_pass *pass)
{
    if (pass->dx) trnn_zero(pass->dx, (size_t)pass->rows * trnn_frame_size(pass->in) * sizeof(float));
}

const trnn_layer_type trnn_constant = {
    .name = "constant", .check = arithmetic_check, .frame = constant_frame, .run = constant_run};
const trnn_layer_training trnn_constant_training = {.backward = constant_backward};
