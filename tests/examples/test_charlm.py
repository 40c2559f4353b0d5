"""The README's main job: the character model trained in PyTorch, streamed without it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from folders import EXAMPLES

import tinyrnn as tr

FOLDER = EXAMPLES / "charlm"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("charlm_stream", FOLDER / "stream.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net(example: ModuleType) -> tr.Net:
    return example.build(FOLDER / "charlm.pt")


@pytest.mark.parametrize("isa", tr.available_isas())
@pytest.mark.parametrize("golden", GOLDEN["continuations"], ids=lambda golden: golden["prompt"].strip())
def test_greedy_continuations_are_pytorchs(example: ModuleType, net: tr.Net, golden: dict, isa: str) -> None:
    tr.set_isa(isa)
    assert len(golden["text"]) == 500
    stream = net.stream()
    logits = stream.run(example.encode(golden["prompt"]))[-1]
    text = ""
    for _ in golden["text"]:
        symbol = int(logits.argmax())
        text += example.VOCABULARY[symbol]
        logits = stream.step(symbol, out=logits)
    assert text == golden["text"]


def test_logits_and_likelihood_are_pytorchs(example: ModuleType, net: tr.Net) -> None:
    logits = net.stream().run(example.encode(GOLDEN["logits"]["prompt"]))[-1]
    np.testing.assert_allclose(logits[:8], GOLDEN["logits"]["values"], rtol=0, atol=1e-4)
    symbols = example.encode(GOLDEN["passage"]["text"])
    scores = tr.LogSoftmax(-1)(net(symbols[:-1]))
    likelihood = scores[np.arange(len(symbols) - 1), symbols[1:]].sum(dtype=np.float64)
    assert abs(likelihood - GOLDEN["passage"]["log_probability"]) < 1e-3


def test_the_script(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    golden = GOLDEN["continuations"][0]
    example.main(["--prompt", golden["prompt"], "--length", "60"])
    out, err = capsys.readouterr()
    assert out == golden["prompt"] + golden["text"][:60] and "characters per second" in err
    example.main(["--temperature", "0.8", "--length", "20", "--seed", "1"])
    first = capsys.readouterr().out
    example.main(["--temperature", "0.8", "--length", "20", "--seed", "1"])
    assert capsys.readouterr().out == first
    example.main(["--format", "int8", "--prompt", "The with ", "--length", "9"])
    out, err = capsys.readouterr()
    assert out.startswith("The with ") and len(out) == 18
    assert f" {example.shrink(example.build(FOLDER / 'charlm.pt'), 'int8').memory().weights:,} bytes" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--prompt", "é"], 2, "no character of the model's vocabulary"),
        (["--temperature", "-1"], 2, "--temperature is -1.0"),
        (["--checkpoint", "nowhere.pt"], 1, "nowhere.pt"),
        (["--checkpoint", __file__], 1, "test_charlm.py"),
    ],
)
def test_wrong_arguments(
    example: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        example.main(arguments)
    assert stop.value.code == code
    assert message in capsys.readouterr().err


def nats_per_character(net: tr.Net, symbols: np.ndarray) -> float:
    """Over the text, read in 16 columns."""
    rows = (len(symbols) - 1) // 16
    inputs, targets = (symbols[i : i + 16 * rows].reshape(16, rows).T for i in (0, 1))
    scores = tr.LogSoftmax(-1)(net(np.ascontiguousarray(inputs)))
    return -float(np.take_along_axis(scores, targets[..., np.newaxis], -1).mean(dtype=np.float64))


@pytest.fixture(scope="module")
def text(example: ModuleType) -> np.ndarray:
    """The symbols of the text that the model was trained on, but for the last tenth."""
    topics = pytest.importorskip("pydoc_data.topics").topics
    return np.array(example.encode("".join(topics[topic] for topic in sorted(topics))), np.int32)


def grown(net: tr.Net, smaller: tr.Net, symbols: np.ndarray) -> float:
    """By how much the perplexity grows."""
    return float(np.expm1(nats_per_character(smaller, symbols) - nats_per_character(net, symbols)))


@pytest.mark.parametrize(
    ("name", "size", "held_out", "trained_on"),
    [("float16", 0.51, 0.0005, 0.0005), ("int8", 0.28, 0.005, 0.005), ("int4", 0.20, 0.02, 0.06)],
)
def test_perplexity_in_smaller_formats(
    example: ModuleType,
    net: tr.Net,
    text: np.ndarray,
    name: str,
    size: float,
    held_out: float,
    trained_on: float,
) -> None:
    smaller = example.shrink(net, name)
    assert smaller.memory().weights < size * net.memory().weights
    cut = len(text) * 9 // 10
    assert abs(grown(net, smaller, text[cut:])) < held_out
    assert abs(grown(net, smaller, text[100_000:150_000])) < trained_on


def test_perplexity_with_all_layers_in_int4(net: tr.Net, text: np.ndarray) -> None:
    """With calibration; without, it costs a seventh."""
    held_out = text[len(text) * 9 // 10 :]
    assert grown(net, tr.quantize(net, "int4"), held_out) > 0.1
    calibrated = tr.quantize(net, "int4", text[:10_000])
    assert calibrated.memory().weights < 0.15 * net.memory().weights
    assert abs(grown(net, calibrated, held_out)) < 0.02


def test_it_saves_and_loads(net: tr.Net, tmp_path: Path) -> None:
    path = tmp_path / "charlm.safetensors"
    net.save(path)
    again = tr.load(path)
    symbols = np.arange(90) % 96
    assert np.array_equal(again(symbols), net(symbols))
    assert repr(again) == repr(net)
