# Part of `_training`: one step of training.

cdef enum:
    DONE_
    NOT_FINITE_
    BAD_TARGET_

DONE, NOT_FINITE, BAD_TARGET = DONE_, NOT_FINITE_, BAD_TARGET_


cdef inline size_t numbers_of(const trnn_loss_job *job) noexcept nogil:
    return <size_t> job.steps * job.batch * job.rows * job.cols


cdef class CoreTrainer:
    """A step of training in one call: forward, losses, backward, update; one thread runs it without Python.

    Parameters
    ----------
    tape : Tape
    losses : list of CoreLoss, or None
        For each output. An output without a loss has the gradient 0.
    weights : list of float
        The factor of each output's loss in the sum.
    program : Program
        The optimiser's.
    target_steps : int
        CTC: the most labels of a row; else 0.
    """

    def __cinit__(self, Tape tape not None, list losses, list weights, Program program not None,
                  int32_t target_steps):
        cdef CoreLoss loss
        cdef const trnn_value *out
        cdef int32_t steps
        self.tape, self.kept, self.program = tape, losses, program
        tape.program = program
        self.target_steps = target_steps
        for i in range(tape.sizes.outputs):
            self.losses[i] = NULL
            self.values[i] = 0
            if losses[i] is None:
                continue
            loss, out = losses[i], &tape.sizes.outs[i]
            self.losses[i], self.weights[i] = &loss.loss, weights[i]
            steps = tape.sizes.out_steps[i]
            room = loss.scratch_bytes(steps, tape.sizes.batch, frame_numbers(out), target_steps)
            if room == <size_t> -1:
                raise MemoryError(
                    f"trainer: the loss of {target_steps} labels in {steps} steps takes too much memory")
            self.room = max(self.room, room)
        self.numbers = self.scratch = None
        self.start = None

    @property
    def loss_bytes(self):
        """Bytes of the loss's working memory."""
        return self.room

    @property
    def last(self):
        """The loss of the last step."""
        return self.value

    @property
    def parts(self):
        """The losses of the outputs at the last step, before their weights; 0 for an output without one."""
        return [self.values[i] for i in range(self.tape.sizes.outputs)]

    @property
    def wrong(self):
        """The output whose target the last `BAD_TARGET` was about."""
        return self.output

    def begin_with(self, Start start):
        """Take the initial state of a net; None for zeros."""
        self.start = start

    def step(self, feed, cnp.ndarray state, uint64_t seed, targets, bint begins=False):
        """Do one step. The caller has checked the arrays, and called `Tape.point_gradients`.

        Parameters
        ----------
        feed : Feed
            The inputs.
        state : ndarray, float32, or None for the net's own
            The initial state; becomes the final one, unless the step fails.
        seed : int
            The seed of dropout's masks.
        targets : sequence of Target, or None
            For each output.
        begins : bool
            Begin with the net's own initial state, whatever ``state`` holds.

        Returns
        -------
        int
            `DONE`; `NOT_FINITE` if a gradient is not: no weight has changed; `BAD_TARGET`, likewise.

        Raises
        ------
        IndexError, ValueError, ShapeError
            If an input or its lengths have a fault that only the core can find.
        """
        cdef Tape tape = self.tape
        cdef Target target
        for i in range(tape.sizes.outputs):
            if self.losses[i] == NULL:
                continue
            target = targets[i]
            if target.target_steps > self.target_steps:
                raise errors.ShapeError(
                    f"step: a row of the target has room for {target.target_steps} labels, expected "
                    f"{self.target_steps} at most, the trainer's target_steps")
        tape.allocate()
        if self.numbers is None:
            self.numbers = some(tape.sizes.state_bytes)[:tape.sizes.state_bytes // 4]
            self.scratch = some(self.room)
        begins = begins or state is None
        self.adds = begins and self.start is not None and self.start.trains
        if begins:
            memset(cnp.PyArray_DATA(self.numbers), 0, tape.sizes.state_bytes)
            if self.start is not None:
                self.start.write(<float *> cnp.PyArray_DATA(self.numbers))
        else:
            self.numbers[:] = state
        memset(cnp.PyArray_DATA(tape.dstate), 0, tape.sizes.state_bytes)
        tape.point(feed, <float *> cnp.PyArray_DATA(self.numbers), seed,
                   self.adds and self.start.deep)
        for i in range(tape.sizes.outputs):
            self.point(i, targets[i])
        cdef int status
        if tape.threads == 1:
            with nogil:
                status = self.alone()
        else:
            status = self.shared()
        if status == DONE_:
            if state is not None:
                state[:] = self.numbers
        elif status == BAD_TARGET_ and self.failed != TRNN_E_TARGET:
            check(self.failed, "loss")
        return status

    cdef void point(self, int32_t i, Target target) noexcept:
        """Point the job of an output's loss at its arrays; without a loss set its gradient to zero."""
        cdef const trnn_training_sizes *sizes = &self.tape.sizes
        cdef const trnn_value *out = &sizes.outs[i]
        cdef trnn_loss_job *job = &self.jobs[i]
        cdef char *memory = <char *> cnp.PyArray_DATA(self.tape.tape)
        job.isa = isa_in_use()
        job.steps, job.batch = self.tape.steps_of(i), sizes.batch
        job.rows, job.cols = out.frame.planes * out.frame.rows, out.frame.cols
        job.y = <float *> (memory + sizes.y[i])
        job.dy = <float *> (memory + sizes.dy[i])
        job.values = NULL
        job.scratch = cnp.PyArray_DATA(self.scratch)
        job.y_rows_first = 0
        if self.losses[i] == NULL:
            memset(job.dy, 0, numbers_of(job) * sizeof(float))
        else:
            target.point(job)

    cdef trnn_status take(self) noexcept nogil:
        """Compute the losses, their sum, and the gradients of the outputs."""
        cdef trnn_status status
        cdef size_t j
        self.value = 0
        for i in range(self.tape.sizes.outputs):
            if self.losses[i] == NULL:
                continue
            self.output = i
            status = trnn_loss_run(self.losses[i], &self.jobs[i], &self.values[i])
            if status != TRNN_OK:
                return status
            self.value += self.weights[i] * self.values[i]
            if self.weights[i] != 1:
                for j in range(numbers_of(&self.jobs[i])):
                    self.jobs[i].dy[j] *= <float> self.weights[i]
        return TRNN_OK

    cdef int alone(self) noexcept nogil:
        """Do the whole step in this thread."""
        cdef const trnn_training *training = self.tape.training
        cdef trnn_training_job *job = self.tape.job
        cdef int32_t stage
        for stage in range(self.tape.sizes.stages):
            trnn_forward(training, job, stage)
        self.failed = self.take()
        if self.failed != TRNN_OK:
            return BAD_TARGET_
        self.program.zero()
        for stage in range(self.tape.sizes.stages - 1, -1, -1):
            trnn_backward(training, job, stage)
        trnn_gradients(training, job)
        if self.adds:
            self.start.add(job.dstate)
        self.tape.mark()
        return NOT_FINITE_ if self.program.step() else DONE_

    cdef int shared(self) except -1:
        """Do the whole step; the tape's threads share each phase."""
        cdef Tape tape = self.tape
        cdef int32_t stage
        for stage in range(tape.sizes.stages):
            tape.run(FORWARD, stage)
        with nogil:
            self.failed = self.take()
        if self.failed != TRNN_OK:
            return BAD_TARGET_
        with nogil:
            self.program.zero()
        for stage in range(tape.sizes.stages - 1, -1, -1):
            tape.run(BACKWARD, stage)
        tape.run(GRADIENTS, 0)
        if self.adds:
            self.start.add(tape.job.dstate)
        tape.mark()
        self.program.point()
        tape.run(MEASURE, 0)
        if self.program.judge():
            return NOT_FINITE_
        tape.run(UPDATE, 0)
        self.program.finish()
        return DONE_
