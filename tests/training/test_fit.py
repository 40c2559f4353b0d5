"""The loop over epochs: arguments, results and errors of `fit`, `predict` and `evaluate`."""

from __future__ import annotations

import builtins
import csv
import errno
import io
import json
import math
import os
import re
import signal
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import callbacks
from tinyrnn.samples import Gatherer, Inputs, batches


def make(kind: str = "lstm", **options: Any) -> Any:
    tr.manual_seed(1)
    layer = {"lstm": tr.LSTM, "gru": tr.GRU, "rnn": tr.RNN}[kind](3, 8, **options)
    return tr.Sequential(layer, tr.Linear(8 * layer._directions, 4))


def ragged(count: int = 37, least: int = 1, most: int = 30) -> tuple[list[Any], Any, list[Any]]:
    """Sequences of different lengths, a class of each, and a class of each step."""
    rng = np.random.default_rng(7)
    xs = [rng.standard_normal((n, 3)).astype(np.float32) for n in rng.integers(least, most + 1, count)]
    signs = [(x.cumsum(0)[:, 0] > 0) + 2 * (x.cumsum(0)[:, 1] > 0) for x in xs]
    return xs, np.array([s[-1] for s in signs]), signs


def padded(xs: list[Any], value: float = 0) -> tuple[Any, Any]:
    lengths = np.array([len(x) for x in xs])
    array = np.full((len(xs), lengths.max(), *xs[0].shape[1:]), value, xs[0].dtype)
    for row, x in zip(array, xs, strict=True):
        row[: len(x)] = x
    return array, lengths


def fit(net: Any, x: Any, y: Any, epochs: int = 2, batch_size: int = 8, **options: Any) -> tr.History:
    options = {"loss": "cross_entropy", "optimizer": "adam", "verbose": 0, **options}
    history: tr.History = net.fit(x, y, epochs, batch_size, **options)
    return history


def weights(net: Any) -> bytes:
    return b"".join(array.tobytes() for array in net.state_dict().values())


class Watch(callbacks.Callback):
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.weights: list[bytes] = []

    def on_train_begin(self, run: Any) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, run: Any) -> None:
        self.calls.append(("epoch", run.epoch))

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.calls.append(("batch", run.batch, loss))
        self.weights.append(weights(run.net))

    def on_epoch_end(self, run: Any, logs: Any) -> None:
        self.calls.append(("end", run.epoch, dict(logs)))

    def on_interrupt(self, run: Any) -> None:
        self.calls.append("interrupt")

    def on_train_end(self, run: Any) -> None:
        self.calls.append("train end")


class At(callbacks.Callback):
    """Does something after one batch."""

    def __init__(self, batch: int, what: Any) -> None:
        self.left, self.what = batch, what

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            self.what()


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_it_learns(kind: str) -> None:
    xs, ys, _ = ragged(64, 4, 12)
    net = make(kind)
    before = net.evaluate(xs, ys, loss="cross_entropy")["loss"]
    history = fit(net, xs, ys, 30, 16, optimizer=tr.optim.Adam(net, lr=0.02))
    after = net.evaluate(xs, ys, loss="cross_entropy", metrics="accuracy")
    assert history.epochs == 30 and len(history["loss"]) == 30
    assert history.history.keys() >= {"loss", "lr", "seconds"}
    assert after["loss"] < 0.6 * before and after["accuracy"] > 0.7
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history.memory > 0 and not history.interrupted


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_lists_and_padded_arrays_train_alike(per_step: bool, batch_first: bool) -> None:
    xs, last, each = ragged()
    y = each if per_step else last
    first, second = make(batch_first=batch_first), make(batch_first=batch_first)
    one = fit(first, xs, y)
    array, lengths = padded(xs, np.nan)  # what is beyond the lengths is never looked at
    other = fit(second, array, padded(each)[0] if per_step else last, lengths=lengths)
    assert weights(first) == weights(second)
    assert one["loss"] == other["loss"]


def test_layout_does_not_matter() -> None:
    xs, _, each = ragged()
    first, second = make(), make(batch_first=True)
    one, other = fit(first, xs, each), fit(second, xs, each)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    for name, array in first.state_dict().items():
        np.testing.assert_allclose(second.state_dict()[name], array, rtol=1e-3, atol=1e-5)


def test_it_is_the_low_level_loop() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((20, 6, 3)).astype(np.float32)
    y = rng.integers(0, 4, (20, 6))
    first, second = make(), make()
    history = fit(first, x, y, 1, 8, shuffle=False, optimizer=tr.optim.SGD(first, lr=0.1))
    sgd, loss = tr.optim.SGD(second, lr=0.1), tr.CrossEntropyLoss()
    eight, four = (second.trainer(sgd, loss, batch=batch, steps=6) for batch in (8, 4))
    losses = []
    for start, trainer in ((0, eight), (8, eight), (16, four)):
        part = slice(start, start + trainer_batch(start))
        losses.append(trainer.step(np.ascontiguousarray(x[part].swapaxes(0, 1)), y[part].T.astype(np.int32)))
    assert weights(first) == weights(second)
    assert history["loss"][0] == pytest.approx((8 * losses[0] + 8 * losses[1] + 4 * losses[2]) / 20)


def trainer_batch(start: int) -> int:
    return 4 if start == 16 else 8


@pytest.mark.parametrize("layer", ["lstm", "gru"])
def test_truncated_bptt_carries_the_state(layer: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 23, 3)).astype(np.float32)
    y = rng.integers(0, 4, (6, 23))
    first, second = make(layer), make(layer)
    history = fit(first, x, y, 2, 4, bptt=5, shuffle=False, optimizer=tr.optim.SGD(first, lr=0.1))
    sgd, loss = tr.optim.SGD(second, lr=0.1), tr.CrossEntropyLoss()
    trainers = {batch: second.trainer(sgd, loss, batch=batch, steps=5) for batch in (4, 2)}
    means = []
    for _ in range(2):
        total = 0.0
        for rows in (slice(0, 4), slice(4, 6)):
            trainer = trainers[rows.stop - rows.start]
            state = trainer.new_state()
            for start in range(0, 23, 5):
                part = x[rows, start : start + 5].swapaxes(0, 1)
                target = y[rows, start : start + 5].T.astype(np.int32)
                value = trainer.step(np.ascontiguousarray(part), np.ascontiguousarray(target), state=state)
                total += value * target.size
        means.append(total / y.size)
    assert weights(first) == weights(second)
    assert history["loss"] == pytest.approx(means)


def test_truncated_bptt_with_lengths() -> None:
    xs, _, each = ragged(11, 17, 20)
    net = make()
    history = fit(net, xs, each, 3, 4, bptt=4, optimizer=tr.optim.Adam(net, lr=0.01))
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(
        ValueError, match="bptt is 3: sample .* has 17 steps and sample .* expected all to end"
    ):
        fit(net, xs, each, bptt=3)
    whole, chunk = make(), make()  # one chunk is full BPTT
    fit(whole, xs, each)
    fit(chunk, xs, each, bptt=20)
    assert weights(whole) == weights(chunk)


def test_threads_do_not_matter() -> None:
    xs, _, each = ragged()
    nets = [make() for _ in range(3)]
    for threads, net in enumerate(nets, 1):
        fit(net, xs, each, threads=threads)
    assert weights(nets[0]) == weights(nets[1]) == weights(nets[2])


def test_the_seed_is_the_order() -> None:
    xs, ys, _ = ragged()
    nets = [make() for _ in range(4)]
    for net, seed in zip(nets, (0, 0, 1, 2), strict=True):
        fit(net, xs, ys, seed=seed)
    assert weights(nets[0]) == weights(nets[1])
    assert len({weights(net) for net in nets}) == 3


def test_other_losses_and_single_layers() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 7, 3))  # float64 is taken, too
    gru = tr.GRU(3, 5)
    history = fit(gru, x, rng.standard_normal((10, 7, 5)), loss="mse")
    assert history.epochs == 2
    fit(gru, x, rng.standard_normal((10, 5)), loss=tr.MSELoss(reduction="sum"), optimizer="sgd")
    text = tr.Sequential(tr.Embedding(11, 4), tr.LSTM(4, 6), tr.Linear(6, 11))
    fit(text, rng.integers(0, 11, (9, 12)), rng.integers(0, 11, (9, 12)))
    with pytest.raises(IndexError, match="fit: x: index 11 at .* is out of range, expected 0 .. 10"):
        fit(text, rng.integers(11, 12, (9, 12)), rng.integers(0, 11, (9, 12)))


def test_ctc() -> None:
    xs, _, _ = ragged(20, 12, 20)
    rng = np.random.default_rng(0)
    labels = [rng.integers(1, 4, n) for n in rng.integers(1, 4, 20)]
    nets = [tr.Sequential(*make(), tr.LogSoftmax(-1)) for _ in range(2)]
    many = np.array([len(row) for row in labels])
    histories = [
        fit(nets[0], xs, labels, 3, loss="ctc", optimizer="adam"),
        fit(nets[1], xs, (padded(labels, 3)[0], many), 3, loss="ctc", optimizer="adam"),
    ]
    assert weights(nets[0]) == weights(nets[1])
    assert histories[0]["loss"] == histories[1]["loss"]
    assert histories[0]["loss"][-1] < histories[0]["loss"][0]
    found = nets[0].evaluate(xs, labels, loss="ctc", metrics={"n": lambda y, target: len(y) + len(target)})
    assert found["n"] == 40 and math.isfinite(found["loss"])
    with pytest.raises(ValueError, match=r"fit: y\[3\]: got label 0 at 0, which is the blank"):
        fit(nets[0], xs, [*labels[:3], [0, 1], *labels[4:]], loss="ctc")


def test_batch_norm_and_modes() -> None:
    xs, ys, _ = ragged()
    net = make()
    for mode in (False, True):
        net.train(mode)
        fit(net, xs, ys, validation_data=(xs, ys))
        net.predict(xs)
        net.evaluate(xs, ys, loss="cross_entropy")
        assert net.training is mode
    net.eval()


def test_frozen_layers_stay() -> None:
    xs, ys, _ = ragged()
    net = make()
    net.freeze("0")
    before = net.state_dict()
    fit(net, xs, ys)
    after = net.state_dict()
    assert all(np.array_equal(before[name], after[name]) == name.startswith("0.") for name in before)


def test_gradients_that_are_not_finite() -> None:
    xs, _, _ = ragged(20)
    huge = np.full((20, 4), 3e38, np.float32)  # its difference from the output, twice, is infinite
    for choice in ("stop", "skip"):
        net = make()
        before = weights(net)
        if choice == "stop":
            with pytest.raises(tr.NonFiniteError, match="the gradient of "):
                fit(net, xs, huge, loss=tr.MSELoss(reduction="sum"))
        else:
            fit(net, xs, huge, loss=tr.MSELoss(reduction="sum"), nonfinite="skip")
        assert weights(net) == before and not net.training
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_epochs_and_one_sample() -> None:
    xs, ys, _ = ragged()
    net = make()
    before = weights(net)
    assert fit(net, xs, ys, 0).epochs == 0
    assert weights(net) == before
    assert fit(net, xs[:1], ys[:1], 1, 500).epochs == 1


# ---- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, size", [(1, 1), (5, 8), (100, 7), (64, 8), (333, 32)])
@pytest.mark.parametrize("equal", [False, True])
def test_every_sample_once(count: int, size: int, equal: bool) -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    lengths = np.full(count, 9) if equal else np.random.default_rng(0).integers(1, 2000, count)
    orders = []
    for _ in range(4):
        parts = batches(lengths, size, rng)
        assert sorted(np.concatenate(parts)) == list(range(count))
        assert sorted(map(len, parts))[1:] == [min(size, count)] * (len(parts) - 1)
        assert len(parts) == -(-count // size)
        orders.append(np.concatenate(parts).tolist())
    assert count < 9 or len(set(map(tuple, orders))) == 4
    plain = batches(lengths, size, None)
    assert np.concatenate(plain).tolist() == list(range(count))


def test_batches_are_of_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 5000)
    parts = batches(lengths, 32, np.random.Generator(np.random.PCG64(0)))
    waste = sum(len(rows) * lengths[rows].max() for rows in parts) / lengths.sum() - 1
    alone = sum(32 * lengths[i : i + 32].max() for i in range(0, 5000, 32)) / lengths.sum() - 1
    assert waste < 0.12 < 0.5 < alone
    firsts = [lengths[rows].mean() for rows in parts]
    assert np.abs(np.corrcoef(firsts, np.arange(len(firsts)))[0, 1]) < 0.3  # batches are shuffled, too
    neighbours = [set(map(int, rows)) for rows in parts]
    again = batches(lengths, 32, np.random.Generator(np.random.PCG64(1)))
    assert sum(set(map(int, rows)) in neighbours for rows in again) == 0  # and so are buckets


def test_a_seed_gives_the_same_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100)
    first, second = (batches(lengths, 8, np.random.Generator(np.random.PCG64(5))) for _ in range(2))
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]


def test_gathering_reuses_its_memory() -> None:
    xs, _, _ = ragged()
    gather = Gatherer(Inputs(make(), xs), (), 8)
    first = gather.x(np.arange(8))
    assert np.shares_memory(first, gather.x(np.arange(8, 16)))
    for j, i in enumerate(range(8, 16)):
        np.testing.assert_array_equal(first[: len(xs[i]), j][: len(first)], xs[i][: len(first)])


# ---- predict and evaluate ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_predict_does_not_depend_on_the_batch(batch_first: bool, bidirectional: bool) -> None:
    xs, _, _ = ragged()
    net = make(batch_first=batch_first, bidirectional=bidirectional)
    wanted = [net(x) for x in xs]
    for size in (1, 5, 100):
        for got, want in zip(net.predict(xs, size), wanted, strict=True):
            np.testing.assert_array_equal(got, want)
    array, lengths = padded(xs, np.nan)
    for size in (3, 64):
        y = net.predict(array, size, lengths=lengths, threads=2)
        assert y.shape == (*array.shape[:2], 4) and y.dtype == np.float32
        for row, want in zip(y, wanted, strict=True):
            np.testing.assert_array_equal(row[: len(want)], want)
            assert not row[len(want) :].any()


def test_predict_of_one_layer_and_of_frames() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    lstm = tr.LSTM(3, 4)
    np.testing.assert_array_equal(lstm.predict(x, 2), lstm(x.swapaxes(0, 1))[0].swapaxes(0, 1))
    linear = tr.Linear(3, 2)
    np.testing.assert_array_equal(linear.predict(x[:, 0], 2), linear(x[:, 0]))
    np.testing.assert_array_equal(linear.predict(x, 2), linear(x))


@pytest.mark.parametrize("per_step", [False, True])
def test_evaluate_does_not_depend_on_the_batch(per_step: bool) -> None:
    xs, last, each = ragged(100)
    y = each if per_step else last
    net = make()
    found = [
        net.evaluate(xs, y, size, loss="cross_entropy", metrics={"accuracy": "accuracy", "size": size_of})
        for size in (1, 31, 33, 64, 1000)
    ]
    assert all(one == found[0] for one in found)
    count = sum(map(len, xs)) if per_step else 100
    assert found[0]["size"] == count
    logits = [net(x).astype(float) for x in xs]
    rows = np.concatenate(logits) if per_step else np.stack([row[-1] for row in logits])
    truth = np.concatenate(each) if per_step else last
    nats = np.log(np.exp(rows).sum(1)) - rows[np.arange(count), truth]
    assert found[0]["loss"] == pytest.approx(nats.mean(), rel=1e-5)
    assert found[0]["accuracy"] == pytest.approx(np.mean(rows.argmax(1) == truth))
    summed = net.evaluate(xs, y, loss=tr.CrossEntropyLoss(reduction="sum"))
    assert summed["loss"] == pytest.approx(nats.sum(), rel=1e-5)


def size_of(y: Any, target: Any) -> int:
    assert len(y) == len(target)
    return len(y)


def test_means_are_over_what_counts() -> None:
    """Ignored targets and class weights: the mean of batches is the mean of all."""
    xs, _, each = ragged(70)
    y = [np.where(np.arange(len(row)) % 3, row, -100) for row in each]
    y[5][:] = -100
    net, shares = make(), np.array([1, 2, 0.5, 3], np.float32)
    found = net.evaluate(xs, y, loss=tr.CrossEntropyLoss(weight=shares), metrics="accuracy")
    logits, truth = np.concatenate([net(x) for x in xs]).astype(float), np.concatenate(y)
    counts = truth != -100
    logits, truth = logits[counts], truth[counts]
    nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(truth)), truth]
    assert found["loss"] == pytest.approx(np.average(nats, weights=shares[truth]), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == truth))
    history = fit(
        net, xs, y, 1, loss=tr.CrossEntropyLoss(weight=shares), optimizer=tr.optim.SGD(net, lr=1e-9)
    )
    assert history["loss"][0] == pytest.approx(found["loss"], rel=1e-4)


def test_validation_is_evaluate() -> None:
    xs, ys, _ = ragged()
    net = make()
    history = fit(net, xs, ys, validation_data=(xs[:9], ys[:9]), metrics=["accuracy"])
    found = net.evaluate(xs[:9], ys[:9], loss="cross_entropy", metrics="accuracy")
    assert history["val_loss"][-1] == found["loss"]
    assert history["val_accuracy"][-1] == found["accuracy"]
    array, lengths = padded(xs)
    other = make()
    fit(other, array, ys, lengths=lengths, validation_data=(array, ys, lengths))


# ---- callbacks -----------------------------------------------------------------------------------


def test_callbacks_are_called_in_order() -> None:
    xs, ys, _ = ragged(20)
    watch = Watch()
    history = fit(make(), xs, ys, 2, 8, callbacks=[watch])
    kinds = [call if isinstance(call, str) else call[:2] for call in watch.calls]
    epoch = [("batch", 1), ("batch", 2), ("batch", 3)]
    assert kinds == ["begin", ("epoch", 0), *epoch, ("end", 1), ("epoch", 1), *epoch, ("end", 2), "train end"]
    assert watch.calls[-2][2] == {name: values[-1] for name, values in history.history.items()}


class Fake(callbacks.Callback):
    """Overwrites the validation loss, to steer what looks at it."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.kept: list[bytes] = []

    def on_epoch_end(self, run: Any, logs: Any) -> None:
        logs["val_loss"] = self.values[run.epoch - 1]
        self.kept.append(weights(run.net))


def test_early_stopping() -> None:
    xs, ys, _ = ragged(20)
    values = [3.0, 2.0, 2.5, math.nan, 1.99, 2.2, 2.1, 1.98, 5.0, 5.0, 5.0]
    for restore, delta, last, best in ((False, 0.0, 11, 7), (True, 0.1, 5, 1), (True, 0.0, 11, 7)):
        fake, net = Fake(values), make()
        stop = callbacks.EarlyStopping(patience=2, min_delta=delta, restore_best=restore)
        history = fit(net, xs, ys, 20, validation_data=(xs, ys), callbacks=[fake, stop])
        assert history.epochs == last and stop.best_epoch == best
        assert weights(net) == fake.kept[best if restore else -1]
    upwards = callbacks.EarlyStopping("val_accuracy", mode="max")
    fit(make(), xs, ys, 3, validation_data=(xs, ys), metrics="accuracy", callbacks=[upwards])
    assert 0 <= upwards.best <= 1


def test_model_checkpoint(tmp_path: Any) -> None:
    xs, ys, _ = ragged(20)
    fake, net = Fake([3.0, 1.0, 2.0, 0.5]), make()
    each = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors")
    best = callbacks.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    fit(net, xs, ys, 3, validation_data=(xs, ys), callbacks=[fake, each, best])
    assert [weights(tr.load(tmp_path / f"{i}.safetensors")) for i in (1, 2, 3)] == fake.kept
    assert weights(tr.load(tmp_path / "best.safetensors")) == fake.kept[1]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        fit(net, xs, ys, callbacks=[callbacks.ModelCheckpoint(tmp_path / "no" / "x")])


def test_learning_rates() -> None:
    xs, ys, _ = ragged(20)
    net = make()
    by_epoch = callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    history = fit(net, xs, ys, 3, callbacks=[by_epoch])
    assert history["lr"] == pytest.approx([0.1, 0.05, 0.1 / 3])
    adam = tr.optim.Adam(net, lr=0.01)
    schedule = tr.optim.schedules.StepLR(adam, step_size=2, gamma=0.1)
    history = fit(net, xs, ys, 5, optimizer=adam, callbacks=[schedule])
    assert history["lr"] == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])
    rates: list[float] = []
    by_batch = callbacks.LearningRateScheduler(lambda n: rates.append(n) or 0.1, unit="batch")  # type: ignore[func-returns-value]
    fit(net, xs, ys, 2, callbacks=[by_batch])
    assert rates == list(range(7))
    adam = tr.optim.Adam(net, lr=0.01)
    plateau = tr.optim.schedules.ReduceLROnPlateau(adam, patience=0, factor=0.5)
    fake = Fake([1.0, 2.0, 3.0])
    fit(net, xs, ys, 3, optimizer=adam, validation_data=(xs, ys), callbacks=[fake, plateau])
    assert adam.lr == pytest.approx(0.0025)
    adam = tr.optim.Adam(net, lr=0.01)
    cycle = tr.optim.schedules.OneCycleLR(adam, max_lr=0.1, total_steps=6)
    assert callbacks.LearningRateScheduler(cycle).unit == "batch"
    fit(net, xs, ys, 2, optimizer=adam, callbacks=[cycle])
    with pytest.raises(ValueError, match="the schedule belongs to another optimiser"):
        fit(net, xs, ys, 1, callbacks=[cycle])


def test_csv(tmp_path: Any) -> None:
    xs, ys, _ = ragged(20)
    history = fit(make(), xs, ys, 3, callbacks=[callbacks.CSVLogger(tmp_path / "log.csv")])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["loss"]) for row in rows] == history["loss"]


# ---- Ctrl-C --------------------------------------------------------------------------------------


def press() -> None:
    signal.raise_signal(signal.SIGINT)


# ---- a disk that is full -------------------------------------------------------------------------


def no_room(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def writers(tmp_path: Any) -> list[callbacks.Callback]:
    return [
        callbacks.ModelCheckpoint(tmp_path / "net.safetensors"),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.Checkpoint(tmp_path / "run.safetensors", unit="batch"),
    ]


@pytest.mark.parametrize("place", ["os.fsync", "os.replace", "builtins.open", "os.open", "os.link"])
def test_a_full_disk_does_not_end_training(
    place: str, writers: Any, tmp_path: Any, monkeypatch: Any, recwarn: Any
) -> None:
    """Wherever writing fails: the bits and history of a run without callbacks; files when there is room."""
    wanted_net, net = make(), make()
    wanted = fit(wanted_net, X, LAST, epochs=4)

    class Freed(callbacks.Callback):
        """There is no room in the second and the third epoch."""

        def on_epoch_begin(self, run: Any) -> None:
            nonlocal place
            module, name = place.split(".")
            where: Any = {"os": os, "builtins": builtins}[module]
            if run.epoch == 1:
                monkeypatch.setattr(where, name, no_room)
            if run.epoch == 3:
                monkeypatch.undo()

    history = fit(net, X, LAST, epochs=4, callbacks=[Freed(), *writers])
    assert weights(net) == weights(wanted_net) and history.epochs == 4
    assert history["loss"] == wanted["loss"]
    for message in (str(warning.message) for warning in recwarn):
        assert re.match(r"(ModelCheckpoint|CSVLogger|Checkpoint): cannot write .*: No space left", message)
        assert "; training continues" in message
    assert sorted(os.listdir(tmp_path)) == ["log.csv", "net.safetensors", "run.safetensors"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    assert weights(tr.load(tmp_path / "net.safetensors")) == weights(net)
    again = make()
    assert fit(again, X, LAST, epochs=4, callbacks=writers, resume=tmp_path / "run.safetensors").epochs == 4
    assert weights(again) == weights(net)


def test_each_that_cannot_write_warns_and_the_history_comes_back(
    writers: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """To the end, and after Ctrl-C as well."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        for press in (False, True):
            more = [Pressing()] if press else []
            with pytest.warns(RuntimeWarning) as caught:
                history = fit(make(), X, LAST, epochs=2, callbacks=[*writers, *more])
            assert (history.interrupted, history.epochs) == ((True, 0) if press else (False, 2))
            kinds = {str(warning.message).partition(":")[0] for warning in caught}
            assert kinds == ({"Checkpoint"} if press else {"ModelCheckpoint", "CSVLogger", "Checkpoint"})
    assert os.listdir(tmp_path) == []


class Pressing(callbacks.Callback):
    """Ctrl-C after the first batch."""

    def on_batch_end(self, run: Any, loss: float) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_best_that_could_not_be_saved_does_not_count(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "best.safetensors"
    best = callbacks.ModelCheckpoint(path, "loss", save_best_only=True)
    run: Any = SimpleNamespace(net=make(), epoch=1)
    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match="No space left"):
        patch.setattr(os, "fsync", no_room)
        best.on_epoch_end(run, {"loss": 1.0})
    assert best.best == math.inf
    best.on_epoch_end(run, {"loss": 2.0})
    assert best.best == 2.0 and path.exists()


def test_a_file_that_reaches_its_limit(writers: Any, tmp_path: Any) -> None:
    """Not a pretence: the system refuses to write beyond a limit, as it does beyond the disk's end."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.warns(RuntimeWarning, match="cannot write") as caught:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
            history = fit(make(), X, LAST, epochs=4, callbacks=writers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert history.epochs == 4
    kinds = {str(warning.message).partition(":")[0] for warning in caught}
    assert kinds == {"ModelCheckpoint", "CSVLogger", "Checkpoint"}
    assert all("safetensors" not in name for name in os.listdir(tmp_path))


def test_output_that_cannot_be_written(monkeypatch: Any) -> None:
    """A log on the full disk, a terminal that has gone."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            return int(no_room())

    monkeypatch.setattr(sys, "stdout", Full())
    assert fit(make(), X, LAST, epochs=2, verbose=2).epochs == 2


@pytest.mark.parametrize(
    "error", [ValueError("mine"), OSError(5, "mine"), SystemExit(3), KeyboardInterrupt()]
)
@pytest.mark.parametrize("where", ["on_batch_end", "on_epoch_end", "on_train_end", "metric"])
def test_an_exception_has_the_history(error: BaseException, where: str) -> None:
    """Training ends, and its history is not lost; Ctrl-C out of training is a request, as ever."""
    calls = 0

    def fail(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if where == "on_train_end" or calls == (2 if where != "on_batch_end" else 5):
            raise error
        return 0.0

    own = type("Own", (callbacks.Callback,), {where: fail})()
    metrics = {"m": fail} if where == "metric" else None
    options = {"callbacks": [own], "validation_data": (X, LAST), "metrics": metrics}
    net = make()
    if isinstance(error, KeyboardInterrupt) and where != "on_train_end":
        assert fit(net, X, LAST, epochs=3, **options).interrupted
        return
    with pytest.raises(type(error)) as caught:
        fit(net, X, LAST, epochs=3, **options)
    assert caught.value is error
    history = error.history  # type: ignore[union-attr]
    assert history.epochs == {"on_batch_end": 2, "on_epoch_end": 2, "on_train_end": 3, "metric": 1}[where]
    notes = getattr(error, "__notes__", [])
    assert notes[-1:] == [f"fit: the history of {history.epochs} epochs is this exception's .history"] or (
        sys.version_info < (3, 11)
    )
    assert not net.training


def test_ctrl_c_keeps_the_last_whole_step() -> None:
    xs, ys, _ = ragged(20)
    watch, net = Watch(), make()
    fit(net, xs, ys, 3, 8, callbacks=[watch])
    cut, stopped = Watch(), make()
    history = fit(stopped, xs, ys, 3, 8, callbacks=[cut, At(5, press)])
    assert history.interrupted and history.epochs == 1
    assert len(cut.weights) == 5
    assert weights(stopped) == cut.weights[4] == watch.weights[4]
    assert cut.calls[-2:] == ["interrupt", "train end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not stopped.training


def test_a_second_ctrl_c_raises() -> None:
    xs, ys, _ = ragged(20)

    def twice() -> None:
        press()
        press()

    with pytest.raises(KeyboardInterrupt):
        fit(make(), xs, ys, callbacks=[At(2, twice)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_is_raised() -> None:
    xs, ys, _ = ragged(20)

    def raises() -> None:
        raise KeyboardInterrupt

    net = make()
    watch = Watch()
    history = fit(net, xs, ys, callbacks=[watch, At(2, raises)])
    assert history.interrupted and weights(net) == watch.weights[-1]


def test_another_handler_stays() -> None:
    xs, ys, _ = ragged(20)
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        history = fit(make(), xs, ys, callbacks=[At(2, press)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] and not history.interrupted


def test_ctrl_c_in_validation() -> None:
    xs, ys, _ = ragged(20)
    net = make()

    def metric(y: Any, target: Any) -> float:
        press()
        return 1.0

    history = fit(net, xs, ys, validation_data=(xs, ys), metrics={"m": metric})
    assert history.interrupted and history.epochs == 0


# ---- what is shown -------------------------------------------------------------------------------


def test_plain_lines(capsys: Any) -> None:
    xs, ys, _ = ragged(20)
    for verbose in (1, 2):
        fit(make(), xs, ys, 2, verbose=verbose, validation_data=(xs, ys))
        out, err = capsys.readouterr()
        assert out.isascii() and all(char.isprintable() or char == "\n" for char in out) and not err
        lines = out.splitlines()
        assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss ") and "val_loss " in lines[1]
    fit(make(), xs, ys, 2, verbose=0)
    assert capsys.readouterr() == ("", "")


# ---- history -------------------------------------------------------------------------------------


def test_history(tmp_path: Any) -> None:
    history = tr.History()
    history.append({"loss": 2.0, "lr": 0.1})
    history.append({"loss": 1.0, "lr": 0.1, "val_loss": math.inf})
    history.append({"loss": math.nan, "lr": 0.05, "val_loss": 0.1})
    assert history.epochs == 3 and history.best("loss") == 1 and history.best("val_loss") == 2
    assert math.isnan(history["val_loss"][0]) and "val_loss" in history and "x" not in history
    assert dict(history) == history.history and list(history) == ["loss", "lr", "val_loss"]
    path = tmp_path / "history.json"
    history.save(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # strict JSON
    again = tr.History.load(path)
    assert again.history["val_loss"][1:] == [math.inf, 0.1] and math.isnan(again["loss"][2])
    assert repr(again) == repr(history)
    for text in (
        "",
        "[]",
        "{}",
        '{"history": {"a": [1], "b": []}, "interrupted": 0, "memory": 0}',
        "\x00\xff",
    ):
        path.write_text(text)
        with pytest.raises(tr.LoadError, match="is not a history"):
            tr.History.load(path)


@pytest.mark.parametrize(
    "numbers, interrupted, memory",
    [
        ("[1]", "false", "1e400"),
        ("[1]", "false", "-1"),
        ("[1]", "false", "1.5"),
        ("[1]", "false", "true"),
        ("[1]", "false", "9" * 400),
        ("[1]", "false", "9" * 5000),
        ("[1]", "0", "0"),
        ("[1]", "null", "0"),
        ("[1e400]", "false", "0"),
        ("[" + "9" * 400 + "]", "false", "0"),
        ("[" + "9" * 5000 + "]", "false", "0"),
        ("[NaN]", "false", "0"),
        ("[-Infinity]", "false", "0"),
        ("[null]", "false", "0"),
        ("[true]", "false", "0"),
        ('["1"]', "false", "0"),
        ('["1_0"]', "false", "0"),
        ("[[1]]", "false", "0"),
        ('"12"', "false", "0"),
        ('{"1": 2}', "false", "0"),
        ("1", "false", "0"),
        ("[" * 100_000, "false", "0"),
        ("[" * 100_000 + "]" * 100_000, "false", "0"),
        ('["' + "x" * 100_000 + '"]', "false", "0"),
    ],
    ids=lambda text: text[:12],
)
def test_a_history_that_is_none(numbers: str, interrupted: str, memory: str, tmp_path: Any) -> None:
    path = tmp_path / "curves.json"
    path.write_text(f'{{"history": {{"loss": {numbers}}}, "interrupted": {interrupted}, "memory": {memory}}}')
    with pytest.raises(tr.LoadError, match=r"curves\.json: is not a history") as caught:
        tr.History.load(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_history_plot(tmp_path: Any, monkeypatch: Any) -> None:
    history = tr.History()
    with pytest.raises(ValueError, match="no complete epoch"):
        history.plot()
    history.append({"loss": 2.0, "val_loss": 3.0, "val_accuracy": 0.5, "lr": 0.1})
    history.append({"loss": 1.0, "val_loss": 2.0, "val_accuracy": 0.75, "lr": 0.1})
    with pytest.raises(KeyError, match="speed: not in the history, expected one of loss, "):
        history.plot(["speed"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match="pip install 'tinyrnn\\[plot\\]'"):
            history.plot()
    pytest.importorskip("matplotlib")
    figure = history.plot(path=tmp_path / "curves.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert (tmp_path / "curves.png").stat().st_size > 1000


# ---- what is refused -----------------------------------------------------------------------------


def with_nan(xs: list[Any]) -> list[Any]:
    xs = [x.copy() for x in xs]
    xs[4][1, 2] = np.nan
    return xs


X, LAST, EACH = ragged(12, 3, 9)
ARRAY, LENGTHS = padded(X)
REFUSED: list[tuple[str, type[Exception], str, dict[str, Any]]] = [
    (
        "nan",
        ValueError,
        "fit: x: got nan at [4, 1, 2] (sample 4, step 1), expected finite numbers",
        {"x": with_nan(X)},
    ),
    ("inf", ValueError, "fit: x: got inf at [0, 0, 0] (sample 0, step 0)", {"x": [X[0] + np.inf, *X[1:]]}),
    (
        "nan in an array",
        ValueError,
        "fit: x: got nan at [11, ",
        {"x": np.where(np.arange(12)[:, None, None] == 11, np.nan, ARRAY)},
    ),
    ("empty", ValueError, "fit: x: got no samples", {"x": []}),
    ("empty array", ValueError, "fit: x: got no samples", {"x": np.zeros((0, 3, 3))}),
    ("no steps", ValueError, "fit: x[2]: got no steps", {"x": [*X[:2], X[2][:0], *X[3:]]}),
    ("no steps in an array", ValueError, "fit: x[0]: got no steps", {"x": np.zeros((12, 0, 3))}),
    (
        "rank",
        tr.ShapeError,
        "fit: x: got shape (12, 3), expected (N, T, 3), or a list of arrays (T, 3)",
        {"x": ARRAY[:, 0]},
    ),
    ("frame", tr.ShapeError, "got frames of shape (2,), expected (3,)", {"x": ARRAY[:, :, :2]}),
    ("one frame", tr.ShapeError, "fit: x[3]: got shape", {"x": [*X[:3], X[3][:, :2], *X[4:]]}),
    (
        "dtype",
        TypeError,
        "fit: x[1]: got dtype complex64, expected real numbers",
        {"x": [X[0], X[1] + 1j, *X[2:]]},
    ),
    ("count", tr.ShapeError, "fit: y: got 11 samples, expected 12, one for each of fit: x", {"y": LAST[:11]}),
    (
        "class",
        IndexError,
        "fit: y: class 4 at [7] is out of range, expected 0 .. 3",
        {"y": np.where(np.arange(12) == 7, 4, LAST)},
    ),
    (
        "class of a step",
        IndexError,
        "fit: y: class -1 at [2, 0] is out of range",
        {"y": [*EACH[:2], EACH[2] * 0 - 1, *EACH[3:]]},
    ),
    ("steps", tr.ShapeError, "fit: y[5]: got shape", {"y": [*EACH[:5], EACH[5][:-1], *EACH[6:]]}),
    (
        "shape",
        tr.ShapeError,
        "fit: y: got numbers of shape (3,) a sample, expected (N, T, 4) or (N, 4)",
        {"y": np.zeros((12, 3)), "loss": "mse"},
    ),
    (
        "lengths with a list",
        ValueError,
        "lengths: expected None, because fit: x is a list",
        {"lengths": LENGTHS},
    ),
    (
        "lengths' count",
        tr.ShapeError,
        "fit: x: lengths has shape (11,), expected (12,)",
        {"x": ARRAY, "lengths": LENGTHS[:11]},
    ),
    ("lengths", ValueError, "lengths[0] is 0, expected 1 .. ", {"x": ARRAY, "lengths": LENGTHS * 0}),
    (
        "lengths' dtype",
        TypeError,
        "fit: x: lengths: got dtype float64",
        {"x": ARRAY, "lengths": LENGTHS * 1.0},
    ),
    (
        "classes that are floats",
        tr.ShapeError,
        "and CrossEntropyLoss (classes are integers)",
        {"y": np.zeros(12), "loss": "cross_entropy"},
    ),
    ("loss' name", ValueError, "loss: got 'mess', expected one of mse, ", {"loss": "mess"}),
    ("loss", TypeError, "loss: got 3, expected a name or a loss object", {"loss": 3}),
    (
        "optimiser's name",
        ValueError,
        "optimizer: got 'adamant', expected one of sgd, ",
        {"optimizer": "adamant"},
    ),
    ("optimiser", TypeError, "optimizer: ", {"optimizer": int}),
    ("epochs", ValueError, "fit: epochs is -1", {"epochs": -1}),
    ("batch_size", ValueError, "fit: batch_size is 0", {"batch_size": 0}),
    ("verbose", ValueError, "fit: verbose is 3", {"verbose": 3}),
    ("threads", ValueError, "fit: threads is 0", {"threads": 0}),
    ("seed", ValueError, "fit: seed is -1", {"seed": -1}),
    ("shuffle", TypeError, "fit: shuffle is 'yes'", {"shuffle": "yes"}),
    ("bptt", tr.ShapeError, "bptt needs a target for each step", {"bptt": 2}),
    ("callback", TypeError, "callbacks: got int, expected a Callback or a schedule", {"callbacks": [3]}),
    (
        "monitor",
        ValueError,
        "EarlyStopping: monitor is 'val_loss', expected one of grad_norm",
        {"callbacks": [callbacks.EarlyStopping()]},
    ),
    ("validation", TypeError, "validation_data: expected (x, y)", {"validation_data": (1,)}),
    (
        "validation's y",
        tr.ShapeError,
        "validation_data: y: got 11 samples, expected 12",
        {"validation_data": (X, LAST[:11])},
    ),
    ("metrics", ValueError, "fit: got metrics, but no validation_data", {"metrics": "accuracy"}),
    ("metric", ValueError, "metrics: got 'f1', expected 'accuracy' or a function", {"metrics": "f1"}),
    (
        "accuracy",
        ValueError,
        "metrics: got 'accuracy', expected a function: MSELoss has no classes",
        {"metrics": "accuracy", "loss": "mse"},
    ),
    ("resume", FileNotFoundError, "", {"resume": "no such file"}),
    ("no list of callbacks", TypeError, "callbacks: got NoneType, expected a list", {"callbacks": None}),
    (
        "no metrics",
        TypeError,
        "metrics: got int, expected 'accuracy', a list,",
        {"metrics": 5, "validation_data": (X, LAST)},
    ),
    ("words", TypeError, "fit: y: got dtype <U1, expected numbers", {"y": LAST.astype("U1")}),
    (
        "another net's optimiser",
        ValueError,
        "the optimizer has no parameter of this net",
        {"optimizer": tr.optim.SGD(tr.Linear(1, 1), lr=0.1)},
    ),
    (
        "the best net's name",
        ValueError,
        "best.pt: the suffix is .pt, expected .safetensors",
        {"callbacks": [callbacks.ModelCheckpoint("best.pt")]},
    ),
    ("a folder", IsADirectoryError, "is a folder", {"callbacks": [callbacks.Checkpoint(os.curdir)]}),
]


@pytest.mark.parametrize(
    "error, message, options", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(error: type[Exception], message: str, options: dict[str, Any]) -> None:
    given = {"x": X, "y": LAST, **options}
    if given.get("loss") == "mse" and "y" not in options:
        given["y"] = np.zeros((12, 4))
    net = make()
    before = weights(net)
    with pytest.raises(error) as caught:
        fit(net, given.pop("x"), given.pop("y"), **given)
    assert message in str(caught.value)
    assert weights(net) == before and not net.training


@pytest.mark.parametrize("make_one", [callbacks.ModelCheckpoint, callbacks.Checkpoint, callbacks.CSVLogger])
def test_names_of_files(make_one: Any) -> None:
    with pytest.raises(TypeError, match=f"{make_one.__name__}: path is 5, expected the name of a file"):
        make_one(5)


@pytest.mark.parametrize(("value", "given"), [("x", "'x'"), (np.ones(3), "an array of shape")])
def test_a_metric_that_is_no_number(value: Any, given: str) -> None:
    with pytest.raises(TypeError, match=f"metrics: 'mine' gave {given}.*, expected a number"):
        make().evaluate(X, LAST, loss="cross_entropy", metrics={"mine": lambda y, target: value})


def test_a_single_sample_that_is_left_over_for_batch_norm() -> None:
    net = tr.Sequential(tr.Linear(3, 4), tr.BatchNorm1d(4))
    x, sgd = ARRAY[:9, 0], tr.optim.SGD(net, lr=0.1)
    before = weights(net)
    with pytest.raises(ValueError, match="batch is 1: 1, a BatchNorm1d, has one number a channel then"):
        net.fit(x, np.zeros((9, 4)), batch_size=4, loss="mse", optimizer=sgd, verbose=0)
    assert weights(net) == before and net["1"].num_batches_tracked == 0
    net.fit(x, np.zeros((9, 4)), batch_size=5, loss="mse", optimizer=sgd, verbose=0)
    rows = tr.Sequential(tr.Conv1d(1, 2, 2), tr.BatchNorm1d(2))  # two numbers a channel
    x = ARRAY[:3, None, 0]
    rows.fit(x, np.zeros((3, 2, 2)), batch_size=2, loss="mse", optimizer="sgd", verbose=0)


def test_ctc_of_targets_without_labels() -> None:
    net = tr.Sequential(tr.GRU(3, 4), tr.Linear(4, 3), tr.LogSoftmax(-1))
    before = weights(net)
    history = net.fit(X, [[]] * len(X), loss="ctc", optimizer="sgd", verbose=0)
    assert np.isfinite(history["loss"]).all() and weights(net) != before


def test_a_nan_in_padding_is_no_nan() -> None:
    net = make()
    fit(net, padded(X, np.nan)[0], LAST, lengths=LENGTHS)
    fit(net, padded(X, np.nan)[0], padded(EACH, 99)[0], lengths=LENGTHS)
    assert all(np.isfinite(array).all() for array in net.state_dict().values())


def test_a_nan_in_targets() -> None:
    y = np.zeros((12, 4))
    y[3, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"fit: y: got nan at \[3, 1\] \(sample 3\), expected finite numbers"
    ):
        fit(make(), X, y, loss="mse")


def test_frames_without_steps() -> None:
    """Nets without recurrent layers: (N, frame)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + 2 * (x[:, 1] > 0)
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(6, 16), tr.BatchNorm1d(16), tr.ReLU(), tr.Linear(16, 4))
    history = fit(net, x, y, 20, 16, optimizer=tr.optim.Adam(net, lr=0.02), validation_data=(x, y))
    assert history["val_loss"][-1] < 0.4 < history["val_loss"][0]
    assert net.evaluate(x, y, 7, loss="cross_entropy") == net.evaluate(x, y, 64, loss="cross_entropy")
    assert net.predict(x, 3).shape == (70, 4)
    x = rng.standard_normal((20, 2, 9)).astype(np.float32)
    net = tr.Sequential(tr.Conv1d(2, 3, 3), tr.Flatten(), tr.Linear(21, 1))
    history = fit(net, x, x[:, 0, :1], 20, 8, loss="huber", optimizer=tr.optim.Adam(net, lr=0.02))
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(
        tr.ShapeError, match=r"fit: x: got samples of shape \(5, 6\), expected single frames \(6,\)"
    ):
        fit(tr.Linear(6, 4), np.zeros((3, 5, 6)), np.zeros((3, 5), int))


@pytest.mark.parametrize("layer", ["layer norm", "bidirectional"])
def test_other_layers(layer: str) -> None:
    xs, _, each = ragged()
    tr.manual_seed(0)
    if layer == "bidirectional":
        net = make("gru", bidirectional=True, num_layers=2, dropout=0.2)
    else:
        net = tr.Sequential(tr.LSTM(3, 8), tr.LayerNorm(8), tr.Linear(8, 4))
    history = fit(net, xs, each, 8, optimizer=tr.optim.Adam(net, lr=0.02), clip_norm=1.0)
    assert history["loss"][-1] < history["loss"][0] and history["grad_norm"][-1] > 0


def test_adam_is_the_default():
    x, y = np.zeros((8, 3, 2), np.float32), np.zeros(8, int)
    nets = [tr.Sequential(tr.GRU(2, 4), tr.Linear(4, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    nets[0].fit(x, y, loss="cross_entropy", verbose=0)
    nets[1].fit(x, y, loss="cross_entropy", optimizer="adam", verbose=0)
    for name, array in nets[0].state_dict().items():
        assert np.array_equal(array, nets[1].state_dict()[name])


def test_the_last_step_of_both_directions_is_warned_of() -> None:
    """A classifier that reads it learns from one step in reverse; `h_n` and pools have seen all of them."""
    x, y = np.zeros((4, 6, 3), np.float32), np.zeros(4, np.int64)

    def of(*layers: tr.Net) -> None:
        tr.Sequential(*layers).fit(x, y, epochs=1, loss="cross_entropy", verbose=0)

    def both() -> tr.Net:
        return tr.GRU(3, 2, bidirectional=True)

    for layers in ([both(), tr.Linear(4, 2)], [both(), tr.ReLU(), tr.Dropout(0.1), tr.Linear(4, 2)]):
        with pytest.warns(
            UserWarning, match="reverse half of '0' has seen that step alone: put a tr.FinalState"
        ):
            of(*layers)
    of(both(), tr.FinalState(), tr.Linear(4, 2))
    of(both(), tr.MeanOverTime(), tr.Linear(4, 2))
    of(both(), tr.GRU(4, 2))
    tr.Sequential(both(), tr.Linear(4, 2)).fit(
        x, np.zeros((4, 6), np.int64), epochs=1, loss="cross_entropy", verbose=0
    )
    value = tr.Input(3)
    h = tr.GRU(3, 2, bidirectional=True)(value).named("both")
    net = tr.Net(value, {"a": tr.Linear(4, 2)(h), "b": tr.Linear(2, 2)(tr.GRU(4, 2)(h))})
    with pytest.warns(UserWarning, match="loss of 'a' .* 'both'") as found:
        net.fit({"x": x}, {"a": y, "b": y}, epochs=1, loss=dict.fromkeys("ab", "cross_entropy"), verbose=0)
    assert found[0].filename == __file__


@pytest.mark.parametrize("listed", [False, True])
def test_an_output_with_more_steps_than_its_input(listed: bool) -> None:
    """Padding on both sides makes a sequence longer: targets, masks and losses have its steps."""
    net = tr.Sequential(tr.TimeConv1d(3, 2, 3, padding=(2, 2)))
    counts = [9, 8, 3, 4, 9] if listed else [9] * 5
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((count, 3)).astype(np.float32) for count in counts]
    ys = [np.ones((count + 2, 2), np.float32) for count in counts]
    marks = [np.ones(count + 2, bool) for count in counts]
    x, y, mask = (xs, ys, marks) if listed else (np.stack(xs), np.stack(ys), np.stack(marks))
    found = [each.shape for each in net.predict(x)]
    assert found == [one.shape for one in ys]
    right = np.mean(np.square(np.concatenate([net(one) for one in xs]) - 1, dtype=np.float64))
    assert np.isclose(net.evaluate(x, y, loss="mse")["loss"], right, rtol=1e-5)
    history = net.fit(x, y, loss="mse", epochs=3, batch_size=2, verbose=0, mask=mask)
    assert history["loss"][-1] < right
