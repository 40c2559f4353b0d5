"""The examples that read dates, hear digits and draw outlines: data, decoders, a few steps of each."""

from __future__ import annotations

import datetime
import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinyrnn as tr

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(folder: str, name: str) -> ModuleType:
    """A module of an example, imported as its own scripts import it; their names differ throughout."""
    sys.path.insert(0, str(EXAMPLES / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


date_pairs = example("dates", "date_pairs")
dates = example("dates", "dates")
spoken = example("digits_spoken", "spoken")
spoken_digits = example("digits_spoken", "spoken_digits")
outlines = example("shapes", "outlines")
shapes = example("shapes", "shapes")

needs_espeak = pytest.mark.skipif(not spoken.has_espeak(), reason="espeak-ng is not installed")


def torch_twin(folder: str, name: str) -> ModuleType:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return example(folder, name)


# ---- dates: the data ----------------------------------------------------------------------------


def test_days_are_split_into_all_and_none_twice() -> None:
    train, test = date_pairs.split_dates(3)
    days = (date_pairs.LAST - date_pairs.FIRST).days + 1
    assert len(train) + len(test) == len({*train, *test}) == days
    assert len(test) == round(days / 10)


def test_pairs_follow_from_the_seed() -> None:
    days, _ = date_pairs.split_dates(0)
    one, two, other = (date_pairs.draw_pairs(days, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_no_text_stands_for_two_dates() -> None:
    days, _ = date_pairs.split_dates(0)
    pairs = date_pairs.draw_pairs(days, 30_000, np.random.default_rng(0))
    meant = dict(pairs)
    assert all(meant[text] == iso for text, iso in pairs)
    assert len(meant) > 20_000


def test_convention_is_the_documented_one() -> None:
    day = datetime.date(2004, 3, 12)
    generator = np.random.default_rng(0)
    texts = {date_pairs.write_date(day, generator) for _ in range(5000)}
    assert {"12/03/2004", "12.3.04", "2004-03-12", "20040312", "12th of March 2004", "March 12, '04"} <= texts
    assert not {"03/12/2004", "3/12/04", "04-03-12"} & texts
    assert any(text.startswith("Fri, ") for text in texts) and not any("Mon" in text for text in texts)


def test_every_date_can_be_encoded_and_comes_back() -> None:
    days, _ = date_pairs.split_dates(0)
    pairs = date_pairs.draw_pairs(days, 500, np.random.default_rng(0))
    source, lengths, given, target = date_pairs.as_batch(pairs)
    assert source.shape == (lengths.max(), 500) and given.shape == target.shape == (date_pairs.STEPS, 500)
    for row, (text, iso) in enumerate(pairs):
        assert "".join(date_pairs.READ[s] for s in source[: lengths[row], row]) == text
        assert not source[lengths[row] :, row].any()
        assert dates.as_text(target[:, row]) == iso
    assert (given[0] == date_pairs.START).all() and (given[1:] == target[:-1]).all()


@pytest.mark.parametrize(("text", "message"), [("3 März", r"'3 März' has 'ä'"), ("", "'' is empty")])
def test_text_that_is_no_date_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        date_pairs.encode_texts(["3/3/94", text])


# ---- dates: decoding ----------------------------------------------------------------------------


def random_state(rows: int, hidden: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((1, rows, hidden), np.float32) for name in ("lstm.h", "lstm.c")}


def log_probability(decoder: tr.Sequential, state: dict[str, np.ndarray], text: str) -> float:
    """The log-probability of the text, its end included where it came before the last step."""
    symbols = [date_pairs.WRITTEN.index(c) for c in text] + [date_pairs.END]
    symbols = symbols[: date_pairs.STEPS]
    given = np.array([date_pairs.START, *symbols[:-1]], np.int32)[:, None]
    logits = decoder(given, state=state)[:, 0].astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(logs[np.arange(len(symbols)), symbols].sum())


def test_beam_of_one_is_greedy() -> None:
    _, decoder = dates.build(8, 24, 1)
    state = random_state(40, 24)
    greedy = dates.decode_greedily(decoder, state)
    assert dates.decode_beam(decoder, state, 1) == greedy
    assert len(set(greedy)) > 5  # an untrained net, but not the same for all


def test_wider_beam_finds_likelier_texts() -> None:
    _, decoder = dates.build(8, 24, 1)
    state = random_state(20, 24)
    found = {1: dates.decode_greedily(decoder, state), 8: dates.decode_beam(decoder, state, 8)}
    sums = {
        width: [
            log_probability(decoder, {name: array[:, i : i + 1] for name, array in state.items()}, text)
            for i, text in enumerate(texts)
        ]
        for width, texts in found.items()
    }
    assert np.mean(sums[8]) > np.mean(sums[1])


def test_beam_wide_enough_is_exhaustive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "STEPS", 2)
    _, decoder = dates.build(8, 24, 1)
    state = random_state(1, 24)
    symbols = range(len(date_pairs.WRITTEN))
    given = np.array([[date_pairs.START] * len(symbols), list(symbols)], np.int32)
    wide = {name: np.repeat(array, len(symbols), 1) for name, array in state.items()}
    logits = decoder(given, state=wide).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    totals = logs[0, 0][:, None] + logs[1]
    totals[date_pairs.END] = logs[0, 0, date_pairs.END]
    best = np.unravel_index(totals.argmax(), totals.shape)
    assert dates.decode_beam(decoder, state, len(symbols)) == [dates.as_text(np.array(best))]


# ---- dates: the scripts -------------------------------------------------------------------------

FEW_DATES = ["--steps", "3", "--batch", "8", "--hidden", "16", "--test", "20"]


def test_dates_are_trained_kept_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = str(tmp_path / "model")
    dates.main([*FEW_DATES, "--save", prefix, "--read", "3rd of March, 1994"])
    *_, tested, read = (line for line in capsys.readouterr().out.splitlines() if "wrong" not in line)
    assert tested.startswith("exact on 20 unseen dates: greedy ") and read.endswith("  3rd of March, 1994")
    dates.main(["--load", prefix, "--read", "3rd of March, 1994"])
    assert capsys.readouterr().out.splitlines() == [read]


def test_dates_are_learned() -> None:
    options = dates.training_parser("").parse_args(["--steps", "60", "--batch", "32", "--hidden", "32"])
    losses = dates.train(dates.build(16, 32, 0), options)
    assert len(losses) == 60 and losses[0] > 2.4 and np.mean(losses[-5:]) < 1.8


def test_dates_in_pytorch_have_the_same_losses(capsys: pytest.CaptureFixture[str]) -> None:
    twin = torch_twin("dates", "dates_torch")
    options = dates.training_parser("").parse_args([*FEW_DATES, "--steps", "12"])
    mine = dates.train(dates.build(32, 16, 0), options)
    theirs = twin.train(twin.build_same(32, 16, 0), options)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    twin.main(FEW_DATES)
    assert "exact on 20 unseen dates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps: '0', expected a whole number from 1"),
        (["--steps", "many"], "--steps: 'many', expected a whole number from 1"),
        (["--rate", "-1"], "--rate: '-1', expected a number above 0"),
        (["--save", "a", "--load", "b"], "--save is of no use with --load"),
        (["--save", "absent/a"], "--save: there is no folder absent"),
    ],
)
def test_dates_refuse_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        dates.main(arguments)
    assert message in capsys.readouterr().err


def test_dates_tell_what_cannot_be_read_or_loaded(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has '\?', which is in no date here"):
        dates.main([*FEW_DATES, "--read", "3/3/94?"])
    with pytest.raises(SystemExit, match=r"absent-encoder\.safetensors"):
        dates.main(["--load", str(tmp_path / "absent")])
    for part in ("encoder", "decoder"):
        tr.LSTM(3, 5).save(tmp_path / f"other-{part}.safetensors")
    with pytest.raises(SystemExit, match="not the encoder that this script saves"):
        dates.main(["--load", str(tmp_path / "other")])


# ---- spoken digits: the data --------------------------------------------------------------------


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


# ---- spoken digits: batches and decoding --------------------------------------------------------


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


# ---- spoken digits: the scripts -----------------------------------------------------------------

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
        (["--utterances", "-5"], "--utterances: '-5', expected a whole number from 1"),
        (["--batch", "9", "--utterances", "8"], "--batch is 9, expected at most 8, the --utterances"),
        (["--clip", "nan"], "--clip: 'nan', expected a number above 0"),
        (["--save", "digits.npz"], "--save: digits.npz, expected a name that ends in .safetensors"),
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


# ---- outlines -----------------------------------------------------------------------------------


def test_outlines_begin_above_and_close() -> None:
    assert outlines.OUTLINES.shape == (len(outlines.KINDS), outlines.POINTS, 2)
    np.testing.assert_allclose(outlines.OUTLINES[:, 0], outlines.OUTLINES[:, -1], atol=1e-6)
    assert (outlines.OUTLINES[:, 0, 1] > 0.2).all()
    x, y = np.moveaxis(outlines.OUTLINES, -1, 0)
    areas = (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(1) / 2
    assert (areas > 0.5).all()  # all the same way round


def test_code_says_width_height_and_tilt() -> None:
    code = np.zeros((1, outlines.CODE), np.float32)
    code[0, 0] = 1  # a circle
    code[0, -3:] = 0.5, -0.5, 0
    points = outlines.draw_outlines(code)[:, 0]
    np.testing.assert_allclose(np.abs(points).max(0), [1.5, 0.5], rtol=5e-3)
    code[0, -1] = np.pi / 2
    np.testing.assert_allclose(
        outlines.draw_outlines(code)[:, 0], np.stack([-points[:, 1], points[:, 0]], 1), atol=1e-6
    )


def test_codes_follow_from_the_seed_and_stay_in_range() -> None:
    one, two = (outlines.draw_codes(200, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (one[:, : len(outlines.KINDS)].sum(1) == 1).all()
    assert np.abs(one[:, -3:-1]).max() <= 0.5 and np.abs(one[:, -1]).max() <= np.pi / 4


FEW_SHAPES = ["--steps", "3", "--batch", "8", "--hidden", "16", "--test", "20"]


def test_shapes_are_trained_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "shapes.png"
    shapes.main([*FEW_SHAPES, "--plot", str(picture)])
    assert "on 20 unseen vectors" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_shapes_are_learned() -> None:
    options = shapes.training_parser("").parse_args(["--steps", "200", "--hidden", "32"])
    losses = shapes.train(shapes.build(32, 0), options)
    assert np.mean(losses[-10:]) < 0.25 * losses[0]


def test_shapes_in_pytorch_have_the_same_losses(capsys: pytest.CaptureFixture[str]) -> None:
    twin = torch_twin("shapes", "shapes_torch")
    options = shapes.training_parser("").parse_args([*FEW_SHAPES, "--steps", "12"])
    mine = shapes.train(shapes.build(16, 0), options)
    theirs = twin.train(twin.build_same(16, 0), options)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    twin.main(FEW_SHAPES)
    assert "on 20 unseen vectors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden: '0', expected a whole number from 1"),
        (["--plot", "absent/a.png"], "--plot: there is no folder absent"),
    ],
)
def test_shapes_refuse_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        shapes.main(arguments)
    assert message in capsys.readouterr().err
