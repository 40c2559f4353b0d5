"""Recurrent layers that PyTorch lacks, in its autograd: small cells, and RNN, LSTM, GRU with our options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from dice import Dice
from oracle import FORMULA, of_direction

Tensor = torch.Tensor


F = torch.nn.functional
NAMED = {  # ONNX' functions that PyTorch has under other names, of x, alpha and beta
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a=0.01: F.leaky_relu(x, a),
    "thresholded_relu": lambda x, a=1.0: torch.where(x >= a, x, torch.zeros_like(x)),
    "scaled_tanh": lambda x, a, b: a * torch.tanh(b * x),
    "hard_sigmoid": lambda x, a=0.2, b=0.5: torch.clamp(a * x + b, 0, 1),
    "elu": lambda x, a=1.0: F.elu(x, a),
    "softsign": lambda x: F.softsign(x),
    "softplus": lambda x: F.softplus(x, threshold=1e9),
}


def gate(function: Any, x: Tensor, clip: float | None = None) -> Tensor:
    """A gate's function of a sum, which is clipped before: a name, or a name and its numbers."""
    name, *numbers = (function,) if isinstance(function, str) else function
    if clip is not None:
        x = torch.clamp(x, -clip, clip)
    return NAMED[name](x, *numbers) if name in NAMED else getattr(torch, name)(x)


def rnn(
    w: Mapping[str, Tensor],
    x: Tensor,
    h: Tensor,
    *,
    nonlinearity: Any = "tanh",
    clip: float | None = None,
    drop: Any = 1,
) -> tuple[Tensor, ...]:
    """ONNX' RNN."""
    a = x @ w["weight_ih"].T + (h * drop) @ w["weight_hh"].T
    if "bias_ih" in w:
        a = a + w["bias_ih"] + w["bias_hh"]
    return (gate(nonlinearity, a, clip),)


def gru(
    w: Mapping[str, Tensor],
    x: Tensor,
    h: Tensor,
    *,
    reset_after: bool = True,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    clip: float | None = None,
    drop: Any = 1,
) -> tuple[Tensor, ...]:
    """torch.nn.GRU; or Cho et al. (2014), equations 5 to 8, with biases as Keras' ``reset_after=False``."""
    size = h.shape[1]
    none = x.new_zeros(3 * size)
    seen = h * drop
    if "weight_ln_ih" in w:
        from_x, from_h = (
            F.layer_norm(
                array @ w[f"weight_{name}"].T, (3 * size,), w[f"weight_ln_{name}"], w.get(f"bias_{name}")
            )
            for name, array in (("ih", x), ("hh", seen))
        )
        (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.split(size, 1), from_h.split(size, 1)
        r = gate(recurrent_activation, x_r + h_r, clip)
        z = gate(recurrent_activation, x_z + h_z, clip)
        n = gate(activation, x_n + r * h_n, clip)
        return (z * h + (1 - z) * n,)
    w_r, w_z, w_n = w["weight_ih"].split(size)
    u_r, u_z, u_n = w["weight_hh"].split(size)
    b_r, b_z, b_n = w.get("bias_ih", none).split(size)
    d_r, d_z, d_n = w.get("bias_hh", none).split(size)
    r = gate(recurrent_activation, x @ w_r.T + seen @ u_r.T + b_r + d_r, clip)
    z = gate(recurrent_activation, x @ w_z.T + seen @ u_z.T + b_z + d_z, clip)
    inner = r * (seen @ u_n.T + d_n) if reset_after else (r * h * drop) @ u_n.T + d_n
    n = gate(activation, x @ w_n.T + b_n + inner, clip)
    return (z * h + (1 - z) * n,)


def lstm(
    w: Mapping[str, Tensor],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    *,
    coupled: bool = False,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    output_activation: Any = None,
    clip: float | None = None,
    cell_clip: float | None = None,
    drop: Any = 1,
) -> tuple[Tensor, ...]:
    """Gers and Schmidhuber (2000); coupled as Greff et al. (2017); functions and clip as ONNX' LSTM."""
    size = c.shape[1]
    from_x, from_h = x @ w["weight_ih"].T, (h * drop) @ w["weight_hh"].T
    if "weight_ln_ih" in w:  # Ba et al. (2016), equations 20 to 22
        from_x = F.layer_norm(from_x, from_x.shape[1:], w["weight_ln_ih"])
        from_h = F.layer_norm(from_h, from_h.shape[1:], w["weight_ln_hh"])
    a = from_x + from_h
    if "bias_ih" in w:
        a = a + w["bias_ih"] + w["bias_hh"]
    count = 2 if coupled else 3
    p = list(w["weight_peephole"].split(size)) if "weight_peephole" in w else [x.new_zeros(size)] * count
    sums = list(a.split(size, 1))
    if p[0].ndim == 2:  # matrices, all of the c before the step
        places = [0, -1] if coupled else [0, 1, -1]
        for place, matrix in zip(places, p, strict=True):
            sums[place] = sums[place] + c @ matrix.T
        p = [x.new_zeros(size)] * count
    i = gate(recurrent_activation, sums[0] + p[0] * c, clip)
    f = 1 - i if coupled else gate(recurrent_activation, sums[1] + p[1] * c, clip)
    c = f * c + i * gate(activation, sums[-2], clip)
    if cell_clip is not None:
        c = torch.clamp(c, -cell_clip, cell_clip)
    o = gate(recurrent_activation, sums[-1] + p[-1] * c, clip)
    read = F.layer_norm(c, (size,), w["weight_ln_c"], w["bias_ln_c"]) if "weight_ln_c" in w else c
    h = o * gate(activation if output_activation is None else output_activation, read)
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


def fast_grnn(
    w: Mapping[str, Tensor],
    x: Tensor,
    h: Tensor,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
) -> tuple[Tensor, ...]:
    """Kusupati et al. (2018), equation 2, with EdgeML's choice of functions."""
    low = h @ w["weight_hr"].T if "weight_hr" in w else h
    low_x = x @ w["weight_ir"].T if "weight_ir" in w else x
    shared = low_x @ w["weight_ih"].T + low @ w["weight_hh"].T
    b_z, b_h = w["bias_ih"].chunk(2) if "bias_ih" in w else (0, 0)
    z = gate(recurrent_activation, shared + b_z)
    tilde = gate(activation, shared + b_h)
    return ((torch.sigmoid(w["zeta"]) * (1 - z) + torch.sigmoid(w["nu"])) * tilde + z * h,)


def jordan(
    w: Mapping[str, Tensor], x: Tensor, y: Tensor, activation: Any = "tanh", output_activation: Any = "tanh"
) -> tuple[Tensor, ...]:
    """Jordan (1986), without the decay of its state units."""
    m = gate(activation, _linear(w, x) + F.linear(y, w["weight_hh"], w.get("bias_hh")))
    return (gate(output_activation, F.linear(m, w["weight_hr"], w.get("bias_hr"))),)


def _linear(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, w["weight_ih"], w.get("bias_ih"))


CELLS: dict[str, Any] = {
    "RNN": rnn,
    "GRU": gru,
    "LSTM": lstm,
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "QRNN": qrnn,
    "IndRNN": ind_rnn,
    "FastGRNN": fast_grnn,
    "Jordan": jordan,
}


def run(
    layer: str,
    arguments: Mapping[str, Any],
    w: Mapping[str, Tensor],
    x: Tensor,
    initial: Sequence[Tensor],
    lengths: Sequence[int],
    dice: Dice | None = None,
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
            way = level * len(directions) + d
            state = tuple(part[way] for part in initial)
            y: list[Any] = [None] * steps
            for t in reversed(range(steps)) if reverse else range(steps):
                seen = {} if dice is None else {"drop": torch.from_numpy(dice.drop[way])}
                after = CELLS[layer](own, x[t], *state, **of_direction(formula, d), **seen)
                if dice is not None:  # Krueger et al. (2017), equations 5 and 6
                    shares = [torch.from_numpy(part[way][t]) for part in (dice.h, dice.c)]
                    after = tuple(
                        share * old + (1 - share) * new
                        for share, old, new in zip(shares, state, after, strict=False)
                    )
                state = tuple(torch.where(inside[t], new, old) for new, old in zip(after, state, strict=True))
                y[t] = torch.where(inside[t], after[0], torch.zeros_like(after[0]))
            outputs.append(torch.stack(y))
            for parts, part in zip(final, state, strict=True):
                parts.append(part)
        x = torch.cat(outputs, -1)
    return x, [torch.stack(parts) for parts in final]
