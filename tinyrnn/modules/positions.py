"""Constants that differ from step to step: positions, and what a table has for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyrnn import ops
from tinyrnn.importing import Unfit, warn, weighted
from tinyrnn.layers import Linear
from tinyrnn.onnx.steps import number_of_step
from tinyrnn.onnx.symbols import BATCH, Atom, Axis, Known, Symbol, constant, part, reframed
from tinyrnn.values import Value

MOST_ROWS = 1024  # of a table: a step multiplies with all of it


def positioned(site: Any, where: str, one: Any) -> Any:
    """A value for a constant that has numbers of its own for each step; another constant is as it was."""
    if not isinstance(one, Known) or not one.varies:
        return one
    worlds: Any = one.worlds
    if worlds[0].ndim != worlds[1].ndim or worlds[0].dtype.kind not in "fiu":
        return one
    shapes = list(zip(*(array.shape for array in worlds), strict=True))
    times = [i for i, pair in enumerate(shapes) if pair in site.timed]
    if len(times) != 1 or any(a != b for a, b in shapes if (a, b) not in (shapes[times[0]], site.rows)):
        return one
    (time,) = times
    axes: list[Axis] = []
    for i, pair in enumerate(shapes):
        if pair == site.rows:
            if any(np.any(array != np.take(array, [0], i)) for array in worlds):
                return one
            worlds = tuple(np.take(array, [0], i) for array in worlds)
            axes.append((Atom(BATCH, pair),))
        else:
            axes.append((site.timed[pair][0],) if i == time else part(pair[0]))
    first, rows = (
        np.moveaxis(array, time, 0).reshape(array.shape[time], -1).astype(np.float32) for array in worlds
    )
    if not np.array_equal(first, rows[: len(first)]):
        raise Unfit("a constant has other numbers for each number of steps, expected those of a position")
    frame = [size for i, (size, _) in enumerate(shapes) if i != time and shapes[i] != site.rows]
    return Symbol(reframed(_value(site, where, rows, site.timed[shapes[time]][1]), frame or (1,)), axes)


def _value(site: Any, where: str, rows: Any, like: Value) -> Value:
    """The rows by position: a straight line, or those of a table of the module."""
    number = number_of_step(like, np.ones(1), np.ones(1))
    slope = (rows[-1].astype(np.float64) - rows[0]) / (len(rows) - 1)
    line = rows[0] + slope * np.arange(len(rows))[:, None]
    if np.allclose(line, rows, rtol=1e-6, atol=1e-7):
        line = (slope[:, None], rows[0] - slope)
        weight, bias = (one.astype(np.float32) for one in line)
        found: Value = weighted(Linear(1, len(slope)), weight=weight, bias=bias)(number)
        return found
    tables = (one for one in site.tables if len(one) >= len(rows) and one.shape[1:] == rows.shape[1:])
    table = next((one for one in tables if np.array_equal(one[: len(rows)], rows)), None)
    if table is None:
        raise Unfit(
            "a constant has other numbers for each step, expected the first rows of a parameter or buffer"
        )
    if len(table) > MOST_ROWS:
        warn(
            f"from_torch: {where}: of a table of {len(table)} positions the net has {MOST_ROWS}: what it "
            "computes of later steps is NaN"
        )
        table = table[:MOST_ROWS]
    places = constant(np.arange(1, len(table) + 1, dtype=np.float32), like)
    chosen = ops.eq(places, number)  # 1 in one place; none behind the table, where 0 / 0 is NaN
    weight = np.concatenate([table, np.ones((len(table), 1), np.float32)], 1).T
    both = weighted(Linear(len(table), len(weight), bias=False), weight=np.ascontiguousarray(weight))(chosen)
    of_table: Value = both[..., :-1] / both[..., -1:]
    return of_table
