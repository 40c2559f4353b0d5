"""The onnx package's own tests of nodes: each is refused by name or right, and those of cells are right."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.onnx.operators import OPERATORS

onnx = pytest.importorskip("onnx")

CELLS = {"LSTM", "GRU", "RNN"}

# Nodes whose inputs but the first are weights.
WEIGHTED = {*CELLS, "Conv", "BatchNormalization", "LayerNormalization", "InstanceNormalization"}
WEIGHTED |= {"GroupNormalization", "Gemm", "PRelu", "Clip", "Pad", "ConvTranspose", "Resize", "Upsample"}
WEIGHTED |= {"DequantizeLinear", "QuantizeLinear", "QLinearMatMul", "QLinearConv"}

LOOPS = {"Loop", "Scan"}  # test_loops.py: their inputs are not rows of frames


def cases():
    """The models of one operator that we know, with inputs and outputs."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            known = OPERATORS.keys() - LOOPS
            if case.model is not None and {one.op_type for one in case.model.graph.node} <= known:
                given, expected = case.data_sets[0]
                arrays = [*given, *expected]
                if all(isinstance(one, np.ndarray) and one.size for one in arrays):
                    yield case.name, case.model, given, expected


def computed(found, given, path):
    """The outputs of our net, a row for each of the file's arrays; None if it reads no floats."""
    ops = {one.op_type for one in found.graph.node}
    names = [port.name for port in found.graph.input]
    values, bound = {}, {}
    for i, (name, array) in enumerate(zip(names, given, strict=False)):
        is_value = array.dtype == np.float32 and not (i and ops & WEIGHTED)
        (values if is_value else bound)[name] = array
    if not values:
        return None
    path.write_bytes(found.SerializeToString())
    net = tr.load(path, states=False, **bound)
    arrays = {}
    for name, (frame, _) in net._ports_known().items():
        array = values[name]
        if ops & CELLS:
            arrays[name] = array.swapaxes(0, 1) if is_turned(found) else array
        else:
            arrays[name] = array.reshape(-1, *frame)
    outputs = net(arrays)
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def is_turned(found):
    """Tell whether a cell has the batch first."""
    return any(one.name == "layout" and one.i for node in found.graph.node for one in node.attribute)


def in_our_order(array, layout):
    """An output of a cell as our nets have it: (T, B, directions, H), states (B, directions, H)."""
    if array.ndim == 4:
        return array.transpose(1, 0, 2, 3) if layout else array.transpose(0, 2, 1, 3)
    return array if layout else array.swapaxes(0, 1)


@pytest.mark.long
def test_each_is_refused_or_right(tmp_path):
    right, cells = 0, 0
    for name, found, given, expected in cases():
        is_cell = bool({one.op_type for one in found.graph.node} & CELLS)
        try:
            got = computed(found, given, tmp_path / "model.onnx")
        except tr.LoadError:
            assert not is_cell, name
            continue
        for one, wanted in zip(got or (), expected, strict=False):
            wanted = in_our_order(wanted, is_turned(found)) if is_cell else wanted
            assert one.size == wanted.size, name
            pair = (one.reshape(-1), np.float32(wanted).reshape(-1))
            assert np.allclose(*pair, 1e-4, 2e-5, equal_nan=True), name
        right += got is not None
        cells += is_cell
    assert right >= 270
    assert cells >= 18
