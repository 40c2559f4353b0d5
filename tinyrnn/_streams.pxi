# Part of `_core`: a plan with a state and a scratch of its own, fed step by step or chunk by chunk.
#
# One thread at a time may use a ``Stream``. A second one gets an error, not a race, whether it steps or uses the
# state by name. If threads share the batch, each part of the rows has a plan, a scratch and a job.


cdef enum Nonfinite:
    TAKE
    STOP
    SKIP
    RESET

_nonfinite = {None: TAKE, "stop": STOP, "skip": SKIP, "reset": RESET}


cdef class Stream(Used):
    """A plan with a state of its own, kept from step to step. Made by ``net.stream()``.

    One thread at a time may use a stream; different streams of one net run in parallel.
    """

    cdef Plan plan
    cdef readonly object net
    cdef readonly tuple made_of  # the arguments that make another such stream
    cdef cnp.ndarray numbers
    cdef list parts
    cdef Part whole  # the only part, where there is one
    cdef int64_t surely  # a run of at most so many steps is done completely, or fails before its first step
    cdef Shape frame, frame_out
    cdef size_t x_row, y_row  # numbers of a row's frame
    cdef bint per_sequence  # the output is one frame for all steps so far
    cdef bint has_rate  # the output has a rate of its own: some steps give no frame
    cdef int32_t index_count
    cdef bint rows_first
    cdef Nonfinite nonfinite
    cdef bint recovers
    cdef cnp.ndarray began, before  # states: before a call, and before its current steps

    def __cinit__(self, net, Plan plan not None, tuple frame, tuple frame_out, int32_t index_count,
                  list parts=None, bint rows_first=False, nonfinite=None, dict slots=None):
        """Lay out a stream.

        ``parts``: (first row, plan) of each thread's rows; None for one thread. ``rows_first``: `run` takes
        (batch, T, frame). ``nonfinite``: as in ``net.stream()``. ``slots``: the state's numbers by name,
        for `streams`.
        """
        if plan.sizes.full_sequence:
            raise ValueError(
                "stream: a bidirectional layer needs the full sequence and cannot be streamed: "
                "call net(x) on full sequences")
        self.net = net
        if nonfinite not in _nonfinite:
            raise ValueError(f"stream: nonfinite is {nonfinite!r}, expected None, 'stop', 'skip' or 'reset'")
        self.made_of = (net, plan, frame, frame_out, index_count, parts, rows_first, nonfinite, slots)
        self.rows_first, self.nonfinite = rows_first, _nonfinite[nonfinite]
        if self.nonfinite != TAKE:
            self.began, self.before = aligned_zeros(plan.sizes.state_bytes), aligned_zeros(plan.sizes.state_bytes)
            self.recovers = any([state_recovers(layer) for layer in plan.layers])
        self.plan = plan.ready()
        set_shape(&self.frame, frame)
        set_shape(&self.frame_out, frame_out)
        self.x_row, self.y_row = frame_numbers(&plan.sizes.ins[0]), frame_numbers(&plan.sizes.outs[0])
        self.per_sequence = plan.sizes.outs[0].axis == 0
        self.has_rate = plan.rate_of(plan.sizes.outs[0].axis) is not None
        if self.has_rate and self.nonfinite not in (TAKE, STOP):
            raise ValueError(
                f"stream: nonfinite is {nonfinite!r}, expected None or 'stop': the output has a rate of its own")
        self.index_count = index_count
        self.numbers = aligned_zeros(plan.sizes.state_bytes)
        if parts is None:
            self.whole = Part(plan, 0, 0)
            self.parts = [self.whole]
        else:
            self.parts = [Part((<Plan> part).ready(), first, plan.sizes.batch) for first, part in parts]
        self.surely = (<Part> self.parts[0]).patience
        if parts is not None and plan.sizes.indices:  # one part may find a wrong index after others have run
            self.surely = 0

    def step(self, x, out=None):
        """Run one step.

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
            Of a net whose output has a rate of its own (`TimeUnfold`) the frame that is due; None at a step
            without one.

        Raises
        ------
        ShapeError, TypeError, IndexError
            If ``x`` or ``out`` does not fit. The state is as before.
        RuntimeError
            If another thread is using this stream.
        """
        if not self.has_rate:
            return self.step_on(x, out)
        self.take("step")  # the frames that are due follow from the state
        try:
            return self.step_on(x, out)
        finally:
            self.leave()

    @cython.final
    cdef step_on(self, x, out):
        """Do the work of `step`, for an output with a rate of its own in a stream that is taken."""
        cdef int32_t index
        cdef Shape lead
        lead.rank = 0
        if type(x) is int and self.plan.sizes.indices and self.frame.rank == 0 and self.plan.sizes.batch == 1:
            if not 0 <= x < self.index_count:
                raise IndexError(f"step: x: index {x} is out of range, expected 0 .. {self.index_count - 1}")
            index = x
            return self.compute(&index, 1, out, &lead, "step")
        cdef cnp.ndarray array = self.input(x, "step")
        self.match(array, &lead, False, "step")
        return self.compute(cnp.PyArray_DATA(array), 1, out, &lead, "step")

    def run(self, x, out=None, *, bint end=False):
        """Run a chunk of steps, of any length, with the same bits as step by step.

        Parameters
        ----------
        x : array_like, float32, (T, frame) or (T, batch, frame), or (batch, T, frame) for a net with batch_first
            The batch axis may be left out when it is 1. Integers where the net begins with an embedding.
        out : ndarray, float32, optional
            Written and returned; nothing is allocated then, unless the net has batch_first and the batch several
            rows: then the chunk is transposed, and its output transposed back.
        end : bool
            The sequence ends with ``x``: windows of steps that reach beyond it are padded, as in ``net(x)``.

        Returns
        -------
        ndarray, float32, (T, out frame) or (T, batch, out frame), or (batch, T, out frame) as ``x``
            Of a net whose output has a rate of its own (`TimeUnfold`) as many steps as `due` tells.

        Raises
        ------
        ShapeError, TypeError, IndexError, RuntimeError
            As `step`.
        """
        if not self.has_rate:
            return self.run_on(x, out, end)
        self.take("run")
        try:
            return self.run_on(x, out, end)
        finally:
            self.leave()

    @cython.final
    cdef run_on(self, x, out, bint end):
        """Do the work of `run`, as `step_on` that of `step`."""
        cdef Shape lead
        cdef cnp.ndarray array = self.input(x, "run")
        if self.rows_first and cnp.PyArray_NDIM(array) == self.frame.rank + 2:
            return self.run_rows(array, out, end)
        self.match(array, &lead, True, "run")
        return self.compute(cnp.PyArray_DATA(array), <int32_t> lead.dims[0], out, &lead, "run", end)

    def due(self, int32_t steps=1, *, bint end=False):
        """The number of frames that each row gets from its next ``steps`` steps.

        Parameters
        ----------
        steps : int
        end : bool
            As `run` takes it.

        Returns
        -------
        ndarray, int32, (batch,)
        """
        if not 1 <= steps <= 1 << 28:
            raise ValueError(f"due: steps is {steps}, expected 1 .. {1 << 28}")
        return self.plan.due(0, self.numbers, (steps,), (None,), end)[1]

    def begin(self, row):
        """Set a row's state to that of a new stream, whoever uses the stream."""
        self.numbers.reshape(self.plan.sizes.batch, -1)[row] = 0

    @property
    def raw_state(self):
        """The numbers of the state, (state_bytes / 4,) float32, not a copy."""
        return self.numbers

    @property
    def batch(self):
        return self.plan.sizes.batch

    @cython.final
    cdef cnp.ndarray input(self, x, str what):
        """Return ``x`` as kernels read it; ``x`` itself if it is so already."""
        cdef int wanted = cnp.NPY_INT32 if self.plan.sizes.indices else cnp.NPY_FLOAT32
        if cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(x) == wanted and cnp.PyArray_ISCARRAY_RO(x):
            return <cnp.ndarray> x  # saves a second check of its type
        if self.plan.sizes.indices:
            return as_indices(x, f"{what}: x", self.index_count)
        return as_floats(x, f"{what}: x")

    @cython.final
    cdef int match(self, cnp.ndarray array, Shape *lead, bint timed, str what) except -1:
        """Set ``lead`` to the axes of ``array`` before the frame; its shape must be ([T,] [batch,] frame)."""
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
            transposed = timed and self.rows_first  # the message shows the caller's order
            time, shape = ("T",) if timed else (), np.shape(array)
            wanted = [str((batch + time if transposed else time + batch) + frame).replace("'", "") for batch in batches]
            if transposed and lead.rank == 2:
                shape = (shape[1], shape[0], *shape[2:])
            order = ", as the net has batch_first" if transposed else ""
            raise errors.ShapeError(f"{what}: x has shape {shape}, expected {' or '.join(wanted)}{order}")
        if timed and not 1 <= lead.dims[0] <= 1 << 28:
            raise errors.ShapeError(f"{what}: x has {lead.dims[0]} steps, expected 1 .. {1 << 28}")
        return 0

    cdef run_rows(self, cnp.ndarray x, out, bint end):
        """Do the work of `run` for (batch, T, frame)."""
        cdef Shape lead
        cdef cnp.ndarray transposed = x.swapaxes(0, 1)
        self.match(transposed, &lead, True, "run")
        cdef cnp.npy_intp steps = lead.dims[0], batch = lead.dims[1]
        cdef Shape given = lead
        given.dims[0], given.dims[1] = batch, steps
        if batch == 1 and not self.per_sequence and not self.has_rate:  # the same numbers in the same order
            return self.compute(cnp.PyArray_DATA(x), <int32_t> steps, out, &given, "run")
        cdef Shape shape = given
        if self.per_sequence:
            shape.rank, shape.dims[0] = 1, batch
        elif self.has_rate:
            shape.dims[1] = self.plan.due(0, self.numbers, (steps,), (None,), end)[0]
        follow(&shape, &self.frame_out)
        cdef cnp.ndarray y = None
        if out is not None:
            y = self.output(out, &shape, "run")
        apart(cnp.PyArray_DATA(x), cnp.PyArray_NBYTES(x), NULL if y is None else cnp.PyArray_DATA(y),
              0 if y is None else cnp.PyArray_NBYTES(y),
              cnp.PyArray_DATA(self.numbers), self.plan.sizes.state_bytes, "run")
        transposed = np.array(transposed, order="C")
        result = self.compute(cnp.PyArray_DATA(transposed), <int32_t> steps, None, &lead, "run", end)
        if not self.per_sequence:
            result = result.swapaxes(0, 1)
        if y is None:
            return result
        y[:] = result
        return y

    @cython.final
    cdef compute(self, const void *x, int32_t steps, out, Shape *lead, str what, bint end=False):
        """Run into ``out``, or into a new array of shape (lead, out frame)."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef Shape shape = lead[0]
        if self.has_rate:
            return self.compute_due(x, steps, out, lead, what, end)
        if self.per_sequence:
            drop_steps(&shape, what)
        follow(&shape, &self.frame_out)
        cdef cnp.ndarray y
        if out is None:
            y = cnp.PyArray_EMPTY(shape.rank, shape.dims, cnp.NPY_FLOAT32, 0)
        else:
            y = self.output(out, &shape, what)
        cdef float *y_data = <float *> cnp.PyArray_DATA(y)
        cdef float *state = <float *> cnp.PyArray_DATA(self.numbers)
        cdef size_t x_bytes = <size_t> steps * sizes.batch * self.x_row * 4
        apart(x, x_bytes, y_data, cnp.PyArray_NBYTES(y), state, sizes.state_bytes, what)
        self.move(x, steps, y_data, state, what, end)
        return y

    cdef compute_due(self, const void *x, int32_t steps, out, Shape *lead, str what, bint end):
        """Do the work of `compute` for an output with a rate of its own, in a stream that is taken.

        Returns None for a step without a frame.
        """
        cdef Shape shape
        cdef int axis, timed = what == "run"
        cdef int32_t most = self.plan.due(0, self.numbers, (steps,), (None,), end)[0]
        shape.rank = 1
        shape.dims[0] = most
        for axis in range(timed, lead.rank):
            shape.dims[shape.rank] = lead.dims[axis]
            shape.rank += 1
        follow(&shape, &self.frame_out)
        cdef cnp.ndarray y
        if out is not None and (timed or most):
            if not timed:
                out = out[np.newaxis]
            y = self.output(out, &shape, what)
        else:
            y = cnp.PyArray_EMPTY(shape.rank, shape.dims, cnp.NPY_FLOAT32, 0)
        cdef float *state = <float *> cnp.PyArray_DATA(self.numbers)
        apart(x, <size_t> steps * self.plan.sizes.batch * self.x_row * 4, cnp.PyArray_DATA(y),
              cnp.PyArray_NBYTES(y), state, self.plan.sizes.state_bytes, what)
        cdef cnp.ndarray to = y if self.nonfinite == TAKE else np.empty_like(y)  # these can fail after a run
        to[...] = 0  # beyond the frames of a row
        self.move_on(x, steps, <float *> cnp.PyArray_DATA(to), state, what, end)
        if to is not y:
            y[...] = to
        return y if timed else y[0] if most else None

    @cython.final
    cdef int move(self, const void *x, int32_t steps, float *y_data, float *state, str what, bint end) except -1:
        """Run some steps of the stream, in one thread at a time."""
        while not take_mark(&self.busy, 0, _life):
            self.idle(what)
        try:
            self.move_on(x, steps, y_data, state, what, end)
        finally:
            set_mark(&self.busy, 0)
        return 0

    @cython.final
    cdef int move_on(self, const void *x, int32_t steps, float *y_data, float *state, str what, bint end) except -1:
        """Do the work of `move`, in a stream that is taken."""
        cdef int status
        if self.has_rate and self.nonfinite == STOP:
            status = <int> run_stopped(self, <const char *> x, y_data, state, steps, what, end)
        elif self.nonfinite != TAKE:
            status = <int> run_watched(self, <const char *> x, y_data, state, steps, what, end)
        elif steps > self.surely:
            status = self.run_kept(x, y_data, state, steps, end)
        else:
            status = self.run_parts(x, y_data, state, steps, end)
        if status != TRNN_OK:
            if status == TRNN_E_INDEX:
                raise IndexError(f"{what}: x: an index is out of range, expected 0 .. {self.index_count - 1}")
            check(<trnn_status> status, what)
        return 0

    cdef int run_kept(self, const void *x, float *y, float *state, int32_t steps, bint end) except -1:
        """Do `run_parts`, and restore the state if it fails with some steps or rows done."""
        cdef cnp.ndarray kept = self.numbers.copy()
        try:
            return self.run_parts(x, y, state, steps, end)
        except BaseException:
            self.numbers[:] = kept
            raise

    @cython.final
    cdef int run_parts(self, const void *x, float *y, float *state, int32_t steps, bint end) except -1:
        """Run all parts, and return the trnn_status. ``end``: the sequence ends with these steps."""
        cdef Part part
        cdef trnn_status status
        if self.whole is not None:
            self.whole.point(x, y, state, steps)
            self.whole.job.ends = end
            status = self.whole.run()
            if status == TRNN_E_INTERRUPTED:  # the handler's exception is pending
                check(status, "run")
            return status
        for part in self.parts:
            part.point(x, y, state, steps)
            part.job.ends = end
        run_all(self.parts)
        return TRNN_OK

    @cython.final
    cdef cnp.ndarray output(self, out, Shape *shape, str what):
        """Return ``out``, if dtype and shape fit and it can be written to."""
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
            raise ValueError(f"{what}: out is not C-contiguous, aligned and writeable: pass a new array")
        return y
