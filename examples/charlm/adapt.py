"""Fine-tune the model of this folder on another text: train the named layers, keep the rest as it is.

    python adapt.py                                          # Python sources of the standard library
    python adapt.py --text shakespeare.txt --out shakespeare.safetensors
    python adapt.py --text shakespeare.txt --train head lstm.weight_hh_l1 lstm.bias_hh_l1
    python stream.py --checkpoint shakespeare.safetensors --prompt "KING " --temperature 0.7

The checkpoint is PyTorch's, read without PyTorch. All parameters are frozen but those of `--train`, which
names tensors (head.bias) or layers (lstm). The loss on the last tenth of the text, which is never trained on,
is printed before and after. The saved file has PyTorch's names: adapt_torch.py loads it into the module.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from corpus import Symbols, encode, read_file, read_sources, split
from learn import Learner, Tinyrnn, mean_loss, run, told, training_parser, write
from stream import CHECKPOINT, build

import tinyrnn as tr
from tinyrnn.cli.options import natural


def make_parser(description: str, out: str) -> argparse.ArgumentParser:
    parser = training_parser(description, out, steps=600, peak=8e-3)
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="UTF-8 text; None: Python sources")
    add("--model", type=Path, metavar="FILE", default=CHECKPOINT, help="a file of train.py or learn.py")
    add("--train", nargs="+", metavar="NAME", default=["lstm", "head"], help="layers or tensors to train")
    return parser


def read(options: argparse.Namespace) -> Symbols:
    """The symbols of the text that was asked for."""
    return encode(read_sources() if options.text is None else read_file(options.text))


def load(options: argparse.Namespace) -> tr.Sequential:
    """The model, frozen but for the layers and tensors that `--train` names."""
    try:
        net = build(options.model)
    except KeyError as error:
        raise ValueError(f"{options.model}: not a model of this folder: it lacks {error}") from None
    net.freeze()
    try:
        net.unfreeze(*options.train)
    except KeyError as error:
        raise ValueError(f"--train: {error.args[0]}") from None
    return net


def adapt(options: argparse.Namespace) -> None:
    symbols = read(options)
    _, validation = split(symbols)
    net = load(options)
    names = list(net.state_dict())
    free = [name for name in names if net.requires_grad(name)]
    print(f"trains {len(free)} of {len(names)} tensors: {', '.join(free)}")
    print(f"before: {mean_loss(net, validation):.4f} nats per character")
    began = time.perf_counter()
    learners: dict[str, Learner] = {"tinyrnn": Tinyrnn(net, options)}
    run(learners, symbols, options)
    seconds = time.perf_counter() - began
    print(f"after:  {mean_loss(net, validation):.4f} nats per character, {seconds:.0f} s later")
    net.save(options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    if options.write > 0:
        write(net, options.write)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("Fine-tune a character model with tinyrnn.", "adapted.safetensors")
    parser.add_argument("--write", type=natural, default=400, help="characters to write at the end")
    options = parser.parse_args(arguments)
    try:
        adapt(options)
    except (OSError, ValueError) as error:
        sys.exit(told(error))


if __name__ == "__main__":
    main()
