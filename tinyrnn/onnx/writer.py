"""The writer of ONNX files: a graph that grows node by node, and its bytes.

wire.py has the fields of the messages, for the reader and for this.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn.onnx.wire import MESSAGES

OPSET = 17  # of 2022: the first with LayerNormalization; ONNX Runtime reads it from 1.12 on
IR_VERSION = 8

_TYPES = {np.dtype("f4"): 1, np.dtype("i8"): 7}  # what tensors and ports may be, and ONNX's numbers of them


def encoded(kind: str, fields: dict[str, Any]) -> bytes:
    """The bytes of a message; fields are its parts by the names of `MESSAGES`, a mapping for a message."""
    numbers = {name: (number, of) for number, (name, of, _) in MESSAGES[kind].items()}
    out = bytearray()
    for name, value in fields.items():
        number, of = numbers[name]
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if of == "int":
                out += _varint(number << 3) + _varint(int(one) & (1 << 64) - 1)
            elif of == "float":
                out += _varint(number << 3 | 5) + struct.pack("<f", one)
            else:
                body = one.encode() if of == "text" else one if of == "bytes" else encoded(of, one)
                out += _varint(number << 3 | 2) + _varint(len(body)) + body
    return bytes(out)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _attribute(name: str, value: Any) -> dict[str, Any]:
    """An attribute, whose kind follows from its value."""
    many = isinstance(value, (list, tuple))
    first = value[0] if many else value
    if isinstance(first, str):
        given = [one.encode() for one in value] if many else value.encode()
        return {"name": name, "strings" if many else "s": given, "type": 8 if many else 3}
    if isinstance(first, float):
        return {"name": name, "floats" if many else "f": value, "type": 6 if many else 1}
    return {"name": name, "ints" if many else "i": value, "type": 7 if many else 2}


class GraphWriter:
    """A graph that is being written: its inputs, tensors, nodes and outputs.

    Names of values are unique: `add` and `tensor` make new ones.
    """

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.tensors: list[dict[str, Any]] = []
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self._taken = set(taken)
        self._known: dict[tuple[Any, ...], str] = {}

    def name(self, base: str) -> str:
        """A name that no value has yet."""
        name, number = base, 0
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def tensor(self, array: Any, base: str = "constant") -> str:
        """A constant, float32 or int64; equal ones are written once."""
        found: NDArray[Any] = np.asarray(array)
        found = np.ascontiguousarray(found, np.int64 if found.dtype.kind in "iub" else np.float32).reshape(
            found.shape
        )
        raw = found.astype(found.dtype.newbyteorder("<")).tobytes()
        key = (found.dtype, found.shape, raw)
        if key not in self._known:
            self._known[key] = self.name(base)
            about = {"dims": list(found.shape), "type": _TYPES[found.dtype], "name": self._known[key]}
            self.tensors.append({**about, "raw": raw})
        return self._known[key]

    def add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node of one output, and return that; it is called ``to``, or gets a new name."""
        return self.add_many(op, inputs, [to or self.name(op.lower())], **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add a node of several outputs; an attribute that is None is left out."""
        given = [_attribute(name, value) for name, value in attributes.items() if value is not None]
        self.nodes.append({"inputs": list(inputs), "outputs": outputs, "op": op, "attributes": given})
        return outputs

    def port(self, name: str, shape: Sequence[int | str], dtype: str = "f4") -> dict[str, Any]:
        """An input or output; a size that is a string varies."""
        dims = [{"name" if isinstance(size, str) else "value": size} for size in shape]
        tensor = {"element": _TYPES[np.dtype(dtype)], "shape": {"dims": dims}}
        return {"name": name, "type": {"tensor": tensor}}

    def model(self, producer: str, version: str) -> bytes:
        """The bytes of the file."""
        graph = {
            "nodes": self.nodes,
            "name": "net",
            "tensors": self.tensors,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }
        return encoded(
            "Model",
            {
                "ir": IR_VERSION,
                "producer": producer,
                "producer_version": version,
                "graph": graph,
                "opsets": [{"domain": "", "version": OPSET}],
            },
        )
