"""Operations on the numbers of one value, or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyrnn import activations, ops
from tinyrnn.frames import Reshape
from tinyrnn.importing import Unfit, weighted
from tinyrnn.onnx.attention import Scores, of_choice, of_scores
from tinyrnn.onnx.evaluation import NEUTRAL
from tinyrnn.onnx.folding import CASTS, check_dropout
from tinyrnn.onnx.nodes import Call, Unfinished
from tinyrnn.onnx.pairs import Pairs, of_pairs, paired
from tinyrnn.onnx.steps import with_steps
from tinyrnn.onnx.symbols import (
    TIME,
    Axis,
    Known,
    Symbol,
    constant,
    frame_size,
    has,
    is_frame,
    met,
    part,
    reframed,
    sizes_of,
)
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

# ---- numbers of several values ---------------------------------------------------------------------------


def _joined(groups: list[list[int]]) -> list[list[int]]:
    """Frames of fewer axes: neighbours that all frames have, or that the same frames lack, become one."""
    places = range(len(groups[0]))
    wide = [max(group[place] for group in groups) for place in places]
    kept = [place for place in places if wide[place] > 1]
    out: list[list[int]] = [[] for _ in groups]
    before: list[bool] | None = None
    for place in kept:
        full = [group[place] == wide[place] for group in groups]
        for sizes, group in zip(out, groups, strict=True):
            if full == before:
                sizes[-1] *= group[place]
            else:
                sizes.append(group[place])
        before = full
    return out


def aligned(call: Call, given: Sequence[Any]) -> tuple[list[Value], tuple[Axis, ...], bool]:
    """Values in frames of as many axes, the axes of what they become, and whether it is reversed."""
    given = with_steps(call, given)
    rank = max(one.rank if isinstance(one, Symbol) else one.worlds[0].ndim for one in given)
    symbols = [one for one in given if isinstance(one, Symbol)]
    padded = [one.widened(rank) if isinstance(one, Symbol) else [()] * rank for one in given]
    axes = tuple(met([one[place] for one in padded]) for place in range(rank))
    arrays = {i: settled(one, axes) for i, one in enumerate(given) if isinstance(one, Known)}
    sizes = [[frame_size(axis) for axis in one] for one in padded]
    for i, array in arrays.items():
        sizes[i] = list(array.shape)
    wide = [max(one[place] for one in sizes) for place in range(rank)]
    axes = tuple(
        part(size) if size > 1 and sizes_of(axis) == (1, 1) else axis
        for axis, size in zip(axes, wide, strict=True)
    )
    for place, size in enumerate(wide):
        if any(one[place] not in (1, size) for one in sizes):
            raise Unfit(f"reads axes of sizes {[one[place] for one in sizes]}, expected equal ones or 1")
    ways = {one.reversed for one in symbols if any(has(axis, TIME) for axis in one.axes)}
    if len(ways) > 1:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    first = symbols[0].value.frame
    if not arrays and all(one.value.frame == first for one in symbols) and all(one == wide for one in sizes):
        return [one.value for one in symbols], axes, ways == {True}
    values = []
    for i, shape in enumerate(_joined(sizes)):
        if i in arrays:
            values.append(constant(arrays[i].reshape(tuple(shape) or (1,)), symbols[0].value))
        else:
            one = given[i]
            values.append(reframed(one.value, shape))
    return values, axes, ways == {True}


def settled(known: Known, axes: Sequence[Axis]) -> Array:
    """A constant with as many axes; along time and the batch it has one number, if all are equal."""
    worlds = [one.reshape((1,) * (len(axes) - one.ndim) + one.shape) for one in known.worlds]
    for place in range(worlds[0].ndim):
        first, second = (one.shape[place] for one in worlds)
        if first != second or (first > 1 and place < len(axes) and not is_frame(axes[place])):
            heads = [one.take([0], place) for one in worlds]
            if any(np.any(one != head) for one, head in zip(worlds, heads, strict=True)):
                raise Unfit("a constant differs along time or the batch, expected one that does not")
            worlds = heads
    return np.asarray(Known(*worlds).array("a constant"), np.float32)


def operands(call: Call, *kinds: type[Symbol]) -> list[Symbol | Known]:
    """The inputs, as symbols and known arrays; those of these kinds as they are."""
    found: list[Any] = [call.get(i) for i in range(len(call.inputs))]
    for i, one in enumerate(found):
        if not isinstance(one, (Known, *kinds)):
            found[i] = call.symbol(i)
    return found


def scalar(given: Any) -> float | None:
    """The number of a known array that has one, else None."""
    if isinstance(given, Known) and given.worlds[0].size == given.worlds[1].size == 1 and not given.varies:
        return float(given.worlds[0].reshape(-1)[0])
    return None


def of_several(
    layer: Callable[[], Any], short: Callable[[Any, Any], Any] | None = None
) -> Callable[[Call], Symbol]:
    """An operation of two values, or of several one after the other; ``short`` takes numbers, too."""

    def done(call: Call) -> Symbol:
        first, *others = operands(call, Scores, Pairs)
        for other in others:
            first = _pair(call, first, other, layer, short)
        if isinstance(first, Known):
            raise Unfit("reads constants only")
        return first

    return done


def _pair(call: Call, a: Any, b: Any, layer: Callable[[], Any], short: Any) -> Symbol:
    op = call.node.op
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Scores):
            return of_scores(op, a, b)
        if isinstance(one, Pairs):
            return of_pairs(op, one, other)
    if pairs := paired(op, a, b):
        return pairs
    if short is not None:
        for one, other, swapped in ((a, b, False), (b, a, True)):
            number = scalar(other)
            if number is not None and isinstance(one, Symbol):
                if number == NEUTRAL.get(op) and not (swapped and op in ("Sub", "Div")):
                    value = one.value  # which may be indices
                else:
                    value = short(number, one.value) if swapped else short(one.value, number)
                return Symbol(value, one.widened(other.worlds[0].ndim), one.reversed)
    values, axes, backwards = aligned(call, [a, b])
    return Symbol(applied(layer(), values), axes, backwards)


def add(call: Call) -> Symbol:
    """A sum; of a product with a matrix and a vector a layer with a bias."""
    return of_erf(call) or of_product(call) or of_several(ops.Add, lambda a, b: a + b)(call)


def of_product(call: Call) -> Symbol | None:
    """The sum or the product of a product with constants and a vector: one layer; None if it reads others."""
    given = [call.get(i) for i in range(len(call.inputs))]
    for one, other in (given, given[::-1]) if len(given) == 2 else ():
        if isinstance(one, Symbol) and one.product and isinstance(other, Known) and not other.varies:
            return one.product.changed(other.worlds[0], call.node.op == "Mul", one.rank)
    return None


def where(call: Call) -> Any:
    condition = scalar(call.get(0))
    if condition is not None and isinstance(call.get(1 if condition else 2), Symbol):
        return call.get(1 if condition else 2)
    given = operands(call, Scores)
    for one, other, truth in ((given[1], given[2], False), (given[2], given[1], True)):
        if isinstance(one, Scores):
            return of_choice(given[0], one, other, truth)
    values, axes, backwards = aligned(call, given)
    return Symbol(applied(ops.Where(), values), axes, backwards)


def raised(a: Any, b: Any) -> Value:
    """A value to the power of a number, or a number to that of a value."""
    quick: dict[float, Any] = {
        2.0: lambda value: value * value,
        0.5: activations.Sqrt(),
        1.0: lambda value: value,
    }
    found: Value = quick[b](a) if isinstance(b, float) and b in quick else a**b
    return found


# ---- numbers of one value --------------------------------------------------------------------------------


def of_each(make: Callable[[], Any]) -> Callable[[Call], Symbol]:
    """A function of each number; ``make`` gives the layer."""
    return lambda call: call.symbol(0).mapped(make())


def tanh(call: Call) -> Symbol:
    x = call.get(0)
    return x.bent() if isinstance(x, Pairs) else call.symbol(0).mapped(activations.Tanh())


def of_attribute(name: str, default: float, made: Callable[[float], Any]) -> Callable[[Call], Symbol]:
    return lambda call: call.symbol(0).mapped(made(float(call.attributes.get(name, default))))


def dropout(call: Call) -> list[Any]:
    """Dropout of a net in use: the value itself, and a mask of ones."""
    check_dropout(*(call.array(i) if call.has(i) else None for i in (1, 2)))
    x = call.padded(0)
    if call.outputs < 2:
        return [x]
    return [x, Known(*(np.ones(sizes.tolist(), np.bool_) for sizes in x.shape.worlds))]


def same(call: Call) -> Any:
    return [call.padded(0)]


_COMPARES = (ops.Equal, ops.NotEqual, ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual)


def is_truth(value: Value) -> bool:
    """True if a value is 0 or 1 by its layer: a comparison, or what Not, And and Or make of some."""
    layer = value.layer
    if isinstance(layer, activations.Scale) and (layer.scale, layer.shift) == (-1.0, 1.0):
        return is_truth(value.reads[0])
    if isinstance(layer, (ops.Multiply, ops.Maximum)):
        return all(map(is_truth, value.reads))
    if isinstance(layer, Reshape):
        return is_truth(value.reads[0])
    return isinstance(layer, _COMPARES)


def cast(call: Call) -> Symbol:
    """Floats stay floats, and so does what compares them; indices stay indices."""
    to = call.attributes.get("to")
    if to in (1, 10, 11, 16) and isinstance(call.get(0), Scores):
        return call.movable(0)
    x = call.symbol(0)
    if to in (1, 10, 11, 16) or (x.value.layer is None and to in (6, 7)):
        return x
    if to == 9:
        return x if is_truth(x.value) else x.mapped(lambda value: ops.ne(value, 0))
    if to in CASTS and is_truth(x.value):
        return x
    raise Unfit(f"to is {to}, a type of whole numbers, expected one of floats")


def cast_like(call: Call) -> Symbol | Known:
    """Cast to the type of another value, which is one of floats if the net computes it."""
    given, other = call.get(0), call.get(1)
    if isinstance(given, Known):
        return Known(*(np.asarray(one, np.float32) for one in given.worlds))
    if isinstance(other, Known) and other.worlds[0].dtype.kind in "iub":
        raise Unfit("its type is one of whole numbers, expected one of floats")
    return call.symbol(0)


def clip(call: Call) -> Symbol:
    limits: list[float | None] = []
    for place, name in ((1, "min"), (2, "max")):
        limit = (
            float(call.array(place, name).reshape(-1)[0]) if call.has(place) else call.attributes.get(name)
        )
        limits.append(None if limit is None or abs(limit) > 3e38 else limit)
    if limits == [None, None]:
        return call.symbol(0)
    return call.symbol(0).mapped(activations.Clip(*limits))


def hard_sigmoid(call: Call) -> Symbol:
    alpha, beta = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    scaled = call.symbol(0).mapped(activations.Scale(alpha, beta))
    return scaled.mapped(activations.Clip(0.0, 1.0))


def selu(call: Call) -> Symbol:
    """SELU, whose two numbers may be others than its authors'."""
    get = call.attributes.get
    alpha, gamma = get("alpha", 1.6732632), get("gamma", 1.0507010)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.0507010) < 1e-6:
        return call.symbol(0).mapped(activations.SELU())
    return call.symbol(0).mapped(activations.ELU(alpha)).mapped(activations.Scale(gamma, 0.0))


def prelu(call: Call) -> Symbol:
    x, slopes = call.symbol(0), settled(call.known(1, "slope"), ())
    if slopes.size == 1:
        return x.mapped(weighted(activations.PReLU(), weight=slopes.reshape(1)))
    axis = x.rank - slopes.ndim + int(np.argmax(slopes.shape))
    value = x.along(axis)[0] if slopes.size == max(slopes.shape) == x.frame_axis(axis) else None
    if value is None or value.frame[0] != slopes.size:
        above, below = (x.mapped(activations.Clip(*ends)) for ends in ((0.0, None), (None, 0.0)))
        below = of_several(ops.Multiply)(call._replace(inputs=[below, call.get(1)]))
        return of_several(ops.Add)(call._replace(inputs=[above, below]))
    layer = weighted(activations.PReLU(slopes.size), weight=slopes.reshape(-1))
    return Symbol(layer(value), x.axes, x.reversed)


class Erf(Unfinished):
    """The error function of a value over the root of 2, ``times`` a number ``plus`` another."""

    what = "an error function, which is known within a GELU only"
    times, plus = 1.0, 0.0

    def changed(self, times: float, plus: float) -> Erf:
        found = Erf(self.value, self.axes, self.reversed)
        found.times, found.plus = times, plus
        return found


def erf(call: Call) -> Symbol:
    """The first part of a GELU written out, ``0.5 x (1 + erf(x / sqrt(2)))``."""
    x = call.symbol(0)
    layer = x.value.layer
    if not isinstance(layer, activations.Scale) or layer.shift or abs(layer.scale - 0.5**0.5) > 1e-6:
        raise Unfit("reads another value than x / sqrt(2), expected the erf of a GELU")
    return Erf(x.value.reads[0], x.axes, x.reversed)


def of_erf(call: Call) -> Symbol | None:
    """The result of a sum or a product that reads a part of a GELU; None if it reads none."""
    given = [call.get(i) for i in range(len(call.inputs))]
    part_of = next((one for one in given if isinstance(one, Erf)), None)
    if part_of is None or len(given) != 2:
        return None
    other = given[1 - given.index(part_of)]
    number = scalar(other)
    if number is not None and call.node.op == "Add":
        return part_of.changed(part_of.times, part_of.plus + number)
    if number is not None and call.node.op == "Mul":
        return part_of.changed(part_of.times * number, part_of.plus * number)
    if call.node.op == "Mul" and isinstance(other, Symbol) and part_of.times == part_of.plus:
        layer, factor = other.value.layer, 2 * part_of.times
        if isinstance(layer, activations.Scale) and not layer.shift and other.value.reads[0] is part_of.value:
            factor *= layer.scale
        elif other.value is not part_of.value:
            return None
        value = applied(activations.GELU(), (part_of.value,))
        return Symbol(value if factor == 1.0 else value * factor, part_of.axes, part_of.reversed)
    return None


def multiply(call: Call) -> Symbol:
    return of_erf(call) or of_product(call) or of_several(ops.Multiply, lambda a, b: a * b)(call)


def gelu(call: Call) -> Symbol:
    return call.symbol(0).mapped(activations.GELU(str(call.attributes.get("approximate", "none"))))
