/* A net, walked once: what each layer reads and writes, on which axis of time, in which turn, and which layers are a
 * loop. net.c and train.c lay out memory for what this file finds. It uses the contract of layers and names no layer. */
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

typedef struct {
    const trnn_net *net;
    char *nodes, *places;
    size_t node_size, place_size;
    trnn_graph *graph;
} walk;

static trnn_node *node_at(const walk *me, int32_t i)
{
    return (trnn_node *)(void *)(me->nodes + (size_t)i * me->node_size);
}

static trnn_place *place_at(const walk *me, int32_t v)
{
    return (trnn_place *)(void *)(me->places + (size_t)v * me->place_size);
}

static trnn_status check_net(const trnn_net *net, int32_t batch, const int32_t *steps, int32_t *axes)
{
    if (net->count < 1 || net->inputs < 1 || net->inputs > TRNN_PORTS_MAX) return TRNN_E_ARGUMENT;
    if (net->outputs < 1 || net->outputs > TRNN_PORTS_MAX) return TRNN_E_ARGUMENT;
    if (net->count > TRNN_SIZE_MAX || !trnn_is_size(batch)) return TRNN_E_ARGUMENT;
    *axes = 1;
    for (int32_t i = 0; i < net->inputs; i++) {
        const trnn_value *input = &net->input[i];
        if (!trnn_is_frame(input->frame) || input->axis < 0 || input->axis > TRNN_AXES_MAX)
            return TRNN_E_ARGUMENT;
        if (input->axis > *axes) *axes = input->axis;
    }
    for (int32_t i = 0; i < net->outputs; i++)
        if (net->output[i] < 0 || net->output[i] >= net->inputs + net->count) return TRNN_E_GRAPH;
    for (int32_t a = 0; a < *axes; a++)
        if (!trnn_is_size(steps[a])) return TRNN_E_ARGUMENT;
    return TRNN_OK;
}

/* The layer's numbers of the values that it reads. Only a delay may read a value that is not there yet. */
static trnn_status take_reads(const walk *me, int32_t i, trnn_node *node)
{
    const trnn_net *net = me->net;
    const int32_t own = net->inputs + i, most = node->layer.type->after ? net->inputs + net->count : own;
    if (net->reads)
        node->reads = net->reads[i];
    else
        node->reads = (trnn_reads){1, {own - 1}};
    const int32_t count = node->reads.count;
    if (count < 1 || count > TRNN_READS_MAX || (count > 1 && !node->layer.type->join)) return TRNN_E_GRAPH;
    for (int32_t r = 0; r < count; r++) {
        const int32_t value = node->reads.value[r];
        if (value < 0 || value >= most) return TRNN_E_GRAPH;
        place_at(me, value)->uses++;
    }
    return TRNN_OK;
}

static trnn_status take_frames(const walk *me, trnn_node *node)
{
    const trnn_layer *layer = &node->layer;
    trnn_frame in[TRNN_READS_MAX];
    for (int32_t r = 0; r < node->reads.count; r++) in[r] = place_at(me, node->reads.value[r])->frame;
    if (layer->type->join) {
        node->in = in[0];
        return layer->type->join(layer, in, node->reads.count, &node->out);
    }
    node->in = in[0];
    const trnn_status status = layer->type->frame(layer, node->in, &node->out);
    if (layer->type->after) node->in = node->out;
    return status;
}

/* A layer that reads the state of another reads what that wrote itself, not an input or a copy under another frame. */
static trnn_status check_source(const walk *me, const trnn_node *node)
{
    const trnn_layer *layer = &node->layer;
    const int32_t writer = node->reads.value[0] - me->net->inputs;
    if (!layer->type->source) return TRNN_OK;
    return writer < 0 ? TRNN_E_GRAPH : layer->type->source(layer, &node_at(me, writer)->layer);
}

/* The axis that the layer runs over, and that of the value it writes. A delay has that of axis 1 until its loop is
 * known. */
static trnn_status take_axes(const walk *me, trnn_node *node, int32_t *axis)
{
    const trnn_layer_type *type = node->layer.type;
    const int32_t count = node->reads.count, first = place_at(me, node->reads.value[0])->axis;
    int32_t found = first;
    if (type->time == TRNN_TIME_MIX)
        for (int32_t r = 1; r < count && !found; r++) found = place_at(me, node->reads.value[r])->axis;
    if (type->time == TRNN_TIME_SPREAD) {
        found = count > 1 ? place_at(me, node->reads.value[count - 1])->axis : 1;
        if (first || !found) return TRNN_E_TIME;
    }
    for (int32_t r = 0; r < count; r++) {
        const int32_t other = place_at(me, node->reads.value[r])->axis;
        const int fits = other == found || (type->time != TRNN_TIME_KEEP && !other);
        if (!fits && !(type->time == TRNN_TIME_ATTEND && r > 0)) return TRNN_E_TIME;
    }
    if (!found && (type->state || type->time == TRNN_TIME_REDUCE)) return TRNN_E_TIME;
    node->axis = found;
    *axis = type->time == TRNN_TIME_REDUCE ? 0 : found;
    return TRNN_OK;
}

/* Does the value depend on the whole sequence? A value per step that does makes the net need all of it at once. */
static void take_turn(const walk *me, trnn_node *node, trnn_place *value)
{
    trnn_graph *graph = me->graph;
    const trnn_layer_type *type = node->layer.type;
    int late = 0, apart = 0;
    for (int32_t r = 0; r < node->reads.count; r++) {
        const trnn_place *read = place_at(me, node->reads.value[r]);
        late |= read->late;
        apart |= read->axis && read->axis != node->axis;
    }
    value->late = late || type->time == TRNN_TIME_REDUCE;
    node->turn = node->axis ? TRNN_TURN_BLOCK : late ? TRNN_TURN_LAST : TRNN_TURN_FIRST;
    if (node->axis && (late || apart)) graph->full_sequence = 1;
    if (type->full_sequence && type->full_sequence(&node->layer)) graph->full_sequence = 1;
}

static trnn_status take_sizes(const walk *me, trnn_node *node, int32_t axis, int32_t batch,
                              const int32_t *steps)
{
    const size_t times = trnn_times((size_t)batch, node->axis ? (size_t)steps[node->axis - 1] : 1);
    size_t rows = trnn_times(times, trnn_larger(trnn_frame_rows(node->in), trnn_frame_rows(node->out)));
    for (int32_t r = 0; r < node->reads.count; r++) {
        const trnn_place *read = place_at(me, node->reads.value[r]);
        const size_t frames = trnn_frames_of(read, batch, steps);
        rows = trnn_larger(rows, trnn_times(frames, trnn_frame_rows(read->frame)));
        if (trnn_frames_bytes(frames, read->frame) > PTRDIFF_MAX) return TRNN_E_SIZE;
    }
    if (rows > (size_t)TRNN_SIZE_MAX) return TRNN_E_SIZE; /* products count rows in an int32 */
    const size_t written = axis ? times : (size_t)batch;
    return trnn_frames_bytes(written, node->out) > PTRDIFF_MAX ? TRNN_E_SIZE : TRNN_OK;
}

static void take_weights(trnn_node *node, size_t *state_bytes)
{
    const trnn_layer *layer = &node->layer;
    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    node->slots = trnn_layer_slots(layer, slots, &bytes);
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++)
        node->weights[p] = p < node->slots && slots[p].rank > 0 ? slots[p].offset : TRNN_ABSENT;
    node->state = *state_bytes / sizeof(float);
    node->state_numbers = layer->type->state ? layer->type->state(layer) : 0;
    *state_bytes = trnn_plus(*state_bytes, trnn_times(node->state_numbers, sizeof(float)));
}

/* A layer that reads indices reads an input of the net. */
static trnn_status take_indices(const walk *me, const trnn_node *node)
{
    if (!node->layer.type->indices) return TRNN_OK;
    const int32_t value = node->reads.value[0];
    if (value >= me->graph->inputs) return TRNN_E_SHAPE;
    me->graph->indices |= 1u << value;
    return TRNN_OK;
}

/* No other layer reads that input. */
static trnn_status check_indices(const walk *me)
{
    const trnn_graph *graph = me->graph;
    for (int32_t i = 0; i < graph->count; i++) {
        const trnn_node *node = node_at(me, i);
        for (int32_t r = 0; r < node->reads.count && !node->layer.type->indices; r++)
            if (node->reads.value[r] < graph->inputs && graph->indices >> node->reads.value[r] & 1)
                return TRNN_E_SHAPE;
    }
    for (int32_t o = 0; o < me->net->outputs; o++)
        if (me->net->output[o] < graph->inputs && graph->indices >> me->net->output[o] & 1)
            return TRNN_E_SHAPE;
    return TRNN_OK;
}

/* A delay begins a loop, which ends with the layer that writes what it reads. Loops that overlap are one. */
static trnn_status find_loops(const walk *me)
{
    trnn_graph *graph = me->graph;
    int32_t first = 0, end = 0; /* of the loop at hand */
    for (int32_t i = 0; i < graph->count; i++) {
        trnn_node *node = node_at(me, i);
        if (node->layer.type->after) {
            const int32_t writer = node->reads.value[0] - graph->inputs;
            const trnn_place *read = place_at(me, node->reads.value[0]);
            const trnn_frame in = read->frame, out = node->out;
            if (in.planes != out.planes || in.rows != out.rows || in.cols != out.cols) return TRNN_E_SHAPE;
            if (read->axis != node->axis) return TRNN_E_TIME;
            if (i >= end) first = end = i;
            const int32_t last = writer > i ? writer + 1 : i + 1;
            if (last > end) end = last;
            node_at(me, first)->loop = end;
            graph->loops = 1;
        }
        if (i >= end) continue;
        node->looped = 1;
        const trnn_layer_type *type = node->layer.type;
        if (node->axis != node_at(me, first)->axis || type->time == TRNN_TIME_REDUCE) return TRNN_E_LOOP;
        if (type->full_sequence && type->full_sequence(&node->layer)) return TRNN_E_LOOP;
    }
    return TRNN_OK;
}

trnn_status trnn_graph_init(trnn_graph *graph, const trnn_net *net, int32_t batch, const int32_t *steps,
                            int (*computes)(const trnn_layer *layer), void *nodes, size_t node_size,
                            void *places, size_t place_size)
{
    trnn_graph found = {.count = net->count, .inputs = net->inputs};
    const walk me = {net, nodes, places, node_size, place_size, &found};
    trnn_status status = check_net(net, batch, steps, &found.axes);
    if (status != TRNN_OK) return status;
    found.values = net->inputs + net->count;
    found.full_sequence = found.axes > 1;

    for (int32_t v = 0; v < found.values; v++) {
        trnn_place *place = place_at(&me, v);
        *place = (trnn_place){.frame = {1, 1, 1}, .root = v};
        if (v < net->inputs) place->frame = net->input[v].frame, place->axis = net->input[v].axis;
        if (v >= net->inputs) place->axis = 1; /* what a delay finds of a value that comes later */
    }
    for (int32_t i = 0; i < net->count; i++) {
        trnn_node *node = node_at(&me, i);
        trnn_place *value = place_at(&me, net->inputs + i);
        status = trnn_layer_check(&net->layers[i]);
        if (status != TRNN_OK) return status;
        node->layer = net->layers[i];
        node->loop = node->looped = 0;
        if ((status = take_reads(&me, i, node)) != TRNN_OK) return status;
        if ((status = take_frames(&me, node)) != TRNN_OK) return status;
        if ((status = check_source(&me, node)) != TRNN_OK) return status;
        if ((status = take_axes(&me, node, &value->axis)) != TRNN_OK) return status;
        if ((status = take_sizes(&me, node, value->axis, batch, steps)) != TRNN_OK) return status;
        if ((status = take_indices(&me, node)) != TRNN_OK) return status;
        take_turn(&me, node, value);
        take_weights(node, &found.state_bytes);
        value->frame = node->out;
        if (!computes(&node->layer)) value->root = place_at(&me, node->reads.value[0])->root;
    }
    for (int32_t o = 0; o < net->outputs; o++) place_at(&me, net->output[o])->uses++;
    for (int32_t v = 0; v < found.values; v++)
        if (place_at(&me, v)->uses == 0) return TRNN_E_GRAPH;
    if ((status = check_indices(&me)) != TRNN_OK) return status;
    if ((status = find_loops(&me)) != TRNN_OK) return status;
    for (int32_t i = 0; i < net->count; i++) {
        trnn_node *node = node_at(&me, i);
        if (found.full_sequence) node->turn = TRNN_TURN_BLOCK;
        found.turns |= 1u << node->turn;
    }
    if (trnn_times(trnn_align(found.state_bytes), (size_t)batch) > PTRDIFF_MAX) return TRNN_E_SIZE;
    *graph = found;
    return TRNN_OK;
}
