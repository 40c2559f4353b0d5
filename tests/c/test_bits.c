/* Same bits: step by step, in chunks, in blocks, as one sequence, alone, in a batch, with lengths, a part of
 * a batch at a time, from whichever end of the weights. */
#include "check.h"

#include <string.h>

enum { STEPS = 5, BATCH = 7 };

/* One model on one instruction set, and what it gives as one sequence in one block. */
typedef struct {
    const model *model;
    const weights *weights;
    const trnn_kernels *isa;
    net full;
    memory x, y;
    memory start, end; /* state before and after */
} fixture;

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* In calls of `chunk` steps with a plan of `block` steps; every second call descending, from the first on or
 * from the second. */
static void in_chunks(const fixture *f, int32_t block, int32_t chunk, int32_t descending)
{
    net n = net_open(f->model, f->weights, BATCH, block);
    memory y = memory_floats(STEPS * BATCH * n.out);
    check(n.state.bytes == f->start.bytes, "%s: the state depends on the block", f->model->name);
    memcpy(n.state.at, f->start.at, n.state.bytes);
    for (int32_t t = 0; t < STEPS; t += chunk, descending = !descending) {
        n.descending = descending;
        net_run(&n, f->isa, f->x.at + (size_t)t * BATCH * n.in, y.at + (size_t)t * BATCH * n.out,
                least(chunk, STEPS - t), NULL);
    }
    check(same_bits(y.at, f->y.at, STEPS * BATCH * n.out), "%s on %s: y in chunks of %d, blocks of %d",
          f->model->name, trnn_isa_name(f->isa), (int)chunk, (int)block);
    check(same_bits(n.state.at, f->end.at, n.state.bytes / sizeof(float)),
          "%s on %s: state in chunks of %d, blocks of %d", f->model->name, trnn_isa_name(f->isa), (int)chunk,
          (int)block);
    memory_release(&y);
    net_close(&n);
}

/* Three parts of the batch, one after the other, each in rows of its own of the same arrays: y and the state are
 * `wanted` and `end`, and a part touches no other's. */
static void in_parts(const fixture *f, int32_t block, const int32_t *lengths, const float *wanted,
                     const float *end)
{
    static const int32_t parts[] = {4, 3, 0, 1, 1, 3}; /* first row, rows */
    const net *full = &f->full;
    const size_t in = full->in, out = full->out, row = full->state.bytes / sizeof(float) / BATCH;
    memory y = memory_floats(STEPS * BATCH * out), state = memory_take(full->state.bytes);
    memory y_before = memory_floats(STEPS * BATCH * out), state_before = memory_take(full->state.bytes);
    for (size_t i = 0; i < STEPS * BATCH * out; i++) y.at[i] = 77.0f;
    memcpy(state.at, f->start.at, state.bytes);
    int apart = 1;
    for (const int32_t *part = parts; part < parts + 6; part += 2) {
        const size_t first = (size_t)part[0], rows = (size_t)part[1];
        net n = net_open(f->model, f->weights, part[1], block);
        memory scratch = memory_take(n.sizes.scratch_bytes + n.sizes.part_bytes);
        memset(scratch.at, 0xff, scratch.bytes);
        memcpy(y_before.at, y.at, y.bytes);
        memcpy(state_before.at, state.at, state.bytes);
        trnn_job job = net_job(&n, f->isa, f->x.at + first * in, y.at + first * out, STEPS,
                               lengths ? lengths + first : NULL);
        job.scratch = scratch.at;
        job.state = state.at + first * row;
        job.stride = BATCH;
        const trnn_status status = trnn_run(net_plan(&n), &job);
        check(status == TRNN_OK, "%s: a part: %s", f->model->name, trnn_status_text(status));

        for (size_t t = 0; t < STEPS; t++) /* put back what is the part's own: all is as it was */
            memcpy(y_before.at + (t * BATCH + first) * out, y.at + (t * BATCH + first) * out,
                   rows * out * sizeof(float));
        memcpy(state_before.at + first * row, state.at + first * row, rows * row * sizeof(float));
        apart &= same_bits(y_before.at, y.at, STEPS * BATCH * out);
        apart &= same_bits(state_before.at, state.at, BATCH * row);
        memory_release(&scratch);
        net_close(&n);
    }
    check(apart, "%s on %s: a part writes rows of others", f->model->name, trnn_isa_name(f->isa));
    check(same_bits(y.at, wanted, STEPS * BATCH * out), "%s on %s: y in parts, blocks of %d", f->model->name,
          trnn_isa_name(f->isa), (int)block);
    check(same_bits(state.at, end, BATCH * row), "%s on %s: state in parts, blocks of %d", f->model->name,
          trnn_isa_name(f->isa), (int)block);
    memory_release(&y);
    memory_release(&y_before);
    memory_release(&state);
    memory_release(&state_before);
}

/* Row b alone for `steps` steps against `y`, (STEPS, BATCH, out), and the state of `batch`. */
static void alone(const fixture *f, int32_t b, int32_t steps, const float *y, const net *batch,
                  const char *what)
{
    net n = net_open(f->model, f->weights, 1, steps);
    memory x = memory_floats((size_t)steps * n.in), own = memory_floats((size_t)steps * n.out);
    memory row = memory_floats(n.row_state), after = memory_floats(n.row_state);
    net before = *batch;
    before.state = f->start;
    net_get_row(&before, b, row.at);
    net_put_row(&n, 0, row.at);
    for (int32_t t = 0; t < steps; t++)
        memcpy(x.at + (size_t)t * n.in, f->x.at + ((size_t)t * BATCH + (size_t)b) * n.in,
               n.in * sizeof(float));
    net_run(&n, f->isa, x.at, own.at, steps, NULL);

    int same = 1;
    for (int32_t t = 0; t < steps; t++)
        same &= same_bits(own.at + (size_t)t * n.out, y + ((size_t)t * BATCH + (size_t)b) * n.out, n.out);
    check(same, "%s on %s: y of row %d %s", f->model->name, trnn_isa_name(f->isa), (int)b, what);
    net_get_row(&n, 0, row.at);
    net_get_row(batch, b, after.at);
    check(same_bits(row.at, after.at, n.row_state), "%s on %s: state of row %d %s", f->model->name,
          trnn_isa_name(f->isa), (int)b, what);
    memory_release(&x);
    memory_release(&own);
    memory_release(&row);
    memory_release(&after);
    net_close(&n);
}

/* Rows of different lengths: each is what it is alone, and zeros follow where a recurrent layer ends. */
static void with_lengths(const fixture *f)
{
    static const int32_t lengths[BATCH] = {5, 1, 3, 5, 2, 4, 1};
    const int32_t blocks[2] = {STEPS, f->full.sizes.full_sequence ? STEPS : 2};
    net n[2];
    memory y[2];
    for (int i = 0; i < 2; i++) {
        n[i] = net_open(f->model, f->weights, BATCH, blocks[i]);
        y[i] = memory_floats(STEPS * BATCH * n[i].out);
        memcpy(n[i].state.at, f->start.at, n[i].state.bytes);
        net_run(&n[i], f->isa, f->x.at, y[i].at, STEPS, lengths);
    }
    check(same_bits(y[0].at, y[1].at, STEPS * BATCH * n[0].out), "%s on %s: y with lengths, in blocks",
          f->model->name, trnn_isa_name(f->isa));
    check(same_bits(n[0].state.at, n[1].state.at, n[0].state.bytes / sizeof(float)),
          "%s on %s: state with lengths, in blocks", f->model->name, trnn_isa_name(f->isa));
    in_parts(f, blocks[1], lengths, y[0].at, n[0].state.at);
    for (int32_t b = 0; b < BATCH; b++) {
        alone(f, b, lengths[b], y[0].at, &n[0], "with lengths");
        if (n[0].row_state == 0 || f->model->count > 1) continue;
        int zeros = 1;
        for (int32_t t = lengths[b]; t < STEPS; t++)
            for (size_t i = 0; i < n[0].out; i++)
                zeros &= y[0].at[((size_t)t * BATCH + (size_t)b) * n[0].out + i] == 0.0f;
        check(zeros, "%s on %s: row %d goes on after its end", f->model->name, trnn_isa_name(f->isa), (int)b);
    }
    for (int i = 0; i < 2; i++) {
        memory_release(&y[i]);
        net_close(&n[i]);
    }
}

static void every_way(const model *m, const weights *w, const trnn_kernels *isa)
{
    fixture f = {m, w, isa, net_open(m, w, BATCH, STEPS), {0}, {0}, {0}, {0}};
    net *n = &f.full;
    dice d = dice_named(m->name);
    f.x = net_input(n, "same bits", STEPS * BATCH);
    f.y = memory_floats(STEPS * BATCH * n->out);
    f.start = memory_take(n->state.bytes);
    f.end = memory_take(n->state.bytes);

    memory row = memory_floats(n->row_state); /* rows only: what aligns the state stays zero */
    for (int32_t b = 0; b < BATCH; b++) {
        for (size_t i = 0; i < n->row_state; i++) row.at[i] = dice_float(&d, -1);
        net_put_row(n, b, row.at);
    }
    memory_release(&row);
    memcpy(f.start.at, n->state.at, n->state.bytes);
    net_run(n, isa, f.x.at, f.y.at, STEPS, NULL);
    memcpy(f.end.at, n->state.at, n->state.bytes);

    if (n->sizes.full_sequence) {
        in_chunks(&f, STEPS + 3, STEPS, 1);
    } else {
        in_chunks(&f, 1, 1, 1);
        in_chunks(&f, STEPS + 3, 1, 0);
        in_chunks(&f, 3, STEPS, 1);
        in_chunks(&f, 2, 3, 0);
        in_parts(&f, 1, NULL, f.y.at, f.end.at);
    }
    with_lengths(&f);
    for (int32_t b = 0; b < BATCH; b++) alone(&f, b, STEPS, f.y.at, n, "alone");

    memory_release(&f.x);
    memory_release(&f.y);
    memory_release(&f.start);
    memory_release(&f.end);
    net_close(n);
}

void test_bits(void)
{
    const trnn_kernels *isa;
    check_group("same bits");
    model m;
    for (int32_t i = 0; model_get(i, &m); i++) {
        weights w = weights_roll(&m);
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) every_way(&m, &w, isa);
        weights_release(&w);
    }
}
