"""The table of the cells: a small run of it, and the page that has the one that was kept."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from folders import BENCH, ROOT

import tinyrnn as tr
from tinyrnn.names import HOMES

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="no bench/ beside the tests")


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    module = importlib.import_module("cells")
    monkeypatch.setattr(module, "pin", lambda core: core)  # the tests that follow want every core
    return module


def test_a_small_run_is_kept_and_the_page_follows(
    cells: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("statsmodels")
    pytest.importorskip("matplotlib")
    text, page = tmp_path / "text.txt", tmp_path / "cells.md"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    page.write_text(f"before\n\n{cells.BEGIN}\n<!-- end -->\n\nafter\n")
    monkeypatch.setattr(cells, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(cells, "PAGE", page)
    chosen = ["RNN", "MinGRU"]
    few = ["--words", "32", "--epochs", "1", "--steps", "3", "--years", "3", "--seeds", "2", "--rounds", "2"]
    cells.main(["--text", str(text), "--source", "tones", *few, "--cells", *chosen, "--save"])
    (path,) = (tmp_path / "results").glob("*.json")
    result = json.loads(path.read_text())
    assert [row["cell"] for row in result["rows"]] == chosen
    for row in result["rows"]:
        assert all(len(row[task]) == 2 for task in ("keywords", "characters", "sunspots"))
        assert min(row["keywords"]) >= 0 and 0 < row["characters"][0] < 10 and row["us"] > 0
    assert result["rows"][0]["multiply_adds"] == 48 * (32 + 48)
    assert cells.rendered(result) in page.read_text() and page.read_text().endswith("after\n")
    assert "<svg" in (tmp_path / "cells.svg").read_text()
    assert cells.rendered(result) in capsys.readouterr().out


def test_multiply_adds_are_those_of_vectors_too(cells: ModuleType) -> None:
    found = {name: cells.costs(make)["multiply_adds"] for name, make in cells.CELLS.items()}
    assert found["IndRNN"] == 48 * 32 + 48 and found["MinGRU"] == 2 * 48 * 32
    assert found["LSTM(peephole=True)"] == found["LSTM"] + 3 * 48
    assert {row["cell"]: row["multiply_adds"] for row in cells.newest()["rows"]} == found


def test_the_page_has_the_run_that_was_kept_last(cells: ModuleType) -> None:
    result = cells.newest()
    assert cells.rendered(result) in (ROOT / "docs" / "cells.md").read_text()
    assert [row["cell"] for row in result["rows"]] == list(cells.CELLS)
    picture = (ROOT / "docs" / cells.PICTURE).read_text()
    assert all(f">{row['cell']}<" in picture for row in result["rows"])


def test_every_cell_is_among_them(cells: ModuleType) -> None:
    made = {type(make(2, 3)).__name__ for make in cells.CELLS.values()}
    steps = {name.removesuffix("Cell") for name in HOMES if name.endswith("Cell")}
    assert made == steps
    assert all(hasattr(tr, f"{name}Cell") for name in made)
