"""A net of layers over time in PyTorch's float64, row by row and step by step, from its outline alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tinyrnn as tr
from tinyrnn.outlines import Line, outline

F = torch.nn.functional
MAPS = {"Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "ReLU": torch.relu}


class Oracle:
    """One row of a batch.

    Parameters
    ----------
    net : Net
    w : dict of str to Tensor
        Its tensors, which all rows share.
    given : list of Tensor
        The row's inputs, ``(its steps, frame)`` or ``(frame,)``.

    Attributes
    ----------
    values : list
        Of each line of the outline: a list of frames, or one frame for the sequence.
    hidden : dict of str to dict of int to Tensor
        By line, level and direction, ``(number, level, way)``: the states of the steps, with gradients.
    """

    def __init__(self, net: tr.Net, w: dict[str, Any], given: list[Any]) -> None:
        self.w, self.found = w, outline(net)
        self.values: list[Any] = [None] * len(self.found.lines)
        self.hidden: dict[tuple[int, int, int], dict[int, Any]] = {}
        self.state: dict[Any, Any] = {}
        self.last: dict[tuple[int, int, int], dict[str, Any]] = {}
        lines, number = self.found.lines, 0
        for line, x in zip(self.found.inputs, given, strict=True):
            self.values[number] = list(x) if line.axis else x
            number += 1
        while number < len(lines):
            end = number + 1
            while lines[number].loop >= 0 and end < len(lines) and lines[end].loop == lines[number].loop:
                end += 1
            if lines[number].loop >= 0:
                self.run_loop(number, end)
            else:
                self.run(number)
            number = end

    def weights(self, line: Line) -> dict[str, Any]:
        prefix = f"{line.same or line.name}."
        return {name.removeprefix(prefix): a for name, a in self.w.items() if name.startswith(prefix)}

    def run_loop(self, first: int, end: int) -> None:
        lines, axis = self.found.lines, self.found.lines[first].axis
        steps = next(
            len(self.values[read])
            for line in lines[first:end]
            for read in line.reads
            if read < first and lines[read].axis == axis
        )
        for number in range(first, end):
            if lines[number].axis:
                self.values[number] = []
        for t in range(steps):
            for number in range(first, end):
                line = lines[number]
                if any(read >= number for read in line.reads):  # a feedback
                    delay = line.layer.steps
                    start = self.values[line.reads[1]] if line.reads[1:] else torch.zeros(line.frame).double()
                    past = self.values[line.reads[0]] or []
                    self.values[number].append(past[t - delay] if t >= delay else start)
                elif line.axis:
                    xs = [self.values[r][t] if lines[r].axis == axis else self.values[r] for r in line.reads]
                    self.values[number].append(self.step(number, line, xs, t))
                elif line.kind == "FinalState" or lines[line.reads[0]].axis:
                    self.run(number)  # of the steps so far
                else:
                    self.values[number] = self.step(number, line, [self.values[r] for r in line.reads], 0)

    def run(self, number: int) -> None:
        line = self.found.lines[number]
        xs, layer = [self.values[read] for read in line.reads], line.layer
        axes = [self.found.lines[read].axis for read in line.reads]
        if line.kind == "FinalState":
            keys = sorted(key for key in self.last if key[0] == line.reads[0])
            ways = 1 + any(way for *_, way in keys)
            keys = keys[-ways * layer.num_layers :]
            self.values[number] = torch.cat([self.last[key][layer.state] for key in keys])
        elif line.kind in ("LastStep", "SumOverTime", "MeanOverTime", "MaxOverTime"):
            x = xs[0]
            if len(xs) > 1:
                x = [one for one, m in zip(x, xs[1], strict=True) if m.item() != 0]
            found = torch.stack(x) if x else torch.zeros(1, *line.frame).double()
            ways: Any = {
                "LastStep": lambda a: a[-1],
                "SumOverTime": lambda a: a.sum(0),
                "MeanOverTime": lambda a: a.mean(0),
                "MaxOverTime": lambda a: a.max(0).values,
            }
            self.values[number] = ways[line.kind](found)
        elif line.kind == "TimeConv1d":
            w = self.weights(line)
            x = F.pad(torch.stack(xs[0]).T, (layer.kernel_size - 1, 0))
            self.values[number] = list(F.conv1d(x[None], w["weight"], w["bias"], layer.stride)[0].T)
        elif line.kind == "Repeat":
            self.values[number] = [xs[0] for _ in xs[1]]
        elif getattr(layer, "bidirectional", False):
            self.both_ways(number, line, xs)
        elif not line.axis:
            self.values[number] = self.step(number, line, xs, 0)
        else:
            timed = next(x for x, axis in zip(xs, axes, strict=True) if axis == line.axis)
            own = line.kind == "DotProductAttention"
            self.values[number] = [
                self.step(
                    number,
                    line,
                    [
                        x[t] if axis == line.axis and not (own and i) else x
                        for i, (x, axis) in enumerate(zip(xs, axes, strict=True))
                    ],
                    t,
                )
                for t in range(len(timed))
            ]

    def both_ways(self, number: int, line: Line, xs: list[Any]) -> None:
        x, rest = xs[0], xs[1:]
        mask = rest.pop(0) if rest and self.found.lines[line.reads[1]].axis else None
        for level in range(line.layer.num_layers):
            ways = []
            for way in range(2):
                order = range(len(x))[:: -1 if way else 1]
                found = {
                    t: self.cell(number, line, level, way, x[t], rest, mask is None or mask[t].item() != 0, t)
                    for t in order
                }
                ways.append([found[t] for t in range(len(x))])
            x = [torch.cat(pair) for pair in zip(*ways, strict=True)]
        self.values[number] = x

    def cell(
        self, number: int, line: Line, level: int, way: int, x: Any, begin: list[Any], on: bool, t: int
    ) -> Any:
        layer, w = line.layer, self.weights(line)
        key, directions = (number, level, way), 1 + layer.bidirectional
        names = [
            f"{one}_l{level}{'_reverse' * way}" for one in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        own = [w[name] for name in names]
        if key not in self.last:
            place, size = level * directions + way, layer.hidden_size
            self.last[key] = {
                state: given[place * size : (place + 1) * size]
                for state, given in zip(("h", "c"), begin, strict=False)
            }
            for state in ("h", "c"):
                table = w.get(f"{state}0")
                zero = torch.zeros(size).double() if table is None else table[place]
                self.last[key].setdefault(state, zero)
        h, c = self.last[key]["h"], self.last[key]["c"]
        kind = type(layer).__name__
        if not on:
            h = h.clone()
        elif kind == "LSTM":
            new, cell = torch.lstm_cell(x[None], (h[None], c[None]), *own)
            h, c = new[0], cell[0]
        else:
            run: Any = {"GRU": torch.gru_cell, "RNN": torch.rnn_tanh_cell}[kind]
            h = run(x[None], h[None], *own)[0]
        if not h.requires_grad:  # zeros that a mask has kept
            h.requires_grad_()
        h.retain_grad()
        self.hidden.setdefault(key, {})[t] = h
        self.last[key] = {"h": h, "c": c}
        return h

    def step(self, number: int, line: Line, xs: list[Any], t: int) -> Any:
        kind, layer = line.kind, line.layer
        if kind in ("GRU", "LSTM", "RNN"):
            x, rest = xs[0], list(xs[1:])
            masked = len(line.reads) > 1 and self.found.lines[line.reads[1]].axis
            on = not masked or rest.pop(0).item() != 0
            for level in range(layer.num_layers):
                x = self.cell(number, line, level, 0, x, rest, on, t)
            return x
        if kind == "Linear":
            w = self.weights(line)
            return F.linear(xs[0], w["weight"], w.get("bias"))
        if kind in MAPS:
            return MAPS[kind](xs[0])
        if kind == "Concat":
            return torch.cat(xs, -1)
        if kind == "Slice":
            return xs[0][..., layer.start : layer.stop]
        if kind in ("Add", "Multiply"):
            return xs[0] + xs[1] if kind == "Add" else xs[0] * xs[1]
        if kind == "Delay":
            past = self.state.setdefault(number, [])
            past.append(xs[0])
            return past[t - layer.steps] if t >= layer.steps else torch.zeros_like(xs[0])
        if kind == "DotProductAttention":
            q, keys, given = xs[0], torch.stack(xs[1]), torch.stack(xs[2])
            mask = None if len(xs) < 4 else torch.stack(xs[3]).reshape(1, -1) != 0
            if mask is not None and not mask.any():
                return torch.zeros_like(given[0])
            return F.scaled_dot_product_attention(q[None], keys, given, mask)[0]
        raise NotImplementedError(kind)


def numbers_of(net: tr.Net) -> dict[str, Any]:
    """The tensors of a net as leaves of PyTorch."""
    return {
        name: torch.tensor(a, dtype=torch.float64, requires_grad=a.dtype == np.float32)
        for name, a in net.state_dict().items()
    }
