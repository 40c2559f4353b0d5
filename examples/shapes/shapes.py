"""Train a net to draw outlines: one start vector in, a whole sequence out.

    python shapes.py
    python shapes.py --plot shapes.png         # draws the results; needs matplotlib

A linear layer makes the first state of a GRU from the vector: kind of shape, width, height and tilt. From
then on the GRU reads nothing (zeros), and a linear layer makes a point of every state. What was learned is
measured on vectors that training has not seen; the picture also shows vectors part one kind, part another.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
from outlines import CODE, KINDS, POINTS, Array, draw_codes, draw_outlines

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, positive

Nets = tuple[tr.Sequential, tr.Sequential]


def build(hidden: int, seed: int) -> Nets:
    """Build the net that makes the first state and the net that draws from it, with fresh weights."""
    tr.manual_seed(seed)
    start = tr.Sequential({"linear": tr.Linear(CODE, hidden), "tanh": tr.Tanh()})
    pen = tr.Sequential({"gru": tr.GRU(1, hidden), "head": tr.Linear(hidden, 2)})
    return start, pen


def draw(nets: Nets, codes: Array, threads: int = 1) -> Array:
    """(POINTS, B, 2) points from (B, CODE) vectors."""
    start, pen = nets
    nothing = np.zeros((POINTS, len(codes), 1), np.float32)
    points: Array = pen(nothing, state={"gru.h": start(codes)[np.newaxis]}, threads=threads)
    return points


def train(nets: Nets, options: argparse.Namespace) -> list[float]:
    """The loss of every step, the mean squared error of a coordinate; one line of print now and then."""
    start, pen = (net.train() for net in nets)
    optimizer = tr.optim.Adam([start, pen], lr=options.rate)
    schedule = tr.optim.OneCycleLR(optimizer, options.rate, options.steps, cycle_momentum=False)
    loss_of = tr.MSELoss()
    generator = np.random.default_rng(options.seed)
    losses, seconds = [], 0.0
    for step in range(1, options.steps + 1):
        codes = draw_codes(options.batch, generator)
        target = draw_outlines(codes)
        began = time.perf_counter()
        optimizer.zero_grad()
        loss, dpoints = loss_of(draw((start, pen), codes, options.threads), target)
        _, dstate = pen.backward(dpoints, {})  # {}: the first state's gradient is wanted
        start.backward(dstate["gru.h"][0])
        tr.optim.clip_grad_norm([start, pen], options.clip)
        optimizer.step()
        if step < options.steps:
            schedule.step()
        seconds += time.perf_counter() - began
        losses.append(loss)
        report_step(step, options.steps, loss, seconds)
    for net in nets:
        net.eval()
    return losses


def report_step(step: int, steps: int, loss: float, seconds: float) -> None:
    """A line for the first step and every tenth part of them."""
    if step == 1 or step % max(1, steps // 10) == 0:
        print(f"step {step:5}  loss {loss:.5f}  {seconds:5.1f} s", flush=True)


def unseen(options: argparse.Namespace) -> Array:
    """Start vectors to measure on."""
    return draw_codes(options.test, np.random.default_rng(options.seed + 1))


def report_errors(points: Array, codes: Array) -> None:
    """Root mean squared distance of points from where they belong, by kind."""
    squares = np.square(points - draw_outlines(codes)).sum(-1).mean(0)
    print(f"off by {np.sqrt(squares.mean()):.3f} on {len(codes)} unseen vectors, where a circle has radius 1")
    for i, kind in enumerate(KINDS):
        of_kind = squares[codes[:, i] == 1]
        if len(of_kind):
            print(f"  {kind:8} {np.sqrt(of_kind.mean()):.3f}")


def plot(path: Path, nets: Nets, options: argparse.Namespace) -> None:
    """Draw unseen vectors of each kind over their targets above, mixtures of two kinds below."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = 6
    wanted = {"color": "0.8", "linewidth": 5}
    drawn, mixed_drawn = {"color": "tab:blue"}, {"color": "tab:orange"}
    codes = draw_codes(50 * columns, np.random.default_rng(options.seed + 2))
    rows = [codes[codes[:, i] == 1][:columns] for i in range(len(KINDS))]
    figure = Figure(figsize=(1.25 * columns, 1.25 * (len(KINDS) + 2)), layout="constrained")
    axes = figure.subplots(len(KINDS) + 2, columns)
    for i, row in enumerate(rows):
        for axis, code in zip(axes[i], row, strict=True):
            axis.plot(*draw_outlines(code[np.newaxis])[:, 0].T, **wanted)
            axis.plot(*draw(nets, code[np.newaxis])[:, 0].T, **drawn)
        axes[i, 0].set_title(KINDS[i], loc="left", fontsize=9)
    for axis_row, (a, b) in zip(axes[len(KINDS) :], ((1, 0), (4, 3)), strict=True):
        for axis, part in zip(axis_row, np.linspace(0, 1, columns), strict=True):
            mixed = np.zeros((1, CODE), np.float32)
            mixed[0, [a, b]] = 1 - part, part
            axis.plot(*draw(nets, mixed)[:, 0].T, **mixed_drawn)
        axis_row[0].set_title(f"from {KINDS[a]} to {KINDS[b]}", loc="left", fontsize=9)
    for axis in axes.flat:
        axis.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), aspect="equal")
        axis.axis("off")
    legend = {
        "wanted": wanted,
        "drawn by the net, from vectors it has not seen": drawn,
        "drawn from mixtures, for which no outline is right": mixed_drawn,
    }
    handles = [Line2D([], [], label=label, **style) for label, style in legend.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=100)


def training_parser(description: str) -> argparse.ArgumentParser:
    """The options that shapes.py and shapes_torch.py share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=positive, default=3000, help="batches to train on")
    add("--batch", type=positive, default=32, help="shapes in a batch")
    add("--rate", type=above_zero, default=1e-2, help="largest learning rate of the one cycle")
    add("--hidden", type=positive, default=64, help="hidden size of the GRU")
    add("--clip", type=above_zero, default=1.0, help="largest norm of the gradients")
    add("--seed", type=natural, default=0, help="of weights and draws")
    add("--threads", type=positive, default=1, help="threads that share a batch")
    add("--test", type=positive, default=1000, help="unseen vectors to measure on")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser("Train a net to draw outlines from one vector each.")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="a picture of them; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    if options.plot and not options.plot.parent.is_dir():
        parser.error(f"--plot: there is no folder {options.plot.parent}")
    nets = build(options.hidden, options.seed)
    train(nets, options)
    codes = unseen(options)
    report_errors(draw(nets, codes, options.threads), codes)
    if options.plot:
        try:
            plot(options.plot, nets, options)
        except (OSError, ValueError) as error:
            sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
