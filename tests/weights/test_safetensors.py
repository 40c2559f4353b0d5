"""safetensors: read by the letter of its specification, written as the official library writes."""

import os
import stat
import struct

import numpy as np
import pytest
import weight_files as wf

from tinyrnn.errors import LoadError, WeightsError
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.safetensors import read_metadata, save_safetensors

SIX = np.arange(6, dtype=np.float32)


def entry(dtype="F32", shape=(2, 3), span=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def refused(path):
    def refused(data, *words, **more):
        path.write_bytes(data)
        for function in (load_weights, inspect_file):
            with pytest.raises(LoadError) as info:
                function(path, **more)
            for word in ("model.safetensors", *words):
                assert word in str(info.value)
            assert len(str(info.value)) < 1000 and str(info.value).isprintable()

    return refused


# Reading


def test_names_come_in_the_order_of_the_header(path):
    header = {
        "b": entry(shape=[2], span=(16, 24)),
        "a": entry(shape=(4,), span=(0, 16)),
        "": entry("I8", [0], (24, 24)),
    }
    path.write_bytes(wf.safetensors(header, SIX.tobytes()))
    got = load_weights(path)
    assert list(got) == ["b", "a", ""]
    assert got["a"].tolist() == [0, 1, 2, 3] and got["b"].tolist() == [4, 5] and got[""].shape == (0,)
    assert all(
        array.flags.owndata and array.flags.c_contiguous and array.flags.writeable for array in got.values()
    )


@pytest.mark.parametrize(
    "code, dtype", [("F64", "f8"), ("F16", "f2"), ("I64", "i8"), ("I32", "i4"), ("I16", "i2"), ("I8", "i1"),
                    ("U64", "u8"), ("U32", "u4"), ("U16", "u2"), ("U8", "u1"), ("BOOL", "?")]
)  # fmt: skip
def test_dtypes(path, code, dtype):
    numbers = np.array([[0, 1, 2], [3, 0, 100]]).astype(dtype)
    raw = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(wf.safetensors({"w": entry(code, span=(0, len(raw)))}, raw))
    got = load_weights(path)["w"]
    assert got.dtype == (np.float32 if numbers.dtype.kind == "f" else numbers.dtype)
    assert np.array_equal(got, numbers)


def test_bfloat16_and_scalars(path):
    raw = struct.pack("<H", 0x3FC0)
    path.write_bytes(wf.safetensors({"w": entry("BF16", (), (0, 2))}, raw))
    got = load_weights(path)["w"]
    assert got.shape == () and got == 1.5 and got.dtype == np.float32 and isinstance(got, np.ndarray)
    assert inspect_file(path).tensors == [("w", "bfloat16", ())]


def test_metadata_and_an_empty_file(path):
    path.write_bytes(wf.safetensors({"__metadata__": {"rate": "16000"}}))
    assert load_weights(path) == {} and read_metadata(path) == {"rate": "16000"}
    assert inspect_file(path).metadata == {"rate": "16000"} and inspect_file(path).format == "safetensors"
    path.write_bytes(wf.safetensors({"__metadata__": None, "w": entry()}, DATA))  # as MLX writes it
    assert list(load_weights(path)) == ["w"] and read_metadata(path) == {"format": "mlx"}


@pytest.mark.parametrize("code, bits", [("F8_E8M0", 8), ("C64", 64), ("F4", 4), ("F6_E2M3", 6)])
def test_other_dtypes_are_listed_but_not_loaded(path, code, bits):
    path.write_bytes(wf.safetensors({"w": entry(code, (8,), (0, bits))}, bytes(bits)))
    assert inspect_file(path).tensors[0].shape == (8,)
    with pytest.raises(LoadError, match=r"w: dtype .* cannot be read"):
        load_weights(path)


BIG = 1 << 62
DATA = bytes(24)


@pytest.mark.parametrize(
    "data, words",
    [
        (struct.pack("<Q", 0) + b"{}", ["header begins with"]),
        (b"\2\0\0\0\0\0\0\0{", ["9 bytes", "smallest"]),
        (b"\2\0\0", ["3 bytes", "smallest"]),
        (wf.safetensors("{}", length=3), ["header of 3 bytes in a file of 10", "at most 2"]),
        (wf.safetensors("{}", length=1 << 63), ["9223372036854775808"]),
        (wf.safetensors("{}", length=100_000_001), ["100000001"]),
        (wf.safetensors(" {}"), ["header begins with"]),
        (wf.safetensors("[]"), ["header begins with"]),
        (wf.safetensors("{"), ["got 9 bytes"]),
        (wf.safetensors("{]"), ["not JSON"]),
        (wf.safetensors("{}x"), ["not JSON"]),
        (wf.safetensors(b'{"\xff":1}'), ["not UTF-8"]),
        (wf.safetensors('{"\\ud800":1}'), ["not UTF-8"]),
        (wf.safetensors('{"a":' + "[" * 200_000), ["nested"]),
        (wf.safetensors('{"a":' + '{"a":' * 200_000), ["nested"]),
        (wf.safetensors('{"a":[' + "1," * 2_000_001), ["values and 250000 names"]),
        (wf.safetensors("{" + '"a":1,' * 250_001 + "}"), ["values and 250000 names"]),
        (wf.safetensors('{"a":' + "9" * 100_000 + "}"), ["number 999"]),
        (wf.safetensors('{"a":NaN}'), ["number NaN"]),
        (wf.safetensors('{"a":1.5}'), ["number 1.5"]),
        (wf.safetensors('{"a":1,"b":2,"a":1}'), ["a twice"]),
        (wf.safetensors('{"a":{"dtype":"F32","dtype":"F32"}}'), ["dtype twice"]),
        (wf.safetensors({"w": 3}), ["w: expected an object"]),
        (wf.safetensors({"w": None}), ["w: expected an object"]),
        (wf.safetensors({"w": {"dtype": "F32", "shape": []}}), ["w: expected an object"]),
        (wf.safetensors({"w": entry() | {"more": 1}}, DATA), ["w: expected an object"]),
        (wf.safetensors({"w": entry("F33")}, DATA), ["w: got the unknown dtype F33"]),
        (wf.safetensors({"w": entry(["F32"])}, DATA), ["w: got the unknown dtype"]),
        (wf.safetensors({"w": entry(shape=(-2, -3))}, DATA), ["w: shape: expected"]),
        (wf.safetensors({"w": entry(shape=(True, 6))}, DATA), ["w: shape: expected"]),
        (wf.safetensors({"w": entry(shape=("2", "3"))}, DATA), ["w: shape: expected"]),
        (wf.safetensors({"w": entry() | {"shape": 6}}, DATA), ["w: shape: expected"]),
        (wf.safetensors({"w": entry(shape=(BIG, 4))}, DATA), ["w: shape", "more bytes than"]),
        (wf.safetensors({"w": entry(shape=(0, BIG, BIG))}, DATA), ["w: shape", "more bytes than"]),
        (wf.safetensors({"w": entry(shape=[1] * 33)}, DATA), ["33 dimensions"]),
        (
            wf.safetensors({"w": entry(shape=(2, 4))}, DATA),
            ["w: got 24 bytes, expected 32 for shape (2, 4) of float32"],
        ),
        (wf.safetensors({"w": entry("F4", (3,), (0, 1))}, DATA), ["expected a whole number"]),
        (wf.safetensors({"w": entry(span=(24, 0))}, DATA), ["w: data_offsets"]),
        (wf.safetensors({"w": entry(span=(0, 24, 48))}, DATA), ["w: data_offsets"]),
        (wf.safetensors({"w": entry(span=(-24, 0))}, DATA), ["w: data_offsets"]),
        (wf.safetensors({"w": entry(span=(False, 24))}, DATA), ["w: data_offsets"]),
        (wf.safetensors({"w": entry(span=(BIG, BIG + 24))}, DATA), ["hole"]),
        (wf.safetensors({"w": entry(), "v": entry(span=(12, 36))}, DATA + DATA), ["v: begins", "overlaps"]),
        (wf.safetensors({"w": entry(), "v": entry()}, DATA), ["overlaps"]),
        (wf.safetensors({"w": entry(), "v": entry(span=(28, 52))}, DATA * 3), ["v: begins", "hole"]),
        (wf.safetensors({"w": entry()}, DATA + b"x"), ["tensors end at"]),
        (wf.safetensors({"w": entry()}, DATA[:-1]), ["tensors end at"]),
        (wf.safetensors({"__metadata__": {"a": 1}}), ["__metadata__"]),
        (wf.safetensors({"__metadata__": ["a"]}), ["__metadata__"]),
        (wf.safetensors({"__metadata__": dict.fromkeys(map(str, range(40_000)), "w"), "w": 0}), ["40001"]),
        (wf.safetensors({"w\x1b[2J": 3}), [r"w\x1b[2J"]),
        (wf.safetensors({"n" * 2000: entry()}, DATA), ["2000 characters"]),
    ],
)
def test_hostile_files(refused, data, words):
    refused(data, *words)


def test_there_are_no_parts_to_pick(refused):
    refused(wf.safetensors({"w": entry()}, DATA), "key: got 'model'", key="model")


# Writing


def saved(path, tensors, metadata=None):
    save_safetensors(path, tensors, metadata)
    return path.read_bytes()


ALL = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]


def test_written_files_can_be_read(path):
    tensors = {f"cell.{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in ALL}
    tensors |= {"scalar": np.array(2.5, np.float32), "empty": np.empty((0, 3), np.float32)}
    tensors |= {"turned": np.arange(6, dtype=">f4").reshape(2, 3).T, 'é\n"': SIX[::2]}
    save_safetensors(str(path), tensors, {"b": "ü", "a": ""})
    got = load_weights(path)
    assert got.keys() == tensors.keys()
    for name, array in tensors.items():
        assert np.array_equal(got[name], array) and got[name].shape == array.shape
    assert read_metadata(path) == {"a": "", "b": "ü"}
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0


def test_the_same_bytes_in_any_order(path):
    one = saved(path, {"a": SIX, "b": SIX.astype(np.int8)}, {"x": "1", "y": "2"})
    assert saved(path, {"b": SIX.astype(np.int8), "a": SIX}, {"y": "2", "x": "1"}) == one


@pytest.mark.parametrize(
    "tensors, metadata, words",
    [
        ({"a": SIX, "w": np.array([None])}, None, "w: dtype object"),
        ({"w": np.zeros(2, complex)}, None, "w: dtype complex128"),
        ({"w": np.zeros(2, "f4,f4")}, None, "w: dtype"),
        ({"w": np.array(["x"])}, None, "w: dtype"),
        ({3: SIX}, None, "3: expected the name"),
        ({"__metadata__": SIX}, None, "expected the name"),
        ({"\ud800": SIX}, None, "surrogate"),
        ({"w": SIX}, {"a": 1}, "expected strings"),
        ({"w": SIX}, {1: "a"}, "expected strings"),
    ],
)
def test_nothing_is_written_if_a_tensor_cannot_be_stored(path, tensors, metadata, words):
    path.write_bytes(b"old")
    with pytest.raises(WeightsError, match=words):
        save_safetensors(path, tensors, metadata)
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == [path.name]


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(OSError, match="No space"):
                save_safetensors(path, {"w": SIX})
        assert path.read_bytes() == b"old" and os.listdir(path.parent) == [path.name]


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError):
        save_safetensors(tmp_path, {"w": SIX})
    with pytest.raises(FileNotFoundError):
        save_safetensors(tmp_path / "none" / "w.safetensors", {"w": SIX})


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as POSIX has them")
def test_permissions_and_links_are_kept(path):
    umask = os.umask(0o027)
    try:
        saved(path, {"w": SIX})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(umask)
    path.chmod(0o604)
    link = path.with_name("link.safetensors")
    link.symlink_to(path.name)
    saved(link, {"v": SIX})
    assert (
        link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o604 and list(load_weights(path)) == ["v"]
    )


# Against the official library


def test_the_same_bytes_as_the_official_library(path):
    official = pytest.importorskip("safetensors.numpy")
    tensors = {f"layer.{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in ALL}
    tensors |= {"a": SIX, "Z": SIX[:1], "é\x1f": SIX[:2], "scalar": np.array(1, np.float32), "empty": SIX[:0]}
    assert saved(path, tensors) == official.save(tensors)
    assert saved(path, tensors, {"rate": "16000 ü"}) == official.save(tensors, {"rate": "16000 ü"})


def test_torch_loads_ours_and_we_load_torchs(path):
    torch = pytest.importorskip("torch")
    official = pytest.importorskip("safetensors.torch")
    tensors = {"w": torch.randn(3, 4), "h": torch.randn(5).bfloat16(), "n": torch.tensor(3)}
    official.save_file(tensors, path)
    got = load_weights(path)
    for name, want in tensors.items():
        assert np.array_equal(got[name], want.float().numpy())
    save_safetensors(path, got)
    back = official.load_file(path)
    assert back.keys() == tensors.keys() and torch.equal(back["w"], tensors["w"])
