"""Layers recognised by the names and shapes of their tensors, in checkpoints that tell no more."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import tinyrnn as tr
from tinyrnn import contract

Shape = tuple[int, ...]

# Arguments of layers that tensors do not show; such layers are listed, but not run.
_UNTOLD = {
    "Conv1d": "stride, padding, dilation and groups are not in the file",
    "Conv2d": "stride, padding, dilation and groups are not in the file",
    "LayerNorm": "eps is not in the file, and other norms look the same",
    "BatchNorm1d": "eps is not in the file, and 2d and 3d look the same",
}


class Module(NamedTuple):
    """The tensors below one prefix, and the layers that they fit: several where shapes cannot tell."""

    prefix: str
    names: dict[str, str]  # full name of each tensor, by the last part of it
    fits: list[tr.Net]

    @property
    def runs(self) -> bool:
        return bool(self.fits) and type(self.fits[0]).__name__ not in _UNTOLD

    def describe(self) -> str:
        note = _UNTOLD.get(type(self.fits[0]).__name__)
        return " or ".join(map(brief, self.fits)) + (f"  ({note})" if note else "")


def brief(net: contract.Module) -> str:
    """The layer's repr without the arguments that have their default."""
    defaults = _parameters(type(net))
    given = []
    for name, value in net.config().items():
        default = defaults[name].default
        if value not in (default, (default, default)):  # the latter of rows and columns
            given.append(f"{name}={value!r}")
    return f"{type(net).__name__}({', '.join(given)})"


@cache
def _parameters(kind: type[tr.Net]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


def kind(net: contract.Module) -> str:
    """The layer as ``--kind`` names it."""
    name = type(net).__name__.lower()
    return f"{name}_{net.nonlinearity}" if "nonlinearity" in net.arguments else name


def modules(shapes: Mapping[str, Shape]) -> list[Module]:
    """Named tensors, grouped by prefix and recognised by their shapes."""
    groups: dict[str, dict[str, str]] = {}
    for name in shapes:
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = name
    found = []
    known: dict[frozenset[tuple[str, Shape]], list[tr.Net]] = {}  # many layers are alike
    for prefix, names in groups.items():
        own = {last: shapes[name] for last, name in names.items()}
        alike = frozenset(own.items())
        if alike not in known:
            known[alike] = _fits(own)
        found.append(Module(prefix, names, known[alike]))
    return found


def _fits(own: Mapping[str, Shape]) -> list[tr.Net]:
    """The layers that have tensors of these shapes."""
    try:
        guesses = _guesses(own)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return []  # no layer has such names and sizes
    return [net for net in guesses if all(own.get(t.name) == t.shape for t in net._tensors())]


def _guesses(own: Mapping[str, Shape]) -> list[tr.Net]:
    """The layers that tensors of such names may belong to, by some of their shapes."""
    bias = "bias" in own
    if "weight_ih_l0" in own or "weight_ih" in own:
        return _recurrent_guesses(own)
    if "running_mean" in own:
        (features,) = own["running_mean"]
        return [tr.BatchNorm1d(features, affine="weight" in own)]
    weight = own.get("weight", ())
    if len(weight) == 3:
        return [tr.Conv1d(weight[1], weight[0], weight[2], bias=bias)]
    if len(weight) == 4:
        return [tr.Conv2d(weight[1], weight[0], weight[2:], bias=bias)]
    if bias and weight == own["bias"]:
        return [tr.LayerNorm(weight)]
    if len(weight) == 2:
        linear = tr.Linear(weight[1], weight[0], bias)
        return [linear] if bias else [tr.Embedding(*weight), linear]
    return []


def _recurrent_guesses(own: Mapping[str, Shape]) -> list[tr.Net]:
    """The recurrent layers that fit: the ratio of rows to hidden units, one for each gate, gives the kind."""
    cell, level = ("", "_l0") if "weight_ih_l0" in own else ("Cell", "")
    rows, reads = own[f"weight_ih{level}"]
    projection = own.get("weight_hr_l0")
    hidden = projection[1] if projection else own[f"weight_hh{level}"][1]
    peephole = f"weight_peephole{level}" in own
    coupled = rows // hidden == 3 and (peephole or projection is not None)
    name = "LSTM" if coupled else {1: "RNN", 3: "GRU", 4: "LSTM"}[rows // hidden]
    options: dict[str, Any] = {"bias": f"bias_ih{level}" in own}
    if name == "LSTM":
        options |= {"peephole": peephole, "coupled": coupled}
    if not cell:
        options["num_layers"] = next(n for n in itertools.count(1) if f"weight_ih_l{n}" not in own)
        options["bidirectional"] = "weight_ih_l0_reverse" in own
    if projection:
        options["proj_size"] = projection[0]
    make = getattr(tr, name + cell)
    if name == "RNN":
        return [make(reads, hidden, nonlinearity=function, **options) for function in ("tanh", "relu")]
    return [make(reads, hidden, **options)]
