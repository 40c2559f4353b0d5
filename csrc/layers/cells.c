/* The layer types of the recurrent cells: the facts and kernels of each, and the driver that they share. */
#include "recurrent.h"

#define STEP(lower, kernel, type) \
    static void lower(const trnn_kernels *isa, const type *cell) { TRNN_KERNEL(isa, kernel)(cell); }

#define LAYER(lower, first, first_back, rounds, scanned, taped, ...)                                    \
    STEP(lower##_step, lower, trnn_cell)                                                                \
    STEP(lower##_step_taped, taped, trnn_cell)                                                          \
    STEP(lower##_step_back, lower##_back, trnn_cell_back)                                               \
    static const trnn_recurrent_kind lower##_kind = {                                                   \
        .facts = {__VA_ARGS__}, .step = lower##_step, .round1 = first, .two = rounds, .scan = scanned}; \
    static const trnn_recurrent_back lower##_back = {                                                   \
        .step_taped = lower##_step_taped, .step_back = lower##_step_back, .round1_back = first_back};   \
    TRNN_RECURRENT_LAYER(lower)

#define TRNN_CELL(lower, ...)      LAYER(lower, NULL, NULL, NULL, NULL, lower##_taped, __VA_ARGS__)
#define TRNN_CELL_SCAN(lower, ...) LAYER(lower, NULL, NULL, NULL, trnn_recurrent_scan, lower, __VA_ARGS__)
#define TRNN_CELL_TWO(lower, ...)                                 \
    STEP(lower##_step1, lower##_round1, trnn_cell)                \
    STEP(lower##_step1_back, lower##_round1_back, trnn_cell_back) \
    LAYER(lower, lower##_step1, lower##_step1_back, &trnn_recurrent_rounds, NULL, lower##_taped, __VA_ARGS__)
#include "../cells/cells.def"
#undef TRNN_CELL
#undef TRNN_CELL_TWO
#undef TRNN_CELL_SCAN
