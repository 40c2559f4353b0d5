"""One version, wherever it is written."""

from __future__ import annotations

import re

import pytest
from folders import CSRC, ROOT

import tinyrnn as tr


def test_versions_agree() -> None:
    if not (ROOT / "CHANGELOG.md").is_file():
        pytest.skip("no CHANGELOG beside the tests")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[\w.]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project and project[1] == tr.__version__ == released[0]
    if CSRC.is_dir():
        assert f'#define TINYRNN_VERSION "{released[0]}"' in (CSRC / "tinyrnn.h").read_text(encoding="utf-8")
    if (ROOT / "CITATION.cff").is_file():
        cited = re.search(
            r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
        )
        assert cited and cited[1] == released[0]
    assert changes.index("## [Unreleased]") < changes.index(f"## [{released[0]}]")
    linked = re.findall(r"^\[(.+)\]: ", changes, re.MULTILINE)
    assert linked == ["Unreleased", *released]
