/* One number for all numbers of a frame along some of its axes. Sums are in double, in the order of the numbers, so the
 * bits are the same everywhere. The rules at the edges are PyTorch's: a NaN wins in amax and amin, of equal numbers each
 * gets the same share of their gradient, and the gradient of a root at 0 is 0. */
#include "power.h"
#include "training.h"

const trnn_argument trnn_reduce_arguments[] = {
    TRNN_INT_OF(reduce, planes), TRNN_INT_OF(reduce, rows),       TRNN_INT_OF(reduce, cols),
    TRNN_INT_OF(reduce, keep),   TRNN_INT_OF(reduce, correction), TRNN_END_OF(reduce),
};

/* The numbers of x that one number of y is made of; the first one is at 0. */
typedef struct {
    int32_t planes, rows, cols;
    size_t plane, row; /* floats from one to the next */
    double count;
    double freedom; /* count - correction, at least 0 */
} group;

/* What is known of them beforehand. */
typedef enum { NOTHING, CENTRE, LARGEST, OTHERS } known;

typedef struct {
    known known;
    int root; /* 1: y is the square root of the result */
    double start;
    double (*take)(double a, double v, double m);
    double (*end)(const group *g, double a, double m);
    double (*also)(double v, double y);
    double (*slope)(const group *g, double v, double m, double y, double dy, double b);
} reduction;

static const reduction *reduce_kind(const trnn_layer *layer) { return layer->type->family; }

static trnn_status reduce_check(const trnn_layer *layer)
{
    const trnn_reduce_args *a = &layer->as.reduce;
    const int fits = trnn_is_flag(a->planes) && trnn_is_flag(a->rows) && trnn_is_flag(a->cols) &&
                     trnn_is_flag(a->keep) && a->correction >= 0;
    return fits ? TRNN_OK : TRNN_E_ARGUMENT;
}

/* The frame with 1 along the axes that are reduced. */
static trnn_frame kept_frame(const trnn_layer *layer, trnn_frame in)
{
    const trnn_reduce_args *a = &layer->as.reduce;
    return (trnn_frame){a->planes ? 1 : in.planes, a->rows ? 1 : in.rows, a->cols ? 1 : in.cols};
}

static trnn_status reduce_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_reduce_args *a = &layer->as.reduce;
    *out = kept_frame(layer, in);
    if (a->keep) return TRNN_OK;
    int32_t left[3] = {1, 1, 1};
    int at = 3;
    if (!a->cols) left[--at] = in.cols;
    if (!a->rows) left[--at] = in.rows;
    if (!a->planes) left[--at] = in.planes;
    *out = (trnn_frame){left[0], left[1], left[2]};
    return TRNN_OK;
}

static group group_of(const trnn_layer *layer, trnn_frame in)
{
    const trnn_reduce_args *a = &layer->as.reduce;
    group g = {.planes = a->planes ? in.planes : 1,
               .rows = a->rows ? in.rows : 1,
               .cols = a->cols ? in.cols : 1,
               .plane = (size_t)in.rows * (size_t)in.cols,
               .row = (size_t)in.cols};
    g.count = (double)g.planes * (double)g.rows * (double)g.cols;
    g.freedom = g.count > (double)a->correction ? g.count - (double)a->correction : 0.0;
    return g;
}

/* For each number of a group, in order: its place. */
#define EACH_NUMBER(g, at)                                                          \
    for (int32_t plane_ = 0; plane_ < (g)->planes; plane_++)                        \
        for (int32_t row_ = 0; row_ < (g)->rows; row_++)                            \
            for (size_t at = (size_t)plane_ * (g)->plane + (size_t)row_ * (g)->row, \
                        end_ = at + (size_t)(g)->cols;                              \
                 at < end_; at++)

/* m of the formulas below: the mean, the largest number, or the product of those that are not 0. */
static double known_of(known what, const group *g, const float *x)
{
    double m = what == LARGEST ? -(double)__builtin_inff() : what == OTHERS ? 1.0 : 0.0;
    if (what == NOTHING) return m;
    EACH_NUMBER(g, at)
    {
        const double v = (double)x[at];
        if (what == CENTRE) m += v;
        if (what == LARGEST && !(m >= v || m != m)) m = v;
        if (what == OTHERS && v != 0.0) m *= v;
    }
    return what == CENTRE ? m / g->count : m;
}

/* The number of y that a group gives. */
static float reduce_group(const reduction *kind, const group *g, const float *x)
{
    const double m = known_of(kind->known, g, x);
    double a = kind->start;
    EACH_NUMBER(g, at) a = kind->take(a, (double)x[at], m);
    return (float)kind->end(g, a, m);
}

/* The group's part of dx. */
static void reduce_group_back(const reduction *kind, const group *g, const float *x, double y, double dy,
                              float *dx)
{
    const double m = known_of(kind->known, g, x);
    double b = 0.0;
    if (kind->also) EACH_NUMBER(g, at) b += kind->also((double)x[at], y);
    EACH_NUMBER(g, at) dx[at] = (float)kind->slope(g, (double)x[at], m, y, dy, b);
}

/* For each number of y in turn, y or dx from dy: `frames` frames. */
static void reduce_frames(const trnn_layer *layer, trnn_frame in, size_t frames, const float *x, float *to_y,
                          const float *y, const float *dy, float *dx)
{
    const reduction *kind = reduce_kind(layer);
    const group g = group_of(layer, in);
    const trnn_frame out = kept_frame(layer, in);
    const size_t size = trnn_frame_size(in);
    for (size_t f = 0; f < frames; f++, x += size, dx += dx ? size : 0)
        for (size_t p = 0; p < (size_t)out.planes; p++)
            for (size_t r = 0; r < (size_t)out.rows; r++)
                for (size_t c = 0; c < (size_t)out.cols; c++) {
                    const size_t first = p * g.plane + r * g.row + c;
                    if (dx)
                        reduce_group_back(kind, &g, x + first, (double)*y++, (double)*dy++, dx + first);
                    else
                        *to_y++ = reduce_group(kind, &g, x + first);
                }
}

static void reduce_run(const trnn_call *call)
{
    const size_t frames = (size_t)call->steps * (size_t)call->batch;
    reduce_frames(call->layer, call->in, frames, call->x, call->y, NULL, NULL, NULL);
    if (reduce_kind(call->layer)->root)
        TRNN_KERNEL(call->isa, map_sqrt)(call->y, call->y, frames * trnn_frame_size(call->out), NULL);
}

static void reduce_backward(const trnn_pass *pass)
{
    if (pass->dx)
        reduce_frames(pass->layer, pass->in, (size_t)pass->rows, pass->x, NULL, pass->y, pass->dy, pass->dx);
}

/* ---- the reductions -------------------------------------------------------------------------------------- */

/* The reduction `name`, of the numbers v of a group g: a begins as `start` and becomes `take` at each, and y is `end`.
 * Backwards each dx is `slope`, of y and dy. SHARED has another formula, `also`, whose sum over the numbers is b. */
#define SHARED_REDUCTION(name_, known_, root_, start_, take_, end_, also_, slope_) \
    static double name_##_also(double v, double y)                                 \
    {                                                                              \
        (void)y;                                                                   \
        return also_;                                                              \
    }                                                                              \
    REDUCTION_WITH(name_, name_##_also, known_, root_, start_, take_, end_, slope_)

#define REDUCTION(name_, known_, root_, start_, take_, end_, slope_) \
    REDUCTION_WITH(name_, NULL, known_, root_, start_, take_, end_, slope_)

#define REDUCTION_WITH(name_, also_, known_, root_, start_, take_, end_, slope_)                   \
    static double name_##_take(double a, double v, double m)                                       \
    {                                                                                              \
        (void)m;                                                                                   \
        return take_;                                                                              \
    }                                                                                              \
    static double name_##_end(const group *g, double a, double m)                                  \
    {                                                                                              \
        (void)g, (void)m;                                                                          \
        return end_;                                                                               \
    }                                                                                              \
    static double name_##_slope(const group *g, double v, double m, double y, double dy, double b) \
    {                                                                                              \
        (void)g, (void)v, (void)m, (void)y, (void)b;                                               \
        return slope_;                                                                             \
    }                                                                                              \
    static const reduction name_##_reduction = {known_,      root_, start_,       name_##_take,    \
                                                name_##_end, also_, name_##_slope};                \
    const trnn_layer_type trnn_##name_ = {.name = #name_,                                          \
                                          .check = reduce_check,                                   \
                                          .frame = reduce_frame,                                   \
                                          .run = reduce_run,                                       \
                                          .family = &name_##_reduction};                           \
    const trnn_layer_training trnn_##name_##_training = {.backward = reduce_backward}

#define INFINITE  (double)__builtin_inff()
#define SQUARE(v) ((v) * (v))

/* clang-format off */
REDUCTION(sum, NOTHING, 0, 0.0, a + v, a, dy);
REDUCTION(mean, NOTHING, 0, 0.0, a + v, a / g->count, dy / g->count);
SHARED_REDUCTION(amax, NOTHING, 0, -INFINITE, a >= v || a != a ? a : v, a, v == y, dy * (v == y) / b);
SHARED_REDUCTION(amin, NOTHING, 0, INFINITE, a <= v || a != a ? a : v, a, v == y, dy * (v == y) / b);
SHARED_REDUCTION(prod, OTHERS, 0, 1.0, a * v, a, v == 0.0, b > (v == 0.0) ? 0.0 : v == 0.0 ? dy * m : dy * m / v);
REDUCTION(var, CENTRE, 0, 0.0, a + SQUARE(v - m), a / g->freedom, dy * 2.0 * (v - m) / g->freedom);
REDUCTION(std, CENTRE, 1, 0.0, a + SQUARE(v - m), a / g->freedom, y == 0.0 ? 0.0 : dy * (v - m) / (y * g->freedom));
REDUCTION(vector_norm, NOTHING, 1, 0.0, a + SQUARE(v), a, y == 0.0 ? 0.0 : dy * v / y);
REDUCTION(logsumexp, LARGEST, 0, 0.0, a + trnn_exp_double(v - m), m - m == 0.0 ? m + trnn_log_double(a) : m,
          dy * trnn_exp_double(v - y));
/* clang-format on */
