"""Kinds of files to fuzz, and what must hold of any bytes: an error that names the file, or a sound answer.

A kind is a format, or a part of one behind a sound shell: a plain mutation of a zip archive seldom comes past
its checksums. Every run begins with sound small files, which are made when it starts.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import weight_files as wf
from good_files import GOOD, LAYERS, NET, SIX, THING, TRAINED, program_file, program_members
from mutations import mutated

import tinyrnn as tr
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.spec import READ

SLOW = 10.0  # seconds that no small file may take


class Kind(NamedTuple):
    """Sound inputs, and what makes a file of an input."""

    seeds: Callable[[], list[bytes]]
    file: Callable[[bytes], bytes] = bytes
    net: bool = False


def _saved() -> bytes:
    x = tr.Input(2)
    net = tr.Net(x, tr.Linear(3, 1)(tr.LSTM(2, 3)(x) + tr.Linear(2, 3)(x)))
    net.load_state_dict({name: np.full(w.shape, 0.5, w.dtype) for name, w in net.state_dict().items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        net.save(path)
        return path.read_bytes()


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _architecture() -> bytes:
    return _parts(_saved())[0]["__metadata__"]["tinyrnn"].encode()


def _described(text: bytes) -> bytes:
    """A net's file whose description is this."""
    header, numbers = _parts(_saved())
    header["__metadata__"] = {"tinyrnn": text.decode("utf-8", "replace")}
    return wf.safetensors(header, numbers)


def _graphs() -> list[bytes]:
    from onnx_files import model, node

    zeros = {"W": (1, 12, 4), "R": (1, 12, 3), "B": (1, 24)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    cell = [
        node("LSTM", "x W R B - h c", "a h1 c1", hidden_size=3),
        node("Squeeze", "a one", "b"),
        node("MatMul", "b V", "y"),
    ]
    shapes = {"x": ("steps", "rows", 4), "h": (1, "rows", 3), "c": (1, "rows", 3)}
    more = {"one": np.int64([1]), "V": np.zeros((3, 2), np.float32)}
    frames = [
        node("Conv", "x C", "a", pads=[1, 1]),
        node("Slice", "a i j k", "b"),
        node("Concat", "b a", "d", axis=2),
        node("ReduceMean", "d", "y", axes=[2]),
    ]
    numbers = {name: np.int64([value]) for name, value in (("i", 0), ("j", 2), ("k", 2))}
    conv = np.zeros((4, 4, 3), np.float32)
    graphs = [
        model(cell, shapes, ["y", "h1", "c1"], **more, **arrays),
        model(frames, {"x": ("rows", 4, 6)}, ["y"], C=conv, **numbers),
    ]
    return [graph.SerializeToString() for graph in graphs]


_LISTED = {
    "config": {
        "w": {
            "path_name": "weight_0",
            "use_pickle": False,
            "tensor_meta": {
                "dtype": 7,
                "sizes": [{"as_int": 2}, {"as_int": 3}],
                "strides": [{"as_int": 3}, {"as_int": 1}],
                "storage_offset": {"as_int": 0},
                "layout": 7,
            },
        }
    }
}


def _members() -> dict[str, bytes]:
    """The pickle and the storages of a file of quantised layers."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "pytorch" / "packed.pt") as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _quantised(data: bytes) -> bytes:
    storages = {name[5:]: part for name, part in _members().items() if name.startswith("data/")}
    return wf.pt(data, storages)


KINDS = {
    "pt": Kind(lambda: [GOOD["pt"]]),
    "pickle": Kind(
        lambda: [wf.pickled(thing) for thing in (THING, NET)], lambda data: wf.pt(data, {"0": SIX.tobytes()})
    ),
    "program": Kind(
        lambda: [json.dumps(_LISTED).encode()],
        lambda data: wf.zipped(
            wf.Member("m/data/weights/weight_0", SIX.tobytes()),
            wf.Member("m/data/weights/model_weights_config.json", data),
            wf.Member("m/archive_format", b"pt2"),
        ),
    ),
    "exported": Kind(
        lambda: [program_members(name)["models/model.json"] for name in ("chain", "heads")],
        lambda data: program_file("heads", data),
        net=True,
    ),
    "package": Kind(lambda: [wf.package({"a/net": NET, "a/b": {"w": wf.tensor()}})]),
    "quantised": Kind(lambda: [_members()["data.pkl"]], _quantised),
    "legacy": Kind(lambda: [GOOD["pth"]]),
    "npz": Kind(lambda: [GOOD["npz"]]),
    "npy": Kind(
        lambda: [wf.npy(wf.npy_header(), SIX.tobytes())],
        lambda data: wf.npz(("w.npy", data), method=8 * (len(data) % 2)),
    ),
    "safetensors": Kind(lambda: [GOOD["safetensors"]]),
    "header": Kind(lambda: [GOOD["safetensors"][8:-24]], lambda data: wf.safetensors(data, SIX.tobytes())),
    "net": Kind(lambda: [_saved()], net=True),
    "architecture": Kind(lambda: [_architecture()], _described, net=True),
    "json": Kind(lambda: [json.dumps(LAYERS).encode(), json.dumps(TRAINED).encode()], net=True),
    "onnx": Kind(_graphs, net=True),
}


def check(kind: Kind, data: bytes) -> bool:
    """Read a file in every way. True if it was sound; anything but a `LoadError` escapes."""
    content, began = kind.file(data), time.monotonic()
    sound = [_answered(function, content) for function in (inspect_file, load_weights)]
    if None not in sound:
        names = {tensor.name: tensor.shape for tensor in sound[0].tensors}
        assert names == {name: array.shape for name, array in sound[1].items()}
        for array in sound[1].values():
            assert array.dtype in {np.dtype(target) for _, target in READ.values()}
            assert array.flags.c_contiguous and array.flags.writeable
    if kind.net:
        net = _answered(tr.load, content)
        sound.append(net)
        if net is not None:
            assert isinstance(net, tr.Net) and all(w.flags.c_contiguous for w in net.state_dict().values())
    assert time.monotonic() - began < SLOW
    return None not in sound


def _answered(function: Callable, content: bytes):
    try:
        return function(io.BytesIO(content))
    except tr.LoadError as error:
        text = str(error)
        assert text.startswith("<BytesIO>: ") and len(text) < 5000, text
    return None


def fuzz(kind: Kind, count: int, seed: int) -> int:
    """Check mutated files; returns how many were still sound."""
    rng, seeds, sound = random.Random(seed), kind.seeds(), 0
    for _ in range(count):
        data = mutated(rng, rng.choice(seeds), seeds)
        try:
            sound += check(kind, data)
        except BaseException:
            print("this input:", data, file=sys.stderr)
            raise
    return sound
