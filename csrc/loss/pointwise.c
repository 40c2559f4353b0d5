/* Losses of one difference d = y - target at a time, as torch.nn.MSELoss, L1Loss and HuberLoss:
 *
 *   MSE     d^2                                            2 d
 *   L1      |d|                                            the sign of d, 0 at 0
 *   HUBER   d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)    d, within +-delta
 */
#include "loss.h"

static float magnitude(float d) { return d < 0.0f ? -d : d; }

static void mse_add(const trnn_loss_part *part, double *sum)
{
    const float *y = part->y, *target = part->target, scale = (float)(2.0 * part->scale);
    for (size_t i = 0; i < part->rows * part->cols; i++) {
        const float d = y[i] - target[i];
        *sum += (double)d * (double)d;
        if (part->values) part->values[i] = d * d;
        if (part->dy) part->dy[i] = d * scale;
    }
}

static void l1_add(const trnn_loss_part *part, double *sum)
{
    const float *y = part->y, *target = part->target, scale = (float)part->scale;
    for (size_t i = 0; i < part->rows * part->cols; i++) {
        const float d = y[i] - target[i];
        *sum += (double)magnitude(d);
        if (part->values) part->values[i] = magnitude(d);
        if (part->dy) part->dy[i] = d > 0.0f ? scale : d < 0.0f ? -scale : d; /* d: 0 or NaN */
    }
}

static trnn_status huber_check(const trnn_loss *loss)
{
    return loss->delta > 0.0f && loss->delta <= 3.4028234663852886e38f ? TRNN_OK : TRNN_E_LOSS;
}

static void huber_add(const trnn_loss_part *part, double *sum)
{
    const float *y = part->y, *target = part->target, scale = (float)part->scale;
    const float delta = part->loss->delta;
    for (size_t i = 0; i < part->rows * part->cols; i++) {
        const float d = y[i] - target[i], size = magnitude(d);
        const double far = (double)delta * ((double)size - 0.5 * (double)delta);
        const double value = size < delta ? 0.5 * (double)d * (double)d : far;
        *sum += value;
        if (part->values) part->values[i] = (float)value;
        if (part->dy) part->dy[i] = (d > delta ? delta : d < -delta ? -delta : d) * scale;
    }
}

const trnn_loss_type trnn_loss_mse = {
    .name = "mse",
    .add = mse_add,
};
const trnn_loss_type trnn_loss_l1 = {
    .name = "l1",
    .add = l1_add,
};
const trnn_loss_type trnn_loss_huber = {
    .name = "huber",
    .check = huber_check,
    .add = huber_add,
};
