"""The README's main job: the character model trained in PyTorch, streamed without it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinyrnn as tr

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "charlm"
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


def test_it_saves_and_loads(net: tr.Net, tmp_path: Path) -> None:
    path = tmp_path / "charlm.safetensors"
    net.save(path)
    again = tr.load(path)
    symbols = np.arange(90) % 96
    assert np.array_equal(again(symbols), net(symbols))
    assert repr(again) == repr(net)
