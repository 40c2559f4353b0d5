"""The example that shows speech as it is heard: a recording, a pipe, and a microphone that is played."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import types
import wave
from pathlib import Path
from typing import Any

import devices
import numpy as np
import pytest
from example_scripts import Load, stopped

TOTAL = "48.6 s of speech in 60.0 s"


@pytest.fixture
def live(load: Load) -> Any:
    return load("vad", "live")


@pytest.fixture
def checkpoint(data_dir: Path) -> str:
    return str(data_dir / "silero_vad_16k.pt")


@pytest.fixture
def speech(data_dir: Path) -> str:
    return str(data_dir / "speech_16k.wav")


def test_a_recording_gives_the_stretches_of_the_other_script(
    live: Any, checkpoint: str, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.modules["vad"].main([checkpoint, speech])
    *expected, _, _, _ = capsys.readouterr().out.splitlines()
    live.main([checkpoint, "--input", speech, "--fast"])
    *found, total = capsys.readouterr().out.splitlines()
    assert found == expected and len(found) == 19
    assert total == TOTAL


def test_a_pipe_gives_the_same(
    live: Any,
    checkpoint: str,
    speech: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with wave.open(speech, "rb") as file:
        data = file.readframes(file.getnframes())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    live.main([checkpoint, "--input", "-"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and lines[-1] == TOTAL


def test_a_microphone_until_ctrl_c(
    live: Any, checkpoint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's microphone hears a tone for two seconds, then Ctrl-C is pressed."""
    monkeypatch.setitem(sys.modules, "sounddevice", devices.MODULES["sounddevice"]())
    live.main([checkpoint])
    assert re.fullmatch(r"(.* s\n)*\d\.\d s of speech in 2\.0 s\n", capsys.readouterr().out)


def test_without_sounddevice_it_says_what_to_do(
    live: Any, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install sounddevice" in stopped(live.main, checkpoint)


def test_in_a_terminal_a_line_shows_level_and_probability(
    live: Any, checkpoint: str, tmp_path: Path, speech: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wave.open(speech, "rb") as file:
        data = file.readframes(4 * 16_000)
    path = tmp_path / "four.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", None))  # type: ignore[arg-type]
        out.writeframes(data)
    ours, theirs = pty.openpty()
    said = bytearray()
    with os.fdopen(theirs, "w", buffering=1, encoding="utf-8") as terminal:

        class Both:
            """A terminal whose text is read as it is written, before it is full."""

            def isatty(self) -> bool:
                return terminal.isatty()

            def write(self, text: str) -> None:
                if text:
                    terminal.write(text)
                    terminal.flush()
                    said.extend(os.read(ours, 4096))

            def flush(self) -> None: ...

        monkeypatch.setattr(sys, "stdout", Both())
        live.main([checkpoint, "--input", str(path), "--fast"])
    os.close(ours)
    *drawn, last = said.decode().split("\r\x1b[K")
    shown = [line for line in drawn if " dB " in line]
    assert len(shown) == 125 and max(map(len, shown)) < 80
    found = re.fullmatch(r" +(\d+\.\d) s +(-?\d+) dB ([#.]{20})  (\d\.\d\d) ([#.]{20})  (speech)?", shown[30])
    assert found is not None and found[1] == "1.0" and found[6] == "speech"
    assert float(found[4]) > 0.5 and found[5].count("#") > 10
    assert sum("    0.00 - 2.05 s" in line for line in drawn) == 1
    assert re.match(r"\d\.\d s of speech in 4\.0 s", last)


def test_levels(live: Any) -> None:
    assert live.level(np.ones(512, np.float32)) == 0
    assert live.level(np.zeros(512, np.float32)) == live.FLOOR == -60
    t = np.arange(512) * 2 * np.pi / 32
    assert live.level(0.5 * np.sin(t).astype(np.float32)) == pytest.approx(-9.03, abs=0.01)
    assert live.bar(0) == "." * 20 and live.bar(1) == live.bar(7) == "#" * 20


def test_a_recording_is_heard_at_its_speed(live: Any, speech: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only sleep moves: chunk n is due n times 32 ms after the beginning."""
    clock = types.SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(live, "time", clock)
    for at, _ in zip(range(10), live.played(Path(speech), False), strict=False):
        assert clock.now == pytest.approx(100 + 0.032 * (at + 1))
