# Part of `_training`: the initial state that belongs to a net, in training.


cdef class Start:
    """The places of a net's initial state: in tables, which core layers keep as weights, and in a row of a state.

    Parameters
    ----------
    parts : list of (Layer, int, int, int, bool)
        The table's layer, the first number in it, the place within a row, the count of numbers, and True if it
        trains.
    batch : int
    state_bytes : int
        Bytes of the state of all rows.
    deep : bool
        True if the backward pass must go to the initial state of layers whose weights do not train.
    """

    def __cinit__(self, list parts not None, int32_t batch, size_t state_bytes, bint deep):
        cdef Layer layer
        self.count = 0
        self.parts = <StartPart *> PyMem_Malloc((len(parts) + 1) * sizeof(StartPart))
        if self.parts == NULL:
            raise MemoryError()
        self.batch, self.row, self.deep, self.trains, self.owners = batch, state_bytes // 4 // batch, deep, False, []
        for layer, first, at, count, trains in parts:
            offset, numbers = layer.extent(0)
            assert first + count <= numbers and at + count <= self.row
            self.parts[self.count].table = <const float *> layer.ready() + <size_t> (offset + first)
            self.parts[self.count].gradient = NULL
            if trains:
                gradients = layer.gradients()
                self.owners.append(gradients)
                self.parts[self.count].gradient = (
                    <float *> cnp.PyArray_DATA(<cnp.ndarray> gradients) + <size_t> (offset + first))
                self.trains = True
            self.parts[self.count].graded = &layer.graded
            self.parts[self.count].at, self.parts[self.count].count = at, count
            self.owners.append(layer)
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.parts)

    cdef void write(self, float *state) noexcept nogil:
        """Write the tables to every row of a state."""
        cdef int32_t i, b
        for i in range(self.count):
            for b in range(self.batch):
                memcpy(state + b * self.row + self.parts[i].at, self.parts[i].table,
                       <size_t> self.parts[i].count * sizeof(float))

    cdef void add(self, const float *dstate) noexcept nogil:
        """Add the gradient of the initial state, row by row, to those of the tables that train."""
        cdef int32_t i
        for i in range(self.count):
            if self.parts[i].gradient != NULL:
                trnn_rows_add(self.parts[i].gradient, dstate + self.parts[i].at, self.row, self.batch,
                              self.parts[i].count)
                self.parts[i].graded[0] |= 1

    def add_gradients(self, cnp.ndarray dstate):
        """Add the gradient of the initial state to those of the tables that train."""
        self.add(<const float *> cnp.PyArray_DATA(dstate))
