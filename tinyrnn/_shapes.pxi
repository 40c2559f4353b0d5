# Part of `_core`: the shapes of a stream's arrays, and whether arrays share memory.


cdef enum:
    MAX_RANK = 5  # steps, batch, and a frame of rank 3


cdef struct Shape:
    int rank
    cnp.npy_intp dims[MAX_RANK]


cdef void set_shape(Shape *shape, tuple dims):
    shape.rank = <int> len(dims)
    for axis in range(shape.rank):
        shape.dims[axis] = dims[axis]


cdef inline void drop_steps(Shape *shape, str what) noexcept:
    """Leave out the axis of steps, which `run` has."""
    cdef int axis
    if what == "run":
        shape.rank -= 1
        for axis in range(shape.rank):
            shape.dims[axis] = shape.dims[axis + 1]


cdef inline void follow(Shape *shape, const Shape *frame) noexcept:
    """Append the axes of a frame."""
    cdef int axis
    for axis in range(frame.rank):
        shape.dims[shape.rank] = frame.dims[axis]
        shape.rank += 1


cdef inline bint overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) noexcept:
    return <uintptr_t> a < <uintptr_t> b + b_bytes and <uintptr_t> b < <uintptr_t> a + a_bytes


cdef inline int apart(const void *x, size_t x_bytes, const void *y, size_t y_bytes, const void *state,
                      size_t state_bytes, str what) except -1:
    """Raise ValueError if input, output and state share memory."""
    if overlap(y, y_bytes, x, x_bytes) or overlap(y, y_bytes, state, state_bytes):
        raise ValueError(f"{what}: out shares memory with x or with the state: pass another array")
    if overlap(x, x_bytes, state, state_bytes):
        raise ValueError(f"{what}: x shares memory with the state: pass a copy")
    return 0
