"""Records of operations become a net: of a module that runs twice (`from_torch`), or of a file.

A `Source` gives two records, of other sizes of time and the batch. Each result stands for a value of a layer
with its axes (`tinyrnn.onnx.symbols`), and the outputs of both runs prove the net, where there are some.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.arguments import check_float
from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph
from tinyrnn.importing import WRONG, CodedArray, Unfit, warn
from tinyrnn.modules.functions import (
    CELLS,
    FUNCTIONS,
    KINDS,
    UNKNOWN,
    Made,
    Named,
    Rows,
    Site,
    label_of,
)
from tinyrnn.modules.loops import LOOPS, rolled
from tinyrnn.modules.recorder import (
    TAKING,
    Given,
    Op,
    Record,
    Ref,
    flat,
    leaves,
    looks_up,
    mapped,
    record,
    refs,
    signature,
)
from tinyrnn.net import Net
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.symbols import (
    BATCH,
    BATCH_SIZES,
    FRAME,
    TIME,
    Atom,
    Axis,
    Known,
    Retry,
    Sizes,
    Symbol,
    frame_size,
    framed,
    has,
    is_frame,
    short,
)
from tinyrnn.progress import Progress
from tinyrnn.values import Input, Rate, Value, read_by
from tinyrnn.weights.spec import Array, shown

TOLERANCE = 1e-4
WINDOWS = ("conv1d", "conv2d", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
_LEAST_STEPS = 60
MOST_COMPARED = 1009  # of the sizes that the code names in comparisons: it is asked on both sides of each


class Port(NamedTuple):
    """A tensor of the example; its role is "float", "index" (of an embedding) or "lengths"."""

    name: str
    tensor: Any
    role: str

    @property
    def rank(self) -> int:
        """The axes that it has with those of an embedding."""
        return len(self.tensor.shape) + (self.role == "index")


def from_torch(
    module: Any, example: Any = None, *, axes: str | Mapping[str, str] | None = None, tol: float = TOLERANCE
) -> Net:
    """Make a net of a module of PyTorch, its forward included, and prove it on two other lengths and batches.

    Parameters
    ----------
    module : torch.nn.Module
        It runs in evaluation mode.
    example : tensor, or a tuple or dict of them, optional
        The arguments of the forward, in a batch. Numbers matter for indices and masks alone. None: a module
        that begins with a recurrent, linear or embedding layer.
    axes : str or mapping, optional
        The axes of the first input, or of inputs by name, where they are not found: ``"BTF"`` has the batch,
        time, and frames in any other letters.
    tol : float
        The largest difference of outputs that passes; of numbers above 1 their part of it.

    Returns
    -------
    Net
        Its axes are (time, batch, frame), or (batch, time, frame), in the order of the example.
        Lengths of packed sequences are those of a call; states that the forward takes and returns are the
        net's own. See docs/pytorch-modules.md.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    LoadError
        If an operation is no layer of tinyrnn, with file and line of the model, or outputs differ.
    TypeError, ValueError
        If the arguments are no module, or no example of its inputs.
    """
    try:
        import torch
    except ImportError:
        raise ImportError("from_torch: PyTorch is not installed: pip install torch") from None
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: module is {brief(module)}, expected a torch.nn.Module")
    scripted = next((one for one in module.modules() if isinstance(one, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise TypeError(
            f"from_torch: module has a {type(scripted).__name__}, whose operations nobody sees: pass the "
            "module that it was made from, or tinyrnn.load its file"
        )
    while type(module).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        module = getattr(module, "_orig_mod", None) or module.module
    example = _invented(module) if example is None else example
    args, kwargs = [], example
    if not isinstance(example, Mapping):
        args, kwargs = list(example) if isinstance(example, (tuple, list)) else [example], {}
    args, kwargs = mapped(
        (args, kwargs), lambda one: torch.from_numpy(one) if isinstance(one, np.ndarray) else one
    )
    try:
        first = record(module, args, kwargs)
    except Exception as error:
        raise ValueError(f"from_torch: the module fails on the example: {error}") from error
    tree = {**dict(zip(signature(module, len(args)), args, strict=False)), **kwargs}
    ports = ports_of([(name, one) for name, one in leaves(tree) if isinstance(one, torch.Tensor)], first)
    told, ranks = letters_of(axes, ports)
    for name, letters in told.items():
        if ranks.get(name) != len(letters):
            raise ValueError(
                f"from_torch: axes: got {letters!r} for {name!r}, expected a letter for each of {ranks}"
            )
    tol = check_float("from_torch: tol", tol, 0.0)
    return Search(_Running(module, args, kwargs, ports, first), told, tol).net()


def _invented(module: Any) -> Any:
    """An input for the first layer that tells its size."""
    import torch

    for one in module.modules():
        kind = type(one).__name__
        if kind == "Embedding":
            return torch.arange(14).reshape(2, 7) % one.num_embeddings
        if kind in ("LSTM", "GRU", "RNN", "Linear"):
            return torch.zeros(2, 7, one.in_features if kind == "Linear" else one.input_size)
    raise TypeError("from_torch: example is None, expected a tensor that the forward takes")


def leading(ports: list[Port]) -> Port:
    """The first input but lengths."""
    return next(port for port in ports if port.role != "lengths")


def letters_of(
    axes: str | Mapping[str, str] | None, ports: list[Port]
) -> tuple[dict[str, str], dict[str, int]]:
    """The axes that were told, by input, and how many each input has."""
    told = {leading(ports).name: axes} if isinstance(axes, str) else dict(axes or {})
    return told, {port.name: len(port.tensor.shape) for port in ports}


def ports_of(given: list[tuple[str, Any]], first: Record) -> list[Port]:
    """The tensors of the example, by the names of the arguments, and what they are."""
    source = {i: i for i in range(len(given))}  # of what follows from one input alone
    indices, read = set(), {*refs(first.outputs)}
    for op in first.ops:
        read.update(refs((op.args, op.kwargs)))
        roots = {source.get(one, -1) for one in refs((op.args, op.kwargs))}
        if looks_up(op):
            indices |= roots
        elif len(roots) == 1:
            source |= dict.fromkeys(op.results, roots.pop())
    found = []
    for i, (name, one) in enumerate(given):
        whole = len(one.shape) == 1 and "int" in str(one.dtype) and i in read
        role = "index" if i in indices else "lengths" if whole else "float"
        found.append(Port(name.replace(".", "_"), one, role))
        if not one.shape:
            raise ValueError(f"from_torch: {name} has no axes, expected a batch: pass numbers as they are")
    count = [port.role for port in found].count("lengths")
    if count > min(1, len(found) - 1):
        raise ValueError(
            f"from_torch: example has {count} lengths and {len(found) - count} other tensors, expected a "
            "sequence and its lengths"
        )
    return found


class Source(ABC):
    """The origin of records: a module, or a file.

    Attributes
    ----------
    first : Record
        Of the sizes of the example.
    ports : list of Port
    tables : list of ndarray
        The tensors of two axes, beside those of size 1.
    orders : set of bool
        ``batch_first`` of the recurrent layers.
    padding : int
        What stands behind rows with lengths: 0 any numbers, 1 zeros, 2 nothing, as no row is shorter.
    """

    first: Record
    ports: list[Port]
    tables: list[Array]
    orders: set[bool]
    padding = 0
    batch_held = False  # the batch is that of the example

    def hold(self) -> bool:
        """Keep the example's batch from now on; False if this is no help."""
        return False

    @abstractmethod
    def error(self, text: str) -> LoadError:
        """Make an error that says whose it is."""

    @abstractmethod
    def sizes(self, port: Port, place: int, wanted: Sizes) -> Sizes:
        """The sizes of an axis of time or the batch that come nearest to these."""

    @abstractmethod
    def run(self, axes: list[list[Axis]], times: Mapping[str, Sizes], world: int) -> tuple[Record, Any]:
        """A record for inputs with these axes; and what it was given, None if it has no numbers.

        Raises
        ------
        LoadError
            If there is none.
        """


class Search:
    """The search for axes with which a source becomes a net.

    Parameters
    ----------
    source : Source
    axes : mapping of str to str
        The axes of inputs, as letters.
    tol : float
        The largest difference of outputs that passes; of numbers above 1 their part of it.
    """

    def __init__(self, source: Source, axes: Mapping[str, str], tol: float) -> None:
        self.source, self.axes, self.tol = source, axes, tol
        self.ports, self.tables = source.ports, source.tables
        self.lead = leading(self.ports)
        self.starts: set[str] = set()  # inputs that recurrent layers begin with
        self.ran: list[bool] = []  # True of a guess with which the module ran
        self.timed = [False] * (self.lead.name in axes)  # likewise, of those of time

    def guesses(self) -> Iterator[tuple[int | None, int | None, dict[str, str]]]:
        """The axes of the first input that are the batch and time, the likeliest first.

        Where that is one step, as of a decoder, time is an axis of another input, which is told.
        """
        port = self.lead
        others = [one for one in self.ports if one is not port]
        rank = len(port.tensor.shape)
        letters = self.axes.get(port.name)
        if letters is not None:
            batch, time = (letters.find(one) if one in letters else None for one in "BT")
            yield batch, time, {}
            return
        orders = self.source.orders
        found: list[tuple[int | None, int | None]] = [(0, 1), (0, rank - 1), (0, 2), (1, 0), (0, None)]
        if orders == {False}:
            found.insert(0, (1, 0))
        elif not orders and port.rank in (2, 4):
            found.insert(0, (0, None))
        elif not orders and any(op.name == "conv1d" for op in self.source.first.ops):
            found.insert(0, (0, rank - 1))
        again = [(0, None)] if found[0] == (0, None) else []  # a fixed number of steps comes last
        found = [*dict.fromkeys(found), *again, *([(None, 0)] if self.source.batch_held else [])]
        for batch, time in found:
            if max(batch or 0, time or 0) >= rank or batch == time:
                continue
            if time is None:
                for one in others:
                    for own in (0, 1) if one.rank > 2 and one.name not in self.starts else ():
                        place = min(own, rank - 1)
                        if port.tensor.shape[place] == one.tensor.shape[own]:
                            yield place, None, {f"{one.name}[{1 - own}]": TIME}
            yield batch, time, {}
            if time is None:
                continue
            fewer = [one for one in others if time and 1 < one.rank < port.rank]
            size = port.tensor.shape[time]
            alike = [one for one in fewer if size in one.tensor.shape[time : time + 1]]  # by chance
            steps = [one for one in others if one.rank == port.rank > 2]  # those of a decoder
            for named in filter(None, (alike, steps)):
                yield batch, time, {f"{one.name}[{time}]": FRAME for one in named}

    def all_guesses(self) -> Iterator[tuple[int | None, int | None, dict[str, str]]]:
        """The guesses; if the module ran with none of those of time, again with the batch of the example."""
        yield from self.guesses()
        if not any(self.timed or self.ran) and self.source.hold():
            yield from self.guesses()

    def net(self) -> Net:
        """The net of the first guess that is proved; else the error of the one that went furthest."""
        states: dict[str, str] = {}
        begun = dict(enumerate(self.ports))  # by number, with those behind unsqueeze(0)
        for op in self.source.first.ops:  # a state of a recurrent layer says what its axes are
            if (
                op.name == "unsqueeze"
                and 0 in flat((op.args, op.kwargs))
                and (one := refs(op.args)[0]) in begun
            ):
                begun[op.results[0]] = begun[one]
            for number in refs(op.args[1:3]) if op.name in (*KINDS, *CELLS) else ():
                if number in begun and begun[number].role == "float":
                    name, tensor, _ = begun[number]
                    self.starts.add(name)
                    kinds = (FRAME, BATCH, FRAME)[3 - len(tensor.shape) :]
                    states |= {f"{name}[{i}]": kind for i, kind in enumerate(kinds)}
        best: int | None = None
        error = self.source.error("no axis of the example is the batch")
        for batch, time, more in self.all_guesses():
            told = states | more
            still = time is None and not more and bool(self.timed) and not any(self.timed)
            while True:
                attempt = _Attempt(self, batch, time, told, still)
                try:
                    net = attempt.net()
                    attempt.remark()
                    port = self.lead
                    if (
                        time is None
                        and not more
                        and port.name not in self.axes
                        and not self.starts  # a step
                        and (still or (len(port.tensor.shape) == 3 and (best or 0) > 0))
                    ):
                        shape = tuple(port.tensor.shape[1:])
                        warn(f"{error}; so the net has no steps, but frames of {shape}")
                    if self.source.padding == 2:
                        warn(
                            "from_torch: the module's numbers at a row's end depend on padding: "
                            "the net has those of each row alone"
                        )
                    return net
                except Retry as found:
                    if found.key in told:
                        break
                    told[found.key] = found.value if found.value in (BATCH, TIME) else BATCH
                except LoadError as fault:
                    if attempt.leaks and self.source.padding < 2:
                        self.source.padding += 1
                        continue
                    self.ran.append(not attempt.failed)
                    self.timed += self.ran[-1:] * (time is not None)
                    reached = -1 if attempt.failed else attempt.done
                    if best is None or (reached > best and (time is not None or still or more)):
                        best, error = reached, fault
                    break
        raise error.with_traceback(None) from None


class _Attempt:
    """One guess, tried: both runs, and the operations of both, one by one, each made of layers."""

    runs: list[Record]
    rows = BATCH_SIZES
    site: Site
    env: dict[int, Any]
    bar: Progress

    def __init__(
        self,
        search: Search,
        batch: int | None,
        time: int | None,
        told: Mapping[str, str],
        still: bool = False,
    ) -> None:
        self.search, self.done, self.still, self.failed, self.leaks = search, 0, still, False, False
        own = next((int(one[-2]) for one, kind in told.items() if kind == TIME), -1)
        self.batch_first = batch is not None and batch < (own if time is None else time)
        self.times: dict[str, Sizes] = {}
        self.lengths: list[Array] = []  # of both runs
        self.axes = [self._axes(port, batch, time, told) for port in search.ports]

    def _axes(self, port: Port, batch: int | None, time: int | None, told: Mapping[str, str]) -> list[Axis]:
        """The axes of an input, with their sizes in both runs."""
        first, shape = self.search.lead, port.tensor.shape
        kinds = [FRAME] * len(shape)
        if batch is not None:
            rows = first.tensor.shape[batch]
            kinds[next((i for i in (batch, *range(len(shape))) if shape[i : i + 1] == (rows,)), 0)] = BATCH
        steps = None if time is None else first.tensor.shape[time]
        if time is not None and shape[time:] and kinds[time] == FRAME:
            kinds[time] = TIME if port.rank == first.rank or shape[time] == steps else FRAME
        elif batch is not None and kinds[batch : batch + 1] == [FRAME] and shape[batch] == steps:
            kinds[batch] = TIME  # a mask (batch, time) beside (time, batch, frame)
        if port.name in self.search.axes:
            kinds = [{"B": BATCH, "T": TIME}.get(one, FRAME) for one in self.search.axes[port.name]]
        found: list[Axis] = []
        for i, size in enumerate(shape):
            origin = f"{port.name}[{i}]"
            kind = told.get(origin, kinds[i])
            sizes = (size, size)
            if kind == TIME:
                sizes = self._steps("time" if port is first or size == steps else port.name, port, i)
            elif kind == BATCH:
                self.rows = sizes = self.search.source.sizes(port, i, BATCH_SIZES)
            origin = "" if self.still and kind == FRAME else origin
            found.append(() if sizes == (1, 1) and kind == FRAME else (Atom(kind, sizes, origin),))
        return found

    def _steps(self, name: str, port: Port, place: int) -> Sizes:
        """The steps of both runs: multiples of the example's, another pair for each axis of time."""
        if name not in self.times:
            size = port.tensor.shape[place]
            least = size * -(-_LEAST_STEPS // size)
            taken = {one for pair in self.times.values() for one in pair}
            free = [one for one in range(least, least + 99 * size, size) if one not in taken]
            self.times[name] = self.search.source.sizes(port, place, (free[0], free[1]))
        return self.times[name]

    def error(self, text: str, op: Op | None = None) -> LoadError:
        where = op and f"{op.where or 'the module'}: {shown(op.name)} of {op.module or 'the module'}: "
        return self.search.source.error(f"{where or ''}{text}")

    def net(self) -> Net:
        with Progress() as self.bar:
            return self.proved()

    def proved(self) -> Net:
        """The net, with the outputs of both runs."""
        runs = []
        try:
            for world in (0, 1):
                self.bar.show(0.2 * world, 0.2 * world + 0.2, "running the module")
                runs.append(self.search.source.run(self.axes, self.times, world))
        except LoadError:
            self.failed = True
            raise
        try:
            one, other = (
                rolled(run, [pair[world] for pair in self.times.values() if min(pair) > 3], arrays is None)
                for world, (run, arrays) in enumerate(runs)
            )
        except WRONG as error:
            raise self.error(*error.args) from None
        roles = [port.role for port in self.search.ports]
        if "lengths" in roles:  # which no file has
            self.lengths = [arrays[roles.index("lengths")] for _, arrays in runs]
        numbers = {number: number for number in range(len(self.axes))}
        for pair in zip(one.ops, other.ops, strict=False):
            numbers |= zip(*(op.results for op in pair), strict=False)
        self.runs = [one, other._replace(arrays={i: other.arrays[n] for i, n in numbers.items()})]
        for where, count in self.by_number({a for a, b in self.times.values() if a == b}):
            raise self.error(f"{where}: a loop over {count} steps, which are not alike")
        if [op.name for op in one.ops] != [op.name for op in other.ops]:
            counts = [Counter(op.where for op in run.ops) for run in self.runs]
            odd = next((op for op in one.ops if counts[0][op.where] != counts[1][op.where]), one.ops[-1])
            raise self.error(
                "runs more often for more steps or rows: a loop of Python goes once over all steps, from the "
                "first to the last, and does the same at each; if it asks for the number of steps, give "
                "an example of one that its strides divide",
                odd,
            )
        states: set[str] = set()
        barred = {""}
        while True:
            found = self.walk(states)
            own = {name: self.site.finals.get(id(pair[0].value), "") for name, pair in found.items()}
            used = read_by([symbol.value for symbol, _ in found.values()])
            barred |= {name for name in states if id(self.site.inputs[name]) in used}  # read otherwise, too
            own = {name: "" if state in barred else state for name, state in own.items()}
            if {*own.values(), *states} - {""} == states - barred:
                break
            states = {*own.values()} - {""}
        again = {state: name for name, state in own.items() if state}  # the last output that is a state
        kept = {name: pair for name, pair in found.items() if again.get(own[name]) != name} or found
        try:
            net = self.graph(kept)
        except WRONG as error:
            raise self.error(str(error), self.blamed([])) from None
        for world, (_, arrays) in enumerate(runs):
            self.bar.show(0.8 + 0.1 * world, 0.9 + 0.1 * world, "comparing outputs")
            if arrays is None:
                break
            try:
                wrong = self.compared(net, kept, world, arrays)
            except WRONG as error:  # inputs that the axes of this guess do not fit
                raise self.error(str(error)) from None
            if wrong:
                blamed = self.blamed([arrays for _, arrays in runs])
                self.leaks = bool(self.lengths) and blamed is not None and blamed.name in WINDOWS
                raise self.error(wrong, blamed)
        if runs[0][1] is not None:
            self.elsewhere(net, kept)
        if not any(isinstance(one, Given) and isinstance(one.array, CodedArray) for one in self.given()):
            return net
        found = self.walk(states, int8=True)
        return self.graph({name: found[name] for name in kept})

    def elsewhere(self, net: Net, kept: Mapping[str, tuple[Symbol, int]]) -> None:
        """Compare at other sizes, where the module runs there: an odd length, one step, the example, one row.

        And on both sides of each number that its code compares with a size.

        Raises
        ------
        LoadError
            If outputs differ.
        """
        odd = {
            pair: next(one for one in range(pair[0] // 2, pair[0]) if math.gcd(one, 30) == 1)
            for pair in self.times.values()
        }
        own = {
            atom.sizes: size
            for port, axes in zip(self.search.ports, self.axes, strict=True)
            for axis, size in zip(axes, port.tensor.shape, strict=True)
            for atom in axis
            if atom.kind in (TIME, BATCH)
        }
        asked = (
            {**own, pair: near}
            for both in self.search.source.first.compared.values()
            for origin, other in both
            for pair, size in own.items()
            for near in (other - 1, other, other + 1)
            if len(both) < 4 and origin == size and 0 < near <= MOST_COMPARED
        )
        for sizes in filter(None, (odd, dict.fromkeys(odd, 1), own, {**own, self.rows: 1}, *asked)):
            times = {name: (sizes[pair],) * 2 for name, pair in self.times.items()}
            axes = [
                [
                    tuple(atom._replace(sizes=(sizes.get(atom.sizes, atom.sizes[0]),) * 2) for atom in axis)
                    for axis in one
                ]
                for one in self.axes
            ]
            try:
                run, arrays = self.search.source.run(axes, times, 0)
                wrong = self.compared(net, kept, 0, arrays, run)
            except WRONG:  # too short, or of sizes that the module does not take
                continue
            if wrong:
                lines = {op.where for op in self.runs[0].ops} ^ {op.where for op in run.ops}
                at = min(lines, default="the module")
                shapes = [one.shape for one in arrays]
                raise self.error(
                    f"{at}: on inputs of shapes {shapes} {wrong}: "
                    "the module does something else at some lengths or batches"
                )

    def remark(self) -> None:
        """Warn of a loop over an axis that is none of time: it was not rolled."""
        axes = [axis for one in self.axes for axis in one[1 : max(len(one) - 1, 2)] if is_frame(axis)]
        for where, count in self.by_number({math.prod(atom.sizes[0] for atom in axis) for axis in axes})[:1]:
            warn(
                f"from_torch: {where}: a loop over {count} steps became layers of each step, as its steps "
                f"are not alike: the net takes {count} steps, no more and no fewer"
            )

    def by_number(self, sizes: set[int]) -> list[tuple[str, int]]:
        """The lines that take all of so many steps by their numbers."""
        taken: dict[str, set[Any]] = {}
        for op in self.runs[0].ops:
            steps = range(len(op.results)) if op.name == "unbind" else flat(op.args[1:])
            if op.name in ("getitem", "select", "unbind"):
                taken.setdefault(op.where, set()).update(one for one in steps if isinstance(one, int))
        return [
            (where, n)
            for where, own in taken.items()
            for n in sizes - {1, 2, 3}
            if n <= len(own) and own.issuperset(range(n))
        ]

    def given(self) -> Iterator[Any]:
        """All that the operations of a run read."""
        for op in self.runs[0].ops:
            yield from flat((op.args, op.kwargs))

    # ---- the walk ------------------------------------------------------------------------------------------

    def walk(self, states: set[str], int8: bool = False) -> dict[str, tuple[Symbol, int]]:
        """Walk through all that the outputs need, and return them with their numbers."""
        self.site = Site(self.batch_first, tuple(states), int8)
        self.site.tables, self.site.rows = self.search.tables, self.rows
        told = [one for op in self.runs[0].ops if looks_up(op) for one in flat((op.args, op.kwargs))]
        rows = [one.array.shape[0] if isinstance(one, Given) else one for one in told]
        self.site.indices = max([one for one in rows if isinstance(one, int)], default=0)
        self.site.times, self.site.still = self.times, self.still and not self.times
        self.env = {i: self.input(i) for i in range(len(self.axes))}
        one, other = self.runs
        needed, chosen = set(refs(one.outputs)), []
        for pair in zip(one.ops[::-1], other.ops[::-1], strict=True):
            if needed.intersection(pair[0].results) or pair[0].name in (*TAKING, "connected"):
                chosen.append(pair)
                needed.update(refs((pair[0].args, pair[0].kwargs)))
        # Embeddings of inputs come first: others may repeat values at their steps.
        chosen.sort(key=lambda pair: looks_up(pair[0]) and max(refs(pair[0].args)) < len(self.axes))
        for i, pair in enumerate(chosen[::-1]):
            self.bar.show(0.4 + 0.4 * i / len(chosen), text="making layers")
            self.step(*pair)
        found: dict[str, tuple[Symbol, int]] = {}
        for name, leaf in one.outputs.items():
            if isinstance(leaf, Given):
                raise self.error(f"output {name!r} does not depend on the inputs")
            if isinstance(leaf, Ref):
                given = self.read(leaf, leaf)
                if isinstance(given, Unfinished):
                    makes = (op for op in one.ops if leaf.number in op.results)
                    raise self.error(f"output {name!r} is {given.what}", next(makes, None))
                if isinstance(given, Symbol):  # others are the lengths again
                    found[name] = (given, leaf.number)
        return found

    def input(self, place: int) -> Any:
        port, axes = self.search.ports[place], self.axes[place]
        if port.role == "lengths":
            return Rows([axis[0].sizes for axis in axes])
        least = 1 if port.role == "index" else 0
        sizes = [frame_size(axis) for axis in axes if frame_size(axis) > 1 or len(axis) < 1 - least]
        if port.role == "index" and sizes:
            raise self.error(f"input {port.name!r} holds frames of indices, expected one at a step")
        timed = next((axis[0].sizes for axis in axes if has(axis, TIME)), None)
        time = next(
            (name for name, pair in self.times.items() if pair == timed), None if self.times else "time"
        )
        time = None if port.name in self.search.starts else time
        value = Input(*([] if port.role == "index" else short(sizes)), time=time, name=port.name)
        self.site.inputs[port.name] = self.site.seen[id(value)] = value
        try:
            found = Symbol(value, axes)
        except Unfit as error:
            raise self.error(f"input {port.name!r} {error}") from None
        found.truth = str(port.tensor.dtype).endswith("bool")
        return self.noted(found)

    def noted(self, found: Any) -> Any:
        """Note values on axes of time, for what follows their steps."""
        for axis in found.axes if isinstance(found, Symbol) else ():
            if has(axis, TIME) and len(axis) == 1 and found.value.frame:
                self.site.timed.setdefault(axis[0].sizes, (axis[0], found.value))
        return found

    def read(self, one: Any, other: Any) -> Any:
        """Find the values that an argument of both runs stands for."""
        if isinstance(one, Ref):
            found = self.env[one.number]
            if isinstance(found, LoadError):
                raise found
            return found
        if isinstance(one, Given):
            if self.lengths and all(
                np.array_equal(np.ravel(given.array), own)
                for given, own in zip((one, other), self.lengths, strict=True)
            ):  # went through Python: lengths.tolist()
                return Rows(list(zip(one.array.shape, other.array.shape, strict=True)))
            known = (
                Named(one.array.each(lambda part: part, self.site.int8))
                if isinstance(one.array, CodedArray)
                else Named(one.array, other.array)
            )
            known.name = one.name
            return known
        if isinstance(one, (tuple, list)):
            return type(one)(map(self.read, one, other))
        if isinstance(one, dict):
            return {key: self.read(value, other[key]) for key, value in one.items()}
        if isinstance(one, slice):
            return slice(*self.read((one.start, one.stop, one.step), (other.start, other.stop, other.step)))
        return (
            Known(np.array(one), np.array(other)) if isinstance(one, (int, float)) and one != other else one
        )

    def step(self, op: Op, twin: Op) -> None:
        """Make layers of an operation."""
        if op.name in TAKING:
            if any(not isinstance(self.env[number], Rows) for number in refs(op.args)):
                raise self.error(
                    "hands numbers of the inputs to Python, where a net has none: use torch.where, or make "
                    "lengths an input",
                    op,
                )
            return
        results: list[Any] = []
        seen: list[Any] = []
        kinds = [""] * len(op.results)
        try:
            arrays = [[run.arrays[number] for number in op.results] for run in self.runs]
            sizes = [
                list(zip(*(one.shape for one in pair), strict=True)) for pair in zip(*arrays, strict=True)
            ]
            kinds = [str(one.dtype) for one in arrays[0]]
            call = Made(
                op, self.read(op.args, twin.args), self.read(op.kwargs, twin.kwargs), self.site, sizes, kinds
            )
            seen = flat((call.args, call.kwargs))
            results = self.results(call)
            for found, whole in zip(results, sizes, strict=False):
                given = isinstance(found, Symbol) and not isinstance(found, Unfinished)
                if given and found.shape.sizes != whole:
                    one, other = found.shape.worlds, zip(*whole, strict=True)
                    pairs = [(own.tolist(), [*sizes]) for own, sizes in zip(one, other, strict=True)]
                    made, wanted = max(pairs, key=lambda pair: pair[0] != pair[1])
                    raise Unfit(f"makes {made}, expected {wanted}")
            self.done += 1
        except LoadError as error:
            results = [error] * len(op.results)
        except WRONG as error:
            text = str(error).partition("; a graph of so many steps")[0]  # that advice is for files
            own = (type(one) for one in seen if type(one).__module__.startswith("tinyrnn"))
            if any(re.search(rf"\W{one.__name__}('| object)", text) for one in own):
                text = "reads a value or the number of steps where a layer has a number, expected a constant"
            results = [self.error(text, op)] * len(op.results)
        for i, number in enumerate(op.results):
            lacks = self.error(f"its result {i} is read, which no layer of tinyrnn computes", op)
            self.env[number] = self.noted(results[i]) if i < len(results) else lacks
            if type(self.env[number]) is Symbol:
                self.env[number].truth = kinds[i].endswith("bool")

    def results(self, call: Made) -> list[Any]:
        """Make the results of an operation, and name its layers."""
        seen = flat((call.args, call.kwargs))
        if any(isinstance(one, Rows) for one in seen) and not any(isinstance(one, Symbol) for one in seen):
            if call.op.name == "index_select" and isinstance(call.args[0], Known):
                return [call.args[0]]  # equal rows in another order
            return [Rows(pair) for pair in call.sizes]
        function = FUNCTIONS.get(call.op.name) or LOOPS.get(call.op.name)
        if function is None:
            raise Unfit(UNKNOWN)
        found = function(call)
        found = found if isinstance(found, list) else [found]
        self.site.names(found, label_of(seen) or call.op.module)
        return found

    # ---- the net and its proof ----------------------------------------------------------------------------

    def graph(self, kept: Mapping[str, tuple[Symbol, int]]) -> Net:
        """The net with these outputs."""
        values: dict[str, Value] = {}
        for name, (given, _) in kept.items():
            if given.reversed:
                raise Unfit(f"output {name!r} has the steps from the last to the first")
            values[name] = given.framed(framed(given.axes))
        used = read_by(values.values())
        inputs = {name: value for name, value in self.site.inputs.items() if id(value) in used}
        return Graph(inputs, values, batch_first=self.batch_first or None)

    def compared(
        self,
        net: Any,
        kept: Mapping[str, tuple[Symbol, int]],
        world: int,
        arrays: list[Array],
        again: Record | None = None,
    ) -> str:
        """The first difference between the net and a run, or nothing; ``again``: a run of other sizes."""

        def led(array: Array, axes: Any) -> Array:
            """An array of a run with time and the batch first, as the net has them."""
            atoms = [atom for axis in axes for atom in axis]
            order = (BATCH, TIME) if net._batch_first else (TIME, BATCH)
            lead = [i for kind in order for i, atom in enumerate(atoms) if atom.kind == kind]
            sizes = [atom.sizes[world] for atom in atoms]
            if again:
                sizes = [size for size, axis in zip(array.shape, axes, strict=False) if axis]
            found = array.reshape(sizes)
            return found.transpose([*lead, *(i for i in range(len(atoms)) if i not in lead)])

        given: list[Array] = []
        options: dict[str, Any] = {}
        lengths = None
        for number, port in enumerate(self.search.ports):
            array, found = arrays[number], self.env[number]
            if port.role == "lengths":
                lengths = array
                options["lengths"] = array if len(self.times) == 1 else {"time": array}
            elif port.name in self.site.states:
                array = array[None] if array.ndim < 3 else array
                options["state"] = {**options.get("state", {}), self.site.begun[port.name]: array}
            elif port.name in net._inputs:
                ready = led(array, found.axes)
                lead = sum(atom.kind in (BATCH, TIME) for axis in found.axes for atom in axis)
                ready = ready.reshape((*ready.shape[:lead], *found.value.frame))
                once = found.value.time is None or self.times or not net._recurrent
                given.append(ready if once else ready[None])
        outputs = net.eval()(*given, **options)
        outputs = (
            outputs.values()
            if isinstance(outputs, Mapping)
            else outputs
            if isinstance(outputs, tuple)
            else [outputs]
        )
        for got, (name, (symbol, number)) in zip(outputs, kept.items(), strict=False):
            run, place = (again, again.outputs[name].number) if again else (self.runs[world], number)
            of_run = run.arrays[place]
            if again and (of_run.ndim != len(symbol.axes) or any(len(axis) > 1 for axis in symbol.axes)):
                continue
            expected = led(of_run.detach().cpu().numpy(), symbol.axes)
            if expected.size != got.size:
                return f"output {name!r} has shape {got.shape}, expected {expected.shape}"
            expected = expected.reshape(got.shape)
            with np.errstate(all="ignore"):
                away = np.abs(got - expected) / np.maximum(1, np.abs(expected))
            away[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0
            if lengths is not None and any(has(axis, TIME) for axis in symbol.axes):
                rate = Rate.parse(symbol.value.time or "time")
                ends = np.array([rate.frames(int(one)) for one in lengths])
                outside = np.arange(got.shape[1 if net._batch_first else 0]) >= ends[:, None]
                away[outside if net._batch_first else outside.T] = 0
            worst = float(np.max(away, initial=0))
            if not worst <= self.search.tol:
                why = "" if lengths is None else "; with lengths, a net reads no step beyond a row's end"
                return f"output {name!r} differs by {worst:.2g}, expected at most {self.search.tol:.2g}{why}"
        return ""

    def blamed(self, runs: list[list[Array]]) -> Op | None:
        """The first operation whose result differs; without runs, the first that makes no net."""
        for op in self.runs[0].ops:
            for number in () if op.within else op.results:
                found = self.env.get(number)
                if isinstance(found, Symbol) and not isinstance(found, Unfinished):
                    one = {"output": (found, number)}
                    try:
                        net = self.graph(one)
                        if any(self.compared(net, one, world, arrays) for world, arrays in enumerate(runs)):
                            return op
                    except WRONG:
                        if not runs:
                            return op
        return None


class _Running(Source):
    """A module, which runs; ``args`` and ``kwargs`` are those of the example."""

    def __init__(self, module: Any, args: Any, kwargs: Any, ports: list[Port], first: Record) -> None:
        import torch

        self.module, self.args, self.kwargs, self.ports, self.first = module, args, kwargs, ports, first
        own = [
            one for part in module.modules() for one in vars(part).values() if isinstance(one, torch.Tensor)
        ]
        tensors = [*module.parameters(), *module.buffers(), *own]
        squeezed = [
            one.detach().cpu().float().squeeze().numpy() for one in tensors if one.is_floating_point()
        ]
        self.tables = [one for one in squeezed if one.ndim == 2]
        self.orders = {one.batch_first for one in module.modules() if hasattr(one, "batch_first")}

    def error(self, text: str) -> LoadError:
        return LoadError(f"from_torch: {text}")

    def hold(self) -> bool:
        self.batch_held = True
        return True

    def sizes(self, port: Port, place: int, wanted: Sizes) -> Sizes:
        size = port.tensor.shape[place]
        return (size, size) if self.batch_held and wanted == BATCH_SIZES else wanted

    def run(
        self, axes: list[list[Axis]], times: Mapping[str, Sizes], world: int
    ) -> tuple[Record, list[Array]]:
        import torch

        generator = np.random.default_rng(world)
        given: list[Any] = []
        for port, own_axes in zip(self.ports, axes, strict=True):
            shape = [math.prod(atom.sizes[world] for atom in axis) for axis in own_axes]
            own = port.tensor.detach().cpu()
            array: Any = generator.choice(own.reshape(-1).numpy(), shape)
            if port.role == "lengths":
                steps = times.get("time", (1, 1))[world]
                last = steps if self.padding == 2 else max(steps // 3, 1)
                array = lengths = np.linspace(steps, last, shape[0]).astype(np.int64)
            elif own.is_floating_point():
                mean, scale = own.double().mean(), own.double().std(correction=0)
                if not (torch.isfinite(scale) and scale):  # constants tell nothing
                    mean, scale = 0, 1
                array = generator.standard_normal(shape) * float(scale) + float(mean)
            given.append(torch.from_numpy(np.asarray(array)).to(port.tensor))
        if self.padding == 1:
            for one, own_axes in zip(given, axes, strict=True):
                kinds = [next((atom.kind for atom in axis), FRAME) for axis in own_axes]
                if {BATCH, TIME} <= {*kinds}:
                    rows = one.movedim((kinds.index(BATCH), kinds.index(TIME)), (0, 1))
                    for row, size in zip(rows, lengths, strict=True):
                        row[int(size) :] = 0
        arrays = [one.cpu().numpy().copy() for one in given]  # the forward may change its own
        rest = iter(given)
        tree = (self.args, self.kwargs)
        args, kwargs = mapped(tree, lambda one: next(rest) if isinstance(one, torch.Tensor) else one)
        try:
            return record(self.module, args, kwargs), arrays
        except Exception as error:
            shapes = [one.shape for one in arrays]
            raise self.error(
                f"the module fails on inputs of shapes {shapes}: {error}; if other axes are the batch and "
                'time, tell them: axes="BTF", or {"x": "BTF"} for each input by its name'
            ) from None
