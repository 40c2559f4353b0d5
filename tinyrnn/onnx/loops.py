"""Loop and Scan over the steps of sequences, and lists of steps: `Feedback` is what a step hands to the next.

The body of a loop is walked once, as operations on the frames of one step: a value in it has no axis of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn.importing import Unfit
from tinyrnn.onnx.model import Graph
from tinyrnn.onnx.nodes import Call, Carried, Listed, Step, Unfinished, Until
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    OPEN,
    TIME,
    Atom,
    Axis,
    Known,
    Places,
    Retry,
    Symbol,
    claim,
    equal_rows,
    frame_size,
    framed,
    has,
    part,
    reframed,
)
from tinyrnn.ops import Feedback

# ---- states ------------------------------------------------------------------------------------------------


def _axes_of(call: Call, known: Known) -> list[Axis]:
    """The axes of a constant that a state begins with; one of the batch varies in size."""
    pairs = list(zip(*(one.shape for one in known.worlds), strict=True))
    for pair in pairs:
        if name := call.builder.ports.axes.that(pair):
            raise Retry(name, BATCH)
    first = pairs[0] if len(pairs) > 1 else (1, 1)
    ports = call.builder.ports
    for axis in (ports.axes.of(port, i) for port in ports.graph.inputs for i in range(len(port.shape or ()))):
        if first == (1, 1) or [atom.declared for atom in axis] != [first[0]] or first[0] != first[1]:
            continue
        claim(axis, BATCH, OPEN)
        if has(axis, BATCH):  # as many rows as the file fixes
            pairs[0] = BATCH_SIZES
    return [(Atom(BATCH, BATCH_SIZES),) if pair == BATCH_SIZES else part(pair[0]) for pair in pairs]


def _carried(call: Call, given: Any, time: str) -> Carried:
    """A state of a loop over an axis of time, with what it is at first."""
    states = call.builder.states
    if isinstance(given, Listed) and given.item is None:
        return Carried(None, [])
    if isinstance(given, Known):
        axes = _axes_of(call, given)
        before = Feedback(*framed(axes), time=time)
        at = next((i for i, axis in enumerate(axes) if has(axis, BATCH)), None)
        row = given.worlds[0] if at is None else equal_rows(given, at)
        if row is not None and np.any(row):
            assert before.layer is not None
            before.layer.initial_state = {"past": np.float32(row).reshape(1, -1)}
        return Carried(before, axes)
    if isinstance(given, Places):
        if given.batch is not None:
            states.find_batch(given, given.batch)
        if states.are_states(given.row):
            carried = Carried(Feedback(*framed(given.axes), time=time), given.axes)
            base = states.source("final", (carried, "past"), given.row.size)
            carried.base = base
            for i, number in enumerate(given.row.reshape(-1)):
                states.fed[int(number)] = base + i if int(number) not in states.fed else -1
            return carried
        given = states.written(given, starts=True)
    if not isinstance(given, Symbol):
        raise Unfit("a state of the loop is no array")
    states.starts_with(given)
    for axis in given.axes:
        claim(axis, BATCH, OPEN)
        if has(axis, TIME):
            raise Unfit("a state of the loop begins with a sequence, expected one frame")
    frame = framed(given.axes)
    before = Feedback(*frame, time=time, initial=reframed(given.value, frame))
    return Carried(before, list(given.axes))


# ---- bodies ------------------------------------------------------------------------------------------------


class Inside:
    """The body of a loop while it is walked: which values are those of a step.

    Attributes
    ----------
    steps : dict
        By id the values that belong to one step.
    outer : Inside or None
    time : str
        The axis of time that the loop goes over.
    """

    def __init__(self, outer: Inside | None, time: str) -> None:
        self.steps: dict[int, Any] = {}
        self.outer, self.time = outer, time

    def add(self, *values: Any) -> None:
        self.steps.update((id(value), value) for value in values)

    def note(self, op: str, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        """Note what a node made of values of a step.

        Raises
        ------
        Unfit
            If it reads a whole sequence of the same axis of time: it would be there twice.
        """
        if not any(id(one) in self.steps for one in inputs):
            return
        self.add(*results)
        takes = any(isinstance(one, Step) for one in inputs)
        whole = [
            one
            for one in inputs
            if isinstance(one, Symbol)
            and not isinstance(one, Unfinished)
            and any(has(axis, TIME) for axis in one.axes)
        ]
        if any(one.value.time == self.time for one in whole) and not takes:
            raise Unfit(
                f"{op} in a loop reads a step and the whole sequence that the loop goes over, expected one of"
                " them; sequences of several inputs are told apart by the names of their steps"
            )


def _walked(
    call: Call,
    given: Sequence[Any],
    steps: dict[str, Any],
    carried: Sequence[Carried],
    time: str,
    of_rows: bool = False,
) -> list[Any]:
    """The outputs of a loop's body.

    ``given`` are the names of the body's inputs that are states, in the order of ``carried``; ``steps`` are
    its other inputs by name. ``of_rows``: the body has no axis of the batch.
    """
    body, builder = call.attributes["body"], call.builder
    inner = dict(call.env)
    for name, tensor in body.tensors.items():
        inner[name] = Known(tensor.array())
    before = builder.inside
    inside = builder.inside = Inside(before, time)
    try:
        for name, one in zip(given, carried, strict=True):
            inner[name] = Listed(None) if one.before is None else Symbol(one.before, one.axes[of_rows:])
            inside.add(inner[name])
        inner |= steps
        inside.add(*(one for one in steps.values() if not isinstance(one, Known)))
        builder.walk(body, inner, f"{call.node.op}: body")
        return [builder.read(inner, port.name, "the loop's body") for port in body.outputs]
    finally:
        builder.inside = before


def _finished(call: Call, carried: Sequence[Carried], after: Sequence[Any], time: Axis) -> list[Any]:
    """The last states, each after the last step."""
    finals: list[Any] = []
    for one, value in zip(carried, after, strict=True):
        if one.before is None:
            if not isinstance(value, Listed) or value.item is None:
                raise Unfit("a list in the loop gets no value in each step")
            finals.append(Listed(value.item, (time, *value.item.axes), 0))
            continue
        if not isinstance(value, Symbol):
            raise Unfit("a state of the loop becomes a constant, expected a value of its body")
        if any(has(axis, TIME) for axis in value.axes):
            raise Unfit("a state of the loop becomes a sequence, expected one frame")
        if math.prod(value.value.frame) != math.prod(one.before.frame):
            raise Unfit("a state of the loop changes its size")
        if value.value is one.before:
            raise Unfit("a state of the loop stays as it is, expected a value that its body computes")
        one.after = reframed(value.value, one.before.frame)
        one.before.connect(one.after)
        finals.append(_final(call, one))
    return finals


def _final(call: Call, one: Carried) -> Places:
    """The last state of a loop, by places."""
    assert one.before is not None
    if one.base is None:
        one.base = call.builder.states.source("final", (one, "past"), math.prod(one.before.frame))
    ids = one.base + np.arange(math.prod(one.before.frame))
    ids = ids.reshape([frame_size(axis) for axis in one.axes])
    for i, axis in enumerate(one.axes):
        if has(axis, BATCH):
            ids = np.concatenate([ids, ids + Places.ROW], i)
    return Places(ids)


def _gathered(value: Any, place: int, time: Axis) -> Symbol:
    """The values of all steps, with an axis of time."""
    if not isinstance(value, Symbol) or any(has(axis, TIME) for axis in value.axes):
        raise Unfit("an output of the loop is no frame of each step")
    axes = list(value.axes)
    axes.insert(place % (len(axes) + 1), time)
    return Symbol(value.value, axes)


def _body(call: Call, inputs: int, outputs: int) -> Graph:
    body = call.attributes.get("body")
    if not isinstance(body, Graph) or len(body.inputs) != inputs or len(body.outputs) < outputs:
        raise Unfit("its body does not fit its inputs and outputs")
    return body


def _counts(call: Call, body: Graph, name: str, after: str, first: Any) -> bool:
    """True if a whole number of a body begins as ``first`` and becomes one more in each step."""
    if (
        not isinstance(first, Known)
        or first.varies
        or first.worlds[0].size != 1
        or first.worlds[0].dtype.kind != "i"
    ):
        return False
    node = next((one for one in body.nodes if after in one.outputs), None)
    if node is None or node.op != "Add" or len(node.inputs) != 2 or name not in node.inputs:
        return False
    other = node.inputs[node.inputs[0] == name]
    known: Any = body.tensors[other].array() if other in body.tensors else call.env.get(other)
    return np.array_equal(known.worlds[0].reshape(-1) if isinstance(known, Known) else np.ravel(known), [1])


def _source(body: Graph, name: str) -> str:
    """The name of a value that a body hands through under another one."""
    for node in reversed(body.nodes):
        if name in node.outputs and node.op in ("Identity", "Cast"):
            name = node.inputs[0]
    return name


def loop(call: Call) -> list[Any]:
    """A Loop over the steps of a sequence, which it takes by their number.

    Of its states a constant that each step hands on is that constant, and one that counts is a step's number.
    """
    count = len(call.inputs) - 2
    body = _body(call, len(call.inputs), 1 + count)
    if call.has(1) and not np.all(call.array(1, "cond")):
        raise Unfit("its condition is false at first, expected a loop over steps")
    step = Step()
    names = [port.name for port in body.inputs]
    steps: dict[str, Any] = {names[0]: step, names[1]: Known(np.array(True))}
    constants: dict[int, Known] = {}
    counters: dict[int, int] = {}
    for i, name in enumerate(names[2:]):
        given, after_name = call.get(2 + i), _source(body, body.outputs[1 + i].name)
        if isinstance(given, Known) and after_name == name:
            constants[i] = steps[name] = given
        elif _counts(call, body, name, after_name, given):
            counters[i] = int(call.array(2 + i).reshape(-1)[0])
            steps[name] = step.plus(counters[i])
    own = [i for i in range(count) if i not in constants and i not in counters]
    counts = call.known(0, "M").sizes if call.has(0) else []
    times = (
        value.time
        for atom, value in call.builder.timed.values()
        if counts and counts[0] in (atom.sizes, (atom.declared, atom.declared))
    )
    time = next(times, None) or TIME
    carried = [_carried(call, call.get(2 + i), time) for i in own]
    cond, *after = _walked(call, [names[2 + i] for i in own], steps, carried, time)
    ends = [cond.sizes] if isinstance(cond, Until) else []
    ends += counts
    if not isinstance(cond, Until) and not (isinstance(cond, Known) and np.all(cond.array("its condition"))):
        raise Unfit("may end before the last step, expected a loop over all steps")
    if step.time is None or not ends:
        raise Unfit("takes no step of a sequence by its number, expected a loop over steps")
    (atom,) = step.time
    often = (min(a for a, _ in ends), min(b for _, b in ends))
    if often not in (atom.sizes, (atom.declared, atom.declared)):
        raise Unfit("a loop runs more or less often than there are steps, expected as often")
    finals: list[Any] = [None] * count
    for i, final in zip(own, _finished(call, carried, [after[i] for i in own], step.time), strict=True):
        finals[i] = final
    for i, known in constants.items():
        finals[i] = known
    for i, first in counters.items():
        finals[i] = Known(*(np.array(first + size) for size in atom.sizes))
    return [*finals, *(_gathered(one, 0, step.time) for one in after[count:])]


def _row(x: Symbol) -> Symbol:
    """A value without its first axis, which is the batch of a Scan of opset 8."""
    claim(x.axes[0], BATCH)
    if any(atom.kind != BATCH for atom in x.axes[0]):
        raise Unfit("the first axis is something else than the batch, as the net uses it elsewhere")
    return x.with_axes(x.axes[1:])


def scan(call: Call) -> list[Any]:
    """A Scan over the steps of one sequence or of several; in opset 8 the batch is the first axis of all."""
    get, of_rows = call.attributes.get, call.opset < 9
    if of_rows and call.has(0):
        raise Unfit("has the lengths of rows, expected a Scan of opset 9")
    inputs = [call.get(i) for i in range(of_rows, len(call.inputs))]
    call = call._replace(inputs=inputs)
    scanned = get("num_scan_inputs", 0)
    count = len(inputs) - scanned
    if scanned < 1 or count < 0:
        raise Unfit("scans nothing, expected a Scan over a sequence")
    body = _body(call, len(inputs), count)
    outputs = len(body.outputs) - count
    axes = get("scan_input_axes") or [0] * scanned
    places = get("scan_output_axes") or [0] * outputs
    ways = get("directions" if of_rows else "scan_input_directions") or [0] * scanned
    written = get("scan_output_directions") or [0] * outputs
    if (len(axes), len(ways)) != (scanned, scanned) or (len(places), len(written)) != (outputs, outputs):
        raise Unfit("its axes or directions do not fit its inputs and outputs")
    names = [port.name for port in body.inputs]
    steps: dict[str, Any] = {}
    step = Step()
    batch: Axis = ()
    backwards = set()
    for i, (axis, way) in enumerate(zip(axes, ways, strict=True)):
        x = call.symbol(count + i)
        if of_rows:
            batch, x = x.axes[0], _row(x)
        backwards.add(bool(way) != x.reversed)
        forward = Symbol(x.value, x.axes)
        steps[names[count + i]] = step.taken(forward, axis % x.rank)
    if len(backwards) > 1 or (count and True in backwards):
        raise Unfit(
            "goes from the last step to the first, which only LSTM, GRU and RNN do: export one of these, or "
            "turn the sequences before and after the net"
        )
    time = x.value.time or TIME
    carried = [_carried(call, call.get(i), time) for i in range(count)]
    after = _walked(call, names[:count], steps, carried, time, of_rows)
    assert step.time is not None
    if of_rows:
        after = [one.with_axes([batch, *one.axes]) if isinstance(one, Symbol) else one for one in after]
        places = [1] * outputs
    finals = _finished(call, carried, after[:count], step.time)
    gathered = [_gathered(one, place, step.time) for one, place in zip(after[count:], places, strict=True)]
    for one, way in zip(gathered, written, strict=True):
        one.reversed = bool(way) != (True in backwards)
    return [*finals, *gathered]


# ---- lists -------------------------------------------------------------------------------------------------


def empty(call: Call) -> list[Any]:
    return [Listed(None)]


def _listed(call: Call) -> Listed:
    given = call.get(0)
    if not isinstance(given, Listed):
        raise Unfit("reads no list of steps")
    return given


def insert(call: Call) -> list[Any]:
    """One more step at the end of a list."""
    if _listed(call).item is not None or call.has(2):
        raise Unfit("puts a value among others, expected one for each step of a loop, at the end")
    return [Listed(call.symbol(1))]


def cut(call: Call) -> list[Any]:
    """SplitToSequence: the list of a sequence's steps."""
    x = call.symbol(0)
    axis = call.axis(0, x.rank)
    if call.has(1) and (call.array(1).ndim or int(call.array(1)) != 1):
        raise Unfit("cuts a sequence into parts of several steps, expected one")
    return [Listed(x, x.axes, axis, bool(call.attributes.get("keepdims", 1)))]


def length(call: Call) -> Known:
    given = _listed(call)
    if not given.axes:
        raise Unfit("reads a list that grows, expected the steps of a sequence")
    worlds = (math.prod(atom.sizes[world] for atom in given.axes[given.place]) for world in (0, 1))
    return Known(*(np.array(one, np.int64) for one in worlds))


def at(call: Call) -> Symbol:
    """A step of a list by its number."""
    given, step = _listed(call), call.get(1)
    if not isinstance(step, Step) or given.item is None or not given.axes:
        raise Unfit("takes a step by its number, expected a loop over all")
    found = step.taken(given.item, given.place)
    if not given.keeps:
        return found
    axes = list(found.axes)
    axes.insert(given.place, ())
    return found.with_axes(axes)


def joined(call: Call) -> Symbol:
    """ConcatFromSequence: the steps of a list as a sequence."""
    given = _listed(call)
    if given.item is None or not given.axes:
        raise Unfit("reads a list that grows, expected one that a loop has finished")
    time, axes = given.axes[given.place], [one for i, one in enumerate(given.axes) if i != given.place]
    if call.attributes.get("new_axis", 0):
        place = call.attributes.get("axis", 0)
        axes.insert(place % (len(axes) + 1), time)
    else:
        place = call.axis(0, len(axes))
        if axes[place]:
            raise Unfit("joins steps along an axis of their own, expected one of size 1")
        axes[place] = time
    return Symbol(given.item.value, axes)
