"""The programs of docs/ run as they stand: each page's, one after the other, as a reader types them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import devices
import pytest
from folders import DOCS, ROOT

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs/ beside the tests")

# Each of these has a test of its own, which runs its programs.
ELSEWHERE = {"graphs.md", "add-a-source.md"}

# Programs for a machine without them are left out of the test, too.
HEAVY = ("torch", "keras", "onnx", "onnxruntime", "h5py", "matplotlib", "websockets")

# A program, and the error that it ends with, if a block that begins with one follows.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(\w+Error: .*?)\n```)?", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)


def programs(page: Path) -> list[tuple[int, str, str]]:
    """(line, text, error) of each program of a page; the error is empty where it has none."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found[1], found[2] or "") for found in BLOCK.finditer(text)]


def imported(programs: list[tuple[int, str, str]]) -> set[str]:
    """The packages that programs import."""
    found = set()
    for _, text, _ in programs:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


def parts(path: str, module: ModuleType) -> Iterator[tuple[str, ModuleType]]:
    """A package and the modules in it, by their full names."""
    yield path, module
    for name, part in vars(module).items():
        if isinstance(part, ModuleType):
            yield from parts(f"{path}.{name}", part)


PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.name not in ELSEWHERE and (BLOCK.search(page.read_text("utf-8")))
)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, Keras and the exporter of ONNX
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_programs_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs(page)
    packages = imported(found)
    for name in HEAVY:
        if name in packages and find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name in packages & devices.MODULES.keys():
        for path, module in parts(name, devices.MODULES[name]()):
            monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for line, text, error in found:
        program = compile("\n" * line + text, str(page), "exec")  # an error's lines are those of the page
        if error:
            with pytest.raises(Exception) as raised:
                exec(program, names)
            assert f"{raised.type.__name__}: {raised.value}" == error, f"{page.name}, line {line}"
        else:
            exec(program, names)


def test_pages_are_found() -> None:
    assert {page.name for page in PAGES} >= {"pytorch.md", "streaming.md", "training.md", "errors.md"}
    errors = [error for _, _, error in programs(DOCS / "errors.md")]
    assert len([error for error in errors if error]) >= 12


@pytest.mark.parametrize(
    "page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix()
)
def test_code_says_its_language(page: Path) -> None:
    """A block of Python that is not marked so would not be run; ```text is for what cannot run."""
    opened = FENCE.findall(page.read_text(encoding="utf-8"))[::2]
    assert not {*opened} - {"", "python", "text", "sh", "c"}, opened
