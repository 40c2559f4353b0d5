"""Values of one rate that are due at different steps of a stream meet. Witnesses: PyTorch, whole calls."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from golden_cases import read
from late_graphs import NETS, B, C, Floats, Model, T, conv, conv_in_torch, floats, of_net, of_torch, residual

import tinyrnn as tr
from tinyrnn.tracing import watch


@pytest.fixture(params=NETS)
def both(request: pytest.FixtureRequest) -> tuple[tr.Net, Model]:
    make, model = NETS[request.param]
    tr.manual_seed(3)
    return make(), model


def agrees(ours: dict[str, Floats], theirs: dict[str, Floats]) -> None:
    assert ours.keys() == theirs.keys()
    for name, right in theirs.items():
        assert ours[name].shape == right.shape
        assert np.abs(ours[name] - right).max() < 2e-5 * np.abs(right).max(), name


def test_outputs_and_gradients_are_pytorchs(both: tuple[tr.Net, Model]) -> None:
    pytest.importorskip("torch")
    net, model = both
    agrees(of_net(net), of_torch(model, net.state_dict()))


INDEX, GOLDENS = read("graphs.npz")


@pytest.mark.parametrize("isa", tr.available_isas())
@pytest.mark.parametrize("name", NETS)
def test_goldens(name: str, isa: str) -> None:
    """Replayed without PyTorch. tests/data/record_graphs.py recorded them."""
    tr.set_isa(isa)
    net = NETS[name][0]()
    net.load_state_dict({key: GOLDENS[f"{name}.{key}"] for key in net.state_dict()})
    agrees(of_net(net), {key: GOLDENS[f"{name}:{key}"] for key in INDEX["results"][name]})


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
    assert all(one.reads() for one in seen[0] if one.core.matrices)
    if "rnn.l0" in net.formats:
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
    with pytest.raises(ValueError, match=r"Add: a layer reads .*, expected values of one axis of time, or"):
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


@pytest.mark.parametrize("whose", ["time", "time[2n+1]", "other", None])
def test_keys_and_values_meet_wherever_the_query_is(whose: str | None) -> None:
    """Values that look ahead of their keys wait for nothing else; a query has an axis of its own."""
    x = tr.Input(C)
    keys = tr.TimeAvgPool1d(2)(x)
    values = conv("values", 3, keys)
    other = tr.Input(C, time=whose, name="query")
    query = {"time": x, "time[2n+1]": keys}.get(whose, other)
    used = [x] if query is not other else [x, other]
    net = tr.Net(used, tr.DotProductAttention(C)(query, keys, values))
    array = np.random.default_rng(0).standard_normal((10, 2, C)).astype(np.float32)
    asked = {"time": array, "time[2n+1]": array.reshape(5, 2, 2, C).mean(1), None: array[:1]}.get(
        whose, array[:7]
    )
    k = array.reshape(5, 2, 2, C).mean(1)
    v = tr.Sequential(net["values"])(k)
    scores = np.einsum("tbd,sbd->bts", asked, k) / C**0.5
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = np.einsum("bts,sbd->tbd", weights, v)
    given = [array] if query is not other else [array, asked[0] if whose is None else asked]
    found = net(*given)
    assert np.allclose(found, wanted[0] if whose is None else wanted, atol=1e-5)
    with pytest.raises(ValueError, match="expected one rate: let a TimeAvgPool1d"):
        tr.DotProductAttention(C, is_causal=True)(x, keys, keys)
