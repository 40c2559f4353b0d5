"""tr.verify and the proof in a file."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import MODELS, model, needs_models, node

import tinyrnn as tr
from tinyrnn import proofs
from tinyrnn.weights.safetensors import read_metadata


def net():
    tr.manual_seed(0)
    return tr.Sequential(tr.LSTM(4, 8), tr.Linear(8, 2)).eval()


def test_against_a_module_of_pytorch():
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(4, 8).train()
    layer = tr.LSTM(4, 8).eval()
    layer.load_state_dict({name: array.detach().numpy() for name, array in module.state_dict().items()})
    found = tr.verify(layer, module, inputs=np.ones((5, 2, 4)))
    assert found and module.training
    assert [check.case for check in found.checks] == [
        "yours",
        "random",
        "zeros",
        "large",
        "denormal",
        "silence",
    ]
    assert "agrees with LSTM" in str(found)
    layer.bias_ih_l0 = layer.bias_ih_l0 + 0.1
    assert not tr.verify(layer, module)


def test_the_first_step_beyond_the_tolerance_is_named():
    one = tr.Input(3)
    plain = tr.Net(one, one * 1.0)
    other = tr.Net(one, one * 1.0 + tr.Delay(3, 40)(one) * 0.5)
    found = tr.verify(plain, other, steps=50)
    assert not found
    steps = {check.case: check.step for check in found.checks}
    assert steps["random"] == 40 and steps["zeros"] is None and steps["denormal"] is None
    assert "DIFFERS" in str(found) and "from step 40" in str(found)


def test_against_an_onnx_file(tmp_path):
    pytest.importorskip("onnxruntime")
    own = net()
    own.to_onnx(tmp_path / "net.onnx")
    found = tr.verify(own, tmp_path / "net.onnx", steps=1000)
    assert found, str(found)


def test_a_file_of_a_fixed_number_of_steps(tmp_path):
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    own = net()
    own.to_onnx(tmp_path / "net.onnx", states=False)
    model = onnx.load(tmp_path / "net.onnx")
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[0].dim_value, sizes[1].dim_value = (20, 1) if not own._batch_first else (1, 20)
    onnx.save(model, tmp_path / "net.onnx")
    assert tr.verify(own, tmp_path / "net.onnx", steps=20)
    with pytest.raises(tr.ShapeError, match="a file of a fixed number of steps runs on as many"):
        tr.verify(own, tmp_path / "net.onnx", steps=1000)


@pytest.mark.parametrize("shape", [("rows", "steps", 4), (3, 20, 4), (1, "steps", 4)])
def test_a_file_whose_rows_come_first(tmp_path, shape):
    """The axes of a file are those that its graph tells; rows that it counts are alike."""
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(size) for name, size in (("W", (1, 12, 4)), ("R", (1, 12, 3)))}
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("LSTM", "t W R", "h", hidden_size=3),
        node("Squeeze", "h one", "z"),
        node("Transpose", "z", perm=[1, 2, 0]),
        node("ReduceMax", "z", "m", axes=[0], keepdims=0),
    ]
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    found = model(nodes, {"x": shape}, ["y", "m"], one=np.int64([1]), **arrays)
    path = tmp_path / "model.onnx"
    path.write_bytes(found.SerializeToString())
    own = tr.load(path)
    assert tr.verify(own, path, steps=20), str(tr.verify(own, path, steps=20))
    layer = own.lstm
    layer.weight_hh_l0 = layer.weight_hh_l0 + 0.1
    assert not tr.verify(own, path, steps=20)


@needs_models
@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_a_file_without_an_axis_of_rows_that_needs_full_sequences(kind):
    pytest.importorskip("onnxruntime")
    path = MODELS / "synthetic" / f"bidirectional_by_slice_{kind}.onnx"
    found = tr.verify(tr.load(path), path, steps=50)
    assert found, str(found)
    assert found.seconds > 0 and found.seconds_against > 0
    assert "ms here" in str(found)


def one_step(rows, *sizes):
    """A file that describes one step, whose states are inputs and outputs."""
    rng = np.random.default_rng(0)
    weights = {"W": (1, 12, 4), "R": (1, 12, 3), "V": (3, 2)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    states = {"h0": (1, rows, 3), "c0": (1, rows, 3)}
    nodes = [
        node("Mul", "x gain", "xg"),
        node("Reshape", "xg to", "x1"),
        node("LSTM", "x1 W R - - h0 c0", "a hn cn", hidden_size=3),
        node("Squeeze", "a at", "b"),
        node("MatMul", "b V"),
    ]
    ports = {"x": (*sizes, 4), "gain": (), **states}
    ports["gain"] = (np.float32, ())
    fixed = {"to": np.int64([1, -1, 4]), "at": np.int64([0, 1])}
    return model(nodes, ports, ["y", "hn", "cn"], **fixed, **arrays)


@pytest.mark.parametrize("sizes", [("rows",), (1,), (1, 1), ("rows", 1)])
def test_against_an_onnx_file_of_one_step(tmp_path, sizes):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "step.onnx"
    path.write_bytes(one_step("rows" if "rows" in sizes else 1, *sizes).SerializeToString())
    own = tr.load(path, gain=1.5)
    found = tr.verify(own, path, steps=1000, gain=1.5)
    assert found and len(found.checks) == 5, str(found)
    assert not tr.verify(own, path, steps=20, gain=1.6)
    with pytest.raises(TypeError, match=r"verify: got \['loss'\], expected some of the file's inputs"):
        tr.verify(own, path, loss=1)


def test_an_input_of_truth_values(tmp_path):
    path = tmp_path / "masked.onnx"
    nodes = [node("Not", "mask", "kept"), node("Cast", "kept", "one", to=1), node("Mul", "x one")]
    path.write_bytes(model(nodes, {"x": ("t", 3), "mask": (bool, ("t", 3))}, ["y"]).SerializeToString())
    found = tr.verify(tr.load(path), path, steps=50)
    assert found, str(found)


@needs_models
def test_against_published_files_of_one_step():
    pytest.importorskip("onnxruntime")
    path = MODELS / "silero_vad.onnx"
    own = tr.load(path, sr=16000)
    noise = np.random.default_rng(0).standard_normal((300, 1, 576)).astype(np.float32) / 10
    found = tr.verify(own, path, inputs=noise, steps=300, tol=2e-5, sr=16000)
    assert found, str(found)


def test_a_proof_is_repeated(tmp_path):
    own, path = net(), tmp_path / "net.safetensors"
    own.train().save(path, proof=True)
    assert own.training
    found = tr.verify(path)
    assert found and all(check.same_bits for check in found.checks)
    again = tr.load(path)
    assert np.array_equal(again.eval()(np.ones((3, 4))), own.eval()(np.ones((3, 4))))
    mine = np.ones((9, 1, 4))
    own.save(path, proof=mine)
    inputs, outputs, _ = proofs.read(read_metadata(path)[proofs.KEY], "net")
    assert np.array_equal(inputs[0], mine) and np.array_equal(outputs["y"], own(mine))


def test_files_without_or_with_a_damaged_proof_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    net().save(path)
    with pytest.raises(tr.LoadError, match="without a proof"):
        tr.verify(path)
    for text in ("", "[]", "{}", '{"inputs": [{"shape": [-1], "dtype": "<f4", "data": ""}]}'):
        with pytest.raises(tr.LoadError, match="damaged"):
            proofs.read(text, "net")


def test_a_wrong_model_is_refused():
    with pytest.raises(TypeError, match="against is 3"):
        tr.verify(net(), 3)
    with pytest.raises(TypeError, match="got a net alone"):
        tr.verify(net())


def test_outputs_of_a_module_may_be_nested():
    torch = pytest.importorskip("torch")

    class Nested(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(4, 3)

        def forward(self, x):
            y, states = self.rnn(x)
            return {"y": y, "states": [states, None]}

    module = Nested()
    net = tr.from_torch(module, torch.zeros(9, 2, 4))
    found = tr.verify(net, module, steps=30)
    assert found and {check.output for check in found.checks} == {"y", "states.0.0", "states.0.1"}


def test_a_module_of_other_axes_is_told():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv1d(4, 3, 1), torch.nn.ReLU())
    net = tr.from_torch(module, torch.zeros(2, 4, 9))
    with pytest.raises(ValueError, match=r"fails on the net's inputs, of shapes \[\(1, 30, 4\)\]: .*put one"):
        tr.verify(net, module, steps=30)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        tr.verify(tr.LSTM(2, 3), against=tmp_path / "none.onnx")
