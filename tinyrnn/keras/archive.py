"""Keras' `.keras`: a zip archive of ``config.json``, ``metadata.json`` and ``model.weights.h5``."""

from __future__ import annotations

import numpy as np

from tinyrnn.keras.hdf5 import File, listed
from tinyrnn.keras.model import MAX_CONFIG, parse
from tinyrnn.weights.archive import Member, first_member, member_fill, read_archive
from tinyrnn.weights.spec import MEMORY_FLOOR, Contents, Reader, Source, shown

_CONFIG, _ABOUT, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def matches(head: bytes) -> bool:
    return first_member(head) in (_CONFIG, _ABOUT, _WEIGHTS)


def read(reader: Reader, key: str | None) -> Contents:
    if key is not None:
        raise reader.error(f"key: got {key!r}, expected none: a file of Keras has no parts to choose from")
    members = read_archive(reader)
    for name in (_CONFIG, _WEIGHTS):
        if name not in members:
            raise reader.error(f"got only {shown(str(list(members)))}, expected {name} among them")
    config = parse(_text(reader, members[_CONFIG]), reader.error, _CONFIG)
    about = parse(_text(reader, members[_ABOUT]), reader.error, _ABOUT) if _ABOUT in members else {}
    weights = _bytes(reader, members[_WEIGHTS], MEMORY_FLOOR // 2 + reader.size)
    file = File(weights, lambda text: reader.error(f"{_WEIGHTS}: {text}"))
    found = listed(file, config, about.get("keras_version"), reader.error)
    known = (_CONFIG, _ABOUT, _WEIGHTS)
    others = [(name, "a member of the archive") for name in members if name not in known]
    return found._replace(unread=[*found.unread, *others][:1000])


def _bytes(reader: Reader, member: Member, most: int) -> bytearray:
    if member.size > most:
        raise reader.error(f"{shown(member.name)}: got {member.size} bytes, expected at most {most}")
    data = bytearray(member.size)
    member_fill(reader, member, 0, np.frombuffer(data, np.uint8))
    return data


def _text(reader: Reader, member: Member) -> str:
    try:
        return _bytes(reader, member, MAX_CONFIG).decode()
    except UnicodeDecodeError:
        raise reader.error(f"{shown(member.name)}: got bytes that are no UTF-8") from None


SOURCE = Source("Keras", (".keras",), matches, read, nets="tinyrnn.keras.build")
