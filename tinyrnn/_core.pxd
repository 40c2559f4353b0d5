# What the other modules share of _core.pyx.

from libc.stdint cimport int32_t, int64_t, uint32_t

cimport numpy as cnp

from tinyrnn._tinyrnn_h cimport *

cdef int check(trnn_status status, str what) except -1
cdef uint32_t changes_of_layers() noexcept
cdef int write_arguments(void *struct, const trnn_argument *arguments, dict given, str what) except -1
cdef tuple argument_names(const trnn_argument *argument)
cpdef cnp.ndarray aligned_zeros(size_t nbytes)
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
    cdef settle(self, cnp.ndarray memory)
    cdef drawn(self)
    cdef pack(self, int32_t i, numbers, scales)
    cdef code_kind(self, int32_t i)
    cdef int trainable(self) except -1
    cdef const char *ready(self) except? NULL


cdef size_t frame_numbers(const trnn_value *value) noexcept nogil
cdef int fill_steps(int32_t *to, steps) except -1
cdef tuple describe_value(const trnn_value *value)


cdef class Described:
    cdef trnn_net net
    cdef trnn_layer *layers
    cdef trnn_reads *reads


cdef class Plan:
    cdef bytes memory, single_memory
    cdef trnn_plan *plan
    cdef trnn_plan *single  # for runs of one step; of a net without views it is `plan`
    cdef uint32_t changes  # those that it goes by
    cdef trnn_sizes sizes
    cdef list layers, reads
    cdef const void **weights
    cdef readonly tuple outputs  # ((planes, rows, cols), axis of time) of each; axis 0 is per sequence
    cdef readonly bint has_rates  # an output has a rate of its own
