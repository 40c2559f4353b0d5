#!/usr/bin/env python3
"""Exact instruction counts on emulated ARM processors, by a plugin of QEMU.

    python bench/arm/count.py                    every row of ROWS
    python bench/arm/count.py --only lstm        those whose words contain this
    python bench/arm/count.py --check            fails where a row is above its limit

A count is the difference of two runs that differ in the number of steps, divided by that difference: the
same to the instruction in every run. Instructions are not time, but they are all that can be measured here
without the processor. Needs qemu-user, make, gcc and the cross compilers; rows of Python calls need what
tests/arm/wheel.sh arm64 makes, and are left out, by name, where that is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CSRC = TOP / "csrc"
WORK = Path(os.environ.get("TINYRNN_ARM") or TOP / "build" / "arm").resolve()


class Target(NamedTuple):
    """One core: the way it is cross-built (tests/c/Makefile's target of that name) and run."""

    compiler: str
    qemu: str
    cpu: str


TARGETS = {
    "arm64": Target("aarch64-linux-gnu-gcc", "qemu-aarch64", "cortex-a76"),
    "armv7": Target("arm-linux-gnueabihf-gcc", "qemu-arm", "cortex-a7"),
}

INPUT, HIDDEN = 64, 128


class Step(NamedTuple):
    """One step of a layer in C, in instructions per multiply-add."""

    target: str
    isa: str
    kind: str
    format: str
    limit: float  # --check fails above it: the last count, rounded up
    goal: float | None = None

    @property
    def multiply_adds(self) -> int:
        return {"lstm": 4, "gru": 3, "rnn": 1}[self.kind] * HIDDEN * (INPUT + HIDDEN)


ROWS = [
    Step("arm64", "neon", "lstm", "float32", 0.44, goal=0.45),
    Step("arm64", "neon", "gru", "float32", 0.45),
    Step("arm64", "neon", "lstm", "float16", 0.85),
    Step("arm64", "neon", "lstm", "bfloat16", 0.85),
    Step("arm64", "neon", "lstm", "int8", 0.45, goal=0.30),
    Step("arm64", "neon", "lstm", "int4", 0.50),
    Step("arm64", "neon_dot", "lstm", "int8", 0.25, goal=0.15),
    Step("arm64", "neon_dot", "gru", "int8", 0.262),
    Step("arm64", "neon_dot", "lstm", "int4", 0.46),
    Step("armv7", "neon", "lstm", "float32", 0.58, goal=0.50),
    Step("armv7", "neon", "gru", "float32", 0.63),
    Step("armv7", "neon", "lstm", "int8", 0.85),
]

# Instructions of a call from Python on arm64, beyond those of its step in C: of the smallest net, since the
# call does not depend on the net.
CALL_GOAL, CALL_LIMIT = 1500, 1500
CALL = """
import sys
import numpy as np, tinyrnn as tr
tr.set_isa("neon")
def steps(stream, times):
    x, out = np.ones(1, np.float32), np.empty(1, np.float32)
    step = stream.step
    for _ in range(times):
        step(x, out)
steps(tr.LSTM(1, 1).stream(), int(sys.argv[1]))
"""


def run(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def count(target: Target, program: list[object], few: int, many: int) -> int:
    """Instructions of one step: `program` takes the number of steps as its last argument."""

    def executed(steps: int) -> int:
        plugin = ["-cpu", target.cpu, "-plugin", WORK / "qcount.so"]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}
        done = run(target.qemu, *plugin, *program, steps, env=environment)
        return int(re.search(r"qcount: (\d+)", done.stderr)[1])

    return round((executed(many) - executed(few)) / (many - few))


def build(name: str) -> Path:
    """step.c, linked with the core's objects as the Makefile of tests/c makes and names them."""
    compiler, out, program = TARGETS[name].compiler, Path("../../build/c") / name, WORK / f"step-{name}"
    listed = run(compiler, "-E", "-P", "-x", "c", CSRC / "kernels" / "isa.def").stdout
    sources = [path.relative_to(CSRC) for path in CSRC.rglob("*.c") if path.name != "kernels.c"]
    objects = [out / "core" / path.with_suffix(".o") for path in sources]
    objects += [out / "isa" / f"{isa}.o" for isa in re.findall(r"TRNN_ISA\((\w+)", listed)]
    there = TOP / "tests" / "c"
    run("make", "-s", f"OUT={out}", f"CC={compiler}", "FLAGS=-static", *objects, cwd=there)
    run(compiler, "-O2", "-Wall", "-Werror", "-static", HERE / "step.c", *objects, "-o", program, cwd=there)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="rows whose words contain this")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a row is above its limit")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.only in " ".join(row[:4])]

    WORK.mkdir(parents=True, exist_ok=True)
    run("gcc", "-O2", "-Wall", "-shared", "-fPIC", HERE / "qcount.c", "-o", WORK / "qcount.so")
    programs = {name: build(name) for name in dict.fromkeys(row.target for row in rows)}
    for target in programs.values():
        print(run(TARGETS[target.name.removeprefix("step-")].compiler, "--version").stdout.splitlines()[0])

    above = 0

    def line(words: str, instructions: int, each: float | None, goal: float | None, limit: float) -> None:
        nonlocal above
        value = instructions if each is None else each
        missed = value > limit
        above += missed
        cells = [
            words,
            f"{instructions:,}",
            "" if each is None else f"{each:.3f}",
            "" if goal is None else f"{goal:g}",
        ]
        print(f"| {' | '.join(cells)} | {limit:g}{' EXCEEDED' if missed else ''} |")

    print(f"\nOne step of ({INPUT}, {HIDDEN}):\n")
    print("| target, ISA, layer, format | instructions | per multiply-add | goal | limit |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        program = [programs[row.target], row.isa, row.kind, INPUT, HIDDEN, row.format]
        steps = count(TARGETS[row.target], program, 10, 30)
        line(" ".join(row[:4]), steps, steps / row.multiply_adds, row.goal, row.limit)

    site, root = WORK / "site-arm64", WORK / "root-arm64"
    if "arm64" in programs and not site.is_dir():
        print("\nleft out: a call from Python, which needs tests/arm/sysroot.sh and wheel.sh, arm64 both")
    elif "arm64" in programs:
        python = root / "usr" / "bin" / os.readlink(root / "usr" / "bin" / "python3")
        inside = count(TARGETS["arm64"], [programs["arm64"], "neon", "lstm", 1, 1, "float32"], 10, 30)
        whole = count(TARGETS["arm64"], ["-L", root, python, "-c", CALL], 1000, 3000)
        line("arm64 stream.step(x, out), without its step in C", whole - inside, None, CALL_GOAL, CALL_LIMIT)
    sys.exit(arguments.check and above > 0)


if __name__ == "__main__":
    main()
