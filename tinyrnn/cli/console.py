"""The commands' output: lines and tables on stdout, notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from textwrap import fill

STDOUT = "standard output"  # its name in messages

GOOD, NOTE, BAD = "ok", "note", "BAD"
Finding = tuple[str, str]  # one of them, and a text


class UsageError(Exception):
    """The command line itself is wrong: exit status 2."""


def say(text: str = "") -> None:
    """Print one line on stdout; characters that its encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    with named(STDOUT):
        print(text.encode(encoding, "backslashreplace").decode(encoding))


def tell(finding: Finding) -> None:
    """Print a finding."""
    level, text = finding
    say(fill(f"{level:4}  {text}", 80, subsequent_indent=" " * 6, break_on_hyphens=False))


def fail(command: str, faults: int) -> None:
    """Raise an error if findings were bad."""
    if faults:
        raise ValueError(f"{command}: got {faults} fault{'s' * (faults > 1)}, expected none: see above")


def note(text: str) -> None:
    """Print one line on stderr that is neither a result nor an error."""
    with suppress(OSError):
        sys.stderr.write(f"{one_line(text)}\n")
        sys.stderr.flush()


@contextmanager
def named(path: str) -> Iterator[None]:
    """Put this name into errors of the system that name no file."""
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
    """Print rows in aligned columns; if there are more than ``limit``, the first, and the number left."""
    rows = list(rows)
    head = rows[:limit]
    widths = [min(max(map(len, column)), 60) for column in zip(*head, strict=True)]
    for row in head:
        say("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > len(head):
        say(f"  ... and {len(rows) - len(head)} more: --all lists them")
