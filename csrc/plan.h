/* What plans and trainings share: a net's layers and values, checked, with their places in the net. */
#ifndef TRNN_PLAN_H
#define TRNN_PLAN_H

#include "layers/layer.h"

typedef struct {
    trnn_layer layer;
    trnn_frame in, out;              /* of the first value that it reads, and of the one that it writes */
    size_t state, state_numbers;     /* place and size in a row of the state, in floats */
    int32_t slots;                   /* its tensors, absent ones included */
    size_t weights[TRNN_PARAMS_MAX]; /* bytes into the layer's weights; TRNN_ABSENT: no tensor */
    trnn_reads reads;
    int32_t axis;   /* of the steps that it runs over; 0: it runs once */
    int32_t turn;   /* a trnn_turn */
    int32_t loop;   /* of the first layer of a loop: the number of the first layer after it; else 0 */
    int32_t looped; /* 1: within a loop */
} trnn_node;

#define TRNN_ABSENT SIZE_MAX

/* When a layer runs in a call that consists of several blocks. */
typedef enum {
    TRNN_TURN_FIRST, /* before the first block: it reads values per sequence that the caller gave */
    TRNN_TURN_BLOCK, /* in each block */
    TRNN_TURN_LAST   /* after the last block: it reads what a layer made of the sequence */
} trnn_turn;

/* A value of a plan. */
typedef struct {
    trnn_frame frame;
    int32_t axis;
    int32_t root; /* the value whose numbers it has under another frame; its own number: none */
    int32_t late; /* 1: it depends on the whole sequence */
    int32_t uses; /* how many layers read it, and how often the caller does */
} trnn_place;

/* What the walk over a net finds out. */
typedef struct {
    int32_t count, inputs, values; /* layers, inputs, and both */
    int32_t axes;                  /* axes of time */
    int32_t loops;                 /* 1: there is a delay */
    uint32_t turns;                /* bit t: a layer has turn t */
    int32_t full_sequence;
    uint32_t indices;
    size_t state_bytes; /* of one row */
} trnn_graph;

/* Bytes of `count` of something, and of what comes before. 0 if the net has no layers. */
static inline size_t trnn_net_bytes(const trnn_net *net, size_t head, size_t node, size_t value)
{
    if (net->count < 1 || net->inputs < 1) return 0;
    const size_t values = trnn_plus((size_t)net->count, (size_t)net->inputs);
    return trnn_plus(trnn_plus(head, trnn_times((size_t)net->count, node)), trnn_times(values, value));
}

/* Checks a net and fills `nodes`, one for each layer `node_size` bytes apart, and `places`, one for each value
 * `place_size` bytes apart. `computes` tells whether a layer computes: the value of one that does not is x under another
 * frame. */
trnn_status trnn_graph_init(trnn_graph *graph, const trnn_net *net, int32_t batch, const int32_t *steps,
                            int (*computes)(const trnn_layer *layer), void *nodes, size_t node_size,
                            void *places, size_t place_size);

/* Does the node's layer have the tensor? */
static inline int trnn_node_has(const trnn_node *node, int32_t slot)
{
    return node->weights[slot] != TRNN_ABSENT;
}

/* Frames of a value, for so many steps on each axis. */
static inline size_t trnn_frames_of(const trnn_place *value, int32_t batch, const int32_t *steps)
{
    return trnn_times((size_t)batch, value->axis ? (size_t)steps[value->axis - 1] : 1);
}

/* Bytes of so many frames. */
static inline size_t trnn_frames_bytes(size_t frames, trnn_frame frame)
{
    return trnn_times(trnn_times(frames, trnn_frame_size(frame)), sizeof(float));
}

#endif
