"""Nets in training mode: forwards with a tape, and backwards. csrc/train.c does the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core, calls, initial
from tinyrnn._training import Start, Tape, splitmix
from tinyrnn.arguments import check_size
from tinyrnn.arrays import Feed, as_floats
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.parameters import trainable
from tinyrnn.plans import Cores, Ports
from tinyrnn.streams import State
from tinyrnn.tapes import Face, Layout, Pass, without_chance
from tinyrnn.tensors import STATISTICS, Array, Frame

# Behind an output whose value lies where another output's does, so that each has a gradient of its own.
_COPY = _core.Layer("dropout", p=0.0)
_IN_PLACE = ("flatten", "identity", "reshape")  # kinds whose value lies where the one that they read does


def guard(net: Module) -> _core.Guard:
    """A guard that lets one thread at a time train a net, which has one tape and one set of gradients."""
    return net._practised().guard


def _in_use(core: _core.Layer) -> dict[str, float]:
    """The arguments that replace a core layer's own in training while its layer is in evaluation mode."""
    return {"use_running_stats": 1} if core.kind == "batch_norm" else without_chance(core)


def chained(
    net: Module, cores: list[_core.Layer], modes: list[bool]
) -> list[tuple[_core.Layer, dict[str, float]]]:
    """Return a tape's core layers and arguments that replace theirs.

    Dropout between levels and copies of outputs are among them.
    """
    places = [
        (leaf, level, mode)
        for (_, leaf), mode in zip(net._leaves(), modes, strict=True)
        for level in range(leaf._core_count())
    ]
    found: list[tuple[_core.Layer, dict[str, float]]] = []
    practised = without_chance if net._practised().sure else lambda core: {}
    for core, (leaf, level, mode) in zip(cores, places, strict=True):
        found.append((core, practised(core) if mode else _in_use(core)))
        between = leaf._dropout_after(level) if mode else None
        if between is not None:
            found.append((between, practised(between)))
    return found + [(_COPY, {})] * len(_doubled(cores))


def _doubled(cores: list[_core.Layer]) -> list[int]:
    """The outputs whose value lies where that of an output before them does."""
    if not isinstance(cores, Cores):
        return []
    roots = list(range(len(cores.inputs)))
    for core, reads in zip(cores, cores.reads, strict=True):
        roots.append(roots[reads[0]] if core.kind in _IN_PLACE else len(roots))
    lie = [roots[value] for value in cores.outputs]
    return [i for i, root in enumerate(lie) if root in lie[:i]]


def _rewired(cores: list[_core.Layer], trained: list[_core.Layer]) -> list[_core.Layer]:
    """Return a tape's core layers with what each reads: ``cores``, and dropout after some of them."""
    if not isinstance(cores, Cores):
        return trained
    graph = Cores(cores.inputs)
    numbers = list(range(len(cores.inputs)))  # of each value of the net, on the tape
    written = list(numbers)  # likewise, before dropout
    places: list[int] = []  # of the net's own core layers, on the tape
    for one in trained:
        if one is _COPY:
            continue
        if len(places) < len(cores) and one is cores[len(places)]:
            places.append(len(graph))
            numbers.append(graph.join(one, ()))
            written.append(numbers[-1])
        else:
            numbers[-1] = graph.join(one, (graph.value,))
    for place, reads in zip(places, cores.reads, strict=True):
        found = written if graph[place].kind == "final_state" else numbers  # it reads a layer's state
        graph.reads[place] = tuple(found[value] for value in reads)
    outputs = [numbers[value] for value in cores.outputs]
    for i in _doubled(cores):
        outputs[i] = graph.join(_COPY, (outputs[i],))
    graph.outputs = tuple(outputs)
    return graph


def lay_out(
    net: Module,
    cores: list[_core.Layer],
    frame: Frame,
    out_frame: Frame,
    batch: int,
    steps: tuple[int, ...],
    threads: int,
    modes: list[bool],
) -> Layout:
    """Lay out a net's core layers for training; nothing is allocated yet.

    Raises
    ------
    TypeError
        If a layer's format is not float32.
    """
    chain = chained(net, cores, modes)
    trained, instead = [core for core, _ in chain], [given for _, given in chain]
    try:
        tape = Tape(_rewired(cores, trained), frame, batch, steps, threads, instead)
    except ValueError as error:
        if "within a loop" not in str(error):
            raise
        mixed = [
            name for (name, *_), core in zip(net._places(), cores, strict=True) if core.kind == "batch_norm"
        ]
        raise ValueError(
            f"{error}: one of {', '.join(mixed)} normalises across the batch, but loops run step by step: "
            "put it before or after the loop, or use a LayerNorm"
        ) from None
    slots = calls.slots_of(net, _core.Plan(cores, frame, batch, 1))
    return Layout(tape, trained, slots, frame, out_frame, modes)


def modes_of(net: Module) -> list[bool]:
    """For each layer, True if it runs in training mode.

    Layers in evaluation mode do not, if the net itself is in training mode. A trainer trains a net that is
    not.
    """
    return [leaf.training or not net.training for _, leaf in net._leaves()]


def _layout_for(
    net: Module,
    cores: list[_core.Layer],
    frame: Frame,
    out_frame: Frame,
    batch: int,
    steps: tuple[int, ...],
    threads: int,
) -> Layout:
    """Return the last layout if it fits; else free its memory, and make another."""
    practice = net._practised()
    last = practice.layout
    if last is not None and last.frame == frame and last.tape.batch == batch:
        modes = modes_of(net)
        same = last.modes == modes and last.cores == [core for core, _ in chained(net, cores, modes)]
        fits = all(most >= count for most, count in zip(last.tape.most_steps, steps, strict=False))
        if same and fits and last.tape.threads == min(threads, batch):
            return last
    practice.layout = practice.forward = None
    practice.layout = lay_out(net, cores, frame, out_frame, batch, steps, threads, modes_of(net))
    return practice.layout


def forward(
    net: Module, x: ArrayLike, lengths: ArrayLike | None, start: Mapping[str, Any] | None, threads: int
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
    threads = check_size("threads", threads)
    array, lead, cores, out_frame = calls.enter(net, x)
    leading, frame = array.shape[:lead], array.shape[lead:]
    swapped, steps, batch = calls.axes(net, array, lead)
    name = type(net).__name__
    if lengths is not None and not net._recurrent:
        raise ValueError(f"{name}: got lengths, expected none: no layer is recurrent")
    ends = None if lengths is None else calls.check_lengths(net, lengths, steps, batch)
    inner = Face(leading + frame, swapped)
    feed = Feed((array,), ((1, steps) if swapped else (batch, 1),), (steps,), (ends,))
    with guard(net):
        layout = _layout_for(net, cores, frame, out_frame, batch, (steps,), threads)
        outer = Face(leading + out_frame, swapped)
        if layout.tape.outputs[0][1] == 0:  # one frame for the sequence
            outer = Face((batch,) * (lead - 1) + out_frame, False)
        (y,), state = _forward(net, layout, feed, start, Pass(layout, [inner], [outer]))
    return y, state


def forward_ports(
    net: Module,
    ports: Ports,
    given: list[Any],
    lengths: Any,
    start: Mapping[str, Any] | None,
    threads: int,
    named: bool,
) -> tuple[list[Array], State]:
    """`forward` for a net of several inputs, outputs or axes of time.

    With ``named`` the caller has given the inputs by name, and gets their gradients so.
    """
    threads = check_size("threads", threads)
    entered = calls.Entered(net, ports, given, lengths, type(net).__name__)
    feed = feed_of(entered)
    with guard(net):
        layout = _layout_for(net, ports.cores, (), (), entered.batch, entered.steps, threads)
        inputs = [Face(a.shape, swapped) for a, swapped in zip(entered.arrays, entered.swapped, strict=True)]
        outputs = []
        for frame, (_, axis) in zip(ports.out_frames, layout.tape.outputs, strict=True):
            # One with a rate of its own gets its steps later.
            timed = axis if axis <= len(ports.times) else 1
            outputs.append(Face(entered.shape(timed, frame, None), entered.swaps(axis)))
        return _forward(net, layout, feed, start, Pass(layout, inputs, outputs, named))


def feed_of(entered: calls.Entered) -> Feed:
    """The inputs of a call as the tape reads them, where they lie."""
    steps = [(entered.steps[axis - 1] if axis else 1) for axis in entered.axes]
    return Feed(
        tuple(entered.arrays),
        tuple(
            (1, count) if swapped else (entered.batch, 1)
            for count, swapped in zip(steps, entered.swapped, strict=True)
        ),
        entered.steps,
        tuple(entered.lengths),
    )


def _forward(
    net: Module, layout: Layout, feed: Feed, start: Mapping[str, Any] | None, record: Pass
) -> tuple[list[Array], State]:
    """Do a forward pass; ``record`` is for its backward pass."""
    practice = net._practised()
    state = State.begun(net, layout.tape.state_bytes, layout.slots, start)
    begun = frozenset(name for name in layout.slots if start is None or name not in start)
    practice.forward = None
    counts = Counts(net, batch_norms(net))
    ys = layout.tape.forward(feed, state.numbers, counts.seed, trained(net, layout.cores))
    counts.count()
    outputs = [
        face.of_steps(y.shape[0]) if layout.tape.has_rate(i) else face
        for i, (face, y) in enumerate(zip(record.outputs, ys, strict=True))
    ]
    record = record._replace(begun=begun, outputs=outputs)
    practice.forward = record
    return [face.outside(y) for face, y in zip(record.outputs, ys, strict=True)], state


def backward(
    net: Module, dys: list[Any], dstate: Mapping[str, Any] | None
) -> tuple[list[Array | None], State]:
    """Add to the gradients of the last forward pass.

    Parameters
    ----------
    net : Net
    dys : list of array_like, or None for zeros
        The gradients of the outputs.
    dstate : mapping from name to array, optional
        The gradient of the final state.

    Returns
    -------
    dxs : list of ndarray, float32, or None for indices
        The gradients of the inputs.
    dstate : State
        The gradient of the initial state.
    """
    with guard(net):
        name = type(net).__name__
        last = last_pass(net)
        layout = last.layout
        arrays: list[Array | None] = []
        for i, (dy, face) in enumerate(zip(dys, last.outputs, strict=True)):
            what = f"{name}: dy" if len(dys) == 1 else f"{name}: dy of output {i}"
            array = None if dy is None and len(dys) > 1 else as_floats(dy, what)
            if array is not None and array.shape != face.shape:
                raise ShapeError(f"{what} has shape {array.shape}, expected {face.shape}, the output's")
            arrays.append(None if array is None else face.inside(array))
        what = f"{name}: gradient of the final state"
        state = State.started(layout.tape.state_bytes, layout.slots, dstate, what)
        net._practised().forward = None
        still = frozen_parts(net)
        dxs = layout.tape.backward(arrays, state.numbers)
        for gradient, before in still:
            gradient[:] = before
        begin = start_of(net, layout, last.begun)
        if begin is not None:
            begin.add_gradients(state.numbers)
    found = [None if dx is None else face.outside(dx) for dx, face in zip(dxs, last.inputs, strict=True)]
    return found, state


def last_pass(net: Module) -> Pass:
    """The forward pass that `backward` will use.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    last = net._practised().forward
    if last is None:
        mode = "" if net.training else "net.train() and "
        raise RuntimeError(
            f"{type(net).__name__}: got no forward pass: call {mode}net(x) first, and backward once for each "
            "call"
        )
    return last


# ---- parameters, frozen tensors, statistics --------------------------------------------------------


def trained(net: Module, cores: list[_core.Layer]) -> list[int]:
    """For each of a layout's cores a number with bit i set if its i-th tensor is not frozen."""
    bits: dict[int, int] = {}
    for _, tensor in trainable(net):
        bits[id(tensor.core)] = bits.get(id(tensor.core), 0) | 1 << tensor.param
    return [bits.get(id(core), 0) for core in cores]


def start_of(net: Module, layout: Layout, names: Container[str] | None = None) -> Start | None:
    """The initial state of a net for training, or that of some names; None if it is zeros."""
    parts: list[tuple[_core.Layer, int, int, int, bool]] = []
    deep = False
    for prefix, leaf in net._leaves():
        for name, core in leaf._start.items():
            slot = layout.slots[f"{prefix}{name}"]
            if names is not None and slot.name not in names:
                continue
            trains = leaf._start_trains and f"{name}0" not in leaf._frozen
            deep |= trains and not all(trained(net, leaf._cores()) or [0])
            for level, (at, count) in enumerate(slot.parts):
                parts.append((core, level * count, at, count, trains))
    return Start(parts, layout.tape.batch, layout.tape.state_bytes, deep) if parts else None


def frozen_parts(net: Module) -> list[tuple[Array, Array]]:
    """(gradient, a copy of it) of the frozen tensors whose layer has others that are not frozen.

    The core computes the gradients of all tensors of a layer.
    """
    free = {id(tensor.core) for _, tensor in trainable(net)}
    parts = []
    for _, leaf in net._leaves():
        for tensor in leaf._tensors():
            if tensor.name in leaf._frozen and id(tensor.core) in free:
                first, count = tensor.core.extent(tensor.param)
                gradient = tensor.core.gradients()[first : first + count]
                parts.append((gradient, gradient.copy()))
    return parts


def batch_norms(net: Module) -> list[Module]:
    """The batch normalisations of a net that use the batch's statistics, each once."""
    norms: dict[int, Module] = {}
    for (_, leaf), mode in zip(net._leaves(), modes_of(net), strict=True):
        if mode and leaf._counts_batches:
            norms[id(leaf)] = leaf
    return list(norms.values())


def check_statistics(net: Module, frame: Frame, batch: int) -> None:
    """Raise an error if each batch will have one number for a channel, which has no variance."""
    norms = batch_norms(net)
    if net._recurrent or batch > 1 or not norms:
        return
    for prefix, leaf in net._leaves():
        try:
            frame = leaf._lay(frame, 1, [])
        except ShapeError:  # it counts its axes from (T, B, frame): the core reports the error
            return
        if leaf in norms and math.prod(frame[1:]) == 1:
            raise ValueError(
                f"trainer: batch is 1: {leaf._path(prefix, 0)}, a {type(leaf).__name__}, has one number a "
                "channel then, expected 2 or more; for fit choose a batch_size that leaves no single sample"
            )


class Counts:
    """The counts of a net's passes in training mode.

    They are the number of passes, which gives the masks of dropout, and the batch normalisations' statistics.

    Parameters
    ----------
    net : Net
    norms : list of BatchNorm1d
        Its own, of `batch_norms`.

    Attributes
    ----------
    seed : int
        Of the masks of the pass to come: 64 bits, by the net's own seed and its count of passes.
    """

    def __init__(self, net: Module, norms: list[Module]) -> None:
        practice = net._practised()
        if practice.seed is None:
            practice.seed, practice.passes = initial.next_seed(), 0
        self.seed = splitmix(practice.seed, practice.passes + 1)
        self.net, self.norms = net, norms
        self.before = [
            [(tensor, tensor.numbers()) for tensor in norm._tensors() if tensor.name in STATISTICS]
            for norm in norms
        ]

    def count(self) -> None:
        """Count a pass.

        Without a momentum statistics are the average over all batches, for which the core has left the
        batch's own.
        """
        self.net._practised().passes += 1
        for norm, before in zip(self.norms, self.before, strict=True):
            norm._set_batches_seen(norm.num_batches_tracked + 1)
            if norm.momentum is None:
                for tensor, old in before:
                    new = tensor.numbers()
                    tensor.write(old + (new - old) / np.float32(norm.num_batches_tracked))

    def restore(self) -> None:
        """Restore the statistics after a pass that failed."""
        for before in self.before:
            for tensor, old in before:
                tensor.write(old)
