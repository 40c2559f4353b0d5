"""Run models that other people trained, beside the runtimes that they came from.

    python zoo.py silero_vad.onnx sleepecg.keras amp.json --bind sr=16000

For each file that `tr.load` reads: its layers, the bytes of its weights in float32 and int8, the largest
difference from what ONNX Runtime or Keras gives for the same inputs, and times. --bind gives numbers to the
inputs of ONNX files that have them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinyrnn as tr
from tinyrnn.cli.options import binding, positive
from tinyrnn.proofs import random_inputs

# The runtime of a kind of file, and the package that has it.
WITNESSES = {
    ".onnx": ("ONNX Runtime", "onnxruntime"),
    ".keras": ("Keras", "keras"),
    ".h5": ("Keras", "keras"),
}
TURN, ROUNDS = 20, 50  # steps of one reading of the clock, and readings


def layers(net: tr.Net) -> str:
    """The types of a net's layers that have weights: ``2 LSTM, Linear``."""
    counts = Counter(row[1] for row in net.summary().rows if row[6])
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def step_time(net: tr.Net) -> float | None:
    """The least time of a step of a stream, in seconds; None if the net needs full sequences."""
    try:
        stream = net.stream()
    except ValueError:
        return None
    frames = [one.reshape(one.shape[2:]) for one in random_inputs(net, 1)]
    best = np.inf
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(TURN):
            stream.step(*frames)
        best = min(best, (time.perf_counter() - begun) / TURN)
    return float(best)


def loaded(path: Path, numbers: dict[str, float]) -> tuple[tr.Net, dict[str, float]]:
    """The net in a file, and the numbers among ``numbers`` that its inputs took: all, or none."""
    if numbers and path.suffix.lower() == ".onnx":
        try:
            return tr.load(path, **numbers), numbers
        except TypeError:  # none of its inputs has such a name
            pass
    return tr.load(path), {}


def compared(net: tr.Net, path: Path, steps: int, numbers: dict[str, Any]) -> str:
    """One line about the runtime of the file: the error and both times of a step, or why there is none."""
    name, package = WITNESSES.get(path.suffix.lower(), ("", ""))
    if not name:
        return "no other runtime reads it here"
    if importlib.util.find_spec(package) is None:
        return f"{name} is not installed"
    found = tr.verify(net, path, steps=steps, **numbers)
    worst = max(check.error for check in found.checks)
    here, there = (1e6 * seconds / steps for seconds in (found.seconds, found.seconds_against))
    verdict = "agrees with" if found else "DIFFERS from"
    return (
        f"{verdict} {name}: largest error {worst:.1e}; in calls of {steps} steps {here:.1f} µs a step, "
        f"{there:.1f} there"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--bind", type=binding, action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--steps", type=positive, default=200, help="of the sequences compared (%(default)s)")
    args = parser.parse_args(arguments)
    failed = 0
    for path in args.files:
        print(path.name, flush=True)
        try:
            net, numbers = loaded(path, dict(args.bind))
            small = tr.quantize(net, "int8")
            print(f"  {layers(net)}: {net.num_parameters:,} parameters")
            print(f"  {net.summary().nbytes:,} bytes of weights, {small.summary().nbytes:,} in int8")
            seconds = step_time(net)
            needs = "needs full sequences" if seconds is None else f"streams, {1e6 * seconds:.1f} µs a step"
            print(f"  {needs}")
            print(f"  {compared(net, path, args.steps, numbers)}")
        except (tr.LoadError, tr.ShapeError, OSError, ValueError, TypeError) as error:
            failed += 1
            print(f"  {error}", file=sys.stderr)
    if failed:
        raise SystemExit(f"{failed} of {len(args.files)} files could not be run")


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "torch")
    main()
