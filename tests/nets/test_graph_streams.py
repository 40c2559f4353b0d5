"""Streams of nets with several inputs and outputs: the bits of a call, state, what fails."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from graph_nets import inputs_of_three, net_of_three, numbers, three_in_torch

import tinyrnn as tr

STEPS, BATCH = 9, 3


def test_values_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    weights = {name: torch.tensor(value).double() for name, value in net.state_dict().items()}
    given = (torch.tensor(x).double(), torch.tensor(speaker).double(), torch.tensor(word))
    wanted = three_in_torch(weights, *given)["out"].numpy()
    stream = net.stream(batch=BATCH)
    for t in range(STEPS):
        assert np.abs(stream.step(x[t], speaker, word[t])["out"] - wanted[t]).max() < 2e-6


@pytest.mark.parametrize("isa", tr.available_isas())
def test_bits_do_not_depend_on_the_way(isa: str) -> None:
    """Whole, step by step, in chunks, in threads, each row alone, by name: the same bits."""
    tr.set_isa(isa)
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    whole = net(x, speaker, word)
    for options in ({}, {"threads": 2}, {"steps": 2}, {"threads": 3, "steps": 100}):
        stream = net.stream(batch=BATCH, **options)
        steps = [stream.step(x[t], speaker, word[t]) for t in range(STEPS)]
        assert np.array_equal(np.stack([y["out"] for y in steps]), whole["out"])
        assert all(np.array_equal(y["who"], whole["who"]) for y in steps)
        stream.reset()
        first = stream.run({"0": x[:4], "speaker": speaker, "word": word[:4]})
        second = stream.run(x[4:], speaker, word[4:])
        assert np.array_equal(np.concatenate([first["out"], second["out"]]), whole["out"])
        assert np.array_equal(second["who"], whole["who"])
        assert all(np.array_equal(stream.state[name], final) for name, final in net.last_state.items())
    for row in range(BATCH):
        stream = net.stream()
        alone = [stream.step(x[t, row], speaker[row], word[t, row])["out"] for t in range(STEPS)]
        assert np.array_equal(np.stack(alone), whole["out"][:, row])
        assert np.array_equal(
            net.stream().run(x[:, row], speaker[row], word[:, row])["out"], whole["out"][:, row]
        )


def test_batch_first() -> None:
    (x, speaker, word), net = inputs_of_three(STEPS, BATCH), net_of_three(batch_first=True)
    whole = net_of_three()(x, speaker, word)["out"]
    stream = net.stream(batch=BATCH)
    first = stream.run(x[:4].swapaxes(0, 1), speaker, word[:4].swapaxes(0, 1))["out"]
    rest = [stream.step(x[t], speaker, word[t])["out"] for t in range(4, STEPS)]
    assert np.array_equal(np.concatenate([first, np.stack(rest, 1)], 1), whole.swapaxes(0, 1))


def test_an_input_per_sequence_may_change() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    stream = net.stream(batch=BATCH)
    stream.run(x[:4], speaker, word[:4])
    net(x[:4], speaker, word[:4])
    changed = net(x[4:], -speaker, word[4:], state=net.last_state)
    found = stream.run(x[4:], -speaker, word[4:])
    assert all(np.array_equal(found[name], changed[name]) for name in changed)


def test_state_and_copies() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    whole = net(x, speaker, word)["out"]
    stream = net.stream(batch=BATCH, threads=2)
    stream.run(x[:4], speaker, word[:4])
    kept, fork, twin = stream.state.tobytes(), stream.copy(), copy.copy(stream)
    for one in (stream, fork, twin):
        assert np.array_equal(one.run(x[4:], speaker, word[4:])["out"], whole[4:])
    stream.state = kept
    assert np.array_equal(stream.run(x[4:], speaker, word[4:])["out"], whole[4:])
    assert np.array_equal(stream.fresh().run(x, speaker, word)["out"], whole)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)
    assert "rnn.h" in repr(stream)
    memory = net.memory(batch=BATCH)
    assert memory.state == stream.state.numbers.nbytes and memory.weights > 0 and memory.scratch > 0


def test_a_call_that_fails_changes_nothing() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    stream = net.stream(batch=BATCH, nonfinite="stop")
    stream.run(x[:4], speaker, word[:4])
    before = stream.state.copy()
    bad = speaker.copy()
    bad[1, 2] = np.inf
    huge = x.copy()
    huge[6, 1] = np.nan
    with pytest.raises(tr.NonFiniteError, match="input 'speaker' holds NaN"):
        stream.step(x[4], bad, word[4])
    with pytest.raises(tr.NonFiniteError, match="input '0' holds NaN"):
        stream.run(huge[4:], speaker, word[4:])
    with pytest.raises(IndexError, match="input 'word': index 7"):
        stream.step(x[4], speaker, np.full(BATCH, 7))
    with pytest.raises(tr.ShapeError, match="input 'speaker' has 2 rows, expected 3"):
        stream.step(x[4], speaker[:2], word[4])
    with pytest.raises(tr.ShapeError, match="got 2 rows, expected 3, the stream's batch"):
        stream.step(x[4, :2], speaker[:2], word[4, :2])
    with pytest.raises(tr.ShapeError, match="has 4 steps, expected 5, as in the inputs before"):
        stream.run(x[4:], speaker, word[5:])
    with pytest.raises(TypeError, match="got 2 inputs, expected 3: 0, speaker, word"):
        stream.step(x[4], speaker)
    assert np.array_equal(stream.state.numbers, before.numbers)
    assert np.array_equal(stream.run(x[4:], speaker, word[4:])["out"], net(x, speaker, word)["out"][4:])


def test_what_cannot_be_streamed() -> None:
    x, speaker = tr.Input(3), tr.Input(6, time=None, name="speaker")
    both = tr.GRU(3, 3, bidirectional=True)(tr.Linear(3, 3)(x)).named("encoder")
    net = tr.Net([x, speaker], both * speaker)
    with pytest.raises(ValueError, match=r"encoder\S*, a bidirectional GRU, needs the full sequence"):
        net.stream()
    with pytest.raises(ValueError, match=r"encoder\S*, a bidirectional GRU, needs the full sequence"):
        tr.Net(x, both).stream()
    with pytest.raises(ValueError, match=r"1\S*, a bidirectional LSTM, needs the full sequence"):
        tr.Sequential(tr.Linear(3, 4), tr.LSTM(4, 2, bidirectional=True)).stream()
    a, b = tr.Input(3, time="fast", name="a"), tr.Input(2, time="slow", name="b")
    for late in (tr.RNN(2, 2), tr.MeanOverTime(), tr.TimeConv1d(2, 2, 3)):
        with pytest.raises(
            ValueError, match="of 'fast', and no layer on another axis of time may keep a state"
        ):
            tr.Net([a, b], [tr.Tanh()(a), late(b)]).stream(steps=5)
    with pytest.raises(ValueError, match="a DotProductAttention, needs the full sequence"):
        tr.Net([a, b], tr.DotProductAttention(2)(b, tr.Linear(3, 2)(a), a)).stream(steps=5)
    with pytest.raises(ValueError, match="nonfinite is 'skip', expected None or 'stop'"):
        net_of_three().stream(nonfinite="skip")
    with pytest.raises(ValueError, match="expected None: the inputs of the net have theirs"):
        net_of_three().stream(frame=(6,))


# ---- several axes of time ------------------------------------------------------------------------------


def decoder(attention: str, loop: bool) -> Any:
    tr.manual_seed(3)
    given, memory = tr.Input(3, time="target", name="given"), tr.Input(8, time="source", name="memory")
    start = tr.Input(5, time=None, name="start")
    before = tr.Feedback(8, time="target")
    x = tr.concat([given, before if loop else tr.Linear(3, 8)(given)])
    h = tr.GRU(11, 5)(x, start)
    keys = tr.Tanh()(tr.Linear(8, 5)(memory)[:5])
    found = getattr(tr, attention)(5)(h, keys, memory)
    before.connect(found)
    return tr.Net([given, memory, start], [tr.concat([h, found]), keys])


@pytest.mark.parametrize("attention", ["DotProductAttention", "AdditiveAttention"])
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_decoder_streams_over_what_is_given(attention: str, loop: bool, batch: int) -> None:
    net, rng, steps, most = decoder(attention, loop), np.random.default_rng(1), 150, 9
    given = rng.standard_normal((steps, batch, 3)).astype(np.float32)
    memory = rng.standard_normal((most, batch, 8)).astype(np.float32)
    start = rng.standard_normal((batch, 5)).astype(np.float32)
    lengths = {"source": rng.integers(1, most + 1, batch)}
    one = [
        net(given[:, b : b + 1], memory[: lengths["source"][b], b : b + 1], start[b : b + 1])
        for b in range(batch)
    ]
    whole, keys = net(given, memory, start, lengths=lengths)  # more steps than a block has
    for b, (alone, _) in enumerate(one):
        np.testing.assert_array_equal(whole[:, b], alone[:, 0])
    stream = net.stream(batch, steps={"source": most})
    for t in range(40):
        found, again = stream.step(given[t], memory, start, lengths=lengths)
        assert np.array_equal(found, whole[t]) and np.array_equal(again, keys)
    chunks = [stream.run(given[a:b], memory, start, lengths=lengths)[0] for a, b in ((40, 43), (43, steps))]
    assert np.array_equal(np.concatenate(chunks), whole[40:])
    threads = net.stream(batch, steps={"source": most + 4, "target": 7}, threads=2)
    out = np.empty((steps, batch, 13), np.float32), None
    found, again = threads.run(given, memory, start, lengths=lengths, out=out)
    assert found is out[0] and np.array_equal(found, whole) and np.array_equal(again, keys)
    assert net.memory(batch, {"source": most}).scratch < net.memory(batch, {"source": 4000}).scratch


def test_steps_and_lengths_of_other_axes_are_checked() -> None:
    net, ones = decoder("DotProductAttention", True), np.ones
    x = ones((1, 3), np.float32), ones((6, 1, 8), np.float32), ones((1, 5), np.float32)
    for steps in (None, {"target": 3}, {"source": 3, "what": 3}):
        with pytest.raises(
            ValueError, match=r"steps: got .*expected the most steps .*beside 'target': \['source'\]"
        ):
            net.stream(steps=steps)
    with pytest.raises(ValueError, match="steps of 'source' is 0, expected 1"):
        net.stream(steps={"source": 0})
    stream = net.stream(steps=5)
    with pytest.raises(
        tr.ShapeError, match=r"6 steps of 'source', expected at most 5: stream\(steps={'source': 6}\)"
    ):
        stream.step(*x)
    stream = net.stream(steps=6)
    for wrong in ([3], {"target": [1]}, {"source": [1], "target": [1]}):
        with pytest.raises(
            ValueError, match=r"lengths: got .*beside the stream's own, 'target': \['source'\]"
        ):
            stream.step(*x, lengths=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lengths\[0\] is 7, expected 1 .. 6, steps of 'source'"):
        stream.step(*x, lengths={"source": [7]})
    with pytest.raises(ValueError, match="there are none"):
        net_of_three().stream(BATCH).step(*inputs_of_three(STEPS, BATCH), lengths={"source": [7]})
    assert not stream.state.numbers.any()


def test_a_net_with_batch_first_steps_over_what_is_given() -> None:
    given, memory = tr.Input(3, time="target"), tr.Input(4, time="source")
    h = tr.GRU(3, 4, batch_first=True)(given)
    net = tr.Net([given, memory], tr.DotProductAttention(4)(h, memory, memory))
    rng = np.random.default_rng(2)
    x, m = (
        rng.standard_normal((2, 7, 3)).astype(np.float32),
        rng.standard_normal((2, 5, 4)).astype(np.float32),
    )
    whole, stream = net(x, m), net.stream(2, steps=5)
    stepped = np.stack([stream.step(x[:, t], m) for t in range(7)], 1)
    assert np.array_equal(stepped, whole)
    stream.reset()
    assert np.array_equal(stream.run(x, m), whole)


# ---- arrays for outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_outputs_are_written_where_the_caller_says(batch_first: bool) -> None:
    net, (x, speaker, word) = net_of_three(batch_first), inputs_of_three(STEPS, BATCH)
    stream, other = net.stream(batch=BATCH), net.stream(batch=BATCH)
    out, who = np.empty((BATCH, 5), np.float32), np.empty((BATCH, 3), np.float32)
    found = stream.step(x[0], speaker, word[0], out={"out": out, "who": who})
    wanted = other.step(x[0], speaker, word[0])
    assert found["out"] is out and found["who"] is who
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    found = stream.step(x[1], speaker, word[1], out={"who": who})
    wanted = other.step(x[1], speaker, word[1])
    assert found["who"] is who and found["out"] is not out
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)

    def chunk(a: np.ndarray) -> np.ndarray:
        return a[2:].swapaxes(0, 1) if batch_first else a[2:]

    wanted = other.run(chunk(x), speaker, chunk(word))
    out = np.empty(wanted["out"].shape, np.float32)
    found = stream.run(chunk(x), speaker, chunk(word), out=(out, None))
    assert found["out"] is out
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert np.array_equal(stream.state.numbers, other.state.numbers)
    # one output, of several inputs
    a, b = tr.Input(2, name="a"), tr.Input(2, name="b")
    sums = tr.Net([a, b], a + b).stream()
    out = np.empty(2, np.float32)
    assert sums.step([1, 2], [3, 4], out=out) is out and list(out) == [4, 6]


def test_what_an_array_for_an_output_must_be() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    stream = net.stream(batch=BATCH)
    stream.run(x[:4], speaker, word[:4])
    before = stream.state.copy()
    good = np.empty((BATCH, 5), np.float32)
    both = np.empty(BATCH * 8, np.float32)
    for out, error, message in (
        (good, TypeError, "step: out: got ndarray, expected a tuple of 2, or a mapping"),
        ({"odd": good}, ValueError, r"step: out: got \['odd'\], expected some of \['out', 'who'\]"),
        ({"out": good.astype(float)}, TypeError, "step: out: 'out' is float64, expected a float32 ndarray"),
        ({"out": good.tolist()}, TypeError, "step: out: 'out' is list, expected a float32 ndarray"),
        ({"out": good[:2]}, tr.ShapeError, r"step: out: 'out' has shape \(2, 5\), expected \(3, 5\)"),
        ({"out": np.empty((5, BATCH), np.float32).T}, ValueError, "'out' is not C-contiguous, aligned and"),
        (
            {"out": both[:15].reshape(3, 5), "who": both[14:23].reshape(3, 3)},
            ValueError,
            "'who' shares memory with the out of 'out': pass another array",
        ),
        (
            {"out": stream.raw_state[:15].reshape(3, 5)},
            ValueError,
            "'out' shares memory with the state: pass another",
        ),
    ):
        with pytest.raises(error, match=message):
            stream.step(x[4], speaker, word[4], out=out)
    room = np.zeros(BATCH * 6, np.float32)
    with pytest.raises(ValueError, match="'out' shares memory with input '0': pass another array"):
        stream.step(room.reshape(3, 6), speaker, word[4], out={"out": room[:15].reshape(3, 5)})
    assert np.array_equal(stream.state.numbers, before.numbers)


# ---- new beginnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, [2, 0], slice(1, None), np.array([True, False, True]), -1])
@pytest.mark.parametrize("starts", [False, True])
def test_some_rows_begin_again(rows: object, starts: bool) -> None:
    """They go on as a new stream does, the others with their own bits."""
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    if starts:
        net.initial_state = {"rnn.h": numbers(1, 6, seed=4), "rnn.c": numbers(1, 6, seed=5)}
    stream, other, new = (net.stream(batch=BATCH, threads=threads) for threads in (2, 1, 1))
    for one in (stream, other):
        one.run(x[:4], speaker, word[:4])
    stream.reset(rows)
    chosen = np.zeros(BATCH, bool)
    chosen[rows] = True
    y, went_on, began = (one.run(x[4:], speaker, word[4:])["out"] for one in (stream, other, new))
    assert np.array_equal(y, np.where(chosen[:, None], began, went_on))
    stream.reset()
    assert np.array_equal(stream.run(x, speaker, word)["out"], net(x, speaker, word)["out"])


def test_rows_begin_with_a_state_that_is_given() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    stream, donor = net.stream(batch=BATCH), net.stream(batch=2)
    for one, count in ((stream, 3), (donor, 2)):
        one.run(x[:4, :count], speaker[:count], word[:4, :count])
    before = stream.state.copy()
    stream.reset([2, 0], donor.state)
    for name in stream.state:
        assert np.array_equal(stream.state[name][:, [2, 0]], donor.state[name])
        assert np.array_equal(stream.state[name][:, 1], before[name][:, 1])
    stream.reset(1, {"rnn.c": np.ones((1, 1, 6))})
    assert not stream.state["rnn.h"][:, 1].any() and (stream.state["rnn.c"][:, 1] == 1).all()
    before = stream.state.copy()
    for rows, state, error, message in (
        (3, None, IndexError, "reset: row 3 is out of range, expected 0 .. 2"),
        ([1, 1], None, ValueError, "expected each row once"),
        (None, {"h": 0}, KeyError, "got 'h', expected one of rnn.h, rnn.c"),
        (1, {"rnn.h": np.ones((1, 2, 6))}, tr.ShapeError, r"got shape \(1, 2, 6\), expected \(1, 1, 6\)"),
    ):
        with pytest.raises(error, match=message):
            stream.reset(rows, state)
    assert np.array_equal(stream.state.numbers, before.numbers)


def test_views() -> None:
    """Single steps have a layout of their own where values lie within values: the same bits."""
    x, leaky = tr.Input(6), tr.LeakyReLU(0.5)
    h = tr.concat([leaky(x[:2]), tr.GRU(3, 4)(x[3:]), x[1:5]])
    side = h[2:7]
    net = tr.Net(x, {"y": tr.concat([h, tr.Tanh()(side)]), "side": side, "h": h})
    given = numbers(STEPS, 1, 6, seed=5)
    for slope in (0.5, 0.25):
        leaky.negative_slope = slope
        whole = net(given)
        assert np.array_equal(whole["h"][:, 0, :2], np.where(given[:, 0, :2] > 0, 1, slope) * given[:, 0, :2])
        for chunk in (1, 4, STEPS):
            stream = net.stream()
            parts = [stream.run(given[t : t + chunk]) for t in range(0, STEPS, chunk)]
            for name, wanted in whole.items():
                assert np.array_equal(np.concatenate([part[name] for part in parts]), wanted)


def loop_of_parts(seed: int) -> tr.Net:
    """A random loop of slices and concatenations, in which few layers compute."""
    rng = np.random.default_rng(seed)
    tr.manual_seed(seed)
    x, before = tr.Input(5), tr.Feedback(4, steps=int(rng.integers(1, 3)))
    values = [tr.Linear(5, 6)(x), before, x]
    unread = values[:2]

    def pick() -> tr.Value:
        value = values[int(rng.integers(len(values)))]
        unread[:] = [other for other in unread if other is not value]
        return value

    for _ in range(int(rng.integers(5, 12))):
        value, kind = pick(), rng.integers(6)
        size = value.frame[0]
        if kind < 2 and size > 1:
            first = int(rng.integers(size))
            value = value[first : int(rng.integers(first, size)) + 1]
        elif kind < 4 and size < 12:
            value = tr.concat([value, pick()])
        elif kind == 4:
            value = tr.GRU(size, 3)(value)
        else:
            value = tr.Tanh()(value)
        values.append(value)
        unread.append(value)
    while len(unread) > 1:
        unread[:2] = [tr.concat(unread[:2])]
    end = tr.Tanh()(tr.Linear(unread[0].frame[0], 4)(unread[0]))
    before.connect(end)
    shown = [value for value in values[3:] if rng.random() < 0.2]
    return tr.Net(x, {f"y{i}": y for i, y in enumerate([end, *shown, tr.Tanh()(values[-1])])})


def test_views_in_loops() -> None:
    """One row has views in loops, two have none: the same bits, whole and in chunks."""
    for seed in range(60):
        net, given = loop_of_parts(seed), numbers(STEPS, 2, 5, seed=seed)
        both = net(given)
        for row in range(2):
            one = np.ascontiguousarray(given[:, row : row + 1])
            stream = net.stream()
            whole, parts = net(one), [stream.run(part) for part in (one[:2], one[2:])]
            for name, wanted in both.items():
                assert np.array_equal(whole[name], wanted[:, row : row + 1]), seed
                assert np.array_equal(np.concatenate([part[name] for part in parts]), whole[name]), seed


def test_one_thread_at_a_time() -> None:
    net, (x, speaker, word) = net_of_three(), inputs_of_three(STEPS, BATCH)
    stream = net.stream(batch=BATCH)
    state = stream.state
    stream.take("elsewhere")
    for use in (
        lambda: stream.step(x[0], speaker, word[0]),
        lambda: stream.reset(1),
        lambda: stream.copy(),
        lambda: state["rnn.h"],
        lambda: setattr(stream, "state", state),
    ):
        with pytest.raises(RuntimeError, match=r"the stream is in use by another thread: give each thread a"):
            use()
    stream.leave()
    assert np.array_equal(stream.copy().step(x[0], speaker, word[0])["out"], net(x, speaker, word)["out"][0])
