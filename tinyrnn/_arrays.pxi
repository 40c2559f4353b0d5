# Part of `_core`: small operations on arrays, in a tenth of the time that NumPy's functions take.

cdef narrowed(cnp.ndarray numbers, int64_t low, int64_t high):
    """Return a C-contiguous int64 array as int32; None if a number lies outside ``low .. high``, two int32 bounds."""
    cdef cnp.ndarray narrow = np.empty_like(numbers, np.int32)
    cdef const int64_t *wide = <const int64_t *> cnp.PyArray_DATA(numbers)
    cdef int32_t *to = <int32_t *> cnp.PyArray_DATA(narrow)
    cdef cnp.npy_intp i
    for i in range(cnp.PyArray_SIZE(numbers)):
        if wide[i] < low or wide[i] > high:
            return None
        to[i] = <int32_t> wide[i]
    return narrow


def as_indices(x, str what, count=None):
    """Return ``x`` as a C-contiguous int32 array of indices in ``0 .. count - 1``.

    Raises
    ------
    TypeError
        If it holds anything but integers.
    IndexError
        If one is out of range: the message names it and its place.
    """
    array = as_array(x)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what}: got dtype {array.dtype}, expected integers")
    low, high = (-2**31, 2**31 - 1) if count is None else (0, count - 1)
    if is_plain(array, np.int64):  # as most indices come
        narrow = narrowed(array, low, high)
        if narrow is not None:
            return narrow
    wrong = (array < low) | (array > high)
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), array.shape)
        where = f" at {list(map(int, place))}" if place else ""
        raise IndexError(f"{what}: index {array[place]}{where} is out of range, expected {low} .. {high}")
    return as_plain(array, np.int32)


def is_floats(x):
    """Tell whether kernels can read ``x`` without a copy: float32, C-contiguous, aligned, native."""
    return bool(cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 and cnp.PyArray_ISCARRAY_RO(x))


cpdef cnp.ndarray aligned_zeros(size_t nbytes):
    """Return a float32 vector of zeros, aligned to 64 bytes, with all its pages mapped."""
    if nbytes > <size_t> PTRDIFF_MAX - 64:
        raise MemoryError(f"array: got {nbytes} bytes, expected at most {PTRDIFF_MAX - 64}")
    cdef cnp.npy_intp room = <cnp.npy_intp> nbytes + 64, count = <cnp.npy_intp> nbytes // 4
    cdef cnp.ndarray raw = cnp.PyArray_EMPTY(1, &room, cnp.NPY_UINT8, 0)
    cdef uintptr_t start = (<uintptr_t> cnp.PyArray_DATA(raw) + 63) & ~<uintptr_t> 63
    memset(<void *> start, 0, nbytes)  # np.zeros would leave the mapping of pages to the first step
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(1, &count, cnp.NPY_FLOAT32, <void *> start)
    cnp.set_array_base(array, raw)
    return array


def gathered(cnp.ndarray numbers, tuple shape, tuple parts):
    """Gather slices of each row into a new array (levels, rows, size).

    ``parts`` has (offset, size) of each level's slice within a row; ``numbers`` holds all rows, flat float32.
    """
    cdef cnp.npy_intp dims[3]
    cdef cnp.npy_intp offset, size, row, each, levels = len(parts)
    dims[0], dims[1], dims[2] = shape
    cdef cnp.ndarray array = cnp.PyArray_EMPTY(3, dims, cnp.NPY_FLOAT32, 0)
    cdef const float *start = <const float *> cnp.PyArray_DATA(numbers)
    cdef float *to = <float *> cnp.PyArray_DATA(array)
    if dims[1] == 0:
        return array
    if not is_floats(numbers):
        raise TypeError(f"state: got dtype {numbers.dtype}, expected contiguous float32")
    each = cnp.PyArray_SIZE(numbers) // dims[1]
    for offset, size in parts:
        if not (levels == dims[0] and size == dims[2] and 0 <= offset <= each - size and size > 0):
            raise ValueError(f"state: got {numbers.size} numbers, expected enough for shape {shape}")
        for row in range(dims[1]):
            memcpy(to, start + row * each + offset, size * sizeof(float))
            to += size
    return array
