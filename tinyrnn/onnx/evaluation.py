"""Nodes that become no layer: their result is known while the net is built.

Of known arrays a node is folded; of states it moves the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinyrnn.onnx.folding import FOLDS, MOVES, axis_of, bounds
from tinyrnn.onnx.nodes import Call, Given, Listed, Step, Until
from tinyrnn.onnx.symbols import BATCH, BATCH_SIZES, Known, Places, Retry, Sizes, Symbol
from tinyrnn.weights.spec import Array

ALL = 2**31 - 1  # the end of a Slice that takes all
# Arithmetic with these numbers changes nothing.
NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


def evaluated(call: Call) -> list[Given] | None:
    """The outputs of a node whose result is known; None of one that becomes a layer."""
    op, first = call.node.op, call.get(0)
    if op in ("Identity", "Cast") and isinstance(first, (Step, Listed, Until)):
        return [first]
    if any(isinstance(one, (Step, Until)) for one in call.inputs):
        return counted(call)
    if op in ("Shape", "Size") and isinstance(first, (Symbol, Places)):
        return [_sizes(call, first)]
    if op in FOLDS and all(one is None or isinstance(one, Known) for one in call.inputs):
        return [*folded(call)]
    if all(one is None or isinstance(one, (Known, Places)) for one in call.inputs):
        return moved(call)
    return None


def counted(call: Call) -> list[Given] | None:
    """The outputs of a node that counts steps, or compares their number; None if it does more."""
    op, pair = call.node.op, [call.get(0), call.get(1)]
    step = next((one for one in pair if isinstance(one, Step)), None)
    ends = [one.sizes for one in pair if isinstance(one, Until)]
    known = next((one for one in pair if isinstance(one, Known)), None)
    if op == "And" and ends and (known is None or np.all(known.array("a condition"))):
        return [Until((min(a for a, _ in ends), min(b for _, b in ends)))]
    if step is None or known is None or any(one.size != 1 for one in known.worlds):
        return None
    first, second = (int(one.reshape(-1)[0]) for one in known.worlds)
    if op == "Add" and first == second:
        return [step.plus(first)]
    if op == "Less" and pair[0] is step:
        return [Until((first + 1 - step.ahead, second + 1 - step.ahead))]
    return None


def _sizes(call: Call, of: Symbol | Places) -> Known:
    """The Shape or the Size of a value."""
    sizes = of.shape.worlds
    if call.node.op == "Size":
        return Known(*(np.array(one.prod()) for one in sizes))
    get = call.attributes.get
    return Known(*(one[get("start", 0) : get("end", len(one))] for one in sizes))


def folded(call: Call) -> list[Known]:
    """The outputs of a node that reads known arrays."""
    varies = any(isinstance(one, Known) and one.varies for one in call.inputs)
    worlds = []
    for world in (0, 1) if varies else (0,):
        result = FOLDS[call.node.op](call.fold(world))
        worlds.append(result if isinstance(result, list) else [result])
    return [Known(*arrays) for arrays in zip(*worlds, strict=True)]


def _find_batch(call: Call, given: Places, sizes: Sequence[Sizes]) -> None:
    """Learn that a size that varies, of a Reshape of states, is the batch."""
    for place, pair in enumerate(sizes):
        if axis := call.builder.ports.axes.that(pair):
            raise Retry(axis, BATCH)
        if pair == BATCH_SIZES and given.batch is None and place < given.ids.ndim:
            call.builder.states.find_batch(given, place)


def moved(call: Call) -> list[Given] | None:
    """The outputs of a node that moves places of states; None if it does more."""
    op, first = call.node.op, call.get(0)
    if op == "Cast" and isinstance(first, Places) and call.attributes.get("to") in (1, 10, 11, 16):
        return [first]
    if op in NEUTRAL and isinstance(first, Places) and isinstance(call.get(1), Known):
        numbers = call.known(1).worlds
        fits = numbers[0].size == 1 or numbers[0].shape == first.ids.shape
        if fits and all(np.all(one == NEUTRAL[op]) and one.ndim <= first.ids.ndim for one in numbers):
            return [first]
    if op not in MOVES or not isinstance(first, Places) or (op == "Dropout" and call.outputs > 1):
        return None
    if op == "Concat" and any(isinstance(one, Known) for one in call.inputs):
        return None
    if op == "Slice" and any(
        one == other and one[2] < ALL and axis_of(one[0], first.ids.ndim) == first.batch
        for one, other in zip(*(bounds(call.fold(world)) for world in (0, 1)), strict=True)
    ):
        return None  # rows up to one by its number
    found = _moved(call, first, 2)
    if found is None or (op == "Expand" and found[0].size > first.ids.size):
        return None  # copies, perhaps steps
    if first.batch is not None and op in ("Reshape", "Slice"):  # of three rows the first two are the same
        for one, other in zip(found, _moved(call, first, 3) or (), strict=True):
            at = Places(one).batch
            if at is not None and (other.shape[at] != 3 or not np.array_equal(other.take([0, 1], at), one)):
                return None
    return [Places(ids) for ids in found]


def _moved(call: Call, first: Places, rows: int) -> list[Array] | None:
    """The places of so many rows, moved; None of copies along time."""
    op = call.node.op
    arrays: list[Array | None] = []
    for one in call.inputs:
        if isinstance(one, Places):
            at = one.batch if rows > 2 else None
            more = [] if at is None else [one.row + row * Places.ROW for row in range(2, rows)]
            arrays.append(np.concatenate([one.ids, *more], at) if more else one.ids)
        elif isinstance(one, Known) and one.varies:
            if op == "Expand" and any(a != b and (a, b) != BATCH_SIZES for a, b in one.sizes):
                return None
            if op == "Reshape":
                _find_batch(call, first, one.sizes)
            sizes = [rows if pair == BATCH_SIZES else pair[0] for pair in one.sizes]
            arrays.append(np.array(sizes, np.int64).reshape(one.worlds[0].shape))
        else:
            arrays.append(one.worlds[0] if isinstance(one, Known) else None)
    result = FOLDS[op](replace(call.fold(), inputs=arrays))
    return [np.asarray(ids) for ids in (result if isinstance(result, list) else [result])]
