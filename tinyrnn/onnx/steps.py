"""Steps by their number: some of them, how many there are, and constants that differ from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn.activations import Log, Scale
from tinyrnn.frames import Constant
from tinyrnn.importing import Unfit, Window, delayed, fixed, lasting, step_of
from tinyrnn.onnx.symbols import (
    OPEN,
    TIME,
    Atom,
    Axis,
    Known,
    Retry,
    Sizes,
    Symbol,
    constant,
    frame_size,
    part,
    reframed,
)
from tinyrnn.ops import Feedback, concat
from tinyrnn.temporal import Repeat, SumOverTime, TimeUnfold
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array

MOST_ROWS = 1 << 18  # numbers of a constant that differs from step to step; a step moves all of them
MOST_STEPS = 64  # that are taken one by one, or left out at the ends of a sequence

Timed = dict[Sizes, tuple[Atom, Value]]  # a value on each axis of time, by the sizes of the axis


def is_time(axis: Axis) -> bool:
    return len(axis) == 1 and axis[0].kind == TIME


# ---- parts of a sequence -----------------------------------------------------------------------------------


def one_step(x: Symbol, axis: int, number: int) -> Symbol:
    """A step of a sequence by its number, which is below 0 from the end; the axis has size 1 then.

    The last of so many steps as the file fixes, by its number, is that of sequences of as many alone.
    """
    count = x.axes[axis][0].declared or 0
    ends = count > 1 and number in (count - 1, -count)
    if x.reversed:
        number = -1 - number
    if not -MOST_STEPS <= number < MOST_STEPS:
        raise Unfit(
            f"takes step {number} of a sequence, expected one of the first or the last {MOST_STEPS}; a graph "
            "of so many steps is read as one frame where their number is bound: load(path, shapes={...})"
        )
    value = step_of(x.value, number)
    value = fixed(value, x.value, count) if ends else value
    return Symbol(value, [() if i == axis else one for i, one in enumerate(x.axes)])


def some_steps(x: Symbol, axis: int, numbers: Sequence[int]) -> Symbol:
    """Steps by their numbers as a part of the frame; of several, none may be missing."""
    taken = [one_step(x, axis, number) for number in numbers]
    if len(taken) == 1:
        return taken[0]
    before = math.prod(map(frame_size, x.axes[:axis]))
    behind = math.prod(map(frame_size, x.axes[axis + 1 :]))
    value = concat([reframed(one.value, (before, 1, behind)) for one in taken], -2)
    value = lasting(value, x.value, max(one + 1 if one >= 0 else -one for one in numbers))
    return Symbol(
        reframed(value, [size for size in (before, len(taken), behind) if size > 1]),
        [part(len(taken)) if i == axis else one for i, one in enumerate(x.axes)],
    )


def stepped(axis: Axis, window: Window) -> Axis:
    """The axis of time behind windows over it."""
    (atom,) = axis
    sizes = (window.count(atom.sizes[0]), window.count(atom.sizes[1]))
    declared = None if atom.declared is None else window.count(atom.declared)
    return (atom if sizes == atom.sizes else Atom(TIME, sizes, None, declared),)


def cropped(x: Symbol, axis: int, before: int, behind: int, stride: int = 1) -> Symbol:
    """A sequence without some steps at its beginning and its end, and of the others every n-th."""
    if before + behind > MOST_STEPS or (x.reversed and stride > 1):
        raise Unfit(f"leaves out {before + behind} steps, expected at most {MOST_STEPS} in their own order")
    first = behind if x.reversed else before
    window = Window(before + behind + 1, stride, 1, (0, 0))
    flat = x.framed((math.prod(x.value.frame),))
    value = applied(TimeUnfold(window.kernel, stride), (flat,))[..., first : first + 1]
    axes = [stepped(one, window) if i == axis else one for i, one in enumerate(x.axes)]
    found = Symbol(reframed(value, x.value.frame), axes, x.reversed)
    if first == 0 and stride == 1:
        found.ahead = (x, behind if not x.reversed else before)
    return found


def padded(x: Symbol, axis: int, before: int, behind: int) -> Symbol:
    """A sequence with steps of zeros before and behind it."""
    first, last = (behind, before) if x.reversed else (before, behind)
    if x.ahead is not None and (first, last) == (x.ahead[1], 0):  # moved by these steps
        source = x.ahead[0]
        return Symbol(delayed(source.value, first), source.axes, x.reversed)
    flat, more = x.framed((math.prod(x.value.frame),)), first + last
    value = applied(TimeUnfold(more + 1, padding=(more, more)), (flat,))[..., last : last + 1]
    value = reframed(value, x.value.frame)
    time = stepped(x.axes[axis], Window(1, 1, 1, (before, behind)))
    return Symbol(value, [time if i == axis else one for i, one in enumerate(x.axes)], x.reversed)


def repeated(call: Any, x: Symbol, axis: int, sizes: Sizes) -> Symbol:
    """A value per sequence at each step of an axis of time of these sizes."""
    timed = call.builder.timed
    if sizes not in timed and (axis_of_input := call.builder.ports.axes.that(sizes)):
        raise Retry(axis_of_input, TIME)
    if sizes not in timed or x.value.time is not None:
        raise Unfit("repeats a value for each row, which arithmetic does by itself")
    atom, steps = timed[sizes]
    value = applied(Repeat(), (x.value, steps))
    return Symbol(value, [(atom,) if i == axis else one for i, one in enumerate(x.axes)])


# ---- numbers of steps --------------------------------------------------------------------------------------


def counted(known: Known, timed: Timed) -> Symbol | None:
    """A number that grows with the number of steps, as a value; None if it is no such number."""
    one, other = known.worlds
    if not known.varies or one.size != 1 or other.size != 1:
        return None
    first, second = (float(array.reshape(-1)[0]) for array in (one, other))
    for (a, b), (_, value) in timed.items():
        slope = (second - first) / (b - a) if a != b else 0
        if slope and slope == round(slope) and first - slope * a == round(first - slope * a):
            count = number_of_steps(value)
            return Symbol(applied(Scale(slope, first - slope * a), (count,)), [()] * one.ndim)
    return None


def number_of_steps(like: Value) -> Value:
    """The number of steps of each row of a sequence, (1,)."""
    return reframed(applied(SumOverTime(), (applied(Constant(1.0), (like,)),)), (1,))


def number_of_step(like: Value, first: Array, slope: Array) -> Value:
    """Numbers that grow from step to step: ``first + n * slope``."""
    before = Feedback(len(first), time=like.time or TIME)
    assert before.layer is not None
    before.layer.initial_state = {"past": np.asarray([first - slope], np.float32)}
    value = before + constant(slope, like)
    before.connect(value)
    return value


def time_of(known: Known, timed: Timed, like: Sequence[Axis]) -> int | None:
    """The axis, counted from the end, along which a constant differs from step to step; None if none."""
    shapes = [one.shape for one in known.worlds]
    for axis in range(-min(len(shapes[0]), len(like)), 0):
        sizes = (shapes[0][axis], shapes[1][axis])
        if not np.any(np.diff(known.worlds[0], axis=axis)):
            continue
        if len(like[axis]) == 1 and like[axis][0].kind == OPEN and sizes != (1, 1):
            raise Retry(like[axis][0].origin or "", TIME)
        if is_time(like[axis]) and sizes != (1, 1):
            found = sizes == like[axis][0].sizes or sizes[0] == sizes[1]
        else:
            found = sizes in timed and sizes[0] != sizes[1]
        if found:
            return axis
    return None


def of_steps(call: Any, known: Known, axis: int, time: Axis) -> Symbol:
    """A constant with a row for each step.

    Behind its last row a sequence gets NaN: the file says no number for such a step.
    """
    first, second = known.worlds
    longer = second if second.shape[axis] > first.shape[axis] else first
    count = min(first.shape[axis], second.shape[axis])
    if not np.array_equal(first.take(range(count), axis), second.take(range(count), axis)):
        raise Unfit("a constant of each step depends on the number of steps")
    rows = np.moveaxis(np.asarray(longer, np.float64), axis, 0)
    frame = [size for size in rows.shape[1:] if size > 1] or [1]
    rows = rows.reshape(len(rows), -1)
    call.builder.room(rows.size)
    (_, like) = call.builder.timed[time[0].sizes]
    slopes = np.diff(rows, axis=0)
    axes = [part(size) for size in longer.shape]
    axes[axis] = time
    if len(rows) > 2 and np.all(slopes == slopes[:1]) and np.all(slopes == np.round(slopes)):
        value = number_of_step(like, rows[0], slopes[0])
    else:
        if rows.size > MOST_ROWS:
            raise Unfit(f"a constant has {rows.size} numbers for its steps, expected at most {MOST_ROWS}")
        beyond = applied(Log(), (constant(np.full(rows.shape[1], -1.0), like),))
        value = delayed(beyond, len(rows), rows)
    return Symbol(reframed(value, frame if len(frame) < 4 else [rows.shape[1]]), axes)


def with_steps(call: Any, given: Sequence[Any]) -> list[Any]:
    """Operands, of which constants that differ from step to step, or count them, are values."""
    rank = max(one.rank if isinstance(one, Symbol) else one.worlds[0].ndim for one in given)
    like: list[Axis] = [()] * rank
    for one in given:
        if isinstance(one, Symbol):
            for i, axis in enumerate(one.axes, rank - one.rank):
                like[i] = axis if is_time(axis) or not like[i] else like[i]
    timed = call.builder.timed
    found = []
    for one in given:
        if isinstance(one, Known):
            one = counted(one, timed) or one
        if isinstance(one, Known):
            place = time_of(one, timed, like)
            if place is not None:
                sizes = (one.worlds[0].shape[place], one.worlds[1].shape[place])
                time = like[place] if is_time(like[place]) else (timed[sizes][0],)
                one = of_steps(call, one, place, time)
        found.append(one)
    return found
