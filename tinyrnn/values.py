"""Values: what stands for the frames that a layer will write, while a net is described."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyrnn import _core
from tinyrnn.arguments import check_int, check_size
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.names import find
from tinyrnn.plans import Cores
from tinyrnn.tensors import Frame

if TYPE_CHECKING:
    from typing_extensions import Self

# The axis of time of an input that names none.
TIME = "time"


class _Operations(dict[str, "Callable[..., Value]"]):
    """The layers behind operators, by name. `ops.py` and what it imports fill it, on the first use."""

    def __missing__(self, name: str) -> Callable[..., Value]:
        find("Add")
        if name not in self:
            raise KeyError(name)
        return self[name]


operations = _Operations()

_serials = count()


class Spread:
    """A net of several outputs whose layers become layers of another: the name that they have in common."""

    __slots__ = ("label",)

    def __init__(self) -> None:
        self.label: str | None = None


class Value:
    """A value of a net that is being described: an `Input`, or what a layer will write.

    A layer that is called with values makes a value; so do ``+ - * / ** @ < <= > >=`` of two of them or of
    one and a number, a slice, and the methods. They count the axes of a frame from the end: -1 is the last.
    `Net` makes a net of inputs and outputs.

    Attributes
    ----------
    frame : tuple of int
        The shape of one row at one step.
    time : str, optional
        The name of its axis of time; None for a value per sequence.
    """

    __slots__ = ("frame", "label", "layer", "reads", "serial", "spread", "time")
    __array_ufunc__ = None  # so that NumPy leaves operators to this class
    __iter__ = None

    def __init__(
        self, frame: Frame, time: str | None, layer: Any = None, reads: tuple[Value, ...] = ()
    ) -> None:
        self.frame, self.time, self.layer, self.reads = frame, time, layer, reads
        self.label: str | None = None
        self.spread: Spread | None = None  # its layer is one of that net's; `label` is its name there
        self.serial = next(_serials)

    def named(self, name: str) -> Self:
        """Name the layer that writes the value, or the input, and return the value.

        The tensors of the layer go by this name in `Net.state_dict`: ``"encoder"``, ``"decoder.rnn"``. Any
        output of a net of several names that net.
        """
        if not isinstance(name, str) or not name or name != name.strip("."):
            raise ValueError(f"named: got {brief(name)}, expected a non-empty string such as 'encoder'")
        (self.spread or self).label = name
        return self

    def __repr__(self) -> str:
        kind = "Input" if self.layer is None else type(self.layer).__name__
        time = "one for a sequence" if self.time is None else f"each step of {self.time!r}"
        return f"<Value of {self.label or kind}: {self.frame}, {time}>"

    def __add__(self, other: Any) -> Value:
        return operations["add"](self, other)

    def __radd__(self, other: Any) -> Value:
        return operations["add"](other, self)

    def __sub__(self, other: Any) -> Value:
        return operations["subtract"](self, other)

    def __rsub__(self, other: Any) -> Value:
        return operations["subtract"](other, self)

    def __mul__(self, other: Any) -> Value:
        return operations["multiply"](self, other)

    def __rmul__(self, other: Any) -> Value:
        return operations["multiply"](other, self)

    def __truediv__(self, other: Any) -> Value:
        return operations["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return operations["divide"](other, self)

    def __neg__(self) -> Value:
        return operations["negative"](self)

    def __abs__(self) -> Value:
        return operations["absolute"](self)

    def __pow__(self, exponent: Any) -> Value:
        return operations["power"](self, exponent)

    def __rpow__(self, base: Any) -> Value:
        return operations["power"](base, self)

    def __matmul__(self, other: Any) -> Value:
        return operations["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Value:
        return operations["matmul"](other, self)

    def __lt__(self, other: Any) -> Value:
        return operations["lt"](self, other)

    def __le__(self, other: Any) -> Value:
        return operations["le"](self, other)

    def __gt__(self, other: Any) -> Value:
        return operations["gt"](self, other)

    def __ge__(self, other: Any) -> Value:
        return operations["ge"](self, other)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} is neither true nor false before the net runs: use tr.where")

    def reshape(self, *shape: Any) -> Value:
        """Give the frames another shape; one size may be -1. See `Reshape`."""
        return operations["reshape"](self, shape)

    def flatten(self) -> Value:
        """Give the frames one axis."""
        return operations["reshape"](self, (-1,))

    def unsqueeze(self, dim: int) -> Value:
        """Add an axis of size 1, which is ``dim`` of the new frames."""
        return operations["unsqueeze"](self, dim)

    def squeeze(self, dim: int) -> Value:
        """Take away an axis if its size is 1."""
        return operations["squeeze"](self, dim)

    def permute(self, *dims: Any) -> Value:
        """Put the last axes in another order; see `Permute`."""
        return operations["permute"](self, dims)

    def transpose(self, dim0: int, dim1: int) -> Value:
        """Exchange two axes."""
        return operations["transpose"](self, dim0, dim1)

    def sum(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The sum over axes; see `Sum`."""
        return operations["sum"](self, dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The mean over axes; see `Mean`."""
        return operations["mean"](self, dim, keepdim)

    def amax(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The largest number over axes; see `Amax`."""
        return operations["amax"](self, dim, keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The smallest number over axes; see `Amin`."""
        return operations["amin"](self, dim, keepdim)

    def prod(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The product over axes; see `Prod`."""
        return operations["prod"](self, dim, keepdim)

    def norm(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The root of the sum of squares; see `VectorNorm`."""
        return operations["norm"](self, dim, keepdim)

    def logsumexp(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The logarithm of the sum of exponentials; see `LogSumExp`."""
        return operations["logsumexp"](self, dim, keepdim)

    def var(self, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Value:
        """The variance over axes; see `Var`."""
        return operations["var"](self, dim, correction, keepdim)

    def std(self, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Value:
        """The standard deviation over axes; see `Std`."""
        return operations["std"](self, dim, correction, keepdim)

    def __getitem__(self, place: Any) -> Value:
        return operations["slice"](self, place)


class Input(Value):
    """An input of a net.

    Parameters
    ----------
    *frame : int
        The shape of one row at one step: ``Input(40)``, ``Input(2, 161)`` for channels and their length,
        ``Input()`` for one index of an embedding.
    time : str, optional
        The name of its axis of time. Inputs of the same name have as many steps. None: the input is one
        frame for the whole sequence.
    name : str, optional
        The name by which a call takes it; ``"x"`` by default.
    steps : int, optional
        The steps of its axis of time, if a call may leave it out: it is zeros then. A `Repeat` takes that
        axis, as a decoder of so many steps does. Such inputs come last.

    Raises
    ------
    ValueError, TypeError
        If a size is no positive integer.
    """

    __slots__ = ("steps",)

    def __init__(
        self, *frame: int, time: str | None = TIME, name: str | None = None, steps: int | None = None
    ) -> None:
        if len(frame) > 3:
            raise ShapeError(f"Input: got a frame of {len(frame)} axes, expected at most 3")
        if time is not None and (not isinstance(time, str) or not time):
            raise TypeError(f"Input: time is {brief(time)}, expected the name of an axis, or None")
        super().__init__(tuple(check_size("Input: frame", size) for size in frame), time)
        self.steps = None if steps is None else check_int("Input: steps", steps, 1, 1 << 20)
        if steps is not None and time is None:
            raise ValueError(f"Input: steps is {steps} without an axis of time, expected time= a name")
        if name is not None:
            self.named(name)


def applied(layer: Any, given: Sequence[Any]) -> Value:
    """The value that a layer writes when it reads these.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If it cannot read them.
    """
    kind = type(layer).__name__
    for one in given:
        if not isinstance(one, Value):
            raise TypeError(f"{kind}: got {brief(one)} beside a value of a net, expected values only")
    times = list(dict.fromkeys(value.time for value in given if value.time is not None))
    cores = Cores(
        [(value.frame, 0 if value.time is None else 1 + times.index(value.time)) for value in given]
    )
    written = wired(layer, cores, [value.frame for value in given], list(range(len(given))))
    ((number, frame),) = written
    cores.outputs = (number,)
    try:
        plan = _core.Plan(cores, (), 1, (1,) * max(1, len(times)))
    except ValueError as error:
        apart = 1 if layer._is_apart else 0
        level = [*given[:apart], *_aligned(kind, given[apart:])] if len(times) > 1 else given
        if list(level) != list(given):
            return applied(layer, level)
        text = str(error).removeprefix("plan: ")
        if "axis of time" not in text:
            raise type(error)(f"{kind}: {text}: it reads {list(given)}") from None
        meet = "values of one axis of time, or per sequence, as tr.LastStep() makes them"
        wanted = (layer._meet or meet) if times else "a value per step, as tr.Repeat() makes it"
        raise ValueError(f"{kind}: {text}: got {list(given)}, expected {wanted}") from None
    return Value(frame, time_of(plan, plan.outputs[0][1], times or [TIME]), layer, tuple(given))


def masking(kind: str, mask: Any) -> tuple[Value, ...]:
    """The mask that a layer is called with, as the values that it reads; none without one.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If it is no value of one number for each step.
    """
    if mask is None:
        return ()
    if not isinstance(mask, Value):
        raise TypeError(
            f"{kind}: mask is {brief(mask)}, expected a value of a net, such as a tr.Masking of its input"
        )
    if math.prod(mask.frame) != 1:
        raise ShapeError(f"{kind}: mask has frames of shape {mask.frame}, expected (1,), a number for a step")
    if mask.time is None:
        raise ValueError(f"{kind}: mask is {mask!r}, expected a value per step")
    return (mask,)


def check_unmasked(kind: str, mask: Any) -> None:
    """Raise TypeError for a mask beside an array, which only a net of values reads."""
    if mask is not None:
        raise TypeError(f"{kind}: got a mask beside an array, expected values: tr.Net([x, mask], y)")


class Rate(NamedTuple):
    """A rate: frame ``n`` is due with step ``first + n * stride`` of an axis of time of the inputs.

    ``after`` steps of padding follow a sequence. An axis has its rate in its name: ``"time[2n+1]"`` has a
    frame with every second step of ``"time"``, at first with its second one; ``"time[2n+1|1]"`` is padded
    with one step at the end.
    """

    time: str
    first: int = 0
    stride: int = 1
    after: int = 0

    @classmethod
    def parse(cls, time: str) -> Rate:
        """Read the rate of an axis from its name; ``name`` writes it."""
        found = re.fullmatch(r"(.+)\[(\d*)n(?:\+(\d+))?(?:\|(\d+))?\]", time)
        if found is None:
            return cls(time)
        return cls(found[1], int(found[3] or 0), int(found[2] or 1), int(found[4] or 0))

    @property
    def name(self) -> str:
        step = "n" if self.stride == 1 else f"{self.stride}n"
        first, after = f"+{self.first}" * (self.first > 0), f"|{self.after}" * (self.after > 0)
        return f"{self.time}[{step}{first}{after}]"

    def over(self, time: str) -> Rate:
        """The rate against the inputs, where the axis that it follows is ``time``, which may have a rate."""
        base = Rate.parse(time)
        first, after = base.first + self.first * base.stride, base.after + self.after * base.stride
        return Rate(base.time, first, self.stride * base.stride, after)

    def frames(self, steps: int) -> int:
        """The number of frames of a sequence of so many steps."""
        return max(0, (steps + self.after - self.first - 1) // self.stride + 1)

    def __str__(self) -> str:
        steps = f"{self.stride} steps" if self.stride > 1 else "step"
        late = f"{self.first} step{'s' * (self.first > 1)} after" if self.first else "with"
        whom = "the first of them" if self.stride > 1 else "it"
        return f"a frame for every {steps} of {self.time!r}, {late} {whom}"


def time_of(plan: _core.Plan, axis: int, times: list[str]) -> str | None:
    """The name of an axis of time, given those of the inputs; None for axis 0."""
    rate = plan.rate_of(axis)
    if rate is None:
        return times[axis - 1] if axis else None
    of, first, stride, after = rate
    return Rate(times[of - 1], first, stride, after).over(times[of - 1]).name


def _aligned(kind: str, given: Sequence[Value]) -> Sequence[Value]:
    """Values of one rate and length that are due at different steps, all as late as the latest.

    Raises
    ------
    ValueError
        If they differ in rate or length.
    """
    rates = {value.time: Rate.parse(value.time) for value in given if value.time is not None}
    if len({rate.time for rate in rates.values()}) > 1:
        return given
    latest = max(rates, key=lambda time: (rates[time].first, time != rates[time].time))
    goal = rates[latest]
    level = []
    for value in given:
        rate = goal if value.time is None else rates[value.time]
        late = goal.first - rate.first
        problem = ""
        if rate.stride != goal.stride:
            problem = "one rate: let a TimeAvgPool1d or a stride make the faster one slower"
        elif goal.after - rate.after != late:
            problem = "as many frames of both: give the layers padding, such as 'same' or 'causal'"
        elif late % goal.stride:
            problem = "frames that are due at the same steps: give one of the layers another padding"
        if problem:
            other = next(one for one in given if one.time == latest)
            raise ValueError(f"{kind}: got {value!r}, {rate}, and {other!r}, {goal}, expected {problem}")
        own = value.time in (None, latest)
        level.append(value if own else operations["align"](value, late // goal.stride))
    return level


def wired(layer: Any, cores: Cores, frames: list[Frame], values: list[int]) -> list[tuple[int, Frame]]:
    """Append a layer's core layers, and return the numbers and frames of the values that it writes.

    A layer that counts axes from the outside sees (T, frame), or else (T, B, frame).
    """
    mark = len(cores)
    problem: ShapeError | None = None
    for lead in (1, 2):
        try:
            written: list[tuple[int, Frame]] = layer._wire(cores, frames, values, lead)
            return written
        except ShapeError as error:
            problem = problem or error
            cores.forget(mark)
    assert problem is not None
    raise problem


def reached(values: Iterable[Value]) -> dict[int, Value]:
    """All values that these depend on, by id."""
    found: dict[int, Value] = {}
    left = list(values)
    while left:
        value = left.pop()
        if id(value) not in found:
            found[id(value)] = value
            left.extend(value.reads)
    return found


def read_by(values: Iterable[Value]) -> set[int]:
    """The ids of all values that these depend on."""
    return set(reached(values))
