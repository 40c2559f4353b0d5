"""The training of shapes.py in PyTorch, from the same initial weights and batches: compare losses and times.

    python shapes_torch.py

tinyrnn gives the initial weights, nothing else.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from outlines import CODE, POINTS, draw_codes, draw_outlines
from shapes import build, report_errors, report_step, training_parser, unseen
from torch import Tensor, nn


class Pen(nn.Module):
    """Start vectors (B, CODE) -> points (POINTS, B, 2)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(CODE, hidden)
        self.gru = nn.GRU(1, hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, codes: Tensor) -> Tensor:
        nothing = torch.zeros(POINTS, len(codes), 1)
        output, _ = self.gru(nothing, self.linear(codes).tanh()[None])
        points: Tensor = self.head(output)
        return points


def build_same(hidden: int, seed: int) -> Pen:
    """The net with the weights that tinyrnn's two start from."""
    net = Pen(hidden)
    start, pen = build(hidden, seed)
    weights = start.state_dict() | pen.state_dict()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return net


def train(net: Pen, options: argparse.Namespace) -> list[float]:
    """The loss of every step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=options.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, options.steps, cycle_momentum=False
    )
    loss_of = nn.MSELoss()
    generator = np.random.default_rng(options.seed)
    losses, seconds = [], 0.0
    for step in range(1, options.steps + 1):
        codes = draw_codes(options.batch, generator)
        target = torch.from_numpy(draw_outlines(codes))
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(net(torch.from_numpy(codes)), target)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), options.clip)
        optimizer.step()
        if step < options.steps:
            schedule.step()
        seconds += time.perf_counter() - began
        losses.append(loss.item())
        report_step(step, options.steps, losses[-1], seconds)
    return losses


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    options = training_parser("Train in PyTorch what shapes.py trains.").parse_args(arguments)
    torch.set_num_threads(options.threads)
    net = build_same(options.hidden, options.seed)
    with torch.enable_grad():
        train(net, options)
    codes = unseen(options)
    report_errors(net(torch.from_numpy(codes)).numpy(), codes)


if __name__ == "__main__":
    main()
