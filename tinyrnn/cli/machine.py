"""This machine: its name, its caches and its limits."""

from __future__ import annotations

import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tinyrnn import _core

# Where a curve of bandwidths is measured: 8 kB to 64 MB.
CURVE = tuple(1 << power for power in range(13, 27))

_CPUINFO = Path("/proc/cpuinfo")
_SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
_HEAT = Path("/sys/class/thermal/thermal_zone0/temp")


def read(path: Path) -> str:
    """A file of the system, or nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def degrees() -> int | None:
    """The processor's temperature, Celsius; None if the system does not tell."""
    heat = read(_HEAT)
    return int(heat) // 1000 if heat.isdigit() else None


def throttled() -> int | None:
    """The word of ``vcgencmd get_throttled``, a Raspberry Pi's account of itself; None elsewhere."""
    command = ["vcgencmd", "get_throttled"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        return int(said.partition("=")[2], 16)  # throttled=0x50005
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def emulated() -> bool:
    """True if an ARM or RISC-V is a program on an x86: Linux then lists the processor of that one."""
    return platform.machine()[:3] in ("aar", "arm", "ris") and "vendor_id" in read(_CPUINFO)


def cpu() -> str:
    """The name that Linux has for the board or the processor."""
    board, processor = Path("/proc/device-tree/model"), r"model name\s*: (.+)"
    for path, pattern in ((board, "(.+)"), (_CPUINFO, processor)):
        found = re.search(pattern, read(path))
        if found:
            return found[1].strip("\0 ")
    return platform.processor() or "unknown CPU"


def caches(folder: Path = _SYSTEM) -> dict[str, int]:
    """Bytes of each cache that holds data, as one core sees it, ``{"L1": 49152, ...}``; empty if unknown."""
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        number = re.fullmatch(r"(\d+)([KM]?)", size)
        if number and kind in ("Data", "Unified"):
            found[f"L{level}"] = int(number[1]) << {"": 0, "K": 10, "M": 20}[number[2]]
    return found


class Matrix(NamedTuple):
    """The weights of one product, for the floor."""

    numbers: int  # multiply-adds for one row of input
    nbytes: float
    again: bool  # read anew at every step, because a step needs the one before


class Machine:
    """The speed of one core, reading and multiplying, measured on demand and kept.

    Parameters
    ----------
    isa : str
        The instruction set to measure.
    seconds : float
        Seconds for each number: the best of many short turns counts.
    """

    def __init__(self, isa: str, seconds: float) -> None:
        self._isa, self._seconds = isa, seconds
        self._bandwidths: dict[int, float] = {}
        rounds = 20_000
        #: multiply-adds of float32 a second
        self.multiply_adds = _core.peak(isa, rounds) / self._best(lambda: _core.peak(isa, rounds))

    def _best(self, call: Callable[[], object]) -> float:
        call()
        best, until = float("inf"), time.perf_counter() + self._seconds
        while (begun := time.perf_counter()) < until:
            call()
            best = min(best, time.perf_counter() - begun)
        return best

    def bandwidth(self, nbytes: float) -> float:
        """Bytes a second of reading so many from first to last, again and again."""
        size = max(round(nbytes / 512), 8) * 512
        if size not in self._bandwidths:
            x, repeat = _core.aligned_zeros(size), max(1, (1 << 21) // size)
            seconds = self._best(lambda: _core.read(self._isa, x, repeat))
            self._bandwidths[size] = size * repeat / seconds
        return self._bandwidths[size]

    def floor(self, matrices: Iterable[Matrix], steps: int, batch: int) -> float:
        """Seconds that a call of so many steps takes at least.

        A matrix that meets one row of input costs its bytes, read at the speed of as many bytes as there are.
        One that meets several is a matrix product: it costs its bytes or its multiply-adds, whichever takes
        longer. Matrices of the input are read for all steps at once, matrices of the state step by step.
        Gates and Python's own time are not in it.
        """
        matrices = list(matrices)
        whole = sum(matrix.nbytes for matrix in matrices)
        total = 0.0
        for matrix in matrices:
            times, rows = (steps, batch) if matrix.again else (1, steps * batch)
            seconds = matrix.nbytes / self.bandwidth(whole if steps == 1 else matrix.nbytes)
            if rows > 1:
                seconds = max(seconds, matrix.numbers * rows / self.multiply_adds)
            total += times * seconds
        return total
