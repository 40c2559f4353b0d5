"""The scripts of examples/ as modules, and what they say."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from folders import EXAMPLES

Load = Callable[[str, str], ModuleType]


def example(folder: str, name: str) -> ModuleType:
    """A module of an example, imported as its own scripts import it; their names differ throughout."""
    sys.path.insert(0, str(EXAMPLES / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def torch_twin(folder: str, name: str) -> ModuleType:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return example(folder, name)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def stopped(main: Callable[[list[str]], None], *arguments: object) -> str:
    """Expect that a script that cannot go on ends with one line, not a traceback."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code
