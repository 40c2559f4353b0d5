"""The guitar amplifier: its parts, its training, its stream, and its file on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_scripts import Load, number, stopped
from memory import within

import tinyrnn as tr
from tinyrnn.cli import main as tinyrnn

LITTLE = ["--seconds", "0.5", "--columns", "4", "--epochs", "10"]


@pytest.fixture
def amp(load: Load) -> ModuleType:
    return load("amp", "amp")


def held_out(name: str, output: str) -> float:
    found = re.findall(rf"{name} +ESR held out (\S+) %", output)
    assert found, output
    return float(found[-1])


def test_amp_from_training_to_the_command_line(
    amp: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, x, y = tmp_path / "amp.safetensors", tmp_path / "x.npy", tmp_path / "y.npy"
    amp.main([*LITTLE, "--out", str(path), "--guitar", str(x)])
    output = capsys.readouterr().out
    assert held_out("tinyrnn", output) < 0.8 * number(r"the guitar itself: (\S+) %", output)
    assert output.count("a stream has the bits\n    of the whole") == 2, output
    float32 = number(r"float32: ESR held out (\S+) %", output)
    assert float32 == pytest.approx(held_out("tinyrnn", output), abs=0.0051)
    assert number(r"int8: ESR held out (\S+) %", output) == pytest.approx(float32, abs=1)

    assert tinyrnn(["info", str(path)]) == 0
    assert "lstm" in capsys.readouterr().out
    assert tinyrnn(["run", str(path), str(x), "-o", str(y)]) == 0
    net = tr.load(path)
    assert np.array_equal(np.load(y), net(np.load(x)))
    assert np.load(y).shape == (8000, 1)


def test_amp_is_pytorchs(
    load: Load, amp: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    short = [*LITTLE, "--epochs", "2"]  # rounding errors grow: a hundred steps on the losses differ
    amp.main([*short, "--torch", "--out", str(tmp_path / "amp.safetensors")])
    output = capsys.readouterr().out
    assert number(r"the losses of 32 steps were at most (\S+) apart", output) < 1e-4
    assert held_out("PyTorch", output) == pytest.approx(held_out("tinyrnn", output), abs=0.011)


def test_a_block_allocates_nothing(amp: ModuleType) -> None:
    stream = amp.build(0).eval().stream()
    block, out = np.ones((4096, 1), np.float32), np.empty((4096, 1), np.float32)
    stream.run(block, out=out)
    with within(block.nbytes // 4):
        for _ in range(10):
            stream.run(block, out=out)


def test_amp_draws_a_png(amp: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "amp.png"
    amp.plot(picture, *np.random.default_rng(0).standard_normal((3, 800)), begin=100)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_a_string_sounds_at_its_pitch_and_decays(amp: ModuleType) -> None:
    string = amp.pluck(220.0, amp.RATE, np.random.default_rng(0))
    assert string.shape == (amp.RATE,)
    spectrum = np.abs(np.fft.rfft(string))
    first = np.argmax(spectrum[150:300]) + 150  # 1 Hz a bin
    assert abs(first - 220) <= 2
    assert np.abs(string[-1000:]).max() < 0.5 * np.abs(string[:1000]).max()


def test_a_string_is_the_delay_line_of_karplus_and_strong(amp: ModuleType) -> None:
    string = amp.pluck(400.0, 300, np.random.default_rng(1))
    period = round(amp.RATE / 400 - 0.5)
    for t in range(period + 1, 300):
        assert string[t] == pytest.approx(0.498 * (string[t - period] + string[t - period - 1]), abs=1e-12)


def test_the_guitar_is_the_same_each_time(amp: ModuleType) -> None:
    one, two, other = (amp.guitar(0.3, 3, seed) for seed in (5, 5, 6))
    assert one.shape == (4800, 3, 1) and one.dtype == np.float32
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert not np.array_equal(one[:, 0], one[:, 1])


def test_the_amplifier_clips_sags_and_remembers(amp: ModuleType) -> None:
    t = np.arange(4000) / amp.RATE
    tone = np.sin(2 * np.pi * 440 * t)
    loud, soft = amp.amplifier(np.stack([0.8 * tone, 0.008 * tone], 1).astype(np.float32)[..., None])[
        ..., 0
    ].T
    assert np.abs(loud).max() < 30 * np.abs(soft).max()  # 100 times as loud at the input
    assert np.abs(loud[:400]).max() > 1.1 * np.abs(loud[-400:]).max()  # the supply sags
    step = np.zeros((400, 1, 1), np.float32)
    assert not amp.amplifier(step).any()  # silence at rest
    step[:200] = 0.5
    assert np.abs(amp.amplifier(step)[210:250]).max() > 1e-3  # after the sound has ended


def test_ratios_make_errors_esrs(amp: ModuleType) -> None:
    target, output = np.random.default_rng(0).standard_normal((2, 50, 3, 1)).astype(np.float32)
    mse = np.mean((output - target).astype(np.float64) ** 2)
    assert amp.ratios(target)["wave"] * mse == pytest.approx(amp.esr(output, target))
    assert amp.esr(target, target) == 0 and amp.esr(0 * target, target) == 1


def test_windows_carry_the_emphasis_over_their_edges(amp: ModuleType) -> None:
    wave = np.random.default_rng(0).standard_normal((64, 2, 1)).astype(np.float32)
    options = amp.make_parser("").parse_args(["--length", "20", "--epochs", "1"])
    losses = []
    for length in (64, 20):
        net = amp.build(0)
        options.length = length
        learner = amp.Tinyrnn(net, wave, options, 4)
        learner.schedule.step = lambda: None
        learner.trainer.optimizer.lr = 0.0
        parts = list(amp.windows(wave, wave[::-1].copy(), options))
        found = [learner.step(*part) for part in parts]
        losses.append(np.average(found, weights=[len(part[0]) for part in parts]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guitar", "x.wav"], "--guitar: got x.wav, expected a name that ends in .npy"),
        (["--seconds", "0.05"], "--seconds: got 0.05, expected at least 0.1"),
    ],
)
def test_wrong_options(amp: ModuleType, arguments: list[str], message: str) -> None:
    assert stopped(amp.main, *arguments) == message
