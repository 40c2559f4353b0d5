"""Graphs whose values are due at different steps of a stream, and the same in PyTorch, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr

Floats = NDArray[Any]
Model = Callable[[Any, dict[str, Any]], Any]
T, B, C = 17, 3, 4
LENGTHS = [T, 9, 13]


def floats(*shape: int) -> Floats:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def conv(name: str, size: int, x: Any, **options: Any) -> tr.Value:
    value: tr.Value = tr.TimeConv1d(x.frame[0], C, size, **{"padding": size // 2, **options})(x).named(name)
    return value


def conv_in_torch(w: dict[str, Any], name: str, x: Any, **options: Any) -> Any:
    import torch

    weight = w[f"{name}.weight"]
    options.setdefault("padding", weight.shape[2] // 2)
    return torch.nn.functional.conv1d(x.T[None], weight, w[f"{name}.bias"], **options)[0].T


def residual() -> tr.Net:
    x = tr.Input(C)
    h = conv("a", 3, x)
    return tr.Net(x, x + h)


def residual_in_torch(x: Any, w: dict[str, Any]) -> Any:
    return x + conv_in_torch(w, "a", x)


def inception() -> tr.Net:
    """Kernels of several widths, one behind another, and the input: 0, 1, 2, 3 steps late."""
    x = tr.Input(C)
    a, b = conv("a", 3, x), conv("b", 5, x)
    c = conv("c", 5, tr.Tanh()(a))
    return tr.Net(x, tr.concat([a, x, c, b * a]))


def inception_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    a, b = conv_in_torch(w, "a", x), conv_in_torch(w, "b", x)
    return torch.cat([a, x, conv_in_torch(w, "c", a.tanh()), b * a], -1)


def strided() -> tr.Net:
    """Two branches of half the rate, one of which is due a frame later; a quarter behind them."""
    x = tr.Input(C)
    a, b = conv("a", 3, x, stride=2), conv("b", 7, x, stride=2)
    return tr.Net(x, conv("c", 2, tr.where(a > 0, b, a), stride=2, padding=0))


def strided_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    a, b = (conv_in_torch(w, name, x, stride=2) for name in "ab")
    return conv_in_torch(w, "c", torch.where(a > 0, b, a), stride=2, padding=0)


def matrices() -> tr.Net:
    """Frames of two axes; windows without a lag of their own beside the input."""
    x = tr.Input(C)
    windows = tr.TimeUnfold(3, padding="causal")(x)
    later = tr.TimeUnfold(3, padding=1)(x)
    return tr.Net(x, (windows @ later.transpose(-1, -2)).sum(-1) - x)


def matrices_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    windows, later = (
        torch.nn.functional.pad(x.T, pad).unfold(1, 3, 1).swapaxes(0, 1) for pad in ((2, 0), (1, 1))
    )
    return (windows @ later.swapaxes(1, 2)).sum(-1) - x


def recurrent() -> tr.Net:
    """A GRU behind the meeting, and one value of the sequence."""
    x = tr.Input(C)
    h = tr.GRU(C, C)(x + conv("a", 5, x)).named("rnn")
    return tr.Net(x, tr.MeanOverTime()(h + x))


def recurrent_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    rnn = {name.removeprefix("rnn."): tensor for name, tensor in w.items() if name.startswith("rnn.")}
    h = torch.func.functional_call(
        torch.nn.GRU(C, C).double(), rnn, ((x + conv_in_torch(w, "a", x))[:, None],)
    )[0]
    return (h[:, 0] + x).mean(0, keepdim=True)


def pooled() -> tr.Net:
    """Maxima beside means, and all of it at half the rate."""
    x = tr.Input(C)
    most = tr.TimeMaxPool1d(3, 2, padding=1)(x)
    mean = tr.TimeAvgPool1d(3, 2, padding=1, count_include_pad=False)(x)
    return tr.Net(x, tr.concat([most - mean, conv("a", 3, x, stride=2)]))


def pooled_in_torch(x: Any, w: dict[str, Any]) -> Any:
    import torch

    f, rows = torch.nn.functional, x.T[None]
    mean = f.avg_pool1d(rows, 3, 2, 1, count_include_pad=False)
    return torch.cat([(f.max_pool1d(rows, 3, 2, 1) - mean)[0].T, conv_in_torch(w, "a", x, stride=2)], -1)


NETS: dict[str, tuple[Callable[[], tr.Net], Model]] = {
    "residual": (residual, residual_in_torch),
    "inception": (inception, inception_in_torch),
    "strided": (strided, strided_in_torch),
    "matrices": (matrices, matrices_in_torch),
    "recurrent": (recurrent, recurrent_in_torch),
    "pooled": (pooled, pooled_in_torch),
}


def given() -> Floats:
    return floats(T, B, C)


def of_torch(model: Model, weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """``y`` of each row within its length, zeros beyond, and with dy as `of_net` has it all gradients."""
    import torch

    w = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in weights.items()
    }
    x = torch.tensor(given(), dtype=torch.float64, requires_grad=True)
    rows = [model(x[:end, b], w) for b, end in enumerate(LENGTHS)]
    y = torch.nn.utils.rnn.pad_sequence(rows)
    (y * torch.from_numpy(floats(*y.shape))).sum().backward()
    found = {"y": y, "dx": x.grad, **{name: tensor.grad for name, tensor in w.items()}}
    return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in found.items()}


def of_net(net: tr.Net) -> dict[str, Floats]:
    """The same of a net."""
    y, due = net(given(), lengths=LENGTHS), net.output_lengths(LENGTHS)
    net.train()
    taped, once = net(given(), lengths=LENGTHS), y.ndim == 2
    if once:
        y, taped, due = y[np.newaxis], taped[np.newaxis], np.ones(B, int)
    dy = floats(*y.shape)
    for b, end in enumerate(due):
        assert np.array_equal(taped[:end, b], y[:end, b])
        dy[end:, b] = 0
    net.zero_grad()
    dx = net.backward(dy[0] if once else dy)
    net.eval()
    return {"y": y, "dx": dx, **net.grad_dict()}
