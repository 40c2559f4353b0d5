"""Archives of TorchScript, traced and scripted, become nets with PyTorch's numbers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

torch = pytest.importorskip("torch")
nn = torch.nn

from test_from_torch import (  # noqa: E402
    CASES,
    LOOPS,
    B,
    T,
    compared,
    file_of as exported_file,
    floats,
    perturbed,
    recurrent_kinds,
)

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning")] + [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

# Lengths need a proof; a mask that a module computes from a number; parts of frames that are written in
# place; loops whose first step is another; a pool over as many words as the trace had.
LEFT_OUT = {"packed", "unpacked", "packed, time first", "mean within", "gathered", "lengths as a list"}
LEFT_OUT |= {"text cnn", "lengths of NumPy", "padding mask", "filled", "memory", "stacked_cells", "iterated"}
LEFT_OUT |= {"numbers"}  # a loop over a list, whose length a trace holds
# Compared with the archive itself, which is slow; loops have as many steps there as in the trace.
UNROLLED = {"caption loop", "lstm_cell", "fed_back", "normed_state"}
WITNESSED = {"last step", "residual", "a tuple", "conv and gru"} | UNROLLED
# PyTorch traces no dict.
LOOPED = {*LOOPS} - UNROLLED | {one for one in CASES if one.startswith("decoder, ")}
TRACED = [one for one in CASES if one not in LEFT_OUT | LOOPED | {"two heads"}]
SCRIPTED = {
    "last step": {},
    "last hidden": {},
    "both ends": {},
    "viewed states": {},
    "time first": {},
    "tied": {},
    "residual": {},
    "additive attention": {},
    "heads by mask": {},
    "conv and gru": {},
    "two heads": {},
    "a tuple": {},
    "norms": {},
    "raw audio": {},
    "crnn": {"shapes": {"x": (None, 1, None, 10)}},
    "speaker": {"shapes": {"x": (None, None, 6), "speaker": (None, 4)}},
    "projected, backwards": {},
}


def file_of(module):
    file = io.BytesIO()
    torch.jit.save(module, file)
    return file


def checked(module, net, given, axes):
    """The net has the numbers of the archive in PyTorch, or of the module at sizes that a trace refuses."""
    scripted = torch.jit.load(io.BytesIO(module[0].getvalue())).eval()
    try:
        with torch.jit.optimized_execution(False):
            compared(scripted, net, given, axes)
    except RuntimeError:
        compared(module[1], net, given, axes)


@pytest.mark.parametrize("case", TRACED)
def test_a_traced_module(case):
    """At other sizes than those of the trace."""
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    file = file_of(torch.jit.trace(module, tuple(make(3, 14)), check_trace=False))
    net = tr.load(file)
    if case in WITNESSED:
        checked((file, module), net, make(B, T), axes)
    else:
        compared(module, net, make(B, T), axes)


def decoded(self, x, y):
    """A decoder that writes into zeros: behind the steps of the trace they stay."""
    keys, h = self.gru(x)
    h, out = h[0], torch.zeros(x.size(0), y.size(1), 3)
    for t in range(y.size(1)):
        context = (torch.softmax(keys @ h.unsqueeze(2), 1) * keys).sum(1)
        h = self.cell(y[:, t], h)
        out[:, t] = self.fc(h + context)
    return out


def looped(self, x):
    h, found = x.new_zeros(x.size(0), 8), []
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        found.append(h)
    return self.fc(torch.stack(found, 1))


def masked(self, x):
    h = self.gru(x)[0]
    scores = (h @ h.transpose(1, 2)).masked_fill(self.mask == 0, float("-inf"))
    return self.fc(scores.softmax(-1) @ h)


def pooled(self, x):
    x = self.gru(x)[0].transpose(1, 2)
    return self.fc(nn.functional.max_pool1d(x, x.size(2)).squeeze(2))


# What a trace keeps of the number of steps, and whether its net takes others.
TRACES = {
    "a loop": (looped, True),
    "zeros that are written": (decoded, False),
    "zeros of one sequence": (lambda self, x: decoded(self, x, x), False),
    "first steps": (lambda self, x: self.gru(x[:, :10])[0], True),
    "last steps": (lambda self, x: self.gru(x)[0][:, -10:], True),
    "last step by its number": (lambda self, x: self.gru(x)[0][:, int(x.size(1)) - 1], True),
    "unbound": (lambda self, x: self.fc(sum(self.cell(one) for one in x.unbind(1))), False),
    "in two parts": (lambda self, x: torch.sub(*self.gru(x)[0].chunk(2, 1)), False),
    "turned by numbers": (lambda self, x: self.gru(x[:, torch.arange(x.size(1) - 1, -1, -1)])[0], False),
    "a pool over all": (pooled, False),
    "a mask of its size": (masked, False),
    "positions of its size": (lambda self, x: self.gru(x + self.table[:, :14])[0], False),
    "positions cut": (lambda self, x: self.gru(x + self.table[:, : x.size(1)])[0], True),
    "sines": (lambda self, x: self.gru(x + torch.arange(x.size(1)).view(1, -1, 1).sin())[0], False),
    "padded to a length": (
        lambda self, x: self.gru(nn.functional.pad(x, (0, 0, 0, 20 - x.size(1))))[0],
        False,
    ),
    "a mean": (lambda self, x: self.fc(self.gru(x)[0].sum(1) / x.size(1)), True),
    "a mean of its size": (lambda self, x: self.fc(self.gru(x)[0].sum(1) / int(x.size(1))), True),
    "repeated": (lambda self, x: self.fc(self.gru(x)[1].repeat(x.size(1), 1, 1).transpose(0, 1)), True),
    "states for so many rows": (lambda self, x: self.gru(x, self.state)[0], True),
}


class Traced(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.gru, self.cell, self.fc = nn.GRU(6, 8, batch_first=True), nn.GRUCell(6, 8), nn.Linear(8, 3)
        self.table, self.mask = nn.Parameter(torch.randn(1, 200, 6)), torch.ones(14, 14).tril()
        self.state = torch.zeros(1, 3, 8)
        self.function = function

    def forward(self, *given):
        return self.function(self, *given)


@pytest.mark.parametrize("case", TRACES)
def test_a_trace_at_other_lengths(case):
    """A net has the numbers of the archive, or raises; or has NaN where the archive raises."""
    function, varies = TRACES[case]
    count = function.__code__.co_argcount - 1
    given = [floats(3, t, 6, seed=i) for i, t in zip(range(count), (14, 10), strict=False)]
    file = file_of(torch.jit.trace(perturbed(Traced(function)), tuple(given), check_trace=False))
    net, theirs = tr.load(file), torch.jit.load(io.BytesIO(file.getvalue()))
    taken = set()
    for batch, steps in ((3, 14), (3, 31), (2, 18), (3, 9), (1, 5)):
        given = [
            floats(batch, max(t, 1), 6, seed=i)
            for i, t in zip(range(count), (steps, steps - 4), strict=False)
        ]
        try:
            with torch.no_grad(), torch.jit.optimized_execution(False):
                expected = theirs(*given).numpy()
        except RuntimeError:
            expected = None
        try:
            found = net(*(one.numpy() for one in given))
        except tr.ShapeError as error:
            assert re.search("expected|shorter than", str(error)), error
            continue
        if expected is not None:
            np.testing.assert_allclose(*np.broadcast_arrays(found, expected), atol=2e-6)
            taken.add(steps)
        else:
            assert case == "states for so many rows" or np.isnan(found).any()
    assert 14 in taken and (31 in taken) == varies


@pytest.mark.parametrize("case", SCRIPTED)
def test_a_scripted_module(case):
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    file = file_of(torch.jit.script(module))
    net = tr.load(file, **SCRIPTED[case])
    checked((file, module), net, make(B, T), axes)
    compared(module, net, make(1, T), axes)


class Attending(nn.Module):
    """A mask that is added by the code, texts among its conditions, and lists that grow."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(16, 3)
        self.register_buffer("low", torch.linspace(-0.4, -0.2, 3))

    def forward(self, x):
        y = self.layer(self.lstm(x)[0])
        h, found = torch.zeros(x.size(0), 8), torch.jit.annotate(list[torch.Tensor], [])
        for one in y.unbind(1):
            h = torch.tanh(one + self.norm(h))
            found += [h]
        y = torch.cat([torch.stack(found, 1), y.roll(2, 2)], 2)
        y = torch.clamp(self.fc(y), self.low, -self.low) @ torch.eye(3)
        best = nn.functional.adaptive_max_pool1d(y.transpose(1, 2), 1)
        return y.narrow(1, 1, y.size(1) - 1), best.squeeze(2)


@pytest.mark.parametrize("change", [None, torch.jit.freeze, torch.jit.optimize_for_inference])
def test_a_module_that_is_frozen_or_not(change):
    module = perturbed(Attending())
    scripted = torch.jit.script(module)
    net = tr.load(file_of(change(scripted) if change else scripted))
    for batch, steps in ((3, 14), (1, 31), (2, 9)):
        x = floats(batch, steps, 6)
        with torch.no_grad():
            for got, expected in zip(net(x.numpy()), module(x), strict=True):
                np.testing.assert_allclose(got, expected.numpy(), atol=2e-6)


class Layered(nn.Module):
    """Attention and a layer of a transformer: one operation of PyTorch each, where it needs no gradient."""

    def __init__(self, first: bool, activation: str) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=first, activation=activation
        )

    def forward(self, x):
        y = self.gru(x)[0]
        return self.layer(y + self.attention(y, y, y)[0])


@pytest.mark.parametrize(("first", "activation"), [(False, "relu"), (True, "gelu")])
def test_a_trace_without_gradients(first, activation):
    module = perturbed(Layered(first, activation))
    with torch.no_grad():
        file = file_of(torch.jit.trace(module, floats(3, 14, 6)))
    with zipfile.ZipFile(file) as archive:
        code = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".py"))
    assert b"_native_multi_head_attention" in code and b"_transformer_encoder_layer_fwd" in code
    net = tr.load(file)
    for batch, steps in ((3, 14), (1, 31), (2, 1)):
        x = floats(batch, steps, 6)
        with torch.no_grad():
            np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), atol=2e-6)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 8, 2, batch_first=True, bidirectional=True)
        self.gru, self.head = nn.GRU(16, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0])


class SmallCells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.other, self.head = nn.LSTMCell(5, 8), nn.GRUCell(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        g = h = c = torch.zeros(x.size(0), 8)
        found = torch.jit.annotate(list[torch.Tensor], [])
        for one in x.unbind(1):
            h, c = self.cell(one, (h, c))
            g = self.other(h, g)
            found.append(self.head(g))
        return torch.stack(found, 1)


@pytest.mark.parametrize(
    ("module", "how"),
    [(Small, "script"), (Small, "freeze"), (Small, "trace"), (SmallCells, "script"), (SmallCells, "freeze")],
)
def test_a_quantised_module(module, how):
    """The net of the same module by `from_torch`, number for number, with the codes."""
    small = torch.ao.quantization.quantize_dynamic(perturbed(module()), recurrent_kinds(), dtype=torch.qint8)
    x = floats(2, 7, 5)
    want = tr.from_torch(small, x).eval()
    made = torch.jit.trace(small, x, check_trace=False) if how == "trace" else torch.jit.script(small)
    net = tr.load(file_of(torch.jit.freeze(made) if how == "freeze" else made)).eval()
    assert set(net.formats.values()) == {"int8"}
    x = floats(3, 12, 5).numpy()
    np.testing.assert_array_equal(net(x), want(x))


class Asking(nn.Module):
    """Does something else at some lengths, behind a picture whose size the GRU tells."""

    def __init__(self, least: int):
        super().__init__()
        self.conv, self.gru = nn.Conv2d(1, 4, 3, stride=(1, 2), padding=1), nn.GRU(32, 8, batch_first=True)
        self.table, self.least = nn.Parameter(torch.randn(1, 100, 8)), least

    def forward(self, x):
        if x.size(2) < self.least:
            x = nn.functional.pad(x, (0, 0, self.least - x.size(2), 0))
        y = self.gru(self.conv(x).transpose(1, 2).flatten(2))[0]
        return y + self.table[:, : y.size(1)]


def test_sizes_behind_a_picture_and_conditions_on_the_steps():
    free, asks = perturbed(Asking(1)), perturbed(Asking(40))
    with pytest.warns(UserWarning, match=r"size 16; the file allows \[15, 16\].*\(None, 1, None, 16\)"):
        net = tr.load(file_of(torch.jit.freeze(torch.jit.script(free))))
    file = file_of(torch.jit.script(asks))
    with pytest.raises(tr.LoadError, match=r"test_torchscript.py:\d+: .* where the number of steps is 1,"):
        tr.load(file)
    still = tr.load(file, shapes={"x": (None, 1, 12, 16)})
    for one, module, batch, steps in ((net, free, 2, 9), (net, free, 3, 31), (still, asks, 2, 12)):
        x = floats(batch, 1, steps, 16)
        with torch.no_grad():
            expected = module(x).numpy()
        given = np.moveaxis(x.numpy(), 2, 1) if one is net else x.numpy()
        np.testing.assert_allclose(one(given), expected, atol=2e-6)


class Branching(nn.Module):
    """Does something else where ``test`` says so; its scale is a constant of whole numbers, divided."""

    def __init__(self, test: str):
        super().__init__()
        self.gru, self.test, self.number = nn.GRU(4, 6, batch_first=True), test, 8

    def forward(self, x):
        y = self.gru(x)[0] * (torch.arange(6) / 4) * (torch.arange(6) * 0.5 + 1)
        if self.test == "batch":
            return y * 2.0 if x.shape[0] == 1 else y
        if self.test == "steps":
            return y - y.mean(1, keepdim=True) if x.size(1) > 1 else y
        if self.test == "one":
            return y * 2.0 if x.size(1) == 7 else y
        if self.test == "attribute":
            return y * 2.0 if x.size(1) == self.number else y
        return y


@pytest.mark.parametrize(
    "test",
    [
        "batch is 1",
        "number of steps is 1",
        "one: number of steps is 7",
        "attribute: number of steps is 8",
        "",
    ],
)
def test_conditions_on_one_row_one_step_or_a_number(test):
    """At each size that the code compares with it is asked, too; what holds at all is PyTorch's."""
    first, _, told = test.rpartition(": ")
    kind = first or ("batch" if "batch" in test else "steps" if test else "")
    module = perturbed(Branching(kind))
    file = file_of(torch.jit.script(module))
    if test:
        with pytest.raises(tr.LoadError, match=rf"{__name__}.py:\d+: .* {told},"):
            tr.load(file)
        return
    net = tr.load(file)
    for batch, steps in ((1, 1), (3, 7)):
        x = floats(batch, steps, 4)
        np.testing.assert_allclose(net(x.numpy()), module(x).detach().numpy(), atol=2e-6)


class ThreeRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)

    def forward(self, x):
        return self.gru(x, torch.zeros(1, 3, 6))[0]


def test_a_trace_of_so_many_rows_says_so(recwarn):
    module, x = perturbed(ThreeRows()), floats(3, 9, 4)
    file = file_of(torch.jit.trace(module, floats(3, 7, 4)))
    with pytest.warns(UserWarning, match="the trace holds for its example's batch alone"):
        net = tr.load(file)
    np.testing.assert_allclose(net(x.numpy()), module(x).detach().numpy(), atol=2e-6)
    recwarn.clear()
    tr.load(file, axes="BTF")
    assert not recwarn.list


REFUSED = {
    "pad": ("F.pad(x, (0, 0, 0, 99 - x.size(1)))", "pad of .*follows from the number of steps"),
    "layer_norm": ("F.layer_norm(x, [x.size(1), 6])", "layer_norm of .*normalises over the steps"),
    "roll": ("x.roll(1, 1)", "roll of .*rolls steps"),
    "erfinv": ("torch.erfinv(x)", "erfinv of .*not known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_what_was_written(case, tmp_path, monkeypatch):
    """The line of the model, and no type of ours."""
    code, words = REFUSED[case]
    (tmp_path / f"{case}_module.py").write_text(
        "import torch, torch.nn.functional as F\nclass Own(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.gru = torch.nn.GRU(6, 8, batch_first=True)\n"
        f"    def forward(self, x):\n        x = {code}\n        return self.gru(x)[0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(f"{case}_module").Own().eval()
    with pytest.raises(tr.LoadError, match=words) as caught:
        tr.load(file_of(torch.jit.script(module)))
    assert "'Known'" not in str(caught.value)
    assert re.search(rf"{case}_module.py:7( \(torch/nn/functional.py:\d+\))?: {case} of", str(caught.value))


class Begun(nn.Module):
    """Loops by how they begin: only the first is the same at each step."""

    def __init__(self, how: int) -> None:
        super().__init__()
        self.w, self.u, self.cell, self.how = nn.Linear(6, 8), nn.Linear(8, 8), nn.GRUCell(6, 8), how

    def forward(self, x):
        h, out = torch.ones(x.size(0), 8), []
        if self.how == 1:
            h = self.w(x[:, 0])
        for t in range(1 if self.how == 1 else 0, x.size(1)):
            if self.how == 3:
                h = self.cell(x[:, t], torch.ones(x.size(0), 8) if t == 1 else h)
            elif self.how == 4:
                h = self.cell(torch.clamp(x[:, t], None if t == 0 else 0.0, 1.0), h)
            else:
                gain = 3.0 if t == 0 and self.how == 2 else 1.0
                h = torch.tanh(gain * self.w(x[:, t]) + self.u(h))
            out.append(h)
        return torch.stack(out, 1)


@pytest.mark.parametrize("how", range(5))
@pytest.mark.parametrize("scripted", [True, False])
def test_a_loop_begins_as_it_is_written(how, scripted):
    """No record has what step 0 computes with constants; a loop whose first steps are others is none."""
    module = perturbed(Begun(how))
    make = torch.jit.script if scripted else lambda one: torch.export.export(one, (floats(3, 14, 6),))
    file = file_of(make(module)) if scripted else exported_file(make(module))
    if how and scripted:
        with pytest.raises(tr.LoadError, match="runs more often for more steps"):
            tr.load(file)
        return
    try:
        net = tr.load(file)
    except tr.LoadError:
        assert how
        return
    x = floats(3, 14, 6, seed=1)
    with torch.no_grad():
        np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), atol=2e-6)


class Stateful(nn.Module):
    """Keeps its states among its attributes, as a module that streams does."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.cell, self.head = nn.Linear(5, 4), nn.GRUCell(8, 6), nn.Linear(6, 2)
        self.h = torch.zeros(0)
        self.last = torch.zeros(0)

    def forward(self, x, rate: int):
        if rate not in (8, 16):
            raise ValueError("rate")
        x = torch.relu(self.front(x))
        if len(self.h) == 0:
            self.h = torch.zeros(x.size(0), 6)
            self.last = torch.zeros(x.size(0), 4)
        self.h = self.cell(torch.cat([x, self.last], 1), self.h)
        self.last = x
        return self.head(self.h) if rate == 16 else self.h


def test_states_that_are_attributes():
    torch.manual_seed(0)
    file = file_of(torch.jit.script(Stateful().eval()))
    with pytest.raises(tr.LoadError, match=r"takes the number rate: give it, load\(path, rate=...\)"):
        tr.load(file)
    with pytest.raises(TypeError, match="expected arguments of the forward: x, rate"):
        tr.load(file, rate=16, rates=1)
    net = tr.load(file, rate=16).eval()
    assert "GRU" in repr(net)
    theirs, x = torch.jit.load(io.BytesIO(file.getvalue())), floats(3, 9, 5)
    with torch.no_grad():
        expected = np.stack([theirs(x[:, t], 16).numpy() for t in range(9)], 1)
    np.testing.assert_allclose(net(x.numpy()), expected, atol=2e-6)


def test_a_published_module(data_dir):
    """Control flow, two rates, states as attributes: a published voice detector."""
    models = data_dir.parent / "models"
    if not models.is_dir():
        pytest.skip("no published models")
    net = tr.load(models / "silero_vad.jit", sr=16000).eval()
    samples = np.frombuffer((data_dir / "speech_16k.wav").read_bytes()[44:], np.int16) / np.float32(32768)
    expected = np.load(models / "silero_sequence_probs.npy")
    found = net(samples[: 512 * len(expected)].reshape(1, -1, 512))
    np.testing.assert_allclose(found.reshape(-1), expected, atol=2e-5)


def test_without_torch(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    path, x = tmp_path / "net.pt", floats(1, 5, 3)
    torch.jit.script(module).save(str(path))
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, tinyrnn as tr; "
        "from tinyrnn.cli import main; np.save('y.npy', tr.load('net.pt').eval()(np.load('x.npy'))); "
        "sys.exit(main(['info', 'net.pt']) or main(['convert', 'net.pt', 'net.safetensors']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "y.npy").reshape(1, 5, 2), module(x), atol=2e-6)
    assert tr.verify(tmp_path / "net.safetensors", path, steps=20)
    assert tr.verify(path, torch.jit.load(path), steps=20)


# ---- refusals and hostile code ----------------------------------------------------------------------------


def changed(body):
    """An archive of a linear layer whose forward begins with other code."""
    torch.manual_seed(0)
    seed = file_of(torch.jit.script(nn.Sequential(nn.Linear(3, 2))))
    out = io.BytesIO()
    with zipfile.ZipFile(seed) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".debug_pkl"):
                continue
            if name.endswith(".py") and b"class Linear(" in data:
                head, _, tail = data.decode().partition("    weight = self.weight\n")
                data = (head + body + "    weight = self.weight\n" + tail).encode()
            new.writestr(zipfile.ZipInfo(name), data)
    return out


BODIES = {
    "a condition": ("    if bool(torch.sum(input)):\n      pass\n", "depends on the numbers of an input"),
    "no end": ("    a = 1\n    while torch.eq(a, 1):\n      pass\n", "a loop without end?"),
    "long": ("    for i in range(1000000000000):\n      pass\n", "a loop without end?"),
    "itself": ("    a = (self).forward(input, )\n", "functions within functions more than"),
    "list": ("    a = torch.mul([1, 2], 1000000000000)\n", "a loop without end?"),
    "power": ("    a = torch.pow(9, torch.pow(9, 9))\n", "too large"),
    "squares": ("    a = 9\n    for i in range(99):\n      a = torch.mul(a, a)\n", "too large"),
    "doubled": ("    a = [1]\n    for i in range(99):\n      a = torch.add(a, a)\n", "a loop without end?"),
    "brackets": (f"    a = {'(' * 3000}1{')' * 3000}\n", "which no code of TorchScript has"),
    "dots": (f"    a = self{'.a' * 5000}\n", "which no code of TorchScript has"),
    "zeros": (
        "    a = torch.zeros([1000000, 1000000])\n    b = int(torch.select(torch.select(a, 0, 0), 0, 0))\n",
        "memory",
    ),
    "many": ("    for i in range(100000):\n      input = torch.neg(input)\n", "a loop without end?"),
    "unknown": ("    input = torch.erfinv(input)\n", "erfinv"),
    "python": ("    import os\n    a = lambda: 1\n", "no code of TorchScript has"),
    "a call": ('    a = __import__("os")\n', "calls __import__, which is not known"),
    "nested": (
        "    a = [1]\n    for i in range(99):\n      a = [a, a]\n    b = torch.eq(a, a)\n",
        "a loop without end?",
    ),
    "range": ("    a = torch.list(range(1000000000000))\n", "a loop without end?"),
    "its largest": ("    a = torch.max(range(1000000000000))\n", "a loop without end?"),
    "turned": ("    a = torch.mul(1000000000000, [1])\n", "a loop without end?"),
    "apart": ("    a = torch.unbind(torch.zeros([100000000000]), 0)\n", "apart"),
    "names": ("    a = torch\n    for i in range(100000):\n      a = a.b\n", "too long"),
    "null": ("    a = '\0'\n", "does not parse"),
    "number": (f"    a = {'9' * 9000}\n", ""),
}


@pytest.mark.parametrize("kind", BODIES)
def test_code_that_is_refused(kind):
    body, words = BODIES[kind]
    with pytest.raises(tr.LoadError) as caught:
        tr.load(changed(body))
    text = str(caught.value)
    assert text.startswith("<BytesIO>: ") and words in text and len(text) < 1500, text


def test_code_that_is_another_is_read_as_it_is():
    net, plain = (tr.load(changed(body)) for body in ("    input = torch.neg(input)\n", ""))
    x = np.float32(np.random.default_rng(0).standard_normal((2, 4, 3)))
    np.testing.assert_array_equal(net(x), plain(-x))
