"""Layers that read one frame at a time, with ``torch.nn``'s names, arguments and shapes.

The recurrent ones are in recurrent.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core, calls, initial
from tinyrnn.arguments import check_axis, check_bool, check_float, check_int, check_size
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.attributes import Live
from tinyrnn.errors import ShapeError, WeightsError
from tinyrnn.net import Net
from tinyrnn.plans import reads_input
from tinyrnn.state_dicts import inferred, lacking, submodule
from tinyrnn.tensors import Array, Frame, Tensor
from tinyrnn.values import Value, applied

if TYPE_CHECKING:
    from typing_extensions import Self


class _Layer(Net):
    """A layer that is one core layer, with the same tensors."""

    _core_layer: _core.Layer
    _with_bias: bool  # the argument; `bias` itself is the tensor, as in PyTorch
    _called: ClassVar[dict[str, str]] = {}  # arguments that the core calls otherwise

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __call__(self, x: Value, hx: None = None) -> Value: ...
        @overload
        def __call__(self, x: ArrayLike, hx: None = None, *, threads: int = 1) -> Array: ...
        def __call__(self, x: Any, hx: None = None, *, threads: int = 1) -> Any: ...

    def _heed(self, name: str, value: Any) -> None:
        if hasattr(self, "_core_layer"):  # not yet in the constructor
            self._core_layer.set_argument(self._called.get(name, name), value)

    def _tensors(self) -> list[Tensor]:
        params = self._core_layer.params
        return [Tensor(name, shape, self._core_layer, i) for i, (name, shape) in enumerate(params)]

    def _cores(self) -> list[_core.Layer]:
        return [self._core_layer]

    def _reformat(self, formats: list[str]) -> None:
        for name in formats:  # as many as `_cores`
            if name != self._core_layer.format:
                self._core_layer = self._core_layer.reformatted(name)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        out = self._out(frame)
        cores.append(self._core_layer)
        return out

    def _out(self, frame: Frame) -> Frame:
        return frame

    @property
    def bias(self) -> Array | None:
        """The bias, a read-only copy; None without one."""
        for tensor in self._tensors():
            if tensor.name == "bias":
                return tensor.read()
        return None

    def config(self) -> dict[str, Any]:
        given = super().config()
        return {name: self._with_bias if name == "bias" else value for name, value in given.items()}

    def _wants(self, frame: Frame, wanted: str) -> ShapeError:
        return ShapeError(f"{type(self).__name__}: got frames of shape {frame}, expected {wanted}")


# ---- layers that look at one frame at a time ----------------------------------------------------


class Linear(_Layer):
    """``y = W x + b`` over the last axis, as ``torch.nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    """

    arguments = ("in_features", "out_features", "bias")

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = check_size("Linear: in_features", in_features)
        self.out_features = check_size("Linear: out_features", out_features)
        self._with_bias = check_bool("Linear: bias", bias)
        self._core_layer = _core.Layer(
            "linear",
            in_features=self.in_features,
            out_features=self.out_features,
            bias=check_bool("Linear: bias", bias),
        )
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(self.in_features))

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_features,)

    def _out(self, frame: Frame) -> Frame:
        if frame[-1:] != (self.in_features,):
            raise self._wants(frame, f"({self.in_features},) = (in_features,)")
        return (*frame[:-1], self.out_features)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        A convolution of kernel size 1 is a Linear too: a weight ``(out, in, 1)`` does.
        """
        given = submodule(state_dict, prefix)
        if "weight" not in given:
            raise lacking("Linear", "weight", given)
        weight = as_array(given["weight"], "Linear: weight")
        if weight.ndim == 3 and weight.shape[2] == 1:
            weight = weight[:, :, 0]
        if weight.ndim != 2:
            raise WeightsError(
                f"Linear: weight has shape {weight.shape}, expected (out_features, in_features)"
            )
        out_features, in_features = weight.shape
        return inferred(
            cls, {**given, "weight": weight}, in_features, out_features, "bias" in given, **options
        )


class Embedding(_Layer):
    """The rows of a table that indices name, as ``torch.nn.Embedding``. Only as a net's first layer.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    padding_idx : int, optional
        This row begins as zeros, and training does not change it. At inference it has no effect: the weights
        define the row.
    """

    arguments = ("num_embeddings", "embedding_dim", "padding_idx")

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        self.num_embeddings = check_size("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = check_size("Embedding: embedding_dim", embedding_dim)
        if padding_idx is not None:
            rows = self.num_embeddings
            padding_idx = check_int("Embedding: padding_idx", padding_idx, -rows, rows - 1) % rows
        self.padding_idx = padding_idx
        self._core_layer = _core.Layer(
            "embedding",
            num_embeddings=self.num_embeddings,
            embedding_dim=self.embedding_dim,
            padding=0 if padding_idx is None else 1 + padding_idx,
        )

        drawn = initial.drawn(lambda generator, name, count: generator.standard_normal(count))

        def initialise(params: list[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[int, int, Array]]:
            first = -1 if padding_idx is None else padding_idx * self.embedding_dim
            for i, place, piece in drawn(params):
                if first >= 0:
                    start, end = first - place, first - place + self.embedding_dim
                    piece[max(0, start) : max(0, end)] = 0.0
                yield i, place, piece

        self._core_layer.initialise = initialise

    def _rank(self, ndim: int) -> int | None:
        return 0

    def _index_count(self) -> int:
        return self.num_embeddings

    def _frame(self) -> tuple[int | None, ...] | None:
        return ()

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if not reads_input(cores):
            raise ShapeError(
                "Embedding: got another layer's output, expected indices: make it the net's first layer"
            )
        return super()._lay(frame, lead, cores)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) > 1:
            raise self._wants(frame, "one index or a row of them")
        return (*frame, self.embedding_dim)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`. ``options``: ``padding_idx``."""
        given, shape = sized_by("Embedding", state_dict, prefix)
        if len(shape) != 2:
            raise WeightsError(
                f"Embedding: weight has shape {shape}, expected (num_embeddings, embedding_dim)"
            )
        return inferred(cls, given, *shape, **options)


_PADDING_MODES = ("zeros", "reflect")  # in the order of trnn_pad


class Conv1d(_Layer):
    """One-dimensional convolution over ``(channels, length)``, as ``torch.nn.Conv1d``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride : int
    padding : int or {"valid", "same"}
    dilation, groups : int
    bias : bool
    padding_mode : {"zeros", "reflect"}
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
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        self.in_channels = check_size("Conv1d: in_channels", in_channels)
        self.out_channels = check_size("Conv1d: out_channels", out_channels)
        self.kernel_size = check_size("Conv1d: kernel_size", _single(kernel_size))
        self.stride = check_size("Conv1d: stride", _single(stride))
        self.dilation = check_size("Conv1d: dilation", _single(dilation))
        self.groups = check_size("Conv1d: groups", groups)
        self._with_bias = check_bool("Conv1d: bias", bias)
        check_groups("Conv1d", in_channels, out_channels, self.groups)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"Conv1d: padding_mode is {padding_mode!r}, expected 'zeros' or 'reflect'")
        self.padding_mode = padding_mode
        self.padding = (
            padding if isinstance(padding, str) else check_size("Conv1d: padding", _single(padding), 0)
        )
        if padding == "same":
            if self.stride != 1:
                raise ValueError(f"Conv1d: stride is {self.stride}, expected 1 for padding='same'")
            total = self.dilation * (self.kernel_size - 1)
            self._pad = (total // 2, total - total // 2)
        elif padding == "valid":
            self._pad = (0, 0)
        elif isinstance(self.padding, str):
            raise ValueError(f"Conv1d: padding is {padding!r}, expected an integer, 'valid' or 'same'")
        else:
            self._pad = (self.padding, self.padding)
        self._core_layer = _core.Layer(
            "conv1d",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            bias=self._with_bias,
            pad_left=self._pad[0],
            pad_right=self._pad[1],
            padding_mode=_PADDING_MODES.index(padding_mode),
        )
        fan_in = self.in_channels // self.groups * self.kernel_size
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(fan_in))

    def _rank(self, ndim: int) -> int | None:
        return 2

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_channels, None)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) != 2 or frame[0] != self.in_channels:
            raise self._wants(frame, f"({self.in_channels}, length) = (in_channels, length)")
        length, (left, right) = frame[1], self._pad
        if self.padding_mode == "reflect" and max(left, right) >= length:
            raise ShapeError(
                f"Conv1d: padding is {max(left, right)}, expected less than the length, {length}, to reflect"
            )
        span = self.dilation * (self.kernel_size - 1) + 1
        if length + left + right < span:
            raise ShapeError(
                f"Conv1d: length is {length} + {left} + {right} padding, "
                f"expected at least {span}, the kernel's"
            )
        return self.out_channels, (length + left + right - span) // self.stride + 1

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        ``options`` are what tensors cannot tell: ``stride``, ``padding``, ``dilation``, ``groups``,
        ``padding_mode``.
        """
        given, shape = convolution_of(
            "Conv1d", state_dict, prefix, "out_channels, in_channels / groups, kernel_size"
        )
        in_channels = shape[1] * int(options.get("groups", 1))
        return inferred(cls, given, in_channels, shape[0], shape[2], bias="bias" in given, **options)


def check_groups(kind: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Raise ValueError if the groups of a convolution do not share its channels out evenly."""
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ValueError(f"{kind}: {name} is {channels}, expected a multiple of groups, {groups}")


def convolution_of(
    kind: str, state_dict: Mapping[str, ArrayLike], prefix: str, axes: str
) -> tuple[Mapping[str, ArrayLike], tuple[int, ...]]:
    """The tensors of a convolution in a state_dict, and its weight's shape, whose axes are ``axes``."""
    given, shape = sized_by(kind, state_dict, prefix)
    if len(shape) != axes.count(",") + 1:
        raise WeightsError(f"{kind}: weight has shape {shape}, expected ({axes})")
    return given, shape


def sized_by(
    kind: str, state_dict: Mapping[str, ArrayLike], prefix: str, name: str = "weight"
) -> tuple[Mapping[str, ArrayLike], tuple[int, ...]]:
    """The tensors of a layer in a state_dict, and the shape of the one called ``name``."""
    given = submodule(state_dict, prefix)
    if name not in given:
        raise lacking(kind, name, given)
    return given, np.shape(given[name])


def _single(value: Any) -> Any:
    """PyTorch takes ``3`` and ``(3,)`` alike."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


# ---- normalisation ------------------------------------------------------------------------------


def _not_negative(name: str, value: Any) -> float:
    return check_float(name, value, 0.0)


def _part(name: str, value: Any) -> float:
    return check_float(name, value, 0.0, 1.0)


def _part_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _part(name, value)


def _core_momentum(momentum: float | None) -> float:
    """Convert a momentum for the core. None becomes 1: training.py averages the batches' statistics."""
    return 1.0 if momentum is None else momentum


def _norm_start() -> Any:
    ones = ("weight", "running_var")
    return initial.drawn(lambda _, name, count: np.ones(count) if name in ones else np.zeros(count))


class LayerNorm(_Layer):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes, as ``torch.nn.LayerNorm``.

    Parameters
    ----------
    normalized_shape : int or tuple of one or two int
    eps : float
    elementwise_affine, bias : bool
    """

    arguments = ("normalized_shape", "eps", "elementwise_affine", "bias")
    eps = Live(_not_negative)

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        given = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        if len(given) not in (1, 2):
            raise ValueError(f"LayerNorm: normalized_shape is {tuple(given)}, expected one or two sizes")
        self.normalized_shape = tuple(check_size("LayerNorm: normalized_shape", length) for length in given)
        self.eps = eps
        self.elementwise_affine = check_bool("LayerNorm: elementwise_affine", elementwise_affine)
        self._with_bias = check_bool("LayerNorm: bias", bias)
        self._core_layer = _core.Layer(
            "layer_norm",
            size=check_size("LayerNorm: the product of normalized_shape", math.prod(self.normalized_shape)),
            eps=self.eps,
            affine=self.elementwise_affine,
            bias=self._with_bias and self.elementwise_affine,
        )
        self._core_layer.initialise = _norm_start()

    def _tensors(self) -> list[Tensor]:
        return [tensor._replace(shape=self.normalized_shape) for tensor in super()._tensors()]

    def _rank(self, ndim: int) -> int | None:
        return len(self.normalized_shape)

    def _frame(self) -> tuple[int | None, ...] | None:
        return self.normalized_shape

    def _out(self, frame: Frame) -> Frame:
        if frame[-len(self.normalized_shape) :] != self.normalized_shape:
            raise self._wants(frame, f"{self.normalized_shape} = normalized_shape at the end")
        return frame

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`. ``options``: ``eps``."""
        given, shape = sized_by("LayerNorm", state_dict, prefix)
        return inferred(cls, given, shape, bias="bias" in given, **options)


class _BatchNorm(_Layer):
    """Normalisation of channels by the statistics of a batch, or by the running ones."""

    arguments = ("num_features", "eps", "momentum", "affine", "track_running_stats", "bias")
    _settable = ("training", "num_batches_tracked")
    _counts_batches = True
    eps = Live(_not_negative)
    momentum = Live(_part_or_none)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        bias: bool = True,
    ) -> None:
        kind = type(self).__name__
        self.num_features = check_size(f"{kind}: num_features", num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = check_bool(f"{kind}: affine", affine)
        self._with_bias = check_bool(f"{kind}: bias", bias)
        self.track_running_stats = check_bool(f"{kind}: track_running_stats", track_running_stats)
        if not self.track_running_stats:
            raise ValueError(f"{kind}: track_running_stats is False, expected True: inference needs them")
        self.num_batches_tracked = 0
        self._core_layer = _core.Layer(
            "batch_norm",
            size=self.num_features,
            eps=self.eps,
            affine=self.affine,
            bias=self._with_bias and self.affine,
            momentum=_core_momentum(self.momentum),
        )
        self._core_layer.initialise = _norm_start()

    def _heed(self, name: str, value: Any) -> None:
        super()._heed(name, _core_momentum(value) if name == "momentum" else value)

    def _set_batches_seen(self, count: int) -> None:
        self.__dict__["num_batches_tracked"] = count  # a file's, whatever it is

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`. ``options``: ``eps`` and so on."""
        given, shape = sized_by(cls.__name__, state_dict, prefix, "running_mean")
        if len(shape) != 1:
            raise WeightsError(f"{cls.__name__}: running_mean has shape {shape}, expected (num_features,)")
        affine = "weight" in given
        return inferred(cls, given, *shape, affine=affine, bias="bias" in given or not affine, **options)


class BatchNorm1d(_BatchNorm):
    """Normalisation of channels, as ``torch.nn.BatchNorm1d``.

    Training uses the batch's statistics, evaluation the running ones. With ``lengths`` only the frames within
    a row's length count.

    Reads ``(N, C)`` or ``(N, C, L)``; in a net, frames of ``(C,)`` or ``(C, L)``.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float or None
        The weight of a batch in the running statistics; None: they are the average of all batches.
    affine, bias : bool
    track_running_stats : bool
        Must be True: inference needs the running statistics.
    """

    def _rank(self, ndim: int) -> int | None:
        return 2 if ndim == 3 else 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.num_features,)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if lead != 1 and len(frame) < 2:
            raise ShapeError(
                f"BatchNorm1d: reads (N, C) or (N, C, L); a frame of shape {frame} has {lead} axes before it"
            )
        return super()._lay(frame, lead, cores)

    def _out(self, frame: Frame) -> Frame:
        if frame[:1] != (self.num_features,) or len(frame) > 2:
            raise self._wants(
                frame, f"({self.num_features},) or ({self.num_features}, length) = (num_features, ...)"
            )
        return frame


class BatchNorm2d(_BatchNorm):
    """Normalisation of the channels of pictures, as ``torch.nn.BatchNorm2d``.

    As `BatchNorm1d`, for frames of ``(C, rows, columns)``.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float or None
        The weight of a batch in the running statistics; None: they are the average of all batches.
    affine, bias : bool
    track_running_stats : bool
        Must be True: inference needs the running statistics.
    """

    def _rank(self, ndim: int) -> int | None:
        return 3

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.num_features, None, None)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) != 3 or frame[0] != self.num_features:
            raise self._wants(frame, f"({self.num_features}, rows, columns) = (num_features, ...)")
        return frame


class GroupNorm(_Layer):
    """Normalisation of groups of channels, each frame by itself, as ``torch.nn.GroupNorm``.

    Reads ``(N, C)``, ``(N, C, L)`` or ``(N, C, rows, columns)``; in a net, frames of ``(C, ...)``.

    Parameters
    ----------
    num_groups, num_channels : int
    eps : float
    affine, bias : bool
    """

    arguments = ("num_groups", "num_channels", "eps", "affine", "bias")
    eps = Live(_not_negative)

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, bias: bool = True
    ) -> None:
        self.num_groups = check_size("GroupNorm: num_groups", num_groups)
        self.num_channels = check_size("GroupNorm: num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_channels is {num_channels}, expected a multiple of num_groups, {num_groups}"
            )
        self.eps = eps
        self.affine = check_bool("GroupNorm: affine", affine)
        self._with_bias = check_bool("GroupNorm: bias", bias)
        self._core_layer = _core.Layer(
            "group_norm",
            size=self.num_channels,
            groups=self.num_groups,
            eps=self.eps,
            affine=self.affine,
            bias=self._with_bias and self.affine,
        )
        self._core_layer.initialise = _norm_start()

    def _rank(self, ndim: int) -> int | None:
        return min(max(ndim - 1, 1), 3)

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.num_channels,)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if lead != 1 and len(frame) < 2:
            raise ShapeError(
                f"GroupNorm: reads (N, C) or (N, C, ...); a frame of shape {frame} has {lead} axes before it"
            )
        return super()._lay(frame, lead, cores)

    def _out(self, frame: Frame) -> Frame:
        if frame[:1] != (self.num_channels,):
            raise self._wants(frame, f"({self.num_channels}, ...) = (num_channels, ...)")
        return frame


class _InstanceNorm(_Layer):
    """Normalisation of each channel of each frame by itself."""

    _axes: ClassVar[tuple[str, ...]]
    arguments = ("num_features", "eps", "momentum", "affine", "track_running_stats", "bias")
    eps = Live(_not_negative)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        bias: bool = True,
    ) -> None:
        kind = type(self).__name__
        self.num_features = check_size(f"{kind}: num_features", num_features)
        self.eps = eps
        self.momentum = _part(f"{kind}: momentum", momentum)
        self.affine = check_bool(f"{kind}: affine", affine)
        self._with_bias = check_bool(f"{kind}: bias", bias)
        self.track_running_stats = check_bool(f"{kind}: track_running_stats", track_running_stats)
        if self.track_running_stats:
            raise ValueError(
                f"{kind}: track_running_stats is True, expected False: a frame is normalised by its own "
                f"statistics; for running ones use a BatchNorm{len(self._axes)}d"
            )
        self._core_layer = _core.Layer(
            "group_norm",
            size=self.num_features,
            groups=self.num_features,
            eps=self.eps,
            affine=self.affine,
            bias=self._with_bias and self.affine,
        )
        self._core_layer.initialise = _norm_start()

    def _rank(self, ndim: int) -> int | None:
        return 1 + len(self._axes)

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.num_features, *(None for _ in self._axes))

    def _out(self, frame: Frame) -> Frame:
        wanted = f"({self.num_features}, {', '.join(self._axes)})"
        if len(frame) != 1 + len(self._axes) or frame[0] != self.num_features:
            raise self._wants(frame, f"{wanted} = (num_features, ...)")
        if math.prod(frame[1:]) == 1:
            raise self._wants(frame, f"{wanted} with two numbers a channel or more: one has no variance")
        return frame


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each frame ``(C, length)``, as ``torch.nn.InstanceNorm1d``.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float
        Accepted, changes nothing.
    affine : bool
    track_running_stats : bool
        Must be False.
    bias : bool
    """

    _axes = ("length",)


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each frame ``(C, rows, columns)``, as ``torch.nn.InstanceNorm2d``.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float
        Accepted, changes nothing.
    affine : bool
    track_running_stats : bool
        Must be False.
    bias : bool
    """

    _axes = ("rows", "columns")


# ---- what changes no number outside training ----------------------------------------------------


class Dropout(_Layer):
    """Dropout, as ``torch.nn.Dropout``.

    In training a fraction ``p`` of the numbers becomes zero, and the others grow by ``1 / (1 - p)``.
    At inference nothing changes.

    Parameters
    ----------
    p : float
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("p", "inplace")
    p = Live(_part)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        self.inplace = check_bool("Dropout: inplace", inplace)
        self.p = p
        self._core_layer = _core.Layer("dropout", p=self.p)


def _axes(frame: Frame, lead: int) -> int:
    """The number of axes that ``dim`` counts: a frame of rank 2 is (C, L) of PyTorch's (N, C, L)."""
    return (min(lead, 1) if len(frame) > 1 else lead) + len(frame)


class Flatten(_Layer):
    """Axes ``start_dim`` to ``end_dim`` as one, as ``torch.nn.Flatten``.

    In a net it flattens a frame, ``(C, L)`` to ``(C * L,)`` and ``(C, rows, columns)`` likewise; time and
    batch cannot be flattened there.

    Parameters
    ----------
    start_dim, end_dim : int
    """

    arguments = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = check_axis("Flatten: start_dim", start_dim)
        self.end_dim = check_axis("Flatten: end_dim", end_dim)
        self._core_layer = _core.Layer("flatten")
        self._unchanged = _core.Layer("identity")

    def _rank(self, ndim: int) -> int | None:
        return 3 if ndim > 4 else 2 if ndim > 2 else 1  # (C, L) or a picture at the end of what it flattens

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        ndim = _axes(frame, lead)
        first, last = self.start_dim % ndim, self.end_dim % ndim
        if ndim - len(frame) < first < last:
            raise ShapeError(
                f"Flatten: axes {self.start_dim} to {self.end_dim} are a part of a frame of shape {frame}, "
                f"expected all of it, from {ndim - len(frame)} on"
            )
        if first < last and (first < ndim - len(frame) or last != ndim - 1):
            raise ShapeError(
                f"Flatten: axes {self.start_dim} to {self.end_dim} reach beyond a frame of shape {frame}, "
                "into time or batch, which a net keeps apart"
            )
        if first >= last:
            cores.append(self._unchanged)
            return frame
        cores.append(self._core_layer)
        return (math.prod(frame),)

    def __call__(self, x: Any, hx: None = None, *, threads: int = 1, **options: Any) -> Any:
        """Reshape any array."""
        if isinstance(x, Value):
            return applied(self, (x,))
        if hx is not None:
            raise calls.misplaced(self)
        if options:
            calls.check_stateless(self, **{"lengths": None, "state": None, "last": False, **options})
        if self.training:
            return super().__call__(x, threads=threads)
        array = np.atleast_1d(as_floats(x, "Flatten: input"))
        if not (-array.ndim <= self.start_dim < array.ndim and -array.ndim <= self.end_dim < array.ndim):
            raise ShapeError(
                f"Flatten: input has shape {array.shape}, expected axes {self.start_dim} to {self.end_dim}"
            )
        first, last = self.start_dim % array.ndim, self.end_dim % array.ndim
        if first > last:
            raise ValueError(
                f"Flatten: start_dim is {self.start_dim}, expected at most end_dim, {self.end_dim}"
            )
        middle = math.prod(array.shape[first : last + 1])
        return array.reshape(*array.shape[:first], middle, *array.shape[last + 1 :])


class _Softmax(_Layer):
    """Softmax or its logarithm over one axis of a frame."""

    _kind: str
    arguments = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        name = type(self).__name__
        self.dim = None if dim is None else check_axis(f"{name}: dim", dim)
        self._over_cols = _core.Layer(self._kind)
        self._over_rows = _core.Layer(self._kind, over_rows=1)

    def _cores(self) -> list[_core.Layer]:
        return []

    def _tensors(self) -> list[Tensor]:
        return []

    def _rank(self, ndim: int) -> int | None:
        """A frame is (C, L) where the axis is the C of (N, C, L): a tape would take it for the batch else."""
        return 2 if ndim == 3 and self._axis(ndim) == 1 else None

    def _axis(self, ndim: int) -> int:
        """The axis; without ``dim`` PyTorch's old choice, 0 for one or three axes, else 1."""
        dim = (0 if ndim in (0, 1, 3) else 1) if self.dim is None else self.dim
        if not -max(ndim, 1) <= dim < max(ndim, 1):
            raise ShapeError(f"{type(self).__name__}: dim is {dim}, expected an axis of {ndim}")
        return dim % max(ndim, 1)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        ndim = _axes(frame, lead)
        over = self._axis(ndim)
        if over == ndim - 1 and frame:
            cores.append(self._over_cols)
        elif over == ndim - 2 and len(frame) == 2:
            cores.append(self._over_rows)
        else:
            raise ShapeError(
                f"{type(self).__name__}: dim {self.dim} of {ndim} axes is time or batch, "
                f"expected one of a frame of shape {frame}"
            )
        return frame

    def __call__(self, x: Any, hx: None = None, *, threads: int = 1, **options: Any) -> Any:
        """Apply to any axis of any array."""
        if isinstance(x, Value):
            return applied(self, (x,))
        if hx is not None:
            raise calls.misplaced(self)
        if options:
            calls.check_stateless(self, **{"lengths": None, "state": None, "last": False, **options})
        if self.training:
            return super().__call__(x, threads=threads)
        array = x if _core.is_floats(x) else as_floats(x, f"{type(self).__name__}: input")
        over = self._axis(array.ndim)
        if array.ndim == 0:
            return np.zeros_like(array) if self._kind == "log_softmax" else np.ones_like(array)
        if over == array.ndim - 1:
            return calls.run_cores(self, array, over, [self._over_cols], array.shape[-1:], threads)
        moved = np.ascontiguousarray(np.moveaxis(array, over, -1))
        y = calls.run_cores(self, moved, moved.ndim - 1, [self._over_cols], moved.shape[-1:], threads)
        return np.moveaxis(y, -1, over)


class Softmax(_Softmax):
    """``exp(x) / sum(exp(x))`` over an axis, as ``torch.nn.Softmax``.

    Parameters
    ----------
    dim : int, optional
    """

    _kind = "softmax"


class LogSoftmax(_Softmax):
    """``x - log(sum(exp(x)))`` over an axis, as ``torch.nn.LogSoftmax``.

    Parameters
    ----------
    dim : int, optional
    """

    _kind = "log_softmax"
