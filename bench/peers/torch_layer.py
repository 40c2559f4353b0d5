"""PyTorch's LSTM or GRU, called on a sequence, or on a sequence of one."""

from __future__ import annotations

from typing import Any

from work import Call, Work

NEEDS = ("torch",)


def fits(work: Work) -> bool:
    return work.dtype == "float32"


def prepare(work: Work) -> Call:
    import torch

    torch.set_num_threads(1)
    layer = getattr(torch.nn, work.kind)(
        work.inputs, work.hidden, work.layers, bidirectional=work.bidirectional
    )
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in work.weights.items()})
    x = torch.from_numpy(work.x)
    state: Any = None

    def call() -> Any:
        nonlocal state
        y, after = layer(x, state)
        state = None if work.bidirectional else after
        return y

    return call
