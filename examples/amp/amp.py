"""Learn a guitar amplifier with an LSTM and a skip connection, and run it as an audio callback does.

    python amp.py --out amp.safetensors --plot amp.png
    python amp.py --torch

The guitar is synthetic: plucked strings (Karplus and Strong, 1983). The amplifier is written below in NumPy:
a filter that cuts the bass, a valve that clips softly and not evenly, a supply that sags while the sound is
loud, and a loudspeaker that dulls. The net, as in Wright, Damskägg and Välimäki (2019), hears one sample at a
time and adds its correction to it:

    y = x + head(lstm(x))

Training is truncated BPTT: every column of the recording begins at rest, as the amplifier did, and its state
is carried from one window to the next. The loss is the error-to-signal ratio (ESR), once of the waveform and
once after a filter that stresses what is high, because ears do. That filter is a graph around the net: what
it trains are the net's own weights. With `--torch` PyTorch trains beside, from the same weights on the same
windows (amp_torch.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, new_file, positive

RATE = 16_000  # samples a second
HIDDEN = 16
EMPHASIS = 0.85
BLOCK = 64  # samples of an audio callback: 4 ms
CLIP_NORM = 1.0
HELD_OUT = 4  # columns that are never trained on

Array = NDArray[np.float32]
Wave = NDArray[np.float64]


class Learner(Protocol):
    """A learner of the amplifier: `Tinyrnn` here, `PyTorch` in amp_torch.py."""

    def step(self, guitar: Array, amplified: Array, fresh: bool) -> float:
        """One update from a window (T, B, 1); the sum of both ratios before it."""

    def play(self, guitar: Array) -> Array:
        """Guitar (T, B, 1) -> amplified (T, B, 1), from rest."""


# ---- the guitar ---------------------------------------------------------------------------------


def pluck(pitch: float, samples: int, generator: np.random.Generator) -> Wave:
    """A string of so many hertz: noise goes round in a delay line, and each round is a little duller."""
    period = max(2, round(RATE / pitch - 0.5))
    noise = generator.uniform(-1, 1, period)
    line = np.concatenate([[0.0], 0.5 * (noise + np.roll(noise, 1))])  # a soft pick
    line[1:] -= line[1:].mean()
    rounds = [line[1:].copy()]
    for _ in range(samples // period):
        line[1:], line[0] = 0.498 * (line[1:] + line[:-1]), line[-1]
        rounds.append(line[1:].copy())
    return np.concatenate(rounds)[:samples]


def guitar(seconds: float, columns: int, seed: int) -> Array:
    """Riffs and chords, (T, columns, 1): each column its own, from silence on."""
    generator = np.random.default_rng(seed)
    length = round(seconds * RATE)
    played = np.zeros((length, columns))
    for column in played.T:
        at = int(generator.integers(0, RATE // 20))
        while at < length:
            root = 82.4 * 2 ** (generator.integers(0, 25) / 12)  # two octaves from the low E
            chord = ([0], [0, 7], [0, 7, 12], [0, 4, 7, 12])[generator.integers(0, 4)]
            loud = generator.uniform(0.15, 0.9) / len(chord) ** 0.5
            for number, interval in enumerate(chord):
                start = at + 150 * number  # strummed
                if start < length:
                    string = pluck(root * 2 ** (interval / 12), min(length - start, 2 * RATE), generator)
                    column[start : start + len(string)] += loud * string
            at += int(RATE * generator.choice([0.125, 0.25, 0.25, 0.5, 1.0]))
    return np.clip(played, -1, 1).astype(np.float32)[..., None]


# ---- the amplifier that is learnt ---------------------------------------------------------------


def amplifier(played: Array) -> Array:
    """Guitar (T, B, 1) -> amplified (T, B, 1), sample by sample from rest."""
    x = played[..., 0].astype(np.float64)
    out = np.empty_like(x)
    low, sag, warm, speaker = np.zeros((4, x.shape[1]))
    for t in range(len(x)):
        low += 0.05 * (x[t] - low)  # 130 Hz
        treble = x[t] - 0.8 * low
        supply = 1 / (1 + 1.5 * sag)
        valve = np.tanh(8 * supply * treble + 0.25 - 0.5 * warm) - np.tanh(0.25)
        sag += 0.002 * (np.abs(valve) - sag)  # within 30 ms
        warm += 0.01 * (valve - warm)  # the bias follows, within 6 ms
        speaker += 0.6 * (valve * (0.4 + 0.6 * supply) - speaker)
        out[t] = 0.7 * speaker
    return out.astype(np.float32)[..., None]


def emphasised(wave: Array) -> Array:
    """The wave with its treble stressed: y[t] - 0.85 y[t - 1]."""
    found = wave.copy()
    found[1:] -= np.float32(EMPHASIS) * wave[:-1]
    return found


def esr(output: Array, target: Array) -> float:
    """Error-to-signal ratio: the energy of the error, in parts of that of the target."""
    error = output.astype(np.float64) - target
    return float((error**2).sum() / (target.astype(np.float64) ** 2).sum())


# ---- the net ------------------------------------------------------------------------------------


def build(seed: int) -> tr.Net:
    """The net: one LSTM, one linear layer, and the guitar itself past both."""
    tr.manual_seed(seed)
    x = tr.Input(1)
    h = tr.LSTM(1, HIDDEN)(x).named("lstm")
    y = x + tr.Linear(HIDDEN, 1)(h).named("head")
    return tr.Net(x, y)


class Tinyrnn:
    """A net, its optimiser and the memory that training takes, laid out once."""

    def __init__(self, net: tr.Net, target: Array, options: argparse.Namespace, updates: int) -> None:
        self.net = net
        x = tr.Input(1)
        wave = net(x)  # a net is a layer
        self.heard = tr.Net(x, {"wave": wave, "bright": wave - EMPHASIS * tr.Delay(1)(wave)}).train()
        optimizer = tr.optim.Adam(self.heard, lr=options.rate)
        self.schedule = tr.optim.OneCycleLR(optimizer, options.rate, updates, pct_start=0.1)
        self.trainer = self.heard.trainer(
            optimizer,
            {"wave": tr.MSELoss(), "bright": tr.MSELoss()},
            batch=target.shape[1],
            steps=options.length,
            clip_norm=CLIP_NORM,
            loss_weights=ratios(target),
        )
        self.state = self.trainer.new_state()
        self.before = np.zeros((1, target.shape[1], 1), np.float32)

    def step(self, guitar: Array, amplified: Array, fresh: bool) -> float:
        if fresh:
            self.state = self.trainer.new_state()
            self.before[:] = 0
        bright = emphasised(np.concatenate([self.before, amplified]))[1:]
        self.before[:] = amplified[-1:]
        loss = self.trainer.step(guitar, {"wave": amplified, "bright": bright}, state=self.state)
        self.schedule.step()
        return loss

    def play(self, guitar: Array) -> Array:
        found: Array = self.net.eval()(guitar)
        return found


def ratios(target: Array) -> dict[str, float]:
    """The weights that make a mean squared error an ESR."""
    heard = {"wave": target, "bright": emphasised(target)}
    return {name: 1 / float((wave.astype(np.float64) ** 2).mean()) for name, wave in heard.items()}


def windows(played: Array, target: Array, options: argparse.Namespace) -> Iterator[tuple[Array, Array, bool]]:
    """Windows from the beginning to the end, `--epochs` times; with True where they begin."""
    for _ in range(options.epochs):
        for at in range(0, len(played), options.length):
            part = slice(at, at + options.length)
            yield played[part], target[part], at == 0


# ---- what a plug-in does ------------------------------------------------------------------------


def callback(net: tr.Net, samples: Array) -> tuple[Array, NDArray[np.float64]]:
    """Stream mono samples (T, 1) block by block; the output, and the seconds that each block took."""
    stream = net.stream()
    count = len(samples) // BLOCK
    out = np.empty((count * BLOCK, 1), np.float32)
    seconds = np.empty(count)
    for number in range(count):
        part = slice(number * BLOCK, (number + 1) * BLOCK)
        began = time.perf_counter()
        stream.run(samples[part], out=out[part])  # allocates nothing
        seconds[number] = time.perf_counter() - began
    return out, seconds


def plot(path: Path, played: Array, target: Array, output: Array, begin: int) -> None:
    """Guitar, amplifier and net over 25 ms, and what is left, over mono samples (T,)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    part = slice(begin, begin + RATE // 40)
    ms = np.arange(part.start, part.stop) * 1e3 / RATE
    top.plot(ms, played[part], color="#9aa5b1", linewidth=1.0, label="guitar")
    top.plot(ms, target[part], color="#2f3a45", linewidth=2.2, label="amplifier")
    top.plot(ms, output[part], color="#c0392b", linewidth=1.0, label="net")
    bottom.plot(ms, output[part] - target[part], color="#c0392b", linewidth=1.0, label="net - amplifier")
    top.set_ylabel("amplitude")
    bottom.set_xlabel("ms")
    bottom.set_xlim(ms[0], ms[-1])
    for axis in (top, bottom):
        axis.axhline(0, color="#dddddd", linewidth=0.6, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    top.set_title("the sharpest attack of a recording that was not trained on", loc="left", fontsize=10)
    figure.savefig(path, dpi=110)


# ---- the script ---------------------------------------------------------------------------------


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=above_zero, default=4.0, help="of each recording")
    add("--columns", type=positive, default=16, help="recordings to learn from, side by side")
    add("--length", type=positive, default=512, help="samples per window of truncated BPTT")
    add("--epochs", type=positive, default=60, help="passes through the recordings")
    add("--rate", type=above_zero, default=1e-2, help="peak learning rate")
    add("--seed", type=natural, default=0, help="of the weights and the guitar")
    add("--plot", type=new_file, metavar="PNG", help="draw 25 ms; needs matplotlib")
    return parser


def learn(
    learners: dict[str, Learner],
    played: Array,
    target: Array,
    test: tuple[Array, Array],
    options: argparse.Namespace,
) -> None:
    """Train all learners side by side on the same windows, and print the progress."""
    losses: dict[str, list[float]] = {name: [] for name in learners}
    seconds = dict.fromkeys(learners, 0.0)
    an_epoch = -(-len(played) // options.length)
    every = max(1, options.epochs // 5) * an_epoch
    for number, window in enumerate(windows(played, target, options), 1):
        for name, learner in learners.items():
            began = time.perf_counter()
            losses[name].append(learner.step(*window))
            seconds[name] += time.perf_counter() - began
        if number % every == 0 or number == options.epochs * an_epoch:
            for name, learner in learners.items():
                found = learner.play(test[0])
                print(
                    f"epoch {number // an_epoch:3d} {seconds[name]:6.1f} s   {name:8s} "
                    f"ESR held out {100 * esr(found, test[1]):.2f} %, "
                    f"emphasised {100 * esr(emphasised(found), emphasised(test[1])):.2f} %",
                    flush=True,
                )
    if len(learners) > 1:
        one, two = (np.array(values) for values in losses.values())
        print(f"the losses of {len(one)} steps were at most {np.abs(one - two).max():.1e} apart")
    for name, values in losses.items():
        print(f"{name}: {seconds[name] / len(values) * 1e3:.2f} ms a step")


def recordings(options: argparse.Namespace) -> tuple[Array, Array, tuple[Array, Array]]:
    """Guitar and amplified to learn from, and both of the recordings held out."""
    columns = options.columns + HELD_OUT
    played = guitar(options.seconds, columns, options.seed)
    target = amplifier(played)
    kept = slice(0, options.columns), slice(options.columns, columns)
    (x, x_test), (y, y_test) = ([np.ascontiguousarray(a[:, k]) for k in kept] for a in (played, target))
    print(
        f"{x.size / RATE:.0f} s to learn from, {x_test.size / RATE:.0f} s held out, {RATE} samples a second"
    )
    print(f"ESR of the guitar itself: {100 * esr(x_test, y_test):.0f} %")
    return x, y, (x_test, y_test)


def run(options: argparse.Namespace) -> None:
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib, which is not installed")
    if options.seconds < 0.1:
        raise ValueError(f"--seconds: got {options.seconds}, expected at least 0.1")
    if options.guitar and options.guitar.suffix != ".npy":
        raise ValueError(f"--guitar: got {options.guitar}, expected a name that ends in .npy")
    played, target, test = recordings(options)
    net = build(options.seed)
    updates = options.epochs * -(-len(played) // options.length)
    learners: dict[str, Learner] = {"tinyrnn": Tinyrnn(net, target, options, updates)}
    if options.torch:
        from amp_torch import PyTorch

        learners["PyTorch"] = PyTorch(net, target, options, updates)
    learn(learners, played, target, test, options)

    net.eval().save(options.out)
    net = tr.load(options.out)
    small = tr.quantize(net, "int8", calibration=played[:RATE, :1])
    print()
    mono, wanted = test[0][:, 0], test[1][:, 0]
    for name, model in (("float32", net), ("int8", small)):
        found, seconds = callback(model, mono)
        whole = model(mono)[: len(found)]
        same = "the bits" if np.array_equal(found, whole) else "OTHER BITS than those"
        ratio, weights = esr(model(test[0]), test[1]), model.memory().weights
        middle, late = 1e6 * np.quantile(seconds, (0.5, 0.99))
        factor = 1e-6 * middle * RATE / BLOCK
        print(f"{name}: ESR held out {100 * ratio:.3f} %, {weights:,} bytes of weights; a stream has {same}")
        print(f"    of the whole and takes {middle:.1f} µs for {BLOCK} samples (99 %: {late:.1f}), ", end="")
        print(f"real-time factor {factor:.4f}")
    size = options.out.stat().st_size
    print(f"{options.out}: {size:,} bytes")
    if options.guitar:
        np.save(options.guitar, mono)
    if options.plot:
        loudest = int(np.argmax(np.abs(np.diff(mono[: -RATE // 40, 0]))))
        plot(options.plot, mono[:, 0], wanted[:, 0], net(mono)[:, 0], max(0, loudest - RATE // 200))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Learn a guitar amplifier with tinyrnn.")
    add = parser.add_argument
    add("--out", type=new_file, metavar="FILE", default=Path("amp.safetensors"), help="where the net goes")
    add("--guitar", type=new_file, metavar="NPY", help="where one recording held out goes")
    add("--torch", action="store_true", help="train PyTorch's twin beside it")
    try:
        run(parser.parse_args(arguments))
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; this needs it")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
