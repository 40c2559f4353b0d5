"""The command line, through `main` as the shell calls it."""

import contextlib
import errno
import io
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import wave

import numpy as np
import pytest
import weight_files as wf

import tinyrnn as tr
from tinyrnn import cli, progress
from tinyrnn.cli import bench, console, info, outputs, run

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in a folder of its own, and of seeded weights."""
    monkeypatch.chdir(tmp_path)
    tr.manual_seed(0)
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run a command line that succeeds, and return its output. stderr must have ``note``, or nothing."""

    def call(*argv, note=""):
        assert cli.main([str(word) for word in argv]) == 0
        out, err = capsys.readouterr()
        assert err == (note and note + "\n")
        return out

    return call


@pytest.fixture
def fails(capsys, here):
    """Run a command line that fails: one line on stderr that holds the words, no file changed."""

    def fails(*argv, words=(), status=1):
        before = {path: path.stat().st_mtime_ns for path in here.iterdir()}
        assert cli.main([str(word) for word in argv]) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("tinyrnn: error: ") and err.endswith("\n") and err.count("\n") == 1
        assert err[:-1].isprintable()
        for word in [words] if isinstance(words, str) else words:
            assert word in err, err
        assert {path: path.stat().st_mtime_ns for path in here.iterdir()} == before

    return fails


def saved(net, path="net.safetensors"):
    net.save(path)
    return net


def small():
    return tr.Sequential({"lstm": tr.LSTM(4, 8, 2), "fc": tr.Linear(8, 2)})


def frames(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def checkpoint(path, net, **others):
    np.savez(path, **net.state_dict(), **others)


def write_wav(path, samples, width, rate=16000):
    """Whole numbers ``(n, channels)`` as a .wav of ``width`` bytes a sample."""
    numbers = np.asarray(samples, "<i4")
    if width == 1:
        data = (numbers + 128).astype(np.uint8).tobytes()
    else:
        data = numbers.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(numbers.shape[1])
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(data)


# ---- info ---------------------------------------------------------------------------------------


def test_info_of_a_saved_net(call):
    net = saved(small())
    text = call("info", "net.safetensors")
    size, memory = os.path.getsize("net.safetensors"), net.memory()
    assert f"a net in safetensors, {size:,} bytes" in text
    assert f"10 tensors, {net.num_parameters:,} parameters, {4 * net.num_parameters:,} bytes" in text
    assert "  lstm.weight_ih_l1  float32  (32, 8)\n" in text
    assert "  lstm  LSTM(input_size=4, hidden_size=8, num_layers=2)\n" in text
    assert "  fc    Linear(in_features=8, out_features=2)\n" in text
    assert f"weights {memory.weights:,}, state {memory.state:,}, scratch {memory.scratch:,} bytes\n" in text


def test_info_of_a_single_layer(call):
    saved(tr.GRU(4, 8, batch_first=True))
    assert "  (top)  GRU(input_size=4, hidden_size=8, batch_first=True)\n" in call("info", "net.safetensors")


def fed_back():
    x, before = tr.Input(4), tr.Feedback(3)
    h = tr.LSTM(7, 6)(tr.concat([x, before])).named("rnn")
    before.connect(tr.Linear(6, 3)(h).named("back"))
    return tr.Net(x, tr.Linear(6, 5)(h).named("head"))


def spoken():
    x, speaker = tr.Input(4, name="sound"), tr.Input(3, time=None, name="speaker")
    return tr.Net([x, speaker], tr.Linear(4, 3)(x) * speaker)


def test_info_of_a_graph(call):
    net = saved(fed_back())
    text = call("info", "net.safetensors")
    assert f"\narchitecture\n{net.summary()}\n\nmemory of one stream: weights " in text
    assert "\ndelay   Delay   back" in text and "loop, step by step: delay, concat, rnn, back" in text
    net = saved(spoken())
    text, memory = call("info", "net.safetensors"), net.memory()
    assert f"{tr.load('net.safetensors').summary()}\n" in text
    assert f"stream: weights {memory.weights:,}, state 0, scratch {memory.scratch:,} bytes\n" in text
    x = tr.Input(3)
    net = saved(tr.Net(x, {"a": tr.GRU(3, 4)(x), "b": tr.Linear(3, 1)(x)}))
    assert f"stream: weights {net.memory().weights:,}, state {net.memory().state:,}, " in call(
        "info", "net.safetensors"
    )
    net = saved(tr.Sequential(tr.Conv1d(1, 4, 3), tr.Flatten(), tr.TimeConv1d(24, 4, 2)))
    assert "give it, such as --frame" in call("info", "net.safetensors")
    scratch = net.memory(frame=(1, 8)).scratch
    assert f"scratch {scratch:,} bytes" in call("info", "net.safetensors", "--frame", "1,8")


def test_info_of_a_large_graph(call):
    x = value = tr.Input(2, name="a\nb")
    for _ in range(70):
        value = tr.Tanh()(value)
    saved(tr.Net(x, value))
    text = call("info", "net.safetensors")
    assert "\n... and 11 more; --all lists them\n" in text and "tanh_69 " not in text and "a\\nb" in text
    assert "tanh_69 " in call("info", "net.safetensors", "--all")


def test_info_of_an_open_frame(call):
    net = saved(tr.Sequential(tr.Conv1d(1, 4, 3), tr.Flatten(), tr.GRU(24, 4)))
    assert "the layers leave the frame (1, ?) open: give it, such as --frame" in call(
        "info", "net.safetensors"
    )
    scratch = net.memory(frame=(1, 8)).scratch
    assert f"scratch {scratch:,} bytes" in call("info", "net.safetensors", "--frame", "1,8")


NO_EPS = "(eps is not in the file, and "
RECOGNISED = [
    (
        tr.LSTM(4, 8, 2, bidirectional=True),
        "LSTM(input_size=4, hidden_size=8, num_layers=2, bidirectional=True)",
    ),
    (tr.LSTM(4, 8, bias=False, proj_size=3), "LSTM(input_size=4, hidden_size=8, bias=False, proj_size=3)"),
    (tr.GRU(4, 4), "GRU(input_size=4, hidden_size=4)"),
    (
        tr.RNN(4, 8),
        "RNN(input_size=4, hidden_size=8) or RNN(input_size=4, hidden_size=8, nonlinearity='relu')",
    ),
    (tr.LSTMCell(4, 8), "LSTMCell(input_size=4, hidden_size=8)"),
    (tr.GRUCell(4, 8, bias=False), "GRUCell(input_size=4, hidden_size=8, bias=False)"),
    (
        tr.RNNCell(4, 8),
        "RNNCell(input_size=4, hidden_size=8) or RNNCell(input_size=4, hidden_size=8, nonlinearity='relu')",
    ),
    (tr.Linear(4, 8), "Linear(in_features=4, out_features=8)"),
    (
        tr.Embedding(8, 4),
        "Embedding(num_embeddings=8, embedding_dim=4) or Linear(in_features=4, out_features=8, bias=False)",
    ),
    (
        tr.Conv1d(4, 8, 3, bias=False, stride=2),
        "Conv1d(in_channels=4, out_channels=8, kernel_size=3, bias=False)  "
        "(stride, padding, dilation and groups are not in the file)",
    ),
    (
        tr.Conv2d(4, 8, (3, 2), stride=2),
        "Conv2d(in_channels=4, out_channels=8, kernel_size=(3, 2))  "
        "(stride, padding, dilation and groups are not in the file)",
    ),
    (tr.LayerNorm(8), f"LayerNorm(normalized_shape=(8,))  {NO_EPS}other norms look the same)"),
    (tr.LayerNorm((3, 8)), f"LayerNorm(normalized_shape=(3, 8))  {NO_EPS}other norms look the same)"),
    (tr.BatchNorm1d(8), f"BatchNorm1d(num_features=8)  {NO_EPS}2d and 3d look the same)"),
    (
        tr.BatchNorm1d(8, affine=False),
        f"BatchNorm1d(num_features=8, affine=False)  {NO_EPS}2d and 3d look the same)",
    ),
]


@pytest.mark.parametrize(("net", "line"), RECOGNISED, ids=[repr(net) for net, _ in RECOGNISED])
def test_info_recognises(call, net, line):
    checkpoint("m.npz", tr.Sequential({"part": net}))
    assert f"\nlayers recognised by their shapes\n  part  {line}\n" in call("info", "m.npz")


def test_info_recognises_nothing_that_does_not_fit(call):
    arrays = {
        "a.weight_ih_l0": (32, 4),  # without weight_hh_l0
        "b.weight_ih_l0": (30, 4),  # no kind has so many rows
        "b.weight_hh_l0": (30, 8),
        "c.weight_ih": (4,),
        "c.weight_hh": (32, 8),
        "d.weight_ih_l0": (0, 4),
        "d.weight_hh_l0": (0, 0),
        "e.weight": (3, 4),
        "e.bias": (4,),  # of no layer with that weight
        "f.weight": (2, 2, 2, 2, 2),
        "g.weight_ih_l0": (32, 4),
        "g.weight_hh_l0": (32, 8),
        "g.bias_ih_l0": (32,),  # and no bias_hh_l0
        "h": (),
        "i.weight": (0, 4),
    }
    np.savez("m.npz", **{name: np.zeros(shape) for name, shape in arrays.items()})
    text = call("info", "m.npz")
    assert "recognised by" not in text
    assert f"tensors of no layer that is recognised: {len(arrays)}\n" in text
    assert f"{sum(int(np.prod(shape)) for shape in arrays.values()):,} parameters" in text


def test_info_counts_what_is_stored(call):
    np.savez("m.npz", half=np.zeros((3, 5), np.float16), steps=np.zeros((), np.int64), z=np.zeros(2, "c16"))
    text = call("info", "m.npz")
    assert "3 tensors, 15 parameters, 70 bytes of numbers" in text
    assert "  half   float16     (3, 5)\n  steps  int64       ()\n  z      complex128  (2,)\n" in text


def test_info_of_a_pytorch_checkpoint(call, here, fails):
    tensors = {"fc.weight": wf.tensor((2, 3)), "fc.bias": wf.tensor((2,), key="1")}
    sets = {"good": tensors, "bad": tensors, "epoch": 3}
    (here / "m.pt").write_bytes(wf.pt(sets, {"0": bytes(24), "1": bytes(8)}))
    text = call("info", "m.pt", "--key", "good")
    assert "PyTorch" in text and "  fc  Linear(in_features=3, out_features=2)\n" in text
    fails("info", "m.pt", "--key", "ugly", words=["m.pt", "ugly"])


def test_info_escapes_hostile_names(call, here):
    names = ["a\x1b[2J", "line\nbreak", "\u202eesrever", "long" * 200]
    header = {name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, name in enumerate(names)}
    header["__metadata__"] = {"note\r": "\x07" + "x" * 500}
    (here / "m.safetensors").write_bytes(wf.safetensors(header, bytes(4)))
    for options in ([], ["--all"]):
        text = call("info", "m.safetensors", *options)
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"a\x1b[2J" in text and r"line\nbreak" in text and r"\u202eesrever" in text
        assert r"note\r" in text
        assert ("long" * 200 in text) == ("x" * 500 in text) == bool(options)


def test_info_cuts_long_lists(call):
    np.savez("m.npz", **{f"layer{i}.weight": np.zeros((2, 3)) for i in range(200)})
    text = call("info", "m.npz")
    assert text.count("float64") == info.LISTED and text.count("  ... and 140 more: --all lists them\n") == 2
    everything = call("info", "m.npz", "--all")
    assert everything.count("float64") == everything.count("Embedding") == 200 and "more" not in everything


def test_info_in_a_terminal_of_few_characters(call, monkeypatch):
    np.savez("m.npz", **{"größe": np.zeros(3)})
    monkeypatch.setattr(type(sys.stdout), "encoding", property(lambda self: "ascii"))
    assert r"gr\xf6\xdfe" in call("info", "m.npz")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("missing.pt", None, "No such file"),
        ("empty.pt", b"", "is empty"),
        ("text.safetensors", b"hello\x1b[0m there", "safetensors"),
        ("cut.npz", wf.npz(("a.npy", wf.npy(wf.npy_header(), bytes(24))))[:-30], "cut.npz"),
        ("global.pt", wf.pt(wf.call("os.system", "true")), "os.system"),
        ("huge.safetensors", wf.safetensors("{}", length=100 << 30), "huge.safetensors"),
        ("other.npz", wf.safetensors({}), "safetensors"),
        ("what.bin", b"\x00\x01\x02\x03", "unknown"),
    ],
)
def test_info_of_hostile_files(fails, here, name, data, words):
    if data is not None:
        (here / name).write_bytes(data)
    fails("info", name, words=[name, words])


def test_info_of_a_folder(fails, here):
    (here / "m.pt").mkdir()
    fails("info", "m.pt", words="is a directory")


@pytest.mark.parametrize(
    "architecture",
    [
        "not json",
        "{}",
        '{"net": {"type": "Evil", "arguments": {}}}',
        '{"net": {"type": "LSTM", "arguments": {"input_size": 4, "hidden_size": -1}}}',
        json.dumps({"net": {"type": "Linear", "arguments": {"in_features": 3, "out_features": 2**27}}}),
    ],
)
def test_info_lists_the_tensors_of_a_hostile_architecture(capsys, here, architecture):
    header = {"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header["__metadata__"] = {"tinyrnn": architecture}
    (here / "m.safetensors").write_bytes(wf.safetensors(header, bytes(24)))
    assert cli.main(["info", "m.safetensors"]) == 1
    out, err = capsys.readouterr()
    assert "  weight  float32  (2, 3)\n" in out
    assert err.startswith("tinyrnn: error: m.safetensors: ") and err.count("\n") == 1


# ---- run: models and .npy -----------------------------------------------------------------------


def test_run_gives_what_the_net_gives(call, monkeypatch):
    net, x = saved(small()), frames(50, 4)
    np.save("x.npy", x)
    for most in (run.CHUNK, 64, 1):  # in one chunk, in chunks of 8 steps, step by step
        monkeypatch.setattr(run, "CHUNK", most)
        text = call("run", "net.safetensors", "x.npy", "-o", "y.npy")
        assert text.startswith("y.npy: 50 steps, shape (50, 2), ") and "µs per step" in text
        y = np.load("y.npy")
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, net(x))
    assert sorted(os.listdir()) == ["net.safetensors", "x.npy", "y.npy"]


def test_run_says_where_numbers_end(call):
    saved(tr.Linear(2, 3))
    np.save("in.npy", np.array([[1, 2], [np.nan, 0]], np.float32))
    assert "; 3 numbers are NaN or infinite" in call("run", "net.safetensors", "in.npy", "-o", "out.npy")


def test_run_a_net_that_changes_the_rate(call, monkeypatch):
    """The padding behind the end is due with the last chunk; the output's shape has its own steps."""
    net = saved(tr.Sequential(tr.TimeConv1d(4, 6, 3, stride=2, padding=1), tr.GRU(6, 5)))
    x, batch = frames(33, 4), frames(9, 3, 4)
    np.save("x.npy", x)
    np.save("batch.npy", batch)
    for most in (run.CHUNK, 40, 1):
        monkeypatch.setattr(run, "CHUNK", most)
        assert call("run", "net.safetensors", "x.npy", "-o", "y.npy").startswith(
            "y.npy: 33 steps, shape (17, 5), "
        )
        np.testing.assert_array_equal(np.load("y.npy"), net(x))
        call("run", "net.safetensors", "x.npy", "-o", "y.csv")
        np.testing.assert_array_equal(np.loadtxt("y.csv", np.float32, delimiter=","), net(x))
        call("run", "net.safetensors", "batch.npy", "-o", "y.npy")
        np.testing.assert_array_equal(np.load("y.npy"), net(batch))
        call("run", "net.safetensors", "batch.npy", "-o", "y.npy", "--batch-first")
        rows = [net(row[:, np.newaxis])[:, 0] for row in batch]
        np.testing.assert_array_equal(np.load("y.npy"), np.stack(rows))
    assert "100 steps per call" in call("bench", "net.safetensors", "--quick")


def test_run_a_graph(call, fails, monkeypatch):
    net, x = saved(fed_back()), frames(50, 3, 4)
    np.save("x.npy", x)
    for most in (run.CHUNK, 64, 1):
        monkeypatch.setattr(run, "CHUNK", most)
        call("run", "net.safetensors", "x.npy", "-o", "y.npy")
        np.testing.assert_array_equal(np.load("y.npy"), net(x))
    z = tr.Input(4)
    net = saved(tr.Net(z, tr.GRU(4, 2, bidirectional=True)(z + tr.Linear(4, 4)(z))))
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))
    index = tr.Input()
    net = saved(tr.Net(index, tr.Linear(3, 2)(tr.Embedding(9, 3)(index))))
    np.save("x.npy", np.arange(9))
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(np.arange(9)))
    z, ahead = tr.Input(4), tr.Input(1, time="ahead", steps=6)
    net = saved(tr.Net([z, ahead], tr.GRU(4, 2)(tr.Repeat()(tr.LastStep()(z), ahead))))
    np.save("x.npy", x)
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))
    whole = "\nmemory: depends on the steps, since the net needs the full sequence: net.memory(steps=...)\n"
    assert whole in call("info", "net.safetensors")
    saved(tr.GRU(4, 2, bidirectional=True))
    assert whole in call("info", "net.safetensors")
    saved(tr.Net([z, ahead], tr.AdditiveAttention(4)(z, tr.Linear(1, 4)(ahead), ahead)))
    assert "memory of one stream: depends on the steps" in call("info", "net.safetensors")
    saved(spoken())
    words = ("net.safetensors: got a net of 2 inputs and 1 outputs (sound, speaker once", "run it in Python")
    fails("run", "net.safetensors", "x.npy", "-o", "y.npy", words=words)
    fails("bench", "net.safetensors", "--quick", words=words)
    fails(
        "quantize", "net.safetensors", "q.safetensors", "--to", "int8", "--calibration", "x.npy", words=words
    )


def test_quantize_a_graph(call, fails):
    z = tr.Input(4)
    saved(tr.Net(z, tr.GRU(4, 2)(z + tr.Linear(4, 4)(z))))
    np.save("x.npy", frames(50, 4))
    text = call("quantize", "net.safetensors", "q.safetensors", "--to", "int8", "--calibration", "x.npy")
    assert "linear" in text and "gru.l0.r" in text and "output" in text
    saved(fed_back())
    text = call("quantize", "net.safetensors", "q.safetensors", "--to", "int8", "--calibration", "x.npy")
    assert "rnn.l0" in text and "output" in text
    assert set(tr.load("q.safetensors").formats.values()) == {"int8"}


def test_run_converts_the_input(call):
    net, x = saved(small()), frames(20, 4)
    np.save("x.npy", np.asfortranarray(x.astype(">f8")))
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_run_a_batch(call, bidirectional, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 100)
    net, x = saved(tr.LSTM(4, 8, bidirectional=bidirectional)), frames(20, 3, 4)
    np.save("x.npy", x)
    assert "shape (20, 3, " in call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["option", "of the net"])
def test_run_batch_first(call, bidirectional, own, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 100)
    net = saved(tr.GRU(4, 8, bidirectional=bidirectional, batch_first=own))
    x = frames(3, 20, 4)
    np.save("x.npy", x)
    text = call("run", "net.safetensors", "x.npy", "-o", "y.npy", *([] if own else ["--batch-first"]))
    assert "60 steps, shape (3, 20, " in text
    expected = net(x)[0] if own else net(x.swapaxes(0, 1))[0].swapaxes(0, 1)
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_run_indices(call, fails):
    net = saved(tr.Sequential(tr.Embedding(10, 4), tr.GRU(4, 8)))
    x = RANDOM.integers(0, 10, 30)
    np.save("x.npy", x.astype(np.uint8))
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))
    np.savetxt("x.csv", x, "%d")
    call("run", "net.safetensors", "x.csv", "-o", "z.npy")
    np.testing.assert_array_equal(np.load("z.npy"), net(x))
    np.save("far.npy", np.array([3, 10]))
    fails("run", "net.safetensors", "far.npy", "-o", "y.npy", words="index 10 at [1] is out of range")
    np.save("real.npy", np.zeros(3))
    fails("run", "net.safetensors", "real.npy", "-o", "y.npy", words=["real.npy", "expected integers"])
    for text in ("1.5", "1e300", "nan"):
        with open("x.csv", "w") as file:
            file.write(f"1\n{text}\n")
        fails("run", "net.safetensors", "x.csv", "-o", "y.npy", words=f"x.csv:2: column 1 holds {text}")
    write_wav("x.wav", [[1]], 2)
    fails("run", "net.safetensors", "x.wav", "-o", "y.npy", words="indices")


def test_run_frames_of_rank_2(call, fails):
    net = saved(tr.Sequential(tr.Conv1d(2, 4, 3), tr.ReLU(), tr.Flatten(), tr.GRU(24, 5)))
    x = frames(20, 2, 8)
    np.save("x.npy", x)
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))
    np.savetxt("x.csv", x.reshape(20, 16), "%.9g", ",")
    call("run", "net.safetensors", "x.csv", "-o", "z.npy", "--frame", "2,8")
    np.testing.assert_array_equal(np.load("z.npy"), net(x))
    fails("run", "net.safetensors", "x.csv", "-o", "y.npy", words=["(2, ?)", "--frame"], status=2)
    fails("run", "net.safetensors", "x.npy", "-o", "y.npy", "--frame", "2,9", words=["x.npy", "(T, 2, 9)"])


def test_run_a_frame_of_rank_2_into_csv(call):
    net, x = saved(tr.Conv1d(2, 3, 3)), frames(20, 2, 8)
    np.save("x.npy", x)
    call("run", "net.safetensors", "x.npy", "-o", "y.csv")
    np.testing.assert_array_equal(np.loadtxt("y.csv", np.float32, delimiter=",").reshape(20, 3, 6), net(x))


def test_run_any_frame_through_layers_that_take_any(call):
    saved(tr.Sequential(tr.ReLU()))
    x = frames(20, 5)
    np.save("x.npy", x)
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), np.maximum(x, 0))


def test_run_a_series_of_single_numbers(call):
    net, x = saved(tr.RNN(1, 3)), frames(20)
    np.save("x.npy", x)
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x[:, None])[0])


def test_run_one_layer_of_a_checkpoint(call, fails):
    parts = {"enc": tr.Sequential({"rnn": tr.LSTM(4, 8)}), "fc": tr.Linear(8, 2), "norm": tr.LayerNorm(8)}
    net, x = tr.Sequential(parts), frames(20, 4)
    checkpoint("m.npz", net)
    np.save("x.npy", x)
    for prefix in ("enc.rnn", "enc.rnn.", "enc"):
        call("run", "m.npz", "x.npy", "-o", "y.npy", "--prefix", prefix)
        np.testing.assert_array_equal(np.load("y.npy"), net.enc.rnn(x)[0])
    rest = ["m.npz", "x.npy", "-o", "y.npy"]
    fails("run", *rest, words="got 3 layers, expected one: choose it with --prefix: enc.rnn, fc, norm")
    fails("run", *rest, words="to run them together, build the net in Python and net.save() it")
    fails("run", *rest, "--prefix", "dec", words=["dec", "no layer is recognised"])
    fails("run", *rest, "--prefix", "enc.rn", words="no layer is recognised")
    fails("run", *rest, "--prefix", "norm", words=["LayerNorm", "eps is not in the file"])
    fails("run", *rest, "--prefix", "fc", words=["shape (20, 4)", "(T, 8)"])
    fails("run", *rest, "--prefix", "fc", "--kind", "embedding", words="--kind: got embedding", status=2)


def test_run_the_only_layer_of_a_checkpoint(call, fails):
    cell, x = tr.LSTMCell(4, 8), frames(20, 4)
    checkpoint("m.npz", cell, steps=np.array(7))
    np.save("x.npy", x)
    fails("run", "m.npz", "x.npy", "-o", "y.npy", words="steps")  # a tensor that nobody would use
    checkpoint("m.npz", cell)
    call("run", "m.npz", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), cell.stream().run(x))


def test_run_asks_for_the_kind_that_tensors_do_not_show(call, fails):
    net, x = tr.RNN(4, 8, nonlinearity="relu"), frames(20, 4)
    checkpoint("m.npz", net)
    np.save("x.npy", x)
    fails("run", "m.npz", "x.npy", "-o", "y.npy", words="give --kind rnn_tanh or rnn_relu", status=2)
    call("run", "m.npz", "x.npy", "-o", "y.npy", "--kind", "rnn_relu")
    np.testing.assert_array_equal(np.load("y.npy"), net(x)[0])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((20, 3)), "shape (20, 3), expected (T, 4) or (T, B, 4)"),
        (np.zeros(4), "shape (4,), expected (T, 4)"),
        (np.zeros((2, 2, 2, 4)), "shape (2, 2, 2, 4), expected (T, 4)"),
        (np.zeros((0, 4)), "expected at least one number"),
        (np.zeros((3, 0, 4)), "expected at least one number"),
        (np.zeros((3, 4), complex), "dtype complex128, expected real numbers"),
        (np.full((3, 4), "a"), "dtype <U1, expected real numbers"),
        (np.full((3, 4), None), "Python objects"),
    ],
)
def test_run_refuses_arrays(fails, array, words):
    saved(small())
    np.save("x.npy", array, allow_pickle=True)
    fails("run", "net.safetensors", "x.npy", "-o", "y.npy", words=["x.npy", words])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"1,2,3,4\n",
        wf.npy(wf.npy_header(shape=(20, 4)), bytes(300)),  # cut short
        wf.npy(wf.npy_header(shape=(2**40, 4)), bytes(64)),
        wf.npy(wf.npy_header(shape=(2**62, 2**62)), bytes(64)),
        wf.npy(wf.npy_header(shape=(-4, 4)), bytes(64)),
        wf.npy(wf.npy_header(shape="x")),
        wf.npy("{'descr': " + "(" * 5000),
        wf.npy("__import__('os').abort()"),
        b"PK\3\4" + bytes(60),
    ],
)
def test_run_refuses_hostile_npy(fails, here, data):
    saved(small())
    (here / "x.npy").write_bytes(data)
    fails("run", "net.safetensors", "x.npy", "-o", "y.npy", words="x.npy")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x.npy: is empty, expected a .npy as numpy.save writes it"),
        (b"1,2,3,4\n", "x.npy: begins with 31 2c 32 2c 33 2c, expected a .npy as numpy.save writes it"),
        (b"\x93NUMPY", "x.npy: malformed .npy header: "),
        (b"\x93NUMPY\x09\x00" + bytes(60), "x.npy: malformed .npy header: got version 9.0, expected 1.0"),
        (wf.npy(wf.npy_header(shape=(-4, 4)), bytes(64)), "x.npy: malformed .npy header: got shape (-4, 4)"),
        (
            wf.npy(wf.npy_header("<f4", shape=(20, 4)), bytes(300)),
            "x.npy: cut short: got 300 bytes, expected 320 for shape (20, 4) of float32",
        ),
        (
            wf.npy(wf.npy_header("<f8", shape=(2**62, 2**62)), bytes(64)),
            f"x.npy: cut short: got 64 bytes, expected {2**127} for shape ({2**62}, {2**62}) of float64",
        ),
        (wf.npy("{'x': '" + "y" * 9000 + "'}"), "x.npy: malformed .npy header: "),
    ],
)
def test_run_names_the_fault_of_a_npy(fails, here, capsys, data, words):
    saved(small())
    (here / "x.npy").write_bytes(data)
    fails("run", "net.safetensors", "x.npy", "-o", "y.npy", words=words)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 1
    assert len(capsys.readouterr().err) < 300


def test_run_takes_a_npy_that_python_2_wrote(call, here):
    net, x = saved(small()), frames(20, 4)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (20L, 4L), }"
    (here / "x.npy").write_bytes(wf.npy(header, x.tobytes()))
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x))


# ---- run: .csv ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1,2,3,4\r\n5,6,7,8",
        "a,b,c,d\n1,2,3,4\n\n5,6,7,8\n",
        '"a",,"c d","e"\n"1","2","3","4"\n5,6,7,8\n',
        "\ufeff1;2;3;4\n5;6;7;8\n",
        "1\t2\t3\t4\n5\t6\t7\t8\n",
        " 1 2   3 4 \n5 6 7 8\n",
        "1.0, 2e0, +3, 4.\n\n5,6,7,8\n\n",
    ],
)
def test_run_reads_csv(call, here, text):
    net = saved(small())
    (here / "x.CSV").write_bytes(text.encode())
    assert "2 steps, shape (2, 2)" in call("run", "net.safetensors", "x.CSV", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(np.arange(1, 9).reshape(2, 4)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"1,2,3,4\n1,2,three,4\n", "x.csv:2: column 3 holds three, expected a number"),
        (b"1,2,x,4\n1,2,3,4\n", "x.csv:1: column 3 holds x"),  # no header: some of it is numbers
        (b"a,b,c,d\ne,f,g,h\n", "x.csv:2: column 1 holds e"),
        (b"1,2,3,4\n1,,3,4\n", "x.csv:2: column 2"),
        (b",,,\n1,2,3,4\n", "x.csv:1: column 1"),
        (b"1,2,3,4\n1,2,3\n", "x.csv:2: got 3 columns, expected 4"),
        (b"1,2,3,4\n1,2,3,4,5\n", "x.csv:2: got 5 columns, expected 4"),
        (b"1,2,3,4\n1,2,3,\x1b[31m\n", r"\x1b[31m"),
        (b"\xff\xfe1\x00", "not text"),
        (b"1,2,3,4\n\x80\n", "not text"),
        (b"a,b,c,d\n", "got no frames"),
        (b"", "got no frames"),
        (b"1" * 10000, "got more than"),
        (b"\0" * 100, "x.csv:"),
    ],
)
def test_run_refuses_csv(fails, here, data, words):
    saved(small())
    (here / "x.csv").write_bytes(data)
    fails("run", "net.safetensors", "x.csv", "-o", "y.npy", words=words)


def test_run_writes_csv_that_gives_the_same_numbers(call, fails, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 64)
    net, x = saved(small()), frames(50, 4)
    np.savetxt("x.csv", x, "%.9g", ",")
    call("run", "net.safetensors", "x.csv", "-o", "y.csv")
    np.testing.assert_array_equal(np.loadtxt("y.csv", np.float32, delimiter=","), net(x))
    np.save("x.npy", frames(5, 3, 4))
    fails("run", "net.safetensors", "x.npy", "-o", "y.csv", words="batch", status=2)


def test_run_csv_through_a_bidirectional_net(call, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 64)
    net, x = saved(tr.LSTM(4, 8, bidirectional=True)), frames(50, 4)
    np.savetxt("x.csv", x, "%.9g", ",")
    call("run", "net.safetensors", "x.csv", "-o", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), net(x)[0])


# ---- run: .wav ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_run_reads_pcm(call, width, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 20)
    saved(tr.Sequential(tr.Dropout(), tr.Linear(2, 2, bias=False)))
    net = tr.Sequential(tr.Dropout(), tr.Linear(2, 2, bias=False))
    net.load_state_dict({"1.weight": np.eye(2)})
    saved(net)
    top = 2 ** (8 * width - 1)
    samples = np.vstack([RANDOM.integers(-top, top, (30, 2)), [[-top, top - 1], [0, 1]]])
    write_wav("x.wav", samples, width)
    note = "x.wav: 16000 Hz, 2 channels, 32 samples per channel: 32 frames of 1 per channel, no padding"
    assert "32 steps, shape (32, 2)" in call("run", "net.safetensors", "x.wav", "-o", "y.npy", note=note)
    y = np.load("y.npy")
    np.testing.assert_array_equal(y, (samples / top).astype(np.float32))
    assert y.min() == -1 and y.max() <= 1


def test_run_cuts_mono_into_frames(call, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 40)
    net, samples = saved(tr.GRU(16, 3)), RANDOM.integers(-(2**15), 2**15, 100)
    write_wav("x.wav", samples[:, None], 2)
    note = "x.wav: 16000 Hz, 1 channel, 100 samples: 7 frames of 16, the last padded with 12 zeros"
    assert "7 steps, shape (7, 3)" in call("run", "net.safetensors", "x.wav", "-o", "y.npy", note=note)
    x = np.append(samples / 2**15, np.zeros(12)).reshape(7, 16)
    np.testing.assert_array_equal(np.load("y.npy"), net(x)[0])


@pytest.mark.parametrize("channels", [1, 2])
def test_run_cuts_channels_into_frames_of_rank_2(call, channels, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 40)
    net = saved(tr.Sequential(tr.Conv1d(channels, 4, 3), tr.Flatten(), tr.GRU(24, 5)))
    samples = RANDOM.integers(-(2**15), 2**15, (20, channels))
    write_wav("x.wav", samples, 2, rate=8000)
    each = " per channel" if channels > 1 else ""
    note = (
        f"x.wav: 8000 Hz, {channels} channel{'s' * (channels > 1)}, 20 samples{each}: "
        f"3 frames of 8{each}, the last padded with 4 zeros{each}"
    )
    call("run", "net.safetensors", "x.wav", "-o", "y.npy", "--frame", f"{channels},8", note=note)
    x = np.vstack([samples / 2**15, np.zeros((4, channels))]).reshape(3, 8, channels).swapaxes(1, 2)
    np.testing.assert_array_equal(np.load("y.npy"), net(x))


def test_run_pcm_through_a_bidirectional_net(call, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 40)
    net, samples = saved(tr.GRU(2, 3, bidirectional=True)), RANDOM.integers(-(2**15), 2**15, (100, 2))
    write_wav("x.wav", samples, 2)
    note = "x.wav: 16000 Hz, 2 channels, 100 samples per channel: 100 frames of 1 per channel, no padding"
    call("run", "net.safetensors", "x.wav", "-o", "y.npy", note=note)
    np.testing.assert_array_equal(np.load("y.npy"), net(samples / 2**15)[0])


def test_run_refuses_wav(fails, here):
    saved(tr.GRU(4, 3))
    rest = ["run", "net.safetensors", "x.wav", "-o", "y.npy"]
    write_wav("x.wav", np.ones((20, 2)), 2)
    fails(*rest, words=["x.wav: got 2 channels", "expected 1 or 4 for frames"])
    fails(*rest, "--frame", "1,4", words=["2 channels", "expected 1 for frames"])
    os.mkfifo("pipe.wav")
    fails("run", "net.safetensors", "pipe.wav", "-o", "y.npy", words="pipe.wav: is not a regular file")
    whole = (here / "x.wav").read_bytes()
    past_the_end = whole[:12] + struct.pack("<4sI", b"LIST", 1000) + whole[12:]
    for data in (b"", whole[:30], b"RIFF\0\0\0\0WAVE", whole[:36], past_the_end, whole[::-1]):
        (here / "x.wav").write_bytes(data)
        fails(*rest, words="x.wav: ")
    write_wav("x.wav", np.ones((20, 4)), 2)
    (here / "x.wav").write_bytes((here / "x.wav").read_bytes()[:-6])
    fails(*rest, words=["cut short", "20 samples"])
    write_wav("x.wav", np.ones((0, 4)), 2)
    fails(*rest, words="no samples")
    for form, bits, words in ((3, 32, "unknown format: 3"), (1, 64, "64 bits")):
        chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, 1, 16000, 16000 * bits // 8, bits // 8, bits)
        data = b"WAVE" + chunk + struct.pack("<4sI", b"data", 8) + bytes(8)
        (here / "x.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(data)) + data)
        fails(*rest, words=["x.wav", words])


# ---- run: files ---------------------------------------------------------------------------------


def test_run_refuses_files(fails, here):
    saved(small())
    np.save("x.npy", frames(5, 4))
    (here / "d.npy").mkdir()
    (here / "d.csv").mkdir()
    os.mkfifo("p.npy")
    fails("run", "net.safetensors", "x.npy", "-o", "y.txt", words=[".txt", ".npy .csv"], status=2)
    fails("run", "net.safetensors", "x.npy", "-o", "y", words="missing", status=2)
    fails("run", "gone.safetensors", "gone.npy", "-o", "y.wav", words="y.wav", status=2)  # before any work
    fails("run", "net.safetensors", "x.mp3", "-o", "y.npy", words=[".mp3", ".npy .csv .wav"], status=2)
    fails("run", "gone.safetensors", "x.npy", "-o", "y.npy", words="gone.safetensors: No such file")
    for suffix in ("npy", "csv", "wav"):
        fails("run", "net.safetensors", f"gone.{suffix}", "-o", "y.npy", words=f"gone.{suffix}: No such file")
    web = "https://a.b/x.npy"
    for argv in (
        ["info", web],
        ["run", web, "x.npy", "-o", "y.npy"],
        ["run", "net.safetensors", web, "-o", "y.npy"],
    ):
        fails(*argv, words=f"{web}: got an address, expected a file: download it first")
    fails("run", "net.safetensors", "d.npy", "-o", "y.npy", words="d.npy: Is a directory")
    fails("run", "net.safetensors", "d.csv", "-o", "y.npy", words="d.csv: Is a directory")
    fails("run", "net.safetensors", "x.npy", "-o", "d.npy", words="d.npy: is not a regular file")
    fails("run", "net.safetensors", "x.npy", "-o", "p.npy", words="p.npy: is not a regular file")
    fails("run", "net.safetensors", "p.npy", "-o", "y.npy", words="p.npy: is not a regular file")
    fails("run", "net.safetensors", "", "-o", "y.npy", words="error: '': the suffix is missing", status=2)
    fails("run", "", "x.npy", "-o", "y.npy", words="error: '': No such file")
    fails("run", "net.safetensors", "x.npy", "-o", "gone/y.npy", words="no such folder")
    fails("run", "x.npy", "x.npy", "-o", "y.npy", words="single NumPy array")


def test_run_replaces_the_output_at_once_and_keeps_its_mode_and_link(call, fails, here):
    net, x = saved(small()), frames(20, 4)
    np.save("x.npy", x)
    np.save("real.npy", np.zeros(3))
    os.chmod("real.npy", 0o640)
    os.symlink("real.npy", "y.npy")
    call("run", "net.safetensors", "x.npy", "-o", "y.npy")
    assert os.path.islink("y.npy") and os.stat("real.npy").st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(np.load("real.npy"), net(x))
    (here / "x.csv").write_text("1,2,3,4\n" * 20 + "1,2,3\n")
    fails("run", "net.safetensors", "x.csv", "-o", "y.npy", words="x.csv:21")  # and changes nothing
    call("run", "net.safetensors", "x.npy", "-o", "x.npy", "--force")  # onto its own input
    np.testing.assert_array_equal(np.load("x.npy"), net(x))


def test_an_output_that_is_an_input_is_refused(call, fails, here, monkeypatch):
    """It is refused under any name; with --force it is replaced at the end, after it has been read."""
    net, x = saved(small()), frames(20, 4)
    np.save("x.npy", x)
    for name in ("x.npy", "net.safetensors"):
        os.symlink(name, f"soft_{name}")
        os.link(name, f"hard_{name}")
    os.symlink("net.safetensors", "net.npy")
    (here / "folder").mkdir()
    for name in ("x.npy", "./x.npy", "folder/../x.npy", str(here / "x.npy"), "soft_x.npy", "hard_x.npy"):
        words = [f"{name}: --output is the same file as INPUT", "--force"]
        fails("run", "net.safetensors", "x.npy", "-o", name, words=words, status=2)
    fails("run", "net.safetensors", "x.npy", "-o", "net.npy", words="same file as MODEL", status=2)
    for name in ("net.safetensors", "soft_net.safetensors", "hard_net.safetensors"):
        fails("quantize", "net.safetensors", name, "--to", "int8", words="same file as MODEL", status=2)
        fails("bench", "net.safetensors", "--json", name, words="same file as MODEL", status=2)
    more = ["--to", "int8", "--calibration", "x.npy"]
    fails("quantize", "net.safetensors", "hard_x.npy", *more, words="same file as --calibration", status=2)
    os.symlink("net.safetensors", "net.svg")
    fails("bench", "net.safetensors", "--picture", "net.svg", words="same file as MODEL", status=2)
    words = ["a.svg: --picture is the same file as --json"]
    fails("bench", "lstm:3x4", "--json", "a.svg", "--picture", "a.svg", words=words, status=2)
    fails("quantize", "net.safetensors", "-", "--to", "int8", words="a file's name", status=2)
    call("run", "net.safetensors", "x.npy", "-o", "x.npy", "--force")
    np.testing.assert_array_equal(np.load("x.npy"), net(x))
    call("quantize", "net.safetensors", "net.safetensors", "--to", "int8", "--force")
    assert "int8" in tr.load("net.safetensors").formats.values()
    call("run", "net.safetensors", "hard_x.npy", "-o", "x.npy")  # another file by now, replaced as cp does


def test_run_interrupted_leaves_nothing(here, monkeypatch, capsys):
    saved(small())
    np.save("x.npy", frames(20, 4))
    before = sorted(os.listdir())

    def interrupt(self, done):
        assert "y.npy" not in os.listdir()  # it has no name yet, or a hidden one
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "show", interrupt)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 130
    assert sorted(os.listdir()) == before
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def left_alone():
    """Give signals the handlers that a program begins with, not those of the test runner."""
    ours = {signal.SIGINT: signal.default_int_handler}
    ours |= dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    yield ours
    now = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert now == ours


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_in_order(here, monkeypatch, capsys, left_alone, name):
    """A second signal while the first is being answered breaks nothing off; handlers are put back."""
    saved(small())
    np.save("x.npy", frames(20, 4))
    before = sorted(os.listdir())
    number = getattr(signal, name)
    cleared = []

    def again(self):
        for other in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), other)
        cleared.append(True)

    monkeypatch.setattr(progress.Progress, "show", lambda self, done: os.kill(os.getpid(), number))
    monkeypatch.setattr(progress.Progress, "clear", again)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 128 + number
    assert sorted(os.listdir()) == before and cleared
    assert capsys.readouterr() == ("", "")


def started(*argv, through=()):
    command = [*through, sys.executable, "-m", "tinyrnn", *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def writer_of(pipe, process):
    """The pipe's end to write to, opened when the process has opened the other."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.01)
    raise AssertionError(process.communicate())


WAITING = {
    "run": ["run", "net.safetensors", "p.csv", "-o", "y.npy"],
    "calibration": ["quantize", "net.safetensors", "y.safetensors", "--to", "int8", "--calibration", "p.csv"],
}


@pytest.mark.parametrize(
    "signals", [["SIGTERM"], ["SIGHUP"], ["SIGINT"], ["SIGHUP", "SIGTERM"]], ids="+".join
)
@pytest.mark.parametrize("argv", WAITING.values(), ids=WAITING)
def test_a_signal_ends_a_command_that_waits_for_input(here, left_alone, argv, signals):
    saved(small())
    os.mkfifo("p.csv")
    before = sorted(os.listdir())
    process = started(*argv)
    pipe = writer_of("p.csv", process)
    try:
        os.write(pipe, b"1,2,3,4\n")
        for name in signals:
            process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=120) == (b"", b"")
    finally:
        os.close(pipe)
    assert process.returncode in [128 + getattr(signal, name) for name in signals]
    assert sorted(os.listdir()) == before


def test_a_signal_that_is_ignored_stays_so(here, left_alone):
    """The work goes on, through a pipe too, if nohup or a shell's background job ignores the signals."""
    net = saved(small())
    os.mkfifo("p.csv")
    wanted = (signal.SIGHUP, signal.SIGINT)
    ignoring = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh"]
    process = started("run", "net.safetensors", "p.csv", "-o", "y.npy", through=ignoring)
    pipe = writer_of("p.csv", process)
    try:
        os.write(pipe, b"1,2,3,4\n")
        for number in wanted:
            process.send_signal(number)
        os.write(pipe, b"5,6,7,8\n")
    finally:
        os.close(pipe)
    assert process.communicate(timeout=120)[1] == b"" and process.returncode == 0
    np.testing.assert_array_equal(np.load("y.npy"), net(np.arange(1, 9).reshape(2, 4)))


def test_signals_are_the_command_lines_alone(here, left_alone):
    """Neither an import nor another thread's command changes a handler; one that a program set is kept."""
    saved(small())
    code = """if True:
        import signal, tinyrnn, tinyrnn.cli
        net = tinyrnn.load("net.safetensors")
        net.stream(), tinyrnn.optim.Adam(net), tinyrnn.quantize(net, "int8")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    signal.signal(signal.SIGTERM, own := lambda *_: None)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cli.main(["info", "net.safetensors"])))
    thread.start()
    thread.join()
    assert cli.main(["info", "net.safetensors"]) == 0 and seen == [0]
    assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is own


def test_a_terminal_that_goes_away_is_no_error(monkeypatch, left_alone):
    """After SIGHUP nothing can be drawn or cleared any more; the status is the signal's all the same."""
    saved(small())
    np.save("x.npy", frames(20, 4))

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(progress.time, "monotonic", itertools.count().__next__)
    monkeypatch.setattr(run, "CHUNK", 4)
    draw, drawn = progress.Progress.show, []

    def show(self, done):
        draw(self, done)
        drawn.append(done)
        if len(drawn) == 3:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(progress.Progress, "show", show)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 129
    assert sorted(os.listdir()) == ["net.safetensors", "x.npy"] and len(drawn) == 3


def test_progress_is_drawn_for_a_person_only(capsys, monkeypatch):
    saved(small())
    np.save("x.npy", frames(4, 4))
    monkeypatch.setattr(run, "CHUNK", 4)  # a step for each chunk
    monkeypatch.setattr(progress.time, "monotonic", itertools.count().__next__)  # a second for each look
    command = ["run", "net.safetensors", "x.npy", "-o", "y.npy"]
    assert cli.main(command) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(command) == 0
    drawn = capsys.readouterr().err.split("\r")
    assert [text[33:38].strip() for text in drawn[1:5]] == ["25%", "50%", "75%", "100%"]
    assert drawn[2].startswith(f"[{'#' * 15}{' ' * 15}]") and "2 s left" in drawn[2]
    assert drawn[5].strip() == drawn[6] == ""
    np.save("x.npy", frames(2, 2, 4))  # two sequences of two steps are as much work as one of four
    assert cli.main([*command, "--batch-first"]) == 0
    drawn = capsys.readouterr().err.split("\r")
    assert [text[33:38].strip() for text in drawn[1:5]] == ["25%", "50%", "75%", "100%"]


# ---- bench --------------------------------------------------------------------------------------


def report(text):
    """The JSON that bench wrote, with everything checked that does not depend on time."""
    found = json.loads(text)
    assert found["about"]["tinyrnn"] == tr.__version__ and found["about"]["cpu"] and found["about"]["machine"]
    assert found["machine"]["multiply_adds_g_per_s"] > 0 and found["machine"]["clock_ns"] >= 0
    assert [int(size) for size in found["machine"]["read_gb_per_s"]] == list(bench.CURVE)
    assert min(found["machine"]["read_gb_per_s"].values()) > 0
    for row in found["rows"]:
        us = row["us_per_step"]
        known = [us[name] for name in ("min", "p50", "p99", "p99.9") if us[name] is not None]
        assert known == sorted(known) and len(known) >= 2 and row["calls"] > 0
        assert row["floor_us"] > 0 and row["gb_per_s"] > 0 and row["stream_steps_per_s"] > 0
    return found


@pytest.fixture
def quick(monkeypatch):
    """Small curves and few sizes: what is tested does not depend on them."""
    monkeypatch.setattr(bench, "CURVE", (1 << 13, 1 << 16))
    monkeypatch.setattr(bench, "SIZES", ((1, 16), (64, 128)))
    monkeypatch.setattr(bench, "BATCHED", ((1, 16),))
    monkeypatch.setattr(bench, "LONG", 5)


def test_bench_of_the_standard_sizes(call, quick, here):
    text = call("bench", "--quick", "--json", "all.json")
    rows = report((here / "all.json").read_text())["rows"]
    nets = ["LSTM (1, 16)", "LSTM (64, 128)", "GRU (1, 16)", "GRU (64, 128)"]
    assert [row["net"] for row in rows if (row["steps"], row["batch"]) == (1, 1)] == nets
    assert [row["net"] for row in rows if (row["steps"], row["batch"]) == (5, 1)] == nets
    assert [row["net"] for row in rows if (row["steps"], row["batch"]) == (5, 32)] == nets[::2]
    for streams in bench.STREAMS:
        assert [row["net"] for row in rows if (row["steps"], row["batch"]) == (1, streams)] == nets[1::2]
    words = ("one core reads", "G mul-add/s", "of floor", "one stream, a step per call", "8 streams, a step")
    assert all(word in text for word in words)
    assert text.startswith(f"tinyrnn {tr.__version__}, {tr.isa()}, one of ")
    assert all(text.count(f"\n  {net} ") >= 2 for net in nets)


@pytest.mark.parametrize(
    ("spec", "net"),
    [("lstm:16x8", tr.LSTM(16, 8)), ("GRU:4x8x2", tr.GRU(4, 8, 2)), ("rnn:1x1", tr.RNN(1, 1))],
)
def test_bench_of_a_size(call, quick, spec, net):
    rows = report(call("bench", spec, "--quick", "--steps", 20, "--json", "-"))["rows"]
    assert [(row["steps"], row["batch"]) for row in rows] == [(1, 1), (1, 8), (1, 32), (5, 1)]
    for row in rows:
        assert (row["net"], row["calls"], row["weight_bytes"]) == (spec, 20, net.memory().weights)
    step, many, _, run = rows
    assert step["weight_bytes_per_step"] == pytest.approx(net.memory().weights)
    assert run["weight_bytes_per_step"] < step["weight_bytes_per_step"]  # the input's part is read once
    matrices = sum(array.size for array in net.state_dict().values() if array.ndim == 2)
    assert (step["multiply_adds"], many["multiply_adds"]) == (matrices, 8 * matrices)


def test_bench_of_a_size_in_a_smaller_format(call, quick):
    for spec, form in (("gru:32x64:FLOAT16", "float16"), ("gru:32x64x1:int8", "int8")):
        rows = report(call("bench", spec, "--quick", "--json", "-"))["rows"]
        assert rows[0]["weight_bytes"] == tr.quantize(tr.GRU(32, 64), form).memory().weights
        # the floor of integers is bytes alone, however many streams share them
        assert (rows[0]["floor_us"] == rows[2]["floor_us"]) == (form == "int8")


def test_bench_of_a_net_says_it_in_words(call, quick):
    saved(small())
    text = call("bench", "net.safetensors", "--quick", "--batch", 3)
    assert "3 streams, a step per call, µs per step" in text and "3 streams, 5 steps per call" in text
    assert text.count("net.safetensors") == 2 and "8 streams" not in text


def test_bench_leaves_out_quantiles_that_it_has_not_seen(call, quick):
    for steps, known in [(99, []), (100, ["p99"]), (999, ["p99"]), (1000, ["p99", "p99.9"])]:
        (row,) = report(call("bench", "rnn:1x1", "--quick", "--batch", 2, "--steps", steps, "--json", "-"))[
            "rows"
        ][:1]
        assert [name for name in ("p99", "p99.9") if row["us_per_step"][name] is not None] == known


def test_bench_chooses_its_calls(call, quick, monkeypatch):
    monkeypatch.setattr(bench.time, "perf_counter_ns", itertools.count(0, 10**9).__next__)
    rows = report(call("bench", "rnn:1x1", "--quick", "--json", "-"))["rows"]  # calls that take a second each
    assert [row["calls"] for row in rows] == [3] * 4 and rows[0]["us_per_step"]["p50"] == 0


def test_bench_leaves_the_table_of_an_embedding_out(call, quick):
    gru = tr.GRU(8, 16)
    saved(tr.Sequential(tr.Embedding(100, 8), gru))
    for row in report(call("bench", "net.safetensors", "--quick", "--json", "-"))["rows"]:
        assert row["weight_bytes"] == gru.memory().weights


def test_bench_of_an_open_frame(call, fails, quick):
    saved(tr.Conv1d(2, 4, 3))
    fails("bench", "net.safetensors", "--quick", words=["(2, ?)", "--frame"], status=2)
    rows = report(call("bench", "net.safetensors", "--quick", "--frame", "2,8", "--json", "-"))["rows"]
    assert len(rows) == 4
    fails("bench", "net.safetensors", "--quick", "--frame", "3,8", words="(3, 8)")


@pytest.mark.parametrize("options", [{}, {"batch_first": True}])
def test_bench_of_a_net_that_reads_the_future(call, quick, options):
    saved(tr.LSTM(4, 8, bidirectional=True, **options))
    for batch, more in ((1, []), (3, ["--batch", 3])):
        rows = report(call("bench", "net.safetensors", "--quick", "--json", "-", *more))["rows"]
        assert [(row["steps"], row["batch"]) for row in rows] == [(5, batch)]


def test_bench_on_every_isa(call, fails, quick):
    before = tr.isa()
    for isa in tr.available_isas():
        found = report(call("bench", "lstm:3x4", "--quick", "--isa", isa, "--json", "-"))
        assert found["about"]["isa"] == isa and tr.isa() == before
    fails("bench", "lstm:3x4", "--isa", "mmx", words=["mmx", *tr.available_isas()], status=2)


def test_bench_draws_a_picture(call, quick, here):
    pytest.importorskip("matplotlib")
    call("bench", "--quick", "--picture", "roofline.png")
    assert (here / "roofline.png").read_bytes().startswith(b"\x89PNG\r\n")
    call("bench", "lstm:3x4", "--quick", "--picture", "roofline.SVG")
    assert b"<svg" in (here / "roofline.SVG").read_bytes()


def test_bench_without_matplotlib_says_so_at_once(fails, monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    fails("bench", "--picture", "a.png", words=["matplotlib", "pip install 'tinyrnn[plot]'"], status=2)


def test_bench_refuses(fails, quick, here):
    for spec in (
        "lstm",
        "GRU",
        "lstm:3",
        "tcn:3x4",
        "lstm:3x4x",
        "lstm:3x4x5x6",
        "lstm:0003x4000000",
        "lstm:3x4:int2",
    ):
        fails("bench", spec, words=[spec, "lstm:64x128"], status=2)
    for spec in ("lstm:0x4", "gru:4x0", "rnn:4x4x0", "rnn:4x4x2000"):
        fails("bench", spec, words="expected")
    fails("bench", "--batch", 2, words=["--batch", "MODEL"], status=2)
    fails("bench", "--steps", 2, words=["--steps", "MODEL"], status=2)
    fails("bench", "--picture", "a.jpg", words=["a.jpg", ".png .svg .pdf"], status=2)
    fails("bench", "--json", "no/where.json", words="no such folder")
    fails("bench", "--json", str(here), words="cannot be replaced")


# ---- the command line itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (
            ["fly"],
            "got 'fly', expected info, run, quantize, convert, verify, bench, doctor, selftest, completion",
        ),
        (
            ["quantise"],
            "quantize, convert, verify, bench, doctor, selftest, completion; did you mean 'quantize'? (see",
        ),
        (["info"], "FILE"),
        (["info", "a", "b\x1b[0m\n"], r"b\x1b[0m"),
        (["run", "m", "x.npy"], "--output"),
        (["run", "m", "x.npy", "-o"], "expected one argument"),
        (["run", "m", "x.npy", "-o", "y.npy", "--frame", "1,2,3"], "CHANNELS,LENGTH"),
        (["run", "m", "x.npy", "-o", "y.npy", "--frame", "1,"], "whole number"),
        (["bench", "lstm:3x4", "--steps", "0"], "whole number"),
        (["bench", "lstm:3x4", "--steps", "-3"], "--steps"),
        (["bench", "lstm:3x4", "--batch", "9" * 5000], "whole number"),
        (["bench", "lstm:3x4", "--st", "5"], "--st"),
        (
            ["verify", "m", "n.onnx"],
            "verify: got n.onnx, expected no more arguments (see tinyrnn verify --help",
        ),
        (
            ["run", "m", "x.npy", "-o", "y.npy", "--bach-first"],
            "an option of it; did you mean '--batch-first'?",
        ),
        (["run", "x.npy", "m.onnx", "-o", "y.npy"], "x.npy: got it as MODEL, expected a net's file"),
    ],
)
def test_usage(fails, argv, words):
    fails(*argv, words=words, status=2)


@pytest.mark.parametrize("argv", [["--help"], ["info", "--help"], ["run", "--help"], ["bench", "--help"]])
def test_help(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: tinyrnn ")


def test_failures_are_one_line(fails, monkeypatch, here):
    saved(small())
    for error, words in [
        (MemoryError(), "not enough memory"),
        (ValueError("one\n\ttwo\x1b"), r"one two\x1b"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device"), "No space left"),
    ]:
        monkeypatch.setattr(info, "opened", lambda path, key, error=error: (_ for _ in ()).throw(error))
        fails("info", "net.safetensors", words=words)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_an_input_that_is_cut_short_meanwhile_is_one_line(here, capsys, monkeypatch, batch):
    """It was mapped, so that the process ended with a bus error."""
    saved(small())
    monkeypatch.setattr(run, "CHUNK", 64)
    write = outputs.NpyWriter.write

    def and_cut(self, y):
        os.truncate("x.npy", 200)
        write(self, y)

    np.save("x.npy", frames(20000, *batch, 4))
    monkeypatch.setattr(outputs.NpyWriter, "write", and_cut)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 1
    assert capsys.readouterr().err == "tinyrnn: error: x.npy: was cut short while it was read\n"
    assert not os.path.exists("y.npy")


def test_a_disk_error_in_the_middle_of_an_input_names_it(here, capsys, monkeypatch):
    saved(small())
    np.save("x.npy", frames(20000, 4))

    class Failing(io.FileIO):
        reads = 0

        def read(self, size=-1):
            Failing.reads += size > 1000  # chunks, not the header
            if Failing.reads > 1:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    monkeypatch.setattr("builtins.open", lambda path, mode="r", *a, open=open, **k: (
        Failing(path) if path == "x.npy" else open(path, mode, *a, **k)
    ))  # fmt: skip
    monkeypatch.setattr(run, "CHUNK", 4096)
    assert cli.main(["run", "net.safetensors", "x.npy", "-o", "y.npy"]) == 1
    assert capsys.readouterr().err == "tinyrnn: error: x.npy: Input/output error\n"


def test_errors_of_the_system_name_the_file(fails, here, monkeypatch):
    """Errors of reading, writing and standard output, where the system itself names no file."""
    saved(small())
    np.save("x.npy", frames(20, 4))
    for suffix in ("csv", "npy", "wav"):
        if os.path.exists("/proc/self/mem"):
            os.symlink("/proc/self/mem", f"io.{suffix}")  # can be opened, but not read from its beginning
            words = f"error: io.{suffix}: {os.strerror(errno.EIO)}"
            fails("run", "net.safetensors", f"io.{suffix}", "-o", "y.npy", words=words)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fails("run", "net.safetensors", "x.npy", "-o", "y.csv", words="error: y.csv: No space left on device")
    monkeypatch.setattr(console, "print", full, raising=False)
    fails("info", "net.safetensors", words="error: standard output: No space left on device")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "argv",
    [["info", "net.safetensors"], ["run", "net.safetensors", "x.npy", "-o", "y.npy"], ["run", "--help"]],
)
def test_standard_output_that_is_full_is_one_line(argv, unbuffered):
    saved(small())
    np.save("x.npy", frames(20, 4))
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "tinyrnn", *argv], stdout=full, stderr=-1, env=env)
        assert done.stderr == b"tinyrnn: error: standard output: No space left on device\n"
        assert done.returncode == 1
        command = [sys.executable, "-m", "tinyrnn", "info", "gone"]
        assert subprocess.run(command, stderr=full, env=env).returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(closed):
    net, x = saved(small()), frames(20, 4)
    np.save("x.npy", x)
    for line, status in (
        ("info net.safetensors", 0),
        ("run net.safetensors x.npy -o y.npy", 0),
        ("info no", 1),
    ):
        command = ["sh", "-c", f'"$0" -m tinyrnn {line} {closed}', sys.executable]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == status and b"Traceback" not in done.stderr
    np.testing.assert_array_equal(np.load("y.npy"), net(x))


def test_calibration_that_is_no_use_names_the_file(fails):
    saved(small())
    rest = ["net.safetensors", "q.safetensors", "--to", "int8", "--calibration", "x.npy"]
    np.save("x.npy", np.full((3, 4), np.nan))
    fails("quantize", *rest, words="x.npy: got numbers that are not finite")
    saved(tr.Sequential(tr.Embedding(10, 4), tr.GRU(4, 8)))
    for index in (10, -1):
        np.save("x.npy", np.array([3, index]))
        fails("quantize", *rest, words=f"x.npy: index {index} is out of range, expected 0 .. 9")


BEST = tr.available_isas()[-1]
LISTED = " ".join(tr.available_isas())


@pytest.mark.parametrize("asked", ["nonsense", "neon9", BEST.upper(), "a" * 5000, "\x1b[31m", "b\udcff"])
def test_an_unknown_instruction_set_is_one_line(asked):
    """On the command line, however it is started."""
    env = {**os.environ, "TINYRNN_ISA": asked}
    name = asked[:40]
    line = f"tinyrnn: error: environment variable TINYRNN_ISA: got {name!r}, expected one of {LISTED}"
    script = "import sys; sys.argv[0] = '/usr/bin/tinyrnn'; from tinyrnn.cli import main; sys.exit(main())"
    for start in (["-m", "tinyrnn"], ["-mtinyrnn"], ["-W", "error", "-m", "tinyrnn"], ["-c", script]):
        for argv in (["--version"], ["info", "x"]):
            done = subprocess.run([sys.executable, *start, *argv], env=env, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(line)
            assert done.stderr.count("\n") == 1 and done.stderr[:-1].isprintable() and len(done.stderr) < 400


def test_an_unknown_instruction_set_is_a_warning_of_the_library(here):
    """The warning points to the import. An empty or blank name counts as none."""
    (here / "program.py").write_text("import os\nimport tinyrnn.cli as cli\nprint(cli.tr.isa())\n")
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text("import tinyrnn\nprint(tinyrnn.isa())\n")
    (here / "package" / "tinyrnn.py").touch()
    for asked, isa in [
        ("nonsense", None),
        ("", BEST),
        (" \t", BEST),
        (f" {tr.available_isas()[0]}\r", tr.available_isas()[0]),
    ]:
        env = {**os.environ, "TINYRNN_ISA": asked}
        for start, place in [
            (["program.py", "tinyrnn"], ":2: RuntimeWarning: "),
            (["-m", "package.tinyrnn"], "__init__.py:1: RuntimeWarning: "),  # the name's end is not enough
        ]:
            done = subprocess.run([sys.executable, *start], env=env, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (0, f"{isa or BEST}\n"), done.stderr
            if isa is not None:
                assert done.stderr == ""
                continue
            wrong = f"environment variable TINYRNN_ISA: got 'nonsense', expected one of {LISTED}"
            assert place + wrong in done.stderr and f"the best one is used, {BEST}" in done.stderr
            assert done.stderr.count("Warning") == 1 and "Traceback" not in done.stderr


def test_a_package_that_is_not_installed_is_one_line(fails, monkeypatch, here):
    saved(small())
    (here / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    fails("verify", "net.safetensors", "--against", "model.onnx", words="pip install onnxruntime")


def test_a_bug_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(info, "opened", lambda path, key: contextlib.nullcontext())
    with pytest.raises(AttributeError):
        cli.main(["info", "net.safetensors"])


def test_module_and_version():
    done = subprocess.run([sys.executable, "-m", "tinyrnn", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tinyrnn {tr.__version__}\n", "")
    done = subprocess.run([sys.executable, "-m", "tinyrnn", "info", "."], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("tinyrnn: error: .: ")


def test_a_command_is_imported_when_it_is_asked_for():
    code = "import sys, tinyrnn.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith("tinyrnn.cli")]
    assert (
        ours == ["tinyrnn.cli", "tinyrnn.cli.console", "tinyrnn.cli.options"]
        and "wave" not in done.stdout.split()
    )


@pytest.mark.parametrize("argv", [["--help"], ["info", "net.safetensors"]])
def test_a_reader_that_goes_away_gets_no_message(argv):
    saved(small())
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "tinyrnn", *argv]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    try:
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, env=buffered)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")
