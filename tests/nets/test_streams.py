"""Streams: steps, chunks, state, forks."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import tinyrnn as tr


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def charlm() -> tr.Sequential:
    tr.manual_seed(0)
    return tr.Sequential(
        {"embedding": tr.Embedding(11, 8), "lstm": tr.LSTM(8, 16, 2), "head": tr.Linear(16, 11)}
    )


def test_shapes_of_one_row() -> None:
    stream = tr.LSTM(3, 5).stream()
    assert stream.step(normal(3)).shape == (5,)
    assert stream.step(normal(1, 3)).shape == (1, 5)
    assert stream.run(normal(7, 3)).shape == (7, 5)
    assert stream.run(normal(7, 1, 3)).shape == (7, 1, 5)
    assert stream.step([1, 2, 3]).dtype == np.float32


def test_shapes_of_a_batch() -> None:
    stream = tr.GRU(3, 5).stream(batch=4)
    assert stream.step(normal(4, 3)).shape == (4, 5)
    assert stream.run(normal(7, 4, 3)).shape == (7, 4, 5)
    assert stream.batch == 4


def test_symbols() -> None:
    net = charlm()
    stream, other = net.stream(), net.stream()
    logits = [stream.step(symbol) for symbol in (3, np.int64(4), np.array(5))]
    assert np.array_equal(np.stack(logits), other.run([3, 4, 5]))
    assert np.array_equal(np.stack(logits), net(np.array([3, 4, 5], np.uint8)))
    assert net.stream(2).step([1, 2]).shape == (2, 11)


@pytest.mark.parametrize("symbol", [11, -1, 2**40, [11], np.int64(-1), np.array(11, np.int32)])
def test_a_symbol_out_of_range_changes_nothing(symbol: object) -> None:
    stream = charlm().stream()
    stream.step(3)
    before = stream.state.tobytes()
    with pytest.raises((IndexError, tr.ShapeError)):
        stream.step(symbol)
    with pytest.raises(IndexError):
        stream.run(np.array([1, 2, 11], np.int32))
    with pytest.raises(IndexError, match=r"index 99 at \[1\] is out of range, expected 0 .. 10"):
        stream.run([1, 99])
    assert stream.state.tobytes() == before


def test_symbols_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match="dtype float64, expected integers"):
        charlm().stream().step(1.0)


def test_out_is_written_and_returned() -> None:
    stream, other = tr.LSTM(3, 5).stream(), tr.LSTM(3, 5).stream()
    other = stream.fresh()
    x, out = normal(6, 3), np.full((6, 5), 9, np.float32)
    assert stream.run(x, out) is out
    assert np.array_equal(out, other.run(x))
    row = np.empty(5, np.float32)
    assert stream.step(x[0], out=row) is row
    assert np.array_equal(row, other.step(x[0]))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty(4, np.float32), tr.ShapeError, r"out has shape \(4,\), expected \(5,\)"),
        (np.empty((1, 5), np.float32), tr.ShapeError, r"expected \(5,\)"),
        (np.empty(5), TypeError, "out is float64, expected a float32 ndarray"),
        ([0.0] * 5, TypeError, "out is list"),
        (np.empty(10, np.float32)[::2], ValueError, "out is not C-contiguous"),
        (np.frombuffer(bytes(20), np.float32), ValueError, "writeable"),
    ],
)
def test_out_that_does_not_fit(out: object, error: type[Exception], message: str) -> None:
    stream = tr.LSTM(3, 5).stream()
    stream.step(normal(3))
    before = stream.state.tobytes()
    with pytest.raises(error, match=message):
        stream.step(normal(3), out)
    assert stream.state.tobytes() == before


def test_out_may_not_share_memory() -> None:
    stream = tr.LSTM(5, 5).stream()
    x = normal(5)
    with pytest.raises(ValueError, match="shares memory"):
        stream.step(x, x)
    with pytest.raises(ValueError, match="shares memory"):
        stream.step(x, stream.raw_state[:5])


def test_reset_and_state() -> None:
    stream = charlm().stream()
    fresh = stream.state.copy()
    first = stream.run([1, 2, 3])
    saved = stream.state.copy()
    second = stream.run([4, 5])
    stream.reset()
    assert stream.state.tobytes() == fresh.tobytes()
    assert np.array_equal(stream.run([1, 2, 3]), first)
    stream.state = saved
    assert np.array_equal(stream.run([4, 5]), second)
    stream.state = saved.tobytes()
    assert np.array_equal(stream.run([4, 5]), second)
    stream.state = dict(saved)
    assert np.array_equal(stream.run([4, 5]), second)


def test_a_fork_goes_its_own_way() -> None:
    stream = charlm().stream()
    stream.run([1, 2, 3])
    fork = stream.copy()
    assert np.array_equal(stream.step(4), fork.step(4))
    stream.step(5)
    assert stream.state.tobytes() != fork.state.tobytes()
    fork.step(5)
    assert stream.state.tobytes() == fork.state.tobytes()


def test_state_by_name_is_pytorchs() -> None:
    net = tr.LSTM(3, 8, 2, proj_size=5)
    x = normal(6, 4, 3)
    _, (h, c) = net(x)
    stream = net.stream(4)
    stream.run(x)
    assert list(stream.state) == ["h", "c"]
    assert np.array_equal(stream.state["h"], h) and np.array_equal(stream.state["c"], c)
    assert list(charlm().stream().state) == ["lstm.h", "lstm.c"]
    other = net.stream(4)
    other.state["h"], other.state["c"] = h, c
    assert np.array_equal(other.run(x), stream.run(x))
    _, (h2, _) = net(x, (h, c))
    assert np.array_equal(h2, other.state["h"])


def test_state_of_another_net_is_refused() -> None:
    stream = tr.LSTM(3, 8).stream()
    stream.step(normal(3))
    before = stream.state.tobytes()
    for other in (
        tr.LSTM(3, 9).stream(),
        tr.LSTM(4, 8).stream(),
        tr.GRU(3, 16).stream(),
        tr.LSTM(3, 8).stream(2),
        charlm().stream(),
    ):
        with pytest.raises(tr.ShapeError, match="another net"):
            stream.state = other.state
        with pytest.raises(tr.ShapeError, match="another net"):
            stream.state = other.state.tobytes()
    for damaged in (b"", b"nonsense" * 9, before[:-1], before + b"\0", before[:-1] + b"\x7f"):
        with pytest.raises(ValueError):
            stream.state = damaged
    with pytest.raises(tr.ShapeError, match=r"h: got shape \(1, 1, 7\), expected \(1, 1, 8\)"):
        stream.state = {"h": np.zeros((1, 1, 7)), "c": np.zeros((1, 1, 8))}
    with pytest.raises(tr.ShapeError, match="has"):
        stream.state = {"h": np.zeros((1, 1, 8))}
    with pytest.raises(TypeError):
        stream.state = 3.0
    assert stream.state.tobytes() == before


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (normal(4), tr.ShapeError),
        (normal(2, 3), tr.ShapeError),
        (np.float32(1), tr.ShapeError),
        (normal(3).astype(complex), TypeError),
        (np.array([None] * 3), TypeError),
        ("abc", TypeError),
        ({}, TypeError),
    ],
)
def test_a_bad_frame_changes_nothing(x: object, error: type[Exception]) -> None:
    stream = tr.LSTM(3, 8).stream()
    stream.step(normal(3))
    before = stream.state.tobytes()
    with pytest.raises(error):
        stream.step(x)
    with pytest.raises((tr.ShapeError, TypeError)):
        stream.run(x if np.ndim(x) != 2 else normal(2, 4))
    assert stream.state.tobytes() == before


def test_messages_say_what_was_wanted() -> None:
    with pytest.raises(tr.ShapeError, match=r"step: x has shape \(5,\), expected \(3,\) or \(1, 3\)"):
        tr.LSTM(3, 8).stream().step(normal(5))
    with pytest.raises(tr.ShapeError, match=r"run: x has shape \(5,\), expected \(T, 2, 3\)"):
        tr.LSTM(3, 8).stream(2).run(normal(5))
    with pytest.raises(tr.ShapeError, match="x has 0 steps, expected 1"):
        tr.LSTM(3, 8).stream().run(normal(0, 3))


def test_other_dtypes_are_converted() -> None:
    stream = tr.LSTM(3, 8).stream()
    x = normal(6, 3)
    expected = stream.run(x)
    for same in (x.astype(np.float64), np.asfortranarray(x), x[::-1][::-1], x.astype(">f4"), x.tolist()):
        stream.reset()
        assert np.array_equal(stream.run(same), expected)


def test_nan_stays_in_its_row() -> None:
    stream = tr.GRU(3, 8).stream(2)
    x = normal(2, 3)
    x[0, 1] = np.nan
    y = stream.step(x)
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


def test_wrong_uses_of_a_stream() -> None:
    stream = tr.LSTM(3, 8).stream()
    with pytest.raises(ValueError, match="read-only"):
        stream.state["h"][:] = 1
    with pytest.raises(ValueError, match="x shares memory with the state"):
        stream.step(stream.raw_state[:3])
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)
    assert copy.copy(stream).state.tobytes() == stream.state.tobytes()
    with pytest.raises(TypeError):
        tr.Stream.__new__(tr.Stream)
    with pytest.raises(TypeError):
        tr.Stream(stream.net, None, (3,), (8,), 0)  # type: ignore[arg-type]
    assert tr.ReLU().stream(frame=()).step(3) == 3  # a number, not an index


def test_nets_that_cannot_be_streamed() -> None:
    with pytest.raises(ValueError, match="bidirectional"):
        tr.LSTM(3, 8, bidirectional=True).stream()
    with pytest.raises(ValueError, match=r"leave the input's frame open: pass frame="):
        tr.Conv1d(2, 3, 3).stream()
    with pytest.raises(ValueError, match="batch is 0"):
        tr.LSTM(3, 8).stream(0)
    with pytest.raises(TypeError, match="batch is 1.5"):
        tr.LSTM(3, 8).stream(1.5)  # type: ignore[arg-type]
    with pytest.raises(tr.ShapeError, match=r"1: Linear: got frames of shape \(8,\), expected \(9,\)"):
        tr.Sequential(tr.LSTM(3, 8), tr.Linear(9, 2)).stream()


def test_layers_without_state_stream_too() -> None:
    conv = tr.Conv1d(2, 3, 3)
    stream = conv.stream(frame=(2, 10))
    x = normal(5, 2, 10)
    assert np.array_equal(stream.run(x), conv(x))
    assert stream.state.tobytes() == stream.fresh().state.tobytes()
    assert tr.Dropout().stream(frame=(4,)).step(normal(4)).tolist() == normal(4).tolist()


def test_a_stream_in_use_refuses_a_second_thread() -> None:
    stream = tr.LSTM(256, 512).stream()
    x = normal(3000, 256)
    failures: list[Exception] = []

    def work() -> None:
        try:
            stream.run(x)
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whether the two met is the machine's choice; that nothing else happened is ours.
    assert all("in use by another thread" in str(error) for error in failures) and len(failures) <= 1
    assert stream.run(normal(2, 256)).shape == (2, 512)


def test_another_nets_state_is_handed_over_by_name() -> None:
    layer = tr.LSTM(3, 4).stream()
    net = tr.Sequential({"a": tr.GRU(5, 4), "lstm": tr.LSTM(4, 4)}).stream()
    alone = tr.Sequential({"lstm": tr.LSTM(3, 4)})
    layer.state["h"], layer.state["c"] = np.ones((1, 1, 4)), np.full((1, 1, 4), 2)

    with pytest.raises(tr.ShapeError, match="another net or batch") as caught:
        layer.state = alone.stream().state
    assert str(caught.value).endswith("{'h': other['lstm.h'], 'c': other['lstm.c']}")
    with pytest.raises(tr.ShapeError) as caught:
        net.state = layer.state
    said = str(caught.value).rpartition("stream.state = ")[2]
    assert said == "{**stream.state, 'lstm.h': other['h'], 'lstm.c': other['c']}"
    net.state = eval(said, {"stream": net, "other": layer.state})  # what is said can be done
    assert net.state["lstm.c"].tolist() == layer.state["c"].tolist()

    with pytest.raises(KeyError, match="got 'h', expected one of lstm.h, lstm.c; to take over") as missing:
        alone(np.zeros((2, 3)), state=layer.state)
    assert "state = {'lstm.h': other['h'], 'lstm.c': other['c']}" in str(missing.value)
    for other in (tr.LSTM(3, 5).stream(), tr.LSTM(3, 4).stream(2)):
        with pytest.raises(tr.ShapeError) as caught:
            layer.state = other.state
        assert "take over" not in str(caught.value)
