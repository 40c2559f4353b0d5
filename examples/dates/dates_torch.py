"""The training of dates.py in PyTorch, from the same initial weights and data: compare losses and times.

    python dates_torch.py

tinyrnn gives the initial weights, nothing else.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from date_pairs import END, READ, START, STEPS, WRITTEN, as_batch, draw_pairs, split_dates
from dates import ROWS, build, exact, training_parser
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]


class Dates(nn.Module):
    """The net of dates.py: symbols (T, B) of a text and those given so far -> logits."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Embedding(len(READ), width)
        self.encoder = nn.LSTM(width, hidden // 2, bidirectional=True)
        self.keys = nn.Linear(hidden, hidden, bias=False)
        self.written = nn.Embedding(len(WRITTEN), width)
        self.decoder = nn.LSTM(width + hidden, hidden)
        self.head = nn.Linear(2 * hidden, len(WRITTEN))

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, State]:
        """The encoder's output and its keys, (B, S, hidden), a mask of those that count, the final state."""
        packed = pack_padded_sequence(self.read(source), lengths, enforce_sorted=False)
        read, (h, c) = self.encoder(packed)
        memory, _ = pad_packed_sequence(read, batch_first=True)
        mask = (torch.arange(memory.shape[1]) < lengths[:, None])[:, None]
        return memory, self.keys(memory), mask, (torch.cat(list(h), -1)[None], torch.cat(list(c), -1)[None])

    def step(
        self, symbols: Tensor, found: Tensor, state: State, memory: Tensor, keys: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, State]:
        """One step of the decoder: logits, what it found in the text, and its state."""
        h, state = self.decoder(torch.cat([self.written(symbols), found], -1)[None], state)
        found = scaled_dot_product_attention(h.transpose(0, 1), keys, memory, mask)[:, 0]
        return self.head(torch.cat([h[0], found], -1)), found, state

    def forward(self, source: Tensor, lengths: Tensor, given: Tensor) -> Tensor:
        memory, keys, mask, state = self.encode(source, lengths)
        found, steps = torch.zeros_like(memory[:, 0]), []
        for symbols in given:
            logits, found, state = self.step(symbols, found, state, memory, keys, mask)
            steps.append(logits)
        return torch.stack(steps)


def build_same(width: int, hidden: int, seed: int) -> Dates:
    """The net with the weights that tinyrnn's starts from."""
    net = Dates(width, hidden)
    tensors = build(width, hidden, seed).state_dict()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return net


def train(net: Dates, options: argparse.Namespace, shuffle: bool = True) -> list[float]:
    """The loss of every step; one line of print an epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=options.rate, fused=True)
    steps = options.epochs * -(-options.dates // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, steps, cycle_momentum=False)
    loss_of = nn.CrossEntropyLoss()
    days, _ = split_dates(options.seed)
    pairs = draw_pairs(days, options.dates, np.random.default_rng(options.seed))
    generator = np.random.default_rng(options.seed)
    losses = []
    for epoch in range(1, options.epochs + 1):
        order = generator.permutation(len(pairs)) if shuffle else np.arange(len(pairs))
        began, done = time.perf_counter(), len(losses)
        for first in range(0, len(pairs), options.batch):
            batch = as_batch([pairs[i] for i in order[first : first + options.batch]])
            source, lengths, given, target = (torch.from_numpy(array) for array in batch)
            optimizer.zero_grad()
            loss = loss_of(net(source, lengths, given).flatten(0, 1), target.flatten().long())
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), options.clip)
            optimizer.step()
            if len(losses) < steps - 1:
                schedule.step()
            losses.append(loss.item())
        seconds, mean = time.perf_counter() - began, np.mean(losses[done:])
        print(f"epoch {epoch}/{options.epochs}  loss {mean:.5g}  {seconds:.1f} s", flush=True)
    return losses


@torch.no_grad()
def decode_greedily(net: Dates, source: Tensor, lengths: Tensor) -> list[str]:
    """The likeliest symbol at each step until the end."""
    memory, keys, mask, state = net.encode(source, lengths)
    given, found, steps = torch.full(source.shape[1:], START), torch.zeros_like(memory[:, 0]), []
    for _ in range(STEPS):
        logits, found, state = net.step(given, found, state, memory, keys, mask)
        given = logits.argmax(-1)
        steps.append(given)
    rows = torch.stack(steps, 1).tolist()
    return ["".join(WRITTEN[symbol] for symbol in row).partition(WRITTEN[END])[0] for row in rows]


def main(arguments: list[str] | None = None) -> None:
    options = training_parser("Train the net of dates.py in PyTorch.").parse_args(arguments)
    torch.set_num_threads(options.threads)
    net = build_same(options.width, options.hidden, options.seed)
    train(net, options)
    _, days = split_dates(options.seed)
    pairs = draw_pairs(days, options.test, np.random.default_rng(options.seed + 1))
    found: list[str] = []
    for first in range(0, len(pairs), ROWS):
        batch = as_batch(pairs[first : first + ROWS])
        found += decode_greedily(net, torch.from_numpy(batch.source), torch.from_numpy(batch.lengths))
    print(f"exact on {len(pairs)} unseen dates: greedy {exact(found, pairs):.2%}")


if __name__ == "__main__":
    main()
