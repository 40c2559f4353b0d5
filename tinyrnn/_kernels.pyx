# cython: boundscheck=False, wraparound=False
"""The window for tests and benchmarks: the kernels of every built instruction set, by name.

``isa`` is a name of `available_isas`. Arrays are C-contiguous float32 and ``y`` is written and
returned; shapes are checked, contents are not. Nothing in the package imports this, and wheels lack it.
Cells without a product with ``h`` are not here: their layers reach them, and `tests/c`. `_core` has the two
kernels that measure a machine.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int32_t
from libc.string cimport memset

from tinyrnn._core cimport Layer, aligned_zeros, isa_named, write_arguments
from tinyrnn._tinyrnn_h cimport *

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

    ctypedef struct trnn_recurrent_args:
        pass

    ctypedef struct trnn_cell:
        trnn_matrix hidden
        int32_t rows, units
        const trnn_recurrent_args *args
        const float *gates
        const trnn_product *input
        const float *bias_hh
        const float *vectors
        const float *h
        const float *before
        const float *between
        float *states
        float *y
        size_t gates_stride, h_stride, before_stride, states_stride, y_stride
        void *scratch
        float *tape
        float *tape_h

    ctypedef struct trnn_cell_back:
        int32_t rows, units
        const trnn_recurrent_args *args
        float *gates
        float *hidden
        float *between
        const float *vectors
        float *dvectors
        const float *dy
        const float *dh_sum
        float *dh_own
        const float *h_before
        const float *states_before
        float *dstates
        size_t gates_stride, dvectors_stride, dy_stride, h_stride, states_stride

    ctypedef struct trnn_gradient_term:
        int32_t depth
        const float *x
        size_t x_stride
        float *dw
        float *db

    ctypedef struct trnn_weight_gradient:
        int32_t rows, cols, panels, width
        const float *dy
        size_t dy_stride
        int32_t part, parts, terms
        trnn_gradient_term term[2]

    ctypedef struct trnn_update:
        const trnn_rule *rule
        int32_t plain
        float scale, limit, weight_decay, l1, keep, rate, first, first_new, second, second_new, eps

    size_t trnn_product_scratch(trnn_format format, int32_t rows, int32_t depth)
    size_t trnn_group_bytes(trnn_format format, int32_t width, int32_t depth)


ctypedef void (*step)(const trnn_cell *) noexcept nogil
ctypedef void (*step_back)(const trnn_cell_back *) noexcept nogil


cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct table "trnn_kernels":
        void (*product)(const trnn_product *) noexcept nogil
        step rnn, lstm, lstm_peephole, lstm_coupled, gru, gru_before_round1, gru_before
        step rnn_taped, lstm_taped, lstm_peephole_taped, lstm_coupled_taped, gru_taped, gru_before_taped
        step_back rnn_back, lstm_back, lstm_peephole_back, lstm_coupled_back, gru_back, gru_before_back
        step_back gru_before_round1_back
        void (*biases_f32)(const float *, const float *, float *, size_t, int32_t, uint32_t) noexcept nogil
        void (*weight_gradient)(const trnn_weight_gradient *) noexcept nogil
        void (*softmax_f32)(const float *, float *, size_t, int) noexcept nogil
        void (*layer_norm_f32)(const float *, float *, size_t, float, const float *, const float *) noexcept nogil
        void (*norm_scale_f32)(float *, float *, size_t, float, const float *, const float *, const float *,
                               const float *) noexcept nogil
        void (*affine_f32)(const float *, float *, size_t, const float *, const float *) noexcept nogil
        void (*update_sgd)(const trnn_update *, size_t, float *, const float *, float *const *) noexcept nogil
        void (*update_rmsprop)(const trnn_update *, size_t, float *, const float *, float *const *) noexcept nogil
        void (*update_adagrad)(const trnn_update *, size_t, float *, const float *, float *const *) noexcept nogil
        void (*update_adam)(const trnn_update *, size_t, float *, const float *, float *const *) noexcept nogil
        void (*clip_f32)(float *, size_t, float, float) noexcept nogil
        double (*squares_f32)(const float *, size_t) noexcept nogil


cdef const table *kernels_of(str isa) except NULL:
    return <const table *> isa_named(isa)


cdef float *floats(array, tuple shape=None) except? NULL:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise TypeError("kernel: got another array, expected a C-contiguous float32 array")
    if shape is not None and array.shape != shape:
        raise ValueError(f"kernel: got shape {array.shape}, expected {shape}")
    return <float *> cnp.PyArray_DATA(array)


cdef trnn_matrix matrix_of(Layer layer, int32_t i, bint second=False) except *:
    """The i-th tensor of a layer, or its gates of the second round, as kernels read it."""
    cdef const trnn_param *param = &layer.tensors[i]
    cdef int32_t first = param.gates - param.second, gates = param.second if second else first
    cdef int32_t panels = (param.units + 15) // 16
    cdef trnn_matrix matrix
    cdef size_t skipped = panels * first * trnn_group_bytes(param.format, 1, param.cols) if second else 0
    matrix.weights = layer.ready() + param.offset + skipped
    matrix.format = param.format
    matrix.depth = param.cols
    matrix.panels = panels * gates
    matrix.width = 4 // gates * gates
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


cdef dict KINDS = {"rnn": 0, "lstm": 1, "gru": 2, "lstm_coupled": 3, "gru_before": 4, "lstm_peephole": 5}
ctypedef void (*updater)(const trnn_update *, size_t, float *, const float *, float *const *) noexcept nogil


cdef size_t wide(Layer layer):
    """Numbers of a row of gates in packed order."""
    return layer.tensors[1].gates * 16 * ((layer.tensors[1].units + 15) // 16)


cdef const trnn_recurrent_args *arguments_of(Layer layer) noexcept:
    """The arguments of a cell."""
    return <const trnn_recurrent_args *> (<const char *> &layer.layer + trnn_layer_arguments(&layer.layer).offset)


cdef float *optional(array, tuple shape) except? NULL:
    return NULL if array is None else floats(array, shape)


def cell(str isa, Layer layer, gates, h, c, y, tape=None, tape_h=None):
    """One step of a recurrent layer for B rows, with the hidden weights of a core layer.

    ``gates`` is the input's part, (B, gates * 16 * ceil(H / 16)) in packed order; ``h`` (B, H or P),
    ``c`` (B, H) or None, ``y`` (B, H). ``c`` is updated in place. ``tape`` takes the gates' activations, as
    ``gates`` has them, and ``tape_h`` a GRU's hidden parts; ``tape`` may be ``gates``.
    """
    cdef trnn_cell p
    cdef const table *kernels = kernels_of(isa)
    if layer.kind not in KINDS:
        raise ValueError(f"cell: got a layer of kind {layer.kind}, expected one of {', '.join(KINDS)}")
    if layer.kind.startswith("lstm") and c is None:
        raise ValueError("cell: c is None, expected an array for an lstm")
    if layer.kind == "gru" and (tape is None) != (tape_h is None):
        raise ValueError("cell: got one tape, expected tape and tape_h or neither for a gru")
    cdef step *plain = [kernels.rnn, kernels.lstm, kernels.gru, kernels.lstm_coupled, kernels.gru_before,
                        kernels.lstm_peephole]
    cdef step *taped = [kernels.rnn_taped, kernels.lstm_taped, kernels.gru_taped,
                        kernels.lstm_coupled_taped, kernels.gru_before_taped, kernels.lstm_peephole_taped]
    cdef step *run = plain if tape is None else taped
    cdef size_t sums = wide(layer)
    rows, depth = h.shape
    memset(&p, 0, sizeof(p))
    p.hidden = matrix_of(layer, 1)
    p.rows, p.units = rows, layer.tensors[1].units
    p.gates_stride, p.h_stride, p.states_stride, p.y_stride = sums, depth, p.units, p.units
    p.gates = floats(gates, (rows, p.gates_stride))
    cdef cnp.ndarray first_values = np.empty(2 * sums, np.float32)
    if layer.kind == "gru" and layer.argument("bias"):
        kernels.biases_f32(vector_of(layer, 2), vector_of(layer, 3), floats(first_values), sums, 3, 1 << 2)
        p.bias_hh = floats(first_values) + sums
    p.h = p.before = floats(h, (rows, layer.params[1][1][1]))
    p.before_stride = depth
    p.states = optional(c, (rows, p.units))
    p.y = floats(y, (rows, p.units))
    p.tape = optional(tape, (rows, p.gates_stride))
    p.tape_h = optional(tape_h, (rows, p.gates_stride))
    p.args = arguments_of(layer)
    cdef cnp.ndarray scratch = aligned_zeros(trnn_product_scratch(p.hidden.format, rows, depth))
    p.scratch = cnp.PyArray_DATA(scratch)
    cdef size_t first = sums // 3 * 2
    if layer.kind == "lstm_peephole":
        p.vectors = vector_of(layer, layer.count - 1)
    if layer.kind == "gru_before":
        between, m = np.zeros((rows, p.gates_stride), np.float32) if tape is None else tape, np.empty_like(y)
        p.tape, p.y = floats(between), floats(m)
        kernels.gru_before_round1(&p)
        p.between = p.tape
        p.hidden, p.h, p.y = matrix_of(layer, 1, True), floats(m), floats(y)
        p.gates, p.tape = p.gates + first, NULL if tape is None else p.tape + first
    run[<int> KINDS[layer.kind]](&p)
    return y


def cell_back(str isa, Layer layer, tape, tape_h, dh, dh_own, h_before, c_before, dc, dy=None, dm=None,
              dvectors=None):
    """The step backwards, from what `cell` left: ``tape`` and ``tape_h`` become the gradients of their sums.

    All others are (B, H), or None where a kind does without: ``dh`` is the gradient of h' by its sums,
    ``dh_own`` a GRU's by its state, which becomes that of ``h_before``; ``dc`` becomes that of ``c_before``;
    ``dy`` is added to ``dh``; ``dm`` is the gradient of what the first of two rounds gives.
    """
    cdef trnn_cell_back p
    cdef const table *kernels = kernels_of(isa)
    cdef step_back *run = [kernels.rnn_back, kernels.lstm_back, kernels.gru_back,
                           kernels.lstm_coupled_back, kernels.gru_before_back, kernels.lstm_peephole_back]
    lstm = (c_before, dc)
    needs = [(), lstm, (tape_h, dh_own, h_before), lstm, (dh_own, h_before, dm), (*lstm, dvectors)]
    wanted = needs[KINDS[layer.kind]]
    if any([array is None for array in wanted]):
        raise ValueError(f"{layer.kind}: got None, expected an array in each place that the kind uses")
    rows, units = dh.shape
    memset(&p, 0, sizeof(p))
    p.rows, p.units = rows, layer.tensors[1].units
    p.gates_stride, p.h_stride, p.dy_stride, p.states_stride = wide(layer), p.units, p.units, p.units
    p.gates = floats(tape, (rows, p.gates_stride))
    p.hidden = optional(tape_h, (rows, p.gates_stride))
    p.dy = optional(dy, (rows, p.units))
    p.dh_sum = floats(dh, (rows, p.units))
    p.dh_own = optional(dh_own, (rows, p.units))
    p.h_before = optional(h_before, (rows, p.units))
    p.states_before = optional(c_before, (rows, p.units))
    p.dstates = optional(dc, (rows, p.units))
    p.args = arguments_of(layer)
    if layer.kind == "lstm_peephole":
        p.vectors, p.dvectors_stride = vector_of(layer, layer.count - 1), wide(layer) // 4 * 3
        p.dvectors = floats(dvectors, (rows, p.dvectors_stride))
    if layer.kind == "gru_before":
        p.between = p.gates
        p.gates += wide(layer) // 3 * 2
    run[<int> KINDS[layer.kind]](&p)
    if layer.kind == "gru_before":
        p.gates, p.dh_sum = p.between, floats(dm, (rows, p.units))
        kernels.gru_before_round1_back(&p)


def weight_gradient(str isa, Layer linear, dy, x, dw, int32_t part=0, int32_t parts=1):
    """Add the part's share of the gradients of a core layer of kind ``"linear"``.

    They go to ``dw``, flat and laid out as its weights, from ``dy`` (M, N) and ``x`` (M, K).
    """
    cdef trnn_weight_gradient p
    cdef trnn_matrix matrix = matrix_of(linear, 0)
    rows, cols = dy.shape
    memset(&p, 0, sizeof(p))
    p.rows, p.cols, p.panels, p.width = rows, cols, matrix.panels, matrix.width
    p.dy = floats(dy, (rows, linear.params[0][1][0]))
    p.dy_stride = cols
    p.part, p.parts, p.terms = part, parts, 1
    p.term[0].depth, p.term[0].x_stride = matrix.depth, matrix.depth
    p.term[0].x = floats(x, (rows, linear.params[0][1][1]))
    p.term[0].dw = floats(dw, (linear.nbytes // 4,)) + linear.tensors[0].offset // 4
    p.term[0].db = floats(dw) + linear.tensors[1].offset // 4 if linear.count > 1 else NULL
    kernels_of(isa).weight_gradient(&p)
    return dw


include "_maps.pxi"


def softmax(str isa, x, y, bint log=False):
    """Softmax of the numbers of ``x``, (n,), or its logarithm. ``y`` may be ``x``."""
    kernels_of(isa).softmax_f32(floats(x), floats(y, x.shape), x.size, log)
    return y


def layer_norm(str isa, x, y, float eps=1e-5, weight=None, bias=None):
    """Normalise the numbers of ``x``, (n,); ``weight`` and ``bias`` (n,) or None. ``y`` may be ``x``."""
    kernels_of(isa).layer_norm_f32(
        floats(x), floats(y, x.shape), x.size, eps,
        optional(weight, x.shape), optional(bias, x.shape))
    return y


def norm_scale(str isa, scale, shift, float eps, mean, var, weight=None, bias=None):
    """``scale = weight / sqrt(var + eps)``, ``shift = bias - mean * scale``; (n,) each, both returned."""
    kernels_of(isa).norm_scale_f32(
        floats(scale), floats(shift, scale.shape), scale.size, eps, floats(mean, scale.shape),
        floats(var, scale.shape), optional(weight, scale.shape), optional(bias, scale.shape))
    return scale, shift


def affine(str isa, x, y, scale, shift):
    """``y = x * scale + shift``, (n,) each. ``y`` may be ``x``."""
    kernels_of(isa).affine_f32(
        floats(x), floats(y, x.shape), x.size, floats(scale, x.shape), floats(shift, x.shape))
    return y


def update(str isa, str optimiser, w, g, states, **coefficients):
    """One step of an optimiser over n numbers: ``w`` and ``states``, three arrays or None, from ``g``.

    ``coefficients`` are those of trnn_update; one that is not given changes nothing.
    """
    cdef trnn_update p
    cdef trnn_rule rule
    cdef float *moments[3]
    cdef const table *kernels = kernels_of(isa)
    cdef updater *run = [kernels.update_sgd, kernels.update_rmsprop, kernels.update_adagrad, kernels.update_adam]
    names = ("sgd", "rmsprop", "adagrad", "adam")
    if optimiser not in names:
        raise ValueError(f"update: got {optimiser}, expected the name of an optimiser")
    memset(&p, 0, sizeof(p))
    memset(&rule, 0, sizeof(rule))
    write_arguments(&rule, trnn_rule_arguments(), {"nesterov": coefficients.pop("nesterov", 0)}, optimiser)
    p.rule = &rule
    p.plain = coefficients.pop("plain", 0)
    p.scale, p.limit = coefficients.pop("scale", 1), coefficients.pop("limit", TRNN_NO_LIMIT)
    p.weight_decay, p.l1 = coefficients.pop("weight_decay", 0), coefficients.pop("l1", 0)
    p.keep, p.rate, p.eps = coefficients.pop("keep", 1), coefficients.pop("rate"), coefficients.pop("eps", 1e-8)
    p.first, p.first_new = coefficients.pop("first", 0), coefficients.pop("first_new", 0)
    p.second, p.second_new = coefficients.pop("second", 0), coefficients.pop("second_new", 0)
    if coefficients:
        raise TypeError(f"update: got unexpected coefficients: {', '.join(coefficients)}")
    for i in range(3):
        moments[i] = optional(states[i], w.shape)
    run[<int> names.index(optimiser)](&p, w.size, floats(w), floats(g, w.shape), moments)
    return w


def clip(str isa, x, float scale, float limit):
    """``x = scale * x``, kept within ``+-limit``; a NaN stays."""
    kernels_of(isa).clip_f32(floats(x), x.size, scale, limit)
    return x


def squares(str isa, x):
    """The sum of the squares of ``x``, in double."""
    return kernels_of(isa).squares_f32(floats(x), x.size)
