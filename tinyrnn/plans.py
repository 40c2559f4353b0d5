"""Core layers laid out for calls of one shape, and those that a net keeps from one call to the next."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from tinyrnn import _core
from tinyrnn.arguments import check_size
from tinyrnn.tensors import Frame, Slot

# Rows of work that a call does at once: enough for a matrix product, few enough to stay in cache.
BLOCK_ROWS = 64

# Prepared calls that a net keeps, and the most bytes of one: 2 MB in all.
KEPT_CALLS = 8
KEPT_BYTES = 1 << 18

# Shapes of inputs for which a net keeps its layout.
KEPT_SHAPES = 64

Key = tuple[Any, ...]


def key_of(cores: list[_core.Layer], frame: Frame, batch: int, steps: int, threads: int) -> Key:
    """The key of a call of these sizes."""
    block = min(steps, max(1, BLOCK_ROWS // max(1, batch)))
    return frame, batch, block, len(cores), min(batch, threads)


class Cores(list[_core.Layer]):
    """Core layers and the values that each reads, for a net that is no chain.

    Values are numbered as in the core: first the inputs, then what each core layer writes.

    Attributes
    ----------
    inputs : list of (frame, axis of time)
        Axis 0: one frame for the sequence.
    reads : list of tuple of int
        For each core layer.
    outputs : tuple of int
    value : int
        The value that the next core layer of a chain reads.
    """

    __slots__ = ("inputs", "outputs", "reads", "value")

    def __init__(self, inputs: list[tuple[Frame, int]]) -> None:
        super().__init__()
        self.inputs = inputs
        self.reads: list[tuple[int, ...]] = []
        self.outputs: tuple[int, ...] = ()
        self.value = 0

    def join(self, core: _core.Layer, reads: tuple[int, ...]) -> int:
        """Append a core layer that reads some values, and return the number of the one that it writes."""
        super().append(core)
        self.reads.append(reads)
        self.value = len(self.inputs) + len(self) - 1
        return self.value

    def append(self, core: _core.Layer) -> None:
        """Append a core layer that reads `value`."""
        self.join(core, (self.value,))

    def __iadd__(self, cores: Any) -> Cores:  # type: ignore[misc, override]
        for core in cores:
            self.append(core)
        return self

    def writing(self, outputs: tuple[int, ...]) -> Cores:
        """The same core layers with other outputs."""
        other = Cores(self.inputs)
        for core, reads in zip(self, self.reads, strict=True):
            other.join(core, reads)
        other.outputs = outputs
        return other

    def forget(self, count: int) -> None:
        """Keep the first ``count`` core layers only."""
        del self[count:]
        del self.reads[count:]


class Ports(NamedTuple):
    """A net of several inputs and outputs, laid out. The net keeps it, so nobody changes it.

    Attributes
    ----------
    names, outputs : list of str
        Of the inputs and of the outputs.
    cores : Cores
    out_frames : list of tuple of int
    times : tuple of str
        The names of the axes of time, that of axis 1 first.
    """

    names: list[str]
    outputs: list[str]
    cores: Cores
    out_frames: list[Frame]
    times: tuple[str, ...]


def reads_input(cores: list[_core.Layer]) -> bool:
    """Tell whether the next core layer of a chain reads an input of the net."""
    return cores.value < len(cores.inputs) if isinstance(cores, Cores) else not cores


def laid_out(cores: list[_core.Layer], frame: Frame, batch: int, *steps: int) -> _core.Plan:
    """Lay out core layers for calls of so many steps of each axis of time.

    The first axis is laid out in blocks, unless a layer needs the full sequence.
    """
    block = max(1, BLOCK_ROWS // batch)
    plan = _core.Plan(cores, frame, batch, (min(block, steps[0]), *steps[1:]))
    return _core.Plan(cores, frame, batch, steps) if plan.full_sequence and steps[0] > block else plan


def block_plan(
    cores: list[_core.Layer], frame: Frame, batch: int, steps: int | None, *more: int
) -> _core.Plan:
    """Lay out core layers for a stream, in blocks of so many steps; ``more`` are those of other axes."""
    batch = check_size("batch", batch)
    steps = max(1, BLOCK_ROWS // batch) if steps is None else check_size("steps", steps)
    return _core.Plan(cores, frame, batch, (steps, *more))


class Call:
    """A net laid out for calls of one shape: one thread at a time may run it.

    Parameters
    ----------
    cores : list of Layer
        The core layers that it runs.
    plan : Plan
        The core layers laid out for the whole batch.
    parts : list of Part
        One for each thread.
    slots : dict from name to Slot
        The state.
    """

    __slots__ = ("cores", "nbytes", "parts", "plan", "slots", "state_bytes")

    def __init__(
        self, cores: list[_core.Layer], plan: _core.Plan, parts: list[_core.Part], slots: dict[str, Slot]
    ) -> None:
        self.cores, self.plan, self.parts, self.slots = cores, plan, parts, slots
        self.state_bytes = plan.state_bytes
        self.nbytes = sum(part.nbytes for part in parts)


class InputLayout(NamedTuple):
    """A net laid out for inputs of one shape. The net keeps it, so nobody changes it.

    Attributes
    ----------
    edition : object
        That of the attributes of all nets, at the time.
    lead : int
        The number of axes before the frame.
    cores : list of Layer
    out_frame : tuple of int
    indices : int
        The number of indices that the input may hold, if it is indices; else 0.
    swapped : bool
        True for (B, T, frame).
    steps, batch : int
        Without a recurrent layer all frames are rows of one step.
    starts : bool
        True if a state begins with numbers of the net.
    key : tuple
        Of a call of one thread.
    """

    edition: object
    lead: int
    cores: list[_core.Layer]
    out_frame: Frame
    indices: int
    swapped: bool
    steps: int
    batch: int
    starts: bool
    key: Key


class KeptCalls:
    """The calls that a net keeps, by their sizes, and its layouts for inputs, by their shapes.

    A thread takes a call out and puts it back, so that no two threads share one.
    """

    __slots__ = ("_calls", "_inputs", "ports")

    def __init__(self) -> None:
        self.ports: tuple[object, Ports] | None = None  # of a graph, and the edition that it had
        self._calls: dict[Key, Call] = {}
        self._inputs: dict[tuple[int, ...], InputLayout] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def values(self) -> list[Call]:
        """The calls, the one that was last put back at the end."""
        return list(self._calls.values())

    def input_layout(self, shape: tuple[int, ...], edition: object) -> InputLayout | None:
        """The layout for inputs of this shape; None if an attribute of any net has changed since."""
        known = self._inputs.get(shape)
        return known if known is not None and known.edition is edition else None

    def learn(self, shape: tuple[int, ...], layout: InputLayout) -> None:
        """Keep the layout for inputs of this shape."""
        if len(self._inputs) >= KEPT_SHAPES:
            self._inputs = {}
        self._inputs[shape] = layout

    def take(self, key: Key, cores: list[_core.Layer], steps: int) -> Call | None:
        """Take out the call for ``key``; None if there is none, or the net has other cores by now."""
        call = self._calls.pop(key, None)
        if call is None:
            return None
        if call.cores != cores:  # so have the others
            self._calls.clear()
            return None
        return call if steps <= call.plan.most_steps else None

    def put(self, key: Key, call: Call) -> None:
        """Put back a call that has run to its end."""
        if call.nbytes <= KEPT_BYTES:
            self._calls[key] = call
            if len(self._calls) > KEPT_CALLS:
                with suppress(KeyError, RuntimeError, StopIteration):  # another thread may have taken them
                    del self._calls[next(iter(self._calls))]
