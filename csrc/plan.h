/* What plans and trainings share: a layer with its place in a net. */
#ifndef TRNN_PLAN_H
#define TRNN_PLAN_H

#include "layers/layer.h"

typedef struct {
    trnn_layer layer;
    trnn_frame in, out;
    size_t state, state_numbers;     /* floats, of one row */
    size_t weights[TRNN_PARAMS_MAX]; /* bytes, into the layer's weights; TRNN_ABSENT for no tensor */
} trnn_node;

#define TRNN_ABSENT SIZE_MAX

/* Places a layer that reads `in` after so many bytes of state, which grow by its own. */
trnn_status trnn_node_init(trnn_node *node, const trnn_layer *layer, trnn_frame in, size_t *state_bytes);

/* A node's tensors in its layer's buffer; NULL for absent ones, and all NULL where there is no buffer. */
static inline const void *trnn_node_slot(const trnn_node *node, int32_t slot, const void *buffer)
{
    return !buffer || node->weights[slot] == TRNN_ABSENT ? NULL : (const char *)buffer + node->weights[slot];
}

static inline size_t trnn_frame_size(trnn_frame frame)
{
    return trnn_times((size_t)frame.rows, (size_t)frame.cols);
}

/* Bytes of so many frames, on their own. */
static inline size_t trnn_frames_bytes(size_t frames, trnn_frame frame)
{
    return trnn_align(trnn_times(trnn_times(frames, trnn_frame_size(frame)), sizeof(float)));
}

#endif
