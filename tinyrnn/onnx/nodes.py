"""One node of a graph that becomes layers: what it reads, and the building site around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import CodedArray, Unfit, delayed
from tinyrnn.onnx.folding import Fold, axis_of
from tinyrnn.onnx.model import Node
from tinyrnn.onnx.steps import counted, is_time, padded
from tinyrnn.onnx.symbols import (
    BATCH,
    FRAME,
    OPEN,
    TIME,
    Axis,
    Known,
    Places,
    Retry,
    Sizes,
    Symbol,
    claim,
    constant,
    equal_rows,
    frame_size,
    is_frame,
    sizes_of,
)
from tinyrnn.ops import Feedback
from tinyrnn.values import Value
from tinyrnn.weights.spec import Array


class Listed:
    """A list of steps: those that a loop has gathered, or a sequence cut into them.

    Attributes
    ----------
    item : Symbol or None
        None: nothing is in it yet.
    axes : tuple
        Of the whole, one of which is time, at ``place``; empty while the list grows.
    keeps : bool
        True if an item has an axis of size 1 where the whole has time.
    """

    def __init__(
        self, item: Symbol | None, axes: Sequence[Axis] = (), place: int = 0, keeps: bool = False
    ) -> None:
        self.item, self.axes, self.place, self.keeps = item, tuple(axes), place, keeps


class Step:
    """The number of a step within a loop over all.

    Attributes
    ----------
    time : Axis or None
        The axis that it has taken steps of.
    of : Step
        The number itself, where this is ``ahead`` more.
    """

    def __init__(self) -> None:
        self.time: Axis | None = None
        self.of, self.ahead = self, 0

    def plus(self, count: int) -> Step:
        """The number of a step, and so many more."""
        if not self.ahead + count:
            return self.of
        found = Step()
        found.of, found.ahead = self.of, self.ahead + count
        return found

    def taken(self, x: Symbol, axis: int) -> Symbol:
        """One step of a sequence."""
        if self.ahead:
            raise Unfit("a loop takes a step beside its own, expected one of each number")
        for atom in x.axes[axis]:
            if atom.kind in (OPEN, FRAME) and atom.origin:
                raise Retry(atom.origin, TIME)
        time = x.axes[axis]
        if len(time) != 1 or time[0].kind != TIME:
            raise Unfit("a loop takes a part of a frame by its number, expected a step of a sequence")
        (atom,) = time
        if x.reversed or (self.time is not None and not self.time[0].same(atom)):
            raise Unfit("a loop takes steps of two axes of time, or from the last to the first")
        self.time = time
        return Symbol(x.value, [one for i, one in enumerate(x.axes) if i != axis])


class Until(NamedTuple):
    """A condition of a loop: true but behind the last of so many steps."""

    sizes: Sizes


class Carried:
    """A state of a loop: ``before`` a step and ``after`` it; ``before`` is None for a list."""

    def __init__(self, before: Feedback | None, axes: Sequence[Axis]) -> None:
        self.before, self.axes = before, list(axes)
        self.after: Value | None = None
        self.base: int | None = None  # the first id of what it is after the last step


Given = Known | Places | Symbol | Listed | Step | Until | None


class Start(NamedTuple):
    """The initial state of a recurrent node: places of states, a value, or the rows of a constant."""

    ids: Array | None = None
    value: Value | None = None
    rows: Array | None = None


class Unfinished(Symbol):
    """A value that is no layer's yet: `what` it is, for a message; its axes may move if it is ``movable``."""

    what = ""
    movable = False

    def unfit(self) -> Unfit:
        """The error of a layer that reads it."""
        return Unfit(f"reads {self.what}")


class Padded(Unfinished):
    """A value with steps of zeros before and behind it, which convolutions over time have of their own."""

    what = "a sequence that was padded"
    steps = (0, 0)

    @property
    def shape(self) -> Known:
        return self.whole.shape

    @property
    def whole(self) -> Symbol:
        """The value with its steps of zeros."""
        axis = next(i for i, one in enumerate(self.axes) if is_time(one))

        def less(first: int, last: int) -> Symbol:
            before, behind = (self.steps[:: -1 if self.reversed else 1][i] - (first, last)[i] for i in (0, 1))
            if before == -behind > 0 and not self.reversed:
                return Symbol(delayed(self.value, before), self.axes)
            if min(before, behind) < 0:
                raise Unfit("leaves out more steps than are padding")
            return padded(self, axis, before, behind)

        found = less(0, 0)
        found.shortened = less
        return found


class Call(NamedTuple):
    """A node with the values that it reads."""

    node: Node
    inputs: Sequence[Given]
    opset: int
    builder: Any
    env: Mapping[str, Any]  # all names that the node could read
    where: str = ""  # the node, for a message

    @property
    def attributes(self) -> dict[str, Any]:
        return self.node.attributes

    @property
    def outputs(self) -> int:
        return len(self.node.outputs)

    def has(self, place: int) -> bool:
        return place < len(self.inputs) and self.inputs[place] is not None

    def get(self, place: int) -> Given:
        return self.inputs[place] if place < len(self.inputs) else None

    def known(self, place: int, name: str = "") -> Known:
        given = self.get(place)
        if not isinstance(given, Known):
            if isinstance(given, Symbol):
                self.builder.wants(given)
            what = "nothing" if given is None else "a value that the net computes"
            what = "the number of a step" if isinstance(given, Step) else what
            raise Unfit(f"input {name or place} is {what}, expected constant numbers")
        return given

    def array(self, place: int, name: str = "") -> Array:
        """A constant input."""
        return self.known(place, name).array(f"input {name or place}")

    def weight(self, place: int, name: str, kept: bool) -> Any:
        """A constant matrix, whose codes a layer may keep."""
        first = self.known(place, name).first
        return first.each(np.asarray, kept) if isinstance(first, CodedArray) else self.array(place, name)

    def padded(self, place: int) -> Symbol:
        """An input that a layer wrote, or the net's own; it may have steps of padding."""
        given = self.get(place)
        if isinstance(given, Places):
            given = self.builder.states.written(given)
        if not isinstance(given, Symbol):
            raise Unfit(f"input {place} is {'constant' if given else 'absent'}, expected a value of the net")
        return given

    def symbol(self, place: int) -> Symbol:
        """An input that a layer wrote, or the net's own."""
        given = self.padded(place)
        if isinstance(given, Padded):
            return given.whole
        if isinstance(given, Unfinished):
            raise given.unfit()
        return given

    def movable(self, place: int) -> Symbol:
        """An input whose axes a node puts in other order or groups."""
        given = self.padded(place)
        return given if isinstance(given, Unfinished) and given.movable else self.symbol(place)

    def fold(self, world: int = 0) -> Fold:
        """The node for `folding`, with the inputs that are known."""
        arrays = [one.worlds[world] if isinstance(one, Known) else None for one in self.inputs]
        return Fold(arrays, self.attributes, self.opset, self.builder.room, self.outputs)

    def axis(self, default: int, rank: int) -> int:
        """The attribute of this name, counted from the front."""
        return axis_of(self.attributes.get("axis", default), rank)

    def lengths(self, place: int, time: Axis) -> Value | None:
        """The mask of the steps within the lengths of rows; None where a call has them, or all count."""
        given = self.get(place)
        if isinstance(given, Places):
            given = self.builder.states.written(given)
        if given is None or (isinstance(given, Symbol) and self.builder.states.takes_lengths(given)):
            return None
        if isinstance(given, Symbol):
            for axis in given.axes:
                claim(axis, BATCH)
            mask: Value = self.builder.mask_of(given.value, time)
            return mask
        if not isinstance(given, Known):
            raise Unfit("sequence_lens is no array")
        declared = [atom.declared for atom in time if not given.varies] or [None]
        for sizes in (sizes_of(time), (declared[0],) * 2):
            if all(np.all(one == size) for one, size in zip(given.worlds, sizes, strict=True)):
                return None  # all of the steps
        numbers = [np.unique(one) for one in given.worlds]
        if any(one.size != 1 for one in numbers):
            raise Unfit(
                "sequence_lens is constant and differs from row to row, expected an input of the graph: the "
                "rows of a net are alike"
            )
        told = counted(Known(*numbers), self.builder.timed)
        mask = self.builder.mask_of(int(numbers[0][0]) if told is None else told.value, time)
        return mask

    def start(self, place: int, directions: int, hidden: int, layout: int, batch: Axis) -> Start:
        """The initial state of a recurrent node."""
        given = self.get(place)
        if given is None:
            return Start()
        if isinstance(given, Known):
            rows = equal_rows(given, 0 if layout else 1)
            return Start(rows=None if rows is None else rows.reshape(-1, rows.shape[-1]))
        if isinstance(given, (Listed, Step, Until)):
            raise Unfit("an initial state is no array")
        axes = given.axes
        if len(axes) != 3:
            raise Unfit(f"an initial state has {len(axes)} axes, expected 3")
        own = 0 if layout else 1
        if isinstance(given, Places):
            self.builder.states.find_batch(given, own)
            row = given.row.swapaxes(0, 1) if layout else given.row
            if row.shape != (directions, 1, hidden):
                raise Unfit(
                    f"an initial state has shape {given.ids.shape}, expected {(directions, 1, hidden)}"
                )
            if self.builder.states.are_states(row):
                return Start(ids=row.reshape(-1))
            given = self.builder.states.written(given, starts=True)
        self.builder.states.starts_with(given)
        claim(given.axes[own], BATCH)
        sizes = [frame_size(axis) for axis in (given.axes[1 - own], given.axes[2])]
        if math.prod(sizes) != directions * hidden or any(not is_frame(given.axes[i]) for i in (1 - own, 2)):
            raise Unfit(
                f"an initial state has frames of {math.prod(sizes)} numbers, expected {directions * hidden}"
            )
        return Start(value=given.framed((directions * hidden,)))

    def constant(self, array: Array, like: Value) -> Value:
        return constant(array, like)
