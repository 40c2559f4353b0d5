"""ONNX's operators as layers of tinyrnn: `OPERATORS` has a line for each.

A function takes a `Call` and returns a `Symbol`, or a list of what the node's outputs are. Operations whose inputs
are all known are in `folding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyrnn import activations, frames, ops
from tinyrnn.convolution import Conv2d
from tinyrnn.layers import (
    BatchNorm1d,
    Conv1d,
    Embedding,
    GroupNorm,
    InstanceNorm1d,
    LayerNorm,
    Linear,
    LogSoftmax,
    Softmax,
)
from tinyrnn.onnx.cells import recurrent
from tinyrnn.onnx.folding import axes_of, axis_of, bounds, sections, span, squeezed_axes
from tinyrnn.onnx.nodes import Call, Padded
from tinyrnn.onnx.symbols import (
    FRAME,
    OPEN,
    TIME,
    Atom,
    Axis,
    Known,
    Places,
    Retry,
    Sizes,
    Symbol,
    Unfit,
    constant,
    frame_size,
    has,
    is_frame,
    part,
    reframed,
    regrouped,
    sizes_of,
    weighted,
)
from tinyrnn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tinyrnn.temporal import LastStep, MaxOverTime, MeanOverTime, SumOverTime, TimeConv1d, TimeUnfold
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

# ---- numbers of several values -----------------------------------------------------------------------


def _met(axes: Sequence[Axis]) -> Axis:
    """The axis that axes in the same place become: one of them where the others have size 1.

    Raises
    ------
    Retry
        If one is of an input and turns out to be what another is.
    Unfit
        If they differ.
    """
    wide = [axis for axis in axes if axis and sizes_of(axis) != (1, 1)]
    if not wide:
        return next((axis for axis in axes if axis), ())
    first = wide[0]
    for other in wide[1:]:
        if len(first) == len(other) and all(a.same(b) for a, b in zip(first, other, strict=True)):
            continue
        if is_frame(first) and is_frame(other) and sizes_of(first) == sizes_of(other):
            continue
        for one, two in ((first, other), (other, first)):
            if len(one) == len(two) == 1 and one[0].origin and one[0].kind != two[0].kind != FRAME:
                if one[0].kind in (FRAME, OPEN) and two[0].kind != OPEN:
                    raise Retry(one[0].origin, two[0].kind)
        if {atom.kind for atom in (*first, *other)} == {OPEN}:
            continue  # two names for one size
        raise Unfit(f"reads axes of sizes {sizes_of(first)[0]} and {sizes_of(other)[0]}, expected equal ones or 1")
    return first


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
    rank = max(one.rank if isinstance(one, Symbol) else one.worlds[0].ndim for one in given)
    symbols = [one for one in given if isinstance(one, Symbol)]
    padded: list[list[Axis]] = []
    arrays: dict[int, Array] = {}
    for i, one in enumerate(given):
        if isinstance(one, Symbol):
            padded.append([*[()] * (rank - one.rank), *one.axes])
        else:
            padded.append([()] * rank)
            arrays[i] = _settled(one, rank)
    axes = tuple(_met([one[place] for one in padded]) for place in range(rank))
    sizes = [[frame_size(axis) for axis in one] for one in padded]
    for i, array in arrays.items():
        sizes[i] = list(array.shape)
        for place, size in enumerate(array.shape):
            if size > 1 and not is_frame(axes[place]):
                raise Unfit("a constant differs along time or the batch, expected one that does not")
    axes = tuple(
        axis if axis else part(max(one[place] for one in sizes)) for place, axis in enumerate(axes)
    )
    for place, axis in enumerate(axes):
        wide = frame_size(axis)
        if any(one[place] not in (1, wide) for one in sizes):
            raise Unfit(f"reads axes of sizes {wide} and {[one[place] for one in sizes]}, expected equal ones or 1")
    ways = {one.reversed for one in symbols if any(has(axis, TIME) for axis in one.axes)}
    if len(ways) > 1:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    values = []
    for i, shape in enumerate(_joined(sizes)):
        if i in arrays:
            values.append(constant(arrays[i].reshape(tuple(shape) or (1,)), symbols[0].value))
        else:
            one = given[i]
            values.append(reframed(one.value, shape))
    return values, axes, ways == {True}


def _settled(known: Known, rank: int) -> Array:
    """A constant with this many axes; those that vary in size have one number, if all are equal."""
    first, second = known.worlds
    if known.varies:
        for axis in range(first.ndim):
            if first.shape[axis] != second.shape[axis]:
                heads = [np.take(one, [0], axis) for one in (first, second)]
                if any(np.any(one != head) for one, head in zip((first, second), heads, strict=True)):
                    raise Unfit("a constant differs along time or the batch, expected one that does not")
                first, second = heads
        first = Known(first, second).array("a constant")
    return np.asarray(first, np.float32).reshape((1,) * (rank - first.ndim) + first.shape)


def _numbers(call: Call) -> list[Symbol | Known]:
    """The inputs, as symbols and known arrays."""
    return [
        given if isinstance(given := call.get(i), Known) else call.symbol(i) for i in range(len(call.inputs))
    ]


def _scalar(given: Any) -> float | None:
    """The number of a known array that has one, else None."""
    if isinstance(given, Known) and given.worlds[0].size == given.worlds[1].size == 1 and not given.varies:
        return float(given.worlds[0].reshape(-1)[0])
    return None


def _two(layer: Callable[[], Any], short: Callable[[Any, Any], Any] | None = None) -> Callable[[Call], Symbol]:
    """An operation of two values, or of several one after the other; ``short`` takes numbers, too."""

    def done(call: Call) -> Symbol:
        first, *others = _numbers(call)
        for other in others:
            first = _pair(call, first, other, layer, short)
        if isinstance(first, Known):
            raise Unfit("reads constants only")
        return first

    return done


def _pair(call: Call, a: Any, b: Any, layer: Callable[[], Any], short: Any) -> Symbol:
    if short is not None:
        for one, other, swapped in ((a, b, False), (b, a, True)):
            number = _scalar(other)
            if number is not None and isinstance(one, Symbol):
                rank = other.worlds[0].ndim
                axes = [*[()] * (rank - one.rank), *one.axes]
                value = short(number, one.value) if swapped else short(one.value, number)
                return Symbol(value, axes, one.reversed)
    values, axes, backwards = aligned(call, [a, b])
    return Symbol(applied(layer(), values), axes, backwards)


def add(call: Call) -> Symbol:
    """A sum; of a product with a matrix and a vector a layer with a bias."""
    given = _numbers(call)
    if len(given) == 2:
        for one, other in (given, given[::-1]):
            if isinstance(one, Symbol) and one.product and isinstance(other, Known) and not other.varies:
                value, weight = one.product
                array = other.worlds[0]
                if array.size == len(weight) and array.ndim <= one.rank and array.shape[-1:] == (array.size,):
                    layer = weighted(Linear(weight.shape[1], len(weight)), weight=weight, bias=array.reshape(-1))
                    return Symbol(layer(value), one.axes, one.reversed)
    return _two(ops.Add, lambda a, b: a + b)(call)


def where(call: Call) -> Symbol:
    values, axes, backwards = aligned(call, _numbers(call))
    return Symbol(applied(ops.Where(), values), axes, backwards)


def _raised(a: Any, b: Any) -> Value:
    """A value to the power of a number, or the other way round; squares and roots have layers of their own."""
    quick = {2.0: lambda value: value * value, 0.5: activations.Sqrt(), 1.0: lambda value: value}
    return quick[b](a) if isinstance(b, float) and b in quick else a**b


# ---- numbers of one value --------------------------------------------------------------------------------


def _one(make: Callable[[Call], Any]) -> Callable[[Call], Symbol]:
    """A function of each number; ``make`` gives the layer."""
    return lambda call: call.symbol(0).mapped(make(call))


def _attribute(name: str, default: float, made: Callable[[float], Any]) -> Callable[[Call], Symbol]:
    return _one(lambda call: made(float(call.attributes.get(name, default))))


def same(call: Call) -> Any:
    return [call.padded(0)]


def cast(call: Call) -> Symbol:
    """Floats stay floats, and so does what compares them; indices stay indices."""
    x, to = call.symbol(0), call.attributes.get("to")
    if to in (1, 10, 11, 16) or x.value.layer is None and to in (6, 7):
        return x
    if to == 9:
        return x.mapped(lambda value: ops.ne(value, 0))
    raise Unfit(f"to is {to}, a type of whole numbers, expected one of floats")


def clip(call: Call) -> Symbol:
    limits: list[float | None] = []
    for place, name in ((1, "min"), (2, "max")):
        limit = float(call.array(place, name).reshape(-1)[0]) if call.has(place) else call.attributes.get(name)
        limits.append(None if limit is None or abs(limit) > 3e38 else limit)
    if limits == [None, None]:
        return call.symbol(0)
    return call.symbol(0).mapped(activations.Clip(*limits))


def hard_sigmoid(call: Call) -> Symbol:
    alpha, beta = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    scaled = call.symbol(0).mapped(activations.Scale(alpha, beta))
    return scaled.mapped(activations.Clip(0.0, 1.0))


def prelu(call: Call) -> Symbol:
    x, slopes = call.symbol(0), _settled(call.known(1, "slope"), 0)
    if slopes.size == 1:
        return x.mapped(weighted(activations.PReLU(), weight=slopes.reshape(1)))
    axis = x.rank - slopes.ndim + int(np.argmax(slopes.shape))
    if slopes.size != max(slopes.shape) or slopes.size != x.frame_axis(axis):
        raise Unfit(f"slope has shape {slopes.shape}, expected one number for each channel")
    value, dim = x.along(axis)
    if len(value.frame) > 1 and value.frame[0] != slopes.size:
        raise Unfit("slope is not of the first axis of a frame, expected one number for each channel")
    layer = weighted(activations.PReLU(slopes.size), weight=slopes.reshape(-1))
    return Symbol(layer(value), x.axes, x.reversed)


def gelu(call: Call) -> Symbol:
    return call.symbol(0).mapped(activations.GELU(str(call.attributes.get("approximate", "none"))))


# ---- the same numbers under other axes -------------------------------------------------------------------


def reshape(call: Call) -> Symbol:
    x = call.symbol(0)
    given = Known(np.array(call.attributes["shape"])) if not call.has(1) else call.known(1, "shape")
    keep = not call.attributes.get("allowzero")
    own = [sizes_of(axis) for axis in x.axes]
    wanted: list[Sizes | None] = []
    for i, sizes in enumerate(given.sizes):
        if sizes == (0, 0) and keep and i < len(own):
            sizes = own[i]
        wanted.append(None if sizes == (-1, -1) else sizes)
    return x.with_axes(regrouped(x.axes, _filled_in(x, wanted)))


def _filled_in(x: Symbol, wanted: list[Sizes | None]) -> list[Sizes]:
    """The sizes of a Reshape, of which one may be what is left (None)."""
    if wanted.count(None) > 1:
        raise Unfit("the shape has two sizes of -1, expected one")
    whole = [sizes_of(axis) for axis in x.axes]
    declared = {atom.declared: atom.sizes for axis in x.axes for atom in axis if atom.declared is not None}
    told = [declared.get(one[0], one) if one and one[0] == one[1] else one for one in wanted]
    for choice in (told, wanted):
        rest = []
        for world in (0, 1):
            total = math.prod(sizes[world] for sizes in whole)
            known = math.prod(sizes[world] for sizes in choice if sizes is not None)
            rest.append(total // known if known and total % known == 0 else 0)
        if 0 not in rest:
            break
    else:
        raise Unfit("the shape fits no number of steps and rows")
    return [(rest[0], rest[1]) if sizes is None else sizes for sizes in choice]


def flatten(call: Call) -> Symbol:
    x = call.symbol(0)
    axis = call.attributes.get("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    ends = [sizes_of([atom for one in axes for atom in one]) for axes in (x.axes[:axis], x.axes[axis:])]
    return x.with_axes(regrouped(x.axes, ends))


def squeeze(call: Call) -> Symbol:
    x = call.symbol(0)
    axes = squeezed_axes(call.fold().ints("axes", 1), [sizes_of(axis)[0] for axis in x.axes])
    for axis in axes:
        if sizes_of(x.axes[axis]) != (1, 1):
            for atom in x.axes[axis]:
                if atom.origin and atom.kind == OPEN:
                    raise Retry(f"={atom.origin}", 1)
            raise Unfit(f"axis {axis} has more than one number, expected size 1")
    return x.with_axes([one for axis, one in enumerate(x.axes) if axis not in axes])


def unsqueeze(call: Call) -> Symbol:
    x = call.symbol(0)
    added = call.fold().ints("axes", 1) or []
    places = axes_of(added, x.rank + len(added))
    rest = iter(x.axes)
    return x.with_axes([() if place in places else next(rest) for place in range(x.rank + len(added))])


def transpose(call: Call) -> Symbol:
    x = call.symbol(0)
    order = axes_of(call.attributes.get("perm") or list(range(x.rank))[::-1], x.rank)
    if len(order) != x.rank:
        raise Unfit(f"perm is {list(order)}, expected one for each of {x.rank} axes")
    axes = [x.axes[axis] for axis in order]
    kept = [axis for axis in range(x.rank) if frame_size(x.axes[axis]) > 1]
    moved = [axis for axis in order if axis in kept]
    if moved == kept:
        return x.with_axes(axes)
    if any(not is_frame(x.axes[axis]) for axis in kept) or len(kept) > 3:
        raise Unfit("moves parts of axes of time or of the batch, or more than three axes of a frame")
    dims = [kept.index(axis) - len(kept) for axis in moved]
    value = x.framed([frame_size(x.axes[axis]) for axis in kept])
    return Symbol(frames.Permute(dims)(value), axes, x.reversed)


def expand(call: Call) -> Symbol:
    """Size 1 becomes the size of time or the batch at no cost; within a frame numbers are repeated."""
    x, wanted = call.symbol(0), call.known(1, "shape").sizes
    rank = max(x.rank, len(wanted))
    axes = [*[()] * (rank - x.rank), *x.axes]
    wide = [(1, 1)] * (rank - len(wanted)) + wanted
    repeats = np.zeros([1 if sizes_of(axis) != (1, 1) else sizes[0] for axis, sizes in zip(axes, wide, strict=True)])
    if any(one != two for (one, two), axis in zip(wide, axes, strict=True) if sizes_of(axis) == (1, 1)):
        raise Unfit("repeats a value for each step or row, which arithmetic does by itself")
    if repeats.size == 1:
        return x.with_axes(axes)
    call.builder.room(repeats.size)
    values, found, backwards = aligned(call, [x, Known(repeats)])
    return Symbol(applied(ops.Add(), values), found, backwards)


# ---- parts and wholes ------------------------------------------------------------------------------------


def together(values: Sequence[Value], dim: int) -> Value:
    """Frames side by side; parts of one value that make it up are that value."""
    first = values[0]
    if len(values) == 1:
        return first
    end = 0
    for value in values:
        layer = value.layer
        if not isinstance(layer, ops.Slice) or value.reads != first.reads or (layer.dim, layer.start) != (dim, end):
            return ops.concat(values, dim)
        end += layer.size
    (whole,) = first.reads
    return whole if whole.frame[dim] == end else ops.concat(values, dim)


def _cut(x: Symbol, axis: int, start: int, size: int) -> Symbol:
    """A part of an axis of the frame."""
    if start == 0 and size == x.frame_axis(axis):
        return x
    value, dim = x.along(axis)
    return x.replaced(ops.Slice(start, size, dim)(value), axis, size)


def _turn(x: Symbol, axis: int) -> Symbol:
    """The other end first, of an axis of the frame."""
    size = x.frame_axis(axis)
    parts = [_cut(x, axis, i, 1).along(axis) for i in reversed(range(size))]
    if size > 64:
        raise Unfit(f"turns {size} numbers of a frame round, expected at most 64")
    return x.replaced(ops.concat([value for value, _ in parts], parts[0][1]), axis, size)


def slices(call: Call) -> Any:
    x = call.symbol(0)
    one, other = bounds(call.fold(0)), bounds(call.fold(1))
    for (axis, start, end, step), (_, start2, end2, _) in zip(one, other, strict=True):
        axis = axis_of(axis, x.rank)
        sizes = sizes_of(x.axes[axis])
        spans = (span(sizes[0], start, end, step), span(sizes[1], start2, end2, step))
        if all(places == range(size) for places, size in zip(spans, sizes, strict=True)):
            continue
        whole = all(places == range(size - 1, -1, -1) for places, size in zip(spans, sizes, strict=True))
        atoms = x.axes[axis]
        for atom in atoms:
            if atom.origin and atom.kind != TIME and (whole or atom.kind == OPEN):
                if atom.kind == OPEN or call.builder.has_time is False and axis == 0:
                    raise Retry(atom.origin, TIME)
        if len(atoms) == 1 and atoms[0].kind == TIME:
            last = all(places == range(size - 1, size) for places, size in zip(spans, sizes, strict=True))
            if whole:
                x = Symbol(x.value, x.axes, not x.reversed)
            elif last and not x.reversed:
                x = Symbol(LastStep()(x.value), [() if i == axis else a for i, a in enumerate(x.axes)])
            else:
                raise Unfit("takes a part of the steps, expected the last one or all of them")
            continue
        places = spans[0]
        x.frame_axis(axis)
        if spans[0] != spans[1] or not len(places):
            raise Unfit("takes a part that is empty, or depends on the number of steps or rows")
        if places.step == 1:
            x = _cut(x, axis, places.start, len(places))
        elif whole:
            x = _turn(x, axis)
        else:
            raise Unfit(f"takes every {places.step}th number of a frame, which no layer of tinyrnn does")
    return x


def gather(call: Call) -> Symbol:
    if isinstance(call.get(0), Known):
        return _embedding(call)
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", 0), x.rank)
    known = call.known(1, "indices")
    sizes = sizes_of(x.axes[axis])
    indices = [np.where(one < 0, one + size, one) for one, size in zip(known.worlds, sizes, strict=True)]
    atoms = x.axes[axis]
    for atom in atoms:
        if atom.origin and atom.kind == OPEN:
            raise Retry(atom.origin, TIME)
    if len(atoms) == 1 and atoms[0].kind == TIME:
        wanted = 0 if x.reversed else -1
        if known.worlds[0].ndim or any(
            int(one) != (size - 1 if wanted else 0) for one, size in zip(indices, sizes, strict=True)
        ):
            raise Unfit("takes a step by its number, expected the last one")
        return Symbol(LastStep()(x.value), [a for i, a in enumerate(x.axes) if i != axis])
    places = Known(*indices).array("indices")
    size = x.frame_axis(axis)
    flat = [int(one) for one in places.reshape(-1)]
    if not flat or min(flat) < 0 or max(flat) >= size:
        raise Unfit(f"got an index beyond the {size} numbers of axis {axis}")
    runs: list[list[int]] = []
    for one in flat:
        if runs and runs[-1][0] + runs[-1][1] == one:
            runs[-1][1] += 1
        else:
            runs.append([one, 1])
    if len(runs) > 64:
        raise Unfit(f"takes {len(runs)} parts of a frame by index, expected at most 64")
    parts = [_cut(x, axis, start, count).along(axis) for start, count in runs]
    value = together([one for one, _ in parts], parts[0][1])
    inserted = [part(size) for size in places.shape]
    return Symbol(value, [*x.axes[:axis], *inserted, *x.axes[axis + 1 :]], x.reversed)


def _embedding(call: Call) -> Symbol:
    table, x = call.array(0, "data"), call.symbol(1)
    if call.attributes.get("axis", 0) % table.ndim or table.ndim != 2:
        raise Unfit(f"reads a table of shape {table.shape} along axis {call.attributes.get('axis', 0)}, expected rows")
    if x.value.layer is not None or len(x.value.frame) > 1:
        raise Unfit("reads indices that the net computes, expected those of an input")
    layer = weighted(Embedding(*table.shape), weight=table)
    return Symbol(layer(x.value), [*x.axes, part(table.shape[1])], x.reversed)


def split(call: Call) -> list[Symbol]:
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", 0), x.rank)
    sizes = sections(call.fold(), x.frame_axis(axis))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [_cut(x, axis, start, size) for start, size in zip(starts, sizes, strict=True)]


def concat(call: Call) -> Symbol:
    given = _numbers(call)
    if len(given) == 1:
        return call.symbol(0)
    symbols = [one for one in given if isinstance(one, Symbol)]
    rank = symbols[0].rank
    axis = axis_of(call.attributes.get("axis", 1), rank)
    if any(one.rank != rank for one in symbols):
        raise Unfit("reads values of different ranks")
    others = tuple(_met([one.axes[i] for one in symbols]) for i in range(rank) if i != axis)
    behind = math.prod(map(frame_size, others[axis:]))
    before = math.prod(map(frame_size, others[:axis]))
    values, total = [], 0
    for one in given:
        if isinstance(one, Known):
            array = one.array("a constant")
            size = array.shape[axis]
            shape = (before, size, behind)
            value = constant(np.ascontiguousarray(array).reshape(shape), symbols[0].value)
        else:
            size = one.frame_axis(axis)
            shape = (before, size, behind)
            if math.prod(one.value.frame) != math.prod(shape):
                raise Unfit("reads values whose other axes differ, expected equal ones")
            value = one.value
        frame = (*((before,) if before > 1 else ()), size, *((behind,) if behind > 1 else ()))
        values.append(reframed(value, frame))
        total += size
    ways = {one.reversed for one in symbols if any(has(a, TIME) for a in one.axes)}
    if len(ways) > 1:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    axes = [*others[:axis], part(total), *others[axis:]]
    return Symbol(together(values, -2 if behind > 1 else -1), axes, ways == {True})


def pad(call: Call) -> Symbol:
    x, mode = call.symbol(0), str(call.attributes.get("mode", "constant"))
    given = call.fold().ints("pads", 1) or []
    if call.has(1):
        call.array(1, "pads")
    axes = axes_of(call.fold().ints("axes", 3) or list(range(x.rank)), x.rank)
    if len(given) != 2 * len(axes):
        raise Unfit(f"got {len(given)} pads for {len(axes)} axes")
    fill = float(call.array(2, "constant_value").reshape(-1)[0]) if call.has(2) else call.attributes.get("value", 0.0)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise Unfit(f"mode is {mode!r}, expected one of {', '.join(modes)}")
    steps = (0, 0)
    for i, axis in enumerate(axes):
        before, behind = given[i], given[len(axes) + i]
        if before == behind == 0:
            continue
        _timed(x, axis)
        if has(x.axes[axis], TIME):
            if mode != "constant" or fill or min(before, behind) < 0 or len(x.axes[axis]) > 1:
                raise Unfit("pads the steps with other numbers than zeros, which no layer of tinyrnn does")
            steps = (behind, before) if x.reversed else (before, behind)
            continue
        size = x.frame_axis(axis) + before + behind
        value, dim = x.along(axis)
        sides = (before, behind) if dim == -1 else (0, 0, before, behind)
        x = x.replaced(frames.pad(value, sides, modes[mode], fill), axis, size)
    if steps == (0, 0):
        return x
    padded = Padded(x.value, x.axes, x.reversed)
    padded.steps = steps
    return padded


def _timed(x: Symbol, axis: int) -> None:
    """An open axis that windows go along is time."""
    for atom in x.axes[axis]:
        if atom.kind == OPEN and atom.origin:
            raise Retry(atom.origin, TIME)


# ---- products ---------------------------------------------------------------------------------------------


def linear(x: Symbol, axis: int, weight: Array, bias: Array | None = None) -> Symbol:
    """A matrix (out, in) times the numbers along an axis of the frame."""
    out, inputs = weight.shape
    if x.frame_axis(axis) != inputs:
        raise Unfit(f"a matrix of shape {weight.shape} meets {x.frame_axis(axis)} numbers, expected {inputs}")
    value, dim = x.along(axis)
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer = weighted(Linear(inputs, out, bias=bias is not None), **tensors)
    if dim == -2:
        return x.replaced(layer(value.transpose(-1, -2)).transpose(-1, -2), axis, out)
    found = x.replaced(layer(value), axis, out)
    if bias is None and axis == x.rank - 1:
        found.product = value, weight
    return found


def matmul(call: Call) -> Symbol:
    a, b = _numbers(call)
    if isinstance(b, Known) and isinstance(a, Symbol):
        weight = b.array("input 1")
        axes = [*[()] * (weight.ndim - a.rank), *a.axes]
        if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1:
            weight = weight.reshape(weight.shape[-2:])
        if weight.ndim == 1:
            found = linear(a, a.rank - 1, weight[None])
            return found.with_axes(found.axes[:-1])
        if weight.ndim != 2:
            raise Unfit(f"reads matrices of shape {weight.shape}, expected one matrix")
        return linear(a.with_axes(axes), len(axes) - 1, weight.T)
    if isinstance(a, Known) and isinstance(b, Symbol):
        weight = a.array("input 0")
        if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1:
            weight = weight.reshape(weight.shape[-2:])
        if weight.ndim != 2 or b.rank < 2:
            raise Unfit(f"reads a matrix of shape {weight.shape}, expected two axes")
        return linear(b, b.rank - 2, weight)
    assert isinstance(a, Symbol) and isinstance(b, Symbol)
    if min(a.rank, b.rank) < 2:
        raise Unfit("reads vectors that the net computes, expected matrices")
    shapes = []
    for one in (a, b):
        rows, cols = (one.frame_axis(one.rank + i, "a matrix's axis") for i in (-2, -1))
        shapes.append((math.prod(map(frame_size, one.axes[:-2])), rows, cols))
    rank = max(a.rank, b.rank)
    lead = [
        _met([one.axes[i - rank + one.rank] for one in (a, b) if i - rank + one.rank >= 0]) for i in range(rank - 2)
    ]
    frame = [shape if max(s[0] for s in shapes) > 1 else shape[1:] for shape in shapes]
    value = ops.matmul(a.framed(frame[0]), b.framed(frame[1]))
    if a.reversed != b.reversed:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    return Symbol(value, [*lead, part(shapes[0][1]), part(shapes[1][2])], a.reversed)


def gemm(call: Call) -> Symbol:
    x, weight = call.symbol(0), call.array(1, "B")
    get = call.attributes.get
    if get("transA") or x.rank != 2 or weight.ndim != 2:
        raise Unfit("reads a transposed value, expected rows of the net and a matrix of constants")
    weight = (weight if get("transB") else weight.T) * np.float32(get("alpha", 1.0))
    bias = None
    if call.has(2):
        bias = np.float32(get("beta", 1.0)) * np.broadcast_to(_settled(call.known(2, "C"), 1), (1, len(weight)))
        if bias.shape != (1, len(weight)):
            raise Unfit("C differs from row to row, expected a vector")
        bias = bias.reshape(-1)
    return linear(x, 1, weight, bias)


# ---- windows ----------------------------------------------------------------------------------------------


class _Window:
    """The sizes of windows over one axis: how a convolution or a pool walks along it."""

    def __init__(self, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> None:
        self.kernel, self.stride, self.dilation, self.pads = kernel, stride, dilation, pads

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def count(self, size: int) -> int:
        return (size + sum(self.pads) - self.span) // self.stride + 1


def windows(call: Call, x: Symbol, kernel: Sequence[int]) -> list[_Window]:
    """The windows over each axis behind the channels."""
    get = call.attributes.get
    count = x.rank - 2
    if count not in (1, 2) or len(kernel) != count:
        raise Unfit(f"reads {x.rank} axes with a kernel of {len(kernel)}, expected (N, C, L) or (N, C, rows, columns)")
    strides, dilations = get("strides") or [1] * count, get("dilations") or [1] * count
    pads = get("pads") or [0] * 2 * count
    if len(strides) != count or len(dilations) != count or len(pads) != 2 * count:
        raise Unfit("strides, dilations and pads do not fit the kernel")
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        raise Unfit("a stride, a dilation or a kernel is below 1, or a pad below 0")
    found = [
        _Window(*sizes, (pads[i], pads[count + i]))
        for i, sizes in enumerate(zip(kernel, strides, dilations, strict=True))
    ]
    auto = get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for i, window in enumerate(found):
            _timed(x, 2 + i)
            size = None if has(x.axes[2 + i], TIME) else x.frame_axis(2 + i)
            if size is None and window.stride > 1:
                raise Unfit(f"auto_pad is {auto} over time with a stride, where it depends on the number of steps")
            room = window.span - 1 if size is None else (-(-size // window.stride) - 1) * window.stride + window.span - size
            less, more = max(room, 0) // 2, max(room, 0) - max(room, 0) // 2
            window.pads = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        for window in found:
            window.pads = (0, 0)
    elif auto != "NOTSET":
        raise Unfit(f"auto_pad is {auto!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    for atom in x.axes[0]:
        if atom.kind == FRAME and atom.origin and atom.sizes != (1, 1):
            raise Retry(atom.origin, OPEN)
    if frame_size(x.axes[0]) > 1:
        raise Unfit("the first axis is a part of each frame, expected the batch")
    for i in range(count):
        _timed(x, 2 + i)
    if isinstance(x, Padded):
        timed = [i for i in range(count) if has(x.axes[2 + i], TIME)]
        if len(timed) != 1:
            raise Unfit("reads a sequence that was padded, but not along time")
        window = found[timed[0]]
        window.pads = (window.pads[0] + x.steps[0], window.pads[1] + x.steps[1])
    return found


def _stepped(x: Symbol, axis: int, window: _Window) -> Axis:
    """The axis of time behind windows over it."""
    (atom,) = x.axes[axis] if len(x.axes[axis]) == 1 else (None,)
    if atom is None or atom.kind != TIME:
        raise Unfit("windows go over time and something else at once")
    if x.reversed:
        raise Unfit("windows go over a sequence from its end, expected its own order")
    sizes = (window.count(atom.sizes[0]), window.count(atom.sizes[1]))
    return (atom if sizes == atom.sizes else Atom(TIME, sizes),)


def _sized(window: _Window, size: int) -> int:
    count = window.count(size)
    if count < 1:
        raise Unfit(f"got {size} + {sum(window.pads)} numbers, expected at least {window.span}, the kernel's")
    return count


def _even(value: Value, found: Sequence[_Window], fill: float = 0.0) -> Value:
    """The value, padded where a layer would have to pad one side more than the other."""
    sides: list[int] = []
    for window in reversed(found):
        uneven = window.pads[0] != window.pads[1]
        sides += window.pads if uneven else (0, 0)
        window.pads = (0, 0) if uneven else window.pads
    return frames.pad(value, tuple(sides), "constant", fill) if any(sides) else value


def convolution(call: Call) -> Symbol:
    x, weight = call.padded(0), call.array(1, "W")
    bias = call.array(2, "B") if call.has(2) else None
    found = windows(call, x, weight.shape[2:])
    groups = call.attributes.get("group", 1)
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    if x.frame_axis(1) != inputs:
        raise Unfit(f"W has shape {weight.shape}, but the value {x.frame_axis(1)} channels, expected {inputs}")
    timed = [i for i in range(len(found)) if has(x.axes[2 + i], TIME)]
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    more = {"groups": groups, "bias": bias is not None}
    if len(found) == 1 and (window := found[0]).kernel == window.stride == groups == 1 and window.pads == (0, 0):
        return linear(x.with_axes(x.axes), 1, weight[:, :, 0], bias)
    if timed == [0] and len(found) == 1:
        (window,) = found
        layer: Any = TimeConv1d(
            inputs,
            outputs,
            window.kernel,
            dilation=window.dilation,
            stride=window.stride,
            padding=window.pads,
            **more,
        )
        value = weighted(layer, **tensors)(x.framed((inputs,)))
        return Symbol(value, [x.axes[0], part(outputs), _stepped(x, 2, window)])
    if not timed and len(found) == 1:
        (window,) = found
        size = x.frame_axis(2)
        call.builder.notes(window, size)
        count = _sized(window, size)
        value = _even(x.framed((inputs, size)), found)
        layer = Conv1d(inputs, outputs, window.kernel, window.stride, window.pads[0], window.dilation, **more)
        return Symbol(weighted(layer, **tensors)(value), [x.axes[0], part(outputs), part(count)], x.reversed)
    if not timed:
        shape = (inputs, x.frame_axis(2), x.frame_axis(3))
        counts = [_sized(window, size) for window, size in zip(found, shape[1:], strict=True)]
        value = _even(x.framed(shape), found)
        rows, cols = found
    elif len(timed) == 1:
        axis, other = timed[0], found[1 - timed[0]]
        size = x.frame_axis(3 - axis)
        count = _sized(other, size)
        window = found[axis]
        unfolded = TimeUnfold(window.kernel, window.stride, window.pads, window.dilation)(x.framed((inputs, size)))
        if axis == 0:  # windows are the last axis
            tensors["weight"] = weight.swapaxes(2, 3)
        rows, cols = other, _Window(window.kernel, 1, 1, (0, 0))
        value = _even(unfolded, [rows, cols])
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


def pool(call: Call) -> Symbol:
    """MaxPool and AveragePool."""
    x, is_max = call.padded(0), call.node.op == "MaxPool"
    found = windows(call, x, call.attributes.get("kernel_shape") or [])
    if call.attributes.get("ceil_mode") or call.attributes.get("storage_order") or call.outputs > 1:
        raise Unfit("has ceil_mode, storage_order or indices, expected none of them")
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
        if len(timed) > 1 or window.pads != (0, 0):
            raise Unfit("pools steps with padding, or two axes of time, which no layer of tinyrnn does")
        rest = [w for i, w in enumerate(found) if i != axis]
        frame = [channels, *(x.frame_axis(2 + i) for i in range(len(found)) if i != axis)]
        value = TimeUnfold(window.kernel, window.stride, 0, window.dilation)(x.framed(frame))
        axes[2 + axis] = _stepped(x, 2 + axis, window)
        for i, other in enumerate(found):
            if i != axis:
                axes[2 + i] = part(_sized(other, x.frame_axis(2 + i)))
        found = [*rest, _Window(window.kernel, 1, 1, (0, 0))]
    else:
        sizes = [x.frame_axis(2 + i) for i in range(len(found))]
        axes[2:] = [part(_sized(window, size)) for window, size in zip(found, sizes, strict=True)]
        value = x.framed((channels, *sizes))
    if any(w.pads[0] != w.pads[1] for w in found) and not (is_max or counted):
        raise Unfit("pads one side more than the other and does not count the padding")
    value = _even(value, found, -math.inf if is_max else 0.0)
    kinds: Any = (MaxPool1d, MaxPool2d) if is_max else (AvgPool1d, AvgPool2d)
    more: dict[str, Any] = {"dilation": tuple(w.dilation for w in found)} if is_max else {"count_include_pad": counted}
    kernel, stride, pads = (
        tuple(one) for one in zip(*((w.kernel, w.stride, w.pads[0]) for w in found), strict=True)
    )
    return Symbol(kinds[len(found) - 1](kernel, stride, pads, **more)(value), axes, x.reversed)


# ---- reductions and norms -----------------------------------------------------------------------------------


def _reduce(frame: Callable[..., Any], time: Callable[[], Any] | None) -> Callable[[Call], Symbol]:
    """A reduction over axes of the frame, or over time."""

    def done(call: Call) -> Symbol:
        x = call.symbol(0)
        if call.has(1):
            call.array(1, "axes")
        given = call.fold().ints("axes", 1)
        if not given and call.attributes.get("noop_with_empty_axes"):
            return x
        axes = axes_of(given, x.rank) if given else tuple(range(x.rank))
        return reduced(x, axes, bool(call.attributes.get("keepdims", 1)), frame, time)

    return done


def reduced(x: Symbol, axes: Sequence[int], keep: bool, frame: Any, time: Any) -> Symbol:
    """A value with fewer axes, or with axes of size 1."""
    for axis in axes:
        _timed(x, axis)
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
        dims = dims or (-1,) if value.frame == (1,) else dims
        if dims:
            value = frame(dims)(value)
    if not keep:
        left = [one for i, one in enumerate(left) if i not in axes]
    return Symbol(value, left, x.reversed and any(has(axis, TIME) for axis in left))


def _global(frame: Callable[..., Any], time: Callable[[], Any]) -> Callable[[Call], Symbol]:
    """A pool over all of the axes behind the channels."""
    return lambda call: reduced(call.symbol(0), range(2, call.symbol(0).rank), True, frame, time)


def softmax(kind: Callable[[int], Any]) -> Callable[[Call], Symbol]:
    def done(call: Call) -> Symbol:
        x = call.symbol(0)
        axis = axis_of(call.attributes.get("axis", -1 if call.opset >= 13 else 1), x.rank)
        if call.opset < 13 and any(frame_size(one) > 1 for one in x.axes[axis + 1 :]):
            raise Unfit("is of an opset below 13 and goes over several axes, expected the last one")
        value, dim = x.along(axis)
        if dim == -1:
            return Symbol(kind(-1)(value), x.axes, x.reversed)
        turned = kind(-1)(value.transpose(-1, -2)).transpose(-1, -2)
        return Symbol(turned, x.axes, x.reversed)

    return done


def batch_norm(call: Call) -> Symbol:
    x = call.symbol(0)
    if call.attributes.get("training_mode"):
        raise Unfit("is in training mode, expected inference")
    weight, bias, mean, var = (call.array(1 + i).reshape(-1) for i in range(4))
    axis = 1 if x.rank > 1 else 0
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


def layer_norm(call: Call) -> Symbol:
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", -1), x.rank)
    size = math.prod(x.frame_axis(i) for i in range(axis, x.rank))
    before = math.prod(map(frame_size, x.axes[:axis]))
    if call.outputs > 1 and any(call.node.outputs[1:]):
        raise Unfit("writes its mean and deviation, expected one output")
    scale = call.array(1, "Scale").reshape(-1)
    bias = call.array(2, "B").reshape(-1) if call.has(2) else np.zeros(size, np.float32)
    if not len(scale) == len(bias) == size:
        raise Unfit(f"has {len(scale)} scales for {size} numbers")
    layer = weighted(LayerNorm(size, float(call.attributes.get("epsilon", 1e-5))), weight=scale, bias=bias)
    return Symbol(layer(x.framed((before, size) if before > 1 else (size,))), x.axes, x.reversed)


def instance_norm(call: Call) -> Symbol:
    x = call.symbol(0)
    scale, bias = call.array(1).reshape(-1), call.array(2).reshape(-1)
    channels = x.frame_axis(1)
    size = math.prod(x.frame_axis(i) for i in range(2, x.rank))
    if not len(scale) == len(bias) == channels:
        raise Unfit(f"has {len(scale)} scales for {channels} channels")
    eps = float(call.attributes.get("epsilon", 1e-5))
    layer = weighted(InstanceNorm1d(channels, eps=eps, affine=True), weight=scale, bias=bias)
    return Symbol(layer(x.framed((channels, size))), x.axes, x.reversed)


def group_norm(call: Call) -> Symbol:
    x = call.symbol(0)
    groups = call.attributes.get("num_groups", 1)
    scale, bias = call.array(1).reshape(-1), call.array(2).reshape(-1)
    channels = x.frame_axis(1)
    if not len(scale) == len(bias) == channels:
        raise Unfit(f"has {len(scale)} scales for {channels} channels")
    value, _ = x.along(1)
    eps = float(call.attributes.get("epsilon", 1e-5))
    return Symbol(weighted(GroupNorm(groups, channels, eps), weight=scale, bias=bias)(value), x.axes, x.reversed)


# ---- the list -------------------------------------------------------------------------------------------------

OPERATORS: dict[str, Callable[[Call], Any]] = {
    "Abs": _one(lambda call: activations.Abs()),
    "Add": add,
    "And": _two(ops.Multiply),
    "AveragePool": pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Celu": _attribute("alpha", 1.0, activations.CELU),
    "Clip": clip,
    "Concat": concat,
    "Conv": convolution,
    "Div": _two(ops.Divide, lambda a, b: a / b),
    "Dropout": same,
    "Elu": _attribute("alpha", 1.0, activations.ELU),
    "Equal": _two(ops.Equal, ops.eq),
    "Exp": _one(lambda call: activations.Exp()),
    "Expand": expand,
    "Flatten": flatten,
    "GRU": recurrent,
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": _global(frames.Mean, MeanOverTime),
    "GlobalMaxPool": _global(frames.Amax, MaxOverTime),
    "Greater": _two(ops.Greater, ops.gt),
    "GreaterOrEqual": _two(ops.GreaterEqual, ops.ge),
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _one(lambda call: activations.Hardswish()),
    "Identity": same,
    "InstanceNormalization": instance_norm,
    "LSTM": recurrent,
    "LayerNormalization": layer_norm,
    "LeakyRelu": _attribute("alpha", 0.01, activations.LeakyReLU),
    "Less": _two(ops.Less, ops.lt),
    "LessOrEqual": _two(ops.LessEqual, ops.le),
    "Log": _one(lambda call: activations.Log()),
    "LogSoftmax": softmax(LogSoftmax),
    "MatMul": matmul,
    "Max": _two(ops.Maximum),
    "MaxPool": pool,
    "Min": _two(ops.Minimum),
    "Mish": _one(lambda call: activations.Mish()),
    "Mul": _two(ops.Multiply, lambda a, b: a * b),
    "Neg": _one(lambda call: activations.Neg()),
    "Not": _one(lambda call: activations.Scale(-1.0, 1.0)),
    "Or": _two(ops.Maximum),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": _two(ops.Pow, _raised),
    "RNN": recurrent,
    "Reciprocal": _one(lambda call: activations.Reciprocal()),
    "ReduceL2": _reduce(frames.VectorNorm, None),
    "ReduceLogSumExp": _reduce(frames.LogSumExp, None),
    "ReduceMax": _reduce(frames.Amax, MaxOverTime),
    "ReduceMean": _reduce(frames.Mean, MeanOverTime),
    "ReduceMin": _reduce(frames.Amin, None),
    "ReduceProd": _reduce(frames.Prod, None),
    "ReduceSum": _reduce(frames.Sum, SumOverTime),
    "Relu": _one(lambda call: activations.ReLU()),
    "Reshape": reshape,
    "Selu": _one(lambda call: activations.SELU()),
    "Sigmoid": _one(lambda call: activations.Sigmoid()),
    "Sign": _one(lambda call: activations.Sign()),
    "Slice": slices,
    "Softmax": softmax(Softmax),
    "Softplus": _one(lambda call: activations.Softplus()),
    "Softsign": _one(lambda call: activations.Softsign()),
    "Split": split,
    "Sqrt": _one(lambda call: activations.Sqrt()),
    "Squeeze": squeeze,
    "Sub": _two(ops.Subtract, lambda a, b: a - b),
    "Sum": _two(ops.Add),
    "Tanh": _one(lambda call: activations.Tanh()),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
