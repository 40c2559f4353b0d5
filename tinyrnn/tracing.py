"""A net run one core layer at a time, so that what each of them reads and writes can be looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core, calls, starts
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.contract import Module
from tinyrnn.convolution import Conv2d, ConvTranspose1d
from tinyrnn.errors import ShapeError
from tinyrnn.layers import Conv1d, Linear
from tinyrnn.outlines import Line, Outline, outline
from tinyrnn.plans import Cores, laid_out
from tinyrnn.progress import watched
from tinyrnn.recurrent import _Recurrent
from tinyrnn.temporal import FinalState, TimeConv1d
from tinyrnn.tensors import Array, Frame

# What the only output of a net is called.
OUTPUT = "output"

# Rows of frames that are looked at together: their numbers are what tracing takes in memory.
CHUNK = 4096

_IDENTITY = _core.Layer("identity")  # stands for layers that have no tensors
_NO_STATE = np.empty((0, 0), np.float32)

# The rows of a matrix that read the same numbers, and those numbers, (samples, columns).
Reads = tuple[slice, Array]


# Matrices of low rank: the core's argument, and the factor that makes of the input what they read.
_FACTORS = {"weight_ih": ("input_rank", "weight_ir"), "weight_hh": ("rank", "weight_hr")}


class Seen(NamedTuple):
    """The inputs, outputs and states of one core layer over some steps.

    Attributes
    ----------
    name : str
        As in `Net.formats`.
    leaf, core
        The layer, and the core layer of it.
    x, y : ndarray
        What it read and wrote: ``(T, B, frame)`` in a net with recurrent layers, else as in a call.
    before : list of ndarray, float32, (T, B, size)
        Of a recurrent layer: the hidden state of each direction before each step.
    state : ndarray, float32, (B, numbers)
        Of a recurrent layer: the core's rows of its state before the first step.
    outputs : tuple of str
        The net's outputs that y is: ``"output"`` for the only one.
    once : bool
        True if y is one frame for the sequence, ``(B, frame)``.
    mask : ndarray, float32, (T, B), optional
        Of a recurrent layer that reads a mask: 0 at the steps that do not count.
    """

    name: str
    leaf: Module
    core: _core.Layer
    x: NDArray[Any]
    y: Array
    before: list[Array]
    state: Array
    outputs: tuple[str, ...] = ()
    once: bool = False
    mask: Array | None = None

    def tensors(self, direction: int) -> dict[str, Array]:
        """Tensors by name, those of a recurrent layer's direction without it."""
        suffix = "_reverse" if direction else ""
        return {
            name.removesuffix("_reverse"): self.core.get(i)
            for i, (name, _) in enumerate(self.core.params)
            if name.endswith("_reverse") == bool(suffix)
        }

    def gates(self) -> dict[str, Array]:
        """The activation of each gate of a recurrent layer, ``(T, B, hidden_size)``, by name.

        The core computes them by the cell's own formula, from what the layer read and wrote. They are 0 at
        the steps that a mask leaves out.
        """
        found: dict[str, Array] = {}
        names = self.core.gate_names
        for direction in range(len(self.before) if names else 0):
            for name, values in zip(names, self._walk(direction), strict=False):
                found[name + "_reverse" * direction] = values
        return found

    def _walk(self, direction: int) -> Array:
        """The gates by the steps of one direction, and after them h before its projection."""
        frames = (*self.x.shape[:2], self.core.argument("hidden_size"))
        found = np.zeros((len(self.core.gate_names) + 1, *frames), np.float32)
        x, reverse = as_floats(self.x, "x"), bool(direction)
        if self.mask is None:
            self.core.gates(x, self.y, self.state.copy(), found, reverse)
            return found
        for row, counts in enumerate(self.mask.T):  # a row's steps that count are a sequence
            kept, own = np.flatnonzero(counts), slice(row, row + 1)
            part = np.empty((len(found), len(kept), 1, frames[-1]), np.float32)
            if len(kept):
                self.core.gates(x[kept, own], self.y[kept, own], self.state[own].copy(), part, reverse)
            found[:, kept, own] = part
        return found

    def _steps_read(self, leaf: TimeConv1d) -> list[Reads]:
        """The inputs of each group of a convolution over time: windows of steps, side by side or not yet."""
        channels, taps = leaf.in_channels, leaf.kernel_size
        if self.core.kind == "conv1d":
            windows = self.x.reshape(-1, channels, taps)
        else:
            steps, batch = self.x.shape[:2]
            before = self.state[:, : (taps - 1) * leaf.dilation * channels].reshape(batch, -1, channels)
            every = np.concatenate([before.swapaxes(0, 1), self.x.reshape(steps, batch, channels)])
            starts_at = range(0, taps * leaf.dilation, leaf.dilation)
            windows = np.stack([every[at : at + steps] for at in starts_at], -1).reshape(-1, channels, taps)
        inputs, outputs = channels // leaf.groups, leaf.out_channels // leaf.groups
        return [
            (
                slice(group * outputs, (group + 1) * outputs),
                windows[:, group * inputs : (group + 1) * inputs].reshape(-1, inputs * taps),
            )
            for group in range(leaf.groups)
        ]

    def reads(self) -> dict[int, list[Reads]]:
        """The inputs of each matrix, by the number of its param. A table multiplies nothing."""
        leaf = self.leaf
        if isinstance(leaf, Linear):
            return {0: [(slice(None), self.x.reshape(-1, leaf.in_features))]}
        if isinstance(leaf, Conv1d):
            return {0: _windows(leaf, self.x)}
        if isinstance(leaf, Conv2d):
            return {0: _windows_of_pictures(leaf, self.x)}
        if isinstance(leaf, ConvTranspose1d):
            return {0: _positions(leaf, self.x)}
        if isinstance(leaf, TimeConv1d):
            return {0: self._steps_read(leaf)} if self.core.matrices else {}
        found: dict[int, list[Reads]] = {}
        if isinstance(leaf, _Recurrent):
            names = [name for name, _ in self.core.params]
            for i, (name, shape) in enumerate(self.core.params):
                direction = int(name.endswith("_reverse"))
                kind = name.removesuffix("_reverse")
                if len(shape) == 1:  # as an IndRNN's weight_hh
                    continue
                if kind in ("weight_ih", "weight_ir"):
                    read = self.x
                elif kind == "weight_hh" or (kind == "weight_hr" and self.core.argument("rank")):
                    read = self.before[direction]
                elif kind == "weight_hr":
                    read = self._walk(direction)[-1]
                else:
                    continue
                rank, factor = _FACTORS.get(kind, ("", ""))
                if rank and self.core.argument(rank):
                    read = read @ self.core.get(names.index(factor + "_reverse" * direction)).T
                found[i] = [(slice(None), read.reshape(-1, shape[1]))]
                if kind == "weight_hh" and self.core.kind.startswith("gru_before"):
                    (_, h), rows = found[i][0], 2 * shape[1]  # of r and z; n multiplies r h
                    reset = self._walk(direction)[0].reshape(-1, shape[1])
                    found[i] = [(slice(0, rows), h), (slice(rows, None), reset * h)]
        return found


def watch(net: Module, x: Any, until: str | None = None) -> Iterator[list[Seen]]:
    """Run a net, and yield what its core layers did, chunk by chunk with the state carried on.

    A net that needs the full sequence, or has no recurrent layer, sees all at once. What is computed once for
    a sequence is in one of the chunks: in the first, or in the last if it depends on the steps.

    Parameters
    ----------
    net : Net
    x : array_like, or mapping from name to array
        As ``net(x)`` takes it; for a net that is a cell, as ``net.stream().run(x)`` does. A mapping for a net
        of several inputs.
    until : str, optional
        The name of the last layer to run; by default all do.

    Raises
    ------
    ShapeError, TypeError, IndexError
        If the input does not fit.
    ValueError
        If a layer cannot run apart from another: a `FinalState`.
    """
    if net._is_wired:
        yield from _watch_graph(net, x, until)
        return
    array = as_array(x)
    if not net._recurrent:
        yield _maps(net, array, until)
        return
    _, lead, cores, _ = calls.enter(net, array[:1])
    if lead == 2 and net._batch_first:
        array = array.swapaxes(0, 1)
    steps, batch = (*array.shape[:lead], 1)[:2]
    if steps == 0 or batch == 0:
        raise ShapeError(
            f"{type(net).__name__}: input has shape {np.shape(x)}, expected at least one step and one row"
        )
    whole = any(getattr(leaf, "bidirectional", False) for _, leaf in net._leaves()) or _changes_rate(cores)
    size = steps if whole else max(1, CHUNK // batch)
    levels: list[_Level] = []
    for start in watched(range(0, steps, size)):
        part = calls.enter(net, array[start : start + size])[0]
        frame = part.shape[lead:]
        part = part.reshape(len(part), batch, *frame)
        levels = levels or _levels(net, frame, lead, batch, len(part))
        seen = []
        for level in levels:
            seen.append(level.run([part]))
            part = seen[-1].y[np.newaxis] if level.once else seen[-1].y  # as a sequence of one step
            if level.name == until:
                break
        seen[-1] = seen[-1]._replace(outputs=(OUTPUT,))
        yield seen


def _changes_rate(cores: list[_core.Layer]) -> bool:
    """Tell whether core layers write fewer steps than they read: then they see whole sequences here."""
    return any(core.kind == "unfold_steps" for core in cores)


def _maps(net: Module, x: NDArray[Any], until: str | None) -> list[Seen]:
    """A net in which no frame depends on another."""
    if x.ndim == net._rank(x.ndim):
        x = x[np.newaxis]
    seen, lead = [], 0
    if net._has_frames:
        x, lead, _, _ = calls.enter(net, x)
    for name, leaf, _ in net._places():
        if net._has_frames:
            y = calls.run_cores(leaf, x, lead, *leaf._laid(x.shape[lead:], lead), 1)
        else:
            y = leaf(x)
        seen.append(Seen(name, leaf, (leaf._cores() or [_IDENTITY])[0], x, y, [], _NO_STATE))
        x = y
        if name == until:
            break
    seen[-1] = seen[-1]._replace(outputs=(OUTPUT,))
    return seen


def entered(net: Module, x: Any) -> tuple[Outline, list[NDArray[Any]], tuple[int, ...]]:
    """Check the inputs of a graph, given as one, or as a mapping of several.

    Returns
    -------
    outline : Outline
    arrays : list of ndarray
        ``(T, B, frame)``, or ``(B, frame)`` for an input per sequence.
    steps : tuple of int
        Of each axis of time.
    """
    names = list(net._ports_known())
    several = net._several()
    if several is None and not isinstance(x, Mapping):
        array, lead, cores, _ = calls.enter(net, x)
        frame = array.shape[lead:]
        swapped, count, batch = calls.axes(net, array, lead)
        array = array.swapaxes(0, 1) if swapped else array
        assert isinstance(cores, Cores)
        return outline(net, frame), [array.reshape(count, batch, *frame)], (count,)
    laid: Any = several or net._ports()  # a graph: other nets have one input
    sizes = calls.Entered(net, laid, calls.named_inputs(net, names, (x,)), None, type(net).__name__)
    arrays = sizes.in_time()
    if not sizes.batched:
        arrays = [
            array[:, np.newaxis] if axis else array[np.newaxis]
            for array, axis in zip(arrays, sizes.axes, strict=True)
        ]
    return outline(net), arrays, sizes.steps


def _watch_graph(net: Module, x: Any, until: str | None) -> Iterator[list[Seen]]:
    """Do the work of `watch` for a net whose layers read any values."""
    found, arrays, steps = entered(net, x)
    lines = found.lines
    batch = arrays[0].shape[1 if lines[0].axis else 0]
    steps += _steps_of_rates(found, steps)
    whole = len(steps) > 1 or any(line.needs for line in lines)
    size = steps[0] if whole else max(1, CHUNK // batch)
    names: dict[int, tuple[str, ...]] = {}
    for name, number in found.outputs.items():
        shown = OUTPUT if len(found.outputs) == 1 else f"{OUTPUT}.{name}"
        names[number] = (*names.get(number, ()), shown)
    levels = _graph_levels(net, found, batch, steps if whole else (min(size, steps[0]),))
    blocks = [
        (loop, list(block)) for loop, block in groupby(levels, lambda level: level[0].loop)
    ]  # what runs layer by layer, and loops
    for start in watched(range(0, steps[0], size)):
        part = (min(size, steps[0] - start), *steps[1:])
        is_last = start + size >= steps[0]
        values = [
            array[start : start + size] if line.axis == 1 else array
            for array, line in zip(arrays, found.inputs, strict=True)
        ]
        seen = []
        for loop, block in blocks:
            ran = (
                _run_in_row(block, values, part, until) if loop < 0 else _run_loop(found, block, values, part)
            )
            for line, number, ones in ran:
                for one in ones:
                    if not one.once or (is_last if line.late else start == 0):
                        seen.append(one._replace(outputs=names.get(number, ()) if one is ones[-1] else ()))
            if any(one.name == until for _, _, ones in ran for one in ones):
                break
        yield seen


def _steps_of_rates(found: Outline, steps: tuple[int, ...]) -> tuple[int, ...]:
    """The steps of the axes of other rates, given those of the inputs' axes, which come before them."""
    rates = {line.axis: line.rate for line in found.lines if line.rate is not None}
    axes = {line.time: line.axis for line in found.inputs}
    return tuple(rates[axis].frames(steps[axes[rates[axis].time] - 1]) for axis in sorted(rates))


# A layer of a graph: its line, the number of its value, and its core layers.
_Group = tuple[Line, int, "list[_Level | _Final]"]
_Ran = list[tuple[Line, int, list[Seen]]]


def _run_in_row(
    block: list[_Group], values: list[NDArray[Any]], part: tuple[int, ...], until: str | None
) -> _Ran:
    """Run layers one after the other, and append their values; up to the layer ``until``, if it is there."""
    ran: _Ran = []
    for line, number, group in block:
        given = [values[read] for read in line.reads]
        ones: list[Seen] = []
        for level in group:
            ones.append(level.run([given[read] for read in level.reads], part))
            given.append(ones[-1].y)
            if level.name == until:
                break
        values.append(given[-1])
        ran.append((line, number, ones))
        if ones and ones[-1].name == until:
            break
    return ran


def _run_loop(found: Outline, block: list[_Group], values: list[NDArray[Any]], part: tuple[int, ...]) -> _Ran:
    """Run the layers of a loop step by step, and append their values.

    A delay that reads a later value runs twice in a step: first its output counts, and at the end its input.
    """
    axis, first = block[0][0].axis, block[0][1]
    once = tuple(1 if place == axis else count for place, count in enumerate(part, 1))
    ran: list[list[list[Seen]]] = [[[] for _ in group] for _, _, group in block]
    for t in range(part[axis - 1]):
        now: list[NDArray[Any]] = []  # the values of the loop

        def at(read: int, t: int = t, now: list[NDArray[Any]] = now) -> NDArray[Any]:
            if read >= first:
                return now[read - first]
            return values[read][t : t + 1] if found.lines[read].axis == axis else values[read]

        for _, number, group in block:
            if found.is_feedback(number):
                begins = [values[read] for read in found.lines[number].reads[1:]]
                now.append(_delay(group).peek(begins, once))
                continue
            given = [at(read) for read in found.lines[number].reads]
            for level, kept in zip(group, ran[number - first], strict=True):
                kept.append(level.run([given[read] for read in level.reads], once))
                given.append(kept[-1].y)
            now.append(given[-1])
        for line, number, group in block:
            if found.is_feedback(number):
                given = [at(line.reads[0]), *(values[read] for read in line.reads[1:])]
                ran[number - first][0].append(group[0].run(given, once))
    joined: _Ran = []
    for (line, number, group), of_group in zip(block, ran, strict=True):
        timed = [found.lines[read].axis == axis for read in line.reads] + [not level.once for level in group]
        ones = [_joined(steps, timed[level.reads[0]]) for level, steps in zip(group, of_group, strict=True)]
        values.append(ones[-1].y if ones else values[line.reads[0]])
        joined.append((line, number, ones))
    return joined


def _delay(group: list[_Level | _Final]) -> _Level:
    """The core layer of a delay."""
    level = group[0]
    assert isinstance(level, _Level)
    return level


def _joined(steps: list[Seen], timed: bool) -> Seen:
    """One core layer's steps as one; its input has an axis of time if it is ``timed``."""
    one = steps[0]
    return one._replace(
        x=np.concatenate([step.x for step in steps]) if timed else one.x,
        y=one.y if one.once else np.concatenate([step.y for step in steps]),
        before=[np.concatenate(each) for each in zip(*(step.before for step in steps), strict=True)],
        mask=None if one.mask is None else np.concatenate([step.mask for step in steps]),
    )


class _Level:
    """One core layer with a state of its own.

    Attributes
    ----------
    reads : tuple of int
        Among the values that its layer reads, and then those that its layer's core layers write.
    axes : tuple of int
        The net's axes of time that the core layer's plan knows, the plan's axis 1 first.
    masked : bool
        True if the second value that it reads is a mask.
    """

    def __init__(
        self,
        name: str,
        leaf: Module,
        core: _core.Layer,
        out_frame: Frame,
        plan: _core.Plan,
        reads: tuple[int, ...] = (0,),
        axes: tuple[int, ...] = (),
        masked: bool = False,
    ) -> None:
        self.name, self.leaf, self.core, self.out_frame = name, leaf, core, out_frame
        self.plan, self.batch = plan.ready(), plan.batch
        self.reads, self.axes, self.masked = reads, axes, masked
        self.axis = plan.outputs[0][1]  # the plan's
        self.part = _core.Part(plan, 0, 0)
        self.state = _core.aligned_zeros(plan.state_bytes)
        self.last: list[Array] = []
        if isinstance(leaf, _Recurrent):
            directions = range(leaf._directions)
            self.last = [np.zeros((self.batch, leaf._output_size), np.float32) for _ in directions]
        self.begun = not plan.begins(0)

    def begin(self, start: Array) -> None:
        """Begin with one row of a state, of each direction first h."""
        self.state.reshape(self.batch, -1)[:, : len(start)] = start
        for last, own in zip(self.last, np.split(start, len(self.last) or 1), strict=False):
            last[:] = own[: last.shape[1]]

    def begin_with(self, values: list[NDArray[Any]]) -> None:
        """Begin with values of the net, as the core does: those of h, then those of an LSTM's c."""
        self.begun = True
        if not isinstance(self.leaf, _Recurrent):
            return
        first = int(self.core.argument("level")) * len(self.last)
        parts = [
            array.reshape(self.batch, -1, size)[:, first + direction]
            for direction in range(len(self.last))
            for array, size in zip(values, (self.leaf._output_size, self.leaf.hidden_size), strict=False)
        ]
        state = self.state.reshape(self.batch, -1)
        row = np.concatenate(parts, axis=1)
        state[:, : row.shape[1]] = row
        for last, own in zip(self.last, np.split(row, len(self.last), axis=1), strict=True):
            last[:] = own[:, : last.shape[1]]

    @property
    def once(self) -> bool:
        """True if it writes one frame for the sequence."""
        return not self.axis

    def peek(self, begins: list[NDArray[Any]], steps: tuple[int, ...]) -> Array:
        """The output of a delay's next step, which is older than its input; its state stays.

        ``begins`` are the values that its state begins with.
        """
        state = self.state.copy()
        seen = self.run([np.zeros((1, self.batch, *self.out_frame), np.float32), *begins], steps)
        self.state[:] = state
        return seen.y

    def run(self, xs: list[NDArray[Any]], steps: tuple[int, ...] = ()) -> Seen:
        """Run some steps; ``steps`` are those of each of the net's axes, by default the array's."""
        xs = [np.ascontiguousarray(x) for x in xs]
        if not self.begun:
            self.begin_with(xs[1 + self.masked :])
        counts = tuple(steps[axis - 1] for axis in self.axes) if steps else xs[0].shape[:1]
        counts = counts or (1,)
        due = calls.due_of(self.plan, self.state, counts, [None] * len(counts))[0]
        count = counts[self.axis - 1] if due is None else due[0]
        lead = (count, self.batch) if self.axis else (self.batch,)
        y = np.zeros((*lead, *self.out_frame), np.float32)
        state = self.state.reshape(self.batch, -1).copy()
        self.part.run_ports(xs, [y], self.state, counts, [None] * len(counts), 0, True)
        before = []
        for direction, last in enumerate(self.last):
            h = y[..., direction * last.shape[1] : (direction + 1) * last.shape[1]]
            before.append(np.concatenate([h[1:], last[None]] if direction else [last[None], h[:-1]]))
            if not direction:
                last[:] = h[-1]
        mask = xs[1].reshape(-1, self.batch) if self.masked and before else None
        return Seen(self.name, self.leaf, self.core, xs[0], y, before, state, (), not self.axis, mask)


class _Final:
    """A `FinalState`: it reads the states of other core layers, after these have run."""

    reads = (0,)
    once = True

    def __init__(self, name: str, leaf: FinalState, levels: list[_Level]) -> None:
        self.name, self.leaf, self.levels = name, leaf, levels
        self.cores = [leaf._core_for(level.core) for level in levels]

    def run(self, xs: list[NDArray[Any]], steps: tuple[int, ...] = ()) -> Seen:
        """Read the states; the arguments are as those of `_Level.run`."""
        parts = []
        for level, core in zip(self.levels, self.cores, strict=True):
            state = level.state.reshape(level.batch, -1)
            for direction in range(int(core.argument("directions"))):
                first = direction * int(core.argument("numbers")) + int(core.argument("start"))
                parts.append(state[:, first : first + int(core.argument("size"))])
        y = np.concatenate(parts, axis=1)
        return Seen(self.name, self.leaf, self.cores[-1], xs[0], y, [], _NO_STATE, once=True)


def _graph_levels(net: Module, found: Outline, batch: int, steps: tuple[int, ...]) -> list[_Group]:
    """The layers of a graph, laid out."""
    places = iter(net._places())
    levels: list[_Group] = []
    for number, line in enumerate(found.lines):
        if line.layer is None:
            continue
        if isinstance(line.layer, FinalState):
            writer = next(group for _, value, group in levels if value == line.reads[0])
            last = [level for level in writer if isinstance(level, _Level)][-line.layer.num_layers :]
            *_, (name, _, _) = islice(places, line.layer._core_count())
            levels.append((line, number, [_Final(name, line.layer, last)]))
            continue
        cores, axes = alone(net, found, number)
        assert line.frame is not None
        values = [(frame, axes[axis - 1] if axis else 0) for frame, axis in cores.inputs]
        group: list[_Level | _Final] = []
        row = None
        if line.layer._start:
            whole = _core.Plan(cores, (), 1, (1,) * max(1, len(axes)))
            row = np.zeros(whole.state_bytes // 4, np.float32)
            starts.begin(line.layer, tuple(line.layer._state_slots(whole, 0, "")), row)
        for place, (core, reads) in enumerate(zip(cores, cores.reads, strict=True)):
            name, _, _ = next(places)
            own = [axis for axis in dict.fromkeys(values[read][1] for read in reads) if axis] or axes
            one = Cores(
                [
                    (frame, 1 + own.index(axis) if axis else 0)
                    for frame, axis in map(values.__getitem__, reads)
                ]
            )
            one.outputs = (one.join(core, tuple(range(len(reads)))),)
            plan = laid_out(one, (), batch, *([steps[axis - 1] for axis in own] or [1])).ready()
            (planes, rows, cols), axis = plan.outputs[0]
            axis = axis and (line.axis if axis > len(own) else own[axis - 1])
            is_last = core is cores[-1] or isinstance(line.layer, _Recurrent)
            frame = line.frame if is_last else (planes, rows, cols)
            values.append((frame, axis))
            masked = line.layer._masks and len(reads) > 1 and values[reads[1]][1] > 0
            level = _Level(name, line.layer, core, frame, plan, reads, tuple(own), masked)
            group.append(level)
            if row is not None:
                first, count = whole.state_of(place)
                level.begin(row[first : first + count])
        levels.append((line, number, group))
    return levels


def alone(net: Module, found: Outline, number: int) -> tuple[Cores, list[int]]:
    """The core layers of a layer of a graph, and the net's axes of time that they know, their axis 1 first.

    Raises
    ------
    ValueError
        If it does not run apart from another layer.
    """
    line = found.lines[number]
    if line.cores is None or line.frame is None:  # inputs of graphs have frames
        raise ValueError(
            f"{type(net).__name__}: got {line.name}, a {line.kind}, which does not run apart from the layer "
            "that it reads, expected layers that can run one after the other: use a LastStep"
        )
    axes = [axis for axis in dict.fromkeys(found.lines[read].axis for read in line.reads) if axis]
    return line.cores, axes or ([line.axis] if line.axis else [])


def _levels(net: Module, frame: Frame, lead: int, batch: int, steps: int) -> list[_Level]:
    """The core layers of a net, each laid out by itself."""
    levels: list[_Level] = []
    places = iter(net._places())
    for _, leaf in net._leaves():
        cores: list[_core.Layer] = []
        out_frame = leaf._lay(frame, lead, cores)
        whole = laid_out(cores, frame, 1, 1) if leaf._start else None
        for level, core in enumerate(cores):
            name, _, _ = next(places)
            plan = laid_out([core], frame, batch, steps)
            is_last = level == len(cores) - 1 or isinstance(leaf, _Recurrent)
            out = out_frame if is_last else plan.outputs[0][0]
            levels.append(_Level(name, leaf, core, out, plan))
            if whole is not None:
                row = np.zeros(whole.state_bytes // 4, np.float32)
                starts.begin(leaf, tuple(leaf._state_slots(whole, 0, "")), row)
                first, count = whole.state_of(level)
                levels[-1].begin(row[first : first + count])
            frame = out
    return levels


def _windows(leaf: Conv1d, x: Array) -> list[Reads]:
    """The inputs of each group of a convolution's products, position by position."""
    x = x.reshape(-1, *x.shape[-2:])
    mode: Any = "reflect" if leaf.padding_mode == "reflect" else "constant"
    x = np.pad(x, ((0, 0), (0, 0), leaf._pad), mode=mode)
    span = leaf.dilation * (leaf.kernel_size - 1) + 1
    taps = np.lib.stride_tricks.sliding_window_view(x, span, axis=2)[:, :, :: leaf.stride, :: leaf.dilation]
    inputs, outputs = leaf.in_channels // leaf.groups, leaf.out_channels // leaf.groups
    return [
        (
            slice(group * outputs, (group + 1) * outputs),
            taps[:, group * inputs : (group + 1) * inputs]
            .transpose(0, 2, 1, 3)
            .reshape(-1, inputs * leaf.kernel_size),
        )
        for group in range(leaf.groups)
    ]


def _windows_of_pictures(leaf: Conv2d, x: Array) -> list[Reads]:
    """The same for a convolution of pictures."""
    x = np.pad(x.reshape(-1, *x.shape[-3:]), ((0, 0), (0, 0), *leaf._pads))
    spans = tuple(d * (k - 1) + 1 for d, k in zip(leaf.dilation, leaf.kernel_size, strict=True))
    (down, right), (rows, cols) = leaf.stride, leaf.dilation
    taps = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))
    taps = taps[:, :, ::down, ::right, ::rows, ::cols].transpose(0, 2, 3, 1, 4, 5)
    inputs, outputs = leaf.in_channels // leaf.groups, leaf.out_channels // leaf.groups
    return [
        (
            slice(group * outputs, (group + 1) * outputs),
            taps[..., group * inputs : (group + 1) * inputs, :, :].reshape(
                -1, inputs * math.prod(leaf.kernel_size)
            ),
        )
        for group in range(leaf.groups)
    ]


def _positions(leaf: ConvTranspose1d, x: Array) -> list[Reads]:
    """The inputs of each group of a transposed convolution's products, position by position."""
    x = x.reshape(-1, *x.shape[-2:]).swapaxes(1, 2).reshape(-1, leaf.in_channels)
    inputs = leaf.in_channels // leaf.groups
    rows = leaf.out_channels // leaf.groups * leaf.kernel_size
    return [
        (slice(group * rows, (group + 1) * rows), x[:, group * inputs : (group + 1) * inputs])
        for group in range(leaf.groups)
    ]
