# What the trainer calls of an optimiser's step, without the GIL.

from libc.stdint cimport int32_t, uint32_t

from tinyrnn._tinyrnn_h cimport *


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
