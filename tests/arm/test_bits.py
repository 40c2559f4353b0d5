"""The golden checksums of the C tests, computed through Python: the same bits on x86-64 and on every ARM.

tests/c/golden.inc was recorded on x86-64. What goes in is what tests/c/check.c makes, from integers, so
that neither a random generator nor the mathematics of the machine at hand comes between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core
from tinyrnn.cli import goldens

GOLDENS = {
    name: (int(checksum, 16), [float.fromhex(number.rstrip("f")) for number in numbers.split(", ")])
    for name, checksum, numbers in re.findall(
        r'^GOLDEN\("(.+?)", (0x\w+)u, (-?0x.*)\)$',
        (Path(__file__).parent.parent / "c" / "golden.inc").read_text(),
        flags=re.M,
    )
    if "INFINITY" not in numbers
}

UNFUSED_BOUND = 2e-6  # as in tests/c/test_golden.c

# The lines of golden.inc that are streamed here, and the frames that the nets read.
NETS: dict[str, tuple[Callable[[], tr.Net], tuple[int, ...]]] = {
    "lstm 65x17": (lambda: tr.LSTM(65, 17), (65,)),
    "lstm projected to 65": (lambda: tr.LSTM(17, 130, proj_size=65, bias=False), (17,)),
    "gru 129x130": (lambda: tr.GRU(129, 130), (129,)),
    "relu rnn 33x65": (lambda: tr.RNN(33, 65, nonlinearity="relu"), (33,)),
    "conv1d": (lambda: tr.Conv1d(4, 17, 3), (4, 37)),
    "softmax of 65": (lambda: tr.Softmax(-1), (2, 65)),
    "characters": (
        lambda: tr.Sequential(
            tr.Embedding(65, 32), tr.LSTM(32, 48), tr.LSTM(48, 48), tr.Linear(48, 65), tr.LogSoftmax(-1)
        ),
        (),
    ),
    "lstm 64x128, 1000 steps": (lambda: tr.LSTM(64, 128), (64,)),
    "gru 64x128, 1000 steps": (lambda: tr.GRU(64, 128), (64,)),
}


def fnv(data: bytes) -> int:
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return value


def rolls(name: str, count: int) -> np.ndarray:
    """dice_roll of check.c, `count` times: (count,) uint64 below 2^32."""
    powers = np.cumprod(np.full(count, 6364136223846793005, np.uint64))
    before = np.concatenate([np.ones(1, np.uint64), powers[:-1]])
    states = powers * np.uint64(fnv(name.encode())) + np.cumsum(before) * np.uint64(1442695040888963407)
    return states >> np.uint64(32)


def floats(rolled: np.ndarray, exponent: int) -> np.ndarray:
    """dice_float of check.c."""
    return np.ldexp((rolled >> np.uint64(8)).astype(np.float32) - 2**23, exponent - 23).astype(np.float32)


def weight_exponent(cols: int) -> int:
    return next(-half for half in range(64) if 4**half >= cols)


def load(net: tr.Net, name: str) -> None:
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    numbers = rolls(name, sum(map(prod, shapes.values())))
    tensors = {}
    for key, shape in shapes.items():
        embedding = name == "characters" and key == "0.weight"
        exponent = 0 if embedding else weight_exponent(prod(shape[1:]))
        tensors[key] = floats(numbers[: prod(shape)], exponent).reshape(shape)
        numbers = numbers[prod(shape) :]
    net.load_state_dict(tensors)


@pytest.mark.parametrize("name", NETS)
def test_golden_checksums(name: str) -> None:
    make, frame = NETS[name]
    steps, batch = (1000, 1) if "1000 steps" in name else (12, 3)
    net = make()
    load(net, name)
    rolled = rolls(name, steps * batch * prod(frame)).reshape(steps, batch, *frame)
    x = floats(rolled, 1) if frame else (rolled % np.uint64(65)).astype(np.int32)
    checksum, shown = GOLDENS[name]
    for isa in tr.available_isas():
        tr.set_isa(isa)
        stream = net.stream(batch, frame=frame)
        y = np.stack([stream.step(frames) for frames in x])
        state = [stream.state[part] for part in stream.state]  # (levels, batch, size) each
        rows = [part[:, b].reshape(-1) for b in range(batch) for part in state]
        numbers = np.concatenate([y.reshape(-1), *rows])
        if _core.is_fused(isa):
            assert f"{fnv(numbers.tobytes()):#018x}" == f"{checksum:#018x}", isa
        places = [k * (len(numbers) - 1) // (len(shown) - 1) for k in range(len(shown))]
        bound = 0 if _core.is_fused(isa) else UNFUSED_BOUND
        for number, wanted in zip(numbers[places].tolist(), shown, strict=True):
            assert abs(number - wanted) <= bound * max(1, abs(wanted)), isa


def test_the_fingerprint_sees_one_bit() -> None:
    assert fnv(b"") == 14695981039346656037 and fnv(b"a") == 0xAF63DC4C8601EC8C  # the published values
    assert fnv(np.float32(1).tobytes()) != fnv(np.nextafter(np.float32(1), np.float32(2)).tobytes())


def test_every_layer_and_gradient_has_the_bits_of_x86() -> None:
    found = goldens.check()
    assert {isa: one.wrong for isa, one in found.items()} == {isa: [] for isa in tr.available_isas()}
    assert all(one.same for one in found.values())
