/* Values within values: of one row and one step, a slice lies in what it is cut from, and what a concat joins lies in its
 * value. Their layers then have nothing to do. A program without such a layer links none of this. */
#include "plan.h"

/* Puts a root, and what lies in it, into another value, so many bytes behind that one's begin. */
static void put_into(trnn_place *places, int32_t values, int32_t root, int32_t v, size_t bytes)
{
    for (int32_t w = 0; w < values; w++)
        if (places[w].root == root) {
            places[w].root = v;
            places[w].at += bytes;
        }
}

/* A slice that the caller wants is copied; so is what a concat joins if it lies in an array of the caller's or in another
 * value already, or is there in other blocks or at other steps than the whole. */
void trnn_find_views(const trnn_graph *graph, trnn_node *nodes)
{
    trnn_place *const places = trnn_places(nodes, graph->count);
    for (int32_t i = 0; i < graph->count; i++) {
        trnn_node *n = &nodes[i];
        const int32_t v = graph->inputs + i, turn = n->turn;
        const trnn_place *y = &places[v];
        const trnn_layer_type *type = n->layer.type;
        if (!type->part || y->axis > graph->axes || trnn_steps_on(graph->steps, y->axis) > 1) continue;
        size_t at = type->part(&n->layer, n->in);
        if (at == SIZE_MAX || (!type->join && y->array != TRNN_IN_SCRATCH)) continue;
        n->turn = TRNN_TURN_NEVER;
        for (int32_t r = 0; r < n->reads.count; r++) {
            const trnn_place *x = &places[n->reads.value[r]], *own = &places[x->root];
            const size_t bytes = x->frame_bytes;
            if (!type->join)
                put_into(places, graph->values, v, x->root, x->at + at);
            else if (x->root >= graph->inputs && own->array == TRNN_IN_SCRATCH && own->frame_bytes == bytes &&
                     own->axis == y->axis && own->late == y->late)
                put_into(places, graph->values, x->root, v, at);
            else
                n->turn = turn;
            at += bytes;
        }
    }
}
