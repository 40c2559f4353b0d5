"""Random graphs, drawn twice at once: as tinyrnn's values, and as PyTorch's tensors in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from elementwise_cases import ELEMENTWISE, POSITIVE, of_torch

import tinyrnn as tr

F = torch.nn.functional
TIMES = ("time", "other")
SIZES = (2, 3, 4, 6)
# A power of 40 leaves nothing of float32, and one of 0 has no slope.
MAPS = [
    (layer, given)
    for layer, given in ELEMENTWISE
    if given.get("exponent") not in (0.0, 40.0) and given != {"alpha": -2.0}
]


class Node(NamedTuple):
    """A value of the graph, and what PyTorch computes for it: ``(T, B, frame)`` or ``(B, frame)``."""

    value: Any
    tensor: Any
    time: str | None

    @property
    def frame(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[2 if self.time else 1 :])


Weights = dict[str, Any]
Step = Callable[[Any, dict[str, Any]], Any]  # a value of a step, from one, with a state by name


class Drawn:
    """A random graph.

    Attributes
    ----------
    net : Net
    arrays : list of ndarray
        Its inputs.
    lengths : dict of str to list of int
        By axis of time.
    inputs, outputs : list of Node
    weights : dict of str to Tensor
        The leaves of PyTorch's graph, by the names of the net's tensors.
    kinds : set of str
        What was drawn.
    """

    def __init__(self, seed: int) -> None:
        tr.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.batch = int(self.random.integers(1, 4))
        self.times = TIMES[: 1 + self.flip(0.25)]
        self.steps = {time: int(self.random.integers(1, 8)) for time in self.times}
        self.lengths = {}
        for time, steps in self.steps.items():
            self.lengths[time] = [steps] * self.batch
            if self.flip(0.6):
                self.lengths[time] = [int(n) for n in self.random.integers(1, steps + 1, self.batch)]
        self.inside = {
            time: torch.arange(steps)[:, None] < torch.tensor(self.lengths[time])
            for time, steps in self.steps.items()
        }
        self.weights: Weights = {}
        self.kinds: set[str] = set()
        self.count = 0
        self.arrays: list[np.ndarray] = []
        self.nodes: list[Node] = []
        self.used: set[int] = set()
        self.inputs = [self.input(time) for time in self.times]
        while self.flip(0.4) and len(self.inputs) < 4:
            self.inputs.append(self.input(self.of(*self.times, None)))
        if self.flip(0.2):
            self.inputs.append(self.words())
        if self.flip(0.2):
            self.inputs.append(self.planes())
        for _ in range(int(self.random.integers(3, 13))):
            self.draw()
        self.outputs = self.ends()
        self.net = tr.Net([node.value for node in self.inputs], [node.value for node in self.outputs])

    # ---- choices ---------------------------------------------------------------------------------

    def of(self, *given: Any) -> Any:
        return given[int(self.random.integers(len(given)))]

    def flip(self, chance: float) -> bool:
        return bool(self.random.random() < chance)

    def pick(self, fits: Callable[[Node], bool] = lambda node: True) -> Node | None:
        """One of the values that fit, often one that nothing reads yet."""
        found = [node for node in self.nodes if fits(node)]
        unread = [node for node in found if id(node.value) not in self.used]
        if not found:
            return None
        chosen = unread if unread and self.flip(0.6) else found
        return chosen[int(self.random.integers(len(chosen)))]

    # ---- values -----------------------------------------------------------------------------------

    def input(self, time: str | None) -> Node:
        frame = (self.of(*SIZES),)
        lead = (self.batch,) if time is None else (self.steps[time], self.batch)
        array = self.random.standard_normal((*lead, *frame)).astype(np.float32)
        self.arrays.append(array)
        tensor = torch.from_numpy(array).double().requires_grad_()
        value = tr.Input(*frame, time=time, name=f"x{len(self.arrays)}")
        self.nodes.append(Node(value, tensor, time))
        return self.nodes[-1]

    def words(self) -> Node:
        """An input of indices, read by an embedding."""
        time = self.of(*self.times)
        array = self.random.integers(0, 5, (self.steps[time], self.batch)).astype(np.int32)
        self.arrays.append(array)
        given = Node(tr.Input(time=time, name=f"x{len(self.arrays)}"), None, time)
        made, w, name = self.layer("Embedding", 5, self.of(*SIZES))
        self.add(Node(made(given.value).named(name), w["weight"][torch.from_numpy(array).long()], time))
        return given

    def planes(self) -> Node:
        """An input of channels, convolved within the frame and flattened."""
        time = self.of(*self.times)
        array = self.random.standard_normal((self.steps[time], self.batch, 2, 5)).astype(np.float32)
        self.arrays.append(array)
        tensor = torch.from_numpy(array).double().requires_grad_()
        given = Node(tr.Input(2, 5, time=time, name=f"x{len(self.arrays)}"), tensor, time)
        made, w, name = self.layer("Conv1d", 2, 3, 3, stride=self.of(1, 2), padding=1)
        y = F.conv1d(tensor.flatten(0, 1), w["weight"], w["bias"], made.stride, 1).unflatten(
            0, tensor.shape[:2]
        )
        self.kinds.add("Flatten")
        self.add(Node(tr.Flatten(-2)(made(given.value).named(name)), y.flatten(-2), time))
        return given

    def add(self, node: Node) -> Node:
        """Take a value; a large one is scaled, so that float32 stays close to float64."""
        most = float(node.tensor.detach().abs().max())
        assert np.isfinite(most), sorted(self.kinds)
        if most > 3:
            factor = 2.0 ** -int(np.ceil(np.log2(most / 2)))
            node = Node(node.value * factor, node.tensor * factor, node.time)
        self.nodes.append(node)
        left = [node.value]
        while left:
            for read in left.pop().reads:
                if id(read) not in self.used:
                    self.used.add(id(read))
                    left.append(read)
        self.used.discard(id(node.value))  # which a loop's own delay reads
        return node

    def layer(self, kind: str, *arguments: Any, **named: Any) -> tuple[Any, Weights, str]:
        """A layer, its weights as PyTorch's leaves, and its name."""
        made = getattr(tr, kind)(*arguments, **named)
        name = f"n{self.count}"
        self.count += 1
        self.kinds.add(kind)
        return made, self.leaves(made, name), name

    def leaves(self, made: Any, name: str) -> Weights:
        """The weights of a layer, away from the numbers that it begins with: those of a norm are 1 and 0."""
        changed = {
            key: array + self.random.standard_normal(array.shape).astype(np.float32) * 0.1
            for key, array in made.state_dict().items()
            if array.dtype == np.float32 and "running" not in key
        }
        made.load_state_dict(made.state_dict() | changed)
        own = {
            key: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for key, array in changed.items()
        }
        self.weights |= {f"{name}.{key}": leaf for key, leaf in own.items()}
        return own

    def draw(self) -> None:
        """One more layer, or a few."""
        self.of(*self.ways)(self)

    # ---- what looks at one frame --------------------------------------------------------------------

    def mapped(self) -> None:
        node = self.pick()
        assert node is not None
        kind, given = self.of(*MAPS)
        self.kinds.add(kind)
        value, tensor = node.value, node.tensor
        if kind in POSITIVE:
            value, tensor = value * value + 0.5, tensor * tensor + 0.5
        self.add(Node(getattr(tr, kind)(**given)(value), of_torch(kind, given, tensor), node.time))

    def prelu(self) -> None:
        if (node := self.pick()) is None:
            return
        made, w, name = self.layer("PReLU")
        self.add(Node(made(node.value).named(name), F.prelu(node.tensor, w["weight"]), node.time))

    def softmax(self) -> None:
        if (node := self.pick()) is None:
            return
        kind = self.of("Softmax", "LogSoftmax")
        self.kinds.add(kind)
        way = torch.softmax if kind == "Softmax" else torch.log_softmax
        self.add(Node(getattr(tr, kind)(-1)(node.value), way(node.tensor, -1), node.time))

    def linear(self) -> None:
        if (node := self.pick()) is None:
            return
        size = self.of(*SIZES)
        made, w, name = self.layer("Linear", node.frame[-1], size, bias=self.flip(0.7))
        tensor = F.linear(node.tensor, w["weight"], w.get("bias"))
        self.add(Node(made(node.value).named(name), tensor, node.time))
        if self.flip(0.3) and size == node.frame[-1]:  # the same weights again
            again = Node(
                made(self.nodes[-1].value),
                F.linear(self.nodes[-1].tensor, w["weight"], w.get("bias")),
                node.time,
            )
            self.add(again)

    def norm(self) -> None:
        """Normalise frames whose numbers differ."""
        node = self.pick(lambda one: one.frame[-1] > 2 and float(one.tensor.detach().std(-1).min()) > 0.1)
        if node is None:
            return
        made, w, name = self.layer("LayerNorm", node.frame[-1])
        tensor = F.layer_norm(node.tensor, node.frame[-1:], w["weight"], w["bias"])
        self.add(Node(made(node.value).named(name), tensor, node.time))

    def batch_norm(self) -> None:
        if (node := self.timed()) is None:
            return
        inside = self.inside[node.time]
        counted = node.tensor[inside]
        if len(counted) < 3 or float(counted.detach().std(0).min()) < 0.1:
            return
        made, w, name = self.layer("BatchNorm1d", node.frame[0])
        y = F.batch_norm(counted, None, None, w["weight"], w["bias"], True)
        y = torch.zeros_like(node.tensor).index_put((inside,), y)
        self.add(Node(made(node.value).named(name), y, node.time))

    def arithmetic(self) -> None:
        """With another value, whose sizes may be 1, or which is per sequence; or with a number."""
        one = self.pick()
        assert one is not None
        if self.flip(0.3):
            number = float(self.of(0.5, -1.5, 2.0))
            way = self.of(
                lambda a: a + number,
                lambda a: number - a,
                lambda a: a * number,
                lambda a: a / number,
                lambda a: -a,
                lambda a: abs(a),
                lambda a: a**2,
                lambda a: number / (a * a + 0.5),
            )
            self.kinds.add("number")
            self.add(Node(way(one.value), way(one.tensor), one.time))
            return

        def fits(other: Node) -> bool:
            sizes = zip(one.frame[::-1], other.frame[::-1], strict=False)
            return (other.time == one.time or None in (one.time, other.time)) and all(
                a == b or 1 in (a, b) for a, b in sizes
            )

        other = self.pick(fits)
        assert other is not None
        a, b = (one, other) if self.flip(0.5) else (other, one)
        kind = self.of("add", "subtract", "multiply", "divide", "minimum", "maximum")
        self.kinds.add(kind)
        ways: dict[str, Any] = {
            "add": lambda m, x, y: x + y,
            "subtract": lambda m, x, y: x - y,
            "multiply": lambda m, x, y: x * y,
            "divide": lambda m, x, y: x / (y * y + 0.5),
            "minimum": lambda m, x, y: m.minimum(x, y),
            "maximum": lambda m, x, y: m.maximum(x, y),
        }
        time = a.time or b.time
        self.add(Node(ways[kind](tr, a.value, b.value), ways[kind](torch, a.tensor, b.tensor), time))

    def joined(self) -> None:
        one = self.pick()
        assert one is not None
        others = [self.pick(lambda node: node.time == one.time and node.frame[:-1] == one.frame[:-1])]
        others += [self.pick(lambda node: node.time == one.time and node.frame[:-1] == one.frame[:-1])]
        given = [one, *(node for node in others if node is not None)][: 2 + self.flip(0.3)]
        if sum(node.frame[-1] for node in given) > 24:
            return
        self.kinds.add("concat")
        tensor = torch.cat([node.tensor for node in given], -1)
        self.add(Node(tr.concat([node.value for node in given]), tensor, one.time))

    def sliced(self) -> None:
        if (node := self.pick(lambda one: one.frame[-1] > 1)) is None:
            return
        start = int(self.random.integers(node.frame[-1]))
        stop = int(self.random.integers(start + 1, node.frame[-1] + 1))
        self.kinds.add("slice")
        self.add(Node(node.value[..., start:stop], node.tensor[..., start:stop], node.time))

    def rejoined(self) -> None:
        """Split a frame, perhaps of a recurrent layer, and join its parts in another order."""
        if (node := self.pick(lambda one: one.frame[-1] > 1)) is None:
            return
        at = int(self.random.integers(1, node.frame[-1]))
        parts = [
            Node(node.value[..., part], node.tensor[..., part], node.time)
            for part in (slice(None, at), slice(at, None))
        ]
        if self.flip(0.5):
            parts[0] = Node(tr.Tanh()(parts[0].value), torch.tanh(parts[0].tensor), node.time)
        if self.flip(0.3):
            parts[1] = Node(tr.Flatten(-1)(parts[1].value), parts[1].tensor, node.time)
        if self.flip(0.5):
            parts.append(node)
        if self.flip(0.7):
            parts.reverse()
        self.kinds |= {"slice", "concat"}
        tensor = torch.cat([part.tensor for part in parts], -1)
        self.add(Node(tr.concat([part.value for part in parts]), tensor, node.time))

    def nested(self) -> None:
        """A residual net as a layer."""
        if (node := self.pick()) is None:
            return
        size = node.frame[-1]
        z = tr.Input(*node.frame)
        inner = tr.Linear(size, size)
        name = f"n{self.count}"
        self.count += 1
        self.kinds.add("nested")
        w = self.leaves(inner, f"{name}.map")
        made = tr.Net(z, tr.Tanh()(inner(z).named("map")) + z)
        tensor = torch.tanh(F.linear(node.tensor, w["weight"], w["bias"])) + node.tensor
        self.add(Node(made(node.value).named(name), tensor, node.time))

    # ---- what looks at several steps ------------------------------------------------------------------

    def timed(self) -> Node | None:
        return self.pick(lambda node: node.time is not None and len(node.frame) == 1)

    def recurrent(self) -> None:
        if (node := self.timed()) is None:
            return
        kind, both, levels = self.of("GRU", "LSTM", "RNN"), self.flip(0.3), self.of(1, 1, 2)
        named: dict[str, Any] = {"num_layers": levels, "bidirectional": both}
        size = self.of(*SIZES)
        if kind == "LSTM" and self.flip(0.3) and size > 2:
            named["proj_size"] = size - 1
        if kind == "RNN":
            named["nonlinearity"] = self.of("tanh", "relu")
        made, w, name = self.layer(kind, node.frame[0], size, **named)
        module = getattr(torch.nn, kind)(node.frame[0], size, **named).double()
        lengths = torch.tensor(self.lengths[node.time])
        packed = torch.nn.utils.rnn.pack_padded_sequence(node.tensor, lengths, enforce_sorted=False)
        y, final = torch.func.functional_call(module, w, (packed,))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=self.steps[node.time])
        value = made(node.value).named(name)
        if self.flip(0.3):
            which = self.of("h", "c") if kind == "LSTM" else "h"
            state = final[which == "c"] if kind == "LSTM" else final
            state = state[-2:] if both else state[-1:]
            self.kinds.add("FinalState")
            self.add(Node(tr.FinalState(which)(value), torch.cat(list(state), -1), None))
            if self.flip(0.5):
                return
        self.add(Node(value, y, node.time))

    def delayed(self) -> None:
        if (node := self.timed()) is None:
            return
        steps = int(self.random.integers(1, 4))
        self.kinds.add("Delay")
        value = tr.Delay(node.frame, steps)(node.value)
        past = torch.zeros(steps, *node.tensor.shape[1:], dtype=torch.float64)
        self.add(Node(value, torch.cat([past, node.tensor])[: len(node.tensor)], node.time))

    def convolved(self) -> None:
        if (node := self.timed()) is None:
            return
        size, width, dilation = self.of(*SIZES), int(self.random.integers(1, 4)), self.of(1, 2)
        groups = 2 if size % 2 == node.frame[0] % 2 == 0 and self.flip(0.4) else 1
        made, w, name = self.layer("TimeConv1d", node.frame[0], size, width, dilation=dilation, groups=groups)
        x = F.pad(node.tensor.permute(1, 2, 0), ((width - 1) * dilation, 0))
        y = F.conv1d(x, w["weight"], w["bias"], dilation=dilation, groups=groups).permute(2, 0, 1)
        self.add(Node(made(node.value).named(name), y, node.time))

    def reduced(self) -> None:
        if (node := self.timed()) is None:
            return
        kind = self.of("LastStep", "SumOverTime", "MeanOverTime", "MaxOverTime")
        self.kinds.add(kind)
        inside, ends = self.inside[node.time][..., None], torch.tensor(self.lengths[node.time])
        x = node.tensor
        if kind == "LastStep":
            y = x[ends - 1, torch.arange(self.batch)]
        elif kind == "MaxOverTime":
            y = x.masked_fill(~inside, -torch.inf).max(0).values
        else:
            y = (x * inside).sum(0) / (ends[:, None] if kind == "MeanOverTime" else 1)
        self.add(Node(getattr(tr, kind)()(node.value), y, None))

    def repeated(self) -> None:
        still, node = self.pick(lambda one: one.time is None), self.timed()
        if still is None or node is None:
            return
        self.kinds.add("Repeat")
        y = still.tensor * self.inside[node.time].reshape(
            *self.inside[node.time].shape, *(1,) * len(still.frame)
        )
        self.add(Node(tr.Repeat()(still.value, node.value), y, node.time))

    def attended(self) -> None:
        query, keys = self.timed(), self.timed()
        if query is None or keys is None:
            return
        size = self.of(2, 4)
        parts = []
        for node in (query, keys, keys):
            made, w, name = self.layer("Linear", node.frame[0], size)
            parts.append((made(node.value).named(name), F.linear(node.tensor, w["weight"], w["bias"])))
        q, k, v = (tensor.swapaxes(0, 1) for _, tensor in parts)
        mask = self.inside[keys.time].T[:, None]  # (B, 1, keys)
        given = [value for value, _ in parts]
        if self.flip(0.5):
            heads = self.of(1, 2)
            made = tr.DotProductAttention(size, heads)
            self.kinds.add("DotProductAttention")
            q, k, v = (a.unflatten(-1, (heads, -1)).swapaxes(1, 2) for a in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, mask[:, None]).swapaxes(1, 2).flatten(2)
            value = made(*given)
        else:
            made, w, name = self.layer("AdditiveAttention", size)
            scores = torch.tanh(q[:, :, None] + k[:, None]) @ w["weight"].reshape(-1)
            y = torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v
            value = made(*given).named(name)
        self.add(Node(value, y.swapaxes(0, 1), query.time))

    def looped(self) -> None:
        """A feedback: a Linear over the value and its past, maps, and perhaps a recurrent layer."""
        if (node := self.timed()) is None:
            return
        size, delay = self.of(*SIZES), self.of(1, 1, 2, 3)
        before = tr.Feedback(size, steps=delay, time=node.time)
        self.kinds.add("Feedback")
        steps: list[Step] = []
        value = tr.concat([node.value, before])
        width = node.frame[0] + size
        if self.flip(0.5):
            kind = self.of("GRU", "LSTM")
            cell, c, name = self.layer(kind, width, size + 1)
            value, width = cell(value).named(name), size + 1
            steps.append(lambda x, s, c=c, kind=kind: _cell(kind, x, c, s))
        linear, w, name = self.layer("Linear", width, size)
        value = tr.Tanh()(linear(value).named(name))
        steps.append(lambda x, s, w=w: torch.tanh(F.linear(x, w["weight"], w["bias"])))
        before.connect(value)
        past = [torch.zeros(self.batch, size, dtype=torch.float64)] * delay
        state: dict[str, Any] = {}
        for x in node.tensor:
            y = torch.cat([x, past[-delay]], -1)
            for step in steps:
                y = step(y, state)
            past.append(y)
        self.add(Node(value, torch.stack(past[delay:]), node.time))

    ways = (
        mapped, mapped, mapped, prelu, softmax, linear, linear, norm, batch_norm, arithmetic, arithmetic,
        arithmetic, joined, joined, sliced, rejoined, rejoined, nested, recurrent, recurrent, delayed,
        convolved, reduced, repeated, attended, looped,
    )  # fmt: skip

    def ends(self) -> list[Node]:
        """All values that nothing reads, at most eight: others are reduced and added up."""
        left = [node for node in self.nodes if id(node.value) not in self.used]
        while len(left) > 8:
            one, other = left.pop(), left.pop()
            given = []
            for node in (one, other):
                flat = (
                    node if node.frame == (1,) else Node(node.value[..., :1], node.tensor[..., :1], node.time)
                )
                if flat.time is not None:
                    ends = torch.tensor(self.lengths[flat.time]) - 1
                    y = flat.tensor[ends, torch.arange(self.batch)]
                    flat = Node(tr.LastStep()(flat.value), y, None)
                given.append(flat)
            left.insert(0, Node(given[0].value + given[1].value, given[0].tensor + given[1].tensor, None))
        return left


def _cell(kind: str, x: Any, w: Weights, state: dict[str, Any]) -> Any:
    """One step of a recurrent layer; its state is kept in ``state``."""
    hidden = w["weight_hh_l0"].shape[1]
    h = state.get("h", torch.zeros(len(x), hidden, dtype=torch.float64))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    own = [w[name] for name in names]
    if kind == "GRU":
        state["h"] = torch.gru_cell(x, h, *own)
        return state["h"]
    state["h"], state["c"] = torch.lstm_cell(x, (h, state.get("c", torch.zeros_like(h))), *own)
    return state["h"]
