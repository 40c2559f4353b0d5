"""Nets of ONNX files, as a call of `tinyrnn.load` asks for them.

Each of ONNX's names stands for an array that is known, for a value of a layer, or for places of states
(`symbols`). A node whose inputs are known is folded, one that only moves states moves their places
(`evaluation`), and any other becomes layers (`operators`). A graph is walked (`walk`) once for each thing
that it tells of its inputs, and then built (`settling`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyrnn.attributes import brief
from tinyrnn.graph import Graph as Net
from tinyrnn.onnx.learned import Learned
from tinyrnn.onnx.model import Model, Port
from tinyrnn.onnx.settling import settled
from tinyrnn.onnx.symbols import BATCH, TIME, Axis, Places, Symbol, has
from tinyrnn.onnx.walk import Builder
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import Array, shown


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
    return _built(file, states, shapes, outputs, int8, bound)[0]


def net_and_places(file: WeightsFile, **bound: Any) -> tuple[Net, dict[str, tuple[int | None, int | None]]]:
    """The net, and the places of time and of the batch among the axes of each input and output.

    None: it has none.
    """
    net, builder = _built(file, True, None, None, True, bound)
    ports = builder.ports
    axes: dict[str, Sequence[Axis]] = {
        port.name: [ports.axes.of(port, i) for i in range(len(port.shape or ()))]
        for port in ports.graph.inputs
    }
    axes |= {name: one.axes for name, one in ports.results.items() if isinstance(one, (Symbol, Places))}

    def place(own: Sequence[Axis], kind: str) -> int | None:
        return next((i for i, axis in enumerate(own) if has(axis, kind)), None)

    return net, {name: (place(own, TIME), place(own, BATCH)) for name, own in axes.items()}


def _built(
    file: WeightsFile,
    states: bool,
    shapes: Mapping[str, Sequence[int | None]] | None,
    outputs: Sequence[str] | None,
    int8: bool,
    bound: dict[str, Any],
) -> tuple[Net, Builder]:
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
    return settled(file, learned, model, arrays, states, int8)


def _array_for(port: Port, value: Any) -> Array:
    """The numbers that an input is bound to."""
    kind = np.float32 if port.dtype.startswith(("float", "bfloat")) else np.dtype(port.dtype)
    array = np.asarray(value, kind)
    if port.shape == (1,) and array.ndim == 0:
        array = array.reshape(1)
    if port.shape is not None and len(port.shape) != array.ndim:
        raise TypeError(f"load: got {port.name} of shape {array.shape}, expected {len(port.shape)} axes")
    return array
