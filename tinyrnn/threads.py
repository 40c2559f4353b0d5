"""Threads that share the rows of a batch. The core's calls release the GIL, so Python's threads do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Task = Callable[[], None]


def split(count: int, threads: int) -> list[tuple[int, int]]:
    """(first, how many) of at most ``threads`` parts of ``count``, none empty, as even as can be."""
    parts = min(count, threads)
    bounds = [count * i // parts for i in range(parts + 1)]
    return [(first, end - first) for first, end in pairwise(bounds)]


def run_all(tasks: Sequence[Task]) -> None:
    """Run the tasks at once, the first one here; returns when all are done.

    Raises
    ------
    BaseException
        What a task raised, the earliest one's; the others have run to their end.
    """
    global _pool
    if len(tasks) == 1:
        tasks[0]()
        return
    if _pool is None:
        _pool = _Pool()
    _pool.run(tasks)


class _Pool:
    """Threads that wait for tasks; as many as were ever wanted at once."""

    def __init__(self) -> None:
        from queue import SimpleQueue  # here, so that who has one thread need not import them
        from threading import Lock

        self._queue: Any = SimpleQueue
        self._tasks: Any = self._queue()
        self._workers = 0
        self._growing = Lock()

    def run(self, tasks: Sequence[Task]) -> None:
        self._grow(len(tasks) - 1)
        done = [self._queue() for _ in tasks[1:]]
        for task, end in zip(tasks[1:], done, strict=True):
            self._tasks.put((task, end))
        for error in (_attempt(tasks[0]), *map(_wait, done)):
            if error is not None:
                raise error

    def _grow(self, workers: int) -> None:
        from threading import Thread

        with self._growing:
            while self._workers < workers:
                Thread(target=self._work, name=f"tinyrnn-{self._workers}", daemon=True).start()
                self._workers += 1

    def _work(self) -> None:
        while True:
            task, end = self._tasks.get()
            end.put(_attempt(task))


_pool: _Pool | None = None


def _attempt(task: Task) -> BaseException | None:
    try:
        task()
    except BaseException as error:
        return error
    return None


def _wait(end: Any) -> BaseException | None:
    """A task's error. An interruption waits too: the task is writing to the caller's arrays."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            return end.get() or interrupted
        except KeyboardInterrupt as interruption:
            interrupted = interruption


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
