"""NumPy's .npz: a zip archive of .npy files, stored (`savez`) or deflated (`savez_compressed`).

A .npy file is the magic ``\\x93NUMPY``, a version (1.0, 2.0 or 3.0), the length of the header (2 bytes, from
2.0 on 4), the header, and then the numbers. The header is the text of a Python dict, such as
``{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }``; it is matched, never evaluated. Object arrays
would be a pickle and are refused.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from tinyrnn.weights.archive import Member, first_member, member_fill, member_head, read_archive
from tinyrnn.weights.spec import READ, UNREAD_BITS, Array, Contents, Reader, Source, Tensor, count_of, shown

MAX_HEADER = 10_000  # NumPy's own limit
MAX_HEADERS = 4 << 20  # of all members together, beyond the size of the file

_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}
_ENTRY = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*
    (?: (['"])(?P<text>[^'"\\]*)\3 | (?P<flag>True|False)
      | \(\s*(?P<sizes>(?:\d{1,19}L?\s*,\s*)*(?:\d{1,19}L?\s*)?)\) )
    \s*(?:,|(?=\}))""",
    re.VERBOSE | re.ASCII,
)


def matches(head: bytes) -> bool:
    name = first_member(head)
    return head[:4] == b"PK\5\6" or (name is not None and name.endswith(".npy"))


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: an .npz file has no parts to choose from")
    tensors, total = [], 0
    for member in read_archive(reader).values():
        tensor, length = _tensor(reader, member)
        total += length
        if total > MAX_HEADERS + reader.size:  # they may be packed
            raise reader.error(
                f"{shown(tensor.name)}: the headers up to here have {total} bytes, expected at most "
                f"{MAX_HEADERS + reader.size} in a file of {reader.size}"
            )
        tensors.append(tensor)
    return Contents(tensors, metadata={})


def _tensor(reader: Reader, member: Member) -> tuple[Tensor, int]:
    """One .npy member and the length of its header, which is compared with the size of the member."""
    if not member.name.endswith(".npy"):
        raise reader.error(f"{shown(member.name)}: expected a member whose name ends in .npy")
    name = member.name[: -len(".npy")]
    label = shown(name)
    head = member_head(reader, member, MAX_HEADER + 12)
    major = head[6] if len(head) >= 12 and head[:6] == b"\x93NUMPY" else 0
    if major not in (1, 2, 3) or head[7]:
        raise reader.error(f"{label}: expected a .npy of version 1.0, 2.0 or 3.0")
    skip = 10 if major == 1 else 12
    (length,) = struct.unpack_from("<H" if major == 1 else "<I", head, 8)
    if length > MAX_HEADER or skip + length > len(head):
        raise reader.error(
            f"{label}: got a header of {length} bytes in {member.size}, expected at most "
            f"{min(MAX_HEADER, max(len(head) - skip, 0))}"
        )
    descr, fortran, shape = _header(reader, label, head[skip : skip + length].decode("latin-1"))
    order, kind, size = _descr(reader, label, descr)
    dtype = "bool" if (kind, size) == ("b", 1) else f"{_KINDS[kind]}{8 * size}"
    if dtype not in READ and dtype not in UNREAD_BITS:
        raise reader.error(f"{label}: dtype {descr!r} cannot be read: convert it to float32")
    try:
        count = count_of(shape, 8 * size)
    except ValueError as error:
        raise reader.error(f"{label}: shape {shown(str(shape))} {error}") from None
    if skip + length + count * size != member.size:
        raise reader.error(
            f"{label}: got {member.size - skip - length} bytes, expected {count * size} for shape {shape} "
            f"of {dtype}"
        )

    def raw() -> Array:
        array = np.empty(shape[::-1] if fortran else shape, order + READ[dtype][0])
        member_fill(reader, member, skip + length, array)
        return array.T if fortran else array

    return Tensor(name, dtype, shape, raw), length


def _header(reader: Reader, label: str, text: str) -> tuple[str, bool, tuple[int, ...]]:
    """The three entries of a .npy header: descr, fortran_order, shape."""
    found: dict[str, re.Match[str]] = {}
    body = text.strip(" \n")
    at = 1
    while body[:1] == "{" and (entry := _ENTRY.match(body, at)) and entry["key"] not in found:
        found[entry["key"]] = entry
        at = entry.end()
    descr, flag, sizes = (
        found[key][group] if key in found else None
        for key, group in (("descr", "text"), ("fortran_order", "flag"), ("shape", "sizes"))
    )
    if "descr" not in found and re.search(r"['\"]descr['\"]\s*:\s*\[", body):
        raise reader.error(
            f"{label}: got a structured dtype, which cannot be read: save each field as an array"
        )
    if descr is None or flag is None or sizes is None or len(found) != 3 or body[at:].strip() != "}":
        raise reader.error(f"{label}: malformed .npy header: {shown(body)}")
    return descr, flag == "True", tuple(int(size) for size in re.findall(r"\d+", sizes))


def _descr(reader: Reader, label: str, descr: str) -> tuple[str, str, int]:
    """Byte order, kind and size of a dtype such as ``<f4``."""
    match = re.fullmatch(r"([<>|=]?)([a-zA-Z])(\d{0,4})", descr, re.ASCII)
    if match is None:
        raise reader.error(f"{label}: dtype {shown(descr)} cannot be read: convert it to float32")
    order, kind, size = match[1], match[2], int(match[3] or 0)
    if kind == "O":
        raise reader.error(
            f"{label}: got an object array, a pickle, which is never loaded: save it as numbers"
        )
    if kind not in _KINDS or not size:
        raise reader.error(f"{label}: dtype {shown(descr)} cannot be read: convert it to float32")
    return (order if order in "<>" else "="), kind, size


SOURCE = Source("NumPy .npz", (".npz",), matches, read)
