# The speed of a machine: how fast it reads, and how fast it multiplies and adds.


cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct speeds "trnn_kernels":
        float (*read_f32)(const float *, size_t) noexcept nogil
        float (*peak_f32)(size_t, size_t *) noexcept nogil


def read(str isa, x, int repeat=1):
    """Read ``x`` ``repeat`` times at the speed of memory: the floor of what must read it. Its sum."""
    if not is_floats(x):
        raise TypeError("read: got another array, expected a C-contiguous float32 array")
    cdef const speeds *kernels = <const speeds *> isa_named(isa)
    cdef const float *source = <const float *> cnp.PyArray_DATA(x)
    cdef size_t n = x.size
    cdef float total = 0
    with nogil:
        for _ in range(repeat):
            total = kernels.read_f32(source, n)
    return total


def peak(str isa, size_t rounds):
    """Run independent multiply-adds; returns how many (of single floats)."""
    cdef const speeds *kernels = <const speeds *> isa_named(isa)
    cdef size_t numbers = 0
    with nogil:
        kernels.peak_f32(rounds, &numbers)
    return numbers
