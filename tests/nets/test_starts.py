"""States that begin with values of the net: encoders and decoders, feedback, streams, files, errors.

Witnesses: PyTorch in float64, and nets that compute the same in another way. tests/c/test_graph.c has random
graphs with such states, against a reference in double and its differences.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import tracing
from tinyrnn.values import applied

SOURCE, TARGET, BATCH = 6, 5, 4
LENGTHS = [6, 2, 1, 4]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def near(ours: np.ndarray, theirs: Any, what: str) -> None:
    right = theirs.detach().numpy()
    assert np.abs(ours - right).max() <= 2e-5 * np.abs(right).max(), what


def leaves(net: Any) -> dict[str, Any]:
    """The net's tensors as PyTorch trains them."""
    import torch

    return {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }


KINDS = {
    "rnn": ("RNN", {"num_layers": 2, "nonlinearity": "relu"}),
    "gru": ("GRU", {}),
    "gru, both ways": ("GRU", {"num_layers": 3, "bidirectional": True}),
    "lstm": ("LSTM", {"num_layers": 2}),
    "lstm, both ways": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "lstm, projected": ("LSTM", {"num_layers": 2, "proj_size": 3}),
}


def pair(kind: str, **options: Any) -> tr.Net:
    """A decoder that begins with the final state of an encoder, all levels and directions of it."""
    tr.manual_seed(5)
    name, known = KINDS[kind]
    given = {**known, **options}
    encoder, decoder = getattr(tr, name)(4, 6, **given), getattr(tr, name)(3, 6, **given)
    source, target = tr.Input(4, time="source"), tr.Input(3, time="target")
    read = encoder(source).named("encoder")
    finals = [tr.FinalState(s, encoder.num_layers)(read) for s in encoder._state_names()]
    return tr.Net(
        [source, target], decoder(target, finals[0] if len(finals) == 1 else finals).named("decoder")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_and_a_decoder_are_torchs(kind: str) -> None:
    torch = pytest.importorskip("torch")
    net = pair(kind)
    name, known = KINDS[kind]
    x, z = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)
    weights = leaves(net)
    one, two = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, z))
    modules = [getattr(torch.nn, name)(size, 6, **known).double() for size in (4, 3)]
    own = [
        {key: weights[f"{part}.{key}"] for key in module.state_dict()}
        for part, module in zip(("encoder", "decoder"), modules, strict=True)
    ]
    packed = torch.nn.utils.rnn.pack_padded_sequence(one, LENGTHS, enforce_sorted=False)
    # a packed sequence goes to the module itself: functional_call cannot follow weights into it otherwise
    _, state = torch.func.functional_call(modules[0], own[0], (packed,))
    wanted, _ = torch.func.functional_call(modules[1], own[1], (two, state))
    found = net(x, z, lengths={"source": LENGTHS})
    near(found, wanted, "y")
    net.train()
    dy = numbers(*wanted.shape, seed=2)
    (wanted * torch.tensor(dy)).sum().backward()
    first: dict[str, np.ndarray] = {}
    for threads in (1, 3):
        net.zero_grad()
        assert np.array_equal(net(x, z, lengths={"source": LENGTHS}, threads=threads), found)
        dx, dz = net.backward(dy)
        gradients = net.grad_dict() | {"x": dx, "z": dz}
        first = first or gradients
        assert all(np.array_equal(first[name], gradients[name]) for name in first)
    near(dx, one.grad, "x")
    near(dz, two.grad, "z")
    for key, gradient in net.grad_dict().items():
        near(gradient, weights[key].grad, key)


def test_dropout_between_levels_is_not_in_the_final_state() -> None:
    """Training with dropout: what a level wrote is dropped for the next one, its state is not."""
    net = pair("lstm", dropout=0.5).train()
    x, z = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)
    net(x, z)
    net.backward(numbers(TARGET, BATCH, 6, seed=2))
    state = net.last_state
    alone = net["encoder"]
    _, (h, _) = alone.eval()(x)
    assert np.array_equal(state["encoder.h"][0], h[0]) and not np.array_equal(state["encoder.h"][1], h[1])
    assert all(np.isfinite(gradient).all() for gradient in net.grad_dict().values())


def test_on_one_axis_of_time() -> None:
    """An encoder and a decoder of the same steps: the decoder waits for the full sequence."""
    x = tr.Input(4)
    read = tr.GRU(4, 6)(x).named("encoder")
    net = tr.Net(x, tr.GRU(6, 6)(read, tr.FinalState()(read)).named("decoder"))
    a = numbers(SOURCE, BATCH, 4)
    states, last = net["encoder"](a, lengths=LENGTHS)
    wanted, _ = net["decoder"](states, last, lengths=LENGTHS)
    assert np.array_equal(net(a, lengths=LENGTHS), wanted)
    with pytest.raises(ValueError, match="cannot be streamed"):
        net.stream()


# ---- within loops ---------------------------------------------------------------------------------------


def own_gru(initial: Any = None) -> tuple[Any, Any]:
    """A GRU of single layers: its input and its value."""
    x, h = tr.Input(3), tr.Feedback(6, initial=initial)
    gates_x, gates_h = tr.Linear(3, 18)(x).named("ih"), tr.Linear(6, 18)(h).named("hh")
    r, z = (tr.Sigmoid()(gates_x[at : at + 6] + gates_h[at : at + 6]) for at in (0, 6))
    n = tr.Tanh()(gates_x[12:] + r * gates_h[12:])
    new = n + z * (h - n)
    h.connect(new)
    return x, new


def test_feedback_begins_with_a_value() -> None:
    """A cell of single layers, and the GRU that it is: values and all gradients."""
    tr.manual_seed(2)
    start = tr.Input(4, time=None, name="start")
    x, y = own_gru(tr.Tanh()(tr.Linear(4, 6)(start).named("bridge")))
    own = tr.Net([x, start], y)
    x, start = tr.Input(3), tr.Input(4, time=None, name="start")
    gru = tr.Net([x, start], tr.GRU(3, 6)(x, tr.Tanh()(tr.Linear(4, 6)(start).named("bridge"))).named("cell"))
    pairs = {"weight_ih_l0": "ih.weight", "weight_hh_l0": "hh.weight", "bias_ih_l0": "ih.bias"}
    names = {f"cell.{ours}": theirs for ours, theirs in pairs.items()} | {"cell.bias_hh_l0": "hh.bias"}
    names |= {f"bridge.{part}": f"bridge.{part}" for part in ("weight", "bias")}
    weights = own.state_dict()
    gru.load_state_dict({ours: weights[theirs] for ours, theirs in names.items()})
    a, s, dy = numbers(TARGET, BATCH, 3), numbers(BATCH, 4, seed=1), numbers(TARGET, BATCH, 6, seed=2)
    found = [net.train()(a, s) for net in (own, gru)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)
    for one, two in zip(own.backward(dy), gru.backward(dy), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
    for ours, theirs in names.items():
        np.testing.assert_allclose(gru.grad_dict()[ours], own.grad_dict()[theirs], rtol=0, atol=2e-5)


def attending() -> tr.Net:
    """A decoder whose LSTM begins with the encoder's state, and reads what attention found a step before."""
    tr.manual_seed(4)
    source, target = tr.Input(4, time="source"), tr.Input(3, time="target")
    memory = tr.LSTM(4, 5, bidirectional=True)(source).named("encoder")
    keys = tr.Linear(10, 6, bias=False)(memory).named("keys")  # softmax would drop a bias
    h = tr.Tanh()(tr.Linear(10, 6)(tr.FinalState()(memory)).named("bridge_h"))
    c = tr.Linear(10, 6)(tr.FinalState("c")(memory)).named("bridge_c")
    before = tr.Feedback(10, time="target", initial=tr.MeanOverTime()(memory))
    s = tr.LSTM(3 + 10, 6)(tr.concat([target, before]), (h, c)).named("decoder")
    context = tr.DotProductAttention(6)(s, keys, memory)
    before.connect(context)
    return tr.Net([source, target], tr.Linear(16, 7)(tr.concat([s, context])).named("head"))


def in_torch(weights: dict[str, Any], x: Any, z: Any, lengths: list[int]) -> Any:
    """`attending` in PyTorch."""
    import torch

    def linear(value: Any, name: str) -> Any:
        return value @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    def of(module: Any, name: str, *given: Any) -> Any:
        own = {key: weights[f"{name}.{key}"] for key in module.state_dict()}
        return torch.func.functional_call(module.double(), own, given)

    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    read, (h, c) = of(torch.nn.LSTM(4, 5, bidirectional=True), "encoder", packed)
    memory, ends = torch.nn.utils.rnn.pad_packed_sequence(read)
    mask = (torch.arange(len(memory))[:, None] < ends).T[:, None]  # (B, 1, S)
    side = [torch.cat(list(state), -1) for state in (h, c)]
    state = torch.tanh(linear(side[0], "bridge_h"))[None], linear(side[1], "bridge_c")[None]
    before = memory.sum(0) / ends[:, None]
    keys, decoder, ys = linear(memory, "keys"), torch.nn.LSTM(13, 6), []
    for given in z:
        s, state = of(decoder, "decoder", torch.cat([given, before], -1)[None], state)
        before = torch.nn.functional.scaled_dot_product_attention(
            s.transpose(0, 1), keys.transpose(0, 1), memory.transpose(0, 1), attn_mask=mask
        )[:, 0]
        ys.append(linear(torch.cat([s[0], before], -1), "head"))
    return torch.stack(ys)


def test_a_decoder_with_attention_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    net = attending().train()
    x, z, dy = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1), numbers(TARGET, BATCH, 7, seed=2)
    weights = leaves(net)
    one, two = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, z))
    wanted = in_torch(weights, one, two, LENGTHS)
    found = net(x, z, lengths={"source": LENGTHS})
    near(found, wanted, "y")
    (wanted * torch.tensor(dy)).sum().backward()
    dx, dz = net.backward(dy)
    near(dx, one.grad, "x")
    near(dz, two.grad, "z")
    for name, gradient in net.grad_dict().items():
        near(gradient, weights[name].grad, name)
    net.eval()
    assert np.array_equal(net(x, z, lengths={"source": LENGTHS}), found)


# ---- one sequence in several calls ------------------------------------------------------------------------


def streamed() -> tr.Net:
    """A net that streams, and whose states begin with an input for the sequence."""
    tr.manual_seed(9)
    x, speaker = tr.Input(3), tr.Input(4, time=None, name="speaker")
    start = tr.Linear(4, 10)(speaker).named("start")
    before = tr.Feedback(5, steps=2, initial=start[:5])
    h = tr.LSTM(3 + 5, 5, num_layers=2)(tr.concat([x, before]), (start, tr.Tanh()(start)))
    before.connect(h)
    return tr.Net([x, speaker], {"h": h, "late": tr.Delay(5)(h, start[5:])})


@pytest.mark.parametrize("isa", tr.available_isas())
def test_a_stream_begins_once(isa: str) -> None:
    tr.set_isa(isa)
    net, x, speaker = streamed(), numbers(9, 2, 3), numbers(2, 4, seed=1)
    whole = net(x, speaker)
    stream = net.stream(2)
    other = np.full_like(speaker, 7)  # beyond the first step it does not count
    steps = [stream.step(frame, other if t else speaker) for t, frame in enumerate(x)]
    for name in whole:
        assert np.array_equal(np.stack([step[name] for step in steps]), whole[name])
    stream.reset()
    parts = [stream.run(x[:4], speaker), stream.copy().run(x[4:], other)]
    for name in whole:
        assert np.array_equal(np.concatenate([part[name] for part in parts]), whole[name])
    kept = stream.state.tobytes()
    stream.reset()
    assert not np.array_equal(stream.run(x[4:], other)["h"], parts[1]["h"])
    stream.state = kept
    assert np.array_equal(stream.run(x[4:], other)["h"], parts[1]["h"])


def test_a_given_state_goes_on() -> None:
    """With ``state`` a call goes on from there, in evaluation and in training; the others begin."""
    net, x, speaker = streamed(), numbers(9, 2, 3), numbers(2, 4, seed=1)
    whole = net(x, speaker)
    net(x[:4], speaker)
    state = dict(net.last_state)
    assert set(state) == {"lstm.h", "lstm.c", "delay.past", "delay_1.past"}
    for mode in (False, True):
        net.train(mode)
        rest = net(x[4:], speaker, state=state)
        assert all(np.array_equal(rest[name], whole[name][4:]) for name in whole)
    dy = {"h": numbers(5, 2, 5, seed=3), "late": numbers(5, 2, 5, seed=4)}
    _, dspeaker = net.backward(dy)
    assert not dspeaker.any()  # this sequence began before
    only = {name: state[name] for name in ("lstm.h", "lstm.c")}
    net(x[4:], speaker, state=only)
    (_, dspeaker), dstate = net.backward(dy, dstate={})
    assert dspeaker.any() and dstate["lstm.h"].any()
    assert not dstate["delay.past"].any()  # it began with the value, whatever the state was


def test_on_an_axis_of_another_rate() -> None:
    """A GRU behind a strided convolution: its first step is not the input's, and the values wait for it."""
    tr.manual_seed(0)
    x, start = tr.Input(3), tr.Input(4, time=None, name="start")
    h = tr.GRU(5, 4)(tr.TimeConv1d(3, 5, kernel_size=4, stride=3)(x), start)
    net = tr.Net([x, start], {"h": h, "late": tr.Delay(4)(h, start)})
    a, b = numbers(11, 2, 3), numbers(2, 4, seed=1)
    whole = net(a, b)
    assert whole["h"].shape == (4, 2, 4) and np.array_equal(whole["late"][0], b)
    stream = net.stream(2)
    steps = [step for frame in a if (step := stream.step(frame, b))["h"] is not None]
    for name in whole:
        assert np.array_equal(np.stack([step[name] for step in steps]), whole[name])
    assert np.array_equal(net.train()(a, b)["h"], whole["h"])
    dys = {"h": numbers(4, 2, 4, seed=2), "late": numbers(4, 2, 4, seed=3)}
    _, found = net.backward(dys)
    net.eval()
    direction, step = numbers(2, 4, seed=4), np.float32(1e-2)
    sides = [net(a, b + side * step * direction) for side in (1, -1)]
    change = sum(np.sum((sides[0][name] - sides[1][name]) * dy, dtype=np.float64) for name, dy in dys.items())
    np.testing.assert_allclose(np.sum(found * direction), change / (2 * step), rtol=1e-3)


# ---- what a net is --------------------------------------------------------------------------------------


def test_files_copies_and_formats(tmp_path: Path) -> None:
    net = attending()
    x, z = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)
    wanted = net(x, z)
    net.save(tmp_path / "net.safetensors")
    for same in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(same(x, z), wanted)
        assert repr(same) == repr(net)
    small = tr.quantize(net, "int8")
    assert 0 < np.abs(small(x, z) - wanted).max() < 0.05
    net.plot(tmp_path / "net.svg")
    assert "decoder" in (tmp_path / "net.svg").read_text()
    rows = {row[0]: row for row in net.summary().rows}
    assert (
        rows["decoder"][2] == "concat, tanh, bridge_c"
        and rows["delay"][2] == "dotproductattention, meanovertime"
    )
    text = net.describe()
    assert "delay (Delay): reads meanovertime, which is known at the end of the sequence" in text


@pytest.mark.parametrize("kind", KINDS)
def test_layer_by_layer(kind: str) -> None:
    """Tracing sees the same numbers, the gates of the decoder among them; calibration reads them."""
    net = pair(kind)
    x, z = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)
    (seen,) = tracing.watch(net, {"0": x, "1": z})
    assert np.array_equal(seen[-1].y, net(x, z))
    given = {"0": x, "1": z}
    assert not any(part.largest.any() for part in tr.drift(net, net, given).parts.values())
    tr.quantize(net, "int8", given)
    states = net["encoder"](x)[1]
    first = states[0] if isinstance(states, tuple) else states
    last = [one for one in seen if one.name.startswith("decoder")]
    for level, one in enumerate(last):
        for direction, before in enumerate(one.before):
            begin = before[-1 if direction else 0]
            assert np.array_equal(begin, first[level * len(one.before) + direction])


def test_gates_begin_with_values() -> None:
    net = pair("lstm, both ways")
    x, z = numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)
    found = tr.inspect.gate_activations(net, {"0": x, "1": z}).layers
    alone = net["decoder"]
    alone.initial_state = None
    _, state = net["encoder"](x[:, :1])
    alone.initial_state = {name: array[:, 0] for name, array in zip("hc", state, strict=True)}
    wanted = tr.inspect.gate_activations(alone, z[:, :1]).layers
    for level in ("l0", "l1"):
        for name, gates in wanted[level].items():
            assert np.array_equal(found[f"decoder.{level}"][name][:, :1], gates)


def test_fit_trains_both() -> None:
    """A decoder that must say what the encoder read: only the state can tell it."""
    tr.manual_seed(1)
    source, target = tr.Input(time="source", name="source"), tr.Input(2, time="target", name="target")
    read = tr.LSTM(8, 24)(tr.Embedding(5, 8)(source))
    state = tr.FinalState("h")(read), tr.FinalState("c")(read)
    net = tr.Net([source, target], tr.Linear(24, 5)(tr.LSTM(2, 24)(target, state)))
    words = np.random.default_rng(0).integers(0, 5, (512, 3))
    data = {"source": list(words), "target": np.zeros((512, 3, 2), np.float32)}
    history = net.fit(
        data, list(words), loss="cross_entropy", epochs=25, optimizer=tr.optim.Adam(net, lr=1e-2), verbose=0
    )
    assert history.history["loss"][-1] < 0.1
    found = net.predict(data)
    assert np.mean([np.argmax(y, -1) == y_ for y, y_ in zip(found, words, strict=True)]) > 0.98


def test_an_initial_state_of_its_own() -> None:
    """`learn_initial_state` leaves out a layer that begins with a value."""
    net = pair("gru")
    net.learn_initial_state()
    assert list(net.initial_state) == ["encoder.h"]
    with pytest.raises(ValueError, match=r"got decoder\.h, which begins with a value"):
        net.initial_state = {"decoder.h": np.zeros((1, 6), np.float32)}


# ---- errors ---------------------------------------------------------------------------------------------


def test_errors_name_the_thing() -> None:
    x, once = tr.Input(3), tr.Input(6, time=None, name="once")
    with pytest.raises(
        tr.ShapeError, match=r"GRU: h0 has frames of shape \(6,\), expected \(2, 6\) or \(12,\)"
    ):
        tr.GRU(3, 6, num_layers=2)(x, once)
    with pytest.raises(TypeError, match=r"LSTM: the initial state is Input, expected a pair of values"):
        tr.LSTM(3, 6)(x, once)
    with pytest.raises(TypeError, match="GRU: got .* beside a value of a net, expected values only"):
        tr.GRU(3, 6)(x, np.zeros((1, 2, 6), np.float32))
    with pytest.raises(ValueError, match="GRU: the initial state is .*, expected a value per sequence"):
        tr.GRU(3, 6)(x, tr.Linear(3, 6)(x))
    with pytest.raises(TypeError, match="Linear: got 2 values, expected 1"):
        applied(tr.Linear(3, 6), (x, once))
    with pytest.raises(TypeError, match="LSTM: got 2 values, expected 1, or 3 with h0 and c0"):
        applied(tr.LSTM(3, 6), (x, once))
    with pytest.raises(tr.ShapeError, match=r"Feedback: initial has frames of shape \(6,\), expected \(5,\)"):
        tr.Feedback(5, initial=once)
    with pytest.raises(
        ValueError, match="Feedback: initial is <Value of Input.*>, expected a value per sequence"
    ):
        tr.Feedback(3, initial=x)
    with pytest.raises(TypeError, match="Feedback: initial is .*, expected a value of a net"):
        tr.Feedback(3, initial=np.zeros(3))
    with pytest.raises(tr.ShapeError, match=r"Delay: initial has frames of shape \(6,\), expected \(3,\)"):
        tr.Delay(3)(x, once)
    with pytest.raises(ValueError, match="FinalState: num_layers is 3, expected at most 2, the levels"):
        tr.FinalState(num_layers=3)(tr.GRU(3, 6, num_layers=2)(x))
    with pytest.raises(ValueError, match=r"FinalState: num_layers is 9, expected 1 \.\. 8"):
        tr.FinalState(num_layers=9)


def test_a_file_with_a_later_initial_value_is_refused() -> None:
    net = streamed()
    description = net._describe()
    for node in description["nodes"]:
        if node["name"] == "delay":
            node["reads"][1] = node["reads"][0]
    with pytest.raises(ValueError, match="layer 'delay': got a value that comes later"):
        tr.Graph._described(description)
