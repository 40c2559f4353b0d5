"""Graphs looked at layer by layer: drift, calibration and gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import tracing
from tinyrnn.outlines import outline

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


@pytest.mark.parametrize("steps", [(9, 12), (12, 9)])
def test_drift_of_two_axes_of_time(steps: tuple[int, int]) -> None:
    x, z = tr.Input(3, name="x"), tr.Input(3, name="z", time="other")
    final = tr.FinalState()(tr.GRU(3, 4, bidirectional=True)(z).named("read"))
    net = tr.Net([x, z], [final, tr.Linear(3, 2)(x).named("head")])
    arrays = {name: numbers(count, 2, 3) for name, count in zip("xz", steps, strict=True)}
    small = tr.quantize(net, "int8")
    found = tr.drift(net, small, arrays)
    one, two = net(arrays)[1], small(arrays)[1]
    error = np.sqrt(np.square(two - one)[:10].mean() / np.square(one[:10]).mean())
    assert np.isclose(found.parts["output.1"].rms[0], error, rtol=1e-4)
    assert (found.parts["read.l0"].rms > 0).all()


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


def fed_back() -> tr.Net:
    """An LSTM in a loop that reads its Linear's output of two steps before, and a gain for the sequence."""
    tr.manual_seed(5)
    x, gain, before = tr.Input(4, name="x"), tr.Input(3, time=None, name="gain"), tr.Feedback(3, steps=2)
    h = tr.LSTM(7, 5)(tr.concat([x, before * tr.Tanh()(gain)])).named("rnn")
    y = tr.Linear(5, 3)(h).named("head")
    before.connect(y)
    return tr.Net([x, gain], {"h": h, "y": tr.GRU(3, 2)(y).named("after")})


def decoder() -> tr.Net:
    """Attention over another axis of time within a loop."""
    tr.manual_seed(6)
    source, target = tr.Input(4, time="source"), tr.Input(3, time="target")
    memory, before = tr.GRU(4, 6)(source), tr.Feedback(6, time="target")
    h = tr.GRU(9, 6)(tr.concat([target, before])).named("rnn")
    context = tr.DotProductAttention(6)(h, memory, memory)
    before.connect(context)
    return tr.Net([source, target], tr.Linear(12, 2)(tr.concat([h, context])).named("head"))


def test_loops_run_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer of a loop with the bits of the whole net, and with what it read."""
    monkeypatch.setattr(tracing, "CHUNK", 7 * BATCH)
    net, (x, gain) = fed_back(), (numbers(STEPS, BATCH, 4), numbers(BATCH, 3, seed=1))
    net.initial_state = {
        "delay.past": numbers(2, 3, seed=2),
        "rnn.h": numbers(1, 5, seed=3),
        "rnn.c": numbers(1, 5, seed=4),
    }
    wanted = net(x, gain)
    chunks = list(tracing.watch(net, {"x": x, "gain": gain}))
    assert len(chunks) == 4

    def whole(name: str, what: str = "y") -> np.ndarray:
        return np.concatenate([getattr(one, what) for chunk in chunks for one in chunk if one.name == name])

    assert np.array_equal(whole("rnn.l0"), wanted["h"])
    assert np.array_equal(whole("after.l0"), wanted["y"])
    assert np.array_equal(whole("head", "x"), wanted["h"])
    head = net["head"](wanted["h"])
    past = np.repeat(net.initial_state["delay.past"][:, None], BATCH, axis=1)
    assert np.array_equal(whole("delay"), np.concatenate([past, head[:-2]]))
    assert np.array_equal(whole("delay", "x"), head)
    assert np.array_equal(whole("rnn.l0", "x")[..., :4], x)
    gates = tr.inspect.gate_activations(net, {"x": x, "gain": gain}).layers["rnn.l0"]
    assert np.array_equal(gates["h"], wanted["h"])
    alone = tr.inspect.gate_activations(net["rnn"], whole("rnn.l0", "x")).layers["l0"]
    for name in "ifgo":
        assert np.array_equal(gates[name], alone[name]), name
    # attention in a loop, on two axes of time
    net, (a, b) = decoder(), (numbers(11, BATCH, 4), numbers(6, BATCH, 3, seed=1))
    lines = outline(net).lines
    assert [line.time for line in lines if line.loop >= 0] == ["target"] * 4
    ((*_, last),) = tracing.watch(net, {"0": a, "1": b})
    assert np.array_equal(last.y, net(a, b))


@pytest.mark.parametrize("make", [fed_back, decoder])
def test_drift_and_calibration_of_loops(make: Callable[[], tr.Net]) -> None:
    net = make()
    first, second = numbers(STEPS, BATCH, 4), numbers(BATCH, 3, seed=1)
    x = (
        {"x": first, "gain": second}
        if make is fed_back
        else {"0": first, "1": numbers(STEPS, BATCH, 3, seed=1)}
    )
    nearest = tr.quantize(net, "int4")
    fitted = tr.quantize(net, "int4", x)
    assert set(fitted.formats.values()) == {"int4"}

    def worst(other: tr.Net) -> float:
        found = {name: part for name, part in tr.drift(net, other, x).parts.items() if "output" in name}
        ys, zs = net(x), other(x)
        for name, part in found.items():
            y, z = (ys, zs) if name == "output" else (ys[name[7:]], zs[name[7:]])
            error, signal = (np.square(one[:10].astype(float)).sum() for one in (y - z, y))
            assert part.rms[0] == pytest.approx(np.sqrt(error / signal), rel=1e-5)
            assert error > 0
        return max(float(part.rms.max()) for part in found.values())

    assert worst(fitted) < worst(nearest)
    assert "rnn.l0.f" in tr.drift(net, nearest, x).parts or "rnn.l0.r" in tr.drift(net, nearest, x).parts
