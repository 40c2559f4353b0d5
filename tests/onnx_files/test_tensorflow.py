"""Models of Keras that tf2onnx wrote, against what TensorFlow computed and against ONNX Runtime."""

from __future__ import annotations

import io

import numpy as np
import pytest
from folders import DATA
from onnx_files import arrays_of, close, run

import tinyrnn as tr

FOLDER = DATA / "tf2onnx"
MODELS = ("loop", "words", "heads", "coder")


@pytest.mark.parametrize("name", MODELS)
def test_as_tensorflow_computed(name):
    arrays = arrays_of(FOLDER / "tf2onnx.npz")
    net = tr.load(FOLDER / f"{name}.onnx")
    y, expected = net(arrays[f"{name}.x"].swapaxes(0, 1)), arrays[f"{name}.y"]
    close(y, expected if name == "words" else expected.swapaxes(0, 1))


@pytest.mark.parametrize("name", MODELS)
def test_beside_onnx_runtime(name):
    pytest.importorskip("onnxruntime")
    path = FOLDER / f"{name}.onnx"
    found = tr.verify(tr.load(path), path, steps=6 if name == "coder" else 50)
    assert found, str(found)


def test_masked_steps_keep_the_state():
    """A step of zeros changes nothing: a stream that skips it gives the same."""
    net = tr.load(FOLDER / "loop.onnx")
    x = arrays_of(FOLDER / "tf2onnx.npz")["loop.x"].swapaxes(0, 1).copy()
    x[2] = 0
    y = net(x)
    assert np.array_equal(y[2], y[1])
    stream = net.stream(batch=2)
    assert np.array_equal(np.stack([stream.step(one) for one in x]), y)
    assert np.array_equal(net(np.delete(x, 2, 0))[2:], y[3:])


def test_copies_for_another_number_of_steps():
    """A RepeatVector of 6 behind 9 steps: the decoder has steps of its own."""
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = FOLDER / "coder.onnx"
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9
    net = tr.load(io.BytesIO(model.SerializeToString()))
    features = arrays_of(FOLDER / "tf2onnx.npz")["coder.x"].shape[2]
    x = np.random.default_rng(3).standard_normal((2, 9, features)).astype(np.float32)
    (expected,) = run(model, x)
    y = net(x.swapaxes(0, 1))
    assert expected.shape == (2, 6, 4)
    assert np.abs(y.swapaxes(0, 1) - expected).max() < 2e-6
    with pytest.raises(tr.ShapeError, match="a file of a fixed number of steps runs on as many"):
        tr.verify(tr.load(path), path, steps=7)
    assert run(str(path), arrays_of(FOLDER / "tf2onnx.npz")["coder.x"])[0].shape == (2, 6, 4)
