"""One run of `fit`: its state, the base of callbacks, Ctrl-C, the lines and the bar in the terminal."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinyrnn.arguments import Explained
from tinyrnn.attributes import Guarded
from tinyrnn.contract import Module
from tinyrnn.history import History
from tinyrnn.progress import Progress
from tinyrnn.samples import Goal, Inputs, PortInputs, Rows, batches
from tinyrnn.trainer import Trainer


class Run(Guarded):
    """The current run of `fit`, for callbacks.

    Attributes
    ----------
    net, optimizer, loss
        The objects of the training. Of several losses ``loss`` is a dict from output to loss.
    losses : dict of str to float
        Each loss of the last batch, before its weight in the sum, by output.
    history : History
    epochs : int
        The number of epochs to train.
    epoch, batch : int
        Complete epochs, and complete batches of the current epoch.
    stop : bool
        Set it to end training after this epoch.
    resumed : bool
        True if the run began with a checkpoint.
    """

    _made_by = "_gatherer"
    _settable = ("seed",)  # the one of the checkpoint to resume

    def __init__(
        self,
        net: Module,
        goals: list[Goal],
        optimizer: Any,
        inputs: Inputs,
        callbacks: list[Callback],
        *,
        epochs: int,
        batch_size: int,
        seed: int | None,
        shuffle: bool,
        bptt: int | None,
        threads: int,
        **options: Any,
    ) -> None:
        several = len(goals) > 1
        self.net, self.optimizer, self.goals = net, optimizer, goals
        self.loss = {goal.output: goal.loss for goal in goals} if several else goals[0].loss
        self.inputs, self.callbacks = inputs, callbacks
        self.epochs, self.batch_size, self.bptt = epochs, batch_size, bptt
        self.history = History()
        self.epoch = self.batch = 0
        self.stop = self.resumed = False
        # Settings that the first checkpoints did not have.
        plain = {goal.output: _plain(goal.loss) for goal in goals}
        self.arguments = {
            "loss": plain if several else plain[goals[0].output],
            "optimizer": dict(optimizer.defaults),
        }
        # Of the current epoch: the sum of each goal's losses, the sum of the weights in its mean, and its
        # seconds; with truncated BPTT the steps done of the current batch, and the state after them.
        self.totals, self.weights = [0.0] * len(goals), [0.0] * len(goals)
        self.losses: dict[str, float] = {}
        self.seconds, self.step = 0.0, 0
        self.carried: NDArray[np.float32] | None = None
        self.norm = float("nan")  # of the last step's gradients
        self.seed = seed  # None: 0, or that of the run that is resumed
        self.generator = np.random.Generator(np.random.PCG64(seed or 0)) if shuffle else None
        self.drawn_from = self._random()  # the generator's state when the epoch under way began
        self.settings = {
            "samples": len(inputs),
            "steps of all samples": int(inputs.lengths.sum()),
            "batch_size": batch_size,
            "shuffle": shuffle,
            "bptt": bptt,
            "loss": _told(net, goals),
            "optimizer": type(optimizer).__name__,
            "mask": {
                goal.output: sum(int(mask.sample(i).sum()) for i in range(len(inputs)))
                for goal in goals
                if (mask := goal.targets.mask) is not None
            }
            or None,  # as in the first checkpoints, which do not have it
            **options,
        }
        steps = inputs.most_steps(bptt)
        most = min(batch_size, len(inputs))
        # One trainer for whole batches, one for the short one.
        self._trainers = {
            rows: Trainer(
                net,
                optimizer,
                {goal.output: goal.loss for goal in goals},
                rows,
                steps,
                threads=threads,
                frame=None if isinstance(inputs, PortInputs) else inputs.frame,
                target_steps=max(
                    0 if labels is None else max(int(labels.max()), 1)
                    for labels in (goal.targets.labels for goal in goals)
                ),
                loss_weights={goal.output: goal.weight for goal in goals},
                **options,
            )
            for rows in dict.fromkeys((most, len(inputs) % most or most))
        }
        self._gatherer = inputs.gatherer(goals, most, steps)
        shared = next(iter(self._trainers.values())).memory
        each = (trainer.memory for trainer in self._trainers.values())
        self.history.memory = (
            shared.gradients
            + shared.optimizer
            + sum(memory.tape + memory.scratch + memory.state for memory in each)
            + self._gatherer.nbytes
        )

    def _may_set(self, name: str) -> bool:
        return super()._may_set(name) or (name in self.__dict__ and name not in self._fixed())

    def _instead(self, name: str, value: Any) -> str:
        return "pass it to fit()"

    def _random(self) -> Any:
        return None if self.generator is None else self.generator.bit_generator.state

    def done(self) -> float:
        """The part of all batches that is complete."""
        count = -(-len(self.inputs) // self.batch_size)
        return (self.epoch + self.batch / count) / max(self.epochs, 1)

    def state_size(self, rows: int) -> int:
        """The number of values in the state of a batch: of a whole one, or of the short one."""
        return int(self._trainers[rows].new_state().numbers.size)

    def train(self, validate: Callable[[], dict[str, float]], interrupt: Interrupt, report: Report) -> None:
        """Train until the last epoch, a callback or Ctrl-C ends it."""
        while self.epoch < self.epochs and not interrupt.asked:
            if self.stop and self.batch == self.step == 0:  # an epoch that has begun runs to its end
                break
            self._train_epoch(validate, interrupt, report)

    def _train_epoch(
        self, validate: Callable[[], dict[str, float]], interrupt: Interrupt, report: Report
    ) -> None:
        started = time.perf_counter() - self.seconds
        if self.batch == 0 and self.step == 0:
            for callback in self.callbacks:
                callback.on_epoch_begin(self)
        order = batches(self.inputs.lengths, self.batch_size, self.generator)
        for rows in order[self.batch :]:
            loss = self._train_batch(rows, interrupt)
            self.seconds = time.perf_counter() - started
            if loss is not None:
                report.batch(self, loss)
                for callback in self.callbacks:
                    callback.on_batch_end(self, loss)
            if interrupt.asked:
                return
        logs = logged(self.goals, self._means(self.totals, self.weights))
        logs |= {f"val_{name}": value for name, value in validate().items()}
        if interrupt.asked:  # perhaps in the middle of validation, with which a resumed run begins
            return
        logs["lr"] = float(self.optimizer.lr)
        logs["grad_norm"] = float(self.norm)
        logs["seconds"] = time.perf_counter() - started
        self.history.append(logs)
        self.epoch += 1
        self.batch = 0
        self.totals, self.weights = [0.0] * len(self.goals), [0.0] * len(self.goals)
        self.seconds = 0.0
        self.drawn_from = self._random()
        report.epoch(self, logs)
        for callback in self.callbacks:
            callback.on_epoch_end(self, logs)

    def _train_batch(self, rows: Rows, interrupt: Interrupt) -> float | None:
        """Train one batch: one step, with truncated BPTT one for each chunk. Its loss, None if unfinished."""
        trainer, gather = self._trainers[len(rows)], self._gatherer
        if self.bptt is None:
            given = gather.x(rows), gather.y(rows), gather.lengths(rows)
            loss = float(trainer.step(*given, mask=gather.masks(rows)))
            self._add(trainer, rows)
            self.losses = trainer.losses
            self.batch += 1
            return loss
        state = trainer.new_state()
        if self.carried is not None:
            state.numbers[:] = self.carried
        totals, weights = list(self.totals), list(self.weights)
        end = int(self.inputs.lengths[rows].max())
        while self.step < end:
            if interrupt.asked:
                self.carried = state.numbers.copy()
                return None
            part = rows, self.step, min(self.step + self.bptt, end)
            x, y, lengths = gather.x(*part), gather.y(*part), gather.lengths(*part)
            trainer.step(x, y, lengths, state, begins=self.step == 0, mask=gather.masks(*part))
            self._add(trainer, *part)
            self.step = part[2]
        self.step, self.carried = 0, None
        self.batch += 1
        pairs = zip(self.totals, totals, strict=True), zip(self.weights, weights, strict=True)
        self.losses = self._means(*([now - before for now, before in pair] for pair in pairs))
        return logged(self.goals, self.losses)["loss"]

    def _means(self, totals: list[float], weights: list[float]) -> dict[str, float]:
        """The mean loss of each goal, by output."""
        return {
            goal.output: mean(goal, *sums) for goal, *sums in zip(self.goals, totals, weights, strict=True)
        }

    def _add(self, trainer: Trainer, rows: Rows, start: int = 0, stop: int | None = None) -> None:
        """Add the losses of the trainer's last step to the sums of the epoch."""
        self.norm = trainer.norm
        for i, goal in enumerate(self.goals):
            weight = goal.targets.weight(rows, start, stop)
            if weight:  # the mean over nothing is NaN
                self.totals[i] += trainer.losses[goal.output] * weight
                self.weights[i] += weight


def mean(goal: Goal, total: float, weight: float) -> float:
    """The mean of losses whose sum, each times its weight in the mean, is ``total``; or that sum."""
    if not goal.targets.mean:
        return total
    return total / weight if weight else float("nan")


def logged(goals: list[Goal], losses: Mapping[str, float]) -> dict[str, float]:
    """``"loss"``, the sum of all losses, and of several each by its name, ``"<output>_loss"``."""
    logs = {"loss": sum(goal.weight * losses[goal.output] for goal in goals)}
    if len(goals) > 1:
        logs |= {f"{output}_loss": value for output, value in losses.items()}
    return logs


def _told(net: Module, goals: list[Goal]) -> Any:
    """The losses for a checkpoint; by output, if the net has several."""
    told = {
        goal.output: f"{type(goal.loss).__name__}, {goal.loss.reduction}"
        + (f", weight {goal.weight}" if goal.weight != 1 else "")
        for goal in goals
    }
    return told if len(net._output_names()) > 1 else told[goals[0].output]


def _plain(loss: Any) -> dict[str, Any]:
    """The arguments that a loss was made with; arrays as lists."""
    arguments = loss._arguments() if hasattr(loss, "_arguments") else {}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }


class Callback(Explained):
    """The base of all callbacks: methods that do nothing.

    ``run`` describes the current run: ``run.net``, ``run.optimizer``, ``run.history``, ``run.epoch``
    (complete epochs), ``run.batch`` (complete batches of the current epoch), and ``run.stop``, which a
    callback sets to end training after the epoch. Callbacks are called in their order; `Checkpoint` after all
    others.

    A callback with a memory returns it from ``state_dict``, so that a resumed run has it: numbers, strings,
    lists, dicts and arrays. If ``load_state_dict`` raises an exception for a state that does not fit, it
    becomes a `LoadError`, and nothing has changed. Any other exception of a callback ends ``fit``; its
    ``history`` is that of the epochs so far.
    """

    monitor: str | None = None  # a number that has to be measured, checked before training
    _remembers: ClassVar[bool] = False  # its state is never empty, so that an empty one is an error

    def _weights(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The net's tensors in a state to be taken: they have to be as the net's own."""
        return {}

    def _check(self, run: Run) -> None:
        """Raise an error if the callback cannot work, before a checkpoint is read and anything changes."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first step, after a checkpoint is read."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch's first batch; not when an epoch is resumed in its middle."""

    def on_batch_end(self, run: Run, loss: float) -> None:
        """After the last step of each batch."""

    def on_epoch_end(self, run: Run, logs: Mapping[str, float]) -> None:
        """After an epoch; ``logs`` holds the numbers that went into the history."""

    def on_interrupt(self, run: Run) -> None:
        """After the last whole step when Ctrl-C was pressed."""

    def on_train_end(self, run: Run) -> None:
        """At the end, also of an interrupted run."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint keeps of it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state of `state_dict`."""


# ---- the terminal --------------------------------------------------------------------------------


class Interrupt:
    """Ctrl-C as a request: the first one waits for the current step, a second one raises at once.

    It acts only in the main thread and only where Python's own handler is in place; another handler stays.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ours = False

    def __enter__(self) -> Interrupt:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._ours = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Report:
    """One line an epoch on stdout, and a bar on stderr.

    Output that cannot be written, as a log's disk is full or a terminal has gone, does not end training.
    """

    def __init__(self, verbose: int, bar: Progress) -> None:
        self._verbose, self._bar = verbose, bar

    def batch(self, run: Run, loss: float) -> None:
        if self._bar.watched:
            done = run.done()
            self._bar.show(done, done, f"epoch {run.epoch + 1}/{run.epochs}  loss {loss:.4g}")

    def epoch(self, run: Run, logs: Mapping[str, float]) -> None:
        self._bar.clear()
        if self._verbose:
            width = len(str(run.epochs))
            numbers = [f"{name} {value:.5g}" for name, value in logs.items() if name != "seconds"]
            seconds = f"{logs['seconds']:.1f} s"
            with suppress(OSError):
                print("  ".join([f"epoch {run.epoch:{width}}/{run.epochs}", *numbers, seconds]), flush=True)
