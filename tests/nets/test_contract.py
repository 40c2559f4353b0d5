"""The promises of docs/design.md: the same bits however a net is run, and nothing allocated on the way."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core

ISAS = tr.available_isas()
FUSED = [isa for isa in ISAS if _core.is_fused(isa)]

NETS = {
    "rnn": lambda: tr.RNN(7, 33, 2, "relu"),
    "lstm": lambda: tr.LSTM(5, 40, 2),
    "lstm-projection": lambda: tr.LSTM(20, 50, 2, proj_size=18),
    "lstm-64": lambda: tr.LSTM(64, 128),
    "gru": lambda: tr.GRU(3, 70),
    "min_gru": lambda: tr.MinGRU(3, 70, 2),
    "min_lstm": lambda: tr.MinLSTM(20, 17),
    "qrnn": lambda: tr.QRNN(5, 33, 2),
    "indrnn": lambda: tr.IndRNN(9, 40, bias=False),
    "fastgrnn": lambda: tr.FastGRNN(5, 33, 2),
    "jordan": lambda: tr.Jordan(5, 33, 20, 2),
    "gru-no-bias": lambda: tr.GRU(16, 16, bias=False),
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
        tr.Conv1d(2, 5, 3, stride=2, padding=1), tr.BatchNorm1d(5), tr.ReLU(), tr.Flatten(), tr.LSTM(20, 9)
    ),
}
FRAMES = {"frames": (2, 8)}
T, B = 23, 9


def build(name: str) -> tuple[tr.Net, np.ndarray]:
    """The net and an input of T steps for B rows."""
    tr.manual_seed(1)
    net = NETS[name]()
    frame = FRAMES.get(name) or net.stream().made_of[2]
    return net, np.random.default_rng(2).standard_normal((T, B, *frame)).astype(np.float32)


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, np.float32).tobytes()


def stepped(net: tr.Net, x: np.ndarray, frame: tuple[int, ...]) -> tuple[np.ndarray, tr.State]:
    """The output and the final state of x fed frame by frame."""
    stream = net.stream(x.shape[1], frame=frame)
    return np.stack([stream.step(frames) for frames in x]), stream.state


def first(result: object) -> np.ndarray:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETS)
def test_same_bits_by_step_by_chunk_as_a_whole_and_at_every_place(name: str, isa: str) -> None:
    tr.set_isa(isa)
    net, x = build(name)
    frame = x.shape[2:]
    whole = first(net(x))
    by_step, state = stepped(net, x, frame)
    assert bits(by_step) == bits(whole)
    for steps, cuts in ((1, [1, 2, 22]), (4, [3, 10]), (64, [22])):
        stream = net.stream(B, frame=frame, steps=steps)
        chunks = [stream.run(part) for part in np.split(x, cuts)]
        assert bits(np.concatenate(chunks)) == bits(whole)
        assert stream.state.tobytes() == state.tobytes()
    for b in range(B):
        alone = first(net(np.ascontiguousarray(x[:, b])))
        assert bits(alone) == bits(whole[:, b])
    assert bits(first(net(x[:, ::-1]))) == bits(whole[:, ::-1])


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
@pytest.mark.parametrize("name", NETS)
def test_same_bits_on_every_fused_instruction_set(name: str) -> None:
    net, x = build(name)
    results = {}
    for isa in ISAS:
        tr.set_isa(isa)
        results[isa] = first(net(x))
    for isa in ISAS:
        if isa in FUSED:
            assert bits(results[isa]) == bits(results[FUSED[0]]), isa
        else:
            np.testing.assert_allclose(results[isa], results[FUSED[0]], rtol=0, atol=5e-6)


def test_same_bits_bidirectional_at_every_place_and_length() -> None:
    tr.manual_seed(3)
    net = tr.LSTM(6, 21, 2, bidirectional=True)
    x = np.random.default_rng(4).standard_normal((T, B, 6)).astype(np.float32)
    lengths = np.array([23, 1, 5, 22, 9, 9, 16, 2, 23])
    for isa in ISAS:
        tr.set_isa(isa)
        y, (h, c) = net(x, lengths=lengths)
        for b, length in enumerate(lengths):
            alone, (h1, c1) = net(x[:length, b])
            assert bits(alone) == bits(y[:length, b])
            assert not y[length:, b].any()
            assert bits(h1) == bits(h[:, b]) and bits(c1) == bits(c[:, b])


def test_a_silent_state_never_becomes_subnormal() -> None:
    tiny = np.finfo(np.float32).tiny
    for make in (tr.RNN, tr.GRU, tr.LSTM):
        tr.manual_seed(5)
        stream = make(4, 24, bias=False).stream()
        stream.run(np.random.default_rng(6).standard_normal((50, 4)).astype(np.float32))
        silence = np.zeros((1000, 4), np.float32)
        for _ in range(100):
            y = stream.run(silence)
            for numbers in (y, stream.raw_state):
                assert not ((numbers != 0) & (np.abs(numbers) < tiny)).any()
        assert not stream.raw_state.any()


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="FE_UNDERFLOW is x86-64's"
)
@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize("make", [tr.RNN, tr.GRU, tr.LSTM])
def test_a_fading_input_never_makes_a_subnormal_number(make: type[tr.RNN], isa: str) -> None:
    """The processor keeps a flag of it. Without biases sums are tiny, too."""
    flags, underflow = ctypes.CDLL(ctypes.util.find_library("m")), 0x10  # None is this process
    tr.set_isa(isa)
    tr.manual_seed(5)
    net = tr.Sequential(make(4, 24, 2, bias=False), tr.Linear(24, 8, bias=False), tr.Sigmoid())
    stream, out = net.stream(), np.empty(8, np.float32)
    x = np.random.default_rng(6).standard_normal(4)
    for fading in range(2, 31):
        for _ in range(3):
            frame = (x * 10.0**-fading).astype(np.float32)
            flags.feclearexcept(underflow)
            stream.step(frame, out)
            assert not flags.fetestexcept(underflow), fading


def test_streams_share_a_net_each_in_its_own_thread() -> None:
    tr.manual_seed(7)
    net = tr.LSTM(8, 64)
    x = np.random.default_rng(8).standard_normal((4, 200, 8)).astype(np.float32)
    expected = [first(net(rows)) for rows in x]
    results: list[np.ndarray | None] = [None] * 4

    def work(i: int) -> None:
        stream = net.stream()
        results[i] = np.stack([stream.step(frame) for frame in x[i]])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(bits(result) == bits(wanted) for result, wanted in zip(results, expected, strict=True))


@pytest.mark.parametrize("kept", _core.FORMATS)
@pytest.mark.parametrize("name", NETS)
def test_python_allocates_nothing_with_out(name: str, kept: str) -> None:
    net, x = build(name)
    if kept != "float32":
        net = tr.quantize(net, kept)
    stream = net.stream(B, frame=x.shape[2:])
    one, many = np.ascontiguousarray(x[0]), x
    out_one, out_many = stream.step(one), stream.run(many)

    def feed() -> None:
        for _ in range(50):
            stream.step(one, out_one)
            stream.step(one, out=out_one)
            stream.run(many, out_many)

    feed()
    tracemalloc.start()
    try:
        feed()
        before = tracemalloc.take_snapshot()
        feed()
        after = tracemalloc.take_snapshot()
        peaks = []
        for _ in range(5):  # what the loop allocates is there each time; a thread of the test runner's is not
            tracemalloc.reset_peak()
            size, _ = tracemalloc.get_traced_memory()
            feed()
            peaks.append(tracemalloc.get_traced_memory()[1] - size)
    finally:
        tracemalloc.stop()
    grown = [line for line in after.compare_to(before, "filename") if "tinyrnn" in str(line.traceback)]
    assert sum(line.size_diff for line in grown) == 0
    assert min(peaks) < 512  # the loop's own iterator


COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static __thread int counting;
static long calls;
void counter_start(void) { calls = 0; counting = 1; }
long counter_stop(void) { counting = 0; return calls; }
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *malloc(size_t n) { calls += counting; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { calls += counting; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { calls += counting; return __libc_realloc(p, n); }
"""

COUNTED = """
import ctypes, gc, itertools, sys
import numpy as np, tinyrnn as tr
counter = ctypes.PyDLL(sys.argv[1])
net = tr.Sequential(tr.Embedding(9, 12), tr.LSTM(12, 40, 2), tr.GRU(40, 17), tr.Linear(17, 5), tr.Softmax(-1))
nets = [net, *(tr.quantize(net, name) for name in ("float16", "bfloat16", "int8", "int4"))]
streams = [net.stream() for net in nets]
out = [stream.step(3) for stream in streams][0]
chunk = np.arange(9, dtype=np.int32)
outs = [stream.run(chunk) for stream in streams][0]
# Python 3.10 makes a bound method at each call otherwise.
calls = [(stream.step, stream.run) for stream in streams]
def feed(times):
    counter.counter_start()
    for step, run in calls:
        for _ in itertools.repeat(None, times):  # a range would make its own integers
            step(3, out)
            step(4, out=out)
            run(chunk, outs)
    return counter.counter_stop()
gc.disable()
feed(9)
once, often = feed(1), feed(1000)
counter.counter_start()
kept = [np.empty(1 << 20) for _ in range(3)]
print(once, often, counter.counter_stop())
"""


@pytest.mark.skipif(
    not shutil.which("gcc") or not sys.platform.startswith("linux"), reason="needs gcc and glibc"
)
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="something else is preloaded")
def test_a_counting_allocator_sees_nothing(tmp_path: Path) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True)
    ctypes.CDLL(str(library))  # it loads
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, str(library)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    once, often, arrays = map(int, done.stdout.split())
    assert arrays >= 3  # the counter counts
    assert often == once  # a thousand rounds of step and run ask for no more than one


def test_memory_is_known_before_anything_runs() -> None:
    net = tr.LSTM(64, 128)
    memory = net.memory(batch=1, steps=1)
    assert memory.weights == 4 * 128 * (64 + 128 + 2) * 4
    assert memory.state == 2 * 128 * 4
    assert 4 * 128 * 4 <= memory.scratch <= 3 * 4 * 128 * 4
    assert not net._levels[0].is_ready  # nothing was allocated
    assert net.memory(batch=8, steps=1).state == 8 * memory.state
    assert net.memory(1, 100).scratch > 50 * 4 * 128 * 4


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("arguments", [{}, {"batch": 5}, {"batch": 2, "steps": 100}])
def test_memory_is_what_a_stream_takes(name: str, arguments: dict[str, int]) -> None:
    net, x = build(name)
    memory = net.memory(**arguments, frame=x.shape[2:])
    net.stream(**arguments, frame=x.shape[2:])  # the weights are there, and whatever is made once
    tracemalloc.start()
    stream = net.stream(**arguments, frame=x.shape[2:])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.raw_state.nbytes == memory.state
    assert memory.state + memory.scratch <= taken <= memory.state + memory.scratch + 8192


def test_threads_that_need_a_new_net_at_once_get_the_same() -> None:
    for _ in range(5):
        net, barrier, results = tr.LSTM(200, 200), threading.Barrier(4), []
        x = np.ones((2, 200), np.float32)

        def work(net=net, barrier=barrier, results=results, x=x) -> None:  # type: ignore[no-untyped-def]
            barrier.wait()
            results.append(first(net(x)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(bits(result) == bits(results[0]) for result in results)


def test_every_leaf_lays_as_many_core_layers_as_it_says() -> None:
    for name in NETS:
        net, x = build(name)
        cores: list[_core.Layer] = []
        net._lay(x.shape[2:], 1, cores)
        assert len(cores) == sum(leaf._core_count() for _, leaf in net._leaves())
    net = tr.Sequential(tr.Flatten(), tr.GRU(3, 4), tr.Flatten(), tr.GRU(4, 5), tr.Softmax(-1), tr.Dropout())
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    y, stream = net(x), net.stream()
    assert np.array_equal(stream.run(x), y)
    assert [array.shape[-1] for array in stream.state.values()] == [4, 5]
    plan = _core.Plan([tr.GRU(3, 4)._levels[0]], (3,), 1, 1)
    with pytest.raises(IndexError):
        plan.state_of(1)
