"""Sound small files of every format of weights."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import weight_files as wf

SIX = np.arange(6, dtype=np.float32)
THING = {
    "state_dict": {"w": wf.tensor(), "v": wf.tensor((3, 2), (1, 3)), "e": wf.tensor((0, 3), count=6)},
    "epoch": 3,
    "s": {"x": [1, (2,)]},
}
NET = wf.whole_module({"w": wf.tensor()}, {"inner": wf.whole_module({"v": wf.tensor((6,))})})
PROGRAMS = dict(np.load(Path(__file__).parents[1] / "data" / "pytorch" / "programs.npz"))


def program_members(name: str) -> dict[str, bytes]:
    """The members of a recorded program of torch.export, without their folder."""
    with zipfile.ZipFile(io.BytesIO(PROGRAMS[f"{name}/file"].tobytes())) as archive:
        return {one.partition("/")[2]: archive.read(one) for one in archive.namelist()}


def program_file(name: str, text: bytes) -> bytes:
    """A recorded program with other JSON."""
    members = program_members(name) | {"models/model.json": text}
    return wf.zipped(*(wf.Member(f"m/{one}", data) for one, data in members.items()))


# JSON that describes a net: RTNeural's layers, and the trainers' network.
LAYERS = {
    "in_shape": [None, None, 1],
    "layers": [
        {"type": "dense", "activation": "tanh", "shape": [1, 2], "weights": [[[0.5, -1]], [0.25, 0]]},
        {
            "type": "conv1d",
            "activation": "",
            "shape": [2],
            "kernel_size": [2],
            "dilation": [3],
            "groups": 1,
            "weights": [[[[0.5, 1], [1, 2]], [[0.5, 1], [1, 2]]], [0, 0.5]],
        },
        {"type": "batchnorm", "shape": [2], "epsilon": 0.001, "weights": [[0.5, 1], [2, 1]]},
        {"type": "prelu", "shape": [2], "weights": [[[0.5, 1]]]},
        {"type": "lstm", "shape": [1], "weights": [[[0.5] * 4] * 2, [[0.5] * 4], [0.5] * 4]},
        {"type": "gru", "shape": [1], "weights": [[[0.5] * 3], [[0.5] * 3], [[0.5] * 3] * 2]},
        {"type": "activation", "activation": "elu", "shape": [1], "weights": []},
    ],
    "in_skip": 1,
    "in_gain": -3.5,
    "metadata": {"samplerate": "48000"},
}
TRAINED = {
    "model_data": {
        "model": "SimpleRNN",
        "input_size": 1,
        "skip": 1,
        "output_size": 1,
        "unit_type": "GRU",
        "num_layers": 1,
        "hidden_size": 1,
        "bias_fl": True,
    },
    "state_dict": {
        "rec.weight_ih_l0": [[0.5]] * 3,
        "rec.weight_hh_l0": [[0.5]] * 3,
        "rec.bias_ih_l0": [0.5] * 3,
        "rec.bias_hh_l0": [0.5] * 3,
        "lin.weight": [[0.5]],
        "lin.bias": [0.5],
    },
}
MODELED = {  # of Neural Amp Modeler
    "version": "0.7.0",
    "metadata": {"gain": 0.5},
    "architecture": "LSTM",
    "config": {"input_size": 1, "hidden_size": 1, "num_layers": 2},
    "weights": [0.5] * 30,
}
GOOD = {
    "pt": wf.pt(THING, {"0": SIX.tobytes()}),
    "safetensors": wf.safetensors(
        {"__metadata__": {"a": "b"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}},
        SIX.tobytes(),
    ),
    "pth": wf.legacy(THING | {"net": NET}, {"0": (6, SIX.tobytes())}),
    "npz": wf.npz(
        ("w.npy", wf.npy(wf.npy_header(), SIX.tobytes())),
        ("e.npy", wf.npy(wf.npy_header(shape=(0, 3)))),
        method=8,
    ),
    "json": json.dumps(
        {
            "model_data": {"model": "SimpleRNN", "input_size": 1, "num_layers": 1, "bias_fl": True},
            "state_dict": {"w": SIX.reshape(2, 3).tolist(), "e": [[], [], []], "b": 0.5},
            "metadata": {"samplerate": 48000},
        }
    ).encode(),
}
