"""Products with matrices, and of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyrnn import ops
from tinyrnn.activations import Scale
from tinyrnn.importing import Unfit, weighted
from tinyrnn.layers import Conv1d, Linear
from tinyrnn.onnx.arithmetic import add, operands, settled
from tinyrnn.onnx.attention import Scores, attend
from tinyrnn.onnx.nodes import Call
from tinyrnn.onnx.pairs import Pairs
from tinyrnn.onnx.shapes import transpose
from tinyrnn.onnx.symbols import (
    TIME,
    Known,
    Matrix,
    Product,
    Symbol,
    claim_row,
    claim_time,
    frame_size,
    met,
    part,
    reframed,
    sizes_of,
)
from tinyrnn.temporal import SumOverTime
from tinyrnn.values import applied
from tinyrnn.weights.spec import Array, shown


def linear(x: Symbol, axis: int, weight: Matrix, bias: Array | None = None) -> Symbol:
    """A matrix (out, in) times the numbers along an axis of the frame."""
    out, inputs = weight.shape
    claim_row(x)
    if x.frame_axis(axis) != inputs:
        raise Unfit(f"a matrix of shape {weight.shape} meets {x.frame_axis(axis)} numbers, expected {inputs}")
    value, dim = x.along(axis)
    tensors: dict[str, Matrix] = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer = weighted(Linear(inputs, out, bias=bias is not None), **tensors)
    if dim == -2:
        return x.replaced(layer(value.transpose(-1, -2)).transpose(-1, -2), axis, out)
    found = x.replaced(layer(value), axis, out)
    if bias is None and axis == x.rank - 1:
        found.product = Product(lambda *tensors: linear(x, axis, *tensors), weight, None, axis)
    return found


def _one(weight: Any) -> Any:
    """A matrix, whose axes before it have size 1."""
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    return weight


def matmul(call: Call) -> Symbol:
    a, b = operands(call, Scores, Pairs)
    if isinstance(a, Scores):
        return attend(a, call.symbol(1))
    if isinstance(b, Scores):
        return attend(b, call.symbol(0), first=True)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Pairs) and isinstance(other, Known):
            return one.vector(other, one is b)
    if isinstance(b, Known) and isinstance(a, Symbol):
        weight = _one(call.weight(1, "1", a.rounded))
        if weight.ndim == 1:
            found = linear(a, a.rank - 1, np.asarray(weight)[None])
            return found.with_axes(found.axes[:-1])
        if weight.ndim > 2:
            return _grouped(a, np.asarray(weight), b.first.ndim)
        axes = a.widened(b.first.ndim)
        found = linear(a.with_axes(axes), len(axes) - 1, weight.transpose())
        return found.with_axes([*axes[:-2], found.axes[-1]]) if a.rank == 1 else found
    if isinstance(a, Known) and isinstance(b, Symbol):
        weight = _one(call.weight(0, "0", b.rounded))
        if weight.ndim != 2 or b.rank < 2:
            raise Unfit(f"reads a matrix of shape {weight.shape}, expected two axes")
        return linear(b, b.rank - 2, weight)
    if isinstance(a, Known) or isinstance(b, Known):
        raise Unfit("reads constants only")
    return _of_values(a, b)


def _grouped(a: Symbol, weight: Array, rank: int) -> Symbol:
    """A product with a matrix for each place of one axis: a convolution of groups."""
    axes = a.widened(rank)
    a = a.with_axes(axes)
    lead = [len(axes) - weight.ndim + i for i, size in enumerate(weight.shape[:-2]) if size > 1]
    within = [axis for axis in range(len(axes) - 1) if frame_size(axes[axis]) > 1]
    groups, (inputs, out) = max(weight.shape[:-2]), weight.shape[-2:]
    if len(lead) != 1 or within[:1] != lead or a.frame_axis(lead[0]) != groups or a.frame_axis(-1) != inputs:
        raise Unfit(f"reads matrices of shape {weight.shape}, expected one for each place of a first axis")
    rows = math.prod(frame_size(axes[axis]) for axis in within[1:])
    value = reframed(a.value, (groups, rows, inputs)).transpose(-1, -2)
    layer = Conv1d(groups * inputs, groups * out, 1, groups=groups, bias=False)
    tensor = weight.reshape(groups, inputs, out).transpose(0, 2, 1).reshape(-1, inputs, 1)
    value = weighted(layer, weight=tensor)(reframed(value, (groups * inputs, rows)))
    value = reframed(value, (groups, out, rows)).transpose(-1, -2)
    return Symbol(value, [*axes[:-1], part(out)], a.reversed)


def _is_time(x: Symbol, axis: int) -> bool:
    claim_time(x, axis)
    return len(x.axes[axis]) == 1 and x.axes[axis][0].kind == TIME


def _of_values(a: Symbol, b: Symbol) -> Symbol:
    """A product of matrices that the net computes; time may be an axis of one, or be summed over."""
    if min(a.rank, b.rank) < 2:
        raise Unfit("reads vectors that the net computes, expected matrices")
    if _is_time(a, a.rank - 1) and _is_time(b, b.rank - 2):  # the sum of a product at each step
        met([a.axes[-1], b.axes[-2]])
        if a.reversed != b.reversed:
            raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
        found = _of_values(a.with_axes([*a.axes[:-1], ()]), b.with_axes([*b.axes[:-2], (), b.axes[-1]]))
        return Symbol(applied(SumOverTime(), (found.value,)), found.axes)
    rows, cols = _is_time(a, a.rank - 2), _is_time(b, b.rank - 1)
    if rows and cols:
        return Scores(a, b.with_axes([*b.axes[:-2], b.axes[-1], b.axes[-2]]))
    if (rows or cols) and None not in (a.value.time, b.value.time) and a.value.time != b.value.time:
        if sizes_of(a.axes[-2]) != (1, 1) and sizes_of(b.axes[-1]) != (1, 1):
            raise Unfit("reads several queries at a step of a loop, expected one")
        turned = b.with_axes([*b.axes[:-2], b.axes[-1], b.axes[-2]])  # a vector, or keys
        scores = Scores(turned, a) if rows else Scores(a, turned)
        return scores.with_axes([*scores.axes[:-2], scores.axes[-1], ()]) if rows else scores
    if rows:  # a row is a step
        found = _of_values(a.with_axes([*a.axes[:-2], (), a.axes[-1]]), b)
        return Symbol(found.value, [*found.axes[:-2], a.axes[-2], found.axes[-1]], a.reversed)
    if cols:
        found = _of_values(a, b.with_axes([*b.axes[:-1], ()]))
        return Symbol(found.value, [*found.axes[:-1], b.axes[-1]], b.reversed)
    shapes = []
    for one in (a, b):
        height, width = (one.frame_axis(one.rank + i, "a matrix's axis") for i in (-2, -1))
        shapes.append((math.prod(map(frame_size, one.axes[:-2])), height, width))
    rank = max(a.rank, b.rank)
    lead = [
        met([one.axes[i - rank + one.rank] for one in (a, b) if i - rank + one.rank >= 0])
        for i in range(rank - 2)
    ]
    frame = [shape if max(s[0] for s in shapes) > 1 else shape[1:] for shape in shapes]
    value = ops.matmul(a.framed(frame[0]), b.framed(frame[1]))
    if a.reversed != b.reversed:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    return Symbol(value, [*lead, part(shapes[0][1]), part(shapes[1][2])], a.reversed)


def einsum(call: Call) -> Symbol:
    """A sum of products of two values, as a product of matrices whose axes are put in order."""
    given = operands(call, Scores)
    text = str(call.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, out = text.partition("->")
    letters = terms.split(",")
    if not arrow:
        counts = "".join(letters)
        out = "".join(sorted(one for one in set(counts) if counts.count(one) == 1))
    plain = all(one.isalpha() and len(set(one)) == len(one) for one in letters) and (out.isalpha() or not out)
    if len(given) != 2 or len(letters) != 2 or not plain:
        raise Unfit(f"equation is {shown(text)}, expected two values, each letter once in each and no '...'")
    ranks = [one.rank if isinstance(one, Symbol) else one.worlds[0].ndim for one in given]
    first, second = letters
    if ranks != [len(first), len(second)] or set(out) - {*first, *second}:
        raise Unfit(f"equation is {shown(text)} for values of {ranks} axes, expected a letter for each axis")
    lead = [one for one in out if one in first and one in second]
    inner = [one for one in first if one in second and one not in out]
    rows = [one for one in first if one not in second]
    cols = [one for one in second if one not in first]
    if {*rows, *cols} - set(out):
        raise Unfit(f"equation is {shown(text)}, expected letters that are summed to be in both values")
    # One letter of each value alone is an axis of its matrices; others stand before, like those of both.
    lead, rows, cols = [*lead, *rows[:-1], *cols[:-1]], rows[-1:], cols[-1:]

    def ordered(one: Any, own: str, order: list[list[str]]) -> Any:
        """A value with these axes; those that it lacks have size 1."""
        order = [[letter for letter in group if letter in own] for group in order]
        flat = [letter for group in order for letter in group]
        one = moved(call, one, [own.index(letter) for letter in flat])
        if isinstance(one, Known):
            sizes = iter(one.array("a constant").shape)
            return Known(one.worlds[0].reshape([math.prod([next(sizes) for _ in group]) for group in order]))
        rest = iter(one.axes)
        return one.with_axes([sum((next(rest) for _ in group), ()) for group in order])

    leading = [[one] for one in lead]
    pair = [
        ordered(given[0], first, [*leading, rows, inner]),
        ordered(given[1], second, [*leading, inner, cols]),
    ]
    found = matmul(call._replace(inputs=pair))
    axes = [*lead, *rows, *cols]
    kept = [*range(len(lead)), *([len(lead)] if rows else []), *([len(lead) + 1] if cols else [])]
    found = found.with_axes([found.axes[i] for i in kept])
    result = moved(call, found, [axes.index(letter) for letter in out])
    assert isinstance(result, Symbol)
    return result


def moved(call: Call, one: Symbol | Known, order: list[int]) -> Symbol | Known:
    """A value with its axes in another order."""
    if order == list(range(len(order))):
        return one
    if isinstance(one, Known):
        return Known(one.array("a constant").transpose(order))
    return transpose(call._replace(inputs=[one], node=call.node._replace(attributes={"perm": order})))


def gemm(call: Call) -> Symbol:
    x = call.symbol(0)
    weight = call.weight(1, "B", x.rounded)
    get = call.attributes.get
    if get("transA") or x.rank != 2 or weight.ndim != 2:
        raise Unfit("reads a transposed value, expected rows of the net and a matrix of constants")
    weight = (weight if get("transB") else weight.transpose()) * np.float32(get("alpha", 1.0))
    bias = None
    if isinstance(call.get(2), Symbol):
        found, other = linear(x, 1, weight), call.symbol(2)
        other = other if get("beta", 1.0) == 1.0 else other.mapped(Scale(get("beta", 1.0)))
        return add(call._replace(inputs=[found, other], node=call.node._replace(op="Add")))
    if call.has(2):
        bias = np.float32(get("beta", 1.0)) * np.broadcast_to(
            settled(call.known(2, "C"), x.axes), (1, len(weight))
        )
        if bias.shape != (1, len(weight)):
            raise Unfit("C differs from row to row, expected a vector")
        bias = bias.reshape(-1)
    return linear(x, 1, weight, bias)
