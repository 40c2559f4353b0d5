"""Recurrent layers as MLX, Flax and Burn have them, under PyTorch's names and in its layout.

The gates are PyTorch's. MLX has one tensor for all of them and a single bias, and its metadata tells; Flax
and Burn have tensors for each gate, whose names tell, and matrices (inputs, outputs). What does not fit stays
as it is. So does a layer of Burn that reads as many numbers as it has states: Burn may have written PyTorch's
layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tinyrnn.weights.spec import Array, Tensor, shown

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Layout(NamedTuple):
    """The parts of each of `NAMES`; those of a bias with an empty name, or none at all, are zeros."""

    gates: int
    parts: tuple[list[str], ...]
    turned: bool = True  # matrices are (inputs, outputs)


def _each(name: str, gates: Iterable[str]) -> list[str]:
    return [name.format(gate) for gate in gates]


def _of_burn(*gates: str) -> Layout:
    names = (f"{side}_transform.{kind}" for kind in ("weight", "bias") for side in ("input", "hidden"))
    return Layout(len(gates), tuple(_each(f"{{}}_gate.{name}", gates) for name in names))


def _of_flax(gates: str, *biases: list[str]) -> Layout:
    return Layout(len(gates), (_each("i{}.kernel", gates), _each("h{}.kernel", gates), *biases))


MLX = (
    Layout(4, (["Wx"], ["Wh"], ["bias"], []), False),
    Layout(3, (["Wx"], ["Wh"], ["b"], ["", "", "bhn"]), False),
    Layout(1, (["Wxh"], ["Whh"], ["bias"], []), False),
)
OTHERS = (
    _of_flax("ifgo", [], _each("h{}.bias", "ifgo")),
    _of_flax("rzn", _each("i{}.bias", "rzn"), ["", "", "hn.bias"]),
    Layout(1, (["i.kernel"], ["h.kernel"], ["i.bias"], [])),
    _of_burn("input", "forget", "cell", "output"),
    _of_burn("reset", "update", "new"),
)


def adapted(tensors: list[Tensor], metadata: Mapping[str, str]) -> tuple[list[Tensor], list[tuple[str, str]]]:
    """Return the tensors, and name and kind of each that is now in another.

    Where layers have matrices (inputs, outputs), those of others with a bias are turned, too.
    """
    named = {tensor.name.replace("/", "."): tensor for tensor in tensors}  # as some flatten Flax's trees
    made: dict[str, list[Tensor]] = {}  # by the part in whose place they stand
    parts: dict[str, str] = {}  # what each part is in now
    turned = False
    for layout in OTHERS + MLX * (metadata.get("format") == "mlx"):
        for name in named:
            prefix, found, last = name.rpartition(layout.parts[1][0])
            if not found or last or prefix[-1:] not in ("", ".") or prefix + NAMES[0] in named:
                continue
            if layer := _layer(named, prefix, layout):
                made[name] = layer
                own = (prefix + part for names in layout.parts for part in names if part)
                parts |= {one: f"in {shown(prefix + NAMES[0])} and so on" for one in own if one in named}
                turned |= layout.turned
    if not made or len(named) < len(tensors):
        return tensors, []
    kept: list[Tensor] = []
    for name, tensor in named.items():
        stem, _, last = name.rpartition(".")
        if name in parts:
            kept += made.get(name, [])
        elif turned and last in ("kernel", "weight") and len(tensor.shape) == 2 and f"{stem}.bias" in named:
            kept.append(Tensor(f"{stem}.weight", tensor.dtype, tensor.shape[::-1], _turned(tensor)))
        else:
            kept.append(tensor._replace(name=name))
    return kept, [(shown(named[name].name), kind) for name, kind in parts.items()]


def _layer(named: Mapping[str, Tensor], prefix: str, layout: Layout) -> list[Tensor]:
    """The tensors of a layer under PyTorch's names; none if its parts do not fit."""
    sides = [[named.get(prefix + part) if part else None for part in names] for names in layout.parts]
    found = [[one for one in side if one is not None] for side in sides]
    counts = [sum(map(bool, names)) for names in layout.parts]
    has_bias = any(found[2:])
    if [*map(len, found)] != (counts if has_bias else [*counts[:2], 0, 0]):
        return []
    if not all(one.is_float for side in found for one in side):
        return []
    matrices = [[one.shape[:: -1 if layout.turned else 1] for one in side] for side in found[:2]]
    if any(len(shape) != 2 for side in matrices for shape in side):
        return []
    inputs, hidden = (side[0][1] for side in matrices)
    rows = layout.gates * hidden
    fits = all(
        shape == (rows // len(side), size)
        for side, size in zip(matrices, (inputs, hidden), strict=True)
        for shape in side
    ) and all(
        one.shape == (rows // len(names),)
        for names, side in zip(layout.parts[2:], found[2:], strict=True)
        for one in side
    )
    if not fits or (inputs == hidden and "transform" in layout.parts[0][0]):
        return []

    def made(name: str, side: list[Tensor | None], *columns: int) -> Tensor:
        def raw() -> Array:
            zeros = np.zeros(rows // max(len(side), 1), np.float32)
            arrays = [zeros if one is None else one.array() for one in side or [None]]
            return np.concatenate([one.T if layout.turned else one for one in arrays])

        return Tensor(prefix + name, "float32", (rows, *columns), raw)

    shapes = ((inputs,), (hidden,), (), ())[: 4 if has_bias else 2]
    return [made(name, side, *more) for name, side, more in zip(NAMES, sides, shapes, strict=False)]


def _turned(tensor: Tensor) -> Callable[[], Array]:
    return lambda: tensor.raw().T
