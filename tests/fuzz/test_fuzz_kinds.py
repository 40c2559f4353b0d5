"""A short run of every fuzz target; CONTRIBUTING.md has the long ones."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import fuzz_kinds
import pytest
from fuzz_kinds import KINDS

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is missing: pip install atheris"
)


@pytest.mark.filterwarnings("ignore:load. PyTorch runs this program")
@pytest.mark.parametrize("kind", KINDS)
def test_seeds_are_sound_and_mutations_are_harmless(kind):
    if KINDS[kind].needs:
        pytest.importorskip(KINDS[kind].needs)
    assert all(fuzz_kinds.check(KINDS[kind], seed) for seed in KINDS[kind].seeds())
    fuzz_kinds.fuzz(KINDS[kind], 100, 13)


def test_a_fault_is_found(monkeypatch, capsys):
    """A reader that breaks on a byte is seen, and its input told."""
    plain = fuzz_kinds.load_weights

    def breaks(file):
        if file.getvalue().count(0xFF) > 2:
            raise KeyError("broken")
        return plain(file)

    monkeypatch.setattr(fuzz_kinds, "load_weights", breaks)
    with pytest.raises(KeyError, match="broken"):
        fuzz_kinds.fuzz(KINDS["safetensors"], 1000, 1)
    assert "this input: b" in capsys.readouterr().err


@needs_atheris
@pytest.mark.parametrize("kind", KINDS)
def test_targets_run(kind, tmp_path):
    if KINDS[kind].needs:
        pytest.importorskip(KINDS[kind].needs)
    script = Path(__file__).with_name("fuzz.py")
    limits = ["-max_total_time=1", "-timeout=20", "-rss_limit_mb=3000", "-max_len=4096"]
    run = subprocess.run(
        [sys.executable, script, kind, *limits],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Done " in run.stderr
