"""Tests of all scripts that train: help, options, packages that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from example_scripts import Load, stopped

SCRIPTS = {
    "charlm": ["learn", "adapt", "residual", "stream"],
    "digits": ["digits"],
    "sunspots": ["sunspots"],
}


@pytest.mark.parametrize(("folder", "name"), [(f, name) for f, names in SCRIPTS.items() for name in names])
def test_help(load: Load, folder: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(folder, name).main(["--help"])
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps: got '0', expected a whole number from 1"),
        (["--seed", "-1"], "--seed: got '-1', expected a whole number from 0"),
        (["--rate", "fast"], "--rate: got 'fast', expected a number above 0"),
        (["--rate", "nan"], "--rate: got 'nan'"),
        (["--out", "nowhere/net.safetensors"], "expected a file in a folder that exists"),
    ],
)
@pytest.mark.parametrize(
    ("folder", "name"),
    [("charlm", "learn"), ("charlm", "adapt"), ("charlm", "residual"), ("digits", "digits")],
)
def test_wrong_options(
    load: Load,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    if folder == "digits" and arguments[0] == "--steps":
        arguments, message = ["--epochs", "0"], message.replace("--steps", "--epochs")
    with pytest.raises(SystemExit) as stop:
        load(folder, name).main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "missing", "name"),
    [("digits", "sklearn", "scikit-learn"), ("sunspots", "statsmodels", "statsmodels")],
)
def test_data_that_is_not_installed(
    load: Load, monkeypatch: pytest.MonkeyPatch, folder: str, missing: str, name: str
) -> None:
    for module in (missing, f"{missing}.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    assert stopped(load(folder, folder).main).endswith(f"which is missing: pip install {name}")


@pytest.mark.parametrize(
    ("folder", "name"),
    [("charlm", "learn"), ("charlm", "residual"), ("digits", "digits"), ("sunspots", "sunspots")],
)
def test_torch_that_is_not_installed(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    name: str,
    text: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip({"digits": "sklearn", "sunspots": "statsmodels"}.get(folder, "numpy"))
    monkeypatch.setitem(sys.modules, "torch", None)
    more = ["--text", text, "--out", tmp_path / "net.safetensors"] if folder == "charlm" else []
    assert stopped(load(folder, name).main, "--torch", *more) == "torch is not installed; this needs it"
