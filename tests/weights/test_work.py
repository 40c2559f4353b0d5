"""Loading is linear in the file: calls, reads and additions are counted for files of several sizes."""

import contextlib
import gc
import io
import json
import sys

import numpy as np
import pytest
import weight_files as wf
from weight_files import Ops, call, tensor, value, whole_module

import tinyrnn as tr
from tinyrnn import cli, saving
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.spec import Reader

ONE = np.float32(1).tobytes()


def calls_of(function, path):
    """The number of calls, of Python's functions and of C's, that this takes."""
    count = 0

    def counted(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        with contextlib.suppress(tr.LoadError, tr.WeightsError):
            function(path)
    finally:
        sys.setprofile(None)
    return count


def scalar(key=0):
    return tensor((1,), key=str(key), count=1)


def in_safetensors(names, **metadata):
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(names)
    }
    if metadata:
        header["__metadata__"] = metadata
    return wf.safetensors(header, ONE * len(names))


def graph(count):
    nodes = [
        {"name": f"n{i}", "reads": [i], "layer": {"type": "ReLU", "arguments": {}}} for i in range(count)
    ]
    net = {"type": "Graph", "inputs": [{"name": "x", "frame": [1], "time": 0}], "nodes": nodes}
    net["outputs"] = [{"name": "y", "value": count}]
    return in_safetensors([str(i) for i in range(count)], tinyrnn=json.dumps({"version": 4, "net": net}))


def chain(count):
    layers = {str(i): {"type": "ReLU", "arguments": {}} for i in range(count)}
    text = json.dumps({"version": 1, "net": {"type": "Sequential", "layers": layers}})
    return in_safetensors([f"{i}.w" for i in range(count)], tinyrnn=text)


def old(count):
    return wf.legacy({f"w{i}": scalar(i) for i in range(count)}, {str(i): (1, ONE) for i in range(count)})


def modules(count):
    inner = {str(i): whole_module({"w": scalar()}) for i in range(count)}
    return wf.pt(whole_module({}, inner), {"0": ONE})


def shared(count):
    """One module under many names, one list of pairs for many dicts."""
    first = Ops(whole_module({"w": scalar()}) + b"q\0")
    pairs = Ops(value([[f"p{i}", None] for i in range(count)]) + b"q\x010")
    again = b"".join(b"ccollections\nOrderedDict\nh\1\x85R0" for _ in range(count))
    net = whole_module({}, {"first": first, **{str(i): Ops(b"h\0") for i in range(count)}})
    return wf.pt(Ops(pairs + again + net), {"0": ONE})


def info(path):
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["info", str(path)])


def into_a_net(path):
    tr.LSTM(2, 3).load_state_dict(load_weights(path))


KINDS = {
    "tensors in a zip": (
        lambda n: wf.pt({f"w{i}": scalar(i) for i in range(n)}, {str(i): ONE for i in range(n)}),
        load_weights,
    ),
    "members that nobody reads": (
        lambda n: wf.pt({"w": scalar()}, {str(i): ONE for i in range(n)}),
        load_weights,
    ),
    "arrays in a zip": (
        lambda n: wf.npz(*((f"{i}.npy", wf.npy(wf.npy_header(shape=(1,)), ONE)) for i in range(n))),
        load_weights,
    ),
    "before 1.6": (old, load_weights),
    "safetensors": (lambda n: in_safetensors([f"w{i}" for i in range(n)]), load_weights),
    "sets of weights": (
        lambda n: wf.pt({str(i): {"w": scalar()} for i in range(n)}, {"0": ONE}),
        load_weights,
    ),
    "JSON": (lambda n: json.dumps({f"w{i}": [[0.5, 1]] for i in range(n)}).encode(), load_weights),
    "objects": (
        lambda n: wf.pt({"w": scalar()} | {f"{i}": call("a.b", i) for i in range(n)}, {"0": ONE}),
        inspect_file,
    ),
    "modules": (modules, load_weights),
    "shared parts": (shared, load_weights),
    "folded": (
        lambda n: in_safetensors([f"{i}.weight{end}" for i in range(n) for end in ("_orig", "_mask")]),
        load_weights,
    ),
    "names of wrappers": (lambda n: in_safetensors([f"{'module.' * 20}{i}" for i in range(n)]), into_a_net),
    "names that do not fit": (lambda n: in_safetensors([f"{i}.weight_ih_l0" for i in range(n)]), into_a_net),
    "a chain of layers": (chain, tr.load),
    "a graph of layers": (graph, tr.load),
    "info": (lambda n: in_safetensors([f"{i}.weight" for i in range(n)]), info),
    "info of levels": (lambda n: in_safetensors([f"weight_ih_l{i}" for i in range(n)]), info),
}


@pytest.mark.parametrize("kind", KINDS)
def test_calls_grow_with_the_file(tmp_path, kind):
    make, function = KINDS[kind]
    counts = []
    for number in (50, 150, 350):  # the first warms up
        (tmp_path / f"{number}.bin").write_bytes(make(number))
        counts.append(calls_of(function, tmp_path / f"{number}.bin"))
    assert counts[2] < counts[1] * 350 / 150 * 1.15


def test_a_member_is_looked_up_with_one_read(tmp_path, monkeypatch):
    reads = []
    plain = Reader.read
    monkeypatch.setattr(Reader, "read", lambda *given: reads.append(given[2]) or plain(*given))
    (tmp_path / "m.pt").write_bytes(wf.pt({"w": scalar()}, {str(i): ONE for i in range(500)}))
    load_weights(tmp_path / "m.pt")
    assert len(reads) < 503 + 20 and sum(reads) < 2 * (tmp_path / "m.pt").stat().st_size


@pytest.mark.parametrize("runs", [True, False])
def test_the_collector_waits_while_a_file_is_read(tmp_path, monkeypatch, runs):
    """It would go through all objects of a long list of tensors over and over."""
    path, seen, plain = tmp_path / "m.pt", [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda *given: seen.append(gc.isenabled()) or plain(*given))
    (gc.enable if runs else gc.disable)()
    try:
        path.write_bytes(wf.pt({"w": scalar()}, {"0": ONE}))
        load_weights(path)
        assert gc.isenabled() == runs and len(seen) > 3 and not any(seen)
        path.write_bytes(b"PK")
        with pytest.raises(tr.LoadError):
            load_weights(path)
        assert gc.isenabled() == runs
    finally:
        gc.enable()


def test_layers_are_added_up_once(monkeypatch):
    """The layers of a graph: their sum was taken again for each."""

    class Counted(int):
        added = 0

        def __radd__(self, other):
            Counted.added += 1
            return Counted(int(self) + int(other))

        __add__ = __radd__

    whole = saving._levels

    def levels(description, depth, place):
        found = whole(description, depth, place)
        return found if description["type"] == "Graph" else Counted(found)

    monkeypatch.setattr(saving, "_levels", levels)
    text = json.loads(graph(100)[8:].split(b"\0")[0].rpartition(b"}")[0] + b"}")["__metadata__"]["tinyrnn"]
    assert levels(json.loads(text)["net"], 0, "") == 101
    assert 100 <= Counted.added <= 101
