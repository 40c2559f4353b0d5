"""README's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from folders import ROOT


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which README's commands run, without their output."""
    if not (ROOT / "README.md").is_file():
        pytest.skip("no README beside the tests")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_twenty_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks()[0]
    assert 18 <= code.count("\n") <= 24
    names: dict[str, object] = {}
    exec(code, names)
    assert "Memory(weights=" in capsys.readouterr().out
    assert (folder / "charlm.safetensors").is_file()
    assert names["logits"].shape == (3, 96)  # type: ignore[attr-defined]


def test_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that follows, one block after the other, as a reader types it."""
    first, *others = blocks()
    names: dict[str, object] = {}
    exec(re.match(r"(import .*\n)+", first)[0], names)  # type: ignore[index]
    assert len(others) == 6
    for code in others:
        exec(code, names)
    said = capsys.readouterr().out
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", said)[1])  # type: ignore[index]
    assert round(accuracy, 2) == float(re.search(r"# accuracy ([\d.]+)", others[1])[1])  # type: ignore[index]
    assert "TrainerMemory(weights=" in said
    for name in ("best.safetensors", "run.safetensors", "history.json", "adapted.safetensors"):
        assert (folder / name).is_file(), name
