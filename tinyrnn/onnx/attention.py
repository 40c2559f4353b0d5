"""Attention written out: a product or a sum of two axes of time, a softmax over one, and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np

from tinyrnn import ops
from tinyrnn.attention import AdditiveAttention, DotProductAttention
from tinyrnn.importing import Unfit, weighted
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.steps import is_time
from tinyrnn.onnx.symbols import Axis, Known, Symbol, frame_size, met, reframed
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

LOWEST = -1e4  # what is added to scores that do not count, or less

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


class Pairs(Paired):
    """The sum of each step of queries and each of keys; tanh and a product with a vector may follow."""

    what = (
        "a sum of each step and each other one, expected tanh, a product with a vector, a softmax: attention"
    )
    bent = False  # by tanh

    def __init__(self, query: Symbol, keys: Symbol, places: tuple[int, int]) -> None:
        axes = [met(pair) for pair in zip(query.axes, keys.axes, strict=True)]
        super().__init__(query.value, axes)
        self.query, self.keys, self.places = query, keys, places

    def scores(self, weight: Array) -> Scores:
        """Their product with a vector."""
        own, other = self.places
        size = weight.size
        if not self.bent or self.query.frame_axis(-1) != size or math.prod(self.query.value.frame) != size:
            raise Unfit(f"reads {self.what}")
        query, keys = (
            one.with_axes([axis for i, axis in enumerate(one.axes) if i != left])
            for one, left in ((self.query, other), (self.keys, own))
        )
        found = Scores(query, keys)
        axes = found.axes if own < other else (*found.axes[:-2], *found.axes[:-3:-1])
        return found.changed(weight=weight.reshape(-1), axes=axes)


def pairs_of(a: Symbol, b: Symbol) -> Pairs | None:
    """The sum of values whose steps lie along two axes; None if they do not."""
    rank = max(a.rank, b.rank)
    one, other = (one.with_axes([*[()] * (rank - one.rank), *one.axes]) for one in (a, b))
    places = [[i for i, axis in enumerate(x.axes) if is_time(axis)] for x in (one, other)]
    if places[0] == places[1] or [len(place) for place in places] != [1, 1] or is_time(one.axes[-1]):
        return None
    return Pairs(one, other, (places[0][0], places[1][0]))


class Scores(Paired):
    """A product of queries and keys over two axes of time, in heads; a softmax over the keys may follow.

    ``weight``: not a product, but a tanh of their sum times this vector.
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
        pair = (query.axes[-2], QUERIES), (keys.axes[-2], KEYS)
        own = [(atom._replace(origin=origin),) for (atom,), origin in pair]
        self.axes = (*lead, *own)
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


def of_scores(op: str, a: Any, b: Any) -> Scores:
    """Scores times a number, or with a mask added."""
    scores, other = (a, b) if isinstance(a, Scores) else (b, a)
    if isinstance(other, Known) and not scores.weighs:
        array = other.worlds[0]
        if op in ("Mul", "Div") and not (op == "Div" and other is a) and array.size == 1 and not other.varies:
            number = float(array.reshape(-1)[0])
            return scores.changed(scale=scores.scale * (number if op == "Mul" else 1 / number))
        if op == "Add":
            return masked(scores, Known(*map(_hidden, other.worlds)))
    raise Unfit(f"reads {scores.what}")


def masked(scores: Scores, mask: Any) -> Scores:
    """Scores of which those where the mask is true do not count."""
    if isinstance(mask, Known) and not any(map(np.any, mask.worlds)):
        return scores
    if not is_of(scores.axes[-1], KEYS):
        raise Unfit("masks attention before its axes are in order, expected the keys last")
    same = isinstance(mask, Symbol) and mask.reversed == scores.keys.reversed
    if same and scores.mask is None and is_time(mask.axes[-1]):
        return scores.changed(mask=ops.eq(mask.framed((1,)), 0))
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
        mask = Symbol(ops.lt(mask.value, 0), mask.axes)
    return masked(scores, mask)


def of_choice(condition: Any, scores: Scores, other: Any, truth: bool) -> Scores:
    """Scores but where a condition is ``truth``: there a number that no softmax counts, or zero."""
    lowest = isinstance(other, Known) and np.all(other.worlds[0] <= LOWEST)
    if scores.weighs or not lowest:
        raise Unfit(f"reads {scores.what}")
    if isinstance(condition, Known):
        return masked(scores, Known(*(one.astype(bool) == truth for one in condition.worlds)))
    return masked(scores, condition if truth else Symbol(ops.eq(condition.value, 0), condition.axes))


def attend(scores: Scores, values: Symbol, first: bool = False) -> Symbol:
    """The mean of the values, weighted by a softmax of scores; ``first``: values are the first factor."""
    own = scores.axes[-2 if first else -1]
    if not scores.weighs or not is_of(own, KEYS) or not is_of(scores.axes[-1 if first else -2], QUERIES):
        raise Unfit(f"reads {scores.what}")
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
