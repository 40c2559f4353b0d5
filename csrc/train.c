/* Training: the forward and the backward pass of a net, layer by layer.
 *
 * The tape holds, for each layer, its output y, the gradient dy, and what the layer itself keeps. A layer's x is the y
 * of the layer before it, so its dx is that layer's dy. The backward pass is the chain rule, from the last layer to
 * the first:
 *
 *     dx = backward(dy),       dw += gradients(dy, x)
 *
 * This file uses the contracts of layers and names no layer. The pass through time is layers/bptt.c.
 */
#include "layers/training.h"
#include "plan.h"

typedef struct {
    trnn_node node;
    size_t x, y, dx, dy; /* bytes into the tape; where a layer computes nothing y is x and dy is dx */
    size_t own;          /* the layer's own part of the tape */
    int32_t stage;
} trained_node;

struct trnn_training {
    trnn_training_sizes sizes;
    int32_t count;
    trained_node nodes[];
};

size_t trnn_training_bytes(int32_t layers)
{
    return layers < 1 ? 0
                      : trnn_plus(sizeof(trnn_training), trnn_times((size_t)layers, sizeof(trained_node)));
}

/* Takes the next bytes of the tape; their place. */
static size_t take(size_t *tape, size_t bytes)
{
    const size_t place = *tape;
    *tape = trnn_plus(place, trnn_align(bytes));
    return place;
}

trnn_status trnn_training_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                               int32_t batch, int32_t steps, trnn_training_sizes *sizes)
{
    trnn_status status = trnn_check_sizes(count, frame, batch, steps);
    if (status != TRNN_OK) return status;

    trnn_training *training = memory;
    trnn_training_sizes total = {.in = frame, .out = frame, .batch = batch, .steps = steps, .stages = 1};
    const size_t frames = trnn_times((size_t)batch, (size_t)steps);
    size_t state_bytes = 0, tape = 0;
    total.x = total.y = take(&tape, trnn_frames_bytes(frames, frame));
    total.dx = total.dy = take(&tape, trnn_frames_bytes(frames, frame));

    for (int32_t i = 0; i < count; i++) {
        trained_node *n = &training->nodes[i];
        const trnn_layer *layer = &layers[i];
        status = trnn_node_init(&n->node, layer, total.out, frames, &state_bytes);
        if (status != TRNN_OK) return status;
        if (layer->format != TRNN_F32) return TRNN_E_FORMAT;
        if (!layer->training) return TRNN_E_TRAINING;
        const trnn_layer_type *type = layer->type;
        const trnn_layer_training *trains = layer->training;
        if (type->indices && i > 0) return TRNN_E_SHAPE;
        if (type->indices) total.indices = 1;

        const trnn_frame in = n->node.in, out = n->node.out;
        n->x = total.y;
        n->dx = total.dy;
        if (trains->backward) {
            total.y = take(&tape, trnn_frames_bytes(frames, out));
            total.dy = take(&tape, trnn_frames_bytes(frames, out));
        }
        n->y = total.y;
        n->dy = total.dy;
        n->own = take(&tape, trains->tape ? trains->tape(layer, in, out, batch, steps) : 0);
        trnn_layer_bytes *const scratch = trains->scratch ? trains->scratch : type->scratch;
        if (scratch)
            total.scratch_bytes = trnn_larger(total.scratch_bytes, scratch(layer, in, out, batch, steps));
        if (trains->across_batch || (i > 0 && layers[i - 1].training->across_batch)) total.stages++;
        n->stage = total.stages - 1;
        total.out = out;
    }
    total.scratch_bytes = trnn_align(total.scratch_bytes);
    total.state_bytes = trnn_times(trnn_align(state_bytes), (size_t)batch);
    total.tape_bytes = tape;
    const size_t all = trnn_plus(trnn_plus(tape, total.scratch_bytes), total.state_bytes);
    if (all > PTRDIFF_MAX) return TRNN_E_SIZE;

    training->sizes = total;
    training->count = count;
    *sizes = total;
    return TRNN_OK;
}

void trnn_training_adjust(trnn_training *training, int32_t i, const trnn_layer *layer)
{
    assert(i >= 0 && i < training->count);
    training->nodes[i].node.layer = *layer;
}

/* ---- a layer's pass ----------------------------------------------------------------------------- */

/* The last layer that the backward pass reaches: below it no gradient is needed. */
static int32_t lowest(const trnn_training *training, const trnn_training_job *job)
{
    int32_t i = 0;
    while (!job->to_input && i < training->count && !job->grads[i]) i++;
    return i;
}

/* One layer's pass over all rows and steps. */
TRNN_NOINLINE trnn_pass pass_of(const trnn_training *training, const trnn_training_job *job, int32_t i)
{
    const trained_node *n = &training->nodes[i];
    const trnn_training_sizes *sizes = &training->sizes;
    char *const tape = job->tape;
    const int asked = i > lowest(training, job) || job->to_input;
    char *const weights = job->weights[i], *const grads = (char *)(void *)job->grads[i];
    trnn_pass pass = {
        .layer = &n->node.layer,
        .isa = job->isa,
        .state = job->state + n->node.state,
        .dstate = job->dstate + n->node.state,
        .state_stride = sizes->state_bytes / sizeof(float) / (size_t)sizes->batch,
        .tape = tape + n->own,
        .scratch = job->scratch,
        .x = tape + n->x,
        .y = (float *)(void *)(tape + n->y),
        .dy = (float *)(void *)(tape + n->dy),
        .dx = asked && !n->node.layer.type->indices ? (float *)(void *)(tape + n->dx) : NULL,
        .in = n->node.in,
        .out = n->node.out,
        .steps = job->steps,
        .batch = sizes->batch,
        .rows = sizes->batch,
        .part = job->part,
        .parts = job->parts,
        .lengths = job->lengths,
        .seed = {job->seed[0],
                 job->seed[1] + (uint32_t)i * 0x9e3779b9u}, /* another sequence for each layer */
    };
    for (int32_t p = 0; p < TRNN_PARAMS_MAX; p++) {
        if (!trnn_node_has(&n->node, p)) continue;
        pass.weights[p] = (float *)(void *)(weights + n->node.weights[p]);
        pass.grads[p] = grads ? (float *)(void *)(grads + n->node.weights[p]) : NULL;
    }
    return pass;
}

/* Sets the part's rows of the batch. */
static void take_rows(trnn_pass *pass)
{
    const int64_t batch = pass->batch;
    pass->first = (int32_t)(batch * pass->part / pass->parts);
    pass->rows = (int32_t)(batch * (pass->part + 1) / pass->parts) - pass->first;
}

/* The pass over contiguous frames, as one step of so many rows. */
static trnn_pass frames_of(const trnn_pass *pass, size_t first, int32_t frames)
{
    const size_t in = first * trnn_frame_size(pass->in), out = first * trnn_frame_size(pass->out);
    trnn_pass some = *pass;
    some.x = (const float *)pass->x + in; /* an int32 index has the size of a float */
    some.y += out;
    some.dy += out;
    if (some.dx) some.dx += in;
    some.steps = 1;
    some.batch = some.rows = frames;
    some.first = 0;
    some.lengths = NULL;
    some.frame = first;
    return some;
}

/* Does the part's share of a layer's work, with the frames that its contract asks for (training.h). */
static void work_on_rows(const trnn_pass *pass, void (*work)(const trnn_pass *))
{
    const trnn_layer_training *trains = pass->layer->training;
    trnn_pass mine = *pass;
    if (trains->across_batch) {
        if (pass->part == 0) work(pass);
        return;
    }
    take_rows(&mine);
    if (mine.rows == 0) return;
    if (trains->sequences) {
        work(&mine);
    } else if (mine.rows == pass->batch) {
        const trnn_pass all = frames_of(pass, 0, pass->steps * pass->batch);
        work(&all);
    } else {
        for (int32_t t = 0; t < pass->steps; t++) {
            const size_t first = (size_t)t * (size_t)pass->batch + (size_t)mine.first;
            const trnn_pass step = frames_of(pass, first, mine.rows);
            work(&step);
        }
    }
}

/* ---- check a job -------------------------------------------------------------------------------- */

/* Only indices within the lengths are checked; only these are read. */
static trnn_status check_indices(const trnn_training *training, const trnn_training_job *job)
{
    const trnn_training_sizes *sizes = &training->sizes;
    const trnn_layer *reader = &training->nodes[0].node.layer;
    const int32_t most = reader->type->indices(reader);
    const size_t frame = trnn_frame_size(sizes->in);
    for (int32_t b = 0; b < sizes->batch; b++) {
        const int32_t steps = job->lengths ? job->lengths[b] : job->steps;
        for (int32_t t = 0; t < steps; t++) {
            const int32_t *index =
                (const int32_t *)job->x + ((size_t)t * job->x_step + (size_t)b * job->x_row) * frame;
            for (size_t j = 0; j < frame; j++)
                if (index[j] < 0 || index[j] >= most) return TRNN_E_INDEX;
        }
    }
    return TRNN_OK;
}

trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job)
{
    const trnn_training_sizes *sizes = &training->sizes;
    if (job->steps < 1 || job->steps > sizes->steps) return TRNN_E_STEPS;
    if (job->parts < 1 || job->part < 0 || job->part >= job->parts) return TRNN_E_ARGUMENT;
    int64_t frames = (int64_t)job->steps * sizes->batch;
    for (int32_t b = 0; job->lengths && b < sizes->batch; b++) {
        if (job->lengths[b] < 1 || job->lengths[b] > job->steps) return TRNN_E_LENGTHS;
        frames += job->lengths[b] - job->steps;
    }
    for (int32_t i = 0; i < training->count; i++) {
        const trnn_node *node = &training->nodes[i].node;
        const trnn_layer_training *trains = node->layer.training;
        const trnn_status status = trains->check ? trains->check(&node->layer, node->in, frames) : TRNN_OK;
        if (status != TRNN_OK) return status;
    }
    return sizes->indices ? check_indices(training, job) : TRNN_OK;
}

/* ---- forward pass ------------------------------------------------------------------------------- */

/* Copies x to the tape. Beyond a row's end it writes zeros, since the caller's numbers there must not reach a
 * gradient. */
static void copy_input(const trnn_training_job *job, const trnn_pass *pass, char *tape)
{
    const size_t bytes = trnn_frame_size(pass->in) * sizeof(float);
    const size_t batch = (size_t)pass->batch;
    if (!pass->lengths && pass->rows == pass->batch && job->x_row == 1 && job->x_step == batch) {
        trnn_copy(tape, job->x, (size_t)pass->steps * batch * bytes);
        return;
    }
    for (int32_t t = 0; t < pass->steps; t++)
        for (int32_t b = pass->first; b < pass->first + pass->rows; b++) {
            char *to = tape + ((size_t)t * (size_t)pass->batch + (size_t)b) * bytes;
            const char *from =
                (const char *)job->x + ((size_t)t * job->x_step + (size_t)b * job->x_row) * bytes;
            if (pass->lengths && pass->lengths[b] <= t)
                trnn_zero(to, bytes);
            else
                trnn_copy(to, from, bytes);
        }
}

/* The forward pass of a layer that has none of its own. */
static void run(const trnn_pass *pass)
{
    const trnn_call call = trnn_call_of(pass);
    pass->layer->type->run(&call);
}

void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
{
    const int32_t reached = lowest(training, job);
    if (stage == 0) {
        trnn_pass input = pass_of(training, job, 0);
        take_rows(&input);
        copy_input(job, &input, (char *)job->tape + training->nodes[0].x);
    }
    for (int32_t i = 0; i < training->count; i++) {
        const trnn_pass pass = pass_of(training, job, i);
        const trnn_layer_training *trains = pass.layer->training;
        if (training->nodes[i].stage != stage || !trains->backward) continue;
        if (trains->transpose && i >= reached) trains->transpose(&pass);
        work_on_rows(&pass, trains->forward ? trains->forward : run);
    }
}

/* ---- backward pass ------------------------------------------------------------------------------ */

void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
{
    const int32_t end = lowest(training, job);
    for (int32_t i = training->count - 1; i >= end; i--) {
        const trnn_pass pass = pass_of(training, job, i);
        const trnn_layer_training *trains = pass.layer->training;
        if (training->nodes[i].stage == stage && trains->backward) work_on_rows(&pass, trains->backward);
    }
}

void trnn_gradients(const trnn_training *training, const trnn_training_job *job)
{
    for (int32_t i = training->count - 1; i >= 0; i--) {
        const trnn_pass pass = pass_of(training, job, i);
        const trnn_layer_training *trains = pass.layer->training;
        if (!job->grads[i] || !trains->gradients) continue;
        const trnn_pass all = frames_of(&pass, 0, pass.steps * pass.batch);
        trains->gradients(trains->sequences || trains->across_batch ? &pass : &all);
    }
}
