"""The kernels, one by one, on every instruction set: accuracy, edges, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core, _kernels
from tinyrnn.arrays import aligned_zeros

ISAS = tr.available_isas()
FUSED = [isa for isa in ISAS if _core.is_fused(isa)]
BOUND = 2.5  # ULP, the promise of docs/design.md

EXACT = {
    "exp": np.exp,
    "tanh": np.tanh,
    # The negative side as e^x / (1 + e^x), so that float64 does not overflow.
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x))),
}


def evaluate(isa: str, name: str, x: np.ndarray) -> np.ndarray:
    return _kernels.map(isa, name, x, np.empty_like(x))


def ulp_error(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """The largest distance from the exact value, in units of the result's last place."""
    with np.errstate(over="ignore", under="ignore"):
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
    for base in (0, SIGN):
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
def test_edges(isa: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0, -0.0, 1e-45, -1e-45], np.float32)
    y = {name: evaluate(isa, name, x) for name in EXACT}
    assert all(np.isnan(values[0]) and not np.isnan(values[1:]).any() for values in y.values())
    assert y["exp"][1:].tolist() == [np.inf, 0.0, np.inf, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert y["sigmoid"][1:].tolist() == [1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    assert y["tanh"][1:].tolist() == x[1:].clip(-1, 1).tolist()
    assert np.array_equal(np.signbit(y["tanh"][1:]), np.signbit(x[1:]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", _kernels.MAPS)
def test_a_value_does_not_depend_on_its_place(isa: str, name: str) -> None:
    values = np.random.default_rng(0).normal(0, 5, 70).astype(np.float32)
    alone = np.array([evaluate(isa, name, values[i : i + 1].copy())[0] for i in range(len(values))])
    for n in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70):
        guarded = np.full(n + 2, 7.0, np.float32)
        _kernels.map(isa, name, values[:n].copy(), guarded[1:-1])
        assert np.array_equal(guarded[1:-1].view(np.uint32), alone[:n].view(np.uint32))
        assert guarded[0] == guarded[-1] == 7.0
        in_place = values[:n].copy()
        _kernels.map(isa, name, in_place, in_place)
        assert np.array_equal(in_place, alone[:n])


def vectors(isa: str, n: int) -> list[np.ndarray]:
    """The result of every kernel without a matrix on seeded input of n numbers."""
    x, weight, bias = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    results = [evaluate(isa, name, x * 4) for name in _kernels.MAPS]
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
    for make, gates in ((tr.RNN, 1), (tr.GRU, 3), (tr.LSTM, 4)):
        core = formatted(make(3, n))._levels[0]
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
    assert len(first) == (8 if kept == "vectors" else 7)
    for isa in FUSED[1:]:
        for a, b in zip(first, everything(isa), strict=True):
            assert np.array_equal(a.view(np.uint32), b.view(np.uint32)), isa
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
    x = aligned_zeros(4096 * 4)
    x[:] = 1
    for isa in ISAS:
        assert _kernels.read(isa, x, 2) == 4096
        assert _kernels.peak(isa, 10) > 0


def test_isas_are_chosen_by_name() -> None:
    assert ISAS[0] == "scalar"
    for isa in ISAS:
        tr.set_isa(isa)
        assert tr.isa() == isa
    tr.set_isa()
    assert tr.isa() == ISAS[-1]
    with pytest.raises(ValueError, match=r"'mmx' is not available here, expected one of \['scalar'"):
        tr.set_isa("mmx")
    assert tr.isa() == ISAS[-1]
