# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The core, seen from Python: memory, checks and statuses; no arithmetic.

Design
------
A. ``Layer`` holds one C layer and its packed weights. Weights are laid out on first use, so that a
   net can be described, and checked against a file, before it takes any memory. Several nets may
   hold the same Layer.
B. ``Plan`` is a list of Layers laid out for a frame, a batch and a block of steps. It is const once
   made: any number of calls and streams may run it at once.
C. ``Stream`` is a Plan with a state and a scratch of its own. One thread at a time may use it; a
   second one gets an error, not a race, whether it steps or touches the state by name.
D. Arrays are looked at through NumPy's C interface, which costs a few instructions where a typed
   memoryview costs thousands. The GIL is released around every kernel.
E. ``check`` is the one door through which a C status becomes a Python exception.
"""

import builtins
import os

import numpy as np

from tinyrnn import errors
from tinyrnn.arrays import aligned_zeros, as_floats, as_indices

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, uintptr_t

cnp.import_array()


cdef int check(trnn_status status, str what) except -1:
    """Raises the Python exception that status.def names for ``status``."""
    if status == TRNN_OK:
        return 0
    cdef str name = trnn_status_exception(status).decode()
    raise (getattr(errors, name, None) or getattr(builtins, name))(
        f"{what}: {trnn_status_text(status).decode()}"
    )


# ---- instruction sets ---------------------------------------------------------------------------

cdef const trnn_kernels *_isas[16]
cdef int32_t _isa_count = trnn_isa_list(_isas, 16)
cdef const trnn_kernels *_isa = _isas[_isa_count - 1]


def available_isas():
    """The instruction sets that this build holds and this machine can run, the best one last."""
    return [trnn_isa_name(_isas[i]).decode() for i in range(_isa_count)]


cdef const trnn_kernels *isa_named(str name) except NULL:
    for i in range(_isa_count):
        if trnn_isa_name(_isas[i]).decode() == name:
            return _isas[i]
    raise ValueError(f"instruction set {name!r} is not available here, expected one of {available_isas()}")


def isa():
    """The name of the instruction set in use."""
    return trnn_isa_name(_isa).decode()


def set_isa(name=None):
    """Choose the instruction set for every net and stream from now on.

    Parameters
    ----------
    name : str, optional
        One of `available_isas`; by default the best that this machine has.

    Raises
    ------
    ValueError
        If this build or this machine does not have it.
    """
    global _isa
    _isa = _isas[_isa_count - 1] if name is None else isa_named(name)


def is_fused(name):
    """Whether an instruction set has a fused multiply-add, and so gives the bits that all such give."""
    return bool(trnn_isa_fused(isa_named(name)))


try:
    set_isa(os.environ.get("TINYRNN_ISA") or None)
except ValueError as error:
    raise ValueError(f"environment variable TINYRNN_ISA: {error}") from None


# ---- layers -------------------------------------------------------------------------------------

cdef dict _kinds = {trnn_kind_name(<trnn_kind> i).decode(): i for i in range(TRNN_LAYER_COUNT)}


cdef class Layer:
    """One C layer.

    Parameters
    ----------
    kind : str
        A name of layers.def, such as ``"lstm"``.
    **arguments
        The fields of that kind's arguments in tinyrnn.h; what is not named is 0.

    Attributes
    ----------
    params : list of (str, tuple)
        Name and shape of every tensor, in PyTorch's order.
    initialise : callable, optional
        Called with `params` when the weights are first needed and none were loaded: returns one float32
        array for each, always the same ones.
    """

    def __cinit__(self, str kind, **arguments):
        self.weights = NULL
        self.kind = kind
        self.layer.kind = <trnn_kind> _kinds[kind]
        _set_arguments(&self.layer, kind, arguments)
        check(trnn_layer_check(&self.layer), kind)
        self.count = trnn_layer_params(&self.layer, self.tensors)
        self.params = [
            (self.tensors[i].name.decode(),
             tuple([self.tensors[i].shape[axis] for axis in range(self.tensors[i].rank)]))
            for i in range(self.count)
        ]

    @property
    def nbytes(self):
        """Bytes of the packed weights."""
        return trnn_layer_weights_bytes(&self.layer)

    cdef pack(self, list arrays):
        """Lay out the weights from one array per tensor, unless another thread has. They never move again."""
        memory = aligned_zeros(max(self.nbytes, 64))
        if self.weights != NULL:  # from here on the GIL is held
            return
        cdef float *weights = <float *> cnp.PyArray_DATA(memory)
        for i, array in enumerate(arrays):
            trnn_param_pack(&self.tensors[i], weights, <const float *> cnp.PyArray_DATA(array))
        self.memory = memory
        self.weights = weights

    cdef float *ready(self) except? NULL:
        """The weights; drawn by `initialise` if none were loaded."""
        cdef list arrays
        if self.weights == NULL:
            arrays = [] if self.initialise is None else self.initialise(self.params)
            self.pack(arrays)
        return self.weights

    def set(self, int32_t i, tensor):
        """Pack one tensor. Setting a first one leaves the others zero: set them all."""
        array = as_floats(tensor, self.params[i][0])
        if array.shape != self.params[i][1]:
            raise errors.ShapeError(
                f"{self.params[i][0]}: shape {array.shape}, expected {self.params[i][1]}")
        if self.weights == NULL:
            self.pack([])
        trnn_param_pack(&self.tensors[i], self.weights, <const float *> cnp.PyArray_DATA(array))

    def get(self, int32_t i):
        """Unpack one tensor: a new float32 array."""
        array = np.empty(self.params[i][1], dtype=np.float32)
        trnn_param_unpack(&self.tensors[i], self.ready(), <float *> cnp.PyArray_DATA(array))
        return array

    def prepare(self):
        """Lay the weights out and initialise them, unless that is done."""
        self.ready()

    @property
    def is_ready(self):
        """Whether the weights have been laid out."""
        return self.weights != NULL


cdef int _set_arguments(trnn_layer *layer, str kind, dict given) except -1:
    """Fill the union member of ``kind``. A misspelt name or a number beyond int32 is an error."""
    cdef dict left = dict(given)
    if kind in ("rnn", "lstm", "gru"):
        layer.args.recurrent.input_size = left.pop("input_size")
        layer.args.recurrent.hidden_size = left.pop("hidden_size")
        layer.args.recurrent.proj_size = left.pop("proj_size", 0)
        layer.args.recurrent.bias = left.pop("bias", 0)
        layer.args.recurrent.bidirectional = left.pop("bidirectional", 0)
        layer.args.recurrent.relu = left.pop("relu", 0)
    elif kind == "linear":
        layer.args.linear.in_features = left.pop("in_features")
        layer.args.linear.out_features = left.pop("out_features")
        layer.args.linear.bias = left.pop("bias", 0)
    elif kind == "embedding":
        layer.args.embedding.num_embeddings = left.pop("num_embeddings")
        layer.args.embedding.embedding_dim = left.pop("embedding_dim")
    elif kind == "conv1d":
        layer.args.conv1d.in_channels = left.pop("in_channels")
        layer.args.conv1d.out_channels = left.pop("out_channels")
        layer.args.conv1d.kernel_size = left.pop("kernel_size")
        layer.args.conv1d.stride = left.pop("stride")
        layer.args.conv1d.dilation = left.pop("dilation")
        layer.args.conv1d.groups = left.pop("groups")
        layer.args.conv1d.bias = left.pop("bias", 0)
        layer.args.conv1d.pad_left = left.pop("pad_left", 0)
        layer.args.conv1d.pad_right = left.pop("pad_right", 0)
        layer.args.conv1d.padding_mode = TRNN_PAD_REFLECT if left.pop("reflect", 0) else TRNN_PAD_ZEROS
    elif kind in ("layer_norm", "batch_norm"):
        layer.args.norm.size = left.pop("size")
        layer.args.norm.eps = left.pop("eps")
        layer.args.norm.affine = left.pop("affine", 0)
        layer.args.norm.bias = left.pop("bias", 0)
    elif kind == "leaky_relu":
        layer.args.activation.slope = left.pop("slope")
    elif kind in ("softmax", "log_softmax"):
        layer.args.softmax.over_rows = left.pop("over_rows", 0)
    if left:
        raise TypeError(f"{kind}: unexpected arguments {sorted(left)}")
    return 0


# ---- plans --------------------------------------------------------------------------------------

cdef class Plan:
    """Layers laid out for frames of ``(rows, cols)``, a batch, and blocks of ``steps``.

    Makes no layer's weights ready: a plan can be measured before anything is allocated.
    """

    def __cinit__(self, list layers, int32_t rows, int32_t cols, int32_t batch, int32_t steps):
        cdef int32_t count = <int32_t> len(layers)
        cdef trnn_layer *all_layers = <trnn_layer *> PyMem_Malloc(count * sizeof(trnn_layer))
        cdef trnn_frame frame = trnn_frame(rows, cols)
        self.weights = <const float **> PyMem_Malloc(count * sizeof(float *))
        if all_layers == NULL or self.weights == NULL:
            PyMem_Free(all_layers)
            raise MemoryError()
        try:
            for i in range(count):
                all_layers[i] = (<Layer> layers[i]).layer
            self.layers = layers
            self.memory = bytes(trnn_plan_bytes(count))
            self.plan = <const trnn_plan *> <char *> self.memory
            check(
                trnn_plan_init(<void *> self.plan, all_layers, count, frame, batch, steps, &self.sizes),
                "plan",
            )
        finally:
            PyMem_Free(all_layers)

    def __dealloc__(self):
        PyMem_Free(self.weights)

    def ready(self):
        """Make every layer's weights ready to run; returns the plan."""
        for i in range(len(self.layers)):
            self.weights[i] = (<Layer> self.layers[i]).ready()
        return self

    @property
    def batch(self):
        return self.sizes.batch

    @property
    def whole(self):
        """Whether a layer reads the future, so that a call takes at most the plan's steps."""
        return self.sizes.whole

    @property
    def state_bytes(self):
        return self.sizes.state_bytes

    @property
    def scratch_bytes(self):
        return self.sizes.scratch_bytes

    def state_of(self, int32_t layer):
        """(offset, numbers) of a layer's state, in floats."""
        cdef size_t offset, numbers
        if not 0 <= layer < len(self.layers):
            raise IndexError(f"layer {layer} of {len(self.layers)}")
        trnn_plan_state(self.plan, layer, &offset, &numbers)
        return offset, numbers

    cdef trnn_status run_raw(self, float *state, void *scratch, const void *x, float *y, int32_t steps,
                             const int32_t *lengths) noexcept nogil:
        return trnn_run(self.plan, _isa, self.weights, state, scratch,
                        x, y, steps, lengths)

    def run(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths=None):
        """Run whole sequences. Arrays are as `trnn_run` wants them: the caller has checked them."""
        cdef trnn_status status
        cdef cnp.ndarray scratch = aligned_zeros(self.sizes.scratch_bytes)
        cdef void *scratch_data = cnp.PyArray_DATA(scratch)
        cdef void *x_data = cnp.PyArray_DATA(x)
        cdef float *y_data = <float *> cnp.PyArray_DATA(y)
        cdef float *state_data = <float *> cnp.PyArray_DATA(state)
        cdef const int32_t *ends = NULL
        if lengths is not None:
            ends = <const int32_t *> cnp.PyArray_DATA(lengths)
        with nogil:
            status = self.run_raw(state_data, scratch_data, x_data, y_data, steps, ends)
        check(status, "run")


# ---- streams ------------------------------------------------------------------------------------

cdef enum:
    MAX_RANK = 4  # steps, batch, and a frame of rank 2


cdef struct Shape:
    int rank
    cnp.npy_intp dims[MAX_RANK]


cdef class Stream:
    """A plan with a state of its own: what remembers between steps. Made by ``net.stream()``.

    One thread at a time may use a stream; different streams of one net run in parallel.
    """

    cdef Plan plan
    cdef readonly object net
    cdef readonly tuple made_of  # the arguments that make another such stream
    cdef cnp.ndarray numbers, scratch
    cdef Shape frame, frame_out
    cdef int32_t index_count
    cdef bint busy

    def __cinit__(self, net, Plan plan not None, tuple frame, tuple frame_out, int32_t index_count):
        if plan.sizes.whole:
            raise ValueError(
                "a bidirectional layer reads the future and cannot be streamed: call net(x) on whole sequences")
        self.net = net
        self.made_of = (net, plan, frame, frame_out, index_count)
        self.plan = plan.ready()
        set_shape(&self.frame, frame)
        set_shape(&self.frame_out, frame_out)
        self.index_count = index_count
        self.numbers = aligned_zeros(plan.sizes.state_bytes)
        self.scratch = aligned_zeros(plan.sizes.scratch_bytes)

    def step(self, x, out=None):
        """One frame.

        Parameters
        ----------
        x : array_like, float32, frame or (batch, frame)
            One step's input for every row of the batch; the batch axis may be left out when it is 1.
            Integers where the net begins with an embedding.
        out : ndarray, float32, optional
            Written and returned; nothing is allocated then.

        Returns
        -------
        ndarray, float32, out frame or (batch, out frame)

        Raises
        ------
        ShapeError, TypeError, IndexError
            If ``x`` or ``out`` does not fit. The state is as before.
        RuntimeError
            If another thread is using this stream.
        """
        cdef int32_t index
        cdef Shape lead
        lead.rank = 0
        if type(x) is int and self.plan.sizes.indices and self.frame.rank == 0 and self.plan.sizes.batch == 1:
            if not 0 <= x < self.index_count:
                raise IndexError(f"step: index {x} is out of range, expected 0 .. {self.index_count - 1}")
            index = x
            return self.compute(&index, 1, out, &lead, "step")
        cdef cnp.ndarray array = self.input(x, "step")
        self.match(array, &lead, False, "step")
        return self.compute(cnp.PyArray_DATA(array), 1, out, &lead, "step")

    def run(self, x, out=None):
        """A chunk of steps, of any length: the same bits as step by step.

        Parameters
        ----------
        x : array_like, float32, (T, frame) or (T, batch, frame)
            The batch axis may be left out when it is 1. Integers where the net begins with an embedding.
        out : ndarray, float32, optional
            Written and returned; nothing is allocated then.

        Returns
        -------
        ndarray, float32, (T, out frame) or (T, batch, out frame)

        Raises
        ------
        ShapeError, TypeError, IndexError, RuntimeError
            As `step`.
        """
        cdef Shape lead
        cdef cnp.ndarray array = self.input(x, "run")
        self.match(array, &lead, True, "run")
        return self.compute(cnp.PyArray_DATA(array), <int32_t> lead.dims[0], out, &lead, "run")

    def reset(self):
        """Forget everything: the state becomes zeros, as for a new stream."""
        self.idle("reset")
        self.numbers[:] = 0

    def idle(self, str what):
        """Raise RuntimeError if another thread is using the stream."""
        if self.busy:
            raise RuntimeError(f"{what}: the stream is in use by another thread; give each thread a copy()")

    @property
    def raw_state(self):
        """The numbers of the state, (state_bytes / 4,) float32, live."""
        return self.numbers

    @property
    def batch(self):
        return self.plan.sizes.batch

    cdef cnp.ndarray input(self, x, str what):
        """``x`` as the kernels read it; itself if it is that already."""
        cdef int wanted = cnp.NPY_INT32 if self.plan.sizes.indices else cnp.NPY_FLOAT32
        if type(x) is np.ndarray and cnp.PyArray_TYPE(x) == wanted and cnp.PyArray_ISCARRAY_RO(x):
            return x
        if self.plan.sizes.indices:
            return as_indices(x, f"{what}: x", self.index_count)
        return as_floats(x, f"{what}: x")

    cdef int match(self, cnp.ndarray array, Shape *lead, bint timed, str what) except -1:
        """The axes of ``array`` before the frame, if it is ([T,] [batch,] frame)."""
        cdef int axis
        cdef bint fits
        lead.rank = cnp.PyArray_NDIM(array) - self.frame.rank
        fits = lead.rank == timed + 1 or (lead.rank == timed and self.plan.sizes.batch == 1)
        if fits:
            for axis in range(lead.rank):
                lead.dims[axis] = cnp.PyArray_DIM(array, axis)
            for axis in range(self.frame.rank):
                if cnp.PyArray_DIM(array, lead.rank + axis) != self.frame.dims[axis]:
                    fits = False
            if lead.rank == timed + 1 and lead.dims[<int> timed] != self.plan.sizes.batch:
                fits = False
        if not fits:
            frame = tuple([self.frame.dims[axis] for axis in range(self.frame.rank)])
            batches = ((), (1,)) if self.plan.sizes.batch == 1 else ((self.plan.sizes.batch,),)
            wanted = [str((("T",) if timed else ()) + batch + frame).replace("'", "") for batch in batches]
            raise errors.ShapeError(
                f"{what}: x has shape {np.shape(array)}, expected {' or '.join(wanted)}")
        if timed and not 1 <= lead.dims[0] <= 1 << 28:
            raise errors.ShapeError(f"{what}: x has {lead.dims[0]} steps, expected 1 .. {1 << 28}")
        return 0

    cdef compute(self, const void *x, int32_t steps, out, Shape *lead, str what):
        """Run, into ``out`` or a new array of shape (lead, out frame)."""
        cdef int axis
        cdef trnn_status status
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef Shape shape = lead[0]
        for axis in range(self.frame_out.rank):
            shape.dims[shape.rank] = self.frame_out.dims[axis]
            shape.rank += 1
        cdef cnp.ndarray y
        if out is None:
            y = cnp.PyArray_EMPTY(shape.rank, shape.dims, cnp.NPY_FLOAT32, 0)
        else:
            y = self.output(out, &shape, what)
        cdef float *y_data = <float *> cnp.PyArray_DATA(y)
        cdef float *state = <float *> cnp.PyArray_DATA(self.numbers)
        cdef void *scratch = cnp.PyArray_DATA(self.scratch)
        cdef size_t x_bytes = <size_t> steps * sizes.batch * sizes.frame_in.rows * sizes.frame_in.cols * 4
        cdef size_t y_bytes = <size_t> cnp.PyArray_NBYTES(y)
        if overlap(y_data, y_bytes, x, x_bytes) or overlap(y_data, y_bytes, state, sizes.state_bytes):
            raise ValueError(f"{what}: out shares memory with x or with the state")
        if overlap(x, x_bytes, state, sizes.state_bytes):
            raise ValueError(f"{what}: x shares memory with the state")
        self.idle(what)
        self.busy = True
        with nogil:
            status = self.plan.run_raw(state, scratch, x, y_data, steps, NULL)
        self.busy = False
        if status != TRNN_OK:
            what = f"{what}: x must hold 0 .. {self.index_count - 1}" if status == TRNN_E_INDEX else what
            check(status, what)
        return y

    cdef cnp.ndarray output(self, out, Shape *shape, str what):
        """``out``, if it may be written to."""
        cdef int axis
        if not cnp.PyArray_Check(out) or cnp.PyArray_TYPE(out) != cnp.NPY_FLOAT32:
            raise TypeError(
                f"{what}: out is {getattr(out, 'dtype', type(out).__name__)}, expected a float32 ndarray")
        cdef cnp.ndarray y = out
        cdef bint fits = cnp.PyArray_NDIM(y) == shape.rank
        for axis in range(shape.rank):
            fits = fits and cnp.PyArray_DIM(y, axis) == shape.dims[axis]
        if not fits:
            wanted = tuple([shape.dims[axis] for axis in range(shape.rank)])
            raise errors.ShapeError(f"{what}: out has shape {out.shape}, expected {wanted}")
        if not cnp.PyArray_ISCARRAY(y):
            raise ValueError(f"{what}: out must be C-contiguous, aligned and writeable")
        return y


cdef void set_shape(Shape *shape, tuple dims):
    shape.rank = <int> len(dims)
    for axis in range(shape.rank):
        shape.dims[axis] = dims[axis]


cdef inline bint overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) noexcept:
    return <uintptr_t> a < <uintptr_t> b + b_bytes and <uintptr_t> b < <uintptr_t> a + a_bytes
