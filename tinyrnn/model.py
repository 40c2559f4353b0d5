"""What every layer is, a net of one, and `Sequential`, a net of several."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core
from tinyrnn.arguments import check_bool, check_int, check_size, explained
from tinyrnn.arrays import as_array, as_floats, as_indices, as_lengths, widened
from tinyrnn.attributes import Guarded, absent, brief
from tinyrnn.errors import LoadError, ShapeError, WeightsError
from tinyrnn.formats import LEVELS, SCALE, Coded, check_format, encode, restore, store
from tinyrnn.streams import Slot, State, Stream
from tinyrnn.threads import run_all, split
from tinyrnn.weights.spec import MAX_NAME, shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinyrnn.history import History
    from tinyrnn.losses import Loss
    from tinyrnn.optim import Optimizer
    from tinyrnn.training import Trainer
    from tinyrnn.weights import WeightsFile

Frame = tuple[int, ...]
Array = NDArray[np.float32]

# Rows of work that a call does at once: enough for a matrix product, few enough to stay in cache.
_BLOCK_ROWS = 64

# Prepared calls that a net keeps, and the most bytes of one: 2 MB in all.
_KEPT_CALLS = 8
_KEPT_BYTES = 1 << 18

# How deep nets may be nested, so that what is saved can be loaded.
_NESTING = 64

# Layers that a file may describe beyond one for each of its tensors: those that have none.
_SPARE_LEVELS = 1000

# Of the files that `Net.save` writes; 2 has formats.
_VERSION = 2

# The one entry of a state_dict that is no parameter: BatchNorm1d's counter.
_COUNTER = "num_batches_tracked"

# Tensors that training does not change by gradients.
STATISTICS = ("running_mean", "running_var")

# How often tensors have been frozen or set free: what was worked out for a net before may be out of date.
_freeze_count = [0]


class Memory(NamedTuple):
    """Bytes that a net needs to run; see `Net.memory`."""

    weights: int
    state: int
    scratch: int


class LoadResult(NamedTuple):
    """What `Net.load_state_dict` did not match, as in PyTorch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Tensor(NamedTuple):
    """One entry of a state_dict: its name, its shape, and the core layer that keeps it."""

    name: str
    shape: tuple[int, ...]
    core: _core.Layer
    param: int

    @property
    def format(self) -> str:
        """How its numbers are kept."""
        return self.core.format if self.param in self.core.matrices else "float32"

    def numbers(self) -> Array:
        """Its numbers: a new array."""
        array: Array = self.core.get(self.param).reshape(self.shape)
        return array

    def stored(self) -> dict[str, NDArray[Any]]:
        """Its numbers as a file keeps them, without loss."""
        if self.format == "float32":
            return {self.name: self.numbers()}
        return store(Coded(*self.core.codes(self.param)), self.format, self.name)

    def fitted(self, value: Any, scales: Any) -> Array | Coded:
        """``value`` as the core takes it: numbers, or codes with ``scales``; an error if it does not fit."""
        shape = self.core.params[self.param][1]
        if scales is not None:
            return restore(as_array(value), as_array(scales), shape, self.format, self.name)
        array = as_array(value)
        if self.format == "bfloat16" and array.dtype == np.uint16:  # the bits, as `stored` gives them
            array = widened(array)
        array = as_floats(array, self.name)
        if array.shape != self.shape:
            raise ShapeError(
                f"size mismatch for {self.name}: shape {array.shape} in state_dict, "
                f"expected {self.shape} in the net"
            )
        array = array.reshape(shape)
        return array if self.format == "float32" else encode(array, self.format, self.name)

    def gradient(self) -> Array:
        """Its gradient: a new array."""
        array: Array = self.core.unpack_from(self.param, self.core.gradients()).reshape(self.shape)
        return array

    def write(self, value: Array | Coded) -> None:
        """Take what `fitted` gave."""
        if isinstance(value, Coded):
            self.core.set_codes(self.param, *value)
        else:
            self.core.set(self.param, value)

    def read(self) -> Array:
        """Its numbers: a copy, so it cannot be written to."""
        array = self.numbers()
        array.flags.writeable = False
        return array


class _Call:
    """A net laid out for calls of one shape: one thread at a time may run it.

    Parameters
    ----------
    cores : list of Layer
        What it runs.
    plan : Plan
        They, laid out for the whole batch.
    parts : list of Part
        Of each thread.
    slots : tuple of Slot
        The names of the state.
    """

    __slots__ = ("cores", "nbytes", "parts", "plan", "slots", "state_bytes")

    def __init__(
        self, cores: list[_core.Layer], plan: _core.Plan, parts: list[_core.Part], slots: tuple[Slot, ...]
    ) -> None:
        self.cores, self.plan, self.parts, self.slots = cores, plan, parts, slots
        self.state_bytes = plan.state_bytes
        self.nbytes = sum(part.nbytes for part in parts)


class Net(Guarded, ABC):
    """What layers and `Sequential` share: calling, streaming, weights.

    A layer is a net of one, so all of this works on ``tr.LSTM(...)`` alone.

    The arguments that a layer was made with are fixed: ``lstm.hidden_size = 3`` is an error. Its tensors can
    be set, each to an array of its shape: ``linear.weight = array``.
    """

    types: ClassVar[dict[str, type[Net]]] = {}
    arguments: ClassVar[tuple[str, ...]] = ()
    _settable: ClassVar[tuple[str, ...]] = ("training",)

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            Net.types[cls.__name__] = cls
            if cls.__module__.startswith("tinyrnn."):
                setattr(cls, "__init__", explained(cls.__name__, cls.__init__))  # noqa: B010

    # ---- what a layer says of itself -----------------------------------------------------------

    @abstractmethod
    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        """Append the core layers that read ``frame``; the frame that the last one writes.

        ``lead`` is the number of axes before the frame in the user's array.
        """

    def _rank(self, ndim: int) -> int | None:
        """Axes of a frame within an input of ``ndim`` axes; None if any will do."""
        return None

    def _frame(self) -> tuple[int | None, ...] | None:
        """The frame that the net reads, as far as it is known; None in it for an open size."""
        return None

    def _tensors(self) -> list[Tensor]:
        """The entries of the state_dict, in PyTorch's order."""
        return []

    def _leaves(self) -> list[tuple[str, Net]]:
        """(prefix, layer) of every layer of the net, in order."""
        return [("", self)]

    def _cores(self) -> list[_core.Layer]:
        """A layer's core layers that have tensors."""
        return []

    def _reformat(self, formats: list[str]) -> None:
        """Keep the matrices of each of `_cores` in the format given for it, without weights."""
        assert not formats, f"{type(self).__name__} has nothing to reformat"

    def _place(self, level: int) -> str:
        """What a layer calls one of its core layers."""
        return ""

    def _path(self, prefix: str, level: int) -> str:
        """What a net calls one of a layer's core layers; a layer without a name goes by its type."""
        return (prefix + self._place(level)).removesuffix(".") or type(self).__name__

    def _places(self) -> list[tuple[str, Net, int]]:
        """(name, layer, which of its core layers) of every core layer of the net, in order."""
        return [
            (leaf._path(prefix, level), leaf, level)
            for prefix, leaf in self._leaves()
            for level in range(leaf._core_count())
        ]

    @property
    def formats(self) -> dict[str, str]:
        """How the matrices are kept, layer by layer: the names that `quantize` takes to ``keep``.

        A level of a stack has a name of its own, ``"lstm.l0"``; layers without a matrix are left out.
        """
        return {
            name: leaf._cores()[level].format
            for name, leaf, level in self._places()
            if leaf._cores() and leaf._cores()[level].matrices
        }

    def _format_note(self) -> str:
        """The formats of a layer as its repr shows them: nothing if all are float32."""
        formats = [core.format for core in self._cores()]
        if not any(name != "float32" for name in formats):
            return ""
        return f" [{', '.join(formats if len(set(formats)) > 1 else formats[:1])}]"

    # Whether a layer of the net carries a state from step to step.
    _recurrent: bool = False

    @property
    def _batch_first(self) -> bool:
        orders = {leaf.batch_first for _, leaf in self._leaves() if leaf._recurrent}
        if len(orders) > 1:
            raise ValueError("the net's recurrent layers disagree on batch_first")
        return orders.pop() if orders else False

    def config(self) -> dict[str, Any]:
        """The arguments that build the same net again."""
        return {name: getattr(self, name) for name in self.arguments}

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({given}){self._format_note()}"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for tensor in self._tensors():
                if tensor.name == name:
                    return tensor.read()
        raise absent(self, "attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and "_made" in self.__dict__:
            if name == "training" and not isinstance(value, bool):
                raise TypeError(f"{type(self).__name__}.training: got {brief(value)}, expected True or False")
            if name == _COUNTER and name in self._settable:
                value = check_int(f"{type(self).__name__}.{name}", value, 0, 2**62)
            for tensor in () if name in self._settable else self._tensors():
                if tensor.name == name and "." not in name:
                    return self._set_tensor(tensor, value)
        super().__setattr__(name, value)

    def _set_tensor(self, tensor: Tensor, value: Any) -> None:
        """Give one tensor other numbers; nothing has changed if they do not fit."""
        what = f"{type(self).__name__}.{tensor.name}"
        if value is None:
            raise TypeError(f"{what}: got None, expected an array of shape {tensor.shape}")
        array = as_floats(value, what)
        if array.shape != tensor.shape:
            raise ShapeError(f"{what}: got shape {array.shape}, expected {tensor.shape}")
        numbers = tensor.fitted(array, None)
        tensor.core.prepare()  # the other tensors
        tensor.write(numbers)

    def _instead(self, name: str, value: Any) -> str:
        kind, given = type(self).__name__, self.config()
        if name not in given:
            return f"build a new {kind}"
        wanted = brief(value) if type(value) is type(given[name]) else "..."
        least = [key for key in given if key == name or not _has_default(type(self), key)]
        text = ", ".join(f"{key}={wanted if key == name else repr(given[key])}" for key in least)
        keep = ", and load_state_dict() what fits of this one's state_dict()" if self._tensors() else ""
        return f"build a new {kind}({text}){keep}"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(tensor.name for tensor in self._tensors())})

    # ---- running -------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        hx: None = None,  # where recurrent layers have their initial state
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Run the net over whole sequences. In training mode the tape is kept for `backward`.

        In evaluation mode the net keeps what it has worked out for the eight shapes of input that it was last
        called with: their plans and scratch memory, up to 256 kB each. Larger ones are made anew. Any number
        of threads may call one net at once.

        Parameters
        ----------
        x : array_like, float32
            ``(T, frame)``, or ``(T, B, frame)``, or ``(B, T, frame)`` with ``batch_first``. A net
            without recurrent layers takes any axes before the frame. Integers for an embedding.
        lengths : array_like of int, (B,), optional
            Steps of each row; recurrent layers write zeros beyond.
        state : mapping from name to array, optional
            The initial state of recurrent layers, by the names of `State`; what it does not name is zero.
            `last_state` has the final one.
        threads : int
            Threads that share the batch's rows; the bits do not depend on it.
        last : bool
            Only the output at each row's own last step, as `fit` and `evaluate` compare it with one target a
            sequence: that of step ``lengths[row] - 1``. Layers after the last recurrent one run for that
            step alone; the bits are those of the whole output. Of a bidirectional layer this is the end of
            the forward direction, and the reverse direction after its first step only.

        Returns
        -------
        ndarray, float32
            The same axes before the last layer's frame; without the steps' axis for ``last``.

        Raises
        ------
        ShapeError, TypeError, IndexError, ValueError
            If the input does not fit.
        """
        if hx is not None:
            raise self._misplaced()
        if self._recurrent:
            return self._run(x, lengths, state, threads, last)[0]
        self._check_stateless(lengths, state, last)
        if self.training:
            return self._run(x, None, state, threads)[0]
        return self._map(x, threads)

    def _check_stateless(self, lengths: Any, state: Any, last: Any) -> None:
        """An error if a net without a recurrent layer is given what only such a one takes."""
        if state is not None and not (isinstance(state, Mapping) and not state):
            raise ValueError(f"{type(self).__name__}: state given, but no layer is recurrent")
        if lengths is not None:
            raise ValueError(f"{type(self).__name__}: lengths given, but no layer is recurrent")
        if last is not False and check_bool(f"{type(self).__name__}: last", last):
            raise ValueError(f"{type(self).__name__}: last=True given, but no layer is recurrent")

    def _misplaced(self) -> TypeError:
        """The error of a second argument, where recurrent layers have their initial state."""
        names = [
            f'"{prefix}{name}": {name}0'
            for prefix, leaf in self._leaves()
            if hasattr(leaf, "_state_slots")
            for name in ("h", "c")[: 1 + leaf._cell]
        ]
        kind = type(self).__name__
        if not names:
            return TypeError(
                f"{kind}: got a second argument, expected the input alone: no layer is recurrent"
            )
        return TypeError(f"{kind}: the initial state goes by name, state={{{', '.join(names)}}}")

    def _enter(self, x: ArrayLike) -> tuple[NDArray[Any], int, list[_core.Layer], Frame]:
        """The input as the core reads it, its axes before the frame, and the layers that will read it."""
        array = as_array(x)
        rank = self._rank(array.ndim)
        rank = min(array.ndim, 1) if rank is None else rank
        lead = array.ndim - rank
        if lead < 0 or (self._recurrent and lead not in (1, 2)):
            raise ShapeError(
                f"{type(self).__name__}: input has shape {array.shape}, expected {self._expected(rank)}"
            )
        cores: list[_core.Layer] = []
        out_frame = self._lay(array.shape[lead:], lead, cores)
        if cores and cores[0].kind == "embedding":
            what = f"{type(self).__name__}: input"
            array = as_indices(array, what, self._leaves()[0][1].num_embeddings)
        elif not _core.is_floats(array):
            array = as_floats(array, f"{type(self).__name__}: input")
        return array, lead, cores, out_frame

    def _map(self, x: ArrayLike, threads: int) -> Array:
        """The net applied to every frame of an array, when no frame depends on another."""
        return self._each(*self._enter(x), threads)

    def _each(
        self, array: NDArray[Any], lead: int, cores: list[_core.Layer], out_frame: Frame, threads: int = 1
    ) -> Array:
        """The cores applied to every frame of an array that `_enter` has checked."""
        leading, frame = array.shape[:lead], array.shape[lead:]
        y = np.empty(leading + out_frame, np.float32)
        threads = check_size("threads", threads)
        if y.size == 0:
            return y
        if 0 in frame:
            raise ShapeError(f"{type(self).__name__}: input has shape {array.shape}: an empty frame")
        count = math.prod(leading)
        key = (frame, min(count, _BLOCK_ROWS), min(count, threads))
        call = self._taken(key, cores, 1)
        if call is None:
            plan = self._plan(cores, frame, 1, count).ready()
            call = _Call(cores, plan, [_core.Part(plan, 0, 0) for _ in range(key[-1])], ())
        state = _core.aligned_zeros(call.state_bytes)
        if key[-1] == 1:
            call.parts[0].run_rows(array, y, state, count, None, 0)
        else:
            run_all(
                [
                    partial(part.run_rows, array, y, state, frames, None, first)
                    for part, (first, frames) in zip(call.parts, split(count, threads), strict=True)
                ]
            )
        self._keep(key, call)
        return y

    def _run(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None,
        initial: Mapping[str, Any] | None,
        threads: int,
        last: bool = False,
    ) -> tuple[Array, State]:
        """The output and the final state; ``initial`` is by name, zeros if None."""
        if last is not False:
            last = check_bool(f"{type(self).__name__}: last", last)
        if self.training:
            if last:
                raise ValueError(
                    f"{type(self).__name__}: last=True in training mode, expected evaluation mode; call "
                    "net.eval(), or give the loss the whole output, lengths and one target a row"
                )
            from tinyrnn import training

            y, state = training.forward(self, x, lengths, initial, threads)
        else:
            y, state = self._infer(x, lengths, initial, threads, last)
        self.__dict__["_last_state"] = state
        return y, state

    def _infer(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None,
        initial: Mapping[str, Any] | None,
        threads: int,
        last: bool = False,
    ) -> tuple[Array, State]:
        """`_run` in evaluation mode."""
        threads = check_size("threads", threads)
        array, lead, cores, out_frame = self._enter(x)
        swapped, steps, batch = self._sizes(array, lead, empty=True)
        if swapped:
            array = np.ascontiguousarray(array.swapaxes(0, 1))
        leading, frame = array.shape[:lead], array.shape[lead:]
        ends = None if lengths is None else self._check_lengths(lengths, steps, batch)
        if batch == 0:
            leading = (0,) if last else (0, steps) if swapped else leading
            return np.empty(leading + out_frame, np.float32), self._empty_state(cores, frame, initial)

        after: list[_core.Layer] = []
        if last:
            count = self._mixing_count()
            cores, after = cores[:count], cores[count:]
        key, call = self._prepared(cores, frame, batch, steps, threads)
        state = State.started(call.state_bytes, call.slots)
        if initial is not None:
            state.take(initial, f"{type(self).__name__}: initial state")
        y = np.empty(leading + ((call.plan.frame_out[1],) if last else out_frame), np.float32)
        if len(call.parts) == 1:
            call.parts[0].run_rows(array, y, state.numbers, steps, ends, 0)
        else:
            parts = split(batch, threads)
            run_all(
                [
                    partial(part.run_rows, array, y, state.numbers, steps, ends, first)
                    for part, (first, _) in zip(call.parts, parts, strict=True)
                ]
            )
        self._keep(key, call)
        if not last:
            return y.swapaxes(0, 1) if swapped else y, state
        y = y.reshape(steps, batch, -1)[-1 if ends is None else ends - 1, np.arange(batch)]
        if lead == 1:
            y = y[0]
        return (self._each(y, lead - 1, after, out_frame, threads) if after else y), state

    def _empty_state(
        self, cores: list[_core.Layer], frame: Frame, initial: Mapping[str, Any] | None
    ) -> State:
        """The state of no rows."""
        slots = self._slots(self._plan(cores, frame, 1, 1))
        slots = tuple(slot._replace(shape=(slot.shape[0], 0, slot.shape[2])) for slot in slots)
        return State.started(0, slots, initial, f"{type(self).__name__}: initial state")

    def _mixing_count(self) -> int:
        """How many of the core layers there are up to the last recurrent one, which is among them."""
        count = found = 0
        for _, leaf in self._leaves():
            count += leaf._core_count()
            found = count if leaf._recurrent else found
        return found

    # ---- prepared calls: a thread takes one out and puts it back, so that no two share a scratch ----

    def _prepared(
        self, cores: list[_core.Layer], frame: Frame, batch: int, steps: int, threads: int
    ) -> tuple[tuple[Any, ...], _Call]:
        """A call of these sizes, kept or new, and its key for `_keep`."""
        key = (frame, batch, min(steps, max(1, _BLOCK_ROWS // batch)), len(cores), min(batch, threads))
        call = self._taken(key, cores, steps)
        if call is None:
            plan = self._plan(cores, frame, batch, steps).ready()
            parts = [_core.Part(plan, 0, 0)]
            if key[-1] > 1:
                parts = [
                    _core.Part(self._plan(cores, frame, rows, steps).ready(), first, batch)
                    for first, rows in split(batch, threads)
                ]
            call = _Call(cores, plan, parts, self._slots(plan))
        return key, call

    def _taken(self, key: tuple[Any, ...], cores: list[_core.Layer], steps: int) -> _Call | None:
        """The call that was kept for ``key``, unless the net has other cores since."""
        kept: OrderedDict[Any, _Call] | None = self.__dict__.get("_calls")
        call = kept.pop(key, None) if kept else None
        if call is None:
            return None
        if call.cores != cores:  # so have the others
            self.__dict__["_calls"] = OrderedDict()
            return None
        return call if steps <= call.plan.most_steps else None

    def _keep(self, key: tuple[Any, ...], call: _Call) -> None:
        """Put a call back that has run to its end."""
        if call.nbytes <= _KEPT_BYTES:
            kept = self.__dict__.get("_calls")
            if kept is None:
                kept = self.__dict__.setdefault("_calls", OrderedDict())  # of two threads the first one's
            kept[key] = call
            if len(kept) > _KEPT_CALLS:
                with suppress(KeyError):  # another thread may have taken them
                    kept.popitem(last=False)

    def _sizes(self, array: NDArray[Any], lead: int, empty: bool = False) -> tuple[bool, int, int]:
        """Whether rows come before steps in an input of `_enter`'s, its steps, and its rows; without a
        recurrent layer all frames are rows of one step. ``empty`` allows none."""
        leading = array.shape[:lead]
        if not empty and 0 in array.shape:
            raise ShapeError(
                f"{type(self).__name__}: input has shape {array.shape}: no steps or an empty batch"
            )
        if not self._recurrent:
            return False, 1, math.prod(leading)
        swapped = lead == 2 and self._batch_first
        steps, batch = (*(leading[::-1] if swapped else leading), 1)[:2]
        if steps == 0:
            raise ShapeError(
                f"{type(self).__name__}: input has shape {array.shape}: no steps, expected at least one"
            )
        return swapped, steps, batch

    def _expected(self, rank: int) -> str:
        frame = self._frame()
        sizes = ["?" if axis is None else str(axis) for axis in frame] if frame else ["?"] * rank
        if not self._recurrent:
            return f"(..., {', '.join(sizes)})"
        batched = ["B", "T"] if self._batch_first else ["T", "B"]
        return f"({', '.join(['T', *sizes])}) or ({', '.join(batched + sizes)})"

    def _check_lengths(self, lengths: ArrayLike, steps: int, batch: int) -> NDArray[np.int32]:
        return as_lengths(lengths, type(self).__name__, batch, steps, "the input's steps")

    @staticmethod
    def _plan(cores: list[_core.Layer], frame: Frame, batch: int, steps: int) -> _core.Plan:
        """The cores laid out for calls of ``steps`` steps: in blocks, unless a layer reads the future."""
        rows, cols = (1, 1, *frame)[-2:]
        block = max(1, _BLOCK_ROWS // batch)
        plan = _core.Plan(cores, rows, cols, batch, min(block, steps))
        return _core.Plan(cores, rows, cols, batch, steps) if plan.full_sequence and steps > block else plan

    def _stream_plan(
        self, batch: int, frame: Frame | None, steps: int | None
    ) -> tuple[list[_core.Layer], _core.Plan, Frame, Frame]:
        """What `stream` runs and `memory` measures."""
        cores, frame, out_frame = self._streamed(frame)
        rows, cols = (1, 1, *frame)[-2:]
        batch = check_size("batch", batch)
        steps = max(1, _BLOCK_ROWS // batch) if steps is None else check_size("steps", steps)
        return cores, _core.Plan(cores, rows, cols, batch, steps), frame, out_frame

    def _slots(self, plan: _core.Plan) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        first = 0
        for prefix, leaf in self._leaves():
            if leaf._recurrent:
                slots += leaf._state_slots(plan, first, prefix)
            first += leaf._core_count()
        return tuple(slots)

    def _core_count(self) -> int:
        return 1

    def stream(
        self,
        batch: int = 1,
        *,
        frame: Frame | None = None,
        steps: int | None = None,
        threads: int = 1,
        nonfinite: str | None = None,
    ) -> Stream:
        """A stream: the net with a state of its own, every buffer allocated.

        Parameters
        ----------
        batch : int
            Independent rows that step together.
        frame : tuple of int, optional
            Shape of one step's input for one row, where the layers leave it open: (channels, length)
            for a net that begins with a convolution.
        steps : int, optional
            Steps that `Stream.run` computes at once; scratch memory grows with it. The bits do not
            depend on it.
        threads : int
            Threads that share the batch's rows, each with a scratch of its own; the bits do not depend on it.
            To hand a step to another thread costs tens of microseconds: worth it for chunks, and for steps
            that take longer.
        nonfinite : {None, "stop", "skip", "reset"}
            What to do with a bad step of a row, one whose input or new state is NaN or infinite. None takes
            it as it is, and the state stays NaN for good. ``"stop"`` raises `NonFiniteError`, and the whole
            call changes nothing. ``"skip"`` leaves the row's state as before the step; ``"reset"`` makes it
            zeros, as for a new stream. The row's output of that step is NaN then. Other rows and steps have
            the bits that they have without it. It takes two more states of memory.

        Raises
        ------
        ValueError
            If a layer is bidirectional, or the frame is left open, or a size is out of range, or of several
            rows the recurrent layers disagree on batch_first.
        ShapeError
            If the layers do not fit the frame.
        """
        cores, plan, frame, out_frame = self._stream_plan(batch, frame, steps)
        first = self._leaves()[0][1]
        count = first.num_embeddings if cores[0].kind == "embedding" else 0
        parts = split(plan.batch, check_size("threads", threads))
        plans = None
        if len(parts) > 1:
            plans = [(row, self._stream_plan(rows, frame, steps)[1]) for row, rows in parts]
        try:
            rows_first = self._batch_first
        except ValueError:
            if plan.batch > 1:
                raise
            rows_first = False
        return Stream(self, plan, frame, out_frame, count, plans, rows_first, nonfinite, self._slots(plan))

    def memory(self, batch: int = 1, steps: int | None = None, *, frame: Frame | None = None) -> Memory:
        """Bytes that ``stream(batch, steps=steps)`` takes, or for a net that reads the future a call of so
        many steps; allocates nothing.

        Parameters
        ----------
        batch, steps, frame
            As `stream` takes them.

        Returns
        -------
        Memory
            ``weights``, which all streams of the net share, and ``state`` and ``scratch``, which each has.
        """
        cores, plan, _, _ = self._stream_plan(batch, frame, steps)
        distinct = {id(core): core.nbytes for core in cores}
        return Memory(sum(distinct.values()), plan.state_bytes, plan.scratch_bytes)

    def _streamed(self, frame: Frame | None) -> tuple[list[_core.Layer], Frame, Frame]:
        """The cores and the frames of a stream."""
        name = type(self).__name__
        if frame is None:
            known = self._frame()
            if known is None or None in known:
                raise ValueError(
                    f"{name}: the layers leave the input's frame open; pass frame=, such as "
                    f"{'(channels, length)' if known else '(features,)'}"
                )
            frame = tuple(axis for axis in known if axis is not None)
        if not isinstance(frame, (tuple, list)):
            raise TypeError(f"{name}: frame is {frame!r}, expected the sizes of its axes, such as (4,)")
        frame = tuple(check_size("frame", axis) for axis in frame)
        if len(frame) > 2:
            raise ShapeError(f"{name}: frame {frame} has {len(frame)} axes, expected at most 2")
        try:
            cores: list[_core.Layer] = []
            return cores, frame, self._lay(frame, 1, cores)
        except ShapeError:  # perhaps an axis is counted from (T, B, frame)
            cores = []
            try:
                return cores, frame, self._lay(frame, 2, cores)
            except ShapeError:
                pass
            raise

    # ---- training: training.py does the work -----------------------------------------------------

    training: bool = False

    def _children(self) -> Iterable[Net]:
        return ()

    def _modes(self) -> list[tuple[Net, bool]]:
        """The net and all within it, and whether each is in training mode."""
        return [(self, self.training), *(pair for child in self._children() for pair in child._modes())]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, as in PyTorch: dropout drops, batch normalisation looks at the batch, and a call
        keeps what `backward` needs. A new net is in evaluation mode. A layer of a net in training mode may
        be put into the other: ``net["bn"].eval()`` goes by its running statistics, and they stay."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: mode is {mode!r}, expected True or False")
        self.training = mode
        self.__dict__.pop("_pass", None)
        for child in self._children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: ``train(False)``. The tape's memory is given up."""
        self.__dict__.pop("_layout", None)
        return self.train(False)

    @property
    def last_state(self) -> dict[str, Array]:
        """The final state of the last call, by name, for another call's ``state=``: copies, so going back
        through that call stops there, as truncated backpropagation through time wants."""
        kept: State | None = self.__dict__.get("_last_state")
        return {} if kept is None else {name: kept.read(name) for name in kept}

    def backward(self, dy: ArrayLike, dstate: Mapping[str, ArrayLike] | None = None) -> Any:
        """Go back through the last call in training mode, and add to the gradients (`grad_dict`).

        Parameters
        ----------
        dy : array_like, float32, as the output
            The gradient of the output.
        dstate : mapping from name to array, optional
            The gradient of the final state, by the names of `State`; what it does not name is zero.

        Returns
        -------
        dx : ndarray, float32, as the input
            The gradient of the input; None where it is indices.
        dstate : dict from name to ndarray
            The gradient of the initial state; only if ``dstate`` was given, be it empty.

        Raises
        ------
        RuntimeError
            If there was no call in training mode, or it was gone back through already.
        ShapeError, TypeError, KeyError
            If something does not fit. No gradient has changed, and the pass can still be gone back through.
        """
        from tinyrnn import training

        dx, initial = training.backward(self, dy, dstate)
        return dx if dstate is None else (dx, {name: initial.read(name) for name in initial})

    def trainer(
        self,
        optimizer: Optimizer,
        loss: Loss,
        batch: int = 32,
        steps: int = 64,
        *,
        threads: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "stop",
        frame: Frame | None = None,
        target_steps: int = 0,
    ) -> Trainer:
        """What trains the net batch by batch in memory that is laid out once. It trains in training mode,
        whatever the net's; layers in evaluation mode within a net that is not are left so.

        Parameters
        ----------
        optimizer : one of `tinyrnn.optim`
        loss : one of `tinyrnn.losses`
        batch, steps : int
            Rows, and the most steps of a sequence; fewer steps are fine. A net without recurrent layers takes
            ``(batch, frame)`` and has no steps.
        threads : int
            Threads that share the rows and the weights; the bits do not depend on it.
        clip_norm, clip_value : float, optional
            Clip gradients by the norm of all of them, and each of them.
        nonfinite : {"stop", "skip", "warn"}
            What to do where a gradient is NaN or infinite: raise `NonFiniteError`, or leave the step out,
            silently or with a warning. The weights are as before in each case.
        frame : tuple of int, optional
            As `stream` takes it.
        target_steps : int
            For `CTCLoss`: the most labels of a row.

        Returns
        -------
        Trainer

        Raises
        ------
        TypeError, ValueError, ShapeError
            If something does not fit.
        """
        from tinyrnn.training import Trainer

        return Trainer(
            self,
            optimizer,
            loss,
            batch,
            steps,
            threads=threads,
            clip_norm=clip_norm,
            clip_value=clip_value,
            nonfinite=nonfinite,
            frame=frame,
            target_steps=target_steps,
        )

    def zero_grad(self) -> None:
        """Set all gradients to zero. An optimiser's step passes them over until there is a `backward`."""
        for tensor in self._tensors():
            if tensor.core.has_gradients:
                tensor.core.gradients()[:] = 0.0
                tensor.core.graded = 0

    def grad_dict(self) -> dict[str, Array]:
        """The gradient of every parameter that is not frozen, by its name in `state_dict`: copies; zeros
        where there was no `backward` yet."""
        return {name: tensor.gradient() for name, tensor in self._trainable(shared=True)}

    def _trainable(self, shared: bool = False) -> list[tuple[str, Tensor]]:
        """(name, tensor) of every parameter that is not frozen; one that two layers share once, or as often
        as `state_dict` names it."""
        found: dict[Any, tuple[str, Tensor]] = {}
        for prefix, leaf in self._leaves():
            for tensor in leaf._tensors():
                name = prefix + tensor.name
                if tensor.name in STATISTICS or tensor.name in leaf._frozen:
                    continue
                found.setdefault(name if shared else (id(tensor.core), tensor.param), (name, tensor))
        return list(found.values())

    @property
    def _frozen(self) -> set[str]:
        """A layer's tensors that have no gradient, by name."""
        names: set[str] = self.__dict__.setdefault("_frozen_names", set())
        return names

    @property
    def _freezes(self) -> int:
        """How often there was a `freeze` or `unfreeze`, of any net: another number after each."""
        return _freeze_count[0]

    def freeze(self, *names: str) -> Self:
        """Take tensors out of training: no gradient, no update. Batch statistics move all the same.

        Parameters
        ----------
        *names : str
            Of tensors or of layers, as `state_dict` has them: ``"1"`` is all of that layer; none: all.

        Raises
        ------
        KeyError
            If the net has no such tensor or layer; nothing has changed.
        """
        return self._set_frozen(names, True)

    def unfreeze(self, *names: str) -> Self:
        """Take tensors into training again; see `freeze`."""
        return self._set_frozen(names, False)

    def requires_grad(self, name: str) -> bool:
        """Whether a tensor is trained."""
        for prefix, leaf in self._leaves():
            for tensor in leaf._tensors():
                if prefix + tensor.name == name:
                    return tensor.name not in STATISTICS and tensor.name not in leaf._frozen
        raise KeyError(f"{type(self).__name__} has no tensor {name!r}")

    def _set_frozen(self, names: tuple[str, ...], frozen: bool) -> Self:
        chosen: list[tuple[Net, str]] = []
        if not names:
            chosen = [(leaf, tensor.name) for _, leaf in self._leaves() for tensor in leaf._tensors()]
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"{type(self).__name__}: {name!r}, expected the name of a tensor or a layer")
            found = [
                (leaf, tensor.name)
                for prefix, leaf in self._leaves()
                for tensor in leaf._tensors()
                if f"{prefix}{tensor.name}.".startswith(name + ".")
            ]
            if not found:
                raise KeyError(
                    f"{type(self).__name__} has no tensor or layer {name!r}, but {_quoted(self.state_dict())}"
                )
            chosen += found
        for leaf, tensor in chosen:
            (leaf._frozen.add if frozen else leaf._frozen.discard)(tensor)
        _freeze_count[0] += 1
        return self

    # ---- weights -------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        """Numbers that training changes: those of `state_dict`, running statistics left out."""
        return sum(
            math.prod(tensor.shape) for tensor in self._tensors() if not tensor.name.endswith(STATISTICS)
        )

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Every tensor by name, float32 copies with PyTorch's names, shapes and order.

        What is quantised as the numbers that its codes stand for.
        """
        state: dict[str, NDArray[Any]] = {}
        for prefix, leaf in self._leaves():
            for tensor in leaf._tensors():
                state[prefix + tensor.name] = tensor.numbers()
            if hasattr(leaf, _COUNTER):
                state[prefix + _COUNTER] = np.array(getattr(leaf, _COUNTER), dtype=np.int64)
        return state

    def _stored(self) -> dict[str, NDArray[Any]]:
        """`state_dict` as files, copies and pickles keep it: what is quantised as codes and scales."""
        state: dict[str, NDArray[Any]] = {}
        for prefix, leaf in self._leaves():
            for tensor in leaf._tensors():
                state |= tensor._replace(name=prefix + tensor.name).stored()
            if hasattr(leaf, _COUNTER):
                state[prefix + _COUNTER] = np.array(getattr(leaf, _COUNTER), dtype=np.int64)
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike], strict: bool = True, *, prefix: str = ""
    ) -> LoadResult:
        """Take the net's tensors from a mapping of names to arrays.

        What the net keeps in a smaller format is rounded to the nearest that the format has; or taken as
        codes where ``<name>_scale`` is there too, as `load_weights` reads them from a file that `save` wrote.

        Parameters
        ----------
        state_dict : mapping
            As `load_weights` or PyTorch's ``state_dict()`` give it.
        strict : bool
            Whether missing and unexpected names are errors.
        prefix : str
            Take only the names that begin so, as a submodule of a larger model: ``"decoder.rnn."``.

        Returns
        -------
        LoadResult
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        WeightsError
            If names, shapes or codes do not fit, or a format cannot hold a number: all of them are listed.
            The net is as before.
        """
        given = submodule(state_dict, prefix)
        tensors = self._tensors()
        counters = {f"{at}{_COUNTER}": leaf for at, leaf in self._leaves() if hasattr(leaf, _COUNTER)}
        scales = {tensor.name: tensor.name + SCALE for tensor in tensors if tensor.format in LEVELS}
        wanted = {tensor.name for tensor in tensors} | counters.keys() | set(scales.values())
        missing = [tensor.name for tensor in tensors if tensor.name not in given]
        unexpected = [name for name in given if name not in wanted]

        problems = []
        if strict and missing:
            problems.append(f"Missing key(s) in state_dict: {_quoted(missing)}.")
        if strict and unexpected:
            problems.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}.")
        arrays: dict[str, Array | Coded] = {}
        for tensor in tensors:
            if tensor.name in given:
                try:
                    arrays[tensor.name] = tensor.fitted(
                        given[tensor.name], given.get(scales.get(tensor.name, ""))
                    )
                except (TypeError, ValueError) as error:
                    problems.append(f"{error}.")
        counts = {}
        for name in (name for name in counters if name in given):
            count = np.asarray(given[name])
            if count.size != 1 or count.dtype.kind not in "iu":
                problems.append(f"{name}: {count.dtype} of shape {count.shape}, expected one integer.")
            else:
                counts[name] = int(count.reshape(()))
        if problems:
            problems += self._remarks(given, missing if strict else [], prefix)
            where = f" (prefix {prefix!r})" if prefix else ""
            what = f"Error(s) in loading state_dict for {type(self).__name__}{where}:"
            more = [f"and {len(problems) - 20} more."] if len(problems) > 20 else []
            raise WeightsError("\n\t".join([what, *problems[:20], *more]))

        for tensor in tensors:
            if tensor.name in arrays:
                if missing:
                    tensor.core.prepare()
                tensor.write(arrays[tensor.name])
        for name, number in counts.items():
            counters[name].__dict__[_COUNTER] = number
        return LoadResult(missing, unexpected)

    def _remarks(self, given: Mapping[str, Any], missing: list[str], prefix: str) -> list[str]:
        """What is likely to be wrong with a state_dict that does not fit: a prefix, another kind of layer."""
        remarks = []
        found = [
            before
            for before in _prefixes(missing[:1], given)
            if all(before + name in given for name in missing)
        ]
        if found:
            start = prefix if not prefix or prefix.endswith(".") else prefix + "."
            passed = " or ".join(f"prefix={start + before!r}" for before in found[:4])
            remarks.append(f"The missing names are there with a prefix: pass {passed}.")
        for at, leaf in self._leaves():
            names = [tensor.name for tensor in leaf._tensors() if at + tensor.name in given]
            try:
                mistaken = leaf._mistaken({name: np.shape(given[at + name]) for name in names})
            except ValueError:  # a list that is no array, which is reported already
                continue
            if mistaken:
                remarks.append(f"{at}{mistaken}.")
        return remarks

    @classmethod
    def _mistaken(cls, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """For a message: which other kind of layer has tensors of these shapes; empty if none is known."""
        return ""

    @classmethod
    def _inferred(cls, given: Mapping[str, ArrayLike], *arguments: Any, **named: Any) -> Self:
        """The layer that has these arguments, read off tensors, with those tensors loaded."""
        try:
            layer = cls(*arguments, **named)
        except ValueError as error:
            raise WeightsError(f"the tensors do not make a {cls.__name__}: {error}") from None
        layer.load_state_dict(given)
        return layer

    # ---- training: the loop -------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        loss: Any,
        optimizer: Any = "adam",
        validation_data: Any = None,
        metrics: Any = None,
        callbacks: Any = (),
        shuffle: bool = True,
        seed: int | None = None,
        lengths: ArrayLike | None = None,
        verbose: int = 1,
        threads: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "stop",
        bptt: int | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some epochs, each sample once in each.

        Arrays are samples first, whatever ``batch_first`` says. Samples of different lengths are put together
        with others of about their length, padded to the longest of the batch, and padding counts for nothing.

        Ctrl-C ends training after the step under way: the net keeps that step, and the history is
        returned, ``interrupted``. A second Ctrl-C raises at once.

        Where a callback cannot write its file, as the disk is full, there is a warning, and training goes on.
        Any other exception ends training; its attribute ``history`` is that of the epochs so far, and the net
        keeps its last step.

        Memory beside weights and data is laid out before the first step, for a batch of the longest
        sequence (of ``bptt`` steps) and for the short batch that is left over: ``History.memory`` says how
        much. Validation takes that of the outputs of a batch, with metrics of all outputs.

        Parameters
        ----------
        x : array_like
            ``(N, T, frame)``, or a list of N arrays ``(T_i, frame)``; ``(N, frame)`` for a net without
            recurrent layers. Whole numbers, and no frame, for an embedding.
        y : array_like
            A target of each step, ``(N, T, ...)`` or a list of N arrays ``(T_i, ...)``; or of each sequence,
            ``(N, ...)``, compared with the output of its last step. ``...`` is the output's frame, without
            the classes' axis where targets are class indices. For `CTCLoss` a list of label sequences, or
            the pair (labels ``(N, S)``, how many ``(N,)``).
        epochs : int
        batch_size : int
            The last batch of an epoch may be shorter; it is trained, too.
        loss : str or loss
            ``"mse"``, ``"l1"``, ``"huber"``, ``"cross_entropy"``, ``"bce_with_logits"``, ``"ctc"``, or an
            object such as ``tr.HuberLoss(delta=0.5)``.
        optimizer : str or optimiser
            ``"sgd"``, ``"rmsprop"``, ``"adagrad"``, ``"adam"``, ``"adamw"`` with PyTorch's defaults, or an
            object such as ``tr.optim.Adam(net, lr=0.01)``.
        validation_data : (x, y) or (x, y, lengths), optional
            Evaluated after each epoch: ``"val_loss"`` in the history.
        metrics : str, sequence or mapping, optional
            As `evaluate` takes them, measured on the validation data: ``"val_accuracy"``.
        callbacks : sequence of callbacks or schedules
            See `tinyrnn.callbacks`.
        shuffle : bool
            Whether each epoch has an order of its own, drawn from ``seed``. Otherwise samples keep their
            order, and different lengths are not sorted.
        seed : int, optional
            0 unless given. With ``resume`` leave it out, or give that run's.
        lengths : array_like of int, (N,), optional
            Steps of each sample of an array.
        verbose : int
            0: silent. 1: a bar in a terminal where tqdm is installed, and a line an epoch. 2: lines only.
        threads : int
            Threads that share a batch; the bits do not depend on it.
        clip_norm, clip_value, nonfinite
            As `trainer` takes them.
        bptt : int, optional
            Truncated BPTT: a step for each so many steps of a batch's sequences. The state is carried from
            one to the next, without its gradient, and is zero at the start of each batch. All samples must
            end in the same chunk.
        resume : str or os.PathLike, optional
            A file of `tinyrnn.callbacks.Checkpoint`: go on where it was written, to the same bits as if there
            had been no pause. Data, net, loss, optimiser, schedules, callbacks and all that changes the bits
            must be as that run had them, or it is an error; ``epochs`` may be more.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If data, net, loss and options do not fit, or data is not finite; the message names the sample.
            Nothing has changed then.
        LoadError, OSError
            If the checkpoint cannot be read. Nothing has changed then.
        """
        from tinyrnn.fitting import fit

        return fit(
            self,
            x,
            y,
            epochs,
            batch_size,
            loss=loss,
            optimizer=optimizer,
            validation_data=validation_data,
            metrics=metrics,
            callbacks=callbacks,
            shuffle=shuffle,
            seed=seed,
            lengths=lengths,
            verbose=verbose,
            threads=threads,
            clip_norm=clip_norm,
            clip_value=clip_value,
            nonfinite=nonfinite,
            bptt=bptt,
            resume=resume,
        )

    def predict(
        self,
        x: Any,
        batch_size: int = 32,
        *,
        lengths: ArrayLike | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """The outputs of many samples, in evaluation mode.

        Parameters
        ----------
        x, lengths
            As `fit` takes them.
        batch_size : int
            Samples that run at once; the bits do not depend on it.
        threads : int
        last : bool
            Only the output at each sample's own last step, which `fit` and `evaluate` compare with one target
            a sequence; see `Net.__call__`. After a sample's length there are zeros: ``[:, -1]`` is right only
            where all have the same.

        Returns
        -------
        ndarray, float32, (N, T, ...), or list of ndarray (T_i, ...) for a list
            Zeros after a sample's length. ``(N, ...)`` for ``(N, frame)``, and for ``last``.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If the samples do not fit the net.
        """
        from tinyrnn.fitting import predict

        return predict(self, x, batch_size, lengths, threads, last)

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        *,
        loss: Any,
        metrics: Any = None,
        lengths: ArrayLike | None = None,
        threads: int = 1,
    ) -> dict[str, float]:
        """The loss of many samples, and metrics, in evaluation mode.

        Parameters
        ----------
        x, y, lengths, loss
            As `fit` takes them.
        batch_size : int
            Samples that run at once, rounded up to a multiple of 32; the bits do not depend on it.
        metrics : str, sequence or mapping, optional
            ``"accuracy"`` for classes, or ``{"name": function}``. A function gets all outputs and targets at
            once: of each step, ``(n, ...)`` without padding; of each sequence, its last output and its
            target, ``(N, ...)``; for `CTCLoss` two lists of N.
        threads : int

        Returns
        -------
        dict of str to float
            ``"loss"``, the mean over all that counts (or the sum, where the loss is one), and each metric.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If the samples do not fit the net or the loss.
        """
        from tinyrnn.fitting import evaluate

        return evaluate(self, x, y, batch_size, loss, metrics, lengths, threads)

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and architecture to one safetensors file; `load` reads it back.

        The file is complete or not there: it gets its name when it is written, and an older one is kept until
        then.

        Raises
        ------
        ValueError
            If the name ends as another format's does, so that it would not be read again.
        OSError
            If it cannot be written. An existing file is then as before.
        """
        from tinyrnn.weights.safetensors import save_safetensors

        check_suffix(path)
        smaller = any(name != "float32" for name in self.formats.values())
        version = _VERSION if smaller else 1  # what an older tinyrnn can read, it may
        metadata = {"format": "np", "tinyrnn": json.dumps({"version": version, "net": self._describe()})}
        stored = self._stored()
        halves = {name for name, array in stored.items() if array.dtype == np.uint16}
        save_safetensors(path, stored, metadata, bfloat16=halves)

    def _describe(self) -> dict[str, Any]:
        description = {"type": type(self).__name__, "arguments": self.config()}
        formats = [core.format for core in self._cores()]
        if any(name != "float32" for name in formats):
            description["formats"] = formats
        return description

    def __reduce__(self) -> Any:
        frozen = [sorted(leaf._frozen) for _, leaf in self._leaves()]
        modes = [mode for _, mode in self._modes()]
        return _rebuild, (self._describe(), self._stored(), modes, frozen)


class Sequential(Net):
    """Layers in a row: each reads what the one before it writes.

    A recurrent layer passes its output sequence on; its final state is not returned. As in PyTorch,
    layers are named ``"0"``, ``"1"``, … or by the mapping's keys, and may be nets themselves.

    Parameters
    ----------
    *layers : Net, or one mapping from name to Net
        At least one.
    """

    def __init__(self, *layers: Net | Mapping[str, Net]) -> None:
        named: dict[str, Net] = {}
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named.update(layers[0])
        else:
            named.update({str(i): layer for i, layer in enumerate(layers)})  # type: ignore[misc]
        if not named:
            raise ValueError("Sequential: no layers")
        for name, layer in named.items():
            if not isinstance(layer, Net):
                raise TypeError(
                    f"Sequential: layer {name!r} is {type(layer).__name__}, expected a tinyrnn layer"
                )
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"Sequential: layer name {name!r} must be a non-empty string without dots")
        self._layers = MappingProxyType(named)
        self._recurrent = any(layer._recurrent for layer in named.values())
        self._all_leaves = [
            (f"{name}.{prefix}", leaf) for name, layer in named.items() for prefix, leaf in layer._leaves()
        ]
        inner = [layer._depth for layer in named.values() if isinstance(layer, Sequential)]
        self._depth: int = 1 + max(inner, default=0)
        if self._depth > _NESTING:
            raise ValueError(f"Sequential: nested {self._depth} deep, expected at most {_NESTING}")

    def __call__(
        self,
        x: ArrayLike,
        hx: None = None,  # where recurrent layers have their initial state
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Run the net; see `Net.__call__`. Without recurrent layers each sees the whole array in turn, and
        each keeps what it has worked out."""
        if hx is not None:
            raise self._misplaced()
        if self._recurrent or self.training:
            return super().__call__(x, lengths=lengths, state=state, threads=threads, last=last)
        self._check_stateless(lengths, state, last)
        for name, layer in self._layers.items():
            try:
                x = layer(x, threads=threads)
            except ShapeError as error:
                raise ShapeError(f"{name}: {error}") from None
        return x

    def _children(self) -> Iterable[Net]:
        return self._layers.values()

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Net]:
        return iter(self._layers.values())

    def __getitem__(self, which: int | str) -> Net:
        return self._layers[which] if isinstance(which, str) else list(self._layers.values())[which]

    def __getattr__(self, name: str) -> Any:
        layers = self.__dict__.get("_layers", {})
        if name in layers:
            return layers[name]
        raise absent(self, "layer", name)

    def _refusal(self, name: str, value: Any) -> AttributeError:
        if name in self._layers:
            return AttributeError(
                f"{type(self).__name__}.{name}: layers are fixed when the net is made; build a new "
                "Sequential with the other layer in its place"
            )
        return super()._refusal(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *filter(str.isidentifier, self._layers)})

    def __repr__(self) -> str:
        rows = [f"  ({name}): " + repr(layer).replace("\n", "\n  ") for name, layer in self._layers.items()]
        return "Sequential(\n" + "\n".join(rows) + "\n)"

    def _describe(self) -> dict[str, Any]:
        layers = {name: layer._describe() for name, layer in self._layers.items()}
        return {"type": "Sequential", "layers": layers}

    def _leaves(self) -> list[tuple[str, Net]]:
        return self._all_leaves

    def _tensors(self) -> list[Tensor]:
        return [
            tensor._replace(name=f"{name}.{tensor.name}")
            for name, layer in self._layers.items()
            for tensor in layer._tensors()
        ]

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        for name, layer in self._layers.items():
            try:
                frame = layer._lay(frame, lead, cores)
            except ShapeError as error:
                raise ShapeError(f"{name}: {error}") from None
        return frame

    def _rank(self, ndim: int) -> int | None:
        ranks = (layer._rank(ndim) for layer in self)
        return next((rank for rank in ranks if rank is not None), None)

    def _frame(self) -> tuple[int | None, ...] | None:
        frames = (layer._frame() for layer in self)
        return next((frame for frame in frames if frame is not None), None)


# ---- helpers ------------------------------------------------------------------------------------


def submodule(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries below ``prefix``, without it. The prefix may leave its last dot out."""
    for name in state_dict:
        if not isinstance(name, str):
            raise WeightsError(f"a tensor's name is {name!r}, expected a string")
    if prefix and not prefix.endswith("."):
        prefix += "."
    found = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if prefix and not found:
        raise WeightsError(f"no tensor's name begins with {prefix!r}; there are {_quoted(state_dict)}")
    return found


def _prefixes(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """What comes before one of the wanted names in some of ``names``, with the dot."""
    found = [full.removesuffix(name) for name in wanted for full in names if full.endswith(f".{name}")]
    return list(dict.fromkeys(found))


def lacking(kind: str, name: str, given: Iterable[str], spellings: tuple[str, ...] = ()) -> WeightsError:
    """The error of a state_dict without a tensor that tells a layer's sizes, whichever way it is spelt."""
    names = list(given)
    found = _prefixes(spellings or (name,), names)
    hint = f"; {found[0]}{name} is: pass prefix={found[0]!r}" if found else ""
    return WeightsError(f"{kind}: {name} is missing{hint}; there are {_quoted(names) or 'no tensors'}")


def _quoted(names: Any) -> str:
    listed = list(names)
    first = ", ".join(f'"{shown(str(name))}"' for name in listed[:20])
    return first + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")


def _has_default(kind: type[Net], argument: str) -> bool:
    from inspect import Parameter, signature

    parameter = signature(kind.__init__).parameters.get(argument)
    return parameter is not None and parameter.default is not Parameter.empty


def check_suffix(path: str | os.PathLike[str]) -> None:
    """An error if a name ends as that of another format than `Net.save` writes."""
    from tinyrnn.weights import source_of_suffix
    from tinyrnn.weights.safetensors import SOURCE

    if source_of_suffix(path) not in (None, SOURCE):
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        raise ValueError(
            f"{os.fspath(path)}: save writes safetensors, expected a name that ends so, not {suffix}"
        )


def load(path: str | os.PathLike[str]) -> Net:
    """The net that `Net.save` wrote, ready to run.

    Raises
    ------
    LoadError
        If the file is no safetensors file, holds no architecture of tinyrnn's, or its tensors do not
        fit that architecture.
    OSError
        If it cannot be read.
    """
    from tinyrnn.weights import opened

    with opened(path) as file:
        return net_in(file)


def net_in(file: WeightsFile) -> Net:
    """The net in an open file; errors as `load` has them."""
    text = file.info.metadata.get("tinyrnn")
    if text is None:
        raise file.error(
            "holds weights but no architecture; build the net and use "
            "net.load_state_dict(tinyrnn.load_weights(path))"
        )
    try:
        architecture = json.loads(text)
        version = architecture["version"]
        if version not in range(1, _VERSION + 1):
            raise file.error(
                f"written in version {shown(repr(version))}, expected at most {_VERSION}: update tinyrnn"
            )
        weights = file.weights()
        levels = _levels(architecture["net"], 0)
        if levels > _SPARE_LEVELS + len(weights):
            raise file.error(f"{levels} layers in its metadata, {len(weights)} tensors")
        net = _build(architecture["net"])
        net.load_state_dict(weights)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, LoadError):
            raise
        raise file.error(f"the architecture in its metadata does not build: {error}") from None
    return net


def _rebuild(
    description: dict[str, Any],
    state_dict: dict[str, NDArray[Any]],
    modes: Sequence[bool] = (),
    frozen: Sequence[Sequence[str]] = (),
) -> Net:
    """A copy of a net, for `copy` and `pickle`: all but gradients and the tape."""
    net = _build(description)
    net.load_state_dict(state_dict)
    for (_, leaf), names in zip(net._leaves(), frozen, strict=False):  # not in older pickles
        leaf._frozen.update(names)
    for (part, _), mode in zip(net._modes(), modes, strict=False):
        part.training = mode
    return net


def _levels(description: dict[str, Any], depth: int, place: int = 0) -> int:
    """How many core layers a description asks for, so that it can be refused before they are made.

    `place` is the length of the dotted name so far: every layer below has all of it.
    """
    if depth > _NESTING:
        raise ValueError(f"nets are nested more than {_NESTING} deep")
    if place > MAX_NAME:
        raise ValueError(f"a layer's name has {place} characters, expected at most {MAX_NAME}")
    if description["type"] == "Sequential":
        layers = description["layers"].items()
        return 1 + sum(_levels(layer, depth + 1, place + len(name) + 1) for name, layer in layers)
    levels = description["arguments"].get("num_layers", 1)
    return levels if isinstance(levels, int) and levels > 1 else 1


def _build(description: dict[str, Any]) -> Net:
    """A net from what `Net._describe` gave; nothing is allocated until weights come."""
    kind = description["type"]
    if kind == "Sequential":
        return Sequential({str(name): _build(layer) for name, layer in description["layers"].items()})
    if kind not in Net.types:
        raise ValueError(f"unknown layer type {kind!r}")
    arguments = description["arguments"]
    unknown = set(arguments) - set(Net.types[kind].arguments)
    if unknown:
        raise ValueError(f"{kind}: unknown arguments {sorted(unknown)}")
    layer = Net.types[kind].__new__(Net.types[kind])
    layer.__dict__["_restored"] = True  # whoever made it first was warned
    layer.__init__(**arguments)  # type: ignore[misc]
    if "formats" in description:
        formats = description["formats"]
        if not isinstance(formats, list) or len(formats) != len(layer._cores()):
            raise ValueError(f"{kind}: formats must be a list of {len(layer._cores())}")
        layer._reformat([check_format(f"{kind}: format", name) for name in formats])
    return layer
