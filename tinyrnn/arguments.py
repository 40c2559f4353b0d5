"""Checks of constructor arguments: each returns the value or raises an error that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinyrnn.attributes import ADVICE, nearest


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` as an int in ``low .. high``, or raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} .. {high}")
    return int(value)


def check_size(name: str, value: Any, least: int = 1) -> int:
    """Check a count: at least ``least``."""
    return check_int(name, value, least, 2**28)


def check_axis(name: str, value: Any) -> int:
    """Check the number of an axis; a negative one counts from the end."""
    return check_int(name, value, -64, 63)


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def check_float(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not low <= value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value}, expected a finite number in {low} .. {high}")
    return float(value)


def check_number(name: str, value: Any) -> float:
    """Check a number; it may be infinite, but not NaN."""
    if isinstance(value, (float, np.floating)) and math.isinf(value):
        return float(value)
    return check_float(name, value)


def check_positive(name: str, value: Any) -> float:
    number = check_float(name, value)
    if not number > 0.0:
        raise ValueError(f"{name} is {value}, expected a number above 0")
    return number


def explained(kind: str, init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor: its errors name the class, the wrong argument and the nearest right one.

    The wrapper then marks the object as complete, for `Guarded`.
    """

    @wraps(init)
    def __init__(self: Any, *given: Any, **named: Any) -> None:
        try:
            init(self, *given, **named)
        except TypeError:
            _check_binding(kind, init, given, named)
            raise
        self._made = True

    return __init__


def _check_binding(
    kind: str, init: Callable[..., None], given: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Raise an error if a constructor does not take these arguments."""
    from inspect import signature

    expected = signature(init)
    try:
        expected.bind(None, *given, **named)
    except TypeError as error:
        names = [name for name in expected.parameters if name != "self"]
        unknown = [name for name in named if name not in names]
        problem = str(error)
        if unknown:
            name = unknown[0]
            advice = nearest(name, names) or (f": {ADVICE[name]}" if name in ADVICE else "")
            problem = f"unknown argument {name!r}{advice}"
        wanted = ", ".join(names) or "no arguments"
        raise TypeError(f"{kind}: {problem}; expected {wanted}") from None
