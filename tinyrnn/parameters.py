"""The parameters of a net, which of them are frozen, and their gradients."""

from __future__ import annotations

from typing import Any

from tinyrnn.contract import Module
from tinyrnn.state_dicts import quoted, state_dict
from tinyrnn.tensors import Array, Tensor


def parameters(net: Module) -> list[tuple[str, Tensor]]:
    """(full name, tensor) of every parameter of a net, in its order; a shared layer's each time."""
    if not isinstance(net, Module):
        raise TypeError(f"net: got {type(net).__name__}, expected a net")
    return [
        (prefix + tensor.name, tensor)
        for prefix, leaf in net._leaves()
        for tensor in leaf._tensors()
        if tensor.is_parameter
    ]


def trainable(net: Module, shared: bool = False) -> list[tuple[str, Tensor]]:
    """(name, tensor) of every parameter that is not frozen.

    A parameter that two layers share comes once, or as often as `state_dict` names it.
    """
    found: dict[Any, tuple[str, Tensor]] = {}
    for prefix, leaf in net._leaves():
        for tensor in leaf._tensors():
            name = prefix + tensor.name
            if not tensor.is_parameter or tensor.name in leaf._frozen:
                continue
            found.setdefault(name if shared else (id(tensor.core), tensor.param), (name, tensor))
    return list(found.values())


def requires_grad(net: Module, name: str) -> bool:
    """Do the work of `Net.requires_grad`."""
    for prefix, leaf in net._leaves():
        for tensor in leaf._tensors():
            if prefix + tensor.name == name:
                return tensor.is_parameter and tensor.name not in leaf._frozen
    raise KeyError(f"{type(net).__name__} has no tensor {name!r}")


def set_frozen(net: Module, names: tuple[str, ...], frozen: bool) -> None:
    """Do the work of `Net.freeze` or `Net.unfreeze`."""
    chosen: list[tuple[Module, str]] = []
    if not names:
        chosen = [(leaf, tensor.name) for _, leaf in net._leaves() for tensor in leaf._tensors()]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{type(net).__name__}: got {name!r}, expected the name of a tensor or a layer")
        found = [
            (leaf, tensor.name)
            for prefix, leaf in net._leaves()
            for tensor in leaf._tensors()
            if f"{prefix}{tensor.name}.".startswith(name + ".")
        ]
        if not found:
            raise KeyError(
                f"{type(net).__name__} has no tensor or layer {name!r}, but {quoted(state_dict(net))}"
            )
        chosen += found
    for leaf, tensor in chosen:
        leaf._freeze([tensor], frozen)


def zero_gradients(net: Module) -> None:
    """Do the work of `Net.zero_grad`."""
    for tensor in net._tensors():
        if tensor.core.has_gradients:
            tensor.core.gradients()[:] = 0.0
            tensor.core.graded = 0


def gradients(net: Module) -> dict[str, Array]:
    """Do the work of `Net.grad_dict`."""
    return {name: tensor.gradient() for name, tensor in trainable(net, shared=True)}
