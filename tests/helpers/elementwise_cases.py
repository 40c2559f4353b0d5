"""Every layer that maps each number by itself, with arguments."""

from __future__ import annotations

from typing import Any

# (layer, its arguments); torch.nn has those of ACTIVATIONS
ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("ReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.2}),
    ("LeakyReLU", {"negative_slope": -1.5}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("ELU", {}),
    ("ELU", {"alpha": 0.3}),
    ("ELU", {"alpha": -2.0}),
    ("SELU", {}),
    ("CELU", {}),
    ("CELU", {"alpha": 2.5}),
    ("GELU", {}),
    ("GELU", {"approximate": "tanh"}),
    ("SiLU", {}),
    ("Mish", {}),
    ("Softplus", {}),
    ("Softplus", {"beta": 3.0, "threshold": 2.0}),
    ("Softplus", {"beta": -0.5, "threshold": 1.0}),
    ("LogSigmoid", {}),
    ("Softsign", {}),
    ("Tanhshrink", {}),
    ("Hardsigmoid", {}),
    ("Hardswish", {}),
    ("Hardtanh", {}),
    ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("ReLU6", {}),
]

FUNCTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Exp", {}),
    ("Log", {}),
    ("Sqrt", {}),
    ("Abs", {}),
    ("Sign", {}),
    ("Neg", {}),
    ("Reciprocal", {}),
    ("Power", {"exponent": 0.0}),
    ("Power", {"exponent": 1.0}),
    ("Power", {"exponent": 2.0}),
    ("Power", {"exponent": 3.0}),
    ("Power", {"exponent": -1.0}),
    ("Power", {"exponent": -2.0}),
    ("Power", {"exponent": 40.0}),
    ("Power", {"exponent": 1.5}),
    ("Power", {"exponent": -0.3}),
    ("Scale", {"scale": -1.5, "shift": 0.25}),
    ("Clip", {"min": -0.5, "max": 1.5}),
    ("Clip", {"min": 0.0}),
    ("Clip", {"max": 0.5}),
    ("Clip", {}),
]

ELEMENTWISE = ACTIVATIONS + FUNCTIONS

# Those that a number below 0 makes NaN, or that have no slope at 0.
POSITIVE = ("Log", "Sqrt", "Reciprocal", "Power")


def of_torch(layer: str, arguments: dict[str, Any], x: Any) -> Any:
    """Apply PyTorch's function or module to a tensor."""
    import torch

    if layer == "Power":
        return torch.pow(x, arguments["exponent"])
    if layer == "Scale":
        return x * arguments["scale"] + arguments["shift"]
    if layer == "Clip":
        return torch.clip(x, **arguments) if arguments else x
    if (layer, arguments) in FUNCTIONS:
        return getattr(torch, layer.lower())(x)
    return getattr(torch.nn, layer)(**arguments)(x)
