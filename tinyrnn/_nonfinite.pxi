# Part of `_core`: streams that check for numbers that are not finite, as net.stream(nonfinite=) asks.


cdef trnn_status run_watched(Stream stream, const char *x, float *y, float *state, int32_t steps, str what,
                             bint end) except *:
    """Do `Stream.run_parts`, and apply `nonfinite` to a row whose input or new state is not finite.

    A failure leaves state and ``y`` as before.
    """
    cdef const trnn_sizes *sizes = &stream.plan.sizes
    cdef size_t state_bytes = sizes.state_bytes
    cdef size_t x_step = <size_t> sizes.batch * stream.x_row
    cdef size_t y_step = 0 if stream.per_sequence else <size_t> sizes.batch * stream.y_row
    cdef size_t y_size = <size_t> sizes.batch * stream.y_row * (1 if stream.per_sequence else steps)
    cdef int32_t t = 0, good, stop
    cdef trnn_status status = TRNN_OK
    cdef cnp.ndarray own = None
    cdef float *to = y
    if stream.nonfinite == STOP:
        good = good_steps(stream, x, steps)
        if good < steps:
            refuse(stream, x + <size_t> good * x_step * 4, good, steps, what)
    if stream.nonfinite == STOP or sizes.indices:  # these can fail after some steps
        own = np.empty(y_size, np.float32)
        to = <float *> cnp.PyArray_DATA(own)
    memcpy(cnp.PyArray_DATA(stream.began), state, state_bytes)
    try:
        while t < steps and status == TRNN_OK:
            good = good_steps(stream, x + t * x_step * 4, steps - t)
            if good > 1 and not stream.recovers:  # in one run, unless the state becomes infinite or NaN in it
                memcpy(cnp.PyArray_DATA(stream.before), state, state_bytes)
                status = <trnn_status> stream.run_parts(x + t * x_step * 4, to + t * y_step, state, good,
                                                       end and t + good == steps)
                if status != TRNN_OK or all_finite(state, state_bytes // 4):
                    t += good
                    continue
                memcpy(state, cnp.PyArray_DATA(stream.before), state_bytes)
            stop = t + (good if good > 1 else 1)
            while t < stop and status == TRNN_OK:
                if t > 0 and signals_handled():
                    check(TRNN_E_INTERRUPTED, what)
                memcpy(cnp.PyArray_DATA(stream.before), state, state_bytes)
                status = <trnn_status> stream.run_parts(x + t * x_step * 4, to + t * y_step, state, 1,
                                                       end and t + 1 == steps)
                if status == TRNN_OK:
                    mend(stream, x + t * x_step * 4, to + t * y_step, state, t, steps, what)
                t += 1
    except BaseException:
        memcpy(state, cnp.PyArray_DATA(stream.began), state_bytes)
        raise
    if status != TRNN_OK:
        memcpy(state, cnp.PyArray_DATA(stream.began), state_bytes)
    elif own is not None:
        memcpy(y, to, y_size * 4)
    return status


cdef trnn_status run_stopped(Stream stream, const char *x, float *y, float *state, int32_t steps, str what,
                             bint end) except *:
    """Do `Stream.run_parts` all at once, and raise if the input or the new state is not finite.

    A failure leaves the state as before.
    """
    cdef size_t batch = <size_t> stream.plan.sizes.batch, bytes_ = stream.plan.sizes.state_bytes, row
    cdef int32_t good = good_steps(stream, x, steps)
    cdef trnn_status status
    if good < steps:
        refuse(stream, x + <size_t> good * batch * stream.x_row * 4, good, steps, what)
    memcpy(cnp.PyArray_DATA(stream.began), state, bytes_)
    try:
        status = <trnn_status> stream.run_parts(x, y, state, steps, end)
        for row in range(batch):
            if status == TRNN_OK and not all_finite(state + row * (bytes_ // 4 // batch), bytes_ // 4 // batch):
                raise errors.NonFiniteError(
                    f"{what}: the state of row {row} is not finite any more; it is as before the call")
    except BaseException:
        memcpy(state, cnp.PyArray_DATA(stream.began), bytes_)
        raise
    if status != TRNN_OK:
        memcpy(state, cnp.PyArray_DATA(stream.began), bytes_)
    return status


cdef int32_t good_steps(Stream stream, const char *x, int32_t steps) noexcept:
    """Count the steps before the first one with a number that is not finite."""
    cdef const trnn_sizes *sizes = &stream.plan.sizes
    cdef size_t numbers = <size_t> sizes.batch * stream.x_row
    cdef int32_t t
    if sizes.indices:
        return steps
    for t in range(steps):
        if not all_finite(<const float *> x + t * numbers, numbers):
            return t
    return steps


cdef int mend(Stream stream, const char *x, float *y, float *state, int32_t t, int32_t steps, str what) except -1:
    """Mend the rows that are not finite after step ``t``, whose input and output these are."""
    cdef const trnn_sizes *sizes = &stream.plan.sizes
    cdef size_t numbers = sizes.state_bytes // 4 // sizes.batch, row, i
    cdef size_t x_row = 0 if sizes.indices else stream.x_row
    cdef size_t y_row = stream.y_row
    cdef const float *before = <const float *> cnp.PyArray_DATA(stream.before)
    cdef float nan = float("nan")
    for row in range(<size_t> sizes.batch):
        if all_finite(<const float *> x + row * x_row, x_row) and all_finite(state + row * numbers, numbers):
            continue
        if stream.nonfinite == STOP:
            place = f" in step {t}" if steps > 1 else ""
            raise errors.NonFiniteError(
                f"{what}: the state of row {row} is not finite any more{place}; it is as before the call")
        if stream.nonfinite == SKIP:
            memcpy(state + row * numbers, before + row * numbers, numbers * 4)
        else:
            stream.begin(row)
        for i in range(y_row):
            y[row * y_row + i] = nan
    return 0


cdef int refuse(Stream stream, const char *x, int32_t t, int32_t steps, str what) except -1:
    """Raise NonFiniteError for step ``t``, which begins at ``x``."""
    cdef const float *numbers = <const float *> x
    cdef size_t i = 0
    while all_finite(numbers + i, 1):
        i += 1
    row = i // stream.x_row
    place = f"step {t} of row {row}" if steps > 1 else f"row {row}"
    raise errors.NonFiniteError(f"{what}: x holds {numbers[i]} in {place}; the state is as before")


cdef bint all_finite(const float *numbers, size_t count) noexcept:
    cdef size_t i
    for i in range(count):
        if not numbers[i] - numbers[i] == 0:
            return False
    return True


cdef bint state_recovers(Layer layer):
    """Tell whether an infinite state may be finite again some steps later.

    That is so if the state is not bounded and reaches the next one through a matrix only.
    """
    return any([layer.argument(name) for name in ("relu", "proj_size") if name in layer.arguments])
