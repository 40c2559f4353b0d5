"""Views into training: the gradient on its way back through time, the gates over a sequence, loss curves.

Each function returns numbers; their ``plot`` draws them where matplotlib is installed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import calls, training
from tinyrnn.arrays import as_floats
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.history import History
from tinyrnn.losses import Loss
from tinyrnn.net import Net
from tinyrnn.pictures import Path, axes_or_new, new_figure, saved
from tinyrnn.recurrent import _Recurrent
from tinyrnn.tensors import Array
from tinyrnn.tracing import watch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Gates",
    "GradientNorms",
    "LossCurves",
    "gate_activations",
    "gradient_norms",
    "hidden_gradients",
    "loss_curves",
]

_REVERSE = "_reverse"

# The gates' names in pictures; True for those between 0 and 1.
_GATES = {
    "i": ("input gate i", True),
    "f": ("forget gate f", True),
    "g": ("candidate g", False),
    "o": ("output gate o", True),
    "r": ("reset gate r", True),
    "z": ("update gate z", True),
    "n": ("candidate n", False),
    "h": ("hidden state h", False),
}


# ---- the gradient on its way back ---------------------------------------------------------------


class GradientNorms(NamedTuple):
    """The result of `gradient_norms`; ``print`` shows it as a table.

    Attributes
    ----------
    norms : dict of str to ndarray, float64, (T,)
        By level and direction, ``"lstm.l0"`` and ``"lstm.l0_reverse"``: the norm of dL/dh_t over the rows
        of the batch and the units, for each step t of the layer.
    """

    norms: dict[str, NDArray[np.float64]]

    def __str__(self) -> str:
        count = len(next(iter(self.norms.values())))
        steps = sorted({round(part * (count - 1) / 5) for part in range(6)})
        rows = [["norm of dL/dh at step", *map(str, steps)]]
        rows += [[name, *(f"{values[t]:.2e}" for t in steps)] for name, values in self.norms.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def plot(self, path: Path | None = None, ax: Axes | None = None, label: str = "") -> Figure:
        """Draw the norms over the steps, on a logarithmic scale. Zeros, NaN and infinities are gaps.

        Parameters
        ----------
        path : str or os.PathLike, optional
            The file for the picture.
        ax : matplotlib.axes.Axes, optional
            The axes to draw on; by default those of a new figure.
        label : str
            A prefix of the names, to tell nets in one picture apart.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        """
        ax = axes_or_new("GradientNorms.plot", ax)
        seen = False
        for name, values in self.norms.items():
            shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            seen |= bool(np.isfinite(shown).any())
            style = "--" if name.endswith(_REVERSE) else "-"
            marker = "o" if len(values) == 1 else None
            ax.plot(range(len(values)), shown, style, marker=marker, label=f"{label} {name}".strip())
        if seen:  # a logarithmic scale of nothing is an error
            ax.set_yscale("log")
        ax.set_xlabel("step t")
        ax.set_ylabel("norm of dL/dh_t")
        ax.grid(alpha=0.3)
        ax.legend()
        return saved(ax, path)


def gradient_norms(
    net: Net,
    x: ArrayLike,
    y: Any = None,
    loss: Loss | None = None,
    *,
    dy: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> GradientNorms:
    """Measure the gradient at each step of its way back through time, by level and direction.

    A gradient that falls by orders of magnitude towards the early steps vanishes: the net learns nothing from
    those steps. One that grows explodes. In a reverse direction the early steps are the sequence's end.

    Parameters and errors are those of `hidden_gradients`.

    Returns
    -------
    GradientNorms
    """
    found = hidden_gradients(net, x, y, loss, dy=dy, lengths=lengths)
    return GradientNorms(
        {
            name: np.sqrt(np.square(gradient, dtype=np.float64).sum(axis=(1, 2)))
            for name, gradient in found.items()
        }
    )


def hidden_gradients(
    net: Net,
    x: ArrayLike,
    y: Any = None,
    loss: Loss | None = None,
    *,
    dy: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> dict[str, Array]:
    """Compute dL/dh_t, the gradient of a loss with respect to each hidden state.

    It counts the output of step t and all steps after it. With a projection h is the projected state.

    A copy of the net runs as in training, with the batch's statistics, but without dropout. The net's
    weights, gradients, statistics and mode stay as they are. At a step that a mask leaves out, the hidden
    state is that of the step before once more, and has a gradient of its own.

    As in training, the gradient that an LSTM's cells or a GRU's states pass to the step before is zero below
    2**-64. So a gradient that has faded to some 1e-19 falls faster from there than the formulas predict.

    Parameters
    ----------
    net : Net
        With a recurrent layer, all of it float32.
    x : array_like, or mapping from name to array
        One sequence or a batch, as ``net(x)`` takes it. A mapping for a net of several inputs.
    y : array_like, or as the loss takes it
        The target, of a net with one output.
    loss : Loss
    dy : array_like, float32, as the output
        The gradient of the output, instead of ``y`` and ``loss``. Of several outputs a tuple or mapping, as
        `Net.backward` takes it.
    lengths : array_like of int, (B,), or mapping from axis of time to one, optional
        Steps of each row. The gradient is zero beyond.

    Returns
    -------
    dict of str to ndarray, float32, (T, B, size)
        By level and direction: ``"lstm.l0"``, ``"lstm.l0_reverse"``. B is 1 for one sequence. T counts the
        layer's own steps: fewer behind a layer that strides over steps.

    Raises
    ------
    ValueError
        If no layer is recurrent.
    TypeError
        If a layer is quantised, there is neither ``dy`` nor ``y`` and ``loss``, or both, or ``y`` and
        ``loss`` are for a net of several outputs.
    ShapeError, TypeError, IndexError, ValueError
        If the arrays do not fit.
    """
    name = type(net).__name__
    if not any(isinstance(leaf, _Recurrent) for _, leaf in net._leaves()):
        raise ValueError(f"{name}: no layer is recurrent, so there is no gradient through time")
    if (dy is None) == (loss is None) or (y is None) != (loss is None):
        raise TypeError(f"{name}: got neither y and loss nor dy, or both, expected one of them")
    if loss is not None and not isinstance(loss, Loss):
        raise TypeError(
            f"{name}: loss is {brief(loss)}, expected an object such as tr.MSELoss() or tr.CrossEntropyLoss()"
        )
    for layer, kept in net.formats.items():
        if kept != "float32":
            raise TypeError(f"{layer}: format is {kept}, expected float32, which has gradients")

    net = copy.deepcopy(net).train().freeze()
    net._practised().sure = True
    ports = net._several() or (net._ports() if isinstance(x, Mapping) else None)
    if ports is None:
        ys = [training.forward(net, x, lengths, None, 1)[0]]
    else:
        given = calls.named_inputs(net, list(net._ports_known()), (x,))
        ys, _ = training.forward_ports(net, ports, given, lengths, None, 1, False)

    faces, layout = training.last_pass(net).outputs, training.last_pass(net).layout
    dys: list[Any]
    if loss is not None:
        if len(ys) > 1:
            names = list(net._nodes_known()[1])
            raise TypeError(
                f"hidden_gradients: got y and loss for outputs {names}, expected dy, the gradient of each"
            )
        timed = layout.tape.outputs[0][1] > 0
        ends = layout.tape.lengths_of(0)
        dys = [loss(ys[0], y, ends, batch_first=faces[0].swapped)[1] if timed else loss(ys[0], y)[1]]
    else:
        dys = net._taken(f"{name}: dy", dy) if hasattr(net, "_taken") else [dy]
        for output, one, face in zip(net._nodes_known()[1], dys, faces, strict=False):
            what = f"{name}: dy of output {output!r}"
            if len(ys) > 1 and one is not None and as_floats(one, what).shape != face.shape:
                raise ShapeError(f"{what} has shape {np.shape(one)}, expected {face.shape}, the output's")
    layout.tape.keeps_hidden = True
    training.backward(net, dys, None)

    found: dict[str, Array] = {}
    place = 0  # on the tape
    for path, leaf, level in net._places():
        if isinstance(leaf, _Recurrent):
            whole = layout.tape.hidden(place, leaf._directions * leaf._output_size)
            for way, gradient in enumerate(np.split(whole, leaf._directions, axis=-1)):
                found[path + _REVERSE * way] = gradient
        place += 1 + (leaf._dropout_after(level) is not None)
    return found


# ---- gates --------------------------------------------------------------------------------------


class Gates(NamedTuple):
    """The result of `gate_activations`.

    Attributes
    ----------
    layers : dict of str to dict of str to ndarray, float32, (T, B, hidden_size)
        By level, ``"lstm.l0"``, and by gate: ``"i"``, ``"f"``, ``"g"``, ``"o"`` of an LSTM, ``"r"``, ``"z"``,
        ``"n"`` of a GRU; of each layer ``"h"``, the hidden state, (T, B, proj_size) with a projection.
        Those of a reverse direction end in ``"_reverse"``.
    """

    layers: dict[str, dict[str, Array]]

    def plot(
        self,
        path: Path | None = None,
        ax: Axes | None = None,
        *,
        layer: str | None = None,
        gate: str | None = None,
        row: int = 0,
    ) -> Figure:
        """Pictures of one row of the batch: units over steps, a panel for each gate.

        Parameters
        ----------
        path, ax
            As in `GradientNorms.plot`, which also lists the result and the errors. ``ax`` holds one gate:
            choose it with ``layer`` and ``gate``.
        layer, gate : str, optional
            The layer and the gate to draw; by default all.
        row : int
            The row of the batch.

        Raises
        ------
        KeyError
            If there is no such layer or gate.
        IndexError
            If there is no such row.
        ValueError
            If ``ax`` is given and there is more than one gate to draw.
        """
        rows = self._panels(layer, gate)
        batch = next(iter(rows[0][1].values())).shape[1]
        if not 0 <= row < batch:
            raise IndexError(f"Gates.plot: row is {row}, expected 0 .. {batch - 1}")
        count = max(len(gates) for _, gates in rows)
        if ax is not None and (len(rows) > 1 or count > 1):
            raise ValueError(
                "Gates.plot: got several gates for one ax, expected one: choose it with layer and gate"
            )
        if ax is None:
            figure = new_figure("Gates.plot", 1.8 + 2.6 * count, 0.6 + 2.2 * len(rows))
            grid = figure.subplots(len(rows), count, squeeze=False)
        else:
            grid = np.array([[ax]])
        from matplotlib.ticker import MaxNLocator

        scales: dict[tuple[str, float, float], dict[str, Any]] = {}  # images by their letters
        for line, (name, gates) in zip(grid, rows, strict=True):
            for panel, (key, values) in zip(line, gates.items(), strict=False):
                gate = key.removesuffix(_REVERSE)
                title, between = _GATES.get(gate, (f"gate {gate}", False))
                bound = max(1.0, float(np.abs(values).max(initial=0.0, where=np.isfinite(values))))
                scale = ("viridis", 0.0, 1.0) if between else ("RdBu_r", -bound, bound)
                image = panel.imshow(
                    values[:, row].T,
                    aspect="auto",
                    interpolation="nearest",
                    cmap=scale[0],
                    vmin=scale[1],
                    vmax=scale[2],
                )
                scales.setdefault(scale, {})[title.split()[-1]] = image
                panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
                panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
                panel.set_title(title + ", reverse" * key.endswith(_REVERSE), fontsize="medium")
            line[0].set_ylabel(f"{name}: unit")
            for panel in line[len(gates) :]:
                panel.set_axis_off()
        for panel in grid[-1]:
            panel.set_xlabel("step")
        figure = grid[0, 0].figure
        for images in scales.values():
            bar = figure.colorbar(
                next(iter(images.values())), ax=list(grid.flat), fraction=0.03, pad=0.01, aspect=25
            )
            bar.set_label(f"scale of {', '.join(images)}")
        return saved(grid[0, 0], path)

    def _panels(self, layer: str | None, gate: str | None) -> list[tuple[str, dict[str, Array]]]:
        """(layer, its gates) of each line of panels; a reverse direction has one of its own."""
        if layer is not None and layer not in self.layers:
            raise KeyError(f"Gates.plot: layer is {layer!r}, expected one of {', '.join(self.layers)}")
        rows = []
        for name, gates in self.layers.items():
            for reverse in (False, True):
                chosen = {
                    key: values
                    for key, values in gates.items()
                    if key.endswith(_REVERSE) == reverse and gate in (None, key)
                }
                if chosen and layer in (None, name):
                    rows.append((name, chosen))
        if not rows:
            there = dict.fromkeys(
                key for name, gates in self.layers.items() if layer in (None, name) for key in gates
            )
            raise KeyError(f"Gates.plot: gate is {gate!r}, expected one of {', '.join(there)}")
        return rows


def gate_activations(net: Net, x: ArrayLike | Mapping[str, ArrayLike]) -> Gates:
    """Compute the gates of the recurrent layers over a sequence, in evaluation mode.

    Gates are computed in NumPy, from each layer's input, its own states and its own weights; see `drift`.

    Parameters
    ----------
    net : Net
        A net with a recurrent layer, quantised or not.
    x : array_like, or mapping from name to array
        One sequence or a batch, as ``net(x)`` takes it, all rows of one length. A mapping for a net of
        several inputs.

    Returns
    -------
    Gates

    Raises
    ------
    ValueError
        If no layer is recurrent, or the net has a `FinalState`.
    ShapeError, TypeError, IndexError
        If the input does not fit.
    """
    if not net._recurrent:
        raise ValueError(f"{type(net).__name__}: no layer is recurrent, so there are no gates")
    parts: dict[str, dict[str, list[Array]]] = {}
    for chunk in watch(net, x):
        for seen in chunk:
            if not isinstance(seen.leaf, _Recurrent):
                continue
            states = np.split(seen.y, len(seen.before), axis=-1)
            gates = seen.gates() | {"h" + _REVERSE * way: state for way, state in enumerate(states)}
            of_layer = parts.setdefault(seen.name, {})
            for gate, values in gates.items():
                of_layer.setdefault(gate, []).append(values)
    return Gates(
        {
            name: {gate: np.concatenate(values) for gate, values in gates.items()}
            for name, gates in parts.items()
        }
    )


# ---- loss curves --------------------------------------------------------------------------------


class LossCurves(NamedTuple):
    """The result of `loss_curves`.

    Attributes
    ----------
    runs : dict of str to dict of str to ndarray, float64
        By run, and by name: ``"loss"``, and ``"val_loss"`` where it was measured.
    unit : str
        The unit of the curves: ``"epoch"`` or ``"step"``.
    """

    runs: dict[str, dict[str, NDArray[np.float64]]]
    unit: str

    def plot(self, path: Path | None = None, ax: Axes | None = None, *, log: bool = False) -> Figure:
        """All curves in one panel, a colour for each run; validation is dashed.

        Parameters
        ----------
        path, ax
            As in `GradientNorms.plot`, which also lists the result and the errors.
        log : bool
            Use a logarithmic scale.
        """
        ax = axes_or_new("LossCurves.plot", ax)
        from matplotlib.ticker import MaxNLocator

        what = ""
        for number, (run, curves) in enumerate(self.runs.items()):
            for name, values in curves.items():
                apart = name.startswith("val_")
                what = name.removeprefix("val_")
                ax.plot(
                    range(1, len(values) + 1),
                    values,
                    "--" if apart else "-",
                    color=f"C{number % 10}",
                    marker="o" if len(values) == 1 else None,
                    label=f"{run} validation".strip() if apart else run or "training",
                )
        if log:
            ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel(self.unit)
        ax.set_ylabel(what)
        ax.grid(alpha=0.3)
        ax.legend()
        return saved(ax, path)


def loss_curves(
    *runs: History | Sequence[float], labels: Sequence[str] | None = None, measure: str = "loss"
) -> LossCurves:
    """Collect the losses of one run or several, to draw them in one picture.

    `History.plot` draws everything that one run measured.

    Parameters
    ----------
    *runs : History, or sequence of float
        The result of `Net.fit`, or one number for each epoch or step.
    labels : sequence of str, optional
        The names of the runs; by default ``"run 1"``, ``"run 2"``. A single run has none.
    measure : str
        The number of a history to draw, with ``"val_<measure>"`` beside it.

    Returns
    -------
    LossCurves

    Raises
    ------
    ValueError
        If there is no run, or an empty one, or labels do not fit.
    KeyError
        If a history has no such number.
    TypeError
        If a run is neither a history nor numbers.
    ShapeError
        If it has more than one axis.
    """
    if not runs:
        raise ValueError("loss_curves: expected at least one run")
    if labels is None:
        labels = [f"run {number}" for number in range(1, len(runs) + 1)] if len(runs) > 1 else [""]
    if len(labels) != len(runs) or len(set(labels)) != len(labels):
        raise ValueError(
            f"loss_curves: labels are {list(labels)}, expected {len(runs)}, one for each run, all different"
        )
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for number, (label, run) in enumerate(zip(labels, runs, strict=True), 1):
        curves: Mapping[str, Any]
        if isinstance(run, History):
            curves = {name: run[name] for name in (measure, f"val_{measure}") if name in run}
            if not curves:
                there = ", ".join(run.history) or "none"
                raise KeyError(f"loss_curves: run {number} has no {measure}, expected one of {there}")
        else:
            curves = {measure: run}
        what = f"loss_curves: run {number}"
        found[label] = {name: _numbers(values, what) for name, values in curves.items()}
    return LossCurves(found, "epoch" if any(isinstance(run, History) for run in runs) else "step")


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    array = np.array(values)
    if array.ndim != 1:
        raise ShapeError(f"{what} has shape {array.shape}, expected (n,): one number an epoch or a step")
    if array.size == 0:
        raise ValueError(f"{what} is empty, expected at least one number")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{what} has dtype {array.dtype}, expected numbers, or a History")
    return array.astype(np.float64)
