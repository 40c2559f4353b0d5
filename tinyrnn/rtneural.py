"""Nets from JSON files: RTNeural's layers, and the networks of guitar amplifiers' trainers.

RTNeural has Keras' layouts: a matrix is (inputs, outputs), the gates of a GRU are z r h. The trainers have
PyTorch's, and one net: a recurrent layer, a Linear layer, and the first `skip` numbers of the input added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyrnn.activations import ELU, PReLU, ReLU, Sigmoid, Tanh
from tinyrnn.errors import LoadError
from tinyrnn.frames import Reshape
from tinyrnn.graph import Graph
from tinyrnn.layers import BatchNorm1d, Linear, Softmax
from tinyrnn.net import Net
from tinyrnn.recurrent import GRU, LSTM, RNN
from tinyrnn.sequential import Sequential
from tinyrnn.temporal import TimeConv1d
from tinyrnn.values import Input, Value
from tinyrnn.weights.jsons import Layers, Modeled, Trained
from tinyrnn.weights.spec import MEMORY_FLOOR, Array, shown

if TYPE_CHECKING:
    from tinyrnn.weights import WeightsFile

_ACTIVATIONS: dict[str, Callable[[], Net]] = {
    "elu": ELU,
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "softmax": lambda: Softmax(-1),
    "tanh": Tanh,
}
_RECURRENT: dict[str, tuple[type[Net], int]] = {"LSTM": (LSTM, 4), "GRU": (GRU, 3), "RNN": (RNN, 1)}
MOST_LAYERS = 1000
MOST_DECIBELS = 200


def build_net(file: WeightsFile) -> Net:
    """Build the net that a JSON file describes.

    Raises
    ------
    LoadError
        If it has layers or options that are not read, or if its arrays do not fit one another.
    """
    if isinstance(file.net, Layers):
        return _Rows(file, file.net).net()
    if isinstance(file.net, Modeled):
        return _modeled(file, file.net)
    assert isinstance(file.net, Trained)
    return _trained(file, file.net.data)


def _wired(size: int, layers: dict[str, Any], skip: int, gains: tuple[float, float] = (1.0, 1.0)) -> Net:
    """Layers one after the other, with the first numbers of the input added to the output."""
    if not skip and gains == (1.0, 1.0):
        return Sequential(layers)
    x = Input(size)
    scaled: Value = x if gains[0] == 1 else x * gains[0]
    y = scaled
    for name, layer in layers.items():
        y = layer(y).named(name)
    if skip:
        y = y + scaled[..., :skip]
    return Graph(x, y if gains[1] == 1 else y * gains[1])


# ---- the trainers' net --------------------------------------------------------------------------


def _trained(file: WeightsFile, data: dict[str, Any]) -> Net:
    if data.get("model") != "SimpleRNN":
        raise file.error(
            f"model: got {_told(data.get('model'))}, expected 'SimpleRNN', a recurrent layer and a "
            "Linear layer; tinyrnn.load_weights reads the tensors of any"
        )
    unit = data.get("unit_type")
    if not isinstance(unit, str) or unit not in _RECURRENT:
        raise file.error(f"unit_type: got {_told(unit)}, expected one of {', '.join(_RECURRENT)}")
    kind, gates = _RECURRENT[unit]
    inputs, hidden, outputs, levels = (
        _size(file, name, data.get(name))
        for name in ("input_size", "hidden_size", "output_size", "num_layers")
    )
    skip = data.get("skip", 0)
    if type(skip) not in (int, bool) or not 0 <= skip <= inputs or skip not in (0, outputs):
        raise file.error(
            f"skip: got {_told(skip)}, expected 0, or output_size, {outputs}, and at most "
            f"input_size, {inputs}"
        )
    weights = file.weights()
    bias = data.get("bias_fl", True)
    if type(bias) not in (int, bool):
        raise file.error(f"bias_fl: got {_told(bias)}, expected true or false")
    wanted = {"rec.weight_ih_l0": (gates * hidden, inputs), "lin.weight": (outputs, hidden)}
    wanted[f"rec.weight_hh_l{levels - 1}"] = (gates * hidden, hidden)
    for name, shape in wanted.items():  # before a layer takes memory for them
        found = weights[name].shape if name in weights else "none"
        if found != shape:
            raise file.error(f"{name}: got shape {found}, expected {shape}")
    if levels > len(weights):
        raise file.error(f"num_layers: got {levels}, but the file has {len(weights)} tensors")
    rec = kind(inputs, hidden, num_layers=levels)
    net = _wired(inputs, {"rec": rec, "lin": Linear(hidden, outputs, bias=bool(bias))}, int(skip))
    try:
        net.load_state_dict(weights)
    except ValueError as error:
        raise file.error(f"state_dict: {shown(' '.join(str(error).split()), 1000)}") from None
    return net


def _modeled(file: WeightsFile, sizes: Modeled) -> Net:
    """The LSTM of Neural Amp Modeler, which begins with states of its own."""
    inputs, hidden, levels = sizes
    weights = dict(file.weights())
    starts = {key: [weights.pop(f"lstm.{key}_l{i}") for i in range(levels)] for key in ("h0", "c0")}
    net = _wired(inputs, {"lstm": LSTM(inputs, hidden, levels), "head": Linear(hidden, 1)}, 0)
    net.load_state_dict(weights)
    try:
        net.initial_state = {f"lstm.{key[0]}": np.stack(arrays) for key, arrays in starts.items()}
    except ValueError as error:
        raise file.error(f"weights: {error}") from None
    return net


def _size(file: WeightsFile, what: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise file.error(f"{what}: got {_told(value)}, expected an integer of at least 1")
    return value


def _told(value: object) -> str:
    return shown(repr(value)) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


# ---- RTNeural's layers --------------------------------------------------------------------------


class _Rows:
    """The layers of a file, made one after the other: each gives the size that the next reads."""

    def __init__(self, file: WeightsFile, described: Layers) -> None:
        self.file = file
        self.described = described
        self.arrays = file.weights()
        self.label = "in_shape"
        self.size = self._last(described.entries.get("in_shape"))
        self.first = self.size
        self.layers: dict[str, Net] = {}
        self.tensors: dict[str, Array] = {}

    def error(self, text: str) -> LoadError:
        return self.file.error(f"{self.label}: {text}")

    def net(self) -> Net:
        self.label = "layers"
        if not 1 <= len(self.described.layers) <= MOST_LAYERS:
            raise self.error(f"got {len(self.described.layers)}, expected 1 to {MOST_LAYERS}")
        for number, layer in enumerate(self.described.layers):
            self._add(number, layer)
        entries = self.described.entries
        skip = entries.get("in_skip", 0)
        self.label = "in_skip"
        if type(skip) not in (int, bool) or skip not in (0, 1) or (skip and self.size != 1):
            raise self.error(f"got {_told(skip)} for an output of {self.size}, expected 0, or 1 for one of 1")
        gains = self._gain("in_gain"), self._gain("out_gain")
        if not self.layers:
            raise self.file.error("layers: expected at least one that computes")
        net = _wired(self.first, self.layers, int(skip), gains)
        net.load_state_dict(self.tensors)
        return net

    def _gain(self, name: str) -> float:
        """A gain in decibels as a factor."""
        decibels = self.described.entries.get(name, 0.0)
        self.label = name
        if type(decibels) not in (int, float) or not abs(decibels) <= MOST_DECIBELS:
            raise self.error(f"got {_told(decibels)}, expected at most {MOST_DECIBELS} decibels")
        return float(np.float32(10 ** (decibels / 20)))

    def _last(self, shape: object) -> int:
        """The last size of a shape, that of a frame; an older file has two or three before it."""
        if not isinstance(shape, list) or not 1 <= len(shape) <= 3:
            raise self.error("expected a shape of one to three sizes, of frames of one axis")
        return _size(self.file, self.label, shape[-1])

    def _add(self, number: int, layer: dict[str, Any]) -> None:
        kind = layer.get("type")
        self.label = f"layers.{number} ({_told(kind)})"
        makers = {
            "activation": self._activation,
            "batchnorm": self._batchnorm,
            "conv1d": self._conv1d,
            "dense": self._dense,
            "gru": self._gru,
            "lstm": self._lstm,
            "prelu": self._prelu,
            "time-distributed-dense": self._dense,
        }
        if not isinstance(kind, str) or kind not in makers:
            raise self.error(f"cannot be read, expected one of {', '.join(makers)}")
        size = self._last(layer.get("shape"))
        arrays = [self.arrays[f"layers.{number}.weights.{i}"] for i in range(self.described.arrays[number])]
        makers[kind](layer, arrays, size)
        if self.size != size:
            raise self.error(f"its weights give {self.size} numbers, but its shape says {size}")
        activation = layer.get("activation") or ""
        if kind in ("lstm", "gru"):
            if activation not in ("", "tanh"):
                raise self.error(f"activation: got {_told(activation)}, expected tanh, as RTNeural has it")
        elif activation:
            if not isinstance(activation, str) or activation not in _ACTIVATIONS:
                raise self.error(
                    f"activation: got {_told(activation)}, expected one of {', '.join(_ACTIVATIONS)}"
                )
            self._put(_ACTIVATIONS[activation]())

    def _put(self, layer: Net, **tensors: Array) -> None:
        name = str(len(self.layers))
        self.layers[name] = layer
        self.tensors |= {f"{name}.{own}": np.ascontiguousarray(array) for own, array in tensors.items()}

    def _fit(self, arrays: list[Array], *shapes: tuple[int, ...]) -> None:
        for i, shape in enumerate(shapes):
            got = arrays[i].shape if i < len(arrays) else "none"
            if got != shape:
                raise self.error(f"weights.{i}: got shape {got}, expected {shape}")
        if len(arrays) != len(shapes):
            raise self.error(f"got {len(arrays)} arrays of weights, expected {len(shapes)}")

    def _activation(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        self._fit(arrays)

    def _dense(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        self._fit(arrays, (self.size, size), *[(size,)] * (len(arrays) > 1))
        self._put(
            Linear(self.size, size, bias=len(arrays) > 1),
            weight=arrays[0].T,
            **({"bias": arrays[1]} if len(arrays) > 1 else {}),
        )
        self.size = size

    def _conv1d(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        kernel, dilation, groups = (
            _size(
                self.file, f"{self.label}: {name}", value[-1] if isinstance(value, list) and value else value
            )
            for name, value in ((name, layer.get(name, 1)) for name in ("kernel_size", "dilation", "groups"))
        )
        for name in ("stride", "strides"):
            if layer.get(name, 1) not in (1, [1]):
                raise self.error(f"{name}: got another than 1")
        if self.size % groups or size % groups:
            raise self.error(f"groups: got {groups}, expected a divisor of {self.size} and of {size}")
        self._fit(arrays, (kernel, self.size // groups, size), (size,))
        if (kernel - 1) * dilation * self.size * 4 > MEMORY_FLOOR:
            raise self.error(
                f"dilation: got {shown(str(dilation))}, which needs more than {MEMORY_FLOOR} bytes"
            )
        dilation = dilation if kernel > 1 else 1
        conv = TimeConv1d(self.size, size, kernel, dilation=dilation, groups=groups)
        self._put(conv, weight=arrays[0].transpose(2, 1, 0), bias=arrays[1])
        self.size = size

    def _lstm(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        self._fit(arrays, (self.size, 4 * size), (size, 4 * size), (4 * size,))
        weight, recurrent, bias = arrays
        tensors = {"weight_ih_l0": weight.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias}
        self._put(LSTM(self.size, size), **tensors, bias_hh_l0=np.zeros_like(bias))
        self.size = size

    def _gru(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        self._fit(arrays, (self.size, 3 * size), (size, 3 * size), (2, 3 * size))
        order = np.r_[size : 2 * size, :size, 2 * size : 3 * size]  # r z n from z r h
        weight, recurrent, bias = (array[..., order] for array in arrays)
        tensors = {"weight_ih_l0": weight.T, "weight_hh_l0": recurrent.T}
        self._put(GRU(self.size, size), **tensors, bias_ih_l0=bias[0], bias_hh_l0=bias[1])
        self.size = size

    def _prelu(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        channels = arrays[0].shape[-1] if arrays and arrays[0].ndim == 2 else 0
        self._fit(arrays, (1, 1 if channels == 1 else self.size))
        self._per_channel(PReLU(channels), weight=arrays[0][0])

    def _batchnorm(self, layer: dict[str, Any], arrays: list[Array], size: int) -> None:
        names = ["weight", "bias"] * (len(arrays) > 2) + ["running_mean", "running_var"]
        self._fit(arrays, *[(self.size,)] * len(names))
        eps: Any = layer.get("epsilon")
        if type(eps) not in (int, float) or not 0 <= eps < math.inf:
            raise self.error(f"epsilon: got {_told(eps)}, expected a number of at least 0")
        norm = BatchNorm1d(self.size, eps=float(eps), affine=len(names) > 2)
        tensors = dict(zip(names, arrays, strict=True))
        self._per_channel(norm, **tensors, num_batches_tracked=np.array(0))

    def _per_channel(self, layer: Net, **tensors: Array) -> None:
        """A layer that reads (channels, length): each step has a length of 1."""
        self._put(Reshape((self.size, 1)))
        self._put(layer, **tensors)
        self._put(Reshape(self.size))
