"""The site's pages: all are in the navigation, links lead somewhere, and the reference leaves nothing out.

`make site` runs Sphinx over them, with warnings as errors; .ci/run does so, too.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from folders import CSRC, DOCS, ROOT

import tinyrnn as tr
from tinyrnn import names

SITE = DOCS / "site"
pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="no docs/ beside the tests")

NAME = re.compile(r"\b(?:tr|net|stream)\.[A-Za-z]\w*(?:\.\w+)*")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module("build")


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module("reference")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a code host makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_in_the_navigation(build: ModuleType) -> None:
    pages = {path for path in build.sources() if path.suffix == ".md"} - {DOCS / "index.md"}
    listed = Counter(page for chapter in build.chapters(DOCS / "index.md").values() for page in chapter)
    assert pages == listed.keys()
    assert set(listed.values()) == {1}


def test_pictures_are_small_and_shown(build: ModuleType) -> None:
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    pictures = sorted((DOCS / "gallery").glob("*.png"))
    assert len(pictures) >= 9
    for path in pictures:
        assert path.stat().st_size <= 60_000, f"{path.name}: {path.stat().st_size} bytes"
        assert re.search(rf"^!\[\w.+\]\(gallery/{path.name}\)$", gallery, re.MULTILINE), path.name
        assert build.sources()[path] == f"gallery/{path.name}"


def test_links_lead_to_pages(build: ModuleType) -> None:
    found = 0
    for page in build.sources():
        if page.suffix != ".md":
            continue
        for target, anchor in build.links(page):
            if page.name == "CHANGELOG.md":
                continue  # of versions, on the code host
            found += 1
            assert target.exists(), f"{page}: links to {target}"
            assert not anchor or anchor[1:] in anchors(target), f"{page}: links to {target.name}{anchor}"
    assert found > 100


def test_names_in_the_text_exist(build: ModuleType) -> None:
    """`tr.optim.Adam`, `net.fit(...)` and `stream.step`: the site links them to the reference."""
    found = set()
    for page in build.sources():
        if page.suffix == ".md" and page.name != "CHANGELOG.md":
            for code in re.findall(r"`([^`\n]+)`", build.FENCE.sub("", page.read_text(encoding="utf-8"))):
                found |= {(page, name) for name in NAME.findall(code)}
    owners = {"tr": tr, "net": tr.Net, "stream": tr.Stream}
    missing = []
    for page, name in sorted(found):
        head, *rest = name.split(".")
        one: object = owners[head]
        if rest[-1] in ("safetensors", "onnx", "c", "h", "pt", "svg", "py", "png", "json"):
            continue  # names of files
        for part in rest if head == "tr" else rest[:1]:
            one = getattr(one, part, None)
        if one is None:
            missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing, missing
    assert len(found) > 100


def test_pages_are_relinked(build: ModuleType) -> None:
    places = build.sources()
    assert "](docs/" not in build.relinked(ROOT / "README.md", places)
    assert "](../pytorch-modules.md#what-is-refused)" in build.relinked(DOCS / "start" / "pytorch.md", places)
    assert "](../examples/vad.md)" not in build.relinked(DOCS / "index.md", places)
    assert "](examples/vad.md)" in build.relinked(DOCS / "index.md", places)
    assert "](readme.md)" in build.relinked(DOCS / "index.md", places)


def test_the_reference_has_every_public_name_once(reference: ModuleType) -> None:
    pages = dict(reference.all_pages(ROOT))
    text = "".join(pages.values())
    entries = Counter(re.findall(r"^\.\. auto\w+:: ([\w.]+)$", text, re.MULTILINE))
    assert set(entries.values()) == {1}
    assert {f"tinyrnn.{name}" for name in names.HOMES} <= entries.keys()
    for module in ("optim", "inspect", "callbacks"):
        for name in reference.public(module):
            assert f"tinyrnn.{module}.{name}" in entries
    assert "tinyrnn.optim.Adam" in entries and "tinyrnn.callbacks.EarlyStopping" in entries
    for entry in entries:
        assert f"<{entry}>`: " in pages["reference/index.rst"]
        assert reference.first_line(entry), f"{entry} has no docstring"


def test_what_every_net_has_is_told_once(reference: ModuleType) -> None:
    assert " fit," in reference.entry("tinyrnn.Net") and " stream," in reference.entry("tinyrnn.Net")
    assert " fit" not in reference.entry("tinyrnn.LSTM")
    assert "__call__" in reference.entry("tinyrnn.LSTM")


def test_the_reference_of_c_has_every_declaration(reference: ModuleType) -> None:
    page = reference.c_page(CSRC / "tinyrnn.h")
    header = (CSRC / "tinyrnn.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"\btrnn_\w+", header))
    assert len(declared) > 100
    assert declared == set(re.findall(r"\btrnn_\w+", page))


def test_the_reference_of_commands_has_all(reference: ModuleType) -> None:
    page = reference.command_page()
    commands = ("info", "run", "quantize", "convert", "verify", "bench", "doctor", "selftest", "completion")
    for command in commands:
        assert f"\n## tinyrnn {command}\n" in page
        assert f"usage: tinyrnn {command} " in page
    assert "avx" not in page and "now scalar" not in page  # nothing of the machine that builds the page
