/* Convolution over a frame: over the rows and columns of planes (conv2d, as torch.nn.Conv2d), or over columns (conv1d, as
 * torch.nn.Conv1d, whose channels are rows; here they are planes of one row).
 *
 * An output is one chain over input channels, then kernel rows, then kernel columns, padding included. Two ways compute it,
 * with the same bits:
 *
 * by rows     Some positions at a time, the frame is unrolled to (positions, depth), multiplied by the group's matrix, and
 *             transposed to (channels, positions). All formats can do this, and training goes back this way.
 * by panels   The frame is padded, and copied to panels of 16 positions side by side for each k, as if it were the matrix.
 *             The weights are the rows that it is multiplied by. A position that follows another reads what stands beside
 *             it, so panels are copied in long pieces, and y needs no transposing. Weights are widened to float32 rows, so it
 *             pays if there are many positions; and integer products round rows of activations, so those go by rows.
 */
#include "conv.h"

enum {
    POSITIONS_BY_ROWS = 128, /* at a time */
    POSITIONS_BY_PANELS = TRNN_GROUP * TRNN_PANEL,
    LEAST_BY_PANELS = 32 /* positions: below, panels are mostly padding */
};

/* ---- shapes ------------------------------------------------------------------------------------------- */

/* One axis that is convolved. */
typedef struct {
    int32_t taps, stride, dilation, before; /* before: padding */
    int32_t in, out;                        /* positions that are read, that are written */
    int32_t reflect;
} conv_axis;

typedef struct {
    conv_axis rows, cols;
    size_t channels;  /* that a group reads */
    size_t in, out;   /* numbers of a group in a frame that is read, that is written */
    size_t positions; /* of an output channel */
} conv_shape;

static conv_axis axis_of_cols(const trnn_layer *layer, int32_t in, int32_t out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t reflect = a->padding_mode == TRNN_PAD_REFLECT;
    return (conv_axis){a->kernel_size, a->stride, a->dilation, a->pad_left, in, out, reflect};
}

static conv_axis axis_of_rows(const trnn_layer *layer, int32_t in, int32_t out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (!a->kernel_rows) return (conv_axis){1, 1, 1, 0, 1, 1, 0};
    return (conv_axis){a->kernel_rows, a->stride_rows, a->dilation_rows, a->pad_top, in, out, 0};
}

TRNN_NOINLINE conv_shape conv_shape_of(const trnn_layer *layer, trnn_frame in, trnn_frame out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    conv_shape s;
    s.rows = axis_of_rows(layer, in.rows, out.rows);
    s.cols = axis_of_cols(layer, in.cols, out.cols);
    s.channels = (size_t)(a->in_channels / a->groups);
    s.positions = trnn_times((size_t)s.rows.out, (size_t)s.cols.out);
    s.in = s.channels * (size_t)s.rows.in * (size_t)s.cols.in;
    s.out = (size_t)(a->out_channels / a->groups) * s.positions;
    return s;
}

static size_t positions_of(const trnn_layer *layer, trnn_frame out)
{
    return trnn_times((size_t)(layer->as.conv1d.kernel_rows ? out.rows : 1), (size_t)out.cols);
}

/* Positions from the first that an output reads to the last one. */
static int64_t window_span(const conv_axis *a) { return (int64_t)a->dilation * (a->taps - 1) + 1; }

/* Sets a->out, the positions that the axis writes. */
TRNN_NOINLINE trnn_status find_length(conv_axis *a, int32_t after)
{
    if (a->reflect && (a->before >= a->in || after >= a->in)) return TRNN_E_SHAPE;
    const int64_t padded = (int64_t)a->in + a->before + after;
    if (padded < window_span(a)) return TRNN_E_SHAPE;
    const int64_t length = (padded - window_span(a)) / a->stride + 1;
    if (length > TRNN_SIZE_MAX) return TRNN_E_SIZE;
    a->out = (int32_t)length;
    return TRNN_OK;
}

static int is_padding(int32_t pad) { return pad >= 0 && pad <= TRNN_SIZE_MAX; }

static trnn_status conv1d_check(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (!is_padding(a->pad_left) || !is_padding(a->pad_right)) return TRNN_E_ARGUMENT;
    if (a->padding_mode != TRNN_PAD_ZEROS && a->padding_mode != TRNN_PAD_REFLECT) return TRNN_E_ARGUMENT;
    return trnn_conv_check(layer, 1);
}

static trnn_status conv2d_check(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    if (!is_padding(a->pad_left) || !is_padding(a->pad_right)) return TRNN_E_ARGUMENT;
    if (!is_padding(a->pad_top) || !is_padding(a->pad_bottom)) return TRNN_E_ARGUMENT;
    return a->padding_mode == TRNN_PAD_ZEROS ? trnn_conv_check(layer, 2) : TRNN_E_ARGUMENT;
}

static trnn_status conv1d_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    conv_axis cols = axis_of_cols(layer, in.cols, 0);
    if (in.planes != 1 || in.rows != a->in_channels) return TRNN_E_SHAPE;
    const trnn_status status = find_length(&cols, a->pad_right);
    if (!status) *out = (trnn_frame){1, a->out_channels, cols.out};
    return status;
}

static trnn_status conv2d_frame(const trnn_layer *layer, trnn_frame in, trnn_frame *out)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    conv_axis rows = axis_of_rows(layer, in.rows, 0), cols = axis_of_cols(layer, in.cols, 0);
    if (in.planes != a->in_channels) return TRNN_E_SHAPE;
    trnn_status status = find_length(&rows, a->pad_bottom);
    if (!status) status = find_length(&cols, a->pad_right);
    if (!status) *out = (trnn_frame){a->out_channels, rows.out, cols.out};
    return status;
}

/* The position that is read for position `at` of a padded axis; -1: none, the number is 0. */
static int64_t read_at(const conv_axis *axis, int64_t at)
{
    if (at >= 0 && at < axis->in) return at;
    if (!axis->reflect) return -1;
    return at < 0 ? -at : 2 * ((int64_t)axis->in - 1) - at;
}

/* ---- by rows ------------------------------------------------------------------------------------------ */

static int32_t rows_at_once(size_t positions)
{
    return positions < POSITIONS_BY_ROWS ? (int32_t)positions : POSITIONS_BY_ROWS;
}

TRNN_NOINLINE trnn_conv_scratch open_rows(const trnn_layer *layer, trnn_frame out, void *memory)
{
    return trnn_conv_open(layer, rows_at_once(positions_of(layer, out)), 1, memory);
}

/* Copies a few numbers without a call. */
static void copy_taps(float *to, const float *from, size_t taps)
{
    switch (taps) {
    default: trnn_copy(to, from, taps * sizeof(float)); break;
    case 5: to[4] = from[4]; /* fall through */
    case 4: to[3] = from[3]; /* fall through */
    case 3: to[2] = from[2]; /* fall through */
    case 2: to[1] = from[1]; /* fall through */
    case 1: to[0] = from[0];
    }
}

/* Unrolls one position whose taps all lie inside: the first of them at `from`. */
static float *unroll_inside(const conv_shape *s, const float *from, float *rows)
{
    const size_t taps = (size_t)s->cols.taps, lines = (size_t)s->rows.taps, channels = s->channels;
    const size_t down = (size_t)s->rows.dilation * (size_t)s->cols.in;
    const size_t apart = (size_t)s->rows.in * (size_t)s->cols.in;
    for (size_t channel = 0; channel < channels; channel++, from += apart)
        for (size_t line = 0; line < lines; line++, rows += taps) copy_taps(rows, from + line * down, taps);
    return rows;
}

/* Unrolls one position that has some taps in the padding, or apart from each other. */
static float *unroll_at_border(const conv_shape *s, const float *x, int64_t top, int64_t left, float *rows)
{
    const conv_axis down = s->rows, across = s->cols;
    const int64_t taps = across.taps;
    for (size_t channel = 0; channel < s->channels; channel++, x += (int64_t)down.in * across.in)
        for (int64_t line = 0; line < down.taps; line++, rows += taps) {
            const int64_t at = read_at(&down, top + line * down.dilation);
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t col = read_at(&across, left + tap * across.dilation);
                rows[tap] = at < 0 || col < 0 ? 0.0f : x[at * across.in + col];
            }
        }
    return rows;
}

/* Unrolls `count` positions of a group's channels, the `first` one on: a row has the numbers that an output multiplies. */
TRNN_NOINLINE void unroll(const conv_shape *s, const float *x, size_t first, size_t count, float *rows)
{
    const int64_t high = s->rows.in - window_span(&s->rows), wide = s->cols.in - window_span(&s->cols);
    for (size_t p = first; p < first + count; p++) {
        const int64_t top = (int64_t)(p / (size_t)s->cols.out) * s->rows.stride - s->rows.before;
        const int64_t left = (int64_t)(p % (size_t)s->cols.out) * s->cols.stride - s->cols.before;
        const int inside = top >= 0 && top <= high && left >= 0 && left <= wide;
        rows = inside && s->cols.dilation == 1 ? unroll_inside(s, x + top * s->cols.in + left, rows)
                                               : unroll_at_border(s, x, top, left, rows);
    }
}

/* The reverse of unroll: adds each number to the position that it was read from. */
TRNN_NOINLINE void fold(const conv_shape *s, const float *rows, size_t first, size_t count, float *dx)
{
    const size_t taps = (size_t)s->cols.taps, wide = (size_t)s->cols.in;
    for (size_t p = first; p < first + count; p++) {
        const int64_t top = (int64_t)(p / (size_t)s->cols.out) * s->rows.stride - s->rows.before;
        const int64_t left = (int64_t)(p % (size_t)s->cols.out) * s->cols.stride - s->cols.before;
        for (size_t channel = 0; channel < s->channels; channel++)
            for (int32_t row = 0; row < s->rows.taps; row++, rows += taps) {
                const int64_t at = read_at(&s->rows, top + (int64_t)row * s->rows.dilation);
                if (at < 0) continue;
                float *to = dx + (channel * (size_t)s->rows.in + (size_t)at) * wide;
                for (size_t tap = 0; tap < taps; tap++) {
                    const int64_t col = read_at(&s->cols, left + (int64_t)tap * s->cols.dilation);
                    if (col >= 0) to[col] += rows[tap];
                }
            }
    }
}

static void run_by_rows(const trnn_call *call, const conv_shape *s)
{
    const trnn_layer *layer = call->layer;
    const size_t frames = (size_t)call->steps * (size_t)call->batch, groups = (size_t)layer->as.conv1d.groups;
    const trnn_conv_scratch scratch = open_rows(layer, call->out, call->scratch);
    const size_t units = (size_t)scratch.units, most = (size_t)rows_at_once(s->positions);
    for (size_t group = 0; group < groups; group++) {
        const trnn_conv_group me =
            trnn_conv_group_of(layer, group, call->weights[0], call->weights[1], &scratch);
        for (size_t n = 0; n < frames; n++) {
            const float *x = (const float *)call->x + (n * groups + group) * s->in;
            for (size_t first = 0, count; first < s->positions; first += count) {
                count = s->positions - first < most ? s->positions - first : most;
                unroll(s, x, first, count, scratch.unrolled);
                const trnn_product product =
                    trnn_product_of(me.matrix, (int32_t)count, scratch.units, me.bias, scratch.unrolled,
                                    scratch.product, scratch.own);
                TRNN_KERNEL(call->isa, product)(&product);
                float *y = call->y + (n * groups + group) * s->out + first;
                for (size_t unit = 0; unit < units; unit++, y += s->positions)
                    for (size_t p = 0; p < count; p++) y[p] = scratch.product[p * units + unit];
            }
        }
    }
}

/* ---- by panels ---------------------------------------------------------------------------------------- */

typedef struct {
    size_t high, wide; /* of a padded channel */
    float *padded;     /* (channels, high, wide), and a panel that nothing depends on */
    float *block;      /* (1 + depth, 64), likewise: the first row is ones, for the bias */
    float *weights;    /* (units, 1 + depth): the bias, then the row of the matrix */
} panel_scratch;

TRNN_NOINLINE panel_scratch place_panels(const trnn_layer *layer, const conv_shape *s, trnn_cursor *cursor)
{
    const size_t units = (size_t)trnn_conv_units(layer), depth = trnn_conv_depth(layer);
    panel_scratch scratch;
    scratch.high = (size_t)((int64_t)(s->rows.out - 1) * s->rows.stride + window_span(&s->rows));
    scratch.wide = (size_t)((int64_t)(s->cols.out - 1) * s->cols.stride + window_span(&s->cols));
    const size_t padded = trnn_times(trnn_times(s->channels, scratch.high), scratch.wide);
    scratch.padded = trnn_take(cursor, trnn_plus(padded, TRNN_PANEL));
    scratch.block = trnn_take(cursor, trnn_plus(trnn_times(depth + 1, POSITIONS_BY_PANELS), TRNN_PANEL));
    scratch.weights = trnn_take(cursor, trnn_times(units, depth + 1));
    return scratch;
}

/* Is a call of `frames` frames faster by panels? Widening the weights takes as long as unrolling as many positions as the
 * group has rows. Weights that are kept by rows need no widening, and would fill a panel for a few of its rows. */
static int goes_by_panels(const trnn_layer *layer, const conv_shape *s, size_t frames)
{
    if (trnn_is_integer(layer->format)) return 0;
    if (trnn_conv_by_rows(layer)) return 1;
    const size_t least = (size_t)trnn_conv_units(layer);
    return s->positions >= LEAST_BY_PANELS && trnn_times(s->positions, frames) >= least;
}

/* A number of a float format. */
static float number_at(trnn_format format, const void *numbers, size_t i)
{
    if (format == TRNN_F32) return ((const float *)numbers)[i];
    const uint16_t half = ((const uint16_t *)numbers)[i];
    return trnn_is_f16(format) ? trnn_widen_f16(half) : trnn_widen_bf16(half);
}

/* The weights of a group as float32 rows, each with its bias before it. */
static void widen_group(const trnn_layer *layer, size_t group, const void *weights, const float *bias,
                        const panel_scratch *scratch)
{
    const size_t units = (size_t)trnn_conv_units(layer), depth = trnn_conv_depth(layer);
    const size_t panels = trnn_conv_by_rows(layer) ? 0 : (units + TRNN_PANEL - 1) / TRNN_PANEL;
    float *to = scratch->weights;
    for (size_t unit = 0; unit < units; unit++) {
        size_t at = (group * units + unit) * depth, step = 1, own_bias = group * units + unit;
        if (panels) {
            const size_t panel = unit / TRNN_PANEL, first = panel / TRNN_GROUP * TRNN_GROUP;
            step = (panels - first < TRNN_GROUP ? panels - first : TRNN_GROUP) * TRNN_PANEL;
            at = (group * panels + first) * TRNN_PANEL * depth + (panel - first) * TRNN_PANEL +
                 unit % TRNN_PANEL;
            own_bias = group * panels * TRNN_PANEL + unit;
        }
        *to++ = bias ? bias[own_bias] : 0.0f;
        for (size_t k = 0; k < depth; k++) *to++ = number_at(layer->format, weights, at + k * step);
    }
}

/* Pads a group's channels. */
static void pad(const conv_shape *s, const float *x, const panel_scratch *scratch)
{
    const int64_t high = (int64_t)scratch->high, wide = (int64_t)scratch->wide, in = s->cols.in;
    const int64_t left = s->cols.before, end = left + in < wide ? left + in : wide; /* of what x has */
    const size_t numbers = s->channels * scratch->high * scratch->wide;
    float *to = scratch->padded;
    if (left == 0 && s->rows.before == 0 && wide == in && high == s->rows.in) {
        trnn_copy(to, x, numbers * sizeof(float));
        trnn_zero(to + numbers, TRNN_PANEL * sizeof(float));
        return;
    }
    trnn_zero(to, (numbers + TRNN_PANEL) * sizeof(float));
    for (size_t channel = 0; channel < s->channels; channel++, x += s->rows.in * in)
        for (int64_t row = 0; row < high; row++, to += wide) {
            const int64_t at = read_at(&s->rows, row - s->rows.before);
            if (at < 0) continue;
            if (left < end) trnn_copy(to + left, x + at * in, (size_t)(end - left) * sizeof(float));
            for (int64_t i = 0; s->cols.reflect && i < wide; i++)
                if (i < left || i >= end) to[i] = x[at * in + read_at(&s->cols, i - left)];
        }
}

/* What some positions read, relative to a tap's first number: `to[i]` of them begins with `from[i]`. Of positions that are
 * side by side `size` numbers are copied at once: what is too much is overwritten by those that follow. */
typedef struct {
    size_t count, size;
    uint32_t to[POSITIONS_BY_PANELS];
    size_t from[POSITIONS_BY_PANELS];
} conv_pieces;

enum { PIECE = 8 };

static void find_pieces(const conv_shape *s, const panel_scratch *scratch, size_t first, size_t count,
                        conv_pieces *pieces)
{
    const size_t out = (size_t)s->cols.out;
    pieces->count = 0;
    pieces->size = s->cols.stride == 1 ? PIECE : 1;
    for (size_t p = 0; p < count; pieces->count++) {
        const size_t row = (first + p) / out, col = (first + p) % out, left = out - col;
        pieces->to[pieces->count] = (uint32_t)p;
        pieces->from[pieces->count] =
            row * (size_t)s->rows.stride * scratch->wide + col * (size_t)s->cols.stride;
        p += left < pieces->size ? left : pieces->size;
    }
}

/* Copies what some positions multiply to the block, `across` numbers for each k. */
static void fill_block(const conv_shape *s, const panel_scratch *scratch, const conv_pieces *pieces,
                       size_t across)
{
    float *to = scratch->block;
    for (size_t p = 0; p < across; p++) to[p] = 1.0f;
    to += across;
    for (size_t channel = 0; channel < s->channels; channel++)
        for (size_t row = 0; row < (size_t)s->rows.taps; row++)
            for (size_t tap = 0; tap < (size_t)s->cols.taps; tap++, to += across) {
                const size_t high = channel * scratch->high + row * (size_t)s->rows.dilation;
                const float *from = scratch->padded + high * scratch->wide + tap * (size_t)s->cols.dilation;
                if (pieces->size == 1)
                    for (size_t i = 0; i < pieces->count; i++) to[pieces->to[i]] = from[pieces->from[i]];
                else
                    for (size_t i = 0; i < pieces->count; i++)
                        trnn_copy(to + pieces->to[i], from + pieces->from[i], PIECE * sizeof(float));
            }
}

static void run_by_panels(const trnn_call *call, const conv_shape *s)
{
    const trnn_layer *layer = call->layer;
    const size_t frames = (size_t)call->steps * (size_t)call->batch, groups = (size_t)layer->as.conv1d.groups;
    const int32_t units = trnn_conv_units(layer), depth = (int32_t)trnn_conv_depth(layer) + 1;
    trnn_cursor cursor = {call->scratch, 0};
    const panel_scratch scratch = place_panels(layer, s, &cursor);
    for (size_t group = 0; group < groups; group++) {
        widen_group(layer, group, call->weights[0], call->weights[1], &scratch);
        for (size_t n = 0; n < frames; n++) {
            pad(s, (const float *)call->x + (n * groups + group) * s->in, &scratch);
            for (size_t first = 0; first < s->positions; first += POSITIONS_BY_PANELS) {
                const size_t left = s->positions - first;
                const int32_t count = left < POSITIONS_BY_PANELS ? (int32_t)left : POSITIONS_BY_PANELS;
                const trnn_matrix matrix = trnn_matrix_of(scratch.block, TRNN_F32, 1, count, depth);
                conv_pieces pieces;
                find_pieces(s, &scratch, first, (size_t)count, &pieces);
                fill_block(s, &scratch, &pieces, (size_t)matrix.panels * TRNN_PANEL);
                trnn_product product = trnn_product_of(matrix, units, count, NULL, scratch.weights,
                                                       call->y + (n * groups + group) * s->out + first, NULL);
                product.y_stride = s->positions;
                TRNN_KERNEL(call->isa, product)(&product);
            }
        }
    }
}

static size_t conv_frame_scratch(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                                 int32_t steps)
{
    const conv_shape s = conv_shape_of(layer, in, out);
    trnn_cursor rows = {NULL, 0}, panels = {NULL, 0};
    trnn_conv_place(layer, rows_at_once(positions_of(layer, out)), 1, &rows);
    if (goes_by_panels(layer, &s, trnn_times((size_t)batch, (size_t)steps))) place_panels(layer, &s, &panels);
    return trnn_larger(rows.bytes, panels.bytes);
}

static void conv_frame_run(const trnn_call *call)
{
    const conv_shape s = conv_shape_of(call->layer, call->in, call->out);
    if (goes_by_panels(call->layer, &s, (size_t)call->steps * (size_t)call->batch))
        run_by_panels(call, &s);
    else
        run_by_rows(call, &s);
}

/* ---- training: each group's transposed matrix on the tape ------------------------------------------ */

static size_t conv_frame_tape(const trnn_layer *layer, trnn_frame in, trnn_frame out, int32_t batch,
                              int32_t steps)
{
    (void)in, (void)out, (void)batch, (void)steps;
    return trnn_times(trnn_conv_transposed_size(layer), sizeof(float));
}

static void conv_frame_transpose(const trnn_pass *pass)
{
    const trnn_conv_scratch scratch = open_rows(pass->layer, pass->out, pass->scratch);
    trnn_conv_transpose(pass, &scratch, pass->tape);
}

/* Transposes a part of a group's dy (units, positions) to the layout of the product: (count, units). */
TRNN_NOINLINE void transpose_positions(const conv_shape *s, const float *dy, size_t first, size_t count,
                                       size_t units, float *rows)
{
    for (size_t unit = 0; unit < units; unit++)
        for (size_t p = 0; p < count; p++) rows[p * units + unit] = dy[unit * s->positions + first + p];
}

static void conv_frame_backward(const trnn_pass *pass)
{
    const trnn_layer *layer = pass->layer;
    const size_t groups = (size_t)layer->as.conv1d.groups;
    const conv_shape s = conv_shape_of(layer, pass->in, pass->out);
    const trnn_conv_scratch scratch = open_rows(layer, pass->out, pass->scratch);
    const size_t most = (size_t)rows_at_once(s.positions);
    if (!pass->dx) return;

    const float *dy = pass->dy;
    float *dx = pass->dx;
    for (size_t n = (size_t)pass->rows * groups, i = 0; i < n; i++, dy += s.out, dx += s.in) {
        const trnn_matrix transposed = trnn_conv_transposed(layer, pass->tape, i % groups);
        trnn_zero(dx, s.in * sizeof(float));
        for (size_t first = 0, count; first < s.positions; first += count) {
            count = s.positions - first < most ? s.positions - first : most;
            transpose_positions(&s, dy, first, count, (size_t)scratch.units, scratch.product);
            const trnn_product product = trnn_product_of(transposed, (int32_t)count, scratch.depth, NULL,
                                                         scratch.product, scratch.unrolled, NULL);
            TRNN_KERNEL(pass->isa, product)(&product);
            fold(&s, scratch.unrolled, first, count, dx);
        }
    }
}

/* Adds one group's gradients, over all frames, to dw and db, which are in panels. */
static void conv_frame_add(const trnn_pass *pass, size_t group, trnn_matrix matrix,
                           const trnn_conv_scratch *scratch, float *dw, float *db)
{
    const size_t groups = (size_t)pass->layer->as.conv1d.groups;
    const conv_shape s = conv_shape_of(pass->layer, pass->in, pass->out);
    const size_t most = (size_t)rows_at_once(s.positions);
    for (size_t n = 0; n < (size_t)pass->rows; n++) {
        const float *x = (const float *)pass->x + (n * groups + group) * s.in;
        const float *dy = pass->dy + (n * groups + group) * s.out;
        for (size_t first = 0, count; first < s.positions; first += count) {
            count = s.positions - first < most ? s.positions - first : most;
            unroll(&s, x, first, count, scratch->unrolled);
            transpose_positions(&s, dy, first, count, (size_t)scratch->units, scratch->product);
            const trnn_weight_gradient gradient = trnn_weight_gradient_of(
                pass, matrix, (int32_t)count, scratch->units, scratch->product, scratch->unrolled, dw, db);
            TRNN_KERNEL(pass->isa, weight_gradient)(&gradient);
        }
    }
}

static void conv_frame_gradients(const trnn_pass *pass)
{
    const trnn_conv_scratch scratch = open_rows(pass->layer, pass->out, pass->scratch);
    trnn_conv_gradients(pass, &scratch, conv_frame_add);
}

#define CONVOLUTION(name_)                                                                  \
    const trnn_layer_type trnn_##name_ = {.name = #name_,                                   \
                                          .check = name_##_check,                           \
                                          .frame = name_##_frame,                           \
                                          .params = trnn_conv_params,                       \
                                          .scratch = conv_frame_scratch,                    \
                                          .run = conv_frame_run};                           \
    const trnn_layer_training trnn_##name_##_training = {.tape = conv_frame_tape,           \
                                                         .transpose = conv_frame_transpose, \
                                                         .backward = conv_frame_backward,   \
                                                         .gradients = conv_frame_gradients}

CONVOLUTION(conv1d);
CONVOLUTION(conv2d);
