"""Files that are complete or not there: power loss, kills, other writers, and the messages of errors."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import files
from tinyrnn.files import replacing
from tinyrnn.weights.safetensors import save_safetensors

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and folders as POSIX has them")
NAMELESS = hasattr(os, "O_TMPFILE")


@pytest.fixture(params=["nameless", "hidden"])
def way(request, monkeypatch):
    """Both ways to write: without a name until the end, and under a hidden one."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not NAMELESS:
        pytest.skip("no files without a name here")
    return request.param


def write(path, data):
    with replacing(path) as file:
        file.write(data)


def test_a_file_without_a_name_until_it_is_complete(way, tmp_path):
    with replacing(tmp_path / "x") as file:
        file.write(b"new")
        if way == "nameless":
            assert os.listdir(tmp_path) == []
        else:
            (name,) = os.listdir(tmp_path)
            assert name.startswith(".tinyrnn-") and name.endswith(".part")
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"new"


# A child saves in a loop and kills itself before a given call; the parent saves once more.
KILLS = """
import os, signal, sys
from tinyrnn.files import replacing

folder, way = sys.argv[1:]
if way == "hidden" and hasattr(os, "O_TMPFILE"):
    del os.O_TMPFILE
path = os.path.join(folder, "x")

def save(byte, point=lambda: None):
    with replacing(path) as file:
        for _ in range(3):
            file.write(byte * 50_000)
            point()

def child(last):
    calls = 0
    def point():
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def dies(function):
        def call(*args, **options):
            point()
            result = function(*args, **options)
            point()
            return result
        return call
    for name in ("open", "link", "replace", "fsync", "chmod"):
        setattr(os, name, dies(getattr(os, name)))
    save(b"n", point)
    os._exit(0)

save(b"o")
left, last, status = [], 0, -9
while status == -9 and last < 100:
    last += 1
    pid = os.fork()
    if not pid:
        child(last)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left.append(len(os.listdir(folder)) - 1)
    with open(path, "rb") as file:
        assert file.read() in (b"o" * 150_000, b"n" * 150_000)
    if last % 3 == 0:
        save(b"o")
        assert os.listdir(folder) == ["x"], os.listdir(folder)
save(b"o")
assert status == 0 and os.listdir(folder) == ["x"], (status, os.listdir(folder))
print(last, max(left), sum(left))
"""


def test_a_kill_leaves_nothing_that_the_next_save_does_not_remove(way, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), way], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    kills, _, left = map(int, run.stdout.split())
    assert kills > 12 and (way == "hidden" or left <= 10)


def test_another_writer_is_left_alone(way, tmp_path):
    path = tmp_path / "x"
    with replacing(path) as one:
        one.write(b"one")
        with replacing(path) as two:
            two.write(b"two")
            write(path, b"three")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["x"]


def test_foreign_files_are_left_alone(tmp_path):
    with replacing(tmp_path / "x") as file:
        stem = files._Part(tmp_path / "x")
        stem.close()
        file.write(b"x")
    strange = f"{stem._stem}link.part"
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / strange).symlink_to("precious")
    os.mkfifo(tmp_path / f"{stem._stem}pipe.part")
    (tmp_path / f"{stem._stem}folder.part").mkdir()
    (tmp_path / ".tinyrnn-other-0.part").write_bytes(b"of another name")
    before = set(os.listdir(tmp_path))
    write(tmp_path / "x", b"y")
    assert set(os.listdir(tmp_path)) == before
    (tmp_path / f"{stem._stem}0.part").write_bytes(b"stale")
    write(tmp_path / "x", b"z")
    assert set(os.listdir(tmp_path)) == before and (tmp_path / "precious").read_bytes() == b"precious"


def test_a_hidden_file_taken_for_stale_is_begun_again(tmp_path, monkeypatch):
    """Another writer looks between the moment a hidden file appears and the moment it is locked."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    lock, looks = files._lock, []

    def late(handle):
        if not looks:
            looks.append(1)
            files._Part(tmp_path / "x").close()
        return lock(handle)

    monkeypatch.setattr(files, "_lock", late)
    write(tmp_path / "x", b"whole")
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"whole" and looks


def test_where_there_are_no_locks(way, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", none)
    write(tmp_path / "x", b"x")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.skipif(not NAMELESS, reason="no files without a name here")
@pytest.mark.parametrize("step", ["open", "link"])
def test_without_nameless_files(tmp_path, monkeypatch, step):
    """A file system without them; or one where they cannot be linked afterwards."""
    real = getattr(os, step)

    def fails(*args, **options):
        if step == "link" or args[1] & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", args[0])
        return real(*args, **options)

    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "x").chmod(0o604)
    monkeypatch.setattr(os, step, fails)
    data = os.urandom(3 << 20)
    write(tmp_path / "x", data)
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == data
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o604


def test_permissions_links_and_long_names(way, tmp_path):
    umask = os.umask(0o027)
    try:
        write(tmp_path / "x", b"1")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(umask)
    (tmp_path / "x").chmod(0o444)
    (tmp_path / "link").symlink_to("x")
    write(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "x").read_bytes() == b"2"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o444
    write(tmp_path / ("n" * 255), b"3")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"3"


# ---- what errors say


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("step", ["open", "link", "fsync", "replace", "chmod"])
def test_an_error_names_the_path_that_was_asked_for(way, tmp_path, monkeypatch, step, code):
    """Read-only, full or broken: whichever call fails, the hidden name is not mentioned."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def fails(*args, **_):
        raise OSError(code, os.strerror(code), args[0] if isinstance(args[0], str) else None)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fails)
        if step == "link" and way == "nameless":
            patch.setattr(files._Part, "_named", lambda _: fails("hidden"))
        elif step == "link":
            return
        with pytest.raises(OSError) as info:
            save_safetensors(path, {"w": np.zeros(3, np.float32)})
    assert info.value.filename == str(path) and info.value.errno == code
    assert ".part" not in str(info.value) and "/proc" not in str(info.value)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"old"


def test_a_full_disk_names_the_path(way, tmp_path):
    """The write itself fails, in the middle or when the rest is flushed."""
    code = (
        "import resource, signal, sys, os\nimport numpy as np, tinyrnn as tr\n"
        "if sys.argv[2] == 'hidden': vars(os).pop('O_TMPFILE', None)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "net = tr.Linear(int(sys.argv[3]), 10)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: net.save(sys.argv[1])\n"
        "except OSError as error: print(error)\n"
    )
    for size in (100, 100_000):
        path = tmp_path / "x.safetensors"
        run = subprocess.run(
            [sys.executable, "-c", code, path, way, str(size)], capture_output=True, text=True, timeout=120
        )
        assert run.stdout == f"[Errno 27] File too large: {str(path)!r}\n" and run.stderr == ""
        assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(OSError) as info, replacing(tmp_path / "x"):
        raise OSError(errno.EIO, "while reading an input")
    assert info.value.filename is None
    with pytest.raises(FileNotFoundError) as info, replacing(tmp_path / "x"):
        os.stat(tmp_path / "input")
    assert os.fspath(info.value.filename) == str(tmp_path / "input")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path):
    for path in (tmp_path / "none" / "x", str(tmp_path / "none" / "x")):
        with pytest.raises(FileNotFoundError, match="no such folder") as info:
            write(path, b"")
        assert info.value.filename == str(path)
    with pytest.raises(IsADirectoryError, match="not a regular file") as info:
        write(tmp_path, b"")
    assert info.value.filename == str(tmp_path)


def test_every_writer_goes_through_replacing(tmp_path, monkeypatch):
    """A file that the package writes is complete or not there."""
    net = tr.Linear(3, 2)
    x, y = np.zeros((8, 3), np.float32), np.zeros((8, 2), np.float32)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    history = net.fit(x, y, 1, loss="mse")
    for save in (net.save, history.save):
        with pytest.raises(OSError) as info:
            save(tmp_path / "file")
        assert info.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_options_that_a_format_does_not_take(tmp_path):
    tr.Linear(3, 2).save(tmp_path / "net.safetensors")
    message = "load of such a file: got unknown argument 'sr', expected no arguments"
    with pytest.raises(TypeError, match=message):
        tr.load(tmp_path / "net.safetensors", sr=16000)
    with pytest.raises(tr.WeightsError, match="prefix: got 'lstm.', expected .* there are none"):
        tr.LSTM.from_state_dict({}, prefix="lstm.")
