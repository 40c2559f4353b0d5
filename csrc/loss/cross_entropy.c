/* Cross-entropy of logits and a class, or a distribution over classes, as torch.nn.CrossEntropyLoss.
 *
 * With weights w and label smoothing e, C classes in all, a target is a share s of each class c:
 *
 *   class t         s_c = w_c ((1 - e) [c = t] + e / C)
 *   distribution    s_c = w_c ((1 - e) q_c     + e / C)
 *   value           -sum_c s_c ln p_c,  p = softmax(y)
 *   gradient        p_c sum_c s_c - s_c
 *
 * A mean divides by the sum of the targets' weights, or by the number of distributions.
 */
#include "../index.h"
#include "loss.h"

static trnn_status cross_entropy_check(const trnn_loss *loss)
{
    return loss->label_smoothing >= 0.0f && loss->label_smoothing <= 1.0f ? TRNN_OK : TRNN_E_LOSS;
}

/* Logarithms of one distribution. */
static size_t cross_entropy_scratch(size_t steps, size_t numbers, size_t target_steps)
{
    (void)steps, (void)target_steps;
    return trnn_times(numbers, sizeof(float));
}

static trnn_status cross_entropy_look(const trnn_loss_part *part)
{
    const trnn_loss *loss = part->loss;
    const int32_t *target = part->target;
    if (loss->weight && (size_t)loss->classes != part->cols) return TRNN_E_LOSS_SHAPE;
    if (part->probabilities) return TRNN_OK;
    for (size_t r = 0; r < part->rows; r++)
        if (target[r] != loss->ignore_index && (target[r] < 0 || (size_t)target[r] >= part->cols))
            return TRNN_E_TARGET;
    return TRNN_OK;
}

/* The weight of class c. */
static double class_weight(const trnn_loss *loss, size_t c)
{
    return loss->weight ? (double)loss->weight[c] : 1.0;
}

/* The class of row r; -1 if it does not count: it is ignored, or has gone out of range. */
static int32_t class_at(const trnn_loss_part *part, size_t r)
{
    const int32_t class = trnn_index_at(part->target, r, (int32_t)part->cols);
    return class == part->loss->ignore_index ? -1 : class;
}

static double cross_entropy_count(const trnn_loss_part *part)
{
    double count = 0.0;
    if (part->probabilities) return (double)part->rows;
    for (size_t r = 0; r < part->rows; r++) {
        const int32_t class = class_at(part, r);
        if (class >= 0) count += class_weight(part->loss, (size_t)class);
    }
    return count;
}

/* One row with a class. A smoothing of 0 must not read the other classes: their ln p may be infinite. */
static double class_value(const trnn_loss_part *part, const float *log_p, int32_t class, float *dy)
{
    const trnn_loss *loss = part->loss;
    const size_t cols = part->cols;
    const double e = (double)loss->label_smoothing, even = e / (double)cols;
    const double own = (1.0 - e) * class_weight(loss, (size_t)class);
    double value = -own * (double)log_p[class], share = own;
    if (e > 0.0) {
        double others = 0.0, weights = 0.0;
        for (size_t c = 0; c < cols; c++) {
            const double w = class_weight(loss, c);
            others += w * (double)log_p[c];
            weights += w;
        }
        value -= even * others;
        share += even * weights;
    }
    if (!dy) return value;

    const float scale = (float)(share * part->scale);
    const float p = dy[class]; /* p - 1 is exact without smoothing */
    if (e > 0.0) {
        for (size_t c = 0; c < cols; c++)
            dy[c] = dy[c] * scale - (float)(even * class_weight(loss, c) * part->scale);
        dy[class] -= (float)(own * part->scale);
    } else {
        for (size_t c = 0; c < cols; c++) dy[c] *= scale;
        dy[class] = (p - 1.0f) * scale;
    }
    return value;
}

/* One row with a distribution. */
static double distribution_value(const trnn_loss_part *part, const float *log_p, const float *q, float *dy)
{
    const trnn_loss *loss = part->loss;
    const size_t cols = part->cols;
    const double e = (double)loss->label_smoothing, even = e / (double)cols;
    double value = 0.0, share = 0.0;
    for (size_t c = 0; c < cols; c++) {
        const double s = class_weight(loss, c) * ((1.0 - e) * (double)q[c] + even);
        value -= s * (double)log_p[c];
        share += s;
    }
    for (size_t c = 0; c < cols && dy; c++) {
        const double s = class_weight(loss, c) * ((1.0 - e) * (double)q[c] + even);
        dy[c] = (float)(((double)dy[c] * share - s) * part->scale);
    }
    return value;
}

static void cross_entropy_add(const trnn_loss_part *part, double *sum)
{
    const size_t cols = part->cols;
    float *log_p = part->scratch;
    for (size_t r = 0; r < part->rows; r++) {
        const int32_t class = part->probabilities ? 0 : class_at(part, r);
        float *dy = part->dy ? part->dy + r * cols : NULL;
        double value = 0.0;
        if (class < 0) {
            if (dy) trnn_zero(dy, cols * sizeof(float));
        } else {
            TRNN_KERNEL(part->isa, softmax_f32)(part->y + r * cols, log_p, cols, 1);
            if (dy) TRNN_KERNEL(part->isa, map_exp)(log_p, dy, cols, NULL);
            value = part->probabilities
                        ? distribution_value(part, log_p, (const float *)part->target + r * cols, dy)
                        : class_value(part, log_p, class, dy);
            *sum += value;
        }
        if (part->values) part->values[r] = (float)value;
    }
}

const trnn_loss_type trnn_loss_cross_entropy = {
    .name = "cross_entropy",
    .check = cross_entropy_check,
    .scratch = cross_entropy_scratch,
    .look = cross_entropy_look,
    .count = cross_entropy_count,
    .add = cross_entropy_add,
    .classes = 1,
};
