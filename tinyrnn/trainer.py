"""`Trainer`: training batch by batch. csrc/train.c does the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core, calls
from tinyrnn._training import BAD_TARGET, DONE, CoreTrainer
from tinyrnn.arguments import check_positive, check_size
from tinyrnn.arrays import Feed, as_floats, as_mask, is_plain, within
from tinyrnn.attributes import Guarded
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.plans import Ports
from tinyrnn.starts import tables
from tinyrnn.streams import State
from tinyrnn.tapes import Layout
from tinyrnn.targets import losses_by_output, masks_by_output, targets_by_output, weights_of
from tinyrnn.tensors import Array, Frame
from tinyrnn.training import (
    Counts,
    batch_norms,
    chained,
    check_statistics,
    feed_of,
    frozen_parts,
    guard,
    lay_out,
    modes_of,
    start_of,
    trained,
)

if TYPE_CHECKING:
    from tinyrnn._training import Target
    from tinyrnn.losses import Loss
    from tinyrnn.optim.optimizer import Optimizer


class TrainerMemory(NamedTuple):
    """Bytes that training takes; see `Trainer.memory`."""

    weights: int
    gradients: int
    optimizer: int
    tape: int
    scratch: int
    state: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


class Trainer(Guarded):
    """Training batch by batch, in memory laid out beforehand. Made by ``net.trainer()``.

    A step clears the gradients, runs the net in training mode, computes the loss and its gradient, runs
    backward, clips, and updates the weights. It is one call of the core without the GIL, and after the first
    step nothing is allocated.

    Attributes
    ----------
    net, optimizer, loss
    norm : float
        The norm of all gradients at the last step, before clipping.
    steps : int
        The most steps of a sequence.
    batch : int

    They are fixed: the memory is laid out for them.

    A net of several inputs, outputs or axes of time takes ``steps``, ``loss``, and the ``x``, ``y`` and
    ``lengths`` of a step by name; see `Net.trainer`.
    """

    _made_by = "_threads"
    _layout: Layout
    _core: CoreTrainer

    def __init__(
        self,
        net: Module,
        optimizer: Optimizer,
        loss: Loss | Mapping[str, Loss],
        batch: int,
        steps: int | Mapping[str, int],
        *,
        threads: int,
        clip_norm: float | None,
        clip_value: float | None,
        nonfinite: str,
        frame: Frame | None,
        target_steps: int,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        from tinyrnn.optim.optimizer import Optimizer, check_nonfinite

        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"trainer: optimizer is {type(optimizer)}, expected one of tr.optim")
        own = {id(tensor.core) for tensor in net._tensors()}
        if not any(id(entry.tensor.core) in own for entry in optimizer._groups.entries):
            raise ValueError("trainer: the optimizer has no parameter of this net: make one for this net")
        self.net, self.optimizer, self.loss = net, optimizer, loss
        self._ports = net._several()
        self._losses = losses_by_output("trainer", loss, net._output_names())
        self._weights = weights_of("trainer: ", loss_weights, loss)
        self.batch, self.steps = check_size("batch", batch), steps
        threads = check_size("threads", threads)
        self._limits = tuple(
            np.inf if limit is None else check_positive(name, limit)
            for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value))
        )
        check_nonfinite(nonfinite)
        self._nonfinite = nonfinite
        if self._ports is None:
            self._cores, frame, out_frame = calls.streamed(net, frame)
            self.steps = _steps_by_axis(steps, calls.times_of(net))[0] if net._recurrent else 1
            self._most: tuple[int, ...] = (self.steps,)
            self._out_frames = [out_frame]
        else:
            if frame is not None:
                raise ValueError(
                    f"trainer: frame is {frame}, expected None: the inputs of the net have theirs"
                )
            self._cores, frame, out_frame = self._ports.cores, (), ()
            self._most = _steps_by_axis(steps, self._ports.times)
            self._out_frames = self._ports.out_frames
        cores = self._cores
        self._target_steps = check_size("target_steps", target_steps, 0)
        self._lay(frame, out_frame, threads, modes_of(net))
        check_statistics(net, frame, self.batch)
        self._index_count = calls.index_count(cores)
        self._norms = batch_norms(net)
        self._recurrent = net._recurrent
        self._rows_first = self._recurrent and net._batch_first
        self._per_sequence = self._layout.tape.outputs[0][1] == 0
        self._state_layout = State(np.empty(0, np.float32), self._layout.slots).layout()
        self._version = -1
        self._guard, self._optimizer_guard = guard(net), optimizer._guard
        self._still: list[Array] = []  # gradients of frozen tensors whose layer has others that are not
        self._threads = threads

    def _lay(self, frame: Frame, out_frame: Frame, threads: int, modes: list[bool]) -> None:
        """Lay the memory out."""
        sizes = self.batch, self._most, threads
        self._layout = lay_out(self.net, self._cores, frame, out_frame, *sizes, modes)
        losses = [None if loss is None else loss.core for loss in self._losses.values()]
        weights = [self._weights.get(name, 1.0) for name in self._losses]
        tape, program = self._layout.tape, self.optimizer._program
        self._core = CoreTrainer(tape, losses, weights, program, self._target_steps)

    def _renew(self) -> None:
        """Take over changes: frozen tensors, and dropout between levels."""
        net, layout = self.net, self._layout
        version = net._versions()
        if layout.cores != [core for core, _ in chained(net, self._cores, layout.modes)]:
            self._lay(layout.frame, layout.out_frame, self._threads, layout.modes)
        bits = trained(net, self._layout.cores)
        start = start_of(net, self._layout)
        if not any(bits) and not (start and start.trains):
            raise ValueError("step: all parameters are frozen, expected some to train: call unfreeze()")
        self._layout.tape.point_gradients(bits)
        self._core.begin_with(start)
        self._still = [gradient for gradient, _ in frozen_parts(net)]
        self._version = version

    def __repr__(self) -> str:
        parts = {"net": self.net, "optimizer": self.optimizer, "loss": self.loss}
        rows = "".join(f"\n  {name}: " + repr(part).replace("\n", "\n  ") for name, part in parts.items())
        norm, value = (None if np.isinf(limit) else limit for limit in self._limits)
        return (
            f"Trainer({rows}\n  batch={self.batch}, steps={self.steps}, "
            f"{'' if self._ports is not None else f'frame={self._layout.frame}, '}"
            f"threads={self._layout.tape.threads}, clip_norm={norm}, clip_value={value}, "
            f"nonfinite={self._nonfinite!r}\n)"
        )

    def _instead(self, name: str, value: Any) -> str:
        return f"make another, net.trainer(..., {name}=...)"

    @property
    def memory(self) -> TrainerMemory:
        """Bytes that training takes, known before the first step."""
        tape, cores = self._layout.tape, [*self._layout.cores, *tables(self.net).values()]
        weights = {id(core): core.nbytes for core in cores}
        gradients = {
            id(core): core.nbytes
            for core, some in zip(cores, trained(self.net, cores), strict=True)
            if some or core.has_gradients
        }
        return TrainerMemory(
            sum(weights.values()),
            sum(gradients.values()),
            self.optimizer.state_bytes,
            tape.tape_bytes,
            tape.scratch_bytes + self._core.loss_bytes,
            3 * tape.state_bytes,
        )

    @property
    def norm(self) -> float:
        """The norm of all gradients at the last step, before clipping."""
        return self.optimizer._program.norm

    @property
    def losses(self) -> dict[str, float]:
        """Each loss at the last step, before its weight in the sum, by output; 0 before the first one."""
        names = zip(self._losses, self._core.parts, strict=True)
        return {name: value for name, value in names if self._losses[name] is not None}

    def new_state(self) -> State:
        """The net's initial state, for truncated backpropagation through time.

        ``step(..., state=state)`` begins with its numbers and leaves the final state there.
        """
        return State.begun(self.net, self._layout.tape.state_bytes, self._layout.slots)

    def step(
        self,
        x: Any,
        y: Any,
        lengths: Any = None,
        state: State | None = None,
        *,
        begins: bool = False,
        mask: Any = None,
    ) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array_like, float32, or integers for an embedding; or a tuple or mapping of them
            ``(T, B, frame)``, or ``(B, T, frame)`` with ``batch_first``; ``(B, frame)`` for a net without
            recurrent layers. At most `steps` steps, exactly `batch` rows. Of several inputs all, in their
            order or by name.
        y : array_like, or as the loss takes it
            The target. By output if several have a loss.
        lengths : array_like of int, (B,), or a mapping from axis of time to one, optional
            Steps of each row.
        state : State, optional
            Of `new_state`: the initial state, then the final one. The net's initial state without it.
        begins : bool
            Begin with the net's initial state in place of the numbers of ``state``, so that a learned one
            trains: for the first part of sequences that are trained in parts.
        mask : array_like of bool, (T, B), or (B, T) with ``batch_first``, optional
            The steps that count in the loss; ``(B,)`` for an output without steps. By output if several have
            a loss: one without a mask counts whole. See `Loss.__call__`.

        Returns
        -------
        float
            The loss, before the update. NaN where nothing counts: the gradient is then 0, and the optimiser
            makes its step all the same, with momentum and decay, as PyTorch's does.

        Raises
        ------
        ShapeError, TypeError, IndexError, ValueError
            If something does not fit.
        NonFiniteError
            If a gradient is NaN or infinite and ``nonfinite`` is ``"stop"``: names the layer.

            After any of them weights, optimiser, statistics and state are as before.
        """
        if state is not None and not isinstance(state, State):
            raise TypeError(f"step: state is {type(state).__name__}, expected new_state()")
        if state is not None and state.layout() != self._state_layout:
            raise ShapeError("step: the state is of another net or batch, expected one of new_state()")
        if self._ports is None:
            feed, targets = self._fed(x, y, lengths, state, mask)
        else:
            feed, targets = self._ports_fed(self._ports, x, y, lengths, state, mask)
        with self._guard, self._optimizer_guard:
            return self._step(feed, state, targets, begins)

    def _fed(
        self, x: ArrayLike, y: Any, lengths: ArrayLike | None, state: State | None, mask: Any
    ) -> tuple[Feed, list[Target | None]]:
        """The checked arrays of `step`, of a net with one input and one output."""
        net, layout, loss = self.net, self._layout, self.loss_of(0)
        if isinstance(y, Mapping):
            (y,) = targets_by_output("step: ", y, self._trained_outputs()).values()
        if isinstance(x, Mapping):
            (x,) = calls.named_inputs(net, list(net._ports_known()), (x,))
        if not self._index_count:
            array: NDArray[Any] = as_floats(x, "step: x")
        else:
            array = x if is_plain(x, np.int32) else _core.as_indices(x, "step: x", self._index_count)
        steps, x_step, x_row = self._axes(array.shape)
        ends = None if lengths is None else calls.check_lengths(net, lengths, steps, self.batch)
        if ends is not None and not self._recurrent:
            raise ValueError("step: got lengths, expected none: no layer is recurrent")
        leading = array.shape[: array.ndim - len(layout.frame)]
        feed = Feed((array,), ((x_step, x_row),), (steps,), (ends,), state is None)
        due = self._due(0, feed, state)
        rows_first = self._rows_first
        if self._per_sequence:  # as one step of a net without time
            leading, ends, rows_first = (self.batch,), None, False
        elif due is not None:
            leading, ends = (self.batch, due[0]) if rows_first else (due[0], self.batch), due[1]
        name = self._trained_outputs()[0]
        marks = self._masks("step", mask, {name: leading}).get(name)
        return feed, [loss.target_of(leading + layout.out_frame, y, ends, rows_first, marks)]

    def _ports_fed(
        self, ports: Ports, x: Any, y: Any, lengths: Any, state: State | None, mask: Any
    ) -> tuple[Feed, list[Target | None]]:
        """The checked arrays of `step`, of a net with several inputs, outputs or axes of time."""
        entered = calls.Entered(self.net, ports, calls.inputs_of(self.net, ports.names, x), lengths, "step")
        if not entered.batched or entered.batch != self.batch:
            raise ShapeError(f"step: x has {entered.batch} rows, expected {self.batch}, the trainer's batch")
        for time, steps, most in zip(ports.times, entered.steps, self._most, strict=True):
            if steps > most:
                raise ShapeError(
                    f"step: x has {steps} steps of {time!r}, expected 1 .. {most}, the trainer's"
                )
        feed = feed_of(entered)._replace(ends=state is None)
        made: dict[str, tuple[Any, Any, Any, bool]] = {}
        leading: dict[str, tuple[int, ...]] = {}
        wanted = targets_by_output("step: ", y, self._trained_outputs())
        outputs = self._layout.tape.outputs
        for i, ((name, loss), frame, (_, axis)) in enumerate(
            zip(self._losses.items(), self._out_frames, outputs, strict=True)
        ):
            if loss is None:
                continue
            due = self._due(i, feed, state)
            ends = due[1] if due is not None else entered.lengths[axis - 1] if axis else None
            leading[name] = entered.shape(axis, (), due)
            made[name] = leading[name] + frame, wanted[name], ends, entered.swaps(axis)
        masks = self._masks("step", mask, leading)
        return feed, [
            None if loss is None else loss.target_of(*made[name], mask=masks.get(name))
            for name, loss in self._losses.items()
        ]

    def _masks(self, what: str, mask: Any, leading: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
        """The checked masks by output; ``leading`` is the shape of each output before its frame."""
        masks = masks_by_output(f"{what}: ", mask, list(leading))
        return {name: as_mask(one, f"{what}: mask", leading[name]) for name, one in masks.items()}

    def _due(self, output: int, feed: Feed, state: State | None) -> calls.Due | None:
        """The steps of an output with a rate of its own."""
        tape = self._layout.tape
        return (
            tape.due(output, None if state is None else state.numbers, feed)
            if tape.has_rate(output)
            else None
        )

    def _step(self, feed: Feed, state: State | None, targets: list[Target | None], begins: bool) -> float:
        """Do the work of `step`, with checked arguments."""
        net, program = self.net, self.optimizer._program
        program.max_norm, program.max_value = self._limits
        counts, status = Counts(net, self._norms), None
        try:
            self.optimizer._refresh()
            if self._version != net._versions():
                self._renew()
            numbers = None if state is None else state.numbers
            status = self._core.step(feed, numbers, counts.seed, targets, begins)
        except IndexError:
            if self._ports is None:
                _core.as_indices(feed.arrays[0], "step: x", self._index_count)  # says which index it is
            raise
        finally:
            program.max_norm = program.max_value = np.inf
            for gradient in self._still:
                gradient[:] = 0.0
            if status != DONE:
                counts.restore()
        if status == DONE:
            counts.count()
            return self._core.last
        if status == BAD_TARGET:
            place = self._core.wrong
            name, loss, target = list(self._losses)[place], self.loss_of(place), targets[place]
            assert target is not None
            frame = self._out_frames[place]
            fault = loss.wrong_target(target, frame[-1] if frame else 1)
            raise IndexError(f"step: {fault if self._ports is None else f'output {name!r}: {fault}'}")
        self.optimizer._refuse(self._nonfinite, self._cause(feed))
        return self._core.last

    def _trained_outputs(self) -> list[str]:
        """The names of the outputs that have a loss."""
        return [name for name, loss in self._losses.items() if loss is not None]

    def loss_of(self, place: int) -> Loss:
        """The loss of an output, by its place."""
        loss = list(self._losses.values())[place]
        assert loss is not None
        return loss

    def evaluate(
        self, x: Any, y: Any, lengths: Any = None, state: State | None = None, *, mask: Any = None
    ) -> float:
        """Compute the loss of a batch of any size in evaluation mode; only ``state`` changes.

        Parameters and errors are those of `step`.
        """
        net = self.net
        if self._ports is not None:
            return self._evaluate_ports(self._ports, x, y, lengths, state, mask)
        if self._recurrent or lengths is not None or state:
            output, final = calls.infer(net, x, lengths, state, self._threads)
            if state is not None:
                state.numbers[:] = final.numbers
        else:
            output = calls.run_frames(net, x, self._threads)
        loss = self.loss_of(0)
        (y,) = targets_by_output("evaluate: ", y, self._trained_outputs()).values()
        leading = output.shape[: output.ndim - len(self._layout.out_frame)]
        (mask,) = self._masks("evaluate", mask, {self._trained_outputs()[0]: leading}).values() or (None,)
        if self._per_sequence:
            value, _ = loss(output, y, mask=mask)
        else:
            value, _ = loss(output, y, lengths, batch_first=self._rows_first, mask=mask)
        return next(iter(self._weights.values()), 1.0) * float(value)

    def _evaluate_ports(
        self, ports: Ports, x: Any, y: Any, lengths: Any, state: State | None, mask: Any
    ) -> float:
        """Do the work of `evaluate` for a net of several inputs, outputs or axes of time."""
        wanted = targets_by_output("evaluate: ", y, self._trained_outputs())
        given = calls.inputs_of(self.net, ports.names, x)
        dues = calls.dues_of(self.net, ports, given, lengths, state)
        ys, final = calls.infer_ports(self.net, ports, given, lengths, state, self._threads)
        leading = {
            name: y.shape[: y.ndim - len(frame)]
            for (name, loss), frame, y in zip(self._losses.items(), self._out_frames, ys, strict=True)
            if loss is not None
        }
        masks = self._masks("evaluate", mask, leading)
        total = 0.0
        for (name, loss), output, (_, axis), due in zip(
            self._losses.items(), ys, self._layout.tape.outputs, dues, strict=True
        ):
            if loss is None:
                continue
            ends = lengths
            if due is not None:
                ends = due[1]
            elif isinstance(lengths, Mapping):
                ends = lengths.get(ports.times[axis - 1]) if axis else None
            array = np.ascontiguousarray(output)
            if not axis:
                ends = None
            rows_first = self._rows_first and axis > 0
            value, _ = loss(array, wanted[name], ends, batch_first=rows_first, mask=masks.get(name))
            total += self._weights.get(name, 1.0) * float(value)
        if state is not None:
            state.numbers[:] = final.numbers
        return total

    def _cause(self, feed: Feed) -> str:
        """Name a cause of a gradient that is not finite, if there is one before the backward pass."""
        names, axes = ["x"], [1]
        if self._ports is not None:
            names, axes = self._ports.names, [axis for _, axis in self._ports.cores.inputs]
        for name, axis, x in zip(names, axes, feed.arrays, strict=True):
            bad = ~np.isfinite(x)
            ends = feed.lengths[axis - 1] if axis else None
            if ends is not None:  # what lies beyond a row's end is not read
                bad &= within(ends, x.shape, self._rows_first)
            if bad.any():
                place = np.unravel_index(int(bad.argmax()), x.shape)
                return f" {name} holds {x[place]} at {list(map(int, place))}."
        return "" if math.isfinite(self._core.last) else f" The loss was {self._core.last} already."

    def _axes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the steps, and the distances in frames from step to step and from row to row."""
        frame, batch = self._layout.frame, self.batch
        leading = shape[: len(shape) - len(frame)]
        fits = shape[len(leading) :] == frame
        if not self._recurrent:
            if fits and leading == (batch,):
                return 1, batch, 1
            wanted = f"{(batch, *frame)}"
        else:
            rows_first = self._rows_first
            if fits and len(leading) == 2 and leading[0 if rows_first else 1] == batch:
                steps = leading[1 if rows_first else 0]
                if 1 <= steps <= self._most[0]:
                    return (steps, 1, steps) if rows_first else (steps, batch, 1)
            first = f"{batch}, T" if rows_first else f"T, {batch}"
            wanted = f"({first}{''.join(f', {axis}' for axis in frame)}) with T = 1 .. {self._most[0]}"
        raise ShapeError(f"step: x has shape {shape}, expected {wanted}")


def _steps_by_axis(steps: Any, times: tuple[str, ...]) -> tuple[int, ...]:
    """The most steps of each axis of time; a number is for all of them."""
    if not isinstance(steps, Mapping):
        return (check_size("steps", steps),) * len(times)
    if steps.keys() != set(times):
        raise ValueError(
            f"trainer: steps: got {sorted(map(str, steps))}, expected axes of time {list(times)}"
        )
    return tuple(check_size(f"steps: {time}", steps[time]) for time in times)
