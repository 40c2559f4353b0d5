# Part of `_core`: a net laid out, and some rows of a batch ready to run through it.
#
# ``Plan`` is a list of layers laid out for a frame, a batch and a block of steps. Any number of calls and streams may
# run it at once, since it is const once made. Only live arguments change (`Layer.set_argument`): its next run takes
# them over.


# The package's version, "0.1.0".
VERSION = (<const char *> TINYRNN_VERSION).decode()

# The most values that a layer reads, inputs or outputs of a net, and axes of time.
READS_MAX, PORTS_MAX, AXES_MAX = TRNN_READS_MAX, TRNN_PORTS_MAX, TRNN_AXES_MAX


cdef size_t frame_numbers(const trnn_value *value) noexcept nogil:
    return <size_t> value.frame.planes * value.frame.rows * value.frame.cols


cdef int fill_frame(trnn_value *value, tuple frame, int32_t axis) except -1:
    """Set a value: a frame of up to three sizes, and its axis of time."""
    value.frame.planes, value.frame.rows, value.frame.cols = ((1,) * (3 - len(frame))) + frame
    value.axis = axis
    return 0


cdef class Described:
    """Layers as a `trnn_net`: a chain, or for `Cores` with ``reads`` what these say.

    Parameters
    ----------
    layers : list of Layer
    frame : tuple of int
        The frame that a chain reads; `Cores` have ``inputs``, pairs of frame and axis of time.
    """

    def __cinit__(self, layers not None, tuple frame):
        cdef int32_t count = <int32_t> len(layers)
        cdef list reads = getattr(layers, "reads", None)
        self.layers = <trnn_layer *> PyMem_Malloc(count * sizeof(trnn_layer))
        self.reads = <trnn_reads *> PyMem_Malloc(count * sizeof(trnn_reads))
        if self.layers == NULL or self.reads == NULL:
            raise MemoryError()
        memset(&self.net, 0, sizeof(self.net))
        self.net.layers, self.net.count = self.layers, count
        for i in range(count):
            self.layers[i] = (<Layer> layers[i]).layer
        if reads is None:
            fill_frame(&self.net.input[0], frame, 1)
            self.net.inputs = self.net.outputs = 1
            self.net.output[0] = count
            return
        self.net.reads = self.reads
        for i in range(count):
            self.reads[i].count = <int32_t> len(reads[i])
            for place, value in enumerate(reads[i][:TRNN_READS_MAX]):
                self.reads[i].value[place] = value
        self.net.inputs, self.net.outputs = len(layers.inputs), len(layers.outputs)
        for i, (shape, axis) in enumerate(layers.inputs[:TRNN_PORTS_MAX]):
            fill_frame(&self.net.input[i], shape, axis)
        for i, value in enumerate(layers.outputs[:TRNN_PORTS_MAX]):
            self.net.output[i] = value

    def __dealloc__(self):
        PyMem_Free(self.layers)
        PyMem_Free(self.reads)


cdef int fill_steps(int32_t *to, steps) except -1:
    """Write the steps of each axis: a number, or a tuple of them."""
    cdef int i
    for i in range(TRNN_AXES_MAX):
        to[i] = 1
    if isinstance(steps, tuple):
        for i, count in enumerate(steps[:TRNN_AXES_MAX]):
            to[i] = count
    else:
        to[0] = steps
    return 0


cdef class Plan:
    """Layers laid out for frames of a shape, a batch, and blocks of ``steps``.

    The layers' weights may not exist yet, so a plan can be measured before anything is allocated.
    """

    def __cinit__(self, layers, tuple frame, int32_t batch, steps):
        self.changes = changes_of_layers()  # before the layers are read: an argument may change meanwhile
        cdef Described described = Described(layers, frame)
        cdef int32_t most[TRNN_AXES_MAX]
        fill_steps(most, steps)
        self.weights = <const void **> PyMem_Malloc(described.net.count * sizeof(void *))
        if self.weights == NULL:
            raise MemoryError()
        self.layers, self.reads = list(layers), list(getattr(layers, "reads", ()))
        cdef trnn_sizes sizes
        self.memory = bytes(trnn_plan_bytes(&described.net))
        self.plan = self.single = <trnn_plan *> <char *> self.memory
        check(trnn_plan_init(self.plan, &described.net, batch, most, &self.sizes), "plan")
        if self.sizes.views and batch == 1 and most[0] > 1 and not self.sizes.full_sequence:
            self.single_memory = bytes(len(self.memory))
            self.single = <trnn_plan *> <char *> self.single_memory
            most[0] = 1
            check(trnn_plan_init(self.single, &described.net, batch, most, &sizes), "plan")
            self.sizes.scratch_bytes = max(self.sizes.scratch_bytes, sizes.scratch_bytes)
        cdef trnn_rate rate
        self.outputs = tuple([describe_value(&self.sizes.outs[i]) for i in range(self.sizes.outputs)])
        self.has_rates = any([trnn_plan_rate(self.plan, axis, &rate) for _, axis in self.outputs])

    def __dealloc__(self):
        PyMem_Free(self.weights)

    def ready(self):
        """Make every layer's weights ready to run, and return the plan."""
        for i in range(len(self.layers)):
            self.weights[i] = (<Layer> self.layers[i]).ready()
        return self

    @property
    def batch(self):
        return self.sizes.batch

    @property
    def full_sequence(self):
        """True if a layer needs the full sequence, so that a call takes at most the plan's steps."""
        return self.sizes.full_sequence

    @property
    def most_steps(self):
        """The most steps of a call."""
        return self.sizes.steps[0] if self.sizes.full_sequence else 1 << 28

    @property
    def steps(self):
        """The most steps of each axis of time: of a block of the first one, of a call of any other."""
        return tuple([self.sizes.steps[axis] for axis in range(TRNN_AXES_MAX)])

    @property
    def state_bytes(self):
        return self.sizes.state_bytes

    @property
    def scratch_bytes(self):
        return self.sizes.scratch_bytes

    @property
    def values_bytes(self):
        """Bytes of scratch for values between layers, and the least that any layout needs."""
        return self.sizes.value_bytes, self.sizes.widest_bytes

    def rate_of(self, int32_t axis):
        """The axis of the inputs that an axis of another rate follows, and how; None for one of the inputs.

        Returns
        -------
        (of, first, stride, after) : tuple of int
            Its frame ``n`` is due with step ``first + n * stride`` of axis ``of``; ``after`` steps of padding
            follow a sequence.
        """
        cdef trnn_rate rate
        cdef int32_t of = trnn_plan_rate(self.plan, axis, &rate)
        return (of, rate.first, rate.stride, rate.after) if of else None

    def due(self, int32_t output, cnp.ndarray state, steps, lengths, bint ends):
        """The steps of an output in a run: the most, and those of each row, (batch,) int32.

        Parameters
        ----------
        state : ndarray, float32, or None for zeros
            Before the run.
        steps, lengths
            Of each axis of time; None for all steps.
        ends : bool
            The sequences end with the run.
        """
        cdef trnn_job job
        cdef cnp.ndarray array
        cdef cnp.ndarray rows = np.empty(self.sizes.batch, np.int32)
        if state is None:
            state = aligned_zeros(self.sizes.state_bytes)
        memset(&job, 0, sizeof(job))
        job.state, job.ends = <float *> cnp.PyArray_DATA(state), ends
        for i, count in enumerate(steps):
            job.steps[i] = count
            if lengths[i] is not None:
                array = lengths[i]
                job.lengths[i] = <int32_t *> cnp.PyArray_DATA(array)
        return trnn_plan_steps(self.plan, &job, output, <int32_t *> cnp.PyArray_DATA(rows)), rows

    def state_of(self, int32_t layer):
        """Return the place of a layer's state within a row's: (offset, numbers), in floats."""
        cdef size_t offset, numbers
        if not 0 <= layer < len(self.layers):
            raise IndexError(f"layer: got {layer}, expected 0 .. {len(self.layers) - 1}")
        trnn_plan_state(self.plan, layer, &offset, &numbers)
        return offset, numbers

    def begins(self, int32_t layer):
        """True if the state of a recurrent layer or a delay begins with values of the net."""
        self.state_of(layer)  # is there such a layer?
        return trnn_plan_begins(self.plan, layer) == 1

    def run(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths=None,
            *, int32_t first=0, int32_t stride=0):
        """Run full sequences. The caller has checked that the arrays are as `trnn_run` needs them.

        The plan's batch begins at row ``first`` of arrays that have ``stride`` rows a step; 0 means that they
        have no other rows.
        """
        Part(self, first, stride).run_rows(x, y, state, steps, lengths, first)


cdef tuple describe_value(const trnn_value *value):
    return (value.frame.planes, value.frame.rows, value.frame.cols), value.axis


cdef void adjust(Plan plan) noexcept:
    """Take over live arguments that have changed."""
    cdef int32_t i
    cdef uint32_t known
    with cython.critical_section(plan):
        known = changes_of_layers()
        for i in range(<int32_t> len(plan.layers)):
            trnn_plan_adjust(plan.plan, i, &(<Layer> plan.layers[i]).layer)
            if plan.single != plan.plan:
                trnn_plan_adjust(plan.single, i, &(<Layer> plan.layers[i]).layer)
        plan.changes = known


@cython.final
cdef class Part:
    """Some rows of a batch, ready to run: a plan for that many rows, a scratch, and the job."""

    cdef Plan plan
    cdef cnp.ndarray scratch
    cdef trnn_job job
    cdef readonly int32_t first
    cdef Watch watch
    cdef size_t x_row, y_row, state_row  # numbers of a row in the first input, the first output, and the state
    cdef int64_t patience  # a run of more steps checks for signals between blocks
    cdef bint brief  # a run of one step takes less time than other threads need to take over

    def __cinit__(self, Plan plan not None, int32_t first, int32_t stride):
        cdef const trnn_sizes *sizes = &plan.sizes
        self.plan = plan
        self.scratch = aligned_zeros(sizes.scratch_bytes + (sizes.part_bytes if stride else 0))
        self.first = first
        self.job.weights = plan.weights
        self.job.scratch = cnp.PyArray_DATA(self.scratch)
        for i in range(TRNN_AXES_MAX):
            self.job.lengths[i] = NULL
            self.job.steps[i] = 1
        for i in range(TRNN_PORTS_MAX):
            self.job.x[i] = NULL
            self.job.y[i] = NULL
        self.job.stride = stride
        self.job.descending = 0
        cdef int64_t cost = min(<int64_t> sizes.cost, PATIENCE) * sizes.batch
        self.watch.blocks = max(1, PATIENCE // ((cost + LEAST_COST * sizes.batch) * sizes.steps[0]))
        self.brief = cost <= BRIEF and sizes.inputs == 1 and not sizes.full_sequence
        self.patience = self.watch.blocks * sizes.steps[0]
        self.x_row, self.y_row = frame_numbers(&sizes.ins[0]), frame_numbers(&sizes.outs[0])
        self.state_row = sizes.state_bytes // sizes.batch // 4

    cdef void point(self, const void *x, float *y, float *state, int32_t steps) noexcept:
        """Point the job at the arrays of the whole batch; of a net with one input and one output."""
        cdef size_t first = self.first
        self.job.isa = _isa
        self.job.x[0] = <const char *> x + first * self.x_row * 4
        self.job.y[0] = y + first * self.y_row
        self.job.state = state + first * self.state_row
        self.job.steps[0] = steps
        if self.plan.changes != changes:  # last, so that a step saves no registers for the call
            adjust(self.plan)

    cdef trnn_status run(self) noexcept:
        cdef trnn_status status
        self.job.poll = NULL
        if self.job.steps[0] > self.patience:
            self.job.poll, self.job.context = poll, &self.watch
            self.watch.left = self.watch.blocks
        cdef const trnn_plan *plan = self.plan.single if self.job.steps[0] == 1 else self.plan.plan
        if self.job.steps[0] == 1 and (self.brief or is_alone()):
            status = trnn_run(plan, &self.job)
        else:
            with nogil:
                status = trnn_run(plan, &self.job)
        self.job.descending = (self.job.descending + self.job.steps[0]) & 1
        return status

    def __call__(self):
        """Run as a task of `threads`."""
        check(self.run(), "run")

    @property
    def nbytes(self):
        """Bytes of the scratch and of the plan."""
        return cnp.PyArray_NBYTES(self.scratch) + len(self.plan.memory) + len(self.plan.single_memory or b"")

    def run_rows(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths,
                 int32_t first):
        """Run full sequences like `Plan.run`, in this part's scratch, in one thread at a time."""
        self.first = first
        self.job.ends = True
        self.point(cnp.PyArray_DATA(x), <float *> cnp.PyArray_DATA(y), <float *> cnp.PyArray_DATA(state), steps)
        self.job.lengths[0] = NULL if lengths is None else <int32_t *> cnp.PyArray_DATA(lengths) + first
        check(self.run(), "run")

    def run_ports(self, xs, ys, cnp.ndarray state, steps, lengths, int32_t first, bint ends):
        """Run sequences of a net with several inputs, outputs or axes of time.

        ``xs`` and ``ys`` are its arrays, ``steps`` and ``lengths`` (None for all steps) a number and an array for
        each axis. ``ends``: the sequences end with this run. The caller has checked them.
        """
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef cnp.ndarray array
        cdef size_t row
        self.first, self.job.ends = first, ends
        for i in range(sizes.outputs):
            array = ys[i]
            row = first * frame_numbers(&sizes.outs[i])
            self.job.y[i] = <float *> cnp.PyArray_DATA(array) + row
        self.point(cnp.PyArray_DATA(<cnp.ndarray> xs[0]), <float *> cnp.PyArray_DATA(<cnp.ndarray> ys[0]),
                   <float *> cnp.PyArray_DATA(state), steps[0])
        for i in range(sizes.inputs):
            array = xs[i]
            row = first * frame_numbers(&sizes.ins[i])
            self.job.x[i] = <const char *> cnp.PyArray_DATA(array) + row * 4
        for i, count in enumerate(steps):
            self.job.steps[i] = count
            self.job.lengths[i] = NULL
            if lengths[i] is not None:
                array = lengths[i]
                self.job.lengths[i] = <int32_t *> cnp.PyArray_DATA(array) + first
        check(self.run(), "run")
