/* Plans: a chain of layers, laid out once, run block by block. This file uses the contract of layers and names no
 * layer.
 *
 * The first layer reads the caller's x, the last writes the caller's y; between them, layers write to two buffers in
 * turn. A long call runs in blocks of the plan's steps, so scratch does not grow with its length. The bits do not
 * depend on the blocks.
 */
#include "plan.h"

struct trnn_plan {
    trnn_sizes sizes;
    int32_t count;
    int32_t working;    /* layers that compute; for the others y is x under another frame */
    size_t value_bytes; /* one of the two buffers between layers */
    trnn_node nodes[];
};

size_t trnn_plan_bytes(int32_t layers)
{
    return layers < 1 ? 0 : trnn_plus(sizeof(trnn_plan), trnn_times((size_t)layers, sizeof(trnn_node)));
}

trnn_status trnn_node_init(trnn_node *node, const trnn_layer *layer, trnn_frame in, size_t frames,
                           size_t *state_bytes)
{
    trnn_status status = trnn_layer_check(layer);
    if (status != TRNN_OK) return status;
    const trnn_layer_type *type = layer->type;
    node->layer = *layer;
    node->in = in;
    status = type->frame(layer, in, &node->out);
    if (status != TRNN_OK) return status;
    const size_t rows = trnn_times(frames, trnn_larger((size_t)in.rows, (size_t)node->out.rows));
    if (rows > (size_t)TRNN_SIZE_MAX) return TRNN_E_SIZE; /* products count rows in an int32 */

    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    node->slots = trnn_layer_slots(layer, slots, &bytes);
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++)
        node->weights[p] = p < node->slots && slots[p].rank > 0 ? slots[p].offset : TRNN_ABSENT;

    node->state = *state_bytes / sizeof(float);
    node->state_numbers = type->state ? type->state(layer) : 0;
    *state_bytes = trnn_plus(*state_bytes, trnn_times(node->state_numbers, sizeof(float)));
    return TRNN_OK;
}

trnn_status trnn_plan_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                           int32_t batch, int32_t steps, trnn_sizes *sizes)
{
    trnn_status status = trnn_check_sizes(count, frame, batch, steps);
    if (status != TRNN_OK) return status;

    trnn_plan *plan = memory;
    trnn_sizes total = {.in = frame, .out = frame, .batch = batch, .steps = steps};
    size_t state_bytes = 0;
    const size_t frames = trnn_times((size_t)batch, (size_t)steps);
    size_t value_bytes = 0, layer_bytes = 0;
    int32_t working = 0;

    for (int32_t i = 0; i < count; i++) {
        trnn_node *n = &plan->nodes[i];
        status = trnn_node_init(n, &layers[i], total.out, frames, &state_bytes);
        if (status != TRNN_OK) return status;
        const trnn_layer_type *type = layers[i].type;
        if (type->indices && i > 0) return TRNN_E_SHAPE;
        if (type->scratch)
            layer_bytes = trnn_larger(layer_bytes, type->scratch(&layers[i], n->in, n->out, batch, steps));
        if (type->full_sequence && type->full_sequence(&layers[i])) total.full_sequence = 1;
        if (type->indices) total.indices = 1;
        if (type->run) working++;

        const size_t read = trnn_times(trnn_times(frames, trnn_frame_size(n->in)), sizeof(float));
        const size_t value = trnn_times(trnn_times(frames, trnn_frame_size(n->out)), sizeof(float));
        if (read > PTRDIFF_MAX || value > PTRDIFF_MAX) return TRNN_E_SIZE;
        if (i < count - 1) value_bytes = trnn_larger(value_bytes, trnn_align(value));
        total.out = n->out;
    }
    if (total.indices && working == 0) return TRNN_E_SHAPE;
    if (working < 2) value_bytes = 0;

    total.state_bytes = trnn_times(trnn_align(state_bytes), (size_t)batch);
    total.scratch_bytes = trnn_plus(trnn_times(value_bytes, 2), trnn_align(layer_bytes));
    total.part_bytes = trnn_plus(trnn_frames_bytes(frames, frame), trnn_frames_bytes(frames, total.out));
    const size_t scratch_bytes = trnn_plus(total.scratch_bytes, total.part_bytes);
    if (total.state_bytes > PTRDIFF_MAX || scratch_bytes > PTRDIFF_MAX) return TRNN_E_SIZE;

    plan->sizes = total;
    plan->count = count;
    plan->working = working;
    plan->value_bytes = value_bytes;
    *sizes = total;
    return TRNN_OK;
}

void trnn_plan_adjust(trnn_plan *plan, int32_t i, const trnn_layer *layer)
{
    assert(i >= 0 && i < plan->count);
    plan->nodes[i].layer = *layer;
}

void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers)
{
    assert(layer >= 0 && layer < plan->count);
    *offset = plan->nodes[layer].state;
    *numbers = plan->nodes[layer].state_numbers;
}

/* Runs the layers over one block of steps, of which `start` ran before; x and y are the block's. */
static void run_block(const trnn_plan *plan, const trnn_job *job, const void *x, float *y, int32_t steps,
                      int32_t start)
{
    char *const scratch = job->scratch;
    float *const values[2] = {(float *)(void *)scratch, (float *)(void *)(scratch + plan->value_bytes)};
    const size_t batch = (size_t)plan->sizes.batch;
    int32_t ran = 0;

    for (int32_t i = 0; i < plan->count; i++) {
        const trnn_node *n = &plan->nodes[i];
        const trnn_layer_type *type = n->layer.type;
        if (!type->run) continue; /* y is x under another frame */

        trnn_call call = {
            .layer = &n->layer,
            .isa = job->isa,
            .state = job->state + n->state,
            .scratch = scratch + 2 * plan->value_bytes,
            .x = x,
            .y = ++ran == plan->working ? y : values[ran % 2],
            .state_stride = plan->sizes.state_bytes / sizeof(float) / batch,
            .in = n->in,
            .out = n->out,
            .steps = steps,
            .batch = plan->sizes.batch,
            .lengths = job->lengths,
            .start = start,
            .descending = (job->descending + start) & 1,
        };
        for (int32_t p = 0; p < n->slots; p++)
            call.weights[p] = trnn_node_has(n, p) ? (const char *)job->weights[i] + n->weights[p] : NULL;
        type->run(&call);
        x = call.y;
    }
    if (plan->working == 0)
        trnn_copy(y, x, (size_t)steps * batch * trnn_frame_size(plan->sizes.out) * sizeof(float));
}

/* `steps` rows of `bytes`, from rows `from_stride` bytes apart to rows `to_stride` apart. */
static void copy_rows(int32_t steps, size_t bytes, const char *from, size_t from_stride, char *to,
                      size_t to_stride)
{
    for (int32_t t = 0; t < steps; t++, from += from_stride, to += to_stride) trnn_copy(to, from, bytes);
}

/* Checks all of a job, before anything is written. */
static trnn_status check_job(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_sizes *sizes = &plan->sizes;
    const int32_t steps = job->steps;
    if (steps < 1 || steps > TRNN_SIZE_MAX || (sizes->full_sequence && steps > sizes->steps))
        return TRNN_E_STEPS;
    if (job->stride < 0 || (job->stride > 0 && job->stride < sizes->batch)) return TRNN_E_ARGUMENT;
    if (job->lengths)
        for (int32_t b = 0; b < sizes->batch; b++)
            if (job->lengths[b] < 1 || job->lengths[b] > steps) return TRNN_E_LENGTHS;
    if (sizes->indices) {
        const trnn_layer *reader = &plan->nodes[0].layer;
        const int32_t most = reader->type->indices(reader);
        const size_t frame = trnn_frame_size(sizes->in), row = (size_t)sizes->batch * frame;
        const size_t stride = job->stride ? (size_t)job->stride * frame : row;
        const int32_t *index = job->x;
        for (int32_t t = 0; t < steps; t++, index += stride)
            for (size_t i = 0; i < row; i++)
                if (index[i] < 0 || index[i] >= most) return TRNN_E_INDEX;
    }
    return TRNN_OK;
}

trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job)
{
    const trnn_status status = check_job(plan, job);
    if (status != TRNN_OK) return status;

    const trnn_sizes *sizes = &plan->sizes;
    const int32_t steps = job->steps;
    const size_t batch = (size_t)sizes->batch, stride = job->stride ? (size_t)job->stride : batch;
    const size_t in = trnn_frame_size(sizes->in) * sizeof(float),
                 out = trnn_frame_size(sizes->out) * sizeof(float);
    char *const part_x = (char *)job->scratch + sizes->scratch_bytes;
    char *const part_y = part_x + trnn_frames_bytes(batch * (size_t)sizes->steps, sizes->in);
    for (int32_t start = 0; start < steps; start += sizes->steps) {
        if (job->poll && start > 0 && job->poll(job->context)) return TRNN_E_INTERRUPTED;
        const int32_t block = steps - start < sizes->steps ? steps - start : sizes->steps;
        const char *x = (const char *)job->x + (size_t)start * stride * in;
        char *y = (char *)job->y + (size_t)start * stride * out;
        if (stride == batch || block == 1) {
            run_block(plan, job, x, (float *)(void *)y, block, start);
        } else { /* copies without the rows of others */
            copy_rows(block, batch * in, x, stride * in, part_x, batch * in);
            run_block(plan, job, part_x, (float *)(void *)part_y, block, start);
            copy_rows(block, batch * out, part_y, batch * out, y, stride * out);
        }
    }
    return TRNN_OK;
}
