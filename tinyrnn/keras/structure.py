"""HDF5 without its library: groups, datasets and attributes of text, of what Keras and h5py write by default.

A file begins with a superblock, which leads to the header of the outermost group. An object's header is a row
of messages: a group has a symbol table (a B-tree of nodes, names in a heap) or messages of links, a dataset
has messages of its shape, type and place. Strings of variable length lie in collections. Links in fractal
heaps, chunks, filters and shared messages are refused. The HDF5 File Format Specification 3.0 is the source.

Whatever the addresses in a file are, its structure is read once: `Structure.take` counts the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tinyrnn.weights.spec import MAX_DIMS, MAX_NAME, MAX_TENSORS, shown

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 64
MAX_TEXTS = 4096  # strings in an attribute; longer lists are in several
_NOWHERE = (1 << 64) - 1  # the address of what is not there

# Numbers of messages.
_SPACE, _LINKS, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS = 1, 2, 3, 6, 7, 8, 11
_ATTRIBUTE, _CONTINUED, _TABLE, _ATTRIBUTES = 12, 16, 17, 21

# Exponent's and mantissa's sizes and the exponent's bias of floats, by their bytes.
_FLOATS = {2: (5, 10, 15), 4: (8, 23, 127), 8: (11, 52, 1023)}


class Kind(NamedTuple):
    """A type of numbers or text.

    Attributes
    ----------
    code : str
        NumPy's, with the byte order; "?" for bools, "S" for texts of `size` bytes, "O" for those in
        collections; "V" for numbers in another form than NumPy's, "" for what is neither.
    size : int
        Bytes of one.
    """

    code: str
    size: int


class Dataset(NamedTuple):
    """The numbers of a dataset: their type, and where they lie in the file."""

    kind: Kind
    shape: tuple[int, ...]
    offset: int
    size: int


class Structure:
    """The groups of a file and what is in them.

    Attributes
    ----------
    datasets : dict of str to Dataset
        By path, in the order of the groups.
    texts : dict of str to dict
        The attributes of each group that are text, each a list.
    """

    def __init__(self, data: bytes | bytearray, error: Callable[[str], Exception]) -> None:
        self.data, self._error = data, error
        self.datasets: dict[str, Dataset] = {}
        self.texts: dict[str, dict[str, list[str]]] = {}
        self._left = 2 * len(data)
        self._seen: set[int] = set()
        self._collections: dict[int, dict[int, tuple[int, int]]] = {}
        self._walk(self._root(), "", 0)

    def error(self, text: str) -> Exception:
        return self._error(f"HDF5: {text}")

    def take(self, at: int, size: int, what: str) -> bytes:
        """Some bytes of the structure."""
        if at < 0 or at > len(self.data) - size:
            raise self.error(f"{what} needs {size} bytes from {at}, but the file has {len(self.data)}")
        self._left -= size
        if self._left < 0:
            raise self.error(f"{what} at {at}: what it has was read before, expected each part once")
        return bytes(self.data[at : at + size])

    def unpack(self, code: str, at: int, what: str) -> tuple[Any, ...]:
        """Numbers of the structure, little-endian."""
        return struct.unpack(f"<{code}", self.take(at, struct.calcsize(f"<{code}"), what))

    def _root(self) -> int:
        """The address of the outermost group's header."""
        magic, version = self.unpack("8sB", 0, "the superblock")
        if magic != MAGIC:
            raise self.error("damaged: it does not begin as such files do")
        if version in (0, 1):
            sizes = [*self.unpack("BB", 13, "the superblock")]
            base, _, end, _, _, root = self.unpack("6Q", 24 + 4 * version, "the superblock")
        elif version in (2, 3):
            *sizes, _, base, _, end, root = self.unpack("BBB4Q", 9, "the superblock")
        else:
            raise self.error(f"got version {version} of the superblock, expected 0 to 3")
        if sizes != [8, 8]:
            raise self.error(f"addresses and lengths have {sizes} bytes, expected 8")
        if base:
            raise self.error("got bytes before its own, expected none")
        if end > len(self.data):
            raise self.error(
                f"damaged: it has {len(self.data)} bytes, expected {end}: the file was cut short"
            )
        return int(root)

    # ---- objects and their messages

    def _messages(self, at: int, what: str) -> list[tuple[int, int, int]]:
        """The messages of an object's header: number, place and size of each."""
        first = self.take(at, 4, what)
        found: list[tuple[int, int, int]] = []
        if first == b"OHDR":
            version, flags = self.unpack("BB", at + 4, what)
            at += 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            (size,) = self.unpack("BHIQ"[flags & 3], at, what)
            at += 1 << (flags & 3)
            form, each = ("BHB2x", 6) if flags & 4 else ("BHB", 4)
        else:
            version, size = first[0] + 1, self.unpack("I", at + 8, what)[0]
            form, each, at = "HHB3x", 8, at + 16
        if version != 2:
            raise self.error(f"{what}: damaged: got an unknown version of its header at {at}")
        blocks = [(at, size)]
        for begin, length in blocks:  # it grows
            at, end = begin, begin + length
            if end > len(self.data):
                raise self.error(f"{what}: damaged: its header ends at {end}, after the file")
            while at + each <= end:
                number, size, flags = self.unpack(form, at, what)
                at += each
                if size > end - at:
                    raise self.error(f"{what}: damaged: a message at {at} is longer than its header")
                if number == _CONTINUED:
                    place, length = self.unpack("QQ", at, what)
                    framed = 4 * (each < 8)  # behind a magic, before a checksum
                    if length < 2 * framed:
                        raise self.error(f"{what}: damaged: its header continues in {length} bytes")
                    blocks.append((place + framed, length - 2 * framed))
                elif flags & 2 and number in (_SPACE, _TYPE, _LAYOUT, _ATTRIBUTE):
                    raise self.error(f"{what}: got a type or shape that others share, expected its own")
                elif number:
                    found.append((number, at, size))
                at += size
        return found

    def _walk(self, at: int, path: str, depth: int) -> None:
        """Read an object and all below it."""
        what = shown(path) if path else "the outermost group"
        if depth > MAX_DEPTH:
            raise self.error(f"{what}: groups are nested too deep, expected at most {MAX_DEPTH}")
        if at in self._seen:
            raise self.error(f"{what}: is linked twice, expected once")
        self._seen.add(at)
        if len(self._seen) > 2 * MAX_TENSORS:
            raise self.error(f"{what}: got more than {2 * MAX_TENSORS} groups and tensors")
        messages = self._messages(at, what)
        parts = {number: place for number, place, _ in messages}
        if _LAYOUT in parts:
            self.datasets[path] = self._dataset(parts, what)
        elif parts.keys() & {_TABLE, _LINKS, _LINK}:
            self._group(messages, path, what, depth)
        else:
            raise self.error(f"{what}: is neither a group nor a dataset")

    # ---- groups

    def _group(self, messages: list[tuple[int, int, int]], path: str, what: str, depth: int) -> None:
        self.texts[path] = {}
        links: dict[bytes, int] = {}
        for number, at, _ in messages:
            if number == _ATTRIBUTE:
                self._attribute(at, what, self.texts[path])
            elif number in (_LINKS, _ATTRIBUTES):
                (flags,) = self.unpack("B", at + 1, what)
                order = (8 if number == _LINKS else 2) * (flags & 1)
                if self.unpack("Q", at + 2 + order, what)[0] != _NOWHERE:
                    raise self.error(f"{what}: is in HDF5's newer form, expected that which Keras writes")
            elif number in (_TABLE, _LINK):
                for name, address in self._table(at, what) if number == _TABLE else [self._link(at, what)]:
                    if name in links:
                        raise self.error(f"{what}: got {shown(ascii(name))} twice, expected once")
                    links[name] = address
        for name in sorted(links):
            own = name.decode("utf-8", "replace")
            place = f"{path}/{own}" if path else own
            if links[name] == _NOWHERE:
                raise self.error(
                    f"{shown(place)}: is a link to another place or file, expected a part of this one"
                )
            self._walk(links[name], place, depth + 1)

    def _link(self, at: int, what: str) -> tuple[bytes, int]:
        """The name and the address of a message of a link."""
        version, flags = self.unpack("BB", at, what)
        if version != 1:
            raise self.error(f"{what}: got a link of version {version}, expected 1")
        at += 2
        hard = not flags & 8 or self.unpack("B", at, what) == (0,)
        at += (flags >> 3 & 1) + 8 * (flags >> 2 & 1) + (flags >> 4 & 1)
        (length,) = self.unpack("BHIQ"[flags & 3], at, what)
        at += 1 << (flags & 3)
        name = self.take(at, min(length, MAX_NAME), what)
        return name, self.unpack("Q", at + length, what)[0] if hard else _NOWHERE

    def _table(self, at: int, what: str) -> Iterator[tuple[bytes, int]]:
        """The names and addresses in a symbol table."""
        tree, heap = self.unpack("QQ", at, what)
        magic, size, _, names = self.unpack("4s4xQQQ", heap, what)
        if magic != b"HEAP" or names + size > len(self.data):
            raise self.error(f"{what}: damaged: its names at {heap} are none")
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            magic, kind, count = self.unpack("4sBxH", node, what)
            if magic == b"TREE" and kind == 0:
                children = self.unpack(f"{2 * count}Q", node + 32, what)[::2] if count else ()
                nodes += children[::-1]
                continue
            if magic != b"SNOD":
                raise self.error(f"{what}: damaged: its table at {node} is none")
            for i in range(count):
                offset, address, cached = self.unpack("QQI", node + 8 + 40 * i, what)
                begin = names + offset
                end = self.data.find(b"\0", begin, min(names + size, begin + MAX_NAME + 1))
                if offset >= size or end < 0:
                    raise self.error(f"{what}: damaged: a name at {begin} has no end")
                yield self.take(begin, end - begin, what), _NOWHERE if cached == 2 else address

    # ---- datasets

    def _dataset(self, parts: dict[int, int], what: str) -> Dataset:
        if _SPACE not in parts or _TYPE not in parts:
            raise self.error(f"{what}: damaged: a dataset without a shape or a type")
        shape = self._shape(parts[_SPACE], what)
        kind = self._kind(parts[_TYPE], what)
        at = parts[_LAYOUT]
        version, layout = self.unpack("BB", at, what)
        if _EXTERNAL in parts or (version == 4 and layout == 3):
            raise self.error(f"{what}: its numbers are in another file, which is never opened")
        if version not in (3, 4) or layout > 1 or _FILTERS in parts:
            raise self.error(f"{what}: is in chunks or compressed, expected one piece, as Keras writes it")
        if layout:
            offset, size = self.unpack("QQ", at + 2, what)
        else:
            offset, size = at + 4, self.unpack("H", at + 2, what)[0]
        return Dataset(kind, shape, 0 if offset == _NOWHERE else offset, size)

    def _shape(self, at: int, what: str) -> tuple[int, ...]:
        version, rank, _, form = self.unpack("4B", at, what)
        if version not in (1, 2) or rank > MAX_DIMS:
            raise self.error(f"{what}: got {rank} dimensions, expected at most {MAX_DIMS}")
        if version == 2 and form == 2:  # nothing
            return (0,)
        return self.unpack(f"{rank}Q", at + (8 if version == 1 else 4), what) if rank else ()

    def _kind(self, at: int, what: str) -> Kind:
        of, bits, signs, _, size = self.unpack("BBBBI", at, what)
        version, of = of >> 4, of & 15
        order = "<>"[bits & 1]
        if of == 0 and size in (1, 2, 4, 8) and self.unpack("HH", at + 8, what) == (0, 8 * size):
            return Kind(f"{order}{'ui'[bits >> 3 & 1]}{size}", size)
        if of == 1 and size in _FLOATS and bits & ~1 == 0x20 and signs == 8 * size - 1:
            exponent, mantissa, bias = _FLOATS[size]
            if self.unpack("HHBBBBI", at + 8, what) == (0, 8 * size, mantissa, exponent, 0, mantissa, bias):
                return Kind(f"{order}f{size}", size)
        if of == 3:
            return Kind("S", size)
        if of == 9 and bits & 15 == 1 and size == 16:
            return Kind("O", size)
        if of == 8 and size == 1 and bits | signs << 8 == 2:  # h5py's bools: an enumeration, of bytes
            names = b"FALSE\0TRUE\0" if version == 3 else b"FALSE\0\0\0TRUE\0\0\0\0"
            base, members = self.unpack("B", at + 8, what)[0], self.take(at + 20, len(names) + 2, what)
            return Kind("?" if base & 15 == 0 and members == names + b"\0\1" else "V", 1)
        return Kind("V" if of in (0, 1, 8) else "", size)

    # ---- attributes

    def _attribute(self, at: int, what: str, found: dict[str, list[str]]) -> None:
        """Add an attribute to a group's, if it is text."""
        version, shared, length, kind_size, space_size = self.unpack("BBHHH", at, what)
        if version not in (1, 2, 3) or (version > 1 and shared & 3):
            raise self.error(f"{what}: got an attribute in another form than Keras writes")
        pad = 7 if version == 1 else 0
        at += 8 + (version == 3)
        name = self.take(at, length, what).partition(b"\0")[0].decode("utf-8", "replace")
        at += length + pad & ~pad
        kind = self._kind(at, what)
        at += kind_size + pad & ~pad
        shape = self._shape(at, what)
        at += space_size + pad & ~pad
        count = math.prod(shape)
        if count == 0:
            found[name] = []
        elif kind.code in ("S", "O"):
            if len(shape) > 1 or count > MAX_TEXTS or count * kind.size > len(self.data):
                raise self.error(f"attribute {shown(name)}: got {count} strings, which are too many")
            values = [
                self.take(at + i * kind.size, kind.size, what)
                if kind.code == "S"
                else self._text(at + 16 * i, f"attribute {shown(name)}")
                for i in range(count)
            ]
            found[name] = [one.partition(b"\0")[0].decode("utf-8", "replace") for one in values]

    def _text(self, at: int, what: str) -> bytes:
        """A string of variable length, which lies in a collection."""
        length, address, index = self.unpack("IQI", at, what)
        if length == 0:
            return b""
        if address not in self._collections:
            self._collections[address] = self._collection(address, what)
        offset, size = self._collections[address].get(index, (0, -1))
        if length > size:
            raise self.error(f"{what}: damaged: a string of {length} bytes at {address} is not there")
        return self.take(offset, length, what)

    def _collection(self, at: int, what: str) -> dict[int, tuple[int, int]]:
        """Place and size of the objects in a collection."""
        magic, version, size = self.unpack("4sB3xQ", at, what)
        end = at + size
        if magic != b"GCOL" or version != 1 or end > len(self.data):
            raise self.error(f"{what}: damaged: the collection at {at} is none")
        found = {}
        at += 16
        while at + 16 <= end:
            index, size = self.unpack("H6xQ", at, what)
            if index == 0:
                break
            if size > end - at - 16:
                raise self.error(f"{what}: damaged: a string at {at} is longer than its collection")
            found[index] = at + 16, size
            at += 16 + (size + 7 & ~7)
        return found
