/* Training: the forward and the backward pass of a net, layer by layer.
 *
 * The tape holds each value and its gradient, and what each layer keeps for itself. The backward pass is the chain rule,
 * from the last layer to the first:
 *
 *     dx = backward(dy),       dw += gradients(dy, x)
 *
 * The gradient of a value that several layers read is a sum: the first of them in the backward pass writes its term, the
 * others add theirs. The layers of a loop go step by step in both passes.
 *
 * This file uses the contracts of layers and names no layer. The pass through time is layers/bptt.c.
 */
#include "layers/training.h"
#include "plan.h"

struct trnn_training {
    trnn_training_sizes sizes;
    trnn_graph graph;
    size_t counts; /* bytes into the tape: trnn_paces_bytes */
    size_t flags;  /* bytes at the beginning of a part's scratch: which values have a gradient */
    trnn_node nodes[];
};

size_t trnn_training_bytes(const trnn_net *net) { return trnn_net_bytes(net, sizeof(trnn_training)); }

static int goes_back(const trnn_layer *layer)
{
    return !layer->training || layer->training->backward != NULL;
}

/* Takes the next bytes of the tape; their place. */
static size_t take(size_t *tape, size_t bytes)
{
    const size_t place = *tape;
    *tape = trnn_plus(place, trnn_align(bytes));
    return place;
}

/* The first layer of the group that ends before layer `end`: a loop, or one layer. */
static int32_t group_before(const trnn_training *training, int32_t end)
{
    int32_t first = end - 1;
    while (training->nodes[first].looped && training->nodes[first].loop != end) first--;
    return first;
}

/* Notes a layer's term of the gradient of the r-th value that it reads. */
static void note_term(trnn_node *n, int32_t r, trnn_place *values)
{
    const trnn_place *read = &values[n->reads.value[r]];
    trnn_place *root = &values[read->root];
    const int again = n->looped && read->axis != n->axis; /* a term at each step */
    if (root->seen || again) n->adds |= 1u << r;
    if (!root->seen && again) n->clears |= 1u << r;
    root->seen = 1;
}

/* Finds who writes gradients and who adds to them, in the order of the backward pass. */
static void find_terms(trnn_training *training, const trnn_net *net, trnn_place *values)
{
    for (int32_t o = 0; o < net->outputs; o++) values[values[net->output[o]].root].seen = 1;
    for (int32_t first, end = training->graph.count; end > 0; end = first) {
        first = group_before(training, end);
        for (int32_t after = 1; after >= 0; after--)
            for (int32_t i = end - 1; i >= first; i--) {
                trnn_node *n = &training->nodes[i];
                const trnn_layer *layer = &n->layer;
                if (!goes_back(layer) || (layer->type->after != NULL) != after) continue;
                for (int32_t r = trnn_read_count(n) - 1; r >= 0; r--) note_term(n, r, values);
            }
    }
}

/* Bytes for the terms that a layer adds. */
static size_t terms_bytes(const trnn_node *n, const trnn_place *values)
{
    size_t bytes = 0;
    for (int32_t r = 0; r < trnn_read_count(n); r++)
        if (n->adds >> r & 1) bytes = trnn_plus(bytes, values[n->reads.value[r]].bytes);
    return bytes;
}

/* The first value from the r-th on of those that a layer reads whose gradient gets a term; their count: none. */
static int32_t next_term(const trnn_node *n, int32_t r)
{
    while (r < trnn_read_count(n) && !(n->adds >> r & 1)) r++;
    return r;
}

/* Do the terms of two layers lie alike? Then no part writes where another one has its rows, whichever layer each is at. */
static int same_terms(const trnn_node *a, const trnn_node *b, const trnn_place *values)
{
    int32_t r = next_term(a, 0), q = next_term(b, 0);
    for (; r < trnn_read_count(a) && q < trnn_read_count(b);
         r = next_term(a, r + 1), q = next_term(b, q + 1)) {
        const trnn_place *one = &values[a->reads.value[r]], *other = &values[b->reads.value[q]];
        if (one->bytes != other->bytes || one->frame_bytes != other->frame_bytes) return 0;
    }
    return r == trnn_read_count(a) && q == trnn_read_count(b);
}

/* A room for the terms of layer i, or that of a layer before it. */
static size_t take_terms(const trnn_training *training, const trnn_place *values, int32_t i, size_t *tape)
{
    const trnn_node *n = &training->nodes[i];
    for (int32_t j = 0; j < i; j++)
        if (same_terms(&training->nodes[j], n, values)) return training->nodes[j].terms;
    return take(tape, terms_bytes(n, values));
}

/* Where the tape has the steps of each row on an axis of another rate. */
static size_t lengths_on(const trnn_training *training, int32_t axis)
{
    const int32_t pace = axis - trnn_axis_count(&training->graph) - 1;
    if (pace < 0) return SIZE_MAX;
    const size_t before = (size_t)pace * ((size_t)training->sizes.batch + 2) + 2;
    return trnn_plus(training->counts, trnn_times(before, sizeof(int32_t)));
}

/* Gives every value and every layer its place on the tape. */
static trnn_status lay_tape(trnn_training *training, const trnn_net *net, trnn_place *values)
{
    trnn_training_sizes *sizes = &training->sizes;
    const trnn_graph *graph = &training->graph;
    const int32_t batch = sizes->batch;
    size_t tape = 0;
    for (int32_t v = 0; v < graph->values; v++) {
        trnn_place *me = &values[v];
        const trnn_place *root = &values[me->root];
        const int own = me->root == v;
        me->seen = 0;
        me->at = own ? take(&tape, me->bytes) : root->at;
        me->gradient = own ? take(&tape, me->bytes) : root->gradient;
    }
    sizes->stages = 1;
    for (int32_t i = 0; i < graph->count; i++) {
        trnn_node *n = &training->nodes[i];
        const trnn_layer *layer = &n->layer;
        const trnn_layer_training *trains = layer->training;
        if (layer->format != TRNN_F32) return TRNN_E_FORMAT;
        if (!trains) return TRNN_E_TRAINING;
        if (trains->across_batch && n->looped) return TRNN_E_LOOP;
        const trnn_frame in = n->in, out = n->out;
        const int32_t steps = trnn_steps_on(graph->steps, n->axis);
        n->adds = n->clears = 0;
        n->own = take(&tape, trains->tape ? trains->tape(layer, in, out, batch, steps) : 0);
        n->began = take(&tape, trnn_start_count(n) ? (size_t)batch * sizeof(float) : 0);
        trnn_layer_bytes *const scratch = trains->scratch ? trains->scratch : layer->type->scratch;
        if (scratch)
            sizes->scratch_bytes = trnn_larger(sizes->scratch_bytes, scratch(layer, in, out, batch, n->most));
        if (trains->across_batch || (i > 0 && net->layers[i - 1].training->across_batch)) sizes->stages++;
        n->stage = sizes->stages - 1;
    }
    find_terms(training, net, values);
    for (int32_t i = 0; i < graph->count; i++)
        training->nodes[i].terms = take_terms(training, values, i, &tape);
    training->counts = take(&tape, trnn_paces_bytes(graph, batch));
    sizes->tape_bytes = tape;
    for (int32_t i = 0; i < net->inputs; i++) {
        sizes->in[i] = net->input[i];
        sizes->x[i] = values[i].at;
        sizes->dx[i] = values[i].gradient;
    }
    for (int32_t o = 0; o < net->outputs; o++) {
        const trnn_place *value = &values[net->output[o]];
        sizes->out[o] = (trnn_value){value->frame, value->axis};
        sizes->y[o] = value->at;
        sizes->dy[o] = value->gradient;
        sizes->lengths[o] = lengths_on(training, value->axis);
        sizes->out_steps[o] = trnn_steps_on(graph->steps, value->axis);
        for (int32_t other = 0; other < o; other++) /* one gradient cannot come from two places */
            if (sizes->dy[other] == value->gradient) return TRNN_E_GRAPH;
    }
    return TRNN_OK;
}

trnn_status trnn_training_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                               trnn_training_sizes *sizes)
{
    trnn_training *training = memory;
    trnn_graph *graph = &training->graph;
    trnn_training_sizes *total = &training->sizes;
    trnn_status status = trnn_graph_init(graph, net, batch, steps, goes_back, training->nodes);
    if (status != TRNN_OK) return status;

    *total = (trnn_training_sizes){
        .inputs = net->inputs,
        .outputs = net->outputs,
        .batch = batch,
        .indices = graph->indices,
        .state_bytes = graph->state_bytes,
    };
    for (int32_t a = 0; a < trnn_axis_count(graph); a++) total->steps[a] = steps[a];
    status = lay_tape(training, net, trnn_places(training->nodes, net->count));
    if (status != TRNN_OK) return status;
    training->flags = trnn_align((size_t)graph->values);
    total->scratch_bytes = trnn_plus(trnn_align(total->scratch_bytes), training->flags);
    const size_t all = trnn_plus(trnn_plus(total->tape_bytes, total->scratch_bytes), total->state_bytes);
    if (all > PTRDIFF_MAX) return TRNN_E_SIZE;
    *sizes = *total;
    return TRNN_OK;
}

void trnn_training_adjust(trnn_training *training, int32_t i, const trnn_layer *layer)
{
    assert(i >= 0 && i < training->graph.count);
    training->nodes[i].layer = *layer;
}

/* ---- a layer's pass ----------------------------------------------------------------------------- */

/* Which values have a gradient, as flags in the part's scratch: those that depend on weights with gradients, on the
 * input, or on the initial state if that is asked for. */
static const char *find_flags(const trnn_training *training, const trnn_training_job *job)
{
    const trnn_graph *graph = &training->graph;
    char *flags = job->scratch;
    for (int32_t v = 0; v < graph->values; v++) flags[v] = job->to_input != 0;
    for (int changed = !job->to_input; changed;) {
        changed = 0;
        for (int32_t i = 0; i < graph->count; i++) {
            const trnn_reads *reads = &training->nodes[i].reads;
            char *flag = &flags[trnn_input_count(graph) + i];
            int found = job->grads[i] != NULL;
            for (int32_t r = 0; r < reads->count; r++) found |= flags[reads->value[r]];
            if (found && !*flag) *flag = 1, changed = graph->loops;
        }
    }
    return flags;
}

/* A pass of layers, with what is the same for all of them. */
typedef struct {
    const trnn_training *training;
    const trnn_training_job *job;
    const trnn_place *values;
    const char *flags;
    trnn_clock clock;
} walk;

static void set_clock(const trnn_training *training, const trnn_training_job *job, trnn_clock *clock)
{
    clock->start = 0;
    clock->last = 1;
    clock->ends = job->ends;
    for (int32_t a = 0; a < trnn_axis_count(&training->graph); a++) {
        clock->steps[a] = job->steps[a];
        clock->lengths[a] = job->lengths[a];
    }
}

static int32_t *taped_counts(const trnn_training *training, const trnn_training_job *job)
{
    return (int32_t *)(void *)((char *)job->tape + training->counts);
}

static walk training_walk(const trnn_training *training, const trnn_training_job *job)
{
    walk me = {
        .training = training,
        .job = job,
        .values = trnn_places(training->nodes, training->graph.count),
        .flags = find_flags(training, job),
    };
    set_clock(training, job, &me.clock);
    const trnn_pacing *pacing = training->graph.pacing;
    if (pacing) pacing->read(&training->graph, training->sizes.batch, taped_counts(training, job), &me.clock);
    return me;
}

static float *on_tape(const walk *me, size_t place)
{
    return (float *)(void *)((char *)me->job->tape + place);
}

/* Where the layer writes its term of the gradient of the r-th value that it reads; NULL: not needed. */
static float *term_of(const walk *me, const trnn_node *n, int32_t r, size_t *terms)
{
    const trnn_training_sizes *sizes = &me->training->sizes;
    const int32_t v = n->reads.value[r];
    const trnn_place *read = &me->values[v];
    const int32_t root = read->root;
    const size_t place = *terms;
    if (n->adds >> r & 1) *terms += read->bytes;
    if (!me->flags[v] || (root < sizes->inputs && sizes->indices >> root & 1)) return NULL;
    return on_tape(me, n->adds >> r & 1 ? place : read->gradient);
}

/* One layer's pass over all rows and steps. */
TRNN_NOINLINE trnn_pass pass_of(const walk *me, int32_t i)
{
    const trnn_training *training = me->training;
    const trnn_training_job *job = me->job;
    const trnn_node *n = &training->nodes[i];
    const trnn_training_sizes *sizes = &training->sizes;
    const trnn_place *own = &me->values[trnn_input_count(&training->graph) + i];
    const trnn_clock *clock = &me->clock;
    const int32_t axis = n->axis, steps = trnn_steps_on(clock->steps, axis);
    const int32_t writer = me->values[n->reads.value[0]].root - trnn_input_count(&training->graph);
    const size_t source = writer < 0 ? 0 : training->nodes[writer].state;
    char *const weights = job->weights[i], *const grads = (char *)(void *)job->grads[i];
    size_t terms = n->terms;
    trnn_pass pass = {
        .layer = &n->layer,
        .isa = job->isa,
        .state = job->state + n->state,
        .dstate = job->dstate + n->state,
        .state_stride = training->graph.row_state,
        .tape = on_tape(me, n->own),
        .scratch = (char *)job->scratch + training->flags,
        .y = on_tape(me, own->at),
        .dy = on_tape(me, own->gradient),
        .in = n->in,
        .out = n->out,
        .steps = steps,
        .batch = sizes->batch,
        .from = 0,
        .to = steps,
        .rows = sizes->batch,
        .part = job->part,
        .parts = job->parts,
        .lengths = axis ? clock->lengths[axis - 1] : NULL,
        .hidden = job->hidden,
        .seed = {job->seed[0],
                 job->seed[1] + (uint32_t)i * 0x9e3779b9u}, /* another sequence for each layer */
        .source = writer < 0 ? NULL : job->state + source,
        .dsource = writer < 0 ? NULL : job->dstate + source,
        .count = trnn_read_count(n) - 1,
        .due = trnn_due_on(&training->graph, clock, own->axis),
    };
    trnn_pass_read first;
    for (int32_t r = 0; r < trnn_read_count(n); r++) {
        const trnn_place *read = &me->values[n->reads.value[r]];
        const int32_t other = read->axis;
        *(r ? &pass.others[r - 1] : &first) = (trnn_pass_read){
            .x = on_tape(me, read->at),
            .dx = term_of(me, n, r, &terms),
            .in = read->frame,
            .still = other != axis,
            .steps = trnn_steps_on(clock->steps, other),
            .lengths = other ? clock->lengths[other - 1] : NULL,
        };
    }
    pass.x = first.x;
    pass.dx = first.dx;
    pass.still = first.still;
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++) {
        if (!trnn_node_has(n, p)) continue;
        pass.weights[p] = (float *)(void *)(weights + n->weights[p]);
        pass.grads[p] = grads ? (float *)(void *)(grads + n->weights[p]) : NULL;
    }
    return pass;
}

/* The first row of the batch of a part. */
static int32_t first_row(int32_t batch, int32_t part, int32_t parts)
{
    return (int32_t)((int64_t)batch * part / parts);
}

/* Sets the part's rows of the batch. */
static void take_rows(trnn_pass *pass)
{
    pass->first = first_row(pass->batch, pass->part, pass->parts);
    pass->rows = first_row(pass->batch, pass->part + 1, pass->parts) - pass->first;
}

/* The pass over contiguous frames, as one step of so many rows. */
static trnn_pass frames_of(const trnn_pass *pass, size_t first, int32_t frames)
{
    const size_t in = first * trnn_frame_size(pass->in), out = first * trnn_frame_size(pass->out);
    trnn_pass some = *pass;
    some.x = (const float *)pass->x + in; /* an int32 index has the size of a float */
    some.y += out;
    some.dy += out;
    if (some.dx) some.dx += in;
    some.steps = some.to = 1;
    some.from = 0;
    some.batch = some.rows = frames;
    some.first = 0;
    some.lengths = NULL;
    some.frame = first;
    return some;
}

/* Does the part's share of a layer's work, with the frames that its contract asks for (training.h). */
static void work_on_rows(trnn_pass *pass, void (*work)(const trnn_pass *))
{
    const trnn_layer_training *trains = pass->layer->training;
    if (trains->across_batch) {
        if (pass->part == 0) work(pass);
        return;
    }
    take_rows(pass);
    if (pass->rows == 0) return;
    if (trains->sequences) {
        work(pass);
        return;
    }
    const int32_t steps = pass->to - pass->from, whole = pass->rows == pass->batch; /* no gap between steps */
    for (int32_t t = 0; t < (whole ? 1 : steps); t++) {
        const size_t first = (size_t)(pass->from + t) * (size_t)pass->batch + (size_t)pass->first;
        const trnn_pass some = frames_of(pass, first, whole ? steps * pass->rows : pass->rows);
        work(&some);
    }
}

/* ---- check a job -------------------------------------------------------------------------------- */

/* Only indices within the lengths are checked; only these are read. */
static trnn_status check_indices(const trnn_training *training, const trnn_training_job *job)
{
    const trnn_training_sizes *sizes = &training->sizes;
    for (int32_t i = 0; i < training->graph.count; i++) {
        const trnn_node *node = &training->nodes[i];
        if (!node->layer.type->indices) continue;
        const int32_t input = node->reads.value[0];
        const int32_t most = node->layer.type->indices(&node->layer), axis = sizes->in[input].axis;
        const int32_t *const lengths = axis ? job->lengths[axis - 1] : NULL;
        const size_t frame = trnn_frame_size(sizes->in[input].frame);
        for (int32_t b = 0; b < sizes->batch; b++) {
            const int32_t steps = lengths ? lengths[b] : trnn_steps_on(job->steps, axis);
            for (int32_t t = 0; t < steps; t++) {
                const int32_t *index =
                    (const int32_t *)job->x[input] +
                    ((size_t)t * job->x_step[input] + (size_t)b * job->x_row[input]) * frame;
                for (size_t j = 0; j < frame; j++)
                    if (index[j] < 0 || index[j] >= most) return TRNN_E_INDEX;
            }
        }
    }
    return TRNN_OK;
}

/* Frames within the lengths of an axis. */
static int64_t count_frames(const trnn_clock *clock, int32_t axis, int32_t batch)
{
    int64_t frames = 0;
    for (int32_t b = 0; b < batch; b++)
        frames += !axis ? 1 : trnn_row_steps(clock->lengths[axis - 1], b, 0, clock->steps[axis - 1]);
    return frames;
}

trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job)
{
    const trnn_training_sizes *sizes = &training->sizes;
    if (job->parts < 1 || job->part < 0 || job->part >= job->parts) return TRNN_E_ARGUMENT;
    for (int32_t a = 0; a < trnn_axis_count(&training->graph); a++) {
        if (job->steps[a] < 1 || job->steps[a] > sizes->steps[a]) return TRNN_E_STEPS;
        for (int32_t b = 0; job->lengths[a] && b < sizes->batch; b++)
            if (job->lengths[a][b] < 1 || job->lengths[a][b] > job->steps[a]) return TRNN_E_LENGTHS;
    }
    const trnn_graph *graph = &training->graph;
    int32_t *counts = taped_counts(training, job);
    trnn_clock clock;
    set_clock(training, job, &clock);
    if (graph->pacing) graph->pacing->count(graph, training->nodes, job->state, sizes->batch, counts, &clock);
    for (int32_t p = 0; p < graph->paces; p++, counts += sizes->batch + 2)
        if (counts[1] == 0) return TRNN_E_SHORT;
    for (int32_t i = 0; i < training->graph.count; i++) {
        const trnn_node *node = &training->nodes[i];
        const trnn_layer_training *trains = node->layer.training;
        if (!trains->check) continue;
        const trnn_status status =
            trains->check(&node->layer, node->in, count_frames(&clock, node->axis, sizes->batch));
        if (status != TRNN_OK) return status;
    }
    return sizes->indices ? check_indices(training, job) : TRNN_OK;
}

int32_t trnn_training_steps(const trnn_training *training, const trnn_training_job *job, int32_t output,
                            int32_t *lengths)
{
    const trnn_span span = {&training->graph, training->nodes, job->state,
                            job->steps,       job->lengths,    job->ends};
    return trnn_span_steps(&span, training->sizes.out[output].axis, training->sizes.batch, lengths);
}

/* ---- forward pass ------------------------------------------------------------------------------- */

/* Copies the part's rows of an input to the tape. Beyond a row's end it writes zeros, since the caller's numbers there
 * must not reach a gradient. */
static void copy_input(const walk *me, int32_t i)
{
    const trnn_training_job *job = me->job;
    const trnn_place *value = &me->values[i];
    const int32_t axis = value->axis, steps = trnn_steps_on(job->steps, axis);
    const int32_t *const lengths = axis ? job->lengths[axis - 1] : NULL;
    const int32_t batch = me->training->sizes.batch, first = first_row(batch, job->part, job->parts),
                  end = first_row(batch, job->part + 1, job->parts);
    char *to = (char *)job->tape + value->at;
    const char *from = job->x[i];
    const size_t bytes = value->frame_bytes, step = (size_t)batch * bytes;
    const int dense = job->x_row[i] == 1 && (job->x_step[i] == (size_t)batch || steps == 1);
    if (!lengths && end - first == batch && dense) {
        trnn_copy(to, from, (size_t)steps * step);
        return;
    }
    for (int32_t t = 0; t < steps; t++, to += step, from += job->x_step[i] * bytes)
        for (int32_t b = first; b < end; b++)
            if (lengths && lengths[b] <= t)
                trnn_zero(to + (size_t)b * bytes, bytes);
            else
                trnn_copy(to + (size_t)b * bytes, from + (size_t)b * job->x_row[i] * bytes, bytes);
}

/* The forward pass of a layer that has none of its own. */
static void run(const trnn_pass *pass)
{
    const void *weights[TRNN_PARAMS_MAX];
    const trnn_call call = trnn_call_of(pass, weights);
    pass->layer->type->run(&call);
}

/* Runs one layer forwards over the steps from .. to - 1. */
static void layer_forward(const walk *me, int32_t i, int32_t from, int32_t to, int after)
{
    trnn_pass pass = pass_of(me, i);
    const trnn_layer_training *trains = pass.layer->training;
    pass.from = from;
    pass.to = to;
    const trnn_node *n = &me->training->nodes[i];
    if (trnn_start_count(n) && from == 0 && !after) {
        take_rows(&pass);
        trnn_start_forward(&pass, n->state_numbers, on_tape(me, n->began));
    }
    if (after)
        work_on_rows(&pass, trains->after);
    else
        work_on_rows(&pass, trains->forward ? trains->forward : run);
}

void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
{
    const walk me = training_walk(training, job);
    const trnn_node *nodes = training->nodes;
    const int32_t inputs = trnn_input_count(&training->graph);
    for (int32_t i = 0; stage == 0 && i < inputs; i++) copy_input(&me, i);
    for (int32_t i = 0, end; i < training->graph.count; i = end) {
        const trnn_node *node = &nodes[i];
        const int32_t steps = trnn_steps_on(me.clock.steps, node->axis);
        end = trnn_loop_of(node) ? trnn_loop_of(node) : i + 1;
        if (nodes[i].stage != stage) continue;
        for (int32_t n = i; n < end; n++) {
            const trnn_layer_training *trains = nodes[n].layer.training;
            if (!trains->transpose || !me.flags[inputs + n]) continue;
            const trnn_pass pass = pass_of(&me, n);
            trains->transpose(&pass);
        }
        for (int32_t t = 0; t < (trnn_loop_of(node) ? steps : 1); t++) {
            const int32_t from = trnn_loop_of(node) ? t : 0, to = trnn_loop_of(node) ? t + 1 : steps;
            for (int32_t n = i; n < end; n++)
                if (goes_back(&nodes[n].layer)) layer_forward(&me, n, from, to, 0);
            for (int32_t n = i; n < end && trnn_loop_of(node); n++)
                if (nodes[n].layer.type->after) layer_forward(&me, n, from, to, 1);
        }
    }
}

/* ---- backward pass ------------------------------------------------------------------------------ */

/* Visits the part's numbers of a gradient, row by row: adds `from` to them, or sets them to zero if it is NULL. */
static void add_gradient(const trnn_pass *pass, float *to, const float *from, trnn_frame frame,
                         int32_t first_step, int32_t end_step)
{
    const size_t numbers = trnn_frame_size(frame);
    for (int32_t t = first_step; t < end_step; t++) {
        const size_t at = ((size_t)t * (size_t)pass->batch + (size_t)pass->first) * numbers;
        const size_t count = (size_t)pass->rows * numbers;
        if (!from) {
            trnn_zero(to + at, count * sizeof(float));
            continue;
        }
        for (size_t j = at; j < at + count; j++) to[j] += from[j];
    }
}

/* Adds the layer's terms to gradients, or clears the gradients that it is the first to add to: those of the values in
 * `which`, bits. */
static void add_terms(const walk *me, const trnn_node *n, const trnn_pass *pass, uint32_t which, int clear)
{
    trnn_pass mine = *pass;
    if (!pass->layer->training->across_batch)
        take_rows(&mine);
    else if (pass->part > 0)
        return;
    for (int32_t r = 0; r < trnn_read_count(n); r++) {
        const trnn_pass_read *other = r ? &pass->others[r - 1] : NULL;
        const trnn_place *read = &me->values[n->reads.value[r]];
        const float *term = r ? other->dx : pass->dx;
        if (!(which >> r & 1) || !term) continue;
        const int32_t axis = read->axis, all = trnn_steps_on(me->clock.steps, axis);
        const int still = axis != n->axis;
        add_gradient(&mine, on_tape(me, read->gradient), clear ? NULL : term, read->frame,
                     still ? 0 : pass->from, still ? all : pass->to);
    }
}

static void layer_backward(const walk *me, int32_t i, int32_t from, int32_t to, int after)
{
    const trnn_node *n = &me->training->nodes[i];
    const trnn_layer_training *trains = n->layer.training;
    const int delays = n->layer.type->after != NULL;
    trnn_pass pass = pass_of(me, i);
    if (n->clears && to == pass.steps && after == delays) add_terms(me, n, &pass, n->clears, 1);
    pass.from = from;
    pass.to = to;
    work_on_rows(&pass, after ? trains->after_backward : trains->backward);
    if (trnn_start_count(n) && !after) trnn_start_backward(&pass, on_tape(me, n->began));
    const uint32_t written = after    ? 1u
                             : delays ? ~1u
                                      : ~0u; /* a delay's value first, then what it began with */
    if (n->adds & written) add_terms(me, n, &pass, n->adds & written, 0);
}

void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
{
    const walk me = training_walk(training, job);
    const trnn_node *nodes = training->nodes;
    const char *active = me.flags + trnn_input_count(&training->graph);
    for (int32_t first, end = training->graph.count; end > 0; end = first) {
        first = group_before(training, end);
        const trnn_node *node = &nodes[first];
        const int32_t steps = trnn_steps_on(me.clock.steps, node->axis);
        if (nodes[first].stage != stage) continue;
        for (int32_t t = trnn_loop_of(node) ? steps - 1 : 0; t >= 0; t--) {
            const int32_t from = trnn_loop_of(node) ? t : 0, to = trnn_loop_of(node) ? t + 1 : steps;
            for (int32_t i = end - 1; i >= first && trnn_loop_of(node); i--)
                if (nodes[i].layer.type->after && active[i]) layer_backward(&me, i, from, to, 1);
            for (int32_t i = end - 1; i >= first; i--)
                if (goes_back(&nodes[i].layer) && active[i]) layer_backward(&me, i, from, to, 0);
        }
    }
}

void trnn_gradients(const trnn_training *training, const trnn_training_job *job)
{
    const walk me = training_walk(training, job);
    for (int32_t i = training->graph.count - 1; i >= 0; i--) {
        if (!job->grads[i] || !training->nodes[i].layer.training->gradients) continue;
        const trnn_pass pass = pass_of(&me, i);
        const trnn_layer_training *trains = pass.layer->training;
        const trnn_pass all = frames_of(&pass, 0, pass.steps * pass.batch);
        trains->gradients(trains->sequences || trains->across_batch ? &pass : &all);
    }
}

const float *trnn_training_hidden(const trnn_training *training, const trnn_training_job *job, int32_t i,
                                  int32_t *steps)
{
    const walk me = training_walk(training, job);
    const trnn_pass pass = pass_of(&me, i);
    *steps = pass.steps;
    return pass.dy;
}

void trnn_rows_add(float *sum, const float *rows, size_t stride, int32_t batch, int32_t count)
{
    for (int32_t b = 0; b < batch; b++, rows += stride)
        for (int32_t i = 0; i < count; i++) sum[i] += rows[i];
}
