"""Checks of constructor arguments: each returns the value or raises an error that names it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def whole(name: str, value: Any, low: int, high: int) -> int:
    """``value`` as an int in ``low .. high``, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} .. {high}")
    return int(value)


def size(name: str, value: Any, least: int = 1) -> int:
    """A number of things: at least ``least``."""
    return whole(name, value, least, 2**28)


def axis(name: str, value: Any) -> int:
    """A number of an axis, from the front or, negative, from the back."""
    return whole(name, value, -64, 63)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not low <= value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value}, expected a finite number in {low} .. {high}")
    return float(value)


def measure(name: str, value: Any) -> float:
    """A number or an infinity, but no NaN."""
    if isinstance(value, (float, np.floating)) and math.isinf(value):
        return float(value)
    return real(name, value)


def above_zero(name: str, value: Any) -> float:
    number = real(name, value)
    if not number > 0.0:
        raise ValueError(f"{name} is {value}, expected a number above 0")
    return number
