"""Values of a Keras model: a value of tinyrnn, and how its axes lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyrnn.frames import Constant, Permute, Reshape, pad
from tinyrnn.importing import Unfit, delayed, fixed, weighted
from tinyrnn.keras.config import Entry
from tinyrnn.layers import Linear
from tinyrnn.ops import Slice, matmul
from tinyrnn.temporal import LastStep, Repeat, TimeUnfold
from tinyrnn.values import Rate, Value, applied
from tinyrnn.weights.spec import Array, shown


class Retry(Exception):
    """The walk learned something of an input, or that the net computes masks: begin again with it."""

    def __init__(self, what: str, *names: str) -> None:
        super().__init__(what)
        self.what, self.names = what, names


@dataclass(frozen=True)
class Seen:
    """A value of a Keras model.

    Attributes
    ----------
    value : Value
    shape : tuple of int
        The axes behind batch and time, as Keras has them: channels last.
    timed : bool
        True if Keras' axis 1 is time.
    steps : int, optional
        The size of that axis, if the file fixes it.
    first : bool
        True if the channels are the first axis of the value's frame.
    backwards : bool
        True if Keras has the steps from the last to the first.
    padding : (int, int)
        Steps of zeros around the sequence that Keras has and the value has not.
    masked : str
        The name of the layer that masks steps; "" if none does.
    lost : bool
        True if Keras has that mask no more: a layer that heeds masks would read all of the steps.
    """

    value: Value
    shape: tuple[int, ...]
    timed: bool = False
    steps: int | None = None
    first: bool = False
    backwards: bool = False
    padding: tuple[int, int] = (0, 0)
    masked: str = ""
    lost: bool = False

    @property
    def rank(self) -> int:
        """The axes that Keras counts, the batch included."""
        return 1 + self.timed + len(self.shape)

    def last(self) -> Value:
        """The value with channels last."""
        return transposed(self.value, False) if self.first else self.value

    def channels(self) -> Value:
        """The value with channels first."""
        return self.value if self.first or len(self.shape) < 2 else transposed(self.value, True)

    def mapped(self, function: Callable[..., Any]) -> Seen:
        """Each number for itself."""
        return replace(self.whole(), value=function(self.value))

    def whole(self) -> Seen:
        """Itself, if no padding waits for a window."""
        if self.padding != (0, 0):
            raise Unfit("reads steps of padding, which only a convolution or a pool over time does")
        return self

    def new(self, value: Value, shape: Sequence[int] | None = None, **changes: Any) -> Seen:
        """Another value on the same axes before the frame, channels last."""
        given = value.frame if shape is None else tuple(shape)
        return replace(self.whole(), value=value, shape=given, **{"first": False, **changes})

    def in_channels(self, value: Value, shape: tuple[int, ...]) -> Seen:
        """Another value with the channels first; ``shape`` has them last."""
        return replace(self.whole(), value=value, shape=shape, first=len(shape) > 1)

    def replaced_steps(self, value: Value, steps: int | None, shape: tuple[int, ...] | None = None) -> Seen:
        """Another value with so many steps: the padding is gone. With a shape the channels are first."""
        given = value.frame if shape is None else shape
        return replace(
            self, value=value, shape=given, steps=steps, first=shape is not None, padding=(0, 0), masked=""
        )

    def padded_by(
        self, value: Value, shape: tuple[int, ...], steps: int | None, padding: tuple[int, int]
    ) -> Seen:
        """A value with zeros around it, the channels first."""
        return replace(
            self, value=value, shape=shape, steps=steps, padding=padding, first=len(shape) > 1, masked=""
        )

    def alone(self, value: Value, shape: Sequence[int] | None = None) -> Seen:
        """A value that has no axis of time."""
        return Seen(value, value.frame if shape is None else tuple(shape))

    def framed(self) -> Seen:
        """The steps as the first axis of a frame; their number must be known."""
        self.whole()
        if not self.timed:
            return self
        if self.steps is None:
            raise Unfit(
                "puts the steps into a frame, but the file leaves their number open: "
                "load(path, shapes={input: (None, steps, ...)})"
            )
        if self.backwards:
            raise Unfit("puts the steps into a frame from the last to the first, expected their own order")
        return self.latest(self.steps, exact=True)

    def latest(self, steps: int, exact: bool = False) -> Seen:
        """The last so many steps as the first axis of a frame; NaN of other sequences if they are all."""
        row = self.last() if len(self.shape) == 1 else self.last().flatten()
        window = applied(LastStep(), (applied(TimeUnfold(steps), (row,)),))
        if exact:
            window = fixed(window, row, steps)
        return self.alone(reframed(window.transpose(-1, -2), (steps, *self.shape)))

    def flat(self) -> Seen:
        """All numbers of a row as one frame; the number of steps must be known."""
        x = self if len(self.shape) == 1 else self.new(self.last().flatten())
        x = x.framed()
        return x if len(x.shape) == 1 else Seen(x.value.flatten(), (math.prod(x.shape),))

    def cropped(self, first: int, last: int) -> Seen:
        """A sequence without some steps at its beginning and its end."""
        count = first + last + 1
        if count == 1:
            return self
        value = applied(TimeUnfold(count), (self.last(),))
        value = applied(Slice(last if self.backwards else first, 1, -1), (value,))
        steps = None if self.steps is None else self.steps - count + 1
        return self.replaced_steps(reframed(value, self.shape), steps)

    def in_steps(self, like: Value) -> Seen:
        """A frame whose first axis is the steps as a sequence: each step takes its row."""
        steps, *rest = self.shape
        zero = reframed(Repeat()(applied(Constant(0.0), (self.last(),)), like), (1,))
        chosen = delayed(pad(zero, (0, steps - 1)), steps, np.eye(steps))
        rows = reframed(self.last(), (steps, math.prod(rest)))
        row = matmul(reframed(chosen, (1, steps)), rows)
        return Seen(reframed(row, rest), tuple(rest), True, steps)


def transposed(value: Value, first: bool) -> Value:
    """Channels to the front of a frame, or back to its end."""
    order = {2: ((-1, -2),) * 2, 3: ((-2, -1, -3), (-1, -3, -2))}[len(value.frame)][first]
    layer = value.layer
    if isinstance(layer, Permute) and len(layer.dims) == len(order):
        back = {2: (-1, -2), 3: ((-1, -3, -2), (-2, -1, -3))[first]}[len(order)]
        if tuple(layer.dims) == back:
            return value.reads[0]
    return value.permute(*order)


def reframed(value: Value, frame: Sequence[int]) -> Value:
    """A value with frames of another shape."""
    wanted = tuple(frame)
    if value.frame == wanted:
        return value
    if len(wanted) > 3:
        raise Unfit(f"has frames of shape {wanted}, expected up to three axes beside batch and time")
    return applied(Reshape(wanted), (value,))


def same_time(values: Sequence[Seen]) -> None:
    """Check that values may meet, and learn that their inputs have the same steps."""
    timed = [one for one in values if one.timed]
    for one in values:
        one.whole()
    if len({one.backwards for one in timed}) > 1:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    times = {Rate.parse(one.value.time).time for one in timed if one.value.time is not None}
    if len(times) > 1:
        raise Retry("time", *sorted(times))


@dataclass
class Call:
    """One call of a layer: what it reads, its configuration and its weights.

    Attributes
    ----------
    entry : Entry
    given : list of Seen
        The values among the arguments, in order.
    args, kwargs
        The arguments as the file has them, values as `Seen`.
    builder : Builder
    path : str
        The layer's place among the weights.
    """

    entry: Entry
    given: list[Seen]
    args: list[Any]
    kwargs: dict[str, Any]
    builder: Any
    path: str
    cache: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return self.entry.get(key, default)

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A number of the configuration."""
        value = self.get(key, default)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**28:
            raise Unfit(f"{key} is {value!r}, expected an integer from {least} on")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        found = self.numbers(key, default)
        if found.size != 1:
            raise Unfit(f"{key} has {found.size} numbers, expected one")
        return float(found.reshape(()))

    def numbers(self, key: str, default: float | None = None) -> Array:
        """A number of the configuration, or an array of them."""
        value = self.get(key, default)
        if isinstance(value, dict):  # as Keras 3 writes an array
            value = (value.get("config") or {}).get("value")
        try:
            found = np.asarray(value)
        except ValueError:
            found = np.asarray(None)
        if found.dtype.kind not in "iuf":
            raise Unfit(f"{key} is {shown(repr(value), 60)}, expected a number")
        return found.astype(np.float64)

    def refuse(self, key: str, *expected: Any) -> None:
        """Raise an error if an argument has another value than these, of which the first is the default."""
        value = self.get(key, expected[0])
        if value not in expected:
            raise Unfit(f"{key} is {value!r}, expected {' or '.join(map(repr, expected))}")

    @property
    def x(self) -> Seen:
        """The one value that it reads."""
        if len(self.given) != 1:
            raise Unfit(f"reads {len(self.given)} values, expected 1")
        return self.given[0].whole()

    @property
    def unmasked(self) -> Seen:
        """The one value that it reads, whose mask ends here."""
        found: Seen = self.builder.loses(self.x)
        return found

    def mask(self, x: Seen) -> Value | None:
        """The mask of a value that the layer reads: an input of the model, or one that the value has."""
        given = self.kwargs.get("mask")
        if not isinstance(given, Seen):
            found: Value | None = self.builder.mask(x)
            return found
        same_time([x, given])
        value: Value = self.builder.not_zero(given) if self.builder.is_index(given) else given.value
        if x.masked and self.builder.masks.get(x.masked) is not value:
            raise Unfit(f"reads a mask beside that of {shown(x.masked)}, expected one")
        return value

    @property
    def padded(self) -> Seen:
        """The one value that it reads, which may have steps of padding, and no mask behind it."""
        if len(self.given) != 1:
            raise Unfit(f"reads {len(self.given)} values, expected 1")
        self.builder.drops(self.given[0])
        return replace(self.given[0], masked="")

    def array(self, name: str, shape: Sequence[int | None] | None = None, place: str = "") -> Array:
        """A tensor of the layer, of a shape in which None stands for any size."""
        found: Array = self.builder.tensor(f"{self.path}{place}", name)
        if shape is not None:
            sizes = zip(found.shape, shape, strict=False)
            if len(found.shape) != len(shape) or any(b not in (None, a) for a, b in sizes):
                wanted = ", ".join("any" if size is None else str(size) for size in shape)
                raise Unfit(f"{name} has shape {found.shape}, expected ({wanted})")
        return found

    def made(self, key: str, make: Callable[[], Any]) -> Any:
        """A layer of tinyrnn, made at the first call: later ones share its weights."""
        layers = self.builder.layers
        key = f"{self.path}{key}"
        if key not in layers:
            layers[key] = make()
        return layers[key]

    def put(self, key: str, make: Callable[[], Any], *given: Any, **options: Any) -> Value:
        """The value of a layer with weights, under the layer's name."""
        value: Value = self.made(key, make)(*given, **options)
        self.builder.name(value, self.entry.name, key)
        return value

    def activated(self, x: Seen, key: str = "activation") -> Seen:
        """The activation of the layer."""
        found: Seen = self.builder.activated(x, self.get(key))
        return found

    def dense(self, x: Seen, kernel: Array, bias: Array | None, key: str = "") -> Seen:
        """A matrix (inputs, outputs), in any axes, times the numbers along the last axis."""
        matrix = kernel.reshape(x.shape[-1], -1)
        tensors = {"weight": matrix.T} if bias is None else {"weight": matrix.T, "bias": bias.reshape(-1)}
        layer = lambda: weighted(Linear(*matrix.shape, bias=bias is not None), **tensors)  # noqa: E731
        return x.new(self.put(key, layer, x.last()))


def place_of(call: Call, axis: Any, x: Seen) -> int:
    """An axis that Keras counts from the batch on: negative within the frame, or 0 for time.

    Raises
    ------
    Unfit
        If it is the batch, or none.
    """
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int) or isinstance(axis, bool) or not -x.rank <= axis < x.rank:
        raise Unfit(f"axis is {axis!r}, expected one of {x.rank} axes")
    place = axis % x.rank
    if place == 0:
        raise Unfit("axis 0 is the batch, whose rows a net keeps apart")
    if x.timed and place == 1:
        return 0
    return place - x.rank
