"""Modules of PyTorch, exported and loaded, against ONNX Runtime on the same file."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_files import close, exported, loaded, run

torch = pytest.importorskip("torch")
nn = torch.nn
functional = nn.functional

ROWS_FIRST = {"x": {0: "batch", 1: "steps"}}


class Model(nn.Module):
    """A module of parts, and a function of them and the inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x):
        return self.call(self, *x)


def gru(inputs, hidden, **options):
    return nn.GRU(inputs, hidden, batch_first=True, **options)


def lstm(inputs, hidden, **options):
    return nn.LSTM(inputs, hidden, batch_first=True, **options)


def crnn(self, x):
    """Convolutions over time and frequency, then a GRU, as recognisers of sounds have them."""
    h = self.pool(torch.relu(self.conv(x.unsqueeze(1))))
    batch, channels, steps, bands = h.shape
    return self.out(self.rnn(h.transpose(1, 2).reshape(batch, steps, channels * bands))[0])


def pictures(self, x):
    """A convolution of each step's picture: the steps are a part of the batch meanwhile."""
    batch, steps, rows, cols = x.shape
    h = torch.relu(self.conv(x.reshape(batch * steps, 1, rows, cols)))
    return self.rnn(h.reshape(batch, steps, -1))[0]


def pooled(self, x):
    h, _ = self.rnn(x)
    weights = torch.softmax(self.score(h), 1)
    return self.out((weights * h).sum(1))


def over_channels(function):
    """A function of (N, C, L) on (N, L, C)."""
    return lambda x: function(x.transpose(1, 2)).transpose(1, 2)


# Models that read (B, T, 8): the function and its parts.
SEQUENCES = {
    "lstm": (lambda m, x: m.out(m.rnn(x)[0]), {"rnn": lstm(8, 16), "out": nn.Linear(16, 4)}),
    "two levels": (
        lambda m, x: torch.softmax(m.out(m.rnn(x)[0]), -1),
        {"rnn": gru(8, 16, num_layers=2, bidirectional=True), "out": nn.Linear(32, 4)},
    ),
    "last step": (lambda m, x: m.out(m.rnn(x)[0][:, -1]), {"rnn": gru(8, 16), "out": nn.Linear(16, 4)}),
    "final state": (
        lambda m, x: m.out(m.rnn(x)[1][0][-1]),
        {"rnn": lstm(8, 16, num_layers=2), "out": nn.Linear(16, 4)},
    ),
    "final states": (
        lambda m, x: m.out(torch.cat(tuple(m.rnn(x)[1][0][-2:]), 1)),
        {"rnn": lstm(8, 16, bidirectional=True), "out": nn.Linear(32, 4)},
    ),
    "means and maxima": (
        lambda m, x: (lambda h: m.out(torch.cat([h.mean(1), h.max(1).values], 1)))(m.rnn(x)[0]),
        {"rnn": lstm(8, 16), "out": nn.Linear(32, 4)},
    ),
    "residual": (
        lambda m, x: m.norm(x + m.out(m.rnn(x)[0])),
        {"rnn": gru(8, 16), "out": nn.Linear(16, 8), "norm": nn.LayerNorm(8)},
    ),
    "convolution": (
        lambda m, x: m.rnn(torch.relu(over_channels(m.conv)(x)))[0],
        {"rnn": lstm(12, 16), "conv": nn.Conv1d(8, 12, 5, padding=2, stride=2)},
    ),
    "batch norm": (
        lambda m, x: m.rnn(over_channels(lambda h: m.norm(m.conv(h)))(x))[0],
        {"rnn": lstm(12, 16), "conv": nn.Conv1d(8, 12, 5, groups=4), "norm": nn.BatchNorm1d(12)},
    ),
    "causal by pad": (
        lambda m, x: m.rnn(torch.relu(over_channels(lambda h: m.conv(functional.pad(h, (4, 0))))(x)))[0],
        {"rnn": gru(12, 10), "conv": nn.Conv1d(8, 12, 3, dilation=2)},
    ),
    "causal by cut": (
        lambda m, x: m.rnn(torch.relu(over_channels(lambda h: m.conv(h)[:, :, :-4])(x)))[0],
        {"rnn": gru(12, 10), "conv": nn.Conv1d(8, 12, 3, dilation=2, padding=4)},
    ),
    "pool over time": (
        lambda m, x: m.rnn(over_channels(lambda h: m.pool(m.conv(h)))(x))[0],
        {"rnn": gru(12, 10), "conv": nn.Conv1d(8, 12, 3), "pool": nn.MaxPool1d(2)},
    ),
    "norm over time": (
        lambda m, x: m.rnn(over_channels(m.norm)(x))[0],
        {"rnn": gru(8, 10), "norm": nn.InstanceNorm1d(8)},
    ),
    "pooled attention": (pooled, {"rnn": gru(8, 16), "score": nn.Linear(16, 1), "out": nn.Linear(16, 3)}),
    "pictures over time": (
        crnn,
        {
            "conv": nn.Conv2d(1, 6, 3, padding=1),
            "pool": nn.MaxPool2d((1, 2)),
            "rnn": gru(24, 10),
            "out": nn.Linear(10, 5),
        },
    ),
    "gelu": (lambda m, x: m.rnn(functional.gelu(m.lin(x)))[0], {"rnn": gru(6, 10), "lin": nn.Linear(8, 6)}),
    "gated": (
        lambda m, x: m.rnn(functional.glu(m.lin(x), -1))[0],
        {"rnn": gru(6, 7), "lin": nn.Linear(8, 12)},
    ),
    "decoder": (
        lambda m, x: (lambda h: m.second(h[0], h[1])[0])(m.first(x)),
        {"first": gru(8, 7), "second": gru(7, 7)},
    ),
    "learned start": (
        lambda m, x: m.rnn(x, m.start.weight.reshape(1, 1, 7).expand(1, x.shape[0], 7).contiguous())[0],
        {"rnn": gru(8, 7), "start": nn.Linear(7, 1, bias=False)},
    ),
    "groups": (
        lambda m, x: m.rnn(m.norm(x.reshape(-1, 8)).reshape(x.shape))[0],
        {"rnn": gru(8, 7), "norm": nn.GroupNorm(2, 8)},
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name, tmp_path):
    forward, parts = SEQUENCES[name]
    torch.manual_seed(0)
    x = torch.randn(3, 21, 8)
    file = exported(Model(forward, **parts), (x,), ["x"], ["y"], ROWS_FIRST)
    (expected,) = run(file, x.numpy())
    net = loaded(file, tmp_path)
    y = net(x.numpy().swapaxes(0, 1))
    close(y.swapaxes(0, 1) if expected.ndim == 3 else y, expected)


def test_tokens(tmp_path):
    model = Model(
        lambda m, x: m.out(m.rnn(m.table(x))[0]),
        table=nn.Embedding(20, 8),
        rnn=lstm(8, 16),
        out=nn.Linear(16, 4),
    )
    x = torch.randint(0, 20, (3, 11))
    file = exported(model, (x,), ["x"], ["y"], ROWS_FIRST)
    (expected,) = run(file, x.numpy())
    close(loaded(file, tmp_path)(x.numpy().T).swapaxes(0, 1), expected)


def test_pictures(tmp_path):
    model = Model(pictures, conv=nn.Conv2d(1, 3, 3, stride=2), rnn=lstm(48, 7))
    x = torch.randn(2, 5, 9, 9)
    file = exported(model, (x,), ["x"], ["y"], ROWS_FIRST)
    (expected,) = run(file, x.numpy())
    close(loaded(file, tmp_path)(x.numpy().swapaxes(0, 1)).swapaxes(0, 1), expected)


def test_sizes_that_the_export_fixed_may_vary(tmp_path):
    model = Model(lambda m, x: m.out(m.rnn(x)[0]), rnn=lstm(8, 16, bidirectional=True), out=nn.Linear(32, 4))
    net = loaded(exported(model, (torch.zeros(1, 11, 8),), ["x"], ["y"], None), tmp_path)
    x = torch.randn(3, 30, 8)
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    close(net(x.numpy().swapaxes(0, 1)).swapaxes(0, 1), expected)


# ---- one step, with states as inputs and outputs --------------------------------------------------------


def own_gru(m, x, h):
    a, b = m.ih(x), m.hh(h)
    (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = torch.sigmoid(ar + br), torch.sigmoid(az + bz)
    new = (1 - z) * torch.tanh(an + r * bn) + z * h
    return m.out(new), new


def own_cell(m, x, h, c):
    h, c = m.cell(x, (h, c))
    return m.out(h), h, c


STEPS = {
    "levels": (
        lambda m, x, h, c: (lambda y, n: (m.out(y), *n))(*m.rnn(x, (h, c))),
        {"rnn": lstm(8, 16, num_layers=2), "out": nn.Linear(16, 4)},
        [(1, 1, 8), (2, 1, 16), (2, 1, 16)],
        ["hn", "cn"],
    ),
    "written out": (
        own_gru,
        {"ih": nn.Linear(8, 48), "hh": nn.Linear(16, 48), "out": nn.Linear(16, 3)},
        [(1, 8), (1, 16)],
        ["h_out"],
    ),
    "cell": (
        own_cell,
        {"cell": nn.LSTMCell(8, 16), "out": nn.Linear(16, 3)},
        [(1, 8), (1, 16), (1, 16)],
        ["h_out", "c_out"],
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name, tmp_path):
    forward, parts, shapes, states = STEPS[name]
    torch.manual_seed(0)
    file = exported(
        Model(forward, **parts),
        tuple(torch.zeros(shape) for shape in shapes),
        ["x", "h", "c"][: len(shapes)],
        ["y", *states],
        None,
    )
    net = loaded(file, tmp_path)
    stream = net.stream()
    x = np.random.default_rng(0).standard_normal((20, *shapes[0]), dtype=np.float32)
    before = [np.zeros(shape, np.float32) for shape in shapes[1:]]
    steps = []
    for one in x:
        expected, *before = run(file, one, *before)
        steps.append(stream.step(one.reshape(8)))
        close(steps[-1], expected)
    assert np.array_equal(np.stack(steps), net(x.reshape(20, 8)))
