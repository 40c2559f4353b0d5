"""``tinyrnn doctor``: right numbers on every instruction set, and what each finding says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tinyrnn as tr
from tinyrnn import cli
from tinyrnn._core import is_fused
from tinyrnn.cli import doctor, goldens, machine
from tinyrnn.cli.console import BAD, GOOD, NOTE


def test_a_machine_in_order(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "speed_limits", lambda: iter(()))
    before = tr.isa()
    assert cli.main(["doctor"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert tr.isa() == before
    assert said.endswith("nothing is wrong") and BAD not in said
    fused = [name for name in tr.available_isas() if is_fused(name)]
    assert f"{', '.join(fused)}: every layer and gradient has the same bits as everywhere" in said
    assert tr.available_isas()[0] in said


def test_wrong_bits_are_a_fault(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = goldens.Numbers.__call__
    monkeypatch.setattr(doctor, "speed_limits", lambda: iter(()))
    monkeypatch.setattr(goldens.Numbers, "__call__", lambda self, *shape: -numbers(self, *shape))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    wrong = [name for name in tr.available_isas() if is_fused(name)] or ["scalar"]
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith(BAD)] == [
        f"{name}:" for name in wrong
    ]
    assert f"got {len(wrong)} fault" in said.err and "nothing is wrong" not in said.out


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("throttled=0x0\n", [(GOOD, "never throttled")]),
        ("throttled=0x50005\n", [(BAD, "too little voltage, throttled now"), (NOTE, "since")]),
        ("throttled=0x80000\n", [(NOTE, "at its limit of heat since it started")]),
        ("error\n", []),
    ],
)
def test_what_a_raspberry_pi_says_of_itself(
    said: str, expected: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\n[ $1 = get_throttled ] && echo '{said.strip()}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(machine, "_HEAT", tmp_path / "none")
    monkeypatch.setattr(doctor, "_CPU", tmp_path)
    found = list(doctor.speed_limits())
    assert len(found) == len(expected)
    for (level, text), (wanted, part) in zip(found, expected, strict=True):
        assert level == wanted and part in text


def test_heat_and_the_governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "throttled", lambda: None)
    for name, text in (("scaling_governor", "powersave\n"), ("heat", "85250\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(doctor, "_CPU", tmp_path)
    monkeypatch.setattr(machine, "_HEAT", tmp_path / "heat")
    governor, heat = doctor.speed_limits()
    assert governor[0] == NOTE and "powersave" in governor[1]
    assert heat == (BAD, "85 °C: it slows down")
    monkeypatch.setattr(machine, "_HEAT", tmp_path / "missing")
    assert [level for level, _ in doctor.speed_limits()] == [NOTE]
    (tmp_path / "scaling_driver").write_text("intel_pstate\n")
    assert not list(doctor.speed_limits())


def test_a_slower_choice_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tr.available_isas()[0]
    tr.set_isa(first)
    (finding, *_) = doctor.instruction_set()
    assert finding[0] == NOTE and finding[1].startswith(f"{first} runs")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert [text.split()[0] for _, text in doctor.packages()] == list(doctor.PACKAGES)
