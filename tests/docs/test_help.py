"""`help` of every public name: wheels leave out docstrings (setup.py), and CI runs this on one."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

import tinyrnn
from tinyrnn import names


def public() -> Iterator[str]:
    yield "tinyrnn"
    yield from (f"tinyrnn.{name}" for name in names.HOMES)
    for module in (*(f"tinyrnn.{name}" for name in names.MODULES), "tinyrnn.weights"):
        yield module
        inside = importlib.import_module(module)
        listed = getattr(inside, "__all__", [])
        yield from (f"{module}.{name}" for name in listed if callable(getattr(inside, name)))
    yield "tinyrnn.trainer.Trainer"  # a call returns it


@pytest.mark.parametrize("name", sorted({*public()}))
def test_help_says_something_of(name: str) -> None:
    found: object = tinyrnn
    for part in name.split(".")[1:]:
        found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")  # type: ignore[attr-defined]
    assert inspect.getdoc(found), f"{name} has no docstring"
    if inspect.isclass(found):
        for member, value in vars(found).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert inspect.getdoc(getattr(found, member)), f"{name}.{member} has no docstring"
