"""The commands' output: lines and tables on stdout, a progress bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

STDOUT = "standard output"  # as messages name it


class UsageError(Exception):
    """The command line itself is wrong: exit status 2."""


def say(text: str = "") -> None:
    """One line on stdout, whatever characters its encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    with named(STDOUT):
        print(text.encode(encoding, "backslashreplace").decode(encoding))


def note(text: str) -> None:
    """One line on stderr that is neither a result nor an error."""
    with suppress(OSError):
        sys.stderr.write(f"{one_line(text)}\n")
        sys.stderr.flush()


@contextmanager
def named(path: str) -> Iterator[None]:
    """Errors of the system that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def one_line(text: str) -> str:
    """A message on one line, without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def table(rows: Iterable[Sequence[str]], limit: int | None) -> None:
    """Rows in aligned columns; of more than ``limit`` the first, and how many are left."""
    rows = list(rows)
    head = rows[:limit]
    widths = [min(max(map(len, column)), 60) for column in zip(*head, strict=True)]
    for row in head:
        say("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > len(head):
        say(f"  ... and {len(rows) - len(head)} more: --all lists them")


class Progress:
    """A bar on stderr for work that takes longer than half a second, if a person is watching."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.begun = time.monotonic()
        self.due = self.begun + 0.5
        self.drawn = False

    def show(self, done: float) -> None:
        now = time.monotonic()
        if self.watched and now >= self.due and done > 0:
            left = (now - self.begun) * (1 / done - 1)
            self._draw(f"\r[{'#' * int(30 * done):<30}] {done:4.0%}  {left:.0f} s left  ")
            self.due, self.drawn = now + 0.1, True

    def clear(self) -> None:
        if self.drawn:
            self._draw("\r" + " " * 60 + "\r")

    def _draw(self, text: str) -> None:
        with suppress(OSError):  # the terminal may have been closed
            sys.stderr.write(text)
            sys.stderr.flush()
