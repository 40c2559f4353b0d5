"""Operators that ONNX Runtime's optimiser makes of several, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import close, loaded, model, node, run

import tinyrnn as tr
from tinyrnn.onnx import fused
from tinyrnn.onnx.operators import MICROSOFT

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "b": numbers(8),
    "c": numbers(8, seed=1),
    "m": numbers(8, 5),
    "n": numbers(5, 8),
    "v": numbers(5),
    "k": numbers(3, 4, 3),
    "k1": numbers(4, 4, 1),
    "d": numbers(3),
}


def microsoft(op, inputs, outputs="y", **attributes):
    found = node(op, inputs, outputs, domain="com.microsoft", **attributes)
    found.output[:] = ["" if name == "-" else name for name in found.output]
    return found


CASES = {
    "Gelu": [microsoft("Gelu", "x")],
    "BiasGelu": [microsoft("BiasGelu", "x b")],
    "FastGelu": [microsoft("FastGelu", "x")],
    "FastGelu bias": [microsoft("FastGelu", "x b")],
    "QuickGelu": [microsoft("QuickGelu", "x")],
    "SiLU": [microsoft("QuickGelu", "x", alpha=1.0)],
    "FusedMatMul": [microsoft("FusedMatMul", "x m", alpha=0.3)],
    "FusedMatMul turned": [microsoft("FusedMatMul", "x n", transB=1)],
    "FusedMatMul of values": [microsoft("FusedMatMul", "x x", alpha=0.3, transB=1)],
    "FusedGemm": [
        node("ReduceMax", "x", "r", axes=[1], keepdims=0),
        microsoft("FusedGemm", "r n v", transB=1, activation="LeakyRelu", activation_alpha=0.2),
    ],
    "FusedConv": [microsoft("FusedConv", "x k d", activation="Relu")],
    "FusedConv HardSigmoid": [
        microsoft("FusedConv", "x k", activation="HardSigmoid", activation_params=[0.3, 0.4])
    ],
    "FusedConv sum": [microsoft("FusedConv", "x k1 - x", activation="Tanh", pads=[0, 0])],
    "SkipLayerNormalization": [
        node("Relu", "x", "r"),
        microsoft("SkipLayerNormalization", "x r b", "s"),
        microsoft("SkipLayerNormalization", "x s b c b", "z - - t", epsilon=1e-3),
        node("Add", "z t"),
    ],
}


def of_microsoft(found):
    found.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return found


@pytest.mark.parametrize("name", CASES)
def test_of_frames(name, tmp_path):
    used = {one for each in CASES[name] for one in each.input}
    constants = {key: array for key, array in CONSTANTS.items() if key in used}
    found = of_microsoft(model(CASES[name], {"x": ("rows", 4, 8)}, ["y"], **constants))
    x = numbers(3, 4, 8, seed=2)
    close(loaded(found, tmp_path)(x), run(found, x)[0])


def test_no_operator_is_left_out():
    tested = {one.op_type for nodes in CASES.values() for one in nodes}
    assert {name for name, one in MICROSOFT.items() if one.__module__ == fused.__name__} <= tested


def test_others_are_named_with_their_domain(tmp_path):
    found = of_microsoft(model([microsoft("BiasSplitGelu", "x b")], {"x": (2, 4, 8)}, ["y"], b=numbers(8)))
    with pytest.raises(tr.LoadError, match="the operator BiasSplitGelu of com.microsoft is not known"):
        loaded(found, tmp_path)
    clipped = microsoft("FusedConv", "x k", activation="Clip", activation_params=[0.0, 6.0])
    with pytest.raises(tr.LoadError, match="activation is Clip, expected one of HardSigmoid, LeakyRelu"):
        loaded(of_microsoft(model([clipped], {"x": (2, 4, 8)}, ["y"], k=CONSTANTS["k"])), tmp_path)


def test_a_file_that_the_runtime_optimised(tmp_path):
    nodes = [
        node("Transpose", "x", "t", perm=[1, 2, 0]),
        node("Conv", "t k d", "c", pads=[1, 1]),
        node("Relu", "c", "r"),
        node("Transpose", "r", "u", perm=[2, 0, 1]),
        node("LSTM", "u W R", "h", hidden_size=4),
        node("Squeeze", "h one", "z"),
        node("Sigmoid", "z", "s"),
        node("Mul", "z s", "q"),
        node("Mul", "q half", "p"),
        node("MatMul", "p m"),
    ]
    constants = {"W": numbers(1, 16, 3), "R": numbers(1, 16, 4), "one": np.int64([1])}
    constants |= {"k": CONSTANTS["k"], "d": CONSTANTS["d"], "m": numbers(4, 5), "half": np.float32(0.5)}
    found = model(nodes, {"x": ("steps", "rows", 4)}, ["y"], **constants)
    options, path = runtime.SessionOptions(), tmp_path / "optimised.onnx"
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    runtime.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert {"FusedConv", "FusedMatMul", "QuickGelu"} <= {one.op_type for one in onnx.load(path).graph.node}
    x = numbers(9, 2, 4)
    close(tr.load(path)(x), run(found, x)[0])
