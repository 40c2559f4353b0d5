"""``tinyrnn bench``: how long a step of a net takes."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from argparse import Namespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.console import UsageError, one_line, say
from tinyrnn.cli.models import closed_frame, open_model, reads_indices

_SPEC = re.compile(r"(lstm|gru|rnn):(\d{1,6})x(\d{1,6})(?:x(\d{1,4}))?", re.IGNORECASE)


def command(args: Namespace) -> None:
    """Time a net's steps and say the quantiles, as text or as JSON."""
    if args.isa is not None and args.isa not in tr.available_isas():
        raise UsageError(f"--isa {args.isa}: not here, expected one of {' '.join(tr.available_isas())}")
    spec = _SPEC.fullmatch(args.model)
    if spec:
        inputs, hidden, layers = (int(number or 1) for number in spec.groups()[1:])
        net = getattr(tr, spec[1].upper())(inputs, hidden, layers)
    elif re.match(r"\w+:\d", args.model) and not os.path.exists(args.model):
        raise UsageError(f"{args.model}: no size of a net, expected KIND:INPUTxHIDDEN[xLAYERS], lstm:64x128")
    else:
        net = open_model(args)
    before = tr.isa()
    try:
        tr.set_isa(args.isa or before)
        row = _measure(net, args)
    finally:
        tr.set_isa(before)
    if args.json:
        say(json.dumps(row))
        return
    us = {name: f"{value:.2f}" for name, value in row["us_per_step"].items()}
    say(f"{one_line(args.model)}: {row['isa']}, batch {row['batch']}, {row['cpu']} ({row['machine']})")
    say(
        f"  {us['p50']} µs per step p50, {us['p99']} p99, {us['p99.9']} p99.9, {us['min']} min: "
        f"{row['steps']:,} steps, less the clock's own {row['clock_ns']:.0f} ns"
    )
    say(f"  {row['weight_bytes']:,} bytes of weights a step: {row['weight_gb_per_s']:.1f} GB/s at p50")


def _measure(net: tr.Net, args: Namespace) -> dict[str, Any]:
    """Time single steps of a stream as a program makes them, into ``out``."""
    frame = closed_frame(net, args.frame)
    stream = net.stream(args.batch, frame=frame)
    shape = frame if args.batch == 1 else (args.batch, *frame)
    random = np.random.default_rng(0)
    if reads_indices(net):
        x = random.integers(0, net._leaves()[0][1].num_embeddings, shape).astype(np.int32)
    else:
        x = random.standard_normal(shape).astype(np.float32)
    out = np.empty_like(stream.step(x))
    step, clock = stream.step, time.perf_counter_ns

    def times(count: int) -> NDArray[np.float64]:
        taken = np.empty(count)
        for i in range(count):
            begun = clock()
            step(x, out=out)
            taken[i] = clock() - begun
        return taken

    # Without --steps, about a second of them: enough for a tail, whatever the size of the net.
    warm = float(np.median(times(50)))
    steps = args.steps or int(np.clip(1e9 / warm, 1000, 50_000))
    times(min(steps, int(1e8 / warm) + 1))
    taken = times(steps)
    idle = np.empty(1000)
    for i in range(len(idle)):
        begun = clock()
        idle[i] = clock() - begun
    own = float(np.median(idle))
    p50, p99, p999 = np.percentile(taken, [50, 99, 99.9]) - own
    # A step reads one row of an embedding's table, and all of the other weights.
    tables = sum(leaf.memory().weights for _, leaf in net._leaves() if isinstance(leaf, tr.Embedding))
    weights = net.memory(args.batch, frame=frame).weights - tables
    return {
        "model": args.model,
        "isa": tr.isa(),
        "batch": args.batch,
        "steps": steps,
        "us_per_step": {
            "min": (taken.min() - own) / 1e3,
            "p50": p50 / 1e3,
            "p99": p99 / 1e3,
            "p99.9": p999 / 1e3,
        },
        "clock_ns": own,
        "weight_bytes": weights,
        "weight_gb_per_s": weights / max(p50, 1.0),
        "cpu": _cpu(),
        "machine": platform.machine(),
        "tinyrnn": tr.__version__,
    }


def _cpu() -> str:
    """What Linux calls the board or the processor."""
    for path, pattern in (("/proc/device-tree/model", "(.+)"), ("/proc/cpuinfo", r"model name\s*: (.+)")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = re.search(pattern, file.read())
        except OSError:
            continue
        if found:
            return one_line(found[1].strip("\0 "))
    return platform.processor() or "unknown CPU"
