"""Damaged and hostile Keras files: an error that names the file and the place, never anything else."""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile

import numpy as np
import pytest
from memory import within

import tinyrnn as tr

h5py = pytest.importorskip("h5py")


def dense(**config):
    return {
        "class_name": "Dense",
        "config": {"name": "d", "units": 2, "batch_input_shape": [None, 3], **config},
    }


def row(*layers):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def archive(config, fill=None, version="3.5.0"):
    """A .keras archive; ``fill`` writes its weights."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        if fill is None:
            fill = {"layers/dense/vars/0": np.zeros((3, 2), "f"), "layers/dense/vars/1": np.zeros(2, "f")}
        if isinstance(fill, dict):
            for name, array in fill.items():
                file[name] = array
        else:
            fill(file)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
        file.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        file.writestr("model.weights.h5", stream.getvalue())
    return out.getvalue()


def refused(data, words, folder, load=tr.load, name="model.keras", **options):
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(tr.LoadError, match=words) as found:
        load(path, **options)
    text = str(found.value)
    assert f"{name}: " in text and text.isprintable() and len(text) < 3000


def test_the_good_one_is_good(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(archive(row(dense())))
    assert tr.load(path)(np.zeros((4, 3), np.float32)).shape == (4, 2)


# ---- architectures ---------------------------------------------------------------------------------------

DEEP = "[" * 100_000
LONG = "a" * 100_000


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DEEP, "nested too deep"),
        ('{"a": ' * 100_000, "nested too deep"),
        ("{", "is no JSON"),
        ("[]", "got list, expected an object"),
        ('{"class_name": "A", "class_name": "B"}', "class_name occurs twice"),
        (b"\xff{}", "no UTF-8"),
        ('{"a": ' + "9" * 5000 + "}", "is no JSON|class_name"),
        ({}, "expected a mapping with class_name"),
        ({"class_name": "Mine", "config": {}}, "model of type Mine, whose code is not in the file"),
        (row(), "has no layers"),
        (
            row({"class_name": "Lambda", "config": {"name": "f", "batch_input_shape": [None, 3]}}),
            r"layer f \(Lambda\).*never runs.*custom=",
        ),
        (row(dense(), {"class_name": "ConvLSTM1D", "config": {"name": "c"}}), r"layer c \(ConvLSTM1D\)"),
        (row(dense(activation="mine")), r"layer d \(Dense\): the activation mine is not known"),
        (row(dense(activation=[1])), "expected a name"),
        (row(dense(units=-1)), "units is -1"),
        (
            row({**dense(equation=f"{LONG},{LONG}->a"), "class_name": "EinsumDense"}),
            "expected the last axes",
        ),
        (
            row(
                {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 4, 3]}},
                {"class_name": "UpSampling1D", "config": {"name": "u", "size": 2**20}},
            ),
            r"layer u \(UpSampling1D\): size is 1048576, expected at most 1024",
        ),
        (row(dense(units=True)), "units is True"),
        (row(dense(units=10**12)), r"units is 1000000000000"),
        (row(dense(units=5)), r"kernel has shape \(3, 2\), expected \(3, 5\)"),
        (row(dense(use_bias=False)), "tensors that no layer reads: layers/dense/vars/1"),
        (row(dense(batch_input_shape=[None, 7])), r"expected \(7, 2\)"),
        (row(dense(batch_input_shape=[None, 1 << 40])), "expected two to five sizes"),
        (row(dense(batch_input_shape=None)), r"load\(path, shapes="),
        (row(dense(batch_input_shape=[None, None, None])), "the sizes of its frames"),
        (row(dense(), dense()), "occurs twice"),
        (row(dense(), dense(name="e")), r"layer e \(Dense\): the file lacks its tensor kernel"),
        (
            row(
                {"class_name": "Bidirectional", "config": {"name": "b", "batch_input_shape": [None, None, 3]}}
            ),
            "expected a mapping",
        ),
        (row({"class_name": 3}), "expected a mapping"),
        (row({"class_name": "Dense"}), "has no config"),
        (
            row(dense(), {"class_name": "RepeatVector", "config": {"name": "r", "n": 1 << 21}}),
            "steps is 2097152, expected 1 .. 1048576",
        ),
        (row(dense(), {"class_name": "LSTM", "config": {"name": "r", "units": 5}}), "without steps"),
        (row(dense(), {"class_name": "Reshape", "config": {"name": "r", "target_shape": [0, 0]}}), "Reshape"),
        (
            row(dense(), {"class_name": "Reshape", "config": {"name": "r", "target_shape": [-1, -1]}}),
            "Reshape",
        ),
    ],
)
def test_architectures_that_cannot_be(config, words, tmp_path):
    refused(archive(config), words, tmp_path)


def test_models_within_models(tmp_path):
    config = dense()
    for i in range(60):
        config = {"class_name": "Sequential", "config": {"name": f"s{i}", "layers": [config]}}
    refused(archive(config), "nested too deep", tmp_path)
    config = dense()
    for i in range(60):
        config = {"class_name": "TimeDistributed", "config": {"name": f"s{i}", "layer": config}}
    refused(archive(row(config)), "nested too deep", tmp_path)


def graph(*layers, outputs=("a", 0, 0), inputs=("x", 0, 0)):
    first = {
        "class_name": "InputLayer",
        "name": "x",
        "config": {"batch_shape": [None, 3]},
        "inbound_nodes": [],
    }
    config = {"name": "m", "layers": [first, *layers], "input_layers": [inputs], "output_layers": [outputs]}
    return {"class_name": "Functional", "config": config}


def relu(name, *reads):
    return {
        "class_name": "ReLU",
        "name": name,
        "config": {"name": name},
        "inbound_nodes": [[[*one, {}] for one in reads]],
    }


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (graph(relu("a", ("a", 0, 0))), "layer a: got what it writes itself"),
        (graph(relu("a", ("b", 0, 0)), relu("b", ("a", 0, 0))), "got what it writes itself"),
        (graph(relu("a", ("no", 0, 0))), "reads call 0 of no, which is not there"),
        (graph(relu("a", ("x", 7, 0))), "reads call 7 of x"),
        (graph(relu("a", ("x", -1, 0))), "reads call -1 of x"),
        (graph(relu("a", ("x", 0, 9))), "reads output 9 of x"),
        (graph(relu("a", ("x", 0, 0)), outputs=("a", 0, 1)), "reads output 1 of a"),
        (graph(relu("a", ("x", 0, 0)), outputs=("z", 0, 0)), "z"),
        (graph(relu("a", ("x", 0, 0)), inputs=("a", 0, 0)), "expected an InputLayer"),
        (graph(relu("a", ("x", 0, 0)), inputs=5), "input_layers"),
        (graph(relu("a", ("x", 0, 0), ("x", 0, 0))), "reads 2 values, expected 1"),
        (graph(relu("a")), "reads 0 values, expected 1"),
    ],
)
def test_graphs_that_cannot_be(config, words, tmp_path):
    refused(archive(config, {}), words, tmp_path)


# ---- containers --------------------------------------------------------------------------------------------


def linked(kind):
    def fill(file):
        file["layers/dense/vars/0"] = np.zeros((3, 2), "f")
        file["layers/dense/vars/1"] = kind

    return fill


def to_itself(file):
    file["layers"] = file.create_group("a")


def cycle(file):
    file["a/b/c"] = file.create_group("a")


def stored(**options):
    def fill(file):
        file.create_dataset("layers/dense/vars/0", data=np.zeros((3, 2), "f"), **options)

    return fill


def virtual(file):
    layout = h5py.VirtualLayout((3, 2), "f")
    layout[:] = h5py.VirtualSource("other.h5", "data", (3, 2))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def external(file):
    file.create_dataset("layers/dense/vars/0", (3, 2), "f", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def huge(file):
    file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "f")


def huge_chunks(file):
    file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 10), "f", chunks=(1 << 18, 1 << 10))


def deep(file):
    file["/".join("a" * 100)] = np.zeros(3, "f")


def complex_numbers(file):
    file["layers/dense/vars/0"] = np.zeros(3, "c8")


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (linked(h5py.SoftLink("/layers/dense/vars/0")), "is a link to another place or file"),
        (linked(h5py.ExternalLink("/etc/passwd", "/")), "is a link to another place or file"),
        (to_itself, "layers: is linked twice"),
        (cycle, "linked twice"),
        (stored(compression="gzip"), "in chunks or compressed"),
        (stored(chunks=(1, 1)), "in chunks or compressed"),
        (virtual, "in another file, which is never opened"),
        (external, "in another file, which is never opened"),
        (huge, "needs 4398046511104 bytes"),
        (huge_chunks, "in chunks"),
        (deep, "groups are nested too deep"),
        (complex_numbers, "kernel|dtype"),
    ],
)
def test_hdf5_that_is_refused(fill, words, tmp_path):
    with within(64 << 20):
        refused(archive(row(dense()), fill), words, tmp_path)


def test_datasets_of_no_numbers_are_left_out(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["text"], file["flag"] = np.ones(3, "f"), "words", np.bool_([True, False])
        file["half"], file["big"] = np.ones(2, "f2"), np.arange(3, dtype=">i4")
    tensors = tr.load_weights(path)
    assert {name: array.dtype.name for name, array in tensors.items()} == {
        "a": "float32",
        "big": "int32",
        "flag": "bool",
        "half": "float32",
    }
    assert tensors["big"].tolist() == [0, 1, 2] and tensors["flag"].tolist() == [True, False]
    refused(path.read_bytes(), "holds weights but no architecture", tmp_path, name="model.h5")


def test_lists_of_layers_that_cannot_be(tmp_path):
    def whole(layers, weights=("kernel",)):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.attrs["model_config"] = json.dumps(row(dense(use_bias=False)))
            root = file.create_group("model_weights")
            root.attrs["layer_names"] = layers
            root.create_group("d").attrs["weight_names"] = list(weights)
            root["d/kernel"] = np.zeros((3, 2), "f")
        return stream.getvalue()

    path = tmp_path / "model.h5"
    path.write_bytes(whole(["d"]))
    assert tr.load(path)(np.zeros((1, 3), np.float32)).shape == (1, 2)
    refused(whole(["d", "d"]), "got layer d twice", tmp_path, name="model.h5")
    refused(whole(["d"], ["other"]), "lacks model_weights/d/other", tmp_path, name="model.h5")
    refused(whole(["d"], ["../d/kernel"]), "lacks", tmp_path, name="model.h5")
    refused(whole(["e"]), r"layer d \(Dense\): got 0 tensors, expected 1: kernel", tmp_path, name="model.h5")
    refused(whole(["d"], ["kernel"] * 2), "got 2 tensors, expected 1", tmp_path, name="model.h5")


def test_a_list_of_strings_that_are_all_one_is_bounded(tmp_path):
    """Strings of an attribute may be one long text, many times over."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(row(dense()))
        root = file.create_group("model_weights")
        root["d/kernel"] = np.zeros((3, 2), "f")
        root.attrs["text"] = "x" * 900_000
        root.attrs["layer_names"] = ["d"] * 4000
    data = bytearray(stream.getvalue())
    one = struct.pack("<I", 1)
    at = data.index(b"layer_names")
    while not data[at : at + 4] == data[at + 16 : at + 20] == data[at + 32 : at + 36] == one:
        at += 1
    place = data.index(struct.pack("<I", 900_000))
    data[at : at + 64_000] = 4000 * data[place : place + 16]
    refused(bytes(data), "was read before, expected each part once", tmp_path, name="model.h5")


def test_archives_that_are_refused(tmp_path):
    good = archive(row(dense()))
    for lost in ("config.json", "model.weights.h5"):
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(out, "w") as file:
            for name in old.namelist():
                if name != lost:
                    file.writestr(name, old.read(name))
        refused(out.getvalue(), f"expected {lost} among them", tmp_path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", " " * (65 << 20))
        file.writestr("model.weights.h5", "")
    refused(out.getvalue(), "config.json: got 68157440 bytes, expected at most", tmp_path)
    refused(b"\x89HDF\r\n\x1a\n", "HDF5: the superblock needs 9 bytes", tmp_path, tr.load_weights, "model.h5")
    refused(good, "the suffix .h5 says HDF5, but the content looks like Keras", tmp_path, name="model.h5")


def test_h5py_is_not_needed(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(archive(row(dense())))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert tr.load(path)(np.zeros((4, 3), np.float32)).shape == (4, 2)
