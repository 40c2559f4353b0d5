"""A net written by hand in NumPy: the input's part of all steps at once, then step by step."""

from __future__ import annotations

import numpy as np
from work import Array, Call, Work

NEEDS = ()


def fits(work: Work) -> bool:
    return work.dtype == "float32"


def prepare(work: Work) -> Call:
    run = lstm if work.kind == "LSTM" else gru
    levels = []
    for level in range(work.layers):
        ends = []
        for w_ih, w_hh, *biases in zip(
            *(work.both(name, level) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
            strict=True,
        ):
            tensors = (np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), *biases)
            ends.append((tensors, [np.zeros((work.batch, work.hidden), np.float32) for _ in range(2)]))
        levels.append(ends)

    def call() -> Array:
        y = work.x
        for ends in levels:
            outputs = []
            for (tensors, state), way in zip(ends, (1, -1), strict=False):
                if work.bidirectional:
                    state = [np.zeros_like(part) for part in state]
                outputs.append(run(y[::way], *tensors, state)[::way])
            y = np.concatenate(outputs, axis=-1) if work.bidirectional else outputs[0]
        return y

    return call


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def lstm(x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, state: list[Array]) -> Array:
    """(T, B, I) to (T, B, H) with transposed weights; `state` is replaced."""
    h, c = state
    size = h.shape[-1]
    y = np.empty((*x.shape[:2], size), np.float32)
    for t, gates in enumerate(x @ w_ih + (b_ih + b_hh)):
        gates += h @ w_hh
        i, f, o = (sigmoid(gates[:, at * size : (at + 1) * size]) for at in (0, 1, 3))
        c = f * c + i * np.tanh(gates[:, 2 * size : 3 * size])
        y[t] = h = o * np.tanh(c)
    state[:] = h, c
    return y


def gru(x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, state: list[Array]) -> Array:
    h, _ = state
    size = h.shape[-1]
    y = np.empty((*x.shape[:2], size), np.float32)
    for t, gates in enumerate(x @ w_ih + b_ih):
        hidden = h @ w_hh + b_hh
        r, z = np.hsplit(sigmoid(gates[:, : 2 * size] + hidden[:, : 2 * size]), 2)
        n = np.tanh(gates[:, 2 * size :] + r * hidden[:, 2 * size :])
        y[t] = h = n + z * (h - n)
    state[0] = h
    return y
