"""Sound small ONNX files, of all that a graph may have."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import model, node


def zeros(*shape):
    return np.zeros(shape, np.float32)


LSTM = {"W": zeros(2, 12, 4), "R": zeros(2, 12, 3), "B": zeros(2, 24)}


def good() -> dict[str, bytes]:
    """The files by name."""
    onnx = pytest.importorskip("onnx")
    then = onnx.helper.make_graph([node("Relu", "x", "t")], "t", [], [])
    then.output.append(onnx.helper.make_tensor_value_info("t", 1, None))
    other = onnx.helper.make_graph([node("Tanh", "x", "e")], "e", [], [])
    other.output.append(onnx.helper.make_tensor_value_info("e", 1, None))
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [node("Gather", "x i", "a", axis=0), node("Add", "a before", "b"), node("Identity", "b", "y1")],
        "body",
        [value("i", 7, []), value("go", 9, []), value("before", 1, None)],
        [value("go", 9, []), value("b", 1, None), value("y1", 1, None)],
    )
    graphs = {
        "cell": model(
            [
                node("LSTM", "x W R B - h c", "a h1 c1", hidden_size=3, direction="bidirectional"),
                node("Transpose", "a", "b", perm=[0, 2, 1, 3]),
                node("Reshape", "b s", "d"),
                node("MatMul", "d V"),
            ],
            {"x": ("steps", "rows", 4), "h": (2, "rows", 3), "c": (2, "rows", 3)},
            ["y", "h1", "c1"],
            s=np.int64([0, 0, -1]),
            V=zeros(6, 2),
            **LSTM,
        ),
        "loop": model(
            [
                node("Shape", "x", "s"),
                node("Gather", "s i", "n"),
                node("Loop", "n - h", "hn y", body=body),
            ],
            {"x": ("steps", "rows", 4), "h": ("rows", 4)},
            ["y", "hn"],
            i=np.int64(0),
        ),
        "codes": model(
            [
                node("DequantizeLinear", "q t z", "w", axis=0, block_size=2),
                node("DynamicQuantizeLinear", "x", "a u v"),
                node("MatMulInteger", "a k v", "m"),
                node("Cast", "m", "f", to=1),
                node("Mul", "f u", "g"),
                node("QuantizeLinear", "g one b", "c"),
                node("DequantizeLinear", "c one b", "d"),
                node("MatMul", "d w", "e"),
                node("Resize", "e - scales", mode="nearest"),
            ],
            {"x": ("rows", 4)},
            ["y"],
            21,
            q=np.zeros((4, 6), np.int8),
            t=zeros(2, 6) + 1,
            z=np.zeros((2, 6), np.int8),
            k=np.zeros((4, 4), np.int8),
            one=np.float32(1),
            b=np.uint8(3),
            scales=np.float32([1, 2]),
        ),
        "frames": model(
            [
                node("Shape", "x", "s"),
                node("Gather", "s i", "n"),
                node("ConstantOfShape", "n", "f"),
                node("Conv", "x C", "a", pads=[1, 1]),
                node("Slice", "a i j k", "b"),
                node("Softmax", "b", "d"),
                node("Concat", "d a", "e", axis=2),
                node("ReduceMean", "e", axes=[2]),
            ],
            {"x": ("rows", 4, 6)},
            ["y"],
            i=np.int64([1]),
            j=np.int64([4]),
            k=np.int64([2]),
            C=zeros(5, 4, 3),
        ),
        "if": model(
            [node("Less", "p q", "c"), node("If", "c", then_branch=then, else_branch=other)],
            {"x": ("rows", 4)},
            ["y"],
            p=np.float32(1),
            q=np.float32(2),
        ),
    }
    leaky = node("LeakyRelu", "h", "b")
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=1))
    opsets = [onnx.helper.make_opsetid(domain, 17) for domain in ("", "own")]
    own = onnx.helper.make_node("Own", ["x", "v"], ["y"], domain="own", slope=0.5)
    graphs["function"] = model([own], {"x": ("rows", 4)}, ["y"], v=zeros(4, 3))
    graphs["function"].opset_import.append(opsets[1])
    graphs["function"].functions.append(
        onnx.helper.make_function(
            "own", "Own", ["a", "w"], ["b"], [node("MatMul", "a w", "h"), leaky], opsets, ["slope"]
        )
    )
    return {name: found.SerializeToString() for name, found in graphs.items()}
