"""The history of a training run, epoch by epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyrnn.arguments import check_bool, check_float, check_int
from tinyrnn.errors import LoadError
from tinyrnn.files import replacing
from tinyrnn.pictures import new_figure, saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Numbers without a curve by default.
_ASIDE = ("lr", "seconds", "grad_norm")


def _number(name: str, value: Any) -> float:
    """A number as `History.to_json` gives it."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    return check_float(name, value)


def _constant(name: str) -> float:
    raise ValueError(f"got {name}, which is not JSON")


class History:
    """One number an epoch of everything that was measured.

    Attributes
    ----------
    history : dict of str to list of float
        ``"loss"``, ``"val_loss"`` and ``"val_<metric>"`` where there is validation data, ``"lr"``,
        ``"grad_norm"`` (of the epoch's last step, before clipping) and ``"seconds"``. If several outputs are
        trained, ``"loss"`` is the sum, and each loss is ``"<output>_loss"``, a metric
        ``"val_<output>_<metric>"``.
    interrupted : bool
        True if Ctrl-C ended the run; the unfinished epoch is not in ``history``.
    memory : int
        Bytes of the buffers that training took beside weights and data: tapes, gradients, staging.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.interrupted = False
        self.memory = 0

    @property
    def epochs(self) -> int:
        """The number of complete epochs."""
        return max(map(len, self.history.values()), default=0)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def keys(self) -> Iterable[str]:
        """The names of the numbers, so that ``dict(history)`` is a dict of lists."""
        return self.history.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.history

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({self.epochs} epochs{': ' + last if last else ''})"

    def append(self, logs: Mapping[str, float]) -> None:
        """Add an epoch. A number that it lacks, or that earlier epochs lacked, is NaN."""
        count = self.epochs
        for name in logs:
            self.history.setdefault(name, [math.nan] * count)
        for name, values in self.history.items():
            values.append(float(logs.get(name, math.nan)))

    def best(self, name: str = "val_loss", mode: str = "min") -> int:
        """The epoch, counted from 0, with the lowest (or highest) of a number; NaN never wins.

        Raises
        ------
        KeyError
            If there is no such number.
        ValueError
            If all of it is NaN.
        """
        sign = -1.0 if mode == "max" else 1.0
        known = [(sign * value, i) for i, value in enumerate(self.history[name]) if not math.isnan(value)]
        if not known:
            raise ValueError(f"{name}: got NaN only, expected a number in at least one epoch")
        return min(known)[1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; the file is complete or not there.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with replacing(path) as file:
            file.write(json.dumps(self.to_json(), indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read the file that `save` wrote.

        Raises
        ------
        LoadError
            If the file is not a history.
        OSError
            If it cannot be read.
        """
        name = os.fspath(path)
        with open(name, "rb") as file:
            raw = file.read()
        try:
            return cls.from_json(json.loads(raw, parse_constant=_constant))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            why = f"{type(error).__name__}: {error}"[:200]
            raise LoadError(f"{os.fsdecode(name)}: is not a history that tinyrnn wrote: {why}") from None

    def to_json(self) -> dict[str, Any]:
        """The history as plain values; numbers that JSON lacks are strings."""
        rows = {
            name: [value if math.isfinite(value) else str(value) for value in values]
            for name, values in self.history.items()
        }
        return {"history": rows, "interrupted": self.interrupted, "memory": self.memory}

    @classmethod
    def from_json(cls, value: Any) -> History:
        """The inverse of `to_json`; TypeError, ValueError, KeyError or OverflowError for other values."""
        made = cls()
        rows = value["history"]
        if not isinstance(rows, dict) or not all(isinstance(values, list) for values in rows.values()):
            raise TypeError("history: expected lists by name")
        made.history = {name: [_number(name, number) for number in values] for name, values in rows.items()}
        if len({len(values) for values in made.history.values()}) > 1:
            raise ValueError("history: the lists differ in length, expected one number an epoch in each")
        made.interrupted = check_bool("interrupted", value["interrupted"])
        made.memory = check_int("memory", value["memory"], 0, 2**62)
        return made

    def plot(self, names: Sequence[str] | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
        """The curves over the epochs: losses above, each metric in a panel of its own below.

        Parameters
        ----------
        names : sequence of str, optional
            The numbers to draw; by default all but the learning rate, the gradient's norm and the time.
        path : str or os.PathLike, optional
            The file for the picture.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        KeyError
            If there is no such number.
        ValueError
            If there is nothing to show.
        """
        if names is None:
            names = [name for name in self.history if name not in _ASIDE]
        for name in names:
            if name not in self.history:
                there = ", ".join(self.history) or "none"
                raise KeyError(f"{name}: not in the history, expected one of {there}")
        if not names or not self.epochs:
            raise ValueError("history: got no complete epoch, expected at least one to plot")
        panels: dict[str, list[str]] = {}
        for name in names:
            panels.setdefault(name.removeprefix("val_"), []).append(name)
        figure = new_figure("History.plot", 6.4, 1.2 + 2.6 * len(panels))
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
        epochs = range(1, self.epochs + 1)
        marker = "o" if self.epochs == 1 else None
        for panel, (what, curves) in zip(axes, panels.items(), strict=True):
            for name in curves:
                label, colour = ("validation", "C1") if name.startswith("val_") else ("training", "C0")
                panel.plot(epochs, self.history[name], color=colour, label=label, marker=marker)
            panel.set_ylabel(what)
            panel.grid(alpha=0.3)
            panel.legend()
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1].set_xlabel("epoch")
        return saved(axes[-1], path)
