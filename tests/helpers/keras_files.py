"""Keras models for tests: built with Keras 3 on its torch backend, and loaded by tinyrnn."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

os.environ.setdefault("KERAS_BACKEND", "torch")


def keras3() -> Any:
    """Keras 3 on torch; tests skip without it."""
    pytest.importorskip("h5py")
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", minversion="3")


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def randomised(model: Any, seed: int = 1) -> Any:
    """The model with random weights: none is at its first value, variances are positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.uniform(-0.5, 0.5, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return model


def run(model: Any, given: Any) -> list[Any]:
    """The outputs of a model for arrays (batch, ...)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = model(given, training=False)
    found = y.values() if isinstance(y, dict) else y if isinstance(y, (list, tuple)) else [y]
    return [np.asarray(one.detach().cpu().numpy()) for one in found]


def saved(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def ours(net: Any, given: Any, **options: Any) -> list[Any]:
    """The outputs of a net for Keras' arrays, as Keras' arrays."""
    arrays = given if isinstance(given, (list, tuple)) else [given]
    moved = []
    ports = [port for port in net._inputs.values() if port.steps is None]
    for array, port in zip(arrays, ports, strict=True):
        is_timed = array.ndim - 1 > len(port.frame)
        moved.append(array.swapaxes(0, 1) if is_timed else array)
    y = net(*moved, **options)
    found = list(y.values()) if isinstance(y, dict) else [y]
    return found


def close(got: Any, expected: Any, bound: float = 2e-5) -> None:
    """Compare an output (T, B, frame) or (B, frame) with Keras' (B, T, frame) or (B, frame)."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.ndim == expected.ndim and got.shape != expected.shape and got.ndim > 1:
        got = got.swapaxes(0, 1)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    worst = np.abs(got - expected).max()
    assert worst <= bound, worst


def agrees(model: Any, given: Any, folder: Path, bound: float = 2e-5, **options: Any) -> Any:
    """Compare the net of each kind of file with the model; returns the last one."""
    expected = run(model, given)
    net = None
    for suffix in (".keras", ".h5"):
        net = tr.load(saved(model, folder / f"model{suffix}"), **options)
        got = ours(net, given)
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            close(one, other, bound)
    return net
