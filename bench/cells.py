"""Train every recurrent cell on the same three tasks: quality, bytes and the time of a step, on one page.

    python bench/cells.py --text tinyshakespeare.txt           # prints the table
    python bench/cells.py --text tinyshakespeare.txt --save    # and keeps it: results/cells, docs/cells.md
    python bench/cells.py --text tinyshakespeare.txt --save --cells GRU MinGRU    # trains these anew

The tasks are those of three examples: which digit was said (examples/keywords; espeak-ng says them), the
next character of a text (examples/charlm), and eleven years of sunspots ahead (examples/sunspots, with
statsmodels' series). All cells have the same recipe, the same number of hidden units and the same seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from runs import about, pin, result_path, seconds_of
from speed_tables import as_json, between, digits4, heading, short, table

import tinyrnn as tr

HERE = Path(__file__).resolve().parent
RESULTS, PAGE, PICTURE = HERE / "results" / "cells", HERE.parent / "docs" / "cells.md", "cells.svg"
BEGIN = "<!-- three tasks -->"
INPUT, HIDDEN = 32, 48
SMALL = 16  # hidden units for the sunspots, which read one number a year

for folder in ("keywords", "digits_spoken", "charlm", "sunspots"):
    sys.path.append(str(HERE.parent / "examples" / folder))

import corpus  # noqa: E402
import keywords  # noqa: E402
import learn  # noqa: E402
import sunspots  # noqa: E402

Make = Callable[[int, int], tr.Net]
CELLS: dict[str, Make] = {
    "RNN": tr.RNN,
    'RNN(nonlinearity="relu")': lambda i, h: tr.RNN(i, h, nonlinearity="relu"),
    "Jordan": lambda i, h: tr.Jordan(i, h, h),
    "GRU": tr.GRU,
    "GRU(reset_after=False)": lambda i, h: tr.GRU(i, h, reset_after=False),
    "GRU(layer_norm=True)": lambda i, h: tr.GRU(i, h, layer_norm=True),
    "LSTM": tr.LSTM,
    "LSTM(peephole=True)": lambda i, h: tr.LSTM(i, h, peephole=True),
    "LSTM(coupled=True)": lambda i, h: tr.LSTM(i, h, coupled=True),
    "LSTM(layer_norm=True)": lambda i, h: tr.LSTM(i, h, layer_norm=True),
    'LSTM(peephole="matrix")': lambda i, h: tr.LSTM(i, h, peephole="matrix"),
    "LSTM(recurrent_dropout=0.2)": lambda i, h: tr.LSTM(i, h, recurrent_dropout=0.2),
    "LSTM(zoneout=0.1)": lambda i, h: tr.LSTM(i, h, zoneout=0.1),
    "FastGRNN": tr.FastGRNN,
    "FastGRNN(u_rank=12)": lambda i, h: tr.FastGRNN(i, h, u_rank=min(12, h)),
    "FastGRNN(w_rank=12, u_rank=12)": lambda i, h: tr.FastGRNN(i, h, w_rank=min(12, h), u_rank=min(12, h)),
    "MinGRU": tr.MinGRU,
    "MinLSTM": tr.MinLSTM,
    "QRNN": tr.QRNN,
    "IndRNN": tr.IndRNN,
}


class Task(NamedTuple):
    """A task: its name, the unit of its result, and a net's result from a seed."""

    name: str
    unit: str
    run: Callable[[Make, int], float]


# ---- tasks --------------------------------------------------------------------------------------


def spoken(options: Namespace) -> Task:
    """Per cent of the words of unheard voices that are right."""
    wanted = Namespace(source=options.source, words=options.words, test=options.words // 4, seed=0)
    data = keywords.make_data(wanted)

    def run(make: Make, seed: int) -> float:
        whole = keywords.build(data.train, seed)
        *front, _, last, head = whole
        net = tr.Sequential(*front, make(INPUT, HIDDEN), last, head)
        optimizer = tr.optim.AdamW(net, lr=5e-3, weight_decay=0.05)
        steps = options.epochs * -(-len(data.train.digits) // 32)
        net.fit(
            *data.train,
            epochs=options.epochs,
            batch_size=32,
            loss="cross_entropy",
            optimizer=optimizer,
            callbacks=[tr.optim.OneCycleLR(optimizer, 5e-3, steps)],
            seed=seed,
            verbose=0,
            clip_norm=5.0,
        )
        return 100 * keywords.accuracy(net, data.strange)

    return Task("keywords", "% right", run)


def characters(options: Namespace) -> Task:
    """Bits for each character of the part of the text that was held out."""
    text = corpus.read_topics() if options.text is None else corpus.read_file(options.text)
    training, held_out = corpus.split(corpus.encode(text))
    recipe = Namespace(rate=1e-2, steps=options.steps, batch=32, length=64, threads=1)

    def run(make: Make, seed: int) -> float:
        symbols = len(corpus.VOCABULARY)
        net = tr.Sequential(tr.Embedding(symbols, INPUT), make(INPUT, HIDDEN), tr.Linear(HIDDEN, symbols))
        learner = learn.Tinyrnn(net, recipe)
        for _, batch in zip(range(options.steps), corpus.batches(training, 32, 64, seed), strict=False):
            learner.step(*batch)
        return learn.mean_loss(net, held_out[:50_000]) / float(np.log(2))

    return Task("characters", "bits", run)


def years(options: Namespace) -> Task:
    """The root of the mean squared error of all forecasts, one to eleven years ahead."""
    _, series = sunspots.read()
    span = sunspots.Span(len(series) * 3 // 4, len(series))
    scale = sunspots.Scale(series[: span.start])
    recipe = Namespace(rate=1e-2, steps=options.years)

    def run(make: Make, seed: int) -> float:
        net = tr.Sequential(make(1, SMALL), tr.Linear(SMALL, sunspots.CYCLE))
        learner = sunspots.Tinyrnn(net, recipe)
        batches = sunspots.batches(series[: span.start], scale, seed)
        for _, batch in zip(range(options.years), batches, strict=False):
            learner.step(*batch)
        found = sunspots.rolling([learner], series, scale, span)
        return float(np.sqrt(np.mean(sunspots.errors(found, series, span) ** 2)))

    return Task("sunspots", "RMSE", run)


# ---- what a cell costs ----------------------------------------------------------------------------


def costs(make: Make) -> dict[str, int]:
    """The bytes of its weights, and the multiply-adds of a step: of products, and of vectors with a state."""
    layer = make(INPUT, HIDDEN)
    factors = [
        array.size
        for name, array in layer.state_dict().items()
        if array.ndim == 2 or name.startswith(("weight_hh", "weight_peephole"))
    ]
    small = tr.quantize(layer, "int8")
    return {"bytes": layer.memory().weights, "int8": small.memory().weights, "multiply_adds": sum(factors)}


def step_times(makes: dict[str, Make], rounds: int) -> dict[str, float]:
    """The least time of a step of each cell, in turn, in microseconds."""
    calls = {}
    for name, make in makes.items():
        stream, x, y = make(INPUT, HIDDEN).stream(), np.ones(INPUT, np.float32), np.empty(HIDDEN, np.float32)
        calls[name] = lambda stream=stream, x=x, y=y: stream.step(x, y)
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], 1e6 * seconds_of(call, 200))
    return {name: float(time) for name, time in best.items()}


# ---- the page -------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """The mean of the seeds, and how far the farthest is from it."""
    mean = float(np.mean(values))
    return f"{short(mean)} ± {short(float(np.abs(np.array(values) - mean).max()))}"


def rendered(result: dict[str, Any]) -> str:
    """The table as docs/cells.md has it."""
    tasks, recipe = result["about"]["tasks"], result["about"]["recipe"]
    heads = ["cell", *(f"{name}, {unit}" for name, unit in tasks.items())]
    heads += ["bytes", "int8", "multiply-adds", "µs a step"]
    lines = [
        [
            f"`{row['cell']}`",
            *(spread(row[name]) for name in tasks),
            *(f"{row[name]:,}" for name in ("bytes", "int8", "multiply_adds")),
            short(row["us"]),
        ]
        for row in result["rows"]
    ]
    return (
        f"{heading(result['about'])}. {recipe}\n\n{table(heads, lines)}\n\n"
        f"![What each cell costs and how well it predicts characters]({PICTURE})"
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Bits for each character beside the time of a step; the area of a point is the cell's bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tinyrnn"})
    from matplotlib import pyplot, transforms

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    rows = result["rows"]
    points = [(row["us"], float(np.mean(row["characters"]))) for row in rows]
    for row, (us, bits) in zip(rows, points, strict=True):
        axes.scatter(us, bits, s=row["bytes"] / 300, alpha=0.5)
    axes.set_xscale("log")
    axes.set_xlim(min(us for us, _ in points) / 1.15, max(us for us, _ in points) * 1.5)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda us, _: f"{us:.2g}")
    axes.set_xlabel("µs a step (log)")
    axes.set_ylabel("bits for each character: lower is better")
    axes.set_title(f"Cells of {HIDDEN} units; the area of a point is the cell's bytes")
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # from now on a label has its place
    middles = axes.transData.transform(points)
    taken = [transforms.Bbox([middle - 3, middle + 3]) for middle in middles]
    for row, point in zip(rows, points, strict=True):
        for y, x in itertools.product((5, -11, 16, -22), (7, -7)):  # until it touches no point and no label
            label = axes.annotate(
                row["cell"],
                point,
                (x, y),
                textcoords="offset points",
                fontsize=8,
                ha="left" if x > 0 else "right",
            )
            box = label.get_window_extent()
            if axes.bbox.x0 < box.x0 and not box.count_overlaps(taken):
                break
            label.remove()
        taken.append(box)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write(result: dict[str, Any]) -> None:
    """Write the page's part and its picture."""
    PAGE.write_text(between(PAGE.read_text(), rendered(result), BEGIN))
    draw(result, PAGE.parent / PICTURE)


def newest() -> dict[str, Any]:
    """The result that was kept last."""
    found: dict[str, Any] = json.loads(max(RESULTS.glob("*.json")).read_text())
    return found


# ---- the script -----------------------------------------------------------------------------------


def kept(recipe: str) -> dict[str, dict[str, Any]]:
    """The rows of the result that was kept last, if it has this recipe, by cell."""
    if not any(RESULTS.glob("*.json")):
        return {}
    last = newest()
    return {row["cell"]: row for row in last["rows"]} if last["about"]["recipe"] == recipe else {}


def measured(
    tasks: Iterable[Task], names: Sequence[str], before: dict[str, dict[str, Any]], options: Namespace
) -> list[dict[str, Any]]:
    """The rows of these cells, and of those that a result before has, whose times are measured anew."""
    rows = dict(before)
    for name in names:
        began = time.perf_counter()
        row: dict[str, Any] = {"cell": name}
        for task in tasks:
            row[task.name] = []
            for seed in range(options.seeds):
                tr.manual_seed(seed)
                row[task.name].append(digits4(task.run(CELLS[name], seed)))
        rows[name] = row | costs(CELLS[name])
        told = ", ".join(f"{task.name} {spread(row[task.name])}" for task in tasks)
        print(f"{name}: {told}  ({time.perf_counter() - began:.0f} s)", flush=True)
    times = step_times({name: CELLS[name] for name in CELLS if name in rows}, options.rounds)
    return [rows[name] | {"us": digits4(time)} for name, time in times.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train every cell on the same three tasks.")
    add = parser.add_argument
    add("--text", type=Path, help="of the characters; else pydoc's topics")
    add("--source", choices=["auto", "espeak", "tones"], default="auto", help="of the spoken digits")
    add("--words", type=int, default=1600, help="spoken digits to train on (%(default)s)")
    add("--epochs", type=int, default=20, help="over the spoken digits (%(default)s)")
    add("--steps", type=int, default=3000, help="of the characters (%(default)s)")
    add("--years", type=int, default=600, help="steps of the sunspots (%(default)s)")
    add("--seeds", type=int, default=3, help="of each net (%(default)s)")
    add("--rounds", type=int, default=300, help="of the clock (%(default)s)")
    add("--cells", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="CELL",
        help="to train; with --save the others are as in the result that was kept last")  # fmt: skip
    add("--save", action="store_true", help="keep the result, write docs/cells.md and its picture")
    add("--again", action="store_true", help="only write them again, from the result that was kept last")
    options = parser.parse_args(arguments)
    if options.again:
        return write(newest())
    core = pin(None)
    tasks = [make(options) for make in (spoken, characters, years)]
    recipe = (
        f"{INPUT} inputs and {HIDDEN} units, 1 and {SMALL} for the sunspots; {options.epochs} epochs of "
        f"{options.words:,} words, {options.steps:,} steps of characters, {options.years} of sunspots; "
        f"{options.seeds} seeds: their mean, and how far the farthest is from it."
    )
    setting = about(core, []) | {"tasks": {task.name: task.unit for task in tasks}, "recipe": recipe}
    before = kept(recipe) if options.save else {}
    result = {"about": setting, "rows": measured(tasks, options.cells, before, options)}
    print(rendered(result))
    if options.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        result_path(setting, RESULTS).write_text(as_json(result))
        write(result)


if __name__ == "__main__":
    main()
