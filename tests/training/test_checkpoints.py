"""A run that is broken off and resumed gives the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import callbacks, checkpoints, runs
from tinyrnn.weights import safetensors

RNG = np.random.default_rng(7)
X = [RNG.standard_normal((n, 3)).astype(np.float32) for n in RNG.integers(2, 12, 21)]
EACH = [(x.cumsum(0)[:, 0] > 0) + 2 * (x.cumsum(0)[:, 1] > 0) for x in X]
LAST = np.array([y[-1] for y in EACH])
LONG = RNG.standard_normal((5, 17, 3)).astype(np.float32)
LONG_EACH = RNG.integers(0, 4, (5, 17))


def make(seed: int = 1, hidden: int = 6, dropout: float = 0.3) -> Any:
    tr.manual_seed(seed)
    return tr.Sequential(
        tr.GRU(3, hidden, num_layers=2, dropout=dropout),
        tr.Dropout(dropout),
        tr.LSTM(hidden, 5),
        tr.Linear(5, 4),
    )


class Crash(Exception):
    """A power failure."""


class After(callbacks.Callback):
    """Does something after one batch of the run."""

    def __init__(self, batch: int, what: Callable[[], None]) -> None:
        self.left, self.what = batch, what

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            self.what()


def crash() -> None:
    raise Crash


def press() -> None:
    signal.raise_signal(signal.SIGINT)


class Setup:
    """A run with all that a checkpoint has to keep."""

    def __init__(self, seed: int = 1, optimizer: str = "adam", **options: Any) -> None:
        self.seed, self.net = seed, make(seed)
        self.optimizer = {
            "adam": lambda: tr.optim.Adam(self.net, lr=0.02),
            "sgd": lambda: tr.optim.SGD(self.net, lr=0.1, momentum=0.9),
        }[optimizer]()
        self.schedule = tr.optim.schedules.StepLR(self.optimizer, step_size=2, gamma=0.7)
        self.stopping = callbacks.EarlyStopping(patience=100, restore_best=True)
        self.options = {"clip_norm": 1.0, **options}
        self.data: tuple[Any, Any] = (X, LAST)

    def fit(self, epochs: int = 4, more: Any = (), **options: Any) -> tr.History:
        tr.manual_seed(self.seed)  # dropout's seed is drawn at the first step
        history: tr.History = self.net.fit(
            *self.data,
            epochs,
            4,
            loss="cross_entropy",
            optimizer=self.optimizer,
            validation_data=(X[:6], LAST[:6] if self.data[1] is LAST else EACH[:6]),
            callbacks=[*more, self.schedule, self.stopping],
            verbose=0,
            **{**self.options, **options},
        )
        return history

    def everything(self) -> tuple[Any, ...]:
        """All that must be the same, as comparable values."""
        tensors: dict[str, Any] = {}
        rest = checkpoints.pack(
            [self.optimizer.state_dict(), self.schedule.state_dict(), self.stopping.state_dict()], "", tensors
        )
        bits = {name: array.tobytes() for name, array in tensors.items()}
        return weights(self.net), json.dumps(rest), bits


def weights(net: Any) -> bytes:
    return b"".join(array.tobytes() for array in net.state_dict().values())


def curves(history: tr.History) -> dict[str, list[float]]:
    return {name: values for name, values in history.history.items() if name != "seconds"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("batches", [1, 5, 6, 7, 12, 17, 23])
def test_resumed_after_a_crash(path: Path, optimizer: str, batches: int) -> None:
    """Six batches an epoch, written after each: wherever it breaks, the end is the same."""
    whole = Setup(optimizer=optimizer)
    wanted = whole.fit()
    broken = Setup(optimizer=optimizer)
    with pytest.raises(Crash):
        broken.fit(more=[callbacks.Checkpoint(path, unit="batch"), After(batches + 1, crash)])
    again = Setup(seed=99, optimizer=optimizer)
    history = again.fit(resume=path)
    assert again.everything() == whole.everything()
    assert curves(history) == curves(wanted)


@pytest.mark.parametrize("batches", [8, 14, 24])
def test_resumed_from_the_last_epoch(path: Path, batches: int) -> None:
    whole, broken, again = Setup(), Setup(), Setup(seed=5)
    wanted = whole.fit()
    with pytest.raises(Crash):
        broken.fit(more=[callbacks.Checkpoint(path), After(batches, crash)])
    history = again.fit(resume=path, more=[callbacks.Checkpoint(path)])
    assert again.everything() == whole.everything()
    assert curves(history) == curves(wanted)
    last = Setup(seed=6)  # it was written at the end, too: nothing is left to do
    assert curves(last.fit(resume=path)) == curves(wanted)
    assert last.everything() == whole.everything()


@pytest.mark.parametrize("batches", [1, 6, 9])
def test_resumed_after_ctrl_c(path: Path, batches: int) -> None:
    whole, broken, again = Setup(), Setup(), Setup(seed=5)
    wanted = whole.fit()
    history = broken.fit(more=[callbacks.Checkpoint(path), After(batches, press)])
    assert history.interrupted
    history = again.fit(resume=path)
    assert not history.interrupted
    assert again.everything() == whole.everything()
    assert curves(history) == curves(wanted)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 9])
def test_resumed_within_a_batch(path: Path, steps: int, monkeypatch: Any) -> None:
    """Truncated BPTT: Ctrl-C between two chunks, the state that is carried on is in the file."""

    def setup(seed: int) -> Setup:
        made = Setup(seed=seed, bptt=5)
        made.data = (LONG, LONG_EACH)
        return made

    whole, broken, again = setup(1), setup(1), setup(5)
    wanted = whole.fit()
    run = runs.Trainer

    def trainer(*arguments: Any, **options: Any) -> Any:
        return Pressing(run(*arguments, **options), counter)

    counter = [steps]
    with monkeypatch.context() as patch:
        patch.setattr(runs, "Trainer", trainer)
        history = broken.fit(more=[callbacks.Checkpoint(path)])
    assert history.interrupted
    history = again.fit(resume=path)
    assert again.everything() == whole.everything()
    assert curves(history) == curves(wanted)


class Pressing:
    """A trainer during whose n-th step Ctrl-C is pressed."""

    def __init__(self, trainer: Any, counter: list[int]) -> None:
        self.trainer, self.counter = trainer, counter
        self.memory = trainer.memory
        self.new_state = trainer.new_state

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    def step(self, *arguments: Any, **named: Any) -> Any:
        self.counter[0] -= 1
        if self.counter[0] == 0:
            press()
        return self.trainer.step(*arguments, **named)


def test_resumed_twice_and_for_longer(path: Path) -> None:
    whole, part = Setup(), Setup()
    wanted = whole.fit(6)
    part.stopping.restore_best = whole.stopping.restore_best
    part.fit(2, more=[callbacks.Checkpoint(path)])
    part = Setup(seed=2)
    part.fit(3, more=[callbacks.Checkpoint(path)], resume=path)
    part = Setup(seed=3)
    history = part.fit(6, resume=path)
    assert curves(history) == curves(wanted) and part.everything() == whole.everything()


def test_early_stopping_stays_stopped(path: Path) -> None:
    one, two = Setup(), Setup(seed=4)
    one.stopping.patience = two.stopping.patience = 0
    one.stopping.min_delta = two.stopping.min_delta = 10.0  # the second epoch is not better by so much
    history = one.fit(9, more=[callbacks.Checkpoint(path)])
    assert history.epochs == 2
    assert curves(two.fit(9, resume=path)) == curves(history)
    assert one.everything() == two.everything()


def test_stopped_in_the_middle_of_an_epoch(path: Path) -> None:
    """``run.stop`` ends training after the epoch, in a run that is resumed in its middle, too."""

    class Stop(callbacks.Callback):
        def on_batch_end(self, run: Any, loss: float) -> None:
            run.stop = run.stop or (run.epoch, run.batch) == (1, 2)

    whole, broken, again = Setup(), Setup(), Setup(seed=5)
    wanted = whole.fit(more=[Stop()])
    with pytest.raises(Crash):
        broken.fit(more=[Stop(), callbacks.Checkpoint(path, unit="batch"), After(10, crash)])
    history = again.fit(resume=path, more=[Stop()])
    assert history.epochs == wanted.epochs == 2 and curves(history) == curves(wanted)
    assert again.everything() == whole.everything()


def test_without_shuffling_and_with_a_function(path: Path) -> None:
    def run(net: Any, epochs: int, **options: Any) -> None:
        rate = callbacks.LearningRateScheduler(lambda n: 0.05 / (n + 1), unit="batch")
        kept = callbacks.Checkpoint(path)
        tr.manual_seed(3)
        net.fit(X, LAST, epochs, 4, loss="cross_entropy", optimizer="sgd", shuffle=False, verbose=0,
                callbacks=[rate, kept], **options)  # fmt: skip

    whole, part = make(), make()
    run(whole, 4)
    run(part, 2)
    part = make(9)
    run(part, 4, resume=path)
    assert weights(part) == weights(whole)


def test_the_weights_alone(path: Path) -> None:
    setup = Setup()
    setup.stopping.restore_best = False
    setup.fit(2, more=[callbacks.Checkpoint(path)])
    net = make(5)
    net.load_state_dict(tr.load_weights(path), prefix="net")
    assert weights(net) == weights(setup.net)


def test_every(path: Path, monkeypatch: Any) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(checkpoints, "save", lambda path, run: seen.append((run.epoch, run.batch)))
    Setup().fit(5, more=[callbacks.Checkpoint(path, every=2)])
    assert seen == [(2, 0), (4, 0), (5, 0)]
    seen.clear()
    Setup().fit(2, more=[callbacks.Checkpoint(path, every=4, unit="batch")])
    assert seen == [(0, 4), (1, 2), (1, 6), (2, 0)]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("checkpoints") / "run.safetensors"
    Setup().fit(2, more=[callbacks.Checkpoint(path)])
    return path


def refused(setup: Setup, path: Path, error: type[Exception], message: str, **options: Any) -> None:
    """Expect an error with this message, and that nothing has changed."""
    if setup.net._practised().seed is None:
        setup.fit(1)  # so that there is something to keep
    practice = setup.net._practised()
    before, dropout = setup.everything(), (practice.passes, practice.seed)
    with pytest.raises(error, match=message):
        setup.fit(resume=path, **options)
    practice = setup.net._practised()
    assert setup.everything() == before and (practice.passes, practice.seed) == dropout


def test_another_run(written: Path) -> None:
    other = Setup()
    other.net = make(hidden=7)
    other.optimizer = tr.optim.Adam(other.net, lr=0.02)
    other.schedule = tr.optim.schedules.StepLR(other.optimizer, step_size=2, gamma=0.7)
    refused(other, written, ValueError, "a checkpoint of another run: the net is ")
    refused(Setup(optimizer="sgd"), written, ValueError, "optimizer: got 'Adam', expected 'SGD'")
    refused(Setup(), written, ValueError, "clip_norm: got 1.0, expected 2.0", clip_norm=2.0)
    refused(Setup(), written, ValueError, "shuffle: got True, expected False", shuffle=False)
    fewer = Setup()
    fewer.data = (X[:-1], LAST[:-1])
    refused(fewer, written, ValueError, "samples: got 21, expected 20")
    refused(Setup(), written, ValueError, "it has 2 epochs, expected at most 1", epochs=1)
    frozen = Setup()
    frozen.net.freeze("0")
    refused(frozen, written, ValueError, "it trains \\['0.weight_ih_l0', ")


def test_a_seed_that_is_not_the_run_s(path: Path) -> None:
    """Left out it is the run's; another is refused, also of a file that does not say which it was."""
    whole, part = Setup(), Setup()
    wanted = whole.fit(3, seed=7)
    part.fit(1, seed=7, more=[callbacks.Checkpoint(path)])
    for seed, refusal in ((8, "8"), (0, "0")):
        refused(
            Setup(), path, ValueError, f"another run: seed: got 7, expected {refusal}: leave out", seed=seed
        )
    part = Setup(seed=2)
    part.fit(2, resume=path, more=[callbacks.Checkpoint(path)])  # whose file knows it, too
    refused(Setup(), path, ValueError, "seed: got 7, expected 1: ", seed=1)
    other = Setup(seed=3)
    assert curves(other.fit(3, resume=path, seed=7)) == curves(wanted)
    assert other.everything() == whole.everything()

    description, tensors = read(path)
    del description["settings"]["seed"], description["settings"]["arguments"]  # an older file
    write(path, description, tensors)
    refused(Setup(), path, ValueError, "seed: got .another., expected 1: ", seed=1)
    for options in ({}, {"seed": 7}):
        assert curves(Setup(seed=4).fit(3, resume=path, **options)) == curves(wanted)


def test_a_seed_that_nothing_is_drawn_from(path: Path) -> None:
    Setup().fit(1, shuffle=False, seed=3, more=[callbacks.Checkpoint(path)])
    assert Setup(seed=2).fit(2, shuffle=False, seed=4, resume=path).epochs == 2


def test_other_arguments(path: Path) -> None:
    """Arguments that the checkpoint and the run both set must agree."""
    setup = Setup()
    setup.fit(1, more=[callbacks.Checkpoint(path)])
    rate = Setup()
    rate.optimizer = tr.optim.Adam(rate.net, lr=0.05, betas=(0.8, 0.9))
    rate.schedule = tr.optim.schedules.StepLR(rate.optimizer, step_size=2, gamma=0.7)
    refused(
        rate, path, ValueError, r"optimizer: lr is 0.02, expected 0.05; optimizer: betas is \[0.9, 0.999\]"
    )
    for schedule, message in (
        ((5, 0.7), "step_size was 2, expected 5"),
        ((2, 0.5), "gamma was 0.7, expected 0.5"),
    ):
        other = Setup()
        other.schedule = tr.optim.schedules.StepLR(other.optimizer, *schedule)
        refused(other, path, tr.LoadError, f"run.safetensors: .* does not fit: StepLR: {message}")
    another = Setup()
    another.schedule = tr.optim.schedules.ExponentialLR(another.optimizer, 0.7)
    refused(another, path, tr.LoadError, "ExponentialLR: state_dict has step_size: expected the state of a")

    def fit(loss: Any, **options: Any) -> tr.History:
        return tr.Linear(3, 3).fit(LONG[:, 0], LONG[:, 1], 1, loss=loss, verbose=0, **options)

    fit(tr.HuberLoss(delta=0.5), callbacks=callbacks.Checkpoint(path))
    with pytest.raises(ValueError, match="another run: loss: delta is 0.5, expected 0.25"):
        fit(tr.HuberLoss(delta=0.25), resume=path)


def test_a_longer_run_than_a_cycle(path: Path) -> None:
    """A state past its schedule's end is refused before training."""
    cycle = Setup()
    cycle.schedule = tr.optim.schedules.OneCycleLR(cycle.optimizer, 0.1, 100)
    cycle.fit(2, more=[callbacks.Checkpoint(path)])
    description, tensors = read(path)
    description["callbacks"][0][1]["schedule"]["last_epoch"] = 101
    write(path, description, tensors)
    other = Setup()
    other.schedule = tr.optim.schedules.OneCycleLR(other.optimizer, 0.1, 100)
    with pytest.raises(tr.LoadError, match="OneCycleLR: state_dict: last_epoch is 101, expected 100 at most"):
        other.fit(resume=path)


def test_states_of_callbacks(written: Path, tmp_path: Path) -> None:
    """Other shapes, types and ranges, and a lone seed of dropout: each is found before anything changes."""
    description, tensors = read(written)
    path = tmp_path / "spoilt.safetensors"
    setup = Setup()
    setup.fit(1)
    names = [kind for kind, _ in description["callbacks"]]
    rate, stopping = names.index("LearningRateScheduler"), names.index("EarlyStopping")

    def spoil(message: str, change: Callable[[Any, dict[str, Any]], None]) -> None:
        changed, arrays = json.loads(json.dumps(description)), dict(tensors)
        change(changed, arrays)
        write(path, changed, arrays)
        refused(setup, path, tr.LoadError, f"spoilt.safetensors: .*{message}")

    for key, value, message in (
        ("best", "x", "best is 'x', expected a number"),
        ("best", float("nan"), "best is nan"),
        ("best", None, "best is None"),
        ("best", [1.0], "best is "),
        ("best_epoch", -2, "best_epoch is -2"),
        ("best_epoch", 1.0, "best_epoch is 1.0"),
        ("wait", -1, "wait is -1"),
        ("wait", True, "wait is True"),
        ("weights", [], "weights is list"),
        ("weights", {"x": {"!array": "net.3.bias"}}, "weights: got tensors"),
        ("more", 1, "EarlyStopping: the state has "),
    ):
        spoil(message, lambda all_, _, k=key, v=value: all_["callbacks"][stopping][1].update({k: v}))
    for name in [name for name in tensors if name.startswith(f"callbacks.{stopping}.weights")]:
        spoil("weights: ", lambda _, arrays, n=name: arrays.update({n: arrays[n].reshape(-1)[:-1]}))
        spoil("weights: ", lambda _, arrays, n=name: arrays.update({n: arrays[n].astype(np.float64)}))
    for key, value, message in (
        ("count", 2.0, "count is 2.0"),
        ("count", -1, "count is -1"),
        ("count", None, "count is None"),
        ("schedule", {}, "last_epoch"),
        ("schedule", None, "StepLR"),
    ):
        spoil(message, lambda all_, _, k=key, v=value: all_["callbacks"][rate][1].update({k: v}))
    spoil("the state has nothing", lambda all_, _: all_["callbacks"][stopping].__setitem__(1, {}))
    for value in (
        {"_dropout_seed": 3},
        {"_train_steps": 3},
        {},
        {"_dropout_seed": 3, "_train_steps": 2**64 - 1},
    ):
        spoil("_train_steps", lambda all_, _, v=value: all_.update(dropout=v))
    for key in ("state", "inc"):
        for value in (-1, 2**128, 0.5, None, "x"):
            spoil(f"random: {key} is", lambda all_, _, k=key, v=value: all_["random"]["state"].update({k: v}))
    for key, value in (
        ("weight", -1.0),
        ("seconds", float("nan")),
        ("total", "1"),
        ("norm", None),
        ("stop", 0),
    ):
        spoil(key, lambda all_, _, k=key, v=value: all_["position"].update({k: v}))
    spoil("history has 1 epochs, expected 2", lambda all_, _: [
        values.pop() for values in all_["history"]["history"].values()
    ])  # fmt: skip
    spoil("net: 3.bias is float64", lambda _, arrays: arrays.update({"net.3.bias": np.zeros(4)}))


def test_callbacks_that_cannot_work_are_found_first(written: Path, tmp_path: Path) -> None:
    """Before the checkpoint is read, which would have changed the net."""
    foreign = tr.optim.schedules.StepLR(Setup().optimizer, 2)
    for callback, error, message in (
        (callbacks.Checkpoint(tmp_path / "no" / "file"), FileNotFoundError, "no such folder"),
        (callbacks.CSVLogger(tmp_path), IsADirectoryError, "is a folder"),
        (callbacks.ModelCheckpoint(tmp_path / "net.pt"), ValueError, "net.pt"),
        (callbacks.LearningRateScheduler(foreign), ValueError, "belongs to another optimiser"),
    ):
        refused(Setup(), written, error, message, more=[callback])


def test_a_callback_that_cannot_take_its_state(path: Path) -> None:
    class Own(callbacks.Callback):
        def __init__(self, error: Exception | None) -> None:
            self.error = error

        def state_dict(self) -> dict[str, Any]:
            return {"x": 1}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            if self.error is not None:
                error, self.error = self.error, None  # it takes back what it had
                raise error

    Setup().fit(1, more=[Own(None), callbacks.Checkpoint(path)])
    for error in (
        KeyError("y"),
        ZeroDivisionError("no"),
        AssertionError(),
        TypeError("t"),
        RuntimeError("r"),
    ):
        setup = Setup()
        with pytest.raises(tr.LoadError, match="run.safetensors: this checkpoint does not fit") as caught:
            setup.fit(2, resume=path, more=[Own(error)])
        assert caught.value.__cause__ is not None


def test_other_callbacks(written: Path) -> None:
    setup = Setup()
    with pytest.raises(
        ValueError, match="its callbacks LearningRateScheduler, EarlyStopping are not among fit's"
    ):
        before = setup.everything()
        setup.net.fit(X, LAST, 4, 4, loss="cross_entropy", optimizer=setup.optimizer, clip_norm=1.0,
                      verbose=0, resume=written)  # fmt: skip
    assert setup.everything() == before


def test_cut_short(written: Path, tmp_path: Path) -> None:
    raw = written.read_bytes()
    setup = Setup()
    for size in (0, 7, 8, 100, len(raw) // 2, len(raw) - 1):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(raw[:size])
        refused(setup, path, tr.LoadError, "cut.safetensors: ")


def test_damaged(written: Path, tmp_path: Path) -> None:
    raw = written.read_bytes()
    (header,) = struct.unpack("<Q", raw[:8])
    rng = np.random.default_rng(0)
    setup = Setup()
    path = tmp_path / "damaged.safetensors"
    for place in [9 + header, len(raw) - 1, *rng.integers(8, len(raw), 12)]:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        refused(setup, path, tr.LoadError, "damaged.safetensors: ")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description and the tensors of a checkpoint."""
    with safetensors.Reader(path) as reader:
        contents = safetensors.read(reader, None)
        tensors = {tensor.name: tensor.raw() for tensor in contents.tensors}
    return json.loads(contents.metadata["tinyrnn_checkpoint"]), tensors


def write(path: Path, description: Any, tensors: dict[str, Any]) -> None:
    """A checkpoint with the checksum of its contents."""
    text = json.dumps(description)
    crc = f"{checkpoints._crc(text, tensors):08x}"
    safetensors.save_safetensors(path, tensors, {"tinyrnn_checkpoint": text, "tinyrnn_crc32": crc})


def test_malformed(written: Path, tmp_path: Path) -> None:
    """A file with a right checksum and any wrong description is an error."""
    with safetensors.Reader(written) as reader:
        contents = safetensors.read(reader, None)
        tensors = {tensor.name: tensor.raw() for tensor in contents.tensors}
    description = json.loads(contents.metadata["tinyrnn_checkpoint"])
    path = tmp_path / "malformed.safetensors"
    setup = Setup()

    def write(changed: Any, arrays: dict[str, Any] = tensors) -> None:
        text = json.dumps(changed)
        crc = f"{checkpoints._crc(text, arrays):08x}"
        safetensors.save_safetensors(path, arrays, {"tinyrnn_checkpoint": text, "tinyrnn_crc32": crc})

    different = ("net", "trained", "settings")  # there it is a checkpoint of another run
    write(description)
    setup.fit(2, resume=path)
    for key in description:
        write({name: value for name, value in description.items() if name != key})
        refused(setup, path, tr.LoadError, "malformed.safetensors: ")
        for value in (None, 3, [], "x", {"!array": "no"}, {"!tuple": 3}):
            if value != description[key] and (key, value) != ("callbacks", []) and key not in different:
                write({**description, key: value})
                refused(setup, path, tr.LoadError, "malformed.safetensors: ")
    for key, value in (
        ("epoch", -1),
        ("batch", 99),
        ("batch", -1),
        ("step", 4),
        ("step", -1),
        ("total", "x"),
    ):
        write({**description, "position": {**description["position"], key: value}})
        refused(setup, path, tr.LoadError, "malformed.safetensors: ")
    for name in tensors:
        write(description, {key: array for key, array in tensors.items() if key != name})
        refused(setup, path, tr.LoadError, "malformed.safetensors: ")
    write({**description, "version": 2})
    refused(setup, path, tr.LoadError, "of version 2, expected 1: update tinyrnn")


def test_no_checkpoint(tmp_path: Path) -> None:
    setup = Setup()
    setup.net.save(tmp_path / "net.safetensors")
    refused(setup, tmp_path / "net.safetensors", tr.LoadError, "is not a checkpoint that fit wrote")
    (tmp_path / "text").write_text("hello, world")
    refused(setup, tmp_path / "text", tr.LoadError, "text: ")
    refused(setup, tmp_path / "missing", FileNotFoundError, "missing")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        setup.fit(1, more=[callbacks.Checkpoint(tmp_path / "no" / "file")])


def test_an_interrupted_save(path: Path, monkeypatch: Any) -> None:
    """The old file stays complete if writing the new one fails, and training continues."""
    setup = Setup()
    setup.fit(1, more=[callbacks.Checkpoint(path)])
    raw = path.read_bytes()

    def fails(*arguments: Any) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.warns(RuntimeWarning, match=f"Checkpoint: cannot write {path}: no space left"):
            assert setup.fit(2, more=[callbacks.Checkpoint(path)]).epochs == 2
    assert path.read_bytes() == raw and os.listdir(path.parent) == [path.name]


def test_trees() -> None:
    tree = {
        "a": [1, 2.5, None, True, "x", float("inf")],
        "b": (1, (2,)),
        3: np.arange(4, dtype=np.int64),
        "d": {0: {"e": np.float32(1.5)}, 1: np.array(2.0)},
        "f": {"!array": "g"},
        "h": {},
    }
    tensors: dict[str, Any] = {}
    text = json.dumps(checkpoints.pack(tree, "t", tensors))
    again = checkpoints.unpack(json.loads(text), tensors)
    np.testing.assert_equal(again, tree)
    assert list(again) == list(tree) and isinstance(again["b"], tuple)
    for wrong, message in (
        ({"x": {1.5: 2}}, "t.x: got keys"),
        ([np.array(["a"])], "t.0: array of <U1 cannot be kept"),
        ({"a": object()}, "t.a: object cannot be kept"),
    ):
        with pytest.raises(TypeError, match=message):
            checkpoints.pack(wrong, "t", {})
