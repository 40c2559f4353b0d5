"""Sunspots forecast beside two baselines, and their twin in PyTorch."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_scripts import Load, number, stopped

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
