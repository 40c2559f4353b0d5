"""Nets as ONNX files: the work of `Net.to_onnx`.

The net is walked once, value by value; `WRITERS` of layer_nodes.py has the nodes of each layer but the
recurrent ones. The states of those are inputs and outputs of the graph.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrnn import _core
from tinyrnn.contract import Module
from tinyrnn.errors import ShapeError
from tinyrnn.files import replacing
from tinyrnn.gates import FUNCTIONS, one_way
from tinyrnn.onnx.layer_nodes import PER_SEQUENCE, WRITERS, Refused, Written, weights
from tinyrnn.onnx.writer import GraphWriter
from tinyrnn.plans import Cores
from tinyrnn.tensors import Frame
from tinyrnn.values import wired

# For each kind of cell: the gates of ours that ONNX has in turn, and the arguments that are its functions.
_CELLS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "LSTM": ((0, 3, 1, 2), ("recurrent_activation", "activation", "output_activation")),
    "GRU": ((1, 0, 2), ("recurrent_activation", "activation")),
    "RNN": ((0,), ("nonlinearity",)),
}
_COUPLED = (0, 2, None, 1)  # a coupled LSTM has no f
# The arguments that are written, or that say nothing of what a cell computes.
_ARGUMENTS = {
    *("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "batch_first", "dropout"),
    "recurrent_dropout",
    *("nonlinearity", "activation", "recurrent_activation", "output_activation", "clip"),
    *("reset_after", "peephole", "coupled"),
}
_DEFAULTS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_ONNX = {name: "".join(part.capitalize() for part in name.split("_")) for name in FUNCTIONS}


def to_onnx(net: Module, path: str | os.PathLike[str], states: bool, frame: Frame | None) -> None:
    """Do the work of `Net.to_onnx`."""
    data = _Export(net, states, frame).model()  # nothing is written if this fails
    with replacing(path) as file:
        file.write(data)


class _Export:
    """One net on its way to a graph."""

    def __init__(self, net: Module, states: bool, frame: Frame | None) -> None:
        self.net, self.states = net, states
        known = net._ports_known()
        names = [
            f"{prefix}{name}{end}"
            for prefix, leaf in net._leaves()
            for name in leaf._state_names()
            for end in ("", "N")
        ]
        for name in known:
            if states and name in names:
                raise ValueError(
                    f"to_onnx: got an input {name!r}, the name of a state, which is an input of the file: "
                    "name it otherwise, or give states=False"
                )
        self.output_names: list[str] = []
        for name in net._output_names():
            while name in known or name in names or name in self.output_names:
                name += "_out"  # the names of a file's values differ
            self.output_names.append(name)
        self.graph = GraphWriter([*known, *self.output_names, *names])
        self.indices: set[str] = set()
        self.finals: dict[str, dict[str, list[str]]] = {}  # of each recurrent value: its last states
        self.results: list[dict[str, Any]] = []  # the net's outputs, which come before its states
        self.done: set[str] = set()  # layers whose states are ports
        self.sequential = net._recurrent or net._is_wired
        reads, self.given = [], []
        if frame is not None and len(known) > 1:
            raise ValueError(f"to_onnx: frame is {frame}, expected None: the inputs of the net have theirs")
        for name, (own, time) in known.items():
            found = own if frame is None else frame
            if found is None:
                raise ShapeError(
                    f"to_onnx: got an input {name!r} whose frame the layers leave open, expected its shape: "
                    "give frame=, such as (channels, length)"
                )
            lead = 2 if self.sequential and time is not None else 1
            self.given.append((name, tuple(found), lead, time))
            reads.append(Written(self._transposed(name, lead, len(found)), tuple(found), lead))
        written = self.part(net, reads, "")
        for name, value in zip(self.output_names, written, strict=True):
            self._output(name, value)

    def _transposed(self, name: str, lead: int, rank: int, to: str | None = None) -> str:
        """A value with time first, of one with the batch first, or the reverse."""
        if lead < 2 or not self.net._batch_first:
            return self.graph.add("Identity", name, to=to) if to else name
        return self.graph.add("Transpose", name, to=to, perm=[1, 0, *range(2, 2 + rank)])

    def _axes(self, lead: int, time: str | None) -> list[int | str]:
        axes: list[int | str] = [time or "time", "batch"] if lead == 2 else ["batch"]
        return axes[::-1] if self.net._batch_first else axes

    def _output(self, name: str, value: Written) -> None:
        self._transposed(value.name, value.lead, len(value.frame), name)
        shape = [*self._axes(value.lead, None), *value.frame]
        if value.lead == 2:
            shape[1 if self.net._batch_first else 0] = "steps"
        self.results.append(self.graph.port(name, shape))

    def model(self) -> bytes:
        inputs = [
            self.graph.port(name, [*self._axes(lead, time), *frame], "i8" if name in self.indices else "f4")
            for name, frame, lead, time in self.given
        ]
        self.graph.inputs = inputs + self.graph.inputs
        self.graph.outputs = self.results + self.graph.outputs
        return self.graph.model("tinyrnn", _core.VERSION)

    # ---- the walk ----------------------------------------------------------------------------------

    def part(self, part: Module, reads: Sequence[Written], place: str) -> list[Written]:
        """The outputs of a layer or of a net."""
        nodes, outputs = part._nodes_known()
        if not nodes:
            return [self.layer(part, reads, place)]
        table = list(reads)
        for name, inner, numbers in nodes:
            if max(numbers) >= len(table):
                raise self._refusal(place + name, inner, "a loop: a Feedback reads what comes later")
            table += self.part(inner, [table[number] for number in numbers], f"{place}{name}.")[:1]
        return [table[number] for number in outputs.values()]

    def _refusal(self, place: str, layer: Module, what: str) -> ValueError:
        name = place.removesuffix(".")
        where = f"layer {name!r} ({type(layer).__name__})" if name else type(layer).__name__
        return ValueError(f"to_onnx: {where}: cannot write {what}")

    def layer(self, layer: Module, reads: Sequence[Written], place: str) -> Written:
        """The value that a layer writes."""
        kind = type(layer).__name__
        op = next((op for op in _CELLS if kind in (op, f"{op}Cell")), None)
        if op is None and kind not in WRITERS and kind != "FinalState":
            raise self._refusal(place, layer, "this type of layer, which no operator of ONNX computes")
        lead = 1 if kind in PER_SEQUENCE else max(read.lead for read in reads)
        if op is None and self.states and layer._state_names() and kind not in PER_SEQUENCE:
            raise self._refusal(
                place, layer, "its state as an input and an output: give states=False for whole sequences"
            )
        if layer._masks and len(reads) > 1 and reads[1].lead == 2:
            raise self._refusal(place, layer, "a mask, which no operator of ONNX reads")
        try:
            if op is not None:
                return self.recurrent(op, layer, reads, place)
            if kind == "FinalState":
                return self.final(layer, reads[0])
            frame = self._frame(layer, reads)
            if kind == "Embedding":
                self._index(reads[0].name)
            return Written(WRITERS[kind](self.graph, layer, reads, frame), frame, lead)
        except Refused as refused:
            raise self._refusal(place, layer, str(refused)) from None

    def _frame(self, layer: Module, reads: Sequence[Written]) -> Frame:
        cores = Cores([(read.frame, 1 if read.lead == 2 or not self.sequential else 0) for read in reads])
        return wired(layer, cores, [read.frame for read in reads], list(range(len(reads))))[0][1]

    def _index(self, name: str) -> None:
        """Mark the input behind a value as indices."""
        sources = {node["outputs"][0]: node["inputs"][0] for node in self.graph.nodes}
        self.indices.add(sources.get(name, name))

    # ---- recurrent layers --------------------------------------------------------------------------

    def recurrent(self, op: str, layer: Any, reads: Sequence[Written], place: str) -> Written:
        """The nodes of a recurrent layer, one a level."""
        graph, own = self.graph, weights(layer)
        for name in layer.arguments:
            if (getattr(layer, name) and name not in _ARGUMENTS) or getattr(layer, name) == "matrix":
                raise Refused(f"{name}={getattr(layer, name)!r}, which ONNX' cells lack")
        ways, names = layer._directions, layer._state_names()
        hidden = layer.hidden_size
        starts = self._starts(layer, reads, place, ways)
        y = reads[0].name
        finals: dict[str, list[str]] = {name: [] for name in names}
        for level in range(layer.num_layers):
            given = [y, *self._weights(op, layer, own, level)]
            peephole = given.pop()
            initial = [self._level(starts.get(name), level, ways, layer.num_layers) for name in names]
            given += ["", *initial]
            if peephole:
                given += [peephole]
            while not given[-1]:
                given.pop()
            outputs = [graph.name(f"y_{op.lower()}"), *(graph.name(f"last_{name}") for name in names)]
            graph.add_many(op, given, outputs, **self._attributes(op, layer))
            for name, one in zip(names, outputs[1:], strict=True):
                finals[name].append(one)
            if ways == 1:
                y = graph.add("Squeeze", outputs[0], graph.tensor([1]))
            else:
                side = graph.add("Transpose", outputs[0], perm=[0, 2, 1, 3])
                y = graph.add("Reshape", side, graph.tensor([0, 0, ways * hidden]))
        self.finals[y] = finals
        if self.states:
            for name in names:
                port = f"{place}{name}N"
                last = finals[name]
                if len(last) > 1:
                    graph.add("Concat", *last, to=port, axis=0)
                else:
                    graph.add("Identity", *last, to=port)
                made = graph.port(port, [len(last) * ways, "batch", hidden])
                graph.outputs.append(made)
        return Written(y, (ways * hidden,), 2)

    def _starts(self, layer: Any, reads: Sequence[Written], place: str, ways: int) -> dict[str, str]:
        """The initial states of a layer that are not zeros: values, inputs, or its own."""
        graph, names = self.graph, layer._state_names()
        rows, hidden = ways * layer.num_layers, layer.hidden_size
        if len(reads) > 1:
            sizes = graph.tensor([0, rows, hidden])
            return {
                name: graph.add("Transpose", graph.add("Reshape", read.name, sizes), perm=[1, 0, 2])
                for name, read in zip(names, reads[1:], strict=True)
            }
        if self.states:
            if place in self.done:
                raise Refused("a layer that is used twice, whose states have one name: give states=False")
            self.done.add(place)
            graph.inputs += [graph.port(f"{place}{name}", [rows, "batch", hidden]) for name in names]
            return {name: f"{place}{name}" for name in names}
        found = {}
        for name, core in layer._start.items():
            whole = graph.add("Shape", reads[0].name)
            batch = graph.add("Slice", whole, graph.tensor([1]), graph.tensor([2]))
            shape = graph.add("Concat", graph.tensor([rows]), batch, graph.tensor([hidden]), axis=0)
            found[name] = graph.add("Expand", graph.tensor(core.get(0).reshape(rows, 1, hidden)), shape)
        return found

    def _level(self, state: str | None, level: int, ways: int, levels: int) -> str:
        """The part of a state that belongs to one level."""
        if state is None or levels == 1:
            return state or ""
        ends = (level * ways, (level + 1) * ways, 0)
        return self.graph.add("Slice", state, *(self.graph.tensor([one]) for one in ends))

    def _weights(self, op: str, layer: Any, own: dict[str, Any], level: int) -> list[str]:
        """W, R, B and P of a level; an empty name for none."""
        order: tuple[int | None, ...] = _CELLS[op][0]
        coupled = getattr(layer, "coupled", False)
        if coupled:
            order = _COUPLED
        hidden = layer.hidden_size

        def gated(array: Any, places: Sequence[int | None] = order) -> Any:
            parts = array.reshape(-1, hidden, *array.shape[1:])
            return np.concatenate(
                [np.zeros_like(parts[0]) if place is None else parts[place] for place in places]
            )

        sets = [
            {
                name: own[layer._name(name + "_reverse" * way, level)]
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole")
                if layer._name(name + "_reverse" * way, level) in own
            }
            for way in range(layer._directions)
        ]
        peephole = (0, 1, None) if coupled else (0, 2, 1)  # ours are i f o, ONNX' i o f
        rows = {
            "W": [gated(one["weight_ih"]) for one in sets],
            "R": [gated(one["weight_hh"]) for one in sets],
            "B": [
                np.concatenate([gated(one["bias_ih"]), gated(one["bias_hh"])])
                for one in sets
                if "bias_ih" in one
            ],
            "P": [gated(one["weight_peephole"], peephole) for one in sets if "weight_peephole" in one],
        }
        return [self.graph.tensor(np.stack(each), name) if each else "" for name, each in rows.items()]

    def _attributes(self, op: str, layer: Any) -> dict[str, Any]:
        """The attributes of a level."""
        found: dict[str, Any] = {"hidden_size": layer.hidden_size}
        if layer._directions == 2:
            found["direction"] = "bidirectional"
        names: list[str] = []
        numbers: tuple[list[float], list[float]] = ([], [])
        for way in range(layer._directions):
            for argument in _CELLS[op][1]:
                one = one_way(getattr(layer, argument), way)
                name, given = (one, FUNCTIONS[one]) if isinstance(one, str) else (one[0], one[1:])
                names.append(name)
                for room, number in zip(numbers, given, strict=False):
                    room.append(float(number))
        if names != _DEFAULTS[op] * layer._directions:
            found["activations"] = [_ONNX[name] for name in names]
            found["activation_alpha"] = numbers[0] or None
            found["activation_beta"] = numbers[1] or None
        found["clip"] = layer.clip
        if op == "GRU":
            found["linear_before_reset"] = int(layer.reset_after)
        if getattr(layer, "coupled", False):
            found["input_forget"] = 1
        return found

    def final(self, layer: Any, read: Written) -> Written:
        """The last states of the layer that wrote a value, side by side."""
        found = self.finals.get(read.name, {}).get(layer.state)
        if found is None:
            raise Refused("the state of what it reads, which is no RNN, LSTM or GRU")
        graph, chosen = self.graph, found[-layer.num_layers :]
        joined = graph.add("Concat", *chosen, axis=0) if len(chosen) > 1 else chosen[0]
        transposed = graph.add("Transpose", joined, perm=[1, 0, 2])
        size = read.frame[0] * len(chosen)
        return Written(graph.add("Reshape", transposed, graph.tensor([0, size])), (size,), 1)
