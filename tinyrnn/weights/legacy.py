"""PyTorch's files from before 1.6, which `torch.save` still writes on request.

Five pickles stand one after the other: a magic number, the version of the protocol, facts of the machine,
the object, and the list of its storages' keys. Then each storage follows in that order: its number of
elements (64 bits, little-endian) and the numbers, always little-endian. The size of an element is known from
the object's pickle alone.
"""

from __future__ import annotations

import struct

from tinyrnn.weights.pickles import Pickle, Storage
from tinyrnn.weights.spec import MAX_TENSORS, Array, Reader, shown
from tinyrnn.weights.storages import Storages

PROTOCOL = 1001
_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # LONG1 and STOP, behind the pickle's protocol


def matches(head: bytes) -> bool:
    framed = 9 * (head[2:3] == b"\x95")  # from protocol 4 on
    return head[:1] == b"\x80" and head.startswith(_MAGIC, 2 + framed)


class Legacy(Storages):
    """A file from before 1.6.

    Attributes
    ----------
    thing : object
        The object in it.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._at = 0
        self._spans: dict[str, tuple[int, int]] = {}  # where a storage begins, and its bytes
        self._run("the magic number")
        version, _ = self._run("the protocol's version")
        if version != PROTOCOL:
            raise reader.error(f"the protocol's version: got another than {PROTOCOL}")
        self._run("the machine's facts")
        self.thing, storages = self._run("the object's pickle")
        keys, _ = self._run("the storages' keys")
        if type(keys) is not list or len(keys) > MAX_TENSORS:
            raise reader.error(f"the storages' keys: expected a list of at most {MAX_TENSORS}")
        for key in keys:
            if type(key) is not str or key not in storages or key in self._spans:
                raise reader.error("the storages' keys: expected texts that the object mentions, each once")
            label = f"storage {shown(key)}"
            (count,) = struct.unpack("<q", reader.read(self._at, 8, label))
            if count != storages[key].whole:
                raise reader.error(
                    f"{label}: got {count} numbers, expected {shown(str(storages[key].whole))} by the pickle"
                )
            self._spans[key] = self._at + 8, count * storages[key].unit
            self._at += 8 + self._spans[key][1]
            if self._at > reader.size:
                raise reader.error(f"{label} ends at byte {self._at}, but the file has {reader.size}")
        if self._at != reader.size:
            raise reader.error(f"{reader.size - self._at} bytes are left over after the last storage")

    def _run(self, what: str) -> tuple[object, dict[str, Storage]]:
        """The object of the pickle that begins here, and the storages that it mentions."""
        begin = self._at
        reached = begin

        def more(count: int) -> bytes:
            nonlocal reached
            block = self.reader.read(reached, min(count, self.reader.size - reached), what)
            reached += len(block)
            return block

        pickle = Pickle(self.reader, what, b"", more)
        thing = pickle.run()
        self._at = begin + pickle.reached
        return thing, pickle.storages

    def size(self, key: str, label: str) -> int:
        if key not in self._spans:
            raise self.reader.error(f"{label}: storage {shown(key)} is missing from the file")
        return self._spans[key][1]

    def fill(self, key: str, array: Array, label: str) -> None:
        self.reader.fill(self._spans[key][0], array, label)
