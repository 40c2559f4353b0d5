# Part of `_core`: one layer, its arguments and its packed weights.
#
# Weights are laid out on first use. A net can be described, and checked against a file, before it takes memory.
# Several nets may hold the same ``Layer``.


# The number of changes of arguments so far, of all layers. Plans and tapes compare it with the one they know.
cdef uint32_t changes = 0

FORMATS = tuple([trnn_format_name(<trnn_format> i).decode() for i in range(TRNN_FORMAT_COUNT)])


cdef dict _listed_kinds():
    """Return the place in layers.def of every kind of layer, by name."""
    cdef dict places = {}
    cdef trnn_layer layer
    for i in range(trnn_layer_count()):
        layer = trnn_layer_at(i)
        places[trnn_layer_name(&layer).decode()] = i
    return places


cdef dict _kinds = _listed_kinds()


cdef uint32_t changes_of_layers() noexcept:
    return read_changes(&changes)


cdef class Layer:
    """One C layer.

    Parameters
    ----------
    kind : str
        A name of layers.def, such as ``"lstm"``.
    **arguments
        The fields of that kind's arguments in tinyrnn.h; those that are not given are 0.

    Attributes
    ----------
    params : list of (str, tuple)
        Name and shape of every tensor, in PyTorch's order.
    initialise : callable, optional
        Called with `params` when the weights are first needed and none were loaded. Yields all their numbers
        in chunks, always the same: (index of the param, place of the first number in the C-contiguous tensor,
        float32 vector).
    """

    def __cinit__(self, str kind, *, Layer like=None, int format=0, **arguments):
        self.weights = NULL
        self.kind = kind
        if like is not None:
            self.layer = like.layer
            self.layer.format = <trnn_format> format
        else:
            self.layer = trnn_layer_at(_kinds[kind])
            write_arguments(&self.layer, trnn_layer_arguments(&self.layer), arguments, kind)
        check(trnn_layer_check(&self.layer), kind)
        self.count = trnn_layer_params(&self.layer, self.tensors)
        self.params = [
            (self.tensors[i].name.decode(),
             tuple([self.tensors[i].shape[axis] for axis in range(self.tensors[i].rank)]))
            for i in range(self.count)
        ]

    def argument(self, str name):
        """Return one of its arguments, by its name in tinyrnn.h.

        Raises
        ------
        TypeError
            If the layer has no such argument.
        """
        return read_argument(&self.layer, argument_named(trnn_layer_arguments(&self.layer), name, self.kind))

    def set_argument(self, str name, value):
        """Change an argument that no size depends on: ``eps``, ``momentum``, ``p``, ``slope``.

        Plans and tapes of this layer use the new value from their next call or step on.

        Raises
        ------
        TypeError
            If the layer has no such argument, or a size depends on it.
        ValueError
            If it is out of range. The layer is as before.
        """
        cdef const trnn_argument *argument = argument_named(trnn_layer_arguments(&self.layer), name, self.kind)
        cdef trnn_layer changed
        if not argument.live:
            raise TypeError(f"{self.kind}: {name} is fixed once the layer is made: make another layer")
        with cython.critical_section(self):
            changed = self.layer
            write_argument(&changed, argument, value)
            check(trnn_layer_check(&changed), f"{self.kind}: {name}")
            self.layer = changed
        count_change(&changes)

    @property
    def arguments(self):
        """The names of its arguments."""
        return argument_names(trnn_layer_arguments(&self.layer))

    @property
    def nbytes(self):
        """Bytes of the packed weights."""
        return trnn_layer_weights_bytes(&self.layer)

    @property
    def format(self):
        """The format of its matrices: one of `FORMATS`."""
        return FORMATS[<int> self.layer.format]

    @property
    def matrices(self):
        """Indices of the params that a format applies to; the others are float32."""
        return tuple([i for i in range(self.count) if self.tensors[i].rank > 1])

    def reformatted(self, str format):
        """Make a layer of the same kind and arguments in another format, without weights."""
        if format not in FORMATS:
            raise ValueError(f"{self.kind}: format is {format!r}, expected one of {', '.join(FORMATS)}")
        if format != "float32" and not self.matrices:
            raise ValueError(f"{self.kind}: format is {format}, expected float32: the layer has no matrix")
        cdef Layer other = Layer.__new__(Layer, self.kind, like=self, format=FORMATS.index(format))
        other.initialise = self.initialise
        return other

    cdef allocate(self):
        """Allocate the weights, zeros, unless another thread has done so. They never move again."""
        self.settle(aligned_zeros(max(self.nbytes, 64)))

    cdef settle(self, cnp.ndarray memory):
        """Take weights in new memory, unless another thread has made some meanwhile."""
        with cython.critical_section(self):
            if self.weights == NULL:
                self.memory = memory
                publish(&self.weights, <char *> cnp.PyArray_DATA(memory))

    cdef pack(self, int32_t i, numbers, scales):
        """Pack one tensor. The caller has checked that the arrays are as `trnn_param_pack` needs them."""
        cdef float *scales_data = NULL if scales is None else <float *> cnp.PyArray_DATA(scales)
        trnn_param_pack(&self.tensors[i], self.weights, cnp.PyArray_DATA(numbers), scales_data)

    cdef const char *ready(self) except? NULL:
        """Return the weights; `initialise` draws them if none were loaded."""
        if self.weights == NULL:
            self.settle(self.drawn())
        return self.weights

    cdef drawn(self):
        """Return weights drawn by `initialise`, in new memory that no other thread sees before it is complete."""
        cdef int32_t param
        cdef size_t first
        cdef cnp.ndarray numbers
        cdef bint draws = self.initialise is not None and self.count > 0
        if draws and self.layer.format != TRNN_F32:
            raise RuntimeError(f"{self.kind}: the layer has no weights, expected {self.format} codes: load them first")
        cdef cnp.ndarray memory = aligned_zeros(max(self.nbytes, 64))
        if draws:
            for param, first, numbers in self.initialise(self.params):
                trnn_param_pack_chunk(&self.tensors[param], cnp.PyArray_DATA(memory),
                                      <float *> cnp.PyArray_DATA(numbers), first, cnp.PyArray_SIZE(numbers))
        return memory

    def set(self, int32_t i, tensor):
        """Pack one float32 tensor. The first call sets the other tensors to zero: set them all."""
        name, shape = self.params[i]
        if self.tensors[i].format != TRNN_F32:
            raise TypeError(f"{name}: format is {self.format}, expected float32: set its codes")
        array = as_floats(tensor, name)
        if array.shape != shape:
            raise errors.ShapeError(f"{name}: got shape {array.shape}, expected {shape}")
        if self.weights == NULL:
            self.allocate()
        self.pack(i, array, None)

    def set_codes(self, int32_t i, codes, scales=None):
        """Pack one matrix of a layer whose format is not float32: number = code * scale.

        Parameters
        ----------
        i : int
            One of `matrices`.
        codes : ndarray, of the tensor's shape
            uint16, the bits of float16 or bfloat16 numbers; int8 in -127 .. 127 for int8, in -8 .. 7 for int4.
        scales : ndarray, float32, optional
            With rows = shape[0] and cols the rest: (rows,) for int8; (rows, ceil(cols / 32)) for int4, each a
            bfloat16. None for the others.

        Raises
        ------
        TypeError, ShapeError, ValueError
            If dtype, shape or range differ from that. The weights are as before.
        """
        name, shape = self.params[i]
        kind, scales_shape = self.code_kind(i)
        for what, array, dtype, wanted in ((name, codes, kind, shape),
                                           (f"{name}_scale", scales, np.float32, scales_shape)):
            if wanted is None:
                if array is not None:
                    raise TypeError(f"{what}: got scales, expected None: {self.format} has no scales")
                continue
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"{what}: got {getattr(array, 'dtype', type(array).__name__)}, expected "
                                f"{np.dtype(dtype)} for {self.format}")
            if array.shape != wanted:
                raise errors.ShapeError(f"{what}: got shape {array.shape}, expected {wanted}")
        if scales is not None:
            low, high = (-127, 127) if self.layer.format == TRNN_INT8 else (-8, 7)
            if codes.size and (codes.min() < low or codes.max() > high):
                raise ValueError(f"{name}: got codes {codes.min()} .. {codes.max()}, expected {low} .. {high}")
            scales = as_plain(scales, scales.dtype)
            if not np.isfinite(scales).all():
                raise ValueError(f"{name}_scale: got a scale that is not finite, expected finite numbers")
            if self.layer.format == TRNN_INT4 and (scales.view(np.uint32) & 0xFFFF).any():
                raise ValueError(f"{name}_scale: got a scale that bfloat16 lacks, expected bfloat16 numbers")
        elif self.layer.format == TRNN_F16 and ((codes & 0x7C00) == 0x7C00).any():
            raise ValueError(f"{name}: got a number that is not finite, expected finite numbers")
        if self.weights == NULL:
            self.allocate()
        self.pack(i, as_plain(codes, codes.dtype), scales)

    def codes(self, int32_t i):
        """Unpack one matrix of a layer whose format is not float32: (codes, scales or None)."""
        kind, scales_shape = self.code_kind(i)
        numbers = np.empty(self.params[i][1], kind)
        scales = None if scales_shape is None else np.empty(scales_shape, np.float32)
        cdef float *scales_data = NULL if scales is None else <float *> cnp.PyArray_DATA(scales)
        trnn_param_unpack(&self.tensors[i], self.ready(), cnp.PyArray_DATA(numbers), scales_data)
        return numbers, scales

    cdef code_kind(self, int32_t i):
        """Return the dtype of a matrix's codes, and the shape of its scales or None."""
        name, shape = self.params[i]
        cdef trnn_format format = self.tensors[i].format
        if format == TRNN_F32:
            raise TypeError(f"{name}: format is float32, which has no codes: use get or set")
        if format != TRNN_INT8 and format != TRNN_INT4:
            return np.uint16, None
        cols = int(np.prod(shape[1:]))
        return np.int8, (shape[0],) if format == TRNN_INT8 else (shape[0], (cols + 31) // 32)

    def get(self, int32_t i):
        """Unpack one tensor to a new float32 array; codes become the numbers that they stand for."""
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

    # ---- gates of recurrent layers ------------------------------------------------------------------

    @property
    def gate_names(self):
        """A letter for each gate of a recurrent layer, in the order of its matrices' rows; empty for others."""
        cdef const char *names = trnn_layer_gates(&self.layer)
        return "" if names == NULL else names.decode()

    def gates(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, cnp.ndarray gates, bint reverse, /):
        """Compute the gates of a recurrent layer in a run, by the cell's own formula.

        The caller has checked that the arrays are as `trnn_gates` needs them. ``gates`` takes the activations of
        `gate_names` and then h before its projection, ``state`` the states beside h after the run.
        """
        cdef trnn_gates_job job
        job.isa = _isa
        job.layer = &self.layer
        job.weights = self.ready()
        job.direction = reverse
        job.steps, job.batch = <int32_t> cnp.PyArray_DIM(x, 0), <int32_t> cnp.PyArray_DIM(x, 1)
        cdef cnp.ndarray scratch = aligned_zeros(trnn_gates_bytes(&self.layer, job.batch))
        job.x = <float *> cnp.PyArray_DATA(x)
        job.y = <float *> cnp.PyArray_DATA(y)
        job.state = <float *> cnp.PyArray_DATA(state)
        job.state_stride = cnp.PyArray_DIM(state, 1)
        job.gates = <float *> cnp.PyArray_DATA(gates)
        job.scratch = cnp.PyArray_DATA(scratch)
        with nogil:
            trnn_gates(&job)

    # ---- for training: flat float32 arrays with the layout of the packed weights -------------------

    def packed(self):
        """Return the packed weights of a float32 layer, flat and not a copy: to write to them changes the layer."""
        self.trainable()
        self.ready()
        return self.memory[:self.nbytes // 4]

    def gradients(self):
        """Return the packed gradients, flat float32 with the layout of `packed`; zeros at the first call."""
        self.trainable()
        cdef size_t nbytes = trnn_layer_weights_bytes(&self.layer)
        with cython.critical_section(self):  # another thread may make some, and a tape may point there
            if self.grads is None:
                self.grads = aligned_zeros(max(nbytes, <size_t> 64))[:nbytes // 4]
            return self.grads

    @property
    def has_gradients(self):
        """True once `gradients` has been called."""
        return self.grads is not None

    def extent(self, int32_t i):
        """Return the place of one tensor in `packed`, padding included: (offset, numbers), in floats."""
        return self.tensors[i].offset // 4, trnn_param_bytes(&self.tensors[i]) // 4

    def unpack_from(self, int32_t i, cnp.ndarray packed):
        """Unpack one tensor from a flat array with the layout of `packed`, to a new array."""
        array = np.empty(self.params[i][1], dtype=np.float32)
        trnn_param_unpack(&self.tensors[i], cnp.PyArray_DATA(packed), cnp.PyArray_DATA(array), NULL)
        return array

    def pack_into(self, int32_t i, cnp.ndarray packed, cnp.ndarray tensor):
        """Pack one tensor, C-contiguous float32 of its shape, into a flat array with the layout of `packed`."""
        trnn_param_pack(&self.tensors[i], cnp.PyArray_DATA(packed), cnp.PyArray_DATA(tensor), NULL)

    cdef int trainable(self) except -1:
        if self.layer.format != TRNN_F32:
            raise TypeError(f"{self.kind}: format is {self.format}, expected float32 to train")
        return 0

    def prepare(self):
        """Lay out and initialise the weights, unless that is done."""
        self.ready()

    @property
    def is_ready(self):
        """True once the weights have been laid out."""
        return self.weights != NULL
