/* The loops of a net: layers that run step by step, because a delay among them reads what a later one writes. A program
 * without a delay links none of this. */
#include "plan.h"

/* A delay begins a loop, which ends with the layer that writes what it reads. Loops that overlap are one. */
trnn_status trnn_find_loops(trnn_graph *graph, trnn_node *nodes)
{
    const trnn_place *const places = trnn_places(nodes, graph->count);
    int32_t first = 0, end = 0; /* of the loop at hand */
    for (int32_t i = 0; i < graph->count; i++) {
        trnn_node *node = &nodes[i];
        const trnn_layer_type *type = node->layer.type;
        if (type->after) {
            const int32_t writer = node->reads.value[0] - graph->inputs;
            const trnn_place *read = &places[node->reads.value[0]];
            if (!trnn_same_frame(read->frame, node->out)) return TRNN_E_SHAPE;
            if (read->axis != node->axis) return TRNN_E_TIME;
            if (i >= end) first = end = i;
            if (end <= i) end = i + 1;
            if (end <= writer) end = writer + 1;
            nodes[first].loop = end;
            graph->loops = 1;
        }
        node->looped = i < end;
        for (int32_t r = 1; r < node->reads.count && node->looped && type->time == TRNN_TIME_ATTEND; r++)
            if (places[node->reads.value[r]].axis == node->axis) return TRNN_E_LOOP;
        if (node->looped &&
            (node->axis != nodes[first].axis || type->time == TRNN_TIME_REDUCE ||
             type->time == TRNN_TIME_RATE || (type->full_sequence && type->full_sequence(&node->layer))))
            return TRNN_E_LOOP;
    }
    return TRNN_OK;
}
