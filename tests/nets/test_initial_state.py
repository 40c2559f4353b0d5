"""The state that a net begins with: `Stream.reset`, `initial_state`, a learned one, one at rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

RNG = np.random.default_rng(11)


def numbers(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def chain() -> tr.Net:
    return tr.Sequential({"a": tr.LSTM(3, 5, num_layers=2), "b": tr.GRU(5, 4), "out": tr.Linear(4, 2)})


def feedback() -> tr.Net:
    """A net whose output comes back three steps later."""
    x = tr.Input(3)
    before = tr.Feedback(4, steps=3)
    h = tr.Tanh()(tr.GRU(3, 4)(x).named("rnn") + before)
    before.connect(h)
    return tr.Net(x, h)


# ---- reset ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("build", [chain, feedback])
@pytest.mark.parametrize(
    "rows", [2, -1, [0, 3], (3, 1), np.array([4]), slice(1, 4), slice(None, None, 2), [], None]
)
def test_rows_that_begin_again(build: Any, rows: Any, threads: int) -> None:
    net = build()
    x = numbers(6, 5, 3)
    stream, other, new = net.stream(5, threads=threads), net.stream(5), net.stream(5)
    stream.run(x[:3])
    other.run(x[:3])
    stream.reset(rows)
    chosen = np.zeros(5, bool)
    chosen[slice(None) if rows is None else list(rows) if isinstance(rows, tuple) else rows] = True
    y, went_on, began = stream.run(x[3:]), other.run(x[3:]), new.run(x[3:])
    assert np.array_equal(y, np.where(chosen[:, np.newaxis], began, went_on))
    assert not np.array_equal(began, went_on)


def test_rows_by_a_mask() -> None:
    stream = chain().stream(4)
    stream.step(numbers(4, 3))
    before = stream.state.copy()
    done = np.array([False, True, False, True])
    stream.reset(done)
    for name in stream.state:
        assert np.array_equal(stream.state[name], np.where(done[:, np.newaxis], 0, before[name]))


@pytest.mark.parametrize("build", [chain, feedback])
def test_rows_that_begin_with_a_given_state(build: Any) -> None:
    net = build()
    stream, donor = net.stream(4), net.stream(2)
    stream.step(numbers(4, 3))
    donor.run(numbers(5, 2, 3))
    before = stream.state.copy()
    stream.reset([3, 0], donor.state)
    for name in stream.state:
        assert np.array_equal(stream.state[name][:, [3, 0]], donor.state[name])
        assert np.array_equal(stream.state[name][:, [1, 2]], before[name][:, [1, 2]])


def test_a_state_in_part_leaves_zeros() -> None:
    stream = chain().stream(3)
    stream.step(numbers(3, 3))
    given = numbers(2, 1, 5)
    stream.reset(1, {"a.c": given})
    assert np.array_equal(stream.state["a.c"][:, 1:2], given)
    assert not stream.state["a.h"][:, 1].any() and not stream.state["b.h"][:, 1].any()
    assert stream.state["a.h"][:, 0].any() and stream.state["b.h"][:, 2].any()
    stream.reset(state={"b.h": given[:1, :, :4].repeat(3, 1)})
    assert (
        np.array_equal(stream.state["b.h"], given[:1, :, :4].repeat(3, 1)) and not stream.state["a.c"].any()
    )


def test_a_state_of_the_stream_itself() -> None:
    """Rows swap their states."""
    stream = tr.GRU(3, 4).stream(2)
    stream.step(numbers(2, 3))
    before = stream.state["h"].copy()
    stream.reset([1, 0], stream.state)
    assert np.array_equal(stream.state["h"], before[:, ::-1])


@pytest.mark.parametrize(
    ("rows", "state", "error", "message"),
    [
        (4, None, IndexError, r"reset: row 4 is out of range, expected 0 \.\. 3"),
        ([0, -5], None, IndexError, "row -5 is out of range"),
        ([1, -3], None, ValueError, r"got rows \[1, 1\], expected each row once"),
        (1.5, None, TypeError, "rows is float64"),
        ("1", None, TypeError, "expected an int, a sequence of ints, a slice or a mask"),
        ([[1]], None, TypeError, r"of shape \(1, 1\)"),
        (True, None, ValueError, r"a mask of shape \(\), expected \(4,\)"),
        (
            [0],
            {"h": np.zeros((1, 2, 5))},
            ValueError,
            r"reset: h: got shape \(1, 2, 5\), expected \(1, 1, 5\)",
        ),
        (None, {"h": np.zeros((1, 1, 5))}, ValueError, r"expected \(1, 4, 5\)"),
        ([0], {"c": np.zeros((1, 1, 5)), "x": 0}, KeyError, "got 'x', expected one of h, c"),
        ([0], [1], TypeError, "state is list, expected a mapping"),
        ([0], {"h": np.zeros((1, 1, 5), complex)}, TypeError, "reset: h"),
    ],
)
def test_a_reset_that_fails_changes_nothing(rows: Any, state: Any, error: Any, message: str) -> None:
    stream = tr.LSTM(3, 5).stream(4)
    stream.step(numbers(4, 3))
    before = stream.state.tobytes()
    with pytest.raises(error, match=message):
        stream.reset(rows, state)
    assert stream.state.tobytes() == before


def test_the_state_of_another_kind_of_layer_is_refused() -> None:
    stream = tr.RNN(3, 5).stream(1)
    with pytest.raises(tr.ShapeError, match="got h of another net, of gru 3x5, expected rnn 3x5"):
        stream.reset(0, tr.GRU(3, 5).stream().state)
