"""Sharded safetensors: an index in JSON that names the file of each tensor.

``{"metadata": {...}, "weight_map": {"<tensor>": "<file>", ...}}``. The files lie in the index's own folder; a
name that leads elsewhere is an error. Index and files must agree on every tensor.
"""

from __future__ import annotations

import re

from tinyrnn.weights import safetensors
from tinyrnn.weights.spec import MAX_TENSORS, Contents, Reader, Source, Tensor, shown

MAX_INDEX = 64 << 20  # bytes
MAX_FILES = 256  # all are open at once
_PLAIN = re.compile(r"[^/\\:\0]{1,240}\.safetensors")


def matches(head: bytes) -> bool:
    return re.match(rb"\s*\{", head) is not None and re.search(rb'"weight_map"\s*:\s*\{', head) is not None


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: an index has no parts to choose from")
    if reader.size > MAX_INDEX:
        raise reader.error(f"the index has {reader.size} bytes, expected at most {MAX_INDEX}")
    index = safetensors.parse(reader, reader.read(0, reader.size, "the index").strip())
    places = index.get("weight_map")
    if not isinstance(places, dict) or len(places) > MAX_TENSORS:
        raise reader.error(f"weight_map: expected an object of at most {MAX_TENSORS} names")
    for name, file in places.items():
        if not isinstance(file, str) or not _PLAIN.fullmatch(file):
            raise reader.error(
                f"{shown(name)}: got the file {shown(str(file))}, expected the name of a .safetensors file "
                "in the same folder"
            )
    files = list(dict.fromkeys(places.values()))
    if len(files) > MAX_FILES:
        raise reader.error(f"weight_map: got {len(files)} files, expected at most {MAX_FILES}")
    found: dict[str, Tensor] = {}
    for file in files:
        for tensor in safetensors.read(reader.beside(file), None).tensors:
            if places.get(tensor.name) != file:
                raise reader.error(
                    f"{shown(tensor.name)}: is in {shown(file)}, but the index does not say so"
                )
            found[tensor.name] = tensor
    for name, file in places.items():
        if name not in found:
            raise reader.error(f"{shown(name)}: is missing from {shown(file)}")
    return Contents([found[name] for name in places], {})


SOURCE = Source("sharded safetensors", (".json",), matches, read)
