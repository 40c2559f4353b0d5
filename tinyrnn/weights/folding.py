"""Weights that PyTorch computes from other tensors, folded into one: `torch.nn.utils`' reparametrizations.

A module with weight_norm, spectral_norm, orthogonal or pruning has no tensor `weight` but its parts, which
old hooks and today's parametrizations name differently. Here a table has the names of each, and the formula
by which PyTorch computes the weight in eval mode. Formulas are computed in float64. Parts whose shapes do not
fit their formula stay as they are.

Names do not tell all: `orthogonal` is taken to have its default map, the matrix exponential of a square
matrix and Householder reflections of any other, and `spectral_norm` the axis that its vectors fit better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn.errors import LoadError
from tinyrnn.weights.spec import Array, Reader, Tensor, shown

Floats = NDArray[np.float64]
Shape = tuple[int, ...]

MAX_SIDE = 1024  # of a matrix that orthogonal made: the time grows with the third power
_MAX_SQUARINGS = 16


# ---- formulas: from the parts to the weight -----------------------------------------------------


def _weight_norm(g: Floats, v: Floats) -> Floats:
    """v * g / ||v||: one norm for each number in g; Salimans and Kingma, 2016."""
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    norms: Floats = np.sqrt((v * v).sum(axis=axes, keepdims=True)).reshape(g.shape)
    return v * (g / norms)


def _spectral_norm(weight: Floats, u: Floats, v: Floats) -> Floats:
    """Divide by the largest singular value, u·Wv; Miyato et al., 2018. One of u and v is up to date."""
    products = []
    for axis in (0, 1):  # the latter for transposed convolutions
        matrix = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        if matrix.shape == (len(u), len(v)):
            sides = (matrix @ v, u), (matrix.T @ u, v)
            off = min(float(np.linalg.norm(a / (np.linalg.norm(a) or 1.0) - b)) for a, b in sides)
            products.append((off, axis, float(u @ matrix @ v)))
    largest: float = min(products)[2]
    return weight / largest


def _pruned(weight: Floats, mask: Floats) -> Floats:
    return weight * mask


def _orthogonal(x: Floats, base: Floats) -> Floats:
    """Lezcano-Casado, 2019, as torch.nn.utils.parametrizations.orthogonal has it by default."""
    tall = x if len(x) >= x.shape[1] else x.T
    if x.shape[0] == x.shape[1]:
        lower = np.tril(tall)
        q = base @ _exponential(lower - lower.T)
    else:
        reflectors = np.tril(tall, -1)
        q = np.eye(*tall.shape)
        for i in reversed(range(tall.shape[1])):
            one = reflectors[:, i].copy()
            one[i] = 1
            q -= np.outer(one, (2 / (one @ one)) * (one @ q))
        q = base @ (q * np.trunc(np.diagonal(tall)))
    return q if tall is x else q.T


def _exponential(matrix: Floats) -> Floats:
    """e to the power of a matrix: the series of a small part of it, squared."""
    norm = float(np.abs(matrix).sum(axis=0).max(initial=0))
    squarings = max(0, math.ceil(math.log2(norm)) + 2) if norm > 0 else 0
    if not norm < 2.0**_MAX_SQUARINGS:
        raise ValueError(f"its norm is {norm}, expected less than {2**_MAX_SQUARINGS}")
    part, eye = matrix / 2.0**squarings, np.eye(len(matrix))
    total = eye
    for i in range(12, 0, -1):
        total = eye + part @ total / i
    for _ in range(squarings):
        total = total @ total
    return total


# ---- shapes: do the parts fit? ------------------------------------------------------------------


def _fit_weight_norm(g: Shape, v: Shape) -> bool:
    if not v or (g and len(g) != len(v)):
        return False
    own = [axis for axis, size in enumerate(g) if size != 1]
    return len(own) <= 1 and all(g[axis] == v[axis] for axis in own)


def _fit_spectral_norm(weight: Shape, u: Shape, v: Shape) -> bool:
    if len(weight) < 2 or len(u) != 1 or len(v) != 1 or 0 in weight:
        return False
    return u[0] in weight[:2] and u[0] * v[0] == math.prod(weight)


def _fit_pruned(weight: Shape, mask: Shape) -> bool:
    return weight == mask


def _fit_orthogonal(x: Shape, base: Shape) -> bool:
    return len(x) == 2 and base == (max(x), max(x)) and 0 < max(x) <= MAX_SIDE


class _Rule(NamedTuple):
    """The parts of a reparametrization, as they are called behind the weight's name; one has its shape."""

    parts: tuple[str, ...]
    shape_of: int
    fits: Callable[..., bool]
    formula: Callable[..., Floats]


# Old hooks call the parts of `rnn.weight_hh_l0` so: `rnn.weight_hh_l0_g`.
_HOOKS = (
    _Rule(("_g", "_v"), 1, _fit_weight_norm, _weight_norm),
    _Rule(("_orig", "_u", "_v"), 0, _fit_spectral_norm, _spectral_norm),
    _Rule(("_orig", "_mask"), 0, _fit_pruned, _pruned),
)
# Parametrizations call them so: `rnn.parametrizations.weight_hh_l0.original0`.
_PARAMETRIZATIONS = (
    _Rule((".original0", ".original1"), 1, _fit_weight_norm, _weight_norm),
    _Rule((".original", ".0._u", ".0._v"), 0, _fit_spectral_norm, _spectral_norm),
    _Rule((".original", ".0.base"), 0, _fit_orthogonal, _orthogonal),
)
_PLACE = "parametrizations."


def folded(reader: Reader, tensors: list[Tensor]) -> tuple[list[Tensor], list[tuple[str, str]]]:
    """Fold parts into weights. Returns the tensors, and name and kind of each part that is now in another."""
    named = {tensor.name: tensor for tensor in tensors}
    made: dict[str, Tensor] = {}  # by the name of the first part
    parts: dict[str, str] = {}  # what each part is in now
    for name in named:
        place, _, last = name.rpartition(_PLACE)
        for rule in _PARAMETRIZATIONS if _PLACE in name else _HOOKS:
            if name in parts or not name.endswith(rule.parts[0]):
                continue
            stem = name.removesuffix(rule.parts[0])
            weight = place + last.removesuffix(rule.parts[0]) if _PLACE in name else stem
            own = weight.rpartition(".")[2]
            found = [named[part] for part in (stem + end for end in rule.parts) if part in named]
            if len(found) < len(rule.parts) or weight in named or not own.startswith(("weight", "bias")):
                continue
            if all(part.is_float for part in found) and rule.fits(*(part.shape for part in found)):
                shape = found[rule.shape_of].shape
                made[name] = Tensor(weight, "float32", shape, _computed(reader, weight, rule.formula, found))
                parts |= {part.name: f"folded into {shown(weight)}" for part in found}
    if not made:
        return tensors, []
    kept = [
        made.get(tensor.name, tensor) for tensor in tensors if tensor.name in made or tensor.name not in parts
    ]
    return kept, [(shown(name), kind) for name, kind in parts.items()]


def _computed(
    reader: Reader, name: str, formula: Callable[..., Floats], parts: list[Tensor]
) -> Callable[[], Array]:
    def raw() -> Array:
        try:
            with np.errstate(all="ignore"):
                weight = formula(*(part.array().astype(np.float64) for part in parts))
                return np.ascontiguousarray(weight, np.float32)
        except ValueError as problem:
            raise LoadError(f"{reader.path}: {shown(name)} cannot be computed: {problem}") from None

    return raw
