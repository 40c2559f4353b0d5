"""Nets in a shell, in a notebook and before a static checker; arrays of other programs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

RANDOM = np.random.default_rng(0)


class Foreign:
    """An array of another library: it has DLPack's method, and nothing else."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self._array.__dlpack__()


class OnGpu:
    """An array that no program on this processor can read."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("the array is on cuda:0")


def net() -> tr.Sequential:
    tr.manual_seed(0)
    return tr.Sequential({"lstm": tr.LSTM(4, 8), "head": tr.Linear(8, 2)})


X = RANDOM.standard_normal((12, 10, 4), dtype=np.float32)
Y = RANDOM.integers(0, 2, 12)


def kinds() -> dict[str, Any]:
    """Functions that make of a NumPy array what other programs have."""
    found = {"list": np.ndarray.tolist, "dlpack": Foreign, "memoryview": memoryview}
    if find_spec("torch"):
        import torch

        found["torch"] = torch.from_numpy
        found["torch with gradient"] = lambda x: (
            torch.from_numpy(x).requires_grad_() if x.dtype.kind == "f" else torch.from_numpy(x)
        )
    if find_spec("pandas"):
        import pandas

        found["pandas"] = lambda x: {1: pandas.Series, 2: pandas.DataFrame}.get(x.ndim, np.asarray)(x)
    return found


@pytest.mark.parametrize("kind", kinds())
def test_arrays_go_in_as_they_are(kind: str) -> None:
    make = kinds()[kind]
    model, expected = net(), net()(X[0])
    np.testing.assert_array_equal(model(make(X[0])), expected)
    np.testing.assert_array_equal(model.stream().run(make(X[0])), expected)
    stream = model.stream()
    np.testing.assert_array_equal(np.stack([stream.step(make(x)) for x in X[0]]), expected)
    lengths = np.array([3, 10] * 5)
    np.testing.assert_array_equal(model(make(X[:10]), lengths=make(lengths)), net()(X[:10], lengths=lengths))
    np.testing.assert_array_equal(model.predict(make(X)), net().predict(X))
    losses = [
        one.fit(x, y, epochs=2, loss="cross_entropy", verbose=0)["loss"]
        for one, x, y in ((net(), X, Y), (net(), make(X), make(Y)))
    ]
    assert losses[0] == losses[1]
    assert model.evaluate(make(X), make(Y), loss="cross_entropy") == net().evaluate(
        X, Y, loss="cross_entropy"
    )
    bias = np.float32([1, 2])
    model["head"].bias = make(bias)
    np.testing.assert_array_equal(model["head"].bias, bias)
    other = net()
    other.load_state_dict({name: make(one) for name, one in model.state_dict().items()})
    np.testing.assert_array_equal(other(X[0]), model(X[0]))


def test_an_array_on_another_device_is_named() -> None:
    message = re.escape("got OnGpu, which NumPy cannot read (the array is on cuda:0), expected it on the CPU")
    with pytest.raises(TypeError, match=message):
        net()(OnGpu())


def test_a_notebook_shows_a_table() -> None:
    shown = net()._repr_html_()
    assert shown == net().summary()._repr_html_()
    rows = re.findall(r"<tr>(.*?)</tr>", shown)
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows]
    assert cells[0] == ["name", "type", "reads", "writes", "time", "parameters", "bytes"]
    assert cells[2][:2] == ["lstm", "LSTM"] and cells[-1][5] == f"{net().num_parameters:,}"
    hostile = tr.Input(4, name="<script>")
    assert "<script>" not in tr.Net(hostile, tr.Linear(4, 2)(hostile))._repr_html_()


def test_names_complete() -> None:
    model = net()
    assert {"lstm", "head", "fit", "stream"} <= set(dir(model))
    shown = {name for name in dir(model.stream()) if not name.startswith("_")}
    assert shown == {"batch", "copy", "due", "net", "reset", "run", "state", "step"}
    assert {"weight_ih_l0", "bias_hh_l0", "hidden_size"} <= set(dir(model["lstm"]))
    assert model._ipython_key_completions_() == ["lstm", "head"]
    x = tr.Input(4)
    graph = tr.Net(x, tr.Linear(4, 2)(x).named("fc"))
    assert "fc" in dir(graph) and graph._ipython_key_completions_() == ["fc"]
    state = model.stream().state
    assert state._ipython_key_completions_() == ["lstm.h", "lstm.c"] == list(state)
    with pytest.raises(KeyError, match=r"state: got 'h', expected one of lstm\.h, lstm\.c"):
        state["h"]


TYPED = """
import numpy as np

import tinyrnn as tr

x = np.zeros((3, 4), np.float32)
value = tr.Input(4)
net = tr.Sequential(tr.GRU(4, 8), tr.Linear(8, 2))
"""

# What a checker says of each.
TYPES = {
    "tr.LSTM(4, 8)(x)": "tuple[ndarray, tuple[ndarray, ndarray]]",
    "tr.GRU(4, 8)(x)": "tuple[ndarray, ndarray]",
    "tr.RNN(4, 8)(x, lengths=[3])": "tuple[ndarray, ndarray]",
    "tr.LSTMCell(4, 8)(x)": "tuple[ndarray, ndarray]",
    "tr.GRUCell(4, 8)(x)": "ndarray",
    "tr.Linear(4, 8)(x)": "ndarray",
    "net(x, threads=2)": "ndarray",
    "net([[1.0, 2, 3, 4]])": "ndarray",
    "net.stream().step(x[0])": "ndarray",
    "net.stream().run(x)": "ndarray",
    "tr.Linear(4, 8)(value)": "Value",
    "tr.LSTM(4, 8)(value)": "Value",
    "net(value)": "Value",
    "value + tr.Linear(4, 4)(value)": "Value",
    "tr.Net(value, tr.Linear(4, 4)(value))": "Net",
    "tr.load('net.safetensors')": "Net",
    "net.fit(x, x, loss='mse')": "History",
    "tr.quantize(net, 'int8')": "Net",
    "net.freeze()": "Sequential",
    "net.state_dict()": "dict[str, ndarray]",
}


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_a_static_checker_knows_what_a_call_returns(tmp_path: Path) -> None:
    if not (ROOT / "tinyrnn" / "py.typed").is_file():
        pytest.skip("no sources beside the tests")
    program = tmp_path / "program.py"
    program.write_text(TYPED + "".join(f"reveal_type({one})\n" for one in TYPES))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "--no-error-summary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = re.findall(r'note: Revealed type is "(.*)"', done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert dict(zip(TYPES, map(plain, said), strict=True)) == TYPES


def plain(text: str) -> str:
    """A type without modules, and arrays without what is in them."""
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    while (
        less := re.sub(
            r"ndarray\[[^\[\]]*(?:\[[^\[\]]*(?:\[[^\[\]]*\])*[^\[\]]*\][^\[\]]*)*\]", "ndarray", text
        )
    ) != text:
        text = less
    return text
