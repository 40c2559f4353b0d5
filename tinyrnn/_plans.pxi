# Part of `_core`: a net laid out, and some rows of a batch ready to run through it.
#
# ``Plan`` is a list of layers laid out for a frame, a batch and a block of steps. Any number of calls and streams may
# run it at once, since it is const once made. Only live arguments change (`Layer.set_argument`): its next run takes
# them over.


cdef class Plan:
    """Layers laid out for frames of ``(rows, cols)``, a batch, and blocks of ``steps``.

    The layers' weights may not exist yet, so a plan can be measured before anything is allocated.
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
            self.weights_bytes = 4096  # the least cost of a step
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
        """Return the place of a layer's state within a row's: (offset, numbers), in floats."""
        cdef size_t offset, numbers
        if not 0 <= layer < len(self.layers):
            raise IndexError(f"layer: got {layer}, expected 0 .. {len(self.layers) - 1}")
        trnn_plan_state(self.plan, layer, &offset, &numbers)
        return offset, numbers

    def run(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths=None,
            *, int32_t first=0, int32_t stride=0):
        """Run full sequences. The caller has checked that the arrays are as `trnn_run` needs them.

        The plan's batch begins at row ``first`` of arrays that have ``stride`` rows a step; 0 means that they
        have no other rows.
        """
        Part(self, first, stride).run_rows(x, y, state, steps, lengths, first)


cdef void adjust(Plan plan) noexcept:
    """Take over live arguments that have changed."""
    cdef int32_t i
    for i in range(<int32_t> len(plan.layers)):
        trnn_plan_adjust(plan.plan, i, &(<Layer> plan.layers[i]).layer)
    plan.changes = changes


@cython.final
cdef class Part:
    """Some rows of a batch, ready to run: a plan for that many rows, a scratch, and the job."""

    cdef Plan plan
    cdef cnp.ndarray scratch
    cdef trnn_job job
    cdef int32_t first
    cdef Watch watch
    cdef int64_t patience  # a run of more steps checks for signals between blocks

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
        """Point the job at the arrays of the whole batch."""
        cdef const trnn_sizes *sizes = &self.plan.sizes
        cdef size_t first = self.first
        self.job.isa = _isa
        self.job.x = <const char *> x + first * sizes.frame_in.rows * sizes.frame_in.cols * 4
        self.job.y = y + first * sizes.frame_out.rows * sizes.frame_out.cols
        self.job.state = state + first * (sizes.state_bytes // sizes.batch // 4)
        self.job.steps = steps
        if self.plan.changes != changes:  # last, so that a step saves no registers for the call
            adjust(self.plan)

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
        """Run as a task of `threads`."""
        check(self.run(), "run")

    @property
    def nbytes(self):
        """Bytes of the scratch and of the plan."""
        return cnp.PyArray_NBYTES(self.scratch) + len(self.plan.memory)

    def run_rows(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray state, int32_t steps, cnp.ndarray lengths,
                 int32_t first):
        """Run full sequences like `Plan.run`, in this part's scratch, in one thread at a time."""
        self.first = first
        self.point(cnp.PyArray_DATA(x), <float *> cnp.PyArray_DATA(y), <float *> cnp.PyArray_DATA(state), steps)
        self.job.lengths = NULL if lengths is None else <int32_t *> cnp.PyArray_DATA(lengths) + first
        check(self.run(), "run")
