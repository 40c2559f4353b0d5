"""ONNX Runtime: everything bound beforehand. Two bindings take turns, one ends where the other begins."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from work import Call, Work

from peers.onnx_graph import onnx_model, state_names, state_shape

NEEDS = ("onnxruntime", "onnx")


def fits(work: Work) -> bool:
    """Accept float32, and int8 for the LSTM: its dynamic quantisation does not support the GRU."""
    return work.dtype == "float32" or (work.dtype == "int8" and work.kind == "LSTM")


def prepare(work: Work) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    model = onnx_model(work).SerializeToString() if work.dtype == "float32" else _quantised(work)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names, shape = state_names(work), state_shape(work)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    before, after = ({name: value(np.zeros(shape, np.float32)) for name in names} for _ in range(2))
    x, y = value(work.x), value(np.zeros((work.steps, *shape), np.float32))

    def bound(before: dict[str, Any], after: dict[str, Any]) -> Any:
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)
        for name in names:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"{name}n", after[name])
        return binding

    bindings = [bound(before, after), bound(after, before)]

    def call() -> Any:
        session.run_with_iobinding(bindings[0])
        if not work.bidirectional:
            bindings.reverse()
        return y

    return call


def _quantised(work: Work) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing that changes nothing here
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        quantize_dynamic(onnx_model(work), path, weight_type=QuantType.QInt8, per_channel=True)
        return Path(path).read_bytes()
