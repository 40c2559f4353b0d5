"""Masks of losses in training: the trainer, `fit` and `evaluate`, beside PyTorch, lengths and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

N, T, F, C = 10, 7, 3, 4


def tagger(batch_first: bool = True) -> tr.Sequential:
    tr.manual_seed(3)
    return tr.Sequential(tr.GRU(F, 8, batch_first=batch_first), tr.Linear(8, C))


def two_outputs() -> tr.Net:
    tr.manual_seed(4)
    x = tr.Input(F)
    h = tr.GRU(F, 8)(x)
    return tr.Net(x, {"kind": tr.Linear(8, C)(h), "size": tr.Linear(8, 1)(h), "all": tr.MeanOverTime()(h)})


def data(seed: int = 0) -> tuple[Any, Any, Any]:
    """Samples, a class for each step, and a mask with holes and a sample that does not count at all."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((N, T, F)).astype(np.float32)
    mask = generator.random((N, T)) < 0.6
    mask[4] = False
    return x, generator.integers(0, C, (N, T)), mask


def entropies(y: Any, target: Any) -> Any:
    y = np.asarray(y, np.float64)
    return np.log(np.exp(y).sum(-1)) - np.take_along_axis(y, target[..., None], -1)[..., 0]


def last_counted(mask: Any) -> tuple[Any, Any]:
    """The samples that count, and the last step of each."""
    rows = np.flatnonzero(mask.any(axis=1))
    return rows, T - 1 - mask[rows, ::-1].argmax(axis=1)


def numbers(net: tr.Net) -> dict[str, Any]:
    return net.state_dict()


def assert_same(net: tr.Net, other: tr.Net) -> None:
    for name, tensor in numbers(net).items():
        assert np.array_equal(tensor, numbers(other)[name]), name


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_steps_are_those_of_pytorch(threads: int, last: bool) -> None:
    torch = pytest.importorskip("torch")
    net = tagger()
    rnn, head = torch.nn.GRU(F, 8, batch_first=True), torch.nn.Linear(8, C)
    theirs = torch.nn.ModuleList([rnn, head])
    theirs.load_state_dict({name: torch.tensor(tensor) for name, tensor in numbers(net).items()})
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.CrossEntropyLoss(), N, T, threads=threads)
    for step in range(8):
        x, y, mask = data(step)
        rows, ends = last_counted(mask)
        output = head(rnn(torch.tensor(x))[0])
        optimizer.zero_grad()
        if last:
            loss = torch.nn.functional.cross_entropy(output[rows, ends], torch.tensor(y[rows, 0]))
        else:
            each = torch.nn.functional.cross_entropy(output.movedim(-1, 1), torch.tensor(y), reduction="none")
            loss = each[torch.tensor(mask)].mean()
        loss.backward()
        optimizer.step()
        target = y[:, 0] if last else np.where(mask, y, -7)
        evaluated = trainer.evaluate(x, target, mask=mask)
        value = trainer.step(x, target, mask=mask)
        assert evaluated == pytest.approx(value, rel=1e-6)
        assert value == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(numbers(net)[name], tensor.numpy(), atol=1e-4)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mask_of_first_steps_trains_as_lengths(batch_first: bool) -> None:
    x, y, _ = data()
    lengths = np.arange(N) % T + 1
    mask = np.arange(T) < lengths[:, None]
    nets = [tagger(batch_first), tagger(batch_first)]
    ways: Any = {"lengths": lengths}, {"mask": mask if batch_first else mask.T}
    for net, given in zip(nets, ways, strict=True):
        trainer = net.trainer(tr.optim.SGD(net, lr=0.1), tr.CrossEntropyLoss(), N, T)
        for _ in range(3):
            trainer.step(*((x, y) if batch_first else (x.swapaxes(0, 1), y.T)), **given)
    assert_same(*nets)


def test_fit_is_the_trainers_steps_and_evaluate_the_formula() -> None:
    x, y, mask = data()
    wild = np.where(mask, y, -9)
    net, other = tagger(), tagger()
    history = net.fit(
        x, wild, 2, 4, loss="cross_entropy", mask=mask, optimizer=tr.optim.SGD(net, lr=0.1), shuffle=False,
        validation_data=(x, wild, None, mask), metrics="accuracy", verbose=0,
    )  # fmt: skip
    for first in (0, 4, 8) * 2:
        rows = slice(first, first + 4)
        optimizer = tr.optim.SGD(other, lr=0.1)
        trainer = other.trainer(optimizer, tr.CrossEntropyLoss(), len(x[rows]), T)
        trainer.step(x[rows], wild[rows], mask=mask[rows])
    assert_same(net, other)
    output = net.predict(x)
    expected = entropies(output, y)[mask].mean()
    found = net.evaluate(x, wild, loss="cross_entropy", mask=mask, metrics="accuracy")
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"] == pytest.approx((output.argmax(-1) == y)[mask].mean())
    assert history["val_loss"][-1] == found["loss"] and history["val_accuracy"][-1] == found["accuracy"]


def test_one_target_a_sequence_is_the_last_counted_steps() -> None:
    x, y, mask = data()
    net = tagger()
    rows, ends = last_counted(mask)
    output = net.predict(x)[rows, ends]
    found = net.evaluate(x, y[:, 0], loss="cross_entropy", mask=mask, metrics="accuracy")
    assert found["loss"] == pytest.approx(entropies(output, y[rows, 0]).mean(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((output.argmax(-1) == y[rows, 0]).mean())
    history = net.fit(x, y[:, 0], 1, N, loss="cross_entropy", mask=mask, verbose=0)
    assert history["loss"][0] == pytest.approx(found["loss"], rel=1e-6)


def test_ragged_samples_lists_and_arrays_agree() -> None:
    x, y, mask = data()
    lengths = np.arange(N) % T + 1
    cut = [list(map(lambda row, end: row[:end], array, lengths)) for array in (x, y, mask)]
    nets = [tagger(), tagger()]
    options: dict[str, Any] = {"loss": tr.CrossEntropyLoss(weight=[1, 2, 3, 0.5]), "verbose": 0, "seed": 2}
    nets[0].fit(x, y, 2, 4, lengths=lengths, mask=mask, **options)
    nets[1].fit(cut[0], cut[1], 2, 4, mask=cut[2], **options)
    assert_same(*nets)
    inside = mask & (np.arange(T) < lengths[:, None])
    output = nets[0].predict(x, lengths=lengths)
    weights = np.array([1, 2, 3, 0.5])[y]
    expected = (entropies(output, y) * weights)[inside].sum() / weights[inside].sum()
    found = nets[1].evaluate(cut[0], cut[1], mask=cut[2], loss=options["loss"])
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_truncated_bptt_takes_a_part_of_the_mask() -> None:
    x, y, mask = data()
    mask[:, 3:6] = False  # the second chunk counts nothing
    net, other = tagger(), tagger()
    optimizer = tr.optim.SGD(net, lr=0.1)
    history = net.fit(
        x, y, 1, N, loss="cross_entropy", mask=mask, bptt=3, optimizer=optimizer, shuffle=False, verbose=0
    )
    trainer = other.trainer(tr.optim.SGD(other, lr=0.1), tr.CrossEntropyLoss(), N, 3)
    state, total = trainer.new_state(), 0.0
    for start in (0, 3, 6):
        part = slice(start, start + 3)
        value = trainer.step(x[:, part], y[:, part], None, state, begins=start == 0, mask=mask[:, part])
        assert np.isnan(value) == (start == 3)
        total += 0 if start == 3 else value * mask[:, part].sum()
    assert_same(net, other)
    assert history["loss"][0] == pytest.approx(total / mask.sum(), rel=1e-12)


def test_outputs_have_masks_of_their_own() -> None:
    x, y, mask = data()
    size = np.random.default_rng(5).standard_normal((N, T, 1)).astype(np.float32)
    losses = {"kind": tr.CrossEntropyLoss(), "size": tr.MSELoss()}
    net = two_outputs()
    found = net.evaluate(
        x, {"kind": np.where(mask, y, 99), "size": size}, loss=losses, mask={"kind": mask}
    )  # fmt: skip
    outputs = net(x.swapaxes(0, 1))
    kind, sizes = (outputs[name].swapaxes(0, 1) for name in ("kind", "size"))
    assert found["kind_loss"] == pytest.approx(entropies(kind, y)[mask].mean(), rel=1e-6)
    assert found["size_loss"] == pytest.approx(((sizes - size) ** 2).mean(), rel=1e-6)

    trainer = net.trainer(tr.optim.SGD(net, lr=0.0), losses, N, T)
    batch = x.swapaxes(0, 1), {"kind": np.where(mask, y, 99).T, "size": size.swapaxes(0, 1)}
    value = trainer.step(*batch, mask={"kind": mask.T, "size": None})
    assert trainer.losses["kind"] == pytest.approx(found["kind_loss"], rel=1e-6)
    assert value == pytest.approx(found["loss"], rel=1e-6)
    assert trainer.evaluate(*batch, mask={"kind": mask.T}) == pytest.approx(value, rel=1e-6)
    history = net.fit(
        x, {"kind": np.where(mask, y, 99), "size": size}, 1, N, loss=losses, mask={"kind": mask},
        optimizer=tr.optim.SGD(net, lr=0.1), verbose=0,
    )  # fmt: skip
    assert history["kind_loss"][0] == pytest.approx(found["kind_loss"], rel=1e-6)


def test_masks_that_do_not_fit() -> None:
    x, y, mask = data()
    net = tagger()
    before = numbers(net)

    def fit(mask: Any, net: tr.Net = net, x: Any = x, y: Any = y, loss: Any = "cross_entropy") -> None:
        net.fit(x, y, 1, 4, loss=loss, mask=mask, verbose=0)

    with pytest.raises(tr.ShapeError, match=r"fit: y: mask: got 9 samples, expected 10"):
        fit(mask[:9])
    with pytest.raises(tr.ShapeError, match=r"fit: y: mask: has 6 steps, expected 7"):
        fit(mask[:, :6])
    with pytest.raises(tr.ShapeError, match=r"fit: y: mask: got a number a sample"):
        fit(mask[:, 0])
    with pytest.raises(tr.ShapeError, match=r"fit: y: mask: got numbers of shape \(7, 1\) a sample"):
        fit(mask[..., None])
    with pytest.raises(ValueError, match=r"fit: y: mask: got 2.0, expected 0 or 1"):
        fit(mask * 2)
    with pytest.raises(ValueError, match="expected none: CTCLoss reads whole rows"):
        fit(mask, y=[[1]] * N, loss="ctc")
    with pytest.raises(ValueError, match=r"fit: mask: got \['odd'\], expected some of"):
        fit({"odd": mask})
    with pytest.raises(ValueError, match="expected none: the output has no steps"):
        fit(mask, tr.Sequential(tr.Linear(F, C)), x[:, 0], y[:, 0])
    several = two_outputs()
    with pytest.raises(TypeError, match="mask: got ndarray, expected a mapping from output to mask"):
        fit(mask, several, x, {"kind": y, "size": y}, {"kind": "cross_entropy", "size": "mse"})
    with pytest.raises(ValueError, match="mask: output 'all' has no steps, expected no mask"):
        several.trainer(tr.optim.SGD(several), {"all": tr.MSELoss()}, N, T).step(
            x.swapaxes(0, 1), np.zeros((N, 8)), mask={"all": mask}
        )
    trainer = net.trainer(tr.optim.SGD(net), tr.CrossEntropyLoss(), N, T)
    with pytest.raises(tr.ShapeError, match=r"mask has shape \(7, 10\), expected \(10, 7\)"):
        trainer.step(x, y, mask=mask.T)
    with pytest.raises(IndexError, match=r"step: target 77 at \[0, 0\] is out of range"):
        trainer.step(x, np.where(np.arange(T) == 0, 77, y), mask=np.ones((N, T)))
    for name, tensor in numbers(net).items():
        assert np.array_equal(tensor, before[name])


def test_a_run_resumes_with_its_mask_alone(tmp_path: Any) -> None:
    x, y, mask = data()
    path = tmp_path / "run.ckpt"
    options: dict[str, Any] = {"batch_size": 4, "loss": "cross_entropy", "verbose": 0}
    whole, first, second = tagger(), tagger(), tagger()
    whole.fit(x, y, 3, mask=mask, **options)
    first.fit(x, y, 1, mask=mask, callbacks=[tr.callbacks.Checkpoint(path)], **options)
    with pytest.raises(ValueError, match=r"masked steps: got \{.*\}, expected None"):
        second.fit(x, y, 3, resume=path, **options)
    second.fit(x, y, 3, mask=mask, resume=path, **options)
    assert_same(whole, second)
