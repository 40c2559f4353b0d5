"""Modules of PyTorch, exported and loaded, against ONNX Runtime on the same file."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from onnx_files import close, exported, loaded, model, node, run

import tinyrnn as tr

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


def attended(self, x):
    """A sum of states with weights, as a product of matrices over time."""
    h, _ = self.rnn(x)
    weights = torch.softmax(self.score(torch.tanh(self.keys(h))).squeeze(-1), 1)
    return self.out(torch.bmm(weights.unsqueeze(1), h).squeeze(1))


def queried(self, x):
    """Attention of the last state over all, in Einstein's notation."""
    h, _ = self.rnn(x)
    weights = torch.softmax(torch.einsum("bth,bh->bt", h, self.query(h[:, -1])), 1)
    return self.out(torch.einsum("bt,bth->bh", weights, h))


def causal_masks(self, x):
    """Convolutions of two steps over frequencies, and back, as enhancers of speech have them."""
    h = functional.elu(self.norm(self.down(x.unsqueeze(1))[:, :, :-1]))
    batch, channels, steps, bands = h.shape
    y = self.rnn(h.transpose(1, 2).reshape(batch, steps, channels * bands))[0]
    both = torch.cat([y.reshape(batch, steps, channels, bands).transpose(1, 2), h], 1)
    return torch.sigmoid(self.up(both)[:, :, :-1]).squeeze(1) * x


def normalised(self, x):
    """Each number less its mean over the utterance, in deviations."""
    levels = torch.log(x.abs() + 1e-6)
    rest = (levels - levels.mean(1, keepdim=True)) / (levels.std(1, keepdim=True) + 1e-5)
    return self.rnn(rest)[0].mean(1)


def velocities(self, x):
    """Each step beside its difference to the one before."""
    moved = functional.pad(x[:, 1:] - x[:, :-1], (0, 0, 1, 0))
    return self.rnn(torch.cat([x, moved], -1))[0]


def grouped(self, x):
    """Products with a matrix for each group of numbers."""
    h = torch.einsum("btgi,gio->btgo", x.reshape(*x.shape[:2], 4, 2), self.weight.reshape(4, 2, 3))
    return self.rnn(h.flatten(2, 3))[0]


def heads(self, x):
    """Attention of several heads as a script writes it."""
    h = self.rnn(x)[0]
    batch, steps, size = h.shape
    q, k, v = (part.reshape(batch, steps, 2, 6).transpose(1, 2) for part in self.maps(h).chunk(3, -1))
    weights = torch.softmax(q @ k.transpose(-1, -2) / 6**0.5, -1)
    return h + (weights @ v).transpose(1, 2).reshape(batch, steps, size)


def summed(self, x, score, turned=lambda h: h):
    """Attention by a sum; ``score`` makes weights of a number for each pair of steps."""
    h = self.rnn(turned(x))[0]
    e = torch.tanh(self.query(turned(h)).unsqueeze(2) + self.keys(h).unsqueeze(1))
    return self.out(score(self.score(e)) @ h)


SUMMED = {"rnn": gru(8, 6), "query": nn.Linear(6, 5), "keys": nn.Linear(6, 5), "score": nn.Linear(5, 1)}


def causal(self, x, masked):
    h, steps = self.rnn(x)[0], x.shape[1]
    scores = masked(h @ h.transpose(1, 2) / 6**0.5, torch.triu(torch.ones(steps, steps), 1))
    return self.out(torch.softmax(scores, -1) @ h)


def pairs(value):
    """Attention whose scores are a function of the states of two steps."""
    return lambda m, x: (lambda h: torch.softmax(value(m, h.unsqueeze(2), h.unsqueeze(1)), -1) @ h)(
        m.rnn(x)[0]
    )


def over_channels(function):
    """A function of (N, C, L) on (N, L, C)."""
    return lambda x: function(x.transpose(1, 2)).transpose(1, 2)


def repeated(self, x):
    """A coder: the last state at each step, decoded."""
    h = self.coder(x)[1][0][-1]
    return self.out(self.rnn(h.unsqueeze(1).repeat(1, x.shape[1], 1))[0])


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
    "coder": (repeated, {"coder": lstm(8, 6), "rnn": gru(6, 8), "out": nn.Linear(8, 8)}),
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
    "attention": (
        attended,
        {
            "rnn": gru(8, 16),
            "keys": nn.Linear(16, 12),
            "score": nn.Linear(12, 1, bias=False),
            "out": nn.Linear(16, 3),
        },
    ),
    "attention by products": (pairs(lambda m, a, b: (a * b).sum(-1)), {"rnn": gru(8, 6)}),
    "attention by a sum": (
        lambda m, x: summed(m, x, lambda e: torch.softmax(e.squeeze(-1), -1)),
        {**SUMMED, "out": nn.Linear(6, 3)},
    ),
    "attention by a sum, over its first axis": (
        lambda m, x: summed(m, x, lambda e: torch.softmax(e, 1).squeeze(-1).transpose(1, 2)),
        {**SUMMED, "out": nn.Linear(6, 3)},
    ),
    "attention by a sum, masked": (
        lambda m, x: summed(
            m,
            x,
            lambda e: torch.softmax(e.squeeze(-1).masked_fill((x[:, :, 0] < 0).unsqueeze(1), -1e9), -1),
        ),
        {**SUMMED, "out": nn.Linear(6, 3)},
    ),
    "attention by a sum, to a sequence from its end": (
        lambda m, x: summed(m, x, lambda e: torch.softmax(e.squeeze(-1), -1), lambda h: h.flip(1)),
        {**SUMMED, "out": nn.Linear(6, 3)},
    ),
    "attention to the past, by a sum with a mask": (
        lambda m, x: causal(m, x, lambda e, later: e + later * -1e9),
        {"rnn": gru(8, 6), "out": nn.Linear(6, 3)},
    ),
    "attention to the past, by a choice": (
        lambda m, x: causal(m, x, lambda e, later: e.masked_fill(later == 1, float("-inf"))),
        {"rnn": gru(8, 6), "out": nn.Linear(6, 3)},
    ),
    "queries": (queried, {"rnn": gru(8, 16), "query": nn.Linear(16, 16), "out": nn.Linear(16, 3)}),
    "larger frames": (
        lambda m, x: m.rnn(functional.interpolate(x, scale_factor=2.0))[0],
        {"rnn": gru(16, 7)},
    ),
    "transposed convolution": (
        lambda m, x: m.conv(m.rnn(x)[0].reshape(-1, 4, 4)).reshape(x.shape[0], -1, 18),
        {"rnn": gru(8, 16), "conv": nn.ConvTranspose1d(4, 2, 3, stride=2)},
    ),
    "time first": (
        lambda m, x: m.out(m.rnn(x.transpose(0, 1))[0]).transpose(0, 1),
        {"rnn": nn.GRU(8, 16), "out": nn.Linear(16, 3)},
    ),
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
    "ends of directions": (
        lambda m, x: (lambda y: m.out(torch.cat([y[:, -1, :6], y[:, 0, 6:], y[:, -3]], 1)))(m.rnn(x)[0]),
        {"rnn": lstm(8, 6, bidirectional=True), "out": nn.Linear(24, 4)},
    ),
    "last steps": (
        lambda m, x: torch.cat([m.rnn(x)[0][:, -3:].flatten(1), x[:, 1:3].flatten(1)], 1),
        {"rnn": gru(8, 5)},
    ),
    "every other step": (lambda m, x: m.rnn(x[:, 1::2])[0], {"rnn": gru(8, 5)}),
    "the steps before": (
        lambda m, x: m.rnn(torch.cat([x, functional.pad(x[:, :-2], (0, 0, 2, 0))], -1))[0],
        {"rnn": gru(16, 5)},
    ),
    "differences": (velocities, {"rnn": gru(16, 5)}),
    "numbers of steps": (
        lambda m, x: m.rnn(x + torch.arange(x.shape[1])[:, None] / 7)[0] * 2,
        {"rnn": gru(8, 5)},
    ),
    "positions": (
        lambda m, x: m.rnn(x + m.table.weight[: x.shape[1]])[0],
        {"rnn": gru(8, 5), "table": nn.Embedding(64, 8)},
    ),
    "a norm of the utterance": (normalised, {"rnn": gru(8, 5)}),
    "statistics": (
        lambda m, x: (lambda h: m.out(torch.cat([h.mean(1), h.std(1)], 1)))(m.rnn(x)[0]),
        {"rnn": gru(8, 5), "out": nn.Linear(10, 3)},
    ),
    "groups over time": (
        lambda m, x: m.rnn(over_channels(m.norm)(x))[0],
        {"rnn": gru(8, 5), "norm": nn.GroupNorm(2, 8)},
    ),
    "repeated": (
        lambda m, x: m.second(m.first(x)[1][-1].unsqueeze(1).repeat(1, x.shape[1], 1))[0],
        {"first": gru(8, 5), "second": gru(5, 6)},
    ),
    "expanded": (
        lambda m, x: torch.cat([x, m.rnn(x)[1][-1].unsqueeze(1).expand(-1, x.shape[1], -1)], -1),
        {"rnn": gru(8, 5)},
    ),
    "pool with padding": (
        lambda m, x: m.rnn(over_channels(lambda h: functional.max_pool1d(h, 3, 1, 1))(x))[0],
        {"rnn": gru(8, 5)},
    ),
    "causal masks": (
        causal_masks,
        {
            "down": nn.Conv2d(1, 4, (2, 3), (1, 2), (1, 0)),
            "norm": nn.BatchNorm2d(4),
            "rnn": gru(12, 12),
            "up": nn.ConvTranspose2d(8, 1, (2, 3), (1, 2), output_padding=(0, 1)),
        },
    ),
    "a matrix for each group": (grouped, {"rnn": gru(12, 5), "weight": torch.randn(24)}),
    "heads": (heads, {"rnn": gru(8, 12), "maps": nn.Linear(12, 36)}),
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


@pytest.mark.parametrize("name", ["lstm", "coder", "two levels", "final states", "attention"])
def test_sequences_of_a_fixed_size(name, tmp_path):
    """An export without dynamic axes counts its rows and steps; the net does not."""
    forward, parts = SEQUENCES[name]
    torch.manual_seed(0)
    module, x = Model(forward, **parts), torch.randn(3, 21, 8)
    file = exported(module, (x,), ["x"], ["y"], None)
    (expected,) = run(file, x.numpy())
    net = loaded(file, tmp_path)
    y = net(x.numpy().swapaxes(0, 1))
    close(y.swapaxes(0, 1) if expected.ndim == 3 else y, expected)
    if name != "attention":
        more = torch.randn(2, 9, 8)
        y = net(more.numpy().swapaxes(0, 1))
        close(y.swapaxes(0, 1) if expected.ndim == 3 else y, module(more).detach().numpy())


ORDER = "reads one sequence from its end and another from its beginning"

# Nets that would be others without a word: each pair of steps, an order.
REFUSED = {
    "pairs": (
        lambda m, x: (lambda h: h.unsqueeze(2) + h.unsqueeze(1))(m.rnn(x)[0]),
        "numbers of pairs of steps",
    ),
    "a distance": (pairs(lambda m, a, b: -(a - b).pow(2).sum(-1)), "the steps of two axes of time"),
    "no tanh": (pairs(lambda m, a, b: m.score(a + b).squeeze(-1)), "numbers of pairs of steps"),
    "another function": (pairs(lambda m, a, b: torch.relu(a + b).sum(-1)), "numbers of pairs of steps"),
    "other values": (
        lambda m, x: (lambda h, r: torch.softmax(h @ r.transpose(1, 2), -1) @ h)(
            m.rnn(x)[0], m.rnn(x.flip(1))[0]
        ),
        ORDER,
    ),
    "other queries": (
        lambda m, x: (lambda h, r: torch.softmax(r @ h.transpose(1, 2), -1) @ h)(
            m.rnn(x)[0], m.rnn(x.flip(1))[0]
        ),
        "output y has the steps from the last to the first",
    ),
    "a quotient of scores": (
        lambda m, x: (lambda h: torch.softmax(2 / (h @ h.transpose(1, 2)), -1) @ h)(m.rnn(x)[0]),
        "reads a product of two axes of time",
    ),
    "a table of pairs": (
        lambda m, x: (
            lambda h: torch.softmax(h @ h.transpose(1, 2) + m.table[: h.shape[1], : h.shape[1]], -1) @ h
        )(m.rnn(x)[0]),
        "adds a number of each pair of steps to scores, expected a mask",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    forward, message = REFUSED[name]
    module = Model(forward, rnn=gru(8, 6), score=nn.Linear(6, 1))
    module.register_buffer("table", torch.randn(21, 21))
    file = exported(module, (torch.randn(3, 21, 8),), ["x"], ["y"], ROWS_FIRST)
    with pytest.raises(tr.LoadError, match=message):
        loaded(file, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("lstm", "two levels", "final states", "residual", "convolution", "batch norm", "attention"),
        *("positions", "statistics", "groups over time", "causal masks", "a matrix for each group"),
        *("queries", "larger frames", "transposed convolution", "pictures over time", "gelu", "time first"),
    ],
)
def test_the_exporter_of_programs(name, tmp_path):
    """torch.export and onnxscript write other graphs of the same modules."""
    pytest.importorskip("onnxscript")
    forward, parts = SEQUENCES[name]
    torch.manual_seed(0)
    x = torch.randn(3, 21, 8)
    dim = torch.export.Dim
    axes = {0: dim("batch", min=1, max=64), 1: dim("steps", min=2, max=4096)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Model(forward, **parts).eval(),
            (x,),
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=((axes,),),
            dynamo=True,
            verbose=False,
        )
    file = program.model_proto.SerializeToString()
    (expected,) = run(file, x.numpy())
    y = loaded(file, tmp_path)(x.numpy().swapaxes(0, 1))
    close(y.swapaxes(0, 1) if expected.ndim == 3 else y, expected)


def test_a_last_state_beside_each_step_of_tokens(tmp_path):
    def forward(m, x):
        y, h = m.rnn(m.emb(x))
        return m.out(torch.cat([y, h.expand(y.shape[0], -1, -1)], -1))

    torch.manual_seed(0)
    found = Model(forward, emb=nn.Embedding(9, 4), rnn=nn.GRU(4, 6), out=nn.Linear(12, 3))
    x = np.random.default_rng(0).integers(0, 9, (7, 2))
    file = exported(found, (torch.from_numpy(x),), ["x"], ["y"], {"x": {0: "t", 1: "b"}})
    close(loaded(file, tmp_path)(x), run(file, x)[0])


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


def packed(m, x, lengths):
    """Rows of other lengths, sorted: the lengths are those of a call."""
    rows = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    return m.out(nn.utils.rnn.pad_packed_sequence(m.rnn(rows)[0], batch_first=True)[0])


def test_packed_sequences(tmp_path):
    torch.manual_seed(0)
    model = Model(packed, rnn=lstm(8, 6, bidirectional=True), out=nn.Linear(12, 4))
    x, lengths = torch.randn(3, 11, 8), torch.tensor([11, 7, 2])
    axes = {**ROWS_FIRST, "lengths": {0: "batch"}}
    file = exported(model, (x, lengths), ["x", "lengths"], ["y"], axes)
    (expected,) = run(file, x.numpy(), lengths.numpy())
    y = loaded(file, tmp_path)(x.numpy().swapaxes(0, 1), lengths=lengths.numpy()).swapaxes(0, 1)
    for got, wanted, length in zip(y, expected, lengths, strict=True):
        close(got[:length], wanted[:length])


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


def unrolled(m, x):
    """A cell that a trace has written out for each of its steps."""
    h, found = torch.zeros(x.shape[0], 7), []
    for step in range(x.shape[1]):
        h = m.cell(x[:, step], h)
        found.append(h)
    return torch.stack(found, 1)


def test_many_steps_by_their_number_need_a_size(tmp_path):
    file = exported(
        Model(unrolled, cell=nn.GRUCell(8, 7)), (torch.zeros(1, 70, 8),), ["x"], ["y"], ROWS_FIRST
    )
    with pytest.raises(tr.LoadError, match=r"takes step 64 of a sequence.* is bound: load\(path, shapes="):
        loaded(file, tmp_path)


@pytest.mark.parametrize("axes", [None, {0: "batch"}, {0: "batch", 1: "steps"}], ids=["fixed", "rows", "all"])
def test_a_cell_unrolled_is_one_frame(axes, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(1 if axes is None else 3, 5, 8)
    file = exported(Model(unrolled, cell=nn.GRUCell(8, 7)), (x,), ["x"], ["y"], axes and {"x": axes})
    (expected,) = run(file, x.numpy())
    options = {"shapes": {"x": (None, 5, 8)}} if axes and 1 in axes else {}
    if options:  # else the net reads a sequence, of which it takes five steps
        close(loaded(file, tmp_path)(x.numpy().swapaxes(0, 1)), expected)
    close(loaded(file, tmp_path, **options)(x.numpy()), expected)


BY_NUMBER = {
    "all": lambda m, x: m.rnn(x)[0] + unrolled(m, x)[:, -1:],
    "all of the layer's": lambda m, x: unrolled(m, m.lin(m.rnn(x)[0])),
    "all backwards": lambda m, x: unrolled(m, m.lin(m.rnn(x)[0])[:, [4, 3, 2, 1, 0]]),
    "the last": lambda m, x: m.rnn(x)[0][:, x.shape[1] - 1],
}


@pytest.mark.parametrize("name", BY_NUMBER)
def test_the_last_of_a_fixed_number_of_steps_is_that_of_as_many(name, tmp_path):
    """Nothing tells whether it is the last of longer sequences, or the one of that number."""
    torch.manual_seed(0)
    module = Model(BY_NUMBER[name], rnn=gru(8, 7), cell=nn.GRUCell(8, 7), lin=nn.Linear(7, 8))
    x = np.random.default_rng(0).standard_normal((1, 9, 8)).astype(np.float32)
    file = exported(module, (torch.zeros(1, 5, 8),), ["x"], ["y"], None)
    net, (expected,) = loaded(file, tmp_path), run(file, x[:, :5])
    close(net(x[0, :5]).reshape(expected.shape), expected)
    assert np.isnan(net(x[0])[-1]).all()


def test_a_cell_unrolled_from_the_end_is_one_frame(tmp_path):
    """A turned axis is time in a graph that goes over steps, and here the file has written them out."""
    torch.manual_seed(0)
    model = Model(lambda m, x: unrolled(m, x.flip(0).transpose(0, 1)), cell=nn.GRUCell(8, 7))
    x = torch.randn(5, 3, 8)
    file = exported(model, (x,), ["x"], ["y"], {"x": {1: "rows"}})
    (expected,) = run(file, x.numpy())
    close(loaded(file, tmp_path)(np.ascontiguousarray(x.numpy().swapaxes(0, 1))), expected)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_a_state_is_cut_by_the_rows_of_another_input(rows, states, tmp_path):
    def forward(m, x, h):
        y, n = m.rnn(x, h.reshape(x.shape[0], 2, 6).transpose(0, 1).contiguous())
        return y, n.transpose(0, 1).reshape(x.shape[0], 12)

    torch.manual_seed(0)
    x, h = torch.randn(3, 5, 8), torch.zeros(3, 12) if states else torch.randn(3, 12)
    axes = {"x": {1: "steps", **({0: "rows"} if rows else {})}, "h": {0: "rows"} if rows else {}}
    file = exported(Model(forward, rnn=gru(8, 6, num_layers=2)), (x, h), ["x", "h"], ["y", "hn"], axes)
    expected = run(file, x.numpy(), h.numpy())
    net = loaded(file, tmp_path, states=states)
    if states:
        close(net(x.numpy().swapaxes(0, 1)).swapaxes(0, 1), expected[0])
    else:
        y, n = net({"x": x.numpy().swapaxes(0, 1), "h": h.numpy()}).values()
        close(y.swapaxes(0, 1), expected[0])
        close(n, expected[1])


@pytest.mark.parametrize("named", [False, True])
def test_attention_to_another_input_reads_its_own_number_of_steps(named, tmp_path):
    def forward(m, x, z):
        h, r = m.rnn(x)[0], m.other(z)[0]
        return torch.softmax(h @ r.transpose(1, 2), -1) @ r

    torch.manual_seed(0)
    model = Model(forward, rnn=gru(8, 6), other=gru(5, 6))
    axes = {"x": {0: "rows", 1: "steps"}, "z": {0: "rows", 1: "others"}} if named else None
    file = exported(model, (torch.zeros(2, 5, 8), torch.zeros(2, 9, 5)), ["x", "z"], ["y"], axes)
    x, z = torch.randn(3, 7, 8), torch.randn(3, 4, 5)
    with torch.no_grad():
        expected = model.eval()(x, z).numpy()
    net = loaded(file, tmp_path)
    y = net({"x": x.numpy().swapaxes(0, 1), "z": z.numpy().swapaxes(0, 1)})
    close(y.swapaxes(0, 1), expected)
    if named:
        close(y.swapaxes(0, 1), run(file, x.numpy(), z.numpy())[0])


def test_tokens_beside_frames_of_a_fixed_size(tmp_path):
    torch.manual_seed(0)
    model = Model(
        lambda m, x, i: m.rnn(torch.cat([x, m.table(i)], -1))[0], table=nn.Embedding(9, 3), rnn=gru(11, 6)
    )
    net = loaded(
        exported(model, (torch.zeros(2, 4, 8), torch.zeros(2, 4).long()), ["x", "i"], ["y"], None), tmp_path
    )
    x, i = torch.randn(3, 7, 8), torch.randint(0, 9, (3, 7))
    with torch.no_grad():
        expected = model.eval()(x, i).numpy()
    close(net({"x": x.numpy().swapaxes(0, 1), "i": i.numpy().T}).swapaxes(0, 1), expected)


# ---- the shapes of published models --------------------------------------------------------------------


def reader(m, x):
    """A recogniser of written lines, as CRNN: columns of the picture are steps."""
    h = functional.max_pool2d(torch.relu(m.norm(m.first(x))), 2, 2)
    h = functional.max_pool2d(torch.relu(m.second(h)), (2, 2), (2, 1), (0, 1))
    h = torch.relu(m.third(h)).squeeze(2).permute(2, 0, 1)
    h, _ = m.rnn(h)
    steps, batch, size = h.shape
    return torch.log_softmax(m.out(h.reshape(steps * batch, size)).reshape(steps, batch, -1), -1)


READER = {
    "first": nn.Conv2d(1, 6, 3, 1, 1),
    "norm": nn.BatchNorm2d(6),
    "second": nn.Conv2d(6, 8, 3, 1, 1),
    "third": nn.Conv2d(8, 10, 2),
    "rnn": nn.LSTM(10, 8, bidirectional=True),
    "out": nn.Linear(16, 5),
}


def segmenter(m, x):
    """A segmentation of speakers: convolutions over samples, norms over all of them."""
    h = functional.leaky_relu(m.norm(m.pool(torch.abs(m.first(m.level(x))))))
    h = m.pool(m.second(h))
    return torch.log_softmax(m.out(m.rnn(h.transpose(1, 2))[0]), -1).transpose(0, 1)


SEGMENTER = {
    "level": nn.InstanceNorm1d(1, affine=True),
    "first": nn.Conv1d(1, 8, 51, stride=10),
    "pool": nn.MaxPool1d(3),
    "norm": nn.InstanceNorm1d(8, affine=True),
    "second": nn.Conv1d(8, 6, 5),
    "rnn": lstm(6, 7, num_layers=2, bidirectional=True),
    "out": nn.Linear(14, 3),
}


@pytest.mark.parametrize(
    "axes", [None, {0: "batch"}, {0: "batch", -1: "steps"}], ids=["fixed", "rows", "all"]
)
@pytest.mark.parametrize(
    ("forward", "parts", "shape"),
    [(reader, READER, (2, 1, 8, 24)), (segmenter, SEGMENTER, (2, 1, 2000))],
    ids=["reader", "segmenter"],
)
def test_time_is_found_in_whatever_axis(forward, parts, shape, axes, tmp_path):
    torch.manual_seed(0)
    rows = 1 if axes is None else 2
    x = torch.randn(rows, *shape[1:])
    varying = {"x": {axis % len(shape): name for axis, name in axes.items()}} if axes else None
    file = exported(Model(forward, **parts), (x,), ["x"], ["y"], varying)
    (expected,) = run(file, x.numpy())
    close(loaded(file, tmp_path)(np.moveaxis(x.numpy(), -1, 0)), expected)


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


def two_in_one(m, x, h):
    """Two layers whose states lie in one array, (1, layers, hidden, h and c), as in DTLN."""
    first = tuple(h[:, 0, :, i][None].contiguous() for i in (0, 1))
    second = tuple(h[:, 1, :, i][None].contiguous() for i in (0, 1))
    y, first = m.first(x, first)
    y, second = m.second(y, second)
    both = [torch.stack([one[0], other[0]], 1) for one, other in zip(first, second, strict=True)]
    return torch.sigmoid(m.out(y)) * x, torch.stack(both, -1)


def cached(m, x, h, c):
    """A convolution that keeps the steps that it reads again, and a GRU."""
    seen = torch.cat([h, x.unsqueeze(2)], 2)
    y, c = m.rnn(torch.relu(m.conv(seen)).transpose(1, 2), c)
    return y[:, 0], seen[:, :, 1:], c


STEPS = {
    "states in one array": (
        two_in_one,
        {"first": lstm(8, 6), "second": lstm(6, 6), "out": nn.Linear(6, 8)},
        [(1, 1, 8), (1, 2, 6, 2)],
        ["h_out"],
    ),
    "cache": (
        cached,
        {"conv": nn.Conv1d(8, 6, 3), "rnn": gru(6, 5)},
        [(1, 8), (1, 8, 2), (1, 1, 5)],
        ["h_out", "c_out"],
    ),
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


def test_the_first_input_is_no_state_by_its_name(tmp_path):
    """A filter's audio_in and audio_out are not one step and the next."""
    file = exported(
        Model(lambda m, x: torch.tanh(m.lin(x)), lin=nn.Linear(8, 8)),
        (torch.zeros(1, 8),),
        ["audio_in"],
        ["audio_out"],
        None,
    )
    x = np.random.default_rng(0).standard_normal((1, 8), dtype=np.float32)
    close(loaded(file, tmp_path)(x), run(file, x)[0])


def test_a_state_is_the_input_whose_shape_one_output_has(tmp_path):
    """A cell written out whose states lie in one array, as in DTLN, has other names than before."""

    def forward(m, x, both):
        h, c = m.cell(x, (both[:, 0], both[:, 1]))
        return m.out(h), torch.stack([h, c], 1)

    torch.manual_seed(0)
    model = Model(forward, cell=nn.LSTMCell(8, 6), out=nn.Linear(6, 3))
    file = exported(model, (torch.zeros(1, 8), torch.zeros(1, 2, 6)), ["x", "memory"], ["y", "later"], None)
    stream, before = loaded(file, tmp_path).stream(), np.zeros((1, 2, 6), np.float32)
    for one in np.random.default_rng(0).standard_normal((9, 8), dtype=np.float32):
        expected, before = run(file, one[None], before)
        close(stream.step(one), expected)


def test_states_side_by_side_in_one_output(tmp_path):
    """The PyTorch version of DTLN takes the states of each layer as inputs and gives all as one output."""

    def forward(m, x, h1, c1, h2, c2):
        y, (h1, c1) = m.first(x, (h1, c1))
        y, (h2, c2) = m.second(y, (h2, c2))
        return m.out(y), torch.cat([h1, c1, h2, c2])

    torch.manual_seed(0)
    found = Model(forward, first=nn.LSTM(8, 6), second=nn.LSTM(6, 6), out=nn.Linear(6, 3))
    states = ["h1", "c1", "h2", "c2"]
    given = (torch.zeros(1, 1, 8), *[torch.zeros(1, 1, 6)] * 4)
    path = tmp_path / "net.onnx"
    path.write_bytes(exported(found, given, ["x", *states], ["y", "after"], None))
    net = tr.load(path)
    assert [*net._inputs] == ["x"] and net._output_names() == ["y"]
    stream, before = net.stream(), np.zeros((4, 1, 1, 6), np.float32)
    for one in np.random.default_rng(0).standard_normal((9, 8), dtype=np.float32):
        expected, after = run(str(path), one[None, None], *before)
        close(stream.step(one), expected)
        before = after.reshape(before.shape)


def test_states_of_a_graph_that_makes_the_batch_1(tmp_path):
    """TensorFlow's converter leaves all sizes of inputs open; here frames are steps of one row."""
    rng = np.random.default_rng(0)
    arrays = {"w": (1, 24, 5), "r": (1, 24, 6), "b": (1, 48)}
    nodes = [
        node("Reshape", "x to", "steps"),
        node("Unsqueeze", "h zero", "before_h"),
        node("Unsqueeze", "c zero", "before_c"),
        node("LSTM", "steps w r b - before_h before_c", "ys last_h last_c", hidden_size=6),
        node("Squeeze", "ys one", "y"),
        node("Squeeze", "last_h zero", "p"),
        node("Squeeze", "last_c zero", "q"),
    ]
    numbers = {"to": np.int64([-1, 1, 5]), "zero": np.int64([0]), "one": np.int64([1])}
    numbers |= {name: rng.normal(size=size).astype(np.float32) for name, size in arrays.items()}
    file = model(nodes, {"x": (-1, 5), "h": (-1, 6), "c": (-1, 6)}, ["y", "p", "q"], **numbers)
    stream = loaded(file, tmp_path).stream()
    state = [np.zeros((1, 6), np.float32)] * 2
    for x in rng.normal(size=(9, 5)).astype(np.float32):
        y, *state = run(file, x[None], *state)
        close(stream.step(x), y.reshape(-1))


def test_the_last_of_indices(tmp_path):
    """A decoder embeds the last word of those so far."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(9, 4)).astype(np.float32)
    nodes = [node("Gather", "words last", "word", axis=1), node("Gather", "table word")]
    file = model(nodes, {"words": (np.int64, (-1, -1))}, ["y"], last=np.int64(-1), table=table)
    words = rng.integers(0, 9, (2, 7))
    close(loaded(file, tmp_path)(words.T), run(file, words)[0])


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
