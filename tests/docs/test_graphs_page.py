"""docs/graphs.md: its programs run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import DOCS

import tinyrnn as tr

PAGE = (DOCS / "graphs.md").read_text() if DOCS.is_dir() else ""
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs/ beside the tests")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the page's programs, run one after the other."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(block, found)
    return found


def test_the_own_cell_is_a_gru(names: dict[str, Any]) -> None:
    own, gru = names["own"], tr.GRU(8, 16)
    weights = gru.state_dict()
    own.load_state_dict(
        {
            f"{part}.{kind}": weights[f"{kind}_{part}_l0"]
            for part in ("ih", "hh")
            for kind in ("weight", "bias")
        }
    )
    x = np.random.default_rng(0).standard_normal((50, 3, 8), dtype=np.float32)
    dy = np.random.default_rng(1).standard_normal((50, 3, 16), dtype=np.float32)
    assert np.abs(own(x) - gru(x)[0]).max() < 2e-6
    own.train(), gru.train()
    own(x), gru(x)
    dx = gru.backward(dy)
    assert np.abs(own.backward(dy) - dx).max() < 2e-5 * np.abs(dx).max()
    for name, gradient in own.grad_dict().items():
        part, _, kind = name.partition(".")
        right = gru.grad_dict()[f"{kind}_{part}_l0"]
        assert np.abs(gradient - right).max() < 2e-5 * np.abs(right).max(), name


def test_the_leaky_cell_is_its_formula(names: dict[str, Any]) -> None:
    leaky = names["leaky"].eval()
    w = {name: array.astype(np.float64) for name, array in leaky.state_dict().items()}
    x = np.random.default_rng(2).standard_normal((20, 3, 2), dtype=np.float32)
    keep = 1 / (1 + np.exp(-w["decay.weight"][:, 0]))
    m = np.zeros((3, 16))
    for frame in x:
        gate = 1 / (1 + np.exp(-(np.concatenate([frame, m], 1) @ w["gate.weight"].T + w["gate.bias"])))
        m = keep * m + (1 - keep) * gate * np.tanh(frame @ w["value.weight"].T + w["value.bias"])
    assert np.abs(leaky(x) - (m @ w["head.weight"].T + w["head.bias"])).max() < 1e-5
    assert np.ptp(keep) > 0.1  # each unit has learnt its own
