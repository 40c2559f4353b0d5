"""Attention written out: a product of two axes of time, a softmax over one, and a product with values."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np

from tinyrnn import ops
from tinyrnn.attention import DotProductAttention
from tinyrnn.importing import Unfit
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.steps import is_time
from tinyrnn.onnx.symbols import Known, Symbol, frame_size, met, reframed
from tinyrnn.values import Value, applied


class Scores(Unfinished):
    """A product of queries and keys over two axes of time, in heads; a softmax over the keys may follow."""

    what = "a product of two axes of time, expected a softmax of it times values: attention"
    weighs = False
    causal = False
    mask: Value | None = None

    def __init__(self, query: Symbol, keys: Symbol, scale: float = 1.0) -> None:
        super().__init__(query.value, query.axes)
        lead = [met(pair) for pair in zip(query.axes[:-2], keys.axes[:-2], strict=True)]
        self.axes = (*lead, query.axes[-2], keys.axes[-2])
        self.query, self.keys, self.scale = query, keys, scale

    def turned(self) -> Scores:
        """The scores of the queries for each key."""
        if self.weighs or self.causal or self.mask is not None:
            raise Unfit(f"reads {self.what}")
        return Scores(self.keys, self.query, self.scale)

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


def attend(scores: Scores, values: Symbol) -> Symbol:
    """The mean of the values, weighted by a softmax of scores."""
    if not scores.weighs:
        raise Unfit(f"reads {scores.what}")
    met([scores.keys.axes[-2], values.axes[-2]])
    heads = math.prod(map(frame_size, scores.axes[:-2]))
    layer = DotProductAttention(math.prod(scores.value.frame), heads, scores.scale, scores.causal)
    given = [
        reframed(one, (math.prod(one.frame),)) for one in (scores.value, scores.keys.value, values.value)
    ]
    mask = [] if scores.mask is None else [scores.mask]
    return Symbol(applied(layer, [*given, *mask]), [*scores.axes[:-1], values.axes[-1]])
