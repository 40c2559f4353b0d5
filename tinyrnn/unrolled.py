"""A net unrolled through time: the gradient of each hidden state, step by step. For `tinyrnn.inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core, calls, starts
from tinyrnn._training import Tape
from tinyrnn.arrays import Feed, as_floats
from tinyrnn.errors import ShapeError
from tinyrnn.net import Net
from tinyrnn.outlines import Line, Outline
from tinyrnn.plans import Cores
from tinyrnn.recurrent import _Recurrent
from tinyrnn.tapes import without_chance
from tinyrnn.temporal import FinalState
from tinyrnn.tensors import Array, Frame
from tinyrnn.tracing import Entry, alone, check_rate, entered

_REVERSE = "_reverse"


def chain_gradients(net: Net, x: Any, y: Any, loss: Any, dy: Any, lengths: Any) -> dict[str, Array]:
    """Do the work of `inspect.hidden_gradients` for a chain of layers, which may be written to."""
    array, lead, cores, out_frame = calls.enter(net, x)
    check_rate(net, cores)
    leading, frame = array.shape[:lead], array.shape[lead:]
    swapped, steps, batch = calls.axes(net, array, lead)
    ends = None if lengths is None else calls.check_lengths(net, lengths, steps, batch)
    array = (array.swapaxes(0, 1) if swapped else array).reshape(steps, batch, *frame)

    stages = _stages(net, frame, lead, batch, steps, ends)
    for stage in stages:
        array = stage.forward(array)
    output = array.swapaxes(0, 1) if swapped else array.reshape(leading + out_frame)
    name = type(net).__name__
    if loss is not None:
        _, gradient = loss(output, y, ends, batch_first=swapped)
    else:
        gradient = as_floats(dy, f"{name}: dy")
        if gradient.shape != output.shape:
            raise ShapeError(f"{name}: dy has shape {gradient.shape}, expected {output.shape}, the output's")
    gradient = (gradient.swapaxes(0, 1) if swapped else gradient).reshape(array.shape)

    found: dict[str, Array] = {}
    lowest = next(i for i, stage in enumerate(stages) if isinstance(stage, _Level))  # nothing below remembers
    for stage in reversed(stages[lowest:]):
        gradient = stage.backward(gradient)
        if isinstance(stage, _Level):
            found = stage.found | found
    return found


def graph_gradients(net: Net, x: Any, y: Any, loss: Any, dy: Any, lengths: Any) -> dict[str, Array]:
    """Do the work of `inspect.hidden_gradients` for a graph, which may be written to."""
    name = type(net).__name__
    entry = entered(net, x, lengths)
    check_rate(net, [core for line in entry.outline.lines for core in line.cores or []])
    lines, outputs = entry.outline.lines, entry.outline.outputs
    if loss is not None and len(outputs) > 1:
        raise TypeError(
            f"hidden_gradients: got y and loss for outputs {list(outputs)}, expected dy, the gradient of each"
        )
    values: dict[int, NDArray[Any]] = dict(enumerate(entry.arrays))
    stages = _graph_stages(net, entry)
    for stage in stages:
        stage.forward(values)
    gradients = _Sums(values)
    given = [None] * len(outputs) if loss is not None else _by_output(net, dy, name)
    for (output, number), one in zip(outputs.items(), given, strict=True):
        axis = lines[number].axis
        shown = np.ascontiguousarray(entry.outside(values[number], axis))
        if loss is not None:
            ends = entry.ends[axis - 1] if axis else None
            _, one = loss(shown, y, ends, batch_first=entry.rows_first) if axis else loss(shown, y)
        if one is None:
            continue
        what = f"{name}: dy" if len(outputs) == 1 else f"{name}: dy of output {output!r}"
        one = as_floats(one, what)
        if one.shape != shown.shape:
            raise ShapeError(f"{what} has shape {one.shape}, expected {shown.shape}, the output's")
        gradients.add(number, entry.inside(one, axis))
    found: dict[str, Array] = {}
    for stage in reversed(stages):
        found = stage.backward(gradients) | found
    return found


def _by_output(net: Net, dy: Any, name: str) -> list[Any]:
    """The gradient of each output, given as a call returns them."""
    taken = getattr(net, "_taken", None)  # a graph's
    return [dy] if taken is None else list(taken(f"{name}: dy", dy))


class _Sums:
    """The gradients of the values of a graph, each the sum of what its readers pass back."""

    def __init__(self, values: Mapping[int, NDArray[Any]]) -> None:
        self.values = values
        self.sums: dict[int, Array] = {}

    def add(self, number: int, gradient: Array | None, t: int | None = None) -> None:
        """Add to the gradient of a value, or to that of its step ``t``; None is that of indices."""
        if gradient is None:
            return
        to = self.of(number)
        to[slice(None) if t is None else slice(t, t + 1)] += gradient

    def of(self, number: int) -> Array:
        """The gradient of a value so far."""
        if number not in self.sums:
            self.sums[number] = np.zeros(self.values[number].shape, np.float32)
        return self.sums[number]


class _Alone:
    """Core layers of a graph's layer with a tape of their own.

    Parameters
    ----------
    cores : Cores
    shapes : list of (frame, axis)
        Of what they read and, at the end, write; the axes are their own, 0 for one frame for the sequence.
    steps : tuple of int
        Of each of their axes.
    ends : list
        Likewise, or None.
    """

    def __init__(
        self,
        cores: Cores,
        shapes: list[tuple[Frame, int]],
        batch: int,
        steps: tuple[int, ...],
        ends: list[Any],
    ) -> None:
        instead = [without_chance(core) for core in cores]
        self.tape = Tape(cores, (), batch, steps or (1,), 1, instead)
        self.shapes = [(((steps[axis - 1],) if axis else ()) + (batch, *frame)) for frame, axis in shapes]
        self.strides = tuple((batch, 1) for _ in shapes[:-1])
        self.trained, self.steps, self.ends = [0] * len(cores), steps or (1,), tuple(ends or [None])
        self.state_size = self.tape.state_bytes // 4

    def forward(self, xs: list[NDArray[Any]], state: Array) -> Array:
        """The output; the state becomes the final one."""
        feed = Feed(tuple(map(np.ascontiguousarray, xs)), self.strides, self.steps, self.ends)
        (y,) = self.tape.forward(feed, state, 0, self.trained)
        return y.reshape(self.shapes[-1])

    def backward(self, dy: Array, dstate: Array) -> list[Array | None]:
        """The gradients of what was read; that of the final state becomes that of the initial one."""
        dxs = self.tape.backward([np.ascontiguousarray(dy)], dstate)
        return [
            None if dx is None else dx.reshape(shape) for dx, shape in zip(dxs, self.shapes, strict=False)
        ]


class _Node:
    """A layer of a graph that is in no loop and not recurrent."""

    def __init__(self, entry: Entry, number: int, cores: Cores, axes: list[int], start: Array | None) -> None:
        self.line, self.number, self.start = entry.outline.lines[number], number, start
        batch, steps = _batch(entry), tuple(entry.steps[axis - 1] for axis in axes)
        ends = [entry.ends[axis - 1] for axis in axes]
        self.core = _Alone(cores, _shapes(entry.outline, self.line, axes), batch, steps, ends)

    def forward(self, values: dict[int, NDArray[Any]]) -> None:
        state = _core.aligned_zeros(4 * self.core.state_size)
        if self.start is not None:
            state[:] = self.start
        values[self.number] = self.core.forward([values[read] for read in self.line.reads], state)

    def backward(self, gradients: _Sums) -> dict[str, Array]:
        dstate = _core.aligned_zeros(4 * self.core.state_size)
        dxs = self.core.backward(gradients.of(self.number), dstate)
        for read, dx in zip(self.line.reads, dxs, strict=True):
            gradients.add(read, dx)
        return {}


class _Same:
    """A layer of a graph without a core layer: its value is what it reads."""

    def __init__(self, line: Line, number: int) -> None:
        self.line, self.number = line, number

    def forward(self, values: dict[int, NDArray[Any]]) -> None:
        values[self.number] = values[self.line.reads[0]]

    def backward(self, gradients: _Sums) -> dict[str, Array]:
        gradients.add(self.line.reads[0], gradients.of(self.number))
        return {}


class _Stack:
    """A recurrent layer of a graph that is in no loop."""

    def __init__(self, entry: Entry, number: int, names: list[str]) -> None:
        line = entry.outline.lines[number]
        leaf, cores = line.layer, line.cores
        assert isinstance(leaf, _Recurrent) and cores is not None
        ends = entry.ends[line.axis - 1]
        size = _batch(entry), entry.steps[line.axis - 1], ends
        self.number, (self.read, *more) = number, line.reads
        masked = bool(more) and entry.outline.lines[more[0]].axis > 0
        self.mask = more[0] if masked else None
        self.starts = dict(zip(leaf._state_names(), more[masked:], strict=False))
        self.levels = [_Level(name, leaf, core, *size) for name, core in zip(names, cores, strict=True)]

    def forward(self, values: dict[int, NDArray[Any]]) -> None:
        x = values[self.read]
        counts = None if self.mask is None else values[self.mask].reshape(x.shape[:2]) != 0
        ways = len(self.levels) * len(self.levels[0].directions)
        begins = {name: values[read].reshape(x.shape[1], ways, -1) for name, read in self.starts.items()}
        for i, level in enumerate(self.levels):
            x = level.forward(x, counts, begins, i)
        values[self.number] = x

    def backward(self, gradients: _Sums) -> dict[str, Array]:
        found: dict[str, Array] = {}
        dy = gradients.of(self.number)
        for level in reversed(self.levels):
            dy = level.backward(dy)
            found = level.found | found
        gradients.add(self.read, dy)
        for name, read in self.starts.items():
            ways = [way.begun[name][0] for level in self.levels for way in level.directions]
            gradients.add(read, np.stack(ways, 1).reshape(gradients.values[read].shape))
        return found


class _Final:
    """A `FinalState` of a recurrent layer that is in no loop."""

    def __init__(self, line: Line, number: int, stack: _Stack) -> None:
        assert isinstance(line.layer, FinalState)
        self.number, self.state = number, line.layer.state
        self.ways = [way for level in stack.levels[-line.layer.num_layers :] for way in level.directions]

    def forward(self, values: dict[int, NDArray[Any]]) -> None:
        values[self.number] = np.concatenate([way.final[self.state][0] for way in self.ways], -1)

    def backward(self, gradients: _Sums) -> dict[str, Array]:
        parts = np.split(gradients.of(self.number), len(self.ways), -1)
        for way, part in zip(self.ways, parts, strict=True):
            way.dfinal[self.state] = way.dfinal.get(self.state, 0) + part
        return {}


class _Member:
    """A core layer, or all of a layer, that runs step by step within a loop.

    Attributes
    ----------
    reads : tuple of int
        Values of the net, or of the loop.
    number : int
        The value that it writes.
    name : str
        Of a recurrent one, else empty.
    """

    def __init__(
        self, core: _Alone, reads: tuple[int, ...], number: int, start: Array | None, name: str, hidden: int
    ) -> None:
        self.core, self.reads, self.number, self.start = core, reads, number, start
        self.name, self.hidden = name, hidden
        self.xs: list[list[NDArray[Any]]] = []
        self.before: list[Array] = []
        self.state = self.dstate = _core.aligned_zeros(0)

    def begin(self) -> None:
        """Begin a forward pass."""
        self.state = _core.aligned_zeros(4 * self.core.state_size)
        if self.start is not None:
            self.state[:] = self.start

    def forward(self, xs: list[NDArray[Any]]) -> Array:
        """Do the next step, and keep what it reads."""
        self.xs.append(xs)
        self.before.append(self.state.copy())
        return self.core.forward(xs, self.state)

    def peek(self, xs: list[NDArray[Any]]) -> Array:
        """The output of the next step, which does not depend on its input."""
        return self.core.forward(xs, self.state.copy())

    def backward(self, t: int, dy: Array, dstate: Array) -> list[Array | None]:
        """Go back through a step."""
        self.core.forward(self.xs[t], self.before[t].copy())
        return self.core.backward(dy, dstate)


class _Loop:
    """The layers of a loop, step by step."""

    def __init__(self, net: Net, entry: Entry, numbers: list[int], names: list[list[str]]) -> None:
        self.found = entry.outline
        self.first, self.last = numbers[0], numbers[-1]
        self.axis = self.found.lines[self.first].axis
        batch, steps = _batch(entry), entry.steps[self.axis - 1]
        ends = entry.ends[self.axis - 1]
        self.inside = np.arange(steps)[:, np.newaxis] < (np.full(batch, steps) if ends is None else ends)
        self.members: list[_Member] = []
        inner = len(self.found.lines)  # numbers of what is between the levels of a layer
        self.shapes: dict[int, tuple[int, ...]] = {}
        for number, of_layer in zip(numbers, names, strict=True):
            line = self.found.lines[number]
            cores, axes = alone(net, self.found, number)
            once = tuple(1 if axis == self.axis else entry.steps[axis - 1] for axis in axes)
            others = [None if axis == self.axis else entry.ends[axis - 1] for axis in axes]
            start = _start(line, cores, batch, max(1, len(axes)))
            leaf = line.layer
            if not isinstance(leaf, _Recurrent):
                core = _Alone(cores, _shapes(self.found, line, axes), batch, once, others)
                self.members.append(_Member(core, line.reads, number, start, "", 0))
                continue
            whole = _core.Plan(cores, (), batch, 1)
            read, frame = line.reads[0], self._frame(line.reads[0])
            for place, (name, level) in enumerate(zip(of_layer, cores, strict=True)):
                written = number if place == len(cores) - 1 else inner
                inner += written == inner
                chain = Cores([(frame, 1)])
                chain.outputs = (chain.join(level, (0,)),)
                out = (leaf._output_size,)
                core = _Alone(chain, [(frame, 1), (out, 1)], batch, (1,), [None])
                part = None
                if start is not None:
                    at, count = whole.state_of(place)
                    part = _core.aligned_zeros(4 * core.state_size)
                    part.reshape(batch, -1)[:, :count] = start.reshape(batch, -1)[:, at : at + count]
                member = _Member(core, (read,), written, part, name, leaf._output_size)
                self.members.append(member)
                self.shapes[written] = (1, batch, *out)
                read, frame = written, out

    def _frame(self, number: int) -> Frame:
        frame = self.found.lines[number].frame
        assert frame is not None
        return frame

    def _is_inner(self, number: int) -> bool:
        """Tell whether a value is of the loop."""
        return self.first <= number <= self.last or number >= len(self.found.lines)

    def _feeds_back(self, member: _Member) -> bool:
        return member.number < len(self.found.lines) and self.found.is_feedback(member.number)

    def forward(self, values: dict[int, NDArray[Any]]) -> None:
        for member in self.members:
            member.begin()
        kept: dict[int, list[Array]] = {}
        for t in range(len(self.inside)):
            now: dict[int, NDArray[Any]] = {}
            for member in self.members:
                if self._feeds_back(member):
                    blank = np.zeros(member.core.shapes[0], np.float32)
                    now[member.number] = member.peek([blank, *(values[read] for read in member.reads[1:])])
                else:
                    now[member.number] = member.forward(self._read(member, values, now, t))
            for member in self.members:
                if self._feeds_back(member):
                    member.forward([now[member.reads[0]], *(values[read] for read in member.reads[1:])])
            for number in range(self.first, self.last + 1):
                kept.setdefault(number, []).append(now[number])
        for number, steps in kept.items():
            timed = self.found.lines[number].axis == self.axis
            values[number] = np.concatenate(steps) if timed else steps[-1]

    def _read(
        self, member: _Member, values: dict[int, NDArray[Any]], now: dict[int, NDArray[Any]], t: int
    ) -> list[NDArray[Any]]:
        """The values that a member reads at a step; zeros beyond a row's end, where NaN may stand."""
        xs: list[NDArray[Any]] = []
        for read in member.reads:
            if self._is_inner(read):
                xs.append(now[read])
            elif self.found.lines[read].axis == self.axis:
                x = values[read][t : t + 1]
                inside = self.inside[t].reshape(1, -1, *(1,) * (x.ndim - 2))
                xs.append(np.where(inside, x, np.zeros((), x.dtype)))
            else:
                xs.append(values[read])
        return xs

    def backward(self, gradients: _Sums) -> dict[str, Array]:
        steps, batch = self.inside.shape
        found = {
            member.name: np.zeros((steps, batch, member.hidden), np.float32)
            for member in self.members
            if member.name
        }
        for member in self.members:
            member.dstate = _core.aligned_zeros(4 * member.core.state_size)
        for t in reversed(range(steps)):
            now = {}
            for number in range(self.first, self.last + 1):
                of_all = gradients.of(number)
                if self.found.lines[number].axis == self.axis:
                    now[number] = of_all[t : t + 1].copy()
                else:  # one for the sequence, whose readers outside count once
                    now[number] = of_all.copy() if t == steps - 1 else np.zeros_like(of_all)
            now |= {
                number: np.zeros(shape, np.float32)
                for number, shape in self.shapes.items()
                if number not in now
            }
            for member in self.members:
                if self._feeds_back(member):  # what it read at this step counts later
                    blank = np.zeros(member.core.shapes[-1], np.float32)
                    dx, *_ = member.backward(t, blank, member.dstate.copy())
                    assert dx is not None
                    now[member.reads[0]] += dx
            for member in reversed(self.members):
                dy = self._masked(now[member.number], t)
                if member.name:
                    state = member.dstate.reshape(batch, -1)
                    dy = dy + state[:, : member.hidden]
                    state[:, : member.hidden] = 0
                    found[member.name][t] = dy[0] = self._masked(dy, t)[0]
                dxs = member.backward(t, dy, member.dstate)
                if self._feeds_back(member):
                    dxs[0] = None  # has counted
                self._pass(member, dxs, gradients, now, t)
        return found

    def _masked(self, gradient: Array, t: int) -> Array:
        """A gradient of a step, zero in rows that have ended."""
        if self.inside[t].all() or gradient.shape[:1] != (1,):
            return gradient
        inside = self.inside[t].reshape(1, -1, *(1,) * (gradient.ndim - 2))
        return np.where(inside, gradient, np.float32(0))

    def _pass(
        self, member: _Member, dxs: list[Array | None], gradients: _Sums, now: dict[int, Array], t: int
    ) -> None:
        """Add the gradients of what a member read at a step."""
        for read, dx in zip(member.reads, dxs, strict=True):
            if dx is None:
                continue
            if self._is_inner(read):
                now[read] += dx
            else:
                gradients.add(read, dx, t if self.found.lines[read].axis == self.axis else None)


_Stage = _Node | _Same | _Stack | _Final | _Loop


def _batch(entry: Entry) -> int:
    """The rows of a graph's inputs."""
    return int(entry.arrays[0].shape[1 if entry.outline.lines[0].axis else 0])


def _shapes(found: Outline, line: Line, axes: list[int]) -> list[tuple[Frame, int]]:
    """The frames and axes of what a layer reads and writes; its axes are counted among ``axes``."""
    shapes = []
    for one in [*(found.lines[read] for read in line.reads), line]:
        assert one.frame is not None
        shapes.append((one.frame, 1 + axes.index(one.axis) if one.axis else 0))
    return shapes


def _start(line: Line, cores: Cores, batch: int, axes: int) -> Array | None:
    """The state that a layer of a graph begins with; None for zeros."""
    assert line.layer is not None
    if not line.layer._start:
        return None
    plan = _core.Plan(cores, (), batch, (1,) * axes)
    state = _core.aligned_zeros(plan.state_bytes)
    starts.begin(line.layer, tuple(line.layer._state_slots(plan, 0, "")), state)
    return state


def _graph_stages(net: Net, entry: Entry) -> list[_Stage]:
    """The net in pieces: loops, recurrent layers and others."""
    stages: list[_Stage] = []
    places = iter(net._places())
    names: dict[int, list[str]] = {}
    loops: dict[int, list[int]] = {}
    for number, line in enumerate(entry.outline.lines):
        if line.layer is None:
            continue
        if isinstance(line.layer, FinalState):
            own = [one for one in stages if isinstance(one, _Stack) and one.number == line.reads[0]]
            if not own:
                raise ValueError(
                    f"hidden_gradients: got {line.name}, which reads a layer in a loop, expected one "
                    "outside: a copy of the net without it"
                )
            for _ in range(line.layer._core_count()):
                next(places)
            stages.append(_Final(line, number, own[0]))
            continue
        if isinstance(line.layer, _Recurrent) and len(line.reads) > 1 and line.loop >= 0:
            raise ValueError(
                f"hidden_gradients: got {line.name} in a loop, which reads a mask or begins with values of "
                "the net, expected recurrent layers there that read one value: a copy of the net without them"
            )
        cores, axes = alone(net, entry.outline, number)
        names[number] = [next(places)[0] for _ in cores]
        if line.loop >= 0:
            loops.setdefault(line.loop, []).append(number)
            following = entry.outline.lines[number + 1 : number + 2]
            if not following or following[0].loop != line.loop:
                numbers = loops[line.loop]
                stages.append(_Loop(net, entry, numbers, [names[one] for one in numbers]))
        elif not cores:
            stages.append(_Same(line, number))
        elif isinstance(line.layer, _Recurrent):
            stages.append(_Stack(entry, number, names[number]))
        else:
            start = _start(line, cores, _batch(entry), max(1, len(axes)))
            stages.append(_Node(entry, number, cores, axes, start))
    return stages


class _Frames:
    """Layers in a row that look at one frame at a time, with a tape."""

    def __init__(
        self, cores: list[_core.Layer], frame: Frame, out_frame: Frame, batch: int, steps: int, ends: Any
    ) -> None:
        self.tape = Tape(cores, frame, batch, steps)
        self.cores, self.frame, self.out_frame, self.ends = cores, frame, out_frame, ends

    def forward(self, x: NDArray[Any]) -> Array:
        state = _core.aligned_zeros(self.tape.state_bytes)
        x = np.ascontiguousarray(x)
        feed = Feed((x,), ((x.shape[1], 1),), (len(x),), (self.ends,))
        (y,) = self.tape.forward(feed, state, 0, [0] * len(self.cores))
        return y.reshape(*x.shape[:2], *self.out_frame)

    def backward(self, dy: Array) -> Array:
        (dx,) = self.tape.backward([np.ascontiguousarray(dy)], _core.aligned_zeros(self.tape.state_bytes))
        assert dx is not None  # indices are read below all recurrent layers, where no gradient goes
        return dx.reshape(*dy.shape[:2], *self.frame)


class _Level:
    """One level of a recurrent layer, each direction of it unrolled into single steps."""

    def __init__(
        self, name: str, leaf: _Recurrent, core: _core.Layer, batch: int, steps: int, ends: Any
    ) -> None:
        self.size = leaf._output_size
        self.found: dict[str, Array] = {}
        # a row is at work at a step, or not yet (in reverse), or no more
        self.inside = np.arange(steps)[:, np.newaxis] < (np.full(batch, steps) if ends is None else ends)
        self.directions = [
            _Unrolled(_one_way(core, leaf, direction), bool(direction), self.inside)
            for direction in range(leaf._directions)
        ]
        self.names = [name + _REVERSE * direction for direction in range(leaf._directions)]

    def forward(
        self,
        x: Array,
        counts: NDArray[np.bool_] | None = None,
        begins: Mapping[str, NDArray[Any]] | None = None,
        place: int = 0,
    ) -> Array:
        """The output, where ``counts`` says which steps do, with initial states (B, levels * ways, size)."""
        x = np.where(self.inside[..., np.newaxis], x, np.float32(0))  # NaN may stand beyond a row's end
        work = self.inside if counts is None else self.inside & counts
        found = []
        for way, direction in enumerate(self.directions):
            at = place * len(self.directions) + way
            own = {name: array[np.newaxis, :, at] for name, array in (begins or {}).items()}
            found.append(direction.forward(x, work, own))
        return np.concatenate(found, axis=-1)

    def backward(self, dy: Array) -> Array:
        dy = np.where(self.inside[..., np.newaxis], dy, np.float32(0))
        parts = np.split(dy, len(self.directions), axis=-1)
        passed = []
        for name, direction, part in zip(self.names, self.directions, parts, strict=True):
            self.found[name], dx = direction.backward(part)
            passed.append(dx)
        total: Array = np.sum(passed, axis=0, dtype=np.float32)
        return total


class _Unrolled:
    """One level in one direction, step by step."""

    def __init__(self, net: _Recurrent, reverse: bool, inside: NDArray[np.bool_]) -> None:
        self.net, self.inside, self.work = net.train().freeze(), inside, inside
        self.final: dict[str, Array] = {}  # the state at the end
        self.dfinal: dict[str, Any] = {}  # its gradient, from outside
        self.begun: dict[str, Array] = {}  # the gradient of the initial state
        self.order = range(len(inside))[:: -1 if reverse else 1]
        self.before: list[dict[str, Array]] = [{}] * len(inside)  # the state before each step
        self.x = np.empty(0, np.float32)

    def forward(self, x: Array, work: NDArray[np.bool_], begin: Mapping[str, NDArray[Any]]) -> Array:
        self.x, self.work = x, work
        steps, batch = self.inside.shape
        y = np.zeros((steps, batch, self.net._output_size), np.float32)
        shapes = {"h": self.net._output_size} | ({"c": self.net.hidden_size} if self.net._cell else {})
        state = {name: np.zeros((1, batch, size), np.float32) for name, size in shapes.items()}
        for name, start in {**(self.net.initial_state or {}), **begin}.items():
            state[name][:] = start
        for t in self.order:
            inside, work = self.inside[t][:, np.newaxis], self.work[t][:, np.newaxis]
            self.before[t] = state
            self.net(x[t : t + 1], state=state)
            after = self.net.last_state
            state = {name: np.where(work, after[name], state[name]) for name in state}
            y[t] = np.where(inside, state["h"][0], np.float32(0))
        self.final = state
        return y

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """dL/dh_t and the gradient of the input, from the gradient of h_t from outside this level."""
        found, dx = np.empty_like(dy), np.empty_like(self.x)
        later = {
            name: np.zeros_like(array) + self.dfinal.get(name, np.float32(0))
            for name, array in self.before[0].items()
        }
        for t in reversed(self.order):
            inside, work = self.inside[t][:, np.newaxis], self.work[t][:, np.newaxis]
            found[t] = np.where(inside, dy[t] + later["h"][0], np.float32(0))
            later["h"] = np.where(inside, found[t : t + 1], later["h"])
            carried = {name: np.where(work, array, np.float32(0)) for name, array in later.items()}
            self.net(self.x[t : t + 1], state=self.before[t])
            dx[t : t + 1], initial = self.net.backward(carried.pop("h"), carried)
            before = dict(zip(later, initial if self.net._cell else (initial,), strict=True))
            later = {name: np.where(work, before[name], later[name]) for name in later}  # else it stays
        self.begun = later
        return found, dx


def _stages(net: Net, frame: Frame, lead: int, batch: int, steps: int, ends: Any) -> list[_Frames | _Level]:
    """The net in pieces: levels of recurrent layers, and the layers between them."""
    stages: list[_Frames | _Level] = []
    places = iter(net._places())
    between: list[_core.Layer] = []
    start = frame

    def close() -> None:
        if between:
            stages.append(_Frames(list(between), start, frame, batch, steps, ends))
            between.clear()

    for _, leaf in net._leaves():
        cores: list[_core.Layer] = []
        out_frame = leaf._lay(frame, lead, cores)
        if isinstance(leaf, _Recurrent):
            close()
        for core in cores:
            name, _, _ = next(places)
            if isinstance(leaf, _Recurrent):
                stages.append(_Level(name, leaf, core, batch, steps, ends))
            elif core.kind != "dropout":
                start = start if between else frame
                between.append(core)
        frame = out_frame
    close()
    return stages


def _one_way(core: _core.Layer, leaf: _Recurrent, direction: int) -> _Recurrent:
    """One direction of one level as a layer of its own."""
    tensors = {
        f"{name.removesuffix(_REVERSE)}_l0": core.get(i)
        for i, (name, _) in enumerate(core.params)
        if name.endswith(_REVERSE) == bool(direction)
    }
    own = next(kind for kind in type(leaf).__mro__ if kind.__module__.startswith("tinyrnn."))
    kind: type[_Recurrent] = getattr(import_module(own.__module__), own.__name__.removesuffix("Cell"))
    place = leaf._levels.index(core) * leaf._directions + direction
    tensors |= {f"{name}0": table.get(0)[place : place + 1] for name, table in leaf._start.items()}
    way = kind.from_state_dict(tensors, **leaf._formula(direction))
    way._levels[0].set_argument("zoneout_mean", 1)
    return way
