"""residual.py in PyTorch: the same initial weights (tinyrnn's), the same batches, optimiser and schedule.

    python residual_torch.py --text shakespeare.txt --out stack.pt

Alone, or beside tinyrnn through `residual.py --torch`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from learn import read, run, told
from learn_torch import PyTorch
from residual import build, stack_parser
from stream import VOCABULARY
from torch import Tensor, nn
from train import State

import tinyrnn as tr


class Block(nn.Module):
    """h + LSTM(LayerNorm(h))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, width)

    def forward(self, h: Tensor, state: State | None) -> tuple[Tensor, State]:
        found, state = self.lstm(self.norm(h), state)
        return h + found, state


class Stack(nn.Module):
    """Embedding, blocks, layer norm, linear head; time-major, as tinyrnn is."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(VOCABULARY))

    def forward(self, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Symbols (T, B) and a state -> logits (T, B, V) and the new state, (blocks, B, width) each."""
        h = self.embedding(symbols)
        ends = []
        for i, block in enumerate(self.blocks):
            h, end = block(h, None if state is None else (state[0][i : i + 1], state[1][i : i + 1]))
            ends.append(end)
        hidden, cell = (torch.cat(tensors) for tensors in zip(*ends, strict=True))
        return self.head(self.norm(h)), (hidden, cell)


def twin(net: tr.Net) -> Stack:
    """PyTorch's module with the weights of a net: the names are the same, so they load strictly."""
    weights = {name: torch.from_numpy(array) for name, array in net.state_dict().items()}
    blocks = sum(name.endswith(".lstm.weight_ih_l0") for name in weights)
    model = Stack(weights["embedding.weight"].shape[1], blocks)
    model.load_state_dict(weights, strict=True)
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    options = stack_parser("Train a residual stack with PyTorch.", "stack.pt").parse_args(arguments)
    try:
        learner = PyTorch(twin(build(options.width, options.blocks, options.seed)), options)
        run({"PyTorch": learner}, read(options), options)
        learner.save(options.out)
        print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    except (OSError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
