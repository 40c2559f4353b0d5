"""The training of spoken_digits.py in PyTorch, from the same initial weights and batches, to compare both.

    python spoken_digits_torch.py

tinyrnn gives the initial weights, nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from spoken import BANDS, Utterance
from spoken_digits import (
    BLANK,
    as_batch,
    batches,
    build,
    decode_greedily,
    error_rate,
    make_data,
    report_epoch,
    training_parser,
)
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Listener(nn.Module):
    """Features (T, B, BANDS) -> log-probabilities (T, B, classes)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(BANDS, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, BLANK + 1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.gru(packed)[0])
        return self.head(output).log_softmax(-1)


def build_same(hidden: int, seed: int) -> Listener:
    """The net with the weights that tinyrnn's starts from."""
    net = Listener(hidden)
    weights = build(hidden, seed).state_dict()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return net


def train(net: Listener, data: Sequence[Utterance], options: argparse.Namespace) -> list[float]:
    """The loss of every step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=options.rate, fused=True)
    steps = options.epochs * (len(data) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, steps, cycle_momentum=False)
    loss_of = nn.CTCLoss(blank=BLANK)
    generator = np.random.default_rng(options.seed)
    losses: list[float] = []
    seconds = 0.0
    for epoch in range(1, options.epochs + 1):
        for batch in batches(data, options.batch, generator):
            features, lengths, digits, counts = (torch.from_numpy(array) for array in batch)
            began = time.perf_counter()
            optimizer.zero_grad()
            loss = loss_of(net(features, lengths), digits, lengths, counts)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), options.clip)
            optimizer.step()
            losses.append(loss.item())
            if len(losses) < steps:
                schedule.step()
            seconds += time.perf_counter() - began
        report_epoch(epoch, losses[-len(losses) // epoch :], seconds)
    return losses


@torch.no_grad()
def listen(net: Listener, utterances: Sequence[Utterance], size: int) -> list[np.ndarray]:
    """(T, classes) log-probabilities of each."""
    heard = []
    for first in range(0, len(utterances), size):
        batch = as_batch(utterances[first : first + size])
        y = net(torch.from_numpy(batch.features), torch.from_numpy(batch.lengths)).numpy()
        heard += [y[:length, row] for row, length in enumerate(batch.lengths)]
    return heard


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser("Train in PyTorch what spoken_digits.py trains.")
    options = parser.parse_args(arguments)
    if options.batch > options.utterances:
        parser.error(f"--batch is {options.batch}, expected at most {options.utterances}, the --utterances")
    torch.set_num_threads(options.threads)
    try:
        data = make_data(options)
    except OSError as error:
        sys.exit(f"{parser.prog}: {error}")
    net = build_same(options.hidden, options.seed)
    train(net, data.train, options)
    for what, some in (("speeds", data.test), ("voices", data.strange)):
        rate = error_rate([decode_greedily(y) for y in listen(net, some, options.batch)], some)
        print(f"unheard {what}: errors per digit, greedy {rate:.2%}")


if __name__ == "__main__":
    main()
