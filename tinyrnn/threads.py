"""Threads that share the rows of a batch. The core's calls release the GIL, so Python's threads suffice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Task = Callable[[], None]


def split(count: int, threads: int) -> list[tuple[int, int]]:
    """(first, count) of at most ``threads`` parts of ``count``, none empty, as even as possible."""
    parts = min(count, threads)
    bounds = [count * i // parts for i in range(parts + 1)]
    return [(first, end - first) for first, end in pairwise(bounds)]


def run_all(tasks: Sequence[Task], signals: bool = True) -> None:
    """Run the tasks at once, the first one here; returns when all are done.

    Parameters
    ----------
    tasks : sequence of callables
    signals : bool
        Handle signals meanwhile: a handler that raises, such as Ctrl-C's, ends runs of a plan early.
        Otherwise it is called when all are done.

    Raises
    ------
    BaseException
        The exception of the earliest task that raised one, or of a signal's handler. All tasks have ended.
    """
    global _pool
    if len(tasks) == 1:
        tasks[0]()
        return
    if _pool is None:
        _pool = _Pool()
    _pool.run(tasks, signals)


class _Pool:
    """Threads that wait for tasks; as many as were ever needed at once."""

    def __init__(self) -> None:
        from queue import SimpleQueue  # here, so that programs with one thread need not import them
        from threading import Lock

        from tinyrnn._core import Round

        self._tasks: Any = SimpleQueue()
        self._workers = 0
        self._growing = Lock()
        self._round = Round

    def run(self, tasks: Sequence[Task], signals: bool) -> None:
        self._grow(len(tasks) - 1)
        self._round(tasks).run(self._tasks.put, signals)

    def _grow(self, workers: int) -> None:
        from threading import Thread

        if self._workers >= workers:
            return
        with self._growing:
            while self._workers < workers:
                Thread(target=self._work, name=f"tinyrnn-{self._workers}", daemon=True).start()
                self._workers += 1

    def _work(self) -> None:
        while True:
            shared, i = self._tasks.get()
            shared.work(i)
            del shared  # and the arrays that it holds


_pool: _Pool | None = None


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
