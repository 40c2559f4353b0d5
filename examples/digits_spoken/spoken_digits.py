"""Train a net to hear digits in speech that nobody has cut up: CTC over a bidirectional GRU.

    python spoken_digits.py                  # espeak-ng says the digits; tones where it is not installed
    python spoken_digits.py --source tones --save digits.safetensors

The net gives log-probabilities of ten digits and a blank every 20 ms; CTC finds by itself where the digits
are. A path through them reads as what is left when repeats are joined and blanks are dropped. Greedy decoding
reads the likeliest path; a beam search adds up the paths that read the same.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spoken import BANDS, Array, Utterance, has_espeak, make_utterances, speakers

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, positive

BLANK = 10  # a class like the digits, after them


# Of each reading: log-probabilities of the paths that end with a blank, and of those that do not.
Sums = dict[tuple[int, ...], tuple[float, float]]


class Batch(NamedTuple):
    """Utterances side by side."""

    features: Array  # (T, B, BANDS), zeros beyond a row's length
    lengths: NDArray[np.int32]  # (B,)
    digits: NDArray[np.int32]  # (B, S), zeros beyond
    counts: NDArray[np.int32]  # (B,) of digits


class Data(NamedTuple):
    """Utterances by what they are for."""

    train: list[Utterance]
    test: list[Utterance]  # voices of the training at speeds that it did not hear from them
    strange: list[Utterance]  # voices that the training did not hear


def build(hidden: int, seed: int) -> tr.Sequential:
    """The net with fresh weights."""
    tr.manual_seed(seed)
    return tr.Sequential(
        {
            "gru": tr.GRU(BANDS, hidden, bidirectional=True),
            "head": tr.Linear(2 * hidden, BLANK + 1),
            "log": tr.LogSoftmax(-1),
        }
    )


def make_data(options: argparse.Namespace) -> Data:
    """The data that both scripts train and test on."""
    tones = options.source == "tones" or (options.source == "auto" and not has_espeak())
    began = time.perf_counter()
    generator = np.random.default_rng(options.seed)
    counts = (options.utterances, options.test, options.test)
    among = speakers(options.seed)
    data = Data(*(make_utterances(a, n, generator, tones) for a, n in zip(among, counts, strict=True)))
    source = "tones" if tones else "espeak-ng"
    print(f"{sum(counts)} utterances by {source}  {time.perf_counter() - began:5.1f} s", flush=True)
    return data


def as_batch(utterances: Sequence[Utterance]) -> Batch:
    """Utterances as arrays, padded to the longest."""
    lengths = np.array([len(one.features) for one in utterances], np.int32)
    counts = np.array([len(one.digits) for one in utterances], np.int32)
    features = np.zeros((lengths.max(), len(utterances), BANDS), np.float32)
    digits = np.zeros((len(utterances), counts.max()), np.int32)
    for row, one in enumerate(utterances):
        features[: lengths[row], row] = one.features
        digits[row, : counts[row]] = one.digits
    return Batch(features, lengths, digits, counts)


def batches(utterances: Sequence[Utterance], size: int, generator: np.random.Generator) -> Iterator[Batch]:
    """Batches of similar lengths, in an order drawn.

    Every utterance is in one of them, but for the few that would make a smaller batch, others each time: a
    trainer is laid out for one size.
    """
    shuffled = generator.permutation(len(utterances))[len(utterances) % size :]
    order = sorted(shuffled, key=lambda i: len(utterances[i].features))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    for group in generator.permutation(len(groups)):
        yield as_batch([utterances[i] for i in groups[group]])


# ---- training -----------------------------------------------------------------------------------


def train(net: tr.Sequential, data: Sequence[Utterance], options: argparse.Namespace) -> list[float]:
    """The loss of every step, in nats per digit; one line of print for each pass over the data."""
    optimizer = tr.optim.Adam(net, lr=options.rate)
    trainer = net.trainer(
        optimizer,
        tr.CTCLoss(blank=BLANK),
        batch=options.batch,
        steps=max(len(one.features) for one in data),
        target_steps=max(len(one.digits) for one in data),
        threads=options.threads,
        clip_norm=options.clip,
    )
    print(f"{trainer.memory.total:,} bytes to train in", flush=True)
    steps = options.epochs * (len(data) // options.batch)
    schedule = tr.optim.OneCycleLR(optimizer, options.rate, steps, cycle_momentum=False)
    generator = np.random.default_rng(options.seed)
    losses: list[float] = []
    seconds = 0.0
    for epoch in range(1, options.epochs + 1):
        for features, lengths, digits, counts in batches(data, options.batch, generator):
            began = time.perf_counter()
            losses.append(trainer.step(features, (digits, counts), lengths))
            if len(losses) < steps:
                schedule.step()
            seconds += time.perf_counter() - began
        report_epoch(epoch, losses[-len(losses) // epoch :], seconds)
    return losses


def report_epoch(epoch: int, losses: Sequence[float], seconds: float) -> None:
    print(f"epoch {epoch:3}  loss {np.mean(losses):7.4f}  {seconds:5.1f} s", flush=True)


# ---- decoding -----------------------------------------------------------------------------------


def decode_greedily(y: Array) -> tuple[int, ...]:
    """Read the digits off the likeliest path through (T, classes) log-probabilities."""
    path = y.argmax(1)
    new = np.concatenate([[True], path[1:] != path[:-1]])
    return tuple(int(symbol) for symbol in path[new & (path != BLANK)])


def decode_beam(y: Array, width: int) -> tuple[int, ...]:
    """The likeliest reading that a prefix beam search finds in (T, classes) log-probabilities.

    Of each of the ``width`` likeliest beginnings it keeps two sums over the paths that read so: those that
    end with a blank, and those that do not. (Hannun, Maas, Jurafsky, Ng, First-Pass Large Vocabulary
    Continuous Speech Recognition using Bi-Directional Recurrent DNNs, 2014; here without a language model.)
    """
    beam: Sums = {(): (0.0, -math.inf)}
    for frame in y.astype(np.float64).tolist():
        longer: Sums = {}
        for reading, (blank, other) in beam.items():
            either = add_logs(blank, other)
            add_path(longer, reading, blank=either + frame[BLANK])
            for symbol in range(BLANK):
                if reading and reading[-1] == symbol:  # a repeat is a new digit only after a blank
                    add_path(longer, reading, other=other + frame[symbol])
                    add_path(longer, (*reading, symbol), other=blank + frame[symbol])
                else:
                    add_path(longer, (*reading, symbol), other=either + frame[symbol])
        beam = dict(sorted(longer.items(), key=lambda item: -add_logs(*item[1]))[:width])
    return next(iter(beam))


def add_path(
    sums: Sums, reading: tuple[int, ...], blank: float = -math.inf, other: float = -math.inf
) -> None:
    """Count paths in: those of a log-probability ``blank`` that end with a blank, ``other`` that do not."""
    had = sums.get(reading, (-math.inf, -math.inf))
    sums[reading] = add_logs(had[0], blank), add_logs(had[1], other)


def add_logs(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    a, b = max(a, b), min(a, b)
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def edit_distance(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Insertions, deletions and substitutions that make one out of the other (Levenshtein)."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def error_rate(found: Sequence[Sequence[int]], utterances: Sequence[Utterance]) -> float:
    """Edits per digit that was said."""
    edits = sum(edit_distance(a, one.digits) for a, one in zip(found, utterances, strict=True))
    return edits / sum(len(one.digits) for one in utterances)


def listen(net: tr.Sequential, utterances: Sequence[Utterance], options: argparse.Namespace) -> list[Array]:
    """(T, classes) log-probabilities of each."""
    heard = []
    for first in range(0, len(utterances), options.batch):
        batch = as_batch(utterances[first : first + options.batch])
        y = net(batch.features, lengths=batch.lengths, threads=options.threads)
        heard += [y[:length, row] for row, length in enumerate(batch.lengths)]
    return heard


# ---- the script ---------------------------------------------------------------------------------


def training_parser(description: str) -> argparse.ArgumentParser:
    """The options that spoken_digits.py and spoken_digits_torch.py share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--source", choices=["auto", "espeak", "tones"], default="auto", help="auto: tones without espeak-ng")
    add("--utterances", type=positive, default=800, help="to train on")
    add("--test", type=positive, default=200, help="to test on, twice: unheard speeds, unheard voices")
    add("--epochs", type=positive, default=12, help="passes over the training data")
    add("--batch", type=positive, default=16, help="utterances in a batch")
    add("--rate", type=above_zero, default=5e-3, help="largest learning rate of the one cycle")
    add("--hidden", type=positive, default=64, help="hidden size in each direction")
    add("--clip", type=above_zero, default=5.0, help="largest norm of the gradients")
    add("--seed", type=natural, default=0, help="of weights, data and batches")
    add("--threads", type=positive, default=1, help="threads that share a batch")
    return parser


def run(options: argparse.Namespace) -> None:
    data = make_data(options)
    net = build(options.hidden, options.seed)
    train(net, data.train, options)
    for what, some in (("speeds", data.test), ("voices", data.strange)):
        heard = listen(net, some, options)
        greedy = error_rate([decode_greedily(y) for y in heard], some)
        beam = error_rate([decode_beam(y, options.beam) for y in heard], some)
        print(f"unheard {what}: errors per digit, greedy {greedy:.2%}, beam of {options.beam} {beam:.2%}")
    for y, one in zip(heard[:5], data.strange, strict=False):
        found, said = ("".join(map(str, digits)) for digits in (decode_beam(y, options.beam), one.digits))
        print(f"  {one.speaker.voice}, {one.speaker.speed} words a minute, said {said}: heard {found}")
    if options.save is not None:
        net.save(options.save)


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser("Train a net to hear spoken digits, with CTC.")
    parser.add_argument("--beam", type=positive, default=8, help="readings that the beam search keeps")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the net, as safetensors")
    options = parser.parse_args(arguments)
    if options.batch > options.utterances:
        parser.error(f"--batch is {options.batch}, expected at most {options.utterances}, the --utterances")
    if options.source == "espeak" and not has_espeak():
        parser.error(
            "espeak-ng is not installed (Debian: apt install espeak-ng); --source tones does without"
        )
    if options.save is not None and options.save.suffix != ".safetensors":
        parser.error(f"--save: got {options.save}, expected a name that ends in .safetensors")
    if options.save is not None and not options.save.parent.is_dir():
        parser.error(f"--save: there is no folder {options.save.parent}")
    try:
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
