"""The same work in tinyrnn and its peers, in one process, on one core, in turn.

    python bench/compare.py [--quick] [--only S,Q] [--peers litert,ncnn] [--save] [--json FILE]
    python bench/compare.py train [--quick] [--only lstm,online] [--save] [--json FILE]    (training.py)

Every contender gets the same weights and the same input, and must give PyTorch's output, before anything is
timed. What is not installed is left out, by name. README.md says how to read the numbers.
"""

from __future__ import annotations

import os

# One thread each: read when the libraries are loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import gc
import importlib.util
import re
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import speed_tables as tables
from runs import about, pin, result_path, seconds_of
from work import Array, Call, Work

import tinyrnn as tr
from tinyrnn.cli.machine import Machine, Matrix

SIZES = [(1, 16), (40, 64), (64, 128), (128, 256), (256, 512)]
KINDS = ["LSTM", "GRU"]
PEERS = ["tinyrnn", "torch_cell", "torch_layer", "onnxruntime", "litert", "openvino", "ncnn", "numpy_code"]

# How far an output may be off PyTorch's in float32, after fifty steps or more.
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 2e-2, "int4": 2e-1}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "int4": 0.5 + 4 / 32}  # int4: a scale in 32


def rows(chosen: list[tuple[int, int]] | None = None) -> dict[str, list[Work]]:
    """The measurements, by the letter or word that `--only` takes; S, Q and B in the chosen sizes."""
    sizes = chosen or SIZES

    def each(sizes: list[tuple[int, int]], **more: Any) -> list[Work]:
        return [Work(kind, *size, **more) for kind in KINDS for size in sizes]

    quantised = chosen or SIZES[2:]
    return {
        "S": each(sizes),
        "Q": each(sizes, steps=100),
        "B": each(sizes, steps=100, batch=32),
        "layers": each([(40, 128)], layers=2),
        "bidirectional": each([(64, 128)], steps=100, bidirectional=True),
        "streams": [work for count in (2, 8, 32, 128) for work in each([(64, 128)], batch=count)],
        "int8": each(quantised, dtype="int8"),
        "int4": each(quantised, dtype="int4"),
        "float16": each(quantised, dtype="float16"),
        "bfloat16": each(quantised, dtype="bfloat16"),
    }


# ---- contenders ---------------------------------------------------------------------------------


def present(names: list[str]) -> dict[str, ModuleType]:
    """The contenders whose packages are installed; says which are not."""
    found = {}
    for name in names:
        peer = importlib.import_module(f"peers.{name}")
        absent = [package for package in peer.NEEDS if importlib.util.find_spec(package) is None]
        if absent:
            print(f"{name} is left out: no {' and no '.join(absent)} here")
        else:
            found[name] = peer
    return found


def prepare(work: Work, peers: dict[str, ModuleType]) -> dict[str, Call]:
    """The contenders' Calls. Who fails or gives another output than PyTorch is left out, by name."""
    calls, reference = {}, _reference(work, peers)
    for name, peer in peers.items():
        if not peer.fits(work):
            continue
        try:
            call = peer.prepare(work)
            off = max(
                float(np.abs(work.read(call()) - wanted).max())
                for seed, wanted in enumerate(reference)
                if work.again(seed) is None
            )
        except Exception as error:  # whatever a library raises: the others go on
            if name == "tinyrnn":
                raise
            print(f"{name} is left out of {work}: {type(error).__name__}: {error}")
            continue
        if off <= TOLERANCES[work.dtype]:
            calls[name] = call
        else:
            complaint = f"{work}: {name} is {off:.2g} off PyTorch, more than {TOLERANCES[work.dtype]}"
            if name == "tinyrnn":
                sys.exit(complaint)
            print(f"left out of {complaint}")
    return calls


def _reference(work: Work, peers: dict[str, ModuleType]) -> list[Array]:
    """The outputs of some calls, each beginning with the state of the one before, in float32."""
    plain = Work(work.kind, work.inputs, work.hidden, work.steps, work.batch, work.layers, work.bidirectional)
    peer = peers.get("torch_layer") or importlib.import_module("peers.numpy_code")
    call, outputs = peer.prepare(plain), []
    for seed in range(max(3, 50 // work.steps)):
        plain.again(seed)
        outputs.append(plain.read(call()))
    return outputs


# ---- timing -------------------------------------------------------------------------------------


def race(calls: dict[str, Call], rounds: int, block: float) -> dict[str, list[float]]:
    """Seconds per call of each contender, one number a round; they take turns, each round another first."""
    times = {name: max(1, int(block / max(seconds_of(call, 3), 1e-9))) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for name in names:
            found[name].append(seconds_of(calls[name], times[name]))
        names.append(names.pop(0))
    gc.enable()
    return found


def tail(call: Call, seconds: float) -> dict[str, float]:
    """Quantiles of single calls in microseconds, less what the clock itself takes."""
    count = int(np.clip(seconds / seconds_of(call, 50), 1000, 50_000))
    taken, nothing = np.empty(count), np.empty(1000)
    clock = time.perf_counter_ns
    gc.disable()
    for into, do in ((nothing, lambda: None), (taken, call)):
        for i in range(len(into)):
            begun = clock()
            do()
            into[i] = clock() - begun
    gc.enable()
    taken -= np.median(nothing)
    return {f"p{p:g}": tables.digits4(np.percentile(taken, p) / 1e3) for p in (50, 99, 99.9)}


def matrices(work: Work) -> list[Matrix]:
    """The matrices that the floor is made of: the weights without the biases."""
    return [
        Matrix(array.size, array.size * BYTES[work.dtype], name.startswith("weight_hh"))
        for name, array in work.weights.items()
        if name.startswith("weight")
    ]


# ---- the report ---------------------------------------------------------------------------------


def measure(row: str, work: Work, calls: dict[str, Call], machine: Machine, options: Any) -> dict[str, Any]:
    """One row's record: microseconds per step, of each contender the fastest round and the median one."""
    seconds = race(calls, options.rounds, options.block)
    scale = 1e6 / work.steps
    record: dict[str, Any] = {
        "row": row,
        "kind": work.kind,
        "input_size": work.inputs,
        "hidden_size": work.hidden,
        "steps": work.steps,
        "batch": work.batch,
        "floor": tables.digits4(machine.floor(matrices(work), work.steps, work.batch) * scale),
        "fastest": {name: tables.digits4(min(found) * scale) for name, found in seconds.items()},
        "median": {name: tables.digits4(statistics.median(found) * scale) for name, found in seconds.items()},
    }
    if row == "S":
        record["tail"] = tail(calls["tinyrnn"], options.block * options.rounds)
    return record


def sizes_of(text: str) -> list[tuple[int, int]]:
    found = [re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", part) for part in text.split(",")]
    if None in found:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected sizes such as 48x96,192x384")
    return [(int(size[1]), int(size[2])) for size in found if size]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="tinyrnn beside its peers, in one process on one core.",
        epilog="compare.py train: the same of training steps; compare.py train --help",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds: a look, not a measurement")
    add("--rounds", type=int, help="how often each contender has its turn (default: 25, quick: 3)")
    add("--core", type=int, help="the core to stay on (default: the last one)")
    add("--only", metavar="ROWS", help=f"some of {','.join(rows())}")
    add("--sizes", type=sizes_of, help="others than the standard ones, such as 48x96,192x384")
    add("--peers", metavar="NAMES", help=f"tinyrnn and some of {','.join(PEERS[1:])}")
    add("--json", type=Path, metavar="FILE", help="write every number")
    add("--save", action="store_true", help="write them into bench/results, and the READMEs' tables")
    arguments = parser.parse_args()
    for option, known in (("only", list(rows())), ("peers", PEERS)):
        text = getattr(arguments, option)
        chosen = known if text is None else text.split(",")
        if wrong := [name for name in chosen if name not in known]:
            parser.error(f"--{option}: got {', '.join(wrong)}, expected some of {', '.join(known)}")
        setattr(arguments, option, chosen)
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds: got {arguments.rounds}, expected at least 1")
    if arguments.save and (arguments.quick or arguments.sizes or arguments.only != list(rows())):
        parser.error("--save keeps complete measurements: leave out --quick, --only and --sizes")
    arguments.peers = list(dict.fromkeys(["tinyrnn", *arguments.peers]))
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 25)
    # Seconds of one turn, or one call if that takes longer.
    arguments.block = 0.002 if arguments.quick else 0.02
    return arguments


def main() -> None:
    if sys.argv[1:2] == ["train"]:
        import training

        training.main(sys.argv[2:])
        return
    options = parse_arguments()
    header = about(pin(options.core))
    print(tables.heading(header))
    peers = present(options.peers)
    with contextlib.ExitStack() as whole_run:
        if "torch_layer" in peers or "torch_cell" in peers:
            import torch

            whole_run.enter_context(torch.inference_mode())  # once: entering it costs a microsecond
        machine = Machine(tr.isa(), options.block * options.rounds / 4)
        header["multiply_adds_g_per_s"] = tables.digits4(machine.multiply_adds / 1e9)
        header["read_gb_per_s"] = {
            str(1 << power): tables.digits4(machine.bandwidth(1 << power) / 1e9) for power in range(14, 27, 2)
        }
        print(f"the core {tables.limits(header)}")
        records = []
        for row in options.only:
            works = rows(options.sizes)[row]
            names = [name for name, peer in peers.items() if any(peer.fits(work) for work in works)]
            print(f"\n{tables.TITLES[row]}, µs per step\n{tables.text_head(names)}")
            for work in works:
                records.append(measure(row, work, prepare(work, peers), machine, options))
                print(tables.text_row(records[-1], names), flush=True)
    result = {"about": header, "rows": records}
    if options.json:
        options.json.write_text(tables.as_json(result))
    if options.save:
        path = result_path(header, tables.RESULTS)
        path.write_text(tables.as_json(result))
        print(f"\nwritten: {path.name}, {', '.join(tables.write())}")


if __name__ == "__main__":
    main()
