"""A net run one core layer at a time, so that what each of them reads and writes can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core, calls, starts
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.layers import Conv1d, Linear
from tinyrnn.plans import laid_out
from tinyrnn.recurrent import _Recurrent
from tinyrnn.tensors import Array, Frame

# Rows of frames that are looked at together: their numbers are what tracing takes in memory.
CHUNK = 4096

_IDENTITY = _core.Layer("identity")  # stands for layers that have no tensors
_NO_STATE = np.empty((0, 0), np.float32)

# The rows of a matrix that read the same numbers, and those numbers, (samples, columns).
Reads = tuple[slice, Array]


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
    """

    name: str
    leaf: Module
    core: _core.Layer
    x: NDArray[Any]
    y: Array
    before: list[Array]
    state: Array

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

        The core computes them by the cell's own formula, from what the layer read and wrote.
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
        found = np.empty((len(self.core.gate_names) + 1, *frames), np.float32)
        self.core.gates(as_floats(self.x, "x"), self.y, self.state.copy(), found, bool(direction))
        return found

    def reads(self) -> dict[int, list[Reads]]:
        """The inputs of each matrix, by the number of its param. A table multiplies nothing."""
        leaf = self.leaf
        if isinstance(leaf, Linear):
            return {0: [(slice(None), self.x.reshape(-1, leaf.in_features))]}
        if isinstance(leaf, Conv1d):
            return {0: _windows(leaf, self.x)}
        found: dict[int, list[Reads]] = {}
        if isinstance(leaf, _Recurrent):
            for i, (name, shape) in enumerate(self.core.params):
                direction = int(name.endswith("_reverse"))
                if name.startswith("weight_ih"):
                    read = self.x
                elif name.startswith("weight_hh"):
                    read = self.before[direction]
                elif name.startswith("weight_hr"):
                    read = self._walk(direction)[-1]
                else:
                    continue
                found[i] = [(slice(None), read.reshape(-1, shape[1]))]
        return found


def watch(net: Module, x: ArrayLike, until: str | None = None) -> Iterator[list[Seen]]:
    """Run a net, and yield what its core layers did, chunk by chunk with the state carried on.

    A net with a bidirectional layer, or without a recurrent one, sees all at once.

    Parameters
    ----------
    net : Net
    x : array_like
        As ``net(x)`` takes it; for a net that is a cell, as ``net.stream().run(x)`` does.
    until : str, optional
        The name of the last layer to run; by default all do.

    Raises
    ------
    ShapeError, TypeError, IndexError
        If the input does not fit.
    """
    array = as_array(x)
    if not net._recurrent:
        yield _maps(net, array, until)
        return
    _, lead, _, _ = calls.enter(net, array[:1])
    if lead == 2 and net._batch_first:
        array = array.swapaxes(0, 1)
    steps, batch = (*array.shape[:lead], 1)[:2]
    if steps == 0 or batch == 0:
        raise ShapeError(
            f"{type(net).__name__}: input has shape {np.shape(x)}, expected at least one step and one row"
        )
    whole = any(getattr(leaf, "bidirectional", False) for _, leaf in net._leaves())
    size = steps if whole else max(1, CHUNK // batch)
    levels: list[_Level] = []
    for start in range(0, steps, size):
        part = calls.enter(net, array[start : start + size])[0]
        frame = part.shape[lead:]
        part = part.reshape(len(part), batch, *frame)
        levels = levels or _levels(net, frame, lead, batch, len(part))
        seen = []
        for level in levels:
            seen.append(level.run(part))
            part = seen[-1].y
            if level.name == until:
                break
        yield seen


def _maps(net: Module, x: NDArray[Any], until: str | None) -> list[Seen]:
    """A net in which no frame depends on another."""
    if x.ndim == net._rank(x.ndim):
        x = x[np.newaxis]
    seen = []
    for name, leaf, _ in net._places():
        y = leaf(x)
        seen.append(Seen(name, leaf, (leaf._cores() or [_IDENTITY])[0], x, y, [], _NO_STATE))
        x = y
        if name == until:
            break
    return seen


class _Level:
    """One core layer with a state of its own."""

    def __init__(
        self, name: str, leaf: Module, core: _core.Layer, out_frame: Frame, plan: _core.Plan
    ) -> None:
        self.name, self.leaf, self.core, self.out_frame = name, leaf, core, out_frame
        self.plan, self.batch = plan.ready(), plan.batch
        self.state = _core.aligned_zeros(plan.state_bytes)
        self.last: list[Array] = []
        if isinstance(leaf, _Recurrent):
            directions = range(leaf._directions)
            self.last = [np.zeros((self.batch, leaf._output_size), np.float32) for _ in directions]

    def begin(self, start: Array) -> None:
        """Begin with one row of a state, of each direction first h."""
        self.state.reshape(self.batch, -1)[:] = start
        for last, own in zip(self.last, np.split(start, len(self.last) or 1), strict=False):
            last[:] = own[: last.shape[1]]

    def run(self, x: NDArray[Any]) -> Seen:
        y = np.empty((*x.shape[:2], *self.out_frame), np.float32)
        state = self.state.reshape(self.batch, -1).copy()
        self.plan.run(np.ascontiguousarray(x), y, self.state, len(x))
        before = []
        for direction, last in enumerate(self.last):
            h = y[..., direction * last.shape[1] : (direction + 1) * last.shape[1]]
            before.append(np.concatenate([h[1:], last[None]] if direction else [last[None], h[:-1]]))
            if not direction:
                last[:] = h[-1]
        return Seen(self.name, self.leaf, self.core, x, y, before, state)


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
            levels.append(_Level(name, leaf, core, out_frame, plan))
            if whole is not None:
                row = np.zeros(whole.state_bytes // 4, np.float32)
                starts.begin(leaf, tuple(leaf._state_slots(whole, 0, "")), row)
                first, count = whole.state_of(level)
                levels[-1].begin(row[first : first + count])
            frame = out_frame
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
