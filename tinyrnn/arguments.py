"""Checks of constructor arguments: each returns the value or raises an error that names it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def size(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int of at least ``least``, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if not least <= value <= 2**28:
        raise ValueError(f"{name} is {value}, expected {least} .. {2**28}")
    return int(value)


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
