"""The moments that an optimiser keeps of each tensor, with the layout of the weights."""

from __future__ import annotations

from tinyrnn import _core
from tinyrnn.optim.groups import Entry, Groups
from tinyrnn.tensors import Array


class Moments:
    """Buffers, each for the i-th state of all of a core layer's tensors."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._buffers: dict[tuple[int, int], Array] = {}

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def start(self, entry: Entry) -> float:
        """The number that a tensor's state begins with."""
        value: float = self._groups.dicts[entry.group].get("initial_accumulator_value", 0.0)
        return value

    def known(self, entry: Entry, i: int) -> Array | None:
        """The buffer of a tensor's i-th state; None if it was not needed yet."""
        return self._buffers.get((id(entry.tensor.core), i))

    def needed(self, entry: Entry, i: int) -> Array:
        """Return the buffer of a tensor's i-th state, and make it if there is none."""
        core = entry.tensor.core
        if (id(core), i) not in self._buffers:
            buffer = _core.aligned_zeros(core.nbytes)
            for other in self._groups.entries:
                if other.tensor.core is core:
                    first, numbers = core.extent(other.tensor.param)
                    buffer[first : first + numbers] = self.start(other)
            self._buffers[id(core), i] = buffer
        return self._buffers[id(core), i]

    def clear(self) -> None:
        """Remove all buffers."""
        self._buffers.clear()
