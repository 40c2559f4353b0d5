"""Running a net: from an array to the core layers that read it, whole calls, and streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core
from tinyrnn.arguments import check_bool, check_float, check_size
from tinyrnn.arrays import as_array, as_floats, as_lengths
from tinyrnn.attributes import brief
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.plans import BLOCK_ROWS, Call, Cores, InputLayout, Key, Ports, block_plan, key_of, laid_out
from tinyrnn.streams import State, Stream
from tinyrnn.tensors import Array, Frame, Slot
from tinyrnn.threads import split

# ---- inputs ----------------------------------------------------------------------------------------


def enter(net: Module, x: ArrayLike) -> tuple[NDArray[Any], int, list[_core.Layer], Frame]:
    """Convert an input; returns it, its axes before the frame, the core layers, and their output's frame."""
    array, layout = laid_input(net, x)
    return array, layout.lead, layout.cores, layout.out_frame


def laid_input(net: Module, x: ArrayLike) -> tuple[NDArray[Any], InputLayout]:
    """Convert an input, and lay out the net for its shape."""
    array = x if type(x) is np.ndarray else as_array(x, f"{type(net).__name__}: input")
    layout = net._calls.input_layout(array.shape, Module.edition) or _input_layout(net, array.shape)
    if layout.indices:
        array = _core.as_indices(array, f"{type(net).__name__}: input", layout.indices)
    elif not _core.is_floats(array):
        array = as_floats(array, f"{type(net).__name__}: input")
    return array, layout


def _input_layout(net: Module, shape: tuple[int, ...]) -> InputLayout:
    """Lay out a net for inputs of this shape."""
    edition = Module.edition  # before anything is read: an attribute may change meanwhile
    rank = net._rank(len(shape))
    rank = min(len(shape), 1) if rank is None else rank
    lead = len(shape) - rank
    if lead < 0 or (net._recurrent and lead not in (1, 2)):
        raise ShapeError(f"{type(net).__name__}: input has shape {shape}, expected {_expected(net, rank)}")
    cores, out_frame = net._laid(shape[lead:], lead)
    swapped, steps, batch = _axes(net, shape[:lead])
    starts = any(leaf._start for _, leaf in net._leaves())
    key = key_of(cores, shape[lead:], batch, steps, 1)
    indices = index_count(cores)
    layout = InputLayout(edition, lead, cores, out_frame, indices, swapped, steps, batch, starts, key)
    net._calls.learn(shape, layout)
    return layout


def index_count(cores: list[_core.Layer], place: int = 0) -> int:
    """The number of indices that an input may hold, if it is indices; else 0."""
    if not isinstance(cores, Cores):
        return int(cores[0].argument("num_embeddings")) if cores and cores[0].kind == "embedding" else 0
    counts = [
        int(core.argument("num_embeddings"))
        for core, reads in zip(cores, cores.reads, strict=True)
        if core.kind == "embedding" and reads == (place,)
    ]
    return min(counts, default=0)


def axes(net: Module, array: NDArray[Any], lead: int, empty: bool = False) -> tuple[bool, int, int]:
    """Return the order, steps and rows of an input from `enter`: (True if rows come first, steps, rows).

    Without a recurrent layer all frames are rows of one step. ``empty`` allows an input without rows.
    """
    if not empty and 0 in array.shape:
        raise ShapeError(
            f"{type(net).__name__}: input has shape {array.shape}, expected at least one step and one row"
        )
    swapped, steps, batch = _axes(net, array.shape[:lead])
    if steps == 0:
        raise _without_steps(net, array)
    return swapped, steps, batch


def _axes(net: Module, leading: tuple[int, ...]) -> tuple[bool, int, int]:
    """The order, steps and rows of an input with these axes before the frame."""
    if not net._recurrent:
        return False, 1, math.prod(leading)
    swapped = len(leading) == 2 and net._batch_first
    steps, batch = (*(leading[::-1] if swapped else leading), 1)[:2]
    return swapped, steps, batch


def _without_steps(net: Module, array: NDArray[Any]) -> ShapeError:
    return ShapeError(f"{type(net).__name__}: input has shape {array.shape}, expected at least one step")


def check_lengths(net: Module, lengths: ArrayLike, steps: int, batch: int) -> NDArray[np.int32]:
    """The lengths of the rows of an input, as the core reads them; given as an array, or by their axis."""
    what = type(net).__name__
    if isinstance(lengths, Mapping):
        (array,) = _lengths_by_axis(what, lengths, times_of(net), (steps,), batch)
        return np.full(batch, steps, np.int32) if array is None else array
    return as_lengths(lengths, what, batch, steps, "the input's steps")


def times_of(net: Module) -> tuple[str, ...]:
    """The name of the only axis of time of a net with one input and one output."""
    return tuple(time or "time" for _, time in net._ports_known().values())


def _expected(net: Module, rank: int) -> str:
    """The shapes of an input, for a message."""
    frame = net._frame()
    sizes = ["?" if axis is None else str(axis) for axis in frame] if frame else ["?"] * rank
    if not net._recurrent:
        return f"(..., {', '.join(sizes)})"
    batched = ["B", "T"] if net._batch_first else ["T", "B"]
    return f"({', '.join(['T', *sizes])}) or ({', '.join(batched + sizes)})"


def check_stateless(net: Module, lengths: Any, state: Any, last: Any) -> None:
    """Raise an error if a net without a recurrent layer gets arguments of recurrent layers."""
    if state is not None and not (isinstance(state, Mapping) and not state):
        raise ValueError(f"{type(net).__name__}: got a state, expected none: no layer is recurrent")
    if lengths is not None:
        raise ValueError(f"{type(net).__name__}: got lengths, expected none: no layer is recurrent")
    if last is not False and check_bool(f"{type(net).__name__}: last", last):
        raise ValueError(f"{type(net).__name__}: got last=True, expected False: no layer is recurrent")


def misplaced(net: Module) -> TypeError:
    """The error for a second argument, which is the initial state in a recurrent layer."""
    names = [f'"{prefix}{name}": {name}0' for prefix, leaf in net._leaves() for name in leaf._state_names()]
    kind = type(net).__name__
    if not names:
        return TypeError(f"{kind}: got a second argument, expected the input alone: no layer is recurrent")
    return TypeError(f"{kind}: the initial state goes by name, state={{{', '.join(names)}}}")


# ---- calls in evaluation mode ------------------------------------------------------------------------


def run_frames(net: Module, x: ArrayLike, threads: int) -> Array:
    """Apply the net to every frame of an array, if no frame depends on another."""
    return run_cores(net, *enter(net, x), threads)


def run_cores(
    net: Module, array: NDArray[Any], lead: int, cores: list[_core.Layer], out_frame: Frame, threads: int = 1
) -> Array:
    """Apply core layers to every frame of an array that `enter` has checked."""
    leading, frame = array.shape[:lead], array.shape[lead:]
    y = np.empty(leading + out_frame, np.float32)
    threads = check_size("threads", threads)
    if y.size == 0:
        return y
    if 0 in frame:
        raise ShapeError(
            f"{type(net).__name__}: input has shape {array.shape}, expected a frame that is not empty"
        )
    count = math.prod(leading)
    key = (frame, min(count, BLOCK_ROWS), min(count, threads))
    call = net._calls.take(key, cores, 1)
    if call is None:
        plan = laid_out(cores, frame, 1, count).ready()
        call = Call(cores, plan, [_core.Part(plan, 0, 0) for _ in range(key[-1])], {})
    state = _core.aligned_zeros(call.state_bytes)
    if key[-1] == 1:
        call.parts[0].run_rows(array, y, state, count, None, 0)
    else:
        _core.run_all(
            [
                partial(part.run_rows, array, y, state, frames, None, first)
                for part, (first, frames) in zip(call.parts, split(count, threads), strict=True)
            ]
        )
    net._calls.put(key, call)
    return y


def infer(
    net: Module,
    x: ArrayLike,
    lengths: ArrayLike | None,
    initial: Mapping[str, Any] | None,
    threads: int,
    last: bool = False,
) -> tuple[Array, State]:
    """Compute output and final state in evaluation mode; ``initial`` has names, None means zeros."""
    threads = check_size("threads", threads)
    array, layout = laid_input(net, x)
    _, lead, cores, out_frame, _, swapped, steps, batch, starts, key = layout
    if steps == 0:
        raise _without_steps(net, array)
    if swapped:
        array = np.ascontiguousarray(array.swapaxes(0, 1))
    leading, frame = array.shape[:lead], array.shape[lead:]
    ends = None if lengths is None else check_lengths(net, lengths, steps, batch)
    if batch == 0:
        leading = (0,) if last else (0, steps) if swapped else leading
        return np.empty(leading + out_frame, np.float32), _empty_state(net, cores, frame, initial)

    after: list[_core.Layer] = []
    if last and not net._is_wired:
        count = _mixing_count(net)
        cores, after = cores[:count], cores[count:]
    if after or threads > 1:
        key = key_of(cores, frame, batch, steps, threads)
    call = prepared(net, cores, frame, batch, steps, threads, key)[1]
    state = State.begun(net, call.state_bytes, call.slots, initial, starts)
    if net._is_wired and call.plan.outputs[0][1] == 0:
        if last:
            raise ValueError(f"{type(net).__name__}: got last=True, but its output is one for the sequence")
        leading, swapped = leading[1:], False
    due = None
    if call.plan.has_rates:
        due = due_of(call.plan, state.numbers, (steps,), (ends,))[0]
        leading = (due[0] if due else steps, *leading[1:])
    y = _filled(leading + (call.plan.outputs[0][0][2:] if after else out_frame), due)
    if len(call.parts) == 1:
        call.parts[0].run_rows(array, y, state.numbers, steps, ends, 0)
    else:
        _core.run_all(
            [partial(part.run_rows, array, y, state.numbers, steps, ends, part.first) for part in call.parts]
        )
    net._calls.put(key, call)
    if not last:
        return y.swapaxes(0, 1) if swapped else y, state
    if due is not None:
        steps, ends = due
    y = y.reshape(steps, batch, *y.shape[lead:])[-1 if ends is None else ends - 1, np.arange(batch)]
    if lead == 1:
        y = y[0]
    return (run_cores(net, y, lead - 1, after, out_frame, threads) if after else y), state


# Of an output with a rate of its own: its most steps, and those of each row, (batch,) int32.
Due = tuple[int, NDArray[np.int32]]


def due_of(
    plan: _core.Plan, numbers: Array | None, steps: Any, lengths: Any, ends: bool = True
) -> list[Due | None]:
    """The steps of each output of a run that begins with a state; None for one with an input's steps."""
    if not plan.has_rates:
        return [None] * len(plan.outputs)
    return [
        None if plan.rate_of(axis) is None else plan.due(i, numbers, steps, lengths, ends)
        for i, (_, axis) in enumerate(plan.outputs)
    ]


def dues_of(
    net: Module, ports: Ports, given: list[Any], lengths: Any, state: State | None
) -> list[Due | None]:
    """`due_of` a call of a net of several inputs, outputs or axes of time."""
    entered = Entered(net, ports, given, lengths, type(net).__name__)
    plan = _core.Plan(ports.cores, (), entered.batch, entered.steps)
    return due_of(plan, None if state is None else state.numbers, entered.steps, entered.lengths)


def output_lengths(net: Module, lengths: Any) -> list[NDArray[np.int32]]:
    """Do the work of `Net.output_lengths`, for each output."""
    what = f"{type(net).__name__}: output_lengths"
    ports = net._several()
    times = times_of(net) if ports is None else ports.times
    if not isinstance(lengths, Mapping):
        lengths = {times[0]: lengths}
    arrays = {time: np.atleast_1d(as_array(given)) for time, given in lengths.items()}
    if arrays.keys() != set(times):
        raise ValueError(f"{what}: got lengths of {sorted(map(str, arrays))}, expected {list(times)}")
    batch = len(arrays[times[0]])
    ends = [as_lengths(arrays[time], what, batch, 1 << 28, "steps") for time in times]
    if ports is None:
        return [ends[0]]
    steps = tuple(int(one.max()) for one in ends)
    plan = _core.Plan(ports.cores, (), batch, (1,) * len(times))
    return [plan.due(i, None, steps, ends, True)[1] for i in range(len(ports.outputs))]


def _filled(shape: tuple[int, ...], due: Due | None) -> Array:
    """An array for an output: with zeros if the core does not write all of it."""
    return np.empty(shape, np.float32) if due is None else np.zeros(shape, np.float32)


def _empty_state(
    net: Module, cores: list[_core.Layer], frame: Frame, initial: Mapping[str, Any] | None
) -> State:
    """The state of an empty batch."""
    slots = slots_of(net, laid_out(cores, frame, 1, 1))
    slots = {name: slot._replace(shape=(slot.shape[0], 0, slot.shape[2])) for name, slot in slots.items()}
    return State.begun(net, 0, slots, initial)


def _mixing_count(net: Module) -> int:
    """The number of core layers up to and including the last recurrent one."""
    count = found = 0
    for _, leaf in net._leaves():
        count += leaf._core_count()
        found = count if leaf._recurrent else found
    return found


def prepared(
    net: Module,
    cores: list[_core.Layer],
    frame: Frame,
    batch: int,
    steps: int,
    threads: int,
    key: Key | None = None,
) -> tuple[Key, Call]:
    """Return a call of these sizes, kept or new, and its key for `KeptCalls.put`."""
    key = key or key_of(cores, frame, batch, steps, threads)
    call = net._calls.take(key, cores, steps)
    if call is None:
        plan = laid_out(cores, frame, batch, steps)
        parts = parts_of(plan, threads, lambda rows: laid_out(cores, frame, rows, steps))
        call = Call(cores, plan, parts, slots_of(net, plan))
    return key, call


def parts_of(plan: _core.Plan, threads: int, of_rows: Callable[[int], _core.Plan]) -> list[_core.Part]:
    """A part for each thread: of the plan itself, or of plans for fewer rows."""
    parts = split(plan.batch, check_size("threads", threads))
    if len(parts) == 1:
        return [_core.Part(plan.ready(), 0, 0)]
    return [_core.Part(of_rows(rows).ready(), first, plan.batch) for first, rows in parts]


def slots_of(net: Module, plan: _core.Plan) -> dict[str, Slot]:
    """The slots of a plan's state, by name."""
    slots: list[Slot] = []
    first = 0
    for prefix, leaf in net._leaves():
        if leaf._recurrent:
            slots += leaf._state_slots(plan, first, prefix)
        first += leaf._core_count()
    return {slot.name: slot for slot in slots}


# ---- nets of several inputs, outputs or axes of time ----------------------------------------------------


def named_inputs(net: Module, names: list[str], given: tuple[Any, ...]) -> list[Any]:
    """The inputs of a call in their order: given so, or by name."""
    kind, own = type(net).__name__, net._own_steps
    if len(given) == 1 and isinstance(given[0], Mapping):
        found = given[0]
        if not set(names) - own.keys() <= found.keys() <= set(names):
            raise ValueError(f"{kind}: got inputs {sorted(map(str, found))}, expected {names}")
        given = tuple(found[name] for name in names if name in found)
    if own and len(given) == len(names) - len(own):
        given = (*given, *_counted(net, names[0], as_array(given[0])))
    if len(given) != len(names):
        raise TypeError(f"{kind}: got {len(given)} inputs, expected {len(names)}: {', '.join(names)}")
    return list(given)


def _counted(net: Module, name: str, x: Array) -> list[Array]:
    """The inputs that a call leaves out: zeros at each of their steps, in as many rows as its first input."""
    known = net._ports_known()
    frame, time = known[name]
    rows = x.shape[: x.ndim - len(frame or ())]
    first = net._batch_first and len(rows) > (time is not None)
    if time is not None:
        rows = rows[:-1] if first else rows[1:]
    lead = [(*rows, steps) if first else (steps, *rows) for steps in net._own_steps.values()]
    return [
        np.zeros((*sizes, *(known[own][0] or ())), np.float32)
        for sizes, own in zip(lead, net._own_steps, strict=True)
    ]


def inputs_of(net: Module, names: list[str], x: Any) -> list[Any]:
    """The inputs of a net in their order, given as one argument: an array, or a tuple or mapping of them."""
    several = isinstance(x, (tuple, list))
    if len(names) == 1 or isinstance(x, Mapping) or (len(names) == 1 + len(net._own_steps) and not several):
        return named_inputs(net, names, (x,))
    if not several:
        raise TypeError(
            f"{type(net).__name__}: got {brief(x)} for {len(names)} inputs, expected a tuple or mapping of "
            f"{', '.join(names)}"
        )
    return named_inputs(net, names, tuple(x))


class Entered:
    """The inputs of a call, checked, and the sizes that they agree on.

    If it is not ``timed``, inputs on the first axis of time are those of one step, without that axis.

    Attributes
    ----------
    arrays : list of ndarray, C-contiguous
        In the caller's order of axes.
    axes : list of int
        Their axes of time; 0: one frame for the sequence.
    swapped : list of bool
        True for those that are (B, T, frame).
    batched : bool
        False if they have no axis for the batch, which is 1 then.
    batch : int
    steps : tuple of int
        Of each axis of time.
    lengths : list of (ndarray, int32; or None)
        Of each axis of time.
    """

    def __init__(
        self, net: Module, ports: Ports, given: list[Any], lengths: Any, what: str, timed: bool = True
    ) -> None:
        self.times, self.timed = ports.times, timed
        self.rows_first = (timed or len(self.times) > 1) and net._batch_first
        self.axes = [axis for _, axis in ports.cores.inputs]
        self.arrays: list[NDArray[Any]] = []
        self.swapped: list[bool] = []
        self.batched, self.batch = True, 1
        self._steps: dict[int, int] = {}
        for place, (name, x, (frame, axis)) in enumerate(
            zip(ports.names, given, ports.cores.inputs, strict=True)
        ):
            called = f"{what}: input {name!r}"
            count = index_count(ports.cores, place)
            array = _core.as_indices(x, called, count) if count else as_floats(x, called)
            self._enter(called, array, frame, axis)
        self.steps = tuple(self._steps.get(axis + 1, 1) for axis in range(len(self.times)))
        self.lengths = _lengths_by_axis(what, lengths, self.times, self.steps, self.batch)

    def _has(self, axis: int) -> bool:
        """Tell whether the arrays on an axis of time have that axis."""
        return axis > (0 if self.timed else 1)

    def _enter(self, what: str, array: NDArray[Any], frame: Frame, axis: int) -> None:
        """Check an input, and take over its sizes."""
        leading = array.shape[: max(array.ndim - len(frame), 0)]
        axis = axis if self._has(axis) else 0
        time = [self.times[axis - 1]] if axis else []
        names = ["B", *time] if self.rows_first else [*time, "B"]
        batched = len(leading) == len(names)
        if array.shape[len(leading) :] != frame or len(leading) not in (len(names) - 1, len(names)):
            wanted = " or ".join(f"({', '.join([*axes, *map(str, frame)])})" for axes in (names, time))
            raise ShapeError(f"{what} has shape {array.shape}, expected {wanted}")
        first = not self.arrays
        if not first and self.batched != batched:
            raise ShapeError(f"{what} has shape {array.shape}, expected a batch in all inputs or in none")
        swapped = batched and self.rows_first and axis > 0
        found = leading[::-1] if swapped else leading
        batch, steps = found[-1] if batched else 1, found[0] if axis else 1
        if not first and batch != self.batch:
            raise ShapeError(f"{what} has {batch} rows, expected {self.batch}, as in the inputs before it")
        if self._steps.setdefault(axis, steps) != steps:
            raise ShapeError(
                f"{what} has {steps} steps, expected {self._steps[axis]}, as in the inputs before it"
            )
        if steps == 0 or batch == 0:
            raise ShapeError(f"{what} has shape {array.shape}, expected at least one step and one row")
        self.batched, self.batch = batched, batch
        self.arrays.append(array)
        self.swapped.append(swapped)

    def in_time(self) -> list[NDArray[Any]]:
        """The arrays, steps first."""
        return [
            np.ascontiguousarray(array.swapaxes(0, 1)) if swapped else array
            for array, swapped in zip(self.arrays, self.swapped, strict=True)
        ]

    def shape(self, axis: int, frame: Frame, due: Due | None, steps_first: bool = False) -> tuple[int, ...]:
        """The shape of an output, in the caller's order of axes or with steps first.

        ``due`` is that of an output with a rate of its own.
        """
        steps = (due[0],) if due is not None else (self.steps[axis - 1],) if self._has(axis) else ()
        leading = steps + ((self.batch,) if self.batched else ())
        return (leading if steps_first or not self.swaps(axis) else leading[::-1]) + frame

    def swaps(self, axis: int) -> bool:
        """Tell whether the caller sees an output as (B, T, frame)."""
        return self._has(axis) and self.batched and self.rows_first

    def outputs(self, frames: list[Frame], axes: list[int], dues: list[Due | None]) -> list[Array]:
        """New arrays for outputs of these frames and axes of time, steps first."""
        return [
            _filled(self.shape(axis, frame, due, True), due)
            for frame, axis, due in zip(frames, axes, dues, strict=True)
        ]

    def returned(self, ys: list[Array], axes: list[int]) -> list[Array]:
        """Those arrays as the caller sees them."""
        return [y.swapaxes(0, 1) if self.swaps(axis) else y for y, axis in zip(ys, axes, strict=True)]


def infer_ports(
    net: Module,
    ports: Ports,
    given: list[Any],
    lengths: Any,
    initial: Mapping[str, Any] | None,
    threads: int,
) -> tuple[list[Array], State]:
    """Compute the outputs and the final state of a net of several inputs, outputs or axes of time."""
    kind = type(net).__name__
    threads = check_size("threads", threads)
    cores, entered = ports.cores, Entered(net, ports, given, lengths, kind)
    batch, steps = entered.batch, entered.steps
    key = ("ports", batch, steps, min(batch, threads))
    call = net._calls.take(key, cores, 1)
    if call is None:
        plan = laid_out(cores, (), batch, *steps)
        parts = parts_of(plan, threads, lambda rows: laid_out(cores, (), rows, *steps))
        call = Call(cores, plan, parts, slots_of(net, plan))
    state = State.begun(net, call.state_bytes, call.slots, initial)
    times = [axis for _, axis in call.plan.outputs]
    dues = due_of(call.plan, state.numbers, steps, entered.lengths)
    ys = entered.outputs(ports.out_frames, times, dues)
    run_ports(call.parts, entered.in_time(), ys, state.numbers, entered, True)
    net._calls.put(key, call)
    return entered.returned(ys, times), state


def run_ports(
    parts: list[_core.Part],
    arrays: list[NDArray[Any]],
    ys: list[Array],
    state: Array,
    entered: Entered,
    end: bool,
) -> None:
    """Run all parts of a call of several inputs or outputs; arrays have steps first.

    The sequences ``end`` with the call or go on.
    """
    _core.run_all(
        [
            partial(part.run_ports, arrays, ys, state, entered.steps, entered.lengths, part.first, end)
            for part in parts
        ]
    )


def _lengths_by_axis(
    what: str, lengths: Any, times: tuple[str, ...], steps: tuple[int, ...], batch: int
) -> list[NDArray[np.int32] | None]:
    """The lengths of each axis of time; given as an array for the only one, or by name."""
    if lengths is None:
        return [None] * len(times)
    if not isinstance(lengths, Mapping):
        if len(times) > 1:
            raise ValueError(
                f"{what}: lengths: got one array, expected a mapping by axis of time: {list(times)}"
            )
        lengths = {times[0]: lengths}
    if not lengths.keys() <= set(times):
        raise ValueError(f"{what}: lengths: got {sorted(map(str, lengths))}, expected some of {list(times)}")
    return [
        None
        if lengths.get(time) is None
        else as_lengths(lengths[time], what, batch, count, f"steps of {time!r}")
        for time, count in zip(times, steps, strict=True)
    ]


# ---- streams -----------------------------------------------------------------------------------------


def streamed(net: Module, frame: Frame | None) -> tuple[list[_core.Layer], Frame, Frame]:
    """Return the core layers and the frames of a stream."""
    name = type(net).__name__
    if frame is None:
        known = net._frame()
        if known is None or None in known:
            raise ValueError(
                f"{name}: the layers leave the input's frame open: pass frame=, such as "
                f"{'(channels, length)' if known else '(features,)'}"
            )
        frame = tuple(axis for axis in known if axis is not None)
    if not isinstance(frame, (tuple, list)):
        raise TypeError(f"{name}: frame is {frame!r}, expected the sizes of its axes, such as (4,)")
    frame = tuple(check_size("frame", axis) for axis in frame)
    if len(frame) > 3:
        raise ShapeError(f"{name}: frame {frame} has {len(frame)} axes, expected at most 3")
    try:
        cores, out_frame = net._laid(frame, 1)
    except ShapeError:  # perhaps an axis is counted from (T, B, frame)
        try:
            cores, out_frame = net._laid(frame, 2)
        except ShapeError:
            pass
        else:
            return cores, frame, out_frame
        raise
    return cores, frame, out_frame


def stream_plan(
    net: Module, batch: int, frame: Frame | None, steps: int | None
) -> tuple[list[_core.Layer], _core.Plan, Frame, Frame]:
    """The plan that `stream` runs and `memory` measures."""
    cores, frame, out_frame = streamed(net, frame)
    return cores, block_plan(cores, frame, batch, steps), frame, out_frame


def waits(net: Module, cores: list[_core.Layer], frame: Frame, times: tuple[str, ...] = ()) -> ValueError:
    """The error for a stream of a net that needs the full sequence; it names the first such layer."""
    more = ""
    if len(times) > 1:
        more = (
            f". Steps are those of {times[0]!r}, and no layer on another axis of time may keep a state: make "
            "those layers a net of their own, and what they write an input"
        )
    return ValueError(
        f"stream: {_waits_for(net, cores, frame)} needs the full sequence and cannot be streamed: call "
        f"net(...) on full sequences{more}"
    )


def _waits_for(net: Module, cores: list[_core.Layer], frame: Frame) -> str:
    for count, (name, leaf, _) in enumerate(net._places(), 1):
        first = cores[:count]
        if isinstance(cores, Cores):
            first = Cores(cores.inputs)
            for core, reads in zip(cores[:count], cores.reads, strict=False):
                first.join(core, reads)
            read = {value for reads in first.reads for value in reads}
            first.outputs = tuple(value for value in range(first.value + 1) if value not in read)
        try:
            found = _core.Plan(first, frame, 1, (1,) * 4).full_sequence
        except ValueError:  # cut within a loop
            continue
        if found:
            kind = type(leaf).__name__
            return f"{name}, a {'bidirectional ' if getattr(leaf, 'bidirectional', False) else ''}{kind},"
    return "the net"


def open_stream(
    net: Module, batch: int, frame: Frame | None, steps: int | None, threads: int, nonfinite: str | None
) -> Stream:
    """Make a new stream; see `Net.stream`."""
    cores, plan, frame, out_frame = stream_plan(net, batch, frame, steps)
    if plan.full_sequence:
        raise waits(net, cores, frame)
    parts = split(plan.batch, check_size("threads", threads))
    plans = None
    if len(parts) > 1:
        plans = [(row, stream_plan(net, rows, frame, steps)[1]) for row, rows in parts]
    try:
        rows_first = net._batch_first
    except ValueError:
        if plan.batch > 1:
            raise
        rows_first = False
    count = index_count(cores)
    return Stream(net, plan, frame, out_frame, count, plans, rows_first, nonfinite, slots_of(net, plan))


# Steps after which a state that has not moved does not move at all.
_UNMOVED = 1000


def state_at_rest(net: Any, x: Any, steps: int, tol: float, frame: Frame | None) -> dict[str, Array]:
    """Do the work of `Net.state_at_rest`."""
    from tinyrnn.starts import names_of

    name = type(net).__name__
    steps, tol = check_size("state_at_rest: steps", steps), check_float("state_at_rest: tol", tol, 0)
    stream = net.stream(1, frame=frame)
    names = names_of(net)
    if not names:
        raise ValueError(f"{name}: got no state to settle, expected a recurrent layer")
    several = None if isinstance(stream, Stream) else net._several()
    if x is None:
        if several is None:
            cores, shape, _ = streamed(net, frame)
            shapes = [shape]
        else:
            cores, shapes = several.cores, [given for given, _ in several.cores.inputs]
        if any(index_count(cores, place) for place in range(len(shapes))):
            raise TypeError(f"{name}: got no x, expected one: a layer reads indices")
        x = tuple(np.zeros(shape, np.float32) for shape in shapes)
    given = x if isinstance(x, tuple) else (x,)
    stream.raw_state[:] = 0  # whatever initial state the net has

    def now() -> NDArray[np.float32]:
        return np.concatenate([stream.state[own].reshape(-1) for own in names])

    numbers = now()
    halfway, change, moved = numbers, math.inf, False
    for step in range(steps):
        before = numbers
        stream.step(*given)
        numbers = now()
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: the state is not finite after {step + 1} steps, expected it to settle")
        change = float(np.abs(numbers - before).max())
        moved = moved or change > 0 or step > _UNMOVED  # with a stride the first frames are due later
        if step & (step + 1) == 0:  # after 1, 2, 4, 8, ... steps
            since = float(np.abs(numbers - halfway).max())
            if moved and max(change, since) <= tol:
                return {own: stream.state[own][:, 0] for own in names}
            halfway = numbers
    raise ValueError(
        f"{name}: the state does not settle in {steps} steps: it changed by {change:.3g} in the last one, "
        f"expected at most {tol:g} in one step and in half of them; more steps= or a larger tol= may help"
    )
