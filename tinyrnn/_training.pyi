"""Types of `_training.pyx`; its docstrings say the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn._core import Layer
from tinyrnn.arrays import Feed

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int32]

KINDS: tuple[str, ...]

class CoreLoss:
    kind: str
    def __init__(
        self,
        kind: str,
        mean: bool = True,
        **arguments: Any,
    ) -> None: ...
    def scratch(self, steps: int, batch: int, numbers: int, target_steps: int = 0) -> int: ...
    def compute(
        self,
        y: _Floats,
        target: Target,
        shape: tuple[int, int, int, int],
        values: _Floats | None = None,
        what: str = "loss",
    ) -> tuple[float, _Floats]: ...

class Target:
    numbers: NDArray[Any]
    lengths: _Integers | None
    target_lengths: _Integers | None
    mask: NDArray[np.bool_] | None
    last: bool
    probabilities: bool
    rows_first: bool
    target_steps: int
    def __init__(
        self,
        numbers: NDArray[Any],
        lengths: _Integers | None = None,
        last: bool = False,
        probabilities: bool = False,
        rows_first: bool = False,
        target_lengths: _Integers | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None: ...

ARGUMENTS: tuple[str, ...]
STATES: dict[str, tuple[str, ...]]

class Program:
    max_norm: float
    max_value: float
    norm: float
    bad: int
    def __init__(self, rules: int) -> None: ...
    def set_rule(self, i: int, kind: str, options: dict[str, Any]) -> tuple[bool, ...]: ...
    def lay(self, tensors: list[tuple[Layer, int, list[_Floats | None], int, int]]) -> None: ...
    def steps(self) -> list[int]: ...
    def run(self) -> int: ...
    def measure(self) -> int: ...
    def clip(self, max_norm: float, max_value: float) -> None: ...
    def clear(self) -> None: ...

def splitmix(seed: int, place: int) -> int: ...

class Tape:
    threads: int
    keeps_hidden: bool
    def __init__(
        self,
        layers: list[Layer],
        frame: tuple[int, ...],
        batch: int,
        steps: int | tuple[int, ...],
        threads: int = 1,
        instead: list[dict[str, float]] | None = None,
    ) -> None: ...
    @property
    def batch(self) -> int: ...
    @property
    def most_steps(self) -> tuple[int, ...]: ...
    def hidden(self, i: int, size: int) -> _Floats: ...
    def lengths_of(self, output: int) -> NDArray[np.int32] | None: ...
    def has_rate(self, output: int) -> bool: ...
    def due(self, output: int, state: _Floats | None, feed: Feed) -> tuple[int, NDArray[np.int32]]: ...
    @property
    def tape_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def outputs(self) -> list[tuple[tuple[int, int, int], int]]: ...
    def point_gradients(self, trained: list[int]) -> None: ...
    def forward(self, feed: Feed, state: _Floats, seed: int, trained: list[int]) -> list[_Floats]: ...
    def backward(self, dys: Sequence[_Floats | None], dstate: _Floats) -> list[_Floats | None]: ...

class Start:
    trains: bool
    deep: bool
    def __init__(
        self, parts: list[tuple[Layer, int, int, int, bool]], batch: int, state_bytes: int, deep: bool
    ) -> None: ...
    def add_gradients(self, dstate: _Floats) -> None: ...

DONE: int
NOT_FINITE: int
BAD_TARGET: int

class CoreTrainer:
    tape: Tape
    def __init__(
        self,
        tape: Tape,
        losses: list[CoreLoss | None],
        weights: list[float],
        program: Program,
        target_steps: int,
    ) -> None: ...
    @property
    def loss_bytes(self) -> int: ...
    @property
    def last(self) -> float: ...
    @property
    def parts(self) -> list[float]: ...
    @property
    def wrong(self) -> int: ...
    def step(
        self,
        feed: Feed,
        state: _Floats | None,
        seed: int,
        targets: Sequence[Target | None],
        begins: bool = False,
    ) -> int: ...
    def begin_with(self, start: Start | None) -> None: ...
