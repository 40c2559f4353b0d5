"""`Graph`: a net whose layers read any values that others wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from tinyrnn import _core, calls, contract
from tinyrnn.arguments import check_bool
from tinyrnn.attributes import brief
from tinyrnn.errors import ShapeError
from tinyrnn.net import Memory, Net
from tinyrnn.plans import Cores, Ports
from tinyrnn.ports import GraphStream, stream_plan
from tinyrnn.sequential import Nest
from tinyrnn.tensors import Frame
from tinyrnn.values import Input, Spread, Value, applied, wired

MOST_NAMES = 20  # of layers in a message


class Node(NamedTuple):
    """A layer of a graph, and the numbers of the values that it reads: inputs first, then nodes in order."""

    name: str
    layer: Net
    reads: tuple[int, ...]


class Graph(Nest):
    """A net of inputs and outputs: ``tr.Net(x, y)``.

    ::

        x = tr.Input(40)
        h = tr.LSTM(40, 64)(x)
        y = tr.Linear(64, 10)(h + tr.Linear(40, 64)(x))
        net = tr.Net(x, y)

    A layer goes by its name in `state_dict`, files and messages: that of `Value.named`, or else its type's in
    lower case, ``"lstm"``, ``"linear"``, ``"linear_1"``. A layer that is used twice has its tensors under
    both names.

    Parameters
    ----------
    inputs : Input, or a sequence or mapping of them
        All that the outputs depend on. A mapping names them, and so does a call.
    outputs : Value, or a sequence or mapping of them
    batch_first : bool, optional
        The order of sequences' axes: that of the recurrent layers, if it has some.

    Raises
    ------
    ValueError, TypeError
        If the outputs depend on another input, an input is not used, or a name is given twice.
    """

    _recurrent = True
    _is_wired = True
    _rows_first: bool | None = None
    _own_steps: Mapping[str, int]

    def __init__(self, inputs: Any, outputs: Any, batch_first: bool | None = None) -> None:
        self._rows_first = None if batch_first is None else check_bool("Net: batch_first", batch_first)
        results, given = _ports("outputs", outputs), {}
        for name, value in _ports("inputs", inputs).items():
            if not isinstance(value, Input):
                raise TypeError(f"Net: input {name!r} is {value!r}, expected a tr.Input")
            given[name] = value
        if len({id(value) for value in given.values()}) < len(given):
            raise ValueError("Net: got one Input twice, expected each once")
        ordered = _ordered(list(given.values()), results)
        numbers = {id(value): i for i, value in enumerate([*given.values(), *ordered])}
        names = _names(ordered)
        self._set(
            given,
            [
                Node(name, value.layer, tuple(numbers[id(read)] for read in value.reads))
                for name, value in zip(names, ordered, strict=True)
            ],
            {name: numbers[id(value)] for name, value in results.items()},
        )
        if batch_first is not None and self._batch_first != batch_first:
            raise ValueError(
                f"Net: batch_first is {batch_first}, but {not batch_first} in its recurrent layers, expected "
                "the same"
            )

    def _set(self, inputs: Mapping[str, Input], nodes: list[Node], outputs: Mapping[str, int]) -> None:
        """Take over checked parts, and lay them out once to find what does not fit."""
        times = dict.fromkeys(value.time for value in inputs.values() if value.time is not None)
        self._inputs = MappingProxyType(dict(inputs))
        self._outputs = MappingProxyType(dict(outputs))
        self._times = tuple(times) or ("time",)
        own = {name: value.steps for name, value in inputs.items() if value.steps is not None}
        if list(own) != list(inputs)[len(inputs) - len(own) :] or len(own) == len(inputs):
            raise ValueError(
                f"Net: got inputs {list(inputs)}, expected those with steps of their own behind others: "
                f"{list(own)}"
            )
        self._own_steps = own
        self._nodes = tuple(nodes)
        self._take({node.name: node.layer for node in nodes})
        ports, axes = _core.PORTS_MAX, _core.AXES_MAX
        if len(self._inputs) > ports or len(self._outputs) > ports or len(self._times) > axes:
            raise ValueError(
                f"Net: got {len(self._inputs)} inputs, {len(self._outputs)} outputs and {len(self._times)} "
                f"axes of time, expected at most {ports}, {ports} and {axes}"
            )
        if not nodes:
            raise ValueError("Net: got inputs as outputs and no layer, expected at least one layer")
        used = {value for node in nodes for value in node.reads} | set(outputs.values())
        for i, name in enumerate(self._inputs):
            if i not in used:
                raise ValueError(
                    f"Net: input {name!r} is not used, expected every input to reach an output: leave it out"
                )
        for i, node in enumerate(nodes, len(self._inputs)):
            if i not in used:
                raise ValueError(
                    f"Net: layer {node.name!r} is not used, expected an output or a layer to read it"
                )
        self._check()
        self._made = True

    # ---- core layers -------------------------------------------------------------------------------

    def _ports_laid(self) -> tuple[Cores, list[Frame]]:
        """The core layers of the whole net, and the frames of its outputs."""
        cores = Cores([(value.frame, self._axis(value.time)) for value in self._inputs.values()])
        frames = [value.frame for value in self._inputs.values()]
        written = self._wire(cores, frames, list(range(len(frames))), 1)
        cores.outputs = tuple(number for number, _ in written)
        return cores, [frame for _, frame in written]

    def _ports(self) -> Ports:
        edition = contract.Module.edition
        kept = self._calls.ports
        if kept is None or kept[0] is not edition:
            ports = Ports(list(self._inputs), list(self._outputs), *self._ports_laid(), self._times)
            kept = self._calls.ports = edition, ports
        return kept[1]

    def _several(self) -> Ports | None:
        return None if self._is_simple and super()._several() is None else self._ports()

    def _axis(self, time: str | None) -> int:
        return 0 if time is None else 1 + self._times.index(time)

    def _check(self) -> None:
        """Lay the net out once: the core finds what does not fit."""
        try:
            _core.Plan(self._ports_laid()[0], (), 1, (1,) * len(self._times))
        except (ValueError, OverflowError) as error:
            text = str(error).removeprefix("plan: ")
            raise type(error)(f"Net: {text}{self._in_loop() if 'within a loop' in text else ''}") from None

    def _in_loop(self) -> str:
        """The layers of loops, and those among them that may be the fault, for a message."""
        loop: list[Node] = []
        end = 0
        for place, node in enumerate(self._nodes, len(self._inputs)):
            end = max(end, *node.reads) if max(node.reads) >= place else end
            loop += [node] * (place <= end)
        told = [*dict.fromkeys(node.name for node in loop)]
        names = ", ".join(told[:MOST_NAMES] + ["..."] * (len(told) > MOST_NAMES))
        both = [node.name for node in loop if getattr(node.layer, "bidirectional", False)]
        why = f"{both[0]!r} is bidirectional" if both else "one of them needs the full sequence"
        return f": {names} run step by step, and {why}: put that before or after the loop"

    def _wire(
        self, cores: Cores, frames: list[Frame], values: list[int], lead: int
    ) -> list[tuple[int, Frame]]:
        if len(values) != len(self._inputs):
            raise TypeError(
                f"Net: got {len(values)} values, expected {len(self._inputs)}: {list(self._inputs)}"
            )
        for (name, value), given in zip(self._inputs.items(), frames, strict=True):
            if value.frame != given:
                raise ShapeError(f"Net: input {name!r} has frames of shape {given}, expected {value.frame}")
        table: list[tuple[int, Frame]] = list(zip(values, frames, strict=True))
        later: list[tuple[int, int, str, Frame]] = []  # (core layer, what it reads, name and frame)
        for node in self._nodes:
            if any(read >= len(table) for read in node.reads):
                frame = tuple(size or 1 for size in node.layer._frame() or ())  # a Delay knows all of it
                later.append((len(cores), node.reads[0], node.name, frame))
                reads = [(0, frame), *(table[read] for read in node.reads[1:])]
            else:
                reads = [table[read] for read in node.reads]
            try:
                written = wired(
                    node.layer, cores, [frame for _, frame in reads], [number for number, _ in reads]
                )
            except ShapeError as error:
                raise ShapeError(f"{node.name}: {error}") from None
            table += written[:1]
        for place, read, delay, frame in later:
            number, given = table[read]
            if given != frame:
                raise ShapeError(f"{delay}: got frames of shape {given}, expected {frame}, its own")
            cores.reads[place] = (number, *cores.reads[place][1:])
        return [table[number] for number in self._outputs.values()]

    def _lay(self, frame: Frame, lead: int, cores: Any) -> Frame:
        (value, out), *more = self._wire(cores, [frame], [cores.value], lead)
        if more:
            raise TypeError(f"Net: got a net of {len(self._outputs)} outputs in a chain, expected one output")
        cores.value = value
        return out

    # ---- running -----------------------------------------------------------------------------------

    def __call__(
        self,
        *x: Any,
        lengths: Any = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Run the net over full sequences; see `Net.__call__`.

        Parameters
        ----------
        *x : array_like, or one mapping from name to array
            The inputs in their order, or by name. An input per sequence is ``(frame)`` or ``(B, frame)``.
        lengths : array_like of int, (B,), or a mapping from the name of an axis of time to one, optional
        state, threads, last
            As `Net.__call__` takes them.

        Returns
        -------
        ndarray, float32; of several outputs a tuple, or a dict if they have names
        """
        if any(isinstance(one, Value) for one in x):
            return applied(self, x) if len(self._outputs) == 1 else self._given(self._spread(x))
        named = len(x) == 1 and isinstance(x[0], Mapping)
        given = calls.named_inputs(self, list(self._inputs), x)
        if self._is_simple and not isinstance(lengths, Mapping) and not (named and self.training):
            return self._run(given[0], lengths, state, threads, last)[0]
        if last is not False:
            raise ValueError("Net: got last=True, but several inputs or outputs, expected one of each")
        ports = self._ports()
        if self.training:
            from tinyrnn import training

            arrays, final = training.forward_ports(self, ports, given, lengths, state, threads, named)
        else:
            arrays, final = calls.infer_ports(self, ports, given, lengths, state, threads)
        object.__setattr__(self, "_last_state", final)
        return self._given(arrays)

    def _spread(self, given: tuple[Any, ...]) -> list[Value]:
        """The outputs as values of another net, whose layers the layers of this one become."""
        from tinyrnn.outlines import outline

        frames = [value.frame for value in self._inputs.values()]
        if [getattr(value, "frame", None) for value in given] != frames:
            raise ShapeError(f"Net: got {list(given)}, expected values with frames of shapes {frames}")
        times = {own.time: one.time for own, one in zip(self._inputs.values(), given, strict=True)}
        lines, spread = outline(self).lines, Spread()
        table: list[Value] = list(given)
        for number, node in enumerate(self._nodes, len(table)):
            if any(read >= number for read in node.reads):  # a Delay, before what it reads
                rate = lines[number].rate
                own = rate.time if rate else lines[number].time
                time = times.get(own, own)
                value = Value(
                    lines[number].frame or (), rate.over(str(time)).name if rate else time, node.layer
                )
            elif type(node.layer).__name__ == "FinalState":
                value = node.layer(table[node.reads[0]])
            else:
                value = applied(node.layer, [table[read] for read in node.reads])
            value.label, value.spread = node.name, spread
            table.append(value)
        for value, node in zip(table[len(given) :], self._nodes, strict=True):
            value.reads = value.reads or tuple(table[read] for read in node.reads)
        return [table[number] for number in self._outputs.values()]

    def _given(self, arrays: list[Any]) -> Any:
        """Arrays of the outputs in the form in which a call returns them."""
        names = list(self._outputs)
        if len(names) == 1:
            return arrays[0]
        return (
            tuple(arrays) if all(name.isdigit() for name in names) else dict(zip(names, arrays, strict=True))
        )

    def _taken(self, what: str, given: Any) -> list[Any]:
        """One thing for each output, given in the form in which a call returns them.

        Of several outputs some may be None, or left out of a mapping.
        """
        names = list(self._outputs)
        if isinstance(given, Mapping):
            if not given or not given.keys() <= set(names):
                raise ValueError(f"{what}: got {sorted(map(str, given))}, expected some of {names}")
            return [given.get(name) for name in names]
        if len(names) == 1:
            return [given]
        if not isinstance(given, (tuple, list)) or len(given) != len(names):
            got = f"{len(given)}" if isinstance(given, (tuple, list)) else type(given).__name__
            raise TypeError(
                f"{what}: got {got}, expected a tuple of {len(names)}, or a mapping from output: {names}"
            )
        return list(given)

    def backward(self, dy: Any, dstate: Mapping[str, ArrayLike] | None = None) -> Any:
        """Go back through the last call in training mode; see `Net.backward`.

        Parameters
        ----------
        dy : array_like, or a tuple or mapping of them, as the call's result
            The gradients of the outputs; None, or left out of a mapping, for zeros.
        dstate
            As `Net.backward` takes it.

        Returns
        -------
        dx : ndarray, float32; of several inputs a tuple, or a dict if the call had a mapping
            The gradients of the inputs; None for indices.
        dstate : dict from name to ndarray
            Only if ``dstate`` was given.
        """
        from tinyrnn import training

        named = training.last_pass(self).named
        dxs, initial = training.backward(self, self._taken("Net: dy", dy), dstate)
        dx: Any = dxs[0] if len(dxs) == 1 else tuple(dxs)
        if named:
            dx = dict(zip(self._inputs, dxs, strict=True))
        return dx if dstate is None else (dx, {name: initial.read(name) for name in initial})

    def stream(
        self,
        batch: int = 1,
        *,
        frame: Frame | None = None,
        steps: Any = None,
        threads: int = 1,
        nonfinite: str | None = None,
    ) -> Any:
        """A stream: the net with a state of its own; see `Net.stream`.

        Of several inputs or outputs it is a `GraphStream`, whose ``nonfinite`` is None or ``"stop"``. Of
        several axes of time its steps are those of the first input's, and ``steps`` is a mapping from the
        name of each other axis to the most steps of it.
        """
        if self._is_simple:
            return super().stream(batch, frame=frame, steps=steps, threads=threads, nonfinite=nonfinite)
        self._check_frame("stream", frame)
        return GraphStream(self, batch, steps, threads, nonfinite)

    def memory(self, batch: int = 1, steps: Any = None, *, frame: Frame | None = None) -> Memory:
        """The memory of ``stream(batch, steps=steps)`` in bytes; see `Net.memory`."""
        if self._is_simple:
            return super().memory(batch, steps, frame=frame)
        self._check_frame("memory", frame)
        ports = self._ports()
        plan = stream_plan(ports, batch, steps)
        distinct = {id(core): core.nbytes for core in ports.cores}
        return Memory(sum(distinct.values()), plan.state_bytes, plan.scratch_bytes)

    def _check_frame(self, what: str, frame: Frame | None) -> None:
        if frame is not None:
            raise ValueError(f"{what}: frame is {frame}, expected None: the inputs of the net have theirs")

    @property
    def _is_simple(self) -> bool:
        """True for one input per step and one output."""
        return (
            len(self._inputs) == len(self._outputs) == 1
            and self._axis(next(iter(self._inputs.values())).time) == 1
        )

    # ---- what it is made of --------------------------------------------------------------------------

    def _ports_known(self) -> dict[str, tuple[Frame | None, str | None]]:
        return {name: (value.frame, value.time) for name, value in self._inputs.items()}

    def _output_names(self) -> list[str]:
        return list(self._outputs)

    def _nodes_known(self) -> tuple[Sequence[tuple[str, contract.Module, tuple[int, ...]]], dict[str, int]]:
        return self._nodes, dict(self._outputs)

    def _children(self) -> Iterable[Net]:
        return {id(layer): layer for layer in self._layers.values()}.values()

    def _fed(self) -> set[int]:
        plan = _core.Plan(self._ports_laid()[0], (), 1, (1,) * len(self._times))
        return {id(leaf) for place, (_, leaf, _) in enumerate(self._places()) if plan.begins(place)}

    def _rank(self, ndim: int) -> int | None:
        return len(next(iter(self._inputs.values())).frame)

    def _frame(self) -> tuple[int | None, ...] | None:
        return next(iter(self._inputs.values())).frame

    # ---- what it looks like, and files ------------------------------------------------------------------

    def _value_names(self) -> list[str]:
        return [*self._inputs, *self._layers]

    def __repr__(self) -> str:
        names = self._value_names()
        rows = [f"  {name} = Input{value.frame}" for name, value in self._inputs.items()]
        rows += [
            f"  ({node.name})({', '.join(names[read] for read in node.reads)}): "
            + repr(node.layer).replace("\n", "\n  ")
            for node in self._nodes
        ]
        outputs = ", ".join(names[number] for number in self._outputs.values())
        return "Net(\n" + "\n".join(rows) + f"\n  -> {outputs}\n)"

    def _describe(self) -> dict[str, Any]:
        first: dict[int, str] = {}
        nodes = []
        for node in self._nodes:
            known = first.setdefault(id(node.layer), node.name)
            same = known != node.name
            layer = {"type": "Same", "as": known} if same else node.layer._describe()
            nodes.append({"name": node.name, "layer": layer, "reads": list(node.reads)})
        inputs = [
            {
                "name": name,
                "frame": list(value.frame),
                "time": value.time,
                **({} if value.steps is None else {"steps": value.steps}),
            }
            for name, value in self._inputs.items()
        ]
        outputs = [{"name": name, "value": value} for name, value in self._outputs.items()]
        rows_first = {} if self._rows_first is None else {"batch_first": self._rows_first}
        return {"type": "Graph", "inputs": inputs, "nodes": nodes, "outputs": outputs, **rows_first}

    @property
    def _batch_first(self) -> bool:
        known = any(leaf.batch_first is not None for _, leaf in self._leaves() if leaf._recurrent)
        return super()._batch_first if known else bool(self._rows_first)

    @classmethod
    def _described(cls, description: Mapping[str, Any]) -> contract.Module:
        inputs = {
            str(one["name"]): Input(*one["frame"], time=one["time"], steps=one.get("steps"))
            for one in description["inputs"]
        }
        made: dict[str, Any] = {}
        nodes: list[Node] = []
        total = len(inputs) + len(description["nodes"])
        for one in description["nodes"]:
            name, layer = str(one["name"]), one["layer"]
            if name in made:
                raise ValueError(f"Net: got the layer {name!r} twice, expected each name once")
            if layer["type"] == "Same" and layer["as"] not in made:
                raise ValueError(
                    f"Net: layer {name!r}: got the layer of {brief(layer['as'])}, expected one before it"
                )
            is_same = layer["type"] == "Same"
            made[name] = made[layer["as"]] if is_same else contract.build_part(name, layer)
            reads = tuple(one["reads"])
            known = all(type(read) is int and 0 <= read < total for read in reads)
            if not 0 < len(reads) <= _core.READS_MAX or not known:
                raise ValueError(
                    f"Net: layer {name!r}: got reads {brief(reads)}, expected values 0 .. {total - 1}"
                )
            own = reads[1:] if type(made[name]).__name__ == "Delay" else reads
            if max(own, default=-1) >= len(inputs) + len(nodes):
                raise ValueError(
                    f"Net: layer {name!r}: got a value that comes later to read: only a Delay does so"
                )
            nodes.append(Node(name, made[name], reads))
        outputs = {str(one["name"]): one["value"] for one in description["outputs"]}
        for what, ports in (("inputs", inputs), ("outputs", outputs)):
            if len(ports) < len(description[what]):
                raise ValueError(f"Net: got two {what} of one name, expected another name for each")
        if not inputs or not outputs or not nodes:
            raise ValueError("Net: got no inputs, layers or outputs, expected at least one of each")
        if not all(type(value) is int and 0 <= value < total for value in outputs.values()):
            raise ValueError(
                f"Net: got outputs {brief(tuple(outputs.values()))}, expected values 0 .. {total - 1}"
            )
        graph: Graph = cls.__new__(cls)
        rows_first = description.get("batch_first")
        graph._rows_first = rows_first if rows_first is None else check_bool("Net: batch_first", rows_first)
        graph._set(inputs, nodes, outputs)
        return graph


def _ports(what: str, given: Any) -> dict[str, Value]:
    """Inputs or outputs by name."""
    if isinstance(given, Value):
        found = {given.label if what == "inputs" and given.label else "x" if what == "inputs" else "y": given}
    elif isinstance(given, Mapping):
        found = dict(given)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        found = {}
        for i, value in enumerate(given):
            name = value.label if isinstance(value, Input) and value.label else str(i)
            if name in found:
                raise ValueError(f"Net: got two {what} with the name {name!r}, expected another for each")
            found[name] = value
    else:
        raise TypeError(
            f"Net: {what} is {brief(given)}, expected a value, or a sequence or mapping of values"
        )
    if not found:
        raise ValueError(f"Net: got no {what}, expected at least one")
    for name, value in found.items():
        if not isinstance(value, Value):
            raise TypeError(f"Net: {what}: {name!r} is {brief(value)}, expected a value of a net")
        if not isinstance(name, str) or not name:
            raise TypeError(f"Net: {what}: got the name {brief(name)}, expected a non-empty string")
    return found


def _ordered(inputs: list[Input], outputs: Mapping[str, Value]) -> list[Value]:
    """All values that layers write, each after what it reads; those of a loop lie together."""
    found: dict[int, Value] = {}
    left = list(outputs.values())
    while left:
        value = left.pop()
        if id(value) in found:
            continue
        found[id(value)] = value
        if value.layer is None and not any(value is one for one in inputs):
            raise ValueError(
                f"Net: the outputs depend on {value!r}, which is not among the inputs, expected all that "
                "they depend on: tr.Net([x, ...], y)"
            )
        if value.layer is not None and not value.reads:
            raise ValueError(
                f"Net: got {value!r}, which repeats nothing yet, expected a value: call its connect()"
            )
        left.extend(value.reads)
    values = sorted((one for one in found.values() if one.layer is not None), key=lambda one: one.serial)
    groups = _loops(values)
    places = {id(value): place for place, group in enumerate(groups) for value in group}
    needs = [
        {places[id(read)] for value in group for read in value.reads if id(read) in places}
        for group in groups
    ]
    readers: list[list[int]] = [[] for _ in groups]
    for place, own in enumerate(needs):
        own.discard(place)
        for one in own:
            readers[one].append(place)
    ready = [place for place, own in enumerate(needs) if not own]  # in order, so a heap
    ordered: list[Value] = []
    while ready:
        place = heappop(ready)
        ordered += groups[place]
        for one in readers[place]:
            needs[one].remove(place)
            if not needs[one]:
                heappush(ready, one)
    return ordered


def _loops(values: list[Value]) -> list[list[Value]]:
    """The values of each loop, and the others alone: strongly connected components."""
    users: dict[int, list[Value]] = {id(value): [] for value in values}
    for value in values:
        for read in value.reads:
            if id(read) in users:
                users[id(read)].append(value)
    behind: list[Value] = []  # each behind all that read it, but for those of its loop
    seen: set[int] = set()
    left = [(value, False) for value in values]
    while left:
        value, is_done = left.pop()
        if is_done:
            behind.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            left.append((value, True))
            left += [(user, False) for user in users[id(value)]]
    groups: list[list[Value]] = []
    for value in reversed(behind):
        group, reads = [], [value]
        while reads:
            one = reads.pop()
            if id(one) in seen:
                seen.remove(id(one))
                group.append(one)
                reads += one.reads
        if group:
            groups.append(sorted(group, key=lambda one: one.serial))
    return sorted(groups, key=lambda group: group[0].serial)


def _names(values: list[Value]) -> list[str]:
    """A name for each layer: its own, or its type's with a number; that of a net that is spread out first."""
    whole = {id(value.spread or value): value.spread or value for value in values}
    taken: set[str] = set()
    for one in whole.values():
        if one.label in taken:
            raise ValueError(f"Net: got the name {one.label!r} twice, expected another for each layer")
        if one.label is not None:
            taken.add(one.label)
    numbers: dict[str, int] = {}  # of each type: the last one, or 0
    names = {}
    for key, one in whole.items():
        kind = type(one.layer).__name__.lower() if isinstance(one, Value) else "graph"
        name = one.label or kind
        if one.label is None:
            while name in taken:
                numbers[kind] = numbers.get(kind, 0) + 1
                name = f"{kind}_{numbers[kind]}"
            taken.add(name)
        names[key] = name
    return [
        names[id(value)] if value.spread is None else f"{names[id(value.spread)]}.{value.label}"
        for value in values
    ]
