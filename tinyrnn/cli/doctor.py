"""``tinyrnn doctor``: the faults of an installation and its machine, and a check of its numbers."""

from __future__ import annotations

import os
import platform
import struct
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import tinyrnn as tr
from tinyrnn.cli.console import BAD, GOOD, NOTE, Finding, fail, say, tell
from tinyrnn.cli.goldens import check, findings
from tinyrnn.cli.machine import cpu, degrees, emulated, read, throttled
from tinyrnn.progress import Progress

# What needs a package beyond NumPy.
PACKAGES = {
    "matplotlib": "pictures need it: pip install 'tinyrnn[plot]'",
}

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_HOT = 80  # degrees Celsius: where a Raspberry Pi slows down

# Bits of `vcgencmd get_throttled`: now, and 16 bits above since the start.
_THROTTLED = ("too little voltage", "its frequency capped", "throttled", "at its limit of heat")


def instruction_set() -> Iterator[Finding]:
    """Say what runs, and what would be faster."""
    best, now = tr.available_isas()[-1], tr.isa()
    if now != best:
        yield NOTE, f"{now} runs, {best} would be faster: unset TINYRNN_ISA"
    elif best in ("scalar", "sse2"):
        yield NOTE, f"{best} is the best that this machine or build has: no AVX2, no NEON"
    else:
        yield GOOD, f"{best} runs, the best that this machine has"
    if struct.calcsize("P") == 4 and platform.machine() in ("aarch64", "x86_64"):
        yield (
            NOTE,
            "a 32-bit Python on a 64-bit processor: a 64-bit system is faster, and has the bits of others",
        )
    if emulated():
        yield NOTE, "the processor is emulated: its bits count, its times do not"


def speed_limits() -> Iterator[Finding]:
    """Say what slows the processor, where the system tells."""
    governor, heat, word = read(_CPU / "scaling_governor"), degrees(), throttled()
    if governor == "powersave" and "pstate" not in read(_CPU / "scaling_driver"):  # theirs goes by the load
        yield NOTE, f"the governor is {governor}: steps take longer; 'performance' or 'ondemand' is faster"
    if heat is not None:
        yield (BAD if heat >= _HOT else GOOD), f"{heat} °C" + ": it slows down" * (heat >= _HOT)
    if word is None:
        return
    for level, shift, when in ((BAD, 0, "now"), (NOTE, 16, "since it started")):
        found = [text for bit, text in enumerate(_THROTTLED) if word >> (bit + shift) & 1]
        if found:
            yield level, f"the board has {', '.join(found)} {when}: look at its supply and its cooling"
    if not word:
        yield GOOD, "the board was never throttled"


def packages() -> Iterator[Finding]:
    for name, use in PACKAGES.items():
        if find_spec(name) is None:
            yield NOTE, f"{name} is not installed; {use}"


def heading() -> list[str]:
    """The installation and the machine, in three lines."""
    return [
        f"tinyrnn {tr.__version__} in {os.path.dirname(tr.__file__)}, NumPy {np.__version__}",
        cpu(),
        f"{platform.platform()}, Python {platform.python_version()}",
    ]


def bits() -> Iterator[Finding]:
    """Compute what is known, on each instruction set."""
    with Progress() as bar:
        checked = check(bar.show)
    yield from findings(checked)


def command(args: Namespace) -> None:
    """Print all findings; fail if one is bad."""
    say("\n".join(heading()))
    faults = 0
    for one in (instruction_set, bits, speed_limits, packages):
        for finding in one():
            tell(finding)
            faults += finding[0] == BAD
    fail("doctor", faults)
    say("nothing is wrong")
