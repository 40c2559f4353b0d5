/* Losses: which frames of a batch count, and how their values become one. This file uses the contract of losses and
 * names no loss.
 *
 * Everything is checked before anything is written. Frames are visited in the order of y, and each value is added to
 * one double, so the sum does not depend on the number of frames in a part.
 */
#include "loss/loss.h"

const char *trnn_loss_name(const trnn_loss_type *type) { return type->name; }

const trnn_argument *trnn_loss_arguments(void)
{
    static const trnn_argument arguments[] = {
        {"delta", offsetof(trnn_loss, delta), TRNN_FLOAT, 0},
        {"label_smoothing", offsetof(trnn_loss, label_smoothing), TRNN_FLOAT, 0},
        {"ignore_index", offsetof(trnn_loss, ignore_index), TRNN_INT32, 0},
        {"blank", offsetof(trnn_loss, blank), TRNN_INT32, 0},
        {"zero_infinity", offsetof(trnn_loss, zero_infinity), TRNN_INT32, 0},
        {"weight", offsetof(trnn_loss, weight), TRNN_FLOATS, 0},
        {"pos_weight", offsetof(trnn_loss, pos_weight), TRNN_FLOATS, 0},
        {NULL, sizeof(trnn_loss), TRNN_INT32, 0},
    };
    return arguments;
}

trnn_status trnn_loss_check(const trnn_loss *loss)
{
    if (!loss->type) return TRNN_E_LOSS;
    if (loss->reduction != TRNN_MEAN && loss->reduction != TRNN_SUM) return TRNN_E_LOSS;
    return loss->type->check ? loss->type->check(loss) : TRNN_OK;
}

size_t trnn_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                               int32_t target_steps)
{
    (void)batch; /* rows share it in turn */
    const trnn_loss_type *type = loss->type;
    const size_t bytes = type->scratch ? type->scratch((size_t)steps, numbers, (size_t)target_steps) : 0;
    return bytes > PTRDIFF_MAX ? SIZE_MAX : bytes;
}

/* The part that is the first frame; visit() makes it that of another frame or of all. */
static trnn_loss_part part_of(const trnn_loss *loss, const trnn_loss_job *job)
{
    return (trnn_loss_part){.loss = loss,
                            .isa = job->isa,
                            .y = job->y,
                            .target = job->target,
                            .dy = job->dy,
                            .values = job->values,
                            .rows = (size_t)job->rows,
                            .cols = (size_t)job->cols,
                            .probabilities = job->probabilities,
                            .scale = 1.0,
                            .scratch = job->scratch};
}

/* A function that is called with each part; `result` is a count or a sum. */
typedef trnn_status (*visitor)(const trnn_loss_type *type, const trnn_loss_part *part, double *result);

static trnn_status look_and_count(const trnn_loss_type *type, const trnn_loss_part *part, double *count)
{
    const trnn_status status = type->look ? type->look(part) : TRNN_OK;
    if (status == TRNN_OK)
        *count += type->count ? type->count(part) : (double)part->rows * (double)part->cols;
    return status;
}

static trnn_status add_part(const trnn_loss_type *type, const trnn_loss_part *part, double *sum)
{
    type->add(part, sum);
    return TRNN_OK;
}

/* 1: the mask keeps step t of row b, with `last` as the last one before the row's end. */
static int is_kept(const trnn_loss_job *job, size_t t, size_t b, size_t end)
{
    const size_t apart = job->target_rows_first ? 1 : (size_t)job->batch;
    const uint8_t *mask = job->mask + (job->target_rows_first ? b * (size_t)job->steps : b);
    if (!mask[t * apart]) return 0;
    if (job->last)
        for (t++; t < end; t++)
            if (mask[t * apart]) return 0;
    return 1;
}

/* Visits the frames that count, in the order of y. */
static trnn_status visit(const trnn_loss *loss, const trnn_loss_job *job, double scale, visitor visitor,
                         double *result)
{
    const trnn_loss_type *type = loss->type;
    const size_t steps = (size_t)job->steps, batch = (size_t)job->batch;
    const size_t rows = (size_t)job->rows, numbers = rows * (size_t)job->cols;
    const size_t values = type->classes ? rows : numbers;
    const size_t targets = type->classes && !job->probabilities ? rows : numbers;
    trnn_loss_part part = part_of(loss, job);
    part.scale = scale;

    const int same = job->y_rows_first == job->target_rows_first || steps == 1 || batch == 1;
    if (!job->lengths && !job->mask && same && (!job->last || steps == 1)) {
        part.rows *= steps * batch;
        return visitor(type, &part, result);
    }
    for (size_t n = 0; n < steps * batch; n++) {
        const size_t t = job->y_rows_first ? n % steps : n / batch;
        const size_t b = job->y_rows_first ? n / steps : n % batch;
        const size_t length = job->lengths ? (size_t)job->lengths[b] : steps;
        if (t >= length) continue;
        if (job->mask ? !is_kept(job, t, b, length) : job->last && t != length - 1) continue;
        const size_t at = job->last ? b : job->target_rows_first ? b * steps + t : t * batch + b;
        part.y = job->y + n * numbers;
        part.target = (const char *)job->target + at * targets * 4; /* float or int32_t */
        part.dy = job->dy ? job->dy + n * numbers : NULL;
        part.values = job->values ? job->values + n * values : NULL;
        const trnn_status status = visitor(type, &part, result);
        if (status != TRNN_OK) return status;
    }
    return TRNN_OK;
}

/* Row b of a batch. */
static trnn_loss_row row_of(const trnn_loss *loss, const trnn_loss_job *job, int32_t b)
{
    const size_t cols = (size_t)job->cols;
    const size_t start = (job->y_rows_first ? (size_t)b * (size_t)job->steps : (size_t)b) * cols;
    return (trnn_loss_row){.loss = loss,
                           .isa = job->isa,
                           .y = job->y + start,
                           .target = (const int32_t *)job->target + (size_t)b * (size_t)job->target_steps,
                           .dy = job->dy ? job->dy + start : NULL,
                           .stride = job->y_rows_first ? cols : (size_t)job->batch * cols,
                           .steps = job->lengths ? job->lengths[b] : job->steps,
                           .cols = job->cols,
                           .count = job->target_lengths[b],
                           .scale = 1.0,
                           .scratch = job->scratch};
}

static trnn_status look_at_rows(const trnn_loss *loss, const trnn_loss_job *job)
{
    trnn_status status = TRNN_OK;
    for (int32_t b = 0; b < job->batch && status == TRNN_OK; b++) {
        const trnn_loss_row row = row_of(loss, job, b);
        status = loss->type->look_row(&row);
    }
    return status;
}

/* A mean divides each row's value by its target's length, at least 1, and by the batch. */
static double add_rows(const trnn_loss *loss, const trnn_loss_job *job)
{
    double sum = 0.0;
    for (int32_t b = 0; b < job->batch; b++) {
        trnn_loss_row row = row_of(loss, job, b);
        const double count = (double)job->batch * (double)(row.count > 1 ? row.count : 1);
        row.scale = loss->reduction == TRNN_MEAN ? 1.0 / count : 1.0;
        const double value = loss->type->row(&row);
        sum += loss->reduction == TRNN_MEAN ? value / count : value;
        if (job->values) job->values[b] = (float)value;
    }
    return sum;
}

/* Checks all of a job but its targets. */
static trnn_status check_loss_job(const trnn_loss *loss, const trnn_loss_job *job)
{
    const int rows = loss->type->row != NULL;
    if (!trnn_is_size(job->rows) || !trnn_is_size(job->cols)) return TRNN_E_LOSS_SHAPE;
    if (!trnn_is_size(job->steps) || !trnn_is_size(job->batch)) return TRNN_E_LOSS_SHAPE;
    const size_t numbers = trnn_times((size_t)job->rows, (size_t)job->cols);
    const size_t all = trnn_times(trnn_times((size_t)job->steps, (size_t)job->batch), numbers);
    if (trnn_times(all, sizeof(float)) > PTRDIFF_MAX) return TRNN_E_SIZE;
    if (!trnn_is_flag(job->last) || !trnn_is_flag(job->probabilities)) return TRNN_E_LOSS;
    if (!trnn_is_flag(job->y_rows_first) || !trnn_is_flag(job->target_rows_first)) return TRNN_E_LOSS;
    if (job->probabilities && !loss->type->classes) return TRNN_E_LOSS;
    if (job->lengths)
        for (int32_t b = 0; b < job->batch; b++)
            if (job->lengths[b] < 1 || job->lengths[b] > job->steps) return TRNN_E_LENGTHS;
    if (!rows) return TRNN_OK;

    if (job->mask) return TRNN_E_MASK;
    if (job->rows != 1 || job->last || job->target_steps < 0 || job->target_steps > TRNN_SIZE_MAX)
        return TRNN_E_LOSS_SHAPE;
    for (int32_t b = 0; b < job->batch; b++)
        if (job->target_lengths[b] < 0 || job->target_lengths[b] > job->target_steps)
            return TRNN_E_TARGET_LENGTHS;
    return TRNN_OK;
}

/* Sets dy and values to zero for frames that do not count, since they are not visited. */
static void clear_results(const trnn_loss_type *type, const trnn_loss_job *job)
{
    const size_t rows = (size_t)job->steps * (size_t)job->batch * (size_t)job->rows;
    const size_t numbers = rows * (size_t)job->cols;
    if (!job->lengths && !job->mask && !job->last) return;
    if (job->dy) trnn_zero(job->dy, numbers * sizeof(float));
    if (job->values && !type->row) trnn_zero(job->values, (type->classes ? rows : numbers) * sizeof(float));
}

trnn_status trnn_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value)
{
    const trnn_loss_type *type = loss->type;
    double count = 0.0, sum = 0.0;
    trnn_status status = check_loss_job(loss, job);
    if (status == TRNN_OK)
        status = type->row ? look_at_rows(loss, job) : visit(loss, job, 1.0, look_and_count, &count);
    if (status != TRNN_OK) return status;

    clear_results(type, job);
    if (type->row) {
        *value = add_rows(loss, job);
        return TRNN_OK;
    }
    const int mean = loss->reduction == TRNN_MEAN;
    visit(loss, job, mean ? 1.0 / count : 1.0, add_part, &sum);
    *value = mean ? sum / count : sum;
    return TRNN_OK;
}
