"""Checks of constructor arguments: each returns the value or raises an error that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinyrnn.attributes import advice, nearest

P = ParamSpec("P")
T = TypeVar("T")


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` as an int in ``low .. high``, or raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} .. {high}")
    return int(value)


def check_size(name: str, value: Any, least: int = 1) -> int:
    """Check a count: at least ``least``."""
    if type(value) is int and least <= value <= 2**28:  # as most are
        return value
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


def explained(
    function: Callable[P, T], what: str | None = None, done: Callable[[Any], None] | None = None
) -> Callable[P, T]:
    """Wrap a function or a constructor: its errors name it, the wrong argument and the nearest right one.

    Parameters
    ----------
    function : callable
    what : str, optional
        Its name in messages.
    done : callable, optional
        Called with the object that a constructor has completed.
    """

    @wraps(function)
    def call(*given: P.args, **named: P.kwargs) -> T:
        try:
            result = function(*given, **named)
        except TypeError:
            _check_binding(what or function.__qualname__, function, given, named)
            raise
        if done is not None:
            done(given[0])
        return result

    return call


class Explained:
    """A base of classes that print their arguments; their constructors are `explained`, unless a user's."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("tinyrnn.") and "__init__" in cls.__dict__:
            setattr(cls, "__init__", explained(cls.__init__, cls.__name__))  # noqa: B010

    def _arguments(self) -> dict[str, Any]:
        """The arguments that it was made with, by name, and its counters if it has any."""
        apart = ("core", "optimizer")
        return {name: value for name, value in vars(self).items() if name not in apart and name[0] != "_"}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({shown})"


def _check_binding(
    what: str, function: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Raise an error if a function does not take these arguments."""
    from inspect import signature

    expected = signature(function)
    try:
        expected.bind(*given, **named)
    except TypeError as error:
        names = [name for name in expected.parameters if name != "self"]
        wanted = f"expected {', '.join(names) or 'no arguments'}"
        problem = f"{error}; {wanted}"
        for name in [name for name in named if name not in names][:1]:
            problem = f"got unknown argument {name!r}, {wanted}{nearest(name, names) or advice(name)}"
        raise TypeError(f"{what}: {problem}") from None
