"""Archives of TorchScript, traced and scripted, become nets with PyTorch's numbers."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

torch = pytest.importorskip("torch")
nn = torch.nn

from test_from_torch import CASES, LOOPS, B, T, compared, floats, perturbed  # noqa: E402

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning")] + [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

# Lengths need a proof; a mask that a module computes from a number; parts of frames that are written in
# place; loops whose first step is another.
LEFT_OUT = {"packed", "unpacked", "packed, time first", "mean within", "gathered", "lengths as a list"}
LEFT_OUT |= {"lengths of NumPy", "padding mask", "filled", "memory", "stacked_cells", "iterated"}
# Compared with the archive itself, which is slow; loops have as many steps there as in the trace.
UNROLLED = {"caption loop", "lstm_cell", "fed_back", "normed_state"}
WITNESSED = {"last step", "residual", "a tuple", "conv and gru"} | UNROLLED
# PyTorch traces no dict.
LOOPED = {*LOOPS} - UNROLLED - {"own_formula"} | {one for one in CASES if one.startswith("decoder, ")}
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


@pytest.mark.parametrize("case", ["decoder, additive", "decoder, dot"])
def test_a_traced_decoder(case):
    """It writes as many steps as in the trace; what it attends to may have others."""
    kind, make, _ = CASES[case]
    module = perturbed(kind())
    net = tr.load(file_of(torch.jit.trace(module, tuple(make(3, 14)), check_trace=False)))
    given = floats(B, T, 6), floats(B, 10, 5, seed=2)
    with torch.no_grad():
        expected = module(*given).numpy()
    np.testing.assert_allclose(net(*(one.numpy() for one in given)), expected, atol=2e-6)


@pytest.mark.parametrize("case", SCRIPTED)
def test_a_scripted_module(case):
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    file = file_of(torch.jit.script(module))
    net = tr.load(file, **SCRIPTED[case])
    checked((file, module), net, make(B, T), axes)
    compared(module, net, make(1, T), axes)


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
