"""amp.py in PyTorch: the same initial weights (tinyrnn's), the same windows, optimiser and schedule.

Beside tinyrnn through `amp.py --torch`.
"""

from __future__ import annotations

import argparse

import torch
from amp import CLIP_NORM, EMPHASIS, HIDDEN, Array, ratios
from torch import Tensor, nn
from torch.nn import functional

import tinyrnn as tr

State = tuple[Tensor, Tensor]


class Amplifier(nn.Module):
    """An LSTM, a linear layer, and the guitar itself past both."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Guitar (T, B, 1) -> amplified (T, B, 1), and the state to go on from."""
        hidden, state = self.lstm(x, state)
        return x + self.head(hidden), state


class PyTorch:
    """An `amp.Learner` in PyTorch."""

    def __init__(self, net: tr.Net, target: Array, options: argparse.Namespace, updates: int) -> None:
        torch.set_num_threads(1)
        self.model = Amplifier()
        self.model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in net.state_dict().items()}
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=options.rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.rate, updates, pct_start=0.1
        )
        self.weights = ratios(target)

    def step(self, guitar: Array, amplified: Array, fresh: bool) -> float:
        x, y = torch.from_numpy(guitar), torch.from_numpy(amplified)
        if fresh:
            self.state = None
            self.before = torch.zeros(2, 1, *y.shape[1:])  # the last samples of the output and the target
        output, state = self.model(x, self.state)
        self.state = tuple(part.detach() for part in state)
        both = [torch.cat([last, wave]) for last, wave in zip(self.before, (output, y), strict=True)]
        bright = [wave[1:] - EMPHASIS * wave[:-1] for wave in both]
        self.before = torch.stack([wave[-1:].detach() for wave in both])
        loss = self.weights["wave"] * functional.mse_loss(output, y)
        loss = loss + self.weights["bright"] * functional.mse_loss(*bright)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def play(self, guitar: Array) -> Array:
        return self.model(torch.from_numpy(guitar))[0].numpy()
