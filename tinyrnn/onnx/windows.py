"""Convolutions, pools and sizes: what goes along axes behind the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn import frames, ops
from tinyrnn.convolution import Conv2d, ConvTranspose1d
from tinyrnn.importing import Unfit, Window, even, is_positive, weighted
from tinyrnn.layers import Conv1d
from tinyrnn.onnx.nodes import Call, Padded
from tinyrnn.onnx.products import linear
from tinyrnn.onnx.steps import stepped
from tinyrnn.onnx.symbols import (
    TIME,
    Axis,
    Product,
    Symbol,
    claim_rows,
    claim_time,
    frame_size,
    has,
    is_frame,
    part,
    reframed,
    sizes_of,
)
from tinyrnn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tinyrnn.temporal import TimeAvgPool1d, TimeConv1d, TimeMaxPool1d, TimeUnfold
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array, shown

_POINT = Window(1, 1, 1, (0, 0))  # of one number: no window at all


def windows(call: Call, x: Symbol, kernel: Sequence[int]) -> list[Window]:
    """The windows over each axis behind the channels."""
    get = call.attributes.get
    count = x.rank - 2
    if count not in (1, 2) or len(kernel) != count:
        raise Unfit(
            f"reads {x.rank} axes with a kernel of {len(kernel)}, expected (N, C, L) or (N, C, rows, columns)"
        )
    strides, dilations = get("strides") or [1] * count, get("dilations") or [1] * count
    pads = get("pads") or [0] * 2 * count
    if len(strides) != count or len(dilations) != count or len(pads) != 2 * count:
        raise Unfit("strides, dilations and pads do not fit the kernel")
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        raise Unfit("a stride, a dilation or a kernel is below 1, or a pad below 0")
    found = [
        Window(*sizes, (pads[i], pads[count + i]))
        for i, sizes in enumerate(zip(kernel, strides, dilations, strict=True))
    ]
    found = _automatic(str(get("auto_pad", "NOTSET")), x, found)
    claim_rows(x)
    if frame_size(x.axes[0]) > 1:
        raise Unfit("the first axis is a part of each frame, expected the batch")
    for i in range(count):
        claim_time(x, 2 + i)
    if isinstance(x, Padded):
        timed = [i for i in range(count) if has(x.axes[2 + i], TIME)]
        if len(timed) != 1:
            raise Unfit("reads a sequence that was padded, but not along time")
        window = found[timed[0]]
        pads = (window.pads[0] + x.steps[0], window.pads[1] + x.steps[1])
        found[timed[0]] = window._replace(pads=pads)
    return found


def _automatic(auto: str, x: Symbol, found: list[Window]) -> list[Window]:
    """Windows with the padding that auto_pad tells: none, or so much that a stride alone makes them fewer."""
    if auto == "NOTSET":
        return found
    if auto == "VALID":
        return [window._replace(pads=(0, 0)) for window in found]
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unfit(f"auto_pad is {shown(auto)}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    padded = []
    for axis, window in enumerate(found, 2):
        claim_time(x, axis)
        if not has(x.axes[axis], TIME):
            size = x.frame_axis(axis)
            room = (-(-size // window.stride) - 1) * window.stride + window.span - size
        elif window.stride == 1:
            room = window.span - 1
        else:
            raise Unfit(
                f"auto_pad is {auto} over time with a stride, where it depends on the number of steps"
            )
        less = max(room, 0) // 2
        more = max(room, 0) - less
        padded.append(window._replace(pads=(less, more) if auto == "SAME_UPPER" else (more, less)))
    return padded


def _stepped(x: Symbol, axis: int, window: Window) -> Axis:
    """The axis of time behind windows over it."""
    (atom,) = x.axes[axis] if len(x.axes[axis]) == 1 else (None,)
    if atom is None or atom.kind != TIME:
        raise Unfit("windows go over time and something else at once")
    if x.reversed:
        raise Unfit("windows go over a sequence from its end, expected its own order")
    return stepped((atom,), window)


def convolution(call: Call) -> Symbol:
    weight = call.weight(1, "W", call.padded(0).rounded)
    return convolved(call, weight, call.array(2, "B") if call.has(2) else None)


def convolved(call: Call, weight: Any, bias: Array | None) -> Symbol:
    """A convolution, which takes the numbers of its channels that it is multiplied with, and a bias."""
    found = _convolution(call, weight, bias)
    found.shortened = lambda *less: _convolution(call, weight, bias, (less[0], less[1]))
    scales = isinstance(weight, np.ndarray)  # those of codes follow from the rounding of what they read
    if bias is None or scales:
        found.product = Product(lambda *tensors: convolved(call, *tensors), weight, bias, 1, scales)
    return found


def _less(window: Window, steps: tuple[int, int]) -> Window:
    """A window with less padding, which leaves out so many steps at each end."""
    pads = (window.pads[0] - steps[0], window.pads[1] - steps[1])
    if any(steps) and (window.stride > 1 or min(pads) < 0):
        raise Unfit("leaves out more steps than are padding")
    return window._replace(pads=pads)


class _Filter(NamedTuple):
    """The numbers of a convolution: (outputs, inputs / groups, kernel ...), and a bias of its outputs."""

    weight: Any
    bias: Array | None
    groups: int

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    def weighted(self, layer: Any) -> Any:
        """A layer that has these numbers."""
        return weighted(layer, weight=self.weight, **({} if self.bias is None else {"bias": self.bias}))

    def along(self, kind: type[Any], value: Value, found: list[Window]) -> Value:
        """The value behind a convolution along axes of its frame."""
        value, found = even(value, found)
        more = {"groups": self.groups, "bias": self.bias is not None}
        return self.weighted(kind(self.inputs, self.outputs, *_sizes(found), **more))(value)  # type: ignore[no-any-return]


def _sizes(found: list[Window]) -> list[Any]:
    """Kernel, stride, padding and dilation as a layer takes them: numbers of one axis, pairs of two."""
    each = [(window.kernel, window.stride, window.pads[0], window.dilation) for window in found]
    return list(each[0] if len(each) == 1 else zip(*each, strict=True))


def _convolution(call: Call, weight: Any, bias: Array | None, less: tuple[int, int] = (0, 0)) -> Symbol:
    """A convolution; ``less``: the steps that are left out at each end."""
    x = call.padded(0)
    found = windows(call, x, weight.shape[2:])
    numbers = _Filter(weight, bias, call.attributes.get("group", 1))
    if x.frame_axis(1) != numbers.inputs:
        raise Unfit(
            f"W has shape {weight.shape}, but the value {x.frame_axis(1)} channels, expected {numbers.inputs}"
        )
    timed = [i for i in range(len(found)) if has(x.axes[2 + i], TIME)]
    if len(timed) == 2:
        raise Unfit("both axes of a picture are time")
    for i in timed:
        found[i] = _less(found[i], less)
    if len(found) == 1 and found[0]._replace(dilation=1) == _POINT and numbers.groups == 1:
        return linear(x.with_axes(x.axes), 1, weight.transpose(2, 0, 1)[0], bias)
    if timed and len(found) == 1:
        return _over_time(x, found[0], numbers)
    if timed:
        return _picture_over_time(x, timed[0], found, numbers)
    return _in_frame(call, x, found, numbers)


def _in_frame(call: Call, x: Symbol, found: list[Window], numbers: _Filter) -> Symbol:
    """A convolution along the axes of a frame."""
    sizes = [x.frame_axis(2 + i) for i in range(len(found))]
    if len(found) == 1:
        call.builder.notes(found[0], sizes[0])
    counts = [window.counted(size) for window, size in zip(found, sizes, strict=True)]
    value = numbers.along((Conv1d, Conv2d)[len(found) - 1], x.framed((numbers.inputs, *sizes)), found)
    return Symbol(value, [x.axes[0], part(numbers.outputs), *map(part, counts)], x.reversed)


def _picture_over_time(x: Symbol, timed: int, found: list[Window], numbers: _Filter) -> Symbol:
    """A convolution of two axes, one of which is time: windows of steps are the last axis of its frames."""
    window, other = found[timed], found[1 - timed]
    size = x.frame_axis(3 - timed)
    count = other.counted(size)
    axes = [x.axes[0], part(numbers.outputs), part(count), part(count)]
    axes[2 + timed] = _stepped(x, 2 + timed, window)
    steps = TimeUnfold(window.kernel, window.stride, window.pads, window.dilation)
    value = applied(steps, (x.framed((numbers.inputs, size)),))
    if timed == 0:
        numbers = numbers._replace(weight=numbers.weight.transpose(0, 1, 3, 2))
    value = numbers.along(Conv2d, value, [other, Window(window.kernel, 1, 1, (0, 0))])
    return Symbol(value, axes, x.reversed)


def _over_time(x: Symbol, window: Window, numbers: _Filter) -> Symbol:
    """A convolution over the steps."""
    layer = TimeConv1d(
        numbers.inputs,
        numbers.outputs,
        window.kernel,
        dilation=window.dilation,
        groups=numbers.groups,
        bias=numbers.bias is not None,
        stride=window.stride,
        padding=window.pads,
    )
    value = numbers.weighted(layer)(x.framed((numbers.inputs,)))
    return Symbol(value, [x.axes[0], part(numbers.outputs), _stepped(x, 2, window)])


def transposed(call: Call) -> Symbol:
    """ConvTranspose along one axis of a frame, and along time if it makes no more steps there."""
    found = _transposed(call)
    found.shortened = lambda *less: _transposed(call, (less[0], less[1]))
    return found


def _transposed(call: Call, less: tuple[int, int] = (0, 0)) -> Symbol:
    x, weight = call.symbol(0), call.array(1, "W")
    get = call.attributes.get
    if weight.ndim != x.rank or get("auto_pad", "NOTSET") != "NOTSET" or get("output_shape"):
        raise Unfit("is no transposed convolution with pads, expected one")
    found = windows(call, x, weight.shape[2:])
    groups, more = get("group", 1), get("output_padding") or [0] * len(found)
    outputs = weight.shape[1] * groups
    if x.frame_axis(1) != len(weight):
        raise Unfit(f"W has shape {weight.shape}, but the value {x.frame_axis(1)} channels")
    axes = [x.axes[0], part(outputs), *x.axes[2:]]
    left = list(range(len(found)))
    value, kernel = x.value, weight
    for i in [i for i in left if has(x.axes[2 + i], TIME)]:
        value, kernel, axes[2 + i] = _transposed_over_time(x, i, weight, found[i], more[i], less)
        left.remove(i)
    for i in left[: len(left) - 1]:
        if sizes_of(x.axes[2 + i]) != (1, 1) or weight.shape[2 + i] > 1:
            raise Unfit("goes along two axes of a frame, expected one")
        kernel = kernel.take(0, 2)
        left.remove(i)
    inputs = len(kernel)
    i = left[0] if left else 0
    window, size = (found[i], x.frame_axis(2 + i)) if left else (Window(1, 1, 1, (0, 0)), 1)
    before, behind = window.pads
    common = min(before, behind)
    layer = ConvTranspose1d(
        inputs,
        outputs,
        window.kernel,
        window.stride,
        common,
        more[i] if left else 0,
        groups,
        call.has(2),
        window.dilation,
    )
    tensors = {"weight": kernel.reshape(inputs, -1, window.kernel)}
    tensors |= {"bias": call.array(2, "B")} if call.has(2) else {}
    value = weighted(layer, **tensors)(reframed(value, (inputs, size)))
    size = value.frame[1] - (before - common) - (behind - common)
    if size < value.frame[1]:  # one side is cut more than the other
        value = value[..., before - common : before - common + size]
    if left:
        axes[2 + i] = part(size)
    return Symbol(value, axes, x.reversed)


def _transposed_over_time(
    x: Symbol, place: int, weight: Array, window: Window, more: int, less: tuple[int, int]
) -> tuple[Value, Array, Axis]:
    """Windows of steps as channels, the kernel that reads them, and the axis of time behind them.

    The last tap of a transposed convolution reads the oldest step of a window.
    """
    if window.stride > 1:
        raise Unfit("makes more steps, which no layer of tinyrnn does")
    reach = window.span - 1
    pads = (reach - window.pads[0], reach - window.pads[1] + more)
    window = _less(window._replace(pads=pads), less)
    if min(window.pads) < 0:
        raise Unfit("has more padding along time than its kernel reaches")
    time = _stepped(x, 2 + place, window)
    channels = len(weight)
    taps = np.moveaxis(np.flip(weight, 2 + place), 2 + place, 1)
    value = x.framed((channels, math.prod(x.value.frame) // channels))
    if window.kernel > 1 or any(window.pads):
        steps = TimeUnfold(window.kernel, 1, window.pads, window.dilation)
        value = applied(frames.Permute((-3, -1, -2)), (applied(steps, (value,)),))
    return value, taps.reshape(channels * window.kernel, *taps.shape[2:]), time


def resize(call: Call) -> Symbol:
    """Resize and Upsample along axes of a frame: each number several times, or a matrix."""
    x, get = call.symbol(0), call.attributes.get
    mode = str(get("mode", "nearest"))
    old = call.node.op == "Upsample" or call.opset < 11
    way = "asymmetric" if old else str(get("coordinate_transformation_mode", "half_pixel"))
    rounds = "floor" if old else str(get("nearest_mode", "round_prefer_floor"))
    ways = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    if mode not in ("nearest", "linear") or way not in ways or get("antialias") or get("axes"):
        raise Unfit(
            f"mode is {shown(mode)}, coordinates are {shown(way)}, expected nearest or linear over all axes"
        )
    place = 1 if old else 2
    given = call.array(place).reshape(-1).tolist() if call.has(place) else get("scales") or []
    sizes = call.known(3).sizes if call.has(3) else []
    claim_rows(x)
    for axis in range(x.rank):
        if axis < len(sizes):
            own = (sizes_of(x.axes[axis]), *((atom.declared,) * 2 for atom in x.axes[axis]))
            if sizes[axis] in own or (axis == 0 and not has(x.axes[0], TIME)):  # rows that an export traced
                continue
        elif axis >= len(given) or given[axis] == 1:
            continue
        if axis:
            claim_time(x, axis)
        if not is_frame(x.axes[axis]):
            raise Unfit("makes more steps or rows, which no layer of tinyrnn does")
        size = x.frame_axis(axis)
        to = sizes[axis][0] if axis < len(sizes) else int(size * given[axis])
        if to < 1:
            raise Unfit(f"makes {to} numbers, expected at least one")
        factor = to / size if axis < len(sizes) else given[axis]
        call.builder.room(size * to)
        matrix = _resizing(size, to, factor, mode, way, rounds)
        value, dim = x.along(axis)
        times = to // size
        if to == times * size and np.all(matrix[np.arange(to), np.arange(to) // max(times, 1)] == 1):
            before, behind = math.prod(value.frame[:-1] if dim == -1 else value.frame[:-2]), value.frame[-1]
            behind = 1 if dim == -1 else behind
            one = reframed(value, (before * size, 1, behind))
            zeros = call.constant(np.zeros((times, 1), np.float32), one)
            value = applied(ops.Add(), (one, zeros))
            frame = (*((before,) if before > 1 else ()), to, *((behind,) if behind > 1 else ()))
            x = x.replaced(reframed(value, frame), axis, to)
        else:
            x = linear(x, axis, matrix)
    return x


def _resizing(size: int, to: int, factor: float, mode: str, way: str, rounds: str) -> Array:
    """The matrix (to, size) of ONNX's Resize along one axis."""
    places = np.arange(to, dtype=np.float64)
    if way == "asymmetric":
        at = places / factor
    elif way == "align_corners":
        if abs(to - size * factor) > 1e-3:
            raise Unfit(f"aligns the corners of {size * factor} numbers, on which readers of ONNX disagree")
        at = places * (size - 1) / max(to - 1, 1)
    else:
        at = (places + 0.5) / factor - 0.5
        if way == "pytorch_half_pixel" and to == 1:
            at = np.zeros(1)
    matrix = np.zeros((to, size), np.float32)
    if mode == "nearest":
        names: dict[str, Any] = {
            "round_prefer_floor": lambda one: np.ceil(one - 0.5),
            "round_prefer_ceil": lambda one: np.floor(one + 0.5),
            "floor": np.floor,
            "ceil": np.ceil,
        }
        if rounds not in names:
            raise Unfit(f"nearest_mode is {shown(rounds)}, expected one of {', '.join(names)}")
        nearest = np.clip(names[rounds](at), 0, size - 1).astype(int)
        matrix[np.arange(to), nearest] = 1
        return matrix
    at = np.clip(at, 0, size - 1)
    below = np.minimum(np.floor(at).astype(int), max(size - 2, 0))
    matrix[np.arange(to), below] += 1 - (at - below)
    matrix[np.arange(to), np.minimum(below + 1, size - 1)] += at - below
    return matrix


def pool(call: Call) -> Symbol:
    """MaxPool and AveragePool."""
    x, get, is_max = call.padded(0), call.attributes.get, call.node.op == "MaxPool"
    found = windows(call, x, get("kernel_shape") or [])
    ceil, counted = bool(get("ceil_mode")), bool(get("count_include_pad"))
    if (ceil and not is_max) or get("storage_order") or any(call.node.outputs[1:]):
        raise Unfit(
            "has storage_order, indices, or a ceil_mode that counts no padding, expected none of them"
        )
    if not is_max and any(window.dilation > 1 for window in found):
        raise Unfit("AveragePool has a dilation, expected none")
    timed = [i for i in range(len(found)) if has(x.axes[2 + i], TIME)]
    if timed and len(found) == 1 and not ceil:
        return _pool_over_time(x, found[0], is_max, counted)
    if timed:
        window = found[timed[0]]
        zeros = window.pads == (0, 0) or (is_max and is_positive(x.value, TimeUnfold))
        if len(timed) > 1 or not zeros or ceil:
            raise Unfit("pools steps with padding or ceil_mode, or two axes of time, which no layer does")
    axes, sizes = list(x.axes), [x.frame_axis(1)]
    for axis, window in enumerate(found, 2):
        if axis - 2 in timed:
            axes[axis] = _stepped(x, axis, window)
        else:
            sizes.append(x.frame_axis(axis))
            axes[axis] = part(window.counted(sizes[-1]))
    value = x.framed(sizes)
    for i in timed:  # windows of steps are the last axis of a frame
        window = found.pop(i)
        found.append(Window(window.kernel, 1, 1, (0, 0)))
        steps = TimeUnfold(window.kernel, window.stride, window.pads, window.dilation)
        value = applied(steps, (value,))
    if any(window.is_uneven for window in found) and (ceil or not (is_max or counted)):
        raise Unfit("pads one side more than the other, with a ceil_mode or without counting the padding")
    value, found = even(value, found, -math.inf if is_max else 0.0)
    kernel, stride, pads, dilation = _sizes(found)
    kinds: Any = (MaxPool1d, MaxPool2d) if is_max else (AvgPool1d, AvgPool2d)
    more = {"dilation": dilation} if is_max else {"count_include_pad": counted}
    value = kinds[len(found) - 1](kernel, stride, pads, ceil_mode=ceil, **more)(value)
    if ceil:
        axes[2:] = [part(size) for size in value.frame[1:]]
    return Symbol(value, axes, x.reversed)


def _pool_over_time(x: Symbol, window: Window, is_max: bool, counted: bool) -> Symbol:
    """A pool over the steps."""
    layer: Any = (
        TimeMaxPool1d(window.kernel, window.stride, window.pads, window.dilation)
        if is_max
        else TimeAvgPool1d(window.kernel, window.stride, window.pads, False, counted)
    )
    axes = [*x.axes[:2], _stepped(x, 2, window)]
    return Symbol(applied(layer, (x.framed((x.frame_axis(1),)),)), axes, x.reversed)
