"""Files of `torch.export.save` become nets with PyTorch's numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

torch = pytest.importorskip("torch")
nn = torch.nn

from test_from_torch import CASES, B, T, compared, exported, file_of, floats, perturbed  # noqa: E402

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning")] + [
    pytest.mark.filterwarnings("ignore:LSTM with projections")
]

AUTO = torch.export.Dim.AUTO
# What torch.export itself refuses; what needs a proof; a mask that a module computes from a number; and parts
# of frames that are written in place.
LEFT_OUT = {"encoder and decoder", "packed", "unpacked", "packed, time first"} | {"mean within", "gathered"}
LEFT_OUT |= {"padding mask", "lengths as a list", "lengths of NumPy", "filled"}
# Repeats what it read as often as there were steps: they may be another number.
LEFT_OUT |= {"repeated"}
# PyTorch takes long to export them.
LEFT_OUT |= {f"decoder, {one}" for one in ("side by side", "by factors", "dot", "dot by sums", "general")}


def refused(module, given, *words):
    with pytest.raises(tr.LoadError) as caught:
        tr.load(file_of(exported(module.eval(), given)))
    text = str(caught.value)
    assert text.startswith("<BytesIO>: ") and all(word in text for word in words), text


@pytest.mark.parametrize("case", [one for one in CASES if one not in LEFT_OUT])
def test_the_net_has_the_numbers_of_the_module(case):
    """At other sizes than those that PyTorch made constant."""
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    net = tr.load(file_of(exported(module, make(3, 14))))
    compared(module, net, make(B, T), axes)


@pytest.mark.parametrize(
    "case",
    ["last step", "both ends", "residual", "multihead", "text cnn", "tcn", "conv and gru", "two heads"],
)
def test_sizes_that_vary(case):
    kind, make, axes = CASES[case]
    module, given = perturbed(kind()), make(3, 14)
    shapes = tuple({i: AUTO for i, one in enumerate(axes[: x.ndim]) if one in "BT"} for x in given)
    net = tr.load(file_of(exported(module, given, shapes)))
    compared(module, net, make(B, T), axes)
    compared(module, net, make(1, T), axes)


@pytest.mark.parametrize("case", ["own_formula"])
def test_programs_that_were_decomposed(case):
    """A core of ATen's operations, to which torch.export comes down in `run_decompositions`."""
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    net = tr.load(file_of(exported(module, make(3, 14)).run_decompositions()))
    compared(module, net, make(B, T), axes)


def test_a_program_is_a_module_of_from_torch():
    module = perturbed(nn.Sequential(nn.Embedding(17, 6), nn.Linear(6, 3)))
    given = [torch.arange(30).reshape(3, 10) % 17]
    program = exported(module, given, ({0: AUTO, 1: AUTO},))
    net = tr.from_torch(program.module(), tuple(given))
    with torch.no_grad():
        np.testing.assert_allclose(net(given[0].numpy()), module(given[0]), atol=2e-6)


class Stateful(nn.Module):
    def __init__(self, squeezes=False):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 2)
        self.squeezes = squeezes

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(x, (h, c))
        return self.head(y.squeeze(1) if self.squeezes else y), h, c


@pytest.mark.parametrize(("steps", "squeezes"), [(5, False), (1, False), (1, True)])
def test_states_that_are_inputs_are_the_streams(steps, squeezes):
    torch.manual_seed(0)
    module = Stateful(squeezes).eval()
    given = [torch.zeros(1, steps, 3), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)]
    net = tr.load(file_of(exported(module, given))).eval()
    x = floats(1, 9, 3)
    module.squeezes = False
    with torch.no_grad():
        expected, *_ = module(x, *given[1:])
    stream = net.stream()
    got = np.concatenate([stream.step(x[:, t].numpy()).copy() for t in range(9)])
    np.testing.assert_allclose(got, expected[0], atol=2e-6)


def test_without_torch(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    path, x = tmp_path / "net.pt2", floats(1, 5, 3)
    torch.export.save(exported(module, [x]), path)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, tinyrnn as tr; "
        "net = tr.load('net.pt2').eval(); np.save('y.npy', net(np.load('x.npy')))"
    )
    env = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "y.npy").reshape(1, 5, 2), module(x), atol=2e-6)
    code = (
        "from tinyrnn.cli import main; import sys; sys.exit(main(['convert', 'net.pt2', 'net.safetensors']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert tr.verify(path, tmp_path / "net.safetensors")
    assert tr.verify(path, module)


class Written(nn.Module):
    """Its forward changes tensors in place."""

    def __init__(self, forward):
        super().__init__()
        self.own, self.front, self.rnn = forward, nn.Linear(3, 3), nn.GRUCell(3, 3)
        self.register_buffer("h", torch.zeros(2, 3))

    def forward(self, x):
        return self.own(self, x)


def steps_filled(self, x):
    h, y = torch.zeros_like(x[:, 0]), x.new_zeros(x.shape)
    for t in range(x.shape[1]):
        h = self.rnn(x[:, t], h)
        y[:, t] = h
    return self.front(y)


def whole(self, x):
    y = self.front(x)
    y.relu_()
    return y + x


def repeated(self, x):
    """A loop as long as there are steps, but over none of them."""
    for _ in range(6):
        x = torch.tanh(self.front(x)) + x
    return x


def view_read(self, x):
    y = self.front(x)
    part = y[:, :, :2]
    y.relu_()
    return part * 2


def part_changed(self, x):
    y = self.front(x)
    y[:, :, :2].relu_()
    return y * 2


def buffer(self, x):
    y = x + self.h[:, None]
    self.h.copy_(y[:, -1])
    return y


def given(self, x):
    return self.front(x.relu_())


@pytest.mark.parametrize("forward", [steps_filled, whole, repeated])
def test_tensors_that_are_changed_in_place(forward):
    torch.manual_seed(1)
    module, x = Written(forward).eval(), floats(2, 6, 3)
    net = tr.load(file_of(exported(module, [x])))
    with torch.no_grad():
        np.testing.assert_allclose(net.eval()(x.numpy()), module(x), atol=2e-6)


def test_steps_that_are_filled_where_the_batch_varies():
    """PyTorch takes a slice of all rows beside each step."""
    module, x = Written(steps_filled).eval(), floats(3, 8, 3)
    net = tr.load(file_of(exported(module, [floats(2, 6, 3)], ({0: AUTO},))))
    with torch.no_grad():
        np.testing.assert_allclose(net.eval()(x.numpy()), module(x), atol=2e-6)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (view_read, "after a part of it was changed"),
        (part_changed, "after a part of it was changed"),
        (buffer, "changes b_h, expected states"),
        (given, "changes x, expected states"),
    ],
)
def test_changes_that_a_net_does_not_make_are_refused(forward, words):
    refused(Written(forward), [floats(2, 6, 3)], "test_programs.py:", words)


def test_an_operation_that_is_no_layer_is_named_with_its_line():
    refused(
        Written(lambda self, x: torch.erfinv(self.front(x))), [floats(2, 6, 3)], "test_programs.py:", "erfinv"
    )


class Varying(nn.Module):
    """One input whose half it takes, beside one whose steps PyTorch made constant."""

    def __init__(self):
        super().__init__()
        self.front, self.rnn = nn.Linear(3, 3), nn.GRU(3, 3, batch_first=True)

    def forward(self, x, y):
        return self.front(x)[:, : x.shape[1] // 2].sum(1), self.rnn(y)[0][:, -1]


def test_what_depends_on_a_size_that_varies_is_refused_beside_one_that_does_not():
    given = [floats(3, 14, 3), floats(3, 9, 3)]
    with pytest.raises(tr.LoadError, match="takes a part of the steps that depends on their number"):
        tr.load(file_of(exported(Varying().eval(), given, ({0: AUTO, 1: AUTO},) * 2)))


def clockwork(self, x):
    h, found = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        h = torch.tanh(self.front(x[:, t]) + (h if t % 2 else self.front(h)))
        found.append(h)
    return torch.stack(found, 1)


def test_a_loop_that_stays_unrolled_has_its_steps_alone():
    torch.manual_seed(1)
    module, x = Written(clockwork).eval(), floats(2, 6, 3)
    net = tr.load(file_of(exported(module, [x]))).eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(x.numpy()), module(x), atol=2e-6)
    for steps in (5, 7):
        with pytest.raises(tr.ShapeError, match=rf"frames of shape \({steps}, 3\), expected \(6, 3\)"):
            net(floats(2, steps, 3).numpy())


def test_lengths_need_a_proof():
    kind, make, _ = CASES["mean within"]
    refused(perturbed(kind()), make(3, 14), "lengths", "from_torch")


class Classifier(nn.Module):
    """A GRU, and what becomes of its output."""

    def __init__(self, forward):
        super().__init__()
        self.own, self.gru, self.places = forward, nn.GRU(4, 6, batch_first=True), nn.Embedding(50, 6)
        self.table = nn.Parameter(torch.ones(50, 6))

    def forward(self, x):
        return self.own(self, self.gru(x)[0])


HOLDING = {
    "div": lambda self, y: y.sum(1) / y.size(1),
    "sqrt": lambda self, y: y.sum(1) / y.size(1) ** 0.5,
    "select": lambda self, y: y[:, y.size(1) - 1],
    "slice": lambda self, y: y[:, 2 : y.size(1)],
    "reshape": lambda self, y: y.reshape(-1, 7, 3),
    "expand": lambda self, y: torch.tanh(y[:, -1:].expand(-1, y.size(1), -1)),
    "avg_pool1d": lambda self, y: nn.functional.avg_pool1d(y.mT, y.size(1)),
    "flip": lambda self, y: (y * torch.arange(y.size(1)).flip(0)[:, None]).sum(1),
    "last rows": lambda self, y: y + self.table[-y.size(1) :],
}


@pytest.mark.parametrize("held", HOLDING)
def test_a_number_that_may_be_the_steps_is_that_number(held):
    """PyTorch made the 7 steps constant; a net of 7 steps, or none."""
    module, x = perturbed(Classifier(HOLDING[held])), floats(5, 7, 4)
    try:
        with pytest.warns(UserWarning, match="test_programs.py:.* holds 7, the steps"):
            net = tr.load(file_of(exported(module, [x]))).eval()
    except tr.LoadError as error:
        assert "holds 7" in str(error)
        return
    with torch.no_grad():
        np.testing.assert_allclose(np.reshape(net(x.numpy()), module(x).shape), module(x), atol=2e-6)
    for steps in (6, 14):
        with pytest.raises(tr.ShapeError):
            net(floats(5, steps, 4).numpy())


def test_sizes_that_are_numbers_for_certain_are_the_steps():
    """Without them the program fails at other lengths."""

    def forward(self, y):
        whole = y.reshape(-1, 6).reshape(y.shape[0], y.shape[1], 6) + self.table[: y.shape[1]]
        whole = whole + self.places(torch.arange(y.shape[1]))
        return torch.cat([whole, y[:, -1:].expand(-1, y.shape[1], -1)], 2)

    module, x = perturbed(Classifier(forward)), floats(2, 6, 4)
    net = tr.load(file_of(exported(module, [floats(5, 7, 4)]))).eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(x.numpy()), module(x), atol=2e-6)


def test_a_warning_names_the_sizes_that_pytorch_made_constant(recwarn):
    module = perturbed(Classifier(lambda self, y: y[:, -1]))
    file = file_of(exported(module, [floats(5, 7, 4)]))
    with pytest.warns(UserWarning, match=r"where x.shape\[0\] == 5, x.shape\[1\] == 7 alone"):
        tr.load(file)
    module.own = lambda self, y: y * 2 if y.shape[0] > 8 else y
    bounded = file_of(exported(module, [floats(5, 7, 4)], ({0: AUTO, 1: AUTO},)))
    with pytest.warns(UserWarning, match=r"where x.shape\[1\] == 7, x.shape\[0\] <= 8 alone"):
        tr.load(bounded)
    recwarn.clear()
    net = tr.load(file, axes="BTF")
    assert net(floats(1, 11, 4).numpy()).shape == (1, 6) and not recwarn.list
