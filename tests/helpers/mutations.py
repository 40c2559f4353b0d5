"""Files after an accident or an attack."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import zipfile
from functools import cache
from typing import Any

import weight_files as wf


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The same file after an accident or an attack."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(7):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.randrange(1, 40)]
            case 4:
                size = rng.choice((1, 2, 4, 8))
                out[at : at + size] = rng.choice((b"\xff", b"\0", b"\x7f", b"9")) * size
            case 5:
                other = rng.choice(others)
                start = rng.randrange(max(len(other), 1))
                out[at : at + rng.randrange(40)] = other[start : start + rng.randrange(40)]
            case 6:
                out[at:at] = out[rng.randrange(len(out) + 1) :][: rng.randrange(60)]
    return bytes(out)


# ---- changes that leave the shell sound, and so reach what lies within

HUGE = (0, 1, 2, 7, 255, 1 << 16, 1 << 28, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 63)


def in_archive(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A zip archive with sound checksums, of which some members were changed, lost, renamed or exchanged."""
    members = _members(data)
    if not members or rng.random() < 0.1:
        return mutated(rng, data, others)
    for _ in range(rng.choice((1, 1, 2))):
        at, other = rng.randrange(len(members)), rng.randrange(len(members))
        name, content, method = members[at]
        match rng.randrange(12):
            case 0 if len(members) > 1:
                del members[at]
            case 1:
                members.insert(other, members[at])
            case 2:
                new = mutated(rng, name.encode(), [one[0].encode() for one in members])
                members[at] = new.decode("utf-8", "replace"), content, method
            case 3:
                members[at] = name, members[other][1], method
            case 4:
                members[at] = name, content, 8 - method
            case _:
                change = (
                    in_json if content[:1] == b"{" else in_words if content[:4] == b"\x89HDF" else mutated
                )
                members[at] = name, change(rng, content, [one[1] or b"0" for one in members]), method
    return wf.zipped(*(wf.Member(name, content, method) for name, content, method in members))


@cache
def _listed(data: bytes) -> tuple[tuple[str, bytes, int], ...]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return tuple((one.filename, archive.read(one), one.compress_type) for one in archive.infolist())
    except zipfile.BadZipFile:
        return ()


def _members(data: bytes) -> list[tuple[str, bytes, int]]:
    """Names, contents and methods of the members of an archive."""
    return list(_listed(data))


def in_words(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Another binary file: numbers of 2, 4 or 8 bytes became others, mostly where there were some."""
    if rng.random() < 0.2:
        return mutated(rng, data, others)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        size = rng.choice((1, 2, 4, 8, 8))
        for _ in range(8):
            at = size * rng.randrange(len(out) // size)
            if any(out[at : at + size]):
                break
        old = int.from_bytes(out[at : at + size], "little")
        another = 8 * rng.randrange(len(out) // 8)
        new = (
            rng.choice(HUGE),
            old + rng.choice((-8, -1, 1, 8)),
            len(out) + rng.choice((-8, 0, 8)),
            another,
            int.from_bytes(out[another : another + size], "little"),
            -1,
        )
        out[at : at + size] = (rng.choice(new) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(out)


_PARTS = (
    b"self input torch.zeros torch.mul torch.cat torch.append while for if 999999999 -1 None [] = :".split()
)


def in_code(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Other code: words and lines became others, were moved, lost or repeated, or nest."""
    if rng.random() < 0.1:
        return mutated(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = data.split(b"\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        words = re.split(rb"(\W+)", lines[at])
        place = rng.randrange(len(words))
        match rng.randrange(7):
            case 0:
                del lines[at : at + rng.choice((1, 1, 5))]
            case 1:
                lines[at:at] = lines[other : other + rng.choice((1, 1, 5))]
            case 2:
                lines[at] = lines[other]
            case 3:
                words[place] = rng.choice(
                    (*_PARTS, *re.split(rb"(\W+)", lines[other]), b"%d" % rng.choice(HUGE))
                )
                lines[at] = b"".join(words)
            case 4:
                words[place] = words[place] * rng.choice((2, 3, 300))
                lines[at] = b"".join(words)
            case 5:
                lines[at] = re.sub(
                    rb"\S.*", rng.choice((b"while True:", b"pass", b"a = torch.mul(a, a)")), lines[at]
                )
            case 6:
                words[place] = b"(" * (deep := rng.choice((1, 9, 99, 5000))) + words[place] + b")" * deep
                lines[at] = b"".join(words)
        data = b"\n".join(lines)
    return data


_VALUES = (None, True, -1, 0, 1, 0.5, -1e308, 1e308, 2**31, 2**62, 10**30, "", "a", "x" * 300, [], {}, [[]])


def in_json(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Sound JSON, of which values were replaced, moved, lost or renamed."""
    try:
        whole = [json.loads(data)]
    except ValueError:  # changed before
        whole = []
    if not whole or rng.random() < 0.2:
        return mutated(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = _places(whole)
        if not places:
            break
        holder, key = rng.choice(places)
        _, old = rng.choice(places)
        other, taken = rng.choice(places)
        match rng.randrange(7):
            case 0:
                holder[key] = copy.deepcopy(rng.choice(_VALUES))
            case 1:
                holder[key] = copy.deepcopy(other[taken])
            case 2 if holder is not whole:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[str(old)] = holder.pop(key)
            case 4 if isinstance(holder, list) and holder is not whole:
                holder.insert(key, copy.deepcopy(other[taken]))
            case 5:
                for _ in range(rng.choice((1, 2, 40))):
                    holder[key] = [holder[key]] if rng.random() < 0.5 else {str(old): holder[key]}
            case 6 if isinstance(holder[key], (int, float)):
                holder[key] = rng.choice((-1, 1, holder[key] + 1, -holder[key], 2 * holder[key], HUGE[-5]))
    return json.dumps(whole[0]).encode()


def _places(whole: Any) -> list[tuple[Any, Any]]:
    """All containers and keys of a value of JSON."""
    found, left = [], [whole]
    while left:
        holder = left.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                left.append(holder[key])
    return found


# A message of the wire format: its kind, and its fields as [number, wire type, number, bytes or message].
_Message = tuple[str, list[list[Any]]]


def in_graph(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A sound ONNX file on the wire, of which fields were exchanged, moved, doubled, lost or made absurd."""
    from tinyrnn.onnx.operators import OPERATORS

    if rng.random() < 0.1:
        return mutated(rng, data, others)
    whole = _message(data, "Model")
    lenders = [_message(rng.choice(others), "Model"), whole]
    for _ in range(rng.choice((1, 1, 2, 4))):
        all_fields = [(kind, fields, i) for kind, fields in _messages(whole) for i in range(len(fields))]
        if not all_fields:
            break
        kind, fields, at = rng.choice(all_fields)
        number, _, content = fields[at]
        lent = [
            field
            for of, found in _messages(rng.choice(lenders))
            for field in found
            if of == kind and field[0] == number
        ]
        match rng.randrange(8):
            case 0:
                del fields[at]
            case 1:
                fields.insert(rng.randrange(len(fields) + 1), copy.deepcopy(fields[at]))
            case 2:
                other = rng.randrange(len(fields))
                fields[at], fields[other] = fields[other], fields[at]
            case 3 if lent:
                fields.insert(rng.randrange(len(fields) + 1), copy.deepcopy(rng.choice(lent)))
            case 4 if kind == "Node":
                fields.append([4, 2, rng.choice(list(OPERATORS)).encode()])
            case 5 if isinstance(content, bytes):
                fields[at][2] = mutated(rng, content, [content or b"0"])
            case _ if isinstance(content, int):
                fields[at][2] = rng.choice((*HUGE, content + 1, -1, -2, -(1 << 62))) % (1 << 64)
            case _ if lent:
                fields[at] = copy.deepcopy(rng.choice(lent))
    return _written(whole)


def _messages(message: _Message) -> list[_Message]:
    """A message and all within it."""
    found = [message]
    for one in found:  # it grows
        found += [content for _, _, content in one[1] if isinstance(content, tuple)]
    return found


def _message(data: bytes, kind: str) -> _Message:
    from tinyrnn.onnx.wire import MESSAGES

    fields, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        content: Any
        if wire == 0:
            content, at = _varint(data, at)
        else:
            size, at = (8 if wire == 1 else 4, at) if wire != 2 else _varint(data, at)
            content, at = data[at : at + size], at + size
            of = MESSAGES[kind].get(number, ("", "", False))[1]
            content = _message(content, of) if of in MESSAGES else content
        fields.append([number, wire, content])
    return kind, fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] > 0x7F:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1


def _of_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _written(message: _Message) -> bytes:
    out = bytearray()
    for number, wire, content in message[1]:
        content = _written(content) if isinstance(content, tuple) else content
        out += _of_varint(number << 3 | wire)
        if wire == 0:
            out += _of_varint(content)
        else:
            out += (_of_varint(len(content)) if wire == 2 else b"") + content
    return bytes(out)
