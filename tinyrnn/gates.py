"""The functions of recurrent cells' gates, by name, with their numbers: ONNX' list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinyrnn.arguments import check_float

# In the order of trnn_cell_function in tinyrnn.h: ONNX' defaults of alpha and beta; None: it has none.
FUNCTIONS: Mapping[str, tuple[float | None, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "affine": (None, None),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (None, None),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
}
_NUMBERS = ("alpha", "beta")
_LEAST, _MOST = 1.2e-38, 3.4e38  # of a float32

Function = str | tuple[Any, ...]  # its name, or its name and numbers; or a pair of them, for each direction


def _check_function(what: str, value: Any) -> Function:
    """Return the name of a function, or a tuple of its name and numbers, if these are not the default."""
    name, *numbers = value if isinstance(value, (list, tuple)) and value else (value,)
    if not isinstance(name, str) or name not in FUNCTIONS:
        raise ValueError(f"{what} is {value!r}, expected one of {', '.join(FUNCTIONS)}")
    defaults = FUNCTIONS[name]
    if len(numbers) > len(defaults) or None in defaults[len(numbers) :]:
        form = ", ".join([repr(name), *_NUMBERS[: len(defaults)]])
        raise ValueError(f"{what} is {value!r}, expected {f'({form})' if defaults else repr(name)}")
    given = [
        check_float(f"{what}: {which}", number, -_MOST, _MOST)
        for which, number in zip(_NUMBERS, numbers, strict=False)
    ]
    whole = (*given, *defaults[len(given) :])
    return name if whole == defaults else (name, *whole)


def check_function(what: str, value: Any, bidirectional: bool) -> Function:
    """Check a function, or in a bidirectional layer a pair of them: `_check_function` for one."""
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], (str, list, tuple))
    if not pair:
        return _check_function(what, value)
    if not bidirectional:
        raise ValueError(f"{what} is {value!r}, expected one function: the layer has one direction")
    ways = tuple(_check_function(what, one) for one in value)
    return ways[0] if ways[0] == ways[1] else ways


def one_way(function: Function, direction: int) -> Function:
    """The function of one direction."""
    pair = isinstance(function, tuple) and isinstance(function[1], (str, tuple))
    return function[direction] if pair else function


def check_clip(what: str, value: Any) -> float | None:
    """Check the bound of a clip: a number above 0, or None for none."""
    return None if value is None else check_float(what, value, _LEAST, _MOST)


def core_arguments(functions: Mapping[str, Function], clip: float | None) -> dict[str, Any]:
    """The arguments of a general core layer, for functions by their arguments in Python."""
    return {"clip": clip or 0.0, **dict(_numbered(functions))}


def _numbered(functions: Mapping[str, Function]) -> Iterator[tuple[str, Any]]:
    for argument, function in functions.items():
        core = "activation" if argument == "nonlinearity" else argument  # an RNN's, with PyTorch's name
        for direction, suffix in enumerate(("", "_reverse")):
            one = one_way(function, direction)
            name, numbers = (one, FUNCTIONS[one]) if isinstance(one, str) else (one[0], one[1:])
            yield f"{core}{suffix}", list(FUNCTIONS).index(name)
            for which, number in zip(_NUMBERS, numbers, strict=False):
                yield f"{core}{suffix}_{which}", np.float32(number)
