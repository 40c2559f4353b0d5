"""Streams, and the state that they carry from one call to the next."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core, starts
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.attributes import Guarded
from tinyrnn.errors import ShapeError
from tinyrnn.tensors import Slot

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinyrnn.contract import Module

_MAGIC = b"TRNNSTA1"


class State(Mapping[str, NDArray[np.float32]]):
    """The state of a stream: plain numbers, and their names.

    ``state["h"]`` is a read-only copy of the hidden state, ``(num_layers * directions, batch, size)`` as
    in PyTorch; ``state["h"] = array`` writes it. In a `Sequential` names carry the layer's:
    ``state["lstm.c"]``. ``stream.state`` is live; ``copy()`` is not.

    Parameters
    ----------
    numbers : ndarray, float32, (n,)
        The numbers themselves, not copied.
    slots : dict from name to Slot
    stream : Stream or GraphStream, optional
        The owner. While another thread uses that stream, reading and writing are errors.
    """

    __slots__ = ("__weakref__", "_numbers", "_slots", "_stream")

    def __init__(
        self, numbers: NDArray[np.float32], slots: dict[str, Slot], stream: StateHolder | None = None
    ) -> None:
        self._numbers = numbers
        self._slots = slots
        self._stream = stream

    @property
    def numbers(self) -> NDArray[np.float32]:
        """All numbers, (n,) float32.

        Raises
        ------
        RuntimeError
            If another thread is using the stream.
        """
        if self._stream is not None:
            self._stream.idle("state")
        return self._numbers

    @classmethod
    def started(
        cls, nbytes: int, slots: dict[str, Slot], start: Mapping[str, Any] | None = None, what: str = "state"
    ) -> State:
        """A new state of so many bytes: what ``start`` names, else zeros; ``what`` is what errors call it."""
        state = cls(_core.aligned_zeros(nbytes), slots)
        if start is not None:
            state.take(start, what)
        return state

    @classmethod
    def begun(
        cls,
        net: Module,
        nbytes: int,
        slots: dict[str, Slot],
        start: Mapping[str, Any] | None = None,
        has_tables: bool = True,
    ) -> State:
        """A new state of so many bytes: what ``start`` names, else the net's initial state.

        A caller who knows that the net keeps no initial state says that it ``has_tables`` not.
        """
        state = cls(_core.aligned_zeros(nbytes), slots)
        if has_tables:
            starts.begin(net, slots.values(), state._numbers)
        if start is not None:
            state.take(start, f"{type(net).__name__}: initial state")
        return state

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        array = self.read(name)
        array.flags.writeable = False  # a copy: writing to it would be lost
        return array

    def take(self, given: Any, what: str) -> None:
        """Take the arrays of a mapping; ``what`` begins the messages.

        Raises
        ------
        TypeError, KeyError, ShapeError
            If it is no mapping, or a name or a shape does not fit.
        """
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} is {type(given).__name__}, expected a mapping from name to array")
        for name, value in given.items():
            if name not in self._slots:
                names = ", ".join(self._slots) or "no state"
                raise KeyError(
                    f"{what}: got {name!r}, expected one of {names}{self._handing('state', given)}"
                )
            try:
                self[name] = value
            except (ShapeError, TypeError) as error:
                raise type(error)(f"{what}: {error}") from None

    def read(self, name: str) -> NDArray[np.float32]:
        """Return ``state[name]`` as a writable copy."""
        if name not in self._slots:
            raise KeyError(f"state: got {name!r}, expected one of {', '.join(self._slots) or 'no state'}")
        slot = self._slots[name]
        self._begin()
        try:
            return _core.gathered(self._numbers, slot.shape, slot.parts)
        finally:
            self._end()

    def _begin(self) -> None:
        """Keep other threads from the stream until `_end`; RuntimeError if one is using it."""
        if self._stream is not None:
            self._stream.take("state")

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.leave()

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        slot = self._slots[name]
        array = as_floats(value, name)
        if array.shape != slot.shape:
            raise ShapeError(f"{name}: got shape {array.shape}, expected {slot.shape}")
        if not slot.shape[1]:
            return
        self._begin()
        try:
            rows = self._numbers.reshape(slot.shape[1], -1)
            for (at, count), level in zip(slot.parts, array, strict=True):
                rows[:, at : at + count] = level
            rows[:, list(slot.marks)] = 1  # it goes on from these numbers
        finally:
            self._end()

    def __repr__(self) -> str:
        return f"State({', '.join(f'{name} of {owner}: {shape}' for name, owner, shape in self.layout())})"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._slots)

    def copy(self) -> State:
        """Return a copy of the state."""
        self._begin()
        try:
            return State(self._numbers.copy(), self._slots)
        finally:
            self._end()

    def layout(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Names, layers and shapes, which must be equal in states that are exchanged."""
        return tuple(slot[:3] for slot in self._slots.values())

    def tobytes(self) -> bytes:
        """Return the state as bytes for a file or a socket, the same on every machine.

        A header tells the layout, so that the bytes of another net are refused.
        """
        body = self.copy().numbers.astype("<f4").tobytes()
        return _MAGIC + struct.pack("<II", self._check(), zlib.crc32(body)) + body

    def assign(self, value: Any) -> None:
        """Take the numbers of another `State`, of `tobytes`, or of a mapping from name to array.

        Raises
        ------
        ShapeError
            If it is the state of another net or another batch.
        ValueError
            If the bytes are damaged.
        TypeError
            If it is none of these. The state is as before.
        """
        if isinstance(value, State):
            if value.layout() != self.layout():
                raise ShapeError(
                    f"state: got that of another net or batch, {value!r}, expected {self!r}"
                    f"{self._handing('stream.state', value)}"
                )
            new = value.copy()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            new = State(self._parse(bytes(value)), self._slots)
        elif isinstance(value, Mapping):
            if value.keys() != self._slots.keys():
                raise ShapeError(f"state: has {sorted(value)}, expected {sorted(self._slots)}")
            new = self.copy()
            for name in value:
                new[name] = value[name]
        else:
            raise TypeError(f"state: got {type(value).__name__}, expected a State, its bytes, or a mapping")
        self._begin()
        self._numbers[:] = new._numbers
        self._end()

    def _handing(self, target: str, other: Mapping[str, Any]) -> str:
        """Advice for a message about another state's tensors; empty if they do not fit."""
        if not isinstance(other, State):
            return ""
        left = dict(other._slots)
        pairs = []
        for name, slot in self._slots.items():
            fits = [key for key, theirs in left.items() if _alike(slot, theirs)]
            if fits:
                pairs.append(f"{name!r}: other[{fits[0]!r}]")
                del left[fits[0]]
        if not pairs:
            return ""
        if target == "stream.state" and len(pairs) < len(self._slots):
            pairs.insert(0, "**stream.state")
        return f"; to take over what fits, name it: {target} = {{{', '.join(pairs)}}}"

    def _check(self) -> int:
        return zlib.crc32(repr(self.layout()).encode())

    def _parse(self, data: bytes) -> NDArray[np.float32]:
        head = len(_MAGIC) + 8
        if data[: len(_MAGIC)] != _MAGIC or len(data) < head:
            raise ValueError("state: got other bytes, expected those of State.tobytes()")
        layout, crc = struct.unpack("<II", data[len(_MAGIC) : head])
        if layout != self._check():
            raise ShapeError(f"state: got bytes of another net or batch, expected {self!r}")
        if len(data) != head + self._numbers.nbytes or crc != zlib.crc32(data[head:]):
            raise ValueError("state: got damaged or truncated bytes, expected those of State.tobytes()")
        return np.frombuffer(data, dtype="<f4", offset=head).astype(np.float32)


def _alike(one: Slot, other: Slot) -> bool:
    """Tell whether two tensors are the same part, ``h`` or ``c``, of one kind of layer, and of one shape."""
    (part, kind), (other_part, other_kind) = (
        (slot.name.rpartition(".")[2], slot.owner.partition(" ")[0]) for slot in (one, other)
    )
    return part == other_part and kind == other_kind and one.shape == other.shape


def _chosen(rows: Any, batch: int) -> NDArray[np.intp]:
    """The numbers of the rows that an int, a sequence of ints, a slice or a mask chooses."""
    if isinstance(rows, slice):
        return np.arange(batch)[rows]
    array = as_array(rows, "reset: rows")
    if array.dtype == np.bool_:
        if array.shape != (batch,):
            raise ShapeError(f"reset: rows is a mask of shape {array.shape}, expected ({batch},)")
        return np.flatnonzero(array)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, np.intp)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(
            f"reset: rows is {array.dtype} of shape {array.shape}, expected an int, a sequence of ints, a "
            "slice or a mask"
        )
    chosen = array.reshape(-1)
    wrong = (chosen < -batch) | (chosen >= batch)
    if wrong.any():
        raise IndexError(f"reset: row {chosen[wrong][0]} is out of range, expected 0 .. {batch - 1}")
    chosen = np.where(chosen < 0, chosen + batch, chosen).astype(np.intp)
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"reset: got rows {chosen.tolist()}, expected each row once")
    return chosen


# What the core and nets of streams call, and a shell does not complete.
_INNER = {"begin", "fresh", "free", "idle", "leave", "made_of", "raw_state", "renew", "take"}


class StateHolder(Guarded, _core.Used):
    """The base of streams: the state by name, new beginnings, and copies."""

    _slots: dict[str, Slot]
    net: Module
    if TYPE_CHECKING:  # of the core, or a stream's own
        raw_state: NDArray[np.float32]
        batch: int

    def fresh(self) -> Self:
        """Return a second stream of the same net and batch, with a new state."""
        raise NotImplementedError(type(self).__name__)

    @property
    def state(self) -> State:
        """The live `State`; assign a State, its bytes or a mapping to set it."""
        return State(self.raw_state, self._slots, self)

    @state.setter
    def state(self, value: Any) -> None:
        self.free("state")
        new = State(self.raw_state.copy(), self._slots)
        new.assign(value)
        self.renew("state")
        self.raw_state[:] = new.numbers
        self.leave()

    def reset(
        self,
        rows: int | Sequence[int] | NDArray[Any] | slice | None = None,
        state: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Begin again, in all rows or in some: their state is that of a new stream, or one that is given.

        The other rows keep their bits. Nothing changes until all arguments are checked.

        Parameters
        ----------
        rows : int, sequence of int, slice or mask, optional
            The rows that begin again, all by default; negative numbers count from the end. A mask is a bool
            array, (batch,).
        state : mapping from name to array, optional
            The state to begin with, by the names of `State`: ``(num_layers * directions, rows, size)``, where
            the rows are those of ``rows`` in their order. What it leaves out is as in a new stream.

        Raises
        ------
        IndexError, TypeError, ValueError
            If ``rows`` are not rows of the stream, or one of them comes twice.
        KeyError, ShapeError
            If a name or a shape in ``state`` does not fit.
        RuntimeError
            If another thread is using the stream, or a fork left half a step in the rows that stay.
        """
        index = slice(None) if rows is None else _chosen(rows, self.batch)
        count = self.batch if isinstance(index, slice) else len(index)
        arrays = {} if state is None else self._checked(state, count)
        mark = 0
        if rows is None:
            mark = self.renew("reset")
        else:
            self.take("reset")
        try:
            self.begin(index)
            mark = 0
            numbers = self.raw_state.reshape(self.batch, -1)
            for slot, array in arrays.values():
                for (at, size), level in zip(slot.parts, array, strict=True):
                    numbers[index, at : at + size] = level
        finally:
            self.leave(mark)

    def begin(self, row: int | slice | NDArray[np.intp]) -> None:
        """Set rows to the state of a new stream, whoever uses the stream."""
        numbers = self.raw_state.reshape(self.batch, -1)
        first = starts.first_row(self.net, self._slots.values(), numbers.shape[1])
        numbers[row] = 0 if first is None else first

    def _checked(self, state: Any, count: int) -> dict[str, tuple[Slot, NDArray[np.float32]]]:
        """Check a state of ``count`` rows; returns each of its arrays with its slot."""
        if not isinstance(state, Mapping):
            raise TypeError(f"reset: state is {type(state).__name__}, expected a mapping from name to array")
        owners = {name: owner for name, owner, _ in state.layout()} if isinstance(state, State) else {}
        found = {}
        for name, value in state.items():
            slot = self._slots.get(name)
            if slot is None:
                names = ", ".join(self._slots) or "no state"
                raise KeyError(f"reset: state: got {name!r}, expected one of {names}")
            if owners.get(name, slot.owner) != slot.owner:
                raise ShapeError(
                    f"reset: state: got {name} of another net, of {owners[name]}, expected {slot.owner}"
                )
            array = as_floats(value, f"reset: {name}")
            shape = (slot.shape[0], count, slot.shape[2])
            if array.shape != shape:
                raise ShapeError(f"reset: {name}: got shape {array.shape}, expected {shape}")
            if np.may_share_memory(array, self.raw_state):
                array = array.copy()
            found[name] = slot, array
        return found

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self) if name not in _INNER]

    def copy(self) -> Self:
        """Return a second stream of the same net, with a copy of the state."""
        fork = self.fresh()
        fork.raw_state[:] = self.state.copy().numbers
        return fork

    __copy__ = copy

    def __reduce__(self) -> Any:
        raise TypeError(
            "a stream cannot be pickled: keep net.save() and stream.state.tobytes(), or use copy()"
        )


class Stream(StateHolder, _core.Stream):
    """A net with a state of its own, fed step by step or chunk by chunk. Made by ``net.stream()``.

    ``step(x, out=None)`` takes one frame, ``(batch, frame)``; ``run(x, out=None)`` a chunk of any length,
    ``(T, batch, frame)``, or ``(batch, T, frame)`` if the net has ``batch_first``. Both update the state.
    One thread at a time may use a stream; different streams of one net run in parallel.
    """

    _made_by = "_slots"

    def __init__(self, *made_of: Any) -> None:  # the core has checked and taken all arguments by now
        self._slots = self.made_of[-1]
        starts.begin(self.net, self._slots.values(), self.raw_state)

    def __repr__(self) -> str:
        _, _, frame, out_frame, _, parts, rows_first, nonfinite, _ = self.made_of
        net = repr(self.net).replace("\n", "\n  ")
        state = ", ".join(f"{slot.name} {slot.shape}" for slot in self._slots.values()) or "none"
        return (
            f"Stream(\n  net: {net}\n  state: {state}\n  batch={self.batch}, frame={frame}, "
            f"out_frame={out_frame}, threads={1 if parts is None else len(parts)}, "
            f"batch_first={rows_first}, nonfinite={nonfinite!r}\n)"
        )

    def fresh(self) -> Self:
        """Return a second stream of the same net and batch, with a new state."""
        return type(self)(*self.made_of)
