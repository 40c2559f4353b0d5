"""``tinyrnn doctor``: right numbers on every instruction set, and what each finding says."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import cli
from tinyrnn._core import is_fused
from tinyrnn.cli import doctor


def test_a_machine_in_order(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "speed_limits", lambda: iter(()))
    before = tr.isa()
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert tr.isa() == before
    assert said.endswith("nothing is wrong\n") and doctor.BAD not in said
    fused = [name for name in tr.available_isas() if is_fused(name)]
    assert f"{', '.join(fused)}: the same bits as everywhere" in said
    assert "scalar: within 1e-05" in said


def test_the_golden_is_of_real_work() -> None:
    found = doctor.outputs()
    assert found.shape == (2, 50, 3, 24) and np.isfinite(found).all()
    assert 1e-4 < np.abs(found[0] - found[1]).max() < 1e-2  # int8 is another computation
    assert len(np.unique(found)) > 5000
    if is_fused(tr.isa()):
        assert zlib.crc32(found.tobytes()) == doctor.GOLDEN


def test_wrong_bits_are_a_fault(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = doctor.outputs
    monkeypatch.setattr(doctor, "speed_limits", lambda: iter(()))
    monkeypatch.setattr(doctor, "outputs", lambda: np.nextafter(outputs(), np.float32(1)))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    fused = [name for name in tr.available_isas() if is_fused(name)]
    if fused:
        assert "computes wrongly" in said.out and "got 1 fault, expected none" in said.err
    monkeypatch.setattr(doctor, "outputs", lambda: outputs() + np.float32(1e-3))
    levels = [level for level, _ in doctor.bits()]
    assert set(levels) == {doctor.BAD}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("throttled=0x0\n", [(doctor.GOOD, "never throttled")]),
        ("throttled=0x50005\n", [(doctor.BAD, "too little voltage, throttled now"), (doctor.NOTE, "since")]),
        ("throttled=0x80000\n", [(doctor.NOTE, "at its limit of heat since it started")]),
        ("error\n", []),
    ],
)
def test_what_a_raspberry_pi_says_of_itself(said: str, expected: list[tuple[str, str]]) -> None:
    found = list(doctor.throttled(said))
    assert len(found) == len(expected)
    for (level, text), (wanted, part) in zip(found, expected, strict=True):
        assert level == wanted and part in text


def test_heat_and_the_governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    for name, text in (("scaling_governor", "powersave\n"), ("heat", "85250\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(doctor, "_CPU", tmp_path)
    monkeypatch.setattr(doctor, "_HEAT", tmp_path / "heat")
    governor, heat = doctor.speed_limits()
    assert governor[0] == doctor.NOTE and "powersave" in governor[1]
    assert heat == (doctor.BAD, "85 °C: it slows down")
    monkeypatch.setattr(doctor, "_HEAT", tmp_path / "missing")
    assert [level for level, _ in doctor.speed_limits()] == [doctor.NOTE]
    (tmp_path / "scaling_driver").write_text("intel_pstate\n")
    assert not list(doctor.speed_limits())


def test_a_slower_choice_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    tr.set_isa("scalar")
    (finding, *_) = doctor.instruction_set()
    assert finding[0] == doctor.NOTE and finding[1].startswith("scalar runs")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert [text.split()[0] for _, text in doctor.packages()] == list(doctor.PACKAGES)
