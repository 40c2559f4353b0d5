"""Attention written out: a product or a sum of two axes of time, a softmax over one, and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np

from tinyrnn import ops
from tinyrnn.activations import Scale
from tinyrnn.attention import AdditiveAttention, DotProductAttention
from tinyrnn.frames import Constant, Reshape
from tinyrnn.importing import Unfit, weighted
from tinyrnn.layers import Linear
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.steps import is_time
from tinyrnn.onnx.symbols import (
    BATCH,
    TIME,
    Axis,
    Known,
    Symbol,
    frame_size,
    has,
    met,
    part,
    reframed,
    sizes_of,
)
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

LOWEST = -1e4  # what is added to scores that do not count, or less
OF_MASKS = "adds other numbers to scores than those of a mask, expected 0 and -inf: scores.masked_fill(...)"
QUERIES, KEYS = "queries", "keys"  # the origins of the axes of scores, which are the same axis of time mostly


def is_of(axis: Axis, origin: str) -> bool:
    return len(axis) == 1 and axis[0].origin == origin


_Kind = TypeVar("_Kind", bound="Paired")


class Paired(Unfinished):
    """A number, or several, for each step of queries and each of keys."""

    pairs = True

    def changed(self: _Kind, **facts: Any) -> _Kind:
        found = copy(self)
        vars(found).update(facts)
        return found


def told(axis: Axis, origin: str) -> Axis:
    return tuple(atom._replace(origin=origin) for atom in axis)


class Scores(Paired):
    """A product of queries and keys over two axes of time, in heads; a softmax over the keys may follow.

    ``weight``: not a product, but a tanh of their sum times this vector. In a loop the queries have no axis:
    each is that of a step.
    """

    weight: Array | None = None
    what = "a product of two axes of time, expected a softmax of it times values: attention"
    movable = True
    weighs = False
    causal = False
    mask: Value | None = None

    def __init__(self, query: Symbol, keys: Symbol, scale: float = 1.0) -> None:
        super().__init__(query.value, query.axes)
        lead = [met(pair) for pair in zip(query.axes[:-2], keys.axes[:-2], strict=True)]
        self.axes = (*lead, told(query.axes[-2], QUERIES), told(keys.axes[-2], KEYS))
        self.query, self.keys, self.scale = query, keys, scale

    def with_axes(self, axes: Sequence[Axis]) -> Scores:
        return self.changed(axes=tuple(axes))

    def weighted(self, axis: int) -> Scores | None:
        """Their softmax over an axis, whose steps are the keys then; None if no axis of time is there."""
        if is_of(self.axes[axis], KEYS):
            return self.changed(weighs=True)
        if not is_of(self.axes[axis], QUERIES) or self.causal or self.mask is not None:
            return None
        names = {QUERIES: KEYS, KEYS: QUERIES}
        axes = [
            tuple(a._replace(origin=names.get(a.origin or "", a.origin)) for a in one) for one in self.axes
        ]
        return self.changed(weighs=True, query=self.keys, keys=self.query, axes=tuple(axes))


def _hidden(added: Array) -> Array:
    """Find where numbers that are added to scores leave no weight; the others must be equal."""
    hidden = np.asarray(added <= LOWEST)
    kept = added[~hidden]
    if kept.size and np.ptp(kept):
        raise Unfit("adds a number of each pair of steps to scores, expected a mask")
    return hidden


def of_scores(op: str, a: Any, b: Any) -> Scores | Weighted:
    """Scores times a number, or with a mask added; or values, each times its weight."""
    scores, other = (a, b) if isinstance(a, Scores) else (b, a)
    if op == "Mul" and scores.weighs and type(other) is Symbol:
        return Weighted(scores, other)
    if isinstance(other, Known) and not scores.weighs:
        array = other.worlds[0]
        if (op == "Mul" or (op == "Div" and other is b)) and array.size == 1 and not other.varies:
            number = float(array.reshape(-1)[0])
            return scores.changed(scale=scores.scale * (number if op == "Mul" else 1 / number))
        if op == "Add":
            return masked(scores, Known(*map(_hidden, other.worlds)))
    raise scores.unfit()


def hides(value: Value) -> bool:
    """True of a value that is 0 or very low by its layers, as a mask that is added."""
    layer = value.layer
    if isinstance(layer, Reshape):
        return hides(value.reads[0])
    if isinstance(layer, ops.Where):
        return all(map(hides, value.reads[1:]))
    if isinstance(layer, Linear):
        one = value.reads[0]
        while isinstance(one.layer, Reshape):
            (one,) = one.reads
        weight = layer.state_dict()["weight"]
        return isinstance(one.layer, Constant) and bool(np.all((weight == 0) | (weight <= LOWEST)))
    return isinstance(layer, Scale) and abs(layer.scale) >= -LOWEST


def masked(scores: Scores, mask: Any) -> Scores:
    """Scores of which those where the mask is true do not count."""
    if isinstance(mask, Known) and not any(map(np.any, mask.worlds)):
        return scores
    place = next((i for i, one in enumerate(scores.axes, -scores.rank) if is_of(one, KEYS)), 0)
    same = isinstance(mask, Symbol) and mask.reversed == scores.keys.reversed
    if same and scores.mask is None and place >= -mask.rank and is_time(mask.axes[place]):
        return scores.changed(mask=ops.eq(mask.framed((1,)), 0))
    if place != -1:
        raise Unfit("masks attention before its axes are in order, expected the keys last")
    if isinstance(mask, Known) and all(
        one.ndim > 1 and one.shape[-2] == one.shape[-1] and np.all(one == np.triu(np.ones(one.shape[-2:]), 1))
        for one in mask.worlds
    ):
        if scores.query.reversed or scores.keys.reversed or scores.weight is not None:
            raise Unfit("masks attention by causality, expected products of steps in their own order")
        return scores.changed(causal=True)
    raise Unfit("masks attention otherwise than by steps of the keys or by causality, expected one of them")


def of_mask(scores: Scores, mask: Any) -> Scores:
    """Scores with a mask that is added where it has floats, and else true for what counts."""
    if isinstance(mask, Known):
        mask = Known(*(~one if one.dtype == bool else _hidden(one) for one in mask.worlds))
    elif isinstance(mask, Symbol):
        if not mask.truth and not hides(mask.value):
            raise Unfit(OF_MASKS)
        mask = Symbol((ops.eq if mask.truth else ops.lt)(mask.value, 0), mask.axes, mask.reversed)
    return masked(scores, mask)


def of_choice(condition: Any, scores: Scores, other: Any, truth: bool) -> Scores:
    """Scores but where a condition is ``truth``: there a number that no softmax counts, or zero."""
    lowest = isinstance(other, Known) and np.all(other.worlds[0] <= LOWEST)
    if scores.weighs or not lowest:
        raise scores.unfit()
    if isinstance(condition, Known):
        return masked(scores, Known(*(one.astype(bool) == truth for one in condition.worlds)))
    return masked(scores, condition if truth else Symbol(ops.eq(condition.value, 0), condition.axes))


def attend(scores: Scores, values: Symbol, first: bool = False) -> Symbol:
    """The mean of the values, weighted by a softmax of scores; ``first``: values are the first factor."""
    own, asks = scores.axes[-2:][:: 1 if first else -1]
    if not scores.weighs or not is_of(own, KEYS) or not (is_of(asks, QUERIES) or sizes_of(asks) == (1, 1)):
        raise scores.unfit()
    met([own, values.axes[-1 if first else -2]])
    if scores.keys.reversed != values.reversed:
        raise Unfit("reads one sequence from its end and another from its beginning, expected one order")
    heads = math.prod(map(frame_size, scores.axes[:-2]))
    query = scores.query
    size = math.prod(query.value.frame)
    layer: Any = None
    if scores.weight is None:
        layer = DotProductAttention(size, heads, scores.scale, scores.causal)
    else:
        layer = weighted(AdditiveAttention(size), weight=scores.weight * np.float32(scores.scale))
    given = [reframed(one, (math.prod(one.frame),)) for one in (query.value, scores.keys.value, values.value)]
    mask = [] if scores.mask is None else [scores.mask]
    behind = [values.axes[-2], query.axes[-2]] if first else [query.axes[-2], values.axes[-1]]
    return Symbol(applied(layer, [*given, *mask]), [*scores.axes[:-2], *behind], query.reversed)


class Weighted(Paired):
    """Values, each times its weight; their sum is attention."""

    what = "values times weights of attention, expected their sum over the steps"

    def __init__(self, scores: Scores, values: Symbol) -> None:
        rank = max(scores.rank, values.rank)
        axes = [one.widened(rank) for one in (scores, values)]
        super().__init__(values.value, [met(pair) for pair in zip(*axes, strict=True)])
        self.scores, self.values, self.own = scores, values, axes[0]

    def summed(self, places: Sequence[int], keeps: bool) -> Symbol:
        """Their sum along axes."""
        place = next(i for i, one in enumerate(self.own) if is_of(one, KEYS))
        if list(places) != [place]:
            raise self.unfit()
        asks = next((one for one in self.own if is_of(one, QUERIES)), ())
        batch = next((one for one in self.axes if has(one, BATCH)), ())
        scores = self.scores.changed(axes=(batch, asks, self.own[place]))
        found = attend(scores, plain(self.values))
        axes = [found.axes[1] if asks and one is asks else one for one in self.axes]
        axes[place : place + 1] = [()] * keeps
        return found.with_axes(axes)


def plain(x: Symbol) -> Symbol:
    """A value as (batch, time, frame); time has size 1 in a loop."""
    axes = [next((one for one in x.axes if has(one, kind)), ()) for kind in (BATCH, TIME)]
    if any(len({atom.kind for atom in one}) > 1 for one in x.axes):
        raise Unfit("reads time, the batch and frames as one axis, expected an axis for each")
    size = math.prod(x.value.frame)
    return Symbol(x.framed((size,)), [*axes, part(size)], x.reversed)
