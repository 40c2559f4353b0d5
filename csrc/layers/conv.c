/* The weights of convolutions: see conv.h. */
#include "conv.h"

const trnn_argument trnn_conv1d_arguments[] = {
    TRNN_INT_OF(conv1d, in_channels),   TRNN_INT_OF(conv1d, out_channels),
    TRNN_INT_OF(conv1d, kernel_size),   TRNN_INT_OF(conv1d, stride),
    TRNN_INT_OF(conv1d, dilation),      TRNN_INT_OF(conv1d, groups),
    TRNN_INT_OF(conv1d, bias),          TRNN_INT_OF(conv1d, pad_left),
    TRNN_INT_OF(conv1d, pad_right),     TRNN_INT_OF(conv1d, padding_mode),
    TRNN_INT_OF(conv1d, kernel_rows),   TRNN_INT_OF(conv1d, stride_rows),
    TRNN_INT_OF(conv1d, dilation_rows), TRNN_INT_OF(conv1d, pad_top),
    TRNN_INT_OF(conv1d, pad_bottom),    TRNN_END_OF(conv1d),
};

trnn_status trnn_conv_check(const trnn_layer *layer, int axes)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t sizes[] = {a->in_channels, a->out_channels, a->kernel_size, a->stride,       a->dilation,
                             a->groups,      a->kernel_rows,  a->stride_rows, a->dilation_rows};
    const size_t all = sizeof sizes / sizeof sizes[0];
    for (size_t i = 0; i < (axes == 2 ? all : all - 3); i++)
        if (!trnn_is_size(sizes[i])) return TRNN_E_ARGUMENT;
    if (axes == 1 && (a->kernel_rows || a->stride_rows || a->dilation_rows || a->pad_top || a->pad_bottom))
        return TRNN_E_ARGUMENT;
    if (a->in_channels % a->groups) return TRNN_E_ARGUMENT;
    if (a->out_channels % a->groups) return TRNN_E_ARGUMENT;
    if (!trnn_is_flag(a->bias)) return TRNN_E_ARGUMENT;
    const size_t depth = trnn_conv_depth(layer), most = (size_t)TRNN_SIZE_MAX;
    return depth <= most && trnn_is_depth(layer->format, (int64_t)depth) ? TRNN_OK : TRNN_E_SIZE;
}

/* Kernel positions of a channel. */
static size_t conv_taps(const trnn_conv1d_args *a)
{
    return trnn_times((size_t)(a->kernel_rows ? a->kernel_rows : 1), (size_t)a->kernel_size);
}

size_t trnn_conv_depth(const trnn_layer *layer)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    return trnn_times((size_t)(a->in_channels / a->groups), conv_taps(a));
}

int32_t trnn_conv_units(const trnn_layer *layer)
{
    return layer->as.conv1d.out_channels / layer->as.conv1d.groups;
}

int trnn_conv_by_rows(const trnn_layer *layer)
{
    return layer->as.conv1d.groups > 1 && trnn_conv_units(layer) < TRNN_PANEL;
}

int32_t trnn_conv_params(const trnn_layer *layer, trnn_param *params)
{
    const trnn_conv1d_args *a = &layer->as.conv1d;
    const int32_t groups = a->groups, units = trnn_conv_units(layer), depth = (int32_t)trnn_conv_depth(layer);
    if (trnn_conv_by_rows(layer)) {
        trnn_param_table(&params[0], "weight", layer->format, 3, a->out_channels, depth);
        trnn_param_vector(&params[1], "bias", a->out_channels);
    } else {
        trnn_param_panels(&params[0], "weight", layer->format, 1, units, depth);
        trnn_param_bias(&params[1], "bias", 1, units);
        params[0].repeat = params[1].repeat = groups;
    }
    params[0].rank = a->kernel_rows ? 4 : 3;
    params[0].shape[0] = params[1].shape[0] = a->out_channels;
    params[0].shape[1] = a->in_channels / groups;
    params[0].shape[2] = a->kernel_rows ? a->kernel_rows : a->kernel_size;
    params[0].shape[3] = a->kernel_rows ? a->kernel_size : 1;
    if (!a->bias) params[1].rank = 0;
    return 2;
}

trnn_conv_scratch trnn_conv_place(const trnn_layer *layer, int32_t rows, int product, trnn_cursor *cursor)
{
    const int32_t units = trnn_conv_units(layer), depth = (int32_t)trnn_conv_depth(layer);
    const int by_rows = trnn_conv_by_rows(layer);
    const size_t length = (size_t)rows;
    const size_t numbers = trnn_times(by_rows ? (size_t)units : 0, (size_t)depth); /* and as many scales */
    trnn_conv_scratch scratch = {.units = units, .depth = depth, .by_rows = by_rows};
    scratch.unrolled = trnn_take(cursor, trnn_times(length, (size_t)depth));
    scratch.product = product ? trnn_take(cursor, trnn_times(length, (size_t)units)) : NULL;
    scratch.own = trnn_take_bytes(cursor, trnn_product_scratch(layer->format, rows, depth));
    scratch.panel = trnn_take_bytes(cursor, by_rows ? trnn_group_bytes(layer->format, 1, depth) : 0);
    scratch.numbers = trnn_take(cursor, numbers);
    scratch.scales = trnn_take(cursor, numbers);
    scratch.bias = trnn_take(cursor, by_rows ? TRNN_PANEL : 0);
    return scratch;
}

trnn_conv_scratch trnn_conv_open(const trnn_layer *layer, int32_t rows, int product, void *memory)
{
    trnn_cursor cursor = {memory, 0};
    const trnn_conv_scratch scratch = trnn_conv_place(layer, rows, product, &cursor);
    if (scratch.by_rows) {
        trnn_zero(scratch.panel, trnn_group_bytes(layer->format, 1, scratch.depth));
        trnn_zero(scratch.bias, TRNN_PANEL * sizeof(float));
    }
    return scratch;
}

/* ---- a group's matrix ------------------------------------------------------------------------------ */

/* Copies a group from the rows of all groups to the panel. */
static void conv_to_panel(const trnn_layer *layer, size_t group, const void *rows,
                          const trnn_conv_scratch *scratch)
{
    const size_t units = (size_t)scratch->units, depth = (size_t)scratch->depth;
    if (layer->format == TRNN_F32) {
        const float *const first = (const float *)rows + group * units * depth;
        float *const panel = scratch->panel;
        for (size_t unit = 0; unit < units; unit++)
            for (size_t k = 0; k < depth; k++) panel[k * TRNN_PANEL + unit] = first[unit * depth + k];
        return;
    }
    trnn_param by_rows;
    trnn_param_table(&by_rows, "weight", layer->format, 2, scratch->units, scratch->depth);
    trnn_param in_panel;
    trnn_param_panels(&in_panel, "weight", layer->format, 1, scratch->units, scratch->depth);
    by_rows.offset = group * trnn_param_bytes(&by_rows);
    trnn_param_unpack(&by_rows, rows, scratch->numbers, scratch->scales);
    trnn_param_pack(&in_panel, scratch->panel, scratch->numbers, scratch->scales);
}

/* Copies a float32 group from the panel to the rows of all groups. */
static void conv_from_panel(size_t group, float *rows, const trnn_conv_scratch *scratch)
{
    const size_t units = (size_t)scratch->units, depth = (size_t)scratch->depth;
    float *const first = rows + group * units * depth;
    const float *const panel = scratch->panel;
    for (size_t unit = 0; unit < units; unit++)
        for (size_t k = 0; k < depth; k++) first[unit * depth + k] = panel[k * TRNN_PANEL + unit];
}

/* A group's bias, padded with zeros to a panel. */
static float *conv_widen_bias(size_t group, const float *bias, const trnn_conv_scratch *scratch)
{
    const size_t units = (size_t)scratch->units;
    if (!bias) return NULL;
    trnn_copy(scratch->bias, bias + group * units, units * sizeof(float));
    return scratch->bias;
}

trnn_conv_group trnn_conv_group_of(const trnn_layer *layer, size_t group, const void *weights,
                                   const float *bias, const trnn_conv_scratch *scratch)
{
    const int32_t units = scratch->units, depth = scratch->depth;
    const size_t panels = (size_t)trnn_ceil(units, TRNN_PANEL);
    if (scratch->by_rows) {
        conv_to_panel(layer, group, weights, scratch);
        weights = scratch->panel;
        bias = conv_widen_bias(group, bias, scratch);
    } else {
        weights = (const char *)weights + group * panels * trnn_group_bytes(layer->format, 1, depth);
        if (bias) bias += group * panels * TRNN_PANEL;
    }
    return (trnn_conv_group){trnn_matrix_of(weights, layer->format, 1, units, depth), bias};
}

/* ---- training ------------------------------------------------------------------------------------------- */

/* Floats of one group's transposed matrix. */
static size_t transposed_group_size(const trnn_layer *layer)
{
    return trnn_transposed_size(trnn_conv_units(layer), (int32_t)trnn_conv_depth(layer));
}

size_t trnn_conv_transposed_size(const trnn_layer *layer)
{
    return trnn_times(transposed_group_size(layer), (size_t)layer->as.conv1d.groups);
}

void trnn_conv_transpose(const trnn_pass *pass, const trnn_conv_scratch *scratch, float *transposed)
{
    const trnn_layer *layer = pass->layer;
    const size_t size = transposed_group_size(layer);
    for (size_t group = 0; pass->dx && group < (size_t)layer->as.conv1d.groups; group++) {
        const trnn_conv_group me = trnn_conv_group_of(layer, group, pass->weights[0], NULL, scratch);
        trnn_transpose(me.matrix, scratch->units, transposed + group * size, pass->part, pass->parts);
    }
}

trnn_matrix trnn_conv_transposed(const trnn_layer *layer, const float *transposed, size_t group)
{
    return trnn_transposed_matrix(transposed + group * transposed_group_size(layer), trnn_conv_units(layer),
                                  (int32_t)trnn_conv_depth(layer));
}

void trnn_conv_gradients(const trnn_pass *pass, const trnn_conv_scratch *scratch, trnn_conv_add *add)
{
    const trnn_layer *layer = pass->layer;
    const int32_t units = scratch->units, depth = scratch->depth;
    const size_t padded = (size_t)trnn_ceil(units, TRNN_PANEL) * TRNN_PANEL;
    const trnn_matrix matrix = trnn_matrix_of(NULL, TRNN_F32, 1, units, depth);
    float *const dw = pass->grads[0], *const db = pass->grads[1];

    for (size_t group = 0; group < (size_t)layer->as.conv1d.groups; group++) {
        if (!scratch->by_rows) {
            add(pass, group, matrix, scratch, dw + group * padded * (size_t)depth,
                db ? db + group * padded : NULL);
            continue;
        }
        if (group % (size_t)pass->parts != (size_t)pass->part) continue;
        trnn_pass alone = *pass; /* each part does some of the groups completely */
        alone.part = 0;
        alone.parts = 1;
        conv_to_panel(layer, group, dw, scratch);
        float *const bias = conv_widen_bias(group, db, scratch);
        add(&alone, group, matrix, scratch, scratch->panel, bias);
        conv_from_panel(group, dw, scratch);
        if (bias) trnn_copy(db + group * (size_t)units, bias, (size_t)units * sizeof(float));
    }
}
