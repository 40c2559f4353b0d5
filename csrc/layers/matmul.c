/* The product of two values whose frames are matrices, (R, K) times (K, C), plane by plane. As in torch.matmul, one plane
 * counts for all planes of the other value, and a value per sequence at every step. Each number is a chain of
 * multiply-adds in ascending k, by the kernel of all products; the matrix at the right is packed for it. */
#include "several.h"

static trnn_status matmul_check(const trnn_layer *layer)
{
    (void)layer;
    return TRNN_OK;
}

static trnn_status matmul_join(const trnn_layer *layer, const trnn_frame *in, int32_t count, trnn_frame *out)
{
    (void)layer;
    if (count != 2) return TRNN_E_GRAPH;
    const int32_t a = in[0].planes, b = in[1].planes;
    if (in[0].cols != in[1].rows || (a != b && a != 1 && b != 1)) return TRNN_E_SHAPE;
    *out = (trnn_frame){a > b ? a : b, in[0].rows, in[1].cols};
    return TRNN_OK;
}

/* A matrix at the right, and in training what one of the products gives that is not written at once. */
typedef struct {
    float *packed;     /* of (C, K), (K, C) or (C, R): 16 rows a panel */
    float *transposed; /* (K, R) */
    float *product;    /* (R, K) or (K, C) */
} room;

static room room_of(trnn_cursor *cursor, trnn_frame a, trnn_frame out, int back)
{
    const int32_t rows = a.rows, depth = a.cols, cols = out.cols;
    room m = {NULL, NULL, NULL};
    size_t packed = trnn_transposed_size(depth, cols);
    if (back) {
        packed = trnn_larger(packed, trnn_transposed_size(cols, depth));
        packed = trnn_larger(packed, trnn_transposed_size(rows, cols));
    }
    m.packed = trnn_take(cursor, packed);
    if (!back) return m;
    m.transposed = trnn_take(cursor, trnn_times((size_t)depth, (size_t)rows));
    m.product = trnn_take(cursor, trnn_times((size_t)depth, (size_t)(rows > cols ? rows : cols)));
    return m;
}

static size_t matmul_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                             int32_t steps)
{
    (void)layer, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    room_of(&cursor, in, out, 0);
    return cursor.bytes;
}

static size_t matmul_train_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                   int32_t steps)
{
    (void)layer, (void)batch, (void)steps;
    trnn_cursor cursor = {NULL, 0};
    room_of(&cursor, in, out, 1);
    return cursor.bytes;
}

/* Both values, and what a part works on. */
typedef struct {
    const trnn_kernels *isa;
    trnn_walk walk;
    trnn_frame in[2], out;
    int still[2];
    const float *x[2];
    room room;
} factors;

/* The matrix of plane p of a value: of the frame at step t of row b. */
TRNN_NOINLINE size_t matrix_at(const factors *me, int which, int32_t t, int32_t b, int32_t p)
{
    const trnn_frame in = me->in[which];
    const size_t size = (size_t)in.rows * (size_t)in.cols;
    return (trnn_walk_at(&me->walk, t, b, me->still[which]) * (size_t)in.planes +
            (in.planes == 1 ? 0 : (size_t)p)) *
           size;
}

/* Packs a matrix of `units` rows and `depth` columns; number k of row n is at from[k * k_apart + n * n_apart]. */
TRNN_NOINLINE trnn_matrix pack(const float *from, size_t k_apart, size_t n_apart, int32_t depth,
                               int32_t units, float *to)
{
    const size_t count = (size_t)units, all = (size_t)depth;
    const size_t panels = (size_t)trnn_ceil(units, TRNN_PANEL);
    for (size_t first = 0; first < panels; first += TRNN_GROUP) {
        const size_t wide = (panels - first < TRNN_GROUP ? panels - first : TRNN_GROUP) * TRNN_PANEL;
        for (size_t k = 0; k < all; k++)
            for (size_t j = 0; j < wide; j++) {
                const size_t n = first * TRNN_PANEL + j;
                *to++ = n < count ? from[k * k_apart + n * n_apart] : 0.0f;
            }
    }
    return trnn_matrix_of(to - panels * TRNN_PANEL * all, TRNN_F32, 1, units, depth);
}

/* y (rows, units) = x (rows, depth) times the packed matrix. */
TRNN_NOINLINE void multiply_packed(const factors *me, trnn_matrix matrix, int32_t rows, int32_t units,
                                   const float *x, float *y)
{
    const trnn_product product = trnn_product_of(matrix, rows, units, NULL, x, y, NULL);
    TRNN_KERNEL(me->isa, product)(&product);
}

TRNN_NOINLINE void compute_products(const factors *me, float *y)
{
    const trnn_walk *w = &me->walk;
    const int32_t rows = me->out.rows, cols = me->out.cols, depth = me->in[0].cols, planes = me->out.planes;
    for (int32_t b = w->first; b < w->first + w->rows; b++)
        for (int32_t p = 0; p < planes; p++) {
            trnn_matrix matrix = {.weights = NULL};
            for (int32_t t = w->from; t < w->to; t++) {
                if (t == w->from || !me->still[1])
                    matrix = pack(me->x[1] + matrix_at(me, 1, t, b, p), (size_t)cols, 1, depth, cols,
                                  me->room.packed);
                const size_t to = trnn_walk_at(w, t, b, 0) * (size_t)planes + (size_t)p;
                multiply_packed(me, matrix, rows, cols, me->x[0] + matrix_at(me, 0, t, b, p),
                                y + to * (size_t)rows * (size_t)cols);
            }
        }
}

/* Of one matrix dy (R, C) the product that belongs to the gradient of a value: dy bT (R, K), or aT dy (K, C). */
TRNN_NOINLINE void go_back_matrix(const factors *me, int which, const float *other, const float *dy, float *d)
{
    const int32_t rows = me->out.rows, cols = me->out.cols, depth = me->in[0].cols;
    if (which == 0) {
        multiply_packed(me, pack(other, 1, (size_t)cols, cols, depth, me->room.packed), rows, depth, dy, d);
        return;
    }
    for (size_t k = 0; k < (size_t)depth; k++)
        for (size_t r = 0; r < (size_t)rows; r++)
            me->room.transposed[k * (size_t)rows + r] = other[r * (size_t)depth + k];
    multiply_packed(me, pack(dy, (size_t)cols, 1, rows, cols, me->room.packed), depth, cols,
                    me->room.transposed, d);
}

/* The gradients of the values, where they are asked for: sums over the steps and planes where a matrix counts. */
TRNN_NOINLINE void go_back_products(const factors *me, const float *all_dy, float *const all_d[2])
{
    const trnn_walk *w = &me->walk;
    for (int which = 0; which < 2; which++) {
        const trnn_frame in = me->in[which];
        const int still = me->still[which], once = !still && in.planes == me->out.planes;
        const size_t size = (size_t)in.rows * (size_t)in.cols, frame = trnn_frame_size(in);
        float *const d = all_d[which];
        for (int32_t t = w->from; d && t < w->to; t++) {
            if (!once && (t == w->from || !still))
                trnn_zero(d + trnn_walk_at(w, t, w->first, still) * frame,
                          (size_t)w->rows * frame * sizeof(float));
            for (int32_t b = w->first; b < w->first + w->rows; b++)
                for (int32_t p = 0; p < me->out.planes; p++) {
                    const size_t at = trnn_walk_at(w, t, b, 0) * (size_t)me->out.planes + (size_t)p;
                    float *to = d + matrix_at(me, which, t, b, p);
                    go_back_matrix(me, which, me->x[1 - which] + matrix_at(me, 1 - which, t, b, p),
                                   all_dy + at * (size_t)me->out.rows * (size_t)me->out.cols,
                                   once ? to : me->room.product);
                    for (size_t i = 0; !once && i < size; i++) to[i] += me->room.product[i];
                }
        }
    }
}

static void matmul_run(const trnn_call *call)
{
    trnn_cursor cursor = {call->scratch, 0};
    const trnn_read *other = call->others;
    const factors me = {.isa = call->isa,
                        .walk = trnn_walk_of_call(call),
                        .in = {call->in, other->in},
                        .out = call->out,
                        .still = {call->still, other->still},
                        .x = {call->x, other->x},
                        .room = room_of(&cursor, call->in, call->out, 0)};
    compute_products(&me, call->y);
}

static factors matmul_factors(const trnn_pass *pass)
{
    trnn_cursor cursor = {pass->scratch, 0};
    const trnn_pass_read *other = pass->others;
    return (factors){.isa = pass->isa,
                     .walk = trnn_walk_of_pass(pass),
                     .in = {pass->in, other->in},
                     .out = pass->out,
                     .still = {pass->still, other->still},
                     .x = {pass->x, other->x},
                     .room = room_of(&cursor, pass->in, pass->out, 1)};
}

static void matmul_forward(const trnn_pass *pass)
{
    const factors me = matmul_factors(pass);
    compute_products(&me, pass->y);
}

static void matmul_backward(const trnn_pass *pass)
{
    const factors me = matmul_factors(pass);
    go_back_products(&me, pass->dy, (float *const[2]){pass->dx, pass->others[0].dx});
}

const trnn_layer_type trnn_matmul = {
    .name = "matmul",
    .check = matmul_check,
    .join = matmul_join,
    .time = TRNN_TIME_MIX,
    .scratch = matmul_scratch,
    .run = matmul_run,
};

const trnn_layer_training trnn_matmul_training = {
    .scratch = matmul_train_scratch,
    .forward = matmul_forward,
    .backward = matmul_backward,
    .sequences = 1,
};
