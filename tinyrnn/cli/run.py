"""``tinyrnn run``: a file through a net into another file."""

from __future__ import annotations

import math
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from tinyrnn.calls import streamed
from tinyrnn.cli.console import Progress, UsageError, note, say
from tinyrnn.cli.inputs import INPUTS, Chunk, Frames
from tinyrnn.cli.models import check_simple, needs_all, open_model
from tinyrnn.cli.names import distinct
from tinyrnn.cli.outputs import OUTPUTS, CsvWriter
from tinyrnn.cli.recognition import Shape
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
    progress, taken, steps, busy = Progress(), 0, 0, 0.0
    try:
        with replacing(args.output) as file:
            writer = make_writer(file)
            if frames.note is not None:
                note(frames.note)
            sequences = 0
            for sequence in frames.sequences(most):
                sequences += 1
                if stream is not None:
                    stream.reset()
                for (chunk, done), is_last in _with_end(sequence):
                    start = time.perf_counter()
                    try:
                        y = net(chunk) if stream is None else stream.run(chunk, end=is_last)
                    except IndexError as error:
                        raise IndexError(f"{args.input}: after {taken:,} steps: {error}") from None
                    busy += time.perf_counter() - start
                    y = y[0] if isinstance(y, tuple) else y
                    if len(y):
                        writer.write(y)
                    taken, steps = taken + len(chunk), steps + len(y)
                    progress.show(done)
            if not steps:
                raise ShapeError(f"{args.input}: got no frames, expected at least one")
            shape = (*_lead(frames, sequences, steps), *out_frame)
            writer.finish(shape)
    finally:
        progress.clear()
    seconds = time.perf_counter() - begun
    say(
        f"{shown(args.output, 1000)}: {taken:,} steps, shape {shape}, {seconds:.3f} s in all, "
        f"{1e6 * busy / taken:.2f} µs per step in the net"
    )


def _lead(frames: Frames, sequences: int, steps: int) -> Shape:
    """The axes before the frame of the output, in the input's order; its steps may be fewer."""
    if frames.lead is None or len(frames.lead) == 1:
        return (steps,)
    if sequences == 1 and frames.lead[1] == frames.batch:
        return (steps, frames.batch)
    return (sequences, steps // sequences)


def _with_end(sequence: Iterable[Chunk]) -> Iterator[tuple[Chunk, bool]]:
    """The chunks of a sequence, each with whether it is the last one."""
    before: Chunk | None = None
    for chunk in sequence:
        if before is not None:
            yield before, False
        before = chunk
    if before is not None:
        yield before, True


def _by_suffix(path: str, known: Mapping[str, Format]) -> Format:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in known:
        raise UsageError(
            f"{path or repr(path)}: the suffix is {suffix or 'missing'}, expected one of {' '.join(known)}"
        )
    return known[suffix]
