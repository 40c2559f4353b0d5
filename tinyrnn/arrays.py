"""Arrays as the core reads them: aligned, C-contiguous, float32 or int32."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn.errors import ShapeError


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert bfloat16 bits to float32."""
    wide: NDArray[np.float32] = np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)
    return wide


def as_array(x: Any, what: str = "") -> NDArray[Any]:
    """Convert anything that NumPy takes, DLPack's arrays, and PyTorch's with gradients or in bfloat16.

    Raises
    ------
    ShapeError
        If lists within a list have different lengths; ``what`` names it in the message.
    TypeError
        If NumPy cannot read an array of DLPack, as one in the memory of a GPU, or if it is no array.
    ValueError
        If a masked array has numbers that are masked.
    """
    where = f"{what}: " if what else ""
    if hasattr(x, "detach"):
        x = x.detach()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        try:
            return np.from_dlpack(x)
        except (AttributeError, BufferError, RuntimeError, TypeError) as error:
            raise TypeError(
                f"{where}got {type(x).__name__}, which NumPy cannot read ({error}), expected it on the CPU"
            ) from None
    if hasattr(x, "filled") and np.ma.is_masked(x):
        raise ValueError(f"{where}got masked numbers, expected all of them: fill them with x.filled(...)")
    try:
        array = np.asarray(x)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ShapeError(f"{where}got lists of different lengths, expected an array: pad them") from None
    if array is not x and not array.ndim and array.dtype.kind in "OSU":  # a path, a mapping, None
        raise TypeError(f"{where}got {type(x).__name__}, expected an array of numbers")
    return array


def is_plain(x: Any, dtype: type) -> TypeGuard[NDArray[Any]]:
    """Tell whether the core can read ``x`` as it is."""
    if type(x) is not np.ndarray or x.dtype != dtype or not x.dtype.isnative:
        return False
    return x.flags.c_contiguous and x.flags.aligned


def as_plain(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Convert ``array`` to ``dtype`` as the core reads it; return it unchanged if it is so already.

    Unlike `numpy.ascontiguousarray` this copies numbers that start at an odd address, and leaves 0 axes at 0.
    """
    plain = np.ascontiguousarray(array, dtype)
    return (plain if plain.flags.aligned else plain.copy()).reshape(array.shape)


def as_floats(x: Any, what: str) -> NDArray[np.float32]:
    """Return ``x`` as a C-contiguous float32 array; ``x`` itself if it is one.

    Raises
    ------
    TypeError
        If it holds anything but real numbers; ``what`` names it in the message.
    ShapeError
        As `as_array`.
    """
    if is_plain(x, np.float32):
        return x
    array = as_array(x, what)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: got dtype {array.dtype}, expected real numbers that fit float32")
    with np.errstate(over="ignore"):
        return as_plain(array, np.float32)


def as_lengths(
    lengths: ArrayLike, what: str, rows: int, most: int, of: str, least: int = 1
) -> NDArray[np.int32]:
    """Copy ``lengths`` to a C-contiguous int32 array, (rows,), each in ``least .. most``.

    The core must not see another thread write to the caller's array.

    Parameters
    ----------
    what, of : str
        The names in errors of the array that has lengths, and of the things that ``most`` counts.

    Raises
    ------
    TypeError, ShapeError, ValueError
        If they are not integers, not one for each row, or out of range; the message names the fault.
    """
    array = as_array(lengths)
    if rows == 0 and array.shape == (0,):
        return np.zeros(0, np.int32)  # [] has no dtype of its own
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what}: lengths: got dtype {array.dtype}, expected integers")
    if array.shape != (rows,):
        raise ShapeError(f"{what}: lengths has shape {array.shape}, expected ({rows},), one per row")
    array = array.copy()  # before the checks
    wrong = (array < least) | (array > most)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{what}: lengths[{row}] is {array[row]}, expected {least} .. {most}, {of}")
    return as_plain(array, np.int32)


def as_mask(mask: ArrayLike, what: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return ``mask`` as a C-contiguous array of bool: the steps that count.

    Raises
    ------
    TypeError, ShapeError, ValueError
        If it is not of 0 and 1 (or of bool), or has another shape.
    """
    array = as_array(mask, what)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: got dtype {array.dtype}, expected bool")
    if array.shape != shape:
        raise ShapeError(f"{what}: got shape {array.shape}, expected {shape}")
    wrong = array if array.dtype == bool else array[(array != 0) & (array != 1)]
    if wrong.dtype != bool and len(wrong):
        raise ValueError(f"{what}: got {wrong[0]}, expected 0 or 1: 1 where a step counts")
    return as_plain(array, np.bool_)


def within(lengths: NDArray[np.int32], shape: tuple[int, ...], batch_first: bool) -> NDArray[np.bool_]:
    """Return a mask, to broadcast, of the numbers of (T, B, ...), or (B, T, ...), before their row's end."""
    inside: NDArray[np.bool_] = np.arange(shape[1 if batch_first else 0]) < lengths[:, np.newaxis]
    inside = inside if batch_first else inside.T
    return inside.reshape(inside.shape + (1,) * (len(shape) - 2))


class Feed(NamedTuple):
    """The inputs of a pass, as the core reads them.

    Attributes
    ----------
    arrays : tuple of ndarray, C-contiguous float32 frames or int32 indices
    strides : tuple of (int, int)
        For each input its frames from a step to the next, and from a row of the batch to the next.
    steps : tuple of int
        Of each axis of time.
    lengths : tuple of (ndarray, int32, (batch,); or None)
        Of each axis of time.
    ends : bool
        The sequences end with the pass: windows of steps that reach beyond them are padded.
    """

    arrays: tuple[NDArray[Any], ...]
    strides: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    lengths: tuple[NDArray[np.int32] | None, ...]
    ends: bool = True
