"""``tinyrnn quantize``: a net with smaller weights."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.console import UsageError, note, say, table
from tinyrnn.cli.inputs import INPUTS
from tinyrnn.cli.models import check_simple, open_model, reads_indices
from tinyrnn.cli.names import distinct
from tinyrnn.contract import index_count
from tinyrnn.weights.spec import shown


def command(args: Namespace) -> None:
    """Write the net with its matrices in another format; with calibration, print its drift."""
    distinct(args, {"OUT": args.output}, {"MODEL": args.model, "--calibration": args.calibration})
    net = open_model(args)
    sequences = []
    if args.calibration is not None:
        check_simple(args.model, net)
        sequences = _sequences(args, net)
    if args.keep == ["auto"]:
        raise UsageError(
            "--keep: got auto, expected names of layers; only tinyrnn.quantize() in Python can choose them"
        )
    smaller = tr.quantize(net, args.to, sequences or None, keep=args.keep)
    smaller.save(args.output)
    say(f"{shown(args.output, 1000)}: {os.path.getsize(args.output):,} bytes")
    table(smaller.formats.items(), None)
    if sequences:
        say()
        for line in str(tr.drift(net, smaller, sequences[0])).splitlines():
            say(line)


def _sequences(args: Namespace, net: tr.Net) -> list[NDArray[np.generic]]:
    """All of the calibration: a sequence, or one for each row of a batch."""
    args.input, args.follow = args.calibration, False
    suffix = os.path.splitext(args.input)[1].lower()
    if suffix not in INPUTS:
        known = " ".join(INPUTS)
        raise UsageError(
            f"{args.input or repr('')}: the suffix is {suffix or 'missing'}, expected one of {known}"
        )
    frames = INPUTS[suffix](args, net)
    if frames.note is not None:
        note(frames.note)
    chunked = ([chunk for chunk, _ in sequence] for sequence in frames.sequences(sys.maxsize))
    found = [np.concatenate(chunks) for chunks in chunked if chunks]
    if not found:
        raise tr.ShapeError(f"{args.input}: got no frames, expected at least one")
    for steps in found:
        _check(args.input, steps, net)
    return found


def _check(path: str, steps: NDArray[np.generic], net: tr.Net) -> None:
    """Refuse, with the name of the file, numbers that cannot calibrate a net."""
    if not np.isfinite(steps).all():
        raise tr.LoadError(f"{path}: got numbers that are not finite, expected finite ones to calibrate with")
    if reads_indices(net):
        rows = index_count(net)
        for extreme in (steps.min(), steps.max()):
            if not 0 <= extreme < rows:
                raise tr.LoadError(f"{path}: index {extreme} is out of range, expected 0 .. {rows - 1}")
