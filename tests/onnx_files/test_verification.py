"""tr.verify and the proof in a file."""

from __future__ import annotations

import numpy as np
import pytest

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
