"""Inputs and outputs of a graph: what their axes are, and what becomes of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinyrnn.graph import Graph as Net
from tinyrnn.importing import Unfit
from tinyrnn.onnx.learned import FEEDBACK, INPUT, START, STATE, Learned, origin_of
from tinyrnn.onnx.model import Graph, Port
from tinyrnn.onnx.nodes import Given, Padded, Unfinished
from tinyrnn.onnx.states import States
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    FRAME,
    ONE,
    OPEN,
    TIME,
    Atom,
    Axis,
    Places,
    Sizes,
    Symbol,
    frame_size,
    framed,
    has,
    reframed,
    short,
)
from tinyrnn.ops import Feedback
from tinyrnn.values import Input, Value, reached, read_by
from tinyrnn.weights.spec import shown

MOST_STATES = 1 << 20  # numbers of an input that may be a state


class Axes:
    """The axes of a graph's inputs; ``seen`` are those that vary, in their order."""

    def __init__(self, learned: Learned) -> None:
        self.learned = learned
        self.seen: list[str] = []

    def that(self, sizes: Sizes) -> str | None:
        """The name of the axis of time, or of an open one, that has these sizes."""
        known = self.learned.time_sizes
        return self.seen[known.index(sizes)] if sizes in known else None

    def of(self, port: Port, place: int) -> Axis:
        """An axis of an input of the graph."""
        assert port.shape is not None
        size, origin = port.shape[place], origin_of(port, place)
        origin = self.learned.same.get(origin, origin)
        size = self.learned.sizes.get(origin, size)
        kind = self.learned.kinds.get(origin, FRAME if isinstance(size, int) else OPEN)
        declared = size if isinstance(size, int) else self.learned.traced.get(origin)
        if kind == ONE:
            return ()
        if kind == FRAME:
            assert declared is not None
            return (Atom(FRAME, (declared, declared), origin),)
        if kind == BATCH:
            return (Atom(BATCH, BATCH_SIZES, origin, declared),)
        if origin not in self.seen:
            self.seen.append(origin)
        sizes = self.learned.time_sizes[self.seen.index(origin) % len(self.learned.time_sizes)]
        return (Atom(kind, sizes, origin, declared),)


class Ports:
    """The inputs and the outputs of one walk through a graph.

    Parameters
    ----------
    graph : Graph
    learned : Learned
    follows : bool
        True if inputs may be states.

    Attributes
    ----------
    has_time : bool
        True if an axis of an input is time. Otherwise the graph describes one step.
    inputs : dict
        The net's own, by name.
    states : States
    """

    def __init__(self, graph: Graph, learned: Learned, follows: bool) -> None:
        self.graph, self.learned, self.follows = graph, learned, follows
        self.has_time = TIME in learned.kinds.values()
        self.inputs: dict[str, Input] = {}
        self.feedbacks: dict[str, Feedback] = {}
        self.times: dict[str | int, str] = {}  # axes of time by the names or sizes that the file gives
        self.values: dict[int, Value] = {}  # that outputs depend on
        self.results: dict[str, Any] = {}  # the outputs of the graph, states among them
        self.axes = Axes(learned)
        self.states = States(graph, learned, self.inputs, self.axes.of, self.has_time)

    def given(self, port: Port) -> Given:
        """An input of the graph."""
        if port.shape is None:
            raise Unfit(f"input {shown(port.name)}: its shape is not told: load(path, shapes={{...}})")
        axes = [self.axes.of(port, i) for i in range(len(port.shape))]
        varying = [i for i, axis in enumerate(axes) if has(axis, BATCH) or has(axis, OPEN)]
        timed = any(has(axis, TIME) for axis in axes)
        if len({axes[i][0].origin for i in varying}) < len(varying):
            raise Unfit(f"input {shown(port.name)}: two of its axes meet in an operation, expected none to")
        count = math.prod(map(frame_size, axes))
        floats = port.dtype.startswith(("float", "bfloat"))
        may = self.follows and floats and len(varying) <= 1 and not timed and axes and count <= MOST_STATES
        mode = self.learned.modes.get(port.name, STATE if may else INPUT)
        if mode == STATE:
            return self.states.of_port(port, list(map(frame_size, axes)), varying)
        sizes = [frame_size(axis) for axis in axes if has(axis, FRAME)]
        frame = framed(axes) if mode == START else short(sizes) if sizes or floats else []
        if mode == FEEDBACK:
            self.feedbacks[port.name] = Feedback(*frame)
            return Symbol(self.feedbacks[port.name], axes)
        one = mode == START or (self.has_time and not timed)
        value = Input(*frame, time=None if one else self.time_of(port, axes), name=port.name)
        self.inputs[port.name] = value
        return Symbol(value, axes)

    def time_of(self, port: Port, axes: Sequence[Axis]) -> str:
        """The axis of time of an input: there are several where the file tells other names or sizes."""
        pairs = zip(port.shape or (), axes, strict=True)
        steps = [(size, axis[0]) for size, axis in pairs if has(axis, TIME)]
        told = [atom.origin if isinstance(size, str) else atom.declared for size, atom in steps]
        if not told or told[0] is None:
            return TIME
        name = f"{told[0]}_steps" if isinstance(told[0], int) else told[0]
        return self.times.setdefault(told[0], name if self.times else TIME)

    def own_steps(self, count: int) -> tuple[Atom, Value]:
        """An axis of time of so many steps, which no input of the graph has, and a value on it."""
        name = f"{count}_steps"
        if name not in self.inputs:
            self.inputs[name] = Input(1, time=name, name=name, steps=count)
        return Atom(TIME, (count, count), None, count), self.inputs[name]

    def wants(self, given: Symbol) -> None:
        """Note which inputs of the graph a node wants as constants."""
        used = read_by([given.value])
        self.learned.wanted.update(name for name, value in self.inputs.items() if id(value) in used)

    def finished(self, results: dict[str, Any], error: Callable[[str], Exception]) -> Net:
        """The net of the graph's outputs; states become its state. ``error`` makes an exception."""
        self.results = results
        left = self.states.returned(results)
        for name, before in self.feedbacks.items():
            partner = self.states.partner(next(port for port in self.graph.inputs if port.name == name))
            given = results[partner or ""]
            value = (self.states.written(given) if isinstance(given, Places) else given).value
            before.connect(reframed(value, before.frame))
            left.pop(partner or "", None)
        outputs: dict[str, Value] = {}
        for name, given in (left or results).items():
            if isinstance(given, Places):
                given = self.states.written(given)
            if not isinstance(given, Symbol):
                raise error(f"output {shown(name)} is constant, expected a value that the net computes")
            if isinstance(given, Padded):
                given = given.whole
            if isinstance(given, Unfinished):
                raise error(f"output {shown(name)} is {given.what}")
            if given.reversed:
                raise error(
                    f"output {shown(name)} has the steps from the last to the first, expected their order: "
                    "export it turned round, and turn what the net writes"
                )
            outputs[name] = given.framed(framed(given.axes))
        self.values = reached(outputs.values())
        used = self.values.keys()
        return Net({name: value for name, value in self.inputs.items() if id(value) in used}, outputs)
