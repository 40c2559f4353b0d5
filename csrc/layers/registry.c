/* All layers by name. Only this file links every layer into a program. */
#include "layer.h"

#define TRNN_LAYER(name, arguments) extern const trnn_argument trnn_##arguments##_arguments[];
#include "layers.def"
#undef TRNN_LAYER

static const struct {
    const trnn_layer_type *type;
    const trnn_layer_training *training;
    const trnn_argument *arguments;
} layers[] = {
#define TRNN_LAYER(name, arguments) {&trnn_##name, &trnn_##name##_training, trnn_##arguments##_arguments},
#include "layers.def"
#undef TRNN_LAYER
};

enum { LAYERS = sizeof layers / sizeof layers[0] };

int32_t trnn_layer_count(void) { return LAYERS; }

trnn_layer trnn_layer_at(int32_t i)
{
    assert(i >= 0 && i < LAYERS);
    return (trnn_layer){.type = layers[i].type, .training = layers[i].training};
}

trnn_layer trnn_layer_named(const char *name)
{
    for (int32_t i = 0; i < LAYERS; i++)
        if (trnn_same_name(layers[i].type->name, name)) return trnn_layer_at(i);
    return (trnn_layer){.type = NULL};
}

const trnn_argument *trnn_layer_arguments(const trnn_layer *layer)
{
    for (int32_t i = 0; i < LAYERS; i++)
        if (layers[i].type == layer->type) return layers[i].arguments;
    return NULL;
}
