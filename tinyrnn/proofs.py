"""A proof in a file: inputs, the outputs that the net gave to them, and a tolerance."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn.contract import Module, index_count, modes_kept
from tinyrnn.errors import LoadError, ShapeError
from tinyrnn.tensors import Frame

KEY = "tinyrnn_proof"  # of a safetensors file's metadata; an older tinyrnn passes over it
TOLERANCE = 2e-5
_STEPS = 64
_MOST = 1 << 24  # numbers of one array of a proof


def random_inputs(net: Module, steps: int, seed: int = 0, frame: Frame | None = None) -> list[NDArray[Any]]:
    """Inputs of one row for each input of a net: normal numbers, or indices."""
    generator = np.random.default_rng(seed)
    known = net._ports_known()
    found: list[NDArray[Any]] = []
    for number, (name, (own, time)) in enumerate(known.items()):
        given = own if frame is None else frame
        if given is None:
            raise ShapeError(
                f"got an input {name!r} of an open frame, expected inputs of your own: give them"
            )
        count = net._own_steps.get(name, steps)
        lead: Frame = (1, count) if net._batch_first else (count, 1)
        if time is None:
            lead = (1,)
        elif not (net._recurrent or net._is_wired):
            lead = (steps,)
        rows = index_count(net, number)
        if rows:
            found.append(generator.integers(0, rows, (*lead, *given)))
        else:
            found.append(generator.standard_normal((*lead, *given)).astype(np.float32))
    return found


def outputs_of(net: Any, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs of a net in evaluation mode, by their names."""
    with modes_kept(net):
        for part, _ in net._modes():
            part.training = False
        given = net(*inputs)
    names = net._output_names()
    arrays = (
        list(given.values()) if isinstance(given, dict) else given if isinstance(given, tuple) else [given]
    )
    return dict(zip(names, (one[0] if isinstance(one, tuple) else one for one in arrays), strict=False))


def arrays_of(given: Any) -> list[NDArray[Any]]:
    """Inputs that a user gives, one or a list of them: float32, or integers as they are."""
    arrays = [np.asarray(one) for one in (given if isinstance(given, (list, tuple)) else [given])]
    return [one if one.dtype.kind in "iu" else one.astype(np.float32) for one in arrays]


def made(net: Module, proof: Any) -> str:
    """The metadata of a proof, for ``True`` (random inputs) or inputs."""
    inputs = random_inputs(net, _STEPS) if proof is True else arrays_of(proof)
    outputs = outputs_of(net, inputs)
    about = {
        "inputs": [_stored(one) for one in inputs],
        "outputs": {name: _stored(one) for name, one in outputs.items()},
        "tolerance": TOLERANCE,
    }
    return json.dumps(about)


def _stored(array: NDArray[Any]) -> dict[str, Any]:
    dtype = "<i8" if array.dtype.kind in "iu" else "<f4"
    raw = np.ascontiguousarray(array, dtype).tobytes()
    return {"shape": list(array.shape), "dtype": dtype, "data": base64.b64encode(raw).decode()}


def _restored(given: Any) -> NDArray[Any]:
    shape = tuple(int(size) for size in given["shape"])
    if given["dtype"] not in ("<f4", "<i8") or min(shape, default=1) < 0 or math.prod(shape) > _MOST:
        raise ValueError(f"got an array of dtype {given['dtype']!r} and shape {shape}")
    raw = base64.b64decode(given["data"], validate=True)
    return np.frombuffer(raw, given["dtype"]).reshape(shape)


def read(text: str, path: str) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]], float]:
    """The inputs, outputs and tolerance of a proof.

    Raises
    ------
    LoadError
        If it is damaged.
    """
    try:
        about = json.loads(text)
        inputs = [_restored(one) for one in about["inputs"]]
        outputs = {str(name): _restored(one) for name, one in about["outputs"].items()}
        tolerance = float(about["tolerance"])
        if not (inputs and outputs and 0 < tolerance < 1):
            raise ValueError("got no inputs, no outputs or no tolerance")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise LoadError(f"{path}: the proof in its metadata is damaged: {error}") from None
    return inputs, outputs, tolerance
