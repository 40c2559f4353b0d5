"""Notebooks are made of scripts and pages, and nothing is lost on the way.

`make site NOTEBOOKS=--notebooks` runs them all; here one runs, where nbclient is installed.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from folders import DOCS, EXAMPLES

pytestmark = pytest.mark.skipif(not (DOCS / "site").is_dir(), reason="no docs/ beside the tests")


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    return importlib.import_module("notebooks")


def code(book: dict[str, Any]) -> list[str]:
    return [cell["source"] for cell in book["cells"] if cell["cell_type"] == "code"]


def test_a_page_keeps_its_programs_and_its_text(notebooks: ModuleType) -> None:
    for name in notebooks.PAGES:
        page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        book = notebooks.of_page(DOCS / f"{name}.md")
        programs = [found.strip("\n") for found in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)]
        assert code(book) == programs and programs
        text = "\n".join(cell["source"] for cell in book["cells"] if cell["cell_type"] == "markdown")
        assert re.findall(r"^#+ .+$", text, re.M) == re.findall(r"^#+ .+$", page, re.M)
        assert "](../" not in text and ".md" not in text and ".svg" not in text


def test_a_script_keeps_its_definitions(notebooks: ModuleType) -> None:
    for name, (script, arguments, picture) in notebooks.EXAMPLES.items():
        path = EXAMPLES / name / script
        book = notebooks.of_script(path, arguments, picture)
        cells = [cell for cell in code(book) if not cell.startswith("%%writefile")]
        expected = ast.parse(path.read_text(encoding="utf-8")).body[1:-1]  # docstring; call of main
        if picture:
            assert picture in arguments or name == "gradients"
            assert cells.pop().endswith(f'Image("{picture}")')
        assert cells.pop() == f"main({json.dumps(arguments)})"
        found = [node for cell in cells for node in ast.parse(cell).body]
        assert [ast.unparse(node) for node in found] == [ast.unparse(node) for node in expected]
        assert book["cells"][0]["source"].startswith("# ")


def test_modules_beside_a_script_are_written(notebooks: ModuleType) -> None:
    book = notebooks.of_script(EXAMPLES / "shapes" / "shapes.py", [], "shapes.png")
    source = (EXAMPLES / "shapes" / "outlines.py").read_text(encoding="utf-8")
    assert code(book)[0] == "%%writefile outlines.py\n" + source.strip("\n")


def test_pages_lead_to_notebooks(notebooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    places = importlib.import_module("build").sources().values()
    assert notebooks.places().keys() <= {*places}
    assert {*notebooks.places().values()} == {name for name, _ in notebooks.all_notebooks()}


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs(notebooks: ModuleType, tmp_path: Path) -> None:
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    notebooks.write(tmp_path / "out", ["gradients"], is_run=True)
    path = tmp_path / "out" / "gradients.ipynb"
    assert path.stat().st_size < notebooks.LARGEST
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    *_, ran, shown = cells
    assert "norm of dL/dh_t at step" in "".join(ran["outputs"][0]["text"])
    assert "image/png" in shown["outputs"][0]["data"]
    assert not [cell for cell in cells if "execution" in cell["metadata"]]
