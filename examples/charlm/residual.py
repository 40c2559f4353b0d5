"""Train a residual stack as a character model: blocks of h + LSTM(LayerNorm(h)), as one graph.

    python residual.py                                       # the standard library's own text
    python residual.py --text shakespeare.txt --out stack.safetensors
    python residual.py --text shakespeare.txt --steps 300 --torch
    python stream.py --checkpoint stack.safetensors --prompt "KING " --temperature 0.7

All blocks are as wide as the embedding, so that a block can add what it finds to what it reads. A layer norm
comes before each LSTM and before the head. Batches, optimiser and schedule are learn.py's: truncated BPTT,
the state of every block carried from one window to the next. With `--torch` PyTorch's twin trains beside
(residual_torch.py), from the same weights on the same batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from corpus import split
from learn import Learner, Tinyrnn, finish, make_parser, mean_loss, read, told
from numpy.typing import NDArray
from stream import VOCABULARY

import tinyrnn as tr
from tinyrnn.cli.options import natural, positive


def build(width: int, blocks: int, seed: int) -> tr.Graph:
    """The net with fresh weights; its tensors have the names of the modules in residual_torch.py."""
    tr.manual_seed(seed)
    symbols = tr.Input()
    h = tr.Embedding(len(VOCABULARY), width)(symbols).named("embedding")
    for block in range(blocks):
        normed = tr.LayerNorm(width)(h).named(f"blocks.{block}.norm")
        h = h + tr.LSTM(width, width)(normed).named(f"blocks.{block}.lstm")
    normed = tr.LayerNorm(width)(h).named("norm")
    return tr.Net(symbols, tr.Linear(width, len(VOCABULARY))(normed).named("head"))


def restored(weights: Mapping[str, NDArray[np.float32]]) -> tr.Graph:
    """The net of a file of residual.py or residual_torch.py: its sizes are read off its tensors."""
    width = weights["embedding.weight"].shape[1]
    net = build(width, sum(name.endswith(".lstm.weight_ih_l0") for name in weights), seed=0)
    net.load_state_dict(weights)
    return net


def stack_parser(description: str, out: str) -> argparse.ArgumentParser:
    """The options of learn.py and the sizes of the stack."""
    parser = make_parser(description, out)
    parser.add_argument("--width", type=positive, default=128, help="of the embedding and of every block")
    parser.add_argument("--blocks", type=positive, default=3, help="that lie on one another")
    return parser


def learn(options: argparse.Namespace) -> None:
    symbols = read(options)
    net = build(options.width, options.blocks, options.seed)
    print(f"{sum(array.size for array in net.state_dict().values()):,} parameters")
    learners: dict[str, Learner] = {"tinyrnn": Tinyrnn(net, options)}
    if options.torch:
        from residual_torch import PyTorch, twin

        learners["PyTorch"] = PyTorch(twin(net), options)
    finish(net, learners, symbols, options)
    bits = mean_loss(net, split(symbols)[1]) / np.log(2)
    print(f"\n{bits:.3f} bits per character on the held-out text")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = stack_parser("Train a residual stack with tinyrnn.", "stack.safetensors")
    parser.add_argument("--torch", action="store_true", help="train PyTorch's twin beside it")
    parser.add_argument("--write", type=natural, default=400, help="characters to write at the end")
    options = parser.parse_args(arguments)
    try:
        learn(options)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
