"""Dates read by an encoder and a decoder: data, decoding, a few steps of training."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from example_scripts import example, torch_twin

import tinyrnn as tr

date_pairs = example("dates", "date_pairs")
dates = example("dates", "dates")


# ---- the data -----------------------------------------------------------------------------------


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


# ---- decoding -----------------------------------------------------------------------------------


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


# ---- the scripts --------------------------------------------------------------------------------

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
        (["--steps", "0"], "--steps: got '0', expected a whole number from 1"),
        (["--steps", "many"], "--steps: got 'many', expected a whole number from 1"),
        (["--rate", "-1"], "--rate: got '-1', expected a number above 0"),
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
