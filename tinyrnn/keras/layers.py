"""Keras' layers as layers of tinyrnn: `LAYERS` has a line for each.

A function takes a `Call` and returns a `Seen`, or a list of what the layer returns. Layers that are models,
and `TimeDistributed`, are in `build`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinyrnn import activations, frames, ops
from tinyrnn.attention import AdditiveAttention, DotProductAttention
from tinyrnn.importing import Unfit, step_of, weighted
from tinyrnn.keras.recurrent import bidirectional, one_step, plain
from tinyrnn.keras.symbols import Call, Seen, place_of, reframed, same_time
from tinyrnn.keras.windows import (
    conv,
    cropping,
    depthwise,
    global_pool,
    pool,
    transposed_conv,
    up_sampling,
    zero_padding,
)
from tinyrnn.layers import BatchNorm1d, BatchNorm2d, Embedding, GroupNorm, LayerNorm, Linear, Softmax
from tinyrnn.ops import concat, matmul
from tinyrnn.temporal import Masking, MaxOverTime, MeanOverTime, Repeat, SumOverTime
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array, shown

MOST_STEPS = 64  # that a model takes by their numbers
MOST_CLASSES = 4096  # of indices that become ones among zeros


def same(call: Call) -> Seen:
    """A layer that changes nothing outside training."""
    return call.x


def masking(call: Call) -> Seen:
    """Masking: the steps that it marks are those beyond the lengths of a call, or 0 in a value of the net."""
    x, name = call.x, call.builder.new_mask(call.entry.name)
    number = float(call.get("mask_value", 0.0))
    if not call.builder.plan.computes_masks or ((len(x.shape) != 1 or x.masked) and not number):
        return replace(x, masked=name)
    if len(x.shape) != 1 or x.masked:
        raise Unfit(f"masks frames of shape {x.shape} or twice by {number}, expected one axis, once")
    mask = applied(Masking(number), (x.value,))
    value = x.value * mask if number else x.value
    return replace(x, value=value, masked=call.builder.new_mask(name, mask))


# ---- products, norms -----------------------------------------------------------------------------------


def dense(call: Call) -> Seen:
    x = call.x
    if not x.shape:
        raise Unfit("reads indices, expected numbers")
    units = call.whole("units")
    kernel = call.array("kernel", (x.shape[-1], units))
    bias = call.array("bias", (units,)) if call.get("use_bias", True) else None
    return call.activated(call.dense(x, kernel, bias))


def einsum_dense(call: Call) -> Seen:
    """EinsumDense: a matrix times the last axes."""
    x, text = call.x, str(call.get("equation"))
    found = re.fullmatch(r"(.*?)(\w+),\2(\w+)->\1\3", text) if len(text) < 60 else None
    count, news = (len(found[2]), len(found[3])) if found else (9, 0)
    if found is None or count > len(x.shape) or found[1] not in ("...", text[: x.rank - count]):
        raise Unfit(f"equation is {shown(text, 60)}, expected the last axes: abx,xy->aby")
    frame = x.shape[:-count]
    kernel = call.array("kernel", (*x.shape[-count:], *[None] * news))
    bias = np.broadcast_to(call.array("bias"), kernel.shape[count:]) if call.get("bias_axes") else None
    y = call.dense(x.new(reframed(x.last(), (*frame, math.prod(x.shape[-count:])))), kernel, bias)
    return call.activated(y.new(reframed(y.value, (*frame, *kernel.shape[count:]))))


def embedding(call: Call) -> Seen:
    x = call.x
    index = call.builder.index(x)
    table = call.array("embeddings", (call.whole("input_dim"), call.whole("output_dim")))
    value = call.put("", lambda: weighted(Embedding(*table.shape), weight=table), index)
    call.builder.embedded.setdefault(str(index.label), value)
    if not call.get("mask_zero", False):
        return x.new(value, masked="")
    mask = call.builder.not_zero(x) if call.builder.plan.computes_masks else None
    return x.new(value, masked=call.builder.new_mask(call.entry.name, mask))


def one_hot(call: Call) -> Seen:
    """OneHot and CategoryEncoding: an index becomes a one among zeros."""
    x, count = call.x, call.whole("num_tokens", call.get("num_classes"))
    call.refuse("output_mode", "one_hot")
    call.refuse("on_value", None, 1)
    call.refuse("off_value", None, 0)
    if call.get("axis", -1) not in (-1, x.rank) or count > MOST_CLASSES:
        raise Unfit(f"writes {count} classes, expected up to {MOST_CLASSES}, along a last axis")
    y = x.new(call.builder.looked_up(x, np.eye(count)))
    return y.alone(step_of(y.value, 0)) if call.entry.kind == "CategoryEncoding" and x.steps == 1 else y


def in_channel(call: Call) -> Seen:
    """The one value that a norm of its last axis reads."""
    if place_of(call, call.get("axis", -1), call.x) != -1:
        raise Unfit(f"axis is {call.get('axis')!r}, expected the last one, -1")
    return call.x


def batch_norm(call: Call) -> Seen:
    shape = in_channel(call).shape[-1:]
    moments = {
        "running_mean": call.array("moving_mean", shape),
        "running_var": call.array("moving_variance", shape),
    }
    return normed(call, _scales(call, shape) | moments, call.number("epsilon", 1e-3))


def normed(call: Call, tensors: dict[str, Array], eps: float = 0.0) -> Seen:
    """A value normalised by channel with numbers that do not change."""
    x, size = call.x, call.x.shape[-1]
    kind: Any = BatchNorm2d if len(x.shape) == 3 else BatchNorm1d
    layer = lambda: weighted(kind(size, eps=eps), **tensors).eval()  # noqa: E731
    return x.in_channels(call.put("", layer, x.channels()), x.shape)


def _scales(call: Call, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        name: call.array(theirs, shape) if call.get(key, True) else np.full(shape, fill, np.float32)
        for name, theirs, key, fill in (("weight", "gamma", "scale", 1.0), ("bias", "beta", "center", 0.0))
    }


def layer_norm(call: Call) -> Seen:
    x = call.x
    axes = call.get("axis", -1)
    places = sorted(place_of(call, one, x) for one in (axes if isinstance(axes, list) else [axes]))
    if places != list(range(-len(places), 0)) or len(places) > 2:
        raise Unfit(f"axis is {axes!r}, expected the last one or two axes of a frame")
    call.refuse("rms_scaling", False)
    shape = x.shape[-len(places) :]
    eps = call.number("epsilon", 1e-3)
    layer = lambda: weighted(LayerNorm(shape, eps), **_scales(call, shape))  # noqa: E731
    return x.new(call.put("", layer, x.last()))


def rms_norm(call: Call) -> Seen:
    x = in_channel(call)
    value = x.last()
    mean = activations.Scale(1.0, call.number("epsilon", 1e-6))((value * value).mean(-1, True))
    y = x.new(value / applied(activations.Sqrt(), (mean,)))
    return scaled(replace(call, given=[y]), call.array("scale", x.shape[-1:]), np.zeros(1))


def group_norm(call: Call) -> Seen:
    x = call.x
    if in_channel(call).timed:
        raise Unfit("normalises over the steps, expected frames")
    size, groups = x.shape[-1], call.get("groups", 32)
    groups = size if groups == -1 else call.whole("groups", 32)
    eps = call.number("epsilon", 1e-3)
    layer = lambda: weighted(GroupNorm(groups, size, eps), **_scales(call, (size,)))  # noqa: E731
    return x.in_channels(call.put("", layer, x.channels()), x.shape)


def unit_norm(call: Call) -> Seen:
    x = call.x
    axes = call.get("axis", -1)
    places = tuple(place_of(call, one, x) for one in (axes if isinstance(axes, list) else [axes]))
    if 0 in places:
        raise Unfit("normalises over the steps, expected axes of a frame")
    return over_norm(x, places)


def over_norm(x: Seen, places: tuple[int, ...]) -> Seen:
    """A value divided by its norm over some axes of its frame."""
    value = x.last()
    return x.new(value / applied(activations.Clip(1e-12), (value.norm(places, True),)))


def rescaling(call: Call) -> Seen:
    return scaled(call, call.numbers("scale"), call.numbers("offset", 0.0))


def normalization(call: Call) -> Seen:
    """Normalization: mean and variance are in the configuration, or tensors that `adapt` made."""
    axes = call.get("axis", -1)
    axes = [] if axes is None else axes if isinstance(axes, list) else [axes]
    if any(place_of(call, one, call.x) != -1 for one in axes):
        raise Unfit(f"axis is {shown(repr(axes), 60)}, expected the last one or None")
    if call.get("mean") is None:
        mean, variance, _ = (call.array(name) for name in ("mean", "variance", "count"))
    else:
        mean, variance = call.numbers("mean"), call.numbers("variance")
    deviation = np.maximum(np.sqrt(variance.astype(np.float64)), 1e-7)
    if call.get("invert", False):
        return scaled(call, deviation, mean)
    return scaled(call, 1 / deviation, -mean / deviation)


def scaled(call: Call, *pair: Array) -> Seen:
    """A value times a number plus another, or numbers for each channel."""
    sizes = {one.size for one in pair} - {1}
    if not sizes:
        return call.x.mapped(activations.Scale(*(float(one.reshape(())) for one in pair)))
    if sizes != {call.x.shape[-1]}:
        raise Unfit(f"has numbers for {max(sizes)} channels, but reads frames of shape {call.x.shape}")
    one = np.ones(max(sizes))
    weight, bias = (one * each.reshape(-1) for each in pair)
    return normed(call, {"weight": weight, "bias": bias, "running_mean": 0 * one, "running_var": one})


# ---- activations -----------------------------------------------------------------------------------------


def activation(call: Call) -> Seen:
    return call.activated(call.x)


def relu(call: Call) -> Seen:
    most, threshold = call.get("max_value"), call.number("threshold", 0.0)
    slope = call.get("negative_slope", call.get("alpha", 0.0))
    if threshold != 0.0:
        raise Unfit(f"threshold is {threshold}, expected 0")
    layer: Any = activations.LeakyReLU(float(slope)) if slope else activations.ReLU()
    y = call.x.mapped(layer)
    return y if most is None else y.mapped(activations.Clip(None, call.number("max_value")))


def leaky_relu(call: Call) -> Seen:
    key = "negative_slope" if "negative_slope" in call.entry.config else "alpha"
    return call.x.mapped(activations.LeakyReLU(call.number(key, 0.3)))


def elu(call: Call) -> Seen:
    return call.x.mapped(activations.ELU(call.number("alpha", 1.0)))


def prelu(call: Call) -> Seen:
    """PReLU: ``max(x, 0) + alpha * min(x, 0)``, with numbers of its own for each place of a frame."""
    x = call.x
    alpha = call.array("alpha")
    if x.timed and alpha.shape[:1] == (1,):
        alpha = alpha[0]
    x = x if alpha.ndim == len(x.shape) else x.framed()
    value = x.last()
    if alpha.ndim != len(x.shape):
        raise Unfit(f"alpha has shape {alpha.shape}, but reads frames of shape {x.shape}")
    one = reframed(value.mean() * 0.0 + 1.0, (1,))
    flat = call.put("", lambda: weighted(Linear(1, alpha.size, bias=False), weight=alpha.reshape(-1, 1)), one)
    below = applied(activations.Clip(None, 0.0), (value,)) * reframed(flat, alpha.shape)
    return x.new(applied(activations.ReLU(), (value,)) + below, x.shape)


def softmax(call: Call) -> Seen:
    x = call.x
    place = place_of(call, call.get("axis", -1), x)
    if place == 0:
        call.builder.heeds(x)
        less = x.value - applied(MaxOverTime(), (x.value,))
        powers = applied(activations.Exp(), (less,))
        return replace(x, value=powers / applied(SumOverTime(), (powers,)))
    value = x.last()
    if place == -1:
        return x.new(applied(Softmax(-1), (value,)))
    return x.new(applied(Softmax(-1), (value.transpose(place, -1),)).transpose(place, -1))


# ---- shapes ------------------------------------------------------------------------------------------------


def flatten(call: Call) -> Seen:
    call.refuse("data_format", "channels_last", None)
    call.builder.drops(call.x)
    return call.x.flat()


def reshape(call: Call) -> Seen:
    x = call.unmasked
    target = call.get("target_shape")
    if target is None:  # of an operation, which has the batch before it
        batch, *target = call.get("newshape") or [None]
        if batch not in (-1, None) or not target:
            raise Unfit(f"newshape begins with {batch!r}, expected -1 for the batch, and axes behind it")
    if not isinstance(target, list) or not all(isinstance(n, int) and -1 <= n <= 2**28 for n in target):
        raise Unfit(f"target_shape is {shown(repr(target), 60)}, expected a list of integers")
    frame, numbers = tuple(target[1:]), math.prod(x.shape)
    keeps = target and (target[0] in (-1, x.steps) and target[0] is not None)
    fits = math.prod(frame) == numbers or (-1 in frame and target[:1] != [-1])
    if x.timed and keeps and frame and fits:
        return x.new(reframed(x.last(), _filled(frame, numbers)))
    flat = x.flat()
    return flat.new(reframed(flat.value, _filled(target, flat.shape[0])))


def _filled(shape: Sequence[int], numbers: int) -> tuple[int, ...]:
    """A shape with its -1 worked out."""
    given = math.prod(one for one in shape if one != -1)
    found = tuple(numbers // given if one == -1 and given else one for one in shape)
    if shape.count(-1) > 1 or math.prod(found) != numbers:
        raise Unfit(f"gives {numbers} numbers the shape {tuple(shape)}, expected as many")
    return found


def permute(call: Call) -> Seen:
    x = call.unmasked
    dims = call.get("dims")
    if dims is None and (call.get("axes") or [1])[0] == 0:  # of an operation, which counts the batch
        dims = call.get("axes")[1:]
    if not isinstance(dims, list) or sorted(map(str, dims)) != sorted(map(str, range(1, x.rank))):
        raise Unfit(f"dims is {shown(repr(dims), 60)}, expected each of 1 .. {x.rank - 1} once")
    if x.timed and dims[0] == 1:
        value = x.last()
        order = [dim - x.rank for dim in dims[1:]]
        return x.new(value.permute(*order) if len(order) > 1 else value)
    x = x.framed()
    order = [dim - x.rank for dim in dims]
    value = x.last()
    return x.new(value.permute(*order) if len(order) > 1 else value)


def repeat(call: Call) -> Seen:
    """RepeatVector: at each step of an input that has as many."""
    x, count = call.x, call.whole("n")
    if x.timed or len(x.shape) != 1:
        raise Unfit(f"reads frames of shape {x.shape}, expected one frame of one axis for a row")
    like = call.builder.with_steps(count)
    return Seen(Repeat()(x.last(), like), x.shape, True, count)


# ---- merges ------------------------------------------------------------------------------------------------


def together(call: Call) -> list[Seen]:
    """The values that a layer merges."""
    if not call.given:
        raise Unfit("reads no values, expected some")
    same_time(call.given)
    given = call.given
    masked = next((one.masked for one in given if one.masked and not one.lost), "")
    if masked and call.builder.major == 2:  # the mask of one is that of all, since Keras 3 of none
        given = [one if one.masked else replace(one, masked=masked) for one in given]
    masks = {one.masked for one in given if one.masked or call.entry.kind == "Concatenate"}
    if call.builder.masks and len(masks) > 1:
        for one in given:
            call.builder.heeds(one)
    if not all(one.masked and not one.lost for one in given):  # the steps count again
        for one in given:
            call.builder.drops(one)
    return met(given)


def met(xs: Sequence[Seen]) -> list[Seen]:
    """Values as they meet: where the steps of one are the first axis of its frame, so are those of all."""
    ranks = {one.rank for one in xs if one.timed}
    if any(not one.timed and {one.rank} == ranks and one.shape[0] > 1 for one in xs):
        return [one.framed() for one in xs]
    return [meeting(one, xs) for one in xs]


def meeting(x: Seen, others: Sequence[Seen]) -> Seen:
    """A value as it meets each step of others, if it is one step alone."""
    ranks = [one.rank for one in others if one.timed]
    if x.timed or len(x.shape) < 2 or max(ranks, default=9) > x.rank:
        return x
    if x.shape[0] != 1 or min(ranks) < x.rank:
        raise Unfit(f"meets steps with frames of shape {x.shape}, whose first axis is the steps to Keras")
    return x.alone(reframed(x.last(), x.shape[1:]))


def merged(xs: Sequence[Seen], value: Value, shape: Sequence[int] | None = None) -> Seen:
    """A value made of several ones."""
    like = next((one for one in xs if one.timed), xs[0])
    steps = next((one.steps for one in xs if one.timed and one.steps is not None), None)
    masked = xs[0].masked if all(one.masked for one in xs) else ""
    return like.new(value, shape, steps=steps, masked=masked)


def of_all(kind: Callable[[], Any]) -> Callable[[Call], Seen]:
    """An operation of two values, for any number of them."""

    def done(call: Call) -> Seen:
        xs = together(call)
        if len(xs) < 2:
            raise Unfit("reads 1 value, expected several")
        value = xs[0].last()
        for one in xs[1:]:
            value = applied(kind(), (value, one.last()))
        return merged(xs, value)

    return done


def subtract(call: Call) -> Seen:
    xs = together(call)
    if len(xs) != 2:
        raise Unfit(f"reads {len(xs)} values, expected 2")
    return merged(xs, xs[0].last() - xs[1].last())


def average(call: Call) -> Seen:
    y = of_all(ops.Add)(call)
    return y.mapped(activations.Scale(1 / len(call.given)))


def concatenate(call: Call) -> Seen:
    xs = together(call)
    axis = call.get("axis", -1)
    places = {place_of(call, axis, one) for one in xs}
    if len(places) > 1 or 0 in places or len({one.timed for one in xs}) > 1:
        raise Unfit(f"axis is {axis!r}, the steps or another axis for each value, expected one of a frame")
    return merged(xs, concat([one.last() for one in xs], places.pop()))


def dot(call: Call) -> Seen:
    axes = call.get("axes")
    pair = axes if isinstance(axes, list) else [axes, axes]
    if len(call.given) != 2 or len(pair) != 2:
        raise Unfit(f"reads {len(call.given)} values on axes {axes!r}, expected 2")
    places = [place_of(call, one, x) for one, x in zip(pair, call.given, strict=True)]
    xs = [*call.given]
    if call.get("normalize", False):
        if 0 in places:
            raise Unfit("normalises over the steps, expected axes of a frame")
        xs = [over_norm(x, (place,)) for x, place in zip(xs, places, strict=True)]
    return contracted(call, xs, places)


def contracted(call: Call, pair: Sequence[Seen], places: Sequence[int]) -> Seen:
    """The products of two values, summed over an axis of each, which `place_of` gave."""
    (a, b), (i, j) = pair, places
    for one in pair:
        call.builder.drops(one)
    if a.timed and b.timed and i == j == 0:
        same_time([a, b])
        row = matmul(*(reframed(one.last(), shape) for one, shape in ((a, (-1, 1)), (b, (1, -1)))))
        return a.alone(reframed(applied(SumOverTime(), (row,)), (*a.shape, *b.shape)))
    if not i:
        a = a.framed()
        i = -len(a.shape)
    b = b.framed()
    j = j or -len(b.shape)
    rows, columns = [*a.shape], [*b.shape]
    size = rows.pop(i)
    if columns.pop(j) != size:
        raise Unfit(f"sums over {size} numbers of one value and {b.shape[j]} of another, expected as many")
    left, right = moved(a.last(), i, -1), moved(b.last(), j, -len(b.shape))
    left, right = reframed(left, (math.prod(rows), size)), reframed(right, (size, math.prod(columns)))
    return a.new(reframed(matmul(left, right), (*rows, *columns) or (1,)), masked="")


def moved(value: Value, place: int, to: int) -> Value:
    """A value with an axis of its frame at another place."""
    order = [one for one in range(-len(value.frame), 0) if one != place]
    order.insert(len(order) + 1 + to, place)
    return value.permute(*order) if order != sorted(order) else value


# ---- attention ---------------------------------------------------------------------------------------------


def _parts(call: Call) -> tuple[Seen, Seen, Seen]:
    """The query, the keys and the values."""
    for name in ("attention_mask", "mask"):
        if call.kwargs.get(name) is not None:
            raise Unfit(f"reads {name}, expected none: a mask of steps is that of a Masking or an Embedding")
    given = call.given
    if len(given) not in (2, 3):
        raise Unfit(f"reads {len(given)} values, expected query, value and key")
    query, value, key = given[0], given[1], given[-1]
    for one in (query, value, key):
        if one.whole().backwards or len(one.shape) > 1 + (not one.timed):
            raise Unfit("reads sequences from their end or frames of several axes, expected rows of numbers")
        call.builder.heeds(one)
    if not key.timed or not value.timed:
        raise Unfit("reads keys without steps, expected a sequence")
    same_time([key, value])
    return query, key, value


def attention(call: Call) -> Seen:
    """Attention and AdditiveAttention."""
    query, key, value = _parts(call)
    size = query.shape[-1]
    causal = bool(call.kwargs.get("use_causal_mask") or call.get("causal", False))
    q, k, v = query.last(), key.last(), value.last()
    additive = call.entry.kind == "AdditiveAttention"
    with_scale = call.get("use_scale", additive)
    if not additive and call.get("score_mode", "dot") == "dot":
        scale = float(call.array("scale", ())) if with_scale else 1.0
        return query.new(DotProductAttention(size, 1, scale, causal)(q, k, v), masked=query.masked)
    if causal:
        raise Unfit("is causal and adds the query to the keys, which no layer does")
    weight = np.ones(size, np.float32)
    if additive:
        weight = call.array("scale", (size,)) if with_scale else weight
    else:
        weight = weight * call.array("concat_score_weight", ())
        if with_scale:
            both = activations.Scale(float(call.array("scale", ())))
            q, k = applied(both, (q,)), applied(both, (k,))
    y = call.put("", lambda: weighted(AdditiveAttention(size), weight=weight), q, k, v)
    return query.new(y, masked=query.masked)


def heads(call: Call) -> Seen:
    """MultiHeadAttention."""
    query, key, value = _parts(call)
    count, size = call.whole("num_heads"), call.whole("key_dim")
    values = call.whole("value_dim", size) if call.get("value_dim") is not None else size
    call.refuse("output_shape", None)
    call.refuse("flash_attention", None, False)
    with_bias = call.get("use_bias", True)

    def projected(x: Seen, name: str, width: int) -> Value:
        kernel = call.array("kernel", (x.shape[-1], count, width), f"{name}/")
        bias = call.array("bias", (count, width), f"{name}/") if with_bias else None
        return call.dense(x, kernel, bias, name).value

    q, k = projected(query, "query_dense", size), projected(key, "key_dense", size)
    v = projected(value, "value_dense", values)
    causal = bool(call.kwargs.get("use_causal_mask"))
    y = query.new(DotProductAttention(count * size, count, None, causal)(q, k, v), masked=query.masked)
    kernel = call.array("kernel", (count, values, query.shape[-1]), "output_dense/")
    bias = call.array("bias", (query.shape[-1],), "output_dense/") if with_bias else None
    return call.dense(y, kernel, bias, "output_dense")


# ---- operations of Keras 3 ------------------------------------------------------------------------------


def arithmetic(kind: type[Any], count: int = 2) -> Callable[[Call], Seen]:
    """An operation of values and numbers."""

    def done(call: Call) -> Seen:
        given = [*call.args, *call.kwargs.values()]
        if len(given) != count or not all(isinstance(one, (Seen, int, float)) for one in given):
            raise Unfit(f"reads other things than {count} values or numbers")
        xs = [one for one in given if isinstance(one, Seen)]
        same_time(xs)
        if len({one.rank for one in xs}) > 1:
            raise Unfit("reads values of different numbers of axes, expected equal ones")
        xs = met(xs)
        values = iter(xs)
        pair = [next(values).last() if isinstance(one, Seen) else one for one in given]
        return merged(xs, ops._operands(kind(), pair))

    return done


def of_each(make: Callable[[], Any]) -> Callable[[Call], Seen]:
    return lambda call: call.x.mapped(make())


def reduction(kind: Callable[..., Any], over_time: Callable[[], Any]) -> Callable[[Call], Seen]:
    """A reduction over axes of the frame, over the steps, or over both."""

    def done(call: Call) -> Seen:
        x, given = call.x, call.get("axis")
        axes = [given] if isinstance(given, int) else given
        if not isinstance(axes, list) or not all(isinstance(i, int) and -x.rank < i < x.rank for i in axes):
            raise Unfit(f"axis is {shown(repr(given), 60)}, expected axes behind the batch")
        places = {i % x.rank - x.rank for i in axes}
        keeps, first = bool(call.get("keepdims", False)), -1 - len(x.shape)
        value = x.last()
        dims = tuple(i for i in places if i > first or not x.timed)
        if -x.rank in places or not places:
            raise Unfit("reduces the rows of the batch, which a net keeps apart")
        if dims:
            value = kind(dims, keeps)(value)
        if not x.timed or first not in places:
            return x.new(value)
        call.builder.drops(x)
        value = applied(over_time(), (value,))
        return x.alone(reframed(value, (1, *value.frame)) if keeps else value)

    return done


def gelu(call: Call) -> Seen:
    approximate = call.get("approximate", call.builder.major == 3)
    return call.x.mapped(activations.GELU("tanh" if approximate else "none"))


def flipped(call: Call) -> Seen:
    """Steps from the last to the first: the other order of a backward layer's outputs."""
    x = call.x
    if not x.timed or place_of(call, call.get("axis"), x):
        raise Unfit(f"axis is {call.get('axis')!r}, expected that of the steps")
    return replace(x, backwards=not x.backwards)


def stacked(call: Call) -> Seen:
    axis = call.get("axis", 0)
    xs = [expanded(one, axis) for one in together(call)]
    return merged(xs, concat([one.last() for one in xs], place_of(call, axis, xs[0])))


def expanded(x: Seen, axis: Any) -> Seen:
    """An axis of size 1 more; one before the steps would not be theirs."""
    if not isinstance(axis, int) or not -x.rank - 1 <= axis <= x.rank:
        raise Unfit(f"axis is {axis!r}, expected one of {x.rank + 1}")
    place = axis % (x.rank + 1) - 1 - x.timed
    if place < 0:
        raise Unfit("puts an axis before the steps or the batch, expected one of a frame")
    shape = (*x.shape[:place], 1, *x.shape[place:])
    return x.new(reframed(x.last(), shape))


def squeezed(call: Call) -> Seen:
    x, axis = call.x, call.get("axis")
    place = place_of(call, axis, x) if axis is not None else -9
    if not place and x.steps == 1:
        x, place = x.framed(), 1 - x.rank
    if not -len(x.shape) <= place < 0 or x.shape[place] != 1:
        raise Unfit(f"axis is {axis!r}, expected one of a frame, of size 1")
    shape = list(x.shape)
    del shape[place]
    return x.new(reframed(x.last(), shape))


def product(call: Call) -> Seen:
    """Matmul of matrices, one for each row of the batch."""
    if len(call.given) != 2 or any(one.rank != 3 for one in call.given):
        raise Unfit("multiplies other values than two of three axes")
    return contracted(call, call.given, [-1, place_of(call, 1, call.given[1])])


def item(call: Call) -> Seen:
    """A part of a value: ``x[:, -1]``, ``x[..., 2:5]``."""
    x = call.x
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    key = list(key) if isinstance(key, (list, tuple)) else [key]
    if key.count(...) > 1 or len(key) - key.count(...) > x.rank:
        raise Unfit("takes parts of more axes than there are")
    if ... in key:
        i = key.index(...)
        key[i : i + 1] = [slice(None, None, None)] * (x.rank - len(key) + 1)
    key += [slice(None, None, None)] * (x.rank - len(key))
    whole = slice(None, None, None)
    if key[0] != whole:
        raise Unfit("takes some rows of the batch, which a net keeps apart")
    if x.timed and key[1] != whole:
        x, key = steps_taken(call, x, key)
    else:
        key = [key[0], *key[1 + x.timed :]]
    value, shape = x.last(), []
    for place, part in zip(range(-len(x.shape), 0), key[1:], strict=True):
        size = value.frame[place]
        is_one = isinstance(part, int) and -size <= part < size
        if is_one:
            part = slice(part % size, part % size + 1)
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise Unfit(f"takes {part!r} of an axis of a frame, expected a number or a slice without a step")
        start, stop, _ = part.indices(size)
        if not is_one:
            shape.append(stop - start)
        if (start, stop) != (0, size):
            value = applied(ops.Slice(start, stop - start, place), (value,))
    return x.new(reframed(value, shape))


def steps_taken(call: Call, x: Seen, key: list[Any]) -> tuple[Seen, list[Any]]:
    """Take one step of a sequence, or some of them; returns the places in the frame that are left."""
    part, rest = key[1], key[2:]
    call.builder.drops(x)
    x = replace(x, masked="")
    if isinstance(part, int) and -MOST_STEPS <= part < MOST_STEPS:
        return x.alone(step_of(x.last(), ~part if x.backwards else part)), [key[0], *rest]
    if part == slice(None, None, -1):
        return replace(x, backwards=not x.backwards), [key[0], *rest]
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise Unfit(
            f"takes the steps {part!r}, expected a range, or one of the first or the last {MOST_STEPS}"
        )
    start, stop = part.start or 0, part.stop
    if start >= 0 and (stop is None or stop < 0):
        return x.cropped(start, -(stop or 0)), [key[0], *rest]
    if start < 0 and stop is None and not x.backwards:
        return x.latest(-start), [key[0], slice(None), *rest]
    return x.framed(), key


# ---- the list ------------------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[Call], Any]] = {
    "Activation": activation,
    "ActivityRegularization": same,
    "Add": of_all(ops.Add),
    "AdditiveAttention": attention,
    "AlphaDropout": same,
    "Attention": attention,
    "Average": average,
    "AveragePooling1D": pool,
    "AveragePooling2D": pool,
    "BatchNormalization": batch_norm,
    "Bidirectional": bidirectional,
    "CategoryEncoding": one_hot,
    "Concatenate": concatenate,
    "Conv1D": conv,
    "Conv1DTranspose": transposed_conv,
    "Conv2D": conv,
    "Cropping1D": cropping,
    "CuDNNGRU": plain,
    "CuDNNLSTM": plain,
    "Dense": dense,
    "DepthwiseConv1D": depthwise,
    "DepthwiseConv2D": depthwise,
    "Dot": dot,
    "Dropout": same,
    "ELU": elu,
    "EinsumDense": einsum_dense,
    "Embedding": embedding,
    "Flatten": flatten,
    "GRU": plain,
    "GRUCell": one_step,
    "GaussianDropout": same,
    "GaussianNoise": same,
    "GlobalAveragePooling1D": global_pool,
    "GlobalAveragePooling2D": global_pool,
    "GlobalMaxPooling1D": global_pool,
    "GlobalMaxPooling2D": global_pool,
    "GroupNormalization": group_norm,
    "Identity": same,
    "LSTM": plain,
    "LSTMCell": one_step,
    "LayerNormalization": layer_norm,
    "LeakyReLU": leaky_relu,
    "Masking": masking,
    "MaxPooling1D": pool,
    "MaxPooling2D": pool,
    "Maximum": of_all(ops.Maximum),
    "Minimum": of_all(ops.Minimum),
    "MultiHeadAttention": heads,
    "Multiply": of_all(ops.Multiply),
    "Normalization": normalization,
    "PReLU": prelu,
    "Permute": permute,
    "RMSNormalization": rms_norm,
    "RNN": plain,
    "ReLU": relu,
    "RepeatVector": repeat,
    "Rescaling": rescaling,
    "Reshape": reshape,
    "SeparableConv1D": depthwise,
    "SeparableConv2D": depthwise,
    "SimpleRNN": plain,
    "SimpleRNNCell": one_step,
    "Softmax": softmax,
    "SpatialDropout1D": same,
    "SpatialDropout2D": same,
    "Subtract": subtract,
    "UnitNormalization": unit_norm,
    "UpSampling1D": up_sampling,
    "ZeroPadding1D": zero_padding,
    "ZeroPadding2D": zero_padding,
}

OPERATIONS: dict[str, Callable[[Call], Any]] = {
    "Abs": of_each(activations.Abs),
    "Absolute": of_each(activations.Abs),
    "Add": arithmetic(ops.Add),
    "Clip": lambda call: call.x.mapped(activations.Clip(call.number("x_min"), call.number("x_max"))),
    "Divide": arithmetic(ops.Divide),
    "Equal": arithmetic(ops.Equal),
    "Exp": of_each(activations.Exp),
    "ExpandDims": lambda call: expanded(call.x, call.get("axis")),
    "Flip": flipped,
    "GetItem": item,
    "Gelu": gelu,
    "Greater": arithmetic(ops.Greater),
    "GreaterEqual": arithmetic(ops.GreaterEqual),
    "Less": arithmetic(ops.Less),
    "LessEqual": arithmetic(ops.LessEqual),
    "Log": of_each(activations.Log),
    "Max": reduction(frames.Amax, MaxOverTime),
    "Matmul": product,
    "Maximum": arithmetic(ops.Maximum),
    "Mean": reduction(frames.Mean, MeanOverTime),
    "Minimum": arithmetic(ops.Minimum),
    "Multiply": arithmetic(ops.Multiply),
    "Negative": of_each(activations.Neg),
    "NotEqual": arithmetic(ops.NotEqual),
    "OneHot": one_hot,
    "Power": arithmetic(ops.Pow),
    "Relu": of_each(activations.ReLU),
    "Reshape": reshape,
    "Sigmoid": of_each(activations.Sigmoid),
    "Silu": of_each(activations.SiLU),
    "Softmax": softmax,
    "Softplus": of_each(activations.Softplus),
    "Sqrt": of_each(activations.Sqrt),
    "Stack": stacked,
    "Square": lambda call: call.x.mapped(lambda x: x * x),
    "Squeeze": squeezed,
    "Subtract": arithmetic(ops.Subtract),
    "Sum": reduction(frames.Sum, SumOverTime),
    "Tanh": of_each(activations.Tanh),
    "Transpose": permute,
    "TrueDivide": arithmetic(ops.Divide),
    "Where": arithmetic(ops.Where, 3),
}
