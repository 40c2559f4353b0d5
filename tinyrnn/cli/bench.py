"""``tinyrnn bench``: the time of a step, beside the limits of this machine."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.console import UsageError, one_line, say
from tinyrnn.cli.machine import CURVE, Machine, Matrix, caches, cpu
from tinyrnn.cli.models import (
    check_simple,
    closed_frame,
    needs_all,
    open_model,
    output_of,
    reads_indices,
)
from tinyrnn.cli.names import distinct
from tinyrnn.contract import index_count
from tinyrnn.files import replacing
from tinyrnn.formats import LEVELS, SMALLER

SIZES = ((1, 16), (40, 64), (64, 128), (128, 256), (256, 512))
BATCHED = ((40, 64), (64, 128), (128, 256))
LONG, BATCH, STREAMS = 100, 32, (8, 32)  # steps of a sequence; sequences of a batch; streams that step

_SPEC = re.compile(
    rf"(lstm|gru|rnn):(\d{{1,6}})x(\d{{1,6}})(?:x(\d{{1,4}}))?(?::({'|'.join(SMALLER)}))?", re.IGNORECASE
)
_PICTURES = (".png", ".svg", ".pdf")


class Job(NamedTuple):
    """One line of the report: calls of `steps` steps of `batch` streams."""

    name: str
    net: tr.Net
    frame: tuple[int, ...]
    steps: int
    batch: int


def command(args: Namespace) -> None:
    """Measure the machine, then the standard nets or the given one; as tables, JSON and a picture."""
    if args.isa is not None and args.isa not in tr.available_isas():
        raise UsageError(f"--isa: got {args.isa}, expected one of {' '.join(tr.available_isas())}")
    if args.model is None and (args.batch or args.steps or args.frame):
        raise UsageError("--batch, --steps and --frame need a MODEL: name one, or leave them out")
    written = {"--json": None if args.json == "-" else args.json, "--picture": args.picture}
    distinct(args, written, {"MODEL": args.model})
    draw = _pencil(args.picture)
    jobs = list(standard_jobs() if args.model is None else _model_jobs(args))
    before = tr.isa()
    with ExitStack() as files:
        data = files.enter_context(replacing(args.json)) if args.json not in (None, "-") else None
        picture = files.enter_context(replacing(args.picture)) if args.picture else None
        files.callback(tr.set_isa, before)
        tr.set_isa(args.isa or before)
        report = measure(jobs, 0.02 if args.quick else 0.25, args.steps, None if args.json == "-" else say)
        text = json.dumps(report, indent=1)
        if args.json == "-":
            say(text)
        if data is not None:
            data.write(text.encode() + b"\n")
        if picture is not None:
            draw(report, picture, os.path.splitext(args.picture)[1][1:].lower())


def _pencil(path: str | None) -> Callable[..., None]:
    """The function that draws the picture. It complains before anything is measured."""
    if path is None:
        return lambda *_: None
    if os.path.splitext(path)[1].lower() not in _PICTURES:
        raise UsageError(f"--picture: got {path}, expected a name that ends in {' '.join(_PICTURES)}")
    if find_spec("matplotlib") is None:
        raise UsageError("--picture needs matplotlib: pip install 'tinyrnn[plot]'")
    from tinyrnn.cli import roofline

    return roofline.draw


# ---- jobs ---------------------------------------------------------------------------------------


def standard_jobs() -> Iterator[Job]:
    nets = {
        (kind, sizes): (f"{kind} {sizes}", getattr(tr, kind)(*sizes), sizes[:1])
        for kind in ("LSTM", "GRU")
        for sizes in SIZES
    }
    for net in nets.values():
        yield Job(*net, 1, 1)
    for net in nets.values():
        yield Job(*net, LONG, 1)
    for (_, sizes), net in nets.items():
        if sizes in BATCHED:
            yield Job(*net, LONG, BATCH)
    for count in STREAMS:
        for kind in ("LSTM", "GRU"):
            yield Job(*nets[kind, (64, 128)], 1, count)


def _model_jobs(args: Namespace) -> Iterator[Job]:
    spec = _SPEC.fullmatch(args.model)
    if spec:
        inputs, hidden, layers = (int(number or 1) for number in spec.groups()[1:4])
        net = getattr(tr, spec[1].upper())(inputs, hidden, layers)
        net = tr.quantize(net, spec[5].lower()) if spec[5] else net
    elif re.match(r"(lstm|gru|rnn)$|\w+:\d", args.model, re.I) and not os.path.exists(args.model):
        form = "lstm, gru or rnn:INPUTxHIDDEN[xLAYERS][:FORMAT], such as lstm:64x128 or gru:40x64x2:int8"
        raise UsageError(f"{args.model}: not the size of a net, expected {form}")
    else:
        net = open_model(args)
        check_simple(args.model, net)
    name, frame, batch = one_line(args.model), closed_frame(net, args.frame), args.batch or 1
    net.memory(batch, frame=frame)  # an error if something does not fit, before anything is measured
    if not needs_all(net):
        yield Job(name, net, frame, 1, batch)
        if args.batch is None:
            for count in STREAMS:
                yield Job(name, net, frame, 1, count)
    yield Job(name, net, frame, LONG, batch)


def _weight_bytes(job: Job) -> int:
    """Bytes of weights that a step reads. It reads one row of an embedding, so tables are left out."""
    tables = sum(leaf.memory().weights for _, leaf in job.net._leaves() if isinstance(leaf, tr.Embedding))
    return job.net.memory(frame=job.frame).weights - tables


def _matrices(job: Job) -> list[Matrix]:
    """The same weights tensor by tensor, padding and scales shared out among them."""
    leaves = [leaf for _, leaf in job.net._leaves() if not isinstance(leaf, tr.Embedding)]
    tensors = [tensor for leaf in leaves for tensor in leaf._tensors()]
    share = _weight_bytes(job) / max(sum(math.prod(tensor.shape) for tensor in tensors), 1)
    return [
        Matrix(
            math.prod(tensor.shape) if len(tensor.shape) > 1 else 0,
            math.prod(tensor.shape) * share,
            tensor.name.startswith(("weight_hh", "weight_hr")),
        )
        for tensor in tensors
    ]


def _call(job: Job) -> Callable[[], object]:
    """The job's work as in a program: the output goes into an existing array, the state is carried on."""
    shape = job.frame if job.batch == 1 else (job.batch, *job.frame)
    shape = shape if job.steps == 1 else (job.steps, *shape)
    random = np.random.default_rng(0)
    x: NDArray[Any]
    if reads_indices(job.net):
        x = random.integers(0, index_count(job.net), shape).astype(np.int32)
    else:
        x = random.standard_normal(shape, np.float32)
    if job.batch > 1 and job.steps > 1 and job.net._batch_first:
        x = x.swapaxes(0, 1).copy()
    if needs_all(job.net):
        return lambda: job.net(x)
    stream = job.net.stream(job.batch, frame=job.frame)
    do = stream.step if job.steps == 1 else stream.run
    if output_of(job.net, job.frame).rate is not None:  # its shape is another one in each call
        return lambda: do(x)
    out = np.empty_like(do(x))
    return lambda: do(x, out)


# ---- measuring ----------------------------------------------------------------------------------


def about() -> dict[str, Any]:
    """The machine and the versions that a report is of."""
    return {
        "date": datetime.date.today().isoformat(),
        "tinyrnn": tr.__version__,
        "isa": tr.isa(),
        "cpu": one_line(cpu()),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def measure(
    jobs: Iterable[Job], seconds: float, steps: int | None, show: Callable[[str], None] | None
) -> dict[str, Any]:
    """The report: about, machine and rows. It is shown line by line."""
    tell = show or (lambda text: None)
    of = about()
    sizes = ", ".join(f"{name} {_size(nbytes)}" for name, nbytes in caches().items()) or "caches unknown"
    cores = f"one of {of['cores']} cores of {of['cpu']} ({of['machine']})"
    tell(fill(f"tinyrnn {tr.__version__}, {tr.isa()}, {cores}, {sizes}", 80, subsequent_indent="  "))
    machine = Machine(tr.isa(), seconds / 5)
    curve = {nbytes: machine.bandwidth(nbytes) / 1e9 for nbytes in CURVE}
    speeds = ", ".join(f"{short(speed)} of {_size(nbytes)}" for nbytes, speed in curve.items())
    tell(fill(f"one core reads, GB/s: {speeds}", 80, subsequent_indent="  "))
    tell(f"one core multiplies and adds, G/s: {short(machine.multiply_adds / 1e9)}")
    own = clock()
    rows = []
    work = None
    for job in jobs:
        if work != (job.steps, job.batch):
            work = (job.steps, job.batch)
            tell(f"\n{_title(*work)}, µs per step")
            tell(_line(*_HEADS))
        rows.append(_row(job, machine, seconds, steps, own))
        tell(_line(*_cells(rows[-1])))
    if any(row["percent_of_floor"] is not None and row["percent_of_floor"] < 100 for row in rows):
        tell(
            "\nLess than 100 % of a floor: the floor reads the weights from first to last, over\n"
            "and over. Steps read them forwards and backwards in turn, and begin with those\n"
            "still in the cache."
        )
    return {
        "about": of,
        "machine": {
            "read_gb_per_s": {str(nbytes): speed for nbytes, speed in curve.items()},
            "multiply_adds_g_per_s": machine.multiply_adds / 1e9,
            "clock_ns": own,
        },
        "rows": rows,
    }


def _row(job: Job, machine: Machine, seconds: float, count: int | None, own: float) -> dict[str, Any]:
    """Time one job; times are microseconds per step, without those of the clock itself."""
    call = _call(job)
    taken = times(call, 3)
    warm = float(np.median(taken))
    count = count or int(np.clip(seconds * 1e9 / warm, 3, 50_000))
    if count > 3:  # else it is slow enough as it is
        times(call, int(seconds / 4 * 1e9 / warm))  # the clock rate and the caches come to rest
        taken = times(call, count)
    taken = np.maximum(taken[:count] - own, 0) / 1e3 / job.steps
    us: dict[str, float | None] = {"min": float(taken.min())}
    for percent, needed in ((50, 1), (99, 100), (99.9, 1000)):  # calls of which one lies beyond
        us[f"p{percent}"] = float(np.percentile(taken, percent)) if count >= needed else None
    matrices = _matrices(job)
    integers = any(form in LEVELS for form in job.net.formats.values())  # the peak is float32's
    weights = [matrix._replace(numbers=0) for matrix in matrices] if integers else matrices
    floor = machine.floor(weights, job.steps, job.batch) * 1e6 / job.steps
    typical = max(float(np.median(taken)), 1e-3)
    moved = sum(m.nbytes / (1 if m.again else job.steps) for m in matrices)  # bytes of weights per step
    work = sum(m.numbers for m in matrices) * job.batch
    return {
        "net": job.name,
        "steps": job.steps,
        "batch": job.batch,
        "calls": count,
        "us_per_step": us,
        "floor_us": floor,
        "percent_of_floor": 100 * typical / floor if floor else None,
        "weight_bytes": _weight_bytes(job),
        "weight_bytes_per_step": moved,
        "gb_per_s": moved / typical / 1e3,
        "multiply_adds": work,
        "multiply_adds_g_per_s": work / typical / 1e3,
        "stream_steps_per_s": job.batch / typical * 1e6,
    }


def times(call: Callable[[], object], count: int) -> NDArray[np.float64]:
    """Nanoseconds of each of ``count`` calls."""
    clock, taken = time.perf_counter_ns, np.empty(count)
    for i in range(count):
        begun = clock()
        call()
        taken[i] = clock() - begun
    return taken


def clock() -> float:
    """Nanoseconds that timing nothing takes."""
    return float(np.median(times(lambda: None, 1000)))


# ---- printing -----------------------------------------------------------------------------------

_HEADS = ("", "floor", "min", "p50", "p99", "p99.9", "of floor", "GB/s", "G mul-add/s", "steps/s")
_WIDTHS = (17, 8, 8, 8, 8, 8, 9, 7, 11, 8)


def _title(steps: int, batch: int) -> str:
    many = f"{batch} streams" if batch > 1 else "one stream"
    return f"{many}, " + ("a step per call" if steps == 1 else f"{steps} steps per call")


def _line(*cells: str) -> str:
    first, *rest = (
        f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )
    return "  " + "  ".join([first, *rest]).rstrip()


def _cells(row: dict[str, Any]) -> list[str]:
    us = row["us_per_step"]
    return [
        row["net"],
        *(short(value) for value in (row["floor_us"], us["min"], us["p50"], us["p99"], us["p99.9"])),
        "-" if row["percent_of_floor"] is None else f"{row['percent_of_floor']:.0f} %",
        short(row["gb_per_s"]),
        short(row["multiply_adds_g_per_s"]),
        _thousands(row["stream_steps_per_s"]),
    ]


def short(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "-"
    return next((f"{value:.{n}f}" for n in (2, 1) if round(value, n) < 10 ** (3 - n)), f"{value:.0f}")


def _thousands(value: float) -> str:
    return f"{short(value / 1e6)} M" if value >= 1e6 else f"{short(value / 1e3)} k"


def _size(nbytes: int) -> str:
    return f"{nbytes >> 20} MB" if nbytes >= 1 << 20 else f"{nbytes >> 10} kB"
