"""Graphs that several tests use."""

from __future__ import annotations

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
