"""The layers of recurrent nodes; two nodes of one direction each may be one layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.attention import DotProductAttention
from tinyrnn.importing import Unfit
from tinyrnn.onnx.cells import CELLS, Direction, Level, layer_of, silent
from tinyrnn.onnx.learned import START, Learned
from tinyrnn.onnx.model import Node
from tinyrnn.onnx.nodes import Start
from tinyrnn.onnx.states import States
from tinyrnn.onnx.symbols import Retry, constant
from tinyrnn.ops import concat
from tinyrnn.recurrent import GRU, LSTM, RNN
from tinyrnn.temporal import LastStep, MaxOverTime, MeanOverTime, SumOverTime, TimeConv1d, TimeUnfold
from tinyrnn.values import Value

# Layers that read several steps at once.
MIXES: tuple[type[Any], ...] = (
    *(RNN, LSTM, GRU, LastStep, MaxOverTime, MeanOverTime, SumOverTime),
    *(TimeConv1d, TimeUnfold, DotProductAttention),
)

MOST_READERS = 16  # nodes that read one value, among which directions are sought


class _Record(NamedTuple):
    """A node of one direction that was built: two of them may be one layer."""

    key: str
    op: str
    value: Value
    backwards: bool
    own: Direction
    plain: bool
    mask: Value | None


class Levels:
    """The recurrent layers of one walk through a graph."""

    def __init__(self, learned: Learned, states: States) -> None:
        self.learned, self.states = learned, states
        self.records: list[_Record] = []
        self.groups: dict[str, Level] = {}
        self.ending: list[Any] = []  # layers of nodes that have lengths

    def of_node(
        self,
        op: str,
        node: Node,
        value: Value,
        own: Sequence[Direction],
        backwards: bool,
        starts: Sequence[Start],
        mask: Value | None,
        ends: bool,
    ) -> tuple[Level, int]:
        """The layer of a node, and the place of its direction if it has one.

        ``mask`` marks the steps that count, ``ends`` tells that the node has lengths.
        """
        if len(own) == 2:
            if own[0].key != own[1].key:
                raise Unfit("its directions have different formulas, expected one")
            return self.begun(op, value, own, starts, 0, mask, ends), 0
        key = next(name for name in node.outputs if name)
        plain = all(start.value is None and start.rows is None for start in starts)
        self.records.append(_Record(key, op, value, backwards, own[0], plain, mask))
        if key in self.learned.pairs:
            group, *both = self.learned.pairs[key]
            if group not in self.groups:
                self.groups[group] = self.begun(op, value, both, starts, 0, mask, ends)
            return self.groups[group], int(backwards)
        if backwards:
            return self.begun(op, value, [silent(own[0]), own[0]], starts, 1, mask, ends), 1
        return self.begun(op, value, own, starts, 0, mask, ends), 0

    def begun(
        self,
        op: str,
        value: Value,
        own: Sequence[Direction],
        starts: Sequence[Start],
        place: int,
        mask: Value | None,
        ends: bool,
    ) -> Level:
        """A layer over a value, with its initial state."""
        layer = layer_of(op, own[0], own[1] if len(own) == 2 else None)
        if ends:
            self.ending.append(layer)
        states = CELLS[op][2]
        hidden = layer.hidden_size
        valued = next((start.value for start in starts if start.value is not None), None)
        if valued is None:
            rows = {}
            for state, start in zip(states, starts, strict=True):
                if start.rows is not None:
                    rows[state] = np.zeros((len(own), hidden), np.float32)
                    rows[state][place:] = start.rows
            if rows:
                layer.initial_state = rows
            return Level(layer(value, mask=mask), hidden)
        given = []
        for start in starts:
            if start.ids is not None:
                _kind, port, _ = self.states.sources[self.states.found(int(start.ids[0]))[0]]
                raise Retry(port.name, START)
            array = np.zeros((len(own) - place, hidden), np.float32) if start.rows is None else start.rows
            one = constant(np.reshape(array, -1), valued) if start.value is None else start.value
            if one.frame != (len(own) * hidden,):  # zeros for the direction that nobody reads
                one = concat([constant(np.zeros(place * hidden, np.float32), valued), one])
            given.append(one)
        return Level(layer(value, tuple(given) if len(given) > 1 else given[0], mask=mask), hidden)

    def reads_beyond(self, values: Iterable[Value]) -> bool:
        """True if a layer reads steps behind the end of a row, which another one heeds."""
        if not self.ending:
            return False
        layers = [value.layer for value in values]
        return any(isinstance(one, MIXES) and one not in self.ending for one in layers)

    def pairs(self) -> dict[str, tuple[str, Direction, Direction]]:
        """Nodes of one direction each that read one value and have one formula: a layer of both."""
        found: dict[str, tuple[str, Direction, Direction]] = {}
        readers: dict[int, list[_Record]] = {}
        for one in self.records:
            readers.setdefault(id(one.value), []).append(one)
        for one in self.records:
            for other in readers[id(one.value)][:MOST_READERS]:
                alike = one.op == other.op and one.value is other.value and one.own.key == other.own.key
                alike = alike and one.mask is other.mask
                if not alike or one.backwards or not other.backwards or not (one.plain and other.plain):
                    continue
                if one.key not in found and other.key not in found:
                    found[one.key] = found[other.key] = (one.key, one.own, other.own)
        return found
