"""Layers over pictures and the like in float64 NumPy, both ways: slow, plain, no code of tinyrnn's.

Each takes ``(N, channels, ...)``, and returns what the layer computes and a function that goes back, as in
oracle_gradients.py. oracle.py uses the first of the two. The layers of one dimension are those of two whose
frames have one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = Mapping[str, Array]
Grads = dict[str, Array]
Result = tuple[Array, Callable[[Array], Array]]


def pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def single(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) else value


# ---- convolutions -------------------------------------------------------------------------------


def conv2d(w: Tensors, grads: Grads, x: Array, given: Mapping[str, Any]) -> Result:
    weight, groups = w["weight"], given.get("groups", 1)
    out_channels, group_in, *kernel = weight.shape
    stride, dilation = pair(given.get("stride", 1)), pair(given.get("dilation", 1))
    padding = given.get("padding", 0)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        sides = [(span // 2, span - span // 2) for span in spans]
    else:
        sides = [(pad, pad) for pad in pair(0 if padding == "valid" else padding)]
    padded = np.pad(x, [(0, 0), (0, 0), *sides])
    sizes = [
        (size - span - 1) // step + 1
        for size, span, step in zip(padded.shape[2:], spans, stride, strict=True)
    ]
    of_group = out_channels // groups
    y = np.zeros((len(x), out_channels, *sizes))

    def reads(group: int, i: int, j: int) -> tuple[slice, ...]:
        """The numbers that all outputs of a group multiply by one tap."""
        at = [tap * d for tap, d in zip((i, j), dilation, strict=True)]
        axes = [
            slice(first, first + (size - 1) * step + 1, step)
            for first, size, step in zip(at, sizes, stride, strict=True)
        ]
        return (slice(None), slice(group * group_in, (group + 1) * group_in), *axes)

    def taps() -> Iterator[tuple[int, slice, int, int]]:
        for group in range(groups):
            for i, j in np.ndindex(*kernel):
                yield group, slice(group * of_group, (group + 1) * of_group), i, j

    for group, outs, i, j in taps():
        y[:, outs] += np.einsum("oi,nirc->norc", weight[outs, :, i, j], padded[reads(group, i, j)])
    if "bias" in w:
        y += w["bias"][:, np.newaxis, np.newaxis]

    def back(dy: Array) -> Array:
        dpadded = np.zeros_like(padded)
        for group, outs, i, j in taps():
            read = reads(group, i, j)
            grads["weight"][outs, :, i, j] += np.einsum("norc,nirc->oi", dy[:, outs], padded[read])
            dpadded[read] += np.einsum("oi,norc->nirc", weight[outs, :, i, j], dy[:, outs])
        if "bias" in w:
            grads["bias"] += dy.sum(axis=(0, 2, 3))
        (top, _), (left, _) = sides
        return dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]

    return y, back


def conv_transpose1d(w: Tensors, grads: Grads, x: Array, given: Mapping[str, Any]) -> Result:
    weight, groups = w["weight"], given.get("groups", 1)
    in_channels, of_group, kernel = weight.shape
    stride, padding, dilation, more = (
        single(given.get(name, default))
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    )
    count, _, length = x.shape
    whole = (length - 1) * stride + dilation * (kernel - 1) + 1 + more
    full = np.zeros((count, groups * of_group, whole))

    def places() -> Iterator[tuple[slice, slice, int, slice]]:
        for group in range(groups):
            ins = slice(group * in_channels // groups, (group + 1) * in_channels // groups)
            outs = slice(group * of_group, (group + 1) * of_group)
            for k in range(kernel):
                first = k * dilation
                yield ins, outs, k, slice(first, first + (length - 1) * stride + 1, stride)

    for ins, outs, k, at in places():
        full[:, outs, at] += np.einsum("io,nil->nol", weight[ins, :, k], x[:, ins])
    y = full[:, :, padding : whole - padding].copy()
    if "bias" in w:
        y += w["bias"][:, np.newaxis]

    def back(dy: Array) -> Array:
        dfull, dx = np.zeros_like(full), np.zeros_like(x)
        dfull[:, :, padding : whole - padding] = dy
        for ins, outs, k, at in places():
            grads["weight"][ins, :, k] += np.einsum("nil,nol->io", x[:, ins], dfull[:, outs, at])
            dx[:, ins] += np.einsum("io,nol->nil", weight[ins, :, k], dfull[:, outs, at])
        if "bias" in w:
            grads["bias"] += dy.sum(axis=(0, 2))
        return dx

    return y, back


# ---- pooling ------------------------------------------------------------------------------------

Window = tuple[NDArray[np.intp], int]  # the places of its numbers, and how many there are with the padding


def windows(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> list[Window]:
    span = dilation * (kernel - 1) + 1
    room = size + 2 * padding - span
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    found = []
    for o in range(count):
        places = o * stride - padding + dilation * np.arange(kernel)
        inside = places[(places >= 0) & (places < size)]
        found.append((inside, int((places < size + padding).sum())))
    return found


def adaptive_windows(size: int, count: int) -> list[Window]:
    ends = [(o * size // count, -(-(o + 1) * size // count)) for o in range(count)]
    return [(np.arange(first, end), end - first) for first, end in ends]


def pooled(layer: str, x: Array, rows: list[Window], cols: list[Window], given: Mapping[str, Any]) -> Result:
    """Windows over rows and columns of ``(N, C, rows, columns)``."""
    y = np.empty((*x.shape[:2], len(rows), len(cols)))
    divisors = np.empty(y.shape[2:])
    for r, (some_rows, high) in enumerate(rows):
        for c, (some_cols, wide) in enumerate(cols):
            part = x[:, :, some_rows[:, np.newaxis], some_cols].reshape(*x.shape[:2], -1)
            counted = high * wide if given.get("count_include_pad", True) else part.shape[2]
            divisors[r, c] = given.get("divisor_override") or counted
            if "Max" in layer:
                y[:, :, r, c] = part.max(axis=2, initial=-np.inf)
            else:
                y[:, :, r, c] = part.sum(axis=2) / divisors[r, c]

    def back(dy: Array) -> Array:
        dx = np.zeros_like(x)
        for r, (some_rows, _) in enumerate(rows):
            for c, (some_cols, _) in enumerate(cols):
                places = np.array([(i, j) for i in some_rows for j in some_cols]).reshape(-1, 2)
                part = x[:, :, places[:, 0], places[:, 1]]
                if "Avg" in layer:
                    for i, j in places:
                        dx[:, :, i, j] += dy[:, :, r, c] / divisors[r, c]
                    continue
                for n, channel in np.ndindex(*x.shape[:2]):
                    if len(places):
                        i, j = places[part[n, channel].argmax()]
                        dx[n, channel, i, j] += dy[n, channel, r, c]
        return dx

    return y, back


def pool(layer: str, x: Array, given: Mapping[str, Any]) -> Result:
    flat = layer.endswith("1d")
    wide = x[:, :, np.newaxis] if flat else x
    if layer.startswith("Adaptive"):
        wanted = (None, single(given["output_size"])) if flat else pair(given["output_size"])
        rows, cols = (
            adaptive_windows(size, size if count is None else count)
            for size, count in zip(wide.shape[2:], wanted, strict=True)
        )
    else:
        stride = given["kernel_size"] if given.get("stride") is None else given["stride"]
        sizes = (given["kernel_size"], stride, given.get("padding", 0), given.get("dilation", 1))
        ceil = given.get("ceil_mode", False)
        pairs = [
            (plain, single(size)) if flat else pair(size)
            for plain, size in zip((1, 1, 0, 1), sizes, strict=True)
        ]
        rows, cols = (
            windows(size, *of_axis, ceil)
            for size, of_axis in zip(wide.shape[2:], zip(*pairs, strict=True), strict=True)
        )
    y, back = pooled(layer, wide, rows, cols, given)
    if not flat:
        return y, back
    return y[:, :, 0], lambda dy: back(dy[:, :, np.newaxis])[:, :, 0]


# ---- normalisation ------------------------------------------------------------------------------


def group_norm(w: Tensors, grads: Grads, x: Array, groups: int, eps: float) -> Result:
    """Each group of channels of each frame; an instance norm has as many groups as channels."""
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(axis=2, keepdims=True)
    scale = 1 / np.sqrt(((parts - mean) ** 2).mean(axis=2, keepdims=True) + eps)
    n = ((parts - mean) * scale).reshape(x.shape)
    others = tuple(axis for axis in range(x.ndim) if axis != 1)

    def channels(name: str, absent: float) -> Any:
        return w[name].reshape(-1, *[1] * (x.ndim - 2)) if name in w else absent

    def back(dy: Array) -> Array:
        if "weight" in w:
            grads["weight"] += (dy * n).sum(axis=others)
        if "bias" in w:
            grads["bias"] += dy.sum(axis=others)
        d, flat = (dy * channels("weight", 1.0)).reshape(parts.shape), n.reshape(parts.shape)
        along = (d * flat).mean(axis=2, keepdims=True)
        return (scale * (d - d.mean(axis=2, keepdims=True) - flat * along)).reshape(x.shape)

    return n * channels("weight", 1.0) + channels("bias", 0.0), back


# ---- by name ------------------------------------------------------------------------------------


def run(layer: str, given: Mapping[str, Any], w: Tensors, grads: Grads, x: Array) -> Result | None:
    """One of these layers; None for another kind."""
    if "Pool" in layer:
        return pool(layer, x, given)
    if layer == "Conv2d":
        return conv2d(w, grads, x, given)
    if layer == "ConvTranspose1d":
        return conv_transpose1d(w, grads, x, given)
    if layer == "GroupNorm":
        return group_norm(w, grads, x, given["num_groups"], given.get("eps", 1e-5))
    if layer.startswith("InstanceNorm"):
        return group_norm(w, grads, x, x.shape[1], given.get("eps", 1e-5))
    return None


def forward(layer: str, given: Mapping[str, Any], w: Tensors, x: Array) -> Array | None:
    """One of these layers on an array with any axes before its frames; None for another kind."""
    if not layer.endswith(("1d", "2d", "GroupNorm")):
        return None
    axes = x.ndim - 1 if layer == "GroupNorm" else 1 + int(layer[-2])
    lead = x.shape[: x.ndim - axes]
    found = run(layer, given, w, {}, x.reshape(-1, *x.shape[len(lead) :]))
    return None if found is None else found[0].reshape(*lead, *found[0].shape[1:])
