/* Axes of other rates: windows of steps are due with some of the steps of the axis that they follow. Each row has its own
 * count of steps, in the state of the layer that writes the windows. A program without such a layer links none of this. */
#include "plan.h"

/* The rate of an axis that follows, with `rate`, one that has a rate itself. A number beyond an int32 becomes 0. */
static trnn_rate rate_after(trnn_rate before, trnn_rate rate)
{
    const int64_t stride = before.stride, all[] = {before.first + stride * rate.first, stride * rate.stride,
                                                   before.after + stride * rate.after};
    const int fits = all[0] <= INT32_MAX && all[1] <= INT32_MAX && all[2] <= INT32_MAX;
    return fits ? (trnn_rate){(int32_t)all[0], (int32_t)all[1], (int32_t)all[2]} : (trnn_rate){0, 0, 0};
}

static int same_rate(trnn_rate a, trnn_rate b)
{
    return a.first == b.first && a.stride == b.stride && a.after == b.after;
}

/* The axis on which a layer of another rate writes: one that has this pace already, or a new one. -1: there is no room. */
static int32_t rate_axis(trnn_graph *graph, const trnn_layer *layer, int32_t i, int32_t of)
{
    const trnn_pace *const before = of > graph->axes ? &graph->pace[of - graph->axes - 1] : NULL;
    const trnn_rate rate = layer->type->rate(layer), whole = before ? rate_after(before->whole, rate) : rate;
    const int32_t root = before ? before->root : of;
    for (int32_t p = 0; p < graph->paces; p++)
        if (graph->pace[p].root == root && same_rate(graph->pace[p].whole, whole)) return graph->axes + 1 + p;
    if (graph->paces == TRNN_PACES_MAX) return -1;
    const int64_t steps = ((int64_t)graph->steps[of - 1] + rate.after + rate.stride - 1) / rate.stride;
    const int fits = whole.stride > 0 && steps <= TRNN_SIZE_MAX;
    graph->pace[graph->paces++] = (trnn_pace){of, root, i, rate, whole};
    const int32_t axis = graph->axes + graph->paces;
    graph->steps[axis - 1] = fits ? (int32_t)steps : 0; /* 0: too many (trnn_graph_init) */
    return axis;
}

/* The frames that are due of a row whose state has counted `seen` steps, with `steps` more. */
static int32_t due_after(trnn_rate rate, float seen, int64_t steps)
{
    const int64_t before = trnn_rate_seen(seen);
    return (int32_t)(trnn_rate_due(rate, before + steps) - trnn_rate_due(rate, before));
}

static int32_t rate_row_steps(const trnn_span *span, int32_t axis, int32_t b)
{
    const trnn_graph *graph = span->graph;
    if (axis == 0) return 1;
    if (axis <= graph->axes)
        return span->lengths[axis - 1] ? span->lengths[axis - 1][b] : span->steps[axis - 1];
    const trnn_pace *pace = &graph->pace[axis - graph->axes - 1];
    const float *seen = span->state + (size_t)b * graph->row_state + span->nodes[pace->node].state;
    const int32_t steps = rate_row_steps(span, pace->of, b), after = span->ends ? pace->rate.after : 0;
    return due_after(pace->rate, *seen, (int64_t)steps + after);
}

static int rate_is_short(const trnn_span *span, int32_t batch, int alone)
{
    const trnn_graph *graph = span->graph;
    for (int32_t p = 0; p < graph->paces; p++) {
        const trnn_pace *pace = &graph->pace[p];
        const float *seen = span->state + span->nodes[pace->node].state;
        for (int32_t b = 0; b < batch; b++, seen += graph->row_state)
            if (rate_row_steps(span, graph->axes + 1 + p, b) == 0 &&
                (alone || trnn_rate_due(pace->rate, trnn_rate_seen(*seen)) == 0))
                return 1;
    }
    return 0;
}

int32_t trnn_span_steps(const trnn_span *span, int32_t axis, int32_t batch, int32_t *lengths)
{
    int32_t most = 0;
    for (int32_t b = 0; b < batch; b++) {
        const int32_t steps = rate_row_steps(span, axis, b);
        if (lengths) lengths[b] = steps;
        if (steps > most) most = steps;
    }
    return most;
}

/* The counts of an axis: its most, its least, and those of each row. */
static void read_pace(const trnn_graph *graph, int32_t p, const int32_t *counts, trnn_clock *clock)
{
    const int32_t axis = graph->axes + p;
    clock->steps[axis] = counts[0];
    clock->frames[p] = counts + 2;
    clock->lengths[axis] = counts[1] < counts[0] ? counts + 2 : NULL;
}

static void read_paces(const trnn_graph *graph, int32_t batch, const int32_t *counts, trnn_clock *clock)
{
    for (int32_t p = 0; p < graph->paces; p++, counts += batch + 2) read_pace(graph, p, counts, clock);
}

/* Does row b's sequence end within this part of the run? */
static int ends_here(const trnn_clock *clock, int32_t root, int32_t b)
{
    const int32_t *lengths = clock->lengths[root - 1];
    if (!clock->ends) return 0;
    return lengths ? lengths[b] > clock->start && lengths[b] <= clock->start + clock->steps[root - 1]
                   : clock->last;
}

static void count_paces(const trnn_graph *graph, const trnn_node *nodes, const float *state, int32_t batch,
                        int32_t *counts, trnn_clock *clock)
{
    for (int32_t p = 0; p < graph->paces; p++, counts += batch + 2) {
        const trnn_pace *pace = &graph->pace[p];
        const int32_t start = trnn_start_on(clock, pace->of), of = pace->of - 1;
        const float *seen = state + nodes[pace->node].state;
        counts[0] = 0;
        counts[1] = TRNN_SIZE_MAX;
        for (int32_t b = 0; b < batch; b++, seen += graph->row_state) {
            const int32_t steps = trnn_row_steps(clock->lengths[of], b, start, clock->steps[of]);
            const int32_t after = ends_here(clock, pace->root, b) ? pace->rate.after : 0;
            const int32_t due = due_after(pace->rate, *seen, (int64_t)steps + after);
            counts[2 + b] = due;
            if (due > counts[0]) counts[0] = due;
            if (due < counts[1]) counts[1] = due;
        }
        read_pace(graph, p, counts, clock);
    }
}

/* (batch,): an axis's frames of each row in the parts before, behind the counts of all axes. */
static size_t place_of_done(const trnn_graph *graph, int32_t batch, int32_t p)
{
    return trnn_paces_bytes(graph, batch) / sizeof(int32_t) + (size_t)p * (size_t)batch;
}

static void clear_done(const trnn_graph *graph, int32_t batch, int32_t *counts)
{
    const size_t first = place_of_done(graph, batch, 0), end = place_of_done(graph, batch, graph->paces);
    for (size_t i = first; i < end; i++) counts[i] = 0;
}

static void add_done(const trnn_graph *graph, int32_t batch, int32_t *counts)
{
    int32_t *done = counts + place_of_done(graph, batch, 0);
    for (int32_t p = 0; p < graph->paces; p++, counts += 2)
        for (int32_t b = 0; b < batch; b++) *done++ += *(counts++ + 2);
}

static void give_frames(const trnn_graph *graph, int32_t axis, int32_t batch, size_t stride, size_t bytes,
                        const int32_t *counts, const char *from, char *to)
{
    const int32_t p = axis - graph->axes - 1;
    const int32_t *frames = counts + (size_t)p * ((size_t)batch + 2) + 2;
    const int32_t *done = counts + place_of_done(graph, batch, p);
    for (int32_t b = 0; b < batch; b++)
        for (int32_t i = 0; i < frames[b]; i++)
            trnn_copy(to + ((size_t)(done[b] + i) * stride + (size_t)b) * bytes,
                      from + ((size_t)i * (size_t)batch + (size_t)b) * bytes, bytes);
}

const trnn_pacing trnn_rates = {rate_axis,   count_paces, clear_done,    add_done,
                                give_frames, read_paces,  rate_is_short, rate_row_steps};
