# Shares the losses with _training.pyx, which runs them without the GIL.

from libc.stdint cimport int32_t

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
    cdef readonly cnp.ndarray numbers, lengths, target_lengths
    cdef readonly bint last, probabilities, rows_first
    cdef readonly int32_t target_steps
    cdef void point(self, trnn_loss_job *job) noexcept nogil
