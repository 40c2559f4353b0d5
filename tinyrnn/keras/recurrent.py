"""Recurrent layers of Keras: SimpleRNN, LSTM, GRU, stacks of cells, and both directions.

Keras has kernels as (inputs, gates * units), the gates of an LSTM as ``i f c o``, those of a GRU as
``z r h``. A GRU with ``reset_after`` has a bias of two rows, the second one of the hidden product. The layers
of cuDNN have kernels in cuDNN's order and two biases, one behind the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import Unfit, weighted
from tinyrnn.keras.config import Entry, entry_of
from tinyrnn.keras.functions import gate_of
from tinyrnn.keras.symbols import Call, Seen
from tinyrnn.keras.variables import backward_of, cells_of, numbered
from tinyrnn.ops import Slice, concat
from tinyrnn.recurrent import GRU, LSTM, RNN
from tinyrnn.temporal import FinalState, LastStep, Repeat
from tinyrnn.values import Value, applied
from tinyrnn.weights.spec import Array, shown

# By class of Keras: the layer, and the places in Keras of PyTorch's gates.
CELLS: dict[str, tuple[type[Any], tuple[int, ...]]] = {
    "SimpleRNN": (RNN, (0,)),
    "LSTM": (LSTM, (0, 1, 2, 3)),
    "GRU": (GRU, (1, 0, 2)),
}
_FUNCTIONS = {"activation": "tanh", "recurrent_activation": "sigmoid", "nonlinearity": "tanh"}


class Cell(NamedTuple):
    """One level of one direction: its layer, arguments and tensors by PyTorch's names."""

    kind: type[Any]
    units: int
    inputs: int
    options: dict[str, Any]
    tensors: dict[str, Array]
    path: str

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.kind is LSTM else ("h",)

    @property
    def key(self) -> Any:
        """Directions of one layer have the same."""
        rest = tuple(sorted((k, v) for k, v in self.options.items() if k not in _FUNCTIONS))
        return self.kind, self.units, self.inputs, rest, tuple(self.tensors)


def cell_of(call: Call, entry: Entry, place: str, inputs: int) -> Cell:
    """The cell that an entry describes, reading so many numbers."""
    name = entry.kind.removesuffix("Cell")
    is_cudnn = name.startswith("CuDNN")
    name = name.removeprefix("CuDNN")
    if name not in CELLS:
        raise Unfit(
            f"has a cell of type {shown(entry.kind)}, expected SimpleRNNCell, LSTMCell or GRUCell: give a "
            f"layer in place of all, load(path, custom={{{shown(call.entry.name)!r}: ...}})"
        )
    kind, order = CELLS[name]
    count = len(order)
    inner = Call(entry, [], [], {}, call.builder, call.path)
    units = inner.whole("units")
    with_bias = is_cudnn or bool(entry.get("use_bias", True))
    kernel = inner.array("kernel", (inputs, count * units), place)
    recurrent = inner.array("recurrent_kernel", (units, count * units), place)
    options: dict[str, Any] = {"bias": with_bias}
    for ours in ("nonlinearity",) if kind is RNN else ("activation", "recurrent_activation"):
        theirs, default = "activation" if kind is RNN else ours, _FUNCTIONS[ours]
        options[ours] = gate_of(default if is_cudnn else entry.get(theirs, default), call.builder.major)

    def gates(array: Array) -> Array:
        """The gates' rows in PyTorch's order, of (..., gates * units)."""
        parts, has_rows = np.split(array, count, -1), is_cudnn and array.ndim > 1  # cuDNN's matrices
        return np.concatenate([parts[i].reshape(units, -1) if has_rows else parts[i].T for i in order])

    tensors = {"weight_ih": gates(kernel), "weight_hh": gates(recurrent)}
    reset_after = is_cudnn
    if with_bias:
        bias = inner.array("bias", None, place)
        bias = bias.reshape(2, -1) if is_cudnn else bias
        reset_after = bias.ndim == 2
        both = (2, count * units)
        wanted = both if is_cudnn or (name == "GRU" and entry.get("reset_after", reset_after)) else both[1:]
        if bias.shape != wanted:
            raise Unfit(f"bias has shape {bias.shape}, expected {wanted}")
        rows = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        tensors["bias_ih"], tensors["bias_hh"] = map(gates, rows)
    if name == "GRU":
        options["reset_after"] = is_cudnn or bool(entry.get("reset_after", reset_after))
    return Cell(kind, units, inputs, options, tensors, f"{call.path}{place}")


class Way(NamedTuple):
    """The cells of one direction, the lowest first, and the values that their states begin with."""

    cells: list[Cell]
    starts: list[Value]


class Run(NamedTuple):
    """The outputs of a direction: a value at each step of the sequence, and the final states."""

    value: Value
    finals: list[Value]
    forwards: bool
    last: Value  # the output of its last step


def cells_in(call: Call, entry: Entry, place: str, inputs: int) -> list[Cell]:
    """The cells of a recurrent layer."""
    if entry.kind.startswith("CuDNN"):
        return [cell_of(call, entry, place, inputs)]
    if entry.kind != "RNN":
        return [cell_of(call, entry, f"{place}cell/", inputs)]
    cell = entry_of(entry.get("cell"))
    if cell.kind != "StackedRNNCells":
        return [cell_of(call, cell, f"{place}cell/", inputs)]
    found: list[Cell] = []
    for inner, one in numbered(f"{place}cell/cells/", cells_of(cell)):
        found.append(cell_of(call, one, inner, found[-1].units if found else inputs))
    return found


def started(cell: Cell, starts: list[Value]) -> list[Value]:
    """Take a cell's states from those that begin."""
    own = [starts.pop(0) for _ in cell.states] if starts else []
    for value in own:
        if value.frame != (cell.units,) or value.time is not None:
            raise Unfit(f"a state begins with {value!r}, expected frames of ({cell.units},), one a sequence")
    return own


def run_one(
    call: Call, cells: Sequence[Cell], value: Value, starts: list[Value], backwards: bool, mask: Value | None
) -> Run:
    """Run cells in one direction: backwards they are one half of a layer of two."""
    finals: list[Value] = []
    for cell in cells:
        own = started(cell, starts)

        def make(cell: Cell = cell) -> Any:
            layer = cell.kind(cell.inputs, cell.units, bidirectional=backwards, **cell.options)
            suffix = "_l0_reverse" if backwards else "_l0"
            tensors = {f"{name}{suffix}": array for name, array in cell.tensors.items()}
            if backwards:  # nobody reads the forward half
                tensors |= {f"{name}_l0": np.zeros_like(array) for name, array in cell.tensors.items()}
            return weighted(layer, **tensors)

        if backwards:
            own = [concat([one, one]) for one in own]
        y = call.put(cell.path.removeprefix(call.path), make, value, *pack(own), mask=mask)
        at = slice(cell.units, None) if backwards else slice(None)
        states = [FinalState(state)(y) for state in cell.states]
        finals += [one[..., at] if backwards else one for one in states]
        value = y[..., at] if backwards else y
    last = finals[-len(cells[-1].states)] if backwards else applied(LastStep(), (value,))
    return Run(value, finals, not backwards, last)


def pack(own: list[Value]) -> tuple[Any, ...]:
    """Starting values as layers take them."""
    return () if not own else (own[0] if len(own) == 1 else tuple(own),)


def run_both(call: Call, value: Value, one: Way, other: Way, mask: Value | None) -> tuple[Run, Run]:
    """Run both directions of a Bidirectional: one layer if they have the same form."""
    a, b = one.cells[0], other.cells[0]
    if len(one.cells) > 1 or len(other.cells) > 1 or a.key != b.key:
        forward = run_one(call, one.cells, value, one.starts, False, mask)
        return forward, run_one(call, other.cells, value, other.starts, True, mask)

    def make() -> Any:
        own, other = a.options, b.options
        options = {key: one if one == other[key] else (one, other[key]) for key, one in own.items()}
        layer = a.kind(a.inputs, a.units, bidirectional=True, **options)
        tensors = {f"{name}_l0": array for name, array in a.tensors.items()}
        tensors |= {f"{name}_l0_reverse": array for name, array in b.tensors.items()}
        return weighted(layer, **tensors)

    starts = [concat(pair) for pair in zip(started(a, one.starts), started(b, other.starts), strict=True)]
    y = call.put("both/", make, value, *pack(starts), mask=mask)
    states = [FinalState(state)(y) for state in a.states]
    size = a.units
    runs = [
        Run(y[..., part], (halves := [state[..., part] for state in states]), forwards, halves[0])
        for part, forwards in ((slice(size), True), (slice(size, None), False))
    ]
    return runs[0], runs[1]


def begins(call: Call) -> list[Value]:
    """The values that states begin with: all that a call reads beside its sequence."""
    for one in call.given[1:]:
        if one.timed:
            raise Unfit("a state begins with a sequence, expected one frame for each row")
    return [one.whole().last() for one in call.given[1:]]


def sequence(call: Call) -> tuple[Seen, Value, Value | None]:
    """The sequence that a recurrent layer reads, in frames of one axis, and its mask."""
    x = call.builder.sequence(call.given[0])
    if not x.timed:
        within = ", where a step of TimeDistributed is: save what is within as a model of its own"
        raise Unfit(
            f"reads frames of shape {x.shape} without steps, expected a sequence"
            f"{within if call.builder.within_step else ''}"
        )
    if len(x.shape) != 1:
        raise Unfit(f"reads frames of shape {x.shape}, expected one axis")
    if call.get("time_major", False):
        raise Unfit("time_major is True, expected False")
    mask = call.mask(x)
    if "mask" in call.kwargs and mask is not None and call.builder.major == 2:
        x = replace(x, masked=call.builder.new_mask(call.entry.name, mask))  # and so has the output
    if mask is not None and len(call.given) > 1:
        raise Unfit("begins with states and leaves out steps: Keras writes zeros before the first one")
    return x, x.last(), mask


def plain(call: Call) -> list[Seen] | Seen:
    """SimpleRNN, LSTM, GRU, RNN and the layers of cuDNN."""
    x, value, mask = sequence(call)
    cells = cells_in(call, call.entry, "", value.frame[-1])
    backwards = bool(call.get("go_backwards", False)) != x.backwards
    starts = begins(call)
    if len(starts) not in (0, sum(len(cell.states) for cell in cells)):
        raise Unfit(f"begins with {len(starts)} states, expected {sum(len(cell.states) for cell in cells)}")
    run = run_one(call, cells, value, starts, backwards, mask)
    y = outputs_of(x, run, bool(call.get("return_sequences", False)))
    return [y, *map(x.alone, run.finals)] if call.get("return_state", False) else y


def one_step(call: Call) -> list[Seen]:
    """A cell that is called as a layer: one step of a sequence, and the states behind it."""
    if not call.given or call.given[0].timed:
        raise Unfit("reads a sequence, expected the frame of one step")
    value, starts = call.given[0].whole().last(), begins(call)
    cell = cell_of(call, call.entry, "", value.frame[-1])
    if len(starts) != len(cell.states):
        raise Unfit(f"begins with {len(starts)} states, expected {len(cell.states)}")
    ahead = call.builder.with_steps(1)
    run = run_one(call, [cell], Repeat()(value, ahead), starts, False, None)
    return [*map(call.given[0].alone, [run.last, *run.finals])]


def outputs_of(x: Seen, run: Run, sequences: bool) -> Seen:
    """The sequence that a direction writes, in the order of its steps, or its last step."""
    return x.new(run.value, backwards=not run.forwards) if sequences else x.alone(run.last)


def joined(a: Value, b: Value) -> Value:
    """Two values side by side; two halves of one are that one."""
    parts = (a.layer, b.layer)
    if all(isinstance(one, Slice) for one in parts) and a.reads == b.reads:
        whole = a.reads[0]
        if parts[0].start == 0 and parts[1].start == parts[0].size == whole.frame[-1] - parts[1].size:
            return whole
    return concat([a, b])


_MERGES = {
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) * 0.5,
    "concat": joined,
}


def bidirectional(call: Call) -> list[Seen] | Seen:
    x, value, mask = sequence(call)
    entries = [entry_of(call.get("layer")), backward_of(call.entry)]
    for entry in entries:
        known = entry.kind.removeprefix("CuDNN")
        if known not in CELLS and entry.kind != "RNN":
            raise Unfit(f"has a layer of type {shown(entry.kind)}, expected a recurrent one")
    backwards = [bool(entry.get("go_backwards", False)) != x.backwards for entry in entries]
    if backwards[0] == backwards[1]:
        raise Unfit("has two layers of one direction, expected one of each")
    places = ("forward_layer/", "backward_layer/")
    cells = [
        cells_in(call, entry, place, value.frame[-1]) for entry, place in zip(entries, places, strict=True)
    ]
    starts = begins(call)
    half = sum(len(cell.states) for cell in cells[0])
    if len(starts) not in (0, half + sum(len(cell.states) for cell in cells[1])):
        raise Unfit(f"begins with {len(starts)} states, expected {2 * half}")
    ways = [Way(cells[0], starts[:half]), Way(cells[1], starts[half:])]
    order = [1, 0] if backwards[0] else [0, 1]
    runs = run_both(call, value, ways[order[0]], ways[order[1]], mask)
    runs = (runs[order[0]], runs[order[1]])
    sequences = bool(entries[0].get("return_sequences", False))
    outs = [outputs_of(x, run, sequences) for run in runs]
    finals = (
        [x.alone(one) for run in runs for one in run.finals] if entries[0].get("return_state", False) else []
    )
    mode = call.get("merge_mode", "concat")
    if mask is not None and sequences:  # where Bidirectional writes zeros
        outs = [replace(one, value=one.value * mask) for one in outs]
    outs[1] = replace(outs[1], backwards=outs[0].backwards)  # Keras turns the second one
    if mode is None:
        return [*outs, *finals]
    if mode not in _MERGES:
        raise Unfit(f"merge_mode is {shown(repr(mode))}, expected one of {', '.join(_MERGES)} or None")
    merged = replace(outs[0], value=_MERGES[mode](outs[0].value, outs[1].value))
    merged = replace(merged, shape=merged.value.frame)
    return [merged, *finals] if finals else merged
