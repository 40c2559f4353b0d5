/* The weight format: where each number of a tensor lies in a layer's weights.
 *
 * A matrix of (gates * units, cols) becomes panels of 16 rows, and the panels become groups. The order of panels is
 * (16 units, gate). With three gates or more, a group is the gates of 16 units; with one or two it is 4 panels, the last
 * group 1 to 4. format.h has the layout of a group. Rows that pad the last panel are zero. A tensor whose last gates are
 * `second` is two matrices, one behind the other.
 */
#include "format.h"

const char *trnn_format_name(trnn_format format)
{
    static const char *const names[TRNN_FORMAT_COUNT] = {"float32", "float16", "bfloat16", "int8", "int4"};
    return names[format];
}

/* ---- places ---------------------------------------------------------------------------------- */

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

    const size_t earlier = gates - (size_t)param->second,
                 units_panels = (units + TRNN_PANEL - 1) / TRNN_PANEL;
    const int in_second = row / units >= earlier;
    const size_t gate = row / units - (in_second ? earlier : 0), unit = row % units;
    const size_t own = in_second ? (size_t)param->second : earlier; /* gates of its matrix */
    const size_t before = in_second ? units_panels * earlier : 0, panels = units_panels * own;
    const size_t panel = unit / TRNN_PANEL * own + gate;
    const size_t full = TRNN_GROUP / own * own;
    const size_t first = panel / full * full;
    const size_t width = panels - first < full ? panels - first : full;
    const size_t bytes = trnn_group_bytes(param->format, 1, param->cols);
    return (row_place){matrix + (before + first) * bytes, width * TRNN_PANEL,
                       (panel - first) * TRNN_PANEL + unit % TRNN_PANEL};
}

/* ---- pack and unpack rows ---------------------------------------------------------------------- */

/* Copies `count` numbers of `size` bytes, from places `from_step` bytes apart to places `to_step` apart. */
static void copy_strided(char *to, size_t to_step, const char *from, size_t from_step, size_t size,
                         int32_t count)
{
    for (int32_t k = 0; k < count; k++, to += to_step, from += from_step) trnn_copy(to, from, size);
}

static size_t number_size(trnn_format format)
{
    return trnn_is_half(format) ? sizeof(uint16_t) : sizeof(float);
}

/* The places of an INT8 row's scale, start and codes in its group. Each plane of the group has four of its codes. A
 * table's row has scale and codes, contiguous, and no start. */
typedef struct {
    size_t scale, start, codes, plane; /* bytes */
} int8_places;

static int8_places int8_places_of(const trnn_param *param, row_place place)
{
    const size_t scale = place.row * sizeof(float), wide = place.wide * sizeof(float);
    const size_t codes = (param->gates == 0 ? sizeof(float) : 2 * wide) + place.row * 4;
    return (int8_places){scale, scale + wide, codes, place.wide * 4};
}

static void pack_int8(const trnn_param *param, char *group, row_place place, const int8_t *codes,
                      const float *scale)
{
    const int8_places at = int8_places_of(param, place);
    int32_t sum = 0;
    for (size_t k = 0; k < (size_t)param->cols; k++) {
        group[at.codes + k / 4 * at.plane + k % 4] = (char)codes[k];
        sum += codes[k];
    }
    const int32_t start = -TRNN_INT8_ZERO * sum; /* TRNN_INT8_DEPTH keeps it in range */
    trnn_copy(group + at.scale, scale, sizeof *scale);
    if (param->gates > 0) trnn_copy(group + at.start, &start, sizeof start);
}

static void unpack_int8(const trnn_param *param, const char *group, row_place place, int8_t *codes,
                        float *scale)
{
    const int8_places at = int8_places_of(param, place);
    for (size_t k = 0; k < (size_t)param->cols; k++)
        codes[k] = (int8_t)group[at.codes + k / 4 * at.plane + k % 4];
    trnn_copy(scale, group + at.scale, sizeof *scale);
}

/* The place of an INT4 row's k-th code in its group: a byte, and a shift. */
typedef struct {
    size_t byte;
    int shift;
} int4_place;

static int4_place int4_place_of(row_place place, size_t k)
{
    const size_t at = k % TRNN_BLOCK, half = at % (TRNN_BLOCK / 2);
    const size_t block = k / TRNN_BLOCK * place.wide * 18;
    return (int4_place){block + place.wide * 2 + half / 4 * place.wide * 4 + place.row * 4 + half % 4,
                        at < TRNN_BLOCK / 2 ? 0 : 4};
}

/* The place of the scale of the block that begins with the k-th code. */
static size_t int4_scale_of(row_place place, size_t k)
{
    return k / TRNN_BLOCK * place.wide * 18 + place.row * 2;
}

static void pack_int4(const trnn_param *param, char *group, row_place place, const int8_t *codes,
                      const float *scales)
{
    for (size_t k = 0; k < (size_t)param->cols; k++) {
        const int4_place at = int4_place_of(place, k);
        uint8_t *two = (uint8_t *)group + at.byte;
        *two = (uint8_t)((*two & ~(15 << at.shift)) | (codes[k] + TRNN_INT4_ZERO) << at.shift);
        if (k % TRNN_BLOCK > 0) continue;
        uint32_t bits;
        trnn_copy(&bits, scales + k / TRNN_BLOCK, sizeof bits);
        const uint16_t high = (uint16_t)(bits >> 16);
        trnn_copy(group + int4_scale_of(place, k), &high, sizeof high);
    }
}

static void unpack_int4(const trnn_param *param, const char *group, row_place place, int8_t *codes,
                        float *scales)
{
    for (size_t k = 0; k < (size_t)param->cols; k++) {
        const int4_place at = int4_place_of(place, k);
        codes[k] = (int8_t)(((const uint8_t *)group)[at.byte] >> at.shift & 15) - TRNN_INT4_ZERO;
        if (k % TRNN_BLOCK > 0) continue;
        uint16_t high;
        trnn_copy(&high, group + int4_scale_of(place, k), sizeof high);
        scales[k / TRNN_BLOCK] = trnn_widen_bf16(high);
    }
}

/* The number of scales of a row. */
static size_t scale_count(const trnn_param *param)
{
    return param->format == TRNN_INT4 ? ((size_t)param->cols + TRNN_BLOCK - 1) / TRNN_BLOCK : 1;
}

void trnn_param_pack(const trnn_param *param, void *weights, const void *numbers, const float *scales)
{
    const size_t cols = (size_t)param->cols, size = number_size(param->format);
    for (size_t r = 0; r < row_count(param) * (size_t)param->repeat; r++) {
        const row_place place = place_of(param, r);
        char *const group = (char *)weights + place.group;
        const int8_t *const codes = (const int8_t *)numbers + r * cols;
        if (trnn_is_int8(param->format))
            pack_int8(param, group, place, codes, scales + r);
        else if (trnn_is_int4(param->format))
            pack_int4(param, group, place, codes, scales + r * scale_count(param));
        else
            copy_strided(group + place.row * size, place.wide * size, (const char *)numbers + r * cols * size,
                         size, size, param->cols);
    }
}

void trnn_param_unpack(const trnn_param *param, const void *weights, void *numbers, float *scales)
{
    const size_t cols = (size_t)param->cols, size = number_size(param->format);
    for (size_t r = 0; r < row_count(param) * (size_t)param->repeat; r++) {
        const row_place place = place_of(param, r);
        const char *const group = (const char *)weights + place.group;
        int8_t *const codes = (int8_t *)numbers + r * cols;
        if (trnn_is_int8(param->format))
            unpack_int8(param, group, place, codes, scales + r);
        else if (trnn_is_int4(param->format))
            unpack_int4(param, group, place, codes, scales + r * scale_count(param));
        else
            copy_strided((char *)numbers + r * cols * size, size, group + place.row * size, place.wide * size,
                         size, param->cols);
    }
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
