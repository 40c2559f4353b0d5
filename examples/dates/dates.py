"""Train an encoder and a decoder to write as ISO dates what people write in many ways.

    python dates.py                                     # train, test on unseen dates, read a few
    python dates.py --save model                        # keep model-encoder and model-decoder.safetensors
    python dates.py --load model --read "3rd of March, 1994" "fri 13/10/23"

The encoder reads a date symbol by symbol. Its final state is where the decoder begins, and all that the
decoder learns of the date. In training the decoder is given the right symbols so far (teacher forcing), and
its gradient goes back through that state into the encoder. Afterwards it is given its own: the likeliest one
(greedy), or those of the few likeliest beginnings (beam).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from date_pairs import END, READ, START, STEPS, WRITTEN, as_batch, draw_pairs, encode_texts, split_dates
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.options import above_zero, natural, positive

Nets = tuple[tr.Sequential, tr.Sequential]

SHOWN = ["3rd of March, 1994", "03/04/05", "THU MAR. 12 '98", "the twenty-ninth of february, 2024"]


def build(width: int, hidden: int, seed: int) -> Nets:
    """Encoder and decoder with fresh weights. Both call their LSTM "lstm": a state of one fits the other."""
    tr.manual_seed(seed)
    encoder = tr.Sequential({"embedding": tr.Embedding(len(READ), width), "lstm": tr.LSTM(width, hidden)})
    decoder = tr.Sequential(
        {
            "embedding": tr.Embedding(len(WRITTEN), width),
            "lstm": tr.LSTM(width, hidden),
            "head": tr.Linear(hidden, len(WRITTEN)),
        }
    )
    return encoder, decoder


# ---- training -----------------------------------------------------------------------------------


def train(nets: Nets, options: argparse.Namespace) -> list[float]:
    """The loss of every step, in nats per symbol; one line of print now and then."""
    encoder, decoder = (net.train() for net in nets)
    optimizer = tr.optim.Adam([encoder, decoder], lr=options.rate)
    schedule = tr.optim.OneCycleLR(optimizer, options.rate, options.steps, cycle_momentum=False)
    loss_of = tr.CrossEntropyLoss()
    days, _ = split_dates(options.seed)
    generator = np.random.default_rng(options.seed)
    losses, seconds = [], 0.0
    for step in range(1, options.steps + 1):
        source, lengths, given, target = as_batch(draw_pairs(days, options.batch, generator))
        began = time.perf_counter()
        optimizer.zero_grad()
        read = encoder(source, lengths=lengths, threads=options.threads)
        logits = decoder(given, state=encoder.last_state, threads=options.threads)
        loss, dlogits = loss_of(logits, target)
        _, dstate = decoder.backward(dlogits, {})  # {}: nothing follows the decoder, but its start is wanted
        encoder.backward(np.zeros_like(read), dstate)  # only the encoder's final state has a gradient
        tr.optim.clip_grad_norm([encoder, decoder], options.clip)
        optimizer.step()
        if step < options.steps:
            schedule.step()
        seconds += time.perf_counter() - began
        losses.append(loss)
        report_step(step, options.steps, loss, seconds)
    for net in nets:
        net.eval()
    return losses


def report_step(step: int, steps: int, loss: float, seconds: float) -> None:
    """A line for the first step and every tenth part of them."""
    if step == 1 or step % max(1, steps // 10) == 0:
        print(f"step {step:5}  loss {loss:.4f}  {seconds:5.1f} s", flush=True)


# ---- decoding -----------------------------------------------------------------------------------


def read_texts(encoder: tr.Sequential, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The encoder's final state, named as the decoder's: where decoding starts."""
    source, lengths = encode_texts(texts)
    encoder(source, lengths=lengths)
    return encoder.last_state


def decode_greedily(decoder: tr.Sequential, state: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Decode from a state of B rows: each step takes the likeliest symbol."""
    stream = decoder.stream(state["lstm.h"].shape[1])
    stream.state = state
    symbols = np.full(stream.batch, START, np.int32)
    written = []
    for _ in range(STEPS):
        symbols = stream.step(symbols).argmax(1).astype(np.int32)
        written.append(symbols)
    return [as_text(row) for row in np.stack(written, 1)]


def decode_beam(decoder: tr.Sequential, state: Mapping[str, NDArray[np.float32]], width: int) -> list[str]:
    """The likeliest of what a beam search finds: at each step it keeps the ``width`` likeliest beginnings.

    The rows of the stream are the beginnings, ``width`` of them for each row of ``state``.
    """
    rows = state["lstm.h"].shape[1]
    stream = decoder.stream(rows * width)
    stream.state = {name: np.repeat(array, width, axis=1) for name, array in state.items()}
    scores = np.full((rows, width), -np.inf)  # log-probabilities
    scores[:, 0] = 0  # all begin alike: one of them counts
    written = np.zeros((rows, width, 0), np.int32)
    symbols = np.full((rows, width), START, np.int32)
    for _ in range(STEPS):
        logits = stream.step(symbols.reshape(-1)).reshape(rows, width, -1).astype(np.float64)
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
        stream.state = {name: stream.state[name][:, kept] for name in stream.state}
    return [as_text(row[0]) for row in written]


def as_text(symbols: NDArray[np.int32]) -> str:
    """The text that was written before the end."""
    return "".join(WRITTEN[symbol] for symbol in symbols).partition(WRITTEN[END])[0]


def exact(found: Sequence[str], pairs: Sequence[tuple[str, str]]) -> float:
    """The share that is right in every symbol."""
    return sum(text == iso for text, (_, iso) in zip(found, pairs, strict=True)) / len(pairs)


# ---- the script ---------------------------------------------------------------------------------


def training_parser(description: str) -> argparse.ArgumentParser:
    """The options that dates.py and dates_torch.py share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=positive, default=2000, help="batches to train on")
    add("--batch", type=positive, default=64, help="dates in a batch")
    add("--rate", type=above_zero, default=4e-3, help="largest learning rate of the one cycle")
    add("--width", type=positive, default=32, help="numbers that stand for a symbol")
    add("--hidden", type=positive, default=128, help="hidden size of both LSTMs")
    add("--clip", type=above_zero, default=1.0, help="largest norm of the gradients")
    add("--seed", type=natural, default=0, help="of weights, split and draws")
    add("--threads", type=positive, default=1, help="threads that share a batch")
    add("--test", type=positive, default=2000, help="unseen dates to test on")
    return parser


def load(prefix: str) -> Nets:
    """The nets that ``--save`` wrote.

    Raises
    ------
    OSError, ValueError
        If they are not there, or are other nets.
    """
    nets = tuple(tr.load(f"{prefix}-{part}.safetensors") for part in ("encoder", "decoder"))
    wanted = build(1, 1, 0)
    for part, net, like in zip(("encoder", "decoder"), nets, wanted, strict=True):
        if list(net.state_dict()) != list(like.state_dict()):
            raise ValueError(f"{prefix}-{part}.safetensors: not the {part} that this script saves")
    return nets  # type: ignore[return-value]


def run(options: argparse.Namespace) -> None:
    texts = SHOWN if options.read is None else options.read
    encode_texts(texts)  # what cannot be read is said before the training, not after
    if options.load is None:
        nets = build(options.width, options.hidden, options.seed)
        train(nets, options)
        if options.save is not None:
            for part, net in zip(("encoder", "decoder"), nets, strict=True):
                net.save(f"{options.save}-{part}.safetensors")
    else:
        nets = load(options.load)
    encoder, decoder = nets
    if options.load is None or options.read is None:
        _, days = split_dates(options.seed)
        pairs = draw_pairs(days, options.test, np.random.default_rng(options.seed + 1))
        state = read_texts(encoder, [text for text, _ in pairs])
        greedy, beam = decode_greedily(decoder, state), decode_beam(decoder, state, options.beam)
        print(f"exact on {len(pairs)} unseen dates: greedy {exact(greedy, pairs):.2%}, ", end="")
        print(f"beam of {options.beam} {exact(beam, pairs):.2%}")
        wrong = [(*pair, found) for pair, found in zip(pairs, beam, strict=True) if found != pair[1]]
        for text, iso, found in wrong[:5]:
            print(f"  wrong: {text!r} -> {found}, expected {iso}")
    found = decode_beam(decoder, read_texts(encoder, texts), options.beam)
    for text, iso in zip(texts, found, strict=True):
        print(f"{iso}  {text}")


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser("Train a net to write dates in ISO form, and let it read some.")
    parser.add_argument("--beam", type=positive, default=4, help="beginnings that the beam search keeps")
    parser.add_argument("--read", nargs="+", metavar="DATE", help="dates to read in the end, instead of some")
    parser.add_argument("--save", metavar="PREFIX", help="write PREFIX-encoder.safetensors and -decoder")
    parser.add_argument("--load", metavar="PREFIX", help="no training: take what --save wrote")
    options = parser.parse_args(arguments)
    if options.save is not None and options.load is not None:
        parser.error("--save is of no use with --load: nothing is trained")
    if options.save is not None and not Path(options.save).parent.is_dir():
        parser.error(f"--save: there is no folder {Path(options.save).parent}")
    try:
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
