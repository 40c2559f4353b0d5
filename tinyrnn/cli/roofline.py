"""The picture of a benchmark: the steps beside the limits of this machine. Needs matplotlib."""

from __future__ import annotations

import math
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's colours, which everybody can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#606060"


def draw(report: dict[str, Any], file: IO[bytes], form: str) -> None:
    """Draw the measurements of `tinyrnn bench`.

    On the left stands the speed of reading, by the number of bytes, and of the weights in steps of one
    stream. On the right stands a roofline: every job by its multiply-adds for each byte of weights, under the
    limits of memory and arithmetic.

    Parameters
    ----------
    report : dict
        The report of ``tinyrnn bench --json``.
    file : binary file
        The file to write.
    form : str
        ``"png"``, ``"svg"`` or ``"pdf"``.
    """
    about = report["about"]
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    figure.suptitle(
        f"tinyrnn {about['tinyrnn']} on {about['cpu']}, one core, {about['isa']}, {about['date']}",
        fontsize=12,
    )
    left, right = figure.subplots(1, 2)
    _reading(left, report)
    _roofline(right, report)
    for axes in (left, right):
        axes.grid(which="major", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, format=form, dpi=130)


def _reading(axes: Axes, report: dict[str, Any]) -> None:
    curve = {int(size): speed for size, speed in report["machine"]["read_gb_per_s"].items()}
    axes.set_xscale("log", base=2)
    axes.plot(
        list(curve), list(curve.values()), color=_GREY, linewidth=1.5, label="reading, and nothing else"
    )
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        if row["steps"] == row["batch"] == 1 and row["weight_bytes"]:
            kinds.setdefault(row["net"].partition(" (")[0], []).append(row)
    for (kind, rows), colour, marker in zip(kinds.items(), _COLOURS, "osD^vP", strict=False):
        sizes, speeds = zip(*((row["weight_bytes_per_step"], row["gb_per_s"]) for row in rows), strict=True)
        axes.plot(sizes, speeds, marker, color=colour, markersize=7, label=f"a step of {_cut(kind)}")
    # One label for each size of net, at its largest kind, which lies to the right.
    named: dict[str, dict[str, Any]] = {}
    for row in sorted((row for rows in kinds.values() for row in rows), key=lambda row: row["weight_bytes"]):
        named[row["net"].partition(" ")[2]] = row
    for name, row in named.items():
        where = (row["weight_bytes_per_step"], row["gb_per_s"])
        axes.annotate(
            _cut(name),
            where,
            (-4, -6),
            textcoords="offset points",
            fontsize=8,
            va="top",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )
    top = 1.18 * max([*curve.values(), *(row["gb_per_s"] for row in report["rows"] if row["batch"] == 1)])
    axes.set_ylim(0, top)
    smallest = min([*curve, *(row["weight_bytes_per_step"] for row in named.values())])
    axes.set_xlim(smallest / 2.2, max(curve) * 1.5)
    for name, size in report["about"]["caches"].items():
        axes.axvline(size, color=_GREY, linestyle=":", linewidth=1)
        axes.text(size, top, f" {name} ", ha="right", va="top", fontsize=9, color=_GREY)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _bytes(size)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bytes that are read again and again: weights of a step")
    axes.set_ylabel("GB/s")
    axes.set_title("Reading weights, one stream, a step per call", fontsize=11)
    axes.legend(fontsize=9, loc="upper right", bbox_to_anchor=(1, 0.93), framealpha=0.9)


def _roofline(axes: Axes, report: dict[str, Any]) -> None:
    peak = report["machine"]["multiply_adds_g_per_s"]
    rows = [row for row in report["rows"] if row["multiply_adds"] and row["weight_bytes_per_step"]]
    points = [
        (row["multiply_adds"] / row["weight_bytes_per_step"], row["multiply_adds_g_per_s"]) for row in rows
    ]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    low, high = 0.125, 2 * max([4.0, *(x for x, _ in points)])
    bottom = 2 ** math.floor(math.log2(min([peak / 16, *(y for _, y in points)])) - 0.3)
    top = 1.5 * max([1.4 * peak, *(y for _, y in points)])
    curve = {int(size): speed for size, speed in report["machine"]["read_gb_per_s"].items()}
    axes.plot([low, high], [peak, peak], color=_GREY, linewidth=1.5)
    axes.text(
        high,
        peak * 1.06,
        f"float32 multiply-adds: {_digits(peak)} G/s",
        ha="right",
        va="bottom",
        fontsize=8.5,
    )
    for name, speed in _ceilings(curve, report["about"]["caches"]).items():
        axes.plot([low, peak / speed], [low * speed, peak], color=_GREY, linewidth=1)
        label = f"{name}: {_digits(speed)} GB/s"
        start = max(low, bottom / speed)
        axes.annotate(
            label,
            (start, start * speed),
            (3, 4),
            textcoords="offset points",
            fontsize=8,
            color=_GREY,
            rotation=_slope(axes, (low, high), (bottom, top)),
            rotation_mode="anchor",
        )
    works: dict[tuple[int, int], str] = {}
    for row, (x, y) in zip(rows, points, strict=True):
        colour = works.setdefault((row["steps"], row["batch"]), _COLOURS[len(works) % len(_COLOURS)])
        area = 12 + 9 * max(0.0, math.log2(row["weight_bytes"] / 4096))
        marker = "s" if row["net"].startswith("GRU") else "o"
        axes.scatter(
            x, y, area, c=colour, marker=marker, alpha=0.8, edgecolors="white", linewidths=0.6, zorder=3
        )
    keys = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=_work(*work))
        for work, colour in works.items()
    ]
    axes.legend(
        handles=keys,
        fontsize=9,
        loc="lower right",
        title="squares: GRU; larger: more weights" if len({row["net"] for row in rows}) > 1 else None,
        title_fontsize=8.5,
        framealpha=0.9,
    )
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-adds for each byte of weights that is read")
    axes.set_ylabel("G multiply-adds/s")
    axes.set_title("Roofline", fontsize=11)


def _ceilings(curve: dict[int, float], caches: dict[str, int]) -> dict[str, float]:
    """The best speed of reading within each cache, and beyond them all."""
    found, below = {}, 0
    for name, size in sorted(caches.items(), key=lambda cache: cache[1]):
        inside = [speed for nbytes, speed in curve.items() if below < nbytes <= size * 0.75]
        if inside:
            found[name] = max(inside)
        below = size
    found["beyond"] = curve[max(curve)]
    return found


def _slope(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> float:
    """The angle on paper, in degrees, of a line of constant bandwidth."""
    box = axes.get_window_extent()
    octaves = [math.log2(end / begin) for begin, end in (across, up)]
    return math.degrees(math.atan2(box.height / octaves[1], box.width / octaves[0]))


def _work(steps: int, batch: int) -> str:
    many = f"{batch} streams" if batch > 1 else "one stream"
    return many + (", a step per call" if steps == 1 else f", {steps} steps per call")


def _bytes(size: float) -> str:
    return f"{size / 2**20:g} MB" if size >= 1 << 20 else f"{size / 2**10:g} kB"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _cut(name: str) -> str:
    return name if len(name) < 30 else name[:14] + "..." + name[-13:]
