/* Plans: a net, laid out once, run block by block. This file uses the contract of layers and names no layer.
 *
 * Layers read the caller's x and write the caller's y. Values between layers lie in scratch; one takes the bytes of
 * another that nobody reads any more. A long call runs in blocks of the plan's steps, so scratch does not grow with its
 * length. The bits do not depend on the blocks. The layers of a loop run step by step.
 */
#include "plan.h"

/* The array that a value lies in: scratch, or the caller's at a port. The ports are the inputs, then the outputs. */
enum { IN_SCRATCH = TRNN_IN_SCRATCH, AT_PORT, PORTS = 2 * TRNN_PORTS_MAX };

struct trnn_plan {
    trnn_sizes sizes;
    trnn_graph graph;
    int32_t port[PORTS]; /* the number of the value there */
    int32_t copies;      /* 1: an output is a copy of a value that lies elsewhere */
    size_t counts,
        done; /* bytes into scratch: trnn_paces_bytes each, for a block and for the blocks before it */
    trnn_node nodes[];
};

/* The inputs and outputs. */
static int32_t port_count(const trnn_plan *plan)
{
    return TRNN_WITH_GRAPHS ? plan->sizes.inputs + plan->sizes.outputs : 2;
}

size_t trnn_plan_bytes(const trnn_net *net) { return trnn_net_bytes(net, sizeof(trnn_plan)); }

static int computes(const trnn_layer *layer) { return layer->type->run != NULL; }

/* ---- scratch: the places of values ---------------------------------------------------------------- */

static trnn_place *root_of(trnn_place *places, int32_t v) { return &places[places[v].root]; }

/* A value is needed from the layer that writes it to the last one that reads it; what a loop writes, from the first
 * layer of the loop on; what is made in the first block and read in another, all the time. */
static void find_lives(const trnn_plan *plan, trnn_place *places)
{
    const int32_t count = plan->graph.count, inputs = trnn_input_count(&plan->graph);
    for (int32_t i = 0, first = 0; i < count; i++) {
        const trnn_node *n = &plan->nodes[i];
        trnn_place *own = root_of(places, inputs + i);
        if (trnn_loop_of(n) || !n->looped) first = i;
        if (own->birth < 0 && own->array == IN_SCRATCH) own->birth = first;
        if (own->death < i) own->death = i;
        for (int32_t r = 0; r < trnn_read_count(n); r++) {
            trnn_place *read = root_of(places, n->reads.value[r]);
            const int once = !read->axis || trnn_is_whole(&plan->graph, read->axis);
            const int kept = !plan->graph.full_sequence && once && !read->late && n->turn != TRNN_TURN_FIRST;
            if (kept && read->birth > 0) read->birth = 0;
            if (read->death < i) read->death = kept ? count : i;
        }
    }
}

#define LAST (-1) /* the end of a list of values */

/* Puts value v at the lowest place that is free throughout its life, and into the list of those that have a place, lowest
 * first: what lies before it there cannot be in its way higher up. Returns the list's first value. */
static int32_t place_value(trnn_place *places, int32_t first, int32_t v)
{
    trnn_place *me = &places[v];
    size_t at = 0;
    for (int32_t w = first; w != LAST && places[w].at < trnn_plus(at, me->bytes); w = places[w].after) {
        const int meet = me->birth <= places[w].death && places[w].birth <= me->death;
        if (meet) at = trnn_larger(at, trnn_plus(places[w].at, places[w].bytes));
    }
    me->at = at;
    int32_t *link = &first;
    while (*link != LAST && places[*link].at < at) link = &places[*link].after;
    me->after = *link;
    *link = v;
    return first;
}

/* What comes first in an order: the most bytes, or the most bytes times the layers that need them. */
static size_t urgency(const trnn_place *value, int by_life)
{
    return by_life ? trnn_times(value->bytes, (size_t)(1 + value->death - value->birth)) : value->bytes;
}

/* The list of `count` values from v on that need a place, the most urgent first, of equal ones the first first. */
static int32_t in_order(trnn_place *places, int32_t v, int32_t count, int by_life)
{
    if (count == 1) {
        places[v].after = LAST;
        return places[v].birth < 0 ? LAST : v;
    }
    const int32_t half = count / 2;
    int32_t a = in_order(places, v, half, by_life), b = in_order(places, v + half, count - half, by_life);
    int32_t first, *link = &first;
    while (a != LAST || b != LAST) {
        const int one =
            b == LAST || (a != LAST && urgency(&places[a], by_life) >= urgency(&places[b], by_life));
        int32_t *const from = one ? &a : &b;
        *link = *from;
        link = &places[*from].after;
        *from = *link;
    }
    *link = LAST;
    return first;
}

/* Places all values in scratch in one of the two orders; returns the bytes of all. */
static size_t place_values(trnn_place *places, int32_t count, int by_life)
{
    size_t bytes = 0;
    int32_t first = LAST, next;
    for (int32_t v = in_order(places, 0, count, by_life); v != LAST; v = next) {
        next = places[v].after;
        first = place_value(places, first, v);
        bytes = trnn_larger(bytes, trnn_plus(places[v].at, places[v].bytes));
    }
    return bytes;
}

/* The most bytes that are needed at once; SIZE_MAX if all values together are as many. */
static size_t widest(trnn_place *places, int32_t count)
{
    size_t most = 0, sum = 0, all = 0;
    for (int32_t v = 0; v < count; v++) places[v].step_bytes = 0; /* what is more from moment v on, or less */
    for (int32_t v = 0; v < count; v++) {
        if (places[v].birth < 0) continue;
        all = trnn_plus(all, places[v].bytes);
        places[places[v].birth].step_bytes += places[v].bytes;
        if (places[v].death + 1 < count) places[places[v].death + 1].step_bytes -= places[v].bytes;
    }
    for (int32_t v = 0; v < count; v++) {
        sum += places[v].step_bytes;
        most = trnn_larger(most, sum);
    }
    return all == SIZE_MAX ? all : most;
}

/* Is the value on an axis of another rate? */
static int has_pace(const trnn_plan *plan, const trnn_place *value)
{
    return value->axis > trnn_axis_count(&plan->graph);
}

/* Finds an array and a place in it for each value. An output lies in the caller's y from the start, unless it is an
 * input or another output, too, or its rows get different numbers of frames from a block. */
static void place_all(trnn_plan *plan, trnn_place *places)
{
    const int32_t count = plan->graph.values, inputs = trnn_input_count(&plan->graph);
    for (int32_t v = 0; v < count; v++) {
        places[v].array = v < inputs ? AT_PORT + v : IN_SCRATCH;
        places[v].at = 0;
        places[v].birth = places[v].death = -1;
    }
    for (int32_t p = inputs; p < port_count(plan); p++) {
        trnn_place *root = root_of(places, plan->port[p]);
        plan->copies |= root->array != IN_SCRATCH || has_pace(plan, root);
        if (has_pace(plan, root)) continue;
        if (root->array == IN_SCRATCH) root->array = AT_PORT + p;
    }
    void (*find_views)(const trnn_graph *graph, trnn_node *nodes) = NULL;
    for (int32_t i = 0; TRNN_WITH_GRAPHS && i < plan->graph.count && !find_views; i++)
        find_views = plan->nodes[i].layer.type->views;
    plan->sizes.views = find_views != NULL;
    if (find_views && plan->sizes.batch == 1) find_views(&plan->graph, plan->nodes);
    find_lives(plan, places);
    for (int32_t p = inputs; p < port_count(plan); p++) {
        trnn_place *root = root_of(places, plan->port[p]);
        if (root->array == IN_SCRATCH) root->death = plan->graph.count;
    }
    plan->sizes.widest_bytes = widest(places, count);
    const size_t first = place_values(places, count, 0);
    size_t bytes = first;
    if (bytes > plan->sizes.widest_bytes) bytes = place_values(places, count, 1);
    if (bytes > first) bytes = place_values(places, count, 0);
    plan->sizes.value_bytes = bytes;
    for (int32_t v = 0; v < count; v++) {
        const trnn_place *root = root_of(places, v);
        places[v].array = root->array;
        places[v].step_bytes = (size_t)plan->sizes.batch * root->frame_bytes;
        if (places[v].root != v) places[v].at += root->at;
    }
}

/* ---- a plan ------------------------------------------------------------------------------------------ */

trnn_status trnn_plan_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                           trnn_sizes *sizes)
{
    trnn_plan *plan = memory;
    trnn_graph *graph = &plan->graph;
    trnn_sizes *total = &plan->sizes;
    const trnn_status status = trnn_graph_init(graph, net, batch, steps, computes, plan->nodes);
    if (status != TRNN_OK) return status;

    trnn_place *places = trnn_places(plan->nodes, net->count);
    *total = (trnn_sizes){
        .inputs = net->inputs,
        .outputs = net->outputs,
        .batch = batch,
        .state_bytes = graph->state_bytes,
        .full_sequence = graph->full_sequence,
        .indices = graph->indices,
    };
    for (int32_t a = 0; a < trnn_axis_count(graph); a++) total->steps[a] = steps[a];
    plan->copies = 0;
    for (int32_t p = 0; p < port_count(plan); p++) {
        const int32_t o = p - trnn_input_count(graph), v = o < 0 ? p : net->output[o];
        plan->port[p] = v;
        *(o < 0 ? &total->in[p] : &total->out[o]) = (trnn_value){places[v].frame, places[v].axis};
        total->part_bytes = trnn_plus(total->part_bytes, places[v].bytes);
    }
    place_all(plan, places);
    size_t scratch = 0;
    for (int32_t i = 0; i < net->count; i++) {
        const trnn_node *n = &plan->nodes[i];
        trnn_layer_bytes *const bytes = n->layer.type->scratch;
        if (bytes) scratch = trnn_larger(scratch, bytes(&n->layer, n->in, n->out, batch, n->most));
        const size_t pairs = trnn_times(trnn_frame_size(n->in), trnn_frame_size(n->out));
        const size_t weights = trnn_layer_weights_bytes(&n->layer);
        total->cost = trnn_plus(total->cost, trnn_larger(weights, trnn_times(pairs, sizeof(float))));
    }
    const size_t paces = trnn_paces_bytes(graph, batch);
    plan->counts = trnn_plus(total->value_bytes, trnn_align(scratch));
    total->scratch_bytes = trnn_plus(trnn_plus(plan->counts, paces), paces);
    if (trnn_plus(total->scratch_bytes, total->part_bytes) > PTRDIFF_MAX) return TRNN_E_SIZE;
    *sizes = *total;
    return TRNN_OK;
}

void trnn_plan_adjust(trnn_plan *plan, int32_t i, const trnn_layer *layer)
{
    assert(i >= 0 && i < plan->graph.count);
    plan->nodes[i].layer = *layer;
}

void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers)
{
    assert(layer >= 0 && layer < plan->graph.count);
    *offset = plan->nodes[layer].state;
    *numbers = plan->nodes[layer].state_numbers;
}

int trnn_plan_begins(const trnn_plan *plan, int32_t layer)
{
    assert(layer >= 0 && layer < plan->graph.count);
    return trnn_start_count(&plan->nodes[layer]) > 0;
}

/* ---- run ----------------------------------------------------------------------------------------------- */

/* One block of steps: the arrays, and the steps of each axis. */
typedef struct {
    const trnn_plan *plan;
    const trnn_job *job;
    const trnn_place *places;
    size_t batch, stride; /* rows of a step, ours and the caller's */
    trnn_clock clock;
    char *array[AT_PORT + PORTS];
} block;

/* A value from step t on, if it is one of the axis. */
static char *numbers_of(const block *me, const trnn_place *value, int32_t axis, int32_t t)
{
    char *at = me->array[value->array] + value->at;
    return value->axis == axis ? at + (size_t)t * value->step_bytes : at;
}

/* Runs one layer over `steps` of the block's steps, from t on. */
static void run_layer(const block *me, int32_t i, int32_t t, int32_t steps, void (*run)(const trnn_call *))
{
    const trnn_plan *plan = me->plan;
    const trnn_job *job = me->job;
    const trnn_node *n = &plan->nodes[i];
    const trnn_place *y = &me->places[trnn_input_count(&plan->graph) + i];
    const trnn_place *x = &me->places[n->reads.value[0]];
    const int32_t writer = n->layer.type->source ? n->reads.value[0] - trnn_input_count(&plan->graph) : -1;
    const int32_t start = trnn_start_on(&me->clock, n->axis) + t;
    trnn_read others[TRNN_READS_MAX - 1];
    for (int32_t r = 1; r < trnn_read_count(n); r++) {
        const trnn_place *read = &me->places[n->reads.value[r]];
        const int still = read->axis != n->axis;
        others[r - 1] = (trnn_read){
            .x = (const float *)(void *)numbers_of(me, read, n->axis, t),
            .in = read->frame,
            .still = still,
            .steps = still ? trnn_steps_on(me->clock.steps, read->axis) : steps,
            .lengths = read->axis ? me->clock.lengths[read->axis - 1] : NULL,
        };
    }
    const void *weights[TRNN_PARAMS_MAX];
    for (int32_t p = 0; p < n->slots; p++)
        weights[p] = trnn_node_has(n, p) ? (const char *)job->weights[i] + n->weights[p] : NULL;
    /* Every member is named, else compilers first clear all of the struct, in every step. */
    const trnn_call call = {
        .layer = &n->layer,
        .isa = job->isa,
        .weights = weights,
        .state = job->state + n->state,
        .scratch = (char *)job->scratch + plan->sizes.value_bytes,
        .x = numbers_of(me, x, n->axis, t),
        .y = (float *)(void *)numbers_of(me, y, n->axis, t),
        .state_stride = plan->graph.row_state,
        .in = n->in,
        .out = n->out,
        .steps = steps,
        .batch = plan->sizes.batch,
        .lengths = n->axis ? me->clock.lengths[n->axis - 1] : NULL,
        .start = start,
        .descending = (job->descending + me->clock.start + t) & 1,
        .still = x->axis != n->axis,
        .source = writer < 0 ? NULL : job->state + plan->nodes[writer].state,
        .count = trnn_read_count(n) - 1,
        .others = others,
        .due = trnn_due_on(&plan->graph, &me->clock, y->axis),
    };
    if (trnn_start_count(n) && call.start == 0) trnn_start_run(&call, n->state_numbers);
    run(&call);
}

/* Runs the layers first .. end - 1 of a loop step by step: at each step all of them, then what delays do after them. */
TRNN_NOINLINE void run_loop(const block *me, int32_t first, int32_t end)
{
    const trnn_node *nodes = me->plan->nodes;
    for (int32_t t = 0; t < me->clock.steps[nodes[first].axis - 1]; t++) {
        for (int32_t i = first; i < end; i++)
            if (nodes[i].layer.type->run && !nodes[i].turn) run_layer(me, i, t, 1, nodes[i].layer.type->run);
        for (int32_t i = first; i < end; i++)
            if (nodes[i].layer.type->after) run_layer(me, i, t, 1, nodes[i].layer.type->after);
    }
}

/* Does a layer run in a block without a step of its axis? Its value is one for the sequence, or the padding at the end of
 * the sequence makes frames due. */
static int runs_without(trnn_time time) { return time == TRNN_TIME_REDUCE || time == TRNN_TIME_RATE; }

/* Does a layer that does not run in each block run in this one? */
TRNN_NOINLINE int runs_now(const block *me, int32_t turn)
{
    return turn == TRNN_TURN_FIRST ? me->clock.start == 0 : turn == TRNN_TURN_LAST && me->clock.last;
}

static void run_block(const block *me)
{
    const trnn_graph *graph = &me->plan->graph;
    for (int32_t i = 0; i < graph->count; i++) {
        const trnn_node *n = &me->plan->nodes[i];
        if (n->turn && !runs_now(me, n->turn)) continue;
        if (trnn_loop_of(n)) {
            run_loop(me, i, n->loop);
            i = n->loop - 1;
        } else if (n->layer.type->run) {
            const int32_t steps = trnn_steps_on(me->clock.steps, n->axis);
            if (steps > 0 || runs_without(n->layer.type->time))
                run_layer(me, i, 0, steps, n->layer.type->run);
        }
    }
}

/* The caller's array at a port, at the block's first step. */
static char *theirs(const block *me, int32_t p)
{
    const trnn_place *value = &me->places[me->plan->port[p]];
    const int32_t o = p - trnn_input_count(&me->plan->graph);
    char *at = o < 0 ? (char *)(uintptr_t)me->job->x[p] : (char *)me->job->y[o]; /* x is only read */
    return value->axis == 1 ? at + (size_t)me->clock.start * me->stride * value->frame_bytes : at;
}

/* Copies the steps of a value from one array to another, whose steps are `from_rows` and `to_rows` apart. */
TRNN_NOINLINE void copy_steps(const block *me, const trnn_place *value, const char *from, size_t from_rows,
                              char *to, size_t to_rows)
{
    for (int32_t t = trnn_steps_on(me->clock.steps, value->axis); t > 0; t--) {
        trnn_copy(to, from, me->batch * value->frame_bytes);
        from += from_rows * value->frame_bytes;
        to += to_rows * value->frame_bytes;
    }
}

/* Points at the caller's arrays. If these have other rows between those of the batch, the block has arrays without
 * them, which follow the scratch. */
static void reach_arrays(block *me)
{
    char *part = (char *)me->job->scratch + me->plan->sizes.scratch_bytes;
    for (int32_t p = 0; p < port_count(me->plan); p++) {
        const trnn_place *value = &me->places[me->plan->port[p]];
        char *const at = me->array[AT_PORT + p] = theirs(me, p);
        if (me->stride == me->batch || trnn_steps_on(me->clock.steps, value->axis) == 1) continue;
        if (p < trnn_input_count(&me->plan->graph)) copy_steps(me, value, at, me->stride, part, me->batch);
        me->array[AT_PORT + p] = part;
        part += value->bytes;
    }
}

/* Where a job counts the frames of other rates. */
static int32_t *counts_of(const block *me)
{
    return (int32_t *)(void *)((char *)me->job->scratch + me->plan->counts);
}

/* Copies outputs that lie elsewhere to the caller's arrays. */
static void return_outputs(const block *me)
{
    for (int32_t p = trnn_input_count(&me->plan->graph); p < port_count(me->plan); p++) {
        const trnn_place *value = &me->places[me->plan->port[p]];
        const char *ours = numbers_of(me, value, 0, 0);
        char *const at = theirs(me, p);
        if (has_pace(me->plan, value))
            me->plan->graph.pacing->give(&me->plan->graph, value->axis, me->plan->sizes.batch, me->stride,
                                         value->frame_bytes, counts_of(me), ours, at);
        else if (ours != at)
            copy_steps(me, value, ours, me->batch, at, me->stride);
    }
}

/* ---- jobs ---------------------------------------------------------------------------------------------- */

static trnn_span span_of(const trnn_plan *plan, const trnn_job *job)
{
    return (trnn_span){&plan->graph, plan->nodes, job->state, job->steps, job->lengths, job->ends};
}

int32_t trnn_plan_steps(const trnn_plan *plan, const trnn_job *job, int32_t output, int32_t *lengths)
{
    const trnn_span span = span_of(plan, job);
    return trnn_span_steps(&span, plan->sizes.out[output].axis, plan->sizes.batch, lengths);
}

int32_t trnn_plan_rate(const trnn_plan *plan, int32_t axis, trnn_rate *rate)
{
    const int32_t pace = axis - trnn_axis_count(&plan->graph) - 1;
    if (pace < 0 || pace >= plan->graph.paces) return 0;
    *rate = plan->graph.pace[pace].whole;
    return plan->graph.pace[pace].root;
}

/* Are the indices of all rows and steps in range? */
static int indices_fit(const trnn_plan *plan, const trnn_job *job, const trnn_node *n)
{
    const trnn_value *value = &plan->sizes.in[n->reads.value[0]];
    const int32_t most = n->layer.type->indices(&n->layer);
    const size_t frame = trnn_frame_size(value->frame), row = (size_t)plan->sizes.batch * frame;
    const int32_t *index = job->x[n->reads.value[0]];
    for (int32_t t = trnn_steps_on(job->steps, value->axis); t > 0; t--) {
        for (size_t i = 0; i < row; i++)
            if (index[i] < 0 || index[i] >= most) return 0;
        index += job->stride ? (size_t)job->stride * frame : row;
    }
    return 1;
}

/* Checks all of a job, before anything is written. */
static trnn_status check_job(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_sizes *sizes = &plan->sizes;
    for (int32_t a = 0; a < trnn_axis_count(&plan->graph); a++) {
        const int32_t steps = job->steps[a];
        const int at_once = sizes->full_sequence || a > 0;
        if (!trnn_is_size(steps) || (at_once && steps > sizes->steps[a])) return TRNN_E_STEPS;
        for (int32_t b = 0; job->lengths[a] && b < sizes->batch; b++)
            if (job->lengths[a][b] < 1 || job->lengths[a][b] > steps) return TRNN_E_LENGTHS;
    }
    if (plan->graph.pacing && (job->ends || sizes->full_sequence)) {
        const trnn_span span = span_of(plan, job);
        if (plan->graph.pacing->is_short(&span, sizes->batch, sizes->full_sequence)) return TRNN_E_SHORT;
    }
    if (job->stride && job->stride < sizes->batch) return TRNN_E_ARGUMENT;
    for (int32_t i = 0; sizes->indices && i < plan->graph.count; i++)
        if (plan->nodes[i].layer.type->indices && !indices_fit(plan, job, &plan->nodes[i]))
            return TRNN_E_INDEX;
    return TRNN_OK;
}

trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_status status = check_job(plan, job);
    if (status != TRNN_OK) return status;

    const trnn_graph *graph = &plan->graph;
    const int32_t steps = job->steps[0], most = plan->sizes.steps[0];
    block me;
    me.plan = plan;
    me.job = job;
    me.places = trnn_places(plan->nodes, graph->count);
    me.batch = (size_t)plan->sizes.batch;
    me.stride = job->stride ? (size_t)job->stride : me.batch;
    me.array[IN_SCRATCH] = job->scratch;
    const trnn_pacing *const pacing = graph->pacing;
    trnn_clock *clock = &me.clock;
    clock->ends = job->ends;
    for (int32_t a = 0; a < trnn_axis_count(graph); a++) {
        clock->steps[a] = job->steps[a];
        clock->lengths[a] = job->lengths[a];
    }
    if (pacing) pacing->clear(graph, plan->sizes.batch, counts_of(&me));
    for (clock->start = 0; clock->start < steps; clock->start += most) {
        if (job->poll && clock->start > 0 && job->poll(job->context)) return TRNN_E_INTERRUPTED;
        clock->last = steps - clock->start <= most;
        clock->steps[0] = clock->last ? steps - clock->start : most;
        if (pacing) pacing->count(graph, plan->nodes, job->state, plan->sizes.batch, counts_of(&me), clock);
        reach_arrays(&me);
        run_block(&me);
        if (plan->copies || job->stride) return_outputs(&me);
        if (pacing) pacing->add(graph, plan->sizes.batch, counts_of(&me));
    }
    return TRNN_OK;
}
