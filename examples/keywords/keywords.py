"""Train a net to hear which digit is said, shrink it to int8, and stream it frame by frame.

    python keywords.py                       # espeak-ng says the digits; tones where it is not installed
    python keywords.py --out keywords.safetensors

Two convolutions over time, each of which drops every other step, a GRU, and one answer for a recording: many
steps in, one class out. The stream gives the answer for the steps so far, with the bits of the whole call.
The recordings and their features are those of ../digits_spoken, which has strings of digits.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, new_file, positive

sys.path.append(str(Path(__file__).resolve().parent.parent / "digits_spoken"))

from spoken import BANDS, HOP, WINDOW, WORDS, Array, Speaker, has_espeak, log_energies, record, speakers

QUIET = 0.3  # seconds at most, before and after a word
NOISE = 0.003, 0.03  # the deviation of white noise; a word's peak is 0.1 to 0.8


class Words(NamedTuple):
    """Recordings of a digit each."""

    features: list[Array]  # of each (T, BANDS): logarithms of energies
    digits: NDArray[np.int32]


class Data(NamedTuple):
    """Recordings by their use."""

    train: Words
    known: Words  # voices of the training at speeds that it did not hear from them: for validation
    strange: Words  # voices that the training did not hear


# ---- data ---------------------------------------------------------------------------------------


def make_word(digit: int, speaker: Speaker, seed: int, tones: bool) -> Array:
    """The features of a digit somewhere in a noisy recording, (T, BANDS)."""
    samples, rate = record([digit], speaker, tones)
    generator = np.random.default_rng(seed)
    before, after = (round(seconds * rate) for seconds in generator.uniform(0, QUIET, 2))
    loud = generator.uniform(0.3, 1.0) * np.pad(samples, (before, after))
    noise = np.exp(generator.uniform(*np.log(NOISE)))
    noisy = loud + noise * generator.standard_normal(len(loud))
    return log_energies(noisy.astype(np.float32), rate).astype(np.float32)


def make_words(among: Sequence[Speaker], count: int, generator: np.random.Generator, tones: bool) -> Words:
    """``count`` recordings, each of a digit and by a speaker drawn."""
    digits = generator.integers(0, 10, count)
    drawn = [among[i] for i in generator.integers(len(among), size=count)]
    seeds = generator.integers(1 << 32, size=count)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a thread waits for espeak-ng most of its time
        features = list(pool.map(make_word, digits.tolist(), drawn, seeds.tolist(), [tones] * count))
    return Words(features, digits.astype(np.int32))


def make_data(options: argparse.Namespace) -> Data:
    tones = options.source == "tones" or (options.source == "auto" and not has_espeak())
    began = time.perf_counter()
    generator = np.random.default_rng(options.seed)
    counts = (options.words, options.test, options.test)
    among = speakers(options.seed)
    data = Data(*(make_words(a, n, generator, tones) for a, n in zip(among, counts, strict=True)))
    source = "tones" if tones else "espeak-ng"
    print(f"{sum(counts)} words by {source}  {time.perf_counter() - began:5.1f} s", flush=True)
    return data


# ---- the net ------------------------------------------------------------------------------------


def build(words: Words, seed: int) -> tr.Sequential:
    """The net with fresh weights. It brings its input to a mean of 0 and a deviation of 1 in those words."""
    tr.manual_seed(seed)
    everything = np.concatenate(words.features)
    mean, deviation = float(everything.mean()), float(everything.std())
    return tr.Sequential(
        {
            "norm": tr.Scale(1 / deviation, -mean / deviation),
            "conv1": tr.TimeConv1d(BANDS, 32, 5, stride=2, padding=2),
            "relu1": tr.ReLU(),
            "conv2": tr.TimeConv1d(32, 32, 3, stride=2, padding=1),
            "relu2": tr.ReLU(),
            "gru": tr.GRU(32, 48),
            "last": tr.LastStep(),
            "head": tr.Linear(48, 10),
        }
    )


def front_of(net: tr.Sequential) -> tr.Sequential:
    """The layers before the GRU: their output has a rate of its own."""
    return tr.Sequential(*list(net)[:5])


def train(net: tr.Sequential, data: Data, options: argparse.Namespace) -> tr.History:
    optimizer = tr.optim.AdamW(net, lr=options.rate, weight_decay=0.05)
    steps = options.epochs * -(-len(data.train.digits) // options.batch)
    return net.fit(
        *data.train,
        epochs=options.epochs,
        batch_size=options.batch,
        loss="cross_entropy",
        optimizer=optimizer,
        validation_data=tuple(data.known),
        metrics="accuracy",
        callbacks=[tr.optim.OneCycleLR(optimizer, options.rate, steps)],
        seed=options.seed,
        verbose=2,
        threads=options.threads,
        clip_norm=5.0,
    )


def accuracy(net: tr.Net, words: Words) -> float:
    """The part of the words that the net gets right."""
    return net.evaluate(*words, loss="cross_entropy", metrics="accuracy")["accuracy"]


# ---- streams ------------------------------------------------------------------------------------


def latency(net: tr.Sequential) -> tuple[int, int]:
    """Return (steps from the first one to the first frame that the GRU gets, steps from frame to frame)."""
    stream = front_of(net).stream()
    silence, due = np.zeros(BANDS, np.float32), []
    while len(due) < 2:
        due.append(0 if not due else due[-1] + 1)
        while stream.step(silence) is None:
            due[-1] += 1
    return due[0], due[1] - due[0]


def answers(net: tr.Sequential, features: Array) -> Array:
    """The logits of a stream after each step, (T, 10); after the last one those of the whole recording.

    At its end the stream also gets the frames that reach into the padding.
    """
    stream = net.stream()
    found = [stream.step(frame) for frame in features[:-1]]
    found.append(stream.run(features[-1:], end=True))
    return np.stack(found)


def check_bits(net: tr.Sequential, words: Sequence[Array]) -> None:
    """Expect of each word that the stream ends with the bits of the whole call, and its frames have them."""
    front = front_of(net)
    for features in words:
        assert answers(net, features)[-1].tobytes() == net(features).tobytes()
        stream = front.stream()
        frames = [frame for frame in map(stream.step, features[:-1]) if frame is not None]
        streamed = np.concatenate(
            [*(frame[np.newaxis] for frame in frames), stream.run(features[-1:], end=True)]
        )
        assert streamed.tobytes() == front(features).tobytes()


def microseconds(net: tr.Sequential, words: Sequence[Array]) -> float:
    """The mean time of a step: of four, one runs all layers, the others some of them."""
    stream, out = net.stream(), np.empty(10, np.float32)
    means = []
    for features in words:
        stream.reset()
        began = time.perf_counter_ns()
        for frame in features:
            stream.step(frame, out=out)
        means.append((time.perf_counter_ns() - began) / len(features) / 1000)
    return float(np.median(means))


def show(net: tr.Sequential, features: Array, digit: int) -> None:
    """Print each change of the stream's answer."""
    print(f"{WORDS[digit]!r}, {len(features)} steps of {1000 * HOP:.0f} ms, as the stream hears it:")
    logits = answers(net, features)
    first, _ = latency(net)
    before = -1
    for step, y in enumerate(logits):
        best = int(y.argmax())
        is_last = step == len(logits) - 1
        if step >= min(first, len(logits) - 1) and (best != before or is_last):
            share = 1 / np.exp(y - y[best]).sum()
            print(f"  {1000 * (step * HOP + WINDOW):5.0f} ms  {WORDS[best]:5}  {share:4.0%}")
            before = best


# ---- the script ---------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    data = make_data(options)
    net = build(data.train, options.seed)
    train(net, data, options)
    small = tr.quantize(net, "int8", calibration=data.train.features[:200])
    some = data.strange.features[:50]
    for name, one, path in (("float32", net, None), ("int8", small, options.out)):
        with tempfile.TemporaryDirectory() as folder:
            path = path or Path(folder) / "net.safetensors"
            one.save(path)
            size, loaded = path.stat().st_size, tr.load(path)
        assert isinstance(loaded, tr.Sequential)
        check_bits(loaded, some)
        assert all(loaded(features).tobytes() == one(features).tobytes() for features in some)
        known, strange = accuracy(loaded, data.known), accuracy(loaded, data.strange)
        print(
            f"{name:8} right: {known:.2%} at unheard speeds, {strange:.2%} of unheard voices; "
            f"{size:,} bytes of file; {microseconds(loaded, some):.1f} µs a step ({tr.isa()})"
        )
    first, stride = latency(small)
    print(front_of(small).describe().splitlines()[2].strip())
    print(
        f"latency: the first frame {1000 * (first * HOP + WINDOW):.0f} ms after the audio begins, then one "
        f"every {1000 * stride * HOP:.0f} ms; it lags {1000 * first * HOP:.0f} ms behind its middle step"
    )
    show(small, data.strange.features[0], int(data.strange.digits[0]))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Hear which digit is said, frame by frame.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--source", choices=["auto", "espeak", "tones"], default="auto", help="auto: tones without espeak-ng")
    add("--words", type=positive, default=1600, help="to train on")
    add("--test", type=positive, default=400, help="to test on, twice: unheard speeds, unheard voices")
    add("--epochs", type=positive, default=20, help="passes over the training data")
    add("--batch", type=positive, default=32, help="words in a batch")
    add("--rate", type=above_zero, default=5e-3, help="largest learning rate of the one cycle")
    add("--seed", type=natural, default=0, help="of weights, data and batches")
    add("--threads", type=positive, default=1, help="threads that share a batch")
    add("--out", type=new_file, metavar="FILE", help="where the int8 net goes, a .safetensors")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.source == "espeak" and not has_espeak():
        parser.error(
            "espeak-ng is not installed (Debian: apt install espeak-ng); --source tones does without"
        )
    if options.out is not None and options.out.suffix != ".safetensors":
        parser.error(f"--out: got {options.out}, expected a name that ends in .safetensors")
    try:
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
