"""The common ground of readers of nets: layers with given weights, windows along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn import activations, frames
from tinyrnn.pooling import MaxPool1d, MaxPool2d
from tinyrnn.values import Value
from tinyrnn.weights.spec import Array


class Unfit(ValueError):
    """A part of a file that is no part of a net of tinyrnn: the message says what is in the way."""


def weighted(layer: Any, **tensors: Array) -> Any:
    """A layer with these weights."""
    layer.load_state_dict({name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()})
    return layer


# ---- windows -----------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The sizes of windows along an axis: how a convolution or a pool walks along it."""

    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def is_uneven(self) -> bool:
        return self.pads[0] != self.pads[1]

    def count(self, size: int) -> int:
        """The windows in so many numbers; below 1 if none fits."""
        return (size + sum(self.pads) - self.span) // self.stride + 1

    def counted(self, size: int) -> int:
        """The windows in so many numbers, at least one."""
        found = self.count(size)
        if found < 1:
            raise Unfit(f"got {size} + {sum(self.pads)} numbers, expected at least {self.span}, the kernel's")
        return found


def even(value: Value, found: Sequence[Window], fill: float = 0.0) -> tuple[Value, list[Window]]:
    """The value, padded where a layer would have to pad one side more than the other, and what is left."""
    sides: list[int] = []
    for window in reversed(found):
        sides += window.pads if window.is_uneven else (0, 0)
    left = [window._replace(pads=(0, 0)) if window.is_uneven else window for window in found]
    return (frames.pad(value, tuple(sides), "constant", fill) if any(sides) else value), left


def is_positive(value: Value, over_time: type[Any]) -> bool:
    """True if no number is below 0, so that zeros around a sequence change no maximum.

    ``over_time`` is the layer of windows over time that the reader makes.
    """
    while isinstance(value.layer, (frames.Reshape, frames.Permute, MaxPool1d, MaxPool2d, over_time)):
        (value,) = value.reads
    kinds = (activations.ReLU, activations.Sigmoid, activations.Abs, activations.Exp, activations.Softplus)
    return isinstance(value.layer, kinds)
