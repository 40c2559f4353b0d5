"""Every kernel on every instruction set of this machine, below the layers and without their checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn import _core, _kernels

ISAS = tr.available_isas()
GATES = {"rnn": 1, "gru": 3, "lstm": 4}

every_isa = pytest.mark.parametrize("isa", ISAS)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def core_layer(kind: str, generator: np.random.Generator, **arguments: int) -> _core.Layer:
    """A core layer with small weights."""
    layer = _core.Layer(kind, **arguments)
    for i, (_, shape) in enumerate(layer.params):
        layer.set(i, generator.uniform(-0.1, 0.1, shape))
    return layer


def numbers(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return generator.standard_normal(shape, np.float32)


@every_isa
@pytest.mark.parametrize("rows", [1, 8, 64])
@pytest.mark.benchmark(group="product 128 -> 512")
def bench_product(benchmark: Any, generator: np.random.Generator, isa: str, rows: int) -> None:
    linear = core_layer("linear", generator, in_features=128, out_features=512, bias=1)
    y = np.empty((rows, 512), np.float32)
    benchmark(_kernels.product, isa, linear, numbers(generator, rows, 128), y)


@every_isa
@pytest.mark.parametrize("rows", [1, 32])
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.benchmark(group="one step of a cell, H = 128, the hidden part alone")
def bench_cell(benchmark: Any, generator: np.random.Generator, isa: str, kind: str, rows: int) -> None:
    layer = core_layer(kind, generator, input_size=16, hidden_size=128, bias=1)
    gates, h = numbers(generator, rows, GATES[kind] * 128), numbers(generator, rows, 128)
    c = np.zeros((rows, 128), np.float32) if kind == "lstm" else None
    benchmark(_kernels.cell, isa, layer, gates, h, c, np.empty_like(h))


@every_isa
@pytest.mark.parametrize("name", _kernels.MAPS)
@pytest.mark.benchmark(group="maps of 4096 numbers")
def bench_map(benchmark: Any, generator: np.random.Generator, isa: str, name: str) -> None:
    x = numbers(generator, 4096)
    benchmark(_kernels.map, isa, name, x, np.empty_like(x))


@every_isa
@pytest.mark.parametrize("kernel", ["softmax", "layer_norm"])
@pytest.mark.benchmark(group="rows of 1024 numbers")
def bench_row(benchmark: Any, generator: np.random.Generator, isa: str, kernel: str) -> None:
    x = numbers(generator, 1024)
    benchmark(getattr(_kernels, kernel), isa, x, np.empty_like(x))


@every_isa
@pytest.mark.parametrize("kilobytes", [16, 256, 4096])
@pytest.mark.benchmark(group="reading memory: the floor of a step")
def bench_read(benchmark: Any, isa: str, kilobytes: int) -> None:
    x = _core.aligned_zeros(kilobytes * 1024)
    benchmark(_core.read, isa, x)
    benchmark.extra_info["bytes"] = x.nbytes


@every_isa
@pytest.mark.benchmark(group="multiply-adds that wait for nothing: the floor of a product")
def bench_peak(benchmark: Any, isa: str) -> None:
    benchmark.extra_info["multiply_adds"] = benchmark(_core.peak, isa, 10_000)
