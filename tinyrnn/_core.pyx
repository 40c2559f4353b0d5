# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The core, seen from Python: memory, checks and statuses; no arithmetic.

Design
------
A. ``Layer`` holds one C layer and its packed weights. Weights are laid out on first use, so that a
   net can be described, and checked against a file, before it takes any memory. Several nets may
   hold the same Layer.
B. ``Plan`` is a list of Layers laid out for a frame, a batch and a block of steps. It is const once
   made, but for live arguments (`Layer.set_argument`), which its next run takes over: any number of calls
   and streams may run it at once.
C. ``Stream`` is a Plan with a state and a scratch of its own. One thread at a time may use it; a
   second one gets an error, not a race, whether it steps or touches the state by name. A stream that
   shares its batch among threads has a Plan, a scratch and a job for each part of the rows.
D. Arrays are looked at through NumPy's C interface, which costs a few instructions where a typed
   memoryview costs thousands. The GIL is released around every kernel.
E. ``check`` is the one door through which a C status becomes a Python exception.
F. ``Round`` is what several threads do at once, and a wait that no signal breaks: they write to the caller's
   arrays. ``Guard`` lets one thread at a time use what is laid out once. Both go by the GIL.
"""

import builtins
import os

import numpy as np

from tinyrnn import errors, library
from tinyrnn.arrays import aligned_zeros, as_floats, as_indices, as_plain, widened
from tinyrnn.threads import run_all

cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_Occurred
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

cnp.import_array()
library.serve(__file__)


cdef int check(trnn_status status, str what) except -1:
    """Raises the Python exception that status.def names for ``status``."""
    if status == TRNN_OK:
        return 0
    if status == TRNN_E_INTERRUPTED and PyErr_Occurred() != NULL:
        return -1  # what the signal's handler raised
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


# ---- threads and signals ------------------------------------------------------------------------

cdef extern from *:
    """
    /* Of the round that this thread works for: whether it is to stop. NULL: none. */
    static __thread int *round_stop;
    """
    int *round_stop

cdef extern from "Python.h":
    int signals_handled "PyErr_CheckSignals"() noexcept  # not 0: a handler has raised, which is pending
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible) nogil
    enum: PY_LOCK_ACQUIRED


cdef enum:
    WAIT_US = 50000  # how long a round waits before it looks for signals again

# Work between two looks at signals, in bytes of weights times frames: milliseconds on a server, at most about a
# second on a Raspberry Pi Zero.
cdef int64_t PATIENCE = 1 << 30


cdef struct Watch:
    int64_t left, blocks  # blocks of steps until the next look, and between looks


cdef int poll(void *context) noexcept nogil:
    """`trnn_job.poll`: whether a signal's handler has raised, here or in the thread whose round this is."""
    cdef Watch *watch = <Watch *> context
    cdef int raised
    if round_stop != NULL and round_stop[0]:
        return 1
    watch.left -= 1
    if watch.left > 0:
        return 0
    watch.left = watch.blocks
    with gil:
        raised = signals_handled()
    if raised and round_stop != NULL:
        round_stop[0] = 1
    return raised


cdef class Round:
    """Tasks that run at once, the first one in the thread that calls `run`.

    Parameters
    ----------
    tasks : sequence of callables
    """

    cdef object tasks
    cdef list errors  # (place of the task, exception)
    cdef int32_t left
    cdef int stop
    cdef PyThread_type_lock end  # held until the last task is done

    def __cinit__(self, tasks):
        self.tasks = tasks
        self.errors = []
        self.left = <int32_t> len(tasks)
        self.stop = 0
        self.end = PyThread_allocate_lock()
        if self.end == NULL:
            raise MemoryError()
        PyThread_acquire_lock(self.end, NOWAIT_LOCK)

    def __dealloc__(self):
        if self.end != NULL:
            PyThread_free_lock(self.end)

    def work(self, int32_t i):
        """Do one task."""
        global round_stop
        cdef int *outer = round_stop
        round_stop = &self.stop
        try:
            self.tasks[i]()
        except BaseException as error:
            self.errors.append((i, error))
        round_stop = outer
        self.left -= 1
        if self.left == 0:
            PyThread_release_lock(self.end)

    def run(self, hand_over, bint signals):
        """Do all tasks, and wait for the last one whatever happens: they write to the caller's arrays.

        No Python code of ours runs between, so no signal is handled where it could break the wait.

        Parameters
        ----------
        hand_over : callable
            Takes the pair (round, place of a task), for another thread to call `work` with.
        signals : bool
            Whether signals are handled meanwhile. Runs of a `Plan` then stop where a handler raises.

        Raises
        ------
        BaseException
            What the earliest task raised, or a signal's handler.
        """
        cdef int32_t i, handed = 1, count = self.left
        try:
            for i in range(1, count):
                hand_over((self, i))
                handed += 1
        except BaseException as error:
            self.errors.append((handed, error))
            self.left -= count - handed
        self.work(0)
        while not self.wait(WAIT_US if signals else -1):
            try:
                if signals_handled():
                    check(TRNN_E_INTERRUPTED, "run")
            except BaseException as error:
                self.errors.append((-1, error))
                self.stop = 1
                signals = False  # a second one waits, too
        if self.errors:
            raise min(self.errors, key=first_of)[1]

    cdef bint wait(self, long long microseconds) noexcept:
        """Whether all tasks are done."""
        cdef bint done
        with nogil:
            done = PyThread_acquire_lock_timed(self.end, microseconds, 0) == PY_LOCK_ACQUIRED
        return done


def first_of(pair):
    return pair[0]


# How often this process was forked from its parents, from 1 on: what a holder of another number held, it held in
# the parent.
cdef int32_t _life = 1


def _forked():
    global _life
    _life += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


cdef class Guard:
    """A context that one thread at a time is in; a second one gets an error, not a race.

    Parameters
    ----------
    message : str
        What the error says.

    Raises
    ------
    RuntimeError
        If another thread is in it.
    """

    cdef str message
    cdef int32_t holder

    def __cinit__(self, str message not None):
        self.message = message
        self.holder = 0

    def __enter__(self):
        if self.holder == _life:
            raise RuntimeError(self.message)
        self.holder = _life

    def __exit__(self, kind, error, traceback):
        self.holder = 0


def is_floats(x):
    """Whether ``x`` is an array of float32 that kernels read as it is: C-contiguous, aligned, native."""
    return bool(cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 and cnp.PyArray_ISCARRAY_RO(x))


def zeros(size_t nbytes):
    """As `arrays.aligned_zeros`, for the few numbers of a call's state: in a tenth of the time."""
    cdef cnp.npy_intp room = <cnp.npy_intp> nbytes + 64, count = <cnp.npy_intp> nbytes // 4
    cdef cnp.ndarray raw = cnp.PyArray_EMPTY(1, &room, cnp.NPY_UINT8, 0)
    cdef uintptr_t start = (<uintptr_t> cnp.PyArray_DATA(raw) + 63) & ~<uintptr_t> 63
    memset(<void *> start, 0, nbytes)
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(1, &count, cnp.NPY_FLOAT32, <void *> start)
    cnp.set_array_base(array, raw)
    return array


def gathered(cnp.ndarray numbers, tuple shape, tuple parts):
    """A new array (levels, rows, size) of what lies at (offset, size) of each level within the rows of
    ``numbers``, float32, flat and contiguous."""
    cdef cnp.npy_intp dims[3]
    cdef cnp.npy_intp offset, size, row, each, levels = len(parts)
    dims[0], dims[1], dims[2] = shape
    cdef cnp.ndarray array = cnp.PyArray_EMPTY(3, dims, cnp.NPY_FLOAT32, 0)
    cdef const float *start = <const float *> cnp.PyArray_DATA(numbers)
    cdef float *to = <float *> cnp.PyArray_DATA(array)
    if dims[1] == 0:
        return array
    if not is_floats(numbers):
        raise TypeError(f"state: {numbers.dtype} numbers, expected contiguous float32")
    each = cnp.PyArray_SIZE(numbers) // dims[1]
    for offset, size in parts:
        if not (levels == dims[0] and size == dims[2] and 0 <= offset <= each - size and size > 0):
            raise ValueError(f"state: {numbers.size} numbers, too few for {shape}")
        for row in range(dims[1]):
            memcpy(to, start + row * each + offset, size * sizeof(float))
            to += size
    return array


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


# ---- arguments by name ----------------------------------------------------------------------------

cdef const trnn_argument *argument_named(const trnn_argument *arguments, str name, str what) except NULL:
    """The entry of C's list with this name; ``what`` begins the message where there is none."""
    cdef const trnn_argument *argument = arguments
    while argument.name != NULL:
        if argument.name.decode() == name:
            return argument
        argument += 1
    names = ", ".join(argument_names(arguments)) or "none"
    raise TypeError(f"{what}: unexpected argument {name!r}, expected {names}")


cdef tuple argument_names(const trnn_argument *argument):
    names = []
    while argument.name != NULL:
        names.append(argument.name.decode())
        argument += 1
    return tuple(names)


cdef int write_argument(void *struct, const trnn_argument *argument, value) except -1:
    """Write one member of a struct. What TRNN_FLOATS points to is the caller's to keep."""
    cdef char *place = <char *> struct + argument.offset
    if argument.type == TRNN_INT32:
        (<int32_t *> place)[0] = value
    elif argument.type == TRNN_FLOAT:
        (<float *> place)[0] = value
    elif argument.type == TRNN_DOUBLE:
        (<double *> place)[0] = value
    else:
        (<const float **> place)[0] = NULL if value is None else <float *> cnp.PyArray_DATA(value)
    return 0


cdef int write_arguments(void *struct, const trnn_argument *arguments, dict given, str what) except -1:
    for name, value in given.items():
        write_argument(struct, argument_named(arguments, name, what), value)
    return 0


cdef read_argument(const void *struct, const trnn_argument *argument):
    """One number of a struct; a float as the shortest decimal that it is the nearest to, so 0.1 comes back."""
    cdef const char *place = <const char *> struct + argument.offset
    if argument.type == TRNN_INT32:
        return (<const int32_t *> place)[0]
    if argument.type == TRNN_FLOAT:
        return float(str(np.float32((<const float *> place)[0])))
    return (<const double *> place)[0]


# ---- layers -------------------------------------------------------------------------------------

# How often an argument of any layer has changed since the layer was made: what is laid out compares.
cdef uint32_t changes = 0

FORMATS = tuple([trnn_format_name(<trnn_format> i).decode() for i in range(TRNN_FORMAT_COUNT)])

cdef dict _kinds = {trnn_kind_name(<trnn_kind> i).decode(): i for i in range(TRNN_LAYER_COUNT)}


cdef uint32_t changes_of_layers() noexcept:
    return changes


cdef const trnn_argument *arguments_of(const trnn_layer *layer) noexcept:
    return trnn_kind_arguments(layer.kind)


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
        Called with `params` when the weights are first needed and none were loaded: yields all their numbers
        in pieces, (which param, its first number of the C-contiguous tensor, float32 vector), always the same.
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
            write_arguments(&self.layer, arguments_of(&self.layer), arguments, kind)
        check(trnn_layer_check(&self.layer), kind)
        self.count = trnn_layer_params(&self.layer, self.tensors)
        self.params = [
            (self.tensors[i].name.decode(),
             tuple([self.tensors[i].shape[axis] for axis in range(self.tensors[i].rank)]))
            for i in range(self.count)
        ]

    def argument(self, str name):
        """One of its arguments, by the name that tinyrnn.h has.

        Raises
        ------
        TypeError
            If the layer has no such argument.
        """
        return read_argument(&self.layer, argument_named(arguments_of(&self.layer), name, self.kind))

    def set_argument(self, str name, value):
        """Change an argument that no size depends on: ``eps``, ``momentum``, ``p``, ``slope``.

        Whatever has been laid out goes by it from its next call or step on.

        Raises
        ------
        TypeError
            If the layer has no such argument, or has been laid out by it.
        ValueError
            If it is out of range. The layer is as before.
        """
        cdef const trnn_argument *argument = argument_named(arguments_of(&self.layer), name, self.kind)
        cdef trnn_layer changed = self.layer
        global changes
        if not argument.live:
            raise TypeError(f"{self.kind}: {name} is fixed once the layer is made, make another layer")
        write_argument(&changed, argument, value)
        check(trnn_layer_check(&changed), f"{self.kind}: {name}")
        self.layer = changed
        changes += 1

    @property
    def arguments(self):
        """The names of its arguments."""
        return argument_names(arguments_of(&self.layer))

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
        if self.weights == NULL:
            memory = self.drawn()
            if self.weights == NULL:  # else another thread has made them meanwhile
                self.memory = memory
                self.weights = <char *> cnp.PyArray_DATA(self.memory)
        return self.weights

    cdef drawn(self):
        """Weights as `initialise` draws them, in memory of their own, which nobody sees before it is full."""
        cdef int32_t param
        cdef size_t first
        cdef cnp.ndarray numbers
        cdef bint draws = self.initialise is not None and self.count > 0
        if draws and self.layer.format != TRNN_F32:
            raise RuntimeError(f"{self.kind}: a layer in {self.format} needs its weights before it runs")
        cdef cnp.ndarray memory = aligned_zeros(max(self.nbytes, 64))
        if draws:
            for param, first, numbers in self.initialise(self.params):
                trnn_param_pack_chunk(&self.tensors[param], cnp.PyArray_DATA(memory),
                                      <float *> cnp.PyArray_DATA(numbers), first, cnp.PyArray_SIZE(numbers))
        return memory

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
            scales = as_plain(scales, scales.dtype)
            if not np.isfinite(scales).all():
                raise ValueError(f"{name}_scale: not all scales are finite")
            if self.layer.format == TRNN_INT4 and (scales.view(np.uint32) & 0xFFFF).any():
                raise ValueError(f"{name}_scale: not all scales are bfloat16 numbers")
        elif self.layer.format == TRNN_F16 and ((codes & 0x7C00) == 0x7C00).any():
            raise ValueError(f"{name}: not all numbers are finite")
        if self.weights == NULL:
            self.allocate()
        self.pack(i, as_plain(codes, codes.dtype), scales)

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
            grads = aligned_zeros(max(self.nbytes, 64))[:self.nbytes // 4]
            if self.grads is None:  # another thread may have made some, and a tape may point there
                self.grads = grads
        return self.grads

    @property
    def has_gradients(self):
        """Whether `gradients` has been asked for."""
        return self.grads is not None

    def extent(self, int32_t i):
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
            self.weights_bytes = 4096  # what a step costs at least
            for i in range(count):
                all_layers[i] = (<Layer> layers[i]).layer
                self.weights_bytes += <int64_t> trnn_layer_weights_bytes(&all_layers[i])
            self.layers = layers
            self.changes = changes
            self.memory = bytes(trnn_plan_bytes(count))
            self.plan = <trnn_plan *> <char *> self.memory
            check(
                trnn_plan_init(self.plan, all_layers, count, frame, batch, steps, &self.sizes),
                "plan",
            )
        finally:
            PyMem_Free(all_layers)

    def __dealloc__(self):
        PyMem_Free(self.weights)

    cdef void adjust(self) noexcept:
        """Go by arguments that have changed."""
        cdef int32_t i
        for i in range(<int32_t> len(self.layers)):
            trnn_plan_adjust(self.plan, i, &(<Layer> self.layers[i]).layer)
        self.changes = changes

    def ready(self):
        """Make every layer's weights ready to run; returns the plan."""
        for i in range(len(self.layers)):
            self.weights[i] = (<Layer> self.layers[i]).ready()
        return self

    @property
    def batch(self):
        return self.sizes.batch

    @property
    def full_sequence(self):
        """Whether a layer reads the future, so that a call takes at most the plan's steps."""
        return self.sizes.full_sequence

    @property
    def most_steps(self):
        """The most steps of a call."""
        return self.sizes.steps if self.sizes.full_sequence else 1 << 28

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
        Part(self, first, stride).run_rows(x, y, state, steps, lengths, first)


@cython.final
cdef class Part:
    """Some rows of a batch, ready to run: a plan for so many, a scratch, and the job."""

    cdef Plan plan
    cdef cnp.ndarray scratch
    cdef trnn_job job
    cdef int32_t first
    cdef Watch watch
    cdef int64_t patience  # steps beyond which signals are looked for between blocks

    def __cinit__(self, Plan plan not None, int32_t first, int32_t stride):
        cdef const trnn_sizes *sizes = &plan.sizes
        self.plan = plan
        self.scratch = aligned_zeros(sizes.scratch_bytes + (sizes.part_bytes if stride else 0))
        self.first = first
        self.job.weights = plan.weights
        self.job.scratch = cnp.PyArray_DATA(self.scratch)
        self.job.lengths = NULL
        self.job.stride = stride
        self.job.descending = 0
        self.watch.blocks = max(1, PATIENCE // (plan.weights_bytes * sizes.batch * sizes.steps))
        self.patience = self.watch.blocks * sizes.steps

    cdef void point(self, const void *x, float *y, float *state, int32_t steps) noexcept:
        """What to work on: the whole batch's arrays."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t first = self.first
        if self.plan.changes != changes:
            self.plan.adjust()
        self.job.isa = _isa
        self.job.x = <const char *> x + first * sizes.frame_in.rows * sizes.frame_in.cols * 4
        self.job.y = y + first * sizes.frame_out.rows * sizes.frame_out.cols
        self.job.state = state + first * (sizes.state_bytes // sizes.batch // 4)
        self.job.steps = steps

    cdef trnn_status run(self) noexcept:
        cdef trnn_status status
        self.job.poll = NULL
        if self.job.steps > self.patience:
            self.job.poll, self.job.context = poll, &self.watch
            self.watch.left = self.watch.blocks
        with nogil:
            status = trnn_run(self.plan.plan, &self.job)
        self.job.descending = (self.job.descending + self.job.steps) & 1
        return status

    def __call__(self):
        """Run, as a task of `threads`."""
        check(self.run(), "run")

    @property
    def nbytes(self):
        """Bytes of the scratch and of the plan."""
        return cnp.PyArray_NBYTES(self.scratch) + len(self.plan.memory)

    def run_rows(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths,
                 int32_t first):
        """Run whole sequences: as `Plan.run`, in this part's scratch. One thread at a time."""
        self.first = first
        self.point(cnp.PyArray_DATA(x), <float *> cnp.PyArray_DATA(y), <float *> cnp.PyArray_DATA(state), steps)
        self.job.lengths = NULL if lengths is None else <int32_t *> cnp.PyArray_DATA(lengths) + first
        check(self.run(), "run")


# ---- streams ------------------------------------------------------------------------------------

cdef enum:
    MAX_RANK = 4  # steps, batch, and a frame of rank 2


cdef struct Shape:
    int rank
    cnp.npy_intp dims[MAX_RANK]


cdef enum Nonfinite:
    TAKE
    STOP
    SKIP
    RESET

_nonfinite = {None: TAKE, "stop": STOP, "skip": SKIP, "reset": RESET}


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
    cdef int64_t surely  # steps up to which a run ends whole, or at once
    cdef Shape frame, frame_out
    cdef int32_t index_count
    cdef int32_t busy  # the life in which a thread uses it, or 0
    cdef bint rows_first
    cdef Nonfinite nonfinite
    cdef bint recovers
    cdef cnp.ndarray began, before  # states: before a call, and before a step or some

    def __cinit__(self, net, Plan plan not None, tuple frame, tuple frame_out, int32_t index_count,
                  list parts=None, bint rows_first=False, nonfinite=None):
        """``parts``: (first row, plan) of what each thread takes; None for one thread.

        ``rows_first``: whether `run` takes (batch, T, frame). ``nonfinite``: as ``net.stream()`` takes it."""
        if plan.sizes.full_sequence:
            raise ValueError(
                "a bidirectional layer reads the future and cannot be streamed: call net(x) on whole sequences")
        self.net = net
        if nonfinite not in _nonfinite:
            raise ValueError(f"nonfinite is {nonfinite!r}, expected None, 'stop', 'skip' or 'reset'")
        self.made_of = (net, plan, frame, frame_out, index_count, parts, rows_first, nonfinite)
        self.rows_first, self.nonfinite = rows_first, _nonfinite[nonfinite]
        if self.nonfinite != TAKE:
            self.began, self.before = aligned_zeros(plan.sizes.state_bytes), aligned_zeros(plan.sizes.state_bytes)
            self.recovers = any([state_recovers(layer) for layer in plan.layers])
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
        self.surely = (<Part> self.parts[0]).patience
        if parts is not None and plan.sizes.indices:  # one part may find a wrong one when others have run
            self.surely = 0

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
        x : array_like, float32, (T, frame) or (T, batch, frame), or (batch, T, frame) for a net with batch_first
            The batch axis may be left out when it is 1. Integers where the net begins with an embedding.
        out : ndarray, float32, optional
            Written and returned; nothing is allocated then, unless rows come first and are several: the chunk is
            turned, and turned back.

        Returns
        -------
        ndarray, float32, (T, out frame) or (T, batch, out frame), or (batch, T, out frame) as ``x``

        Raises
        ------
        ShapeError, TypeError, IndexError, RuntimeError
            As `step`.
        """
        cdef Shape lead
        cdef cnp.ndarray array = self.input(x, "run")
        if self.rows_first and cnp.PyArray_NDIM(array) == self.frame.rank + 2:
            return self.run_rows(array, out)
        self.match(array, &lead, True, "run")
        return self.compute(cnp.PyArray_DATA(array), <int32_t> lead.dims[0], out, &lead, "run")

    def reset(self):
        """Forget everything: the state becomes zeros, as for a new stream."""
        self.renew("reset")
        self.numbers[:] = 0

    def free(self, str what):
        """Raise RuntimeError if another thread is using the stream."""
        if self.busy == _life:
            raise RuntimeError(f"{what}: the stream is in use by another thread; give each thread a copy()")

    def idle(self, str what):
        """Raise RuntimeError if another thread is using the stream, or its state is half a step's."""
        self.free(what)
        if self.busy:
            raise RuntimeError(f"{what}: this process was forked while a thread of its parent used the stream, "
                               "which left half a step in its state; call reset() or set the state first")

    def renew(self, str what):
        """Get ready for another state; RuntimeError if another thread is using the stream."""
        self.free(what)
        self.busy = 0

    @property
    def raw_state(self):
        """The numbers of the state, (state_bytes / 4,) float32, live."""
        return self.numbers

    @property
    def batch(self):
        return self.plan.sizes.batch

    @cython.final
    cdef cnp.ndarray input(self, x, str what):
        """``x`` as the kernels read it; itself if it is that already."""
        cdef int wanted = cnp.NPY_INT32 if self.plan.sizes.indices else cnp.NPY_FLOAT32
        if cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(x) == wanted and cnp.PyArray_ISCARRAY_RO(x):
            return <cnp.ndarray> x  # without another look at its type
        if self.plan.sizes.indices:
            return as_indices(x, f"{what}: x", self.index_count)
        return as_floats(x, f"{what}: x")

    @cython.final
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
            turned = timed and self.rows_first  # as the caller sees it
            time, shape = ("T",) if timed else (), np.shape(array)
            wanted = [str((batch + time if turned else time + batch) + frame).replace("'", "") for batch in batches]
            if turned and lead.rank == 2:
                shape = (shape[1], shape[0], *shape[2:])
            order = ", as the net has batch_first" if turned else ""
            raise errors.ShapeError(f"{what}: x has shape {shape}, expected {' or '.join(wanted)}{order}")
        if timed and not 1 <= lead.dims[0] <= 1 << 28:
            raise errors.ShapeError(f"{what}: x has {lead.dims[0]} steps, expected 1 .. {1 << 28}")
        return 0

    cdef run_rows(self, cnp.ndarray x, out):
        """`run` of (batch, T, frame)."""
        cdef Shape lead
        cdef cnp.ndarray turned = x.swapaxes(0, 1)
        self.match(turned, &lead, True, "run")
        cdef cnp.npy_intp steps = lead.dims[0], batch = lead.dims[1]
        cdef Shape given = lead
        given.dims[0], given.dims[1] = batch, steps
        if batch == 1:  # the same numbers in the same order
            return self.compute(cnp.PyArray_DATA(x), <int32_t> steps, out, &given, "run")
        cdef Shape shape = followed(&given, &self.frame_out)
        cdef cnp.ndarray y = None
        if out is not None:
            y = self.output(out, &shape, "run")
        apart(cnp.PyArray_DATA(x), cnp.PyArray_NBYTES(x), NULL if y is None else cnp.PyArray_DATA(y),
              0 if y is None else cnp.PyArray_NBYTES(y),
              cnp.PyArray_DATA(self.numbers), self.plan.sizes.state_bytes, "run")
        turned = np.array(turned, order="C")
        result = self.compute(cnp.PyArray_DATA(turned), <int32_t> steps, None, &lead, "run").swapaxes(0, 1)
        if y is None:
            return result
        y[:] = result
        return y

    @cython.final
    cdef compute(self, const void *x, int32_t steps, out, Shape *lead, str what):
        """Run, into ``out`` or a new array of shape (lead, out frame)."""
        cdef int status
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef int axis
        cdef Shape shape = lead[0]  # `followed` and `apart`, written out: this is a step's own path
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
        self.busy = _life
        try:
            if self.nonfinite != TAKE:
                status = <int> self.run_watched(<const char *> x, y_data, state, steps, what)
            elif steps > self.surely:
                status = self.run_kept(x, y_data, state, steps)
            else:
                status = self.run_parts(x, y_data, state, steps)
        finally:
            self.busy = 0
        if status != TRNN_OK:
            what = f"{what}: x must hold 0 .. {self.index_count - 1}" if status == TRNN_E_INDEX else what
            check(<trnn_status> status, what)
        return y

    cdef int run_kept(self, const void *x, float *y, float *state, int32_t steps) except -1:
        """`run_parts`, where it may end with half of its steps or rows done: the state is then as before."""
        cdef cnp.ndarray kept = self.numbers.copy()
        try:
            return self.run_parts(x, y, state, steps)
        except BaseException:
            self.numbers[:] = kept
            raise

    @cython.final
    cdef int run_parts(self, const void *x, float *y, float *state, int32_t steps) except -1:
        """Run; returns the trnn_status."""
        cdef Part part
        cdef trnn_status status
        if self.whole is not None:
            self.whole.point(x, y, state, steps)
            status = self.whole.run()
            if status == TRNN_E_INTERRUPTED:  # what the handler raised is pending
                check(status, "run")
            return status
        for part in self.parts:
            part.point(x, y, state, steps)
        run_all(self.parts)
        return TRNN_OK

    # ---- what looks at numbers that are not finite: where net.stream(nonfinite=) asks for it

    cdef trnn_status run_watched(self, const char *x, float *y, float *state, int32_t steps, str what) except *:
        """`run_parts`, but where a row's input or new state is not finite, what `nonfinite` says happens.

        A failure leaves state and ``y`` as before."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t state_bytes = sizes.state_bytes
        cdef size_t x_step = <size_t> sizes.batch * sizes.frame_in.rows * sizes.frame_in.cols
        cdef size_t y_step = <size_t> sizes.batch * sizes.frame_out.rows * sizes.frame_out.cols
        cdef int32_t t = 0, good, stop
        cdef trnn_status status = TRNN_OK
        cdef cnp.ndarray own = None
        cdef float *to = y
        if self.nonfinite == STOP:
            good = self.good_steps(x, steps)
            if good < steps:
                self.refuse(x + <size_t> good * x_step * 4, good, steps, what)
        if self.nonfinite == STOP or sizes.indices:  # which can fail after some steps
            own = np.empty(steps * y_step, np.float32)
            to = <float *> cnp.PyArray_DATA(own)
        memcpy(cnp.PyArray_DATA(self.began), state, state_bytes)
        try:
            while t < steps and status == TRNN_OK:
                good = self.good_steps(x + t * x_step * 4, steps - t)
                if good > 1 and not self.recovers:  # together, unless the state turns bad on the way
                    memcpy(cnp.PyArray_DATA(self.before), state, state_bytes)
                    status = <trnn_status> self.run_parts(x + t * x_step * 4, to + t * y_step, state, good)
                    if status != TRNN_OK or all_finite(state, state_bytes // 4):
                        t += good
                        continue
                    memcpy(state, cnp.PyArray_DATA(self.before), state_bytes)
                stop = t + (good if good > 1 else 1)
                while t < stop and status == TRNN_OK:
                    if t > 0 and signals_handled():
                        check(TRNN_E_INTERRUPTED, what)
                    memcpy(cnp.PyArray_DATA(self.before), state, state_bytes)
                    status = <trnn_status> self.run_parts(x + t * x_step * 4, to + t * y_step, state, 1)
                    if status == TRNN_OK:
                        self.mend(x + t * x_step * 4, to + t * y_step, state, t, steps, what)
                    t += 1
        except BaseException:
            memcpy(state, cnp.PyArray_DATA(self.began), state_bytes)
            raise
        if status != TRNN_OK:
            memcpy(state, cnp.PyArray_DATA(self.began), state_bytes)
        elif own is not None:
            memcpy(y, to, steps * y_step * 4)
        return status

    cdef int32_t good_steps(self, const char *x, int32_t steps) noexcept:
        """How many steps come before the first one with a number that is not finite."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t numbers = <size_t> sizes.batch * sizes.frame_in.rows * sizes.frame_in.cols
        cdef int32_t t
        if sizes.indices:
            return steps
        for t in range(steps):
            if not all_finite(<const float *> x + t * numbers, numbers):
                return t
        return steps

    cdef int mend(self, const char *x, float *y, float *state, int32_t t, int32_t steps, str what) except -1:
        """After step ``t``, whose input and output these are: put the rows right that are not finite."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t numbers = sizes.state_bytes // 4 // sizes.batch, row, i
        cdef size_t x_row = 0 if sizes.indices else <size_t> sizes.frame_in.rows * sizes.frame_in.cols
        cdef size_t y_row = <size_t> sizes.frame_out.rows * sizes.frame_out.cols
        cdef const float *before = <const float *> cnp.PyArray_DATA(self.before)
        cdef float nan = float("nan")
        for row in range(<size_t> sizes.batch):
            if all_finite(<const float *> x + row * x_row, x_row) and all_finite(state + row * numbers, numbers):
                continue
            if self.nonfinite == STOP:
                place = f" in step {t}" if steps > 1 else ""
                raise errors.NonFiniteError(
                    f"{what}: the state of row {row} is not finite any more{place}; it is as before the call")
            if self.nonfinite == SKIP:
                memcpy(state + row * numbers, before + row * numbers, numbers * 4)
            else:
                memset(state + row * numbers, 0, numbers * 4)
            for i in range(y_row):
                y[row * y_row + i] = nan
        return 0

    cdef int refuse(self, const char *x, int32_t t, int32_t steps, str what) except -1:
        """NonFiniteError for the step ``t`` that begins at ``x``."""
        cdef const float *numbers = <const float *> x
        cdef size_t i = 0
        while all_finite(numbers + i, 1):
            i += 1
        row = i // (<size_t> self.plan.sizes.frame_in.rows * self.plan.sizes.frame_in.cols)
        place = f"step {t} of row {row}" if steps > 1 else f"row {row}"
        raise errors.NonFiniteError(f"{what}: x holds {numbers[i]} in {place}; the state is as before")

    @cython.final
    cdef cnp.ndarray output(self, out, Shape *shape, str what):
        """``out``, if it may be written to."""
        cdef int axis
        if not cnp.PyArray_Check(out) or cnp.PyArray_TYPE(out) != cnp.NPY_FLOAT32:
            raise TypeError(
                f"{what}: out is {getattr(out, 'dtype', type(out).__name__)}, expected a float32 ndarray")
        cdef cnp.ndarray y = <cnp.ndarray> out
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


cdef inline Shape followed(const Shape *lead, const Shape *frame) noexcept:
    """The axes of a frame after those before it."""
    cdef Shape shape = lead[0]
    for axis in range(frame.rank):
        shape.dims[shape.rank] = frame.dims[axis]
        shape.rank += 1
    return shape


cdef bint all_finite(const float *numbers, size_t count) noexcept:
    cdef size_t i
    for i in range(count):
        if not numbers[i] - numbers[i] == 0:
            return False
    return True


cdef bint state_recovers(Layer layer):
    """Whether a state that became infinite may be finite some steps later: one that is not bounded, and that the
    next one sees through a matrix only."""
    return any([layer.argument(name) for name in ("relu", "proj_size") if name in layer.arguments])


cdef inline bint overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) noexcept:
    return <uintptr_t> a < <uintptr_t> b + b_bytes and <uintptr_t> b < <uintptr_t> a + a_bytes


cdef inline int apart(const void *x, size_t x_bytes, const void *y, size_t y_bytes, const void *state,
                      size_t state_bytes, str what) except -1:
    """ValueError if input, output and state share memory."""
    if overlap(y, y_bytes, x, x_bytes) or overlap(y, y_bytes, state, state_bytes):
        raise ValueError(f"{what}: out shares memory with x or with the state")
    if overlap(x, x_bytes, state, state_bytes):
        raise ValueError(f"{what}: x shares memory with the state")
    return 0
