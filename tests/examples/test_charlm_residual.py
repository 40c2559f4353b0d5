"""The residual stack as a character model, and its twin in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_scripts import Load, number

import tinyrnn as tr

SIZES = ["--width", "24", "--blocks", "2"]
SMALL = [*SIZES, "--batch", "4", "--length", "16", "--every", "4"]


def test_block_adds_to_what_it_reads(load: Load) -> None:
    """An LSTM of zeros writes zeros: only embedding, layer norm and head are left."""
    net = load("charlm", "residual").build(24, 3, seed=1)
    weights = net.state_dict()
    lstms = {name: np.zeros_like(array) for name, array in weights.items() if ".lstm." in name}
    assert len(lstms) == 3 * 4
    symbols = np.arange(90, dtype=np.int32).reshape(30, 3)
    before = net(symbols)
    net.load_state_dict(lstms, strict=False)
    h = weights["embedding.weight"].astype(np.float64)[symbols]
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    wanted = h @ weights["head.weight"].T + weights["head.bias"]
    np.testing.assert_allclose(net(symbols), wanted, rtol=0, atol=1e-5)
    assert np.abs(before - wanted).max() > 0.01


def test_stack_learns_and_streams(
    load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, twice = tmp_path / "net.safetensors", tmp_path / "again.safetensors"
    arguments = ["--text", str(text), "--steps", "8", "--write", "20", *SMALL]
    main = load("charlm", "residual").main
    main([*arguments, "--out", str(saved)])
    output = capsys.readouterr().out
    last = number(r"step     8 .* validation ([\d.]+)", output)
    assert last < number(r"step     4 .* validation ([\d.]+)", output) < 5
    assert abs(number(r"([\d.]+) bits per character", output) - last / np.log(2)) < 1e-3
    main([*arguments, "--out", str(twice)])
    assert saved.read_bytes() == twice.read_bytes()

    net = tr.load(saved)
    symbols = np.arange(90, dtype=np.int32)
    stream = net.stream()
    assert np.array_equal([stream.step(symbol) for symbol in symbols], net(symbols))
    capsys.readouterr()
    streamed = load("charlm", "stream")
    streamed.main(["--checkpoint", str(saved), "--prompt", "the ", "--length", "30"])
    out = capsys.readouterr().out
    assert out.startswith("the ") and len(out) == 4 + 30
    given = streamed.encode(out)
    greedy = net(np.array(given, np.int32)).argmax(-1)
    assert given[4:] == greedy[3:-1].tolist()


@pytest.mark.parametrize("name", ["float16", "int8", "int4"])
def test_stack_in_smaller_formats(load: Load, name: str) -> None:
    if name == "int4":
        pytest.importorskip("pydoc_data.topics")
    net = load("charlm", "residual").build(24, 2, seed=0)
    smaller = load("charlm", "stream").shrink(net, name)
    assert smaller.memory().weights < 0.6 * net.memory().weights
    expected = {"int8", "int4"} if name == "int4" else {name}
    assert set(smaller.formats.values()) == expected
    symbols = np.arange(90, dtype=np.int32)
    assert 0 < np.abs(smaller(symbols) - net(symbols)).max() < 0.2


def test_losses_are_pytorchs(
    load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    saved, other = tmp_path / "net.safetensors", tmp_path / "model.pt"
    arguments = ["--text", str(text), "--steps", "40", *SMALL]
    load("charlm", "residual").main([*arguments, "--out", str(saved), "--write", "0", "--torch"])
    output = capsys.readouterr().out
    assert number(r"the losses of 40 steps were at most (\S+) apart", output) < 1e-4
    last = r"step    40 .* {} .* validation ([\d.]+)"
    ours, theirs = (number(last.format(name), output) for name in ("tinyrnn", "PyTorch"))
    assert abs(ours - theirs) < 2e-4

    twin = load("charlm", "residual_torch")
    twin.main([*arguments, "--out", str(other)])
    assert abs(number(r"step    40 .* validation ([\d.]+)", capsys.readouterr().out) - theirs) < 2e-4
    net = tr.load(saved)
    found, wanted = net.state_dict(), tr.load_weights(other)
    assert list(found) == list(wanted)
    theirs_here = load("charlm", "stream").load(other)
    for name, array in theirs_here.state_dict().items():
        assert array.tobytes() == wanted[name].tobytes(), name
    for name, array in found.items():
        assert np.abs(array - wanted[name]).max() < 1e-3, name
    symbols = np.arange(90, dtype=np.int64).reshape(30, 3)
    with torch.no_grad():
        logits, (hidden, cell) = twin.twin(net).eval()(torch.from_numpy(symbols))
        more, _ = twin.twin(net).eval()(torch.from_numpy(symbols), (hidden, cell))
    np.testing.assert_allclose(net(symbols), logits.numpy(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(net(symbols, state=net.last_state), more.numpy(), rtol=0, atol=2e-4)
