"""The initial state that belongs to a net: a table of numbers for each state of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinyrnn import _core
from tinyrnn.arrays import as_floats
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.tensors import Array, Slot

# ---- beginning ---------------------------------------------------------------------------------------


def tables(net: Module) -> dict[str, _core.Layer]:
    """The tables of a net's initial state, by the names of `State`; a shared layer's by each name."""
    return {f"{prefix}{name}": core for prefix, leaf in net._leaves() for name, core in leaf._start.items()}


def first_row(net: Module, slots: Iterable[Slot], size: int) -> Array | None:
    """One row of a new state, of ``size`` numbers; None if all are zero."""
    found = tables(net)
    if not found:
        return None
    row = np.zeros(size, np.float32)
    for slot in slots:
        if slot.name in found:
            for (at, count), level in zip(slot.parts, found[slot.name].get(0), strict=True):
                row[at : at + count] = level
    return row


def begin(net: Module, slots: Iterable[Slot], numbers: Array) -> None:
    """Write the net's initial state to a new state, which is zeros."""
    for _, leaf in net._leaves():
        if leaf._start:
            break
    else:  # as in most nets
        return
    slots = list(slots)
    batch = slots[0].shape[1] if slots else 0
    if batch:
        row = first_row(net, slots, numbers.size // batch)
        if row is not None:
            numbers.reshape(batch, -1)[:] = row


# ---- the attribute -----------------------------------------------------------------------------------


def initial_state(net: Module) -> dict[str, Array] | None:
    """Do the work of reading `Net.initial_state`."""
    return {name: core.get(0) for name, core in tables(net).items()} or None


def set_initial_state(net: Module, given: Any) -> None:
    """Do the work of setting `Net.initial_state`."""
    what = f"{type(net).__name__}: initial_state"
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{what}: got {type(given).__name__}, expected a mapping from name to array, or None")
    owners, fed = _owners(net), net._fed()
    arrays: dict[tuple[int, str], Array] = {}
    for name, value in given.items():
        if name not in owners:
            names = ", ".join(owners) or "no state"
            raise KeyError(f"{what}: got {name!r}, expected one of {names}")
        leaf, own = owners[name]
        if id(leaf) in fed:
            raise ValueError(
                f"{what}: got {name}, which begins with a value of the net, expected another name"
            )
        arrays[id(leaf), own] = _checked(f"{what}: {name}", value, leaf._start_shape(own))
    for _, leaf in net._leaves():
        kept = [own for own in leaf._start_names() if (id(leaf), own) in arrays]
        if not kept and not leaf._start:
            continue
        learns = leaf._start_trains and bool(given)
        leaf._set_start([*leaf._start, *kept] if learns else kept, learns)
        for own, core in leaf._start.items():
            core.set(0, arrays.get((id(leaf), own), np.zeros(leaf._start_shape(own), np.float32)))


def learn_initial_state(net: Module) -> None:
    """Do the work of `Net.learn_initial_state`."""
    fed = net._fed()
    leaves = [leaf for _, leaf in net._leaves() if leaf._start_names() and id(leaf) not in fed]
    if not leaves:
        raise ValueError(f"{type(net).__name__}: got no state to learn, expected a recurrent layer")
    for leaf in leaves:
        leaf._set_start(leaf._start_names(), True)


def names_of(net: Module) -> list[str]:
    """The names of the states that `initial_state` may hold."""
    fed = net._fed()
    return [name for name, (leaf, _) in _owners(net).items() if id(leaf) not in fed]


def _owners(net: Module) -> dict[str, tuple[Module, str]]:
    """The layer of each state of a net, and the state's name in the layer."""
    return {f"{prefix}{name}": (leaf, name) for prefix, leaf in net._leaves() for name in leaf._start_names()}


def _checked(what: str, value: Any, shape: tuple[int, int]) -> Array:
    """Convert an array without a batch axis, or with one row."""
    array = as_floats(value, what)
    if array.shape not in (shape, (shape[0], 1, shape[1])):
        raise ShapeError(f"{what}: got shape {array.shape}, expected {shape}, without an axis for the batch")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: got a number that is not finite, expected finite numbers")
    return array.reshape(shape)
