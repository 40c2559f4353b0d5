/* What plans and trainings share: a net's layers and values, checked, with their places in the net. */
#ifndef TRNN_PLAN_H
#define TRNN_PLAN_H

#include "layers/layer.h"

/* A layer of a net. */
struct trnn_node {
    trnn_layer layer;
    trnn_frame in, out;              /* of the first value that it reads, and of the one that it writes */
    size_t state, state_numbers;     /* place and size in a row of the state, in floats */
    int32_t slots;                   /* its tensors, absent ones included */
    size_t weights[TRNN_PARAMS_MAX]; /* bytes into the layer's weights; TRNN_ABSENT: no tensor */
    trnn_reads reads;
    int32_t starts; /* how many of them, the last ones, its state begins with */
    int32_t axis;   /* of the steps that it runs over; 0: it runs once */
    int32_t most;   /* steps: those of its axis, or of a value that it reads if that has more */
    int32_t turn;   /* a trnn_turn */
    int32_t loop;   /* of the first layer of a loop: the number of the first layer after it; else 0 */
    int32_t looped; /* 1: within a loop */

    /* train.c */
    size_t own;   /* bytes into the tape: the layer's own part */
    size_t began; /* likewise: which rows' states began with values, (batch,) floats */
    size_t terms; /* likewise: terms of gradients that are then added */
    int32_t stage;
    uint32_t adds;   /* bit r: adds its term to the gradient of the r-th value that it reads */
    uint32_t clears; /* bit r: before it adds the first one, in a loop, that gradient is set to zero */
};

#define TRNN_ABSENT SIZE_MAX

/* The blocks of a call in which a layer runs. */
typedef enum {
    TRNN_TURN_EACH,
    TRNN_TURN_FIRST, /* it reads values per sequence that the caller gave, or all steps of another axis, and what became
                      * of them */
    TRNN_TURN_LAST, /* it reads what a layer made of the sequence */
    TRNN_TURN_NEVER /* its value lies where it would copy it to */
} trnn_turn;

#define TRNN_IN_SCRATCH 0

/* A value of a net. */
typedef struct {
    trnn_frame frame;
    int32_t axis;
    /* The value whose numbers it has under another frame, or (net.c) within which it lies; its own number: none. */
    int32_t root;
    int32_t late;       /* 1: it depends on the whole sequence */
    int32_t uses;       /* how many layers read it, and how often the caller does */
    int32_t lookups;    /* how many of them read indices */
    size_t frame_bytes; /* of one row at one step */
    size_t bytes;       /* of the batch at all steps, aligned */
    size_t at; /* bytes into its array, or into the tape; while arrays are laid out, into its root's */

    /* net.c */
    size_t step_bytes;    /* from a step to the next: the root's frames of all rows */
    int32_t array;        /* the array that it lies in; TRNN_IN_SCRATCH: none of the caller's */
    int32_t birth, death; /* the moments between which its numbers in scratch are needed; -1: never there */
    int32_t after;        /* while scratch is laid out: the value whose place comes next */

    /* train.c */
    size_t gradient; /* bytes into the tape */
    int32_t seen;    /* while the tape is laid out: the gradient has a term */
} trnn_place;

/* An axis of another rate. */
typedef struct {
    int32_t of;   /* the axis that it follows */
    int32_t root; /* the caller's axis that it follows at last */
    int32_t node; /* a layer that writes values on it: its state counts the steps */
    trnn_rate rate;
    trnn_rate whole; /* against `root`: axes with the same frames at the same steps are one */
} trnn_pace;

/* All axes of time: the caller's come first, then those of other rates, each after the one that it follows. */
enum { TRNN_PACES_MAX = 12, TRNN_TIMES_MAX = TRNN_AXES_MAX + TRNN_PACES_MAX };

/* What the walk over a net finds out. */
struct trnn_graph {
    int32_t count, inputs, values; /* layers, inputs, and both */
    int32_t axes;                  /* the caller's axes of time */
    int32_t paces;                 /* axes of other rates: axes + 1 .. axes + paces */
    trnn_pace pace[TRNN_PACES_MAX];
    const trnn_pacing *pacing;     /* NULL without one */
    int32_t steps[TRNN_TIMES_MAX]; /* the most steps of every axis */
    int32_t loops;                 /* 1: there is a delay */
    int32_t full_sequence;
    uint32_t indices;
    size_t row_state; /* floats from a row's state to the next */
    size_t state_bytes;
};

/* What a build with chains alone knows: how many values a layer reads, and how many of them its state begins with; the
 * first layer behind the loop that begins with it; the inputs of a net, and the caller's axes of time. */
static inline int32_t trnn_read_count(const trnn_node *node)
{
    return TRNN_WITH_GRAPHS ? node->reads.count : 1;
}
static inline int32_t trnn_start_count(const trnn_node *node) { return TRNN_WITH_GRAPHS ? node->starts : 0; }
static inline int32_t trnn_loop_of(const trnn_node *node) { return TRNN_WITH_GRAPHS ? node->loop : 0; }
static inline int32_t trnn_input_count(const trnn_graph *graph)
{
    return TRNN_WITH_GRAPHS ? graph->inputs : 1;
}
static inline int32_t trnn_axis_count(const trnn_graph *graph) { return TRNN_WITH_GRAPHS ? graph->axes : 1; }

/* Is the axis one of the caller's beside the first? A run has all its steps at once, in each of its blocks. */
static inline int trnn_is_whole(const trnn_graph *graph, int32_t axis)
{
    return axis > 1 && axis <= trnn_axis_count(graph);
}

/* Bytes of `head`, the net's nodes and its places. 0 if the net has no layers. */
static inline size_t trnn_net_bytes(const trnn_net *net, size_t head)
{
    if (net->count < 1 || net->inputs < 1) return 0;
    const size_t count = (size_t)net->count, values = trnn_plus(count, (size_t)net->inputs);
    return trnn_plus(trnn_plus(head, trnn_times(count, sizeof(trnn_node))),
                     trnn_times(values, sizeof(trnn_place)));
}

/* The places of values, which follow the nodes of `count` layers. */
static inline trnn_place *trnn_places(const trnn_node *nodes, int32_t count)
{
    return (trnn_place *)(uintptr_t)(nodes + count);
}

/* Bytes for what a job counts of the axes of other rates: for each its most and its least frames of a row, then those of
 * each row. */
static inline size_t trnn_paces_bytes(const trnn_graph *graph, int32_t batch)
{
    return trnn_align(
        trnn_times(trnn_times((size_t)graph->paces, trnn_plus((size_t)batch, 2)), sizeof(int32_t)));
}

/* A part of a run: the steps of every axis of time. */
typedef struct {
    int32_t start; /* steps of axis 1 before, in the same run; the caller's other axes have all of theirs */
    int32_t last;  /* 1: no other part follows */
    int32_t ends;  /* 1: the sequences end with the run */
    int32_t steps[TRNN_TIMES_MAX];
    const int32_t
        *lengths[TRNN_TIMES_MAX]; /* NULL: all rows have these steps. From the run's first step on; on an axis
                                             * of another rate from this part's */
    const int32_t *frames[TRNN_PACES_MAX]; /* (batch,): of each axis of another rate, as in trnn_due */
} trnn_clock;

/* A run as the caller asks for it. */
typedef struct {
    const trnn_graph *graph;
    const trnn_node *nodes;
    const float *state;
    const int32_t *steps;
    const int32_t *const *lengths;
    int32_t ends;
} trnn_span;

/* The steps of an output's axis in a run: the most of any row, with those of each in `lengths` unless NULL. */
int32_t trnn_span_steps(const trnn_span *span, int32_t axis, int32_t batch, int32_t *lengths);

/* What plans and trainings do about axes of other rates (rates.c). */
struct trnn_pacing {
    /* The number of the axis on which layer i writes, which follows axis `of`: one whose frames are due at the same steps
     * already, or a new one. -1: there is no room. */
    int32_t (*axis)(trnn_graph *graph, const trnn_layer *layer, int32_t i, int32_t of);

    /* Count the frames that are due in a part of a run, whose steps on the caller's axes `clock` has: write them to
     * `counts` (trnn_paces_bytes), and set the rest of the clock. */
    void (*count)(const trnn_graph *graph, const trnn_node *nodes, const float *state, int32_t batch,
                  int32_t *counts, trnn_clock *clock);

    /* Add the frames of a part to those of each row in the parts before it, which have as many bytes behind `counts`; at
     * the run's first part clear these. */
    void (*clear)(const trnn_graph *graph, int32_t batch, int32_t *counts);
    void (*add)(const trnn_graph *graph, int32_t batch, int32_t *counts);

    /* Copy the frames of a value, each of so many bytes, behind those that the caller has already: from (steps, batch,
     * frame) to (steps, stride, frame). */
    void (*give)(const trnn_graph *graph, int32_t axis, int32_t batch, size_t stride, size_t bytes,
                 const int32_t *counts, const char *from, char *to);

    /* Set what count() set. */
    void (*read)(const trnn_graph *graph, int32_t batch, const int32_t *counts, trnn_clock *clock);

    /* Has a row no frame of some axis by the end of the run, or with `alone` none in this run? */
    int (*is_short)(const trnn_span *span, int32_t batch, int alone);

    /* The steps of row b on an axis in the whole run. */
    int32_t (*row)(const trnn_span *span, int32_t axis, int32_t b);
};

/* The first step of an axis in a part of a run. */
static inline int32_t trnn_start_on(const trnn_clock *clock, int32_t axis)
{
    return axis <= 1 ? clock->start : 0;
}

/* Where the frames that are due on an axis are told: only on one of another rate. */
static inline trnn_due trnn_due_on(const trnn_graph *graph, const trnn_clock *clock, int32_t axis)
{
    const int32_t pace = axis - trnn_axis_count(graph) - 1;
    return pace < 0 ? (trnn_due){1, NULL} : (trnn_due){clock->steps[axis - 1], clock->frames[pace]};
}

/* Checks a net and fills the nodes of its layers and the places of its values. `computes` tells whether a layer
 * computes: the value of one that does not is x under another frame. */
trnn_status trnn_graph_init(trnn_graph *graph, const trnn_net *net, int32_t batch, const int32_t *steps,
                            int (*computes)(const trnn_layer *layer), trnn_node *nodes);

/* Does the node's layer have the tensor? */
static inline int trnn_node_has(const trnn_node *node, int32_t slot)
{
    return node->weights[slot] != TRNN_ABSENT;
}

/* Steps on an axis of time. */
static inline int32_t trnn_steps_on(const int32_t *steps, int32_t axis) { return axis ? steps[axis - 1] : 1; }

#endif
