"""The progress bar on stderr: for work that takes more than a second, if a person is watching.

A bar is drawn between pieces of work, never within a kernel. ``TINYRNN_PROGRESS=0`` switches all off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import get_ident
from typing import ClassVar, TypeVar

DELAY, PERIOD = 1.0, 0.1  # seconds before a bar is drawn, and between two drawings

Item = TypeVar("Item")


class Progress:
    """One bar. Of bars within each other the outermost is drawn, and the others move it.

    Parameters
    ----------
    shown : bool
        False: it is silent in any case, and so are those within it.
    start : float
        The part of the work that is done already.
    """

    _innermost: ClassVar[Progress | None] = None  # of those that are open

    def __init__(self, shown: bool = True, start: float = 0.0) -> None:
        self._outer, self._thread = Progress._innermost, get_ident()
        self.watched = shown and _is_watched()
        if self._outer is not None:  # another thread would draw over its line
            self.watched = self.watched and self._outer.watched and self._outer._thread == self._thread
        self._open = self.watched or not shown
        if self._open:
            Progress._innermost = self
        self._begun = time.monotonic()
        self._due = self._begun + DELAY
        self._start = self._done = start
        self._share, self._drawn, self._text = 0.0, 0, ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def show(self, done: float, following: float | None = None, text: str = "") -> None:
        """Say which part of the work is done, and which will be after the next piece."""
        if self.watched:
            self._done, self._share = done, (done if following is None else following) - done
            self._text = text
            self._move(done)

    def _move(self, done: float) -> None:
        outer = self._outer
        if outer is not None:
            outer._move(outer._done + outer._share * done)
            return
        now = time.monotonic()
        if now < self._due or done <= self._start or not self._open:
            return
        left = (now - self._begun) * (1 - done) / (done - self._start)
        line = f"[{'#' * int(30 * done):<30}] {done:4.0%}  {left:.0f} s left  {self._text}"[: _width()]
        self._write(f"\r{line:<{self._drawn}}")
        self._due, self._drawn = now + PERIOD, len(line)

    def clear(self) -> None:
        """Remove the bar from the terminal, before a line of other text."""
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def close(self) -> None:
        """Remove the bar: the work is over."""
        self.clear()
        self.watched = self._open = False
        while Progress._innermost is not None and not Progress._innermost._open:
            Progress._innermost = Progress._innermost._outer

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may have been closed
            sys.stderr.write(text)
            sys.stderr.flush()


def watched(pieces: Sequence[Item], sizes: Sequence[float] | None = None) -> Iterator[Item]:
    """Yield pieces of work, with a bar that moves after each by its size; all count the same by default."""
    with Progress() as bar:
        total, done = len(pieces) if sizes is None else sum(sizes), 0.0
        for i, piece in enumerate(pieces):
            after = done + (1 if sizes is None else sizes[i])
            bar.show(done / total, after / total)
            yield piece
            done = after
        bar.show(1.0)


def _width() -> int:
    """The most characters of a bar: 79, or what the terminal does not break."""
    with suppress(AttributeError, OSError, ValueError):
        return min(os.get_terminal_size(sys.stderr.fileno()).columns or 80, 80) - 1
    return 79


def _is_watched() -> bool:
    """Tell whether stderr is a terminal whose user has not switched bars off."""
    with suppress(AttributeError, ValueError):  # no stderr, or a closed one
        return sys.stderr.isatty() and os.environ.get("TINYRNN_PROGRESS") != "0"
    return False
