"""The loop over epochs: `Net.fit`, `Net.predict` and `Net.evaluate`.

runs.py holds the run itself; checkpoints.py saves and restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn import calls
from tinyrnn.arguments import check_bool, check_int, check_size
from tinyrnn.callbacks import in_order
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.history import History
from tinyrnn.runs import Callback, Interrupt, Progress, Run
from tinyrnn.samples import Gatherer, Inputs, PortGatherer, PortInputs, Rows, Targets, parts

Metric = Callable[[Any, Any], float]

OPTIMIZERS = {"sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW"}

# Samples whose loss `evaluate` takes at once. Fixed, so that the sum does not depend on batch_size.
_LOSS_ROWS = 32


# ---- Net's methods -------------------------------------------------------------------------------


def fit(
    net: Module,
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
    inputs, targets, loss = _data(net, x, y, lengths, loss, "fit: ")
    if not (inputs.recurrent or inputs.stepless):
        raise ShapeError(
            f"fit: x: got samples of shape {inputs.rows[0].shape}, expected single frames {inputs.frame}: no "
            "layer is recurrent, so steps do not depend on each other"
        )
    inputs.check_finite()
    if bptt is not None:
        _check_bptt(bptt, inputs, targets)
    validation, measures = None, _metrics(metrics, loss)
    if validation_data is not None:
        of_output = {inputs.output: loss} if isinstance(inputs, PortInputs) else loss
        validation = _validation(net, validation_data, of_output)
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
    """Attach the history to the exception that ends a run: the net holds the training already."""
    with suppress(AttributeError, TypeError):  # an exception that takes no attribute
        error.history = history  # type: ignore[attr-defined]
        if history.epochs and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"fit: the history of {history.epochs} epochs is this exception's .history")


def predict(net: Module, x: Any, batch_size: int, lengths: Any, threads: int, last: bool) -> Any:
    """`Net.predict`."""
    batch_size = check_size("predict: batch_size", batch_size)
    threads = check_size("predict: threads", threads)
    last = check_bool("predict: last", last)
    if net._several() is not None:
        return _predict_ports(net, x, batch_size, lengths, threads, last)
    if isinstance(x, (list, tuple)) and not x and lengths is None:
        return np.empty((0, *calls.streamed(net, None)[2]), np.float32) if last else []
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


def _predict_ports(net: Any, x: Any, batch_size: int, lengths: Any, threads: int, last: bool) -> Any:
    """`Net.predict` of a net of several inputs, outputs or axes of time: outputs as its call gives them."""
    if last:
        raise ValueError("predict: last is True, expected False for several inputs or outputs")
    inputs = PortInputs(net, x, lengths, "predict: x")
    gather = PortGatherer(inputs, None, min(batch_size, len(inputs)))
    found: list[Any] = [
        [np.empty(0, np.float32)] * len(inputs)
        if view.listed and not view.stepless
        else np.zeros((len(inputs), *(() if view.stepless else (view.steps,)), *view.out_frame), np.float32)
        for view in gather.views
    ]
    for rows in parts(inputs.by_length(), batch_size):
        for kept, view, y in zip(found, gather.views, gather.outputs(rows, threads), strict=True):
            for i, numbers in zip(rows, y, strict=True):
                if view.stepless:
                    kept[i] = numbers
                elif view.listed:
                    kept[i] = numbers[: view.lengths[i]].copy()
                else:
                    kept[i, : view.lengths[i]] = numbers[: view.lengths[i]]
    return net._given(found)


def evaluate(
    net: Module, x: Any, y: Any, batch_size: int, loss: Any, metrics: Any, lengths: Any, threads: int
) -> dict[str, float]:
    """`Net.evaluate`."""
    inputs, targets, loss = _data(net, x, y, lengths, loss, "evaluate: ")
    batch_size = check_size("evaluate: batch_size", batch_size)
    return _measured(net, inputs, targets, loss, _metrics(metrics, loss), batch_size, threads)


# ---- without training ----------------------------------------------------------------------------


@contextmanager
def _modes_kept(net: Module) -> Iterator[None]:
    """Afterwards the net, and each layer in it, is in the mode that it was in."""
    modes = net._modes()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _evaluating(net: Module) -> Iterator[None]:
    with _modes_kept(net):
        net.eval()
        yield


def _outputs(
    net: Module, gather: Gatherer, batch_size: int, threads: int, last: bool = False
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Rows and their outputs, samples first, short samples first; with ``last`` only those of last steps."""
    inputs = gather.inputs
    for rows in parts(inputs.by_length(), batch_size):
        if isinstance(gather, PortGatherer):
            place = gather.inputs.ports.outputs.index(gather.output)
            yield rows, gather.outputs(rows, threads)[place]
            continue
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
    net: Module,
    inputs: Inputs,
    targets: Targets,
    loss: Any,
    metrics: Mapping[str, Metric],
    batch_size: int,
    threads: int,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """The loss and the metrics; the bits do not depend on the batch size.

    Outputs do not depend on it, and the loss takes the same few samples at a time.
    """
    batch_size = -(-batch_size // _LOSS_ROWS) * _LOSS_ROWS
    gather, seen = inputs.gatherer(targets, min(batch_size, len(inputs))), targets.inputs
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
                    kept[i] = numbers if seen.stepless else numbers[: seen.lengths[i]].copy()
    result = {"loss": total if not targets.mean else total / weight if weight else float("nan")}
    if metrics and not stop():
        result |= _apply(metrics, targets, kept)
    return result


def _value(loss: Any, gather: Gatherer, rows: Rows, y: NDArray[np.float32]) -> float:
    """The loss of some samples, given their outputs, samples first."""
    assert gather.targets is not None
    inputs = gather.targets.inputs
    if inputs.stepless:
        return float(loss(np.ascontiguousarray(y), gather.y(rows))[0])
    y = y[:, : inputs.lengths[rows].max()]
    y = np.ascontiguousarray(y if inputs.batch_first else y.swapaxes(0, 1))
    lengths = Gatherer.lengths_of(inputs, rows)
    value, _ = loss(y, gather.y(rows), lengths=lengths, batch_first=inputs.batch_first)
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


def _data(net: Module, x: Any, y: Any, lengths: Any, loss: Any, what: str) -> tuple[Inputs, Targets, Any]:
    """Samples, targets and the loss; of a net of several outputs those of the one that has a loss."""
    ports = net._several()
    if ports is None:
        loss = _loss(loss)
        inputs = Inputs(net, x, lengths, f"{what}x")
        return inputs, Targets(inputs, y, loss, f"{what}y"), loss
    if not isinstance(loss, Mapping):
        if len(ports.outputs) > 1:
            raise TypeError(
                f"{what}loss is {loss!r}, expected a mapping from one output to its loss: {ports.outputs}"
            )
        loss = {ports.outputs[0]: loss}
    if len(loss) != 1 or not loss.keys() <= set(ports.outputs):
        raise ValueError(
            f"{what}loss: got {sorted(map(str, loss))}, expected one of {ports.outputs}; to train several "
            "outputs at once use net.trainer()"
        )
    ((output, one),) = loss.items()
    one = _loss(one)
    if isinstance(y, Mapping):
        if y.keys() != {output}:
            raise ValueError(f"{what}y: got {sorted(map(str, y))}, expected {[output]}, as the loss")
        y = y[output]
    several = PortInputs(net, x, lengths, f"{what}x", output=output)
    return several, Targets(several.seen(output), y, one, f"{what}y"), one


def _optimizer(optimizer: Any, net: Module) -> Any:
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


def _validation(net: Module, data: Any, loss: Any) -> tuple[Inputs, Targets]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError("validation_data: expected (x, y) or (x, y, lengths)")
    lengths = data[2] if len(data) == 3 else None
    inputs, targets, _ = _data(net, data[0], data[1], lengths, loss, "validation_data: ")
    inputs.check_finite()
    return inputs, targets


def _check_bptt(bptt: int, inputs: Inputs, targets: Targets) -> None:
    if not inputs.recurrent or inputs.stepless:
        raise ValueError(f"fit: bptt is {bptt}, expected None: no layer is recurrent")
    if isinstance(inputs, PortInputs) and len(inputs.ports.times) > 1:
        raise ValueError(f"fit: bptt is {bptt}, expected None for a net of several axes of time")
    if targets.inputs.width is not None:
        raise ValueError(f"fit: bptt is {bptt}, expected None: the output has a rate of its own")
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
