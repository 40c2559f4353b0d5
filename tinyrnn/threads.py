"""Threads that share the rows of a batch; `_core.run_all` hands them its tasks.

The core's calls release the GIL, so Python's threads suffice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any


def split(count: int, threads: int) -> list[tuple[int, int]]:
    """(first, count) of at most ``threads`` parts of ``count``, none empty, as even as possible."""
    parts = min(count, threads)
    bounds = [count * i // parts for i in range(parts + 1)]
    return [(first, end - first) for first, end in pairwise(bounds)]


def hand_over(workers: int) -> Callable[[tuple[Any, int]], None]:
    """Return what takes (round, place of a task), for one of at least so many threads to do the task."""
    pool = _pools.get(0)
    if pool is None:
        pool = _pools.setdefault(0, _Pool())  # threads that ask at once get the same one
    return pool.grown(workers)


class _Pool:
    """Threads that wait for tasks; as many as were ever needed at once."""

    def __init__(self) -> None:
        from queue import SimpleQueue  # here, so that programs with one thread need not import them
        from threading import Lock

        self._tasks: Any = SimpleQueue()
        self._workers = 0
        self._growing = Lock()

    def grown(self, workers: int) -> Callable[[tuple[Any, int]], None]:
        """Have at least so many threads; what hands tasks to them."""
        if self._workers < workers:
            self._grow(workers)
        put: Callable[[tuple[Any, int]], None] = self._tasks.put
        return put

    def _grow(self, workers: int) -> None:
        from threading import Thread

        with self._growing:
            while self._workers < workers:
                Thread(target=self._work, name=f"tinyrnn-{self._workers}", daemon=True).start()
                self._workers += 1

    def _work(self) -> None:
        while True:
            shared, i = self._tasks.get()
            shared.work(i)
            del shared  # and the arrays that it holds


_pools: dict[int, _Pool] = {}  # one, once it is needed


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
