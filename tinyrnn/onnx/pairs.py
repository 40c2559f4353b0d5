"""Steps of two axes of time that meet in sums or products: the scores of attention, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn.importing import Unfit, weighted
from tinyrnn.layers import Linear
from tinyrnn.onnx.attention import KEYS, QUERIES, Paired, Scores, is_of, plain, told
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
)
from tinyrnn.weights.spec import Array


class Pairs(Paired):
    """Numbers for each pair of a query and a key, which no layer writes.

    Attributes
    ----------
    way : str
        "spread": the query beside each key; "joint": both side by side; "sum"; "product"; "tanh" of a sum.
    query, keys : Symbol
        As `plain` makes them; a spread has no keys.
    leads : bool
        The query stands before the keys in a joint.
    weight : ndarray, optional
        The factors of a tanh.
    """

    what = "numbers of pairs of steps of two axes of time, expected attention: sums, and a softmax of these"
    movable = True
    weight: Array | None = None
    leads = True

    def __init__(self, way: str, axes: Sequence[Axis], query: Symbol, keys: Any) -> None:
        super().__init__(query.value, query.axes)
        self.way, self.axes, self.query, self.keys = way, tuple(axes), query, keys

    def with_axes(self, axes: Sequence[Axis]) -> Pairs:
        return self.changed(axes=tuple(axes))

    def bent(self) -> Pairs:
        """Its tanh."""
        if self.way != "sum":
            raise self.unfit()
        return self.changed(way="tanh")

    def summed(self, places: Sequence[int], keeps: bool) -> Scores:
        """The scores, which sums along axes of frames make."""
        if self.way != ("product" if self.weight is None else "tanh") or any(
            bool(axis) and is_frame(axis) != (i in places) for i, axis in enumerate(self.axes)
        ):
            raise self.unfit()
        axes = [() if i in places else one for i, one in enumerate(self.axes) if keeps or i not in places]
        return Scores(self.query, self.keys).changed(axes=tuple(axes), weight=self.weight)

    def times(self, vector: Array) -> Pairs:
        """A tanh, each number with its factor."""
        if self.way != "tanh" or self.weight is not None or vector.size not in (1, self.query.value.frame[0]):
            raise self.unfit()
        return self.changed(weight=np.broadcast_to(np.float32(vector).reshape(-1), self.query.value.frame))

    def vector(self, known: Known, ahead: bool = False) -> Scores:
        """A product with a vector, which may be there in each row; ``ahead``: it is the first factor."""
        array, place = known.worlds[0], -1 if ahead else -2
        size = array.shape[place if array.ndim > 1 else 0]
        rows = np.concatenate(
            [np.moveaxis(one, max(place, -one.ndim), -1).reshape(-1, size) for one in known.worlds]
        )
        if np.any(rows != rows[0]) or (array.ndim > 1 and array.shape[-3 - place] != 1):
            raise self.unfit()
        return self.times(rows[0]).summed([self.rank - (2 if ahead else 1)], array.ndim > 1)

    def linear(self, weight: Array, bias: Array | None) -> Pairs | Scores:
        """A matrix (out, in) times the numbers along the last axis."""
        if len(weight) == 1 and self.way == "tanh":  # a softmax does not see the bias
            return self.times(weight[0]).summed([len(self.axes) - 1], True)
        if self.way not in ("joint", "spread"):
            raise self.unfit()
        own, sides = self.query.value.frame[0], [weight]
        if self.keys is not None:
            cut = own if self.leads else self.keys.value.frame[0]
            sides = [weight[:, :cut], weight[:, cut:]][:: 1 if self.leads else -1]
        made = [
            _mapped(one, side, None if i else bias)
            for i, (one, side) in enumerate(zip((self.query, self.keys), sides, strict=False))
        ]
        axes = [*self.axes[:-1], part(len(weight))]
        return Pairs("sum" if made[1:] else "spread", axes, made[0], made[1] if made[1:] else None)


def _mapped(x: Symbol, weight: Array, bias: Array | None) -> Symbol:
    layer = Linear(weight.shape[1], len(weight), bias=bias is not None)
    tensors = {"weight": np.ascontiguousarray(weight)} | ({} if bias is None else {"bias": bias})
    return Symbol(weighted(layer, **tensors)(x.value), [*x.axes[:2], part(len(weight))], x.reversed)


def _time(axes: Sequence[Axis]) -> int | None:
    return next((i for i, one in enumerate(axes) if has(one, TIME)), None)


def paired(op: str, a: Any, b: Any) -> Pairs | None:
    """Pairs of the steps of two values; None if they are on one axis of time, or per sequence.

    In a loop a value has no axis of time: it is that of a step.
    """
    if type(a) is not Symbol or type(b) is not Symbol or None in (a.value.time, b.value.time):
        return None
    rank = max(a.rank, b.rank)
    both = [one.widened(rank) for one in (a, b)]
    places = [_time(one) for one in both]
    if places[0] == places[1]:
        return None
    order = slice(None, None, -1 if places[1] is None or (places[0] or 0) > (places[1] or 0) else 1)
    query, keys = [a, b][order]
    return _made(op, query, [*zip(*both[order], strict=True)], keys)


def _made(op: str, query: Symbol, axes: Sequence[Any], keys: Symbol) -> Pairs:
    """Pairs of axes of a query and of keys that meet."""
    if op not in ("Add", "Mul"):
        raise Unfit("reads the steps of two axes of time, expected their sum or product in attention")
    found: list[Axis] = []
    for one, other in axes:
        if has(one, TIME) or has(other, TIME):
            if has(one, TIME) and has(other, TIME):
                raise Unfit("reads steps of two axes of time side by side, expected one axis of each value")
            found.append(told(one, QUERIES) if has(one, TIME) else told(other, KEYS))
        else:
            found.append(met([one, other]))
            if frame_size(one) != frame_size(other):
                raise Unfit("reads frames of other sizes, expected equal ones of queries and keys")
    pair = plain(query), plain(keys)
    return Pairs({"Add": "sum", "Mul": "product"}[op], found, *pair)


def of_pairs(op: str, pairs: Pairs, other: Any) -> Pairs:
    """Pairs with a value or a constant added, or with factors."""
    if isinstance(other, Known) and not other.varies:
        array = other.worlds[0]
        size = pairs.query.value.frame[0]
        if array.size not in (1, size) or (array.size > 1 and array.shape[-1:] != (size,)):
            raise pairs.unfit()
        if op == "Mul":
            return pairs.times(array)
        if op == "Add" and pairs.way in ("sum", "spread"):
            vector = constant(np.broadcast_to(np.float32(array).reshape(-1), (size,)), pairs.query.value)
            query = Symbol(pairs.query.value + vector, pairs.query.axes, pairs.query.reversed)
            return pairs.changed(query=query)
    if type(other) is Symbol and pairs.way in ("spread", "sum"):
        rank = max(pairs.rank, other.rank)
        axes, others = pairs.widened(rank), other.widened(rank)
        place = next(i for i, one in enumerate(axes) if is_of(one, KEYS))
        mine, on = plain(other), _time(others)
        if on not in (None, place) or mine.value.frame != pairs.query.value.frame:
            raise pairs.unfit()
        if pairs.way == "spread" and on is not None:
            axes[place] = ()
            return _made(op, pairs.query, [*zip(axes, others, strict=True)], mine)
        if op == "Add":
            side = "query" if on is None else "keys"
            old = getattr(pairs, side)
            if on is not None and mine.reversed != old.reversed:
                raise pairs.unfit()
            return pairs.changed(**{side: Symbol(old.value + mine.value, old.axes, old.reversed)})
    raise pairs.unfit()


def joint(given: Sequence[Any], axis: int) -> Pairs | None:
    """A query beside each key, and the keys, side by side along the last axis; None for other values."""
    spread = next((one for one in given if isinstance(one, Pairs)), None)
    if spread is None:
        return None
    keys = given[given.index(spread) - 1]
    if spread.way != "spread" or len(given) != 2 or type(keys) is not Symbol or axis != spread.rank - 1:
        raise spread.unfit()
    found = [
        told(other, KEYS) if has(other, TIME) else met([one, other])
        for one, other in zip(spread.axes[:-1], keys.axes[:-1], strict=True)
        if has(one, TIME) == has(other, TIME)
    ]
    if len(found) < axis:
        raise spread.unfit()
    mine = plain(keys)
    size = mine.value.frame[0] + spread.query.value.frame[0]
    made = Pairs("joint", [*found, part(size)], spread.query, mine)
    made.leads = given[0] is spread
    return made
