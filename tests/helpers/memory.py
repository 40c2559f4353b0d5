"""The memory of Python's objects and NumPy's arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def within(most: int) -> Iterator[None]:
    """A block that takes less than so many bytes at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"took {peak} bytes, expected less than {most}"
