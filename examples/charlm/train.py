"""Train a character language model on text that every Python has, and save it for tinyrnn.

    python train.py                             # pydoc's topics -> charlm.pt, ten minutes on one core
    python train.py --text book.txt --out book.pt

The text is `pydoc_data.topics`: the language reference that `help("class")` shows. It changes from one Python
to the next, so another version trains another model; the charlm.pt kept here read Python 3.11's. It also
repeats itself: a twelfth of the held-out part stands word for word in the rest, which flatters the validation
loss a little.

The defaults overfit on purpose: 0.49 nats per character in training, 1.57 in validation. With
`--dropout 0.4 --decay 0.1 --batch 64 --steps 5000` validation reaches 1.14, but that model's greedy text is
"the same as the same as the same as"; one that half remembers the reference has more to say.

The checkpoint is a dict of

    state_dict   embedding.weight, lstm.*, head.*
    vocabulary   the symbols as one string: symbol i is vocabulary[i]
    step         optimiser steps taken
    val_loss     nats per character on the last tenth of the text, which is never trained on
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import corpus
import torch
from corpus import read_file, read_topics, split
from stream import VOCABULARY
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent

State = tuple[Tensor, Tensor]


class CharLM(nn.Module):
    """Embedding, two LSTM layers, linear head; time-major, as tinyrnn is."""

    def __init__(self, vocabulary_size: int = len(VOCABULARY), dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 32)
        self.lstm = nn.LSTM(32, 128, num_layers=2, dropout=dropout)
        self.head = nn.Linear(128, vocabulary_size)

    def forward(self, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Symbols (T, B) and the state they start from -> logits (T, B, V) and the state they end in."""
        hidden, state = self.lstm(self.embedding(symbols), state)
        return self.head(hidden), state


def encode(text: str) -> Tensor:
    """Text -> indices (N,), as corpus.py reads it."""
    return torch.from_numpy(corpus.encode(text)).long()


def read_text(path: Path | None) -> str:
    """The file's text, or pydoc's topics."""
    return read_topics() if path is None else read_file(path)


def windows(symbols: Tensor, batch: int, length: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Endless (inputs, targets, fresh) of shape (length, batch): a column reads on where it stopped.

    Every pass cuts the text into columns at another offset; `fresh` is True where the state starts from zero.
    """
    while True:
        turned = symbols.roll(int(torch.randint(len(symbols), ())))
        rows = (len(symbols) - 1) // batch
        inputs = turned[: rows * batch].view(batch, rows).t()
        targets = turned[1 : rows * batch + 1].view(batch, rows).t()
        for start in range(0, rows - length + 1, length):
            yield inputs[start : start + length], targets[start : start + length], start == 0


@torch.no_grad()
def mean_loss(model: nn.Module, symbols: Tensor, columns: int = 16) -> float:
    """Nats per character over the text, read in parallel columns, each from a zero state."""
    rows = (len(symbols) - 1) // columns
    inputs = symbols[: rows * columns].view(columns, rows).t()
    targets = symbols[1 : rows * columns + 1].view(columns, rows).t()
    training = model.training
    model.eval()
    total, state = 0.0, None
    for x, y in zip(inputs.split(256), targets.split(256), strict=True):
        logits, state = model(x, state)
        total += functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
    model.train(training)
    return total / inputs.numel()


def parse_arguments() -> argparse.Namespace:
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Train a character model.", formatter_class=defaults)
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="UTF-8 text to train on; None is pydoc's topics")
    add("--out", type=Path, metavar="FILE", default=HERE / "charlm.pt", help="the checkpoint")
    add("--steps", type=int, default=11000, help="optimiser steps")
    add("--seed", type=int, default=0, help="of the weights, the dropout and the order of the text")
    add("--batch", type=int, default=32, help="columns of text read in parallel")
    add("--length", type=int, default=128, help="characters per window of truncated BPTT")
    add("--rate", type=float, default=6e-3, help="peak learning rate")
    add("--decay", type=float, default=0.0, help="weight decay")
    add("--dropout", type=float, default=0.0, help="between the two layers, in training only")
    add("--threads", type=int, default=1, help="PyTorch's")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    train, validation = split(encode(read_text(arguments.text)))
    if len(validation) <= 16 or len(train) <= arguments.batch * arguments.length:
        raise SystemExit(f"the text is too short: {len(train)} characters to train on")
    model = CharLM(dropout=arguments.dropout)
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.rate, weight_decay=arguments.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, arguments.rate, arguments.steps, pct_start=0.1)
    batches = windows(train, arguments.batch, arguments.length)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(train)} characters to train on, {len(validation)} to validate on, {parameters} parameters")

    started = time.perf_counter()
    recent: list[float] = []
    state: State | None = None
    for step in range(1, arguments.steps + 1):
        inputs, targets, fresh = next(batches)
        if fresh:
            state = None
        logits, (hidden, cell) = model(inputs, state)
        state = hidden.detach(), cell.detach()
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if step % 100 == 0 or step == arguments.steps:
            seconds, train_loss = time.perf_counter() - started, sum(recent) / len(recent)
            val_loss = mean_loss(model, validation)
            losses = f"train {train_loss:.4f}, validation {val_loss:.4f} nats/char"
            print(f"step {step:5d} {seconds:6.0f} s   {losses}", flush=True)
            recent.clear()

    checkpoint = {
        "state_dict": model.state_dict(),
        "vocabulary": VOCABULARY,
        "step": arguments.steps,
        "val_loss": val_loss,
    }
    torch.save(checkpoint, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
