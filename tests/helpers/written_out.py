"""Recurrent layers that PyTorch lacks, written out in its autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Tensor = torch.Tensor


def gru(w: Mapping[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    """Cho et al. (2014), equations 5 to 8, with biases as Keras' ``reset_after=False`` has them."""
    size = h.shape[1]
    w_r, w_z, w_n = w["weight_ih"].split(size)
    u_r, u_z, u_n = w["weight_hh"].split(size)
    bias = w["bias_ih"] + w["bias_hh"] if "bias_ih" in w else x.new_zeros(3 * size)
    b_r, b_z, b_n = bias.split(size)
    r = torch.sigmoid(x @ w_r.T + h @ u_r.T + b_r)
    z = torch.sigmoid(x @ w_z.T + h @ u_z.T + b_z)
    n = torch.tanh(x @ w_n.T + (r * h) @ u_n.T + b_n)
    return (z * h + (1 - z) * n,)


def lstm(
    w: Mapping[str, Tensor], x: Tensor, h: Tensor, c: Tensor, coupled: bool = False
) -> tuple[Tensor, ...]:
    """Gers and Schmidhuber (2000); coupled as Greff et al. (2017)."""
    size = c.shape[1]
    a = x @ w["weight_ih"].T + h @ w["weight_hh"].T
    if "bias_ih" in w:
        a = a + w["bias_ih"] + w["bias_hh"]
    count = 2 if coupled else 3
    p = list(w["weight_peephole"].split(size)) if "weight_peephole" in w else [x.new_zeros(size)] * count
    sums = list(a.split(size, 1))
    i = torch.sigmoid(sums[0] + p[0] * c)
    f = 1 - i if coupled else torch.sigmoid(sums[1] + p[1] * c)
    c = f * c + i * torch.tanh(sums[-2])
    o = torch.sigmoid(sums[-1] + p[-1] * c)
    h = o * torch.tanh(c)
    return (h @ w["weight_hr"].T if "weight_hr" in w else h), c


def min_gru(w: Mapping[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    """Feng et al. (2024), section 3.1.2."""
    k, tilde = _linear(w, x).chunk(2, 1)
    z = torch.sigmoid(k)
    return ((1 - z) * h + z * tilde,)


def min_lstm(w: Mapping[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    """Feng et al. (2024), section 3.2.3, with the gates normalised."""
    i, f, tilde = _linear(w, x).chunk(3, 1)
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    return (f / (f + i) * h + i / (f + i) * tilde,)


def qrnn(w: Mapping[str, Tensor], x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """Bradbury et al. (2017), equations 1 and 4; the old h is not read."""
    z, f, o = _linear(w, x).chunk(3, 1)
    f = torch.sigmoid(f)
    c = f * c + (1 - f) * torch.tanh(z)
    return torch.sigmoid(o) * c, c


def ind_rnn(w: Mapping[str, Tensor], x: Tensor, h: Tensor, nonlinearity: str = "relu") -> tuple[Tensor, ...]:
    """Li et al. (2018), equation 2."""
    return (getattr(torch, nonlinearity)(_linear(w, x) + w["weight_hh"] * h),)


def _linear(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, w["weight_ih"], w.get("bias_ih"))


CELLS = {"GRU": gru, "LSTM": lstm, "MinGRU": min_gru, "MinLSTM": min_lstm, "QRNN": qrnn, "IndRNN": ind_rnn}
FORMULA = ("coupled", "nonlinearity")


def run(
    layer: str,
    arguments: Mapping[str, Any],
    w: Mapping[str, Tensor],
    x: Tensor,
    initial: Sequence[Tensor],
    lengths: Sequence[int],
) -> tuple[Tensor, list[Tensor]]:
    """The output (T, B, size) and the final states, for x (T, B, I) and the initial states."""
    steps = len(x)
    formula = {name: arguments[name] for name in FORMULA if name in arguments}
    inside = torch.arange(steps)[:, None, None] < torch.tensor(lengths)[:, None]
    final: list[list[Tensor]] = [[] for _ in initial]
    directions = ["", "_reverse"] if arguments.get("bidirectional") else [""]
    for level in range(arguments.get("num_layers", 1)):
        outputs = []
        for d, reverse in enumerate(directions):
            suffix = f"_l{level}{reverse}"
            own = {name.removesuffix(suffix): w[name] for name in w if name.endswith(suffix)}
            state = tuple(part[level * len(directions) + d] for part in initial)
            y: list[Any] = [None] * steps
            for t in reversed(range(steps)) if reverse else range(steps):
                after = CELLS[layer](own, x[t], *state, **formula)
                state = tuple(torch.where(inside[t], new, old) for new, old in zip(after, state, strict=True))
                y[t] = torch.where(inside[t], after[0], torch.zeros_like(after[0]))
            outputs.append(torch.stack(y))
            for parts, part in zip(final, state, strict=True):
                parts.append(part)
        x = torch.cat(outputs, -1)
    return x, [torch.stack(parts) for parts in final]
