# Of `_core`: one layer, its arguments and its packed weights.
#
# Weights are laid out on first use, so that a net can be described, and checked against a file, before it takes
# any memory. Several nets may hold the same ``Layer``.


# How often an argument of any layer has changed since the layer was made: what is laid out compares.
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
    return changes


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
        """One of its arguments, by the name that tinyrnn.h has.

        Raises
        ------
        TypeError
            If the layer has no such argument.
        """
        return read_argument(&self.layer, argument_named(trnn_layer_arguments(&self.layer), name, self.kind))

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
        cdef const trnn_argument *argument = argument_named(trnn_layer_arguments(&self.layer), name, self.kind)
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
        return argument_names(trnn_layer_arguments(&self.layer))

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

    # ---- gates of recurrent layers ------------------------------------------------------------------

    @property
    def gate_names(self):
        """A letter for each gate of a recurrent layer, in the order of its matrices' rows; else ``""``."""
        cdef const char *names = trnn_layer_gates(&self.layer)
        return "" if names == NULL else names.decode()

    def gates(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, cnp.ndarray gates, bint reverse, /):
        """Compute the gates of a recurrent layer in a run, by the cell's own formula.

        Arrays are as `trnn_gates` wants them: the caller has checked them. ``gates`` takes the activations of
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
