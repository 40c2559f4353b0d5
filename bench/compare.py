"""The same work in tinyrnn, PyTorch, ONNX Runtime and NumPy, in one process, on one core, in turn.

    python bench/compare.py [--quick] [--markdown] [--json FILE]

Every contender gets the same weights and the same input, and must give the same output, before anything is
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
import datetime
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn import _kernels
from tinyrnn.arrays import aligned_zeros

Array = NDArray[np.float32]
Call = Callable[[], Any]  # does the work once, carries the state on, returns the output

SIZES = [(1, 16), (40, 64), (64, 128), (128, 256), (256, 512)]
ROWS = {  # letter: (title, steps, batch)
    "S": ("one step per call", 1, 1),
    "Q": ("a sequence of 100", 100, 1),
    "B": ("32 sequences of 100", 100, 32),
}
GATES = {"LSTM": 4, "GRU": 3}
TOLERANCE = 1e-5


@dataclass
class Work:
    """What every contender does: `steps` steps of `batch` streams, weights and input included."""

    kind: str
    row: str
    inputs: int
    hidden: int
    steps: int = field(init=False)
    batch: int = field(init=False)
    x: Array = field(init=False)  # (steps, batch, inputs)
    weights: dict[str, Array] = field(init=False)  # PyTorch's names and order of gates

    def __post_init__(self) -> None:
        _, self.steps, self.batch = ROWS[self.row]
        generator = np.random.default_rng(0)
        self.x = generator.standard_normal((self.steps, self.batch, self.inputs), np.float32)
        bound, rows = self.hidden**-0.5, self.gates * self.hidden
        shapes = {"weight_ih": (rows, self.inputs), "weight_hh": (rows, self.hidden)}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        self.weights = {
            name: generator.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()
        }

    @property
    def gates(self) -> int:
        return GATES[self.kind]

    def level(self) -> dict[str, Array]:
        """The weights by their names in a layer."""
        return {f"{name}_l0": array for name, array in self.weights.items()}


# ---- contenders: each makes a Call ---------------------------------------------------------------


def tinyrnn_call(work: Work) -> Call:
    layer = getattr(tr, work.kind).from_state_dict(work.level())
    stream = layer.stream(batch=work.batch)
    y = np.empty((work.steps, work.batch, work.hidden), np.float32)
    if work.row == "S":
        x, y = work.x[0, 0], y[0, 0]
        return lambda: stream.step(x, y)
    x = work.x
    return lambda: stream.run(x, y)


def torch_cell_call(work: Work) -> Call:
    import torch

    cell = getattr(torch.nn, work.kind + "Cell")(work.inputs, work.hidden)
    cell.load_state_dict({name: torch.from_numpy(array) for name, array in work.weights.items()})
    x = torch.from_numpy(work.x[0])
    state: Any = None

    def lstm() -> Any:
        nonlocal state
        state = cell(x, state)
        return state[0]

    def gru() -> Any:
        nonlocal state
        state = cell(x, state)
        return state

    return lstm if work.kind == "LSTM" else gru


def torch_layer_call(work: Work) -> Call:
    import torch

    layer = getattr(torch.nn, work.kind)(work.inputs, work.hidden)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in work.level().items()})
    x = torch.from_numpy(work.x)
    state: Any = None

    def call() -> Any:
        nonlocal state
        y, state = layer(x, state)
        return y

    return call


def onnxruntime_call(work: Work) -> Call:
    """Everything bound beforehand; two bindings take turns, as one's final state is the other's first."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(onnx_model(work), options, providers=["CPUExecutionProvider"])
    names = ["h", "c"][: len(session.get_inputs()) - 1]
    shape = (1, work.batch, work.hidden)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    states = [{name: value(np.zeros(shape, np.float32)) for name in names} for _ in range(2)]
    x, y = value(work.x), value(np.zeros((work.steps, 1, work.batch, work.hidden), np.float32))
    bindings = []
    for before, after in (states, states[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)
        for name in names:
            binding.bind_ortvalue_input(f"{name}0", before[name])
            binding.bind_ortvalue_output(f"{name}n", after[name])
        bindings.append(binding)

    def call() -> Any:
        session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return y

    return call


def onnx_model(work: Work) -> bytes:
    """The net as ONNX: inputs x, h0 (, c0), outputs y, hn (, cn)."""
    from onnx import TensorProto, helper, numpy_helper

    order = [0, 3, 1, 2] if work.kind == "LSTM" else [1, 0, 2]  # i f g o -> i o f c, r z n -> z r h

    def reorder(name: str) -> Array:
        array = work.weights[name]
        return array.reshape(work.gates, work.hidden, -1)[order].reshape(1, *array.shape)

    weights = {
        "W": reorder("weight_ih"),
        "R": reorder("weight_hh"),
        "b": np.concatenate([reorder("bias_ih"), reorder("bias_hh")], axis=1),
    }

    def info(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    state = (1, work.batch, work.hidden)
    names = ["h", "c"] if work.kind == "LSTM" else ["h"]
    options = {} if work.kind == "LSTM" else {"linear_before_reset": 1}
    node = helper.make_node(
        work.kind,
        ["x", "W", "R", "b", "", *[f"{name}0" for name in names]],
        ["y", *[f"{name}n" for name in names]],
        hidden_size=work.hidden,
        **options,
    )
    graph = helper.make_graph(
        [node],
        "net",
        [info("x", *work.x.shape), *[info(f"{name}0", *state) for name in names]],
        [info("y", work.steps, *state), *[info(f"{name}n", *state) for name in names]],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def numpy_call(work: Work) -> Call:
    """What one writes by hand: the input's part of all steps at once, then step by step."""
    size, x = work.hidden, work.x
    to_gates = np.ascontiguousarray(work.weights["weight_ih"].T)
    onward = np.ascontiguousarray(work.weights["weight_hh"].T)
    bias_ih, bias_hh = work.weights["bias_ih"], work.weights["bias_hh"]
    y = np.empty((work.steps, work.batch, size), np.float32)
    h = np.zeros((work.batch, size), np.float32)
    c = np.zeros_like(h)

    def sigmoid(a: Array) -> Array:
        return 1 / (1 + np.exp(-a))

    def lstm() -> Array:
        nonlocal h, c
        for t, gates in enumerate(x @ to_gates + (bias_ih + bias_hh)):
            gates += h @ onward
            i, f, o = (sigmoid(gates[:, at * size : (at + 1) * size]) for at in (0, 1, 3))
            c = f * c + i * np.tanh(gates[:, 2 * size : 3 * size])
            h = o * np.tanh(c)
            y[t] = h
        return y

    def gru() -> Array:
        nonlocal h
        for t, gates in enumerate(x @ to_gates + bias_ih):
            hidden = h @ onward + bias_hh
            reset, z = np.hsplit(sigmoid(gates[:, : 2 * size] + hidden[:, : 2 * size]), 2)
            n = np.tanh(gates[:, 2 * size :] + reset * hidden[:, 2 * size :])
            h = n + z * (h - n)
            y[t] = h
        return y

    return lstm if work.kind == "LSTM" else gru


CONTENDERS: dict[str, Callable[[Work], Call]] = {
    "tinyrnn": tinyrnn_call,
    "torch cell": torch_cell_call,
    "torch layer": torch_layer_call,
    "onnxruntime": onnxruntime_call,
    "numpy": numpy_call,
}


def as_array(result: Any, work: Work) -> Array:
    """A copy of a Call's output, (steps, batch, hidden)."""
    array = result if isinstance(result, np.ndarray) else result.numpy()
    return array.reshape(work.steps, work.batch, work.hidden).copy()


def prepare(work: Work, names: list[str]) -> dict[str, Call]:
    """The contenders' Calls; exits if one gives another output than tinyrnn does."""
    calls = {name: CONTENDERS[name](work) for name in names}
    generator = np.random.default_rng(1)
    for turn in range(max(3, 50 // work.steps)):  # all but the first begin with the state of the one before
        work.x[:] = generator.standard_normal(work.x.shape, np.float32)  # the contenders read this very array
        outputs = {name: as_array(call(), work) for name, call in calls.items()}
        for name, output in outputs.items():
            difference = float(np.abs(output - outputs["tinyrnn"]).max())
            if not difference <= TOLERANCE:
                where = f"{work.kind} {work.row} ({work.inputs}, {work.hidden}), call {turn + 1}"
                sys.exit(f"{where}: {name} is {difference:.2g} off tinyrnn, more than {TOLERANCE}")
    return calls


# ---- timing -------------------------------------------------------------------------------------


def seconds_of(call: Call, times: int) -> float:
    """Seconds per call of a block of calls."""
    before = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - before) / times / 1e9


def race(calls: dict[str, Call], rounds: int, block: float) -> dict[str, list[float]]:
    """Seconds per call of each contender, one number a round; they take turns, each round another first."""
    times = {name: max(1, int(block / max(seconds_of(call, 3), 1e-9))) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for _ in range(rounds):
        for name in names:
            found[name].append(seconds_of(calls[name], times[name]))
        names.append(names.pop(0))
    return found


class Machine:
    """What the processor could do at best: read so many bytes, do so many multiply-adds a second."""

    def __init__(self, rounds: int, block: float) -> None:
        self._isa, self._rounds, self._block = tr.isa(), rounds, block
        self._bandwidths: dict[int, float] = {}
        numbers = _kernels.peak(self._isa, 20_000)
        self.multiply_adds = numbers / self._best(lambda: _kernels.peak(self._isa, 20_000))

    def _best(self, call: Call) -> float:
        return min(race({"": call}, self._rounds, self._block / 4)[""])

    def bandwidth(self, nbytes: int) -> float:
        """Bytes per second of reading that many again and again."""
        nbytes = max(nbytes // 512, 8) * 512
        if nbytes not in self._bandwidths:
            x, repeat = aligned_zeros(nbytes), max(1, (1 << 20) // nbytes)
            seconds = self._best(lambda: _kernels.read(self._isa, x, repeat))
            self._bandwidths[nbytes] = nbytes * repeat / seconds
        return self._bandwidths[nbytes]

    def floor(self, work: Work) -> float:
        """Seconds that the work takes at least.

        The input's part of all steps is one matrix product. The hidden part is one product per step, of as
        many rows as the batch has. A product reads its weights once and does its multiply-adds; the longer
        of the two counts.
        """
        rows = work.gates * work.hidden
        working_set = rows * (work.hidden + (work.inputs if work.steps == 1 else 0)) * 4
        bandwidth = self.bandwidth(working_set)

        def product(depth: int, columns: int) -> float:
            return max(rows * depth * 4 / bandwidth, rows * depth * columns / self.multiply_adds)

        whole = product(work.inputs, work.steps * work.batch)
        return whole + work.steps * product(work.hidden, work.batch)


# ---- the report ---------------------------------------------------------------------------------


def pin(core: int | None) -> str:
    """Stay on one core; its name for the report."""
    if not hasattr(os, "sched_setaffinity"):
        return "no core (this system cannot pin)"
    core = max(os.sched_getaffinity(0)) if core is None else core
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        sys.exit(f"--core {core}: {error.strerror}")
    return f"core {core}"


def processor() -> str:
    """Its name, where Linux tells it; a Raspberry Pi tells the board's."""
    with contextlib.suppress(OSError):
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        named = {name.strip(): value.strip() for name, _, value in lines}
        if "Model" in named or "model name" in named:
            return named.get("Model") or f"{named['model name']} (family {named.get('cpu family', '?')})"
    return platform.processor() or platform.machine()


def environment(core: str) -> dict[str, Any]:
    """Date, machine and versions: no number means anything without them."""
    versions: dict[str, str] = {}
    for package in ("tinyrnn", "torch", "onnxruntime", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}, one thread on {core}",
        "isa": tr.isa(),
        "python": platform.python_version(),
        **versions,
    }


def digits(seconds: float) -> str:
    """Microseconds, three digits of them."""
    micro = seconds * 1e6
    return f"{micro:.0f}" if micro >= 100 else f"{micro:.1f}" if micro >= 10 else f"{micro:.2f}"


class Table:
    """Rows of text in columns, printed as they come: aligned, or as Markdown."""

    def __init__(self, title: str, heads: list[str], markdown: bool) -> None:
        self._widths = [max(len(head), 9) for head in heads]
        self._markdown = markdown
        print(f"\n### {title}\n" if markdown else f"\n{title}")
        self.row(heads)
        if markdown:
            print("|" + "---:|" * len(heads), flush=True)

    def row(self, cells: list[str]) -> None:
        if self._markdown:
            print("| " + " | ".join(cells) + " |", flush=True)
        else:
            print("  ".join(c.rjust(width) for c, width in zip(cells, self._widths, strict=True)), flush=True)


def report(
    kind: str, row: str, names: list[str], machine: Machine, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure and print one table."""
    names = [name for name in names if row == "S" or name != "torch cell"]
    heads = ["(I, H)", "floor"]
    for name in names:
        heads += [name, "median"] + ([] if name == "tinyrnn" else ["ratio"])
    table = Table(f"{kind}, {ROWS[row][0]}, µs", heads, arguments.markdown)
    records = []
    for inputs, hidden in SIZES:
        work = Work(kind, row, inputs, hidden)
        seconds = race(prepare(work, names), arguments.rounds, arguments.block)
        floor = machine.floor(work)
        best = {name: min(found) for name, found in seconds.items()}
        middle = {name: statistics.median(found) for name, found in seconds.items()}
        cells = [f"({inputs}, {hidden})", digits(floor)]
        for name in names:
            cells += [digits(best[name]), digits(middle[name])]
            cells += [] if name == "tinyrnn" else [f"{best[name] / best['tinyrnn']:.1f}"]
        table.row(cells)
        record = {"kind": kind, "row": row, "input_size": inputs, "hidden_size": hidden, "floor": floor}
        records.append({**record, "fastest": best, "median": middle})
    return records


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="tinyrnn beside PyTorch, ONNX Runtime and NumPy.")
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds: a look, not a measurement")
    add("--rounds", type=int, help="how often each contender has its turn (default: 15, quick: 3)")
    add("--core", type=int, help="the core to stay on (default: the last one)")
    add("--json", type=Path, metavar="FILE", help="write every number, in seconds")
    add("--markdown", action="store_true", help="print tables in Markdown")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 15)
    arguments.block = (
        0.002 if arguments.quick else 0.01
    )  # seconds of one turn, or one call if that takes longer
    return arguments


def present() -> list[str]:
    """The contenders whose packages are installed; says which are not."""
    names = []
    for name in CONTENDERS:
        needed = {"torch": ["torch"], "onnxruntime": ["onnxruntime", "onnx"]}.get(name.split()[0], [])
        absent = [package for package in needed if importlib.util.find_spec(package) is None]
        if absent:
            print(f"{name} is left out: no {' and no '.join(absent)} here")
        else:
            names.append(name)
    return names


def main() -> None:
    arguments = parse_arguments()
    about = environment(pin(arguments.core))
    names = present()
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    with contextlib.ExitStack() as whole_run:
        if "torch layer" in names:
            import torch

            torch.set_num_threads(1)
            whole_run.enter_context(torch.inference_mode())  # once: entering it costs a microsecond
        machine = Machine(arguments.rounds, arguments.block)
        print(f"peak: {machine.multiply_adds / 1e9:.0f} G multiply-adds/s")
        records = []
        for row in ROWS:
            for kind in GATES:
                records += report(kind, row, names, machine, arguments)
    if arguments.json:
        about["multiply_adds_per_second"] = machine.multiply_adds
        arguments.json.write_text(json.dumps({"about": about, "rows": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
