"""tinyrnn beside PyTorch, on random layers: the same results, and weights that go both ways."""

import collections
import datetime
import decimal

import numpy as np
import pytest
from elementwise_cases import ACTIVATIONS, ELEMENTWISE, of_torch

import tinyrnn as tr

torch = pytest.importorskip("torch")
nn = torch.nn
rnn_utils = torch.nn.utils.rnn

# torch warns of its own slow paths: a projection without oneDNN, "same" padding of even kernels
pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
]

# one below, at and above every width that the core works in, and what lies between
WIDTHS = [width + d for width in (4, 8, 16, 32, 64, 128, 256) for d in (-1, 0, 1)]


@pytest.fixture(autouse=True, scope="module")
def without_gradients(one_thread):
    with torch.no_grad():
        yield


class Draw:
    """Random choices and numbers from one seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def flip(self, chance=0.5):
        return bool(self.rng.random() < chance)

    def int(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def of(self, *choices):
        return choices[self.int(0, len(choices) - 1)]

    def size(self, high=300):
        fitting = [width for width in WIDTHS if width <= high]
        return self.of(*fitting) if fitting and self.flip(0.7) else self.int(1, high)

    def normal(self, *shape):
        return self.rng.standard_normal(shape, dtype=np.float32)


def pair(layer, **arguments):
    """PyTorch's layer as it starts, and ours with its weights, which have been there and back."""
    theirs = getattr(nn, layer)(**arguments).eval()
    return there_and_back(theirs, getattr(tr, layer)(**arguments)), theirs


def there_and_back(theirs, ours):
    state = theirs.state_dict()
    assert ours.load_state_dict(state) == ([], [])  # torch's tensors as they are
    copy = ours.state_dict()
    assert list(copy) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(copy[name], tensor.numpy(), strict=True)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in copy.items()}, strict=True)
    return ours


def tensors(values):
    return tuple(map(torch.from_numpy, values)) if isinstance(values, tuple) else torch.from_numpy(values)


def assert_same(got, want, tolerance=1e-5):
    if isinstance(want, tuple):
        assert isinstance(got, tuple) and len(got) == len(want)
        for ours, theirs in zip(got, want, strict=True):
            assert_same(ours, theirs, tolerance)
        return
    assert got.shape == tuple(want.shape) and got.dtype == np.float32
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=tolerance)


def compare(ours, theirs, x, *more):
    assert_same(ours(x, *more), theirs(tensors(x), *map(tensors, more)))


# ---- recurrent layers ---------------------------------------------------------------------------


def packed(theirs, x, hx, lengths):
    """Run PyTorch's packed sequences, padded to the input's steps."""
    first = theirs.batch_first
    sequence = rnn_utils.pack_padded_sequence(
        torch.from_numpy(x), torch.tensor(lengths), batch_first=first, enforce_sorted=False
    )
    y, state = theirs(sequence, *map(tensors, hx))
    steps = x.shape[1 if first else 0]
    return rnn_utils.pad_packed_sequence(y, batch_first=first, total_length=steps)[0], state


@pytest.mark.parametrize("seed", range(180))
def test_recurrent(seed):
    draw = Draw(seed)
    layer = ("RNN", "LSTM", "GRU")[seed % 3]
    num_layers = draw.of(1, 1, 2, 3)
    high = 300 if num_layers == 1 else 140
    options = {
        "input_size": draw.size(high),
        "hidden_size": draw.size(high),
        "num_layers": num_layers,
        "bias": draw.flip(0.8),
        "batch_first": draw.flip(),
        "dropout": draw.of(0.0, 0.5) if num_layers > 1 else 0.0,
        "bidirectional": draw.flip(0.4),
    }
    if layer == "RNN":
        options["nonlinearity"] = draw.of("tanh", "relu")
    size = options["hidden_size"]
    if layer == "LSTM" and size > 1 and draw.flip(0.4):
        size = options["proj_size"] = draw.size(size - 1)
    ours, theirs = pair(layer, **options)

    steps, batch = draw.int(1, 12), draw.of(1, 2, 3, 5, 8, 17)
    way = ("batched", "unbatched", "lengths")[seed // 3 % 3]
    axes = (steps,) if way == "unbatched" else (batch, steps) if options["batch_first"] else (steps, batch)
    x = draw.normal(*axes, options["input_size"])
    hx = []
    if draw.flip():
        levels = num_layers * (2 if options["bidirectional"] else 1)
        rows = () if way == "unbatched" else (batch,)
        h = draw.normal(levels, *rows, size)
        hx = [(h, draw.normal(levels, *rows, options["hidden_size"])) if layer == "LSTM" else h]
    if way == "lengths":
        lengths = [draw.int(1, steps) for _ in range(batch)]
        assert_same(ours(x, *hx, lengths=lengths), packed(theirs, x, hx, lengths))
    else:
        compare(ours, theirs, x, *hx)

    read = getattr(tr, layer).from_state_dict(
        theirs.state_dict(),
        **{name: options[name] for name in ("batch_first", "dropout", "nonlinearity") if name in options},
    )
    assert read.config() == ours.config()


@pytest.mark.parametrize("seed", range(30))
def test_cell(seed):
    draw = Draw(seed)
    layer = ("RNNCell", "LSTMCell", "GRUCell")[seed % 3]
    options = {"nonlinearity": draw.of("tanh", "relu")} if layer == "RNNCell" else {}
    inputs, hidden = draw.size(), draw.size()
    ours, theirs = pair(layer, input_size=inputs, hidden_size=hidden, bias=draw.flip(0.8), **options)
    rows = draw.of((), (1,), (5,), (18,))
    x, h, c = draw.normal(*rows, inputs), draw.normal(*rows, hidden), draw.normal(*rows, hidden)
    compare(ours, theirs, x)
    compare(ours, theirs, x, (h, c) if layer == "LSTMCell" else h)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_a_thousand_steps(layer, options):
    draw = Draw(0)
    ours, theirs = pair(layer, input_size=24, hidden_size=65, **options)
    x = draw.normal(1000, 2, 24)
    assert_same(ours(x), theirs(tensors(x)), 1e-4)
    if "bidirectional" not in options:  # and a stream of them
        y, _ = theirs(tensors(x))
        stream = ours.stream(batch=2)
        assert_same(np.concatenate([stream.run(x[:1]), stream.run(x[1:700]), stream.run(x[700:])]), y, 1e-4)


# ---- layers that look at one frame at a time ----------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_linear(seed):
    draw = Draw(seed)
    inputs, outputs = draw.size(), draw.size()
    ours, theirs = pair("Linear", in_features=inputs, out_features=outputs, bias=draw.flip(0.8))
    compare(ours, theirs, draw.normal(*draw.of((), (1,), (70,), (2, 3), (2, 1, 3)), inputs))
    assert tr.Linear.from_state_dict(theirs.state_dict()).config() == ours.config()


@pytest.mark.parametrize("seed", range(10))
def test_embedding(seed):
    draw = Draw(seed)
    count = draw.size()
    ours, theirs = pair("Embedding", num_embeddings=count, embedding_dim=draw.size())
    x = draw.rng.integers(0, count, draw.of((), (1,), (9,), (4, 5), (2, 3, 4)))
    compare(ours, theirs, np.asarray(x))


@pytest.mark.parametrize("seed", range(60))
def test_conv1d(seed):
    draw = Draw(seed)
    groups = draw.of(1, 1, 2, 3, 8)
    kernel, dilation = draw.int(1, 9), draw.of(1, 1, 2, 3)
    span = dilation * (kernel - 1) + 1
    padding = draw.of("valid", "same", draw.int(0, span))
    options = {
        "in_channels": groups * draw.size(80 // groups),
        "out_channels": groups * draw.size(140 // groups),
        "kernel_size": kernel,
        "stride": 1 if padding == "same" else draw.int(1, 4),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw.flip(0.8),
        "padding_mode": draw.of("zeros", "reflect"),
    }
    ours, theirs = pair("Conv1d", **options)
    length = span + draw.int(1, 100)  # reflection reads one more than it pads
    compare(ours, theirs, draw.normal(*draw.of((), (1,), (3,)), options["in_channels"], length))
    rest = {name: options[name] for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    assert tr.Conv1d.from_state_dict(theirs.state_dict(), **rest).config() == ours.config()


def either(draw, low, high):
    """A size for both axes, or one for each."""
    return draw.int(low, high) if draw.flip() else (draw.int(low, high), draw.int(low, high))


@pytest.mark.parametrize("seed", range(60))
def test_conv2d(seed):
    draw = Draw(seed)
    groups = draw.of(1, 1, 2, 3, 8)
    kernel, dilation = either(draw, 1, 5), either(draw, 1, 2)
    padding = draw.of("valid", "same", either(draw, 0, 4))
    options = {
        "in_channels": groups * draw.size(40 // groups),
        "out_channels": groups * draw.size(80 // groups),
        "kernel_size": kernel,
        "stride": 1 if padding == "same" else either(draw, 1, 3),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw.flip(0.8),
    }
    ours, theirs = pair("Conv2d", **options)
    rows, cols = draw.int(9, 24), draw.int(9, 24)
    compare(ours, theirs, draw.normal(*draw.of((), (1,), (3,)), options["in_channels"], rows, cols))
    rest = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
    assert tr.Conv2d.from_state_dict(theirs.state_dict(), **rest).config() == ours.config()


@pytest.mark.parametrize("seed", range(40))
def test_conv_transpose1d(seed):
    draw = Draw(seed)
    groups = draw.of(1, 1, 2, 3, 8)
    stride, dilation = draw.int(1, 4), draw.of(1, 1, 2, 3)
    options = {
        "in_channels": groups * draw.size(80 // groups),
        "out_channels": groups * draw.size(80 // groups),
        "kernel_size": draw.int(1, 9),
        "stride": stride,
        "padding": draw.int(0, 2),
        "output_padding": draw.int(0, max(stride, dilation) - 1),
        "groups": groups,
        "bias": draw.flip(0.8),
        "dilation": dilation,
    }
    ours, theirs = pair("ConvTranspose1d", **options)
    compare(ours, theirs, draw.normal(*draw.of((), (1,), (3,)), options["in_channels"], draw.int(5, 100)))
    rest = {name: options[name] for name in ("stride", "padding", "output_padding", "dilation", "groups")}
    assert tr.ConvTranspose1d.from_state_dict(theirs.state_dict(), **rest).config() == ours.config()


@pytest.mark.parametrize("seed", range(60))
def test_pooling(seed):
    draw = Draw(seed)
    dims = 1 + seed % 2

    def size(low, high):
        return draw.int(low, high) if dims == 1 else either(draw, low, high)

    kind = draw.of("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
    if kind.startswith("Adaptive"):
        options = {"output_size": draw.of(size(1, 20), 1)}
        if dims == 2 and draw.flip(0.3):
            options["output_size"] = (None, draw.int(1, 9))
    else:
        options = {"kernel_size": size(2, 4), "stride": draw.of(None, size(1, 4)), "padding": draw.int(0, 1)}
        options["ceil_mode"] = draw.flip()
        if kind == "MaxPool":
            options["dilation"] = size(1, 3)
        else:
            options["count_include_pad"] = draw.flip()
            if dims == 2 and draw.flip(0.3):
                options["divisor_override"] = draw.int(1, 7)
    shape = (draw.int(1, 5), *(draw.int(10, 20) for _ in range(dims)))
    ours, theirs = pair(f"{kind}{dims}d", **options)
    compare(ours, theirs, draw.normal(*draw.of((), (1,), (3,)), *shape))


@pytest.mark.parametrize("layer", ["MaxPool2d", "AvgPool2d"])
def test_pooling_of_numbers_that_are_not_finite(layer):
    x = Draw(0).normal(2, 6, 7)
    x[0, 1, 2], x[0, 4, 4], x[1, 3, 3], x[1, :2, :2] = np.nan, np.inf, -np.inf, -np.inf
    ours, theirs = pair(layer, kernel_size=2, padding=1)
    np.testing.assert_array_equal(np.isnan(ours(x)), np.isnan(theirs(tensors(x)).numpy()))
    np.testing.assert_allclose(ours(x), theirs(tensors(x)).numpy(), rtol=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_norms_of_channels(seed):
    draw = Draw(seed)
    groups, frame = draw.of(1, 2, 3), draw.of((), (7,), (40,), (5, 3), (17, 16))
    layer = ("BatchNorm2d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d")[seed % 4]
    channels = groups * draw.size(40)
    options = {"eps": draw.of(1e-5, 1e-3), "affine": draw.flip(0.8), "num_features": channels}
    if layer == "GroupNorm":
        channels *= 4  # so that one number is not normalised alone
        options |= {"num_groups": groups, "num_channels": channels}
        del options["num_features"]
    else:
        frame = (draw.int(4, 40),) if layer.endswith("1d") else (draw.int(2, 9), draw.int(2, 9))
    x = draw.normal(4, channels, *frame)
    theirs = getattr(nn, layer)(**options)
    if layer == "BatchNorm2d":
        theirs.train()(torch.from_numpy(3 * draw.normal(*x.shape) + 1))  # statistics of its own
    for parameter in theirs.parameters():
        parameter.normal_()
    compare(there_and_back(theirs.eval(), getattr(tr, layer)(**options)), theirs, x)


@pytest.mark.parametrize("seed", range(40))
def test_norms(seed):
    draw = Draw(seed)
    shape = (draw.int(2, 20), draw.size())[draw.int(0, 1) :]
    options = {"eps": draw.of(1e-5, 1e-3)}
    if seed % 2:
        shape = shape if draw.flip() or len(shape) == 2 else shape[0]
        options |= {"normalized_shape": shape, "elementwise_affine": draw.flip(0.8), "bias": draw.flip(0.8)}
        layer, x = "LayerNorm", draw.normal(2, 3, *(shape if isinstance(shape, tuple) else (shape,)))
    else:
        options |= {"num_features": shape[0], "affine": draw.flip(0.8), "momentum": draw.of(0.1, None)}
        layer, x = "BatchNorm1d", draw.normal(4, *(shape[:1] if draw.flip() else (shape[0], 7)))
    theirs = getattr(nn, layer)(**options)
    if layer == "BatchNorm1d":
        theirs.train()(torch.from_numpy(3 * draw.normal(*x.shape) + 1))  # statistics of its own
    for parameter in theirs.parameters():
        parameter.normal_()
    compare(there_and_back(theirs.eval(), getattr(tr, layer)(**options)), theirs, x)


@pytest.mark.parametrize("seed", range(40))
def test_activations(seed):
    draw = Draw(seed)
    x = draw.normal(draw.int(1, 4), draw.int(1, 4), draw.size()) * draw.of(1, 10)
    dim = draw.of(0, 1, 2, -1, -2, -3)
    layer, options = draw.of(
        draw.of(*ACTIVATIONS),
        draw.of(*ACTIVATIONS),
        ("ReLU", {"inplace": draw.flip()}),
        ("PReLU", {"num_parameters": draw.of(1, x.shape[1]), "init": draw.of(0.25, -0.5)}),
        ("Softmax", {"dim": dim}),
        ("LogSoftmax", {"dim": dim}),
        ("Dropout", {"p": 0.5}),
        ("Flatten", {"start_dim": draw.int(0, 1), "end_dim": draw.of(1, 2, -1)}),
    )
    ours, theirs = pair(layer, **options)
    want = theirs(torch.from_numpy(x.copy()))  # torch's inplace writes to it
    assert_same(ours(x), want)


@pytest.mark.parametrize("layer, arguments", ELEMENTWISE, ids=str)
def test_a_function_of_each_number(layer, arguments):
    x = np.random.default_rng(0).normal(0, 4, (5, 200)).astype(np.float32)
    x[0, :9] = [0, -3, 3, -1, 1, -0.5, 2, 6, 0.5]  # bends
    want = of_torch(layer, arguments, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(getattr(tr, layer)(**arguments)(x), want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("layer, arguments", ELEMENTWISE, ids=str)
def test_numbers_at_the_edges(layer, arguments):
    """NaN and infinities are exact; zeros with their sign, unless PyTorch orders a sum otherwise."""
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30], np.float32)
    got = getattr(tr, layer)(**arguments)(x)
    want = of_torch(layer, arguments, torch.from_numpy(x)).numpy()
    if layer == "GELU" or layer == "Hardswish":
        want = np.where(np.isneginf(x) | (x == -1e30), got, want)  # -inf * 0 or -0: NaN or zero
    if layer == "GELU":
        want[np.isposinf(x)] = np.inf  # NaN in PyTorch where it has AVX-512
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-37)
    odd = layer == "LeakyReLU" and arguments["negative_slope"] < 0  # -0 times it is 0
    if layer not in ("GELU", "LogSigmoid", "Tanhshrink", "Sign", "Scale", "Hardswish") and not odd:
        signs = np.signbit(got[~np.isnan(got)])
        assert np.array_equal(signs, np.signbit(want[~np.isnan(want)]))


# ---- nets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_convolutional_net(seed):
    draw = Draw(seed)
    channels, hidden, length = draw.int(1, 20), draw.size(70), draw.int(5, 40)

    def build(m):
        return m.Sequential(
            m.Conv1d(channels, hidden, 3, padding=1),
            m.BatchNorm1d(hidden),
            m.LeakyReLU(0.1),
            m.Sequential(m.Conv1d(hidden, 6, 5, stride=2), m.Tanh(), m.Softmax(dim=1)),
            m.Flatten(),
            m.Linear(6 * ((length - 5) // 2 + 1), 10),
            m.LogSoftmax(dim=-1),
        )

    theirs = build(nn).eval()
    ours = there_and_back(theirs, build(tr))
    compare(ours, theirs, draw.normal(4, channels, length))


@pytest.mark.parametrize("seed", range(20))
def test_recurrent_net(seed):
    draw = Draw(seed)
    layer, width, hidden = ("RNN", "LSTM", "GRU")[seed % 3], draw.size(100), draw.size(100)
    first = draw.flip()

    def layers(m):
        return {
            "table": m.Embedding(30, width),
            "rnn": getattr(m, layer)(width, hidden, 2, batch_first=first, dropout=0.3),
            "norm": m.LayerNorm(hidden),
            "drop": m.Dropout(0.2),
            "out": m.Linear(hidden, 30),
        }

    theirs = nn.ModuleDict(layers(nn)).eval()
    ours = there_and_back(theirs, tr.Sequential(layers(tr)))
    x = draw.rng.integers(0, 30, (4, 9))
    y = theirs["rnn"](theirs["table"](torch.from_numpy(x)))[0]
    assert_same(ours(x), theirs["out"](theirs["norm"](y)))


@pytest.mark.parametrize(
    "build, shape",
    [
        (lambda m: [m.Conv1d(3, 2, 2), m.LayerNorm(4), m.Linear(4, 6)], (2, 3, 5)),
        (lambda m: [m.ReLU(), m.Conv1d(3, 2, 2), m.BatchNorm1d(2), m.Softmax(1)], (2, 3, 5)),
        (lambda m: [m.Conv1d(3, 2, 2), m.LayerNorm((2, 4)), m.Softmax(2)], (2, 3, 5)),
        (lambda m: [m.Linear(4, 5), m.BatchNorm1d(5), m.Softmax(1)], (3, 4)),
        (lambda m: [m.Linear(4, 5), m.Tanh(), m.LogSoftmax(3)], (2, 3, 2, 4)),
        (lambda m: [m.Flatten(), m.Linear(12, 5)], (2, 3, 4)),
        (lambda m: [m.Tanh(), m.Flatten()], (2, 3, 4)),
        (lambda m: [m.Linear(4, 5), m.Conv1d(3, 2, 2)], (2, 3, 4)),
        (lambda m: [m.LayerNorm(4), m.Conv1d(3, 2, 2)], (2, 3, 4)),
        (lambda m: [m.Linear(4, 5), m.BatchNorm1d(5)], (2, 5, 4)),
        (lambda m: [m.Conv2d(3, 2, 2), m.PReLU(2), m.MaxPool2d(2), m.Flatten()], (2, 3, 5, 7)),
        (lambda m: [m.ReLU(), m.Conv2d(3, 2, 2), m.LayerNorm(6), m.Softmax(-1)], (2, 3, 5, 7)),
        (lambda m: [m.Conv2d(3, 2, 2), m.GroupNorm(1, 2), m.Linear(6, 4)], (2, 3, 5, 7)),
        (lambda m: [m.Linear(7, 8), m.Conv2d(3, 2, 2), m.AdaptiveAvgPool2d(1), m.Flatten()], (2, 3, 5, 7)),
        (lambda m: [m.Conv1d(3, 4, 2), m.MaxPool1d(2), m.ConvTranspose1d(4, 2, 3, 2)], (2, 3, 9)),
    ],
)
def test_axes_of_a_net(build, shape):
    """The axes that each layer of a Sequential reads."""
    theirs = nn.Sequential(*build(nn)).eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2)
    compare(there_and_back(theirs, tr.Sequential(*build(tr))), theirs, Draw(0).normal(*shape))


# ---- weights ------------------------------------------------------------------------------------


def test_half_and_double_weights():
    for dtype in (torch.float16, torch.float64):
        theirs = nn.GRU(5, 18).to(dtype)
        ours = tr.GRU(5, 18)
        ours.load_state_dict(theirs.state_dict())
        for name, tensor in theirs.state_dict().items():
            np.testing.assert_array_equal(ours.state_dict()[name], tensor.float().numpy())


def test_parameters_that_require_gradients():
    with torch.enable_grad():
        theirs = nn.Linear(5, 18)
        parameters = dict(theirs.named_parameters())
        ours = tr.Linear.from_state_dict(parameters)
    np.testing.assert_array_equal(ours.weight, theirs.weight.numpy())


def test_bfloat16_weights():
    theirs = nn.Linear(5, 18).bfloat16()
    ours = tr.Linear.from_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(ours.weight, theirs.weight.float().numpy())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files(tmp_path, suffix):
    """Saved by PyTorch and loaded here, and the other way round."""
    path = tmp_path / f"net{suffix}"
    theirs = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    ours = tr.Sequential(tr.Linear(3, 4), tr.BatchNorm1d(4), tr.Linear(4, 2))
    if suffix == ".pt":
        torch.save(theirs.state_dict(), path)
        ours.load_state_dict(tr.load_weights(path))
    else:
        safetensors = pytest.importorskip("safetensors.torch")
        ours.save(path)
        theirs.load_state_dict(safetensors.load_file(path), strict=True)
    compare(ours, theirs, Draw(0).normal(5, 3))


def test_tensors_as_input():
    net = tr.LSTM(3, 4)
    x = torch.randn(5, 3)
    y, _ = net(x.numpy())
    with torch.enable_grad():
        assert np.array_equal(net(x.clone().requires_grad_())[0], y)
        assert np.array_equal(net.stream().run(x.clone().requires_grad_()), y)
    rounded, _ = net(x.bfloat16())
    assert np.array_equal(rounded, net(x.bfloat16().float().numpy())[0])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_checkpoints_with_harmless_things_in_them(tmp_path, protocol):
    beside = {
        "counts": collections.defaultdict(int),
        "pairs": collections.defaultdict(tuple),
        "kind": bool,
        "when": datetime.datetime.now(datetime.timezone.utc),
        "rate": decimal.Decimal("0.1"),
        "history": np.arange(3.0),
    }
    path = tmp_path / "checkpoint.pt"
    theirs = nn.Linear(2, 3)
    torch.save({"model": theirs.state_dict(), **beside}, path, pickle_protocol=protocol)
    ours = tr.Linear.from_state_dict(tr.load_weights(path))
    np.testing.assert_array_equal(ours.weight, theirs.weight.detach().numpy())


def test_an_optimizer_alone_is_no_model(tmp_path):
    torch.save(torch.optim.Adam(nn.Linear(2, 3).parameters()).state_dict(), tmp_path / "adam.pt")
    with pytest.raises(tr.LoadError, match="the state of an optimiser"):
        tr.load_weights(tmp_path / "adam.pt")
