"""The memory of training, in a process of its own.

    python bench/footprint.py CONTENDER LESSON        # LESSON: a Lesson's arguments as JSON

Prints, as JSON and in bytes, what is resident after the import; what is after a net of one unit was trained,
as libraries load much of themselves at the first step; and the peak from there on, while the lesson's net is
made and trained. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from lesson import TEACHERS, Lesson, trainer_of

STEPS = 5


def resident(which: str) -> int:
    """Bytes: VmRSS is now, VmHWM the most since the last reset."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise OSError(f"/proc/self/status: no {which}")
    return int(found[1]) << 10


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def give_back() -> None:
    """Give freed memory back to the system, so that nobody's next arrays hide in it."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def measure(name: str, lesson: Lesson) -> dict[str, int]:
    """The numbers of one contender."""
    importlib.import_module(name.split("_")[0])
    give_back()
    found = {"imported": resident("VmRSS")}
    warm = TEACHERS[name](replace(lesson, inputs=1, hidden=1, outputs=2, steps=1, batch=1, one_hot=False))
    for _ in range(STEPS):
        warm()
    del warm
    give_back()
    found["warm"] = resident("VmRSS")
    forget_peak()
    trainer, call = trainer_of(lesson) if name == "tinyrnn" else (None, TEACHERS[name](lesson))
    for _ in range(STEPS):
        call()
    found["peak"] = resident("VmHWM")
    if trainer is not None:
        found["told"] = trainer.memory.total
    return found


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Lesson(**json.loads(sys.argv[2])))))
