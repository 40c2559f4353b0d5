"""The files that a command line names: no output is an input."""

from __future__ import annotations

import os
from argparse import Namespace

from tinyrnn.cli.console import UsageError


def distinct(args: Namespace, outputs: dict[str, str | None], inputs: dict[str, str | None]) -> None:
    """Refuse outputs that are one of the inputs, unless there is ``--force``, or are each other.

    Parameters
    ----------
    args : argparse.Namespace
        Of which `force` is read.
    outputs, inputs : dict of str to str or None
        The file that each argument names; None where it is not given.
    """
    written: dict[str, str] = {}
    for argument, path in outputs.items():
        if path is None:
            continue
        if path == "-":
            raise UsageError(
                f"{argument}: got -, expected a file's name, since it is written whole or not at all"
            )
        for other, known in ({} if args.force else inputs).items():
            if known is not None and _same(path, known):
                raise UsageError(
                    f"{path}: {argument} is the same file as {other}, which it would replace: choose another "
                    "name, or give --force"
                )
        for other, known in written.items():
            if _same(path, known):
                raise UsageError(f"{path}: {argument} is the same file as {other}: choose another name")
        written[argument] = path


def _same(a: str, b: str) -> bool:
    """Tell whether two names lead to one file, through links too, or would if it existed."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one of them is not there, or no name at all
        return os.path.realpath(a) == os.path.realpath(b)
