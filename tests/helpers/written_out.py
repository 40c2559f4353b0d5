"""Recurrent layers that PyTorch lacks, written out in its autograd: LSTM and GRU with tinyrnn's options."""

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


def lstm(w: Mapping[str, Tensor], x: Tensor, h: Tensor, c: Tensor, coupled: bool) -> tuple[Tensor, ...]:
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
                after = (
                    gru(own, x[t], *state)
                    if layer == "GRU"
                    else lstm(own, x[t], *state, coupled=arguments.get("coupled", False))
                )
                state = tuple(torch.where(inside[t], new, old) for new, old in zip(after, state, strict=True))
                y[t] = torch.where(inside[t], after[0], torch.zeros_like(after[0]))
            outputs.append(torch.stack(y))
            for parts, part in zip(final, state, strict=True):
                parts.append(part)
        x = torch.cat(outputs, -1)
    return x, [torch.stack(parts) for parts in final]
