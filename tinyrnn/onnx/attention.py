"""Attention written out: a product of two axes of time, a softmax over one, and a product with values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from tinyrnn import ops
from tinyrnn.attention import DotProductAttention
from tinyrnn.importing import Unfit
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.steps import is_time
from tinyrnn.onnx.symbols import Axis, Known, Symbol, frame_size, met, reframed
from tinyrnn.values import Value, applied

QUERIES, KEYS = "queries", "keys"  # the origins of the axes of scores, which are the same axis of time mostly


def is_of(axis: Axis, origin: str) -> bool:
    return len(axis) == 1 and axis[0].origin == origin


class Scores(Unfinished):
    """A product of queries and keys over two axes of time, in heads; a softmax over the keys may follow."""

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

    def changed(self, **facts: Any) -> Scores:
        found = copy(self)
        vars(found).update(facts)
        return found


def of_scores(op: str, scores: Scores, other: Any) -> Scores:
    """Scores times a number, or with a mask added."""
    if isinstance(other, Known) and not scores.weighs:
        array = other.worlds[0]
        if op in ("Mul", "Div") and array.size == 1 and not other.varies:
            number = float(array.reshape(-1)[0])
            return scores.changed(scale=scores.scale * (number if op == "Mul" else 1 / number))
        if op == "Add":
            return masked(scores, Known(*(one < -1e9 for one in other.worlds)))
    raise Unfit(f"reads {scores.what}")


def masked(scores: Scores, mask: Any) -> Scores:
    """Scores of which those where the mask is true do not count."""
    if not is_of(scores.axes[-1], KEYS):
        raise Unfit("masks attention before its axes are in order, expected the keys last")
    if isinstance(mask, Symbol) and scores.mask is None and is_time(mask.axes[-1]):
        return scores.changed(mask=ops.eq(mask.framed((1,)), 0))
    if isinstance(mask, Known):
        if not any(map(np.any, mask.worlds)):
            return scores
        if all(
            one.ndim > 1
            and one.shape[-2] == one.shape[-1]
            and np.all(one == np.triu(np.ones(one.shape[-2:]), 1))
            for one in mask.worlds
        ):
            return scores.changed(causal=True)
    raise Unfit("masks attention otherwise than by steps of the keys or by causality, expected one of them")


def of_mask(scores: Scores, mask: Any) -> Scores:
    """Scores with a mask that is added where it has floats, and else true for what counts."""
    if isinstance(mask, Known):
        mask = Known(*(~one if one.dtype == bool else one < -1e9 for one in mask.worlds))
    elif isinstance(mask, Symbol):
        mask = Symbol(ops.lt(mask.value, 0), mask.axes)
    return masked(scores, mask)


def of_choice(condition: Any, scores: Scores, other: Any, truth: bool) -> Scores:
    """Scores but where a condition is ``truth``: there a number that no softmax counts, or zero."""
    lowest = isinstance(other, Known) and np.all(other.worlds[0] < -1e4)
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
    heads = math.prod(map(frame_size, scores.axes[:-2]))
    query = scores.query
    layer = DotProductAttention(math.prod(query.value.frame), heads, scores.scale, scores.causal)
    given = [reframed(one, (math.prod(one.frame),)) for one in (query.value, scores.keys.value, values.value)]
    mask = [] if scores.mask is None else [scores.mask]
    behind = [values.axes[-2], query.axes[-2]] if first else [query.axes[-2], values.axes[-1]]
    return Symbol(applied(layer, [*given, *mask]), [*scores.axes[:-2], *behind])
