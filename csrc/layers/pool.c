/* Pooling: the maximum or the mean of windows over the rows and columns of each plane. As torch.nn.MaxPool2d, AvgPool2d,
 * AdaptiveMaxPool2d and AdaptiveAvgPool2d; those of one dimension are windows of one row.
 *
 * A NaN wins a maximum. Of equal numbers the first one, along rows, then columns, gets the gradient. Sums run in that order.
 */
#include "training.h"

typedef struct {
    int is_max, is_adaptive;
} pool_kind;

static const pool_kind *pool_facts(const trnn_layer *layer) { return layer->type->family; }

const trnn_argument trnn_pool_arguments[] = {
    TRNN_INT_OF(pool, kernel_rows),       TRNN_INT_OF(pool, stride_rows),   TRNN_INT_OF(pool, pad_rows),
    TRNN_INT_OF(pool, dilation_rows),     TRNN_INT_OF(pool, kernel_cols),   TRNN_INT_OF(pool, stride_cols),
    TRNN_INT_OF(pool, pad_cols),          TRNN_INT_OF(pool, dilation_cols), TRNN_INT_OF(pool, ceil_mode),
    TRNN_INT_OF(pool, count_include_pad), TRNN_INT_OF(pool, divisor),       TRNN_END_OF(pool),
};

const trnn_argument trnn_adaptive_arguments[] = {
    TRNN_INT_OF(adaptive, rows),
    TRNN_INT_OF(adaptive, cols),
    TRNN_END_OF(adaptive),
};

/* ---- windows ------------------------------------------------------------------------------------------- */

/* One axis that is pooled; of an adaptive layer only the positions that are read and written count. */
typedef struct {
    int32_t kernel, stride, pad, dilation;
    int32_t in, out;
} pool_axis;

static pool_axis pool_rows_of(const trnn_layer *layer, int32_t in, int32_t out)
{
    const trnn_pool_args *a = &layer->as.pool;
    if (pool_facts(layer)->is_adaptive) return (pool_axis){0, 0, 0, 1, in, out};
    return (pool_axis){a->kernel_rows, a->stride_rows, a->pad_rows, a->dilation_rows, in, out};
}

static pool_axis pool_cols_of(const trnn_layer *layer, int32_t in, int32_t out)
{
    const trnn_pool_args *a = &layer->as.pool;
    if (pool_facts(layer)->is_adaptive) return (pool_axis){0, 0, 0, 1, in, out};
    return (pool_axis){a->kernel_cols, a->stride_cols, a->pad_cols, a->dilation_cols, in, out};
}

static int64_t pool_span(const pool_axis *a) { return (int64_t)a->dilation * (a->kernel - 1) + 1; }

static int is_pool_axis(const pool_axis *a)
{
    if (!trnn_is_size(a->kernel) || !trnn_is_size(a->stride) || !trnn_is_size(a->dilation)) return 0;
    return a->pad >= 0 && a->pad <= pool_span(a) / 2;
}

/* Positions that an axis writes: with `ceil_mode` also a window that ends beyond the padding, if it begins before. */
static int64_t pool_length(const pool_axis *a, int ceil_mode)
{
    const int64_t room = a->in + 2 * (int64_t)a->pad - pool_span(a);
    int64_t length = (room + (ceil_mode ? a->stride - 1 : 0)) / a->stride + 1;
    if (room < 0 && (!ceil_mode || room + a->stride <= 0)) return 0;
    if (ceil_mode && (length - 1) * a->stride >= (int64_t)a->in + a->pad) length--;
    return length;
}

/* The positions first, first + step, ... before `end`; `count`: with padding. */
typedef struct {
    int64_t first, end, step, count;
} pool_window;

TRNN_NOINLINE pool_window window_at(const pool_axis *a, int32_t o)
{
    if (a->kernel == 0) {
        const int64_t first = (int64_t)o * a->in / a->out;
        const int64_t end = ((int64_t)(o + 1) * a->in + a->out - 1) / a->out;
        return (pool_window){first, end, 1, end - first};
    }
    const int64_t start = (int64_t)o * a->stride - a->pad, most = (int64_t)a->in + a->pad;
    const int64_t end = start + pool_span(a) < most ? start + pool_span(a) : most;
    pool_window w = {start, end < a->in ? end : a->in, a->dilation, end - start};
    while (w.first < 0) w.first += w.step;
    return w;
}

/* What a mean divides by. */
TRNN_NOINLINE float pool_divisor(const trnn_layer *layer, const pool_window *rows, const pool_window *cols)
{
    const trnn_pool_args *a = &layer->as.pool;
    const int is_adaptive = pool_facts(layer)->is_adaptive;
    if (!is_adaptive && a->divisor) return (float)a->divisor;
    if (is_adaptive || a->count_include_pad) return (float)(rows->count * cols->count);
    return (float)((rows->end - rows->first) * (cols->end - cols->first));
}

/* ---- run ---------------------------------------------------------------------------------------------- */

static trnn_status pool_check(const trnn_layer *layer)
{
    const trnn_pool_args *a = &layer->as.pool;
    const pool_axis rows = pool_rows_of(layer, 1, 1), cols = pool_cols_of(layer, 1, 1);
    if (!is_pool_axis(&rows) || !is_pool_axis(&cols)) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->ceil_mode) || !trnn_is_flag(a->count_include_pad)) return TRNN_E_ARGUMENT;
    if (pool_facts(layer)->is_max) return a->divisor || a->count_include_pad ? TRNN_E_ARGUMENT : TRNN_OK;
    const int is_plain = a->dilation_rows == 1 && a->dilation_cols == 1;
    return is_plain && a->divisor >= 0 && a->divisor <= TRNN_SIZE_MAX ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status pool_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_pool_args *a = &layer->as.pool;
    const pool_axis rows = pool_rows_of(layer, in.rows, 0), cols = pool_cols_of(layer, in.cols, 0);
    const int64_t high = pool_length(&rows, a->ceil_mode), wide = pool_length(&cols, a->ceil_mode);
    if (high < 1 || wide < 1) return TRNN_E_SHAPE;
    if (high > TRNN_SIZE_MAX || wide > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = (trnn_frame){in.planes, (int32_t)high, (int32_t)wide};
    return TRNN_OK;
}

static trnn_status adaptive_check(const trnn_layer *layer)
{
    const trnn_adaptive_args *a = &layer->as.adaptive;
    if (a->rows && !trnn_is_size(a->rows)) return TRNN_E_ARGUMENT;
    return a->cols && !trnn_is_size(a->cols) ? TRNN_E_ARGUMENT : TRNN_OK;
}

static trnn_status adaptive_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_adaptive_args *a = &layer->as.adaptive;
    *out = (trnn_frame){in.planes, a->rows ? a->rows : in.rows, a->cols ? a->cols : in.cols};
    return TRNN_OK;
}

static int wins(float x, float most) { return x > most || x != x; }

/* One row of a plane, tap by tap for all of its columns. */
TRNN_NOINLINE void pool_row(const trnn_layer *layer, const pool_axis *cols, const pool_window *rows,
                            const float *x, float *y)
{
    const int is_max = pool_facts(layer)->is_max;
    const int64_t stride = cols->stride;
    for (int64_t c = 0; c < cols->out; c++) y[c] = is_max ? -__builtin_inff() : 0.0f;
    for (int64_t at = rows->first; at < rows->end; at += rows->step)
        for (int64_t tap = 0; tap < cols->kernel; tap++) {
            const int64_t off = tap * cols->dilation - cols->pad, last = cols->in - 1 - off;
            const int64_t from = off < 0 ? (-off + stride - 1) / stride : 0;
            const int64_t to = last < 0 ? 0 : last / stride < cols->out ? last / stride + 1 : cols->out;
            const float *line = x + at * cols->in + off;
            if (is_max)
                for (int64_t c = from; c < to; c++)
                    y[c] = wins(line[c * stride], y[c]) ? line[c * stride] : y[c];
            else
                for (int64_t c = from; c < to; c++) y[c] += line[c * stride];
        }
    for (int32_t c = 0; !is_max && c < cols->out; c++) {
        const pool_window own = window_at(cols, c);
        y[c] /= pool_divisor(layer, rows, &own);
    }
}

/* One number of an adaptive layer. */
static float pool_one(const trnn_layer *layer, const pool_axis *cols, const pool_window *rows, int32_t c,
                      const float *x)
{
    const pool_window own = window_at(cols, c);
    const int is_max = pool_facts(layer)->is_max;
    float most = -__builtin_inff();
    double sum = 0.0;
    for (int64_t at = rows->first; at < rows->end; at++) {
        const float *const line = x + at * cols->in;
        for (int64_t i = own.first; is_max && i < own.end; i++) most = wins(line[i], most) ? line[i] : most;
        for (int64_t i = own.first; !is_max && i < own.end; i++) sum += (double)line[i];
    }
    return is_max ? most : (float)(sum / (double)pool_divisor(layer, rows, &own));
}

static void pool_run(const trnn_call *call)
{
    const trnn_layer *layer = call->layer;
    const pool_axis rows = pool_rows_of(layer, call->in.rows, call->out.rows);
    const pool_axis cols = pool_cols_of(layer, call->in.cols, call->out.cols);
    const size_t in = (size_t)rows.in * (size_t)cols.in;
    const size_t planes = (size_t)call->steps * (size_t)call->batch * (size_t)call->in.planes;
    const float *x = call->x;
    float *y = call->y;
    for (size_t plane = 0; plane < planes; plane++, x += in)
        for (int32_t r = 0; r < rows.out; r++, y += cols.out) {
            const pool_window own = window_at(&rows, r);
            if (!pool_facts(layer)->is_adaptive)
                pool_row(layer, &cols, &own, x, y);
            else
                for (int32_t c = 0; c < cols.out; c++) y[c] = pool_one(layer, &cols, &own, c, x);
        }
}

/* ---- training ------------------------------------------------------------------------------------------ */

/* Adds the gradient of one number to those of its window. */
static void pool_one_back(const trnn_layer *layer, const pool_axis *cols, const pool_window *rows, int32_t c,
                          const float *x, float dy, float *dx)
{
    const pool_window own = window_at(cols, c);
    const int is_max = pool_facts(layer)->is_max;
    const float share = is_max ? 0.0f : dy / pool_divisor(layer, rows, &own);
    float most = -__builtin_inff();
    int64_t place = rows->first * cols->in + own.first;
    if (rows->first >= rows->end || own.first >= own.end) return;
    for (int64_t at = rows->first; at < rows->end; at += rows->step)
        for (int64_t i = own.first; i < own.end; i += own.step) {
            const int64_t here = at * cols->in + i;
            if (!is_max) {
                dx[here] += share;
            } else if (wins(x[here], most)) {
                most = x[here];
                place = here;
            }
        }
    if (is_max) dx[place] += dy;
}

static void pool_backward(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const pool_axis rows = pool_rows_of(layer, pass->in.rows, pass->out.rows);
    const pool_axis cols = pool_cols_of(layer, pass->in.cols, pass->out.cols);
    const size_t in = (size_t)rows.in * (size_t)cols.in;
    const size_t planes = (size_t)pass->rows * (size_t)pass->in.planes;
    const float *x = pass->x, *dy = pass->dy;
    float *dx = pass->dx;
    if (!dx) return;
    trnn_zero(dx, planes * in * sizeof(float));
    for (size_t plane = 0; plane < planes; plane++, x += in, dx += in)
        for (int32_t r = 0; r < rows.out; r++, dy += cols.out) {
            const pool_window own = window_at(&rows, r);
            for (int32_t c = 0; c < cols.out; c++) pool_one_back(layer, &cols, &own, c, x, dy[c], dx);
        }
}

#define POOL(name_, family_, is_max, is_adaptive)                   \
    static const pool_kind name_##_kind = {is_max, is_adaptive};    \
    const trnn_layer_type trnn_##name_ = {.name = #name_,           \
                                          .check = family_##_check, \
                                          .frame = family_##_frame, \
                                          .run = pool_run,          \
                                          .family = &name_##_kind}; \
    const trnn_layer_training trnn_##name_##_training = {.backward = pool_backward}

POOL(max_pool, pool, 1, 0);
POOL(avg_pool, pool, 0, 0);
POOL(adaptive_max_pool, adaptive, 1, 1);
POOL(adaptive_avg_pool, adaptive, 0, 1);
