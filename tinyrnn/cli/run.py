"""``tinyrnn run``: a file through a net into another file."""

from __future__ import annotations

import math
import os
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import TypeVar

from tinyrnn.calls import streamed
from tinyrnn.cli.console import Progress, UsageError, note, say
from tinyrnn.cli.inputs import INPUTS
from tinyrnn.cli.models import check_simple, needs_all, open_model
from tinyrnn.cli.names import distinct
from tinyrnn.cli.outputs import OUTPUTS, CsvWriter
from tinyrnn.errors import ShapeError
from tinyrnn.files import replacing
from tinyrnn.weights.spec import shown

CHUNK = 1 << 18  # numbers of input, and of output, that are held at once

Format = TypeVar("Format")


def command(args: Namespace) -> None:
    """Stream the input through the net; nets that need the full sequence take each as a whole."""
    begun = time.perf_counter()
    open_input = _by_suffix(args.input, INPUTS)
    make_writer = _by_suffix(args.output, OUTPUTS)
    distinct(args, {"--output": args.output}, {"INPUT": args.input, "MODEL": args.model})
    net = open_model(args)
    check_simple(args.model, net)
    frames = open_input(args, net)
    if make_writer is CsvWriter and len(frames.lead or ()) == 2:
        raise UsageError(f"{args.output}: a .csv cannot hold a batch of sequences: write a .npy")
    _, _, out_frame = streamed(net, frames.frame)
    if needs_all(net):
        stream, most = None, sys.maxsize
    else:
        stream = net.stream(frames.batch, frame=frames.frame)
        most = max(1, CHUNK // (frames.batch * max(math.prod(frames.frame), math.prod(out_frame))))
    progress, steps, busy = Progress(), 0, 0.0
    try:
        with replacing(args.output) as file:
            writer = make_writer(file)
            if frames.note is not None:
                note(frames.note)
            for sequence in frames.sequences(most):
                if stream is not None:
                    stream.reset()
                for chunk, done in sequence:
                    start = time.perf_counter()
                    try:
                        y = net(chunk) if stream is None else stream.run(chunk)
                    except IndexError as error:
                        raise IndexError(f"{args.input}: after {steps:,} steps: {error}") from None
                    busy += time.perf_counter() - start
                    y = y[0] if isinstance(y, tuple) else y
                    writer.write(y)
                    steps += len(y)
                    progress.show(done)
            if not steps:
                raise ShapeError(f"{args.input}: got no frames, expected at least one")
            shape = (*(frames.lead or (steps,)), *out_frame)
            writer.finish(shape)
    finally:
        progress.clear()
    seconds = time.perf_counter() - begun
    say(
        f"{shown(args.output, 1000)}: {steps:,} steps, shape {shape}, {seconds:.3f} s in all, "
        f"{1e6 * busy / steps:.2f} µs per step in the net"
    )


def _by_suffix(path: str, known: Mapping[str, Format]) -> Format:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in known:
        raise UsageError(
            f"{path or repr(path)}: the suffix is {suffix or 'missing'}, expected one of {' '.join(known)}"
        )
    return known[suffix]
