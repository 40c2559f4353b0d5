"""Bodies of Scan and Loop drawn at random, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_files import loaded, node, run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DRAWS = 120


class Body:
    """A body that grows: its nodes, the sizes of its values, and the constants around it."""

    def __init__(self, rng: np.random.Generator, sizes: dict[str, int]) -> None:
        self.rng, self.sizes = rng, dict(sizes)
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, *shape: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = (self.rng.standard_normal(shape) * 0.5).astype(np.float32)
        return name

    def any(self, size: int | None = None) -> str:
        return str(self.rng.choice([name for name, own in self.sizes.items() if size in (None, own)]))

    def new(self, op: str, *inputs: str, size: int, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op, " ".join(inputs), name, **attributes))
        self.sizes[name] = size
        return name

    def matrix(self, name: str, size: int) -> str:
        own = self.sizes[name]
        if self.rng.random() < 0.5:
            return self.new("MatMul", name, self.constant(own, size), size=size)
        return self.new("Gemm", name, self.constant(size, own), self.constant(size), size=size, transB=1)

    def grow(self) -> None:
        """One more operation on values of a step."""
        one = self.any()
        size = self.sizes[one]
        match self.rng.integers(6):
            case 0:
                op = str(self.rng.choice(["Sigmoid", "Tanh", "Relu", "Neg", "Abs", "Softsign"]))
                self.new(op, one, size=size)
            case 1:
                self.matrix(one, int(self.rng.integers(1, 6)))
            case 2:
                op = str(self.rng.choice(["Add", "Mul", "Sub", "Max", "Min"]))
                self.new(op, one, self.any(size), size=size)
            case 3:
                other = self.any()
                self.new("Concat", one, other, size=size + self.sizes[other], axis=1)
            case 4:
                self.new("Add", one, self.constant(size), size=size)
            case _:
                self.new("Softmax", one, size=size, axis=-1)


def drawn(seed: int) -> tuple[Any, dict[str, Any], list[str], dict[str, bool]]:
    """A model, its inputs, its outputs, and which of its sequences have the batch first."""
    rng = np.random.default_rng(seed)
    features, steps, rows = (int(rng.integers(1, most)) for most in (6, 8, 4))
    states = {f"s{i}": int(rng.integers(1, 6)) for i in range(rng.integers(1, 4))}
    body = Body(rng, {**states, "step": features})
    for _ in range(rng.integers(2, 9)):
        body.grow()
    after = []
    for i, (name, size) in enumerate(states.items()):
        new = body.matrix("step" if i == 0 else body.any(), size)
        if rng.random() < 0.7:
            new = body.new("Add", new, body.matrix(name, size), size=size)
        after.append(body.new("Tanh", new, size=size))
    written = [body.new("Identity", one, size=1) for one in (after[0], body.any())]
    port = onnx.helper.make_tensor_value_info
    is_loop, first = rng.random() < 0.4, {"x": False, "y": False}
    ports, results = ([port(name, 1, None) for name in names] for names in (states, [*after, *written]))
    outputs = [*(f"{name}n" for name in states), "y0", "y1"]
    starts = " ".join(f"{name}0" for name in states)
    if is_loop:
        nodes = [node("Gather", "x i", "step", axis=0), *body.nodes, node("Identity", "go", "on")]
        ports, results = [port("i", 7, []), port("go", 9, []), *ports], [port("on", 9, []), *results]
        graph = onnx.helper.make_graph(nodes, "body", ports, results)
        body.constants["zero"] = np.int64(0)
        loop = node("Loop", f"n - {starts}", " ".join(outputs), body=graph)
        nodes = [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "n"), loop]
    else:
        graph = onnx.helper.make_graph(body.nodes, "body", [*ports, port("step", 1, None)], results)
        first = {name: bool(rng.random() < 0.3) for name in first}
        axes = {"scan_input_axes": [int(first["x"])], "scan_output_axes": [int(first["y"])] * 2}
        nodes = [node("Scan", f"{starts} x", " ".join(outputs), body=graph, num_scan_inputs=1, **axes)]
    x = rng.standard_normal((steps, rows, features)).astype(np.float32)
    given = {"x": x.swapaxes(0, 1) if first["x"] else x}
    shapes: dict[str, list[Any]] = {"x": ["b", "t", features] if first["x"] else ["t", "b", features]}
    for name, size in states.items():
        given[f"{name}0"] = (rng.standard_normal((rows, size)) * 0.5).astype(np.float32)
        shapes[f"{name}0"] = ["b", size]
    model = onnx.helper.make_graph(
        nodes,
        "test",
        [port(name, 1, shape) for name, shape in shapes.items()],
        [port(name, 1, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in body.constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(model, opset_imports=opsets, ir_version=8), given, outputs, first


@pytest.mark.parametrize("part", range(4))
def test_loops_agree_with_the_runtime(part, tmp_path):
    for draw in range(part, DRAWS, 4):
        model, given, outputs, first = drawn(draw)
        expected = dict(zip(outputs, run(model, *given.values()), strict=True))
        net = loaded(model, tmp_path, states=False)
        arrays = {name: given[name] for name in net._inputs}
        arrays["x"] = given["x"].swapaxes(0, 1) if first["x"] else given["x"]
        found = net(arrays if len(arrays) > 1 else arrays["x"])
        for name, one in found.items():
            wanted = expected[name].swapaxes(0, 1) if first["y"] and name[0] == "y" else expected[name]
            assert one.size == wanted.size, (draw, name)
            assert np.abs(one.reshape(wanted.shape) - wanted).max() <= 2e-5, (draw, name)
