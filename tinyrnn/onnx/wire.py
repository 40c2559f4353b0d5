"""ONNX files, without the onnx package: the wire format of Protocol Buffers, and the messages of ONNX in it.

A message is a row of fields. Each is a varint (the field's number and a wire type), and then the value: a
varint (wire type 0), eight bytes (1), a length and so many bytes (2), or four bytes (5). A message within a
message is of type 2, and so are numbers in a row ("packed"). `MESSAGES` lists the fields that are read or
written, of ONNX's ``onnx.proto``; other fields are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyrnn.onnx.model import Function, Graph, Model, Node, Port, Reference, Size
from tinyrnn.weights.spec import (
    MAX_DIMS,
    MAX_NAME,
    MAX_TENSORS,
    READ,
    Array,
    Contents,
    Reader,
    Source,
    Tensor,
    bits_of,
    count_of,
    shown,
)

MAX_DEPTH = 64  # of messages within messages: each `If` in a branch of another adds four
MAXMESSAGES = 50_000  # a tensor takes about 1.2 kB of memory
MAX_NUMBERS = 1_000_000  # of the attributes that are lists

# The fields of each message: number -> (name, kind, whether it may occur several times). A kind that is a
# message's name is a message.
MESSAGES: dict[str, dict[int, tuple[str, str, bool]]] = {
    "Model": {
        1: ("ir", "int", False),
        2: ("producer", "text", False),
        3: ("producer_version", "text", False),
        7: ("graph", "Graph", False),
        8: ("opsets", "Opset", True),
        14: ("metadata", "Entry", True),
        25: ("functions", "Function", True),
    },
    "Opset": {1: ("domain", "text", False), 2: ("version", "int", False)},
    "Entry": {1: ("key", "text", False), 2: ("value", "text", False)},
    "Function": {
        1: ("name", "text", False),
        4: ("inputs", "text", True),
        5: ("outputs", "text", True),
        6: ("arguments", "text", True),
        7: ("nodes", "Node", True),
        9: ("opsets", "Opset", True),
        10: ("domain", "text", False),
        11: ("defaults", "Attribute", True),
    },
    "Graph": {
        1: ("nodes", "Node", True),
        2: ("name", "text", False),
        5: ("tensors", "Tensor", True),
        11: ("inputs", "Port", True),
        12: ("outputs", "Port", True),
        15: ("sparse", "Skipped", True),
    },
    "Node": {
        1: ("inputs", "text", True),
        2: ("outputs", "text", True),
        3: ("name", "text", False),
        4: ("op", "text", False),
        5: ("attributes", "Attribute", True),
        7: ("domain", "text", False),
    },
    "Attribute": {
        1: ("name", "text", False),
        2: ("f", "float", False),
        3: ("i", "int", False),
        4: ("s", "bytes", False),
        5: ("t", "Tensor", False),
        6: ("g", "Graph", False),
        7: ("floats", "float", True),
        8: ("ints", "int", True),
        9: ("strings", "bytes", True),
        20: ("type", "int", False),
        21: ("of_function", "text", False),
    },
    "Tensor": {
        1: ("dims", "int", True),
        2: ("type", "int", False),
        4: ("float_data", "float", True),
        5: ("int32_data", "int", True),
        7: ("int64_data", "int", True),
        8: ("name", "text", False),
        9: ("raw", "bytes", False),
        10: ("double_data", "double", True),
        11: ("uint64_data", "int", True),
        13: ("external", "Entry", True),
        14: ("location", "int", False),
    },
    "Port": {1: ("name", "text", False), 2: ("type", "Type", False)},
    "Type": {1: ("tensor", "TensorType", False)},
    "TensorType": {1: ("element", "int", False), 2: ("shape", "Shape", False)},
    "Shape": {1: ("dims", "Dim", True)},
    "Dim": {1: ("value", "int", False), 2: ("name", "text", False)},
    "Skipped": {},
}

_WIRE = {"int": 0, "double": 1, "float": 5}  # all others: 2
_PACKED = {"float": "<f4", "double": "<f8"}

# ONNX's numbers of data types, as the loaders call them.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
}

# Where a tensor without raw bytes has its numbers; of float16 and bfloat16 their bits.
_ROOMS = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
_ROOMS |= dict.fromkeys(("uint32", "uint64"), "uint64_data")

# The kinds of attributes, by ONNX's numbers.
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}


class _Fields(dict[str, Any]):
    """A message's fields by name; one that may occur several times is a list, or empty."""

    def __missing__(self, name: str) -> tuple[()]:
        return ()


class _Wire:
    """The bytes of a file and what was read of them so far."""

    def __init__(self, data: memoryview, error: Callable[[str], Exception]) -> None:
        self.data, self.error = data, error
        self.messages = self.numbers = 0
        self.in_function = False  # where attributes may be arguments

    def varint(self, at: int, end: int, what: str) -> tuple[int, int]:
        """A number at a place, and the place behind it."""
        number = 0
        for i in range(10):
            if at + i >= end:
                raise self.error(f"{what}: a number begins at byte {at} and does not end before {end}")
            byte = self.data[at + i]
            number |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return number & (1 << 64) - 1, at + i + 1
        raise self.error(f"{what}: a number at byte {at} has more than ten bytes")

    def message(self, kind: str, at: int, end: int, depth: int = 0) -> dict[str, Any]:
        """A message's fields."""
        self.messages += 1
        if depth > MAX_DEPTH or self.messages > MAXMESSAGES:
            raise self.error(
                f"{kind} at byte {at}: got more than {MAX_DEPTH} messages within each other, or more than "
                f"{MAXMESSAGES} in all"
            )
        fields = MESSAGES[kind]
        found = _Fields()
        while at < end:
            key, at = self.varint(at, end, kind)
            number, wire = key >> 3, key & 7
            name, of, many = fields.get(number, ("", "", False))
            what = f"{kind}.{name or number}"
            if number == 0 or wire not in (0, 1, 2, 5):
                raise self.error(
                    f"{kind}: got field {number} of wire type {wire} before byte {at}, expected one above "
                    "0 of type 0, 1, 2 or 5: the file is damaged, or not ONNX"
                )
            value = 0
            if wire == 0:
                value, after = self.varint(at, end, what)
            else:
                size, after = (8 if wire == 1 else 4, at) if wire != 2 else self.varint(at, end, what)
                if size > end - after:
                    raise self.error(
                        f"{what} needs {size} bytes from {after}, but only {end - after} are left"
                    )
                at, after = after, after + size
            if not name:
                at = after
                continue
            expected = _WIRE.get(of, 2)
            if wire == 2 != expected and many:
                found.setdefault(name, []).extend(self.packed(of, at, after, what))
            elif wire != expected:
                raise self.error(f"{what}: got wire type {wire} before byte {at}, expected {expected}")
            else:
                one = value if wire == 0 else self.value(of, at, after, depth, what)
                if of == "int" and one >> 63:
                    one -= 1 << 64
                if many:
                    self.count(1 if of in _WIRE else {"bytes": 8, "text": 4}.get(of, 0), what)
                    found.setdefault(name, []).append(one)
                else:
                    found[name] = one
            at = after
        return found

    def count(self, more: int, what: str) -> None:
        self.numbers += more
        if self.numbers > MAX_NUMBERS + len(self.data) // 8:
            raise self.error(f"{what}: got more than {MAX_NUMBERS} numbers that are not raw bytes")

    def value(self, of: str, at: int, end: int, depth: int, what: str) -> Any:
        if of == "float":
            return struct.unpack_from("<f", self.data, at)[0]
        if of == "double":
            return struct.unpack_from("<d", self.data, at)[0]
        if of == "bytes":
            return self.data[at:end]
        if of == "text":
            if end - at > MAX_NAME:
                raise self.error(f"{what}: got {end - at} characters, expected at most {MAX_NAME}")
            try:
                return str(self.data[at:end], "utf-8")
            except UnicodeDecodeError:
                raise self.error(f"{what}: got bytes at {at} that are no UTF-8") from None
        return self.message(of, at, end, depth + 1)

    def packed(self, of: str, at: int, end: int, what: str) -> list[Any]:
        if of in _PACKED:
            size = np.dtype(_PACKED[of]).itemsize
            if (end - at) % size:
                raise self.error(f"{what}: got {end - at} bytes of numbers of {size} bytes each")
            self.count((end - at) // size, what)
            return list(np.frombuffer(self.data[at:end], _PACKED[of]).tolist())
        numbers = []
        while at < end:
            number, at = self.varint(at, end, what)
            self.count(1, what)
            numbers.append(number - (number >> 63 << 64))
        return numbers


def _tensor(wire: _Wire, found: dict[str, Any], where: str) -> Tensor:
    """A tensor whose size agrees with its bytes."""
    name = found.get("name", "")
    label = f"{where}: tensor {shown(name)}"
    if found["external"] or found.get("location"):
        places = ", ".join(shown(one.get("value", "")) for one in found["external"][:1])
        raise wire.error(
            f"{label}: its numbers are in another file, {places or 'not named'}, which is never opened: save "
            "the model with all data in one file"
        )
    dtype = _DTYPES.get(found.get("type", 0))
    if dtype is None or dtype not in READ:
        raise wire.error(f"{label}: dtype {dtype or found.get('type', 0)} cannot be read")
    shape = tuple(found["dims"])
    try:
        count = count_of(shape, bits_of(dtype))
    except ValueError as error:
        raise wire.error(f"{label}: shape {shown(str(shape))} {error}") from None
    code = np.dtype(f"<{READ[dtype][0]}")
    raw = found.get("raw")
    if raw is not None:
        if len(raw) != count * code.itemsize:
            raise wire.error(
                f"{label}: got {len(raw)} bytes, expected {count * code.itemsize} for shape {shape} of "
                f"{dtype}"
            )
        return Tensor(name, dtype, shape, lambda: np.frombuffer(raw, code).reshape(shape))
    numbers = found[_ROOMS.get(dtype, "int32_data")]
    if len(numbers) != count:
        raise wire.error(f"{label}: got {len(numbers)} numbers, expected {count} for shape {shape}")
    bits = np.dtype("u2") if dtype in ("float16", "bfloat16") else code
    try:
        array: Array = np.array(numbers, bits).view(code).reshape(shape)
    except OverflowError:
        raise wire.error(f"{label}: got a number beyond the range of {dtype}") from None
    return Tensor(name, dtype, shape, lambda: array)


def _attribute(wire: _Wire, found: dict[str, Any], where: str) -> Any:
    """The value of an attribute."""
    name = shown(found.get("name", ""))
    if found.get("of_function"):
        if not wire.in_function:
            raise wire.error(f"{where}: attribute {name}: got a function's argument, expected a value")
        return Reference(found["of_function"])
    kind = _ATTRIBUTES.get(found.get("type", 0))
    if kind is None:  # files from before the type was written have one value alone
        given = [one for one in _ATTRIBUTES.values() if found.get(one) not in (None, [])]
        if found.get("type", 0) or len(given) > 1:
            raise wire.error(f"{where}: attribute {name} has type {found.get('type', 0)}, expected 1 .. 8")
        kind = given[0] if given else "ints"
    defaults = {"f": 0.0, "i": 0, "s": memoryview(b""), "t": None, "g": None}
    value = found.get(kind, defaults.get(kind, []))
    if value is None:
        raise wire.error(f"{where}: attribute {name} has no value")
    if kind == "t":
        return _tensor(wire, value, f"{where}: {name}")
    if kind == "g":
        return _graph(wire, value, f"{where}: {name}")
    try:
        if kind == "s":
            return str(value, "utf-8")
        return [str(one, "utf-8") for one in value] if kind == "strings" else value
    except UnicodeDecodeError:
        raise wire.error(f"{where}: attribute {name} has bytes that are no UTF-8") from None


def _port(wire: _Wire, found: dict[str, Any], where: str) -> Port:
    name = found.get("name", "")
    tensor = found.get("type", {}).get("tensor")
    if tensor is None:
        return Port(name, "unknown", None)
    dtype = _DTYPES.get(tensor.get("element", 0), "unknown")
    if "shape" not in tensor:
        return Port(name, dtype, None)
    dims = tensor["shape"]["dims"]
    if len(dims) > MAX_DIMS:
        raise wire.error(f"{where}: {shown(name)} has {len(dims)} dimensions, expected at most {MAX_DIMS}")
    shape: list[Size] = []
    for dim in dims:
        size = dim.get("value", 0)
        if not -1 <= size <= 2**28:
            raise wire.error(f"{where}: {shown(name)} has the dimension {size}, expected 0 .. 2**28")
        shape.append(max(size, 0) or dim.get("name") or None)  # some write 0 or -1 for one that varies
    return Port(name, dtype, tuple(shape))


def _graph(wire: _Wire, found: dict[str, Any], where: str) -> Graph:
    """A graph whose values are each written once, before they are read."""
    if found["sparse"]:
        raise wire.error(f"{where}: got sparse tensors, expected dense ones")
    tensors: dict[str, Tensor] = {}
    for i, one in enumerate(found["tensors"]):
        found["tensors"][i] = None  # its memory is free once it is a tensor
        tensor = _tensor(wire, one, where)
        if tensor.name in tensors:
            raise wire.error(f"{where}: tensor {shown(tensor.name)} occurs twice, expected once")
        tensors[tensor.name] = tensor
    inputs = tuple(_port(wire, one, where) for one in found["inputs"])
    outputs = tuple(_port(wire, one, where) for one in found["outputs"])
    for what, ports in (("input", inputs), ("output", outputs)):
        if len({port.name for port in ports}) < len(ports):
            raise wire.error(f"{where}: got an {what} twice, expected each name once")
    nodes = _nodes(wire, found, where, {port.name for port in inputs} | tensors.keys())
    return Graph(found.get("name", ""), inputs, outputs, tensors, nodes)


def _nodes(wire: _Wire, found: dict[str, Any], where: str, written: set[str]) -> tuple[Node, ...]:
    """The nodes of a graph or of a function; ``written`` are the names that are there before."""
    nodes = []
    for i, one in enumerate(found["nodes"]):
        op, name = one.get("op", ""), one.get("name", "")
        at = f"{where}: node {shown(name) if name else i} ({shown(op)})"
        attributes: dict[str, Any] = {}
        for attribute in one["attributes"]:
            key = attribute.get("name", "")
            if key in attributes:
                raise wire.error(f"{at}: attribute {shown(key)} occurs twice, expected once")
            attributes[key] = _attribute(wire, attribute, at)
        for output in one["outputs"]:
            if output and output in written:
                raise wire.error(f"{at}: writes {shown(output)}, which is there already, expected each once")
            written.add(output)
        nodes.append(
            Node(
                op,
                own_domain(one.get("domain", "")),
                name,
                tuple(one["inputs"]),
                tuple(one["outputs"]),
                attributes,
            )
        )
    return tuple(nodes)


def _functions(wire: _Wire, found: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Function]:
    """The operators that a file defines, by domain and name."""
    functions: dict[tuple[str, str], Function] = {}
    wire.in_function = True
    for one in found:
        key = own_domain(one.get("domain", "")), one.get("name", "")
        where = f"function {shown(key[1])}"
        if key in functions:
            raise wire.error(f"{where}: occurs twice, expected once")
        arguments: dict[str, Any] = dict.fromkeys(one["arguments"])
        for default in one["defaults"]:
            arguments[default.get("name", "")] = _attribute(wire, default, where)
        nodes = _nodes(wire, one, where, set(one["inputs"]))
        opset = next(
            (o.get("version", 1) for o in one["opsets"] if not own_domain(o.get("domain", ""))), None
        )
        functions[key] = Function(tuple(one["inputs"]), tuple(one["outputs"]), arguments, nodes, opset)
    wire.in_function = False
    return functions


def own_domain(domain: str) -> str:
    """A domain by its short name: that of ONNX's own operators has two."""
    return "" if domain == "ai.onnx" else domain


def parse(data: memoryview, error: Callable[[str], Exception]) -> Model:
    """Read a model; ``error`` makes the exception of a message."""
    wire = _Wire(data, error)
    found = wire.message("Model", 0, len(data))
    if "graph" not in found:
        raise error("holds no graph, expected an ONNX model")
    opsets = {own_domain(one.get("domain", "")): one.get("version", 1) for one in found["opsets"]}
    if "" not in opsets:
        raise error("got no version of ONNX's operators, expected an ONNX model")
    metadata = {one.get("key", ""): one.get("value", "") for one in found["metadata"]}
    functions = _functions(wire, found["functions"])
    return Model(_graph(wire, found["graph"], "graph"), opsets, metadata, functions)


def matches(head: bytes) -> bool:
    """Tell whether a file may be ONNX: its first field is the version of the format, a small number."""
    return (
        len(head) > 8 and head[0] == 0x08 and 3 <= head[1] < 64 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)
    )


# Operations that round activations to codes, which nets here do not.
ROUNDS = ("QuantizeLinear", "DynamicQuantize", "QLinear", "QGemm")


def _tensors(graph: Graph) -> dict[str, Tensor]:
    """The tensors of a graph and of those within it, by name; its constants of floats are weights, too.

    Branches may use a name twice: the second has the operation and the attribute before it.
    """
    found = dict(graph.tensors)
    for node in graph.nodes:
        for key, one in node.attributes.items():
            if isinstance(one, Graph):
                for name, tensor in _tensors(one).items():
                    found[f"{node.name or node.op}.{key}.{name}" if name in found else name] = tensor
            elif node.op == "Constant" and node.outputs and _is_weight(one):
                found[node.outputs[0]] = one
    return {name: tensor._replace(name=name) for name, tensor in found.items()}


def _is_weight(given: Any) -> bool:
    return isinstance(given, Tensor) and bool(given.shape) and "float" in given.dtype


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: an ONNX file has no parts to choose from")
    data = memoryview(reader.read(0, reader.size, "the model"))
    model = parse(data, reader.error)
    tensors = list(_tensors(model.graph).values())
    if len(tensors) > MAX_TENSORS:
        raise reader.error(f"got {len(tensors)} tensors, expected at most {MAX_TENSORS}")
    rounding = sum(node.op.startswith(ROUNDS) for node in model.graph.nodes)
    unread = [("rounding of activations", f"{rounding} nodes, see docs/onnx.md")] if rounding else []
    return Contents(tensors, model.metadata, net=model, unread=unread)


SOURCE = Source("ONNX", (".onnx",), matches, read, nets="tinyrnn.onnx.build")
