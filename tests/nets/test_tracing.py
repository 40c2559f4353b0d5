"""Graphs looked at layer by layer: drift, calibration and gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import tracing

STEPS, BATCH = 23, 3
Inputs = dict[str, np.ndarray]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def described(full: bool = False) -> tuple[dict[str, tr.Input], dict[str, Any]]:
    """Inputs and values of a net with a skip, values per sequence and a nested net."""
    x, speaker = tr.Input(6, name="x"), tr.Input(4, time=None, name="speaker")
    z = tr.Input(5)
    block = tr.Net(z, tr.Linear(5, 5)(z) + z)
    values: dict[str, Any] = {"gain": tr.Linear(4, 5)(speaker).named("gain")}
    values["bent"] = tr.Tanh()(values["gain"]).named("bent")
    values["rnn"] = tr.LSTM(6, 5, num_layers=2)(x).named("rnn")
    values["block"] = tr.Sequential(block, tr.GRU(5, 5, bidirectional=full))(values["rnn"]).named("block")
    values["cut"] = values["block"][:5].named("cut")
    values["mixed"] = tr.Multiply()(values["cut"], values["bent"]).named("mixed")
    values["twice"] = tr.Add()(values["mixed"], values["mixed"]).named("twice")
    values["side"] = tr.concat([values["twice"], values["gain"], x]).named("side")
    values["head"] = tr.Linear(16, 2)(values["side"]).named("head")
    return {"x": x, "speaker": speaker}, values


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_each_layer_sees_what_it_sees_in_the_net(
    full: bool, batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as in a net that has every value as an output, whatever the chunks."""
    monkeypatch.setattr(tracing, "CHUNK", 7 * BATCH)
    tr.manual_seed(1)
    inputs, values = described(full)
    given = {"x": numbers(STEPS, BATCH, 6), "speaker": numbers(BATCH, 4, seed=1)}
    if not batched:
        given = {"x": given["x"][:, 0], "speaker": given["speaker"][0]}
    names = list(values)
    wanted = tr.Net(inputs, {name: values[name] for name in names[:8]})(given)
    net = tr.Net(inputs, values["head"])
    wanted["head"] = net(given)
    found: dict[str, list[np.ndarray]] = {}
    chunks = list(tracing.watch(net, given))
    assert len(chunks) == (1 if full else 4 if batched else 2)
    for chunk in chunks:
        for seen in chunk:
            found.setdefault(seen.name, []).append(seen.y)
    aliases = {"rnn": "rnn.l1", "block": "block.1.l0"}
    for name, right in wanted.items():
        parts = found[aliases.get(name, name)]
        whole = np.concatenate(parts)
        if not batched:
            whole = whole[0] if right.ndim == 1 else whole[:, 0]
        assert np.array_equal(whole, right), name
    assert len(found["gain"]) == len(found["bent"]) == 1
    last = chunks[-1][-1]
    assert (last.name, last.outputs) == ("head", ("output",))
    assert [seen.name for seen in next(tracing.watch(net, given, "cut"))][-1] == "cut"


def simple() -> tr.Net:
    tr.manual_seed(2)
    x = tr.Input(8)
    h = tr.LSTM(8, 16)(x).named("rnn")
    s = tr.Linear(8, 16)(x).named("skip")
    return tr.Net(x, tr.Linear(16, 5)(h * s + h).named("head"))


def test_drift_of_a_graph() -> None:
    net, x = simple(), numbers(200, BATCH, 8)
    small = tr.quantize(net, "int8", keep="rnn")
    found = tr.drift(net, small, x, targets=net(x))
    assert list(found.parts)[:2] == ["rnn.l0", "rnn.l0.i"] and list(found.parts)[-1] == "output"
    assert (found.parts["rnn.l0"].rms == 0).all() and (found.parts["skip"].rms > 0).all()
    assert found.parts["skip"].format == "int8" and found.parts["add"].format == ""
    difference = small(x).astype(np.float64) - net(x)
    rms = np.sqrt(np.square(difference[:10]).mean() / np.square(net(x)[:10].astype(np.float64)).mean())
    assert np.isclose(found.parts["output"].rms[0], rms, rtol=1e-6)
    assert found.losses is not None and found.losses[0] == 0
    assert np.isclose(found.losses[1], np.square(difference).mean(), rtol=1e-5)


def test_drift_of_values_per_sequence() -> None:
    tr.manual_seed(1)
    inputs, values = described()
    net = tr.Net(inputs, {"head": values["head"], "gain": values["gain"]})
    given = {"x": numbers(STEPS, BATCH, 6), "speaker": numbers(BATCH, 4, seed=1)}
    found = tr.drift(net, tr.quantize(net, "int4"), given)
    assert [len(found.parts[name].rms) for name in ("gain", "bent", "side", "output.head")] == [1, 1, 2, 2]
    assert {"output.head", "output.gain"} < set(found.parts)
    lines = str(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    with pytest.raises(ValueError, match="targets for a net of several inputs"):
        tr.drift(net, net, given, targets=numbers(STEPS, BATCH, 2))
    with pytest.raises(ValueError, match="differ in their layers"):
        tr.drift(simple(), net, given)


def test_nets_that_differ_in_who_reads_whom_are_not_compared() -> None:
    x = tr.Input(4)
    a, b = tr.Linear(4, 4), tr.Linear(4, 4)
    one = tr.Net(x, a(x).named("a") - b(x).named("b"))
    first = tr.Linear(4, 4)(x).named("a")
    other = tr.Net(x, tr.Linear(4, 4)(first).named("b") - first)
    with pytest.raises(ValueError, match="differ in their layers"):
        tr.drift(one, other, numbers(5, 4))


def test_calibration_of_a_graph_does_good() -> None:
    net, x = simple(), numbers(400, BATCH, 8)
    x[..., 4:] = x[..., :4] + 0.1 * x[..., 4:]  # inputs that go together, as error feedback needs
    fresh = numbers(400, BATCH, 8, seed=5)
    fresh[..., 4:] = fresh[..., :4] + 0.1 * fresh[..., 4:]
    errors = [
        np.square(tr.quantize(net, "int4", calibration)(fresh) - net(fresh)).mean()
        for calibration in (None, x)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_calibration_with_several_inputs_and_a_bound() -> None:
    tr.manual_seed(1)
    inputs, values = described()
    net = tr.Net(inputs, {"head": values["head"], "gain": values["gain"]})
    given = {"x": numbers(STEPS, BATCH, 6), "speaker": numbers(BATCH, 4, seed=1)}
    small = tr.quantize(net, "int8", given, keep="auto", bound=0.05)
    differences = [np.abs(small(given)[name] - right).max() for name, right in net(given).items()]
    assert 0 < max(differences) <= 0.05


def test_a_layer_that_is_used_twice_is_quantised_once() -> None:
    tr.manual_seed(3)
    x, shared = tr.Input(4), tr.Linear(4, 4)
    net = tr.Net(x, tr.Linear(4, 4)(shared(tr.Tanh()(shared(x)))))
    small = tr.quantize(net, "int4", numbers(200, 4))
    assert set(small.formats.values()) == {"int4"} and small["linear"] is small["linear_1"]
    kept = tr.quantize(net, "int4", numbers(200, 4), keep="linear_1")
    assert kept.formats == {"linear": "float32", "linear_1": "float32", "linear_2": "int4"}


def test_gates_of_a_graph() -> None:
    net, x = simple(), numbers(STEPS, BATCH, 8)
    gates = tr.inspect.gate_activations(net, x).layers
    alone = tr.inspect.gate_activations(net["rnn"], x).layers
    assert list(gates) == ["rnn.l0"]
    for name, values in next(iter(alone.values())).items():
        assert np.array_equal(gates["rnn.l0"][name], values)


def test_what_is_known_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over time is seen once, with all steps; who reads it at each step sees all of them."""
    monkeypatch.setattr(tracing, "CHUNK", 7 * BATCH)
    x = tr.Input(4)
    h = tr.GRU(4, 5)(x)
    mean = tr.MeanOverTime()(h).named("mean")
    net, a = tr.Net(x, tr.Linear(5, 2)(mean).named("head")), numbers(STEPS, BATCH, 4)
    net.initial_state = {"gru.h": numbers(1, 5, seed=7)}
    chunks = list(tracing.watch(net, a))
    assert len(chunks) == 4 and [seen.name for seen in chunks[0]] == ["gru.l0"]
    assert np.array_equal(chunks[-1][-1].y, net(a))
    both = tr.Net(x, tr.Linear(5, 2)(h + mean))
    ((*_, last),) = tracing.watch(both, a)
    assert np.array_equal(last.y, both(a))
    final = tr.Net(x, tr.FinalState()(h))
    chunks = list(tracing.watch(final, a))
    assert len(chunks) == 4 and [seen.name for seen in chunks[0]] == ["gru.l0"]
    assert np.array_equal(chunks[-1][-1].y, final(a))


def test_loops_are_refused() -> None:
    x, before = tr.Input(4), tr.Feedback(4)
    h = tr.Linear(8, 4)(tr.concat([x, before]))
    before.connect(h)
    net, a = tr.Net(x, tr.GRU(4, 2)(h)), numbers(STEPS, 4)
    for call in (
        lambda: tr.drift(net, net, a),
        lambda: tr.quantize(net, "int8", a),
        lambda: tr.inspect.gate_activations(net, a),
    ):
        with pytest.raises(ValueError, match="delay, concat, linear are in a loop, .*: quantise it without"):
            call()
    assert set(tr.quantize(net, "int8").formats.values()) == {"int8"}
    assert set(tr.quantize(net, "float16", a).formats.values()) == {"float16"}
