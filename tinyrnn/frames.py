"""Layers that give a frame another shape, rearrange it, or reduce its axes.

Axes are counted from the end, -1 is the last one: what comes before a frame, time and batch, has no number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tinyrnn import _core
from tinyrnn.arguments import check_axis, check_bool, check_int, check_number, check_size
from tinyrnn.attributes import Live, brief
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _axes, _Layer
from tinyrnn.tensors import Frame, in_planes
from tinyrnn.values import Value, applied, operations


def check_dim(kind: str, dim: int, rank: int) -> None:
    """Raise an error if frames of ``rank`` axes do not have this one, counted from the end."""
    if not -rank <= dim < 0:
        raise ShapeError(f"{kind}: dim is {dim}, expected {-rank} .. -1 in frames of {rank} axes")


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


class _OfFrames(_Layer):
    """A layer that depends on the axes of a frame."""

    _has_frames = True


# ---- the same numbers under another shape -----------------------------------------------------------


def _sizes(name: str, given: Any, rank: int = 3) -> tuple[int, ...]:
    """Check the sizes of a shape, of which one may be -1."""
    sizes = _several(given)
    if len(sizes) > rank or sizes.count(-1) > 1:
        raise ValueError(f"{name} is {sizes}, expected at most {rank} sizes, of which one may be -1")
    return tuple(-1 if size == -1 else check_size(name, size) for size in sizes)


class Reshape(_OfFrames):
    """The same numbers in frames of another shape, as ``torch.reshape``; it takes no time.

    Called with an array it reshapes the last axis.

    Parameters
    ----------
    shape : int or tuple of int
        The shape of a frame, at most three axes. One size may be -1: what is left.
    """

    arguments = ("shape",)

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = _sizes("Reshape: shape", shape)
        planes, rows, cols = in_planes(self.shape)
        self._core_layer = _core.Layer("reshape", planes=planes, rows=rows, cols=cols)

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _out(self, frame: Frame) -> Frame:
        numbers, given = math.prod(frame), math.prod(size for size in self.shape if size != -1)
        out = tuple(numbers // given if size == -1 else size for size in self.shape)
        if math.prod(out) != numbers:
            raise self._wants(frame, f"as many numbers as {self.shape} has")
        return out


class Unflatten(_OfFrames):
    """One axis as several, as ``torch.nn.Unflatten``.

    Parameters
    ----------
    dim : int
        The axis: counted from the end, or as in PyTorch from the batch on.
    unflattened_size : int or tuple of int
        The sizes that it becomes. One may be -1: what is left.
    """

    arguments = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: int | Sequence[int]) -> None:
        self.dim = check_axis("Unflatten: dim", dim)
        self.unflattened_size = _sizes("Unflatten: unflattened_size", unflattened_size)
        self._by_shape: dict[Frame, _core.Layer] = {}

    def _cores(self) -> list[_core.Layer]:
        return []

    def _tensors(self) -> list[Any]:
        return []

    def _rank(self, ndim: int) -> int | None:
        return -self.dim if self.dim < 0 else max(1, ndim - self.dim)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        ndim = _axes(frame, lead)
        place = self.dim if self.dim < 0 else self.dim - ndim
        if not -len(frame) <= place < 0:
            raise ShapeError(
                f"Unflatten: dim {self.dim} of {ndim} axes is time or batch, "
                f"expected one of a frame of shape {frame}"
            )
        given = math.prod(size for size in self.unflattened_size if size != -1)
        sizes = tuple(frame[place] // given if size == -1 else size for size in self.unflattened_size)
        out = (*frame[: len(frame) + place], *sizes, *frame[len(frame) + place + 1 :])
        if math.prod(sizes) != frame[place] or len(out) > 3:
            raise self._wants(
                frame, f"{self.unflattened_size} in place of dim {self.dim}, at most 3 axes in all"
            )
        if out not in self._by_shape:
            planes, rows, cols = in_planes(out)
            self._by_shape[out] = _core.Layer("reshape", planes=planes, rows=rows, cols=cols)
        cores.append(self._by_shape[out])
        return out


# ---- the numbers at other places ----------------------------------------------------------------------


class Permute(_OfFrames):
    """The last axes of a frame in another order, as ``torch.permute``.

    Parameters
    ----------
    dims : tuple of int
        For each of the last axes the one that takes its place, counted from the end: ``(-1, -2)`` transposes
        matrices, ``(-1, -3, -2)`` puts the last of three axes first.
    """

    arguments = ("dims",)

    def __init__(self, dims: Sequence[int] = (-1, -2)) -> None:
        self.dims = _several(dims)
        count = len(self.dims)
        if count > 3 or sorted(self.dims) != list(range(-count, 0)):
            raise ValueError(
                f"Permute: dims is {brief(dims)}, expected -1, -2, -3 or the first of them, once each"
            )
        order = [*range(3 - count), *(3 + dim for dim in self.dims)]
        self._core_layer = _core.Layer("permute", planes=order[0], rows=order[1], cols=order[2])

    def _rank(self, ndim: int) -> int | None:
        return len(self.dims)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) < len(self.dims):
            raise self._wants(frame, f"at least {len(self.dims)} axes")
        return (*frame[: len(frame) - len(self.dims)], *(frame[dim] for dim in self.dims))


_MODES = ("constant", "reflect", "replicate", "circular")  # in the order of trnn_pad


class Pad(_OfFrames):
    """Numbers around a frame, as ``torch.nn.functional.pad``.

    Parameters
    ----------
    pad : int or tuple of int
        Before and after the last axis, then before and after the one in front of it, and so on. An integer:
        both for the last axis. In mode ``"constant"`` they may be negative: so many numbers are cut off.
    mode : {"constant", "reflect", "replicate", "circular"}
    value : float
        In mode ``"constant"``.
    """

    arguments = ("pad", "mode", "value")
    value = Live(check_number)

    def __init__(self, pad: int | Sequence[int], mode: str = "constant", value: float = 0.0) -> None:
        given = _several(pad)
        given = given * 2 if isinstance(pad, int) else given
        if mode not in _MODES:
            raise ValueError(f"Pad: mode is {brief(mode)}, expected one of {_MODES}")
        if len(given) not in (2, 4, 6):
            raise ValueError(f"Pad: pad is {brief(pad)}, expected 2, 4 or 6 numbers: two for each axis")
        least = -(2**28) if mode == "constant" else 0
        self.pad = tuple(check_int("Pad: pad", number, least, 2**28) for number in given)
        self.mode = mode
        self.value = value
        places = ("cols_before", "cols_after", "rows_before", "rows_after", "planes_before", "planes_after")
        self._core_layer = _core.Layer(
            "padding",
            mode=_MODES.index(mode),
            value=self.value,
            **dict(zip(places, self.pad, strict=False)),
        )

    def _rank(self, ndim: int) -> int | None:
        return len(self.pad) // 2

    def _out(self, frame: Frame) -> Frame:
        out = list(frame)
        if len(frame) < len(self.pad) // 2:
            raise self._wants(frame, f"at least {len(self.pad) // 2} axes")
        for i in range(len(self.pad) // 2):
            size, (before, after) = frame[-1 - i], self.pad[2 * i : 2 * i + 2]
            most = {"reflect": size - 1, "circular": size}.get(self.mode, 2**28)
            if max(before, after) > most:
                raise self._wants(frame, f"more numbers along dim {-1 - i} for {self.mode} padding")
            if min(before, after) < -size or size + before + after < 1:
                raise self._wants(frame, f"more numbers along dim {-1 - i} than pad {self.pad} cuts off")
            out[-1 - i] = size + before + after
        return tuple(out)


# ---- reductions --------------------------------------------------------------------------------------


class _Reduction(_OfFrames):
    """One number for those along some axes of a frame."""

    _kind: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ("dim", "keepdim")
    dim: int | tuple[int, ...] | None
    keepdim: bool

    def __init__(self, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> None:
        self._reduce(dim, keepdim)

    def _reduce(self, dim: int | Sequence[int] | None, keepdim: bool, correction: int = 0) -> None:
        name = type(self).__name__
        dims = (-1, -2, -3) if dim is None else _several(dim)
        for one in dims:
            check_int(f"{name}: dim", one, -3, -1)
        if len(set(dims)) < len(dims) or not dims:
            raise ValueError(f"{name}: dim is {brief(dim)}, expected each axis once")
        self.dim = dim if dim is None or isinstance(dim, int) else tuple(dim)
        self.keepdim = check_bool(f"{name}: keepdim", keepdim)
        self._core_layer = _core.Layer(
            self._kind,
            planes=-3 in dims,
            rows=-2 in dims,
            cols=-1 in dims,
            keep=self.keepdim,
            correction=correction,
        )

    def _rank(self, ndim: int) -> int | None:
        return None if self.dim is None else -min(_several(self.dim))

    def _out(self, frame: Frame) -> Frame:
        dims = range(-len(frame), 0) if self.dim is None else _several(self.dim)
        for dim in dims:
            check_dim(type(self).__name__, dim, len(frame))
        if self.keepdim:
            return tuple(1 if place - len(frame) in dims else size for place, size in enumerate(frame))
        return tuple(size for place, size in enumerate(frame) if place - len(frame) not in dims)


class Sum(_Reduction):
    """The sum over axes of a frame, as ``torch.sum``; computed in double.

    Parameters
    ----------
    dim : int or tuple of int, optional
        The axes, counted from the end; None: all of a frame.
    keepdim : bool
        Keep them, with size 1.
    """

    _kind = "sum"


class Mean(_Reduction):
    """The mean over axes of a frame, as ``torch.mean``; see `Sum`."""

    _kind = "mean"


class Amax(_Reduction):
    """The largest number over axes of a frame, as ``torch.amax``; NaN if one is.

    Equal ones share the gradient evenly, where ``torch.max`` with an axis gives it to one of them. See `Sum`.
    """

    _kind = "amax"


class Amin(_Reduction):
    """The smallest number over axes of a frame, as ``torch.amin``; see `Amax`."""

    _kind = "amin"


class Prod(_Reduction):
    """The product over axes of a frame, as ``torch.prod``; see `Sum`."""

    _kind = "prod"


class VectorNorm(_Reduction):
    """The root of the sum of squares, as ``torch.linalg.vector_norm``; its gradient at 0 is 0. See `Sum`."""

    _kind = "vector_norm"


class LogSumExp(_Reduction):
    """The logarithm of the sum of exponentials, as ``torch.logsumexp``; see `Sum`."""

    _kind = "logsumexp"


class _Spread(_Reduction):
    """Variance or standard deviation."""

    arguments = ("dim", "correction", "keepdim")

    def __init__(
        self, dim: int | Sequence[int] | None = None, correction: int = 1, keepdim: bool = False
    ) -> None:
        self.correction = check_size(f"{type(self).__name__}: correction", correction, 0)
        self._reduce(dim, keepdim, self.correction)


class Var(_Spread):
    """The variance over axes of a frame, as ``torch.var``.

    Parameters
    ----------
    dim : int or tuple of int, optional
        As of `Sum`.
    correction : int
        The sum of squares is divided by the count of numbers less this.
    keepdim : bool
    """

    _kind = "var"


class Std(_Spread):
    """The standard deviation, as ``torch.std``; its gradient at 0 is 0. See `Var`."""

    _kind = "std"


# ---- a number ------------------------------------------------------------------------------------------


class Constant(_OfFrames):
    """A number, whatever it reads: the other side of an operation of a value and a number.

    Parameters
    ----------
    number : float
    """

    arguments = ("number",)
    number = Live(check_number)

    def __init__(self, number: float) -> None:
        self.number = number
        self._core_layer = _core.Layer("constant", number=self.number)

    def _rank(self, ndim: int) -> int | None:
        return None

    def _out(self, frame: Frame) -> Frame:
        return ()


# ---- methods of values ----------------------------------------------------------------------------------


def pad(value: Value, pad: int | Sequence[int], mode: str = "constant", fill: float = 0.0) -> Value:
    """Put numbers around the frames of a value, as ``torch.nn.functional.pad``; see `Pad`."""
    return applied(Pad(pad, mode, fill), (value,))


def _reshaped(value: Value, shape: tuple[Any, ...]) -> Value:
    one = len(shape) == 1 and isinstance(shape[0], (tuple, list))
    return applied(Reshape(shape[0] if one else shape), (value,))


def _permuted(value: Value, dims: tuple[Any, ...]) -> Value:
    one = len(dims) == 1 and isinstance(dims[0], (tuple, list))
    return applied(Permute(dims[0] if one else dims), (value,))


def _transposed(value: Value, dim0: int, dim1: int) -> Value:
    for dim in (dim0, dim1):
        check_dim("transpose", check_axis("transpose: dim", dim), len(value.frame))
    order = list(range(-len(value.frame), 0))
    order[dim0], order[dim1] = dim1, dim0
    return applied(Permute(order), (value,))


def _unsqueezed(value: Value, dim: int) -> Value:
    place = check_int("unsqueeze: dim", dim, -1 - len(value.frame), -1) + len(value.frame) + 1
    return _reshaped(value, (*value.frame[:place], 1, *value.frame[place:]))


def _squeezed(value: Value, dim: int) -> Value:
    check_dim("squeeze", check_axis("squeeze: dim", dim), len(value.frame))
    if value.frame[dim] != 1:
        return value
    place = dim + len(value.frame)
    return _reshaped(value, (*value.frame[:place], *value.frame[place + 1 :]))


operations |= {
    "reshape": _reshaped,
    "permute": _permuted,
    "transpose": _transposed,
    "unsqueeze": _unsqueezed,
    "squeeze": _squeezed,
    "sum": lambda value, *given: applied(Sum(*given), (value,)),
    "mean": lambda value, *given: applied(Mean(*given), (value,)),
    "amax": lambda value, *given: applied(Amax(*given), (value,)),
    "amin": lambda value, *given: applied(Amin(*given), (value,)),
    "prod": lambda value, *given: applied(Prod(*given), (value,)),
    "norm": lambda value, *given: applied(VectorNorm(*given), (value,)),
    "logsumexp": lambda value, *given: applied(LogSumExp(*given), (value,)),
    "var": lambda value, *given: applied(Var(*given), (value,)),
    "std": lambda value, *given: applied(Std(*given), (value,)),
}
