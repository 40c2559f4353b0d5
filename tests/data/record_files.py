"""Record files of `Net.save`, and what their nets compute, for test_old_files.py to load with later versions.

    python tests/data/record_files.py NAME...

writes NAME.safetensors beside this file, and the nets' inputs and outputs to NAME.npz: ``version1`` to
``version4``, the version of the file. Those of versions 1 and 2 were recorded with tinyrnn 0.1.0, before
there were graphs. A recorded file stays as it is: a change of the format is a new version, with a new file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tinyrnn as tr

DATA = Path(__file__).parent


def chain() -> tr.Net:
    """All float32: layers of most kinds."""
    return tr.Sequential(
        {
            "conv": tr.Conv1d(2, 3, 3, padding=1),
            "flat": tr.Flatten(-2),
            "norm": tr.LayerNorm(12),
            "rnn": tr.LSTM(12, 5, bidirectional=True, proj_size=4),
            "drop": tr.Dropout(0.2),
            "inner": tr.Sequential(tr.GRU(8, 4), tr.LayerNorm(4), tr.LeakyReLU(0.1)),
            "head": tr.Linear(4, 3),
        }
    )


def smaller() -> tr.Net:
    """One matrix or more in each format."""
    net = tr.Sequential(
        tr.Embedding(7, 4), tr.GRU(4, 6, num_layers=2), tr.RNN(6, 5), tr.Tanh(), tr.Linear(5, 3)
    )
    net = tr.quantize(net, "int4", keep=("0", "1.l1", "2", "4"))
    net = tr.quantize(net, "int8", keep=("0", "2", "4"))
    net = tr.quantize(net, "bfloat16", keep=("0", "4"))
    return tr.quantize(net, "float16", keep="4")


def graph() -> tr.Net:
    """A feedback, a value per sequence, a layer that is used twice, a net within the net, two outputs."""
    x, speaker = tr.Input(4, name="sound"), tr.Input(2, time=None, name="speaker")
    before, shared = tr.Feedback(3, steps=2), tr.Linear(4, 4)
    z = tr.Input(4)
    block = tr.Net(z, tr.Tanh()(tr.Linear(4, 4)(z) + z))
    h = tr.LSTM(7, 4)(tr.concat([block(shared(x)), before])).named("rnn")
    y = tr.Linear(4, 3)(shared(h) * tr.Linear(2, 4)(speaker).named("gain")).named("head")
    before.connect(y)
    return tr.Net({"sound": x, "speaker": speaker}, {"y": y, "h": tr.maximum(h[:2], h[2:])})


def begun() -> tr.Net:
    """Initial states: given ones and one that trains, in a graph, with a matrix in int8."""
    x, before = tr.Input(4), tr.Feedback(3, steps=2)
    h = tr.LSTM(7, 4, num_layers=2, proj_size=3)(tr.concat([x, before])).named("rnn")
    y = tr.Linear(3, 3)(tr.GRU(3, 3)(h).named("top")).named("head")
    before.connect(y)
    net = tr.quantize(tr.Net(x, y), "int8", keep=("rnn", "top"))
    random = np.random.default_rng(4)
    shapes = {"delay.past": (2, 3), "rnn.h": (2, 3), "rnn.c": (2, 4), "top.h": (1, 3)}
    net.initial_state = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    net["top"].learn_initial_state()
    return net


NETS = {"version1": chain, "version2": smaller, "version3": graph, "version4": begun}


def inputs(name: str) -> dict[str, np.ndarray]:
    """The inputs of a recorded net, five steps of two rows."""
    random = np.random.default_rng(len(name))
    if name == "version1":
        return {"x": random.standard_normal((5, 2, 2, 4)).astype(np.float32)}
    if name == "version2":
        return {"x": random.integers(0, 7, (5, 2)).astype(np.int32)}
    if name == "version4":
        return {"x": np.random.default_rng(44).standard_normal((5, 2, 4)).astype(np.float32)}
    shapes = {"sound": (5, 2, 4), "speaker": (2, 2)}
    return {port: random.standard_normal(shape).astype(np.float32) for port, shape in shapes.items()}


def computed(net: tr.Net, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name."""
    found = net(given) if len(given) > 1 else net(given["x"])
    return found if isinstance(found, dict) else {"y": found}


def main() -> None:
    tr.set_isa(tr.available_isas()[-1])
    for name in sys.argv[1:]:
        tr.manual_seed(int(name[-1]))
        net = NETS[name]()
        net.save(DATA / f"{name}.safetensors")
        given = inputs(name)
        outputs = {f"output {key}": value for key, value in computed(net, given).items()}
        np.savez_compressed(
            DATA / f"{name}.npz", **{f"input {key}": value for key, value in given.items()}, **outputs
        )


if __name__ == "__main__":
    main()
