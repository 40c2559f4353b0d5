"""``tinyrnn selftest``: proof that this machine computes what every other one does, and how fast it does."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import tempfile
import tracemalloc
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn._core import is_fused
from tinyrnn.cli.bench import about, clock, measure, short, standard_jobs, times
from tinyrnn.cli.console import BAD, GOOD, NOTE, Finding, UsageError, fail, one_line, say, tell
from tinyrnn.cli.doctor import heading, instruction_set, speed_limits
from tinyrnn.cli.goldens import Numbers, check, findings
from tinyrnn.cli.machine import degrees, emulated, throttled
from tinyrnn.cli.names import distinct
from tinyrnn.files import replacing
from tinyrnn.formats import FORMATS
from tinyrnn.progress import Progress

# Of a million numbers: what float64 says, and the CRC-32 with a fused multiply-add.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "Exp": (np.exp, 0xE272EDA7),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 0x69F1BC7A),
    "Tanh": (np.tanh, 0x9356337E),
}
MOST_ULP = 2.5  # docs/design.md, promise 5

Report = dict[str, Any]


def layers(report: Report) -> Iterator[Finding]:
    """Check every layer, cell, format, loss and optimiser."""
    with Progress() as bar:
        checked = check(bar.show)
    report["isas"] = {isa: one._asdict() for isa, one in checked.items()}
    yield from findings(checked)


def points() -> NDArray[np.float32]:
    """A million numbers from -100 to 100, most of them near 0."""
    u = Numbers()(1000, 1000).astype(np.float64)
    return (100 * (u * u * u)).astype(np.float32)  # no power: that is a machine's mathematics


def bits(name: str, x: NDArray[np.float32]) -> bytes:
    """A function of them."""
    return bytes(getattr(tr, name)()(x).astype("<f4"))


def functions(report: Report) -> Iterator[Finding]:
    """Compare exp, sigmoid and tanh with their known bits, and with float64."""
    x, chosen, report["ulp"] = points(), tr.isa(), {}
    for name, (function, known) in FUNCTIONS.items():
        exact = function(x.astype(np.float64))
        with np.errstate(over="ignore"):
            whole = np.abs(exact).astype(np.float32)
        normal = (whole >= np.finfo(np.float32).tiny) & np.isfinite(whole)  # ARMv7 NEON has no smaller ones
        exact, unit, bad, worst = exact[normal], np.spacing(whole[normal]), [], 0.0
        for isa in tr.available_isas():
            tr.set_isa(isa)
            found = bits(name, x)
            away = np.abs(np.frombuffer(found, "<f4").reshape(x.shape)[normal] - exact) / unit
            worst = max(worst, float(away.max()))
            if not away.max() <= MOST_ULP or (is_fused(isa) and zlib.crc32(found) != known):
                bad.append(isa)
        tr.set_isa(chosen)
        report["ulp"][name] = worst
        text = f"{name.lower()} of a million numbers: within {worst:.2f} ULP of float64"
        yield (BAD, f"{text}; other bits: {', '.join(bad)}") if bad else (GOOD, text)


def steps(report: Report) -> Iterator[Finding]:
    """Stream a net in every format: the bits of a whole call, and no allocation."""
    net = tr.Sequential(tr.Linear(9, 12), tr.LSTM(12, 40, 2), tr.GRU(40, 20), tr.Softmax(-1))
    x, report["allocated"] = Numbers()(20, 32, 9), {}
    bad = False
    for form in FORMATS:
        one = net if form == "float32" else tr.quantize(net, form)
        whole, stream = one(x), one.stream(32)
        same = np.array_equal(whole, [stream.step(frame) for frame in x])
        report["allocated"][form] = taken = _allocated(stream, x, np.empty_like(whole))
        if not same or taken > 512:  # arrays are larger; the loop itself takes some bytes
            text = f"{'the' if same else 'other'} bits of the whole sequence, {taken} bytes allocated"
            yield BAD, f"steps in {form}: got {text}, expected the bits and none"
            bad = True
    if not bad:
        yield GOOD, f"steps in {', '.join(FORMATS)}: the bits of whole sequences, nothing allocated"


def _allocated(stream: tr.Stream, x: Any, out: NDArray[np.float32]) -> int:
    """The most bytes at a time that steps and a run take."""
    pairs, peaks = list(zip(x, out, strict=True)), []

    def feed() -> None:
        for frame, y in pairs:
            stream.step(frame, y)
        stream.run(x, out)

    tracemalloc.start()
    try:
        for _ in range(4):
            feed()
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            feed()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return min(peaks)


# ---- speed --------------------------------------------------------------------------------------


def speed(report: Report) -> Iterator[Finding]:
    """Time one stream of each standard net, beside the floors of this machine."""

    def show(text: str) -> None:
        say("\n".join(line[:80].rstrip() for line in text.split("\n")))  # of tables what fits

    begun = degrees()
    jobs = [job for job in standard_jobs() if job.batch == 1]
    report["speed"] = measure(jobs, 0.25, None, show)
    report["degrees"], report["throttled"] = [begun, degrees()], throttled()
    yield from speed_limits()


def peers(report: Report) -> Iterator[Finding]:
    """Time a step of LSTM (40, 64) beside the peers that are installed, which must agree."""
    net, draw, out = tr.LSTM(40, 64), Numbers(), np.empty(64, np.float32)
    net.load_state_dict({name: draw(*array.shape) / 8 for name, array in net.state_dict().items()})
    frame, stream = draw(40), net.stream()
    calls: dict[str, Callable[[], Any]] = {"tinyrnn": lambda: stream.step(frame, out)}
    with ExitStack() as stack:
        for name, prepare in {"torch": _torch, "onnxruntime": _onnxruntime}.items():
            if find_spec(name):
                try:
                    calls[name] = prepare(net, frame, stack)
                except Exception as error:  # any of a library's
                    yield NOTE, one_line(f"{name} is left out: {type(error).__name__}: {error}")
        last = [[np.asarray(call()).ravel().copy() for call in calls.values()] for _ in range(10)][-1]
        own = clock()
        report["peers"] = {name: (np.median(times(call, 2000)) - own) / 1e3 for name, call in calls.items()}
    for name, y in zip(calls, last, strict=True):
        if not np.abs(y - last[0]).max() <= 1e-5:
            yield BAD, f"LSTM (40, 64): other outputs than {name}'s"
    times_of = ", ".join(f"{name} {short(us)}" for name, us in report["peers"].items())
    yield GOOD, f"LSTM (40, 64), µs per step: {times_of}"


def _torch(net: tr.Net, frame: Any, stack: ExitStack) -> Callable[[], Any]:
    torch = import_module("torch")
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    stack.enter_context(torch.inference_mode())
    cell, x = torch.nn.LSTMCell(40, 64), torch.from_numpy(frame[np.newaxis])
    state: list[Any] = [None]
    cell.load_state_dict({name[:-3]: torch.from_numpy(array) for name, array in net.state_dict().items()})

    def step() -> Any:
        state[0] = cell(x, state[0])
        return state[0][0]

    return step


def _onnxruntime(net: tr.Net, frame: Any, stack: ExitStack) -> Callable[[], Any]:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "net.onnx")
    net.to_onnx(path)
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, 1, 64), np.float32)
    feed = {"x": frame.reshape(1, 1, 40), "h": zeros, "c": zeros}

    def step() -> Any:
        y, feed["h"], feed["c"] = session.run(None, feed)
        return y

    return step


# ---- the report ---------------------------------------------------------------------------------

_VERDICTS = {
    "GOOD": "computes what every other one does.",
    "SLOW": "computes what every other one does, but something slows it down: see above.",
    "BAD": "computes wrongly with this build: do not rely on it.",
}


def _new_name(of: dict[str, Any]) -> str:
    """A name for the report, by date and machine, that no file has."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{of['date']} {of['cpu']} {of['machine']}".lower()).strip("-")
    names = (f"selftest-{words}{f'-{i}' if i > 1 else ''}.json" for i in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _check_new(path: str, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path}: --json is a file that is there: choose another name, or give --force")


def command(args: Namespace) -> None:
    """Print all findings and a verdict, and write the report; fail if a finding is bad."""
    of = about()
    distinct(args, {"--json": args.json}, {})
    path = args.json or _new_name(of)
    _check_new(path, args.force)
    report: Report = {"about": of, "system": platform.platform(), "emulated": emulated(), "findings": []}

    def faults(found: Iterable[Finding]) -> int:
        """Print findings as they come; count the bad ones."""
        bad = 0
        for one in found:
            tell(one)
            report["findings"].append(one)
            bad += one[0] == BAD
        return bad

    with replacing(path) as file:
        say("\n".join([*heading(), f"instruction sets: {' '.join(tr.available_isas())}"]))
        slow = faults(instruction_set())
        wrong = sum(faults(part(report)) for part in (layers, functions, steps))
        if not args.quick and not report["emulated"]:
            wrong += faults(peers(report))
            say()
            slow += faults(speed(report))
        report["verdict"] = verdict = "BAD" if wrong else "SLOW" if slow else "GOOD"
        _check_new(path, args.force)
        file.write(json.dumps(report, indent=1).encode() + b"\n")
    machine = "emulated machine" if report["emulated"] else "machine"
    say(f"\n{verdict}: this {machine} {_VERDICTS[verdict]}")
    send = "Please send it: in an issue, or in a pull request that adds it to bench/results/selftest."
    say(fill(f"The report is {path}. {send}", 80, break_on_hyphens=False, break_long_words=False))
    fail("selftest", wrong + slow)
