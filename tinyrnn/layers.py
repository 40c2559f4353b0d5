"""The layers, with ``torch.nn``'s names, arguments, parameter names and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core
from tinyrnn.errors import ShapeError, WeightsError
from tinyrnn.model import Array, Frame, Net, Tensor, positive, submodule
from tinyrnn.streams import Slot

_L = TypeVar("_L", bound=Net)

# ---- initial values -----------------------------------------------------------------------------

_seeds = np.random.SeedSequence()


def manual_seed(seed: int) -> None:
    """Make the initial weights of layers constructed from now on reproducible.

    Parameters
    ----------
    seed : int
        The same seed and the same constructors in the same order give the same weights. They follow
        PyTorch's distributions, but are not PyTorch's numbers.
    """
    global _seeds
    _seeds = np.random.SeedSequence(seed)


def _initial(draw: Callable[[np.random.Generator, str, tuple[int, ...]], ArrayLike]) -> Any:
    """What fills a core layer when its weights are first needed: ``draw`` for each tensor."""
    (seed,) = _seeds.spawn(1)

    def initialise(core: _core.Layer) -> None:
        generator = np.random.default_rng(seed)
        for i, (name, shape) in enumerate(core.params):
            core.set(i, np.asarray(draw(generator, name, shape), dtype=np.float32))

    return initialise


def _uniform(bound: float) -> Any:
    """PyTorch's usual start: uniform within the bound."""
    return _initial(lambda generator, name, shape: generator.uniform(-bound, bound, shape))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def _real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not low <= value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value}, expected a finite number in {low} .. {high}")
    return float(value)


class _Layer(Net):
    """A layer that is one core layer, with the same tensors."""

    _core_layer: _core.Layer

    def _tensors(self) -> list[Tensor]:
        params = self._core_layer.params
        return [Tensor(name, shape, self._core_layer, i) for i, (name, shape) in enumerate(params)]

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        out = self._out(frame)
        cores.append(self._core_layer)
        return out

    def _out(self, frame: Frame) -> Frame:
        return frame

    @property
    def bias(self) -> Array | None:
        """The bias, a read-only copy; None without one. (An argument of the same name says whether.)"""
        for tensor in self._tensors():
            if tensor.name == "bias":
                return tensor.read()
        return None

    def config(self) -> dict[str, Any]:
        given = super().config()
        return {name: self.bias is not None if name == "bias" else value for name, value in given.items()}

    def _wants(self, frame: Frame, wanted: str) -> ShapeError:
        return ShapeError(f"{type(self).__name__}: reads frames of shape {frame}, expected {wanted}")


# ---- recurrent layers ---------------------------------------------------------------------------


class _Recurrent(Net):
    """What RNN, LSTM and GRU share: a stack of levels, each one core layer."""

    _kind: str
    _gates: int
    _cell = False  # keeps c beside h

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        nonlinearity: str = "tanh",
    ) -> None:
        name = type(self).__name__
        self.input_size = positive(f"{name}: input_size", input_size)
        self.hidden_size = positive(f"{name}: hidden_size", hidden_size)
        self.num_layers = positive(f"{name}: num_layers", num_layers)
        if num_layers > 1024:
            raise ValueError(f"{name}: num_layers is {num_layers}, expected at most 1024")
        self.bias = _flag(f"{name}: bias", bias)
        self.batch_first = _flag(f"{name}: batch_first", batch_first)
        self.dropout = _real(f"{name}: dropout", dropout, 0.0, 1.0)
        self.bidirectional = _flag(f"{name}: bidirectional", bidirectional)
        self.proj_size = positive(f"{name}: proj_size", proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"{name}: proj_size is {proj_size}, expected less than hidden_size, {hidden_size}")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"{name}: nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity

        self._levels = []
        reads = self.input_size
        for _ in range(self.num_layers):
            level = _core.Layer(
                self._kind,
                input_size=reads,
                hidden_size=self.hidden_size,
                proj_size=self.proj_size,
                bias=self.bias,
                bidirectional=self.bidirectional,
                relu=self.nonlinearity == "relu",
            )
            level.initialise = _uniform(1 / math.sqrt(self.hidden_size))
            self._levels.append(level)
            reads = self._output_size * self._directions

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _name(self, name: str, level: int) -> str:
        base, reverse, _ = name.partition("_reverse")
        return f"{base}_l{level}{reverse}"

    def _tensors(self) -> list[Tensor]:
        return [
            Tensor(self._name(name, level), shape, core, i)
            for level, core in enumerate(self._levels)
            for i, (name, shape) in enumerate(core.params)
        ]

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.input_size,)

    def _core_count(self) -> int:
        return self.num_layers

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if frame != (self.input_size,):
            raise ShapeError(
                f"{type(self).__name__}: reads frames of shape {frame}, expected ({self.input_size},) = (input_size,)"
            )
        cores += self._levels
        return (self._output_size * self._directions,)

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        """h and c by name: every level's, every direction's."""
        batch = plan.batch
        parts: dict[str, list[tuple[int, int]]] = {"h": [], "c": []}
        h, c = batch * self._output_size, batch * self.hidden_size * self._cell
        for level in range(self.num_layers):
            offset, _ = plan.state_of(first + level)
            for _ in range(self._directions):
                parts["h"].append((offset, h))
                parts["c"].append((offset + h, c))
                offset += h + c
        levels = self.num_layers * self._directions
        slots = [Slot(f"{prefix}h", (levels, batch, self._output_size), tuple(parts["h"]))]
        if self._cell:
            slots.append(Slot(f"{prefix}c", (levels, batch, self.hidden_size), tuple(parts["c"])))
        return slots

    def _initial_state(self, hx: Any, batched: bool) -> dict[str, Any] | None:
        """PyTorch's ``h0`` or ``(h0, c0)`` by name, with a batch axis."""
        if hx is None:
            return None
        if self._cell and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise TypeError(f"{type(self).__name__}: the initial state is {type(hx).__name__}, expected (h0, c0)")
        given = {"h": hx[0], "c": hx[1]} if self._cell else {"h": hx}
        for name, value in given.items():
            array = _core.as_floats(value, f"{type(self).__name__}: {name}0")
            given[name] = array if batched or array.ndim != 2 else array[:, np.newaxis]
            if not batched and array.ndim != 2:
                raise ShapeError(
                    f"{type(self).__name__}: {name}0 has shape {array.shape}, expected 2 axes for an unbatched input"
                )
        return given

    def __call__(self, x: ArrayLike, hx: Any = None, *, lengths: ArrayLike | None = None) -> Any:
        """Run whole sequences, as PyTorch does.

        Parameters
        ----------
        x : array_like, float32
            ``(T, input_size)``, ``(T, B, input_size)``, or ``(B, T, input_size)`` with ``batch_first``.
        hx : array_like, or for an LSTM a pair, optional
            Initial state ``(num_layers * directions, B, size)``, zeros by default; without the batch axis
            for an unbatched input. ``batch_first`` does not apply to it.
        lengths : array_like of int, (B,), optional
            Steps of each row, in any order. What PyTorch's packed sequences give: the output is zero
            beyond a row's end, its final state is that of its last step, its reverse direction
            begins there. The output keeps the input's number of steps.

        Returns
        -------
        output : ndarray, float32
            ``(T, B, directions * (proj_size or hidden_size))``, axes as the input's.
        state : ndarray, or for an LSTM ``(h, c)``
            The final state, shaped as ``hx``.

        Raises
        ------
        ShapeError, TypeError, ValueError
            If something does not fit; the message says what.
        """
        batched = np.ndim(x) != 2
        output, state = self._run(x, lengths, self._initial_state(hx, batched))
        final = tuple(array if batched else array[:, 0] for array in state.values())
        return output, final if self._cell else final[0]

    @classmethod
    def from_state_dict(cls: type[_L], state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> _L:
        """The layer that a state_dict holds: sizes, levels, directions and projection are read off it.

        Parameters
        ----------
        state_dict : mapping
            As `load_weights` gives it.
        prefix : str
            The layer's place in a larger model: ``"decoder.rnn."``. The names of a cell
            (``weight_ih``) do as well as those of a layer (``weight_ih_l0``).
        **options
            What tensors cannot tell: ``batch_first``, ``dropout``, an RNN's ``nonlinearity``.

        Raises
        ------
        WeightsError
            If the tensors are not those of such a layer.
        """
        given = {
            name + "_l0" if name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") else name: value
            for name, value in submodule(state_dict, prefix).items()
        }
        sizes = _sizes_of(cls.__name__, given, getattr(cls, "_gates"))  # noqa: B009
        if not sizes["proj_size"] or cls.__name__ != "LSTM":
            if sizes.pop("proj_size"):
                raise WeightsError(f"{cls.__name__}: weight_hr_l0 is a projection, which only an LSTM has")
        layer = cls(**{**sizes, **options})
        layer.load_state_dict(given)
        return layer


def _sizes_of(name: str, given: Mapping[str, Any], gates: int) -> dict[str, Any]:
    """The constructor's arguments, from the shapes of the tensors."""
    shapes = {key: np.shape(value) for key, value in given.items()}
    for key in ("weight_ih_l0", "weight_hh_l0"):
        if len(shapes.get(key, ())) != 2:
            found = f"has shape {shapes[key]}" if key in shapes else f"is missing; there are {sorted(shapes)}"
            raise WeightsError(f"{name}: {key} {found}, expected two axes")
    rows, input_size = shapes["weight_ih_l0"]
    if rows % gates or rows == 0:
        raise WeightsError(
            f"{name}: weight_ih_l0 has shape {(rows, input_size)}, expected a multiple of {gates} rows = "
            f"({gates}*hidden_size, input_size)"
        )
    levels = 0
    while f"weight_ih_l{levels}" in shapes:
        levels += 1
    projection = shapes.get("weight_hr_l0")
    return {
        "input_size": int(input_size),
        "hidden_size": rows // gates,
        "num_layers": levels,
        "bias": "bias_ih_l0" in shapes,
        "bidirectional": "weight_ih_l0_reverse" in shapes,
        "proj_size": int(projection[0]) if projection else 0,
    }


class RNN(_Recurrent):
    """Elman RNN, as ``torch.nn.RNN``: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    nonlinearity : {"tanh", "relu"}
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    _kind, _gates = "rnn", 1
    arguments = (
        "input_size",
        "hidden_size",
        "num_layers",
        "nonlinearity",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            nonlinearity=nonlinearity,
        )


class LSTM(_Recurrent):
    """LSTM, as ``torch.nn.LSTM``.

    ``i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)``, ``g = tanh(...)``, ``c' = f c + i g``,
    ``h' = o tanh(c')``; with a projection ``h' = W_hr (o tanh(c'))``. Gate order is ``i f g o``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    proj_size : int
        Size of the projected hidden state; 0 for none.
    """

    _kind, _gates, _cell = "lstm", 4, True
    arguments = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        )


class GRU(_Recurrent):
    """GRU, as ``torch.nn.GRU``, whose reset gate acts after the hidden product (Keras: ``reset_after``).

    ``r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``,
    ``h' = (1 - z) n + z h``. Gate order is ``r z n``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    _kind, _gates = "gru", 3
    arguments = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)


# ---- cells --------------------------------------------------------------------------------------


class _Cell(_Recurrent):
    """One step of one level, as PyTorch's cells: tensors without a level in their names."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        super().__init__(input_size, hidden_size, bias=bias, nonlinearity=nonlinearity)

    def _name(self, name: str, level: int) -> str:
        return name

    def __call__(self, x: ArrayLike, hx: Any = None) -> Any:  # type: ignore[override]
        """One step.

        Parameters
        ----------
        x : array_like, float32, (input_size,) or (B, input_size)
        hx : array_like, (hidden_size,) or (B, hidden_size), or for an LSTM a pair, optional
            The state before, zeros by default.

        Returns
        -------
        ndarray, or for an LSTM ``(h, c)``
            The state after, shaped as ``hx``.

        Raises
        ------
        ShapeError, TypeError
            If something does not fit.
        """
        name = type(self).__name__
        x = _core.as_floats(x, f"{name}: input")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input has shape {x.shape}, expected ({self.input_size},) or (B, {self.input_size})"
            )
        batch = x.shape[:-1]
        if hx is not None:
            pair = hx if self._cell and isinstance(hx, (tuple, list)) else (hx,)
            if len(pair) != 1 + self._cell:
                raise TypeError(f"{name}: the state is {type(hx).__name__}, expected (h, c)")
            arrays = [_core.as_floats(value, f"{name}: state") for value in pair]
            for array in arrays:
                if array.shape != (*batch, self.hidden_size):
                    raise ShapeError(
                        f"{name}: the state has shape {array.shape}, expected {(*batch, self.hidden_size)}"
                    )
            shaped = tuple(array.reshape(1, -1, self.hidden_size) for array in arrays)
            hx = shaped if self._cell else shaped[0]
        _, state = super().__call__(x.reshape(1, -1, self.input_size), hx)
        final = state if self._cell else (state,)
        after = tuple(array.reshape(*batch, self.hidden_size) for array in final)
        return after if self._cell else after[0]

    @classmethod
    def from_state_dict(cls: type[_L], state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> _L:
        """The cell that a state_dict holds; see `LSTM.from_state_dict`. A layer of one level does too."""
        given = {name.removesuffix("_l0"): value for name, value in submodule(state_dict, prefix).items()}
        named = {f"{name}_l0": value for name, value in given.items()}
        sizes = _sizes_of(cls.__name__, named, getattr(cls, "_gates"))  # noqa: B009
        arguments = {name: sizes[name] for name in ("input_size", "hidden_size", "bias")}
        cell = cls(**{**arguments, **options})
        cell.load_state_dict(given)
        return cell


class RNNCell(_Cell):
    """One step of an Elman RNN, as ``torch.nn.RNNCell``.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    nonlinearity : {"tanh", "relu"}
    """

    _kind, _gates = "rnn", 1
    arguments = ("input_size", "hidden_size", "bias", "nonlinearity")


class LSTMCell(_Cell):
    """One step of an LSTM, as ``torch.nn.LSTMCell``.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    """

    _kind, _gates, _cell = "lstm", 4, True
    arguments = ("input_size", "hidden_size", "bias")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)


class GRUCell(_Cell):
    """One step of a GRU, as ``torch.nn.GRUCell``.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    """

    _kind, _gates = "gru", 3
    arguments = ("input_size", "hidden_size", "bias")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)


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
        self.in_features = positive("Linear: in_features", in_features)
        self.out_features = positive("Linear: out_features", out_features)
        self._core_layer = _core.Layer(
            "linear", in_features=self.in_features, out_features=self.out_features, bias=_flag("Linear: bias", bias)
        )
        self._core_layer.initialise = _uniform(1 / math.sqrt(self.in_features))

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_features,)

    def _out(self, frame: Frame) -> Frame:
        if frame[-1:] != (self.in_features,):
            raise self._wants(frame, f"({self.in_features},) = (in_features,)")
        return (*frame[:-1], self.out_features)

    @classmethod
    def from_state_dict(
        cls: type[_L], state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any
    ) -> _L:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        A convolution of kernel size 1 is a Linear too: a weight ``(out, in, 1)`` does.
        """
        given = submodule(state_dict, prefix)
        weight = np.asarray(given.get("weight", ()))
        if weight.ndim == 3 and weight.shape[2] == 1:
            weight = weight[:, :, 0]
        if weight.ndim != 2:
            raise WeightsError(f"Linear: weight has shape {weight.shape}, expected (out_features, in_features)")
        out_features, in_features = weight.shape
        layer = cls(in_features, out_features, "bias" in given, **options)  # type: ignore[call-arg]
        layer.load_state_dict({**given, "weight": weight})
        return layer


class Embedding(_Layer):
    """The rows of a table that indices name, as ``torch.nn.Embedding``. Only as a net's first layer.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    """

    arguments = ("num_embeddings", "embedding_dim")

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings = positive("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = positive("Embedding: embedding_dim", embedding_dim)
        self._core_layer = _core.Layer(
            "embedding", num_embeddings=self.num_embeddings, embedding_dim=self.embedding_dim
        )
        self._core_layer.initialise = _initial(lambda generator, name, shape: generator.standard_normal(shape))

    def _rank(self, ndim: int) -> int | None:
        return 0

    def _frame(self) -> tuple[int | None, ...] | None:
        return ()

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if cores:
            raise ShapeError("Embedding: reads indices, so it can only be a net's first layer")
        return super()._lay(frame, lead, cores)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) > 1:
            raise self._wants(frame, "one index or a row of them")
        return (*frame, self.embedding_dim)


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
        self.in_channels = positive("Conv1d: in_channels", in_channels)
        self.out_channels = positive("Conv1d: out_channels", out_channels)
        self.kernel_size = positive("Conv1d: kernel_size", _single(kernel_size))
        self.stride = positive("Conv1d: stride", _single(stride))
        self.dilation = positive("Conv1d: dilation", _single(dilation))
        self.groups = positive("Conv1d: groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"Conv1d: {name} is {channels}, expected a multiple of groups, {groups}")
        if padding_mode not in ("zeros", "reflect"):
            raise ValueError(f"Conv1d: padding_mode is {padding_mode!r}, expected 'zeros' or 'reflect'")
        self.padding_mode = padding_mode
        self.padding = padding if isinstance(padding, str) else positive("Conv1d: padding", _single(padding), 0)
        if padding == "same":
            if self.stride != 1:
                raise ValueError("Conv1d: padding='same' needs stride 1")
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
            bias=_flag("Conv1d: bias", bias),
            pad_left=self._pad[0],
            pad_right=self._pad[1],
            reflect=self.padding_mode == "reflect",
        )
        fan_in = self.in_channels // self.groups * self.kernel_size
        self._core_layer.initialise = _uniform(1 / math.sqrt(fan_in))

    def _rank(self, ndim: int) -> int | None:
        return 2

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.in_channels, None)

    def _out(self, frame: Frame) -> Frame:
        if len(frame) != 2 or frame[0] != self.in_channels:
            raise self._wants(frame, f"({self.in_channels}, length) = (in_channels, length)")
        length, (left, right) = frame[1], self._pad
        if self.padding_mode == "reflect" and max(left, right) >= length:
            raise ShapeError(f"Conv1d: reflection pads {max(left, right)}, expected less than the length, {length}")
        span = self.dilation * (self.kernel_size - 1) + 1
        if length + left + right < span:
            raise ShapeError(f"Conv1d: length {length} with padding {left} + {right} is shorter than the kernel, {span}")
        return self.out_channels, (length + left + right - span) // self.stride + 1

    @classmethod
    def from_state_dict(
        cls: type[_L], state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any
    ) -> _L:
        """The layer that a state_dict holds; see `LSTM.from_state_dict`.

        ``options`` are what tensors cannot tell: ``stride``, ``padding``, ``dilation``, ``groups``,
        ``padding_mode``.
        """
        given = submodule(state_dict, prefix)
        shape = np.shape(given.get("weight", ()))
        if len(shape) != 3:
            raise WeightsError(
                f"Conv1d: weight has shape {shape}, expected (out_channels, in_channels / groups, kernel_size)"
            )
        in_channels = shape[1] * int(options.get("groups", 1))
        layer = cls(in_channels, shape[0], shape[2], bias="bias" in given, **options)  # type: ignore[call-arg]
        layer.load_state_dict(given)
        return layer


def _single(value: Any) -> Any:
    """PyTorch takes ``3`` and ``(3,)`` alike."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


# ---- normalisation ------------------------------------------------------------------------------


def _norm_start() -> Any:
    ones = ("weight", "running_var")
    return _initial(lambda generator, name, shape: np.ones(shape) if name in ones else np.zeros(shape))


class LayerNorm(_Layer):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes, as ``torch.nn.LayerNorm``.

    Parameters
    ----------
    normalized_shape : int or tuple of one or two int
    eps : float
    elementwise_affine, bias : bool
    """

    arguments = ("normalized_shape", "eps", "elementwise_affine", "bias")

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
        self.normalized_shape = tuple(positive("LayerNorm: normalized_shape", size) for size in given)
        self.eps = _real("LayerNorm: eps", eps, 0.0)
        self.elementwise_affine = _flag("LayerNorm: elementwise_affine", elementwise_affine)
        self._core_layer = _core.Layer(
            "layer_norm",
            size=math.prod(self.normalized_shape),
            eps=self.eps,
            affine=self.elementwise_affine,
            bias=_flag("LayerNorm: bias", bias) and self.elementwise_affine,
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


class BatchNorm1d(_Layer):
    """Normalisation of channels by their running statistics, as ``torch.nn.BatchNorm1d`` in evaluation.

    Reads ``(N, C)`` or ``(N, C, L)``; in a net, frames of ``(C,)`` or ``(C, L)``.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float or None
        Idle at inference.
    affine : bool
    track_running_stats : bool
        Must be True: without statistics there is nothing to normalise by.
    """

    arguments = ("num_features", "eps", "momentum", "affine", "track_running_stats")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = positive("BatchNorm1d: num_features", num_features)
        self.eps = _real("BatchNorm1d: eps", eps, 0.0)
        self.momentum = None if momentum is None else _real("BatchNorm1d: momentum", momentum, 0.0, 1.0)
        self.affine = _flag("BatchNorm1d: affine", affine)
        self.track_running_stats = _flag("BatchNorm1d: track_running_stats", track_running_stats)
        if not self.track_running_stats:
            raise ValueError("BatchNorm1d: track_running_stats is False, expected True: inference needs them")
        self.num_batches_tracked = 0
        self._core_layer = _core.Layer(
            "batch_norm", size=self.num_features, eps=self.eps, affine=self.affine, bias=self.affine
        )
        self._core_layer.initialise = _norm_start()

    def _rank(self, ndim: int) -> int | None:
        return 2 if ndim == 3 else 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.num_features,)

    def _out(self, frame: Frame) -> Frame:
        if frame[:1] != (self.num_features,) or len(frame) > 2:
            raise self._wants(frame, f"({self.num_features},) or ({self.num_features}, length) = (num_features, ...)")
        return frame


# ---- activations --------------------------------------------------------------------------------


class _Elementwise(_Layer):
    """A function of each number, or of none."""

    _kind: str
    arguments = ("inplace",)

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = _flag(f"{type(self).__name__}: inplace", inplace)
        self._core_layer = _core.Layer(self._kind)


class ReLU(_Elementwise):
    """``max(x, 0)``, as ``torch.nn.ReLU``. ``inplace`` is accepted and changes nothing."""

    _kind = "relu"


class Sigmoid(_Elementwise):
    """``1 / (1 + exp(-x))``, as ``torch.nn.Sigmoid``; within 2.5 ULP."""

    _kind = "sigmoid"
    arguments = ()

    def __init__(self) -> None:
        super().__init__()


class Tanh(_Elementwise):
    """``tanh(x)``, as ``torch.nn.Tanh``; within 2.5 ULP."""

    _kind = "tanh"
    arguments = ()

    def __init__(self) -> None:
        super().__init__()


class LeakyReLU(_Elementwise):
    """``x`` where positive, else ``negative_slope * x``, as ``torch.nn.LeakyReLU``.

    Parameters
    ----------
    negative_slope : float
    inplace : bool
        Accepted, changes nothing.
    """

    arguments = ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = _real("LeakyReLU: negative_slope", negative_slope)
        self.inplace = _flag("LeakyReLU: inplace", inplace)
        self._core_layer = _core.Layer("leaky_relu", slope=self.negative_slope)


class Dropout(_Elementwise):
    """As ``torch.nn.Dropout``: passes everything on at inference.

    Parameters
    ----------
    p : float
    inplace : bool
        Accepted, changes nothing.
    """

    _kind = "identity"
    arguments = ("p", "inplace")

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.p = _real("Dropout: p", p, 0.0, 1.0)


def _axes(frame: Frame, lead: int) -> int:
    """How many axes ``dim`` arguments count: a frame of rank 2 is (C, L) of PyTorch's (N, C, L)."""
    return min(lead, 1) + 2 if len(frame) == 2 else lead + len(frame)


class Flatten(_Layer):
    """Axes ``start_dim`` to ``end_dim`` as one, as ``torch.nn.Flatten``.

    In a net it flattens a frame, ``(C, L)`` to ``(C * L,)``; time and batch cannot be flattened there.

    Parameters
    ----------
    start_dim, end_dim : int
    """

    arguments = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = int(_real("Flatten: start_dim", start_dim))
        self.end_dim = int(_real("Flatten: end_dim", end_dim))
        self._core_layer = _core.Layer("flatten")

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        ndim = _axes(frame, lead)
        first, last = self.start_dim % ndim, self.end_dim % ndim
        if first < last and (first < ndim - len(frame) or last != ndim - 1):
            raise ShapeError(
                f"Flatten: axes {self.start_dim} to {self.end_dim} reach beyond a frame of shape {frame}, "
                "into time or batch, which a net keeps apart"
            )
        if first >= last:
            return frame
        cores.append(self._core_layer)
        return (math.prod(frame),)

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Any:
        """Any array: ``x`` reshaped."""
        array = _core.as_floats(x, "Flatten: input")
        if not (-array.ndim <= self.start_dim < array.ndim and -array.ndim <= self.end_dim < array.ndim):
            raise ShapeError(f"Flatten: input has shape {array.shape}, without axes {self.start_dim} to {self.end_dim}")
        first, last = self.start_dim % array.ndim, self.end_dim % array.ndim
        if first > last:
            raise ValueError(f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim}")
        middle = math.prod(array.shape[first : last + 1])
        return array.reshape(*array.shape[:first], middle, *array.shape[last + 1 :])


class _Softmax(_Layer):
    """Softmax or its logarithm over one axis of a frame."""

    _kind: str
    arguments = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        name = type(self).__name__
        self.dim = None if dim is None else int(_real(f"{name}: dim", dim))
        self._over_cols = _core.Layer(self._kind)
        self._over_rows = _core.Layer(self._kind, over_rows=1)

    def _tensors(self) -> list[Tensor]:
        return []

    def _axis(self, ndim: int) -> int:
        """The axis; without ``dim`` PyTorch's old choice, 0 for one or three axes, else 1."""
        dim = (0 if ndim in (0, 1, 3) else 1) if self.dim is None else self.dim
        if not -max(ndim, 1) <= dim < max(ndim, 1):
            raise ShapeError(f"{type(self).__name__}: dim is {dim}, but there are {ndim} axes")
        return dim % max(ndim, 1)

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        ndim = _axes(frame, lead)
        axis = self._axis(ndim)
        if axis == ndim - 1 and frame:
            cores.append(self._over_cols)
        elif axis == ndim - 2 and len(frame) == 2:
            cores.append(self._over_rows)
        else:
            raise ShapeError(
                f"{type(self).__name__}: dim {self.dim} of {ndim} axes is time or batch, expected one of a frame of "
                f"shape {frame}"
            )
        return frame

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Any:
        """Any array, any axis."""
        array = _core.as_floats(x, f"{type(self).__name__}: input")
        axis = self._axis(array.ndim)
        if array.ndim == 0 or array.size == 0:
            return np.zeros_like(array) if self._kind == "log_softmax" else np.ones_like(array)
        last = type(self)(-1)
        moved = np.ascontiguousarray(np.moveaxis(array, axis, -1))
        return np.moveaxis(Net.__call__(last, moved), -1, axis)


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
