"""ONNX models for tests: built with the onnx package, run by ONNX Runtime, and loaded by tinyrnn."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

MODELS = Path(os.environ.get("TINYRNN_DATA", ROOT.parent / "shared" / "data")).parent / "models"

needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="no published models here: set TINYRNN_DATA")


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], opset: int = 17, **arrays: Any
) -> Any:
    """A model of nodes; inputs are their shapes by name, arrays its initializers."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_tensor_value_info
    ports = []
    for name, shape in inputs.items():
        kind, sizes = shape if isinstance(shape[0], type) else (np.float32, shape)
        ports.append(make(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(sizes)))
    graph = onnx.helper.make_graph(
        nodes,
        "test",
        ports,
        [make(name, 1, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node; names are words, ``-`` is an input that is left out."""
    onnx = pytest.importorskip("onnx")
    names = ["" if name == "-" else name for name in inputs.split()]
    return onnx.helper.make_node(op, names, outputs.split(), **attributes)


def run(found: Any, *inputs: Any) -> list[Any]:
    """The outputs that ONNX Runtime computes, of a model or of a file."""
    runtime = pytest.importorskip("onnxruntime")
    given = found if isinstance(found, (str, bytes)) else found.SerializeToString()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    found_outputs: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found_outputs


def loaded(found: Any, folder: Path, **options: Any) -> Any:
    """The net of a model."""
    path = folder / "model.onnx"
    path.write_bytes(found if isinstance(found, bytes) else found.SerializeToString())
    return tr.load(path, **options)


def exported(module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str], axes: Any) -> bytes:
    """A module of PyTorch as its exporter writes it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            stream,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes or None,
            opset_version=17,
            dynamo=False,
        )
    return stream.getvalue()


def arrays_of(path: Path) -> dict[str, Any]:
    """All arrays of an .npz file."""
    with np.load(path) as file:
        return dict(file)


def close(got: Any, expected: Any, bound: float = 2e-5) -> None:
    """Compare numbers whatever their axes of size 1."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.size == expected.size, (got.shape, expected.shape)
    worst = np.abs(got.reshape(expected.shape) - expected).max()
    assert worst <= bound, worst
