"""``tinyrnn selftest``: every layer has a row, a fault anywhere is BAD, and what the report says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import CSRC

import tinyrnn as tr
from tinyrnn import cli, losses, names, optim
from tinyrnn._core import is_fused
from tinyrnn.cli import bench, goldens, machine, selftest
from tinyrnn.cli.console import BAD, GOOD, NOTE
from tinyrnn.gates import FUNCTIONS

CASES = list(goldens.cases())
ISAS = tr.available_isas()
FUSED = [isa for isa in ISAS if is_fused(isa)]
UNFUSED = [isa for isa in ISAS if not is_fused(isa)]

Report = dict[str, Any]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(selftest, "speed_limits", lambda: iter(()))
    return tmp_path


def few(monkeypatch: Patch, *texts: str) -> None:
    """Check these rows alone."""
    rows = [case for case in CASES if case.text in texts]
    assert len(rows) == len(texts)
    monkeypatch.setattr(goldens, "cases", lambda: iter(rows))


def poisoned(monkeypatch: Patch, text: str, isas: list[str], change: Callable[[Any], Any]) -> None:
    """Let a row have other results on these instruction sets."""
    prepare = goldens.Case.prepare

    def wrong(case: goldens.Case) -> Callable[[], goldens.Parts]:
        run = prepare(case)

        def changed() -> goldens.Parts:
            parts = run()
            return change(parts) if case.text == text and tr.isa() in isas else parts

        return changed

    monkeypatch.setattr(goldens.Case, "prepare", wrong)


def scaled(part: int, by: float) -> Callable[[goldens.Parts], goldens.Parts]:
    """A change of one part: each number times 1 + ``by``."""

    def change(parts: goldens.Parts) -> goldens.Parts:
        new = list(parts)
        new[part] = (np.frombuffer(new[part], "<f4") * np.float32(1 + by)).astype("<f4").tobytes()
        return tuple(new)

    return change


def ran(*arguments: str) -> tuple[int, Report]:
    """The exit status and the report."""
    status = cli.main(["selftest", "--json", "report.json", "--force", *arguments])
    return status, json.loads(Path("report.json").read_text())


# ---- the table is whole ----------------------------------------------------------------------------


def test_every_layer_loss_and_optimiser_has_a_row() -> None:
    named = set(re.findall(r"(\w+)\(", " ".join(case.text for case in CASES)))
    classes = {name: kind for name in names.HOMES if isinstance(kind := getattr(tr, name), type)}
    layers = {name for name, kind in classes.items() if issubclass(kind, tr.Net)} - {"Net", "Graph"}
    optimisers = {name for name in optim.__all__ if isinstance(getattr(optim, name), type)}
    optimisers = {name for name in optimisers if issubclass(getattr(optim, name), optim.Optimizer)}
    wanted = layers | {kind.__name__ for kind in losses.NAMES.values()} | optimisers - {"Optimizer"}
    assert wanted == named & (wanted | set(names.HOMES))


def test_every_option_of_a_cell_and_every_function_of_its_gates_has_a_row() -> None:
    text = "\n".join(case.text for case in CASES)
    for kind in ("RNN", "GRU", "LSTM", "FastGRNN", "Jordan", "IndRNN"):
        given = set(re.findall(r"(\w+)=", " ".join(re.findall(rf"^{kind}\(.*", text, re.M))))
        general = {"input_size", "hidden_size", "output_size", "num_layers", "bias", "batch_first", "dropout"}
        assert set(getattr(tr, kind).arguments) - general - {"bidirectional"} <= given, kind
    assert all(f"'{function}'" in text for function in FUNCTIONS)


@pytest.mark.skipif(not CSRC.is_dir(), reason="no csrc/ beside the tests")
def test_every_layer_of_the_core_is_computed(monkeypatch: Patch) -> None:
    listed = set(re.findall(r"^TRNN_LAYER\((\w+), \w+\)", (CSRC / "layers/layers.def").read_text(), re.M))
    cells = "".join(path.read_text() for path in (CSRC / "cells").glob("*.inc"))
    listed |= set(re.findall(r"^TRNN_CELL\w*\((\w+),", cells, re.M))
    nets: list[Any] = []
    count = goldens.index_count
    monkeypatch.setattr(goldens, "index_count", lambda net: nets.append(net) or count(net))
    seen = set()
    for case in CASES:
        case.prepare()
    for net in nets:
        several, known = net._several(), net._frame()
        frame = (37,) if known is None else tuple(size or 1 for size in known)
        cores = several.cores if several else net._laid(frame, 2)[0]
        seen |= {core.kind for core in cores}
    assert listed - seen == {"identity"}  # it computes nothing


def test_rows_are_of_real_numbers() -> None:
    assert len({case.text for case in CASES}) == len(CASES) > 150
    assert all(case.crc >= 0 for case in CASES) and len(bytes.fromhex(goldens.CRCS)) == 4 * len(CASES)
    for case in CASES:
        parts = case.prepare()()
        arrays = [np.frombuffer(part, "<f4") for part in parts]
        assert all(np.isfinite(array).all() for array in arrays), case.text
        assert arrays[0].any(), case.text
        assert len(arrays[1]), case.text
        plain = ("Constant", "Masking", "Equal", "NotEqual", "Less", "Greater", "Sign")
        assert arrays[1].any() or case.text.startswith(plain), case.text
        if arrays[2].size:  # the formats are four other computations
            net, *smaller = arrays[0], *np.split(arrays[2], 4)
            assert all(np.abs(one - net[: one.size]).max() > 0 for one in smaller), case.text
    with_formats = {case.text.split("(")[0] for case in CASES if case.prepare()()[2]}
    assert {
        "LSTM",
        "GRU",
        "RNN",
        "Linear",
        "Embedding",
        "Conv1d",
        "Conv2d",
        "ConvTranspose1d",
    } <= with_formats


# ---- a right machine, and wrong ones -----------------------------------------------------------------


def test_this_machine_is_right(capsys: Capture) -> None:
    before = tr.isa()
    status, report = ran("--quick")
    said = capsys.readouterr().out
    assert status == 0 and report["verdict"] == "GOOD" and BAD not in said
    assert tr.isa() == before
    machine_ = "emulated machine" if report["emulated"] else "machine"
    assert f"GOOD: this {machine_} computes what every other one does." in said
    assert list(report["isas"]) == ISAS
    assert all(
        one == {"fused": isa in FUSED, "same": True, "wrong": []} for isa, one in report["isas"].items()
    )
    assert {name: worst for name, worst in report["ulp"].items() if not 0.4 < worst <= 2.5} == {}
    assert max(report["allocated"].values()) <= 512
    assert "speed" not in report and "peers" not in report
    assert max(map(len, said.splitlines())) <= 80 or str(tr.__path__[0]) in said


@pytest.mark.parametrize("part", range(3))
def test_one_wrong_kernel_of_one_instruction_set_is_named(
    part: int, monkeypatch: Patch, capsys: Capture
) -> None:
    few(monkeypatch, "GRU(9, 17)", "Tanh()")
    poisoned(monkeypatch, "GRU(9, 17)", ISAS[-1:], scaled(part, 1e-1 if part == 2 else 1e-3))
    status, report = ran("--quick")
    said = capsys.readouterr()
    assert status == 1 and report["verdict"] == "BAD"
    assert "do not rely on it" in said.out and "got 1 fault, expected none" in said.err
    name = list(goldens.PARTS)[part]
    wrong = f"GRU(9, 17) ({name})"
    if len(ISAS) == 1:  # nothing to compare it with
        wrong = "its bits"
    assert {isa: one["wrong"] for isa, one in report["isas"].items()} == {
        isa: [wrong] if isa == ISAS[-1] else [] for isa in ISAS
    }
    assert wrong in " ".join(said.out.split())


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
def test_the_last_bit_counts_where_it_is_promised(monkeypatch: Patch) -> None:
    few(monkeypatch, "Linear(37, 19)")
    poisoned(monkeypatch, "Linear(37, 19)", FUSED[:1], lambda parts: (flipped(parts[0]), *parts[1:]))
    found = goldens.check()
    assert [isa for isa, one in found.items() if one.wrong] == FUSED[:1]
    assert not found[FUSED[0]].same


def flipped(part: bytes) -> bytes:
    return bytes([part[0] ^ 1]) + part[1:]


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
def test_a_wrong_golden_is_bad_everywhere(monkeypatch: Patch, capsys: Capture) -> None:
    wrong = [case._replace(crc=case.crc ^ 1) if case.text == "LSTM(9, 17)" else case for case in CASES[:80]]
    assert wrong != CASES[:80]
    monkeypatch.setattr(goldens, "cases", lambda: iter(wrong))
    status, report = ran("--quick")
    assert status == 1 and report["verdict"] == "BAD"
    assert [isa for isa, one in report["isas"].items() if one["wrong"]] == FUSED
    assert capsys.readouterr().out.count(f"{BAD} ") == len(FUSED)


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
def test_rounding_without_a_fused_multiply_add_is_no_fault(monkeypatch: Patch) -> None:
    few(monkeypatch, "Tanh()", "LSTM(9, 17)")
    poisoned(monkeypatch, "LSTM(9, 17)", UNFUSED[:1], scaled(0, 1e-6))
    found = goldens.check()
    assert not found[UNFUSED[0]].same and not any(one.wrong for one in found.values())
    texts = dict(reversed(text.split(": ")) for _, text in goldens.findings(found))
    assert any(text.startswith("every layer and gradient is right within rounding") for text in texts)
    poisoned(monkeypatch, "LSTM(9, 17)", UNFUSED[:1], scaled(1, 1e-3))
    assert goldens.check()[UNFUSED[0]].wrong == ["LSTM(9, 17) (gradients)"]


def test_a_machine_without_a_fused_multiply_add_must_have_the_known_bits(monkeypatch: Patch) -> None:
    monkeypatch.setattr(tr, "available_isas", lambda: [UNFUSED[0]])
    monkeypatch.setattr(goldens, "is_fused", lambda isa: False)
    (finding,) = goldens.findings(goldens.check())
    assert finding[0] == GOOD and finding[1].endswith("without a fused multiply-add")
    poisoned(monkeypatch, "LSTM(9, 17)", [UNFUSED[0]], lambda parts: (flipped(parts[0]), *parts[1:]))
    (finding,) = goldens.findings(goldens.check())
    assert finding == (BAD, f"{UNFUSED[0]}: other results than everywhere else: its bits")


def test_a_wrong_function_is_bad(monkeypatch: Patch) -> None:
    bits = selftest.bits

    def wrong(name: str, x: Any) -> bytes:
        found = bits(name, x)
        return scaled(0, 1e-6)((found,))[0] if (name, tr.isa()) == ("Sigmoid", ISAS[-1]) else found

    monkeypatch.setattr(selftest, "bits", wrong)
    levels = [level for level, _ in selftest.functions({})]
    assert levels == [GOOD, BAD, GOOD]
    x = selftest.points()
    assert x.size == 1_000_000 and len(np.unique(x)) > 900_000
    assert x.min() < -99 and x.max() > 99 and np.median(np.abs(x)) < 20


def test_steps_that_allocate_are_bad(monkeypatch: Patch) -> None:
    step = tr.Stream.step
    kept = []

    class Greedy:
        def __init__(self, stream: tr.Stream) -> None:
            self.stream, self.run = stream, stream.run

        def step(self, frame: Any, out: Any = None) -> Any:
            kept[:] = [np.array(frame)]
            return step(self.stream, frame, out)

    stream = tr.Net.stream
    assert [level for level, _ in selftest.steps({})] == [GOOD]
    monkeypatch.setattr(tr.Net, "stream", lambda net, batch: Greedy(stream(net, batch)))
    report: Report = {}
    found = list(selftest.steps(report))
    assert {level for level, _ in found} == {BAD} and len(found) == len(report["allocated"]) == 5
    assert all("bytes allocated, expected the bits and none" in text for _, text in found)


def test_steps_with_other_bits_are_bad(monkeypatch: Patch) -> None:
    monkeypatch.setattr(selftest.np, "array_equal", lambda a, b: False)
    assert all(level == BAD and "other bits" in text for level, text in selftest.steps({}))


# ---- speed and peers ---------------------------------------------------------------------------------


@pytest.fixture
def short_work(monkeypatch: Patch) -> None:
    """One row, one net and no patience: nothing here looks at a time."""
    few(monkeypatch, "Tanh()")
    jobs = [bench.Job("LSTM (3, 4)", tr.LSTM(3, 4), (3,), steps, 1) for steps in (1, 100)]
    jobs.append(bench.Job("LSTM (3, 4)", tr.LSTM(3, 4), (3,), 1, 8))
    measure = bench.measure
    monkeypatch.setattr(selftest, "standard_jobs", lambda: iter(jobs))
    monkeypatch.setattr(selftest, "measure", lambda jobs, _, *more: measure(jobs, 1e-4, *more))
    monkeypatch.setattr(selftest, "emulated", lambda: False)


def test_the_whole_of_it(short_work: None, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(selftest, "find_spec", lambda name: None)
    monkeypatch.setattr(selftest, "degrees", iter([51, 63]).__next__)
    monkeypatch.setattr(selftest, "throttled", lambda: 0)
    monkeypatch.setattr(selftest, "speed_limits", lambda: iter([(GOOD, "63 °C")]))
    if FUSED:
        status, report = ran()
        assert status == 0 and report["verdict"] == "GOOD"
    else:  # a part of the rows has not the checksum of all
        _, report = ran()
    said = capsys.readouterr().out
    rows = report["speed"]["rows"]
    assert [(row["steps"], row["batch"]) for row in rows] == [(1, 1), (100, 1)]
    assert report["degrees"] == [51, 63] and report["throttled"] == 0
    assert report["about"]["cpu"] == report["speed"]["about"]["cpu"]
    assert list(report["peers"]) == ["tinyrnn"]
    assert said.count("LSTM (3, 4)") == 2 and said.count("of floor\n") == 2
    lines = [line for line in said.splitlines() if not line.startswith("tinyrnn ")]
    assert max(map(len, lines)) <= 80


@pytest.mark.skipif(not FUSED, reason="a part of the rows has not the checksum of all")
def test_a_hot_machine_is_slow_not_wrong(short_work: None, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(selftest, "find_spec", lambda name: None)
    monkeypatch.setattr(selftest, "speed_limits", lambda: iter([(BAD, "85 °C: it slows down")]))
    status, report = ran()
    assert (status, report["verdict"]) == (1, "SLOW")
    assert [BAD, "85 °C: it slows down"] in report["findings"]
    assert "but something slows it down" in capsys.readouterr().out


def test_an_emulated_machine_has_no_times(short_work: None, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(selftest, "emulated", lambda: True)
    _, report = ran()
    assert report["emulated"] and "speed" not in report and "peers" not in report
    assert ": this emulated machine computes" in capsys.readouterr().out


def test_an_emulated_processor_is_known_by_its_name(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert not machine.emulated()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n")
    assert machine.emulated()
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert not machine.emulated()
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmvendorid\t: 0x489\n")
    assert not machine.emulated()


PEERS = [name for name in ("torch", "onnxruntime") if find_spec(name)]


@pytest.mark.skipif(not PEERS, reason="no peer is installed")
def test_installed_peers_agree() -> None:
    report: Report = {}
    (finding,) = selftest.peers(report)
    assert finding[0] == GOOD and all(f"{name} " in finding[1] for name in ["tinyrnn", *PEERS])
    assert list(report["peers"]) == ["tinyrnn", *PEERS]


def test_a_peer_that_fails_is_left_out_and_one_that_differs_is_bad(monkeypatch: Patch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(selftest, "find_spec", lambda name: True)
    monkeypatch.setattr(selftest, "_torch", broken)
    monkeypatch.setattr(selftest, "_onnxruntime", lambda *_: lambda: np.zeros(64, np.float32))
    note, bad, times = selftest.peers({})
    assert note == (NOTE, "torch is left out: RuntimeError: no such operator")
    assert bad == (BAD, "LSTM (40, 64): other outputs than onnxruntime's")
    assert times[0] == GOOD


# ---- the file ----------------------------------------------------------------------------------------


@pytest.fixture
def nothing(monkeypatch: Patch) -> None:
    """Check nothing: these tests are of the file."""
    for name in ("layers", "functions", "steps"):
        monkeypatch.setattr(selftest, name, lambda report: iter(()))


def test_a_new_file_by_date_and_machine(
    nothing: None, here: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr(bench, "cpu", lambda: "Raspberry Pi 4 Model B Rev 1.4\x07")
    for _ in range(2):
        assert cli.main(["selftest", "--quick"]) == 0
    first, second = sorted(path.name for path in here.iterdir())
    form = r"selftest-\d{4}-\d\d-\d\d-raspberry-pi-4-model-b-rev-1-4-[a-z0-9-]+"
    assert re.fullmatch(rf"{form}-2\.json", first) and re.fullmatch(rf"{form}\.json", second)
    said = " ".join(capsys.readouterr().out.split())
    assert f"The report is {second}. Please send it" in said and "bench/results/selftest" in said


def test_a_file_that_is_there_stays(nothing: None, here: Path, capsys: Capture) -> None:
    (here / "old.json").write_text("old")
    assert cli.main(["selftest", "--quick", "--json", "old.json"]) == 2
    assert "old.json: --json is a file that is there: choose another name" in capsys.readouterr().err
    assert (here / "old.json").read_text() == "old" and len(list(here.iterdir())) == 1
    assert cli.main(["selftest", "--quick", "--json", "old.json", "--force"]) == 0
    assert json.loads((here / "old.json").read_text())["verdict"] == "GOOD"
    assert cli.main(["selftest", "--quick", "--json", "-"]) == 2


def test_a_file_that_came_meanwhile_stays(here: Path, monkeypatch: Patch) -> None:
    def meanwhile(report: Report) -> Iterator[Any]:
        (here / "new.json").write_text("another's")
        return iter(())

    for name in ("layers", "functions", "steps"):
        monkeypatch.setattr(selftest, name, meanwhile)
    assert cli.main(["selftest", "--quick", "--json", "new.json"]) == 2
    assert (here / "new.json").read_text() == "another's" and len(list(here.iterdir())) == 1


def test_a_folder_that_is_not_there_is_told_at_once(nothing: None, capsys: Capture) -> None:
    assert cli.main(["selftest", "--quick", "--json", "none/a.json"]) == 1
    said = capsys.readouterr()
    assert "none/a.json" in said.err and not said.out
