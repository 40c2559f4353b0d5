"""The gradient of each hidden state in graphs and loops, against PyTorch and against chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

STEPS, BATCH = 9, 3
LENGTHS = [STEPS, 1, 6]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def masked(dy: np.ndarray, lengths: Any) -> np.ndarray:
    """Zeros beyond the rows' ends."""
    if lengths is not None:
        dy[np.arange(len(dy))[:, None] >= lengths] = 0
    return dy


def fed_back() -> tr.Net:
    """Two LSTM levels in a loop that reads what it wrote two steps before, scaled by a value per sequence."""
    tr.manual_seed(5)
    x, gain, before = tr.Input(4, name="x"), tr.Input(3, time=None, name="gain"), tr.Feedback(3, steps=2)
    h = tr.LSTM(7, 5, num_layers=2)(tr.concat([x, before * tr.Tanh()(gain)])).named("rnn")
    y = tr.Linear(5, 3)(h).named("head")
    before.connect(y)
    net = tr.Net([x, gain], {"h": h, "y": tr.GRU(3, 2)(y).named("after"), "s": tr.SumOverTime()(y)})
    net.initial_state = {"delay.past": numbers(2, 3, seed=2), "rnn.h": numbers(2, 5, seed=3)}
    return net


def lstm_step(w: dict[str, Any], level: int, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    import torch

    gates = x @ w[f"rnn.weight_ih_l{level}"].T + w[f"rnn.bias_ih_l{level}"]
    gates = gates + h @ w[f"rnn.weight_hh_l{level}"].T + w[f"rnn.bias_hh_l{level}"]
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    h.retain_grad()
    return h, c


def gru_step(w: dict[str, Any], name: str, x: Any, h: Any) -> Any:
    import torch

    a = (x @ w[f"{name}.weight_ih_l0"].T + w[f"{name}.bias_ih_l0"]).chunk(3, -1)
    b = (h @ w[f"{name}.weight_hh_l0"].T + w[f"{name}.bias_hh_l0"]).chunk(3, -1)
    r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
    n = torch.tanh(a[2] + r * b[2])
    h = n + z * (h - n)
    h.retain_grad()
    return h


def in_torch(net: tr.Net) -> dict[str, Any]:
    import torch

    return {
        name: torch.tensor(a, dtype=torch.float64, requires_grad=True) for name, a in net.state_dict().items()
    }


def near(found: np.ndarray, hs: list[Any], what: str) -> None:
    right = np.stack([np.zeros(h.shape) if h.grad is None else h.grad.numpy() for h in hs])
    assert np.abs(found - right).max() <= 2e-5 * np.abs(right).max(), what


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_a_loop_is_torchs(lengths: list[int] | None) -> None:
    torch = pytest.importorskip("torch")
    net, x, gain = fed_back(), numbers(STEPS, BATCH, 4), numbers(BATCH, 3, seed=1)
    dys = {
        "h": masked(numbers(STEPS, BATCH, 5, seed=6), lengths),
        "y": masked(numbers(STEPS, BATCH, 2, seed=7), lengths),
        "s": numbers(BATCH, 3, seed=8),
    }
    if lengths is not None:
        x[np.arange(STEPS)[:, None] >= lengths] = np.nan
    before = net.state_dict()
    found = tr.inspect.hidden_gradients(net, {"x": x, "gain": gain}, dy=dys, lengths=lengths)
    assert list(found) == ["rnn.l0", "rnn.l1", "after.l0"]
    assert all(np.array_equal(a, net.state_dict()[name]) for name, a in before.items())
    w = in_torch(net)
    inside = torch.tensor(np.arange(STEPS)[:, None] < (lengths or [STEPS] * BATCH))[..., None]
    frames, scale = torch.nan_to_num(torch.tensor(x)).double(), torch.tanh(torch.tensor(gain).double())
    past = [w["delay.past0"][i].expand(BATCH, 3) for i in range(2)]
    hs: list[list[Any]] = [[], [], []]
    state = [w["rnn.h0"][level].expand(BATCH, 5) for level in range(2)]
    cells = [torch.zeros(BATCH, 5).double() for _ in range(2)]
    last = torch.zeros(BATCH, 2).double()
    loss: Any = 0
    for t in range(STEPS):
        value = torch.cat([frames[t], past[t] * scale], -1)
        for level in range(2):
            value, cells[level] = lstm_step(w, level, value, state[level], cells[level])
            state[level] = value
            hs[level].append(value)
        y = value @ w["head.weight"].T + w["head.bias"]
        past.append(y)
        last = gru_step(w, "after", y, last)
        hs[2].append(last)
        loss = loss + (value * torch.tensor(dys["h"][t])).sum() + (last * torch.tensor(dys["y"][t])).sum()
        loss = loss + (y * inside[t] * torch.tensor(dys["s"])).sum()
    loss.backward()
    for name, one in zip(found, hs, strict=True):
        near(found[name], one, name)
    norms = tr.inspect.gradient_norms(net, {"x": x, "gain": gain}, dy=dys, lengths=lengths).norms
    assert np.allclose(norms["rnn.l0"], np.sqrt(np.square(found["rnn.l0"]).sum((1, 2))))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_attention_in_a_loop_is_torchs(lengths: list[int] | None) -> None:
    torch = pytest.importorskip("torch")
    tr.manual_seed(6)
    source, target = tr.Input(4, time="source"), tr.Input(3, time="target")
    memory, back = tr.GRU(4, 6)(source).named("memory"), tr.Feedback(6, time="target")
    h = tr.GRU(9, 6)(tr.concat([target, back])).named("rnn")
    context = tr.DotProductAttention(6)(h, memory, memory)
    back.connect(context)
    net = tr.Net([source, target], tr.Linear(12, 2)(tr.concat([h, context])).named("head"))
    a, b, dy = numbers(STEPS, BATCH, 4), numbers(5, BATCH, 3, seed=1), numbers(5, BATCH, 2, seed=2)
    ends = None if lengths is None else {"source": lengths}
    found = tr.inspect.hidden_gradients(net, {"0": a, "1": b}, dy=dy, lengths=ends)
    w, one, two = in_torch(net), torch.tensor(a).double(), torch.tensor(b).double()
    state = torch.zeros(BATCH, 6).double()
    keys, hs = [], []
    for t in range(STEPS):
        state = gru_step(w, "memory", one[t], state)
        keys.append(state)
    inside = torch.tensor(np.arange(STEPS)[:, None] < (lengths or [STEPS] * BATCH)).T
    memory = torch.stack(keys, 1)
    state = context = torch.zeros(BATCH, 6).double()
    loss: Any = 0
    for t in range(5):
        state = gru_step(w, "rnn", torch.cat([two[t], context], -1), state)
        hs.append(state)
        attention = torch.nn.functional.scaled_dot_product_attention
        context = attention(state[:, None], memory, memory, inside[:, None])[:, 0]
        y = torch.cat([state, context], -1) @ w["head.weight"].T + w["head.bias"]
        loss = loss + (y * torch.tensor(dy[t])).sum()
    loss.backward()
    near(found["rnn.l0"], hs, "rnn")
    near(found["memory.l0"], keys, "memory")


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_graph_that_is_a_chain_has_its_bits(batch_first: bool) -> None:
    tr.manual_seed(3)
    layers = [
        tr.Linear(4, 5),
        tr.LSTM(5, 6, 2, bidirectional=True, batch_first=batch_first),
        tr.Linear(12, 3),
    ]
    chain = tr.Sequential(*layers)
    x = tr.Input(4)
    h = layers[0](x).named("0")
    net = tr.Net(x, layers[2](layers[1](h).named("1")).named("2"))
    a, y = numbers(BATCH, STEPS, 4), numbers(BATCH, STEPS, 3, seed=1)
    if not batch_first:
        a, y = a.swapaxes(0, 1), y.swapaxes(0, 1)
    for given, target, lengths in (
        (a, y, LENGTHS),
        (a, y, None),
        (numbers(7, 4), numbers(7, 3, seed=2), None),
    ):
        wanted = tr.inspect.hidden_gradients(chain, given, target, tr.MSELoss(), lengths=lengths)
        found = tr.inspect.hidden_gradients(net, given, target, tr.MSELoss(), lengths=lengths)
        assert list(found) == list(wanted) == ["1.l0", "1.l0_reverse", "1.l1", "1.l1_reverse"]
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_a_skip_adds_up() -> None:
    """Two readers of a hidden state, and one target a sequence: by hand from a chain."""
    tr.manual_seed(4)
    gru, head = tr.GRU(4, 5), tr.Linear(5, 2)
    x = tr.Input(4)
    h = gru(x).named("rnn")
    net = tr.Net(x, {"skip": head(h).named("head"), "mean": tr.MeanOverTime()(h)})
    a, dskip, dmean = numbers(STEPS, BATCH, 4), numbers(STEPS, BATCH, 2, seed=1), numbers(BATCH, 5, seed=2)
    found = tr.inspect.hidden_gradients(net, a, dy={"skip": dskip, "mean": dmean})["rnn.l0"]
    wanted = tr.inspect.hidden_gradients(gru, a, dy=dskip @ head.weight + dmean / STEPS)["l0"]
    assert np.abs(found - wanted).max() < 1e-6
    one = tr.Net(x, tr.Linear(5, 2)(tr.MeanOverTime()(h)))
    found = tr.inspect.hidden_gradients(one, a[:, 0], np.ones(2), tr.MSELoss())
    assert found["rnn.l0"].shape == (STEPS, 1, 5) and found["rnn.l0"].any()


def test_what_gradients_of_a_graph_must_be() -> None:
    net, x = fed_back(), {"x": numbers(STEPS, BATCH, 4), "gain": numbers(BATCH, 3)}
    with pytest.raises(
        TypeError, match=r"got y and loss for outputs \['h', 'y', 's'\], expected dy, the grad"
    ):
        tr.inspect.hidden_gradients(net, x, numbers(STEPS, BATCH, 2), tr.MSELoss())
    with pytest.raises(tr.ShapeError, match=r"dy of output 's' has shape \(3,\), expected \(3, 3\)"):
        tr.inspect.hidden_gradients(net, x, dy={"s": np.ones(3)})
    with pytest.raises(ValueError, match=r"dy: got \['odd'\], expected some of \['h', 'y', 's'\]"):
        tr.inspect.hidden_gradients(net, x, dy={"odd": np.ones(3)})


def test_a_final_state_is_the_last_step() -> None:
    z = tr.Input(4)
    h = tr.GRU(4, 2)(z).named("rnn")
    x, dy = numbers(STEPS, 4), numbers(2, seed=1)
    found, right = (
        tr.inspect.hidden_gradients(tr.Net(z, last(h)), x, dy=dy)["rnn.l0"]
        for last in (tr.FinalState(), tr.LastStep())
    )
    np.testing.assert_array_equal(found, right)
    assert found.any()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_masks_and_states_that_begin_with_values_are_torchs(lengths: list[int] | None) -> None:
    torch = pytest.importorskip("torch")
    tr.manual_seed(6)
    x, m, v = tr.Input(4, name="x"), tr.Input(1, name="m"), tr.Input(3, time=None, name="v")
    first = tr.Linear(3, 10)(v).named("first")
    h = tr.LSTM(4, 5, num_layers=2)(x, (first, tr.Tanh()(first)), mask=m).named("rnn")
    last = tr.Linear(10, 3)(tr.FinalState("c", num_layers=2)(h)).named("last")
    net = tr.Net([x, m, v], {"h": h, "y": tr.GRU(5, 2)(h, mask=m).named("after"), "c": last})
    counts = np.random.default_rng(3).random((STEPS, BATCH, 1)) < 0.6
    data = {"x": numbers(STEPS, BATCH, 4), "m": counts, "v": numbers(BATCH, 3, seed=1)}
    dys = {
        "h": masked(numbers(STEPS, BATCH, 5, seed=6), lengths),
        "y": masked(numbers(STEPS, BATCH, 2, seed=7), lengths),
        "c": numbers(BATCH, 3, seed=8),
    }
    found = tr.inspect.hidden_gradients(net, data, dy=dys, lengths=lengths)
    assert list(found) == ["rnn.l0", "rnn.l1", "after.l0"]
    w = in_torch(net)
    inside = np.arange(STEPS)[:, None] < (lengths or [STEPS] * BATCH)
    value = torch.tensor(data["v"]).double() @ w["first.weight"].T + w["first.bias"]
    state = [part.reshape(BATCH, 2, 5).unbind(1) for part in (value, torch.tanh(value))]
    hs, cs, after = list(state[0]), list(state[1]), torch.zeros(BATCH, 2).double()
    kept: list[list[Any]] = [[], [], []]
    loss: Any = 0
    for t in range(STEPS):
        on = torch.tensor(counts[t] & inside[t][:, None])
        frame = torch.tensor(data["x"][t]).double()
        for level in range(2):
            new, c = lstm_step(w, level, frame, hs[level], cs[level])
            hs[level] = frame = torch.where(on, new, hs[level])
            cs[level] = torch.where(on, c, cs[level])
            frame.retain_grad()
            kept[level].append(frame)
        after = torch.where(on, gru_step(w, "after", frame, after), after)
        after.retain_grad()
        kept[2].append(after)
        loss = loss + (frame * torch.tensor(dys["h"][t])).sum() + (after * torch.tensor(dys["y"][t])).sum()
    final = torch.cat(cs, -1) @ w["last.weight"].T + w["last.bias"]
    (loss + (final * torch.tensor(dys["c"])).sum()).backward()
    for name, steps in zip(found, kept, strict=True):
        right = np.stack([h.grad.numpy() for h in steps]) * inside[..., None]
        assert np.abs(found[name] - right).max() <= 2e-5 * np.abs(right).max(), name


def test_steps_that_a_mask_leaves_out_are_not_there() -> None:
    """In both directions and several levels: gradients of the steps that count are those of these alone."""
    tr.manual_seed(7)
    x, m = tr.Input(4, name="x"), tr.Input(1, name="m")
    net = tr.Net([x, m], tr.LSTM(4, 5, num_layers=2, bidirectional=True)(x, mask=m).named("rnn"))
    counts = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0], bool)
    data, dy = numbers(STEPS, BATCH, 4), numbers(STEPS, BATCH, 10, seed=2)
    dy[~counts] = 0
    mask = np.broadcast_to(counts[:, None, None], (STEPS, BATCH, 1))
    found = tr.inspect.hidden_gradients(net, {"x": data, "m": mask}, dy=dy)
    alone = tr.inspect.hidden_gradients(net["rnn"], data[counts], dy=dy[counts])
    assert list(found) == [f"rnn.{name}" for name in alone]
    for name, right in alone.items():
        np.testing.assert_allclose(found[f"rnn.{name}"][counts], right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_feedback_that_begins_with_a_value(steps: int) -> None:
    """A decoder's feedback begins with what an encoder made of its sequence: gradients go back to there."""
    source, target = tr.Input(3, time="source", name="x"), tr.Input(3, time="target", name="y")
    read = tr.GRU(3, 4)(source).named("encoder")
    before = tr.Feedback(4, steps=steps, time="target", initial=tr.FinalState()(read))
    h = tr.GRU(7, 4)(tr.concat([target, before])).named("decoder")
    before.connect(tr.Tanh()(h) + 0.5 * before)
    net = tr.Net([source, target], before.reads[0])
    rng = np.random.default_rng(0)
    x, y, dy = (
        rng.standard_normal((count, 2, n)).astype(np.float32) for count, n in ((6, 3), (5, 3), (5, 4))
    )
    found = tr.inspect.hidden_gradients(net, {"x": x, "y": y}, dy=dy)

    def loss(first: np.ndarray) -> float:
        """The loss with an encoder that is one step from its end, where its state is ``first``."""
        own = {"encoder.h": first[None]}
        return float((net(x[-1:], y, state=own).astype(np.float64) * dy).sum())

    state = net["encoder"](x[:-1])[1][0]
    for place in ((0, 1), (1, 3)):
        sides = []
        for step in (-1e-2, 1e-2):
            moved = state.copy()
            moved[place] += step
            sides.append(loss(moved))
        slope = (sides[1] - sides[0]) / 2e-2
        assert np.isclose(found["encoder.l0"][-2][place], slope, rtol=2e-2, atol=2e-3)
    assert set(found) == {"encoder.l0", "decoder.l0"} and np.abs(found["decoder.l0"]).min(axis=(1, 2)).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_final_state_a_mask_and_a_start_in_a_loop(threads: int) -> None:
    """Finite differences of what a state began with, in a loop of another rate than the net's."""
    tr.manual_seed(8)
    x, m, v = tr.Input(3, name="x"), tr.Input(1, name="m"), tr.Input(4, time=None, name="v")
    slow = tr.TimeConv1d(3, 3, 2, stride=2)(x).named("slow")
    counts = tr.TimeMaxPool1d(2, stride=2, padding=(1, 0))(m)
    before = tr.Feedback(4, steps=2, time=slow.time)
    h = tr.GRU(7, 4)(tr.concat([slow, before]), v, mask=counts).named("rnn")
    before.connect(tr.Tanh()(h))
    net = tr.Net([x, m, v], {"h": h, "last": tr.FinalState()(h)})
    rng = np.random.default_rng(1)
    data = {"x": numbers(8, 2, 3), "m": rng.random((8, 2, 1)) < 0.5, "v": numbers(2, 4, seed=2)}
    data["m"][:2] = 0  # the first step is masked: its state is what it began with
    dy = {"h": numbers(4, 2, 4, seed=3), "last": numbers(2, 4, seed=4)}
    found = tr.inspect.hidden_gradients(net, data, dy=dy)["rnn.l0"]
    assert found.shape == (4, 2, 4)

    def loss(first: np.ndarray) -> float:
        ys = net({**data, "v": first}, threads=threads)
        return sum(float((ys[name].astype(np.float64) * dy[name]).sum()) for name in dy)

    for place in ((0, 1), (1, 3)):
        sides = []
        for step in (-1e-2, 1e-2):
            moved = data["v"].copy()
            moved[place] += step
            sides.append(loss(moved))
        assert np.isclose(found[0][place], (sides[1] - sides[0]) / 2e-2, rtol=1e-2, atol=2e-3)
