"""The tables in the READMEs, from the newest of results/ and results/training, and all of results/selftest.

    python bench/speed_tables.py            # write them
    python bench/speed_tables.py --check    # fail if they differ from what it would write

A result is named by its date and its machine; the newest is the last by name.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from textwrap import fill
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
TRAINING, SELFTEST = "training", "selftest"  # the folders in results/
BEGIN, END = "<!-- speed -->", "<!-- end -->"
BEGIN_TRAINING = "<!-- training speed -->"
BEGIN_SELFTEST = "<!-- selftest -->"

NAMES = {
    "tinyrnn": "tinyrnn",
    "torch_cell": "PyTorch, cell",
    "torch_layer": "PyTorch, layer",
    "onnxruntime": "ONNX Runtime",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "numpy_code": "NumPy",
}
MEMORY = {"beyond_import": "beyond the import", "beyond_first_step": "beyond a first step"}
MEASURED = ("tinyrnn", "torch_fused")  # whose memory; of PyTorch's two the one that takes no more
TRAINERS = {"tinyrnn": "tinyrnn", "torch": "PyTorch", "torch_fused": "PyTorch, fused Adam"}
VERSIONS = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "ai-edge-litert": "LiteRT",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "numpy": "NumPy",
}
TITLES = {
    "S": "One step per call",
    "Q": "A sequence of 100 in one call",
    "B": "32 sequences of 100 in one call",
    "layers": "One step per call, two layers",
    "bidirectional": "A sequence of 100, bidirectional",
    "streams": "One step of n streams per call",
    "int8": "One step per call, int8 weights",
    "int4": "One step per call, int4 weights",
    "float16": "One step per call, float16 weights",
    "bfloat16": "One step per call, bfloat16 weights",
}


# ---- numbers ------------------------------------------------------------------------------------


def digits4(value: float) -> float:
    """Four digits: more than a measurement has."""
    return float(f"{value:.4g}")


def short(value: float | None) -> str:
    """Three digits, three decimals at most; nothing for a number that was not measured."""
    if value is None:
        return ""
    if value < 0.1:
        return f"{value:.3f}"
    return next((f"{value:.{n}f}" for n in (2, 1) if round(value, n) < 10 ** (3 - n)), f"{value:.0f}")


def as_json(result: dict[str, Any]) -> str:
    """A result as it is kept: a line for each row, so that a diff can be read."""
    about = json.dumps(result["about"], indent=1)
    lines = ",\n".join(json.dumps(row) for row in result["rows"])
    return f'{{"about": {about},\n"rows": [\n{lines}\n]}}\n'


# ---- words --------------------------------------------------------------------------------------


def size(nbytes: int) -> str:
    return f"{nbytes >> 20} MB" if nbytes >= 1 << 20 else f"{nbytes >> 10} kB"


def heading(about: dict[str, Any]) -> str:
    """Date, machine and versions in a sentence."""
    caches = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in about["caches"].items())
    versions = [
        f"{name} {about['versions'][key]}" for key, name in VERSIONS.items() if key in about["versions"]
    ]
    cores = f"one of {about['cores']} cores" if about["cores"] > 1 else "one core"
    machine = f"{about['cpu']}, {cores}{f' ({caches})' if caches else ''}, {about['system']}, {about['isa']}"
    software = [f"Python {about['python']}", f"tinyrnn {about['versions']['tinyrnn']}", *versions]
    return f"{about['date']}, {machine}, {', '.join(software)}"


def limits(about: dict[str, Any]) -> str:
    """The machine's limits, in a sentence."""
    reads = ", ".join(f"{short(speed)} of {size(int(n))}" for n, speed in about["read_gb_per_s"].items())
    return f"reads, in GB/s, {reads}, and does {short(about['multiply_adds_g_per_s'])} G multiply-adds/s"


def net(row: dict[str, Any]) -> str:
    streams = f" x {row['batch']}" if row["row"] == "streams" else ""
    return f"{row['kind']} ({row['input_size']}, {row['hidden_size']}){streams}"


# ---- while it runs ------------------------------------------------------------------------------


def text_head(peers: list[str]) -> str:
    heads = ["floor", *(NAMES[name].replace("PyTorch, ", "torch ").lower() for name in peers)]
    return f"{'':<20}" + "".join(f"{head:>14}" for head in heads)


def text_row(row: dict[str, Any], peers: list[str]) -> str:
    """The fastest round and, behind it, the median one; of a tail its last quantile over the median."""
    cells = [short(row["floor"])]
    for name in peers:
        known = name in row["fastest"]
        cells.append(f"{short(row['fastest'][name])} {short(row['median'][name]):>5}" if known else "-")
    tail = f"   p99.9/p50 {row['tail']['p99.9'] / row['tail']['p50']:.1f}" if "tail" in row else ""
    return f"{net(row):<20}" + "".join(f"{cell:>14}" for cell in cells) + tail


# ---- training, while it runs ----------------------------------------------------------------------


def train_ratios(row: dict[str, Any]) -> dict[str, float | None]:
    """PyTorch's faster way over tinyrnn (None if not measured), and tinyrnn over its floors."""
    own = row["fastest"]["tinyrnn"]
    rival = best(row, *(name for name in TRAINERS if name != "tinyrnn"))
    return {
        "torch": None if rival is None else rival / own,
        "floor": own / row["floor"],
        "nominal": own / row["floor_nominal"],
    }


def disturbed(cores: float, wanted: int) -> str:
    """A warning where a contender had clearly less than its cores; two threads wait for each other."""
    return f"   (disturbed: it had {short(cores)} of {wanted})" if cores < 0.75 * wanted else ""


def train_head(names: list[str], nominal: float) -> str:
    heads = ["floor", f"at {nominal:g}", *(TRAINERS[name].replace("PyTorch, ", "torch, ") for name in names)]
    heads += ["torch/own", "x floor", f"x at {nominal:g}"]
    return f"{'':<34}" + "".join(f"{head:>{20 if 'Adam' in head else 14}}" for head in heads)


def train_row(row: dict[str, Any], names: list[str]) -> str:
    cells = [f"{short(row[floor]):>14}" for floor in ("floor", "floor_nominal")]
    for name in names:
        known = name in row["fastest"]
        cell = f"{short(row['fastest'][name])} {short(row['median'][name]):>5}" if known else "-"
        cells.append(f"{cell:>{20 if 'Adam' in TRAINERS[name] else 14}}")
    cells += [f"{short(ratio) or '-':>14}" for ratio in train_ratios(row).values()]
    return f"{row['net']:<34}" + "".join(cells) + disturbed(min(row["cores"].values()), 1)


def threads_ratio(row: dict[str, Any]) -> float:
    found: dict[str, float] = row["threads"]["fastest"]
    return found["1"] / found["2"]


def threads_row(row: dict[str, Any]) -> str:
    fastest, median = row["threads"]["fastest"], row["threads"]["median"]
    cells = "".join(f"{short(fastest[n])} {short(median[n]):>5}".rjust(14) for n in ("1", "2"))
    cores = disturbed(row["threads"]["cores"]["2"], 2)
    return f"{row['net']:<34}{cells}   x {short(threads_ratio(row))}{cores}"


def memory_row(row: dict[str, Any]) -> str:
    """The memory of each contender; then the ratios."""
    cells, found = "", row["memory"]
    for name, numbers in found.items():
        text = f"{short(numbers['beyond_import'])} ({short(numbers['beyond_first_step'])})"
        cells += f"   {TRAINERS[name].split(',')[0]} {text:<14}"
    if "torch_fused" in found:
        pairs = [(found["tinyrnn"][key], found["torch_fused"][key]) for key in MEMORY]
        cells += "   of it " + " and ".join(f"{own / other:.0%}" for own, other in pairs)
    return f"{row['net']:<34}{cells}   told beforehand {short(found['tinyrnn']['told'])}"


# ---- Markdown -----------------------------------------------------------------------------------


def table(heads: list[str], lines: list[list[str]]) -> str:
    rule = "|" + "|".join(["---", *["---:"] * (len(heads) - 1)]) + "|"
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(c) + " |" for c in lines)])


def best(row: dict[str, Any], *names: str) -> float | None:
    """The fastest round among some contenders."""
    return min((row["fastest"][name] for name in names if name in row["fastest"]), default=None)


def beats_floor(row: dict[str, Any]) -> bool:
    """Tell whether tinyrnn read the weights of one stream faster than the floor allows."""
    return row["batch"] == 1 and row["fastest"]["tinyrnn"] < row["floor"]


def below_floor(names: list[str]) -> str:
    """Why some rows beat their floor, as a paragraph to put below their table; nothing if none does."""
    if not names:
        return ""
    are = "is below its floor" if len(names) == 1 else "are below their floors"
    return "\n\n" + fill(
        f"{', '.join(names)} {are}. The floor reads the weights from first to last, over and over; tinyrnn's "
        "steps read them forwards and backwards in turn, so each begins with what the one before it left in "
        "the cache. This shows where weights are about as large as a cache, or a few times that.",
        118,
    )


def readme(result: dict[str, Any]) -> str:
    """The README's table: LSTM, the issue's rows."""
    peers = {
        "PyTorch": ("torch_cell", "torch_layer"),
        **{NAMES[name]: (name,) for name in ("onnxruntime", "litert", "openvino", "ncnn")},
    }
    works = {
        "S": "a step",
        "layers": "a step, two layers",
        "Q": "100 steps",
        "bidirectional": "100, bidirectional",
    }
    works |= {"B": "100 steps of 32", "int8": "a step, int8", "int4": "a step, int4"}
    rows = [row for row in result["rows"] if row["kind"] == "LSTM"]
    peers = {name: who for name, who in peers.items() if any(best(row, *who) is not None for row in rows)}
    lines, beaten = [], []
    for work, words in works.items():
        for row in rows:
            if row["row"] == work:
                others = [name for name in row["fastest"] if name not in ("tinyrnn", "numpy_code")]
                rival, own = best(row, *others), row["fastest"]["tinyrnn"]
                ratio = "" if rival is None else short(rival / own)
                cells = [f"{words} ({row['input_size']}, {row['hidden_size']})", short(row["floor"])]
                cells += [f"**{short(own)}**", *(short(best(row, *who)) for who in peers.values()), ratio]
                lines.append(cells)
                beaten += cells[:1] if beats_floor(row) else []
    heads = ["LSTM (I, H)", "floor", "tinyrnn", *peers, "best peer / tinyrnn"]
    return table(heads, lines) + below_floor(beaten)


def everything(result: dict[str, Any]) -> str:
    """All rows and contenders; the median round in brackets."""
    parts = []
    for key, title in TITLES.items():
        rows = [row for row in result["rows"] if row["row"] == key]
        if not rows:
            continue
        names = [name for name in NAMES if any(name in row["fastest"] for row in rows)]
        heads = ["", "floor", *(NAMES[name] for name in names)]
        heads += ["p99", "p99.9"] if key == "S" else ["µs a stream"] if key == "streams" else []
        lines = []
        for row in rows:
            cells = [net(row), short(row["floor"])]
            for name in names:
                known = name in row["fastest"]
                cells.append(f"{short(row['fastest'][name])} ({short(row['median'][name])})" if known else "")
            if key == "S":
                cells += [short(row["tail"]["p99"]), short(row["tail"]["p99.9"])]
            elif key == "streams":
                cells.append(short(row["fastest"]["tinyrnn"] / row["batch"]))
            lines.append(cells)
        beaten = [net(row) for row in rows if beats_floor(row)]
        parts.append(f"{title}, µs per step:\n\n{table(heads, lines)}{below_floor(beaten)}")
    return "\n\n".join(parts)


def machines(results: list[dict[str, Any]]) -> str:
    """A line for each machine, from its newest result: LSTM (64, 128)."""
    works = {"S": "a step", "Q": "in 100 steps", "B": "of 32 streams", "int8": "a step, int8"}
    lines = []
    for cpu, result in {result["about"]["cpu"]: result for result in results}.items():
        about = result["about"]
        rows = {row["row"]: row for row in result["rows"] if net(row) == "LSTM (64, 128)"}
        cells = [short(rows[work]["fastest"]["tinyrnn"]) if work in rows else "" for work in works]
        lines.append([cpu, about["system"], about["isa"], about["date"], *cells])
    return table(["machine", "system", "ISA", "date", *works.values()], lines)


def proved(reports: list[dict[str, Any]]) -> str:
    """A line for each report of `tinyrnn selftest`: what it found, and LSTM (64, 128)."""
    lines = []
    for report in reports:
        about, rows = report["about"], report.get("speed", {}).get("rows", [])
        times = {row["steps"]: row["us_per_step"]["p50"] for row in rows if row["net"] == "LSTM (64, 128)"}
        cells = [short(times.get(steps)) for steps in (1, 100)]
        machine = "emulated" if report["emulated"] else about["cpu"]
        isas = ", ".join(report["isas"])
        lines.append([machine, about["machine"], isas, about["date"], report["verdict"], *cells])
    heads = ["processor", "", "instruction sets", "date", "verdict", "a step, µs", "in 100 steps"]
    return table(heads, lines)


def training_readme(result: dict[str, Any]) -> str:
    """A line for each net: its share of PyTorch's time and memory."""
    lines = []
    for row in result["rows"]:
        ratios, memory = train_ratios(row), row.get("memory", {})
        lines.append(
            [
                row["net"],
                short(row["floor"]),
                f"**{short(row['fastest']['tinyrnn'])}**",
                short(best(row, "torch", "torch_fused")),
                short(ratios["torch"]),
                short(threads_ratio(row)) if "threads" in row else "",
                *(short(memory.get(name, {}).get(beyond)) for beyond in MEMORY for name in MEASURED),
            ]
        )
    heads = [
        "a step of training, ms",
        "floor",
        "tinyrnn",
        "PyTorch",
        "PyTorch / tinyrnn",
        "two threads, times",
    ]
    for beyond in MEMORY.values():
        heads += [f"MB {beyond}: tinyrnn", "PyTorch"]
    return table(heads, lines)


def training_everything(result: dict[str, Any]) -> str:
    """Time, threads and memory; the median round in brackets."""
    rows, nominal = result["rows"], f"{result['about']['nominal_gflops']:g} GFLOP/s"
    names = [name for name in TRAINERS if any(name in row["fastest"] for row in rows)]
    times, threads, memories = [], [], []
    for row in rows:
        ratios = train_ratios(row)
        cells = [row["net"], short(row["floor"])]
        for name in names:
            known = name in row["fastest"]
            cells.append(f"{short(row['fastest'][name])} ({short(row['median'][name])})" if known else "")
        cells += [short(ratios["torch"]), short(ratios["floor"])]
        times.append([*cells, short(row["floor_nominal"]), short(ratios["nominal"])])
        if "threads" in row:
            fastest, median = row["threads"]["fastest"], row["threads"]["median"]
            both = [f"{short(fastest[n])} ({short(median[n])})" for n in ("1", "2")]
            threads.append([row["net"], *both, short(threads_ratio(row))])
        for key, words in MEMORY.items() if "memory" in row else ():
            found = {name: numbers[key] for name, numbers in row["memory"].items()}
            own, other = found["tinyrnn"], found.get("torch_fused")
            told = short(row["memory"]["tinyrnn"]["told"])
            ratio = "" if other is None else short(own / other)
            memories.append([f"{row['net']}, {words}", told, short(own), short(other), ratio])
    heads = ["", "floor", *(TRAINERS[name] for name in names), "PyTorch / tinyrnn", "tinyrnn / floor"]
    heads += [f"floor at {nominal}", "tinyrnn / it"]
    parts = [f"A step of training, ms:\n\n{table(heads, times)}"]
    if threads:
        heads = ["", "one thread", "two", "times"]
        parts.append(f"tinyrnn on two cores, ms:\n\n{table(heads, threads)}")
    if memories:
        heads = ["", "`trainer.memory`", "tinyrnn", "PyTorch", "tinyrnn / PyTorch"]
        parts.append(f"Peak memory, MB:\n\n{table(heads, memories)}")
    return "\n\n".join(parts)


def training_heading(about: dict[str, Any]) -> str:
    speed = f"The core does {short(about['multiply_adds_g_per_s'])} G multiply-adds/s"
    return fill(f"{heading(about)}. {speed}; {about['rounds']} rounds.", 118)


def kept_in(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder, the newest last."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def results() -> list[dict[str, Any]]:
    """The results that are kept, the newest last."""
    found = kept_in(RESULTS)
    if not found:
        sys.exit(f"no result in {RESULTS}: python bench/compare.py --save makes one")
    return found


def between(text: str, new: str, begin: str = BEGIN) -> str:
    """`text` with the part between the two markers replaced."""
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected {begin} ... {END} once")
    return pattern.sub(lambda found: f"{found[1]}\n{new}\n\n{found[2]}", text)


def pages() -> dict[Path, str]:
    """The two pages as they should be.

    A page without training's marker, or without a result of it, says nothing of training.
    """
    kept, training = results(), kept_in(RESULTS / TRAINING)
    result = kept[-1]
    sentence = fill(f"{heading(result['about'])}.", 118)
    bodies = {
        HERE.parent / "README.md": ([sentence, readme(result)], training_readme),
        HERE / "README.md": (
            [
                "LSTM (64, 128) on every machine that somebody measured, µs per step:",
                machines(kept),
                fill(f"The newest: {heading(result['about'])}. The core {limits(result['about'])}.", 118),
                everything(result),
            ],
            training_everything,
        ),
    }
    found = {}
    for path, (body, of_training) in bodies.items():
        text = between(path.read_text(), "\n\n".join(body))
        if training and BEGIN_TRAINING in text:
            newest = training[-1]
            parts = [training_heading(newest["about"]), of_training(newest)]
            text = between(text, "\n\n".join(parts), BEGIN_TRAINING)
        if BEGIN_SELFTEST in text:
            text = between(text, proved(kept_in(RESULTS / SELFTEST)), BEGIN_SELFTEST)
        found[path] = text
    return found


def write() -> list[str]:
    """Write the tables; which pages changed."""
    changed = {path: text for path, text in pages().items() if path.read_text() != text}
    for path, text in changed.items():
        path.write_text(text)
    return [str(path.relative_to(HERE.parent)) for path in changed]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        stale = [path.name for path, text in pages().items() if path.read_text() != text]
        sys.exit(f"not what bench/speed_tables.py writes: {stale}" if stale else 0)
    print("\n".join(write()) or "as they were")
