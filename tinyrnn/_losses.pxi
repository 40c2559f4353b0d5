"""The losses of the core: arguments, targets and one call; no arithmetic.

Design
------
A. ``CoreLoss`` is one C loss with the class weights that it points to. It is const once made.
B. ``Target`` holds the target's arrays as the core reads them, and their layout. `losses.py` makes it from the
   user's arguments. A job is pointed at it before a loss runs.
C. ``CoreLoss.run`` needs no GIL: the trainer calls it between the forward and the backward pass.
   ``compute`` does the same for one call from Python, with memory of its own.
"""

KINDS = tuple([trnn_loss_name(trnn_loss_at(i)).decode() for i in range(trnn_loss_count())])


cdef class CoreLoss:
    """One C loss.

    Parameters
    ----------
    kind : str
        One of `KINDS`, the names of losses.def.
    mean : bool
        The loss is the mean of the values; else their sum.
    **arguments
        The other members of trnn_loss, by name; those that are not given are 0. Arrays are float32, (classes,),
        C-contiguous, of one size, and must not be written to.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __cinit__(self, str kind, bint mean=True, **arguments):
        self.kind = kind
        self.loss.type = trnn_loss_at(KINDS.index(kind))
        self.loss.reduction = TRNN_MEAN if mean else TRNN_SUM
        self.loss.classes = 1
        self.arguments = arguments  # the core points into its arrays
        for value in arguments.values():
            if isinstance(value, np.ndarray):
                self.loss.classes = <int32_t> value.size
        write_arguments(&self.loss, trnn_loss_arguments(), arguments, kind)
        check(trnn_loss_check(&self.loss), kind)

    cdef size_t scratch_bytes(self, int32_t steps, int32_t batch, size_t numbers,
                              int32_t target_steps) noexcept nogil:
        """Return the bytes of working memory for such a job or a smaller one; SIZE_MAX if there are too many."""
        return trnn_loss_scratch_bytes(&self.loss, steps, batch, numbers, target_steps)

    cdef trnn_status run(self, const trnn_loss_job *job, double *value) noexcept nogil:
        """Run `trnn_loss_run` on a job."""
        return trnn_loss_run(&self.loss, job, value)

    def scratch(self, int32_t steps, int32_t batch, size_t numbers, int32_t target_steps=0):
        """Return `scratch_bytes`, for Python."""
        return self.scratch_bytes(steps, batch, numbers, target_steps)

    def compute(self, cnp.ndarray y, Target target not None, shape, cnp.ndarray values=None, str what="loss"):
        """Compute the loss of ``y`` and its gradient.

        Parameters
        ----------
        y : ndarray, float32
            C-contiguous, of ``steps * batch * rows * cols`` numbers.
        target : Target
        shape : (int, int, int, int)
            steps, batch, and rows and columns of a frame, as the caller has checked them against the target.
        values : ndarray, float32, optional
            Receives every single value.
        what : str
            Begins the message of an error.

        Returns
        -------
        (float, ndarray)
            The value, and a new array like ``y``.

        Raises
        ------
        ValueError, ShapeError, IndexError
            As status.def says. `values` is as before.
        MemoryError
            If CTC's paths need more memory than any machine has.
        """
        cdef trnn_loss_job job
        cdef double value = 0
        cdef trnn_status status
        job.isa = isa_in_use()
        job.steps, job.batch, job.rows, job.cols = shape
        job.y_rows_first = target.rows_first
        target.point(&job)
        cdef size_t bytes = self.scratch_bytes(
            job.steps, job.batch, <size_t> job.rows * job.cols, job.target_steps)
        if bytes == <size_t> -1:
            raise MemoryError(f"{what}: the paths of {job.target_steps} labels in {job.steps} steps take too much memory")
        cdef cnp.ndarray scratch = aligned_zeros(bytes)
        cdef cnp.ndarray dy = np.empty_like(y)
        job.scratch = cnp.PyArray_DATA(scratch)
        job.y = <const float *> cnp.PyArray_DATA(y)
        job.dy = <float *> cnp.PyArray_DATA(dy)
        job.values = NULL if values is None else <float *> cnp.PyArray_DATA(values)
        with nogil:
            status = self.run(&job, &value)
        if status != TRNN_OK:
            check(status, what)
        return value, dy


cdef class Target:
    """The target of a loss as the core reads it: C-contiguous arrays that the caller has checked.

    Parameters
    ----------
    numbers : ndarray, float32 or int32
    lengths : ndarray, int32, (batch,), optional
        Steps of each row that count.
    last : bool
        ``numbers`` has no axis of steps: each row's last step counts.
    probabilities : bool
        ``numbers`` is a distribution over classes, for a loss that also takes classes.
    rows_first : bool
        ``numbers`` is (batch, steps, ...).
    target_lengths : ndarray, int32, (batch,), optional
        CTC: number of labels of each row; ``numbers`` is (batch, most labels).
    mask : ndarray, bool, optional
        The steps that count: (steps, batch), or with ``rows_first`` (batch, steps).
    """

    def __cinit__(self, cnp.ndarray numbers not None, cnp.ndarray lengths=None, bint last=False,
                  bint probabilities=False, bint rows_first=False, cnp.ndarray target_lengths=None,
                  cnp.ndarray mask=None):
        self.numbers = numbers
        self.lengths = lengths
        self.last = last
        self.probabilities = probabilities
        self.rows_first = rows_first
        self.target_lengths = target_lengths
        self.mask = mask
        self.target_steps = 0 if target_lengths is None else <int32_t> cnp.PyArray_DIM(numbers, 1)

    cdef void point(self, trnn_loss_job *job) noexcept nogil:
        """Set the job's members for targets.

        The caller sets the others: isa, y, dy, values, rows, cols, steps, batch, scratch and y_rows_first.
        """
        job.target = cnp.PyArray_DATA(self.numbers)
        job.lengths = NULL
        job.target_lengths = NULL
        job.mask = NULL
        if <void *> self.lengths != <void *> None:
            job.lengths = <const int32_t *> cnp.PyArray_DATA(self.lengths)
        if <void *> self.target_lengths != <void *> None:
            job.target_lengths = <const int32_t *> cnp.PyArray_DATA(self.target_lengths)
        if <void *> self.mask != <void *> None:
            job.mask = <const uint8_t *> cnp.PyArray_DATA(self.mask)
        job.last = self.last
        job.probabilities = self.probabilities
        job.target_rows_first = self.rows_first
        job.target_steps = self.target_steps
