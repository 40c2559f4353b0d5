"""Pages of reference, each from what it refers to: docstrings, tinyrnn.h, and the commands' own help.

tinyrnn/names.py lists the public names, and their modules are the pages.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tinyrnn import names

# Headings of pages; a module that is not here has its own name. Pages are in this order.
TITLES = {
    "net": "Nets: what every layer can do",
    "streams": "Streams and their state",
    "recurrent": "RNN, LSTM and GRU",
    "cells": "Recurrent layers for small machines",
    "layers": "Linear, convolution, norms, embedding",
    "convolution": "More convolutions",
    "pooling": "Pooling",
    "activations": "Activations and functions of a number",
    "temporal": "Over time",
    "frames": "Frames: shapes and reductions",
    "attention": "Attention",
    "blocks": "Blocks",
    "sequential": "Sequential",
    "graph": "Graph",
    "values": "Values of a graph",
    "ops": "Arithmetic on values",
    "loading": "Load a net",
    "weights": "Load weights",
    "modules.build": "From a PyTorch module",
    "verification": "Verify",
    "quantization": "Quantize",
    "divergence": "Drift",
    "losses": "Losses",
    "optim": "Optimisers and schedules",
    "callbacks": "Callbacks of fit",
    "trainer": "Trainer",
    "history": "History of a run",
    "inspect": "Look inside",
    "initial": "Random numbers",
    "errors": "Errors",
    "_core": "Instruction sets",
}

# What calls return, and users meet without importing it.
RETURNED = {
    "callbacks": ("Callback",),
    "trainer": ("Trainer", "TrainerMemory"),
    "weights": ("inspect_file", "FileInfo", "TensorInfo"),
}

# Members for the package's own use.
UNSEEN = (
    "arguments",
    "edition",
    "types",
    "idle",
    "free",
    "renew",
    "begin",
    "fresh",
    "started",
    "begun",
    "take",
    "leave",
    "target_of",
    "wrong_target",
    "raw_state",
    "read",
    "layout",
    "formats",
    "config",
)


def pages() -> dict[str, list[str]]:
    """The modules of the reference in their order, each with the full names that its page has."""
    found: dict[str, list[str]] = {}
    for name, module in names.HOMES.items():
        found.setdefault(module, []).append(f"tinyrnn.{name}")
    for module in names.MODULES:
        if module not in found:
            found[module] = [f"tinyrnn.{module}.{name}" for name in public(module)]
    for module, extra in RETURNED.items():
        found.setdefault(module, []).extend(f"tinyrnn.{module}.{name}" for name in extra)
    order = [*TITLES, *sorted(set(found) - set(TITLES))]
    return {module: found[module] for module in order if module in found}


def public(module: str) -> list[str]:
    """The public names of a module that is public itself."""
    home = importlib.import_module(f"tinyrnn.{module}")
    listed = getattr(home, "__all__", None) or [
        name
        for name, one in vars(home).items()
        if isinstance(one, type)
        and not (name.startswith("_") or getattr(one, "_is_protocol", False))
        and one.__module__ == home.__name__
    ]
    return [name for name in listed if not isinstance(getattr(home, name), types.ModuleType)]


def resolve(name: str) -> object:
    """The object of a full name."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def filename(module: str) -> str:
    """The name of a module's page, without a suffix."""
    return module.strip("_").replace(".", "-")


def title(module: str) -> str:
    """The heading of a module's page."""
    return TITLES.get(module, module)


def entry(name: str) -> str:
    """The directive that documents one name from its docstrings."""
    one = resolve(name)
    if not isinstance(one, type):
        return f".. {'autofunction' if callable(one) else 'autodata'}:: {name}\n"
    lines = [f".. autoclass:: {name}"]
    if found := members(one):
        lines.append(f"   :members: {', '.join(found)}")
    return "\n".join(lines) + "\n"


def members(one: type) -> list[str]:
    """The members of a class that its entry has, in the order of their definition.

    What it has from another class of the reference, such as Net, is there alone, but for calls and
    gradients of another form.
    """
    told = [base for base in one.__mro__[1:] if base in public_classes()]
    found = {}
    for base in reversed(one.__mro__):
        if base.__module__.startswith("tinyrnn") and not any(issubclass(other, base) for other in told):
            found |= dict.fromkeys(vars(base))
    again = {name for base in told for name in dir(base)}
    return [
        name
        for name in found
        if (not name.startswith("_") or name == "__call__")
        and (name not in again or name in ("__call__", "backward"))
        and name not in UNSEEN
        and is_told(inspect.getattr_static(one, name))
    ]


@cache
def public_classes() -> frozenset[type]:
    """The classes that have an entry."""
    found = [resolve(name) for listed in pages().values() for name in listed]
    return frozenset(one for one in found if isinstance(one, type))


def is_told(member: object) -> bool:
    """Tell whether a member has words of its own."""
    said = inspect.getdoc(member)
    return (
        bool(said)
        and not said.startswith("Alias for field")
        and not isinstance(member, (str, int, float, type))
    )


def module_page(module: str, listed: list[str]) -> str:
    """The page of a module."""
    head = title(module)
    lines = [head, "=" * len(head), ""]
    if module in names.MODULES:
        lines += [f".. module:: tinyrnn.{module}", "", f"In Python: ``tr.{module}``.", ""]
    own = [name for name in listed if isinstance(resolve(name), type)]
    if any(name != "tinyrnn.Net" and issubclass(resolve(name), names.find("Net")) for name in own):  # type: ignore[arg-type]
        lines += [
            "Each is a net by itself: it is called, streams, trains, saves and loads with the methods of "
            ":doc:`nets <net>`.",
            "",
        ]
    lines += [".. currentmodule:: tinyrnn", ""]
    lines += [line for name in listed for line in (entry(name), "")]
    return "\n".join(lines)


def index_page(found: dict[str, list[str]]) -> str:
    """The page that lists every name, by its page."""
    lines = [
        "Reference",
        "=========",
        "",
        "Every public name, from its docstring, after ``import tinyrnn as tr``.",
        "",
    ]
    lines += [".. currentmodule:: tinyrnn", ""]
    for module, listed in found.items():
        head = title(module)
        lines += [head, "-" * len(head), ""]
        for name in listed:
            lines.append(f"* :py:obj:`{name.removeprefix('tinyrnn.')} <{name}>`: {first_line(name)}")
        lines.append("")
    lines += [".. toctree::", "   :hidden:", ""]
    lines += [f"   {filename(module)}" for module in found]
    return "\n".join(lines) + "\n"


def first_line(name: str) -> str:
    """The first line of a docstring."""
    said = (getattr(resolve(name), "__doc__", None) or "").strip().split("\n")[0]
    return re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", said)


def c_page(header: Path) -> str:
    """The page of the C interface: the header in parts, each under the heading that it has there."""
    text = header.read_text(encoding="utf-8")
    heading = re.compile(r"^/\* ---- (.+?)(?: -{3,} \*/$| -{3,}\n(.*?)\*/$)", re.MULTILINE | re.DOTALL)
    found = list(heading.finditer(text))
    intro = re.match(r"/\*(.*?)\*/", text, re.DOTALL)
    if intro is None or len(found) < 5:
        raise SystemExit(f"{header}: found {len(found)} headings, expected its comments in their form")
    lines = ["# The C interface", "", "From `csrc/tinyrnn.h`, the only public header. The "]
    lines[-1] += "[guide to the core in C](../c-guide.md) has programs."
    said = re.sub(r"^ \* ?", "", intro[1].strip(), flags=re.MULTILINE).replace(" */", "")
    lines += ["", "```text", said.rstrip(), "```", ""]
    for one, after in zip(found, [*found[1:], None], strict=True):
        body = text[one.end() : after.start() if after else text.rindex("#ifdef __cplusplus")].strip("\n")
        lines += [f"## {one[1][0].upper()}{one[1][1:]}", ""]
        if one[2]:
            lines += ["```text", re.sub(r"^ \* ?", "", one[2], flags=re.MULTILINE).strip("\n *"), "```", ""]
        lines += ["```c", body, "```", ""]
    return "\n".join(lines)


def command_page() -> str:
    """The page of the command line: what each command says of itself."""
    head = said_by()
    commands = re.findall(r"^    (\w+)(?: |\n) +(.+)$", head, re.MULTILINE)
    if len(commands) < 5:
        raise SystemExit(f"tinyrnn --help: found commands {commands}, expected the list of all")
    lines = ["# The command line", "", "`python -m tinyrnn` is the same as `tinyrnn`.", ""]
    lines += ["```text", head.rstrip(), "```", ""]
    for name, what in commands:
        lines += [f"## tinyrnn {name}", "", f"{what[0].upper()}{what[1:]}.", ""]
        lines += ["```text", said_by(name).rstrip(), "```", ""]
    return "\n".join(lines)


def said_by(*command: str) -> str:
    """The help of a command, without what belongs to this machine."""
    plain = {**os.environ, "COLUMNS": "76", "TINYRNN_ISA": "scalar", "NO_COLOR": "1"}
    said = subprocess.run(
        [sys.executable, "-m", "tinyrnn", *command, "--help"],
        capture_output=True,
        text=True,
        env=plain,
        check=True,
    ).stdout
    return re.sub(r"one of scalar [\w\s]*; now\s+scalar", "an instruction set by its name", said)


def all_pages(root: Path) -> Iterator[tuple[str, str]]:
    """(path, text) of every page."""
    found = pages()
    yield "reference/index.rst", index_page(found)
    for module, listed in found.items():
        yield f"reference/{filename(module)}.rst", module_page(module, listed)
    yield "reference/command-line.md", command_page()
    yield "reference/c.md", c_page(root / "csrc" / "tinyrnn.h")
