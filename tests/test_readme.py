"""README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="no README beside the tests")
def test_the_twenty_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert 18 <= code.count("\n") <= 24
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    assert "Memory(weights=" in capsys.readouterr().out
    assert (tmp_path / "charlm.safetensors").is_file()
    assert names["logits"].shape == (3, 96)  # type: ignore[attr-defined]
