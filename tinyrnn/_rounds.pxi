# Part of `_core`: threads and signals.
#
# ``Round`` runs tasks in several threads and waits for all of them. No signal breaks the wait, since the threads
# write to the caller's arrays. ``Guard`` and ``Used`` let one thread at a time use an object. The GIL protects all;
# in a Python without one the few writes that threads compete for are atomic, or in a critical section.


cdef extern from *:
    """
    /* Not 0 if the round that this thread works for is to stop. NULL: no round. */
    static __thread int *round_stop;

    #ifdef Py_GIL_DISABLED
    static inline int take_mark(int32_t *mark, int32_t found, int32_t own)
    {
        return __atomic_compare_exchange_n(mark, &found, own, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    }
    #define set_mark(mark, value)     __atomic_store_n(mark, value, __ATOMIC_RELEASE)
    #define count_down(count, by)     __atomic_sub_fetch(count, by, __ATOMIC_ACQ_REL)
    #define publish(place, pointer)   __atomic_store_n(place, pointer, __ATOMIC_RELEASE)
    #define read_changes(count)       __atomic_load_n(count, __ATOMIC_ACQUIRE)
    #define count_change(count)       __atomic_add_fetch(count, 1, __ATOMIC_RELEASE)
    #else
    static inline int take_mark(int32_t *mark, int32_t found, int32_t own)
    {
        return *mark == found ? (*mark = own, 1) : 0;
    }
    #define set_mark(mark, value)     (*(mark) = (value))
    #define count_down(count, by)     (*(count) -= (by))
    #define publish(place, pointer)   (*(place) = (pointer))
    #define read_changes(count)       (*(count))
    #define count_change(count)       (++*(count))
    #endif
    """
    int *round_stop
    bint take_mark(int32_t *mark, int32_t found, int32_t own) noexcept  # true if `found` was there, which is `own` now
    void set_mark(int32_t *mark, int32_t value) noexcept
    int32_t count_down(int32_t *count, int32_t by) noexcept  # returns what is left
    void publish(char **place, char *pointer) noexcept  # whoever sees the pointer sees the numbers that it points to
    uint32_t read_changes(uint32_t *count) noexcept
    void count_change(uint32_t *count) noexcept

cdef extern from "Python.h":
    int signals_handled "PyErr_CheckSignals"() noexcept  # not 0: a handler has raised, which is pending
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible) nogil
    enum: PY_LOCK_ACQUIRED

    ctypedef struct PyInterpreterState
    ctypedef struct PyThreadState
    PyInterpreterState *PyInterpreterState_Get() noexcept
    PyThreadState *PyInterpreterState_ThreadHead(PyInterpreterState *interpreter) noexcept
    PyThreadState *PyThreadState_Next(PyThreadState *thread) noexcept

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define HAS_GIL 0
    #else
    #define HAS_GIL 1
    #endif
    """
    enum: HAS_GIL


cdef enum:
    WAIT_US = 50000  # the time between two checks for signals while a round waits

# Work is counted as `trnn_sizes.cost` times rows and steps. A step costs more than its numbers say, LEAST_COST a row.
cdef int64_t LEAST_COST = 4096

# The work between two checks for signals: milliseconds on a server, at most about a second on a Raspberry Pi Zero.
cdef int64_t PATIENCE = 1 << 30

# The most work of a step that keeps the GIL whatever other threads there are: about a microsecond. To give it up and
# take it again costs 60 ns.
cdef int64_t BRIEF = 1 << 15


cdef inline bint is_alone() noexcept:
    """Tell whether no other thread could run Python if this one gave up the GIL."""
    return HAS_GIL and PyThreadState_Next(PyInterpreterState_ThreadHead(PyInterpreterState_Get())) == NULL


cdef struct Watch:
    int64_t left, blocks  # blocks of steps until the next check, and between checks


cdef int poll(void *context) noexcept nogil:
    """Serve as `trnn_job.poll`: 1 if a signal's handler has raised, here or in the thread that called the round."""
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
        """Run one task."""
        global round_stop
        cdef int *outer = round_stop
        round_stop = &self.stop
        try:
            self.tasks[i]()
        except BaseException as error:
            self.errors.append((i, error))
        round_stop = outer
        if count_down(&self.left, 1) == 0:
            PyThread_release_lock(self.end)

    def run(self, hand_over, bint signals):
        """Run all tasks, and wait for the last one in any case: they write to the caller's arrays.

        No Python code runs during the wait, so a signal's handler cannot break it.

        Parameters
        ----------
        hand_over : callable
            Takes the pair (round, place of a task). Another thread calls ``round.work(place)``.
        signals : bool
            Handle signals during the wait. If a handler raises, runs of a `Plan` stop.

        Raises
        ------
        BaseException
            The exception of a signal's handler, or of the earliest task that failed.
        """
        cdef int32_t i, handed = 1, count = self.left
        try:
            for i in range(1, count):
                hand_over((self, i))
                handed += 1
        except BaseException as error:
            self.errors.append((handed, error))
            count_down(&self.left, count - handed)
        self.work(0)
        while not self.wait(WAIT_US if signals else -1):
            try:
                if signals_handled():
                    check(TRNN_E_INTERRUPTED, "run")
            except BaseException as error:
                self.errors.append((-1, error))
                self.stop = 1
                signals = False  # a second signal waits, too
        if self.errors:
            raise min(self.errors, key=first_of)[1]

    cdef bint wait(self, long long microseconds) noexcept:
        """Wait at most so long, or without a limit for -1; true once all tasks are done."""
        cdef bint done
        with nogil:
            done = PyThread_acquire_lock_timed(self.end, microseconds, 0) == PY_LOCK_ACQUIRED
        return done


def first_of(pair):
    return pair[0]


# The number of forks that led to this process, counted from 1. A holder with another number was a thread of the
# parent.
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
        The message of the error.

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
        cdef int32_t found = self.holder
        if found == _life or not take_mark(&self.holder, found, _life):
            raise RuntimeError(self.message)

    def __exit__(self, kind, error, traceback):
        set_mark(&self.holder, 0)


cdef class Used:
    """The base of streams: one thread at a time uses such an object; a second one gets an error, not a race."""

    cdef int32_t busy  # `_life` of the process whose thread uses it, or 0

    def free(self, str what):
        """Raise RuntimeError if another thread is using the stream."""
        self.refuse(self.busy, what)

    cdef int refuse(self, int32_t found, str what) except -1:
        if found == _life:
            raise RuntimeError(f"{what}: the stream is in use by another thread: give each thread a copy()")
        return 0

    def idle(self, str what):
        """Raise RuntimeError if another thread is using the stream, or a fork left half a step in its state."""
        cdef int32_t found = self.busy  # once: another thread may come and go
        self.refuse(found, what)
        if found:
            raise RuntimeError(f"{what}: this process was forked while a thread of its parent used the stream, "
                               "which left half a step in its state: call reset() or set the state first")

    def renew(self, str what):
        """Begin to write another state, as `take`, but whatever a fork left; returns the mark for `leave` to restore."""
        cdef int32_t found = self.busy
        self.refuse(found, what)
        while not take_mark(&self.busy, found, _life):
            found = self.busy
            self.refuse(found, what)
        return found

    def take(self, str what):
        """Begin to use the stream; raise RuntimeError as `idle`."""
        while not take_mark(&self.busy, 0, _life):
            self.idle(what)

    def leave(self, int32_t mark=0):
        """End what `take` or `renew` has begun; a `mark` that `renew` returned says that nothing was written."""
        set_mark(&self.busy, mark)


def run_all(tasks, bint signals=True):
    """Run the tasks at once, the first one here; return when all are done.

    Parameters
    ----------
    tasks : sequence of callables
    signals : bool
        Handle signals meanwhile: a handler that raises, such as Ctrl-C's, ends runs of a plan early.
        Otherwise it is called when all are done.

    Raises
    ------
    BaseException
        The exception of the earliest task that raised one, or of a signal's handler. All tasks have ended.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    Round(tasks).run(hand_over(len(tasks) - 1), signals)
