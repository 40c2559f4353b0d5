"""safetensors: 8 bytes, the length of the header as a little-endian integer; the header; the numbers.

The header is a JSON object that maps each name to its ``{"dtype": "F32", "shape": [2, 3], "data_offsets":
[0, 24]}``, and ``"__metadata__"`` to an object of strings. The offsets count from the end of the header;
together the tensors must cover everything up to the end of the file, with no overlap and no hole. Numbers
are little-endian, row-major.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import numpy as np

from tinyrnn.errors import WeightsError
from tinyrnn.files import replacing
from tinyrnn.weights.spec import (
    FLOAT8,
    MAX_TENSORS,
    READ,
    Array,
    Contents,
    Reader,
    Source,
    StrPath,
    Tensor,
    bits_of,
    bytes_of,
    count_of,
    shown,
)

MAX_HEADER = 100_000_000  # bytes, the official limit
MAX_DIGITS = 19  # of an integer
MAX_NODES = 1_000_000  # JSON values, beyond one for 24 bytes: a header costs memory by their number
MAX_KEYS = 250_000  # names in JSON objects, which cost the most

# In the official library's order, by which it lays the tensors out, last first.
DTYPES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_WRITTEN = {
    dtype: code for code, dtype in DTYPES.items() if dtype in READ and dtype not in ("bfloat16", *FLOAT8)
}
_RANK = {code: rank for rank, code in enumerate(DTYPES)}


def matches(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: a safetensors file has no parts to choose from")
    if reader.size < 10:
        raise reader.error(f"got {reader.size} bytes, expected at least 10, the smallest safetensors file")
    (length,) = struct.unpack("<Q", reader.read(0, 8, "the length of the header"))
    if length > MAX_HEADER or length > reader.size - 8:
        raise reader.error(
            f"got a header of {length} bytes in a file of {reader.size}, expected at most "
            f"{min(MAX_HEADER, reader.size - 8)}: the file is incomplete, or not safetensors"
        )
    header = parse(reader, reader.read(8, length, "the header"))
    metadata = header.pop("__metadata__", {})
    metadata = {"format": "mlx"} if metadata is None else metadata  # null, which MLX alone writes
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise reader.error("__metadata__: expected an object that maps strings to strings")
    if (count := len(header) + len(metadata)) > MAX_TENSORS:
        raise reader.error(f"got {count} tensors, expected at most {MAX_TENSORS}")
    begin = 8 + length
    tensors, spans = [], []
    for name, entry in header.items():
        dtype, shape, start, stop = _entry(reader, name, entry)
        tensors.append(_tensor(reader, name, dtype, shape, begin + start))
        spans.append((start, stop, name))
    reached = 0
    for start, stop, name in sorted(spans, key=lambda span: span[:2]):
        if start != reached:
            kind = "overlaps the tensor before it" if start < reached else "leaves a hole before it"
            raise reader.error(f"{shown(name)}: begins at byte {start}, expected {reached}: {kind}")
        reached = stop
    if begin + reached != reader.size:
        raise reader.error(
            f"the tensors end at byte {begin + reached}, expected {reader.size}, its end: copy it again"
        )
    if "tinyrnn" not in metadata:
        tensors += _tied(metadata, {tensor.name: tensor for tensor in tensors})
    if sum(map(_nodes, metadata.values())) > MAX_NODES:  # JSON in JSON, whose marks can be escaped
        raise reader.error(f"__metadata__: expected at most {MAX_NODES} values")
    return Contents(tensors, metadata, net=metadata.get("tinyrnn"))


def _tied(metadata: dict[str, str], tensors: dict[str, Tensor]) -> list[Tensor]:
    """The tensors that `safetensors.torch.save_model` left out: its metadata says which others they are."""
    return [
        tensors[kept]._replace(name=name)
        for name, kept in metadata.items()
        if kept in tensors and name not in tensors
    ]


def _nodes(text: str) -> int:
    """An upper bound of the number of values in a JSON text."""
    return text.count(",") + text.count("[") + text.count("{")


def read_metadata(path: StrPath) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file; the whole file is checked as `load_weights` does.

    Raises
    ------
    OSError, LoadError
        As `load_weights` does.
    """
    with Reader(path) as reader:
        return read(reader, None).metadata


def check_values(raw: bytes, what: str, error: Callable[[str], Exception]) -> None:
    """Refuse a JSON text that would take much memory, before it is parsed."""
    most = MAX_NODES + len(raw) // 24
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > most or raw.count(b":") > MAX_KEYS:
        raise error(f"{what}: expected at most {most} values and {MAX_KEYS} names")


def parse(reader: Reader, raw: bytes, what: str = "the header", *, floats: bool = False) -> dict[str, Any]:
    """Parse a JSON object, and refuse everything that JSON readers disagree about.

    `what` names it in errors. Without `floats` every number in it must be an integer.
    """
    if raw[:1] != b"{":
        raise reader.error(f"{what} begins with {raw[:1]!a}, expected '{{'")
    check_values(raw, what, reader.error)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise reader.error(f"{what} has {shown(twice)} twice, expected once")
        return entries

    def refuse(text: str) -> NoReturn:
        wanted = "finite numbers, and integers" if floats else "integers"
        raise reader.error(
            f"{what} has the number {shown(text)}, expected {wanted} of at most {MAX_DIGITS} digits"
        )

    def whole(text: str) -> int:
        return int(text) if len(text) <= MAX_DIGITS else refuse(text)

    try:
        text = raw.decode("utf-8")
        header = json.loads(
            text,
            object_pairs_hook=unique,
            parse_int=whole,
            parse_float=None if floats else refuse,
            parse_constant=refuse,
        )
        if "\\u" in text:
            json.dumps(header, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except UnicodeError:
        raise reader.error(f"{what} is not UTF-8") from None
    except RecursionError:
        raise reader.error(f"{what} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise reader.error(f"{what} is not JSON: {error.msg} at character {error.pos}") from None
    assert isinstance(header, dict)  # it began with a brace
    return header


def _entry(reader: Reader, name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape and span of one tensor, each checked against the others."""
    label = shown(name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise reader.error(f"{label}: expected an object of dtype, shape and data_offsets")
    code, sizes, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise reader.error(f"{label}: got the unknown dtype {shown(str(code))}")
    dtype = DTYPES[code]
    for what, numbers in (("shape", sizes), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(item) is int and item >= 0 for item in numbers):
            raise reader.error(f"{label}: {what}: expected a list of integers, none negative")
    shape = tuple(sizes)
    bits = bits_of(dtype)
    try:
        count = count_of(shape, bits)
    except ValueError as error:
        raise reader.error(f"{label}: shape {shown(str(shape))} {error}") from None
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise reader.error(f"{label}: data_offsets: got {shown(str(offsets))}, expected [begin, end]")
    start, stop = offsets
    if count * bits % 8 or stop - start != count * bits // 8:
        need = str(count * bits // 8) if count * bits % 8 == 0 else "a whole number of them"
        raise reader.error(
            f"{label}: got {stop - start} bytes, expected {need} for shape {shown(str(shape))} of {dtype}"
        )
    return dtype, shape, start, stop


def _tensor(reader: Reader, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> Tensor:
    def raw() -> Array:
        array = np.empty(shape, "<" + READ[dtype][0])
        reader.fill(offset, array, shown(name))
        return array

    return Tensor(name, dtype, shape, raw)


def save_safetensors(
    path: StrPath,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    bfloat16: Collection[str] = (),
) -> None:
    """Write tensors as a safetensors file: all of it, or nothing.

    The file appears under its name only when it is complete and on the disk. An older file stays until
    then, and its permissions pass to the new one. The same tensors give the same bytes in any order, and the
    same bytes as the official library.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write. A symbolic link stays a link; the file that it leads to is replaced.
    tensors : mapping of str to numpy.ndarray
        float64, float32, float16, integers and bools, in any layout and byte order, stored as they are.
    metadata : mapping of str to str, optional
        Stored beside them; `read_metadata` gives it back.
    bfloat16 : collection of str
        Names of the uint16 tensors that hold the bits of bfloat16 numbers, a dtype that NumPy lacks.

    Raises
    ------
    WeightsError
        If a name or a dtype cannot be stored. Nothing was written.
    OSError
        If the file cannot be written.
    """
    header, arrays = _layout(tensors, metadata, bfloat16)
    with replacing(path) as file:
        file.write(header)
        for array in arrays:
            file.write(bytes_of(array))


def _layout(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None, bfloat16: Collection[str]
) -> tuple[bytes, list[Array]]:
    """The bytes before the data, and the arrays in the order in which they follow."""
    header: dict[str, Any] = {}
    if metadata:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise WeightsError(f"metadata {key!r}: got {value!r}, expected strings")
        header["__metadata__"] = dict(sorted(metadata.items()))
    rows = []
    for name, tensor in tensors.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise WeightsError(f"{name!r}: expected the name of a tensor, a string other than '__metadata__'")
        array = np.asarray(tensor)
        code = _WRITTEN.get(array.dtype.name)
        if name in bfloat16 and code == "U16":
            code = "BF16"
        if code is None:
            raise WeightsError(f"{name}: dtype {array.dtype} cannot be stored")
        rows.append((-_RANK[code], name, code, array))
    rows.sort(key=lambda row: row[:2])
    reached = 0
    for _, name, code, array in rows:
        span = [reached, reached + array.nbytes]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": span}
        reached = span[1]
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        near = ascii(error.object[max(error.start - 40, 0) : error.end])
        raise WeightsError(f"{near}: got half a surrogate pair, which UTF-8 cannot store") from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise WeightsError(f"the names need a header of {len(text)} bytes, expected at most {MAX_HEADER}")
    arrays: list[Array] = [np.ascontiguousarray(row[3], row[3].dtype.newbyteorder("<")) for row in rows]
    return struct.pack("<Q", len(text)) + text, arrays


SOURCE = Source("safetensors", (".safetensors",), matches, read, nets="tinyrnn.loading")
