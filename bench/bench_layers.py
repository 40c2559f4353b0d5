"""LSTM and GRU as a user calls them: one step, a sequence, a batch of sequences, and a step after silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.formats import FORMATS

SIZES = [(1, 16), (40, 64), (64, 128), (128, 256), (256, 512)]
STEPS, BATCH = 100, 32

every_kind = pytest.mark.parametrize("kind", ["LSTM", "GRU"])
every_size = pytest.mark.parametrize(("inputs", "hidden"), SIZES)


def make(kind: str, inputs: int, hidden: int) -> Any:
    tr.manual_seed(0)
    return getattr(tr, kind)(inputs, hidden)


@pytest.fixture
def chosen_isa(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs on the ISA that is the parameter."""
    before = tr.isa()
    tr.set_isa(request.param)
    yield
    tr.set_isa(before)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@every_kind
@every_size
@pytest.mark.benchmark(group="a step")
def bench_step(benchmark: Any, kind: str, inputs: int, hidden: int) -> None:
    stream = make(kind, inputs, hidden).stream()
    benchmark(stream.step, noise(inputs), np.empty(hidden, np.float32))


@every_kind
@pytest.mark.parametrize("chosen_isa", tr.available_isas(), indirect=True)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.benchmark(group="a step at (128, 256), by the weights' format")
def bench_format(benchmark: Any, chosen_isa: None, kind: str, form: str) -> None:
    net = make(kind, 128, 256)
    stream = (net if form == "float32" else tr.quantize(net, form)).stream()
    benchmark(stream.step, noise(128), np.empty(256, np.float32))


@every_kind
@every_size
@pytest.mark.benchmark(group=f"a sequence of {STEPS}")
def bench_sequence(benchmark: Any, kind: str, inputs: int, hidden: int) -> None:
    stream = make(kind, inputs, hidden).stream()
    benchmark(stream.run, noise(STEPS, inputs), np.empty((STEPS, hidden), np.float32))


@every_kind
@every_size
@pytest.mark.benchmark(group=f"{BATCH} sequences of {STEPS} at once")
def bench_batch(benchmark: Any, kind: str, inputs: int, hidden: int) -> None:
    stream = make(kind, inputs, hidden).stream(batch=BATCH)
    benchmark(stream.run, noise(STEPS, BATCH, inputs), np.empty((STEPS, BATCH, hidden), np.float32))


@every_kind
@pytest.mark.parametrize("chosen_isa", tr.available_isas(), indirect=True)
@pytest.mark.parametrize("when", ["at the start", "after silence"])
@pytest.mark.benchmark(group="a step at (64, 128) before and after 100,000 steps of silence")
def bench_silence(benchmark: Any, chosen_isa: None, kind: str, when: str) -> None:
    # The only bias holds the gate that keeps the state nearly open, and the units hardly excite each other.
    # So the state decays, but slowly: rounding alone would leave it among the subnormal numbers for good,
    # which many processors are slow with. A net without any bias passes through them to zero.
    net = make(kind, 64, 128)
    weights = net.state_dict()
    weights["weight_hh_l0"] *= 0.1
    for name in ("bias_ih_l0", "bias_hh_l0"):
        weights[name][:] = 0
    weights["bias_ih_l0"][128:256] = 3  # an LSTM's f, a GRU's z
    net.load_state_dict(weights)

    stream = net.stream()
    x = noise(STEPS, 64)
    stream.run(x)
    if when == "after silence":
        x = np.zeros((1000, 64), np.float32)
        for _ in range(100):
            stream.run(x)
        assert np.abs(stream.raw_state).max() < 1e-15, "the net is not silent"
    benchmark(stream.step, x[0], np.empty(128, np.float32))
