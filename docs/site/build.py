"""The site, built: `make site` writes build/site/html. Needs `pip install -e '.[docs]'`.

`make site NOTEBOOKS=--notebooks` adds notebooks that have run, and needs what they need: notebooks.py.

Pages are the Markdown in docs/ and some files beside it, as a code host shows them. They are copied with
their links set to where the pages lie on the site. docs/index.md lists them all, by chapter: that is the
navigation. reference.py adds the reference. Any warning of Sphinx is an error.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

SITE = Path(__file__).resolve().parent
DOCS = SITE.parent
ROOT = DOCS.parent
LINK = re.compile(r"(\]\()([^)\s#]+)?(#[^)\s]+)?(\))")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def sources() -> dict[Path, str]:
    """The files that are pages or pictures, and their places on the site."""
    found = {path: path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    for kind in ("*.svg", "*.png"):
        found |= {path: path.relative_to(DOCS).as_posix() for path in DOCS.rglob(kind)}
    found |= {path: f"examples/{path.parent.name}.md" for path in (ROOT / "examples").glob("*/README.md")}
    found |= {ROOT / "README.md": "readme.md", ROOT / "bench" / "README.md": "bench.md"}
    found |= {ROOT / f"{name.upper()}.md": f"{name}.md" for name in ("changelog", "contributing", "security")}
    return dict(sorted(found.items()))


def links(path: Path) -> list[tuple[Path, str]]:
    """The files, and the anchors in them, that a page links to."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return [
        (path.parent.joinpath(target or path.name).resolve(), anchor or "")
        for _, target, anchor, _ in LINK.findall(text)
        if not re.match(r"\w+:", target)
    ]


def relinked(path: Path, places: dict[Path, str]) -> str:
    """The text of a page, its links set to their places on the site."""
    here = Path(places[path]).parent

    def moved(found: re.Match[str]) -> str:
        target = found[2]
        if not target or re.match(r"\w+:", target):
            return found[0]
        goal = path.parent.joinpath(target).resolve()
        place = places.get(goal) or places.get(goal / "README.md")
        if place is None:
            raise SystemExit(f"{path.relative_to(ROOT)}: links to {target}, which is no page of the site")
        up = "../" * len(here.parts)
        return f"{found[1]}{up}{place}{found[3] or ''}{found[4]}"

    # The changelog's versions are links on a code host alone.
    text = re.sub(r"^\[.+\]: \.\./\.\./.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pieces, end = [], 0
    for fence in FENCE.finditer(text):
        pieces += [LINK.sub(moved, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(moved, text[end:])])


def chapters(index: Path) -> dict[str, dict[Path, str]]:
    """The chapters of docs/index.md, each with the pages that its list links to, and their names there."""
    found: dict[str, dict[Path, str]] = {}
    for part in re.split(r"^## ", index.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        pages = {
            index.parent.joinpath(link).resolve(): name
            for name, link in re.findall(r"^\* \[([^\]]+)\]\(([^)#]+)\)", body, re.MULTILINE)
        }
        if pages:
            found[head] = pages
    return found


def navigation(places: dict[Path, str]) -> str:
    """What the site's first page has beyond docs/index.md: the reference, and the tables of contents."""
    lines = ["", "## Reference", "", "* [Every public name](reference/index.rst): from the docstrings"]
    lines += ["* [The command line](reference/command-line.md): from its `--help`"]
    lines += ["* [The C interface](reference/c.md): from its header"]
    for head, pages in chapters(DOCS / "index.md").items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {head}", ""]
        lines += [f"{name} <{places[page].removesuffix('.md')}>" for page, name in pages.items()]
        lines.append("```")
        if head == "Guides":
            lines += ["", "```{toctree}", ":hidden:", ":caption: Reference", ""]
            lines += ["Every public name <reference/index>", "reference/command-line", "reference/c", "```"]
    return "\n".join(lines) + "\n"


def write(source: Path, books: dict[str, str]) -> None:
    """Write the pages as Sphinx reads them; ``books`` are the notebooks of pages, by the pages' places."""
    import reference

    places = sources()
    shutil.rmtree(source, ignore_errors=True)
    for path, place in places.items():
        target = source / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = relinked(path, places)
            if place in books:
                book = "../" * place.count("/") + f"notebooks/{books[place]}.ipynb"
                text += f'\n<p><a href="{book}" download>This page as a notebook</a></p>\n'
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    with open(source / "index.md", "a", encoding="utf-8") as index:
        index.write(navigation(places))
    for place, text in reference.all_pages(ROOT):
        (source / place).parent.mkdir(exist_ok=True)
        (source / place).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write the pages and run Sphinx over them; with ``--notebooks`` run the notebooks, too."""
    import notebooks
    from sphinx.cmd.build import main as sphinx

    build = ROOT / "build" / "site"
    is_with_notebooks = arguments == ["--notebooks"]
    write(build / "source", notebooks.places() if is_with_notebooks else {})
    shutil.rmtree(build / "html", ignore_errors=True)
    options = ["-q", "-W", "--keep-going", "-E", "-d", str(build / "doctrees"), "-c", str(SITE)]
    status = sphinx([*options, "-b", "html", str(build / "source"), str(build / "html")])
    if is_with_notebooks and not status:
        notebooks.write(build / "html" / "notebooks", [], is_run=True)
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
