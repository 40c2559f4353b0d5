"""The progress bar: who sees it, what it shows, and that work that waits for nobody shows nothing."""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import progress
from tinyrnn.progress import Progress, watched


class Terminal(io.StringIO):
    """A terminal that remembers what was written; its last line is what a person sees."""

    def isatty(self) -> bool:
        return True

    def drawn(self) -> list[str]:
        """The percentages in their order."""
        return [text[33:37].strip() for text in self.getvalue().split("\r") if text.startswith("[")]

    def is_clean(self) -> bool:
        return self.getvalue().split("\r")[-1] == "" and self.getvalue().split("\r")[-2].strip() == ""


@pytest.fixture
def terminal(monkeypatch: Any) -> Iterator[Terminal]:
    """A terminal, and a clock that moves by a second with each look."""
    found = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))  # pytest sets sys.stderr anew
    monkeypatch.setattr(progress.time, "monotonic", itertools.count().__next__)
    monkeypatch.delenv("TINYRNN_PROGRESS", raising=False)
    yield found
    assert Progress._innermost is None


def walk(count: int = 4) -> None:
    for _ in watched(range(count)):
        pass


def test_a_bar_is_drawn_and_removed(terminal: Terminal) -> None:
    walk()
    assert terminal.drawn() == ["25%", "50%", "75%", "100%"] and terminal.is_clean()
    assert f"[{'#' * 15}{' ' * 15}]  50%  3 s left" in terminal.getvalue()


@pytest.mark.parametrize(("columns", "width"), [(40, 39), (200, 79), (0, 79)])
def test_a_bar_fits_the_terminal(columns: int, width: int, terminal: Terminal, monkeypatch: Any) -> None:
    size = os.terminal_size((columns, 24))
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda file: size)
    with Progress() as bar:
        bar.show(0.25, text="x" * 99)
    assert max(map(len, terminal.getvalue().split("\r"))) == width and terminal.is_clean()


def test_pieces_count_by_their_sizes(terminal: Terminal) -> None:
    assert list(watched("ab", [1, 3])) == ["a", "b"]
    assert terminal.drawn() == ["25%", "100%"]


def test_short_work_shows_nothing(terminal: Terminal, monkeypatch: Any) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks) * 0.01)
    walk(90)
    assert terminal.getvalue() == ""
    walk(200)  # after a second it is drawn ten times a second at most
    assert 5 <= len(terminal.drawn()) <= 12


@pytest.mark.parametrize("how", ["switch", "file", "none", "closed"])
def test_nobody_watches(how: str, terminal: Terminal, monkeypatch: Any) -> None:
    seen = terminal if how == "switch" else io.StringIO()
    if how == "switch":
        monkeypatch.setenv("TINYRNN_PROGRESS", "0")
    elif how == "none":  # pythonw
        monkeypatch.setattr(progress.sys, "stderr", None)
    else:
        monkeypatch.setattr(progress.sys, "stderr", seen)
    if how == "closed":
        seen.close()
    walk()
    assert how in ("none", "closed") or seen.getvalue() == ""


def test_a_terminal_that_goes_away(terminal: Terminal, monkeypatch: Any) -> None:
    def write(text: str) -> int:
        raise OSError("Input/output error")

    monkeypatch.setattr(terminal, "write", write)
    walk()


def test_bars_within_bars(terminal: Terminal) -> None:
    for _ in watched("ab"):
        for _ in zip(watched(range(2)), watched(range(2)), strict=True):
            walk(2)
    shares = [int(text[:-1]) for text in terminal.drawn()]
    assert (
        shares == sorted(shares) and shares[-1] == 100 and {25, 50, 75} < set(shares) and terminal.is_clean()
    )


def test_work_that_fails_leaves_no_bar(terminal: Terminal) -> None:
    with pytest.raises(ZeroDivisionError):
        for i in watched(range(3)):
            1 / (i - 2)
    assert terminal.drawn() == ["33%", "67%"] and terminal.is_clean()
    with pytest.raises(ZeroDivisionError), Progress() as bar:
        bar.show(0.5)
        1 / 0  # noqa: B018
    walk()
    assert terminal.drawn()[-1] == "100%"


def test_other_threads_do_not_draw_over_it(terminal: Terminal) -> None:
    with Progress() as bar:
        other = threading.Thread(target=walk)
        other.start()
        other.join()
        assert terminal.getvalue() == ""
        bar.show(0.5)
    assert terminal.drawn() == ["50%"]


def test_a_silent_bar_silences_those_within(terminal: Terminal) -> None:
    with Progress(False):
        walk()
    assert terminal.getvalue() == ""


# ---- where a user waits ----------------------------------------------------------------------------


def chain() -> tr.Sequential:
    return tr.Sequential(tr.LSTM(3, 8, 2), tr.Linear(8, 2))


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_predict_and_evaluate(terminal: Terminal) -> None:
    net, xs = chain(), [numbers(n, 3) for n in (2, 6, 8)]
    net.predict(xs, batch_size=1)
    assert terminal.drawn() == ["12%", "50%", "100%"] and terminal.is_clean()
    net.evaluate(xs, [numbers(n, 2) for n in (2, 6, 8)], loss="mse")
    assert terminal.drawn()[3:] == ["100%"]


def test_predict_of_a_graph(terminal: Terminal) -> None:
    x, z = tr.Input(3), tr.Input(2)
    net = tr.Graph([x, z], tr.Linear(5, 2)(tr.concat([tr.LSTM(3, 3)(x), z])))
    net.predict({"0": numbers(4, 5, 3), "1": numbers(4, 5, 2)}, batch_size=1)
    assert terminal.drawn()[-1] == "100%" and terminal.is_clean()


def test_verify(terminal: Terminal) -> None:
    net = chain()
    assert tr.verify(net, net, steps=20)
    assert terminal.drawn() == ["20%", "40%", "60%", "80%", "100%"] and terminal.is_clean()


def test_drift_and_quantize(terminal: Terminal, monkeypatch: Any) -> None:
    monkeypatch.setattr("tinyrnn.tracing.CHUNK", 5)
    net, x = chain(), numbers(10, 3)
    smaller = tr.quantize(net, "int8", x)
    shares = [int(text[:-1]) for text in terminal.drawn()]
    assert shares == sorted(shares) and {33, 67, 100} <= set(shares) and len(set(shares)) > 4
    assert terminal.is_clean()
    tr.drift(net, smaller, x)
    assert "50%" in terminal.drawn()[len(shares) :] and terminal.is_clean()


def test_fit(terminal: Terminal, capsys: Any) -> None:
    net, xs, ys = chain(), numbers(8, 4, 3), numbers(8, 4, 2)
    options: Any = {"loss": "mse", "batch_size": 4, "validation_data": (xs, ys)}
    for verbose in (0, 2):
        net.fit(xs, ys, 2, verbose=verbose, **options)
        assert terminal.getvalue() == ""
    net.fit(xs, ys, 2, verbose=1, **options)
    shares = [int(text[:-1]) for text in terminal.drawn()]
    assert shares == sorted(shares) and {25, 50, 75, 100} == set(shares) and terminal.is_clean()
    assert "epoch 1/2  loss " in terminal.getvalue() and "epoch 2/2  loss " in terminal.getvalue()
    assert capsys.readouterr().out.count("epoch 2/2") == 2
