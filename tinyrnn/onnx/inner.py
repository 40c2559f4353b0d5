"""Graphs within a graph: the branches of an If, and the operators that a file defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyrnn.importing import Unfit
from tinyrnn.onnx.model import Function, Graph, Port, called
from tinyrnn.onnx.nodes import Call
from tinyrnn.onnx.symbols import Known
from tinyrnn.weights.spec import shown

MOST_LEVELS = 32  # of functions that call others


def branch(call: Call) -> list[Any]:
    """The outputs of an If whose condition follows from constants, shapes and bound inputs."""
    condition, node, builder = call.get(0), call.node, call.builder
    if not isinstance(condition, Known):
        scalars = [port.name for port in builder.model.graph.inputs if port.shape in ((), (1,))]
        hint = f": bind an input: load(path, {scalars[0]}=...)" if scalars else ""
        raise Unfit(f"its condition depends on the values of inputs{hint}")
    if condition.varies:
        raise Unfit("its condition depends on a size that varies: bind it: load(path, shapes={...})")
    chosen = "then_branch" if bool(condition.worlds[0].reshape(-1)[0]) else "else_branch"
    graph = call.attributes.get(chosen)
    if not isinstance(graph, Graph):
        raise Unfit(f"lacks its {chosen}")
    if len(graph.outputs) != len(node.outputs):
        raise Unfit(f"its {chosen} has {len(graph.outputs)} outputs, expected {len(node.outputs)}")
    inner = dict(call.env)
    for name, tensor in graph.tensors.items():
        inner[name] = Known(tensor.view())
    builder.walk(graph, inner, f"{call.where}: {chosen}")
    return [builder.read(inner, port.name, call.where) for port in graph.outputs]


def inlined(call: Call, function: Function) -> Sequence[Any]:
    """The outputs of an operator that the file defines."""
    node, builder = call.node, call.builder
    if builder.depth >= MOST_LEVELS:
        raise Unfit(f"got more than {MOST_LEVELS} functions within each other, expected fewer")
    builder.counts(len(function.nodes))
    if len(call.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise Unfit("has more inputs or outputs than its function")
    arguments = {**function.arguments, **node.attributes}
    env: dict[str, Any] = dict.fromkeys(function.inputs)
    env |= zip(function.inputs, call.inputs, strict=False)
    ports = tuple(Port(name, "unknown", None) for name in function.outputs)
    nodes = tuple(called(one, arguments) for one in function.nodes)
    before, builder.depth = builder.opset, builder.depth + 1
    builder.opset = function.opset or before
    try:
        builder.walk(Graph(node.op, (), ports, {}, nodes), env, f"function {shown(node.op)}")
    finally:
        builder.opset, builder.depth = before, builder.depth - 1
    return [builder.read(env, port.name, call.where) for port in ports[: len(node.outputs)]]
