/* The weight format: where each number of a tensor lies in a layer's weights.
 *
 * A matrix of (gates * units, cols) becomes panels of 16 rows. Panel order is (16 units, gate), so
 * that all gates of 16 units lie together; the panels stand in groups. With several gates a group is
 * the gates of 16 units; with one it is 4 panels, the last group 1 to 4. Inside a group format.h rules.
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

const trnn_argument *trnn_layer_arguments(const trnn_layer *layer)
{
    static const trnn_argument *const arguments[] = {
#define TRNN_LAYER(NAME, name, arguments) trnn_##arguments##_arguments,
#include "layers/layers.def"
#undef TRNN_LAYER
    };
    return arguments[layer->kind];
}

trnn_status trnn_layer_check(const trnn_layer *layer)
{
    if ((unsigned)layer->kind >= TRNN_LAYER_COUNT) return TRNN_E_ARGUMENT;
    if ((unsigned)layer->format >= TRNN_FORMAT_COUNT) return TRNN_E_ARGUMENT;
    const trnn_status status = types[layer->kind]->check(layer);
    if (status != TRNN_OK) return status;

    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    int32_t matrices = 0;
    for (int32_t i = trnn_layer_slots(layer, slots, &bytes) - 1; i >= 0; i--)
        matrices += slots[i].rank > 1 && slots[i].format == layer->format;
    if (layer->format != TRNN_F32 && matrices == 0) return TRNN_E_ARGUMENT;
    return bytes == SIZE_MAX ? TRNN_E_SIZE : TRNN_OK;
}

const char *trnn_format_name(trnn_format format)
{
    static const char *const names[TRNN_FORMAT_COUNT] = {"float32", "float16", "bfloat16", "int8", "int4"};
    return names[format];
}

/* ---- where things lie ------------------------------------------------------------------------ */

/* Rows of one of the param's matrices. */
static size_t row_count(const trnn_param *param)
{
    return (size_t)param->units * (size_t)(param->gates ? param->gates : 1);
}

/* Bytes of one of the param's matrices; SIZE_MAX beyond what can be addressed. */
static size_t matrix_bytes(const trnn_param *param)
{
    if (param->gates == 0)
        return trnn_times((size_t)param->units, trnn_row_bytes(param->format, param->cols));
    const size_t panel = trnn_group_bytes(param->format, 1, param->cols);
    return trnn_times(trnn_times((size_t)trnn_ceil(param->units, TRNN_PANEL), (size_t)param->gates), panel);
}

size_t trnn_param_bytes(const trnn_param *param)
{
    return trnn_times(matrix_bytes(param), (size_t)param->repeat);
}

int32_t trnn_layer_slots(const trnn_layer *layer, trnn_param slots[TRNN_PARAMS_MAX], size_t *bytes)
{
    const trnn_layer_type *type = types[layer->kind];
    const int32_t count = type->params ? type->params(layer, slots) : 0;
    size_t offset = 0;
    for (int32_t i = 0; i < count; i++) {
        if (slots[i].rank == 0) continue;
        slots[i].offset = offset;
        offset = trnn_plus(offset, trnn_align(trnn_param_bytes(&slots[i])));
    }
    *bytes = offset > PTRDIFF_MAX ? SIZE_MAX : offset;
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

/* One row of a param: its group (of one row, for a table) and its place among the group's rows. */
typedef struct {
    size_t group; /* bytes, into the weights */
    size_t wide, row;
} row_place;

static row_place place_of(const trnn_param *param, size_t row)
{
    const size_t units = (size_t)param->units, gates = (size_t)param->gates, rows = row_count(param);
    const size_t matrix = param->offset + row / rows * matrix_bytes(param);
    row %= rows;
    if (gates == 0) return (row_place){matrix + row * trnn_row_bytes(param->format, param->cols), 1, 0};

    const size_t gate = row / units, unit = row % units;
    const size_t panels = (units + TRNN_PANEL - 1) / TRNN_PANEL * gates;
    const size_t panel = unit / TRNN_PANEL * gates + gate;
    const size_t full = gates == 1 ? TRNN_GROUP : gates;
    const size_t first = panel / full * full;
    const size_t width = panels - first < full ? panels - first : full;
    return (row_place){matrix + first * trnn_group_bytes(param->format, 1, param->cols), width * TRNN_PANEL,
                       (panel - first) * TRNN_PANEL + unit % TRNN_PANEL};
}

/* ---- one row, there and back ------------------------------------------------------------------ */

/* Numbers of `size` bytes, one plane of the group's rows for each k. */
static void copy_row(const trnn_param *param, char *group, size_t wide, size_t row, char *numbers,
                     size_t size, int back)
{
    char *place = group + row * size;
    for (int32_t k = 0; k < param->cols; k++, place += wide * size, numbers += size)
        if (back)
            trnn_copy(numbers, place, size);
        else
            trnn_copy(place, numbers, size);
}

/* Four codes of a row in each plane of a group; a table's row has them one after the other. */
static void copy_int8(const trnn_param *param, char *group, size_t wide, size_t row, int8_t *codes,
                      float *scale, int back)
{
    const int table = param->gates == 0;
    char *const scales = group + row * sizeof(float), *const starts = scales + wide * sizeof(float);
    char *const first = group + (table ? 4 : wide * 8) + row * 4;
    int32_t sum = 0;
    for (size_t k = 0; k < (size_t)param->cols; k++) {
        char *place = first + k / 4 * wide * 4 + k % 4;
        if (back)
            trnn_copy(&codes[k], place, 1);
        else
            trnn_copy(place, &codes[k], 1);
        if (!table) sum += codes[k];
    }
    const int32_t start = -TRNN_INT8_ZERO * sum; /* TRNN_INT8_DEPTH keeps it in range */
    if (back)
        trnn_copy(scale, scales, sizeof *scale);
    else
        trnn_copy(scales, scale, sizeof *scale);
    if (!back && !table) trnn_copy(starts, &start, sizeof start);
}

static void copy_int4(const trnn_param *param, char *group, size_t wide, size_t row, int8_t *codes,
                      float *scales, int back)
{
    for (size_t k = 0; k < (size_t)param->cols; k++) {
        const size_t at = k % TRNN_BLOCK, half = at % (TRNN_BLOCK / 2);
        char *const block = group + k / TRNN_BLOCK * wide * 18;
        char *const place = block + wide * 2 + half / 4 * wide * 4 + row * 4 + half % 4;
        const int shift = at < TRNN_BLOCK / 2 ? 0 : 4;
        uint8_t two = *(uint8_t *)place;
        if (back) {
            codes[k] = (int8_t)((two >> shift & 15) - TRNN_INT4_ZERO);
        } else {
            two = (uint8_t)((two & ~(15 << shift)) | (codes[k] + TRNN_INT4_ZERO) << shift);
            *(uint8_t *)place = two;
        }
        if (at > 0) continue;
        float *scale = scales + k / TRNN_BLOCK;
        uint32_t bits;
        uint16_t high;
        if (back) {
            trnn_copy(&high, block + row * 2, sizeof high);
            *scale = trnn_widen_bf16(high);
        } else {
            trnn_copy(&bits, scale, sizeof bits);
            high = (uint16_t)(bits >> 16);
            trnn_copy(block + row * 2, &high, sizeof high);
        }
    }
}

/* Every row of a param between its weights and (rows, cols) numbers with their scales. */
static void copy_param(const trnn_param *param, char *weights, char *numbers, float *scales, int back)
{
    const size_t cols = (size_t)param->cols;
    for (size_t r = 0; r < row_count(param) * (size_t)param->repeat; r++) {
        const row_place place = place_of(param, r);
        char *const group = weights + place.group;
        switch (param->format) {
        case TRNN_INT8:
            copy_int8(param, group, place.wide, place.row, (int8_t *)numbers + r * cols, scales + r, back);
            break;
        case TRNN_INT4:
            copy_int4(param, group, place.wide, place.row, (int8_t *)numbers + r * cols,
                      scales + r * ((cols + TRNN_BLOCK - 1) / TRNN_BLOCK), back);
            break;
        default: {
            const size_t size = param->format == TRNN_F32 ? sizeof(float) : sizeof(uint16_t);
            copy_row(param, group, place.wide, place.row, numbers + r * cols * size, size, back);
        }
        }
    }
}

void trnn_param_pack(const trnn_param *param, void *weights, const void *numbers, const float *scales)
{
    copy_param(param, weights, (char *)(uintptr_t)numbers, (float *)(uintptr_t)scales, 0);
}

void trnn_param_unpack(const trnn_param *param, const void *weights, void *numbers, float *scales)
{
    copy_param(param, (char *)(uintptr_t)weights, numbers, scales, 1);
}

void trnn_param_pack_chunk(const trnn_param *param, void *weights, const float *numbers, size_t first,
                           size_t count)
{
    const size_t cols = (size_t)param->cols;
    for (const size_t end = first + count; first < end;) {
        const row_place place = place_of(param, first / cols);
        const size_t rest = cols - first % cols, left = end - first;
        char *to = (char *)weights + place.group + (first % cols * place.wide + place.row) * sizeof(float);
        for (const size_t stop = first + (rest < left ? rest : left); first < stop; first++, numbers++) {
            trnn_copy(to, numbers, sizeof(float));
            to += place.wide * sizeof(float);
        }
    }
}

/* ---- the other way round ----------------------------------------------------------------------- */

void trnn_transpose(trnn_matrix matrix, int32_t rows, float *transposed, int32_t part, int32_t parts)
{
    const size_t depth = (size_t)matrix.depth, ends = (size_t)rows;
    const size_t panels = (size_t)matrix.panels, width = (size_t)matrix.width;
    const size_t transposed_panels = (depth + TRNN_PANEL - 1) / TRNN_PANEL;
    for (size_t first = 0; first < panels; first += width) {
        if ((int32_t)(first / width % (size_t)parts) != part) continue;
        const size_t wide = (panels - first < width ? panels - first : width) * TRNN_PANEL;
        const float *from = (const float *)matrix.weights + first * TRNN_PANEL * depth;
        for (size_t k = 0; k < depth; k += TRNN_PANEL) { /* 16 columns become a panel */
            const size_t group = k / (TRNN_GROUP * TRNN_PANEL) * TRNN_GROUP;
            const size_t in_group =
                transposed_panels - group < TRNN_GROUP ? transposed_panels - group : TRNN_GROUP;
            const size_t count = depth - k < TRNN_PANEL ? depth - k : TRNN_PANEL;
            float *to = transposed + group * TRNN_PANEL * ends + (k - group * TRNN_PANEL);
            for (size_t r = 0; r < wide && first * TRNN_PANEL + r < ends; r++) {
                float *row = to + (first * TRNN_PANEL + r) * in_group * TRNN_PANEL;
                if (count == TRNN_PANEL) { /* a constant, so that the loop unrolls */
                    for (size_t j = 0; j < TRNN_PANEL; j++) row[j] = from[(k + j) * wide + r];
                    continue;
                }
                for (size_t j = 0; j < TRNN_PANEL; j++) row[j] = j < count ? from[(k + j) * wide + r] : 0.0f;
            }
        }
    }
}
