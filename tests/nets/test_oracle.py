"""tinyrnn against the float64 oracle, on every instruction set, at sizes around every width it works in."""

import numpy as np
import oracle
import pytest
from elementwise_cases import ELEMENTWISE, POSITIVE

import tinyrnn as tr

SIZES = (1, 15, 16, 17, 31, 33, 63, 64, 65, 80, 128, 130)
TOLERANCE = 1e-5


@pytest.fixture(params=tr.available_isas(), autouse=True)
def isa(request):
    tr.set_isa(request.param)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def build(rng, layer, **arguments):
    """A layer with random weights: PyTorch's initial ones, or normal ones where those are all alike."""
    tr.manual_seed(int(rng.integers(2**31)))
    net = getattr(tr, layer)(**arguments)
    if "Norm" in layer:
        tensors = {name: normal(rng, *value.shape) for name, value in net.state_dict().items()}
        if "running_var" in tensors:
            tensors["running_var"] = rng.uniform(0.5, 2, tensors["running_var"].shape)
            tensors["num_batches_tracked"] = np.array(7)
        net.load_state_dict(tensors)
    return net


def check(net, x, *more, **options):
    """Whatever ``net`` gives, the oracle gives too."""
    got = net(x, *more, **options)
    want = oracle.run(type(net).__name__, net.config(), net.state_dict(), x, *more, **options)
    assert_close(got, want)


def assert_close(got, want):
    if isinstance(want, tuple):
        assert isinstance(got, tuple) and len(got) == len(want)
        for ours, theirs in zip(got, want, strict=True):
            assert_close(ours, theirs)
        return
    assert got.shape == want.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("hidden_size", SIZES)
@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_recurrent(layer, hidden_size):
    for trial in range(3):
        rng = np.random.default_rng((hidden_size, trial))
        options = {
            "input_size": int(rng.choice(SIZES)),
            "hidden_size": hidden_size,
            "num_layers": int(rng.integers(1, 3)),
            "bias": bool(rng.random() < 0.8),
            "batch_first": bool(rng.random() < 0.5),
            "bidirectional": bool(rng.random() < 0.5),
        }
        if layer == "RNN":
            options["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
        out = hidden_size
        if layer == "LSTM" and hidden_size > 1 and rng.random() < 0.5:
            out = options["proj_size"] = int(rng.choice([size for size in SIZES if size < hidden_size]))
        net = build(rng, layer, **options)

        steps, batch = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        levels = options["num_layers"] * (2 if options["bidirectional"] else 1)
        lengths = rng.integers(1, steps + 1, batch) if rng.random() < 0.5 else None
        shape = (batch, steps) if options["batch_first"] else (steps, batch)
        hx = normal(rng, levels, batch, out)
        if layer == "LSTM":
            hx = hx, normal(rng, levels, batch, hidden_size)
        check(net, normal(rng, *shape, options["input_size"]), hx if trial else None, lengths=lengths)
        check(net, normal(rng, steps, options["input_size"]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layer", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cell(layer, size):
    rng = np.random.default_rng(size)
    options = {"nonlinearity": str(rng.choice(["tanh", "relu"]))} if layer == "RNNCell" else {}
    for batch in ((), (1,), (5,)):
        input_size = int(rng.choice(SIZES))
        net = build(rng, layer, input_size=input_size, hidden_size=size, bias=len(batch) == 0, **options)
        x, h, c = normal(rng, *batch, input_size), normal(rng, *batch, size), normal(rng, *batch, size)
        check(net, x)
        check(net, x, (h, c) if layer == "LSTMCell" else h)


@pytest.mark.parametrize("size", SIZES)
def test_linear_and_embedding(size):
    rng = np.random.default_rng(size)
    for other in SIZES:
        check(
            build(rng, "Linear", in_features=other, out_features=size, bias=other % 3 > 0),
            normal(rng, 3, other),
        )
    table = build(rng, "Embedding", num_embeddings=9, embedding_dim=size)
    check(table, rng.integers(0, 9, (4, 2)))


@pytest.mark.parametrize("trial", range(40))
def test_conv1d(trial):
    rng = np.random.default_rng(trial)
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel, dilation = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    span = dilation * (kernel - 1) + 1
    padding = ["valid", "same", int(rng.integers(0, span + 1))][int(rng.integers(3))]
    net = build(
        rng,
        "Conv1d",
        in_channels=groups * int(rng.integers(1, 20)),
        out_channels=groups * int(rng.choice([1, 5, 16, 17, 33])),
        kernel_size=kernel,
        stride=1 if padding == "same" else int(rng.integers(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bool(rng.random() < 0.7),
        padding_mode=str(rng.choice(["zeros", "reflect"])),
    )
    length = span + 1 + int(rng.integers(0, 40))  # reflection reads one more than it pads
    check(net, normal(rng, 2, net.in_channels, length))
    check(net, normal(rng, net.in_channels, length))


@pytest.mark.parametrize("size", SIZES)
def test_norms(size):
    rng = np.random.default_rng(size)
    check(build(rng, "LayerNorm", normalized_shape=size), normal(rng, 3, 2, size))
    check(build(rng, "LayerNorm", normalized_shape=size, bias=False, eps=1e-3), normal(rng, 3, size))
    check(
        build(rng, "LayerNorm", normalized_shape=(3, size), elementwise_affine=False), normal(rng, 2, 3, size)
    )
    check(build(rng, "BatchNorm1d", num_features=size), normal(rng, 3, size))
    check(build(rng, "BatchNorm1d", num_features=size, affine=False, eps=1e-2), normal(rng, 3, size, 5))


@pytest.mark.parametrize("size", SIZES)
def test_activations(size):
    rng = np.random.default_rng(size)
    x = 5 * normal(rng, 2, 3, size)
    check(build(rng, "Dropout"), x)
    for layer, arguments in ELEMENTWISE:
        inputs = (0.1 + np.abs(x)) / 4 if layer in POSITIVE else x
        wanted = oracle.run(layer, arguments, {}, inputs)
        given = getattr(tr, layer)(**arguments)(inputs)
        np.testing.assert_allclose(given, wanted, rtol=2e-6, atol=2e-6, err_msg=f"{layer} {arguments}")
    for count in (1, 3):
        check(build(rng, "PReLU", num_parameters=count), x)
    check(build(rng, "PReLU", num_parameters=size), x[:, 0])
    check(build(rng, "Flatten", start_dim=0, end_dim=1), x)
    for dim in (0, 1, 2, -1):
        check(build(rng, "Softmax", dim=dim), x)
        check(build(rng, "LogSoftmax", dim=dim), x)


@pytest.mark.parametrize(
    "layer", ["ReLU", "LeakyReLU", "Sigmoid", "Tanh", "ELU", "SELU", "Hardsigmoid", "ReLU6"]
)
def test_infinities_saturate(layer):
    x = np.array([-np.inf, -1e30, 1e30, np.inf] * 5, np.float32)
    net = getattr(tr, layer)()
    np.testing.assert_allclose(net(x), oracle.run(layer, net.config(), {}, x), rtol=1e-6)


@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_huge_input_saturates(layer):
    rng = np.random.default_rng(0)
    net = build(rng, layer, input_size=3, hidden_size=20)
    check(net, 1e30 * normal(rng, 4, 3))


def test_relu_of_a_sum_beyond_float32():
    net = tr.RNN(1, 2, nonlinearity="relu", bias=False)
    net.load_state_dict({"weight_ih_l0": [[1e30], [-1e30]], "weight_hh_l0": np.zeros((2, 2))})
    y, _ = net(np.full((1, 1), 1e30, np.float32))
    assert y.tolist() == [[np.inf, 0]]


def test_sequential():
    rng = np.random.default_rng(0)
    layers = {
        "table": ("Embedding", {"num_embeddings": 11, "embedding_dim": 17}),
        "rnn": ("LSTM", {"input_size": 17, "hidden_size": 33, "num_layers": 2}),
        "drop": ("Dropout", {}),
        "out": ("Linear", {"in_features": 33, "out_features": 11}),
        "log": ("LogSoftmax", {"dim": -1}),
    }
    net = tr.Sequential({name: build(rng, layer, **given) for name, (layer, given) in layers.items()})
    for shape in ((7,), (7, 3)):
        x = rng.integers(0, 11, shape)
        assert_close(net(x), oracle.run("Sequential", layers, net.state_dict(), x))
