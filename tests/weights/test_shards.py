"""Safetensors in several files with an index, and tied tensors by the metadata's map."""

import io
import json
import os

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.errors import LoadError
from tinyrnn.weights import inspect_file, load_weights, shards
from tinyrnn.weights.safetensors import save_safetensors

A, B, C = (np.full((2, i), i, np.float32) for i in (1, 2, 3))
PLACES = {"b": "two.safetensors", "a": "one.safetensors", "c": "two.safetensors"}


@pytest.fixture
def write(tmp_path):
    save_safetensors(tmp_path / "one.safetensors", {"a": A})
    save_safetensors(tmp_path / "two.safetensors", {"b": B, "c": C})

    def write(places=PLACES, **more):
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": places, **more}, indent=2))
        return path

    return write


def test_shards_are_one_file(write, tmp_path):
    path = write()
    got = load_weights(path)
    assert list(got) == ["b", "a", "c"]
    assert all(np.array_equal(got[name], want) for name, want in {"a": A, "b": B, "c": C}.items())
    info = inspect_file(path)
    assert info.format == "sharded safetensors" and info.bytes == sum(
        os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path)
    )
    path.with_suffix(".txt").write_bytes(path.read_bytes())
    assert list(load_weights(path.with_suffix(".txt"))) == ["b", "a", "c"]


def test_many_numbers_are_within_the_bound_of_all_files(write, tmp_path):
    """The bound of memory is for all files together; the index alone is small."""
    big = np.zeros((3, 8 << 20), np.float16)
    save_safetensors(tmp_path / "big.safetensors", {"w": big})
    assert load_weights(write({"w": "big.safetensors"}))["w"].nbytes == 2 * big.nbytes > 64 << 20


@pytest.mark.parametrize(
    "file",
    ["../one.safetensors", "/etc/one.safetensors", "a/one.safetensors", "a\\one.safetensors", "one.bin", "",
     ".safetensors", "x" * 300 + ".safetensors", 3, None, ["one.safetensors"], "c:one.safetensors"],
)  # fmt: skip
def test_a_shard_lies_in_the_same_folder(write, file):
    with pytest.raises(LoadError, match="in the same folder"):
        load_weights(write({"a": file}))


def test_index_and_shards_agree(write, tmp_path, monkeypatch):
    for places, words in (
        ({**PLACES, "d": "one.safetensors"}, "d: is missing from one.safetensors"),
        ({"b": "two.safetensors"}, "c: is in two.safetensors, but the index does not say so"),
        ({"a": "two.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "a: is missing"),
        ([], "weight_map: expected an object"),
    ):
        path = write(places)
        if not isinstance(places, dict):
            path.write_text('{"weight_map": {}}'.replace("{}", '{"x": []}'))
            words = "in the same folder"
        with pytest.raises(LoadError, match=words):
            load_weights(path)
    with pytest.raises(FileNotFoundError, match=r"three\.safetensors"):
        load_weights(write({"a": "three.safetensors"}))
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(LoadError, match=r"broken\.safetensors"):
        load_weights(write({"a": "broken.safetensors"}))
    with pytest.raises(LoadError, match="key: got 'a'"):
        load_weights(write(), key="a")
    with pytest.raises(LoadError, match="give a path, not an open file"):
        load_weights(io.BytesIO(write().read_bytes()))
    path = write()
    path.write_text(path.read_text()[:-3])
    with pytest.raises(LoadError, match="not JSON"):
        load_weights(path)
    monkeypatch.setattr(shards, "MAX_FILES", 1)
    with pytest.raises(LoadError, match="got 2 files, expected at most 1"):
        load_weights(write())


def test_tied_tensors_come_back(tmp_path):
    path = tmp_path / "m.safetensors"
    save_safetensors(path, {"head.weight": A}, {"format": "pt", "embedding.weight": "head.weight", "x": "y"})
    got = load_weights(path)
    assert list(got) == ["head.weight", "embedding.weight"] and np.array_equal(got["embedding.weight"], A)
    got["embedding.weight"][:] = 9
    assert got["head.weight"][0, 0] == 1
    save_safetensors(path, {"a": A, "b": B}, {"a": "b"})
    assert load_weights(path)["a"].shape == A.shape  # it is there itself


def test_save_model_of_safetensors(tmp_path):
    torch, official = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5)})
    model["head"].weight = model["embedding"].weight
    official.save_model(model, str(tmp_path / "m.safetensors"))
    got = load_weights(tmp_path / "m.safetensors")
    assert got.keys() == model.state_dict().keys()
    assert all(np.array_equal(got[name], tensor.numpy()) for name, tensor in model.state_dict().items())


# ---- layers of a state_dict


@pytest.mark.parametrize(
    "layer",
    [
        tr.Embedding(5, 3),
        tr.LayerNorm(4),
        tr.LayerNorm((2, 3), bias=False),
        tr.BatchNorm1d(3),
        tr.BatchNorm1d(3, affine=False),
        tr.BatchNorm2d(3, bias=False),
    ],
)
def test_layers_follow_from_their_tensors(layer):
    random = np.random.default_rng(1)
    state = {name: random.random(array.shape).astype(np.float32) if array.ndim else np.array(7)
             for name, array in layer.state_dict().items()}  # fmt: skip
    inner = {f"net.{name}": array for name, array in state.items()}
    made = type(layer).from_state_dict(inner, prefix="net")
    assert made.config() == layer.config()
    for name, array in state.items():
        assert np.array_equal(made.state_dict()[name], array)
    first = "running_mean" if "running_mean" in state else "weight"
    with pytest.raises(tr.WeightsError, match=rf"{first} is missing.*pass prefix='net\.'"):
        type(layer).from_state_dict(inner | {"other": A})


def test_layers_that_do_not_follow():
    with pytest.raises(tr.WeightsError, match=r"Embedding: weight has shape \(3,\), expected"):
        tr.Embedding.from_state_dict({"weight": np.zeros(3)})
    with pytest.raises(tr.WeightsError, match=r"BatchNorm1d: running_mean has shape \(2, 1\)"):
        tr.BatchNorm1d.from_state_dict({"running_mean": A, "running_var": A})
    with pytest.raises(tr.WeightsError, match="LayerNorm"):
        tr.LayerNorm.from_state_dict({"weight": np.zeros((1, 2, 3))})
    assert tr.BatchNorm1d.from_state_dict({"running_mean": [0.0], "running_var": [1.0]}, eps=0.5).eps == 0.5
    assert tr.Embedding.from_state_dict({"weight": A}, padding_idx=1).padding_idx == 1
