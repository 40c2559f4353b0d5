"""`tinyrnn convert`, `tinyrnn verify` and `--bind`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from good_files import PROGRAMS
from onnx_files import MODELS, needs_models

import tinyrnn as tr
from tinyrnn import cli


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tr.manual_seed(0)


def net():
    return tr.Sequential(tr.LSTM(4, 8), tr.Linear(8, 2)).eval()


def test_there_and_back(capsys):
    own, x = net(), np.ones((5, 1, 4), np.float32)
    own.save("net.safetensors")
    assert cli.main(["convert", "net.safetensors", "net.onnx"]) == 0
    assert cli.main(["convert", "net.onnx", "again", "--to", "safetensors"]) == 0
    assert "net.onnx: " in capsys.readouterr().out
    assert np.abs(tr.load("again")(x) - own(x)).max() <= 2e-5


def test_a_proof_is_repeated(capsys):
    own = net()
    own.save("net.safetensors", proof=True)
    assert cli.main(["verify", "net.safetensors"]) == 0
    assert "agrees with the proof in the file" in capsys.readouterr().out
    other = net()
    other.save("other.safetensors")
    assert cli.main(["verify", "net.safetensors", "--against", "other.safetensors", "--steps", "9"]) == 1
    assert "differs from other.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["convert", "net.safetensors", "net.txt"], 2, "expected .onnx or .safetensors"),
        (["convert", "net.safetensors", "net.safetensors"], 2, "same file"),
        (["convert", "net.safetensors", "b.safetensors", "--no-states"], 2, "--no-states"),
        (["info", "net.safetensors", "--bind", "sr"], 2, "NAME=NUMBER"),
        (["convert", "net.safetensors", "n.onnx", "--bind", "a=1", "--bind", "a=2"], 2, "twice"),
        (["verify", "net.safetensors"], 1, "without a proof"),
    ],
)
def test_what_is_wrong_is_one_line(argv, status, words, capsys):
    net().save("net.safetensors")
    assert cli.main(argv) == status
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.filterwarnings("default:load")
def test_a_warning_is_one_line_and_axes_may_be_told(capsys):
    Path("net.pt2").write_bytes(PROGRAMS["heads/file"].tobytes())
    assert cli.main(["convert", "net.pt2", "net.safetensors"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("tinyrnn: warning: load: ") and error.count("\n") == 1 and 'axes="BTF"' in error
    assert cli.main(["convert", "net.pt2", "other.safetensors", "--bind", "axes=BTF"]) == 0
    assert not capsys.readouterr().err


@needs_models
def test_verify_gives_an_onnx_file_its_numbers(capsys):
    pytest.importorskip("onnxruntime")
    path = MODELS / "silero_vad.onnx"
    command = ["verify", str(path), "--against", str(path), "--steps", "20"]
    assert cli.main([*command, "--bind", "sr=16000"]) == 0
    assert "agrees with" in capsys.readouterr().out
    tr.load(path, sr=16000).save("vad.safetensors")
    assert cli.main(["verify", "vad.safetensors", *command[2:], "--bind", "sr=16000"]) == 0
    assert cli.main(["verify", "vad.safetensors", "--against", "vad.safetensors", "--bind", "sr=8"]) == 1
    assert "got sr, expected numbers beside a file of ONNX or TorchScript" in capsys.readouterr().err
