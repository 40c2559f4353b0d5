/* Attention: each step of the first value, the query, reads a weighted mean of another value's steps.
 *
 *     y[t] = sum over s of p[s] v[s],    p = softmax over s of score(q[t], k[s])
 *
 * over the steps of the keys k and values v within their row's length. They are on one axis of time, the query's or
 * another. The score is scale * q . k in each of `heads` equal parts of the frames, or w . tanh(q + k) in the additive
 * layer. A causal layer reads its own axis, and there the steps s <= t. Beyond a query's end y is 0. A fourth value is a
 * mask, a number for each key: those whose number is 0 do not count. Where no key counts y is 0.
 *
 * Sums over steps ascend; a product of two frames is summed in 16 lanes. The backward pass computes p again, so the tape
 * does not grow with the product of both lengths.
 */
#include "several.h"

const trnn_argument trnn_attention_arguments[] = {
    TRNN_INT_OF(attention, size),
    TRNN_INT_OF(attention, heads),
    TRNN_LIVE_FLOAT_OF(attention, scale),
    TRNN_END_OF(attention),
};

const trnn_argument trnn_additive_arguments[] = {
    TRNN_INT_OF(additive, size),
    TRNN_END_OF(additive),
};

typedef struct {
    int additive, causal;
} kind;

#define LOWEST (-3.4e38f) /* whose share of a softmax is 0 */

static const kind products = {0, 0}, causal = {0, 1}, additive = {1, 0};

static const kind *kind_of(const trnn_layer *layer) { return layer->type->family; }

static int32_t query_size(const trnn_layer *layer)
{
    return kind_of(layer)->additive ? layer->as.additive.size : layer->as.attention.size;
}

static int32_t heads_of(const trnn_layer *layer)
{
    return kind_of(layer)->additive ? 1 : layer->as.attention.heads;
}

static trnn_status attention_check(const trnn_layer *layer)
{
    const trnn_attention_args *a = &layer->as.attention;
    const int fits = trnn_is_size(a->size) && trnn_is_size(a->heads) && a->size % a->heads == 0;
    return fits && a->scale - a->scale == 0.0f ? TRNN_OK : TRNN_E_ARGUMENT; /* the scale is finite */
}

static trnn_status additive_check(const trnn_layer *layer)
{
    return trnn_is_size(layer->as.additive.size) ? TRNN_OK : TRNN_E_ARGUMENT;
}

/* Query and keys (size,), values (V,), where V is a multiple of the heads, and perhaps a mask (1,); it writes (V,). */
static trnn_status attention_join(const trnn_layer *layer, const trnn_frame *in, int32_t count,
                                  trnn_frame *out)
{
    if (count != 3 && count != 4) return TRNN_E_GRAPH;
    for (int32_t i = 0; i < count; i++)
        if (in[i].planes != 1 || in[i].rows != 1) return TRNN_E_SHAPE;
    const int32_t size = query_size(layer);
    if (in[0].cols != size || in[1].cols != size || in[2].cols % heads_of(layer)) return TRNN_E_SHAPE;
    if (count == 4 && in[3].cols != 1) return TRNN_E_SHAPE;
    *out = in[2];
    return TRNN_OK;
}

static int32_t additive_params(const trnn_layer *layer, trnn_param *params)
{
    trnn_param_vector(&params[0], "weight", layer->as.additive.size);
    return 1;
}

/* A causal layer reads all steps before: the keys of earlier blocks, too. */
static int always(const trnn_layer *layer)
{
    (void)layer;
    return 1;
}

/* ---- working memory ---------------------------------------------------------------------------------- */

typedef struct {
    float *p;      /* (steps,): scores, then weights of the keys */
    float *dp;     /* (steps,), backwards: gradients of p, then of the scores */
    float *hidden; /* additive: tanh(q + k), (size,), backwards (steps, size) */
} memory;

static memory memory_of(const trnn_layer *layer, trnn_cursor *cursor, int32_t steps, int back)
{
    const size_t count = (size_t)steps;
    memory m = {NULL, NULL, NULL};
    m.p = trnn_take(cursor, count);
    if (back) m.dp = trnn_take(cursor, count);
    if (kind_of(layer)->additive)
        m.hidden = trnn_take(cursor, trnn_times(back ? count : 1, (size_t)query_size(layer)));
    return m;
}

static size_t attention_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                int32_t steps)
{
    (void)in, (void)out, (void)batch;
    trnn_cursor cursor = {NULL, 0};
    memory_of(layer, &cursor, steps, 0);
    return cursor.bytes;
}

static size_t attention_train_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                      int32_t steps)
{
    (void)in, (void)out, (void)batch;
    trnn_cursor cursor = {NULL, 0};
    memory_of(layer, &cursor, steps, 1);
    return cursor.bytes;
}

/* ---- forward ----------------------------------------------------------------------------------------- */

/* What a run or a pass reads, and where a frame of it is. */
typedef struct {
    const trnn_layer *layer;
    const trnn_kernels *isa;
    trnn_walk walk;         /* over the queries */
    const int32_t *lengths; /* of the queries; NULL: all steps */
    int32_t start;          /* steps of the sequence before the first query */
    int32_t steps;          /* of keys and values */
    const int32_t *ends;    /* their lengths; NULL: all steps */
    size_t size, numbers;   /* of a query or key, and of a value */
    const float *q, *k, *v;
    const float *mask; /* of the keys; NULL: all count */
    const float *w;    /* additive: (size,) */
    memory memory;
} reading;

static size_t attended_frame(const reading *me, int32_t t, int32_t b)
{
    return trnn_walk_at(&me->walk, t, b, 0);
}

/* Does key s count? */
static int key_counts(const reading *me, int32_t s, int32_t b)
{
    return trnn_counts(me->mask, attended_frame(me, s, b));
}

/* How many steps the query of step t reads, the last of them one that counts; 0 beyond its end. */
static int32_t keys_read(const reading *me, int32_t t, int32_t b)
{
    if (me->lengths && me->lengths[b] <= me->start + t) return 0;
    const int32_t all = me->ends ? me->ends[b] : me->steps, past = me->start + t + 1;
    int32_t count = kind_of(me->layer)->causal && past < all ? past : all;
    while (count > 0 && !key_counts(me, count - 1, b)) count--;
    return count;
}

/* The sum of a[i] * b[i], in 16 lanes, ascending; the lanes are added as a tree. */
static float dot(const float *a, const float *b, size_t n)
{
    float lanes[TRNN_PANEL] = {0.0f};
    size_t i = 0;
    for (; i + TRNN_PANEL <= n; i += TRNN_PANEL)
        for (size_t j = 0; j < TRNN_PANEL; j++) lanes[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i < n; i++, j++) lanes[j] += a[i] * b[i];
    for (int width = TRNN_PANEL / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lanes[j] += lanes[j + width];
    return lanes[0];
}

/* y += a x, n numbers; no overlap. */
static void add_times(float *restrict y, float a, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* tanh(q + k) of one key, where the memory has it. */
static float *hidden_of(const reading *me, int32_t s)
{
    return me->memory.hidden + (me->memory.dp ? (size_t)s * me->size : 0);
}

/* p = the weights of `count` keys, for the part of the query that begins at number `first` and has `size`. */
static void weigh(const reading *me, int32_t t, int32_t b, int32_t count, size_t first, size_t size)
{
    const float *q = me->q + attended_frame(me, t, b) * me->size + first;
    float *p = me->memory.p;
    for (int32_t s = 0; s < count; s++) {
        const float *k = me->k + attended_frame(me, s, b) * me->size + first;
        if (!key_counts(me, s, b)) {
            p[s] = LOWEST;
            continue;
        }
        if (kind_of(me->layer)->additive) {
            float *hidden = hidden_of(me, s);
            for (size_t i = 0; i < size; i++) hidden[i] = q[i] + k[i];
            TRNN_KERNEL(me->isa, map_tanh)(hidden, hidden, size, NULL);
            p[s] = dot(me->w, hidden, size);
        } else {
            p[s] = me->layer->as.attention.scale * dot(q, k, size);
        }
    }
    TRNN_KERNEL(me->isa, softmax_f32)(p, p, (size_t)count, 0);
}

static void attend(const reading *me, float *y)
{
    const size_t heads = (size_t)heads_of(me->layer), size = me->size / heads, part = me->numbers / heads;
    const trnn_walk *w = &me->walk;
    for (int32_t t = w->from; t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++) {
            float *to = y + attended_frame(me, t, b) * me->numbers;
            const int32_t count = keys_read(me, t, b);
            trnn_zero(to, me->numbers * sizeof(float));
            for (size_t h = 0; h < heads && count > 0; h++) {
                weigh(me, t, b, count, h * size, size);
                for (int32_t s = 0; s < count; s++)
                    if (key_counts(me, s, b))
                        add_times(to + h * part, me->memory.p[s],
                                  me->v + attended_frame(me, s, b) * me->numbers + h * part, part);
            }
        }
}

static void attention_run(const trnn_call *call)
{
    const trnn_read *keys = &call->others[0], *values = &call->others[1];
    trnn_cursor cursor = {call->scratch, 0};
    const reading me = {
        .layer = call->layer,
        .isa = call->isa,
        .walk = trnn_walk_of_call(call),
        .lengths = call->lengths,
        .start = call->start,
        .steps = keys->steps,
        .ends = keys->lengths,
        .size = (size_t)call->in.cols,
        .numbers = (size_t)call->out.cols,
        .q = call->x,
        .k = keys->x,
        .v = values->x,
        .mask = call->count > 2 ? call->others[2].x : NULL,
        .w = call->weights[0],
        .memory = memory_of(call->layer, &cursor, keys->steps, 0),
    };
    attend(&me, call->y);
}

/* ---- training: with dp[s] = dy . v[s], the gradient of a score is p[s] (dp[s] - sum of p dp). --------------- */

static reading reading_of(const trnn_pass *pass, int back)
{
    const trnn_pass_read *keys = &pass->others[0], *values = &pass->others[1];
    trnn_cursor cursor = {pass->scratch, 0};
    return (reading){
        .layer = pass->layer,
        .isa = pass->isa,
        .walk = trnn_walk_of_pass(pass),
        .lengths = pass->lengths,
        .steps = keys->steps,
        .ends = keys->lengths,
        .size = (size_t)pass->in.cols,
        .numbers = (size_t)pass->out.cols,
        .q = pass->x,
        .k = keys->x,
        .v = values->x,
        .mask = pass->count > 2 ? pass->others[2].x : NULL,
        .w = pass->weights[0],
        .memory = memory_of(pass->layer, &cursor, keys->steps, back),
    };
}

static void attention_forward(const trnn_pass *pass)
{
    const reading me = reading_of(pass, 0);
    attend(&me, pass->y);
}

/* dp = the gradients of the scores of `count` keys; dv, which begins at the part's first number, gets its share. */
static void score_back(const reading *me, int32_t b, int32_t count, size_t first, size_t part,
                       const float *dy, float *dv)
{
    const float *p = me->memory.p;
    float *dp = me->memory.dp;
    double sum = 0.0;
    for (int32_t s = 0; s < count; s++) {
        const size_t place = attended_frame(me, s, b) * me->numbers + first;
        dp[s] = 0.0f;
        if (!key_counts(me, s, b)) continue;
        dp[s] = dot(dy, me->v + place, part);
        sum += (double)p[s] * (double)dp[s];
        if (dv) add_times(dv + place, p[s], dy, part);
    }
    for (int32_t s = 0; s < count; s++) dp[s] = p[s] * (dp[s] - (float)sum);
}

/* From the gradients of the scores to those of a part of the query and the keys. */
static void dot_back(const reading *me, int32_t t, int32_t b, int32_t count, size_t first, size_t size,
                     float *dq, float *dk)
{
    const size_t from = attended_frame(me, t, b) * me->size + first;
    for (int32_t s = 0; s < count; s++) {
        const size_t place = attended_frame(me, s, b) * me->size + first;
        const float slope = me->layer->as.attention.scale * me->memory.dp[s];
        if (!key_counts(me, s, b)) continue;
        if (dq) add_times(dq + from, slope, me->k + place, size);
        if (dk) add_times(dk + place, slope, me->q + from, size);
    }
}

/* Likewise; `kept` is this query's share of the gradient of w. */
static void additive_back(const reading *me, int32_t t, int32_t b, int32_t count, float *dq, float *dk,
                          float *kept)
{
    const size_t size = me->size, from = attended_frame(me, t, b) * size;
    for (int32_t s = 0; s < count; s++) {
        const size_t place = attended_frame(me, s, b) * size;
        const float slope = me->memory.dp[s];
        float *hidden = hidden_of(me, s);
        if (!key_counts(me, s, b)) continue;
        add_times(kept, slope, hidden, size);
        for (size_t i = 0; i < size; i++) hidden[i] = me->w[i] * (1.0f - hidden[i] * hidden[i]);
        if (dq) add_times(dq + from, slope, hidden, size);
        if (dk) add_times(dk + place, slope, hidden, size);
    }
}

/* Sets the part's rows of a gradient to zero. */
static void clear(const trnn_walk *walk, float *d, int32_t from, int32_t to, size_t numbers)
{
    for (int32_t t = from; t < to && d; t++)
        trnn_zero(d + trnn_walk_at(walk, t, walk->first, 0) * numbers,
                  (size_t)walk->rows * numbers * sizeof(float));
}

static void attention_backward(const trnn_pass *pass)
{
    const reading me = reading_of(pass, 1);
    const trnn_walk *w = &me.walk;
    const size_t heads = (size_t)heads_of(me.layer), size = me.size / heads, part = me.numbers / heads;
    float *dq = pass->dx, *dk = pass->others[0].dx, *dv = pass->others[1].dx;
    float *kept = kind_of(me.layer)->additive ? pass->tape : NULL;
    clear(w, dq, w->from, w->to, me.size);
    clear(w, kept, w->from, w->to, me.size);
    clear(w, dk, 0, me.steps, me.size);
    clear(w, dv, 0, me.steps, me.numbers);
    clear(w, pass->count > 2 ? pass->others[2].dx : NULL, 0, me.steps, 1);
    for (int32_t t = w->from; t < w->to; t++)
        for (int32_t b = w->first; b < w->first + w->rows; b++) {
            const int32_t count = keys_read(&me, t, b);
            for (size_t h = 0; h < heads && count > 0; h++) {
                weigh(&me, t, b, count, h * size, size);
                score_back(&me, b, count, h * part, part,
                           pass->dy + attended_frame(&me, t, b) * me.numbers + h * part, dv);
                if (kept)
                    additive_back(&me, t, b, count, dq, dk, kept + attended_frame(&me, t, b) * size);
                else
                    dot_back(&me, t, b, count, h * size, size, dq, dk);
            }
        }
}

/* The tape: each query's share of the gradient of w, (steps, batch, size). */
static size_t additive_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                            int32_t steps)
{
    (void)layer, (void)out;
    return trnn_times(trnn_times((size_t)batch, (size_t)steps), trnn_times((size_t)in.cols, sizeof(float)));
}

static void additive_gradients(const trnn_pass *pass)
{
    const size_t size = (size_t)pass->in.cols, frames = (size_t)pass->steps * (size_t)pass->batch;
    const float *kept = pass->tape;
    for (size_t i = (size_t)pass->part; i < size && pass->grads[0]; i += (size_t)pass->parts) {
        double sum = 0.0;
        for (size_t f = 0; f < frames; f++) sum += (double)kept[f * size + i];
        pass->grads[0][i] += (float)sum;
    }
}

const trnn_layer_type trnn_attention = {
    .name = "attention",
    .check = attention_check,
    .join = attention_join,
    .time = TRNN_TIME_ATTEND,
    .scratch = attention_scratch,
    .run = attention_run,
    .family = &products,
};

const trnn_layer_type trnn_causal_attention = {
    .name = "causal_attention",
    .check = attention_check,
    .join = attention_join,
    .time = TRNN_TIME_KEEP,
    .scratch = attention_scratch,
    .run = attention_run,
    .full_sequence = always,
    .family = &causal,
};

const trnn_layer_type trnn_additive_attention = {
    .name = "additive_attention",
    .check = additive_check,
    .join = attention_join,
    .time = TRNN_TIME_ATTEND,
    .params = additive_params,
    .scratch = attention_scratch,
    .run = attention_run,
    .family = &additive,
};

const trnn_layer_training trnn_attention_training = {
    .scratch = attention_train_scratch,
    .forward = attention_forward,
    .backward = attention_backward,
    .sequences = 1,
};

const trnn_layer_training trnn_causal_attention_training = {
    .scratch = attention_train_scratch,
    .forward = attention_forward,
    .backward = attention_backward,
    .sequences = 1,
};

const trnn_layer_training trnn_additive_attention_training = {
    .tape = additive_tape,
    .scratch = attention_train_scratch,
    .forward = attention_forward,
    .backward = attention_backward,
    .gradients = additive_gradients,
    .sequences = 1,
};
