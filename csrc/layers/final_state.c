/* The state of a recurrent layer after the sequence, or after the steps so far: one of its states, of its directions side by
 * side. It reads the value that the layer wrote, but not its numbers. A row's state is that of its last step. */
#include "recurrent.h"

const trnn_argument trnn_final_state_arguments[] = {
    TRNN_INT_OF(final_state, directions), TRNN_INT_OF(final_state, numbers), TRNN_INT_OF(final_state, start),
    TRNN_INT_OF(final_state, size),       TRNN_END_OF(final_state),
};

static trnn_status final_state_check(const trnn_layer *layer)
{
    const trnn_final_state_args *a = &layer->as.final_state;
    if (a->directions < 1 || a->directions > 2 || !trnn_is_size(a->numbers)) return TRNN_E_ARGUMENT;
    if (!trnn_is_size(a->size) || a->start < 0 || a->start > a->numbers - a->size) return TRNN_E_ARGUMENT;
    return TRNN_OK;
}

static trnn_status final_state_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_final_state_args *a = &layer->as.final_state;
    *out = (trnn_frame){1, 1, a->directions * a->size};
    return trnn_frame_rows(in) == 1 ? TRNN_OK : TRNN_E_SHAPE;
}

/* A recurrent layer with such a state: `h`, or one of the others. */
static trnn_status final_state_source(const trnn_layer *layer, const trnn_layer *writer)
{
    const trnn_final_state_args *a = &layer->as.final_state;
    if (writer->type->run != trnn_recurrent_run) return TRNN_E_GRAPH;
    const int32_t h = trnn_output_size(writer), other = writer->as.recurrent.hidden_size;
    if (a->directions != trnn_directions(writer)) return TRNN_E_SHAPE;
    if ((size_t)a->numbers != trnn_direction_state(writer)) return TRNN_E_SHAPE;
    if (a->start == 0) return a->size == h ? TRNN_OK : TRNN_E_SHAPE;
    return a->size == other && a->start >= h && (a->start - h) % other == 0 ? TRNN_OK : TRNN_E_SHAPE;
}

static void final_state_run(const trnn_call *call)
{
    const trnn_final_state_args *a = &call->layer->as.final_state;
    const size_t size = (size_t)a->size;
    float *y = call->y;
    for (int32_t b = 0; b < call->batch; b++)
        for (int32_t d = 0; d < a->directions; d++, y += size)
            trnn_copy(y, call->source + (size_t)b * call->state_stride + (size_t)(d * a->numbers + a->start),
                      size * sizeof(float));
}

static void final_state_forward(const trnn_pass *pass)
{
    const void *weights[TRNN_PARAMS_MAX];
    trnn_call call = trnn_call_of(pass, weights);
    call.source = pass->source + (size_t)pass->first * pass->state_stride;
    call.y = pass->y + (size_t)pass->first * trnn_frame_size(pass->out);
    call.batch = pass->rows;
    final_state_run(&call);
}

/* dsource += dy: the recurrent layer goes back later, from there. What it wrote has no part in y. */
static void final_state_backward(const trnn_pass *pass)
{
    const trnn_final_state_args *a = &pass->layer->as.final_state;
    const size_t size = (size_t)a->size, numbers = trnn_frame_size(pass->in);
    const float *dy = pass->dy + (size_t)pass->first * trnn_frame_size(pass->out);
    for (int32_t b = pass->first; b < pass->first + pass->rows; b++)
        for (int32_t d = 0; d < a->directions; d++, dy += size) {
            float *const to =
                pass->dsource + (size_t)b * pass->state_stride + (size_t)(d * a->numbers + a->start);
            for (size_t i = 0; i < size; i++) to[i] += dy[i];
        }
    for (int32_t t = 0; pass->dx && t < pass->steps; t++)
        trnn_zero(pass->dx + ((size_t)t * (size_t)pass->batch + (size_t)pass->first) * numbers,
                  (size_t)pass->rows * numbers * sizeof(float));
}

const trnn_layer_type trnn_final_state = {
    .name = "final_state",
    .check = final_state_check,
    .frame = final_state_frame,
    .source = final_state_source,
    .time = TRNN_TIME_REDUCE,
    .run = final_state_run,
};

const trnn_layer_training trnn_final_state_training = {
    .forward = final_state_forward,
    .backward = final_state_backward,
    .sequences = 1,
};
