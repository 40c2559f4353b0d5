"""Operations that put numbers under other axes, or take parts of frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from tinyrnn import frames, ops
from tinyrnn.graph import Graph as Net
from tinyrnn.importing import CodedArray, Unfit, weighted
from tinyrnn.layers import (
    Embedding,
)
from tinyrnn.onnx.arithmetic import aligned, operands, settled
from tinyrnn.onnx.folding import axes_of, axis_of, bounds, sections, span, squeezed_axes
from tinyrnn.onnx.nodes import Call, Padded, Step
from tinyrnn.onnx.steps import MOST_STEPS, cropped, is_time, repeated, some_steps
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    FRAME,
    OPEN,
    TIME,
    Known,
    Matrix,
    Product,
    Retry,
    Sizes,
    Symbol,
    claim,
    claim_time,
    constant,
    frame_size,
    has,
    is_frame,
    met,
    part,
    reframed,
    regrouped,
    sizes_of,
)
from tinyrnn.pooling import MaxPool2d
from tinyrnn.temporal import LastStep
from tinyrnn.values import Input, Value, applied, reached
from tinyrnn.weights.spec import Array, shown

MOST_COPIES = 256  # of the numbers of a frame

# ---- the same numbers under other axes -------------------------------------------------------------------


def reshape(call: Call) -> Symbol:
    x = call.movable(0)
    given = Known(np.array(call.attributes["shape"])) if not call.has(1) else call.known(1, "shape")
    keep = not call.attributes.get("allowzero")
    own = [sizes_of(axis) for axis in x.axes]
    wanted: list[Sizes | None] = []
    for i, sizes in enumerate(given.sizes):
        if sizes == (0, 0) and keep and i < len(own):
            sizes = own[i]
        wanted.append(None if sizes == (-1, -1) else sizes)
    choices = _filled_in(x, wanted)
    for filled in choices:
        try:
            return x.with_axes(regrouped(x.axes, filled))
        except Unfit as error:
            fault = error
    for axis, (one, other) in zip(x.axes, choices[0], strict=False):
        if (one, other) == BATCH_SIZES:
            claim(axis, BATCH)
        if is_time(axis) and axis[0].origin and axis[0].declared is None and one == other > 1:
            raise Retry(f"~{axis[0].origin}", one)  # the export traced so many steps
    raise fault


def _filled_in(x: Symbol, wanted: list[Sizes | None]) -> list[list[Sizes]]:
    """The sizes that a Reshape may mean, of which one may be what is left (None)."""
    if wanted.count(None) > 1:
        raise Unfit("the shape has two sizes of -1, expected one")
    whole = [sizes_of(axis) for axis in x.axes]
    declared = {atom.declared: atom.sizes for axis in x.axes for atom in axis if atom.declared is not None}
    if None not in wanted:
        return [[one for one in wanted if one is not None]]
    found: list[list[Sizes]] = []
    told = [declared.pop(one[0], one) if one and one[0] == one[1] else one for one in wanted]
    for choice in (told, wanted):
        rest = []
        for world in (0, 1):
            total = math.prod(sizes[world] for sizes in whole)
            known = math.prod(sizes[world] for sizes in choice if sizes is not None)
            rest.append(total // known if known and total % known == 0 else 0)
        if 0 not in rest:
            left = (rest[0], rest[1])
            found.append([left if sizes is None else sizes for sizes in choice])
    if not found:
        atoms = (atom for axis in x.axes for atom in axis or (None,))  # steps and rows may be one axis
        for told_size, atom in zip(wanted, atoms, strict=False):
            if atom is not None and atom.kind == TIME and atom.origin and atom.declared is None and told_size:
                raise Retry(f"~{atom.origin}", told_size[0])  # the export traced so many steps
        raise Unfit("the shape fits no number of steps and rows")
    return found


def flatten(call: Call) -> Symbol:
    x = call.symbol(0)
    axis = call.attributes.get("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    ends = [sizes_of([atom for one in axes for atom in one]) for axes in (x.axes[:axis], x.axes[axis:])]
    return x.with_axes(regrouped(x.axes, ends))


def squeeze(call: Call) -> Symbol:
    x = call.movable(0)
    axes = squeezed_axes(call.fold().ints("axes", 1), [sizes_of(axis)[0] for axis in x.axes])
    for axis in axes:
        if sizes_of(x.axes[axis]) != (1, 1):
            for atom in x.axes[axis]:
                if atom.origin and atom.kind == OPEN:
                    raise Retry(f"={atom.origin}", 1)
            raise Unfit(f"axis {axis} has more than one number, expected size 1")
    return x.with_axes([one for axis, one in enumerate(x.axes) if axis not in axes])


def unsqueeze(call: Call) -> Symbol:
    x = call.movable(0)
    added = call.fold().ints("axes", 1) or []
    places = axes_of(added, x.rank + len(added))
    rest = iter(x.axes)
    return x.with_axes([() if place in places else next(rest) for place in range(x.rank + len(added))])


def transpose(call: Call) -> Symbol:
    x = call.movable(0)
    order = axes_of(call.attributes.get("perm") or list(range(x.rank))[::-1], x.rank)
    if len(order) != x.rank:
        raise Unfit(f"perm is {list(order)}, expected one for each of {x.rank} axes")
    axes = [x.axes[axis] for axis in order]
    kept = [axis for axis in range(x.rank) if frame_size(x.axes[axis]) > 1]
    moved = [axis for axis in order if axis in kept]
    if moved == kept:
        return x.with_axes(axes)
    x = call.symbol(0)
    if any(not is_frame(x.axes[axis]) for axis in kept) or len(kept) > 5:
        raise Unfit("moves parts of axes of time or of the batch, or more than five axes of a frame")
    value, at = x.value, kept
    for blocks in _turns(tuple(kept), tuple(moved)):
        groups = sorted(blocks, key=lambda group: at.index(group[0]))
        shape = [math.prod(frame_size(x.axes[axis]) for axis in group) for group in groups]
        dims = [groups.index(group) - len(groups) for group in blocks]
        value = applied(frames.Permute(dims), (reframed(value, shape),))
        at = [axis for group in blocks for axis in group]
    return Symbol(value, axes, x.reversed)


def _turns(start: tuple[int, ...], end: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """The fewest turns of two or three blocks of axes that bring them in another order."""
    found: dict[tuple[int, ...], list[list[tuple[int, ...]]]] = {start: []}
    for order in (left := [start]):
        for i, j in combinations(range(len(order) + 1), 2):
            parts = [one for one in (order[:i], order[i:j], order[j:]) if one]
            for blocks in permutations(parts):
                after = tuple(axis for block in blocks for axis in block)
                if after not in found:
                    found[after] = [*found[order], list(blocks)]
                    left.append(after)
        if end in found:
            break
    return found[end]


def expand(call: Call) -> Symbol:
    """Size 1 becomes the size of time or the batch at no cost; within a frame numbers are repeated."""
    x, wanted = call.symbol(0), call.known(1, "shape").sizes
    rank = max(x.rank, len(wanted))
    axes = x.widened(rank)
    wide = [(1, 1)] * (rank - len(wanted)) + wanted
    x = x.with_axes(axes)
    for i, sizes in enumerate(wide):
        if sizes_of(axes[i]) == (1, 1) and (sizes[0] != sizes[1] or _are_steps(call)):
            x = repeated(call, x, i, _steps_of(call, sizes))
            axes = list(x.axes)
    repeats = np.zeros(
        [1 if sizes_of(axis) != (1, 1) else sizes[0] for axis, sizes in zip(axes, wide, strict=True)]
    )
    if repeats.size == 1:
        return x.with_axes(axes)
    call.builder.room(repeats.size)
    values, found, backwards = aligned(call, [x, Known(repeats)])
    grown = next((i for i, (a, b) in enumerate(zip(axes, wide, strict=True)) if not a and b[0] > 1), None)
    return _copied(call, Symbol(applied(ops.Add(), values), found, backwards), grown)


# Copies of a value along an axis may turn out to be steps: a layer of RepeatVector's kind.


def _copied(call: Call, x: Symbol, axis: int | None) -> Symbol:
    """A value whose copies along an axis are steps where a recurrent node reads them so."""
    if axis is None or x.value.time is not None or call.builder.learned is None:
        return x
    (atom,) = x.axes[axis]
    origin = f"*{call.node.outputs[0]}"
    return x.with_axes(
        [(atom._replace(origin=origin),) if i == axis else one for i, one in enumerate(x.axes)]
    )


def _are_steps(call: Call) -> bool:
    learned = call.builder.learned
    return learned is not None and learned.kinds.get(f"*{call.node.outputs[0]}") == TIME


def _steps_of(call: Call, sizes: Sizes) -> Sizes:
    """The sizes of the axis of time that has as many steps as a file tells."""
    if sizes[0] != sizes[1]:
        return sizes
    alike = (atom.sizes for atom, _ in call.builder.timed.values() if atom.declared == sizes[0])
    found: Sizes = next(alike, None) or call.builder.own_steps(sizes[0])
    return found


def tile(call: Call) -> Symbol:
    """A value several times, along time or within a frame."""
    x = call.symbol(0)
    wanted = call.known(1, "repeats").sizes
    if len(wanted) != x.rank:
        raise Unfit(f"got {len(wanted)} repeats for {x.rank} axes")
    for axis, sizes in enumerate(wanted):
        once = sizes_of(x.axes[axis]) == (1, 1)
        if once and sizes != (1, 1) and (sizes[0] != sizes[1] or _are_steps(call)):
            x = repeated(call, x, axis, _steps_of(call, sizes))
        elif sizes != (1, 1):
            if sizes[0] != sizes[1] or not 1 <= sizes[0] <= MOST_COPIES:
                raise Unfit(f"repeats an axis {sizes[0]} times, expected 1 .. {MOST_COPIES}")
            inner = call._replace(inputs=[x] * sizes[0], node=call.node._replace(attributes={"axis": axis}))
            x = _copied(call, concat(inner), axis if once else None)
    return x


# ---- parts and wholes ------------------------------------------------------------------------------------


def together(values: Sequence[Value], dim: int) -> Value:
    """Frames side by side; parts of one value that make it up are that value."""
    first = values[0]
    if len(values) == 1:
        return first
    end = 0
    for value in values:
        layer = value.layer
        if (
            not isinstance(layer, ops.Slice)
            or value.reads != first.reads
            or (layer.dim, layer.start) != (dim, end)
        ):
            return ops.concat(values, dim)
        end += layer.size
    (whole,) = first.reads
    return whole if whole.frame[dim] == end else ops.concat(values, dim)


def _cut(x: Symbol, axis: int, start: int, size: int) -> Symbol:
    """A part of an axis of the frame."""
    if start == 0 and size == x.frame_axis(axis):
        return x
    value, dim = x.along(axis)
    return x.replaced(applied(ops.Slice(start, size, dim), (value,)), axis, size)


def _chosen(x: Symbol, axis: int, places: Sequence[int]) -> Symbol:
    """Numbers of an axis of the frame, by their places."""
    size = x.frame_axis(axis)
    if not places or min(places) < 0 or max(places) >= size:
        raise Unfit(f"takes nothing, or a number beyond the {size} of axis {axis}")
    first, end = places[0], places[-1] + 1
    step = max(1, places[1] - first) if len(places) > 1 else 1
    if step > 1 and [*places] == [*range(first, end, step)]:
        x = _cut(x, axis, first, end - first)
        before, behind = (math.prod(map(frame_size, one)) for one in (x.axes[:axis], x.axes[axis + 1 :]))
        pool = MaxPool2d(1, stride=(step, 1))  # windows of one number
        return x.replaced(applied(pool, (x.framed((before, end - first, behind)),)), axis, len(places))
    runs: list[list[int]] = []
    for one in places:
        if runs and sum(runs[-1]) == one:
            runs[-1][1] += 1
        else:
            runs.append([one, 1])
    if len(runs) > 64:
        raise Unfit(f"takes {len(runs)} parts of a frame, expected at most 64")
    parts = [_cut(x, axis, *run).along(axis) for run in runs]
    return x.replaced(together([one for one, _ in parts], parts[0][1]), axis, len(places))


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
            builder = call.builder
            turned = whole and axis == 0 and atom.kind != TIME and not builder.has_time and builder.recurs
            if atom.origin and (atom.kind == OPEN or turned):
                raise Retry(atom.origin, TIME)
        if len(atoms) == 1 and atoms[0].kind == TIME:
            backwards = Symbol(x.value, x.axes, not x.reversed)
            x = backwards if whole else _some_steps(x, axis, spans, sizes, (start, end))
            continue
        x.frame_axis(axis)
        if spans[0] != spans[1]:
            raise Unfit("takes a part that depends on the number of steps or rows")
        x = _chosen(x, axis, spans[0])
    return x


def _some_steps(
    x: Symbol, axis: int, spans: tuple[range, range], sizes: Sizes, ends: tuple[int, int]
) -> Symbol:
    """A part of the steps: all but a few at the ends, every n-th one, or a few; ``ends`` as they are told."""
    one, other = spans
    pairs = list(zip(spans, sizes, strict=True))
    from_end = [range(places.start - size, places.stop - size, places.step) for places, size in pairs]
    ways = [spans, from_end]
    if sizes[0] == sizes[1]:  # traced: which end counts is told, not seen
        start, end = ends
        ways = ways[start < 0 :][:1] if start < 0 or 0 <= end < sizes[0] else []
    for first, second in ways:
        if first == second and 0 < len(first) <= MOST_STEPS:
            return some_steps(x, axis, first)
    behind = [size - places.stop for places, size in pairs]
    alike = one.start == other.start and one.step == other.step > 0
    if alike and one.step > 1 and behind == [0, 0]:
        return cropped(x, axis, one.start, 0, one.step)
    if not alike or one.step > 1 or behind[0] != behind[1]:
        raise Unfit("takes a part of the steps that depends on their number")
    if x.shortened:
        try:
            return x.shortened(one.start, behind[0])
        except Unfit:  # a convolution that pads less
            pass
    return cropped(x, axis, one.start, behind[0])


def gather(call: Call) -> Symbol:
    if isinstance(call.get(0), Known):
        return _embedding(call)
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", 0), x.rank)
    step = call.get(1)
    if isinstance(step, Step):
        return step.taken(x, axis)
    known = call.known(1, "indices")
    sizes = sizes_of(x.axes[axis])
    indices = [np.where(one < 0, one + size, one) for one, size in zip(known.worlds, sizes, strict=True)]
    atoms = x.axes[axis]
    claim_time(x, axis)
    if len(atoms) == 1 and atoms[0].kind == TIME:
        return _by_number(x, axis, known, indices, sizes)
    x.frame_axis(axis)
    places = Known(*indices).array("indices")
    value = _chosen(x, axis, [int(one) for one in places.reshape(-1)]).value
    inserted = [part(size) for size in places.shape]
    return Symbol(value, [*x.axes[:axis], *inserted, *x.axes[axis + 1 :]], x.reversed)


def _by_number(x: Symbol, axis: int, known: Known, indices: Sequence[Array], sizes: Sizes) -> Symbol:
    """Steps by their numbers."""
    rank = known.worlds[0].ndim
    from_end = [one - size for one, size in zip(indices, sizes, strict=True)]
    ways = (indices, from_end)[:: -1 if np.all(known.worlds[0] < 0) else 1]
    numbers = next((one for one, other in ways if np.array_equal(one, other)), None)
    if numbers is None or rank > 1 or numbers.size > MOST_STEPS:
        raise Unfit("takes steps by numbers that depend on the length, expected the first or the last")
    found = some_steps(x, axis, [int(one) for one in numbers.reshape(-1)])
    return found if rank else found.with_axes([one for i, one in enumerate(found.axes) if i != axis])


def _embedding(call: Call, indices: Symbol | None = None) -> Symbol:
    table, x = call.weight(0, "data", call.builder.int8), indices or call.symbol(1)
    if isinstance(table, np.ndarray) and table.dtype.itemsize == 1:
        table = CodedArray(table, np.ones((1, 1), np.float32), np.zeros((1, 1)), kept=call.builder.int8)
    if call.attributes.get("axis", 0) % table.ndim or table.ndim != 2:
        raise Unfit(
            f"reads a table of shape {table.shape} along axis {call.attributes.get('axis', 0)}, expected rows"
        )
    for axis in x.axes[:-1]:
        claim(axis, BATCH if sizes_of(axis) == (1, 1) else OPEN, FRAME)
    if isinstance(x.value.layer, LastStep) and not x.value.frame:  # embed all steps first, then take the last
        found = _embedding(call, Symbol(x.value.reads[0], x.axes))
        return Symbol(x.value.layer(found.value), found.axes)
    if x.value.layer is not None:
        x, table = _by_input(x, table)
    if len(x.value.frame) > 1:
        raise Unfit("reads frames of indices, expected one at each step or for each sequence")
    if call.builder.learned is not None:
        rows, name = call.builder.learned.rows, str(x.value.label)
        if name in call.builder.compared and name not in rows:
            raise Retry(f"#{name}", len(table))
        rows.setdefault(name, len(table))
    return _rows_of(x, table)


def _by_input(x: Symbol, table: Matrix) -> tuple[Symbol, Matrix]:
    """The input that indices are computed from, and the rows that each of its numbers means."""
    inputs = [value for value in reached([x.value]).values() if isinstance(value, Input)]
    if len(inputs) == 1 and not inputs[0].frame and math.prod(x.value.frame) == 1:
        numbers = np.arange(2 * len(table))
        rows, alone = (_of_numbers(inputs[0], x.value, one) for one in (numbers[:, None], numbers[None]))
        rows = rows[: np.argmin([*(rows == np.round(rows)) & (abs(rows + 0.5) < len(table)), False])]
        if len(rows) and np.array_equal(rows, alone[: len(rows)]):  # a number by itself, not by those before
            return Symbol(inputs[0], x.axes, x.reversed), table[rows.astype(int)]
    raise Unfit("reads indices that the net computes, expected those of an input")


def _of_numbers(index: Value, found: Value, numbers: Array) -> Array:
    """The numbers of a value that follows from an input, for whole numbers of that."""
    return np.asarray(Net({"x": index}, {"y": found})(numbers)).reshape(-1)


def compared(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """A comparison; one of an index and a number is a table with the result for each index."""

    def done(call: Call) -> Any:
        found, learned = function(call), call.builder.learned
        index = next((one for one in call.inputs if isinstance(one, Symbol)), None)
        others = [one for one in call.inputs if one is not index]
        alone = all(isinstance(one, Known) and not one.varies and one.worlds[0].size == 1 for one in others)
        if (
            learned is None
            or index is None
            or not alone
            or index.value.layer is not None
            or index.value.frame
        ):
            return found
        name = str(index.value.label)
        call.builder.compared.add(name)
        if name not in learned.rows:
            return found
        rows = learned.rows[name]
        table = _of_numbers(index.value, found.value, np.arange(rows)[:, None]).reshape(-1, 1)
        if np.all(table == table[0]):  # no index is below 0
            return Known(table[0, 0] > 0)
        layer = weighted(Embedding(rows, 1), weight=table)
        return Symbol(layer(index.value), index.axes, index.reversed)

    return done


def _rows_of(x: Symbol, table: Matrix) -> Symbol:
    """Rows of a table; of one of codes a scale behind it is the table's."""
    layer = weighted(Embedding(*table.shape), weight=table)
    found = Symbol(layer(x.value), [*x.axes, part(table.shape[1])], x.reversed)
    if isinstance(table, CodedArray):
        found.product = Product(lambda other, _: _rows_of(x, other), table, np.zeros(1), -1, scales=True)
    return found


def reverse_sequence(call: Call) -> Symbol:
    """A sequence from its last step to its first, where the lengths of rows are all of it."""
    x, lengths = call.symbol(0), call.known(1, "sequence_lens")
    axis = axis_of(call.attributes.get("time_axis", 0), x.rank)
    claim(x.axes[axis], TIME)
    if not is_time(x.axes[axis]):
        raise Unfit("turns an axis of a frame round, expected the steps of a sequence")
    (atom,) = x.axes[axis]
    for sizes in (atom.sizes, (atom.declared, atom.declared)):
        if all(np.all(one == size) for one, size in zip(lengths.worlds, sizes, strict=True)):
            return Symbol(x.value, x.axes, not x.reversed)
    raise Unfit(
        "turns a part of a sequence round, expected all of its steps: give the net rows of one length"
    )


def split(call: Call) -> list[Symbol | None]:
    """The parts of an axis of the frame; an empty one is absent."""
    x = call.symbol(0)
    axis = axis_of(call.attributes.get("axis", 0), x.rank)
    sizes = sections(call.fold(), x.frame_axis(axis))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [_cut(x, axis, start, size) if size else None for start, size in zip(starts, sizes, strict=True)]


def _beside_zeros(call: Call, given: Sequence[Symbol | Known], x: Symbol, axis: int) -> Symbol:
    """A sequence between steps of zeros."""
    place, pads = given.index(x), np.zeros((2, x.rank), int)
    for i, one in enumerate(given):
        if i == place:
            continue
        worlds = one.worlds if isinstance(one, Known) else (np.ones(1), np.ones(1))
        if any(map(np.any, worlds)) or worlds[0].shape[axis] != worlds[1].shape[axis]:
            raise Unfit("joins steps, expected those of one sequence and zeros")
        pads[int(i > place), axis] += worlds[0].shape[axis]
    node = call.node._replace(attributes={})
    return pad(call._replace(inputs=[x, Known(pads.reshape(-1))], node=node))


def concat(call: Call) -> Symbol:
    given = [one for one in operands(call) if isinstance(one, Symbol) or one.worlds[0].size]
    symbols = [one for one in given if isinstance(one, Symbol)]
    if len(given) == 1:
        return symbols[0]
    rank = symbols[0].rank
    axis = axis_of(call.attributes.get("axis", 1), rank)
    if any(one.rank != rank for one in symbols):
        raise Unfit("reads values of different ranks")
    for x in symbols:
        claim_time(x, axis)
        if is_time(x.axes[axis]):
            return _beside_zeros(call, given, x, axis)
    others = tuple(met([one.axes[i] for one in symbols]) for i in range(rank) if i != axis)
    behind = math.prod(map(frame_size, others[axis:]))
    before = math.prod(map(frame_size, others[:axis]))
    values, total = [], 0
    for one in given:
        if isinstance(one, Known):
            array = settled(one, [*others[:axis], (), *others[axis:]])
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
    fill = (
        float(call.array(2, "constant_value").reshape(-1)[0])
        if call.has(2)
        else call.attributes.get("value", 0.0)
    )
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise Unfit(f"mode is {shown(mode)}, expected one of {', '.join(modes)}")
    steps = (0, 0)
    for i, axis in enumerate(axes):
        before, behind = given[i], given[len(axes) + i]
        if before == behind == 0:
            continue
        claim_time(x, axis)
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
    padded.steps, padded.ahead = steps, x.ahead
    return padded
