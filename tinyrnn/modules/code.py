"""The text of TorchScript's code, which is like Python's: parsed within limits, with the model's lines."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect
from contextlib import suppress
from typing import Any

from tinyrnn.importing import WRONG, Unfit
from tinyrnn.weights.spec import shown

MAX_LINES, MOST_PLACES = 2_000, 5_000_000  # of a source, and characters of all that are looked up
MAX_STATEMENT, MAX_OPERATORS = 30_000, 1_500  # characters of a statement, and those that nest

_NESTING = re.compile(r"[.(\[{+\-*/%|&^~<>=@:]|\b(?:not|if|and|or|is|in|lambda|await|yield|elif)\b")


class Text:
    """A file of code: its functions and classes, and the lines of the model that they come from."""

    def __init__(self, name: str, text: str, places: Any) -> None:
        self.name = f"code/{name}"
        body = parsed(text).body
        self.parts = {one.name: one for one in body if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
        self.begins = [0, *(at.end() for at in re.finditer("\n", text))]
        self.texts: Any = ()
        self.ranges: Any = ()
        if type(places) is tuple and len(places) == 3:
            _, self.texts, self.ranges = places
        self.offsets = [one[0] for one in self.ranges]
        self.found: dict[int, str] = {}
        self.left = MOST_PLACES

    def where(self, node: Any) -> str:
        """The line of the model that a statement comes from, or nothing."""
        at = bisect(self.offsets, self.begins[node.lineno - 1] + node.col_offset) - 1
        if at >= 0 and at not in self.found and self.left > 0:
            with suppress(*WRONG):
                self.found[at] = self.place(*self.ranges[at][1][:2])
        return self.found.get(at, "")

    def place(self, source: Any, start: int) -> str:
        """File and line of a place in a source, which is a call stack if the module was traced."""
        parts, file, line = source
        if not isinstance(file, int) or not self.texts[file]:
            return ""
        whole = "".join(self.texts[one] for one in parts[:MAX_LINES])
        self.left -= len(whole)
        for own, number in re.findall(r"(\S+)\((\d+)\): ", whole):
            if "/torch/" not in own:
                return f"{shown(own)}:{number}"
        return f"{shown(self.texts[file])}:{line + whole.count(chr(10), 0, start)}"


def parsed(text: str) -> ast.Module:
    """Parse a file of code, none of whose statements nests deeply enough to trouble Python's parser."""
    depth = size = signs = 0
    for line in text.split("\n"):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', "", line)
        size, signs = size + len(line), signs + len(_NESTING.findall(bare))
        depth += sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
        if (
            size > MAX_STATEMENT
            or signs > MAX_OPERATORS
            or re.match(r"\s*elif\b", line)
            or bare[-1:] == "\\"
            or '"' in bare
        ):
            raise Unfit(f"has the statement {shown(line.strip(), 80)}, which no code of TorchScript has")
        if depth <= 0:
            depth = size = signs = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of literals
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unfit(f"does not parse: {shown(str(error))}") from None


def functions_of(node: Any) -> dict[str, ast.FunctionDef]:
    """The functions of a class."""
    parts = node.body if isinstance(node, ast.ClassDef) else ()
    return {one.name: one for one in parts if isinstance(one, ast.FunctionDef)}


def fields_of(node: Any) -> dict[str, ast.expr | None]:
    """The fields of a class, those that are constants with their values."""
    return {
        one.target.id: one.value
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
