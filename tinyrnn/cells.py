"""Recurrent layers for small machines, which PyTorch lacks, and their cells.

All but FastGRNN and Jordan have no product with ``h``. So a full sequence is one matrix product and a walk
over its results, and a step reads the input's weights alone. `docs/cells.md` compares them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import initial
from tinyrnn.arguments import check_size
from tinyrnn.errors import WeightsError
from tinyrnn.gates import Function, check_function, core_arguments, one_way
from tinyrnn.recurrent import _Cell, _Recurrent

if TYPE_CHECKING:
    from numpy.random import Generator


class _Scanned(_Recurrent):
    """The base of layers without a product with ``h``, and of their cells."""

    _hidden_product = False

    def _formula(self, direction: int) -> dict[str, Any]:
        return {}

    def _first_weights(self, reads: int) -> initial.Initialise:
        return initial.uniform(1 / math.sqrt(reads))


class _Layer(_Scanned):
    """The constructor of such a layer."""

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


class _Step(_Cell, _Scanned):
    """The constructor of its cell."""

    arguments = ("input_size", "hidden_size", "bias")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)


class MinGRU(_Layer):
    """minGRU (Feng et al., "Were RNNs All We Needed?", 2024), a GRU whose gates do not see ``h``.

    ``z = sigmoid(W_iz x + b_iz)``, ``n = W_in x + b_in``, ``h' = (1 - z) h + z n``: the paper's first form,
    without logarithms. ``n`` passes no tanh, and ``z`` is the share of the new value. Gate order is ``z n``:
    ``weight_ih_l0`` is the paper's ``linear_z.weight`` above ``linear_h.weight``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    _kind, _gates = "min_gru", 2


class MinLSTM(_Layer):
    """minLSTM (Feng et al., "Were RNNs All We Needed?", 2024), an LSTM whose gates do not see ``h``.

    ``i, f = sigmoid(W_ih x + b_ih)``, ``g = W_ig x + b_ig``, ``h' = (f h + i g) / (f + i)``: the paper's
    first form of it, without logarithms, whose gates are normalised. There is no ``c`` and no tanh. Gate
    order is ``i f g``: ``weight_ih_l0`` is the paper's ``linear_i``, ``linear_f`` and ``linear_h``, one below
    the other.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    _kind, _gates = "min_lstm", 3


class QRNN(_Layer):
    """QRNN with fo-pooling (Bradbury et al., "Quasi-Recurrent Neural Networks", 2017).

    ``z = tanh(W_iz x + b_iz)``, ``f, o = sigmoid(W_ih x + b_ih)``, ``c' = f c + (1 - f) z``, ``h' = o c'``.
    Gate order is ``z f o``, and its state is an LSTM's, ``(h, c)``.

    Its convolution is a window over one step. For a wider one, put ``tr.TimeUnfold(k, padding="causal")`` and
    ``tr.Flatten()`` in front: the layer then reads ``k * input_size`` numbers, of each input the ``k`` steps,
    oldest first. In Salesforce's ``pytorch-qrnn`` ``f`` is the share of ``z``, which is this layer with the
    opposite sign in the rows of that gate.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    _kind, _gates, _cell = "qrnn", 3, True


class _IndRNN(_Scanned):
    """The base of IndRNN and IndRNNCell."""

    _kind, _gates = "indrnn", 1

    def _first_weights(self, reads: int) -> initial.Initialise:
        bound = 1 / math.sqrt(reads)
        return initial.drawn(
            lambda generator, name, count: generator.uniform(
                *((0.0, 1.0) if name.startswith("weight_hh") else (-bound, bound)), count
            )
        )

    def _choose(self, nonlinearity: str) -> dict[str, Any]:
        if nonlinearity not in ("relu", "tanh"):
            raise ValueError(
                f"{type(self).__name__}: nonlinearity is {nonlinearity!r}, expected 'relu' or 'tanh'"
            )
        self.nonlinearity = nonlinearity
        return {"relu": int(nonlinearity == "relu")}

    def _formula(self, direction: int) -> dict[str, Any]:
        return {"nonlinearity": self.nonlinearity}


class IndRNN(_IndRNN):
    """IndRNN (Li et al., "Independently Recurrent Neural Network", 2018): each unit sees its own ``h`` alone.

    ``h' = relu(W_ih x + b_ih + w_hh * h)``, or tanh, with a vector ``weight_hh_l0`` of ``hidden_size``
    numbers. They start between 0 and 1, as the paper has them for long memories.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    nonlinearity : {"relu", "tanh"}
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    """

    arguments = (*_Recurrent.arguments[:3], "nonlinearity", *_Recurrent.arguments[3:])

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "relu",
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


class _Chosen(_Recurrent):
    """The base of cells whose functions of gates are arguments, without a clip."""

    def _choose(self, **functions: Any) -> dict[str, Any]:
        for argument, function in functions.items():
            named = f"{type(self).__name__}: {argument}"
            setattr(self, argument, check_function(named, function, self.bidirectional))
        return core_arguments({argument: getattr(self, argument) for argument in functions}, None)

    def _formula(self, direction: int) -> dict[str, Any]:
        return {name: one_way(getattr(self, name), direction) for name in self._functions}


# EdgeML's matrices of a FastGRNN, by our names.
_EDGEML = {
    **{"W": "weight_ih", "W1": "weight_ir", "W2": "weight_ih"},
    **{"U": "weight_hh", "U1": "weight_hr", "U2": "weight_hh"},
}


class _FastGRNN(_Chosen):
    """The base of FastGRNN and FastGRNNCell."""

    _kind, _gates = "fastgrnn", 1
    _functions: ClassVar[Mapping[str, str]] = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    _ranks = ("u_rank", "w_rank")
    _later: ClassVar[Mapping[str, Any]] = {**_functions, **dict.fromkeys(_ranks)}
    activation: Function
    recurrent_activation: Function
    u_rank: int | None
    w_rank: int | None

    def _choose(
        self, u_rank: int | None = None, w_rank: int | None = None, **functions: Any
    ) -> dict[str, Any]:
        for argument, rank in zip(self._ranks, (u_rank, w_rank), strict=True):
            name = f"{type(self).__name__}: {argument}"
            if rank is not None and check_size(name, rank) > self.hidden_size:
                raise ValueError(f"{name} is {rank}, expected at most hidden_size, {self.hidden_size}")
            setattr(self, argument, rank)
        return super()._choose(**functions) | {"rank": u_rank or 0, "input_rank": w_rank or 0}

    @classmethod
    def _translated(cls, tensors: Mapping[str, ArrayLike]) -> Mapping[str, ArrayLike]:
        biases = [tensors[name] for name in ("bias_gate", "bias_update") if name in tensors]
        if len(biases) < 2:
            return tensors
        bias = np.concatenate([np.ravel(one) for one in biases])
        found: dict[str, ArrayLike] = {"bias_ih": bias}
        for name, array in tensors.items():
            called, shape = _EDGEML.get(name, name), np.shape(array)
            if called in ("weight_ih", "weight_hh") and (len(shape) != 2 or 2 * shape[0] != len(bias)):
                raise WeightsError(
                    f"{cls.__name__}: {name} has shape {shape}, expected {len(bias) // 2} rows, as bias_gate "
                    "has numbers: in EdgeML for TensorFlow matrices are transposed, pass their transposes"
                )
            if name not in ("bias_gate", "bias_update"):
                found[called] = np.ravel(array) if name in ("zeta", "nu") else array
        return found

    def _first_weights(self, reads: int) -> initial.Initialise:
        bound = 1 / math.sqrt(self.hidden_size)
        scalars = {"zeta": 1.0, "nu": -4.0}  # EdgeML's

        def draw(generator: Generator, name: str, count: int) -> ArrayLike:
            kind = name.removesuffix("_reverse")
            return [scalars[kind]] if kind in scalars else generator.uniform(-bound, bound, count)

        return initial.drawn(draw)


class FastGRNN(_FastGRNN):
    """FastGRNN (Kusupati et al., 2018): a gated cell with the weights of an Elman RNN.

    ``a = W_ih x + W_hh h``, ``z = sigmoid(a + b_z)``, ``n = tanh(a + b_n)``,
    ``h' = (sigmoid(zeta) (1 - z) + sigmoid(nu)) n + z h``: equation 2 of "FastGRNN: A Fast, Accurate, Stable
    and Tiny Kilobyte Sized Gated Recurrent Neural Network". ``weight_ih_l0`` is the paper's ``W``,
    ``weight_hh_l0`` its ``U``; ``bias_ih_l0``, of shape ``(2*hidden_size,)``, is ``b_z b_n``, and there is no
    ``bias_hh``; ``zeta_l0`` and ``nu_l0`` are a number each, ``(1,)``. They start at 1 and -4, as in EdgeML.

    With ``u_rank`` ``U`` is ``U1 U2``: ``weight_hh_l0`` is ``U1``, ``(hidden_size, u_rank)``, and
    ``weight_hr_l0`` is ``U2``, ``(u_rank, hidden_size)``. With ``w_rank`` ``W`` is ``W1 W2``:
    ``weight_ih_l0`` is ``W1``, ``(hidden_size, w_rank)``, and ``weight_ir_l0`` is ``W2``,
    ``(w_rank, input_size)``; levels above read ``hidden_size`` numbers of each direction in its place.

    `from_state_dict` takes the parameters of EdgeML's ``FastGRNNCell`` for PyTorch, too: ``W``, or ``W1`` and
    ``W2``; ``U``, or ``U1`` and ``U2``; ``bias_gate``, ``bias_update``, ``zeta``, ``nu``. There ``x`` meets
    ``W1`` first: its ``W2`` and ``U2`` are the paper's ``W1`` and ``U1``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    activation, recurrent_activation : str or tuple
        The functions of ``n`` and of ``z``; `LSTM` says how they are given. EdgeML's ``quantSigm`` is
        ``("hard_sigmoid", 0.5, 0.5)``. The sigmoids of ``zeta`` and ``nu`` stay.
    u_rank, w_rank : int, optional
        The ranks of ``U`` and ``W``, EdgeML's ``uRank`` and ``wRank``; None for a matrix of full rank.
    """

    arguments = (*_Recurrent.arguments, *_FastGRNN._functions, *_FastGRNN._ranks)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        u_rank: int | None = None,
        w_rank: int | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            activation=activation,
            recurrent_activation=recurrent_activation,
            u_rank=u_rank,
            w_rank=w_rank,
        )


class _Jordan(_Chosen):
    """The base of Jordan and JordanCell."""

    _kind, _gates, _output = "jordan", 1, True
    _functions: ClassVar[Mapping[str, str]] = {"activation": "tanh", "output_activation": "tanh"}
    _later: ClassVar[Mapping[str, Any]] = _functions
    activation: Function
    output_activation: Function

    @property
    def output_size(self) -> int:
        """Numbers of the output of one direction."""
        return self.proj_size


class Jordan(_Jordan):
    """Jordan network (Jordan, "Serial Order", 1986): an RNN that sees its previous output, not its ``h``.

    ``m = tanh(W_ih x + b_ih + W_hh y + b_hh)``, ``y' = tanh(W_hr m + b_hr)``. The state is ``y``, zeros at
    first. ``weight_hh_l0`` is ``(hidden_size, output_size)``, ``weight_hr_l0`` is
    ``(output_size, hidden_size)``. Jordan's state units, which keep a share of earlier outputs, are not here.

    Parameters
    ----------
    input_size, hidden_size, output_size, num_layers : int
        Each level has ``hidden_size`` numbers of ``m`` and ``output_size`` of ``y``.
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    activation, output_activation : str or tuple
        The functions of ``m`` and of ``y``; `LSTM` says how they are given. ``("affine", 1, 0)`` is none.
    """

    arguments = (
        *_Recurrent.arguments[:2],
        "output_size",
        *_Recurrent.arguments[2:],
        *_Jordan._functions,
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        activation: Function = "tanh",
        output_activation: Function = "tanh",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            _proj_size=check_size(f"{type(self).__name__}: output_size", output_size),
            activation=activation,
            output_activation=output_activation,
        )


# ---- cells --------------------------------------------------------------------------------------


class MinGRUCell(_Step):
    """One step of a minGRU; `MinGRU` has the formulas.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    """

    _kind, _gates = MinGRU._kind, MinGRU._gates


class MinLSTMCell(_Step):
    """One step of a minLSTM; `MinLSTM` has the formulas.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    """

    _kind, _gates = MinLSTM._kind, MinLSTM._gates


class QRNNCell(_Step):
    """One step of a QRNN, with the state ``(h, c)``; `QRNN` has the formulas.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    """

    _kind, _gates, _cell = QRNN._kind, QRNN._gates, True


class IndRNNCell(_Cell, _IndRNN):
    """One step of an IndRNN; `IndRNN` has the formulas.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    nonlinearity : {"relu", "tanh"}
    """

    arguments = ("input_size", "hidden_size", "bias", "nonlinearity")

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "relu"
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias, nonlinearity=nonlinearity)


class FastGRNNCell(_Cell, _FastGRNN):
    """One step of a FastGRNN; `FastGRNN` has the formulas and the options.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    activation, recurrent_activation : str or tuple
    u_rank, w_rank : int, optional
    """

    arguments = ("input_size", "hidden_size", "bias", *_FastGRNN._functions, *_FastGRNN._ranks)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        u_rank: int | None = None,
        w_rank: int | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            activation=activation,
            recurrent_activation=recurrent_activation,
            u_rank=u_rank,
            w_rank=w_rank,
        )


class JordanCell(_Cell, _Jordan):
    """One step of a Jordan network, whose state is its output; `Jordan` has the formulas and the options.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
    bias : bool
    activation, output_activation : str or tuple
    """

    arguments = ("input_size", "hidden_size", "output_size", "bias", *_Jordan._functions)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        bias: bool = True,
        *,
        activation: Function = "tanh",
        output_activation: Function = "tanh",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            _proj_size=check_size(f"{type(self).__name__}: output_size", output_size),
            activation=activation,
            output_activation=output_activation,
        )
