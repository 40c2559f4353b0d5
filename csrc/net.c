/* Plans: a net, laid out once, run block by block. This file uses the contract of layers and names no layer.
 *
 * Layers read the caller's x and write the caller's y. Values between layers lie in scratch; one takes the bytes of
 * another that nobody reads any more. A long call runs in blocks of the plan's steps, so scratch does not grow with its
 * length. The bits do not depend on the blocks. The layers of a loop run step by step.
 */
#include "plan.h"

/* The array that a value lies in. */
enum { IN_SCRATCH, IN_X, IN_Y = IN_X + TRNN_PORTS_MAX, ARRAYS = IN_Y + TRNN_PORTS_MAX };

typedef struct {
    trnn_place value;
    int32_t array;
    size_t at;            /* bytes into it */
    size_t bytes;         /* in scratch; 0: none of its own there */
    int32_t birth, death; /* the moments between which its numbers are needed: see time_of */
    int32_t next;         /* the next one in scratch, in ascending order of place; -1: none */
} planned;

struct trnn_plan {
    trnn_sizes sizes;
    trnn_graph graph;
    uint32_t copied; /* bit o: the o-th output is a copy of a value that lies elsewhere */
    int32_t output[TRNN_PORTS_MAX];
    trnn_node nodes[];
};

static const planned *values_of(const trnn_plan *plan)
{
    return (const planned *)(const void *)(plan->nodes + plan->graph.count);
}

size_t trnn_plan_bytes(const trnn_net *net)
{
    return trnn_net_bytes(net, sizeof(trnn_plan), sizeof(trnn_node), sizeof(planned));
}

static int computes(const trnn_layer *layer) { return layer->type->run != NULL; }

/* ---- scratch: the places of values ---------------------------------------------------------------- */

/* Layers run in the order of their turns, then of their numbers. */
static int32_t time_of(const trnn_plan *plan, int32_t i)
{
    return plan->nodes[i].turn * plan->graph.count + i;
}

/* A value is needed from the layer that writes it to the last one that reads it. What a loop reads or writes is needed
 * throughout the loop, and what is made before the first block until the last. */
static void find_lives(trnn_plan *plan, planned *values)
{
    const int32_t count = plan->graph.count, inputs = plan->graph.inputs;
    for (int32_t i = 0, loop = 0, first = 0; i < count; i++) {
        const trnn_node *n = &plan->nodes[i];
        if (n->loop) first = i, loop = n->loop;
        const int32_t begin = time_of(plan, i < loop ? first : i),
                      end = time_of(plan, i < loop ? loop - 1 : i);
        const int32_t own = values[inputs + i].value.root;
        if (own == inputs + i) values[own].birth = begin;
        if (values[own].death < end) values[own].death = end;
        for (int32_t r = 0; r < n->reads.count; r++) {
            planned *read = &values[values[n->reads.value[r]].value.root];
            int32_t last = end;
            if (read->value.axis == 0 && n->axis && !plan->sizes.full_sequence) /* again in the next block */
                last = TRNN_TURN_BLOCK * count + count - 1;
            if (read->death < last) read->death = last;
        }
    }
}

static int meet(const planned *one, const planned *other)
{
    return one->birth <= other->death && other->birth <= one->death;
}

/* Gives one value the lowest place that is free throughout its life; `*first` begins the list of those that have one. */
static void place(planned *values, int32_t *first, int32_t v)
{
    planned *me = &values[v];
    size_t at = 0;
    int32_t *link = first;
    for (int32_t other = *first; other >= 0; other = values[other].next) {
        if (!meet(me, &values[other])) continue;
        if (values[other].at >= trnn_plus(at, me->bytes)) break;
        at = trnn_larger(at, trnn_plus(values[other].at, values[other].bytes));
    }
    me->at = at;
    while (*link >= 0 && values[*link].at < at) link = &values[*link].next;
    me->next = *link;
    *link = v;
}

/* Places all values, the largest first or the earliest first; returns the bytes of all. */
static size_t place_values(planned *values, int32_t count, int by_size)
{
    size_t bytes = 0;
    int32_t first = -1;
    for (int32_t v = 0; v < count; v++) values[v].next = -2; /* not placed */
    for (;;) {
        int32_t best = -1;
        for (int32_t v = 0; v < count; v++) {
            if (!values[v].bytes || values[v].next != -2) continue;
            if (best < 0 ||
                (by_size ? values[v].bytes > values[best].bytes : values[v].birth < values[best].birth))
                best = v;
        }
        if (best < 0) return bytes;
        place(values, &first, best);
        bytes = trnn_larger(bytes, trnn_plus(values[best].at, values[best].bytes));
    }
}

/* The most bytes that are needed at once. */
static size_t widest(const planned *values, int32_t count)
{
    size_t most = 0;
    for (int32_t v = 0; v < count; v++) {
        size_t sum = 0;
        for (int32_t w = 0; values[v].bytes && w < count; w++)
            if (values[w].bytes && values[w].birth <= values[v].birth && values[v].birth <= values[w].death)
                sum = trnn_plus(sum, values[w].bytes);
        most = trnn_larger(most, sum);
    }
    return most;
}

/* An output lies in the caller's y from the start, unless it is an input or another output, too. */
static void place_outputs(trnn_plan *plan, planned *values)
{
    for (int32_t o = 0; o < plan->sizes.outputs; o++) {
        planned *root = &values[values[plan->output[o]].value.root];
        if (root->array == IN_SCRATCH) {
            root->array = IN_Y + o;
            root->bytes = 0;
        } else {
            plan->copied |= 1u << o;
        }
    }
}

static void place_all(trnn_plan *plan, planned *values)
{
    const trnn_graph *graph = &plan->graph;
    const int32_t count = graph->values;
    trnn_sizes *sizes = &plan->sizes;
    for (int32_t v = 0; v < count; v++) {
        planned *me = &values[v];
        me->array = v < graph->inputs ? IN_X + v : IN_SCRATCH;
        me->at = me->bytes = 0;
        me->birth = me->death = -1;
        if (v >= graph->inputs && me->value.root == v)
            me->bytes = trnn_align(
                trnn_frames_bytes(trnn_frames_of(&me->value, sizes->batch, sizes->steps), me->value.frame));
    }
    place_outputs(plan, values);
    find_lives(plan, values);
    sizes->widest_bytes = widest(values, count);
    sizes->value_bytes = place_values(values, count, 1);
    if (sizes->value_bytes > sizes->widest_bytes) {
        const size_t other = place_values(values, count, 0);
        sizes->value_bytes = other < sizes->value_bytes ? other : place_values(values, count, 1);
    }
    for (int32_t v = 0; v < count; v++) {
        const planned *root = &values[values[v].value.root];
        values[v].array = root->array;
        values[v].at = root->at;
    }
}

/* ---- a plan ------------------------------------------------------------------------------------------ */

trnn_status trnn_plan_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                           trnn_sizes *sizes)
{
    trnn_plan *plan = memory;
    planned *values = (planned *)(void *)(plan->nodes + (net->count < 0 ? 0 : net->count));
    trnn_graph graph;
    const trnn_status status = trnn_graph_init(&graph, net, batch, steps, computes, plan->nodes,
                                               sizeof(trnn_node), values, sizeof(planned));
    if (status != TRNN_OK) return status;

    *plan = (trnn_plan){.graph = graph};
    trnn_sizes *total = &plan->sizes;
    *total = (trnn_sizes){
        .inputs = net->inputs,
        .outputs = net->outputs,
        .batch = batch,
        .full_sequence = graph.full_sequence,
        .indices = graph.indices,
    };
    for (int32_t a = 0; a < graph.axes; a++) total->steps[a] = steps[a];
    for (int32_t i = 0; i < net->inputs; i++) {
        total->in[i] = net->input[i];
        total->part_bytes = trnn_plus(
            total->part_bytes, trnn_align(trnn_frames_bytes(trnn_frames_of(&values[i].value, batch, steps),
                                                            net->input[i].frame)));
    }
    for (int32_t o = 0; o < net->outputs; o++) {
        const trnn_place *value = &values[net->output[o]].value;
        plan->output[o] = net->output[o];
        total->out[o] = (trnn_value){value->frame, value->axis};
        total->part_bytes =
            trnn_plus(total->part_bytes,
                      trnn_align(trnn_frames_bytes(trnn_frames_of(value, batch, steps), value->frame)));
    }
    size_t layer_bytes = 0;
    for (int32_t i = 0; i < net->count; i++) {
        const trnn_node *n = &plan->nodes[i];
        if (n->layer.type->scratch)
            layer_bytes = trnn_larger(layer_bytes, n->layer.type->scratch(&n->layer, n->in, n->out, batch,
                                                                          n->axis ? steps[n->axis - 1] : 1));
    }
    place_all(plan, values);
    total->state_bytes = trnn_times(trnn_align(graph.state_bytes), (size_t)batch);
    total->scratch_bytes = trnn_plus(total->value_bytes, trnn_align(layer_bytes));
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

/* ---- run ----------------------------------------------------------------------------------------------- */

/* One block of steps: the arrays, the steps of each axis, and how many ran before. */
typedef struct {
    const trnn_plan *plan;
    const trnn_job *job;
    const planned *values;
    int32_t steps[TRNN_AXES_MAX];
    int32_t start;
    char *array[ARRAYS];
} block;

/* A value from step t on, if it is one of the axis. */
static char *numbers_of(const block *me, int32_t v, int32_t axis, int32_t t)
{
    const planned *p = &me->values[v];
    char *at = me->array[p->array] + p->at;
    if (t > 0 && p->value.axis == axis)
        at += (size_t)t * trnn_frames_bytes((size_t)me->plan->sizes.batch, p->value.frame);
    return at;
}

/* The state of the layer that wrote a value; NULL for a net's input. */
static const float *source_of(const block *me, int32_t v)
{
    const int32_t writer = me->values[v].value.root - me->plan->graph.inputs;
    return writer < 0 ? NULL : me->job->state + me->plan->nodes[writer].state;
}

/* Runs one layer over `steps` of the block's steps, from t on. */
static inline void run_layer(const block *me, int32_t i, int32_t t, int32_t steps,
                             void (*run)(const trnn_call *))
{
    const trnn_plan *plan = me->plan;
    const trnn_job *job = me->job;
    const trnn_node *n = &plan->nodes[i];
    const int32_t first = n->reads.value[0], inputs = plan->graph.inputs, count = n->reads.count;
    trnn_read others[TRNN_READS_MAX];
    trnn_call call = {
        .layer = &n->layer,
        .isa = job->isa,
        .state = job->state + n->state,
        .scratch = (char *)job->scratch + plan->sizes.value_bytes,
        .x = numbers_of(me, first, n->axis, t),
        .y = (float *)(void *)numbers_of(me, inputs + i, n->axis, t),
        .state_stride = plan->sizes.state_bytes / sizeof(float) / (size_t)plan->sizes.batch,
        .in = n->in,
        .out = n->out,
        .steps = steps,
        .batch = plan->sizes.batch,
        .lengths = n->axis ? job->lengths[n->axis - 1] : NULL,
        .start = me->start + t,
        .descending = (job->descending + me->start + t) & 1,
        .still = me->values[first].value.axis != n->axis,
        .source = source_of(me, first),
        .count = count - 1,
        .others = others,
    };
    for (int32_t r = 1; r < count; r++) {
        const int32_t v = n->reads.value[r];
        const trnn_place *value = &me->values[v].value;
        others[r - 1] = (trnn_read){
            .x = (const float *)(void *)numbers_of(me, v, n->axis, t),
            .in = value->frame,
            .still = value->axis != n->axis,
            .steps = value->axis == n->axis ? steps
                     : value->axis          ? me->steps[value->axis - 1]
                                            : 1,
            .lengths = value->axis ? job->lengths[value->axis - 1] : NULL,
        };
    }
    for (int32_t p = 0; p < n->slots; p++)
        call.weights[p] = trnn_node_has(n, p) ? (const char *)job->weights[i] + n->weights[p] : NULL;
    run(&call);
}

/* Runs the layers of a loop, step by step. */
static void run_loop(const block *me, int32_t first, int32_t end)
{
    const trnn_node *nodes = me->plan->nodes;
    const int32_t steps = me->steps[nodes[first].axis - 1];
    for (int32_t t = 0; t < steps; t++) {
        for (int32_t i = first; i < end; i++)
            if (nodes[i].layer.type->run) run_layer(me, i, t, 1, nodes[i].layer.type->run);
        for (int32_t i = first; i < end; i++)
            if (nodes[i].layer.type->after) run_layer(me, i, t, 1, nodes[i].layer.type->after);
    }
}

static void run_turn(const block *me, int32_t turn)
{
    const trnn_plan *plan = me->plan;
    for (int32_t i = 0; i < plan->graph.count; i++) {
        const trnn_node *n = &plan->nodes[i];
        if (n->turn != turn) continue;
        if (n->loop) {
            run_loop(me, i, n->loop);
            i = n->loop - 1;
        } else if (n->layer.type->run) {
            run_layer(me, i, 0, n->axis ? me->steps[n->axis - 1] : 1, n->layer.type->run);
        }
    }
}

/* Copies the outputs that lie elsewhere. */
static void copy_outputs(const block *me, int per_step)
{
    const trnn_sizes *sizes = &me->plan->sizes;
    for (int32_t o = 0; o < sizes->outputs; o++) {
        const trnn_place *value = &me->values[me->plan->output[o]].value;
        if (!(me->plan->copied >> o & 1) || (value->axis != 0) != per_step) continue;
        const size_t frames = trnn_frames_of(value, sizes->batch, me->steps);
        trnn_copy(me->array[IN_Y + o], numbers_of(me, me->plan->output[o], 0, 0),
                  trnn_frames_bytes(frames, value->frame));
    }
}

/* `steps` rows of `bytes`, from rows `from_stride` bytes apart to rows `to_stride` apart. */
static void copy_rows(int32_t steps, size_t bytes, const char *from, size_t from_stride, char *to,
                      size_t to_stride)
{
    for (int32_t t = 0; t < steps; t++, from += from_stride, to += to_stride) trnn_copy(to, from, bytes);
}

/* Points at the caller's arrays at the block's first step. If these have other rows between those of the batch, the
 * block has copies without them: they follow the scratch. `back` copies the outputs to the caller. */
static void reach_arrays(block *me, int back)
{
    const trnn_sizes *sizes = &me->plan->sizes;
    const trnn_job *job = me->job;
    const size_t batch = (size_t)sizes->batch, stride = job->stride ? (size_t)job->stride : batch;
    char *part = (char *)job->scratch + sizes->scratch_bytes;
    for (int32_t p = 0; p < sizes->inputs + sizes->outputs; p++) {
        const int32_t o = p - sizes->inputs;
        const trnn_value *value = o < 0 ? &sizes->in[p] : &sizes->out[o];
        const size_t bytes = trnn_frames_bytes(1, value->frame);
        const int32_t steps = value->axis ? me->steps[value->axis - 1] : 1;
        char *theirs = o < 0 ? (char *)(uintptr_t)job->x[p] : (char *)(void *)job->y[o]; /* x is only read */
        if (value->axis) theirs += (size_t)me->start * stride * bytes;
        char **ours = &me->array[o < 0 ? IN_X + p : IN_Y + o];
        if (stride == batch || steps == 1 || !value->axis) {
            *ours = theirs;
            continue;
        }
        if (o < 0 && !back) copy_rows(steps, batch * bytes, theirs, stride * bytes, part, batch * bytes);
        if (o >= 0 && back) copy_rows(steps, batch * bytes, part, batch * bytes, theirs, stride * bytes);
        *ours = part;
        part += trnn_align(batch * bytes * (size_t)(value->axis ? sizes->steps[value->axis - 1] : 1));
    }
}

/* Checks all of a job, before anything is written. */
static trnn_status check_indices(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_sizes *sizes = &plan->sizes;
    for (int32_t n = 0; n < plan->graph.count; n++) {
        const trnn_node *node = &plan->nodes[n];
        if (!node->layer.type->indices) continue;
        const int32_t input = values_of(plan)[node->reads.value[0]].value.root;
        const trnn_value *value = &sizes->in[input];
        const int32_t most = node->layer.type->indices(&node->layer);
        const int32_t steps = value->axis ? job->steps[value->axis - 1] : 1;
        const size_t frame = trnn_frame_size(value->frame), row = (size_t)sizes->batch * frame;
        const size_t stride = job->stride ? (size_t)job->stride * frame : row;
        const int32_t *index = job->x[input];
        for (int32_t t = 0; t < steps; t++, index += stride)
            for (size_t i = 0; i < row; i++)
                if (index[i] < 0 || index[i] >= most) return TRNN_E_INDEX;
    }
    return TRNN_OK;
}

static trnn_status check_job(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_sizes *sizes = &plan->sizes;
    for (int32_t a = 0; a < plan->graph.axes; a++) {
        const int32_t steps = job->steps[a];
        if (steps < 1 || steps > TRNN_SIZE_MAX || (sizes->full_sequence && steps > sizes->steps[a]))
            return TRNN_E_STEPS;
        if (!job->lengths[a]) continue;
        for (int32_t b = 0; b < sizes->batch; b++)
            if (job->lengths[a][b] < 1 || job->lengths[a][b] > steps) return TRNN_E_LENGTHS;
    }
    if (job->stride < 0 || (job->stride > 0 && job->stride < sizes->batch)) return TRNN_E_ARGUMENT;
    return sizes->indices ? check_indices(plan, job) : TRNN_OK;
}

trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_status status = check_job(plan, job);
    if (status != TRNN_OK) return status;

    const trnn_graph *graph = &plan->graph;
    const int32_t steps = job->steps[0], most = plan->sizes.steps[0];
    block me = {.plan = plan, .job = job, .values = values_of(plan)};
    me.array[IN_SCRATCH] = job->scratch;
    for (int32_t a = 0; a < graph->axes; a++) me.steps[a] = job->steps[a];
    for (int32_t start = 0; start < steps; start += most) {
        if (job->poll && start > 0 && job->poll(job->context)) return TRNN_E_INTERRUPTED;
        me.start = start;
        me.steps[0] = steps - start < most ? steps - start : most;
        reach_arrays(&me, 0);
        if (start == 0 && graph->turns >> TRNN_TURN_FIRST & 1) run_turn(&me, TRNN_TURN_FIRST);
        run_turn(&me, TRNN_TURN_BLOCK);
        if (start + most >= steps && graph->turns >> TRNN_TURN_LAST & 1) run_turn(&me, TRNN_TURN_LAST);
        if (plan->copied) {
            copy_outputs(&me, 1);
            if (start + most >= steps) copy_outputs(&me, 0);
        }
        if (job->stride) reach_arrays(&me, 1);
    }
    return TRNN_OK;
}
