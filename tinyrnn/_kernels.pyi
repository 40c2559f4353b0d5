"""Types of `_kernels.pyx`; its docstrings say the rest."""

import numpy as np
from numpy.typing import NDArray

from tinyrnn._core import Layer

_Floats = NDArray[np.float32]

MAPS: tuple[str, ...]

def product(isa: str, linear: Layer, x: _Floats, y: _Floats) -> _Floats: ...
def cell(
    isa: str,
    layer: Layer,
    gates: _Floats,
    h: _Floats,
    c: _Floats | None,
    y: _Floats,
    tape: _Floats | None = None,
    tape_h: _Floats | None = None,
) -> _Floats: ...
def cell_back(
    isa: str,
    layer: Layer,
    tape: _Floats,
    tape_h: _Floats | None,
    dh: _Floats,
    dh_own: _Floats | None,
    h_before: _Floats | None,
    c_before: _Floats | None,
    dc: _Floats | None,
    dy: _Floats | None = None,
) -> None: ...
def weight_gradient(
    isa: str, linear: Layer, dy: _Floats, x: _Floats, dw: _Floats, part: int = 0, parts: int = 1
) -> _Floats: ...
def map(isa: str, name: str, x: _Floats, y: _Floats, *constants: float) -> _Floats: ...
def map_back(
    isa: str, name: str, x: _Floats, y: _Floats, dy: _Floats, dx: _Floats, *constants: float
) -> _Floats: ...
def softmax(isa: str, x: _Floats, y: _Floats, log: bool = False) -> _Floats: ...
def layer_norm(
    isa: str,
    x: _Floats,
    y: _Floats,
    eps: float = 1e-5,
    weight: _Floats | None = None,
    bias: _Floats | None = None,
) -> _Floats: ...
def norm_scale(
    isa: str,
    scale: _Floats,
    shift: _Floats,
    eps: float,
    mean: _Floats,
    var: _Floats,
    weight: _Floats | None = None,
    bias: _Floats | None = None,
) -> tuple[_Floats, _Floats]: ...
def affine(isa: str, x: _Floats, y: _Floats, scale: _Floats, shift: _Floats) -> _Floats: ...
def update(
    isa: str, optimiser: str, w: _Floats, g: _Floats, states: list[_Floats | None], **coefficients: float
) -> _Floats: ...
def clip(isa: str, x: _Floats, scale: float, limit: float) -> _Floats: ...
def squares(isa: str, x: _Floats) -> float: ...
