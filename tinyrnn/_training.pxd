# The tape, for whoever trains.

from libc.stdint cimport int32_t, uint32_t, uint64_t

cimport numpy as cnp

from tinyrnn._tinyrnn_h cimport *

cdef class CoreLoss:
    cdef trnn_loss loss
    cdef dict arguments
    cdef readonly str kind
    cdef size_t scratch_bytes(self, int32_t steps, int32_t batch, size_t numbers,
                              int32_t target_steps) noexcept nogil
    cdef trnn_status run(self, const trnn_loss_job *job, double *value) noexcept nogil


cdef class Target:
    cdef readonly cnp.ndarray numbers, lengths, target_lengths, mask
    cdef readonly bint last, probabilities, rows_first
    cdef readonly int32_t target_steps
    cdef void point(self, trnn_loss_job *job) noexcept nogil


cdef struct Source:  # where a tensor's gradient is, and whether there is one: its bit in its layer's `graded`
    float *gradients
    uint32_t *graded
    uint32_t bit


cdef class Program:
    cdef trnn_tensor *tensors
    cdef Source *sources
    cdef trnn_rule *rules
    cdef double *sums
    cdef int32_t count, rule_count
    cdef list owners
    cdef float scale, limit
    cdef readonly double norm
    cdef readonly int32_t bad
    cdef public double max_norm, max_value

    cdef void point(self) noexcept nogil
    cdef int step(self) noexcept nogil
    cdef int zero(self) noexcept nogil
    cdef void measure_part(self, int part, int parts) noexcept nogil
    cdef int judge(self) noexcept nogil
    cdef void update_part(self, int part, int parts) noexcept nogil
    cdef void finish(self) noexcept nogil
    cdef free(self)
    cdef float *place(self, array, size_t offset, size_t numbers) except NULL


cdef enum Phase:
    FORWARD
    BACKWARD
    GRADIENTS
    MEASURE
    UPDATE


cdef class Tape:
    cdef list layers, parts
    cdef bytes memory
    cdef trnn_training *training
    cdef list instead
    cdef uint32_t changes  # those that it goes by
    cdef trnn_layer layer_of(self, int32_t i) except *
    cdef int adjust(self) except -1
    cdef trnn_training_sizes sizes
    cdef void **weights
    cdef float **grads
    cdef uint32_t **graded  # each layer's
    cdef uint32_t *trained  # its tensors that are not frozen
    cdef int32_t count
    cdef cnp.ndarray tape, dstate
    cdef object ends  # the lengths of the last call, kept alive
    cdef readonly int32_t threads
    cdef public bint keeps_hidden  # the backward pass keeps the gradients that `hidden` returns
    cdef Program program
    cdef trnn_training_job *job  # the first part's
    cdef Phase phase
    cdef int32_t stage
    cdef allocate(self)
    cdef int point(self, feed, float *state, uint64_t seed, bint to_input) except -1
    cdef void mark(self) noexcept nogil
    cdef int run(self, Phase phase, int32_t stage) except -1
    cdef int32_t steps_of(self, int32_t output) noexcept
    cdef cnp.ndarray array(self, size_t offset, const trnn_value *value, size_t steps)


cdef struct StartPart:
    const float *table
    float *gradient  # NULL if the table does not train
    uint32_t *graded
    size_t at
    int32_t count


cdef class Start:
    cdef StartPart *parts
    cdef int32_t count, batch
    cdef size_t row
    cdef list owners
    cdef readonly bint trains, deep
    cdef void write(self, float *state) noexcept nogil
    cdef void add(self, const float *dstate) noexcept nogil


cdef class CoreTrainer:
    cdef readonly Tape tape
    cdef Start start  # the net's initial state; None for zeros
    cdef bint adds  # this step's gradient goes to the initial state
    cdef list kept  # the losses
    cdef const trnn_loss *losses[TRNN_PORTS_MAX]  # NULL: an output without a loss
    cdef double weights[TRNN_PORTS_MAX]
    cdef double values[TRNN_PORTS_MAX]
    cdef trnn_loss_job jobs[TRNN_PORTS_MAX]
    cdef Program program
    cdef cnp.ndarray numbers, scratch
    cdef double value
    cdef trnn_status failed
    cdef int32_t output  # the one whose loss was taken last
    cdef size_t room
    cdef int32_t target_steps
    cdef void point(self, int32_t i, Target target) noexcept
    cdef trnn_status take(self) noexcept nogil
    cdef int alone(self) noexcept nogil
    cdef int shared(self) except -1
