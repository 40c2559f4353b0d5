# Mirrors csrc/tinyrnn.h, and shares the classes over it with _kernels.pyx.

from libc.stdint cimport int32_t, int64_t, uint32_t

cimport numpy as cnp


cdef extern from "tinyrnn.h" nogil:
    ctypedef enum trnn_status:
        TRNN_OK
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
        int32_t rows, cols

    ctypedef struct trnn_layer_type:
        pass

    ctypedef struct trnn_layer_training:
        pass

    ctypedef enum trnn_pad:
        TRNN_PAD_ZEROS
        TRNN_PAD_REFLECT

    ctypedef struct trnn_recurrent_args:
        int32_t input_size, hidden_size, proj_size, bias, bidirectional, relu

    ctypedef struct trnn_linear_args:
        int32_t in_features, out_features, bias

    ctypedef struct trnn_embedding_args:
        int32_t num_embeddings, embedding_dim, padding

    ctypedef struct trnn_conv1d_args:
        int32_t in_channels, out_channels, kernel_size, stride, dilation, groups, bias
        int32_t pad_left, pad_right
        trnn_pad padding_mode

    ctypedef struct trnn_norm_args:
        int32_t size, affine, bias
        float eps, momentum
        int32_t use_running_stats

    ctypedef struct trnn_activation_args:
        float slope

    ctypedef struct trnn_dropout_args:
        float p

    ctypedef struct trnn_softmax_args:
        int32_t over_rows

    ctypedef union trnn_layer_args "void":
        trnn_recurrent_args recurrent
        trnn_linear_args linear
        trnn_embedding_args embedding
        trnn_conv1d_args conv1d
        trnn_norm_args norm
        trnn_activation_args activation
        trnn_dropout_args dropout
        trnn_softmax_args softmax

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
        trnn_layer_args args "as"

    const char *trnn_layer_name(const trnn_layer *layer)
    int32_t trnn_layer_count()
    trnn_layer trnn_layer_at(int32_t i)
    trnn_status trnn_layer_check(const trnn_layer *layer)

    enum:
        TRNN_PARAMS_MAX

    ctypedef struct trnn_param:
        const char *name
        int32_t rank
        int32_t shape[3]
        trnn_format format
        size_t offset
        int32_t gates, units, cols

    int32_t trnn_layer_params(const trnn_layer *layer, trnn_param *params)
    size_t trnn_layer_weights_bytes(const trnn_layer *layer)
    void trnn_param_pack(const trnn_param *param, void *weights, const void *numbers, const float *scales)
    void trnn_param_pack_chunk(const trnn_param *param, void *weights, const float *numbers, size_t first,
                               size_t count)
    void trnn_param_unpack(const trnn_param *param, const void *weights, void *numbers, float *scales)

    size_t trnn_param_bytes(const trnn_param *param)

    ctypedef struct trnn_plan:
        pass

    ctypedef struct trnn_sizes:
        trnn_frame frame_in "in"
        trnn_frame frame_out "out"
        int32_t batch, steps
        size_t state_bytes, scratch_bytes, part_bytes
        bint full_sequence, indices

    size_t trnn_plan_bytes(int32_t layers)
    trnn_status trnn_plan_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                               int32_t batch, int32_t steps, trnn_sizes *sizes)
    void trnn_plan_state(const trnn_plan *plan, int32_t layer, size_t *offset, size_t *numbers)

    ctypedef struct trnn_job:
        const trnn_kernels *isa
        const void *const *weights
        float *state
        void *scratch
        const void *x
        float *y
        int32_t steps
        const int32_t *lengths
        int32_t stride, descending
        int (*poll)(void *context) noexcept nogil
        void *context

    trnn_status trnn_run(const trnn_plan *plan, const trnn_job *job)


    # ---- training: the tape

    ctypedef struct trnn_training:
        pass

    ctypedef struct trnn_training_sizes:
        trnn_frame frame_in "in"
        trnn_frame frame_out "out"
        int32_t batch, steps
        size_t state_bytes, tape_bytes, scratch_bytes
        size_t x, y, dy, dx
        int32_t stages
        bint indices

    ctypedef struct trnn_training_job:
        const trnn_kernels *isa
        void *const *weights
        float *const *grads
        float *state
        float *dstate
        void *tape
        void *scratch
        const void *x
        size_t x_step, x_row
        int32_t steps
        const int32_t *lengths
        int32_t to_input
        uint32_t seed[2]
        int32_t part, parts

    size_t trnn_training_bytes(int32_t layers)
    trnn_status trnn_training_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                                   int32_t batch, int32_t steps, trnn_training_sizes *sizes)
    trnn_status trnn_training_check(const trnn_training *training, const trnn_training_job *job)
    void trnn_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
    void trnn_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage)
    void trnn_gradients(const trnn_training *training, const trnn_training_job *job)

    # ---- training: losses

    ctypedef struct trnn_loss_type:
        pass

    ctypedef enum trnn_reduction:
        TRNN_MEAN
        TRNN_SUM

    ctypedef struct trnn_loss:
        const trnn_loss_type *type
        trnn_reduction reduction
        float delta, label_smoothing
        int32_t ignore_index, blank, zero_infinity, classes
        const float *weight
        const float *pos_weight

    const char *trnn_loss_name(const trnn_loss_type *type)
    int32_t trnn_loss_count()
    const trnn_loss_type *trnn_loss_at(int32_t i)
    trnn_status trnn_loss_check(const trnn_loss *loss)
    size_t trnn_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                                   int32_t target_steps)

    ctypedef struct trnn_loss_job:
        const trnn_kernels *isa
        const float *y
        const void *target
        float *dy
        float *values
        trnn_frame frame
        int32_t steps, batch
        const int32_t *lengths
        int32_t last, probabilities, y_rows_first, target_rows_first, target_steps
        const int32_t *target_lengths
        void *scratch

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
        int32_t maximize, nesterov, centered, amsgrad, decoupled
        double lr, weight_decay, l1, momentum, dampening, alpha, beta1, beta2, lr_decay, eps

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


# What _training.pyx, _losses.pyx and _optim.pyx may call of the core, which is linked into _core alone.

# ---- lent: the tape

cdef size_t lent_training_bytes(int32_t layers) noexcept nogil
cdef trnn_status lent_training_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                                    int32_t batch, int32_t steps, trnn_training_sizes *sizes) noexcept nogil
cdef trnn_status lent_training_check(const trnn_training *training, const trnn_training_job *job) noexcept nogil
cdef void lent_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage) noexcept nogil
cdef void lent_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage) noexcept nogil
cdef void lent_gradients(const trnn_training *training, const trnn_training_job *job) noexcept nogil
cdef int check(trnn_status status, str what) except -1

# ---- lent: losses

cdef int32_t lent_loss_count()
cdef const trnn_loss_type *lent_loss_at(int32_t i)
cdef str lent_loss_name(const trnn_loss_type *type)
cdef int lent_loss_check(const trnn_loss *loss, str what) except -1
cdef size_t lent_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                                    int32_t target_steps) noexcept nogil
cdef trnn_status lent_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value) noexcept nogil

# ---- lent: optimisers

cdef int32_t lent_optimiser_count()
cdef const trnn_optimiser *lent_optimiser_at(int32_t i)
cdef str lent_optimiser_name(const trnn_optimiser *optimiser)
cdef str lent_optimiser_state(const trnn_optimiser *optimiser, int32_t i)
cdef bint lent_rule_uses(const trnn_rule *rule, int32_t i) noexcept nogil
cdef size_t lent_tensors_chunks(const trnn_tensor *tensors, int32_t count) noexcept nogil
cdef void lent_tensors_measure(const trnn_tensor *tensors, int32_t count, double *sums,
                             int32_t part, int32_t parts) noexcept nogil
cdef double lent_tensors_norm(const trnn_tensor *tensors, int32_t count, const double *sums, int32_t *bad) noexcept nogil
cdef float lent_clip_scale(double norm, double max_norm) noexcept nogil
cdef void lent_tensors_update(const trnn_tensor *tensors, int32_t count, float scale, float limit,
                            int32_t part, int32_t parts) noexcept nogil
cdef void lent_tensors_count(trnn_tensor *tensors, int32_t count) noexcept nogil
cdef void lent_tensors_clip(const trnn_tensor *tensors, int32_t count, float scale, float limit,
                          int32_t part, int32_t parts) noexcept nogil
cdef void lent_tensors_clear(const trnn_tensor *tensors, int32_t count, int32_t part, int32_t parts) noexcept nogil


cdef const trnn_kernels *isa_named(str name) except NULL
cdef const trnn_kernels *isa_in_use() noexcept nogil


cdef class Layer:
    cdef trnn_layer layer
    cdef trnn_param tensors[TRNN_PARAMS_MAX]
    cdef int32_t count
    cdef char *weights
    cdef object memory
    cdef object grads
    cdef public uint32_t graded  # bit i: the i-th tensor has a gradient: there was a backward pass since it was cleared
    cdef readonly str kind
    cdef readonly list params
    cdef public object initialise
    cdef allocate(self)
    cdef drawn(self)
    cdef pack(self, int32_t i, numbers, scales)
    cdef code_kind(self, int32_t i)
    cdef int trainable(self) except -1
    cdef const char *ready(self) except? NULL


cdef class Plan:
    cdef bytes memory
    cdef const trnn_plan *plan
    cdef trnn_sizes sizes
    cdef list layers
    cdef const void **weights
    cdef int64_t weights_bytes
