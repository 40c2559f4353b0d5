"""Tell handwritten digits apart, reading each row by row: a GRU that sees 8 rows of 8 pixels.

    python digits.py
    python digits.py --torch
    python digits.py --out digits.safetensors --plot digits.png

1,797 digits from scikit-learn, a fifth of them, drawn at random, kept for the test. The net answers after
the last row; only that answer has a loss, so the gradient goes back through all eight rows. AdamW with a
one-cycle schedule. With `--torch` PyTorch trains beside, from the same weights on the same batches
(digits_torch.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, new_file, positive

HIDDEN = 64
WEIGHT_DECAY = 0.1

Images = NDArray[np.float32]
Labels = NDArray[np.int32]


class Digits(NamedTuple):
    """Images (N, 8 rows, 8 pixels), 0 .. 1, and their labels (N,)."""

    images: Images
    labels: Labels


class Learner(Protocol):
    """A learner from batches: `Tinyrnn` here, `PyTorch` in digits_torch.py."""

    def step(self, images: Images, labels: Labels) -> float:
        """One update from a batch; the loss before it."""

    def answers(self, images: Images) -> NDArray[np.integer]:
        """The digit that each image most likely is."""


def read() -> tuple[Digits, Digits]:
    """The digits to train on and those to test with."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            "the digits come from scikit-learn, which is missing: pip install scikit-learn"
        ) from None
    data = load_digits()
    images, labels = (data.images / 16).astype(np.float32), data.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.split(order, [len(order) // 5])
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def batches(digits: Digits, size: int, seed: int) -> Iterator[Digits]:
    """One pass over the digits in an order of its own, without the rest that does not fill a batch."""
    order = np.random.default_rng(seed).permutation(len(digits.labels))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield Digits(digits.images[chosen], digits.labels[chosen])


def build(seed: int) -> tr.Sequential:
    """A GRU over the rows, and a linear layer that answers."""
    tr.manual_seed(seed)
    return tr.Sequential({"gru": tr.GRU(8, HIDDEN, batch_first=True), "head": tr.Linear(HIDDEN, 10)})


class Tinyrnn:
    """A net, its optimiser and the memory that training takes, laid out once."""

    def __init__(self, net: tr.Sequential, options: argparse.Namespace, steps: int) -> None:
        self.net = net.train()
        optimizer = tr.optim.AdamW(net, lr=options.rate, weight_decay=WEIGHT_DECAY)
        self.schedule = tr.optim.OneCycleLR(optimizer, options.rate, steps)
        loss = tr.CrossEntropyLoss()
        self.trainer = net.trainer(optimizer, loss, batch=options.batch, steps=8, threads=options.threads)

    def step(self, images: Images, labels: Labels) -> float:
        loss = self.trainer.step(images, labels)  # one label an image: the loss of the last row's answer
        self.schedule.step()
        return loss

    def answers(self, images: Images) -> NDArray[np.integer]:
        logits = self.net.eval()(images, last=True)
        self.net.train()
        return np.argmax(logits, axis=-1)


def accuracy(learner: Learner, digits: Digits) -> float:
    """The part of the digits that the learner gets right."""
    return float(np.mean(learner.answers(digits.images) == digits.labels))


def run(learners: dict[str, Learner], train: Digits, test: Digits, options: argparse.Namespace) -> None:
    """Train all learners side by side on the same batches, and print the progress."""
    losses: dict[str, list[float]] = {name: [] for name in learners}
    seconds = dict.fromkeys(learners, 0.0)
    for epoch in range(1, options.epochs + 1):
        for images, labels in batches(train, options.batch, options.seed + epoch):
            for name, learner in learners.items():
                began = time.perf_counter()
                losses[name].append(learner.step(images, labels))
                seconds[name] += time.perf_counter() - began
        if epoch % 5 == 0 or epoch == options.epochs:
            for name, learner in learners.items():
                known, new = accuracy(learner, train), accuracy(learner, test)
                print(
                    f"epoch {epoch:3d} {seconds[name]:5.1f} s   {name:8s} loss {losses[name][-1]:.4f}, "
                    f"accuracy {known:.2%} in training, {new:.2%} in the test"
                )
    if len(learners) > 1:
        one, two = map(np.array, losses.values())
        print(f"the losses of {len(one)} steps were at most {np.abs(one - two).max():.1e} apart")
    for name in learners:
        print(f"{name}: {seconds[name] / len(losses[name]) * 1e3:.2f} ms a step")


def draw(image: Images) -> str:
    """An image in characters, two to a pixel."""
    return "\n".join("".join(" .:*#@"[round(5 * float(pixel))] * 2 for pixel in row) for row in image)


def plot(path: Path, net: tr.Sequential, digits: Digits) -> None:
    """Draw some digits, wrong answers first, and the probability of every digit after each row."""
    from matplotlib.figure import Figure

    logits = net(digits.images)  # (N, 8, 10): an answer after each row
    likely = np.exp(logits - logits.max(-1, keepdims=True))
    likely /= likely.sum(-1, keepdims=True)
    answers = likely[:, -1].argmax(-1)
    chosen = np.argsort(answers == digits.labels, kind="stable")[:8]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    above, below = figure.subplots(2, len(chosen), sharey=True)
    for i, image, answer in zip(chosen, above, below, strict=True):
        image.imshow(digits.images[i], cmap="Greys", vmin=0, vmax=1)
        right = answers[i] == digits.labels[i]
        said = f"{answers[i]}" if right else f"{answers[i]}, is {digits.labels[i]}"
        image.set_title(said, fontsize=10, color="black" if right else "#c0392b")
        image.set_xticks([])
        shown = answer.imshow(likely[i], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        answer.set_xticks(range(10), map(str, range(10)), fontsize=7)
        answer.set_yticks([0, 7], ["1", "8"])
    figure.suptitle("what the net says; in red where it is wrong", fontsize=10)
    above[0].set_ylabel("row")
    below[0].set_ylabel("row that was read")
    below[0].set_xlabel("digit")
    figure.colorbar(shown, ax=list(below), label="probability", pad=0.01)
    figure.savefig(path, dpi=100)


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--epochs", type=positive, default=30, help="passes over the digits")
    add("--batch", type=positive, default=32, help="digits in a step")
    add("--rate", type=above_zero, default=1e-2, help="peak learning rate")
    add("--seed", type=natural, default=0, help="of the weights and the order")
    add("--threads", type=positive, default=1, help="that share a batch")
    return parser


def steps(train: Digits, options: argparse.Namespace) -> int:
    """Optimiser steps of the whole training."""
    if options.batch > len(train.labels):
        raise ValueError(
            f"--batch is {options.batch}, expected at most {len(train.labels)}, all digits there are"
        )
    return options.epochs * (len(train.labels) // options.batch)


def learn(options: argparse.Namespace) -> None:
    train, test = read()
    net = build(options.seed)
    learners: dict[str, Learner] = {"tinyrnn": Tinyrnn(net, options, steps(train, options))}
    if options.torch:
        from digits_torch import PyTorch

        learners["PyTorch"] = PyTorch(net, options, steps(train, options))
    run(learners, train, test, options)
    answers = learners["tinyrnn"].answers(test.images)
    wrong = np.flatnonzero(answers != test.labels)
    print(f"{len(wrong)} of {len(answers)} in the test are wrong")
    for i in wrong[:1]:
        print(f"taken for a {answers[i]}, is a {test.labels[i]}:\n{draw(test.images[i])}")
    if options.out is not None:
        net.save(options.out)
        print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    if options.plot is not None:
        plot(options.plot, net.eval(), test)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Tell handwritten digits apart with tinyrnn.")
    parser.add_argument("--torch", action="store_true", help="train PyTorch's twin beside it")
    parser.add_argument("--out", type=new_file, metavar="FILE", help="where the net goes, a .safetensors")
    parser.add_argument("--plot", type=new_file, metavar="PNG", help="draw some answers; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    try:
        learn(options)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; this needs it")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
