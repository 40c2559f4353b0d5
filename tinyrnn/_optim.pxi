"""An optimiser's step, seen from Python: pointers into packed buffers, and the order of calls; no arithmetic.

Design
------
A. ``Program`` is a compiled ``optim.Optimizer``: a rule for each of its groups, an entry for each tensor that
   trains. It is laid out anew, in place, when tensors are frozen or unfrozen.
B. ``step`` is the whole step for one thread. Threads that share a step call ``measure_part``, ``judge`` (one of
   them), ``update_part`` and ``finish`` (one of them), with a barrier after each.
C. A Program keeps the buffers that it points to, in ``owners``.
D. A step skips a tensor without a gradient, as PyTorch skips one whose ``grad`` is None. ``point`` finds the
   tensors that have one, before gradients are read.
"""

# The name of every optimiser of the core, with the names of its states in the core's order.
STATES = {
    trnn_optimiser_name(trnn_optimiser_at(i)).decode(): tuple([
        trnn_optimiser_state(trnn_optimiser_at(i), k).decode() for k in range(TRNN_STATES_MAX)])
    for i in range(trnn_optimiser_count())
}

# Names of hyperparameters, as trnn_rule has them.
ARGUMENTS = argument_names(trnn_rule_arguments())

cdef list _names = list(STATES)


cdef class Program:
    """The step of an optimiser over flat buffers.

    Parameters
    ----------
    rules : int
        Groups of hyperparameters; `set_rule` fills each before it is used.

    Attributes
    ----------
    max_norm, max_value : float
        The bounds for clipping, applied in this order; infinity for none. The buffers of gradients are not changed.
    norm : float
        The norm of all gradients at the last step, before clipping.
    bad : int
        The last tensor whose gradient was not finite then, or -1.
    """

    def __cinit__(self, int32_t rules):
        self.tensors = NULL
        self.sources = NULL
        self.sums = NULL
        self.count = 0
        self.rule_count = rules
        self.owners = []
        self.max_norm = self.max_value = INFINITY
        self.bad = -1
        self.scale = 1
        self.limit = TRNN_NO_LIMIT
        self.rules = <trnn_rule *> PyMem_Calloc(max(rules, 1), sizeof(trnn_rule))
        if self.rules == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.rules)
        self.free()

    cdef free(self):
        PyMem_Free(self.tensors)
        PyMem_Free(self.sources)
        PyMem_Free(self.sums)
        self.tensors = NULL
        self.sources = NULL
        self.sums = NULL
        self.count = 0

    def set_rule(self, int32_t i, str kind, dict options):
        """Set the hyperparameters of group ``i``, by their names in `ARGUMENTS`; those that are not given are 0.

        Returns
        -------
        tuple of bool
            True for each of ``STATES[kind]`` that a step needs.
        """
        assert 0 <= i < self.rule_count
        cdef trnn_rule rule
        memset(&rule, 0, sizeof(rule))
        rule.optimiser = trnn_optimiser_at(_names.index(kind))
        write_arguments(&rule, trnn_rule_arguments(), options, kind)
        self.rules[i] = rule
        return tuple([trnn_rule_uses(&rule, k) for k in range(TRNN_STATES_MAX)])

    def lay(self, list tensors):
        """Take the tensors that train, in the nets' order.

        Parameters
        ----------
        tensors : list of (core, param, states, rule, steps)
            A core layer and the tensor's place in it; for each of `STATES` an array with the layout of the layer's
            weights, or None; its group, whose rule is set; the steps it has done.
        """
        cdef size_t offset, numbers
        cdef int32_t i, k, rule, param
        cdef Layer core
        self.free()
        self.owners = []
        self.tensors = <trnn_tensor *> PyMem_Calloc(max(<int> len(tensors), 1), sizeof(trnn_tensor))
        self.sources = <Source *> PyMem_Calloc(max(<int> len(tensors), 1), sizeof(Source))
        if self.tensors == NULL or self.sources == NULL:
            self.free()
            raise MemoryError()
        for i, (core, param, states, rule, steps) in enumerate(tensors):
            offset, numbers = core.extent(param)
            assert 0 <= rule < self.rule_count
            self.tensors[i].rule = &self.rules[rule]
            self.tensors[i].weights = self.place(core.packed(), offset, numbers)
            self.tensors[i].gradients = self.place(core.gradients(), offset, numbers)
            self.sources[i] = Source(self.tensors[i].gradients, &core.graded, <uint32_t> 1 << param)
            self.owners.append(core)
            for k in range(TRNN_STATES_MAX):
                if states[k] is not None:
                    self.tensors[i].state[k] = self.place(states[k], offset, numbers)
                else:
                    assert not trnn_rule_uses(&self.rules[rule], k)
            self.tensors[i].numbers = numbers
            self.tensors[i].steps = steps
        self.count = <int32_t> len(tensors)
        self.sums = <double *> PyMem_Calloc(trnn_tensors_chunks(self.tensors, self.count) + 1, sizeof(double))
        if self.sums == NULL:
            self.free()
            raise MemoryError()

    cdef float *place(self, array, size_t offset, size_t numbers) except NULL:
        """Return the place of a tensor in a flat array, and keep the array alive."""
        assert array.dtype == np.float32 and array.ndim == 1 and array.flags.c_contiguous
        assert offset + numbers <= <size_t> len(array)
        self.owners.append(array)
        return <float *> cnp.PyArray_DATA(array) + offset

    def steps(self):
        """Return the number of steps that each tensor has done."""
        return [self.tensors[i].steps for i in range(self.count)]

    def run(self):
        """Do one step. Returns 0, or 1 if a gradient is not finite: then only `bad` and `norm` have changed."""
        cdef int status
        with nogil:
            status = self.step()
        return status

    def measure(self):
        """Set `norm` and `bad` without a step. Returns 0, or 1 if a gradient is not finite."""
        cdef int status
        with nogil:
            self.point()
            self.measure_part(0, 1)
            status = self.judge()
        return status

    def clip(self, double max_norm, double max_value):
        """Scale and bound the gradients themselves, after `measure`; infinity for neither."""
        cdef float scale = trnn_clip_scale(self.norm, max_norm)
        cdef float limit = <float> max_value if max_value < TRNN_NO_LIMIT else TRNN_NO_LIMIT
        if scale != 1 or limit != TRNN_NO_LIMIT:
            with nogil:
                self.point()
                trnn_tensors_clip(isa_in_use(), self.tensors, self.count, scale, limit, 0, 1)

    def clear(self):
        """Set the gradients to zero, and mark their tensors as without one."""
        with nogil:
            self.zero()

    # ---- without the GIL ---------------------------------------------------------------------------

    cdef void point(self) noexcept nogil:
        """Find the tensors that have a gradient."""
        cdef int32_t i
        for i in range(self.count):
            self.tensors[i].gradients = (
                self.sources[i].gradients if self.sources[i].graded[0] & self.sources[i].bit else NULL)

    cdef int step(self) noexcept nogil:
        self.point()
        self.measure_part(0, 1)
        if self.judge():
            return 1
        self.update_part(0, 1)
        self.finish()
        return 0

    cdef int zero(self) noexcept nogil:
        cdef int32_t i
        for i in range(self.count):
            self.tensors[i].gradients = self.sources[i].gradients
            self.sources[i].graded[0] &= ~self.sources[i].bit
        trnn_tensors_clear(self.tensors, self.count, 0, 1)
        return 0

    cdef void measure_part(self, int part, int parts) noexcept nogil:
        trnn_tensors_measure(isa_in_use(), self.tensors, self.count, self.sums, part, parts)

    cdef int judge(self) noexcept nogil:
        """Set norm and scale once all parts were measured. Returns 1 if a gradient is not finite."""
        self.norm = trnn_tensors_norm(self.tensors, self.count, self.sums, &self.bad)
        self.scale = trnn_clip_scale(self.norm, self.max_norm) if self.max_norm < INFINITY else 1
        self.limit = <float> self.max_value if self.max_value < TRNN_NO_LIMIT else TRNN_NO_LIMIT
        return self.bad >= 0

    cdef void update_part(self, int part, int parts) noexcept nogil:
        trnn_tensors_update(isa_in_use(), self.tensors, self.count, self.scale, self.limit, part, parts)

    cdef void finish(self) noexcept nogil:
        trnn_tensors_count(self.tensors, self.count)
