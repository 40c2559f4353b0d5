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


def test_wheels_are_configured_alike() -> None:
    """The workflow builds the list of pyproject.toml, with the cibuildwheel that CI asks for the list."""
    workflow, run = ROOT / ".github/workflows/wheels.yml", ROOT / ".ci/run"
    if not (workflow.is_file() and run.is_file()):
        pytest.skip("no workflow beside the tests")
    text, project = (
        workflow.read_text(encoding="utf-8"),
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    )
    pins = set(re.findall(r"cibuildwheel==([\d.]+)", text + run.read_text(encoding="utf-8")))
    assert len(pins) == 1, pins
    build = re.search(r'^build = "(.+)"$', project, re.MULTILINE)
    assert build and f"matrix.build || '{build[1]}'" in text
    without_a_gil = '"freethreading_compatible": True' in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert ("Free Threading ::" in project) == without_a_gil == ("t-*" in build[1])


def test_each_system_with_a_wheel_has_a_row() -> None:
    """docs/platforms.md says of each system in the workflow how it was tested."""
    workflow, page = ROOT / ".github/workflows/wheels.yml", ROOT / "docs/platforms.md"
    if not (workflow.is_file() and page.is_file()):
        pytest.skip("no workflow beside the tests")
    rows = re.findall(r"^\| (.+?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    systems = re.findall(r"platform: (\w+), arch: (\w+)", workflow.read_text(encoding="utf-8"))
    assert len(systems) >= 7
    for system, architecture in systems:
        wanted = f"{system} {architecture}".replace("AMD64", "x86_64").lower()
        assert any(row.lower().startswith(wanted) for row in rows), wanted
