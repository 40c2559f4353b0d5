"""The common ground of readers of nets: layers with given weights, windows along an axis."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn import activations, frames
from tinyrnn.formats import LEVELS, Coded
from tinyrnn.ops import Delay
from tinyrnn.pooling import MaxPool1d, MaxPool2d
from tinyrnn.state_dicts import keep_codes
from tinyrnn.temporal import LastStep, SumOverTime, TimeMaxPool1d
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

# What a layer or NumPy raises where a file asks for something that cannot be.
WRONG = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError)


class Unfit(ValueError):
    """A part of a file that is no part of a net of tinyrnn: the message says what is in the way."""


def warn(text: str) -> None:
    """Warn of an import, at the line that called tinyrnn."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tinyrnn."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


class CodedArray:
    """A constant of whole numbers, each less a zero and times a scale; NumPy sees the floats that they are.

    ``scales`` and ``zeros`` have the axes of ``codes``, of size 1 where all numbers share one. ``kept``: a
    layer of it keeps the codes. The methods are those of an array.
    """

    def __init__(self, codes: Array, scales: Array, zeros: Array, *, kept: bool = False) -> None:
        self.codes, self.scales, self.zeros, self.kept = codes, scales, zeros, kept

    shape = property(lambda self: self.codes.shape)
    ndim = property(lambda self: self.codes.ndim)

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        numbers = self.codes.astype(np.float32)
        with np.errstate(all="ignore"):
            numbers -= self.zeros
            numbers *= self.scales
        return numbers

    def each(self, change: Callable[[Array], Array], kept: bool | None = None) -> CodedArray:
        kept = self.kept if kept is None else kept
        return CodedArray(*map(change, (self.codes, self.scales, self.zeros)), kept=kept)

    def __getitem__(self, places: Any) -> CodedArray:
        return self.each(lambda one: one.take(places, 0, mode="clip"))  # of one row that all share: it

    def __mul__(self, numbers: Any) -> CodedArray:
        return CodedArray(self.codes, self.scales * np.float32(numbers), self.zeros, kept=self.kept)

    def transpose(self, *order: Any) -> CodedArray:
        return self.each(lambda one: one.transpose(*order))

    def rows(self) -> Coded | None:
        """The matrix as int8 with a scale for each row; None if it is not exactly that, or not kept."""
        codes, (least, most) = self.codes, LEVELS["int8"]
        if not self.kept or codes.dtype.itemsize > 1:
            return None
        with np.errstate(invalid="ignore"):
            zeros = self.zeros.astype(np.int16)
        if np.any(zeros) or codes.dtype != np.int8:
            codes = codes - zeros
        by_row = all(one.size <= len(one) for one in (self.scales, zeros))
        if not by_row or np.any(zeros != self.zeros) or np.any((codes < least) | (codes > most)):
            return None
        scales = np.broadcast_to(self.scales.reshape(-1), (len(codes),))
        return Coded(np.ascontiguousarray(codes, np.int8), np.ascontiguousarray(scales))


def weighted(layer: Any, **tensors: Array | CodedArray) -> Any:
    """A layer with these weights; a part of it whose matrices are all codes of int8 keeps them."""
    coded = {name: one.rows() for name, one in tensors.items() if isinstance(one, CodedArray)}
    keep_codes(layer, [name for name, one in coded.items() if one is not None])
    for tensor in layer._tensors():  # one by one: all of them as floats would take their memory twice
        matrix = coded.get(tensor.name) if tensor.format == "int8" else None
        if matrix:
            tensor.write(tensor.fitted(tensor.unshaped(matrix.codes), matrix.scales))
        else:
            tensor.write(tensor.fitted(np.ascontiguousarray(tensors[tensor.name], np.float32), None))
    return layer


# ---- steps -------------------------------------------------------------------------------------------------


def delayed(value: Value, steps: int, initial: Array | None = None) -> Value:
    """The value of so many steps before; at first the rows of an array, or zeros."""
    layer = Delay(value.frame, steps)
    if initial is not None:
        layer.initial_state = {"past": np.asarray(initial, np.float32).reshape(steps, -1)}
    return applied(layer, (value,))


def step_of(value: Value, number: int) -> Value:
    """A step of a sequence by its number, which is below 0 from the end; NaN where there are fewer steps."""
    if number == -1:
        return applied(LastStep(), (value,))
    if number < -1:
        one = applied(frames.Constant(1.0), (value,))
        last, there = (applied(LastStep(), (delayed(each, -1 - number),)) for each in (value, one))
        return last / there
    zero = applied(frames.Constant(0.0), (value,))
    chosen = delayed(zero, number + 1, np.eye(number + 1)[number])  # 1 at that step alone
    found, there = (applied(SumOverTime(), (each,)) for each in (value * chosen, chosen))
    return found / there if number else found


def lasting(found: Value, value: Value, least: int) -> Value:
    """A value that follows from a sequence of so many steps or more: a call with fewer raises."""
    zero = applied(frames.Constant(0.0), (value,))
    for layer in (frames.Reshape((1,)), TimeMaxPool1d(least, 1), LastStep(), frames.Reshape(())):
        zero = applied(layer, (zero,))
    return found + zero


def fixed(found: Value, value: Value, steps: int) -> Value:
    """A value that follows from a sequence of exactly so many steps; NaN of one of more or fewer."""
    zero = applied(frames.Constant(0.0), (value,))
    there = applied(LastStep(), (delayed(zero, steps, np.eye(steps)[-1]),))
    return found + (there - there) / there


# ---- windows -----------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The sizes of windows along an axis: how a convolution or a pool walks along it."""

    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def is_uneven(self) -> bool:
        return self.pads[0] != self.pads[1]

    def count(self, size: int) -> int:
        """The windows in so many numbers; below 1 if none fits."""
        return (size + sum(self.pads) - self.span) // self.stride + 1

    def counted(self, size: int) -> int:
        """The windows in so many numbers, at least one."""
        found = self.count(size)
        if found < 1:
            raise Unfit(f"got {size} + {sum(self.pads)} numbers, expected at least {self.span}, the kernel's")
        return found


def even(value: Value, found: Sequence[Window], fill: float = 0.0) -> tuple[Value, list[Window]]:
    """The value, padded where a layer would have to pad one side more than the other, and what is left."""
    sides: list[int] = []
    for window in reversed(found):
        sides += window.pads if window.is_uneven else (0, 0)
    left = [window._replace(pads=(0, 0)) if window.is_uneven else window for window in found]
    return (frames.pad(value, tuple(sides), "constant", fill) if any(sides) else value), left


def is_positive(value: Value, over_time: type[Any]) -> bool:
    """True if no number is below 0, so that zeros around a sequence change no maximum.

    ``over_time`` is the layer of windows over time that the reader makes.
    """
    while isinstance(value.layer, (frames.Reshape, frames.Permute, MaxPool1d, MaxPool2d, over_time)):
        (value,) = value.reads
    kinds = (activations.ReLU, activations.Sigmoid, activations.Abs, activations.Exp, activations.Softplus)
    return isinstance(value.layer, kinds)
