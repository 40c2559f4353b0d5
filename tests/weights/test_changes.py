"""Files that others replace, write to or cut short while they are read: one descriptor, no mixture."""

import builtins
import os
import socket

import numpy as np
import pytest
import weight_files as wf

import tinyrnn as tr
from tinyrnn import cli
from tinyrnn.weights import inspect_file, load_weights, opened
from tinyrnn.weights.safetensors import read_metadata
from tinyrnn.weights.spec import Reader

SIX = np.arange(6, dtype=np.float32)
KINDS = {
    "net.safetensors": wf.safetensors(
        {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}, SIX.tobytes()
    ),
    "net.pt": wf.pt({"w": wf.tensor()}, {"0": SIX.tobytes()}),
    "net.npz": wf.npz(("w.npy", wf.npy(wf.npy_header(), SIX.tobytes()))),
}


@pytest.fixture
def openings(monkeypatch):
    """The number of times that each file is opened, whichever way Python has."""
    counted = {}

    def counting(function):
        def call(path, *args, **options):
            if not isinstance(path, int):
                name = os.path.basename(os.fsdecode(path))
                counted[name] = counted.get(name, 0) + 1
            return function(path, *args, **options)

        return call

    real, through = builtins.open, counting(builtins.open)
    # What has an opener calls os.open, and is counted there.
    monkeypatch.setattr(
        builtins,
        "open",
        lambda path, *args, **options: (real if "opener" in options else through)(path, *args, **options),
    )
    monkeypatch.setattr(os, "open", counting(os.open))
    return counted


@pytest.mark.parametrize("name", KINDS)
def test_every_reader_opens_a_file_once(tmp_path, openings, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    for function in (load_weights, inspect_file, *([read_metadata] if name == "net.safetensors" else [])):
        openings.clear()
        function(path)
        assert openings == {name: 1}


@pytest.mark.parametrize("command", ["load", "info", "run", "info of a checkpoint", "run a checkpoint"])
def test_every_command_opens_a_model_once(tmp_path, openings, command, capsys):
    net = tr.Linear(3, 2)
    net.save(tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **net.state_dict())
    np.save(tmp_path / "x.npy", np.zeros((4, 3), np.float32))
    name = "net.npz" if "checkpoint" in command else "net.safetensors"
    openings.clear()
    if command == "load":
        tr.load(tmp_path / name)
    elif command.startswith("info"):
        assert cli.main(["info", str(tmp_path / name)]) == 0
    else:
        line = ["run", tmp_path / name, tmp_path / "x.npy", "-o", tmp_path / "y.npy"]
        assert cli.main([str(word) for word in line]) == 0
    assert openings[name] == 1


def test_a_file_replaced_while_it_is_loaded_is_the_old_one(tmp_path, monkeypatch):
    """A writer that replaces the file after every read: architecture and weights are of one net."""
    path = tmp_path / "net.safetensors"
    nets = [tr.Linear(3, 2), tr.Sequential(tr.Linear(3, 2), tr.ReLU())]
    others = iter(nets * 100)
    next(others).save(path)
    for name in ("read", "fill"):
        real = getattr(Reader, name)

        def then_replaced(self, *args, real=real):
            result = real(self, *args)
            next(others).save(path)
            return result

        monkeypatch.setattr(Reader, name, then_replaced)
    for _ in range(4):
        with opened(path) as file:
            names = [tensor.name for tensor in file.info.tensors]
            assert list(file.weights()) == names
        got = tr.load(path)
        assert repr(got) in map(repr, nets)


def test_a_file_written_to_while_it_is_read_is_an_error(tmp_path):
    for name, data in KINDS.items():
        path = tmp_path / name
        path.write_bytes(data)
        with (
            pytest.raises(tr.LoadError, match=f"{name}: the file changed while it was read"),
            opened(path) as file,
        ):
            file.weights()
            path.write_bytes(data[:-1] + b"?")  # in place, of the same length
            os.utime(path, ns=(1, 1))  # whatever the clock's step is


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_short_while_it_is_read_is_an_error(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    words = f"{name}: .*(cut short while it was read|the file changed while)"
    with pytest.raises(tr.LoadError, match=words), opened(path) as file:
        os.truncate(path, 5)
        file.weights()


def test_a_path_that_becomes_a_pipe_or_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a directory"):
        load_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's path may be short only
    try:
        server.bind("socket")
        for name in ("pipe", "socket", "/dev/null"):
            with pytest.raises(tr.LoadError, match="is not a regular file"):
                Reader(name)
    finally:
        os.chdir(here)
        server.close()


def test_an_error_of_the_disk_names_the_file(tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(KINDS["net.npz"])
    with Reader(path) as reader:

        class Broken:
            def __getattr__(self, name):
                return getattr(reader_file, name)

            def seek(self, offset):
                raise OSError(5, "Input/output error")

        reader_file, reader._file = reader._file, Broken()
        for read in (lambda: reader.read(0, 4, "x"), lambda: reader.fill(0, np.empty(4, np.uint8), "x")):
            with pytest.raises(OSError, match="Input/output") as info:
                read()
            assert info.value.filename == str(path)
        reader._file = reader_file
