"""Looking glasses: gradients through time against a float64 oracle and PyTorch, gates, curves, pictures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import oracle_gradients as oracle
import pytest
from folders import EXAMPLES
from gradient_nets import RECURRENT, Case, alone, build, chain, leaves

import tinyrnn as tr

TOLERANCE = 2e-5  # of the largest entry of a level's gradients


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def gradient_of(net: tr.Net, case: Case) -> np.ndarray:
    """Any dy; case.x must be as many steps as the output."""
    return normal(case.seed + 1, *oracle.run(leaves(net), net.state_dict(), case.x).y.shape)


def levels(net: tr.Net) -> Iterator[tuple[str, Any, int, int]]:
    """(name, layer, level, direction) as hidden_gradients names them, in the order of the oracle."""
    for name, leaf, level in net._places():
        if isinstance(leaf, RECURRENT):
            for direction in range(leaf._directions):
                yield name + "_reverse" * direction, leaf, level, direction


def by_oracle(net: tr.Net, case: Case, dy: np.ndarray, monkeypatch: Any) -> dict[str, np.ndarray]:
    """dL/dh_t: what the way back of each of the oracle's steps is given."""
    taken: list[Any] = []
    plain = oracle.step

    def recording(*arguments: Any) -> Any:
        state, back = plain(*arguments)
        place = len(taken)
        taken.append(None)

        def noting(dh: Any, *rest: Any) -> Any:
            taken[place] = np.array(dh)
            return back(dh, *rest)

        return state, noting

    with monkeypatch.context() as patched:
        patched.setattr(oracle, "step", recording)
        oracle.run(leaves(net), net.state_dict(), case.x, lengths=case.lengths).backward(dy)
    steps, batch = case.x.shape[:2][:: -1 if net._batch_first else 1]
    found = {}
    calls = iter(taken)
    for name, leaf, _, direction in levels(net):
        found[name] = np.zeros((steps, batch, leaf._output_size))
        for b in range(batch):
            order = range(steps if case.lengths is None else case.lengths[b])
            for t in reversed(order) if direction else order:
                found[name][t, b] = next(calls)
    assert next(calls, None) is None
    return found


def spoilt(case: Case) -> Any:
    """The input with NaN beyond the end of each row."""
    x = np.array(case.x)
    if case.lengths is not None and x.dtype.kind == "f":
        rows_first = any(options.get("batch_first") for _, options in case.layers)
        for b, length in enumerate(case.lengths):
            (x[b, length:] if rows_first else x[length:, b])[...] = np.nan
    return x


def assert_near(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name in want:
        assert got[name].dtype == np.float32
        assert oracle.distance(got[name], want[name]) < TOLERANCE, name


# ---- gradients through time ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [alone, chain])
@pytest.mark.parametrize("seed", range(16))
def test_gradients_are_the_oracles(kind: Any, seed: int, monkeypatch: Any) -> None:
    case = kind(seed)
    net = build(case)
    dy = gradient_of(net, case)
    got = tr.inspect.hidden_gradients(net, spoilt(case), dy=dy, lengths=case.lengths)
    assert_near(got, by_oracle(net, case, dy, monkeypatch))


def unrolled(torch: Any, net: tr.Net, case: Case, dy: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
    """The output, and dL/dh_t, by PyTorch's autograd through steps in a row, in float64."""
    weights = {name: torch.from_numpy(array).double() for name, array in net.state_dict().items()}
    y = torch.from_numpy(np.asarray(case.x)).double()
    if net._batch_first:
        y = y.swapaxes(0, 1)
    steps, batch = y.shape[:2]
    hidden: dict[str, list[Any]] = {}
    for prefix, leaf in net._leaves():
        if not isinstance(leaf, RECURRENT):
            y = y @ weights[f"{prefix}weight"].T + weights[f"{prefix}bias"]
            continue
        for level in range(leaf.num_layers):
            ways = []
            for reverse in ["", "_reverse"][: leaf._directions]:
                w = {
                    part: weights.get(f"{prefix}{part}_l{level}{reverse}")
                    for part in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
                }
                h = torch.zeros(batch, leaf._output_size, dtype=torch.float64)
                c = torch.zeros(batch, leaf.hidden_size, dtype=torch.float64)
                hs: list[Any] = [None] * steps
                for t in range(steps)[:: -1 if reverse else 1]:
                    four = (w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"])
                    if isinstance(leaf, tr.GRU):
                        h = torch.gru_cell(y[t], h, *four)
                    elif isinstance(leaf, tr.LSTM):
                        gates = torch.nn.functional.linear(y[t], four[0], four[2])
                        gates = gates + torch.nn.functional.linear(h, four[1], four[3])
                        i, f, g, o = gates.chunk(4, 1)
                        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                        h = o.sigmoid() * c.tanh()
                        h = h if w["weight_hr"] is None else h @ w["weight_hr"].T
                    else:
                        cell = torch.rnn_relu_cell if leaf.nonlinearity == "relu" else torch.rnn_tanh_cell
                        h = cell(y[t], h, *four)
                    h = h.requires_grad_()
                    h.retain_grad()
                    hs[t] = h
                hidden[leaf._path(prefix, level) + reverse] = hs
                ways.append(torch.stack(hs))
            y = torch.cat(ways, -1)
    y = y.swapaxes(0, 1) if net._batch_first else y
    y.backward(torch.from_numpy(dy).double())
    gradients = {name: torch.stack([h.grad for h in hs]).numpy() for name, hs in hidden.items()}
    return y.detach().numpy(), gradients


@pytest.mark.parametrize("seed", range(18))
def test_gradients_are_pytorchs(seed: int) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    case = alone(seed)
    if seed % 2:  # two recurrent layers and a linear one
        (layer, options), width = case.layers[0], 0
        width = (options.get("proj_size") or options["hidden_size"]) * (1 + options["bidirectional"])
        second = {"input_size": width, "hidden_size": 9, "batch_first": options["batch_first"]}
        head = {"in_features": 9, "out_features": 5}
        case.layers[:] = [(layer, options), ("GRU", second), ("Linear", head)]
    net = build(case)
    case = case._replace(lengths=None)
    dy = gradient_of(net, case)
    y, want = unrolled(torch, net, case, dy)
    output = net(case.x)
    assert oracle.distance(output[0] if isinstance(output, tuple) else output, y) < TOLERANCE
    assert_near(tr.inspect.hidden_gradients(net, case.x, dy=dy), want)


def test_cell() -> None:
    cell = tr.LSTMCell(3, 5)
    layer = tr.LSTM(3, 5)
    layer.load_state_dict({f"{name}_l0": array for name, array in cell.state_dict().items()})
    x, dy = normal(0, 6, 2, 3), normal(1, 6, 2, 5)
    got = tr.inspect.hidden_gradients(cell, x, dy=dy)["LSTMCell"]
    assert np.array_equal(got, tr.inspect.hidden_gradients(layer, x, dy=dy)["l0"])


def test_norms_are_over_rows_and_units() -> None:
    net = tr.Sequential({"rnn": tr.RNN(2, 4, 2, bidirectional=True), "head": tr.Linear(8, 3)})
    x, y = normal(0, 7, 3, 2), normal(1, 7, 3, 3)
    found = tr.inspect.gradient_norms(net, x, y, tr.MSELoss()).norms
    each = tr.inspect.hidden_gradients(net, x, y, tr.MSELoss())
    assert list(found) == ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"]
    for name, norms in found.items():
        assert norms.shape == (7,) and norms.dtype == np.float64
        assert norms == pytest.approx([np.linalg.norm(part.astype(np.float64)) for part in each[name]])


@pytest.mark.parametrize("batch_first", [False, True])
def test_loss_and_its_gradient_are_the_same(batch_first: bool) -> None:
    net = tr.Sequential(tr.GRU(2, 4, batch_first=batch_first), tr.Linear(4, 3))
    x = normal(0, *((3, 6, 2) if batch_first else (6, 3, 2)))
    lengths = [6, 2, 4]
    loss = tr.CrossEntropyLoss()
    target = np.random.default_rng(0).integers(0, 3, x.shape[:2])
    for y in (target, target[:, 0] if batch_first else target[0]):  # of each step, of each row
        _, dy = loss(net(x, lengths=lengths), y, lengths, batch_first=batch_first)
        one = tr.inspect.hidden_gradients(net, x, y, loss, lengths=lengths)
        two = tr.inspect.hidden_gradients(net, x, dy=dy, lengths=lengths)
        # batches of the forward pass with a tape have other bits than those without
        assert oracle.distance(one["0.l0"], two["0.l0"]) < 1e-5
        for row, length in enumerate(lengths):
            assert not one["0.l0"][length:, row].any() and one["0.l0"][length - 1, row].any()


def test_ctc() -> None:
    net = tr.Sequential(tr.LSTM(2, 4), tr.Linear(4, 5), tr.LogSoftmax(-1))
    found = tr.inspect.gradient_norms(net, normal(0, 8, 2, 2), ([[1, 2], [3, 0]], [2, 1]), tr.CTCLoss())
    assert (found.norms["0.l0"] > 0).all()


def test_one_sequence_is_a_batch_of_one() -> None:
    net = tr.Sequential(tr.LSTM(2, 4), tr.Linear(4, 3))
    x, dy = normal(0, 5, 2), normal(1, 5, 3)
    one = tr.inspect.hidden_gradients(net, x, dy=dy)["0.l0"]
    assert one.shape == (5, 1, 4)
    assert np.array_equal(one, tr.inspect.hidden_gradients(net, x[:, None], dy=dy[:, None])["0.l0"])


def test_nothing_is_dropped() -> None:
    layers = [tr.LSTM(2, 4, 2, dropout=0.9), tr.Dropout(0.9), tr.Linear(4, 3)]
    plain = tr.Sequential(tr.LSTM(2, 4, 2), tr.Linear(4, 3))
    net = tr.Sequential(*layers)
    plain.load_state_dict({name.replace("2.", "1."): array for name, array in net.state_dict().items()})
    x, dy = normal(0, 5, 2, 2), normal(1, 5, 2, 3)
    one, two = (tr.inspect.hidden_gradients(each, x, dy=dy) for each in (net.train(), plain))
    assert all(np.array_equal(one[name], two[name]) for name in two)


def test_net_stays_as_it_is() -> None:
    tr.manual_seed(0)
    net = tr.Sequential(
        *(tr.Conv1d(1, 4, 2), tr.BatchNorm1d(4), tr.Flatten()),
        *(tr.GRU(8, 5), tr.Dropout(0.5), tr.LSTM(5, 3), tr.Linear(3, 2)),
    )
    net.freeze("3.weight_hh_l0").train()
    x, dy = normal(0, 5, 3, 1, 3), normal(1, 5, 3, 2)
    net(x)
    net.backward(dy)
    net(x)  # not gone back through yet

    def everything() -> list[bytes]:
        arrays = [*net.state_dict().values(), *net.grad_dict().values(), *net.last_state.values()]
        return [np.asarray(array).tobytes() for array in arrays]

    before, steps = everything(), net._practised().passes
    tr.inspect.gradient_norms(net, x[:, :2], dy=dy[:, :2])
    tr.inspect.gate_activations(net, x)
    assert everything() == before and net._practised().passes == steps
    assert net.training and net[0].training and not net.requires_grad("3.weight_hh_l0")
    net.backward(dy)
    assert everything() != before
    net.eval()
    tr.inspect.gradient_norms(net, x, dy=dy)
    assert not net.training


def late_loss(net: tr.Net, steps: int = 60) -> np.ndarray:
    """The norms by step where only the last output counts."""
    dy = np.zeros((steps, 4, net[0].hidden_size), np.float32)
    dy[-1] = normal(1, 4, net[0].hidden_size)
    return tr.inspect.gradient_norms(net, 0.1 * normal(0, steps, 4, 3), dy=dy).norms["0.l0"]


def with_tensor(net: tr.Net, **tensors: np.ndarray) -> tr.Net:
    state = net.state_dict()
    net.load_state_dict(
        {**state, **{f"0.{name}": array.astype(np.float32) for name, array in tensors.items()}}
    )
    return net


def test_gradient_of_a_linear_recurrence_is_known() -> None:
    for factor in (0.5, 1.0, 1.5):
        net = tr.Sequential(tr.RNN(3, 8, nonlinearity="relu"))
        bias = np.full(8, 1e3 if factor == 1.0 else 1.0)
        weight = factor * np.abs(np.roll(np.eye(8), 1, 0))  # a permutation: all units stay above zero
        with_tensor(net, weight_hh_l0=weight, bias_ih_l0=bias)
        norms = late_loss(net)
        assert norms[:-1] / norms[1:] == pytest.approx(np.full(59, factor), rel=1e-5)


def test_rnn_vanishes_and_explodes_and_lstm_does_not() -> None:
    tr.manual_seed(0)
    square, _ = np.linalg.qr(normal(0, 16, 16))
    norms = late_loss(with_tensor(tr.Sequential(tr.RNN(3, 16)), weight_hh_l0=0.7 * square))
    assert norms[0] / norms[-1] < 1e-8
    net = with_tensor(tr.Sequential(tr.RNN(3, 16)), weight_hh_l0=1.3 * square, weight_ih_l0=np.zeros((16, 3)))
    with_tensor(net, bias_ih_l0=np.zeros(16), bias_hh_l0=np.zeros(16))  # h stays 0, where tanh is steepest
    norms = late_loss(net)
    assert norms[0] / norms[-1] == pytest.approx(1.3**59, rel=1e-3)
    bias = np.zeros(64)
    bias[16:32] = 6  # forget gates open
    norms = late_loss(with_tensor(tr.Sequential(tr.LSTM(3, 16)), bias_ih_l0=bias))
    assert 0.05 < norms[0] / norms[-1] < 20


def test_gradient_errors() -> None:
    net = tr.Sequential(tr.LSTM(2, 4), tr.Linear(4, 3))
    x, dy = normal(0, 5, 2, 2), normal(1, 5, 2, 3)
    norms = tr.inspect.gradient_norms
    with pytest.raises(ValueError, match="Linear: no layer is recurrent"):
        norms(tr.Linear(2, 3), x, dy=dy)
    for given in (
        {},
        {"dy": dy, "loss": tr.MSELoss()},
        {"y": dy},
        {"loss": tr.MSELoss()},
        {"dy": dy, "y": dy},
    ):
        with pytest.raises(TypeError, match="Sequential: got neither y and loss nor dy, or both"):
            norms(net, x, **given)
    with pytest.raises(TypeError, match="loss is 'mse', expected an object such as"):
        norms(net, x, dy, "mse")
    with pytest.raises(tr.ShapeError, match=r"dy has shape \(5, 2, 2\), expected \(5, 2, 3\)"):
        norms(net, x, dy=x)
    with pytest.raises(tr.ShapeError, match="0: LSTM: got frames of shape"):
        norms(net, x[..., :1], dy=dy)
    with pytest.raises(tr.ShapeError, match="expected at least one step and one row"):
        norms(net, x[:0], dy=dy[:0])
    with pytest.raises(ValueError, match=r"lengths\[1\] is 6"):
        norms(net, x, dy=dy, lengths=[1, 6])
    with pytest.raises(TypeError, match=r"0.l0: format is int8, expected float32"):
        norms(tr.quantize(net, "int8"), x, dy=dy)


def test_norms_as_text() -> None:
    found = tr.inspect.gradient_norms(tr.LSTM(2, 4), normal(0, 101, 2), dy=normal(1, 101, 4))
    head, line = str(found).splitlines()
    assert head.split()[-6:] == ["0", "20", "40", "60", "80", "100"]
    assert line.split() == ["l0", *(f"{found.norms['l0'][t]:.2e}" for t in range(0, 101, 20))]
    found = tr.inspect.gradient_norms(tr.RNN(2, 4), normal(0, 1, 2), dy=normal(1, 1, 4))
    assert str(found).splitlines()[0].split()[-2:] == ["step", "0"]


# ---- gates --------------------------------------------------------------------------------------


def test_gates_give_the_hidden_states() -> None:
    net = tr.Sequential(
        {
            "lstm": tr.LSTM(3, 5, 2),
            "gru": tr.GRU(5, 4, bidirectional=True),
            "rnn": tr.RNN(8, 6),
            "head": tr.Linear(6, 2),
        }
    )
    x = normal(0, 9, 2, 3)
    layers = tr.inspect.gate_activations(net, x).layers
    assert {name: list(gates) for name, gates in layers.items()} == {
        "lstm.l0": ["i", "f", "g", "o", "h"],
        "lstm.l1": ["i", "f", "g", "o", "h"],
        "gru.l0": ["r", "z", "n", "r_reverse", "z_reverse", "n_reverse", "h", "h_reverse"],
        "rnn.l0": ["h"],
    }
    for name in ("lstm.l0", "lstm.l1"):
        gates = layers[name]
        c = np.zeros((2, 5))
        for t in range(9):
            assert all(gates[gate].shape == (9, 2, 5) for gate in gates)
            c = gates["f"][t] * c + gates["i"][t] * gates["g"][t]
            assert gates["h"][t] == pytest.approx(gates["o"][t] * np.tanh(c), abs=1e-6)
    gates = layers["gru.l0"]
    for suffix, order in (("", range(9)), ("_reverse", range(8, -1, -1))):
        h = np.zeros((2, 4))
        for t in order:
            z, n = gates["z" + suffix][t], gates["n" + suffix][t]
            h = (1 - z) * n + z * h
            assert gates["h" + suffix][t] == pytest.approx(h, abs=1e-6)
    assert np.array_equal(
        layers["rnn.l0"]["h"], net[2](np.concatenate([gates["h"], gates["h_reverse"]], -1))[0]
    )


def test_gates_of_long_sequences_come_in_one_piece() -> None:
    net = tr.LSTM(2, 3, batch_first=True)
    x = normal(0, 2, 5000, 2)
    gates = tr.inspect.gate_activations(net, x).layers["l0"]
    assert gates["f"].shape == (5000, 2, 3)
    assert np.array_equal(gates["h"].swapaxes(0, 1), net(x)[0])


def test_gates_of_projected_quantised_and_cells() -> None:
    net = tr.Sequential(tr.LSTM(32, 16, proj_size=7), tr.Linear(7, 2))
    x = normal(0, 6, 32)
    gates = tr.inspect.gate_activations(net, x).layers["0.l0"]
    assert gates["o"].shape == (6, 1, 16) and gates["h"].shape == (6, 1, 7)
    small = tr.inspect.gate_activations(tr.quantize(net, "int8"), x).layers["0.l0"]
    assert 0 < np.abs(small["f"] - gates["f"]).max() < 0.05
    assert list(tr.inspect.gate_activations(tr.GRUCell(32, 4), x[:, None]).layers["GRUCell"]) == list("rznh")


def test_gate_errors() -> None:
    with pytest.raises(ValueError, match="Linear: no layer is recurrent"):
        tr.inspect.gate_activations(tr.Linear(2, 3), normal(0, 5, 2))
    with pytest.raises(tr.ShapeError, match="LSTM: got frames of shape"):
        tr.inspect.gate_activations(tr.LSTM(2, 3), normal(0, 5, 4))


# ---- loss curves --------------------------------------------------------------------------------


def history(**numbers: list[float]) -> tr.History:
    made = tr.History()
    made.history.update(numbers)
    return made


def test_curves_of_histories_and_lists() -> None:
    one = history(loss=[3.0, 2.0], val_loss=[4.0, 3.5], val_accuracy=[0.1, 0.2], lr=[1.0, 1.0])
    curves = tr.inspect.loss_curves(one)
    assert curves.unit == "epoch" and list(curves.runs) == [""]
    assert {name: values.tolist() for name, values in curves.runs[""].items()} == {
        "loss": [3.0, 2.0],
        "val_loss": [4.0, 3.5],
    }
    both = tr.inspect.loss_curves(one, [1, 2, 3], labels=["LSTM", "RNN"])
    assert list(both.runs) == ["LSTM", "RNN"] and both.runs["RNN"]["loss"].dtype == np.float64
    assert list(tr.inspect.loss_curves([1.0], np.ones(3)).runs) == ["run 1", "run 2"]
    assert tr.inspect.loss_curves([1.0]).unit == "step"
    assert list(tr.inspect.loss_curves(one, measure="accuracy").runs[""]) == ["val_accuracy"]
    assert list(tr.inspect.loss_curves(one, measure="lr").runs[""]) == ["lr"]


def test_curves_of_a_run() -> None:
    x, y = normal(0, 16, 5, 2), normal(1, 16, 5, 4)
    net = tr.LSTM(2, 4, batch_first=True)
    run = net.fit(x, y, epochs=2, loss="mse", optimizer="sgd", verbose=0)
    assert tr.inspect.loss_curves(run).runs[""]["loss"].tolist() == run["loss"]


def test_curve_errors() -> None:
    curves = tr.inspect.loss_curves
    with pytest.raises(ValueError, match="at least one run"):
        curves()
    with pytest.raises(ValueError, match="labels are"):
        curves([1.0], [2.0], labels=["a"])
    with pytest.raises(ValueError, match="all different"):
        curves([1.0], [2.0], labels=["a", "a"])
    with pytest.raises(KeyError, match="run 1 has no loss, expected one of lr"):
        curves(history(lr=[1.0]))
    with pytest.raises(ValueError, match="run 2 is empty"):
        curves([1.0], [])
    with pytest.raises(tr.ShapeError, match=r"run 1 has shape \(2, 2\)"):
        curves(np.ones((2, 2)))
    with pytest.raises(TypeError, match="expected numbers, or a History"):
        curves(["a"])


# ---- pictures -----------------------------------------------------------------------------------


def is_png(path: Any) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_plot_of_norms(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    found = tr.inspect.gradient_norms(
        tr.GRU(2, 3, 2, bidirectional=True), normal(0, 6, 2), dy=normal(1, 6, 6)
    )
    figure = found.plot(tmp_path / "norms.png")
    assert is_png(tmp_path / "norms.png")
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert np.array_equal(lines[2].get_ydata(), found.norms["l1"])
    assert figure.axes[0].get_yscale() == "log"

    own = Figure()
    ax = own.subfigures(1, 2)[1].subplots()
    assert found.plot(ax=ax, label="GRU") is own
    assert ax.get_lines()[0].get_label() == "GRU l0"


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0], [np.inf, 0.0, 1.0], [np.nan, np.inf]])
def test_plot_of_norms_that_are_no_curve(tmp_path: Any, values: list[float]) -> None:
    pytest.importorskip("matplotlib")
    tr.inspect.GradientNorms({"l0": np.array(values)}).plot(tmp_path / "norms.png")
    assert is_png(tmp_path / "norms.png")


def test_plot_of_gates(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    net = tr.Sequential({"lstm": tr.LSTM(2, 3), "gru": tr.GRU(3, 4, bidirectional=True)})
    found = tr.inspect.gate_activations(net, normal(0, 6, 2, 2))
    figure = found.plot(tmp_path / "gates.png", row=1)
    assert is_png(tmp_path / "gates.png")
    titles = [panel.get_title() for panel in figure.axes if panel.get_images()]
    assert "forget gate f" in titles and "update gate z, reverse" in titles
    assert len(titles) == 5 + 4 + 4
    bars = {panel.get_ylabel() for panel in figure.axes if not panel.get_images()}
    assert {"scale of i, f, o, r, z", "scale of g, h, n"} <= bars

    ax = Figure().subplots()
    found.plot(ax=ax, layer="gru.l0", gate="z_reverse")
    assert np.array_equal(ax.get_images()[0].get_array(), found.layers["gru.l0"]["z_reverse"][:, 0].T)
    with pytest.raises(ValueError, match="several gates for one ax"):
        found.plot(ax=ax, layer="lstm.l0")
    with pytest.raises(KeyError, match="layer is 'rnn', expected one of lstm.l0, gru.l0"):
        found.plot(layer="rnn")
    with pytest.raises(KeyError, match="gate is 'z', expected one of i, f, g, o, h"):
        found.plot(layer="lstm.l0", gate="z")
    with pytest.raises(IndexError, match=r"row is 2, expected 0 .. 1"):
        found.plot(row=2)


def test_plot_of_curves(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    one = history(loss=[3.0, 2.0], val_loss=[4.0, 3.5])
    figure = tr.inspect.loss_curves(one).plot(tmp_path / "one.png", log=True)
    assert is_png(tmp_path / "one.png")
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["training", "validation"]
    figure = tr.inspect.loss_curves(one, [1.0], labels=["LSTM", "RNN"]).plot()
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["LSTM", "LSTM validation", "RNN"]


def test_numbers_come_without_matplotlib(monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    x = normal(0, 6, 2)
    found = [
        tr.inspect.gradient_norms(tr.RNN(2, 3), x, dy=normal(1, 6, 3)),
        tr.inspect.gate_activations(tr.RNN(2, 3), x),
        tr.inspect.loss_curves([1.0, 0.5]),
    ]
    for each in found:
        with pytest.raises(ImportError, match=rf"{type(each).__name__}.plot needs matplotlib: pip install"):
            each.plot()


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, tinyrnn as tr; assert 'tinyrnn.inspect' not in sys.modules; "
        "tr.inspect.gradient_norms; assert 'matplotlib' not in sys.modules; "
        "import inspect; assert inspect is not tr.inspect and inspect.signature"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the example --------------------------------------------------------------------------------


def run_example(tmp_path: Any, *options: str) -> str:
    script = EXAMPLES / "gradients/gradients.py"
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_example_tells_the_nets_apart(tmp_path: Any) -> None:
    lines = run_example(tmp_path, "--no-plot", "--updates", "2").splitlines()
    first, last = ({line[:26].strip(): float(line.split()[i]) for line in lines[1:6]} for i in (-6, -1))
    fell = {name: first[name] / last[name] for name in first}
    assert fell["RNN"] < 1e-15 and fell["LSTM"] < 1e-15
    assert fell["RNN, recurrent weights x 4"] > 1e3
    assert 1e-12 < fell["LSTM, forget bias + 1"] < 1e-5
    assert 1e-2 < fell["LSTM, forget bias + 5"] < 1e2
    assert not list(tmp_path.iterdir())


def test_example_draws(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    run_example(tmp_path, "--steps", "5", "--updates", "2", "--out", ".")
    assert all(is_png(tmp_path / f"{name}.png") for name in ("gradients", "losses", "gates"))
