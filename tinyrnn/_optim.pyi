"""Types of `_optim.pyx`; its docstrings say the rest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn._core import Layer

_Floats = NDArray[np.float32]

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
