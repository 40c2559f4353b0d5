"""Losses: compare the net's output with the target, and compute the gradient for `Net.backward`.

Names, arguments, defaults and definitions are ``torch.nn``'s; classes are always the last axis. A call is
``value, dy = loss(y, target, lengths=None, mask=None)``. ``csrc/loss`` computes the numbers; this file checks
shapes.

A target has PyTorch's shape, or lacks the axis of steps. Without that axis each row's last step counts, by
``lengths``, and ``dy`` is zero elsewhere. With ``lengths``, frames beyond a row's end are not read, count
nothing, and have gradient 0. With ``mask``, the same holds for the steps where it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core
from tinyrnn._training import CoreLoss, Target
from tinyrnn.arguments import Explained, check_bool, check_float, check_int, check_positive
from tinyrnn.arrays import as_array, as_floats, as_lengths, as_mask, is_plain, within
from tinyrnn.attributes import Guarded
from tinyrnn.errors import ShapeError

__all__ = [
    "NAMES",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
]

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int32]
_Shape = tuple[int, ...]

_INT32 = np.iinfo(np.int32)


def _reduction(kind: str, reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{kind}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
    return reduction


def _weights(name: str, weight: ArrayLike | None, *, scalar: bool) -> _Floats | None:
    """A copy of class weights: (C,), or where ``scalar`` one number for all as (1,)."""
    if weight is None:
        return None
    array = np.array(as_floats(weight, name))
    if array.ndim != 1 and not (scalar and array.ndim == 0):
        raise ShapeError(f"{name} has shape {array.shape}, expected (C,){' or ()' if scalar else ''}")
    if array.size == 0:
        raise ShapeError(f"{name} is empty, expected a number for each class")
    wrong = ~np.isfinite(array)
    if wrong.any():
        raise ValueError(f"{name} holds {array[wrong][0]}, expected finite numbers")
    array = array.reshape(-1)
    array.flags.writeable = False  # the core may have a copy
    return array


class Loss(Explained, Guarded):
    """The base of all losses. Use one of the classes below. Its attributes are fixed.

    Attributes
    ----------
    core : CoreLoss
        The C loss.
    reduction : str
        ``"mean"``, ``"sum"`` or ``"none"``.
    """

    core: CoreLoss
    _made_by = "core"
    _kept = ("core",)
    _classes = False  # a target is one class for each last axis of y

    def __init__(self, reduction: str, **arguments: Any) -> None:
        self.reduction = _reduction(type(self).__name__, reduction)
        self.core = CoreLoss(self._kind(), reduction == "mean", **arguments)

    def _kind(self) -> str:
        return next(name for name, loss in NAMES.items() if isinstance(self, loss))

    def __reduce__(self) -> Any:
        return partial(type(self), **self._arguments()), ()

    def __call__(
        self,
        y: ArrayLike,
        target: Any,
        lengths: ArrayLike | None = None,
        *,
        batch_first: bool = False,
        mask: ArrayLike | None = None,
    ) -> tuple[Any, _Floats]:
        """The loss, and its gradient with respect to ``y``.

        Parameters
        ----------
        y : array_like, float32
            The net's output. Any shape; (T, B, ...) where ``lengths`` are given, or (B, T, ...) with
            ``batch_first``.
        target : array_like
            See the class; or without the axis of steps, for each row's last step.
        lengths : array_like of int, (B,), optional
            Steps of each row that count, 1 .. T.
        batch_first : bool
            The batch is the first axis of ``y``, ``target``, ``mask`` and the gradient, the steps are the
            second.
        mask : array_like of bool, (T, B), optional
            The steps that count: neither ``y`` nor ``target`` is read at others. A target without the axis of
            steps belongs to the last step of its row that counts; a row without one does not count. ``(B,)``
            or ``(T,)`` for ``y`` without the other axis.

        Returns
        -------
        value : float, or ndarray, float32, with ``reduction="none"``
            NaN for a mean of nothing, as PyTorch has it.
        dy : ndarray, float32, like ``y``
            The gradient of the value; with ``reduction="none"`` of the values' sum.

        Raises
        ------
        ShapeError, TypeError, IndexError, ValueError
            If the arrays do not fit each other, or a target is out of range: the message says which.
        """
        output = as_floats(y, f"{type(self).__name__}: y")
        made = self.target_of(output.shape, target, lengths, batch_first, mask)
        return self._compute(output, made, batch_first)

    def target_of(
        self,
        y_shape: Sequence[int],
        target: Any,
        lengths: ArrayLike | None = None,
        batch_first: bool = False,
        mask: ArrayLike | None = None,
    ) -> Target:
        """Convert a target to the core's form, checked against the shape of ``y``.

        Arrays that are C-contiguous float32, or int32 for classes, are taken as they are. The core checks the
        range of classes.

        Raises
        ------
        ShapeError, TypeError, ValueError
            As `__call__`.
        """
        name = type(self).__name__
        shape = self._checked(tuple(y_shape))
        array = self._numbers(target, shape)
        whole_shape = shape[:-1] if self._classes and array.dtype == np.int32 else shape
        axis = 1 if batch_first else 0
        last = False
        if array.shape != whole_shape:
            shortened = whole_shape[:axis] + whole_shape[axis + 1 :]
            last = len(whole_shape) > axis and array.shape == shortened
            if not last:
                end = f", or {shortened} for each row's last step" if len(whole_shape) > axis else ""
                raise ShapeError(
                    f"{name}: target has shape {array.shape}, expected {whole_shape}{end}: "
                    f"y has shape {shape}"
                )
        ends = None if lengths is None else self._lengths(lengths, shape, batch_first)
        probabilities = self._classes and array.dtype == np.float32
        marks = None
        if mask is not None:
            axes = 2 if np.ndim(mask) > 1 or ends is not None or (batch_first and last) else 1
            marks = as_mask(mask, f"{name}: mask", shape[: min(axes, len(shape) - self._classes)])
        return Target(array, ends, last, probabilities, batch_first, mask=marks)

    def wrong_target(self, target: Target, classes: int) -> str:
        """Name the class of a target that is out of range, for the message of the core's error."""
        numbers = target.numbers
        wrong = self._wrong(numbers, classes)
        marks, last = target.mask, target.last
        if target.lengths is not None and not (last and marks is None):
            steps = numbers.shape if marks is None else marks.shape
            inside = within(target.lengths, steps[:2], target.rows_first)
            marks = inside if marks is None else marks & inside
        if marks is not None:
            if last:
                marks = np.asarray(marks.any(1 if target.rows_first else 0))
            wrong &= marks.reshape(marks.shape + (1,) * (wrong.ndim - marks.ndim))
        if not wrong.any():
            return "a target is none of the classes"
        place = np.unravel_index(int(wrong.argmax()), numbers.shape)
        where = f" at {list(map(int, place))}" if place else ""
        return f"target {int(numbers[place])}{where} is out of range, expected {self._range(classes)}"

    # ---- differences between losses ------------------------------------------------------------------

    def _numbers(self, target: Any, shape: _Shape) -> NDArray[Any]:
        """The target as the core reads it."""
        return as_floats(target, f"{type(self).__name__}: target")

    def _checked(self, shape: _Shape) -> _Shape:
        """The shape of ``y``, if the loss can read it."""
        if 0 in shape:
            raise ShapeError(f"{type(self).__name__}: y has shape {shape}, expected at least one number")
        return shape

    def _wrong(self, numbers: NDArray[Any], classes: int) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = (numbers < 0) | (numbers >= classes)
        return wrong

    def _range(self, classes: int) -> str:
        return f"0 .. {classes - 1}"

    # ---- shared --------------------------------------------------------------------------------------

    def _lengths(self, lengths: ArrayLike, shape: _Shape, batch_first: bool) -> _Integers:
        name = type(self).__name__
        if len(shape) < 2 + self._classes:
            raise ShapeError(f"{name}: got lengths, but y has shape {shape}, without steps and batch")
        batch, steps = shape[:2] if batch_first else shape[1::-1]
        return as_lengths(lengths, name, batch, steps, "the steps of y")

    def _compute(self, y: _Floats, target: Target, batch_first: bool) -> tuple[Any, _Floats]:
        """Run the core: y is seen as steps, batch and a frame where that matters, else as one frame."""
        name = type(self).__name__
        steps = batch = 1
        frame = y.shape
        marks = 0 if target.mask is None else target.mask.ndim
        if target.lengths is not None or marks == 2 or (batch_first and target.last):
            steps, batch = y.shape[1::-1] if batch_first else y.shape[:2]
            frame = y.shape[2:]
        elif target.last or marks:
            steps, frame = y.shape[0], y.shape[1:]
        rows, cols = math.prod(frame[:-1]), frame[-1] if frame else 1
        if rows > 2**28 or cols > 2**28:
            raise OverflowError(f"{name}: y has shape {y.shape}, too many numbers for one step")
        values = None
        if self.reduction == "none":
            values = np.empty(y.shape[:-1] if self._classes else y.shape, np.float32)
        try:
            value, dy = self.core.compute(y, target, (steps, batch, rows, cols), values, name)
        except IndexError:
            raise IndexError(f"{name}: {self.wrong_target(target, cols)}") from None
        if values is None:
            return value, dy
        if target.last:  # all others are 0
            values = values.sum(axis=1 if batch_first else 0)
        return values, dy


class MSELoss(Loss):
    """The mean of squares, (y - target)², as ``torch.nn.MSELoss``.

    Parameters
    ----------
    reduction : str
        ``"mean"`` over all numbers within the lengths, ``"sum"``, or ``"none"`` for an array of them.

    Targets are numbers of the shape of ``y``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(Loss):
    """The mean of magnitudes, |y - target|, as ``torch.nn.L1Loss``. Parameters and targets as `MSELoss`."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class HuberLoss(Loss):
    """Squares of small differences d, magnitudes of large ones, as ``torch.nn.HuberLoss``.

    d²/2 where ``|d| < delta``, else ``delta (|d| - delta / 2)``.

    Parameters
    ----------
    reduction : str
        As `MSELoss`.
    delta : float
        Above 0.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self.delta = check_positive("delta", delta)
        super().__init__(reduction, delta=self.delta)


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits, as ``torch.nn.CrossEntropyLoss``; the classes are the last axis of ``y``.

    Parameters
    ----------
    weight : array_like, float32, (C,), optional
        A weight for each class.
    ignore_index : int
        A target that does not count.
    reduction : str
        ``"mean"`` divides by the sum of the targets' weights, or by the number of distributions.
    label_smoothing : float
        The share, 0 .. 1, of a target that is spread over all classes.

    Targets are integers of the shape of ``y`` without its last axis, or distributions over classes, floats of
    the shape of ``y``.
    """

    _classes = True

    def __init__(
        self,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight = _weights("weight", weight, scalar=False)
        self.ignore_index = check_int("ignore_index", ignore_index, _INT32.min, _INT32.max)
        self.label_smoothing = check_float("label_smoothing", label_smoothing, 0.0, 1.0)
        super().__init__(
            reduction,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def _numbers(self, target: Any, shape: _Shape) -> NDArray[Any]:
        if is_plain(target, np.int32):
            return target
        array = as_array(target)
        name = type(self).__name__
        if array.dtype.kind == "f":
            if array.shape == shape[:-1] and array.shape not in (shape[1:], shape[:1] + shape[2:]):
                raise TypeError(f"{name}: target has dtype {array.dtype}, expected integers, the classes")
            if self.ignore_index >= 0:
                raise ValueError(
                    f"{name}: ignore_index is {self.ignore_index}, but the targets are distributions, "
                    "none of which can be it"
                )
            return as_floats(target, f"{name}: target")
        if array.shape == shape:
            raise TypeError(f"{name}: target has dtype {array.dtype}, expected floats, the classes' shares")
        return _core.as_indices(array, f"{name}: target")

    def _checked(self, shape: _Shape) -> _Shape:
        name = type(self).__name__
        if not shape:
            raise ShapeError(f"{name}: y has shape (), expected (..., C)")
        if self.weight is not None and len(self.weight) != shape[-1]:
            raise ShapeError(f"{name}: y has shape {shape}, but weight has {len(self.weight)} classes")
        return super()._checked(shape)

    def _wrong(self, numbers: NDArray[Any], classes: int) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = super()._wrong(numbers, classes) & (numbers != self.ignore_index)
        return wrong

    def _range(self, classes: int) -> str:
        return f"{super()._range(classes)}, or ignore_index {self.ignore_index}"


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits, as ``torch.nn.BCEWithLogitsLoss``.

    Parameters
    ----------
    weight : array_like, float32, (C,) or (), optional
        A weight for every number, by the last axis of ``y``.
    reduction : str
        As `MSELoss`.
    pos_weight : array_like, float32, (C,) or (), optional
        A weight for positive targets, by the last axis of ``y``.

    Targets are numbers of the shape of ``y``, from 0 to 1.
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ) -> None:
        self.weight = _weights("weight", weight, scalar=True)
        self.pos_weight = _weights("pos_weight", pos_weight, scalar=True)
        both = [array for array in (self.weight, self.pos_weight) if array is not None]
        size = max((array.size for array in both), default=1)
        if any(array.size not in (1, size) for array in both):
            raise ShapeError(f"weight has {both[0].size} classes, but pos_weight has {both[1].size}")
        full = [
            None if array is None else np.ascontiguousarray(np.broadcast_to(array, size))
            for array in (self.weight, self.pos_weight)
        ]
        self._columns = size
        super().__init__(reduction, weight=full[0], pos_weight=full[1])

    def __repr__(self) -> str:
        return (
            f"BCEWithLogitsLoss(weight={self.weight!r}, reduction={self.reduction!r}, "
            f"pos_weight={self.pos_weight!r})"
        )

    def _checked(self, shape: _Shape) -> _Shape:
        if self._columns != 1 and (not shape or shape[-1] != self._columns):
            raise ShapeError(
                f"{type(self).__name__}: y has shape {shape}, but the weights have {self._columns} classes"
            )
        return super()._checked(shape)


class CTCLoss(Loss):
    """Connectionist temporal classification, as ``torch.nn.CTCLoss``: labels without their places in time.

    Parameters
    ----------
    blank : int
        The class that is no label.
    reduction : str
        ``"mean"`` divides each row's loss by the length of its target, then averages over the batch.
    zero_infinity : bool
        Give a target that is too long for its input loss and gradient 0, not infinity and NaN.

    ``y`` is log-probabilities, (T, B, C) or (T, C): the output of a `LogSoftmax`. The gradient assumes so, as
    PyTorch's does. Targets are labels, integers without the blank: (B, S) padded to
    one length, or one after the other in (sum of lengths,), each with ``target_lengths``; or a list of B
    sequences.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        self.blank = check_int("blank", blank, 0, 2**28 - 1)
        self.zero_infinity = check_bool("zero_infinity", zero_infinity)
        super().__init__(reduction, blank=self.blank, zero_infinity=self.zero_infinity)

    def __call__(
        self,
        y: ArrayLike,
        target: Any,
        lengths: ArrayLike | None = None,
        target_lengths: ArrayLike | None = None,
        *,
        batch_first: bool = False,
        mask: ArrayLike | None = None,
    ) -> tuple[Any, _Floats]:
        """The loss, and its gradient with respect to ``y``.

        Parameters
        ----------
        y : array_like, float32, (T, B, C), (T, C), or with ``batch_first`` (B, T, C)
            Log-probabilities.
        target : array_like or list of array_like, or a tuple (target, target_lengths)
            See the class.
        lengths : array_like of int, (B,), optional
            Steps of each row, 1 .. T; PyTorch's ``input_lengths``. All of them where it is None.
        target_lengths : array_like of int, (B,), optional
            Labels of each row; all of them where it is None.
        batch_first : bool
            ``y`` and the gradient are (B, T, C).
        mask : None
            A path has every step: cut rows with ``lengths``.

        Returns
        -------
        value : float, or ndarray, float32, (B,), with ``reduction="none"``
        dy : ndarray, float32, like ``y``

        Raises
        ------
        ShapeError, TypeError, IndexError, ValueError
            If the arrays do not fit each other, or a target is no label: the message says which.
        """
        name = type(self).__name__
        output = as_floats(y, f"{name}: y")
        if target_lengths is not None:
            if isinstance(target, tuple):
                raise TypeError(f"{name}: got target_lengths twice, expected it once: in target or by name")
            target = (target, target_lengths)
        made = self.target_of(output.shape, target, lengths, batch_first, mask)
        shape = self._batched(output.shape, batch_first)
        batch, steps = shape[:2] if batch_first else shape[1::-1]
        values = np.empty(batch, np.float32) if self.reduction == "none" else None
        try:
            value, dy = self.core.compute(output, made, (steps, batch, 1, shape[2]), values, name)
        except IndexError:
            raise IndexError(f"{name}: {self.wrong_target(made, shape[2])}") from None
        if values is None:
            return value, dy
        return values if output.ndim == 3 else values[0], dy

    def target_of(
        self,
        y_shape: Sequence[int],
        target: Any,
        lengths: ArrayLike | None = None,
        batch_first: bool = False,
        mask: ArrayLike | None = None,
    ) -> Target:
        """The same as `Loss.target_of`; ``target`` may be a tuple (target, target_lengths)."""
        name = type(self).__name__
        if mask is not None:
            raise ValueError(f"{name}: got a mask, expected none: a path has every step; give lengths")
        shape = tuple(y_shape)
        if len(shape) not in (2, 3) or 0 in shape:
            raise ShapeError(f"{name}: y has shape {shape}, expected (T, B, C) or (T, C), none of them 0")
        if self.blank >= shape[-1]:
            raise ShapeError(f"{name}: y has shape {shape}, but blank is class {self.blank}")
        if len(shape) == 2 and lengths is not None:
            lengths = as_array(lengths).reshape(-1)
        shape = self._batched(shape, batch_first)
        labels, counts = target if isinstance(target, tuple) and len(target) == 2 else (target, None)
        batch = shape[0] if batch_first else shape[1]
        if counts is not None:
            counts = _core.as_indices(counts, f"{name}: target_lengths").flatten()  # a copy: see as_lengths
            if counts.shape != (batch,):
                raise ShapeError(
                    f"{name}: target_lengths has shape {counts.shape}, expected ({batch},), one per row"
                )
            if counts.min() < 0:
                row = int((counts < 0).argmax())
                raise ValueError(f"{name}: target_lengths[{row}] is {counts[row]}, expected 0 or more")
        rows, counts = self._rows(labels, counts, batch)
        ends = None if lengths is None else self._lengths(lengths, shape, batch_first)
        return Target(rows, ends, rows_first=batch_first, target_lengths=counts)

    def wrong_target(self, target: Target, classes: int) -> str:
        """The same as `Loss.wrong_target`."""
        assert target.target_lengths is not None
        numbers = target.numbers
        wrong = self._wrong(numbers, classes) | (numbers == self.blank)
        wrong &= np.arange(numbers.shape[1]) < target.target_lengths[:, None]
        if not wrong.any():
            return "a target is none of the classes"
        row, place = (int(i) for i in np.unravel_index(int(wrong.argmax()), numbers.shape))
        return (
            f"label {numbers[row, place]} of row {row} at {place} is out of range, "
            f"expected {self._range(classes)} but for the blank, {self.blank}"
        )

    def _rows(self, labels: Any, counts: _Integers | None, batch: int) -> tuple[_Integers, _Integers]:
        """Labels as (B, most of a row), and how many each row has."""
        name = type(self).__name__
        if isinstance(labels, (list, tuple)) and len(labels) == batch and all(map(np.ndim, labels)):
            sequences = [as_array(row) for row in labels]
            for place, sequence in enumerate(sequences):
                if sequence.ndim != 1:
                    raise ShapeError(f"{name}: target[{place}] has shape {sequence.shape}, expected one axis")
            sizes = [len(row) for row in sequences]
            if counts is None or counts.tolist() == sizes:
                return self._padded([self._labels(row) for row in sequences])
            if len(set(sizes)) > 1:  # else it is an array, padded
                raise ShapeError(
                    f"{name}: target_lengths is {counts.tolist()}, but targets have {sizes} labels"
                )
        array = labels if is_plain(labels, np.int32) else self._labels(as_array(labels))
        if array.ndim == 2 and array.shape[0] == batch:
            if counts is None:
                return array, np.full(batch, array.shape[1], np.int32)
            if counts.max() > array.shape[1]:
                row = int(counts.argmax())
                raise ValueError(
                    f"{name}: target_lengths[{row}] is {counts[row]}, expected 0 .. {array.shape[1]}: "
                    f"target has shape {array.shape}"
                )
            return array, counts
        if array.ndim == 1 and (batch == 1 or counts is not None):
            counts = np.array([array.size], np.int32) if counts is None else counts
            ends = np.cumsum(counts, dtype=np.int64)
            if ends[-1] != array.size:
                raise ShapeError(
                    f"{name}: target has {array.size} labels, but target_lengths add up to {ends[-1]}"
                )
            return self._padded(np.split(array, ends[:-1]))
        raise ShapeError(
            f"{name}: target has shape {array.shape}, expected ({batch}, S), a list of {batch} sequences, or "
            "all labels in one axis with target_lengths"
        )

    def _labels(self, array: NDArray[Any]) -> _Integers:
        """Labels as int32, also those of an empty list, whose dtype is none of integers."""
        if array.size == 0:
            return array.astype(np.int32)
        return _core.as_indices(array, f"{type(self).__name__}: target")

    @staticmethod
    def _batched(shape: _Shape, batch_first: bool) -> _Shape:
        """The shape of ``y`` with an axis for the batch."""
        if len(shape) == 3:
            return shape
        return (1, *shape) if batch_first else (shape[0], 1, shape[1])

    @staticmethod
    def _padded(rows: Sequence[NDArray[Any]]) -> tuple[_Integers, _Integers]:
        counts = np.array([len(row) for row in rows], np.int32)
        array = np.zeros((len(rows), int(counts.max())), np.int32)
        for place, row in zip(array, rows, strict=True):
            place[: len(row)] = row
        return array, counts


# By the names of csrc/loss/losses.def.
NAMES: dict[str, type[Loss]] = {
    "mse": MSELoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "cross_entropy": CrossEntropyLoss,
    "bce_with_logits": BCEWithLogitsLoss,
    "ctc": CTCLoss,
}
