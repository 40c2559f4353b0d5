"""Graphs that several tests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinyrnn as tr


def residual() -> tr.Net:
    """A skip, a product and a maximum around an LSTM, whose value is read four times."""
    x = tr.Input(8)
    h = tr.LSTM(8, 16)(x).named("rnn")
    s = tr.Linear(8, 16)(x).named("skip")
    return tr.Net(x, tr.Linear(16, 5)(h * s + h - tr.maximum(h, s)).named("head"))


def fed_back() -> tr.Net:
    """An LSTM that reads a map of its own output of two steps before."""
    x, before = tr.Input(8), tr.Feedback(4, steps=2)
    h = tr.LSTM(12, 6)(tr.concat([x, before])).named("rnn")
    before.connect(tr.Linear(6, 4)(h).named("back"))
    return tr.Net(x, tr.Linear(6, 5)(h).named("head"))


def listed(ys: Any) -> Sequence[np.ndarray]:
    """The outputs of a net in their order."""
    return list(ys.values()) if isinstance(ys, dict) else ys if isinstance(ys, tuple) else (ys,)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def net_of_three(batch_first: bool = False) -> tr.Net:
    """A residual LSTM that a speaker's vector scales and a word shifts, and a guess at the speaker."""
    tr.manual_seed(3)
    x, speaker, word = tr.Input(6), tr.Input(4, time=None, name="speaker"), tr.Input(name="word")
    s = tr.Tanh()(tr.Linear(4, 6)(speaker).named("scale"))
    e = tr.Embedding(7, 6)(word).named("words")
    h = tr.LSTM(6, 6, batch_first=batch_first)(x).named("rnn") * s + x + e
    return tr.Net([x, speaker, word], {"out": tr.Linear(6, 5)(h).named("head"), "who": tr.Linear(6, 3)(s)})


def inputs_of_three(steps: int, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    words = np.random.default_rng(5).integers(0, 7, (steps, batch))
    return numbers(steps, batch, 6), numbers(batch, 4, seed=1), words


def three_in_torch(weights: dict[str, Any], x: Any, speaker: Any, word: Any) -> dict[str, Any]:
    """The net of three in PyTorch."""
    import torch

    def linear(value: Any, name: str) -> Any:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    lstm = torch.nn.LSTM(6, 6).double()
    h, _ = torch.func.functional_call(lstm, {name: weights[f"rnn.{name}"] for name in names}, (x,))
    s = torch.tanh(linear(speaker, "scale"))
    return {"out": linear(h * s + x + weights["words.weight"][word], "head"), "who": linear(s, "linear")}
