"""200 random graphs of all operations and layers: outputs and gradients are PyTorch's; scratch is small."""

from __future__ import annotations

import numpy as np
import pytest
from graph_nets import listed

from tinyrnn import _core

torch = pytest.importorskip("torch")
from random_graphs import MAPS, Drawn  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
]

COUNT, PART = 200, 10
TOLERANCE = 2e-5  # of a tensor's largest entry
ROUNDING = 1e-6  # of the largest gradient of all, where one is a sum that cancels, as a bias of keys


def near(found: np.ndarray, right: np.ndarray, what: str, others: float = 0.0) -> None:
    """Compare a tensor; ``others`` is the largest entry of all: a sum that cancels is zero beside them."""
    assert found.shape == right.shape, what
    most = float(np.abs(right).max(initial=0))
    assert float(np.abs(found - right).max(initial=0)) <= TOLERANCE * most + ROUNDING * others, what


def compare(seed: int) -> None:
    drawn = Drawn(seed)
    net = drawn.net.train()
    what = f"seed {seed}: {sorted(drawn.kinds)}"
    ys = listed(net(*drawn.arrays, lengths=drawn.lengths))
    random = np.random.default_rng(seed)
    dys = []
    for i, (y, node) in enumerate(zip(ys, drawn.outputs, strict=True)):
        dy = random.standard_normal(y.shape).astype(np.float32)
        right = node.tensor.detach().numpy()
        if node.time is not None:
            outside = ~drawn.inside[node.time].numpy()
            dy[outside] = 0
            y, right = y.copy(), right.copy()
            y[outside] = right[outside] = 0
        near(y, right, f"{what}: output {i}")
        dys.append(dy)
    dxs = net.backward(dys[0] if len(dys) == 1 else tuple(dys))
    dxs = dxs if isinstance(dxs, tuple) else (dxs,)
    pairs = [(node.tensor, dx) for node, dx in zip(drawn.inputs, dxs, strict=True) if dx is not None]
    assert sum(array.dtype == np.float32 for array in drawn.arrays) == len(pairs)  # others are indices
    leaves = [tensor for tensor, _ in pairs] + list(drawn.weights.values())
    ends = [(node.tensor, torch.from_numpy(dy).double()) for node, dy in zip(drawn.outputs, dys, strict=True)]
    ends = [(y, dy) for y, dy in ends if y.requires_grad]
    loss = sum((y * dy).sum() for y, dy in ends)
    rights = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = [*(dx for _, dx in pairs), *(net.grad_dict()[name] for name in drawn.weights)]
    names = [*(f"dx {i}" for i in range(len(pairs))), *drawn.weights]
    others = max(float(right.abs().max()) for right in rights if right is not None)
    for name, one, right in zip(names, found, rights, strict=True):
        near(one, np.zeros(one.shape) if right is None else right.numpy(), f"{what}: {name}", others)


@pytest.mark.parametrize("first", range(0, COUNT, PART))
def test_outputs_and_gradients_are_torchs(first: int) -> None:
    for seed in range(first, first + PART):
        compare(seed)


def test_single_steps_have_the_bits_of_a_call() -> None:
    """A stream of one row steps with values that lie within others; a call of several rows copies them."""
    found = 0
    for seed in range(COUNT):
        drawn = Drawn(seed)
        if len(drawn.times) > 1:
            continue
        net = drawn.net.eval()
        try:
            stream = net.stream()
        except ValueError:  # it needs the full sequence
            continue
        times = [node.time for node in drawn.inputs]
        whole = listed(net(*drawn.arrays))
        steps = drawn.steps[drawn.times[0]]
        for t in range(steps):
            given = zip(drawn.arrays, times, strict=True)
            ys = listed(stream.step(*(x[t, :1] if time else x[:1] for x, time in given)))
            for i, (y, right, node) in enumerate(zip(ys, whole, drawn.outputs, strict=True)):
                right = right[t, :1] if node.time else right[:1]
                if node.time or t == steps - 1:
                    assert y.tobytes() == right.tobytes(), f"seed {seed}: step {t}, output {i}"
        found += "concat" in drawn.kinds
    assert found >= COUNT / 4


def test_all_of_them_are_drawn_and_scratch_is_small() -> None:
    """The space for values is the least that any layout needs in most graphs, and little more in others."""
    kinds: set[str] = set()
    least = 0
    for seed in range(COUNT):
        drawn = Drawn(seed)
        kinds |= drawn.kinds
        cores, _ = drawn.net._ports_laid()
        value, widest = _core.Plan(cores, (), drawn.batch, tuple(drawn.steps.values())).values_bytes
        assert widest <= value <= 1.35 * widest, seed
        least += value == widest
    assert least >= 0.95 * COUNT, least
    assert kinds >= {kind for kind, _ in MAPS} - {"Identity"}
    assert kinds >= {
        "Feedback",
        "AdditiveAttention",
        "FinalState",
        "nested",
        "Repeat",
        "BatchNorm1d",
        "Conv1d",
    }
