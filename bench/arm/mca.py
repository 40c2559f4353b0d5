#!/usr/bin/env python3
"""Cycles of the inner loops on ARM cores, as llvm-mca reckons them from LLVM's models of those cores.

    python bench/arm/mca.py                          loops of the neon table that multiply and add
    python bench/arm/mca.py --isa neon_dot           of another one
    python bench/arm/mca.py --flags=-mtune=cortex-a53    compiled with these flags as well
    python bench/arm/mca.py --function group_f32     of one function

A loop is cut out of the disassembly: a branch backwards with no other one inside; a branch forwards is taken
for not taken. Beside the cycles of a turn stand those that its loads alone and its multiply-adds alone would
take (the busiest of the units that they use), the bound. Caches and branches are perfect here. The A53
is the Raspberry Pi 3's core, the A72 the Pi 4's (LLVM takes it for an A57); nearest to the Pi 5's A76 is the
Neoverse N1, which has a model of its own from LLVM 17 on. In LLVM's A53 nothing may be written back before
what was issued earlier, so that a load waits for the multiply-adds before it, whatever its registers. A
guide to what is better, not a prediction. Needs gcc-aarch64-linux-gnu and llvm.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).resolve().parent.parent.parent / "csrc" / "kernels"
CPUS = ("cortex-a53", "cortex-a72", "neoverse-n1")
# As setup.py and tests/c/Makefile compile the core.
FLAGS = ["-std=c99", "-O3", "-DNDEBUG", "-fPIC", "-ffp-contract=off", "-fno-math-errno"]

LOAD = re.compile(r"ldr|ldur|ldp|ld1|ld1r|ld2|ld3|ld4")
MULTIPLY = re.compile(r"fmla|sdot|udot|usdot|smlal2?|smull2?|smlsl2?|sadalp|fmadd")
TURNS = 100


class Loop(NamedTuple):
    function: str
    body: list[str]  # instructions, the last one is the branch back

    def words(self, pattern: re.Pattern[str]) -> list[str]:
        return [line for line in self.body if pattern.fullmatch(line.split()[0])]


def run(*command: object, **more: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def isa_flags(isa: str) -> list[str]:
    listed = run("aarch64-linux-gnu-gcc", "-E", "-P", "-x", "c", KERNELS / "isa.def")
    found = dict(re.findall(r'TRNN_ISA\((\w+), "(.*?)"\)', listed))
    if isa not in found:
        sys.exit(f"--isa {isa}: expected one of {', '.join(found)}")
    return found[isa].split()


def disassembly(isa: str, flags: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernels.o"
        options = [*FLAGS, f"-DTRNN_ISA_NAME={isa}", *isa_flags(isa), *flags]
        run("aarch64-linux-gnu-gcc", *options, "-c", KERNELS / "kernels.c", "-o", made)
        return run("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", made)


def loops(text: str) -> Iterator[Loop]:
    """The innermost loops of a disassembly."""
    for name, block in re.findall(r"^[0-9a-f]+ <(\w+)>:\n((?:.+\n)*)", text, flags=re.M):
        lines = re.findall(r"^ *([0-9a-f]+):\t(.+?)(?:\s+//.*)?$", block, flags=re.M)
        places = {int(at, 16): i for i, (at, _) in enumerate(lines)}
        jumps = []  # (from, to)
        for i, (_, line) in enumerate(lines):
            target = re.match(r"(?:b(?:\.\w+)?|cbn?z\s.*,|tbn?z\s.*,)\s+([0-9a-f]+) <", line)
            if target and int(target[1], 16) in places:
                jumps.append((i, places[int(target[1], 16)]))
        for end, start in jumps:
            if start <= end and not any(start <= to <= at < end for at, to in jumps):
                yield Loop(name, [line.replace("\t", " ") for _, line in lines[start : end + 1]])


def cycles(tool: str, cpu: str, body: list[str], isa: str) -> float:
    """Cycles of a turn of the loop, in the long run."""
    text = "\n".join(["turn:", *(re.sub(r"\b[0-9a-f]+ <.*>", "turn", line) for line in body)]) + "\n"
    attributes = ["-mattr=+dotprod"] if "dot" in isa else []
    options = ["-mtriple=aarch64", f"-mcpu={cpu}", *attributes, f"-iterations={TURNS}"]
    out = run(tool, *options, input=text)
    return int(re.search(r"Total Cycles:\s+(\d+)", out)[1]) / TURNS


def bound(tool: str, cpu: str, lines: list[str], isa: str) -> float:
    """Cycles that these instructions of a turn would take if they waited for nothing but a free unit."""
    if not lines:
        return 0.0
    text = "\n".join(lines) + "\n"
    attributes = ["-mattr=+dotprod"] if "dot" in isa else []
    out = run(tool, "-mtriple=aarch64", f"-mcpu={cpu}", *attributes, "-iterations=1", input=text)
    return float(re.search(r"Block RThroughput:\s+(\S+)", out)[1])


def newest() -> str:
    for version in range(40, 13, -1):
        if shutil.which(f"llvm-mca-{version}"):
            return f"llvm-mca-{version}"
    return "llvm-mca"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--isa", default="neon")
    parser.add_argument("--flags", default="", help="for the compiler, after those of isa.def")
    parser.add_argument("--function", default="", help="functions whose name contains this")
    parser.add_argument("--least", type=int, default=8, help="multiply-adds in a turn, or it is left out")
    parser.add_argument("--mca", default=newest(), help="by default the newest llvm-mca there is")
    arguments = parser.parse_args()

    compiler = run("aarch64-linux-gnu-gcc", "--version").splitlines()[0]
    version = re.search(r"LLVM version (\S+)", run(arguments.mca, "--version"))[1]
    print(f"{compiler}; LLVM {version}; {arguments.isa} {arguments.flags}\n")
    print("Cycles a turn (by its loads, by its multiply-adds):\n")
    print(f"| function | multiply-adds | loads | other | {' | '.join(CPUS)} |")
    print(f"|---|{'---:|' * (3 + len(CPUS))}")
    for loop in loops(disassembly(arguments.isa, arguments.flags.split())):
        loads, multiplies = loop.words(LOAD), loop.words(MULTIPLY)
        if len(multiplies) < arguments.least or arguments.function not in loop.function:
            continue
        cells = []
        for cpu in CPUS:
            whole = cycles(arguments.mca, cpu, loop.body, arguments.isa)
            parts = [bound(arguments.mca, cpu, lines, arguments.isa) for lines in (loads, multiplies)]
            cells.append(f"{whole:.1f} ({parts[0]:.1f}, {parts[1]:.1f})")
        other = len(loop.body) - len(loads) - len(multiplies)
        words = [loop.function, len(multiplies), len(loads), other, *cells]
        print(f"| {' | '.join(map(str, words))} |")


if __name__ == "__main__":
    main()
