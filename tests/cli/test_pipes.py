"""`tinyrnn run` from pipes, to pipes, and along files that grow."""

import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import cli
from tinyrnn.cli import run

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def net(tmp_path, monkeypatch):
    """A net in a file, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    tr.manual_seed(0)
    net = tr.Sequential(tr.GRU(4, 8), tr.Linear(8, 2))
    net.save("net.safetensors")
    return net


def frames(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def csv(x):
    text = io.StringIO()
    np.savetxt(text, x, "%.9g", ",")
    return text.getvalue().encode()


def numbers(text):
    return np.loadtxt(io.BytesIO(text), np.float32, delimiter=",", ndmin=2)


def done(*argv, given=b"", status=0):
    """The output and what stands on stderr of a process that reads these bytes."""
    line = [sys.executable, "-m", "tinyrnn", "run", *argv]
    done = subprocess.run(line, input=given, capture_output=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr.decode().rpartition("\n")[0]


class Running:
    """A command whose input is written, and whose output is read, piece by piece."""

    def __init__(self, *argv, **streams):
        line = [sys.executable, "-m", "tinyrnn", "run", *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        self.process = subprocess.Popen(line, bufsize=0, **pipes)
        self.timer = threading.Timer(120, self.process.kill)
        self.timer.start()

    def write(self, data):
        self.process.stdin.write(data)

    def read(self, count):
        """Exactly so many bytes, or so many lines of text."""
        data = b""
        while len(data) < count:
            more = self.process.stdout.read(count - len(data))
            assert more, self.process.stderr.read()
            data += more
        return data

    def lines(self, count):
        return numbers(b"".join(self.line() for _ in range(count)))

    def line(self):
        text = b""
        while not text.endswith(b"\n"):
            text += self.read(1)
        return text

    def end(self):
        out, err = self.process.communicate()
        self.timer.cancel()
        return self.process.returncode, out, err


@pytest.mark.parametrize("most", [run.CHUNK, 64, 1])
def test_csv_through_a_pipe(net, most, monkeypatch, capsys):
    x = frames(50, 4)
    with open("x.csv", "wb") as file:
        file.write(b"a,b,c,d\r\n\r\n" + csv(x).replace(b"\n", b"\r\n").rstrip())  # no newline at the end
    monkeypatch.setattr(run, "CHUNK", most)
    with open("x.csv") as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert cli.main(["run", "net.safetensors", "-", "-o", "-"]) == 0
    out, err = capsys.readouterr()
    np.testing.assert_array_equal(numbers(out.encode()), net(x))
    assert err.startswith("-: 50 steps, shape (50, 2), ")
    assert cli.main(["run", "net.safetensors", "x.csv", "-o", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), net(x))


def test_a_line_is_answered_when_it_comes(net):
    x = frames(6, 4)
    process = Running("net.safetensors", "-", "-o", "-")
    expected = net(x)
    for at, step in enumerate(x[:3]):
        process.write(csv(step[None]))
        np.testing.assert_array_equal(process.lines(1), expected[at : at + 1])
    text = csv(x[3:])
    process.write(text[:-20])  # in the middle of a number
    np.testing.assert_array_equal(process.lines(2), expected[3:5])
    process.write(text[-20:])
    np.testing.assert_array_equal(process.lines(1), expected[5:])
    assert process.end()[:2] == (0, b"")


def test_samples_are_answered_when_they_come(net):
    x = frames(10, 4)
    process = Running("net.safetensors", "-", "-o", "-", "--raw", "f32le", "--raw-output", "f32le")
    expected = net(x).tobytes()
    process.write(x[:1].tobytes() + x[1].tobytes()[:5])
    assert process.read(8) == expected[:8]
    process.write(x[1].tobytes()[5:] + x[2:].tobytes())
    assert process.read(72) == expected[8:]
    assert process.end()[:2] == (0, b"")


@pytest.mark.parametrize("kind, width", [("u8", 1), ("s16le", 2), ("s24le", 3), ("s32le", 4)])
def test_whole_numbers_are_scaled_as_in_a_wav(net, kind, width):
    x = RANDOM.integers(-(1 << (8 * width - 1)), 1 << (8 * width - 1), (30, 4))
    plain = (x + 128).astype(np.uint8) if width == 1 else x
    data = np.ascontiguousarray(plain, "<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    expected = net((x / 2.0 ** (8 * width - 1)).astype(np.float32))
    out, _ = done("net.safetensors", "-", "-o", "-", "--raw", kind, "--raw-output", "f32le", given=data)
    np.testing.assert_array_equal(np.frombuffer(out, "<f4").reshape(-1, 2), expected)
    with open("sound", "wb") as file:
        file.write(data)
    done("net.safetensors", "sound", "-o", "y.npy", "--raw", kind)
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_channels_are_interleaved_and_the_last_frame_is_filled_up():
    net = tr.Sequential(tr.Conv1d(2, 3, 5), tr.ReLU(), tr.Flatten(), tr.GRU(18, 4))
    net.save("conv.safetensors")
    sound = frames(47, 2)
    padded = np.concatenate([sound, np.zeros((3, 2), np.float32)]).reshape(5, 10, 2).swapaxes(1, 2)
    options = ["--frame", "2,10", "--raw", "f32le", "--raw-output", "f32le"]
    out, _ = done("conv.safetensors", "-", "-o", "-", *options, given=sound.tobytes())
    np.testing.assert_array_equal(np.frombuffer(out, "<f4").reshape(-1, 4), net(padded))


def test_samples_that_are_written_are_clipped():
    net = tr.Sequential(tr.Scale(2.0))
    net.save("scale.safetensors")
    x = np.array([0.25, -0.25, 0.7, -0.7, np.nan, 1e-6], np.float32)
    options = ["--frame", "1", "--raw", "f32le", "--raw-output", "s16le"]
    out, _ = done("scale.safetensors", "-", "-o", "-", *options, given=x.tobytes())
    assert np.frombuffer(out, "<i2").tolist() == [16384, -16384, 32767, -32768, 0, 0]
    done("scale.safetensors", "-", "-o", "out.raw", *options, given=x.tobytes())
    with open("out.raw", "rb") as file:
        assert file.read() == out


@pytest.mark.parametrize("kind", ["f32le", None])
def test_a_net_that_reads_both_directions_takes_a_pipe_as_a_whole(kind):
    net = tr.LSTM(4, 3, bidirectional=True)
    net.save("both.safetensors")
    x = frames(40_000, 4)  # more than comes at once
    given = x.tobytes() if kind else csv(x)
    done("both.safetensors", "-", "-o", "y.npy", *(["--raw", kind] if kind else []), given=given)
    np.testing.assert_array_equal(np.load("y.npy"), net(x)[0])


def test_a_net_of_another_rate_ends_as_it_does_on_a_file():
    net = tr.Sequential(tr.TimeConv1d(4, 6, 3, stride=2, padding=1), tr.GRU(6, 5))
    net.save("rate.safetensors")
    x = frames(33, 4)
    out, _ = done("rate.safetensors", "-", "-o", "-", given=csv(x))
    np.testing.assert_array_equal(numbers(out), net(x))


@pytest.mark.parametrize("kind", ["f32le", None])
def test_a_file_is_followed(net, kind):
    x = frames(9, 4)
    form = np.ndarray.tobytes if kind else csv
    expected = net(x)
    with open("log.csv", "wb", buffering=0) as file:
        file.write(form(x[:4]))
        process = Running(
            "net.safetensors", "log.csv", "-o", "-", "--follow", *(["--raw", kind] if kind else [])
        )
        np.testing.assert_array_equal(process.lines(4), expected[:4])
        for at in range(4, 9):
            file.write(form(x[at : at + 1]))
            np.testing.assert_array_equal(process.lines(1), expected[at : at + 1])
    process.process.send_signal(signal.SIGINT)
    assert process.end() == (130, b"", b"")


def test_a_followed_file_that_shrinks_is_an_error(net):
    x = frames(4, 4)
    with open("log.csv", "wb") as file:
        file.write(csv(x))
    process = Running("net.safetensors", "log.csv", "-o", "-", "--follow")
    process.lines(4)
    os.truncate("log.csv", 10)
    assert process.end() == (1, b"", b"tinyrnn: error: log.csv: was cut short while it was read\n")


def test_a_reader_that_goes_away_ends_it_quietly(net):
    process = Running("net.safetensors", "-", "-o", "-")
    process.write(csv(frames(1, 4)))
    process.lines(1)
    process.process.stdout.close()
    with pytest.raises(BrokenPipeError):
        while True:
            process.write(csv(frames(100, 4)))
    process.process.stdin.close()
    process.process.stdin = process.process.stdout = None
    assert process.end() == (141, None, b"")


@pytest.mark.parametrize(
    ("argv", "given", "words", "status"),
    [
        (["-", "-o", "-"], b"1,2,3\n", "standard input:1: got 3 columns, expected 4", 1),
        (["-", "-o", "-"], b"\xff\n", "standard input: is not text", 1),
        (["-", "-o", "-"], b"", "standard input: got no frames, expected at least one", 1),
        (["-", "-o", "-"], b"1" * 9000, "standard input:1: got more than 4352 characters", 1),
        (["-", "-o", "-", "--raw", "s16le"], b"123", "ends within a sample, expected 2 bytes", 1),
        (["-", "-o", "-", "--raw", "s8"], b"", "got 's8', expected u8, s16le", 2),
        (
            ["x.npy", "-o", "-", "--follow"],
            b"",
            "--follow: got x.npy, expected a .csv, or samples with --raw",
            2,
        ),
        (["x.csv", "-o", "y.csv", "--follow"], b"", "expected -o -, since a file is written whole", 2),
    ],
    ids=["columns", "text", "empty", "line", "sample", "format", "npy", "file"],
)
def test_what_is_wrong_is_one_line(argv, given, words, status):
    out, error = done("net.safetensors", *argv, given=given, status=status)
    assert out == b"" and error.startswith("tinyrnn: error: ") and words in error and "\n" not in error


def test_a_net_that_needs_all_follows_nothing():
    tr.GRU(4, 2, bidirectional=True).save("both.safetensors")
    with open("x.csv", "wb") as file:
        file.write(csv(frames(3, 4)))
    _, error = done("both.safetensors", "x.csv", "-o", "-", "--follow", status=2)
    assert "--follow: both.safetensors needs the full sequence, expected a net that streams" in error


def test_standard_input_may_be_closed(net):
    line = f"{sys.executable} -m tinyrnn run net.safetensors - -o - <&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tinyrnn: error: standard input: is closed")
