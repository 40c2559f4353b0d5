"""Gradients held to a float64 oracle and to finite differences, and the promises of docs/design.md.

tests/training/test_torch_gradients.py holds them to PyTorch.
"""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle_gradients as oracle
import pytest
from gradient_nets import CASES, RECURRENT, Case, backward, build, forward, leaves, randomise_norms

import tinyrnn as tr
from tinyrnn import _core
from tinyrnn.parameters import trainable

ISAS = tr.available_isas()
FUSED = [isa for isa in ISAS if _core.is_fused(isa)]
TOLERANCE = 2e-5  # of a tensor's largest entry


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array, np.float32).tobytes()


# ---- the oracle against finite differences ------------------------------------------------------

T, B = 4, 3
SMALL: dict[str, tuple[list[tuple[str, dict[str, Any]]], tuple[int, ...]]] = {
    "rnn": ([("RNN", {"input_size": 2, "hidden_size": 3})], (T, B, 2)),
    "relu": ([("RNN", {"input_size": 2, "hidden_size": 3, "nonlinearity": "relu"})], (T, B, 2)),
    "lstm": ([("LSTM", {"input_size": 2, "hidden_size": 3, "num_layers": 2})], (T, B, 2)),
    "lstm no bias": ([("LSTM", {"input_size": 2, "hidden_size": 3, "bias": False})], (T, B, 2)),
    "lstm both ways": ([("LSTM", {"input_size": 2, "hidden_size": 3, "bidirectional": True})], (T, B, 2)),
    "lstm projected": (
        [
            (
                "LSTM",
                {"input_size": 2, "hidden_size": 3, "proj_size": 2, "num_layers": 2, "bidirectional": True},
            )
        ],
        (T, B, 2),
    ),
    "gru": ([("GRU", {"input_size": 2, "hidden_size": 3, "batch_first": True})], (B, T, 2)),
    "gru both ways": (
        [("GRU", {"input_size": 2, "hidden_size": 3, "num_layers": 2, "bidirectional": True})],
        (T, B, 2),
    ),
    "linear": ([("Linear", {"in_features": 3, "out_features": 4})], (B, 3)),
    "linear no bias": ([("Linear", {"in_features": 3, "out_features": 4, "bias": False})], (2, B, 3)),
    "conv": ([("Conv1d", {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1})], (B, 2, 6)),
    "conv in groups": (
        [
            (
                "Conv1d",
                {
                    "in_channels": 4,
                    "out_channels": 4,
                    "kernel_size": 2,
                    "stride": 2,
                    "dilation": 2,
                    "groups": 2,
                },
            )
        ],
        (B, 4, 7),
    ),
    "conv reflecting": (
        [
            (
                "Conv1d",
                {
                    "in_channels": 2,
                    "out_channels": 2,
                    "kernel_size": 3,
                    "padding": 3,
                    "padding_mode": "reflect",
                },
            )
        ],
        (B, 2, 5),
    ),
    "pictures": (
        [("Conv2d", {"in_channels": 2, "out_channels": 3, "kernel_size": (3, 2), "padding": (1, 2)})],
        (B, 2, 3, 4),
    ),
    "pictures in groups": (
        [
            (
                "Conv2d",
                {
                    "in_channels": 4,
                    "out_channels": 4,
                    "kernel_size": 2,
                    "stride": (1, 2),
                    "dilation": (2, 1),
                    "groups": 2,
                },
            )
        ],
        (2, 4, 4, 5),
    ),
    "transposed": (
        [
            (
                "ConvTranspose1d",
                {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": 1},
            )
        ],
        (B, 2, 4),
    ),
    "transposed in groups": (
        [
            (
                "ConvTranspose1d",
                {
                    "in_channels": 4,
                    "out_channels": 2,
                    "kernel_size": 2,
                    "stride": 3,
                    "output_padding": 2,
                    "groups": 2,
                    "dilation": 2,
                    "bias": False,
                },
            )
        ],
        (2, 4, 3),
    ),
    "maxima": ([("MaxPool2d", {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1})], (2, 2, 5, 4)),
    "maxima of length": ([("MaxPool1d", {"kernel_size": 2, "ceil_mode": True})], (2, 2, 5)),
    "means": (
        [("AvgPool2d", {"kernel_size": (3, 2), "padding": 1, "count_include_pad": False})],
        (2, 2, 5, 4),
    ),
    "means of length": ([("AvgPool1d", {"kernel_size": 3, "stride": 2, "padding": 1})], (2, 2, 6)),
    "adaptive": (
        [("AdaptiveMaxPool2d", {"output_size": (3, None)}), ("AdaptiveAvgPool2d", {"output_size": (2, 3)})],
        (2, 2, 5, 4),
    ),
    "adaptive of length": (
        [("AdaptiveMaxPool1d", {"output_size": 4}), ("AdaptiveAvgPool1d", {"output_size": 1})],
        (2, 2, 7),
    ),
    "group norm": ([("GroupNorm", {"num_groups": 2, "num_channels": 4})], (2, 4, 2, 3)),
    "group norm alone": ([("GroupNorm", {"num_groups": 2, "num_channels": 6, "affine": False})], (3, 6)),
    "instance norm": ([("InstanceNorm1d", {"num_features": 2, "affine": True})], (2, 2, 5)),
    "instance norm of pictures": ([("InstanceNorm2d", {"num_features": 2})], (2, 2, 2, 3)),
    "batch norm of pictures": ([("BatchNorm2d", {"num_features": 2})], (2, 2, 2, 3)),
    "small reader": (
        [
            ("Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": 2, "bias": False}),
            ("BatchNorm2d", {"num_features": 2}),
            ("Tanh", {}),
            ("MaxPool2d", {"kernel_size": 2}),
            ("Flatten", {}),
            ("GRU", {"input_size": 4, "hidden_size": 3}),
            ("Linear", {"in_features": 3, "out_features": 2}),
        ],
        (T, B, 1, 3, 5),
    ),
    "layer norm": ([("LayerNorm", {"normalized_shape": 5})], (B, 5)),
    "layer norm of two axes": ([("LayerNorm", {"normalized_shape": (2, 3), "bias": False})], (B, 2, 3)),
    "layer norm alone": ([("LayerNorm", {"normalized_shape": 5, "elementwise_affine": False})], (B, 5)),
    "batch norm": ([("BatchNorm1d", {"num_features": 4})], (6, 4)),
    "batch norm of channels": ([("BatchNorm1d", {"num_features": 4, "momentum": None})], (2, 4, 3)),
    "batch norm alone": ([("BatchNorm1d", {"num_features": 4, "affine": False})], (6, 4)),
    "activations": (
        [("LeakyReLU", {"negative_slope": 0.2}), ("Sigmoid", {}), ("Tanh", {}), ("ReLU", {})],
        (B, 5),
    ),
    "smooth rectifiers": (
        [("ELU", {"alpha": 0.5}), ("GELU", {}), ("SiLU", {}), ("Mish", {}), ("Softplus", {"beta": 2.0})],
        (B, 5),
    ),
    "more smooth rectifiers": (
        [("SELU", {}), ("GELU", {"approximate": "tanh"}), ("CELU", {"alpha": 2.0}), ("LogSigmoid", {})],
        (B, 5),
    ),
    "rare curves": (
        [("Tanhshrink", {}), ("Hardswish", {}), ("Softsign", {}), ("Hardsigmoid", {}), ("Hardtanh", {})],
        (B, 5),
    ),
    "weights of slopes": ([("PReLU", {"num_parameters": 5}), ("ReLU6", {}), ("PReLU", {})], (B, 5)),
    "weights of slopes of channels": ([("PReLU", {"num_parameters": 4})], (B, 4, 3)),
    "arithmetic": (
        [
            ("Abs", {}),
            ("Scale", {"scale": 0.5, "shift": 0.75}),
            ("Sqrt", {}),
            ("Log", {}),
            ("Neg", {}),
            ("Exp", {}),
            ("Reciprocal", {}),
            ("Power", {"exponent": 2.5}),
            ("Clip", {"min": 0.01, "max": 30.0}),
        ],
        (B, 5),
    ),
    "softmax": (
        [("Conv1d", {"in_channels": 4, "out_channels": 3, "kernel_size": 1}), ("Softmax", {"dim": 1})],
        (B, 4, 2),
    ),
    "softmax of columns": ([("Softmax", {"dim": -1})], (B, 4, 2)),
    "log softmax": ([("LogSoftmax", {"dim": -1})], (B, 4)),
    "chain": (
        [
            ("Conv1d", {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "bias": False}),
            ("BatchNorm1d", {"num_features": 3}),
            ("Flatten", {}),
            ("GRU", {"input_size": 9, "hidden_size": 3}),
            ("LayerNorm", {"normalized_shape": 3}),
            ("Linear", {"in_features": 3, "out_features": 2}),
        ],
        (T, B, 2, 4),
    ),
    "table": (
        [
            ("Embedding", {"num_embeddings": 5, "embedding_dim": 3, "padding_idx": 1}),
            ("LSTM", {"input_size": 3, "hidden_size": 2}),
        ],
        (T, B),
    ),
}


def small(name: str) -> tuple[tr.Net, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], Any]:
    """A net, an input, initial states, the gradients of the final ones, and lengths."""
    layers, shape = SMALL[name]
    x: Any = normal(1, *shape)
    if layers[0][0] == "Embedding":
        x = np.random.default_rng(1).integers(0, 5, shape)
    net = build(Case(layers, x, None, None, None, 7))
    shapes = {}
    for i, (layer, options) in enumerate(layers):
        if layer in oracle.RECURRENT:
            prefix = f"{i}." if len(layers) > 1 else ""
            levels = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
            shapes[f"{prefix}h"] = (levels, B, options.get("proj_size") or options["hidden_size"])
            if layer == "LSTM":
                shapes[f"{prefix}c"] = (levels, B, options["hidden_size"])
    state = {key: normal(2, *size) for key, size in shapes.items()}
    dstate = {key: normal(3, *size) for key, size in shapes.items()}
    return net, x, state, dstate, [3, 4, 1] if shapes else None


def differences(loss: Callable[[], float], array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of ``loss`` by every entry of a float64 array, which is written to and restored."""
    found = np.empty_like(array)
    for at in np.ndindex(array.shape):
        kept = array[at]
        array[at] = kept + step
        above = loss()
        array[at] = kept - step
        found[at] = (above - loss()) / (2 * step)
        array[at] = kept
    return found


@pytest.mark.parametrize("name", SMALL)
def test_oracle_is_the_derivative(name: str) -> None:
    """Entry by entry, in float64: of the tensors, the input and the initial state."""
    net, x, state, dstate, lengths = small(name)
    wide = {key: array.astype(np.float64) for key, array in net.state_dict().items()}
    start = {key: array.astype(np.float64) for key, array in state.items()}
    inputs = x if x.dtype.kind == "i" else x.astype(np.float64)
    layers = leaves(net)
    ran = oracle.run(layers, wide, inputs, start, lengths)
    dy = normal(4, *ran.y.shape)
    dx, dstate0, grads = ran.backward(dy, dstate)

    def loss() -> float:
        again = oracle.run(layers, wide, inputs, start, lengths)
        return float((again.y * dy).sum() + sum((again.state[key] * dstate[key]).sum() for key in dstate))

    for key, grad in grads.items():
        want = differences(loss, wide[key])
        if layers[0][1] == "Embedding" and key.endswith("0.weight"):
            want[1] = 0  # padding_idx: read, but by definition without a gradient
        np.testing.assert_allclose(grad, want, rtol=0, atol=1e-7, err_msg=key)
    for key, grad in dstate0.items():
        np.testing.assert_allclose(grad, differences(loss, start[key]), rtol=0, atol=1e-7, err_msg=key)
    if dx is not None:
        np.testing.assert_allclose(dx, differences(loss, inputs), rtol=0, atol=1e-7)


# ---- ours against the oracle --------------------------------------------------------------------


def assert_near(got: Any, want: Any, what: str) -> None:
    assert list(got) == list(want), what
    for name in want:
        distance = oracle.distance(got[name], want[name])
        assert distance < TOLERANCE, f"{what}: {name} is off by {distance:.1e} of its largest entry"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind, count", [("alone", 36), ("chain", 24), ("frames", 20)])
def test_oracle(kind: str, count: int, isa: str) -> None:
    tr.set_isa(isa)
    for seed in range(1000, 1000 + count):
        case = CASES[kind](seed)
        net = build(case)
        want = oracle.run(leaves(net), net.state_dict(), case.x, case.state, case.lengths)
        net.train()
        y, final = forward(net, case.x, case.state, case.lengths)
        dy = normal(seed, *y.shape)
        dx, dstate0 = backward(net, dy, case.dstate)
        want_dx, want_dstate0, want_grads = want.backward(dy, case.dstate)
        where = f"{kind} {seed} ({case.names})"
        assert_near({"y": y, **final}, {"y": want.y, **want.state}, where)
        assert_near(net.grad_dict(), want_grads, where)
        assert_near(dstate0, want_dstate0, where)
        after = net.state_dict()
        assert_near({name: after[name] for name in want.running}, want.running, where)
        assert (dx is None) == (want_dx is None)
        if dx is not None:
            assert_near({"dx": dx}, {"dx": want_dx}, where)


@pytest.mark.parametrize("name", SMALL)
def test_small_nets(name: str) -> None:
    net, x, state, dstate, lengths = small(name)
    want = oracle.run(leaves(net), net.state_dict(), x, state, lengths)
    y, _ = forward(net.train(), x, state, lengths)
    dy = normal(4, *y.shape)
    dx, dstate0 = backward(net, dy, dstate)
    want_dx, want_dstate0, want_grads = want.backward(dy, dstate)
    assert_near(net.grad_dict(), want_grads, name)
    assert_near(dstate0, want_dstate0, name)
    if want_dx is not None:
        assert_near({"dx": dx}, {"dx": want_dx}, name)


# ---- ours against finite differences of ours ----------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_gradient_is_the_derivative(name: str) -> None:
    """Along the gradient and along random directions, by what the net itself computes in float32."""
    net, x, state, dstate, lengths = small(name)
    y, _ = forward(net.train(), x, state, lengths)
    dy = normal(4, *y.shape)
    dx, dstate0 = backward(net, dy, dstate)
    tensors = net.state_dict()
    grads = net.grad_dict()
    if dx is not None:
        tensors, grads = {**tensors, "input": x}, {**grads, "input": dx}
    tensors |= {f"initial {key}": array for key, array in state.items()}
    grads |= {f"initial {key}": array for key, array in dstate0.items()}
    size = np.sqrt(sum((grad.astype(np.float64) ** 2).sum() for grad in grads.values()))

    def loss(direction: dict[str, np.ndarray], step: float) -> float:
        moved = {key: tensors[key] + np.float32(step) * direction.get(key, np.float32(0)) for key in tensors}
        moved |= {key: tensors[key] for key in tensors if key.endswith("num_batches_tracked")}
        net.load_state_dict({key: moved[key] for key in net.state_dict()})
        start = {key: moved[f"initial {key}"] for key in state}
        y, final = forward(net, moved.get("input", x), start, lengths)
        total = (y.astype(np.float64) * dy).sum()
        return float(total + sum((final[key].astype(np.float64) * dstate[key]).sum() for key in dstate))

    rng = np.random.default_rng(5)
    for trial in range(4):
        direction = {
            key: grad / size if trial == 0 else rng.standard_normal(grad.shape).astype(np.float32) / 8
            for key, grad in grads.items()
        }
        if name == "table":
            direction["0.weight"][1] = 0  # padding_idx: no gradient by definition
        step = 5e-3
        slope = (loss(direction, step) - loss(direction, -step)) / (2 * step)
        want = sum((grads[key].astype(np.float64) * direction[key]).sum() for key in grads)
        assert abs(slope - want) < 4e-3 * max(size, 1), f"direction {trial}: {slope}, expected {want}"


# ---- the same bits ------------------------------------------------------------------------------

STEPS, ROWS = 23, 7
NETS: dict[str, Callable[[], tr.Net]] = {
    "rnn": lambda: tr.RNN(7, 33, 2, "relu"),
    "lstm": lambda: tr.LSTM(5, 40, 2),
    "lstm-projection": lambda: tr.LSTM(20, 50, 2, proj_size=18),
    "lstm-both": lambda: tr.LSTM(6, 21, 2, bidirectional=True),
    "gru": lambda: tr.GRU(3, 70),
    "gru-both": lambda: tr.GRU(16, 16, bidirectional=True, bias=False),
    "chain": lambda: tr.Sequential(
        tr.Linear(6, 17),
        tr.Tanh(),
        tr.LayerNorm(17),
        tr.GRU(17, 20),
        tr.LSTM(20, 16),
        tr.Linear(16, 5),
        tr.Softmax(-1),
    ),
    "frames": lambda: tr.Sequential(
        tr.Conv1d(2, 5, 3, stride=2, padding=1), tr.LeakyReLU(), tr.Flatten(), tr.LSTM(20, 9), tr.Sigmoid()
    ),
    "table": lambda: tr.Sequential(tr.Embedding(9, 18), tr.GRU(18, 18), tr.Linear(18, 9), tr.LogSoftmax(-1)),
}
FRAMES = {"frames": (2, 8), "table": ()}
NORMED: dict[str, Callable[[], tr.Net]] = {
    "batch": lambda: tr.Sequential(
        tr.Conv1d(2, 5, 3), tr.BatchNorm1d(5), tr.ReLU(), tr.Flatten(), tr.LSTM(30, 9)
    )
}


def made(name: str) -> tuple[tr.Net, Any]:
    """The net in training mode, and an input of STEPS steps for ROWS rows."""
    tr.manual_seed(1)
    net = (NETS | NORMED)[name]()
    randomise_norms(net, 2)
    if name == "table":
        return net.train(), np.random.default_rng(2).integers(0, 9, (STEPS, ROWS))
    frame = (2, 8) if name == "batch" else FRAMES.get(name) or net._frame()
    return net.train(), normal(2, STEPS, ROWS, *frame)


def results(net: tr.Net, x: Any, lengths: Any = None, threads: int = 1) -> dict[str, bytes]:
    """The bits of everything that one pass gives."""
    net.zero_grad()
    y, final = forward(net, x, None, lengths, threads)
    dstate = {name: normal(3, *part.shape) for name, part in final.items()}
    dx, dstate0 = backward(net, normal(4, *y.shape), dstate)
    found = {"y": y, **final, **net.grad_dict()}
    found |= {f"initial {name}": part for name, part in dstate0.items()}
    if dx is not None:
        found["dx"] = dx
    return {name: bits(array) for name, array in found.items()}


LENGTHS = [23, 1, 5, 22, 9, 9, 16]

FLAT: dict[str, tuple[Callable[[], tr.Net], tuple[int, ...]]] = {
    "linear": (lambda: tr.Sequential(tr.Linear(33, 70), tr.Sigmoid(), tr.Linear(70, 5)), (41, 33)),
    "conv": (
        lambda: tr.Sequential(tr.Conv1d(4, 18, 3, stride=2, padding=2, groups=2), tr.ReLU(), tr.Softmax(1)),
        (19, 4, 21),
    ),
    "pictures": (
        lambda: tr.Sequential(
            tr.Conv2d(3, 34, 3, stride=(2, 1), padding=1, bias=False),
            tr.BatchNorm2d(34),
            tr.SiLU(),
            tr.Conv2d(34, 34, 3, padding="same", groups=34),
            tr.GroupNorm(2, 34),
            tr.MaxPool2d(2, ceil_mode=True),
            tr.AvgPool2d(3, 1, 1),
            tr.InstanceNorm2d(34, affine=True),
            tr.AdaptiveAvgPool2d((2, 3)),
            tr.Flatten(),
            tr.Linear(204, 4),
        ),
        (9, 3, 13, 14),
    ),
    "transposed": (
        lambda: tr.Sequential(
            tr.ConvTranspose1d(4, 18, 5, stride=2, padding=1, output_padding=1, groups=2),
            tr.InstanceNorm1d(18),
            tr.AdaptiveMaxPool1d(5),
        ),
        (19, 4, 67),
    ),
    "norms": (
        lambda: tr.Sequential(
            tr.Conv1d(3, 17, 3, padding="same", padding_mode="reflect", bias=False),
            tr.BatchNorm1d(17),
            tr.LeakyReLU(),
            tr.LayerNorm((17, 9)),
            tr.Flatten(),
            tr.Linear(153, 4),
            tr.LogSoftmax(-1),
        ),
        (20, 3, 9),
    ),
    "rows": (lambda: tr.Sequential(tr.Linear(5, 33, bias=False), tr.BatchNorm1d(33), tr.Tanh()), (50, 5)),
}


@pytest.mark.parametrize("name", FLAT)
def test_same_bits_without_recurrence(name: str) -> None:
    """On every fused instruction set, and with any number of threads."""
    make, shape = FLAT[name]
    tr.manual_seed(1)
    net, x = make().train(), normal(2, *shape)
    randomise_norms(net, 2)
    found = {}
    for isa in ISAS:
        tr.set_isa(isa)
        found[isa] = results(net, x)
        for threads in (1, 2, 3):
            shared = results(net, x, None, threads)
            for key, value in found[isa].items():
                assert value == shared[key], (isa, threads, key)
    for isa in FUSED:
        for key, value in found[isa].items():
            assert value == found[FUSED[0]][key], (isa, key)


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", [*NETS, *NORMED])
def test_same_bits_on_every_fused_instruction_set(name: str, lengths: Any) -> None:
    net, x = made(name)
    found = {}
    for isa in FUSED:
        tr.set_isa(isa)
        found[isa] = results(net, x, lengths)
        assert results(net, x, lengths) == found[isa], "the second time"
        for key, value in found[isa].items():
            assert value == found[FUSED[0]][key], (isa, key)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", [*NETS, *NORMED])
def test_same_bits_with_any_number_of_threads(name: str, lengths: Any, isa: str) -> None:
    tr.set_isa(isa)
    net, x = made(name)
    alone = results(net, x, lengths)
    for threads in (2, 3, ROWS, ROWS + 2):
        shared = results(net, x, lengths, threads)
        for key, value in alone.items():
            assert value == shared[key], (threads, key)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETS)
def test_a_row_does_not_depend_on_its_neighbours(name: str, isa: str) -> None:
    """Compares dx, the output and the states; the tensors' gradients are sums over the rows."""
    tr.set_isa(isa)
    net, x = made(name)
    y, final = forward(net, x, None, LENGTHS)
    dy = normal(4, *y.shape)
    dstate = {key: normal(3, *part.shape) for key, part in final.items()}
    dx, dstate0 = backward(net, dy, dstate)
    for row in range(ROWS):
        of_row = np.s_[:, row : row + 1]
        y1, final1 = forward(net, np.ascontiguousarray(x[of_row]), None, LENGTHS[row : row + 1])
        alone = {key: np.ascontiguousarray(part[of_row]) for key, part in dstate.items()}
        dx1, start1 = backward(net, np.ascontiguousarray(dy[of_row]), alone)
        assert bits(y1) == bits(y[of_row])
        assert dx is None or bits(dx1) == bits(dx[of_row])
        for key in final:
            assert bits(final1[key]) == bits(final[key][of_row])
            assert bits(start1[key]) == bits(dstate0[key][of_row])


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", NETS)
def test_training_computes_what_evaluation_does(name: str, lengths: Any) -> None:
    for isa in ISAS:
        tr.set_isa(isa)
        net, x = made(name)
        y, _ = forward(net, x, None, lengths)
        again = net.eval()(x, lengths=lengths)
        assert bits(y) == bits(again[0] if isinstance(again, tuple) else again)


@pytest.mark.parametrize("name", NETS)
def test_without_a_batch_axis(name: str) -> None:
    """The bits of a batch of one, in axes of one less."""
    net, x = made(name)
    y, final = forward(net, np.ascontiguousarray(x[:, :1]))
    dy, dstate = normal(4, *y.shape), {key: normal(3, *part.shape) for key, part in final.items()}
    dx, dstate0 = backward(net, dy, dstate)
    grads = {key: bits(grad) for key, grad in net.grad_dict().items()}
    net.zero_grad()
    y1, final1 = forward(net, np.ascontiguousarray(x[:, 0]))
    lone = isinstance(net, RECURRENT)  # a Sequential's states always have the axis
    dx1, start1 = backward(net, dy[:, 0], {key: part[:, 0] if lone else part for key, part in dstate.items()})
    assert y1.shape == y[:, 0].shape and bits(y1) == bits(y)
    assert {key: bits(grad) for key, grad in net.grad_dict().items()} == grads
    assert dx is None or (dx1.shape == dx[:, 0].shape and bits(dx1) == bits(dx))
    for key in final:
        wanted = final[key][:, 0] if lone else final[key]
        assert final1[key].shape == start1[key].shape == wanted.shape
        assert bits(final1[key]) == bits(final[key]) and bits(start1[key]) == bits(dstate0[key])


@pytest.mark.parametrize("name", ["lstm-projection", "gru-both", "rnn", "chain", "frames", "batch"])
def test_a_tape_that_was_used_before(name: str) -> None:
    """Sequences of other lengths, with large numbers, leave nothing behind on the tape."""
    net, x = made(name)
    for steps in (STEPS, 5, 13, 1, STEPS):
        part = np.ascontiguousarray(x[:steps])
        fresh, _ = made(name)
        fresh.load_state_dict(net.state_dict())
        assert results(net, part) == results(fresh, part), steps
        forward(net, 50 * x)
        backward(net, 50 * normal(5, *forward(net, 50 * x)[0].shape))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_gradient_that_fades_never_stays_subnormal(kind: str) -> None:
    """Gates that hold on, and a loss that looks at the end only: silence costs nothing on the way back."""
    tr.manual_seed(0)
    net = getattr(tr, kind)(3, 20).train()
    tensors = net.state_dict()
    tensors["bias_ih_l0"][20:40] = 2  # an LSTM's f, a GRU's z
    net.load_state_dict(tensors)
    x, dy = normal(0, 4000, 2, 3), np.zeros((4000, 2, 20), np.float32)
    dy[-1] = 1
    tiny = np.finfo(np.float32).tiny
    for isa in ISAS:
        tr.set_isa(isa)
        forward(net, x)
        dx, dstate0 = backward(net, dy)
        for numbers in (dx[0], *dstate0.values()):
            assert not ((numbers != 0) & (np.abs(numbers) < tiny)).any(), isa


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dy_beyond_a_row_does_not_matter(kind: str) -> None:
    """A recurrent layer writes zeros there, whatever their gradient is."""
    tr.manual_seed(0)
    net = getattr(tr, kind)(4, 18, 2, bidirectional=True).train()
    x, dy = normal(0, STEPS, ROWS, 4), normal(1, STEPS, ROWS, 36)
    found = []
    for beyond in (0, 1, np.nan):
        for row, length in enumerate(LENGTHS):
            dy[length:, row] = beyond
        net.zero_grad()
        forward(net, x, None, LENGTHS)
        dx, _ = backward(net, dy)
        for row, length in enumerate(LENGTHS):
            assert not dx[length:, row].any()
        found.append({"dx": bits(dx), **{name: bits(grad) for name, grad in net.grad_dict().items()}})
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_tape_is_the_memory_that_a_pass_takes(threads: int) -> None:
    """Memory is allocated once, as much as the layout says; later passes allocate their results only."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(20, 64), tr.LSTM(64, 96, 2), tr.Linear(96, 20)).train()
    x, dy = normal(0, 100, 6, 20), normal(1, 100, 6, 20)
    net(x, threads=threads)  # weights and gradients are there, and threads
    net.backward(dy)
    told = net._practised().layout.tape
    told = told.tape_bytes + told.scratch_bytes + told.state_bytes
    assert told > 1_000_000
    net.eval()
    net.train()
    results = 4 * dy.nbytes + 100_000  # y, dx, and a copy of each on the way
    tracemalloc.start()
    try:
        net(x, threads=threads)
        kept, peak = tracemalloc.get_traced_memory()
        assert told <= kept and peak <= told + results
        net.backward(dy)
        for _ in range(3):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            net(x, threads=threads)
            net.backward(dy)
            after, peak = tracemalloc.get_traced_memory()
            assert peak - before <= results and after - before < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["lstm-projection", "gru-both", "chain", "batch"])
def test_the_trainer_has_the_gradients_of_a_call(name: str) -> None:
    """A step of plain gradient descent, by hand and by the trainer, with any number of threads."""
    net, x = made(name)
    target = normal(6, *forward(net, x, None, LENGTHS)[0].shape)
    net, x = made(name)
    y, _ = forward(net, x, None, LENGTHS)
    value, dy = tr.MSELoss()(y, target, lengths=LENGTHS)
    net.backward(dy)
    tr.optim.SGD(net, lr=0.1).step()
    want = {key: bits(array) for key, array in net.state_dict().items()}
    for threads in (1, 2, 3):
        net, x = made(name)
        frame = {"frame": x.shape[2:]} if name == "batch" else {}
        trainer = net.trainer(
            tr.optim.SGD(net, lr=0.1), tr.MSELoss(), batch=ROWS, steps=STEPS, threads=threads, **frame
        )
        assert trainer.step(x, target, lengths=LENGTHS) == pytest.approx(value, rel=1e-6)
        assert {key: bits(array) for key, array in net.state_dict().items()} == want, threads


def test_arrays_may_change_between_forwards_and_backwards() -> None:
    net, x = made("lstm")
    want = results(net, x, LENGTHS)
    net.zero_grad()
    lengths, x = np.array(LENGTHS), x.copy()
    h = np.zeros((2, ROWS, 40), np.float32)
    y, (h1, c1) = net(x, (h, h), lengths=lengths)
    dy, dstate = normal(4, *y.shape), (normal(3, *h1.shape), normal(3, *c1.shape))
    for array in (x, y, h, h1, c1):
        array[...] = np.nan
    lengths[:] = 1
    dx, (dh, dc) = net.backward(dy, dstate)
    for array in (dy, *dstate):
        assert np.isfinite(array).all()
    assert bits(dx) == want["dx"] and bits(dh) == want["initial h"] and bits(dc) == want["initial c"]
    assert {name: bits(grad) for name, grad in net.grad_dict().items()}.items() <= want.items()


@pytest.mark.parametrize("name", [*NETS, *NORMED])
def test_numbers_beyond_a_row_do_not_matter(name: str) -> None:
    net, x = made(name)
    if x.dtype.kind == "i":
        return
    clean = results(net, x, LENGTHS)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = np.nan
    assert results(net, x, LENGTHS) == clean
    for grad in net.grad_dict().values():
        assert np.isfinite(grad).all()


# ---- what is refused ----------------------------------------------------------------------------


def kept(net: tr.Net) -> dict[str, bytes]:
    """The bits of all that a failed call must not change."""
    gradients = {f"gradient of {name}": bits(grad) for name, grad in net.grad_dict().items()}
    return gradients | {name: bits(array) for name, array in net.state_dict().items()}


def ready() -> tuple[tr.Net, np.ndarray, np.ndarray]:
    """A net with gradients, an input, and dy for it."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(4, 6), tr.LSTM(6, 5), tr.Linear(5, 3)).train()
    x, dy = normal(0, 6, 2, 4), normal(1, 6, 2, 3)
    net(x)
    net.backward(dy)
    return net, x, dy


def test_backward_needs_a_forward_pass_in_training_mode() -> None:
    for make in (lambda: tr.Linear(4, 3), lambda: tr.Sequential(tr.Linear(4, 3), tr.Tanh())):
        net, x, dy = make(), normal(0, 2, 4), normal(1, 2, 3)
        with pytest.raises(RuntimeError, match="train"):
            net.backward(dy)  # a net starts in evaluation mode
        net.train()
        with pytest.raises(RuntimeError, match="forward|call"):
            net.backward(dy)
        net.eval()
        net(x)
        with pytest.raises(RuntimeError, match="train"):
            net.backward(dy)
        net.train()
        with pytest.raises(RuntimeError, match="forward|call"):
            net.backward(dy)
        net(x)
        net.backward(dy)


def test_a_tape_is_for_one_backward_pass() -> None:
    net, x, dy = ready()
    before = kept(net)
    with pytest.raises(RuntimeError, match="twice|once|already|forward|call"):
        net.backward(dy)
    assert kept(net) == before
    net(x)
    net.backward(dy)
    assert kept(net) != before


@pytest.mark.parametrize(
    "dy, error",
    [
        (np.zeros((6, 2, 4), np.float32), ValueError),
        (np.zeros((6, 2), np.float32), ValueError),
        (np.zeros((2, 6, 3), np.float32), ValueError),
        (np.zeros((7, 2, 3), np.float32), ValueError),
        (np.zeros((), np.float32), ValueError),
        (np.zeros((6, 2, 3), np.complex64), TypeError),
        (np.full((6, 2, 3), "a"), TypeError),
        (None, (TypeError, ValueError)),
    ],
    ids=str,
)
def test_dy_that_does_not_fit(dy: Any, error: Any) -> None:
    net, x, good = ready()
    net(x)
    before = kept(net)
    with pytest.raises(error, match="dy"):
        net.backward(dy)
    assert kept(net) == before
    net.backward(good)  # the tape is still there
    want, _, _ = ready()
    want(x)
    want.backward(good)
    assert kept(net) == kept(want)


@pytest.mark.parametrize(
    "dstate",
    [
        {"h": np.zeros((1, 2, 5), np.float32)},
        {"0.h": np.zeros((1, 2, 5), np.float32)},
        {"1.h": np.zeros((1, 3, 5), np.float32)},
        {"1.h": np.zeros((1, 2, 5), np.complex64)},
        {"1.h": np.zeros((1, 2, 5), np.float32), "1.d": np.zeros((1, 2, 5), np.float32)},
        np.zeros((1, 2, 5), np.float32),
        (np.zeros((1, 2, 5), np.float32), np.zeros((1, 2, 5), np.float32)),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else type(value).__name__,
)
def test_dstate_that_does_not_fit(dstate: Any) -> None:
    net, x, dy = ready()
    net(x)
    before = kept(net)
    with pytest.raises((TypeError, ValueError, KeyError), match="h|dstate|d"):
        net.backward(dy, dstate)
    assert kept(net) == before
    net.backward(dy, {})


@pytest.mark.parametrize("training", [True, False])
def test_states_that_do_not_fit(training: bool) -> None:
    net, x, _ = ready()
    net.train(training)
    zeros = np.zeros((1, 2, 5), np.float32)
    for state in (zeros, [("1.h", zeros)], "1.h"):
        with pytest.raises(TypeError, match="Sequential: initial state is .*, expected a mapping from name"):
            net(x, state=state)
    with pytest.raises(KeyError, match="Sequential: initial state: got 'h', expected one of 1.h"):
        net(x, state={"h": zeros})
    with pytest.raises(ValueError, match="Linear: got a state, expected none: no layer is recurrent"):
        tr.Linear(4, 5).train(training)(x, state=zeros)


def running(net: tr.Net) -> dict[str, bytes]:
    return {
        name: array.tobytes()
        for name, array in net.state_dict().items()
        if name.split(".")[-1][:3] in ("run", "num")
    }


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5)])
def test_a_batch_norm_in_evaluation_mode(shape: tuple[int, ...], affine: bool) -> None:
    """Such a layer computes the same as in use, in a net that trains.

    Its statistics stay, and they are constants to the gradient: dx = dy w / sqrt(var + eps).
    """
    net = tr.Sequential({"bn": tr.BatchNorm1d(4, affine=affine), "act": tr.Tanh()})
    net.load_state_dict(
        {
            name: np.abs(normal(i, *array.shape)) + np.float32(0.5) if array.ndim else array
            for i, (name, array) in enumerate(net.state_dict().items())
        }
    )
    x, dy = normal(0, *shape), normal(1, *shape)
    used, before = net(x), running(net)
    net.train()
    net["bn"].eval()
    y = net(x)
    dx = net.backward(dy)
    assert np.array_equal(y, used) and running(net) == before
    numbers = {name.removeprefix("bn."): array.astype(float) for name, array in net.state_dict().items()}
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)

    def along(name: str, default: float) -> np.ndarray:
        return np.reshape(
            numbers.get(name, np.full(4, default)), [4 if axis == 1 else 1 for axis in range(len(shape))]
        )

    deviation = np.sqrt(along("running_var", 1) + 1e-5)
    da = dy * (1 - y.astype(float) ** 2)
    assert np.allclose(dx, da * along("weight", 1) / deviation, rtol=1e-5, atol=1e-6)
    if affine:
        normalised = (x - along("running_mean", 0)) / deviation
        gradients = net.grad_dict()
        assert np.allclose(gradients["bn.weight"], (da * normalised).sum(axes), rtol=1e-5, atol=1e-5)
        assert np.allclose(gradients["bn.bias"], da.sum(axes), rtol=1e-5, atol=1e-5)
    net.train()
    assert not np.array_equal(net(x), used) and running(net) != before


def test_dropout_in_evaluation_mode() -> None:
    net = tr.Sequential(
        {"rnn": tr.LSTM(4, 5, 2, dropout=0.5), "drop": tr.Dropout(0.5), "out": tr.Linear(5, 2)}
    )
    x = normal(0, 7, 3, 4)
    used = net(x)
    net.train()
    for name, same in (("rnn", False), ("drop", True)):
        net[name].eval()
        assert np.array_equal(net(x), used) == same
    net["drop"].train()
    assert not np.array_equal(net(x), used)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_fit_keep_the_modes_of_layers(copied: Any) -> None:
    net = tr.Sequential(
        {"bn": tr.BatchNorm1d(4), "inner": tr.Sequential(tr.Dropout(0.5), tr.Linear(4, 2))}
    ).train()
    net["bn"].eval()
    net["inner"]["0"].eval()
    modes = [mode for _, mode in net._modes()]
    assert [mode for _, mode in copied(net)._modes()] == modes == [True, False, True, False, True]
    before = running(net)
    net.fit(
        normal(0, 8, 4),
        np.zeros(8, int),
        2,
        4,
        loss="cross_entropy",
        validation_data=(normal(1, 3, 4), np.zeros(3, int)),
        verbose=0,
    )
    assert [mode for _, mode in net._modes()] == modes and running(net) == before
    net.evaluate(normal(0, 8, 4), np.zeros(8, int), loss="cross_entropy")
    assert [mode for _, mode in net._modes()] == modes


def test_dstate_is_named() -> None:
    net, x, dy = ready()
    net(x)
    with pytest.raises(
        KeyError, match="Sequential: gradient of the final state: got 'h', expected one of 1.h"
    ):
        net.backward(dy, {"h": 0.0})
    lstm = tr.LSTM(4, 5).train()
    y, (h, _) = lstm(x)
    with pytest.raises(TypeError, match=r"the gradient of the final state is ndarray, expected \(dh, dc\)"):
        lstm.backward(y, h)


def test_dstate_of_a_layer_alone_and_of_none() -> None:
    tr.manual_seed(0)
    lstm, linear = tr.LSTM(4, 5).train(), tr.Linear(4, 5).train()
    x, dy, h = normal(0, 6, 2, 4), normal(1, 6, 2, 5), normal(2, 1, 2, 5)
    lstm(x)
    for dstate in (h, (h,), (h, h[:, :1]), (h, h, h)):
        with pytest.raises((TypeError, ValueError)):
            lstm.backward(dy, dstate)
    assert not any(grad.any() for grad in lstm.grad_dict().values())
    lstm.backward(dy, (h, h))
    linear(x)
    with pytest.raises((TypeError, ValueError), match="state"):
        linear.backward(dy, h)
    assert not any(grad.any() for grad in linear.grad_dict().values())


@pytest.mark.parametrize("lengths", [[6, 7], [0, 6], [6], [6.0, 6.0], [-1, 3], [[6, 6]]], ids=str)
def test_lengths_that_do_not_fit(lengths: Any) -> None:
    net, x, _ = ready()
    before = kept(net)
    with pytest.raises((TypeError, ValueError), match="lengths"):
        net(x, lengths=lengths)
    assert kept(net) == before


def test_input_that_does_not_fit() -> None:
    net, x, _ = ready()
    before = kept(net)
    for bad in (x[..., :3], x[:0], x[0, 0], x.astype(complex)):
        with pytest.raises((TypeError, ValueError)):
            net(bad)
        assert kept(net) == before
    table = tr.Sequential(tr.Embedding(5, 3), tr.GRU(3, 4)).train()
    for bad in ([[5]], [[-1]]):
        with pytest.raises(IndexError):
            table(np.array(bad))


@pytest.mark.parametrize("format", ["float16", "bfloat16", "int8", "int4"])
def test_a_smaller_net_does_not_train(format: str) -> None:
    tr.manual_seed(0)
    net = tr.quantize(tr.Sequential(tr.Linear(4, 6), tr.LSTM(6, 5)), format)
    with pytest.raises((TypeError, ValueError), match=format):
        net.train()
        net(normal(0, 6, 2, 4))
    net.eval()
    net(normal(0, 6, 2, 4))


def test_one_value_has_no_variance() -> None:
    """A batch of one is an error, as in PyTorch, and the running statistics are as before."""
    net = tr.BatchNorm1d(3).train()
    before = kept(net)
    for shape in ((1, 3), (1, 3, 1)):
        with pytest.raises(ValueError, match="more than one number a channel"):
            net(normal(0, *shape))
        assert kept(net) == before
        assert net.num_batches_tracked == 0


@pytest.mark.parametrize(
    "net, shape",
    [
        (tr.Softmax(0), (2, 3, 4)),
        (tr.LogSoftmax(1), (2, 3, 4, 5)),
        (tr.Sequential(tr.Linear(4, 3), tr.Softmax(0)), (2, 4)),
        (tr.Flatten(0), (2, 3)),
    ],
    ids=repr,
)
def test_axes_that_only_evaluation_mixes(net: tr.Net, shape: tuple[int, ...]) -> None:
    """A tape sees frames, so a layer that would mix the batch is refused in training mode."""
    net(normal(0, *shape))
    with pytest.raises(tr.ShapeError, match="time or batch"):
        net.train()(normal(0, *shape))


@pytest.mark.parametrize("name", [0, ["0"], None])
def test_names_that_cannot_be_frozen(name: Any) -> None:
    with pytest.raises(TypeError, match="expected the name of a tensor or a layer"):
        tr.Sequential(tr.Linear(2, 2)).freeze(name)


def test_names_to_freeze() -> None:
    net, _, _ = ready()
    before = {name: net.requires_grad(name) for name in net.grad_dict()}
    for name in ("3", "1.weight", "1.weight_ih_l1", "", "1.", "0.weight.x"):
        for call in (net.freeze, net.unfreeze, net.requires_grad):
            with pytest.raises((KeyError, ValueError), match="."):
                call(name)
    with pytest.raises((KeyError, ValueError)):
        net.freeze("0", "nothing")
    assert {name: net.requires_grad(name) for name in before} == before


def test_running_statistics_are_no_parameters() -> None:
    net = tr.Sequential(tr.Linear(3, 4), tr.BatchNorm1d(4)).train()
    net(normal(0, 5, 3))
    net.backward(normal(1, 5, 4))
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(net.grad_dict()) == names
    assert [name for name, _ in trainable(net)] == names


def test_gradients_are_copies() -> None:
    net, _, _ = ready()
    before = kept(net)
    for grad in net.grad_dict().values():
        if grad.flags.writeable:
            grad[...] = 1
    assert kept(net) == before


def test_dx_of_indices_is_none() -> None:
    net = tr.Sequential(tr.Embedding(5, 3), tr.Linear(3, 2)).train()
    net(np.array([1, 4, 1]))
    assert net.backward(normal(0, 3, 2)) is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_keep_the_mode_and_what_is_frozen(copied: Any) -> None:
    net = tr.Sequential({"rnn": tr.LSTM(4, 6, 2), "inner": tr.Sequential(tr.Linear(6, 3), tr.Linear(3, 2))})
    net.freeze("rnn.bias_hh_l1", "inner.0").train()
    again = copied(net)
    assert again.training and not copied(net.eval()).training
    for name in net.state_dict():
        assert again.requires_grad(name) == net.requires_grad(name), name
    assert not again.requires_grad("inner.0.weight") and again.requires_grad("inner.1.weight")
    assert np.array_equal(again(normal(0, 5, 2, 4)), net.train()(normal(0, 5, 2, 4)))
