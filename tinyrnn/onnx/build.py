"""Nets of ONNX files: a graph is walked once for each thing that it tells of its inputs, and then built.

Each of ONNX's names stands for an array that is known, for a value of a layer, or for places of states
(`symbols`). A node whose inputs are known is folded (`folding`), one that only moves states moves their
places, and any other becomes layers (`operators`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from weakref import proxy

import numpy as np

from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.importing import WRONG, Unfit
from tinyrnn.onnx.folding import FOLDS, MOVES
from tinyrnn.onnx.learned import FEEDBACK, INPUT, START, STATE, Learned, origin_of
from tinyrnn.onnx.levels import Levels
from tinyrnn.onnx.loops import Inside
from tinyrnn.onnx.model import Function, Graph, Model, Node, Port, called
from tinyrnn.onnx.nodes import Call, Given, Listed, Step, Unfinished
from tinyrnn.onnx.operators import DOMAINS
from tinyrnn.onnx.states import States, read_by
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
    frame_size,
    framed,
    has,
    reframed,
    short,
)
from tinyrnn.ops import Feedback
from tinyrnn.values import Input, Value
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import MEMORY_FLOOR, Array, shown

MOST_PASSES = 500
MOST_CALLS = 20_000
MOST_LEVELS = 32  # of functions that call others
MOST_AXES = 8  # that are tried as time
MOST_STATES = 1 << 20  # numbers of an input that may be a state

# Arithmetic with these numbers changes nothing.
NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


class _Failed(NamedTuple):
    """The outputs of a node that is no part of a net."""

    error: LoadError


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
        self,
        model: Model,
        file: WeightsFile,
        learned: Learned,
        bound: Mapping[str, Array],
        states: bool,
        int8: bool = False,
    ) -> None:
        self.model, self.file, self.learned, self.bound = model, file, learned, bound
        self.follows, self.int8 = states, int8
        self.opset = model.opsets[""]
        self.has_time = TIME in learned.kinds.values()
        self.budget = MEMORY_FLOOR + 2 * file.info.bytes
        self.inputs: dict[str, Input] = {}
        self.feedbacks: dict[str, Feedback] = {}
        self.slack: list[int] = []
        self.seen: list[str] = []  # the axes that vary, in their order
        self.states = States(
            model.graph, learned, self.inputs, partial(Builder.axis, proxy(self)), self.has_time
        )
        self.levels = Levels(learned, self.states)
        self.depth = 0  # of functions that call others
        self.inside: Inside | None = None  # the body of a loop

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
        value = Input(*frame, time=None if one else TIME, name=port.name)
        self.inputs[port.name] = value
        return Symbol(value, axes)

    def wants(self, given: Symbol) -> None:
        """Note which inputs of the graph a node wants as constants."""
        used = read_by([given.value])
        self.learned.wanted.update(name for name, value in self.inputs.items() if id(value) in used)

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
            env[name] = Known(tensor.view())
        for port in graph.inputs:
            if port.name in self.bound:
                env[port.name] = Known(self.bound[port.name])
            elif port.name not in env:
                env[port.name] = self.port(port)
        try:
            self.walk(graph, env, "graph")
            return self.finished(
                {port.name: self.read(env, port.name, "the graph") for port in graph.outputs}
            )
        finally:
            env.clear()  # calls know it, and it the values that they made

    def read(self, env: Mapping[str, Any], name: str, where: str) -> Any:
        if name not in env:
            raise self.error(f"{where}: reads {shown(name)}, which nothing writes before")
        if isinstance(env[name], _Failed):
            raise env[name].error
        return env[name]

    def walk(self, graph: Graph, env: dict[str, Any], where: str) -> None:
        """Give each name of a graph that an output needs its value."""
        needed = {port.name for port in graph.outputs}
        chosen: list[tuple[int, Node, set[str]]] = []
        for i, node in reversed(list(enumerate(graph.nodes))):
            if needed.intersection(node.outputs) - {""}:
                chosen.append((i, node, _reads(node) - needed))  # and what nobody reads after it
                needed |= chosen[-1][2]
        for i, node, last in reversed(chosen):
            at = (
                f"{where}: node {shown(node.name) if node.name else i} ({shown(node.op)}, opset {self.opset})"
            )
            try:
                results = self.node(node, env, at)
                if self.inside is not None:
                    given = [env[name] for name in node.inputs if name in env]
                    self.inside.note(node.op, given, results)
            except LoadError as error:
                results = [_Failed(error)] * len(node.outputs)
            except WRONG as error:
                results = [_Failed(self.error(f"{at}: {error}"))] * len(node.outputs)
            for name, result in zip(node.outputs, results, strict=False):
                if name:
                    env[name] = result
            for name in last:
                env.pop(name, None)

    def node(self, node: Node, env: dict[str, Any], where: str) -> Sequence[Any]:
        """The outputs of a node."""
        inputs: list[Given] = [self.read(env, name, where) if name else None for name in node.inputs]
        function = self.model.functions.get((node.domain, node.op))
        if function is not None:
            return self.inlined(node, function, inputs, where)
        if node.domain not in DOMAINS:
            raise self.error(f"{where}: operators of the domain {shown(node.domain)} are not known")
        if not node.domain and node.op == "If":
            return self.branch(node, inputs, env, where)
        call = Call(node, inputs, self.opset, self, env)
        if node.op in ("Identity", "Cast") and isinstance(inputs[0], (Step, Listed)):
            return [inputs[0]]
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
        if node.op not in DOMAINS[node.domain]:
            hint = "known are those of docs/onnx.md"
            if node.op in ("ArgMax", "ArgMin", "TopK"):
                hint = (
                    f"no net gives indices: load(path, outputs=[{shown(node.inputs[0])}]), and numpy.argsort"
                )
            raise self.error(f"{where}: the operator {shown(node.op)} is not known; {hint}")
        self.learned.calls += 1
        if self.learned.calls > MOST_CALLS:
            raise self.error(f"{where}: got more than {MOST_CALLS} operations, expected a smaller graph")
        result = DOMAINS[node.domain][node.op](call)
        return result if isinstance(result, list) else [result]

    def inlined(self, node: Node, function: Function, inputs: Sequence[Given], where: str) -> Sequence[Any]:
        """The outputs of an operator that the file defines."""
        self.learned.calls += len(function.nodes)
        if self.depth >= MOST_LEVELS or self.learned.calls > MOST_CALLS:
            raise self.error(
                f"{where}: got functions that call each other too often, expected a smaller graph"
            )
        if len(inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            raise Unfit("has more inputs or outputs than its function")
        arguments = {**function.arguments, **node.attributes}
        env: dict[str, Any] = dict.fromkeys(function.inputs)
        env |= zip(function.inputs, inputs, strict=False)
        ports = tuple(Port(name, "unknown", None) for name in function.outputs)
        nodes = tuple(called(one, arguments) for one in function.nodes)
        before, self.depth = self.opset, self.depth + 1
        self.opset = function.opset or before
        try:
            self.walk(Graph(node.op, (), ports, {}, nodes), env, f"function {shown(node.op)}")
        finally:
            self.opset, self.depth = before, self.depth - 1
        return [self.read(env, port.name, where) for port in ports[: len(node.outputs)]]

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
        if op not in MOVES or not isinstance(first, Places) or (op == "Dropout" and call.outputs > 1):
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
        return [Places(np.asarray(ids)) for ids in (result if isinstance(result, list) else [result])]

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
            inner[name] = Known(tensor.view())
        self.walk(graph, inner, f"{where}: {chosen}")
        return [self.read(inner, port.name, where) for port in graph.outputs]

    # ---- outputs -------------------------------------------------------------------------------------------

    def finished(self, results: dict[str, Any]) -> Net:
        """The net of the graph's outputs; states become its state."""
        left = self.states.returned(results)
        for name, before in self.feedbacks.items():
            partner = self.states.partner(next(port for port in self.model.graph.inputs if port.name == name))
            given = results[partner or ""]
            value = (self.states.written(given) if isinstance(given, Places) else given).value
            before.connect(reframed(value, before.frame))
            left.pop(partner or "", None)
        outputs: dict[str, Value] = {}
        for name, given in (left or results).items():
            if isinstance(given, Places):
                given = self.states.written(given)
            if not isinstance(given, Symbol):
                raise self.error(f"output {shown(name)} is constant, expected a value that the net computes")
            if isinstance(given, Unfinished):
                raise self.error(f"output {shown(name)} is {given.what}")
            if given.reversed:
                raise self.error(f"output {shown(name)} has the steps from the last to the first")
            outputs[name] = given.framed(framed(given.axes))
        used = read_by(outputs.values())
        return Net({name: value for name, value in self.inputs.items() if id(value) in used}, outputs)


def _reads(node: Node) -> set[str]:
    """The names that a node reads, those that its branches read included."""
    found = set(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Graph):
            found.update(port.name for port in value.outputs)
            for one in value.nodes:
                found.update(_reads(one))
    return found


def build_net(
    file: WeightsFile,
    states: bool = True,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    outputs: Sequence[str] | None = None,
    int8: bool = True,
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
    outputs : sequence of str, optional
        Values of the graph that are to be its outputs, states among them.
    int8 : bool
        Layers keep the file's codes where it rounds what they read. False: floats, which train, and nothing
        is rounded.
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
    graph, learned = model.graph, Learned()
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
    if outputs is not None:
        told_outputs = {port.name: port for port in graph.outputs}
        written = [name for node in graph.nodes for name in node.outputs if name]
        if not outputs or isinstance(outputs, str) or not set(outputs) <= set(written):
            raise TypeError(
                f"load: outputs: got {shown(str(outputs))}, expected some of {shown(str(written[-20:]))}"
            )
        chosen = (told_outputs.get(name, Port(name, "unknown", None)) for name in outputs)
        graph = graph._replace(outputs=tuple(chosen))
    arrays: dict[str, Array] = {}
    for name, value in bound.items():
        if name in axes and isinstance(value, int):
            learned.sizes[name] = value
        elif name not in ports:
            raise TypeError(
                f"load: got {brief(name)}, expected some of the inputs {list(ports)} or of their axes "
                f"{sorted(axes)}"
            )
        else:
            arrays[name] = _array_for(ports[name], value)
    model = model._replace(graph=graph)
    return settled(file, learned, Builder, model, arrays, states, int8)[0]


def settled(
    file: WeightsFile,
    learned: Learned,
    kind: type[Builder],
    model: Model,
    bound: Mapping[str, Array],
    *options: bool,
) -> tuple[Net, Builder]:
    """Build the net of a model, and return the walk that it is of; see `build_net`."""
    ports = [port for port in model.graph.inputs if port.name not in model.graph.tensors]

    def build(learned: Learned) -> tuple[Net, Builder]:
        try:
            return _settled(lambda: kind(model, file, learned, bound, *options), file, learned)
        except (Unfit, *WRONG) as error:
            raise error if isinstance(error, LoadError) else file.error(f"graph: {error}") from None
        except (RecursionError, MemoryError) as error:
            raise file.error(f"graph: got {type(error).__name__}, expected a smaller graph") from None

    try:
        return build(learned)
    except LoadError as error:
        found = _with_an_axis(build, learned, ports) if learned.lacks_time else None
        found = found or _with_a_size(build, learned, ports)
        if found is None:
            raise error
        return found


def _with_an_axis(
    build: Callable[[Learned], tuple[Net, Builder]], learned: Learned, ports: Iterable[Port]
) -> tuple[Net, Builder] | None:
    """The net of a graph that fixed all sizes, where an axis that windows go along turns out to be time.

    Of the axes of inputs with which the graph is a net it is the longest.
    """
    if TIME in learned.kinds.values():
        return None
    axes = {
        origin_of(port, i): size
        for port in ports
        for i, size in enumerate(port.shape or ())
        if isinstance(size, int) and size > 1 and origin_of(port, i) not in learned.kinds
    }
    for axis in sorted(axes, key=lambda one: -axes[one])[:MOST_AXES]:
        again = Learned()
        again.kinds, again.sizes = {axis: TIME}, dict(learned.sizes)
        try:
            return build(again)
        except LoadError:
            continue
    return None


# The sizes of frames that are tried first where a file does not tell them.
_GUESSES = (512, 256, 1024, 128, 2048, 64, 4096, 32, 16)


def _with_a_size(
    build: Callable[[Learned], tuple[Net, Builder]], learned: Learned, ports: Iterable[Port]
) -> tuple[Net, Builder] | None:
    """The net of a graph that fits frames of some sizes only, one axis of which the file leaves open.

    Of all sizes that it takes it gets the largest of which a convolution reads every number.
    """
    open_axes = {
        origin_of(port, i)
        for port in ports
        for i, size in enumerate(port.shape or ())
        if not isinstance(size, int) and learned.kinds.get(origin_of(port, i)) == TIME
    } - learned.sizes.keys()
    if len(open_axes) != 1:
        return None
    (axis,) = open_axes

    def of(size: int) -> tuple[Net, Builder] | None:
        again = Learned()
        again.kinds = {key: kind for key, kind in learned.kinds.items() if kind != TIME}
        again.modes, again.sizes = dict(learned.modes), {**learned.sizes, axis: size}
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
    return shorter or found


def _array_for(port: Port, value: Any) -> Array:
    """The numbers that an input is bound to."""
    kind = np.float32 if port.dtype.startswith(("float", "bfloat")) else np.dtype(port.dtype)
    array = np.asarray(value, kind)
    if port.shape == (1,) and array.ndim == 0:
        array = array.reshape(1)
    if port.shape is not None and len(port.shape) != array.ndim:
        raise TypeError(f"load: got {port.name} of shape {array.shape}, expected {len(port.shape)} axes")
    return array


def _settled(begun: Callable[[], Builder], file: WeightsFile, learned: Learned) -> tuple[Net, Builder]:
    """Build again and again until everything is known that the net needs."""
    for _ in range(MOST_PASSES):
        builder = begun()
        try:
            net = builder.net()
        except Retry as found:
            learned.learn(found)
            continue
        pairs = builder.levels.pairs()
        if pairs.keys() == learned.pairs.keys():
            return net, builder
        learned.pairs = pairs
    raise file.error(f"graph: its inputs are not settled after {MOST_PASSES} passes")
