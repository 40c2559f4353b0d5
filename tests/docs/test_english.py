"""The language of the house: docstrings that stand alone, and errors of the form *thing: got X, expected Y*.

What can be held without false alarms is held here; the rest is for readers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
ROOMS = ("tinyrnn", "bench", "examples", "tests")

CYTHON = (".pyx", ".pxi")

# A first line that begins so is a clause, which names nothing by itself.
CLAUSE = re.compile(r"(What|How|Whether|Of|As|Where|Which|When|If|Who|An error)\b")
# Calls whose first argument becomes a message, beside the exceptions themselves.
SPEAKERS = re.compile(r"(.*Error|error|Usage|warn|Exception)$")
# Words that no message has: inverted order, personified code, and what "expected" says better.
NEVER = re.compile(
    r"\bwanted\b|\bread are\b|\bare read\b|\bis not read\b|\bis kept as\b|\bkept as\b|, set its\b"
)
# Before ", expected" stands what was got, with a verb that says so.
VERB = re.compile(
    r"\b(got|is|was|are|has|have|had|holds?|gave|begins?|ends?|needs?|occurs|belongs|differ|spread|looks|"
    r"cannot|not)\b"
)


def sources(*suffixes: str) -> Iterator[Path]:
    """The files of all rooms with these suffixes, without what a build leaves."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in suffixes and "build/" not in name:
                yield path


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in CYTHON:  # no ast for Cython: a string that opens a file or follows a colon
        opens = r'(?:\A|(?<!extern from \*):[^\n"#]*\n)\s*r?"""(.*?)"""'
        for found in re.finditer(opens, text, re.DOTALL):
            yield text.count("\n", 0, found.start(1)) + 1, found[1]
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield node.body[0].lineno, docstring


def raised(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every message that a file of Cython raises; ``{}`` stands for a value in it.

    The call that follows a `raise` is Python, as far as its last bracket, whatever stands before it.
    """
    for start in re.finditer(r"^ *raise (?=\w|\()", text, re.MULTILINE):
        line = text.count("\n", 0, start.start()) + 1
        for end in re.finditer(r"[)\]\w]\n", text[start.end() :]):
            source = f"({text[start.end() : start.end() + end.end()]})"
            try:
                tree = ast.parse(source, mode="eval").body
            except SyntaxError:
                continue
            # The one who raises is an exception, by whichever name.
            if isinstance(tree, ast.Call):
                tree.func = ast.Name("Error")
            yield from ((line + place - 1, said) for place, said in messages(tree))
            break
        else:
            raise AssertionError(f"line {line}: the end of this raise was not found")


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every message that a file raises or warns with; ``{}`` stands for a value in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if SPEAKERS.match(name):
                for argument in node.args:
                    for part in ast.walk(argument) if isinstance(argument, ast.IfExp) else [argument]:
                        if isinstance(part, ast.JoinedStr) or (
                            isinstance(part, ast.Constant) and isinstance(part.value, str)
                        ):
                            yield part.lineno, plain(part)


def messages_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every message of a file."""
    text = path.read_text(encoding="utf-8")
    return raised(text) if path.suffix in CYTHON else messages(ast.parse(text))


def plain(node: ast.JoinedStr | ast.Constant) -> str:
    """The text of a string, with ``{}`` for each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def faults_of_docstring(text: str) -> list[str]:
    """The faults of a docstring's first line."""
    first, *rest = text.strip("\n").split("\n")
    faults = []
    if not first.rstrip().endswith("."):
        faults.append("its first line does not end with a period")
    if rest and rest[0].strip():
        faults.append("its first line goes on in the second")
    if CLAUSE.match(first.strip()):
        faults.append("its first line begins with a clause")
    return faults


def faults_of_message(text: str) -> list[str]:
    """The faults of an error's message."""
    faults = [f"it says {found[0]!r}" for found in NEVER.finditer(text)]
    head, expected, _ = text.partition(", expected ")
    if expected and not VERB.search(head):
        faults.append("it expects something, but does not say 'got'")
    return faults


def test_a_docstrings_first_line_stands_alone() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}: {text.strip().splitlines()[0]}"
        for path in sources(".py", *CYTHON)
        for line, text in docstrings(path)
        for fault in faults_of_docstring(text)
    ]
    assert not found, "\n".join(found)


def test_an_error_says_what_it_got_and_what_it_expected() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}: {text}"
        for path in sources(".py", *CYTHON)
        if path.relative_to(ROOT).parts[0] != "tests"
        for line, text in messages_of(path)
        for fault in faults_of_message(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("What a net is.", "clause"),
        ("Whether it is so.", "clause"),
        ("A net", "period"),
        ("A net that\ngoes on.", "second"),
    ],
)
def test_a_faulty_docstring_is_found(text: str, fault: str) -> None:
    assert any(fault in found for found in faults_of_docstring(text))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('raise ValueError(f"{name}: 3, expected 4")', "got"),
        ('raise reader.error(f"{name}: dtype {dtype}, expected float32")', "got"),
        ('raise self.error("the suffix is .x; read are .pt .npz")', "read are"),
        ('raise TypeError(f"{name} is {x}, wanted a number")', "wanted"),
        ('warnings.warn("is kept as int8" if small else "x", RuntimeWarning)', "is kept as"),
    ],
)
def test_a_faulty_message_is_found(source: str, fault: str) -> None:
    found = [one for _, text in messages(ast.parse(source)) for one in faults_of_message(text)]
    assert any(fault in one for one in found)


@pytest.mark.parametrize(
    "source",
    [
        '    raise TypeError(f"{name}: is kept as {self.format}")\n    x = <int> y\n',
        "    raise (getattr(errors, name, None) or Error)(\n"
        '        f"{what}: is kept as "\n        "int8")\n',
        '    raise MemoryError()\n    raise error\n    raise error.of("is kept as float32")\n',
    ],
)
def test_a_faulty_message_of_cython_is_found(source: str) -> None:
    found = [one for _, text in raised(source) for one in faults_of_message(text)]
    assert found == ["it says 'is kept as'"]
