"""digits.py in PyTorch: the same initial weights (tinyrnn's), the same batches, optimiser and schedule.

    python digits_torch.py

Alone, or beside tinyrnn through `digits.py --torch`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from digits import HIDDEN, WEIGHT_DECAY, Images, Labels, build, make_parser, read, run, steps
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import tinyrnn as tr


class RowReader(nn.Module):
    """A GRU over the rows, and a linear layer that answers after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 8, 8) -> logits (B, 10)."""
        hidden, _ = self.gru(images)
        return self.head(hidden[:, -1])


class PyTorch:
    """A `digits.Learner` in PyTorch."""

    def __init__(self, net: tr.Net, options: argparse.Namespace, count: int) -> None:
        torch.set_num_threads(options.threads)
        self.model = RowReader()
        self.model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in net.state_dict().items()}
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, options.rate, count)

    def step(self, images: Images, labels: Labels) -> float:
        loss = functional.cross_entropy(self.model(torch.from_numpy(images)), torch.from_numpy(labels).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def answers(self, images: Images) -> NDArray[np.integer]:
        return self.model(torch.from_numpy(images)).argmax(-1).numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser("Tell handwritten digits apart with PyTorch.").parse_args(arguments)
    try:
        train, test = read()
        learner = PyTorch(build(options.seed), options, steps(train, options))
        run({"PyTorch": learner}, train, test, options)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
