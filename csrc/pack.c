/* The weight format: where each number of a tensor lies in a layer's weights.
 *
 * A matrix of (gates * units, cols) becomes panels of 16 rows. Panel order is (16 units, gate), so
 * that all gates of 16 units lie together; the panels stand in groups, [k][panel][16]. With
 * several gates a group is the gates of 16 units; with one it is 4 panels, the last group 1 to 4.
 * Rows that pad the last panel are zero.
 */
#include "layers/layer.h"

static const trnn_layer_type *const types[] = {
#define TRNN_LAYER(NAME, name, arguments) &trnn_##name,
#include "layers/layers.def"
#undef TRNN_LAYER
};

const trnn_layer_type *trnn_layer_type_of(const trnn_layer *layer) { return types[layer->kind]; }

const char *trnn_kind_name(trnn_kind kind) { return types[kind]->name; }

trnn_status trnn_layer_check(const trnn_layer *layer)
{
    if ((unsigned)layer->kind >= TRNN_LAYER_COUNT) return TRNN_E_ARGUMENT;
    const trnn_status status = types[layer->kind]->check(layer);
    if (status != TRNN_OK) return status;
    return trnn_layer_weights_bytes(layer) == SIZE_MAX ? TRNN_E_SIZE : TRNN_OK;
}

/* Floats that a param takes in the weights; SIZE_MAX beyond what can be addressed. */
static size_t packed_size(const trnn_param *param)
{
    const size_t rows =
        param->gates == 0
            ? (size_t)param->units
            : trnn_times((size_t)trnn_ceil(param->units, TRNN_PANEL) * TRNN_PANEL, (size_t)param->gates);
    return trnn_times(trnn_times(rows, (size_t)param->cols), (size_t)param->repeat);
}

int32_t trnn_layer_slots(const trnn_layer *layer, trnn_param slots[TRNN_PARAMS_MAX], size_t *bytes)
{
    const trnn_layer_type *type = types[layer->kind];
    const int32_t count = type->params ? type->params(layer, slots) : 0;
    trnn_cursor cursor = {NULL, 0};
    for (int32_t i = 0; i < count; i++) {
        if (slots[i].rank == 0) continue;
        slots[i].offset = cursor.bytes / sizeof(float);
        trnn_take(&cursor, packed_size(&slots[i]));
    }
    *bytes = cursor.bytes > PTRDIFF_MAX ? SIZE_MAX : cursor.bytes;
    return count;
}

int32_t trnn_layer_params(const trnn_layer *layer, trnn_param params[TRNN_PARAMS_MAX])
{
    size_t bytes;
    const int32_t slots = trnn_layer_slots(layer, params, &bytes);
    int32_t count = 0;
    for (int32_t i = 0; i < slots; i++)
        if (params[i].rank > 0) params[count++] = params[i];
    return count;
}

size_t trnn_layer_weights_bytes(const trnn_layer *layer)
{
    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    trnn_layer_slots(layer, slots, &bytes);
    return bytes;
}

/* Rows of one of the param's matrices. */
static size_t row_count(const trnn_param *param)
{
    return (size_t)param->units * (size_t)(param->gates ? param->gates : 1);
}

/* Where row `row` of a panel matrix begins, and how far apart its columns are. */
static size_t panel_place(const trnn_param *param, size_t row, size_t *stride)
{
    const size_t gates = (size_t)param->gates, units = (size_t)param->units, cols = (size_t)param->cols;
    const size_t gate = row / units, unit = row % units;
    const size_t panels = (units + TRNN_PANEL - 1) / TRNN_PANEL * gates;
    const size_t panel = unit / TRNN_PANEL * gates + gate;
    const size_t full = gates == 1 ? TRNN_GROUP : gates;
    const size_t first = panel / full * full;
    const size_t width = panels - first < full ? panels - first : full;
    *stride = width * TRNN_PANEL;
    return first * TRNN_PANEL * cols + (panel - first) * TRNN_PANEL + unit % TRNN_PANEL;
}

/* Where row `row` of a tensor begins in the weights; the rows of `repeat` matrices follow each other. */
static size_t row_place(const trnn_param *param, size_t row, size_t *stride)
{
    const size_t rows = row_count(param);
    const size_t matrix = packed_size(param) / (size_t)param->repeat;
    *stride = 1;
    const size_t place =
        param->gates ? panel_place(param, row % rows, stride) : row % rows * (size_t)param->cols;
    return param->offset + row / rows * matrix + place;
}

void trnn_param_pack(const trnn_param *param, float *weights, const float *tensor)
{
    for (size_t row = 0; row < row_count(param) * (size_t)param->repeat; row++) {
        size_t stride;
        float *place = weights + row_place(param, row, &stride);
        for (size_t k = 0; k < (size_t)param->cols; k++) place[k * stride] = *tensor++;
    }
}

void trnn_param_unpack(const trnn_param *param, const float *weights, float *tensor)
{
    for (size_t row = 0; row < row_count(param) * (size_t)param->repeat; row++) {
        size_t stride;
        const float *place = weights + row_place(param, row, &stride);
        for (size_t k = 0; k < (size_t)param->cols; k++) *tensor++ = place[k * stride];
    }
}
