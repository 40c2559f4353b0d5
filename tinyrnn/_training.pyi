"""Types of `_training.pyx`; its docstrings say the rest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn._core import Layer
from tinyrnn._losses import CoreLoss, Target
from tinyrnn._optim import Program

_Floats = NDArray[np.float32]

def splitmix(seed: int, place: int) -> int: ...

class Tape:
    threads: int
    steps: int
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
    def most_steps(self) -> int: ...
    @property
    def tape_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def outputs(self) -> list[tuple[tuple[int, int, int], int]]: ...
    def point_gradients(self, trained: list[int]) -> None: ...
    def forward(
        self,
        x: NDArray[Any],
        steps: int,
        x_step: int,
        x_row: int,
        state: _Floats,
        lengths: NDArray[np.int32] | None,
        seed: int,
        trained: list[int],
    ) -> _Floats: ...
    def backward(self, dy: _Floats, dstate: _Floats) -> _Floats | None: ...

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
    def __init__(self, tape: Tape, loss: CoreLoss, program: Program, target_steps: int) -> None: ...
    @property
    def loss_bytes(self) -> int: ...
    @property
    def last(self) -> float: ...
    def begin_with(self, start: Start | None) -> None: ...
    def step(
        self,
        x: NDArray[Any],
        steps: int,
        x_step: int,
        x_row: int,
        state: _Floats | None,
        lengths: NDArray[np.int32] | None,
        seed: int,
        target: Target,
        begins: bool = False,
    ) -> int: ...
