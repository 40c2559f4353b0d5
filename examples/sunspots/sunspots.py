"""Forecast sunspots up to eleven years ahead, and compare with two baselines.

    python sunspots.py --plot sunspots.png
    python sunspots.py --torch
    python sunspots.py --start 1860 --end 1889

The yearly sunspot numbers 1700-2008 that come with statsmodels. A small RNN reads 22 years, two cycles, and
after the last gives its forecasts for the next eleven; five nets from different weights are averaged. All is
fitted to the years before `--start` alone and then rolls through the years up to `--end`: at each year the
forecasts see all the years before it, but nothing is fitted again.

The baselines: seasonal naive, that is, what was eleven years before; and an autoregression over nine years,
of the numbers and of their square roots. Roots are also what the RNN reads: the numbers spread the more, the
higher they are.

There are only a dozen cycles to learn from, and the highest come after them. So every window of a batch is
stretched, by up to e^0.5, and gets noise; and the RNN's activation is relu, which goes on where tanh ends.
With `--torch` PyTorch trains beside, from the same weights on the same batches (sunspots_torch.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, new_file, positive

CYCLE = 11  # years, roughly; forecasts reach so far
WINDOW = 2 * CYCLE
LAGS = 9  # of the autoregression
HIDDEN = 16
BATCH = 32
STRETCH = 0.5  # of a window's logarithm, up or down
CLIP_NORM = 1.0
NOISE = 0.35  # standard deviation; that of the series is 1

Array = NDArray[np.float32]
Series = NDArray[np.float64]
Forecasts = dict[int, Series]  # place in the series -> the forecasts (CYCLE,) for it and the years after


class Learner(Protocol):
    """A learner that forecasts: `Tinyrnn` here, `PyTorch` in sunspots_torch.py."""

    def step(self, windows: Array, targets: Array) -> float:
        """One update from windows (WINDOW, B, 1) and the years after, (B, CYCLE); the loss before it."""

    def forecast(self, windows: Array) -> Array:
        """Windows (WINDOW, B, 1) -> forecasts of the years after, (B, CYCLE)."""


class Span(NamedTuple):
    """The parts to fit and to forecast: series[:start] and series[start:end]."""

    start: int
    end: int


class Scale:
    """Square roots, at mean 0 and standard deviation 1 over the fitted years."""

    def __init__(self, fitted: Series) -> None:
        roots = np.sqrt(fitted)
        self.mean, self.deviation = roots.mean(), roots.std()

    def of(self, series: Series) -> Series:
        return (np.sqrt(series) - self.mean) / self.deviation

    def back(self, scaled: NDArray[np.floating]) -> Series:
        return np.maximum(scaled.astype(np.float64) * self.deviation + self.mean, 0) ** 2


def read() -> tuple[NDArray[np.int64], Series]:
    """The years and their sunspot numbers."""
    try:
        from statsmodels.datasets import sunspots
    except ImportError:
        raise ValueError("the series is statsmodels', which is missing: pip install statsmodels") from None
    table = sunspots.load_pandas().data
    return table["YEAR"].to_numpy().astype(np.int64), table["SUNACTIVITY"].to_numpy().astype(np.float64)


# ---- the net ------------------------------------------------------------------------------------


def build(seed: int) -> tr.Sequential:
    """An RNN over the years, and a linear layer that gives all forecasts at once."""
    tr.manual_seed(seed)
    return tr.Sequential({"rnn": tr.RNN(1, HIDDEN, nonlinearity="relu"), "head": tr.Linear(HIDDEN, CYCLE)})


def batches(fitted: Series, scale: Scale, seed: int) -> Iterator[tuple[Array, Array]]:
    """Endless (windows, targets) from the years that are fitted, stretched and with noise."""
    series, zero = scale.of(fitted), scale.of(np.zeros(1))
    places = np.arange(WINDOW, len(series) - CYCLE + 1)
    generator = np.random.default_rng(seed)
    while True:
        chosen = generator.choice(places, BATCH, replace=len(places) < BATCH)
        stretch = np.exp(generator.uniform(-STRETCH, STRETCH, (BATCH, 1)))
        both = np.stack([series[place - WINDOW : place + CYCLE] for place in chosen])
        both = (both - zero) * stretch + zero
        both[:, :WINDOW] += generator.normal(0, NOISE, (BATCH, WINDOW))
        both = both.astype(np.float32)
        yield np.ascontiguousarray(both[:, :WINDOW].T[..., None]), np.ascontiguousarray(both[:, WINDOW:])


class Tinyrnn:
    """A net, its optimiser and the memory that training takes, laid out once."""

    def __init__(self, net: tr.Sequential, options: argparse.Namespace) -> None:
        self.net = net.train()
        optimizer = tr.optim.AdamW(net, lr=options.rate)
        self.schedule = tr.optim.OneCycleLR(optimizer, options.rate, options.steps)
        self.trainer = net.trainer(optimizer, tr.MSELoss(), batch=BATCH, steps=WINDOW, clip_norm=CLIP_NORM)

    def step(self, windows: Array, targets: Array) -> float:
        loss = self.trainer.step(windows, targets)  # targets without steps: the loss of the last one
        self.schedule.step()
        return loss

    def forecast(self, windows: Array) -> Array:
        found: Array = self.net.eval()(windows, last=True)
        return found


def rolling(learners: Sequence[Learner], series: Series, scale: Scale, span: Span) -> Forecasts:
    """The mean of the learners' forecasts from every year of the span."""
    places = range(span.start, span.end)
    windows = np.stack([scale.of(series[place - WINDOW : place]) for place in places], 1)[..., None]
    windows = np.ascontiguousarray(windows, np.float32)
    found = np.mean([scale.back(learner.forecast(windows)) for learner in learners], axis=0)
    return dict(zip(places, found, strict=True))


def train(
    make: dict[str, Callable[[tr.Sequential], Learner]],
    fitted: Series,
    scale: Scale,
    options: argparse.Namespace,
) -> dict[str, list[Learner]]:
    """Train all nets, those of each kind side by side on the same batches."""
    trained: dict[str, list[Learner]] = {name: [] for name in make}
    seconds = dict.fromkeys(make, 0.0)
    apart = 0.0
    for number in range(options.nets):
        net = build(options.seed + number)
        learners = {name: maker(net) for name, maker in make.items()}
        recent: dict[str, list[float]] = {name: [] for name in make}
        stream = batches(fitted, scale, options.seed + number)
        for _, (windows, targets) in zip(range(options.steps), stream, strict=False):
            for name, learner in learners.items():
                began = time.perf_counter()
                recent[name].append(learner.step(windows, targets))
                seconds[name] += time.perf_counter() - began
        for name, learner in learners.items():
            trained[name].append(learner)
            print(
                f"net {number + 1}, {name:8s} loss {np.mean(recent[name][-20:]):.4f} {seconds[name]:6.2f} s"
            )
        apart = max(apart, float(np.ptp(list(recent.values()), axis=0).max()))
    if len(make) > 1:
        print(f"the losses of {options.nets * options.steps} steps were at most {apart:.1e} apart")
    for name, spent in seconds.items():
        print(f"{name}: {spent / (options.nets * options.steps) * 1e3:.2f} ms a step")
    return trained


# ---- the baselines ------------------------------------------------------------------------------


def seasonal_naive(series: Series, span: Span) -> Forecasts:
    """Forecast the value of one cycle before."""
    return {place: series[place - CYCLE : place] for place in range(span.start, span.end)}


def autoregression(series: Series, span: Span) -> Forecasts:
    """statsmodels' AutoReg fitted before the span; beyond one year it reads its own forecasts."""
    from statsmodels.tsa.ar_model import AutoReg

    constant, *weights = AutoReg(series[: span.start], LAGS).fit().params
    forecasts = {}
    for place in range(span.start, span.end):
        known = list(series[place - LAGS : place])
        for _ in range(CYCLE):
            known.append(constant + np.dot(weights, known[: -LAGS - 1 : -1]))
        forecasts[place] = np.array(known[LAGS:])
    return forecasts


# ---- how good they are --------------------------------------------------------------------------


def errors(forecasts: Forecasts, series: Series, span: Span) -> Series:
    """Root mean square error by years ahead, (CYCLE,): over all forecasts whose year is in the span."""
    found = []
    for ahead in range(CYCLE):
        places = range(span.start, span.end - ahead)
        found.append(np.mean([(forecasts[place][ahead] - series[place + ahead]) ** 2 for place in places]))
    return np.sqrt(found)


def plot(
    path: Path, years: NDArray[np.int64], series: Series, span: Span, methods: dict[str, Forecasts]
) -> None:
    """The series with forecasts one and several years ahead, and the errors by years ahead."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    colours = dict(zip(methods, ("#d55e00", "#999999", "#0072b2", "#009e73"), strict=False))
    dashes = dict(zip(methods, ("-", "-", "--", ":"), strict=False))
    figure, (one, far, error) = pyplot.subplots(
        3, 1, figsize=(11, 10), layout="constrained", height_ratios=(3, 3, 2.4)
    )
    shown = slice(max(0, span.start - 3 * CYCLE), span.end)
    for axis in (one, far):
        axis.plot(years[shown], series[shown], color="#2f3a45", linewidth=1.2, label="observed")
        axis.axvspan(years[span.start] - 0.5, years[span.end - 1] + 0.5, color="#f4f1e8", linewidth=0)
        axis.set_xlabel("year")
        axis.set_ylabel("sunspot number")
        axis.set_xlim(years[shown][0], years[shown][-1] + 1)
    tested = years[span.start : span.end]
    for name, forecasts in methods.items():
        if name != "seasonal naive":
            first = [forecasts[place][0] for place in range(span.start, span.end)]
            one.plot(tested, first, dashes[name], color=colours[name], linewidth=1.4, label=name)
        error.plot(
            range(1, CYCLE + 1),
            errors(forecasts, series, span),
            dashes[name],
            color=colours[name],
            marker="o",
            markersize=3,
            label=name,
        )
    net = next(iter(methods))
    for number, place in enumerate(range(span.start, span.end - CYCLE + 1, CYCLE)):
        label = f"{net}, from a dot on" if number == 0 else None
        ahead = years[place - 1 : place + CYCLE]
        far.plot(
            ahead,
            np.concatenate([series[place - 1 : place], methods[net][place]]),
            color=colours[net],
            linewidth=1.0,
            alpha=0.8,
            label=label,
        )
        far.plot(ahead[0], series[place - 1], "o", color=colours[net], markersize=4)
    one.set_title("one year ahead; what is fitted ends where the shading begins", loc="left", fontsize=10)
    far.set_title("one to eleven years ahead", loc="left", fontsize=10)
    error.set_title("root mean square error", loc="left", fontsize=10)
    error.set_xlabel("years ahead")
    error.set_ylabel("sunspot number")
    error.set_xticks(range(1, CYCLE + 1))
    for axis in (one, far, error):
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, ncols=5, loc="lower right" if axis is error else "upper left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# ---- the script ---------------------------------------------------------------------------------


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--start", type=natural, metavar="YEAR", default=1950, help="first year that is forecast")
    add("--end", type=natural, metavar="YEAR", default=2008, help="last year that is forecast")
    add("--nets", type=positive, default=5, help="nets whose forecasts are averaged")
    add("--steps", type=positive, default=300, help="optimiser steps of each")
    add("--rate", type=above_zero, default=1e-2, help="peak learning rate")
    add("--seed", type=natural, default=0, help="of the weights and the batches")
    add("--plot", type=new_file, metavar="PNG", help="draw the forecasts; needs matplotlib")
    return parser


def check(options: argparse.Namespace, years: NDArray[np.int64]) -> Span:
    """The span that is asked for; an error if there is too little before it or nothing in it."""
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib, which is not installed")
    least, last = int(years[0]) + WINDOW + 2 * CYCLE, int(years[-1])
    if not least <= options.start <= last - CYCLE + 1:
        raise ValueError(f"--start is {options.start}, expected {least} .. {last - CYCLE + 1}")
    if not options.start + CYCLE - 1 <= options.end <= last:
        least = options.start + CYCLE - 1
        raise ValueError(
            f"--end is {options.end}, expected {least} .. {last} where --start is {options.start}"
        )
    return Span(options.start - int(years[0]), options.end + 1 - int(years[0]))


def run(make: dict[str, Callable[[tr.Sequential], Learner]], options: argparse.Namespace) -> None:
    """Fit, forecast, and print the errors of everything."""
    years, series = read()
    span = check(options, years)
    scale = Scale(series[: span.start])
    print(f"fitted to {years[0]}-{options.start - 1}, tested on {options.start}-{options.end}")
    methods: dict[str, Forecasts] = {}
    for name, learners in train(make, series[: span.start], scale, options).items():
        methods[f"RNN, {name}"] = rolling(learners, series, scale, span)
    methods["seasonal naive"] = seasonal_naive(series, span)
    roots = autoregression(scale.of(series), span)
    methods["AR(9) of roots"] = {place: scale.back(forecast) for place, forecast in roots.items()}
    methods["AR(9)"] = autoregression(series, span)

    print(f"\n{'years ahead':20s}" + "".join(f"{ahead:7d}" for ahead in range(1, CYCLE + 1)) + "   mean")
    for name, forecasts in methods.items():
        found = errors(forecasts, series, span)
        print(f"{name:20s}" + "".join(f"{value:7.1f}" for value in (*found, found.mean())))
    if options.plot:
        if len(make) > 1:
            del methods["RNN, PyTorch"]  # the same line
        plot(options.plot, years, series, span, methods)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Forecast sunspots with tinyrnn.")
    parser.add_argument("--torch", action="store_true", help="train PyTorch's twins beside them")
    options = parser.parse_args(arguments)
    make: dict[str, Callable[[tr.Sequential], Learner]] = {"tinyrnn": lambda net: Tinyrnn(net, options)}
    try:
        if options.torch:
            from sunspots_torch import PyTorch

            make["PyTorch"] = lambda net: PyTorch(net, options)
        run(make, options)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; this needs it")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
