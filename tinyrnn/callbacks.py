"""Callbacks of `fit`: stop early, keep the best net, set learning rates, write files.

A file that cannot be written, as the disk is full, does not end training: `ModelCheckpoint`, `CSVLogger` and
`Checkpoint` warn (`RuntimeWarning`), keep the file that was there, and try again the next time.
"""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tinyrnn.arguments import check_bool, check_float, check_int, check_number
from tinyrnn.files import replacing
from tinyrnn.runs import Callback, Run
from tinyrnn.saving import check_suffix, save
from tinyrnn.state_dicts import load_state_dict, stored

Path = str | os.PathLike[str]

_MODES = ("min", "max")
_UNITS = ("epoch", "batch")


class Schedule(Protocol):
    """The methods that all of `tinyrnn.optim.schedules` have."""

    def step(self, *metric: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


def _taken(name: str, state: Any, keys: tuple[str, ...]) -> list[Any]:
    """The values of a callback's state, in the order of its keys."""
    if not isinstance(state, Mapping) or set(state) != set(keys):
        has = ", ".join(map(str, state))[:100] if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{name}: the state has {has or 'nothing'}, expected {', '.join(keys)}")
    return [state[key] for key in keys]


def _written(name: str, path: str, write: Callable[[], None]) -> bool:
    """Write a file, and tell whether that worked: a full disk is no reason to lose a training."""
    try:
        write()
    except OSError as error:
        warnings.warn(
            f"{name}: cannot write {path}: {error.strerror or error}; training continues, and the next save "
            "tries again",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def _check_folder(path: Path) -> None:
    """A file that cannot be written is better said before training than after an epoch."""
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file's name", path)


def _name(what: str, path: Path) -> str:
    """The name of a file."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{what}: path is {path!r}, expected the name of a file")
    return os.fspath(path)


class _Best(Callback):
    """The best value so far of a number in the logs."""

    _remembers = True

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        name = type(self).__name__
        if mode not in _MODES:
            raise ValueError(f"{name}: mode is {mode!r}, expected 'min' or 'max'")
        self.monitor: str = monitor
        self.mode = mode
        self.min_delta = check_float(f"{name}: min_delta", min_delta, 0.0)
        self.best = math.inf if mode == "min" else -math.inf

    def _better(self, logs: Mapping[str, float]) -> bool:
        """Tell whether this epoch is the best so far, and remember it if so. NaN never is."""
        value = logs[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        if not gain > self.min_delta:
            return False
        self.best = value
        return True


class EarlyStopping(_Best):
    """Stop when a number has not become better for some epochs.

    Parameters
    ----------
    monitor : str
        Which number of the logs: ``"val_loss"``, ``"loss"``, ``"val_accuracy"``.
    patience : int
        Epochs without a better one that are put up with: the next one is the last.
    min_delta : float
        What is better by no more than this does not count.
    restore_best : bool
        Whether the net has the best epoch's weights at the end. Not after Ctrl-C, which keeps the last step.
    mode : str
        ``"min"`` where less is better, or ``"max"``.

    Attributes
    ----------
    best : float
    best_epoch, wait : int
        When that was, counted from 0; and epochs since.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        restore_best: bool = False,
        mode: str = "min",
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = check_int("EarlyStopping: patience", patience, 0, 2**31)
        self.restore_best = check_bool("EarlyStopping: restore_best", restore_best)
        self.best_epoch, self.wait = -1, 0
        self._best_weights: dict[str, Any] = {}

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        if self._better(logs):
            self.best_epoch, self.wait = run.epoch - 1, 0
            if self.restore_best:
                self._best_weights = stored(run.net)
            return
        self.wait += 1
        if self.wait > self.patience:
            run.stop = True

    def on_train_end(self, run: Run) -> None:
        if self._best_weights and not run.history.interrupted:
            load_state_dict(run.net, self._best_weights)

    def _weights(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        return state.get("weights") or {}

    def state_dict(self) -> dict[str, Any]:
        state = {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait}
        return {**state, "weights": self._best_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best, epoch, wait, weights = _taken("EarlyStopping", state, ("best", "best_epoch", "wait", "weights"))
        best = check_number("EarlyStopping: best", best)
        epoch = check_int("EarlyStopping: best_epoch", epoch, -1, 2**62)
        wait = check_int("EarlyStopping: wait", wait, 0, 2**62)
        if not isinstance(weights, Mapping):
            raise TypeError(f"EarlyStopping: weights is {type(weights).__name__}, expected arrays by name")
        self.best, self.best_epoch, self.wait, self._best_weights = best, epoch, wait, dict(weights)


class ModelCheckpoint(_Best):
    """Save the net after epochs, as `Net.save` does; `tinyrnn.load` reads it.

    Where the file cannot be written there is a warning, and training goes on. With ``save_best_only`` a best
    that could not be saved does not count: the next net that is better than the saved one is saved.

    Parameters
    ----------
    path : str or os.PathLike
        ``"{epoch}"`` in it becomes the number of the epoch, counted from 1.
    monitor, mode
        As `EarlyStopping` takes them; without ``save_best_only`` nothing is compared.
    save_best_only : bool
        Whether only what is better than all before is saved.
    """

    def __init__(
        self, path: Path, monitor: str = "val_loss", save_best_only: bool = False, mode: str = "min"
    ) -> None:
        super().__init__(monitor, mode)
        self.path = _name("ModelCheckpoint", path)
        self.save_best_only = check_bool("ModelCheckpoint: save_best_only", save_best_only)
        if not self.save_best_only:
            self.monitor = None  # type: ignore[assignment]

    def _check(self, run: Run) -> None:
        check_suffix(self.path)
        _check_folder(self.path.replace("{epoch}", "1"))

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        best = self.best
        if not self.save_best_only or self._better(logs):
            path = self.path.replace("{epoch}", str(run.epoch))
            if not _written("ModelCheckpoint", path, lambda: save(run.net, path)):
                self.best = best

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        (best,) = _taken("ModelCheckpoint", state, ("best",))
        self.best = check_number("ModelCheckpoint: best", best)


class LearningRateScheduler(Callback):
    """Set the learning rate, or let a schedule of `tinyrnn.optim.schedules` do so.

    A schedule among ``fit``'s callbacks becomes one of these by itself.

    Parameters
    ----------
    schedule : schedule or callable
        A schedule of the run's optimiser, stepped as in PyTorch after each unit; or a function from the
        number of units done, 0 at the start, to the learning rate.
    unit : str, optional
        ``"epoch"`` or ``"batch"``; by default what `OneCycleLR` is made for, ``"batch"``, for that one.
    monitor : str, optional
        The number that `ReduceLROnPlateau` looks at after each epoch, ``"val_loss"`` by default there.
    """

    _remembers = True

    def __init__(
        self,
        schedule: Schedule | Callable[[int], float],
        unit: str | None = None,
        monitor: str | None = None,
    ) -> None:
        kind = type(schedule).__name__
        unit = unit or ("batch" if kind == "OneCycleLR" else "epoch")
        if unit not in _UNITS:
            raise ValueError(f"LearningRateScheduler: unit is {unit!r}, expected 'epoch' or 'batch'")
        self.schedule: Any = schedule
        self.unit = unit
        self.monitor = monitor or ("val_loss" if kind == "ReduceLROnPlateau" else None)
        if self.monitor and unit == "batch":
            raise ValueError(
                f"LearningRateScheduler: unit is 'batch', expected 'epoch': {self.monitor} is known after "
                "each epoch"
            )
        self._function = not hasattr(schedule, "step")
        if self._function and not callable(schedule):
            raise TypeError(f"LearningRateScheduler: got {kind}, expected a schedule or a function")
        self._count = 0

    def _check(self, run: Run) -> None:
        theirs = run.optimizer if self._function else getattr(self.schedule, "optimizer", run.optimizer)
        if theirs is not run.optimizer:
            raise ValueError(
                "LearningRateScheduler: the schedule belongs to another optimiser, expected the one of fit"
            )

    def on_train_begin(self, run: Run) -> None:
        if self._function:
            run.optimizer.lr = self.schedule(self._count)

    def on_batch_end(self, run: Run, loss: float) -> None:
        if self.unit == "batch":
            self._step(run)

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        if self.unit == "epoch":
            self._step(run, *([logs[self.monitor]] if self.monitor else []))

    def _step(self, run: Run, *metric: float) -> None:
        self._count += 1
        if self._function:
            run.optimizer.lr = self.schedule(self._count)
        else:
            self.schedule.step(*metric)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "schedule": {} if self._function else self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        name = "LearningRateScheduler"
        count, schedule = _taken(name, state, ("count", "schedule"))
        count = check_int(f"{name}: count", count, 0, 2**62)
        if self._function:
            if schedule != {}:
                raise ValueError(f"{name}: got a schedule's state, expected none: this one is a function")
        else:
            _check_same(self.schedule, schedule)
            self.schedule.load_state_dict(schedule)
        self._count = count


def _check_same(schedule: Any, state: Any) -> None:
    """Raise an error if a state is of a schedule with other arguments, which it would bring with it."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{type(schedule).__name__}: the state is {type(state).__name__}, expected a mapping")
    own = schedule.state_dict()
    for key in (*getattr(schedule, "_options", ()), "base_lrs"):
        if key in own and key in state and state[key] != own[key]:
            raise ValueError(
                f"{type(schedule).__name__}: {key} was {str(state[key])[:100]}, expected {own[key]}, "
                "the schedule's of this run"
            )
    inner = state.get("_schedulers", ())
    for one, its in zip(getattr(schedule, "_schedulers", ()), inner, strict=False):
        _check_same(one, its)


class CSVLogger(Callback):
    """Write the history as a table after each epoch: the file is whole at any time.

    A resumed run writes the epochs before it, too. Where the file cannot be written there is a warning, and
    the table that is written after the next epoch has all of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = _name("CSVLogger", path)

    def _check(self, run: Run) -> None:
        _check_folder(self.path)

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        columns = run.history.history
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        for i in range(run.history.epochs):
            writer.writerow([i + 1, *(repr(values[i]) for values in columns.values())])

        def write() -> None:
            with replacing(self.path) as file:
                file.write(text.getvalue().encode())

        _written("CSVLogger", self.path, write)


class Checkpoint(Callback):
    """Save all that a run is, so that ``fit(..., resume=path)`` goes on to the very same bits.

    One safetensors file: weights, the optimiser's state, schedules, counters of callbacks, the generators
    of shuffling and dropout, the history. It is complete or not there: an older one is kept until the new one
    is. After the last epoch it is written in any case, and after Ctrl-C too, in the middle of an epoch. Where
    it cannot be written there is a warning, and training goes on: ``fit`` returns the history in any case.

    Parameters
    ----------
    path : str or os.PathLike
    every : int
        Units between two files.
    unit : str
        ``"epoch"`` or ``"batch"``.
    """

    def __init__(self, path: Path, every: int = 1, unit: str = "epoch") -> None:
        if unit not in _UNITS:
            raise ValueError(f"Checkpoint: unit is {unit!r}, expected 'epoch' or 'batch'")
        self.path = _name("Checkpoint", path)
        self.every = check_int("Checkpoint: every", every, 1, 2**31)
        self.unit = unit
        self._since = 0

    def _check(self, run: Run) -> None:
        _check_folder(self.path)

    def _count(self, run: Run, last: bool = False) -> None:
        self._since += 1
        if self._since >= self.every or last:
            self._save(run)

    def _save(self, run: Run) -> None:
        from tinyrnn import checkpoints

        self._since = 0
        _written("Checkpoint", self.path, lambda: checkpoints.save(self.path, run))

    def on_batch_end(self, run: Run, loss: float) -> None:
        if self.unit == "batch":
            self._count(run)

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        last = run.stop or run.epoch == run.epochs
        if self.unit == "epoch":
            self._count(run, last)
        elif last:
            self._save(run)

    def on_interrupt(self, run: Run) -> None:
        self._save(run)


def in_order(callbacks: Any) -> list[Callback]:
    """Callbacks as `fit` calls them: schedules wrapped, checkpoints last, since they keep what others know.

    Raises
    ------
    TypeError
        If one is neither a callback nor a schedule.
    """
    found: list[Callback] = []
    if not isinstance(callbacks, (Callback, Iterable)):
        raise TypeError(
            f"callbacks: got {type(callbacks).__name__}, expected a list of callbacks and schedules"
        )
    for given in [callbacks] if isinstance(callbacks, Callback) else callbacks:
        if isinstance(given, Callback):
            found.append(given)
        elif hasattr(given, "step") and hasattr(given, "state_dict"):
            found.append(LearningRateScheduler(given))
        else:
            raise TypeError(f"callbacks: got {type(given).__name__}, expected a Callback or a schedule")
    return sorted(found, key=lambda callback: isinstance(callback, Checkpoint))
