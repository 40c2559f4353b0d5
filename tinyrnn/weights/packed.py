"""Packed weights of PyTorch's quantised layers: which tensors they hold, under the names of float layers.

`torch.ao.quantization.quantize_dynamic` makes layers whose state_dict has, in place of tensors,

* of a Linear ``_packed_params._packed_params``, the pair of weight and bias;
* of an LSTMCell or its like ``_packed_weight_ih`` and ``_packed_weight_hh``, objects whose state is such a
  pair;
* of an LSTM or GRU ``_all_weight_values.<i>.param`` for each level and direction: an object whose state has
  the biases and two such objects.

A weight is marked as `View.packed`: its codes are kept, where int8 has them.
"""

from __future__ import annotations

import re
from typing import Any

from tinyrnn.weights.pickles import Object, View
from tinyrnn.weights.spec import Reader, shown

_RECURRENT = re.compile(r"(.*)_all_weight_values\.(\d{1,4})\.param", re.DOTALL)
_CELL = re.compile(r"(.*)_packed_weight_(ih|hh)", re.DOTALL)
_LINEAR = "_packed_params._packed_params"
# Entries of a packed Linear that its weight and bias make idle: of the output, and the weight's dtype.
_IDLE = ("scale", "zero_point", "_packed_params.dtype")

Parts = dict[Any, Any]


def is_packed(value: object) -> bool:
    """Tell whether an object's state has the form of packed weights."""
    return type(value) is Object and tensors_of(value) is not None


def tensors_of(value: object) -> list[View] | None:
    """The weight and the bias of packed weights, or those of a level and direction, weights first."""
    found = _pair(value) or _level(value)
    return None if found is None else [one for one in found if one is not None]


def spread(reader: Reader, parts: Parts) -> Parts:
    """Replace packed weights among a state_dict's entries by their tensors."""
    levels: dict[str, dict[int, list[Any]]] = {}
    found: Parts = {}
    idle: set[str] = set()
    for name, part in parts.items():
        if type(name) is not str or type(part) not in (Object, tuple):
            found[name] = part
        elif name.endswith(_LINEAR) and (pair := _pair(part)) is not None:
            prefix = name.removesuffix(_LINEAR)
            found |= _named(prefix, ("weight", "bias"), pair)
            idle.update(prefix + last for last in _IDLE)
        elif (cell := _CELL.fullmatch(name)) and (pair := _pair(part)) is not None:
            found |= _named(cell[1], (f"weight_{cell[2]}", f"bias_{cell[2]}"), pair)
        elif (one := _RECURRENT.fullmatch(name)) and (level := _level(part)) is not None:
            levels.setdefault(one[1], {})[int(one[2])] = level
            found[name] = part  # for its place
        else:
            found[name] = part
    for prefix, by_number in levels.items():
        directions = _directions(reader, prefix, by_number)
        for number, level in by_number.items():
            end = f"_l{number // directions}" + "_reverse" * (number % directions)
            del found[f"{prefix}_all_weight_values.{number}.param"]
            names = [f"{what}{end}" for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            found |= _named(prefix, names, level)
    return {name: part for name, part in found.items() if name not in idle}


def _named(prefix: str, names: Any, tensors: Any) -> Parts:
    return {prefix + name: one for name, one in zip(names, tensors, strict=True) if one is not None}


def _state(value: object) -> Any:
    """The state of an object, without the class's name that stands beside it."""
    state: Any = value.state if type(value) is Object else value
    named = type(state) is tuple and len(state) == 2 and type(state[0]) is tuple and type(state[1]) is str
    return state[0] if named else state


def _pair(value: object) -> tuple[View, View | None] | None:
    """A weight, which gets its mark, and its bias."""
    match _state(value):
        case (View(shape=(int(rows), int(columns))) as weight, (View() | None) as bias) if (
            type(rows) is type(columns) is int
        ):
            weight.packed = True
            return weight, bias
    return None


def _level(value: object) -> list[Any] | None:
    """Weights and biases of one level and direction: ih and hh of the weights, then of the biases."""
    match _state(value):
        case (str(), [*biases], _, _, [one, other]) if len(biases) in (0, 2) and all(
            isinstance(bias, View) for bias in biases
        ):
            pairs = _pair(one), _pair(other)
            if pairs[0] is not None and pairs[1] is not None:
                return [pairs[0][0], pairs[1][0], *(biases or (pairs[0][1], pairs[1][1]))]
    return None


def _directions(reader: Reader, prefix: str, levels: dict[int, list[Any]]) -> int:
    """1 or 2, by the weights' columns: a level above the first reads all directions of the one below."""
    if set(levels) != set(range(len(levels))):
        raise reader.error(f"{shown(prefix)}_all_weight_values: the numbers of its entries have holes")
    reads, hidden = [levels[i][0].shape[1] for i in range(len(levels))], levels[0][1].shape[1]
    if len(levels) == 1 or len(levels) % 2 or reads[1] != reads[0]:
        return 1
    if len(levels) > 2:
        return 2 if reads[2] == 2 * hidden else 1
    if reads[0] == hidden:
        raise reader.error(
            f"{shown(prefix)}: the packed weights do not tell two levels from two directions, as input_size "
            "is hidden_size: save the net before quantize_dynamic"
        )
    return 2
