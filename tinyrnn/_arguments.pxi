# Part of `_core`: the members of C's structs, read and written by the names that C lists.

cdef const trnn_argument *argument_named(const trnn_argument *arguments, str name, str what) except NULL:
    """Return the entry of C's list with this name; ``what`` begins the message if there is none."""
    cdef const trnn_argument *argument = arguments
    while argument.name != NULL:
        if argument.name.decode() == name:
            return argument
        argument += 1
    names = ", ".join(argument_names(arguments)) or "none"
    raise TypeError(f"{what}: got an unexpected argument {name!r}, expected {names}")


cdef tuple argument_names(const trnn_argument *argument):
    names = []
    while argument.name != NULL:
        names.append(argument.name.decode())
        argument += 1
    return tuple(names)


cdef int write_argument(void *struct, const trnn_argument *argument, value) except -1:
    """Write one member of a struct. The caller keeps the array that TRNN_FLOATS points to."""
    cdef char *place = <char *> struct + argument.offset
    if argument.type == TRNN_INT32:
        (<int32_t *> place)[0] = value
    elif argument.type == TRNN_FLOAT:
        (<float *> place)[0] = value
    elif argument.type == TRNN_DOUBLE:
        (<double *> place)[0] = value
    else:
        (<const float **> place)[0] = NULL if value is None else <float *> cnp.PyArray_DATA(value)
    return 0


cdef int write_arguments(void *struct, const trnn_argument *arguments, dict given, str what) except -1:
    for name, value in given.items():
        write_argument(struct, argument_named(arguments, name, what), value)
    return 0


cdef read_argument(const void *struct, const trnn_argument *argument):
    """Read one number of a struct. A float becomes the shortest decimal that rounds to it, so 0.1 stays 0.1."""
    cdef const char *place = <const char *> struct + argument.offset
    if argument.type == TRNN_INT32:
        return (<const int32_t *> place)[0]
    if argument.type == TRNN_FLOAT:
        return float(str(np.float32((<const float *> place)[0])))
    return (<const double *> place)[0]
