"""Nets as files, copies and pickles. loading.py reads the files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core
from tinyrnn.contract import Module, build
from tinyrnn.state_dicts import load_state_dict, stored

# The version of the files that `Net.save` writes; 2 has formats, 3 has graphs, 4 has initial states.
VERSION = 4


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
    halves = {name for name, array in tensors.items() if array.dtype == np.uint16}
    save_safetensors(path, tensors, metadata, bfloat16=halves)


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
