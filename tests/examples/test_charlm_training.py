"""The character model trained and fine-tuned here, and its twins in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_scripts import Load, number, stopped
from folders import EXAMPLES

import tinyrnn as tr

SMALL = ["--batch", "4", "--length", "16", "--every", "4"]


def test_batches_read_on_where_they_stopped(load: Load) -> None:
    corpus = load("charlm", "corpus")
    symbols = np.arange(1000, dtype=np.int32)
    passes, last = 0, symbols
    for (x, y, fresh), _ in zip(corpus.batches(symbols, 4, 16, seed=1), range(40), strict=False):
        assert x.shape == y.shape == (16, 4) and x.dtype == np.int32 and x.flags.c_contiguous
        assert np.array_equal((x + 1) % 1000, y)
        assert fresh or np.array_equal(x[0], last)
        last, passes = y[-1], passes + fresh
    assert passes == 3  # of 15 windows each
    again = corpus.batches(symbols, 4, 16, seed=1)
    other = corpus.batches(symbols, 4, 16, seed=2)
    first = next(corpus.batches(symbols, 4, 16, seed=1))[0]
    assert np.array_equal(first, next(again)[0]) and not np.array_equal(first, next(other)[0])


def test_text_becomes_plain(load: Load) -> None:
    corpus = load("charlm", "corpus")
    symbols = corpus.encode("\u201cA\u201d\u2014\u00e9\n")
    assert "".join(corpus.VOCABULARY[symbol] for symbol in symbols) == '"A"--\n'


def test_learn(load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "net.safetensors"
    learn = load("charlm", "learn")
    arguments = ["--text", str(text), "--out", str(saved), "--steps", "8", "--write", "20", *SMALL]
    learn.main(arguments)
    output = capsys.readouterr().out
    before = number(r"step     4 .* validation ([\d.]+)", output)
    assert number(r"step     8 .* validation ([\d.]+)", output) < before < 5
    assert len(output.split("bytes\n\n", 1)[1].removesuffix("\n")) == 20

    net = load("charlm", "stream").build(saved)
    again = tr.load(saved)
    assert list(again.state_dict()) == list(net.state_dict())
    symbols = load("charlm", "corpus").encode(text.read_text(encoding="utf-8"))
    assert learn.mean_loss(net, symbols[-len(symbols) // 10 :]) < before

    twice = tmp_path / "again.safetensors"
    learn.main([*arguments, "--out", str(twice)])
    assert saved.read_bytes() == twice.read_bytes()


def test_losses_are_pytorchs(
    load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    saved = tmp_path / "net.safetensors"
    arguments = ["--text", str(text), "--out", str(saved), "--steps", "24", "--write", "0", *SMALL]
    load("charlm", "learn").main([*arguments, "--torch"])
    output = capsys.readouterr().out
    assert number(r"the losses of 24 steps were at most (\S+) apart", output) < 1e-4
    last = r"step    24 .* {} .* validation ([\d.]+)"
    ours, theirs = (number(last.format(name), output) for name in ("tinyrnn", "PyTorch"))
    assert abs(ours - theirs) < 2e-4
    arguments[3] = str(tmp_path / "model.pt")
    load("charlm", "learn_torch").main([*arguments[:6], *SMALL])
    alone = number(r"step    24 .* validation ([\d.]+)", capsys.readouterr().out)
    assert abs(alone - theirs) < 2e-4
    names = list(tr.load_weights(arguments[3]))
    assert names == list(tr.load(saved).state_dict())


@pytest.mark.parametrize("name", ["learn", "adapt", "residual"])
def test_text_that_cannot_be_read(load: Load, tmp_path: Path, name: str) -> None:
    main = load("charlm", name).main
    out = ["--out", tmp_path / "net.safetensors"]
    assert stopped(main, "--text", tmp_path / "absent.txt", *out).endswith(
        "absent.txt: there is no such file"
    )
    path = tmp_path / "latin.txt"
    path.write_bytes(b"\xe9t\xe9")
    assert "latin.txt: not UTF-8 text" in stopped(main, "--text", path, *out)
    path.write_text("ab " * 400)
    assert "the text is too short: 1,080 symbols to train on" in stopped(main, "--text", path, *out)
    path.write_text("ab")
    assert "the text is too short" in stopped(main, "--text", path, *out)
    assert not out[1].exists()


# ---- fine-tuning --------------------------------------------------------------------------------


def test_adapt_trains_what_is_named(
    load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "net.safetensors"
    arguments = ["--text", text, "--out", saved, "--steps", "8", "--write", "10", *SMALL]
    load("charlm", "adapt").main([str(a) for a in [*arguments, "--train", "head", "lstm.bias_hh_l1"]])
    output = capsys.readouterr().out
    assert "trains 3 of 11 tensors: lstm.bias_hh_l1, head.weight, head.bias" in output
    assert number(r"after: +([\d.]+)", output) < number(r"before: +([\d.]+)", output)
    old, new = tr.load_weights(EXAMPLES / "charlm" / "charlm.pt"), tr.load_weights(saved)
    changed = {name for name in new if new[name].tobytes() != old[name].tobytes()}
    assert changed == {"lstm.bias_hh_l1", "head.weight", "head.bias"}


def test_adapted_model_loads_into_pytorch(
    load: Load, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    twin = load("charlm", "adapt_torch")
    saved, other = tmp_path / "net.safetensors", tmp_path / "model.pt"
    arguments = ["--text", str(text), "--steps", "8", *SMALL, "--train", "lstm", "head"]
    load("charlm", "adapt").main([*arguments, "--out", str(saved), "--write", "0"])
    after = number(r"after: +([\d.]+)", capsys.readouterr().out)

    symbols = np.arange(90, dtype=np.int64).reshape(30, 3)
    with torch.no_grad():
        theirs = twin.restored(saved)(torch.from_numpy(symbols))[0].numpy()
    np.testing.assert_allclose(tr.load(saved)(symbols), theirs, rtol=0, atol=2e-4)
    twin.main([*arguments, "--load", str(saved)])
    assert abs(number(r"loads strictly; ([\d.]+)", capsys.readouterr().out) - after) < 2e-4

    twin.main([*arguments, "--out", str(other)])
    assert abs(number(r"after: +([\d.]+)", capsys.readouterr().out) - after) < 2e-4
    ours, theirs = tr.load_weights(saved), tr.load_weights(other)
    for name, array in ours.items():
        assert np.abs(array - theirs[name]).max() < 1e-3, name
    assert ours["embedding.weight"].tobytes() == theirs["embedding.weight"].tobytes()


def test_adapt_says_what_is_wrong(load: Load, text: Path, tmp_path: Path) -> None:
    main = load("charlm", "adapt").main
    out = ["--text", text, "--out", tmp_path / "net.safetensors"]
    assert "--train: Sequential has no tensor or layer 'tail', but " in stopped(main, *out, "--train", "tail")
    assert "absent.pt: there is no such file" in stopped(main, *out, "--model", tmp_path / "absent.pt")
    path = tmp_path / "other.safetensors"
    tr.Linear(3, 4).save(path)
    assert "other.safetensors: not a model of this folder" in stopped(main, *out, "--model", path)


def test_default_texts(load: Load) -> None:
    corpus = load("charlm", "corpus")
    sources = corpus.read_sources(50_000)
    assert len(sources) == 50_000 and "import" in sources
    pytest.importorskip("pydoc_data.topics")
    assert len(corpus.read_topics()) > 400_000
