/* Transposed weights for the backward pass: a float32 matrix in panels, transposed and packed again. */
#include "training.h"

void trnn_transpose_into(trnn_matrix matrix, int32_t rows, float *transposed, size_t at, size_t all,
                         int32_t part, int32_t parts)
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
            float *to = transposed + group * TRNN_PANEL * all + (k - group * TRNN_PANEL);
            for (size_t r = 0; r < wide && first * TRNN_PANEL + r < ends; r++) {
                float *row = to + (at + first * TRNN_PANEL + r) * in_group * TRNN_PANEL;
                if (count == TRNN_PANEL) { /* a constant, so that the loop unrolls */
                    for (size_t j = 0; j < TRNN_PANEL; j++) row[j] = from[(k + j) * wide + r];
                    continue;
                }
                for (size_t j = 0; j < TRNN_PANEL; j++) row[j] = j < count ? from[(k + j) * wide + r] : 0.0f;
            }
        }
    }
}
