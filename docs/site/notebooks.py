"""Examples and pages as notebooks, each made of its one source: a script, or the programs of a page.

python docs/site/notebooks.py build/notebooks           # writes them
python docs/site/notebooks.py --run build/notebooks     # and runs them in Jupyter's kernel

A script becomes its README, a cell for each function, and a cell that runs it and shows its picture. Running
needs `pip install -e '.[docs]'` and what the examples need.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Scripts that run within a minute, by example: the arguments, and the picture that they draw, if any.
# keywords reads a module in another folder, vad and zoo read files that are not in this repository.
EXAMPLES = {
    "gradients": ("gradients.py", ["--out", "."], "gradients.png"),
    "shapes": ("shapes.py", ["--plot", "shapes.png"], "shapes.png"),
    "digits": ("digits.py", ["--plot", "digits.png"], "digits.png"),
    "sunspots": ("sunspots.py", ["--plot", "sunspots.png"], "sunspots.png"),
    "amp": ("amp.py", ["--seconds", "1", "--columns", "8", "--epochs", "20", "--plot", "amp.png"], "amp.png"),
    "dates": ("dates.py", ["--dates", "20000", "--test", "500", "--align", "dates.png"], "dates.png"),
    "digits_spoken": ("spoken_digits.py", ["--source", "tones", "--test", "100"], ""),
    "charlm": ("learn.py", ["--steps", "500", "--every", "100"], ""),
}
PAGES = ("learn/rnn", "guides/training", "guides/fine-tuning", "guides/many-streams")

LARGEST = 120_000  # bytes of a notebook with its outputs

PROGRAM = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:)[^)]*\)")

Cell = dict[str, Any]


def text_cell(text: str) -> Cell:
    """A cell of Markdown, without links to files that are not beside the notebook."""
    plain = LINK.sub(r"\1", PICTURE.sub("", text)).strip()
    return {"cell_type": "markdown", "metadata": {}, "source": plain}


def code_cell(text: str) -> Cell:
    """A cell of Python that has not run."""
    source = text.strip("\n")
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def notebook(cells: list[Cell]) -> dict[str, Any]:
    """A notebook of these cells, those without text left out."""
    kept = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(kept):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": kept, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def of_page(page: Path) -> dict[str, Any]:
    """A page: its text and its programs."""
    parts = PROGRAM.split(page.read_text(encoding="utf-8"))
    return notebook([code_cell(part) if i % 2 else text_cell(part) for i, part in enumerate(parts)])


def of_script(script: Path, arguments: list[str], picture: str) -> dict[str, Any]:
    """A script: its README, the modules beside it, its parts, and its run."""
    source = script.read_text(encoding="utf-8")
    cells = [text_cell((script.parent / "README.md").read_text(encoding="utf-8"))]
    beside = {path.stem: path for path in script.parent.glob("*.py")}
    for name in sorted(imported(ast.parse(source)) & beside.keys()):
        if not name.endswith("_torch"):  # which --torch alone imports
            cells.append(code_cell(f"%%writefile {name}.py\n" + beside[name].read_text(encoding="utf-8")))
    cells += [code_cell(part) for part in split(source)]
    cells.append(code_cell(f"main({json.dumps(arguments)})"))
    if picture:
        cells.append(code_cell(f'from IPython.display import Image\n\nImage("{picture}")'))
    return notebook(cells)


def imported(tree: ast.Module) -> set[str]:
    """The modules that a script imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def split(source: str) -> Iterator[str]:
    """The parts of a script: what stands before its first function, each function or class, but not its call.

    A comment belongs to what follows it. The docstring is left out: the README says more.
    """
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    nodes = tree.body[1:] if ast.get_docstring(tree) else tree.body
    begin = tree.body[0].end_lineno if len(nodes) < len(tree.body) else 0
    part = ""
    for node in nodes:
        end = node.end_lineno
        assert end is not None and begin is not None
        text = "".join(lines[begin:end])
        begin = end
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if part.strip():
                yield part
            part = ""
            yield text
        else:
            part += text
    if part.strip():
        yield part


def all_notebooks() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, notebook) of each, not run."""
    for name, (script, arguments, picture) in EXAMPLES.items():
        yield name, of_script(ROOT / "examples" / name / script, arguments, picture)
    for name in PAGES:
        yield name.replace("/", "-"), of_page(ROOT / "docs" / f"{name}.md")


def places() -> dict[str, str]:
    """The names of the notebooks, by the places of their pages on the site."""
    found = {f"examples/{name}.md": name for name in EXAMPLES}
    return found | {f"{name}.md": name.replace("/", "-") for name in PAGES}


def run(book: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The notebook with its outputs, after it ran in a folder of its own. An error in a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    logging.getLogger("traitlets").setLevel(logging.WARNING)
    read = nbformat.from_dict(book)
    nbformat.validate(read)
    NotebookClient(read, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in read.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"], folder)
    done: dict[str, Any] = json.loads(nbformat.writes(read))
    return done


def small(picture: str, folder: Path) -> str:
    """A picture, in base 64, with fewer pixels and colours."""
    from gallery import shrink

    path = folder / "output.png"
    path.write_bytes(base64.b64decode(picture))
    shrink(path, path)
    return base64.b64encode(path.read_bytes()).decode()


def write(out: Path, names: list[str], is_run: bool) -> None:
    """Write all notebooks, or those of these names."""
    out.mkdir(parents=True, exist_ok=True)
    for name, book in all_notebooks():
        if names and name not in names:
            continue
        if is_run:
            with tempfile.TemporaryDirectory() as folder:
                book = run(book, Path(folder))
        text = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) > LARGEST:
            raise SystemExit(f"{name}.ipynb: got {len(text.encode())} bytes, expected at most {LARGEST}")
        (out / f"{name}.ipynb").write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write examples and pages as notebooks.")
    parser.add_argument("out", type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of them, such as shapes")
    parser.add_argument("--run", action="store_true", help="run them, and keep their outputs")
    options = parser.parse_args(arguments)
    write(options.out, options.names, options.run)


if __name__ == "__main__":
    main(sys.argv[1:])
