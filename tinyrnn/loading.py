"""Nets from the files that saving.py wrote."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tinyrnn import contract
from tinyrnn.errors import LoadError
from tinyrnn.net import Net
from tinyrnn.saving import VERSION
from tinyrnn.sequential import NESTING
from tinyrnn.weights.spec import MAX_NAME, shown

if TYPE_CHECKING:
    from tinyrnn.weights import WeightsFile

# The number of layers without tensors that a file may describe beyond one for each of its tensors.
_SPARE_LEVELS = 1000


def load(path: str | os.PathLike[str]) -> Net:
    """Load a net that `Net.save` wrote, ready to run.

    Raises
    ------
    LoadError
        If the file is no safetensors file, holds no architecture of tinyrnn's, or its tensors do not
        fit that architecture.
    OSError
        If it cannot be read.
    """
    from tinyrnn.weights import opened

    with opened(path) as file:
        return net_in(file)


def net_in(file: WeightsFile) -> Net:
    """Load the net in an open file; errors are those of `load`."""
    text = file.info.metadata.get("tinyrnn")
    if text is None:
        raise file.error(
            "holds weights but no architecture; build the net and use "
            "net.load_state_dict(tinyrnn.load_weights(path))"
        )
    try:
        architecture = json.loads(text)
        version = architecture["version"]
        if version not in range(1, VERSION + 1):
            raise file.error(
                f"the file has version {shown(repr(version))}, expected at most {VERSION}: update tinyrnn"
            )
        weights = file.weights()
        levels = _levels(architecture["net"], 0)
        if levels > _SPARE_LEVELS + len(weights):
            raise file.error(
                f"got {levels} layers in its metadata, expected fewer for {len(weights)} tensors"
            )
        net = build(architecture["net"])
        net.load_state_dict(weights)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, LoadError):
            raise
        raise file.error(f"the architecture in its metadata cannot be built: {error}") from None
    return net


def _levels(description: dict[str, Any], depth: int, place: int = 0) -> int:
    """Count the core layers in a description, so that too many are refused before they are made.

    `place` is the length of the dotted name so far: every layer below has all of it.
    """
    if depth > NESTING:
        raise ValueError(f"nets are nested too deep, expected at most {NESTING} levels")
    if place > MAX_NAME:
        raise ValueError(f"a layer's name has {place} characters, expected at most {MAX_NAME}")
    if description["type"] == "Sequential":
        layers = description["layers"].items()
        return 1 + sum(_levels(layer, depth + 1, place + len(name) + 1) for name, layer in layers)
    if description["type"] == "Graph":
        nodes = description["nodes"]
        return 1 + sum(_levels(node["layer"], depth + 1, place + len(node["name"]) + 1) for node in nodes)
    if description["type"] == "Same":
        return 1
    levels = description["arguments"].get("num_layers", 1)
    return levels if isinstance(levels, int) and levels > 1 else 1


def build(description: dict[str, Any]) -> Net:
    """Build a net from its description; its weights are not allocated yet."""
    net = contract.build(description)
    assert isinstance(net, Net)
    return net
