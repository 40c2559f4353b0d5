"""The cost of a file: memory and time in proportion to it, messages of a bounded length."""

import json
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import weight_files as wf
from memory import within
from weight_files import Member, Ops, call, tensor, value

import tinyrnn as tr
from tinyrnn.cli import recognition
from tinyrnn.weights import inspect_file, load_weights, npz, safetensors
from tinyrnn.weights.safetensors import save_safetensors

SIX = {"0": np.arange(6, dtype=np.float32).tobytes()}
LONG = 300_000


def put(index):
    return Ops(b"r" + struct.pack("<I", index))


def get(index):
    return Ops(b"j" + struct.pack("<I", index))


@pytest.fixture
def refused(tmp_path):
    """A file that is a LoadError with these words, in little memory and a short message."""

    def refused(data, *words, name="model.bin", function=load_weights, most=16 << 20):
        path = tmp_path / name
        path.write_bytes(data)
        with within(most + 3 * len(data)), pytest.raises(tr.LoadError) as info:
            function(path)
        message = str(info.value)
        assert message.startswith(str(path)) and len(message) < 3000, message[:3000]
        assert info.value.__cause__ is None
        for word in words:
            assert word in message

    return refused


# ---- memory


def many_names(count, length):
    """One dict of `length` names under each of `count` prefixes."""
    inner = {f"{i}{'x' * 900}": get(0) for i in range(length)}
    inner = Ops(tensor() + put(0) + b"0" + value(inner) + put(1))
    return Ops(
        b"}(" + b"".join(value(f"{'p' * 90}{i}") + (get(1) if i else inner) for i in range(count)) + b"u"
    )


def test_names_are_within_the_bound_of_memory(refused, tmp_path):
    refused(wf.pt(many_names(40, 980), SIX), "dotted names", "39", function=inspect_file)
    path = tmp_path / "few.pt"
    path.write_bytes(wf.pt(many_names(3, 20), SIX))
    assert len(load_weights(path)) == 60


def test_a_tensor_of_many_names_is_described_once(tmp_path):
    path = tmp_path / "shared.pt"
    first, rest = value("first") + tensor() + put(0), {str(i): get(0) for i in range(39_000)}
    path.write_bytes(wf.pt(Ops(b"}(" + first + value(rest)[2:-1] + b"u"), SIX))
    with within(30 << 20):
        assert len(inspect_file(path).tensors) == 39_001


def test_escaped_marks_count_as_values(refused, monkeypatch):
    """JSON in JSON: the architecture in the metadata, whose brackets and commas may be escaped."""
    monkeypatch.setattr(safetensors, "MAX_NODES", 1000)
    for mark in (r"\u005b", r"\u007b", r"\u002c", r"\u005B"):
        text = '{"__metadata__":{"tinyrnn":"' + mark * 1001 + '"}}'
        refused(wf.safetensors(text), "__metadata__: expected at most 1000 values")
        refused(wf.safetensors(text), "__metadata__: expected at most 1000 values", function=tr.load)
    text = '{"__metadata__":{"a":"' + r"\u005b" * 600 + '","b":"' + r"\u005b" * 600 + '"}}'
    refused(wf.safetensors(text), "__metadata__: expected at most 1000 values")


def net_file(net, tensors=None, version=1):
    return wf.safetensors(
        {"__metadata__": {"tinyrnn": json.dumps({"version": version, "net": net})}, **(tensors or {})}
    )


def one(kind, **arguments):
    return {"type": kind, "arguments": arguments}


def test_a_layers_long_name_is_not_repeated_for_each_layer_below(refused):
    below = {"type": "Sequential", "layers": {str(i): one("ReLU") for i in range(900)}}
    refused(
        net_file({"type": "Sequential", "layers": {"n" * LONG: below}}),
        "a layer's name has",
        function=tr.load,
    )
    for _ in range(30):
        below = {"type": "Sequential", "layers": {"n" * 40: below}}
    refused(net_file(below), "a layer's name has", function=tr.load)


# ---- time: what was quadratic took minutes


EQUAL = """
import struct, sys
import weight_files as wf
from weight_files import Ops, tensor, value
from tinyrnn.weights import load_weights

path, kind = sys.argv[1:]
size = 5_000_000
text = value("k" * size) if kind == "text" else Ops(b"B" + struct.pack("<I", size) + b"k" * size)
keys = Ops(b"(" + text + b"q\\0" + text + b"q\\1" + b"1")
again = (b"h\\0N" + b"h\\1N") * 300_000
data = Ops(keys + b"}(" + value("w") + tensor() + again + b"u")
with open(path, "wb") as file:
    file.write(wf.pt(data, {"0": bytes(24)}))
assert list(load_weights(path)) == ["w"]
"""


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_equal_long_keys_are_compared_once(tmp_path, kind):
    """600,000 entries of a dict by two equal keys of 5 MB, in turn."""
    env = os.environ | {"PYTHONPATH": os.path.dirname(wf.__file__)}
    subprocess.run(
        [sys.executable, "-c", EQUAL, tmp_path / "model.pt", kind], env=env, check=True, timeout=100
    )


def test_names_that_every_tensor_repeats_are_short(refused):
    """The key of a storage, and the folder of the archive."""
    key = "k" * 60_000
    ident = Ops(value(("storage", Ops(b"ctorch\nFloatStorage\n"), key, "cpu", 6)) + b"Q")
    one_view = call("torch._utils._rebuild_tensor_v2", ident, 0, (2, 3), (3, 1), False, {})
    archive = wf.zipped(Member("m/data.pkl", wf.pickled({"w": one_view})), Member(f"m/data/{key}", SIX["0"]))
    refused(archive, "no storage as torch.save writes it")
    root = "r" * 60_000
    archive = wf.zipped(
        Member("m/x", b""),
        Member(f"{root}/data.pkl", wf.pickled({"w": tensor()})),
        Member(f"{root}/data/0", SIX["0"]),
    )
    refused(archive, "characters, expected at most 1000")


def test_packed_headers_are_within_the_size_of_the_file(refused, monkeypatch, tmp_path):
    header = wf.npy_header(shape=())
    wide = wf.npy(header.replace("'descr'", " " * 9000 + "'descr'"), b"1234")
    monkeypatch.setattr(npz, "MAX_HEADERS", 40_000)
    data = wf.npz(*((f"{i}.npy", wide) for i in range(500)), method=8)
    refused(data, "headers up to here have", name="model.npz")
    plain = wf.npy(header, b"1234")
    (tmp_path / "ok.npz").write_bytes(wf.npz(*((f"{i}.npy", plain) for i in range(3000)), method=8))
    assert len(load_weights(tmp_path / "ok.npz")) == 3000


def test_layers_that_are_alike_are_recognised_once(monkeypatch):
    made, real = [], recognition._guesses
    monkeypatch.setattr(recognition, "_guesses", lambda own: made.append(1) or real(own))
    shapes = {f"{i}.weight": (3, 2) for i in range(500)} | {f"b{i}.bias": (3,) for i in range(500)}
    found = recognition.modules(shapes)
    assert len(found) == 1000 and len(made) == 2
    assert [len(module.fits) for module in found] == [2] * 500 + [0] * 500
    assert [module.prefix for module in found[:2]] == ["0", "1"]


# ---- messages


MESSAGES = {
    "kind": one("K" * LONG),
    "argument": one("ReLU", **{"a" * LONG: 1}),
    "arguments": one("ReLU", **{f"a{i}": 1 for i in range(30_000)}),
    "value": one("Linear", in_features="v" * LONG, out_features=1),
    "values": one("LayerNorm", normalized_shape=["v"] * LONG),
    "name": {"type": "Sequential", "layers": {"n" * 900: one("Linear", in_features=1, out_features=1)}},
    "missing": {
        "type": "Sequential",
        "layers": {f"{'n' * 900}{i}": one("Linear", in_features=1, out_features=1) for i in range(300)},
    },
    "format": one("Linear", in_features=1, out_features=1) | {"formats": ["f" * LONG]},
    "formats": one("Linear", in_features=1, out_features=1) | {"formats": ["f"] * LONG},
    "type": {"type": ["t"] * LONG, "arguments": {}},
    "text": "x" * LONG,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_about_an_architecture_are_short(refused, name):
    refused(net_file(MESSAGES[name]), function=tr.load)


def test_messages_about_anything_else_are_short(refused, tmp_path):
    refused(net_file(one("ReLU"), version="v" * LONG), "update tinyrnn", function=tr.load)
    refused(net_file(one("ReLU"), version=["v"] * LONG), "update tinyrnn", function=tr.load)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused(wf.safetensors({"n" * LONG: entry}), "300000 characters")
    refused(wf.safetensors({"w": entry | {"dtype": "d" * LONG}}), "unknown dtype")
    refused(wf.safetensors({"w": entry | {"shape": [0] * LONG}}), "dimensions")
    refused(wf.safetensors({"w": entry | {"data_offsets": [0] * LONG}}), "data_offsets")
    shape = "(" + "0, " * 3000 + ")"
    header = wf.npy_header().replace("(2, 3)", shape)
    refused(wf.npz(("w.npy", wf.npy(header))), "3000 dimensions", name="model.npz")
    refused(
        wf.npz(("n" * 60_000 + ".npy", wf.npy(wf.npy_header(), bytes(24)))),
        "60000 characters",
        name="model.npz",
    )
    names = {"n" * 900 + str(i): i for i in range(LONG // 900)}
    refused(wf.pt(names), "holds no tensors")
    refused(wf.pt(Ops(b"c" + b"m" * 200 + b"\n" + b"n" * 200 + b"\n")), "which is never loaded")
    assert len(str(tr.LoadError("p" * 10_000 + "the end"))) < 3000
    assert str(tr.LoadError("p" * 10_000 + "the end")).endswith("the end")
    assert str(pickle.loads(pickle.dumps(tr.LoadError("short")))) == "short" and str(tr.LoadError()) == ""


def test_a_state_dict_that_does_not_fit_is_a_short_message(tmp_path):
    many = {f"{'n' * 990}{i}": np.zeros(1, np.float32) for i in range(3000)}
    save_safetensors(tmp_path / "many.safetensors", many)
    net = tr.Sequential({f"{i}": tr.Linear(2, 3) for i in range(200)})
    with pytest.raises(tr.WeightsError, match="and 2980 more") as info:
        net.load_state_dict(load_weights(tmp_path / "many.safetensors"))
    assert len(str(info.value)) < 4000 and "and 380 more" in str(info.value)
    wrong = {name: np.zeros((7, 7), np.float32) for name in net.state_dict()}
    with pytest.raises(tr.WeightsError, match="size mismatch for 0.weight") as info:
        net.load_state_dict(wrong)
    assert len(str(info.value)) < 4000 and str(info.value).endswith("and 380 more.")
