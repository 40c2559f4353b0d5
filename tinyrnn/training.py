"""Nets in training mode: forwards with a tape, backwards. The arithmetic is csrc/train.c's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core, initial
from tinyrnn._training import Tape
from tinyrnn.arguments import size
from tinyrnn.arrays import aligned_zeros, as_floats
from tinyrnn.errors import ShapeError
from tinyrnn.streams import Slot, State

if TYPE_CHECKING:
    from tinyrnn.layers import BatchNorm1d
    from tinyrnn.model import Array, Frame, Net

STATISTICS = ("running_mean", "running_var")


class Layout(NamedTuple):
    """A net laid out for training.

    Attributes
    ----------
    tape : Tape
    cores : list of Layer
        What the tape runs, dropout between levels included.
    slots : tuple of Slot
        The names of its state.
    frame, out_frame : tuple of int
    """

    tape: Tape
    cores: list[_core.Layer]
    slots: tuple[Slot, ...]
    frame: Frame
    out_frame: Frame


class Pass(NamedTuple):
    """A forward pass that has not gone backwards yet."""

    layout: Layout
    leading: tuple[int, ...]  # the output's axes before the frame, as the caller sees them
    swapped: bool  # (B, T) for the caller, (T, B) inside


def lay_out(
    net: Net, cores: list[_core.Layer], frame: Frame, out_frame: Frame, batch: int, steps: int, threads: int
) -> Layout:
    """The cores of a net, in the order of its layers, laid out for training; nothing is allocated yet.

    Raises
    ------
    TypeError
        If a layer is not kept as float32.
    """
    places = [(leaf, level) for _, leaf in net._leaves() for level in range(leaf._core_count())]
    trained = []
    for core, (leaf, level) in zip(cores, places, strict=True):
        trained.append(core)
        if level < leaf._core_count() - 1 and getattr(leaf, "dropout", 0.0) > 0.0:
            trained.append(_core.Layer("dropout", p=leaf.dropout))
    rows, cols = (1, 1, *frame)[-2:]
    tape = Tape(trained, rows, cols, batch, steps, threads)
    slots = net._slots(_core.Plan(cores, rows, cols, batch, 1))
    return Layout(tape, trained, slots, frame, out_frame)


def _layout_for(
    net: Net, cores: list[_core.Layer], frame: Frame, out_frame: Frame, batch: int, steps: int, threads: int
) -> Layout:
    """The last layout, if it does; else another one, and the memory of the last is given up."""
    last: Layout | None = net.__dict__.get("_layout")
    if last is not None and last.frame == frame and last.tape.batch == batch:
        same = [core for core in last.cores if core.kind != "dropout"] == [
            core for core in cores if core.kind != "dropout"
        ]
        if same and last.tape.threads == min(threads, batch) and last.tape.most_steps >= steps:
            return last
    net.__dict__["_layout"] = net.__dict__["_pass"] = None
    net.__dict__["_layout"] = lay_out(net, cores, frame, out_frame, batch, steps, threads)
    return net.__dict__["_layout"]  # type: ignore[no-any-return]


def forward(
    net: Net, x: ArrayLike, lengths: ArrayLike | None, start: Mapping[str, Any] | None, threads: int
) -> tuple[Array, State]:
    """Run a net in training mode, and keep the tape.

    Parameters
    ----------
    net, x, lengths, threads
        As `Net.__call__`.
    start : mapping, optional
        The initial state by name.

    Returns
    -------
    y : ndarray, float32
    state : State
        The final one.
    """
    threads = size("threads", threads)
    array, lead, cores, out_frame = net._enter(x)
    leading, frame = array.shape[:lead], array.shape[lead:]
    swapped = net._recurrent and lead == 2 and net._batch_first
    if net._recurrent:
        steps, batch = (*(leading[::-1] if swapped else leading), 1)[:2]
    else:
        steps, batch = 1, math.prod(leading)
    name = type(net).__name__
    if steps == 0 or batch == 0 or 0 in frame:
        raise ShapeError(f"{name}: input has shape {np.shape(x)}: no steps or an empty batch")
    if lengths is not None and not net._recurrent:
        raise ValueError(f"{name}: lengths given, but no layer is recurrent")
    ends = None if lengths is None else net._check_lengths(lengths, steps, batch)
    layout = _layout_for(net, cores, frame, out_frame, batch, steps, threads)
    state = started(layout, start, name)

    net.__dict__["_pass"] = None
    statistics = Statistics(net)
    y = layout.tape.forward(
        array,
        steps,
        1 if swapped else batch,
        steps if swapped else 1,
        state.numbers,
        ends,
        next_seed(net),
        frozen(net, layout.cores),
    )
    statistics.count()
    net.__dict__["_pass"] = Pass(layout, leading, swapped)
    y = y.reshape(steps, batch, *out_frame)
    return (y.swapaxes(0, 1) if swapped else y.reshape(leading + out_frame)), state


def started(layout: Layout, start: Mapping[str, Any] | None, name: str) -> State:
    """A state of zeros, or with what ``start`` names."""
    state = State(aligned_zeros(layout.tape.state_bytes), layout.slots)
    for key, value in (start or {}).items():
        try:
            state[key] = value
        except (ShapeError, KeyError) as error:
            raise type(error)(f"{name}: initial {error.args[0]}") from None
    return state


def backward(net: Net, dy: ArrayLike, dstate: Mapping[str, Any] | None) -> tuple[Array | None, State]:
    """Add to the gradients of the last forward pass.

    Returns
    -------
    dx : ndarray, float32, or None
    dstate : State
        The gradient of the initial state.
    """
    name = type(net).__name__
    last: Pass | None = net.__dict__.get("_pass")
    if last is None:
        mode = "" if net.training else "net.train() and "
        raise RuntimeError(
            f"{name}: no forward pass to go back through: {mode}net(x) come first, and each goes back once"
        )
    layout, tape = last.layout, last.layout.tape
    array = as_floats(dy, f"{name}: dy")
    wanted = last.leading + layout.out_frame
    if array.shape != wanted:
        raise ShapeError(f"{name}: dy has shape {array.shape}, expected {wanted}, the output's")
    if last.swapped:
        array = array.swapaxes(0, 1)
    rows, cols = tape.frame_out
    state = started(layout, dstate, f"{name}: gradient of the final state,")
    net.__dict__["_pass"] = None
    dx = tape.backward(np.ascontiguousarray(array).reshape(tape.steps, tape.batch, rows, cols), state.numbers)
    if dx is None:
        return None, state
    dx = dx.reshape(tape.steps, tape.batch, *layout.frame)
    return (dx.swapaxes(0, 1) if last.swapped else dx.reshape(last.leading + layout.frame)), state


# ---- what training changes -------------------------------------------------------------------------


def frozen(net: Net, cores: list[_core.Layer]) -> list[bool]:
    """For each of a layout's cores, whether all its tensors are frozen."""
    free = {id(tensor.core) for _, tensor in net._trainable()}
    return [id(core) not in free for core in cores]


def next_seed(net: Net) -> int:
    """Of the dropout masks of the next pass: 64 bits, by the net's own seed and its count of passes."""
    kept = net.__dict__
    if "_dropout_seed" not in kept:
        kept["_dropout_seed"] = initial.next_seed()
    kept["_train_steps"] = kept.get("_train_steps", 0) + 1
    mixed: int = kept["_dropout_seed"] + kept["_train_steps"] * 0x9E3779B97F4A7C15
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed &= 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> shift) * factor
    mixed &= 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return mixed


class Statistics:
    """The batch normalisations of a net around one pass: their counters, and where there is no momentum the
    average over all batches, for which the core leaves the batch's own statistics."""

    def __init__(self, net: Net) -> None:
        self.norms: list[BatchNorm1d] = []
        for _, leaf in net._leaves():
            if hasattr(leaf, "num_batches_tracked") and not any(leaf is norm for norm in self.norms):
                self.norms.append(leaf)  # type: ignore[arg-type]
        self.before = [self._read(norm) for norm in self.norms]

    def count(self) -> None:
        """The pass is done."""
        for norm, before in zip(self.norms, self.before, strict=True):
            norm.num_batches_tracked += 1
            for tensor, old in before:
                new = old + (tensor.numbers() - old) / np.float32(norm.num_batches_tracked)
                tensor.write(new)

    @staticmethod
    def _read(norm: BatchNorm1d) -> list[tuple[Any, NDArray[np.float32]]]:
        if norm.momentum is not None:
            return []
        return [(tensor, tensor.numbers()) for tensor in norm._tensors() if tensor.name in STATISTICS]
