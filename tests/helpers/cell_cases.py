"""Random configurations of the recurrent cells that PyTorch lacks, each from one seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gradient_nets import Array, Draw

import tinyrnn as tr

# Each layer with the options that PyTorch lacks.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("GRU", {"reset_after": False}),
    ("LSTM", {"peephole": True}),
    ("LSTM", {"coupled": True}),
    ("LSTM", {"peephole": True, "coupled": True}),
]

# Layers that PyTorch lacks, each with its options.
SMALL: list[tuple[str, dict[str, Any]]] = [
    ("MinGRU", {}),
    ("MinLSTM", {}),
    ("QRNN", {}),
    ("IndRNN", {"nonlinearity": "relu"}),
    ("IndRNN", {"nonlinearity": "tanh"}),
]


class Case(NamedTuple):
    """A layer with its tensors, and a call of it forwards and backwards; states are (h,) or (h, c)."""

    layer: str
    arguments: dict[str, Any]
    tensors: dict[str, Array]
    x: Array
    initial: list[Array]
    lengths: list[int]
    dy: Array
    dfinal: list[Array]

    def net(self) -> Any:
        """The layer itself."""
        net = getattr(tr, self.layer)(**self.arguments)
        net.load_state_dict(self.tensors)
        return net


def has_c(layer: str) -> bool:
    """True if its state is a pair."""
    return layer in ("LSTM", "QRNN")


def case(seed: int, variants: list[tuple[str, dict[str, Any]]] = VARIANTS) -> Case:
    """A configuration of one of the variants, in turn."""
    draw = Draw(seed)
    layer, options = variants[seed % len(variants)]
    levels = draw.of(1, 1, 2)
    hidden = draw.size(high=50 if levels == 1 else 20)
    arguments = {
        "input_size": draw.size(high=40),
        "hidden_size": hidden,
        "num_layers": levels,
        "bias": draw.flip(0.8),
        "bidirectional": draw.flip(0.35),
        **options,
    }
    size = hidden
    if layer == "LSTM" and hidden > 1 and draw.flip(0.35):
        size = arguments["proj_size"] = draw.size(high=hidden - 1)
    net = getattr(tr, layer)(**arguments)
    tensors = {
        name: (draw.normal(*array.shape) * np.float32(0.4 if array.ndim > 1 else 0.7))
        for name, array in net.state_dict().items()
    }
    for name, array in tensors.items():
        if array.ndim > 1:
            tensors[name] = array * np.float32(4 / max(4, array.shape[1] ** 0.5))
    steps, batch = draw.int(1, 9), draw.int(1, 6)
    ways = 2 if arguments["bidirectional"] else 1
    sizes = [size, hidden][: 1 + has_c(layer)]
    return Case(
        layer,
        arguments,
        tensors,
        draw.normal(steps, batch, arguments["input_size"]),
        [draw.normal(levels * ways, batch, numbers) for numbers in sizes],
        [draw.int(1, steps) if draw.flip(0.4) else steps for _ in range(batch)],
        draw.normal(steps, batch, size * ways),
        [draw.normal(levels * ways, batch, numbers) for numbers in sizes],
    )
