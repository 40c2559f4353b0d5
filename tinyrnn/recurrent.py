"""RNN, LSTM and GRU, stacked and in both directions, and their cells, as ``torch.nn`` has them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core, calls, initial
from tinyrnn.arguments import check_bool, check_float, check_size
from tinyrnn.arrays import as_floats
from tinyrnn.attributes import Live, brief
from tinyrnn.errors import ShapeError, WeightsError
from tinyrnn.formats import SCALE
from tinyrnn.gates import Function, check_clip, check_function, core_arguments, one_way
from tinyrnn.net import Net
from tinyrnn.state_dicts import inferred, lacking, submodule
from tinyrnn.streams import State
from tinyrnn.tensors import Array, Frame, Slot, Tensor
from tinyrnn.values import Value, applied, check_unmasked, masking

if TYPE_CHECKING:
    from typing_extensions import Self


def _part(name: str, value: Any) -> float:
    return check_float(name, value, 0.0, 1.0)


_LATER: Mapping[str, Any] = {"recurrent_dropout": 0.0, "zoneout": 0.0}  # of RNN, LSTM and GRU


class _Recurrent(Net):
    """The base of RNN, LSTM and GRU: a stack of levels, each one core layer."""

    _kind: str
    _gates: int
    _later: ClassVar[Mapping[str, Any]] = {}  # arguments that came later, each with what it was before
    _cell = False  # keeps c beside h
    _hidden_product = True  # multiplies h with a matrix
    _output = False  # a Jordan network: h is its output, of any size
    _functions: ClassVar[Mapping[str, str]] = {}  # of the gates: the usual ones, by argument
    _core_options: Mapping[str, Any] = {}  # the core's arguments of this kind
    clip: float | None = None
    cell_clip: float | None = None
    layer_norm = False
    peephole: bool | str = False
    zoneout = zoneout_cell = recurrent_dropout = 0.0
    nonlinearity: Function
    _kept = ("nonlinearity",)  # of all kinds, though it is an argument of RNN alone
    _recurrent = True
    _masks = True
    arguments: ClassVar[tuple[str, ...]] = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )
    dropout = Live(_part)
    _drop: _core.Layer | None = None  # drops between levels in training

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
        _proj_size: int = 0,
        **chosen: Any,
    ) -> None:
        name = type(self).__name__
        self.input_size = check_size(f"{name}: input_size", input_size)
        self.hidden_size = check_size(f"{name}: hidden_size", hidden_size)
        self.num_layers = check_size(f"{name}: num_layers", num_layers)
        if num_layers > 1024:
            raise ValueError(f"{name}: num_layers is {num_layers}, expected at most 1024")
        self.bias = check_bool(f"{name}: bias", bias)
        self.batch_first = check_bool(f"{name}: batch_first", batch_first)
        self.dropout = dropout
        self.bidirectional = check_bool(f"{name}: bidirectional", bidirectional)
        if not self._restored:
            self._warn_of_dropout(dropout, 5)
        self.proj_size = check_size(f"{name}: proj_size", _proj_size, 0)
        if self.proj_size >= self.hidden_size and not self._output:
            raise ValueError(
                f"{name}: proj_size is {_proj_size}, expected less than hidden_size, {hidden_size}"
            )
        self.nonlinearity = "tanh"
        self._core_options = self._choose(**chosen)

        self._levels = []
        reads = self.input_size
        for i in range(self.num_layers):
            level = _core.Layer(
                self._kind,
                input_size=reads,
                hidden_size=self.hidden_size,
                proj_size=self.proj_size,
                bias=self.bias,
                bidirectional=self.bidirectional,
                level=i,
                **self._core_options,
            )
            level.initialise = self._first_weights(reads)
            self._levels.append(level)
            reads = self._output_size * self._directions

    def _first_weights(self, reads: int) -> initial.Initialise:
        """Initial weights of a level that reads so many numbers."""
        bound = 1 / math.sqrt(self.hidden_size)
        return initial.normed(bound) if self.layer_norm else initial.uniform(bound)

    def config(self) -> dict[str, Any]:
        """The arguments that build the same net again, without later ones that change nothing."""
        return {
            name: value
            for name, value in super().config().items()
            if name not in self._later or value != self._later[name]
        }

    def _choose(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Keep the arguments that select the cell's formula; return the core's for them."""
        return {}

    def _formula(self, direction: int) -> dict[str, Any]:
        """Those of them that tensors cannot tell, for a layer of this direction alone."""
        functions = {name: one_way(getattr(self, name), direction) for name in self._functions}
        return {**functions, "clip": self.clip, "zoneout": self.zoneout}

    def _general(
        self,
        clip: float | None,
        recurrent_dropout: float,
        zoneout: float,
        zoneout_cell: float = 0.0,
        **given: Any,
    ) -> dict[str, Any]:
        """Keep the functions of the gates and what all of these cells have; return the core's arguments."""
        name = type(self).__name__
        self.recurrent_dropout = _part(f"{name}: recurrent_dropout", recurrent_dropout)
        self.zoneout = _part(f"{name}: zoneout", zoneout)
        self.zoneout_cell = _part(f"{name}: zoneout_cell", zoneout_cell)
        if self.proj_size and (zoneout or zoneout_cell):
            raise ValueError(f"{name}: got zoneout with proj_size={self.proj_size}, expected one of them")
        drops = {"recurrent_dropout": self.recurrent_dropout} if recurrent_dropout else {}
        self.clip = check_clip(f"{name}: clip", clip)
        for argument, function in given.items():
            setattr(self, argument, check_function(f"{name}: {argument}", function, self.bidirectional))
        functions: dict[str, Function] = {argument: getattr(self, argument) for argument in given}
        general = (clip, self.cell_clip) != (None, None) or zoneout or zoneout_cell or self.layer_norm
        if not general and self.peephole != "matrix" and functions == self._functions:
            return drops
        self._kind += "_general"
        zones = {"zoneout": self.zoneout, "zoneout_cell": self.zoneout_cell}
        return core_arguments(functions, self.clip) | drops | zones

    @classmethod
    def _gates_with(cls, options: Mapping[str, Any]) -> int:
        """The number of gates with these arguments."""
        return cls._gates

    def _warn_of_dropout(self, dropout: float, stacklevel: int) -> None:
        """A warning where there is nothing to drop."""
        if dropout > 0.0 and self.num_layers == 1:
            warnings.warn(
                f"{type(self).__name__}: dropout is {dropout} with num_layers=1, where it changes nothing: "
                "it acts between levels; put a tr.Dropout behind the layer instead",
                stacklevel=stacklevel,
            )

    def _heed(self, name: str, value: Any) -> None:
        if hasattr(self, "_levels"):  # not yet in the constructor
            self._warn_of_dropout(value, 6)
            if self._drop is not None:
                self._drop.set_argument("p", value)
            self._version += 1  # a tape has dropout's core layer only if something drops

    @property
    def _batch_first(self) -> bool:
        return self.batch_first

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _cores(self) -> list[_core.Layer]:
        return self._levels

    def _reformat(self, formats: list[str]) -> None:
        self._levels = [
            core if core.format == name else core.reformatted(name)
            for core, name in zip(self._levels, formats, strict=True)
        ]

    def _place(self, level: int) -> str:
        return f"l{level}"

    def _name(self, name: str, level: int) -> str:
        base, reverse, _ = name.partition("_reverse")
        return f"{base}_l{level}{reverse}"

    def _tensors(self) -> list[Tensor]:
        return [
            Tensor(self._name(name, level), shape, core, i)
            for level, core in enumerate(self._levels)
            for i, (name, shape) in enumerate(core.params)
        ] + self._start_tensors()

    def _rank(self, ndim: int) -> int | None:
        return 1

    def _frame(self) -> tuple[int | None, ...] | None:
        return (self.input_size,)

    def _core_count(self) -> int:
        return self.num_layers

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        if frame != (self.input_size,):
            hint = ""
            if len(frame) == 2 and frame[0] == self.input_size:
                hint = (
                    ": columns are no steps; a TimeConv1d convolves over time, with the weights of a Conv1d"
                )
            raise ShapeError(
                f"{type(self).__name__}: got frames of shape {frame}, "
                f"expected ({self.input_size},) = (input_size,){hint}"
            )
        cores += self._levels
        return (self._output_size * self._directions,)

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        """The slots of h and c, with all levels and directions."""
        batch = plan.batch
        parts: dict[str, list[tuple[int, int]]] = {"h": [], "c": []}
        marks: list[int] = []
        h, c = self._output_size, self.hidden_size * self._cell
        for level in range(self.num_layers):
            offset, numbers = plan.state_of(first + level)
            if plan.begins(first + level):
                marks.append(offset + numbers)
            for _ in range(self._directions):
                parts["h"].append((offset, h))
                parts["c"].append((offset + h, c))
                offset += h + c
        levels = self.num_layers * self._directions
        # A cell and a layer of one level have the same state: one may take the other's.
        owner = f"{self._kind} {self.input_size}x{self.hidden_size}"
        sizes = {"h": self._output_size, "c": self.hidden_size}
        return [
            Slot(f"{prefix}{name}", owner, (levels, batch, sizes[name]), tuple(parts[name]), tuple(marks))
            for name in self._state_names()
        ]

    def _state_names(self) -> tuple[str, ...]:
        return ("h", "c") if self._cell else ("h",)

    def _start_names(self) -> tuple[str, ...]:
        return self._state_names()

    def _start_shape(self, name: str) -> tuple[int, int]:
        return self.num_layers * self._directions, self._output_size if name == "h" else self.hidden_size

    def _start_frames(self) -> dict[str, tuple[Frame, ...]]:
        shapes = {f"{name}0": self._start_shape(name) for name in self._state_names()}
        return {name: ((rows, size), (rows * size,)) for name, (rows, size) in shapes.items()}

    def _dropout_after(self, level: int) -> _core.Layer | None:
        if self.dropout == 0.0 or level == self.num_layers - 1:
            return None
        if self._drop is None:
            self._drop = _core.Layer("dropout", p=self.dropout)
        return self._drop

    def _initial_state(
        self,
        hx: Any,
        batched: bool,
        what: str = "initial state",
        called: tuple[str, str] = ("h0", "c0"),
    ) -> dict[str, Any] | None:
        """Convert PyTorch's ``h0`` or ``(h0, c0)`` to a state by name; the rest is for messages."""
        if hx is None:
            return None
        if isinstance(hx, Mapping):
            return dict(hx)
        if self._cell and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            pair = ", ".join(called)
            raise TypeError(f"{type(self).__name__}: the {what} is {type(hx).__name__}, expected ({pair})")
        given = {"h": hx[0], "c": hx[1]} if self._cell else {"h": hx}
        for (name, value), title in zip(given.items(), called, strict=False):
            array = as_floats(value, f"{type(self).__name__}: {title}")
            given[name] = array if batched or array.ndim != 2 else array[:, np.newaxis]
            if not batched and array.ndim != 2:
                raise ShapeError(
                    f"{type(self).__name__}: {title} has shape {array.shape}, "
                    "expected 2 axes for an unbatched input"
                )
        return given

    @overload
    def __call__(self, x: Value, hx: Any = None, *, mask: Any = None) -> Value: ...
    @overload
    def __call__(  # type: ignore[misc, overload-overlap]
        self: _LSTM,
        x: ArrayLike,
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        state: Any = None,
        threads: int = 1,
        last: bool = False,
        mask: ArrayLike | None = None,
    ) -> tuple[Array, tuple[Array, Array]]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        state: Any = None,
        threads: int = 1,
        last: bool = False,
        mask: ArrayLike | None = None,
    ) -> tuple[Array, Array]: ...
    def __call__(
        self,
        x: Any,
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        state: Any = None,
        threads: int = 1,
        last: bool = False,
        mask: Any = None,
    ) -> Any:
        """Run full sequences, as PyTorch does.

        Parameters
        ----------
        x : array_like, float32
            ``(T, input_size)``, ``(T, B, input_size)``, or ``(B, T, input_size)`` with ``batch_first``.
        hx : array_like, or for an LSTM a pair, optional
            Initial state ``(num_layers * directions, B, size)``, zeros by default; without the batch axis
            for an unbatched input. ``batch_first`` does not apply to it. In a net that is being described
            values per sequence, whose frames are ``(num_layers * directions, size)`` or that many numbers in
            a row, such as those of `FinalState`.
        lengths : array_like of int, (B,), optional
            Steps of each row, in any order. What PyTorch's packed sequences give: the output is zero
            beyond a row's end, its final state is that of its last step, its reverse direction
            begins there. The output keeps the input's number of steps.
        state : optional
            ``hx`` by the name that all nets have for it; a mapping from name to array (`last_state`) does.
        threads : int
            Threads that share the batch's rows; the bits do not depend on it.
        last : bool
            Only the output at each row's own last step; see `Net.__call__`.
        mask : Value, optional
            In a net that is being described: a number for each step of ``x``. Where it is 0 the step does not
            count: the state stays, and the output is ``h`` as it is. See `Masking`.

        Returns
        -------
        output : ndarray, float32
            ``(T, B, directions * (proj_size or hidden_size))``, axes as the input's; without the steps' axis
            for ``last``.
        state : ndarray, or for an LSTM ``(h, c)``
            The final state, shaped as ``hx``.

        Raises
        ------
        ShapeError, TypeError, ValueError
            If something does not fit; the message says what.
        """
        kind = type(self).__name__
        if isinstance(x, Value):
            return applied(self, (x, *masking(kind, mask), *self._start_values(hx)))
        check_unmasked(kind, mask)
        batched = (x.ndim if isinstance(x, np.ndarray) else np.ndim(x)) != 2
        if state is not None and hx is not None:
            raise TypeError(f"{kind}: got hx and state, expected one of them")
        start = self._initial_state(hx if state is None else state, batched)
        output, final = self._run(x, lengths, start, threads, last)
        return output, self._as_given(final, batched)

    def _start_values(self, hx: Any) -> tuple[Any, ...]:
        """The values that the state begins with, of ``h0`` or ``(h0, c0)``."""
        if hx is None:
            return ()
        if not self._cell:
            hx = (hx,)
        elif not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise TypeError(
                f"{type(self).__name__}: the initial state is {brief(hx)}, "
                "expected a pair of values, (h0, c0)"
            )
        for value in hx:
            if isinstance(value, Value) and value.time is not None:
                raise ValueError(
                    f"{type(self).__name__}: the initial state is {value!r}, expected a value per sequence"
                )
        return tuple(hx)

    def _as_given(self, state: State, batched: bool) -> Any:
        """Convert a state by name to PyTorch's form: ``h``, or for an LSTM ``(h, c)``."""
        h = state.read("h")
        h = h if batched else h[:, 0]
        if not self._cell:
            return h
        c = state.read("c")
        return h, c if batched else c[:, 0]

    def backward(self, dy: ArrayLike, dstate: Any = None) -> Any:
        """Go back through the last call in training mode; see `Net.backward`.

        Parameters
        ----------
        dy : array_like, float32, as the output
        dstate : array_like, or for an LSTM a pair, or a mapping from name to array, optional
            The gradient of the final state.

        Returns
        -------
        dx : ndarray, float32, as the input
        dstate : as the argument, a mapping as an array or a pair
            The gradient of the initial state; only if ``dstate`` was given.
        """
        from tinyrnn import training

        batched = np.ndim(dy) != 2
        given = None
        if dstate is not None:
            given = self._initial_state(dstate, batched, "gradient of the final state", ("dh", "dc"))
        (dx,), state = training.backward(self, [dy], given)
        if dstate is None:
            return dx
        return dx, self._as_given(state, batched)

    @classmethod
    def _called(cls, name: str) -> str:
        """Return this class's name for the tensor ``name`` of a layer."""
        return name

    @classmethod
    def _translated(cls, tensors: Mapping[str, ArrayLike]) -> Mapping[str, ArrayLike]:
        """Return tensors under our names, where a source of this cell has others."""
        return tensors

    def _mistaken(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        return _other_kind(type(self), self._gates_with(self.config()), shapes)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The layer that a state_dict holds: sizes, levels, directions and projection are read off it.

        Parameters
        ----------
        state_dict : mapping
            As `load_weights` gives it.
        prefix : str
            The layer's place in a larger model: ``"decoder.rnn."``. The names of a cell
            (``weight_ih``) do as well as those of a layer (``weight_ih_l0``).
        **options
            What tensors cannot tell: ``batch_first``, ``dropout``, an RNN's ``nonlinearity``, an LSTM's
            ``coupled``, a GRU's ``reset_after``, the functions of gates, ``clip``.

        Raises
        ------
        WeightsError
            If the tensors are not those of such a layer.
        """
        given: dict[str, ArrayLike] = {}
        for name, value in cls._translated(submodule(state_dict, prefix)).items():
            stem = name.removesuffix(SCALE)
            named = f"{stem}_l0{name[len(stem) :]}" if stem in _OF_A_CELL else name
            if named in given:
                raise WeightsError(
                    f"{cls.__name__}: got {named} twice, with and without its level, expected it once"
                )
            given[named] = value
        sizes = _sizes_of(cls, given, options)
        start = _start_in(cls, given)
        layer = inferred(cls, given, **{**sizes, **options})
        layer.initial_state = start
        return layer


# The tensors of a cell, which has no levels.
_OF_A_CELL = (
    *("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole"),
    *("weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c"),
    *("zeta", "nu", "weight_ir"),  # of a FastGRNN
    *("weight_hr", "bias_hr"),  # of a Jordan network
)


def _other_kind(kind: type[_Recurrent], expected: int, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Text for a message: the kind that the number of gates suggests, if it is not the ``expected`` one."""
    key = "weight_hh_l0" if "weight_hh_l0" in shapes else "weight_hh"
    shape = shapes.get(key, ())
    if len(shape) != 2 or 0 in shape or "weight_hr_l0" in shapes or not kind._hidden_product:
        return ""
    gates, rest = divmod(shape[0], shape[1])
    name = {1: "RNN", 3: "GRU", 4: "LSTM"}.get(gates)
    if rest or name is None or gates == expected:
        return ""
    article, cell = "an" if gates != 3 else "a", "Cell" if issubclass(kind, _Cell) else ""
    return (
        f"{kind._called(key)} has shape {shape}, expected ({expected}*hidden_size, hidden_size): these "
        f"look like {article} {name}'s weights, use tr.{name}{cell}"
    )


def _sizes_of(kind: type[_Recurrent], given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments for tensors of these shapes, which have a layer's names."""
    name, gates = kind.__name__, kind._gates_with(options)
    shapes = {key: np.shape(value) for key, value in given.items()}
    for key in ("weight_ih_l0", "weight_hh_l0")[: 1 + kind._hidden_product]:
        called = kind._called(key)
        if key not in shapes:
            raise lacking(name, called, map(kind._called, shapes), (called, key))
        if len(shapes[key]) != 2:
            raise WeightsError(f"{name}: {called} has shape {shapes[key]}, expected two axes")
    projection = shapes.get("weight_hr_l0")
    if kind._output and (projection is None or len(projection) != 2):
        raise lacking(name, kind._called("weight_hr_l0"), map(kind._called, shapes), ("weight_hr_l0",))
    if projection and not kind._output and not issubclass(kind, _LSTM) and "u_rank" not in kind.arguments:
        raise WeightsError(f"{name}: weight_hr_l0 is a projection, which only an LSTM has: use tr.LSTM")
    if "weight_peephole_l0" in shapes and not issubclass(kind, _LSTM):
        raise WeightsError(f"{name}: weight_peephole_l0 is of peepholes, which only an LSTM has: use tr.LSTM")
    mistaken = _other_kind(kind, gates, shapes)
    if mistaken:
        raise WeightsError(f"{name}: {mistaken}")
    rows, input_size = shapes["weight_ih_l0"]
    if rows % gates or rows == 0:
        raise WeightsError(
            f"{name}: {kind._called('weight_ih_l0')} has shape {(rows, input_size)}, expected a multiple of "
            f"{gates} rows = ({gates}*hidden_size, input_size)"
        )
    levels = 0
    while f"weight_ih_l{levels}" in shapes:
        levels += 1
    sizes = {
        "input_size": int(input_size),
        "hidden_size": rows // gates,
        "num_layers": levels,
        "bias": "bias_ih_l0" in shapes,
        "bidirectional": "weight_ih_l0_reverse" in shapes,
    }
    if "layer_norm" in kind.arguments:
        sizes["layer_norm"] = "weight_ln_ih_l0" in shapes
    if "u_rank" in kind.arguments:
        sizes["u_rank"] = int(projection[0]) if projection else None
        reads = shapes.get("weight_ir_l0")
        if reads is not None and len(reads) == 2:
            sizes["w_rank"], sizes["input_size"] = map(int, reads)
    if kind._output and projection:
        sizes["output_size"] = int(projection[0])
    if issubclass(kind, _LSTM):
        sizes["proj_size"] = int(projection[0]) if projection else 0
        peephole = shapes.get("weight_peephole_l0")
        sizes["peephole"] = "matrix" if len(peephole or ()) == 2 else peephole is not None
    return sizes


def _start_in(kind: type[_Recurrent], given: dict[str, ArrayLike]) -> dict[str, ArrayLike] | None:
    """Take the initial state out of a layer's tensors."""
    names = ("h", "c") if kind._cell else ("h",)
    return {name: given.pop(f"{name}0") for name in names if f"{name}0" in given} or None


class _RNN(_Recurrent):
    """The base of RNN and RNNCell."""

    _kind, _gates = "rnn", 1
    _later: ClassVar[Mapping[str, Any]] = {"clip": None, **_LATER}
    _functions: ClassVar[Mapping[str, str]] = {"nonlinearity": "tanh"}

    def _choose(self, nonlinearity: Any, clip: float | None, zoneout: float, **given: Any) -> dict[str, Any]:
        if nonlinearity == "relu" and clip is None and zoneout == 0.0:  # the fast cell has this one, too
            drops = self._general(clip, zoneout=zoneout, nonlinearity="tanh", **given)
            self.nonlinearity = nonlinearity
            return {"relu": 1, **drops}
        return self._general(clip, zoneout=zoneout, nonlinearity=nonlinearity, **given)


class RNN(_RNN):
    """Elman RNN, as ``torch.nn.RNN``: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    With other functions and ``clip`` as ONNX' RNN; `LSTM` says how they are given.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    nonlinearity : str or tuple
        ``"tanh"``, ``"relu"``, or another function.
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    clip : float, optional
        The sum is clipped to ``-clip .. clip`` before the function.
    recurrent_dropout, zoneout : float
        As an `LSTM` has them.
    """

    arguments = (
        "input_size",
        "hidden_size",
        "num_layers",
        "nonlinearity",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "clip",
        *_LATER,
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Function = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        clip: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
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
            clip=clip,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
        )


class _LSTM(_Recurrent):
    """The base of LSTM and LSTMCell."""

    _kind, _gates, _cell = "lstm", 4, True
    _functions: ClassVar[Mapping[str, str]] = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "output_activation": "tanh",
    }
    _later: ClassVar[Mapping[str, Any]] = {
        "peephole": False,
        "coupled": False,
        **_functions,
        "clip": None,
        "layer_norm": False,
        "cell_clip": None,
        **_LATER,
        "zoneout_cell": 0.0,
    }
    coupled: bool
    activation: Function
    recurrent_activation: Function
    output_activation: Function

    def _choose(
        self,
        peephole: bool | str,
        coupled: bool,
        clip: float | None,
        layer_norm: bool,
        cell_clip: float | None,
        **given: Any,
    ) -> dict[str, Any]:
        name = type(self).__name__
        self.cell_clip = check_clip(f"{name}: cell_clip", cell_clip)
        self.layer_norm = check_bool(f"{name}: layer_norm", layer_norm)
        if peephole == "matrix":
            self.peephole = peephole
        elif isinstance(peephole, str):
            raise ValueError(f"{name}: peephole is {peephole!r}, expected False, True or 'matrix'")
        else:
            self.peephole = check_bool(f"{name}: peephole", peephole)
        if peephole == "matrix" and layer_norm:
            raise ValueError(f"{name}: got layer_norm=True with peephole='matrix', expected one of them")
        self.coupled = check_bool(f"{name}: coupled", coupled)
        if coupled:
            self._kind = "lstm_coupled"
        found = self._general(clip, **given)
        if self._kind == "lstm" and peephole:
            self._kind = "lstm_peephole"
        else:
            found["peephole"] = 2 if peephole == "matrix" else int(self.peephole)
        return found | {"layer_norm": self.layer_norm, "cell_clip": self.cell_clip or 0.0}

    def _formula(self, direction: int) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("coupled", "cell_clip", "zoneout_cell")}
        return {**own, **super()._formula(direction)}

    def config(self) -> dict[str, Any]:
        """The arguments that build the same net again; ``output_activation`` if it is not ``activation``."""
        arguments = super().config()
        arguments.pop("output_activation", None)
        if self.output_activation != self.activation:
            arguments["output_activation"] = self.output_activation
        return arguments

    @classmethod
    def _gates_with(cls, options: Mapping[str, Any]) -> int:
        return 3 if options.get("coupled") else 4


class LSTM(_LSTM):
    """LSTM, as ``torch.nn.LSTM``, and with peepholes and coupled gates, which PyTorch lacks.

    ``i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)``, ``g = tanh(...)``, ``c' = f c + i g``,
    ``h' = o tanh(c')``; with a projection ``h' = W_hr (o tanh(c'))``. Gate order is ``i f g o``.

    With ``peephole`` (Gers and Schmidhuber, 2000) the gates see the cell: ``p_i c`` and ``p_f c`` are added
    to the sums of ``i`` and ``f``, and ``p_o c'`` to that of ``o``. ``weight_peephole_l0``, of shape
    ``(3*hidden_size,)``, is ``p_i p_f p_o``; ONNX has them as ``P``, in the order ``i o f``.

    With ``coupled`` (CIFG in Greff et al., 2017; ONNX: ``input_forget=1``) the input gate is kept and
    ``f = 1 - i``, so ``c' = (1 - i) c + i g``. Gate order is ``i g o``; the vectors of peepholes are
    ``p_i p_o``. TensorFlow's ``CoupledInputForgetGateLSTMCell`` keeps ``f``, which is ours with the
    opposite sign in the rows of that gate.

    With ``peephole="matrix"`` ``i``, ``f`` and ``o`` get ``V c`` into their sums, all of the ``c`` before the
    step. ``weight_peephole_l0``, of shape ``(3*hidden_size, hidden_size)``, is ``V_i V_f V_o``; coupled
    ``V_i V_o``.

    Other functions than sigmoid and tanh are ONNX' (``activations``, ``activation_alpha``,
    ``activation_beta``): ``sigmoid``, ``tanh``, ``relu``, ``softsign``, ``softplus``,
    ``("leaky_relu", alpha)``, ``("elu", alpha)``, ``("thresholded_relu", alpha)``,
    ``("affine", alpha, beta)``: ``alpha x + beta``,
    ``("scaled_tanh", alpha, beta)``: ``alpha tanh(beta x)``, and ``("hard_sigmoid", alpha, beta)``:
    ``alpha x + beta`` within 0 .. 1. A name alone has ONNX' numbers, if it has any. So ``"hard_sigmoid"`` is
    0.2 and 0.5, as in Keras 2; that of PyTorch and of Keras 3 is ``("hard_sigmoid", 1 / 6, 0.5)``. In a
    bidirectional layer a pair of functions gives each direction its own.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional : bool
    proj_size : int
        Size of the projected hidden state; 0 for none.
    peephole : bool or "matrix"
    coupled : bool
    activation, recurrent_activation : str or tuple
        The function of ``g``, by default tanh; and that of the gates, by default sigmoid. Keras' names;
        ONNX has them as ``g`` and ``f``.
    output_activation : str or tuple, optional
        The function of ``c'``, by default that of ``g``, as in Keras; ONNX has it as ``h``.
    clip : float, optional
        The gates' sums, those of ``g`` and peepholes included, are clipped to ``-clip .. clip`` before their
        functions, as by ONNX' ``clip``. ``c'`` is not clipped; ``cell_clip`` does that.
    layer_norm : bool
        Layer normalisation as by Ba, Kiros and Hinton (2016), equations 20 to 22, and by Haste: the products
        ``W_ih x`` and ``W_hh h`` are normalised each, over all gates of a row together, with gains
        ``weight_ln_ih_l0`` and ``weight_ln_hh_l0``, ``(4*hidden_size,)``; the biases are added after that.
        ``h' = o tanh(LN(c'))`` with ``weight_ln_c_l0`` and ``bias_ln_c_l0``; ``c'`` itself is passed on as it
        is. ``eps`` is 1e-5. TensorFlow's ``LayerNormBasicLSTMCell`` normalises each gate by itself, and
        passes on the normalised ``c'``: another net.
    cell_clip : float, optional
        ``c'`` is clipped to ``-cell_clip .. cell_clip`` before the output gate and the next step see it, as
        by TensorFlow's ``LSTMCell``.
    recurrent_dropout : float
        The share of ``h`` that its product does not see in training, the same numbers in all steps of a
        sequence (Gal and Ghahramani, 2016), as Keras has it for the LSTM; idle at inference.
    zoneout, zoneout_cell : float
        Zoneout (Krueger et al., 2017): a number of ``h``, or of ``c``, stays as it was with this
        probability in training. At inference this share of the old number is mixed with the new one. They
        exclude ``proj_size``.
    """

    arguments = (
        *_Recurrent.arguments,
        "proj_size",
        "peephole",
        "coupled",
        *_LSTM._functions,
        "clip",
        "layer_norm",
        "cell_clip",
        *_LATER,
        "zoneout_cell",
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
        *,
        peephole: bool | str = False,
        coupled: bool = False,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        output_activation: Function | None = None,
        clip: float | None = None,
        layer_norm: bool = False,
        cell_clip: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            _proj_size=proj_size,
            peephole=peephole,
            coupled=coupled,
            activation=activation,
            recurrent_activation=recurrent_activation,
            output_activation=activation if output_activation is None else output_activation,
            clip=clip,
            layer_norm=layer_norm,
            cell_clip=cell_clip,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            zoneout_cell=zoneout_cell,
        )


class _GRU(_Recurrent):
    """The base of GRU and GRUCell."""

    _kind, _gates = "gru", 3
    _functions: ClassVar[Mapping[str, str]] = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    _later: ClassVar[Mapping[str, Any]] = {
        "reset_after": True,
        **_functions,
        "clip": None,
        "layer_norm": False,
        **_LATER,
    }
    reset_after: bool
    activation: Function
    recurrent_activation: Function

    def _choose(
        self, reset_after: bool, clip: float | None, layer_norm: bool, **given: Any
    ) -> dict[str, Any]:
        name = type(self).__name__
        self.reset_after = check_bool(f"{name}: reset_after", reset_after)
        self.layer_norm = check_bool(f"{name}: layer_norm", layer_norm)
        if not reset_after:
            self._kind = "gru_before"
        if layer_norm and not reset_after:
            raise ValueError(
                f"{name}: got layer_norm=True with reset_after=False, expected reset_after=True: the norm is "
                "of the hidden product that the reset gate then acts on"
            )
        return self._general(clip, **given) | {"layer_norm": self.layer_norm}

    def _formula(self, direction: int) -> dict[str, Any]:
        return {"reset_after": self.reset_after, **super()._formula(direction)}


class GRU(_GRU):
    """GRU, as ``torch.nn.GRU``, and with the reset gate before the product, as Cho et al. (2014) have it.

    ``r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``,
    ``h' = (1 - z) n + z h``. Gate order is ``r z n``.

    With ``reset_after=False`` the reset gate acts before the hidden product:
    ``n = tanh(W_in x + b_in + W_hn (r h) + b_hn)``. The tensors are the same, their meaning is not: weights
    that were trained one way give wrong results the other way. PyTorch has ``reset_after=True`` only; Keras
    has both; ONNX calls it ``linear_before_reset``, 1 for True, and 0 by default.

    The update gate ``z`` is the share of the old state in PyTorch, Keras, ONNX and here. Cho et al. write
    ``h' = z h + (1 - z) n``, which is that. Chung et al. (2014) write ``h' = (1 - z) h + z n``: weights
    that follow them need the opposite sign in the rows of ``z``. Keras and ONNX order gates ``z r n``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first : bool
    dropout : float
        Between levels in training; idle at inference.
    bidirectional, reset_after : bool
    activation, recurrent_activation : str or tuple
        The function of ``n``, by default tanh; and that of the gates, by default sigmoid. `LSTM` says how
        they are given.
    clip : float, optional
        The gates' sums are clipped to ``-clip .. clip`` before their functions, as by ONNX' ``clip``.
    layer_norm : bool
        Layer normalisation of ``W_ih x`` and of ``W_hh h``, each over all gates of a row together, before
        biases and the reset gate, as by Haste. Gains are ``weight_ln_ih_l0`` and ``weight_ln_hh_l0``,
        ``(3*hidden_size,)``; ``eps`` is 1e-5. It excludes ``reset_after=False``.
    recurrent_dropout, zoneout : float
        As an `LSTM` has them.
    """

    arguments = (*_Recurrent.arguments, "reset_after", *_GRU._functions, "clip", "layer_norm", *_LATER)

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
        reset_after: bool = True,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        clip: float | None = None,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            reset_after=reset_after,
            activation=activation,
            recurrent_activation=recurrent_activation,
            clip=clip,
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
        )


# ---- cells --------------------------------------------------------------------------------------


class _Cell(_Recurrent):
    """One step of one level, as PyTorch's cells: tensors without a level in their names."""

    def _name(self, name: str, level: int) -> str:
        return name

    @classmethod
    def _called(cls, name: str) -> str:
        return name.removesuffix("_l0")

    def _place(self, level: int) -> str:
        return ""

    @overload  # type: ignore[override]
    def __call__(  # type: ignore[misc]
        self: _LSTM, x: ArrayLike, hx: Any = None
    ) -> tuple[Array, Array]: ...
    @overload
    def __call__(self, x: ArrayLike, hx: Any = None) -> Array: ...
    def __call__(self, x: Any, hx: Any = None) -> Any:
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
        if isinstance(x, Value):
            raise TypeError(
                f"{name}: got a value of a net, expected an array: in a net use "
                f"tr.{name.removesuffix('Cell')}, which streams step by step"
            )
        x = x if _core.is_floats(x) else as_floats(x, f"{name}: input")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input has shape {x.shape}, expected ({self.input_size},) or (B, {self.input_size})"
            )
        leading, rows = x.shape[:-1], math.prod(x.shape[:-1])
        given = [] if hx is None else self._pair(hx, leading, "state")
        if self.training:
            from tinyrnn import training

            if rows == 0:
                raise ShapeError(
                    f"{name}: input has shape {x.shape}, expected at least one row in training mode"
                )
            start = {name: array[np.newaxis] for name, array in zip("hc", given, strict=False)}
            _, final = training.forward(self, x.reshape(1, rows, self.input_size), None, start, 1)
            return self._step_state([final.read(name) for name in final], leading)

        size = self._output_size
        if rows == 0:
            return self._step_state([np.empty((0, size), np.float32)] * (1 + self._cell), leading)
        key, call = calls.prepared(self, self._levels, (self.input_size,), rows, 1, 1)
        numbers = _core.aligned_zeros(call.state_bytes)
        state = numbers.reshape(rows, -1)  # of each row h, then for an LSTM c
        parts = [state[:, i * size : (i + 1) * size] for i in range(1 + self._cell)]
        for part, name, array in zip(parts, "hc", given or (None, None), strict=False):
            if array is not None:
                part[:] = array
            elif name in self._start:
                part[:] = self._start[name].get(0)
        call.parts[0].run_rows(x, np.empty(rows * size, np.float32), numbers, 1, None, 0)
        self._calls.put(key, call)
        return self._step_state(parts, leading)

    def _pair(self, given: Any, leading: tuple[int, ...], what: str) -> list[Array]:
        """Convert ``h``, or for an LSTM ``(h, c)``, to arrays (rows, hidden_size)."""
        name = type(self).__name__
        pair = given if self._cell and isinstance(given, (tuple, list)) else (given,)
        if len(pair) != 1 + self._cell:
            raise TypeError(f"{name}: the {what} is {type(given).__name__}, expected (h, c)")
        arrays = [value if _core.is_floats(value) else as_floats(value, f"{name}: {what}") for value in pair]
        shape = (*leading, self._output_size)
        for array in arrays:
            if array.shape != shape:
                raise ShapeError(f"{name}: the {what} has shape {array.shape}, expected {shape}")
        return arrays if len(leading) == 1 else [array.reshape(-1, self._output_size) for array in arrays]

    def _step_state(self, arrays: list[Array], leading: tuple[int, ...]) -> Any:
        """Undo `_pair`: return the state in the caller's form."""
        shape = (*leading, self._output_size)
        shaped = [array if array.shape == shape else array.reshape(shape) for array in arrays]
        return tuple(shaped) if self._cell else shaped[0]

    def backward(self, dy: Any, dstate: Any = None) -> Any:
        """Go back through the last call in training mode: one step. For steps in a row train the layer.

        Parameters
        ----------
        dy : array_like, or for an LSTM a pair
            The gradient of what the call returned.

        Returns
        -------
        dx : ndarray, float32, as the input
        dhx : ndarray, or for an LSTM a pair
            The gradient of the state before.
        """
        from tinyrnn import training

        last = self._practised().forward
        rows = 1 if last is None else last.layout.tape.batch
        first = dy[0] if self._cell and isinstance(dy, (tuple, list)) else dy
        leading = np.shape(first)[:-1]
        given = self._pair(dy, leading, "gradient")
        if last is not None and len(given[0]) != rows:
            raise ShapeError(f"{type(self).__name__}: the gradient has {len(given[0])} rows, expected {rows}")
        final = {name: array[np.newaxis] for name, array in zip("hc", given, strict=False)}
        (dx,), state = training.backward(self, [np.zeros((1, *given[0].shape), np.float32)], final)
        assert dx is not None  # a cell reads floats
        return dx.reshape(*leading, self.input_size), self._step_state(
            [state.read(name) for name in state], leading
        )

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, ArrayLike], prefix: str = "", **options: Any) -> Self:
        """The cell that a state_dict holds; see `LSTM.from_state_dict`. A layer of one level does too."""
        given = {
            name.removesuffix("_l0").replace("_l0" + SCALE, SCALE): value
            for name, value in cls._translated(submodule(state_dict, prefix)).items()
        }
        named = {f"{name}_l0": value for name, value in given.items()}
        sizes = _sizes_of(cls, named, options)
        arguments = {name: sizes[name] for name in cls.arguments if name in sizes}
        start = _start_in(cls, given)
        cell = inferred(cls, given, **{**arguments, **options})
        cell.initial_state = start
        return cell


class RNNCell(_Cell, _RNN):
    """One step of an Elman RNN, as ``torch.nn.RNNCell``; `RNN` has the options.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    nonlinearity : str or tuple
        ``"tanh"``, ``"relu"``, or another function.
    clip : float, optional
    recurrent_dropout, zoneout : float
    """

    arguments = ("input_size", "hidden_size", "bias", "nonlinearity", "clip", *_LATER)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Function = "tanh",
        *,
        clip: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            nonlinearity=nonlinearity,
            clip=clip,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
        )


class LSTMCell(_Cell, _LSTM):
    """One step of an LSTM, as ``torch.nn.LSTMCell``; `LSTM` has the formulas and the options.

    Parameters
    ----------
    input_size, hidden_size : int
    bias, coupled : bool
    peephole : bool or "matrix"
    activation, recurrent_activation : str or tuple
    output_activation : str or tuple, optional
    clip : float, optional
    layer_norm : bool
    cell_clip : float, optional
    recurrent_dropout, zoneout, zoneout_cell : float
    """

    arguments = (
        "input_size",
        "hidden_size",
        "bias",
        "peephole",
        "coupled",
        *_LSTM._functions,
        "clip",
        "layer_norm",
        "cell_clip",
        *_LATER,
        "zoneout_cell",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        peephole: bool | str = False,
        coupled: bool = False,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        output_activation: Function | None = None,
        clip: float | None = None,
        layer_norm: bool = False,
        cell_clip: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            peephole=peephole,
            coupled=coupled,
            activation=activation,
            recurrent_activation=recurrent_activation,
            output_activation=activation if output_activation is None else output_activation,
            clip=clip,
            layer_norm=layer_norm,
            cell_clip=cell_clip,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            zoneout_cell=zoneout_cell,
        )


class GRUCell(_Cell, _GRU):
    """One step of a GRU, as ``torch.nn.GRUCell``; `GRU` has the formulas and the options.

    Parameters
    ----------
    input_size, hidden_size : int
    bias, reset_after : bool
    activation, recurrent_activation : str or tuple
    clip : float, optional
    layer_norm : bool
    recurrent_dropout, zoneout : float
    """

    arguments = (
        "input_size",
        "hidden_size",
        "bias",
        "reset_after",
        *_GRU._functions,
        "clip",
        "layer_norm",
        *_LATER,
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        activation: Function = "tanh",
        recurrent_activation: Function = "sigmoid",
        clip: float | None = None,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            reset_after=reset_after,
            activation=activation,
            recurrent_activation=recurrent_activation,
            clip=clip,
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
        )
