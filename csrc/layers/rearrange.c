/* The numbers of a frame at other places: axes in another order, frames with numbers around them. A number of y is one of
 * x along each axis by itself, or the constant of a pad. As torch.permute and torch.nn.functional.pad. */
#include "training.h"

/* How far apart the numbers of a frame lie along an axis. */
static size_t apart_of(trnn_frame frame, int32_t axis)
{
    return axis == TRNN_COLS ? 1 : (axis == TRNN_ROWS ? 1 : (size_t)frame.rows) * (size_t)frame.cols;
}

static int32_t size_along(trnn_frame frame, int32_t axis)
{
    return axis == TRNN_PLANES ? frame.planes : axis == TRNN_ROWS ? frame.rows : frame.cols;
}

/* Along each axis of y: the place in x of what it has at 0, the axis of x, and what is beyond its ends. */
typedef struct {
    int32_t first[3], size[3];
    size_t apart[3];
    int32_t mode; /* a trnn_pad */
    float value;
    size_t frames;
    const float *x, *dy;
    float *y, *dx; /* the one to be written; dx is zero before */
} places;

/* The place along an axis of `size` that counts at `i`, which is before its begin or beyond its end; -1: none. */
TRNN_NOINLINE int32_t place_beyond(int32_t mode, int32_t i, int32_t size)
{
    switch (mode) {
    case TRNN_PAD_REFLECT: return i < 0 ? -i : 2 * (size - 1) - i;
    case TRNN_PAD_REPLICATE: return i < 0 ? 0 : size - 1;
    case TRNN_PAD_CIRCULAR: return i < 0 ? i + size : i - size;
    default: return -1;
    }
}

static inline int32_t place_in(int32_t mode, int32_t i, int32_t size)
{
    return i >= 0 && i < size ? i : place_beyond(mode, i, size);
}

/* y from x, or dx from dy: a sum over the places in y where a number is. */
TRNN_NOINLINE void gather(const places *me, trnn_frame in, trnn_frame out)
{
    const size_t size = trnn_frame_size(in);
    size_t at = 0, frame = 0;
    for (size_t f = 0; f < me->frames; f++, frame += size)
        for (int32_t p = 0; p < out.planes; p++)
            for (int32_t r = 0; r < out.rows; r++) {
                const int32_t plane = place_in(me->mode, p + me->first[0], me->size[0]),
                              row = place_in(me->mode, r + me->first[1], me->size[1]);
                const int inside = plane >= 0 && row >= 0;
                const size_t from =
                    inside ? frame + (size_t)plane * me->apart[0] + (size_t)row * me->apart[1] : 0;
                for (int32_t c = 0; c < out.cols; c++, at++) {
                    const int32_t col = inside ? place_in(me->mode, c + me->first[2], me->size[2]) : -1;
                    const size_t place = from + (size_t)(col < 0 ? 0 : col) * me->apart[2];
                    if (me->y)
                        me->y[at] = col < 0 ? me->value : me->x[place];
                    else if (col >= 0)
                        me->dx[place] += me->dy[at];
                }
            }
}

static void gather_call(const trnn_call *call, places me)
{
    me.frames = (size_t)call->steps * (size_t)call->batch;
    me.x = call->x;
    me.y = call->y;
    gather(&me, call->in, call->out);
}

static void gather_back(const trnn_pass *pass, places me)
{
    if (!pass->dx) return;
    me.frames = (size_t)pass->rows;
    me.dy = pass->dy;
    me.dx = pass->dx;
    trnn_zero(me.dx, me.frames * trnn_frame_size(pass->in) * sizeof(float));
    gather(&me, pass->in, pass->out);
}

/* ---- permute ------------------------------------------------------------------------------------------- */

const trnn_argument trnn_permute_arguments[] = {
    TRNN_INT_OF(permute, planes),
    TRNN_INT_OF(permute, rows),
    TRNN_INT_OF(permute, cols),
    TRNN_END_OF(permute),
};

static trnn_status permute_check(const trnn_layer *layer)
{
    const trnn_permute_args *a = &layer->as.permute;
    const int32_t axis[] = {a->planes, a->rows, a->cols};
    int seen = 0;
    for (int i = 0; i < 3; i++)
        if (axis[i] >= TRNN_PLANES && axis[i] <= TRNN_COLS) seen |= 1 << axis[i];
    return seen == 7 ? TRNN_OK : TRNN_E_ARGUMENT; /* each axis once */
}

static trnn_status permute_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_permute_args *a = &layer->as.permute;
    *out = (trnn_frame){size_along(in, a->planes), size_along(in, a->rows), size_along(in, a->cols)};
    return TRNN_OK;
}

static places permute_places(const trnn_layer *layer, trnn_frame in)
{
    const trnn_permute_args *a = &layer->as.permute;
    const int32_t axis[] = {a->planes, a->rows, a->cols};
    places me = {.mode = TRNN_PAD_ZEROS};
    for (int i = 0; i < 3; i++) me.size[i] = size_along(in, axis[i]), me.apart[i] = apart_of(in, axis[i]);
    return me;
}

static void permute_run(const trnn_call *call) { gather_call(call, permute_places(call->layer, call->in)); }

static void permute_backward(const trnn_pass *pass)
{
    gather_back(pass, permute_places(pass->layer, pass->in));
}

const trnn_layer_type trnn_permute = {
    .name = "permute", .check = permute_check, .frame = permute_frame, .run = permute_run};
const trnn_layer_training trnn_permute_training = {.backward = permute_backward};

/* ---- pad ----------------------------------------------------------------------------------------------- */

const trnn_argument trnn_padding_arguments[] = {
    TRNN_INT_OF(padding, planes_before),
    TRNN_INT_OF(padding, planes_after),
    TRNN_INT_OF(padding, rows_before),
    TRNN_INT_OF(padding, rows_after),
    TRNN_INT_OF(padding, cols_before),
    TRNN_INT_OF(padding, cols_after),
    TRNN_INT_OF(padding, mode),
    TRNN_LIVE_FLOAT_OF(padding, value),
    TRNN_END_OF(padding),
};

/* The numbers before and after each axis. */
typedef struct {
    int32_t before[3], after[3];
} margins;

static margins margins_of(const trnn_layer *layer)
{
    const trnn_padding_args *a = &layer->as.padding;
    return (margins){{a->planes_before, a->rows_before, a->cols_before},
                     {a->planes_after, a->rows_after, a->cols_after}};
}

static trnn_status pad_check(const trnn_layer *layer)
{
    const margins m = margins_of(layer);
    const int32_t mode = layer->as.padding.mode;
    if (mode < TRNN_PAD_ZEROS || mode > TRNN_PAD_CIRCULAR) return TRNN_E_ARGUMENT;
    for (int i = 0; i < 6; i++) {
        const int32_t pad = i < 3 ? m.before[i] : m.after[i - 3];
        if (pad < (mode == TRNN_PAD_ZEROS ? -TRNN_SIZE_MAX : 0) || pad > TRNN_SIZE_MAX)
            return TRNN_E_ARGUMENT;
    }
    return TRNN_OK;
}

/* The most numbers that a mode can put before or after an axis of this size. */
static int32_t margin_most(int32_t mode, int32_t size)
{
    return mode == TRNN_PAD_REFLECT ? size - 1 : mode == TRNN_PAD_CIRCULAR ? size : TRNN_SIZE_MAX;
}

static trnn_status pad_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const margins m = margins_of(layer);
    int32_t to[3];
    for (int32_t i = 0; i < 3; i++) {
        const int32_t size = size_along(in, i), most = margin_most(layer->as.padding.mode, size);
        const int64_t wide = (int64_t)size + m.before[i] + m.after[i];
        if (wide < 1 || m.before[i] < -size || m.after[i] < -size || m.before[i] > most || m.after[i] > most)
            return TRNN_E_SHAPE;
        if (wide > TRNN_SIZE_MAX) return TRNN_E_SIZE;
        to[i] = (int32_t)wide;
    }
    *out = (trnn_frame){to[0], to[1], to[2]};
    return TRNN_OK;
}

static places pad_places(const trnn_layer *layer, trnn_frame in)
{
    const margins m = margins_of(layer);
    places me = {.mode = layer->as.padding.mode, .value = layer->as.padding.value};
    for (int32_t i = 0; i < 3; i++) {
        me.first[i] = -m.before[i];
        me.size[i] = size_along(in, i);
        me.apart[i] = apart_of(in, i);
    }
    return me;
}

static void pad_run(const trnn_call *call) { gather_call(call, pad_places(call->layer, call->in)); }

static void pad_backward(const trnn_pass *pass) { gather_back(pass, pad_places(pass->layer, pass->in)); }

const trnn_layer_type trnn_padding = {
    .name = "padding", .check = pad_check, .frame = pad_frame, .run = pad_run};
const trnn_layer_training trnn_padding_training = {.backward = pad_backward};
