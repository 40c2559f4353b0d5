# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Training, seen from Python: the tape of a net, and the trainer's step. No arithmetic.

Design
------
A. ``Tape`` is a list of Layers laid out for training with a frame, a batch and a largest number of steps. Its size
   is known at once; its memory comes with the first call.
B. ``CoreTrainer`` (_trainer.pxi) is a step of training: a tape, a loss and an optimiser's program in one call.
C. The work of a call has phases (tinyrnn.h: forward, backward, gradients). ``parts`` share each of them. One part
   runs without Python; several are tasks of `threads`, with one round for each phase.
"""

import numpy as np

from tinyrnn import errors
from tinyrnn._core import run_all

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from tinyrnn._core cimport (
    Described,
    Layer,
    aligned_zeros,
    argument_names,
    changes_of_layers,
    check,
    describe_value,
    fill_steps,
    frame_numbers,
    isa_in_use,
    write_arguments,
)
from tinyrnn._tinyrnn_h cimport *

cnp.import_array()

include "_losses.pxi"
include "_optim.pxi"


cdef some(size_t nbytes):
    """Return zeros, never an empty array, so that a pointer to it is valid."""
    return aligned_zeros(nbytes if nbytes > 64 else 64)


def splitmix(uint64_t seed, uint64_t place):
    """Return the ``place``-th of a sequence of 64-bit random numbers: splitmix64 (Steele, Lea and Flood, 2014)."""
    cdef uint64_t z = seed + place * <uint64_t> 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef class Part:
    """One thread's share of a tape's work: a job with a scratch of its own. A task of `threads`."""

    cdef Tape tape
    cdef cnp.ndarray scratch
    cdef trnn_training_job job

    cdef void follow(self, const trnn_training_job *first) noexcept:
        """Take over the first part's job; scratch and share stay."""
        cdef trnn_training_job own = self.job
        self.job = first[0]
        self.job.scratch, self.job.part = own.scratch, own.part

    def __call__(self):
        cdef const trnn_training *training = self.tape.training
        cdef int32_t stage = self.tape.stage
        cdef Phase phase = self.tape.phase
        with nogil:
            if phase == FORWARD:
                trnn_forward(training, &self.job, stage)
            elif phase == BACKWARD:
                trnn_backward(training, &self.job, stage)
            elif phase == GRADIENTS:
                trnn_gradients(training, &self.job)
            elif phase == MEASURE:
                self.tape.program.measure_part(self.job.part, self.job.parts)
            else:
                self.tape.program.update_part(self.job.part, self.job.parts)


cdef class Tape:
    """A net laid out for training.

    Parameters
    ----------
    layers : list of Layer
        All float32.
    frame : tuple of int
        The frame that a chain reads; `Cores` have ``inputs``.
    batch : int
    steps : int or tuple of int
        The most steps of a sequence, of each axis of time.
    threads : int
        The number of threads that share the rows.
    instead : list of dict
        For each layer, arguments that replace its own in training.

    Raises
    ------
    TypeError
        If a layer's format is not float32.
    ShapeError, OverflowError
        If the layers do not fit each other, or are too large.
    """

    def __cinit__(self, layers, tuple frame, int32_t batch, steps, int32_t threads=1, list instead=None):
        cdef int32_t count = <int32_t> len(layers)
        self.changes = changes_of_layers()
        cdef Described described = Described(layers, frame)
        cdef int32_t most[TRNN_AXES_MAX]
        fill_steps(most, steps)
        self.weights = <void **> PyMem_Malloc(count * sizeof(void *))
        self.grads = <float **> PyMem_Malloc(count * sizeof(void *))
        self.graded = <uint32_t **> PyMem_Malloc(count * sizeof(void *))
        self.trained = <uint32_t *> PyMem_Malloc(count * sizeof(uint32_t))
        if self.weights == NULL or self.grads == NULL or self.graded == NULL or self.trained == NULL:
            raise MemoryError()
        self.layers = list(layers)
        self.instead = instead or [{}] * count
        for i in range(count):
            (<Layer> layers[i]).trainable()
            described.layers[i] = self.layer_of(i)
            self.graded[i] = &(<Layer> layers[i]).graded
            self.trained[i] = 0
        self.count = count
        self.memory = bytes(trnn_training_bytes(&described.net))
        self.training = <trnn_training *> <char *> self.memory
        check(trnn_training_init(self.training, &described.net, batch, most, &self.sizes), "training")
        self.threads = threads if threads < batch else batch
        self.parts = []

    cdef trnn_layer layer_of(self, int32_t i) except *:
        """Return the i-th layer with its arguments for training."""
        cdef Layer core = self.layers[i]
        cdef trnn_layer layer = core.layer
        write_arguments(&layer, trnn_layer_arguments(&layer), self.instead[i], core.kind)
        return layer

    cdef int adjust(self) except -1:
        """Take over live arguments that have changed."""
        cdef trnn_layer layer
        cdef int32_t i
        cdef uint32_t known = changes_of_layers()
        for i in range(self.count):
            layer = self.layer_of(i)
            trnn_training_adjust(self.training, i, &layer)
        self.changes = known
        return 0

    def __dealloc__(self):
        PyMem_Free(self.weights)
        PyMem_Free(self.grads)
        PyMem_Free(self.graded)
        PyMem_Free(self.trained)

    @property
    def batch(self):
        return self.sizes.batch

    @property
    def most_steps(self):
        """The most steps of each axis of time."""
        return tuple([self.sizes.steps[axis] for axis in range(TRNN_AXES_MAX)])

    @property
    def tape_bytes(self):
        return self.sizes.tape_bytes

    @property
    def scratch_bytes(self):
        """Bytes of all threads' working memory."""
        return self.sizes.scratch_bytes * self.threads

    @property
    def state_bytes(self):
        return self.sizes.state_bytes

    @property
    def outputs(self):
        """((planes, rows, cols), axis of time) of each output; axis 0 is per sequence."""
        return [describe_value(&self.sizes.outs[i]) for i in range(self.sizes.outputs)]

    cdef allocate(self):
        """Allocate all memory, unless that is done."""
        cdef Part part
        if self.parts:
            return
        self.tape = some(self.sizes.tape_bytes)
        self.dstate = some(self.sizes.state_bytes)
        for i in range(self.threads):
            part = Part.__new__(Part)
            part.tape = self
            part.scratch = some(self.sizes.scratch_bytes)
            part.job.weights = self.weights
            part.job.grads = <float *const *> self.grads
            part.job.tape = cnp.PyArray_DATA(self.tape)
            part.job.scratch = cnp.PyArray_DATA(part.scratch)
            part.job.dstate = <float *> cnp.PyArray_DATA(self.dstate)
            part.job.part = i
            part.job.parts = self.threads
            for axis in range(TRNN_AXES_MAX):
                part.job.steps[axis] = 1
                part.job.lengths[axis] = NULL
            self.parts.append(part)
        self.job = &(<Part> self.parts[0]).job

    cdef int point(self, feed, float *state, uint64_t seed, bint to_input) except -1:
        """Point the jobs of all parts at the arrays of a `Feed`, and check them."""
        cdef Part part
        cdef Layer layer
        cdef trnn_training_job *job = self.job
        if self.changes != changes_of_layers():
            self.adjust()
        for i in range(len(self.layers)):
            layer = self.layers[i]
            self.weights[i] = <void *> layer.ready()
        if len(feed.arrays) != self.sizes.inputs:
            raise ValueError(f"training: got {len(feed.arrays)} arrays, expected {self.sizes.inputs}")
        for i, array in enumerate(feed.arrays):
            job.x[i] = cnp.PyArray_DATA(<cnp.ndarray> array)
            job.x_step[i], job.x_row[i] = feed.strides[i]
        for i, ends in enumerate(feed.lengths):
            job.steps[i] = feed.steps[i]
            job.lengths[i] = NULL if ends is None else <int32_t *> cnp.PyArray_DATA(<cnp.ndarray> ends)
        job.isa = isa_in_use()
        job.state = state
        job.ends = feed.ends
        job.seed[0], job.seed[1] = <uint32_t> seed, <uint32_t> (seed >> 32)
        job.to_input = to_input
        for part in self.parts[1:]:
            part.follow(job)
        self.ends = feed.lengths  # the backward pass reads them
        return check(trnn_training_check(self.training, job), "training")

    def point_gradients(self, list trained):
        """Point at the gradients; ``trained`` has a number for each layer, bit i for its i-th tensor that trains."""
        cdef Layer layer
        for i in range(len(self.layers)):
            layer = self.layers[i]
            self.grads[i] = NULL
            self.trained[i] = trained[i]
            if self.trained[i]:
                self.grads[i] = <float *> cnp.PyArray_DATA(layer.gradients())

    cdef void mark(self) noexcept nogil:
        """Mark the tensors that have a gradient after a backward pass."""
        cdef int32_t i
        for i in range(self.count):
            self.graded[i][0] |= self.trained[i]

    cdef int run(self, Phase phase, int32_t stage) except -1:
        self.phase, self.stage = phase, stage
        run_all(self.parts, False)  # a signal waits for the end of the step
        return 0

    # ---- one call of each kind, for net(x) and net.backward(dy) ------------------------------------------

    def forward(self, feed, cnp.ndarray state, uint64_t seed, list trained):
        """Run forward, and keep the numbers that `backward` needs.

        Parameters
        ----------
        feed : Feed
            The inputs; nobody may write to its lengths before the backward pass.
        state : ndarray, float32, as a stream's
            The initial state; becomes the final one.
        seed : int
            The seed of dropout's masks.
        trained : list of int
            For each layer its tensors that have gradients, bit i for the i-th.

        Returns
        -------
        list of ndarray, float32, (steps, batch, planes, rows, cols)
            The outputs, copies; of a value per sequence (1, batch, ...).
        """
        self.allocate()
        self.point_gradients(trained)
        self.point(feed, <float *> cnp.PyArray_DATA(state), seed, True)
        for stage in range(self.sizes.stages):
            self.run(FORWARD, stage)
        return [self.array(self.sizes.y[i], &self.sizes.outs[i], self.steps_of(i)).copy()
                for i in range(self.sizes.outputs)]

    def backward(self, dys, cnp.ndarray dstate):
        """Run backward, and add to the layers' gradients.

        Parameters
        ----------
        dys : sequence of ndarray, C-contiguous float32, or None for zeros
            With the numbers of what `forward` returned.
        dstate : ndarray, float32, as the state
            The gradient of the final state; becomes that of the initial one.

        Returns
        -------
        list of ndarray, float32, (steps, batch, planes, rows, cols), copies; None for indices
            The gradients of the inputs.
        """
        for i, dy in enumerate(dys):
            self.array(self.sizes.dy[i], &self.sizes.outs[i], self.steps_of(i)).reshape(-1)[:] = (
                0 if dy is None else dy.reshape(-1))
        self.dstate[:dstate.size] = dstate
        for part in self.parts:
            (<Part> part).job.hidden = self.keeps_hidden
        for stage in range(self.sizes.stages - 1, -1, -1):
            self.run(BACKWARD, stage)
        self.run(GRADIENTS, 0)
        self.mark()
        dstate[:] = self.dstate[:dstate.size]
        return [None if self.sizes.indices >> i & 1 else
                self.array(self.sizes.dx[i], &self.sizes.ins[i],
                           self.job.steps[self.sizes.ins[i].axis - 1] if self.sizes.ins[i].axis else 1).copy()
                for i in range(self.sizes.inputs)]

    def hidden(self, int32_t i, size_t size):
        """The gradient of each hidden state of the recurrent layer ``i`` after `backward`: (steps, batch, size)."""
        cdef int32_t steps
        cdef const float *from_ = trnn_training_hidden(self.training, self.job, i, &steps)
        cdef cnp.ndarray found = np.empty((steps, self.sizes.batch, size), np.float32)
        memcpy(cnp.PyArray_DATA(found), from_, found.nbytes)
        return found

    def lengths_of(self, int32_t output):
        """The steps of each row of an output in the last pass, (batch,) int32; None if all have all."""
        cdef size_t at = self.sizes.lengths[output]
        if self.has_rate(output):
            return self.tape.view(np.int32)[at // 4:at // 4 + self.sizes.batch].copy()
        return self.ends[self.sizes.outs[output].axis - 1] if self.sizes.outs[output].axis else None

    def has_rate(self, int32_t output):
        """Tell whether an output is on an axis of another rate than the inputs."""
        return self.sizes.lengths[output] != <size_t> -1

    def due(self, int32_t output, cnp.ndarray state, feed):
        """The steps of an output in a pass: the most, and those of each row, (batch,) int32.

        ``state`` is the initial one, None for zeros.

        Raises
        ------
        ShapeError
            If a row has none.
        """
        cdef trnn_training_job job
        cdef cnp.ndarray array
        cdef cnp.ndarray rows = np.empty(self.sizes.batch, np.int32)
        if state is None:
            state = some(self.sizes.state_bytes)
        memset(&job, 0, sizeof(job))
        job.state, job.ends = <float *> cnp.PyArray_DATA(state), feed.ends
        for i, ends in enumerate(feed.lengths):
            job.steps[i] = feed.steps[i]
            if ends is not None:
                array = ends
                job.lengths[i] = <int32_t *> cnp.PyArray_DATA(array)
        most = trnn_training_steps(self.training, &job, output, <int32_t *> cnp.PyArray_DATA(rows))
        check(TRNN_OK if rows.all() else TRNN_E_SHORT, "training")
        return most, rows

    cdef int32_t steps_of(self, int32_t output) noexcept:
        """The steps of an output in the last pass."""
        cdef const trnn_value *out = &self.sizes.outs[output]
        if self.has_rate(output):  # the core's count comes before those of the rows
            return (<const int32_t *> (<const char *> self.job.tape + self.sizes.lengths[output]) - 2)[0]
        return self.job.steps[out.axis - 1] if out.axis else 1

    cdef cnp.ndarray array(self, size_t offset, const trnn_value *value, size_t steps):
        """Return one of the tape's arrays: (steps, batch, planes, rows, cols)."""
        cdef size_t count = steps * self.sizes.batch * frame_numbers(value)
        return self.tape[offset // 4:offset // 4 + count].reshape(
            steps, self.sizes.batch, value.frame.planes, value.frame.rows, value.frame.cols)


include "_starts.pxi"
include "_trainer.pxi"
