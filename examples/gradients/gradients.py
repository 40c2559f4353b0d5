"""Watch the gradient vanish, explode, or arrive: RNNs and LSTMs that must remember their first input.

    python gradients.py --out pictures
    python gradients.py --no-plot

A sequence begins with +1 or -1; noise follows for a hundred steps, and only then the net has to say which it
was. Whether it can learn that depends on what is left of the gradient when it comes back to the first step.
`tr.inspect.gradient_norms` shows it for fresh nets. Two of them are then trained, `tr.inspect.loss_curves`
shows how far they come, and `tr.inspect.gate_activations` what the LSTM's gates do.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import folder, natural, positive

HIDDEN = 32
BATCH = 32
RATE = 3e-3
CLIP_NORM = 1.0
COLOURS = ("#0072b2", "#e69f00", "#000000", "#d55e00", "#cc79a7")  # which everybody can tell apart

Array = NDArray[np.float32]


def batch(generator: np.random.Generator, steps: int) -> tuple[Array, NDArray[np.int64]]:
    """Sequences (T, B, 2) of a signal and noise, and the class of the first signal, (B,): 0 or 1."""
    first = generator.integers(0, 2, BATCH)
    x = np.zeros((steps, BATCH, 2), np.float32)
    x[0, :, 0] = 2 * first - 1
    x[:, :, 1] = generator.normal(0, 1, (steps, BATCH))
    return x, first


def rnn(seed: int, factor: float = 1.0) -> tr.Sequential:
    """An RNN as PyTorch starts it, recurrent weights times a factor."""
    tr.manual_seed(seed)
    net = tr.Sequential({"rnn": tr.RNN(2, HIDDEN), "head": tr.Linear(HIDDEN, 2)})
    weights = net.state_dict()
    weights["rnn.weight_hh_l0"] *= np.float32(factor)
    net.load_state_dict(weights)
    return net


def lstm(seed: int, forget: float = 0.0) -> tr.Sequential:
    """An LSTM as PyTorch starts it, the forget gates' bias higher by so much."""
    tr.manual_seed(seed)
    net = tr.Sequential({"lstm": tr.LSTM(2, HIDDEN), "head": tr.Linear(HIDDEN, 2)})
    weights = net.state_dict()
    weights["lstm.bias_ih_l0"][HIDDEN : 2 * HIDDEN] += np.float32(forget)
    net.load_state_dict(weights)
    return net


def fresh_nets(seed: int) -> dict[str, tr.Sequential]:
    """The nets whose gradients are compared, by their names."""
    return {
        "RNN": rnn(seed),
        "RNN, recurrent weights x 4": rnn(seed, 4.0),
        "LSTM": lstm(seed),
        "LSTM, forget bias + 1": lstm(seed, 1.0),
        "LSTM, forget bias + 5": lstm(seed, 5.0),
    }


def norms_of(nets: dict[str, tr.Sequential], steps: int, seed: int) -> dict[str, tr.inspect.GradientNorms]:
    """The norm of the gradient by step, of the same batch for each net."""
    x, y = batch(np.random.default_rng(seed), steps)
    return {name: tr.inspect.gradient_norms(net, x, y, tr.CrossEntropyLoss()) for name, net in nets.items()}


def train(net: tr.Sequential, steps: int, updates: int, seed: int) -> list[float]:
    """The losses of so many updates."""
    optimizer = tr.optim.Adam(net, lr=RATE)
    trainer = net.train().trainer(
        optimizer, tr.CrossEntropyLoss(), batch=BATCH, steps=steps, clip_norm=CLIP_NORM
    )
    generator = np.random.default_rng(seed)
    losses = [trainer.step(*batch(generator, steps)) for _ in range(updates)]
    net.eval()
    return losses


def report(found: dict[str, tr.inspect.GradientNorms]) -> None:
    """The norms at some steps, a line for each net."""
    width = max(map(len, found)) + 2
    for number, (name, norms) in enumerate(found.items()):
        head, line = str(norms).splitlines()
        cells = line.split()[1:]
        if number == 0:
            at = head.split()[-len(cells) :]
            print("norm of dL/dh_t at step".ljust(width) + "".join(f"{t:>10s}" for t in at))
        print(name.ljust(width) + "".join(f"{cell:>10s}" for cell in cells))


def draw_norms(found: dict[str, tr.inspect.GradientNorms], path: Path) -> None:
    """All nets in one picture."""
    from matplotlib.figure import Figure

    ax = Figure(figsize=(8, 4.6), layout="constrained").subplots()
    ax.set_prop_cycle(color=COLOURS)
    for name, norms in found.items():
        norms.plot(ax=ax)
        ax.get_lines()[-1].set_label(name)
    ax.legend(fontsize="small")
    ax.set_title("the loss is at the last step; the gradient goes back to the first", fontsize="medium")
    ax.figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Vanishing and exploding gradients.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--steps", type=positive, default=100, help="of a sequence")
    add("--updates", type=positive, default=400, help="of the nets that are trained")
    add("--seed", type=natural, default=0, help="of the weights and the batches")
    add("--out", type=folder, default=Path("."), metavar="FOLDER", help="where pictures go")
    add("--no-plot", action="store_true", help="numbers only")
    options = parser.parse_args(arguments)
    if not options.no_plot and importlib.util.find_spec("matplotlib") is None:
        sys.exit("pictures need matplotlib, which is not installed; --no-plot prints the numbers")

    nets = fresh_nets(options.seed)
    found = norms_of(nets, options.steps, options.seed)
    report(found)
    trained = {name: nets[name] for name in ("RNN", "LSTM, forget bias + 5")}
    losses = [train(net, options.steps, options.updates, options.seed + 1) for net in trained.values()]
    print(f"\nloss of the last 20 of {options.updates} updates (guessing: {np.log(2):.3f})")
    for name, values in zip(trained, losses, strict=True):
        print(f"{name:24s}{np.mean(values[-20:]):10.4f}")
    x, _ = batch(np.random.default_rng(options.seed + 2), options.steps)
    gates = tr.inspect.gate_activations(trained["LSTM, forget bias + 5"], x)
    forget = gates.layers["lstm.l0"]["f"].mean((0, 1))
    print(f"the LSTM's forget gates, means over time: {forget.min():.3f} to {forget.max():.3f}")
    if not options.no_plot:
        draw_norms(found, options.out / "gradients.png")
        tr.inspect.loss_curves(*losses, labels=list(trained)).plot(options.out / "losses.png", log=True)
        gates.plot(options.out / "gates.png")


if __name__ == "__main__":
    main()
