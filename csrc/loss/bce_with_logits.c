/* Binary cross-entropy of a logit x and a target t, as torch.nn.BCEWithLogitsLoss. With positive weight p,
 *
 *   value      w ((1 - t) x + (1 + (p - 1) t) ln(1 + exp(-x)))
 *   gradient   w ((1 - t + p t) sigmoid(x) - p t)
 *
 * and ln(1 + exp(-x)) = max(-x, 0) + ln(1 + u), u = exp(-|x|), which cannot overflow.
 */
#include "loss.h"

#define LOGITS 64 /* numbers of one call of the kernel */

/* There is one weight for each column, or one for all. */
static trnn_status bce_look(const trnn_loss_part *part)
{
    const trnn_loss *loss = part->loss;
    if (!loss->weight && !loss->pos_weight) return TRNN_OK;
    return loss->classes == 1 || (size_t)loss->classes == part->cols ? TRNN_OK : TRNN_E_LOSS_SHAPE;
}

/* ln(1 + u) for 0 <= u <= 1: 2 artanh(s), s = u / (2 + u). */
static float log_one_plus(float u)
{
    const float s = u / (2.0f + u), z = s * s;
    float series = 1.0f / 17;
    for (int k = 15; k >= 3; k -= 2) series = 1.0f / (float)k + z * series;
    return 2.0f * (s + s * z * series);
}

static void bce_add(const trnn_loss_part *part, double *sum)
{
    const trnn_loss *loss = part->loss;
    const float *y = part->y, *target = part->target, scale = (float)part->scale;
    const size_t count = part->rows * part->cols, step = loss->classes == 1 ? 0 : 1;
    float exps[LOGITS];
    for (size_t i = 0; i < count; i++) {
        const size_t at = i % LOGITS, column = i % part->cols * step;
        if (at == 0) {
            const size_t many = count - i < LOGITS ? count - i : LOGITS;
            for (size_t j = 0; j < many; j++) exps[j] = y[i + j] > 0.0f ? -y[i + j] : y[i + j];
            TRNN_KERNEL(part->isa, map_exp)(exps, exps, many, NULL);
        }
        const float x = y[i], t = target[i], u = exps[at];
        const float w = loss->weight ? loss->weight[column] : 1.0f;
        const float p = loss->pos_weight ? loss->pos_weight[column] : 1.0f;
        const float softplus = (x < 0.0f ? -x : 0.0f) + log_one_plus(u);
        const float value = w * ((1.0f - t) * x + (1.0f + (p - 1.0f) * t) * softplus);
        *sum += (double)value;
        if (part->values) part->values[i] = value;
        if (part->dy) {
            const float sigmoid = (x < 0.0f ? u : 1.0f) / (1.0f + u);
            part->dy[i] = ((1.0f - t + p * t) * sigmoid - p * t) * w * scale;
        }
    }
}

const trnn_loss_type trnn_loss_bce_with_logits = {
    .name = "bce_with_logits",
    .look = bce_look,
    .add = bce_add,
};
