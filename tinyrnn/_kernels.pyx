# cython: boundscheck=False, wraparound=False
"""The window for tests and benchmarks: every kernel of every built instruction set, by name.

``isa`` is a name of `available_isas`. Arrays are C-contiguous float32 and ``y`` is written and
returned; shapes are checked, contents are not. Nothing in the package imports this.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int32_t

from tinyrnn._core cimport Layer, isa_named, trnn_format, trnn_kernels, trnn_param
from tinyrnn.arrays import aligned_zeros

cnp.import_array()


cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct trnn_matrix:
        const void *weights
        trnn_format format
        int32_t depth, panels, width

    ctypedef struct trnn_product:
        trnn_matrix matrix
        int32_t rows, cols
        const float *bias
        const float *x
        float *y
        size_t x_stride, y_stride
        void *scratch
        int32_t descending

    ctypedef struct trnn_cell:
        trnn_matrix hidden
        int32_t rows, units
        const float *gates
        const trnn_product *input
        const float *bias_hh
        const float *h
        float *c
        float *y
        size_t gates_stride, h_stride, c_stride, y_stride
        void *scratch
        int32_t relu, descending
        float *tape

    size_t trnn_product_scratch(trnn_format format, int32_t rows, int32_t depth)

    ctypedef enum trnn_map:
        TRNN_MAP_EXP
        TRNN_MAP_SIGMOID
        TRNN_MAP_TANH
        TRNN_MAP_LEAKY_RELU

    ctypedef struct table "trnn_kernels":
        void (*product)(const trnn_product *) noexcept nogil
        void (*rnn)(const trnn_cell *) noexcept nogil
        void (*lstm)(const trnn_cell *) noexcept nogil
        void (*gru)(const trnn_cell *) noexcept nogil
        void (*map_f32)(trnn_map, const float *, float *, size_t, float) noexcept nogil
        void (*softmax_f32)(const float *, float *, size_t, int) noexcept nogil
        void (*layer_norm_f32)(const float *, float *, size_t, float, const float *, const float *) noexcept nogil
        float (*read_f32)(const float *, size_t) noexcept nogil
        float (*peak_f32)(size_t, size_t *) noexcept nogil


cdef const table *kernels_of(str isa) except NULL:
    return <const table *> isa_named(isa)


cdef float *floats(array, tuple shape=None) except? NULL:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise TypeError("expected a C-contiguous float32 array")
    if shape is not None and array.shape != shape:
        raise ValueError(f"shape {array.shape}, expected {shape}")
    return <float *> cnp.PyArray_DATA(array)


cdef trnn_matrix matrix_of(Layer layer, int32_t i) except *:
    """The i-th tensor of a layer, as kernels read it."""
    cdef const trnn_param *param = &layer.tensors[i]
    cdef trnn_matrix matrix
    matrix.weights = layer.ready() + param.offset
    matrix.format = param.format
    matrix.depth = param.cols
    matrix.panels = (param.units + 15) // 16 * param.gates
    matrix.width = 4 if param.gates == 1 else param.gates
    return matrix


cdef const float *vector_of(Layer layer, int32_t i) except? NULL:
    return <const float *> <const void *> (layer.ready() + layer.tensors[i].offset)


def product(str isa, Layer linear, x, y):
    """``y[m] = W x[m] + b`` with the weights of a core layer of kind ``"linear"``: (M, K) to (M, N)."""
    rows, depth = x.shape
    cols = linear.params[0][1][0]
    cdef trnn_product p
    p.matrix = matrix_of(linear, 0)
    p.rows, p.cols = rows, cols
    p.bias = vector_of(linear, 1) if linear.count > 1 else NULL
    p.x = floats(x, (rows, linear.params[0][1][1]))
    p.y = floats(y, (rows, cols))
    p.x_stride, p.y_stride = depth, cols
    cdef cnp.ndarray scratch = aligned_zeros(trnn_product_scratch(p.matrix.format, rows, depth))
    p.scratch = cnp.PyArray_DATA(scratch)
    p.descending = 0
    cdef const table *kernels = kernels_of(isa)
    with nogil:
        kernels.product(&p)
    return y


def cell(str isa, Layer layer, gates, h, c, y):
    """One step of an RNN, LSTM or GRU for B rows, with the hidden weights of a core layer.

    ``gates`` is the input's part, (B, gates * 16 * ceil(H / 16)) in packed order; ``h`` (B, H or P),
    ``c`` (B, H) or None, ``y`` (B, H). ``c`` is updated in place.
    """
    cdef trnn_cell p
    cdef int32_t units = layer.tensors[1].units
    rows, depth = h.shape
    wide = layer.tensors[1].gates * 16 * ((units + 15) // 16)
    p.hidden = matrix_of(layer, 1)
    p.rows, p.units = rows, units
    p.gates = floats(gates, (rows, wide))
    p.input = NULL
    p.bias_hh = vector_of(layer, 3) if layer.argument("bias") else NULL
    p.h = floats(h, (rows, layer.params[1][1][1]))
    p.c = NULL if c is None else floats(c, (rows, units))
    p.y = floats(y, (rows, units))
    p.gates_stride, p.h_stride, p.c_stride, p.y_stride = wide, depth, units, units
    cdef cnp.ndarray scratch = aligned_zeros(trnn_product_scratch(p.hidden.format, rows, depth))
    p.scratch = cnp.PyArray_DATA(scratch)
    p.relu, p.descending = layer.argument("relu"), 0
    p.tape = NULL
    cdef const table *kernels = kernels_of(isa)
    cdef str kind = layer.kind
    if kind == "lstm" and c is None:
        raise ValueError("an lstm needs c")
    if kind == "lstm":
        kernels.lstm(&p)
    elif kind == "gru":
        kernels.gru(&p)
    elif kind == "rnn":
        kernels.rnn(&p)
    else:
        raise ValueError(f"{kind} is not a cell")
    return y


MAPS = ("exp", "sigmoid", "tanh", "relu", "leaky_relu")


def map(str isa, str name, x, y, float slope=0.0):
    """``y = name(x)`` for each number; ``name`` is one of `MAPS`. ``y`` may be ``x``."""
    cdef trnn_map which = <trnn_map> <int> MAPS.index(name)
    cdef const float *source = floats(x)
    cdef float *target = floats(y, x.shape)
    cdef size_t n = x.size
    cdef const table *kernels = kernels_of(isa)
    with nogil:
        kernels.map_f32(which, source, target, n, slope)
    return y


def softmax(str isa, x, y, bint log=False):
    """Softmax of the numbers of ``x``, (n,), or its logarithm. ``y`` may be ``x``."""
    kernels_of(isa).softmax_f32(floats(x), floats(y, x.shape), x.size, log)
    return y


def layer_norm(str isa, x, y, float eps=1e-5, weight=None, bias=None):
    """Normalise the numbers of ``x``, (n,); ``weight`` and ``bias`` (n,) or None. ``y`` may be ``x``."""
    kernels_of(isa).layer_norm_f32(
        floats(x), floats(y, x.shape), x.size, eps,
        NULL if weight is None else floats(weight, x.shape), NULL if bias is None else floats(bias, x.shape))
    return y


def read(str isa, x, int repeat=1):
    """Read ``x`` ``repeat`` times at the speed of memory: the floor of what must read it. Its sum."""
    cdef const float *source = floats(x)
    cdef size_t n = x.size
    cdef float total = 0
    cdef const table *kernels = kernels_of(isa)
    with nogil:
        for _ in range(repeat):
            total = kernels.read_f32(source, n)
    return total


def peak(str isa, size_t rounds):
    """Run independent multiply-adds; returns how many (of single floats)."""
    cdef size_t numbers = 0
    cdef const table *kernels = kernels_of(isa)
    with nogil:
        kernels.peak_f32(rounds, &numbers)
    return numbers
