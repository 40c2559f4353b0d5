"""Record the gradients that PyTorch computes, for test_gradient_goldens.py to replay without PyTorch.

    python tests/data/record_gradients.py

writes gradients.npz beside this file. Needs torch 2.13; the same torch writes the same bytes. Weights and
inputs are those of record_goldens.py, and so is the form of the file; PyTorch runs in training mode and in
float64, and what it gives is rounded to float32. Dropout has no place here: no two frameworks draw alike.

Each case has, beside what goldens.npz says of it, the keys of dy and of the final state's gradients,
and under ``results`` those of the output, of every gradient by the tensor's name, of dx, of the initial
state's gradients ``dh0`` and ``dc0``, and of the running statistics after the call.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import record_goldens as forward
import torch
from record_goldens import ACTIVATIONS, FUNCTIONS, LENGTHS, POSITIVE, B, H, I, P, T, arrays, numbers

cases: list[dict[str, Any]] = []


def record(
    layer: str,
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    *,
    state: dict[str, tuple[int, ...]] | None = None,
    initial: bool = False,
    lengths: list[int] | None = None,
    count: int = 0,
    note: str = "",
) -> None:
    """Run one case forwards and backwards; ``state``: the shapes of h and c of a recurrent layer alone."""
    module = forward.build(layer, arguments)
    tensors = {name: numbers(name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict({name: value for name, (_, value) in tensors.items()})
    module.double().train()
    x_key, x = numbers("x", shape, count)
    x = x if count else x.double().requires_grad_()
    given = {f"{name}0": numbers(f"{name}0", size) for name, size in (state or {}).items()} if initial else {}
    hx = [value.double().requires_grad_() for _, value in given.values()]
    packed_hx = None if not hx else tuple(hx) if layer == "LSTM" else hx[0]
    result = forward.call(module, x, packed_hx, lengths)
    y, *final = result if isinstance(result, tuple) else (result,)
    final = list(final[0]) if final and isinstance(final[0], tuple) else final

    dy = numbers("dy", tuple(y.shape))
    ends = dict(zip(state, final, strict=True)) if state else {}  # a Sequential gives no final state
    dstate = {name: numbers(f"d{name}", tuple(end.shape)) for name, end in ends.items()}
    ways = [dy[1].double(), *(value.double() for _, value in dstate.values())]
    torch.autograd.backward([y, *ends.values()], ways)

    results = {"y": y, **{name: parameter.grad for name, parameter in module.named_parameters()}}
    if not count:
        results["dx"] = x.grad
    results |= {f"d{name}": part.grad for name, part in zip(given, hx, strict=True)}
    results |= dict(module.named_buffers())

    options = " ".join(f"{k}={v}" for k, v in arguments.items() if k not in ("input_size", "hidden_size"))
    words = [layer, "" if layer == "Sequential" else options, f"in={'x'.join(map(str, shape))}"]
    words += ["state" if initial else "", "lengths" if lengths else "", note]
    name = " ".join(word for word in words if word).replace("[", "(").replace("]", ")")
    if any(case["name"] == name for case in cases):
        raise ValueError(f"two cases are named {name!r}")
    keys = {}
    for what, value in results.items():
        array = value.detach().numpy()
        keys[what] = f"result {len(cases)} {what}"
        arrays[keys[what]] = array.astype(np.float32) if array.dtype.kind == "f" else array
    cases.append(
        {
            "name": name,
            "layer": layer,
            "arguments": arguments,
            "tensors": {name: key for name, (key, _) in tensors.items()},
            "x": x_key,
            "initial": {name.removesuffix("0"): key for name, (key, _) in given.items()},
            "lengths": lengths,
            "dy": dy[0],
            "dstate": {name: key for name, (key, _) in dstate.items()},
            "results": keys,
        }
    )


def recurrent(layer: str, seen: str = "", **options: Any) -> None:
    """One case of a recurrent layer; ``seen`` says how it is called: state, lengths, unbatched."""
    arguments = {"input_size": I, "hidden_size": H, **options}
    levels = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = () if "unbatched" in seen else (B,)
    shape = (B, T, I) if options.get("batch_first") and batch else (T, *batch, I)
    state = {"h": (levels, *batch, options.get("proj_size") or H), "c": (levels, *batch, H)}
    if layer != "LSTM":
        del state["c"]
    record(
        layer,
        arguments,
        shape,
        state=state,
        initial="state" in seen,
        lengths=LENGTHS if "lengths" in seen else None,
    )


def record_recurrent() -> None:
    for layer in ("RNN", "LSTM", "GRU"):
        two, both = {"num_layers": 2}, {"bidirectional": True}
        for option in ({}, two, both, {"bias": False}, {"batch_first": True}):
            recurrent(layer, **option)
        for seen in ("state", "lengths", "unbatched", "unbatched state", "state lengths"):
            recurrent(layer, seen)
        recurrent(layer, "state lengths", **two, **both)
        recurrent(layer, "state lengths", batch_first=True, bias=False, **both)
        if layer == "RNN":
            recurrent(layer, "state", nonlinearity="relu")
            recurrent(layer, "state lengths", **both, nonlinearity="relu")
        if layer == "LSTM":
            recurrent(layer, "state", proj_size=P)
            recurrent(layer, "lengths", bias=False, proj_size=P)
            recurrent(layer, "state lengths", **two, **both, proj_size=P)


def record_frames() -> None:
    for shape in ((5,), (B, 5), (B, 2, 5)):
        record("Linear", {"in_features": 5, "out_features": 18}, shape)
    record("Linear", {"in_features": 5, "out_features": 18, "bias": False}, (B, 5))
    for shape in ((4,), (B, 4)):
        record("Embedding", {"num_embeddings": 7, "embedding_dim": 6}, shape, count=7)
    for padding in (0, 3, -2):
        options = {"num_embeddings": 5, "embedding_dim": 6, "padding_idx": padding}
        record("Embedding", options, (B, 9), count=5)

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
    for options in (
        {},
        {"eps": 0.01},
        {"affine": False},
        {"bias": False},
        {"momentum": None},
        {"momentum": 0.7},
    ):
        record("BatchNorm1d", {"num_features": 18, **options}, (B, 18))
    record("BatchNorm1d", {"num_features": 6}, (B, 6, 5))
    record("BatchNorm1d", {"num_features": 6, "momentum": None}, (1, 6, 5))

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
            away = ("Scale", {"scale": -1.5, "shift": 0.25})
            inner = {"away": away, "size": ("Abs", {}), layer.lower(): (layer, options)}
            record("Sequential", inner, shape, note=f"{layer} {options or ''}".strip())
        else:
            record(layer, options, shape)
    for p in (0.0, 1.0):  # the only ones that leave nothing to chance
        record("Dropout", {"p": p}, shape)
    for options in ({}, {"start_dim": -2}):  # not 0: that mixes the batch, and a tape sees frames
        record("Flatten", options, shape)
    for layer in ("Softmax", "LogSoftmax"):
        for dim in (1, 2, -1):
            record(layer, {"dim": dim}, shape)


def record_nets() -> None:
    record(
        "Sequential",
        {
            "conv": ("Conv1d", {"in_channels": 3, "out_channels": 6, "kernel_size": 3, "padding": 1}),
            "tanh": ("Tanh", {}),
            "norm": ("BatchNorm1d", {"num_features": 6}),
            "relu": ("ReLU", {}),
            "flat": ("Flatten", {}),
            "out": ("Linear", {"in_features": 54, "out_features": 4}),
            "softmax": ("Softmax", {"dim": -1}),
        },
        (B, 3, 9),
        note="convolution",
    )
    record(
        "Sequential",
        {
            "conv": ("Conv1d", {"in_channels": 2, "out_channels": 5, "kernel_size": 3, "stride": 2}),
            "act": ("LeakyReLU", {}),
            "flat": ("Flatten", {}),
            "rnn": ("LSTM", {"input_size": 15, "hidden_size": H}),
            "norm": ("LayerNorm", {"normalized_shape": H}),
            "out": ("Linear", {"in_features": H, "out_features": 4}),
        },
        (T, 2, 7),
        note="convolution before recurrence",
    )
    for shape in ((T,), (T, B)):
        record(
            "Sequential",
            {
                "table": ("Embedding", {"num_embeddings": 11, "embedding_dim": 6, "padding_idx": 2}),
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


if __name__ == "__main__":
    if not torch.__version__.startswith("2.13."):
        raise SystemExit(f"this is torch {torch.__version__}; the goldens are those of 2.13")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's, about its own speed
    record_recurrent()
    record_frames()
    record_nets()
    forward.record_pictures(record, "Tanh")
    index = json.dumps({"torch": torch.__version__, "cases": cases})
    path = Path(__file__).with_name("gradients.npz")
    np.savez_compressed(path, index=np.array(index), **arrays)
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes, torch {torch.__version__}")
