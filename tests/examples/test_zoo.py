"""The zoo: other people's models beside their runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_scripts import Load

import tinyrnn as tr

ONE, BOTH = "streams, ", "needs full sequences"


def saved(folder: Path) -> list[str]:
    """A model that streams, one that does not, and a file of tinyrnn."""
    one = tr.Sequential(tr.GRU(3, 4), tr.Linear(4, 2))
    one.to_onnx(folder / "one.onnx")
    tr.Sequential(tr.LSTM(3, 4, bidirectional=True)).to_onnx(folder / "both.onnx", states=False)
    one.save(folder / "own.safetensors")
    return [str(folder / name) for name in ("one.onnx", "both.onnx", "own.safetensors")]


def test_each_file_has_its_lines(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    load("zoo", "zoo").main([*saved(tmp_path), "--steps", "20", "--bind", "sr=16000"])
    output = capsys.readouterr().out
    blocks = dict(zip(("one", "both", "own"), output.split(".onnx\n")[1:], strict=False))
    assert "GRU, Linear: 118 parameters" in output and output.count("bytes of weights") == 3
    assert ONE in blocks["one"] and BOTH in blocks["both"]
    assert output.count("agrees with ONNX Runtime: largest error") == 2
    assert "no other runtime reads it here" in output


def test_a_runtime_that_is_not_installed(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = load("zoo", "zoo")
    monkeypatch.setattr(zoo.importlib.util, "find_spec", lambda name: None)
    zoo.main(saved(tmp_path)[:1])
    assert "ONNX Runtime is not installed" in capsys.readouterr().out


def test_what_cannot_be_run_is_named_and_the_rest_runs(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "weights.npz", w=np.zeros(3, np.float32))
    files = [str(tmp_path / "weights.npz"), str(tmp_path / "missing.onnx"), saved(tmp_path)[2]]
    with pytest.raises(SystemExit) as stop:
        load("zoo", "zoo").main(files)
    said = capsys.readouterr()
    assert stop.value.code == "2 of 3 files could not be run"
    assert "holds weights but no architecture" in said.err and "No such file" in said.err
    assert "118 parameters" in said.out
