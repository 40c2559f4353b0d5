"""``tinyrnn info``: the contents of a file."""

from __future__ import annotations

import math
import sys
from argparse import Namespace

import numpy as np

import tinyrnn as tr
from tinyrnn.cli.console import UsageError, one_line, say, table
from tinyrnn.cli.models import bindings, closed_frame, needs_all
from tinyrnn.cli.recognition import Shape, brief, modules
from tinyrnn.loading import net_in
from tinyrnn.outlines import outline
from tinyrnn.state_dicts import unwrapped
from tinyrnn.weights import opened
from tinyrnn.weights.spec import READ, bits_of, shown

LISTED = 60  # entries printed of a long list


def command(args: Namespace) -> None:
    """List tensors, metadata and layers; for a net that we saved, its memory too."""
    limit, width = (None, sys.maxsize) if args.all else (LISTED, 100)
    net, failure = None, None
    with opened(args.file, args.key) as file:
        info = file.info
        description = file.net
        try:
            net = net_in(file, **bindings(args)) if description is not None else None
        except tr.LoadError as error:  # the tensors can be listed all the same
            failure = error
    if net is not None:  # a quantised tensor has scales beside it, and codes that share a byte
        parameters = sum(math.prod(tensor.shape) for tensor in net._tensors())
    else:
        floats = [t for t in info.tensors if READ.get(t.dtype, (0, 0))[1] is np.float32]
        parameters = sum(math.prod(tensor.shape) for tensor in floats)
    stored = sum(math.prod(t.shape) * bits_of(t.dtype) // 8 for t in info.tensors)
    written = "" if description is None else "a net in "
    say(f"{shown(args.file, 1000)}: {written}{info.format}, {info.bytes:,} bytes")
    if net is not None and not info.tensors:  # an ONNX file may have its numbers within its nodes
        say(f"{parameters:,} parameters")
    else:
        say(f"{len(info.tensors):,} tensors, {parameters:,} parameters, {stored:,} bytes of numbers")
    if info.tensors:
        say("\ntensors")
        table(((shown(t.name, width), t.dtype, str(t.shape)) for t in info.tensors), limit)
    if list(unwrapped({t.name: 0 for t in info.tensors})) != [t.name for t in info.tensors]:
        say("\nPyTorch's wrappers stand in the names, such as module.; a net that loads them leaves them out")
    metadata = [
        (shown(key, width), shown(value, width))
        for key, value in info.metadata.items()
        if value is not description
    ]
    if metadata:
        say("\nmetadata")
        table(metadata, limit)
    if info.unread:
        say("\nleft unread")
        table(((shown(name, width), kind) for name, kind in info.unread), limit)
    if failure is not None:
        raise failure
    if net is not None:
        _architecture(net, args.frame, limit, width)
    else:
        _recognised({tensor.name: tensor.shape for tensor in info.tensors}, limit, width)


def _architecture(net: tr.Net, frame: Shape | None, limit: int | None, width: int) -> None:
    """Print layers, formats and memory of a net that was saved with its architecture."""
    say("\narchitecture")
    if net._is_wired:
        _graph(net, limit, width)
    else:
        table(
            ((_place(name, width), brief(leaf) + leaf._format_note()) for name, leaf in net._leaves()), limit
        )
    _memory(net, frame)


def _graph(net: tr.Net, limit: int | None, width: int) -> None:
    """Print the layers of a net that is no chain, and what each reads."""
    found = net.summary()
    rows = []
    for row in found.rows:
        name, kind, reads, writes, time = (cell and shown(cell, width) for cell in row[:5])
        rows.append((name, kind, reads, writes, time, *row[5:]))
    notes = tuple(shown(note, width) for note in found.notes)
    more = len(rows) - limit if limit else 0
    if more > 0:
        notes = (f"... and {more:,} more; --all lists them", *notes)
    say(str(found._replace(rows=rows[:limit], notes=notes)))


def _memory(net: tr.Net, frame: Shape | None) -> None:
    """Print the memory of a stream, or why there is none."""
    if needs_all(net):
        say("\nmemory: depends on the steps, since the net needs the full sequence: net.memory(steps=...)")
        return
    if net._is_wired and len({line.time for line in outline(net).inputs} - {None}) > 1:
        say("\nmemory of one stream: depends on the steps of the other axis, net.memory(steps=...)")
        return
    try:
        is_open = None in (net._frame() or [None])  # the inputs of a graph have their frames
        memory = net.memory(frame=closed_frame(net, frame) if is_open else frame)
    except (ValueError, TypeError, UsageError) as error:
        say(f"\nmemory of one stream: {one_line(str(error))}")
    else:
        say(
            f"\nmemory of one stream: weights {memory.weights:,}, state {memory.state:,}, "
            f"scratch {memory.scratch:,} bytes"
        )


def _recognised(shapes: dict[str, Shape], limit: int | None, width: int) -> None:
    """Print the layers that fit tensors without an architecture."""
    found = modules(shapes)
    layers = [(_place(m.prefix, width), m.describe()) for m in found if m.fits]
    if layers:
        say("\nlayers recognised by their shapes")
        table(layers, limit)
    other = sum(len(m.names) for m in found if not m.fits)
    if other:
        say(f"\ntensors of no layer that is recognised: {other:,}")


def _place(prefix: str, width: int) -> str:
    return shown(prefix.removesuffix("."), width) if prefix else "(top)"
