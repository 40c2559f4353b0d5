/* Toys: what is added to the core by one file and one line each is as good as what was there. `make toys` adds them
 * to a copy of the core and changes nothing else; the passes are test_train.c's. */
#include "../test_train.c"

/* ---- cells and a layer: every way of a pass, and gradients against differences ------------------------- */

static const model toy_models[] = {
    {"toy mixed", {1, 9}, 1, {RECURRENT(mixed, 9, 33, .bias = 1)}},
    {"toy mixed without bias", {1, 5}, 1, {RECURRENT(mixed, 5, 16)}},
    {"toy mixed both ways, of two levels",
     {1, 7},
     2,
     {RECURRENT(mixed, 7, 17, .bias = 1, .bidirectional = 1),
      RECURRENT(mixed, 34, 6, .bias = 1, .bidirectional = 1)}},
    {"toy diagonal", {1, 9}, 1, {RECURRENT(diagonal, 9, 70, .bias = 1)}},
    {"toy relay", {1, 9}, 1, {RECURRENT(relay, 9, 33, .bias = 1)}},
    {"toy relay both ways, of two levels",
     {1, 7},
     2,
     {RECURRENT(relay, 7, 17, .bidirectional = 1), RECURRENT(relay, 34, 6, .bias = 1, .bidirectional = 1)}},
    {"toy diagonal both ways", {1, 3}, 1, {RECURRENT(diagonal, 3, 18, .bidirectional = 1)}},
    {"toy square", {1, 31}, 1, {PLAIN(square)}},
    {"toy square between others", {1, 9}, 3, {LINEAR(9, 17, 1), PLAIN(square), RECURRENT(gru, 17, 5)}},
};

/* The formula of mixed in double. */
static double mixed(const double *gates, double *states, double h)
{
    states[0] = gates[0] * states[0] + (1.0 - gates[0]) * gates[1];
    states[1] = (states[1] + states[0]) / 2.0;
    return states[0] / 2.0 + (states[1] + h) / 4.0;
}

/* The formula of relay. */
static double relay(const double *gates, double *states, double h)
{
    (void)h;
    states[0] += gates[1] * (gates[2] - states[0]);
    return gates[3] * states[0];
}

static void toy_cells(void)
{
    const trnn_kernels *isa;
    for (size_t i = 0; i < sizeof toy_models / sizeof toy_models[0]; i++) {
        const model *m = &toy_models[i];
        for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) {
            every_way(m, isa, NULL);
            every_way(m, isa, ends);
            const trnn_layer_type *type = m->layers[0].type;
            gate_formula *formula = type == &trnn_mixed ? mixed : type == &trnn_relay ? relay : NULL;
            if (m->count == 1 && type != &trnn_square) gates_of_model(m, isa, formula);
        }
        against_differences(m, isa_get(0), NULL);
        against_differences(m, isa_get(0), ends);
    }
    const trnn_layer projected = RECURRENT(mixed, 9, 33, .proj_size = 4),
                     relu = RECURRENT(diagonal, 9, 33, .relu = 1);
    check(trnn_layer_check(&projected) == TRNN_E_ARGUMENT, "a projection that the facts do not allow");
    check(trnn_layer_check(&relu) == TRNN_E_ARGUMENT, "a relu that the facts do not allow");
}

/* ---- the optimiser, against its formula in double ----------------------------------------------------- */

enum { NUMBERS = 40, PADDED = 48 };

static void toy_optimiser(const trnn_kernels *isa, double momentum)
{
    const trnn_rule rule = {.optimiser = &trnn_adamax,
                            .lr = 0.01,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8,
                            .momentum = momentum};
    float w[PADDED] = {0}, g[PADDED] = {0}, m[PADDED] = {0}, v[PADDED] = {0};
    double wanted[NUMBERS], mean[NUMBERS] = {0.0}, most[NUMBERS] = {0.0};
    trnn_tensor tensor = {.rule = &rule, .weights = w, .gradients = g, .numbers = PADDED};
    tensor.state[0] = trnn_rule_uses(&rule, 0) ? m : NULL;
    tensor.state[1] = v;
    dice d = dice_named("adamax");
    for (int i = 0; i < NUMBERS; i++) wanted[i] = w[i] = dice_float(&d, 0);
    for (int step = 1; step <= 20; step++) {
        for (int i = 0; i < NUMBERS; i++) {
            g[i] = dice_float(&d, i % 5 - 4);
            mean[i] = 0.9 * mean[i] + (1.0 - 0.9) * (double)g[i];
            most[i] = fmax(0.99 * most[i], fabs((double)g[i]) + 1e-8);
            wanted[i] -= 0.01 / most[i] * (momentum != 0.0 ? mean[i] / (1.0 - pow(0.9, step)) : (double)g[i]);
        }
        trnn_tensors_update(isa, &tensor, 1, 1.0f, TRNN_NO_LIMIT, 0, 1);
        trnn_tensors_count(&tensor, 1);
    }
    double apart = 0.0;
    for (int i = 0; i < NUMBERS; i++) apart = fmax(apart, fabs((double)w[i] - wanted[i]));
    check(apart < 1e-6, "adamax on %s: %.2g from its formula", trnn_isa_name(isa), apart);
    check(tensor.steps == 20 && trnn_rule_uses(&rule, 0) == (momentum != 0.0), "adamax: steps and states");
    for (int i = NUMBERS; i < PADDED; i++) check(w[i] == 0.0f, "adamax on %s: padding", trnn_isa_name(isa));
}

/* ---- the loss, against differences -------------------------------------------------------------------- */

static void toy_loss(void)
{
    enum { COUNT = 3 * 2 * 4 };
    static const trnn_loss quartic = {.type = &trnn_loss_quartic};
    static const int32_t lengths[2] = {3, 1};
    float y[COUNT], target[COUNT], dy[COUNT];
    dice d = dice_named("quartic");
    for (int i = 0; i < COUNT; i++) y[i] = dice_float(&d, 0), target[i] = dice_float(&d, 0);
    trnn_loss_job job = {.isa = trnn_isa_best(),
                         .y = y,
                         .target = target,
                         .dy = dy,
                         .rows = 1,
                         .cols = 4,
                         .steps = 3,
                         .batch = 2,
                         .lengths = lengths};
    double value, sides[2];
    check(trnn_loss_check(&quartic) == TRNN_OK, "quartic: check");
    check(trnn_loss_run(&quartic, &job, &value) == TRNN_OK && value > 0.0, "quartic: run");
    job.dy = NULL;
    for (int i = 0; i < COUNT; i++) {
        const float before = y[i];
        for (int side = 0; side < 2; side++) {
            y[i] = before + (side ? 0x1p-8f : -0x1p-8f);
            trnn_loss_run(&quartic, &job, &sides[side]);
        }
        y[i] = before;
        check(fabs((sides[1] - sides[0]) / 0x1p-7 - (double)dy[i]) < 1e-5, "quartic: dy[%d]", i);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

/* A toy is in the list that the core tells. */
static void listed(void)
{
    int found = trnn_layer_named("mixed").type == &trnn_mixed;
    found += trnn_layer_named("square").type == &trnn_square;
    for (int32_t i = 0; i < trnn_optimiser_count(); i++) found += trnn_optimiser_at(i) == &trnn_adamax;
    for (int32_t i = 0; i < trnn_loss_count(); i++) found += trnn_loss_at(i) == &trnn_loss_quartic;
    check(found == 4, "%d of 4 toys are listed", found);
}

int main(void)
{
    const trnn_kernels *isa;
    check_group("toys: cells and a layer");
    toy_cells();
    check_group("toys: an optimiser and a loss");
    for (int32_t k = 0; (isa = isa_get(k)) != NULL; k++) {
        toy_optimiser(isa, 0.0);
        toy_optimiser(isa, 1.0);
    }
    toy_loss();
    listed();
    return check_result();
}
