"""Continue a prompt with the character model of this folder, one symbol at a time, without PyTorch.

    python examples/charlm/stream.py
    python examples/charlm/stream.py --prompt "A generator " --length 1000 --temperature 0.7
    python examples/charlm/stream.py --format int8

Reads the checkpoint that train.py wrote with PyTorch, or a file of learn.py, adapt.py or residual.py, builds
the same net from tinyrnn's layers, streams the prompt through it and then feeds it its own answers. Ends with
the speed: characters per second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

import tinyrnn as tr

CHECKPOINT = Path(__file__).with_name("charlm.pt")
VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))  # as in train.py


def build(checkpoint: Path) -> tr.Sequential:
    """The net of a checkpoint: every size is read off its tensors."""
    weights = tr.load_weights(checkpoint)
    symbols, width = weights["embedding.weight"].shape
    net = tr.Sequential(
        {
            "embedding": tr.Embedding(symbols, width),
            "lstm": tr.LSTM.from_state_dict(weights, prefix="lstm."),
            "head": tr.Linear.from_state_dict(weights, prefix="head."),
        }
    )
    net.load_state_dict(weights)
    return net


def load(checkpoint: Path) -> tr.Net:
    """The net of a checkpoint, a residual stack or one of the layers in `build`."""
    weights = tr.load_weights(checkpoint)
    if "blocks.0.norm.weight" not in weights:
        return build(checkpoint)
    from residual import restored

    return restored(weights)


def shrink(net: tr.Net, name: str) -> tr.Net:
    """The net with its weights in a smaller format.

    float16 and int8 need nothing further. int4 needs typical input. On text that is new to the
    model it then costs nothing, but half remembered text needs more than four bits, most of all in the first
    layers, on whose errors all others come. So they are int8.
    """
    if name != "int4":
        return tr.quantize(net, name)
    from pydoc_data.topics import topics  # the text that the model was trained on

    typical = encode("".join(topics[topic] for topic in sorted(topics))[:10_000])
    rest = tr.quantize(net, "int4", typical, keep=list(net.formats)[:2])
    return tr.quantize(rest, "int8", typical)


def encode(text: str) -> list[int]:
    """Symbols of a text; characters outside the vocabulary are left out."""
    return [VOCABULARY.index(character) for character in text if character in VOCABULARY]


def choose(logits: np.ndarray, temperature: float, generator: np.random.Generator) -> int:
    """The likeliest symbol, or one drawn at a temperature."""
    if temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / temperature)
    return int(generator.choice(len(weights), p=weights / weights.sum()))


def continuation(
    stream: tr.Stream, logits: np.ndarray, temperature: float, generator: np.random.Generator
) -> Iterator[str]:
    """The characters that follow the logits, without end: the net is fed its own answers."""
    while True:
        symbol = choose(logits, temperature, generator)
        logits = stream.step(symbol, out=logits)
        yield VOCABULARY[symbol]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Continue a prompt with a character model, without PyTorch.")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="a file of train.py")
    parser.add_argument("--prompt", default="The with statement ", help="text to begin with")
    parser.add_argument("--length", type=int, default=500, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest character")
    parser.add_argument("--seed", type=int, default=0, help="of the draws when the temperature is not 0")
    parser.add_argument(
        "--format", choices=["float32", "float16", "int8", "int4"], default="float32", help="of the weights"
    )
    options = parser.parse_args(arguments)
    if options.temperature < 0:
        parser.error(f"--temperature is {options.temperature}, expected at least 0")
    prompt = encode(options.prompt)
    if not prompt:
        parser.error("--prompt has no character of the model's vocabulary")

    try:
        net = load(options.checkpoint)
    except (OSError, KeyError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {options.checkpoint}: {error}\n")
    if options.format != "float32":
        net = shrink(net, options.format)
    stream = net.stream()
    print(options.prompt, end="", flush=True)
    logits = stream.run(np.array(prompt, np.int32))[-1]
    text = continuation(stream, logits, options.temperature, np.random.default_rng(options.seed))
    seconds, began = 0.0, time.perf_counter()
    for character in islice(text, options.length):
        seconds += time.perf_counter() - began
        print(character, end="", flush=True)
        began = time.perf_counter()
    if options.length > 0:
        print(
            f"\n\n{options.length / seconds:,.0f} characters per second, "
            f"{seconds / options.length * 1e6:.1f} µs each, on {tr.isa()}; "
            f"{net.memory().weights:,} bytes of weights",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
