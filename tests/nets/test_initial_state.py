"""The state that a net begins with: `Stream.reset`, `initial_state`, a learned one, one at rest."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.tracing import watch
from tinyrnn.weights.safetensors import save_safetensors

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
        ("1", None, TypeError, "reset: rows: got str, expected an array of numbers"),
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


# ---- the state that a net begins with ---------------------------------------------------------------


def given_of(net: tr.Net) -> dict[str, np.ndarray]:
    return {name: numbers(array.shape[0], array.shape[2]) for name, array in net.stream().state.items()}


def in_rows(start: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    return {name: np.repeat(array[:, np.newaxis], batch, 1) for name, array in start.items()}


def both_ways() -> tr.Net:
    return tr.Sequential({"a": tr.LSTM(3, 4, bidirectional=True, proj_size=2), "b": tr.GRU(4, 4)})


@pytest.mark.parametrize("build", [chain, feedback, both_ways])
def test_calls_begin_with_it(build: Any) -> None:
    net, plain = build(), build()
    plain.load_state_dict(net.state_dict())
    x = numbers(7, 4, 3)
    plain(x)
    start = {name: numbers(array.shape[0], array.shape[2]) for name, array in plain.last_state.items()}
    assert net.initial_state is None
    net.initial_state = start
    assert net.initial_state.keys() == start.keys()
    for lengths in (None, [7, 1, 3, 5]):
        wanted = plain(x, lengths=lengths, state=in_rows(start, 4))
        assert np.array_equal(net(x, lengths=lengths, threads=2), wanted)
        assert np.array_equal(net.train()(x, lengths=lengths), wanted)
        net.eval()
    assert np.array_equal(net(x, last=True), wanted_last(plain, x, in_rows(start, 4)))
    assert not np.array_equal(net(x), plain(x))
    name = next(iter(start))  # a call's own state goes first
    other = numbers(start[name].shape[0], 4, start[name].shape[1])
    assert np.array_equal(net(x, state={name: other}), plain(x, state=in_rows(start, 4) | {name: other}))
    net.initial_state = None
    assert net.initial_state is None and np.array_equal(net(x), plain(x))


def wanted_last(net: tr.Net, x: np.ndarray, state: Any) -> np.ndarray:
    return net(x, state=state, last=True)


@pytest.mark.parametrize("build", [chain, feedback])
def test_streams_begin_with_it(build: Any) -> None:
    net = build()
    net.initial_state = given_of(net)
    x = numbers(6, 3, 3)
    whole = net(x)
    stream = net.stream(3, threads=2)
    assert np.array_equal(stream.run(x), whole)
    stream.reset(1)
    assert np.array_equal(stream.step(x[0])[1], whole[0, 1])
    stream.reset()
    assert np.array_equal(stream.run(x), whole)
    assert np.array_equal(stream.fresh().run(x), whole)
    assert np.array_equal(stream.copy().step(x[0]), stream.step(x[0]))
    name, start = next(iter(net.initial_state.items()))
    net.initial_state = {name: 2 * start}  # the next reset takes it
    stream.reset([2])
    assert np.array_equal(stream.state[name][:, 2], 2 * start)


def test_a_row_that_is_not_finite_begins_with_it_again() -> None:
    net = chain()
    net.initial_state = given_of(net)
    stream = net.stream(2, nonfinite="reset")
    x = numbers(2, 3)
    stream.step(x)
    x[1, 1] = np.nan
    assert np.isnan(stream.step(x)[1]).all()
    x[1, 1] = 0.5
    for name, start in net.initial_state.items():
        assert np.array_equal(stream.state[name][:, 1], start)
    stream.reset(0)
    x[:] = wanted_x = numbers(2, 3)
    assert np.array_equal(stream.step(x), net.stream(2).step(wanted_x))


@pytest.mark.parametrize("cell", [tr.LSTMCell, tr.GRUCell, tr.RNNCell])
def test_cells_begin_with_it(cell: Any) -> None:
    net = cell(3, 4)
    x = numbers(2, 3)
    names = ("h", "c") if cell is tr.LSTMCell else ("h",)
    start = {name: numbers(1, 4) for name in names}
    hx = tuple(np.repeat(array, 2, 0) for array in start.values())
    wanted = net(x, hx if len(hx) > 1 else hx[0])
    net.initial_state = start
    for got in (net(x), net.train()(x)):
        assert np.array_equal(np.array(got), np.array(wanted))


@pytest.mark.parametrize("build", [chain, feedback, both_ways])
@pytest.mark.parametrize("learned", [False, True])
def test_files_copies_and_pickles_have_it(build: Any, learned: bool, tmp_path: Path) -> None:
    net = build()
    x = numbers(5, 2, 3)
    net(x)
    start = {name: numbers(a.shape[0], a.shape[2]) for name, a in net.last_state.items()}
    if learned:
        net.learn_initial_state()
    net.initial_state = start
    net.save(tmp_path / "net.safetensors")
    others = [tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for other in others:
        assert {n: a.tolist() for n, a in other.initial_state.items()} == {
            n: a.tolist() for n, a in start.items()
        }
        assert np.array_equal(other(x), net(x)) and repr(other) == repr(net)
        assert other.grad_dict().keys() == net.grad_dict().keys()
        assert other.num_parameters == net.num_parameters
    tensors = {f"{name}0" for name in start}
    assert (
        tensors <= net.state_dict().keys() and tensors <= tr.load_weights(tmp_path / "net.safetensors").keys()
    )
    assert len(tensors & net.grad_dict().keys()) == (len(tensors) if learned else 0)
    assert ("[learned h0" in repr(net)) == learned
    again = build()
    again.initial_state = {name: np.zeros_like(array) for name, array in start.items()}
    again.load_state_dict(net.state_dict())
    assert np.array_equal(again(x), net(x))


def test_a_net_without_one_writes_the_bytes_of_before(tmp_path: Path) -> None:
    net = chain()
    net.save(tmp_path / "a.safetensors")
    net.initial_state = given_of(net)
    net.save(tmp_path / "b.safetensors")
    net.initial_state = None
    net.save(tmp_path / "c.safetensors")
    before, one, after = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert before == after and b'\\"version\\": 1' in before and b"initial_state" not in before
    assert b'\\"version\\": 4' in one


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"names": ["h", "x"], "learned": False}, "expected some of"),
        ({"names": [], "learned": False}, "expected some of"),
        ({"names": "h", "learned": False}, "expected some of"),
        ({"names": [["h"]], "learned": False}, "expected some of"),
        ({"names": ["h"], "learned": 1}, "learned is 1"),
        ({"names": ["h"]}, "learned"),
        ({"names": ["h"], "learned": True}, "Missing key"),
        ([], "cannot be built"),
        (None, "cannot be built"),
    ],
)
def test_a_file_with_a_bad_one_is_refused(start: Any, message: str, tmp_path: Path) -> None:
    net = tr.LSTM(3, 4)
    description = {"type": "LSTM", "arguments": net.config(), "initial_state": start}
    path = tmp_path / "net.safetensors"
    text = json.dumps({"version": 4, "net": description})
    save_safetensors(path, net.state_dict(), {"tinyrnn": text})
    with pytest.raises(tr.LoadError, match=message):
        tr.load(path)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"h": np.zeros((1, 4))}, KeyError, r"got 'h', expected one of a\.h, a\.c, b\.h"),
        (
            {"a.h": np.zeros((2, 5)), "b.h": np.zeros((1, 5))},
            ValueError,
            r"b\.h: got shape \(1, 5\), expected \(1, 4\)",
        ),
        ({"a.h": np.zeros((2, 3, 5))}, ValueError, "without an axis for the batch"),
        ({"a.h": np.full((2, 5), np.inf)}, ValueError, "not finite"),
        (np.zeros(3), TypeError, "expected a mapping from name to array, or None"),
    ],
)
def test_one_that_does_not_fit_changes_nothing(given: Any, error: Any, message: str) -> None:
    net = chain()
    net.initial_state = start = given_of(net)
    with pytest.raises(error, match=message):
        net.initial_state = given
    for name, array in net.initial_state.items():
        assert np.array_equal(array, start[name])


def test_the_final_state_of_one_row_will_do() -> None:
    net = chain()
    net(numbers(4, 3))
    net.initial_state = net.last_state
    for name, array in net.initial_state.items():
        assert np.array_equal(array, net.last_state[name][:, 0])


def test_names_that_are_left_out_are_zeros() -> None:
    net = chain().learn_initial_state()
    net.initial_state = {"a.c": np.ones((2, 5))}
    assert net.initial_state.keys() == {"a.h", "a.c", "b.h"} and not net.initial_state["b.h"].any()
    net["a"].h0 = np.full((2, 5), 3)
    assert (net.initial_state["a.h"] == 3).all()
    net = chain()
    net.initial_state = {"a.c": np.ones((2, 5))}
    assert net.initial_state.keys() == {"a.c"} and net["b"].initial_state is None


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_from_pytorchs_tensors(kind: str) -> None:
    """Many modules keep a learned h0 of shape (levels, 1, size) beside the layer's weights."""
    net = getattr(tr, kind)(3, 4, 2)
    tensors = net.state_dict()
    start = {name: numbers(2, 1, 4) for name in net.stream().state}
    tensors |= {f"{name}0": array for name, array in start.items()}
    other = getattr(tr, kind).from_state_dict(
        {f"rnn.{name}": array for name, array in tensors.items()}, "rnn"
    )
    assert {name: array.shape for name, array in other.initial_state.items()} == dict.fromkeys(start, (2, 4))
    state = {name: np.repeat(array, 5, 1) for name, array in start.items()}
    x = numbers(6, 5, 3)
    assert np.array_equal(other(x)[0], net(x, state=state)[0])


def test_drift_and_quantize_begin_with_it() -> None:
    net = tr.Sequential({"a": tr.LSTM(3, 16, num_layers=2, bidirectional=True), "b": tr.GRU(32, 16)})
    x = numbers(9, 2, 3)
    net(x)
    net.initial_state = {name: numbers(a.shape[0], a.shape[2]) for name, a in net.last_state.items()}
    (seen,) = watch(net, x)
    assert np.array_equal(seen[-1].y, net(x))
    assert np.array_equal(seen[-1].before[0][0], np.repeat(net.initial_state["b.h"], 2, 0))
    small = tr.quantize(net, "int8")
    assert np.array_equal(small.initial_state["a.c"], net.initial_state["a.c"])
    assert np.abs(small(x) - net(x)).max() < 0.05


def test_gradients_through_time_begin_with_it() -> None:
    """Beginning with the state after some steps is as going on from there."""
    net = tr.Sequential({"a": tr.LSTM(3, 4, num_layers=2), "b": tr.GRU(4, 4)})
    x, dy = numbers(8, 1, 3), numbers(8, 1, 4)
    whole = tr.inspect.hidden_gradients(net, x, dy=dy)
    from_zeros = tr.inspect.hidden_gradients(net, x[3:], dy=dy[3:])
    net(x[:3])
    net.initial_state = net.last_state
    found = tr.inspect.hidden_gradients(net, x[3:], dy=dy[3:])
    for name, gradient in found.items():
        assert np.array_equal(gradient, whole[name][3:]) and not np.array_equal(gradient, from_zeros[name])


# ---- a learned one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, [6, 2, 4]])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_pytorchs(frozen: bool, lengths: Any) -> None:
    torch = pytest.importorskip("torch")
    net = tr.LSTM(3, 4, num_layers=2, bidirectional=True).learn_initial_state()
    net.initial_state = {"h": numbers(4, 4), "c": numbers(4, 4)}
    if frozen:
        net.freeze()
        net.unfreeze("h0", "c0")
    theirs = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True).double()
    own = {name: torch.tensor(array) for name, array in net.state_dict().items() if name not in ("h0", "c0")}
    theirs.load_state_dict(own)
    h0, c0 = (
        torch.tensor(net.state_dict()[n], dtype=torch.float64, requires_grad=True) for n in ("h0", "c0")
    )
    x, dy = numbers(6, 3, 3), numbers(6, 3, 8)
    given = torch.tensor(x, dtype=torch.float64)
    if lengths:
        given = torch.nn.utils.rnn.pack_padded_sequence(given, lengths, enforce_sorted=False)
    y, _ = theirs(given, tuple(s[:, None].expand(4, 3, 4).contiguous() for s in (h0, c0)))
    if lengths:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    for _ in range(2):  # gradients add up
        y.backward(torch.tensor(dy, dtype=torch.float64), retain_graph=True)
    net.train()
    for _ in range(2):
        output, _ = net(x, lengths=lengths)
        net.backward(dy)
    assert np.abs(output - y.detach().numpy()).max() < 1e-6
    found = net.grad_dict()
    assert (found.keys() == {"h0", "c0"}) == frozen
    wanted = {"h0": h0.grad, "c0": c0.grad}
    wanted |= {} if frozen else {name: tensor.grad for name, tensor in theirs.named_parameters()}
    for name, gradient in wanted.items():
        right = gradient.numpy()
        assert np.abs(found[name] - right).max() <= 2e-5 * np.abs(right).max(), name


@pytest.mark.parametrize("build", [chain, feedback])
def test_gradients_are_differences(build: Any) -> None:
    net = build().learn_initial_state()
    net.initial_state = given_of(net)
    x = numbers(5, 3, 3)
    dy = numbers(*net(x).shape)
    net.train()
    net(x)
    net.backward(dy)
    found, step = net.grad_dict(), 1e-2
    net.eval()
    for name, start in net.initial_state.items():
        direction = numbers(*start.shape)
        values = []
        for sign in (1, -1):
            net.initial_state = net.initial_state | {name: start + sign * step * direction}
            values.append(float((net(x).astype(np.float64) * dy).sum()))
        net.initial_state = net.initial_state | {name: start}
        slope = (values[0] - values[1]) / (2 * step)
        assert abs(slope - float((found[f"{name}0"] * direction).sum())) < 2e-3, name


def test_a_state_that_is_given_does_not_train_it() -> None:
    net = tr.LSTM(3, 4).learn_initial_state().train()
    x = numbers(4, 2, 3)
    net(x, state={"h": np.zeros((1, 2, 4))})
    net.backward(numbers(4, 2, 4))
    assert not net.grad_dict()["h0"].any() and net.grad_dict()["c0"].any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("build", [chain, feedback])
@pytest.mark.parametrize("only", [False, True])
def test_a_trainer_trains_it(build: Any, threads: int, only: bool) -> None:
    """The trainer's steps have the bits of a call, its backward pass and a step of the optimiser."""
    tr.manual_seed(3)
    net = build().learn_initial_state()
    net.initial_state = given_of(net)
    if only:
        net.freeze()
        net.unfreeze(*(f"{name}0" for name in net.initial_state))
    other = copy.deepcopy(net)
    x = numbers(5, 3, 3)
    y = numbers(*net(x).shape)
    loss = tr.MSELoss()
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), loss, 3, 5, threads=threads)
    adam = tr.optim.Adam(other, lr=0.01)
    other.train()
    values = []
    for _ in range(4):
        values.append(trainer.step(x, y))
        other.zero_grad()
        value, gradient = loss(other(x), y)
        other.backward(gradient)
        adam.step()
        assert value == values[-1]
    assert values[-1] < values[0]
    for name, array in other.state_dict().items():
        assert np.array_equal(net.state_dict()[name], array), name
    assert all(
        not np.array_equal(a, s)
        for a, s in zip(net.initial_state.values(), given_of(net).values(), strict=True)
    )


def test_a_trainer_begins_with_one_that_is_given() -> None:
    net, plain = tr.Sequential(tr.LSTM(3, 4)), tr.Sequential(tr.LSTM(3, 4))
    plain.load_state_dict(net.state_dict())
    x, y = numbers(5, 2, 3), numbers(5, 2, 4)
    optimisers = [tr.optim.SGD(one, lr=0.1) for one in (net, plain)]
    trainers = [
        one.trainer(adam, tr.MSELoss(), 2, 5) for one, adam in zip((net, plain), optimisers, strict=True)
    ]
    start = given_of(net)
    net.initial_state = start  # the trainer that is there takes it
    state = trainers[1].new_state()
    for name, array in in_rows(start, 2).items():
        state[name] = array
    assert trainers[0].step(x, y) == trainers[1].step(x, y, state=state)
    for name, array in plain.state_dict().items():
        assert np.array_equal(net.state_dict()[name], array)
    assert np.array_equal(net.initial_state["0.h"], start["0.h"])


@pytest.mark.parametrize("bptt", [None, 2])
def test_fit_trains_it(bptt: int | None) -> None:
    """A target that the input does not tell: with all else frozen the initial state alone can come near."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.RNN(1, 4), tr.Linear(4, 1)).learn_initial_state()
    net.freeze()
    net.unfreeze("0.h0")
    x, y = np.zeros((8, 4, 1), np.float32), np.zeros((8, 4, 1), np.float32)
    y[:, 0] = 1
    before, weights = net.evaluate(x, y, loss="mse")["loss"], net.state_dict()
    net.fit(x, y, 60, 8, loss="mse", optimizer=tr.optim.Adam(net, lr=0.1), verbose=0, bptt=bptt)
    assert net.evaluate(x, y, loss="mse")["loss"] < 0.6 * before
    changed = {name for name, array in net.state_dict().items() if not np.array_equal(array, weights[name])}
    assert changed == {"0.h0"}


# ---- at rest ----------------------------------------------------------------------------------------


def test_the_state_at_rest_stays() -> None:
    net = chain()
    net.initial_state = given_of(net)
    rest = net.state_at_rest()
    net.initial_state = rest
    stream = net.stream(2)
    stream.run(np.zeros((50, 2, 3), np.float32))
    for name, array in rest.items():
        assert array.any() and np.abs(stream.state[name] - array[:, np.newaxis]).max() < 1e-5
    hot = net.state_at_rest([1, -1, 0.5])
    assert max(np.abs(hot[name] - rest[name]).max() for name in rest) > 0.01


def test_a_slow_state_is_waited_for() -> None:
    """A leaky unit that forgets 1 % a step: after few steps each change is small, and the way far."""
    net = tr.RNN(1, 1, nonlinearity="relu")
    net.load_state_dict(
        {"weight_ih_l0": [[1]], "weight_hh_l0": [[0.99]], "bias_ih_l0": [1e-3], "bias_hh_l0": [0]}
    )
    assert abs(net.state_at_rest(tol=1e-4)["h"].item() - 0.1) < 2e-4
    with pytest.raises(ValueError, match="does not settle in 20 steps: it changed by 0.0008"):
        net.state_at_rest(steps=20)


@pytest.mark.parametrize(("weight", "message"), [(-1.5, "does not settle in 300 steps"), (3.0, "not finite")])
def test_a_state_that_does_not_settle(weight: float, message: str) -> None:
    """One that swings between two numbers, and one that grows."""
    net = tr.RNN(1, 1, nonlinearity="tanh" if weight < 0 else "relu")
    net.load_state_dict(
        {"weight_ih_l0": [[1]], "weight_hh_l0": [[weight]], "bias_ih_l0": [0.1], "bias_hh_l0": [0]}
    )
    with pytest.raises(ValueError, match=message):
        net.state_at_rest(steps=300)


def test_nets_that_have_no_rest() -> None:
    with pytest.raises(ValueError, match="no state to settle"):
        tr.Linear(3, 2).state_at_rest()
    with pytest.raises(ValueError, match="bidirectional"):
        both_ways().state_at_rest()
    with pytest.raises(TypeError, match="reads indices"):
        tr.Sequential(tr.Embedding(5, 3), tr.GRU(3, 2)).state_at_rest()
    assert tr.Sequential(tr.Embedding(5, 3), tr.GRU(3, 2)).state_at_rest(2)["1.h"].shape == (1, 2)
    with pytest.raises(ValueError, match="no state to learn"):
        tr.Linear(3, 2).learn_initial_state()


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_are_no_part_of_a_state_at_rest(stride: int) -> None:
    net = tr.Sequential(
        tr.TimeConv1d(2, 3, 3, stride=stride, padding=0 if stride > 1 else "causal"),
        tr.GRU(3, 4),
        tr.LastStep(),
    )
    rest = net.state_at_rest()
    assert list(rest) == ["1.h"] and rest["1.h"].all()
    net.initial_state = rest
    found = tr.Sequential(net[0], net[1])(np.zeros((30, 1, 2), np.float32))
    assert np.ptp(found[1:], axis=0).max() < 1e-5


def test_rest_of_several_inputs() -> None:
    x, gain, before = tr.Input(3, name="x"), tr.Input(2, time=None, name="gain"), tr.Feedback(4)
    h = tr.GRU(7, 4)(tr.concat([x, before])).named("rnn")
    before.connect(0.5 * tr.Tanh()(h))
    net = tr.Net([x, gain], {"h": h, "gain": tr.Linear(2, 2)(gain)})
    rest = net.state_at_rest()
    assert {name: array.shape for name, array in rest.items()} == {"rnn.h": (1, 4), "delay.past": (1, 4)}
    net.initial_state = rest
    found = net(np.zeros((9, 1, 3), np.float32), np.zeros((1, 2), np.float32))["h"]
    assert np.ptp(found, axis=0).max() < 1e-5 and found.any()
    for given in ({"x": np.ones(3), "gain": np.ones(2)}, (np.ones(3), np.ones(2))):
        assert np.abs(net.state_at_rest(given)["rnn.h"] - rest["rnn.h"]).max() > 1e-3
    with pytest.raises(tr.ShapeError, match="input 'gain' has shape"):
        net.state_at_rest((np.ones(3), np.ones(3)))
