"""One walk through a graph: node by node each name gets the thing that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.importing import WRONG, Unfit
from tinyrnn.onnx.cells import CELLS
from tinyrnn.onnx.evaluation import evaluated
from tinyrnn.onnx.inner import inlined
from tinyrnn.onnx.learned import Learned
from tinyrnn.onnx.levels import Levels
from tinyrnn.onnx.loops import Inside
from tinyrnn.onnx.model import Graph, Model, Node, operators_of
from tinyrnn.onnx.nodes import Call, Given
from tinyrnn.onnx.operators import DOMAINS, INDICES, OPERATORS
from tinyrnn.onnx.ports import Ports
from tinyrnn.onnx.steps import Timed, is_time, number_of_step
from tinyrnn.onnx.symbols import Axis, Known, Sizes, Symbol, reframed
from tinyrnn.ops import lt
from tinyrnn.values import Value
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import MEMORY_FLOOR, Array, shown

MOST_CALLS = 20_000  # operations that become layers
LAYER = 1024  # numbers of 8 bytes that take as much as a layer of a few weights; a constant is two
OVER_STEPS = {*CELLS, "DynamicQuantizeLSTM", "Loop", "Scan"}
MOST_VISITS = 200_000  # inputs and nodes, in all passes


class _Failed(NamedTuple):
    """The outputs of a node that is no part of a net."""

    error: LoadError


class Builder:
    """One walk through a model.

    Attributes
    ----------
    ports : Ports
        The inputs of the graph.
    slack : list of int
        Numbers at the end of frames that the windows of convolutions do not reach.
    timed : dict
        A value on each axis of time.
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
        self.int8 = int8
        self.opset = model.opsets[""]
        self.budget = MEMORY_FLOOR + 2 * file.info.bytes
        self.slack: list[int] = []
        self.compared: set[str] = set()  # inputs of whole numbers that a node compared with one
        self.timed: Timed = {}
        self.masks: dict[Any, Value] = {}
        self.kept: list[Any] = []  # the values behind the keys of masks
        self.ports = Ports(model.graph, learned, states)
        self.states, self.has_time = self.ports.states, self.ports.has_time
        self.levels = Levels(learned, self.states)
        self.depth = 0  # of functions that call others
        self.inside: Inside | None = None  # the body of a loop

    def error(self, text: str) -> LoadError:
        return self.file.error(text)

    # ---- what nodes ask for --------------------------------------------------------------------------------

    def room(self, count: int) -> None:
        """Take memory for an array of known numbers."""
        self.budget -= 8 * count
        if self.budget < 0:
            self.learned.lacks_room = True
            raise Unfit(
                "layers and constants need more memory than a file of its size may take; bind sizes of "
                "inputs that it leaves open, but for the steps: load(path, shapes={...})"
            )

    def counts(self, calls: int) -> None:
        """Count operations that become layers, in all passes; one of very many inputs is several."""
        self.learned.calls += calls
        if self.learned.calls > MOST_CALLS:
            raise Unfit(f"got more than {MOST_CALLS} operations, expected a smaller graph")

    def visits(self, count: int) -> None:
        """Count inputs and nodes that a pass goes through."""
        self.learned.visits[0] += count
        if self.learned.visits[0] > MOST_VISITS:
            raise self.error(
                f"graph: its inputs are not settled after {MOST_VISITS} visits to them and to its nodes, "
                "expected a smaller graph"
            )

    def wants(self, given: Symbol) -> None:
        """Note that a node wants a value as a constant."""
        self.ports.wants(given)

    def own_steps(self, count: int) -> Sizes:
        """The sizes of an axis of time of so many steps, that of an input which a call leaves out."""
        atom, value = self.ports.own_steps(count)
        self.timed.setdefault(atom.sizes, (atom, value))
        return atom.sizes

    def notes(self, window: Any, size: int) -> None:
        """Note what the windows of a convolution leave of a frame."""
        room = size + sum(window.pads) - window.span
        self.slack.append(room % window.stride if room >= 0 else 0)

    @cached_property
    def recurs(self) -> bool:
        """True if a node goes over steps: a turned axis is time then, and else a part of a frame."""
        bodies = [self.model.graph.nodes, *(one.nodes for one in self.model.functions.values())]
        return any(not OVER_STEPS.isdisjoint(operators_of(nodes)) for nodes in bodies)

    def mask_of(self, lengths: Value | int, time: Axis) -> Value:
        """1 at the steps within lengths, 0 behind them; nodes with the same lengths have one mask."""
        if not time:
            raise Unfit("has sequence_lens for one step, expected a sequence")
        key = (lengths if isinstance(lengths, int) else id(lengths), time[0].sizes)
        if key not in self.masks:
            number = number_of_step(self.timed[time[0].sizes][1], np.zeros(1), np.ones(1))
            end = lengths if isinstance(lengths, int) else reframed(lengths, (1,))
            self.masks[key] = lt(number, end)
            self.kept.append(lengths)
        return self.masks[key]

    def seen(self, given: Any) -> None:
        """Note the axis of time of a value; one of indices is no layer's to repeat or to count."""
        if isinstance(given, Symbol) and given.value.time is not None:
            for axis in filter(is_time, given.axes):
                sizes = axis[0].sizes
                if sizes not in self.timed or not self.timed[sizes][1].frame:
                    self.timed[sizes] = axis[0], given.value

    # ---- nodes ---------------------------------------------------------------------------------------------

    def net(self) -> Net:
        """Build the net."""
        graph = self.model.graph
        self.visits(len(graph.inputs))
        env: dict[str, Any] = {}
        for name, tensor in graph.tensors.items():
            env[name] = Known(tensor.view())
        for port in graph.inputs:
            if port.name in self.bound:
                env[port.name] = Known(self.bound[port.name])
            elif port.name not in env:
                env[port.name] = self.ports.given(port)
                self.seen(env[port.name])
        try:
            self.walk(graph, env, "graph")
            return self.finished(
                {port.name: self.read(env, port.name, "the graph") for port in graph.outputs}
            )
        finally:
            env.clear()  # calls know it, and it the values that they made

    def finished(self, results: dict[str, Any]) -> Net:
        """The net of the graph's outputs."""
        net = self.ports.finished(results, self.error)
        if self.levels.reads_beyond(self.ports.values.values()):
            self.states.all_count()
        return net

    def read(self, env: Mapping[str, Any], name: str, where: str) -> Any:
        if name not in env:
            raise self.error(f"{where}: reads {shown(name)}, which nothing writes before")
        if isinstance(env[name], _Failed):
            raise env[name].error.with_traceback(None)  # which would keep the frames of each that raised it
        return env[name]

    def walk(self, graph: Graph, env: dict[str, Any], where: str) -> None:
        """Give each name of a graph that an output needs its value."""
        needed = {port.name for port in graph.outputs}
        chosen: list[tuple[int, Node, set[str]]] = []
        for i, node in reversed(list(enumerate(graph.nodes))):
            if needed.intersection(node.outputs) - {""}:
                chosen.append((i, node, _reads(node) - needed))  # and what nobody reads after it
                needed |= chosen[-1][2]
        self.visits(len(chosen))
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
                    self.seen(result)
            for name in last:
                env.pop(name, None)

    def node(self, node: Node, env: dict[str, Any], where: str) -> Sequence[Any]:
        """The outputs of a node."""
        inputs: list[Given] = [self.read(env, name, where) if name else None for name in node.inputs]
        call = Call(node, inputs, self.opset, self, env, where)
        function = self.model.functions.get((node.domain, node.op))
        if function is not None:
            return inlined(call, function)
        if node.domain not in DOMAINS:
            raise Unfit(f"operators of the domain {shown(node.domain)} are not known")
        known = evaluated(call)
        if known is not None:
            return known
        if node.op not in DOMAINS[node.domain]:
            hint = "known are those of docs/onnx.md"
            if node.op in INDICES:
                name = node.op.lower() if node.op.startswith("Arg") else "argsort"
                hint = (
                    f"no net gives indices: load(path, outputs=[{shown(node.inputs[0])!r}]), and numpy.{name}"
                )
            of = f" of {node.domain}" if node.domain else ""
            raise Unfit(f"the operator {shown(node.op)}{of} is not known; {hint}")
        self.counts(1 + len(inputs) // 4)
        self.room(LAYER * (1 + 2 * sum(isinstance(one, Known) and one.worlds[0].size > 1 for one in inputs)))
        result = DOMAINS[node.domain][node.op](call)
        return result if isinstance(result, list) else [result]

    def node_of(self, call: Call, op: str, inputs: Sequence[Any], **attributes: Any) -> Any:
        """The first result of an operation that is a part of a node; no other is made."""
        node = call.node._replace(op=op, attributes=attributes, outputs=call.node.outputs[:1])
        inner = call._replace(node=node, inputs=list(inputs))
        known = evaluated(inner)
        result = OPERATORS[op](inner) if known is None else known
        return result[0] if isinstance(result, list) else result


def _reads(node: Node) -> set[str]:
    """The names that a node reads, those that its branches read included."""
    found = set(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Graph):
            found.update(port.name for port in value.outputs)
            for one in value.nodes:
                found.update(_reads(one))
    return found
