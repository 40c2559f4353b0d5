/* What plans and trainings share: a layer with its place in a net. */
#ifndef TRNN_PLAN_H
#define TRNN_PLAN_H

#include "layers/layer.h"

typedef struct {
    trnn_layer layer;
    trnn_frame in, out;
    size_t state, state_numbers;     /* place and size in a row of the state, in floats */
    int32_t slots;                   /* its tensors, absent ones included */
    size_t weights[TRNN_PARAMS_MAX]; /* bytes into the layer's weights; TRNN_ABSENT: no tensor */
} trnn_node;

#define TRNN_ABSENT SIZE_MAX

/* Checks the number of layers, the frame, the batch and the steps. */
static inline trnn_status trnn_check_sizes(int32_t layers, trnn_frame frame, int32_t batch, int32_t steps)
{
    if (layers < 1 || !trnn_is_size(frame.rows) || !trnn_is_size(frame.cols)) return TRNN_E_ARGUMENT;
    return trnn_is_size(batch) && trnn_is_size(steps) ? TRNN_OK : TRNN_E_ARGUMENT;
}

/* Initialises the node of a layer that reads `frames` frames `in` at once. Its state follows `*state_bytes` bytes, to
 * which its own are added. */
trnn_status trnn_node_init(trnn_node *node, const trnn_layer *layer, trnn_frame in, size_t frames,
                           size_t *state_bytes);

/* Does the node's layer have the tensor? */
static inline int trnn_node_has(const trnn_node *node, int32_t slot)
{
    return node->weights[slot] != TRNN_ABSENT;
}

static inline size_t trnn_frame_size(trnn_frame frame)
{
    return trnn_times((size_t)frame.rows, (size_t)frame.cols);
}

/* Bytes of an array of so many frames, aligned. */
static inline size_t trnn_frames_bytes(size_t frames, trnn_frame frame)
{
    return trnn_align(trnn_times(trnn_times(frames, trnn_frame_size(frame)), sizeof(float)));
}

#endif
