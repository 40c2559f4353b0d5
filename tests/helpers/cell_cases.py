"""Random configurations of the recurrent cells that PyTorch lacks, each from one seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gradient_nets import Array, Draw

import tinyrnn as tr
from tinyrnn.gates import FUNCTIONS

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

# FastGRNN, which has a product with ``h``.
FAST: list[tuple[str, dict[str, Any]]] = [
    ("FastGRNN", {}),
    ("FastGRNN", {"activation": "softsign", "recurrent_activation": ("hard_sigmoid", 0.5, 0.5)}),
]

# And with products of low rank: the hidden one, that of the input, both.
LOW: list[tuple[str, dict[str, Any]]] = [
    ("FastGRNN", {"u_rank": 1}),
    ("FastGRNN", {"u_rank": 5, "activation": "softsign"}),
    ("FastGRNN", {"w_rank": 3}),
    ("FastGRNN", {"w_rank": 11, "recurrent_activation": "hard_sigmoid"}),
    ("FastGRNN", {"u_rank": 6, "w_rank": 4}),
]

# A Jordan network, whose output may be larger or smaller than the layer inside.
OUTPUT: list[tuple[str, dict[str, Any]]] = [
    ("Jordan", {"output_size": 21}),
    ("Jordan", {"output_size": 37, "activation": "sigmoid", "output_activation": ("affine", 0.5, 0.1)}),
    ("Jordan", {"output_size": 3, "output_activation": "sigmoid"}),
]

# LSTMs whose cells are clipped.
CLIPPED: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"cell_clip": 0.3}),
    ("LSTM", {"cell_clip": 0.4, "peephole": True, "coupled": True}),
]

# LSTMs whose peepholes are matrices.
MATRIX: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"peephole": "matrix"}),
    ("LSTM", {"peephole": "matrix", "coupled": True, "recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"peephole": "matrix", "cell_clip": 0.5}),
]

# Layers whose states stay with some probability, or on average.
ZONED: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"zoneout": 0.3}),
    ("GRU", {"zoneout": 0.2}),
    ("GRU", {"zoneout": 0.2, "reset_after": False}),
    ("LSTM", {"zoneout": 0.1, "zoneout_cell": 0.4}),
    ("LSTM", {"zoneout_cell": 0.5, "coupled": True, "peephole": True}),
]

# And with functions of the gates and clips, which no layer of PyTorch has.
GENERAL: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"nonlinearity": ("elu", 0.7), "clip": 1.5}),
    ("GRU", {"recurrent_activation": "hard_sigmoid", "activation": "softsign"}),
    ("GRU", {"reset_after": False, "recurrent_activation": ("hard_sigmoid", 0.3, 0.4), "clip": 0.9}),
    ("LSTM", {"peephole": True, "recurrent_activation": "hard_sigmoid", "output_activation": "softsign"}),
    ("LSTM", {"coupled": True, "activation": ("scaled_tanh", 1.2, 0.8), "clip": 1.1}),
    ("LSTM", {"peephole": True, "coupled": True, "activation": ("leaky_relu", 0.2)}),
    ("LSTM", {"clip": 0.7}),
    *CLIPPED,
]

# And with layer normalisation.
NORMED: list[tuple[str, dict[str, Any]]] = [
    ("GRU", {"layer_norm": True}),
    ("LSTM", {"layer_norm": True}),
    ("LSTM", {"peephole": True, "layer_norm": True, "recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"coupled": True, "clip": 2.5, "layer_norm": True}),
    ("LSTM", {"cell_clip": 0.5, "peephole": True, "layer_norm": True}),
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


def gates_case(seed: int) -> Case:
    """A configuration of one of the cells with functions and a clip drawn at random.

    Gates beyond 1 let states grow without end, and rounding with them: small weights, few steps, a clip.
    """
    draw = Draw(seed)
    layer, options = [("RNN", {}), ("GRU", {}), ("LSTM", {}), *VARIANTS][seed % (3 + len(VARIANTS))]
    bidirectional = draw.flip(0.35)
    names = {"RNN": ["nonlinearity"], "GRU": ["activation", "recurrent_activation"]}
    functions = {
        name: (draw_function(draw), draw_function(draw))
        if bidirectional and draw.flip(0.5)
        else draw_function(draw)
        for name in names.get(layer, ["activation", "recurrent_activation", "output_activation"])
    }
    clip = round(float(draw.rng.uniform(0.3, 1)), 3) if draw.flip(0.5) else None
    names_of_all = {name for one in functions.values() for name in _names(one)}
    if not names_of_all <= {"sigmoid", "hard_sigmoid", "tanh"}:
        clip = clip or 0.9
    found = _case(draw, layer, {**options, **functions, "bidirectional": bidirectional, "clip": clip}, 5)
    return found._replace(tensors={name: array / 2 for name, array in found.tensors.items()})


def _names(function: Any) -> list[str]:
    """The names in a function or a pair of them."""
    if isinstance(function, tuple):
        return [name for one in function for name in _names(one)]
    return [function] if isinstance(function, str) else []


def draw_function(draw: Draw) -> Any:
    """One of the functions of gates, with numbers of its own or its defaults."""
    name = str(draw.rng.choice(list(FUNCTIONS)))
    defaults = FUNCTIONS[name]
    if None in defaults or (defaults and draw.flip(0.7)):
        return (name, *[round(float(number), 3) for number in draw.rng.uniform(0.2, 0.8, len(defaults))])
    return name


def case(seed: int, variants: list[tuple[str, dict[str, Any]]] = VARIANTS) -> Case:
    """A configuration of one of the variants, in turn."""
    draw = Draw(seed)
    return _case(draw, *variants[seed % len(variants)])


def normed_case(seed: int) -> Case:
    """A configuration of one of the cells with layer normalisation."""
    draw = Draw(seed)
    found = _case(draw, *NORMED[seed % len(NORMED)], 6)
    tensors = {
        name: 1 + array / 2 if name.startswith("weight_ln") else array
        for name, array in found.tensors.items()
    }
    return found._replace(tensors=tensors)


def _case(draw: Draw, layer: str, options: dict[str, Any], most: int = 9) -> Case:
    levels = draw.of(1, 1, 2)
    ranks = [options.get(name, 1) for name in ("u_rank", "w_rank")]
    hidden = max(draw.size(high=50 if levels == 1 else 20), *ranks)
    arguments = {
        "input_size": draw.size(high=40),
        "hidden_size": hidden,
        "num_layers": levels,
        "bias": draw.flip(0.8),
        "bidirectional": draw.flip(0.35),
        **options,
    }
    size = int(options.get("output_size", hidden))
    zoned = any(name.startswith("zoneout") for name in options)
    if layer == "LSTM" and hidden > 1 and not zoned and draw.flip(0.35):
        size = arguments["proj_size"] = draw.size(high=hidden - 1)
    net = getattr(tr, layer)(**arguments)
    tensors = {
        name: (draw.normal(*array.shape) * np.float32(0.4 if array.ndim > 1 else 0.7))
        for name, array in net.state_dict().items()
    }
    for name, array in tensors.items():
        if array.ndim > 1:
            tensors[name] = array * np.float32(4 / max(4, array.shape[1] ** 0.5))
    steps, batch = draw.int(1, most), draw.int(1, 6)
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
