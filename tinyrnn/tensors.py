"""The tensors that a net is made of, by name: those of its weights and those of its state."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core
from tinyrnn.arrays import as_array, as_floats, widened
from tinyrnn.errors import ShapeError
from tinyrnn.formats import LEVELS, Coded, encode, restore, store

Frame = tuple[int, ...]
Array = NDArray[np.float32]

# Tensors that training does not change by gradients.
STATISTICS = ("running_mean", "running_var")

# The one entry of a state_dict that is no parameter: the counter of a BatchNorm1d or BatchNorm2d.
COUNTER = "num_batches_tracked"


def in_planes(frame: Frame) -> tuple[int, ...]:
    """The three sizes by which the core knows a frame: planes, rows, columns."""
    return (1,) * (3 - len(frame)) + frame


class Tensor(NamedTuple):
    """One entry of a state_dict: its name, its shape, and the core layer that keeps it."""

    name: str
    shape: tuple[int, ...]
    core: _core.Layer
    param: int
    given: bool = False  # an initial state that is not learned

    @property
    def is_parameter(self) -> bool:
        """True if training changes it by gradients."""
        return not self.given and self.name.rpartition(".")[2] not in STATISTICS

    @property
    def format(self) -> str:
        """The format of its numbers."""
        return self.core.format if self.param in self.core.matrices else "float32"

    def shaped(self, array: NDArray[Any]) -> NDArray[Any]:
        """Numbers as the core lists them, in the tensor's shape."""
        return array.reshape(self.shape)

    def unshaped(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `shaped`."""
        return array.reshape(self.core.params[self.param][1])

    def numbers(self) -> Array:
        """Its numbers: a new array."""
        return self.shaped(self.core.get(self.param))

    def stored(self) -> dict[str, NDArray[Any]]:
        """Its numbers as a file keeps them, without loss."""
        if self.format == "float32":
            return {self.name: self.numbers()}
        codes, scales = self.core.codes(self.param)
        return store(Coded(self.shaped(codes) if scales is None else codes, scales), self.format, self.name)

    def fitted(self, value: Any, scales: Any) -> Array | Coded:
        """Check ``value`` and convert it for the core: numbers, or codes (of int8 in any format)."""
        shape = self.core.params[self.param][1]
        array = as_array(value, self.name)
        if scales is not None:
            own = self.format if self.format in LEVELS else "int8"
            coded = restore(array, as_array(scales), shape, own, self.name)
            if own == self.format:
                return coded
            assert coded.scales is not None
            array = self.shaped(coded.codes * coded.scales.reshape(-1, *[1] * (len(shape) - 1)))
        if self.format == "bfloat16" and array.dtype == np.uint16:  # the bits, as `stored` gives them
            array = widened(array)
        array = as_floats(array, self.name)
        if array.shape != self.shape:
            raise ShapeError(
                f"size mismatch for {self.name}: got shape {array.shape} in state_dict, "
                f"expected {self.shape} in the net"
            )
        array = self.unshaped(array)
        return array if self.format == "float32" else encode(array, self.format, self.name)

    def gradient(self) -> Array:
        """Its gradient: a new array."""
        return self.shaped(self.core.unpack_from(self.param, self.core.gradients()))

    def write(self, value: Array | Coded) -> None:
        """Write numbers that `fitted` returned."""
        if isinstance(value, Coded):
            self.core.set_codes(self.param, *value)
        else:
            self.core.set(self.param, value)

    def read(self) -> Array:
        """Its numbers: a copy, so it cannot be written to."""
        array = self.numbers()
        array.flags.writeable = False
        return array


class Slot(NamedTuple):
    """One named tensor of a state: the places of its levels among the numbers."""

    name: str
    owner: str  # the layer's kind and sizes: they distinguish nets whose states have the same shapes
    shape: tuple[int, int, int]  # (levels * directions, batch, size)
    parts: tuple[tuple[int, int], ...]  # (offset, numbers) within a row, of each level and direction
    marks: tuple[int, ...] = ()  # places within a row: not 0 once a state that begins with values has begun
