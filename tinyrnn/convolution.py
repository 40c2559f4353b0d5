"""Convolutions within a frame beside `Conv1d`: over pictures, and transposed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core, initial
from tinyrnn.arguments import check_bool, check_int, check_size
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _Layer, _single, check_groups, convolution_of
from tinyrnn.state_dicts import inferred
from tinyrnn.tensors import Frame, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

Size2d = int | tuple[int, int]

AXES = ("rows", "columns")


def check_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Check the sizes of rows and of columns; one number stands for both."""
    given = value if isinstance(value, (tuple, list)) else (value, value)
    if len(given) != 2:
        raise ValueError(f"{name} is {value!r}, expected one size, or those of rows and columns")
    rows, cols = (check_size(name, size, least) for size in given)
    return rows, cols


def _check_zeros(kind: str, padding_mode: Any, instead: str) -> None:
    if padding_mode != "zeros":
        raise ValueError(f"{kind}: padding_mode is {padding_mode!r}, expected 'zeros': {instead}")


class Conv2d(_Layer):
    """Two-dimensional convolution over ``(channels, rows, columns)``, as ``torch.nn.Conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride : int or tuple of two int
    padding : int, tuple of two int, or {"valid", "same"}
    dilation : int or tuple of two int
    groups : int
    bias : bool
    padding_mode : {"zeros"}
    """

    arguments = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "bias",
        "padding_mode",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d | str = 0,
        dilation: Size2d = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        self.in_channels = check_size("Conv2d: in_channels", in_channels)
        self.out_channels = check_size("Conv2d: out_channels", out_channels)
        self.kernel_size = check_pair("Conv2d: kernel_size", kernel_size)
        self.stride = check_pair("Conv2d: stride", stride)
        self.dilation = check_pair("Conv2d: dilation", dilation)
        self.groups = check_size("Conv2d: groups", groups)
        self._with_bias = check_bool("Conv2d: bias", bias)
        check_groups("Conv2d", self.in_channels, self.out_channels, self.groups)
        _check_zeros("Conv2d", padding_mode, "pad the pictures before the net reads them")
        self.padding_mode = padding_mode
        self.padding = padding if isinstance(padding, str) else check_pair("Conv2d: padding", padding, 0)
        self._pads = self._sides()
        self._core_layer = _core.Layer(
            "conv2d",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_rows=self.kernel_size[0],
            kernel_size=self.kernel_size[1],
            stride_rows=self.stride[0],
            stride=self.stride[1],
            dilation_rows=self.dilation[0],
            dilation=self.dilation[1],
            groups=self.groups,
            bias=self._with_bias,
            pad_top=self._pads[0][0],
            pad_bottom=self._pads[0][1],
            pad_left=self._pads[1][0],
            pad_right=self._pads[1][1],
        )
        fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(fan_in))

    def _sides(self) -> list[tuple[int, int]]:
        """The padding before and behind the rows, and the columns."""
        if self.padding == "same":
            if self.stride != (1, 1):
                raise ValueError(f"Conv2d: stride is {self.stride}, expected 1 for padding='same'")
            totals = [step * (taps - 1) for step, taps in zip(self.dilation, self.kernel_size, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        if self.padding == "valid":
            return [(0, 0), (0, 0)]
        if isinstance(self.padding, str):
            raise ValueError(
                f"Conv2d: padding is {self.padding!r}, expected an integer, two integers, 'valid' or 'same'"
            )
        return [(pad, pad) for pad in self.padding]

    def _rank(self, ndim: int) -> int | None:
        return 3

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_channels, None, None)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) != 3 or frame[0] != self.in_channels:
            raise self._wants(frame, f"({self.in_channels}, rows, columns) = (in_channels, rows, columns)")
        sizes = []
        for axis, name in enumerate(AXES):
            before, behind = self._pads[axis]
            span = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            room = frame[1 + axis] + before + behind - span
            if room < 0:
                raise ShapeError(
                    f"Conv2d: got {frame[1 + axis]} + {before} + {behind} padding {name}, "
                    f"expected at least {span}, the kernel's"
                )
            sizes.append(room // self.stride[axis] + 1)
        return (self.out_channels, *sizes)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        ``options`` are what tensors cannot tell: ``stride``, ``padding``, ``dilation``, ``groups``.
        """
        given, shape = convolution_of(
            "Conv2d", state_dict, prefix, "out_channels, in_channels / groups, rows, columns"
        )
        in_channels = shape[1] * int(options.get("groups", 1))
        return inferred(cls, given, in_channels, shape[0], shape[2:], bias="bias" in given, **options)


class _Spread(Tensor):
    """The weight of a transposed convolution.

    PyTorch's shape is ``(in, out / groups, kernel)``. The core has a row for each output channel and tap, and
    the input channels of its group as columns.
    """

    def shaped(self, array: NDArray[Any]) -> NDArray[Any]:
        inputs, outputs, kernel = self.shape
        of_group = array.reshape(-1, outputs, kernel, array.shape[-1])
        return np.ascontiguousarray(of_group.transpose(0, 3, 1, 2)).reshape(inputs, outputs, kernel)

    def unshaped(self, array: NDArray[Any]) -> NDArray[Any]:
        rows, columns = self.core.params[self.param][1]
        of_group = array.reshape(-1, columns, *self.shape[1:])
        return np.ascontiguousarray(of_group.transpose(0, 2, 3, 1)).reshape(rows, columns)


class ConvTranspose1d(_Layer):
    """One-dimensional transposed convolution over ``(channels, length)``, as ``torch.nn.ConvTranspose1d``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups : int
    bias : bool
    dilation : int
    padding_mode : {"zeros"}
    """

    arguments = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "output_padding",
        "groups",
        "bias",
        "dilation",
        "padding_mode",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] = 0,
        output_padding: int | tuple[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int] = 1,
        padding_mode: str = "zeros",
    ) -> None:
        kind = "ConvTranspose1d"
        self.in_channels = check_size(f"{kind}: in_channels", in_channels)
        self.out_channels = check_size(f"{kind}: out_channels", out_channels)
        self.kernel_size = check_size(f"{kind}: kernel_size", _single(kernel_size))
        self.stride = check_size(f"{kind}: stride", _single(stride))
        self.padding = check_size(f"{kind}: padding", _single(padding), 0)
        self.dilation = check_size(f"{kind}: dilation", _single(dilation))
        most = max(self.stride, self.dilation) - 1
        self.output_padding = check_int(f"{kind}: output_padding", _single(output_padding), 0, most)
        self.groups = check_size(f"{kind}: groups", groups)
        self._with_bias = check_bool(f"{kind}: bias", bias)
        check_groups(kind, self.in_channels, self.out_channels, self.groups)
        _check_zeros(kind, padding_mode, "PyTorch has no other either")
        self.padding_mode = padding_mode
        self._core_layer = _core.Layer(
            "conv_transpose1d",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            bias=self._with_bias,
            padding=self.padding,
            output_padding=self.output_padding,
        )
        fan_in = self.out_channels // self.groups * self.kernel_size  # as PyTorch counts it
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(fan_in))

    def _tensors(self) -> list[Tensor]:
        shape = (self.in_channels, self.out_channels // self.groups, self.kernel_size)
        weight, *bias = super()._tensors()
        return [_Spread(*weight._replace(shape=shape)), *bias]

    def _rank(self, ndim: int) -> int | None:
        return 2

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_channels, None)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) != 2 or frame[0] != self.in_channels:
            raise self._wants(frame, f"({self.in_channels}, length) = (in_channels, length)")
        spread = (frame[1] - 1) * self.stride + self.dilation * (self.kernel_size - 1) + 1
        length = spread - 2 * self.padding + self.output_padding
        if length < 1:
            raise ShapeError(
                f"ConvTranspose1d: padding is {self.padding}, expected less than half of {spread}, "
                f"what a length of {frame[1]} spreads to"
            )
        return self.out_channels, length

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        ``options`` are what tensors cannot tell: ``stride``, ``padding``, ``output_padding``, ``groups``,
        ``dilation``.
        """
        given, shape = convolution_of(
            "ConvTranspose1d", state_dict, prefix, "in_channels, out_channels / groups, kernel_size"
        )
        out_channels = shape[1] * int(options.get("groups", 1))
        return inferred(cls, given, shape[0], out_channels, shape[2], bias="bias" in given, **options)
