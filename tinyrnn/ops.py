"""Layers that combine values of a net, or take them apart: arithmetic, products, concat, slices, delays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tinyrnn import _core
from tinyrnn.activations import Abs, Neg, Power, Reciprocal, Scale
from tinyrnn.arguments import check_int, check_size
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.frames import Constant, check_dim
from tinyrnn.layers import _Layer
from tinyrnn.net import Net
from tinyrnn.plans import Cores
from tinyrnn.tensors import Frame, Slot, Tensor, in_planes
from tinyrnn.values import TIME, Value, applied, operations


class _Joining(Net):
    """A layer of one core layer that reads several values."""

    _is_wired = True
    _recurrent = True
    batch_first = None
    _counts: ClassVar[str] = "2 values"  # how many it reads, for a message

    def __call__(self, *given: Any) -> Any:  # type: ignore[override]
        """Return the value of the layer in a net that is being described."""
        if not any(isinstance(one, Value) for one in given):
            raise TypeError(
                f"{type(self).__name__}: got {', '.join(map(brief, given)) or 'nothing'}, expected values of "
                "a net; for arrays NumPy does the same"
            )
        return applied(self, given)

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        """The core layer for these frames, and the frame that it writes."""
        raise NotImplementedError

    def _fits(self, count: int) -> bool:
        return count == 2

    def _wire(
        self, cores: Cores, frames: list[Frame], values: list[int], lead: int
    ) -> list[tuple[int, Frame]]:
        if not self._fits(len(values)):
            raise TypeError(f"{type(self).__name__}: got {len(values)} values, expected {self._counts}")
        core, frame = self._core_for(frames)
        return [(cores.join(core, tuple(values)), frame)]

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        raise TypeError(f"{type(self).__name__}: got one value in a chain, expected {self._counts} in a Net")


class _Arithmetic(_Joining):
    """An operation on the numbers of values; an axis of a frame may be 1, and a value may be per sequence."""

    _kind: ClassVar[str]

    def __init__(self) -> None:
        self._core_layer = _core.Layer(self._kind)

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        rank = max(map(len, frames))
        axes = [
            set(sizes) - {1}
            for sizes in zip(*((1,) * (rank - len(one)) + one for one in frames), strict=True)
        ]
        if any(len(sizes) > 1 for sizes in axes):
            raise ShapeError(
                f"{type(self).__name__}: got frames of shapes {_listed(frames)}, expected equal sizes or 1"
            )
        return self._core_layer, tuple(max(sizes, default=1) for sizes in axes)


def _listed(frames: list[Frame]) -> str:
    *first, last = map(str, frames)
    return f"{', '.join(first)} and {last}"


class Add(_Arithmetic):
    """The sum of two values, ``a + b``."""

    _kind = "add"


class Subtract(_Arithmetic):
    """The difference of two values, ``a - b``."""

    _kind = "subtract"


class Multiply(_Arithmetic):
    """The product of two values, number by number, ``a * b``."""

    _kind = "multiply"


class Divide(_Arithmetic):
    """The quotient of two values, ``a / b``."""

    _kind = "divide"


class Minimum(_Arithmetic):
    """The smaller number of two values; NaN if either is. Equal numbers share the gradient."""

    _kind = "minimum"


class Maximum(_Arithmetic):
    """The larger number of two values; NaN if either is. Equal numbers share the gradient."""

    _kind = "maximum"


class Pow(_Arithmetic):
    """One value to the power of another, ``a ** b``, as ``torch.pow``; `Power` is faster for a number.

    It is computed in double and without vectors. A negative number to a power that is not whole is NaN.
    """

    _kind = "raise"


class Equal(_Arithmetic):
    """1 where the numbers of two values are equal, 0 elsewhere, as ``torch.eq``. It has no gradient."""

    _kind = "eq"


class NotEqual(_Arithmetic):
    """1 where the numbers of two values differ, 0 elsewhere, as ``torch.ne``. It has no gradient."""

    _kind = "ne"


class Less(_Arithmetic):
    """1 where ``a < b``, 0 elsewhere, as ``torch.lt``. It has no gradient."""

    _kind = "lt"


class LessEqual(_Arithmetic):
    """1 where ``a <= b``, 0 elsewhere, as ``torch.le``. It has no gradient."""

    _kind = "le"


class Greater(_Arithmetic):
    """1 where ``a > b``, 0 elsewhere, as ``torch.gt``. It has no gradient."""

    _kind = "gt"


class GreaterEqual(_Arithmetic):
    """1 where ``a >= b``, 0 elsewhere, as ``torch.ge``. It has no gradient."""

    _kind = "ge"


class Where(_Arithmetic):
    """The second of three values where the first is not 0, the third elsewhere, as ``torch.where``."""

    _kind = "where"
    _counts = "3 values"

    def _fits(self, count: int) -> bool:
        return count == 3


class Matmul(_Joining):
    """The product of two values whose frames are matrices, ``a @ b``, as ``torch.matmul``.

    ``(R, K)`` times ``(K, C)``, and with three axes each of the first; ``(K,)`` at the left is one row.
    """

    def __init__(self) -> None:
        self._core_layer = _core.Layer("matmul")

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        one, other = frames
        planes = [frame[:-2] or (1,) for frame in frames]
        row = len(one) == 1 and len(other) == 2
        fits = len(other) >= 2 and (row or len(one) >= 2) and one[-1] == other[-2]
        if not fits or (planes[0] != planes[1] and (1,) not in planes):
            raise ShapeError(
                f"Matmul: got frames of shapes {one} and {other}, expected (R, K) and (K, C), or three axes "
                "of which the first is equal or 1"
            )
        lead = max(planes) if max(len(one), len(other)) == 3 else ()
        return self._core_layer, (*lead, *one[-2:-1], other[-1])


class Concat(_Joining):
    """Frames side by side, as ``torch.cat``.

    Parameters
    ----------
    dim : int
        The axis of a frame along which they lie, counted from the end: -1 is the last one.
    """

    arguments = ("dim",)
    _counts = f"1 .. {_core.READS_MAX} values"

    def __init__(self, dim: int = -1) -> None:
        self.dim = check_int("Concat: dim", dim, -3, -1)
        self._core_layer = _core.Layer("concat", axis=3 + self.dim)

    def _fits(self, count: int) -> bool:
        return 1 <= count <= _core.READS_MAX

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        first = frames[0]
        check_dim("Concat", self.dim, len(first))
        rests = {
            (*frame[: len(frame) + self.dim], 0, *frame[len(frame) + self.dim + 1 :]) for frame in frames
        }
        if len(rests) > 1 or len({len(frame) for frame in frames}) > 1:
            raise ShapeError(
                f"Concat: got frames of shapes {', '.join(map(str, frames))}, expected equal ones but for "
                f"dim {self.dim}"
            )
        frame = list(first)
        frame[self.dim] = sum(one[self.dim] for one in frames)
        return self._core_layer, tuple(frame)


class Slice(_Layer):
    """A part of each frame: ``size`` numbers along an axis, from ``start`` on.

    Parameters
    ----------
    start, size : int
    dim : int
        The axis of a frame, counted from the end: -1 is the last one.
    """

    arguments = ("start", "size", "dim")

    def __init__(self, start: int, size: int, dim: int = -1) -> None:
        self.start = check_int("Slice: start", start, 0, 2**28)
        self.size = check_size("Slice: size", size)
        self.dim = check_int("Slice: dim", dim, -3, -1)
        self._core_layer = _core.Layer("slice", axis=3 + self.dim, start=self.start, size=self.size)

    def _rank(self, ndim: int) -> int | None:
        return None

    def _out(self, frame: Frame) -> Frame:
        check_dim("Slice", self.dim, len(frame))
        if self.start + self.size > frame[self.dim]:
            raise self._wants(frame, f"at least {self.start + self.size} numbers along dim {self.dim}")
        out = list(frame)
        out[self.dim] = self.size
        return tuple(out)


class Delay(_Layer):
    """The value of some steps before; zeros at first. It is state: streams keep it.

    Called with a value it delays that: ``Delay(8)(x)``. ``Delay(8)(x, initial)`` is the second value, one for
    the sequence, at first. `Feedback` makes one that reads what the net computes later.

    Parameters
    ----------
    frame : int or tuple of int
        The shape of the value.
    steps : int
    """

    arguments = ("frame", "steps")
    _recurrent = True
    batch_first = None

    def __init__(self, frame: int | Sequence[int], steps: int = 1) -> None:
        sizes = frame if isinstance(frame, (tuple, list)) else (frame,)
        if len(sizes) > 3:
            raise ValueError(f"Delay: got a frame of {len(sizes)} axes, expected at most 3")
        self.frame = tuple(check_size("Delay: frame", size) for size in sizes)
        self.steps = check_size("Delay: steps", steps)
        planes, rows, cols = in_planes(self.frame)
        self._core_layer = _core.Layer("delay", planes=planes, rows=rows, cols=cols, steps=self.steps)

    def _frame(self) -> tuple[int | None, ...] | None:
        return self.frame

    def _rank(self, ndim: int) -> int | None:
        return len(self.frame)

    def _out(self, frame: Frame) -> Frame:
        if frame != self.frame:
            raise self._wants(frame, f"{self.frame}, its frame")
        return frame

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        offset, numbers = plan.state_of(first)
        size = numbers // self.steps
        parts = tuple((offset + size * i, size) for i in range(self.steps))
        marks = (offset + numbers,) if plan.begins(first) else ()
        shape = (self.steps, plan.batch, size)
        return [Slot(f"{prefix}past", f"delay {'x'.join(map(str, self.frame))}", shape, parts, marks)]

    def _start_frames(self) -> dict[str, tuple[Frame, ...]]:
        return {"initial": (self.frame,)}

    def _state_names(self) -> tuple[str, ...]:
        return ("past",)

    def _start_names(self) -> tuple[str, ...]:
        return self._state_names()

    def _start_shape(self, name: str) -> tuple[int, int]:
        return self.steps, math.prod(self.frame)

    def _tensors(self) -> list[Tensor]:
        return self._start_tensors()


class Feedback(Value):
    """The value of some steps before, of something that is computed later: ``connect`` says of what.

    ::

        before = tr.Feedback(10)
        y = tr.Linear(13, 10)(tr.concat([x, before]))
        before.connect(y)

    Parameters
    ----------
    *frame : int
        The shape of the value.
    steps : int
        How many steps before.
    time : str
        The name of its axis of time.
    initial : Value, optional
        What it is at first, in place of zeros: a value per sequence, such as what an encoder made of one.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If ``initial`` has another frame, or is a value per step.
    """

    __slots__ = ("_initial",)

    def __init__(self, *frame: int, steps: int = 1, time: str = TIME, initial: Value | None = None) -> None:
        layer = Delay(frame, steps)
        super().__init__(layer.frame, time, layer)
        self._initial: tuple[Value, ...] = () if initial is None else (initial,)
        if initial is None:
            return
        if not isinstance(initial, Value):
            raise TypeError(f"Feedback: initial is {brief(initial)}, expected a value of a net")
        if initial.frame != self.frame:
            raise ShapeError(
                f"Feedback: initial has frames of shape {initial.frame}, expected {self.frame}, its own"
            )
        if initial.time is not None:
            raise ValueError(
                f"Feedback: initial is {initial!r}, expected a value per sequence, such as a FinalState"
            )

    def __repr__(self) -> str:
        return super().__repr__().replace("<Value of Delay", "<Value of Feedback", 1)

    def connect(self, value: Value) -> None:
        """Say which value it repeats.

        Raises
        ------
        ShapeError, ValueError, TypeError
            If the frames or the axes of time differ, or it is connected already.
        """
        if not isinstance(value, Value):
            raise TypeError(f"connect: got {brief(value)}, expected a value of a net")
        if self.reads:
            raise ValueError(
                f"connect: got {value!r}, but it repeats {self.reads[0]!r} already: make another"
            )
        if value.frame != self.frame:
            raise ShapeError(f"connect: got frames of shape {value.frame}, expected {self.frame}")
        if value.time != self.time:
            raise ValueError(
                f"connect: got a value of {value.time!r}, expected one of {self.time!r}, which the Feedback "
                f"has: make it with time={value.time!r}"
            )
        self.reads = (value, *self._initial)


def concat(values: Sequence[Value], dim: int = -1) -> Value:
    """Put the frames of values side by side, as ``torch.cat``; see `Concat`."""
    if isinstance(values, Value):
        raise TypeError(f"concat: got {values!r}, expected a list of values")
    found, most = list(values), _core.READS_MAX
    while len(found) > most:
        found = [applied(Concat(dim), found[:most]), *found[most:]]
    return applied(Concat(dim), found)


def minimum(a: Value, b: Value) -> Value:
    """The smaller number of two values; see `Minimum`."""
    return applied(Minimum(), (a, b))


def maximum(a: Value, b: Value) -> Value:
    """The larger number of two values; see `Maximum`."""
    return applied(Maximum(), (a, b))


def _constant(kind: str, number: Any) -> float:
    """Check the number beside a value in arithmetic."""
    if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
        raise TypeError(
            f"{kind}: got {brief(number)} beside a value, expected a value of the net or a number; an array "
            "is weights of a layer, such as Linear or BatchNorm1d"
        )
    return float(number)


def _operands(layer: Net, given: Sequence[Any]) -> Value:
    """Apply a layer to values and numbers."""
    kind = type(layer).__name__
    some = next((one for one in given if isinstance(one, Value)), None)
    if some is None:
        raise TypeError(f"{kind}: got {', '.join(map(brief, given))}, expected at least one value of a net")
    values = [
        one if isinstance(one, Value) else applied(Constant(_constant(kind, one)), (some,)) for one in given
    ]
    return applied(layer, values)


def eq(a: Any, b: Any) -> Value:
    """1 where two values, or a value and a number, are equal; ``==`` compares the values themselves."""
    return _operands(Equal(), (a, b))


def ne(a: Any, b: Any) -> Value:
    """1 where two values, or a value and a number, differ; ``!=`` compares the values themselves."""
    return _operands(NotEqual(), (a, b))


def lt(a: Any, b: Any) -> Value:
    """1 where ``a < b``, of two values or a value and a number."""
    return _operands(Less(), (a, b))


def le(a: Any, b: Any) -> Value:
    """1 where ``a <= b``, of two values or a value and a number."""
    return _operands(LessEqual(), (a, b))


def gt(a: Any, b: Any) -> Value:
    """1 where ``a > b``, of two values or a value and a number."""
    return _operands(Greater(), (a, b))


def ge(a: Any, b: Any) -> Value:
    """1 where ``a >= b``, of two values or a value and a number."""
    return _operands(GreaterEqual(), (a, b))


def where(condition: Value, x: Any, y: Any) -> Value:
    """Values or numbers ``x`` where the condition is not 0, ``y`` elsewhere; see `Where`."""
    return _operands(Where(), (condition, x, y))


def matmul(a: Value, b: Value) -> Value:
    """The product of two values as matrices, as ``torch.matmul``; frames of one axis are vectors."""
    for one in (a, b):
        if not isinstance(one, Value):
            raise TypeError(f"Matmul: got {brief(one)} beside a value, expected a value of the net")
    if len(b.frame) == 1:
        return matmul(a, b.unsqueeze(-1)).squeeze(-1)
    if len(a.frame) == 1 and len(b.frame) == 3:
        return matmul(a.unsqueeze(-2), b).squeeze(-2)
    return applied(Matmul(), (a, b))


def split(value: Value, split_size_or_sections: int | Sequence[int], dim: int = -1) -> tuple[Value, ...]:
    """Take frames apart along an axis, as ``torch.split``: into parts of a size, or of these sizes."""
    check_dim("split", check_int("split: dim", dim, -3, -1), len(value.frame))
    size, given = value.frame[dim], split_size_or_sections
    if isinstance(given, (tuple, list)):
        sizes = [check_size("split: split_size_or_sections", one) for one in given]
    else:
        each = check_size("split: split_size_or_sections", given)
        sizes = [min(each, size - start) for start in range(0, size, each)]
    if sum(sizes) != size:
        raise ShapeError(
            f"split: got sizes {sizes} for frames of shape {value.frame}, expected a sum of {size}"
        )
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(applied(Slice(start, one, dim), (value,)) for start, one in zip(starts, sizes, strict=True))


def stack(values: Sequence[Value], dim: int = -1) -> Value:
    """Put the frames of values side by side along a new axis, as ``torch.stack``."""
    return concat([value.unsqueeze(dim) for value in values], dim)


def _add(a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return applied(Add(), (a, b))
    value, number = (a, b) if isinstance(a, Value) else (b, a)
    return applied(Scale(1.0, _constant("Add", number)), (value,))


def _subtract(a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return applied(Subtract(), (a, b))
    if isinstance(a, Value):
        return applied(Scale(1.0, -_constant("Subtract", b)), (a,))
    return applied(Scale(-1.0, _constant("Subtract", a)), (b,))


def _multiply(a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return applied(Multiply(), (a, b))
    value, number = (a, b) if isinstance(a, Value) else (b, a)
    return applied(Scale(_constant("Multiply", number), 0.0), (value,))


def _divide(a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return applied(Divide(), (a, b))
    if isinstance(a, Value):
        number = _constant("Divide", b)
        if number == 0.0:
            raise ZeroDivisionError("Divide: got 0 below a value, expected another number")
        return applied(Scale(1.0 / number, 0.0), (a,))
    return _multiply(applied(Reciprocal(), (b,)), _constant("Divide", a))


def _power(a: Any, b: Any) -> Value:
    if isinstance(a, Value) and not isinstance(b, Value):
        return applied(Power(_constant("Power", b)), (a,))
    return _operands(Pow(), (a, b))


def _sliced(value: Value, place: Any) -> Value:
    """Do ``value[start:stop]`` along the first axis of a frame, ``value[..., start:stop]`` along the last."""
    given = place if isinstance(place, tuple) else (place,)
    dim = -1 if Ellipsis in given else -len(value.frame)
    chosen = [one for one in given if one is not Ellipsis]
    if len(chosen) != 1 or not isinstance(chosen[0], slice) or not value.frame:
        raise TypeError(f"slice: got [{place!r}], expected value[start:stop] or value[..., start:stop]")
    start, stop, step = chosen[0].indices(value.frame[dim])
    if step != 1 or stop <= start:
        asked: Any = chosen[0]
        shown = ":".join("" if one is None else str(one) for one in (asked.start, asked.stop, asked.step))
        raise ValueError(
            f"slice: got [{shown.removesuffix(':')}] of {value.frame[dim]} numbers, expected a step of 1 and "
            "at least one of them"
        )
    return applied(Slice(start, stop - start, dim), (value,))


operations |= {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": lambda value: applied(Neg(), (value,)),
    "absolute": lambda value: applied(Abs(), (value,)),
    "power": _power,
    "matmul": matmul,
    "lt": lt,
    "le": le,
    "gt": gt,
    "ge": ge,
    "slice": _sliced,
}
