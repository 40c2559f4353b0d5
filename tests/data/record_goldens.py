"""Record what PyTorch computes, for test_goldens.py to replay without PyTorch.

    python tests/data/record_goldens.py

writes goldens.npz beside this file. Needs torch 2.13; the same torch writes the same bytes.

The file holds ``index``, a JSON text: the version of torch and a list of cases, each with its layer, the
layer's arguments, and the keys under which the file keeps its tensors, input, initial state and output.
Tensors of the same name and shape hold the same numbers in every case, and are kept once.
"""

from __future__ import annotations

import json
import sys
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
from elementwise_cases import ACTIVATIONS, FUNCTIONS, POSITIVE, of_torch

T, B, I, H, P = 7, 3, 3, 17, 5  # noqa: E741 - the letters of docs/design.md
LENGTHS = [4, 7, 1]

arrays: dict[str, np.ndarray] = {}
cases: list[dict[str, Any]] = []


def numbers(name: str, shape: tuple[int, ...], count: int = 0) -> tuple[str, torch.Tensor]:
    """The numbers that go by this name and shape, and their key; whole ones below ``count`` if given.

    The file keeps them as float16, so that it is half as large; they are used as float32.
    """
    key = f"{name} {'x'.join(map(str, shape))}" + (f" below {count}" if count else "")
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if count:
        value = rng.randint(0, count, shape)
    elif name in ("x", "h0", "c0"):
        value = rng.standard_normal(shape)
    elif name.endswith("running_var"):
        value = rng.uniform(0.5, 2, shape)
    elif name.endswith("num_batches_tracked"):
        value = 3
    else:
        value = rng.uniform(-0.25, 0.25, shape)
    array = np.asarray(value)
    if array.dtype.kind != "f":
        arrays[key] = array
        return key, torch.from_numpy(array)
    arrays[key] = array.astype(np.float16)
    return key, torch.from_numpy(arrays[key].astype(np.float32))


class Function(nn.Module):
    """A function of PyTorch's that is a layer of ours."""

    def __init__(self, layer: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return of_torch(self.layer, self.arguments, x)


def build(layer: str, arguments: dict[str, Any]) -> nn.Module:
    if layer == "Sequential":
        return nn.Sequential(OrderedDict((name, build(*inner)) for name, inner in arguments.items()))
    if (layer, arguments) in FUNCTIONS:
        return Function(layer, arguments)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    return getattr(nn, layer)(**given)


def call(module: nn.Module, x: torch.Tensor, initial: Any, lengths: list[int] | None) -> Any:
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = call(layer, x, None, None)
            x = x[0] if isinstance(layer, nn.RNNBase) else x
        return x
    if lengths is None:
        return module(x) if initial is None else module(x, initial)
    first = module.batch_first
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
    y, state = module(packed, initial)
    return pad_packed_sequence(y, batch_first=first, total_length=x.shape[1 if first else 0])[0], state


def record(
    layer: str,
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    *,
    initial: dict[str, tuple[int, ...]] | None = None,
    lengths: list[int] | None = None,
    count: int = 0,
    note: str = "",
) -> None:
    """Run one case; ``initial`` gives the shapes of h0 and c0, ``count`` makes the input whole numbers."""
    module = build(layer, arguments).eval()
    tensors = {name: numbers(name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict({name: value for name, (_, value) in tensors.items()})
    x_key, x = numbers("x", shape, count)
    states = [numbers(name, size) for name, size in (initial or {}).items()]
    given = tuple(value for _, value in states)
    hx = None if not given else given if layer.startswith("LSTM") else given[0]
    with torch.no_grad():
        result = call(module, x, hx, lengths)

    sizes = ("input_size", "hidden_size")
    options = (
        "" if layer == "Sequential" else " ".join(f"{k}={v}" for k, v in arguments.items() if k not in sizes)
    )
    words = [
        layer,
        options,
        f"in={'x'.join(map(str, shape))}",
        initial and "state",
        lengths and "lengths",
        note,
    ]
    name = " ".join(word for word in words if word).replace("[", "(").replace("]", ")")
    flat: list[torch.Tensor] = []
    pending = [result]
    while pending:
        item = pending.pop(0)
        if isinstance(item, tuple):
            pending = [*item, *pending]
        else:
            flat.append(item)
    if any(case["name"] == name for case in cases):
        raise ValueError(f"two cases are named {name!r}")
    outputs = [f"output {len(cases)}.{i}" for i in range(len(flat))]
    arrays.update({key: value.numpy() for key, value in zip(outputs, flat, strict=True)})
    cases.append(
        {
            "name": name,
            "layer": layer,
            "arguments": arguments,
            "tensors": {name: key for name, (key, _) in tensors.items()},
            "x": x_key,
            "initial": [key for key, _ in states],
            "lengths": lengths,
            "outputs": outputs,
        }
    )


def recurrent(layer: str, seen: str = "", **options: Any) -> None:
    """One case of a recurrent layer; ``seen`` says how it is called: state, lengths, unbatched."""
    arguments = {"input_size": I, "hidden_size": H, **options}
    levels = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = () if "unbatched" in seen else (B,)
    shape = (B, T, I) if options.get("batch_first") and batch else (T, *batch, I)
    initial = {"h0": (levels, *batch, options.get("proj_size") or H), "c0": (levels, *batch, H)}
    if layer != "LSTM":
        del initial["c0"]
    record(
        layer,
        arguments,
        shape,
        initial=initial if "state" in seen else None,
        lengths=LENGTHS if "lengths" in seen else None,
    )


def record_recurrent() -> None:
    for layer in ("RNN", "LSTM", "GRU"):
        two, both = {"num_layers": 2}, {"bidirectional": True}
        recurrent(layer)
        for option in (two, both, {"bias": False}, {"batch_first": True}, {"dropout": 0.5, **two}):
            recurrent(layer, **option)
        recurrent(layer, num_layers=3)
        for seen in ("state", "lengths", "unbatched", "unbatched state", "state lengths"):
            recurrent(layer, seen)
        recurrent(layer, "state lengths", **two, **both)
        recurrent(layer, "lengths", batch_first=True, **both)
        recurrent(layer, "state", bias=False, batch_first=True, **two)
        recurrent(layer, "unbatched state", batch_first=True, **two, **both)
        if layer == "RNN":
            relu = {"nonlinearity": "relu"}
            recurrent(layer, **relu)
            recurrent(layer, bias=False, **relu)
            recurrent(layer, "state lengths", **two, **both, **relu)
        if layer == "LSTM":
            projected = {"proj_size": P}
            recurrent(layer, **projected)
            recurrent(layer, "state", **projected)
            recurrent(layer, "unbatched state", **projected)
            recurrent(layer, "lengths", bias=False, **projected)
            recurrent(layer, "state lengths", batch_first=True, **two, **both, **projected)

    for cell in ("RNNCell", "LSTMCell", "GRUCell"):
        relu = [{"nonlinearity": "relu"}] if cell == "RNNCell" else []
        for options in ({}, {"bias": False}, *relu):
            for batch in ((), (B,)):
                for given in (False, True):
                    state = (*batch, H)
                    initial = {"h0": state, "c0": state} if cell == "LSTMCell" else {"h0": state}
                    arguments = {"input_size": I, "hidden_size": H, **options}
                    record(cell, arguments, (*batch, I), initial=initial if given else None)


def record_frames() -> None:
    for shape in ((5,), (B, 5), (B, 2, 5)):
        record("Linear", {"in_features": 5, "out_features": 18}, shape)
    record("Linear", {"in_features": 5, "out_features": 18, "bias": False}, (B, 5))
    for shape in ((), (4,), (B, 4)):
        record("Embedding", {"num_embeddings": 11, "embedding_dim": 6}, shape, count=11)

    conv = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    for options in (
        {},
        {"bias": False},
        {"stride": 2},
        {"padding": 2},
        {"dilation": 2},
        {"groups": 2},
        {"kernel_size": 1},
        {"out_channels": 8, "groups": 4},
        {"padding": "valid"},
        {"padding": "same"},
        {"padding": "same", "kernel_size": 4, "dilation": 3},
        {"padding": 2, "padding_mode": "reflect"},
        {"padding": "same", "kernel_size": 4, "padding_mode": "reflect"},
        {"stride": 3, "padding": 4, "dilation": 2, "groups": 2, "padding_mode": "reflect"},
        {"stride": 2, "padding": 1, "dilation": 3, "groups": 2, "bias": False},
    ):
        record("Conv1d", {**conv, **options}, (2, 4, 11))
    record("Conv1d", {**conv, "padding": 1}, (4, 11))

    for options in ({}, {"eps": 0.01}, {"elementwise_affine": False}, {"bias": False}):
        record("LayerNorm", {"normalized_shape": 19, **options}, (B, 2, 19))
    record("LayerNorm", {"normalized_shape": [4, 5]}, (B, 4, 5))
    for options in ({}, {"eps": 0.01}, {"affine": False}, {"momentum": None}):
        record("BatchNorm1d", {"num_features": 18, **options}, (B, 18))
    record("BatchNorm1d", {"num_features": 6}, (B, 6, 5))

    shape = (2, 3, 19)
    for layer in ("ReLU", "Sigmoid", "Tanh"):
        record(layer, {}, shape)
    for slope in (0.01, 0.3, -1.5):
        record("LeakyReLU", {"negative_slope": slope}, shape)
    for layer, options in ACTIVATIONS:
        if layer not in ("ReLU", "Sigmoid", "Tanh", "LeakyReLU"):
            record(layer, options, shape)
    for count, shape_of_count in ((1, shape), (3, shape), (5, (B, 5))):
        record("PReLU", {"num_parameters": count}, shape_of_count)
    for layer, options in FUNCTIONS:
        if layer in POSITIVE:  # x is not
            inner = {"size": ("Abs", {}), layer.lower(): (layer, options)}
            record("Sequential", inner, shape, note=f"{layer} {options or ''}".strip())
        else:
            record(layer, options, shape)
    record("Dropout", {"p": 0.5}, shape)
    for options in ({}, {"start_dim": 0}, {"start_dim": 0, "end_dim": 1}, {"start_dim": -2}):
        record("Flatten", options, shape)
    for layer in ("Softmax", "LogSoftmax"):
        for dim in (0, 1, 2, -1):
            record(layer, {"dim": dim}, shape)


def record_nets() -> None:
    record(
        "Sequential",
        {
            "conv": ("Conv1d", {"in_channels": 3, "out_channels": 6, "kernel_size": 3, "padding": 1}),
            "norm": ("BatchNorm1d", {"num_features": 6}),
            "relu": ("ReLU", {}),
            "flat": ("Flatten", {}),
            "out": ("Linear", {"in_features": 54, "out_features": 4}),
            "softmax": ("Softmax", {"dim": -1}),
        },
        (B, 3, 9),
        note="convolution",
    )
    for shape in ((T,), (T, B)):
        record(
            "Sequential",
            {
                "table": ("Embedding", {"num_embeddings": 11, "embedding_dim": 6}),
                "rnn": ("LSTM", {"input_size": 6, "hidden_size": H, "num_layers": 2}),
                "norm": ("LayerNorm", {"normalized_shape": H}),
                "out": ("Linear", {"in_features": H, "out_features": 11}),
                "log": ("LogSoftmax", {"dim": -1}),
            },
            shape,
            count=11,
            note="characters",
        )
    record(
        "Sequential",
        {
            "in": ("Linear", {"in_features": I, "out_features": 6}),
            "act": ("LeakyReLU", {}),
            "gru": ("GRU", {"input_size": 6, "hidden_size": H, "batch_first": True, "bidirectional": True}),
            "rnn": ("RNN", {"input_size": 2 * H, "hidden_size": 4, "batch_first": True}),
        },
        (B, T, I),
        note="mixed",
    )


def record_pictures(record: Callable[..., None], activation: str) -> None:
    """Cases of pictures; record_gradients.py records the same ones."""
    picture = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    for options in (
        {},
        {"bias": False},
        {"stride": [2, 1], "padding": [1, 2]},
        {"dilation": [1, 2], "kernel_size": [4, 2]},
        {"groups": 2, "padding": "same"},
        {"out_channels": 8, "groups": 4, "padding": 1},
        {"kernel_size": [2, 4], "padding": "same", "dilation": [3, 1]},
        {"kernel_size": 1, "padding": "valid"},
    ):
        record("Conv2d", {**picture, **options}, (2, 4, 7, 6))
    for options in (
        {},
        {"stride": 3, "padding": 2, "output_padding": 1},
        {"groups": 2, "dilation": 2, "bias": False},
        {"kernel_size": 4, "stride": 2, "padding": 1},
    ):
        record("ConvTranspose1d", {**picture, **options}, (2, 4, 5))

    for layer in ("MaxPool2d", "AvgPool2d"):
        record(layer, {"kernel_size": 2}, (2, 3, 7, 6))
        record(
            layer, {"kernel_size": [3, 2], "stride": [2, 1], "padding": 1, "ceil_mode": True}, (2, 3, 7, 6)
        )
    record("MaxPool2d", {"kernel_size": 2, "stride": 1, "dilation": [2, 1]}, (2, 3, 7, 6))
    record("AvgPool2d", {"kernel_size": 3, "padding": 1, "count_include_pad": False}, (2, 3, 7, 6))
    record("AvgPool2d", {"kernel_size": 2, "divisor_override": 3}, (2, 3, 7, 6))
    for layer in ("MaxPool1d", "AvgPool1d"):
        record(layer, {"kernel_size": 3, "stride": 2, "padding": 1}, (2, 3, 7))
        record(layer, {"kernel_size": 2, "ceil_mode": True}, (2, 3, 7))
    for layer in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
        record(f"{layer}1d", {"output_size": 3}, (2, 3, 7))
        record(f"{layer}2d", {"output_size": 1}, (2, 3, 7, 6))
        record(f"{layer}2d", {"output_size": [3, None]}, (2, 3, 7, 6))

    record("BatchNorm2d", {"num_features": 3}, (2, 3, 4, 5))
    record("BatchNorm2d", {"num_features": 3, "affine": False, "eps": 0.01}, (2, 3, 4, 5))
    record("GroupNorm", {"num_groups": 2, "num_channels": 6}, (2, 6, 4, 3))
    record("GroupNorm", {"num_groups": 3, "num_channels": 6, "affine": False}, (2, 6, 5))
    record("GroupNorm", {"num_groups": 2, "num_channels": 18, "bias": False, "eps": 0.01}, (B, 18))
    record("InstanceNorm1d", {"num_features": 3}, (2, 3, 7))
    record("InstanceNorm1d", {"num_features": 3, "affine": True}, (2, 3, 7))
    record("InstanceNorm2d", {"num_features": 3, "affine": True, "eps": 0.01}, (2, 3, 4, 5))

    record(
        "Sequential",
        {
            "conv": ("Conv2d", {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "bias": False}),
            "norm": ("BatchNorm2d", {"num_features": 4}),
            "relu": (activation, {}),
            "pool": ("MaxPool2d", {"kernel_size": 2}),
            "flat": ("Flatten", {}),
            "out": ("Linear", {"in_features": 24, "out_features": 5}),
        },
        (B, 2, 6, 8),
        note="pictures",
    )


if __name__ == "__main__":
    if not torch.__version__.startswith("2.13."):
        raise SystemExit(f"this is torch {torch.__version__}; the goldens are those of 2.13")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's, about its own speed
    record_recurrent()
    record_frames()
    record_nets()
    record_pictures(record, "ReLU")
    index = json.dumps({"torch": torch.__version__, "cases": cases})
    path = Path(__file__).with_name("goldens.npz")
    np.savez_compressed(path, index=np.array(index), **arrays)
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes, torch {torch.__version__}")
