"""Keyword spotting: the recordings, and a net that trains, shrinks and streams, with its latency."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from example_scripts import example, number

import tinyrnn as tr

keywords = example("keywords", "keywords")
spoken = example("digits_spoken", "spoken")

needs_espeak = pytest.mark.skipif(not spoken.has_espeak(), reason="espeak-ng is not installed")

FEW_WORDS = ["--source", "tones", "--words", "48", "--test", "12", "--epochs", "2"]


def tones(*more: str) -> tuple[argparse.Namespace, keywords.Data]:
    options = keywords.make_parser().parse_args(["--source", "tones", *more])
    return options, keywords.make_data(options)


# ---- recordings ---------------------------------------------------------------------------------


def test_features_need_no_later_step() -> None:
    """Those of a recording are the first ones of a longer recording."""
    samples, rate = spoken.dial([3, 1], spoken.Speaker("pure", 120, 50))
    whole = spoken.log_energies(samples, rate)
    part = spoken.log_energies(samples[: len(samples) // 2], rate)
    assert 5 < len(part) < len(whole)
    np.testing.assert_array_equal(whole[: len(part)], part)


def test_words_follow_from_the_seed() -> None:
    among = spoken.speakers(0)[0]
    one, two = (keywords.make_words(among, 30, np.random.default_rng(7), True) for _ in range(2))
    other = keywords.make_words(among, 30, np.random.default_rng(8), True)
    np.testing.assert_array_equal(one.digits, two.digits)
    assert len(set(one.digits.tolist())) > 5 and not np.array_equal(one.digits, other.digits)
    for a, b in zip(one.features, two.features, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32 and a.shape[1] == spoken.BANDS and np.isfinite(a).all()


@needs_espeak
def test_espeak_says_one_digit() -> None:
    words = keywords.make_words(spoken.speakers(0)[0], 4, np.random.default_rng(0), False)
    assert all(8 <= len(features) < 120 for features in words.features)


# ---- the net ------------------------------------------------------------------------------------


def test_latency_is_the_rate_of_the_front() -> None:
    _, data = tones("--words", "20", "--test", "1")
    net = keywords.build(data.train, 0)
    first, stride = keywords.latency(net)
    assert (first, stride) == (4, 4)
    text = keywords.front_of(net).describe()
    assert f"a frame for every {stride} steps of 'time', {first} steps after the first of them" in text
    assert keywords.front_of(net).output_lengths([17, 20, 21]).tolist() == [5, 5, 6]


@pytest.mark.parametrize("steps", [21, 22, 23, 24])
def test_stream_has_the_answer_of_the_steps_so_far(steps: int) -> None:
    _, data = tones("--words", "20", "--test", "1")
    net = keywords.build(data.train, 0)
    features = np.concatenate(data.train.features)[:steps]
    found = keywords.answers(net, features)
    assert found.shape == (steps, 10)
    frames = keywords.front_of(net)(features)
    so_far = tr.Sequential(net["gru"], net["head"])(frames)  # after each frame
    for n, y in enumerate(so_far):
        for step in range(4 * n + 4, min(4 * n + 8, steps - 1)):
            np.testing.assert_array_equal(found[step], y)
    np.testing.assert_array_equal(found[-1], so_far[-1])
    np.testing.assert_array_equal(found[-1], net(features))


def test_tones_are_told_apart_in_int8_too(tmp_path: Path) -> None:
    options, data = tones("--words", "400", "--test", "60", "--epochs", "10")
    net = keywords.build(data.train, 0)
    history = keywords.train(net, data, options)
    assert history["val_accuracy"][-1] == pytest.approx(keywords.accuracy(net, data.known))
    small = tr.quantize(net, "int8", calibration=data.train.features[:50])
    assert set(small.formats.values()) == {"int8"}
    small.save(tmp_path / "net.safetensors")
    loaded = tr.load(tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").stat().st_size < 26_000
    assert keywords.accuracy(net, data.strange) > 0.8 and keywords.accuracy(loaded, data.strange) > 0.8
    keywords.check_bits(loaded, data.strange.features[:20])


# ---- the script ---------------------------------------------------------------------------------


def test_script_says_accuracy_size_and_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keywords.safetensors"
    keywords.main([*FEW_WORDS, "--out", str(path)])
    out = capsys.readouterr().out
    assert "72 words by tones" in out
    assert number(r"int8 .* ([\d,]+) bytes of file", out.replace(",", "")) == path.stat().st_size
    assert "a frame for every 4 steps of 'time', 4 steps after the first of them" in out
    assert "the first frame 112 ms after the audio begins, then one every 80 ms" in out
    assert "as the stream hears it" in out
    assert set(tr.load(path).formats.values()) == {"int8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--words", "-5"], "--words: got '-5', expected a whole number from 1"),
        (["--out", "keywords.npz"], "--out: got keywords.npz, expected a name that ends in .safetensors"),
        (["--source", "espeak"], "espeak-ng is not installed"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keywords, "has_espeak", lambda: False)
    with pytest.raises(SystemExit):
        keywords.main(arguments)
    assert message in capsys.readouterr().err
