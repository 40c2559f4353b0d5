"""The examples that train: character model, fine-tuning, digits, sunspots, and their twins in PyTorch."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinyrnn as tr

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = {
    "charlm": ["learn", "adapt", "stream"],
    "digits": ["digits"],
    "sunspots": ["sunspots"],
}
Load = Callable[[str, str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """A script as a module, imported as Python does that runs it: from its folder."""

    def load(folder: str, name: str) -> ModuleType:
        if name.endswith("_torch"):
            pytest.importorskip("torch")
        monkeypatch.syspath_prepend(EXAMPLES / folder)
        return importlib.import_module(name)

    yield load
    for name, module in list(sys.modules.items()):  # other folders have scripts of the same names
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(EXAMPLES):
            del sys.modules[name]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A short text file to learn from."""
    words = ["the ", "net ", "reads ", "a ", "line, ", "and ", "then ", "it ", "writes ", "one.\n"]
    path = tmp_path / "text.txt"
    path.write_text("".join(np.random.default_rng(0).choice(words, 1500)), encoding="utf-8")
    return path


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def stopped(main: Callable[[list[str]], None], *arguments: object) -> str:
    """Expect that a script that cannot go on ends with one line, not a traceback."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


@pytest.mark.parametrize(("folder", "name"), [(f, name) for f, names in SCRIPTS.items() for name in names])
def test_help(load: Load, folder: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(folder, name).main(["--help"])
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


# ---- the character model ------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", ["learn", "adapt"])
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps: '0', expected a whole number from 1"),
        (["--seed", "-1"], "--seed: '-1', expected a whole number from 0"),
        (["--rate", "fast"], "--rate: 'fast', expected a number above 0"),
        (["--rate", "nan"], "--rate: 'nan'"),
        (["--out", "nowhere/net.safetensors"], "expected a file in a folder that exists"),
    ],
)
@pytest.mark.parametrize(("folder", "name"), [("charlm", "learn"), ("charlm", "adapt"), ("digits", "digits")])
def test_wrong_options(
    load: Load,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    if folder == "digits" and arguments[0] == "--steps":
        arguments, message = ["--epochs", "0"], message.replace("--steps", "--epochs")
    with pytest.raises(SystemExit) as stop:
        load(folder, name).main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


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


# ---- digits -------------------------------------------------------------------------------------


def test_digits_are_told_apart(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    saved = tmp_path / "digits.safetensors"
    digits = load("digits", "digits")
    digits.main(["--out", str(saved)])
    output = capsys.readouterr().out
    accuracy = number(r"epoch  30 .* ([\d.]+)% in the test", output)
    assert accuracy >= 97
    _, test = digits.read()
    found = tr.load(saved)(test.images)[:, -1].argmax(-1)
    assert round(100 * float((found == test.labels).mean()), 2) == accuracy


def test_digits_are_pytorchs(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    load("digits", "digits").main(["--epochs", "2", "--torch"])
    output = capsys.readouterr().out
    assert number(r"the losses of 88 steps were at most (\S+) apart", output) < 1e-3
    load("digits", "digits_torch").main(["--epochs", "2"])
    alone = number(r"PyTorch +loss ([\d.]+)", capsys.readouterr().out)
    assert abs(alone - number(r"PyTorch +loss ([\d.]+)", output)) < 2e-4


def test_digits_are_not_in_both_parts(load: Load) -> None:
    pytest.importorskip("sklearn")
    digits = load("digits", "digits")
    train, test = digits.read()
    assert train.images.shape == (1438, 8, 8) and test.images.shape == (359, 8, 8)
    assert train.images.min() == 0 and train.images.max() == 1
    seen = np.concatenate([batch.images for batch in digits.batches(train, 32, 1)])
    assert len(seen) == 44 * 32 and len(np.unique(seen.reshape(len(seen), -1), axis=0)) > 1400
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_batch_larger_than_the_digits(load: Load) -> None:
    pytest.importorskip("sklearn")
    message = stopped(load("digits", "digits").main, "--batch", "2000")
    assert message == "--batch is 2000, expected at most 1438, all digits there are"


@pytest.mark.parametrize(
    ("folder", "missing", "name"),
    [("digits", "sklearn", "scikit-learn"), ("sunspots", "statsmodels", "statsmodels")],
)
def test_data_that_is_not_installed(
    load: Load, monkeypatch: pytest.MonkeyPatch, folder: str, missing: str, name: str
) -> None:
    for module in (missing, f"{missing}.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    assert stopped(load(folder, folder).main).endswith(f"which is missing: pip install {name}")


@pytest.mark.parametrize(
    ("folder", "name"), [("charlm", "learn"), ("digits", "digits"), ("sunspots", "sunspots")]
)
def test_torch_that_is_not_installed(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    name: str,
    text: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip({"digits": "sklearn", "sunspots": "statsmodels"}.get(folder, "numpy"))
    monkeypatch.setitem(sys.modules, "torch", None)
    more = ["--text", text, "--out", tmp_path / "net.safetensors"] if folder == "charlm" else []
    assert stopped(load(folder, name).main, "--torch", *more) == "torch is not installed; this needs it"


# ---- sunspots -----------------------------------------------------------------------------------

LITTLE = ["--nets", "2", "--steps", "20"]


@pytest.fixture
def sunspots(load: Load) -> ModuleType:
    pytest.importorskip("statsmodels")
    return load("sunspots", "sunspots")


def row(name: str, output: str) -> list[float]:
    found = re.search(rf"^{re.escape(name)} +([\d. ]+)$", output, re.MULTILINE)
    assert found, output
    return [float(value) for value in found[1].split()]


def test_sunspots(sunspots: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sunspots.main(LITTLE)
    output = capsys.readouterr().out
    assert "fitted to 1700-1949, tested on 1950-2008" in output
    assert len(row("RNN, tinyrnn", output)) == 12
    assert row("seasonal naive", output)[0] == 37.4
    assert row("AR(9)", output)[0] == 18.7


def test_sunspots_are_better_than_seasonal_naive(
    sunspots: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    sunspots.main(["--nets", "3"])
    output = capsys.readouterr().out
    assert row("RNN, tinyrnn", output)[-1] < 0.9 * row("seasonal naive", output)[-1]


def test_sunspots_draw_a_png(sunspots: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "sunspots.png"
    sunspots.main([*LITTLE, "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_sunspots_are_pytorchs(load: Load, sunspots: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    sunspots.main([*LITTLE, "--torch"])
    output = capsys.readouterr().out
    assert number(r"the losses of 40 steps were at most (\S+) apart", output) < 1e-3
    load("sunspots", "sunspots_torch").main(LITTLE)
    assert row("RNN, PyTorch", capsys.readouterr().out) == row("RNN, PyTorch", output)


def test_forecasts_do_not_see_the_future(sunspots: ModuleType) -> None:
    _, series = sunspots.read()
    span = sunspots.Span(250, 309)
    changed = series.copy()
    changed[280:] = 7.0
    learner = sunspots.Tinyrnn(sunspots.build(0), sunspots.make_parser("").parse_args([]))
    for method in (
        lambda values: sunspots.rolling([learner], values, sunspots.Scale(values[:250]), span),
        lambda values: sunspots.seasonal_naive(values, span),
        lambda values: sunspots.autoregression(values, span),
    ):
        one, two = method(series), method(changed)
        assert list(one) == list(range(250, 309))
        for place in one:
            assert np.array_equal(one[place], two[place]) == (place <= 280)


def test_batches_hold_only_what_is_fitted(sunspots: ModuleType) -> None:
    _, series = sunspots.read()
    scale = sunspots.Scale(series[:250])
    one = sunspots.batches(series[:250], scale, seed=3)
    two = sunspots.batches(series[:250], scale, seed=3)
    for _ in range(3):
        (windows, targets), again = next(one), next(two)
        assert windows.shape == (22, 32, 1) and targets.shape == (32, 11)
        assert np.array_equal(windows, again[0]) and np.array_equal(targets, again[1])


def test_errors_are_root_mean_squares(sunspots: ModuleType) -> None:
    series = np.arange(60, dtype=np.float64)
    span = sunspots.Span(30, 60)
    exact = {place: np.arange(place, place + 11.0) for place in range(30, 60)}
    assert not sunspots.errors(exact, series, span).any()
    off = {place: forecast + 2 for place, forecast in exact.items()}
    assert np.allclose(sunspots.errors(off, series, span), 2)
    assert np.allclose(sunspots.errors(sunspots.seasonal_naive(series, span), series, span), 11)


def test_autoregression_is_least_squares(sunspots: ModuleType) -> None:
    _, series = sunspots.read()
    rows = np.array([[1, *series[at - 9 : at][::-1]] for at in range(9, 250)])
    weights = np.linalg.lstsq(rows, series[9:250], rcond=None)[0]
    found = sunspots.autoregression(series, sunspots.Span(250, 270))[260]
    first = weights @ [1, *series[251:260][::-1]]
    second = weights @ [1, first, *series[252:260][::-1]]
    np.testing.assert_allclose(found[:2], [first, second], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "1720"], "--start is 1720, expected 1744 .. 1998"),
        (["--end", "2020"], "--end is 2020, expected 1960 .. 2008 where --start is 1950"),
    ],
)
def test_years_that_are_not_there(sunspots: ModuleType, arguments: list[str], message: str) -> None:
    assert stopped(sunspots.main, *arguments) == message
