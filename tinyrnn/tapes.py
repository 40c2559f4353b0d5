"""A net laid out for training, and its record from one pass in training mode to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyrnn import _core
from tinyrnn.tensors import Array, Frame, Slot

if TYPE_CHECKING:
    from tinyrnn._training import Tape


# Arguments by which a core layer that trains leaves chance out.
_SURE = {"p": 0.0, "recurrent_dropout": 0.0, "zoneout_mean": 1}


def without_chance(core: _core.Layer) -> dict[str, float]:
    """The arguments that replace those of a core layer so that it drops nothing."""
    return {name: _SURE[name] for name in core.arguments if name in _SURE}


class Layout(NamedTuple):
    """A net laid out for training.

    Attributes
    ----------
    tape : Tape
    cores : list of Layer
        The core layers that the tape runs, dropout between levels included.
    slots : dict from name to Slot
        Its state.
    frame, out_frame : tuple of int
    modes : list of bool
        The training mode of each layer of the net.
    """

    tape: Tape
    cores: list[_core.Layer]
    slots: dict[str, Slot]
    frame: Frame
    out_frame: Frame
    modes: list[bool]


class Face(NamedTuple):
    """An input or output as the caller sees it.

    Attributes
    ----------
    shape : tuple of int
    swapped : bool
        (B, T, frame) for the caller, (T, B, frame) inside.
    """

    shape: tuple[int, ...]
    swapped: bool

    def of_steps(self, steps: int) -> Face:
        """The same with so many steps."""
        place = 1 if self.swapped else 0
        return Face((*self.shape[:place], steps, *self.shape[place + 1 :]), self.swapped)

    def outside(self, array: Array) -> Array:
        """An array of the tape, in the caller's shape."""
        if not self.swapped:
            return array.reshape(self.shape)
        rows, steps, *frame = self.shape
        return array.reshape(steps, rows, *frame).swapaxes(0, 1)

    def inside(self, array: Array) -> Array:
        """An array of the caller, steps first."""
        return np.ascontiguousarray(array.swapaxes(0, 1) if self.swapped else array)


class Pass(NamedTuple):
    """A forward pass before its backward pass.

    Attributes
    ----------
    layout : Layout
    inputs, outputs : list of Face
    named : bool
        True if the caller gave the inputs by name.
    """

    layout: Layout
    inputs: list[Face]
    outputs: list[Face]
    named: bool = False
    begun: frozenset[str] = frozenset()  # the states that began with the net's initial state


class Practice:
    """Records that a net keeps of its training.

    Attributes
    ----------
    guard : Guard
        Lets one thread at a time train the net: it has one tape, and its layers one set of gradients.
    layout : Layout, optional
        The layout of the last call in training mode; the next call of its shape uses it again.
    forward : Pass, optional
        The last call, until its backward pass.
    seed : int, optional
        The seed of all masks of dropout, drawn before the first pass.
    passes : int
        The number of passes so far.
    sure : bool
        True if layouts drop nothing.
    """

    __slots__ = ("forward", "guard", "layout", "passes", "seed", "sure")

    def __init__(self, kind: str) -> None:
        self.guard = _core.Guard(
            f"{kind}: in training by another thread, expected one at a time; "
            "give each thread a copy.deepcopy() of the net"
        )
        self.layout: Layout | None = None
        self.forward: Pass | None = None
        self.seed: int | None = None
        self.passes = 0
        self.sure = False
