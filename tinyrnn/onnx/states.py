"""States that are inputs of a graph, and the layers that they belong to.

A number of a state is followed by its id, from an input to the node that begins with it, and from a node's
last state to an output: `Places` are ids in the order in which operations have put them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinyrnn.importing import Unfit
from tinyrnn.onnx.cells import Level
from tinyrnn.onnx.learned import COUNTS, FEEDBACK, INPUT, LENGTHS, START, Learned, origin_of
from tinyrnn.onnx.model import Graph, Port
from tinyrnn.onnx.nodes import Carried, Start
from tinyrnn.onnx.symbols import BATCH, OPEN, Axis, Places, Retry, Symbol, has
from tinyrnn.ops import concat
from tinyrnn.temporal import FinalState, LastStep
from tinyrnn.values import Input, Value, applied, read_by
from tinyrnn.weights.spec import Array, shown

MOST_NUMBERS = 3 << 20  # of all inputs that may be states: each has two ids of eight bytes


class States:
    """The states of one walk through a graph.

    Parameters
    ----------
    graph : Graph
    learned : Learned
    inputs : dict
        The net's own inputs, by name, which the walk fills.
    axis : callable
        Gives the axis of an input of the graph, by port and place.
    has_time : bool
        False: the graph describes one step.
    """

    def __init__(
        self,
        graph: Graph,
        learned: Learned,
        inputs: dict[str, Input],
        axis: Callable[[Port, int], Axis],
        has_time: bool,
    ) -> None:
        self.graph, self.learned, self.inputs = graph, learned, inputs
        self.axis, self.has_time = axis, has_time
        self.sources: list[tuple[str, Any, int]] = []  # of ids: what they are of, and how many
        self.bases: list[int] = []
        self.end = 0  # the first id that is free
        self.of_input: dict[str, Array] = {}
        self.finals: dict[tuple[int, str], int] = {}
        self.values: dict[tuple[int, str], Value] = {}
        self.fed: dict[int, int] = {}
        self.batch: Axis = ()  # of the last node that has states

    def of_port(self, port: Port, sizes: Sequence[int], varying: Sequence[int]) -> Places:
        """An input of these sizes whose numbers are a state's; axes that vary may be the batch."""
        count = math.prod(sizes)
        if self.end + count > MOST_NUMBERS:
            raise Unfit(
                f"input {shown(port.name)}: possible states have more than {MOST_NUMBERS} numbers so far: "
                "load(path, states=False) makes them inputs of the net"
            )
        ids = self.source("input", port, count) + np.arange(count)
        ids = ids.reshape([1 if i in varying else size for i, size in enumerate(sizes)])
        for i in varying:
            ids = np.concatenate([ids, ids + Places.ROW], i)
        self.of_input[port.name] = ids
        return Places(ids)

    def source(self, kind: str, of: Any, count: int) -> int:
        """The first id of some numbers."""
        self.sources.append((kind, of, count))
        self.bases.append(self.end)
        self.end += count
        return self.bases[-1]

    def found(self, number: int) -> tuple[int, int]:
        """The source of an id, and the number's place in it."""
        place = int(np.searchsorted(self.bases, number, "right")) - 1
        return place, number - self.bases[place]

    def are_states(self, ids: Array) -> bool:
        return all(self.sources[self.found(int(one))[0]][0] == "input" for one in (ids.min(), ids.max()))

    def find_batch(self, given: Places, axis: int) -> None:
        """Learn which axis of an input the batch is."""
        (place, _) = self.found(int(given.row.min()))
        kind, port, _ = self.sources[place]
        if kind != "input":
            return
        if given.batch is None and given.ids.shape[axis] > 1:
            stride = int(np.diff(given.ids, axis=axis).flat[0])
            own = self.of_input[port.name]
            for i, size in enumerate(own.shape):
                if (
                    size > 1
                    and math.prod(own.shape[i + 1 :]) == stride
                    and own.shape[i] == given.ids.shape[axis]
                ):
                    raise Retry(origin_of(port, i), BATCH)
        for i in range(len(port.shape)):
            if has(self.axis(port, i), OPEN):
                raise Retry(origin_of(port, i), BATCH)
        if given.batch not in (None, axis):
            raise Unfit("an initial state has the batch on another axis than X")

    def written(self, given: Places, starts: bool = False) -> Symbol:
        """States as a value of the net."""
        flat = given.row.reshape(-1)
        parts: list[Value] = []
        at = 0
        while at < len(flat):
            place, first = self.found(int(flat[at]))
            kind, of, count = self.sources[place]
            if kind == "input":
                raise Retry(of.name, START if starts else self.mode_of(of))
            if self.batch and given.batch is None:
                raise Unfit("takes some rows of the batch, which a net keeps apart")
            size = 1
            while at + size < len(flat) and flat[at + size] == flat[at] + size and first + size < count:
                size += 1
            value = self.final_value(of)
            parts.append(value if size == count else value[..., first : first + size])
            at += size
            if len(parts) > 64:
                raise Unfit("takes more than 64 parts of states")
        axes = [self.batch or axis if has(axis, BATCH) else axis for axis in given.axes]
        return Symbol(parts[0] if len(parts) == 1 else concat(parts), axes)

    def final_value(self, of: tuple[Level | Carried, str]) -> Value:
        """A last state as a value; of a graph of one step it is what the step writes."""
        level, state = of
        if isinstance(level, Carried):
            assert level.after is not None
            key = (id(level), state)
            if key not in self.values:
                self.values[key] = applied(LastStep(), (level.after,))
            return self.values[key]
        if state == "h" and not self.has_time:
            return level.value
        key = (id(level), state)
        if key not in self.values:
            self.values[key] = FinalState(state)(level.value)
        return self.values[key]

    def mode_of(self, port: Port) -> str:
        """The mode of an input that is no state of a layer."""
        first = next(one for one in self.graph.inputs if one.name not in self.graph.tensors)
        return FEEDBACK if port != first and not self.has_time and self.partner(port) else INPUT

    def partner(self, port: Port) -> str | None:
        """The output that an input of the next step is, by shape and name, or by a shape of their own."""
        alike = [output.name for output in self.graph.outputs if _alike(output, port)]
        named = next((name for name in alike if _stem(name) == _stem(port.name)), None)
        wide = sum(not isinstance(size, int) or size > 1 for size in port.shape or ())
        alone = wide > 1 and sum(_alike(one, port) for one in self.graph.inputs) == len(alike) == 1
        return alike[0] if named is None and alone and len(self.graph.outputs) > 1 else named

    def takes_lengths(self, given: Symbol) -> bool:
        """Make an input the lengths of a call; False if they are those of some layers alone."""
        modes = self.learned.modes
        name = next((name for name, value in self.inputs.items() if value is given.value), None)
        if name is None or COUNTS in modes.values():
            self.all_count()
            return False
        if any(mode == LENGTHS and other != name for other, mode in modes.items()):
            self.all_count()
        if modes.get(name) != LENGTHS:
            raise Retry(name, LENGTHS)
        return True

    def all_count(self) -> None:
        """Let lengths belong to the layers that read them, and not to the call."""
        for name, mode in self.learned.modes.items():
            if mode == LENGTHS:
                raise Retry(name, COUNTS)

    def starts_with(self, given: Symbol) -> None:
        """Make the inputs that a state begins with one frame for a sequence."""
        used = read_by([given.value])
        for name, value in self.inputs.items():
            alone = value is given.value or (value.time is not None and not self.has_time)
            if id(value) in used and alone and self.learned.modes.get(name) != START:
                raise Retry(name, START)

    def begins(self, level: Level, state: str, start: Start, order: Sequence[int], hidden: int) -> None:
        """Note that a state begins with numbers of inputs."""
        if start.ids is None:
            return
        base = self.final_base(level, state)
        for i, number in enumerate(start.ids):
            target = base + order[i // hidden] * hidden + i % hidden
            self.fed[int(number)] = target if int(number) not in self.fed else -1

    def final_base(self, level: Level, state: str) -> int:
        key = (id(level), state)
        if key not in self.finals:
            self.finals[key] = self.source("final", (level, state), level.value.frame[-1])
        return self.finals[key]

    def final(
        self, level: Level, state: str, order: Sequence[int], hidden: int, layout: int, batch: Axis
    ) -> Places:
        """The last state of a node."""
        self.batch = batch
        rows = np.array([0, Places.ROW] if batch else [0])
        ids = self.final_base(level, state) + np.array([d * hidden for d in order])[:, None, None]
        ids = ids + np.arange(hidden) + rows[:, None]
        return Places(ids.swapaxes(0, 1) if layout else ids)

    def returned(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that are no state.

        Raises
        ------
        Retry
            If an input that a state begins with comes back as no output.
        """
        left = dict(results)
        missing: dict[str, set[int]] = {}
        for name, ids in self.of_input.items():
            flat = ids.reshape(-1)
            if not any(int(one) % Places.ROW in self.fed for one in flat):
                continue  # nothing reads it
            fed = [self.fed.get(int(one) % Places.ROW, -1) for one in flat]
            wanted = (np.array(fed, np.int64) + flat // Places.ROW * Places.ROW).reshape(ids.shape)
            for output, given in left.items():
                if not isinstance(given, Places):
                    continue
                if not self.batch:  # the graph makes it 1, whatever the input says
                    wanted = wanted[tuple(map(slice, given.ids.shape[: wanted.ndim]))]
                if np.array_equal(given.ids, wanted):
                    del left[output]
                    break
            else:
                missing[name] = set(fed)
        for output, given in list(left.items()):  # several side by side in one
            numbers = set(given.row.flat) if isinstance(given, Places) else set()
            inside = [name for name, fed in missing.items() if fed <= numbers]
            if inside[1:] and numbers == set().union(*(missing[name] for name in inside)):
                del left[output]
                for name in inside:
                    del missing[name]
        for name in missing:
            raise Retry(name, START)
        return left


def _alike(output: Port, port: Port) -> bool:
    """True if two ports have the same shape, as far as their sizes are told."""
    if output.shape is None or port.shape is None or len(output.shape) != len(port.shape):
        return False
    sizes = zip(output.shape, port.shape, strict=True)
    return all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sizes)


_ENDINGS = [
    "input",
    "output",
    "next",
    "prev",
    "past",
    "present",
    "new",
    "old",
    "out",
    "in",
    "n",
    "t",
    "0",
    "1",
]


def _stem(name: str) -> str:
    """A state's name without what tells before from after: ``h`` of ``h0``, ``hn``, ``h_in``, ``h_out``."""
    words = [word for word in name.lower().replace(".", "_").replace("-", "_").split("_") if word]
    kept = [word for word in words if word not in _ENDINGS] or words
    last = kept[-1]
    for ending in _ENDINGS:
        if len(last) > len(ending) and last.endswith(ending):
            kept[-1] = last[: -len(ending)]
            break
    return "_".join(kept)
