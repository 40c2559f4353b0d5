"""A step of training in tinyrnn and in PyTorch: time, two threads, memory.

    python bench/compare.py train [--quick] [--only lstm,online] [--parts time,memory] [--save] [--json FILE]

Both train the same net from the same weights on the same batches, and must find the same losses, before
anything is timed. README.md says how to read the numbers.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import footprint
import lesson as lessons
import runs
import speed_tables as tables
from lesson import Lesson
from work import Call

import tinyrnn as tr
from tinyrnn.cli.machine import Machine

PARTS = ["time", "threads", "memory"]
NOMINAL = 208.0  # GFLOP/s of float32 of one core, two to a multiply-add: AVX-512 at 3.25 GHz
TOLERANCE = 1e-5  # of the losses of the first steps, relative to PyTorch's where they exceed 1


# ---- contenders ---------------------------------------------------------------------------------


def present() -> list[str]:
    """The contenders whose packages are installed; says which are not."""
    if importlib.util.find_spec("torch"):
        return list(lessons.TEACHERS)
    print("PyTorch is left out: no torch here; tinyrnn's losses are compared with nothing")
    return ["tinyrnn"]


def prepare(lesson: Lesson, names: list[str]) -> dict[str, Call]:
    """Make the contenders' Calls.

    A contender of PyTorch that fails is left out, by name. If tinyrnn's losses differ from PyTorch's,
    everything stops.
    """
    calls: dict[str, Call] = {}
    losses: dict[str, list[float]] = {}
    for name in names:
        try:
            call = lessons.TEACHERS[name](lesson)
            losses[name] = []
            for seed in range(footprint.STEPS):
                lesson.again(seed)
                losses[name].append(float(call()))
        except Exception as error:  # whatever a library raises: the others go on
            if name == "tinyrnn":
                raise
            print(f"{tables.TRAINERS[name]} is left out of {lesson}: {type(error).__name__}: {error}")
            continue
        calls[name] = call
    for name in calls.keys() - {"tinyrnn"}:
        pairs = zip(losses["tinyrnn"], losses[name], strict=True)
        off = max(abs(own - wanted) / max(1.0, abs(wanted)) for own, wanted in pairs)
        if not off <= TOLERANCE:
            sys.exit(f"{lesson}: tinyrnn's losses are {off:.2g} off those of {tables.TRAINERS[name]}")
    return calls


# ---- measuring ----------------------------------------------------------------------------------


def race(lesson: Lesson, calls: dict[str, Call], rounds: int) -> dict[str, dict[str, float]]:
    """Measure each contender's milliseconds per step, in the fastest round and in the median one.

    Also count the cores that it had: fewer than its threads if something else ran.

    Each round has another batch, and begins with another contender.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    worked = dict.fromkeys(calls, 0.0)
    names = list(calls)
    gc.collect()
    gc.disable()
    for number in range(rounds):
        lesson.again(number)
        for name in names:
            before = time.process_time()
            seconds[name].append(runs.seconds_of(calls[name], lesson.turn))
            worked[name] += time.process_time() - before
        names.append(names.pop(0))
    gc.enable()
    return {
        "fastest": {name: tables.digits4(min(found) * 1e3) for name, found in seconds.items()},
        "median": {name: tables.digits4(statistics.median(found) * 1e3) for name, found in seconds.items()},
        "cores": {
            name: tables.digits4(worked[name] / (sum(found) * lesson.turn)) for name, found in seconds.items()
        },
    }


def two_threads(lesson: Lesson, rounds: int) -> dict[str, dict[str, float]]:
    """tinyrnn with one thread and with two, in turn, both free to use two cores."""
    calls = {str(threads): lessons.tinyrnn(lesson, threads) for threads in (1, 2)}
    for call in calls.values():
        call()
    return race(lesson, calls, rounds)


def memory(lesson: Lesson, name: str, times: int) -> dict[str, float]:
    """Megabytes of a contender in processes of its own, the median one's: see footprint.py."""
    arguments = {field.name: getattr(lesson, field.name) for field in fields(lesson) if field.init}
    path = os.pathsep.join([str(Path(tr.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    found = []
    for _ in range(times):
        child = subprocess.run(
            [sys.executable, footprint.__file__, name, json.dumps(arguments)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        if child.returncode:
            raise RuntimeError((child.stderr.strip() or f"exit {child.returncode}").splitlines()[-1])
        found.append(json.loads(child.stdout))
    middle = sorted(found, key=lambda numbers: numbers["peak"] - numbers["warm"])[len(found) // 2]
    record = {
        "import": middle["imported"],
        "beyond_import": middle["peak"] - middle["imported"],
        "beyond_first_step": middle["peak"] - middle["warm"],
    }
    if "told" in middle:
        record["told"] = middle["told"]
    return {key: tables.digits4(nbytes / 1e6) for key, nbytes in record.items()}


# ---- the report ---------------------------------------------------------------------------------


def blank(row: str, nominal: float, peak: float) -> dict[str, Any]:
    """A row's record before anything is measured."""
    lesson = lessons.LESSONS[row]
    return {
        "row": row,
        "net": str(lesson),
        "batch": lesson.batch,
        "turn": lesson.turn,
        "floor": tables.digits4(lesson.multiply_adds / peak * 1e3),
        "floor_nominal": tables.digits4(lesson.multiply_adds / (nominal * 1e9 / 2) * 1e3),
    }


def add_times(records: list[dict[str, Any]], names: list[str], options: argparse.Namespace) -> None:
    print("\nA step of training, ms: the fastest round, the median one")
    print(tables.train_head(names, options.nominal))
    for record in records:
        lesson = replace(lessons.LESSONS[record["row"]])
        record |= race(lesson, prepare(lesson, names), options.rounds)
        print(tables.train_row(record, names), flush=True)


def add_threads(records: list[dict[str, Any]], cores: list[int], options: argparse.Namespace) -> None:
    if len(cores) < 2:
        print("\nTwo threads are left out: one core here")
        return
    print("\ntinyrnn with one thread and with two, on two cores, ms: the fastest round, the median one")
    before = runs.allowed()
    runs.stay_on(cores[-2:])
    for record in records:
        if record["batch"] > 1:
            record["threads"] = two_threads(replace(lessons.LESSONS[record["row"]]), options.rounds)
            print(tables.threads_row(record), flush=True)
    runs.stay_on(before)


def add_memory(records: list[dict[str, Any]], names: list[str], options: argparse.Namespace) -> None:
    print("\nPeak memory, MB beyond the import (beyond that and a step of a net of one unit)")
    for record in records:
        try:
            record["memory"] = {
                name: memory(lessons.LESSONS[record["row"]], name, options.processes)
                for name in tables.MEASURED
                if name in names
            }
        except (OSError, RuntimeError) as error:
            print(f"memory is left out: {error}")
            return
        print(tables.memory_row(record), flush=True)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare.py train",
        description="Steps of training in tinyrnn and in PyTorch, on one core, in turn.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    add("--rounds", type=int, help="how often each contender has its turn (default: 25, quick: 3)")
    add("--core", type=int, help="the core to stay on (default: the last one)")
    add("--only", metavar="ROWS", help=f"some of {','.join(lessons.LESSONS)}")
    add("--parts", help=f"some of {','.join(PARTS)}")
    add("--nominal", type=float, default=NOMINAL, help=f"GFLOP/s of the second floor (default: {NOMINAL:g})")
    add("--json", type=Path, metavar="FILE", help="write every number")
    add("--save", action="store_true", help="write them into bench/results/training, and the pages' tables")
    arguments = parser.parse_args(argv)
    for option, known in (("only", list(lessons.LESSONS)), ("parts", PARTS)):
        text = getattr(arguments, option)
        chosen = known if text is None else text.split(",")
        if wrong := [name for name in chosen if name not in known]:
            parser.error(f"--{option}: got {', '.join(wrong)}, expected some of {', '.join(known)}")
        setattr(arguments, option, chosen)
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds: got {arguments.rounds}, expected at least 1")
    if not 0 < arguments.nominal < float("inf"):
        parser.error(f"--nominal: got {arguments.nominal:g}, expected a positive number")
    whole = arguments.only == list(lessons.LESSONS) and arguments.parts == PARTS
    if arguments.save and (arguments.quick or not whole):
        parser.error("--save keeps whole measurements: without --quick, --only and --parts")
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 25)
    arguments.processes = 1 if arguments.quick else 3
    return arguments


def main(argv: list[str]) -> None:
    options = parse_arguments(argv)
    cores = runs.allowed()
    header = runs.about(runs.pin(options.core), ["torch", "numpy"])
    print(tables.heading(header))
    names = present()
    machine = Machine(tr.isa(), 0.1 if options.quick else 1.0)
    header |= {
        "multiply_adds_g_per_s": tables.digits4(machine.multiply_adds / 1e9),
        "nominal_gflops": options.nominal,
        "rounds": options.rounds,
    }
    print(f"the core does {tables.short(header['multiply_adds_g_per_s'])} G multiply-adds/s")
    records = [blank(row, options.nominal, machine.multiply_adds) for row in options.only]
    if "time" in options.parts:
        add_times(records, names, options)
    if "threads" in options.parts:
        add_threads(records, cores, options)
    if "memory" in options.parts:
        add_memory(records, names, options)
    result = {"about": header, "rows": records}
    if options.json:
        options.json.write_text(tables.as_json(result))
    if options.save:
        folder = tables.RESULTS / tables.TRAINING
        folder.mkdir(exist_ok=True)
        path = runs.result_path(header, folder)
        path.write_text(tables.as_json(result))
        print(f"\nwritten: {tables.TRAINING}/{path.name}, {', '.join(tables.write())}")
