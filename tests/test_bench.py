"""The benchmark: floors, contenders that must agree, and the READMEs' tables."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.cli.machine import Machine, Matrix, caches, cpu

BENCH = Path(__file__).resolve().parent.parent / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="no bench/ beside the tests")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of bench/ as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCH))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # what compare.py sets goes when the test does
    return importlib.import_module


@pytest.fixture
def tables(load: Any) -> ModuleType:
    return load("speed_tables")  # type: ignore[no-any-return]


@pytest.fixture
def compare(load: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = load("compare")
    monkeypatch.setattr(module, "pin", lambda core: core)  # the tests that follow want every core
    yield module


@pytest.fixture
def inference() -> Iterator[None]:
    """PyTorch as compare.py runs it: one thread, no gradients."""
    if not find_spec("torch"):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


# ---- the machine --------------------------------------------------------------------------------


class Known(Machine):
    """A machine of round numbers: 400 GB/s in L1, 180 in L2, 29 beyond, 104 G multiply-adds/s."""

    def __init__(self) -> None:
        self.multiply_adds = 104e9

    def bandwidth(self, nbytes: float) -> float:
        return 400e9 if nbytes <= 48e3 else 180e9 if nbytes <= 2e6 else 29e9


@pytest.mark.parametrize(
    ("kind", "inputs", "hidden", "steps", "batch", "microseconds"),
    [
        ("LSTM", 1, 16, 1, 1, 0.011),
        ("LSTM", 40, 64, 1, 1, 0.592),
        ("LSTM", 64, 128, 1, 1, 2.185),
        ("LSTM", 256, 512, 1, 1, 217),
        ("LSTM", 40, 64, 100, 1, 0.463),
        ("LSTM", 64, 128, 100, 1, 1.771),
        ("LSTM", 40, 64, 100, 32, 8.19),
        ("LSTM", 128, 256, 100, 32, 121),
        ("GRU", 64, 128, 1, 1, 0.75 * 2.185),
        ("LSTM", 64, 128, 1, 32, 30.2),
    ],
)
def test_floors_are_what_the_definition_gives(
    compare: Any, kind: str, inputs: int, hidden: int, steps: int, batch: int, microseconds: float
) -> None:
    work = compare.Work(kind, inputs, hidden, steps, batch)
    floor = Known().floor(compare.matrices(work), steps, batch) * 1e6 / steps
    assert floor == pytest.approx(microseconds, rel=0.02)


def test_floor_of_smaller_weights(compare: Any) -> None:
    floors = {
        dtype: Known().floor(compare.matrices(compare.Work("LSTM", 64, 128, dtype=dtype)), 1, 1)
        for dtype in ("float32", "float16", "int8", "int4")
    }
    assert floors["float16"] == floors["float32"] / 2 and floors["int8"] == floors["float32"] / 4
    assert floors["int8"] / 2 < floors["int4"] < floors["int8"]


def test_a_machine_measures_each_size_once() -> None:
    machine = Machine(tr.isa(), 0.001)
    assert machine.multiply_adds > 0
    assert machine.bandwidth(10_000) == machine.bandwidth(10_100) > 0  # in steps of 512 bytes
    assert machine.bandwidth(1) == machine.bandwidth(4096)
    assert machine.floor([Matrix(100, 400.0, True)], 3, 1) == pytest.approx(3 * 400 / machine.bandwidth(400))


def test_caches_are_read_as_linux_shows_them(tmp_path: Path) -> None:
    for i, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "1024K"), ("Unified", 3, "32M")]
    ):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index9").mkdir()  # without its files
    assert caches(tmp_path) == {"L1": 48 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert caches(tmp_path / "none") == {}
    assert cpu()


# ---- the contenders -----------------------------------------------------------------------------

PEERS = ["tinyrnn", "torch_cell", "torch_layer", "onnxruntime", "litert", "openvino", "ncnn", "numpy_code"]
WORKS: list[dict[str, Any]] = [
    {},
    {"layers": 2},
    {"batch": 3},
    {"steps": 7},
    {"steps": 7, "batch": 3},
    {"steps": 7, "bidirectional": True},
    {"dtype": "int8"},
]


@pytest.mark.parametrize("more", WORKS, ids=lambda more: " ".join(map(str, more.items())) or "a step")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("name", PEERS)
def test_contenders_agree(
    compare: Any, inference: None, name: str, kind: str, more: dict[str, Any], capsys: Any
) -> None:
    peers = compare.present([name])
    if not peers:
        pytest.skip(f"{name} is not installed")
    work = compare.Work(kind, 5, 16, **more)
    if not peers[name].fits(work):
        pytest.skip(f"{name} does not do this")
    assert list(compare.prepare(work, peers)) == [name], capsys.readouterr().out


def test_absent_contenders_are_named(compare: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compare.importlib.util,
        "find_spec",
        lambda name: None if name in ("onnx", "ncnn") else find_spec(name),
    )
    assert "ncnn" not in compare.present(["tinyrnn", "ncnn", "openvino"])
    out = capsys.readouterr().out
    assert "ncnn is left out: no ncnn here\n" in out and "openvino is left out" in out


def test_who_is_wrong_is_left_out(compare: Any, inference: None, capsys: Any) -> None:
    ours = importlib.import_module("peers.tinyrnn")

    def wrong(work: Any) -> Any:
        call = ours.prepare(work)
        return lambda: call() + np.float32(1e-3)

    def broken(work: Any) -> Any:
        raise RuntimeError("no such operation")

    def peer(prepare: Any) -> Any:
        return SimpleNamespace(fits=lambda work: True, prepare=prepare)

    work = compare.Work("GRU", 3, 4)
    peers = {"tinyrnn": ours, "ncnn": peer(wrong), "litert": peer(broken)}
    assert list(compare.prepare(work, peers)) == ["tinyrnn"]
    out = capsys.readouterr().out
    assert "ncnn is 0.001 off PyTorch" in out and "litert is left out" in out and "no such operation" in out
    with pytest.raises(SystemExit, match="tinyrnn is 0.001 off PyTorch"):
        compare.prepare(work, {"tinyrnn": peer(wrong)})


# ---- a whole run --------------------------------------------------------------------------------


@pytest.fixture
def run(compare: Any, inference: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """compare.py with a command line, over few and small nets."""

    def run(*argv: object) -> None:
        monkeypatch.setattr("sys.argv", ["compare.py", *map(str, argv)])
        compare.main()

    def works(sizes: list[tuple[int, int]] | None = None) -> dict[str, list[Any]]:
        def pair(**more: Any) -> list[Any]:
            return [compare.Work(kind, 3, 4, **more) for kind in ("LSTM", "GRU")]

        return {"S": pair(), "Q": pair(steps=5), "streams": pair(batch=2), "int8": pair(dtype="int8")}

    monkeypatch.setattr(compare, "rows", works)
    return run


def test_a_run_writes_every_number(run: Any, tmp_path: Path, capsys: Any) -> None:
    run("--quick", "--rounds", 1, "--peers", "numpy_code", "--json", tmp_path / "run.json")
    result = json.loads((tmp_path / "run.json").read_text())
    assert [(row["row"], row["kind"]) for row in result["rows"]] == [
        (row, kind) for row in ("S", "Q", "streams", "int8") for kind in ("LSTM", "GRU")
    ]
    for row in result["rows"]:
        names = ["tinyrnn"] if row["row"] == "int8" else ["tinyrnn", "numpy_code"]
        assert list(row["fastest"]) == list(row["median"]) == names
        assert row["floor"] > 0 and all(
            row["fastest"][name] <= row["median"][name] for name in row["fastest"]
        )
        assert ("tail" in row) == (row["row"] == "S")
    tail = result["rows"][0]["tail"]
    assert tail["p50"] <= tail["p99"] <= tail["p99.9"]
    assert result["about"]["versions"]["tinyrnn"] == tr.__version__ and result["about"]["isa"] == tr.isa()
    out = capsys.readouterr().out
    assert "LSTM (3, 4) x 2" in out and "p99.9/p50" in out and "int8 weights" in out


def test_a_whole_run_is_kept_and_the_pages_follow(
    run: Any, tables: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "HERE", tmp_path / "bench")
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "bench" / "results")
    tables.RESULTS.mkdir(parents=True)
    for page in (tmp_path / "README.md", tmp_path / "bench" / "README.md"):
        page.write_text(f"before\n\n{tables.BEGIN}\nold\n{tables.END}\n\nafter\n")
    run("--rounds", 1, "--peers", "numpy_code", "--save")
    (path,) = tables.RESULTS.glob("*.json")
    about = json.loads(path.read_text())["about"]
    assert path.name.startswith(about["date"]) and f"written: {path.name}" in capsys.readouterr().out
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n\n<!-- speed -->\n\n") and text.endswith("\n\n<!-- end -->\n\nafter\n")
    assert "old" not in text and "| a step (3, 4) | " in text and about["cpu"] in " ".join(text.split())
    everything = (tmp_path / "bench" / "README.md").read_text()
    assert "| GRU (3, 4) x 2 | " in everything and "NumPy" in everything
    assert tables.write() == []


def test_rows_of_other_sizes(compare: Any) -> None:
    for name, works in compare.rows([(7, 9), (8, 20)]).items():
        sizes = [(work.inputs, work.hidden) for work in works if work.kind == "GRU"]
        assert (sizes == [(7, 9), (8, 20)]) == (name not in ("layers", "bidirectional", "streams"))
    assert {len(works) for works in compare.rows().values()} == {2, 6, 8, 10}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "S,Z"], "--only: no Z; there are S, Q, B"),
        (["--peers", "keras"], "--peers: no keras; there are tinyrnn, torch_cell"),
        (["--rounds", "0"], "--rounds: 0, expected at least 1"),
        (["--sizes", "3x4,5x0"], "--sizes: '3x4,5x0', expected such as"),
        (["--save", "--sizes", "3x4"], "--save keeps whole measurements"),
        (["--save", "--quick"], "--save keeps whole measurements"),
        (["--save", "--only", "S"], "--save keeps whole measurements"),
    ],
)
def test_wrong_command_lines(
    compare: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["compare.py", *argv])
    with pytest.raises(SystemExit) as stop:
        compare.parse_arguments()
    assert stop.value.code == 2 and words in capsys.readouterr().err


# ---- the tables ---------------------------------------------------------------------------------


def test_the_pages_hold_what_the_results_say(tables: Any) -> None:
    for path, text in tables.pages().items():
        assert path.read_text() == text, f"{path.name} is not what python bench/speed_tables.py writes"


def test_results_are_whole(tables: Any) -> None:
    for result in tables.results():
        assert {"date", "cpu", "cores", "system", "isa", "python", "versions"} <= result["about"].keys()
        for row in result["rows"]:
            assert row["row"] in tables.TITLES and "tinyrnn" in row["fastest"]
            assert set(row["fastest"]) == set(row["median"]) <= set(tables.NAMES)


def test_the_newest_result_is_the_last_by_date(tables: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="--save makes one"):
        tables.results()
    for name in ("2026-12-01-a", "2027-01-01-b", "2026-11-30-z"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}))
    assert tables.results()[-1] == {"name": "2027-01-01-b"}


def test_markers_must_be_there_once(tables: Any) -> None:
    good = f"a\n{tables.BEGIN}\nb\n{tables.END}\n"
    assert tables.between(good, r"\1 new") == f"a\n{tables.BEGIN}\n\n\\1 new\n\n{tables.END}\n"
    for text in ("a", good + good):
        with pytest.raises(ValueError, match="once"):
            tables.between(text, "new")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.01"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1234"), (None, "")],
)
def test_three_digits(tables: Any, value: float | None, text: str) -> None:
    assert tables.short(value) == text
