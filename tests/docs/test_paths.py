"""Documents name tests, which must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from folders import DOCS, ROOT, TESTS

NAMED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md"), *ROOT.glob("*/arm/README.md")]
DOCUMENTS = sorted(path for path in NAMED if path.is_file())
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs/ beside the tests")

# `tests/c`, `weights/test_npz.py::test_a_…`, and `…::test_b`, which is in the file named before.
PLACE = re.compile(
    r"(?P<path>…|\btests/[\w./-]*\w|[\w/]*\btest_\w+\.(?:py|c)\b)(?:::(?P<test>\w+…?))?(?!\w*<)"
)


def places(text: str) -> list[tuple[str, str]]:
    """Each path that the text names, and the test in it, or ""."""
    found: list[tuple[str, str]] = []
    for match in PLACE.finditer(text):
        path, test = match["path"], match["test"] or ""
        if path != "…":
            found.append((path, test))
        elif test:
            found.append((found[-1][0], test))
    return found


def resolve(path: str) -> list[Path]:
    """The files that a document may mean by this path: one from the top, or the end of a file's in tests/."""
    if path.startswith("tests/"):
        return [ROOT / path] if (ROOT / path).exists() else []
    return [found for found in TESTS.rglob(path.rpartition("/")[2]) if found.as_posix().endswith(f"/{path}")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_named_tests_exist(document: Path) -> None:
    for path, test in places(document.read_text(encoding="utf-8")):
        found = resolve(path)
        assert len(found) == 1, (
            f"{document.name} names {path}: {len(found)} such files in tests/, expected one"
        )
        if test:
            name = rf"{test[:-1]}\w*" if test.endswith("…") else test
            assert re.search(rf"^def {name}\(", found[0].read_text(encoding="utf-8"), re.MULTILINE), (
                f"{document.name} names {path}::{test}, which is not in it"
            )


def test_places_are_seen() -> None:
    text = "tests/c (`test_files.py::test_a_…`, `…::test_b`), `tests/weights/test_<x>.py`, tests/arm/run.sh."
    assert places(text) == [
        ("tests/c", ""),
        ("test_files.py", "test_a_…"),
        ("test_files.py", "test_b"),
        ("tests/weights", ""),
        ("tests/arm/run.sh", ""),
    ]
    assert len(resolve("test_files.py")) == len(resolve("weights/test_files.py")) == 1
    assert resolve("test_absent.py") == resolve("nets/test_files.py") == resolve("tests/absent") == []
    assert {path.name for path in DOCUMENTS} >= {
        "README.md",
        "CONTRIBUTING.md",
        "design.md",
        "reliability.md",
    }
