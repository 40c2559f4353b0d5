"""Nets from files; those of saving.py are built here."""

from __future__ import annotations

import json
import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from tinyrnn import _core, contract
from tinyrnn.arguments import explained
from tinyrnn.errors import LoadError
from tinyrnn.net import Net
from tinyrnn.saving import VERSION, check_size
from tinyrnn.weights.spec import shown

if TYPE_CHECKING:
    from tinyrnn.weights import WeightsFile


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
        check_size(architecture["net"], len(weights))
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


def build(description: dict[str, Any]) -> Net:
    """Build a net from its description; its weights are not allocated yet."""
    net = contract.build(description)
    assert isinstance(net, Net)
    return net
