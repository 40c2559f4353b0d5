"""Loops of Python over the steps: a record has their bodies one after the other, and one of them is enough.

`rolled` finds them, proves that all steps are alike, and leaves the operations of one; `LOOPS` has what comes
before and after it. A value in the body has no axis of time, as in the loops of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import Unfit
from tinyrnn.modules.functions import (
    CELLS,
    SAME,
    Collected,
    Held,
    Made,
    Now,
    cell,
    input_of,
    several,
    start,
    taken,
)
from tinyrnn.modules.recorder import Given, Op, Record, Ref, mapped
from tinyrnn.onnx.symbols import BATCH, BATCH_SIZES, Atom, Symbol, frame_size, part, reframed
from tinyrnn.ops import Feedback
from tinyrnn.temporal import LastStep
from tinyrnn.values import Value, applied

ONE = 2  # the step that stands for all: those before it may begin with constants

_CUTS = ("unbind", "chunk", "split", "tensor_split")


class _Loop(NamedTuple):
    """A loop: step 1 begins at an operation; step 0 has places, or None for what constants made of it."""

    steps: int
    begin: int
    size: int
    first: list[int | None]

    def place(self, step: int, i: int) -> int | None:
        return self.begin + (step - 1) * self.size + i if step else self.first[i]


def _loops(ops: Sequence[Op], counts: Sequence[int]) -> list[_Loop]:
    """The loops of so many steps, each with the smallest body."""
    keys = [(op.name, op.where, op.module) for op in ops]
    found: list[_Loop] = []
    i = before = 0
    while i < len(keys):
        for size in range(1, (len(keys) - i) // (min(counts) - 1) + 1):
            if keys[i] != keys[i + size]:
                continue
            end = i
            while end + size < len(keys) and keys[end] == keys[end + size]:
                end += 1
            whole = (end - i) // size + 1
            steps = next((one for one in counts if whole in (one - 1, one) and one > ONE), 0)
            if steps:
                break
        else:
            i += 1
            continue
        begin = end + size - (steps - 1) * size
        first: list[int | None] = [None] * size
        place = begin - 1
        for k in range(size)[::-1]:
            if place >= before and keys[place] == keys[begin + k]:
                first[k], place = place, place - 1
        found.append(_Loop(steps, begin, size, first))
        i = before = end + size
    return found


class _Rolling:
    """The work of `rolled`."""

    def __init__(self, record: Record, loops: list[_Loop], counts: Sequence[int]) -> None:
        self.ops, self.loops = record.ops, loops
        self.owner: dict[int, tuple[int, int, int, int]] = {}  # of a result: loop, step, operation, place
        self.inside: dict[int, int] = {}  # of an operation: its loop
        for k, loop in enumerate(loops):
            for step in range(loop.steps):
                for i in range(loop.size):
                    place = loop.place(step, i)
                    if place is not None:
                        self.inside[place] = k
                        for r, number in enumerate(self.ops[place].results):
                            self.owner[number] = k, step, i, r
        self.cuts = {  # parts of a sequence that was cut into its steps
            number: (place, step)
            for place, op in enumerate(self.ops)
            if op.name in _CUTS and len(op.results) in counts
            for step, number in enumerate(op.results)
        }
        self.cut: set[int] = set()
        self.lasts: list[dict[int, int]] = [{} for _ in loops]  # results of the last step: of the one

    def number(self, k: int, i: int, r: int, step: int = ONE) -> int:
        place = self.loops[k].place(step, i)
        assert place is not None
        return self.ops[place].results[r]

    def outside(self, one: Any) -> Any:
        """A leaf that does not change from step to step."""
        if isinstance(one, Ref) and one.number in self.owner:
            k, step, i, r = self.owner[one.number]
            if step != self.loops[k].steps - 1:
                raise Unfit(f"step {step} of a loop is read, expected the last one, or all of them stacked")
            self.lasts[k][one.number] = self.number(k, i, r)
        return one

    def after(self, op: Op) -> Op:
        """An operation behind a loop; a list of all its steps is a sequence."""
        given = op.args[0] if op.args else None
        if op.name in ("stack", "cat", "concat", "concatenate") and isinstance(given, (list, tuple)):
            owners = [self.owner.get(one.number) for one in given[1:] if isinstance(one, Ref)]
            if owners and owners[0]:
                k, _, i, r = owners[0]
                if (
                    owners
                    == [(k, step, i, r) for step in range(1, self.loops[k].steps)]
                    == owners[: len(given) - 1]
                ):
                    args = [Ref(self.number(k, i, r)), self.loops[k].steps, *op.args[1:]]
                    return op._replace(name="stacked" if op.name == "stack" else "joined", args=args)
        return op._replace(args=mapped(op.args, self.outside), kwargs=mapped(op.kwargs, self.outside))

    def merged(self, trees: Sequence[Any], k: int, carried: dict[int, tuple[int, int]]) -> Any:
        """The arguments of all steps from `ONE` on as those of one."""
        first, same = trees[0], {type(one) for one in trees} == {type(trees[0])}
        if same and isinstance(first, (list, tuple)) and len({len(one) for one in trees}) == 1:
            return type(first)(self.merged(parts, k, carried) for parts in zip(*trees, strict=True))
        if same and isinstance(first, dict):
            return {key: self.merged([one[key] for one in trees], k, carried) for key in first}
        if same and isinstance(first, slice):
            ends = [(one.start, one.stop, one.step) for one in trees]
            return slice(*self.merged(ends, k, carried))
        if same and isinstance(first, Given):
            if all(one is first or np.array_equal(one.array, first.array) for one in trees):
                return first
            raise Unfit("other constants are read at each step, expected the same at all")
        if all(one == first for one in trees):
            return self.outside(first)
        if same and isinstance(first, Ref):
            places = [self.owner.get(one.number, (-1, -1, -1, -1)) for one in trees]
            for late in (0, 1):
                if places == [(places[0][0], ONE + t - late, *places[0][2:]) for t in range(len(trees))]:
                    if late and places[0][0] != k:
                        break
                    if late:
                        carried[first.number] = places[0][2:]
                    return first
            cuts = [self.cuts.get(one.number) for one in trees]
            if cuts[0] and cuts == [(cuts[0][0], ONE + t) for t in range(len(trees))]:
                self.cut.add(cuts[0][0])
                return first
        if same and isinstance(first, int) and all(one - t == first for t, one in enumerate(trees)):
            return Now(first - ONE)
        raise Unfit("its steps are not alike, expected a loop that does the same at each step")

    def body(self, k: int) -> list[Op]:
        """The operations of a loop: what it begins with, one step, and what that hands to the next."""
        loop, made = self.loops[k], []
        carried: dict[int, tuple[int, int]] = {}
        begins: dict[int, Any] = {}
        for i in range(loop.size):
            steps = [self.ops[loop.begin + step * loop.size + i] for step in range(ONE - 1, loop.steps - 1)]
            op, place = steps[0], loop.first[i]
            zero = self.ops[place] if place is not None else op
            try:
                args = [*op.args]
                for at in range(len(args)):
                    own: dict[int, tuple[int, int]] = {}
                    args[at] = self.merged([one.args[at] for one in steps], k, own)
                    hands = list(own.values()) == [(i, r) for r in range(len(op.results))]
                    if hands and at == 1 and op.name in CELLS:  # the state of a layer
                        op, args[at] = op._replace(name=op.name + "s"), mapped(zero.args[at], self.outside)
                    elif hands and at == 0 and op.name == "setitem":
                        op, args[at] = op._replace(name="collected"), None
                    else:
                        carried |= own
                kwargs = self.merged([one.kwargs for one in steps], k, carried)
            except Unfit as error:
                raise Unfit(error.args[0], op) from None
            made.append(op._replace(args=args, kwargs=kwargs, within=True))
            if place is not None:
                leaves: list[list[Any]] = [[], []]
                for tree, found in zip(((op.args, op.kwargs), (zero.args, zero.kwargs)), leaves, strict=True):
                    mapped(tree, found.append)
                for one, at_first in zip(*leaves, strict=False):
                    if isinstance(one, Ref) and one.number in carried:
                        begins.setdefault(one.number, self.outside(at_first))
        for number, (i, r) in carried.items():
            op = self.ops[loop.begin + i]
            made.insert(0, Op("before", [begins.get(number)], {}, [number], op.where, op.module, True))
            args = [Ref(number), Ref(self.number(k, i, r))]
            made.append(Op("connected", args, {}, [], op.where, op.module))
        return made


def rolled(record: Record, counts: Sequence[int]) -> Record:
    """A record whose loops of so many steps are one step each.

    Raises
    ------
    Unfit
        If the steps of one are not alike; with the operation.
    """
    loops = _loops(record.ops, counts) if counts else []
    if not loops:
        return record
    same: dict[int, int] = {}
    for op in record.ops:
        if op.name in SAME.split() and isinstance(op.args[0], Ref):
            same |= dict.fromkeys(op.results, same.get(op.args[0].number, op.args[0].number))

    def source(one: Any) -> Any:
        return Ref(same.get(one.number, one.number)) if isinstance(one, Ref) else one

    ops = [op._replace(args=mapped(op.args, source), kwargs=mapped(op.kwargs, source)) for op in record.ops]
    record = Record(ops, record.arrays, mapped(record.outputs, source))
    work = _Rolling(record, loops, counts)
    made: list[Op | int] = []
    bodies: list[list[Op]] = []
    for place, op in enumerate(record.ops):
        if place not in work.inside:
            made.append(op)
        elif work.inside[place] == len(bodies):
            bodies.append(work.body(len(bodies)))
            made.append(len(bodies) - 1)
    ready = [one if isinstance(one, int) else work.after(one) for one in made]
    outputs = mapped(record.outputs, work.outside)
    ops = []
    for one in ready:
        if isinstance(one, int):
            last = bodies[one][-1]
            ops += bodies[one]
            ops += [
                Op("after", [Ref(own), loops[one].steps], {}, [number], last.where, last.module)
                for number, own in work.lasts[one].items()
            ]
        else:
            ops.append(one)
    for place in work.cut:
        op = record.ops[place]
        i = next(i for i, one in enumerate(ops) if one.results == op.results)
        ops[i] = op._replace(name=f"{op.name}_steps", results=[op.results[ONE]])
    return Record(ops, record.arrays, outputs)


# ---- what stands around a step -----------------------------------------------------------------------------


def before(call: Made) -> Any:
    """The value of the step before."""
    pairs = call.sizes[0]
    axes = [(Atom(BATCH, BATCH_SIZES),) if pair == BATCH_SIZES else part(pair[0]) for pair in pairs]
    frame = [size for size in map(frame_size, axes) if size > 1] or [1]
    initial = None if call.args[0] is None else start(call.site, call.args[0])
    name = input_of(call.args[0])
    value = Feedback(*frame, initial=reframed(initial, frame) if isinstance(initial, Value) else None)
    if isinstance(initial, np.ndarray):
        assert value.layer is not None
        value.layer.initial_state = {"past": initial.reshape(1, -1)}
    if name:
        value.named(f"{name}_state")
        call.site.begun[name] = f"{name}_state.past"
        call.site.finals[id(value)] = name
    return Symbol(value, axes)


def connected(call: Made) -> list[Any]:
    one: Any = call.x.value
    other = call.symbol(1, "the next step").value
    one.connect(reframed(other, one.frame))
    if id(one) in call.site.finals:
        final = call.site.lasts[id(other)] = applied(LastStep(), (other,))
        call.site.finals[id(final)] = call.site.finals.pop(id(one))
    return []


def gathered(x: Any, call: Made, dim: int, stacks: bool) -> Symbol:
    """The value of all steps, with an axis of time, which is new or a part of another."""
    time = call.site.timed[call.args[1].sizes[0]][0]
    axes = list(x.axes)
    dim %= len(axes) + stacks
    axes[dim : dim + (not stacks)] = [(time, *(() if stacks else axes[dim]))]
    return Symbol(x.value, axes)


def listed(stacks: bool) -> Any:
    return lambda call: gathered(call.x, call, call.arg(2, "dim", call.kwargs.get("axis", 0)), stacks)


def after(call: Made) -> Any:
    """The value of the last step."""
    x = call.args[0]
    if isinstance(x, Collected):
        return gathered(x, call, x.axis, True)
    last = call.site.lasts.get(id(x.value), x.value if isinstance(x, Held) else None)
    return Symbol(applied(LastStep(), (call.x.value,)) if last is None else last, x.axes)


def collected(call: Made) -> Any:
    """``y[:, t] = x``."""
    index, x = several(call.args[1]), call.symbol(2, "value")
    if [one for one in index if one != slice(None)] != [Now(0)]:
        raise Unfit("fills a part of a tensor, expected one step of it")
    found = Collected(x.value, x.axes)
    found.axis = index.index(Now(0))
    return found


def cut(call: Made) -> Any:
    dim = call.arg(1, "dim", 0) if call.op.name == "unbind_steps" else call.arg(2, "dim", 0)
    return [taken(call.x, dim, call.op.name != "unbind_steps")]


LOOPS = {
    "before": before,
    "connected": connected,
    "stacked": listed(True),
    "joined": listed(False),
    "after": after,
    "collected": collected,
    **{f"{name}s": partial(cell, True) for name in CELLS},
    **{f"{name}_steps": cut for name in _CUTS},
}
