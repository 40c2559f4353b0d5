"""HDF5 as Keras writes it: whole models of Keras 2 and 3, and `.weights.h5`.

h5py finds the groups, datasets and attributes, and this module reads the numbers itself: a dataset must lie
in one piece within the file. Links to other places or files, virtual datasets, external storage, filters
and chunks are refused. A whole model has its architecture as the attribute ``model_config``, and for
each layer a group whose ``weight_names`` are its tensors in order.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.keras.model import Model, major_of, parse
from tinyrnn.weights.spec import (
    MAX_TENSORS,
    MEMORY_FLOOR,
    MEMORY_RATIO,
    READ,
    Array,
    Contents,
    Reader,
    Source,
    Tensor,
    count_of,
    shown,
)

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 64
MAX_TEXTS = 4096  # strings in an attribute; longer lists are in several
_ROOT = "model_weights"  # the group of a whole model's weights
_UNREAD = ("optimizer", "optimizer_weights")

# What h5py raises where a file is damaged. Its own mistakes on such files are among them.
_WRONG = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SystemError,
    NotImplementedError,
)


class File:
    """An HDF5 file in memory, its datasets listed.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By path, in the order of the groups.
    unread : list of (str, str)
        Path and kind of datasets that hold no numbers.
    """

    def __init__(self, data: bytes, error: Callable[[str], Exception]) -> None:
        try:
            import h5py  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError("h5py is needed for HDF5, as Keras writes it: pip install h5py") from None
        self._library, self._data, self._error = h5py, data, error
        self.tensors: dict[str, Tensor] = {}
        self.unread: list[tuple[str, str]] = []
        self._seen: set[Any] = set()
        self._groups: dict[str, Any] = {}
        self._longest = self._longest_text()
        try:
            with h5py.File(BytesIO(data), "r") as file:
                if file.userblock_size:
                    raise error("HDF5: got bytes before its own, expected none")
                self._walk(file.id, "", 0)
                self._texts = {path: self._attributes(group) for path, group in self._groups.items()}
                self._groups.clear()
        except _WRONG as problem:
            if isinstance(problem, LoadError):
                raise
            raise error(f"HDF5: damaged: {shown(str(problem))}") from None

    def _longest_text(self) -> int:
        """The most bytes that a string of an attribute can have: those of the largest heap of strings."""
        most, at = 0, self._data.find(b"GCOL")
        while at >= 0:
            most = max(most, int.from_bytes(self._data[at + 8 : at + 16], "little"))
            at = self._data.find(b"GCOL", at + 4)
        return min(most, len(self._data))

    def _walk(self, group: Any, path: str, depth: int) -> None:
        lib, error = self._library, self._error
        if depth > MAX_DEPTH:
            raise error(f"{shown(path)}: groups are nested too deep, expected at most {MAX_DEPTH}")
        self._groups[path] = group
        for raw in list(group):
            name = raw.decode("utf-8", "replace")
            place = f"{path}/{name}" if path else name
            if group.links.get_info(raw).type != lib.h5l.TYPE_HARD:
                raise error(
                    f"{shown(place)}: is a link to another place or file, expected a part of this one"
                )
            one = lib.h5o.open(group, raw)
            info = lib.h5o.get_info(one)
            if info.addr in self._seen:
                raise error(f"{shown(place)}: is linked twice, expected once")
            self._seen.add(info.addr)
            if len(self._seen) > 2 * MAX_TENSORS:
                raise error(f"{shown(place)}: got more than {2 * MAX_TENSORS} groups and tensors")
            if isinstance(one, lib.h5g.GroupID):
                self._walk(one, place, depth + 1)
            elif isinstance(one, lib.h5d.DatasetID):
                self._dataset(one, place)
            else:
                raise error(f"{shown(place)}: is neither a group nor a dataset")

    def _dataset(self, dataset: Any, path: str) -> None:
        """List a dataset whose numbers lie in one piece."""
        lib, label = self._library, shown(path)
        kind = dataset.get_type()
        if kind.get_class() not in (lib.h5t.INTEGER, lib.h5t.FLOAT, lib.h5t.ENUM):
            self.unread.append((path, "a dataset of no numbers"))
            return
        dtype = np.dtype(dataset.dtype)
        names = {np.dtype(code[0]): name for name, code in READ.items() if name not in ("bfloat16", "bool")}
        name = "bool" if dtype == np.bool_ else names.get(dtype.newbyteorder("="))
        if name is None or (name != "bool" and not kind.equal(lib.h5t.py_create(dtype))):
            raise self._error(f"{label}: dtype {shown(str(dtype))} cannot be read: convert it to float32")
        shape = tuple(int(size) for size in dataset.shape)
        try:
            size = count_of(shape, 8 * dtype.itemsize) * dtype.itemsize
        except ValueError as problem:
            raise self._error(f"{label}: shape {shape} {problem}") from None
        plan = dataset.get_create_plist()
        if plan.get_layout() == lib.h5d.VIRTUAL or plan.get_external_count():
            raise self._error(f"{label}: its numbers are in another file, which is never opened")
        if plan.get_layout() != lib.h5d.CONTIGUOUS or plan.get_nfilters():
            raise self._error(f"{label}: is in chunks or compressed, expected one piece, as Keras writes it")
        offset = dataset.get_offset() or 0
        if size and (offset <= 0 or offset > len(self._data) - size or dataset.get_storage_size() != size):
            raise self._error(
                f"{label}: needs {size} bytes for shape {shape}, but the file has "
                f"{dataset.get_storage_size()} for it"
            )
        data = self._data

        def raw() -> Array:
            count = size // dtype.itemsize
            code = np.dtype(np.uint8) if name == "bool" else dtype
            return np.frombuffer(data, code, count, offset if count else 0).reshape(shape)

        self.tensors[path] = Tensor(path, name, shape, raw)

    def _attributes(self, group: Any) -> dict[str, list[str]]:
        """The attributes of a group that are text, each a list."""
        lib = self._library
        found: dict[str, list[str]] = {}
        wrapped = lib.Group(group)
        for name in list(wrapped.attrs):
            raw = name.encode("utf-8", "surrogateescape")
            attribute = lib.h5a.open(group, raw)
            shape = tuple(int(size) for size in attribute.shape)
            count = count_of(shape, 64)
            if count == 0:
                found[name] = []
                continue
            kind = attribute.get_type()
            if kind.get_class() != lib.h5t.STRING:
                continue
            each = self._longest if kind.is_variable_str() else kind.get_size()
            most = MEMORY_FLOOR + MEMORY_RATIO * len(self._data)
            if len(shape) > 1 or count > MAX_TEXTS or count * each > most:
                raise self._error(f"attribute {shown(name)}: got {count} strings, which are too many")
            value = wrapped.attrs[name]
            values = [value] if isinstance(value, (str, bytes)) else list(value)
            found[name] = [
                one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values
            ]
        return found

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
        if path.split("/")[0] in _UNREAD:
            unread.append((path, "a state of the optimiser"))
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
