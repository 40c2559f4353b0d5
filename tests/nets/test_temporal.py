"""Layers over time, in the core and in nets. Witnesses: NumPy in float64, and PyTorch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn import _core, _training
from tinyrnn.arrays import Feed
from tinyrnn.plans import Cores

Floats = NDArray[Any]
Reads = tuple[int, ...]


def cores_of(layers: list[_core.Layer], numbers: int, axis: int = 1) -> Cores:
    """Core layers in a chain, of frames per step or per sequence."""
    cores = Cores([((numbers,), axis)])
    for layer in layers:
        cores.append(layer)
    cores.outputs = (cores.value,)
    return cores


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def floats(*shape: int) -> Floats:
    return rng().standard_normal(shape).astype(np.float32)


def state_of(net: _core.Plan | _training.Tape) -> Floats:
    return np.asarray(_core.aligned_zeros(net.state_bytes))


def output_shape(plan: _core.Plan | _training.Tape, steps: int, batch: int) -> Reads:
    (frame, axis) = plan.outputs[0]
    return (*((steps,) if axis else ()), batch, int(np.prod(frame)))


def run(
    cores: Cores, x: Floats, steps: int, chunk: int, block: int = 64, lengths: Any = None
) -> tuple[Floats, Floats]:
    """The output, per step or after the last chunk, and the final state."""
    batch = x.shape[1] if cores.inputs[0][1] else x.shape[0]
    plan = _core.Plan(cores, (), batch, block).ready()
    state = state_of(plan)
    ys = []
    for start in range(0, steps, chunk):
        count = min(chunk, steps - start)
        part = np.ascontiguousarray(x[start : start + count] if cores.inputs[0][1] else x)
        y = np.full(output_shape(plan, count, batch), np.nan, np.float32)
        plan.run(part, y, state, count, lengths)
        ys.append(y)
    return (np.concatenate(ys) if plan.outputs[0][1] else ys[-1]), state


def train(
    cores: Cores,
    x: Floats,
    dy: Floats,
    lengths: Any = None,
    threads: int = 1,
    state: Any = None,
    dstate: Any = None,
) -> tuple[Floats, ...]:
    """(y, dx, the final state, the gradient of the initial one); the layers have their tensors' gradients."""
    per_step = cores.inputs[0][1] > 0
    steps, batch = (x.shape[0], x.shape[1]) if per_step else (dy.shape[0], x.shape[0])
    for core in cores:
        if core.has_gradients:
            core.gradients()[:] = 0
    tape = _training.Tape(cores, (), batch, steps, threads)
    final = state_of(tape)
    back = np.zeros_like(final)
    if state is not None:
        final[:] = state
    if dstate is not None:
        back[:] = dstate
    trained = [(1 << len(core.params)) - 1 for core in cores]
    feed = Feed((np.ascontiguousarray(x),), ((batch, 1),), (steps,), (lengths,))
    (y,) = tape.forward(feed, final, 1, trained)
    (dx,) = tape.backward((np.ascontiguousarray(dy),), back)
    return y, dx.reshape(x.shape), final, back


REDUCTIONS = ["last_step", "sum_steps", "mean_steps", "max_steps"]
LENGTHS = np.array([9, 1, 5, 8, 3], np.int32)


def reduction(kind: str, numbers: int) -> Cores:
    return cores_of([_core.Layer(kind, planes=1, rows=1, cols=numbers)], numbers)


def reduced(kind: str, x: Floats, lengths: Any) -> Floats:
    rows = [x[: lengths[b], b].astype(np.float64) for b in range(x.shape[1])]
    found = {
        "last_step": lambda row: row[-1],
        "sum_steps": lambda row: row.sum(0),
        "mean_steps": lambda row: row.mean(0),
        "max_steps": lambda row: row.max(0),
    }[kind]
    return np.stack([found(row) for row in rows])


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_reductions(kind: str, lengths: Any) -> None:
    x = floats(9, 5, 19)
    if lengths is not None:
        for b, length in enumerate(lengths):
            x[length:, b] = np.nan
    whole, state = run(reduction(kind, 19), x, 9, 9, lengths=lengths)
    full = np.full(5, 9) if lengths is None else lengths
    np.testing.assert_allclose(whole, reduced(kind, x, full), rtol=1e-6, atol=1e-6)
    blocks, after = run(reduction(kind, 19), x, 9, 9, block=2, lengths=lengths)
    assert whole.tobytes() == blocks.tobytes() and state.tobytes() == after.tobytes()
    if lengths is None:
        for chunk in (1, 2, 4):
            part, after = run(reduction(kind, 19), x, 9, chunk)
            assert whole.tobytes() == part.tobytes() and state.tobytes() == after.tobytes()


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions_are_a_streams_so_far(kind: str) -> None:
    x = floats(6, 2, 3)
    for steps in range(1, 7):
        so_far, _ = run(reduction(kind, 3), x, steps, 1)
        np.testing.assert_allclose(so_far, reduced(kind, x, np.full(2, steps)), rtol=1e-6, atol=1e-6)


def test_maxima_of_negative_numbers_and_nan() -> None:
    x = -np.abs(floats(5, 1, 4)) - 1
    x[2, 0, 1] = np.nan
    y, _ = run(reduction("max_steps", 4), x, 5, 2)
    np.testing.assert_array_equal(y, x.max(0))


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_gradients_of_reductions(kind: str, lengths: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.round(floats(9, 5, 7))  # with numbers that are equal
    dy = floats(5, 7)
    y, dx, _, _ = train(reduction(kind, 7), x, dy, lengths)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    full = [9] * 5 if lengths is None else lengths
    rows = [leaf[: full[b], b] for b in range(5)]
    found = {
        "last_step": lambda row: row[-1],
        "sum_steps": lambda row: row.sum(0),
        "mean_steps": lambda row: row.mean(0),
        "max_steps": lambda row: row.max(0).values,
    }[kind]
    want = torch.stack([found(row) for row in rows])
    want.backward(torch.tensor(dy, dtype=torch.float64))
    np.testing.assert_allclose(y.reshape(5, 7), want.detach().numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-6, atol=1e-6)
    run_y, _ = run(reduction(kind, 7), x, 9, 9, lengths=lengths)
    assert run_y.tobytes() == y.tobytes()
    again = train(reduction(kind, 7), x, dy, lengths, threads=3)
    assert again[0].tobytes() == y.tobytes() and again[1].tobytes() == dx.tobytes()


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_gradients_over_two_passes(kind: str) -> None:
    """The gradient of the carried state joins two passes to the gradient of one."""
    x, dy = np.round(floats(8, 3, 5)), floats(3, 5)
    _, whole, _, _ = train(reduction(kind, 5), x, dy)
    plan = reduction(kind, 5)
    _, middle = run(plan, x, 3, 3)
    _, late, _, back = train(plan, x[3:], dy, state=middle)
    _, early, _, _ = train(plan, x[:3], np.zeros_like(dy), dstate=back)
    np.testing.assert_allclose(np.concatenate([early, late]), whole, rtol=1e-6, atol=1e-7)


# ---- repeat -------------------------------------------------------------------------------------------


def repeated(numbers: int) -> Cores:
    return cores_of([_core.Layer("repeat")], numbers, 0)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_repeat(lengths: Any) -> None:
    x, dy = floats(5, 6), floats(9, 5, 6)
    y, _ = run(repeated(6), x, 9, 9, block=4, lengths=lengths)
    real = np.arange(9)[:, None] < (np.full(5, 9) if lengths is None else lengths)
    np.testing.assert_array_equal(y, np.where(real[:, :, None], x, 0))
    taped, dx, _, _ = train(repeated(6), x, dy, lengths)
    assert taped.reshape(y.shape).tobytes() == y.tobytes()
    np.testing.assert_allclose(
        dx, np.where(real[:, :, None], dy.astype(float), 0).sum(0), rtol=1e-6, atol=1e-6
    )
    assert train(repeated(6), x, dy, lengths, threads=2)[1].tobytes() == dx.tobytes()


# ---- final_state --------------------------------------------------------------------------------------


def recurrent(kind: str, projected: int, both: bool, state: int) -> Cores:
    directions, size = 1 + both, projected or 6
    core = _core.Layer(
        kind, input_size=4, hidden_size=6, proj_size=projected, bias=1, bidirectional=int(both)
    )
    core.initialise = None
    numbers = size + (6 if kind == "lstm" else 0)
    start, wanted = ((0, size), (size, 6))[state]
    final = _core.Layer("final_state", directions=directions, numbers=numbers, start=start, size=wanted)
    return cores_of([core, final], 4)


def fill(core: _core.Layer, seed: int = 3) -> list[Floats]:
    """Fill a layer's tensors with numbers, and return these."""
    dice = np.random.default_rng(seed)
    tensors = []
    for i, (_, shape) in enumerate(core.params):
        tensor = (dice.standard_normal(shape) / 2).astype(np.float32)
        core.set(i, tensor)
        tensors.append(tensor)
    return tensors


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("kind", "projected", "state"), [("gru", 0, 0), ("lstm", 0, 1), ("lstm", 3, 0), ("lstm", 3, 1)]
)
def test_final_state(kind: str, projected: int, state: int, both: bool, lengths: Any) -> None:
    torch = pytest.importorskip("torch")
    cores = recurrent(kind, projected, both, state)
    tensors = fill(cores[0])
    options = {"proj_size": projected} if projected else {}
    module = getattr(torch.nn, kind.upper())(4, 6, bidirectional=both, **options).double()
    for parameter, tensor in zip(module.parameters(), tensors, strict=True):
        parameter.data = torch.tensor(tensor, dtype=torch.float64)
    x = floats(9, 5, 4)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        leaf, [9] * 5 if lengths is None else lengths.tolist(), enforce_sorted=False
    )
    final = module(packed)[1]
    want = (final[state] if kind == "lstm" else final).transpose(0, 1).reshape(5, -1)  # (B, D * size)
    y, _ = run(cores, x, 9, 9, lengths=lengths)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-5, atol=1e-6)
    dy = floats(*y.shape)
    want.backward(torch.tensor(dy, dtype=torch.float64))
    taped, dx, _, _ = train(cores, x, dy, lengths)
    assert taped.tobytes() == y.tobytes()
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-4, atol=1e-6)
    packed_gradients = cores[0].gradients().copy()
    for i, parameter in enumerate(module.parameters()):
        got = cores[0].unpack_from(i, packed_gradients)
        np.testing.assert_allclose(got, parameter.grad.numpy(), rtol=1e-4, atol=1e-5)
    assert train(cores, x, dy, lengths, threads=2)[1].tobytes() == dx.tobytes()
    if not both and lengths is None:
        for chunk in (1, 4):
            assert run(cores, x, 9, chunk)[0].tobytes() == y.tobytes()


def test_final_state_needs_a_recurrent_layer() -> None:
    final = _core.Layer("final_state", directions=1, numbers=6, start=0, size=6)
    linear = _core.Layer("linear", in_features=6, out_features=6)
    for cores in (cores_of([final], 6), cores_of([linear, final], 6)):
        with pytest.raises(ValueError, match="values do not fit together"):
            _core.Plan(cores, (), 1, 4)
    gru = _core.Layer("gru", input_size=6, hidden_size=6)
    for wrong in (
        {"directions": 2, "numbers": 6, "size": 6},
        {"directions": 1, "numbers": 12, "size": 6},
        {"directions": 1, "numbers": 6, "size": 5},
        {"directions": 1, "numbers": 6, "start": 1, "size": 5},
    ):
        with pytest.raises(ValueError, match="cannot read the frames"):
            _core.Plan(cores_of([gru, _core.Layer("final_state", **wrong)], 6), (), 1, 4)


# ---- conv_steps ---------------------------------------------------------------------------------------

# in, out, taps, dilation, groups, bias
CONVS = [
    (4, 17, 3, 1, 1, 1),
    (3, 65, 5, 1, 1, 1),
    (2, 16, 4, 3, 1, 0),
    (6, 51, 3, 2, 3, 1),
    (20, 20, 3, 1, 20, 1),
    (8, 12, 2, 7, 4, 0),
    (17, 16, 1, 1, 1, 1),
]


def conv(given: tuple[int, ...]) -> Cores:
    names = ("in_channels", "out_channels", "kernel_size", "dilation", "groups", "bias")
    core = _core.Layer("conv_steps", stride=1, **dict(zip(names, given, strict=True)))
    return cores_of([core], given[0])


def convolved(given: tuple[int, ...], x: Floats, tensors: list[Floats]) -> Floats:
    """In float64, step by step."""
    channels, out, taps, dilation, groups, bias = given
    y = np.zeros((x.shape[0], x.shape[1], out))
    weight = tensors[0].astype(float)
    for t in range(x.shape[0]):
        for group in range(groups):
            units = slice(group * out // groups, (group + 1) * out // groups)
            read = slice(group * channels // groups, (group + 1) * channels // groups)
            for tap in range(taps):
                at = t - (taps - 1 - tap) * dilation
                if at >= 0:
                    y[t, :, units] += x[at, :, read].astype(float) @ weight[units, :, tap].T
    return y + tensors[1] if bias else y


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("given", CONVS)
def test_conv_steps(given: tuple[int, ...], lengths: Any) -> None:
    cores = conv(given)
    tensors = fill(cores[0])
    x = floats(9, 5, given[0])
    want = convolved(given, x, tensors)
    if lengths is not None:
        for b, length in enumerate(lengths):
            x[length:, b] = np.nan
            want[length:, b] = 0
    whole, state = run(cores, x, 9, 9, lengths=lengths)
    np.testing.assert_allclose(whole, want, rtol=1e-5, atol=1e-5)
    for block in (1, 2, 4):
        y, after = run(cores, x, 9, 9, block=block, lengths=lengths)
        assert y.tobytes() == whole.tobytes() and after.tobytes() == state.tobytes()
    for chunk in (1, 2, 4) if lengths is None else ():
        y, after = run(cores, x, 9, chunk)
        assert y.tobytes() == whole.tobytes() and after.tobytes() == state.tobytes()
    for b in range(5):  # alone
        length = 9 if lengths is None else int(lengths[b])
        y, _ = run(cores, x[:length, b : b + 1], length, length)
        assert y.tobytes() == whole[:length, b : b + 1].tobytes()


@pytest.mark.parametrize("given", CONVS)
def test_conv_steps_on_every_instruction_set(given: tuple[int, ...]) -> None:
    cores = conv(given)
    fill(cores[0])
    x = floats(12, 7, given[0])
    dy = floats(12, 7, given[1])
    before, seen = _core.isa(), set()
    try:
        for name in _core.available_isas():
            _core.set_isa(name)
            if name not in {"scalar", "sse2"}:
                y, _ = run(cores, x, 12, 12)
                taped, dx, _, _ = train(cores, x, dy)
                seen.add((y.tobytes(), taped.tobytes(), dx.tobytes(), cores[0].gradients().tobytes()))
    finally:
        _core.set_isa(before)
    assert len(seen) == 1


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("given", CONVS)
def test_gradients_of_conv_steps(given: tuple[int, ...], lengths: Any) -> None:
    torch = pytest.importorskip("torch")
    channels, out, taps, dilation, groups, _ = given
    cores = conv(given)
    tensors = fill(cores[0])
    x, dy = floats(9, 5, channels), floats(9, 5, out)
    real = np.arange(9)[:, None, None] < (np.full(5, 9) if lengths is None else lengths)[:, None]
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    weights = [torch.tensor(tensor, dtype=torch.float64, requires_grad=True) for tensor in tensors]
    padded = torch.nn.functional.pad(leaf.permute(1, 2, 0), ((taps - 1) * dilation, 0))
    want = torch.nn.functional.conv1d(padded, *weights, dilation=dilation, groups=groups).permute(2, 0, 1)
    (want * torch.tensor(real)).backward(torch.tensor(dy, dtype=torch.float64))
    y, dx, _, _ = train(cores, x, dy, lengths)
    np.testing.assert_allclose(y.reshape(9, 5, out), want.detach().numpy() * real, rtol=1e-5, atol=1e-5)
    assert y.tobytes() == run(cores, x, 9, 9, lengths=lengths)[0].tobytes()
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-4, atol=1e-5)
    packed = cores[0].gradients().copy()
    for i, weight in enumerate(weights):
        np.testing.assert_allclose(cores[0].unpack_from(i, packed), weight.grad.numpy(), rtol=1e-4, atol=1e-4)
    for threads in (2, 3):
        again = train(cores, x, dy, lengths, threads=threads)
        assert again[0].tobytes() == y.tobytes() and again[1].tobytes() == dx.tobytes()
        assert cores[0].gradients().tobytes() == packed.tobytes()


@pytest.mark.parametrize("given", CONVS)
@pytest.mark.parametrize("cut", [1, 4])
def test_gradients_of_conv_steps_over_two_passes(given: tuple[int, ...], cut: int) -> None:
    cores = conv(given)
    fill(cores[0])
    x, dy = floats(9, 3, given[0]), floats(9, 3, given[1])
    y, whole, final, _ = train(cores, x, dy)
    first, _, middle, _ = train(cores, x[:cut], dy[:cut])
    second, late, after, back = train(cores, x[cut:], dy[cut:], state=middle)
    _, early, _, _ = train(cores, x[:cut], dy[:cut], dstate=back)
    assert np.concatenate([first, second]).tobytes() == y.tobytes() and after.tobytes() == final.tobytes()
    assert np.concatenate([early, late]).tobytes() == whole.tobytes()


@pytest.mark.parametrize("format", ["float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("given", CONVS)
def test_conv_steps_in_smaller_formats(given: tuple[int, ...], format: str) -> None:
    """The bits of Conv1d, which reads the same frames as one of (channels, length)."""
    tr.manual_seed(1)
    channels, out, taps, dilation, groups, bias = given
    options = {"dilation": dilation, "groups": groups, "bias": bool(bias)}
    over_time = tr.TimeConv1d(channels, out, taps, **options)
    in_frame = tr.Conv1d(channels, out, taps, **options)
    in_frame.load_state_dict(over_time.state_dict())
    small, other = tr.quantize(over_time, format), tr.quantize(in_frame, format)
    before = (taps - 1) * dilation
    x = floats(9, 2, channels)
    padded = np.concatenate([np.zeros((before, 2, channels), np.float32), x])
    want = other(np.ascontiguousarray(padded.transpose(1, 2, 0))).transpose(2, 0, 1)
    got = small(x)
    assert np.array_equal(got, want)
    stream = small.stream(batch=2)
    assert np.array_equal(np.stack([stream.step(frame) for frame in x]), got)


# ---- in nets ------------------------------------------------------------------------------------------


def tcn() -> tr.Net:
    x = tr.Input(8)
    a = tr.ReLU()(tr.TimeConv1d(8, 12, 3, dilation=2)(x).named("a"))
    b = tr.TimeConv1d(12, 12, 2, groups=12, bias=False)(a).named("b")
    return tr.Net(x, tr.Linear(12, 5)(a + b).named("head"))


def pooled() -> tr.Net:
    x = tr.Input(8)
    h = tr.LSTM(8, 6)(x).named("rnn")
    parts = [tr.FinalState()(h), tr.FinalState("c")(h), tr.LastStep()(h), tr.MeanOverTime()(x)]
    parts += [tr.MaxOverTime()(h), tr.SumOverTime()(x)]
    return tr.Net(x, tr.Linear(40, 5)(tr.concat(parts)).named("head"))


def centred() -> tr.Net:
    x = tr.Input(8)
    return tr.Net(x, tr.Linear(8, 5)(x - tr.Repeat()(tr.MeanOverTime()(x), x)).named("head"))


def fed_back() -> tr.Net:
    x, before = tr.Input(8), tr.Feedback(4)
    h = tr.TimeConv1d(12, 4, 3, dilation=2)(tr.concat([x, before])).named("a")
    before.connect(tr.Tanh()(h))
    return tr.Net(x, tr.Linear(4, 5)(h).named("head"))


def linear(x: Any, weights: Any, name: str) -> Any:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def conv_in_torch(x: Any, weights: Any, name: str, dilation: int = 1, groups: int = 1) -> Any:
    import torch

    weight = weights[f"{name}.weight"]
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), ((weight.shape[2] - 1) * dilation, 0))
    bias = weights.get(f"{name}.bias")
    return torch.nn.functional.conv1d(padded, weight, bias, dilation=dilation, groups=groups).permute(2, 0, 1)


def tcn_in_torch(x: Any, weights: Any) -> Any:
    a = conv_in_torch(x, weights, "a", 2).relu()
    return linear(a + conv_in_torch(a, weights, "b", groups=12), weights, "head")


def pooled_in_torch(x: Any, weights: Any) -> Any:
    import torch

    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    module = torch.nn.LSTM(8, 6).double()
    y, (h, c) = torch.func.functional_call(module, {name: weights[f"rnn.{name}"] for name in names}, (x,))
    parts = [h[0], c[0], y[-1], x.mean(0), y.max(0).values, x.sum(0)]
    return linear(torch.cat(parts, -1), weights, "head")


def centred_in_torch(x: Any, weights: Any) -> Any:
    return linear(x - x.mean(0), weights, "head")


def fed_back_in_torch(x: Any, weights: Any) -> Any:
    import torch

    seen: list[Any] = []
    outputs: list[Any] = []
    for frame in x:
        before = outputs[-1].tanh() if outputs else torch.zeros(frame.shape[0], 4).double()
        seen.append(torch.cat([frame, before], -1))
        outputs.append(conv_in_torch(torch.stack(seen), weights, "a", 2)[-1])
    return linear(torch.stack(outputs), weights, "head")


NETS: dict[str, tuple[Callable[[], tr.Net], Callable[..., Any]]] = {
    "tcn": (tcn, tcn_in_torch),
    "pooled": (pooled, pooled_in_torch),
    "centred": (centred, centred_in_torch),
    "fed back": (fed_back, fed_back_in_torch),
}


@pytest.fixture(params=NETS)
def both(request: pytest.FixtureRequest) -> tuple[tr.Net, Callable[..., Any]]:
    make, model = NETS[request.param]
    tr.manual_seed(3)
    return make(), model


def test_nets_are_torchs(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    torch = pytest.importorskip("torch")
    net, model = both
    x = floats(9, 3, 8)
    weights = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = model(theirs, weights)
    dy = floats(*wanted.shape)
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    net.train()
    assert np.abs(net(x) - wanted.detach().numpy()).max() < 5e-6
    dx = net.backward(dy)
    pairs = {"x": (dx, theirs.grad)}
    pairs |= {name: (gradient, weights[name].grad) for name, gradient in net.grad_dict().items()}
    for name, (ours, right) in pairs.items():
        assert np.abs(ours - right.numpy()).max() < 2e-5 * np.abs(right.numpy()).max(), name


@pytest.mark.parametrize("isa", tr.available_isas())
def test_bits_of_nets_do_not_depend_on_the_way(both: tuple[tr.Net, Callable[..., Any]], isa: str) -> None:
    net, model = both
    tr.set_isa(isa)
    x = floats(9, 3, 8)
    lengths = [9, 4, 1]
    whole, cut = net(x), net(x, lengths=lengths)
    for threads in (2, 3):
        assert np.array_equal(net(x, threads=threads), whole)
        assert np.array_equal(net(x, threads=threads, lengths=lengths), cut)
    for row, end in enumerate(lengths):
        assert np.array_equal(net(x[:, row]), whole[row] if model is pooled_in_torch else whole[:, row])
        alone = net(x[:end, row])
        assert np.array_equal(alone, cut[row] if model is pooled_in_torch else cut[:end, row])
    if model is centred_in_torch:  # needs the full sequence
        return
    stream = net.stream(batch=3)
    steps = [stream.step(frame).copy() for frame in x]
    assert np.array_equal(steps[-1] if model is pooled_in_torch else np.stack(steps), whole)
    stream.reset()
    parts = [stream.run(x[:4]).copy(), stream.run(x[4:]).copy()]
    assert np.array_equal(parts[-1] if model is pooled_in_torch else np.concatenate(parts), whole)
    first = net(x[:5])
    second = net(x[5:], state=net.last_state)
    assert np.array_equal(second if model is pooled_in_torch else np.concatenate([first, second]), whole)


def test_gradients_of_nets_do_not_depend_on_threads(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, model = both
    net.train()
    x = floats(9, 3, 8)
    dy = floats(3, 5) if model is pooled_in_torch else floats(9, 3, 5)
    found = []
    for threads in (1, 2, 3):
        net.zero_grad()
        net(x, threads=threads, lengths=[9, 5, 2])
        found.append({"x": net.backward(dy), **net.grad_dict()})
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in found[0])
    for row, end in enumerate([9, 5, 2]):  # alone, and as short as it is
        net(x[:end, row])
        alone = net.backward(dy[row] if model is pooled_in_torch else dy[:end, row])
        assert np.array_equal(alone, found[0]["x"][:end, row])
        if model is not centred_in_torch:  # arithmetic goes on beyond the end
            assert not found[0]["x"][end:, row].any()


def test_files_copies_and_pickles(both: tuple[tr.Net, Callable[..., Any]], tmp_path: Path) -> None:
    net, _ = both
    x = floats(9, 3, 8)
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(other) == repr(net)
        assert np.array_equal(other(x), net(x))


def test_a_trainer_trains(both: tuple[tr.Net, Callable[..., Any]]) -> None:
    net, model = both
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.MSELoss(), batch=3, steps=9)
    x, y = floats(9, 3, 8), floats(3, 5) if model is pooled_in_torch else floats(9, 3, 5)
    losses = [trainer.step(x, y) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]


def test_chains() -> None:
    tr.manual_seed(2)
    x = floats(9, 3, 8)
    net = tr.Sequential(tr.TimeConv1d(8, 6, 3), tr.ReLU(), tr.GRU(6, 4, bidirectional=True), tr.FinalState())
    forwards = net[2](net[1](net[0](x)))[1]
    assert np.array_equal(net(x), np.concatenate(list(forwards), -1))
    for layer, wanted in (
        (tr.LastStep(), x[-1]),
        (tr.SumOverTime(), x.sum(0)),
        (tr.MeanOverTime(), x.mean(0)),
        (tr.MaxOverTime(), x.max(0)),
    ):
        assert np.abs(layer(x) - wanted).max() < 1e-6
        assert np.abs(tr.Sequential(tr.Linear(8, 2), layer)(x).shape == np.array((3, 2))).all()


def test_weights_come_from_torch() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Conv1d(6, 9, 4, dilation=2, groups=3)
    layer = tr.TimeConv1d.from_state_dict(module.state_dict(), dilation=2, groups=3)
    x = floats(9, 2, 6)
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.tensor(x).permute(1, 2, 0), (6, 0))
        wanted = module(padded).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-5, atol=1e-6)
    assert layer.last_state["past"].shape == (6, 2, 6)


def test_what_cannot_be() -> None:
    x = tr.Input(6)
    with pytest.raises(TypeError, match="expected what a recurrent layer writes"):
        tr.FinalState()(tr.Linear(6, 6)(x))
    with pytest.raises(TypeError, match="expected the value of a recurrent layer"):
        tr.FinalState()(x)
    with pytest.raises(ValueError, match="got state='c' of a layer of type gru"):
        tr.FinalState("c")(tr.GRU(6, 4)(x))
    with pytest.raises(tr.ShapeError, match=r"TimeConv1d: got frames of shape \(6,\)"):
        tr.TimeConv1d(5, 4, 3)(x)
    with pytest.raises(ValueError, match="in_channels is 5, expected a multiple of groups, 2"):
        tr.TimeConv1d(5, 4, 3, groups=2)
    with pytest.raises(TypeError, match="Repeat: got 1 values, expected 2 values"):
        tr.Repeat()(tr.LastStep()(x))
    with pytest.raises(ValueError, match="not on its axis of time"):
        tr.LastStep()(tr.Input(6, time=None))
