"""The laws of the Python half: who may import whom, who may write what, and which names are free.

docs/design.md lists the rooms from top to bottom: each imports only what stands below it.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from folders import ROOT

import tinyrnn
from tinyrnn import names

FILES = sorted(path for path in (ROOT / "tinyrnn").rglob("*") if path.suffix in (".py", ".pyi", ".pyx"))
PYTHON = [path for path in FILES if path.suffix == ".py"]


def module(path: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# A schedule's `_set` takes the arguments for its constructor and for `load_state_dict`.
CONSTRUCTORS = ("__init__", "__new__", "_set")

MODULES = {module(path) for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(node: ast.AST) -> list[str]:
    """The names that a statement or a call imports, with their modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"line {node.lineno}: a relative import"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [one.value for one in node.args if isinstance(one, ast.Constant)]
    return []


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports: at once, within a function, or for types alone."""
    if path.suffix == ".pyx":
        text = path.read_text()
        text += "".join(
            (path.parent / part).read_text() for part in re.findall(r'^include "(.*)"', text, re.M)
        )
        lines = re.findall(r"^\s*from (tinyrnn[\w.]*) c?import (.*)", text, re.M)
        found = [f"{base}.{name}" for base, names in lines for name in re.findall(r"\w+|\(|\*", names)]
    else:
        found = [name for node in ast.walk(tree(path)) for name in imported(node)]
    named = {name if name in MODULES else name.rpartition(".")[0] for name in found}
    return (named & MODULES) - {module(path)}


def rooms() -> list[str]:
    """All modules as docs/design.md has them, from top to bottom and from left to right."""
    listing = re.search(r"^tinyrnn/.*?\n(.*?)^tests/", (ROOT / "docs" / "design.md").read_text(), re.M | re.S)
    assert listing is not None
    found, folder = [], ""
    for line in listing.group(1).splitlines():
        if not line.startswith("   "):
            first = line.split()[0]
            folder = first if first.endswith("/") else ""
            line = line if folder else re.split(r"   ", line.strip(), maxsplit=1)[0]
        for name in re.findall(r"([\w-]+)\.pyx?\b", line):
            found.append(f"tinyrnn/{folder}{name}".replace("/", ".").removesuffix(".__init__"))
    return found


def test_every_module_has_its_room() -> None:
    listed = rooms()
    assert sorted(listed) == sorted(MODULES)


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_imports_go_down(path: Path) -> None:
    place = {name: i for i, name in enumerate(rooms())}
    own = module(path)
    up = {name for name in imports(path) if place[name] < place[own]}
    assert not up, f"{own} stands below what it imports: {', '.join(sorted(up))}"


def test_what_is_counted_as_an_import(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import tinyrnn.net\n"
        "if TYPE_CHECKING:\n    from tinyrnn import calls\n"
        "def f():\n    from tinyrnn.training import Trainer\n    import_module('tinyrnn.optim')\n"
    )
    found = {name for node in ast.walk(tree(file)) for name in imported(node)}
    assert {"tinyrnn.net", "tinyrnn.calls", "tinyrnn.training.Trainer", "tinyrnn.optim"} < found


def test_public_names_have_types_and_modules() -> None:
    """The stub, which is all that type checkers see, and the table, which is all that Python sees, agree."""
    found = {}
    for node in tree(ROOT / "tinyrnn" / "__init__.pyi").body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname: f"{node.module}.{alias.name}" for alias in node.names}
    named = {name: f"tinyrnn.{module}.{name}" for name, module in names.HOMES.items()}
    assert found == named | {name: f"tinyrnn.{name}" for name in names.MODULES}
    assert tinyrnn.__all__ == sorted(found)
    for name in found:
        assert getattr(tinyrnn, name) is names.find(name)


def test_a_program_imports_the_layers_that_it_uses() -> None:
    code = "import sys, tinyrnn as tr; tr.Sequential(tr.GRU(2, 3)).stream(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    unused = ("activations", "attention", "cells", "convolution", "frames", "graph", "layers", "ops")
    assert not {*found.stdout.split()} & {f"tinyrnn.{name}" for name in unused}


def test_a_device_that_streams_imports_nothing_for_training() -> None:
    code = (
        "import sys, tinyrnn as tr; net = tr.Sequential(tr.LSTM(2, 3), tr.Linear(3, 1)); net([[1, 2]]); "
        "net.eval().stream().step([[1, 2]]); print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("tinyrnn.") for name in found.stdout.split() if name.startswith("tinyrnn.")}
    assert {"net", "calls", "streams"} <= loaded
    later = {"training", "tapes", "optim", "losses", "fitting", "samples", "history", "parameters", "saving"}
    assert not loaded & later


# ---- attributes --------------------------------------------------------------------------------


def private_writes(path: Path) -> Iterator[ast.Attribute]:
    """The places where an attribute that begins with an underscore is assigned or deleted."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Attribute) or isinstance(node.ctx, ast.Load):
            continue
        if node.attr.startswith("_") and not node.attr.startswith("__"):
            yield node


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def declared(scope: ast.AST) -> set[str]:
    """The attributes that classes declare within a file or a class: at the head, in slots, or in __init__."""
    found: set[str] = set()
    for kind in (node for node in ast.walk(scope) if isinstance(node, ast.ClassDef)):
        for node in kind.body:
            if isinstance(node, ast.AnnAssign):
                found.add(ast.unparse(node.target))
            elif isinstance(node, ast.Assign):
                found.update(map(ast.unparse, node.targets))
                if ast.unparse(node.targets[0]) == "__slots__":
                    found.update(ast.literal_eval(node.value))
            elif isinstance(node, ast.FunctionDef) and node.name in CONSTRUCTORS:
                found.update(
                    one.attr
                    for one in ast.walk(node)
                    if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and of_self(one)
                )
    return found


CLASSES = {
    (path, node.name): node for path in PYTHON for node in tree(path).body if isinstance(node, ast.ClassDef)
}


def home(path: Path, name: str) -> Path:
    """The file in which a class stands that a file calls so."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            return next((file for file in PYTHON if module(file) == node.module), path)
    return path


def inherited(path: Path, name: str) -> set[str]:
    """The attributes that a class and its bases declare."""
    place = home(path, name)
    if (place, name) not in CLASSES:  # Python's, or the core's
        return set()
    kind = CLASSES[place, name]
    return declared(kind).union(*(inherited(place, ast.unparse(base)) for base in kind.bases))


@pytest.mark.parametrize("path", PYTHON, ids=ident)
def test_nobody_writes_what_is_private_to_another(path: Path) -> None:
    own = declared(tree(path))
    foreign = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in private_writes(path)
        if not of_self(node) and node.attr not in own
    ]
    assert not foreign
    assert not re.findall(r"""__dict__\[["']_|setattr\([^"]*["']_[^_]""", path.read_text())


@pytest.mark.parametrize("path", PYTHON, ids=ident)
def test_a_class_declares_what_it_holds(path: Path) -> None:
    for kind in (node for node in tree(path).body if isinstance(node, ast.ClassDef)):
        held = {
            node.attr
            for node in ast.walk(kind)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_self(node)
        }
        set_by = {
            node.name for node in kind.body if isinstance(node, ast.FunctionDef) and node.decorator_list
        }
        undeclared = held - inherited(path, kind.name) - set_by
        assert not undeclared, f"{kind.name} declares no {', '.join(sorted(undeclared))}"


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PYTHON, ids=ident)
def test_no_local_name_hides_an_import(path: Path) -> None:
    names = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.Lambda)))
    for node in (node for function in functions for node in ast.walk(function)):
        bound = {node.arg} if isinstance(node, ast.arg) else set()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound = {node.id}
        assert not bound & names, f"line {getattr(node, 'lineno', 0)} hides {bound}"


def test_only_inspect_is_called_as_a_module_of_python() -> None:
    """A name that Python has too makes an import read as another than it is; inspect is public."""
    tops = {path.stem for path in (ROOT / "tinyrnn").iterdir() if path.suffix == ".py"}
    assert tops & set(sys.stdlib_module_names) == {"inspect"}
    for path in PYTHON:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "tinyrnn":
                assert path.stem == "__init__" or "inspect" not in {alias.name for alias in node.names}


@pytest.mark.parametrize("place", ["a folder of sources", "a zip", "one of another Python"])
def test_a_missing_library_is_named(tmp_path: Path, place: str) -> None:
    """Python's own words would be of a circular import."""
    folder = tmp_path / "tinyrnn"
    folder.mkdir()
    for path in (ROOT / "tinyrnn").glob("*.py"):
        shutil.copy(path, folder)
    if place == "one of another Python":
        (folder / "_core.cpython-39-x86_64-linux-gnu.so").touch()
    if place == "a zip":
        whole = Path(shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "tinyrnn"))
        tmp_path, folder = whole, whole / "tinyrnn"
    program = (  # without what an editable installation finds first
        "import sys; sys.meta_path = [one for one in sys.meta_path if '__editable__' not in repr(one)]; "
        f"sys.path.insert(0, {str(tmp_path)!r}); import tinyrnn"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    expected = (
        f"ModuleNotFoundError: tinyrnn: got no library in {folder}, expected _core{EXTENSION_SUFFIXES[0]}. "
    )
    assert done.stderr.splitlines()[-1].startswith(expected), done.stderr
