"""Files of every version so far: recorded files still load, and descriptions of graphs may hold anything."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weight_files as wf
from folders import ROOT

import tinyrnn as tr
from tinyrnn._core import is_fused

DATA = ROOT / "tests" / "data"
sys.path.insert(0, str(DATA))
import record_files  # noqa: E402

sys.path.pop(0)


@pytest.mark.parametrize("name", record_files.NETS)
def test_recorded_files_compute_what_they_did(name: str) -> None:
    path = DATA / f"{name}.safetensors"
    assert path.stat().st_size < 10_000
    assert json.loads(about(path.read_bytes())["tinyrnn"])["version"] == int(name[-1])
    net = tr.load(path)
    with np.load(DATA / f"{name}.npz") as record:
        arrays = dict(record)
    given = {key.removeprefix("input "): array for key, array in arrays.items() if key.startswith("input ")}
    outputs = {key.removeprefix("output "): a for key, a in arrays.items() if key.startswith("output ")}
    assert given.keys() == record_files.inputs(name).keys()
    found = record_files.computed(net, given)
    assert found.keys() == outputs.keys()
    for key, right in outputs.items():
        if is_fused(tr.isa()):
            assert np.array_equal(found[key], right), key
        else:  # an input may round to another of 255 levels
            near = 0.02 if name in ("version2", "version4") else 1e-5
            assert np.abs(found[key] - right).max() < near, key


@pytest.mark.parametrize("name", record_files.NETS)
def test_recorded_files_are_saved_as_the_same_version(name: str, tmp_path: Path) -> None:
    """An older tinyrnn can still read what it could read."""
    net = tr.load(DATA / f"{name}.safetensors")
    net.save(tmp_path / "again.safetensors")
    old, new = (about(p.read_bytes()) for p in (DATA / f"{name}.safetensors", tmp_path / "again.safetensors"))
    was, now = json.loads(old["tinyrnn"]), json.loads(new["tinyrnn"])
    assert now["written_by"] == tr.__version__
    assert was | {"written_by": tr.__version__} == now


def test_an_initial_state_is_in_the_file() -> None:
    net = tr.load(DATA / "version4.safetensors")
    begin = net.initial_state
    assert begin is not None and list(begin) == ["delay.past", "rnn.h", "rnn.c", "top.h"]
    random = np.random.default_rng(4)
    for name, array in begin.items():
        assert np.array_equal(array, random.standard_normal(array.shape).astype(np.float32)), name
    assert net.requires_grad("top.h0") and not net.requires_grad("rnn.h0")
    assert net.formats["head"] == "int8"


def about(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return metadata


# ---- descriptions of graphs ---------------------------------------------------------------------


def relu() -> dict[str, Any]:
    return {"type": "ReLU", "arguments": {}}


def graph(**changes: Any) -> dict[str, Any]:
    """A graph without tensors: two layers in a row."""
    return {
        "type": "Graph",
        "inputs": [{"name": "x", "frame": [3], "time": "time"}],
        "nodes": [
            {"name": "a", "layer": relu(), "reads": [0]},
            {"name": "b", "layer": {"type": "Add", "arguments": {}}, "reads": [0, 1]},
        ],
        "outputs": [{"name": "y", "value": 2}],
    } | changes


def nodes(*given: tuple[str, Any, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "layer": layer, "reads": reads} for name, layer, reads in given]


def delay(**arguments: Any) -> dict[str, Any]:
    return {"type": "Delay", "arguments": {"frame": [3], "steps": 1} | arguments}


def laughs(depth: int) -> dict[str, Any]:
    """A net within a net within a net, each twice."""
    inner: Any = relu()
    for _ in range(depth):
        inner = graph(nodes=nodes(("a", inner, [0]), ("b", {"type": "Same", "as": "a"}, [1])))
    found: dict[str, Any] = inner
    return found


def write(path: Path, net: Any, version: Any = 3) -> Path:
    text = json.dumps({"version": version, "net": net})
    path.write_bytes(wf.safetensors({"__metadata__": {"tinyrnn": text}}))
    return path


def test_a_description_as_it_should_be(tmp_path: Path) -> None:
    net = tr.load(write(tmp_path / "net.safetensors", graph()))
    assert net(np.float32([[-1, 0, 2]])).tolist() == [[-1, 0, 4]]


def test_a_file_of_a_newer_tinyrnn(tmp_path: Path) -> None:
    """It says which one wrote it."""
    new = graph(nodes=nodes(("a", {"type": "Rope", "arguments": {}}, [0]), ("b", relu(), [1])))
    for version, words in (
        (4, r"of version 4, cannot be built: a: got a layer of type 'Rope', expected one of those of this"),
        (7, r"the file has version 7, expected at most 4"),
    ):
        text = json.dumps({"version": version, "net": new, "written_by": "9.1.0"})
        path = tmp_path / "net.safetensors"
        path.write_bytes(wf.safetensors({"__metadata__": {"tinyrnn": text}}))
        with pytest.raises(
            tr.LoadError, match=f"{words}.*: tinyrnn 9.1.0 wrote it, this is .*: update tinyrnn"
        ):
            tr.load(path)


PORT = {"name": "x", "frame": [3], "time": "time"}
HOSTILE: dict[str, tuple[Any, str]] = {
    "reads itself": (graph(nodes=nodes(("a", relu(), [1]), ("b", relu(), [1]))), "'a': .* comes later"),
    "a circle": (graph(nodes=nodes(("a", relu(), [2]), ("b", relu(), [1]))), "'a': .* only a Delay"),
    "reads nothing": (graph(nodes=nodes(("a", relu(), []), ("b", relu(), [1]))), "'a': got reads"),
    "reads beyond": (graph(nodes=nodes(("a", relu(), [3]), ("b", relu(), [1]))), "'a': .*values 0 .. 2"),
    "reads below": (graph(nodes=nodes(("a", relu(), [-1]), ("b", relu(), [1]))), "'a': .*values 0 .. 2"),
    "reads too much": (graph(nodes=nodes(("a", relu(), [0] * 999), ("b", relu(), [1]))), "'a': got reads"),
    "reads True": (graph(nodes=nodes(("a", relu(), [True]), ("b", relu(), [1]))), "'a': got reads"),
    "reads text": (graph(nodes=nodes(("a", relu(), "0"), ("b", relu(), [1]))), "a: reads is '0', expected"),
    "one name twice": (graph(nodes=nodes(("a", relu(), [0]), ("a", relu(), [1]))), "'a' twice"),
    "inputs of one name": (graph(inputs=[PORT, PORT]), "two inputs of one name"),
    "outputs of one name": (graph(outputs=[{"name": "y", "value": 2}] * 2), "two outputs of one name"),
    "an output beyond": (graph(outputs=[{"name": "y", "value": 9}]), r"got outputs \(9,\)"),
    "an output of text": (graph(outputs=[{"name": "y", "value": "b"}]), "got outputs"),
    "no outputs": (graph(outputs=[]), "no inputs, layers or outputs"),
    "no inputs": (graph(inputs=[]), "'a': got a value that comes later"),
    "no layers": (graph(nodes=[]), "expected"),
    "many inputs": (graph(inputs=[PORT | {"name": str(i)} for i in range(99)]), "expected"),
    "many outputs": (graph(outputs=[{"name": str(i), "value": 2} for i in range(99)]), "99 outputs"),
    "a value that nobody reads": (
        graph(nodes=nodes(("a", relu(), [0]), ("b", relu(), [0]))),
        "layer 'a' is not used",
    ),
    "a frame of text": (graph(inputs=[PORT | {"frame": "3"}]), "frame"),
    "a frame of nothing": (graph(inputs=[PORT | {"frame": None}]), "cannot be built"),
    "a frame below zero": (graph(inputs=[PORT | {"frame": [-3]}]), "frame"),
    "a huge frame": (graph(inputs=[PORT | {"frame": [2**62]}]), "frame"),
    "huge frames": (graph(inputs=[PORT | {"frame": [2**28] * 3}]), "Net: the sizes are too large"),
    "many axes": (graph(inputs=[PORT | {"frame": [1] * 999}]), "999 axes"),
    "a time of numbers": (graph(inputs=[PORT | {"time": 5}]), "time is 5"),
    "no time": (graph(inputs=[{"name": "x", "frame": [3]}]), "inputs: lacks 'time'"),
    "no value": (graph(outputs=[{"name": "y"}]), "outputs: lacks 'value'"),
    "nodes of text": (graph(nodes="nodes"), "nodes is 'nodes', expected a list"),
    "a node of text": (graph(nodes=["node"]), "nodes: got 'node', expected a mapping"),
    "a node without a layer": (graph(nodes=[{"name": "a", "reads": [0]}]), "a: lacks 'layer'"),
    "a name of numbers": (graph(nodes=nodes((7, relu(), [0]))), "name is 7, expected a string"),  # type: ignore[arg-type]
    "an unknown layer": (
        graph(nodes=nodes(("a", {"type": "Mamba", "arguments": {}}, [0]), ("b", relu(), [1]))),
        "of version 3, cannot be built: a: got a layer of type 'Mamba'",
    ),
    "an unknown layer within": (
        graph(
            nodes=nodes(
                ("a", {"type": "Sequential", "layers": {"in": {"type": "S4", "arguments": {}}}}, [0]),
                ("b", relu(), [1]),
            )
        ),
        "a: in: got a layer of type 'S4'",
    ),
    "an unknown argument": (
        graph(nodes=nodes(("a", {"type": "ReLU", "arguments": {"x": 1}}, [0]), ("b", relu(), [1]))),
        r"a: ReLU: got unknown arguments \['x'\]",
    ),
    "the same as nothing": (
        graph(nodes=nodes(("a", {"type": "Same", "as": "b"}, [0]), ("b", relu(), [1]))),
        "'a': got the layer of 'b', expected one before it",
    ),
    "the same as a list": (
        graph(nodes=nodes(("a", {"type": "Same", "as": ["b"]}, [0]), ("b", relu(), [1]))),
        "cannot be built",
    ),
    "the same alone": ({"type": "Same", "as": "a"}, "type 'Same'"),
    "a delay of another frame": (
        graph(
            nodes=nodes(("a", delay(frame=[4]), [2]), ("b", relu(), [0])),
            outputs=[{"name": "y", "value": 1}, {"name": "z", "value": 2}],
        ),
        r"a: got frames of shape \(3,\), expected \(4,\)",
    ),
    "a huge delay": (graph(nodes=nodes(("a", delay(steps=2**40), [2]), ("b", relu(), [0]))), "a: Delay"),
    "delays of delays": (
        graph(nodes=nodes(("a", delay(), [2]), ("b", delay(), [1]))),
        "input 'x' is not used",
    ),
    "one of two values": (
        graph(nodes=nodes(("a", relu(), [0]), ("b", {"type": "Add", "arguments": {}}, [1]))),
        "Add: got 1 values, expected 2 values",
    ),
    "laughs": (laughs(60), "more than .* layers|layers in its metadata"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions(name: str, tmp_path: Path) -> None:
    net, words = HOSTILE[name]
    path = write(tmp_path / "net.safetensors", net)
    with pytest.raises(tr.LoadError, match=words) as caught:
        tr.load(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 3000


def mutants(seed: int, count: int) -> Iterator[Any]:
    """Descriptions with some of their parts replaced, left out or doubled."""
    rng = random.Random(seed)
    values = [
        None,
        True,
        -1,
        0,
        1,
        2,
        3,
        7,
        2**31,
        2**64,
        1.5,
        "",
        "x",
        "a",
        [],
        {},
        [0],
        [[0]],
        relu(),
        delay(),
    ]
    wholes = [json.loads(about((DATA / "version3.safetensors").read_bytes())["tinyrnn"])["net"], graph()]
    wholes.append(graph(nodes=nodes(("a", delay(), [2]), ("b", {"type": "Add", "arguments": {}}, [0, 1]))))
    for _ in range(count):
        net = copy.deepcopy(rng.choice(wholes))
        for _ in range(rng.randint(1, 3)):
            part, key = rng.choice(list(places(net)))
            if rng.random() < 0.7:
                part[key] = copy.deepcopy(rng.choice(values))
            elif isinstance(part, dict) or rng.random() < 0.5:
                del part[key]
            else:
                part.insert(key, copy.deepcopy(part[key]))
            if not list(places(net)):
                break
        yield net


def places(part: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a description."""
    keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    for key in keys:
        yield part, key
        yield from places(part[key])


@pytest.mark.parametrize("seed", range(4))
def test_any_description_is_a_net_or_an_error(seed: int, tmp_path: Path) -> None:
    path, errors = tmp_path / "net.safetensors", 0
    for net in mutants(seed, 150):
        write(path, net)
        try:
            tr.load(path).summary()
        except tr.LoadError as error:
            assert str(error).startswith(str(path)), net
            errors += 1
    assert errors > 50
