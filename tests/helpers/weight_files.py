"""Builders of weight files, good and hostile, that need neither torch nor safetensors.

A pickle is put together from opcodes: `value(...)` gives those of plain Python data, `Ops(...)` takes them as
bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


class Ops(bytes):
    """Pickle opcodes, to stand as they are among plain values."""


def value(thing: object) -> Ops:
    """The opcodes that push a plain Python value."""
    match thing:
        case Ops():
            return thing
        case None | bool():
            return Ops({None: b"N", True: b"\x88", False: b"\x89"}[thing])
        case int():
            raw = thing.to_bytes(thing.bit_length() // 8 + 1, "little", signed=True)
            return Ops(b"\x8a" + bytes([len(raw)]) + raw)
        case float():
            return Ops(b"G" + struct.pack(">d", thing))
        case str():
            raw = thing.encode("utf-8", "surrogatepass")
            return Ops(b"X" + struct.pack("<I", len(raw)) + raw)
        case tuple():
            return Ops(b"(" + b"".join(map(value, thing)) + b"t")
        case list():
            return Ops(b"](" + b"".join(map(value, thing)) + b"e")
        case dict():
            return Ops(b"}(" + b"".join(value(key) + value(item) for key, item in thing.items()) + b"u")
    raise TypeError(type(thing))


def call(name: str, *arguments: object) -> Ops:
    """A call of a global, as REDUCE makes it."""
    module, _, attribute = name.rpartition(".")
    return Ops(f"c{module}\n{attribute}\n".encode() + value(arguments) + b"R")


def storage(key: str, dtype: str, count: int) -> Ops:
    kind = Ops(f"ctorch\n{STORAGES.get(dtype, dtype)}\n".encode())
    return Ops(value(("storage", kind, key, "cpu", count)) + b"Q")


def tensor(
    shape=(2, 3),
    strides=None,
    offset=0,
    key="0",
    dtype="float32",
    count=None,
    rebuild="_rebuild_tensor_v2",
    more=(),
) -> Ops:
    """A tensor as `torch.save` pickles it; row-major and as large as its storage unless told otherwise."""
    strides = strides if strides is not None else row_major(shape)
    count = count if count is not None else int(np.prod(shape))
    hooks = call("collections.OrderedDict")
    return call(
        f"torch._utils.{rebuild}",
        storage(key, dtype, count),
        offset,
        tuple(shape),
        tuple(strides),
        False,
        hooks,
        *more,
    )


def row_major(shape) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def pickled(thing: object) -> bytes:
    return b"\x80\x02" + value(thing) + b"."


@dataclass
class Member:
    """One member of a zip archive; a field that is not None replaces the true value."""

    name: str
    data: bytes
    method: int = 0
    size: int | None = None
    packed: int | None = None
    offset: int | None = None
    crc: int | None = None
    flags: int = 0x800
    local_name: str | None = None
    zip64: bool = False


def zipped(
    *members: Member, tail: bytes = b"", gap: int = 0, count: int | None = None, end64: bool = False
) -> bytes:
    """A zip archive, padded between its members by `gap` bytes."""
    out, directory = bytearray(), bytearray()
    for member in members:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = deflate.compress(member.data) + deflate.flush() if member.method == 8 else member.data
        name = member.name.encode()
        local = (member.local_name or member.name).encode()
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        offset = len(out) if member.offset is None else member.offset
        packed = len(data) if member.packed is None else member.packed
        size = len(member.data) if member.size is None else member.size
        out += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, member.flags, member.method, 0, 0, crc, packed, size, len(local), 0
        )
        out += local + data + bytes(gap)
        extra = struct.pack("<HHQQQ", 1, 24, size, packed, offset) if member.zip64 else b""
        if member.zip64:
            size = packed = offset = 0xFFFFFFFF
        directory += struct.pack(
            "<4s6H3I", b"PK\1\2", 20, 20, member.flags, member.method, 0, 0, crc, packed, size
        )
        directory += struct.pack("<5H2I", len(name), len(extra), 0, 0, 0, 0, offset)
        directory += name + extra
    count = len(members) if count is None else count
    begin = len(out)
    out += directory
    if end64:
        end = len(out)
        out += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), begin)
        out += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    out += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), begin, len(tail)) + tail
    return bytes(out)


def pt(
    thing: object, storages: dict[str, bytes] | None = None, byteorder: bytes | None = b"little", **more
) -> bytes:
    """A file of `torch.save`. `thing` is what to pickle, or the pickle itself as bytes."""
    data = thing if type(thing) is bytes else pickled(thing)
    members = [Member("model/data.pkl", data)]
    if byteorder is not None:
        members.append(Member("model/byteorder", byteorder))
    members += [Member(f"model/data/{key}", raw) for key, raw in (storages or {}).items()]
    return zipped(*members, Member("model/version", b"3\n"), **more)


def package(pickles: dict[str, object], storages: dict[str, bytes] | None = None) -> bytes:
    """A file of `torch.package`: objects by path, and storages, by default the six numbers of `tensor`."""
    storages = {"0": np.arange(6, dtype=np.float32).tobytes()} if storages is None else storages
    return zipped(
        *(Member(f"m/.data/{key}.storage", data) for key, data in storages.items()),
        *(Member(f"m/{name}.pkl", pickled(thing)) for name, thing in pickles.items()),
        Member("m/own.py", b"raise SystemExit"),
        Member("m/.data/extern_modules", b"torch"),
        Member("m/byteorder", b"little"),
    )


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file. `header` is an object for JSON, or text, or bytes."""
    if not isinstance(header, str | bytes):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def npy(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    raw = header.encode()
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", length or len(raw))
        + raw
        + data
    )


def npy_header(descr: str = "<f4", shape: object = (2, 3), fortran: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def program(config: object, files: dict[str, bytes], more: Sequence[Member] = ()) -> bytes:
    """A .pt2 as `torch.export.save` writes it: the list of weights, and their files."""
    listed = json.dumps({"config": config}).encode()
    return zipped(
        *(Member(f"m/data/weights/{name}", data) for name, data in files.items()),
        Member("m/data/weights/model_weights_config.json", listed),
        Member("m/models/model.json", b"{}"),
        Member("m/archive_format", b"pt2"),
        Member("m/byteorder", b"little"),
        *more,
    )


def npz(*members: tuple[str, bytes], method: int = 0, **more) -> bytes:
    return zipped(*(Member(name, data, method=method) for name, data in members), **more)


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(
    thing: object,
    storages: dict[str, tuple[int, bytes]] | None = None,
    *,
    magic: int = MAGIC,
    protocol: object = 1001,
    keys: object = None,
    tail: bytes = b"",
) -> bytes:
    """A file of `torch.save` from before 1.6. `storages` has the number of elements and the bytes of each."""
    storages = storages or {}
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
    keys = list(storages) if keys is None else keys
    object_pickle = thing if type(thing) is bytes else pickled(thing)
    pickles = pickled(magic), pickled(protocol), pickled(machine), object_pickle, pickled(keys)
    return b"".join(pickles) + b"".join(struct.pack("<q", n) + raw for n, raw in storages.values()) + tail


def whole_module(
    parameters: dict[str, object], modules: dict[str, object] | None = None, **more: object
) -> Ops:
    """A module that was saved whole: an object of a class that we do not know, and its attributes."""
    made = Ops(b"c__main__\nNet\n)\x81")
    attributes = {"training": True, "_parameters": parameters, "_buffers": {}, "_modules": modules or {}}
    return Ops(made + value(attributes | more) + b"b")
