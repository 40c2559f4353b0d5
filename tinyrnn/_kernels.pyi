"""Types of `_kernels.pyx`; its docstrings say the rest."""

import numpy as np
from numpy.typing import NDArray

from tinyrnn._core import Layer

_Floats = NDArray[np.float32]

MAPS: tuple[str, ...]

def product(isa: str, linear: Layer, x: _Floats, y: _Floats) -> _Floats: ...
def cell(isa: str, layer: Layer, gates: _Floats, h: _Floats, c: _Floats | None, y: _Floats) -> _Floats: ...
def map(isa: str, name: str, x: _Floats, y: _Floats, slope: float = 0.0) -> _Floats: ...
def softmax(isa: str, x: _Floats, y: _Floats, log: bool = False) -> _Floats: ...
def layer_norm(
    isa: str,
    x: _Floats,
    y: _Floats,
    eps: float = 1e-5,
    weight: _Floats | None = None,
    bias: _Floats | None = None,
) -> _Floats: ...
def read(isa: str, x: _Floats, repeat: int = 1) -> float: ...
def peak(isa: str, rounds: int) -> int: ...
