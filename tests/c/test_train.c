/* Training: every net forwards and backwards, against differences of the forward pass; the same bits in any
 * number of parts, alone, in a batch, with lengths, on every fused set; statuses; transposed matrices. */
#include "check.h"
#include "../../csrc/layers/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 12 steps of 5 rows are a chunk of a recurrent layer; 14 are one and a part of one. */
enum { STEPS = 14, BATCH = 5, DY = -5 };

static const int32_t ends[BATCH] = {9, 3, 14, 1, 14};

/* ---- a net for training ----------------------------------------------------------------------- */

/* A model laid out for training, with weights of its own; all of exactly the size that was asked for. */
typedef struct {
    const model *model;
    trnn_training_sizes sizes;
    weights weights;
    memory grads[LAYERS_MAX];
    void *weight_at[LAYERS_MAX];
    float *grad_at[LAYERS_MAX]; /* the caller may set some to NULL: frozen */
    memory plan, state, dstate, tape;
    size_t in, out; /* numbers of a frame */
} trained;

static const trnn_training *plan_of(const trained *t)
{
    return (const trnn_training *)(const void *)t->plan.at;
}

static trained trained_open(const model *m, int32_t batch, int32_t steps)
{
    trained t;
    memset(&t, 0, sizeof t);
    t.model = m;
    const trnn_net described = model_net(m);
    t.plan = memory_take(trnn_training_bytes(&described));
    const trnn_status status = trnn_training_init(t.plan.at, &described, batch, &steps, &t.sizes);
    if (!check(status == TRNN_OK, "%s: training: %s", m->name, trnn_status_text(status))) abort();
    t.weights = weights_roll(m);
    for (int32_t i = 0; i < m->count; i++) {
        t.grads[i] = memory_take(t.weights.at[i].bytes);
        memset(t.grads[i].at, 0, t.grads[i].bytes);
        t.weight_at[i] = t.weights.at[i].bytes ? t.weights.at[i].at : NULL;
        t.grad_at[i] = t.weights.at[i].bytes ? t.grads[i].at : NULL;
    }
    t.state = memory_take(t.sizes.state_bytes);
    t.dstate = memory_take(t.sizes.state_bytes);
    t.tape = memory_take(t.sizes.tape_bytes);
    memset(t.state.at, 0, t.state.bytes);
    memset(t.dstate.at, 0, t.dstate.bytes);
    memset(t.tape.at, 0, t.tape.bytes);
    t.in = frame_size(t.sizes.in[0].frame);
    t.out = frame_size(t.sizes.out[0].frame);
    return t;
}

static void trained_close(trained *t)
{
    for (int32_t i = 0; i < t->model->count; i++) memory_release(&t->grads[i]);
    weights_release(&t->weights);
    memory_release(&t->plan);
    memory_release(&t->state);
    memory_release(&t->dstate);
    memory_release(&t->tape);
}

/* What a pass begins with; the same for every way of making it. */
typedef struct {
    memory x, dy; /* (STEPS, BATCH, .) */
    memory state, dstate;
} begin;

static void roll_into(const memory *m, dice *d, int exponent)
{
    for (size_t i = 0; i < m->bytes / sizeof(float); i++) m->at[i] = dice_float(d, exponent);
}

/* Frame (t, b) of an array of frames of `size` numbers. */
static float *frame_at(float *array, int32_t t, int32_t b, size_t size)
{
    return array + ((size_t)t * BATCH + (size_t)b) * size;
}

/* Beyond a row's end x holds what must not be read, and the gradient of y is zero, as from a loss. */
static begin begin_roll(const trained *t, const int32_t *lengths)
{
    static const float no_number = NAN;
    static const int32_t no_index = INT32_MAX;
    const int indices = t->sizes.indices;
    dice d = dice_named(t->model->name);
    begin b = {memory_floats(STEPS * BATCH * t->in), memory_floats(STEPS * BATCH * t->out),
               memory_take(t->state.bytes), memory_take(t->state.bytes)};
    for (size_t i = 0; i < STEPS * BATCH * t->in; i++) {
        const uint32_t most = indices ? (uint32_t)t->model->layers[0].as.embedding.num_embeddings : 1;
        const int32_t index = (int32_t)((dice_roll(&d) >> 8) % most);
        const float number = dice_float(&d, 1);
        memcpy(b.x.at + i, indices ? (const void *)&index : (const void *)&number, sizeof(float));
    }
    roll_into(&b.dy, &d, DY);
    roll_into(&b.state, &d, -1);
    roll_into(&b.dstate, &d, DY);
    for (int32_t row = 0; lengths && row < BATCH; row++)
        for (int32_t step = lengths[row]; step < STEPS; step++) {
            for (size_t i = 0; i < t->in; i++)
                memcpy(frame_at(b.x.at, step, row, t->in) + i,
                       indices ? (const void *)&no_index : (const void *)&no_number, sizeof(float));
            memset(frame_at(b.dy.at, step, row, t->out), 0, t->out * sizeof(float));
        }
    return b;
}

static void begin_release(begin *b)
{
    memory_release(&b->x);
    memory_release(&b->dy);
    memory_release(&b->state);
    memory_release(&b->dstate);
}

/* How a pass is made. */
typedef struct {
    const trnn_kernels *isa;
    int32_t parts, steps;
    const int32_t *lengths;
    int32_t to_input, rows_first, hidden;
} way;

static const uint32_t unwritten = 0x7fc5a5a5u; /* a NaN that nothing computes */

static void mark(float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) memcpy(numbers + i, &unwritten, sizeof unwritten);
}

static size_t marks(const float *numbers, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) left += memcmp(numbers + i, &unwritten, sizeof unwritten) == 0;
    return left;
}

static float *tape_at(const trained *t, size_t bytes) { return t->tape.at + bytes / sizeof(float); }

enum { PARTS_MAX = 8, FORWARD = 1, BACKWARD = 2, BOTH = 3 };

/* The phases of a pass from `b`, the last part first; every part's scratch is its own, and dirty. */
static void pass(trained *t, const way *how, const begin *b, int phases)
{
    const size_t frames = (size_t)how->steps * (size_t)t->sizes.batch;
    memory scratch[PARTS_MAX], transposed = memory_floats(b->x.bytes / sizeof(float));
    trnn_training_job jobs[PARTS_MAX];
    memcpy(transposed.at, b->x.at, b->x.bytes);
    for (int32_t step = 0; how->rows_first && step < how->steps; step++)
        for (int32_t row = 0; row < t->sizes.batch; row++)
            memcpy(transposed.at + ((size_t)row * (size_t)how->steps + (size_t)step) * t->in,
                   b->x.at + ((size_t)step * (size_t)t->sizes.batch + (size_t)row) * t->in,
                   t->in * sizeof(float));
    for (int32_t part = 0; part < how->parts; part++) {
        scratch[part] = memory_take(t->sizes.scratch_bytes);
        memset(scratch[part].at, 0xff, scratch[part].bytes);
        jobs[part] = (trnn_training_job){.isa = how->isa,
                                         .weights = t->weight_at,
                                         .grads = t->grad_at,
                                         .state = t->state.at,
                                         .dstate = t->dstate.at,
                                         .tape = t->tape.at,
                                         .scratch = scratch[part].at,
                                         .x = {transposed.at},
                                         .x_step = {how->rows_first ? 1 : (size_t)t->sizes.batch},
                                         .x_row = {how->rows_first ? (size_t)how->steps : 1},
                                         .steps = {how->steps},
                                         .lengths = {how->lengths},
                                         .to_input = how->to_input,
                                         .hidden = how->hidden,
                                         .seed = {17, 4},
                                         .part = part,
                                         .parts = how->parts};
        const trnn_status status = trnn_training_check(plan_of(t), &jobs[part]);
        check(status == TRNN_OK, "%s: %s", t->model->name, trnn_status_text(status));
    }
    if (phases & FORWARD) {
        memcpy(t->state.at, b->state.at, t->state.bytes);
        mark(tape_at(t, t->sizes.y[0]), frames * t->out);
        for (int32_t stage = 0; stage < t->sizes.stages; stage++)
            for (int32_t part = how->parts; part-- > 0;) trnn_forward(plan_of(t), &jobs[part], stage);
        check(marks(tape_at(t, t->sizes.y[0]), frames * t->out) == 0, "%s on %s: y is not all written",
              t->model->name, trnn_isa_name(how->isa));
    }
    if (phases & BACKWARD) {
        memcpy(t->dstate.at, b->dstate.at, t->dstate.bytes);
        if (!t->sizes.indices) mark(tape_at(t, t->sizes.dx[0]), frames * t->in);
        memcpy(tape_at(t, t->sizes.dy[0]), b->dy.at, frames * t->out * sizeof(float));
        for (int32_t stage = t->sizes.stages; stage-- > 0;)
            for (int32_t part = how->parts; part-- > 0;) trnn_backward(plan_of(t), &jobs[part], stage);
        for (int32_t part = how->parts; part-- > 0;) trnn_gradients(plan_of(t), &jobs[part]);
        check(!how->to_input || t->sizes.indices || marks(tape_at(t, t->sizes.dx[0]), frames * t->in) == 0,
              "%s on %s: dx is not all written", t->model->name, trnn_isa_name(how->isa));
    }
    for (int32_t part = 0; part < how->parts; part++) memory_release(&scratch[part]);
    memory_release(&transposed);
}

/* ---- what a pass gives -------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    const float *at;
    size_t count;
} result;

/* The k-th: gradients and weights of a layer, states, y, dx; `at` is NULL past the last. */
static result result_of(const trained *t, int32_t steps, int32_t k)
{
    const int32_t layers = t->model->count;
    const size_t frames = (size_t)steps * (size_t)t->sizes.batch, state = t->state.bytes / sizeof(float);
    if (k < layers) return (result){"gradients", t->grads[k].at, t->grads[k].bytes / sizeof(float)};
    k -= layers;
    if (k < layers) { /* a batch norm moves its running statistics */
        const int moves = t->model->layers[k].type == &trnn_batch_norm;
        return (result){"weights", t->weights.at[k].at, moves ? t->weights.at[k].bytes / sizeof(float) : 0};
    }
    switch (k - layers) {
    case 0: return (result){"state", t->state.at, state};
    case 1: return (result){"dstate", t->dstate.at, state};
    case 2: return (result){"y", tape_at(t, t->sizes.y[0]), frames * t->out};
    case 3: return (result){"dx", tape_at(t, t->sizes.dx[0]), t->sizes.indices ? 0 : frames * t->in};
    default: return (result){NULL, NULL, 0};
    }
}

static memory everything(const trained *t, int32_t steps)
{
    size_t count = 0;
    result p;
    for (int32_t k = 0; (p = result_of(t, steps, k)).at; k++) count += p.count;
    memory all = memory_floats(count);
    count = 0;
    for (int32_t k = 0; (p = result_of(t, steps, k)).at; count += p.count, k++)
        memcpy(all.at + count, p.at, p.count * sizeof(float));
    return all;
}

/* Are the first `results` as `wanted` has them? */
static void same_pass(const trained *t, const way *how, const memory *wanted, int32_t results,
                      const char *what)
{
    size_t at = 0;
    result p;
    for (int32_t k = 0; k < results && (p = result_of(t, how->steps, k)).at; at += p.count, k++)
        check(same_bits(p.at, wanted->at + at, p.count), "%s on %s%s: %s (result %d) %s", t->model->name,
              trnn_isa_name(how->isa), how->lengths ? ", with lengths" : "", p.name, (int)k, what);
}

/* Gradients begin anew, batch norms with the statistics that they had. */
static void renew(trained *t)
{
    weights fresh = weights_roll(t->model);
    for (int32_t i = 0; i < t->model->count; i++) {
        memcpy(t->weights.at[i].at, fresh.at[i].at, fresh.at[i].bytes);
        memset(t->grads[i].at, 0, t->grads[i].bytes);
        t->grad_at[i] = fresh.at[i].bytes ? t->grads[i].at : NULL;
    }
    weights_release(&fresh);
}

/* A layer's gradients as PyTorch has them, and its running statistics; into `to`, or only counted. */
static size_t tensors_of(const trained *t, int32_t layer, float *to)
{
    trnn_param params[TRNN_PARAMS_MAX];
    const int32_t tensors = trnn_layer_params(&t->model->layers[layer], params);
    size_t count = 0;
    for (int32_t p = 0; p < tensors; p++) {
        const int running = strncmp(params[p].name, "running", 7) == 0;
        tensor one = tensor_take(&params[p]);
        trnn_param_unpack(&params[p], running ? t->weights.at[layer].at : t->grads[layer].at, one.numbers.at,
                          NULL);
        if (to) memcpy(to + count, one.numbers.at, one.numbers.bytes);
        count += one.rows * one.cols;
        tensor_release(&one);
    }
    return count;
}

/* Gradients and running statistics layer by layer, (row, state) final and gradient of the initial, y, dx. */
memory train_pass(const model *m, const trnn_kernels *isa)
{
    trained t = trained_open(m, BATCH, STEPS);
    begin b = begin_roll(&t, ends);
    const way how = {.isa = isa, .parts = 1, .steps = STEPS, .lengths = ends, .to_input = 1};
    pass(&t, &how, &b, BOTH);

    net n = net_open(m, &t.weights, BATCH, STEPS); /* knows how much of a row is state */
    const size_t y = STEPS * BATCH * t.out, dx = t.sizes.indices ? 0 : STEPS * BATCH * t.in;
    size_t count = 2 * BATCH * n.row_state + y + dx;
    for (int32_t i = 0; i < m->count; i++) count += tensors_of(&t, i, NULL);
    memory all = memory_floats(count);
    float *to = all.at;
    for (int32_t i = 0; i < m->count; i++) to += tensors_of(&t, i, to);
    for (int k = 0; k < 2; k++) {
        memcpy(n.state.at, k ? t.dstate.at : t.state.at, n.state.bytes);
        for (int32_t row = 0; row < BATCH; row++, to += n.row_state) net_get_row(&n, row, to);
    }
    memcpy(to, tape_at(&t, t.sizes.y[0]), y * sizeof(float));
    memcpy(to + y, tape_at(&t, t.sizes.dx[0]), dx * sizeof(float));
    net_close(&n);
    begin_release(&b);
    trained_close(&t);
    return all;
}

/* ---- same bits in every way ---------------------------------------------------------------------- */

static int has(const model *m, const trnn_layer_type *kind)
{
    for (int32_t i = 0; i < m->count; i++)
        if (m->layers[i].type == kind) return 1;
    return 0;
}

static void all_finite(const trained *t, const memory *all, const way *how)
{
    size_t bad = 0;
    for (size_t i = 0; i < all->bytes / sizeof(float); i++) bad += !isfinite(all->at[i]);
    check(bad == 0, "%s on %s: %lu numbers are not finite", t->model->name, trnn_isa_name(how->isa),
          (unsigned long)bad);
}

/* What lies beyond a row's end has no gradient; nor have the lanes that pad a panel. */
static void zeros_where_nothing_is(const trained *t, const way *how)
{
    int zeros = 1;
    for (int32_t b = 0; how->lengths && !t->sizes.indices && b < BATCH; b++)
        for (int32_t step = how->lengths[b]; step < how->steps; step++)
            for (size_t i = 0; i < t->in; i++)
                zeros &= frame_at(tape_at(t, t->sizes.dx[0]), step, b, t->in)[i] == 0.0f;
    check(zeros, "%s on %s: dx goes on after a row's end", t->model->name, trnn_isa_name(how->isa));
    for (int32_t l = 0; l < t->model->count; l++) {
        trnn_param params[TRNN_PARAMS_MAX];
        const int32_t count = trnn_layer_params(&t->model->layers[l], params);
        memory again = memory_take(t->grads[l].bytes);
        memset(again.at, 0, again.bytes);
        for (int32_t p = 0; p < count; p++) {
            tensor one = tensor_take(&params[p]);
            trnn_param_unpack(&params[p], t->grads[l].at, one.numbers.at, NULL);
            tensor_pack(&one, &params[p], again.at);
            tensor_release(&one);
        }
        int same = 1;
        for (size_t i = 0; i < again.bytes / sizeof(float); i++) same &= again.at[i] == t->grads[l].at[i];
        check(same, "%s on %s: padding of layer %d has a gradient", t->model->name, trnn_isa_name(how->isa),
              (int)l);
        memory_release(&again);
    }
}

/* Only batch norms change weights. */
static void weights_stay(const trained *t)
{
    weights fresh = weights_roll(t->model);
    for (int32_t i = 0; i < t->model->count; i++)
        check(t->model->layers[i].type == &trnn_batch_norm ||
                  same_bits(fresh.at[i].at, t->weights.at[i].at, fresh.at[i].bytes / sizeof(float)),
              "%s: the weights of layer %d changed", t->model->name, (int)i);
    weights_release(&fresh);
}

/* y and the state are those of the net in use, but where training computes something else. */
static void as_in_use(const trained *t, const way *how, const begin *b)
{
    weights w = weights_roll(t->model);
    net n = net_open(t->model, &w, BATCH, STEPS);
    memory x = memory_floats(b->x.bytes / sizeof(float)), y = memory_floats(STEPS * BATCH * n.out);
    memcpy(x.at, b->x.at, x.bytes);
    for (int32_t row = 0; how->lengths && row < BATCH; row++) /* as training sees it */
        for (int32_t step = how->lengths[row]; step < STEPS; step++)
            memset(frame_at(x.at, step, row, n.in), 0, n.in * sizeof(float));
    memcpy(n.state.at, b->state.at, n.state.bytes);
    net_run(&n, how->isa, x.at, y.at, STEPS, how->lengths);
    check(same_bits(y.at, tape_at(t, t->sizes.y[0]), STEPS * BATCH * n.out), "%s on %s: y is not as in use",
          t->model->name, trnn_isa_name(how->isa));
    check(same_bits(n.state.at, t->state.at, n.state.bytes / sizeof(float)),
          "%s on %s: the state is not as in use", t->model->name, trnn_isa_name(how->isa));
    memory_release(&x);
    memory_release(&y);
    net_close(&n);
    weights_release(&w);
}

/* A row alone, for as many steps as it has. */
static void alone(const trained *batch, const way *how, const begin *b, int32_t row)
{
    const int32_t steps = how->lengths ? how->lengths[row] : STEPS;
    trained t = trained_open(batch->model, 1, steps);
    const size_t stride = t.state.bytes / sizeof(float), first = (size_t)row * stride;
    begin own = {memory_floats((size_t)steps * t.in), memory_floats((size_t)steps * t.out),
                 memory_take(t.state.bytes), memory_take(t.state.bytes)};
    for (int32_t s = 0; s < steps; s++) {
        memcpy(own.x.at + (size_t)s * t.in, frame_at(b->x.at, s, row, t.in), t.in * sizeof(float));
        memcpy(own.dy.at + (size_t)s * t.out, frame_at(b->dy.at, s, row, t.out), t.out * sizeof(float));
    }
    memcpy(own.state.at, b->state.at + first, t.state.bytes);
    memcpy(own.dstate.at, b->dstate.at + first, t.state.bytes);
    const way by_itself = {.isa = how->isa, .parts = 1, .steps = steps, .to_input = 1};
    pass(&t, &by_itself, &own, BOTH);
    int same_y = 1, same_dx = 1;
    for (int32_t s = 0; s < steps; s++) {
        same_y &= same_bits(tape_at(&t, t.sizes.y[0]) + (size_t)s * t.out,
                            frame_at(tape_at(batch, batch->sizes.y[0]), s, row, t.out), t.out);
        same_dx &=
            t.sizes.indices || same_bits(tape_at(&t, t.sizes.dx[0]) + (size_t)s * t.in,
                                         frame_at(tape_at(batch, batch->sizes.dx[0]), s, row, t.in), t.in);
    }
    const char *with = how->lengths ? ", with lengths" : "", *isa = trnn_isa_name(how->isa);
    check(same_y, "%s on %s: y of row %d alone%s", t.model->name, isa, (int)row, with);
    check(same_dx, "%s on %s: dx of row %d alone%s", t.model->name, isa, (int)row, with);
    check(same_bits(t.state.at, batch->state.at + first, stride) &&
              same_bits(t.dstate.at, batch->dstate.at + first, stride),
          "%s on %s: states of row %d alone%s", t.model->name, isa, (int)row, with);
    begin_release(&own);
    trained_close(&t);
}

/* Layers without a gradient leave those of the others as they are. */
static void frozen(trained *t, const way *how, const begin *b, const memory *wanted, int32_t which)
{
    renew(t);
    for (int32_t i = 0; i < t->model->count; i++)
        if (i % 2 == which) t->grad_at[i] = NULL;
    pass(t, how, b, BOTH);
    size_t at = 0;
    for (int32_t i = 0; i < t->model->count; at += t->grads[i].bytes / sizeof(float), i++) {
        const size_t count = t->grads[i].bytes / sizeof(float);
        int zeros = 1;
        for (size_t k = 0; k < count; k++) zeros &= t->grads[i].at[k] == 0.0f;
        check(i % 2 == which ? zeros : same_bits(t->grads[i].at, wanted->at + at, count),
              "%s on %s: gradients of layer %d, where some are frozen", t->model->name,
              trnn_isa_name(how->isa), (int)i);
    }
}

/* Gradients are added to what is there: the same bits in parts. */
static void added(trained *t, const way *how, const begin *b, const memory *wanted)
{
    way shared = *how;
    memory first = {NULL, NULL, 0};
    for (shared.parts = 1; shared.parts <= 3; shared.parts += 2) {
        dice d = dice_named("added");
        renew(t);
        for (int32_t i = 0; i < t->model->count; i++) roll_into(&t->grads[i], &d, -3);
        pass(t, &shared, b, BOTH);
        if (shared.parts > 1)
            same_pass(t, &shared, &first, t->model->count, "in parts, added to others");
        else
            first = everything(t, how->steps);
    }
    dice d = dice_named("added");
    size_t at = 0;
    double apart = 0.0;
    for (int32_t i = 0; i < t->model->count; i++)
        for (size_t k = 0; k < t->grads[i].bytes / sizeof(float); k++, at++) {
            const double sum = (double)wanted->at[at] + (double)dice_float(&d, -3);
            apart = fmax(apart, fabs((double)first.at[at] - sum) / fmax(1.0, fabs(sum)));
        }
    check(apart < 2e-6, "%s on %s: gradients are not added, but %.2g off", t->model->name,
          trnn_isa_name(how->isa), apart);
    memory_release(&first);
}

/* Do random numbers of the place of a number in the batch decide what training drops? */
static int by_chance(const model *m)
{
    int found = has(m, &trnn_dropout);
    for (int32_t i = 0; i < m->count; i++) {
        const trnn_layer *layer = &m->layers[i];
        const trnn_recurrent_args *a = &layer->as.recurrent;
        if (layer->type->run == trnn_gru.run)
            found |= a->recurrent_dropout > 0.0f || a->zoneout > 0.0f || a->zoneout_cell > 0.0f;
    }
    return found;
}

/* Any other way gives what one part gives: with rows first, on a tape that was used and has room for more,
 * without a gradient of x, with frozen layers. */
static void every_way(const model *m, const trnn_kernels *isa, const int32_t *lengths)
{
    enum { ALL = 2 * LAYERS_MAX + 5 };
    static const int32_t parts[] = {2, 3, 7};
    const trnn_kernels *yardstick = trnn_isa_find("scalar_fma");
    const int by_rows = !has(m, &trnn_batch_norm) && !by_chance(m);
    trained t = trained_open(m, BATCH, STEPS), other = trained_open(m, BATCH, STEPS + 3);
    begin b = begin_roll(&t, lengths);
    const way plain = {.isa = isa, .parts = 1, .steps = STEPS, .lengths = lengths, .to_input = 1};
    pass(&t, &plain, &b, BOTH);
    memory wanted = everything(&t, STEPS);
    all_finite(&t, &wanted, &plain);
    zeros_where_nothing_is(&t, &plain);
    weights_stay(&t);
    if (by_rows) as_in_use(&t, &plain, &b);
    for (int32_t row = 0; by_rows && row < BATCH; row += lengths ? 1 : 3) alone(&t, &plain, &b, row);

    way how = plain;
    if (lengths) { /* what is on a used tape beyond a row's end must not come back */
        begin nans = begin_roll(&t, NULL);
        for (size_t i = 0; !t.sizes.indices && i < STEPS * BATCH * t.in; i++) nans.x.at[i] = NAN;
        how.lengths = NULL;
        pass(&other, &how, &nans, BOTH);
        how.lengths = lengths;
        renew(&other);
        begin_release(&nans);
    }
    if (yardstick && yardstick != isa && trnn_isa_fused(isa)) {
        how.isa = yardstick;
        pass(&other, &how, &b, BOTH);
        same_pass(&other, &plain, &wanted, ALL, "differs from scalar_fma's");
        how.isa = isa;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        how.parts = parts[i];
        how.rows_first = i % 2 == 0;
        renew(&other);
        pass(&other, &how, &b, BOTH);
        same_pass(&other, &plain, &wanted, ALL, "in parts");
    }
    how.hidden = 1;
    renew(&other);
    pass(&other, &how, &b, BOTH);
    same_pass(&other, &plain, &wanted, ALL, "where gradients of hidden states are kept");
    how.hidden = 0;
    if (lengths) {
        how.parts = 2;
        how.to_input = 0;
        renew(&other);
        pass(&other, &how, &b, BOTH);
        same_pass(&other, &plain, &wanted, m->count, "without a gradient of x");
        frozen(&other, &how, &b, &wanted, 0);
        frozen(&other, &how, &b, &wanted, 1);
        added(&other, &plain, &b, &wanted);
    }
    memory_release(&wanted);
    begin_release(&b);
    trained_close(&t);
    trained_close(&other);
}

/* ---- gradients against differences ----------------------------------------------------------------- */

/* What dy and dstate are the gradients of: their products with y and the final state. */
static double value_of(trained *t, const way *how, const begin *b)
{
    double value = 0.0;
    pass(t, how, b, FORWARD);
    for (size_t i = 0; i < STEPS * BATCH * t->out; i++) {
        const int32_t row = (int32_t)(i / t->out) % BATCH;
        if (how->lengths && (int32_t)(i / t->out) / BATCH >= how->lengths[row]) continue;
        value += (double)b->dy.at[i] * (double)tape_at(t, t->sizes.y[0])[i];
    }
    for (size_t i = 0; i < t->state.bytes / sizeof(float); i++)
        value += (double)b->dstate.at[i] * (double)t->state.at[i];
    return value;
}

/* Numbers moved along a direction change the value as their gradient says, by `slope` a unit. */
static void along(trained *t, const way *how, const begin *b, float *numbers, size_t count,
                  const float *gradient, const float *direction, const char *what)
{
    const trnn_layer *first = &t->model->layers[0];
    const int kinks = has(t->model, &trnn_relu) || has(t->model, &trnn_max_pool) ||
                      (first->type == &trnn_rnn && first->as.recurrent.relu);
    const double step = kinks ? 0x1p-10 : 0x1p-7,
                 bound = kinks ? 5e-3 : 1e-3; /* a kink on the way costs a step */
    memory before = memory_floats(count);
    double length = 0.0, slope = 0.0, values[2];
    for (size_t i = 0; i < count; i++) length += (double)direction[i] * (double)direction[i];
    length = sqrt(length);
    if (length == 0.0) { /* nothing depends on these */
        memory_release(&before);
        return;
    }
    for (size_t i = 0; i < count; i++) slope += (double)gradient[i] * (double)direction[i] / length;
    memcpy(before.at, numbers, before.bytes);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < count; i++)
            if (direction[i] != 0.0f)
                numbers[i] =
                    (float)((double)before.at[i] + (side ? step : -step) * (double)direction[i] / length);
        values[side] = value_of(t, how, b);
        memcpy(numbers, before.at, before.bytes);
    }
    const double measured = (values[1] - values[0]) / (2.0 * step);
    check(fabs(measured - slope) < bound * fmax(0.1, fabs(slope)), "%s on %s%s: %s: slope %g, measured %g",
          t->model->name, trnn_isa_name(how->isa), how->lengths ? ", with lengths" : "", what, slope,
          measured);
    memory_release(&before);
}

/* Along the gradient itself, where a part that is missing would show, and along a random direction. */
static void against_differences(const model *m, const trnn_kernels *isa, const int32_t *lengths)
{
    trained t = trained_open(m, BATCH, STEPS);
    begin b = begin_roll(&t, lengths);
    const way how = {.isa = isa, .parts = 1, .steps = STEPS, .lengths = lengths, .to_input = 1};
    pass(&t, &how, &b, BOTH);
    memory all = everything(&t, STEPS); /* gradients come first */
    const size_t state = t.state.bytes / sizeof(float), x = b.x.bytes / sizeof(float);
    memory dstate = memory_floats(state), dx = memory_floats(t.sizes.indices ? 0 : x);
    memcpy(dstate.at, t.dstate.at, t.dstate.bytes);
    memcpy(dx.at, tape_at(&t, t.sizes.dx[0]), dx.bytes);

    dice d = dice_named("direction");
    size_t at = 0;
    for (int32_t i = 0; i < m->count; i++) {
        const size_t count = t.weights.at[i].bytes / sizeof(float);
        memory random = memory_floats(count);
        for (size_t k = 0; k < count; k++) /* padding and statistics stay */
            random.at[k] = all.at[at + k] == 0.0f ? 0.0f : dice_float(&d, 0);
        along(&t, &how, &b, t.weights.at[i].at, count, all.at + at, all.at + at,
              "weights along the gradient");
        along(&t, &how, &b, t.weights.at[i].at, count, all.at + at, random.at, "weights");
        at += count;
        memory_release(&random);
    }
    along(&t, &how, &b, b.state.at, state, dstate.at, dstate.at, "the initial state");
    if (!t.sizes.indices) along(&t, &how, &b, b.x.at, x, dx.at, dx.at, "x");
    memory_release(&all);
    memory_release(&dstate);
    memory_release(&dx);
    begin_release(&b);
    trained_close(&t);
}

/* ---- steps of an optimiser ---------------------------------------------------------------------------- */

/* The weights after all steps, and each one's loss: forwards, cross-entropy, backwards, the norm, Adam. */
memory train_steps(const trnn_kernels *isa)
{
    enum { CLASSES = 13, ADAMS = 6, TENSORS_MAX = 8, CHUNKS_MAX = 16 };
    static const trnn_rule adam = {
        .optimiser = &trnn_adam, .lr = 0.05, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-3};
    static const trnn_loss cross_entropy = {.type = &trnn_loss_cross_entropy, .ignore_index = -100};
    static const model m = {
        "train by adam",
        {1, 1},
        3,
        {EMBEDDING(CLASSES, 8), RECURRENT(lstm, 8, 20, .bias = 1), LINEAR(20, CLASSES, 1)}};
    trained t = trained_open(&m, BATCH, STEPS);
    begin b = begin_roll(&t, ends);
    memset(b.state.at, 0, b.state.bytes);
    memset(b.dstate.at, 0, b.dstate.bytes);
    const way how = {.isa = isa, .parts = 1, .steps = STEPS, .lengths = ends};

    trnn_tensor changing[TENSORS_MAX];
    memory moments[LAYERS_MAX][2];
    int32_t count = 0;
    size_t numbers = 0;
    for (int32_t i = 0; i < m.count; i++) {
        trnn_param params[TRNN_PARAMS_MAX];
        const int32_t tensors = trnn_layer_params(&m.layers[i], params);
        for (int k = 0; k < 2; k++) {
            moments[i][k] = memory_take(t.weights.at[i].bytes);
            memset(moments[i][k].at, 0, moments[i][k].bytes);
        }
        for (int32_t p = 0; p < tensors; p++) {
            const size_t at = params[p].offset / sizeof(float);
            numbers += (size_t)params[p].shape[0] * (size_t)params[p].shape[1];
            changing[count++] = (trnn_tensor){.rule = &adam,
                                              .weights = t.weights.at[i].at + at,
                                              .gradients = t.grads[i].at + at,
                                              .state = {moments[i][0].at + at, moments[i][1].at + at, NULL},
                                              .numbers = trnn_param_bytes(&params[p]) / sizeof(float)};
        }
    }
    check(trnn_tensors_chunks(changing, count) <= CHUNKS_MAX, "more chunks than there is room for");

    int32_t targets[STEPS * BATCH], bad;
    dice d = dice_named("targets");
    for (int32_t i = 0; i < STEPS * BATCH; i++) targets[i] = (int32_t)((dice_roll(&d) >> 8) % CLASSES);
    memory scratch = memory_take(trnn_loss_scratch_bytes(&cross_entropy, STEPS, BATCH, t.out, 0));
    double losses[ADAMS], sums[CHUNKS_MAX];
    for (int32_t step = 0; step < ADAMS; step++) {
        pass(&t, &how, &b, FORWARD);
        const trnn_loss_job job = {.isa = isa,
                                   .y = tape_at(&t, t.sizes.y[0]),
                                   .target = targets,
                                   .dy = b.dy.at,
                                   .rows = 1,
                                   .cols = t.sizes.out[0].frame.cols,
                                   .steps = STEPS,
                                   .batch = BATCH,
                                   .lengths = ends,
                                   .scratch = scratch.at};
        const trnn_status status = trnn_loss_run(&cross_entropy, &job, &losses[step]);
        check(status == TRNN_OK, "cross-entropy: %s", trnn_status_text(status));
        trnn_tensors_clear(changing, count, 0, 1);
        pass(&t, &how, &b, BACKWARD);
        trnn_tensors_measure(isa, changing, count, sums, 0, 1);
        const double norm = trnn_tensors_norm(changing, count, sums, &bad);
        check(bad < 0, "%s on %s: a gradient is not finite", m.name, trnn_isa_name(isa));
        trnn_tensors_update(isa, changing, count, trnn_clip_scale(norm, 0.5), TRNN_NO_LIMIT, 0, 1);
        trnn_tensors_count(changing, count);
    }
    check(losses[ADAMS - 1] < 0.9 * losses[0], "%s on %s: the loss goes from %g to %g", m.name,
          trnn_isa_name(isa), losses[0], losses[ADAMS - 1]);

    memory all = memory_floats(numbers + ADAMS);
    float *to = all.at;
    for (int32_t i = 0; i < m.count; i++) {
        trnn_param params[TRNN_PARAMS_MAX];
        const int32_t tensors = trnn_layer_params(&m.layers[i], params);
        for (int32_t p = 0; p < tensors; p++) {
            tensor one = tensor_take(&params[p]);
            trnn_param_unpack(&params[p], t.weights.at[i].at, one.numbers.at, NULL);
            memcpy(to, one.numbers.at, one.numbers.bytes);
            to += one.rows * one.cols;
            tensor_release(&one);
        }
    }
    for (int32_t step = 0; step < ADAMS; step++) to[step] = (float)losses[step];
    for (int32_t i = 0; i < m.count; i++)
        for (int k = 0; k < 2; k++) memory_release(&moments[i][k]);
    memory_release(&scratch);
    begin_release(&b);
    trained_close(&t);
    return all;
}

/* ---- what cannot be ----------------------------------------------------------------------------------- */

enum { ROWS = 3, MOST = 4 };

/* A job of ROWS rows and `steps` of MOST steps, all of x in order. */
static trnn_training_job job_of(const trained *t, const void *x, int32_t steps, const int32_t *lengths)
{
    const trnn_training_job job = {.isa = trnn_isa_best(),
                                   .weights = t->weight_at,
                                   .grads = t->grad_at,
                                   .state = t->state.at,
                                   .dstate = t->dstate.at,
                                   .tape = t->tape.at,
                                   .x = {x},
                                   .x_step = {(size_t)t->sizes.batch},
                                   .x_row = {1},
                                   .steps = {steps},
                                   .lengths = {lengths},
                                   .parts = 1};
    return job;
}

static void refused(const trained *t, const trnn_training_job *job, trnn_status wanted, const char *what)
{
    const trnn_status status = trnn_training_check(plan_of(t), job);
    check(status == wanted, "%s, %s: %s, wanted %s", t->model->name, what, trnn_status_text(status),
          trnn_status_text(wanted));
}

static void bad_jobs(void)
{
    static const model lstm = {"bad lstm", {1, 2}, 1, {RECURRENT(lstm, 2, 3)}};
    static const int32_t good[ROWS] = {4, 1, 2};
    static const int32_t bad_lengths[][ROWS] = {{4, 0, 2}, {-1, 4, 4}, {4, 4, 5}, {INT32_MIN, 1, 1}};
    static const int32_t bad_steps[] = {0, -1, MOST + 1, INT32_MIN, INT32_MAX};
    static const int32_t bad_parts[][2] = {{0, 0}, {0, -1}, {-1, 1}, {1, 1}, {3, 3}, {7, 3}};
    trained t = trained_open(&lstm, ROWS, MOST);
    const float x[ROWS * MOST * 2] = {0};
    trnn_training_job job = job_of(&t, x, MOST, good);
    refused(&t, &job, TRNN_OK, "a good job");
    for (size_t i = 0; i < sizeof bad_lengths / sizeof bad_lengths[0]; i++) {
        job = job_of(&t, x, MOST, bad_lengths[i]);
        refused(&t, &job, TRNN_E_LENGTHS, "bad lengths");
    }
    job = job_of(&t, x, 3, good); /* of 4 */
    refused(&t, &job, TRNN_E_LENGTHS, "lengths beyond the job's steps");
    for (size_t i = 0; i < sizeof bad_steps / sizeof bad_steps[0]; i++) {
        job = job_of(&t, x, bad_steps[i], NULL);
        refused(&t, &job, TRNN_E_STEPS, "bad steps");
    }
    for (size_t i = 0; i < sizeof bad_parts / sizeof bad_parts[0]; i++) {
        job = job_of(&t, x, MOST, NULL);
        job.part = bad_parts[i][0];
        job.parts = bad_parts[i][1];
        refused(&t, &job, TRNN_E_ARGUMENT, "bad parts");
    }
    trained_close(&t);
}

/* Every index within a row's length is looked at, in both orders of x, and none beyond. */
static void bad_indices(void)
{
    static const model embedding = {"bad embedding", {1, 2}, 1, {EMBEDDING(9, 5)}};
    static const int32_t lengths[ROWS] = {4, 1, 2}, wrong[] = {9, -1, INT32_MIN, INT32_MAX};
    trained t = trained_open(&embedding, ROWS, MOST);
    for (int32_t at = 0; at < ROWS * MOST * 2; at++)
        for (int rows_first = 0; rows_first < 2; rows_first++) {
            memory x = memory_floats(ROWS * MOST * 2);
            memset(x.at, 0, x.bytes);
            memcpy(x.at + at, &wrong[at % 4], sizeof wrong[0]);
            trnn_training_job job = job_of(&t, x.at, MOST, NULL);
            if (rows_first) {
                job.x_step[0] = 1;
                job.x_row[0] = MOST;
            }
            refused(&t, &job, TRNN_E_INDEX, "a bad index");
            const int32_t frame = at / 2, step = rows_first ? frame % MOST : frame / ROWS,
                          row = rows_first ? frame / MOST : frame % ROWS;
            job.lengths[0] = lengths;
            refused(&t, &job, step < lengths[row] ? TRNN_E_INDEX : TRNN_OK, "a bad index, with lengths");
            memory_release(&x);
        }
    trained_close(&t);
}

/* A variance wants two numbers of a channel. */
static void bad_statistics(void)
{
    static const model columns = {"bad columns", {1, 5}, 1, {NORM(batch_norm, 5, 1, 1)}};
    static const model rows = {"bad rows", {5, 2}, 2, {PLAIN(relu), NORM(batch_norm, 5, 1, 1)}};
    static const model layer = {"a layer norm", {1, 5}, 1, {NORM(layer_norm, 5, 1, 1)}};
    static const int32_t one[] = {1, 1}, two[] = {1, 2};
    const float x[2 * MOST * 10] = {0};
    trained t = trained_open(&columns, 1, MOST);
    trnn_training_job job = job_of(&t, x, 1, NULL);
    refused(&t, &job, TRNN_E_STATISTICS, "one frame");
    job = job_of(&t, x, 2, NULL);
    refused(&t, &job, TRNN_OK, "two frames");
    job = job_of(&t, x, 2, one);
    refused(&t, &job, TRNN_E_STATISTICS, "one frame, with lengths");
    trained_close(&t);
    t = trained_open(&columns, 2, MOST);
    job = job_of(&t, x, MOST, two);
    refused(&t, &job, TRNN_OK, "three frames, with lengths");
    trained_close(&t);
    t = trained_open(&rows, 1, MOST);
    job = job_of(&t, x, 1, NULL);
    refused(&t, &job, TRNN_OK, "one frame of two columns");
    trained_close(&t);
    t = trained_open(&layer, 1, MOST);
    job = job_of(&t, x, 1, NULL);
    refused(&t, &job, TRNN_OK, "one frame");
    trained_close(&t);
}

/* Nets that cannot be trained; sizes stay as they were. */
static void bad_trainings(void)
{
    static const struct {
        model model;
        int32_t batch, steps;
        trnn_status wanted;
    } nets[] = {
        {{"no layers", {1, 5}, 0, {PLAIN(relu)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"an empty frame", {1, 0}, 1, {PLAIN(relu)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"an empty batch", {1, 5}, 1, {PLAIN(relu)}}, 0, 1, TRNN_E_ARGUMENT},
        {{"no steps", {1, 5}, 1, {PLAIN(relu)}}, 1, 0, TRNN_E_ARGUMENT},
        {{"a batch beyond any size", {1, 5}, 1, {PLAIN(relu)}}, INT32_MAX, 1, TRNN_E_ARGUMENT},
        {{"a projected gru", {1, 5}, 1, {RECURRENT(gru, 5, 3, .proj_size = 2)}}, 1, 1, TRNN_E_ARGUMENT},
        {{"a dropout of 1.5", {1, 5}, 1, {{TRNN_TRAINED(dropout), .as.dropout = {1.5f}}}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"a dropout of NaN", {1, 5}, 1, {{TRNN_TRAINED(dropout), .as.dropout = {NAN}}}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"padding beyond the table",
          {1, 1},
          1,
          {{TRNN_TRAINED(embedding), .as.embedding = {5, 2, .padding = 6}}}},
         1,
         1,
         TRNN_E_ARGUMENT},
        {{"linear of 6 reads 5", {1, 5}, 1, {LINEAR(6, 2, 1)}}, 1, 1, TRNN_E_SHAPE},
        {{"embedding in the middle", {1, 5}, 2, {PLAIN(relu), EMBEDDING(5, 2)}}, 1, 1, TRNN_E_SHAPE},
        {{"an lstm for use only", {1, 5}, 1, {{.type = &trnn_lstm, .as.recurrent = {5, 3}}}},
         1,
         1,
         TRNN_E_TRAINING},
        {{"half an lstm", {1, 5}, 1, {{TRNN_TRAINED(lstm), TRNN_F16, .as.recurrent = {5, 3}}}},
         1,
         1,
         TRNN_E_FORMAT},
        {{"int8 at the end",
          {1, 5},
          2,
          {LINEAR(5, 3, 1), {TRNN_TRAINED(linear), TRNN_INT8, .as.linear = {3, 2, 1}}}},
         1,
         1,
         TRNN_E_FORMAT},
        {{"2^30 rows", {1 << 10, 3}, 1, {LINEAR(3, 2, 1)}}, 1 << 10, 1 << 10, TRNN_E_SIZE},
    };
    const trnn_net two = {.count = 2, .inputs = 1}, no = {.count = 0, .inputs = 1},
                   less = {.count = -1, .inputs = 1}, most = {.count = INT32_MAX, .inputs = 1};
    memory plan = memory_take(trnn_training_bytes(&two));
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        trnn_training_sizes before, after;
        memset(&before, 0x5a, sizeof before);
        after = before;
        const model *m = &nets[i].model;
        const trnn_net described = model_net(m);
        const trnn_status status =
            trnn_training_init(plan.at, &described, nets[i].batch, &nets[i].steps, &after);
        check(status == nets[i].wanted, "%s: %s", m->name, trnn_status_text(status));
        check(memcmp(&before, &after, sizeof after) == 0, "%s: sizes were written", m->name);
    }
    memory_release(&plan);
    check(trnn_training_bytes(&no) == 0 && trnn_training_bytes(&less) == 0,
          "a training of no layers has bytes");
    check(trnn_training_bytes(&most) > (size_t)INT32_MAX, "bytes of a training wrap");
}

/* ---- matrices the other way round ---------------------------------------------------------------------- */

/* A matrix of `gates` gates of `units` rows, transposed in so many parts, is as a Linear layer's that has its
 * packed rows as columns; padding is zero. */
static void transposed(int32_t gates, int32_t units, int32_t depth, int32_t parts)
{
    trnn_layer layer = {TRNN_TRAINED(linear), .as.linear = {depth, units, 0}};
    if (gates > 1) {
        const trnn_layer_type *kind = gates == 4 ? &trnn_lstm : &trnn_gru;
        layer = (trnn_layer){.type = kind, .as.recurrent = {depth, units}};
    }
    trnn_param params[TRNN_PARAMS_MAX], back[TRNN_PARAMS_MAX];
    trnn_layer_params(&layer, params);
    const int32_t panels = trnn_ceil(units, TRNN_PANEL),
                  rows = gates == 1 ? units : gates * panels * TRNN_PANEL;
    const trnn_layer other = {TRNN_TRAINED(linear), .as.linear = {rows, depth, 0}};
    trnn_layer_params(&other, back);
    dice d = dice_named("transposed");
    tensor w = tensor_roll(&params[0], &d, 0), wanted = tensor_take(&back[0]);
    memory packed = memory_take(trnn_layer_weights_bytes(&layer));
    memory flat = memory_take(trnn_layer_weights_bytes(&other));
    memory got = memory_take(trnn_transposed_size(rows, depth) * sizeof(float));
    memset(packed.at, 0, packed.bytes);
    memset(flat.at, 0, flat.bytes);
    memset(got.at, 0xff, got.bytes);
    tensor_pack(&w, &params[0], packed.at);
    for (int32_t r = 0; r < rows; r++) {
        const int32_t unit = r / (gates * TRNN_PANEL) * TRNN_PANEL + r % TRNN_PANEL,
                      gate = r / TRNN_PANEL % gates;
        for (int32_t k = 0; k < depth; k++)
            wanted.numbers.at[k * rows + r] = gates == 1 ? tensor_at(&w, (size_t)r, (size_t)k)
                                              : unit < units
                                                  ? tensor_at(&w, (size_t)(gate * units + unit), (size_t)k)
                                                  : 0.0f;
    }
    tensor_pack(&wanted, &back[0], flat.at);
    const trnn_matrix matrix =
        trnn_matrix_of((const char *)packed.at + params[0].offset, TRNN_F32, gates, units, depth);
    for (int32_t part = parts; part-- > 0;) trnn_transpose(matrix, rows, got.at, part, parts);
    check(got.bytes <= flat.bytes && same_bits(got.at, flat.at, got.bytes / sizeof(float)),
          "%d gates of %d units, depth %d, transposed in %d parts", (int)gates, (int)units, (int)depth,
          (int)parts);
    tensor_release(&w);
    tensor_release(&wanted);
    memory_release(&packed);
    memory_release(&flat);
    memory_release(&got);
}

static void all_transposed(void)
{
    static const int32_t sizes[] = {1, 15, 16, 17, 48, 64, 65, 130};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    for (int i = 0; i < SIZES; i++)
        for (int k = 0; k < SIZES; k++) {
            transposed(1, sizes[i], sizes[k], 1 + k % 3);
            transposed(3, sizes[i], sizes[k], 1 + i % 3);
            transposed(4, sizes[i], sizes[k], 1 + (i + k) % 7);
        }
}

/* ---- all of it --------------------------------------------------------------------------------------- */

void test_train(void)
{
    const trnn_kernels *isa;
    model m;
    check_group("training, in every way");
    for (int32_t i = 0; trained_get(i, &m); i++)
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) {
            every_way(&m, isa, NULL);
            every_way(&m, isa, ends);
        }
    check_group("gradients against differences");
    for (int32_t i = 0; trained_get(i, &m); i++) {
        against_differences(&m, isa_get(0), NULL);
        against_differences(&m, isa_get(0), ends);
    }
    check_group("training that cannot be");
    bad_jobs();
    bad_indices();
    bad_statistics();
    bad_trainings();
    check_group("matrices the other way round");
    all_transposed();
}
