"""What the tests of several examples use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_scripts import Load
from folders import EXAMPLES


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """A script as a module, imported as Python does that runs it: from its folder."""

    def load(folder: str, name: str) -> ModuleType:
        if name.endswith("_torch"):
            pytest.importorskip("torch")
        monkeypatch.syspath_prepend(EXAMPLES / folder)
        return importlib.import_module(name)

    yield load
    for name, module in list(sys.modules.items()):  # other folders have scripts of the same names
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(EXAMPLES):
            del sys.modules[name]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A short text file to learn from."""
    words = ["the ", "net ", "reads ", "a ", "line, ", "and ", "then ", "it ", "writes ", "one.\n"]
    path = tmp_path / "text.txt"
    path.write_text("".join(np.random.default_rng(0).choice(words, 1500)), encoding="utf-8")
    return path
