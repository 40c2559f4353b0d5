"""sunspots.py in PyTorch: the same initial weights (tinyrnn's), the same batches, optimiser and schedule.

    python sunspots_torch.py

Alone, or beside tinyrnn through `sunspots.py --torch`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from sunspots import CLIP_NORM, CYCLE, HIDDEN, Array, make_parser, run
from torch import Tensor, nn
from torch.nn import functional

import tinyrnn as tr


class Forecaster(nn.Module):
    """An RNN over the years, and a linear layer that gives all forecasts after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, HIDDEN, nonlinearity="relu")
        self.head = nn.Linear(HIDDEN, CYCLE)

    def forward(self, windows: Tensor) -> Tensor:
        """Windows (T, B, 1) -> forecasts (B, CYCLE)."""
        hidden, _ = self.rnn(windows)
        return self.head(hidden[-1])


class PyTorch:
    """A `sunspots.Learner` in PyTorch."""

    def __init__(self, net: tr.Net, options: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        self.model = Forecaster()
        weights = {name: torch.from_numpy(array) for name, array in net.state_dict().items()}
        self.model.load_state_dict(weights)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, options.rate, options.steps)

    def step(self, windows: Array, targets: Array) -> float:
        loss = functional.mse_loss(self.model(torch.from_numpy(windows)), torch.from_numpy(targets))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def forecast(self, windows: Array) -> Array:
        return self.model(torch.from_numpy(windows)).numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser("Forecast sunspots with PyTorch.").parse_args(arguments)
    try:
        run({"PyTorch": lambda net: PyTorch(net, options)}, options)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
