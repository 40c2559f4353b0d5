"""Windows and convolutions over time with rates of their own. Witnesses: PyTorch, and whole calls."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.tracing import watch

Floats = NDArray[Any]

# (kernel_size, stride, padding, dilation, groups), padding before and after
CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"kernel_size": 3, "stride": 2, "padding": 1}, (1, 1)),
    ({"kernel_size": 5, "stride": 1, "padding": 2}, (2, 2)),
    ({"kernel_size": 4, "stride": 3, "padding": 0, "groups": 2}, (0, 0)),
    ({"kernel_size": 3, "stride": 2, "padding": (2, 0), "dilation": 2}, (2, 0)),
    ({"kernel_size": 4, "padding": "same"}, (1, 2)),
    ({"kernel_size": 3, "stride": 2, "padding": "causal"}, (2, 0)),
    ({"kernel_size": 2, "stride": 2, "padding": "valid"}, (0, 0)),
    ({"kernel_size": 1, "stride": 3, "padding": 0, "bias": False}, (0, 0)),
]
T, B, C = 19, 3, 4


def floats(*shape: int) -> Floats:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def net_of(options: dict[str, Any]) -> tr.Sequential:
    """A convolution, a second one on its rate, and a GRU."""
    return tr.Sequential(
        tr.TimeConv1d(C, 6, **options), tr.TimeConv1d(6, 5, 2, stride=2, padding=0), tr.GRU(5, 4)
    )


class Twin:
    """The same net in PyTorch; input (T, C) of one row."""

    def __init__(self, net: tr.Sequential, pad: tuple[int, int]) -> None:
        import torch

        first = net[0]
        self.torch, self.pad = torch, pad
        self.conv = torch.nn.Conv1d(
            C, 6, first.kernel_size, first.stride, 0, first.dilation, first.groups, first.config()["bias"]
        )
        self.second, self.gru = torch.nn.Conv1d(6, 5, 2, 2), torch.nn.GRU(5, 4)
        for name, module in self.modules().items():
            own = {key: torch.from_numpy(np.array(value)) for key, value in net[name].state_dict().items()}
            module.load_state_dict(own)

    def modules(self) -> dict[int, Any]:
        return {0: self.conv, 1: self.second, 2: self.gru}

    def __call__(self, x: Any) -> Any:
        padded = self.torch.nn.functional.pad(x.T[None], self.pad)
        return self.gru(self.second(self.conv(padded))[0].T)[0]


@pytest.mark.parametrize(("options", "pad"), CONVOLUTIONS)
def test_outputs_and_gradients_are_pytorchs(options: dict[str, Any], pad: tuple[int, int]) -> None:
    """Each row by itself in PyTorch; here as a batch of different lengths."""
    torch = pytest.importorskip("torch")
    net, x, lengths = net_of(options), floats(T, B, C), [T, 12, 15]
    twin = Twin(net, pad)
    given = torch.from_numpy(x).requires_grad_()
    wanted = [twin(given[:end, b]) for b, end in enumerate(lengths)]
    y = net(x, lengths=lengths)
    due = net.output_lengths(lengths)
    assert due.tolist() == [len(one) for one in wanted]
    assert y.shape == (due.max(), B, 4)
    for b, one in enumerate(wanted):
        np.testing.assert_allclose(y[: due[b], b], one.detach().numpy(), atol=2e-6)
        assert not y[due[b] :, b].any()
    net.train()
    assert np.array_equal(net(x, lengths=lengths), y)
    dy = floats(*y.shape)
    for b, end in enumerate(due):
        dy[end:, b] = 0
    net.zero_grad()
    dx = net.backward(dy)
    sum((one * torch.from_numpy(dy[: len(one), b])).sum() for b, one in enumerate(wanted)).backward()
    np.testing.assert_allclose(dx, given.grad.numpy(), atol=1e-5)
    own = net.grad_dict()
    for place, module in twin.modules().items():
        for name, parameter in module.named_parameters():
            np.testing.assert_allclose(own[f"{place}.{name}"], parameter.grad.numpy(), atol=2e-5)


@pytest.mark.parametrize(("options", "pad"), CONVOLUTIONS)
@pytest.mark.parametrize("chunk", [1, 2, 5, T])
def test_a_stream_in_chunks_has_the_bits_of_the_whole(
    options: dict[str, Any], pad: tuple[int, int], chunk: int
) -> None:
    net, x = net_of(options), floats(T, B, C)
    whole = net(x)
    for threads in (1, 2):
        stream = net.stream(batch=B, threads=threads)
        found = []
        for start in range(0, T, chunk):
            part, end = x[start : start + chunk], start + chunk >= T
            due = stream.due(len(part), end=end)
            found.append(stream.run(part, end=end))
            assert due.tolist() == [len(found[-1])] * B
        assert np.array_equal(np.concatenate(found), whole)
    first = net.stream(batch=B)
    steps = [y for y in (first.step(one) for one in x) if y is not None]
    if steps:
        assert np.array_equal(np.array(steps), whole[: len(steps)])


def test_a_stream_writes_to_out_and_begins_again() -> None:
    net, x = tr.TimeConv1d(C, 2, 3, stride=2, padding=0), floats(9, 1, C)
    stream = net.stream()
    y = np.full((4, 1, 2), 9, np.float32)
    assert stream.run(x, out=y) is y
    assert np.array_equal(y, net(x))
    with pytest.raises(tr.ShapeError, match=r"run: out has shape \(4, 1, 2\), expected \(1, 1, 2\)"):
        stream.run(x[:3], out=y)
    stream.reset()
    assert np.array_equal(stream.run(x), y)
    kept = stream.state.tobytes()
    fork = stream.copy()
    assert np.array_equal(fork.run(x), stream.run(x))
    stream.state = kept
    assert stream.due(1).tolist() == [0]
    with pytest.raises(ValueError, match="nonfinite is 'skip', expected None or 'stop'"):
        net.stream(nonfinite="skip")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_stops_at_numbers_that_are_not_finite(threads: int) -> None:
    """State and ``out`` are as before; then it goes on."""
    net, x = (
        tr.Sequential(tr.TimeConv1d(C, 4, 3, stride=2, padding=1), tr.RNN(4, 4, nonlinearity="relu")),
        floats(T, B, C),
    )
    net.load_state_dict({name: np.abs(array) for name, array in net.state_dict().items()})
    stream, y = net.stream(batch=B, threads=threads, nonfinite="stop"), np.full((2, B, 4), 9, np.float32)
    first, kept, bad = stream.run(x[:6]), stream.state.tobytes(), x[6:10].copy()
    bad[2, 1, 3] = np.inf
    with pytest.raises(
        tr.NonFiniteError, match="run: x holds inf in step 2 of row 1; the state is as before"
    ):
        stream.run(bad, out=y)
    with pytest.raises(tr.NonFiniteError, match="the state of row 0 is not finite any more; it is as before"):
        stream.run(np.full_like(bad, 3e38), out=y)
    assert stream.state.tobytes() == kept and (y == 9).all()
    stream.run(x[6:10], out=y)
    assert np.array_equal(np.concatenate([first, y, stream.run(x[10:], end=True)]), net(x))


def test_rows_that_begin_at_another_step_get_their_own_frames() -> None:
    """After a reset of one row its frames are due at other steps than those of the others."""
    net, x = tr.TimeConv1d(C, 2, 2, stride=3, padding=0), floats(12, 2, C)
    stream = net.stream(batch=2)
    stream.run(x[:4])
    stream.reset(rows=[1])
    assert stream.due(4).tolist() == [2, 1]
    y = stream.run(x[4:8])
    assert np.array_equal(y[:, 0], net(x[:8, :1])[1:, 0])
    assert np.array_equal(y[:1, 1], net(x[4:8, 1:])[:, 0])
    assert not y[1, 1].any()


def test_batch_first_and_one_row_without_an_axis() -> None:
    net = tr.Sequential(tr.TimeConv1d(C, 6, 3, stride=2, padding=1), tr.GRU(6, 4, batch_first=True))
    plain = tr.Sequential(net[0], tr.GRU(6, 4))
    plain.load_state_dict(net.state_dict())
    x = floats(T, B, C)
    y = plain(x)
    first = np.ascontiguousarray(x.swapaxes(0, 1))
    assert np.array_equal(net(first), y.swapaxes(0, 1))
    assert np.array_equal(net(x[:, 0]), plain(x[:, :1])[:, 0])
    assert np.array_equal(net.stream(batch=B).run(first, end=True), y.swapaxes(0, 1))
    one = net.stream()
    assert np.array_equal(one.run(first[:1], end=True), y.swapaxes(0, 1)[:1])
    assert np.array_equal(net(first, lengths=[T, 8, 9], last=True), plain(x, lengths=[T, 8, 9], last=True))


def test_unfold_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = floats(T, B, 2, 3)
    for size, step in ((4, 3), (1, 2), (5, 1)):
        y = tr.TimeUnfold(size, step)(x)
        assert np.array_equal(y, torch.from_numpy(x).unfold(0, size, step).numpy())


def test_pictures_over_time_are_pytorchs() -> None:
    """Windows are frames: behind them a Conv2d has time as its last axis."""
    torch = pytest.importorskip("torch")
    pictures, conv = floats(21, 2, 3, 8), torch.nn.Conv2d(3, 5, (3, 4), (2, 2), (1, 0))
    net = tr.Sequential(
        tr.TimeUnfold(4, 2), tr.Conv2d(3, 5, (3, 4), stride=(2, 1), padding=(1, 0)), tr.Flatten()
    )
    net.load_state_dict({f"1.{name}": tensor.detach().numpy() for name, tensor in conv.named_parameters()})
    wanted = conv(torch.from_numpy(pictures).permute(1, 2, 3, 0)).permute(3, 0, 1, 2).flatten(2)
    np.testing.assert_allclose(net(pictures), wanted.detach().numpy(), atol=2e-6)
    stream = net.stream(2, frame=(3, 8))
    assert np.array_equal(stream.run(pictures, end=True), net(pictures))


# One of each way in which a pool over time is laid out: (class, options).
POOLS: list[tuple[str, dict[str, Any]]] = [
    ("Max", {"kernel_size": 3}),
    ("Max", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("Max", {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2}),
    ("Max", {"kernel_size": 4, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("Max", {"kernel_size": 2, "stride": 5, "ceil_mode": True}),
    ("Avg", {"kernel_size": 3}),
    ("Avg", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("Avg", {"kernel_size": 4, "stride": 2, "padding": 2, "count_include_pad": False}),
    ("Avg", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("Avg", {"kernel_size": 5, "stride": 3, "padding": 2, "ceil_mode": True, "count_include_pad": False}),
    ("Avg", {"kernel_size": 1, "stride": 2, "count_include_pad": False}),
]


def pool_of(kind: str, options: dict[str, Any]) -> tr.Net:
    return tr.Sequential(getattr(tr, f"Time{kind}Pool1d")(**options), tr.GRU(C, 4))


@pytest.mark.parametrize(("kind", "options"), POOLS)
def test_pools_over_time_are_pytorchs(kind: str, options: dict[str, Any]) -> None:
    """Outputs and gradients, of rows of different lengths and of frames of two axes."""
    torch = pytest.importorskip("torch")
    theirs, lengths = getattr(torch.nn, f"{kind}Pool1d")(**options), [T, 7, 12]
    layer = getattr(tr, f"Time{kind}Pool1d")(**options)
    for frame in ((C,), (2, 3)):
        x = np.round(2 * floats(T, B, *frame))  # with numbers that are equal
        given = torch.from_numpy(x).requires_grad_()
        wanted = [theirs(given[:end, b].reshape(end, -1).T).T for b, end in enumerate(lengths)]
        entry = tr.Input(*frame)
        net = tr.Net(entry, layer(entry))
        y, due = net(x, lengths=lengths), net.output_lengths(lengths)
        assert due.tolist() == [len(one) for one in wanted]
        assert y.shape == (due.max(), B, *frame)
        for b, one in enumerate(wanted):
            flat = one.reshape(-1, *frame).detach().numpy()
            np.testing.assert_allclose(y[: due[b], b], flat, rtol=2e-6, atol=1e-7)
            assert not y[due[b] :, b].any()
        net.train()
        assert np.array_equal(net(x, lengths=lengths), y)
        dy = floats(*y.shape)
        dx = net.backward(dy)
        sums = [
            (one * torch.from_numpy(dy[: len(one), b].reshape(one.shape))).sum()
            for b, one in enumerate(wanted)
        ]
        sum(sums).backward()
        np.testing.assert_allclose(dx, given.grad.numpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), POOLS)
def test_pools_over_time_stream_and_go_to_files(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    net, x = pool_of(kind, options), floats(T, B, C)
    whole = net(x)
    for chunk in (1, 3, T):
        stream = net.stream(batch=B, frame=(C,))
        parts = [stream.run(x[at : at + chunk], end=at + chunk >= T) for at in range(0, T, chunk)]
        assert np.array_equal(np.concatenate(parts), whole)
    kept, again = net.stream(batch=B, frame=(C,)), net.stream(batch=B, frame=(C,))
    kept.run(x[:8])
    again.state = {name: kept.state[name] for name in kept.state}
    assert np.array_equal(again.run(x[8:], end=True), kept.run(x[8:], end=True))
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert repr(other) == repr(net)
        assert np.array_equal(other(x, threads=2), whole)


def test_a_pool_over_time_keeps_nan_and_negative_numbers() -> None:
    x = -np.abs(floats(7, 1, C)) - 1
    x[3, 0, 1] = np.nan
    y = tr.TimeMaxPool1d(3, 2, padding=1)(x)
    windows = [x[max(0, at - 1) : at + 2] for at in range(0, 7, 2)]
    np.testing.assert_array_equal(y, [window.max(0) for window in windows])
    mean = tr.TimeAvgPool1d(3, 2, padding=1, count_include_pad=False)(x)
    np.testing.assert_allclose(mean, [window.mean(0) for window in windows], rtol=1e-6)


def test_a_graph_of_two_rates() -> None:
    """Values of different rates are outputs of one net; a mean over one of them is per sequence."""
    x = tr.Input(C)
    h = tr.TimeConv1d(C, 8, 3, stride=2, padding=1)(x).named("h")
    same = h + tr.TimeConv1d(C, 8, 3, stride=2, padding=1)(x)
    slow = tr.Linear(16, 3)(tr.Flatten()(tr.TimeUnfold(2, 2)(same)))
    net = tr.Net(x, {"slow": slow, "mean": tr.MeanOverTime()(same), "all": tr.ReLU()(x)})
    given, lengths = floats(13, B, C), [13, 6, 9]
    y = net(given, lengths=lengths)
    assert {name: array.shape for name, array in y.items()} == {
        "slow": (3, B, 3),
        "mean": (B, 8),
        "all": (13, B, C),
    }
    assert {name: due.tolist() for name, due in net.output_lengths(lengths).items()} == {
        "slow": [3, 1, 2],
        "mean": [1, 1, 1],
        "all": lengths,
    }
    for b, end in enumerate(lengths):
        alone = net(given[:end, b : b + 1])
        assert np.array_equal(alone["slow"][:, 0], y["slow"][: len(alone["slow"]), b])
        np.testing.assert_array_equal(alone["mean"][0], y["mean"][b])
    stream = net.stream(batch=B)
    frames = [stream.step(one) for one in given]
    assert [one["slow"] is None for one in frames] == [t % 4 != 3 for t in range(13)]
    assert np.array_equal(np.array([one["slow"] for one in frames[3::4]]), net(given)["slow"])
    text = net.describe()
    assert "a frame for every 4 steps of 'time', 3 steps after the first of them" in text
    assert "It may stream" in text
    assert "time[2n+1|1]: a frame for every 2 steps of 'time', 1 step after" in str(net.summary())
    net.train()
    trained, due = net(given, lengths=lengths), net.output_lengths(lengths)
    assert np.array_equal(trained["mean"], y["mean"])
    for b, end in enumerate(due["slow"]):
        assert np.array_equal(trained["slow"][:end, b], y["slow"][:end, b])


def test_files_copies_and_formats(tmp_path: Path) -> None:
    net, x = net_of(CONVOLUTIONS[0][0]), floats(T, B, C)
    for one in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(one(x), net(x))
    for name in ("float16", "bfloat16", "int8", "int4"):
        small = tr.quantize(net, name)
        assert small.formats == {"0": name, "1": name, "2.l0": name}
        small.save(tmp_path / "net.safetensors")
        loaded = tr.load(tmp_path / "net.safetensors")
        assert repr(loaded) == repr(small)
        assert np.array_equal(loaded(x), small(x))
        np.testing.assert_allclose(small(x), net(x), atol=0.4)
    layer = tr.TimeConv1d.from_state_dict(net[0].state_dict(), stride=2, padding=1)
    assert np.array_equal(layer(x), net[0](x))


def test_training_counts_the_frames_of_each_row() -> None:
    """A trainer's loss is that of net(x) with the lengths of the output; labels of CTC likewise."""
    net, x, lengths = net_of(CONVOLUTIONS[0][0]), floats(T, B, C), [T, 8, 12]
    due = net.output_lengths(lengths)
    target = floats(int(due.max()), B, 4)
    loss = tr.MSELoss()
    wanted, _ = loss(net(x, lengths=lengths), target, lengths=due)
    for threads in (1, 2):
        trainer = net.trainer(tr.optim.SGD(net, lr=0.0), loss, batch=B, steps=T, threads=threads)
        assert trainer.step(x, target, lengths) == pytest.approx(float(wanted), rel=1e-6)
        assert trainer.evaluate(x, target, lengths) == pytest.approx(float(wanted), rel=1e-6)
    with pytest.raises(tr.ShapeError, match=r"target has shape \(19, 3, 4\)"):
        trainer.step(x, floats(T, B, 4), lengths)


def test_training_in_parts_goes_on_where_the_last_part_ended() -> None:
    """With a state the windows go on: two parts have the frames of the whole."""
    net, x = tr.Sequential(tr.TimeConv1d(C, 4, 4, stride=3, padding=0), tr.GRU(4, 4)), floats(20, B, C)
    y = net(x)
    trainer = net.trainer(tr.optim.SGD(net, lr=0.0), tr.MSELoss(), batch=B, steps=10)
    state = trainer.new_state()
    assert trainer.step(x[:10], y[:3], state=state) == pytest.approx(0, abs=1e-12)
    assert trainer.step(x[10:], y[3:], state=state) == pytest.approx(0, abs=1e-12)


def test_fit_predict_and_evaluate() -> None:
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, C)).astype(np.float32) for n in (7, 9, 20, 13)]
    net = tr.Sequential(tr.TimeConv1d(C, 6, 3, stride=2, padding=1), tr.GRU(6, 8), tr.Linear(8, 1))
    ys = [x[::2, :1] for x in xs]
    before = net.evaluate(xs, ys, loss=tr.MSELoss())["loss"]
    net.fit(
        xs,
        ys,
        optimizer=tr.optim.Adam(net, lr=0.02),
        loss=tr.MSELoss(),
        epochs=40,
        batch_size=2,
        verbose=0,
    )
    after = net.evaluate(xs, ys, loss=tr.MSELoss())["loss"]
    assert after < before / 3
    outputs = net.predict(xs)
    assert [len(y) for y in outputs] == [len(y) for y in ys]
    assert np.mean(np.concatenate([(a - b) ** 2 for a, b in zip(outputs, ys, strict=True)])) == pytest.approx(
        after
    )
    padded = net.predict(np.stack([x[:7] for x in xs]), lengths=[7, 5, 3, 1])
    assert padded.shape == (4, 4, 1)
    with pytest.raises(ValueError, match="fit: bptt is 4, expected None: the output has a rate of its own"):
        net.fit(xs, ys, optimizer=tr.optim.Adam(net), loss=tr.MSELoss(), epochs=1, bptt=4)
    with pytest.raises(tr.ShapeError, match=r"y\[0\]: got shape \(7, 1\), expected \(4, 1\)"):
        net.fit(xs, [x[:, :1] for x in xs], optimizer=tr.optim.Adam(net), loss=tr.MSELoss(), epochs=1)


def test_bad_input() -> None:
    with pytest.raises(
        tr.ShapeError, match=r"got frames of shape \(16, 16\).*: columns are no steps; a TimeConv1d"
    ):
        tr.Sequential(tr.Conv1d(2, 16, 5), tr.GRU(16, 8))(floats(3, 2, 20))
    with pytest.raises(ValueError, match="TimeConv1d: padding is 3, expected at most 2"):
        tr.TimeConv1d(C, 2, 3, padding=3)
    with pytest.raises(ValueError, match="stride is 2, expected 1 for padding='same'"):
        tr.TimeConv1d(C, 2, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="padding is 'full', expected 'causal', 'same', 'valid'"):
        tr.TimeUnfold(3, padding="full")
    with pytest.raises(ValueError, match="expected a number or a pair of them"):
        tr.TimeUnfold(3, padding=(1, 1, 1))
    with pytest.raises(ValueError, match="TimeMaxPool1d: padding is 3, expected at most 2"):
        tr.TimeMaxPool1d(3, padding=3)
    with pytest.raises(ValueError, match="padding is 1 with ceil_mode, expected 0, or count_include_pad"):
        tr.TimeAvgPool1d(3, padding=1, ceil_mode=True)
    with pytest.raises(tr.ShapeError, match=r"TimeAvgPool1d: got frames of shape \(2, 2, 2\), expected one"):
        tr.TimeAvgPool1d(2)(tr.Input(2, 2, 2))
    with pytest.raises(tr.ShapeError, match="shorter than a layer's window of steps"):
        tr.TimeConv1d(C, 2, 3, padding=0)(floats(2, 1, C))
    with pytest.raises(tr.ShapeError, match="shorter than a layer's window of steps"):
        tr.Sequential(tr.TimeConv1d(C, 2, 3, padding=0), tr.GRU(2, 2))(floats(5, 2, C), lengths=[5, 2])
    with pytest.raises(OverflowError, match="the sizes are too large"):  # a frame for every 2^44 steps
        tr.Sequential(tr.TimeUnfold(1, 1 << 22), tr.Flatten(), tr.TimeUnfold(1, 1 << 22))(floats(3, 1, C))
    with pytest.raises(tr.ShapeError, match=r"expected \(T, \?, \?\)"):
        tr.TimeUnfold(2)(floats(5, 2, 2, 2, 2))


def test_drift_and_calibration_watch_whole_sequences() -> None:
    net, x = tr.Sequential(net_of(CONVOLUTIONS[0][0]), tr.Linear(4, 3)), floats(60, B, C)
    plain, small = tr.quantize(net, "int4"), tr.quantize(net, "int4", calibration=[x])
    before, after = (tr.drift(net, other, x).parts["output"].rms.mean() for other in (plain, small))
    assert after < before
    gates = tr.inspect.gate_activations(net, x).layers
    assert len(net(x)) == 15
    assert gates["0.2.l0"]["z"].shape[0] == 15
    assert tr.inspect.hidden_gradients(net, x, dy=np.ones((15, B, 3), np.float32))["0.2.l0"].shape[:2] == (
        15,
        B,
    )
    graph = tr.Input(C)
    read = tr.TimeConv1d(C, 4, 3, stride=2)(graph)
    both = tr.Net(graph, tr.concat([tr.MeanOverTime()(read), tr.LastStep()(read)]))
    with pytest.raises(ValueError, match="no layer is recurrent"):
        tr.inspect.hidden_gradients(both, x, dy=np.ones((B, 8), np.float32))


@pytest.mark.parametrize("pool", [tr.LastStep, tr.MeanOverTime])
def test_calibration_of_a_chain_with_one_output_for_the_sequence(pool: type[tr.Net]) -> None:
    net, x = tr.Sequential(net_of(CONVOLUTIONS[0][0]), pool(), tr.Linear(4, 3)), floats(60, B, C)
    plain, small = tr.quantize(net, "int4"), tr.quantize(net, "int4", calibration=[x, x[:30]])
    assert np.abs(small(x) - net(x)).mean() < np.abs(plain(x) - net(x)).mean()
    seen = list(watch(net, x))
    assert len(seen) == 1  # whole sequences
    np.testing.assert_array_equal(seen[0][-1].y.reshape(B, 3), net(x))
    measured = tr.drift(net, small, x).parts["output"].rms
    error, size = np.square(small(x) - net(x)).mean(), np.square(net(x)).mean()
    assert measured[0] == pytest.approx(np.sqrt(error / size), rel=1e-3)


@pytest.mark.parametrize("steps", [12, 13, 14, 15])
@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"nonfinite": "reset"}])
def test_stream_of_one_output_for_the_sequence_ends_with_the_padding(
    steps: int, options: dict[str, Any]
) -> None:
    net = tr.Sequential(
        tr.TimeConv1d(C, 4, 5, stride=2, padding=2),
        tr.TimeConv1d(4, 4, 3, stride=2, padding=1),
        tr.GRU(4, 4),
        tr.LastStep(),
    )
    x = floats(steps, B, C)
    whole = net(x)
    assert np.array_equal(net.stream(batch=B, **options).run(x, end=True), whole)
    stream = net.stream(batch=B, **options)
    for frame in x[:-1]:
        stream.step(frame)
    open_end = stream.copy().step(x[-1])
    assert np.array_equal(stream.run(x[-1:], end=True), whole)
    assert not np.array_equal(open_end, whole)
    rows_first = tr.Sequential(*list(net)[:2], tr.GRU(4, 4, batch_first=True), tr.LastStep())
    rows_first.load_state_dict(net.state_dict())
    chunk = np.ascontiguousarray(x.swapaxes(0, 1))
    assert np.array_equal(rows_first.stream(batch=B, **options).run(chunk, end=True), whole)
