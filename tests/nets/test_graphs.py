"""Nets as graphs: what they compute, their gradients, and what cannot be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from graph_nets import fed_back, residual

import tinyrnn as tr

STEPS, BATCH = 9, 3
Weights = dict[str, Any]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(x: Any, weights: Weights, name: str) -> Any:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def lstm(x: Any, state: Any, weights: Weights) -> Any:
    """The layer ``rnn`` in PyTorch, with these weights."""
    import torch

    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    module = torch.nn.LSTM(x.shape[-1], weights["rnn.weight_hh_l0"].shape[1]).double()
    return torch.func.functional_call(module, {name: weights[f"rnn.{name}"] for name in names}, (x, state))


def residual_in_torch(x: Any, weights: Weights) -> Any:
    import torch

    h, s = lstm(x, None, weights)[0], linear(x, weights, "skip")
    return linear(h * s + h - torch.maximum(h, s), weights, "head")


def fed_back_in_torch(x: Any, weights: Weights) -> Any:
    import torch

    rows = x.shape[1]
    state = (torch.zeros(1, rows, 6).double(),) * 2
    past = [torch.zeros(rows, 4).double()] * 2
    outputs = []
    for frame in x:
        h, state = lstm(torch.cat([frame, past[0]], -1)[None], state, weights)
        past = [past[1], linear(h[0], weights, "back")]
        outputs.append(linear(h[0], weights, "head"))
    return torch.stack(outputs)


NETS: dict[str, tuple[Callable[[], tr.Net], Callable[..., Any]]] = {
    "residual": (residual, residual_in_torch),
    "fed back": (fed_back, fed_back_in_torch),
}


@pytest.fixture(params=NETS)
def both(request: pytest.FixtureRequest) -> tuple[tr.Net, Callable[..., Any]]:
    make, model = NETS[request.param]
    tr.manual_seed(3)
    return make(), model


def test_values_and_gradients_are_torchs(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    torch = pytest.importorskip("torch")
    net, model = both
    x, dy = numbers(STEPS, BATCH, 8), numbers(STEPS, BATCH, 5, seed=1)
    weights = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = model(theirs, weights)
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    net.train()
    assert np.abs(net(x) - wanted.detach().numpy()).max() < 2e-6
    dx = net.backward(dy)
    pairs = {"x": (dx, theirs.grad)}
    pairs |= {name: (gradient, weights[name].grad) for name, gradient in net.grad_dict().items()}
    for name, (ours, right) in pairs.items():
        assert np.abs(ours - right.numpy()).max() < 2e-5 * np.abs(right.numpy()).max(), name


@pytest.mark.parametrize("isa", tr.available_isas())
def test_bits_do_not_depend_on_the_way(both: tuple[tr.Net, Callable[..., Any]], isa: str) -> None:
    """Whole, step by step, in chunks, each row alone, with threads: the same bits."""
    net, _ = both
    tr.set_isa(isa)
    x = numbers(STEPS, BATCH, 8)
    whole = net(x)
    stream = net.stream(batch=BATCH)
    assert np.array_equal(np.stack([stream.step(frame) for frame in x]), whole)
    stream.reset()
    assert np.array_equal(np.concatenate([stream.run(x[:4]), stream.run(x[4:])]), whole)
    for row in range(BATCH):
        assert np.array_equal(net(x[:, row]), whole[:, row])
    for threads in (2, 3):
        assert np.array_equal(net(x, threads=threads), whole)
    lengths = [STEPS, 4, 1]
    cut = net(x, lengths=lengths)
    for row, end in enumerate(lengths):
        assert np.array_equal(net(x[:end, row]), cut[:end, row])


def test_gradients_do_not_depend_on_threads(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, _ = both
    net.train()
    x, dy = numbers(STEPS, BATCH, 8), numbers(STEPS, BATCH, 5, seed=1)
    found = []
    for threads in (1, 2, 3):
        net.zero_grad()
        net(x, threads=threads, lengths=[STEPS, 5, 2])
        found.append({"x": net.backward(dy), **net.grad_dict()})
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in found[0])


def test_threads_at_different_layers_leave_each_others_terms_alone() -> None:
    """Terms of gradients with frames of several sizes: a race shows in some of many passes."""
    net = residual().train()
    x, dy = numbers(STEPS, BATCH, 8), numbers(STEPS, BATCH, 5, seed=1)
    net(x)
    alone = net.backward(dy)
    for _ in range(200):
        net(x, threads=3)
        assert np.array_equal(net.backward(dy), alone)


def test_files_copies_and_pickles(both: tuple[tr.Net, Callable[..., Any]], tmp_path: Path) -> None:
    net, _ = both
    x = numbers(STEPS, BATCH, 8)
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(other) == repr(net)
        assert np.array_equal(other(x), net(x))


def test_state_is_carried(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, _ = both
    x = numbers(STEPS, BATCH, 8)
    whole = net(x)
    first = net(x[:4])
    second = net(x[4:], state=net.last_state)
    assert np.array_equal(np.concatenate([first, second]), whole)


def test_a_trainer_trains(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, _ = both
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.MSELoss(), batch=BATCH, steps=STEPS)
    x, y = numbers(STEPS, BATCH, 8), numbers(STEPS, BATCH, 5, seed=1)
    losses = [trainer.step(x, y) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_quantised_nets_are_near(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, _ = both
    x = numbers(STEPS, BATCH, 8)
    small = tr.quantize(net, "int8")
    assert set(small.formats.values()) == {"int8"}
    error = np.abs(small(x) - net(x)).max()
    assert 0 < error < 0.05 * np.abs(net(x)).max()


def test_an_input_of_steps_of_its_own() -> None:
    """A decoder of 6 steps: calls, files and training may leave out the input that counts them."""
    x, steps = tr.Input(3, name="x"), tr.Input(1, time="ahead", name="ahead", steps=6)
    h = tr.LastStep()(tr.GRU(3, 5)(x))
    net = tr.Net([x, steps], tr.Linear(5, 2)(tr.GRU(5, 5)(tr.Repeat()(h, steps))))
    given, zeros = numbers(9, 4, 3), np.zeros((6, 4, 1), np.float32)
    expected = net(given, zeros)
    assert expected.shape == (6, 4, 2)
    again = pickle.loads(pickle.dumps(net))
    predicted = net.predict(given.swapaxes(0, 1)).swapaxes(0, 1)
    for got in (net(given), net({"x": given}), again(given), predicted):
        assert np.array_equal(got, expected)
    assert np.array_equal(net(given[:, 0]), expected[:, 0])
    first = net.evaluate(given.swapaxes(0, 1), expected.swapaxes(0, 1) + 1, loss="mse")["loss"]
    net.fit(given.swapaxes(0, 1), expected.swapaxes(0, 1) + 1, epochs=20, loss="mse", verbose=0)
    assert net.evaluate(given.swapaxes(0, 1), expected.swapaxes(0, 1) + 1, loss="mse")["loss"] < first
    with pytest.raises(ValueError, match=r"steps is 6 without an axis of time, expected time= a name"):
        tr.Input(1, time=None, steps=6)
    with pytest.raises(ValueError, match=r"\['ahead', 'x'\], expected those with steps of their own"):
        tr.Net([steps, x], tr.Repeat()(h, steps))


def test_several_inputs_and_outputs() -> None:
    tr.manual_seed(4)
    x, speaker = tr.Input(3), tr.Input(4, time=None, name="speaker")
    h = tr.GRU(3, 4)(x) * speaker
    net = tr.Net([x, speaker], {"h": h, "score": tr.Linear(4, 2)(h)})
    a, b = numbers(STEPS, BATCH, 3), numbers(BATCH, 4, seed=1)
    found = net(a, b)
    assert list(found) == ["h", "score"]
    assert np.array_equal(found["h"], net["gru"](a)[0] * b)
    assert np.array_equal(found["score"], net["linear"](found["h"]))
    named = net({"0": a, "speaker": b}, threads=2)
    alone = net(a[:, 1], b[1])
    for name, array in found.items():
        assert np.array_equal(named[name], array)
        assert np.array_equal(alone[name], array[:, 1])


def test_a_layer_used_twice_has_one_set_of_weights() -> None:
    x = tr.Input(4)
    shared = tr.Linear(4, 4)
    net = tr.Net(x, shared(tr.Tanh()(shared(x))))
    assert net.num_parameters == 2 * 20
    shared.weight = np.eye(4)
    shared.bias = np.zeros(4)
    a = numbers(STEPS, BATCH, 4)
    assert np.abs(net(a) - np.tanh(a)).max() < 1e-6


def test_nets_are_layers() -> None:
    tr.manual_seed(5)
    x = tr.Input(4)
    block = tr.Net(x, x + tr.Linear(4, 4)(x))
    chain = tr.Sequential(block, tr.GRU(4, 2))
    z = tr.Input(4)
    nested = tr.Net(z, tr.Linear(2, 1)(chain(z)))
    a = numbers(STEPS, BATCH, 4)
    hidden = chain[1](a + block["linear"](a))[0]
    assert np.array_equal(chain(a), hidden)
    assert np.array_equal(nested(a), nested["linear"](hidden))
    assert "sequential.0.linear.weight" in nested.state_dict()


def test_what_cannot_be() -> None:
    x = tr.Input(4)
    with pytest.raises(tr.ShapeError, match=r"Linear: got frames of shape \(4,\)"):
        tr.Linear(5, 2)(x)
    with pytest.raises(tr.ShapeError, match=r"Add: got frames of shapes \(4,\) and \(3,\)"):
        x + tr.Input(3)
    with pytest.raises(ValueError, match="input 'b' is not used"):
        tr.Net({"a": x, "b": tr.Input(2)}, tr.Tanh()(x))
    with pytest.raises(ValueError, match="depend on .*, which is not among the inputs"):
        tr.Net(x, tr.Tanh()(x) + tr.Input(4))
    with pytest.raises(ValueError, match="repeats nothing yet, expected a value: call its connect"):
        tr.Net(x, x + tr.Feedback(4))
    with pytest.raises(ValueError, match="the name 'a' twice"):
        tr.Net(x, tr.Tanh()(tr.Tanh()(x).named("a")).named("a"))
    with pytest.raises(
        ValueError, match=r"not on its axis of time: got .*, expected a value per step, as tr.Repeat"
    ):
        tr.LSTM(4, 2)(tr.Input(4, time=None))
    with pytest.raises(TypeError, match="beside a value of a net"):
        tr.Add()(x, 3)
    before = tr.Feedback(4)
    with pytest.raises(tr.ShapeError, match="connect: got frames of shape"):
        before.connect(tr.Linear(4, 3)(x))
    with pytest.raises(ValueError, match=r"got <Value of Feedback: \(4,\), .*, which repeats nothing yet"):
        tr.Net(x, x + before)
    with pytest.raises(ValueError, match="got inputs as outputs and no layer"):
        tr.Net(x, x)
    with pytest.raises(TypeError, match="Matmul: got ndarray beside a value, expected a value of the net"):
        x @ np.ones((4, 2))
    with pytest.raises(ValueError, match=r"slice: got \[5:9\] of 4 numbers, expected a step of 1 and"):
        x[5:9]
    h = tr.Linear(4, 4)(tr.GRU(4, 2, bidirectional=True)(x + before).named("both"))
    before.connect(h)
    with pytest.raises(
        ValueError, match=r"within a loop: delay, add, both, linear .* 'both' is bidirectional"
    ):
        tr.Net(x, h)


def test_many_loops_within_each_other_take_no_long_time() -> None:
    """Seconds of the processor; with the square of their number it would be 8 and 18."""
    for fits in (True, False):
        before = [tr.Feedback(3) for _ in range(1600)]
        x = value = tr.Input(3)
        for one in before:
            value = value + one
        value = value if fits else tr.LSTM(3, 3, bidirectional=True)(value)[..., :3]
        for one in before:
            value = value * 1.5
            one.connect(value)
        begun = process_time()
        if fits:
            tr.Net(x, value)
        else:
            with pytest.raises(ValueError, match=r"delay_19, \.\.\. run step by step, and 'lstm' is"):
                tr.Net(x, value)
        assert process_time() - begun < 4


def test_arithmetic_with_numbers() -> None:
    x = tr.Input(4)
    net = tr.Net(x, [2 * x + 1, 1 - x / 4, -abs(x) - 3, 0.5 / (x**2 + 1), x[1:3], x[..., :1] * x])
    a = numbers(STEPS, BATCH, 4)
    wanted = [2 * a + 1, 1 - a / 4, -abs(a) - 3, 0.5 / (a**2 + 1), a[..., 1:3], a[..., :1] * a]
    for found, right in zip(net(a), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match="Add: got 'a' beside a value"):
        x + "a"
    with pytest.raises(ZeroDivisionError, match="Divide: got 0"):
        x / 0


def test_layers_by_name_and_by_number() -> None:
    x = tr.Input(4)
    net = tr.Net(x, tr.Tanh()(tr.GRU(4, 3)(x).named("rnn")))
    assert net["rnn"] is net[0] and list(net) == [net[0], net["tanh"]] and len(net) == 2
    with pytest.raises(KeyError, match="Graph: got layer .*rmm.*, expected one of .*rnn.*, .*tanh"):
        net["rmm"]
    with pytest.raises(IndexError, match=r"Graph: got layer 2, expected -2 \.\. 1"):
        net[2]


def test_batch_first_where_no_layer_says_it(tmp_path) -> None:
    x = tr.Input(3)
    before = tr.Feedback(3)
    y = x + before
    before.connect(y)
    net = tr.Net(x, y, batch_first=True)
    given = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    wanted = np.cumsum(given, 1)
    net.save(tmp_path / "net.safetensors")
    for one in (net, tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        got = one(given)
        assert np.array_equal(got[0] if isinstance(got, tuple) else got, wanted)
    with pytest.raises(TypeError, match="Net: batch_first"):
        tr.Net(x, y, batch_first=1)
    z = tr.Input(3)
    with pytest.raises(ValueError, match="batch_first is True, but False in its recurrent layers"):
        tr.Net(z, tr.LSTM(3, 2)(z), batch_first=True)


# ---- nets of several outputs as layers -----------------------------------------------------------------


def encoder_of_three() -> Any:
    x = tr.Input(3)
    h = tr.GRU(3, 4)(x).named("rnn")
    return tr.Net(x, {"steps": h, "end": tr.FinalState()(h), "mean": tr.MeanOverTime()(tr.Tanh()(h))})


def test_a_net_of_several_outputs_is_a_layer(tmp_path: Path) -> None:
    tr.manual_seed(1)
    encoder, u = encoder_of_three(), tr.Input(5)
    one, two = encoder(tr.Linear(5, 3)(u)), encoder(tr.Linear(5, 3)(u))
    one["mean"].named("encoder")
    together = tr.concat([one["end"], one["mean"], two["end"]])
    net = tr.Net(u, [tr.Linear(12, 2)(together), one["steps"]])
    names = [name for name in net.state_dict() if "rnn" in name]
    assert names[::4] == ["encoder.rnn.weight_ih_l0", "graph.rnn.weight_ih_l0"]
    x = np.random.default_rng(0).standard_normal((6, 2, 5)).astype(np.float32)
    first, second = encoder(net["linear"](x)), encoder(net["linear_1"](x))
    wanted = net["linear_2"](np.concatenate([first["end"], first["mean"], second["end"]], -1))
    net.save(tmp_path / "net.safetensors")
    for same in (net, tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        found, steps = same(x)
        assert np.array_equal(found, wanted) and np.array_equal(steps, first["steps"])
        assert repr(same) == repr(net)
    used = tr.Net(u, encoder(tr.Linear(5, 3)(u))["end"])
    assert "graph.finalstate" in repr(used) and "mean" not in repr(used)  # what nobody reads is left out


def test_loops_and_rates_of_a_net_of_several_outputs() -> None:
    x = tr.Input(2, time="t")
    slower = tr.TimeConv1d(2, 2, 3, stride=2)(x)
    before = tr.Feedback(2, time=slower.time)
    y = slower + 0.5 * before
    before.connect(y)
    inner = tr.Net(x, [y, tr.Tanh()(x)])
    u = tr.Input(2, time="other")
    net = tr.Net(u, inner(tr.TimeConv1d(2, 2, 2, stride=2)(u)))
    given = np.random.default_rng(0).standard_normal((16, 2, 2)).astype(np.float32)
    for found, wanted in zip(net(given), inner(net["timeconv1d"](given)), strict=True):
        assert np.array_equal(found, wanted)
    assert "goes back through graph.delay" in net.describe()
    x, before = tr.Input(2), tr.Feedback(3)
    y = tr.Tanh()(tr.Linear(5, 3)(tr.concat([x, before])))
    before.connect(y)
    u = tr.Input(2, time="other")
    net = tr.Net(u, tr.concat(tr.Net(x, [y, tr.Linear(3, 1)(y)])(u)))
    whole, stream = net(given), net.stream(2)
    assert np.array_equal(np.stack([stream.step(frame) for frame in given]), whole)
    net.train()(given)
    net.backward(np.ones_like(whole))
    assert all(np.abs(gradient).max() > 0 for gradient in net.grad_dict().values())


def test_what_a_net_of_several_outputs_cannot_read() -> None:
    encoder, x = encoder_of_three(), tr.Input(3)
    for wrong in ([tr.Input(4)], [x, x], [x, 1]):
        with pytest.raises(
            tr.ShapeError, match=r"Net: got \[.*expected values with frames of shapes \[\(3,\)\]"
        ):
            encoder(*wrong)
    one, two = encoder(x), encoder(x)
    one["end"].named("a"), two["end"].named("a")
    with pytest.raises(ValueError, match="the name 'a' twice"):
        tr.Net(x, [one["end"], two["end"]])
    with pytest.raises(TypeError, match="a net of 3 outputs in a chain"):
        tr.Sequential(tr.Linear(3, 3), encoder)(np.zeros((2, 3), np.float32))
