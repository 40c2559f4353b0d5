"""An ONNX model as plain data: what `wire` reads and what the other modules walk through."""

from __future__ import annotations

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


class Model(NamedTuple):
    """A graph, and the version of each set of operators that it uses, by domain; ``""`` is ONNX's own."""

    graph: Graph
    opsets: dict[str, int]
    metadata: dict[str, str]
