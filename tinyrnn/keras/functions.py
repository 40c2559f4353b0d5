"""Keras' activations by name: as layers, and as the functions of gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tinyrnn import activations
from tinyrnn.gates import Function
from tinyrnn.importing import Unfit
from tinyrnn.layers import LogSoftmax, Softmax
from tinyrnn.weights.spec import shown


def _hard_sigmoid(major: int) -> Any:
    if major == 3:
        return activations.Hardsigmoid()
    return lambda x: activations.Clip(0.0, 1.0)(activations.Scale(0.2, 0.5)(x))


# By name: what makes the layer for a version of Keras. Softmax goes over the last axis.
FUNCTIONS: Mapping[str, Callable[[int], Any]] = {
    "celu": lambda major: activations.CELU(),
    "elu": lambda major: activations.ELU(),
    "exponential": lambda major: activations.Exp(),
    "gelu": lambda major: activations.GELU(),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda major: activations.Hardswish(),
    "hard_swish": lambda major: activations.Hardswish(),
    "hard_tanh": lambda major: activations.Clip(-1.0, 1.0),
    "leaky_relu": lambda major: activations.LeakyReLU(0.2),
    "linear": lambda major: lambda x: x,
    "log_sigmoid": lambda major: activations.LogSigmoid(),
    "log_softmax": lambda major: LogSoftmax(-1),
    "mish": lambda major: activations.Mish(),
    "relu": lambda major: activations.ReLU(),
    "relu6": lambda major: activations.ReLU6(),
    "selu": lambda major: activations.SELU(),
    "sigmoid": lambda major: activations.Sigmoid(),
    "silu": lambda major: activations.SiLU(),
    "softmax": lambda major: Softmax(-1),
    "softplus": lambda major: activations.Softplus(),
    "softsign": lambda major: activations.Softsign(),
    "swish": lambda major: activations.SiLU(),
    "tanh": lambda major: activations.Tanh(),
    "tanh_shrink": lambda major: activations.Tanhshrink(),
}

# Those that read all numbers along the last axis, not one.
OVER_AXIS = ("softmax", "log_softmax")

# As the functions of gates.
_GATES: Mapping[str, Function] = {
    "elu": ("elu", 1.0),
    "leaky_relu": ("leaky_relu", 0.2),
    "linear": ("affine", 1.0, 0.0),
    **{name: name for name in ("relu", "sigmoid", "softplus", "softsign", "tanh")},
}


def name_of(given: Any) -> str:
    """The name of an activation, however the file has it.

    Raises
    ------
    Unfit
        If it is a function of the file's author.
    """
    if given is None:
        return "linear"
    if isinstance(given, dict):
        inner = given.get("config")
        if given.get("class_name") == "function" and isinstance(inner, str):
            given = inner
        else:
            given = given.get("registered_name") or given.get("class_name")
    if not isinstance(given, str):
        raise Unfit(f"activation is {shown(repr(given), 60)}, expected a name")
    return given.rpartition(">")[2]


def gate_of(given: Any, major: int) -> Function:
    """An activation as the function of a gate."""
    name = name_of(given)
    if name == "hard_sigmoid":
        return ("hard_sigmoid", 1 / 6, 0.5) if major == 3 else "hard_sigmoid"
    if name not in _GATES:
        raise Unfit(
            f"activation {shown(name)} is no function of a gate here, expected one of "
            f"{', '.join(sorted((*_GATES, 'hard_sigmoid')))}"
        )
    return _GATES[name]
