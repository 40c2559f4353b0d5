"""Convolutions and pools of Keras, over time and within frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn import frames
from tinyrnn.convolution import Conv2d, ConvTranspose1d
from tinyrnn.importing import Unfit, Window, even, is_positive, weighted
from tinyrnn.keras.symbols import Call, Seen, reframed
from tinyrnn.layers import Conv1d
from tinyrnn.ops import Slice, concat
from tinyrnn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tinyrnn.temporal import (
    MaxOverTime,
    MeanOverTime,
    TimeAvgPool1d,
    TimeConv1d,
    TimeMaxPool1d,
    TimeUnfold,
)
from tinyrnn.values import applied
from tinyrnn.weights.spec import Array, shown


def sizes_of(call: Call, key: str, count: int, default: Any = 1) -> list[int]:
    """A number for each axis."""
    given = call.get(key, default)
    given = default if given is None else given
    found = list(given) if isinstance(given, (list, tuple)) else [given] * count
    if len(found) != count or any(not isinstance(one, int) or not 1 <= one <= 2**20 for one in found):
        raise Unfit(f"{key} is {shown(repr(given), 60)}, expected {count} integers from 1 on")
    return found


def axes_of(call: Call, x: Seen, count: int) -> list[int | None]:
    """The sizes of the axes between batch and channels; None for a number of steps that varies."""
    call.refuse("data_format", "channels_last", None)
    if x.rank != count + 2:
        raise Unfit(
            f"reads {x.rank} axes, expected {count + 2}: the batch, steps or rows and columns, the channels"
        )
    return [*([x.steps] if x.timed else []), *x.shape[:-1]]


def windows_of(call: Call, x: Seen, kernel: Sequence[int], default_strides: Any = 1) -> list[Window]:
    """The windows over each axis."""
    sizes = axes_of(call, x, len(kernel))
    strides = sizes_of(call, "strides", len(kernel), default_strides)
    dilations = sizes_of(call, "dilation_rate", len(kernel))
    padding = call.get("padding", "valid")
    found = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation
        if padding == "valid":
            pads = (0, 0)
        elif padding == "causal" and len(kernel) == 1:
            pads = (reach, 0)
        elif padding == "same":
            total = reach
            if stride > 1:
                if size is None:
                    raise Unfit(
                        "padding is 'same' over steps with a stride, where it depends on their number: "
                        "load(path, shapes={input: (None, steps, ...)})"
                    )
                total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
            pads = (total // 2, total - total // 2)
        else:
            raise Unfit(f"padding is {shown(repr(padding))}, expected 'valid', 'same' or 'causal'")
        found.append(Window(taps, stride, dilation, pads))
    if x.timed:
        first = found[0]
        found[0] = first._replace(pads=(first.pads[0] + x.padding[0], first.pads[1] + x.padding[1]))
    return found


def stepped(x: Seen, window: Window) -> int | None:
    """The number of steps behind windows over time."""
    if x.backwards and (window.stride > 1 or window.is_uneven):
        raise Unfit("windows go over a sequence from its end, expected its own order")
    return None if x.steps is None else window.counted(x.steps - sum(x.padding))


def convolved(call: Call, x: Seen, kernel: Array, bias: Array | None, groups: int, key: str = "") -> Seen:
    """A convolution of a kernel (taps, ..., inputs / groups, outputs)."""
    count = kernel.ndim - 2
    found = windows_of(call, x, kernel.shape[:-2])
    inputs, outputs = x.shape[-1], kernel.shape[-1]
    if kernel.shape[-2] * groups != inputs:
        raise Unfit(f"kernel has shape {kernel.shape}, but the value {inputs} channels in {groups} groups")
    tensors = {"weight": np.moveaxis(kernel, (-1, -2), (0, 1))}
    if bias is not None:
        tensors["bias"] = bias
    more: dict[str, Any] = {"groups": groups, "bias": bias is not None}
    if x.timed and count == 1:
        (window,) = found
        if x.backwards and not all(pad == found[0].pads[0] for pad in found[0].pads):
            raise Unfit("goes over a sequence from its end, expected its own order")
        steps = stepped(x, window)
        if x.backwards:
            tensors["weight"] = tensors["weight"][:, :, ::-1]

        def make() -> Any:
            layer = TimeConv1d(
                inputs,
                outputs,
                window.kernel,
                dilation=window.dilation,
                stride=window.stride,
                padding=window.pads,
                **more,
            )
            return weighted(layer, **tensors)

        value = call.put(key, make, x.last())
        return x.replaced_steps(value, steps)
    value = x.channels()
    if count == 1:
        shape = (outputs, found[0].counted(x.shape[0]))
        value, found = even(value, found)
        (w,) = found
        value = call.put(
            key,
            lambda: weighted(
                Conv1d(inputs, outputs, w.kernel, w.stride, w.pads[0], w.dilation, **more), **tensors
            ),
            value,
        )
        return x.in_channels(value, (*shape[1:], outputs))
    if x.timed:
        window, other = found
        stepped(x, window)
        if x.backwards:
            raise Unfit("goes over a sequence from its end, expected its own order")
        value = applied(TimeUnfold(window.kernel, window.stride, window.pads, window.dilation), (value,))
        tensors["weight"] = tensors["weight"].swapaxes(2, 3)
        columns = other.counted(x.shape[0])
        value, (rows, cols) = even(value, [other, Window(window.kernel, 1, 1, (0, 0))])
    else:
        rows, cols = found
        size = (found[0].counted(x.shape[0]), found[1].counted(x.shape[1]))
        value, (rows, cols) = even(value, found)

    def make2d() -> Any:
        layer = Conv2d(
            inputs,
            outputs,
            (rows.kernel, cols.kernel),
            (rows.stride, cols.stride),
            (rows.pads[0], cols.pads[0]),
            (rows.dilation, cols.dilation),
            **more,
        )
        return weighted(layer, **tensors)

    value = call.put(key, make2d, value)
    if not x.timed:
        return x.in_channels(value, (*size, outputs))
    return x.replaced_steps(reframed(value, (outputs, columns)), stepped(x, window), (columns, outputs))


def conv(call: Call) -> Seen:
    """Conv1D and Conv2D."""
    x = call.padded
    count = 2 if "2D" in call.entry.kind else 1
    kernel = call.array("kernel", (*sizes_of(call, "kernel_size", count), None, call.whole("filters")))
    bias = call.array("bias", kernel.shape[-1:]) if call.get("use_bias", True) else None
    return call.activated(convolved(call, x, kernel, bias, call.whole("groups", 1)))


def depthwise(call: Call) -> Seen:
    """DepthwiseConv and SeparableConv: each channel by itself, then perhaps all of them at each place."""
    x, splits = call.padded, call.entry.kind.startswith("Separable")
    count, channels = 2 if "2D" in call.entry.kind else 1, x.shape[-1]
    sizes = (*sizes_of(call, "kernel_size", count), channels, call.whole("depth_multiplier", 1))
    kernel = call.array("depthwise_kernel" if splits else "kernel", sizes)
    kernel = kernel.reshape(*sizes[:-2], 1, -1)
    outputs = call.whole("filters") if splits else kernel.shape[-1]
    bias = call.array("bias", (outputs,)) if call.get("use_bias", True) else None
    if not splits:
        return call.activated(convolved(call, x, kernel, bias, channels))
    point = call.array("pointwise_kernel", (*(1,) * count, kernel.shape[-1], outputs))
    y = convolved(call, x, kernel, None, channels, "depthwise")
    return call.activated(call.dense(y, point, bias, "pointwise"))


def pool(call: Call) -> Seen:
    """MaxPooling and AveragePooling, 1D and 2D."""
    x = call.padded
    is_max, count = call.entry.kind.startswith("Max"), 2 if "2D" in call.entry.kind else 1
    key = "pool_length" if count == 1 and "pool_size" not in call.entry.config else "pool_size"
    kernel = sizes_of(call, key, count, 2)
    call.refuse("padding", "valid", "same")
    found = windows_of(call, x, kernel, kernel)
    if x.padding != (0, 0) and is_max and not is_positive(x.value, TimeMaxPool1d):
        raise Unfit("takes the maximum of steps of padding and of numbers that may be below 0")
    counted = call.get("padding", "valid") == "valid"  # a ZeroPadding1D before it
    if x.timed:
        window = found[0]
        steps = stepped(x, window)
    if x.timed and count == 1:
        if x.padding != (0, 0) and not counted:
            raise Unfit("pads a sequence twice, expected once")
        layer: Any = (
            TimeMaxPool1d(window.kernel, window.stride, window.pads)
            if is_max
            else TimeAvgPool1d(window.kernel, window.stride, window.pads, count_include_pad=counted)
        )
        return x.replaced_steps(layer(x.last()), steps)
    value, shape = x.channels(), [*x.shape]
    if x.timed:
        if window.pads != (0, 0) and not (is_max and is_positive(x.value, TimeMaxPool1d)):
            raise Unfit("pools steps with padding and columns, which no layer does")
        value = applied(TimeUnfold(window.kernel, window.stride, window.pads), (value,))
        shape[0] = found[1].counted(x.shape[0])
        found = [found[1], Window(window.kernel, 1, 1, (0, 0))]
    else:
        shape[:-1] = [window.counted(size) for window, size in zip(found, shape, strict=False)]
    # The last window may begin within the numbers and end beyond them, where nothing counts.
    ceil = any(w.is_uneven for w in found) and all(
        (w.stride > 1 and w.pads[1] == w.pads[0] + 1) or (w.pads == (0, 0) and exact(w, size))
        for w, size in zip(found, x.shape, strict=False)
    )
    if any(w.is_uneven for w in found) and not ceil:
        if not is_max:
            raise Unfit("pads one side more than the other and does not count the padding")
        value, found = even(value, found, -math.inf)
    sizes = [tuple(one) for one in zip(*((w.kernel, w.stride, w.pads[0]) for w in found), strict=True)]
    kinds: Any = (MaxPool1d, MaxPool2d) if is_max else (AvgPool1d, AvgPool2d)
    more = {} if is_max else {"count_include_pad": False}
    value = kinds[len(found) - 1](*sizes, ceil_mode=ceil, **more)(value)
    if x.timed:
        return x.replaced_steps(reframed(value, (shape[1], shape[0])), steps, tuple(shape))
    return x.in_channels(value, tuple(shape))


def exact(window: Window, size: int) -> bool:
    """True if windows without padding end where the numbers do."""
    return (size - window.span) % window.stride == 0


def global_pool(call: Call) -> Seen:
    """GlobalAveragePooling and GlobalMaxPooling, 1D and 2D."""
    x = call.x
    is_max, count = "Max" in call.entry.kind, 2 if "2D" in call.entry.kind else 1
    if count == 1 and call.get("data_format") == "channels_first" and x.rank == 3:
        call.builder.drops(x)
        x = x.framed()
        value = x.last().amax(-1) if is_max else x.last().mean(-1)
        return x.new(reframed(value, (*value.frame, 1)) if call.get("keepdims", False) else value)
    axes_of(call, x, count)
    value = x.channels()
    dims = tuple(range(1 - len(x.shape), 0))
    if dims:
        value = value.amax(dims) if is_max else value.mean(dims)
    if x.timed:
        if is_max:
            call.builder.drops(x)
            value = applied(MaxOverTime(), (value,))
        else:
            value = MeanOverTime()(value, mask=call.mask(x))
    if call.get("keepdims", False):
        if x.timed:
            raise Unfit("keepdims is True over the steps, expected False")
        value = reframed(value, (*(1,) * count, x.shape[-1]))
    return x.alone(value) if x.timed else x.new(value)


def zero_padding(call: Call) -> Seen:
    """ZeroPadding1D and ZeroPadding2D."""
    x = call.padded
    count = 2 if "2D" in call.entry.kind else 1
    axes_of(call, x, count)
    given = call.get("padding", 1)
    given = [given] * count if isinstance(given, int) else given
    pairs = [given] if count == 1 and len(given) == 2 and isinstance(given[0], int) else given
    pairs = [(one, one) if isinstance(one, int) else tuple(one) for one in pairs]
    known = all(isinstance(n, int) and 0 <= n < 2**20 for pair in pairs for n in pair)
    if len(pairs) != count or not known or any(len(pair) != 2 for pair in pairs):
        raise Unfit(f"padding is {shown(repr(given), 60)}, expected two numbers for each axis")
    steps, padding = x.steps, x.padding
    if x.timed:
        (before, after), *pairs = pairs
        padding = (padding[0] + before, padding[1] + after)
        steps = None if steps is None else steps + before + after
    value, shape = x.channels() if len(x.shape) > 1 else x.value, [*x.shape]
    if any(map(any, pairs)):
        value = frames.pad(value, tuple(n for pair in reversed(pairs) for n in pair))
        shape = [size + sum(pair) for size, pair in zip(shape, pairs, strict=False)] + shape[len(pairs) :]
    return x.padded_by(value, tuple(shape), steps, padding)


def transposed_conv(call: Call) -> Seen:
    """Conv1DTranspose, over all steps at once."""
    x = call.padded
    axes_of(call, x, 1)
    x = x.framed()
    (taps,), (stride,) = sizes_of(call, "kernel_size", 1), sizes_of(call, "strides", 1)
    call.refuse("dilation_rate", 1, [1])
    call.refuse("output_padding", None)
    call.refuse("padding", "valid", "same")
    inputs, outputs = x.shape[-1], call.whole("filters")
    tensors = {"weight": call.array("kernel", (taps, outputs, inputs)).transpose(2, 1, 0)}
    if call.get("use_bias", True):
        tensors["bias"] = call.array("bias", (outputs,))
    more: dict[str, Any] = {"output_padding": max(stride - taps, 0), "bias": "bias" in tensors}
    layer = lambda: weighted(ConvTranspose1d(inputs, outputs, taps, stride, **more), **tensors)  # noqa: E731
    value = call.put("", layer, x.channels())
    if call.get("padding", "valid") == "same" and taps > stride:
        value = applied(Slice((taps - stride) // 2, x.shape[0] * stride, -1), (value,))
    return call.activated(x.in_channels(value, (value.frame[-1], outputs)))


def cropping(call: Call) -> Seen:
    """Cropping1D."""
    x, given = call.x, call.get("cropping", 1)
    axes_of(call, x, 1)
    pair = [given] * 2 if isinstance(given, int) else given
    if not isinstance(pair, list) or [type(one) for one in pair] != [int, int] or min(pair) < 0:
        raise Unfit(f"cropping is {shown(repr(given), 60)}, expected two numbers")
    if x.timed:
        call.builder.drops(x)
        return x.cropped(*pair)
    return x.new(applied(Slice(pair[0], x.shape[0] - sum(pair), -2), (x.last(),)))


def up_sampling(call: Call) -> Seen:
    """UpSampling1D, over all steps at once."""
    x, count = call.padded, call.whole("size", 2)
    axes_of(call, x, 1)
    if count > 1024:
        raise Unfit(f"size is {count}, expected at most 1024")
    x = x.framed()
    return x.new(reframed(concat([x.last()] * count), (x.shape[0] * count, x.shape[1])))
