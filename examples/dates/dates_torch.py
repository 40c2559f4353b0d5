"""The training of dates.py in PyTorch, from the same initial weights and batches: compare losses and times.

    python dates_torch.py

tinyrnn gives the initial weights, nothing else.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from date_pairs import END, READ, START, STEPS, WRITTEN, as_batch, draw_pairs, split_dates
from dates import build, exact, report_step, training_parser
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

State = tuple[Tensor, Tensor]


class Encoder(nn.Module):
    """Symbols (T, B) -> the final state."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(READ), width)
        self.lstm = nn.LSTM(width, hidden)

    def forward(self, source: Tensor, lengths: Tensor) -> State:
        packed = pack_padded_sequence(self.embedding(source), lengths, enforce_sorted=False)
        state: State = self.lstm(packed)[1]
        return state


class Decoder(nn.Module):
    """Symbols (T, B) and a state -> logits, and the state after the last."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WRITTEN), width)
        self.lstm = nn.LSTM(width, hidden)
        self.head = nn.Linear(hidden, len(WRITTEN))

    def forward(self, given: Tensor, state: State) -> tuple[Tensor, State]:
        output, state = self.lstm(self.embedding(given), state)
        return self.head(output), state


def build_same(width: int, hidden: int, seed: int) -> tuple[Encoder, Decoder]:
    """Both nets with the weights that tinyrnn's start from."""
    nets = Encoder(width, hidden), Decoder(width, hidden)
    for net, mine in zip(nets, build(width, hidden, seed), strict=True):
        net.load_state_dict({name: torch.from_numpy(array) for name, array in mine.state_dict().items()})
    return nets


def train(nets: tuple[Encoder, Decoder], options: argparse.Namespace) -> list[float]:
    """The loss of every step."""
    encoder, decoder = nets
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, options.steps, cycle_momentum=False
    )
    loss_of = nn.CrossEntropyLoss()
    days, _ = split_dates(options.seed)
    generator = np.random.default_rng(options.seed)
    losses, seconds = [], 0.0
    for step in range(1, options.steps + 1):
        batch = as_batch(draw_pairs(days, options.batch, generator))
        source, lengths, given, target = (torch.from_numpy(array) for array in batch)
        began = time.perf_counter()
        optimizer.zero_grad()
        logits, _ = decoder(given, encoder(source, lengths))
        loss = loss_of(logits.flatten(0, 1), target.flatten().long())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        if step < options.steps:
            schedule.step()
        seconds += time.perf_counter() - began
        losses.append(loss.item())
        report_step(step, options.steps, losses[-1], seconds)
    return losses


@torch.no_grad()
def decode_greedily(nets: tuple[Encoder, Decoder], source: Tensor, lengths: Tensor) -> list[str]:
    """The likeliest symbol at each step until the end."""
    encoder, decoder = nets
    state = encoder(source, lengths)
    given = torch.full((1, source.shape[1]), START)
    steps = []
    for _ in range(STEPS):
        logits, state = decoder(given, state)
        given = logits.argmax(-1)
        steps.append(given[0])
    rows = torch.stack(steps, 1).tolist()
    return ["".join(WRITTEN[symbol] for symbol in row).partition(WRITTEN[END])[0] for row in rows]


def main(arguments: list[str] | None = None) -> None:
    options = training_parser("Train in PyTorch what dates.py trains.").parse_args(arguments)
    torch.set_num_threads(options.threads)
    nets = build_same(options.width, options.hidden, options.seed)
    train(nets, options)
    _, days = split_dates(options.seed)
    pairs = draw_pairs(days, options.test, np.random.default_rng(options.seed + 1))
    batch = as_batch(pairs)
    found = decode_greedily(nets, torch.from_numpy(batch.source), torch.from_numpy(batch.lengths))
    print(f"exact on {len(pairs)} unseen dates: greedy {exact(found, pairs):.2%}")


if __name__ == "__main__":
    main()
