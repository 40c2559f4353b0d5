"""``tinyrnn run``: a file through a net into another file."""

from __future__ import annotations

import math
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TypeVar

import numpy as np

from tinyrnn.cli.console import STDOUT, UsageError, named, note, say
from tinyrnn.cli.inputs import INPUTS, Chunk, Frames, input_name, open_csv, open_raw
from tinyrnn.cli.models import check_simple, needs_all, open_model, output_of
from tinyrnn.cli.names import distinct
from tinyrnn.cli.outputs import OUTPUTS, RAW_OUTPUTS, CsvWriter, NpyWriter
from tinyrnn.cli.recognition import Shape
from tinyrnn.errors import ShapeError
from tinyrnn.files import replacing
from tinyrnn.net import Net
from tinyrnn.progress import Progress
from tinyrnn.weights.spec import shown

CHUNK = 1 << 18  # numbers of input, and of output, that are held at once

Format = TypeVar("Format")


def command(args: Namespace) -> None:
    """Stream the input through the net; nets that need the full sequence take each as a whole."""
    begun = time.perf_counter()
    piped = args.output == "-"
    open_input = _input(args)
    make_writer = _writer(args)
    distinct(
        args,
        {"--output": None if piped else args.output},
        {"INPUT": None if args.input == "-" else args.input, "MODEL": args.model},
    )
    net = open_model(args)
    check_simple(args.model, net, net._own_steps)
    frames = open_input(args, net)
    if make_writer is not NpyWriter and len(frames.lead or ()) == 2:
        raise UsageError(f"{args.output}: a .csv cannot hold a batch of sequences: write a .npy")
    if args.follow and needs_all(net):
        raise UsageError(f"--follow: {args.model} needs the full sequence, expected a net that streams")
    output = output_of(net, frames.frame)
    out_frame = output.frame or ()
    if needs_all(net):
        stream, most = None, sys.maxsize
    else:
        stream = net.stream(frames.batch, frame=frames.frame)
        most = max(1, CHUNK // (frames.batch * max(math.prod(frames.frame), math.prod(out_frame))))
    # The end of a sequence matters only to nets with a rate of their own, so only there a chunk waits.
    in_turn = _with_end if output.rate is not None else _at_once
    bar, taken, steps, bad, busy = Progress(not piped), 0, 0, 0, 0.0
    try:
        with _standard_output() if piped else replacing(args.output) as file:
            writer = make_writer(file)
            if frames.note is not None:
                note(frames.note)
            sequences = 0
            for sequence in frames.sequences(most):
                sequences += 1
                if stream is not None:
                    stream.reset()
                for (chunk, done), is_last in in_turn(sequence):
                    start = time.perf_counter()
                    try:
                        y = net(chunk) if stream is None else stream.run(chunk, end=is_last)
                    except IndexError as error:
                        raise IndexError(f"{input_name(args)}: after {taken:,} steps: {error}") from None
                    busy += time.perf_counter() - start
                    y = y[0] if isinstance(y, tuple) else y
                    if len(y):
                        writer.write(y)
                        if piped:
                            file.flush()
                    taken, steps = taken + len(chunk), steps + len(y)
                    bad += int(y.size - np.isfinite(y).sum())
                    bar.show(done)
            if not steps:
                raise ShapeError(f"{input_name(args)}: got no frames, expected at least one")
            shape = (*_lead(frames, sequences, steps), *out_frame)
            writer.finish(shape)
    finally:
        bar.close()
    seconds = time.perf_counter() - begun
    (note if piped else say)(
        f"{shown(args.output, 1000)}: {taken:,} steps, shape {shape}, {seconds:.3f} s in all, "
        f"{1e6 * busy / taken:.2f} µs per step in the net"
        + (f"; {bad:,} numbers are NaN or infinite: look at the input, then at the weights" if bad else "")
    )


def _input(args: Namespace) -> Callable[[Namespace, Net], Frames]:
    if args.raw:
        return open_raw
    suffixes = [os.path.splitext(path)[1].lower() in INPUTS for path in (args.model, args.input)]
    if suffixes == [True, False]:
        raise UsageError(f"{args.model}: got it as MODEL, expected a net's file: MODEL comes before INPUT")
    opener = open_csv if args.input == "-" else _by_suffix(args.input, INPUTS)
    if args.follow and opener is not open_csv:
        raise UsageError(f"--follow: got {args.input}, expected a .csv, or samples with --raw")
    return opener


def _writer(args: Namespace) -> Callable[[IO[bytes]], NpyWriter | CsvWriter]:
    if args.follow and args.output != "-":
        raise UsageError(
            f"--follow: got -o {args.output}, expected -o -, since a file is written whole: > {args.output}"
        )
    if args.raw_output:
        return RAW_OUTPUTS[args.raw_output]
    return CsvWriter if args.output == "-" else _by_suffix(args.output, OUTPUTS)


@contextmanager
def _standard_output() -> Iterator[IO[bytes]]:
    with named(STDOUT):
        yield sys.stdout.buffer


def _lead(frames: Frames, sequences: int, steps: int) -> Shape:
    """The axes before the frame of the output, in the input's order; its steps may be fewer."""
    if frames.lead is None or len(frames.lead) == 1:
        return (steps,)
    if sequences == 1 and frames.lead[1] == frames.batch:
        return (steps, frames.batch)
    return (sequences, steps // sequences)


def _at_once(sequence: Iterable[Chunk]) -> Iterator[tuple[Chunk, bool]]:
    """The chunks of a sequence as they come."""
    return ((chunk, False) for chunk in sequence)


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
