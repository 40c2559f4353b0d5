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
   second one gets an error, not a race, whether it steps or touches the state by name. A stream that
   shares its batch among threads has a Plan, a scratch and a job for each part of the rows.
D. Arrays are looked at through NumPy's C interface, which costs a few instructions where a typed
   memoryview costs thousands. The GIL is released around every kernel.
E. ``check`` is the one door through which a C status becomes a Python exception.
"""

import builtins
import os

import numpy as np

from tinyrnn import errors
from tinyrnn.arrays import aligned_zeros, as_floats, as_indices, widened
from tinyrnn.threads import run_all

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uintptr_t

cnp.import_array()


cdef int check(trnn_status status, str what) except -1:
    """Raises the Python exception that status.def names for ``status``."""
    if status == TRNN_OK:
        return 0
    cdef str name = trnn_status_exception(status).decode()
    raise (getattr(errors, name, None) or getattr(builtins, name))(
        f"{what}: {trnn_status_text(status).decode()}"
    )


def narrowed(cnp.ndarray numbers, int64_t low, int64_t high):
    """A C-contiguous int64 array as int32; None if a number lies outside ``low .. high``, themselves int32."""
    cdef cnp.ndarray narrow = np.empty_like(numbers, np.int32)
    cdef const int64_t *wide = <const int64_t *> cnp.PyArray_DATA(numbers)
    cdef int32_t *to = <int32_t *> cnp.PyArray_DATA(narrow)
    cdef cnp.npy_intp i
    for i in range(cnp.PyArray_SIZE(numbers)):
        if wide[i] < low or wide[i] > high:
            return None
        to[i] = <int32_t> wide[i]
    return narrow


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


cdef const trnn_kernels *isa_in_use() noexcept nogil:
    return _isa


# What is wrong with the environment's TINYRNN_ISA, in words; None where nothing is.
isa_problem = None
_asked = os.environ.get("TINYRNN_ISA", "").strip()
if _asked in available_isas():
    set_isa(_asked)
elif _asked:
    isa_problem = (
        f"environment variable TINYRNN_ISA: got {_asked[:40]!r}, expected one of "
        f"{' '.join(available_isas())} (what this build has and this machine can run)"
    )
    from tinyrnn.environment import warn_of_isa

    warn_of_isa(f"{isa_problem}; the best one is used, {isa()}")


# ---- layers -------------------------------------------------------------------------------------

FORMATS = tuple([trnn_format_name(<trnn_format> i).decode() for i in range(TRNN_FORMAT_COUNT)])

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

    def __cinit__(self, str kind, *, Layer like=None, int format=0, **arguments):
        self.weights = NULL
        self.kind = kind
        if like is not None:
            self.layer = like.layer
            self.layer.format = <trnn_format> format
        else:
            self.layer.kind = <trnn_kind> _kinds[kind]
            self.layer.format = TRNN_F32
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

    @property
    def format(self):
        """What its matrices are kept as: one of `FORMATS`."""
        return FORMATS[<int> self.layer.format]

    @property
    def matrices(self):
        """Indices of the params that a format applies to; the others are float32."""
        return tuple([i for i in range(self.count) if self.tensors[i].rank > 1])

    def reformatted(self, str format):
        """A layer of the same kind and arguments in another format, without weights."""
        if format not in FORMATS:
            raise ValueError(f"format {format!r}, expected one of {', '.join(FORMATS)}")
        if format != "float32" and not self.matrices:
            raise ValueError(f"{self.kind}: has no matrix that could be {format}")
        cdef Layer other = Layer.__new__(Layer, self.kind, like=self, format=FORMATS.index(format))
        other.initialise = self.initialise
        return other

    cdef allocate(self):
        """Zeros for the weights, unless another thread has made some. They never move again."""
        memory = aligned_zeros(max(self.nbytes, 64))
        if self.weights == NULL:  # from here on the GIL is held
            self.memory = memory
            self.weights = <char *> cnp.PyArray_DATA(memory)

    cdef pack(self, int32_t i, numbers, scales):
        """Lay out one tensor. The arrays are as `trnn_param_pack` wants them: the caller has checked them."""
        cdef float *scales_data = NULL if scales is None else <float *> cnp.PyArray_DATA(scales)
        trnn_param_pack(&self.tensors[i], self.weights, cnp.PyArray_DATA(numbers), scales_data)

    cdef const char *ready(self) except? NULL:
        """The weights; drawn by `initialise` if none were loaded."""
        cdef list arrays
        if self.weights == NULL:
            arrays = [] if self.initialise is None else self.initialise(self.params)
            if arrays and self.layer.format != TRNN_F32:
                raise RuntimeError(f"{self.kind}: a layer in {self.format} needs its weights before it runs")
            if self.weights == NULL:
                self.allocate()
                for i, array in enumerate(arrays):
                    self.pack(i, array, None)
        return self.weights

    def set(self, int32_t i, tensor):
        """Pack one float32 tensor. Setting a first one leaves the others zero: set them all."""
        name, shape = self.params[i]
        if self.tensors[i].format != TRNN_F32:
            raise TypeError(f"{name}: is kept as {self.format}, set its codes")
        array = as_floats(tensor, name)
        if array.shape != shape:
            raise errors.ShapeError(f"{name}: shape {array.shape}, expected {shape}")
        if self.weights == NULL:
            self.allocate()
        self.pack(i, array, None)

    def set_codes(self, int32_t i, codes, scales=None):
        """Pack one matrix of a layer whose format is not float32: number = code * scale.

        Parameters
        ----------
        i : int
            Of `matrices`.
        codes : ndarray, of the tensor's shape
            uint16, the bits of float16 or bfloat16 numbers; int8 in -127 .. 127 for int8, in -8 .. 7 for int4.
        scales : ndarray, float32, optional
            With rows = shape[0] and cols the rest: (rows,) for int8; (rows, ceil(cols / 32)) for int4, each a
            bfloat16. None for the others.

        Raises
        ------
        TypeError, ShapeError, ValueError
            If they are not so. The weights are as before.
        """
        name, shape = self.params[i]
        kind, scales_shape = self.code_kind(i)
        for what, array, dtype, wanted in ((name, codes, kind, shape),
                                           (f"{name}_scale", scales, np.float32, scales_shape)):
            if wanted is None:
                if array is not None:
                    raise TypeError(f"{what}: given, but {self.format} has no scales")
                continue
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"{what}: {getattr(array, 'dtype', type(array).__name__)}, expected "
                                f"{np.dtype(dtype)} for {self.format}")
            if array.shape != wanted:
                raise errors.ShapeError(f"{what}: shape {array.shape}, expected {wanted}")
        if scales is not None:
            low, high = (-127, 127) if self.layer.format == TRNN_INT8 else (-8, 7)
            if codes.size and (codes.min() < low or codes.max() > high):
                raise ValueError(f"{name}: codes {codes.min()} .. {codes.max()}, expected {low} .. {high}")
            scales = np.ascontiguousarray(scales)
            if not np.isfinite(scales).all():
                raise ValueError(f"{name}_scale: not all scales are finite")
            if self.layer.format == TRNN_INT4 and (scales.view(np.uint32) & 0xFFFF).any():
                raise ValueError(f"{name}_scale: not all scales are bfloat16 numbers")
        elif self.layer.format == TRNN_F16 and ((codes & 0x7C00) == 0x7C00).any():
            raise ValueError(f"{name}: not all numbers are finite")
        if self.weights == NULL:
            self.allocate()
        self.pack(i, np.ascontiguousarray(codes), scales)

    def codes(self, int32_t i):
        """Unpack one matrix of a layer whose format is not float32: (codes, scales or None), as set."""
        kind, scales_shape = self.code_kind(i)
        numbers = np.empty(self.params[i][1], kind)
        scales = None if scales_shape is None else np.empty(scales_shape, np.float32)
        cdef float *scales_data = NULL if scales is None else <float *> cnp.PyArray_DATA(scales)
        trnn_param_unpack(&self.tensors[i], self.ready(), cnp.PyArray_DATA(numbers), scales_data)
        return numbers, scales

    cdef code_kind(self, int32_t i):
        """dtype of a matrix's codes, and shape of its scales or None."""
        name, shape = self.params[i]
        cdef trnn_format format = self.tensors[i].format
        if format == TRNN_F32:
            raise TypeError(f"{name}: is float32 and has no codes")
        if format != TRNN_INT8 and format != TRNN_INT4:
            return np.uint16, None
        cols = int(np.prod(shape[1:]))
        return np.int8, (shape[0],) if format == TRNN_INT8 else (shape[0], (cols + 31) // 32)

    def get(self, int32_t i):
        """Unpack one tensor: a new float32 array; of a matrix in another format the numbers it stands for."""
        cdef trnn_format format = self.tensors[i].format
        if format == TRNN_F32:
            array = np.empty(self.params[i][1], dtype=np.float32)
            trnn_param_unpack(&self.tensors[i], self.ready(), cnp.PyArray_DATA(array), NULL)
            return array
        codes, scales = self.codes(i)
        if format == TRNN_F16:
            return codes.view(np.float16).astype(np.float32)
        if format == TRNN_BF16:
            return widened(codes)
        rows = codes.reshape(codes.shape[0], -1).astype(np.float32)
        if format == TRNN_INT8:
            scales = scales[:, np.newaxis]
        else:
            scales = np.repeat(scales, 32, axis=1)[:, :rows.shape[1]]
        return (rows * scales).reshape(codes.shape)

    # ---- for training: flat float32 arrays laid out as the packed weights are ----------------------

    def packed(self):
        """The packed weights themselves, flat float32, for a layer in float32: writing changes the layer."""
        self.trainable()
        self.ready()
        return self.memory[:self.nbytes // 4]

    def gradients(self):
        """The packed gradients, flat float32, laid out as `packed` is; zeros when first asked for."""
        self.trainable()
        if self.grads is None:
            self.grads = aligned_zeros(max(self.nbytes, 64))[:self.nbytes // 4]
        return self.grads

    @property
    def has_gradients(self):
        """Whether `gradients` has been asked for."""
        return self.grads is not None

    def span(self, int32_t i):
        """The place of one tensor in `packed`, padding included: (offset, numbers), in floats."""
        return self.tensors[i].offset // 4, trnn_param_bytes(&self.tensors[i]) // 4

    def unpack_from(self, int32_t i, cnp.ndarray packed):
        """One tensor of a flat array that is laid out as `packed`: a new array."""
        array = np.empty(self.params[i][1], dtype=np.float32)
        trnn_param_unpack(&self.tensors[i], cnp.PyArray_DATA(packed), cnp.PyArray_DATA(array), NULL)
        return array

    def pack_into(self, int32_t i, cnp.ndarray packed, cnp.ndarray tensor):
        """Lay one tensor, C-contiguous float32 of its shape, out in a flat array that is laid out as `packed`."""
        trnn_param_pack(&self.tensors[i], cnp.PyArray_DATA(packed), cnp.PyArray_DATA(tensor), NULL)

    cdef int trainable(self) except -1:
        if self.layer.format != TRNN_F32:
            raise TypeError(f"{self.kind}: is kept as {self.format}; only float32 layers train")
        return 0

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
        layer.args.embedding.padding = left.pop("padding", 0)
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
        layer.args.norm.momentum = left.pop("momentum", 0)
    elif kind == "dropout":
        layer.args.dropout.p = left.pop("p")
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
        self.weights = <const void **> PyMem_Malloc(count * sizeof(void *))
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

    @property
    def frame_out(self):
        """(rows, cols) of the frames that the last layer writes."""
        return self.sizes.frame_out.rows, self.sizes.frame_out.cols

    def state_of(self, int32_t layer):
        """(offset, numbers) of a layer's state within a row's, in floats."""
        cdef size_t offset, numbers
        if not 0 <= layer < len(self.layers):
            raise IndexError(f"layer {layer} of {len(self.layers)}")
        trnn_plan_state(self.plan, layer, &offset, &numbers)
        return offset, numbers

    def run(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths=None,
            *, int32_t first=0, int32_t stride=0):
        """Run whole sequences. Arrays are as `trnn_run` wants them: the caller has checked them.

        The plan's batch is the rows from ``first`` on of arrays with ``stride`` rows a step, or if that is 0
        with as many as the batch.
        """
        cdef Part part = Part(self, first, stride)
        part.point(cnp.PyArray_DATA(x), <float *> cnp.PyArray_DATA(y), <float *> cnp.PyArray_DATA(state), steps)
        if lengths is not None:
            part.job.lengths = <int32_t *> cnp.PyArray_DATA(lengths) + first
        check(part.run(), "run")


cdef class Part:
    """Some rows of a batch, ready to run: a plan for so many, a scratch, and the job."""

    cdef Plan plan
    cdef cnp.ndarray scratch
    cdef trnn_job job
    cdef int32_t first

    def __cinit__(self, Plan plan not None, int32_t first, int32_t stride):
        cdef const trnn_sizes *sizes = &plan.sizes
        self.plan = plan
        self.scratch = aligned_zeros(sizes.scratch_bytes + (sizes.part_bytes if stride else 0))
        self.first = first
        self.job.weights = plan.weights
        self.job.scratch = cnp.PyArray_DATA(self.scratch)
        self.job.lengths = NULL
        self.job.stride = stride
        self.job.backwards = 0

    cdef void point(self, const void *x, float *y, float *state, int32_t steps):
        """What to work on: the whole batch's arrays."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t first = self.first
        self.job.isa = _isa
        self.job.x = <const char *> x + first * sizes.frame_in.rows * sizes.frame_in.cols * 4
        self.job.y = y + first * sizes.frame_out.rows * sizes.frame_out.cols
        self.job.state = state + first * (sizes.state_bytes // sizes.batch // 4)
        self.job.steps = steps

    cdef trnn_status run(self):
        cdef trnn_status status
        with nogil:
            status = trnn_run(self.plan.plan, &self.job)
        self.job.backwards = (self.job.backwards + self.job.steps) & 1
        return status

    def __call__(self):
        """Run, as a task of `threads`."""
        check(self.run(), "run")


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
    cdef cnp.ndarray numbers
    cdef list parts
    cdef Part whole  # the only part, where there is one
    cdef Shape frame, frame_out
    cdef int32_t index_count
    cdef bint busy

    def __cinit__(self, net, Plan plan not None, tuple frame, tuple frame_out, int32_t index_count,
                  list parts=None):
        """``parts``: (first row, plan) of what each thread takes; None for one thread."""
        if plan.sizes.whole:
            raise ValueError(
                "a bidirectional layer reads the future and cannot be streamed: call net(x) on whole sequences")
        self.net = net
        self.made_of = (net, plan, frame, frame_out, index_count, parts)
        self.plan = plan.ready()
        set_shape(&self.frame, frame)
        set_shape(&self.frame_out, frame_out)
        self.index_count = index_count
        self.numbers = aligned_zeros(plan.sizes.state_bytes)
        if parts is None:
            self.whole = Part(plan, 0, 0)
            self.parts = [self.whole]
        else:
            self.parts = [Part((<Plan> part).ready(), first, plan.sizes.batch) for first, part in parts]

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
        if cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(x) == wanted and cnp.PyArray_ISCARRAY_RO(x):
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
        cdef size_t x_bytes = <size_t> steps * sizes.batch * sizes.frame_in.rows * sizes.frame_in.cols * 4
        cdef size_t y_bytes = <size_t> cnp.PyArray_NBYTES(y)
        if overlap(y_data, y_bytes, x, x_bytes) or overlap(y_data, y_bytes, state, sizes.state_bytes):
            raise ValueError(f"{what}: out shares memory with x or with the state")
        if overlap(x, x_bytes, state, sizes.state_bytes):
            raise ValueError(f"{what}: x shares memory with the state")
        if self.busy:
            self.idle(what)
        self.busy = True
        try:
            status = self.run_parts(x, y_data, state, steps)
        finally:
            self.busy = False
        if status != TRNN_OK:
            what = f"{what}: x must hold 0 .. {self.index_count - 1}" if status == TRNN_E_INDEX else what
            check(status, what)
        return y

    cdef trnn_status run_parts(self, const void *x, float *y, float *state, int32_t steps) except *:
        cdef Part part
        if self.whole is not None:
            self.whole.point(x, y, state, steps)
            return self.whole.run()
        for part in self.parts:
            part.point(x, y, state, steps)
        run_all(self.parts)
        return TRNN_OK

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


# ---- what the core lends to the modules of training, which are not linked with it -----------------

# ---- lent: the tape

cdef size_t lent_training_bytes(int32_t layers) noexcept nogil:
    return trnn_training_bytes(layers)


cdef trnn_status lent_training_init(void *memory, const trnn_layer *layers, int32_t count, trnn_frame frame,
                                    int32_t batch, int32_t steps, trnn_training_sizes *sizes) noexcept nogil:
    return trnn_training_init(memory, layers, count, frame, batch, steps, sizes)


cdef trnn_status lent_training_check(const trnn_training *training, const trnn_training_job *job) noexcept nogil:
    return trnn_training_check(training, job)


cdef void lent_forward(const trnn_training *training, const trnn_training_job *job, int32_t stage) noexcept nogil:
    trnn_forward(training, job, stage)


cdef void lent_backward(const trnn_training *training, const trnn_training_job *job, int32_t stage) noexcept nogil:
    trnn_backward(training, job, stage)


cdef void lent_gradients(const trnn_training *training, const trnn_training_job *job) noexcept nogil:
    trnn_gradients(training, job)


# ---- lent: losses

cdef str lent_loss_name(trnn_loss_kind kind):
    return trnn_loss_name(kind).decode()


cdef int lent_loss_check(const trnn_loss *loss, str what) except -1:
    return check(trnn_loss_check(loss), what)


cdef size_t lent_loss_scratch_bytes(const trnn_loss *loss, int32_t steps, int32_t batch, size_t numbers,
                                    int32_t target_steps) noexcept nogil:
    return trnn_loss_scratch_bytes(loss, steps, batch, numbers, target_steps)


cdef trnn_status lent_loss_run(const trnn_loss *loss, const trnn_loss_job *job, double *value) noexcept nogil:
    return trnn_loss_run(loss, job, value)


# ---- lent: optimisers

cdef str lent_optimiser_name(int32_t optimiser):
    return trnn_optimiser_name(<trnn_optimiser> optimiser).decode()


cdef str lent_optimiser_state(int32_t optimiser, int32_t i):
    return trnn_optimiser_state(<trnn_optimiser> optimiser, i).decode()


cdef bint lent_rule_uses(const trnn_rule *rule, int32_t i) noexcept nogil:
    return trnn_rule_uses(rule, i)


cdef size_t lent_spans_pieces(const trnn_span *spans, int32_t count) noexcept nogil:
    return trnn_spans_pieces(spans, count)


cdef void lent_spans_measure(const trnn_span *spans, int32_t count, double *sums,
                             int32_t part, int32_t parts) noexcept nogil:
    trnn_spans_measure(_isa, spans, count, sums, part, parts)


cdef double lent_spans_norm(const trnn_span *spans, int32_t count, const double *sums, int32_t *bad) noexcept nogil:
    return trnn_spans_norm(spans, count, sums, bad)


cdef float lent_clip_scale(double norm, double max_norm) noexcept nogil:
    return trnn_clip_scale(norm, max_norm)


cdef void lent_spans_update(const trnn_span *spans, int32_t count, float scale, float limit,
                            int32_t part, int32_t parts) noexcept nogil:
    trnn_spans_update(_isa, spans, count, scale, limit, part, parts)


cdef void lent_spans_count(trnn_span *spans, int32_t count) noexcept nogil:
    trnn_spans_count(spans, count)


cdef void lent_spans_clip(const trnn_span *spans, int32_t count, float scale, float limit,
                          int32_t part, int32_t parts) noexcept nogil:
    trnn_spans_clip(_isa, spans, count, scale, limit, part, parts)


cdef void lent_spans_clear(const trnn_span *spans, int32_t count, int32_t part, int32_t parts) noexcept nogil:
    trnn_spans_clear(spans, count, part, parts)
