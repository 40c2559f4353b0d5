"""Dates read by an encoder and a decoder: data, decoding, a few steps of training."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

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


def some_texts(count: int) -> list[str]:
    days, _ = date_pairs.split_dates(0)
    return [text for text, _ in date_pairs.draw_pairs(days, count, np.random.default_rng(4))]


def log_probability(net: tr.Graph, text: str, found: str) -> float:
    """The log-probability of what was found, its end included where it came before the last step."""
    symbols = [date_pairs.WRITTEN.index(c) for c in found] + [date_pairs.END]
    symbols = symbols[: date_pairs.STEPS]
    given = np.array([date_pairs.START, *symbols[:-1]], np.int32)[:, None]
    logits = net(date_pairs.encode_texts([text])[0], given)[:, 0].astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(logs[np.arange(len(symbols)), symbols].sum())


def test_parts_are_the_whole_net() -> None:
    """Encoder and decoder step by step have the bits of the net that trains, with lengths."""
    net = dates.build(8, 24, 1)
    encoder, decoder = dates.split(net)
    days, _ = date_pairs.split_dates(0)
    batch = date_pairs.as_batch(date_pairs.draw_pairs(days, 7, np.random.default_rng(4)))
    wanted = net(batch.source, batch.given, lengths={"source": batch.lengths})
    text, state = encoder(batch.source, lengths={"source": batch.lengths}), None
    for symbols, logits in zip(batch.given, wanted, strict=True):
        found = dates.next_logits(decoder, text, batch.lengths, symbols, state)
        assert np.array_equal(found.astype(np.float32), logits)
        state = decoder.last_state


def test_beam_of_one_is_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = dates.split(dates.build(8, 24, 1))
    texts = some_texts(40)
    greedy = dates.decode_greedily(nets, texts)
    assert dates.decode_beam(nets, texts, 1) == greedy
    monkeypatch.setattr(dates, "ROWS", 16)
    assert dates.in_parts(lambda part: dates.decode_greedily(nets, part), texts) == greedy


def test_wider_beam_finds_likelier_texts() -> None:
    net = dates.build(8, 24, 1)
    texts = some_texts(20)
    found = {
        1: dates.decode_greedily(dates.split(net), texts),
        8: dates.decode_beam(dates.split(net), texts, 8),
    }
    sums = {
        width: [log_probability(net, text, one) for text, one in zip(texts, written, strict=True)]
        for width, written in found.items()
    }
    assert np.mean(sums[8]) > np.mean(sums[1])


def test_beam_wide_enough_is_exhaustive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "STEPS", 2)
    net = dates.build(8, 24, 1)
    (text,) = some_texts(1)
    symbols = range(len(date_pairs.WRITTEN))
    given = np.array([[date_pairs.START] * len(symbols), list(symbols)], np.int32)
    source = np.repeat(date_pairs.encode_texts([text])[0], len(symbols), 1)
    logits = net(source, given).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    totals = logs[0, 0][:, None] + logs[1]
    totals[date_pairs.END] = logs[0, 0, date_pairs.END]
    best = np.unravel_index(totals.argmax(), totals.shape)
    assert dates.decode_beam(dates.split(net), [text], len(symbols)) == [dates.as_text(np.array(best))]


def test_alignment_is_the_softmax_of_the_products() -> None:
    """The weights that the attention of the net has, from its query and keys."""
    net = dates.build(8, 24, 1)
    text, iso = "3rd of March, 1994", "1994-03-03"
    weights = dates.alignment(net, text, iso)
    assert weights.shape == (len(iso), len(text))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    encoder, decoder = dates.split(net)
    encoded, lengths = dates.read_texts(encoder, [text])
    given, state = np.array([[date_pairs.START]], np.int32), None
    for row, symbol in zip(weights, iso, strict=True):
        decoder({"given": given, **encoded}, lengths={"source": lengths}, state=state)
        state = decoder.last_state
        products = encoded["keys"][:, 0] @ state["decoder.h"][0, 0] / np.sqrt(24)
        wanted = np.exp(products - products.max())
        np.testing.assert_allclose(row, wanted / wanted.sum(), rtol=1e-4)
        given[:] = date_pairs.WRITTEN.index(symbol)


# ---- the scripts --------------------------------------------------------------------------------

FEW_DATES = ["--dates", "24", "--epochs", "1", "--batch", "8", "--hidden", "16", "--test", "20"]


def test_dates_are_trained_kept_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "model.safetensors")
    dates.main([*FEW_DATES, "--save", path, "--read", "3rd of March, 1994"])
    *_, tested, read = (line for line in capsys.readouterr().out.splitlines() if "wrong" not in line)
    assert tested.startswith("exact on 20 unseen dates: greedy ") and read.endswith("  3rd of March, 1994")
    dates.main(["--load", path, "--read", "3rd of March, 1994"])
    assert capsys.readouterr().out.splitlines() == [read]


def test_alignments_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net = dates.build(8, 16, 1)
    for count in (1, 2):
        pairs = [("3/3/94", "1994-03-03"), ("May 4 2001", "2001-05-04")][:count]
        dates.draw(tmp_path / "align.png", [(*pair, dates.alignment(net, *pair)) for pair in pairs])
        assert (tmp_path / "align.png").read_bytes().startswith(b"\x89PNG")
    assert list(dates.aligned(["a", "b"], ["", "1994"])) == [("b", "1994")]


class Losses(tr.callbacks.Callback):
    """The loss of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.found.append(loss)


def test_dates_are_learned() -> None:
    options = dates.training_parser("").parse_args(
        ["--dates", "1920", "--epochs", "1", "--batch", "32", "--hidden", "32"]
    )
    losses = Losses()
    history = dates.train(dates.build(16, 32, 0), options, [losses])
    assert len(losses.found) == 60 and losses.found[0] > 2.4 and np.mean(losses.found[-5:]) < 1.8
    assert len(history.history["loss"]) == 1


def test_dates_in_pytorch_have_the_same_losses(capsys: pytest.CaptureFixture[str]) -> None:
    twin = torch_twin("dates", "dates_torch")
    options = dates.training_parser("").parse_args([*FEW_DATES, "--dates", "96"])
    losses = Losses()
    dates.train(dates.build(32, 16, 0), options, [losses], shuffle=False)
    theirs = twin.train(twin.build_same(32, 16, 0), options, shuffle=False)
    assert len(theirs) == 12
    np.testing.assert_allclose(losses.found, theirs, rtol=0, atol=1e-5)
    twin.main(FEW_DATES)
    assert "exact on 20 unseen dates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dates", "0"], "--dates: got '0', expected a whole number from 1"),
        (["--epochs", "many"], "--epochs: got 'many', expected a whole number from 1"),
        (["--hidden", "17"], "--hidden: got '17', expected an even number"),
        (["--rate", "-1"], "--rate: got '-1', expected a number above 0"),
        (["--save", "a", "--load", "b"], "--save is of no use with --load"),
        (["--save", "absent/a"], "--save: there is no folder absent"),
        (["--align", "absent/a.png"], "--align: there is no folder absent"),
        (["--save", "a.pt"], "--save: got a.pt, expected a name that ends in .safetensors"),
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
    with pytest.raises(SystemExit, match=r"absent\.safetensors"):
        dates.main(["--load", str(tmp_path / "absent.safetensors")])
    tr.LSTM(3, 5).save(tmp_path / "other.safetensors")
    with pytest.raises(SystemExit, match="not a net that this script saves"):
        dates.main(["--load", str(tmp_path / "other.safetensors")])
