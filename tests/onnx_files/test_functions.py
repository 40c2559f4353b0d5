"""Operators that a file defines itself, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import close, loaded, model, node, run

import tinyrnn as tr

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

OPSETS = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_argument(op, inputs, outputs, name, of, kind):
    """A node whose attribute is an argument of its function."""
    made = node(op, inputs, outputs)
    made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=of, type=kind))
    return made


def own(op, inputs, outputs, **attributes):
    return onnx.helper.make_node(op, inputs.split(), outputs.split(), domain="own", **attributes)


def function(name, inputs, outputs, nodes, arguments=(), defaults=()):
    return onnx.helper.make_function(
        "own", name, inputs.split(), outputs.split(), nodes, OPSETS, list(arguments), list(defaults)
    )


LEAKY = function(
    "Leaky",
    "a",
    "b",
    [
        with_argument("LeakyRelu", "a", "h", "alpha", "slope", onnx.AttributeProto.FLOAT),
        node("Neg", "h", "b"),
    ],
    defaults=[onnx.helper.make_attribute("slope", 0.25)],
)
GATE = function(
    "Gate",
    "a w c",
    "b s",
    [
        node("Gemm", "a w c", "h"),
        own("Leaky", "h", "l", slope=0.5),
        node("Sigmoid", "h", "s"),
        node("Mul", "l s", "b"),
    ],
)
CELLS = function(
    "Cells",
    "x w r",
    "y",
    [
        with_argument("GRU", "x w r", "g", "hidden_size", "size", onnx.AttributeProto.INT),
        node("Constant", "", "one", value=onnx.numpy_helper.from_array(np.int64([1]))),
        node("Squeeze", "g one", "y"),
    ],
    arguments=["size"],
)
WEIGHTS = {"w": numbers(6, 3), "c": numbers(3), "W": numbers(1, 6, 4), "R": numbers(1, 6, 2, seed=1)}

CASES = {
    "default": ([own("Leaky", "x", "y")], ("rows", 6), (5, 6)),
    "argument": ([own("Leaky", "x", "y", slope=0.75)], ("rows", 6), (5, 6)),
    "twice, nested, two outputs": (
        [own("Gate", "x w c", "b s"), own("Gate", "x w c", "b2 s2"), node("Sub", "b s2", "y")],
        ("rows", 6),
        (5, 6),
    ),
    "a layer over time": ([own("Cells", "x W R", "y", size=2)], ("steps", "rows", 4), (7, 3, 4)),
}


def defined(nodes, shape):
    used = {name for one in nodes for name in one.input}
    found = model(nodes, {"x": shape}, ["y"], **{k: v for k, v in WEIGHTS.items() if k in used})
    found.functions.extend([LEAKY, GATE, CELLS])
    del found.opset_import[:]
    found.opset_import.extend(OPSETS)
    return found


@pytest.mark.parametrize("name", CASES)
def test_functions(name, tmp_path):
    nodes, shape, sizes = CASES[name]
    found = defined(nodes, shape)
    x = numbers(*sizes, seed=3)
    close(loaded(found, tmp_path)(x), run(found, x)[0], 1e-5)


def test_functions_that_call_each_other_for_ever(tmp_path):
    found = defined([own("Round", "x", "y")], ("rows", 6))
    found.functions.append(function("Round", "a", "b", [own("Round", "a", "b")]))
    with pytest.raises(tr.LoadError, match="got more than 32 functions within each other"):
        loaded(found, tmp_path)


def test_functions_that_double_at_each_level(tmp_path):
    found = defined([own("F0", "x", "y")], ("rows", 6))
    for i in range(30):
        nodes = [own(f"F{i + 1}", "a", "h"), own(f"F{i + 1}", "h", "b")]
        found.functions.append(function(f"F{i}", "a", "b", nodes))
    found.functions.append(function("F30", "a", "b", [node("Relu", "a", "b")]))
    with pytest.raises(tr.LoadError, match="got more than 20000 operations"):
        loaded(found, tmp_path)


def test_an_argument_outside_a_function(tmp_path):
    nodes = [with_argument("LeakyRelu", "x", "y", "alpha", "slope", onnx.AttributeProto.FLOAT)]
    with pytest.raises(tr.LoadError, match="alpha: got a function's argument, expected a value"):
        loaded(model(nodes, {"x": ("rows", 6)}, ["y"]), tmp_path)


def test_a_function_without_its_argument(tmp_path):
    bad = defined([own("Cells", "x W", "y", size=2)], ("steps", "rows", 4))
    with pytest.raises(tr.LoadError, match="input R is nothing, expected constant numbers"):
        loaded(bad, tmp_path)


def test_weights_of_branches_and_constants(tmp_path):
    """Initializers and constants, both of them in the branches of an `If`, too."""

    def branch(seed):
        weight = onnx.numpy_helper.from_array(numbers(3, 3, seed=seed), "w")
        nodes = [
            node("Constant", "", "b", value=onnx.numpy_helper.from_array(numbers(3, seed=seed + 1), "any")),
            node("Constant", "", "axes", value=onnx.numpy_helper.from_array(np.array([1]), "any")),
            node("Gemm", "x w b", "z"),
        ]
        return onnx.helper.make_graph(
            nodes, "inner", [], [onnx.helper.make_tensor_value_info("z", 1, None)], [weight]
        )

    one = node("If", "chosen", "y", then_branch=branch(1), else_branch=branch(3), name="if")
    path = tmp_path / "model.onnx"
    path.write_bytes(
        model([one], {"x": (2, 3), "chosen": (bool, (1,))}, ["y"], w0=numbers(2)).SerializeToString()
    )
    weights = tr.load_weights(path)
    assert list(weights) == ["w0", "w", "b", "if.then_branch.w", "if.then_branch.b"]
    for name, seed in (("w", 3), ("b", 4), ("if.then_branch.w", 1), ("if.then_branch.b", 2)):
        np.testing.assert_array_equal(weights[name], numbers(*weights[name].shape, seed=seed))
