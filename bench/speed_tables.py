"""The tables in the READMEs, made from the newest file in results/.

    python bench/speed_tables.py            # write them
    python bench/speed_tables.py --check    # fail if they are not what it would write

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
BEGIN, END = "<!-- speed -->", "<!-- end -->"

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
    """Three digits; nothing for what was not measured."""
    if value is None:
        return ""
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
    """What the machine could do, in a sentence."""
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


# ---- Markdown -----------------------------------------------------------------------------------


def table(heads: list[str], lines: list[list[str]]) -> str:
    rule = "|" + "|".join(["---", *["---:"] * (len(heads) - 1)]) + "|"
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(c) + " |" for c in lines)])


def best(row: dict[str, Any], *names: str) -> float | None:
    """The fastest round among some contenders."""
    return min((row["fastest"][name] for name in names if name in row["fastest"]), default=None)


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
    lines = []
    for work, words in works.items():
        for row in rows:
            if row["row"] == work:
                others = [name for name in row["fastest"] if name not in ("tinyrnn", "numpy_code")]
                rival, own = best(row, *others), row["fastest"]["tinyrnn"]
                ratio = "" if rival is None else short(rival / own)
                cells = [f"{words} ({row['input_size']}, {row['hidden_size']})", short(row["floor"])]
                cells += [f"**{short(own)}**", *(short(best(row, *who)) for who in peers.values()), ratio]
                lines.append(cells)
    return table(["LSTM (I, H)", "floor", "tinyrnn", *peers, "best peer / tinyrnn"], lines)


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
        parts.append(f"{title}, µs per step:\n\n{table(heads, lines)}")
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


def results() -> list[dict[str, Any]]:
    """What is kept, the newest last."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if not found:
        sys.exit(f"no result in {RESULTS}: python bench/compare.py --save makes one")
    return found


def between(text: str, new: str) -> str:
    """`text` with what is between the two markers replaced."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected {BEGIN} ... {END} once")
    return pattern.sub(lambda found: f"{found[1]}\n{new}\n\n{found[2]}", text)


def pages() -> dict[Path, str]:
    """The two pages as they should be."""
    kept = results()
    result = kept[-1]
    sentence = fill(f"{heading(result['about'])}.", 118)
    bodies = {
        HERE.parent / "README.md": [sentence, readme(result)],
        HERE / "README.md": [
            "LSTM (64, 128) on every machine that somebody measured, µs per step:",
            machines(kept),
            fill(f"The newest: {heading(result['about'])}. The core {limits(result['about'])}.", 118),
            everything(result),
        ],
    }
    return {path: between(path.read_text(), "\n\n".join(body)) for path, body in bodies.items()}


def write() -> list[str]:
    """Write the tables; which pages changed."""
    changed = [path for path, text in pages().items() if path.read_text() != text]
    for path, text in pages().items():
        if path in changed:
            path.write_text(text)
    return [str(path.relative_to(HERE.parent)) for path in changed]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        stale = [path.name for path, text in pages().items() if path.read_text() != text]
        sys.exit(f"not what bench/speed_tables.py writes: {stale}" if stale else 0)
    print("\n".join(write()) or "as they were")
