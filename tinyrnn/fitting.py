"""The loop over epochs: `Net.fit`, `Net.predict` and `Net.evaluate`.

runs.py holds the run itself; checkpoints.py saves and restores it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn import calls
from tinyrnn.arguments import check_bool, check_int, check_size
from tinyrnn.attributes import brief, nearest
from tinyrnn.callbacks import in_order
from tinyrnn.contract import Module, modes_kept
from tinyrnn.errors import ShapeError
from tinyrnn.history import History
from tinyrnn.progress import Progress, watched
from tinyrnn.runs import Callback, Interrupt, Report, Run, logged, mean
from tinyrnn.samples import (
    Gatherer,
    Goal,
    Inputs,
    Masks,
    PortGatherer,
    PortInputs,
    Rows,
    TargetGatherer,
    Targets,
    parts,
)
from tinyrnn.targets import masks_by_output, targets_by_output, weights_of

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
    loss_weights: Any,
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
    mask: Any,
) -> History:
    """`Net.fit`."""
    epochs, batch_size = check_size("fit: epochs", epochs, 0), check_size("fit: batch_size", batch_size)
    verbose = check_int("fit: verbose", verbose, 0, 2)
    seed = None if seed is None else check_int("fit: seed", seed, 0, 2**63 - 1)
    bptt = None if bptt is None else check_size("fit: bptt", bptt)
    callbacks = in_order(callbacks)
    inputs, goals = _data(net, x, y, lengths, loss, loss_weights, "fit: ", mask)
    if not (inputs.recurrent or inputs.stepless):
        raise ShapeError(
            f"fit: x: got samples of shape {inputs.rows[0].shape}, expected single frames {inputs.frame}: no "
            "layer is recurrent, so steps do not depend on each other"
        )
    inputs.check_finite()
    _warn_of_last_steps(net, goals)
    if bptt is not None:
        _check_bptt(bptt, inputs, goals)
    validation, measures = None, _metrics(metrics, goals)
    if validation_data is not None:
        validation = _validation(net, validation_data, goals)
    elif any(measures):
        raise ValueError("fit: got metrics, but no validation_data to measure them on")
    _check_monitors(callbacks, goals, validation is not None, measures)
    optimizer = _optimizer(optimizer, net)

    run = Run(
        net,
        goals,
        optimizer,
        inputs,
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
    bar = Progress(verbose == 1, run.done())
    report = Report(verbose, bar)
    with modes_kept(net), Interrupt() as interrupt, bar:

        def validate() -> dict[str, float]:
            if validation is None:
                return {}
            return _measured(net, *validation, measures, batch_size, threads, lambda: interrupt.asked)

        try:
            net.train()
            for callback in callbacks:
                callback.on_train_begin(run)
            try:
                run.train(validate, interrupt, report)
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
    x = _plain(net, x)
    threads = check_size("predict: threads", threads)
    last = check_bool("predict: last", last)
    if net._several() is not None:
        return _predict_ports(net, x, batch_size, lengths, threads, last)
    if isinstance(x, (list, tuple)) and not x and lengths is None:
        return np.empty((0, *calls.streamed(net, None)[2]), np.float32) if last else []
    inputs = Inputs(net, x, lengths, "predict: x", empty=True)
    if last and (inputs.stepless or inputs.per_sequence):
        what = "the samples of x are single frames" if inputs.stepless else "the output is one a sequence"
        raise ValueError(f"predict: last is True, expected False: {what}")
    outputs: Any
    single = inputs.stepless or inputs.per_sequence or last
    if inputs.listed and not single:
        outputs = [np.empty(0, np.float32)] * len(inputs)
    else:
        steps = () if single else (inputs.rows.shape[1],)
        outputs = np.zeros((len(inputs), *steps, *inputs.out_frame), np.float32)
    if not len(inputs):
        return outputs
    gather = Gatherer(inputs, (), min(batch_size, len(inputs)))
    for rows, y in _outputs(net, gather, batch_size, threads, last):
        for i, numbers in zip(rows, y, strict=True):
            if single:
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
    gather = PortGatherer(inputs, (), min(batch_size, len(inputs)))
    found: list[Any] = [
        [np.empty(0, np.float32)] * len(inputs)
        if view.listed and not view.stepless
        else np.zeros((len(inputs), *(() if view.stepless else (view.steps,)), *view.out_frame), np.float32)
        for view in gather.views
    ]
    for rows in _batches(inputs, batch_size):
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
    net: Module,
    x: Any,
    y: Any,
    batch_size: int,
    loss: Any,
    loss_weights: Any,
    metrics: Any,
    lengths: Any,
    threads: int,
    mask: Any,
) -> dict[str, float]:
    """`Net.evaluate`."""
    inputs, goals = _data(net, x, y, lengths, loss, loss_weights, "evaluate: ", mask)
    batch_size = check_size("evaluate: batch_size", batch_size)
    return _measured(net, inputs, goals, _metrics(metrics, goals), batch_size, threads)


# ---- without training ----------------------------------------------------------------------------


@contextmanager
def _evaluating(net: Module) -> Iterator[None]:
    with modes_kept(net):
        net.eval()
        yield


def _batches(inputs: Inputs, batch_size: int) -> Iterator[Rows]:
    """All samples in batches, short ones first, with a bar that moves by their steps."""
    order = inputs.by_length()
    steps = np.add.reduceat(inputs.lengths[order], np.arange(0, len(order), batch_size))
    return watched(list(parts(order, batch_size)), steps.tolist())


def _outputs(
    net: Module, gather: Gatherer, batch_size: int, threads: int, last: bool = False
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Rows and their outputs, samples first, short samples first; with ``last`` only those of last steps."""
    inputs = gather.inputs
    for rows in _batches(inputs, batch_size):
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
        timeless = inputs.stepless or inputs.per_sequence
        y = y if timeless or inputs.batch_first else y.swapaxes(0, 1)
        yield rows, y[np.arange(len(rows)), inputs.lengths[rows] - 1] if last else y


def _outputs_by_goal(
    net: Module, gather: Gatherer, goals: list[Goal], batch_size: int, threads: int
) -> Iterator[tuple[Rows, list[NDArray[np.float32]]]]:
    """Rows and the outputs that have a goal; otherwise as `_outputs`."""
    if not isinstance(gather, PortGatherer):
        for rows, y in _outputs(net, gather, batch_size, threads):
            yield rows, [y]
        return
    places = [gather.inputs.ports.outputs.index(goal.output) for goal in goals]
    for rows in _batches(gather.inputs, batch_size):
        ys = gather.outputs(rows, threads)
        yield rows, [ys[place] for place in places]


def _measured(
    net: Module,
    inputs: Inputs,
    goals: list[Goal],
    metrics: list[dict[str, Metric]],
    batch_size: int,
    threads: int,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """The losses and the metrics; the bits do not depend on the batch size.

    Outputs do not depend on it, and the loss takes the same few samples at a time.
    """
    batch_size = -(-batch_size // _LOSS_ROWS) * _LOSS_ROWS
    gather = inputs.gatherer(goals, min(batch_size, len(inputs)))
    kept: list[list[Any]] = [[None] * len(inputs) for _ in goals]
    totals, weights = [0.0] * len(goals), [0.0] * len(goals)
    for rows, outputs in _outputs_by_goal(net, gather, goals, batch_size, threads):
        if stop():
            break
        for block in parts(np.arange(len(rows)), _LOSS_ROWS):
            some = rows[block]
            for i, (goal, output) in enumerate(zip(goals, outputs, strict=True)):
                seen, y = goal.targets.inputs, output[block]
                counted = goal.targets.weight(some)
                if counted:
                    totals[i] += counted * _value(goal.loss, gather.targets[goal.output], some, y)
                    weights[i] += counted
                if metrics[i]:
                    for j, numbers in zip(some, y, strict=True):
                        kept[i][j] = numbers if seen.stepless else numbers[: seen.lengths[j]].copy()
    sums = zip(goals, totals, weights, strict=True)
    result = logged(goals, {goal.output: mean(goal, *of_goal) for goal, *of_goal in sums})
    if not stop():
        for goal, measures, numbers in zip(goals, metrics, kept, strict=True):
            result |= _apply(measures, goal.targets, numbers) if measures else {}
    return result


def _value(loss: Any, gather: TargetGatherer, rows: Rows, y: NDArray[np.float32]) -> float:
    """The loss of some samples, given their outputs, samples first."""
    inputs, mask = gather.inputs, gather.mask(rows)
    masked: dict[str, Any] = {} if mask is None else {"mask": mask}
    if inputs.stepless:
        return float(loss(np.ascontiguousarray(y), gather.y(rows), **masked)[0])
    y = y[:, : inputs.lengths[rows].max()]
    y = np.ascontiguousarray(y if inputs.batch_first else y.swapaxes(0, 1))
    masked |= {"lengths": inputs.lengths_of(rows), "batch_first": inputs.batch_first}
    return float(loss(y, gather.y(rows), **masked)[0])


def _apply(metrics: Mapping[str, Metric], targets: Targets, outputs: list[Any]) -> dict[str, float]:
    """The metrics of all outputs at once."""
    wanted: Any = [targets.sample(i) for i in range(len(outputs))]
    given: Any = outputs
    masks = targets.mask
    if masks is not None:
        marks = [masks.sample(i) for i in range(len(outputs))]
        some = [i for i, mark in enumerate(marks) if mark.any()]
        if not targets.inputs.stepless:
            given = [outputs[i][marks[i]] for i in some]
        else:
            given = [outputs[i] for i in some]
        wanted = [targets.counted(i) if targets.per_step else wanted[i] for i in some]
    if targets.per_step:
        given, wanted = np.concatenate(given), np.concatenate(wanted)
    elif targets.labels is None:
        given = np.stack(given if targets.inputs.stepless else [numbers[-1] for numbers in given])
        wanted = np.stack(wanted)
    return {name: _number(name, metric(given, wanted)) for name, metric in metrics.items()}


def _number(name: str, value: Any) -> float:
    """The result of a metric as a float."""
    if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiub":
        what = f"an array of shape {np.shape(value)}" if np.ndim(value) else repr(value)
        raise TypeError(f"metrics: {name!r} gave {what}, expected a number")
    return float(value)


def _metrics(metrics: Any, goals: list[Goal]) -> list[dict[str, Metric]]:
    """The metrics of each goal, by the names that their numbers get."""
    if len(goals) == 1:
        return [_named_metrics(metrics, goals[0].loss)]
    names = [goal.output for goal in goals]
    given = {} if metrics is None else metrics
    if not isinstance(given, Mapping) or not given.keys() <= set(names):
        got = sorted(map(str, given)) if isinstance(given, Mapping) else brief(given)
        raise TypeError(f"metrics: got {got}, expected a mapping from output to its metrics: {names}")
    found = [
        {
            f"{goal.output}_{name}": metric
            for name, metric in _named_metrics(given.get(goal.output), goal.loss).items()
        }
        for goal in goals
    ]
    taken = ["loss", *(f"{name}_loss" for name in names), *(name for one in found for name in one)]
    taken += ["lr", "grad_norm", "seconds", *(f"val_{name}" for name in taken)]
    for name in taken:
        if taken.count(name) > 1:
            raise ValueError(f"metrics: two numbers have the name {name!r}: rename an output or a metric")
    return found


def _named_metrics(metrics: Any, loss: Any) -> dict[str, Metric]:
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
            expected = f"expected one of {', '.join(NAMES)}, or a loss object{nearest(loss, NAMES)}"
            raise ValueError(f"loss: got {loss!r}, {expected}")
        return NAMES[loss](reduction="mean")
    reduction = getattr(loss, "reduction", None)
    is_ours = not isinstance(loss, type) and not type(loss).__module__.startswith("torch")
    if reduction is None or not callable(loss) or not is_ours:
        raise TypeError(f"loss: got {loss!r}, expected a name or a loss object such as tinyrnn.MSELoss()")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"loss: reduction is {reduction!r}, expected 'mean' or 'sum' to train with")
    return loss


def _data(
    net: Module, x: Any, y: Any, lengths: Any, loss: Any, loss_weights: Any, what: str, mask: Any
) -> tuple[Inputs, list[Goal]]:
    """Samples, and a goal for each output that has a loss."""
    losses, names = loss, net._output_names()
    if not isinstance(loss, Mapping):
        if len(names) > 1:
            raise TypeError(f"{what}loss is {brief(loss)}, expected a mapping from output to loss: {names}")
        losses = {names[0]: loss}
    if not losses or not losses.keys() <= set(names):
        raise ValueError(f"{what}loss: got {sorted(map(str, losses))}, expected some of {names}")
    losses = {name: _loss(losses[name]) for name in names if name in losses}
    weights = weights_of(what, loss_weights, loss)
    wanted = targets_by_output(what, y, list(losses))
    masks = masks_by_output(what, mask, list(losses))
    kind = Inputs if net._several() is None else PortInputs
    inputs = kind(net, _plain(net, x), lengths, f"{what}x")
    goals = []
    for name, one in losses.items():
        called = f"{what}y: {name}" if len(losses) > 1 else f"{what}y"
        seen, marks = inputs.seen(name), masks.get(name)
        marks = None if marks is None else Masks(seen, marks, f"{what}mask")
        targets = Targets(seen, wanted[name], one, called, marks)
        goals.append(Goal(name, one, targets, weights.get(name, 1.0)))
    return inputs, goals


def _plain(net: Module, x: Any) -> Any:
    """The samples of the only input of a net, given by its name."""
    if net._several() is not None or not isinstance(x, Mapping):
        return x
    return calls.named_inputs(net, list(net._ports_known()), (x,))[0]


def _optimizer(optimizer: Any, net: Module) -> Any:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            names = f"{', '.join(OPTIMIZERS)}, or an optimiser object{nearest(optimizer, OPTIMIZERS)}"
            raise ValueError(f"optimizer: got {optimizer!r}, expected one of {names}")
        return getattr(import_module("tinyrnn.optim"), OPTIMIZERS[optimizer])(net)
    if isinstance(optimizer, type) or not hasattr(optimizer, "zero_grad"):
        raise TypeError(
            f"optimizer: got {optimizer!r}, expected a name or an optimiser such as tinyrnn.optim.Adam(net)"
        )
    return optimizer


def _validation(net: Module, data: Any, goals: list[Goal]) -> tuple[Inputs, list[Goal]]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3, 4):
        raise TypeError("validation_data: expected (x, y), (x, y, lengths) or (x, y, lengths, mask)")
    lengths, mask = (*data[2:], None, None)[:2]
    losses = {goal.output: goal.loss for goal in goals}
    weights = {goal.output: goal.weight for goal in goals}
    found = _data(net, data[0], data[1], lengths, losses, weights, "validation_data: ", mask)
    found[0].check_finite()
    return found


def _warn_of_last_steps(net: Module, goals: list[Goal]) -> None:
    """Warn of a loss at the last step of both directions: the reverse half has seen that step alone."""
    last = [
        goal.output
        for goal in goals
        if not (goal.targets.per_step or goal.targets.inputs.stepless) and goal.targets.labels is None
    ]
    if not last or not any(getattr(leaf, "bidirectional", False) for _, leaf in net._leaves()):
        return
    from tinyrnn.outlines import outline

    found = outline(net)
    for name in last:
        ways, seen = [found.outputs[name]], set[int]()
        while ways:
            number = ways.pop()
            line = found.lines[number]
            both = getattr(line.layer, "bidirectional", None)
            if both:
                warnings.warn(
                    f"fit: the loss of {name!r} is at the last step of each sequence, where the reverse half "
                    f"of {line.name!r} has seen that step alone: put a tr.FinalState() behind that layer, or "
                    "a pool over time",
                    stacklevel=5,
                )
                return
            if number not in seen and line.time is not None and both is None and not line.needs:
                ways += line.reads
            seen.add(number)


def _check_bptt(bptt: int, inputs: Inputs, goals: list[Goal]) -> None:
    if not inputs.recurrent or inputs.stepless:
        raise ValueError(f"fit: bptt is {bptt}, expected None: no layer is recurrent")
    if isinstance(inputs, PortInputs) and len(inputs.ports.times) > 1:
        raise ValueError(f"fit: bptt is {bptt}, expected None for a net of several axes of time")
    if any(goal.targets.inputs.width is not None for goal in goals):
        raise ValueError(f"fit: bptt is {bptt}, expected None: the output has a rate of its own")
    if not all(goal.targets.per_step for goal in goals):
        raise ShapeError("fit: bptt needs a target for each step, because each chunk is trained by itself")
    chunks = -(-inputs.lengths // bptt)
    if chunks.min() < chunks.max():
        i, j = int(chunks.argmin()), int(chunks.argmax())
        raise ValueError(
            f"fit: bptt is {bptt}: sample {i} has {inputs.lengths[i]} steps and sample {j} has "
            f"{inputs.lengths[j]}, expected all to end in the same chunk: cut them, or train several sets"
        )


def _check_monitors(
    callbacks: list[Callback], goals: list[Goal], validated: bool, metrics: list[dict[str, Metric]]
) -> None:
    """Check that every monitored number is measured: better now than after an epoch."""
    measured = {"loss", *(f"{goal.output}_loss" for goal in goals if len(goals) > 1)}
    known = {"lr", "grad_norm", "seconds", *measured}
    if validated:
        known |= {f"val_{name}" for name in measured.union(*metrics)}
    for callback in callbacks:
        if callback.monitor is not None and callback.monitor not in known:
            hint = "" if validated else "; val_* needs validation_data"
            raise ValueError(
                f"{type(callback).__name__}: monitor is {callback.monitor!r}, expected one of "
                f"{', '.join(sorted(known))}{hint}"
            )
