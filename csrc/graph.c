/* A net, walked once: what each layer reads and writes, on which axis of time, in which turn. net.c and train.c lay out memory for what this file finds. It uses the contract of layers and names no layer. */
#include "plan.h"

trnn_net trnn_chain(const trnn_layer *layers, int32_t count, trnn_frame frame)
{
    return (trnn_net){
        .layers = layers,
        .count = count,
        .reads = NULL,
        .inputs = 1,
        .outputs = 1,
        .input = {{frame, 1}},
        .output = {count},
    };
}

/* A net that is being walked. */
typedef struct {
    const trnn_net *net;
    int32_t batch;
    trnn_graph *graph;
    trnn_node *nodes;
    trnn_place *places;
} walk;

static trnn_place *read_by(const walk *me, const trnn_node *node, int32_t r)
{
    return &me->places[node->reads.value[r]];
}

static int is_port_count(int32_t count) { return count >= 1 && count <= TRNN_PORTS_MAX; }

static trnn_status check_net(const trnn_net *net, int32_t batch, const int32_t *steps, int32_t *axes)
{
    if (!TRNN_WITH_GRAPHS && (net->reads || net->inputs != 1 || net->outputs != 1 || net->input[0].axis != 1))
        return TRNN_E_LEFT_OUT;
    if (!trnn_is_size(net->count) || !is_port_count(net->inputs) || !is_port_count(net->outputs) ||
        !trnn_is_size(batch))
        return TRNN_E_ARGUMENT;
    *axes = 1;
    for (int32_t i = 0; i < net->inputs; i++) {
        const trnn_value *input = &net->input[i];
        if (!trnn_is_frame(input->frame) || input->axis < 0 || input->axis > TRNN_AXES_MAX)
            return TRNN_E_ARGUMENT;
        if (input->axis > *axes) *axes = input->axis;
    }
    for (int32_t a = 0; a < *axes; a++)
        if (!trnn_is_size(steps[a])) return TRNN_E_ARGUMENT;
    return TRNN_OK;
}

static trnn_status take_sizes(const walk *me, trnn_place *value)
{
    const size_t steps = (size_t)trnn_steps_on(me->graph->steps, value->axis),
                 frames = trnn_times((size_t)me->batch, steps);
    value->frame_bytes = trnn_times(trnn_frame_size(value->frame), sizeof(float));
    value->bytes = trnn_align(trnn_times(frames, value->frame_bytes));
    const int fits =
        value->bytes <= PTRDIFF_MAX && trnn_times(frames, trnn_frame_rows(value->frame)) <=
                                           (size_t)TRNN_SIZE_MAX; /* products count rows in an int32 */
    return fits ? TRNN_OK : TRNN_E_SIZE;
}

/* The values that the layer reads. Only a delay may read one that is not there yet. */
static trnn_status take_reads(const walk *me, int32_t i, trnn_node *node)
{
    const trnn_net *net = me->net;
    const trnn_layer_type *type = node->layer.type;
    const int32_t own = trnn_input_count(me->graph) + i;
    node->reads = net->reads ? net->reads[i] : (trnn_reads){1, {own - 1}};
    const int32_t count = trnn_read_count(node);
    if (count < 1 || count > (type->join || type->start || type->masks ? TRNN_READS_MAX : 1))
        return TRNN_E_GRAPH;
    for (int32_t r = 0; r < count; r++) {
        const int32_t value = node->reads.value[r];
        if (value < 0 || value >= (type->after && r == 0 ? me->graph->values : own)) return TRNN_E_GRAPH;
        me->places[value].uses++;
        if (node->layer.type->indices) me->places[value].lookups++;
    }
    return TRNN_OK;
}

static trnn_status take_frames(const walk *me, trnn_node *node)
{
    const trnn_layer *layer = &node->layer;
    trnn_frame in[TRNN_READS_MAX];
    for (int32_t r = 0; r < trnn_read_count(node); r++) in[r] = read_by(me, node, r)->frame;
    const trnn_status status = TRNN_WITH_GRAPHS && layer->type->join
                                   ? layer->type->join(layer, in, trnn_read_count(node), &node->out)
                                   : layer->type->frame(layer, in[0], &node->out);
    node->in = layer->type->after ? node->out : in[0];
    return status;
}

/* What a layer reads beside its own value: a mask, which only a value on an axis of time can be; and the values that its
 * state begins with, all of them or none, one frame for the sequence each. */
static trnn_status take_starts(const walk *me, trnn_node *node)
{
    const trnn_layer *layer = &node->layer;
    const int32_t more = trnn_read_count(node) - 1;
    if (!TRNN_WITH_GRAPHS || layer->type->join) return TRNN_OK;
    const int masked = layer->type->masks && more > 0 && read_by(me, node, 1)->axis;
    if (masked && trnn_frame_size(read_by(me, node, 1)->frame) != 1) return TRNN_E_SHAPE;
    node->starts = layer->type->start ? more - masked : 0;
    int32_t r = 0;
    trnn_start_part part;
    for (; node->starts && layer->type->start(layer, r, 0, &part); r++) {
        if (r == node->starts) return TRNN_E_GRAPH;
        const trnn_place *read = read_by(me, node, 1 + masked + r);
        if (read->axis) return TRNN_E_TIME;
        const size_t numbers = trnn_frame_size(read->frame);
        for (int32_t p = 0; layer->type->start(layer, r, p, &part); p++)
            if (numbers % part.size || trnn_plus(part.value, part.size) > numbers) return TRNN_E_SHAPE;
    }
    return r + masked == more ? TRNN_OK : TRNN_E_GRAPH;
}

/* A layer that reads the state of another reads what that wrote itself, not an input or a copy under another frame. */
static trnn_status check_source(const walk *me, const trnn_node *node)
{
    const trnn_layer *layer = &node->layer;
    const int32_t writer = node->reads.value[0] - trnn_input_count(me->graph);
    if (!layer->type->source) return TRNN_OK;
    return writer < 0 ? TRNN_E_GRAPH : layer->type->source(layer, &me->nodes[writer].layer);
}

/* The axis of the value that the layer writes, as far as it follows from those of the values that it reads; -1: not yet
 * known. */
static int32_t axis_written(const walk *me, int32_t i)
{
    const trnn_node *node = &me->nodes[i];
    const trnn_time time = node->layer.type->time;
    const int32_t count = trnn_read_count(node); /* what a state begins with is on no axis */
    int32_t found = read_by(me, node, 0)->axis;
    if (time == TRNN_TIME_REDUCE) return 0;
    if (time == TRNN_TIME_RATE && found > 0) {
        me->graph->pacing = node->layer.type->pacing;
        return me->graph->pacing->axis(me->graph, &node->layer, i, found);
    }
    if (time == TRNN_TIME_SPREAD) return count > 1 ? read_by(me, node, count - 1)->axis : 1;
    for (int32_t r = 1; r < count && time != TRNN_TIME_ATTEND; r++) {
        const int32_t other = read_by(me, node, r)->axis;
        const int unknown = time == TRNN_TIME_MIX && other < 0; /* it may be on the axis */
        if (found < 0 ? other > 0 : found == 0 && (other > 0 || unknown)) found = other;
    }
    return found;
}

/* Finds the axis of each value that a delay reads before it is written. A loop on no axis has axis 1. */
static void find_axes(const walk *me)
{
    trnn_place *const written = me->places + trnn_input_count(me->graph);
    for (int changed = 1; changed;) {
        changed = 0;
        for (int32_t i = 0; i < me->graph->count; i++) {
            if (written[i].axis >= 0) continue;
            written[i].axis = axis_written(me, i);
            changed |= written[i].axis >= 0;
        }
    }
    for (int32_t i = 0; i < me->graph->count; i++) {
        if (written[i].axis < 0) written[i].axis = axis_written(me, i);
        if (written[i].axis < 0) written[i].axis = 1;
    }
}

/* The axis that the layer runs over, when it writes on axis `own`. */
static trnn_status take_axis(const walk *me, trnn_node *node, int32_t own)
{
    const trnn_layer_type *type = node->layer.type;
    const int32_t count = trnn_read_count(node) - trnn_start_count(node), first = read_by(me, node, 0)->axis;
    int32_t axis = first;
    for (int32_t r = 1; r < count && type->time == TRNN_TIME_MIX && !axis; r++)
        axis = read_by(me, node, r)->axis;
    if (type->time == TRNN_TIME_SPREAD) {
        axis = count > 1 ? read_by(me, node, count - 1)->axis : 1;
        if (first || !axis) return TRNN_E_TIME;
    }
    for (int32_t r = 0; r < count; r++) {
        const int32_t other = read_by(me, node, r)->axis;
        int fits = other == axis || (type->time != TRNN_TIME_KEEP && !other);
        if (type->time == TRNN_TIME_ATTEND && r > 0) fits = other == read_by(me, node, 1)->axis;
        if (!fits) return TRNN_E_TIME;
    }
    node->axis = axis;
    if (type->time == TRNN_TIME_RATE && axis && own <= trnn_axis_count(me->graph))
        return TRNN_E_GRAPH; /* no room for it */
    return !axis && (type->state || type->time == TRNN_TIME_REDUCE) ? TRNN_E_TIME : TRNN_OK;
}

/* Does what the layer leaves behind a run matter to the next one? */
static int keeps_state(const trnn_layer *layer)
{
    return layer->type->after || (layer->type->state && layer->type->state(layer) > 0);
}

/* When does the layer run, and does its value depend on the whole sequence? A value per step that does makes the net
 * need all of it at once; so does a state on an axis whose steps a later run has again. */
static void take_turn(const walk *me, trnn_node *node, trnn_place *value)
{
    const trnn_layer_type *type = node->layer.type;
    const int whole = trnn_is_whole(me->graph, node->axis);
    int late = 0, apart = type->full_sequence && type->full_sequence(&node->layer);
    apart |= whole && keeps_state(&node->layer);
    for (int32_t r = 0; r < trnn_read_count(node); r++) {
        const trnn_place *read = read_by(me, node, r);
        late |= read->late;
        apart |= node->axis && read->late;
        /* Of its own axis a query reads later steps, too. */
        apart |= type->time == TRNN_TIME_ATTEND && r > 0 && read->axis &&
                 (whole || !trnn_is_whole(me->graph, read->axis));
    }
    value->late = late || type->time == TRNN_TIME_REDUCE;
    me->graph->full_sequence |= apart;
    node->turn = node->axis ? TRNN_TURN_EACH : late ? TRNN_TURN_LAST : TRNN_TURN_FIRST;
}

/* The layer's tensors in its weights, and its place in a row of the state. */
static void take_tensors(trnn_node *node, size_t *row_state)
{
    const trnn_layer *layer = &node->layer;
    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    node->slots = trnn_layer_slots(layer, slots, &bytes);
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++)
        node->weights[p] = p < node->slots && slots[p].rank > 0 ? slots[p].offset : TRNN_ABSENT;
    node->state = *row_state;
    node->state_numbers = layer->type->state ? layer->type->state(layer) : 0;
    const size_t mark = trnn_start_count(node) > 0; /* start.c */
    *row_state = trnn_plus(*row_state, trnn_plus(node->state_numbers, mark));
}

/* The most steps of the layer's axis and of the values that it reads. */
static int32_t most_steps(const walk *me, const trnn_node *node)
{
    const int32_t *all = me->graph->steps;
    int32_t most = trnn_steps_on(all, node->axis);
    for (int32_t r = 0; r < trnn_read_count(node); r++) {
        const int32_t steps = trnn_steps_on(all, read_by(me, node, r)->axis);
        if (steps > most) most = steps;
    }
    return most;
}

/* What can be found of a layer from those before it. */
static trnn_status take_layer(const walk *me, int32_t i)
{
    trnn_node *node = &me->nodes[i];
    trnn_place *value = &me->places[trnn_input_count(me->graph) + i];
    trnn_status status = take_frames(me, node);
    if (status != TRNN_OK) return status;
    if ((status = check_source(me, node)) != TRNN_OK) return status;
    if ((status = take_starts(me, node)) != TRNN_OK) return status;
    if ((status = take_axis(me, node, value->axis)) != TRNN_OK) return status;
    take_turn(me, node, value);
    take_tensors(node, &me->graph->row_state);
    node->most = most_steps(me, node);
    value->frame = node->out;
    if (node->layer.type->time != TRNN_TIME_RATE)
        value->axis = node->layer.type->time == TRNN_TIME_REDUCE ? 0 : node->axis;
    return take_sizes(me, value);
}

/* Every value is read by somebody. Indices are an input that nobody reads as numbers. */
static trnn_status check_uses(const walk *me)
{
    for (int32_t v = 0; v < me->graph->values; v++) {
        const trnn_place *value = &me->places[v];
        if (value->uses == 0) return TRNN_E_GRAPH;
        if (value->lookups == 0) continue;
        if (v >= trnn_input_count(me->graph) || value->uses > value->lookups) return TRNN_E_SHAPE;
        me->graph->indices |= 1u << v;
    }
    return TRNN_OK;
}

trnn_status trnn_graph_init(trnn_graph *graph, const trnn_net *net, int32_t batch, const int32_t *steps,
                            int (*computes)(const trnn_layer *layer), trnn_node *nodes)
{
    int32_t axes;
    trnn_status status = check_net(net, batch, steps, &axes);
    if (status != TRNN_OK) return status;
    trnn_place *const places = trnn_places(nodes, net->count);
    const walk me = {net, batch, graph, nodes, places};
    trnn_zero(nodes, trnn_net_bytes(net, 0));
    trnn_zero(graph, sizeof *graph);
    graph->count = net->count;
    graph->inputs = net->inputs;
    graph->values = net->inputs + net->count;
    graph->axes = axes;
    trnn_copy(graph->steps, steps, (size_t)axes * sizeof *steps);
    for (int32_t v = 0; v < graph->values; v++) {
        places[v].root = v;
        places[v].axis = -1;
        if (v >= trnn_input_count(graph)) continue;
        places[v].frame = net->input[v].frame;
        places[v].axis = net->input[v].axis;
        if ((status = take_sizes(&me, &places[v])) != TRNN_OK) return status;
    }
    for (int32_t i = 0; i < net->count; i++) {
        if ((status = trnn_layer_check(&net->layers[i])) != TRNN_OK) return status;
        if (!TRNN_WITH_GRAPHS && net->layers[i].type->after) return TRNN_E_LEFT_OUT; /* a loop of its own */
        nodes[i].layer = net->layers[i];
        if ((status = take_reads(&me, i, &nodes[i])) != TRNN_OK) return status;
    }
    find_axes(&me);
    for (int32_t i = 0; i < net->count; i++) {
        if ((status = take_layer(&me, i)) != TRNN_OK) return status;
        if (!computes(&nodes[i].layer))
            places[trnn_input_count(graph) + i].root = read_by(&me, &nodes[i], 0)->root;
    }
    for (int32_t o = 0; o < (TRNN_WITH_GRAPHS ? net->outputs : 1); o++) {
        if (net->output[o] < 0 || net->output[o] >= graph->values) return TRNN_E_GRAPH;
        places[net->output[o]].uses++;
    }
    if ((status = check_uses(&me)) != TRNN_OK) return status;
    for (int32_t i = 0; i < net->count && !graph->full_sequence; i++)
        if (trnn_is_whole(graph, nodes[i].axis)) nodes[i].turn = TRNN_TURN_FIRST;
    for (int32_t i = 0; TRNN_WITH_GRAPHS && i < net->count && !graph->loops; i++) {
        const trnn_layer_type *type = nodes[i].layer.type;
        if (type->loops && (status = type->loops(graph, nodes)) != TRNN_OK) return status;
    }
    for (int32_t p = 0; p < graph->paces; p++)
        if (graph->steps[trnn_axis_count(graph) + p] == 0) return TRNN_E_SIZE;
    const size_t row = trnn_align(trnn_times(graph->row_state, sizeof(float)));
    graph->row_state = row / sizeof(float);
    graph->state_bytes = trnn_times(row, (size_t)batch);
    return graph->state_bytes > PTRDIFF_MAX ? TRNN_E_SIZE : TRNN_OK;
}
