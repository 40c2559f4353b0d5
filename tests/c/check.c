#include "check.h"
#include "../../csrc/format.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CHECK_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

/* ---- counting -------------------------------------------------------------------------------- */

static int passed, failed, group_passed, group_failed;
static const char *group_name;

int check(int truth, const char *format, ...)
{
    if (truth) {
        group_passed++;
        return 1;
    }
    if (group_failed++ < 20) { /* the first tell enough */
        va_list list;
        va_start(list, format);
        printf("FAILED ");
        vprintf(format, list);
        printf("\n");
        va_end(list);
    }
    return 0;
}

void check_group(const char *name)
{
    if (group_name) printf("%-42s %7d passed %4d failed\n", group_name, group_passed, group_failed);
    fflush(stdout);
    passed += group_passed;
    failed += group_failed;
    group_passed = group_failed = 0;
    group_name = name;
}

int check_result(void)
{
    check_group(NULL);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

static const trnn_kernels *only;

const trnn_kernels *isa_get(int32_t i)
{
    const trnn_kernels *list[ISAS_MAX];
    if (only) return i == 0 ? only : NULL;
    return i < trnn_isa_list(list, ISAS_MAX) ? list[i] : NULL;
}

int isa_only(const char *name)
{
    only = trnn_isa_find(name);
    return only != NULL;
}

/* ---- numbers --------------------------------------------------------------------------------- */

dice dice_named(const char *name)
{
    dice d = {14695981039346656037u};
    for (; *name; name++) d.state = (d.state ^ (unsigned char)*name) * 1099511628211u;
    return d;
}

uint32_t dice_roll(dice *d)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->state >> 32);
}

static float power(int exponent)
{
    float scale = 1.0f;
    for (; exponent > 0; exponent--) scale *= 2.0f;
    for (; exponent < 0; exponent++) scale *= 0.5f;
    return scale;
}

float dice_float(dice *d, int exponent)
{
    const int32_t whole = (int32_t)(dice_roll(d) >> 8) - (1 << 23);
    return (float)whole * power(exponent - 23);
}

int same_bits(const float *a, const float *b, size_t count)
{
    return memcmp(a, b, count * sizeof(float)) == 0;
}

uint64_t fingerprint(const float *numbers, size_t count)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, numbers + i, sizeof bits);
        for (int byte = 0; byte < 4; byte++) hash = (hash ^ (bits >> 8 * byte & 0xff)) * 1099511628211u;
    }
    return hash;
}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { GUARD = 128, GUARD_BYTE = 0xa5 };

static memory take(size_t bytes, size_t lead)
{
    const size_t room = GUARD + 64 + lead + bytes + GUARD;
    memory m;
    m.block = malloc(room);
    if (!m.block) abort();
    memset(m.block, GUARD_BYTE, room);
    char *at = m.block + GUARD;
    at += (64 - (uintptr_t)at % 64) % 64 + lead;
    m.at = (float *)(void *)at;
    m.bytes = bytes;
    ASAN_POISON_MEMORY_REGION(m.block, (size_t)(at - m.block));
    ASAN_POISON_MEMORY_REGION(at + bytes, (size_t)(m.block + room - at) - bytes);
    return m;
}

memory memory_take(size_t bytes) { return take(bytes, 0); }

memory memory_bytes(size_t bytes) { return take(bytes, sizeof(float)); }

memory memory_floats(size_t count) { return memory_bytes(count * sizeof(float)); }

void memory_release(memory *m)
{
    const char *at = (const char *)m->at;
    int whole = 1;
    ASAN_UNPOISON_MEMORY_REGION(m->block, (size_t)(at - m->block));
    ASAN_UNPOISON_MEMORY_REGION(at + m->bytes, GUARD);
    for (const char *p = m->block; p < at; p++) whole &= (unsigned char)*p == GUARD_BYTE;
    for (int i = 0; i < GUARD; i++) whole &= (unsigned char)at[m->bytes + (size_t)i] == GUARD_BYTE;
    check(whole, "written beyond a buffer of %lu bytes", (unsigned long)m->bytes);
    free(m->block);
    m->block = NULL;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static size_t scales_of_row(const tensor *t)
{
    return t->format == TRNN_INT8 ? 1 : t->format == TRNN_INT4 ? (t->cols + TRNN_BLOCK - 1) / TRNN_BLOCK : 0;
}

tensor tensor_take(const trnn_param *param)
{
    static const size_t bytes[TRNN_FORMAT_COUNT] = {4, 2, 2, 1, 1};
    tensor t;
    t.format = param->format;
    t.rows = (size_t)param->shape[0];
    t.cols = (size_t)param->shape[1] * (size_t)param->shape[2] * (size_t)param->shape[3];
    t.numbers = memory_bytes(t.rows * t.cols * bytes[t.format]);
    t.scales = memory_floats(t.rows * scales_of_row(&t));
    return t;
}

/* A half: a sign, an exponent of 2^(exponent - 4) .. 2^(exponent - 1), `fraction` bits. */
static uint16_t half_roll(dice *d, int exponent, int bias, int fraction)
{
    const uint32_t roll = dice_roll(d) >> 8;
    const uint32_t field = (uint32_t)(bias + exponent - 1 - (int)(roll >> 20 & 3));
    return (uint16_t)((roll & 0x8000) | field << fraction | (roll & ((1u << fraction) - 1)));
}

/* A sign and 2^exponent .. 2^(exponent + 1): exact in a float; cut off to a bfloat16 if so wanted. */
static float scale_roll(dice *d, int exponent, int cut)
{
    const float roll = dice_float(d, exponent);
    const float scale = roll < 0.0f ? roll - power(exponent) : roll + power(exponent);
    uint32_t bits;
    float result;
    memcpy(&bits, &scale, sizeof bits);
    if (cut) bits &= 0xffff0000u;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Number i of a tensor, of about +-2^exponent; codes of every value. */
static void number_roll(tensor *t, size_t i, dice *d, int exponent)
{
    uint16_t *halves = (uint16_t *)(void *)t->numbers.at;
    int8_t *codes = (int8_t *)t->numbers.at;
    switch (t->format) {
    case TRNN_F16: halves[i] = half_roll(d, exponent, 15, 10); break;
    case TRNN_BF16: halves[i] = half_roll(d, exponent, 127, 7); break;
    case TRNN_INT8: codes[i] = (int8_t)((int)(dice_roll(d) >> 8) % 255 - 127); break;
    case TRNN_INT4: codes[i] = (int8_t)((int)(dice_roll(d) >> 28) - 8); break;
    default: t->numbers.at[i] = dice_float(d, exponent);
    }
}

tensor tensor_roll(const trnn_param *param, dice *d, int exponent)
{
    tensor t = tensor_take(param);
    for (size_t i = 0; i < t.scales.bytes / sizeof(float); i++)
        t.scales.at[i] = scale_roll(d, exponent - (t.format == TRNN_INT8 ? 8 : 4), t.format == TRNN_INT4);
    for (size_t i = 0; i < t.rows * t.cols; i++) number_roll(&t, i, d, exponent);
    return t;
}

float tensor_scale(const tensor *t, size_t row, size_t col)
{
    return t->scales.at[t->format == TRNN_INT8 ? row : row * scales_of_row(t) + col / TRNN_BLOCK];
}

int tensor_code(const tensor *t, size_t row, size_t col)
{
    return ((const int8_t *)t->numbers.at)[row * t->cols + col];
}

/* What 16 bits are, said with ldexp: a sign, an exponent, a fraction. */
static float widen(uint16_t half, int bias, int fraction)
{
    const int field = (half & 0x7fff) >> fraction, rest = half & ((1 << fraction) - 1);
    const double size =
        field ? ldexp(rest + (1 << fraction), field - bias - fraction) : ldexp(rest, 1 - bias - fraction);
    return (float)(half & 0x8000 ? -size : size);
}

float tensor_at(const tensor *t, size_t row, size_t col)
{
    const size_t i = row * t->cols + col;
    switch (t->format) {
    case TRNN_F16: return widen(((const uint16_t *)(const void *)t->numbers.at)[i], 15, 10);
    case TRNN_BF16: return widen(((const uint16_t *)(const void *)t->numbers.at)[i], 127, 7);
    case TRNN_INT8:
    case TRNN_INT4: return (float)tensor_code(t, row, col) * tensor_scale(t, row, col);
    default: return t->numbers.at[i];
    }
}

void tensor_pack(const tensor *t, const trnn_param *param, void *weights)
{
    trnn_param_pack(param, weights, t->numbers.at, t->scales.bytes ? t->scales.at : NULL);
}

void tensor_release(tensor *t)
{
    memory_release(&t->numbers);
    memory_release(&t->scales);
}

/* ---- kinds ----------------------------------------------------------------------------------- */

const char *kind_name(const trnn_layer_type *kind)
{
    const trnn_layer layer = {.type = kind};
    return trnn_layer_name(&layer);
}

/* ---- nets ------------------------------------------------------------------------------------ */

/* 2^exponent is at most 1 / sqrt(cols): a recurrent net of such weights neither dies nor explodes. */
static int weight_exponent(int32_t cols)
{
    int exponent = 0;
    while ((int64_t)1 << -2 * exponent < cols) exponent--;
    return exponent;
}

weights weights_roll(const model *m)
{
    dice d = dice_named(m->name);
    weights w;
    memset(&w, 0, sizeof w);
    for (int32_t i = 0; i < m->count; i++) {
        const trnn_layer *layer = &m->layers[i];
        w.at[i] = memory_take(trnn_layer_weights_bytes(layer));
        memset(w.at[i].at, 0, w.at[i].bytes);
        w.pointers[i] = w.at[i].bytes ? w.at[i].at : NULL;
        trnn_param params[TRNN_PARAMS_MAX];
        const int32_t count = trnn_layer_params(layer, params);
        for (int32_t p = 0; p < count; p++) {
            const int32_t depth = params[p].shape[1] * params[p].shape[2] * params[p].shape[3];
            tensor t =
                tensor_roll(&params[p], &d, layer->type == &trnn_embedding ? 0 : weight_exponent(depth));
            if (strcmp(params[p].name, "running_var") == 0)
                for (size_t k = 0; k < t.rows; k++)
                    t.numbers.at[k] = 0.25f + t.numbers.at[k] * t.numbers.at[k];
            tensor_pack(&t, &params[p], w.at[i].at);
            tensor_release(&t);
        }
    }
    return w;
}

void weights_release(weights *w)
{
    for (int32_t i = 0; i < LAYERS_MAX; i++)
        if (w->at[i].block) memory_release(&w->at[i]);
}

trnn_net model_net(const model *m)
{
    const int32_t planes = m->frame.planes ? m->frame.planes : 1;
    return trnn_chain(m->layers, m->count, (trnn_frame){planes, m->frame.rows, m->frame.cols});
}

net net_open(const model *m, const weights *w, int32_t batch, int32_t steps)
{
    net n;
    n.model = m;
    n.weights = w;
    const trnn_net described = model_net(m);
    n.plan = memory_take(trnn_plan_bytes(&described));
    const trnn_status status = trnn_plan_init(n.plan.at, &described, batch, &steps, &n.sizes);
    if (!check(status == TRNN_OK, "%s: plan: %s", m->name, trnn_status_text(status))) abort();
    n.state = memory_take(n.sizes.state_bytes);
    n.scratch = memory_take(n.sizes.scratch_bytes);
    memset(n.state.at, 0, n.state.bytes);
    n.in = frame_size(n.sizes.in[0].frame);
    n.out = frame_size(n.sizes.out[0].frame);
    n.row_state = 0;
    n.descending = 0;
    for (int32_t i = 0; i < m->count; i++) {
        size_t offset, numbers;
        trnn_plan_state(net_plan(&n), i, &offset, &numbers);
        n.row_state += numbers;
    }
    return n;
}

const trnn_plan *net_plan(const net *n) { return (const trnn_plan *)(const void *)n->plan.at; }

void net_close(net *n)
{
    memory_release(&n->plan);
    memory_release(&n->state);
    memory_release(&n->scratch);
}

trnn_job net_job(const net *n, const trnn_kernels *isa, const float *x, float *y, int32_t steps,
                 const int32_t *lengths)
{
    const trnn_job job = {.isa = isa,
                          .weights = n->weights->pointers,
                          .state = n->state.at,
                          .scratch = n->scratch.at,
                          .x = {x},
                          .y = {y},
                          .steps = {steps},
                          .lengths = {lengths},
                          .descending = n->descending};
    return job;
}

void net_run(net *n, const trnn_kernels *isa, const float *x, float *y, int32_t steps, const int32_t *lengths)
{
    static const uint32_t unwritten = 0x7fc5a5a5u; /* a NaN that nothing computes */
    const size_t numbers = (size_t)steps * (size_t)n->sizes.batch * n->out;
    memset(n->scratch.at, 0xff, n->scratch.bytes);
    for (size_t i = 0; i < numbers; i++) memcpy(y + i, &unwritten, sizeof unwritten);
    const trnn_job job = net_job(n, isa, x, y, steps, lengths);
    const trnn_status status = trnn_run(net_plan(n), &job);
    check(status == TRNN_OK, "%s: run: %s", n->model->name, trnn_status_text(status));
    size_t left = 0;
    for (size_t i = 0; i < numbers; i++) left += memcmp(y + i, &unwritten, sizeof unwritten) == 0;
    check(left == 0, "%s on %s: %lu numbers of y not written", n->model->name, trnn_isa_name(isa),
          (unsigned long)left);
}

memory net_input(const net *n, const char *seed, size_t frames)
{
    dice d = dice_named(seed);
    memory x = memory_floats(frames * n->in);
    for (size_t i = 0; i < frames * n->in; i++) {
        const int32_t index =
            n->sizes.indices
                ? (int32_t)(dice_roll(&d) % (uint32_t)n->model->layers[0].as.embedding.num_embeddings)
                : 0;
        const float number = n->sizes.indices ? 0.0f : dice_float(&d, 1);
        memcpy(x.at + i, n->sizes.indices ? (const void *)&index : (const void *)&number, sizeof(float));
    }
    return x;
}

/* Row b's place in the state. */
static float *row_at(const net *n, int32_t b)
{
    return n->state.at + (size_t)b * (n->state.bytes / sizeof(float) / (size_t)n->sizes.batch);
}

void net_get_row(const net *n, int32_t b, float *row)
{
    memcpy(row, row_at(n, b), n->row_state * sizeof(float));
}

void net_put_row(const net *n, int32_t b, const float *row)
{
    memcpy(row_at(n, b), row, n->row_state * sizeof(float));
}
