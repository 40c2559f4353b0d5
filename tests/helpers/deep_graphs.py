"""Random graphs: loops within loops, masks, rates, states that begin with values, shared layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinyrnn as tr

D = 3  # numbers of most values, so that most fit each other
WAYS = ("linear", "map", "join", "add", "recurrent", "recurrent", "recurrent", "final")
WAYS += ("shared", "delay", "attend", "net", "loop")
OUTSIDE = ("stride", "stride", "reduce", "repeat", "both", "still")  # of loops


class Deep:
    """A random net.

    Attributes
    ----------
    net : Net
    arrays : list of ndarray
    lengths : dict of str to list of int
    times : list of str or None
        Of each input.
    kinds : set of str
        What was drawn.
    """

    def __init__(self, seed: int) -> None:
        tr.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.batch = int(self.random.integers(1, 4))
        self.axes = ["time", "other"][: 1 + self.flip(0.3)]
        self.steps = {axis: int(self.of(1, 2, 5, 9)) for axis in self.axes}
        self.lengths = {
            axis: [int(n) for n in self.random.integers(1, steps + 1, self.batch)]
            if self.flip(0.6)
            else [steps] * self.batch
            for axis, steps in self.steps.items()
        }
        for axis, ends in self.lengths.items():
            ends[int(self.random.integers(self.batch))] = self.steps[axis]
        self.kinds: set[str] = set()
        self.count = 0
        self.inputs: list[Any] = []
        self.times: list[str | None] = []
        self.arrays: list[np.ndarray] = []
        self.values: list[Any] = []
        self.masks: dict[str, Any] = {}
        for axis in self.axes:
            self.values.append(self.input(axis, D))
            if self.flip(0.5):
                self.masks[axis] = self.input(axis, 1)
                share = self.of(0.0, 0.3, 0.7)
                self.arrays[-1] = (self.random.random(self.arrays[-1].shape) < share).astype(np.float32)
        if self.flip(0.4):
            self.values.append(self.input(None, D))
        self.layers: list[Any] = []
        for _ in range(int(self.random.integers(2, 8))):
            self.draw(self.values, 0)
        read: set[int] = set()
        ends: list[Any] = []
        for one in [*self.inputs, *(v for v in self.values if v.layer is not None)][::-1]:
            if id(one) in read:
                continue
            if one.layer is None:  # all inputs count
                one = tr.Linear(one.frame[0], D)(one).named(self.name())
            ends.append(one)
            left = [one]
            while left:
                for value in left.pop().reads:
                    if id(value) not in read:
                        read.add(id(value))
                        left.append(value)
        self.outputs = ends[:8]
        for v in ends[8:]:
            last = v if v.time is None else tr.LastStep()(v)
            self.outputs[0] = self.outputs[0] + tr.Linear(last.frame[0], self.outputs[0].frame[0])(
                last
            ).named(self.name())
        self.net = tr.Net(self.inputs, dict(zip("abcdefgh", self.outputs, strict=False)))

    def of(self, *given: Any) -> Any:
        return given[int(self.random.integers(len(given)))]

    def flip(self, chance: float) -> bool:
        return bool(self.random.random() < chance)

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def input(self, time: str | None, size: int) -> Any:
        lead = (self.batch,) if time is None else (self.steps[time], self.batch)
        self.arrays.append(self.random.standard_normal((*lead, size)).astype(np.float32))
        self.inputs.append(tr.Input(size, time=time, name=f"x{len(self.inputs)}"))
        self.times.append(time)
        return self.inputs[-1]

    def pick(self, values: list[Any], fits: Callable[[Any], bool] = lambda v: True) -> Any:
        found = [v for v in values if fits(v)]
        return None if not found else self.of(*(found + found[-2:]))

    def started(self, layer: Any) -> Any:
        if self.flip(0.25):
            self.kinds.add("initial state")
            size, levels = layer.hidden_size, layer.num_layers * (1 + layer.bidirectional)
            learned = self.random.standard_normal((levels, size)).astype(np.float32)
            layer.initial_state = {"h": learned}
        return layer

    def draw(self, values: list[Any], depth: int) -> None:
        """Append a value; those of a loop's body are of one axis."""
        x = self.pick(values, lambda v: v.time is not None)
        fit = x.frame[0]
        ways = [*WAYS, *(OUTSIDE if depth == 0 else ())]
        way = self.of(*ways)
        if way == "linear":
            self.put(values, tr.Linear(fit, D)(x).named(self.name()))
        elif way == "map":
            self.put(values, self.of(tr.Tanh, tr.Sigmoid, tr.ReLU)()(x))
        elif way == "join":
            y = self.pick(values, lambda v: v.time == x.time)
            self.put(values, tr.Linear(fit + y.frame[0], D)(tr.concat([x, y])).named(self.name()))
        elif way == "add":
            y = self.pick(values, lambda v: v.time in (x.time, None) and v.frame == x.frame)
            if y is not None:
                self.put(values, x + y if self.flip(0.5) else x * y)
        elif way in ("recurrent", "both"):
            self.recurrent(values, x, way == "both")
        elif way == "final":
            y = self.pick(
                values, lambda v: type(v.layer).__name__ in ("GRU", "LSTM", "RNN") and v.time is not None
            )
            if y is not None and (depth == 0 or self.flip(0.3)):
                self.kinds.add(f"FinalState {depth}")
                levels = self.of(1, y.layer.num_layers)
                state = self.of("h", "c") if type(y.layer).__name__ == "LSTM" else "h"
                final = tr.FinalState(state, levels)(y)
                self.values.append(tr.Linear(final.frame[0], D)(final).named(self.name()))
        elif way == "shared" and self.layers:
            layer = self.of(*self.layers)
            self.kinds.add("shared")
            y = self.pick(values, lambda v: v.time is not None and v.frame == (D,))
            if y is not None and not (depth and layer.bidirectional):
                self.put(values, layer(y))
        elif way == "delay":
            self.put(values, tr.Delay(x.frame, int(self.of(1, 2, 3)))(x))
        elif way == "attend":
            keys = self.pick(
                self.values,
                lambda v: v.time is not None and v.frame == (D,) and (depth == 0 or v.time != x.time),
            )
            if keys is not None and x.frame == (D,):
                mask = self.masks.get(keys.time) if self.flip(0.5) else None
                self.kinds.add(f"attention {depth} {mask is not None}")
                self.put(values, tr.DotProductAttention(D)(x, keys, keys, mask=mask))
        elif way == "net":
            self.kinds.add("net")
            z, size = tr.Input(fit), D
            inner = tr.GRU(fit, size)(z).named("rnn")
            if self.flip(0.5):
                inner = tr.Delay(inner.frame, 2)(inner) + inner
            self.put(values, tr.Net(z, inner)(x).named(self.name()))
        elif way == "loop" and depth < 2:
            self.loop(values, x, depth)
        elif way == "stride":
            self.kinds.add("stride")
            self.put(
                values,
                tr.TimeConv1d(fit, D, int(self.of(1, 2, 3)), stride=int(self.of(2, 3)))(x).named(self.name()),
            )
        elif way == "reduce":
            mask = self.masks.get(x.time) if self.flip(0.5) else None
            kind = self.of(tr.LastStep, tr.MeanOverTime, tr.SumOverTime)
            self.put(values, kind()(x, mask=mask) if mask is not None else kind()(x))
        elif way in ("repeat", "still"):
            y = self.pick(values, lambda v: v.time is None)
            if y is not None:
                self.put(values, tr.Repeat()(y, x) if way == "repeat" else tr.Tanh()(y))

    def put(self, values: list[Any], value: Any) -> None:
        values.append(value)

    def recurrent(self, values: list[Any], x: Any, both: bool) -> None:
        kind, levels = self.of(tr.GRU, tr.LSTM, tr.RNN), self.of(1, 1, 2)
        layer = self.started(kind(x.frame[0], D, num_layers=levels, bidirectional=both))
        mask = self.masks.get(x.time) if self.flip(0.5) else None
        still = self.pick(self.values, lambda v: v.time is None)
        begin: tuple[Any, ...] = ()
        if still is not None and self.flip(0.5) and not layer.initial_state:
            self.kinds.add("begin")
            size = D * levels * (1 + both)
            one = tr.Linear(still.frame[0], size)(still).named(self.name())
            begin = ((one, tr.Tanh()(one)),) if kind is tr.LSTM else (one,)
        if x.frame == (D,) and levels == 1 and not begin and mask is None:
            self.layers.append(layer)
        if mask is not None:
            self.kinds.add("masked")
            self.put(values, layer(x, *begin, mask=mask).named(self.name()))
        else:
            self.put(values, layer(x, *begin).named(self.name()))

    def loop(self, values: list[Any], x: Any, depth: int) -> None:
        """A feedback whose body may have loops."""
        self.kinds.add(f"loop {depth}")
        still = self.pick(self.values, lambda v: v.time is None and v.frame == (D,))
        initial = still if still is not None and self.flip(0.5) else None
        before = tr.Feedback(D, steps=int(self.of(1, 1, 2, 4)), time=x.time, initial=initial)
        body = [tr.Linear(D + x.frame[0], D)(tr.concat([x, before])).named(self.name())]
        for _ in range(int(self.random.integers(1, 4))):
            self.draw(body, depth + 1)
        end = tr.Tanh()(tr.Linear(body[-1].frame[0], D)(body[-1]).named(self.name()))
        before.connect(end)
        values.append(end)
        if self.flip(0.4):
            values.append(body[int(self.random.integers(len(body)))])  # several outputs
