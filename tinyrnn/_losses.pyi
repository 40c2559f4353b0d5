"""Types of `_losses.pyx`; its docstrings say the rest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    ) -> None: ...
