"""Convolutions, pools and sizes: what goes along axes behind the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn import frames, ops
from tinyrnn.convolution import Conv2d, ConvTranspose1d
from tinyrnn.importing import Unfit, Window, even, is_positive, weighted
from tinyrnn.layers import (
    Conv1d,
)
from tinyrnn.onnx.nodes import Call, Padded
from tinyrnn.onnx.products import linear
from tinyrnn.onnx.steps import stepped
from tinyrnn.onnx.symbols import (
    TIME,
    Axis,
    Product,
    Sizes,
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
    auto = get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for i, window in enumerate(found):
            claim_time(x, 2 + i)
            size = None if has(x.axes[2 + i], TIME) else x.frame_axis(2 + i)
            if size is None and window.stride > 1:
                raise Unfit(
                    f"auto_pad is {auto} over time with a stride, where it depends on the number of steps"
                )
            room = (
                window.span - 1
                if size is None
                else (-(-size // window.stride) - 1) * window.stride + window.span - size
            )
            less, more = max(room, 0) // 2, max(room, 0) - max(room, 0) // 2
            found[i] = window._replace(pads=(less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto == "VALID":
        found = [window._replace(pads=(0, 0)) for window in found]
    elif auto != "NOTSET":
        raise Unfit(f"auto_pad is {shown(str(auto))}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
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


def _convolution(call: Call, weight: Any, bias: Array | None, less: tuple[int, int] = (0, 0)) -> Symbol:
    """A convolution; ``less``: the steps that are left out at each end."""
    x = call.padded(0)
    found = windows(call, x, weight.shape[2:])
    groups = call.attributes.get("group", 1)
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    if x.frame_axis(1) != inputs:
        raise Unfit(
            f"W has shape {weight.shape}, but the value {x.frame_axis(1)} channels, expected {inputs}"
        )
    timed = [i for i in range(len(found)) if has(x.axes[2 + i], TIME)]
    for i in timed[:1]:
        found[i] = _less(found[i], less)
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    more = {"groups": groups, "bias": bias is not None}
    if (
        len(found) == 1
        and (window := found[0]).kernel == window.stride == groups == 1
        and window.pads == (0, 0)
    ):
        return linear(x.with_axes(x.axes), 1, weight.transpose(2, 0, 1)[0], bias)
    if timed == [0] and len(found) == 1:
        (window,) = found
        return _over_time(x, window, (inputs, outputs), tensors, groups)
    layer: Any
    if not timed and len(found) == 1:
        (window,) = found
        size = x.frame_axis(2)
        call.builder.notes(window, size)
        count = window.counted(size)
        value, (window,) = even(x.framed((inputs, size)), found)
        layer = Conv1d(inputs, outputs, window.kernel, window.stride, window.pads[0], window.dilation, **more)
        return Symbol(weighted(layer, **tensors)(value), [x.axes[0], part(outputs), part(count)], x.reversed)
    if not timed:
        shape = (inputs, x.frame_axis(2), x.frame_axis(3))
        counts = [window.counted(size) for window, size in zip(found, shape[1:], strict=True)]
        value, (rows, cols) = even(x.framed(shape), found)
    elif len(timed) == 1:
        axis, other = timed[0], found[1 - timed[0]]
        size = x.frame_axis(3 - axis)
        count = other.counted(size)
        window = found[axis]
        steps = TimeUnfold(window.kernel, window.stride, window.pads, window.dilation)
        unfolded = applied(steps, (x.framed((inputs, size)),))
        if axis == 0:  # windows are the last axis
            tensors["weight"] = weight.transpose(0, 1, 3, 2)
        value, (rows, cols) = even(unfolded, [other, Window(window.kernel, 1, 1, (0, 0))])
        axes = [x.axes[0], part(outputs), part(count), part(count)]
        axes[2 + axis] = _stepped(x, 2 + axis, window)
        counts = []
    else:
        raise Unfit("both axes of a picture are time")
    layer = Conv2d(
        inputs,
        outputs,
        (rows.kernel, cols.kernel),
        (rows.stride, cols.stride),
        (rows.pads[0], cols.pads[0]),
        (rows.dilation, cols.dilation),
        **more,
    )
    if not timed:
        axes = [x.axes[0], part(outputs), *map(part, counts)]
    return Symbol(weighted(layer, **tensors)(value), axes, x.reversed)


def _over_time(x: Symbol, window: Window, sizes: Sizes, tensors: dict[str, Any], groups: int) -> Symbol:
    """A convolution over the steps."""
    layer = TimeConv1d(
        *sizes,
        window.kernel,
        dilation=window.dilation,
        groups=groups,
        bias="bias" in tensors,
        stride=window.stride,
        padding=window.pads,
    )
    value = weighted(layer, **tensors)(x.framed(sizes[:1]))
    return Symbol(value, [x.axes[0], part(sizes[1]), _stepped(x, 2, window)])


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
    x, is_max = call.padded(0), call.node.op == "MaxPool"
    found = windows(call, x, call.attributes.get("kernel_shape") or [])
    ceil = bool(call.attributes.get("ceil_mode"))
    if (ceil and not is_max) or call.attributes.get("storage_order") or any(call.node.outputs[1:]):
        raise Unfit(
            "has storage_order, indices, or a ceil_mode that counts no padding, expected none of them"
        )
    counted = bool(call.attributes.get("count_include_pad"))
    if not is_max and any(window.dilation > 1 for window in found):
        raise Unfit("AveragePool has a dilation, expected none")
    channels = x.frame_axis(1)
    timed = [i for i in range(len(found)) if has(x.axes[2 + i], TIME)]
    axes = [x.axes[0], x.axes[1], *x.axes[2:]]
    sizes: list[int] = []
    value = x.value
    if timed:
        axis = timed[0]
        window = found[axis]
        if len(found) == 1 and not ceil:
            steps: Any = (
                TimeMaxPool1d(window.kernel, window.stride, window.pads, window.dilation)
                if is_max
                else TimeAvgPool1d(window.kernel, window.stride, window.pads, False, counted)
            )
            axes[2] = _stepped(x, 2, window)
            return Symbol(applied(steps, (x.framed((channels,)),)), axes, x.reversed)
        zeros = window.pads == (0, 0) or (is_max and is_positive(x.value, TimeUnfold))
        if len(timed) > 1 or not zeros or ceil:
            raise Unfit("pools steps with padding or ceil_mode, or two axes of time, which no layer does")
        rest = [w for i, w in enumerate(found) if i != axis]
        frame = [channels, *(x.frame_axis(2 + i) for i in range(len(found)) if i != axis)]
        unfold = TimeUnfold(window.kernel, window.stride, window.pads, window.dilation)
        value = applied(unfold, (x.framed(frame),))
        axes[2 + axis] = _stepped(x, 2 + axis, window)
        for i, other in enumerate(found):
            if i != axis:
                axes[2 + i] = part(other.counted(x.frame_axis(2 + i)))
        found = [*rest, Window(window.kernel, 1, 1, (0, 0))]
    else:
        sizes = [x.frame_axis(2 + i) for i in range(len(found))]
        axes[2:] = [part(window.counted(size)) for window, size in zip(found, sizes, strict=True)]
        value = x.framed((channels, *sizes))
    if any(w.is_uneven for w in found) and (ceil or not (is_max or counted)):
        raise Unfit("pads one side more than the other, with a ceil_mode or without counting the padding")
    value, found = even(value, found, -math.inf if is_max else 0.0)
    kinds: Any = (MaxPool1d, MaxPool2d) if is_max else (AvgPool1d, AvgPool2d)
    more: dict[str, Any] = (
        {"dilation": tuple(w.dilation for w in found)} if is_max else {"count_include_pad": counted}
    )
    kernel, stride, pads = (
        tuple(one) for one in zip(*((w.kernel, w.stride, w.pads[0]) for w in found), strict=True)
    )
    value = kinds[len(found) - 1](kernel, stride, pads, ceil_mode=ceil, **more)(value)
    if ceil:
        axes[2:] = [part(size) for size in value.frame[1:]]
    return Symbol(value, axes, x.reversed)
