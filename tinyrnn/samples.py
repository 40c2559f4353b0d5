"""Samples for `fit`, `predict` and `evaluate`: checked once, bucketed by length, gathered into batches.

In arrays the samples are the first axis, also without ``batch_first``; batches have the net's own layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core
from tinyrnn.arrays import as_array, as_floats, as_lengths, as_mask
from tinyrnn.calls import index_count, infer_ports
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.plans import laid_out
from tinyrnn.tensors import Frame

Rows = NDArray[np.intp]
Lengths = NDArray[np.int32]

# Numbers that are searched for a NaN at once: few, so that the search allocates little.
_LOOK = 1 << 18


class Inputs:
    """The inputs of the net, sample by sample.

    Parameters
    ----------
    net : Net
    x : array_like
        ``(N, T, frame)``; a list of N arrays ``(T_i, frame)``; or ``(N, frame)`` for a net without recurrent
        layers. float32 and int32 arrays are read where they lie, others are copied once.
    lengths : array_like of int, (N,), optional
        Steps of each sample of an array.
    what : str
        The name of ``x`` in errors.
    empty : bool
        Allow an array without samples.

    Raises
    ------
    ShapeError, TypeError, ValueError, IndexError
        If there is no sample, or one does not fit the net; the message names it.
    """

    rows: Any  # a list of arrays or one array; each (T_i, frame), or (frame) if `stepless`
    lengths: NDArray[np.int64]  # (N,), 1 if `stepless`
    ragged: bool  # samples may have different lengths
    listed: bool  # x was a list, so outputs are one too
    stepless: bool  # samples are single frames
    out_frame: Frame
    width: int | None = None  # the steps of an output that has a rate of its own
    per_sequence: bool = False  # the output is one frame for the sequence

    def __init__(
        self, net: Module, x: Any, lengths: ArrayLike | None = None, what: str = "x", *, empty: bool = False
    ) -> None:
        self.net = net
        self.what = what
        self.recurrent = net._recurrent
        self.batch_first = net._batch_first
        self.listed = isinstance(x, (list, tuple))
        if not self.listed:
            x = as_array(x, what)
        if (not x) if self.listed else (x.shape[:1] == (0,) and not empty):
            raise ValueError(f"{what}: got no samples, expected at least one")
        first = as_array(x[0]) if self.listed else x
        ndim = first.ndim + self.listed
        rank = net._rank(ndim)
        rank = min(ndim, 1) if rank is None else rank
        lead = ndim - rank
        if lead != 2 and (self.recurrent or lead != 1):
            shape = f"arrays of shape {first.shape}" if self.listed else f"shape {first.shape}"
            frame = net._frame()
            sizes = ["?" if axis is None else str(axis) for axis in frame] if frame else ["?"] * rank
            wanted = ", ".join(["N", "T", *sizes])
            raise ShapeError(
                f"{what}: got {shape}, expected ({wanted}), or a list of arrays ({', '.join(['T', *sizes])})"
            )
        self.stepless = lead == 1
        self.frame: Frame = first.shape[first.ndim - rank :]
        try:
            cores, self.out_frame = net._laid(self.frame, lead)
        except ShapeError as error:
            raise ShapeError(f"{what}: {error}") from None
        self.per_sequence = net._is_wired and laid_out(cores, self.frame, 1, 1).outputs[0][1] == 0
        self.count = index_count(cores) or None
        self.dtype: Any = np.float32 if self.count is None else np.int32
        self._take(x, lengths)

    def _take(self, x: Any, lengths: ArrayLike | None) -> None:
        what = self.what
        if self.listed:
            if lengths is not None:
                raise ValueError(
                    f"lengths: expected None, because {what} is a list, whose arrays have their own lengths"
                )
            self.rows = [self._numbers(row, f"{what}[{i}]") for i, row in enumerate(x)]
            for i, row in enumerate(self.rows):
                if row.shape[0 if self.stepless else 1 :] != self.frame:
                    steps = () if self.stepless else ("T",)
                    wanted = ", ".join(map(str, (*steps, *self.frame)))
                    raise ShapeError(f"{what}[{i}]: got shape {row.shape}, expected ({wanted}) as {what}[0]")
        else:
            self.rows = self._numbers(x, what)
        self.ragged = (self.listed or lengths is not None) and not self.stepless
        if self.stepless:
            if lengths is not None:
                raise ValueError(f"lengths: expected None, because the samples of {what} are single frames")
            self.lengths = np.ones(len(self.rows), np.int64)
        elif isinstance(self.rows, np.ndarray):
            steps = self.rows.shape[1]
            if lengths is None:
                self.lengths = np.full(len(self.rows), steps)
            else:
                self.lengths = as_lengths(lengths, what, len(self.rows), steps, "its steps").astype(np.int64)
        else:
            self.lengths = np.array([len(row) for row in self.rows])
        if not self.lengths.all():
            raise ValueError(f"{what}[{int(np.argmin(self.lengths))}]: got no steps, expected at least one")

    def _numbers(self, x: Any, what: str) -> NDArray[Any]:
        return as_floats(x, what) if self.count is None else _core.as_indices(x, what, self.count)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def longest(self) -> int:
        return int(self.lengths.max())

    @property
    def steps(self) -> int:
        """The steps of arrays of targets and outputs, the padding of short samples included."""
        if self.width is not None:
            return self.width
        return self.longest if self.listed else int(self.rows[0].shape[0])

    def sample(self, i: int) -> NDArray[Any]:
        """Sample ``i`` without its padding."""
        row: NDArray[Any] = self.rows[i]
        return row if self.stepless else row[: self.lengths[i]]

    def check_finite(self) -> None:
        """Raise ValueError if a number is NaN or infinite; the message says where."""
        _check_finite(self.rows, self.lengths, not self.stepless, self.what)

    def most_steps(self, bptt: int | None) -> Any:
        """The most steps of a call that trains, as a trainer takes them."""
        steps = 1 if self.stepless else self.longest
        return min(steps, bptt or steps)

    def seen(self, output: str) -> Inputs:
        """The samples as the targets of an output see them: lengths on its axis of time, and its frame."""
        return self._stepless() if self.per_sequence else self

    def _stepless(self) -> Inputs:
        """The samples as something sees them that counts once for each."""
        view = copy(self)
        view.stepless, view.ragged, view.lengths = True, False, np.ones(len(self), np.int64)
        return view

    def lengths_of(self, rows: Rows, start: int = 0, stop: int | None = None) -> Lengths | None:
        """The number of these steps that each sample has, (B,) int32; None where all have the same."""
        if not self.ragged:
            return None
        return np.clip(self.lengths[rows], start, stop).astype(np.int32) - np.int32(start)

    def gatherer(self, goals: Sequence[Goal], batch: int, steps: Any = None) -> Gatherer:
        """Make a gatherer of these samples, and of their targets."""
        return Gatherer(self, goals, batch, steps)

    def by_length(self) -> Rows:
        """All samples, short ones first, the same lengths in their order."""
        return np.argsort(self.lengths, kind="stable")


class PortInputs(Inputs):
    """The inputs of a net of several inputs, outputs or axes of time, sample by sample.

    Parameters
    ----------
    net : Net
    x : mapping from input to array_like, as `Inputs` takes them; or one for the only input
        ``(N, frame)`` for an input per sequence.
    lengths : array_like of int, (N,), or a mapping from axis of time to one, optional
        Steps of each sample of the arrays.
    what : str
        The name of ``x`` in errors.
    """

    parts: dict[str, Inputs]  # by input
    axes: dict[str, Inputs]  # an input of each axis of time, by its name; the first is batched by length

    def __init__(self, net: Module, x: Any, lengths: Any = None, what: str = "x") -> None:
        ports = net._several()
        assert ports is not None
        self.net, self.ports, self.what = net, ports, what
        self.recurrent, self.batch_first = True, net._batch_first
        own = net._own_steps
        if not isinstance(x, Mapping) and len(ports.names) - len(own) == 1:
            x = {ports.names[0]: x}
        if isinstance(x, Mapping) and own and x:
            count = len(next(iter(x.values())))
            frames = {name: frame for name, (frame, _) in zip(ports.names, ports.cores.inputs, strict=True)}
            left = {name: np.zeros((count, own[name], *frames[name]), np.float32) for name in own}
            x = {**left, **x}
        if not isinstance(x, Mapping) or x.keys() != set(ports.names):
            got = sorted(map(str, x)) if isinstance(x, Mapping) else type(x).__name__
            raise TypeError(f"{what}: got {got}, expected a mapping from input to samples: {ports.names}")
        if not isinstance(lengths, Mapping):
            lengths = {} if lengths is None else {ports.times[0]: lengths}
        if not lengths.keys() <= set(ports.times):
            raise ValueError(
                f"{what}: lengths: got {sorted(map(str, lengths))}, expected some of {list(ports.times)}"
            )
        self.parts, self.axes = {}, {}
        for place, (name, (frame, axis)) in enumerate(zip(ports.names, ports.cores.inputs, strict=True)):
            time = ports.times[axis - 1] if axis else None
            part = self._part(f"{what}: {name}", x[name], frame, time, lengths, place)
            self.parts[name] = part
            if time is not None:
                self._agree(part, self.axes.setdefault(time, part), time)
        for part, (_, axis) in zip(self.parts.values(), ports.cores.inputs, strict=True):
            part.ragged = axis > 0 and self.axes[ports.times[axis - 1]].ragged
        first = next(iter(self.parts.values()))
        for part in self.parts.values():
            if len(part) != len(first):
                raise ShapeError(
                    f"{part.what}: got {len(part)} samples, expected {len(first)}, as {first.what}"
                )
        main = next(iter(self.axes.values()), first)
        self.rows, self.lengths, self.stepless = main.rows, main.lengths, main.stepless
        self.ragged, self.listed, self.frame = main.ragged, main.listed, ()

    def _part(
        self, what: str, x: Any, frame: Frame, time: str | None, lengths: Mapping[str, Any], place: int
    ) -> Inputs:
        """Check the samples of one input."""
        part = Inputs.__new__(Inputs)
        part.net, part.what, part.recurrent, part.batch_first = self.net, what, True, self.batch_first
        part.listed, part.stepless, part.frame = isinstance(x, (list, tuple)), time is None, frame
        x = x if part.listed else as_array(x, what)
        if len(x if part.listed else np.atleast_1d(x)) == 0:
            raise ValueError(f"{what}: got no samples, expected at least one")
        shape = np.shape(x[0]) if part.listed else x.shape[1:]
        if len(shape) != len(frame) + (time is not None) or shape[len(shape) - len(frame) :] != frame:
            steps = () if time is None else ("T",)
            wanted = ", ".join(map(str, (*steps, *frame)))
            raise ShapeError(f"{what}: got samples of shape {shape}, expected ({wanted})")
        part.count = index_count(self.ports.cores, place) or None
        part.dtype = np.float32 if part.count is None else np.int32
        given = None if time is None or part.listed else lengths.get(time)
        part._take(x, given)
        return part

    @staticmethod
    def _agree(part: Inputs, first: Inputs, time: str) -> None:
        """Raise ShapeError if an input's steps are not those of the first one on its axis of time."""
        wrong = part.lengths != first.lengths if len(part) == len(first) else np.zeros(1, bool)
        if wrong.any():
            i = int(wrong.argmax())
            raise ShapeError(
                f"{part.what}[{i}]: has {part.lengths[i]} steps of {time!r}, expected {first.lengths[i]}, as "
                f"{first.what}[{i}]"
            )
        first.ragged |= part.ragged

    def check_finite(self) -> None:
        """Raise ValueError if a number is NaN or infinite; the message says where."""
        for part in self.parts.values():
            part.check_finite()

    def seen(self, output: str) -> Inputs:
        """The samples as the targets of an output see them: lengths on its axis of time, and its frame."""
        place, times = self.ports.outputs.index(output), self.ports.times
        plan = _core.Plan(self.ports.cores, (), len(self), (1,) * len(times))
        axis = plan.outputs[place][1]
        has_rate = plan.rate_of(axis) is not None
        like = self.axes[times[axis - 1]] if axis and not has_rate else next(iter(self.parts.values()))
        view = copy(like) if axis else like._stepless()
        view.out_frame, view.stepless = self.ports.out_frames[place], axis == 0
        if has_rate:
            lengths = [self.axes[time].lengths.astype(np.int32) for time in times]
            view.lengths = plan.due(place, None, [int(one.max()) for one in lengths], lengths, True)[
                1
            ].astype(np.int64)
            if not view.lengths.all():
                i = int(view.lengths.argmin())
                raise ShapeError(
                    f"{self.what}[{i}]: has {self.lengths[i]} steps, expected more, for a window of them"
                )
            view.width, view.ragged = view.longest, bool((view.lengths != view.longest).any())
        return view

    def most_steps(self, bptt: int | None) -> Any:
        """The most steps of a call that trains, by axis of time."""
        most = {time: self.axes[time].longest if time in self.axes else 1 for time in self.ports.times}
        return {time: min(steps, bptt or steps) for time, steps in most.items()}

    def gatherer(self, goals: Sequence[Goal], batch: int, steps: Any = None) -> Gatherer:
        """Make a gatherer of these samples, and of their targets."""
        return PortGatherer(self, goals, batch, steps)


class Masks:
    """The steps that count in a loss: ``(N, T)`` of bool, a list of ``(T_i,)``, or ``(N,)`` without steps."""

    def __init__(self, inputs: Inputs, mask: Any, what: str) -> None:
        count, self.inputs = len(inputs), inputs
        if isinstance(mask, (list, tuple)) and not inputs.stepless:
            if len(mask) != count:
                raise ShapeError(f"{what}: got {len(mask)} samples, expected {count}")
            ends = inputs.lengths if inputs.listed else np.full(count, inputs.steps)
            self.rows: Any = [
                as_mask(row, f"{what}[{i}]", (int(end),))
                for i, (row, end) in enumerate(zip(mask, ends, strict=True))
            ]
        else:
            self.rows = as_mask(mask, what, (count,) if inputs.stepless else (count, inputs.steps))
        if not any(self.sample(i).any() for i in range(count)):
            raise ValueError(f"{what}: got no step that counts, expected at least one")

    def sample(self, i: int) -> NDArray[np.bool_]:
        """Those of sample ``i``, without padding."""
        row: NDArray[np.bool_] = self.rows[i]
        return row if self.inputs.stepless else row[: self.inputs.lengths[i]]


class Targets:
    """The targets of the net, one for each of ``inputs``' samples.

    Targets are of each step, ``(N, T, ...)`` or a list of ``(T_i, ...)``; of each sequence, ``(N, ...)``; or
    for `CTCLoss` labels: a list of label sequences, or the pair (labels ``(N, S)``, how many ``(N,)``).
    ``...`` is the net's output frame, without its last axis for the class indices of `CrossEntropyLoss`.

    Raises
    ------
    ShapeError, TypeError, ValueError, IndexError
        If they do not fit the inputs, the net and the loss; the message names the sample.
    """

    rows: Any  # a list of arrays or one array

    def __init__(self, inputs: Inputs, y: Any, loss: Any, what: str = "y", mask: Masks | None = None) -> None:
        from tinyrnn.losses import CrossEntropyLoss, CTCLoss

        self.inputs = inputs
        self.what = what
        self.mean = loss.reduction == "mean"
        self.classes = True  # targets are whole numbers
        self.labels: NDArray[np.int64] | None = None  # how many each sample has
        self.per_step = False
        self.tail: Frame = inputs.out_frame
        self._weights: NDArray[np.float64] | None = None  # of classes; None if every target counts 1
        self._ignored: int | None = None
        self._numbers_each = 1  # of a frame, which the mean is over
        self.mask = mask
        if isinstance(loss, CTCLoss):
            if mask is not None:
                raise ValueError(f"{what}: got a mask, expected none for CTCLoss: a path has every step")
            self._take_labels(y, loss)
        else:
            self._take(y, isinstance(loss, CrossEntropyLoss), loss)

    def _take(self, y: Any, classes: bool, loss: Any) -> None:
        inputs, what = self.inputs, self.what
        listed = isinstance(y, (list, tuple))
        count = len(y) if listed else (as_array(y, what).shape or (0,))[0]
        if count != len(inputs):
            raise ShapeError(
                f"{what}: got {count} samples, expected {len(inputs)}, one for each of {inputs.what}"
            )
        given: Any = [as_array(row) for row in y] if listed else as_array(y)
        kinds = {row.dtype.kind for row in given} if listed else {given.dtype.kind}
        if not kinds <= set("fiub"):
            wrong = next(row for row in (given if listed else [given]) if row.dtype.kind not in "fiub")
            raise TypeError(f"{what}: got dtype {wrong.dtype}, expected numbers")
        self.classes = classes and kinds <= set("iu")
        if self.classes:
            self.tail = inputs.out_frame[:-1]
        self._numbers_each = math.prod(inputs.out_frame[:-1] if classes else inputs.out_frame)
        shape = given[0].shape
        axes = len(shape) - len(self.tail)
        self.per_step = axes == 1
        fits = axes in (0, 1) and shape[len(shape) - len(self.tail) :] == self.tail
        if not fits or (self.per_step and inputs.stepless):
            tail = "".join(f", {axis}" for axis in self.tail)
            ways = f"(N{tail})" if inputs.stepless else f"(N, T{tail}) or (N{tail})"
            kind = "class indices" if self.classes else "numbers"
            raise ShapeError(
                f"{what}: got {kind} of shape {shape} a sample, expected {ways} for the net's output "
                f"{inputs.out_frame} and {type(loss).__name__}"
                + (" (classes are integers)" if classes and not self.classes else "")
            )
        if listed and not self.per_step:
            given = _stacked(given, what)
            listed = False
        if listed:
            self.rows = [self._numbers(row, f"{what}[{i}]") for i, row in enumerate(given)]
        else:
            self.rows = self._numbers(given, what)
        if self.per_step:
            self._check_steps(listed)
        if self.classes:
            self._check_classes(loss)
        else:
            _check_finite(self.rows, inputs.lengths, self.per_step, what, self.mask)

    def _numbers(self, y: Any, what: str) -> NDArray[Any]:
        return _core.as_indices(y, what) if self.classes else as_floats(y, what)

    def _check_steps(self, listed: bool) -> None:
        inputs, what = self.inputs, self.what
        for i in range(len(self.rows) if listed else 1):
            got, steps = self.rows[i].shape, int(inputs.lengths[i])
            if listed and got != (steps, *self.tail):
                raise ShapeError(
                    f"{what}[{i}]: got shape {got}, expected {(steps, *self.tail)}: {inputs.what}[{i}] has "
                    f"{steps} steps"
                )
            if not listed and got[0] != inputs.steps:
                whose = "as many as the output" if inputs.width is not None else f"as many as {inputs.what}"
                hint = "; y[:, 0] is one target for each sequence" if got[0] == 1 else ""
                raise ShapeError(f"{what}: has {got[0]} steps, expected {inputs.steps}, {whose}{hint}")

    def _check_classes(self, loss: Any) -> None:
        count, ignored = self.inputs.out_frame[-1], int(loss.ignore_index)
        at_once = isinstance(self.rows, np.ndarray) and not (self.per_step and self.inputs.ragged)
        at_once &= self.mask is None
        any_ignored = False
        for i, row in enumerate([self.rows] if at_once else map(self.sample, range(len(self.rows)))):
            skip = row == ignored
            any_ignored |= bool(skip.any())
            if self.mask is not None:
                skip = skip | _unmarked(self.mask, i, np.ndim(row), self.per_step)
            wrong = ((row < 0) | (row >= count)) & ~skip
            if wrong.any():
                place = tuple(map(int, np.unravel_index(int(np.argmax(wrong)), wrong.shape)))
                raise IndexError(
                    f"{self.what}: class {row[place]} at {list(place if at_once else (i, *place))} is out of "
                    f"range, expected 0 .. {count - 1}, the net's outputs, or ignore_index {ignored}"
                )
        weights = getattr(loss, "weight", None)
        if weights is not None or any_ignored:
            self._ignored = ignored
            self._weights = np.ones(count) if weights is None else np.array(weights, np.float64)

    def _take_labels(self, y: Any, loss: Any) -> None:
        inputs, what = self.inputs, self.what
        count, blank = inputs.out_frame[-1], int(loss.blank)
        if isinstance(y, tuple) and len(y) == 2 and as_array(y[0]).ndim == 2:
            labels = _core.as_indices(y[0], f"{what}: labels", count)
            many = as_lengths(y[1], what, len(labels), labels.shape[1], "its labels", least=0)
            rows = [row[:end] for row, end in zip(labels, many, strict=True)]
        else:
            rows = [
                _core.as_indices(row if len(row) else np.zeros(0, np.int32), f"{what}[{i}]", count)
                for i, row in enumerate(y)
            ]
        if len(rows) != len(inputs):
            raise ShapeError(
                f"{what}: got {len(rows)} samples, expected {len(inputs)}, one for each of {inputs.what}"
            )
        for i, row in enumerate(rows):
            if row.ndim != 1:
                raise ShapeError(f"{what}[{i}]: got shape {row.shape}, expected (S,), a sequence of labels")
            if (row == blank).any():
                raise ValueError(
                    f"{what}[{i}]: got label {blank} at {int(np.argmax(row == blank))}, which is the blank"
                )
        self.rows = rows
        self.labels = np.array([len(row) for row in rows])

    def sample(self, i: int) -> NDArray[Any]:
        """The targets of sample ``i``, without padding."""
        row: NDArray[Any] = self.rows[i]
        return row[: self.inputs.lengths[i]] if self.per_step else row

    def counted(self, i: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The targets of sample ``i`` (of these steps) that count, in a new first axis if it has no steps."""
        row: NDArray[Any] = np.asarray(self.sample(i))
        row = row[start:stop] if self.per_step else row[np.newaxis]
        if self.mask is None:
            return row
        marks = self.mask.sample(i)
        return row[marks[start:stop] if self.per_step else [marks.any()]]

    def weight(self, rows: Rows, start: int = 0, stop: int | None = None) -> float:
        """The divisor of the loss' mean over these samples (and steps); 1 for a sum.

        The mean of the whole set is that of its parts with these weights.
        """
        if not self.mean:
            return 1.0
        if self.labels is not None:
            return float(len(rows))
        lengths = self.inputs.lengths
        if self._weights is not None or self.mask is not None:
            total = 0.0
            for i in rows:
                row = self.counted(i, start, stop)
                if self._weights is not None:
                    total += float(self._weights[row[row != self._ignored]].sum())
                else:
                    total += len(row) * self._numbers_each
            return total
        ends = lengths[rows] if stop is None else np.minimum(lengths[rows], stop)
        frames = int(np.maximum(ends - start, 0).sum()) if self.per_step else len(rows)
        return float(frames * self._numbers_each)


class Goal(NamedTuple):
    """The loss and the targets of an output."""

    output: str
    loss: Any
    targets: Targets
    weight: float  # of the loss in the sum


class Gatherer:
    """Copy samples into batches, always into the same memory: a batch is valid until the next call.

    Parameters
    ----------
    inputs : Inputs
    goals : sequence of Goal
    batch, steps : int
        The most samples and steps of a batch; by default those of the longest sample.
    """

    def __init__(self, inputs: Inputs, goals: Sequence[Goal], batch: int, steps: int | None = None) -> None:
        self.inputs = inputs
        steps = inputs.longest if steps is None else steps
        self._x = np.empty(batch * steps * math.prod(inputs.frame), inputs.dtype)
        self.targets = _gatherers(goals, batch, steps)

    @property
    def nbytes(self) -> int:
        """Bytes of that memory."""
        return self._x.nbytes + sum(each.nbytes for each in self.targets.values())

    def x(self, rows: Rows, start: int = 0, stop: int | None = None) -> Any:
        """``(T, B, frame)``, ``(B, T, frame)`` for a net with batch_first, ``(B, frame)`` without steps.

        Steps ``start`` to ``stop`` of the samples ``rows``, to the end of the longest; after their own ends
        they are padded with zeros.
        """
        inputs = self.inputs
        if inputs.stepless:
            return _frames(self._x, inputs.frame, rows, inputs)
        return _steps(self._x, inputs.frame, rows, inputs, inputs, start, stop)

    def y(self, rows: Rows, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """The targets by output, as `TargetGatherer.y`."""
        return {output: each.y(rows, start, stop) for output, each in self.targets.items()}

    def masks(self, rows: Rows, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """The masks by output, laid out as the targets; only of outputs that have one."""
        found = ((output, each.mask(rows, start, stop)) for output, each in self.targets.items())
        return {output: mask for output, mask in found if mask is not None}

    def lengths(self, rows: Rows, start: int = 0, stop: int | None = None) -> Any:
        """The number of these steps that each sample has, (B,) int32; None where all have the same."""
        return self.inputs.lengths_of(rows, start, stop)


class PortGatherer(Gatherer):
    """Copy samples of several inputs into batches; as `Gatherer`.

    Parameters
    ----------
    inputs : PortInputs
    goals : sequence of Goal
    batch : int
    steps : mapping from axis of time to int, optional

    Attributes
    ----------
    views : list of Inputs
        `PortInputs.seen` by each output.
    """

    inputs: PortInputs

    def __init__(self, inputs: PortInputs, goals: Sequence[Goal], batch: int, steps: Any = None) -> None:
        self.inputs = inputs
        steps = inputs.most_steps(None) if steps is None else steps
        ports = inputs.ports
        self._each = {
            name: Gatherer(part, (), batch, steps[ports.times[axis - 1]] if axis else 1)
            for (name, part), (_, axis) in zip(inputs.parts.items(), ports.cores.inputs, strict=True)
        }
        self._along = {
            ports.times[axis - 1]: name
            for name, (_, axis) in zip(ports.names, ports.cores.inputs, strict=True)
            if axis
        }
        self.views = [inputs.seen(name) for name in ports.outputs]
        self.targets = _gatherers(goals, batch, max(steps.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of that memory."""
        return sum(each.nbytes for of in (self._each, self.targets) for each in of.values())

    def x(self, rows: Rows, start: int = 0, stop: int | None = None) -> Any:
        """The inputs by name, each as `Gatherer.x`."""
        return {name: each.x(rows, start, stop) for name, each in self._each.items()}

    def lengths(self, rows: Rows, start: int = 0, stop: int | None = None) -> Any:
        """The number of these steps that each sample has, by axis of time; None where all have the same."""
        return {time: self._each[name].lengths(rows, start, stop) for time, name in self._along.items()}

    def outputs(self, rows: Rows, threads: int) -> list[NDArray[np.float32]]:
        """All outputs of these samples in evaluation mode, samples first."""
        ports, x = self.inputs.ports, self.x(rows)
        given = [x[name] for name in ports.names]
        ys, _ = infer_ports(self.inputs.net, ports, given, self.lengths(rows), None, threads)
        return [
            y if view.stepless or self.inputs.batch_first else y.swapaxes(0, 1)
            for y, view in zip(ys, self.views, strict=True)
        ]


class TargetGatherer:
    """Copy the targets of an output into batches, always into the same memory.

    Parameters
    ----------
    targets : Targets
    batch, steps : int
        The most samples and steps of a batch.
    """

    def __init__(self, targets: Targets, batch: int, steps: int) -> None:
        self.targets, self.inputs = targets, targets.inputs
        if self.inputs.width is not None:  # a rate of its own: perhaps more steps than the input has
            steps = int(self.inputs.lengths.max())
        self._many = np.empty(0 if targets.labels is None else batch, np.int32)
        if targets.labels is not None:
            count = max(int(targets.labels.max()), 1)
        else:
            count = math.prod(targets.tail) * (steps if targets.per_step else 1)
        self._y = np.empty(batch * count, np.int32 if targets.classes else np.float32)
        self._mask = np.empty(0 if targets.mask is None else batch * steps, bool)

    @property
    def nbytes(self) -> int:
        """Bytes of that memory."""
        return self._y.nbytes + self._many.nbytes + self._mask.nbytes

    def mask(self, rows: Rows, start: int = 0, stop: int | None = None) -> NDArray[np.bool_] | None:
        """The steps that count, as the targets of each step; ``(B,)`` without steps. None: all."""
        masks = self.targets.mask
        if masks is None:
            return None
        if self.inputs.stepless:
            return _frames(self._mask, (), rows, masks)
        return _steps(self._mask, (), rows, masks, self.inputs, start, stop)

    def y(self, rows: Rows, start: int = 0, stop: int | None = None) -> Any:
        """The targets: of each step as `Gatherer.x`, of each sequence ``(B, ...)``, or labels and how many.

        Labels are ``(B, S)``, how many each row has is ``(B,)``.
        """
        targets = self.targets
        if targets.per_step:
            return _steps(self._y, targets.tail, rows, targets, self.inputs, start, stop)
        if targets.labels is None:
            return _frames(self._y, targets.tail, rows, targets)
        many = self._many[: len(rows)]
        many[:] = targets.labels[rows]
        most = max(int(many.max()), 1)
        labels = self._y[: len(rows) * most].reshape(len(rows), most)
        labels[:] = 0
        for row, i in zip(labels, rows, strict=True):
            row[: targets.labels[i]] = targets.rows[i]
        return labels, many


def _gatherers(goals: Sequence[Goal], batch: int, steps: int) -> dict[str, TargetGatherer]:
    """A gatherer of each goal's targets, by output."""
    return {goal.output: TargetGatherer(goal.targets, batch, steps) for goal in goals}


def _frames(memory: NDArray[Any], frame: Frame, rows: Rows, source: Inputs | Targets | Masks) -> NDArray[Any]:
    """Copy samples that are single frames into the beginning of ``memory``."""
    array = memory[: len(rows) * math.prod(frame)].reshape(len(rows), *frame)
    if isinstance(source.rows, np.ndarray):
        array[...] = source.rows[rows]
        return array
    for at, i in enumerate(rows):
        array[at] = source.sample(i)
    return array


def _steps(
    memory: NDArray[Any],
    frame: Frame,
    rows: Rows,
    source: Inputs | Targets | Masks,
    inputs: Inputs,
    start: int,
    stop: int | None,
) -> NDArray[Any]:
    """Copy steps of samples, as many as those of ``inputs``, into the beginning of ``memory``."""
    end = int(inputs.lengths[rows].max())
    steps = (end if stop is None else min(stop, end)) - start
    swap = not inputs.batch_first
    lead = (steps, len(rows)) if swap else (len(rows), steps)
    array = memory[: math.prod(lead) * math.prod(frame)].reshape(*lead, *frame)
    first = array.swapaxes(0, 1) if swap else array
    if isinstance(source.rows, np.ndarray) and not inputs.ragged:
        first[...] = source.rows[rows, start : start + steps]
        return array
    for row, i in zip(first, rows, strict=True):
        numbers = source.sample(i)[start : start + steps]
        row[: len(numbers)] = numbers
        row[len(numbers) :] = 0
    return array


def batches(lengths: NDArray[np.int64], batch: int, generator: np.random.Generator | None) -> list[Rows]:
    """Every sample once, in batches of ``batch``, the rest in a short one.

    Without a generator the order is the given one. With one, samples are shuffled; sorted by length, each
    counted as up to a quarter longer than it is, so that samples of about the same length keep mixing; cut
    into batches; and the batches are shuffled. If all have the same length, this is a plain shuffle. The
    short batch is cut off at another place in each epoch.
    """
    count = len(lengths)
    if generator is None:
        return list(parts(np.arange(count), batch))
    order = generator.permutation(count)
    blurred = lengths[order] * generator.integers(256, 320, count)  # whole numbers: the same everywhere
    if lengths.min() < lengths.max():
        order = order[np.argsort(blurred, kind="stable")]
    whole, rest = divmod(count, batch)
    sizes = np.full(whole, batch)
    if rest:
        sizes = np.insert(sizes, generator.integers(whole + 1), rest)
    cut = np.split(order, np.cumsum(sizes)[:-1])
    return [cut[i] for i in generator.permutation(len(cut))]


def parts(rows: Rows, batch: int) -> Iterator[Rows]:
    """Consecutive parts of ``rows``."""
    for at in range(0, len(rows), batch):
        yield rows[at : at + batch]


def _stacked(given: list[NDArray[Any]], what: str) -> NDArray[Any]:
    for i, row in enumerate(given):
        if row.shape != given[0].shape:
            raise ShapeError(f"{what}[{i}]: got shape {row.shape}, expected {given[0].shape} as {what}[0]")
    return np.stack(given)


def _unmarked(mask: Masks, i: int, ndim: int, steps: bool) -> NDArray[np.bool_]:
    """1, to broadcast, where the targets of sample ``i``, of ``ndim`` axes, do not count."""
    marks = mask.sample(i)
    marks = marks.reshape((-1,) + (1,) * (ndim - 1)) if steps else np.asarray(marks.any())
    return np.asarray(~marks)


def _check_finite(
    rows: Any, lengths: NDArray[np.int64], steps: bool, what: str, mask: Masks | None = None
) -> None:
    """Raise ValueError at the first number that is NaN or infinite, padding and masked steps left out."""
    if rows[0].dtype.kind != "f":
        return
    whole = isinstance(rows, np.ndarray) and (not steps or int(lengths.min()) == rows.shape[1])
    if whole:
        many = max(1, _LOOK // max(math.prod(rows.shape[1:]), 1))
        parts = range(0, len(rows), many)
        suspects = [at for at in parts if not np.isfinite(rows[at : at + many]).all()]
        if not suspects:
            return
        first = suspects[0]
    else:
        first = 0
    for i in range(first, len(rows)):
        row = rows[i][: lengths[i]] if steps else rows[i]
        fine = np.isfinite(row)
        if mask is not None:
            fine = fine | _unmarked(mask, i, np.ndim(row), steps)
        if not fine.all():
            place = [i, *map(int, np.unravel_index(int(np.argmin(fine)), np.shape(fine)))]
            raise ValueError(
                f"{what}: got {np.asarray(row)[tuple(place[1:])]} at {place} (sample {i}"
                + (f", step {place[1]}" if steps else "")
                + "), expected finite numbers"
            )
