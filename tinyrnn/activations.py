"""Layers that map each number by itself: ``torch.nn``'s activations, and functions for arithmetic.

A formula is one line of csrc/kernels/maps.def. Where an argument is live, the core layer keeps it.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from tinyrnn import _core, initial
from tinyrnn.arguments import check_bool, check_float, check_number, check_positive, check_size
from tinyrnn.attributes import Live
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _Layer
from tinyrnn.tensors import Frame


class _Elementwise(_Layer):
    """A function of each number."""

    _kind: str

    def __init__(self) -> None:
        self._core_layer = _core.Layer(self._kind)


class _WithInplace(_Elementwise):
    """An activation that PyTorch can compute in place."""

    arguments = ("inplace",)

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = check_bool(f"{type(self).__name__}: inplace", inplace)
        super().__init__()


# ---- activations --------------------------------------------------------------------------------


class ReLU(_WithInplace):
    """``max(x, 0)``, as ``torch.nn.ReLU``. ``inplace`` is accepted and changes nothing."""

    _kind = "relu"


class LeakyReLU(_Elementwise):
    """``x`` where positive, else ``negative_slope * x``, as ``torch.nn.LeakyReLU``.

    Parameters
    ----------
    negative_slope : float
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("negative_slope", "inplace")
    negative_slope = Live(check_float)
    _called: ClassVar[dict[str, str]] = {"negative_slope": "slope"}

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.inplace = check_bool("LeakyReLU: inplace", inplace)
        self.negative_slope = negative_slope
        self._core_layer = _core.Layer("leaky_relu", slope=self.negative_slope)


class PReLU(_Layer):
    """``x`` where positive, else ``weight * x`` with a weight that trains, as ``torch.nn.PReLU``.

    With several weights each channel has its own. It then reads ``(N, C)``, ``(N, C, L)`` or ``(N, C, rows,
    columns)``; in a net, frames of ``(C, ...)``.

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels.
    init : float
        The starting value of the weights.
    """

    arguments = ("num_parameters", "init")

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self._channels = check_size("PReLU: num_parameters", num_parameters)  # as Net.num_parameters
        self.init = check_float("PReLU: init", init)
        self._core_layer = _core.Layer("prelu", num_parameters=self._channels)
        self._core_layer.initialise = initial.drawn(lambda _, name, count: np.full(count, self.init))

    def _rank(self, ndim: int) -> int | None:
        if self._channels == 1:
            return None
        return ndim - 1 if ndim in (3, 4) else 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return None if self._channels == 1 else (self._channels,)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if self._channels > 1 and lead != 1 and len(frame) < 2:
            raise ShapeError(
                f"PReLU: reads (N, C) or (N, C, ...); a frame of shape {frame} has {lead} axes before it"
            )
        return super()._lay(frame, lead, cores)

    def _out(self, frame: Frame) -> Frame:
        count = self._channels
        if count > 1 and frame[:1] != (count,):
            raise self._wants(frame, f"({count},) or ({count}, ...) = (num_parameters, ...)")
        return frame


class Sigmoid(_Elementwise):
    """``1 / (1 + exp(-x))``, as ``torch.nn.Sigmoid``; within 2.5 ULP."""

    _kind = "sigmoid"


class Tanh(_Elementwise):
    """``tanh(x)``, as ``torch.nn.Tanh``; within 2.5 ULP."""

    _kind = "tanh"


class ELU(_Elementwise):
    """``x`` where positive, else ``alpha * (exp(x) - 1)``, as ``torch.nn.ELU``.

    Parameters
    ----------
    alpha : float
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("alpha", "inplace")
    alpha = Live(check_float)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha
        self.inplace = check_bool("ELU: inplace", inplace)
        self._core_layer = _core.Layer("elu", alpha=self.alpha, scale=1.0, rate=1.0)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


class SELU(_WithInplace):
    """``scale * ELU(alpha)`` with constants that keep mean and variance, as ``torch.nn.SELU``.

    ``inplace`` is accepted and changes nothing.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = check_bool("SELU: inplace", inplace)
        alpha = _SELU_ALPHA * _SELU_SCALE
        self._core_layer = _core.Layer("elu", alpha=alpha, scale=_SELU_SCALE, rate=1.0)


class CELU(_Elementwise):
    """``x`` where positive, else ``alpha * (exp(x / alpha) - 1)``, as ``torch.nn.CELU``.

    Parameters
    ----------
    alpha : float
        Above 0.
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("alpha", "inplace")
    alpha = Live(check_positive)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha
        self.inplace = check_bool("CELU: inplace", inplace)
        self._core_layer = _core.Layer("elu", alpha=self.alpha, scale=1.0, rate=1 / self.alpha)

    def _heed(self, name: str, value: Any) -> None:
        super()._heed("alpha", value)
        super()._heed("rate", 1 / value)


class GELU(_Elementwise):
    """``x`` times the share of the normal distribution below it, as ``torch.nn.GELU``.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        Compute the share itself, or by a tanh.
    """

    arguments = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate is {approximate!r}, expected 'none' or 'tanh'")
        self.approximate = approximate
        self._core_layer = _core.Layer("gelu_tanh" if approximate == "tanh" else "gelu")


class SiLU(_WithInplace):
    """``x * sigmoid(x)``, as ``torch.nn.SiLU``. ``inplace`` is accepted and changes nothing."""

    _kind = "silu"


class Mish(_WithInplace):
    """``x * tanh(softplus(x))``, as ``torch.nn.Mish``. ``inplace`` is accepted and changes nothing."""

    _kind = "mish"


def _other_than_0(name: str, value: Any) -> float:
    number = check_float(name, value)
    if number == 0.0:
        raise ValueError(f"{name} is {value}, expected a number other than 0")
    return number


class Softplus(_Elementwise):
    """``log(1 + exp(beta * x)) / beta``, as ``torch.nn.Softplus``.

    Parameters
    ----------
    beta : float
        Not 0.
    threshold : float
        ``x`` itself where ``beta * x`` is larger.
    """

    arguments = ("beta", "threshold")
    beta = Live(_other_than_0)
    threshold = Live(check_number)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold
        self._core_layer = _core.Layer("softplus", beta=self.beta, threshold=self.threshold)


class LogSigmoid(_Elementwise):
    """``log(sigmoid(x))``, as ``torch.nn.LogSigmoid``."""

    def __init__(self) -> None:
        self._core_layer = _core.Layer("softplus", beta=-1.0, threshold=math.inf)


class Softsign(_Elementwise):
    """``x / (1 + abs(x))``, as ``torch.nn.Softsign``."""

    _kind = "softsign"


class Tanhshrink(_Elementwise):
    """``x - tanh(x)``, as ``torch.nn.Tanhshrink``."""

    _kind = "tanhshrink"


class Hardsigmoid(_WithInplace):
    """``x / 6 + 1 / 2`` within 0 and 1, as ``torch.nn.Hardsigmoid``. ``inplace`` changes nothing."""

    _kind = "hardsigmoid"


class Hardswish(_WithInplace):
    """``x * hardsigmoid(x)``, as ``torch.nn.Hardswish``. ``inplace`` is accepted and changes nothing."""

    _kind = "hardswish"


class Hardtanh(_Elementwise):
    """``x`` within ``min_val`` and ``max_val``, as ``torch.nn.Hardtanh``. The gradient at both is 0.

    Parameters
    ----------
    min_val, max_val : float
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("min_val", "max_val", "inplace")
    min_val = Live(check_number)
    max_val = Live(check_number)
    _called: ClassVar[dict[str, str]] = {"min_val": "min", "max_val": "max"}

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = check_bool("Hardtanh: inplace", inplace)
        self._check_order(self.min_val, self.max_val)
        self._core_layer = _core.Layer("hardtanh", min=self.min_val, max=self.max_val)

    def _heed(self, name: str, value: Any) -> None:
        if hasattr(self, "_core_layer"):
            given = {"min_val": self.min_val, "max_val": self.max_val, name: value}
            self._check_order(**given)
        super()._heed(name, value)

    @staticmethod
    def _check_order(min_val: float, max_val: float) -> None:
        if min_val >= max_val:
            raise ValueError(
                f"Hardtanh: min_val is {min_val} with max_val={max_val}, expected less than max_val"
            )


class ReLU6(_WithInplace):
    """``x`` within 0 and 6, as ``torch.nn.ReLU6``. ``inplace`` is accepted and changes nothing."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = check_bool("ReLU6: inplace", inplace)
        self._core_layer = _core.Layer("hardtanh", min=0.0, max=6.0)


# ---- functions ----------------------------------------------------------------------------------


class Exp(_Elementwise):
    """``exp(x)``, as ``torch.exp``; within 2.5 ULP."""

    _kind = "exp"


class Log(_Elementwise):
    """The natural logarithm, as ``torch.log``; within 2.5 ULP."""

    _kind = "log"


class Sqrt(_Elementwise):
    """The square root, as ``torch.sqrt``."""

    _kind = "sqrt"


class Abs(_Elementwise):
    """The magnitude, as ``torch.abs``."""

    _kind = "abs"


class Sign(_Elementwise):
    """-1, 0 or 1, as ``torch.sign``. NaN gives 0."""

    _kind = "sign"


class Neg(_Elementwise):
    """``-x``, as ``torch.neg``."""

    _kind = "neg"


class Reciprocal(_Elementwise):
    """``1 / x``, as ``torch.reciprocal``."""

    _kind = "reciprocal"


class Power(_Elementwise):
    """``x ** exponent``, as ``torch.pow`` with a number as exponent.

    It is computed without vectors; `Sqrt` and `Reciprocal` are faster. At infinities and at -0 an exponent of
    0.5 follows C's ``pow``, where PyTorch takes the square root.

    Parameters
    ----------
    exponent : float
    """

    arguments = ("exponent",)
    exponent = Live(check_float)

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent
        self._core_layer = _core.Layer("pow", exponent=self.exponent)


class Scale(_Elementwise):
    """``scale * x + shift``, rounded once.

    Parameters
    ----------
    scale, shift : float
    """

    arguments = ("scale", "shift")
    scale = Live(check_float)
    shift = Live(check_float)

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        self.scale = scale
        self.shift = shift
        self._core_layer = _core.Layer("scale", scale=self.scale, shift=self.shift)


def _number_or_none(name: str, value: Any) -> float | None:
    return None if value is None else check_number(name, value)


class Clip(_Elementwise):
    """``x`` within ``min`` and ``max``, as ``torch.clip``. The gradient passes at both.

    Parameters
    ----------
    min, max : float, optional
        None: no bound.
    """

    arguments = ("min", "max")
    min = Live(_number_or_none)
    max = Live(_number_or_none)

    def __init__(self, min: float | None = None, max: float | None = None) -> None:
        self.min = min
        self.max = max
        low, high = self._bounds(self.min, self.max)
        self._core_layer = _core.Layer("clip", min=low, max=high)

    def _heed(self, name: str, value: Any) -> None:
        if hasattr(self, "_core_layer"):
            bounds = self._bounds(
                *(value if name == each else getattr(self, each) for each in ("min", "max"))
            )
            super()._heed(name, bounds[name == "max"])

    def _bounds(self, low: float | None, high: float | None) -> tuple[float, float]:
        """Return the bounds as numbers, or raise an error if they are in the wrong order."""
        if low is not None and high is not None and low > high:
            raise ValueError(f"Clip: min is {low}, expected at most max, {high}")
        return -math.inf if low is None else low, math.inf if high is None else high
