"""Threads that share the rows of a batch. The core's calls release the GIL, so Python's threads do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import SimpleQueue

Task = Callable[[], None]

_tasks: SimpleQueue[tuple[Task, SimpleQueue[BaseException | None]]] = SimpleQueue()
_workers = 0
_growing = threading.Lock()


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
    if len(tasks) > 1:
        _grow(len(tasks) - 1)
    done: list[SimpleQueue[BaseException | None]] = []
    for task in tasks[1:]:
        done.append(SimpleQueue())
        _tasks.put((task, done[-1]))
    errors = [_attempt(tasks[0]), *map(_wait, done)]
    for error in errors:
        if error is not None:
            raise error


def _attempt(task: Task) -> BaseException | None:
    try:
        task()
    except BaseException as error:
        return error
    return None


def _wait(done: SimpleQueue[BaseException | None]) -> BaseException | None:
    """A task's error. An interruption waits too: the task is writing to the caller's arrays."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            return done.get() or interrupted
        except KeyboardInterrupt as interruption:
            interrupted = interruption


def _work() -> None:
    while True:
        task, done = _tasks.get()
        done.put(_attempt(task))


def _grow(workers: int) -> None:
    """Keep at least so many threads waiting for tasks."""
    global _workers
    with _growing:
        while _workers < workers:
            threading.Thread(target=_work, name=f"tinyrnn-{_workers}", daemon=True).start()
            _workers += 1


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _tasks, _workers, _growing
    _tasks, _workers, _growing = SimpleQueue(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
