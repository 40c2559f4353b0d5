"""Layers over time: reductions to one frame, the final state, repetition, windows, pools and convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import ArrayLike

from tinyrnn import _core, initial
from tinyrnn.arguments import check_bool, check_float, check_int, check_size
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _Layer, check_groups, convolution_of
from tinyrnn.net import Net
from tinyrnn.ops import _Joining
from tinyrnn.plans import Cores
from tinyrnn.state_dicts import inferred
from tinyrnn.tensors import Frame, Slot, in_planes
from tinyrnn.values import Value, applied, check_unmasked, masking, operations, wired

if TYPE_CHECKING:
    from typing_extensions import Self


# ---- from a sequence to one frame -------------------------------------------------------------------


class _OverTime(Net):
    """A reduction: one frame for a sequence, of the steps so far in a stream."""

    _kind: ClassVar[str]
    _counts: ClassVar[int] = 0  # numbers of state beside the frame's
    _recurrent = True
    _masks = True
    _is_wired = True
    batch_first = None

    def __init__(self) -> None:
        self._by_frame: dict[Frame, _core.Layer] = {}  # the core layer knows the frame that it keeps

    def __call__(self, x: Any, *given: Any, mask: Any = None, **options: Any) -> Any:
        """Run the layer, as `Net.__call__`, or return its value in a net that is being described.

        Parameters
        ----------
        x : array_like or Value
        mask : Value, optional
            A number for each step of a value ``x``: only those count where it is not 0. The result is 0
            where none does.
        """
        kind = type(self).__name__
        if isinstance(x, Value) and not given and not options:
            return applied(self, (x, *masking(kind, mask)))
        check_unmasked(kind, mask)
        return super().__call__(x, *given, **options)

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
    the state of each row's own last step, and where the layer reads a mask, of the last one that counts.
    Another recurrent layer may begin with it::

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


# ---- masks -------------------------------------------------------------------------------------------------


class Masking(Net):
    """1 where any number of a frame differs from ``mask_value``, else 0: a mask, as Keras' Masking finds it.

    ::

        x = tr.Input(40)
        mask = tr.Masking(0.0)(x)
        y = tr.MeanOverTime()(tr.GRU(40, 64)(x, mask=mask), mask=mask)

    The layers that read the mask leave out the steps where it is 0. It has no gradient. A NaN differs from
    every number.

    Parameters
    ----------
    mask_value : float
        Compared in float32.
    """

    arguments = ("mask_value",)
    _is_wired = True

    def __init__(self, mask_value: float = 0.0) -> None:
        self.mask_value = check_float("Masking: mask_value", mask_value)
        self._differs = [_core.Layer("constant", number=self.mask_value), _core.Layer("ne")]
        self._any = _core.Layer("amax", planes=1, rows=1, cols=1)

    def _rank(self, ndim: int) -> int | None:
        return None

    def _core_count(self) -> int:
        return 3

    def _place(self, level: int) -> str:
        return ("value", "differs", "")[level]

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        assert isinstance(cores, Cores)
        constant, differs = self._differs
        x = cores.value
        cores.join(differs, (x, cores.join(constant, (x,))))
        cores.append(self._any)
        return (1,)


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
    kernel_size: int,
    stride: int,
    dilation: int,
    pad: tuple[int, int],
    frame: Frame,
    lowest: bool = False,
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
        lowest=lowest,
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


class _Windows(Net):
    """Windows of steps, and what is made of them."""

    _recurrent = True
    batch_first = None
    _lowest: ClassVar[bool] = False  # the padding is -inf instead of 0
    kernel_size: int
    stride: int
    padding: Any
    dilation: int
    _pad: tuple[int, int]
    _by_frame: dict[Frame, list[_core.Layer]]  # the core layer of windows knows the frame that it keeps

    def _take(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> None:
        """Check and keep the arguments."""
        kind = type(self).__name__
        self.kernel_size = check_size(f"{kind}: kernel_size", kernel_size)
        self.stride = check_size(f"{kind}: stride", stride)
        self.dilation = check_size(f"{kind}: dilation", dilation)
        self._pad = _padding(kind, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = list(padding) if isinstance(padding, tuple) else padding
        self._by_frame = {}

    def _rank(self, ndim: int) -> int | None:
        return 1 if ndim <= 3 else 2  # (T, frame) of two axes looks like (T, B, frame) of one

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if not 1 <= len(frame) <= 2:
            raise ShapeError(f"{type(self).__name__}: got frames of shape {frame}, expected one or two axes")
        if frame not in self._by_frame:
            self._by_frame[frame] = [self._windows(frame), *self._behind(frame)]
        self._append(cores, self._by_frame[frame])
        return self._out(frame)

    def _append(self, cores: list[_core.Layer], made: list[_core.Layer]) -> None:
        cores += made

    def _windows(self, frame: Frame) -> _core.Layer:
        return _unfolded(self.kernel_size, self.stride, self.dilation, self._pad, frame, self._lowest)

    def _behind(self, frame: Frame) -> list[_core.Layer]:
        """The core layers that read the windows."""
        return []

    def _out(self, frame: Frame) -> Frame:
        return frame

    def _reach(self) -> int:
        """The steps of a window before its last one."""
        return (self.kernel_size - 1) * self.dilation

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        numbers = (plan.state_of(first)[1] - 1) // max(1, self._reach())
        return _unfold_slots(plan, first, prefix, numbers)

    def _state_names(self) -> tuple[str, ...]:
        return ("count", "past") if self._reach() else ("count",)


class TimeUnfold(_Windows):
    """Windows of steps: ``kernel_size`` of them side by side, one window every ``stride`` steps.

    As ``torch.Tensor.unfold`` along the axis of time: of frames ``(…)`` it makes frames ``(…, kernel_size)``.
    So layers of frames look at several steps: `Linear` behind `Flatten`, `Conv2d`, a reduction.

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

    def __init__(self, kernel_size: int, stride: int = 1, padding: Any = 0, dilation: int = 1) -> None:
        self._take(kernel_size, stride, padding, dilation)

    def _out(self, frame: Frame) -> Frame:
        return (*frame, self.kernel_size)


class _TimePool(_Windows):
    """Windows of steps, each reduced to one step."""

    ceil_mode: bool

    def _take_pool(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> None:
        """Check and keep the arguments; with ``ceil_mode`` windows reach further beyond the end."""
        kind = type(self).__name__
        self.ceil_mode = check_bool(f"{kind}: ceil_mode", ceil_mode)
        self._take(kernel_size, kernel_size if stride is None else stride, padding, dilation)
        if self.ceil_mode:
            left, right = self._pad
            self._pad = left, min(right + self.stride - 1, self._reach())


class TimeMaxPool1d(_TimePool):
    """The largest of each window of steps, number by number: ``torch.nn.MaxPool1d`` over time, which streams.

    Its output has a rate of its own, as that of `TimeUnfold`. `MaxPool1d` pools within a frame of
    ``(channels, length)`` instead. NaN if a number is. Of equal numbers the first one has the gradient.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
        By default kernel_size.
    padding : int, (int, int) or {"causal", "same", "valid"}
        Steps before and after a sequence, of minus infinity.
    dilation : int
    ceil_mode : bool
        Whether a window may end beyond the sequence and its padding, if it begins in the sequence.
    """

    arguments = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    _lowest = True

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        self._take_pool(kernel_size, stride, padding, dilation, ceil_mode)

    def _core_count(self) -> int:
        return 3

    def _place(self, level: int) -> str:
        return ("windows", "", "reshape")[level]

    def _behind(self, frame: Frame) -> list[_core.Layer]:
        planes, rows, cols = in_planes(frame)
        return [
            _core.Layer("adaptive_max_pool", rows=0, cols=1),
            _core.Layer("reshape", planes=planes, rows=rows, cols=cols),
        ]


class TimeAvgPool1d(_TimePool):
    """The mean of each window of steps, number by number: ``torch.nn.AvgPool1d`` over time, which streams.

    Its output has a rate of its own, as that of `TimeUnfold`. `AvgPool1d` pools within a frame of
    ``(channels, length)`` instead.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
        By default kernel_size.
    padding : int, (int, int) or {"causal", "same", "valid"}
        Steps of zeros before and after a sequence.
    ceil_mode : bool
        Whether a window may end beyond the sequence, if it begins in the sequence. What is beyond does not
        count.
    count_include_pad : bool
        Whether the steps of the padding count.

    Raises
    ------
    ValueError
        If ``ceil_mode`` meets a padding that counts.
    """

    arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.count_include_pad = check_bool("TimeAvgPool1d: count_include_pad", count_include_pad)
        self._take_pool(kernel_size, stride, padding, 1, ceil_mode)
        known = _padding("TimeAvgPool1d", padding, self.kernel_size, self.stride, 1)
        if self.ceil_mode and self.count_include_pad and any(known):
            raise ValueError(
                f"TimeAvgPool1d: padding is {brief(padding)} with ceil_mode, expected 0, "
                "or count_include_pad=False"
            )
        self._is_wired = any(self._pad) and not (self.count_include_pad and any(known))

    def _core_count(self) -> int:
        return 7 if self._is_wired else 2

    def _place(self, level: int) -> str:
        names = ("windows", "sum", "one", "real.windows", "real.sum", "real.clip", "")
        return names[level] if self._is_wired else ("windows", "")[level]

    def _behind(self, frame: Frame) -> list[_core.Layer]:
        if not self._is_wired:
            return [_over_windows("mean")]
        one = _core.Layer("constant", number=1.0)
        windows = _unfolded(self.kernel_size, self.stride, 1, self._pad, (1,))
        clip = _core.Layer("clip", min=1.0, max=float(self.kernel_size))  # 0 beyond the end of a row
        return [_over_windows("sum"), one, windows, _over_windows("sum"), clip, _core.Layer("divide")]

    def _append(self, cores: list[_core.Layer], made: list[_core.Layer]) -> None:
        if not isinstance(cores, Cores) or not self._is_wired:
            return super()._append(cores, made)
        x = cores.value
        cores += made[:2]
        total = cores.value
        cores.join(made[2], (x,))
        cores += made[3:6]
        cores.join(made[6], (total, cores.value))

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        slots = super()._state_slots(plan, first, prefix)
        return slots + _unfold_slots(plan, first + 3, f"{prefix}real_", 1) if self._is_wired else slots

    def _state_names(self) -> tuple[str, ...]:
        names = super()._state_names()
        return names + tuple(f"real_{name}" for name in names) if self._is_wired else names


def _over_windows(kind: str) -> _core.Layer:
    """A reduction of windows to one step."""
    return _core.Layer(kind, planes=0, rows=0, cols=1, keep=0, correction=0)


class Align(Net):
    """A value as it is, due ``steps`` of its steps later.

    It does nothing to a whole sequence. In a stream it keeps the frames, so that they meet those of a layer
    that looks ahead. Where a layer reads values of one rate that are due at different steps, as in
    ``x + TimeConv1d(...)(x)``, the net has it of its own accord.

    Parameters
    ----------
    steps : int
    """

    arguments = ("steps",)
    _recurrent = True
    batch_first = None

    def __init__(self, steps: int) -> None:
        self.steps = check_size("Align: steps", steps, 0)
        self._by_frame: dict[Frame, list[_core.Layer]] = {}

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if frame not in self._by_frame:
            planes, rows, cols = in_planes(frame)
            pair = 1 + (self.steps > 0)  # a window has the step that is due, and the one that has come
            self._by_frame[frame] = [
                _core.Layer("flatten"),
                _unfolded(pair, 1, max(1, self.steps), (0, self.steps), (math.prod(frame),)),
                _core.Layer("slice", axis=2, start=0, size=1),
                _core.Layer("reshape", planes=planes, rows=rows, cols=cols),
            ]
        cores += self._by_frame[frame]
        return frame

    def _core_count(self) -> int:
        return 4

    def _place(self, level: int) -> str:
        return ("flatten", "windows", "slice", "")[level]

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        numbers = (plan.state_of(first + 1)[1] - 1) // max(1, self.steps)
        return _unfold_slots(plan, first + 1, prefix, numbers)

    def _state_names(self) -> tuple[str, ...]:
        return ("count", "past") if self.steps else ("count",)


operations["align"] = lambda value, steps: applied(Align(steps), (value,))


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
