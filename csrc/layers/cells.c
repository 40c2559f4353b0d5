/* The layer types of the recurrent cells: the facts and kernels of each, and the driver that they share. */
#include "recurrent.h"

#define TRNN_CELL(lower, ...)                                                                       \
    static void lower##_step(const trnn_kernels *isa, const trnn_cell *cell)                        \
    {                                                                                               \
        TRNN_KERNEL(isa, lower)(cell);                                                              \
    }                                                                                               \
    static void lower##_step_taped(const trnn_kernels *isa, const trnn_cell *cell)                  \
    {                                                                                               \
        TRNN_KERNEL(isa, lower##_taped)(cell);                                                      \
    }                                                                                               \
    static void lower##_step_back(const trnn_kernels *isa, const trnn_cell_back *cell)              \
    {                                                                                               \
        TRNN_KERNEL(isa, lower##_back)(cell);                                                       \
    }                                                                                               \
    static const trnn_recurrent_kind lower##_kind = {.facts = {__VA_ARGS__}, .step = lower##_step}; \
    static const trnn_recurrent_back lower##_back = {.step_taped = lower##_step_taped,              \
                                                     .step_back = lower##_step_back};               \
    const trnn_layer_type trnn_##lower = {                                                          \
        .name = #lower,                                                                             \
        .check = trnn_recurrent_check,                                                              \
        .frame = trnn_recurrent_frame,                                                              \
        .start = trnn_recurrent_start,                                                              \
        .params = trnn_recurrent_params,                                                            \
        .state = trnn_recurrent_state,                                                              \
        .scratch = trnn_recurrent_scratch,                                                          \
        .run = trnn_recurrent_run,                                                                  \
        .full_sequence = trnn_recurrent_full_sequence,                                              \
        .family = &lower##_kind,                                                                    \
    };                                                                                              \
    const trnn_layer_training trnn_##lower##_training = {                                           \
        .tape = trnn_recurrent_tape,                                                                \
        .scratch = trnn_recurrent_train_scratch,                                                    \
        .transpose = trnn_recurrent_transpose,                                                      \
        .forward = trnn_recurrent_forward,                                                          \
        .backward = trnn_recurrent_backward,                                                        \
        .gradients = trnn_recurrent_gradients,                                                      \
        .sequences = 1,                                                                             \
        .family = &lower##_back,                                                                    \
    };
#include "../cells/cells.def"
#undef TRNN_CELL
