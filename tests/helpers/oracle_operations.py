"""Operations within frames and of several values in float64 NumPy, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Back = Callable[[Array], list[Array]]

OPERATIONS: dict[str, Callable[[Array, Array], tuple[Any, Any, Any]]] = {
    # y, and the slopes for a and b
    "Pow": lambda a, b: (a**b, b * a ** (b - 1), a**b * np.log(a)),
    "Equal": lambda a, b: (a == b, 0, 0),
    "NotEqual": lambda a, b: (a != b, 0, 0),
    "Less": lambda a, b: (a < b, 0, 0),
    "LessEqual": lambda a, b: (a <= b, 0, 0),
    "Greater": lambda a, b: (a > b, 0, 0),
    "GreaterEqual": lambda a, b: (a >= b, 0, 0),
}


def added_up(d: Array, shape: tuple[int, ...]) -> Array:
    """The sum over all places where an array of this shape counted."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    return d.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True).reshape(shape)


def reduction(
    layer: str, x: Array, axes: tuple[int, ...], correction: int
) -> tuple[Array, Callable[..., Array]]:
    """The result with the axes kept, and dx from dy of that shape."""
    count = np.prod([x.shape[axis] for axis in axes])

    def total(values: Array) -> Array:
        return values.sum(axis=axes, keepdims=True)

    if layer in ("Sum", "Mean"):
        part = 1 if layer == "Sum" else 1 / count
        return total(x) * part, lambda dy: dy * part * np.ones_like(x)
    if layer in ("Amax", "Amin"):
        y = (np.max if layer == "Amax" else np.min)(x, axis=axes, keepdims=True)
        return y, lambda dy: dy * (x == y) / total((x == y).astype(float))
    if layer == "Prod":
        flat = np.moveaxis(x, axes, range(-len(axes), 0))
        rows = flat.reshape(-1, count)
        others = np.array([[np.delete(row, i).prod() for i in range(count)] for row in rows])
        slope = np.moveaxis(others.reshape(flat.shape), range(-len(axes), 0), axes)
        return x.prod(axis=axes, keepdims=True), lambda dy: dy * slope
    if layer in ("Var", "Std"):
        off = x - x.mean(axis=axes, keepdims=True)
        variance = total(off**2) / (count - correction)
        if layer == "Var":
            return variance, lambda dy: dy * 2 * off / (count - correction)
        return np.sqrt(variance), lambda dy: dy * off / (count - correction) / np.sqrt(variance)
    if layer == "VectorNorm":
        y = np.sqrt(total(x**2))
        return y, lambda dy: dy * x / y
    y = np.log(total(np.exp(x)))
    return y, lambda dy: dy * np.exp(x - y)


def places(layer: str, given: Mapping[str, Any], lead: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """For each number of y its place in x, flat; -1: none."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    if layer == "Reshape":
        return numbers.reshape(*shape[:lead], *np.atleast_1d(given["shape"]))
    if layer == "Unflatten":
        place = given["dim"] + len(shape)
        return numbers.reshape(*shape[:place], *given["unflattened_size"], *shape[place + 1 :])
    if layer == "Permute":
        dims = given.get("dims", (-1, -2))
        return numbers.transpose(*range(len(shape) - len(dims)), *(len(shape) + dim for dim in dims))
    mode = {"replicate": "edge", "circular": "wrap"}.get(
        given.get("mode", "constant"), given.get("mode", "constant")
    )
    pad = list(given["pad"])
    wide = [(0, 0)] * (len(shape) - len(pad) // 2)
    wide += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    cut = tuple(
        slice(max(0, -before), size - max(0, -after))
        for size, (before, after) in zip(shape, wide, strict=True)
    )
    more = [(max(0, before), max(0, after)) for before, after in wide]
    return np.pad(numbers[cut], more, mode, **({"constant_values": -1} if mode == "constant" else {}))


def run(
    layer: str, given: Mapping[str, Any], frames: Sequence[tuple[int, ...]], x: Sequence[Any]
) -> tuple[Array, Back]:
    """y of arrays whose frames have equal ranks, and their gradients from that of y."""
    x = [np.asarray(one, np.float64) for one in x]
    lead = x[0].ndim - len(frames[0])
    if layer == "Constant":
        y = np.full(x[0].shape[:lead], given["number"])
        return y, lambda dy: [np.zeros_like(x[0])]
    if layer in ("Reshape", "Unflatten", "Permute", "Pad"):
        where = places(layer, given, lead, x[0].shape)
        y = np.where(where < 0, given.get("value", 0.0), x[0].reshape(-1)[where])

        def scattered(dy: Array) -> list[Array]:
            dx = np.zeros(x[0].size)
            np.add.at(dx, where[where >= 0], dy[where >= 0])
            return [dx.reshape(x[0].shape)]

        return y, scattered
    if layer in OPERATIONS:
        y, *slopes = OPERATIONS[layer](*x)
        return np.asarray(y, np.float64), lambda dy: [
            added_up(dy * slope, one.shape) for slope, one in zip(slopes, x, strict=True)
        ]
    if layer == "Where":
        chosen = x[0] != 0
        return np.where(chosen, x[1], x[2]), lambda dy: [
            np.zeros_like(x[0]),
            added_up(dy * chosen, x[1].shape),
            added_up(dy * ~chosen, x[2].shape),
        ]
    if layer == "Matmul":
        row = len(frames[0]) == 1
        a, b = x[0][..., np.newaxis, :] if row else x[0], x[1]

        def back(dy: Array) -> list[Array]:
            d = dy[..., np.newaxis, :] if row else dy
            da, db = d @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ d
            return [added_up(da, a.shape).reshape(x[0].shape), added_up(db, b.shape)]

        y = a @ b
        return y[..., 0, :] if row else y, back
    dims = given.get("dim")
    dims = (
        tuple(range(-len(frames[0]), 0))
        if dims is None
        else (dims,)
        if isinstance(dims, int)
        else tuple(dims)
    )
    axes = tuple(sorted(x[0].ndim + dim for dim in dims))
    kept, slope = reduction(layer, x[0], axes, given.get("correction", 1))
    y = kept if given.get("keepdim") else kept.squeeze(axes)
    return y, lambda dy: [slope(dy.reshape(kept.shape))]
