"""Quantised models, against ONNX Runtime and against the same graph whose activations are not rounded."""

from __future__ import annotations

import re
import tracemalloc
import warnings

import numpy as np
import pytest
from folders import DOCS
from onnx_files import close, exported, loaded, model, node, run

import tinyrnn as tr
from tinyrnn.onnx.operators import MICROSOFT
from tinyrnn.state_dicts import stored

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
nn = torch.nn


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def codes(*shape, seed=0, kind=np.int8):
    bounds = np.iinfo(kind)
    return np.random.default_rng(seed).integers(bounds.min, bounds.max + 1, shape).astype(kind)


# ---- whole models, as ONNX Runtime's quantiser writes them ----------------------------------------------


class Recogniser(nn.Module):
    """A linear layer, a convolution over time, an LSTM of two directions, and scores."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 12)
        self.conv = nn.Conv1d(12, 10, 3, padding=1)
        self.rnn = nn.LSTM(10, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 4)

    def forward(self, x):
        h = torch.relu(self.first(x))
        h = torch.relu(self.conv(h.transpose(1, 2))).transpose(1, 2)
        return self.out(self.rnn(h)[0])


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """The path of a model that is not quantised."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "floats.onnx"
    axes = {"x": {0: "batch", 1: "steps"}}
    path.write_bytes(exported(Recogniser(), (torch.zeros(2, 9, 8),), ["x"], ["y"], axes))
    return path


X = numbers(3, 20, 8, seed=5)


def outputs(net):
    return net(X.swapaxes(0, 1)).swapaxes(0, 1)


def own_weights(quantised):
    """The weights of a quantised model that are codes, as floats by the name that they had."""
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in quantised.graph.initializer}
    found = {}
    for name, array in arrays.items():
        if not name.endswith("_quantized"):
            continue
        base = name.removesuffix("_quantized")
        scale, zero = (np.float64(arrays[f"{base}_{part}"]) for part in ("scale", "zero_point"))
        if array.ndim == 3 and array.shape[0] == 2:  # of an LSTM: (directions, inputs, gates)
            scale, zero = (one.reshape(2, 1, -1) for one in (scale, zero))
            found[base] = ((array - zero) * scale).swapaxes(1, 2).astype(np.float32)
        else:
            found[base] = ((array - zero) * scale).astype(np.float32)
    return found


def in_floats(plain, quantised, count):
    """Run the graph in floats with these weights: nothing is rounded."""
    weights = own_weights(quantised)
    assert len(weights) == count
    for one in plain.graph.initializer:
        if one.name in weights:
            one.CopyFrom(onnx.numpy_helper.from_array(weights[one.name], one.name))
    (expected,) = run(plain, X)
    return expected


class Additive(nn.Module):
    """Each step attends to all by a sum, as diacritizers of Arabic have it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.query, self.keys = (nn.Linear(12, 10, bias=False) for _ in range(2))
        self.score = nn.Linear(10, 1, bias=False)

    def forward(self, x):
        h, _ = self.rnn(x)
        scores = self.score(torch.tanh(self.query(h).unsqueeze(2) + self.keys(h).unsqueeze(1))).squeeze(-1)
        return torch.softmax(4 * scores, -1) @ h


def test_attention_by_a_sum(tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    torch.manual_seed(0)
    floats, path = tmp_path / "floats.onnx", tmp_path / "dynamic.onnx"
    axes = {"x": {0: "batch", 1: "steps"}}
    floats.write_bytes(exported(Additive(), (torch.zeros(2, 9, 8),), ["x"], ["y"], axes))
    quantization.quantize_dynamic(floats, path)
    expected = in_floats(onnx.load(floats), onnx.load(path), 5)
    assert "AdditiveAttention" in str(tr.load(path))
    close(outputs(tr.load(path, int8=False)), expected)
    assert 1e-5 < np.abs(outputs(tr.load(path)) - expected).max() < 0.01


@pytest.mark.parametrize("each", [False, True], ids=["tensors", "channels"])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_dynamic(floats, kind, each, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(floats, path, weight_type=quantization.QuantType[kind], per_channel=each)
    quantised, plain = onnx.load(path), onnx.load(floats)
    assert {"DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"} <= {
        one.op_type for one in quantised.graph.node
    }
    net = tr.load(path, int8=False)
    y = outputs(net)
    # The layers are those of the model that is not quantised: no node of scales and casts is left.
    kinds = [row[1] for row in net.summary().rows]
    assert kinds == [row[1] for row in tr.load(floats).summary().rows]
    expected = in_floats(plain, quantised, 5)
    close(y, expected)
    # ONNX Runtime rounds activations to 256 codes at each product.
    (rounded,) = run(str(path), X)
    (true,) = run(str(floats), X)
    assert 1e-5 < np.abs(rounded - expected).max() < 0.01
    assert np.abs(y - true).max() < 0.01


def calibration():
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = [{"x": X}]

        def get_next(self):
            return self.left.pop() if self.left else None

    return Reader()


def unrounded(quantised):
    """A model whose activations are clipped to what codes express, but not rounded."""
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in quantised.graph.initializer}
    nodes, names = [], {}
    for one in quantised.graph.node:
        if one.op_type == "QuantizeLinear":
            scale, zero = np.float64(arrays[one.input[1]]), arrays[one.input[2]]
            bounds = np.iinfo(zero.dtype)
            ends = []
            for code in (bounds.min, bounds.max):
                ends.append(f"{one.output[0]}_{len(ends)}")
                number = np.float32((code - float(zero)) * scale)
                quantised.graph.initializer.append(onnx.numpy_helper.from_array(number, ends[-1]))
            nodes.append(onnx.helper.make_node("Clip", [one.input[0], *ends], one.output))
            names[one.output[0]] = one.output[0]
        elif one.op_type == "DequantizeLinear" and one.input[0] in names:
            nodes.append(onnx.helper.make_node("Identity", one.input[:1], one.output))
        else:
            nodes.append(one)
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    return quantised


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_static(floats, form, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path, pairs = tmp_path / "static.onnx", tmp_path / "pairs.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for to, wanted in ((path, form), (pairs, "QDQ")):
            quantization.quantize_static(
                floats,
                to,
                calibration(),
                quant_format=quantization.QuantFormat[wanted],
                per_channel=wanted == "QDQ",
            )
    y = outputs(tr.load(path, int8=False))
    (rounded,) = run(str(path), X)
    (true,) = run(str(floats), X)
    if form == "QDQ":
        (expected,) = run(unrounded(onnx.load(path)), X)
        close(y, expected)
    off = np.abs(rounded - true).max()
    assert off > 1e-3
    assert np.abs(y - true).max() < off
    assert np.abs(y - rounded).max() < 1.5 * off


# ---- layers that keep the codes ---------------------------------------------------------------------------


def same_numbers(net, path, **options):
    """The weights of a net are those of the file, whatever their format."""
    plain = tr.load(path, int8=False, **options)
    assert set(plain.formats.values()) <= {"float32"}
    found, wanted = net.state_dict(), plain.state_dict()
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.array_equal(found[name], array), name
    return plain


@pytest.mark.parametrize("each", [False, True], ids=["tensors", "channels"])
def test_dynamic_models_keep_their_codes(floats, each, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = tmp_path / "dynamic.onnx"
    weight_type = quantization.QuantType.QInt8
    quantization.quantize_dynamic(floats, path, weight_type=weight_type, per_channel=each)
    net = tr.load(path)
    assert len(net.formats) == 4 and set(net.formats.values()) == {"int8"}
    same_numbers(net, path)
    # The codes of a layer are those of the file.
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    last = [one for name, one in arrays.items() if name.endswith("_quantized") and one.shape == (32, 4)]
    assert any(np.array_equal(one, last[0].T) for one in stored(net).values() if one.dtype == np.int8)
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(outputs(tr.load(tmp_path / "net.safetensors")), outputs(net))
    # Both round what a matrix reads, in other ways: they lie as near to the model before.
    (true,), (rounded,) = run(str(floats), X), run(str(path), X)
    off = np.abs(rounded - true).max()
    assert 1e-5 < np.abs(outputs(net) - true).max() < 1.5 * off
    assert np.abs(outputs(net) - rounded).max() < 2 * off


@pytest.mark.parametrize("each", [False, True], ids=["tensors", "channels"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_static_models_keep_their_codes(floats, form, each, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = tmp_path / "static.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_static(
            floats,
            path,
            calibration(),
            quant_format=quantization.QuantFormat[form],
            per_channel=each,
            weight_type=quantization.QuantType.QInt8,
        )
    net = tr.load(path)
    kept = [name for name, kind in net.formats.items() if kind == "int8"]
    assert len(kept) == 3 and not any(name.startswith("lstm") for name in kept)  # which is of floats there
    same_numbers(net, path)
    (true,), (rounded,) = run(str(floats), X), run(str(path), X)
    assert np.abs(outputs(net) - true).max() < 1.5 * np.abs(rounded - true).max()


# Codes less their zeros are int8 if they lie within -127 .. 127.
KEPT = {
    "int8": (np.int8, -127, 0, True),
    "-128": (np.int8, -128, 0, False),
    "uint8": (np.uint8, 1, 128, True),
    "uint8 to -128": (np.uint8, 0, 128, False),
    "another zero": (np.int8, -124, 3, True),
    "beyond": (np.int8, -125, 3, False),
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("shared", [True, False])
def test_which_codes_are_kept(name, shared, tmp_path):
    kind, least, zero, kept = KEPT[name]
    w = np.random.default_rng(1).integers(least, least + 254, (6, 3)).astype(kind)
    w[0, 0] = least
    scales = np.float32(0.01) if shared else np.float32([0.01, 0.02, -0.03])
    zeros = kind(zero) if shared else np.full(3, zero, kind)
    nodes = [node("DequantizeLinear", "w t v", "f", axis=1)]
    rounding = [
        node("QuantizeLinear", "x one z", "q"),
        node("DequantizeLinear", "q one z", "r"),
    ]
    constants = {"w": w, "t": scales, "v": zeros, "one": np.float32(1), "z": np.uint8(0)}
    found = model([*nodes, *rounding, node("MatMul", "r f")], {"x": ("rows", 6)}, ["y"], **constants)
    net = loaded(found, tmp_path)
    assert list(net.formats.values()) == ["int8" if kept else "float32"]
    plain = same_numbers(net, tmp_path / "model.onnx")
    x = coded(5, 6)
    wanted = x @ ((np.float64(w) - zero) * scales)
    close(plain(x), wanted, 1e-3)
    close(plain(x), run(found, x)[0], 1e-3)
    close(net(x), wanted, 0.01 * np.abs(wanted).max() if kept else 1e-3)
    # Where the file does not round what the matrix reads, nothing is rounded.
    del constants["one"], constants["z"]
    net = loaded(model([*nodes, node("MatMul", "x f")], {"x": ("rows", 6)}, ["y"], **constants), tmp_path)
    assert list(net.formats.values()) == ["float32"]
    close(net(x), wanted, 1e-3)


def test_weights_that_alone_are_codes_get_these_again(tmp_path):
    w = np.random.default_rng(1).integers(-127, 128, (6, 3)).astype(np.int8)
    w[0] = 127, -127, 127
    nodes = [node("DequantizeLinear", "w t", "f", axis=1), node("MatMul", "x f")]
    net = loaded(model(nodes, {"x": ("rows", 6)}, ["y"], w=w, t=np.float32([0.01, 0.02, 0.03])), tmp_path)
    assert list(net.formats.values()) == ["float32"]
    assert any(np.array_equal(one, w.T) for one in stored(tr.quantize(net, "int8")).values())


@pytest.mark.parametrize("later", [True, False], ids=["codes", "floats"])
def test_a_table_keeps_its_codes(later, tmp_path):
    w = np.random.default_rng(1).integers(-127, 128, (9, 4)).astype(np.int8)
    nodes = [node("Gather", "w i", "g"), node("DequantizeLinear", "g t v")]
    if not later:
        nodes = [node("DequantizeLinear", "w t v", "f"), node("Gather", "f i")]
    found = model(nodes, {"i": (np.int64, ("rows", "steps"))}, ["y"], w=w, t=np.float32(0.03), v=np.int8(0))
    net = loaded(found, tmp_path, shapes={"i": (None, 7)})
    assert list(net.formats.values()) == ["int8"]
    assert [row[1] for row in net.summary().rows] == ["input", "Embedding [int8]"]
    indices = np.random.default_rng(2).integers(0, 9, (5, 7))
    assert np.array_equal(net(indices).reshape(5, 7, 4), run(found, indices)[0])


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("int8", [True, False])
def test_memory_of_a_file_of_codes(int8, zero, tmp_path):
    """A file takes twice its size and 64 MB at most while it is read, as all files do."""
    size = 1024
    arrays = {
        "W": codes(1, size, 4 * size) // 2 * 2 + 1,  # no -128
        "R": codes(1, size, 4 * size, seed=1) // 2 * 2 + 1,
        "ws": np.full(1, 0.004, np.float32),
        "wz": np.full(1, zero, np.int8),
    }
    names = ["x", "W", "R", "", "", "", "", "", "ws", "wz", "ws", "wz"]
    lstm = onnx.helper.make_node(
        "DynamicQuantizeLSTM", names, ["y"], domain="com.microsoft", hidden_size=size
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(
        with_microsoft(model([lstm], {"x": ("steps", "rows", size)}, ["y"], **arrays)).SerializeToString()
    )
    tr.load(path, int8=int8)  # imports what it needs
    tracemalloc.start()
    try:
        net = tr.load(path, int8=int8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    kept = int8 and not zero
    assert set(net.formats.values()) == {"int8" if kept else "float32"}
    assert peak < (4.5 * path.stat().st_size if kept else 2 * path.stat().st_size + (64 << 20))


def test_info_says_that_activations_are_not_rounded(floats, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.quantize_dynamic(floats, tmp_path / "dynamic.onnx")
    with tr.weights.opened(tmp_path / "dynamic.onnx") as file:
        assert file.info.unread == [("rounding of activations", "4 nodes, see docs/onnx.md")]
    with tr.weights.opened(floats) as file:
        assert file.info.unread == []


@pytest.mark.parametrize("int8", [False, True])
def test_verify_says_that_a_difference_is_expected(int8, floats, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.quantize_dynamic(floats, tmp_path / "dynamic.onnx")
    net = tr.load(tmp_path / "dynamic.onnx", int8=int8)
    found = tr.verify(net, tmp_path / "dynamic.onnx", steps=21)
    assert not found and "the file rounds activations (4 nodes)" in str(found)
    found = tr.verify(tr.load(floats), floats, steps=21)
    assert found and "a difference is expected" not in str(found)


# ---- one operation, with activations that are codes already ---------------------------------------------


def coded(*shape, seed=0):
    """Activations from 0 to 255 in whole numbers, of which each is its code."""
    array = np.float32(codes(*shape, seed=seed, kind=np.uint8))
    array.reshape(-1)[:2] = 0, 255
    return array


DYNAMIC = node("DynamicQuantizeLinear", "x", "q s z")
W, WU = codes(6, 3), codes(6, 3, kind=np.uint8, seed=1)
EXACT = {
    "MatMulInteger": (
        [DYNAMIC, node("MatMulInteger", "q w z v", "i"), node("Cast", "i", "f", to=1), node("Mul", "f t")],
        {"w": WU, "v": np.uint8(7), "t": np.float32(0.01)},
    ),
    "MatMulInteger columns": (
        [
            DYNAMIC,
            node("MatMulInteger", "q w z v", "i"),
            node("Cast", "i", "f", to=1),
            node("Mul", "s t", "u"),
            node("Mul", "f u", "m"),
            node("Add", "b m"),
        ],
        {"w": W, "v": np.int8([1, -2, 3]), "t": np.float32([0.01, 0.02, 0.005]), "b": numbers(3)},
    ),
    "MatMulInteger without zeros": (
        [DYNAMIC, node("MatMulInteger", "q w", "i"), node("Cast", "i", to=1)],
        {"w": W},
    ),
    "ConvInteger": (
        [
            DYNAMIC,
            node("ConvInteger", "q k z v", "i", pads=[1, 1]),
            node("Cast", "i", "f", to=1),
            node("Mul", "f t", "m"),
            node("Add", "m b"),
        ],
        {"k": codes(3, 4, 3), "v": np.int8(5), "t": np.float32(0.01), "b": numbers(1, 3, 1)},
    ),
    "DynamicQuantizeMatMul": (
        [onnx.helper.make_node("DynamicQuantizeMatMul", list("xwtvb"), ["y"], domain="com.microsoft")],
        {"w": W, "t": np.float32(0.01), "v": np.int8(5), "b": numbers(3)},
    ),
    "MatMulIntegerToFloat": (
        [
            DYNAMIC,
            onnx.helper.make_node("MatMulIntegerToFloat", list("qwstzvb"), ["y"], domain="com.microsoft"),
        ],
        {"w": W, "t": np.float32(0.01), "v": np.int8(5), "b": numbers(3)},
    ),
    "DequantizeLinear of a row": (
        [node("DequantizeLinear", "w t v", "f", axis=1), node("Add", "x f")],
        {"w": codes(1, 6), "t": np.abs(numbers(6)), "v": codes(6, seed=2)},
    ),
    "DequantizeLinear in blocks": (
        [node("DequantizeLinear", "w t v", "f", axis=0, block_size=2), node("MatMul", "x f")],
        {"w": W, "t": np.abs(numbers(3, 3)), "v": codes(3, 3, seed=4)},
    ),
    "QuantizeLinear with another scale": (
        [node("QuantizeLinear", "x one v", "q"), node("DequantizeLinear", "q t o")],
        {"one": np.float32(1), "v": np.uint8(0), "t": np.float32(0.5), "o": np.uint8(10)},
    ),
    "QuantizeLinear saturates": (
        [node("QuantizeLinear", "x one v", "q"), node("DequantizeLinear", "q one v")],
        {"one": np.float32(1), "v": np.int8(-100)},
    ),
    "codes that move": (
        [
            node("QuantizeLinear", "x one v", "q"),
            node("Transpose", "q", "t", perm=[0, 2, 1]),
            node("DequantizeLinear", "t one v"),
        ],
        {"one": np.float32(1), "v": np.uint8(0)},
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_codes_are_exact(name, tmp_path):
    nodes, constants = EXACT[name]
    opset = 21 if "blocks" in name else 17
    found = with_microsoft(model(nodes, {"x": ("rows", 4, 6)}, ["y"], opset, **constants), opset)
    x = coded(5, 4, 6)
    (expected,) = run(found, x)
    assert len(np.unique(expected)) > 5
    close(loaded(found, tmp_path, int8=False)(x), expected, 1e-6 * np.abs(expected).max())


def with_microsoft(found, opset=17):
    del found.opset_import[:]
    found.opset_import.extend(
        [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    )
    found.ir_version = 10 if opset > 17 else 8
    return found


def quantised(op, inputs, domain="com.microsoft", **attributes):
    return onnx.helper.make_node(op, inputs.split(), ["r"], domain=domain, **attributes)


# Operations between codes: x has scale xs and zero xz, the result ys and yz.
BETWEEN = {
    "QLinearMatMul": quantised("QLinearMatMul", "q xs xz w t v ys yz", domain=""),
    "QLinearConv": quantised("QLinearConv", "q xs xz k kt kv ys yz kb", domain="", pads=[1, 1]),
    "QLinearAdd": quantised("QLinearAdd", "q xs xz p pt pv ys yz"),
    "QLinearMul": quantised("QLinearMul", "q xs xz p pt pv ms yz"),
    "QLinearSigmoid": quantised("QLinearSigmoid", "q xs xz ss sz"),
    "QLinearLeakyRelu": quantised("QLinearLeakyRelu", "q xs xz xs yz", alpha=0.2),
    "QLinearSoftmax": quantised("QLinearSoftmax", "q xs xz ss sz", axis=-1, opset=17),
    "QLinearConcat": quantised("QLinearConcat", "xs yz q xs xz q xs xz", axis=1),
    "QLinearAveragePool": quantised("QLinearAveragePool", "q xs xz xs yz", kernel_shape=[2]),
    "QLinearGlobalAveragePool": quantised("QLinearGlobalAveragePool", "q xs xz xs yz"),
    "QGemm": quantised("QGemm", "q xs xz w t v gb ys yz"),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_between_codes(name, tmp_path):
    middle = BETWEEN[name]
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "ys": np.float32(0.15),
        "yz": np.uint8(128),
        "ms": np.float32(0.05),
        "ss": np.float32(1 / 256),
        "sz": np.uint8(0),
        "w": codes(6, 3, seed=3),
        "t": np.float32(0.01),
        "v": np.int8(0),
        "p": codes(4, 6, kind=np.uint8, seed=2),
        "pt": np.float32(0.03),
        "pv": np.uint8(90),
        "k": codes(3, 4, 3),
        "kt": np.float32([0.01, 0.02, 0.005]),
        "kv": np.zeros(3, np.int8),
        "kb": np.int32([100, -500, 900]),
        "gb": np.int32([100, -500, 900]),
    }
    to = list(middle.input)[:2] if name == "QLinearConcat" else list(middle.input)[-2:]
    to = ["ys", "yz"] if name == "QLinearConv" else to
    nodes = [node("QuantizeLinear", "x xs xz", "q"), middle, node("DequantizeLinear", f"r {to[0]} {to[1]}")]
    used = {one for each in nodes for one in each.input}
    frame = (6,) if name == "QGemm" else (4, 6)
    found = with_microsoft(
        model(nodes, {"x": ("rows", *frame)}, ["y"], **{k: v for k, v in constants.items() if k in used})
    )
    x = (coded(5, *frame) - 120) * np.float32(0.02)
    (expected,) = run(found, x)
    y = loaded(found, tmp_path, int8=False)(x)
    assert len(np.unique(expected)) > 5
    close(y, expected, 0.501 * constants[to[0]])  # the result is rounded to a code


# ---- an LSTM of codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm(direction, tmp_path):
    count = 1 + (direction == "bidirectional")
    arrays = {
        "W": codes(count, 6, 20),
        "R": codes(count, 5, 20, seed=1),
        "B": numbers(count, 40),
        "ws": np.full(count, 0.004, np.float32),
        "wz": np.full(count, 3, np.int8),
        "rs": np.full(count, 0.003, np.float32),
        "rz": np.full(count, -4, np.int8),
    }
    names = ["x", "W", "R", "B", "", "", "", "", "ws", "wz", "rs", "rz"]
    lstm = onnx.helper.make_node(
        "DynamicQuantizeLSTM", names, ["y"], domain="com.microsoft", hidden_size=5, direction=direction
    )
    found = with_microsoft(model([lstm], {"x": ("steps", "rows", 6)}, ["y"], **arrays))
    weights = {
        name: ((np.float64(arrays[name]) - z) * s).swapaxes(1, 2).astype(np.float32)
        for name, s, z in (("W", 0.004, 3), ("R", 0.003, -4))
    }
    plain = node("LSTM", "x W R B", hidden_size=5, direction=direction)
    same = model([plain], {"x": ("steps", "rows", 6)}, ["y"], B=arrays["B"], **weights)
    x = numbers(11, 3, 6)
    net = loaded(found, tmp_path)
    y = net(x).reshape(11, 3, count, 5).swapaxes(1, 2)
    close(y, run(same, x)[0])
    close(y, run(found, x)[0], 0.02)  # ONNX Runtime rounds x and h


# ---- what cannot be --------------------------------------------------------------------------------------


def test_scales_that_do_not_fit(tmp_path):
    nodes = [node("DequantizeLinear", "w t", "f", axis=0), node("MatMul", "x f")]
    found = model(nodes, {"x": ("rows", 6)}, ["y"], w=W, t=np.float32([0.1, 0.2, 0.3]))
    with pytest.raises(tr.LoadError, match=r"scales have shape \(3,\), expected one for each of 6"):
        loaded(found, tmp_path)


def test_activations_have_one_scale(tmp_path):
    nodes = [node("QuantizeLinear", "x t z", "q", axis=1), node("DequantizeLinear", "q t z", axis=1)]
    found = model(nodes, {"x": ("rows", 3)}, ["y"], t=np.float32([0.1, 0.2, 0.3]), z=np.zeros(3, np.uint8))
    with pytest.raises(tr.LoadError, match="expected one number for all of an activation"):
        loaded(found, tmp_path)


def test_the_page_lists_the_operators_of_onnx_runtime():
    listed = re.search(r"<!-- microsoft -->\n(.*?)\n<!-- end -->", (DOCS / "onnx.md").read_text(), re.S)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == sorted(MICROSOFT)


def test_no_operator_of_onnx_runtime_is_left_out():
    tested = {one.op_type for nodes, _ in EXACT.values() for one in nodes}
    tested |= {one.op_type for one in BETWEEN.values()}
    left = {name for name in MICROSOFT.keys() - tested if MICROSOFT[name].__module__ != "tinyrnn.onnx.fused"}
    assert left == {"DynamicQuantizeLSTM"}  # above
