"""Nets as files, copies and pickles. loading.py reads the files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core
from tinyrnn.attributes import brief
from tinyrnn.contract import NESTING, Module, build
from tinyrnn.state_dicts import load_state_dict, stored
from tinyrnn.weights.spec import MAX_NAME, shown

# The version of the files that `Net.save` writes; 2 has formats, 3 has graphs, 4 has initial states.
VERSION = 4

# The number of layers without tensors that a file may describe beyond one for each of its tensors.
_SPARE_LEVELS = 1000

# The most layers of a net in a file, of 2 kB each. Layers used twice, or in a net that is, count twice.
_MOST_LEVELS = 8000

# What JSON calls the types of Python.
_JSON: dict[type, str] = {str: "string", list: "list", dict: "mapping"}


def save(net: Module, path: str | os.PathLike[str], proof: Any = None) -> None:
    """Do the work of `Net.save`."""
    from tinyrnn.weights.safetensors import save_safetensors

    check_suffix(path)
    smaller = any(name != "float32" for name in net.formats.values())
    version = 3 if net._is_wired else 2 if smaller else 1  # an older tinyrnn can read this file
    if net.initial_state is not None:
        version = VERSION
    about = {"version": version, "net": net._describe(), "written_by": _core.VERSION}
    metadata = {"format": "np", "tinyrnn": json.dumps(about)}
    if proof is not None and proof is not False:
        from tinyrnn import proofs

        metadata[proofs.KEY] = proofs.made(net, proof)
    tensors = stored(net)
    try:
        check_size(about["net"], len(tensors))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}, or load refuses the file") from None
    halves = {name for name, array in tensors.items() if array.dtype == np.uint16}
    save_safetensors(path, tensors, metadata, bfloat16=halves)


def check_size(description: Any, tensors: int) -> None:
    """Raise an error if a file with so many tensors describes more layers than are loaded."""
    levels = _levels(description, 0, "")
    most = min(_SPARE_LEVELS + tensors, _MOST_LEVELS)
    if levels > most:
        raise ValueError(f"got {levels} layers, expected at most {most} for {tensors} tensors")


def _levels(description: Any, depth: int, place: str) -> int:
    """Count the core layers in a description, so that too many are refused before they are made.

    ``place`` is the dotted name so far: every layer below has all of it.
    """
    if depth > NESTING:
        raise ValueError(f"nets are nested too deep, expected at most {NESTING} levels")
    if len(place) > MAX_NAME:
        raise ValueError(f"a layer's name has {len(place)} characters, expected at most {MAX_NAME}")
    where = shown(place.removesuffix(".")) or "net"
    kind = _of(description, "type", str, where)
    if kind == "Sequential":
        layers = _of(description, "layers", dict, where).items()
        return 1 + sum(_levels(layer, depth + 1, f"{place}{name}.") for name, layer in layers)
    if kind == "Graph":
        for what, parts in {"inputs": ("frame", "time"), "outputs": ("value",)}.items():
            for one in _of(description, what, list, where):
                _of(one, "name", str, f"{where}: {what}")
                for part in parts:
                    _of(one, part, object, f"{where}: {what}")
        counts: dict[str, int] = {}
        total = 1
        for node in _of(description, "nodes", list, where):
            name = _of(node, "name", str, f"{where}: nodes")
            at = f"{place}{name}."
            _of(node, "reads", list, shown(at[:-1]))
            layer = _of(node, "layer", dict, shown(at[:-1]))
            same = layer.get("as") if layer.get("type") == "Same" else None
            if isinstance(same, str) and same in counts:  # it is there once more
                counts[name] = counts[same]
            else:
                counts[name] = _levels(layer, depth + 1, at)
            total += counts[name]
            if total > _MOST_LEVELS:
                raise ValueError(f"{where}: got more than {_MOST_LEVELS} layers")
        return total
    if kind == "Same":
        return 1
    levels = _of(description, "arguments", dict, where).get("num_layers", 1)
    return levels if isinstance(levels, int) and levels > 1 else 1


def _of(description: Any, key: str, kind: type, where: str) -> Any:
    """A part of a description, which must be of a type."""
    if not isinstance(description, dict):
        raise TypeError(f"{where}: got {brief(description)}, expected a mapping")
    if key not in description:
        raise ValueError(f"{where}: lacks {key!r}: got only {shown(repr(sorted(description)))}")
    found = description[key]
    if not isinstance(found, kind):
        raise TypeError(f"{where}: {key} is {shown(repr(found))}, expected a {_JSON[kind]}")
    return found


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise an error if a file's name has the suffix of a format that `Net.save` does not write."""
    from tinyrnn.weights import source_of_suffix
    from tinyrnn.weights.safetensors import SOURCE

    if source_of_suffix(path) not in (None, SOURCE):
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        raise ValueError(
            f"{os.fspath(path)}: the suffix is {suffix}, expected .safetensors, which save writes"
        )


def reduced(net: Module) -> Any:
    """Take a net apart for `copy` and `pickle`, without gradients and tape."""
    frozen = [sorted(leaf._frozen) for _, leaf in net._leaves()]
    modes = [mode for _, mode in net._modes()]
    return rebuilt, (net._describe(), stored(net), modes, frozen)


def rebuilt(
    description: dict[str, Any],
    state_dict: dict[str, NDArray[Any]],
    modes: Sequence[bool] = (),
    frozen: Sequence[Sequence[str]] = (),
) -> Module:
    """Rebuild the net that `reduced` took apart."""
    net = build(description)
    load_state_dict(net, state_dict)
    for (_, leaf), names in zip(net._leaves(), frozen, strict=False):  # not in older pickles
        leaf._freeze(names, True)
    for (part, _), mode in zip(net._modes(), modes, strict=False):
        part.training = mode
    return net
