"""The task of every contender: the same net on the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Call = Callable[[], Any]  # does the work once, carries the state on, returns the output

GATES = {"LSTM": 4, "GRU": 3}


@dataclass
class Work:
    """`steps` steps of `batch` streams through an LSTM or a GRU, weights and input included.

    Every call carries the state of the one before on, but for a bidirectional net, whose calls begin
    at zero. `dtype` is that of the weights: what is not float32 asks for quantised ones.
    """

    kind: str
    inputs: int
    hidden: int
    steps: int = 1
    batch: int = 1
    layers: int = 1
    bidirectional: bool = False
    dtype: str = "float32"
    x: Array = field(init=False, repr=False)  # (steps, batch, inputs)
    weights: dict[str, Array] = field(init=False, repr=False)  # PyTorch's names and order of gates

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        self.x = generator.standard_normal((self.steps, self.batch, self.inputs), np.float32)
        bound, rows = self.hidden**-0.5, self.gates * self.hidden
        self.weights = {}
        for level in range(self.layers):
            width = self.inputs if level == 0 else self.directions * self.hidden
            shapes = {"weight_ih": (rows, width), "weight_hh": (rows, self.hidden)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for end in self.ends:
                for name, shape in shapes.items():
                    drawn = generator.uniform(-bound, bound, shape).astype(np.float32)
                    self.weights[f"{name}_l{level}{end}"] = drawn

    @property
    def gates(self) -> int:
        return GATES[self.kind]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def ends(self) -> list[str]:
        """The endings of the names of a level's directions."""
        return ["", "_reverse"][: self.directions]

    def both(self, name: str, level: int) -> list[Array]:
        """One tensor of a level, of each direction."""
        return [self.weights[f"{name}_l{level}{end}"] for end in self.ends]

    def again(self, seed: int) -> None:
        """Other numbers into the very array that the contenders read."""
        self.x[:] = np.random.default_rng(seed).standard_normal(self.x.shape, np.float32)

    def read(self, result: Any) -> Array:
        """A copy of a Call's output, (steps, batch, directions * hidden)."""
        array = result if isinstance(result, np.ndarray) else result.numpy()
        if array.ndim == 4:  # ONNX's (steps, directions, batch, hidden)
            array = array.swapaxes(1, 2)
        return array.reshape(self.steps, self.batch, self.directions * self.hidden).copy()

    def __str__(self) -> str:
        shape = f"{self.kind} ({self.inputs}, {self.hidden})"
        return f"{shape} {self.dtype}, {self.steps} steps of {self.batch}, {self.layers} layers"
