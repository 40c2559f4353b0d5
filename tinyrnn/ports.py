"""Streams of nets with several inputs or outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core, calls
from tinyrnn.arguments import check_bool, check_size
from tinyrnn.errors import NonFiniteError, ShapeError
from tinyrnn.plans import Ports, block_plan
from tinyrnn.streams import State, StateHolder
from tinyrnn.tensors import Array

if TYPE_CHECKING:
    from typing_extensions import Self


# The most steps of a stream's blocks, and of each axis of time beside its own.
Steps: TypeAlias = "int | Mapping[str, int] | None"


def stream_plan(ports: Ports, batch: int, steps: Steps) -> _core.Plan:
    """The plan that a stream runs and `Net.memory` measures."""
    own, *others = ports.times
    if not isinstance(steps, Mapping):
        steps = {} if steps is None else dict.fromkeys(ports.times, steps)
    if not steps.keys() <= set(ports.times) or not steps.keys() >= set(others):
        raise ValueError(
            f"stream: steps: got {sorted(map(str, steps)) or None}, expected the most steps of each axis of "
            f"time beside {own!r}: {others}"
        )
    more = [check_size(f"steps of {name!r}", steps[name]) for name in others]
    return block_plan(ports.cores, (), batch, steps.get(own), *more)


class GraphStream(StateHolder):
    """A net of several inputs or outputs with a state of its own. Made by ``net.stream()``.

    `step` and `run` take the inputs as the net's call does, in their order or as one mapping by name, and
    return its outputs in the same form. An input per sequence is passed at every call, ``(batch, frame)``,
    and may change from call to call. The batch axis may be left out when it is 1. An output per sequence is
    the value for the steps so far.

    Steps are those of the first input's axis of time. Inputs on another axis, such as what an encoder wrote
    of its own sequence, are passed at every call with all their steps, ``(S, batch, frame)``; the layers
    on that axis compute them again.

    One thread at a time may use a stream; different streams of one net run in parallel.

    Attributes
    ----------
    net : Net
    batch : int
    """

    _made_by = "_slots"

    def __init__(
        self,
        net: Any,
        batch: int = 1,
        steps: Steps = None,
        threads: int = 1,
        nonfinite: str | None = None,
    ) -> None:
        ports: Ports = net._ports()
        if nonfinite not in (None, "stop"):
            raise ValueError(
                f"stream: nonfinite is {nonfinite!r}, expected None or 'stop' for several inputs or outputs"
            )
        told = bool(steps) or len(ports.times) == 1
        plan = stream_plan(ports, batch, steps if told else dict.fromkeys(ports.times[1:], 1))
        if plan.full_sequence:
            raise calls.waits(net, ports.cores, (), ports.times)
        if not told:
            stream_plan(ports, batch, steps)  # says what is missing
        self.net, self.batch, self._plan = net, plan.batch, plan
        self._options = (steps, threads, nonfinite)
        self._ports, self._nonfinite = ports, nonfinite
        self._axes = [axis for _, axis in plan.outputs]
        self._parts = calls.parts_of(plan, threads, lambda rows: stream_plan(ports, rows, steps))
        slots = calls.slots_of(net, plan)
        self.raw_state = State.begun(net, plan.state_bytes, slots).numbers
        self._slots = slots

    def __repr__(self) -> str:
        net = repr(self.net).replace("\n", "\n  ")
        state = State(self.raw_state, self._slots)
        return f"GraphStream(\n  net: {net}\n  state: {state}\n  batch={self.batch}\n)"

    def step(self, *x: Any, lengths: Mapping[str, ArrayLike] | None = None, out: Any = None) -> Any:
        """Run one step.

        Parameters
        ----------
        *x : array_like, (batch, frame) each, or one mapping from name to array
        lengths : mapping from the name of an axis of time to array_like of int, (batch,), optional
            The steps of each row on axes beside the stream's own.
        out : ndarray, float32, or a tuple or mapping of them, optional
            Written and returned. Of several outputs some may be None, or left out of a mapping.

        Returns
        -------
        ndarray, float32; or of several outputs a tuple or dict, as the net's call returns them
            Of an output with a rate of its own (`TimeUnfold`) the frame that is due; None at a step without
            one.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError, RuntimeError
            If an input or ``out`` does not fit, or another thread is using the stream. The state is as
            before.
        NonFiniteError
            With ``nonfinite="stop"``: an input or a new state is NaN or infinite. The state is as before.
        """
        return self._call("step", x, lengths, out, False, False)

    def run(
        self, *x: Any, lengths: Mapping[str, ArrayLike] | None = None, out: Any = None, end: bool = False
    ) -> Any:
        """Run a chunk of steps, of any length, with the same bits as step by step.

        Parameters
        ----------
        *x : array_like, or one mapping from name to array
            Inputs per step are ``(T, batch, frame)``, or ``(batch, T, frame)`` for a net with batch_first.
        lengths
            As `step` takes them.
        out
            As `step` takes it, with the axes of ``x``.
        end : bool
            The sequences end with ``x``: windows of steps that reach beyond it are padded, as in ``net(x)``.

        Returns
        -------
        ndarray, tuple or dict
            As `step`.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError, RuntimeError, NonFiniteError
            As `step`.
        """
        return self._call("run", x, lengths, out, True, check_bool("run: end", end))

    def due(self, steps: int = 1, *, end: bool = False) -> Any:
        """The number of frames that each row gets from its next ``steps`` steps.

        Parameters
        ----------
        steps : int
        end : bool
            As `run` takes it.

        Returns
        -------
        ndarray, int32, (batch,); or of several outputs a tuple or dict, as the net's call returns them
            Of an output with the inputs' steps as many as these; of one for the sequence 1.
        """
        count = (check_size("due: steps", steps),)
        state = self.state.copy().numbers
        return self.net._given(
            [self._plan.due(i, state, count, (None,), end)[1] for i in range(len(self._axes))]
        )

    def _call(self, what: str, x: tuple[Any, ...], lengths: Any, out: Any, timed: bool, end: bool) -> Any:
        net, ports = self.net, self._ports
        given = calls.named_inputs(net, ports.names, x)
        own, *others = ports.times
        if lengths is not None and not (isinstance(lengths, Mapping) and lengths.keys() <= {*others}):
            got = sorted(map(str, lengths)) if isinstance(lengths, Mapping) else type(lengths).__name__
            raise ValueError(
                f"{what}: lengths: got {got}, expected a mapping from axes of time beside the stream's own, "
                f"{own!r}: {others or 'there are none'}"
            )
        entered = calls.Entered(net, ports, given, lengths, what, timed)
        if entered.batch != self.batch:
            raise ShapeError(f"{what}: got {entered.batch} rows, expected {self.batch}, the stream's batch")
        for name, steps, most in zip(others, entered.steps[1:], self._plan.steps[1:], strict=False):
            if steps > most:
                raise ShapeError(
                    f"{what}: got {steps} steps of {name!r}, expected at most {most}: "
                    f"stream(steps={{{name!r}: {steps}}}) has room for them"
                )
        self.take(what)
        try:
            before = self.raw_state.copy()
            dues = calls.due_of(self._plan, before, entered.steps, entered.lengths, end)
            outs = self._outs(what, entered, dues, out)
            ys = entered.outputs(ports.out_frames, self._axes, dues)
            for i, (into, axis) in enumerate(zip(outs, self._axes, strict=True)):
                if into is not None and not entered.swaps(axis) and dues[i] is None:
                    ys[i] = into
            try:
                self._compute(what, entered, ys, end)
            except BaseException:
                self.raw_state[:] = before
                raise
        finally:
            self.leave()
        found: list[Any] = list(entered.returned(ys, self._axes))
        for i, (into, due) in enumerate(zip(outs, dues, strict=True)):
            if due is not None and not timed:
                found[i] = found[i][0] if due[0] else None
            if into is not None and found[i] is not None:
                if ys[i] is not into:
                    into[...] = found[i]
                found[i] = into
        return net._given(found)

    def _outs(
        self, what: str, entered: calls.Entered, dues: list[calls.Due | None], out: Any
    ) -> list[Array | None]:
        """The caller's array for each output, checked; None for one to be made."""
        ports = self._ports
        if out is None:
            return [None] * len(ports.outputs)
        outs: list[Array | None] = self.net._taken(f"{what}: out", out)
        others = [("the state", self.raw_state)]
        others += [
            (f"input {name!r}", array) for name, array in zip(ports.names, entered.arrays, strict=True)
        ]
        sizes = zip(ports.out_frames, self._axes, dues, strict=True)
        for name, y, (frame, axis, due) in zip(ports.outputs, outs, sizes, strict=True):
            if y is None:
                continue
            called = f"{what}: out" if len(outs) == 1 else f"{what}: out: {name!r}"
            if not isinstance(y, np.ndarray) or y.dtype != np.float32:
                got = getattr(y, "dtype", type(y).__name__)
                raise TypeError(f"{called} is {got}, expected a float32 ndarray")
            shape = entered.shape(axis, frame, due)
            if due is not None and not entered.timed:  # a frame, which may be due at this step
                shape = shape[1:]
            if y.shape != shape:
                raise ShapeError(f"{called} has shape {y.shape}, expected {shape}")
            if not (y.flags.c_contiguous and y.flags.aligned and y.flags.writeable):
                raise ValueError(f"{called} is not C-contiguous, aligned and writeable: pass a new array")
            for other, array in others:
                if np.may_share_memory(y, array):
                    raise ValueError(f"{called} shares memory with {other}: pass another array")
            others.append((f"the out of {name!r}", y))
        return outs

    def _compute(self, what: str, entered: calls.Entered, ys: list[Array], end: bool) -> None:
        """Run all parts; the state moves on."""
        arrays = entered.in_time()
        if self._nonfinite == "stop":
            for name, array in zip(self._ports.names, arrays, strict=True):
                if not np.isfinite(array).all():
                    raise NonFiniteError(
                        f"{what}: input {name!r} holds NaN or infinity, expected finite numbers"
                    )
        calls.run_ports(self._parts, arrays, ys, self.raw_state, entered, end)
        if self._nonfinite == "stop" and not np.isfinite(self.raw_state).all():
            raise NonFiniteError(f"{what}: the new state holds NaN or infinity, expected finite numbers")

    def fresh(self) -> Self:
        """Return a second stream of the same net and batch, with the state of a new one."""
        return type(self)(self.net, self.batch, *self._options)
