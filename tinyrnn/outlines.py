"""A net as a list of its layers: what each reads and writes, when it runs, and what it needs; `Summary`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tinyrnn import _core
from tinyrnn.contract import Module
from tinyrnn.plans import Cores
from tinyrnn.tensors import STATISTICS, Frame
from tinyrnn.values import TIME, Rate, time_of, wired

UNKNOWN = "?"  # stands for a frame that the layers leave open


class Line(NamedTuple):
    """An input of a net, or one of its layers: a value of the net.

    Attributes
    ----------
    name : str
        As in `Net.state_dict`, with dots for nets within nets.
    layer : Module, optional
        None for an input.
    reads : tuple of int
        The numbers of the values that it reads: inputs first, then layers in order.
    frame : tuple of int, optional
        The frame of its value; None if the layers leave it open.
    time : str, optional
        The name of its value's axis of time; None for a value per sequence.
    axis : int
        The core's number of that axis.
    parameters, nbytes : int
        Numbers that training changes, and bytes of weights; 0 if a line before has the same layer.
    same : str
        The name of the line before that has the same layer; empty if none has.
    loop : int
        The place of the delay that begins the loop that it runs in; -1 outside loops.
    late : bool
        True if its value depends on the whole sequence.
    needs : str
        The reason why it needs the full sequence; empty if it does not.
    cores : Cores, optional
        Its core layers, which read the values that it reads; None if those have no known frames.
    rate : Rate, optional
        How its value follows an axis of the inputs; None for a value that has their steps.
    """

    name: str
    layer: Module | None
    reads: tuple[int, ...]
    frame: Frame | None
    time: str | None
    axis: int
    parameters: int = 0
    nbytes: int = 0
    same: str = ""
    loop: int = -1
    late: bool = False
    needs: str = ""
    cores: Cores | None = None
    rate: Rate | None = None

    @property
    def kind(self) -> str:
        """The type of the layer, ``"Input"`` for an input."""
        return "Input" if self.layer is None else type(self.layer).__name__


class Outline(NamedTuple):
    """A net as lines.

    Attributes
    ----------
    lines : list of Line
        Inputs first, then layers in the order in which they run.
    outputs : dict of str to int
        The number of each output's value.
    """

    lines: list[Line]
    outputs: dict[str, int]

    @property
    def inputs(self) -> list[Line]:
        return [line for line in self.lines if line.layer is None]

    def is_feedback(self, place: int) -> bool:
        """Tell whether a layer reads a value that is written later."""
        return any(read >= place for read in self.lines[place].reads)

    def loops(self) -> dict[int, list[str]]:
        """The names of the layers of each loop, by the place of the delay that begins it."""
        found: dict[int, list[str]] = {}
        for line in self.lines:
            if line.loop >= 0:
                found.setdefault(line.loop, []).append(line.name)
        return found


def outline(net: Module, frame: Frame | None = None) -> Outline:
    """Outline a net. ``frame`` is that of its input, where the layers leave it open."""
    inputs, parts, outputs = _flat(net)
    lines = [Line(name, None, (), given, time, 0) for name, (given, time) in inputs.items()]
    if frame is not None and len(lines) == 1:
        lines[0] = lines[0]._replace(frame=tuple(frame))
    times = list(dict.fromkeys(line.time for line in lines if line.time is not None)) or [TIME]
    lines = [line._replace(axis=0 if line.time is None else 1 + times.index(line.time)) for line in lines]
    first: dict[int, str] = {}
    fed_back = _axes_of_feedback(net, parts, len(lines), times)
    for name, layer, reads in parts:
        same = first.get(id(layer), "")
        first.setdefault(id(layer), name)
        line = Line(name, layer, reads, None, TIME, 1, same=same)
        if not same:
            line = line._replace(
                parameters=sum(
                    math.prod(one.shape) for one in layer._tensors() if not one.name.endswith(STATISTICS)
                ),
                nbytes=sum(core.nbytes for core in layer._cores()),
            )
        lines.append(_laid(line, lines, times, fed_back.get(len(lines), 1)))
    return Outline(_looped(lines), outputs)


_Part = tuple[str, Module, tuple[int, ...]]


def _flat(
    net: Module,
) -> tuple[dict[str, tuple[Frame | None, str | None]], list[_Part], dict[str, int]]:
    """The layers of a net and of all nets within it, with reads as numbers in one table."""
    inputs = net._ports_known()
    parts: list[_Part] = []

    def walk(prefix: str, one: Module, table: list[int]) -> dict[str, int]:
        """Append the layers of a net that reads some values; return the numbers of its outputs."""
        nodes, outputs = one._nodes_known()
        later: list[tuple[int, int]] = []
        for name, layer, reads in nodes:
            path = f"{prefix}{name}"
            if layer is one or not layer._nodes_known()[0]:
                if any(read >= len(table) for read in reads):
                    later.append((len(parts), reads[0]))
                path = path.removesuffix(".") or type(layer).__name__
                parts.append((path, layer, tuple(table[r] if r < len(table) else 0 for r in reads)))
                table.append(len(inputs) + len(parts) - 1)
            else:
                given = [table[read] for read in reads]
                table.append(next(iter(walk(f"{path}.", layer, given).values())))
        for place, read in later:
            name, layer, reads = parts[place]
            parts[place] = (name, layer, (table[read], *reads[1:]))
        return {name: table[number] for name, number in outputs.items()}

    if net._nodes_known()[0]:
        outputs = walk("", net, list(range(len(inputs))))
    else:
        parts.append((type(net).__name__, net, tuple(range(len(inputs)))))
        outputs = {"y": len(inputs)}
    return inputs, parts, outputs


def _axes_of_feedback(net: Module, parts: list[_Part], inputs: int, times: list[str]) -> dict[int, int]:
    """The axis of time of each layer that reads a later value, by its number; only the whole net tells.

    Axes that are new are added to ``times``, their names.
    """
    if not any(read >= number for number, (*_, reads) in enumerate(parts, inputs) for read in reads):
        return {}
    ports = net._several() or net._ports()
    cores = ports.cores
    read = {value for reads in cores.reads for value in reads}
    unread = tuple(value for value in cores.outputs if value not in read)  # every value has a use
    found = {}
    place = inputs
    for number, (_, layer, reads) in enumerate(parts, inputs):
        if any(read >= number for read in reads):
            plan = _core.Plan(cores.writing((place, *unread)), (), 1, (1,) * len(ports.times))
            time = time_of(plan, plan.outputs[0][1], list(ports.times))
            found[number] = _axis_among(times, time)
        place += layer._core_count()
    return found


def _laid(line: Line, lines: Sequence[Line], times: list[str], fed_back: int) -> Line:
    """Find the frame and the axis of what a layer writes, and whether it needs the full sequence.

    ``fed_back`` is the axis of a value that it reads and that is written later.
    """
    layer = line.layer
    assert layer is not None
    known = layer._frame()
    closed = None if known is None or None in known else tuple(size or 1 for size in known)
    given: list[tuple[Frame | None, int, bool]] = [
        (lines[read].frame, lines[read].axis, lines[read].late)
        if read < len(lines)
        else (closed, fed_back, False)
        for read in line.reads
    ]
    frames = [frame if frame is not None else closed for frame, _, _ in given]
    axes = list(dict.fromkeys(axis for _, axis, _ in given if axis))
    late = any(late for _, _, late in given)
    found = line._replace(late=late)
    if any(frame is None for frame in frames):
        axis = axes[0] if axes else 0
    elif line.kind == "FinalState":  # it reads a layer, not only that layer's value
        return found._replace(frame=_final_frame(layer, lines[line.reads[0]]), axis=0, time=None, late=True)
    else:
        cores = Cores(
            [
                (frame or (), 1 + axes.index(axis) if axis else 0)
                for frame, (_, axis, _) in zip(frames, given, strict=True)
            ]
        )
        (number, frame), *_ = wired(layer, cores, [one or () for one in frames], list(range(len(given))))
        found = found._replace(frame=frame, cores=cores)
        axis = given[number][1] if number < len(given) else 0
        full = False
        if number >= len(given):
            cores.outputs = (number,)
            plan = _core.Plan(cores, (), 1, (1,) * max(1, len(axes)))
            written = plan.outputs[0][1]
            names = [times[one - 1] for one in axes] or [TIME]
            axis = _axis_among(times, time_of(plan, written, names))
            full = _waits(cores, axes, times, plan)
        found = found._replace(late=late or (axis == 0 and bool(axes)))
        if full:
            found = found._replace(needs=_reason(layer, axes, times))
    if late and axis:
        name = next(lines[read].name for read in line.reads if read < len(lines) and lines[read].late)
        found = found._replace(needs=f"reads {name}, which is known at the end of the sequence")
    time = times[axis - 1] if axis else None
    own = time is None or time in [TIME, *(one.time for one in lines if one.layer is None)]
    return found._replace(axis=axis, time=time, rate=None if own else Rate.parse(str(time)))


def _is_streams(axis: int, times: list[str]) -> bool:
    """Tell whether a stream's steps make those of an axis: it is the first one, or follows it at a rate."""
    return Rate.parse(times[axis - 1]).time == times[0]


def _waits(cores: Cores, axes: list[int], times: list[str], plan: _core.Plan) -> bool:
    """Tell whether core layers over some axes of a net, laid out alone, need the full sequence there."""
    if not axes or _is_streams(axes[0], times):
        return plan.full_sequence
    order = sorted(axes, key=lambda axis: not _is_streams(axis, times))
    first = 1 if _is_streams(order[0], times) else 2  # the core streams over axis 1
    there = cores.writing(cores.outputs)
    there.inputs = [
        (frame, first + order.index(axes[axis - 1]) if axis else 0) for frame, axis in cores.inputs
    ]
    return _core.Plan(there, (), 1, (1,) * (1 + len(axes))).full_sequence


def _axis_among(times: list[str], time: str | None) -> int:
    """The number of an axis of time, which is added to the names if it is new."""
    if time is None:
        return 0
    if time not in times:
        times.append(time)
    return 1 + times.index(time)


def _final_frame(layer: Module, writer: Line) -> Frame | None:
    """The frame of the final state of the layer that writes a value."""
    if writer.cores is None:
        return None
    cores = Cores(list(writer.cores.inputs))
    for core, reads in zip(writer.cores, writer.cores.reads, strict=True):
        cores.join(core, reads)
    return layer._lay(writer.frame or (), 1, cores)


def _reason(layer: Module, axes: list[int], times: list[str]) -> str:
    if getattr(layer, "bidirectional", False):
        return "bidirectional: its reverse direction begins at the last step"
    if axes and not _is_streams(axes[0], times):
        return f"runs over {times[axes[0] - 1]!r}, and steps are those of {times[0]!r}"
    return "each step of its value depends on later steps"


def _looped(lines: list[Line]) -> list[Line]:
    """Mark the layers of loops: from a delay that reads a later value to the layer that writes it."""
    found = list(lines)
    start, end = -1, -1
    for place, line in enumerate(lines):
        last = max(line.reads, default=-1)
        if last >= place:
            if place > end:
                start = place
            end = max(end, last)
        if place <= end:
            found[place] = line._replace(loop=start)
    return found


# ---- the table -----------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """The layers of a net as a table: the result of `Net.summary`, which ``print`` shows.

    Attributes
    ----------
    rows : list of tuple
        For each input and layer: name, type, reads, writes, time, parameters, bytes.
    parameters : int
        Numbers that training changes; those of a layer that is used twice count once.
    nbytes : int
        Bytes of all weights.
    notes : tuple of str
        The lines below the table.
    """

    rows: list[tuple[str, str, str, str, str, int, int]]
    parameters: int
    nbytes: int
    notes: tuple[str, ...]

    def _table(self) -> list[tuple[str, ...]]:
        cells = [
            (*row[:5], f"{row[5]:,}" if row[5] else "", f"{row[6]:,}" if row[6] else "") for row in self.rows
        ]
        head = ("name", "type", "reads", "writes", "time", "parameters", "bytes")
        return [head, *cells, ("total", "", "", "", "", f"{self.parameters:,}", f"{self.nbytes:,}")]

    def __str__(self) -> str:
        head, *cells, total = self._table()
        widths = [max(map(len, column)) for column in zip(head, *cells, total, strict=True)]
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)

        def aligned(row: Sequence[str]) -> str:
            pairs = enumerate(zip(row, widths, strict=True))
            return "  ".join(cell.rjust(n) if i > 4 else cell.ljust(n) for i, (cell, n) in pairs).rstrip()

        table = [aligned(head), rule, *map(aligned, cells), rule, aligned(total)]
        return "\n".join([*table, *self.notes])

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        from html import escape

        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self._table())
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>{escape(' '.join(self.notes))}"

    def __repr__(self) -> str:
        return str(self)


def shape_text(frame: Frame | None) -> str:
    """A frame in words."""
    return UNKNOWN if frame is None else str(frame)


def time_text(line: Line) -> str:
    """The axis of time of a value, or once for a value per sequence."""
    return "once" if line.time is None else line.time


def listed(names: list[str]) -> str:
    """Names in a row; of very many the first and the last ones."""
    if len(names) <= 12:
        return ", ".join(names)
    return f"{', '.join(names[:4])}, ..., {', '.join(names[-2:])} ({len(names)} layers)"


def summary(net: Module, frame: Frame | None = None) -> Summary:
    """Do the work of `Net.summary`."""
    found = outline(net, frame)
    lines = found.lines
    rows = []
    for line in lines:
        kind = "input" if line.layer is None else line.kind
        if line.layer is not None:
            kind += f" = {line.same}" if line.same else line.layer._format_note()
        reads = ", ".join(lines[read].name for read in line.reads)
        rows.append(
            (line.name, kind, reads, shape_text(line.frame), time_text(line), line.parameters, line.nbytes)
        )
    outputs = ", ".join(
        lines[number].name if name == "y" or name.isdigit() else f"{name} = {lines[number].name}"
        for name, number in found.outputs.items()
    )
    notes = [f"outputs: {outputs}"]
    notes += list({f"{line.time}: {line.rate}": 0 for line in lines if line.rate})
    notes += [f"loop, step by step: {listed(names)}" for names in found.loops().values()]
    notes += [f"needs the full sequence: {line.name}: {line.needs}" for line in lines if line.needs]
    return Summary(
        rows, sum(line.parameters for line in lines), sum(line.nbytes for line in lines), tuple(notes)
    )


def described(net: Module, frame: Frame | None = None) -> str:
    """Do the work of `Net.describe`."""
    found = outline(net, frame)
    lines = found.lines
    text = [f"{type(net).__name__}: {len(lines) - len(found.inputs)} layers"]
    for line in found.inputs:
        when = "one for the sequence" if line.time is None else f"each step of {line.time!r}"
        text.append(f"  input {line.name}: {shape_text(line.frame)}, {when}")
    for name, number in found.outputs.items():
        line = lines[number]
        when = str(line.rate) if line.rate else f"each step of {line.time!r}"
        when = "one for the sequence" if line.time is None else when
        text.append(f"  output {name}: {shape_text(line.frame)} of {line.name}, {when}")
    times = list(dict.fromkeys(line.time for line in found.inputs if line.time is not None))
    full = [line for line in lines if line.needs]
    if full:
        text.append("It needs the full sequence, so it cannot stream:")
        text += [f"  {line.name} ({line.kind}): {line.needs}" for line in full]
    elif len(times) > 1:
        others = ", ".join(map(repr, times[1:]))
        text.append(f"It may stream by steps of {times[0]!r}, where all steps of {others} are given.")
    else:
        text.append("It may stream: no layer needs the full sequence.")
    stateful = [line.name for line in lines if line.layer is not None and line.layer._state_names()]
    text.append(f"State that streams keep: {', '.join(stateful) or 'none'}.")
    waits = [f"{line.name} by {getattr(line.layer, 'steps', 0)}" for line in lines if line.kind == "Align"]
    if waits:
        text.append(f"Frames that wait: {', '.join(waits)}.")
    early = [line.name for line in lines if line.layer is not None and line.time is None and not line.late]
    late = [line.name for line in lines if line.time is None and line.late]
    if early:
        text.append(f"Once for a sequence, before its first step: {', '.join(early)}.")
    if late:
        text.append(f"Once for a sequence, of the steps so far: {', '.join(late)}.")
    for start, names in found.loops().items():
        text.append(
            f"In a loop, computed step by step: {listed(names)}; it goes back through {lines[start].name}."
        )
    if len(lines) > len(found.inputs) and not found.loops():
        text.append("No layer is in a loop.")
    return "\n".join(text)
