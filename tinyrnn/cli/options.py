"""Types of command-line arguments for argparse, here and in the examples."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

# Samples without a header, by the names that ffmpeg and sox have for them: bytes of each; what is written.
RAW = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
RAW_OUTPUT = ("s16le", "f32le")

_MOST = 999_999_999


def natural(text: str, least: int = 0) -> int:
    """A whole number, 0 or more."""
    if not (text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from {least} to {_MOST}")
    return int(text)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return natural(text, 1)


def binding(text: str) -> tuple[str, float | str]:
    """A name and a number, such as ``sr=16000``; or axes of the first input, ``axes=BTF``."""
    name, equals, given = text.partition("=")
    if name == "axes":
        return name, given
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not (name.isidentifier() and equals and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=NUMBER, such as sr=16000, or axes=BTF")
    return name, int(number) if number.is_integer() else number


def above_zero(text: str) -> float:
    """A number above 0, such as a learning rate."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0")
    return number


def new_file(text: str) -> Path:
    """A file to write. An impossible one is refused before the work, not after it."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a file in a folder that exists")
    return path


def folder(text: str) -> Path:
    """A folder to write into."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a folder that exists")
    return Path(text)
