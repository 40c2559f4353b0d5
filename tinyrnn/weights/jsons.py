"""JSON files of weights: RTNeural's, those of the trainers of guitar amplifiers, and tensors by name.

Four forms are told apart by their keys:

* ``{"in_shape": [...], "layers": [{"type": "lstm", "weights": [...], ...}, ...]}``, as RTNeural's
  `model_utils.save_model` writes Keras' nets, also in AIDA-X's ``.aidax``. The arrays of layer 0 are called
  ``layers.0.weights.0`` and so on, in Keras' layouts.
* ``{"model_data": {"model": "SimpleRNN", ...}, "state_dict": {"rec.weight_ih_l0": [...], ...}}``, as
  Automated-GuitarAmpModelling and Proteus write PyTorch's.
* ``{"architecture": "LSTM", "config": {...}, "weights": [...]}``, Neural Amp Modeler's ``.nam``: one list,
  for each level the gates' rows (inputs and hidden state side by side), the bias and the states that it
  begins with, then the last layer's.
* ``{"lstm.weight_ih_l0": [...], ...}``: a state_dict as lists, without a net.

An array is a list of lists of numbers, all of one length in each dimension. The other entries are no
weights: short ones become metadata, long ones are left unread.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.weights import safetensors, shards
from tinyrnn.weights.spec import MAX_DIMS, MAX_TENSORS, Array, Contents, Reader, Source, Tensor, shown

MAX_JSON = 64 << 20  # bytes
MOST_LEVELS = 1000
MAX_TEXT = 1000  # characters of a text that is metadata


class Layers(NamedTuple):
    """A net of RTNeural's form: the file without its arrays.

    Attributes
    ----------
    entries : dict
        Those of the file beside the layers.
    layers : list of dict
        Each layer's entries beside its weights.
    arrays : list of int
        The number of each layer's arrays.
    """

    entries: dict[str, Any]
    layers: list[dict[str, Any]]
    arrays: list[int]


class Trained(NamedTuple):
    """A net of the amplifiers' trainers: its ``model_data``."""

    data: dict[str, Any]


class Modeled(NamedTuple):
    """A net of Neural Amp Modeler: the sizes of its LSTM."""

    inputs: int
    hidden: int
    levels: int


def matches(head: bytes) -> bool:
    return re.match(rb"\s*\{\s*[\"}]", head) is not None and not shards.matches(head)


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: a JSON file has no parts to choose from")
    if reader.size > MAX_JSON:
        raise reader.error(f"the JSON file has {reader.size} bytes, expected at most {MAX_JSON}")
    raw = reader.read(0, reader.size, "the JSON text").strip()
    file = safetensors.parse(reader, raw, "the JSON text", floats=True)
    if (
        isinstance(file.get("architecture"), str)
        and isinstance(file.get("config"), dict)
        and "weights" in file
    ):
        if file["architecture"] != "LSTM":
            raise reader.error(
                f"got a model of Neural Amp Modeler, {shown(file['architecture'])}, expected its LSTM: save "
                "the trained network in PyTorch, as ONNX or with torch.save(model.state_dict(), path)"
            )
        return _modeled(reader, file)
    net: Layers | Trained | None = None
    if "layers" in file and "in_shape" in file:
        net = _layers(reader, file)
        arrays = {
            f"layers.{i}.weights.{j}": array
            for i, layer in enumerate(file.pop("layers"))
            for j, array in enumerate(layer["weights"])
        }
        rest = file
    elif "model_data" in file:
        data, arrays = file.pop("model_data"), file.pop("state_dict", None)
        if not isinstance(data, dict) or not isinstance(arrays, dict):
            raise reader.error("expected an object model_data and an object state_dict beside it")
        net, rest = Trained(data), file
    else:
        arrays = {name: value for name, value in file.items() if isinstance(value, list)}
        rest = {name: value for name, value in file.items() if name not in arrays}
        if not arrays and "class_name" in file:
            raise reader.error(
                "holds an architecture of Keras, expected weights: load(path, architecture=text) takes both"
            )
        if not arrays:
            raise reader.error(
                "holds no weights, expected RTNeural's in_shape and layers, an amplifier's model_data and "
                f"state_dict, or lists of numbers by name; its keys are {_listed(file)}"
            )
    if len(arrays) > MAX_TENSORS:
        raise reader.error(f"got {len(arrays)} tensors, expected at most {MAX_TENSORS}")
    return _contents([_tensor(reader, name, array) for name, array in arrays.items()], rest, net)


def _contents(tensors: list[Tensor], rest: dict[str, Any], net: Any) -> Contents:
    """The tensors, and the entries beside them."""
    about = rest.get("metadata")
    facts = rest | about if isinstance(about, dict) else rest
    metadata = {name: str(value) for name, value in facts.items() if _is_short(value)}
    unread = [
        (shown(name), f"{type(value).__name__} of {len(value)}")
        for name, value in rest.items()
        if value is not about and isinstance(value, list | dict | str) and not _is_short(value)
    ]
    return Contents(tensors, metadata, net=net, unread=unread)


def _modeled(reader: Reader, file: dict[str, Any]) -> Contents:
    """An LSTM of Neural Amp Modeler; its tensors get PyTorch's names."""
    config, flat = file["config"], _tensor(reader, "weights", file.pop("weights")).raw().reshape(-1)
    sizes = [config.get(key) for key in ("input_size", "hidden_size", "num_layers")]
    if any(type(size) is not int or not 1 <= size <= flat.size for size in sizes):
        raise reader.error(
            "config: expected input_size, hidden_size and num_layers, each an integer from 1 on"
        )
    inputs, hidden, levels = sizes
    if levels > MOST_LEVELS:
        raise reader.error(f"config: got {levels} num_layers, expected at most {MOST_LEVELS}")
    wanted = 4 * hidden * (inputs + (2 * levels - 1) * hidden) + 6 * hidden * levels + hidden + 1
    if flat.size != wanted:
        raise reader.error(f"weights: got {flat.size} numbers, expected {wanted} for config's sizes")
    found, left = dict[str, Array](), flat
    for level in range(levels):
        width = hidden if level else inputs
        parts = np.split(left, np.cumsum([4 * hidden * (width + hidden), 4 * hidden, hidden, hidden]))
        matrix = parts[0].reshape(4 * hidden, -1)
        found |= {
            f"lstm.weight_ih_l{level}": matrix[:, :width],
            f"lstm.weight_hh_l{level}": matrix[:, width:],
        }
        found |= {f"lstm.bias_ih_l{level}": parts[1], f"lstm.bias_hh_l{level}": 0 * parts[1]}
        found |= {f"lstm.h0_l{level}": parts[2], f"lstm.c0_l{level}": parts[3]}
        left = parts[4]
    found |= {"head.weight": left[None, :-1], "head.bias": left[-1:]}
    tensors = [Tensor(name, "float64", one.shape, partial(np.asarray, one)) for name, one in found.items()]
    return _contents(tensors, file, Modeled(inputs, hidden, levels))


def _layers(reader: Reader, file: dict[str, Any]) -> Layers:
    """The layers without their arrays."""
    layers = file["layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise reader.error("layers: expected a list of objects")
    for i, layer in enumerate(layers):
        if not isinstance(layer.get("weights"), list):
            raise reader.error(f"layers.{i}: expected a list of weights")
    own = [{name: value for name, value in layer.items() if name != "weights"} for layer in layers]
    entries = {name: value for name, value in file.items() if name != "layers"}
    return Layers(entries, own, [len(layer["weights"]) for layer in layers])


def _tensor(reader: Reader, name: str, value: object) -> Tensor:
    """An array of nested lists, which is checked level by level."""
    label, shape = shown(name), list[int]()
    level: list[Any] = [value]
    while level and isinstance(level[0], list):
        if set(map(type, level)) != {list} or len(set(map(len, level))) > 1 or len(shape) == MAX_DIMS:
            raise reader.error(
                f"{label}: expected lists of one length in each of at most {MAX_DIMS} dimensions"
            )
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float}:
        raise reader.error(f"{label}: expected numbers")
    array = np.array(level, np.float64).reshape(shape)

    def raw() -> Array:
        return array

    return Tensor(name, "float64", array.shape, raw)


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float) and len(str(value)) <= MAX_TEXT


def _listed(entries: dict[str, Any]) -> str:
    return ", ".join(shown(name) for name in list(entries)[:20]) or "none"


SOURCE = Source("JSON", (".json", ".aidax", ".nam"), matches, read, nets="tinyrnn.rtneural")
