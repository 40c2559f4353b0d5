"""Values of one rate that are due at different steps of a stream meet. Witnesses: PyTorch, whole calls."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.tracing import watch

Floats = NDArray[Any]
Model = Callable[[Any, dict[str, Any]], Any]
T, B, C = 17, 3, 4
LENGTHS = [T, 9, 13]


def floats(*shape: int) -> Floats:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def conv(name: str, size: int, x: Any, **options: Any) -> tr.Value:
    value: tr.Value = tr.TimeConv1d(x.frame[0], C, size, **{"padding": size // 2, **options})(x).named(name)
    return value


def conv_in_torch(w: dict[str, Any], name: str, x: Any, **options: Any) -> Any:
    import torch

    weight = w[f"{name}.weight"]
    options.setdefault("padding", weight.shape[2] // 2)
    return torch.nn.functional.conv1d(x.T[None], weight, w[f"{name}.bias"], **options)[0].T


def residual() -> tr.Net:
    x = tr.Input(C)
    h = conv("a", 3, x)
    return tr.Net(x, x + h)


def residual_in_torch(x: Any, w: dict[str, Any]) -> Any:
    return x + conv_in_torch(w, "a", x)


def inception() -> tr.Net:
    """Kernels of several widths, one behind another, and the input: 0, 1, 2, 3 steps late."""
    x = tr.Input(C)
    a, b = conv("a", 3, x), conv("b", 5, x)
    c = conv("c", 5, tr.Tanh()(a))
    return tr.Net(x, tr.concat([a, x, c, b * a]))


def inception_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    a, b = conv_in_torch(w, "a", x), conv_in_torch(w, "b", x)
    return torch.cat([a, x, conv_in_torch(w, "c", a.tanh()), b * a], -1)


def strided() -> tr.Net:
    """Two branches of half the rate, one of which is due a frame later; a quarter behind them."""
    x = tr.Input(C)
    a, b = conv("a", 3, x, stride=2), conv("b", 7, x, stride=2)
    return tr.Net(x, conv("c", 2, tr.where(a > 0, b, a), stride=2, padding=0))


def strided_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    a, b = (conv_in_torch(w, name, x, stride=2) for name in "ab")
    return conv_in_torch(w, "c", torch.where(a > 0, b, a), stride=2, padding=0)


def matrices() -> tr.Net:
    """Frames of two axes; windows without a lag of their own beside the input."""
    x = tr.Input(C)
    windows = tr.TimeUnfold(3, padding="causal")(x)
    later = tr.TimeUnfold(3, padding=1)(x)
    return tr.Net(x, (windows @ later.transpose(-1, -2)).sum(-1) - x)


def matrices_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    windows, later = (
        torch.nn.functional.pad(x.T, pad).unfold(1, 3, 1).swapaxes(0, 1) for pad in ((2, 0), (1, 1))
    )
    return (windows @ later.swapaxes(1, 2)).sum(-1) - x


def recurrent() -> tr.Net:
    """A GRU behind the meeting, and one value of the sequence."""
    x = tr.Input(C)
    h = tr.GRU(C, C)(x + conv("a", 5, x)).named("rnn")
    return tr.Net(x, tr.MeanOverTime()(h + x))


def recurrent_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    rnn = {name.removeprefix("rnn."): tensor for name, tensor in w.items() if name.startswith("rnn.")}
    h = torch.func.functional_call(
        torch.nn.GRU(C, C).double(), rnn, ((x + conv_in_torch(w, "a", x))[:, None],)
    )[0]
    return (h[:, 0] + x).mean(0, keepdim=True)


NETS: dict[str, tuple[Callable[[], tr.Net], Model]] = {
    "residual": (residual, residual_in_torch),
    "inception": (inception, inception_in_torch),
    "strided": (strided, strided_in_torch),
    "matrices": (matrices, matrices_in_torch),
    "recurrent": (recurrent, recurrent_in_torch),
}


@pytest.fixture(params=NETS)
def both(request: pytest.FixtureRequest) -> tuple[tr.Net, Model]:
    make, model = NETS[request.param]
    tr.manual_seed(3)
    return make(), model


def test_outputs_and_gradients_are_pytorchs(both: tuple[tr.Net, Model]) -> None:
    torch = pytest.importorskip("torch")
    net, model = both
    x = floats(T, B, C)
    w = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = [model(given[:end, b], w) for b, end in enumerate(LENGTHS)]
    y = net(x, lengths=LENGTHS)
    net.train()
    taped, once = net(x, lengths=LENGTHS), y.ndim == 2
    y, taped, dy = (
        (y[np.newaxis], taped[np.newaxis], floats(1, *y.shape)) if once else (y, taped, floats(*y.shape))
    )
    for b, one in enumerate(wanted):
        assert np.array_equal(taped[: len(one), b], y[: len(one), b])
        np.testing.assert_allclose(y[: len(one), b], one.detach().numpy(), atol=3e-6)
        dy[len(one) :, b] = 0
    dx = net.backward(dy[0] if once else dy)
    sum((one * torch.from_numpy(dy[: len(one), b])).sum() for b, one in enumerate(wanted)).backward()
    pairs = {"x": (dx, given.grad), **{name: (d, w[name].grad) for name, d in net.grad_dict().items()}}
    for name, (ours, right) in pairs.items():
        assert np.abs(ours - right.numpy()).max() < 2e-5 * np.abs(right.numpy()).max(), name


def test_a_stream_has_the_bits_of_the_whole(both: tuple[tr.Net, Model]) -> None:
    net, _ = both
    x = floats(T, B, C)
    whole = net(x)
    for threads in (1, 2):
        assert np.array_equal(net(x, threads=threads), whole)
        for chunk in (1, 2, 5, T):
            stream = net.stream(batch=B, threads=threads)
            parts = [stream.run(x[at : at + chunk], end=at + chunk >= T) for at in range(0, T, chunk)]
            assert np.array_equal(parts[-1] if whole.ndim == 2 else np.concatenate(parts), whole)


def test_files_and_formats(both: tuple[tr.Net, Model], tmp_path: Path) -> None:
    net, _ = both
    x = floats(T, B, C)
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert repr(other) == repr(net) and other.describe() == net.describe()
        assert np.array_equal(other(x), net(x))
    if net.formats:
        assert np.abs(tr.quantize(net, "float16")(x) - net(x)).max() < 0.05


def test_drift_calibration_and_gates_watch_graphs_of_several_rates(both: tuple[tr.Net, Model]) -> None:
    net, _ = both
    x = floats(60, B, C)
    seen = list(watch(net, x))
    assert len(seen) == 1  # whole sequences
    assert np.array_equal(seen[0][-1].y, net(x))
    if not net.formats:
        return
    plain, small = tr.quantize(net, "int4"), tr.quantize(net, "int4", calibration=[x])
    before, after = (tr.drift(net, other, x).parts["output"].rms.mean() for other in (plain, small))
    assert 0 < before < 0.5 and 0 < after < 0.5
    if "rnn.l0" not in net.formats:
        assert after <= before
    else:
        assert tr.inspect.gate_activations(net, x).layers["rnn.l0"]["z"].shape == (60, B, C)


def test_the_wait_is_told() -> None:
    text = residual().describe()
    assert "a frame for every step of 'time', 1 step after it" in text
    assert "Frames that wait: align by 1." in text
    assert "It may stream" in text
    stream = residual().stream()
    assert [stream.step(frame) is None for frame in floats(4, C)] == [True, False, False, False]
    x = tr.Input(C)
    behind = conv("c", 3, conv("b", 3, x))
    assert behind.time == conv("d", 5, x).time == "time[n+2|2]"
    assert tr.Net(x, behind + conv("d", 5, x)).describe().count("wait") == 0


def test_align_in_a_chain_and_in_frames_of_three_axes() -> None:
    x = floats(T, B, 2, 3, 2)
    entry = tr.Input(2, 3, 2)
    for steps in (0, 1, 4):
        net = tr.Net(entry, tr.Align(steps)(entry))
        assert np.array_equal(net(x), x)
        stream = net.stream(batch=B)
        early = stream.run(x)
        assert np.array_equal(early, x[: T - steps])
        kept = net.stream(batch=B)
        kept.state = {name: stream.state[name] for name in stream.state}
        assert np.array_equal(kept.run(x[:2], end=True), stream.run(x[:2], end=True))
    chain = tr.Sequential(tr.Align(2), tr.GRU(C, 3))
    assert np.array_equal(
        chain(x[..., 0, :2, :].reshape(T, B, C)), chain[1](x[..., 0, :2, :].reshape(T, B, C))[0]
    )


def test_a_feedback_may_be_as_late() -> None:
    """A loop on the axis that a layer which looks ahead has made."""
    x = tr.Input(C)
    a = conv("a", 3, x)
    before = tr.Feedback(C, time=a.time)
    h = tr.Tanh()(tr.Linear(2 * C, C)(tr.concat([a, before])))
    before.connect(h)
    net, given = tr.Net(x, h + x), floats(T, B, C)
    rows = net.summary().rows
    assert [row[4] for row in rows] == ["time"] + ["time[n+1|1]"] * (len(rows) - 1)
    stream = net.stream(batch=B)
    assert np.array_equal(
        np.concatenate([stream.run(given[:6]), stream.run(given[6:], end=True)]), net(given)
    )


def test_what_cannot_meet() -> None:
    x = tr.Input(C)
    with pytest.raises(
        ValueError,
        match=r"Add: got <Value of Input: .*, a frame for every step of 'time', with it, and <Value of a: "
        ".*, a frame for every 2 steps of 'time', 1 step after the first of them, expected one rate: let a",
    ):
        x + conv("a", 3, x, stride=2)
    with pytest.raises(ValueError, match="expected as many frames of both: give the layers padding"):
        tr.concat([conv("a", 3, x, padding=0), x])
    with pytest.raises(ValueError, match="expected frames that are due at the same steps: give one of"):
        conv("a", 3, x, stride=2) * conv("b", 5, x, stride=2)
    with pytest.raises(ValueError, match="Add: a layer reads a value that is not on its axis of time"):
        x + conv("a", 3, tr.Input(C, time="other"))
    with pytest.raises(ValueError, match="Align: steps is -1, expected"):
        tr.Align(-1)


@pytest.mark.parametrize("seed", range(40))
def test_random_nets_of_look_ahead(seed: int) -> None:
    """Convolutions that look ahead, and sums of any two values, against PyTorch and as a stream."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(seed)
    tr.manual_seed(seed)
    x, given = tr.Input(C), floats(T, 2, C)
    values: list[tr.Value] = [x]
    theirs = [[torch.from_numpy(given[:, b].astype(np.float64)) for b in range(2)]]
    for i in range(int(random.integers(2, 8))):
        a, b = (int(random.integers(len(values))) for _ in range(2))
        if random.random() < 0.5:
            reach = int(random.integers(1, 6))
            pad = int(random.integers(0, reach + 1))
            layer = tr.TimeConv1d(C, C, reach + 1, padding=(reach - pad, pad))
            values.append(layer(values[a]).named(f"c{i}"))
            weights = {f"c.{name}": torch.tensor(w).double() for name, w in layer.state_dict().items()}
            padded = [torch.nn.functional.pad(one.T, (reach - pad, pad)).T for one in theirs[a]]
            theirs.append([conv_in_torch(weights, "c", one, padding=0) for one in padded])
        else:
            values.append((values[a] + values[b]) / 2)
            theirs.append([(one + other) / 2 for one, other in zip(theirs[a], theirs[b], strict=True)])
    net = tr.Net(x, values[-1])
    y = net(given)
    for b, one in enumerate(theirs[-1]):
        np.testing.assert_allclose(y[:, b], one.numpy(), atol=1e-5)
    stream, at, parts = net.stream(batch=2), 0, []
    while at < T:
        end = at + int(random.integers(1, 6))
        parts.append(stream.run(given[at:end], end=end >= T))
        at = end
    assert np.array_equal(np.concatenate(parts), y)
