"""The drift report, on errors that were planted and so are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
from memory import within
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.loading import build
from tinyrnn.tracing import watch


def copied(net: tr.Net, **changes: Callable[[NDArray[Any]], Any]) -> tr.Net:
    """A copy of a net, with changes to the tensors of some names (``__`` for a dot)."""
    other = build(net._describe())
    state = net.state_dict()
    for name, change in changes.items():
        state[name.replace("__", ".")] = change(state[name.replace("__", ".")])
    other.load_state_dict(state)
    return other


def stack() -> tuple[tr.Sequential, NDArray[np.float32]]:
    tr.manual_seed(3)
    net = tr.Sequential({"front": tr.Linear(5, 6), "lstm": tr.LSTM(6, 7, 2), "head": tr.Linear(7, 4)})
    return net, np.random.default_rng(0).standard_normal((250, 3, 5)).astype(np.float32)


# ---- errors that are known ----------------------------------------------------------------------


def test_a_net_does_not_drift_from_itself() -> None:
    net, x = stack()
    report = tr.drift(net, copied(net), x)
    assert report.windows == [(1, 10), (11, 100), (101, 250)]
    gates = [f"lstm.l{level}{gate}" for level in (0, 1) for gate in ("", ".i", ".f", ".g", ".o")]
    assert list(report.parts) == ["front", *gates, "head", "output"]
    for part in report.parts.values():
        assert part.format == "" if part is report.parts["output"] else True
        assert part.rms.shape == part.largest.shape == (3,)
        assert not part.rms.any() and not part.largest.any()
    assert report.losses is None


def test_an_error_shows_where_it_was_planted_and_after() -> None:
    net, x = stack()
    scaled = copied(
        net, head__weight=lambda w: w * np.float32(1.25), head__bias=lambda b: b * np.float32(1.25)
    )
    report = tr.drift(net, scaled, x)
    for name, part in report.parts.items():
        assert part.rms == pytest.approx(0.25 if name in ("head", "output") else 0, abs=1e-6), name
    assert np.all(report.parts["head"].largest > report.parts["head"].rms)

    def shift_forget_gates(bias: NDArray[Any]) -> NDArray[Any]:
        bias[7:14] += 1
        return bias

    report = tr.drift(net, copied(net, lstm__bias_ih_l1=shift_forget_gates), x)
    for name, part in report.parts.items():
        assert bool(part.rms.any()) == name.startswith(("lstm.l1", "head", "output")), name
    at_once = tr.drift(net, copied(net, lstm__bias_ih_l1=shift_forget_gates), x[:1])
    assert at_once.windows == [(1, 1)]
    assert [name for name, part in at_once.parts.items() if part.rms.any()] == ["lstm.l1.f"]


def test_error_grows_as_it_must() -> None:
    """h stays 1 in one net and approaches 2 in the other: 1 - 2**(1 - t) apart."""
    net = tr.RNN(1, 1, nonlinearity="relu", bias=False)
    net.load_state_dict({"weight_ih_l0": [[1]], "weight_hh_l0": [[0]]})
    other = copied(net, weight_hh_l0=lambda w: w + 0.5)
    report = tr.drift(net, other, np.ones((1234, 1)))
    apart = 1 - 2.0 ** (1 - np.arange(1, 1235))
    assert report.windows == [(1, 10), (11, 100), (101, 1000), (1001, 1234)]
    wanted = [np.sqrt(np.square(apart[first - 1 : last]).mean()) for first, last in report.windows]
    assert report.parts["l0"].rms == pytest.approx(wanted)
    assert report.parts["l0"].largest == pytest.approx([apart[last - 1] for _, last in report.windows])
    assert list(report.parts) == ["l0", "output"]  # an Elman RNN has no gates


def test_errors_are_in_parts_of_the_signal_and_of_nothing_infinite() -> None:
    net = tr.Linear(1, 1)
    net.load_state_dict({"weight": [[2]], "bias": [0]})
    report = tr.drift(net, copied(net, bias=lambda b: b + 1), np.array([[3], [4]]))
    assert report.parts["Linear"].rms == pytest.approx([1 / np.sqrt((36 + 64) / 2)])
    silent = tr.drift(net, copied(net, bias=lambda b: b + 1), np.zeros((2, 1)))
    assert silent.parts["Linear"].rms.tolist() == silent.parts["Linear"].largest.tolist() == [np.inf]
    assert "inf" in str(silent)
    assert not tr.drift(net, net, np.zeros((2, 1))).parts["Linear"].rms.any()


def test_numbers_that_are_not_finite_show() -> None:
    net, x = stack()
    x[100, 1, 2] = np.nan
    report = tr.drift(net, tr.quantize(net, "int8"), x)
    for part in report.parts.values():
        for errors in (part.rms, part.largest):
            assert np.isfinite(errors[:1]).all() and np.isnan(errors[2])
    x[100, 1, 2] = np.inf
    assert "nan" in str(tr.drift(net, tr.quantize(net, "int8"), x))


# ---- gates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gates_are_the_nets_own(name: str, bidirectional: bool) -> None:
    """The kernels' output follows from the gates that NumPy finds."""
    tr.manual_seed(5)
    x = np.random.default_rng(0).standard_normal((20, 2, 37)).astype(np.float32)
    for net in (tr.LSTM(37, 33, 2, bidirectional=bidirectional), tr.GRU(37, 33, bidirectional=bidirectional)):
        (seen,) = watch(tr.quantize(net, name) if name != "float32" else net, x)
        for level in seen:
            gates = level.gates()
            for direction, suffix in enumerate(["", "_reverse"][: 1 + bidirectional]):
                y = level.y[..., 33 * direction : 33 * direction + 33]
                c = h = np.zeros_like(y[0])
                for t in range(20)[:: -1 if direction else 1]:
                    if "r" in gates:
                        n, z = (gates[gate + suffix][t] for gate in "nz")
                        h = (1 - z) * n + z * level.before[direction][t]
                    else:
                        i, f, g, o = (gates[gate + suffix][t] for gate in "ifgo")
                        c = f * c + i * g
                        h = o * np.tanh(c)
                    np.testing.assert_allclose(h, y[t], rtol=0, atol=5e-6)


def test_gates_of_float32_are_the_oracles() -> None:
    net, x = stack()
    (seen,) = watch(net, x[:30])
    level = seen[1]
    assert level.name == "lstm.l0"
    w = {key: value.astype(np.float64) for key, value in level.tensors(0).items()}
    gates = level.gates()
    for t, b in ((0, 0), (7, 2), (29, 1)):
        from_x, from_h = oracle.gates(w, level.x[t, b], level.before[0][t, b])
        for name, total in zip("ifgo", np.split(from_x + from_h, 4), strict=True):
            wanted = np.tanh(total) if name == "g" else oracle.sigmoid(total)
            np.testing.assert_allclose(gates[name][t, b], wanted, rtol=0, atol=1e-6)


# ---- long sequences -----------------------------------------------------------------------------


def test_chunks_change_nothing_and_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = stack()
    other = tr.quantize(net, "int8")
    targets = np.random.default_rng(1).integers(0, 4, (250, 3))
    whole = tr.drift(net, other, x, targets)
    monkeypatch.setattr("tinyrnn.tracing.CHUNK", 7 * 3)
    parts = tr.drift(net, other, x, targets)
    assert parts.windows == whole.windows and parts.parts.keys() == whole.parts.keys()
    for name in whole.parts:
        assert parts.parts[name].rms == pytest.approx(whole.parts[name].rms, rel=1e-5)
        assert parts.parts[name].largest == pytest.approx(whole.parts[name].largest, rel=1e-5)
    assert parts.losses == pytest.approx(whole.losses)

    monkeypatch.undo()
    long = np.broadcast_to(x[0, 0], (100_000, 5))  # takes no memory itself
    with within(8 << 20):
        report = tr.drift(net, other, long)
    assert report.windows[-1] == (10_001, 100_000)


@pytest.mark.parametrize("name", ["int8", "int4", "bfloat16"])
def test_nets_of_every_kind(name: str) -> None:
    tr.manual_seed(1)
    generator = np.random.default_rng(2)
    x = generator.standard_normal((30, 2, 6, 8)).astype(np.float32)
    symbols = generator.integers(0, 9, 30)
    nets: list[tuple[tr.Net, Any, str]] = [
        (tr.Sequential(tr.Conv1d(6, 4, 3), tr.Flatten(), tr.GRU(24, 5, batch_first=True)), x, "2.l0.z"),
        (tr.Sequential(tr.Embedding(9, 33), tr.LSTM(33, 5, bidirectional=True)), symbols, "1.l0.o_reverse"),
        (tr.Sequential(tr.Conv1d(6, 4, 3), tr.BatchNorm1d(4), tr.Softmax(-1)), x[:, 0], "1"),
        (tr.Conv1d(6, 4, 3), x[0, 0], "Conv1d"),
        (tr.LSTMCell(8, 5), x[:, 0, 0], "LSTMCell.g"),
        (tr.LSTM(8, 7, proj_size=3), x[:, :, 0], "l0.i"),
    ]
    for net, given, part in nets:
        smaller = tr.quantize(net, name, given)
        report = tr.drift(net, smaller, given)
        errors = report.parts[part]
        assert 0 < errors.rms.max() < 0.3 and np.isfinite(errors.largest).all(), part
        expected = net._run(given, None, None, 1)[0] if net._recurrent else net(given)
        found = smaller._run(given, None, None, 1)[0] if net._recurrent else smaller(given)
        total = np.sqrt(np.square(found - expected).sum() / np.square(expected).sum())
        assert total <= report.parts["output"].rms.max() * 1.0001
        assert report.parts["output"].rms.min() * 0.9999 <= total
        assert {errors.format for errors in report.parts.values()} == {"", name}


# ---- the task's loss ----------------------------------------------------------------------------


def test_losses() -> None:
    net, x = stack()
    other = tr.quantize(net, "int4")
    classes = np.random.default_rng(1).integers(0, 4, (250, 3))
    report = tr.drift(net, other, x, classes)
    for found, one in zip(report.losses, (net, other), strict=True):
        scores = oracle.log_softmax(one(x).astype(np.float64), -1)
        assert found == pytest.approx(-np.take_along_axis(scores, classes[..., None], -1).mean())
    wanted = net(x)
    report = tr.drift(net, other, x, wanted)
    assert report.losses == (0, pytest.approx(np.square(other(x) - wanted).mean(), rel=1e-5))
    one_row = tr.drift(net, other, x[:, 0], classes[:, 0]).losses
    assert one_row == pytest.approx(tr.drift(net, other, x[:, :1], classes[:, :1]).losses)

    def wrong(output: NDArray[Any], targets: NDArray[Any]) -> float:
        assert output.shape == (250, 3, 4) and targets.shape == (250, 3)
        return float((output.argmax(axis=-1) != targets).mean())

    report = tr.drift(net, other, x, classes, loss=wrong)
    assert report.losses[0] == (net(x).argmax(axis=-1) != classes).mean()
    assert "loss 0.7" in str(report)


def test_losses_of_batch_first_and_of_frames() -> None:
    tr.manual_seed(1)
    x = np.random.default_rng(2).standard_normal((3, 20, 5)).astype(np.float32)
    net = tr.Sequential(tr.GRU(5, 4, batch_first=True), tr.Linear(4, 2))
    wanted = np.random.default_rng(3).standard_normal((3, 20, 2))
    report = tr.drift(net, net, x, wanted)
    assert report.losses[0] == pytest.approx(np.square(net(x) - wanted).mean())
    head = tr.Linear(5, 2)
    assert tr.drift(head, head, x, wanted).losses[0] == pytest.approx(np.square(head(x) - wanted).mean())
    assert tr.drift(head, head, x[0, 0], wanted[0, 0]).losses[0] > 0


@pytest.mark.parametrize(
    "targets, error, words",
    [
        (np.zeros((249, 3), int), tr.ShapeError, r"targets have shape \(249, 3\), expected one that begins"),
        (np.zeros((250, 3, 4), int), tr.ShapeError, r"targets have shape \(250, 3, 4\), expected \(250, 3\)"),
        (np.zeros((250, 3, 5)), tr.ShapeError, r"targets have shape \(250, 3, 5\), expected \(250, 3, 4\)"),
        (np.full((250, 3), 4), IndexError, r"targets hold 4 \.\. 4, expected 0 \.\. 3"),
        (np.full((250, 3), -1), IndexError, r"targets hold -1 \.\. -1, expected 0 \.\. 3"),
    ],
)
def test_targets_that_do_not_fit(targets: Any, error: type[Exception], words: str) -> None:
    net, x = stack()
    with pytest.raises(error, match=words):
        tr.drift(net, net, x, targets)


def test_nets_and_inputs_that_do_not_fit() -> None:
    net, x = stack()
    with pytest.raises(ValueError, match="differ in their layers"):
        tr.drift(net, net.lstm, x)
    with pytest.raises(ValueError, match="differ in their layers"):
        tr.drift(tr.GRU(5, 4), tr.GRU(5, 4, bias=False), x)
    with pytest.raises(ValueError, match="got a loss, but no targets"):
        tr.drift(net, net, x, loss=lambda output, targets: 0.0)
    with pytest.raises(tr.ShapeError, match=r"input has shape \(.*\), expected at least one step"):
        tr.drift(net, net, x[:0])
    with pytest.raises(tr.ShapeError, match="expected"):
        tr.drift(net, net, x[..., :4])


def test_the_table() -> None:
    net, x = stack()
    text = str(tr.drift(net, tr.quantize(net, "int8", keep=["front"]), x, np.zeros((250, 3), int)))
    head, *rows, last = text.splitlines()
    assert head.startswith("rms error, % of the signal  ")
    assert head.split()[-4:] == ["1-10", "11-100", "101-250", "largest"]
    assert [row.split()[:2] for row in rows[:2]] == [["front", "float32"], ["lstm.l0", "int8"]]
    assert rows[0].split()[2:] == ["0"] * 4
    assert rows[2].startswith("lstm.l0.i  ") and len({len(row) for row in rows}) == 1
    assert last.startswith("loss 1.") and last.endswith("%)")
