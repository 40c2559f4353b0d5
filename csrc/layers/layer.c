/* The functions for one layer in tinyrnn.h: check its arguments, list its tensors, measure its weights. */
#include "layer.h"

/* ---- tensors of a layer ------------------------------------------------------------------------------------ */

void trnn_param_table(trnn_param *param, const char *name, trnn_format format, int32_t rank, int32_t rows,
                      int32_t cols)
{
    *param = (trnn_param){name, rank, {rows, cols, 1, 1}, format, 0, 1, 0, rows, cols, 0};
}

void trnn_param_vector(trnn_param *param, const char *name, int32_t size)
{
    trnn_param_table(param, name, TRNN_F32, 1, size, 1);
}

void trnn_param_panels(trnn_param *param, const char *name, trnn_format format, int32_t gates, int32_t units,
                       int32_t cols)
{
    *param = (trnn_param){name, 2, {gates * units, cols, 1, 1}, format, 0, 1, gates, units, cols, 0};
}

void trnn_param_bias(trnn_param *param, const char *name, int32_t gates, int32_t units)
{
    trnn_param_panels(param, name, TRNN_F32, gates, units, 1);
    param->rank = 1;
}

/* ---- a layer ----------------------------------------------------------------------------------------------- */

const char *trnn_layer_name(const trnn_layer *layer) { return layer->type->name; }

trnn_status trnn_layer_check(const trnn_layer *layer)
{
    if (!layer->type || (unsigned)layer->format >= TRNN_FORMAT_COUNT) return TRNN_E_ARGUMENT;
    if (!trnn_has_format(layer->format)) return TRNN_E_LEFT_OUT;
    const trnn_status status = layer->type->check(layer);
    if (status != TRNN_OK) return status;

    trnn_param slots[TRNN_PARAMS_MAX];
    size_t bytes;
    int32_t matrices = 0;
    for (int32_t i = trnn_layer_slots(layer, slots, &bytes) - 1; i >= 0; i--)
        matrices += slots[i].rank > 1 && slots[i].format == layer->format;
    if (layer->format != TRNN_F32 && matrices == 0) return TRNN_E_ARGUMENT;
    return bytes == SIZE_MAX ? TRNN_E_SIZE : TRNN_OK;
}

int32_t trnn_layer_slots(const trnn_layer *layer, trnn_param slots[TRNN_PARAMS_MAX], size_t *bytes)
{
    trnn_zero(slots, TRNN_PARAMS_MAX * sizeof *slots);
    const int32_t count = layer->type->params ? layer->type->params(layer, slots) : 0;
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
