"""Layers over time: reductions to one frame, the final state, repetition, windows and convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import ArrayLike

from tinyrnn import _core, initial
from tinyrnn.arguments import check_bool, check_int, check_size
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _Layer, check_groups, convolution_of
from tinyrnn.net import Net
from tinyrnn.ops import _Joining
from tinyrnn.plans import Cores
from tinyrnn.state_dicts import inferred
from tinyrnn.tensors import Frame, Slot, in_planes
from tinyrnn.values import Value, wired

if TYPE_CHECKING:
    from typing_extensions import Self


# ---- from a sequence to one frame -------------------------------------------------------------------


class _OverTime(Net):
    """A reduction: one frame for a sequence, of the steps so far in a stream."""

    _kind: ClassVar[str]
    _counts: ClassVar[int] = 0  # numbers of state beside the frame's
    _recurrent = True
    _is_wired = True
    batch_first = None

    def __init__(self) -> None:
        self._by_frame: dict[Frame, _core.Layer] = {}  # the core layer knows the frame that it keeps

    def _rank(self, ndim: int) -> int | None:
        return None

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if frame not in self._by_frame:
            planes, rows, cols = in_planes(frame)
            self._by_frame[frame] = _core.Layer(self._kind, planes=planes, rows=rows, cols=cols)
        cores.append(self._by_frame[frame])
        return frame

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        offset, numbers = plan.state_of(first)
        size = numbers - self._counts
        slots = [Slot(f"{prefix}value", f"{self._kind} {size}", (1, plan.batch, size), ((offset, size),))]
        if self._counts:
            part = (offset + size, self._counts)
            slots.append(
                Slot(f"{prefix}count", f"{self._kind} {size}", (1, plan.batch, self._counts), (part,))
            )
        return slots

    def _state_names(self) -> tuple[str, ...]:
        return ("value", "count") if self._counts else ("value",)


class LastStep(_OverTime):
    """The last step of each row: ``y[-1]`` of ``(T, B, frame)``, or with lengths each row's own last one."""

    _kind = "last_step"


class SumOverTime(_OverTime):
    """The sum of the steps, ``y.sum(0)`` of ``(T, B, frame)``, within the lengths."""

    _kind = "sum_steps"


class MeanOverTime(_OverTime):
    """The mean of the steps, ``y.mean(0)`` of ``(T, B, frame)``, within the lengths."""

    _kind = "mean_steps"
    _counts = 2


class MaxOverTime(_OverTime):
    """The largest number of the steps, ``y.max(0).values`` of ``(T, B, frame)``, within the lengths.

    NaN if one is. Of equal numbers the first one has the gradient.
    """

    _kind = "max_steps"
    _counts = 1


class FinalState(Net):
    """The final state of a recurrent layer: ``h_n`` of its last level, both directions side by side.

    Called with the value that the layer writes, or placed behind it in a `Sequential`. With lengths it is
    the state of each row's own last step. Another recurrent layer may begin with it::

        h, c = tr.FinalState("h", num_layers=2)(read), tr.FinalState("c", num_layers=2)(read)
        written = tr.LSTM(16, 32, num_layers=2)(given, (h, c))

    Parameters
    ----------
    state : {"h", "c"}
        ``"c"``: an LSTM's ``c_n``.
    num_layers : int
        How many of the last levels, 1 .. 8, the lowest first: one frame of ``num_layers * directions * size``
        numbers.
    """

    arguments = ("state", "num_layers")
    _recurrent = True
    _is_wired = True
    batch_first = None

    def __init__(self, state: str = "h", num_layers: int = 1) -> None:
        if state not in ("h", "c"):
            raise ValueError(f"FinalState: state is {brief(state)}, expected 'h' or 'c'")
        self.state = state
        self.num_layers = check_int("FinalState: num_layers", num_layers, 1, 8)
        self._by_writer: dict[tuple[int, ...], _core.Layer] = {}
        self._side_by_side = _core.Layer("concat", axis=2)

    def __call__(self, x: Any, *others: Any, **options: Any) -> Any:
        """Return the value of the layer in a net that is being described."""
        if not isinstance(x, Value) or others or options or x.layer is None:
            raise TypeError(
                f"FinalState: got {brief(x)}, expected the value of a recurrent layer: a call of an "
                "LSTM or a GRU returns its final state beside its output"
            )
        times = list(dict.fromkeys(read.time for read in x.reads if read.time is not None))
        cores = Cores([(read.frame, 1 + times.index(read.time) if read.time else 0) for read in x.reads])
        frames = [read.frame for read in x.reads]
        ((number, frame),) = wired(x.layer, cores, frames, list(range(len(frames))))[:1]
        cores.value = number
        return Value(self._lay(frame, 1, cores), None, self, (x,))

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _core_count(self) -> int:
        return 1 if self.num_layers == 1 else self.num_layers + 1

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        levels = self._written(cores)
        assert isinstance(cores, Cores)
        size, finals = 0, []
        for value, writer in levels:
            core = self._core_for(writer)
            size += int(core.argument("directions")) * int(core.argument("size"))
            finals.append(cores.join(core, (value,)))
        if len(finals) > 1:
            cores.join(self._side_by_side, tuple(finals))
        return (size,)

    def _written(self, cores: list[_core.Layer]) -> list[tuple[int, _core.Layer]]:
        """The values of the levels that it reads and the core layers that write them, the lowest first."""
        found: list[tuple[int, _core.Layer]] = []
        value = cores.value if isinstance(cores, Cores) else -1
        while isinstance(cores, Cores) and len(found) < self.num_layers:
            place = value - len(cores.inputs)
            if place < 0 or "bidirectional" not in cores[place].arguments:
                break
            found.insert(0, (value, cores[place]))
            if cores[place].argument("level") == 0:
                break
            value = cores.reads[place][0]
        if not found:
            raise TypeError("FinalState: got another value, expected what a recurrent layer writes")
        if len(found) < self.num_layers:
            raise ValueError(
                f"FinalState: num_layers is {self.num_layers}, expected at most {len(found)}, the levels of "
                "the layer that it reads"
            )
        return found

    def _core_for(self, writer: _core.Layer) -> _core.Layer:
        """The core layer that reads the state of another one."""
        directions = 1 + int(writer.argument("bidirectional"))
        hidden = int(writer.argument("hidden_size"))
        size = int(writer.argument("proj_size")) or hidden
        alone = _core.Plan([writer], (int(writer.argument("input_size")),), 1, 1)
        numbers = alone.state_of(0)[1] // directions
        start = 0
        if self.state == "c":
            if numbers == size:
                raise ValueError(
                    f"FinalState: got state='c' of a layer of type {writer.kind}, expected an LSTM"
                )
            start, size = size, hidden
        key = (directions, numbers, start, size)
        if key not in self._by_writer:
            self._by_writer[key] = _core.Layer(
                "final_state", directions=directions, numbers=numbers, start=start, size=size
            )
        return self._by_writer[key]


# ---- from one frame to a sequence -------------------------------------------------------------------


class Repeat(_Joining):
    """A value per sequence at each step of another value: ``Repeat()(v, x)`` has the steps of ``x``.

    Zeros beyond a row's end. Keras' RepeatVector, where the second value gives the number of steps.
    """

    def __init__(self) -> None:
        self._core_layer = _core.Layer("repeat")

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        return self._core_layer, frames[0]


# ---- windows ---------------------------------------------------------------------------------------------


def _padding(kind: str, padding: Any, kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    """The steps of padding before and after a sequence."""
    reach = (kernel_size - 1) * dilation
    if padding == "causal":
        return reach, 0
    if padding == "valid":
        return 0, 0
    if padding == "same":
        if stride != 1:
            raise ValueError(f"{kind}: stride is {stride}, expected 1 for padding='same'")
        return reach // 2, reach - reach // 2
    if isinstance(padding, str):
        raise ValueError(
            f"{kind}: padding is {padding!r}, expected 'causal', 'same', 'valid', a number or a pair of them"
        )
    pair = tuple(padding) if isinstance(padding, (tuple, list)) else (padding, padding)
    if len(pair) != 2:
        raise ValueError(f"{kind}: padding is {brief(padding)}, expected a number or a pair of them")
    left, right = (check_size(f"{kind}: padding", one, 0) for one in pair)
    if max(left, right) > reach:
        raise ValueError(
            f"{kind}: padding is {brief(padding)}, expected at most {reach}, "
            "the steps of a window before its last one"
        )
    return left, right


def _unfolded(
    kernel_size: int, stride: int, dilation: int, pad: tuple[int, int], frame: Frame
) -> _core.Layer:
    """The core layer for windows of steps of such frames."""
    _, rows, cols = in_planes(frame)
    return _core.Layer(
        "unfold_steps",
        rows=rows,
        cols=cols,
        kernel_size=kernel_size,
        stride=stride,
        dilation=dilation,
        pad_left=pad[0],
        pad_right=pad[1],
    )


def _unfold_slots(plan: _core.Plan, first: int, prefix: str, numbers: int) -> list[Slot]:
    """The state of windows: a count of steps, and the frames, of so many numbers, that later ones see."""
    offset, size = plan.state_of(first)
    kind, count = f"unfold {numbers}", (size - 1) // max(1, numbers)
    slots = [Slot(f"{prefix}count", kind, (1, plan.batch, 1), ((offset, 1),))]
    if count:
        parts = tuple((offset + 1 + numbers * i, numbers) for i in range(count))
        slots.append(Slot(f"{prefix}past", kind, (count, plan.batch, numbers), parts))
    return slots


class TimeUnfold(Net):
    """Windows of steps: ``kernel_size`` of them side by side, one window every ``stride`` steps.

    As ``torch.Tensor.unfold`` along the axis of time: of frames ``(…)`` it makes frames ``(…, kernel_size)``.
    So layers of frames look at several steps: `Linear` behind `Flatten`, `Conv2d`, a pool.

    A window is due with its last step. A sequence of T steps has
    ``(T + left + right - (kernel_size - 1) * dilation - 1) // stride + 1`` windows, as many as
    ``torch.nn.Conv1d`` writes. In a stream the windows that reach beyond the end come with ``end=True``.

    Parameters
    ----------
    kernel_size, stride : int
    padding : int, (int, int) or {"causal", "same", "valid"}
        Steps of zeros before and after a sequence; ``"causal"``: as many before as a window sees before its
        last step.
    dilation : int
        Steps from one to the next within a window.
    """

    arguments = ("kernel_size", "stride", "padding", "dilation")
    _recurrent = True
    batch_first = None

    def __init__(self, kernel_size: int, stride: int = 1, padding: Any = 0, dilation: int = 1) -> None:
        self.kernel_size = check_size("TimeUnfold: kernel_size", kernel_size)
        self.stride = check_size("TimeUnfold: stride", stride)
        self.dilation = check_size("TimeUnfold: dilation", dilation)
        self._pad = _padding("TimeUnfold", padding, self.kernel_size, self.stride, self.dilation)
        self.padding = list(padding) if isinstance(padding, tuple) else padding
        self._by_frame: dict[Frame, _core.Layer] = {}  # the core layer knows the frame that it keeps

    def _rank(self, ndim: int) -> int | None:
        return 1 if ndim <= 3 else 2  # (T, frame) of two axes looks like (T, B, frame) of one

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if not 1 <= len(frame) <= 2:
            raise ShapeError(f"TimeUnfold: got frames of shape {frame}, expected one or two axes")
        if frame not in self._by_frame:
            self._by_frame[frame] = _unfolded(self.kernel_size, self.stride, self.dilation, self._pad, frame)
        cores.append(self._by_frame[frame])
        return (*frame, self.kernel_size)

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        steps = (self.kernel_size - 1) * self.dilation
        return _unfold_slots(plan, first, prefix, (plan.state_of(first)[1] - 1) // max(1, steps))

    def _state_names(self) -> tuple[str, ...]:
        return ("count", "past") if (self.kernel_size - 1) * self.dilation else ("count",)


# ---- convolution ---------------------------------------------------------------------------------------


class TimeConv1d(_Layer):
    """One-dimensional convolution over time, which streams.

    What ``torch.nn.Conv1d`` computes of a sequence; its weights are that layer's. As a default it is causal:
    ``(kernel_size - 1) * dilation`` zeros come before the sequence, so that a step sees itself and steps
    before it. With a ``stride`` or another ``padding`` its output has a rate of its own, as that of
    `TimeUnfold`. The frames that later steps see are state. `Conv1d` convolves within a frame of
    ``(channels, length)`` instead.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, dilation, groups : int
    bias : bool
    stride : int
    padding : int, (int, int) or {"causal", "same", "valid"}
        Steps of zeros before and after a sequence.
    """

    arguments = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "dilation",
        "groups",
        "bias",
        "stride",
        "padding",
    )
    _recurrent = True
    batch_first = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        stride: int = 1,
        padding: Any = "causal",
    ) -> None:
        self.in_channels = check_size("TimeConv1d: in_channels", in_channels)
        self.out_channels = check_size("TimeConv1d: out_channels", out_channels)
        self.kernel_size = check_size("TimeConv1d: kernel_size", kernel_size)
        self.dilation = check_size("TimeConv1d: dilation", dilation)
        self.groups = check_size("TimeConv1d: groups", groups)
        self._with_bias = check_bool("TimeConv1d: bias", bias)
        check_groups("TimeConv1d", in_channels, out_channels, self.groups)
        self.stride = check_size("TimeConv1d: stride", stride)
        pad = _padding("TimeConv1d", padding, self.kernel_size, self.stride, self.dilation)
        self.padding = list(padding) if isinstance(padding, tuple) else padding
        self._around: list[_core.Layer] = []  # the core layers before and after the convolution's
        if self.stride > 1 or pad != ((self.kernel_size - 1) * self.dilation, 0):
            windows = _unfolded(self.kernel_size, self.stride, self.dilation, pad, (self.in_channels,))
            self._around = [windows, _core.Layer("flatten")]
        self._core_layer = _core.Layer(
            "conv1d" if self._around else "conv_steps",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=1,
            dilation=1 if self._around else self.dilation,
            groups=self.groups,
            bias=self._with_bias,
        )
        fan_in = self.in_channels // self.groups * self.kernel_size
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(fan_in))

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_channels,)

    def _out(self, frame: Frame) -> Frame:
        if frame != (self.in_channels,):
            raise self._wants(frame, f"({self.in_channels},) = (in_channels,)")
        return (self.out_channels,)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        out = self._out(frame)
        cores += self._cores()
        return out

    def _cores(self) -> list[_core.Layer]:
        if not self._around:
            return [self._core_layer]
        return [self._around[0], self._core_layer, self._around[1]]

    def _core_count(self) -> int:
        return len(self._cores())

    def _place(self, level: int) -> str:
        return ("windows", "", "flatten")[level] if self._around else ""

    def _reformat(self, formats: list[str]) -> None:
        super()._reformat(formats[1:2] if self._around else formats)

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        if self._around:
            return _unfold_slots(plan, first, prefix, self.in_channels)
        offset, numbers = plan.state_of(first)
        size, count = self.in_channels, numbers // self.in_channels
        if not count:
            return []
        parts = tuple((offset + size * i, size) for i in range(count))
        return [Slot(f"{prefix}past", f"conv {self.in_channels}", (count, plan.batch, size), parts)]

    def _state_names(self) -> tuple[str, ...]:
        past = ("past",) if self.kernel_size > 1 else ()
        return ("count", *past) if self._around else past

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        ``options`` are what tensors cannot tell: ``dilation``, ``groups``, ``stride``, ``padding``.
        """
        given, shape = convolution_of(
            "TimeConv1d", state_dict, prefix, "out_channels, in_channels / groups, kernel_size"
        )
        in_channels = shape[1] * int(options.get("groups", 1))
        return inferred(cls, given, in_channels, shape[0], shape[2], bias="bias" in given, **options)
