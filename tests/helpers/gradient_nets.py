"""Random nets, inputs and gradients, each from one seed, for the tests of training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from elementwise_cases import ACTIVATIONS
from numpy.typing import NDArray

import tinyrnn as tr

Array = NDArray[np.float32]

# one below, at and above every width that the core works in
WIDTHS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65)


RECURRENT = (tr.RNN, tr.LSTM, tr.GRU)


class Case(NamedTuple):
    """A net as layers with arguments, and one call of it forwards and backwards."""

    layers: list[tuple[str, dict[str, Any]]]
    x: Any
    lengths: list[int] | None
    state: dict[str, Array] | None  # by the names of State: "h" of a layer alone, "1.h" in a Sequential
    dstate: dict[str, Array] | None
    seed: int

    @property
    def names(self) -> str:
        return "-".join(layer for layer, _ in self.layers)


class Draw:
    """Random choices and numbers from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def of(self, *choices: Any) -> Any:
        return choices[self.int(0, len(choices) - 1)]

    def size(self, low: int = 1, high: int = 70) -> int:
        fitting = [width for width in WIDTHS if low <= width <= high]
        return self.of(*fitting) if fitting and self.flip(0.7) else self.int(low, high)

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape, dtype=np.float32)


def recurrent(draw: Draw, input_size: int, batch_first: bool, kind: str | None = None) -> Any:
    """A recurrent layer with any options, and the size of its output."""
    kind = kind or draw.of("RNN", "LSTM", "GRU")
    num_layers = draw.of(1, 1, 1, 2, 3)
    hidden = draw.size(high=70 if num_layers == 1 else 33)
    options: dict[str, Any] = {
        "input_size": input_size,
        "hidden_size": hidden,
        "num_layers": num_layers,
        "bias": draw.flip(0.8),
        "batch_first": batch_first,
        "bidirectional": draw.flip(0.35),
    }
    size = hidden
    if kind == "RNN":
        options["nonlinearity"] = draw.of("tanh", "relu")
    if kind == "LSTM" and hidden > 1 and draw.flip(0.35):
        size = options["proj_size"] = draw.size(high=hidden - 1)
    return (kind, options), size * (2 if options["bidirectional"] else 1)


def states(
    draw: Draw, layers: list[tuple[str, dict[str, Any]]], batch: int, all_of_them: bool
) -> dict[str, Array]:
    """Random states by name; only some of them unless all are wanted."""
    given = {}
    for i, (layer, options) in enumerate(layers):
        if layer not in ("RNN", "LSTM", "GRU"):
            continue
        prefix = f"{i}." if len(layers) > 1 else ""
        levels = options["num_layers"] * (2 if options["bidirectional"] else 1)
        hidden = options["hidden_size"]
        for name, size in (("h", options.get("proj_size") or hidden), ("c", hidden)):
            if (name == "h" or layer == "LSTM") and (all_of_them or draw.flip(0.7)):
                given[prefix + name] = draw.normal(levels, batch, size)
    return given


def alone(seed: int) -> Case:
    """One recurrent layer."""
    draw = Draw(seed)
    first = draw.flip(0.3)
    layer, _ = recurrent(draw, draw.size(), first, ("LSTM", "GRU", "RNN")[seed % 3])
    steps, batch = draw.int(1, 20), draw.int(1, 9)
    x = draw.normal(*((batch, steps) if first else (steps, batch)), layer[1]["input_size"])
    lengths = [draw.int(1, steps) for _ in range(batch)] if draw.flip() else None
    state = states(draw, [layer], batch, True) if draw.flip() else None
    return Case([layer], x, lengths, state, states(draw, [layer], batch, True), seed)


def chain(seed: int) -> Case:
    """Recurrent layers between others."""
    draw = Draw(seed)
    first = draw.flip(0.3)
    steps, batch = draw.int(1, 12), draw.int(1, 9)
    way = ("plain", "embedding", "convolution", "linear")[seed % 4]
    layers: list[tuple[str, dict[str, Any]]] = []
    frame: tuple[int, ...]
    if way == "embedding":
        count, size = draw.int(2, 40), draw.size()
        padding = draw.int(-count, count - 1) if draw.flip() else None
        layers = [("Embedding", {"num_embeddings": count, "embedding_dim": size, "padding_idx": padding})]
        frame = ()
    elif way == "convolution":
        channels, length = draw.int(1, 6), draw.int(9, 16)
        (layer, written), out_length = convolution(draw, channels, length, 18)
        layers, size = [(layer, written)], written["out_channels"] * out_length
        if draw.flip() and batch > 1 and out_length > 2 and taps(written) > 2:
            layers[0][1]["bias"] = False
            layers.append(("BatchNorm1d", {"num_features": written["out_channels"]}))
        layers += [activation(draw, written["out_channels"]), ("Flatten", {})]
        frame = (channels, length)
    elif way == "linear":
        inputs, size = draw.size(), draw.size(low=4)
        layers = [("Linear", {"in_features": inputs, "out_features": size, "bias": draw.flip(0.8)})]
        layers += [activation(draw)] if draw.flip() else []
        frame = (inputs,)
    else:
        size = draw.size()
        frame = (size,)
    for _ in range(draw.of(1, 1, 2)):
        layer, size = recurrent(draw, size, first)
        layers.append(layer)
    if size > 3 and draw.flip():
        affine = draw.flip(0.8)
        options = {"normalized_shape": size, "elementwise_affine": affine, "bias": draw.flip(0.8)}
        layers.append(("LayerNorm", options))
    out = draw.size(low=4)
    layers.append(("Linear", {"in_features": size, "out_features": out}))
    if draw.flip(0.4):
        layers.append((draw.of("Softmax", "LogSoftmax"), {"dim": -1}))

    leading = (batch, steps) if first else (steps, batch)
    lengths = [draw.int(1, steps) for _ in range(batch)] if draw.flip(0.4) else None
    if way == "embedding":
        x: Any = draw.rng.integers(0, layers[0][1]["num_embeddings"], leading)
    else:
        x = draw.normal(*leading, *frame)
    state = states(draw, layers, batch, False) if draw.flip() else None
    return Case(layers, x, lengths, state, states(draw, layers, batch, False), seed)


def activation(draw: Draw, channels: int = 1) -> tuple[str, dict[str, Any]]:
    """An activation that bends everywhere; a PReLU has a weight for each channel, or one.

    Behind one with a straight part BatchNorm takes away the bias before it: see `taps`.
    """
    if draw.flip(0.2):
        return "PReLU", {"num_parameters": draw.of(1, channels)}
    straight = ("Hardsigmoid", "Hardtanh", "Hardswish", "ReLU6", "Tanhshrink", "Softplus")
    return draw.of(*((layer, arguments) for layer, arguments in ACTIVATIONS if layer not in straight))


def taps(options: dict[str, Any]) -> int:
    """The number of weights of one output of a convolution.

    BatchNorm behind it takes away their size and the bias. With one weight, or for the bias, the gradient is
    0, and any program finds rounding errors instead.
    """
    return int(options["in_channels"] // options["groups"] * np.prod(options["kernel_size"]))


def convolution(draw: Draw, channels: int, length: int, high: int) -> Any:
    """A convolution that fits, and the length of its output."""
    groups = channels if draw.flip(0.2) else 1
    kernel = draw.int(1, min(4, (length + 1) // 2))
    dilation = draw.of(1, 1, 2) if kernel > 1 else 1
    span = dilation * (kernel - 1) + 1
    padding = draw.of("valid", "same", draw.int(0, span - 1))
    options = {
        "in_channels": channels,
        "out_channels": groups * draw.int(1, max(1, high // groups)),
        "kernel_size": kernel,
        "stride": 1 if padding == "same" else draw.int(1, 3),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw.flip(0.8),
        "padding_mode": draw.of("zeros", "reflect"),
    }
    total = {"valid": 0, "same": span - 1}.get(padding, 0) if isinstance(padding, str) else 2 * padding
    return ("Conv1d", options), (length + total - span) // options["stride"] + 1


def taken(draw: Draw, low: int, high: int) -> Any:
    """A size for both axes, or one for each."""
    return draw.int(low, high) if draw.flip() else (draw.int(low, high), draw.int(low, high))


def picture(draw: Draw, channels: int, rows: int, cols: int, normalise: bool) -> Any:
    """A convolution of pictures and what may follow it, and the frame that the last of them writes."""
    groups = channels if draw.flip(0.3) else 1
    kernel, dilation = taken(draw, 1, 3), taken(draw, 1, 2)
    options = {
        "in_channels": channels,
        "out_channels": groups * draw.int(1, max(1, 18 // groups)),
        "kernel_size": kernel,
        "stride": taken(draw, 1, 2),
        "padding": draw.of("valid", taken(draw, 0, 2)),
        "dilation": dilation,
        "groups": groups,
        "bias": draw.flip(0.8),
    }
    if draw.flip(0.3):
        options |= {"stride": 1, "padding": "same"}
    out = options["out_channels"]
    layers: list[tuple[str, dict[str, Any]]] = [("Conv2d", options)]
    several = np.prod(np.broadcast_to(kernel, 2)) * (channels // groups) > 2  # see `taps`
    if normalise and several and tr.Conv2d(**options)._out((channels, rows, cols))[1:] != (1, 1):
        divisors = [size for size in range(1, out + 1) if out % size == 0]
        norms: list[tuple[str, dict[str, Any]]] = [
            ("BatchNorm2d", {"num_features": out, "momentum": draw.of(0.1, None)}),
            ("GroupNorm", {"num_groups": draw.of(*divisors), "num_channels": out, "affine": draw.flip(0.8)}),
            ("InstanceNorm2d", {"num_features": out, "affine": draw.flip()}),
        ]
        options["bias"] = False
        layers += [draw.of(*norms), activation(draw, out)]
    layers.append(pooling(draw, 2))
    frame: tuple[int, ...] = (channels, rows, cols)
    for layer, given in layers:
        frame = getattr(tr, layer)(**given)._lay(frame, 1, [])
    return layers, frame


def pooling(draw: Draw, dims: int) -> tuple[str, dict[str, Any]]:
    """Any pooling over one or two axes of 3 numbers or more."""

    def size(low: int, high: int) -> Any:
        return draw.int(low, high) if dims == 1 else taken(draw, low, high)

    kind = draw.of("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
    if kind.startswith("Adaptive"):
        return f"{kind}{dims}d", {"output_size": size(1, 4)}
    options = {"kernel_size": size(2, 3), "stride": draw.of(None, size(1, 3)), "padding": draw.int(0, 1)}
    options["ceil_mode"] = draw.flip()
    if kind == "AvgPool":
        options["count_include_pad"] = draw.flip()
    return f"{kind}{dims}d", options


def pictures(seed: int) -> Case:
    """Pictures, with a recurrent layer behind them or without; or a transposed convolution."""
    draw = Draw(seed)
    steps, batch = draw.int(1, 4), draw.int(2, 4)
    recurs = seed % 3 == 0
    layers: list[tuple[str, dict[str, Any]]] = []
    lengths = None
    if seed % 3 == 1:
        groups = draw.of(1, 1, 2, 3)
        channels, length = groups * draw.int(1, 6), draw.int(5, 80)
        stride, dilation = draw.int(1, 3), draw.int(1, 2)
        options = {
            "in_channels": channels,
            "out_channels": groups * draw.int(1, 12),
            "kernel_size": draw.int(1, 5),
            "stride": stride,
            "padding": draw.int(0, 2),
            "output_padding": draw.int(0, max(stride, dilation) - 1),
            "groups": groups,
            "bias": draw.flip(0.8),
            "dilation": dilation,
        }
        layers = [("ConvTranspose1d", options)]
        if draw.flip():
            features = options["out_channels"]
            options |= {"bias": False, "kernel_size": 3}
            layers += [("InstanceNorm1d", {"num_features": features, "affine": draw.flip()}), ("Tanh", {})]
        layers.append(pooling(draw, 1))
        x = draw.normal(batch, channels, length)
    else:
        frame = (draw.int(1, 5), draw.int(9, 14), draw.int(9, 14))
        x = draw.normal(*((steps, batch) if recurs else (batch,)), *frame)
        more, out = picture(draw, *frame, normalise=draw.flip(0.7))
        layers += [*more, ("Flatten", {})]
        size = out[0] * out[1] * out[2]
        if recurs:
            lengths = [draw.int(1, steps) for _ in range(batch)] if draw.flip() else None
            layer, size = recurrent(draw, size, False)
            layers.append(layer)
        layers.append(("Linear", {"in_features": size, "out_features": draw.size(low=4)}))
    return Case(layers, x, lengths, None, states(draw, layers, batch, False) if recurs else None, seed)


def frames(seed: int) -> Case:
    """No recurrent layer: arrays of PyTorch's own axes."""
    draw = Draw(seed)
    batch = draw.int(2, 9)
    layers: list[tuple[str, dict[str, Any]]] = []
    way = ("convolution", "rows", "table", "table of vectors")[seed % 4]
    if way == "convolution":
        channels, length = draw.int(1, 6), draw.int(12, 24)
        x: Any = draw.normal(batch, channels, length)
        for _ in range(2):
            (layer, options), length = convolution(draw, channels, length, 20)
            channels = options["out_channels"]
            normalise = length > 2 and taps(options) > 2 and draw.flip(0.6)
            options["bias"] &= not normalise
            layers.append((layer, options))
            if normalise:
                momentum = draw.of(0.1, 0.3, None)
                affine = draw.flip(0.8)
                bias = affine and draw.flip(0.8)
                norm = {"num_features": channels, "momentum": momentum, "affine": affine, "bias": bias}
                layers.append(("BatchNorm1d", norm))
            layers.append(activation(draw, channels))
        if channels > 3 and draw.flip(0.3):
            layers.append((draw.of("Softmax", "LogSoftmax"), {"dim": 1}))
        if channels * length > 3 and draw.flip(0.4):
            layers.append(("LayerNorm", {"normalized_shape": (channels, length)}))
        layers += [("Flatten", {}), ("Linear", {"in_features": channels * length, "out_features": 10})]
    elif way == "rows":
        size = draw.size(low=2)
        x = draw.normal(batch, size)
        for _ in range(draw.int(1, 3)):
            out = draw.size(low=4)
            norm = draw.of("BatchNorm1d", "LayerNorm", None)
            linear = {"in_features": size, "out_features": out, "bias": norm != "BatchNorm1d" and draw.flip()}
            layers.append(("Linear", linear))
            if norm == "BatchNorm1d" and batch > 3:
                layers.append((norm, {"num_features": out, "momentum": draw.of(0.1, None)}))
            elif norm == "LayerNorm":
                layers.append((norm, {"normalized_shape": out, "eps": draw.of(1e-5, 1e-2)}))
            layers.append(activation(draw, out))
            size = out
        layers.append(("Linear", {"in_features": size, "out_features": draw.size(low=4)}))
        layers.append((draw.of("Softmax", "LogSoftmax", "Tanh"), {}))
        if layers[-1][0] != "Tanh":
            layers[-1] = (layers[-1][0], {"dim": draw.of(1, -1)})
    else:
        count, size = draw.int(2, 30), draw.size(low=4)
        shape = (batch,) if way == "table" else (batch, draw.int(1, 5))
        x = draw.rng.integers(0, count, shape)
        padding = draw.int(0, count - 1) if draw.flip() else None
        layers = [
            ("Embedding", {"num_embeddings": count, "embedding_dim": size, "padding_idx": padding}),
            ("LayerNorm", {"normalized_shape": size, "bias": draw.flip()}),
            ("Linear", {"in_features": size, "out_features": draw.size()}),
        ]
    return Case(layers, x, None, None, None, seed)


CASES = {"alone": alone, "chain": chain, "frames": frames, "pictures": pictures}


def build(case: Case) -> tr.Net:
    """tinyrnn's net with weights from the case's seed, those of the norms random too."""
    tr.manual_seed(case.seed)
    layers = [getattr(tr, layer)(**options) for layer, options in case.layers]
    net = layers[0] if len(layers) == 1 else tr.Sequential(*layers)
    randomise_norms(net, case.seed)
    return net


def randomise_norms(net: tr.Net, seed: int) -> None:
    """Other than the zeros and ones that they start with."""
    rng = np.random.default_rng(seed)
    tensors = net.state_dict()
    for prefix, leaf in net._leaves():
        if "Norm" not in type(leaf).__name__:
            continue
        for name in leaf.state_dict():
            shape = tensors[prefix + name].shape
            if name == "running_var":
                tensors[prefix + name] = rng.uniform(0.5, 2, shape).astype(np.float32)
            elif name == "num_batches_tracked":
                tensors[prefix + name] = np.array(3)
            else:
                tensors[prefix + name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    net.load_state_dict(tensors)


def leaves(net: tr.Net) -> list[tuple[str, str, dict[str, Any]]]:
    """The net as `oracle_gradients.run` takes it."""
    return [(prefix, type(leaf).__name__, leaf.config()) for prefix, leaf in net._leaves()]


def forward(net: tr.Net, x: Any, state: Any = None, lengths: Any = None, threads: int = 1) -> Any:
    """Call a net in training mode with its state by name: the output, and the final state by name."""
    if isinstance(net, RECURRENT):
        hx = None if not state else (state["h"], state["c"]) if "c" in state else state["h"]
        y, final = net(x, hx, lengths=lengths, threads=threads)
        return y, named(final)
    if net._recurrent:
        y = net(x, lengths=lengths, state=state, threads=threads)
        return y, {name: net.last_state[name] for name in net.last_state}
    return net(x, threads=threads), {}


def backward(net: tr.Net, dy: Array, dstate: Any = None) -> tuple[Array | None, dict[str, Array]]:
    """Go back through the last call: dx, and the initial state's gradients by name."""
    if isinstance(net, RECURRENT):
        dstate = dstate or {}
        dx, dstate0 = net.backward(dy, (dstate["h"], dstate["c"]) if "c" in dstate else dstate.get("h", {}))
        return dx, named(dstate0)
    if net._recurrent:
        dx, dstate0 = net.backward(dy, dstate or {})
        return dx, dict(dstate0)
    return net.backward(dy), {}


def named(state: Any) -> dict[str, Array]:
    """The results of a recurrent layer alone, h or (h, c), by name."""
    return dict(zip("hc", state, strict=True)) if isinstance(state, tuple) else {"h": state}
