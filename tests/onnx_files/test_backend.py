"""The onnx package's own tests of nodes, through `tinyrnn.onnx_backend`: those refused are in one table."""

from __future__ import annotations

import re
import sys
import unittest
import warnings

import numpy as np
import pytest
from folders import DOCS
from onnx_files import model, node, run

import tinyrnn as tr

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# Tests of nodes whose operators are known, by the begin of the name, and why they are refused.
REFUSED = {
    r"averagepool_2d_(same|pads|ceil|dilations)": "means of windows that leave numbers uncounted",
    r"(averagepool|maxpool|convtranspose)_3d": "frames of three axes beside the channels",
    r"attention_\w*mask\w*_expanded|attention_4d_causal_nonpad": "four axes of a frame that meet others",
    r"batchnorm_\w+_training_mode|training_dropout(_default)?(_mask)?$": "training",
    r"cast(like)?_\w*(FLOAT8|FLOAT4|INT4|INT2)|quantizelinear_(e\dm|u?int[24]|float4)": "types of few bits",
    r"causal_conv_with_state": "steps in front of a sequence",
    r"convinteger_with_padding": "padding with codes that are not 0",
    r"convtranspose(?!_[13]d|_show|_dil.*1d)": "transposed convolutions of pictures",
    r"dynamicquantizelinear(_m\w+_adjusted)?$": "codes of a value whose scale the net would find",
    r"einsum_(transpose|sum|batch_diagonal|scalar)": "one value, or an axis met twice",
    r"identity_(sequence|opt)|loop13_seq|sequence_|split_to_sequence": "lists of arrays",
    r"linear_attention": "loops over inputs of which nothing tells that they have the same steps",
    r"loop11|range_\w+_delta_expanded": "loops that read no sequence",
    r"maxpool_(2d_pads|with_argmax_2d_precomputed)": "indices of maxima; padding of more than half a window",
    r"reduce_\w+_empty_set": "nothing to reduce",
    r"reversesequence": "parts of sequences turned round",
    r"resize": "cubic, antialiased or cropped pictures; some axes alone",
}


def suite():
    """The class of the tests of nodes, and the names of those whose operators are known."""
    from onnx.backend.test import BackendTest

    from tinyrnn import onnx_backend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = BackendTest(onnx_backend, __name__).test_cases["OnnxBackendNodeModelTest"]
        models = {one.name: one.model for one in onnx.backend.test.loader.load_model_tests(kind="node")}
    known = [name for name, found in models.items() if found and onnx_backend.is_compatible(found)]
    return tests, known, models


def test_each_is_right_or_in_the_table(monkeypatch):
    from tinyrnn import onnx_backend

    tests, known, models = suite()
    passed, refused, made = [], {}, []
    prepare = onnx_backend.prepare
    monkeypatch.setattr(onnx_backend, "prepare", lambda *given: made.append(prepare(*given)) or made[-1])
    for name in known:
        case = tests(f"{name}_cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                getattr(case, f"{name}_cpu")()
            except (tr.LoadError, TypeError) as error:
                refused[name] = str(error)
            else:
                passed.append((name, bool(made[-1]._run.net)))
    reasons = {name: [one for one in REFUSED if re.match(one, name[5:])] for name in refused}
    assert {name: rows for name, rows in reasons.items() if len(rows) != 1} == {}
    assert {row for rows in reasons.values() for row in rows} == REFUSED.keys()
    recurrent = {"LSTM", "GRU", "RNN", "Scan"}
    ours = [one for one in models if models[one] and recurrent & {n.op_type for n in models[one].graph.node}]
    ours = [one for one in ours if "linear_attention" not in one]
    assert len(ours) >= 22 and set(ours) <= {name for name, by_net in passed if by_net}
    text = (DOCS / "onnx.md").read_text()
    page = re.search(r"\*\*(\d+) of (\d+)\*\* .*onnx ([\d.]+)\),.*: (\d+) by\s+a net, (\d+) as", text, re.S)
    assert page is not None
    if onnx.__version__ == page[3]:
        nets = sum(by_net for _, by_net in passed)
        wanted = [int(page[i]) for i in (1, 2, 4, 5)]
        assert [len(passed), len(known), nets, len(passed) - nets] == wanted


def test_the_devices_and_what_is_known():
    from tinyrnn import onnx_backend

    assert onnx_backend.supports_device("CPU") and not onnx_backend.supports_device("CUDA:0")
    good, other = (model([node(op, "x")], {"x": (2, 3)}, ["y"]) for op in ("Relu", "Sin"))
    assert onnx_backend.is_compatible(good) and not onnx_backend.is_compatible(other)
    assert not onnx_backend.is_compatible(good, "CUDA")
    with pytest.raises(ValueError, match="expected 'CPU'"):
        onnx_backend.prepare(good, "CUDA")


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_model_runs_with_other_shapes_weights_and_lengths():
    from tinyrnn import onnx_backend

    ports = {"x": ("t", "b", 4), "W": (1, 12, 4), "R": (1, 12, 3), "L": (np.int32, "b"), "h": (1, "b", 3)}
    found = model(
        [node("LSTM", "x W R - L h", "y hn", hidden_size=3), node("Neg", "hn", "m")],
        ports,
        ["m", "y"],
    )
    prepared = onnx_backend.prepare(found)
    for seed, (steps, rows) in enumerate([(5, 2), (7, 3), (7, 3), (7, 3)]):
        scale = np.float32(1 + (seed == 3))
        lengths = np.int32([steps, *range(steps - 1, steps - rows, -1)])
        given = [numbers(steps, rows, 4) + seed, numbers(1, 12, 4) * scale, numbers(1, 12, 3), lengths]
        given.append(numbers(1, rows, 3))
        before = prepared._run
        got = prepared.run(given)
        assert (prepared._run is before) == (seed == 2)  # built again for other shapes or weights alone
        for one, wanted in zip(got, run(found, *given), strict=True):
            assert one.shape == wanted.shape and one.dtype == wanted.dtype
            assert np.abs(one - wanted).max() <= 2e-5
    by_name = prepared.run(dict(zip(ports, given, strict=True)))
    assert all(np.array_equal(a, b) for a, b in zip(by_name, got, strict=True))
    assert np.array_equal(got["y"], got[1])
    found.graph.node.append(node("Shape", "y", "s"))
    found.graph.output.append(onnx.helper.make_tensor_value_info("s", 7, [4]))
    with pytest.raises(tr.LoadError, match="output s depends on the number of steps"):
        onnx_backend.run_model(found, given)
    with pytest.raises(TypeError, match="got 5 inputs, or one that is no array"):
        prepared.run(given[:1])
    with pytest.raises(TypeError, match="one that is no array"):
        prepared.run([[given[0]], *given[1:]])


def test_a_node_runs():
    from tinyrnn import onnx_backend

    x = numbers(2, 6)
    (y,) = onnx_backend.run_node(node("Softmax", "x"), [x], outputs_info=[(np.float32, (2, 6))])
    assert np.allclose(y, np.exp(x) / np.exp(x).sum(1, keepdims=True), atol=1e-6)
    first, second = onnx_backend.run_node(node("Split", "x", "a b", axis=1), x, opset_version=11)
    assert np.array_equal(np.concatenate([first, second], 1), x)
    with pytest.raises(tr.LoadError, match="in training mode"):
        onnx_backend.run_node(node("Dropout", "x r t"), [x, np.float32(0.5), np.array(True)])


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "tinyrnn.onnx_backend", raising=False)
    with pytest.raises(ImportError, match="pip install onnx"):
        import tinyrnn.onnx_backend  # noqa: F401


def test_the_suite_is_a_class_of_tests():
    assert issubclass(suite()[0], unittest.TestCase)
