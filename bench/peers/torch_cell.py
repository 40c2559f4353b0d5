"""PyTorch's LSTMCell or GRUCell, one for each level, as one writes a stream with it."""

from __future__ import annotations

from typing import Any

from work import Call, Work

NEEDS = ("torch",)


def fits(work: Work) -> bool:
    return work.steps == 1 and work.dtype == "float32" and not work.bidirectional


def prepare(work: Work) -> Call:
    import torch

    torch.set_num_threads(1)
    cells = []
    for level in range(work.layers):
        width = work.hidden if level else work.inputs
        cell = getattr(torch.nn, work.kind + "Cell")(width, work.hidden)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: torch.from_numpy(work.both(name, level)[0]) for name in names})
        cells.append(cell)
    frame = torch.from_numpy(work.x[0])
    states: list[Any] = [None] * work.layers

    def lstm() -> Any:
        y = frame
        for i, cell in enumerate(cells):
            states[i] = cell(y, states[i])
            y = states[i][0]
        return y

    def gru() -> Any:
        y = frame
        for i, cell in enumerate(cells):
            states[i] = y = cell(y, states[i])
        return y

    return lstm if work.kind == "LSTM" else gru
