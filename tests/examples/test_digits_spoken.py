"""Spoken digits heard with CTC: data, decoders, a few steps of training."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from example_scripts import example, torch_twin

import tinyrnn as tr

spoken = example("digits_spoken", "spoken")
spoken_digits = example("digits_spoken", "spoken_digits")

needs_espeak = pytest.mark.skipif(not spoken.has_espeak(), reason="espeak-ng is not installed")


# ---- the data -----------------------------------------------------------------------------------


def test_no_voice_is_tested_at_a_speed_that_it_was_trained_at() -> None:
    train, test, strange = spoken.speakers(0)
    assert not {one[:2] for one in train} & {one[:2] for one in test}
    assert {one.voice for one in test} <= {one.voice for one in train}
    assert not {one.voice for one in train} & {one.voice for one in strange}


def test_tones_follow_from_the_seed() -> None:
    one, two = (
        spoken.make_utterances(spoken.speakers(0)[0], 5, np.random.default_rng(7), tones=True)
        for _ in range(2)
    )
    for a, b in zip(one, two, strict=True):
        assert 3 <= len(a.digits) <= 6 and a.digits == b.digits and a.speaker == b.speaker
        np.testing.assert_array_equal(a.features, b.features)
        assert a.features.shape[1] == spoken.BANDS and a.features.dtype == np.float32
        np.testing.assert_allclose(a.features.mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("digit", range(10))
def test_digit_has_the_tones_of_its_key(digit: int) -> None:
    samples, rate = spoken.dial([digit], spoken.Speaker("pure", 60, 50))
    spectrum = np.abs(np.fft.rfft(samples))
    frequencies = np.arange(len(spectrum)) * rate / len(samples)
    for low, high in ((650, 1000), (1150, 1350)):
        band = (frequencies > low) & (frequencies < high)
        expected = [tone for tone in spoken.TONES[digit] if low < tone < high]
        if expected:
            assert abs(frequencies[band][spectrum[band].argmax()] - expected[0]) < 3


def test_filters_overlap_to_one() -> None:
    bank = spoken.filter_bank(16000, 512)
    frequencies = np.arange(257) * 16000 / 512
    inner = (frequencies > 400) & (frequencies < 3500)
    np.testing.assert_allclose(bank.sum(0)[inner], 1)
    assert bank.shape == (spoken.BANDS, 257) and not bank[:, frequencies > 4000].any()


def test_recording_without_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="100 samples at 16000 Hz: shorter than a window"):
        spoken.log_mel(np.zeros(100, np.float32), 16000)


def test_silence_has_finite_features() -> None:
    features = spoken.log_mel(np.zeros(4000, np.float32), 16000)
    assert np.isfinite(features).all()


@needs_espeak
def test_espeak_speaks_and_refuses_an_unknown_voice() -> None:
    slow, rate = spoken.speak("three one four", spoken.Speaker("en-us+f2", 120, 50))
    fast, _ = spoken.speak("three one four", spoken.Speaker("en-us+f2", 240, 50))
    assert rate > 8000 and len(slow) > 1.3 * len(fast) > 0.3 * rate and 0.05 < np.abs(slow).max() <= 1
    with pytest.raises(OSError, match="voice 'nobody'"):
        spoken.speak("three", spoken.Speaker("nobody", 160, 50))


@needs_espeak
def test_espeak_utterances_and_their_picture(capsys: pytest.CaptureFixture[str]) -> None:
    made = spoken.make_utterances(spoken.speakers(0)[0], 3, np.random.default_rng(0))
    assert all(len(one.features) > 5 * len(one.digits) for one in made)
    spoken.main(["three one four", "--speed", "200"])
    *bands, what = capsys.readouterr().out.splitlines()
    assert len(bands) == spoken.BANDS and "steps of 20 ms" in what


# ---- batches and decoding -----------------------------------------------------------------------


def test_utterances_are_in_one_batch_or_sit_one_pass_out() -> None:
    some = spoken.make_utterances(spoken.speakers(0)[0], 23, np.random.default_rng(0), tones=True)
    generator = np.random.default_rng(1)
    passes = [list(spoken_digits.batches(some, 5, generator)) for _ in range(4)]
    said = [
        [tuple(d[:n]) for b in found for d, n in zip(b.digits, b.counts, strict=True)] for found in passes
    ]
    texts = sorted(one.digits for one in some)
    for found, heard in zip(passes, said, strict=True):
        assert [len(batch.lengths) for batch in found] == [5, 5, 5, 5]
        assert all(heard.count(text) <= texts.count(text) for text in heard)
    assert {text for heard in said for text in heard} == set(texts)
    assert len({tuple(sorted(heard)) for heard in said}) > 1
    found = passes[0]
    for batch in found:
        for row, length in enumerate(batch.lengths):
            assert not batch.features[length:, row].any()


def path_of(*symbols: int) -> np.ndarray:
    return np.log(np.eye(spoken_digits.BLANK + 1, dtype=np.float32)[list(symbols)] + 1e-3)


def test_greedy_joins_repeats_and_drops_blanks() -> None:
    blank = spoken_digits.BLANK
    assert spoken_digits.decode_greedily(path_of(blank, 8, 8, blank, 8, 3, 3, blank)) == (8, 8, 3)
    assert spoken_digits.decode_greedily(path_of(blank, blank)) == ()


def test_beam_adds_up_all_paths() -> None:
    """Against every path there is, on four steps."""
    classes, blank = spoken_digits.BLANK + 1, spoken_digits.BLANK
    for seed in range(5):
        logits = 2 * np.random.default_rng(seed).standard_normal((4, classes))
        y = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        sums: dict[tuple[int, ...], float] = {}
        for path in itertools.product(range(classes), repeat=4):
            reading = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)
            sums[reading] = sums.get(reading, 0.0) + float(np.exp(y[range(4), path].sum()))
        best = max(sums, key=lambda reading: sums[reading])
        assert spoken_digits.decode_beam(y.astype(np.float32), 10_000) == best


def test_beam_may_find_what_greedy_misses() -> None:
    y = np.full((2, spoken_digits.BLANK + 1), -np.inf, np.float32)
    y[:, spoken_digits.BLANK], y[:, 5] = np.log(0.6), np.log(0.4)
    assert spoken_digits.decode_greedily(y) == ()  # 0.36
    assert spoken_digits.decode_beam(y, 4) == (5,)  # 0.64


@pytest.mark.parametrize(
    ("found", "wanted", "edits"),
    [
        ((), (), 0),
        ((1, 2, 3), (1, 2, 3), 0),
        ((1, 3), (1, 2, 3), 1),
        ((1, 1, 2), (1, 2), 1),
        ((9,), (1, 2), 2),
    ],
)
def test_edit_distance(found: tuple[int, ...], wanted: tuple[int, ...], edits: int) -> None:
    assert spoken_digits.edit_distance(found, wanted) == edits
    assert spoken_digits.edit_distance(wanted, found) == edits


# ---- the scripts --------------------------------------------------------------------------------

FEW_DIGITS = ["--source", "tones", "--utterances", "24", "--test", "6", "--epochs", "2", "--hidden", "8"]


def test_digits_are_trained_heard_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.safetensors"
    spoken_digits.main([*FEW_DIGITS, "--save", str(path), "--beam", "2"])
    out = capsys.readouterr().out
    assert "36 utterances by tones" in out and "unheard voices: errors per digit, greedy " in out
    assert list(tr.load(path).state_dict()) == list(spoken_digits.build(8, 0).state_dict())


def test_tones_are_learned() -> None:
    options = spoken_digits.training_parser("").parse_args(
        ["--source", "tones", "--utterances", "400", "--test", "30", "--batch", "8", "--hidden", "48"]
    )
    data = spoken_digits.make_data(options)
    net = spoken_digits.build(options.hidden, options.seed)
    spoken_digits.train(net, data.train, options)
    heard = spoken_digits.listen(net, data.test, options)
    assert spoken_digits.error_rate([spoken_digits.decode_greedily(y) for y in heard], data.test) < 0.2


def test_digits_in_pytorch_have_the_same_losses(capsys: pytest.CaptureFixture[str]) -> None:
    twin = torch_twin("digits_spoken", "spoken_digits_torch")
    options = spoken_digits.training_parser("").parse_args([*FEW_DIGITS, "--epochs", "4"])
    some = spoken_digits.make_data(options).train
    mine = spoken_digits.train(spoken_digits.build(8, 0), some, options)
    theirs = twin.train(twin.build_same(8, 0), some, options)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)
    twin.main(FEW_DIGITS)
    assert "unheard voices: errors per digit, greedy " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--utterances", "-5"], "--utterances: got '-5', expected a whole number from 1"),
        (["--batch", "9", "--utterances", "8"], "--batch is 9, expected at most 8, the --utterances"),
        (["--clip", "nan"], "--clip: got 'nan', expected a number above 0"),
        (["--save", "digits.npz"], "--save: got digits.npz, expected a name that ends in .safetensors"),
        (["--save", "absent/a.safetensors"], "--save: there is no folder absent"),
        (["--source", "espeak"], "espeak-ng is not installed"),
    ],
)
def test_digits_refuse_wrong_arguments(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoken_digits, "has_espeak", lambda: False)
    with pytest.raises(SystemExit):
        spoken_digits.main(arguments)
    assert message in capsys.readouterr().err
