"""Reductions over axes of the frame or over time, softmax and norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyrnn import activations, frames
from tinyrnn.importing import Unfit, weighted
from tinyrnn.layers import (
    BatchNorm1d,
    GroupNorm,
    LayerNorm,
    LogSoftmax,
    Softmax,
)
from tinyrnn.onnx.attention import Scores, Weighted
from tinyrnn.onnx.folding import axes_of, axis_of
from tinyrnn.onnx.nodes import Call
from tinyrnn.onnx.pairs import Pairs
from tinyrnn.onnx.symbols import (
    TIME,
    Known,
    Symbol,
    claim_rows,
    claim_time,
    constant,
    frame_size,
    has,
    reframed,
    sizes_of,
)
from tinyrnn.temporal import MaxOverTime, MeanOverTime, SumOverTime
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

# ---- reductions and norms --------------------------------------------------------------------------------


def reduction(
    frame: Callable[..., Any], time: Callable[[], Any] | None, first: Callable[[Value], Value] | None = None
) -> Callable[[Call], Any]:
    """A reduction over axes of the frame, or over time; ``first`` is done with each number before."""

    def done(call: Call) -> Any:
        x: Any = call.get(0)
        if not (isinstance(x, (Pairs, Weighted)) and frame is frames.Sum and first is None):
            x = call.symbol(0) if first is None else call.symbol(0).mapped(first)
        if call.has(1):
            call.array(1, "axes")
        given = call.fold().ints("axes", 1)
        if not given and call.attributes.get("noop_with_empty_axes"):
            return x
        axes = axes_of(given, x.rank) if given else tuple(range(x.rank))
        keep = bool(call.attributes.get("keepdims", 1))
        if isinstance(x, (Pairs, Weighted)):
            return x.summed(axes, keep)
        return reduced(x, axes, keep, frame, time)

    return done


def reduced(x: Symbol, axes: Sequence[int], keep: bool, frame: Any, time: Any) -> Symbol:
    """A value with fewer axes, or with axes of size 1."""
    for axis in axes:
        claim_time(x, axis)
    timed = [axis for axis in axes if has(x.axes[axis], TIME)]
    for axis in timed:
        if time is None or len(x.axes[axis]) > 1:
            raise Unfit("reduces the steps in a way that no layer of tinyrnn does")
        left = [() if i == axis else one for i, one in enumerate(x.axes)]
        x = Symbol(time()(x.value), left)
    within = [axis for axis in axes if axis not in timed]
    groups: list[list[int]] = []  # whether it is reduced, and its size
    for axis, atoms in enumerate(x.axes):
        size, gone = frame_size(atoms), int(axis in within)
        if gone:
            x.frame_axis(axis)
        if groups and (groups[-1][0] == gone or size == 1):
            groups[-1][1] *= size
        else:
            groups.append([gone, size])
    groups = [group for group in groups if group[1] > 1]
    left = [() if i in axes else one for i, one in enumerate(x.axes)]
    value = x.value
    dims = tuple(i - len(groups) for i, (gone, _) in enumerate(groups) if gone)
    if within:
        value = reframed(value, [size for _, size in groups])
        if dims:
            value = frame(dims)(value)
        elif frame is frames.VectorNorm:  # others leave one number as it is
            value = activations.Abs()(value)
    if not keep:
        left = [one for i, one in enumerate(left) if i not in axes]
    return Symbol(value, left, x.reversed and any(has(axis, TIME) for axis in left))


def over_all(frame: Callable[..., Any], time: Callable[[], Any]) -> Callable[[Call], Symbol]:
    """A pool over all of the axes behind the channels."""
    return lambda call: reduced(call.symbol(0), range(2, call.symbol(0).rank), True, frame, time)


def softmax(kind: Callable[[int], Any]) -> Callable[[Call], Symbol]:
    def done(call: Call) -> Symbol:
        x = call.padded(0)
        axis = axis_of(call.attributes.get("axis", -1 if call.opset >= 13 else 1), x.rank)
        if isinstance(x, Scores) and kind is Softmax and (found := x.weighted(axis)):
            return found
        x = call.symbol(0)
        if call.opset < 13 and any(sizes_of(one) != (1, 1) for one in x.axes[axis + 1 :]):
            raise Unfit("is of an opset below 13 and goes over several axes, expected the last one")
        claim_time(x, axis)
        if x.axes[axis] and x.axes[axis][0].kind == TIME and len(x.axes[axis]) == 1:
            return _softmax_over_time(x, kind is LogSoftmax)
        value, dim = x.along(axis)
        if dim == -1:
            return Symbol(kind(-1)(value), x.axes, x.reversed)
        transposed = kind(-1)(value.transpose(-1, -2)).transpose(-1, -2)
        return Symbol(transposed, x.axes, x.reversed)

    return done


def _softmax_over_time(x: Symbol, is_log: bool) -> Symbol:
    """``exp(x - max) / sum(exp(x - max))`` over the steps, within the lengths."""
    less = x.value - applied(MaxOverTime(), (x.value,))
    powers = applied(activations.Exp(), (less,))
    total = applied(SumOverTime(), (powers,))
    return Symbol(
        less - applied(activations.Log(), (total,)) if is_log else powers / total, x.axes, x.reversed
    )


def batch_norm(call: Call) -> Symbol:
    x = call.symbol(0)
    if x.rank > 1:
        claim_rows(x)
    if call.attributes.get("training_mode"):
        raise Unfit("is in training mode, expected inference")
    axis = 1 if x.rank > 1 else 0
    if any(isinstance(call.get(1 + i), Symbol) for i in range(4)):
        return _by_statistics(call, x, axis)
    weight, bias, mean, var = (call.array(1 + i).reshape(-1) for i in range(4))
    if not len(weight) == len(bias) == len(mean) == len(var) == x.frame_axis(axis):
        raise Unfit(f"has statistics of {len(mean)} channels for {x.frame_axis(axis)}")
    value, _ = x.along(axis)
    if value.frame[0] != len(mean):
        raise Unfit("the channels are not the first axis of a frame")
    eps = float(call.attributes.get("epsilon", 1e-5))
    layer = weighted(
        BatchNorm1d(len(mean), eps=eps), weight=weight, bias=bias, running_mean=mean, running_var=var
    )
    return Symbol(layer.eval()(value), x.axes, x.reversed)


def _by_statistics(call: Call, x: Symbol, axis: int) -> Symbol:
    """A batch norm with statistics that the net computes, as TensorFlow's norm of layers has it."""

    def along(given: Any) -> Any:
        """A number for each place of the axis."""
        behind = x.rank - axis - 1
        if isinstance(given, Symbol):
            return given.with_axes([*given.axes, *[()] * behind])
        alike = all(one.size and np.all(one == one.flat[0]) for one in given.worlds)  # ones and zeros, mostly
        return Known(*(one.reshape(-1, *[1] * behind)[: 1 if alike else None] for one in given.worlds))

    def done(op: str, *given: Any) -> Any:
        return call.builder.node_of(call, op, given)

    scale, bias, mean, var = (along(call.get(1 + i)) for i in range(4))
    eps = Known(np.array(call.attributes.get("epsilon", 1e-5), np.float32))
    unit = done("Div", done("Sub", x, mean), done("Sqrt", done("Add", var, eps)))
    found: Symbol = done("Add", done("Mul", unit, scale), bias)
    return found


def layer_norm(call: Call) -> list[Symbol]:
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", -1), x.rank)
    size = math.prod(x.frame_axis(i) for i in range(axis, x.rank))
    before = math.prod(map(frame_size, x.axes[:axis]))
    scale = call.array(1, "Scale").reshape(-1)
    bias = call.array(2, "B").reshape(-1) if call.has(2) else np.zeros(size, np.float32)
    if not len(scale) == len(bias) == size:
        raise Unfit(f"has {len(scale)} scales for {size} numbers")
    eps = float(call.attributes.get("epsilon", 1e-5))
    layer = weighted(LayerNorm(size, eps), weight=scale, bias=bias)
    found = [Symbol(layer(x.framed((before, size) if before > 1 else (size,))), x.axes, x.reversed)]
    if call.outputs > 1 and size > 1:
        kinds = (frames.Mean, lambda dims: frames.Var(dims, 0))
        mean, var = (reduced(x, range(axis, x.rank), True, kind, None) for kind in kinds)
        deviation = var.mapped(lambda value: (value + eps) ** -0.5)
        found += [mean, deviation]
    return found


def _normalised(x: Symbol, groups: int, eps: float, scale: Array, bias: Array) -> Symbol:
    """Less the mean of each group of channels over all steps, and divided by their standard deviation."""
    size = math.prod(x.value.frame)
    value = x.framed((groups, size // groups))

    def mean(of: Value) -> Value:
        steps = applied(MeanOverTime(), (of,))
        return steps if size == groups else applied(frames.Mean(-1, True), (steps,))

    rest = value - mean(value)
    unit = rest / applied(activations.Sqrt(), (mean(rest * rest) + eps,))
    unit = reframed(unit, (len(scale), size // len(scale)))
    found = unit * constant(scale[:, None], value) + constant(bias[:, None], value)
    return Symbol(reframed(found, x.value.frame), x.axes, x.reversed)


def group_norm(call: Call) -> Symbol:
    """A norm of groups of channels; an InstanceNormalization has one of each."""
    x = call.symbol(0)
    claim_rows(x)
    scale, bias = call.array(1).reshape(-1), call.array(2).reshape(-1)
    channels = x.frame_axis(1)
    groups = call.attributes.get("num_groups", channels)
    if not len(scale) == len(bias) == channels:
        raise Unfit(f"has {len(scale)} scales for {channels} channels")
    eps = float(call.attributes.get("epsilon", 1e-5))
    for axis in range(2, x.rank):
        claim_time(x, axis)
    if any(has(axis, TIME) for axis in x.axes[2:]):
        return _normalised(x, groups, eps, scale, bias)
    value, _ = x.along(1)
    return Symbol(
        weighted(GroupNorm(groups, channels, eps), weight=scale, bias=bias)(value), x.axes, x.reversed
    )
