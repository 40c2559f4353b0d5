"""Masks: steps that do not count.

Witnesses: the oracle's steps in float64, PyTorch's autograd with the state frozen where a step is masked, and
the same layer without a mask over the steps that count, which has the same bits.
"""

import copy
import pickle

import cell_cases
import numpy as np
import oracle
import pytest

import tinyrnn as tr

T, B, F, H = 9, 5, 3, 6
LENGTHS = [9, 6, 1, 9, 7]
EVERY = [
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 4}),
    ("GRU", {}),
    *cell_cases.VARIANTS,
    *cell_cases.GENERAL,
    *cell_cases.NORMED,
    *cell_cases.SMALL,
]
NAMES = ["-".join((layer, *options)) for layer, options in EVERY]
cells = pytest.mark.parametrize(("layer", "options"), EVERY, ids=NAMES)
FORMATS = ("float32", "float16", "bfloat16", "int8", "int4")


def floats(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mask_of(steps=T, batch=B):
    """Row 0 begins with masked steps, row 3 has no others, row 4 none."""
    mask = (np.random.default_rng(3).random((steps, batch, 1)) < 0.6).astype(np.float32)
    mask[:2, 0], mask[2, 0], mask[:, 3], mask[:, 4] = 0, 2, 0, -1
    return mask


def kept(mask, row, steps=T):
    return np.flatnonzero(mask[:steps, row, 0])


def masked_net(rnn, *more, outputs=lambda h, m: h):
    """A net of x, a mask, and the layer's initial states."""
    x, m = tr.Input(F, name="x"), tr.Input(1, name="m")
    hx = more if len(more) > 1 else more[0] if more else None
    return tr.Net([x, m, *more], outputs(rnn(x, hx, mask=m).named("rnn"), m))


def made(layer, options, **more):
    return getattr(tr, layer)(F, H, **options, **more)


@cells
@pytest.mark.parametrize("bidirectional", [False, True])
def test_masked_steps_repeat_h_and_the_others_have_the_bits_of_their_own_sequence(
    layer, options, bidirectional
):
    rnn = made(layer, options, bidirectional=bidirectional)
    net, x, mask = masked_net(rnn), floats(T, B, F), mask_of()
    for lengths in (None, LENGTHS):
        y = net(x, mask, lengths=lengths)
        final = {name.removeprefix("rnn."): net.last_state[name] for name in net.last_state}
        size = rnn._output_size
        for row in range(B):
            steps = T if lengths is None else lengths[row]
            own = kept(mask, row, steps)
            assert not y[steps:, row].any()
            if not len(own):
                assert not y[:, row].any() and not any(part[:, row].any() for part in final.values())
                continue
            alone, state = rnn(x[own, row])
            assert np.array_equal(y[own, row], alone)
            for name, part in zip("hc", state if isinstance(state, tuple) else (state,), strict=False):
                assert np.array_equal(final[name][:, row], part)
            for t in set(range(steps)) - set(own):
                earlier, later = own[own < t], own[own > t]
                before = y[earlier[-1], row, :size] if len(earlier) else np.zeros(size, np.float32)
                assert np.array_equal(y[t, row, :size], before)
                if bidirectional:
                    after = y[later[0], row, size:] if len(later) else np.zeros(size, np.float32)
                    assert np.array_equal(y[t, row, size:], after)
        assert np.array_equal(net(x, mask, lengths=lengths, threads=3), y)


@cells
def test_streams_and_chunks_have_the_bits_of_a_call(layer, options):
    net, x, mask = masked_net(made(layer, options, num_layers=2)), floats(T, B, F), mask_of()
    y = net(x, mask)
    stream = net.stream(batch=B)
    assert np.array_equal(np.stack([stream.step(*step) for step in zip(x, mask, strict=True)]), y)
    first = net(x[:4], mask[:4])
    rest = net(x[4:], mask[4:], state=net.last_state)
    assert np.array_equal(np.concatenate([first, rest]), y)
    x[mask[..., 0] == 0] = np.nan  # what is masked is not used
    assert np.array_equal(net(x, mask), y)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("layer", ["GRU", "LSTM", "MinGRU"])
def test_formats(layer, format):
    net, x, mask = masked_net(made(layer, {})), floats(T, B, F), mask_of()
    if format != "float32":
        net = tr.quantize(net, format, {"x": x, "m": mask})
    y = net(x, mask)
    for row in range(B):
        own = kept(mask, row)
        if len(own):
            assert np.array_equal(y[own, row], net["rnn"](x[own, row])[0])


@pytest.mark.parametrize(("layer", "options"), [*EVERY[:2], *EVERY[3:4], *cell_cases.SMALL])
def test_the_oracle(layer, options):
    rnn, x, mask = made(layer, options), floats(T, B, F), mask_of()
    w = {name.removesuffix("_l0"): array.astype(np.float64) for name, array in rnn.state_dict().items()}
    y, want = masked_net(rnn)(x, mask), np.zeros((T, B, H))
    for row in range(B):
        state = (np.zeros(H),) * len(oracle.STATES[layer])
        for t in range(T):
            if mask[t, row, 0]:
                state = oracle.step(layer, w, x[t, row].astype(np.float64), state, options)
            want[t, row] = state[0]
    assert np.abs(y - want).max() < 1e-6


@cells
def test_gradients_are_those_of_the_steps_that_count(layer, options):
    """A masked step's dy is one more gradient of h: the sequence without it has it at the step before."""
    rnn = made(layer, options)
    x, m, h0, c0 = tr.Input(F), tr.Input(1), tr.Input(rnn._output_size, time=None), tr.Input(H, time=None)
    begin = [h0, c0] if rnn._cell else [h0]
    net = tr.Net([x, m, *begin], rnn(x, tuple(begin) if rnn._cell else h0, mask=m)).train()
    given, mask = floats(T, B, F), mask_of()
    starts = [0.3 * floats(B, part.frame[0], seed=8) for part in begin]
    dy = floats(T, B, rnn._output_size, seed=2)
    for lengths in (None, LENGTHS):
        net.zero_grad()
        net(given, mask, *starts, lengths=lengths)
        dx, dmask, *dstarts = net.backward(dy)
        found = net.grad_dict()
        assert not dmask.any()
        one, sums = copy.deepcopy(rnn).train(), {}
        for row in range(B):
            steps = T if lengths is None else lengths[row]
            own = kept(mask, row, steps)
            folded = np.zeros((1 + len(own), dy.shape[-1]), np.float32)
            for t in range(steps):
                folded[np.searchsorted(own, t, "right")] += dy[t, row]
            want, dstate = np.zeros((T, F), np.float32), [folded[0], *(np.zeros((2, H)))][: len(begin)]
            if len(own):
                one.zero_grad()
                hx = [start[row][np.newaxis, np.newaxis] for start in starts]
                one(given[own, row][:, np.newaxis], tuple(hx) if rnn._cell else hx[0])
                zeros = [np.zeros_like(part) for part in hx]
                back, initial = one.backward(folded[1:, np.newaxis], tuple(zeros) if rnn._cell else zeros[0])
                want[own] = back[:, 0]
                initial = initial if rnn._cell else (initial,)
                dstate = [part[0, 0] + (folded[0] if i == 0 else 0) for i, part in enumerate(initial)]
                for name, array in one.grad_dict().items():
                    sums[name] = sums.get(name, 0) + array
            assert np.abs(dx[:, row] - want).max() < 1e-5
            for got, part in zip(dstarts, dstate, strict=True):
                assert np.abs(got[row] - part).max() < 1e-5
        for name, array in sums.items():
            got = next(value for key, value in found.items() if key.endswith(name))
            assert np.abs(got - array).max() <= 2e-5 * max(1.0, np.abs(array).max()), name


def torch_reference(kind, w, x, mask, lengths, begin=None):
    """Each step of a torch cell; the state stays where the step is masked or beyond the row's end."""
    torch = pytest.importorskip("torch")
    cell = getattr(torch.nn, f"{kind}Cell")(F, H).double()
    for name, parameter in cell.named_parameters():
        parameter.data = w[f"{name}_l0"].detach()
    state = [torch.zeros(B, H, dtype=torch.float64) for _ in range(1 + (kind == "LSTM"))]
    ys = []
    for t in range(T):
        counts = torch.tensor((mask[t] != 0) & (t < np.array(lengths)[:, None]))
        inside = torch.tensor(t < np.array(lengths))[:, None]
        new = cell(x[t], tuple(state) if kind == "LSTM" else state[0])
        new = new if kind == "LSTM" else (new,)
        state = [torch.where(counts, a, b) for a, b in zip(new, state, strict=True)]
        ys.append(torch.where(inside, state[0], torch.zeros_like(state[0])))
    return cell, torch.stack(ys)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_pytorch_with_frozen_states_and_reductions(kind):
    torch = pytest.importorskip("torch")
    rnn = made(kind, {})
    reductions = (tr.LastStep(), tr.SumOverTime(), tr.MeanOverTime(), tr.MaxOverTime())
    net = masked_net(rnn, outputs=lambda h, m: [h, *(one(h, mask=m) for one in reductions)]).train()
    given, mask = floats(T, B, F), mask_of()
    ys = net(given, mask, lengths=LENGTHS)
    dys = [floats(*y.shape, seed=i) for i, y in enumerate(ys)]
    dx, dmask = net.backward(tuple(dys))
    x = torch.tensor(given.astype(np.float64), requires_grad=True)
    w = {name: torch.tensor(array.astype(np.float64)) for name, array in rnn.state_dict().items()}
    cell, y = torch_reference(kind, w, x, mask, LENGTHS)
    counts = torch.tensor((mask != 0) & (np.arange(T)[:, None] < LENGTHS)[..., None])
    number = counts.sum(0).clamp(min=1)
    some = counts.any(0)
    last = torch.stack([y[kept(mask, b, LENGTHS[b])[-1], b] if some[b] else 0 * y[0, b] for b in range(B)])
    most = torch.where(counts, y, torch.tensor(-np.inf, dtype=torch.float64)).max(0).values
    want = [y, last, (y * counts).sum(0), (y * counts).sum(0) / number, torch.where(some, most, 0.0)]
    for got, one in zip(ys, want, strict=True):
        assert np.abs(got - one.detach().numpy()).max() < 1e-5
    sum((one * torch.tensor(dy)).sum() for one, dy in zip(want, dys, strict=True)).backward()
    assert not dmask.any()
    assert np.abs(dx - x.grad.numpy()).max() < 1e-5
    for name, parameter in cell.named_parameters():
        assert np.abs(net.grad_dict()[f"rnn.{name}_l0"] - parameter.grad.numpy()).max() < 1e-4


@pytest.mark.parametrize("reduction", ["LastStep", "SumOverTime", "MeanOverTime", "MaxOverTime"])
def test_reductions_in_streams(reduction):
    x, m = tr.Input(F), tr.Input(1)
    net = tr.Net([x, m], getattr(tr, reduction)()(x, mask=m))
    given, mask = floats(T, B, F), mask_of()
    stream = net.stream(batch=B)
    for t in range(T):
        y = stream.step(given[t], mask[t])
        assert np.array_equal(y, net(given[: t + 1], mask[: t + 1]))
        for row in range(B):
            own = given[kept(mask, row, t + 1), row]
            want = {"LastStep": lambda a: a[-1], "SumOverTime": lambda a: a.sum(0),
                    "MeanOverTime": lambda a: a.mean(0), "MaxOverTime": lambda a: a.max(0)}  # fmt: skip
            assert np.abs(y[row] - (want[reduction](own) if len(own) else 0)).max() < 1e-6
    # a state that was there before stays, with its gradient, where no step counts
    net.train()
    state = {name: np.array(stream.state[name]) for name in stream.state}
    net(given, 0 * mask, state=state)
    dy = floats(B, F, seed=4)
    (dx, _), dstate = net.backward(dy, {name: np.zeros_like(array) for name, array in state.items()})
    value = next(array for name, array in dstate.items() if name.endswith("value"))
    assert not dx.any() and np.isfinite(value).all() and value.any()


@pytest.mark.parametrize("kind", ["DotProductAttention", "AdditiveAttention", "causal", "AttentionPooling"])
def test_attention_over_the_keys_that_count(kind):
    torch = pytest.importorskip("torch")
    x, m = tr.Input(4), tr.Input(1)
    if kind == "AttentionPooling":
        y = tr.AttentionPooling(4, 5, masked=True)(x, m)
    else:
        layer = tr.DotProductAttention(4, 2, is_causal=True) if kind == "causal" else getattr(tr, kind)(4)
        y = layer(x, x, x, mask=m)
    net, given, mask = tr.Net([x, m], y), floats(T, B, 4), mask_of()
    found = net(given, mask, lengths=LENGTHS)
    w = {name.rsplit(".", 1)[-1] if "key" not in name else name.rsplit(".", 2)[-1] + "_k": array
         for name, array in net.state_dict().items()}  # fmt: skip
    a = torch.tensor(given.astype(np.float64), requires_grad=True)
    pooled = kind == "AttentionPooling"
    want = torch.zeros(*found.shape, dtype=torch.float64)
    w = {name: torch.tensor(array.astype(np.float64), requires_grad=True) for name, array in w.items()}
    for b in range(B):
        for t in range(1 if pooled else LENGTHS[b]):
            own = kept(mask, b, t + 1 if kind == "causal" else LENGTHS[b])
            if not len(own):
                continue
            if pooled:
                score = torch.tanh(a[own, b] @ w["weight_k"].T + w["bias_k"]) @ w["weight"]
            elif kind == "AdditiveAttention":
                score = torch.tanh(a[t, b] + a[own, b]) @ w["weight"]
            elif kind == "causal":
                score = (a[t, b].reshape(2, 2) * a[own, b].reshape(-1, 2, 2)).sum(-1) / 2**0.5
            else:
                score = (a[own, b] @ a[t, b]) / 2
            weight = torch.softmax(score, 0)
            if kind == "causal":
                y = (weight[..., None] * a[own, b].reshape(-1, 2, 2)).sum(0).reshape(4)
            else:
                y = weight @ a[own, b]
            want[(b,) if pooled else (t, b)] = y
    assert np.abs(found - want.detach().numpy()).max() < 1e-5
    net.train()(given, mask, lengths=LENGTHS)
    dy = floats(*found.shape, seed=5)
    dx, dmask = net.backward(dy)
    (want * torch.tensor(dy)).sum().backward()
    assert not dmask.any() and np.abs(dx - a.grad.numpy()).max() < 1e-5
    for name, tensor in w.items():
        got = [g for key, g in net.grad_dict().items() if (("key" in key) == name.endswith("_k"))
               and key.endswith("." + name.removesuffix("_k"))]  # fmt: skip
        assert np.abs(got[0] - tensor.grad.numpy()).max() < 1e-5
    given[mask[..., 0] == 0] = np.nan  # what is masked is not used
    if pooled:
        assert np.array_equal(net.eval()(given, mask, lengths=LENGTHS), found)


@pytest.mark.parametrize("frame", [(3,), (1,), (2, 3), (2, 2, 2)])
def test_masking(frame):
    x = tr.Input(*frame)
    net = tr.Net(x, tr.Masking(-0.1)(x))
    given = floats(T, B, *frame)
    given[:3] = np.float32(-0.1)
    given[1, 2].flat[-1] = np.nan
    given[2, 1].flat[0] = np.nextafter(np.float32(-0.1), np.float32(0))
    want = (given != np.float32(-0.1)).reshape(T, B, -1).any(-1, keepdims=True)
    assert np.array_equal(net(given), want)
    net.train()(given)
    assert not net.backward(floats(T, B, 1)).any()
    if len(frame) == 1:
        assert np.array_equal(tr.Sequential(tr.Masking(-0.1))(given), want)


def test_a_mask_from_the_input_and_one_for_each_level():
    x = tr.Input(F)
    m = tr.Masking()(x)
    rnn = tr.LSTM(F, H, num_layers=3, bidirectional=True)
    net = tr.Net(x, [rnn(x, mask=m).named("rnn"), tr.FinalState("c", 2)(rnn(x, mask=m))])
    given = floats(T, B, F)
    given[mask_of()[..., 0] == 0] = 0
    y, c = net(given)
    own = kept(mask_of(), 0)
    alone, (_, cells) = rnn(given[own, 0])
    assert np.array_equal(y[own, 0], alone) and np.array_equal(c[0], cells[2:].reshape(-1))


def test_in_a_loop():
    """A GRU reads its own output's map: it and the loop's other layers run step by step."""
    x, m, before = tr.Input(F), tr.Input(1), tr.Feedback(2)
    rnn, line = tr.GRU(F + 2, H), tr.Linear(H, 2)
    h = rnn(tr.concat([x, before]), mask=m)
    out = tr.Tanh()(line(h))
    before.connect(out)
    net, given, mask = tr.Net([x, m], out), floats(T, B, F), mask_of()
    y, h, fed = net(given, mask), np.zeros((1, B, H), np.float32), np.zeros((B, 2), np.float32)
    for t in range(T):
        _, new = rnn(np.concatenate([given[t], fed], -1)[np.newaxis], h)
        h = np.where(mask[t] != 0, new, h)
        fed = np.tanh(line(h[0]))
        assert np.abs(y[t] - fed).max() < 1e-6


def test_values_that_the_state_begins_with():
    x, m, h0 = tr.Input(F), tr.Input(1), tr.Input(H, time=None)
    net = tr.Net([x, m, h0], tr.GRU(F, H)(x, h0, mask=m).named("rnn"))
    given, mask, h = floats(T, B, F), mask_of(), floats(B, H)
    y = net(given, mask, h)
    assert np.array_equal(y[0, 0], h[0]) and np.array_equal(y[:, 3], np.repeat(h[3:4], T, 0))
    first = net(given[:3], mask[:3], h)
    rest = net(given[3:], mask[3:], 0 * h, state=net.last_state)
    assert np.array_equal(np.concatenate([first, rest]), y)
    with pytest.raises(ValueError, match=r"got rnn\.h, which begins with a value of the net"):
        net.initial_state = {"rnn.h": h[:1]}
    plain = masked_net(tr.GRU(F, H))
    plain.initial_state = {"rnn.h": h[:1]}
    assert np.array_equal(plain(given, mask)[0, 0], h[0])
    one = tr.Net([x, m], tr.GRU(F, 1)(x, mask=m))  # where h0 has the frame of a mask
    assert one.initial_state is None
    one.learn_initial_state()


@pytest.mark.parametrize("layer", ["GRU", "LSTM", "QRNN"])
def test_files_copies_training_and_tools(tmp_path, layer):
    x = tr.Input(F, name="x")
    m = tr.Masking()(x)
    h = getattr(tr, layer)(F, H, 2)(x, mask=m).named("rnn")
    net = tr.Net(x, tr.Linear(H, 2)(tr.AttentionPooling(H, 4, masked=True)(h, m)))
    given = floats(T, B, F)
    given[mask_of()[..., 0] == 0] = 0
    y = net(given)
    net.save(tmp_path / "net.safetensors")
    loaded = tr.load(tmp_path / "net.safetensors")
    for other in (loaded, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other(given), y)
    assert "attentionpooling.attention" in repr(net.summary()) and "rnn" in net.describe()
    first, others = copy.deepcopy(net).train(), []
    for threads in (1, 2, 3):
        other = copy.deepcopy(first)
        trainer = other.trainer(
            tr.optim.Adam(other, lr=0.01), tr.MSELoss(), batch=B, steps=T, threads=threads
        )
        losses = [trainer.step(given, floats(B, 2, seed=6)) for _ in range(3)]
        others.append((losses, other.state_dict()))
    for losses, tensors in others[1:]:
        assert losses == others[0][0]
        assert all(np.array_equal(tensors[name], array) for name, array in others[0][1].items())


def test_gates_and_drift():
    x, m = tr.Input(F, name="x"), tr.Input(1, name="m")
    rnn = tr.LSTM(F, H)
    net = tr.Net([x, m], rnn(x, mask=m).named("rnn"))
    given, mask = floats(T, B, F), mask_of()
    gates = tr.inspect.gate_activations(net, {"x": given, "m": mask}).layers["rnn.l0"]
    alone = tr.inspect.gate_activations(tr.Sequential(rnn), given[kept(mask, 0), 0][:, np.newaxis])
    (alone,) = alone.layers.values()
    for name, array in gates.items():
        assert np.array_equal(array[kept(mask, 0), 0], alone[name][:, 0])
        assert name == "h" or not array[mask[..., 0] == 0].any()
    small = tr.quantize(net, "int8", {"x": given, "m": mask})
    assert tr.drift(net, small, {"x": given, "m": mask}) is not None


def test_errors_name_the_thing():
    x, m, h0 = tr.Input(F), tr.Input(1), tr.Input(H, time=None)
    rnn, given = tr.GRU(F, H), floats(T, B, F)
    with pytest.raises(tr.ShapeError, match=r"GRU: mask has frames of shape \(3,\), expected \(1,\)"):
        rnn(x, mask=x)
    with pytest.raises(ValueError, match="GRU: mask is .*one for a sequence.*, expected a value per step"):
        rnn(x, mask=tr.Input(1, time=None))
    with pytest.raises(TypeError, match=r"GRU: mask is ndarray, expected a value of a net"):
        rnn(x, mask=given)
    with pytest.raises(TypeError, match="GRU: got a mask beside an array, expected values"):
        rnn(given, mask=given)
    with pytest.raises(TypeError, match="MaxOverTime: got a mask beside an array"):
        tr.MaxOverTime()(given, mask=given)
    with pytest.raises(ValueError, match="GRU: a layer reads a value that is not on its axis of time"):
        rnn(x, mask=tr.Input(1, time="other"))
    with pytest.raises(ValueError, match="GRU: the initial state is .*, expected a value per sequence"):
        rnn(x, m)
    with pytest.raises(TypeError, match="Linear: got 2 values, expected 1$"):
        tr.Net([x, m], tr.values.applied(tr.Linear(F, 2), (x, m)))
    with pytest.raises(TypeError, match="LSTM: got 5 values, expected 1, or 3 with h0 and c0, and a mask"):
        tr.values.applied(tr.LSTM(F, H), (x, m, h0, h0, h0))
