"""Drift: the distance of a quantised net from the one it came from, by layer, by gate and over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn.arguments import explained
from tinyrnn.arrays import as_array
from tinyrnn.errors import ShapeError
from tinyrnn.net import Net
from tinyrnn.outlines import outline
from tinyrnn.tensors import Array
from tinyrnn.tracing import OUTPUT, Seen, watch

Loss = Callable[[Array, NDArray[Any]], float]


class Errors(NamedTuple):
    """The drift of one part of a net, in each window of time.

    Attributes
    ----------
    format : str
        The format of the part's matrices in the second net; ``""`` for a part without matrices.
    rms : ndarray, float64, (windows,)
        Root of the mean square of the difference, divided by that of the first net's values in the window.
    largest : ndarray, float64, (windows,)
        Largest magnitude of the difference, divided by the same.
    """

    format: str
    rms: NDArray[np.float64]
    largest: NDArray[np.float64]


class Drift(NamedTuple):
    """The result of `drift`; ``print`` shows it as a table.

    Attributes
    ----------
    windows : list of (int, int)
        First and last step of each window of time, counted from 1: 1 to 10, 11 to 100, 101 to 1000, ...
    parts : dict of str to Errors
        Every layer's output by the layer's name, ``"lstm.l0"``; after it that layer's gates,
        ``"lstm.l0.f"``, in a reverse direction ``"lstm.l0.f_reverse"``; last the net's, ``"output"``.
    losses : tuple of float, optional
        The task's loss of the first net and of the second.
    """

    windows: list[tuple[int, int]]
    parts: dict[str, Errors]
    losses: tuple[float, float] | None = None

    def __str__(self) -> str:
        rows = [["rms error, % of the signal", "", *(f"{a:,}-{b:,}" for a, b in self.windows), "largest"]]
        for name, part in self.parts.items():
            cells = [f"{100 * number:.3g}" for number in part.rms]
            cells += [""] * (len(self.windows) - len(cells))  # once for a sequence, or another axis of time
            rows.append([name, part.format, *cells, f"{100 * part.largest.max():.3g}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        if self.losses is not None:
            first, second = self.losses
            grown = f" ({(second - first) / abs(first):+.2%})" if first else ""
            lines.append(f"loss {first:.6g} -> {second:.6g}{grown}")
        return "\n".join(lines)


@explained
def drift(
    net: Net,
    quantised: Net,
    inputs: ArrayLike | Mapping[str, ArrayLike],
    targets: ArrayLike | None = None,
    loss: Loss | None = None,
) -> Drift:
    """Run two nets of one architecture over the same input, and measure how far the second strays.

    Each net reads its own layers' outputs and carries its own state, so errors add up as they do in use. The
    input goes through in chunks: memory does not grow with its length, unless a layer is bidirectional or
    none is recurrent.

    Gates are computed in NumPy, from each layer's input, its own states and its own weights; with integer
    weights the inputs are rounded as the kernels round them. This leaves out float32's own rounding, of a
    part in ten million; float32 layers show it too.

    Parameters
    ----------
    net, quantised : Net
        The same layers; weights and formats may differ.
    inputs : array_like, or mapping from name to array
        One sequence or a batch, as ``net(x)`` takes it (a cell as ``net.stream().run(x)`` does). A mapping
        for a net of several inputs.
    targets : array_like, optional
        The right output: integers, a class for each frame, or floats of the output's shape.
    loss : callable, optional
        Takes output and targets of some steps, ``(T, B, ...)`` in a net with recurrent layers, and returns a
        mean. By default the cross-entropy of logits (or of log-probabilities) in nats for integer targets,
        and the mean squared error for floats.

    Returns
    -------
    Drift

    Raises
    ------
    ValueError
        If the nets differ in their layers, or a loss has no targets. If there are targets and the net has not
        one input and one output per step. If the net has a `FinalState`.
    ShapeError, TypeError, IndexError
        If inputs or targets do not fit.
    """
    if _architecture(net) != _architecture(quantised):
        raise ValueError("drift: the nets differ in their layers, expected the same layers in both")
    if loss is not None and targets is None:
        raise ValueError("drift: got a loss, but no targets to measure it by")
    x: Any = inputs if isinstance(inputs, Mapping) else as_array(inputs)
    wanted = None
    if targets is not None:
        _check_measured(net, x)
        wanted = _targets(net, x, as_array(targets))
    loss = loss or _mean_loss

    losses, done = np.zeros(2), 0
    sums: dict[str, _Sums] = {}
    for one, two in zip(watch(net, x), watch(quantised, x), strict=True):
        with np.errstate(all="ignore"):  # numbers that are not finite show in the report
            for name, first, second, begun in _pairs(one, two, done):
                sums.setdefault(name, _Sums()).add(first, second, begun)
        steps = max([len(seen.y) for seen in one if not seen.once], default=1)
        if wanted is not None:
            part = wanted[done : done + steps]
            losses += [steps * float(loss(_output(seen), part)) for seen in (one, two)]
        done += steps
    return Drift(
        [(first + 1, last) for first, last in _windows(done)],
        {name: Errors(quantised.formats.get(name, ""), *found.relative()) for name, found in sums.items()},
        None if wanted is None else (float(losses[0] / done), float(losses[1] / done)),
    )


def _architecture(net: Net) -> list[Any]:
    """The names, types and arguments of the layers, and who reads whom."""
    layers: list[Any] = [(name, type(leaf), leaf.config()) for name, leaf, _ in net._places()]
    if net._is_wired:
        layers += [line.reads for line in outline(net).lines]
    return layers


def _check_measured(net: Net, x: Any) -> None:
    """Raise an error if a loss cannot compare targets with the net's output."""
    if not net._is_wired:
        return
    found = outline(net)
    times = [found.lines[number].time for number in found.outputs.values()]
    if isinstance(x, Mapping) or len(found.inputs) > 1 or len(times) > 1 or times[0] is None:
        raise ValueError(
            "drift: got targets for a net of several inputs or outputs, or of one output for the sequence, "
            "expected one input and one output for each step"
        )


def _pairs(one: list[Seen], two: list[Seen], done: int) -> Iterator[tuple[str, Array, Array, int]]:
    """(name, values of both nets, steps before them) of everything that is reported."""
    outputs = []
    for first, second in zip(one, two, strict=True):
        # one frame for the sequence is a first step
        pair = (first.y[np.newaxis], second.y[np.newaxis], 0) if first.once else (first.y, second.y, done)
        yield first.name, *pair
        gates = second.gates()
        for name, values in first.gates().items():
            yield f"{first.name}.{name}", values, gates[name], done
        outputs += [(name, *pair) for name in first.outputs]
    yield from outputs


def _output(seen: list[Seen]) -> Array:
    """The values of the net's only output."""
    return next(one.y for one in seen if OUTPUT in one.outputs)


def _windows(steps: int) -> list[tuple[int, int]]:
    """Spans of steps that grow tenfold: 0 to 10, 10 to 100, ..."""
    ends = [10**k for k in range(1, max(2, math.ceil(math.log10(max(steps, 1))) + 1))]
    return [(0 if end == 10 else end // 10, min(end, steps)) for end in ends]


class _Sums:
    """Sums of squares over each window of time."""

    def __init__(self) -> None:
        self.signal: list[float] = []
        self.error: list[float] = []
        self.count: list[int] = []
        self.largest: list[float] = []

    def add(self, first: Array, second: Array, done: int) -> None:
        """Take some steps that come after ``done`` others."""
        for window, (start, stop) in enumerate(_windows(done + len(first))):
            if window == len(self.count):
                for sums in (self.signal, self.error, self.count, self.largest):
                    sums.append(0)
            span = slice(max(start - done, 0), max(stop - done, 0))
            values = first[span].astype(np.float64)
            if values.size:
                difference = second[span] - values
                self.signal[window] += float(np.square(values).sum())
                self.error[window] += float(np.square(difference).sum())
                self.count[window] += values.size
                largest = np.maximum(self.largest[window], np.abs(difference).max())  # NaN if either is
                self.largest[window] = float(largest)

    def relative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Root mean square and largest magnitude of the error, in parts of the signal's; 0 for 0 / 0."""
        signal, error = np.sqrt(np.divide([self.signal, self.error], self.count))
        with np.errstate(all="ignore"):
            scale = np.where(signal > 0, signal, np.where(error > 0, 0.0, 1.0))
            return error / scale, np.array(self.largest) / scale


def _targets(net: Net, x: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """The targets with the axes that `watch` gives the output."""
    lead = x.ndim - (net._rank(x.ndim) or 0)
    if targets.shape[:lead] != x.shape[:lead]:
        raise ShapeError(
            f"drift: targets have shape {targets.shape}, expected one that begins {x.shape[:lead]}"
        )
    if lead == 0:
        return targets[np.newaxis]
    if not net._recurrent:
        return targets
    if lead == 1:
        return targets[:, np.newaxis]
    return targets.swapaxes(0, 1) if net._batch_first else targets


def _mean_loss(output: Array, targets: NDArray[Any]) -> float:
    """Cross-entropy in nats for classes, mean squared error for numbers."""
    if targets.dtype.kind not in "iu":
        if targets.shape != output.shape:
            raise ShapeError(f"drift: targets have shape {targets.shape}, expected {output.shape}")
        return float(np.square(output - targets.astype(np.float64)).mean())
    if targets.shape != output.shape[:-1]:
        raise ShapeError(f"drift: targets have shape {targets.shape}, expected {output.shape[:-1]}")
    if targets.min() < 0 or targets.max() >= output.shape[-1]:
        low, high = targets.min(), targets.max()
        raise IndexError(f"drift: targets hold {low} .. {high}, expected 0 .. {output.shape[-1] - 1}")
    shifted = output.astype(np.float64) - output.max(axis=-1, keepdims=True)
    scores = np.take_along_axis(shifted, targets[..., np.newaxis].astype(np.intp), axis=-1)[..., 0]
    return float((np.log(np.exp(shifted).sum(axis=-1)) - scores).mean())
