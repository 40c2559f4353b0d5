"""Each operator that is claimed, in frames and over time, against ONNX Runtime."""

from __future__ import annotations

import re

import numpy as np
import pytest
from folders import DOCS
from onnx_files import close, loaded, model, node, run

import tinyrnn as tr
from tinyrnn.onnx.folding import FOLDS
from tinyrnn.onnx.operators import OPERATORS

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROWS = 5


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# By name: the nodes of a graph that reads x, the frame of x, and its constants.
def one(op, *more, frame=(4, 6), opset=17, **attributes):
    """A node that reads x and constants."""
    names = " ".join(["x", *(f"c{i}" for i in range(len(more)))])
    return [node(op, names, **attributes)], frame, {f"c{i}": array for i, array in enumerate(more)}, opset


V6, V4, M = numbers(6, seed=1), numbers(4, 1, seed=2), numbers(6, 3, seed=3)
INTS = np.int64

CASES = {
    **{
        op: one(op)
        for op in (
            *("Abs", "Exp", "HardSwish", "Neg", "Relu", "Selu", "Sigmoid", "Sign", "Softplus"),
            *("Softsign", "Tanh", "Celu", "Elu", "HardSigmoid", "LeakyRelu"),
        )
    },
    "Mish": one("Mish", opset=18),
    "Celu 2": one("Celu", alpha=2.0),
    "Elu 2": one("Elu", alpha=2.0),
    "HardSigmoid 2": one("HardSigmoid", alpha=0.3, beta=0.4),
    "LeakyRelu 2": one("LeakyRelu", alpha=0.3),
    "Sqrt": ([node("Abs", "x", "a"), node("Sqrt", "a")], (4, 6), {}, 17),
    "Log": ([node("Exp", "x", "a"), node("Log", "a")], (4, 6), {}, 17),
    "Reciprocal": ([node("Exp", "x", "a"), node("Reciprocal", "a")], (4, 6), {}, 17),
    "Gelu": one("Gelu", opset=20),
    "Gelu tanh": one("Gelu", opset=20, approximate="tanh"),
    "Clip": one("Clip", np.float32(-0.5), np.float32(0.7)),
    "Clip 6": one("Clip", opset=6, min=-0.5, max=0.7),
    "PRelu": one("PRelu", np.float32([0.3])),
    "PRelu columns": one("PRelu", numbers(6)),
    "PRelu all": one("PRelu", numbers(4, 6)),
    "CastLike": ([node("CastLike", "x c", "a"), node("Relu", "a")], (4, 6), {"c": np.float32(1)}, 17),
    "CastLike constant": ([node("CastLike", "c x", "a"), node("Add", "a x")], (4, 6), {"c": INTS(3)}, 17),
    "Quantize Pad constants": (
        [
            node("QuantizeLinear", "c s z", "q", axis=0),
            node("DequantizeLinear", "q s z", "d", axis=0),
            node("Pad", "d p f", "e"),
            node("Erf", "e", "g"),
            node("Sum", "g e", "h"),
            node("Mul", "x h"),
        ],
        (4, 6),
        {
            "c": numbers(4, 3),
            "s": np.float32([0.1, 0.02, 0.3, 0.01]),
            "z": np.int8([3, 0, -4, 1]),
            "p": INTS([0, 1, 0, 2]),
            "f": np.float32(0.5),
        },
        17,
    ),
    "PRelu channels": one("PRelu", numbers(4, 1)),
    **{f"{op} number": one(op, np.float32(0.3)) for op in ("Add", "Sub", "Mul", "Div")},
    "Identity": ([node("Identity", "x", "a"), node("Relu", "a")], (4, 6), {}, 17),
    "Less number": ([node("Less", "x c", "a"), node("Cast", "a", to=1)], (4, 6), {"c": np.float32(0.3)}, 17),
    "Greater vector": ([node("Greater", "x c", "a"), node("Cast", "a", to=1)], (4, 6), {"c": V6}, 17),
    **{f"{op} vector": one(op, V6) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    **{f"{op} column": one(op, V4) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    "Sub from": ([node("Sub", "c x")], (4, 6), {"c": np.float32(1)}, 17),
    "Div below": ([node("Exp", "x", "a"), node("Div", "c a")], (4, 6), {"c": V6}, 17),
    "Pow 2": one("Pow", np.float32(2)),
    "Pow 3": one("Pow", np.float32(3)),
    "Pow half": ([node("Abs", "x", "a"), node("Pow", "a c")], (4, 6), {"c": np.float32(0.5)}, 17),
    "Pow of values": ([node("Abs", "x", "a"), node("Pow", "a x")], (4, 6), {}, 17),
    "Sum": ([node("Tanh", "x", "a"), node("Sum", "x a x")], (4, 6), {}, 17),
    "Where": ([node("Less", "x c", "a"), node("Where", "a x c")], (4, 6), {"c": np.float32(0.2)}, 17),
    "And Or Not": (
        [
            node("Less", "x c", "a"),
            node("GreaterOrEqual", "d x", "b"),
            node("And", "a b", "e"),
            node("Not", "a", "f"),
            node("Or", "f b", "g"),
            node("And", "g e", "h"),
            node("Cast", "h", to=1),
        ],
        (4, 6),
        {"c": np.float32(0.2), "d": np.float32(-0.4)},
        17,
    ),
    "LessOrEqual Equal": (
        [
            node("LessOrEqual", "x c", "a"),
            node("Relu", "x", "r"),
            node("Equal", "r d", "b"),
            node("Or", "a b", "e"),
            node("Where", "e x d"),
        ],
        (4, 6),
        {"c": np.float32(-0.2), "d": np.float32(0)},
        17,
    ),
    # axes
    "Reshape": one("Reshape", INTS([0, 3, -1])),
    "Reshape two": one("Reshape", INTS([-1, 2, 2, 6])),
    "Flatten": one("Flatten"),
    "Transpose": one("Transpose", perm=[0, 2, 1]),
    "Transpose four": (
        [node("Reshape", "x s", "a"), node("Transpose", "a", "b", perm=[0, 3, 1, 4, 2]), node("Relu", "b")],
        (4, 6),
        {"s": INTS([0, 2, 2, 2, 3])},
        17,
    ),
    "Transpose three": one("Transpose", frame=(2, 3, 4), perm=[0, 3, 1, 2]),
    "Unsqueeze Squeeze": (
        [node("Unsqueeze", "x a", "b"), node("Relu", "b", "c"), node("Squeeze", "c d")],
        (4, 6),
        {"a": INTS([1, 3]), "d": INTS([1])},
        17,
    ),
    "Squeeze 11": ([node("Squeeze", "x", axes=[1])], (1, 6), {}, 11),
    "Tile": one("Tile", INTS([1, 3, 2])),
    "Expand": one("Expand", INTS([1, 4, 6]), frame=(4, 1)),
    "Slice": one("Slice", INTS([1, -4]), INTS([3, 2**62]), INTS([1, 2])),
    "Slice turned": one("Slice", INTS([-1]), INTS([-(2**62)]), INTS([1]), INTS([-1])),
    "Slice 9": ([node("Slice", "x", starts=[1], ends=[3], axes=[2])], (4, 6), {}, 9),
    "Gather": one("Gather", INTS([2, 0, 1, -1]), axis=2),
    "Gather one": one("Gather", INTS(3), axis=1),
    "Split": (
        [node("Split", "x s", "a b", axis=2), node("Concat", "b a", axis=2)],
        (4, 6),
        {"s": INTS([2, 4])},
        17,
    ),
    "Split even": ([node("Split", "x", "a b", axis=1), node("Mul", "a b")], (4, 6), {}, 17),
    "Concat": ([node("Tanh", "x", "a"), node("Concat", "x a x", axis=1)], (4, 6), {}, 17),
    "Concat last": ([node("Tanh", "x", "a"), node("Concat", "x a", axis=-1)], (4, 6), {}, 17),
    "Pad": one("Pad", INTS([0, 1, 2, 0, 0, 3]), np.float32(0.5)),
    "Pad reflect": one("Pad", INTS([0, 0, 2, 0, 0, 3]), mode="reflect"),
    "Pad edge": one("Pad", INTS([0, 2, 0, 0, 1, 0]), mode="edge"),
    "Pad 10": ([node("Pad", "x", pads=[0, 1, 0, 0, 0, 2])], (4, 6), {}, 10),
    "Dropout": ([node("Dropout", "x", "a"), node("Relu", "a")], (4, 6), {}, 17),
    # products
    "MatMul": one("MatMul", M),
    "MatMul vector": one("MatMul", V6),
    "MatMul left": ([node("MatMul", "c x")], (4, 6), {"c": numbers(3, 4)}, 17),
    "MatMul Add": ([node("MatMul", "x c", "a"), node("Add", "a d")], (4, 6), {"c": M, "d": numbers(3)}, 17),
    "MatMul values": (
        [node("Transpose", "x", "a", perm=[0, 2, 1]), node("MatMul", "x a")],
        (4, 6),
        {},
        17,
    ),
    **{
        f"Einsum {equation}": ([node("Einsum", names, equation=equation)], (4, 6), {"c": array}, 17)
        for equation, names, array in (
            ("bij,jk->bik", "x c", numbers(6, 3)),
            ("bij,kj->bki", "x c", numbers(3, 6)),
            ("ki,bij->bkj", "c x", numbers(3, 4)),
            ("bij,i", "x c", numbers(4)),
        )
    },
    "Einsum values": (
        [node("Tanh", "x", "t"), node("Einsum", "x t", equation="bij,bkj->bki")],
        (4, 6),
        {},
        17,
    ),
    "Einsum one letter": (
        [node("Tanh", "x", "t"), node("Einsum", "x t", equation="bij,bij->bi")],
        (4, 6),
        {},
        17,
    ),
    "Gemm": ([node("Gemm", "x c d", alpha=0.5, beta=2.0)], (6,), {"c": M, "d": numbers(3)}, 17),
    "Gemm turned": ([node("Gemm", "x c", transB=1)], (6,), {"c": numbers(3, 6)}, 17),
    "Slice every third": one("Slice", *map(INTS, ([0, 1], [9, 6], [1, 2], [1, 3]))),
    "Slice every second of four": one("Slice", *map(INTS, ([1], [9], [2], [2])), frame=(3, 7, 5)),
    "Slice from the end": one("Slice", *map(INTS, ([-2, -1], [-99, -99], [1, 2], [-2, -1]))),
    # windows
    "Conv": one("Conv", numbers(5, 4, 3), numbers(5), pads=[1, 1]),
    "Conv uneven": one("Conv", numbers(5, 4, 3), pads=[2, 0], strides=[2]),
    "Conv groups": one("Conv", numbers(4, 2, 2), group=2, dilations=[2]),
    "Conv same": one("Conv", numbers(5, 4, 4), auto_pad="SAME_UPPER", strides=[2]),
    "Conv 1": one("Conv", numbers(5, 4, 1), numbers(5)),
    "Conv 2d": one(
        "Conv", numbers(3, 2, 3, 2), numbers(3), frame=(2, 7, 6), pads=[1, 0, 1, 0], strides=[2, 1]
    ),
    "Conv 2d uneven": one("Conv", numbers(3, 2, 3, 2), frame=(2, 7, 6), pads=[0, 1, 2, 0]),
    "MaxPool": one("MaxPool", kernel_shape=[2], strides=[2]),
    "MaxPool ceil": one("MaxPool", kernel_shape=[3], strides=[2], ceil_mode=1),
    "Selu 2": one("Selu", alpha=2.0, gamma=3.0),
    "MaxPool uneven": one("MaxPool", kernel_shape=[3], pads=[1, 0]),
    "MaxPool 2d": one("MaxPool", frame=(2, 7, 6), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "AveragePool": one("AveragePool", kernel_shape=[3], pads=[1, 1]),
    "AveragePool counted": one("AveragePool", kernel_shape=[3], pads=[1, 1], count_include_pad=1),
    "GlobalAveragePool": one("GlobalAveragePool", frame=(2, 7, 6)),
    "GlobalMaxPool": one("GlobalMaxPool"),
    "ConvTranspose": one("ConvTranspose", numbers(4, 3, 3), numbers(3), strides=[2], pads=[1, 1]),
    "ConvTranspose uneven": one("ConvTranspose", numbers(4, 3, 3), strides=[2], pads=[2, 0]),
    "ConvTranspose more": one(
        "ConvTranspose", numbers(4, 1, 3), group=2, strides=[3], dilations=[2], output_padding=[1]
    ),
    "Upsample": one("Upsample", np.float32([1, 1, 3]), opset=9),
    "Upsample channels": one("Upsample", np.float32([1, 2, 1]), opset=9),
    **{
        f"Resize {mode} {way} {rounds} {size}": (
            [
                node(
                    "Resize",
                    "x - - s" if isinstance(size, int) else "x - s",
                    mode=mode,
                    coordinate_transformation_mode=way,
                    nearest_mode=rounds,
                )
            ],
            (4, 6),
            {"s": INTS([ROWS, 4, size]) if isinstance(size, int) else np.float32([1, 1, size])},
            17,
        )
        for mode, way, rounds, size in (
            ("nearest", "asymmetric", "floor", 2.0),
            ("nearest", "half_pixel", "round_prefer_floor", 12),
            ("nearest", "half_pixel", "round_prefer_ceil", 9),
            ("nearest", "asymmetric", "ceil", 4),
            ("linear", "half_pixel", "round_prefer_floor", 2.0),
            ("linear", "pytorch_half_pixel", "round_prefer_floor", 1),
            ("linear", "align_corners", "round_prefer_floor", 11),
            ("linear", "asymmetric", "round_prefer_floor", 0.5),
        )
    },
    # reductions and norms
    **{
        f"{op} {keep}": ([node(op, "x", axes=[2], keepdims=keep)], (4, 6), {}, 12)
        for op in (
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        )
        for keep in (0, 1)
    },
    "ReduceMean two": ([node("ReduceMean", "x", axes=[1, 3])], (2, 3, 4), {}, 12),
    "ReduceSum 13": one("ReduceSum", INTS([1])),
    "ReduceL2 one": ([node("ReduceL2", "x", axes=[1])], (1, 6), {}, 17),
    "Softmax": one("Softmax"),
    "Softmax rows": one("Softmax", axis=1),
    "LogSoftmax": one("LogSoftmax", axis=-1),
    "BatchNormalization": one("BatchNormalization", V4[:, 0], V4[:, 0], V4[:, 0], V4[:, 0] ** 2),
    "LayerNormalization": one("LayerNormalization", V6, V6),
    "LayerNormalization statistics": (
        [
            node("LayerNormalization", "x c", "a m d", axis=1),
            node("Mul", "a m", "b"),
            node("Div", "b d"),
        ],
        (4, 6),
        {"c": numbers(4, 6)},
        17,
    ),
    "LayerNormalization two": one("LayerNormalization", numbers(4, 6), axis=1),
    "InstanceNormalization": one("InstanceNormalization", V4[:, 0], V4[:, 0]),
    "InstanceNormalization of one number": one("InstanceNormalization", V4[:, 0], V4[:, 0], frame=(4, 1)),
    "GroupNormalization": one("GroupNormalization", V4[:, 0], V4[:, 0], opset=21, num_groups=2),
}


@pytest.mark.parametrize("name", CASES)
def test_of_frames(name, tmp_path):
    nodes, frame, constants, opset = CASES[name]
    found = model(nodes, {"x": ("rows", *frame)}, ["y"], opset, **constants)
    x = numbers(ROWS, *frame)
    (expected,) = run(found, x)
    assert expected.size and len(np.unique(expected)) > 1
    close(loaded(found, tmp_path)(x), np.float32(expected), 1e-5)


def test_no_operator_is_left_out():
    tested = {one.op_type for nodes, _, _, _ in CASES.values() for one in nodes}
    elsewhere = {"LSTM", "GRU", "RNN", "Erf", "If"}  # test_published.py, test_exports.py
    elsewhere |= {"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"}  # test_quantised.py
    elsewhere |= {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
    elsewhere |= {"ReverseSequence"}  # below
    elsewhere |= {"Loop", "Scan", "ConcatFromSequence", "SplitToSequence"}  # test_loops.py
    elsewhere |= {"SequenceAt", "SequenceEmpty", "SequenceInsert", "SequenceLength"}
    assert tested | elsewhere == OPERATORS.keys()


# ---- over time ---------------------------------------------------------------------------------------------

LSTM = {"W": numbers(1, 12, 4), "R": numbers(1, 12, 3), "B": numbers(1, 24)}


def over_time(*nodes):
    """Operations on what an LSTM writes, (T, B, 3)."""
    return [node("LSTM", "x W R B", "h", hidden_size=3), node("Squeeze", "h one", "z"), *nodes]


TIMED = {
    "mean": over_time(node("ReduceMean", "z", axes=[0], keepdims=0)),
    "max": over_time(node("ReduceMax", "z", axes=[0], keepdims=0)),
    "min": over_time(node("ReduceMin", "z", axes=[0], keepdims=0)),
    "norm": over_time(node("ReduceL2", "z", axes=[0], keepdims=0)),
    "sum of sizes": over_time(node("ReduceL1", "z", axes=[0], keepdims=0)),
    "sum of squares": over_time(node("ReduceSumSquare", "z", axes=[0], keepdims=0)),
    "less its mean": over_time(node("ReduceMean", "z", "m", axes=[0]), node("Sub", "z m")),
    "softmax": over_time(node("Softmax", "z", axis=0)),
    "log softmax": over_time(node("LogSoftmax", "z", axis=0)),
    "last": over_time(node("Gather", "z last", axis=0)),
    "last kept": over_time(node("Slice", "z last1 end zero")),
    "turned twice": over_time(
        node("Slice", "z last1 begin zero last1", "t"),
        node("Relu", "t", "r"),
        node("Slice", "r last1 begin zero last1"),
    ),
    "turned GRU": over_time(
        node("Slice", "z last1 begin zero last1", "t"),
        node("GRU", "t W2 R2", "g", hidden_size=2),
        node("Slice", "g last1 begin zero last1"),
    ),
    "weighted sum": over_time(
        node("Softmax", "z", "w", axis=0),
        node("Transpose", "w", "a", perm=[1, 2, 0]),
        node("Transpose", "z", "b", perm=[1, 0, 2]),
        node("MatMul", "a b"),
    ),
    "scores": over_time(
        node("Gather", "z last", "q", axis=0),
        node("Einsum", "z q", "s", equation="tbh,bh->bt"),
        node("Softmax", "s", "w", axis=1),
        node("Einsum", "w z", equation="bt,tbh->bh"),
    ),
    "a row is a step": over_time(
        node("Transpose", "z", "a", perm=[1, 0, 2]),
        node("ReduceMean", "z", "m", axes=[0], keepdims=0),
        node("Reshape", "m square", "n"),
        node("MatMul", "a n", "c"),
        node("Transpose", "c", perm=[1, 0, 2]),
    ),
    "a column is a step": over_time(
        node("Transpose", "z", "a", perm=[1, 2, 0]),
        node("ReduceMean", "z", "m", axes=[0], keepdims=0),
        node("Reshape", "m across", "n"),
        node("MatMul", "n a", "c"),
        node("Transpose", "c", perm=[2, 0, 1]),
    ),
    "pool of all": over_time(node("Transpose", "z", "t", perm=[1, 2, 0]), node("GlobalAveragePool", "t")),
    "merged": over_time(
        node("Reshape", "z flat", "f"), node("MatMul", "f V", "m"), node("Reshape", "m unflat")
    ),
    "beside a constant that is the same in all": over_time(
        node("Shape", "z", "s"),
        node("Slice", "s zero begin2", "n"),
        node("Concat", "n two", "t", axis=0),
        node("Expand", "V0 t", "f"),
        node("Concat", "n zero", "u", axis=0),
        node("ConstantOfShape", "u", "e"),
        node("Concat", "z f e", axis=2),
    ),
    "zeros around": over_time(node("Concat", "steps2 z steps1", axis=0)),
    "moved": over_time(
        node("Slice", "z zero last1 zero", "a"), node("Concat", "steps1 a", "b", axis=0), node("Add", "b z")
    ),
    "the shape of a padded one": over_time(
        node("Pad", "z around", "p"),
        node("Shape", "p", "s"),
        node("Gather", "s zero", "n"),
        node("Squeeze", "n zero", "m"),
        node("Cast", "m", "f", to=1),
        node("Div", "z f"),
    ),
    "padded": over_time(node("Pad", "z around")),
    "shape": over_time(
        node("Shape", "z", "s"),
        node("Gather", "s first", "n"),
        node("Concat", "n rest", "to", axis=0),
        node("Reshape", "z to"),
    ),
}
MORE = {
    "one": INTS([1]),
    "last": INTS(-1),
    "last1": INTS([-1]),
    "end": INTS([2**62]),
    "begin": INTS([-(2**62)]),
    "zero": INTS([0]),
    "first": INTS([0]),
    "flat": INTS([-1, 3]),
    "rest": INTS([-1, 3]),
    "unflat": INTS([7, 2, 2]),
    "square": INTS([-1, 3, 1]),
    "across": INTS([-1, 1, 3]),
    "begin2": INTS([2]),
    "two": INTS([2]),
    "V0": numbers(1, 1, 2),
    "around": INTS([1, 0, 0, 2, 0, 0]),
    "steps1": np.zeros((1, 2, 3), np.float32),
    "steps2": np.zeros((2, 2, 3), np.float32),
    "V": numbers(3, 2),
    "W2": numbers(1, 6, 3),
    "R2": numbers(1, 6, 2),
}


@pytest.mark.parametrize("name", TIMED)
def test_over_time(name, tmp_path):
    nodes = TIMED[name]
    used = {one for each in nodes for one in each.input}
    constants = {key: array for key, array in {**LSTM, **MORE}.items() if key in used}
    shape = (7, 2, 4) if name == "merged" else ("steps", "rows", 4)
    found = model(nodes, {"x": shape}, ["y"], **constants)
    x = numbers(7, 2, 4)
    (expected,) = run(found, x)
    close(loaded(found, tmp_path)(x), expected, 1e-5)


COUNTS = [
    node("Shape", "x", "s"),
    node("Gather", "s none", "steps"),
    node("Gather", "s one", "rows"),
    node("Expand", "steps rows", "lens"),
]
TURNED = {
    "all": ([*COUNTS, node("ReverseSequence", "x lens", "t")], ("steps", "rows", 4)),
    "fixed": ([node("ReverseSequence", "x sevens", "t")], (7, 2, 4)),
}


@pytest.mark.parametrize("name", TURNED)
def test_steps_turned_round_and_back(name, tmp_path):
    nodes, shape = TURNED[name]
    nodes = [
        *nodes,
        node("LSTM", "t W R B", "h", hidden_size=3),
        node("Squeeze", "h one", "z"),
        node("ReverseSequence", f"z {nodes[-1].input[1]}"),
    ]
    constants = {**LSTM, "none": INTS([0]), "one": INTS([1]), "sevens": INTS([7, 7])}
    used = {one for each in nodes for one in each.input}
    constants = {key: array for key, array in constants.items() if key in used}
    found = model(nodes, {"x": shape}, ["y"], **constants)
    x = numbers(7, 2, 4)
    close(loaded(found, tmp_path)(x), run(found, x)[0], 1e-5)
    nodes[-1].input[1] = "sevens"
    with pytest.raises(tr.LoadError, match="turns a part of a sequence round"):
        loaded(model(nodes, {"x": shape}, ["y"], **{**constants, "sevens": INTS([7, 3])}), tmp_path)
    with pytest.raises(tr.LoadError, match="output z has the steps from the last to the first"):
        loaded(model(nodes[:-1], {"x": shape}, ["z"], **constants), tmp_path)


def test_statistics_that_the_net_computes(tmp_path):
    """A batch norm over the channels of each row, as TensorFlow writes a norm of layers."""
    nodes = [
        node("Reshape", "x merged", "r"),
        node("ReduceMean", "r", "m", axes=[0, 2, 3], keepdims=0),
        node("ReduceMean", "r", "mk", axes=[0, 2, 3], keepdims=1),
        node("Sub", "r mk", "d"),
        node("ReduceSumSquare", "d", "q", axes=[0, 2, 3], keepdims=0),
        node("Div", "q six", "v"),
        node("Shape", "m", "count"),
        node("Expand", "scale count", "ones"),
        node("Expand", "shift count", "zeros"),
        node("BatchNormalization", "r ones zeros m v", "n"),
        node("Shape", "x", "s"),
        node("Reshape", "n s"),
    ]
    constants = {"merged": INTS([1, -1, 6, 1]), "six": np.float32(6)}
    constants |= {"scale": np.float32(2), "shift": np.float32(0.5)}
    found = model(nodes, {"x": ("rows", 6)}, ["y"], **constants)
    x = numbers(5, 6)
    close(loaded(found, tmp_path)(x), run(found, x)[0], 1e-5)


@pytest.mark.parametrize("op", ["Tile", "Expand"])
def test_a_decoder_of_so_many_steps(op, tmp_path):
    """A last state at each of 5 steps, which no input has."""
    nodes = [
        node("LSTM", "x W R B", "h hn", hidden_size=3),
        node(op, "hn copies", "copies5"),
        node("LSTM", "copies5 W2 R B", "h2", hidden_size=3),
        node("Squeeze", "h2 one"),
    ]
    constants = {**LSTM, "W2": numbers(1, 12, 3), "copies": INTS([5, 1, 1]), "one": INTS([1])}
    found = model(nodes, {"x": ("steps", "rows", 4)}, ["y"], **constants)
    net = loaded(found, tmp_path)
    for steps, rows in ((7, 2), (5, 3), (1, 1)):
        x = numbers(steps, rows, 4)
        close(net(x), run(found, x)[0], 1e-5)
    assert tr.verify(net, tmp_path / "model.onnx", steps=9)


def test_numbers_of_channels_are_a_convolutions_own(tmp_path):
    """A batch norm written out, behind convolutions with a bias and without, leaves no layer."""
    w, v = numbers(4, 4, 3), numbers(4, 1, seed=1)
    nodes = [
        *(node("Conv", "x w", "a"), node("Mul", "a s", "b"), node("Add", "b t", "c")),
        *(node("Conv", "c w v", "d", pads=[1, 1]), node("Mul", "s d")),
    ]
    found = model(nodes, {"x": ("rows", 4, 9)}, ["y"], w=w, v=v[:, 0], s=v, t=v + 1)
    x = numbers(2, 4, 9)
    net = loaded(found, tmp_path)
    close(net(x), run(found, x)[0])
    assert len(net.formats) == 2 and "Multiply" not in str(net) and "Add" not in str(net)


def test_a_vector_times_a_matrix(tmp_path):
    """The sum over all steps has one axis, and so has the product."""
    nodes = [
        node("ReduceSum", "x none", "s", keepdims=0),
        node("MatMul", "s m", "v"),
        node("Unsqueeze", "v one", "w"),
        node("Gather", "w last", axis=0),
    ]
    constants = {"none": INTS([0]), "one": INTS([1]), "last": INTS(-1), "m": numbers(4, 3)}
    found = model(nodes, {"x": ("steps", 4)}, ["y"], **constants)
    x = numbers(7, 4)
    close(loaded(found, tmp_path)(x), run(found, x)[0], 1e-5)


# ---- what cannot be ------------------------------------------------------------------------------------


# By name: the nodes behind an LSTM, and words of the error.
APART = {
    "a row of the last state": ([node("Gather", "hn none", axis=1)], "takes some rows of the batch"),
    "the last row of it": ([node("Gather", "hn last", axis=1)], "takes some rows of the batch"),
    "as many as there are here": ([node("Slice", "hn none end2 one")], "axis 1 is time or the batch"),
    "its last two rows": ([node("Slice", "hn two end one")], "axis 1 is time or the batch"),
    "rows side by side": ([node("Reshape", "hn pair")], r"\(Reshape, opset 17\): shape is \[2, "),
}


@pytest.mark.parametrize("name", APART)
def test_rows_stay_apart(name, tmp_path):
    nodes, words = APART[name]
    nodes = [node("LSTM", "x W R B", "h hn", hidden_size=3), *nodes]
    more = {"none": [0], "last": [-1], "two": [-2], "end": [2**62], "end2": [5], "one": [1], "pair": [2, -1]}
    constants = {**LSTM, **{name: INTS(one) for name, one in more.items()}}
    with pytest.raises(tr.LoadError, match=words):
        loaded(model(nodes, {"x": ("steps", "rows", 4)}, ["y"], **constants), tmp_path)


INDICES = {
    "below 0 from the end, as in Keras 3": [
        node("Less", "i none", "l"),
        node("Add", "i all", "a"),
        node("Where", "l a i", "j"),
    ],
    "from 1": [node("Sub", "i one", "j")],
    "behind those of another": [node("Add", "i three", "j")],
    "at most": [node("Min", "i three", "j")],
}


@pytest.mark.parametrize("name", INDICES)
def test_rows_that_the_graph_computes(name, tmp_path):
    table = numbers(9, 4)
    constants = {"none": INTS(0), "all": INTS(9), "one": INTS(1), "three": INTS(3), "table": table}
    nodes = [*INDICES[name], node("Gather", "table j")]
    used = {one for each in nodes for one in each.input}
    constants = {key: array for key, array in constants.items() if key in used}
    found = model(nodes, {"i": (np.int64, ("steps", "rows"))}, ["y"], **constants)
    net, i = loaded(found, tmp_path), np.random.default_rng(0).integers(0, 6, (7, 2))
    close(net(i), run(found, i)[0], 0)
    with pytest.raises(IndexError, match="out of range, expected 0"):
        net(i + (13 if name == "at most" else 9))


def test_rows_of_a_count_are_refused(tmp_path):
    nodes = [node("ReduceSum", "i", "s", axes=[0]), node("Sub", "i s", "j"), node("Gather", "table j")]
    found = model(nodes, {"i": (np.int64, ("steps", "rows"))}, ["y"], 12, table=numbers(9, 4))
    with pytest.raises(tr.LoadError, match="reads indices that the net computes"):
        loaded(found, tmp_path)


def test_a_sum_with_its_own_transpose_is_refused(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Add", "x t")]
    with pytest.raises(tr.LoadError, match="input x: two of its axes meet in an operation"):
        loaded(model(nodes, {"x": ("steps", "rows", 4)}, ["y"]), tmp_path)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("sizes", [True, False])
def test_more_steps_are_refused(named, sizes, tmp_path):
    nodes = over_time(node("Resize", "z - - more" if sizes else "z - more"))
    constants = {**LSTM, "one": MORE["one"], "more": INTS([14, 2, 3]) if sizes else np.float32([2, 1, 1])}
    found = model(nodes, {"x": ("steps", 2, 4) if named else (7, 2, 4)}, ["y"], **constants)
    assert run(found, numbers(7, 2, 4))[0].shape == (14, 2, 3)
    with pytest.raises(tr.LoadError, match="makes more steps or rows"):
        loaded(found, tmp_path)


def test_windows_that_begin_in_the_padding_are_refused(tmp_path):
    nodes = [node("MaxPool", "x", kernel_shape=[2], strides=[2], pads=[0, 1], ceil_mode=1)]
    found = model(nodes, {"x": ("rows", 3, 4)}, ["y"])
    assert run(found, numbers(2, 3, 4))[0].shape == (2, 3, 2)  # not three windows
    with pytest.raises(tr.LoadError, match="pads one side more than the other, with a ceil_mode"):
        loaded(found, tmp_path)


def test_an_unknown_operator_is_named(tmp_path):
    found = model([node("Sin", "x", "s"), node("Relu", "s")], {"x": ("rows", 4)}, ["y"])
    with pytest.raises(tr.LoadError, match=r"graph: node 0 \(Sin, opset 17\): the operator Sin is not known"):
        loaded(found, tmp_path)


def test_an_output_of_indices_is_named_with_what_to_do(tmp_path):
    nodes = [node("MatMul", "x m", "logits"), node("ArgMax", "logits", axis=1)]
    found = model(nodes, {"x": ("rows", 6)}, ["y"], m=M)
    found.graph.output[0].type.tensor_type.elem_type = 7
    with pytest.raises(
        tr.LoadError, match=r"no net gives indices: .*outputs=\['logits'\]\), and numpy\.argmax"
    ):
        loaded(found, tmp_path)
    x = numbers(3, 6)
    y = loaded(found, tmp_path, outputs=["logits"])(x)
    close(y, x @ M)
    assert np.array_equal(y.argmax(1), run(found, x)[0].reshape(-1))
    for wrong in ([], ["x"], "logits", ["z"]):
        with pytest.raises(TypeError, match=r"load: outputs: got .*, expected some of \['logits', 'y'\]"):
            loaded(found, tmp_path, outputs=wrong)


@pytest.mark.parametrize("less", [0, 1])
def test_lengths_that_the_graph_computes(tmp_path, less):
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "t"),
        node("Gather", "s one", "b"),
        node("Sub", "t less", "u"),
        node("Expand", "u b", "e"),
        node("Cast", "e", "L", to=6),
        node("LSTM", "x W R B L", "h", hidden_size=3),
        node("Squeeze", "h one"),
    ]
    constants = {"zero": INTS([0]), "one": INTS([1]), "less": INTS([less]), **LSTM}
    found = model(nodes, {"x": ("steps", "rows", 4)}, ["y"], **constants)
    x = numbers(7, 2, 4)
    close(loaded(found, tmp_path)(x), run(found, x)[0])


MORE_LENGTHS = {
    "one input": ("L", [node("GRU", "z W2 R2 - L", "g", hidden_size=2), node("Squeeze", "g one")]),
    "two inputs": ("K", [node("GRU", "z W2 R2 - L", "g", hidden_size=2), node("Squeeze", "g one")]),
    "one of two nodes": ("L", [node("GRU", "z W2 R2", "g", hidden_size=2), node("Squeeze", "g one")]),
    "backwards behind": (
        "L",
        [node("GRU", "z W2 R2", "g", hidden_size=2, direction="reverse"), node("Squeeze", "g one")],
    ),
    "mean": ("L", [node("ReduceMean", "z", axes=[0])]),
    "maximum": ("L", [node("ReduceMax", "z", axes=[0])]),
    "last step": ("L", [node("Gather", "z last", axis=0)]),
    "constant": ("three", [node("Identity", "z")]),
}


@pytest.mark.parametrize("name", MORE_LENGTHS)
def test_lengths_belong_to_the_nodes_that_read_them(name, tmp_path):
    """A net's lengths end all of a row: where another node reads on, a mask says where it ends."""
    first, more = MORE_LENGTHS[name]
    nodes = [node("LSTM", f"x W R B {first}", "h", hidden_size=3), node("Squeeze", "h one", "z"), *more]
    constants = {"one": INTS([1]), "last": INTS(-1), "W2": MORE["W2"], "R2": MORE["R2"], **LSTM}
    constants["three"] = np.int32([3, 3])
    read = {given for one in nodes for given in one.input}
    given = {"x": numbers(7, 2, 4), "K": np.int32([4, 6]), "L": np.int32([7, 3])}
    ports = {"x": ("steps", 2, 4), "K": (np.int32, [2]), "L": (np.int32, [2])}
    given, ports = ({key: one[key] for key in one if key in read} for one in (given, ports))
    found = model(nodes, ports, ["y"], **{key: array for key, array in constants.items() if key in read})
    net = loaded(found, tmp_path)
    own = {key: array for key, array in given.items() if key in net._inputs}
    y = net(own, lengths=given["L"]) if name == "one input" else net(own) if len(own) > 1 else net(own["x"])
    close(y, run(found, *given.values())[0])


def test_lengths_that_differ_in_a_constant_are_refused(tmp_path):
    nodes = [node("LSTM", "x W R B L", "h", hidden_size=3), node("Squeeze", "h one")]
    constants = {"one": INTS([1]), "L": np.int32([5, 3]), **LSTM}
    with pytest.raises(tr.LoadError, match="sequence_lens is constant and differs from row to row"):
        loaded(model(nodes, {"x": ("steps", "rows", 4)}, ["y"], **constants), tmp_path)


def test_a_dropout_in_training_is_refused(tmp_path):
    constants = {"r": np.float32(0.5), "t": np.array(True)}
    found = model([node("Dropout", "x r t", "a"), node("Relu", "a")], {"x": ("rows", 4)}, ["y"], **constants)
    with pytest.raises(tr.LoadError, match=r"Dropout.*is in training mode, expected inference"):
        loaded(found, tmp_path)
    constants["t"] = np.array(False)
    found = model(
        [node("Dropout", "x r t", "a m"), node("Where", "m a r")], {"x": ("rows", 4)}, ["y"], **constants
    )
    x = numbers(3, 4)
    close(loaded(found, tmp_path)(x), x)


def test_a_node_that_no_output_needs_is_left_out(tmp_path):
    found = model([node("Sin", "x", "s"), node("Relu", "x")], {"x": ("rows", 4)}, ["y"])
    assert loaded(found, tmp_path)(numbers(3, 4)).shape == (3, 4)


def test_the_page_lists_what_is_claimed():
    listed = re.search(r"<!-- operators -->\n(.*?)\n<!-- end -->", (DOCS / "onnx.md").read_text(), re.S)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == sorted(OPERATORS.keys() | FOLDS.keys())
