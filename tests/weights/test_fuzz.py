"""The duties of every source: the right door, and nothing but a LoadError for any file whatsoever."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import weight_files as wf
from good_files import GOOD, NET, SIX, THING
from mutations import mutated

from tinyrnn.errors import LoadError
from tinyrnn.weights import inspect_file, load_weights


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("suffix", ["", ".bin", ".ckpt", "upper"])
def test_an_unknown_suffix_goes_by_content(tmp_path, kind, suffix):
    path = tmp_path / ("model." + kind.upper() if suffix == "upper" else "model" + suffix)
    path.write_bytes(GOOD[kind])
    for given in (path, str(path), os.fsencode(path)):
        assert np.array_equal(load_weights(given)["w"], SIX.reshape(2, 3))


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".npz"])
def test_a_suffix_must_tell_the_truth(tmp_path, kind, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(GOOD[kind])
    if suffix[1:3] == kind[:2]:
        assert "w" in load_weights(path)
    else:
        with pytest.raises(
            LoadError, match=rf"model{suffix}: the suffix {suffix} says .*, but the content looks like"
        ):
            load_weights(path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"\x93NUMPY\1\0", "numpy.savez"),
        (b"what is this", "is unknown"),
    ],
)
@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.npz"])
def test_foreign_content_is_said(tmp_path, content, words, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LoadError) as info:
        load_weights(path)
    assert name in str(info.value)
    assert words in str(info.value) or (words == "is unknown" and name != "model.bin")


# ---- what a file is that nobody reads, and what to do about it


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["w.pt", "w.pickle", "w.npz", "w"])
def test_a_pickle_of_arrays_is_no_pytorch(tmp_path, name, protocol):
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"w": np.zeros((2, 3), np.float32)}, protocol))
    with pytest.raises(LoadError, match=r"a pickle, .* of NumPy arrays: .*numpy\.savez\(path") as info:
        load_weights(path)
    assert "torch.save" not in str(info.value)
    path.write_bytes(pickle.dumps({"w": [1.0, 2.0]}, protocol))
    with pytest.raises(LoadError, match=r"a pickle, .*numpy\.savez.*torch\.save") as info:
        load_weights(path)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("w.pkl", b"(dp0\nVw\np1\nI1\ns.", "the suffix .pkl says a pickle"),
        ("w.mlmodel", b"\x08\x02\x12\xe8", "the suffix .mlmodel says Core ML"),
        ("w.tflite", b"\x1c\0\0\0TFL3", "the suffix .tflite says TensorFlow Lite"),
        ("saved_model.pb", b"\x08\x01", "TensorFlow: save the model there with model.save"),
        ("w.onnx", b"<!DOCTYPE html>", "looks like HTML"),
        ("w.zip", wf.zipped(wf.Member("a.txt", b"x")), "neither PyTorch nor NumPy wrote: unpack it first"),
        ("w.mpk", b"\x82\xa8metadata", "the suffix .mpk says MessagePack of Flax or Burn: save .safetensors"),
    ],
)
def test_messages_about_other_formats(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError) as info:
        load_weights(tmp_path / name)
    assert words in str(info.value) and "expected one of .safetensors " in str(info.value)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pt"):
        load_weights(tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError, match="directory"):
        load_weights(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(LoadError, match="not a regular file"):
            load_weights(tmp_path / "pipe.pt")


def test_too_little_memory_is_said(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    path.write_bytes(GOOD["pt"])

    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "empty", none)
    with pytest.raises(LoadError, match="not enough memory"):
        load_weights(path)


def test_sources_are_imported_only_when_needed():
    """Importing the package must not import the modules that the sources need."""
    weights = Path(sys.modules["tinyrnn.weights"].__file__)
    code = (
        "import sys, types, numpy; package = types.ModuleType('tinyrnn'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['tinyrnn'] = package; before = set(sys.modules); import tinyrnn.weights\n"
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, weights.parent.parent], capture_output=True, text=True, check=True
    )
    assert (
        set(run.stdout.split()) & {"json", "zipfile", "pickle", "torch", "tinyrnn.weights.pytorch"} == set()
    )


# Fuzzing


def repaired(rng: random.Random, kind: str, others: list[bytes]) -> bytes:
    """A sound archive around a broken pickle, header or array, which a plain mutation seldom reaches."""
    if kind == "pt":
        return wf.pt(mutated(rng, wf.pickled(THING), others), {"0": SIX.tobytes()})
    if kind == "pth":
        return wf.legacy(
            mutated(rng, wf.pickled(rng.choice((THING, NET))), others), {"0": (6, SIX.tobytes())}
        )
    if kind == "npz":
        member = mutated(rng, wf.npy(wf.npy_header(), SIX.tobytes()), others)
        return wf.npz(("w.npy", member), method=rng.choice((0, 8)))
    if kind == "json":
        return b'{"w": [' + mutated(rng, b"[1.5, -2e3, 0], [0.25, 7, 1e-9]", others) + b"]}"
    header = mutated(rng, GOOD["safetensors"][8:-24], others)
    return wf.safetensors(header, SIX.tobytes())


def fuzz(folder: Path, rounds: int, seed: int) -> int:
    """Load mutated files; returns how many were still sound. Anything but a LoadError escapes."""
    rng, sound = random.Random(seed), 0
    paths = {kind: folder / f"model.{kind}" for kind in GOOD}
    for i in range(rounds):
        kind = rng.choice(list(GOOD))
        others = list(GOOD.values())
        data = mutated(rng, GOOD[kind], others) if i % 2 else repaired(rng, kind, others)
        paths[kind].write_bytes(data)
        for function in (load_weights, inspect_file):
            try:
                function(paths[kind])
                sound += 1
            except LoadError as error:
                assert str(error).isprintable() and len(str(error)) < 3000
    return sound


def test_fuzz(tmp_path):
    assert fuzz(tmp_path, 3000, 1) > 10


# PYTHONPATH=tests/helpers python tests/weights/test_fuzz.py ROUNDS SEED, in limited memory
if __name__ == "__main__":
    import resource
    import tempfile

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    with tempfile.TemporaryDirectory() as name:
        print(fuzz(Path(name), int(sys.argv[1]), int(sys.argv[2])), "sound")
