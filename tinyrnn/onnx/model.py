"""An ONNX model as plain data: what `wire` reads and what the other modules walk through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tinyrnn.weights.spec import Tensor

# The size of an axis: a number, the name of one that varies, or None for one that is not told.
Size = int | str | None


class Port(NamedTuple):
    """An input or an output of a graph; ``shape`` is None where its rank is not told."""

    name: str
    dtype: str
    shape: tuple[Size, ...] | None


class Node(NamedTuple):
    """One operation. Names of values that are left out are empty.

    Attributes
    ----------
    attributes : dict
        By name an int, float, str, `Tensor`, `Graph`, or a list of them.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph(NamedTuple):
    """Nodes in an order in which they can run, and the tensors that they read."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: dict[str, Tensor]
    nodes: tuple[Node, ...]


class Reference(NamedTuple):
    """An attribute of a node in a function: the argument of that name."""

    name: str


class Function(NamedTuple):
    """An operator that a file defines by nodes.

    Attributes
    ----------
    arguments : dict
        By name the default of an attribute; None if it has none.
    opset : int or None
        The version of ONNX's own operators that its nodes are of; None: that of the model.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: dict[str, Any]
    nodes: tuple[Node, ...]
    opset: int | None


class Model(NamedTuple):
    """A graph, and the version of each set of operators that it uses, by domain; ``""`` is ONNX's own.

    ``functions`` are the file's own operators, by domain and name.
    """

    graph: Graph
    opsets: dict[str, int]
    metadata: dict[str, str]
    functions: dict[tuple[str, str], Function]


def operators_of(nodes: Iterable[Node]) -> set[str]:
    """The operators of nodes, and of the graphs within them."""
    found = set()
    for node in nodes:
        found.add(node.op)
        for value in node.attributes.values():
            if isinstance(value, Graph):
                found |= operators_of(value.nodes)
    return found


def called(node: Node, arguments: dict[str, Any]) -> Node:
    """A node of a function, with the arguments of a call; one that the call lacks is left out."""
    attributes: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if isinstance(value, Reference):
            value = arguments.get(value.name)
        elif isinstance(value, Graph):
            value = value._replace(nodes=tuple(called(one, arguments) for one in value.nodes))
        if value is not None:
            attributes[name] = value
    return node._replace(attributes=attributes)
