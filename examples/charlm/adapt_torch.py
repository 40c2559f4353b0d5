"""adapt.py in PyTorch: the same weights, batches, optimiser and schedule, the same parameters frozen.

    python adapt_torch.py --text shakespeare.txt --out shakespeare.pt
    python adapt_torch.py --text shakespeare.txt --load shakespeare.safetensors

`--load` trains nothing: it loads adapt.py's file into PyTorch's module, strictly, and prints its loss on
the same held-out text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from adapt import load, make_parser, read
from corpus import split
from learn import run, told
from learn_torch import PyTorch, indices, twin
from train import CharLM, mean_loss

import tinyrnn as tr


def restored(path: Path) -> CharLM:
    """PyTorch's module with the weights of a file that adapt.py saved: every name and shape must fit."""
    model = CharLM()
    weights = {name: torch.from_numpy(array) for name, array in tr.load_weights(path).items()}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def adapt(options: argparse.Namespace) -> None:
    symbols = read(options)
    validation = indices(split(symbols)[1])
    net = load(options)
    model = twin(net)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = net.requires_grad(name)
    print(f"before: {mean_loss(model, validation):.4f} nats per character")
    learner = PyTorch(model, options)
    run({"PyTorch": learner}, symbols, options)
    print(f"after:  {mean_loss(model, validation):.4f} nats per character")
    learner.save(options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Fine-tune a character model with PyTorch.", "adapted.pt")
    parser.add_argument("--load", type=Path, metavar="FILE", help="a file of adapt.py: only print its loss")
    options = parser.parse_args(arguments)
    try:
        if options.load is None:
            adapt(options)
        else:
            loss = mean_loss(restored(options.load), indices(split(read(options))[1]))
            print(f"{options.load}: loads strictly; {loss:.4f} nats per character on the held-out text")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
