"""Random nets of loops, masks, rates and shared layers: values and all gradients are PyTorch's.

Streams by steps and by chunks have the bits of a call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graph_nets import listed

import tinyrnn as tr
from tinyrnn.recurrent import _Recurrent

torch = pytest.importorskip("torch")
from deep_graphs import Deep  # noqa: E402
from graph_oracle import Oracle, numbers_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, PART = 120, 10
TOLERANCE = 2e-5  # of a tensor's largest entry
ROUNDING = 2e-6  # of the largest of all, where one is a sum that cancels


def near(found: np.ndarray, right: np.ndarray, what: str, others: float = 0.0) -> None:
    most = float(np.abs(right).max(initial=0))
    worst = float(np.abs(found - right).max(initial=0))
    assert worst <= TOLERANCE * most + ROUNDING * max(others, 1e-3), f"{what}: {worst} of {most}"


def slope(tensor: Any) -> np.ndarray:
    return np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()


def compare(seed: int) -> set[str]:
    drawn = Deep(seed)
    net, lengths = drawn.net, drawn.lengths
    names = list(net._ports_known())
    x = dict(zip(names, drawn.arrays, strict=True)) if names[1:] else drawn.arrays[0]
    ys, w = listed(net(x, lengths=lengths)), numbers_of(net)
    rows = [
        Oracle(
            net,
            w,
            [
                torch.tensor(a[: lengths[time][b], b] if time else a[b]).double()
                for a, time in zip(drawn.arrays, drawn.times, strict=True)
            ],
        )
        for b in range(drawn.batch)
    ]
    found = rows[0].found
    random, loss, dys = np.random.default_rng(seed), torch.zeros(()).double(), {}
    for (output, number), y in zip(found.outputs.items(), ys, strict=True):
        dy = random.standard_normal(y.shape).astype(np.float32)
        for b, row in enumerate(rows):
            value, part = row.values[number], np.s_[b]
            if found.lines[number].axis:
                value, part = torch.stack(value), np.s_[: len(value), b]
                dy[len(value) :, b] = 0
            near(y[part], value.detach().numpy(), f"seed {seed}: output {output}")
            loss = loss + (value * torch.tensor(dy[part])).sum()
        dys[output] = dy
    if not loss.requires_grad:
        return drawn.kinds
    loss.backward()
    given = dys if dys.keys() - {next(iter(dys))} else next(iter(dys.values()))
    net.train()(x, lengths=lengths)
    net.backward(given)
    shared = tuple(f"{line.name}." for line in found.lines if line.same)
    own = [name for name in net.grad_dict() if not name.startswith(shared)]
    others = max(float(np.abs(slope(w[name])).max()) for name in own) if own else 0.0
    for name in own:
        near(net.grad_dict()[name], slope(w[name]), f"seed {seed}: {name}", others)
    if not any(isinstance(line.layer, _Recurrent) for line in found.lines):
        return drawn.kinds
    hidden = tr.inspect.hidden_gradients(net, x, dy=given, lengths=lengths)
    for key in rows[0].hidden:
        number, level, way = key
        name = f"{found.lines[number].name}.l{level}{'_reverse' * way}"
        right = np.zeros(hidden[name].shape)
        for b, row in enumerate(rows):
            for t, h in row.hidden.get(key, {}).items():
                right[t, b] = slope(h)
        near(hidden[name], right, f"seed {seed}: hidden {name}", others)
    return drawn.kinds | {"hidden"}


@pytest.mark.parametrize("first", range(0, COUNT, PART))
def test_values_and_gradients_are_torchs(first: int) -> None:
    kinds: set[str] = set()
    for seed in range(first, first + PART):
        kinds |= compare(seed)
    assert "hidden" in kinds


def test_streams_have_the_bits_of_a_call() -> None:
    compared, kinds = 0, set()
    for seed in range(COUNT):
        drawn = Deep(seed)
        if drawn.axes[1:]:
            continue
        try:
            drawn.net.stream(drawn.batch)
        except ValueError:  # it needs the full sequence
            continue
        whole = listed(drawn.net(*drawn.arrays))
        for size in (1, 2, 3):
            stream, parts = drawn.net.stream(drawn.batch), []
            for t in range(0, drawn.steps["time"], size):
                given = zip(drawn.arrays, drawn.times, strict=True)
                parts.append(listed(stream.run(*(a[t : t + size] if time else a for a, time in given))))
            for value, right, *steps in zip(drawn.outputs, whole, *parts, strict=True):
                y = steps[-1] if value.time is None else np.concatenate(steps)
                assert y.tobytes() == right.tobytes(), (seed, size)
        compared += 1
        kinds |= drawn.kinds
    assert compared >= COUNT / 4 and kinds >= {"loop 0", "loop 1", "masked", "begin", "stride", "net"}, kinds
