"""Calling layers and nets: inputs that fit, inputs that do not, and the messages for those."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- input that does not fit --------------------------------------------------------------------


@pytest.mark.parametrize("make", [tr.RNN, tr.LSTM, tr.GRU])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), r"input has shape \(3,\), expected \(T, 3\) or \(T, B, 3\)"),
        ((2, 2, 2, 3), r"input has shape \(2, 2, 2, 3\)"),
        ((), r"input has shape \(\)"),
        ((4, 5), r"got frames of shape \(5,\), expected \(3,\) = \(input_size,\)"),
        ((0, 3), r"input has shape \(0, 3\), expected at least one step"),
        ((0, 2, 3), r", 3\), expected at least one step"),
        ((0, 0, 3), r", 3\), expected at least one step"),
        ((4, 0), "got frames of shape"),
    ],
)
def test_shapes_that_a_recurrent_layer_refuses(
    make: type[tr.Net], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(tr.ShapeError, match=message):
        make(3, 4)(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "x",
    [np.zeros((2, 3), complex), np.full((2, 3), None), np.array([["a"] * 3] * 2), np.zeros((2, 3), "M8[s]")],
)
def test_dtypes_that_are_refused(x: np.ndarray) -> None:
    for net in (tr.LSTM(3, 4), tr.Linear(3, 4), tr.LSTMCell(3, 4), tr.ReLU(), tr.Softmax(-1)):
        with pytest.raises(TypeError, match="expected real numbers"):
            net(x)


def test_other_dtypes_and_layouts_are_converted() -> None:
    net = tr.LSTM(3, 4)
    x = np.arange(12).reshape(4, 3)
    expected, _ = net(x.astype(np.float32))
    wide = np.zeros((8, 6))
    wide[::2, ::2] = x
    for same in (x, x.tolist(), wide[::2, ::2], np.asfortranarray(x), x.astype(np.float16), x.astype(">f8")):
        assert np.array_equal(net(same)[0], expected)
    assert np.isinf(tr.ReLU()([1e300])).all()


def test_nan_is_allowed() -> None:
    x = normal(5, 2, 3)
    x[2, 0, 1] = np.nan
    y, (h, _) = tr.LSTM(3, 4)(x)
    assert np.isfinite(y[:2]).all() and np.isnan(y[2:, 0]).all() and np.isfinite(y[:, 1]).all()
    assert np.isnan(h[0, 0]).all()


def test_layers_without_memory_take_nothing_too() -> None:
    assert tr.Linear(3, 4)(np.zeros((0, 3))).shape == (0, 4)
    assert tr.Linear(3, 4)(np.zeros((2, 0, 3))).shape == (2, 0, 4)
    assert tr.Embedding(5, 4)(np.zeros((0,), int)).shape == (0, 4)
    assert tr.ReLU()(np.zeros((0,))).shape == (0,)
    assert tr.Conv1d(2, 3, 2)(np.zeros((0, 2, 5))).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([5, 6], ValueError, r"lengths\[1\] is 6, expected 1 .. 5"),
        ([0, 5], ValueError, r"lengths\[0\] is 0, expected 1 .. 5"),
        ([-1, 5], ValueError, r"lengths\[0\] is -1"),
        ([5], tr.ShapeError, r"lengths has shape \(1,\), expected \(2,\)"),
        ([[5, 5]], tr.ShapeError, "lengths has shape"),
        ([5.0, 5.0], TypeError, "dtype float64, expected integers"),
        (5, tr.ShapeError, r"lengths has shape \(\)"),
        ([2**40, 5], ValueError, r"lengths\[0\] is 1099511627776, expected 1 .. 5"),
    ],
)
def test_lengths_that_do_not_fit(lengths: object, error: type[Exception], message: str) -> None:
    for net in (tr.GRU(3, 4), tr.Sequential(tr.LSTM(3, 4), tr.Linear(4, 2))):
        with pytest.raises(error, match=message):
            net(normal(5, 2, 3), lengths=lengths)


def test_lengths_need_a_recurrent_layer() -> None:
    with pytest.raises(ValueError, match="no layer is recurrent"):
        tr.Linear(3, 4)(normal(5, 3), lengths=[5])


@pytest.mark.parametrize(
    ("hx", "error", "message"),
    [
        (np.zeros((1, 2, 4)), TypeError, r"expected \(h0, c0\)"),
        ((np.zeros((1, 2, 4)),), TypeError, r"expected \(h0, c0\)"),
        (
            (np.zeros((1, 2, 5)), np.zeros((1, 2, 4))),
            tr.ShapeError,
            r"h: got shape \(1, 2, 5\), expected \(1, 2, 4\)",
        ),
        (
            (np.zeros((1, 2, 4)), np.zeros((1, 3, 4))),
            tr.ShapeError,
            r"c: got shape \(1, 3, 4\), expected \(1, 2, 4\)",
        ),
        ((np.zeros((1, 4)), np.zeros((1, 4))), tr.ShapeError, "h: got shape"),
        ((np.zeros((1, 2, 4), complex), np.zeros((1, 2, 4))), TypeError, "h0: got dtype complex128"),
    ],
)
def test_initial_states_that_do_not_fit(hx: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tr.LSTM(3, 4)(normal(5, 2, 3), hx)


def test_unbatched_state_has_two_axes() -> None:
    gru = tr.GRU(3, 4, 2)
    y, h = gru(normal(5, 3), np.zeros((2, 4)))
    assert y.shape == (5, 4) and h.shape == (2, 4)
    with pytest.raises(tr.ShapeError, match="expected 2 axes for an unbatched input"):
        gru(normal(5, 3), np.zeros((2, 1, 4)))


def test_cells() -> None:
    cell = tr.LSTMCell(3, 4)
    h, c = cell(normal(2, 3))
    assert h.shape == c.shape == (2, 4)
    h, c = cell(normal(3), (h[0], c[0]))
    assert h.shape == c.shape == (4,)
    with pytest.raises(tr.ShapeError, match=r"input has shape \(5, 2, 3\)"):
        cell(normal(5, 2, 3))
    with pytest.raises(tr.ShapeError, match=r"the state has shape \(4,\), expected \(2, 4\)"):
        cell(normal(2, 3), (h, c))
    with pytest.raises(TypeError, match=r"expected \(h, c\)"):
        cell(normal(3), h)
    with pytest.raises(tr.ShapeError):
        tr.GRUCell(3, 4)(normal(2))


def test_embedding_refuses_other_numbers_than_indices() -> None:
    embedding = tr.Embedding(5, 4)
    with pytest.raises(IndexError, match=r"index 5 at \[1\] is out of range, expected 0 .. 4"):
        embedding([1, 5])
    with pytest.raises(IndexError, match="index -1"):
        embedding([[-1]])
    with pytest.raises(TypeError, match="expected integers"):
        embedding([1.0])
    assert embedding(3).shape == (4,)
    assert embedding([[1, 2]]).shape == (1, 2, 4)
    with pytest.raises(tr.ShapeError, match="make it the net's first layer"):
        tr.Sequential(tr.Linear(2, 2), embedding).stream()
    with pytest.raises(TypeError, match="expected integers"):
        tr.Sequential(tr.Linear(2, 2), embedding)(normal(2))


def test_conv1d_shapes() -> None:
    conv = tr.Conv1d(2, 3, 3, padding=1)
    assert conv(normal(2, 7)).shape == (3, 7)
    assert conv(normal(4, 2, 7)).shape == (4, 3, 7)
    with pytest.raises(tr.ShapeError, match=r"got frames of shape \(3, 7\), expected \(2, length\)"):
        conv(normal(4, 3, 7))
    with pytest.raises(tr.ShapeError, match="expected at least 9, the kernel's"):
        tr.Conv1d(2, 3, 5, dilation=2)(normal(2, 8))
    with pytest.raises(tr.ShapeError, match="padding is 4, expected less than the length, 4"):
        tr.Conv1d(2, 3, 3, padding=4, padding_mode="reflect")(normal(2, 4))


def test_flatten_keeps_time_and_batch_apart() -> None:
    assert tr.Flatten()(normal(2, 3, 4)).shape == (2, 12)
    assert tr.Flatten(0, 1)(normal(2, 3, 4)).shape == (6, 4)
    assert tr.Flatten().stream(frame=(4,)).step(normal(4)).shape == (4,)
    assert tr.Flatten(2).stream(frame=(3, 4)).step(normal(3, 4)).shape == (3, 4)
    with pytest.raises(tr.ShapeError, match="into time or batch"):
        tr.Sequential(tr.LSTM(3, 4), tr.Flatten())(normal(5, 2, 3))


def test_softmax_axes() -> None:
    x = normal(2, 3, 4)
    for dim in (0, 1, 2, -1, -2, -3):
        np.testing.assert_allclose(tr.Softmax(dim)(x).sum(dim), 1, atol=1e-6)
        np.testing.assert_allclose(np.exp(tr.LogSoftmax(dim)(x)).sum(dim), 1, atol=1e-6)
    with pytest.raises(tr.ShapeError, match="dim is 3, expected an axis of 3"):
        tr.Softmax(3)(x)
    with pytest.raises(tr.ShapeError, match="is time or batch"):
        tr.Sequential(tr.LSTM(4, 4), tr.Softmax(1))(x)
    assert tr.Sequential(tr.LSTM(4, 4), tr.Softmax(1))(x[0]).shape == (3, 4)


# ---- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tr.LSTM(0, 4), ValueError, "LSTM: input_size is 0, expected 1"),
        (lambda: tr.LSTM(3, -1), ValueError, "LSTM: hidden_size is -1"),
        (lambda: tr.LSTM(3, 2.0), TypeError, "LSTM: hidden_size is 2.0, expected an integer"),
        (lambda: tr.LSTM(3, 4, 0), ValueError, "num_layers is 0"),
        (lambda: tr.LSTM(3, 4, 10**9), ValueError, "num_layers is 1000000000"),
        (lambda: tr.LSTM(3, 4, proj_size=4), ValueError, "proj_size is 4, expected less than hidden_size, 4"),
        (lambda: tr.LSTM(3, 4, bias=1), TypeError, "bias is 1, expected True or False"),
        (
            lambda: tr.GRU(3, 4, dropout=1.5),
            ValueError,
            r"dropout is 1.5, expected a finite number in 0.0 .. 1.0",
        ),
        (lambda: tr.RNN(3, 4, 1, "gelu"), ValueError, "nonlinearity is 'gelu', expected one of sigmoid"),
        (lambda: tr.LSTM(2**28, 2**28), ValueError, "too large"),
        (
            lambda: tr.Conv1d(3, 4, 2, groups=2),
            ValueError,
            "in_channels is 3, expected a multiple of groups, 2",
        ),
        (lambda: tr.Conv1d(3, 4, 2, padding_mode="circular"), ValueError, "padding_mode is 'circular'"),
        (lambda: tr.Conv1d(3, 4, 2, padding="some"), ValueError, "padding is 'some'"),
        (lambda: tr.Conv1d(3, 4, 2, stride=2, padding="same"), ValueError, "stride is 2, expected 1"),
        (lambda: tr.LayerNorm((2, 3, 4)), ValueError, "expected one or two sizes"),
        (lambda: tr.LayerNorm(3, eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: tr.LayerNorm(3, eps=float("nan")), ValueError, "eps is nan"),
        (lambda: tr.BatchNorm1d(3, track_running_stats=False), ValueError, "inference needs them"),
        (lambda: tr.Dropout(2.0), ValueError, "p is 2.0"),
        (lambda: tr.Flatten(1.7), TypeError, "start_dim is 1.7, expected an integer"),
        (lambda: tr.Softmax(1.5), TypeError, "dim is 1.5, expected an integer"),
        (lambda: tr.Softmax(10**30), ValueError, "dim is 1000"),
        (lambda: tr.Embedding(5, 3, "a"), TypeError, "padding_idx is 'a', expected an integer"),
        (lambda: tr.Embedding(5, 3, 5), ValueError, "padding_idx is 5, expected -5 .. 4"),
        (
            lambda: tr.LayerNorm((2**20, 2**20)),
            ValueError,
            "the product of normalized_shape is 1099511627776",
        ),
        (lambda: tr.Sequential(), ValueError, "no layers"),
        (lambda: tr.Sequential(tr.ReLU(), None), TypeError, "layer '1' is NoneType"),
        (lambda: tr.Sequential({"a.b": tr.ReLU()}), ValueError, "without dots"),
    ],
)
def test_arguments_that_are_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises((error, OverflowError), match=message):
        make()  # type: ignore[operator]


# ---- nets ---------------------------------------------------------------------------------------


def test_sequential_is_a_list_with_names() -> None:
    net = tr.Sequential(OrderedDict(lstm=tr.LSTM(3, 4), head=tr.Linear(4, 2)))
    assert len(net) == 2 and [type(layer) for layer in net] == [tr.LSTM, tr.Linear]
    assert net["head"] is net[1] is net.head is net[-1]
    assert list(net.state_dict())[-1] == "head.bias"
    with pytest.raises(AttributeError, match="no layer 'tail'"):
        net.tail  # noqa: B018
    assert net[:1] == [net.lstm]
    for which in (2, -3):
        with pytest.raises(IndexError, match=rf"^Sequential: got layer {which}, expected -2 \.\. 1$"):
            net[which]
    with pytest.raises(
        KeyError, match="Sequential: got layer 'haed', expected one of 'lstm', 'head'; .*'head'"
    ):
        net["haed"]
    with pytest.raises(TypeError, match="Sequential: got layer 1.0, expected a name, an integer or a slice"):
        net[1.0]
    assert "(head): Linear(in_features=4, out_features=2, bias=True)" in repr(net)


def test_nets_share_layers() -> None:
    encoder = tr.LSTM(3, 4)
    one, two = tr.Sequential(encoder, tr.Linear(4, 2)), tr.Sequential(encoder, tr.Linear(4, 5))
    zeros = {name: np.zeros_like(value) for name, value in encoder.state_dict().items()}
    one[0].load_state_dict(zeros)
    assert not two[0](normal(5, 3))[0].any()


def test_sequential_is_its_layers_in_turn() -> None:
    lstm, head = tr.LSTM(3, 4, 2, bidirectional=True), tr.Linear(8, 2)
    x = normal(70, 5, 3)
    y, _ = lstm(x)
    assert np.array_equal(tr.Sequential(lstm, tr.Dropout(), head, tr.Tanh())(x), tr.Tanh()(head(y)))


def test_batch_first() -> None:
    tr.manual_seed(0)
    first = tr.LSTM(3, 4, batch_first=True)
    second = tr.LSTM(3, 4)
    second.load_state_dict(first.state_dict())
    x = normal(5, 7, 3)
    (y, (h, _)), (y2, (h2, _)) = first(x), second(x.swapaxes(0, 1))
    assert np.array_equal(y, y2.swapaxes(0, 1)) and np.array_equal(h, h2)
    assert np.array_equal(tr.Sequential(first)(x), y)
    with pytest.raises(ValueError, match="batch_first is not the same"):
        tr.Sequential(first, tr.GRU(4, 2))(x)


def test_parameters_are_read_as_attributes() -> None:
    lstm = tr.LSTM(3, 4)
    assert lstm.weight_ih_l0.shape == (16, 3)
    with pytest.raises(ValueError, match="read-only"):
        lstm.weight_ih_l0[:] = 0
    with pytest.raises(AttributeError, match="no attribute 'weight_ih_l1'"):
        lstm.weight_ih_l1  # noqa: B018
    assert lstm.num_parameters == 4 * 4 * (3 + 4 + 2)


def test_initial_weights_follow_the_seed() -> None:
    def weights() -> list[np.ndarray]:
        tr.manual_seed(3)
        return [array for net in (tr.GRU(3, 16), tr.Conv1d(2, 4, 3)) for array in net.state_dict().values()]

    first, second = weights(), weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(0 < np.abs(array).max() <= 0.5 for array in first)
    assert tr.LayerNorm(3).weight.tolist() == [1, 1, 1] and not tr.LayerNorm(3).bias.any()
    assert tr.BatchNorm1d(3).running_var.tolist() == [1, 1, 1]
    assert tr.Dropout()(normal(3)).tolist() == normal(3).tolist()


def test_an_initial_state_in_second_place_is_answered() -> None:
    state = (np.zeros((1, 2, 4)), np.zeros((1, 2, 4)))
    net = tr.Sequential({"lstm": tr.LSTM(3, 4), "gru": tr.GRU(4, 4)})
    wanted = r'^Sequential: .* state=\{"lstm.h": h0, "lstm.c": c0, "gru.h": h0\}$'
    for mode in (False, True):
        with pytest.raises(TypeError, match=wanted):
            net.train(mode)(normal(5, 2, 3), state)
        for layer in (tr.Linear(3, 4), tr.Softmax(), tr.Flatten(), tr.ReLU(), tr.Sequential(tr.Linear(3, 4))):
            with pytest.raises(TypeError, match="got a second argument, expected the input alone"):
                layer.train(mode)(normal(5, 3), state)


@pytest.mark.parametrize("kind", [tr.RNN, tr.LSTM, tr.GRU])
def test_dropout_without_levels_warns(kind: Any) -> None:
    with pytest.warns(UserWarning, match=f"{kind.__name__}: dropout is 0.5 with num_layers=1") as caught:
        net = kind(3, 4, dropout=0.5)
    assert caught[0].filename == __file__
    kind(3, 4, 2, dropout=0.5)
    kind(3, 4, 1, dropout=0)
    for twin in (copy.copy(net), pickle.loads(pickle.dumps(net)), tr.quantize(net, "float16")):
        assert twin.dropout == 0.5  # and no second warning


@pytest.mark.parametrize("multiplier", [1, 5, 15])
def test_small_groups_of_a_convolution_are_kept_without_padding(multiplier: int) -> None:
    """A depthwise convolution took 16 times its weights, as each group was padded to a panel of 16."""
    conv = tr.Conv1d(12, 12 * multiplier, 3, groups=12)
    assert conv.memory(frame=(12, 9)).weights <= 4 * conv.num_parameters + 2 * 64
    for format, bytes_of_a_row in (("float16", 18), ("int8", 4 + 12), ("int4", 18)):
        smaller = tr.quantize(conv, format)
        rows = 12 * multiplier
        assert smaller.memory(frame=(12, 9)).weights <= rows * (bytes_of_a_row + 4) + 2 * 64


@pytest.mark.parametrize("multiplier", [1, 5, 15, 16, 17])
@pytest.mark.parametrize("threads", [1, 3])
def test_groups_of_a_convolution_are_convolutions(multiplier: int, threads: int) -> None:
    """Each group has the bits of a convolution of its own, forwards and backwards, however it is kept."""
    whole = tr.Conv1d(6, 3 * multiplier, 3, groups=3, padding=1)
    x, dy = normal(4, 6, 7), normal(4, 3 * multiplier, 7)
    y = whole(x, threads=threads)
    whole.train()
    for _ in range(2):  # gradients are added to
        whole(x, threads=threads)
        dx = whole.backward(dy)
    for group in range(3):
        rows, columns = slice(group * multiplier, (group + 1) * multiplier), slice(2 * group, 2 * group + 2)
        one = tr.Conv1d(2, multiplier, 3, padding=1)
        one.load_state_dict({name: value[rows] for name, value in whole.state_dict().items()})
        assert np.array_equal(one(x[:, columns]), y[:, rows])
        one.train()
        for _ in range(2):
            one(x[:, columns])
            assert np.array_equal(one.backward(dy[:, rows]), dx[:, columns])
        for name, gradient in one.grad_dict().items():
            assert np.array_equal(gradient, whole.grad_dict()[name][rows]), name


# ---- arguments of core layers ----------------------------------------------------------------------


def test_a_core_layer_tells_its_arguments() -> None:
    core = tr.BatchNorm1d(3, eps=1e-3, momentum=0.2)._core_layer
    assert core.arguments == ("size", "affine", "bias", "eps", "momentum", "use_running_stats", "groups")
    told = {name: core.argument(name) for name in core.arguments}
    assert told == {
        "size": 3,
        "affine": 1,
        "bias": 1,
        "eps": 1e-3,
        "momentum": 0.2,
        "use_running_stats": 0,
        "groups": 0,
    }
    assert tr.ReLU()._core_layer.arguments == ()
    assert tr.LSTM(3, 4)._levels[0].argument("hidden_size") == 4


def test_arguments_that_a_core_layer_does_not_have() -> None:
    with pytest.raises(
        TypeError, match="linear: got an unexpected argument 'size', expected in_features, out_features"
    ):
        _core.Layer("linear", size=3)
    with pytest.raises(TypeError, match="relu: got an unexpected argument 'slope', expected none"):
        _core.Layer("relu", slope=0.5)
    core = tr.Linear(2, 3)._core_layer
    with pytest.raises(TypeError, match="linear: got an unexpected argument 'eps'"):
        core.argument("eps")
    with pytest.raises(TypeError, match="linear: in_features is fixed once the layer is made"):
        core.set_argument("in_features", 5)
    norm = tr.LayerNorm(3)._core_layer
    with pytest.raises(ValueError, match="layer_norm: eps: a layer's argument is out of range"):
        norm.set_argument("eps", -1.0)
    with pytest.raises(TypeError):
        norm.set_argument("eps", "small")
    assert norm.argument("eps") == 1e-5
    with pytest.raises(OverflowError):
        _core.Layer("linear", in_features=1 << 40, out_features=1)


def test_a_live_argument_reaches_what_is_laid_out() -> None:
    """Plans of calls, streams in use, shared ones too, and tapes: each at its next run."""
    net = tr.Sequential(tr.Linear(3, 4), tr.LeakyReLU(0.5))
    core = net[1]._core_layer
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    stream, shared = net.stream(batch=4), net.stream(batch=4, threads=2)
    linear = net[0](x)
    for slope in (0.5, 0.25, 2.0):
        core.set_argument("slope", slope)
        wanted = np.where(linear > 0, linear, linear * np.float32(slope))
        assert np.array_equal(net(x), wanted)
        assert np.array_equal(stream.step(x), wanted)
        assert np.array_equal(shared.step(x), wanted)
        net.train()
        assert np.array_equal(net(x), wanted)
        net.eval()


def test_a_live_argument_reaches_a_trainer() -> None:
    """One that trains with another argument in place of its own keeps that one."""
    net = tr.Sequential(tr.Linear(2, 3), tr.BatchNorm1d(3), tr.Dropout(0.0))
    norm, dropout = net[1]._core_layer, net[2]._core_layer
    x, y = np.random.default_rng(1).standard_normal((2, 8, 2)).astype(np.float32)
    y = np.zeros((8, 3), np.float32)
    trainer = net.trainer(batch=8, loss=tr.MSELoss(), optimizer=tr.optim.SGD(net, lr=0.0))
    trainer.step(x, y)
    before = net.state_dict()["1.running_mean"]
    norm.set_argument("momentum", 1.0)
    dropout.set_argument("p", 1.0)
    assert trainer.step(x, y) == 0.0  # everything is dropped
    batch = net[0](x)
    np.testing.assert_allclose(net.state_dict()["1.running_mean"], batch.mean(0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(net.state_dict()["1.running_mean"], before)

    net.train()
    net[1].eval()
    net[2].eval()
    net(x)
    norm.set_argument("eps", 4.0)
    dropout.set_argument("p", 0.5)
    state = net.state_dict()
    wanted = (batch - state["1.running_mean"]) / np.sqrt(state["1.running_var"] + 4.0)
    np.testing.assert_allclose(net(x), wanted * state["1.weight"] + state["1.bias"], rtol=1e-5, atol=1e-6)
