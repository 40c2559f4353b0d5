"""HDF5 as Keras writes it: whole models of Keras 2 and 3, and `.weights.h5`.

A dataset must lie in one piece within the file (`structure`). A whole model has its architecture as the
attribute ``model_config``, and for each layer a group whose ``weight_names`` are its tensors in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyrnn.keras.model import Model, major_of, parse
from tinyrnn.keras.structure import MAGIC, Dataset, Structure
from tinyrnn.weights.spec import (
    FLOAT8,
    MAX_TENSORS,
    READ,
    Array,
    Contents,
    Reader,
    Source,
    Tensor,
    count_of,
    shown,
)

_ROOT = "model_weights"  # the group of a whole model's weights
_UNREAD = ("optimizer", "optimizer_weights")
_NAMES = {code: name for name, (code, _) in READ.items() if name not in ("bfloat16", "bool", *FLOAT8)}


class File:
    """An HDF5 file in memory, its datasets listed.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By path, in the order of the groups.
    unread : list of (str, str)
        Path and kind of datasets that hold no numbers.
    """

    def __init__(self, data: bytes | bytearray, error: Callable[[str], Exception]) -> None:
        structure = Structure(data, error)
        self._data, self._error, self._texts = data, structure.error, structure.texts
        self.tensors: dict[str, Tensor] = {}
        self.unread: list[tuple[str, str]] = []
        for path, dataset in structure.datasets.items():
            if dataset.kind.code in ("", "S", "O"):
                self.unread.append((path, "a dataset of no numbers"))
            else:
                self.tensors[path] = self._tensor(path, dataset)

    def _tensor(self, path: str, dataset: Dataset) -> Tensor:
        """A dataset, whose numbers lie within the file."""
        label, (kind, shape, offset, held) = shown(path), dataset
        name = "bool" if kind.code == "?" else _NAMES.get(kind.code[1:])
        if name is None:
            raise self._error(
                f"{label}: its dtype, of {kind.size} bytes, cannot be read: convert it to float32"
            )
        try:
            size = count_of(shape, 8 * kind.size) * kind.size
        except ValueError as problem:
            raise self._error(f"{label}: shape {shown(str(shape))} {problem}") from None
        if size and (size != held or offset <= 0 or offset > len(self._data) - size):
            raise self._error(
                f"{label}: needs {size} bytes for shape {shape}, but the file has {held} for it at {offset}"
            )
        data, code = self._data, np.dtype("u1" if name == "bool" else kind.code)

        def raw() -> Array:
            count = size // code.itemsize
            return np.frombuffer(data, code, count, offset if count else 0).reshape(shape)

        return Tensor(path, name, shape, raw)

    def texts(self, path: str, name: str) -> list[str] | None:
        """The strings of an attribute; Keras splits a long list into several attributes."""
        attributes = self._texts.get(path, {})
        if name in attributes or f"{name}0" not in attributes:
            return attributes.get(name)
        found: list[str] = []
        for i in range(len(attributes)):
            found += attributes.get(f"{name}{i}", [])
        return found

    def text(self, path: str, name: str) -> str | None:
        """The string of an attribute."""
        found = self.texts(path, name)
        return found[0] if found else None


def matches(head: bytes) -> bool:
    return head.startswith(MAGIC)


def listed(
    file: File, config: dict[str, Any] | None, version: Any, error: Callable[[str], Exception]
) -> Contents:
    """The tensors of a file and its model; those of the optimiser are left out."""
    layers = None
    root = _ROOT if any(path.startswith(f"{_ROOT}/") for path in file.tensors) else ""
    names = file.texts(root, "layer_names")
    if names is not None:
        layers = {}
        for layer in names:
            path = f"{root}/{layer}" if root else layer
            weights = [f"{path}/{name}" for name in file.texts(path, "weight_names") or []]
            lacking = next((one for one in weights if one not in file.tensors), None)
            if lacking is not None or layer in layers:
                what = f"lacks {shown(lacking)}" if lacking else f"got layer {shown(layer)} twice"
                raise error(f"HDF5: {what} in its list of layers")
            layers[layer] = [name.removeprefix(f"{_ROOT}/") for name in weights]
    tensors, unread = [], list(file.unread)
    for path, tensor in file.tensors.items():
        top = path.split("/")[0]
        if top in _UNREAD:
            unread.append((path, "a state of the optimiser"))
        elif root and top != root:
            unread.append((path, "not among the model's weights"))
        else:
            tensors.append(tensor._replace(name=path.removeprefix(f"{_ROOT}/")))
    if len(tensors) > MAX_TENSORS:
        raise error(f"HDF5: got {len(tensors)} tensors, expected at most {MAX_TENSORS}")
    metadata = {"keras_version": version} if isinstance(version, str) else {}
    model = Model(config, major_of(version, config), layers)
    return Contents(tensors, metadata, net=model, unread=unread[:1000])


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: a file of Keras has no parts to choose from")
    file = File(reader.read(0, reader.size, "the file"), reader.error)
    text = file.text("", "model_config")
    config = None if text is None else parse(text, reader.error, "model_config")
    version = file.text("", "keras_version") or file.text(_ROOT, "keras_version")
    return listed(file, config, version, reader.error)


SOURCE = Source("HDF5", (".h5", ".hdf5"), matches, read, nets="tinyrnn.keras.build")
