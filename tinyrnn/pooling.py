"""Pooling within a frame: maxima and means of windows."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyrnn import _core
from tinyrnn.arguments import check_bool, check_size
from tinyrnn.convolution import AXES, Size2d, check_pair
from tinyrnn.errors import ShapeError
from tinyrnn.layers import _Layer, _single
from tinyrnn.tensors import Frame


class _Pool(_Layer):
    """Windows over the last one or two axes of a frame."""

    _dims: ClassVar[int]

    def _rank(self, ndim: int) -> int | None:
        return 1 + self._dims

    def _frame(self) -> tuple[int | None, ...] | None:
        return (None,) * (1 + self._dims)

    def _checked(self, frame: Frame) -> Frame:
        """The axes that are pooled."""
        if len(frame) != 1 + self._dims:
            raise self._wants(frame, "(channels, length)" if self._dims == 1 else "(channels, rows, columns)")
        return frame[1:]

    def _refuse_indices(self, return_indices: Any) -> bool:
        kind = type(self).__name__
        if check_bool(f"{kind}: return_indices", return_indices):
            raise ValueError(f"{kind}: return_indices is True, expected False: a layer writes one value")
        return False


class _Windows(_Pool):
    """Windows of a fixed size."""

    _kind: ClassVar[str]
    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    _sizes: dict[str, Any]  # of rows and of columns, as the core calls them

    def _take(self, sizes: dict[str, Any], ceil_mode: Any, more: dict[str, Any]) -> None:
        """Check and keep the sizes of windows, by their arguments' names, and make the core layer."""
        kind = type(self).__name__
        if sizes["stride"] is None:
            sizes["stride"] = sizes["kernel_size"]
        core: dict[str, Any] = {"dilation_rows": 1, "dilation_cols": 1}
        for name, value in sizes.items():
            least = 0 if name == "padding" else 1
            if self._dims == 1:
                kept: Any = check_size(f"{kind}: {name}", _single(value), least)
                pair = (least, kept)
            else:
                kept = pair = check_pair(f"{kind}: {name}", value, least)
            setattr(self, name, kept)
            short = {"kernel_size": "kernel", "padding": "pad"}.get(name, name)
            core[f"{short}_rows"], core[f"{short}_cols"] = pair
        self._sizes = core
        for axis in ("rows", "cols"):
            span = self._span(axis)
            if 2 * core[f"pad_{axis}"] > span:
                raise ValueError(
                    f"{kind}: padding is {core[f'pad_{axis}']}, expected at most half of the kernel's {span}"
                )
        self.ceil_mode = check_bool(f"{kind}: ceil_mode", ceil_mode)
        self._core_layer = _core.Layer(self._kind, ceil_mode=self.ceil_mode, **core, **more)

    def _span(self, axis: str) -> int:
        span: int = (self._sizes[f"kernel_{axis}"] - 1) * self._sizes[f"dilation_{axis}"] + 1
        return span

    def _out(self, frame: Frame) -> Frame:
        sizes = self._checked(frame)
        axes = ("rows", "cols")[-len(sizes) :]
        return (frame[0], *(self._length(axis, size) for axis, size in zip(axes, sizes, strict=True)))

    def _length(self, axis: str, size: int) -> int:
        """The windows over an axis of this size."""
        stride, pad = self._sizes[f"stride_{axis}"], self._sizes[f"pad_{axis}"]
        room = size + 2 * pad - self._span(axis)
        count: int = (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        if self.ceil_mode and (count - 1) * stride >= size + pad:
            count -= 1  # a window that begins beyond the numbers
        if count < 1:
            what = "length" if self._dims == 1 else AXES[axis == "cols"]
            raise ShapeError(
                f"{type(self).__name__}: got {size} + {2 * pad} padding as {what}, "
                f"expected at least {self._span(axis)}, the kernel's"
            )
        return count


class _MaxPool(_Windows):
    _kind = "max_pool"

    arguments = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.return_indices = self._refuse_indices(return_indices)
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        self._take(sizes, ceil_mode, {})


class MaxPool1d(_MaxPool):
    """The largest number of each window over the length of ``(channels, length)``, as ``torch.nn.MaxPool1d``.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
        By default kernel_size.
    padding, dilation : int
    return_indices : bool
        Must be False.
    ceil_mode : bool
    """

    _dims = 1


class MaxPool2d(_MaxPool):
    """The largest number of each window over ``(channels, rows, columns)``, as ``torch.nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size : int or tuple of two int
    stride : int or tuple of two int, optional
        By default kernel_size.
    padding, dilation : int or tuple of two int
    return_indices : bool
        Must be False.
    ceil_mode : bool
    """

    _dims = 2


class AvgPool1d(_Windows):
    """The mean of each window over the length of ``(channels, length)``, as ``torch.nn.AvgPool1d``.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
        By default kernel_size.
    padding : int
    ceil_mode : bool
    count_include_pad : bool
        Whether the zeros of the padding count.
    """

    _dims = 1
    _kind = "avg_pool"
    arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] | None = None,
        padding: int | tuple[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.count_include_pad = check_bool("AvgPool1d: count_include_pad", count_include_pad)
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        self._take(sizes, ceil_mode, {"count_include_pad": self.count_include_pad})


class AvgPool2d(_Windows):
    """The mean of each window over ``(channels, rows, columns)``, as ``torch.nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size : int or tuple of two int
    stride : int or tuple of two int, optional
        By default kernel_size.
    padding : int or tuple of two int
    ceil_mode : bool
    count_include_pad : bool
        Whether the zeros of the padding count.
    divisor_override : int, optional
        Divide by it instead of the count.
    """

    _dims = 2
    _kind = "avg_pool"
    arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self,
        kernel_size: Size2d,
        stride: Size2d | None = None,
        padding: Size2d = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.count_include_pad = check_bool("AvgPool2d: count_include_pad", count_include_pad)
        if divisor_override is not None:
            divisor_override = check_size("AvgPool2d: divisor_override", divisor_override)
        self.divisor_override = divisor_override
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        more = {"count_include_pad": self.count_include_pad, "divisor": divisor_override or 0}
        self._take(sizes, ceil_mode, more)


class _Adaptive(_Pool):
    """A given number of windows, of about the same size."""

    _kind: ClassVar[str]
    output_size: Any
    _of_axes: list[int | None]

    def _take(self, output_size: Any) -> None:
        kind = type(self).__name__
        given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self._dims
        if len(given) != self._dims:
            wanted = "one size" if self._dims == 1 else "one size, or those of rows and columns"
            raise ValueError(f"{kind}: output_size is {output_size!r}, expected {wanted}")
        if self._dims == 1 and given == (None,):
            raise TypeError(f"{kind}: output_size is None, expected an integer")
        sizes = [None if size is None else check_size(f"{kind}: output_size", size) for size in given]
        self.output_size = sizes[0] if self._dims == 1 else tuple(sizes)
        self._of_axes = sizes
        rows, cols = [None, *sizes][-2:]
        self._core_layer = _core.Layer(self._kind, rows=rows or 0, cols=cols or 0)

    def _out(self, frame: Frame) -> Frame:
        sizes = zip(self._of_axes, self._checked(frame), strict=True)
        return (frame[0], *(size if wanted is None else wanted for wanted, size in sizes))


class _AdaptiveAvgPool(_Adaptive):
    _kind = "adaptive_avg_pool"
    arguments = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        self._take(output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of ``output_size`` windows over the length, as ``torch.nn.AdaptiveAvgPool1d``.

    Parameters
    ----------
    output_size : int
        1 for the mean of each channel.
    """

    _dims = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of windows over rows and columns, as ``torch.nn.AdaptiveAvgPool2d``.

    Parameters
    ----------
    output_size : int or tuple of two int or None
        1 for the mean of each channel; None keeps the size of an axis.
    """

    _dims = 2


class _AdaptiveMaxPool(_Adaptive):
    _kind = "adaptive_max_pool"
    arguments = ("output_size", "return_indices")

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.return_indices = self._refuse_indices(return_indices)
        self._take(output_size)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The maxima of ``output_size`` windows over the length, as ``torch.nn.AdaptiveMaxPool1d``.

    Parameters
    ----------
    output_size : int
        1 for the maximum of each channel.
    return_indices : bool
        Must be False.
    """

    _dims = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The maxima of windows over rows and columns, as ``torch.nn.AdaptiveMaxPool2d``.

    Parameters
    ----------
    output_size : int or tuple of two int or None
        1 for the maximum of each channel; None keeps the size of an axis.
    return_indices : bool
        Must be False.
    """

    _dims = 2
