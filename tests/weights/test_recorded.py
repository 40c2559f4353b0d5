"""Files that PyTorch wrote, with the tensors that it had, where PyTorch is not installed."""

from pathlib import Path

import numpy as np
import pytest

from tinyrnn.weights import inspect_file, load_weights

RECORDED = Path(__file__).parent.parent / "data" / "pytorch"
WANTED = dict(np.load(RECORDED / "tensors.npz"))


@pytest.mark.parametrize("name", ["legacy", "checkpoint", "module", "script", "folded", "packed"])
def test_a_recorded_file(name):
    got = load_weights(RECORDED / f"{name}.pt")
    wanted = {key.partition("/")[2]: array for key, array in WANTED.items() if key.startswith(f"{name}/")}
    rounded = name == "packed" and {f"rnn.weight_{part}_l0" for part in ("ih", "hh")}
    for tensor in [tensor for tensor in got if tensor.endswith("_scale")]:
        codes = tensor.removesuffix("_scale")
        got[codes] = got[codes] * got.pop(tensor)[:, None]
    assert set(got) == set(wanted) | (rounded or set())
    for tensor, array in wanted.items():
        np.testing.assert_allclose(got[tensor], array, rtol=0, atol=2e-6 if name == "folded" else 0)
    for tensor in rounded or ():
        want = WANTED[f"module/{tensor}"]
        assert np.abs(got[tensor] - want).max() <= 0.51 * np.abs(want).max() / 127


@pytest.mark.parametrize("name", ["legacy", "checkpoint"])
def test_a_recorded_checkpoint_names_what_it_leaves(name):
    left = dict(inspect_file(RECORDED / f"{name}.pt").unread)
    assert left == {
        "optimizer": "torch.optim.adam.Adam",
        "hyper_parameters": "argparse.Namespace",
        "loss": "torch.nn.modules.loss.CrossEntropyLoss",
        "epoch": "3",
    }


# ---- published models


@pytest.fixture
def models(data_dir):
    folder = data_dir.parent / "models"
    if not folder.is_dir():
        pytest.skip("the published models are not there")
    return folder


def test_a_published_model_from_before_1_6(models):
    """A speaker encoder: its weights in our layers give its embeddings."""
    import tinyrnn as tr

    weights = load_weights(models / "resemblyzer_legacy.pt")
    golden = np.load(models / "resemblyzer_golden.npz")
    lstm = tr.LSTM.from_state_dict(weights, prefix="lstm", batch_first=True)
    linear = tr.Linear.from_state_dict(weights, prefix="linear")
    _, (hidden, _) = lstm(golden["mel"])
    embedding = np.maximum(linear(hidden[-1]), 0)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding, golden["embedding"], atol=2e-5)
    left = dict(inspect_file(models / "resemblyzer_legacy.pt").unread)
    assert left == {"step": "1564501", "optimizer_state": "dict of 2"}


def test_a_published_state_dict_from_before_1_6(models):
    got, want = load_weights(models / "attacut_sc_model.pth"), np.load(models / "attacut_sc_tensors.npz")
    assert set(got) == set(want.files)
    for name in want.files:
        assert got[name].shape == want[name].shape and np.array_equal(got[name], want[name])


def test_a_published_torchscript_archive(models, data_dir):
    """The same detector as a state_dict, under other names."""
    script = load_weights(models / "silero_vad.jit")
    rnn = {name: array for name, array in script.items() if name.startswith("_model.decoder.rnn.")}
    assert len(script) == 33 and len(rnn) == 4
    plain = list(load_weights(data_dir / "silero_vad_16k.pt").values())
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        array = rnn[f"_model.decoder.rnn.{name}"]
        assert any(array.shape == one.shape and np.array_equal(array, one) for one in plain)
