"""Zip archives, which both PyTorch and NumPy wrap their files in.

The directory stands at the end: one record for each member, then (from zip64 on) a 64-bit end record and its
locator, then the end record. We read it ourselves because `zipfile` accepts hostile archives: members that
overlap, names that occur twice, two places that disagree, and sizes that the compressed bytes cannot reach.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tinyrnn.weights.spec import MAX_TENSORS, Array, Reader, bytes_of, shown

MAX_MEMBERS = MAX_TENSORS + 1000
MAX_DIRECTORY = 32 << 20
DEFLATE_RATIO = 1032  # the most that deflate can expand
BLOCK = 1 << 20
STORED, DEFLATED = 0, 8


class Member(NamedTuple):
    """One file inside a zip archive. `crc` is 0 where the writer left it out."""

    name: str
    method: int
    begin: int
    packed: int
    size: int
    crc: int


def first_member(head: bytes) -> str | None:
    """The name of the first member of a zip archive, or None when this is not the head of one."""
    if head[:4] != b"PK\3\4" or len(head) < 30:
        return None
    (length,) = struct.unpack_from("<H", head, 26)
    return head[30 : 30 + length].decode("utf-8", "replace")


def read_archive(reader: Reader) -> dict[str, Member]:
    """The members of a zip archive by name, in directory order. Each is checked to lie where it claims."""
    members: dict[str, Member] = {}
    spans: list[tuple[int, int, str]] = []
    begin, end, count = _directory_span(reader)
    directory = reader.read(begin, end - begin, "the zip directory")
    at = 0
    for _ in range(count):
        if len(directory) - at < 46 or directory[at : at + 4] != b"PK\1\2":
            raise reader.error(f"zip directory: record {len(members)} of {count} is missing")
        (flags, method, crc, packed, size, name_len, extra_len, note_len, disk, offset) = struct.unpack_from(
            "<8xHH4xIIIHHHH6xI", directory, at
        )
        stop = at + 46 + name_len + extra_len + note_len
        if stop > len(directory):
            raise reader.error("zip directory: a record runs past its end")
        raw_name = directory[at + 46 : at + 46 + name_len]
        extra = directory[at + 46 + name_len : at + 46 + name_len + extra_len]
        at = stop
        try:
            name = raw_name.decode("utf-8" if flags & 0x800 else "cp437")
        except UnicodeDecodeError:
            raise reader.error(f"zip directory: a name is not UTF-8: {shown(ascii(raw_name))}") from None
        label = shown(name)
        size, packed, offset = _zip64(reader, label, extra, size, packed, offset)
        if flags & 0x2041 or disk:
            raise reader.error(f"{label}: the member is encrypted or spread over several disks")
        if method not in (STORED, DEFLATED):
            raise reader.error(f"{label}: got compression method {method}, expected stored or deflated")
        if method == STORED and packed != size:
            raise reader.error(f"{label}: got {packed} stored bytes, expected {size}")
        if size > DEFLATE_RATIO * packed:
            raise reader.error(f"{label}: {packed} compressed bytes cannot expand to {size}")
        if name in members:
            raise reader.error(f"{label}: occurs twice in the zip directory")
        if offset > begin - 30:
            raise reader.error(
                f"{label}: begins at {offset}, expected it before the zip directory at {begin}"
            )
        local = reader.read(offset, min(30 + name_len, begin - offset), label)
        magic, local_method, local_name, local_extra = struct.unpack_from("<4s4xH16xHH", local)
        if magic != b"PK\3\4" or local_method != method:
            raise reader.error(f"{label}: the zip directory and the member's own header disagree")
        data = offset + 30 + local_name + local_extra
        if data + packed > begin:
            raise reader.error(f"{label}: {packed} bytes at {data} overlap the zip directory at {begin}")
        if local_name != name_len or local[30:] != raw_name:
            raise reader.error(f"{label}: the zip directory and the member's own header differ in the name")
        members[name] = Member(name, method, data, packed, size, crc)
        spans.append((offset, data + packed, label))
    if at != len(directory):
        raise reader.error(f"zip directory: {len(directory) - at} bytes are left after {count} records")
    spans.sort()
    for (_, stop, one), (start, _, other) in pairwise(spans):
        if start < stop:
            raise reader.error(f"{one} and {other} overlap in the zip archive")
    return members


def _directory_span(reader: Reader) -> tuple[int, int, int]:
    """Find the begin and the end of the zip directory, and its number of records."""
    end = reader.size - 22
    tail = reader.read(end, 22, "the end of a zip archive") if end >= 0 else b""
    if tail[:4] != b"PK\5\6" or tail[20:] != b"\0\0":
        raise reader.error("the end of the zip archive is missing: cut short, or bytes were added to it")
    disk, first_disk, here, count, size, begin = struct.unpack("<4xHHHHII2x", tail)
    locator = reader.read(end - 20, 20, "the zip64 locator") if end >= 20 else b""
    if locator[:4] == b"PK\6\7":
        _, place, total = struct.unpack("<4xIQI", locator)
        if place != end - 20 - 56:
            raise reader.error(f"zip64 end record: got place {place}, expected {end - 20 - 56}")
        record = reader.read(place, 56, "the zip64 end record")
        disk, first_disk, here, count, size, begin = struct.unpack("<16xIIQQQQ", record)
        if record[:4] != b"PK\6\6" or total != 1:
            raise reader.error("zip64 end record: broken")
        end = place
    if disk or first_disk or here != count:
        raise reader.error("zip archive: spread over several disks, expected one")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise reader.error(
            f"zip directory: got {count} records in {size} bytes, expected at most {MAX_MEMBERS} in "
            f"{MAX_DIRECTORY}"
        )
    if begin + size != end:
        raise reader.error(f"zip directory: {size} bytes from {begin} do not reach the end record at {end}")
    return begin, end, count


def _zip64(
    reader: Reader, label: str, extra: bytes, size: int, packed: int, offset: int
) -> tuple[int, int, int]:
    """Take the values that do not fit 32 bits from a record's zip64 extra field."""
    fields = [size, packed, offset]
    wanted = [i for i, value in enumerate(fields) if value == 0xFFFFFFFF]
    at = 0
    while wanted and len(extra) - at >= 4:
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if kind == 1 and min(length, len(extra) - at) >= 8 * len(wanted):
            for i, value in zip(wanted, struct.unpack_from(f"<{len(wanted)}Q", extra, at), strict=True):
                fields[i] = value
            wanted = []
        at += length
    if wanted:
        raise reader.error(f"{label}: its zip64 field is missing")
    return fields[0], fields[1], fields[2]


def unpacked(reader: Reader, member: Member, step: int = BLOCK) -> Iterator[bytes]:
    """The content of a member in blocks of at most `step` bytes, never more than it claims.

    Length and checksum are checked after the last block.
    """
    import zlib

    label = shown(member.name)
    inflate = zlib.decompressobj(-15)
    done = crc = taken = 0
    rest = b""
    while True:
        if not rest and taken < member.packed:
            rest = reader.read(member.begin + taken, min(step, member.packed - taken), label)
            taken += len(rest)
        if member.method == STORED:
            block, rest = rest, b""
        else:
            try:
                block = inflate.decompress(rest, step)
            except zlib.error as error:
                raise reader.error(f"{label}: does not decompress ({error})") from None
            rest = inflate.unconsumed_tail
            if inflate.eof and (rest or inflate.unused_data or taken < member.packed):
                raise reader.error(f"{label}: bytes are left after its compressed data")
        done += len(block)
        crc = zlib.crc32(block, crc)
        if done > member.size or (not block and not rest and taken == member.packed):
            break
        if block:
            yield block
    if done != member.size or (member.method == DEFLATED and not inflate.eof):
        raise reader.error(f"{label}: does not decompress to the {member.size} bytes it claims")
    if member.crc and crc != member.crc:
        raise reader.error(f"{label}: got checksum {crc:08x}, expected {member.crc:08x}: the file is damaged")


def member_head(reader: Reader, member: Member, count: int) -> bytes:
    """The first bytes of a member, at most `count`."""
    head = b""
    for block in unpacked(reader, member, count):
        head += block
        if len(head) >= count:
            break
    return head[:count]


def member_fill(reader: Reader, member: Member, skip: int, array: Array) -> None:
    """Fill an array with the bytes of a member after the first `skip`, which must be exactly as many."""
    if member.size - skip != array.nbytes:
        raise reader.error(f"{shown(member.name)}: got {member.size - skip} bytes, expected {array.nbytes}")
    out, at = bytes_of(array), 0
    for block in unpacked(reader, member):
        part = block[skip:]
        skip -= len(block) - len(part)
        out[at : at + len(part)] = part
        at += len(part)
