"""The loop over epochs: `Net.fit`, `Net.predict` and `Net.evaluate`.

All that a run needs to go on later is in `Run`; `checkpoints` writes it down and takes it up again.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn.arguments import check_bool, check_int, check_size
from tinyrnn.attributes import Guarded
from tinyrnn.callbacks import Callback, in_order
from tinyrnn.errors import ShapeError
from tinyrnn.history import History
from tinyrnn.samples import Gatherer, Inputs, Rows, Targets, batches, parts

if TYPE_CHECKING:
    from tinyrnn.model import Net

Metric = Callable[[Any, Any], float]

OPTIMIZERS = {"sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW"}

# Samples whose loss `evaluate` takes at once. Fixed, so that the sum does not depend on batch_size.
_LOSS_ROWS = 32


class Run(Guarded):
    """A `fit` under way, as callbacks see it.

    Attributes
    ----------
    net, optimizer, loss
        What trains.
    history : History
    epochs : int
        How many there will be.
    epoch, batch : int
        Whole epochs done, and whole batches done of the one under way.
    stop : bool
        Set it to end training after this epoch.
    resumed : bool
        Whether it began with a checkpoint.
    """

    _made_by = "_gatherer"
    _settable = ("seed",)  # that of the checkpoint which is taken up

    def __init__(
        self,
        net: Net,
        loss: Any,
        optimizer: Any,
        inputs: Inputs,
        targets: Targets,
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
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.inputs, self.targets, self.callbacks = inputs, targets, callbacks
        self.epochs, self.batch_size, self.bptt = epochs, batch_size, bptt
        self.history = History()
        self.epoch = self.batch = 0
        self.stop = self.resumed = False
        # What `settings` had no place for at first.
        self.arguments = {"loss": _plain(loss), "optimizer": dict(optimizer.defaults)}
        # Of the epoch under way: the sum of losses and that of their weights, and its seconds; with truncated
        # BPTT the steps done of the batch under way, and the state after them.
        self.total = self.weight = self.seconds = 0.0
        self.step = 0
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
            "loss": f"{type(loss).__name__}, {loss.reduction}",
            "optimizer": type(optimizer).__name__,
            **options,
        }
        steps = 1 if inputs.stepless else inputs.longest
        steps = min(steps, bptt or steps)
        most = min(batch_size, len(inputs))
        # One trainer for whole batches, one for the short one.
        self._trainers = {
            rows: net.trainer(
                optimizer,
                loss,
                batch=rows,
                steps=steps,
                threads=threads,
                frame=inputs.frame,
                target_steps=0 if targets.labels is None else max(int(targets.labels.max()), 1),
                **options,
            )
            for rows in dict.fromkeys((most, len(inputs) % most or most))
        }
        self._gatherer = Gatherer(inputs, targets, most, steps)
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

    def state_size(self, rows: int) -> int:
        """The number of values in the state of a batch: of a whole one, or of the short one."""
        return int(self._trainers[rows].new_state().numbers.size)

    def train(
        self, validate: Callable[[], dict[str, float]], interrupt: Interrupt, progress: Progress
    ) -> None:
        """Train until the last epoch, a callback or Ctrl-C ends it."""
        while self.epoch < self.epochs and not interrupt.asked:
            if self.stop and self.batch == self.step == 0:  # an epoch under way is ended, a resumed one too
                break
            self._train_epoch(validate, interrupt, progress)

    def _train_epoch(
        self, validate: Callable[[], dict[str, float]], interrupt: Interrupt, progress: Progress
    ) -> None:
        started = time.perf_counter() - self.seconds
        if self.batch == 0 and self.step == 0:
            for callback in self.callbacks:
                callback.on_epoch_begin(self)
        order = batches(self.inputs.lengths, self.batch_size, self.generator)
        progress.begin(self, len(order))
        for rows in order[self.batch :]:
            loss = self._train_batch(rows, interrupt)
            self.seconds = time.perf_counter() - started
            if loss is not None:
                progress.batch(loss)
                for callback in self.callbacks:
                    callback.on_batch_end(self, loss)
            if interrupt.asked:
                return
        logs = {"loss": self._mean(self.total, self.weight)}
        logs |= {f"val_{name}": value for name, value in validate().items()}
        if interrupt.asked:  # perhaps in the middle of validation; who resumes begins with it
            return
        logs["lr"] = float(self.optimizer.lr)
        logs["grad_norm"] = float(self.norm)
        logs["seconds"] = time.perf_counter() - started
        self.history.append(logs)
        self.epoch += 1
        self.batch = 0
        self.total = self.weight = self.seconds = 0.0
        self.drawn_from = self._random()
        progress.end(self, logs)
        for callback in self.callbacks:
            callback.on_epoch_end(self, logs)

    def _train_batch(self, rows: Rows, interrupt: Interrupt) -> float | None:
        """One batch, a step or with truncated BPTT one for each chunk; its loss, None if it is not whole."""
        trainer, gather = self._trainers[len(rows)], self._gatherer
        if self.bptt is None:
            loss = float(trainer.step(gather.x(rows), gather.y(rows), gather.lengths(rows)))
            self.norm = trainer.norm
            self._add(loss, self.targets.weight(rows))
            self.batch += 1
            return loss
        state = trainer.new_state()
        if self.carried is not None:
            state.numbers[:] = self.carried
        total, weight, end = self.total, self.weight, int(self.inputs.lengths[rows].max())
        while self.step < end:
            if interrupt.asked:
                self.carried = state.numbers.copy()
                return None
            part = rows, self.step, min(self.step + self.bptt, end)
            value = float(trainer.step(gather.x(*part), gather.y(*part), gather.lengths(*part), state))
            self._add(value, self.targets.weight(*part))
            self.norm = trainer.norm
            self.step = part[2]
        self.step, self.carried = 0, None
        self.batch += 1
        return self._mean(self.total - total, self.weight - weight)

    def _add(self, loss: float, weight: float) -> None:
        if weight:  # the mean over nothing is NaN
            self.total += loss * weight
            self.weight += weight

    def _mean(self, total: float, weight: float) -> float:
        if not self.targets.mean:
            return total
        return total / weight if weight else float("nan")


def _plain(loss: Any) -> dict[str, Any]:
    """The arguments that a loss was made with; arrays as lists."""
    arguments = loss._arguments() if hasattr(loss, "_arguments") else {}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }


# ---- Net's methods -------------------------------------------------------------------------------


def fit(
    net: Net,
    x: Any,
    y: Any,
    epochs: int,
    batch_size: int,
    *,
    loss: Any,
    optimizer: Any,
    validation_data: Any,
    metrics: Any,
    callbacks: Any,
    shuffle: bool,
    seed: int | None,
    lengths: Any,
    verbose: int,
    threads: int,
    clip_norm: float | None,
    clip_value: float | None,
    nonfinite: str,
    bptt: int | None,
    resume: Any,
) -> History:
    """`Net.fit`."""
    epochs, batch_size = check_size("fit: epochs", epochs, 0), check_size("fit: batch_size", batch_size)
    verbose = check_int("fit: verbose", verbose, 0, 2)
    seed = None if seed is None else check_int("fit: seed", seed, 0, 2**63 - 1)
    bptt = None if bptt is None else check_size("fit: bptt", bptt)
    callbacks = in_order(callbacks)
    loss = _loss(loss)
    inputs = Inputs(net, x, lengths, "fit: x")
    if not (inputs.recurrent or inputs.stepless):
        raise ShapeError(
            f"fit: x: got samples of shape {inputs.rows[0].shape}, expected single frames {inputs.frame}: no "
            "layer is recurrent, so steps do not depend on each other"
        )
    inputs.check_finite()
    targets = Targets(inputs, y, loss, "fit: y")
    if bptt is not None:
        _check_bptt(bptt, inputs, targets)
    validation, measures = None, _metrics(metrics, loss)
    if validation_data is not None:
        validation = _validation(net, validation_data, loss)
    elif measures:
        raise ValueError("fit: got metrics, but no validation_data to measure them on")
    _check_monitors(callbacks, validation is not None, measures)
    optimizer = _optimizer(optimizer, net)

    run = Run(
        net,
        loss,
        optimizer,
        inputs,
        targets,
        callbacks,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        shuffle=check_bool("fit: shuffle", shuffle),
        bptt=bptt,
        threads=check_size("fit: threads", threads),
        clip_norm=clip_norm,
        clip_value=clip_value,
        nonfinite=nonfinite,
    )
    for callback in callbacks:
        callback._check(run)
    if resume is not None:
        from tinyrnn import checkpoints

        checkpoints.restore(resume, run)
    progress = Progress(verbose)
    with _modes_kept(net), Interrupt() as interrupt:

        def validate() -> dict[str, float]:
            if validation is None:
                return {}
            return _measured(net, *validation, loss, measures, batch_size, threads, lambda: interrupt.asked)

        try:
            net.train()
            for callback in callbacks:
                callback.on_train_begin(run)
            try:
                run.train(validate, interrupt, progress)
                if interrupt.asked:
                    run.history.interrupted = True
                    for callback in callbacks:
                        callback.on_interrupt(run)
            except KeyboardInterrupt:  # from a callback, or a handler that is not ours
                if interrupt.asked:
                    raise
                run.history.interrupted = True
            for callback in callbacks:
                callback.on_train_end(run)
        except BaseException as error:
            _hand_over(run.history, error)
            raise
        finally:
            progress.close()
    return run.history


def _hand_over(history: History, error: BaseException) -> None:
    """Make the history of a run that an exception ends reachable: training is in the net already."""
    with suppress(AttributeError, TypeError):  # an exception that takes no attribute
        error.history = history  # type: ignore[attr-defined]
        if history.epochs and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"fit: the history of {history.epochs} epochs is this exception's .history")


def predict(net: Net, x: Any, batch_size: int, lengths: Any, threads: int, last: bool) -> Any:
    """`Net.predict`."""
    batch_size = check_size("predict: batch_size", batch_size)
    threads = check_size("predict: threads", threads)
    last = check_bool("predict: last", last)
    if isinstance(x, (list, tuple)) and not x and lengths is None:
        return np.empty((0, *net._streamed(None)[2]), np.float32) if last else []
    inputs = Inputs(net, x, lengths, "predict: x", empty=True)
    if last and inputs.stepless:
        raise ValueError("predict: last is True, expected False: the samples of x are single frames")
    outputs: Any
    if inputs.listed and not (inputs.stepless or last):
        outputs = [np.empty(0, np.float32)] * len(inputs)
    else:
        steps = () if inputs.stepless or last else (inputs.rows.shape[1],)
        outputs = np.zeros((len(inputs), *steps, *inputs.out_frame), np.float32)
    if not len(inputs):
        return outputs
    gather = Gatherer(inputs, None, min(batch_size, len(inputs)))
    for rows, y in _outputs(net, gather, batch_size, threads, last):
        for i, numbers in zip(rows, y, strict=True):
            if inputs.stepless or last:
                outputs[i] = numbers
            elif inputs.listed:
                outputs[i] = numbers[: inputs.lengths[i]].copy()
            else:
                outputs[i, : inputs.lengths[i]] = numbers[: inputs.lengths[i]]
    return outputs


def evaluate(
    net: Net, x: Any, y: Any, batch_size: int, loss: Any, metrics: Any, lengths: Any, threads: int
) -> dict[str, float]:
    """`Net.evaluate`."""
    loss = _loss(loss)
    inputs = Inputs(net, x, lengths, "evaluate: x")
    targets = Targets(inputs, y, loss, "evaluate: y")
    batch_size = check_size("evaluate: batch_size", batch_size)
    return _measured(net, inputs, targets, loss, _metrics(metrics, loss), batch_size, threads)


# ---- without training ----------------------------------------------------------------------------


@contextmanager
def _modes_kept(net: Net) -> Iterator[None]:
    """Afterwards the net, and each layer in it, is in the mode that it was in."""
    modes = net._modes()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _evaluating(net: Net) -> Iterator[None]:
    with _modes_kept(net):
        net.eval()
        yield


def _outputs(
    net: Net, gather: Gatherer, batch_size: int, threads: int, last: bool = False
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Rows and their outputs, samples first, short samples first; with ``last`` only those of last steps."""
    inputs = gather.inputs
    for rows in parts(inputs.by_length(), batch_size):
        x = gather.x(rows)
        with _evaluating(net):
            if inputs.recurrent:
                y = net(x, lengths=gather.lengths(rows), threads=threads, last=last)
            else:
                y = net(x, threads=threads)
        y = y[0] if isinstance(y, tuple) else y
        if last and inputs.recurrent:
            yield rows, y
            continue
        y = y if inputs.stepless or inputs.batch_first else y.swapaxes(0, 1)
        yield rows, y[np.arange(len(rows)), inputs.lengths[rows] - 1] if last else y


def _measured(
    net: Net,
    inputs: Inputs,
    targets: Targets,
    loss: Any,
    metrics: Mapping[str, Metric],
    batch_size: int,
    threads: int,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """The loss and the metrics; the bits do not depend on the batch size.

    That is so since outputs do not depend on it, and losses are taken of the same few samples at a time.
    """
    batch_size = -(-batch_size // _LOSS_ROWS) * _LOSS_ROWS
    gather = Gatherer(inputs, targets, min(batch_size, len(inputs)))
    kept: list[Any] = [None] * len(inputs)
    total = weight = 0.0
    for rows, outputs in _outputs(net, gather, batch_size, threads):
        if stop():
            break
        for block in parts(np.arange(len(rows)), _LOSS_ROWS):
            some, y = rows[block], outputs[block]
            counted = targets.weight(some)
            if counted:
                total += counted * _value(loss, gather, some, y)
                weight += counted
            if metrics:
                for i, numbers in zip(some, y, strict=True):
                    kept[i] = numbers if inputs.stepless else numbers[: inputs.lengths[i]].copy()
    result = {"loss": total if not targets.mean else total / weight if weight else float("nan")}
    if metrics and not stop():
        result |= _apply(metrics, targets, kept)
    return result


def _value(loss: Any, gather: Gatherer, rows: Rows, y: NDArray[np.float32]) -> float:
    """The loss of some samples, given their outputs, samples first."""
    inputs = gather.inputs
    if inputs.stepless:
        return float(loss(np.ascontiguousarray(y), gather.y(rows))[0])
    y = y[:, : inputs.lengths[rows].max()]
    y = np.ascontiguousarray(y if inputs.batch_first else y.swapaxes(0, 1))
    value, _ = loss(y, gather.y(rows), lengths=gather.lengths(rows), batch_first=inputs.batch_first)
    return float(value)


def _apply(metrics: Mapping[str, Metric], targets: Targets, outputs: list[Any]) -> dict[str, float]:
    """The metrics of all outputs at once."""
    wanted: Any = [targets.sample(i) for i in range(len(outputs))]
    given: Any = outputs
    if targets.per_step:
        given, wanted = np.concatenate(outputs), np.concatenate(wanted)
    elif targets.labels is None:
        given = np.stack(outputs if targets.inputs.stepless else [numbers[-1] for numbers in outputs])
        wanted = np.stack(wanted)
    return {name: _number(name, metric(given, wanted)) for name, metric in metrics.items()}


def _number(name: str, value: Any) -> float:
    """The result of a metric as a float."""
    if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiub":
        what = f"an array of shape {np.shape(value)}" if np.ndim(value) else repr(value)
        raise TypeError(f"metrics: {name!r} gave {what}, expected a number")
    return float(value)


def _metrics(metrics: Any, loss: Any) -> dict[str, Metric]:
    if metrics is None:
        return {}
    if not isinstance(metrics, (str, Mapping, list, tuple)):
        raise TypeError(
            f"metrics: got {type(metrics).__name__}, expected 'accuracy', a list, or a mapping from name to "
            "function"
        )
    named = (
        metrics
        if isinstance(metrics, Mapping)
        else dict.fromkeys([metrics] if isinstance(metrics, str) else metrics)
    )
    found: dict[str, Metric] = {}
    for name, metric in named.items():
        metric = name if metric is None else metric
        if metric == "accuracy":
            metric = _accuracy(loss)
        elif not callable(metric):
            raise ValueError(
                f"metrics: got {metric!r}, expected 'accuracy' or a function of output and target"
            )
        if name == "loss":
            raise ValueError("metrics: got the name 'loss', expected another: it is the name of the loss")
        found[name] = metric
    return found


def _accuracy(loss: Any) -> Metric:
    kind = type(loss).__name__
    if kind == "BCEWithLogitsLoss":
        return lambda y, target: float(np.mean((y > 0) == (target > 0.5)))
    if kind != "CrossEntropyLoss":
        raise ValueError(f"metrics: got 'accuracy', expected a function: {kind} has no classes")

    def accuracy(y: Any, target: Any) -> float:
        if target.ndim == y.ndim:  # probabilities
            target = target.argmax(-1)
        counts = target != loss.ignore_index
        return float(np.mean(y.argmax(-1)[counts] == target[counts])) if counts.any() else float("nan")

    return accuracy


# ---- arguments -----------------------------------------------------------------------------------


def _loss(loss: Any) -> Any:
    if isinstance(loss, str):
        from tinyrnn.losses import NAMES

        if loss not in NAMES:
            raise ValueError(f"loss: got {loss!r}, expected one of {', '.join(NAMES)}, or a loss object")
        return NAMES[loss](reduction="mean")
    reduction = getattr(loss, "reduction", None)
    if reduction is None or not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss: got {loss!r}, expected a name or a loss object such as tinyrnn.MSELoss()")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"loss: reduction is {reduction!r}, expected 'mean' or 'sum' to train with")
    return loss


def _optimizer(optimizer: Any, net: Net) -> Any:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            names = ", ".join(OPTIMIZERS)
            raise ValueError(f"optimizer: got {optimizer!r}, expected one of {names}, or an optimiser object")
        return getattr(import_module("tinyrnn.optim"), OPTIMIZERS[optimizer])(net)
    if isinstance(optimizer, type) or not hasattr(optimizer, "zero_grad"):
        raise TypeError(
            f"optimizer: got {optimizer!r}, expected a name or an optimiser such as tinyrnn.optim.Adam(net)"
        )
    return optimizer


def _validation(net: Net, data: Any, loss: Any) -> tuple[Inputs, Targets]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError("validation_data: expected (x, y) or (x, y, lengths)")
    inputs = Inputs(net, data[0], data[2] if len(data) == 3 else None, "validation_data: x")
    inputs.check_finite()
    return inputs, Targets(inputs, data[1], loss, "validation_data: y")


def _check_bptt(bptt: int, inputs: Inputs, targets: Targets) -> None:
    if not inputs.recurrent or inputs.stepless:
        raise ValueError(f"fit: bptt is {bptt}, expected None: no layer is recurrent")
    if not targets.per_step:
        raise ShapeError("fit: bptt needs a target for each step, because each chunk is trained by itself")
    chunks = -(-inputs.lengths // bptt)
    if chunks.min() < chunks.max():
        i, j = int(chunks.argmin()), int(chunks.argmax())
        raise ValueError(
            f"fit: bptt is {bptt}: sample {i} has {inputs.lengths[i]} steps and sample {j} has "
            f"{inputs.lengths[j]}, expected all to end in the same chunk: cut them, or train several sets"
        )


def _check_monitors(callbacks: list[Callback], validated: bool, metrics: Mapping[str, Metric]) -> None:
    """Check that every monitored number is measured: better now than after an epoch."""
    known = {"loss", "lr", "grad_norm", "seconds"}
    if validated:
        known |= {"val_loss", *(f"val_{name}" for name in metrics)}
    for callback in callbacks:
        if callback.monitor is not None and callback.monitor not in known:
            hint = "" if validated else "; val_* needs validation_data"
            raise ValueError(
                f"{type(callback).__name__}: monitor is {callback.monitor!r}, expected one of "
                f"{', '.join(sorted(known))}{hint}"
            )


# ---- the terminal --------------------------------------------------------------------------------


class Interrupt:
    """Ctrl-C as a wish: the first one waits for the step under way, a second one raises at once.

    Only where Python's own handler is in place, in the main thread; who has another handler keeps it.
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


class Progress:
    """One line an epoch; with tqdm and a terminal a bar before it.

    Output that cannot be written, as a log's disk is full or a terminal has gone, does not end training.
    """

    def __init__(self, verbose: int) -> None:
        self._verbose = verbose
        self._bar: Any = None
        self._tqdm: Any = None
        if verbose == 1 and sys.stdout is not None and sys.stdout.isatty():
            with suppress(ImportError):
                self._tqdm = import_module("tqdm").tqdm

    def begin(self, run: Run, count: int) -> None:
        if self._tqdm is not None:
            name = f"epoch {run.epoch + 1}/{run.epochs}"
            with suppress(OSError):
                self._bar = self._tqdm(
                    total=count,
                    initial=run.batch,
                    desc=name,
                    leave=False,
                    file=sys.stdout,
                    dynamic_ncols=True,
                )

    def batch(self, loss: float) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                self._bar.update()

    def end(self, run: Run, logs: Mapping[str, float]) -> None:
        self.close()
        if self._verbose:
            width = len(str(run.epochs))
            numbers = [f"{name} {value:.5g}" for name, value in logs.items() if name != "seconds"]
            seconds = f"{logs['seconds']:.1f} s"
            with suppress(OSError):
                print("  ".join([f"epoch {run.epoch:{width}}/{run.epochs}", *numbers, seconds]), flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None
