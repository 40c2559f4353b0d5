"""``tinyrnn verify``: the proof in a file, repeated here, or a net beside another model."""

from __future__ import annotations

from argparse import Namespace

import tinyrnn as tr
from tinyrnn.cli.console import say
from tinyrnn.cli.models import bindings


def command(args: Namespace) -> None:
    """Print what was compared; fail if it differs."""
    found = tr.verify(args.file, args.against, steps=args.steps, **bindings(args))
    for line in str(found).splitlines():
        say(line)
    if not found:
        raise ValueError(f"{args.file}: differs from {found.against}")
