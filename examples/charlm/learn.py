"""Train a character language model with tinyrnn: truncated BPTT through two LSTM layers.

    python learn.py                                          # the standard library's own text
    python learn.py --text shakespeare.txt --out shakespeare.safetensors
    python learn.py --text shakespeare.txt --steps 300 --torch
    python stream.py --checkpoint shakespeare.safetensors --temperature 0.7

`--batch` columns of text are read side by side, `--length` characters at a time; the state is carried from
one window to the next, its gradient is not. Adam with a one-cycle schedule, gradients clipped to a norm of 1.
The last tenth of the text is never trained on. With `--torch` PyTorch trains beside, from the same weights on
the same batches (learn_torch.py), and the end says how far the losses were apart and what a step took.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from corpus import Symbols, batches, encode, in_columns, read_file, read_topics, split
from stream import VOCABULARY, continuation

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, new_file, positive

CLIP_NORM = 1.0
WARM_UP = 0.1  # the part of all steps in which the rate rises


class Learner(Protocol):
    """A learner from batches: `Tinyrnn` here, `PyTorch` in learn_torch.py."""

    def step(self, inputs: Symbols, targets: Symbols, fresh: bool) -> float:
        """One update from a window (T, B); the loss in nats per character before it."""

    def validate(self, symbols: Symbols) -> float:
        """Nats per character over a text."""

    def save(self, path: Path) -> None:
        """Write the model to a file."""


def build(seed: int) -> tr.Sequential:
    """Embedding, two LSTM layers, linear head, named as in train.py."""
    tr.manual_seed(seed)
    return tr.Sequential(
        {
            "embedding": tr.Embedding(len(VOCABULARY), 32),
            "lstm": tr.LSTM(32, 128, num_layers=2),
            "head": tr.Linear(128, len(VOCABULARY)),
        }
    )


class Tinyrnn:
    """A net, its optimiser and the memory that training takes, laid out once."""

    def __init__(self, net: tr.Net, options: argparse.Namespace) -> None:
        self.net = net.train()
        optimizer = tr.optim.Adam(net, lr=options.rate)
        self.schedule = tr.optim.OneCycleLR(optimizer, options.rate, options.steps, pct_start=WARM_UP)
        self.trainer = net.trainer(
            optimizer,
            tr.CrossEntropyLoss(),
            batch=options.batch,
            steps=options.length,
            threads=options.threads,
            clip_norm=CLIP_NORM,
        )
        self.state = self.trainer.new_state()

    def step(self, inputs: Symbols, targets: Symbols, fresh: bool) -> float:
        if fresh:
            self.state = self.trainer.new_state()
        loss = self.trainer.step(inputs, targets, state=self.state)
        self.schedule.step()
        return loss

    def validate(self, symbols: Symbols) -> float:
        return mean_loss(self.net, symbols)

    def save(self, path: Path) -> None:
        self.net.save(path)


def mean_loss(net: tr.Net, symbols: Symbols, columns: int = 16) -> float:
    """Nats per character over the text, read in parallel columns, each from a zero state."""
    training = net.training
    loss = tr.CrossEntropyLoss(reduction="sum")
    stream = net.eval().stream(batch=columns)
    inputs, targets = in_columns(symbols, columns)
    total = 0.0
    for at in range(0, len(inputs), 256):
        total += loss(stream.run(inputs[at : at + 256]), targets[at : at + 256])[0]
    net.train(training)
    return total / targets.size


def run(learners: dict[str, Learner], symbols: Symbols, options: argparse.Namespace) -> None:
    """Train all learners side by side on the same batches, and print the progress; Ctrl-C ends it early."""
    train, validation = split(symbols)
    windows = islice(batches(train, options.batch, options.length, options.seed), options.steps)
    print(f"{len(train):,} characters to train on, {len(validation):,} to validate on")
    losses: dict[str, list[float]] = {name: [] for name in learners}
    seconds = dict.fromkeys(learners, 0.0)
    try:
        for step, window in enumerate(windows, 1):
            for name, learner in learners.items():
                began = time.perf_counter()
                losses[name].append(learner.step(*window))
                seconds[name] += time.perf_counter() - began
            if step % options.every == 0 or step == options.steps:
                for name, learner in learners.items():
                    recent = np.mean(losses[name][-options.every :])
                    print(
                        f"step {step:5d} {seconds[name]:6.1f} s   {name:8s} training {recent:.4f}, "
                        f"validation {learner.validate(validation):.4f} nats per character",
                        flush=True,
                    )
    except KeyboardInterrupt:
        print("stopped; what was learnt so far is kept")
    done = min(map(len, losses.values()))
    if len(learners) > 1 and done:
        one, two = (np.array(values[:done]) for values in losses.values())
        print(f"the losses of {done} steps were at most {np.abs(one - two).max():.1e} apart")
    for name in learners:
        if done:
            print(f"{name}: {seconds[name] / done * 1e3:.1f} ms a step")


def finish(net: tr.Net, learners: dict[str, Learner], symbols: Symbols, options: argparse.Namespace) -> None:
    """Train, save the net and let it write."""
    run(learners, symbols, options)
    learners["tinyrnn"].save(options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    if options.write > 0:
        write(net, options.write)


def write(net: tr.Net, length: int) -> None:
    """Print the net's text after an empty line, drawn at a temperature of 0.7."""
    stream = net.eval().stream()
    logits = stream.run(encode("\n\n"))[-1]
    text = continuation(stream, logits, 0.7, np.random.default_rng(0))
    print(f"\n{''.join(islice(text, length))}")


def training_parser(description: str, out: str, steps: int, peak: float) -> argparse.ArgumentParser:
    """The options that learn.py, adapt.py and their twins share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=positive, default=steps, help="optimiser steps")
    add("--batch", type=positive, default=32, help="columns of text read in parallel")
    add("--length", type=positive, default=64, help="characters per window of truncated BPTT")
    add("--rate", type=above_zero, default=peak, help="peak learning rate")
    add("--seed", type=natural, default=0, help="of the weights and the order of the text")
    add("--threads", type=positive, default=1, help="that share a batch")
    add("--every", type=positive, default=500, help="steps between two lines of progress")
    add("--out", type=new_file, metavar="FILE", default=Path(out), help="where the model goes")
    return parser


def make_parser(description: str, out: str) -> argparse.ArgumentParser:
    parser = training_parser(description, out, steps=6000, peak=6e-3)
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text; None: pydoc's topics")
    return parser


def read(options: argparse.Namespace) -> Symbols:
    """The symbols of the text that was asked for."""
    return encode(read_topics() if options.text is None else read_file(options.text))


def learn(options: argparse.Namespace) -> None:
    symbols = read(options)
    net = build(options.seed)
    learners: dict[str, Learner] = {"tinyrnn": Tinyrnn(net, options)}
    if options.torch:
        from learn_torch import PyTorch, twin

        learners["PyTorch"] = PyTorch(twin(net), options)
    finish(net, learners, symbols, options)


def told(error: Exception) -> str:
    """The text of an error, one line for the person who called the script."""
    if isinstance(error, FileNotFoundError):
        return f"{error.filename}: there is no such file"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; this needs it"
    return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Train a character model with tinyrnn.", "learnt.safetensors")
    parser.add_argument("--torch", action="store_true", help="train PyTorch's twin beside it")
    parser.add_argument("--write", type=natural, default=400, help="characters to write at the end")
    options = parser.parse_args(arguments)
    try:
        learn(options)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
