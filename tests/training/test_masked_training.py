"""Masks of the loss in trainers, `fit` and `evaluate`: PyTorch's steps, lengths, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import callbacks

N, T, F, C = 21, 9, 3, 4


def net_of(*, batch_first: bool = False) -> Any:
    tr.manual_seed(1)
    return tr.Sequential({"rnn": tr.GRU(F, 8, batch_first=batch_first), "head": tr.Linear(8, C)})


def data(seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, T, F)).astype(np.float32)
    y = (x.cumsum(1)[..., 0] > 0).astype(np.int32) + 2 * (x[..., 1] > 0)
    mask = rng.random((N, T)) < 0.6
    mask[0] = False
    mask[1, -3:] = False
    return x, y.astype(np.int32), mask


def bits(net: Any) -> bytes:
    return b"".join(array.tobytes() for array in net.state_dict().values())


def fit(net: Any, x: Any, y: Any, epochs: int = 2, batch_size: int = 8, **options: Any) -> Any:
    options = {"loss": "cross_entropy", "optimizer": "adam", "verbose": 0, **options}
    return net.fit(x, y, epochs, batch_size, **options)


def first_steps(lengths: Any) -> Any:
    return np.arange(T) < np.asarray(lengths)[:, None]


# ---- the trainer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("per_step", [True, False])
def test_steps_are_those_of_pytorch(per_step: bool, threads: int) -> None:
    torch = pytest.importorskip("torch")
    net = net_of()
    rnn, head = torch.nn.GRU(F, 8), torch.nn.Linear(8, C)
    twin = torch.nn.ModuleDict({"rnn": rnn, "head": head})
    twin.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
    theirs = torch.optim.Adam(twin.parameters(), lr=0.01)
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.CrossEntropyLoss(), N, T, threads=threads)
    for seed in range(4):
        x, y, mask = data(seed)
        counts = torch.tensor(mask.T)
        theirs.zero_grad()
        out = head(rnn(torch.tensor(x.swapaxes(0, 1)))[0])
        wanted = torch.tensor(y.T.astype(np.int64))
        if per_step:
            given, value = y.T, torch.nn.functional.cross_entropy(out[counts], wanted[counts])
        else:
            given = y[:, 0]
            rows = torch.tensor(np.flatnonzero(mask.any(1)))
            last = torch.tensor([int(np.flatnonzero(mask[row])[-1]) for row in rows])
            value = torch.nn.functional.cross_entropy(out[last, rows], wanted[0, rows])
        value.backward()
        theirs.step()
        ours = trainer.step(x.swapaxes(0, 1), given, mask=mask.T)
        assert ours == pytest.approx(value.item(), rel=1e-5)
        assert trainer.evaluate(x.swapaxes(0, 1), given, mask=mask.T) < ours
    for name, tensor in twin.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], tensor.numpy(), atol=2e-5)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("per_step", [True, False])
def test_a_mask_of_the_first_steps_is_lengths(per_step: bool, batch_first: bool) -> None:
    x, y, _ = data()
    lengths = np.random.default_rng(2).integers(1, T + 1, N)
    mask, found = first_steps(lengths), []
    for given in ({"lengths": lengths}, {"mask": mask if batch_first else mask.T}, {"lengths": lengths}):
        net = net_of(batch_first=batch_first)
        trainer = net.trainer(tr.optim.Adam(net), tr.CrossEntropyLoss(), N, T)
        xs = x if batch_first else x.swapaxes(0, 1)
        ys = (y if batch_first else y.T) if per_step else y[:, 0]
        loss = [trainer.step(xs, ys, **given) for _ in range(3)]
        found.append((loss, [round(float(abs(array).sum()), 3) for array in net.state_dict().values()]))
    assert found[0] == found[2]
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4)


def two_outputs() -> Any:
    tr.manual_seed(2)
    x = tr.Input(F, name="x")
    h = tr.GRU(F, 8)(x)
    return tr.Net(x, {"tag": tr.Linear(8, C)(h), "mood": tr.Linear(8, 2)(tr.MeanOverTime()(h))})


LOSSES = {"tag": tr.CrossEntropyLoss(), "mood": tr.MSELoss()}


def two_targets() -> tuple[Any, Any]:
    _, y, mask = data()
    mood = np.random.default_rng(4).standard_normal((N, 2)).astype(np.float32)
    return {"tag": y, "mood": mood}, {"tag": mask, "mood": mask[:, 1]}


def test_several_outputs() -> None:
    """The sum of losses that count alone; a mask of one output leaves the other whole."""
    x, _, _ = data()
    y, masks = two_targets()
    steps_first = {"tag": y["tag"].T, "mood": y["mood"]}
    for some in (masks, {"tag": masks["tag"]}, {"mood": masks["mood"], "tag": None}, {}):
        net = two_outputs()
        given = {name: mask.T if mask is not None and mask.ndim == 2 else mask for name, mask in some.items()}
        out = net(x.swapaxes(0, 1))
        wanted = 0.0
        for name, loss in LOSSES.items():
            counts = given.get(name)
            counts = np.ones(out[name].shape[:-1], bool) if counts is None else counts
            wanted += loss(out[name][counts], steps_first[name][counts])[0]
        trainer = net.trainer(tr.optim.SGD(net, lr=0.1), LOSSES, N, T)
        assert trainer.evaluate(x.swapaxes(0, 1), steps_first, mask=given) == pytest.approx(wanted, rel=1e-6)
        assert trainer.step(x.swapaxes(0, 1), steps_first, mask=given) == pytest.approx(wanted, rel=1e-6)
        found = net.evaluate(x, y, loss=LOSSES, mask=some)["loss"]
        assert found == pytest.approx(trainer.evaluate(x.swapaxes(0, 1), steps_first, mask=given), rel=1e-6)


def test_an_output_with_a_rate() -> None:
    """A mask is of the output's own steps."""
    x, _, _ = data()
    tr.manual_seed(3)
    net = tr.Sequential(tr.TimeConv1d(F, 5, 3, stride=2), tr.GRU(5, 6), tr.Linear(6, 2))
    y = np.random.default_rng(5).standard_normal((N, 5, 2)).astype(np.float32)
    mask = np.random.default_rng(6).random((N, 5)) < 0.5
    out, mse = net.predict(x), tr.MSELoss()
    assert out.shape == y.shape
    wanted = mse(out[mask], y[mask])[0]
    assert net.evaluate(x, y, loss=mse, mask=mask)["loss"] == pytest.approx(wanted, rel=1e-6)
    trainer = net.trainer(tr.optim.SGD(net, lr=0.1), mse, N, T)
    assert trainer.step(x.swapaxes(0, 1), y.swapaxes(0, 1), mask=mask.T) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(tr.ShapeError, match=rf"step: mask: got shape \({T}, {N}\), expected \(5, {N}\)"):
        trainer.step(x.swapaxes(0, 1), y.swapaxes(0, 1), mask=np.ones((T, N), bool))


# ---- fit and evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_fit_and_evaluate(per_step: bool, listed: bool) -> None:
    """Targets that do not count may hold anything; loss and accuracy are those of the others."""
    x, y, mask = data()
    lengths = np.random.default_rng(3).integers(4, T + 1, N)
    counts = mask & first_steps(lengths)
    last = [int(np.flatnonzero(row)[-1]) if row.any() else -1 for row in counts]
    wild = np.where(mask, y, 99) if per_step else np.where(counts.any(1), y[:, 0], 99)
    given: dict[str, Any] = {"lengths": lengths, "mask": mask}
    xs: Any = x
    if listed:
        given = {"mask": [row[:end] for row, end in zip(mask, lengths, strict=True)]}
        xs = [row[:end] for row, end in zip(x, lengths, strict=True)]
        if per_step:
            wild = [row[:end] for row, end in zip(wild, lengths, strict=True)]
    loss, metrics = tr.CrossEntropyLoss(weight=[1, 2, 3, 4]), "accuracy"
    net = net_of()
    history = fit(net, xs, wild, 3, loss=loss, **given)
    assert history["loss"][-1] < history["loss"][0]
    out = net.predict(x)
    if per_step:
        chosen, wanted = out[counts], y[counts]
    else:
        some = np.flatnonzero(counts.any(1))
        chosen, wanted = out[some, np.array(last)[some]], y[some, 0]
    found = net.evaluate(xs, wild, 5, loss=loss, metrics=metrics, **given)
    assert found["loss"] == pytest.approx(loss(chosen, wanted)[0], rel=1e-6)
    assert found["accuracy"] == pytest.approx((chosen.argmax(-1) == wanted).mean())
    assert net.evaluate(xs, wild, 64, loss=loss, metrics=metrics, **given) == found
    floats = net.evaluate(
        x, np.where(counts[..., None], out + 1, np.nan), loss="mse", mask=mask, lengths=lengths
    )
    assert floats["loss"] == pytest.approx(1, rel=1e-5)


def test_fit_is_the_low_level_loop() -> None:
    x, y, mask = data()
    fitted, looped = net_of(), net_of()
    history = fit(fitted, x, y, 2, 7, shuffle=False, mask=mask)
    trainer = looped.trainer(tr.optim.Adam(looped), tr.CrossEntropyLoss(), 7, T)
    for epoch in range(2):
        total = 0.0
        for at in range(0, N, 7):
            part = slice(at, at + 7)
            loss = trainer.step(x[part].swapaxes(0, 1), y[part].T, mask=mask[part].T)
            total += loss * mask[part].sum()
        assert history["loss"][epoch] == pytest.approx(total / mask.sum(), rel=1e-6)
    assert bits(fitted) == bits(looped)


def test_truncated_bptt_and_samples_that_do_not_count() -> None:
    """Chunks in which nothing counts add nothing; a batch of such samples does not end the mean."""
    x, y, mask = data()
    mask[:8], mask[8:, :3] = False, False
    net = net_of()
    history = fit(net, x, y, 2, 8, bptt=3, shuffle=False, mask=mask)
    assert np.isfinite(history["loss"]).all()
    before = net_of()
    same = fit(before, x[8:], y[8:], 1, 8, bptt=9, shuffle=False, mask=mask[8:], optimizer="sgd")
    both = net_of()
    other = fit(both, x, y, 1, 8, bptt=9, shuffle=False, mask=mask, optimizer="sgd")
    assert bits(before) == bits(both) and other["loss"] == same["loss"]


def test_validation_and_checkpoints(tmp_path: Any) -> None:
    """Validation data takes a mask of its own; a run with another mask is not resumed."""
    x, y, mask = data()
    path = tmp_path / "run.safetensors"
    whole, paused = net_of(), net_of()
    valid = (x, y, None, mask)
    history = fit(whole, x, y, 4, mask=mask, validation_data=valid, metrics="accuracy")
    measured = whole.evaluate(x, y, loss="cross_entropy", metrics="accuracy", mask=mask)
    assert history["val_loss"][-1] == measured["loss"]
    assert history["val_accuracy"][-1] == measured["accuracy"]
    fit(paused, x, y, 2, mask=mask, callbacks=[callbacks.Checkpoint(path)])
    for other in (None, np.ones((N, T), bool)):
        with pytest.raises(ValueError, match="mask: got {'y': "):
            fit(net_of(), x, y, 4, mask=other, resume=path)
    resumed = net_of()
    fit(resumed, x, y, 4, mask=mask, resume=path)
    assert bits(resumed) == bits(whole)


def test_single_frames() -> None:
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(F, 8), tr.Tanh(), tr.Linear(8, C))
    x, y, mask = data()
    x, y, mask = x[:, 0], y[:, 0], mask[:, 1]
    alone = copy.deepcopy(net)
    fit(net, x, np.where(mask, y, -1), 3, N, shuffle=False, mask=mask, optimizer="sgd")
    fit(alone, x[mask], y[mask], 3, N, shuffle=False, optimizer="sgd")
    for name, array in alone.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], array, atol=1e-6)
    found = net.evaluate(x, y, loss="cross_entropy", metrics="accuracy", mask=mask.tolist())
    assert found == pytest.approx(net.evaluate(x[mask], y[mask], loss="cross_entropy", metrics="accuracy"))


def test_a_masked_net_learns_as_the_shorter_sequences_do() -> None:
    """Masked layers and a masked loss: a step in the middle of a row might as well not be there."""
    x, y, mask = data()
    rows = [i for i in range(N) if mask[i].any()]
    tr.manual_seed(1)
    a, m = tr.Input(F, name="x"), tr.Input(1, name="m")
    net = tr.Net([a, m], tr.Linear(8, C)(tr.GRU(F, 8)(a, mask=m)))
    plain = net_of()
    plain.load_state_dict(dict(zip(plain.state_dict(), net.state_dict().values(), strict=True)))
    history = fit(
        net,
        {"x": x[rows], "m": mask[rows, :, None].astype(np.float32)},
        y[rows],
        3,
        len(rows),
        shuffle=False,
        optimizer="sgd",
        mask=mask[rows],
    )
    cut = [x[i][mask[i]] for i in rows], [y[i][mask[i]] for i in rows]
    other = fit(plain, *cut, 3, len(rows), shuffle=False, optimizer="sgd")
    np.testing.assert_allclose(history["loss"], other["loss"], rtol=1e-5)
    for one, two in zip(net.state_dict().values(), plain.state_dict().values(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


# ---- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((N, T - 1), bool), tr.ShapeError, rf"fit: mask: got shape \({N}, {T - 1}\), expected"),
        (np.ones(N, bool), tr.ShapeError, rf"fit: mask: got shape \({N},\), expected \({N}, {T}\)"),
        ([np.ones(T, bool)] * (N - 1), tr.ShapeError, f"fit: mask: got {N - 1} samples, expected {N}"),
        ([np.ones(T - 1, bool)] * N, tr.ShapeError, rf"fit: mask\[0\]: got shape \({T - 1},\), expected"),
        (np.zeros((N, T), bool), ValueError, "fit: mask: got no step that counts, expected at least one"),
        (np.full((N, T), 0.5), ValueError, "fit: mask: got 0.5, expected 0 or 1: 1 where a step counts"),
        (np.full((N, T), "yes"), TypeError, "fit: mask: got dtype <U3, expected bool"),
        ({"tag": np.ones((N, T), bool)}, TypeError, r"fit: mask: got \['tag'\], expected a mapping"),
    ],
)
def test_refused_by_fit(mask: Any, error: type[Exception], message: str) -> None:
    x, y, _ = data()
    net = net_of()
    before = bits(net)
    with pytest.raises(error, match=message):
        fit(net, x, y, mask=mask)
    assert bits(net) == before


def test_refused_by_trainers() -> None:
    x, y, mask = data()
    y[2, 3] = 50
    mask[2, 3] = True
    net = net_of()
    trainer = net.trainer(tr.optim.Adam(net), tr.CrossEntropyLoss(), N, T)
    before, xs = bits(net), x.swapaxes(0, 1)
    for wrong in (mask, mask.T[:, :1], mask.T[..., None], mask.T[0]):
        with pytest.raises(tr.ShapeError, match="step: mask: got shape"):
            trainer.step(xs, y.T, mask=wrong)
        with pytest.raises(tr.ShapeError, match="evaluate: mask: got shape"):
            trainer.evaluate(xs, y.T, mask=wrong)
    with pytest.raises(IndexError, match=r"target 50 at \[3, 2\] is out of range"):
        trainer.step(xs, y.T, mask=mask.T)
    assert bits(net) == before
    mask[2, 3] = False
    assert np.isfinite(trainer.step(xs, y.T, mask=mask.T))
    several = two_outputs()
    targets, masks = two_targets()
    with pytest.raises(TypeError, match="fit: mask: got ndarray, expected a mapping from output to mask"):
        fit(several, x, targets, loss=LOSSES, mask=masks["tag"])


def test_ctc_takes_no_mask() -> None:
    x, _, mask = data()
    net = tr.Sequential(tr.GRU(F, 8), tr.Linear(8, C), tr.LogSoftmax(-1))
    labels, out = [[1, 2]] * N, net.predict(x).swapaxes(0, 1)
    message = "got a mask, expected none"
    with pytest.raises(ValueError, match=f"CTCLoss: {message}"):
        tr.CTCLoss()(out, labels, mask=mask.T)
    trainer = net.trainer(tr.optim.Adam(net), tr.CTCLoss(), N, T, target_steps=2)
    with pytest.raises(ValueError, match=f"CTCLoss: {message}"):
        trainer.step(x.swapaxes(0, 1), labels, mask=mask.T)
    with pytest.raises(ValueError, match=f"fit: y: {message}"):
        fit(net, x, labels, loss="ctc", mask=mask)
