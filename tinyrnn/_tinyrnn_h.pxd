# Mirrors csrc/tinyrnn.h; `cimport *` of it is what #include is in C.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t


cdef extern from "tinyrnn.h" nogil:
    ctypedef enum trnn_status:
        TRNN_OK
        TRNN_E_SHORT
        TRNN_E_INDEX
        TRNN_E_INTERRUPTED
        TRNN_E_TARGET

    const char *trnn_status_text(trnn_status status)
    const char *trnn_status_exception(trnn_status status)

    ctypedef struct trnn_kernels:
        pass

    int32_t trnn_isa_list(const trnn_kernels **list, int32_t room)
    const char *trnn_isa_name(const trnn_kernels *isa)
    bint trnn_isa_fused(const trnn_kernels *isa)

    ctypedef struct trnn_frame:
        int32_t planes, rows, cols

    ctypedef struct trnn_layer_type:
        pass

    ctypedef struct trnn_layer_training:
        pass

    ctypedef enum trnn_argument_type:
        TRNN_INT32
        TRNN_FLOAT
        TRNN_DOUBLE
        TRNN_FLOATS

    ctypedef struct trnn_argument:
        const char *name
        size_t offset
        trnn_argument_type type
        bint live

    ctypedef enum trnn_format:
        TRNN_F32
        TRNN_F16
        TRNN_BF16
        TRNN_INT8
        TRNN_INT4
        TRNN_FORMAT_COUNT

    const char *trnn_format_name(trnn_format format)

    ctypedef struct trnn_layer:
        const trnn_layer_type *type
        const trnn_layer_training *training
        trnn_format format

    const char *trnn_layer_name(const trnn_layer *layer)
    int32_t trnn_layer_count()
    trnn_layer trnn_layer_at(int32_t i)
    const trnn_argument *trnn_layer_arguments(const trnn_layer *layer)
    trnn_status trnn_layer_check(const trnn_layer *layer)

    enum:
        TRNN_PARAMS_MAX

    ctypedef struct trnn_param:
        const char *name
        int32_t rank
        int32_t shape[4]
        trnn_format format
        size_t offset
        int32_t gates, units, cols, second

    int32_t trnn_layer_params(const trnn_layer *layer, trnn_param *params)
    size_t trnn_layer_weights_bytes(const trnn_layer *layer)
    void trnn_param_pack(const trnn_param *param, void *weights, const void *numbers, const float *scales)
    void trnn_param_pack_chunk(const trnn_param *param, void *weights, const float *numbers, size_t first,
                               size_t count)
    void trnn_param_unpack(const trnn_param *param, const void *weights, void *numbers, float *scales)

    size_t trnn_param_bytes(const trnn_param *param)

    # ---- nets and plans

    const char *TINYRNN_VERSION

    enum:
        TRNN_READS_MAX
        TRNN_PORTS_MAX
        TRNN_AXES_MAX

    ctypedef struct trnn_value:
        trnn_frame frame
        int32_t axis

    ctypedef struct trnn_rate:
        int32_t first, stride, after

    ctypedef struct trnn_reads:
        int32_t count
        int32_t value[TRNN_READS_MAX]

    ctypedef struct trnn_net:
        const trnn_layer *layers
        int32_t count
        const trnn_reads *reads
        int32_t inputs, outputs
        trnn_value input[TRNN_PORTS_MAX]
        int32_t output[TRNN_PORTS_MAX]

    ctypedef struct trnn_plan:
        pass

    ctypedef struct trnn_sizes:
        int32_t inputs, outputs
        trnn_value ins "in"[TRNN_PORTS_MAX]
        trnn_value outs "out"[TRNN_PORTS_MAX]
        int32_t batch
        int32_t steps[TRNN_AXES_MAX]
        size_t state_bytes, value_bytes, widest_bytes, scratch_bytes, part_bytes, cost
        bint full_sequence
        uint32_t indices
        bint views

    size_t trnn_plan_bytes(const trnn_net *net)
    trnn_status trnn_plan_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                               trnn_sizes *sizes)
    void trnn_plan_adjust(trnn_plan *plan, int32_t i, const trnn_layer *layer)
    void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers)
    int trnn_plan_begins(const trnn_plan *plan, int32_t layer)

    ctypedef struct trnn_job:
        const trnn_kernels *isa
        const void *const *weights
        float *state
        void *scratch
        const void *x[TRNN_PORTS_MAX]
        float *y[TRNN_PORTS_MAX]
        int32_t steps[TRNN_AXES_MAX]
        const int32_t *lengths[TRNN_AXES_MAX]
        int32_t stride, ends, descending
        int (*poll)(void *context) noexcept nogil
        void *context

    trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job)
    int32_t trnn_plan_steps(const trnn_plan *plan, const trnn_job *job, int32_t output, int32_t *lengths)
    int32_t trnn_plan_rate(const trnn_plan *plan, int32_t axis, trnn_rate *rate)

    # ---- gates

    const char *trnn_layer_gates(const trnn_layer *layer)

    ctypedef struct trnn_gates_job:
        const trnn_kernels *isa
        const trnn_layer *layer
        const void *weights
        int32_t direction
        int32_t steps, batch
        const float *x
        const float *y
        float *state
        size_t state_stride
        float *gates
        void *scratch

    size_t trnn_gates_bytes(const trnn_layer *layer, int32_t batch)
    void trnn_gates(const trnn_gates_job *job)

    # ---- training: the tape

    ctypedef struct trnn_training:
        pass

    ctypedef struct trnn_training_sizes:
        int32_t inputs, outputs
        trnn_value ins "in"[TRNN_PORTS_MAX]
        trnn_value outs "out"[TRNN_PORTS_MAX]
        int32_t batch
        int32_t steps[TRNN_AXES_MAX]
        size_t state_bytes, tape_bytes, scratch_bytes
        size_t x[TRNN_PORTS_MAX]
        size_t dx[TRNN_PORTS_MAX]
        size_t y[TRNN_PORTS_MAX]
        size_t dy[TRNN_PORTS_MAX]
        int32_t out_steps[TRNN_PORTS_MAX]
        size_t lengths[TRNN_PORTS_MAX]
        int32_t stages
        uint32_t indices

    ctypedef struct trnn_training_job:
        const trnn_kernels *isa
        void *const *weights
        float *const *grads
        float *state
        float *dstate
        void *tape
        void *scratch
        const void *x[TRNN_PORTS_MAX]
        size_t x_step[TRNN_PORTS_MAX]
        size_t x_row[TRNN_PORTS_MAX]
        int32_t steps[TRNN_AXES_MAX]
        const int32_t *lengths[TRNN_AXES_MAX]
        int32_t ends
        int32_t to_input
        int32_t hidden
        uint32_t seed[2]
        int32_t part, parts

    size_t trnn_training_bytes(const trnn_net *net)
    trnn_status trnn_training_init(void *memory, const trnn_net *net, int32_t batch, const int32_t *steps,
                                   trnn_training_sizes *sizes)
    void trnn_training_adjust(trnn_training *training, int32_t i, const trnn_layer *layer)
    trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job)
    int32_t trnn_training_steps(const trnn_training *training, const trnn_training_job *job, int32_t output,
                                int32_t *lengths)
    void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
    void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
    void trnn_gradients(const trnn_training *training, const trnn_training_job *job)
    const float *trnn_training_hidden(const trnn_training *training, const trnn_training_job *job, int32_t i,
                                      int32_t *steps)
    void trnn_rows_add(float *sum, const float *rows, size_t stride, int32_t batch, int32_t count)

    # ---- training: losses

    ctypedef struct trnn_loss_type:
        pass

    ctypedef enum trnn_reduction:
        TRNN_MEAN
        TRNN_SUM

    ctypedef struct trnn_loss:
        const trnn_loss_type *type
        trnn_reduction reduction
        int32_t classes

    const char *trnn_loss_name(const trnn_loss_type *type)
    int32_t trnn_loss_count()
    const trnn_loss_type *trnn_loss_at(int32_t i)
    const trnn_argument *trnn_loss_arguments()
    trnn_status trnn_loss_check(const trnn_loss *loss)
    size_t trnn_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                                   int32_t target_steps)

    ctypedef struct trnn_loss_job:
        const trnn_kernels *isa
        const float *y
        const void *target
        float *dy
        float *values
        int32_t rows, cols
        int32_t steps, batch
        const int32_t *lengths
        int32_t last, probabilities, y_rows_first, target_rows_first, target_steps
        const int32_t *target_lengths
        void *scratch
        const uint8_t *mask

    trnn_status trnn_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value)

    # ---- training: optimisers

    ctypedef struct trnn_optimiser:
        pass

    enum:
        TRNN_STATES_MAX

    float TRNN_NO_LIMIT

    const char *trnn_optimiser_name(const trnn_optimiser *optimiser)
    const char *trnn_optimiser_state(const trnn_optimiser *optimiser, int32_t i)
    int32_t trnn_optimiser_count()
    const trnn_optimiser *trnn_optimiser_at(int32_t i)

    ctypedef struct trnn_rule:
        const trnn_optimiser *optimiser

    const trnn_argument *trnn_rule_arguments()
    bint trnn_rule_uses(const trnn_rule *rule, int32_t i)

    ctypedef struct trnn_tensor:
        const trnn_rule *rule
        float *weights
        float *gradients
        float *state[TRNN_STATES_MAX]
        size_t numbers
        int64_t steps

    size_t trnn_tensors_chunks(const trnn_tensor *tensors, int32_t count)
    void trnn_tensors_measure(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, double *sums,
                            int32_t part, int32_t parts)
    double trnn_tensors_norm(const trnn_tensor *tensors, int32_t count, const double *sums, int32_t *bad)
    float trnn_clip_scale(double norm, double max_norm)
    void trnn_tensors_update(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale,
                           float limit, int32_t part, int32_t parts)
    void trnn_tensors_count(trnn_tensor *tensors, int32_t count)
    void trnn_tensors_clip(const trnn_kernels *isa, const trnn_tensor *tensors, int32_t count, float scale, float limit,
                         int32_t part, int32_t parts)
    void trnn_tensors_clear(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts)
