"""ONNX files as their authors publish them, against outputs that ONNX Runtime recorded."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from onnx_files import MODELS, arrays_of, close, needs_models

import tinyrnn as tr

pytestmark = needs_models

NODES = sorted(path.stem for path in (MODELS / "onnx_attributes").glob("*.onnx"))
WRITTEN = sorted(path.stem for path in (MODELS / "synthetic").glob("*.onnx"))


# ---- every attribute of the recurrent operators -----------------------------------------------------


@pytest.mark.parametrize("name", NODES)
def test_a_node_agrees_with_its_definition(name):
    arrays = arrays_of(MODELS / "onnx_attributes" / f"{name}.npz")
    bound = {key: arrays[f"in_{key}"] for key in "WRBP" if f"in_{key}" in arrays}
    net = tr.load(MODELS / "onnx_attributes" / f"{name}.onnx", **bound)
    is_batch_first = "layout1" in name
    x = arrays["in_X"].swapaxes(0, 1) if is_batch_first else arrays["in_X"]
    kind = name.partition("_")[0]
    state = {f"{kind}.{key}": arrays[f"in_{key}"] for key in "hc" if f"in_{key}" in arrays}
    lengths = arrays.get("in_L", None)
    y = net(x, lengths=lengths, state=state or None)
    got = list(y.values()) if isinstance(y, dict) else [y]
    if state:  # the last states are those of the net
        got += [net.last_state[f"{kind}.{key}"] for key in ("hc" if kind == "lstm" else "h")]
        turn = [(0, 2, 1, 3), (0, 1, 2), (0, 1, 2)]
    else:
        turn = [(1, 0, 2, 3) if is_batch_first else (0, 2, 1, 3)] + [
            (0, 1, 2) if is_batch_first else (1, 0, 2)
        ] * 2
    assert len(got) == (3 if kind == "lstm" else 2)
    for i, (one, axes) in enumerate(zip(got, turn, strict=False)):
        close(one, arrays[f"out_{i}_float64"].transpose(axes))


# ---- directions by Slice, states as inputs and outputs ------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_two_nodes_of_one_value_are_one_layer(name):
    arrays = arrays_of(MODELS / "synthetic" / f"{name}.npz")
    net = tr.load(MODELS / "synthetic" / f"{name}.onnx")
    kind = name.rpartition("_")[2]
    assert [type(net[layer]).__name__ for layer in (kind, f"{kind}_1")] == [kind.upper()] * 2
    assert repr(net).count(f"{kind.upper()}(") == 2
    names = {
        f"{kind}{'_1' * level}.{part}": [f"l{level}{way}{part}" for way in "fb"]
        for level in (0, 1)
        for part in ("hc" if kind == "lstm" else "h")
    }
    state = {
        name: np.stack([arrays[f"in_{one}_in"] for one in both])[:, None] for name, both in names.items()
    }
    close(net(arrays["in_x"], state=state), arrays["out_y"])
    for name, both in names.items():
        close(net.last_state[name][:, 0], np.stack([arrays[f"out_{one}_out"] for one in both]))


# ---- Silero VAD: three exports of one net -----------------------------------------------------------------


@pytest.fixture(scope="module")
def frames():
    """For each chunk of 512 samples the 64 before it and its own."""
    with wave.open(str(MODELS.parent / "data" / "speech_16k.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
    count = len(np.load(MODELS / "silero_sequence_probs.npy").reshape(-1))
    padded = np.zeros(64 + 512 * count, np.float32)
    padded[64 : 64 + len(samples)] = samples[: 512 * count]
    return np.lib.stride_tricks.sliding_window_view(padded, 576)[::512]


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("models/silero_vad_16k_sequence.onnx", {}),
        ("models/silero_vad.onnx", {"sr": 16000}),
        ("data/silero_vad_16k_op15.onnx", {"sr": 16000}),
        ("data/silero_vad_16k_op15.onnx", {"sr": 16000, "sequence": 576}),
    ],
)
def test_silero(frames, file, options):
    net = tr.load(MODELS.parent / file, **options)
    expected = np.load(MODELS / "silero_sequence_probs.npy").reshape(-1)
    y = net(frames)
    close(y, expected)
    stream = net.stream()
    chunks = [stream.run(frames[:700]), *(stream.step(frame)[None] for frame in frames[700:900])]
    assert np.array_equal(np.concatenate(chunks), y[:900])


def test_a_size_that_the_file_leaves_open():
    net = tr.load(MODELS / "silero_vad.onnx", sr=8000)
    assert net(np.zeros((3, 288), np.float32)).shape == (3, 1)
    told = tr.load(MODELS / "silero_vad.onnx", sr=8000, shapes={"input": (None, 256)})
    assert told(np.zeros((3, 256), np.float32)).shape == (3, 1)


def test_an_input_that_chooses_the_net_must_be_bound():
    with pytest.raises(tr.LoadError, match=r"condition depends on the values of inputs: bind .*sr="):
        tr.load(MODELS / "silero_vad.onnx")
    with pytest.raises(TypeError, match=r"got 'rate', expected some of the inputs .*'sr'"):
        tr.load(MODELS / "silero_vad.onnx", rate=16000)


def test_states_may_stay_inputs_and_outputs(frames):
    net = tr.load(MODELS / "silero_vad_16k_sequence.onnx", states=False)
    zeros = np.zeros(128, np.float32)
    y = net({"input": frames[:300], "h": zeros, "c": zeros})
    assert list(y) == ["speech_probs", "hn", "cn"]
    rest = net({"input": frames[300:600], "h": y["hn"], "c": y["cn"]})
    whole = tr.load(MODELS / "silero_vad_16k_sequence.onnx")(frames[:600])
    assert np.array_equal(np.concatenate([y["speech_probs"], rest["speech_probs"]]), whole)


def test_a_loaded_net_is_saved_as_any_other(tmp_path, frames):
    net = tr.load(MODELS / "silero_vad_16k_sequence.onnx")
    net.save(tmp_path / "vad.safetensors")
    assert np.array_equal(tr.load(tmp_path / "vad.safetensors")(frames[:50]), net(frames[:50]))


def test_weights_of_a_file():
    weights = tr.load_weights(MODELS / "silero_vad_16k_sequence.onnx")
    assert weights["encoder.0.weight"].shape == (128, 129, 3)
