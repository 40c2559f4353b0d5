/* A toy that looks at one difference d = y - target at a time: d^4 / 4, whose gradient is d^3. */
#include "loss.h"

static void quartic_add(const trnn_loss_part *part, double *sum)
{
    const float *y = part->y, *target = part->target;
    for (size_t i = 0; i < part->rows * part->cols; i++) {
        const double d = (double)y[i] - (double)target[i], value = 0.25 * d * d * d * d;
        *sum += value;
        if (part->values) part->values[i] = (float)value;
        if (part->dy) part->dy[i] = (float)(d * d * d * part->scale);
    }
}

const trnn_loss_type trnn_loss_quartic = {
    .name = "quartic",
    .add = quartic_add,
};
