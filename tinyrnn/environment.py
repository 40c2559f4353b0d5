"""Warnings of wrong environment variables that are read at import, given at the import's line."""

from __future__ import annotations

import os
import sys
import warnings


def warn_of_isa(message: str) -> None:
    """Warn, at the line that imports us; the command ``tinyrnn`` refuses instead, in one line of its own.

    A warning, not an error: the program that imports us may know nothing of the variable.
    """
    if _is_command():
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_import(frame.f_code.co_filename):
        frame = frame.f_back
    warnings.warn_explicit(message, RuntimeWarning, frame.f_code.co_filename, frame.f_lineno)


def _is_import(path: str) -> bool:
    """Tell whether code belongs to the import system, or to us."""
    return path.startswith("<frozen importlib") or os.path.dirname(path) == os.path.dirname(__file__)


def _is_command() -> bool:
    """Tell whether this process is a script named ``tinyrnn``, or ``python -m tinyrnn``.

    While ``-m`` imports the package of its module, ``sys.argv[0]`` is still ``"-m"``.
    """
    program: str
    program, *rest = getattr(sys, "argv", None) or [""]
    if program == "-m":
        program = sys.orig_argv[-1 - len(rest)].removeprefix("-m")
    return os.path.basename(program).removesuffix(".exe") == "tinyrnn"
