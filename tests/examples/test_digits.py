"""Handwritten digits, read row by row, and their twin in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_scripts import Load, number, stopped

import tinyrnn as tr


def test_digits_are_told_apart(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    saved = tmp_path / "digits.safetensors"
    digits = load("digits", "digits")
    digits.main(["--out", str(saved)])
    output = capsys.readouterr().out
    accuracy = number(r"epoch  30 .* ([\d.]+)% in the test", output)
    assert accuracy >= 97
    _, test = digits.read()
    found = tr.load(saved)(test.images)[:, -1].argmax(-1)
    assert round(100 * float((found == test.labels).mean()), 2) == accuracy


def test_the_picture(load: Load, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    digits = load("digits", "digits")
    _, test = digits.read()
    digits.plot(tmp_path / "digits.png", digits.build(0), test)
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_digits_are_pytorchs(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    load("digits", "digits").main(["--epochs", "2", "--torch"])
    output = capsys.readouterr().out
    assert number(r"the losses of 88 steps were at most (\S+) apart", output) < 1e-3
    load("digits", "digits_torch").main(["--epochs", "2"])
    alone = number(r"PyTorch +loss ([\d.]+)", capsys.readouterr().out)
    assert abs(alone - number(r"PyTorch +loss ([\d.]+)", output)) < 2e-4


def test_digits_are_not_in_both_parts(load: Load) -> None:
    pytest.importorskip("sklearn")
    digits = load("digits", "digits")
    train, test = digits.read()
    assert train.images.shape == (1438, 8, 8) and test.images.shape == (359, 8, 8)
    assert train.images.min() == 0 and train.images.max() == 1
    seen = np.concatenate([batch.images for batch in digits.batches(train, 32, 1)])
    assert len(seen) == 44 * 32 and len(np.unique(seen.reshape(len(seen), -1), axis=0)) > 1400
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_batch_larger_than_the_digits(load: Load) -> None:
    pytest.importorskip("sklearn")
    message = stopped(load("digits", "digits").main, "--batch", "2000")
    assert message == "--batch is 2000, expected at most 1438, all digits there are"
