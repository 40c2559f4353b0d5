"""Modules that have no file of their own: one library, `_core`'s, holds them all.

Python looks for a compiled module in a file of its name. One library with several modules (PEP 489) is
smaller, and its modules call the core directly, but it must say where they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

# `_kernels`, for tests and benchmarks, is not in wheels.
MODULES = ("_kernels", "_training")


class Finder:
    """A finder of `MODULES` in a library, for ``sys.meta_path``.

    Parameters
    ----------
    path : str
        The library's file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.names = frozenset(f"tinyrnn.{name}" for name in MODULES)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        return spec_from_file_location(fullname, self.path, loader=ExtensionFileLoader(fullname, self.path))


def serve(path: str) -> None:
    """Let Python find the modules of the library at ``path``, ahead of files of an older build."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    sys.meta_path.insert(0, Finder(path))
