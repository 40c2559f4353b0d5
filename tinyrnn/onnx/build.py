"""Nets of ONNX files: a graph is walked once for each thing that it tells of its inputs, and then built.

Each of ONNX's names stands for an array that is known, for a value of a layer, or for places of states
(`symbols`). A node whose inputs are known is folded (`folding`), one that only moves states moves their
places, and any other becomes layers (`operators`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.onnx.cells import CELLS, Direction, Level, layer_of, silent
from tinyrnn.onnx.folding import FOLDS, MOVES
from tinyrnn.onnx.model import Graph, Model, Node, Port
from tinyrnn.onnx.nodes import Call, Given, Start, Unfinished
from tinyrnn.onnx.operators import OPERATORS
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    FRAME,
    ONE,
    OPEN,
    TIME,
    TIME_SIZES,
    Atom,
    Axis,
    Known,
    Places,
    Retry,
    Symbol,
    Unfit,
    constant,
    frame_size,
    has,
    reframed,
)
from tinyrnn.ops import Feedback, concat
from tinyrnn.temporal import FinalState
from tinyrnn.values import Input, Value
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import MEMORY_FLOOR, Array, shown

MOST_PASSES = 500
MOST_CALLS = 20_000
MOST_READERS = 16  # nodes that read one value, among which directions are sought
MOST_AXES = 8  # that are tried as time
MOST_STATES = 1 << 20  # numbers of an input that may be a state

# An input of the graph becomes an input of the net, values that a state begins with, the state of a layer, a
# state of the net, or the lengths of a call.
INPUT, START, STATE, FEEDBACK, LENGTHS = "input", "start", "state", "feedback", "lengths"

# Arithmetic with these numbers changes nothing.
NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}

# What a layer or NumPy raises where a file asks for something that cannot be.
_WRONG = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError)


class Plan:
    """The things learned of a graph: kinds and sizes of axes, what inputs become, and pairs of nodes."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.modes: dict[str, str] = {}
        self.pairs: dict[str, tuple[str, Direction, Direction]] = {}
        self.calls = 0  # operations that became layers, in all passes
        self.lacks_time = False  # a recurrent node reads columns of a frame as time

    def learn(self, found: Retry) -> None:
        """Note one more thing.

        Raises
        ------
        Unfit
            If it contradicts what is known.
        """
        key, value = found.key, found.value
        if key.startswith("="):
            self.sizes[key[1:]] = value
            return
        if value not in (TIME, BATCH, OPEN, ONE):
            if self.modes.get(key) == value:
                raise Unfit(f"input {shown(key)} cannot be {value}")
            self.modes[key] = value
            return
        known = self.kinds.get(key)
        if known in (TIME, BATCH, ONE) or known == value:
            raise Unfit(f"the axis {shown(key)} is used as {known} and as {value}, expected one of them")
        self.kinds[key] = value


class _Record(NamedTuple):
    """A node of one direction that was built: two of them may be one layer."""

    key: str
    op: str
    value: Value
    backwards: bool
    own: Direction
    plain: bool


class _Failed(NamedTuple):
    """The outputs of a node that is no part of a net."""

    error: LoadError


def origin_of(port: Port, axis: int) -> str:
    """The name of an input's axis."""
    assert port.shape is not None
    size = port.shape[axis]
    return size if isinstance(size, str) else f"{port.name}[{axis}]"


def short(sizes: list[int]) -> list[int]:
    """The sizes of a frame of at most three axes."""
    return sizes if len(sizes) <= 3 else [*sizes[:2], math.prod(sizes[2:])]


class Builder:
    """One walk through a model.

    Attributes
    ----------
    has_time : bool
        True if an axis of an input is time. Otherwise the graph describes one step.
    slack : list of int
        Numbers at the end of frames that the windows of convolutions do not reach.
    """

    def __init__(
        self, model: Model, file: WeightsFile, plan: Plan, bound: Mapping[str, Array], states: bool
    ) -> None:
        self.model, self.file, self.plan, self.bound, self.states = model, file, plan, bound, states
        self.opset = model.opsets[""]
        self.has_time = TIME in plan.kinds.values()
        self.budget = MEMORY_FLOOR + 2 * file.info.bytes
        self.inputs: dict[str, Input] = {}
        self.feedbacks: dict[str, Feedback] = {}
        self.sources: list[tuple[str, Any, int]] = []  # of ids: what they are of, and how many
        self.bases: list[int] = []
        self.of_input: dict[str, Array] = {}
        self.finals: dict[tuple[int, str], int] = {}
        self.values: dict[tuple[int, str], Value] = {}
        self.fed: dict[int, int] = {}
        self.levels: dict[str, Level] = {}
        self.records: list[_Record] = []
        self.slack: list[int] = []
        self.seen: list[str] = []  # the axes that vary, in their order

    def error(self, text: str) -> LoadError:
        return self.file.error(text)

    def room(self, count: int) -> None:
        """Take memory for an array of known numbers."""
        self.budget -= 8 * count
        if self.budget < 0:
            raise Unfit("the constants of the graph need more memory than a file of its size may take")

    # ---- inputs ----------------------------------------------------------------------------------------

    def axis(self, port: Port, place: int) -> Axis:
        """An axis of an input of the graph."""
        assert port.shape is not None
        size, origin = port.shape[place], origin_of(port, place)
        size = self.plan.sizes.get(origin, size)
        kind = self.plan.kinds.get(origin, FRAME if isinstance(size, int) else OPEN)
        declared = size if isinstance(size, int) else None
        if kind == ONE:
            return ()
        if kind == FRAME:
            assert declared is not None
            return (Atom(FRAME, (declared, declared), origin),)
        if kind == BATCH:
            return (Atom(BATCH, BATCH_SIZES, origin, declared),)
        if origin not in self.seen:
            self.seen.append(origin)
        sizes = TIME_SIZES[self.seen.index(origin) % len(TIME_SIZES)]
        return (Atom(kind, sizes, origin, declared),)

    def port(self, port: Port) -> Given:
        """An input of the graph."""
        if port.shape is None:
            raise self.error(f"input {shown(port.name)}: its shape is not told: load(path, shapes={{...}})")
        axes = [self.axis(port, i) for i in range(len(port.shape))]
        varying = [i for i, axis in enumerate(axes) if has(axis, BATCH) or has(axis, OPEN)]
        timed = any(has(axis, TIME) for axis in axes)
        count = math.prod(map(frame_size, axes))
        floats = port.dtype.startswith(("float", "bfloat"))
        may = self.states and floats and len(varying) <= 1 and not timed and axes and count <= MOST_STATES
        mode = self.plan.modes.get(port.name, STATE if may else INPUT)
        if mode == STATE:
            ids = self.source("input", port, count) + np.arange(count)
            ids = ids.reshape([1 if i in varying else frame_size(axis) for i, axis in enumerate(axes)])
            for i in varying:
                ids = np.concatenate([ids, ids + Places.ROW], i)
            self.of_input[port.name] = ids
            return Places(ids)
        sizes = [frame_size(axis) for axis in axes if has(axis, FRAME)]
        if len(sizes) > 3 or mode == START:
            sizes = [size for size in sizes if size > 1]
        frame = short(sizes) or ([1] if floats else [])
        if mode == FEEDBACK:
            self.feedbacks[port.name] = Feedback(*frame)
            return Symbol(self.feedbacks[port.name], axes)
        one = mode == START or (self.has_time and not timed)
        value = Input(*frame, time=None if one else TIME, name=port.name)
        self.inputs[port.name] = value
        return Symbol(value, axes)

    # ---- states ----------------------------------------------------------------------------------------

    def source(self, kind: str, of: Any, count: int) -> int:
        """The first id of some numbers."""
        base = (self.bases[-1] + self.sources[-1][2]) if self.bases else 0
        self.sources.append((kind, of, count))
        self.bases.append(base)
        return base

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
            size = 1
            while at + size < len(flat) and flat[at + size] == flat[at] + size and first + size < count:
                size += 1
            value = self.final_value(of)
            parts.append(value if size == count else value[..., first : first + size])
            at += size
            if len(parts) > 64:
                raise Unfit("takes more than 64 parts of states")
        return Symbol(parts[0] if len(parts) == 1 else concat(parts), given.axes)

    def final_value(self, of: tuple[Level, str]) -> Value:
        """A last state as a value; of a graph of one step it is what the step writes."""
        level, state = of
        if state == "h" and not self.has_time:
            return level.value
        key = (id(level), state)
        if key not in self.values:
            self.values[key] = FinalState(state)(level.value)
        return self.values[key]

    def mode_of(self, port: Port) -> str:
        """The mode of an input that is no state of a layer."""
        first = next(one for one in self.model.graph.inputs if one.name not in self.model.graph.tensors)
        return FEEDBACK if port != first and not self.has_time and self.partner(port) else INPUT

    def partner(self, port: Port) -> str | None:
        """The output that an input of the next step is, by shape and name."""
        for output in self.model.graph.outputs:
            if output.shape is None or port.shape is None or len(output.shape) != len(port.shape):
                continue
            sizes = zip(output.shape, port.shape, strict=True)
            alike = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sizes)
            if alike and _stem(output.name) == _stem(port.name):
                return output.name
        return None

    def takes_lengths(self, given: Symbol) -> None:
        """Make an input the lengths of a call."""
        name = next((name for name, value in self.inputs.items() if value is given.value), None)
        if name is None:
            raise Unfit("sequence_lens is computed by the net, expected an input of the graph")
        if self.plan.modes.get(name) != LENGTHS:
            raise Retry(name, LENGTHS)

    def starts_with(self, given: Symbol) -> None:
        """Make the inputs that a state begins with one frame for a sequence."""
        used = _inputs_of([given.value])
        for name, value in self.inputs.items():
            alone = value is given.value or (value.time is not None and not self.has_time)
            if id(value) in used and alone and self.plan.modes.get(name) != START:
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
        rows = np.array([0, Places.ROW] if batch else [0])
        ids = self.final_base(level, state) + np.array([d * hidden for d in order])[:, None, None]
        ids = ids + np.arange(hidden) + rows[:, None]
        return Places(ids.swapaxes(0, 1) if layout else ids)

    # ---- recurrent layers --------------------------------------------------------------------------------

    def level(
        self,
        op: str,
        node: Node,
        value: Value,
        own: Sequence[Direction],
        backwards: bool,
        starts: Sequence[Start],
    ) -> tuple[Level, int]:
        """The layer of a node, and the place of its direction if it has one."""
        if len(own) == 2:
            if own[0].key != own[1].key:
                raise Unfit("its directions have different formulas, expected one")
            return self.begun(op, value, own, starts, 0), 0
        key = next(name for name in node.outputs if name)
        plain = all(start.value is None and start.rows is None for start in starts)
        self.records.append(_Record(key, op, value, backwards, own[0], plain))
        if key in self.plan.pairs:
            group, *both = self.plan.pairs[key]
            if group not in self.levels:
                self.levels[group] = self.begun(op, value, both, starts, 0)
            return self.levels[group], int(backwards)
        if backwards:
            return self.begun(op, value, [silent(own[0]), own[0]], starts, 1), 1
        return self.begun(op, value, own, starts, 0), 0

    def begun(
        self, op: str, value: Value, own: Sequence[Direction], starts: Sequence[Start], place: int
    ) -> Level:
        """A layer over a value, with its initial state."""
        layer = layer_of(op, own[0], own[1] if len(own) == 2 else None)
        states = CELLS[op][2]
        hidden = layer.hidden_size
        valued = next((start.value for start in starts if start.value is not None), None)
        if valued is None:
            rows = {}
            for state, start in zip(states, starts, strict=True):
                if start.rows is not None:
                    rows[state] = np.zeros((len(own), hidden), np.float32)
                    rows[state][place:] = start.rows
            if rows:
                layer.initial_state = rows
            return Level(layer(value), hidden)
        given = []
        for start in starts:
            if start.ids is not None:
                _kind, port, _ = self.sources[self.found(int(start.ids[0]))[0]]
                raise Retry(port.name, START)
            array = np.zeros((len(own) - place, hidden), np.float32) if start.rows is None else start.rows
            one = constant(np.reshape(array, -1), valued) if start.value is None else start.value
            if one.frame != (len(own) * hidden,):  # zeros for the direction that nobody reads
                one = concat([constant(np.zeros(place * hidden, np.float32), valued), one])
            given.append(one)
        return Level(layer(value, tuple(given) if len(given) > 1 else given[0]), hidden)

    def pairs(self) -> dict[str, tuple[str, Direction, Direction]]:
        """Nodes of one direction each that read one value and have one formula: a layer of both."""
        found: dict[str, tuple[str, Direction, Direction]] = {}
        readers: dict[int, list[_Record]] = {}
        for one in self.records:
            readers.setdefault(id(one.value), []).append(one)
        for one in self.records:
            for other in readers[id(one.value)][:MOST_READERS]:
                alike = one.op == other.op and one.value is other.value and one.own.key == other.own.key
                if not alike or one.backwards or not other.backwards or not (one.plain and other.plain):
                    continue
                if one.key not in found and other.key not in found:
                    found[one.key] = found[other.key] = (one.key, one.own, other.own)
        return found

    # ---- nodes ---------------------------------------------------------------------------------------------

    def notes(self, window: Any, size: int) -> None:
        """Note what the windows of a convolution leave of a frame."""
        room = size + sum(window.pads) - window.span
        self.slack.append(room % window.stride if room >= 0 else 0)

    def net(self) -> Net:
        """Build the net."""
        graph = self.model.graph
        env: dict[str, Any] = {}
        for name, tensor in graph.tensors.items():
            env[name] = Known(tensor.array())
        for port in graph.inputs:
            if port.name in self.bound:
                env[port.name] = Known(self.bound[port.name])
            elif port.name not in env:
                env[port.name] = self.port(port)
        self.walk(graph, env, "graph")
        return self.finished({port.name: self.read(env, port.name, "the graph") for port in graph.outputs})

    def read(self, env: Mapping[str, Any], name: str, where: str) -> Any:
        if name not in env:
            raise self.error(f"{where}: reads {shown(name)}, which nothing writes before")
        if isinstance(env[name], _Failed):
            raise env[name].error
        return env[name]

    def walk(self, graph: Graph, env: dict[str, Any], where: str) -> None:
        """Give each name of a graph that an output needs its value."""
        needed = {port.name for port in graph.outputs}
        chosen: list[tuple[int, Node]] = []
        for i, node in reversed(list(enumerate(graph.nodes))):
            if needed.intersection(node.outputs) - {""}:
                chosen.append((i, node))
                needed.update(_reads(node))
        for i, node in reversed(chosen):
            at = (
                f"{where}: node {shown(node.name) if node.name else i} ({shown(node.op)}, opset {self.opset})"
            )
            try:
                results = self.node(node, env, at)
            except LoadError as error:
                results = [_Failed(error)] * len(node.outputs)
            except _WRONG as error:
                results = [_Failed(self.error(f"{at}: {error}"))] * len(node.outputs)
            for name, result in zip(node.outputs, results, strict=False):
                if name:
                    env[name] = result

    def node(self, node: Node, env: dict[str, Any], where: str) -> Sequence[Any]:
        """The outputs of a node."""
        inputs: list[Given] = [self.read(env, name, where) if name else None for name in node.inputs]
        if node.domain:
            raise self.error(f"{where}: operators of the domain {shown(node.domain)} are not known")
        if node.op == "If":
            return self.branch(node, inputs, env, where)
        call = Call(node, inputs, self.opset, self)
        if node.op in ("Shape", "Size") and isinstance(inputs[0], (Symbol, Places)):
            sizes = inputs[0].shape.worlds
            if node.op == "Size":
                return [Known(*(np.array(one.prod()) for one in sizes))]
            get = node.attributes.get
            return [Known(*(one[get("start", 0) : get("end", len(one))] for one in sizes))]
        if node.op in FOLDS and all(one is None or isinstance(one, Known) for one in inputs):
            return self.folded(call)
        if all(one is None or isinstance(one, (Known, Places)) for one in inputs):
            moved = self.moved(call)
            if moved is not None:
                return moved
        if node.op not in OPERATORS:
            raise self.error(
                f"{where}: the operator {shown(node.op)} is not known; known are those of docs/onnx.md"
            )
        self.plan.calls += 1
        if self.plan.calls > MOST_CALLS:
            raise self.error(f"{where}: got more than {MOST_CALLS} operations, expected a smaller graph")
        result = OPERATORS[node.op](call)
        return result if isinstance(result, list) else [result]

    def folded(self, call: Call) -> list[Known]:
        """The outputs of a node that reads known arrays."""
        varies = any(isinstance(one, Known) and one.varies for one in call.inputs)
        worlds = []
        for world in (0, 1) if varies else (0,):
            result = FOLDS[call.node.op](call.fold(world))
            worlds.append(result if isinstance(result, list) else [result])
        return [Known(*arrays) for arrays in zip(*worlds, strict=True)]

    def moved(self, call: Call) -> list[Places] | None:
        """The outputs of a node that moves places of states; None if it does more."""
        op, first = call.node.op, call.get(0)
        if op == "Cast" and isinstance(first, Places) and call.attributes.get("to") in (1, 10, 11, 16):
            return [first]
        if op in NEUTRAL and isinstance(first, Places) and isinstance(call.get(1), Known):
            numbers = call.known(1).worlds
            fits = numbers[0].size == 1 or numbers[0].shape == first.ids.shape
            if fits and all(np.all(one == NEUTRAL[op]) and one.ndim <= first.ids.ndim for one in numbers):
                return [first]
        if op not in MOVES or not isinstance(first, Places):
            return None
        if op == "Concat" and any(isinstance(one, Known) for one in call.inputs):
            return None
        arrays: list[Array | None] = []
        for one in call.inputs:
            if isinstance(one, Places):
                arrays.append(one.ids)
            elif isinstance(one, Known) and one.varies:
                sizes = [2 if pair == BATCH_SIZES else pair[0] for pair in one.sizes]
                arrays.append(np.array(sizes, np.int64).reshape(one.worlds[0].shape))
            else:
                arrays.append(one.worlds[0] if isinstance(one, Known) else None)
        result = FOLDS[call.node.op](replace(call.fold(), inputs=arrays))
        return [Places(ids) for ids in (result if isinstance(result, list) else [result])]

    def branch(self, node: Node, inputs: Sequence[Given], env: dict[str, Any], where: str) -> Sequence[Any]:
        """The outputs of an If whose condition follows from constants, shapes and bound inputs."""
        if not isinstance(inputs[0], Known):
            scalars = [port.name for port in self.model.graph.inputs if port.shape in ((), (1,))]
            hint = f": bind an input: load(path, {scalars[0]}=...)" if scalars else ""
            raise Unfit(f"its condition depends on the values of inputs{hint}")
        if inputs[0].varies:
            raise Unfit("its condition depends on a size that varies: bind it: load(path, shapes={...})")
        chosen = "then_branch" if bool(inputs[0].worlds[0].reshape(-1)[0]) else "else_branch"
        graph = node.attributes.get(chosen)
        if not isinstance(graph, Graph):
            raise Unfit(f"lacks its {chosen}")
        if len(graph.outputs) != len(node.outputs):
            raise Unfit(f"its {chosen} has {len(graph.outputs)} outputs, expected {len(node.outputs)}")
        inner = dict(env)
        for name, tensor in graph.tensors.items():
            inner[name] = Known(tensor.array())
        self.walk(graph, inner, f"{where}: {chosen}")
        return [self.read(inner, port.name, where) for port in graph.outputs]

    # ---- outputs -------------------------------------------------------------------------------------------

    def finished(self, results: dict[str, Any]) -> Net:
        """The net of the graph's outputs; states become its state."""
        left = dict(results)
        for name, ids in self.of_input.items():
            flat = ids.reshape(-1)
            if not any(int(one) % Places.ROW in self.fed for one in flat):
                continue  # nothing reads it
            fed = [self.fed.get(int(one) % Places.ROW, -1) for one in flat]
            wanted = (np.array(fed, np.int64) + flat // Places.ROW * Places.ROW).reshape(ids.shape)
            for output, given in left.items():
                if isinstance(given, Places) and np.array_equal(given.ids, wanted):
                    del left[output]
                    break
            else:
                raise Retry(name, START)
        for name, before in self.feedbacks.items():
            partner = self.partner(next(port for port in self.model.graph.inputs if port.name == name))
            given = results[partner or ""]
            value = (self.written(given) if isinstance(given, Places) else given).value
            before.connect(reframed(value, before.frame))
            left.pop(partner or "", None)
        outputs: dict[str, Value] = {}
        for name, given in (left or results).items():
            if isinstance(given, Places):
                given = self.written(given)
            if not isinstance(given, Symbol):
                raise self.error(f"output {shown(name)} is constant, expected a value that the net computes")
            if isinstance(given, Unfinished):
                raise self.error(f"output {shown(name)} is {given.what}")
            if given.reversed:
                raise self.error(f"output {shown(name)} has the steps from the last to the first")
            sizes = [frame_size(axis) for axis in given.axes if frame_size(axis) > 1]
            outputs[name] = reframed(given.value, short(sizes))
        used = _inputs_of(outputs.values())
        return Net({name: value for name, value in self.inputs.items() if id(value) in used}, outputs)


def _reads(node: Node) -> Iterable[str]:
    """The names that a node reads, those that its branches read included."""
    found = set(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Graph):
            found.update(port.name for port in value.outputs)
            for one in value.nodes:
                found.update(_reads(one))
    return found


def _inputs_of(values: Iterable[Value]) -> set[int]:
    """The ids of all values that these depend on."""
    found: set[int] = set()
    left = list(values)
    while left:
        value = left.pop()
        if id(value) not in found:
            found.add(id(value))
            left.extend(value.reads)
    return found


_ENDINGS = (
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
)


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


def build_net(
    file: WeightsFile,
    states: bool = True,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    **bound: Any,
) -> Net:
    """Build the net of an ONNX file.

    Parameters
    ----------
    file : WeightsFile
    states : bool
        Inputs that are a state before a call and come back as outputs become the state of the net, which
        calls begin with zeros and streams carry on. False: they stay inputs and outputs.
    shapes : mapping, optional
        The shapes of inputs, by name, where the file leaves them open; None for a size that varies.
    **bound
        Numbers of inputs, by name, which are constants then: ``sr=16000``. Or the size of an axis, by its
        name.

    Raises
    ------
    LoadError
        If the graph is damaged, or a node is no part of a net: the message names it, its operator and opset.
    TypeError
        If the graph has no input or axis of a name.
    """
    model: Model = file.net
    graph, plan = model.graph, Plan()
    ports = {port.name: port for port in graph.inputs if port.name not in graph.tensors}
    axes = {size for port in ports.values() for size in port.shape or () if isinstance(size, str)}
    for name, shape in (shapes or {}).items():
        if name not in ports:
            raise TypeError(f"load: shapes: got {brief(name)}, expected some of the inputs {list(ports)}")
        port = ports[name]
        told: list[Any] = list(port.shape if port.shape is not None else [None] * len(shape))
        if len(shape) != len(told):
            raise TypeError(f"load: shapes: got {tuple(shape)} for {name!r}, expected {len(told)} sizes")
        own = port._replace(shape=tuple(size or old for size, old in zip(shape, told, strict=True)))
        graph = graph._replace(inputs=tuple(own if one.name == name else one for one in graph.inputs))
        ports[name] = own
    arrays: dict[str, Array] = {}
    for name, value in bound.items():
        if name in axes and isinstance(value, int):
            plan.sizes[name] = value
        elif name not in ports:
            raise TypeError(
                f"load: got {brief(name)}, expected some of the inputs {list(ports)} or of their axes "
                f"{sorted(axes)}"
            )
        else:
            arrays[name] = _array_for(ports[name], value)
    model = model._replace(graph=graph)

    def build(plan: Plan) -> tuple[Net, Builder]:
        try:
            return _settled(model, file, plan, arrays, states)
        except (Unfit, *_WRONG) as error:
            raise error if isinstance(error, LoadError) else file.error(f"graph: {error}") from None
        except (RecursionError, MemoryError) as error:
            raise file.error(f"graph: got {type(error).__name__}, expected a smaller graph") from None

    try:
        return build(plan)[0]
    except LoadError as error:
        net = _with_an_axis(build, plan, ports.values()) if plan.lacks_time else None
        net = net or _with_a_size(build, plan, ports.values())
        if net is None:
            raise error
        return net


def _with_an_axis(
    build: Callable[[Plan], tuple[Net, Builder]], plan: Plan, ports: Iterable[Port]
) -> Net | None:
    """The net of a graph that fixed all sizes, where an axis that windows go along turns out to be time.

    Of the axes of inputs with which the graph is a net it is the longest.
    """
    if TIME in plan.kinds.values():
        return None
    axes = {
        origin_of(port, i): size
        for port in ports
        for i, size in enumerate(port.shape or ())
        if isinstance(size, int) and size > 1 and origin_of(port, i) not in plan.kinds
    }
    for axis in sorted(axes, key=lambda one: -axes[one])[:MOST_AXES]:
        again = Plan()
        again.kinds, again.sizes = {axis: TIME}, dict(plan.sizes)
        try:
            return build(again)[0]
        except LoadError:
            continue
    return None


# The sizes of frames that are tried first where a file does not tell them.
_GUESSES = (512, 256, 1024, 128, 2048, 64, 4096, 32, 16)


def _with_a_size(
    build: Callable[[Plan], tuple[Net, Builder]], plan: Plan, ports: Iterable[Port]
) -> Net | None:
    """The net of a graph that fits frames of some sizes only, one axis of which the file leaves open.

    Of all sizes that it takes it gets the largest of which a convolution reads every number.
    """
    open_axes = {
        origin_of(port, i)
        for port in ports
        for i, size in enumerate(port.shape or ())
        if not isinstance(size, int) and plan.kinds.get(origin_of(port, i)) == TIME
    } - plan.sizes.keys()
    if len(open_axes) != 1:
        return None
    (axis,) = open_axes

    def of(size: int) -> tuple[Net, Builder] | None:
        again = Plan()
        again.kinds = {key: kind for key, kind in plan.kinds.items() if kind != TIME}
        again.modes, again.sizes = dict(plan.modes), {**plan.sizes, axis: size}
        try:
            return build(again)
        except LoadError:
            return None

    least = next((size for size in _GUESSES if of(size)), None)
    if least is None:
        return None
    beyond = least * 2
    while of(beyond):
        least, beyond = beyond, beyond * 2
        if beyond > 1 << 16:
            return None
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if of(middle) else (least, middle)
    found = of(least)
    if found is None:
        return None
    slack = next(iter(found[1].slack), 0)
    shorter = of(least - slack) if slack else found
    return (shorter or found)[0]


def _array_for(port: Port, value: Any) -> Array:
    """The numbers that an input is bound to."""
    kind = np.float32 if port.dtype.startswith(("float", "bfloat")) else np.dtype(port.dtype)
    array = np.asarray(value, kind)
    if port.shape == (1,) and array.ndim == 0:
        array = array.reshape(1)
    if port.shape is not None and len(port.shape) != array.ndim:
        raise TypeError(f"load: got {port.name} of shape {array.shape}, expected {len(port.shape)} axes")
    return array


def _settled(
    model: Model, file: WeightsFile, plan: Plan, bound: Mapping[str, Array], states: bool
) -> tuple[Net, Builder]:
    """Build again and again until everything is known that the net needs."""
    for _ in range(MOST_PASSES):
        builder = Builder(model, file, plan, bound, states)
        try:
            net = builder.net()
        except Retry as found:
            plan.learn(found)
            continue
        pairs = builder.pairs()
        if pairs.keys() == plan.pairs.keys():
            return net, builder
        plan.pairs = pairs
    raise file.error(f"graph: its inputs are not settled after {MOST_PASSES} passes")
