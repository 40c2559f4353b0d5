"""NumPy's .npz: stored or deflated, never unpickled, never larger than it can be."""

import numpy as np
import pytest
import weight_files as wf
from weight_files import npy, npy_header, npz

from tinyrnn.errors import LoadError
from tinyrnn.weights import inspect_file, load_weights

SIX = np.arange(6, dtype=np.float32)
RAW = SIX.tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture
def refused(path):
    def refused(data, *words, **more):
        path.write_bytes(data)
        with pytest.raises(LoadError) as info:
            load_weights(path, **more)
        for word in ("model.npz", *words):
            assert word in str(info.value)
        assert len(str(info.value)) < 1000 and str(info.value).isprintable()

    return refused


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves(path, save):
    arrays = {
        "lstm.weight": np.random.default_rng(1).standard_normal((300, 1000), np.float32),
        "turned": np.asfortranarray(SIX.reshape(2, 3)),
        "turned3": np.asfortranarray(np.arange(24, dtype=np.int64).reshape(2, 3, 4)),
        "big_endian": SIX.astype(">f4"),
        "big_double": SIX.astype(">f8"),
        "half": SIX.astype(np.float16),
        "int": np.arange(4, dtype=">i2"),
        "bool": SIX > 2,
        "scalar": np.array(2.5),
        "empty": np.empty((3, 0), np.float32),
        "zeros": np.zeros(100_000, np.float32),
        "nested/name": SIX,
    }
    save(path, **arrays)
    got = load_weights(path)
    assert list(got) == list(arrays)
    for name, want in arrays.items():
        assert np.array_equal(got[name], want) and got[name].shape == want.shape
        assert got[name].dtype == (np.float32 if want.dtype.kind == "f" else want.dtype.newbyteorder("="))
        assert got[name].flags.owndata and got[name].flags.c_contiguous and got[name].dtype.isnative


def test_no_arrays_at_all(path):
    np.savez(path)
    assert load_weights(path) == {}


def test_inspect(path):
    np.savez(path, w=SIX.astype(">f8").reshape(2, 3), c=np.zeros(2, complex))
    info = inspect_file(path)
    assert info.format == "NumPy .npz" and info.metadata == {} and info.bytes == path.stat().st_size
    assert info.tensors == [("w", "float64", (2, 3)), ("c", "complex128", (2,))]
    with pytest.raises(LoadError, match="c: dtype complex128 cannot be read"):
        load_weights(path)


@pytest.mark.parametrize(
    "header, version",
    [
        (npy_header(), 1),
        (npy_header(), 2),
        (npy_header(), 3),
        ("{'shape': (2,3),'descr':\"<f4\", 'fortran_order':False}", 1),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }   \n", 1),
    ],
)
def test_headers_by_other_writers(path, header, version):
    path.write_bytes(npz(("w.npy", npy(header, RAW, version))))
    assert np.array_equal(load_weights(path)["w"], SIX.reshape(2, 3))


BIG = 1 << 62


@pytest.mark.parametrize(
    "member, words",
    [
        (b"", ["expected a .npy"]),
        (b"\x93NUMPY\4\0" + bytes(20), ["version"]),
        (b"\x93NUMPZ\1\0" + bytes(20), ["expected a .npy"]),
        (npy(npy_header(), RAW, length=60_000), ["header of 60000"]),
        (npy(npy_header(), RAW, 2, length=1 << 31), ["header of 2147483648"]),
        (npy(npy_header() + " " * 20_000, RAW), ["expected at most 10000"]),
        (npy("", RAW), ["malformed"]),
        (npy("{}", RAW), ["malformed"]),
        (npy("()", RAW), ["malformed"]),
        (npy(npy_header()[:-2], RAW), ["malformed"]),
        (npy(npy_header() + "x", RAW), ["malformed"]),
        (npy(npy_header(fortran=1), RAW), ["malformed"]),
        (npy(npy_header(shape="(2, -3)"), RAW), ["malformed"]),
        (npy(npy_header(shape="(2.0, 3)"), RAW), ["malformed"]),
        (npy(npy_header(shape="6"), RAW), ["malformed"]),
        (npy(npy_header(shape="(" * 4000), RAW), ["malformed"]),
        (npy(npy_header(shape="(__import__('os'),)"), RAW), ["malformed"]),
        (
            npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", RAW),
            ["malformed"],
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}", RAW), ["malformed"]),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", RAW), ["structured"]),
        (npy(npy_header("|O"), RAW), ["object array", "pickle"]),
        (npy(npy_header("<U4"), RAW), ["dtype <U4"]),
        (npy(npy_header("|S4"), RAW), ["dtype |S4"]),
        (npy(npy_header("<M8[s]"), RAW), ["dtype <M8[s]"]),
        (npy(npy_header("|V2"), RAW), ["dtype |V2"]),
        (npy(npy_header("<f16"), RAW), ["dtype '<f16'"]),
        (npy(npy_header("<f3"), RAW), ["dtype '<f3'"]),
        (npy(npy_header("<f"), RAW), ["dtype <f"]),
        (npy(npy_header("|b2"), RAW), ["dtype '|b2'"]),
        (npy(npy_header(), RAW[:-1]), ["got 23 bytes, expected 24"]),
        (npy(npy_header(), RAW + b"x"), ["got 25 bytes, expected 24"]),
        (npy(npy_header(shape=(BIG, BIG)), RAW), ["more bytes than"]),
        (npy(npy_header(shape=(0, BIG, BIG)), RAW), ["more bytes than"]),
        (npy(npy_header(shape=(1,) * 33), RAW), ["33 dimensions"]),
        (npy(npy_header(shape=(9999999999999999999,)), RAW), ["more bytes than"]),
    ],
)
@pytest.mark.parametrize("method", [0, 8])
def test_hostile_members(refused, member, words, method):
    refused(npz(("lstm.weight.npy", member), method=method), "lstm.weight", *words)


def deflated(**more):
    return wf.zipped(wf.Member("w.npy", npy(npy_header(), RAW), method=8, **more))


@pytest.mark.parametrize(
    "data, words",
    [
        (
            npz(("w.txt", b"x"), ("w.npy", npy(npy_header(), RAW))),
            ["w.txt", "expected a member whose name ends in .npy"],
        ),
        (
            npz(("w.npy", npy(npy_header(), RAW)), ("w.txt", b"x")),
            ["w.txt", "expected a member whose name ends in .npy"],
        ),
        (npz(*[("w.npy", npy(npy_header(), RAW))] * 2), ["w.npy", "twice"]),
        (deflated(crc=1), ["checksum"]),
        (deflated(size=1 << 31), ["cannot expand to"]),
        (deflated(size=90), ["to the 90 bytes it claims"]),
        (deflated(packed=20), ["does not decompress"]),
        (deflated(flags=1), ["encrypted"]),
        (deflated()[:40] + b"\xff\xff\xff" + deflated()[43:], ["does not decompress"]),
    ],
)
def test_hostile_archives(refused, data, words):
    refused(data, *words)


def test_a_zip_bomb(path, refused):
    zeros = npy(npy_header(shape=(50_000_000,)), bytes(200_000_000))
    refused(npz(("w.npy", zeros), method=8), "200000000 bytes of memory", "for a file of 19")


def test_there_are_no_parts_to_pick(refused):
    refused(npz(("w.npy", npy(npy_header(), RAW))), "key: got 'model'", key="model")
