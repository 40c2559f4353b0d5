"""The contract of layers and nets: the methods that each must have, and the attributes of all.

The modules above have one subject each: calls.py runs layers, state_dicts.py names their tensors,
parameters.py and training.py train them, saving.py writes them to files. They know this contract and no class
of layer. The methods of `Net` give their functions public names.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from tinyrnn import _core
from tinyrnn.arguments import check_int, explained
from tinyrnn.arrays import as_floats
from tinyrnn.attributes import Guarded, Live, absent, brief
from tinyrnn.errors import ShapeError
from tinyrnn.formats import check_format
from tinyrnn.names import HOMES, find
from tinyrnn.plans import Cores, KeptCalls, Ports
from tinyrnn.tensors import COUNTER, Frame, Slot, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinyrnn.tapes import Practice

# The deepest nesting of nets, so that every saved net can be loaded.
NESTING = 64


def _complete(net: Module) -> None:
    """Mark a net as made: its arguments are fixed from now on."""
    net._made = True


class Module(Guarded, ABC):
    """The base of layers and of nets of layers: a layer is a net of one.

    A layer's methods return the frames that it reads and writes, its tensors, and the core layers that
    compute it. Those of a net of layers call its layers' methods.
    """

    types: ClassVar[dict[str, type[Module]]] = {}
    arguments: ClassVar[tuple[str, ...]] = ()
    _settable: ClassVar[tuple[str, ...]] = ("training",)

    # True for a layer that carries a state from step to step.
    _recurrent: bool = False
    _has_frames: bool = False  # True if what it does depends on the axes of a frame: a chain then keeps track

    # True for a layer that counts its batches in training: `num_batches_tracked`.
    _counts_batches: ClassVar[bool] = False

    training: bool = False
    _made: bool  # its constructor has ended
    _restored: bool = False  # built from a description: warnings came when it was first made
    _calls: KeptCalls  # the plans of calls.py
    edition: ClassVar[object] = object()  # another one after each assignment to an attribute of any net
    _practice: Practice | None = None  # the record of training.py, from the first pass on
    _frozen: frozenset[str] = frozenset()  # a layer's tensors that have no gradient, by name
    _version: int = 0  # grows when training must be laid out anew
    # A recurrent layer's initial state: tables that no plan runs, by its states' names. Zeros without one.
    _start: Mapping[str, _core.Layer] = MappingProxyType({})
    _start_trains: bool = False

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        self = super().__new__(cls)
        self._calls = KeptCalls()
        return self

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_") and Module not in cls.__bases__:
            Module.types[cls.__name__] = cls
            if cls.__module__.startswith("tinyrnn."):
                setattr(cls, "__init__", explained(cls.__init__, cls.__name__, _complete))  # noqa: B010

    @abstractmethod
    def __call__(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Run over whole sequences; see `Net.__call__`."""

    # ---- what it reads and writes ----------------------------------------------------------------

    @abstractmethod
    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        """Append the core layers that read ``frame``, and return the frame that the last one writes.

        ``lead`` is the number of axes before the frame in the user's array.
        """

    # True for a layer that may read a mask, between its own value and those that its state begins with.
    _masks: ClassVar[bool] = False

    # What a message expects of several values, if that is not one axis of time.
    _meet: ClassVar[str] = ""

    @property
    def _is_apart(self) -> bool:
        """True for a layer whose first value may be on another axis of time than the others."""
        return False

    # True for a net that is no chain of core layers: `Cores` say what each reads.
    _is_wired: bool = False

    # The steps of inputs that a call may leave out.
    _own_steps: Mapping[str, int] = MappingProxyType({})

    def _wire(
        self, cores: Cores, frames: list[Frame], values: list[int], lead: int
    ) -> list[tuple[int, Frame]]:
        """Append the core layers that read ``values``; return (number, frame) of each value they write."""
        kind, starts, begins = type(self).__name__, self._start_frames(), frames[1:]
        # the core knows a mask by its axis of time; a frame of one number may be either
        if self._masks and len(begins) in (1, 1 + len(starts)) and math.prod(begins[0]) == 1:
            begins = begins[1:]
        if len(begins) not in (0, len(starts)):
            more = f", or {1 + len(starts)} with {' and '.join(starts)}" if starts else ""
            mask = ", and a mask" if self._masks else ""
            raise TypeError(f"{kind}: got {len(values)} values, expected 1{more}{mask}")
        for (name, wanted), frame in zip(starts.items(), begins, strict=False):
            if frame not in wanted:
                raise ShapeError(
                    f"{kind}: {name} has frames of shape {frame}, expected {' or '.join(map(str, wanted))}"
                )
        cores.value, first = values[0], len(cores)
        frame = self._lay(frames[0], lead, cores)
        for place in range(first, len(cores)):
            cores.reads[place] += tuple(values[1:])
        return [(cores.value, frame)]

    def _laid(self, frame: Frame, lead: int) -> tuple[list[_core.Layer], Frame]:
        """Return the core layers for an input, and the frame that the net writes."""
        if not self._is_wired:
            cores: list[_core.Layer] = []
            return cores, self._lay(frame, lead, cores)
        graph = Cores([(frame, 1)])
        out = self._lay(frame, lead, graph)
        graph.outputs = (graph.value,)
        return graph, out

    def _several(self) -> Ports | None:
        """The net laid out, if it has several inputs, outputs or axes of time; else None.

        Of a chain whose output has a rate of its own, too.
        """
        known = self._frame() if self._recurrent else None
        if known is None or None in known:
            return None
        frame = tuple(size or 1 for size in known)
        try:
            found, out_frame = self._laid(frame, 1)
        except ShapeError:  # perhaps an axis is counted from (T, B, frame)
            found, out_frame = self._laid(frame, 2)
        if not _core.Plan(found, frame, 1, 1).has_rates:
            return None
        cores = found if isinstance(found, Cores) else Cores([(frame, 1)])
        if cores is not found:
            cores += found
            cores.outputs = (cores.value,)
        return Ports(["x"], ["y"], cores, [out_frame], ("time",))

    def _rank(self, ndim: int) -> int | None:
        """Axes of a frame within an input of ``ndim`` axes; None if any will do."""
        return None

    def _frame(self) -> tuple[int | None, ...] | None:
        """The frame that the net reads, as far as it is known; None in it for an open size."""
        return None

    @property
    def _batch_first(self) -> bool:
        orders = {leaf.batch_first for _, leaf in self._leaves() if leaf._recurrent} - {None}
        if len(orders) > 1:
            raise ValueError(
                "batch_first is not the same in all recurrent layers of the net, expected one value"
            )
        return orders.pop() if orders else False

    def _state_slots(self, plan: _core.Plan, first: int, prefix: str) -> list[Slot]:
        """A layer's part of a state, by name; ``first`` is its first core layer's place in the plan."""
        return []

    def _state_names(self) -> tuple[str, ...]:
        """The names of a layer's states, without a prefix."""
        return ()

    def _start_names(self) -> tuple[str, ...]:
        """Those of a layer's states that may begin with other numbers than zeros."""
        return ()

    def _start_shape(self, name: str) -> tuple[int, int]:
        """The shape of one of them without its batch: (levels * directions, size)."""
        raise NotImplementedError(type(self).__name__)

    def _start_frames(self) -> dict[str, tuple[Frame, ...]]:
        """The values that a layer's state may begin with, by name: the frames that each may have."""
        return {}

    def _fed(self) -> set[int]:
        """The layers of a net whose states begin with values of it: their ids."""
        return {one for child in self._children() for one in child._fed()}

    def _set_start(self, names: Iterable[str], trains: bool) -> None:
        """Give a layer tables for these of its states, and no others; those that are there keep numbers."""
        made = {}
        for name in self._start_names():
            if name in names:
                rows, size = self._start_shape(name)
                new = _core.Layer("embedding", num_embeddings=rows, embedding_dim=size)
                made[name] = self._start.get(name, new)
        self._start = MappingProxyType(made)
        self._start_trains = trains and bool(made)
        self._version += 1

    def _start_tensors(self) -> list[Tensor]:
        """The tensors of a layer's initial state: ``h0``, ``c0``."""
        return [
            Tensor(f"{name}0", self._start_shape(name), core, 0, not self._start_trains)
            for name, core in self._start.items()
        ]

    def _dropout_after(self, level: int) -> _core.Layer | None:
        """The core layer for dropout after one of a layer's own in training; None if there is none."""
        return None

    def _index_count(self) -> int:
        """The number of indices of a layer that reads indices; 0 for one that reads numbers."""
        return 0

    # ---- what it is made of ----------------------------------------------------------------------

    def _ports_known(self) -> dict[str, tuple[Frame | None, str | None]]:
        """The frame of each input, None if the layers leave it open, and the name of its axis of time."""
        known = self._frame()
        closed = None if known is None or None in known else tuple(size or 1 for size in known)
        return {"x": (closed, "time")}

    def _nodes_known(self) -> tuple[Sequence[tuple[str, Module, tuple[int, ...]]], dict[str, int]]:
        """(name, part, reads) of each direct part of a net, and its outputs; nothing of a layer.

        Values are numbered: inputs first, then what each part writes.
        """
        return (), {}

    def _output_names(self) -> list[str]:
        """The names of its outputs."""
        return ["y"]

    def _children(self) -> Iterable[Module]:
        """The direct parts of a net, layers or nets."""
        return ()

    def _leaves(self) -> list[tuple[str, Module]]:
        """(prefix, layer) of every layer of the net, in order."""
        return [("", self)]

    def _modes(self) -> list[tuple[Module, bool]]:
        """The net and all nets and layers within it, each with its training mode."""
        return [(self, self.training), *(pair for child in self._children() for pair in child._modes())]

    def _tensors(self) -> list[Tensor]:
        """The entries of the state_dict, in PyTorch's order."""
        return []

    def _cores(self) -> list[_core.Layer]:
        """A layer's core layers that have tensors."""
        return []

    def _core_count(self) -> int:
        """The number of core layers that `_lay` appends for a layer."""
        return 1

    def _reformat(self, formats: list[str]) -> None:
        """Keep the matrices of each of `_cores` in the format given for it, without weights."""
        assert not formats, f"{type(self).__name__} has nothing to reformat"

    def _place(self, level: int) -> str:
        """The name that a layer gives one of its core layers."""
        return ""

    def _path(self, prefix: str, level: int) -> str:
        """The name that a net gives one of a layer's core layers; a layer without a name goes by its type."""
        return (prefix + self._place(level)).removesuffix(".") or type(self).__name__

    def _places(self) -> list[tuple[str, Module, int]]:
        """(name, layer, which of its core layers) of every core layer of the net, in order."""
        return [
            (leaf._path(prefix, level), leaf, level)
            for prefix, leaf in self._leaves()
            for level in range(leaf._core_count())
        ]

    @property
    def formats(self) -> dict[str, str]:
        """The format of the matrices, layer by layer: the names that `quantize` takes to ``keep``.

        A level of a stack has a name of its own, ``"lstm.l0"``; layers without a matrix are left out.
        """
        return {
            name: leaf._cores()[level].format
            for name, leaf, level in self._places()
            if leaf._cores() and leaf._cores()[level].matrices
        }

    def _set_batches_seen(self, count: int) -> None:
        """Set the number of batches of a layer that counts them."""
        raise NotImplementedError(type(self).__name__)

    def _mistaken(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Text for a message: the other kind of layer with tensors of these shapes, or empty."""
        return ""

    # ---- what it was made with -------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The arguments that build the same net again."""
        return {name: getattr(self, name) for name in self.arguments}

    def _describe(self) -> dict[str, Any]:
        """The net without its tensors as JSON, from which `build` makes the same net."""
        description = {"type": type(self).__name__, "arguments": self.config()}
        formats = [core.format for core in self._cores()]
        if any(name != "float32" for name in formats):
            description["formats"] = formats
        if self._start:
            description["initial_state"] = {"names": list(self._start), "learned": self._start_trains}
        return description

    @classmethod
    def _described(cls, description: Mapping[str, Any]) -> Module:
        """Make a layer of this type from a description by `_describe`."""
        kind, arguments = description["type"], description["arguments"]
        unknown = set(arguments) - set(cls.arguments)
        if unknown:
            raise ValueError(f"{kind}: got unknown arguments {sorted(unknown)}")
        layer = cls.__new__(cls)
        layer._restored = True
        layer.__init__(**arguments)  # type: ignore[misc]
        if "formats" in description:
            formats = description["formats"]
            if not isinstance(formats, list) or len(formats) != len(layer._cores()):
                raise ValueError(
                    f"{kind}: got formats {brief(formats)}, expected a list of {len(layer._cores())}"
                )
            layer._reformat([check_format(f"{kind}: format", name) for name in formats])
        return layer

    def _format_note(self) -> str:
        """The formats of a layer as its repr shows them: nothing if all are float32."""
        formats = [core.format for core in self._cores() if core.matrices]
        if not any(name != "float32" for name in formats):
            return ""
        return f" [{', '.join(formats if len(set(formats)) > 1 else formats[:1])}]"

    def _start_note(self) -> str:
        """The tensors of a layer's initial state as its repr shows them: nothing if there are none."""
        if not self._start:
            return ""
        learned = "learned " if self._start_trains else ""
        return f" [{learned}{', '.join(tensor.name for tensor in self._start_tensors())}]"

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({given}){self._format_note()}{self._start_note()}"

    # ---- training --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode, as in PyTorch.

        Dropout drops, batch normalisation uses the batch's statistics, and a call keeps the tape for
        `backward`. A new net is in evaluation mode. A layer of a net in training mode may be in evaluation
        mode: ``net["bn"].eval()`` uses its running statistics, and they stay.
        """
        if not isinstance(mode, bool):
            raise TypeError(f"train: mode is {mode!r}, expected True or False")
        self.training = mode
        if self._practice is not None:
            self._practice.forward = None
        for child in self._children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode, ``train(False)``, and free the tape's memory."""
        if self._practice is not None:
            self._practice.layout = None
        return self.train(False)

    def _practised(self) -> Practice:
        """Return the record that training.py keeps; threads that ask at once get the same one."""
        if self._practice is None:
            from tinyrnn.tapes import Practice

            self.__dict__.setdefault("_practice", Practice(type(self).__name__))
        assert self._practice is not None
        return self._practice

    def _freeze(self, names: Iterable[str], frozen: bool) -> None:
        """Freeze tensors of a layer, or unfreeze them."""
        self._frozen = self._frozen.union(names) if frozen else self._frozen.difference(names)
        self._version += 1

    def _versions(self) -> int:
        """A number that grows when training must be laid out anew because of any layer of the net."""
        return sum(leaf._version for _, leaf in self._leaves())

    # ---- attributes: arguments and tensors ---------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for tensor in self._tensors():
                if tensor.name == name:
                    return tensor.read()
        raise absent(self, "attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and "_made" in self.__dict__:
            if name == "training" and not isinstance(value, bool):
                raise TypeError(f"{type(self).__name__}.training: got {brief(value)}, expected True or False")
            if name == COUNTER and name in self._settable:
                value = check_int(f"{type(self).__name__}.{name}", value, 0, 2**62)
            for tensor in () if name in self._settable else self._tensors():
                if tensor.name == name and "." not in name:
                    return self._set_tensor(tensor, value)
        super().__setattr__(name, value)
        Module.edition = object()

    def _may_set(self, name: str) -> bool:
        live = isinstance(getattr(type(self), name, None), Live)
        return name in self.arguments if live else super()._may_set(name)

    def _heed(self, name: str, value: Any) -> None:
        """Apply a new value of a `Live` argument to calls, streams and trainers from their next step on."""

    def _set_tensor(self, tensor: Tensor, value: Any) -> None:
        """Set one tensor's numbers; if they do not fit, nothing changes."""
        what = f"{type(self).__name__}.{tensor.name}"
        if value is None:
            raise TypeError(f"{what}: got None, expected an array of shape {tensor.shape}")
        array = as_floats(value, what)
        if array.shape != tensor.shape:
            raise ShapeError(f"{what}: got shape {array.shape}, expected {tensor.shape}")
        numbers = tensor.fitted(array, None)
        tensor.core.prepare()  # initialise the other tensors
        tensor.write(numbers)

    def _instead(self, name: str, value: Any) -> str:
        kind, given = type(self).__name__, self.config()
        if name not in given:
            return f"build a new {kind}"
        wanted = brief(value) if type(value) is type(given[name]) else "..."
        least = [key for key in given if key == name or not _has_default(type(self), key)]
        text = ", ".join(f"{key}={wanted if key == name else repr(given[key])}" for key in least)
        keep = ", and load_state_dict() what fits of this one's state_dict()" if self._tensors() else ""
        return f"build a new {kind}({text}){keep}"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(tensor.name for tensor in self._tensors())})


@contextmanager
def modes_kept(net: Module) -> Iterator[None]:
    """Afterwards the net, and each layer in it, is in the mode that it was in."""
    modes = net._modes()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def index_count(net: Module, place: int = 0) -> int:
    """The number of indices that an input of a net may hold; 0 if it is no indices."""
    nodes, _ = net._nodes_known()
    if not nodes:
        return net._index_count() if place == 0 else 0
    counts = (index_count(part, reads.index(place)) for _, part, reads in nodes if place in reads)
    return min((count for count in counts if count), default=0)


def type_named(kind: str) -> type[Module]:
    """Return the class of layers or nets of this name, and import it if nothing has yet.

    Raises
    ------
    ValueError
        If there is none.
    """
    if kind not in Module.types and kind in HOMES:
        find(kind)
    if kind not in Module.types:
        raise ValueError(f"got a layer of type {brief(kind)}, expected one of those of this tinyrnn")
    return Module.types[kind]


def build(description: Mapping[str, Any]) -> Module:
    """Build a net from a description by `Module._describe`; its weights are not allocated yet."""
    kind = description["type"]
    net = type_named(kind)._described(description)
    if "initial_state" in description:
        names, learned = description["initial_state"]["names"], description["initial_state"]["learned"]
        known = net._start_names()
        if not isinstance(names, list) or not names or any(name not in known for name in names):
            raise ValueError(f"{kind}: initial_state: got names {brief(names)}, expected some of {known}")
        if not isinstance(learned, bool):
            raise ValueError(f"{kind}: initial_state: learned is {brief(learned)}, expected True or False")
        net._set_start(names, learned)
    return net


def build_part(name: str, description: Mapping[str, Any]) -> Module:
    """Build a part of a net; an error begins with the part's name."""
    try:
        return build(description)
    except KeyError as error:
        raise ValueError(f"{name}: lacks {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from None


def _has_default(kind: type[Module], argument: str) -> bool:
    from inspect import Parameter, signature

    parameter = signature(kind.__init__).parameters.get(argument)
    return parameter is not None and parameter.default is not Parameter.empty
