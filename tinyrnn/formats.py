"""Formats of a matrix beside float32: the codes of each, and the way they are stored.

A matrix has a row for each output, and a column for each number that an output sums over. The first axis is
always the rows. Codes and scales have the form that `_core.Layer.set_codes` takes:

=============  ==============================  =============================================
format         codes                           scales, float32
=============  ==============================  =============================================
float16        uint16, the bits                None
bfloat16       uint16, the bits                None
int8           int8, -127 .. 127               (rows,)
int4           int8, -8 .. 7                   (rows, columns / 32 rounded up), bfloat16s
=============  ==============================  =============================================

A weight is code * scale. In a file, a pickle or a copy a byte holds two codes of int4, (rows, columns / 2
rounded up) uint8, the first in the low half, each plus 8; the scales of int4 are bfloat16.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core
from tinyrnn.arrays import widened
from tinyrnn.errors import ShapeError, WeightsError

Array = NDArray[Any]
Floats = NDArray[np.float32]

FORMATS: tuple[str, ...] = _core.FORMATS
SMALLER = FORMATS[1:]

GROUP = 32  # columns of a row that share one scale in int4
LEVELS = {"int8": (-127, 127), "int4": (-8, 7)}
SCALE = "_scale"  # follows a matrix's name

# Largest magnitudes of weights for int8 and int4, and of scales: no product of code and scale is infinite.
_LARGEST, _LARGEST_SCALE = 2.0**120, 2.0**121

# int4: the scales to try, as parts of the one that just reaches a group's largest magnitude.
_PARTS = np.linspace(0.6, 1.1, 26)


class Coded(NamedTuple):
    """A matrix in one of the smaller formats."""

    codes: Array
    scales: Floats | None


def check_format(what: str, name: Any) -> str:
    """Return ``name`` if it is the name of a format, or raise an error that lists the formats."""
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"{what} is {name!r}, expected one of {', '.join(map(repr, FORMATS))}")
    return name


# ---- from float32 and back ----------------------------------------------------------------------


def encode(matrix: Array, name: str, what: str) -> Coded:
    """Encode a matrix as the nearest numbers of a format.

    Raises
    ------
    WeightsError
        If a number is not finite, or beyond the format's range; ``what`` names the matrix.
    """
    check_finite(matrix, name, what)
    if name == "float16":
        return Coded(np.asarray(matrix, np.float16).view(np.uint16), None)
    if name == "bfloat16":
        return Coded(_bfloat16_bits(matrix), None)
    rows = np.asarray(matrix, np.float64).reshape(len(matrix), -1)
    if name == "int8":
        scales = row_scales(rows)
        codes = nearest(rows, scales[:, np.newaxis], name)
    else:
        blocks = [rows[:, start : start + GROUP] for start in range(0, rows.shape[1], GROUP)]
        scales = np.stack([group_scales(block) for block in blocks], axis=1)
        codes = nearest(rows, np.repeat(scales, GROUP, axis=1)[:, : rows.shape[1]], name)
    return Coded(codes.reshape(matrix.shape), scales)


def check_finite(matrix: Array, name: str, what: str) -> None:
    """Raise an error that names the matrix if a format cannot hold one of its numbers."""
    wrong = ~np.isfinite(matrix)
    if wrong.any():
        raise WeightsError(f"{what} holds {matrix[wrong][0]}, expected finite numbers for {name}")
    with np.errstate(over="ignore"):
        largest = np.abs(matrix).max()
        if name == "float16":
            fits = np.isfinite(np.float16(largest))
        elif name == "bfloat16":
            fits = np.isfinite(widened(_bfloat16_bits(largest)))
        else:
            fits = largest <= _LARGEST
        if not fits:
            raise WeightsError(f"{what} holds a magnitude of {largest}, beyond {name}'s range")


def nearest(matrix: NDArray[np.float64], scales: Array, name: str) -> NDArray[np.int8]:
    """Codes of the multiples of ``scales`` (which broadcast) nearest to a matrix; halves go to the even."""
    step = np.where(scales == 0, 1, scales).astype(np.float64)
    return np.clip(np.rint(matrix / step), *LEVELS[name]).astype(np.int8)


def row_scales(matrix: NDArray[np.float64]) -> Floats:
    """int8: the scale of each row, by which its largest magnitude is 127."""
    scales: Floats = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
    return scales


def group_scales(matrix: NDArray[np.float64], weight: NDArray[np.float64] | float = 1.0) -> Floats:
    """int4: the scale of each row of a group, for the least ``weight``-ed sum of squared errors.

    There are eight codes below zero and seven above. So a scale may be negative: the side with the largest
    magnitude gets the eight.
    """
    rows = np.arange(len(matrix))
    farthest = matrix[rows, np.abs(matrix).argmax(axis=1)]
    best, least = np.zeros(len(matrix), np.float32), np.full(len(matrix), math.inf)
    for reach in (-8, 7):
        for part in _PARTS:
            scales = widened(_bfloat16_bits(farthest * part / reach))
            error = matrix - nearest(matrix, scales[:, np.newaxis], "int4") * scales[:, np.newaxis]
            squares = (error * error * weight).sum(axis=1)
            best = np.where(squares < least, scales, best)
            least = np.minimum(squares, least)
    return best


def _bfloat16_bits(values: Any) -> NDArray[np.uint16]:
    """float32 to the nearest bfloat16, halves to the even; finite or infinite, no NaN."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


# ---- storage ------------------------------------------------------------------------------------


def store(coded: Coded, format_name: str, name: str) -> dict[str, Array]:
    """A matrix's arrays, by the names under which a file keeps them; bfloat16 is uint16 here."""
    codes, scales = coded
    if format_name == "float16":
        return {name: codes.view(np.float16)}
    if scales is None:
        return {name: codes}
    if format_name == "int8":
        return {name: codes, name + SCALE: scales}
    halves = (codes.reshape(len(codes), -1) + 8).astype(np.uint8)
    halves = np.pad(halves, ((0, 0), (0, halves.shape[1] % 2)), constant_values=8)
    return {name: halves[:, 0::2] | halves[:, 1::2] << 4, name + SCALE: _bfloat16_bits(scales)}


def restore(codes: Any, scales: Any, shape: tuple[int, ...], format_name: str, what: str) -> Coded:
    """The inverse of `store` for int8 and int4, for any arrays that come.

    Raises
    ------
    WeightsError, ShapeError
        If a dtype, a shape or a number does not belong to the format; ``what`` names the matrix.
    """
    codes, scales = np.asarray(codes), np.asarray(scales)
    rows, cols = shape[0], math.prod(shape[1:])
    dtype, stored_shape, scales_shape = {
        "int8": (np.int8, shape, (rows,)),
        "int4": (np.uint8, (rows, -(-cols // 2)), (rows, -(-cols // GROUP))),
    }[format_name]
    if codes.dtype != dtype:
        raise WeightsError(
            f"{what}: got dtype {codes.dtype}, expected {np.dtype(dtype)} codes of {format_name}"
        )
    for array, wanted, suffix in ((codes, stored_shape, ""), (scales, scales_shape, SCALE)):
        if array.shape != wanted:
            raise ShapeError(f"{what}{suffix}: got shape {array.shape}, expected {wanted} for {format_name}")
    if format_name == "int8" and (codes == -128).any():
        raise WeightsError(f"{what}: holds the code -128, expected -127 .. 127")
    if format_name == "int4":
        halves = np.stack([codes & 15, codes >> 4], axis=2).reshape(rows, -1)[:, :cols]
        codes = halves.astype(np.int8).reshape(shape) - np.int8(8)
    if scales.dtype == np.uint16:
        scales = widened(scales)
    if scales.dtype != np.float32:
        raise WeightsError(f"{what}{SCALE}: got dtype {scales.dtype}, expected float32 or bfloat16")
    if not (np.abs(scales) <= _LARGEST_SCALE).all():  # so that no weight is infinite; a NaN compares false
        raise WeightsError(
            f"{what}{SCALE}: holds a number that is not finite or too large, expected at most 2**121"
        )
    if format_name == "int4" and (scales.view(np.uint32) & 0xFFFF).any():
        raise WeightsError(f"{what}{SCALE}: holds a number that bfloat16 lacks, expected bfloat16 numbers")
    return Coded(codes, np.ascontiguousarray(scales))
