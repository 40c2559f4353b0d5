"""``tinyrnn doctor``: the faults of an installation and its machine, and a check of its numbers."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import zlib
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn._core import is_fused
from tinyrnn.cli.console import say
from tinyrnn.cli.machine import cpu

GOOD, NOTE, BAD = "ok", "note", "BAD"
Finding = tuple[str, str]

# The CRC-32 of `outputs` on instruction sets with a fused multiply-add: on x86-64 and on emulated aarch64.
GOLDEN = 0x1ECAD217
# The first numbers of its last step, and the largest difference from them without a fused multiply-add.
LAST = (
    (0.04177563, 0.01048302, 0.01099059, 0.07316494),
    (0.04143330, 0.01049458, 0.01100202, 0.07320087),
)
TOLERANCE = 1e-5

# What needs a package beyond NumPy.
PACKAGES = {
    "h5py": "Keras files need it: pip install 'tinyrnn[keras]'",
    "matplotlib": "pictures need it: pip install 'tinyrnn[plot]'",
    "tqdm": "progress bars need it: pip install 'tinyrnn[progress]'",
}

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_HEAT = Path("/sys/class/thermal/thermal_zone0/temp")
_HOT = 80  # degrees Celsius: where a Raspberry Pi slows down

# Bits of `vcgencmd get_throttled`: now, and 16 bits above since the start.
_THROTTLED = ("too little voltage", "its frequency capped", "throttled", "at its limit of heat")


def numbers(*shape: int, seed: int) -> NDArray[np.float32]:
    """Numbers between -1 and 1 that every machine has alike."""
    count = int(np.prod(shape))
    mixed = (np.arange(seed + 1, seed + 1 + count, dtype=np.uint32) * np.uint32(2654435761)) >> np.uint32(8)
    return ((mixed.astype(np.float64) / 2**23) - 1).astype(np.float32).reshape(shape)


def outputs() -> NDArray[np.float32]:
    """The outputs of a net of several layers, in float32 and in int8."""
    net = tr.Sequential(tr.Linear(5, 24), tr.LSTM(24, 40, peephole=True), tr.GRU(40, 24), tr.Softmax(-1))
    shapes = {name: array.shape for name, array in net.state_dict().items()}
    net.load_state_dict({name: numbers(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())})
    x = numbers(50, 3, 5, seed=99)
    return np.stack([net(x), tr.quantize(net, "int8")(x)])


def bits() -> Iterator[Finding]:
    """Compare the outputs on each instruction set with those that are known."""
    chosen = tr.isa()
    found = {}
    try:
        for name in tr.available_isas():
            tr.set_isa(name)
            found[name] = outputs()
    finally:
        tr.set_isa(chosen)
    fused = [name for name in found if is_fused(name)]
    wrong = [name for name in fused if zlib.crc32(found[name].tobytes()) != GOLDEN]
    if wrong:
        yield BAD, f"{', '.join(wrong)}: other bits than on every other machine: this build computes wrongly"
    elif fused:
        yield GOOD, f"{', '.join(fused)}: the same bits as everywhere"
    for name in (name for name in found if name not in fused):
        away = float(np.abs(found[name][:, -1, 0, :4] - np.array(LAST)).max())
        if not away <= TOLERANCE:
            yield BAD, f"{name}: outputs differ by {away:.2g}, expected at most {TOLERANCE:g}"
        else:
            yield GOOD, f"{name}: within {TOLERANCE:g}; it has no fused multiply-add, so its bits are its own"


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


def speed_limits() -> Iterator[Finding]:
    """Say what slows the processor, where the system tells."""
    governor, heat = _read(_CPU / "scaling_governor"), _read(_HEAT)
    if governor == "powersave" and "pstate" not in _read(_CPU / "scaling_driver"):  # theirs goes by the load
        yield NOTE, f"the governor is {governor}: steps take longer; 'performance' or 'ondemand' is faster"
    if heat and heat.isdigit():
        degrees = int(heat) // 1000
        yield (BAD if degrees >= _HOT else GOOD), f"{degrees} °C" + ": it slows down" * (degrees >= _HOT)
    if shutil.which("vcgencmd"):
        said = subprocess.run(
            ["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=10
        ).stdout
        yield from throttled(said)


def throttled(said: str) -> Iterator[Finding]:
    """Read ``throttled=0x50005``, a Raspberry Pi's account of itself."""
    try:
        word = int(said.partition("=")[2], 16)
    except ValueError:
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


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def command(args: Namespace) -> None:
    """Print all findings; fail if one is bad."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    say(f"tinyrnn {tr.__version__} in {os.path.dirname(tr.__file__)}, NumPy {np.__version__}")
    say(f"{cpu()}, {system}")
    failed = 0
    for check in (instruction_set, bits, speed_limits, packages):
        for level, text in check():
            say(f"{level:4}  {text}")
            failed += level == BAD
    if failed:
        raise ValueError(f"doctor: got {failed} fault{'s' * (failed > 1)}, expected none: see above")
    say("nothing is wrong")
