# What the trainer calls of an optimiser's step, without the GIL.

from libc.stdint cimport int32_t

from tinyrnn._core cimport trnn_rule, trnn_span


cdef class Program:
    cdef trnn_span *spans
    cdef trnn_rule *rules
    cdef double *sums
    cdef int32_t count, rule_count
    cdef list owners
    cdef float scale, limit
    cdef readonly double norm
    cdef readonly int32_t bad
    cdef public double max_norm, max_value

    cdef int step(self) noexcept nogil
    cdef int zero(self) noexcept nogil
    cdef void measure_part(self, int part, int parts) noexcept nogil
    cdef int judge(self) noexcept nogil
    cdef void update_part(self, int part, int parts) noexcept nogil
    cdef void finish(self) noexcept nogil
    cdef free(self)
    cdef float *place(self, array, size_t offset, size_t numbers) except NULL
