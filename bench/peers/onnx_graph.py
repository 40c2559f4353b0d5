"""The net as ONNX, for the peers that read it: inputs x and the states, outputs y and the new states."""

from __future__ import annotations

from typing import Any

import numpy as np
from work import Array, Work


def state_names(work: Work) -> list[str]:
    kinds = ["h", "c"] if work.kind == "LSTM" else ["h"]
    return [f"{kind}{level}" for level in range(work.layers) for kind in kinds]


def state_shape(work: Work) -> tuple[int, int, int]:
    return (work.directions, work.batch, work.hidden)


def onnx_model(work: Work) -> Any:
    """A ModelProto; the new state of h0 is h0n. y is (steps, directions, batch, hidden)."""
    from onnx import TensorProto, helper, numpy_helper

    order = [0, 3, 1, 2] if work.kind == "LSTM" else [1, 0, 2]  # i f g o -> i o f c, r z n -> z r h

    def reorder(name: str, level: int) -> Array:
        arrays = work.both(name, level)
        return np.stack([a.reshape(work.gates, work.hidden, -1)[order].reshape(a.shape) for a in arrays])

    def info(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    options: dict[str, Any] = {"hidden_size": work.hidden}
    if work.bidirectional:
        options["direction"] = "bidirectional"
    if work.kind == "GRU":
        options["linear_before_reset"] = 1
    names = state_names(work)
    kinds = len(names) // work.layers
    tensors: dict[str, Any] = {} if work.layers == 1 else {"axis": np.array([1], np.int64)}
    nodes, below = [], "x"
    for level in range(work.layers):
        tensors[f"W{level}"] = reorder("weight_ih", level)
        tensors[f"R{level}"] = reorder("weight_hh", level)
        biases = [reorder("bias_ih", level), reorder("bias_hh", level)]
        tensors[f"b{level}"] = np.concatenate(biases, axis=1)
        states = names[kinds * level : kinds * (level + 1)]
        last = level + 1 == work.layers
        above = "y" if last else f"y{level}"
        inputs = [below, f"W{level}", f"R{level}", f"b{level}", "", *states]
        nodes.append(helper.make_node(work.kind, inputs, [above, *[f"{s}n" for s in states]], **options))
        if not last:  # one direction: (steps, 1, batch, hidden) to (steps, batch, hidden)
            below = f"x{level + 1}"
            nodes.append(helper.make_node("Squeeze", [above, "axis"], [below]))
    shape = state_shape(work)
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", *work.x.shape), *[info(name, *shape) for name in names]],
        [info("y", work.steps, *shape), *[info(f"{name}n", *shape) for name in names]],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
