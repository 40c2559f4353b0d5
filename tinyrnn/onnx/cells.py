"""LSTM, GRU and RNN: ONNX's operators as tinyrnn's layers.

ONNX has the gates of an LSTM as ``i o f c`` and those of a GRU as ``z r h``. Its outputs are ``Y`` of shape
(T, directions, B, H), with ``layout=1`` (B, T, directions, H), and the last states, (directions, B, H).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.gates import FUNCTIONS, Function
from tinyrnn.importing import CodedArray, Unfit, weighted
from tinyrnn.onnx.symbols import (
    BATCH,
    TIME,
    Axis,
    Matrix,
    Symbol,
    claim,
    is_frame,
    part,
    reframed,
)
from tinyrnn.ops import concat
from tinyrnn.recurrent import GRU, LSTM, RNN
from tinyrnn.values import Value
from tinyrnn.weights.spec import Array, shown

# For each operator: its layer, the places in ONNX of PyTorch's gates, and its states.
CELLS: dict[str, tuple[type[Any], tuple[int, ...], tuple[str, ...]]] = {
    "LSTM": (LSTM, (0, 2, 3, 1), ("h", "c")),
    "GRU": (GRU, (1, 0, 2), ("h",)),
    "RNN": (RNN, (0,), ("h",)),
}

# The functions of gates, and the arguments that they are.
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_ARGUMENTS = {
    "LSTM": ("recurrent_activation", "activation", "output_activation"),
    "GRU": ("recurrent_activation", "activation"),
    "RNN": ("nonlinearity",),
}


class Direction(NamedTuple):
    """The weights of one direction of a node, by PyTorch's names."""

    tensors: dict[str, Matrix]
    options: dict[str, Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """Directions of one layer have the same; each may have its own functions."""
        shapes = tuple((name, array.shape) for name, array in self.tensors.items())
        functions = [name for names in _ARGUMENTS.values() for name in names]
        return shapes, tuple(sorted(item for item in self.options.items() if item[0] not in functions))


class Level(NamedTuple):
    """A layer of one or two directions that was built, for the nodes that it stands for.

    Attributes
    ----------
    value : Value
    size : int
        Of the state of a direction.
    """

    value: Value
    size: int


def directions_of(op: str, call: Any, x: Symbol) -> list[Direction]:
    """The weights of each direction of a node that reads x, the forward one first.

    Raises
    ------
    Unfit
        If they have other shapes than the operator wants, or a formula that no layer has.
    """
    attributes = call.attributes
    _kind, order, _ = CELLS[op]
    count = len(order)
    w, r = (call.weight(i, name, x.rounded) for i, name in ((1, "W"), (2, "R")))
    if w.ndim != 3 or r.ndim != 3:
        raise Unfit(f"W and R have {w.ndim} and {r.ndim} axes, expected 3")
    way = attributes.get("direction", "forward")
    if way not in ("forward", "reverse", "bidirectional"):
        raise Unfit(f"direction is {shown(str(way))}, expected 'forward', 'reverse' or 'bidirectional'")
    directions = 1 + (way == "bidirectional")
    hidden, inputs = r.shape[2], w.shape[2]
    if attributes.get("hidden_size", hidden) != hidden:
        raise Unfit(f"hidden_size is {attributes['hidden_size']}, but R has shape {r.shape}")
    wanted: dict[str, tuple[Array, tuple[int, ...]]] = {
        "W": (w, (directions, count * hidden, inputs)),
        "R": (r, (directions, count * hidden, hidden)),
    }
    bias = call.array(3, "B") if call.has(3) else None
    if bias is not None:
        wanted["B"] = (bias, (directions, 2 * count * hidden))
    peephole = call.array(7, "P") if op == "LSTM" and call.has(7) else None
    if peephole is not None:
        wanted["P"] = (peephole, (directions, 3 * hidden))
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise Unfit(f"{name} has shape {array.shape}, expected {shape}")
    found = []
    for d in range(directions):
        options = options_of(op, attributes, d, directions)
        coupled = options.get("coupled", False)
        gates = [gate for gate in order if not (coupled and gate == 2)]
        rows = np.add.outer(np.multiply(gates, hidden), np.arange(hidden)).reshape(-1)
        tensors = {f"weight_{name}_l0": one[d][rows] for name, one in (("ih", w), ("hh", r))}
        if bias is not None:
            tensors |= {
                f"bias_{n}_l0": one[rows] for n, one in zip(("ih", "hh"), np.split(bias[d], 2), strict=True)
            }
        if peephole is not None:
            i, o, f = np.split(peephole[d], 3)
            tensors["weight_peephole_l0"] = np.concatenate([i, o] if coupled else [i, f, o])
            options["peephole"] = True
        found.append(Direction(tensors, {**options, "bias": bias is not None}))
    return found


def functions_of(op: str, attributes: dict[str, Any], directions: int) -> list[Function]:
    """The functions of a node's gates, as tinyrnn names them, of one direction after the other.

    ``activation_alpha`` and ``activation_beta`` have a number for each function that takes one, in order.
    """
    each = len(_DEFAULTS[op])
    given = attributes.get("activations") or list(_DEFAULTS[op]) * directions
    if len(given) != each * directions:
        raise Unfit(f"got {len(given)} activations, expected {each * directions}")
    numbers = [iter(attributes.get(f"activation_{name}") or ()) for name in ("alpha", "beta")]
    own = {name.replace("_", ""): name for name in FUNCTIONS}
    found: list[Function] = []
    for each_name in given:
        name = own.get(each_name.lower())
        if name is None:
            raise Unfit(f"got the activation {shown(each_name)}, expected one of {', '.join(sorted(own))}")
        taken = [next(left, None) for left, _ in zip(numbers, FUNCTIONS[name], strict=False)]
        whole = [two if one is None else one for one, two in zip(taken, FUNCTIONS[name], strict=True)]
        if None in whole:
            raise Unfit(f"got the activation {shown(each_name)} without its alpha and beta, expected both")
        found.append((name, *whole) if whole else name)
    return found


def options_of(op: str, attributes: dict[str, Any], direction: int, directions: int) -> dict[str, Any]:
    """The arguments of a direction's layer that select its formula."""
    each = len(_DEFAULTS[op])
    own = functions_of(op, attributes, directions)[direction * each : (direction + 1) * each]
    options: dict[str, Any] = dict(zip(_ARGUMENTS[op], own, strict=True))
    if attributes.get("clip"):
        options["clip"] = attributes["clip"]
    if op == "GRU":
        options["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    if op == "LSTM" and attributes.get("input_forget"):
        options["coupled"] = True
    return options


def time_and_batch(x: Symbol, layout: int, builder: Any) -> tuple[Axis, Axis]:
    """The axes of time and of the batch of a node's X.

    Raises
    ------
    Retry
        If an axis of an input turns out to be one of them.
    """
    if x.rank != 3:
        raise Unfit(f"X has {x.rank} axes, expected 3")
    time, batch = (x.axes[1], x.axes[0]) if layout else (x.axes[0], x.axes[1])
    for axis, kind in ((time, TIME), (batch, BATCH)):
        claim(axis, kind)
    if len(time) > 1 or (time and time[0].kind != TIME):
        builder.learned.lacks_time = is_frame(time)
        raise Unfit("the first axis of X is not time alone, as the net uses it elsewhere")
    if any(atom.kind != BATCH for atom in batch):
        raise Unfit("the axis of X for the batch is something else, as the net uses it elsewhere")
    return time, batch


def layer_of(op: str, first: Direction, second: Direction | None) -> Any:
    """A layer of one direction, or of two."""
    kind = CELLS[op][0]
    _rows, inputs = first.tensors["weight_ih_l0"].shape
    hidden = first.tensors["weight_hh_l0"].shape[1]
    options = dict(first.options)
    if second is not None:
        options |= {name: (options[name], second.options[name]) for name in _ARGUMENTS[op]}
    layer = kind(inputs, hidden, bidirectional=second is not None, **options)
    tensors = first.tensors
    if second is not None:
        tensors = tensors | {f"{name}_reverse": array for name, array in second.tensors.items()}
    return weighted(layer, **tensors)


def silent(like: Direction) -> Direction:
    """A direction whose output nobody reads."""
    return like._replace(
        tensors={
            name: array * 0 if isinstance(array, CodedArray) else np.zeros_like(array)
            for name, array in like.tensors.items()
        }
    )


def recurrent(call: Any) -> list[Any]:
    """The outputs of a node: Y, and its last states as `Places`."""
    op, builder = call.node.op, call.builder
    _, _, states = CELLS[op]
    layout = call.attributes.get("layout", 0)
    x = call.symbol(0)
    own = directions_of(op, call, x)
    time, batch = time_and_batch(x, layout, builder)
    hidden = own[0].tensors["weight_hh_l0"].shape[1]
    inputs = own[0].tensors["weight_ih_l0"].shape[1]
    if not is_frame(x.axes[2]) or math.prod(x.value.frame) != inputs:
        raise Unfit(
            f"X has {math.prod(x.value.frame)} numbers at a step, expected {inputs}, as W has columns"
        )
    if not time and builder.has_time:
        raise Unfit("reads one step in a net of sequences, which no layer of tinyrnn does")
    mask = call.lengths(4, time)
    backwards = (call.attributes.get("direction") == "reverse") != x.reversed
    starts = [call.start(5 + i, len(own), hidden, layout, batch) for i in range(len(states))]
    pair = len(own) == 2
    if pair and x.reversed:
        own = own[::-1]
    level, place = builder.levels.of_node(
        op, call.node, reframed(x.value, (inputs,)), own, backwards and not pair, starts, mask, call.has(4)
    )
    value = level.value if mask is None else level.value * mask
    if not pair and value.frame[-1] != hidden:  # one direction of a layer of two
        value = value[..., place * hidden : (place + 1) * hidden]
    if pair and x.reversed:
        value = concat([value[..., hidden:], value[..., :hidden]])
    direction = part(len(own))
    axes = [batch, time, direction, part(hidden)] if layout else [time, direction, batch, part(hidden)]
    order = [1, 0] if pair and x.reversed else [place] if not pair else [0, 1]
    finals = []
    for i, state in enumerate(states):
        builder.states.begins(level, state, starts[i], order, hidden)
        finals.append(builder.states.final(level, state, order, hidden, layout, batch))
    return [Symbol(value, axes, x.reversed), *finals]
