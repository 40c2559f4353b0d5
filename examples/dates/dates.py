"""Train a net to write dates in ISO form that people write in many ways: encoder, attention, decoder.

    python dates.py                                     # train, test on unseen dates, read a few
    python dates.py --save dates.safetensors            # keep the net
    python dates.py --load dates.safetensors --read "3rd of March, 1994" "fri 13/10/23" --align align.png

The encoder reads a date symbol by symbol, in both directions. The decoder begins with the encoder's final
state, and at each step attends to all that the encoder wrote. In training it is given the right symbols so
far (teacher forcing). Afterwards it is given its own: the likeliest one (greedy), or those of the few
likeliest beginnings (beam).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from date_pairs import END, READ, START, STEPS, WRITTEN, as_batch, draw_pairs, encode_texts, split_dates
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, positive

Layers = Mapping[str, Any]
Arrays = dict[str, NDArray[Any]]

SHOWN = ["3rd of March, 1994", "03/04/05", "THU MAR. 12 '98", "the twenty-ninth of february, 2024"]
ROWS = 256  # texts that are read at once


# ---- the net --------------------------------------------------------------------------------------


def encode(layers: Layers, source: tr.Value) -> dict[str, tr.Value]:
    """Encode a text for the decoder: a value per symbol, its key for attention, and the final state."""
    memory = layers["encoder"](layers["read"](source).named("read")).named("encoder")
    return {
        "memory": memory,
        "keys": layers["keys"](memory).named("keys"),
        "h": tr.FinalState("h")(memory),
        "c": tr.FinalState("c")(memory),
    }


def decode(layers: Layers, text: Mapping[str, tr.Value], given: tr.Value) -> tuple[tr.Value, tr.Value]:
    """The decoder's output, and its find in the text, which the next step reads, too."""
    found_before = tr.Feedback(*text["memory"].frame, time="target")
    symbol = layers["written"](given).named("written")
    h = layers["decoder"](tr.concat([symbol, found_before]), (text["h"], text["c"])).named("decoder")
    found = layers["attention"](h, text["keys"], text["memory"]).named("attention")
    found_before.connect(found)
    return h, found


def logits_of(layers: Layers, text: Mapping[str, tr.Value], given: tr.Value) -> tr.Value:
    return layers["head"](tr.concat(list(decode(layers, text, given)))).named("head")


def build(width: int, hidden: int, seed: int) -> tr.Graph:
    """The net with fresh weights: the text and the symbols so far give the next symbol's logits.

    Both directions of the encoder together are as wide as the decoder: its state is theirs side by side.
    """
    tr.manual_seed(seed)
    layers = {
        "read": tr.Embedding(len(READ), width),
        "encoder": tr.LSTM(width, hidden // 2, bidirectional=True),
        "keys": tr.Linear(hidden, hidden, bias=False),
        "written": tr.Embedding(len(WRITTEN), width),
        "decoder": tr.LSTM(width + hidden, hidden),
        "attention": tr.DotProductAttention(hidden),
        "head": tr.Linear(2 * hidden, len(WRITTEN)),
    }
    source, given = tr.Input(time="source", name="source"), tr.Input(time="target", name="given")
    return tr.Net([source, given], logits_of(layers, encode(layers, source), given))


def split(net: tr.Graph) -> tuple[tr.Graph, tr.Graph]:
    """Encoder and decoder as nets of their own, with the layers of ``net``: a text is encoded only once."""
    source, given = tr.Input(time="source", name="source"), tr.Input(time="target", name="given")
    encoder = tr.Net(source, encode(net, source))
    hidden = net["head"].in_features // 2
    text = {name: tr.Input(hidden, time="source", name=name) for name in ("memory", "keys")}
    text |= {name: tr.Input(hidden, time=None, name=name) for name in ("h", "c")}
    return encoder, tr.Net([given, *text.values()], logits_of(net, text, given))


# ---- training -----------------------------------------------------------------------------------


def train(
    net: tr.Graph, options: argparse.Namespace, callbacks: Sequence[Any] = (), shuffle: bool = True
) -> Any:
    """Fit the net to pairs that are drawn from the days to train on; returns the history."""
    days, _ = split_dates(options.seed)
    pairs = draw_pairs(days, options.dates, np.random.default_rng(options.seed))
    batch = as_batch(pairs)
    texts = [batch.source[:length, row] for row, length in enumerate(batch.lengths)]
    optimizer = tr.optim.Adam(net, lr=options.rate)
    steps = options.epochs * -(-options.dates // options.batch)
    schedule = tr.optim.OneCycleLR(optimizer, options.rate, steps, cycle_momentum=False)
    return net.fit(
        {"source": texts, "given": batch.given.T},
        batch.target.T,
        epochs=options.epochs,
        batch_size=options.batch,
        loss="cross_entropy",
        optimizer=optimizer,
        callbacks=[schedule, *callbacks],
        clip_norm=options.clip,
        threads=options.threads,
        seed=options.seed,
        shuffle=shuffle,
        verbose=2,
    )


# ---- decoding -----------------------------------------------------------------------------------


def read_texts(encoder: tr.Graph, texts: Sequence[str]) -> tuple[Arrays, NDArray[np.int32]]:
    """The encoder's outputs by name, and the texts' lengths."""
    source, lengths = encode_texts(texts)
    return encoder(source, lengths={"source": lengths}), lengths


def next_logits(
    decoder: tr.Graph, text: Arrays, lengths: NDArray[np.int32], symbols: NDArray[np.int32], state: Any
) -> NDArray[np.float64]:
    """One step of the decoder, (B, symbols): with a state it goes on from there, else it begins."""
    given = {"given": symbols[np.newaxis], **text}
    return decoder(given, lengths={"source": lengths}, state=state)[0].astype(np.float64)


def decode_greedily(nets: tuple[tr.Graph, tr.Graph], texts: Sequence[str]) -> list[str]:
    """Decode texts: each step takes the likeliest symbol."""
    encoder, decoder = nets
    text, lengths = read_texts(encoder, texts)
    stream = decoder.stream(len(texts), steps={"source": len(text["keys"])})
    symbols, written = np.full(len(texts), START, np.int32), []
    for _ in range(STEPS):
        logits = stream.step({"given": symbols, **text}, lengths={"source": lengths})
        symbols = logits.argmax(1).astype(np.int32)
        written.append(symbols)
    return [as_text(row) for row in np.stack(written, 1)]


def decode_beam(nets: tuple[tr.Graph, tr.Graph], texts: Sequence[str], width: int) -> list[str]:
    """The likeliest result of a beam search, which keeps the ``width`` likeliest beginnings at each step.

    The rows of the decoder are the beginnings, ``width`` of them for each text.
    """
    encoder, decoder = nets
    text, lengths = read_texts(encoder, texts)
    text = {name: np.repeat(array, width, axis=-2) for name, array in text.items()}
    rows, lengths, state = len(texts), np.repeat(lengths, width), None
    scores = np.full((rows, width), -np.inf)  # log-probabilities
    scores[:, 0] = 0  # all begin alike: one of them counts
    written = np.zeros((rows, width, 0), np.int32)
    symbols = np.full((rows, width), START, np.int32)
    for _ in range(STEPS):
        logits = next_logits(decoder, text, lengths, symbols.reshape(-1), state).reshape(rows, width, -1)
        top = logits.max(-1, keepdims=True)
        gains = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        over = symbols == END
        gains[over] = -np.inf
        gains[over, END] = 0  # a finished one stays as it is
        totals = (scores[..., None] + gains).reshape(rows, -1)
        best = np.argsort(-totals, axis=1, kind="stable")[:, :width]
        came_from, symbols = np.divmod(best, len(WRITTEN))
        symbols = symbols.astype(np.int32)
        scores = np.take_along_axis(totals, best, 1)
        written = np.take_along_axis(written, came_from[..., None], 1)
        written = np.concatenate([written, symbols[..., None]], -1)
        kept = (np.arange(rows)[:, None] * width + came_from).reshape(-1)
        state = {name: array[:, kept] for name, array in decoder.last_state.items()}
    return [as_text(row[0]) for row in written]


def in_parts(decoded: Callable[[Sequence[str]], list[str]], texts: Sequence[str]) -> list[str]:
    """Decode many texts, some at a time."""
    parts = (texts[first : first + ROWS] for first in range(0, len(texts), ROWS))
    return [found for part in parts for found in decoded(part)]


def as_text(symbols: NDArray[np.int32]) -> str:
    """The text that was written before the end."""
    return "".join(WRITTEN[symbol] for symbol in symbols).partition(WRITTEN[END])[0]


def exact(found: Sequence[str], pairs: Sequence[tuple[str, str]]) -> float:
    """The share that is right in every symbol."""
    return sum(text == iso for text, (_, iso) in zip(found, pairs, strict=True)) / len(pairs)


# ---- where the decoder looks ------------------------------------------------------------------------


def alignment(net: tr.Graph, text: str, iso: str) -> NDArray[np.float32]:
    """The weight of each symbol of the text at each symbol that is written, (written, read).

    Attention gives the mean of its values. Where the value of step s is the s-th row of the identity, number
    s of the mean is the weight of step s.
    """
    size = len(text)
    source, given = tr.Input(time="source", name="source"), tr.Input(time="target", name="given")
    places = tr.Input(size, time="source", name="places")
    encoded = encode(net, source)
    h, found = decode(net, encoded, given)
    weights = net["attention"](h, encoded["keys"], places).named("weights")
    looking = tr.Net([source, given, places], {"weights": weights, "found": found})
    symbols = np.array([START, *(WRITTEN.index(c) for c in iso)], np.int32)[: len(iso), np.newaxis]
    identity = np.eye(size, dtype=np.float32)[:, np.newaxis]
    return looking(encode_texts([text])[0], symbols, identity)["weights"][:, 0]


def draw(path: Path, pictures: Sequence[tuple[str, str, NDArray[np.float32]]]) -> None:
    """A picture of each text's alignment: what is written downwards, what is read to the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 + 2.6 * len(pictures)), layout="constrained")
    grid = np.ravel(figure.subplots(len(pictures)))
    for axes, (text, iso, weights) in zip(grid, pictures, strict=True):
        image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(text)), list(text), family="monospace")
        axes.set_yticks(range(len(iso)), list(iso), family="monospace")
        axes.tick_params(length=0)
        axes.set_ylabel("written")
    grid[-1].set_xlabel("read")
    figure.colorbar(image, ax=list(grid), label="weight of attention", fraction=0.03, pad=0.01)
    figure.savefig(path)


# ---- the script ---------------------------------------------------------------------------------


def training_parser(description: str) -> argparse.ArgumentParser:
    """The options that dates.py and dates_torch.py share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--dates", type=positive, default=32000, help="dates to train on")
    add("--epochs", type=positive, default=2, help="times that each of them is read")
    add("--batch", type=positive, default=64, help="dates in a batch")
    add("--rate", type=above_zero, default=4e-3, help="largest learning rate of the one cycle")
    add("--width", type=positive, default=32, help="numbers that stand for a symbol")
    add(
        "--hidden",
        type=even,
        default=128,
        help="hidden size of the decoder; of the encoder in both directions",
    )
    add("--clip", type=above_zero, default=1.0, help="largest norm of the gradients")
    add("--seed", type=natural, default=0, help="of weights, split and draws")
    add("--threads", type=positive, default=1, help="threads that share a batch")
    add("--test", type=positive, default=2000, help="unseen dates to test on")
    return parser


def even(text: str) -> int:
    """An even number from 2."""
    number = positive(text)
    if number % 2:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an even number")
    return number


def load(path: str) -> tr.Graph:
    """The net that ``--save`` wrote.

    Raises
    ------
    OSError, ValueError
        If it is not there, or is another net.
    """
    net = tr.load(path)
    if list(net.state_dict()) != list(build(1, 2, 0).state_dict()):
        raise ValueError(f"{path}: not a net that this script saves")
    return net  # type: ignore[return-value]


def report(nets: tuple[tr.Graph, tr.Graph], options: argparse.Namespace) -> None:
    """Print how many unseen dates are right, and some that are not."""
    _, days = split_dates(options.seed)
    pairs = draw_pairs(days, options.test, np.random.default_rng(options.seed + 1))
    texts = [text for text, _ in pairs]
    greedy = in_parts(lambda part: decode_greedily(nets, part), texts)
    beam = in_parts(lambda part: decode_beam(nets, part, options.beam), texts)
    print(f"exact on {len(pairs)} unseen dates: greedy {exact(greedy, pairs):.2%}, ", end="")
    print(f"beam of {options.beam} {exact(beam, pairs):.2%}")
    wrong = [(*pair, found) for pair, found in zip(pairs, beam, strict=True) if found != pair[1]]
    for text, iso, found in wrong[:5]:
        print(f"  wrong: {text!r} -> {found}, expected {iso}")


def run(options: argparse.Namespace) -> None:
    texts = SHOWN if options.read is None else options.read
    encode_texts(texts)  # an error for an unreadable date before the training, not after
    if options.align and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--align needs matplotlib, which is not installed")
    if options.load is None:
        net = build(options.width, options.hidden, options.seed)
        train(net, options)
        if options.save is not None:
            net.save(options.save)
    else:
        net = load(options.load)
    nets = split(net)
    if options.load is None or options.read is None:
        report(nets, options)
    found = decode_beam(nets, texts, options.beam)
    for text, iso in zip(texts, found, strict=True):
        print(f"{iso}  {text}")
    if options.align:
        draw(options.align, [(text, iso, alignment(net, text, iso)) for text, iso in aligned(texts, found)])


def aligned(texts: Sequence[str], found: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The texts for which something was written."""
    return ((text, iso) for text, iso in zip(texts, found, strict=True) if iso)


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser("Train a net to write dates in ISO form, and let it read some.")
    parser.add_argument("--beam", type=positive, default=4, help="beginnings that the beam search keeps")
    parser.add_argument("--read", nargs="+", metavar="DATE", help="dates to read in the end, instead of some")
    parser.add_argument("--align", type=Path, metavar="PNG", help="draw where it looks; needs matplotlib")
    parser.add_argument("--save", metavar="FILE", help="write the net, a .safetensors file")
    parser.add_argument("--load", metavar="FILE", help="no training: take the file of --save")
    options = parser.parse_args(arguments)
    if options.save is not None and options.load is not None:
        parser.error("--save is of no use with --load: nothing is trained")
    for name in ("save", "align"):
        path = getattr(options, name)
        if path is not None and not Path(path).parent.is_dir():
            parser.error(f"--{name}: there is no folder {Path(path).parent}")
    if options.save is not None and not options.save.endswith(".safetensors"):
        parser.error(f"--save: got {options.save}, expected a name that ends in .safetensors")
    try:
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
