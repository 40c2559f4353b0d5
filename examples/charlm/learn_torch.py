"""learn.py in PyTorch: the same initial weights (tinyrnn's), the same batches, optimiser and schedule.

    python learn_torch.py --text shakespeare.txt --out shakespeare.pt

Alone, or beside tinyrnn through `learn.py --torch`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from corpus import Symbols
from learn import CLIP_NORM, WARM_UP, build, make_parser, read, run, told
from torch import Tensor, nn
from torch.nn import functional
from train import CharLM, State, mean_loss

import tinyrnn as tr


def twin(net: tr.Net) -> CharLM:
    """PyTorch's module with the weights of a net: the names are the same."""
    model = CharLM()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    return model


def indices(symbols: Symbols) -> Tensor:
    """The targets as PyTorch takes them."""
    return torch.from_numpy(symbols).long()


class PyTorch:
    """A `learn.Learner` in PyTorch. Parameters that do not require a gradient stay as they are."""

    def __init__(self, model: nn.Module, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.threads)
        self.model = model.train()
        self.free = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.free, lr=options.rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.rate, options.steps, pct_start=WARM_UP
        )
        self.state: State | None = None

    def step(self, inputs: Symbols, targets: Symbols, fresh: bool) -> float:
        logits, (hidden, cell) = self.model(indices(inputs), None if fresh else self.state)
        self.state = hidden.detach(), cell.detach()
        loss = functional.cross_entropy(logits.flatten(0, 1), indices(targets).flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.free, CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def validate(self, symbols: Symbols) -> float:
        return mean_loss(self.model, indices(symbols))

    def save(self, path: Path) -> None:
        torch.save(self.model.state_dict(), path)


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser("Train a character model with PyTorch.", "learnt.pt").parse_args(arguments)
    try:
        learner = PyTorch(twin(build(options.seed)), options)
        run({"PyTorch": learner}, read(options), options)
        learner.save(options.out)
        print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    except (OSError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
