# Part of `_training`: one step of training.

cdef enum:
    DONE_
    NOT_FINITE_
    BAD_TARGET_

DONE, NOT_FINITE, BAD_TARGET = DONE_, NOT_FINITE_, BAD_TARGET_


cdef class CoreTrainer:
    """A step of training in one call: forward, loss, backward, update; one thread runs it without Python.

    Parameters
    ----------
    tape : Tape
    loss : CoreLoss
    program : Program
        The optimiser's.
    target_steps : int
        CTC: the most labels of a row; else 0.
    """

    def __cinit__(self, Tape tape not None, CoreLoss loss not None, Program program not None, int32_t target_steps):
        self.tape, self.loss, self.program = tape, loss, program
        tape.program = program
        self.target_steps = target_steps
        self.room = loss.scratch_bytes(
            tape.sizes.steps[0], tape.sizes.batch, frame_numbers(&tape.sizes.outs[0]), target_steps)
        if self.room == <size_t> -1:
            raise MemoryError(
                f"trainer: the loss of {target_steps} labels in {tape.sizes.steps[0]} steps takes too much memory")
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

    def begin_with(self, Start start):
        """Take the initial state of a net; None for zeros."""
        self.start = start

    def step(self, cnp.ndarray x, int32_t steps, size_t x_step, size_t x_row, cnp.ndarray state,
             cnp.ndarray lengths, uint64_t seed, Target target not None, bint begins=False):
        """Do one step. The caller has checked the arrays, and called `Tape.point_gradients`.

        Parameters
        ----------
        x, steps, x_step, x_row, lengths, seed
            As `Tape.forward`.
        state : ndarray, float32, or None for the net's own
            The initial state; becomes the final one, unless the step fails.
        target : Target
        begins : bool
            Begin with the net's own initial state, whatever ``state`` holds.

        Returns
        -------
        int
            `DONE`; `NOT_FINITE` if a gradient is not: no weight has changed; `BAD_TARGET`, likewise.

        Raises
        ------
        IndexError, ValueError, ShapeError
            If x or the lengths have a fault that only the core can find.
        """
        cdef Tape tape = self.tape
        cdef const trnn_value *out = &tape.sizes.outs[0]
        if target.target_steps > self.target_steps:
            raise errors.ShapeError(
                f"step: a row of the target has room for {target.target_steps} labels, expected {self.target_steps} "
                "at most, the trainer's target_steps")
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
        tape.steps = steps
        tape.point(cnp.PyArray_DATA(x), x_step, x_row, <float *> cnp.PyArray_DATA(self.numbers), steps,
                   NULL if lengths is None else <int32_t *> cnp.PyArray_DATA(lengths), seed,
                   self.adds and self.start.deep)
        self.job.isa = isa_in_use()
        self.job.steps, self.job.batch = (steps if out.axis else 1), tape.sizes.batch
        self.job.rows, self.job.cols = out.frame.planes * out.frame.rows, out.frame.cols
        self.job.y = <float *> (<char *> cnp.PyArray_DATA(tape.tape) + tape.sizes.y[0])
        self.job.dy = <float *> (<char *> cnp.PyArray_DATA(tape.tape) + tape.sizes.dy[0])
        self.job.values = NULL
        self.job.scratch = cnp.PyArray_DATA(self.scratch)
        self.job.y_rows_first = 0
        target.point(&self.job)
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

    cdef int alone(self) noexcept nogil:
        """Do the whole step in this thread."""
        cdef const trnn_training *training = self.tape.training
        cdef trnn_training_job *job = self.tape.job
        cdef int32_t stage
        for stage in range(self.tape.sizes.stages):
            trnn_forward(training, job, stage)
        self.failed = self.loss.run(&self.job, &self.value)
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
            self.failed = self.loss.run(&self.job, &self.value)
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
