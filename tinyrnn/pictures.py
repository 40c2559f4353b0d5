"""Figures to draw on, where matplotlib is installed. No display is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]


def new_figure(what: str, width: float, height: float) -> Figure:
    """An empty figure, its size in inches; ``what`` names the caller for the error.

    Raises
    ------
    ImportError
        Where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(f"{what} needs matplotlib: pip install 'tinyrnn[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def axes_or_new(what: str, ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new figure."""
    return ax if ax is not None else new_figure(what, 6.4, 3.8).subplots()


def saved(ax: Axes, path: Path | None) -> Figure:
    """Save the figure of ``ax`` if there is a path, and return it."""
    figure: Figure = ax.figure.figure  # not the part of a figure that it may lie in
    if path is not None:
        figure.savefig(path)
    return figure
