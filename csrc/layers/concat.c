/* Frames side by side along one of their axes, and a part of a frame along one. */
#include "several.h"

const trnn_argument trnn_concat_arguments[] = {
    TRNN_INT_OF(concat, axis),
    TRNN_END_OF(concat),
};

static int is_axis(int32_t axis) { return axis >= TRNN_PLANES && axis <= TRNN_COLS; }

static int32_t *size_of(trnn_frame *frame, int32_t axis)
{
    return axis == TRNN_PLANES ? &frame->planes : axis == TRNN_ROWS ? &frame->rows : &frame->cols;
}

/* Numbers of a frame that lie together, for each place on the axes before `axis`: how many, and how often. */
static size_t run_of(trnn_frame frame, int32_t axis)
{
    return axis == TRNN_PLANES ? trnn_frame_size(frame)
                               : (axis == TRNN_ROWS ? (size_t)frame.rows : 1) * (size_t)frame.cols;
}

static size_t runs_of(trnn_frame frame, int32_t axis)
{
    return axis == TRNN_PLANES ? 1 : (size_t)frame.planes * (axis == TRNN_ROWS ? 1 : (size_t)frame.rows);
}

/* `runs` runs of `numbers`, from runs that are `from_stride` apart to runs that are `to_stride` apart. */
static void copy_runs(size_t runs, size_t numbers, const float *from, size_t from_stride, float *to,
                      size_t to_stride)
{
    for (size_t i = 0; i < runs; i++)
        trnn_copy(to + i * to_stride, from + i * from_stride, numbers * sizeof(float));
}

/* ---- concat ------------------------------------------------------------------------------------------ */

static trnn_status concat_check(const trnn_layer *layer)
{
    return is_axis(layer->as.concat.axis) ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status concat_join(const trnn_layer *layer, const trnn_frame *in, int32_t count, trnn_frame *out)
{
    const int32_t axis = layer->as.concat.axis;
    int64_t size = 0;
    for (int32_t i = 0; i < count; i++) {
        trnn_frame first = in[0], other = in[i];
        size += *size_of(&other, axis);
        *size_of(&first, axis) = *size_of(&other, axis) = 1;
        if (first.planes != other.planes || first.rows != other.rows || first.cols != other.cols)
            return TRNN_E_SHAPE;
    }
    if (size > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    *out = in[0];
    *size_of(out, axis) = (int32_t)size;
    return TRNN_OK;
}

/* One of the values: from x to its part of y, or from that of dy to dx. A gradient of a value that is still is a sum
 * over the steps. */
static void copy_value(const trnn_walk *w, int32_t axis, trnn_frame in, trnn_frame out, int still,
                       const float *x, float *y, const float *dy, float *dx)
{
    const size_t size = trnn_frame_size(in), numbers = trnn_frame_size(out), run = run_of(in, axis),
                 stride = run_of(out, axis), runs = runs_of(in, axis);
    for (int32_t t = w->from; t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++) {
            const size_t from = trnn_walk_at(w, t, b, still) * size, to = trnn_walk_at(w, t, b, 0) * numbers;
            if (y) copy_runs(runs, run, x + from, run, y + to, stride);
            if (!dx) continue;
            if (!still || t == w->from) {
                copy_runs(runs, run, dy + to, stride, dx + from, run);
                continue;
            }
            for (size_t i = 0; i < runs; i++)
                for (size_t j = 0; j < run; j++) dx[from + i * run + j] += dy[to + i * stride + j];
        }
}

static size_t concat_part(const trnn_layer *layer, trnn_frame in)
{
    return runs_of(in, layer->as.concat.axis) == 1 ? 0 : SIZE_MAX;
}

/* One of the values, which may lie in its part of y already. */
static void join_value(const trnn_call *call, trnn_frame in, int still, const float *x, float *y)
{
    const trnn_walk w = trnn_walk_of_call(call);
    const int32_t axis = call->layer->as.concat.axis;
    const size_t run = run_of(in, axis), frames = (size_t)call->steps * (size_t)call->batch;
    if (still)
        copy_value(&w, axis, in, call->out, still, x, y, NULL, NULL);
    else if (x != y)
        copy_runs(frames * runs_of(in, axis), run, x, run, y, run_of(call->out, axis));
}

static void concat_run(const trnn_call *call)
{
    const int32_t axis = call->layer->as.concat.axis;
    float *y = call->y;
    join_value(call, call->in, call->still, call->x, y);
    y += run_of(call->in, axis);
    for (int32_t r = 0; r < call->count; r++) {
        const trnn_read *other = &call->others[r];
        join_value(call, other->in, other->still, other->x, y);
        y += run_of(other->in, axis);
    }
}

/* The pass of all values in turn; `place` goes from part to part of y or dy. */
static void concat_pass(const trnn_pass *pass, int back)
{
    const trnn_walk w = trnn_walk_of_pass(pass);
    const int32_t axis = pass->layer->as.concat.axis;
    size_t place = 0;
    for (int32_t r = -1; r < pass->count; r++) {
        const trnn_pass_read *other = r < 0 ? NULL : &pass->others[r];
        const trnn_frame in = other ? other->in : pass->in;
        copy_value(&w, axis, in, pass->out, other ? other->still : pass->still, other ? other->x : pass->x,
                   back ? NULL : pass->y + place, pass->dy + place,
                   !back   ? NULL
                   : other ? other->dx
                           : pass->dx);
        place += run_of(in, axis);
    }
}

static void concat_forward(const trnn_pass *pass) { concat_pass(pass, 0); }
static void concat_backward(const trnn_pass *pass) { concat_pass(pass, 1); }

const trnn_layer_type trnn_concat = {
    .name = "concat",
    .check = concat_check,
    .join = concat_join,
    .time = TRNN_TIME_MIX,
    .run = concat_run,
    .part = concat_part,
    .views = trnn_find_views,
};

const trnn_layer_training trnn_concat_training = {
    .forward = concat_forward,
    .backward = concat_backward,
    .sequences = 1,
};

/* ---- slice ------------------------------------------------------------------------------------------- */

const trnn_argument trnn_slice_arguments[] = {
    TRNN_INT_OF(slice, axis),
    TRNN_INT_OF(slice, start),
    TRNN_INT_OF(slice, size),
    TRNN_END_OF(slice),
};

static trnn_status slice_check(const trnn_layer *layer)
{
    const trnn_slice_args *a = &layer->as.slice;
    const int fits = is_axis(a->axis) && a->start >= 0 && a->start <= TRNN_SIZE_MAX && trnn_is_size(a->size);
    return fits ? TRNN_OK : TRNN_E_ARGUMENT;
}

static trnn_status slice_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_slice_args *a = &layer->as.slice;
    if (a->start + a->size > *size_of(&in, a->axis)) return TRNN_E_SHAPE;
    *out = in;
    *size_of(out, a->axis) = a->size;
    return TRNN_OK;
}

/* The numbers of a run before the slice. */
static size_t slice_place(const trnn_layer *layer, trnn_frame in)
{
    const trnn_slice_args *a = &layer->as.slice;
    *size_of(&in, a->axis) = a->start;
    return run_of(in, a->axis);
}

static size_t slice_part(const trnn_layer *layer, trnn_frame in)
{
    return runs_of(in, layer->as.slice.axis) == 1 ? slice_place(layer, in) * sizeof(float) : SIZE_MAX;
}

static void slice_run(const trnn_call *call)
{
    const int32_t axis = call->layer->as.slice.axis;
    const size_t runs = (size_t)call->steps * (size_t)call->batch * runs_of(call->in, axis);
    copy_runs(runs, run_of(call->out, axis), (const float *)call->x + slice_place(call->layer, call->in),
              run_of(call->in, axis), call->y, run_of(call->out, axis));
}

static void slice_backward(const trnn_pass *pass)
{
    const int32_t axis = pass->layer->as.slice.axis;
    const size_t runs = (size_t)pass->rows * runs_of(pass->in, axis);
    if (!pass->dx) return;
    trnn_zero(pass->dx, (size_t)pass->rows * trnn_frame_size(pass->in) * sizeof(float));
    copy_runs(runs, run_of(pass->out, axis), pass->dy, run_of(pass->out, axis),
              pass->dx + slice_place(pass->layer, pass->in), run_of(pass->in, axis));
}

const trnn_layer_type trnn_slice = {
    .name = "slice",
    .check = slice_check,
    .frame = slice_frame,
    .run = slice_run,
    .part = slice_part,
    .views = trnn_find_views,
};

const trnn_layer_training trnn_slice_training = {.backward = slice_backward};
