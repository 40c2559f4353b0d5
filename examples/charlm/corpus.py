"""Text as the character models of this folder read it: symbols, columns, batches. NumPy alone."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from stream import VOCABULARY

Symbols = NDArray[np.int32]
Batch = tuple[Symbols, Symbols, bool]
Sliceable = TypeVar("Sliceable", bound=Any)  # an array or a tensor

QUOTES = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
PLAIN = str.maketrans({**QUOTES, "\u2013": "-", "\u2014": "--", "\u2026": "...", "\t": "    "})


def encode(text: str) -> Symbols:
    """Text -> symbols (N,): typography becomes plain ASCII, characters without a symbol are dropped."""
    index = {symbol: i for i, symbol in enumerate(VOCABULARY)}
    return np.array([index[c] for c in text.translate(PLAIN) if c in index], np.int32)


def read_file(path: Path) -> str:
    """A text file; a ValueError if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_topics() -> str:
    """pydoc's topics, the texts of ``help("class")``, one after another in the order of their names."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError("this Python came without pydoc's topics; name another text: --text FILE") from None
    return "".join(topics[name] for name in sorted(topics))


def read_sources(most: int = 400_000) -> str:
    """The standard library's own modules in the order of their names, as many as are `most` characters."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")):
        texts.append(path.read_text(encoding="utf-8", errors="ignore"))
        if sum(map(len, texts)) >= most:
            return "".join(texts)[:most]
    raise ValueError("this Python came without the sources of its library; name another text: --text FILE")


def split(symbols: Sliceable) -> tuple[Sliceable, Sliceable]:
    """The first nine tenths to train on, the last tenth to validate on."""
    count = len(symbols)
    if count < 320:
        raise ValueError(f"the text is too short: {count} symbols, expected at least 320")
    cut = count * 9 // 10
    return symbols[:cut], symbols[cut:]


def in_columns(symbols: Symbols, columns: int) -> tuple[Symbols, Symbols]:
    """The text side by side in columns: inputs and, one symbol on, targets, both (rows, columns)."""
    rows = (len(symbols) - 1) // columns
    inputs, targets = (symbols[at : at + rows * columns].reshape(columns, rows).T for at in (0, 1))
    return np.ascontiguousarray(inputs), np.ascontiguousarray(targets)


def batches(symbols: Symbols, columns: int, steps: int, seed: int) -> Iterator[Batch]:
    """Endless (inputs, targets, fresh) of shape (steps, columns): a column reads on where it stopped.

    Every pass cuts the text into columns at another offset; `fresh` is True where the state starts from zero.
    """
    if len(symbols) <= columns * steps:
        raise ValueError(
            f"the text is too short: {len(symbols):,} symbols to train on, "
            f"expected more than --batch * --length = {columns * steps:,}"
        )
    generator = np.random.default_rng(seed)
    while True:
        inputs, targets = in_columns(np.roll(symbols, -generator.integers(len(symbols))), columns)
        for start in range(0, len(inputs) - steps + 1, steps):
            yield inputs[start : start + steps], targets[start : start + steps], start == 0
