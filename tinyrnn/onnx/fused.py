"""The operators that ONNX Runtime's optimiser makes of several nodes (``com.microsoft``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyrnn.importing import Unfit
from tinyrnn.onnx.nodes import Call
from tinyrnn.onnx.symbols import Known, Symbol
from tinyrnn.weights.spec import shown

ACTIVATIONS = ("HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


def _number(value: float) -> Known:
    return Known(np.array(value, np.float32))


def activated(function: Callable[[Call], Symbol]) -> Callable[[Call], Any]:
    """A product with a bias, to which another value may be added, and an activation."""

    def done(call: Call) -> Any:
        get, make = call.attributes.get, call.builder.node_of
        found = function(call)
        if call.node.op == "FusedConv" and call.has(3):
            found = make(call, "Add", [found, call.get(3)])
        name = str(get("activation", ""))
        if name not in ACTIVATIONS:
            raise Unfit(f"activation is {shown(name)}, expected one of {', '.join(ACTIVATIONS)}")
        given = get("activation_params") or [get("activation_alpha"), get("activation_beta")]
        numbers = {key: one for key, one in zip(("alpha", "beta"), given, strict=False) if one is not None}
        return make(call, name, [found], **numbers)

    return done


def matmul(call: Call) -> Any:
    """FusedMatMul: matrices that may be transposed, and a factor."""
    get, make = call.attributes.get, call.builder.node_of
    if get("transBatchA") or get("transBatchB"):
        raise Unfit("moves the first axis of a matrix to another place, expected transA and transB alone")
    pair = []
    for place, turned in enumerate((get("transA"), get("transB"))):
        one: Any = call.get(place)
        if not isinstance(one, Known):
            one = call.movable(place)
        axes = list(range(one.rank)) if turned else []
        pair.append(make(call, "Transpose", [one], perm=[*axes[:-2], *axes[:-3:-1]]) if axes else one)
    found = make(call, "MatMul", pair)
    alpha = get("alpha", 1.0)
    return found if alpha == 1.0 else make(call, "Mul", [found, _number(alpha)])


def gelu(call: Call) -> Any:
    """BiasGelu, FastGelu, Gelu and QuickGelu."""
    op, make, x = call.node.op, call.builder.node_of, call.get(0)
    if call.has(1):
        x = make(call, "Add", [x, call.get(1)])
    if op == "QuickGelu":
        scaled = make(call, "Mul", [x, _number(call.attributes.get("alpha", 1.702))])
        return make(call, "Mul", [x, make(call, "Sigmoid", [scaled])])
    return make(call, "Gelu", [x], approximate="tanh" if op == "FastGelu" else "none")


def skip_norm(call: Call) -> list[Any]:
    """SkipLayerNormalization: a norm of a sum, and the sum."""
    total, make = call.get(0), call.builder.node_of
    for place in (1, 4):
        if call.has(place):
            total = make(call, "Add", [total, call.get(place)])
    eps = call.attributes.get("epsilon", 1e-12)
    found = make(call, "LayerNormalization", [total, call.get(2), call.get(3)], epsilon=eps)
    return [found, None, None, total]
