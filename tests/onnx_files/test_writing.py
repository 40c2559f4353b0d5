"""`Net.to_onnx`: files that ONNX Runtime runs, and that tinyrnn reads back, to the same numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from folders import DOCS
from graph_nets import inputs_of_three, net_of_three, residual
from onnx_files import close

import tinyrnn as tr
from tinyrnn.contract import Module
from tinyrnn.onnx.layer_nodes import WRITERS

T, B = 7, 3


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def session(path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def outputs(found, *inputs, **states):
    ports = [port.name for port in found.get_inputs()]
    given = dict(zip(ports, inputs, strict=False)) | states
    names = [port.name for port in found.get_outputs()]
    return dict(zip(names, found.run(None, given), strict=True))


def checked(net, x, path, **options):
    """Compare the file with the net in ONNX Runtime, without states."""
    net.eval()
    net.to_onnx(path, states=False, **options)
    (got,) = outputs(session(path), x).values()
    expected = net(x)
    assert got.shape == expected.shape
    close(got, expected)


def tripled(net):
    """Other weights than those of a new net, so that nothing is zero or one."""
    rng = np.random.default_rng(4)
    state = {
        name: array if array.dtype.kind != "f" else (rng.uniform(0.2, 0.9, array.shape)).astype(np.float32)
        for name, array in net.state_dict().items()
    }
    net.load_state_dict(state)
    return net


CELLS = {
    "lstm": lambda: tr.LSTM(4, 5),
    "stacked": lambda: tr.LSTM(4, 5, num_layers=3),
    "both": lambda: tr.LSTM(4, 5, num_layers=2, bidirectional=True),
    "batch first": lambda: tr.LSTM(4, 5, batch_first=True),
    "no bias": lambda: tr.LSTM(4, 5, bias=False),
    "peephole": lambda: tr.LSTM(4, 5, peephole=True),
    "coupled": lambda: tr.LSTM(4, 5, coupled=True),
    "peephole and coupled": lambda: tr.LSTM(4, 5, peephole=True, coupled=True, bidirectional=True),
    "functions": lambda: tr.LSTM(
        4, 5, activation=("elu", 0.7), recurrent_activation="hard_sigmoid", output_activation="softsign"
    ),
    "clip": lambda: tr.LSTM(4, 5, clip=0.3),
    "gru": lambda: tr.GRU(4, 5, num_layers=2),
    "reset before": lambda: tr.GRU(4, 5, reset_after=False, bidirectional=True),
    "gru functions": lambda: tr.GRU(
        4, 5, activation=("leaky_relu", 0.2), recurrent_activation=("hard_sigmoid", 0.3, 0.4), clip=0.8
    ),
    "rnn": lambda: tr.RNN(4, 5, num_layers=2),
    "relu": lambda: tr.RNN(4, 5, nonlinearity="relu", bidirectional=True),
    "two functions": lambda: tr.RNN(
        4, 5, nonlinearity=("tanh", ("scaled_tanh", 0.7, 1.2)), bidirectional=True
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_layers(name, tmp_path):
    net = CELLS[name]().eval()
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    x = numbers(T, B, 4)
    x = np.swapaxes(x, 0, 1).copy() if net.batch_first else x
    state = {key: numbers(*array.shape, seed=i) for i, (key, array) in enumerate(_states(net, B).items())}
    found = outputs(session(path), x, **state)
    expected = net(x, tuple(state.values()) if len(state) > 1 else state["h"])[0]
    close(found["y"], expected)
    for name, array in net.last_state.items():
        close(found[f"{name}N"], array)
    again = tr.load(path)
    y = again(np.swapaxes(x, 0, 1) if net.batch_first else x)
    own = net(x)[0]
    close(np.swapaxes(y, 0, 1) if net.batch_first and y.shape != own.shape else y, own)
    checked_whole = tmp_path / "whole.onnx"
    net.to_onnx(checked_whole, states=False)
    close(outputs(session(checked_whole), x)["y"], own)


def _states(net, batch):
    rows = net.num_layers * (2 if net.bidirectional else 1)
    names = ("h", "c") if isinstance(net, tr.LSTM) else ("h",)
    return {name: np.zeros((rows, batch, net.hidden_size), np.float32) for name in names}


def test_chunks_go_on_with_the_states(tmp_path):
    net = tr.Sequential(tr.GRU(4, 6, num_layers=2), tr.Linear(6, 2)).eval()
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    found, x = session(path), numbers(T, B, 4)
    state = {"0.h": np.zeros((2, B, 6), np.float32)}
    parts = []
    for chunk in (x[:2], x[2:3], x[3:]):
        one = outputs(found, chunk, **state)
        parts.append(one["y"])
        state = {"0.h": one["0.hN"]}
    close(np.concatenate(parts), net(x))
    again = tr.load(path)
    assert len(again.stream(1).state) == 2  # a layer for each level
    close(again(x), net(x))


FRAMES = {
    "Conv1d": (lambda: tr.Conv1d(4, 6, 3, 2, 1, groups=2), (4, 9)),
    "Conv1d reflect": (lambda: tr.Conv1d(4, 6, 3, padding=2, padding_mode="reflect"), (4, 9)),
    "Conv2d": (lambda: tr.Conv2d(2, 3, 3, padding=1, dilation=1, stride=(1, 2)), (2, 5, 6)),
    "ConvTranspose1d": (lambda: tr.ConvTranspose1d(4, 3, 4, 2, 1, output_padding=1), (4, 5)),
    "LayerNorm": (lambda: tr.LayerNorm((4, 6)), (4, 6)),
    "LayerNorm plain": (lambda: tr.LayerNorm(6, elementwise_affine=False), (6,)),
    "BatchNorm1d": (lambda: tr.BatchNorm1d(4), (4, 6)),
    "BatchNorm2d": (lambda: tr.BatchNorm2d(2), (2, 3, 4)),
    "GroupNorm": (lambda: tr.GroupNorm(2, 4), (4, 6)),
    "InstanceNorm1d": (lambda: tr.InstanceNorm1d(4, affine=True), (4, 6)),
    "InstanceNorm2d": (lambda: tr.InstanceNorm2d(2), (2, 3, 4)),
    "Linear": (lambda: tr.Linear(6, 3, bias=False), (6,)),
    "Dropout": (lambda: tr.Dropout(), (6,)),
    "Softmax": (lambda: tr.Softmax(-1), (6,)),
    "LogSoftmax": (lambda: tr.LogSoftmax(-1), (6,)),
    "PReLU": (lambda: tr.PReLU(4), (4, 6)),
    "LeakyReLU": (lambda: tr.LeakyReLU(0.2), (6,)),
    "ELU": (lambda: tr.ELU(0.7), (6,)),
    "CELU": (lambda: tr.CELU(0.7), (6,)),
    "GELU": (lambda: tr.GELU(), (6,)),
    "GELU tanh": (lambda: tr.GELU("tanh"), (6,)),
    "Softplus": (lambda: tr.Softplus(2.0, 1.0), (6,)),
    "Hardtanh": (lambda: tr.Hardtanh(-0.3, 0.4), (6,)),
    "Clip": (lambda: tr.Clip(max=0.4), (6,)),
    "Power": (lambda: tr.Sequential(tr.Abs(), tr.Power(1.5)), (6,)),
    "Scale": (lambda: tr.Scale(0.5, -2.0), (6,)),
    "Log": (lambda: tr.Sequential(tr.Abs(), tr.Log()), (6,)),
    "Sqrt": (lambda: tr.Sequential(tr.Abs(), tr.Sqrt()), (6,)),
    "Reshape": (lambda: tr.Reshape((3, 8)), (4, 6)),
    "Flatten": (lambda: tr.Flatten(), (4, 6)),
    "Unflatten": (lambda: tr.Unflatten(-1, (2, 3)), (6,)),
    "Permute": (lambda: tr.Permute((-1, -2)), (4, 6)),
    "Pad": (lambda: tr.Pad((1, 2, 0, 1), value=0.5), (4, 6)),
    "Pad reflect": (lambda: tr.Pad((1, 2), "reflect"), (4, 6)),
    "Std": (lambda: tr.Std(-1, keepdim=True), (4, 6)),
    "Var": (lambda: tr.Var(), (4, 6)),
    "Slice": (lambda: tr.Slice(1, 2, -2), (4, 6)),
    "MaxPool1d": (lambda: tr.MaxPool1d(3, 2, 1), (4, 9)),
    "MaxPool2d": (lambda: tr.MaxPool2d(2), (2, 5, 6)),
    "AvgPool1d": (lambda: tr.AvgPool1d(3, 2, 1, count_include_pad=False), (4, 9)),
    "AvgPool2d": (lambda: tr.AvgPool2d((2, 3)), (2, 5, 6)),
    "AdaptiveAvgPool1d": (lambda: tr.AdaptiveAvgPool1d(3), (4, 9)),
    "AdaptiveAvgPool2d": (lambda: tr.AdaptiveAvgPool2d(1), (2, 4, 6)),
    "AdaptiveMaxPool1d": (lambda: tr.AdaptiveMaxPool1d(3), (4, 9)),
    "AdaptiveMaxPool2d": (lambda: tr.AdaptiveMaxPool2d((2, 3)), (2, 4, 6)),
}
_PLAIN = ["ReLU", "Sigmoid", "Tanh", "SELU", "SiLU", "Mish", "LogSigmoid", "Softsign", "Tanhshrink"]
_PLAIN += ["Hardsigmoid", "Hardswish", "ReLU6", "Exp", "Abs", "Sign", "Neg", "Reciprocal"]
for _kind in ("Sum", "Mean", "Amax", "Amin", "Prod", "VectorNorm", "LogSumExp"):
    FRAMES[_kind] = (lambda kind=_kind: getattr(tr, kind)(-2), (4, 6))
for _kind in [
    "ReLU",
    "Sigmoid",
    "Tanh",
    "SELU",
    "SiLU",
    "Mish",
    "LogSigmoid",
    "Softsign",
    "Tanhshrink",
    "Hardsigmoid",
    "Hardswish",
    "ReLU6",
    "Exp",
    "Abs",
    "Sign",
    "Neg",
    "Reciprocal",
]:
    FRAMES[_kind] = (lambda kind=_kind: getattr(tr, kind)(), (6,))

# Layers of several values and over time, after an LSTM of 6 or beside an input of 6.
GRAPHS = {
    "Add": lambda x, h: x + h,
    "Subtract": lambda x, h: x - h,
    "Multiply": lambda x, h: x * h,
    "Divide": lambda x, h: h / (abs(x) + 1.0),
    "Minimum": tr.minimum,
    "Maximum": tr.maximum,
    "Pow": lambda x, h: (abs(x) + 0.5) ** h,
    "Equal": lambda x, h: tr.eq(x, h),
    "NotEqual": lambda x, h: tr.ne(x, h),
    "Less": lambda x, h: x < h,
    "LessEqual": lambda x, h: x <= h,
    "Greater": lambda x, h: x > h,
    "GreaterEqual": lambda x, h: x >= h,
    "Where": lambda x, h: tr.where(x > h, x, 0.5),
    "Constant": lambda x, h: tr.where(x > 0.0, 2.0, h),
    "Matmul": lambda x, h: tr.matmul(x.reshape(2, 3), h.reshape(3, 2)),
    "Concat": lambda x, h: tr.concat([x, h]),
    "Delay": lambda x, h: tr.Delay(6, 2)(x) + h,
    "LastStep": lambda x, h: tr.LastStep()(h),
    "SumOverTime": lambda x, h: tr.SumOverTime()(h),
    "MeanOverTime": lambda x, h: tr.MeanOverTime()(h),
    "MaxOverTime": lambda x, h: tr.MaxOverTime()(h),
    "FinalState": lambda x, h: tr.FinalState("c")(h),
    "Repeat": lambda x, h: tr.Repeat()(tr.LastStep()(h), x),
    "TimeConv1d": lambda x, h: tr.TimeConv1d(6, 4, 3, dilation=2, groups=2)(h),
    "per sequence": lambda x, h: x * tr.LastStep()(h),
    "begins": lambda x, h: tr.LSTM(6, 6)(x, (tr.FinalState("h")(h), tr.FinalState("c")(h))),
}


@pytest.mark.parametrize("name", FRAMES)
def test_layers_of_frames(name, tmp_path):
    make, frame = FRAMES[name]
    tr.manual_seed(1)
    net = tripled(make())
    if name not in ("Var", "Reshape", "Slice"):  # alone, they take (T, B, frame) for a frame of two axes
        checked(net, numbers(B, *frame), tmp_path / "rows.onnx", frame=frame)
    x = tr.Input(*frame)
    checked(tr.Net(x, net(x)), numbers(T, B, *frame), tmp_path / "steps.onnx")


@pytest.mark.parametrize("name", GRAPHS)
def test_layers_of_graphs(name, tmp_path):
    tr.manual_seed(2)
    x = tr.Input(6)
    net = tr.Net(x, GRAPHS[name](x, tr.LSTM(6, 6)(x)))
    checked(net, numbers(T, B, 6), tmp_path / "net.onnx")


def test_no_writer_is_left_out():
    tested = {name.split()[0] for name in [*FRAMES, *GRAPHS]} | {"Embedding"}
    assert not WRITERS.keys() - tested
    assert WRITERS.keys() <= Module.types.keys()


def test_nets_of_several_inputs(tmp_path):
    net, given = net_of_three().eval(), inputs_of_three(T, B)
    net.to_onnx(tmp_path / "net.onnx", states=False)
    found = outputs(session(tmp_path / "net.onnx"), *given)
    for name, array in net(*given).items():
        close(found[name], array)


def test_a_graph_without_recurrent_layers_comes_back(tmp_path):
    """Its axis is time by its name alone, beside an input that is one for the sequence."""
    x, z = tr.Input(4, name="x"), tr.Input(4, time=None, name="z")
    net = tr.Net([x, z], x * z)
    net.to_onnx(tmp_path / "net.onnx")
    given = {"x": numbers(T, B, 4), "z": numbers(B, 4, seed=1)}
    assert np.array_equal(tr.load(tmp_path / "net.onnx")(given), net(given))


@pytest.mark.parametrize("mixed", [False, True])
def test_an_axis_of_time_that_no_layer_goes_over_comes_back(mixed, tmp_path):
    x, z = tr.Input(4, name="x"), tr.Input(3, time="other", name="z")
    h = tr.LSTM(4, 3)(x)
    net = tr.Net([x, z], tr.Tanh()(z) + tr.LastStep()(h) if mixed else [h, tr.Linear(3, 2)(z)])
    net.to_onnx(tmp_path / "net.onnx", states=False)
    given = {"x": numbers(T, B, 4), "z": numbers(T + 3, B, 3, seed=1)}
    found, wanted = tr.load(tmp_path / "net.onnx")(given), net(given)
    for one, other in [(found, wanted)] if mixed else zip(found, wanted, strict=True):
        close(one, other)


def test_names_of_a_file_differ(tmp_path):
    x, s = numbers(T, B, 3), numbers(B, 3, seed=1)
    a, b = tr.Input(3), tr.Input(3, time=None)
    net = tr.Net([a, b], [tr.Tanh()(a), tr.Linear(3, 2)(b)])  # inputs and outputs are 0 and 1
    net.to_onnx(tmp_path / "m.onnx", states=False)
    got = outputs(session(tmp_path / "m.onnx"), x, s)
    assert list(got) == ["0_out", "1_out"]
    for found, wanted in zip(got.values(), net(x, s), strict=True):
        close(found, wanted)
    y = tr.Input(3, name="y")
    net = tr.Net(y, tr.GRU(3, 4)(y))
    net.to_onnx(tmp_path / "m.onnx")
    assert list(outputs(session(tmp_path / "m.onnx"), x, **{"gru.h": numbers(1, B, 4)})) == [
        "y_out",
        "gru.hN",
    ]
    h = tr.Input(3, name="gru.h")
    net = tr.Net(h, tr.GRU(3, 4)(h))
    with pytest.raises(
        ValueError, match="input 'gru.h', the name of a state, .*: name it otherwise, or give states=False"
    ):
        net.to_onnx(tmp_path / "m.onnx")
    checked(net, x, tmp_path / "m.onnx")


@pytest.mark.parametrize("format", ["int8", "int4", "bfloat16"])
def test_smaller_formats_are_written_as_their_numbers(format, tmp_path):
    net = tr.quantize(tr.Sequential(tr.LSTM(8, 16), tr.Linear(16, 4)).eval(), format)
    net.to_onnx(tmp_path / "net.onnx", states=False)
    found = tr.load(tmp_path / "net.onnx")
    plain = tr.Sequential(tr.LSTM(8, 16), tr.Linear(16, 4)).eval()
    plain.load_state_dict({name: np.array(a) for name, a in net.state_dict().items()})
    close(found(numbers(T, B, 8)), plain(numbers(T, B, 8)))


def test_an_initial_state_of_the_net_is_in_the_file(tmp_path):
    net = residual().eval()
    net.initial_state = {"rnn.h": numbers(1, 16), "rnn.c": numbers(1, 16, seed=1)}
    checked(net, numbers(T, B, 8), tmp_path / "net.onnx")


def masked(layer):
    x, mask = tr.Input(4), tr.Input(1)
    return tr.Net([x, mask], layer(x, mask=mask).named("0"))


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (lambda: tr.Sequential(tr.Linear(4, 4), tr.MinGRU(4, 4)), "layer '1' .MinGRU."),
        (lambda: tr.LSTM(4, 4, proj_size=2), "LSTM: cannot write proj_size"),
        (lambda: tr.GRU(4, 4, layer_norm=True), "layer_norm"),
        (lambda: tr.LSTM(4, 4, cell_clip=1.0), "LSTM: cannot write cell_clip"),
        (lambda: masked(tr.GRU(4, 4)), r"layer '0' \(GRU\): cannot write a mask"),
        (lambda: masked(tr.MeanOverTime()), r"layer '0' \(MeanOverTime\): cannot write a mask"),
        (lambda: tr.TimeConv1d(4, 4, 2), "states=False"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_the_file(net, text, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=text):
        net().eval().to_onnx(path)
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]


def test_the_page_lists_what_is_written():
    page = (DOCS / "onnx.md").read_text()
    listed = re.search(r"<!-- written -->(.*?)<!-- end -->", page, re.S)
    cells = {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "FinalState"}
    assert listed and set(re.findall(r"`(\w+)`", listed[1])) == WRITERS.keys() | cells


@pytest.mark.parametrize("make", [tr.LSTMCell, tr.GRUCell, tr.RNNCell])
def test_cells_are_layers_of_one_level(make, tmp_path):
    checked(tr.Sequential(make(4, 5)), numbers(T, B, 4), tmp_path / "net.onnx")
