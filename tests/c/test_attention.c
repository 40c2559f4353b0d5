/* Attention in a loop over another axis of time: a delay, the query, and keys that the loop does not change. In use and in
 * training, in parts, against differences; and nets that cannot be. */
#include "check.h"

#include <math.h>
#include <string.h>

enum { SOURCE = 6, TARGET = 5, ROWS = 3, SIZE = 4, GIVEN = 2, LAYERS = 4, INPUTS = 2 };

/* The source's frames are keys and values. The query is a map of the target's frame and of what was found before. */
typedef struct {
    trnn_layer layers[LAYERS];
    trnn_reads reads[LAYERS];
    trnn_net net;
} decoder;

static const int32_t most[TRNN_AXES_MAX] = {SOURCE, TARGET, 1, 1};

static void decoder_make(decoder *d, trnn_layer attention)
{
    *d = (decoder){
        .layers = {{TRNN_TRAINED(delay), .as.delay = {1, 1, SIZE, 1}},
                   {TRNN_TRAINED(concat), .as.concat = {TRNN_COLS}},
                   LINEAR(GIVEN + SIZE, SIZE, 1),
                   attention},
        .reads = {{1, {5}}, {2, {1, 2}}, {1, {3}}, {3, {4, 0, 0}}},
        .net = {.count = LAYERS,
                .inputs = INPUTS,
                .outputs = 1,
                .input = {{{1, 1, SIZE}, 1}, {{1, 1, GIVEN}, 2}},
                .output = {5}},
    };
    d->net.layers = d->layers;
    d->net.reads = d->reads;
}

/* The decoder's arrays, of use and of training. */
typedef struct {
    decoder net;
    trnn_training_sizes sizes;
    memory training, tape, state, dstate, scratch, weights[LAYERS], grads[LAYERS], x[INPUTS], dy;
    void *weights_at[LAYERS];
    float *grads_at[LAYERS];
    const int32_t *lengths[2];
} arrays;

static size_t numbers_of(int32_t input) { return input == 0 ? SOURCE * ROWS * SIZE : TARGET * ROWS * GIVEN; }

static memory zeros(size_t bytes)
{
    memory m = memory_take(bytes);
    memset(m.at, 0, bytes);
    return m;
}

static memory rolled(dice *d, size_t bytes)
{
    memory m = memory_take(bytes);
    for (size_t i = 0; i < bytes / sizeof(float); i++) m.at[i] = dice_float(d, 0);
    return m;
}

static void arrays_open(arrays *a, trnn_layer attention)
{
    static const int32_t ends[] = {6, 1, 4}, stops[] = {2, 5, 4};
    dice d = dice_named("attention");
    *a = (arrays){.lengths = {ends, stops}};
    decoder_make(&a->net, attention);
    a->training = memory_take(trnn_training_bytes(&a->net.net));
    check(trnn_training_init((void *)a->training.at, &a->net.net, ROWS, most, &a->sizes) == TRNN_OK,
          "the decoder is laid out");
    a->tape = zeros(a->sizes.tape_bytes);
    a->state = zeros(a->sizes.state_bytes);
    a->dstate = zeros(a->sizes.state_bytes);
    a->scratch = memory_take(a->sizes.scratch_bytes);
    for (int32_t i = 0; i < LAYERS; i++) {
        const size_t bytes = trnn_layer_weights_bytes(&a->net.layers[i]);
        trnn_param params[TRNN_PARAMS_MAX];
        const int32_t count = trnn_layer_params(&a->net.layers[i], params);
        a->weights[i] = zeros(bytes);
        a->grads[i] = zeros(bytes);
        a->weights_at[i] = bytes ? a->weights[i].at : NULL;
        a->grads_at[i] = bytes ? a->grads[i].at : NULL;
        for (int32_t p = 0; p < count; p++) {
            tensor t = tensor_roll(&params[p], &d, 0);
            tensor_pack(&t, &params[p], a->weights[i].at);
            tensor_release(&t);
        }
    }
    for (int32_t i = 0; i < INPUTS; i++) a->x[i] = rolled(&d, numbers_of(i) * sizeof(float));
    a->dy = rolled(&d, TARGET * ROWS * SIZE * sizeof(float));
}

static void arrays_close(arrays *a)
{
    memory *all[] = {&a->training, &a->tape, &a->state, &a->dstate, &a->scratch, &a->dy};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) memory_release(all[i]);
    for (int32_t i = 0; i < LAYERS; i++) {
        memory_release(&a->weights[i]);
        memory_release(&a->grads[i]);
    }
    for (int32_t i = 0; i < INPUTS; i++) memory_release(&a->x[i]);
}

static const trnn_training *training_of(const arrays *a) { return (const void *)a->training.at; }

static float *on_tape(const arrays *a, size_t place) { return a->tape.at + place / sizeof(float); }

static trnn_training_job job_of(const arrays *a, const trnn_kernels *isa)
{
    return (trnn_training_job){
        .isa = isa,
        .weights = a->weights_at,
        .grads = a->grads_at,
        .state = a->state.at,
        .dstate = a->dstate.at,
        .tape = a->tape.at,
        .scratch = a->scratch.at,
        .x = {a->x[0].at, a->x[1].at},
        .x_step = {ROWS, ROWS},
        .x_row = {1, 1},
        .steps = {SOURCE, TARGET, 1, 1},
        .lengths = {a->lengths[0], a->lengths[1]},
        .to_input = 1,
        .parts = 1,
    };
}

static void forward(const arrays *a, const trnn_kernels *isa, int32_t parts)
{
    trnn_training_job job = job_of(a, isa);
    memset(a->state.at, 0, a->sizes.state_bytes);
    job.parts = parts;
    check(trnn_training_check(training_of(a), &job) == TRNN_OK, "the job fits");
    for (job.part = 0; job.part < parts; job.part++) trnn_forward(training_of(a), &job, 0);
}

static void backward(const arrays *a, const trnn_kernels *isa, int32_t parts)
{
    trnn_training_job job = job_of(a, isa);
    memset(a->dstate.at, 0, a->sizes.state_bytes);
    memcpy(on_tape(a, a->sizes.dy[0]), a->dy.at, a->dy.bytes);
    for (int32_t i = 0; i < LAYERS; i++)
        if (a->grads_at[i]) memset(a->grads_at[i], 0, a->grads[i].bytes);
    job.parts = parts;
    for (job.part = 0; job.part < parts; job.part++) trnn_backward(training_of(a), &job, 0);
    for (job.part = 0; job.part < parts; job.part++) trnn_gradients(training_of(a), &job);
}

/* The sum of y dy, after a forward pass. */
static double loss(const arrays *a, const trnn_kernels *isa)
{
    forward(a, isa, 1);
    const float *y = on_tape(a, a->sizes.y[0]);
    double sum = 0.0;
    for (size_t i = 0; i < TARGET * ROWS * SIZE; i++) sum += (double)y[i] * (double)a->dy.at[i];
    return sum;
}

/* The change of the loss with `count` numbers, one by one, against their gradient. */
static void against_differences(const arrays *a, const trnn_kernels *isa, float *numbers, const float *slopes,
                                size_t count, const char *what)
{
    const float step = 1.0f / 64;
    double worst = 0.0, largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        const float kept = numbers[i];
        numbers[i] = kept + step;
        const double above = loss(a, isa);
        numbers[i] = kept - step;
        const double below = loss(a, isa);
        numbers[i] = kept;
        const double slope = (above - below) * 32.0;
        worst = fmax(worst, fabs(slope - (double)slopes[i]));
        largest = fmax(largest, fabs(slope));
    }
    check(largest > 0.01 && worst < 2e-3 * largest, "%s: off by %g of %g", what, worst, largest);
}

/* A run of the same net gives the bits of the forward pass. */
static void as_in_use(const arrays *a, const trnn_kernels *isa)
{
    memory plan = memory_take(trnn_plan_bytes(&a->net.net));
    trnn_sizes sizes;
    check(trnn_plan_init((void *)plan.at, &a->net.net, ROWS, most, &sizes) == TRNN_OK, "a plan");
    check(sizes.full_sequence, "which needs the full sequence");
    memory state = zeros(sizes.state_bytes), scratch = memory_take(sizes.scratch_bytes),
           y = memory_floats(TARGET * ROWS * SIZE);
    const trnn_job job = {
        .isa = isa,
        .weights = (const void *const *)a->weights_at,
        .state = state.at,
        .scratch = scratch.at,
        .x = {a->x[0].at, a->x[1].at},
        .y = {y.at},
        .steps = {SOURCE, TARGET, 1, 1},
        .lengths = {a->lengths[0], a->lengths[1]},
    };
    check(trnn_run((const void *)plan.at, &job) == TRNN_OK, "it runs");
    for (int32_t t = 0; t < TARGET; t++)
        for (int32_t b = 0; b < ROWS; b++) {
            const size_t at = (size_t)(t * ROWS + b) * SIZE;
            check(same_bits(y.at + at, on_tape(a, a->sizes.y[0]) + at, SIZE), "step %d of row %d", t, b);
        }
    memory_release(&plan);
    memory_release(&state);
    memory_release(&scratch);
    memory_release(&y);
}

static void one_layer(trnn_layer attention, const trnn_kernels *isa)
{
    arrays a;
    arrays_open(&a, attention);
    memory dx[INPUTS], grads[LAYERS];
    forward(&a, isa, 1);
    as_in_use(&a, isa);
    backward(&a, isa, 1);
    for (int32_t i = 0; i < INPUTS; i++) {
        dx[i] = memory_take(a.x[i].bytes);
        memcpy(dx[i].at, on_tape(&a, a.sizes.dx[i]), a.x[i].bytes);
    }
    for (int32_t i = 0; i < LAYERS; i++) {
        grads[i] = memory_take(a.grads[i].bytes);
        memcpy(grads[i].at, a.grads[i].at, a.grads[i].bytes);
    }
    for (int32_t parts = 2; parts <= ROWS + 1; parts++) {
        forward(&a, isa, parts);
        backward(&a, isa, parts);
        for (int32_t i = 0; i < INPUTS; i++)
            check(same_bits(dx[i].at, on_tape(&a, a.sizes.dx[i]), numbers_of(i)), "dx %d, %d parts", i,
                  parts);
        for (int32_t i = 0; i < LAYERS; i++)
            check(same_bits(grads[i].at, a.grads[i].at, grads[i].bytes / sizeof(float)), "layer %d, %d parts",
                  i, parts);
    }
    against_differences(&a, isa, a.x[0].at, dx[0].at, numbers_of(0), "keys and values");
    against_differences(&a, isa, a.x[1].at, dx[1].at, numbers_of(1), "what the query comes from");
    for (int32_t i = 0; i < LAYERS; i++)
        if (a.grads_at[i])
            against_differences(&a, isa, a.weights[i].at, grads[i].at, grads[i].bytes / sizeof(float),
                                trnn_layer_name(&a.net.layers[i]));
    for (int32_t i = 0; i < INPUTS; i++) memory_release(&dx[i]);
    for (int32_t i = 0; i < LAYERS; i++) memory_release(&grads[i]);
    arrays_close(&a);
}

static void refused(const decoder *d, trnn_status wanted, const char *what)
{
    memory plan = memory_take(trnn_plan_bytes(&d->net));
    trnn_sizes sizes;
    check(trnn_plan_init((void *)plan.at, &d->net, ROWS, most, &sizes) == wanted, "%s", what);
    memory_release(&plan);
}

static void bad_nets(void)
{
    decoder d;
    const trnn_layer plain = {TRNN_TRAINED(attention), .as.attention = {SIZE, 2, 0.5f}};
    decoder_make(&d, plain);
    d.reads[3] = (trnn_reads){3, {4, 4, 4}};
    d.net.input[0].axis = 2; /* the source is not read then, unless as the other part of the query */
    d.reads[1] = (trnn_reads){2, {0, 2}};
    d.layers[2].as.linear.in_features = 2 * SIZE;
    d.net.inputs = 2;
    d.net.outputs = 2;
    d.net.output[1] = 1;
    refused(&d, TRNN_E_LOOP, "keys of the loop's own axis");

    decoder_make(&d, plain);
    d.reads[3] = (trnn_reads){3, {4, 0, 4}};
    refused(&d, TRNN_E_TIME, "keys and values on two axes");
    d.reads[3] = (trnn_reads){2, {4, 0}};
    refused(&d, TRNN_E_GRAPH, "no values");

    decoder_make(&d, plain);
    d.layers[3].as.attention.heads = 3;
    refused(&d, TRNN_E_ARGUMENT, "heads that do not divide the size");
    d.layers[3].as.attention.heads = 1;
    d.layers[3].as.attention.scale = (float)INFINITY;
    refused(&d, TRNN_E_ARGUMENT, "an infinite scale");

    decoder_make(&d, (trnn_layer){TRNN_TRAINED(causal_attention), .as.attention = {SIZE, 2, 0.5f}});
    refused(&d, TRNN_E_TIME, "a causal layer over another axis");
}

void test_attention(void)
{
    const trnn_layer plain = {TRNN_TRAINED(attention), .as.attention = {SIZE, 2, 0.75f}},
                     additive = {TRNN_TRAINED(additive_attention), .as.additive = {SIZE}};
    check_group("attention");
    for (int32_t i = 0; isa_get(i); i++) {
        one_layer(plain, isa_get(i));
        one_layer(additive, isa_get(i));
    }
    bad_nets();
}
