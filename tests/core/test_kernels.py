"""The kernels, one by one, on every instruction set: accuracy, edges, and the same bits."""

from __future__ import annotations

import re

import numpy as np
import pytest
from folders import CSRC
from oracle import normal_share

import tinyrnn as tr
from tinyrnn import _core, _kernels, _training

ISAS = tr.available_isas()
FUSED = [isa for isa in ISAS if _core.is_fused(isa)]
BOUND = 2.5  # ULP, the promise of docs/design.md

EXACT = {
    "exp": np.exp,
    "tanh": np.tanh,
    # The negative side as e^x / (1 + e^x), so that float64 does not overflow.
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x))),
    "log": np.log,
}


def logistic(x: np.ndarray) -> np.ndarray:
    return EXACT["sigmoid"](x)


# Maps with a bound of their own, in ULP where y is normal; the map's constants are 1 and above them.
COMPOSED = {
    "elu": (2.5, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "softplus": (3.0, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "silu": (4.0, lambda x: x * logistic(x)),
    "mish": (6.0, lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))),
    "gelu": (8.0, lambda x: x * normal_share(x)),
}


def evaluate(isa: str, name: str, x: np.ndarray) -> np.ndarray:
    return _kernels.map(isa, name, x, np.empty_like(x))


def ulp_error(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """The largest distance from the exact value, in units of the result's last place."""
    with np.errstate(over="ignore", under="ignore"):
        x, y = (x[x > 0], y[x > 0]) if name == "log" else (x, y)
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        saturated = np.isinf(rounded)
        assert np.array_equal(y[saturated], rounded[saturated])
        finite = ~saturated
        unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
        error = np.abs(y[finite].astype(np.float64) - exact[finite]) / unit
    return float(error.max(initial=0.0))


def floats(first: int, last: int, stride: int = 1) -> np.ndarray:
    """Floats whose bits are first, first + stride, ... below last."""
    return np.arange(first, last, stride, dtype=np.uint32).view(np.float32)


FINITE = 0x7F800000  # the bits of +infinity: those below are the finite positive floats
SIGN = 0x80000000


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", EXACT)
def test_accuracy_on_a_sample(isa: str, name: str) -> None:
    stride = 4093  # prime, so that every pattern of low bits comes up
    x = np.concatenate([floats(0, FINITE, stride), floats(SIGN, SIGN + FINITE, stride)])
    assert ulp_error(name, x, evaluate(isa, name, x)) <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_accuracy_on_every_float(name: str) -> None:
    """All 4,278,190,080 finite floats: the fused sets give the same bits, the others keep the bound."""
    worst = dict.fromkeys([FUSED[-1], *(isa for isa in ISAS if isa not in FUSED)], 0.0)
    chunk = 1 << 24
    for base in (0,) if name == "log" else (0, SIGN):
        for first in range(base, base + FINITE, chunk):
            x = floats(first, min(first + chunk, base + FINITE))
            results = {isa: evaluate(isa, name, x) for isa in ISAS}
            for isa in FUSED[:-1]:
                assert np.array_equal(results[isa].view(np.uint32), results[FUSED[-1]].view(np.uint32))
            for isa in worst:
                worst[isa] = max(worst[isa], ulp_error(name, x, results[isa]))
    print(name, worst)
    assert max(worst.values()) <= BOUND


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", COMPOSED)
def test_accuracy_of_composed_maps(isa: str, name: str) -> None:
    x = np.concatenate([floats(0, FINITE, 40093), floats(SIGN, SIGN + FINITE, 40093)])
    x = np.append(x, np.random.default_rng(0).normal(0, 4, 50_000)).astype(np.float32)
    bound, exactly = COMPOSED[name]
    y = _kernels.map(isa, name, x, np.empty_like(x), 1.0, 1.0 if name == "elu" else 1e38, 1.0)
    with np.errstate(over="ignore", under="ignore"):
        exact = exactly(x.astype(np.float64))
        size = np.abs(exact.astype(np.float32))
    normal = size > 1e-35
    error = np.abs(y - exact)[normal] / np.spacing(size[normal]).astype(np.float64)
    assert error.max() <= bound
    assert np.abs(y - exact)[~normal].max() < 1e-41


@pytest.mark.parametrize("isa", ISAS)
def test_edges(isa: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0, -0.0, 1e-45, -1e-45], np.float32)
    y = {name: evaluate(isa, name, x) for name in EXACT}
    negative = y.pop("log")
    assert np.isnan(negative[[0, 2, 4, 8]]).all()
    assert negative[1] == np.inf and np.isneginf(negative[[5, 6]]).all() and negative[3] == np.log(x[3])
    assert all(np.isnan(values[0]) and not np.isnan(values[1:]).any() for values in y.values())
    assert y["exp"][1:].tolist() == [np.inf, 0.0, np.inf, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert y["sigmoid"][1:].tolist() == [1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    assert y["tanh"][1:].tolist() == x[1:].clip(-1, 1).tolist()
    assert np.array_equal(np.signbit(y["tanh"][1:]), np.signbit(x[1:]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", _kernels.MAPS)
def test_a_value_does_not_depend_on_its_place(isa: str, name: str) -> None:
    values = np.random.default_rng(0).normal(0, 5, 70).astype(np.float32)
    k = (0.5, 1.25, 0.75)
    one = np.empty(1, np.float32)
    alone = np.array(
        [_kernels.map(isa, name, values[i : i + 1].copy(), one, *k)[0] for i in range(len(values))]
    )
    for n in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70):
        guarded = np.full(n + 2, 7.0, np.float32)
        _kernels.map(isa, name, values[:n].copy(), guarded[1:-1], *k)
        assert np.array_equal(guarded[1:-1], alone[:n], equal_nan=True)
        assert np.array_equal(np.signbit(guarded[1:-1]), np.signbit(alone[:n]))
        assert guarded[0] == guarded[-1] == 7.0
        in_place = values[:n].copy()
        _kernels.map(isa, name, in_place, in_place, *k)
        assert np.array_equal(in_place, alone[:n], equal_nan=True)


def vectors(isa: str, n: int) -> list[np.ndarray]:
    """The result of every kernel without a matrix on seeded input of n numbers."""
    x, weight, bias = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    k = (0.5, 1.25, 0.75)
    results = [_kernels.map(isa, name, x * 4, np.empty_like(x), *k) for name in _kernels.MAPS]
    results += [
        _kernels.map_back(isa, name, x * 4, y, weight, np.empty_like(x), *k)
        for name, y in zip(_kernels.MAPS, list(results), strict=True)
    ]
    results += [_kernels.softmax(isa, x, np.empty_like(x), log) for log in (False, True)]
    return [*results, _kernels.layer_norm(isa, x, np.empty_like(x), 1e-5, weight, bias)]


def matrices(isa: str, n: int, kept: str) -> list[np.ndarray]:
    """The result of every kernel with a matrix of a size around n, in a format."""
    tr.manual_seed(n)
    generator = np.random.default_rng(n)
    rows = n % 13 + 1

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    def formatted(net: tr.Net) -> tr.Net:
        return net if kept == "float32" else tr.quantize(net, kept)

    linear = formatted(tr.Linear(n, n + 3))._core_layer
    results = [_kernels.product(isa, linear, normal(rows, n), np.empty((rows, n + 3), np.float32))]
    nets = [(tr.RNN(3, n), 1), (tr.GRU(3, n), 3), (tr.LSTM(3, n), 4)]
    nets += [(tr.LSTM(3, n, coupled=True), 3), (tr.GRU(3, n, reset_after=False), 3)]
    nets += [(tr.LSTM(3, n, peephole=True), 4)]
    for net, gates in nets:
        core = formatted(net)._levels[0]
        assert core.format == linear.format == kept
        c = normal(rows, n)
        wide = gates * -(-n // 16) * 16
        y = np.empty((rows, n), np.float32)
        results += [_kernels.cell(isa, core, normal(rows, wide), normal(rows, n), c, y), c]
    return results


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
@pytest.mark.parametrize("kept", ["vectors", *_core.FORMATS])
@pytest.mark.parametrize("n", [1, 2, 7, 15, 16, 17, 31, 47, 48, 63, 64, 65, 100, 129])
def test_fused_instruction_sets_give_the_same_bits(n: int, kept: str) -> None:
    def everything(isa: str) -> list[np.ndarray]:
        return vectors(isa, n) if kept == "vectors" else matrices(isa, n, kept)

    first = everything(FUSED[0])
    assert len(first) == (2 * len(_kernels.MAPS) + 3 if kept == "vectors" else 13)
    for isa in FUSED[1:]:
        for a, b in zip(first, everything(isa), strict=True):
            numbers = ~np.isnan(a)
            assert np.array_equal(numbers, ~np.isnan(b)), isa
            assert np.array_equal(a[numbers].view(np.uint32), b[numbers].view(np.uint32)), isa
    for isa in set(ISAS) - set(FUSED):
        for a, b in zip(first, everything(isa), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_softmax_of_numbers_that_are_not_finite(isa: str) -> None:
    x = np.array([1.0, np.nan, 2.0], np.float32)
    for log in (False, True):
        assert np.isnan(_kernels.softmax(isa, x, np.empty_like(x), log)).all()
    x = np.array([-np.inf, 0.0, -np.inf], np.float32)
    assert _kernels.softmax(isa, x, np.empty_like(x)).tolist() == [0.0, 1.0, 0.0]
    x = np.array([1e30, -1e30], np.float32)
    assert _kernels.softmax(isa, x, np.empty_like(x)).tolist() == [1.0, 0.0]


def test_read_and_peak() -> None:
    x = _core.aligned_zeros(4096 * 4)
    x[:] = 1
    for isa in ISAS:
        assert _core.read(isa, x, 2) == 4096
        assert _core.peak(isa, 10) > 0


def test_isas_are_chosen_by_name() -> None:
    assert ISAS[0] == "scalar"
    for isa in ISAS:
        tr.set_isa(isa)
        assert tr.isa() == isa
    tr.set_isa()
    assert tr.isa() == ISAS[-1]
    message = r"got 'mmx', which is not available here, expected one of \['scalar'"
    with pytest.raises(ValueError, match=message):
        tr.set_isa("mmx")
    assert tr.isa() == ISAS[-1]


# ---- what only training uses, against NumPy in float64 ----------------------------------------------


def packed(gates: np.ndarray) -> np.ndarray:
    """Gates (B, gates, H) as cells have them: 16 units of each gate side by side."""
    rows, count, units = gates.shape
    blocks = -(-units // 16)
    wide = np.zeros((rows, count, blocks * 16), np.float32)
    wide[..., :units] = gates
    return np.ascontiguousarray(wide.reshape(rows, count, blocks, 16).swapaxes(1, 2).reshape(rows, -1))


def unpacked(gates: np.ndarray, count: int, units: int) -> np.ndarray:
    blocks = gates.shape[1] // 16 // count
    return gates.reshape(-1, blocks, count, 16).swapaxes(1, 2).reshape(-1, count, blocks * 16)[..., :units]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(sums: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    """y, c' and the activations."""
    i, f, o = (sigmoid(sums[:, k]) for k in (0, 1, 3))
    g = np.tanh(sums[:, 2])
    new = f * c + i * g
    return o * np.tanh(new), new, np.stack([i, f, g, o], 1)


def gru_step(sums: np.ndarray, hidden: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    """y and the activations; ``hidden`` is the hidden part of n, which is not in its sum."""
    r, z = sigmoid(sums[:, 0]), sigmoid(sums[:, 1])
    n = np.tanh(sums[:, 2] + r * hidden)
    return n + z * (h - n), np.stack([r, z, n], 1)


def slope(value: object, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The derivative of a function number by number, by central differences."""
    return (value(x + step) - value(x - step)) / (2 * step)  # type: ignore[operator]


def gate_slopes(value: object, sums: np.ndarray) -> np.ndarray:
    """`slope` for each gate's sums on their own, (B, gates, H)."""
    slopes = []
    for k in range(sums.shape[1]):

        def of_gate(x: np.ndarray, k: int = k) -> np.ndarray:
            changed = sums.copy()
            changed[:, k] = x
            return value(changed)  # type: ignore[operator]

        slopes.append(slope(of_gate, sums[:, k]))
    return np.stack(slopes, 1)


def close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("units", [5, 16, 37])
@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "gru"])
def test_a_cell_keeps_a_tape_and_goes_back(isa: str, units: int, kind: str) -> None:
    tr.manual_seed(units)
    generator = np.random.default_rng(units)
    make = {"lstm": tr.LSTM, "gru": tr.GRU}.get(kind, tr.RNN)
    net = make(3, units, **({"nonlinearity": "relu"} if kind == "relu" else {}))  # type: ignore[operator]
    core, state = net._levels[0], net.state_dict()
    count = state["weight_hh_l0"].shape[0] // units
    weights = state["weight_hh_l0"].astype(np.float64).reshape(count, units, units)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    h, c, dh, dy, dc, own = (normal(4, units) for _ in range(6))
    of_x = normal(4, count, units)
    of_h = np.einsum("bk,guk->bgu", h.astype(np.float64), weights)
    tape = packed(of_x)
    tape_h = np.zeros_like(tape) if kind == "gru" else None
    new, y = c.copy(), np.empty_like(h)
    _kernels.cell(isa, core, tape, h, new if kind == "lstm" else None, y, tape, tape_h)
    kept = unpacked(tape, count, units).copy()
    total = dh.astype(np.float64) + dy

    if kind == "lstm":
        sums = of_x + of_h
        wanted, wanted_c, wanted_kept = lstm_step(sums, c)
        close(new, wanted_c)

        exact_c, exact_dc = c.astype(np.float64), dc.astype(np.float64)  # dc changes below

        def value(sums: np.ndarray, before: np.ndarray = exact_c) -> np.ndarray:
            written, state, _ = lstm_step(sums, before)
            return written * total + state * exact_dc

        wanted_dc = slope(lambda x: value(sums, x), exact_c)
        _kernels.cell_back(isa, core, tape, None, dh, None, None, c, dc, dy)
        close(dc, wanted_dc)
        close(unpacked(tape, count, units), gate_slopes(value, sums))
    elif kind == "gru":
        sums = of_x + of_h
        sums[:, 2] = of_x[:, 2]
        hidden = of_h[:, 2] + state["bias_hh_l0"][2 * units :]
        wanted, wanted_kept = gru_step(sums, hidden, h)
        close(unpacked(tape_h, count, units)[:, 2], hidden)
        total = total + own

        def value(sums: np.ndarray, hidden: np.ndarray = hidden, before: np.ndarray = h) -> np.ndarray:
            return gru_step(sums, hidden, before)[0] * total

        _kernels.cell_back(isa, core, tape, tape_h, dh, own, h, None, None, dy)
        close(unpacked(tape, count, units), gate_slopes(value, sums))
        of_hidden = unpacked(tape_h, count, units)
        close(of_hidden[:, :2], gate_slopes(value, sums)[:, :2])
        close(of_hidden[:, 2], slope(lambda x: value(sums, x), hidden))
        close(own, slope(lambda x: value(sums, hidden, x), h.astype(np.float64)))
    else:
        sums = of_x + of_h
        wanted = np.maximum(sums, 0)[:, 0] if kind == "relu" else np.tanh(sums)[:, 0]
        wanted_kept = wanted[:, np.newaxis]
        _kernels.cell_back(isa, core, tape, None, dh, None, None, None, None, dy)
        by_tanh = total[:, np.newaxis] * (1 - np.tanh(sums) ** 2)
        close(
            unpacked(tape, count, units),
            np.where(sums > 0, total[:, np.newaxis], 0) if kind == "relu" else by_tanh,
        )
    close(y, wanted)
    close(kept, wanted_kept)
    assert not tape.reshape(4, -1, count, 16)[:, -1, :, units - units // 16 * 16 or 16 :].any()  # the padding


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "depth", "cols"), [(1, 1, 1), (3, 17, 33), (200, 24, 130)])
def test_gradients_of_weights(isa: str, rows: int, depth: int, cols: int) -> None:
    generator = np.random.default_rng(rows)
    core = tr.Linear(depth, cols)._core_layer
    dy, x = (generator.standard_normal((rows, n)).astype(np.float32) for n in (cols, depth))
    dw = np.zeros(core.nbytes // 4, np.float32)
    _kernels.weight_gradient(isa, core, dy, x, dw)
    np.testing.assert_allclose(core.unpack_from(0, dw), dy.astype(np.float64).T @ x, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(core.unpack_from(1, dw), dy.sum(0, dtype=np.float64), rtol=1e-4, atol=2e-5)
    shared = np.zeros_like(dw)
    for part in range(3):
        _kernels.weight_gradient(isa, core, dy, x, shared, part, 3)
    assert np.array_equal(shared, dw)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 15, 16, 50])
def test_kernels_without_a_matrix(isa: str, n: int) -> None:
    x, mean, weight, bias = np.random.default_rng(n).standard_normal((4, n)).astype(np.float32)
    var = np.random.default_rng(n).uniform(0.5, 2, n).astype(np.float32)
    exact = x.astype(np.float64)
    scale, shift = _kernels.norm_scale(isa, np.empty_like(x), np.empty_like(x), 1e-3, mean, var, weight, bias)
    close(scale, weight / np.sqrt(var.astype(np.float64) + 1e-3))
    close(_kernels.affine(isa, x, np.empty_like(x), scale, shift), exact * scale + shift)
    close(scale * mean + shift, bias)
    close(_kernels.clip(isa, x.copy(), 2.0, 1.5), np.clip(2 * exact, -1.5, 1.5))
    assert _kernels.squares(isa, x) == pytest.approx((exact**2).sum(), rel=1e-12)
    assert np.isnan(_kernels.squares(isa, np.append(x, np.float32(np.nan))))
    distribution = np.exp(exact) / np.exp(exact).sum()
    close(_kernels.softmax(isa, x, np.empty_like(x)), distribution)
    spread = np.sqrt(exact.var() + 1e-3)
    close(
        _kernels.layer_norm(isa, x, np.empty_like(x), 1e-3, weight, bias),
        (exact - exact.mean()) / spread * weight + bias,
    )


@pytest.mark.parametrize("isa", ISAS)
def test_layer_norm_divides(isa: str) -> None:
    """Whole numbers have exact sums, so NumPy has the same quotients, also those over infinity."""
    for seed in range(500):
        half = np.random.default_rng(seed).integers(-1000, 1000, 8).astype(np.float32)
        x = np.append(half, -half)
        deviation = np.sqrt((x**2).sum() / np.float32(x.size) + np.float32(1e-5))
        assert _kernels.layer_norm(isa, x, np.empty_like(x)).tobytes() == (x / deviation).tobytes()
    far = np.float32([1e30, -1e30, 0, -0.0])
    assert _kernels.layer_norm(isa, far, np.empty_like(far)).tobytes() == (far / np.float32(np.inf)).tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [16, 50])
def test_formulas_of_optimisers(isa: str, n: int) -> None:
    w, g, m, v = np.random.default_rng(n).standard_normal((4, n)).astype(np.float32)
    v *= v
    exact, gradient, moment, square = (array.astype(np.float64) for array in (w, g, m, v))
    moment = 0.9 * moment + 0.1 * gradient
    square = 0.99 * square + 0.01 * gradient**2

    states = [m.copy(), None, None]
    written = _kernels.update(isa, "sgd", w.copy(), g, states, plain=1, rate=0.5, first=0.9, first_new=0.1)
    close(written, exact - 0.5 * moment)
    close(states[0], moment)

    states = [v.copy(), None, None]
    _kernels.update(isa, "rmsprop", w.copy(), g, states, plain=1, rate=0.5, second=0.99, second_new=0.01)
    close(states[0], square)
    states = [v.copy(), None, None]
    written = _kernels.update(isa, "adagrad", w.copy(), g, states, plain=1, rate=0.5)
    close(states[0], v + gradient**2)
    close(written, exact - 0.5 * gradient / (np.sqrt(v + gradient**2) + 1e-8))

    states = [m.copy(), v.copy(), None]
    options = {"rate": 0.5, "first": 0.9, "first_new": 0.1, "second": 0.99, "second_new": 0.01, "eps": 1e-3}
    written = _kernels.update(isa, "adam", w.copy(), g, states, plain=1, **options)
    close(written, exact - 0.5 * moment / (np.sqrt(square) + 1e-3))
    clipped = _kernels.update(
        isa, "sgd", w.copy(), g, [None] * 3, rate=1.0, scale=2.0, limit=1.0, weight_decay=0.1
    )
    close(clipped, exact - (np.clip(2 * gradient, -1, 1) + 0.1 * exact))
    with pytest.raises(TypeError, match="unexpected coefficients: momentum"):
        _kernels.update(isa, "sgd", w, g, [None] * 3, rate=1.0, momentum=0.9)


@pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not here")
def test_every_kernel_of_the_table_is_reached() -> None:
    root = CSRC.parent
    table = (root / "csrc" / "kernels" / "kernels.def").read_text()
    window = (root / "tinyrnn" / "_kernels.pyx").read_text().partition("cdef const table *kernels_of(")[2]
    window += (root / "tinyrnn" / "_machine.pxi").read_text()
    maps = (root / "csrc" / "kernels" / "maps.def").read_text()
    assert list(_kernels.MAPS) == re.findall(r"^TRNN_MAP\((\w+),", maps, flags=re.M)
    cells = re.findall(r'"(\w+)\.inc"', (root / "csrc" / "cells" / "cells.def").read_text())
    macro = {
        name: re.findall(r"^TRNN_CELL\w*", (root / "csrc" / "cells" / f"{name}.inc").read_text(), flags=re.M)
        for name in cells
    }
    # Layers alone reach those without a product with h: tests/nets/test_cells.py, on each instruction set.
    cells = [name for name in cells if macro[name] != ["TRNN_CELL_SCAN"]]
    lists = {"name": cells, "update_##name": [f"update_{name}" for name in _training.STATES]}
    lists["map_"] = []  # MAPS
    two = [name for name in cells if macro[name] == ["TRNN_CELL_TWO"]]
    names = [
        f"{name}{end}"
        for stem, end in re.findall(r"TRNN_ENTRY\(\w+, ((?:update_##)?[a-z]\w*?)(?:##(\w+))?,", table)
        for name in (two if "round1" in end else lists.get(stem, [stem]))
    ]
    assert two
    assert len(names) >= 21
    elsewhere = ["norm_sums_f32"]  # tests/c/test_kernels.c has its bits beside layer_norm_f32's
    assert [name for name in names if not re.search(rf"\.{name}\b", window)] == elsewhere


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("units", [1, 16, 35])
def test_two_rounds(isa: str, units: int) -> None:
    """A GRU whose reset gate acts before the product, forwards and backwards, from its formula."""
    generator = np.random.default_rng(units)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    core = tr.GRU(2, units, bias=False, reset_after=False)._levels[0]
    weights = normal(3 * units, units)
    core.set(1, weights)
    u_r, u_z, u_n = np.split(weights.astype(np.float64), 3)
    of_x, h, dh, dy, dm, own = normal(4, 3, units), *(normal(4, units) for _ in range(5))
    tape = np.concatenate([packed(of_x[:, :2]), packed(of_x[:, 2:])], 1)
    y, plain = np.empty_like(h), np.empty_like(h)
    _kernels.cell(isa, core, tape.copy(), h, None, plain)
    _kernels.cell(isa, core, tape, h, None, y, tape)
    np.testing.assert_array_equal(y, plain)
    r, z = (1 / (1 + np.exp(-of_x[:, i] - h @ u.T)) for i, u in enumerate((u_r, u_z)))
    n = np.tanh(of_x[:, 2] + (r * h) @ u_n.T)
    np.testing.assert_allclose(y, (1 - z) * n + z * h, atol=2e-6 * max(1, units / 4))

    first = tape.shape[1] // 3 * 2
    total = dh.astype(np.float64) + dy + own
    wanted = (dm * h * r * (1 - r), total * (h - n) * z * (1 - z), total * (1 - z) * (1 - n**2))
    wanted_own = total * z + dm * r
    _kernels.cell_back(isa, core, tape, None, dh, own, h, None, None, dy, dm)
    found = [
        *unpacked(tape[:, :first].copy(), 2, units).swapaxes(0, 1),
        unpacked(tape[:, first:].copy(), 1, units)[:, 0],
    ]
    for got, want in zip([*found, own], [*wanted, wanted_own], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1, units / 4))
