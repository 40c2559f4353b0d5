"""The reader of HDF5 beside h5py: the same tensors and texts of any file that it takes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr
from tinyrnn.keras.structure import Structure

h5py = pytest.importorskip("h5py")


def written(fill, **options):
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        fill(file)
    return stream.getvalue()


def arrays(file):
    """The datasets of a file by path, in h5py's order."""
    found = {}
    file.visititems(lambda path, one: found.update({path: one[()]} if hasattr(one, "shape") else {}))
    return found


def texts(file):
    found = {"": dict(file.attrs)}
    file.visititems(
        lambda path, one: None if hasattr(one, "shape") else found.update({path: dict(one.attrs)})
    )
    return found


def of_all_kinds(file):
    for code in ("<f4", ">f4", "<f8", "<f2", "<i8", ">i4", "<i2", "i1", "<u8", "<u4", ">u2", "u1", "?"):
        file[f"kinds/{code}"] = np.arange(6).reshape(2, 3).astype(code)
    file["kinds/scalar"] = np.float32(2.5)
    file["kinds/empty"] = np.zeros((0, 3), "f")
    file.create_group("a/b/c")
    file.attrs["text"], file["a"].attrs["long"] = "w\u00f6rter", "x" * 60_000
    file["a/b"].attrs["many"] = ["one", "", "three"]
    file["a/b/c"].attrs["fixed"] = np.array([b"ab", b"abcd"])
    file["a/b/c"].attrs["none"] = np.zeros(0)
    for i in range(6):
        file["kinds"].attrs[f"a{i}"] = str(i)


def of_many(file):
    for i in range(1500):
        file.create_group(f"g{i}")["w"] = np.float32([i])


def some_links(file):
    for i in range(4):
        file[f"g/{i}"] = np.float32([i])
        file["g"].attrs[str(i)] = "v"


@pytest.mark.parametrize(
    ("fill", "options"),
    [
        (of_all_kinds, {}),
        (some_links, {"libver": "v108"}),
        (of_many, {}),
        (some_links, {"libver": "latest"}),
        (some_links, {"track_order": True}),
    ],
)
def test_files_that_h5py_wrote(fill, options):
    data = written(fill, **options)
    with h5py.File(io.BytesIO(data)) as file:
        expected, words = arrays(file), texts(file)
    got = tr.load_weights(io.BytesIO(data))
    assert list(got) == list(expected)
    for path, array in expected.items():
        assert got[path].shape == np.shape(array) and np.array_equal(got[path], array)
    own = Structure(data, ValueError).texts
    for path, attributes in words.items():
        wanted = {
            name: [one.decode() if isinstance(one, bytes) else str(one) for one in np.atleast_1d(value)]
            for name, value in attributes.items()
        }
        assert own[path] == wanted


@pytest.mark.parametrize("name", ["coder", "stack", "words"])
def test_files_that_keras_wrote(name):
    path = ROOT / "tests" / "data" / "keras" / f"{name}.h5"
    with h5py.File(path) as file:
        expected = {key.removeprefix("model_weights/"): one for key, one in arrays(file).items()}
    got = tr.load_weights(path)
    assert list(got) == [key for key in expected if key in got]
    assert all(np.array_equal(one, expected[key]) for key, one in got.items())


@pytest.mark.parametrize("at", range(4, 96, 4))
def test_addresses_of_the_superblock_that_lead_elsewhere(at):
    data = bytearray(written(some_links))
    for value in (0, 8, 96, len(data) - 4, len(data), 2**32 - 1):
        data[8 + at : 12 + at] = value.to_bytes(4, "little")
        try:
            tr.load_weights(io.BytesIO(data))
        except tr.LoadError as error:
            assert str(error).startswith("<BytesIO>: ")


def test_a_structure_that_leads_to_itself_is_read_once():
    """A table whose node is its own child."""
    data = bytearray(written(some_links))
    tree = data.index(b"TREE")
    data[tree + 32 : tree + 40] = tree.to_bytes(8, "little")
    with pytest.raises(tr.LoadError, match="was read before, expected each part once"):
        tr.load_weights(io.BytesIO(data))


def test_what_keras_does_not_write_is_refused():
    def in_a_heap(file):
        for i in range(30):
            file[str(i)] = np.float32([i])

    with pytest.raises(tr.LoadError, match="newer form, expected that which Keras writes"):
        tr.load_weights(io.BytesIO(written(in_a_heap, libver="latest")))
    with pytest.raises(tr.LoadError, match="bytes before its own|begins with|unknown"):
        tr.load_weights(io.BytesIO(bytes(512) + written(some_links)))
    with pytest.raises(tr.LoadError, match="cut short"):
        tr.load_weights(io.BytesIO(written(some_links)[:-8]))
