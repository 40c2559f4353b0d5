# The tape, for whoever trains.

from libc.stdint cimport int32_t, uint32_t, uint64_t

cimport numpy as cnp

from tinyrnn._tinyrnn_h cimport *
from tinyrnn._losses cimport CoreLoss, Target
from tinyrnn._optim cimport Program


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
