"""The cells of tinyrnn.cells in float64 NumPy, one step of one row, forwards and backwards.

A step takes the tensors of its level, their gradients, x and the state. It returns the state after it, and a
function from the gradients of that state to those of x and of the state before, which adds to the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = Mapping[str, Array]

# Gates and the names of the states of each.
GATES = {"MinGRU": 2, "MinLSTM": 3, "QRNN": 3, "IndRNN": 1, "FastGRNN": 1, "Jordan": 1}
STATES = {"MinGRU": "h", "MinLSTM": "h", "QRNN": "hc", "IndRNN": "h", "FastGRNN": "h", "Jordan": "h"}


def sigmoid(a: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * a)


def product(w: Tensors, grads: Any, x: Array, count: int) -> tuple[list[Array], Callable[..., Array]]:
    """The sums of each gate, and from their gradients that of x."""
    sums = np.split(w["weight_ih"] @ x + w.get("bias_ih", 0), count)

    def back(*parts: Array) -> Array:
        da = np.concatenate(parts)
        grads["weight_ih"] += np.outer(da, x)
        if "bias_ih" in w:
            grads["bias_ih"] += da
        return w["weight_ih"].T @ da

    return sums, back


def min_gru(w: Tensors, grads: Any, x: Array, h: Array) -> Any:
    (a_z, n), product_back = product(w, grads, x, 2)
    z = sigmoid(a_z)

    def back(dh: Array) -> tuple[Array, Array]:
        return product_back(dh * (n - h) * z * (1 - z), dh * z), dh * (1 - z)

    return ((1 - z) * h + z * n,), back


def min_lstm(w: Tensors, grads: Any, x: Array, h: Array) -> Any:
    (a_i, a_f, g), product_back = product(w, grads, x, 3)
    i, f = sigmoid(a_i), sigmoid(a_f)
    both = i + f
    after = (f * h + i * g) / both

    def back(dh: Array) -> tuple[Array, Array]:
        di, df = dh * (g - after) / both, dh * (h - after) / both
        return product_back(di * i * (1 - i), df * f * (1 - f), dh * i / both), dh * f / both

    return (after,), back


def qrnn(w: Tensors, grads: Any, x: Array, h: Array, c: Array) -> Any:
    (a_z, a_f, a_o), product_back = product(w, grads, x, 3)
    z, f, o = np.tanh(a_z), sigmoid(a_f), sigmoid(a_o)
    after = f * c + (1 - f) * z

    def back(dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        dc = dc + dh * o
        da_z, da_f, da_o = dc * (1 - f) * (1 - z**2), dc * (c - z) * f * (1 - f), dh * after * o * (1 - o)
        return product_back(da_z, da_f, da_o), np.zeros_like(h), dc * f

    return (o * after, after), back


def ind_rnn(w: Tensors, grads: Any, x: Array, h: Array, nonlinearity: str = "relu") -> Any:
    (a,), product_back = product(w, grads, x, 1)
    a = a + w["weight_hh"] * h
    after = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)

    def back(dh: Array) -> tuple[Array, Array]:
        da = dh * (1 - after**2 if nonlinearity == "tanh" else a > 0)
        grads["weight_hh"] += da * h
        return product_back(da), da * w["weight_hh"]

    return (after,), back


def fast_grnn(
    w: Tensors,
    grads: Any,
    x: Array,
    h: Array,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
) -> Any:
    from oracle import gate  # which reads this file

    low = w["weight_hr"] @ h if "weight_hr" in w else h
    low_x = w["weight_ir"] @ x if "weight_ir" in w else x
    a = w["weight_ih"] @ low_x + w["weight_hh"] @ low
    b_z, b_n = np.split(w["bias_ih"], 2) if "bias_ih" in w else (0, 0)
    z, z_slope = gate(recurrent_activation, a + b_z)
    n, n_slope = gate(activation, a + b_n)
    zeta, nu = sigmoid(w["zeta"]), sigmoid(w["nu"])

    def back(dh: Array) -> tuple[Array, Array]:
        da_z = dh * (h - zeta * n) * z_slope
        da_n = dh * (zeta * (1 - z) + nu) * n_slope
        da = da_z + da_n
        grads["weight_ih"] += np.outer(da, low_x)
        grads["weight_hh"] += np.outer(da, low)
        if "bias_ih" in w:
            grads["bias_ih"] += np.concatenate([da_z, da_n])
        grads["zeta"] += np.sum(dh * n * (1 - z)) * zeta * (1 - zeta)
        grads["nu"] += np.sum(dh * n) * nu * (1 - nu)
        dh_sum = w["weight_hh"].T @ da
        if "weight_hr" in w:
            grads["weight_hr"] += np.outer(dh_sum, h)
            dh_sum = w["weight_hr"].T @ dh_sum
        dx = w["weight_ih"].T @ da
        if "weight_ir" in w:
            grads["weight_ir"] += np.outer(dx, x)
            dx = w["weight_ir"].T @ dx
        return dx, dh_sum + dh * z

    return ((zeta * (1 - z) + nu) * n + z * h,), back


def jordan(
    w: Tensors,
    grads: Any,
    x: Array,
    y: Array,
    activation: Any = "tanh",
    output_activation: Any = "tanh",
) -> Any:
    from oracle import gate

    biased = "bias_ih" in w
    a = w["weight_ih"] @ x + w["weight_hh"] @ y + (w["bias_ih"] + w["bias_hh"] if biased else 0)
    m, slope = gate(activation, a)
    after, after_slope = gate(output_activation, w["weight_hr"] @ m + (w["bias_hr"] if biased else 0))

    def back(dy: Array) -> tuple[Array, Array]:
        db = dy * after_slope
        da = (w["weight_hr"].T @ db) * slope
        found = {"weight_ih": np.outer(da, x), "weight_hh": np.outer(da, y), "weight_hr": np.outer(db, m)}
        if biased:
            found |= {"bias_ih": da, "bias_hh": da, "bias_hr": db}
        for name, gradient in found.items():
            grads[name] += gradient
        return w["weight_ih"].T @ da, w["weight_hh"].T @ da

    return (after,), back


STEPS = {"MinGRU": min_gru, "MinLSTM": min_lstm, "QRNN": qrnn, "IndRNN": ind_rnn, "FastGRNN": fast_grnn}
STEPS["Jordan"] = jordan
