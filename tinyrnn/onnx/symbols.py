"""The things that ONNX's names stand for while a net is built: arrays, places of states, values of layers.

ONNX has one array where tinyrnn has a frame, at a step, of a row of the batch. So each axis of a `Symbol`
knows what it is: time, batch, or a part of the frame. Use tells what an axis of an input is: an LSTM's first
axis is time. `Retry` says so, and the net is built once more.

Sizes that vary (of time, of the batch) have a number all the same, another in each of two worlds, so that
the arithmetic of shapes is arithmetic of arrays. A number that is the same in both worlds depends on none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.frames import Constant, Reshape
from tinyrnn.importing import CodedArray, Unfit, weighted
from tinyrnn.layers import Linear
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

Sizes = tuple[int, int]  # in the two worlds
Matrix = Array | CodedArray

TIME, BATCH, OPEN, FRAME = "time", "batch", "open", "frame"
ONE = "one"  # of size 1, where an operation wants time or the batch: it has no place in a frame

# Sizes of axes that vary: long ones for time, since windows of steps need many, short ones for the batch.
BATCH_SIZES = (5, 7)
TIME_SIZES = ((997, 1999), (1009, 2003), (1013, 2011), (1019, 2017), (1021, 2027), (1031, 2029), (1033, 2039))
# Where constants of that size need too much memory, as a mask of each pair of steps does.
SHORT_TIME_SIZES = ((211, 419), (223, 421), (227, 431), (229, 433), (233, 439), (239, 443), (241, 449))


class Retry(Exception):
    """The build learned something about an input and begins again.

    ``key`` is the name of an axis (`Atom.origin`) or of an input, ``value`` what it is. Behind ``=`` an axis
    has this size, behind ``~`` it was traced with this size, behind ``&`` it is this other axis. Behind ``#``
    the numbers of an input are indices of as many rows.
    """

    def __init__(self, key: str, value: Any) -> None:
        super().__init__(key, value)
        self.key, self.value = key, value


class Atom(NamedTuple):
    """A part of an axis: all of time, all of the batch, or some size of a frame.

    Attributes
    ----------
    kind : str
    sizes : pair of int
    origin : str, optional
        The input's axis that it comes from.
    declared : int, optional
        The size that the file names for an axis that varies here.
    """

    kind: str
    sizes: Sizes
    origin: str | None = None
    declared: int | None = None

    def same(self, other: Atom) -> bool:
        return self.kind == other.kind and self.sizes == other.sizes


Axis = tuple[Atom, ...]


def part(size: int) -> Axis:
    """An axis of a frame."""
    return () if size == 1 else (Atom(FRAME, (size, size)),)


def sizes_of(atoms: Sequence[Atom]) -> Sizes:
    return math.prod(atom.sizes[0] for atom in atoms), math.prod(atom.sizes[1] for atom in atoms)


def frame_size(atoms: Sequence[Atom]) -> int:
    """The size of an axis within a frame; 1 if it is none."""
    return math.prod(atom.sizes[0] for atom in atoms if atom.kind == FRAME)


def short(sizes: Sequence[int]) -> list[int]:
    """The sizes of a frame of at most three axes."""
    if len(sizes) > 3:
        sizes = [size for size in sizes if size > 1]
    return [*sizes[:2], *([math.prod(sizes[2:])] if sizes[2:] else [])] or [1]


def framed(axes: Sequence[Axis]) -> list[int]:
    """The frame of axes, of at most three of its own, none of size 1."""
    return short([size for axis in axes if (size := frame_size(axis)) > 1])


def is_frame(axis: Axis) -> bool:
    return all(atom.kind == FRAME for atom in axis)


def has(axis: Axis, kind: str) -> bool:
    return any(atom.kind == kind for atom in axis)


class Known:
    """An array of known numbers, in each world; codes become floats each time that they are asked for."""

    def __init__(self, first: Matrix, second: Array | None = None) -> None:
        if second is not None:
            array = first = np.asarray(first)
            if array.shape == second.shape and array.dtype == second.dtype and np.array_equal(array, second):
                second = None
        self.first, self.second = first, second

    @property
    def rank(self) -> int:
        return self.worlds[0].ndim

    @property
    def varies(self) -> bool:
        """True if it depends on sizes that vary."""
        return self.second is not None

    @property
    def worlds(self) -> tuple[Array, Array]:
        first = np.asarray(self.first)
        return first, first if self.second is None else self.second

    def array(self, what: str) -> Array:
        if self.varies:
            raise Unfit(f"{what} depends on the number of steps or rows, expected constant numbers")
        return self.worlds[0]

    @property
    def sizes(self) -> list[Sizes]:
        one, other = self.worlds
        if one.shape != other.shape:
            raise Unfit("got a list of sizes whose length depends on the number of steps or rows")
        return [(int(a), int(b)) for a, b in zip(one.reshape(-1), other.reshape(-1), strict=True)]


def equal_rows(known: Known, axis: int) -> Array | None:
    """The row that a constant repeats along the axis of the batch, which has size 1 then; None for zeros."""
    first, second = known.worlds
    if not (np.any(first) or np.any(second)):
        return None
    row, other = (np.take(one, [0], axis) for one in (first, second))
    if np.any(first != row) or np.any(second != other) or np.any(row != other):
        raise Unfit("an initial state is constant and differs from row to row, expected equal rows")
    return row


class Product(NamedTuple):
    """A product with constants, to which a bias may be added.

    Attributes
    ----------
    make : callable
        Makes it with other weights, and with a bias or None.
    weight : ndarray
        Its first axis is that of the outputs.
    bias : ndarray or None
    axis : int
        Of the outputs.
    scales : bool
        True if numbers that it is multiplied with are to be its weights', too.
    """

    make: Callable[[Matrix, Array | None], Symbol]
    weight: Matrix
    bias: Array | None
    axis: int
    scales: bool = False

    def changed(self, numbers: Array, times: bool, rank: int) -> Symbol | None:
        """The product times numbers, or with them as its bias; None if they are no vector of its outputs."""
        shape = (1,) * (rank - numbers.ndim) + numbers.shape
        if len(shape) > rank or any(size > 1 and i != self.axis for i, size in enumerate(shape)):
            return None
        count, may = len(self.weight), self.scales if times else self.bias is None
        if numbers.size not in (1, count) or not may:
            return None
        vector = np.broadcast_to(np.asarray(numbers, np.float32).reshape(-1), (count,))
        if not times:
            return self.make(self.weight, vector)
        bias = None if self.bias is None else self.bias * vector
        found = self.make(self.weight * vector.reshape(-1, *(1,) * (self.weight.ndim - 1)), bias)
        if found.product is not None:
            found.product = found.product._replace(scales=True)
        return found


class Symbol:
    """A value of a layer, with the axes that it has in ONNX.

    The numbers of the frame are in the order of the axes. ``reversed``: ONNX has the steps from the last to
    the first. ``rounded``: the file rounds the numbers to codes, so a matrix that reads them may stay codes.
    """

    rounded = False
    truth = False  # a file or module says that it is true or false
    pairs = False  # of steps: it may have two axes of time

    def __init__(self, value: Value, axes: Sequence[Axis], reversed: bool = False) -> None:
        self.value, self.axes, self.reversed = value, tuple(axes), reversed
        if not self.pairs:
            check_no_pairs(self.axes)
        assert math.prod(value.frame) == math.prod(map(frame_size, self.axes)), (value.frame, self.axes)
        self.product: Product | None = None  # that may get a bias
        # Of a convolution over time that pads: makes it with so many steps less before and behind.
        self.shortened: Callable[[int, int], Symbol] | None = None
        self.ahead: tuple[Symbol, int] | None = None  # it is this less so many steps at the end

    @property
    def shape(self) -> Known:
        worlds = [[sizes_of(axis)[world] for axis in self.axes] for world in (0, 1)]
        return Known(np.array(worlds[0], np.int64), np.array(worlds[1], np.int64))

    @property
    def rank(self) -> int:
        return len(self.axes)

    def widened(self, rank: int) -> list[Axis]:
        """So many axes: its own behind those of size 1."""
        return [*[()] * (rank - self.rank), *self.axes]

    def with_axes(self, axes: Sequence[Axis]) -> Symbol:
        """The same numbers, looked at otherwise."""
        found = Symbol(self.value, axes, self.reversed)
        found.rounded, found.truth = self.rounded, self.truth
        return found

    def mapped(self, layer: Any) -> Symbol:
        """A function of each number."""
        return Symbol(layer(self.value), self.axes, self.reversed)

    def framed(self, frame: Sequence[int]) -> Value:
        """The value with frames of this shape."""
        return reframed(self.value, frame)

    def frame_axis(self, axis: int, what: str = "axis") -> int:
        """The size of an axis that is a part of the frame."""
        claim(self.axes[axis], TIME, OPEN)
        if not is_frame(self.axes[axis]):
            raise Unfit(f"{what} {axis} is time or the batch, expected a part of each frame")
        return frame_size(self.axes[axis])

    def along(self, axis: int) -> tuple[Value, int]:
        """The value in frames of at most three axes, of which one is this; and its place from the end."""
        size = self.frame_axis(axis)
        before = math.prod(map(frame_size, self.axes[:axis]))
        behind = math.prod(map(frame_size, self.axes[axis + 1 :]))
        frame = (*((before,) if before > 1 else ()), size, *((behind,) if behind > 1 else ()))
        return self.framed(frame), -2 if behind > 1 else -1

    def replaced(self, value: Value, axis: int, size: int) -> Symbol:
        """A value that a layer made of `along`: the same axes but for this one."""
        axes = list(self.axes)
        axes[axis] = part(size)
        return Symbol(value, axes, self.reversed)


def check_no_pairs(axes: Sequence[Axis]) -> None:
    """No axis of time, or of the batch, is there twice, as where each step meets each other one."""
    atoms = [atom for axis in axes for atom in axis if atom.kind != FRAME and atom.sizes != (1, 1)]
    for i, one in enumerate(atoms):
        for other in atoms[:i]:
            if one.kind == OPEN and other.kind in (OPEN, TIME) and one.origin == other.origin:
                raise Retry(one.origin or "", TIME)
            if one.kind == other.kind != OPEN:
                raise Unfit("makes pairs of steps or of rows, expected them within attention")


class Places:
    """States, followed through operations that move numbers: ``ids`` says which number is where.

    The batch has size 2 in ``ids``, and the second row's are `ROW` larger.
    """

    ROW = 1 << 50

    def __init__(self, ids: Array) -> None:
        self.ids = ids

    @property
    def batch(self) -> int | None:
        """The axis that is the batch."""
        for axis, size in enumerate(self.ids.shape):
            if size == 2 and self.ids.size and np.all(np.diff(self.ids, axis=axis) == self.ROW):
                return axis
        return None

    @property
    def row(self) -> Array:
        """The ids of one row of the batch, whose axis has size 1."""
        axis = self.batch
        return self.ids if axis is None else np.take(self.ids, [0], axis)

    @property
    def axes(self) -> list[Axis]:
        batch = self.batch
        return [
            (Atom(BATCH, BATCH_SIZES),) if axis == batch else part(size)
            for axis, size in enumerate(self.ids.shape)
        ]

    @property
    def shape(self) -> Known:
        sizes = [sizes_of(axis) for axis in self.axes]
        return Known(np.array([a for a, _ in sizes], np.int64), np.array([b for _, b in sizes], np.int64))


def reframed(value: Value, frame: Sequence[int]) -> Value:
    """A value with frames of another shape."""
    wanted = tuple(frame) or (1,)
    while value.frame != wanted and isinstance(value.layer, Reshape):
        (value,) = value.reads
    if value.frame == wanted:
        return value
    if len(wanted) > 3:
        raise Unfit(f"got frames of shape {wanted}, expected at most three axes beside time and batch")
    return value.reshape(*wanted)


def constant(array: Array, like: Value) -> Value:
    """An array as a value, at each step where ``like`` is one: a linear layer reads 1."""
    one = reframed(applied(Constant(1.0), (like,)), (1,))
    frame = array.shape or (1,)
    layer = weighted(Linear(1, max(array.size, 1), bias=False), weight=array.reshape(-1, 1))
    return reframed(layer(one), frame)


def regrouped(axes: Sequence[Axis], wanted: Sequence[Sizes]) -> list[Axis]:
    """The axes of a Reshape: the same atoms in the same order, in other groups.

    Raises
    ------
    Unfit
        If the sizes would tear time or batch apart.
    """
    left = [atom for axis in axes for atom in axis if atom.sizes != (1, 1)][::-1]
    found: list[Axis] = []
    for sizes in wanted:
        group: list[Atom] = []
        a, b = sizes
        while (a, b) != (1, 1) and left:
            atom = left.pop()
            one, other = atom.sizes
            told = atom.declared or 1
            if told > 1 and a == b and a % told == 0 and (one, other) != (a, b):
                a = b = a // told
            elif a % one == 0 and b % other == 0:
                a, b = a // one, b // other
            elif told > 1 and a % told == b % told == 0:
                a, b = a // told, b // told
            elif atom.kind == FRAME and a == b and one % a == 0:
                left.append(Atom(FRAME, (one // a, one // a)))
                atom, a, b = Atom(FRAME, (a, a)), 1, 1
            elif atom.kind == FRAME and left and left[-1].kind == FRAME:
                one *= left.pop().sizes[0]  # parts that lie side by side are one
                left.append(Atom(FRAME, (one, one)))
                continue
            else:
                break
            group.append(atom)
        if (a, b) != (1, 1):
            raise Unfit(f"cannot make an axis of size {sizes[0]} of time, batch and the axes of a frame")
        found.append(tuple(group))
    if left:
        raise Unfit("the shape has fewer numbers than what it reads")
    return found


def met(axes: Sequence[Axis]) -> Axis:
    """The axis that axes in the same place become: one of them where the others have size 1.

    Raises
    ------
    Retry
        If one is of an input and turns out to be what another is.
    Unfit
        If they differ.
    """
    wide = [axis for axis in axes if axis and sizes_of(axis) != (1, 1)]
    if not wide:
        return next((axis for axis in axes if axis), ())
    first = wide[0]
    for other in wide[1:]:
        if len(first) == len(other) and all(a.same(b) for a, b in zip(first, other, strict=True)):
            continue
        if is_frame(first) and is_frame(other) and sizes_of(first) == sizes_of(other):
            continue
        for one, two in ((first, other), (other, first)):
            if len(one) != 1 or len(two) != 1 or one[0].kind not in (FRAME, OPEN) or not one[0].origin:
                continue
            fixed = one[0].kind == FRAME and two[0].kind == OPEN and two[0].declared == one[0].sizes[0]
            if fixed or two[0].kind in (TIME, BATCH):
                raise Retry(one[0].origin, two[0].kind)
        a, b = (one[0] if len(one) == 1 else None for one in (first, other))
        alike = a and b and a.kind == b.kind and a.kind in (TIME, OPEN) and a.declared == b.declared
        if alike and a and b and a.origin and b.origin:
            raise Retry(f"&{b.origin}", a.origin)  # two names for one size
        raise Unfit(
            f"reads axes of sizes {sizes_of(first)[0]} and {sizes_of(other)[0]}, expected equal ones or 1"
        )
    return first


def claim(axis: Axis, kind: str, *of: str) -> None:
    """An axis of an input turns out to be of a kind, if it is none yet (``of`` these: OPEN and FRAME)."""
    for atom in axis:
        if atom.origin and atom.kind in (of or (OPEN, FRAME)):
            raise Retry(atom.origin, ONE if atom.sizes == (1, 1) else kind)


def claim_rows(x: Symbol) -> None:
    """The first axis of (N, C, ...) is no part of a frame."""
    claim(x.axes[0], OPEN, FRAME)


def claim_row(x: Symbol) -> None:
    """The first axis of what a matrix is multiplied with is no part of a frame if it has size 1."""
    if x.rank > 1 and sizes_of(x.axes[0]) == (1, 1):
        claim(x.axes[0], ONE, FRAME)


def claim_time(x: Symbol, axis: int) -> None:
    """An open axis that windows go along is time."""
    claim(x.axes[axis], TIME, OPEN)
