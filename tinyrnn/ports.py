"""Streams of nets with several inputs or outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tinyrnn import _core, calls
from tinyrnn.arguments import check_bool, check_size
from tinyrnn.attributes import Guarded
from tinyrnn.errors import NonFiniteError, ShapeError
from tinyrnn.plans import BLOCK_ROWS, Ports
from tinyrnn.streams import State
from tinyrnn.tensors import Array
from tinyrnn.threads import split


def stream_plan(ports: Ports, batch: int, steps: int | None) -> _core.Plan:
    """The plan that a stream runs and `Net.memory` measures."""
    batch = check_size("batch", batch)
    steps = max(1, BLOCK_ROWS // batch) if steps is None else check_size("steps", steps)
    return _core.Plan(ports.cores, (), batch, (steps,) + (1,) * (len(ports.times) - 1))


class GraphStream(Guarded):
    """A net of several inputs or outputs with a state of its own. Made by ``net.stream()``.

    `step` and `run` take the inputs as the net's call does, in their order or as one mapping by name, and
    return its outputs in the same form. An input per sequence is passed at every call, ``(batch, frame)``,
    and may change from call to call. The batch axis may be left out when it is 1. An output per sequence is
    the value for the steps so far.

    One thread at a time may use a stream; different streams of one net run in parallel.

    Attributes
    ----------
    net : Net
    batch : int
    """

    _made_by = "_guard"

    def __init__(
        self,
        net: Any,
        batch: int = 1,
        steps: int | None = None,
        threads: int = 1,
        nonfinite: str | None = None,
    ) -> None:
        ports: Ports = net._ports()
        if len(ports.times) > 1:
            raise ValueError(
                f"stream: got a net of {len(ports.times)} axes of time, {', '.join(ports.times)}, expected "
                "one: call net(...) on full sequences"
            )
        if nonfinite not in (None, "stop"):
            raise ValueError(
                f"stream: nonfinite is {nonfinite!r}, expected None or 'stop' for several inputs or outputs"
            )
        plan = stream_plan(ports, batch, steps)
        if plan.full_sequence:
            waiting = calls.waits_for(net, ports.cores, ())
            raise ValueError(
                f"stream: {waiting} needs the full sequence and cannot be streamed: call net(...) on full "
                "sequences"
            )
        self.net, self.batch, self._plan = net, plan.batch, plan
        self._options = (steps, threads, nonfinite)
        self._ports, self._nonfinite = ports, nonfinite
        self._axes = [axis for _, axis in plan.outputs]
        parts = split(plan.batch, check_size("threads", threads))
        self._parts = [(_core.Part(plan.ready(), 0, 0), 0)]
        if len(parts) > 1:
            self._parts = [
                (_core.Part(stream_plan(ports, rows, steps).ready(), first, plan.batch), first)
                for first, rows in parts
            ]
        self._slots = calls.slots_of(net, plan)
        self._numbers = State.begun(net, plan.state_bytes, self._slots).numbers
        self._guard = _core.Guard(
            "stream: in use by another thread, expected one at a time: give each thread a copy()"
        )

    def __repr__(self) -> str:
        net = repr(self.net).replace("\n", "\n  ")
        state = State(self._numbers, self._slots)
        return f"GraphStream(\n  net: {net}\n  state: {state}\n  batch={self.batch}\n)"

    def step(self, *x: Any) -> Any:
        """Run one step.

        Parameters
        ----------
        *x : array_like, (batch, frame) each, or one mapping from name to array

        Returns
        -------
        ndarray, float32; or of several outputs a tuple or dict, as the net's call returns them
            Of an output with a rate of its own (`TimeUnfold`) the frame that is due; None at a step without
            one.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError, RuntimeError
            If an input does not fit, or another thread is using the stream. The state is as before.
        NonFiniteError
            With ``nonfinite="stop"``: an input or a new state is NaN or infinite. The state is as before.
        """
        return self._call("step", x, False, False)

    def run(self, *x: Any, end: bool = False) -> Any:
        """Run a chunk of steps, of any length, with the same bits as step by step.

        Parameters
        ----------
        *x : array_like, or one mapping from name to array
            Inputs per step are ``(T, batch, frame)``, or ``(batch, T, frame)`` for a net with batch_first.
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
        return self._call("run", x, True, check_bool("run: end", end))

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
        with self._guard:
            return self.net._given(
                [self._plan.due(i, self._numbers, count, (None,), end)[1] for i in range(len(self._axes))]
            )

    def _call(self, what: str, x: tuple[Any, ...], timed: bool, end: bool) -> Any:
        net, ports = self.net, self._ports
        given = calls.named_inputs(net, ports.names, x)
        entered = calls.Entered(net, ports, given, None, what, timed)
        if entered.batch != self.batch:
            raise ShapeError(f"{what}: got {entered.batch} rows, expected {self.batch}, the stream's batch")
        with self._guard:
            before = self._numbers.copy()
            dues = calls.due_of(self._plan, before, entered.steps, entered.lengths, end)
            ys = [
                np.zeros(entered.shape(axis, frame, due), np.float32)
                for frame, axis, due in zip(ports.out_frames, self._axes, dues, strict=True)
            ]
            try:
                self._compute(what, entered, ys, end)
            except BaseException:
                self._numbers[:] = before
                raise
        found: list[Any] = []
        for y, axis, due in zip(ys, self._axes, dues, strict=True):
            if due is not None and not timed:
                found.append(y[0] if due[0] else None)
            else:
                found.append(y.swapaxes(0, 1) if entered.swaps(axis) else y)
        return net._given(found)

    def _compute(self, what: str, entered: calls.Entered, ys: list[Array], end: bool) -> None:
        """Run all parts; the state moves on."""
        arrays, ends = entered.in_time(), entered.lengths
        if self._nonfinite == "stop":
            for name, array in zip(self._ports.names, arrays, strict=True):
                if not np.isfinite(array).all():
                    raise NonFiniteError(
                        f"{what}: input {name!r} holds NaN or infinity, expected finite numbers"
                    )
        _core.run_all(
            [
                partial(part.run_ports, arrays, ys, self._numbers, entered.steps, ends, first, end)
                for part, first in self._parts
            ]
        )
        if self._nonfinite == "stop" and not np.isfinite(self._numbers).all():
            raise NonFiniteError(f"{what}: the new state holds NaN or infinity, expected finite numbers")

    @property
    def state(self) -> State:
        """The live `State`; assign a State, its bytes or a mapping to set it."""
        return State(self._numbers, self._slots)

    @state.setter
    def state(self, value: Any) -> None:
        with self._guard:
            State(self._numbers, self._slots).assign(value)

    def reset(self) -> None:
        """Begin again, with the state of a new stream."""
        with self._guard:
            self._numbers[:] = State.begun(self.net, self._numbers.nbytes, self._slots).numbers

    def fresh(self) -> GraphStream:
        """Return a second stream of the same net and batch, with the state of a new one."""
        return GraphStream(self.net, self.batch, *self._options)

    def copy(self) -> GraphStream:
        """Return a second stream of the same net, with a copy of the state."""
        fork = self.fresh()
        with self._guard:
            fork._numbers[:] = self._numbers
        return fork

    __copy__ = copy

    def __reduce__(self) -> Any:
        raise TypeError(
            "a stream cannot be pickled: keep net.save() and stream.state.tobytes(), or use copy()"
        )
