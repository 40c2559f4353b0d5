"""The benchmarks: floors, contenders that must agree, and the READMEs' tables."""

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
from folders import BENCH

import tinyrnn as tr
from tinyrnn.cli.machine import Machine, Matrix, caches, cpu

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
        (["--only", "S,Z"], "--only: got Z, expected some of S, Q, B"),
        (["--peers", "keras"], "--peers: got keras, expected some of tinyrnn, torch_cell"),
        (["--rounds", "0"], "--rounds: got 0, expected at least 1"),
        (["--sizes", "3x4,5x0"], "--sizes: got '3x4,5x0', expected sizes such as"),
        (["--save", "--sizes", "3x4"], "--save keeps complete measurements"),
        (["--save", "--quick"], "--save keeps complete measurements"),
        (["--save", "--only", "S"], "--save keeps complete measurements"),
    ],
)
def test_wrong_command_lines(
    compare: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["compare.py", *argv])
    with pytest.raises(SystemExit) as stop:
        compare.parse_arguments()
    assert stop.value.code == 2 and words in capsys.readouterr().err


# ---- training -----------------------------------------------------------------------------------


@pytest.fixture
def training(load: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """training.py with a lesson that is soon learnt, on whatever cores there are."""
    module = load("training")
    lesson = module.Lesson("LSTM", 3, 4, 2, 5, batch=2, layers=2, one_hot=True, turn=2)
    monkeypatch.setattr(module.lessons, "LESSONS", {"small": lesson})
    monkeypatch.setattr(module.runs, "pin", lambda core: core)
    monkeypatch.setattr(module.runs, "stay_on", lambda cores: None)
    threads = None
    if find_spec("torch"):
        import torch

        threads = torch.get_num_threads()
    yield module
    if threads:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("row", "milliseconds"), [("lstm", 4.5), ("gru", 3.4), ("lstm2", 13.6)])
def test_floors_of_training(load: Any, row: str, milliseconds: float) -> None:
    multiply_adds = load("lesson").LESSONS[row].multiply_adds
    assert multiply_adds / 104e9 * 1e3 == pytest.approx(milliseconds, abs=0.05)


def test_each_batch_is_another_in_the_same_arrays(training: Any) -> None:
    lesson = training.lessons.LESSONS["small"]
    x, y = lesson.x, lesson.y
    before = x.copy()
    lesson.again(7)
    assert lesson.x is x and lesson.y is y and (x != before).any()
    assert (np.sort(x, axis=-1) == [0, 0, 1]).all() and set(np.unique(y)) == {0, 1}
    lesson.again(0)
    assert (x == before).all()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_learn_the_same(training: Any, kind: str, batch: int, capsys: Any) -> None:
    pytest.importorskip("torch")
    lesson = training.Lesson(kind, 5, 16, 4, 9, batch=batch, layers=2)
    calls = training.prepare(lesson, training.present())
    assert list(calls) == ["tinyrnn", "torch", "torch_fused"] and not capsys.readouterr().out
    again = [training.lessons.tinyrnn(lesson, threads)() for threads in (1, 2)]
    assert again[0] == again[1]  # the bits do not depend on the threads


def test_other_losses_stop_everything(training: Any, monkeypatch: Any, capsys: Any) -> None:
    teachers = training.lessons.TEACHERS
    own = teachers["tinyrnn"]

    def other(lesson: Any) -> Any:
        call = own(lesson)
        return lambda: call() + 1e-3

    def broken(lesson: Any) -> Any:
        raise RuntimeError("no such kernel")

    lesson = training.lessons.LESSONS["small"]
    monkeypatch.setitem(teachers, "torch", own)
    monkeypatch.setitem(teachers, "torch_fused", broken)
    assert list(training.prepare(lesson, list(teachers))) == ["tinyrnn", "torch"]
    assert "PyTorch, fused Adam is left out of 2 x LSTM (3, 4)" in capsys.readouterr().out
    monkeypatch.setitem(teachers, "torch", other)
    with pytest.raises(SystemExit, match="tinyrnn's losses are 0.001 off those of PyTorch"):
        training.prepare(lesson, ["tinyrnn", "torch"])
    monkeypatch.setitem(teachers, "tinyrnn", broken)
    with pytest.raises(RuntimeError, match="no such kernel"):
        training.prepare(lesson, ["tinyrnn"])


def test_turns(training: Any) -> None:
    lesson, order = training.lessons.LESSONS["small"], []
    found = training.race(lesson, {name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert "".join(order) == "aabb" + "bbaa" + "aabb"
    assert all(found[key].keys() == {"a", "b"} for key in ("fastest", "median", "cores"))


def test_a_disturbed_run_is_told(tables: Any) -> None:
    threads = {
        "fastest": {"1": 9.0, "2": 8.0},
        "median": {"1": 9.0, "2": 8.5},
        "cores": {"1": 1.0, "2": 1.05},
    }
    row = {"net": "LSTM", "threads": threads}
    assert tables.threads_row(row).endswith("x 1.12   (disturbed: it had 1.05 of 2)")
    threads["cores"]["2"] = 1.95
    assert tables.threads_row(row).endswith("x 1.12")


def test_memory_is_that_of_the_trainer(training: Any) -> None:
    try:
        training.footprint.forget_peak()
    except OSError:
        pytest.skip("no /proc/self/clear_refs")
    lesson = training.Lesson("LSTM", 64, 128, 10, 50, batch=64)
    found = training.memory(lesson, "tinyrnn", 1)
    assert found["import"] > 5 and found["beyond_import"] > found["beyond_first_step"]
    assert found["beyond_first_step"] == pytest.approx(found["told"], rel=0.2)
    with pytest.raises(RuntimeError, match="nobody"):
        training.memory(lesson, "nobody", 1)


def test_a_run_of_training(
    compare: Any, training: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "present", lambda: ["tinyrnn"])
    monkeypatch.setattr(training.runs, "allowed", lambda: [0, 1])
    path = tmp_path / "run.json"
    monkeypatch.setattr("sys.argv", ["compare.py", "train", "--quick", "--rounds", "2", "--json", str(path)])
    monkeypatch.setattr(
        training, "memory", lambda *_: {"import": 1, "beyond_import": 3, "beyond_first_step": 2, "told": 2}
    )
    compare.main()
    result = json.loads(path.read_text())
    (row,) = result["rows"]
    assert row["net"] == "2 x LSTM (3, 4), 5 steps of 2" and row["fastest"].keys() == {"tinyrnn"}
    assert 0 < row["fastest"]["tinyrnn"] <= row["median"]["tinyrnn"] and row["floor"] > 0
    assert row["threads"]["fastest"].keys() == {"1", "2"} and row["memory"].keys() == {"tinyrnn"}
    assert result["about"]["nominal_gflops"] == 208 and result["about"]["multiply_adds_g_per_s"] > 0
    assert "told beforehand 2.00" in capsys.readouterr().out


def test_a_part_that_cannot_be_measured_is_named(training: Any, capsys: Any, monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no /proc")

    monkeypatch.setattr(training, "present", lambda: ["tinyrnn"])
    monkeypatch.setattr(training.runs, "allowed", lambda: [0])
    monkeypatch.setattr(training, "memory", fail)
    training.main(["--quick", "--parts", "threads,memory"])
    out = capsys.readouterr().out
    assert "Two threads are left out: one core here" in out and "memory is left out: no /proc" in out


def test_training_is_kept_and_the_pages_follow(
    training: Any, tables: Any, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    def numbers(lesson: Any, name: str, times: int) -> dict[str, float]:
        return {"import": 10.0, "beyond_import": 6.0, "beyond_first_step": 3.0, "told": 2.9}

    kept = (BENCH / "results").glob("*.json")
    monkeypatch.setattr(tables, "HERE", tmp_path / "bench")
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "bench" / "results")
    tables.RESULTS.mkdir(parents=True)
    (tables.RESULTS / "2026-01-01-a.json").write_text(max(kept).read_text())
    empty = f"{tables.BEGIN}\n{tables.END}\n"
    pages = [tmp_path / "README.md", tmp_path / "bench" / "README.md"]
    pages[0].write_text(f"{empty}\n{tables.BEGIN_TRAINING}\n{tables.END}\nafter\n")
    pages[1].write_text(f"{empty}\n{tables.BEGIN_TRAINING}\n{tables.END}\nafter\n")
    assert len(tables.write()) == 2 and f"{tables.BEGIN_TRAINING}\n{tables.END}" in pages[0].read_text()
    teachers = training.lessons.TEACHERS
    for name in ("torch", "torch_fused"):  # tinyrnn plays them too
        monkeypatch.setitem(teachers, name, teachers["tinyrnn"])
    monkeypatch.setattr(training, "present", lambda: list(teachers))
    monkeypatch.setattr(training.runs, "allowed", lambda: [0, 1])
    monkeypatch.setattr(training, "memory", numbers)
    training.main(["--rounds", "1", "--save"])
    (path,) = (tables.RESULTS / "training").glob("*.json")
    assert f"written: training/{path.name}" in capsys.readouterr().out
    row = json.loads(path.read_text())["rows"][0]
    short, everything = (page.read_text() for page in pages)
    assert "| 2 x LSTM (3, 4), 5 steps of 2 | " in short and "| 6.00 | 6.00 | 3.00 | 3.00 |" in short
    assert f"**{tables.short(row['fastest']['tinyrnn'])}**" in short and short.endswith("\nafter\n")
    assert "5 steps of 2, beyond a first step | 2.90 | 3.00 | 3.00 | 1.00 |" in everything
    assert "PyTorch, fused Adam" in everything and "floor at 208 GFLOP/s" in everything
    assert tables.write() == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "gru"], "--only: got gru, expected some of small"),
        (["--parts", "time,disk"], "--parts: got disk, expected some of time, threads, memory"),
        (["--rounds", "0"], "--rounds: got 0, expected at least 1"),
        (["--nominal", "0"], "--nominal: got 0, expected a positive number"),
        (["--save", "--quick"], "--save keeps complete measurements"),
        (["--save", "--parts", "time"], "--save keeps complete measurements"),
    ],
)
def test_wrong_command_lines_of_training(training: Any, capsys: Any, argv: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        training.parse_arguments(argv)
    assert stop.value.code == 2 and words in capsys.readouterr().err


# ---- the tables ---------------------------------------------------------------------------------


def test_the_pages_hold_what_the_results_say(tables: Any) -> None:
    for path, text in tables.pages().items():
        assert path.read_text() == text, f"{path.name} is not what python bench/speed_tables.py writes"


def test_a_row_that_beats_its_floor_is_explained_below_its_table(tables: Any) -> None:
    """In whatever tables are made; where none does, nothing is said."""
    row = {"row": "Q", "kind": "LSTM", "input_size": 3, "hidden_size": 4, "batch": 1, "floor": 2.0}
    row |= {"fastest": {"tinyrnn": 1.9}, "median": {"tinyrnn": 2.1}}
    names = {tables.readme: "100 steps (3, 4)", tables.everything: "LSTM (3, 4)"}
    for page, name in names.items():
        last = " ".join(page({"rows": [row]}).rpartition("\n\n")[2].split())
        assert last.startswith(f"{name} is below its floor. ") and "forwards and backwards in turn" in last
        assert "below" not in page({"rows": [row | {"floor": 1.9}]})
    kept = tables.results()[-1]
    assert any(map(tables.beats_floor, kept["rows"])) == ("below" in tables.everything(kept))


def test_results_are_whole(tables: Any) -> None:
    for result in tables.results():
        assert {"date", "cpu", "cores", "system", "isa", "python", "versions"} <= result["about"].keys()
        for row in result["rows"]:
            assert row["row"] in tables.TITLES and "tinyrnn" in row["fastest"]
            assert set(row["fastest"]) == set(row["median"]) <= set(tables.NAMES)
    for result in tables.kept_in(tables.RESULTS / tables.TRAINING):
        assert {"date", "cpu", "isa", "versions", "multiply_adds_g_per_s"} <= result["about"].keys()
        for row in result["rows"]:
            assert "tinyrnn" in row["fastest"] and set(row["fastest"]) <= set(tables.TRAINERS)


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
    [(0.0123, "0.012"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1234"), (None, "")],
)
def test_three_digits(tables: Any, value: float | None, text: str) -> None:
    assert tables.short(value) == text
