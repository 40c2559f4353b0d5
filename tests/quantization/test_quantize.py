"""Smaller weights: their rounding, the results of nets with them, and exact copies."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn import _core, cli, formats
from tinyrnn.saving import VERSION
from tinyrnn.state_dicts import stored as stored_of
from tinyrnn.weights import inspect_file
from tinyrnn.weights.safetensors import read_metadata, save_safetensors

ISAS = tr.available_isas()
FORMATS = formats.SMALLER
INTEGERS = ("int8", "int4")
T, B = 13, 5

# Every layer that has a matrix, with sizes that fill no panel and no group, and what it reads.
NETS: dict[str, tuple[Callable[[], tr.Net], tuple[int, ...]]] = {
    "rnn": (lambda: tr.RNN(7, 33, 2, "relu"), (7,)),
    "rnn-tanh": (lambda: tr.RNN(35, 5, bias=False), (35,)),
    "lstm": (lambda: tr.LSTM(37, 40, 2), (37,)),
    "lstm-projection": (lambda: tr.LSTM(20, 50, 2, proj_size=18), (20,)),
    "gru": (lambda: tr.GRU(3, 70), (3,)),
    "gru-no-bias": (lambda: tr.GRU(16, 16, bias=False), (16,)),
    "linear": (lambda: tr.Linear(45, 19), (45,)),
    "conv": (lambda: tr.Conv1d(6, 10, 7, 2, 3, groups=2, padding_mode="reflect"), (6, 11)),
    "conv-dilated": (lambda: tr.Conv1d(5, 3, 3, dilation=2, bias=False), (5, 9)),
    "pictures": (lambda: tr.Conv2d(4, 10, (3, 2), (2, 1), (1, 2), groups=2), (4, 6, 5)),
    "pictures-dilated": (lambda: tr.Conv2d(3, 33, 2, dilation=(1, 2), bias=False), (3, 8, 9)),
    "pictures-depthwise": (lambda: tr.Conv2d(5, 5, 3, padding="same", groups=5), (5, 6, 7)),
    "transposed": (lambda: tr.ConvTranspose1d(26, 10, 5, 2, 1, groups=2), (26, 11)),
    "transposed-dilated": (lambda: tr.ConvTranspose1d(34, 3, 3, dilation=2, bias=False), (34, 9)),
    "cell": (lambda: tr.LSTMCell(9, 34), (9,)),
    "chain": (
        lambda: tr.Sequential(
            {
                "front": tr.Sequential(tr.Conv1d(2, 5, 3, 2, 1), tr.BatchNorm1d(5), tr.ReLU(), tr.Flatten()),
                "norm": tr.LayerNorm(20),
                "gru": tr.GRU(20, 17),
                "lstm": tr.LSTM(17, 16, 2),
                "head": tr.Linear(16, 5),
                "out": tr.Softmax(-1),
            }
        ),
        (2, 8),
    ),
}
BOTH_WAYS = {
    "rnn-both": (lambda: tr.RNN(7, 12, bidirectional=True), (7,)),
    "gru-both": (lambda: tr.GRU(33, 9, 2, bidirectional=True), (33,)),
    "lstm-both": (lambda: tr.LSTM(6, 40, 2, bidirectional=True, proj_size=7), (6,)),
}
TABLE = {"embedding": (lambda: tr.Sequential(tr.Embedding(30, 41), tr.GRU(41, 6)), ())}
ALL = NETS | BOTH_WAYS | TABLE


def build(name: str) -> tuple[tr.Net, NDArray[Any]]:
    """The net, and an input of T steps for B rows."""
    tr.manual_seed(1)
    make, frame = ALL[name]
    generator = np.random.default_rng(2)
    if name in TABLE:
        return make(), generator.integers(0, 30, (T, B))
    return make(), generator.standard_normal((T, B, *frame)).astype(np.float32)


def run(net: tr.Net, x: NDArray[Any], threads: int = 1) -> NDArray[np.float32]:
    """The output over (T, B, frame)."""
    if net._recurrent:
        return net._run(x, None, None, threads)[0]
    flat = net(x.reshape(-1, *x.shape[2:]), threads=threads)
    return flat.reshape(*x.shape[:2], *flat.shape[1:])


def bits(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def codes_of(net: tr.Net) -> dict[str, tuple[bytes, bytes]]:
    """Codes and scales of every matrix that is not float32."""
    found = {}
    for tensor in net._tensors():
        if tensor.format != "float32":
            codes, scales = tensor.core.codes(tensor.param)
            found[tensor.name] = (bits(codes), b"" if scales is None else bits(scales))
    return found


# ---- rounding -----------------------------------------------------------------------------------


def test_int8_is_the_nearest_multiple_of_each_rows_scale() -> None:
    w = np.random.default_rng(0).standard_normal((9, 50)).astype(np.float32)
    w[3] = 0
    w[4, 7:] = 0
    w[4, :7] = [127, 0.5, 1.5, -0.5, -126.5, 63.5, -127]  # halves go to the even
    codes, scales = formats.encode(w, "int8", "w")
    assert codes.dtype == np.int8 and scales.shape == (9,) and scales.dtype == np.float32
    assert np.all(np.abs(w - codes * scales[:, None].astype(np.float64)) <= scales[:, None] * 0.5000001)
    assert np.array_equal(np.abs(codes.astype(int)).max(axis=1), [127, 127, 127, 0, 127, 127, 127, 127, 127])
    assert codes[4, :7].tolist() == [127, 0, 2, 0, -126, 64, -127]


def test_int4_has_bfloat16_scales_that_beat_the_plain_ones() -> None:
    w = np.random.default_rng(0).standard_normal((40, 70)).astype(np.float32)
    w[5] = 0
    codes, scales = formats.encode(w, "int4", "w")
    assert codes.min() == -8 and codes.max() == 7
    assert scales.shape == (40, 3) and not (scales.view(np.uint32) & 0xFFFF).any()
    assert not codes[5].any()
    for group in range(3):
        part = w[:, 32 * group : 32 * group + 32].astype(np.float64)
        plain = np.abs(part).max(axis=1, keepdims=True) / 7
        step = np.where(plain == 0, 1, plain)
        worse = np.square(part - np.rint(part / step) * plain).sum(axis=1)
        ours = codes[:, 32 * group : 32 * group + 32] * scales[:, group : group + 1].astype(np.float64)
        better = np.square(part - ours).sum(axis=1)
        assert np.all(better <= worse * 1.05) and better.sum() < 0.9 * worse.sum()


def test_int4_uses_its_eighth_step_on_the_side_that_reaches_farther() -> None:
    steps = np.arange(-8, 8, dtype=np.float32)[None] * np.float32(0.25)
    for w in (steps, -steps):
        codes, scales = formats.encode(w, "int4", "w")
        assert np.array_equal(codes * scales, w)


def test_halves_are_the_nearest_and_halfway_the_even() -> None:
    w = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32) * 10
    w[0, :4] = [1 + 2**-8, 1 + 3 * 2**-8, 3.38e38, 1e-40]  # halfway to even, twice; the largest; a subnormal
    codes, scales = formats.encode(w, "bfloat16", "w")
    assert scales is None and codes.dtype == np.uint16
    below = (w.view(np.uint32) >> 16).astype(np.uint16)
    found, low, high = (
        (part.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        for part in (codes, below, below + 1)
    )
    assert np.all(np.abs(w - found) <= np.minimum(np.abs(w - low), np.abs(w - high)))
    assert found[0, :2].tolist() == [1, 1 + 2**-6]
    w[0, 2] = 65519  # rounds to the largest
    codes, _ = formats.encode(w, "float16", "w")
    assert np.array_equal(codes.view(np.float16), w.astype(np.float16)) and codes[0, 2] == 0x7BFF


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (3, 32), (2, 33), (4, 3, 11), (1, 64)])
def test_stored_codes_come_back(name: str, shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    coded = formats.encode(w, name, "w")
    stored = formats.store(coded, name, "w")
    if name in INTEGERS:
        back = formats.restore(stored["w"], stored["w_scale"], shape, name, "w")
        assert bits(back.codes) == bits(coded.codes) and bits(back.scales) == bits(coded.scales)
        assert back.codes.shape == shape
    else:
        assert list(stored) == ["w"] and stored["w"].tobytes() == coded.codes.tobytes()


def test_int4_lies_as_the_module_says() -> None:
    codes = np.array([[-8, 7, 1], [0, -1, 2]], np.int8)
    stored = formats.store(formats.Coded(codes, np.float32([[1], [-2]])), "int4", "w")
    assert stored["w"].tolist() == [[0xF0, 0x89], [0x78, 0x8A]]
    assert stored["w_scale"].dtype == np.uint16 and stored["w_scale"].tolist() == [[0x3F80], [0xC000]]


# ---- what nets compute --------------------------------------------------------------------------


class Rounded:
    """A matrix in float64 that rounds its operand, row by row, as the core does."""

    __array_ufunc__ = None  # so that ``x @ self.T`` comes here

    def __init__(self, w: NDArray[Any]) -> None:
        self.w = np.asarray(w, np.float64)
        self.shape = self.w.shape

    def __len__(self) -> int:
        return len(self.w)

    def __matmul__(self, x: NDArray[Any]) -> NDArray[np.float64]:
        top = np.abs(np.float32(x)).max()
        if top == 0:
            return np.zeros(len(self.w))
        codes = np.rint(np.float32(x) * (np.float32(127) / top))
        return self.w @ codes * (np.float64(top) / 127)


def oracle_matrix(name: str) -> Callable[[NDArray[Any]], Any]:
    return Rounded if name in INTEGERS else lambda w: np.asarray(w, np.float64)


def expected(net: tr.Net, name: str, x: NDArray[Any]) -> NDArray[np.float64]:
    """Compute a net of one layer, or a table and a recurrent layer, on (T, B, frame), in float64."""
    state = net.state_dict()
    if isinstance(net, tr.Sequential):
        rest = {key.removeprefix("1."): value for key, value in state.items() if key.startswith("1.")}
        return layer(net[1], name, rest, state["0.weight"][x].astype(np.float64))
    return layer(net, name, state, x.astype(np.float64))


def layer(net: tr.Net, name: str, state: Mapping[str, Any], x: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = oracle_matrix(name)
    w = {
        key: matrix(value) if value.ndim == 2 else np.asarray(value, np.float64)
        for key, value in state.items()
    }
    kind = type(net).__name__
    if kind == "Linear":
        return np.array([[w["weight"] @ row + w["bias"] for row in rows] for rows in x])
    if kind == "Conv1d":
        return np.array([[convolved(net, matrix, state, frame) for frame in frames] for frames in x])
    if kind == "Conv2d":
        return np.array([[convolved_picture(net, matrix, state, frame) for frame in frames] for frames in x])
    if kind == "ConvTranspose1d":
        return np.array([[spread(net, matrix, state, frame) for frame in frames] for frames in x])
    if kind == "LSTMCell":
        w = {f"{key}_l0": value for key, value in w.items()}
    given = net.config()
    options = {key: given[key] for key in ("num_layers", "bidirectional", *oracle.FORMULA) if key in given}
    return oracle.recurrent(kind.removesuffix("Cell"), w, x, **options)[0]


def convolved(net: Any, matrix: Any, state: Mapping[str, Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """One frame: every position of every group is a row that is rounded by itself."""
    mode = "reflect" if net.padding_mode == "reflect" else "constant"
    x = np.pad(x, ((0, 0), net._pad), mode=mode)
    inputs, outputs = net.in_channels // net.groups, net.out_channels // net.groups
    span = net.dilation * (net.kernel_size - 1) + 1
    rows = []
    for group in range(net.groups):
        w = matrix(state["weight"][group * outputs : (group + 1) * outputs].reshape(outputs, -1))
        channels = x[group * inputs : (group + 1) * inputs]
        starts = range(0, x.shape[1] - span + 1, net.stride)
        taps = [channels[:, at : at + span : net.dilation].reshape(-1) for at in starts]
        rows.append(np.stack([w @ tap for tap in taps], axis=1))
    y = np.concatenate(rows)
    return y + state["bias"][:, None] if "bias" in state else y


def convolved_picture(
    net: Any, matrix: Any, state: Mapping[str, Any], x: NDArray[Any]
) -> NDArray[np.float64]:
    x = np.pad(x, ((0, 0), *net._pads))
    inputs, outputs = net.in_channels // net.groups, net.out_channels // net.groups
    (down, right), (high, wide) = net.stride, net.dilation
    row_span, col_span = high * (net.kernel_size[0] - 1) + 1, wide * (net.kernel_size[1] - 1) + 1
    rows = range(0, x.shape[1] - row_span + 1, down)
    cols = range(0, x.shape[2] - col_span + 1, right)
    y = np.empty((net.out_channels, len(rows), len(cols)))
    for group in range(net.groups):
        outs = slice(group * outputs, (group + 1) * outputs)
        w = matrix(state["weight"][outs].reshape(outputs, -1))
        channels = x[group * inputs : (group + 1) * inputs]
        for i, r in enumerate(rows):
            for j, c in enumerate(cols):
                taps = channels[:, r : r + row_span : high, c : c + col_span : wide]
                y[outs, i, j] = w @ taps.reshape(-1)
    return y + state["bias"][:, None, None] if "bias" in state else y


def spread(net: Any, matrix: Any, state: Mapping[str, Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """One frame: every position of every group is a row that is rounded by itself."""
    inputs, outputs = net.in_channels // net.groups, net.out_channels // net.groups
    length, kernel = x.shape[1], net.kernel_size
    y = np.zeros((net.out_channels, (length - 1) * net.stride + net.dilation * (kernel - 1) + 1))
    for group in range(net.groups):
        own = state["weight"][group * inputs : (group + 1) * inputs]  # (inputs, outputs, kernel)
        w = matrix(own.transpose(1, 2, 0).reshape(outputs * kernel, inputs))
        for p in range(length):
            numbers = (w @ x[group * inputs : (group + 1) * inputs, p]).reshape(outputs, kernel)
            for k in range(kernel):
                y[group * outputs : (group + 1) * outputs, p * net.stride + k * net.dilation] += numbers[:, k]
    y = y[:, net.padding : y.shape[1] - net.padding]
    return y + state["bias"][:, None] if "bias" in state else y


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", [name for name in ALL if name != "chain"])
def test_a_layer_computes_what_its_format_says(which: str, name: str, isa: str) -> None:
    tr.set_isa(isa)
    net, x = build(which)
    smaller = tr.quantize(net, name)
    y = run(smaller, x)
    errors = np.sort(np.abs(y - expected(smaller, name, x)).reshape(T, B, -1).max(axis=(0, 2)))
    # A state that lies halfway between two codes may round one way in float64 and the other in float32; that
    # is rare, and stays in its row.
    assert errors[-2] < 2e-5 and errors[-1] < 1e-3, errors
    assert not np.array_equal(y, run(net, x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", NETS)
def test_same_bits_by_step_by_chunk_as_a_whole_and_at_every_place(which: str, name: str, isa: str) -> None:
    tr.set_isa(isa)
    net, x = build(which)
    smaller = tr.quantize(net, name)
    whole, frame = run(smaller, x), x.shape[2:]
    stream = smaller.stream(B, frame=frame)
    assert bits(np.stack([stream.step(frames) for frames in x])) == bits(whole)
    for steps, cuts in ((1, [1, 2]), (4, [3, 10])):
        stream = smaller.stream(B, frame=frame, steps=steps)
        assert bits(np.concatenate([stream.run(part) for part in np.split(x, cuts)])) == bits(whole)
    for b in range(B):
        assert bits(run(smaller, x[:, b : b + 1])[:, 0]) == bits(whole[:, b])
    assert bits(run(smaller, x, threads=2)) == bits(whole)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", ALL)
def test_same_bits_on_every_fused_instruction_set(which: str, name: str) -> None:
    net, x = build(which)
    smaller = tr.quantize(net, name)
    outputs = []
    for isa in filter(_core.is_fused, ISAS):
        tr.set_isa(isa)
        outputs.append(bits(run(smaller, x)))
    assert len(set(outputs)) <= 1


@pytest.mark.parametrize("name", FORMATS)
def test_lengths_of_rows(name: str) -> None:
    net, x = build("gru-both")
    smaller = tr.quantize(net, name)
    y, h = smaller(x, lengths=[13, 1, 7, 12, 2])
    for b, length in enumerate([13, 1, 7, 12, 2]):
        alone, h_alone = smaller(x[:length, b])
        assert bits(alone) == bits(y[:length, b]) and bits(h_alone) == bits(h[:, b])
        assert not y[length:, b].any()


@pytest.mark.parametrize("name", INTEGERS)
def test_numbers_that_are_not_finite_show(name: str) -> None:
    net, x = build("linear")
    smaller = tr.quantize(net, name)
    x[2, 3, 7], x[4, 1, 0] = np.nan, np.inf
    y = run(smaller, x)
    broken = np.isnan(y).all(axis=-1)
    assert broken[2, 3] and broken[4, 1] and broken.sum() == 2 and np.isfinite(y[~broken]).all()


@pytest.mark.parametrize("name", INTEGERS)
def test_silence_and_zero_weights(name: str) -> None:
    net = tr.Linear(40, 3)
    net.load_state_dict({"weight": np.zeros((3, 40)), "bias": [1, 2, 3]})
    assert tr.quantize(net, name)(np.ones(40)).tolist() == [1, 2, 3]
    smaller = tr.quantize(build("linear")[0], name)
    assert bits(smaller(np.zeros(45))) == bits(smaller.state_dict()["bias"])


# ---- quantize -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_net_that_was_given_stays_and_the_copy_is_smaller(name: str) -> None:
    net, x = build("chain")
    before, y = net.state_dict(), run(net, x)
    smaller = tr.quantize(net, name)
    assert bits(run(net, x)) == bits(y) and set(net.formats.values()) == {"float32"}
    assert smaller.formats == dict.fromkeys(["front.0", "gru.l0", "lstm.l0", "lstm.l1", "head"], name)
    after = smaller.state_dict()
    assert list(after) == list(before)
    for key, value in after.items():
        assert value.dtype == before[key].dtype and value.shape == before[key].shape
        changed = not np.array_equal(value, before[key])
        assert changed == (value.ndim > 1), key
    parts = {"float16": 0.75, "bfloat16": 0.75, "int8": 0.6, "int4": 0.5}
    assert smaller.memory(frame=(2, 8)).weights < parts[name] * net.memory(frame=(2, 8)).weights
    assert f"proj_size=0) [{name}]\n" in repr(smaller) and "LayerNorm(normalized_shape=(20,)" in repr(smaller)
    assert "[" not in repr(net)


def test_a_large_layers_size() -> None:
    net = tr.LSTM(256, 512)
    whole = net.memory().weights
    sizes = {name: tr.quantize(net, name).memory().weights / whole for name in FORMATS}
    assert sizes["float16"] == sizes["bfloat16"] < 0.503
    assert sizes["int8"] < 0.26 and sizes["int4"] < 0.15


def test_keep_takes_layers_levels_and_all_within() -> None:
    net, x = build("chain")
    kept = tr.quantize(net, "int8", keep=["lstm.l1", "front"])
    assert kept.formats == {
        "front.0": "float32",
        "gru.l0": "int8",
        "lstm.l0": "int8",
        "lstm.l1": "float32",
        "head": "int8",
    }
    assert "[int8, float32]" in repr(kept.lstm)
    original = net.state_dict()
    for key, value in kept.state_dict().items():
        same = key.endswith("_l1") or not key.startswith(("gru", "lstm", "head")) or value.ndim == 1
        assert np.array_equal(value, original[key]) == same, key
    assert tr.quantize(net, "int8", keep=["lstm"]).formats["lstm.l0"] == "float32"
    assert tr.quantize(net, "int8", keep="head").formats["head"] == "float32"
    assert tr.quantize(net.lstm, "int8", keep=["l0"]).formats == {"l0": "float32", "l1": "int8"}
    assert tr.quantize(tr.Linear(2, 3), "int8").formats == {"Linear": "int8"}
    assert np.isfinite(run(kept, x)).all()


def test_a_second_call_quantises_the_layers_that_the_first_left() -> None:
    net, x = build("chain")
    first = tr.quantize(net, "int4", keep=["gru", "head"])
    both = tr.quantize(first, "int8", x, keep=["head"])
    assert both.formats == {
        "front.0": "int4",
        "gru.l0": "int8",
        "lstm.l0": "int4",
        "lstm.l1": "int4",
        "head": "float32",
    }
    assert codes_of(first).items() <= codes_of(both).items()
    done = tr.quantize(both, "float16")
    with pytest.raises(ValueError, match="is int4, int8, float16 already, expected a float32 matrix"):
        tr.quantize(done, "int8")


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (("int3",), ValueError, "format is 'int3', expected one of 'float32', 'float16'"),
        ((8,), ValueError, "format is 8"),
        (
            ("float32",),
            ValueError,
            "format is 'float32', expected one of 'float16', 'bfloat16', 'int8', 'int4'",
        ),
        (
            ("int8", None, ["gru.l1"]),
            ValueError,
            "keep has 'gru.l1', expected names among front.0, gru.l0, lstm.l0",
        ),
        (("int8", None, ["norm"]), ValueError, "keep has 'norm'"),
        (("int8", None, ["hea"]), ValueError, "keep has 'hea'"),
        (("int8", None, "auto"), ValueError, 'keep="auto" needs bound='),
        (
            (
                "int8",
                np.zeros((4, 3, 8)),
            ),
            tr.ShapeError,
            "expected",
        ),
        (
            (
                "int8",
                np.full((4, 2, 8), np.nan),
            ),
            ValueError,
            "calibration: the input of front.0 is not finite",
        ),
    ],
)
def test_arguments_that_quantize_refuses(arguments: Any, error: type[Exception], words: str) -> None:
    net, _ = build("chain")
    with pytest.raises(error, match=words):
        tr.quantize(net, *arguments)


def test_nets_that_quantize_refuses() -> None:
    with pytest.raises(TypeError, match="got dict, expected a net"):
        tr.quantize({}, "int8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got a ReLU that has no matrices"):
        tr.quantize(tr.ReLU(), "int8")
    net = tr.Linear(2, 2)
    for given in ({"bound": 1.0}, {"loss": lambda net: 0.0}, {"keep": "auto", "loss": lambda net: 0.0}):
        with pytest.raises(ValueError, match='keep="auto" needs bound='):
            tr.quantize(net, "int8", **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs calibration= or loss="):
        tr.quantize(net, "int8", keep="auto", bound=1.0)


@pytest.mark.parametrize(
    "name, number, words",
    [
        ("int8", np.nan, "lstm.weight_hh_l1 holds nan, expected finite numbers for int8"),
        ("bfloat16", -np.inf, "lstm.weight_hh_l1 holds -inf, expected finite numbers for bfloat16"),
        ("float16", 65520, "lstm.weight_hh_l1 holds a magnitude of 65520.0, beyond float16's range"),
        ("bfloat16", 3.4e38, "beyond bfloat16's range"),
        ("int4", -2e36, "beyond int4's range"),
        ("int8", 2e36, "beyond int8's range"),
    ],
)
@pytest.mark.parametrize("calibrated", [False, True])
def test_numbers_that_a_format_cannot_hold(name: str, number: float, words: str, calibrated: bool) -> None:
    net, x = build("chain")
    state = net.state_dict()
    state["lstm.weight_hh_l1"][5, 6] = number
    net.load_state_dict(state)
    with pytest.raises(tr.WeightsError, match=words):
        tr.quantize(net, name, x if calibrated else None)
    assert tr.quantize(net, name, keep=["lstm.l1"]).formats["lstm.l1"] == "float32"


# ---- calibration --------------------------------------------------------------------------------


def correlated(steps: int, width: int, batch: int = 1) -> NDArray[np.float32]:
    """Inputs that a few directions explain, as real ones are."""
    generator = np.random.default_rng(5)
    mix = generator.standard_normal((6, width))
    x = generator.standard_normal((steps, batch, 6)) @ mix + 0.1 * generator.standard_normal(
        (steps, batch, width)
    )
    return x.astype(np.float32)


def error(net: tr.Net, smaller: tr.Net, x: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(run(net, x) - run(smaller, x)).mean()))


@pytest.mark.parametrize("name", INTEGERS)
def test_calibration_beats_rounding_to_the_nearest(name: str) -> None:
    tr.manual_seed(1)
    pictures = np.ascontiguousarray(correlated(400, 70).reshape(4, 1, 100, 70).swapaxes(2, 3))
    for net, x, gain in (
        (tr.Linear(70, 30), correlated(400, 70), 0.7),
        (tr.Conv1d(70, 8, 3, groups=2), pictures, 0.8),
        (tr.Conv2d(70, 8, (1, 3), groups=2), pictures[:, :, :, None], 0.8),
        (tr.ConvTranspose1d(70, 8, 3, groups=2), pictures, 0.8),
        (tr.LSTM(70, 20), correlated(400, 70), 0.8),
        (tr.LSTM(70, 40, proj_size=10, bidirectional=True), correlated(60, 70, 5), 0.9),
        (tr.GRU(70, 20), correlated(60, 70, 5), 0.9),
        (tr.RNN(70, 20, 2), correlated(400, 70), 0.9),
    ):
        plain = tr.quantize(net, name)
        calibrated = tr.quantize(net, name, x[:, 0] if x.ndim > 3 else x)
        assert codes_of(plain) != codes_of(calibrated)
        if name == "int8":  # whose error is as much that of what it reads
            gain = 1.05
        assert error(net, calibrated, x) < gain * error(net, plain, x), type(net)


def test_calibration_by_rows_of_a_batch() -> None:
    x = correlated(20, 9, 3)
    for options in ({}, {"bidirectional": True}):
        net = tr.GRU(9, 8, **options)  # type: ignore[arg-type]
        turned = tr.GRU(9, 8, batch_first=True, **options)  # type: ignore[arg-type]
        turned.load_state_dict(net.state_dict())
        wanted = codes_of(tr.quantize(net, "int4", x))
        assert codes_of(tr.quantize(turned, "int4", x.swapaxes(0, 1))) == wanted
        assert codes_of(tr.quantize(turned, "int4", x)) != wanted


def test_calibration_never_makes_a_products_error_larger() -> None:
    tr.manual_seed(1)
    net = tr.Linear(50, 64, bias=False)
    for x in (correlated(300, 50)[:, 0], np.eye(50, dtype=np.float32), np.zeros((9, 50), np.float32)):
        w = net.state_dict()["weight"].astype(np.float64)
        errors = []
        for calibration in (x, None):
            rounded = tr.quantize(net, "int4", calibration).state_dict()["weight"]
            errors.append(np.square((w - rounded) @ x.T.astype(np.float64)).sum(axis=1))
        assert np.all(errors[0] <= errors[1] * (1 + 1e-9) + 1e-12)


def test_calibration_in_chunks_and_in_several_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = build("lstm")
    whole = codes_of(tr.quantize(net, "int4", x))
    assert whole == codes_of(tr.quantize(net, "int4", [x[:, :2], x[:, 2:]]))
    monkeypatch.setattr("tinyrnn.tracing.CHUNK", 2 * B)
    assert whole == codes_of(tr.quantize(net, "int4", x))


def test_a_layer_makes_up_for_those_before_it() -> None:
    """The second layer is rounded for the output of the rounded first one, not of the exact one."""
    tr.manual_seed(1)
    net = tr.Sequential(tr.Linear(40, 50), tr.ReLU(), tr.Linear(50, 8))
    x = correlated(500, 40)[:, 0]
    both = tr.quantize(net, "int4", x)
    one_by_one = tr.Sequential(
        tr.quantize(net[0], "int4", x), tr.ReLU(), tr.quantize(net[2], "int4", net[1](net[0](x)))
    )
    assert codes_of(both[0]) == codes_of(one_by_one[0]) and codes_of(both[2]) != codes_of(one_by_one[2])
    wanted = net(x)
    errors = [float(np.square(other(x) - wanted).mean()) for other in (both, one_by_one)]
    assert errors[0] < 0.8 * errors[1]


def test_calibration_is_for_products_that_are_rounded() -> None:
    net, x = build("embedding")
    for name in ("float16", "bfloat16"):
        assert codes_of(tr.quantize(net, name, x)) == codes_of(tr.quantize(net, name))
    table, calibrated = (codes_of(tr.quantize(net, "int4", given)) for given in (None, x))
    assert table["0.weight"] == calibrated["0.weight"] and table != calibrated
    assert codes_of(tr.quantize(net, "int4", x[:, 0].tolist())) != table


# ---- keep="auto" --------------------------------------------------------------------------------


def harmed() -> tr.Sequential:
    """A net whose ``"bad"`` cannot be quantised: its rows hold one huge weight beside those that matter."""
    tr.manual_seed(1)
    net = tr.Sequential({"good": tr.GRU(4, 8), "bad": tr.Linear(8, 8), "fine": tr.Linear(8, 3)})
    state = net.state_dict()
    state["bad.weight"][:, 3] = 400
    state["good.weight_ih_l0"][3::8] = 0  # the unit that the huge weights read stays silent
    state["good.weight_hh_l0"][3::8] = 0
    state["good.bias_ih_l0"][3::8] = 0
    state["good.bias_hh_l0"][3::8] = 0
    net.load_state_dict(state)
    return net


def test_auto_keeps_the_layer_that_does_the_harm() -> None:
    net = harmed()
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    wanted = net(x)
    found = tr.quantize(net, "int8", x, keep="auto", bound=0.02)
    assert found.formats == {"good.l0": "int8", "bad": "float32", "fine": "int8"}
    assert np.abs(found(x) - wanted).max() <= 0.02 < np.abs(tr.quantize(net, "int8", x)(x) - wanted).max()
    assert codes_of(found) == codes_of(tr.quantize(net, "int8", x, keep=["bad"]))
    assert set(tr.quantize(net, "int8", x, keep="auto", bound=1e9).formats.values()) == {"int8"}
    with pytest.raises(
        ValueError, match=r"bound is 1e-12, but quantising only [a-z0-9.]+, the mildest layer, costs"
    ):
        tr.quantize(net, "int8", x, keep="auto", bound=1e-12)
    with pytest.raises(ValueError, match="bound is nan"):
        tr.quantize(net, "int8", x, keep="auto", bound=np.nan)


def test_auto_by_a_loss() -> None:
    net = harmed()
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    wanted = net(x)

    def loss(other: tr.Net) -> float:
        return float(np.square(other(x) - wanted).mean())

    found = tr.quantize(net, "int8", keep="auto", bound=1e-4, loss=loss)
    assert found.formats == {"good.l0": "int8", "bad": "float32", "fine": "int8"} and loss(found) <= 1e-4
    again = tr.quantize(found, "float16", keep="auto", bound=1e-3, loss=loss)
    assert again.formats == {"good.l0": "int8", "bad": "float16", "fine": "int8"}


# ---- copies, files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", ALL)
def test_every_copy_is_exact(which: str, name: str, tmp_path: Path) -> None:
    net, x = build(which)
    smaller = tr.quantize(net, name, x if which in TABLE else None, keep=["gru"] if which == "chain" else [])
    path = tmp_path / "net.safetensors"
    smaller.save(path)
    copies = [tr.load(path), copy.copy(smaller), copy.deepcopy(smaller), pickle.loads(pickle.dumps(smaller))]
    for other in copies:
        assert repr(other) == repr(smaller) and other.formats == smaller.formats
        assert codes_of(other) == codes_of(smaller)
        assert bits(run(other, x)) == bits(run(smaller, x))
    copies[0].save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    most = len(pickle.dumps(net))
    assert path.stat().st_size < most + 32 and len(pickle.dumps(smaller)) < most  # a file says who wrote it


def test_the_contents_of_a_file(tmp_path: Path) -> None:
    net = tr.Sequential({"a": tr.Embedding(5, 33), "b": tr.LSTM(33, 4), "c": tr.Linear(4, 2), "d": tr.ReLU()})
    mixed = tr.quantize(tr.quantize(tr.quantize(net, "int4", keep=["b", "c"]), "int8", keep="c"), "bfloat16")
    path = tmp_path / "net.safetensors"
    mixed.save(path)
    info = inspect_file(path)
    stored = {tensor.name: (tensor.dtype, tensor.shape) for tensor in info.tensors}
    assert stored == {
        "a.weight": ("uint8", (5, 17)),
        "a.weight_scale": ("bfloat16", (5, 2)),
        "b.weight_ih_l0": ("int8", (16, 33)),
        "b.weight_ih_l0_scale": ("float32", (16,)),
        "b.weight_hh_l0": ("int8", (16, 4)),
        "b.weight_hh_l0_scale": ("float32", (16,)),
        "b.bias_ih_l0": ("float32", (16,)),
        "b.bias_hh_l0": ("float32", (16,)),
        "c.weight": ("bfloat16", (2, 4)),
        "c.bias": ("float32", (2,)),
    }
    about = json.loads(read_metadata(path)["tinyrnn"])
    assert about["version"] == 2
    assert {name: layer.get("formats") for name, layer in about["net"]["layers"].items()} == {
        "a": ["int4"],
        "b": ["int8"],
        "c": ["bfloat16"],
        "d": None,
    }
    weights = tr.load_weights(path)
    low, high = weights["a.weight"] & 15, weights["a.weight"] >> 4
    codes = np.stack([low, high], axis=2).reshape(5, -1)[:, :33].astype(np.float32) - 8
    scales = np.repeat(weights["a.weight_scale"], 32, axis=1)[:, :33]
    assert np.array_equal(codes * scales, mixed.state_dict()["a.weight"])
    w = weights["b.weight_hh_l0"] * weights["b.weight_hh_l0_scale"][:, None]
    assert np.array_equal(w, mixed.state_dict()["b.weight_hh_l0"])


def test_the_official_library_reads_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    official = pytest.importorskip("safetensors.torch")
    net = tr.Sequential(tr.Linear(40, 3), tr.Linear(3, 2))
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16), ("int4", torch.uint8)):
        smaller = tr.quantize(net, name, keep=["1"])
        smaller.save(tmp_path / "net.safetensors")
        read = official.load_file(tmp_path / "net.safetensors")
        assert read["0.weight"].dtype == dtype
        if name != "int4":
            assert np.array_equal(read["0.weight"].float().numpy(), smaller.state_dict()["0.weight"])
        else:
            assert read["0.weight_scale"].dtype == torch.bfloat16


@pytest.mark.parametrize("name", FORMATS)
def test_load_state_dict_rounds_floats_and_takes_codes(name: str, tmp_path: Path) -> None:
    net, _ = build("lstm-projection")
    smaller = tr.quantize(net, name)
    tr.manual_seed(9)
    other = tr.LSTM(20, 50, 2, proj_size=18)
    result = smaller.load_state_dict(other.state_dict())
    assert result == ([], []) and codes_of(smaller) == codes_of(tr.quantize(other, name))
    smaller.save(tmp_path / "net.safetensors")
    third = tr.quantize(net, name)
    third.load_state_dict(tr.load_weights(tmp_path / "net.safetensors"))
    assert codes_of(third) == codes_of(smaller)
    part = {key: value for key, value in net.state_dict().items() if key.endswith("_l1")}
    assert smaller.load_state_dict(part, strict=False).missing_keys
    assert bits(smaller.state_dict()["weight_ih_l0"]) == bits(third.state_dict()["weight_ih_l0"])
    assert bits(smaller.state_dict()["weight_ih_l1"]) == bits(
        tr.quantize(net, name).state_dict()["weight_ih_l1"]
    )


def test_a_load_that_fails_changes_nothing() -> None:
    smaller = tr.quantize(tr.Linear(40, 3), "int8")
    before = codes_of(smaller)
    good = {"weight": np.ones((3, 40), np.int8), "weight_scale": np.ones(3, np.float32), "bias": np.ones(3)}
    for wrong, words in (
        ({"weight": np.full((3, 40), -128, np.int8)}, "weight: holds the code -128"),
        ({"weight": np.ones((3, 41), np.int8)}, r"weight: got shape \(3, 41\), expected \(3, 40\) for int8"),
        ({"weight": np.ones((3, 40), np.uint8)}, "weight: got dtype uint8, expected int8 codes"),
        ({"weight_scale": np.ones(4, np.float32)}, r"weight_scale: got shape \(4,\), expected \(3,\)"),
        ({"weight_scale": np.ones(3)}, "weight_scale: got dtype float64, expected float32"),
        ({"weight_scale": np.float32([1, np.nan, 1])}, "weight_scale: holds a number that is not finite"),
        (
            {"weight_scale": np.float32([1, 1, 3e38])},
            "weight_scale: holds a number that is not finite or too",
        ),
        ({"bias": np.ones(4)}, "size mismatch for bias"),
        ({"other": np.ones(4)}, 'Unexpected key.*"other"'),
    ):
        with pytest.raises(tr.WeightsError, match=words):
            smaller.load_state_dict({**good, **wrong})
        assert codes_of(smaller) == before
    with pytest.raises(tr.WeightsError, match="weight holds nan, expected finite numbers for int8"):
        smaller.load_state_dict({"weight": np.full((3, 40), np.nan), "bias": np.zeros(3)})
    with pytest.raises(tr.WeightsError, match='Missing.*"weight"'):
        smaller.load_state_dict({"weight_scale": good["weight_scale"], "bias": np.zeros(3)})
    with pytest.raises(tr.WeightsError, match='Unexpected.*"bias_scale"'):
        smaller.load_state_dict({**good, "bias_scale": good["weight_scale"]})
    assert codes_of(smaller) == before
    smaller.load_state_dict(good)
    assert smaller.weight.tolist() == [[1.0] * 40] * 3


@pytest.mark.parametrize("format_name", ["float32", "float16", "bfloat16", "int4"])
def test_codes_of_int8_in_a_net_of_another_format(format_name: str) -> None:
    given = {
        "weight": np.arange(-60, 60, dtype=np.int8).reshape(3, 40),
        "weight_scale": np.float32([0.5, 1, 2]),
        "bias": np.zeros(3, np.float32),
    }
    net = tr.Linear(40, 3)
    if format_name != "float32":
        net = tr.quantize(net, format_name)
    if format_name == "int4":
        with pytest.raises(tr.WeightsError, match="got dtype int8, expected uint8 codes of int4"):
            net.load_state_dict(given)
        return
    net.load_state_dict(given)
    assert np.array_equal(net.weight, given["weight"] * given["weight_scale"][:, None])
    assert tr.Linear.from_state_dict(given).formats == {"Linear": "int8"}
    for wrong, words in (
        ({"weight": np.full((3, 40), -128, np.int8)}, "weight: holds the code -128"),
        ({"weight": np.ones((3, 40))}, "weight: got dtype float64, expected int8 codes"),
        ({"weight_scale": np.float32([1, np.nan, 1])}, "weight_scale: holds a number that is not finite"),
    ):
        with pytest.raises(tr.WeightsError, match=words):
            net.load_state_dict({**given, **wrong})


ODD = np.float32([[1 + 2**-20, 1], [1, 1], [1, 1]])
LINEAR = {"in_features": 40, "out_features": 3, "bias": True}


@pytest.mark.parametrize(
    "file_format, change, words",
    [
        ("int8", {"weight": np.full((3, 40), -128, np.int8)}, "holds the code -128"),
        ("int8", {"weight": np.zeros((3, 39), np.int8)}, "expected (3, 40) for int8"),
        ("int8", {"weight": np.zeros((3, 40), np.int16)}, "dtype int16, expected int8"),
        (
            "int8",
            {"weight_scale": np.full(3, np.inf, np.float32)},
            "weight_scale: holds a number that is not",
        ),
        ("int8", {"weight_scale": np.zeros(4, np.float32)}, "weight_scale: got shape (4,)"),
        ("int8", {"weight_scale": None, "weight": None}, "Missing key"),
        ("int8", {"more": np.zeros(3)}, "Unexpected key"),
        ("int4", {"weight": np.zeros((3, 40), np.uint8)}, "shape (3, 40), expected (3, 20) for int4"),
        ("int4", {"weight": np.zeros((3, 20), np.int8)}, "dtype int8, expected uint8"),
        ("int4", {"weight_scale": ODD}, "holds a number that bfloat16 lacks"),
        (
            "int4",
            {"weight_scale": np.zeros((3, 1), np.float32)},
            "weight_scale: got shape (3, 1), expected (3, 2)",
        ),
        ("float16", {"weight": np.full((3, 40), np.inf, np.float16)}, "weight holds inf"),
        ("float16", {"weight": np.full((3, 40), 1e6, np.float32)}, "beyond float16's range"),
        ("int8", ["int8", "int8"], "expected a list of 1"),
        ("int8", [], "expected a list of 1"),
        ("int8", "int8", "expected a list of 1"),
        ("int8", ["int7"], "format is 'int7', expected one of"),
        ("int8", [["int8"]], "expected one of"),
        ("int8", [None], "expected one of"),
        ("int8", ["int4"], "dtype int8, expected uint8"),
    ],
)
def test_load_of_a_hostile_file(file_format: str, change: Any, words: str, tmp_path: Path) -> None:
    smaller = tr.quantize(tr.Linear(40, 3), file_format)
    about = smaller._describe()
    stored = stored_of(smaller)
    if isinstance(change, dict):
        stored = {key: value for key, value in (stored | change).items() if value is not None}
    else:
        about["formats"] = change
    halves = {key for key, array in stored.items() if array.dtype == np.uint16}
    text = json.dumps({"version": 2, "net": about})
    path = tmp_path / "net.safetensors"
    save_safetensors(path, stored, {"tinyrnn": text}, bfloat16=halves)
    with pytest.raises(tr.LoadError) as info:
        tr.load(path)
    assert "net.safetensors" in str(info.value) and words in str(info.value)


def test_hostile_formats_of_layers_without_matrices(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for about in (
        {"type": "ReLU", "arguments": {}, "formats": ["int8"]},
        {"type": "Softmax", "arguments": {}, "formats": ["int8"]},
        {"type": "LayerNorm", "arguments": {"normalized_shape": 3}, "formats": ["int8"]},
        {
            "type": "LSTM",
            "arguments": {"input_size": 2, "hidden_size": 3, "num_layers": 2},
            "formats": ["int8"],
        },
        {"type": "Linear", "arguments": {**LINEAR, "in_features": 2**28}, "formats": ["int8"]},
        {
            "type": "Embedding",
            "arguments": {"num_embeddings": 2**28, "embedding_dim": 2**28},
            "formats": ["int4"],
        },
    ):
        save_safetensors(path, {}, {"tinyrnn": json.dumps({"version": 2, "net": about})})
        with pytest.raises(tr.LoadError, match="net.safetensors"):
            tr.load(path)


def test_a_version_to_come_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for version in (0, VERSION + 1, "2", None, [2]):
        about = {"version": version, "net": tr.Linear(40, 3)._describe()}
        save_safetensors(path, tr.Linear(40, 3).state_dict(), {"tinyrnn": json.dumps(about)})
        with pytest.raises(tr.LoadError, match=f"expected at most {VERSION}: update tinyrnn"):
            tr.load(path)


@pytest.mark.parametrize("name", INTEGERS)
def test_a_damaged_file_is_an_error_or_a_net(name: str, tmp_path: Path) -> None:
    """Bytes changed at random: a LoadError, or a net whose numbers are finite."""
    net = tr.Sequential({"table": tr.Embedding(20, 33), "rnn": tr.LSTM(33, 9, proj_size=4)})
    path = tmp_path / "net.safetensors"
    tr.quantize(net, name).save(path)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for i in range(400):
        damaged = bytearray(whole)
        at = generator.integers(8, header if i % 2 else len(whole))
        damaged[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            back = tr.load(path)
        except tr.LoadError:
            refused += 1
        else:
            state = back.state_dict()
            assert all(np.isfinite(value).all() for key, value in state.items() if "weight" in key)
    assert 50 < refused < 350


# ---- the command line ---------------------------------------------------------------------------


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = tr.Sequential({"rnn": tr.GRU(3, 40, 2), "head": tr.Linear(40, 4)})
    net.save("net.safetensors")
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    np.save("x.npy", x)
    assert (
        cli.main(["quantize", "net.safetensors", "small.safetensors", "--to", "int8", "--keep", "rnn.l1"])
        == 0
    )
    size = Path("small.safetensors").stat().st_size
    assert capsys.readouterr().out.splitlines() == [
        f"small.safetensors: {size:,} bytes",
        "  rnn.l0  int8",
        "  rnn.l1  float32",
        "  head    int8",
    ]
    small = tr.load("small.safetensors")
    assert codes_of(small) == codes_of(tr.quantize(net, "int8", keep=["rnn.l1"]))
    more = ["quantize", "net.safetensors", "four.safetensors", "--to", "int4", "--calibration", "x.npy"]
    assert cli.main(more) == 0
    out = capsys.readouterr().out
    four = tr.load("four.safetensors")
    assert codes_of(four) == codes_of(tr.quantize(net, "int4", x))
    assert out.endswith(f"{tr.drift(net, four, x)}\n")

    assert cli.main(["info", "four.safetensors"]) == 0
    out = capsys.readouterr().out
    assert f" {net.num_parameters:,} parameters, " in out
    assert "num_layers=2) [int4]\n" in out and "Linear(in_features=40, out_features=4) [int4]\n" in out
    assert f"weights {four.memory().weights:,}, " in out


@pytest.mark.parametrize(
    "argv, status, words",
    [
        (
            ["--to", "int9"],
            2,
            "--to: got 'int9', expected float16, bfloat16, int8, int4; did you mean 'int8'",
        ),
        ([], 2, "--to"),
        (["--to", "int8", "--keep", "rnn"], 1, "keep has 'rnn', expected names among l0"),
        (["--to", "int8", "--keep", "auto"], 2, "expected names of layers"),
        (["--to", "int8", "--calibration", "x.txt"], 2, "the suffix is .txt, expected one of .npy"),
        (["--to", "int8", "--calibration", "none.npy"], 1, "none.npy: No such file"),
        (["--to", "int8", "--calibration", "wide.npy"], 1, "wide.npy: got shape (5, 4), expected (T, 3)"),
    ],
)
def test_the_commands_errors(
    argv: list[str],
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tr.GRU(3, 4).save("net.safetensors")
    np.save("wide.npy", np.zeros((5, 4)))
    assert cli.main(["quantize", "net.safetensors", "out.safetensors", *argv]) == status
    assert words in capsys.readouterr().err and not Path("out.safetensors").exists()
