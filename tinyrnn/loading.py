"""Nets from files; those of saving.py are built here."""

from __future__ import annotations

import json
import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from tinyrnn import _core, contract
from tinyrnn.arguments import explained
from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.net import Net
from tinyrnn.saving import VERSION
from tinyrnn.sequential import NESTING
from tinyrnn.weights.spec import MAX_NAME, shown

if TYPE_CHECKING:
    from tinyrnn.weights import WeightsFile

# The number of layers without tensors that a file may describe beyond one for each of its tensors.
_SPARE_LEVELS = 1000

# The most layers of a net in a file, of 2 kB each. Layers used twice, or in a net that is, count twice.
_MOST_LEVELS = 8000

# What JSON calls the types of Python.
_JSON: dict[type, str] = {str: "string", list: "list", dict: "mapping"}


def load(path: str | os.PathLike[str] | BinaryIO, **options: Any) -> Net:
    """Load a net from a file that describes it: of `Net.save`, ONNX, PyTorch, Keras or JSON.

    Parameters
    ----------
    path : str, os.PathLike or binary file
        The file, or a file object that is open in binary mode and can seek. Its content decides the format.
    **options
        For formats that leave something open. Files of `Net.save` take none, those of ONNX take ``states``,
        ``shapes``, ``outputs``, ``int8`` and numbers of inputs: ``load("silero_vad.onnx", sr=16000)``; see
        docs/onnx.md. Those of Keras take ``custom``, ``shapes`` and ``architecture``; see docs/keras.md.
        Programs of torch.export take ``axes``, archives of TorchScript ``shapes`` and numbers of the forward,
        too; see docs/pytorch-files.md. JSON files of RTNeural and of guitar amplifiers take none; see
        docs/json-files.md.

    Raises
    ------
    LoadError
        If the file's format is unknown or the file damaged, if it holds weights without an architecture, or
        if its tensors do not fit that architecture.
    TypeError
        If its format does not take an option.
    OSError
        If it cannot be read.
    """
    from tinyrnn.weights import opened

    with opened(path) as file:
        return net_in(file, **options)


def net_in(file: WeightsFile, **options: Any) -> Net:
    """Load the net in an open file; errors are those of `load`."""
    if file.net is None:
        raise file.error(
            "holds weights but no architecture; build the net and use "
            "net.load_state_dict(tinyrnn.load_weights(path))"
        )
    of_file = partial(import_module(file.nets).build_net, file)
    net = explained(of_file, "load of such a file")(**options)
    assert isinstance(net, Net)
    return net


def build_net(file: WeightsFile) -> Net:
    """Build the net that `Net.save` described in a file's metadata."""
    text: str = file.net
    version: Any = None
    writer = ""  # what to say of the tinyrnn that wrote the file
    try:
        architecture = json.loads(text)
        written_by = architecture.get("written_by", _core.VERSION)
        if written_by != _core.VERSION:
            writer = f": tinyrnn {shown(str(written_by))} wrote it, this is {_core.VERSION}"
        version = architecture["version"]
        if version not in range(1, VERSION + 1):
            raise file.error(
                f"the file has version {shown(repr(version))}, expected at most {VERSION}{writer}: update "
                "tinyrnn"
            )
        weights = file.weights()
        levels = _levels(architecture["net"], 0, "")
        most = min(_SPARE_LEVELS + len(weights), _MOST_LEVELS)
        if levels > most:
            raise file.error(
                f"got {levels} layers in its metadata, expected at most {most} for {len(weights)} tensors"
            )
        net = build(architecture["net"])
        net.load_state_dict(weights)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, LoadError):
            raise
        lacks = "it lacks " * isinstance(error, KeyError)
        of_version = f"the architecture in its metadata, of version {shown(repr(version))},"
        advice = f"{writer}: update tinyrnn" if writer else ""
        raise file.error(f"{of_version} cannot be built: {lacks}{error}{advice}") from None
    return net


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


def build(description: dict[str, Any]) -> Net:
    """Build a net from its description; its weights are not allocated yet."""
    net = contract.build(description)
    assert isinstance(net, Net)
    return net
