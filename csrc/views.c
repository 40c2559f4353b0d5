/* Values within values: of one row, a slice lies in what it is cut from, and what a concat joins lies in its value. Their
 * layers then have nothing to do. Frames of such a value are as far apart as those of the other, so with several steps only
 * layers of a loop, which run step by step, may read and write it. A program without such a layer links none of this. */
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

/* Do all layers that read a root, under any frame, run step by step? */
static int is_read_stepwise(const trnn_graph *graph, const trnn_node *nodes, int32_t root)
{
    const trnn_place *const places = trnn_places(nodes, graph->count);
    for (int32_t i = 0; i < graph->count; i++)
        for (int32_t r = 0; r < nodes[i].reads.count; r++) {
            const trnn_place *read = &places[nodes[i].reads.value[r]];
            if (read->root == root && !(nodes[i].looped && nodes[i].axis == read->axis)) return 0;
        }
    return 1;
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
        const int several = trnn_steps_on(graph->steps, y->axis) > 1;
        if (!type->part || y->axis > graph->axes || (several && !n->looped)) continue;
        size_t at = type->part(&n->layer, n->in);
        if (at == SIZE_MAX || (!type->join && y->array != TRNN_IN_SCRATCH)) continue;
        if (several && !type->join && !is_read_stepwise(graph, nodes, v)) continue;
        n->turn = TRNN_TURN_NEVER;
        for (int32_t r = 0; r < n->reads.count; r++) {
            const trnn_place *x = &places[n->reads.value[r]], *own = &places[x->root];
            const size_t bytes = x->frame_bytes;
            if (!type->join)
                put_into(places, graph->values, v, x->root, x->at + at);
            else if (x->root >= graph->inputs && own->array == TRNN_IN_SCRATCH && own->frame_bytes == bytes &&
                     own->axis == y->axis && own->late == y->late &&
                     (!several ||
                      (nodes[x->root - graph->inputs].looped && is_read_stepwise(graph, nodes, x->root))))
                put_into(places, graph->values, x->root, v, at);
            else
                n->turn = turn;
            at += bytes;
        }
    }
}
