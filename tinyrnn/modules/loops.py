"""Loops of Python over the steps: a record has their bodies one after the other, and one of them is enough.

`rolled` finds them, checks that all steps are alike, and leaves the operations of one; `LOOPS` has those that
stand around it. A value in the body has no axis of time, as in the loops of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import Unfit
from tinyrnn.modules.functions import (
    CELLS,
    SAME,
    Function,
    Held,
    Made,
    Now,
    cell,
    input_of,
    of_steps,
    several,
    start as begun,
)
from tinyrnn.modules.recorder import TAKING, Given, Op, Record, Ref, flat, mapped, refs
from tinyrnn.onnx.steps import is_time
from tinyrnn.onnx.symbols import (
    BATCH,
    Atom,
    Known,
    Symbol,
    equal_rows,
    framed,
    part,
    reframed,
)
from tinyrnn.ops import Feedback
from tinyrnn.temporal import LastStep
from tinyrnn.values import TIME, Value, applied

UNLIKE = "its steps are not alike, expected a loop that does the same at each"
# Operations that make zeros of zeros.
_BLANK = {
    *SAME.split(),
    "flatten",
    "getitem",
    "permute",
    "reshape",
    "select",
    "slice",
    "squeeze",
    "transpose",
    "view",
}
ONE = 2  # the step that stands for all: those before it may begin with constants
MOST_LOOKS = 5_000_000  # for loops among the operations of a record


def _blank(op: Op) -> bool:
    """True of an operation that makes zeros of zeros."""
    limits = [one for one in flat((op.args[1:], op.kwargs)) if one is not None]
    if op.name in ("clamp", "clip", "hardtanh") and len(limits) == 2:
        return bool(limits[0] <= 0 <= limits[1])
    return op.name in _BLANK


def _array(one: Any) -> Any:
    return one.array if isinstance(one, Given) else None


def _with(op: Op, leaves: Iterable[Any]) -> Any:
    """The arguments of an operation with other leaves."""
    left = iter(leaves)
    return mapped((op.args, op.kwargs), lambda _: next(left, None))


def _maker(one: Any) -> Op | None:
    """The operation on constants that made one."""
    while isinstance(one, Given) and one.made:
        op = one.made()
        if op.name not in SAME.split():
            return op
        one = op.args[0]
    return None


class _Loop(NamedTuple):
    """The operations of each step, from one place to another; None in step 0 for those of constants.

    ``total`` is the number of steps of its axis of time.
    """

    start: int
    end: int
    total: int
    steps: list[list[Any]]


def _first(
    ops: list[Op], keys: list[int], body: Sequence[int], end: int, least: int, strict: bool
) -> list[Op | None]:
    """The operations of step 0, which ends there, in their places of a body; those of constants are None.

    ``strict``: they read constants of the same shapes, where a line has several alike.
    """
    found: list[Op | None] = []
    for k in body[::-1]:
        has = end > least and keys[end - 1] == keys[k] and not (strict and _other(ops[end - 1], ops[k]))
        end -= has
        found.append(ops[end] if has else None)
    return found[::-1]


def _other(one: Op, like: Op) -> bool:
    """True of an operation that reads no constant of this shape where another does."""
    pairs = zip(*(flat((op.args, op.kwargs)) for op in (one, like)), strict=False)
    return any(isinstance(b, Given) and np.shape(_array(a)) != np.shape(b.array) for a, b in pairs)


def _present(first: Sequence[Op | None]) -> int:
    return sum(op is not None for op in first)


def _loops(ops: list[Op], counts: Sequence[int]) -> list[_Loop]:
    """The loops of so many steps, each with the smallest body."""
    numbers: dict[Any, int] = {}
    keys = [numbers.setdefault((op.name, op.where, op.module), len(numbers)) for op in ops]
    found: list[_Loop] = []
    i, looks = 0, MOST_LOOKS
    while i < len(keys) and looks > 0:
        sizes = range(1, (len(keys) - i) // (min(counts) - 1) + 1)
        looks -= len(sizes)
        for size in sizes:
            if looks < 0 or keys[i] != keys[i + size]:
                continue
            end = i
            while end + size < len(keys) and keys[end] == keys[end + size]:
                end += 1
            looks -= end - i
            count = next((one for one in counts if (end - i) // size + 1 in (one - 1, one)), 0)
            if count:
                break
        else:
            i += 1
            continue
        i = end + size
        begins = range(i - (count - 1) * size, i, size)
        least = found[-1].end if found else 0
        first = max(
            (_first(ops, keys, range(i - size, i), begins[0], least, one) for one in (True, False)),
            key=_present,
        )
        steps: list[list[Any]] = [first, *(ops[one : one + size] for one in begins)]
        found.append(_Loop(begins[0] - _present(first), i, count, steps))
    return found


class _Rolling:
    """The operations that are left, ``made``, and where numbers come from: what makes each at which step."""

    def __init__(self, ops: list[Op], loops: list[_Loop], counts: Sequence[int]) -> None:
        self.ops, self.loops, self.op = ops, loops, ops[0]
        self.made: list[Op] = []
        self.blank: set[int] = set()
        self.ready: set[int] = set()  # numbers of last steps that something has read
        self.owner: dict[int, tuple[Any, int]] = {}
        for k, loop in enumerate(loops):
            for step, body in enumerate(loop.steps):
                for i, op in enumerate(body):
                    self.owner |= {n: ((k, i, r), step) for r, n in enumerate(op.results if op else ())}
        for place, op in enumerate(ops):
            if op.name in ("unbind", "chunk", "split", "tensor_split") and len(op.results) in counts:
                self.owner |= {n: ((None, place), step) for step, n in enumerate(op.results)}
                ops[place] = op._replace(results=op.results[ONE : ONE + 1])

    def of_one(self, slot: Any) -> Ref:
        k, i, r = slot
        return Ref(self.loops[k].steps[ONE][i].results[r])

    def outside(self, one: Any) -> Any:
        """A leaf that does not change from step to step."""
        if isinstance(one, Ref) and one.number in self.owner and one.number not in self.ready:
            slot, step = self.owner[one.number]
            if slot[0] is None or step != len(self.loops[slot[0]].steps) - 1:
                raise Unfit(f"step {step} of a loop is read, expected the last one, or all of them stacked")
            self.ready.add(one.number)
            args, op = [self.of_one(slot)], self.op
            self.made.append(Op("after", args, {}, [one.number], op.where, op.module))
        return one

    def behind(self, op: Op) -> None:
        """An operation outside of loops; a list of all steps is the value of one."""
        self.op = op
        args = list(op.args)
        owners = [self.owner.get(one, (None, 0)) for one in refs(args[:1])]
        slot = owners[-1][0] if owners else None
        steps = [(slot, step) for step in range(len(self.loops[slot[0]].steps))] if slot else []
        whole = len(owners) > 1 and owners in (steps, steps[1:]) and len(args[0]) == len(steps)
        args, kwargs = mapped((args[whole:], op.kwargs), self.outside)
        if whole:
            args.insert(0, self.of_one(slot))
        self.made.append(op._replace(args=args, kwargs=kwargs))

    def merged(self, leaves: Sequence[Any], k: int, i: int, carried: dict[int, Any]) -> Any:
        """The argument of operation i at step `ONE`, if it stands for all; states may begin as constants.

        ``carried`` gets what comes from the step before, by number: its slot, and what it is at first.
        """
        absent = self.loops[k].steps[0][i] is None  # step 0 has no such operation
        read, first = leaves[absent:], leaves[ONE]
        alike = all(type(one) is type(first) for one in leaves[ONE:])
        if isinstance(first, Given) and alike:
            if all(one is first or np.array_equal(_array(one), first.array) for one in read):
                return first
            raise Unfit("other constants are read at each step, expected the same at all")
        if all(one == first for one in read):
            return self.outside(first)
        if isinstance(first, int) and list(read) == list(
            range(first - ONE + absent, first - ONE + len(leaves))
        ):
            return Now(first - ONE)
        if isinstance(first, Ref) and alike and (source := self.source(leaves, k, absent)):
            slot, handed = source
            if handed:
                if leaves[0] is None and i not in self.blank:
                    raise Unfit("its first step is another, expected a loop that does the same at each step")
                carried[first.number] = slot, leaves[0]
            return first
        raise Unfit(UNLIKE)

    def source(self, leaves: Sequence[Any], k: int, absent: bool) -> tuple[Any, bool] | None:
        """The slot that all steps read, and whether that of the step before; None if there is none."""
        found = [self.owner.get(one.number, (None, 0)) for one in leaves[ONE:]]
        slot, step = found[0]
        handed = bool(slot) and slot[0] == k and step == ONE - 1
        fits = (
            slot
            and (handed or step == ONE)
            and found == [(slot, step + t) for t in range(len(found))]
            and all(self.stands(leaves[t], slot, t - handed) for t in range(max(absent, handed), ONE))
        )
        return (slot, handed) if fits else None

    def stands(self, one: Any, slot: Any, step: int) -> bool:
        """True if one is what the operation of a slot makes at a step before `ONE`."""
        if isinstance(one, Ref):
            return self.owner.get(one.number) == (slot, step)
        if slot[0] is None:
            return False
        if slot[1] in self.blank:
            return one is not None
        made = _maker(one)
        return made is not None and bool(made.name == self.loops[slot[0]].steps[ONE][slot[1]].name)

    def begin(self, k: int) -> None:
        """Put what step 0 computes with constants into its place, as the operations that read it tell.

        The places of other operations that step 0 lacks are ``blank`` if step 0 reads zeros in place of
        their results, and if they make zeros of zeros.
        """
        first, one = self.loops[k].steps[0], self.loops[k].steps[ONE]
        zeros: dict[int, bool] = {}
        for place in range(len(one))[::-1]:
            both = (first[place] or one[place], one[place])  # one that is absent may have been found by now
            for zero, leaf in zip(*(flat((op.args, op.kwargs)) for op in both), strict=False):
                slot, _ = self.owner.get(leaf.number, (None, 0)) if isinstance(leaf, Ref) else (None, 0)
                if slot and slot[0] == k and isinstance(zero, Given) and not first[slot[1]]:
                    made, name = _maker(zero), one[slot[1]].name
                    if made and made.name == name:
                        first[slot[1]] = made
                    blank = _blank(one[slot[1]]) and not np.any(np.asarray(zero.array))
                    zeros[slot[1]] = zeros.get(slot[1], True) and blank
        self.blank = {place for place, blank in zeros.items() if blank}

    def body(self, k: int) -> list[Op]:
        """The operations of a loop: what it begins with, one step, and what that hands to the next."""
        made: list[Op] = []
        carried: dict[int, Any] = {}
        self.begin(k)
        for i, each in enumerate(zip(*self.loops[k].steps, strict=True)):
            zero, op = each[0], each[ONE]
            self.op = op
            own: dict[int, Any] = {}
            steps = [
                flat((one.args, one.kwargs)) if one else [None] * len(flat((op.args, op.kwargs)))
                for one in each
            ]
            if len({len(one) for one in steps}) > 1:
                raise Unfit(UNLIKE)
            args, kwargs = _with(op, [self.merged(leaves, k, i, own) for leaves in zip(*steps, strict=True)])
            at = {"setitem": 0, **dict.fromkeys(CELLS, 1)}.get(op.name, len(args))
            state = refs(args[at : at + 1])
            if state and [own.get(n, (None,))[0] for n in state] == [(k, i, r) for r in range(len(state))]:
                for number in state:  # is a layer's, or a tensor that is filled
                    del own[number]
                args[at] = mapped((zero or op).args[at], self.outside) if at else None
                op = op._replace(name=op.name + "s")
            carried |= own
            made.append(op._replace(args=args, kwargs=kwargs, within=True))
        for number, (slot, first) in carried.items():
            begin = Op(
                "before", [self.outside(first), self.loops[k].total], {}, [number], op.where, op.module, True
            )
            made.insert(0, begin)
            made.append(begin._replace(name="connected", args=[Ref(number), self.of_one(slot)], results=[]))
        return made

    def run(self, outputs: Any) -> Any:
        """Make all, and return the outputs."""
        place = 0
        for k, loop in enumerate(self.loops):
            for op in self.ops[place : loop.start]:
                self.behind(op)
            self.made += self.body(k)
            place = loop.end
        for op in self.ops[place:]:
            self.behind(op)
        makers = {number: op for op in self.ops for number in op.results}

        def output(one: Any) -> Any:
            self.op = makers.get(getattr(one, "number", -1), self.op)
            return self.outside(one)

        return mapped(outputs, output)


def _whole(ops: list[Op], arrays: list[Any], counts: Sequence[int]) -> None:
    """Complete the last step of a loop: exports leave out what nothing reads."""
    taken: dict[Any, list[int]] = {}
    for place, op in enumerate(ops):
        if op.name == "select" and isinstance(op.args[2], int):
            own = taken.setdefault((refs(op.args[:1])[0], op.args[1]), [])
            if op.args[2] == len(own):
                own.append(place)
    places = next((own for own in taken.values() if len(own) in counts and len(own) > 3), None)
    if places is None or places[-1] - places[-2] != places[-2] - places[-3]:
        return
    *_, low, middle, high = places
    both = list(zip(ops[low:middle], ops[middle:high], strict=False))
    later: dict[int, int] = {}  # the numbers of the next step, by those of one
    for one, op in both:
        later |= zip(one.results, op.results, strict=False)

    def next_of(before: Any, now: Any) -> Any:
        if isinstance(now, Ref):
            return Ref(later.get(now.number, now.number))
        return 2 * now - before if type(before) is type(now) is int else now

    for one, op in both:
        args, kwargs = _with(op, map(next_of, *(flat((each.args, each.kwargs)) for each in (one, op))))
        if not (ops[high:] and ops[high].name == op.name and _told(ops[high].args) == _told(args)):
            new = range(len(arrays), len(arrays) + len(op.results))
            arrays += [arrays[number] for number in op.results]
            ops.insert(high, op._replace(args=args, kwargs=kwargs, results=[*new]))
        later |= zip(op.results, ops[high].results, strict=False)
        high += 1


def _told(args: Any) -> list[Any]:
    """The leaves of arguments beside constants."""
    return [one for one in flat(args) if not isinstance(one, Given)]


def rolled(record: Record, counts: Sequence[int], traced: bool = False) -> Record:
    """A record whose loops of so many steps are one step each.

    ``traced``: the sizes of other axes may be the same, so a loop that takes no steps is none of time, and
    one whose steps are not alike stays as it is.

    Raises
    ------
    Unfit
        If the steps of one are not alike; with the operation.
    """
    same: dict[int, int] = {}

    def source(one: Any) -> Any:
        return Ref(same.get(one.number, one.number)) if isinstance(one, Ref) else one

    ops = []
    for op in record.ops:
        ops.append(op._replace(args=mapped(op.args, source), kwargs=mapped(op.kwargs, source)))
        if op.name in SAME.split():
            same |= dict.fromkeys(op.results, *refs(ops[-1].args[:1]))
    needed = set(refs(record.outputs))
    for place in range(len(ops) * traced)[::-1]:  # what nothing reads is in no loop's way
        op = ops[place]
        if op.name in TAKING or needed.intersection(op.results):
            needed.update(refs((op.args, op.kwargs)))
        else:
            del ops[place]
    arrays = record.arrays
    if traced:
        arrays = list(arrays)
        _whole(ops, arrays, counts)
    loops = _loops(ops, counts) if counts else []
    if not loops:
        return record
    work = _Rolling(ops, loops, counts)
    try:
        outputs = work.run(mapped(record.outputs, source))
    except Unfit as error:
        if traced:
            return record
        raise Unfit(*error.args, work.op) from None
    inside = [one for op in work.made if op.within for one in flat((op.args, op.kwargs))]
    taken = {op.results[0] for op in work.made if op.results and op.name in ("unbind", "chunk", "split")}
    if traced and not any(
        isinstance(one, Now) or (isinstance(one, Ref) and one.number in taken) for one in inside
    ):
        return record
    return Record(work.made, arrays, outputs)


# ---- what stands around a step -----------------------------------------------------------------------------


def before(call: Made) -> Any:
    """The value of the step before."""
    pairs, name = call.sizes[0], input_of(call.args[0])
    rows = call.site.rows
    place = pairs.index(rows) if rows in pairs else -1
    axes = [(Atom(BATCH, rows),) if i == place else part(pair[0]) for i, pair in enumerate(pairs)]
    frame = framed(axes)
    initial = call.args[0]
    if isinstance(initial, Known) and place >= 0:
        row = equal_rows(initial, place)
        initial = None if row is None else np.float32(row)
    elif initial is not None:
        initial = begun(call.site, initial)
    count = call.args[1]
    steps = tuple(map(int, count.worlds)) if isinstance(count, Known) else (count, count)
    time = next((one for one, sizes in call.site.times.items() if sizes == steps), TIME)
    value = Feedback(
        *frame, time=time, initial=reframed(initial, frame) if isinstance(initial, Value) else None
    )
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


def after(call: Made) -> Any:
    """The value of the last step."""
    x = call.args[0]
    if isinstance(x, Symbol) and any(map(is_time, x.axes)):  # a tensor that was filled
        return x
    last = call.site.lasts.get(id(x.value), x.value if isinstance(x, Held) else None)
    return Symbol(applied(LastStep(), (call.x.value,)) if last is None else last, x.axes)


def filled(call: Made) -> Any:
    """``y[:, t] = x`` at each step."""
    index = several(call.args[1])
    if [one for one in index if one != slice(None)] != [Now(0)]:
        raise Unfit("fills a part of a tensor, expected one step of it")
    return of_steps(call, call.symbol(2, "value"), index.index(Now(0)), True)


LOOPS: dict[str, Function] = {
    "before": before,
    "connected": connected,
    "after": after,
    "setitems": filled,
    **{f"{name}s": partial(cell, True) for name in CELLS},
}
