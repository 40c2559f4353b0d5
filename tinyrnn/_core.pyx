# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The core, seen from Python: memory, checks and statuses; no arithmetic.

Design
------
A. A C status becomes a Python exception in ``check`` and nowhere else.
B. Arrays are read through NumPy's C interface, which costs a few instructions where a typed
   memoryview costs thousands. The GIL is released around the kernels of all but the smallest steps.
C. Each subject has a file of its own, included at the end of this one, with its design at its head.
"""

import builtins
import os

import numpy as np

from tinyrnn import errors, library
from tinyrnn.arrays import as_array, as_floats, as_plain, is_plain, widened
from tinyrnn.threads import hand_over


cdef extern from *:
    """
    /* setup.py marks the functions of a stream with it. Other compilers than GCC build them for size. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define TRNN_FAST __attribute__((optimize("O2"), aligned(64)))
    #else
    #define TRNN_FAST
    #endif
    """

cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_Occurred
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.stdint cimport PTRDIFF_MAX, int32_t, int64_t, uint32_t, uintptr_t
from libc.string cimport memcpy, memset

from tinyrnn._tinyrnn_h cimport *

cnp.import_array()
library.serve(__file__)


cdef int check(trnn_status status, str what) except -1:
    """Raise the Python exception that status.def names for ``status``."""
    if status == TRNN_OK:
        return 0
    if status == TRNN_E_INTERRUPTED and PyErr_Occurred() != NULL:
        return -1  # what the signal's handler raised
    cdef str name = trnn_status_exception(status).decode()
    raise (getattr(errors, name, None) or getattr(builtins, name))(
        f"{what}: {trnn_status_text(status).decode()}"
    )


# ---- instruction sets ---------------------------------------------------------------------------

cdef const trnn_kernels *_isas[16]
cdef int32_t _isa_count = trnn_isa_list(_isas, 16)
cdef const trnn_kernels *_isa = _isas[_isa_count - 1]


def available_isas():
    """Return the instruction sets that this build has and this machine can run, the best one last."""
    return [trnn_isa_name(_isas[i]).decode() for i in range(_isa_count)]


cdef const trnn_kernels *isa_named(str name) except NULL:
    for i in range(_isa_count):
        if trnn_isa_name(_isas[i]).decode() == name:
            return _isas[i]
    raise ValueError(f"instruction set: got {name!r}, which is not available here, expected one of {available_isas()}")


def isa():
    """Return the name of the instruction set in use."""
    return trnn_isa_name(_isa).decode()


def set_isa(name=None):
    """Choose the instruction set for every net and stream from now on.

    Parameters
    ----------
    name : str, optional
        One of `available_isas`; by default the best that this machine has.

    Raises
    ------
    ValueError
        If this build or this machine does not have it.
    """
    global _isa
    _isa = _isas[_isa_count - 1] if name is None else isa_named(name)


def is_fused(name):
    """Tell whether an instruction set has a fused multiply-add: all of those give the same bits."""
    return bool(trnn_isa_fused(isa_named(name)))


cdef const trnn_kernels *isa_in_use() noexcept nogil:
    return _isa


# The message about a wrong TINYRNN_ISA in the environment; None if there is nothing wrong.
isa_problem = None
_asked = os.environ.get("TINYRNN_ISA", "").strip()
if _asked in available_isas():
    set_isa(_asked)
elif _asked:
    isa_problem = (
        f"environment variable TINYRNN_ISA: got {_asked[:40]!r}, expected one of "
        f"{' '.join(available_isas())} (what this build has and this machine can run)"
    )
    from tinyrnn.environment import warn_of_isa

    warn_of_isa(f"{isa_problem}; the best one is used, {isa()}")


# All of this is one module: a device needs all of it at once, and the calls of a step stay within one file of C.
# Each file has one subject and uses the files before it. `_nonfinite.pxi` continues `Stream`.
include "_arrays.pxi"
include "_arguments.pxi"
include "_rounds.pxi"
include "_layers.pxi"
include "_plans.pxi"
include "_shapes.pxi"
include "_streams.pxi"
include "_nonfinite.pxi"
include "_machine.pxi"
