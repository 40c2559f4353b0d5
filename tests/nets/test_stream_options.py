"""Options of a stream beyond steps: rows before steps, and numbers that are not finite."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.tracing import watch

T = B = 6  # as many rows as steps: where the order is ignored, shapes do not tell


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def twins(kind: str = "LSTM") -> tuple[tr.Sequential, tr.Sequential]:
    """Two nets of the same weights, rows first and steps first."""
    nets = []
    for batch_first in (True, False):
        tr.manual_seed(0)
        layers = {"rnn": getattr(tr, kind)(3, 4, 2, batch_first=batch_first), "head": tr.Linear(4, 3)}
        nets.append(tr.Sequential(layers))
    nets[1].load_state_dict(nets[0].state_dict())
    return nets[0], nets[1]


# ---- batch_first ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_has_the_order_of_its_net(kind: str, threads: int) -> None:
    net, other = twins(kind)
    for x in (normal(B, T, 3), normal(B, 70, 3), normal(B, 1, 3), normal(B, 2 * T, 3)[:, ::2]):
        stream = net.stream(batch=B, threads=threads)
        y = stream.run(x)
        assert np.array_equal(y, net(x))
        assert np.array_equal(y.swapaxes(0, 1), other.stream(batch=B).run(x.swapaxes(0, 1)))
        stream.reset()
        out = np.full((B, x.shape[1], 3), 9, np.float32)
        assert stream.run(x, out) is out and np.array_equal(out, y)
        stream.reset()
        steps = [stream.step(np.ascontiguousarray(x[:, t])) for t in range(x.shape[1])]
        assert np.array_equal(np.stack(steps, 1), y)
        fork = stream.copy()
        assert np.array_equal(fork.run(x), stream.run(x))


def test_a_stream_of_one_row_has_it_too() -> None:
    net, _ = twins()
    x = normal(5, 3)
    y = net.stream().run(x)
    stream = net.stream()
    out = np.empty((1, 5, 3), np.float32)
    assert stream.run(x[np.newaxis], out) is out and np.array_equal(out[0], y)
    with pytest.raises(
        tr.ShapeError, match=r"run: x has shape \(5, 1, 3\), expected \(T, 3\) or \(1, T, 3\)"
    ):
        stream.run(x[:, np.newaxis])


def test_rows_first_of_symbols() -> None:
    net = tr.Sequential(tr.Embedding(9, 3), tr.GRU(3, 4, batch_first=True))
    x = np.random.default_rng(0).integers(0, 9, (B, T)).astype(np.int32)
    assert np.array_equal(net.stream(B).run(x), net(x))
    stream = net.stream(B)
    x[2, 3] = 9
    before = stream.state.tobytes()
    with pytest.raises(IndexError, match="0 .. 8"):
        stream.run(x)
    assert stream.state.tobytes() == before


@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (
            normal(7, 6, 3),
            None,
            tr.ShapeError,
            r"x has shape \(7, 6, 3\), expected \(6, T, 3\).* batch_first",
        ),
        (normal(6, 3), None, tr.ShapeError, r"expected \(6, T, 3\)"),
        (normal(6, 0, 3), None, tr.ShapeError, "x has 0 steps"),
        (normal(6, 7, 3), np.empty((7, 6, 3), np.float32), tr.ShapeError, r"out has .*expected \(6, 7, 3\)"),
        (normal(6, 7, 3), np.empty((6, 7, 3)), TypeError, "out is float64"),
        (normal(6, 7, 3), np.empty((7, 6, 3), np.float32).swapaxes(0, 1), ValueError, "C-contiguous"),
    ],
)
def test_errors_have_the_order(x: np.ndarray, out: np.ndarray, error: type[Exception], message: str) -> None:
    stream = twins()[0].stream(B)
    stream.step(normal(B, 3))
    before = stream.state.tobytes()
    with pytest.raises(error, match=message):
        stream.run(x, out)
    assert stream.state.tobytes() == before


def test_rows_first_may_not_share_memory() -> None:
    stream = twins()[0].stream(B)
    x = normal(B, T, 3)
    with pytest.raises(ValueError, match="out shares memory with x"):
        stream.run(x, x)
    numbers = stream.raw_state[: B * 2 * 3].reshape(B, 2, 3)
    with pytest.raises(ValueError, match="out shares memory with x or with the state"):
        stream.run(normal(B, 2, 3), numbers)
    with pytest.raises(ValueError, match="x shares memory with the state"):
        stream.run(numbers)


def test_layers_that_disagree_on_the_order() -> None:
    net = tr.Sequential(tr.LSTM(3, 4, batch_first=True), tr.GRU(4, 3))
    with pytest.raises(ValueError, match="batch_first is not the same"):
        net.stream(2)
    assert net.stream().run(normal(5, 3)).shape == (5, 3)


def test_everything_that_takes_a_batch_has_the_order_of_the_net() -> None:
    net, other = twins()
    x, y = normal(B, T, 3), np.random.default_rng(1).standard_normal((B, T, 3)).astype(np.float32)
    turned, turned_y = x.swapaxes(0, 1).copy(), y.swapaxes(0, 1).copy()
    for mine, theirs in zip(watch(net, x), watch(other, turned), strict=True):
        assert all(np.array_equal(a.y, b.y) for a, b in zip(mine, theirs, strict=True))
    assert np.array_equal(net.predict(x), other.predict(x))  # samples first, whatever the net's order
    assert np.array_equal(net.predict(x), net(x))
    assert net.evaluate(x, y, loss="mse") == pytest.approx(other.evaluate(x, y, loss="mse"), rel=1e-12)
    ends = [6, 5, 4, 3, 2, 1]
    assert np.array_equal(net(x, lengths=ends), other(turned, lengths=ends).swapaxes(0, 1))
    small = [tr.quantize(one, "int8", data) for one, data in ((net, x), (other, turned))]
    assert np.array_equal(small[0](x), small[1](turned).swapaxes(0, 1))
    drifts = [
        tr.drift(one, less, data, targets)
        for one, less, data, targets in ((net, small[0], x, y), (other, small[1], turned, turned_y))
    ]
    assert str(drifts[0]) == str(drifts[1])
    norms = [
        tr.inspect.gradient_norms(one, data, targets, tr.MSELoss())
        for one, data, targets in ((net, x, y), (other, turned, turned_y))
    ]
    assert str(norms[0]) == str(norms[1])
    losses = [
        one.trainer(tr.optim.SGD(one, lr=0.1), tr.MSELoss(), batch=B, steps=T).step(data, targets)
        for one, data, targets in ((net, x, y), (other, turned, turned_y))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)  # summed in the order of y
    for name, tensor in net.state_dict().items():
        np.testing.assert_allclose(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-7)


# ---- numbers that are not finite ------------------------------------------------------------------


def recurrent(kind: str = "GRU") -> tr.Sequential:
    tr.manual_seed(0)
    return tr.Sequential(getattr(tr, kind)(3, 5, 2), tr.Linear(5, 2))


def expected(net: tr.Net, x: np.ndarray, nonfinite: str) -> tuple[np.ndarray, list[bytes]]:
    """Each row by itself, step by step, with its state put right by hand."""
    rows, states = [], []
    for row in x.swapaxes(0, 1):
        stream = net.stream()
        y = np.full((len(row), *stream.step(row[0]).shape), np.nan, np.float32)
        stream.reset()
        for t, frame in enumerate(row):
            before = stream.raw_state.copy()
            with np.errstate(all="ignore"):
                step = stream.step(frame)
            if np.isfinite(frame).all() and np.isfinite(stream.raw_state).all():
                y[t] = step
            else:
                stream.raw_state[:] = before if nonfinite == "skip" else 0
        rows.append(y)
        states.append(stream.raw_state.tobytes())
    return np.stack(rows, 1), states


def spoilt(steps: int, batch: int) -> np.ndarray:
    x = normal(steps, batch, 3)
    x[4, 1, 2], x[5, 1, 0], x[9, 0, 0], x[9, 2, 1], x[-1, 3, 0] = np.nan, np.inf, -np.inf, np.nan, np.nan
    return x


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("nonfinite", ["skip", "reset"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_bad_frame_is_gone_after_its_step(kind: str, nonfinite: str, threads: int) -> None:
    net, x = recurrent(kind), spoilt(80, 4)
    y, states = expected(net, x, nonfinite)
    chunk, steps, pieces = (net.stream(4, threads=threads, nonfinite=nonfinite) for _ in range(3))
    out = np.empty((80, 4, 2), np.float32)
    assert chunk.run(x, out) is out
    assert np.array_equal(out, y, equal_nan=True)
    assert np.array_equal(np.stack([steps.step(frame) for frame in x]), y, equal_nan=True)
    parts = [pieces.run(x[:7]), pieces.run(x[7:10]), pieces.run(x[10:])]
    assert np.array_equal(np.concatenate(parts), y, equal_nan=True)
    for stream in (chunk, steps, pieces):
        assert [row.tobytes() for row in stream.raw_state.reshape(4, -1)] == states
    plain = net.stream(4)
    assert np.array_equal(plain.run(x)[:4], y[:4])  # as without the option
    assert np.isnan(plain.raw_state).any()


@pytest.mark.parametrize("nonfinite", ["stop", "skip", "reset"])
def test_finite_numbers_have_their_bits(nonfinite: str) -> None:
    x = normal(80, 4, 3)
    plain, watched = recurrent().stream(4), recurrent().stream(4, nonfinite=nonfinite)
    assert np.array_equal(plain.run(x), watched.run(x))
    assert np.array_equal(plain.step(x[0]), watched.step(x[0]))
    assert plain.state.tobytes() == watched.state.tobytes()


def test_stop_changes_nothing() -> None:
    stream = recurrent().stream(4, nonfinite="stop")
    stream.run(normal(5, 4, 3))
    before, x = stream.state.tobytes(), spoilt(80, 4)
    out = np.full((80, 4, 2), 9, np.float32)
    with pytest.raises(
        tr.NonFiniteError, match="run: x holds nan in step 4 of row 1; the state is as before"
    ):
        stream.run(x, out)
    with pytest.raises(tr.NonFiniteError, match="step: x holds inf in row 1; the state is as before"):
        stream.step(x[5], out[0])
    assert stream.state.tobytes() == before and (out == 9).all()
    with pytest.raises(tr.ShapeError):
        stream.step(x[5, :2])


def overflowing(kind: str) -> tr.Net:
    """A state that is infinite after an input of 2, and not after the step that follows; zeros give zeros."""
    if kind == "rectified":  # h' = relu(3e38 x - h)
        rnn = tr.RNN(1, 1, nonlinearity="relu", bias=False)
        rnn.load_state_dict({"weight_ih_l0": [[3e38]], "weight_hh_l0": [[-1.0]]})
        return tr.Sequential(rnn, tr.Sigmoid())
    lstm = tr.LSTM(1, 8, proj_size=1, bias=False)
    from_x, from_h = np.zeros((2, 4, 8, 1), np.float32)  # of the gates i f g o
    from_x[2], from_h[3] = 9, -9  # x opens the cell, h shuts the output
    weights = {"weight_ih_l0": from_x, "weight_hh_l0": from_h, "weight_hr_l0": np.full((1, 8), 3e38)}
    lstm.load_state_dict(
        {
            name: array.reshape(array.shape[0] * array.shape[1] if array.ndim == 3 else 1, -1)
            for name, array in weights.items()
        }
    )
    return tr.Sequential(lstm, tr.Sigmoid())


@pytest.mark.parametrize("nonfinite", ["skip", "reset"])
@pytest.mark.parametrize("kind", ["rectified", "projected"])
def test_a_state_that_overflows(kind: str, nonfinite: str) -> None:
    net = overflowing(kind)
    x = np.zeros((12, 3, 1), np.float32)
    x[3, 1] = x[8, 2] = 2.0  # 6e38 is beyond float32
    x[:, 0] = 1e-38
    y, states = expected(net, x, nonfinite)
    assert np.isnan(y[3, 1]).all() and np.isnan(y[8, 2]).all() and np.isnan(y).sum() == 2
    chunk, steps = net.stream(3, nonfinite=nonfinite), net.stream(3, nonfinite=nonfinite)
    assert np.array_equal(chunk.run(x), y, equal_nan=True)
    assert np.array_equal(np.stack([steps.step(frame) for frame in x]), y, equal_nan=True)
    assert [row.tobytes() for row in chunk.raw_state.reshape(3, -1)] == states
    stopping = net.stream(3, nonfinite="stop")
    stopping.run(x[:2])
    before, out = stopping.state.tobytes(), np.full((10, 3, 1), 9, np.float32)
    with pytest.raises(tr.NonFiniteError, match="run: the state of row 1 is not finite any more in step 1"):
        stopping.run(x[2:], out)
    with pytest.raises(tr.NonFiniteError, match="step: the state of row 1 is not finite any more; it is as"):
        stopping.step(x[3])
    assert stopping.state.tobytes() == before and (out == 9).all()


def test_a_state_that_was_set_to_nan() -> None:
    net, x = recurrent("LSTM"), normal(3, 2, 3)
    stream, plain = net.stream(2, nonfinite="reset"), net.stream(2)
    stream.raw_state[0] = np.nan  # of row 0
    y = stream.run(x)
    assert np.isnan(y[0, 0]).all() and np.isfinite(y[1:]).all()
    assert np.array_equal(y[:, 1], plain.run(x)[:, 1])
    assert np.array_equal(y[1:, 0], net.stream().run(x[1:, 0]))


def test_symbols_with_the_option() -> None:
    net = tr.Sequential(tr.Embedding(4, 1), tr.RNN(1, 1, nonlinearity="relu"))
    stream, plain = net.stream(2, nonfinite="skip"), net.stream(2)
    x = np.array([[1, 2], [0, 3], [3, 3]], np.int32)
    assert np.array_equal(stream.run(x), plain.run(x))
    before, out = stream.state.tobytes(), np.full((3, 2, 1), 9, np.float32)
    with pytest.raises(IndexError):
        stream.run(np.array([[1, 2], [0, 3], [3, 4]], np.int32), out)
    assert stream.state.tobytes() == before and (out == 9).all()
    assert net.stream(nonfinite="reset").step(2).shape == (1,)


def test_the_option_with_rows_first() -> None:
    net, other = twins("GRU")
    x = spoilt(20, 4)
    y = other.stream(4, nonfinite="skip").run(x)
    assert np.array_equal(
        net.stream(4, nonfinite="skip").run(x.swapaxes(0, 1)), y.swapaxes(0, 1), equal_nan=True
    )


def test_copies_keep_options() -> None:
    net, _ = twins()
    stream = net.stream(4, nonfinite="reset", threads=2)
    x = spoilt(20, 4).swapaxes(0, 1)
    y = stream.copy().run(x)
    assert np.isfinite(stream.fresh().run(x)[:, 6:9]).all()
    assert np.array_equal(copy.copy(stream).run(x), y, equal_nan=True)
    with pytest.raises(ValueError, match="nonfinite is 'ignore', expected None, 'stop', 'skip' or 'reset'"):
        net.stream(nonfinite="ignore")


# ---- what a stream says of itself -------------------------------------------------------------------


def test_repr() -> None:
    stream = tr.GRU(3, 5, 2, batch_first=True).stream(4, threads=2, nonfinite="skip")
    assert repr(stream) == (
        f"Stream(\n  net: {stream.net!r}\n  state: h (2, 4, 5)\n  batch=4, frame=(3,), out_frame=(5,), "
        "threads=2, batch_first=True, nonfinite='skip'\n)"
    )
    net, _ = twins()
    text = repr(net.stream())
    assert (
        "  net: Sequential(\n    (rnn): LSTM(" in text and "state: rnn.h (2, 1, 4), rnn.c (2, 1, 4)\n" in text
    )
    assert "state: none\n  batch=1, frame=(2, 9), out_frame=(3, 7)" in repr(
        tr.Conv1d(2, 3, 3).stream(frame=(2, 9))
    )
    assert repr(net.stream().copy()) == text
