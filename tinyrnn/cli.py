"""The command line: ``tinyrnn info``, ``tinyrnn run``, ``tinyrnn bench``.

Every command is a function that takes the parsed arguments and returns an exit status. What goes wrong
is an exception, and `main` is the one door through which exceptions become one line on stderr.
"""

from __future__ import annotations

import argparse
import errno
import inspect
import io
import itertools
import json
import math
import mmap
import os
import platform
import re
import struct
import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.weights import FileInfo, inspect_file
from tinyrnn.weights.spec import READ, bits_of, shown

Shape = tuple[int, ...]

LISTED = 60  # entries that `info` prints of a long list
CHUNK = 1 << 18  # numbers of input, and of output, that `run` holds at once


class UsageError(Exception):
    """The command line itself is wrong: exit status 2."""


# ---- talking ------------------------------------------------------------------------------------


def _say(text: str = "") -> None:
    """One line on stdout, whatever characters its encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _one_line(text: str) -> str:
    """A message on one line, without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _table(rows: Iterable[Sequence[str]], limit: int | None) -> None:
    """Rows in aligned columns; of more than ``limit`` the first, and how many are left."""
    rows = list(rows)
    head = rows[:limit]
    widths = [min(max(map(len, column)), 60) for column in zip(*head, strict=True)]
    for row in head:
        _say("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > len(head):
        _say(f"  ... and {len(rows) - len(head)} more: --all lists them")


class _Progress:
    """A bar on stderr for work that takes longer than half a second, if a person is watching."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.begun = time.monotonic()
        self.due = self.begun + 0.5
        self.drawn = False

    def show(self, done: float) -> None:
        now = time.monotonic()
        if self.watched and now >= self.due and done > 0:
            left = (now - self.begun) * (1 / done - 1)
            sys.stderr.write(f"\r[{'#' * int(30 * done):<30}] {done:4.0%}  {left:.0f} s left  ")
            sys.stderr.flush()
            self.due, self.drawn = now + 0.1, True

    def clear(self) -> None:
        if self.drawn:
            sys.stderr.write("\r" + " " * 60 + "\r")
            sys.stderr.flush()


# ---- recognising layers by their tensors --------------------------------------------------------

# What their tensors do not tell of layers, so that they are listed, but not run.
_UNTOLD = {
    "Conv1d": "stride, padding, dilation and groups are not in the file",
    "LayerNorm": "eps is not in the file, and other norms look the same",
    "BatchNorm1d": "eps is not in the file, and 2d and 3d look the same",
}


class _Module(NamedTuple):
    """The tensors below one prefix, and the layers that they fit: several where shapes cannot tell."""

    prefix: str
    names: dict[str, str]  # full name of each tensor, by the last part of it
    fits: list[tr.Net]

    @property
    def runs(self) -> bool:
        return bool(self.fits) and type(self.fits[0]).__name__ not in _UNTOLD

    def describe(self) -> str:
        note = _UNTOLD.get(type(self.fits[0]).__name__)
        return " or ".join(map(_brief, self.fits)) + (f"  ({note})" if note else "")


def _brief(net: tr.Net) -> str:
    """The layer's repr without the arguments that have their default."""
    defaults = inspect.signature(type(net)).parameters
    given = (f"{name}={value!r}" for name, value in net.config().items() if defaults[name].default != value)
    return f"{type(net).__name__}({', '.join(given)})"


def _kind(net: tr.Net) -> str:
    """The layer as ``--kind`` names it."""
    name = type(net).__name__.lower()
    return f"{name}_{net.nonlinearity}" if "nonlinearity" in net.arguments else name


def _modules(shapes: Mapping[str, Shape]) -> list[_Module]:
    """Named tensors, grouped by prefix and recognised by their shapes."""
    groups: dict[str, dict[str, str]] = {}
    for name in shapes:
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = name
    modules = []
    for prefix, names in groups.items():
        own = {last: shapes[name] for last, name in names.items()}
        try:
            guesses = _guesses(own)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, ZeroDivisionError):
            guesses = []  # no layer has such names and sizes
        fits = [net for net in guesses if all(own.get(t.name) == t.shape for t in net._tensors())]
        modules.append(_Module(prefix, names, fits))
    return modules


def _guesses(own: Mapping[str, Shape]) -> list[tr.Net]:
    """The layers that tensors of such names may belong to, by some of their shapes."""
    bias = "bias" in own
    if "weight_ih_l0" in own or "weight_ih" in own:
        return _recurrent_guesses(own)
    if "running_mean" in own:
        (features,) = own["running_mean"]
        return [tr.BatchNorm1d(features, affine="weight" in own)]
    weight = own.get("weight", ())
    if len(weight) == 3:
        return [tr.Conv1d(weight[1], weight[0], weight[2], bias=bias)]
    if bias and weight == own["bias"]:
        return [tr.LayerNorm(weight)]
    if len(weight) == 2:
        linear = tr.Linear(weight[1], weight[0], bias)
        return [linear] if bias else [tr.Embedding(*weight), linear]
    return []


def _recurrent_guesses(own: Mapping[str, Shape]) -> list[tr.Net]:
    """The kind is the ratio of rows to hidden units: one for each gate."""
    cell, level = ("", "_l0") if "weight_ih_l0" in own else ("Cell", "")
    rows, reads = own[f"weight_ih{level}"]
    projection = own.get("weight_hr_l0")
    hidden = projection[1] if projection else own[f"weight_hh{level}"][1]
    name = {1: "RNN", 3: "GRU", 4: "LSTM"}[rows // hidden]
    options: dict[str, Any] = {"bias": f"bias_ih{level}" in own}
    if not cell:
        options["num_layers"] = next(n for n in itertools.count(1) if f"weight_ih_l{n}" not in own)
        options["bidirectional"] = "weight_ih_l0_reverse" in own
    if projection:
        options["proj_size"] = projection[0]
    make = getattr(tr, name + cell)
    if name == "RNN":
        return [make(reads, hidden, nonlinearity=function, **options) for function in ("tanh", "relu")]
    return [make(reads, hidden, **options)]


# ---- models -------------------------------------------------------------------------------------


def _open_model(args: argparse.Namespace) -> tr.Net:
    """The net that `Net.save` wrote, or one layer of a checkpoint."""
    info = inspect_file(args.model, args.key)
    if _is_ours(info) and args.prefix is None:
        return tr.load(args.model)
    module = _pick(_modules({tensor.name: tensor.shape for tensor in info.tensors}), args)
    fits = {_kind(net): net for net in module.fits}
    if args.kind is None and len(fits) > 1:
        kinds = " or ".join(fits)
        raise UsageError(f"{args.model}: {shown(module.prefix)} fits {module.describe()}: say --kind {kinds}")
    net = fits.get(args.kind or next(iter(fits)))
    if net is None:
        raise UsageError(f"{args.model}: {shown(module.prefix)} is {module.describe()}, no {args.kind}")
    weights = tr.load_weights(args.model, args.key)
    net.load_state_dict({last: weights[name] for last, name in module.names.items()})
    return net


def _is_ours(info: FileInfo) -> bool:
    return info.format == "safetensors" and "tinyrnn" in info.metadata


def _pick(modules: list[_Module], args: argparse.Namespace) -> _Module:
    """The layer at ``--prefix``, or the only one below it, or the only one there is."""
    prefix = (args.prefix or "").removesuffix(".")
    below = [m for m in modules if m.fits and f"{m.prefix}.".startswith(f"{prefix}." if prefix else "")]
    exact = [m for m in below if args.prefix is not None and m.prefix == prefix]
    found = exact or below
    where = f"{args.model}: " + (f"{shown(prefix)}: " if prefix else "")
    if not found:
        raise ValueError(f"{where}no layer is recognised here; `tinyrnn info` lists what there is")
    if len(found) > 1:
        names = ", ".join(shown(m.prefix) for m in found[:20]) + (", ..." if len(found) > 20 else "")
        raise ValueError(f"{where}there are {len(found)} layers, pick one with --prefix: {names}")
    if not found[0].runs:
        raise ValueError(f"{where}{found[0].describe()}: build the net in Python instead")
    return found[0]


# ---- info ---------------------------------------------------------------------------------------


def _info(args: argparse.Namespace) -> int:
    info = inspect_file(args.file, args.key)
    ours = _is_ours(info)
    limit, width = (None, sys.maxsize) if args.all else (LISTED, 100)
    parameters = sum(math.prod(t.shape) for t in info.tensors if READ.get(t.dtype, (0, 0))[1] is np.float32)
    stored = sum(math.prod(t.shape) * bits_of(t.dtype) // 8 for t in info.tensors)
    written = "a net of tinyrnn in " if ours else ""
    _say(f"{shown(args.file, 1000)}: {written}{info.format}, {info.bytes:,} bytes")
    _say(f"{len(info.tensors):,} tensors, {parameters:,} parameters, {stored:,} bytes of numbers")
    if info.tensors:
        _say("\ntensors")
        _table(((shown(t.name, width), t.dtype, str(t.shape)) for t in info.tensors), limit)
    metadata = [
        (shown(key, width), shown(value, width))
        for key, value in info.metadata.items()
        if not (ours and key == "tinyrnn")
    ]
    if metadata:
        _say("\nmetadata")
        _table(metadata, limit)
    if ours:
        _architecture(tr.load(args.file), args.frame, limit, width)
        return 0
    modules = _modules({tensor.name: tensor.shape for tensor in info.tensors})
    layers = [(_place(m.prefix, width), m.describe()) for m in modules if m.fits]
    if layers:
        _say("\nlayers recognised by their shapes")
        _table(layers, limit)
    other = sum(len(m.names) for m in modules if not m.fits)
    if other:
        _say(f"\ntensors of no layer that is recognised: {other:,}")
    return 0


def _place(prefix: str, width: int) -> str:
    return shown(prefix.removesuffix("."), width) if prefix else "(top)"


def _architecture(net: tr.Net, frame: Shape | None, limit: int | None, width: int) -> None:
    """Layers and memory of a net that was saved with its architecture."""
    _say("\narchitecture")
    _table(((_place(name, width), _brief(leaf)) for name, leaf in net._leaves()), limit)
    try:
        memory = net.memory(frame=_closed_frame(net, frame))
    except (ValueError, UsageError) as error:
        _say(f"\nmemory of one stream: {_one_line(str(error))}")
    else:
        _say(
            f"\nmemory of one stream: weights {memory.weights:,}, state {memory.state:,}, "
            f"scratch {memory.scratch:,} bytes"
        )


# ---- run: what goes in --------------------------------------------------------------------------

Chunk = tuple[NDArray[Any], float]  # some steps, and the part of the work that is done after them


class _Frames(NamedTuple):
    """An input file, understood: sequences of chunks of frames."""

    frame: Shape
    lead: Shape | None  # axes before the frame; None while the number of steps is not known
    batch: int
    sequences: Callable[[int], Iterable[Iterable[Chunk]]]  # with the most steps of one chunk


def _sizes(shape: Iterable[object]) -> str:
    return ", ".join("?" if size is None else str(size) for size in shape)


def _open_npy(path: str, net: tr.Net, frame: Shape | None, batch_first: bool) -> _Frames:
    """``(T, frame)``, ``(T, B, frame)`` or ``(B, T, frame)``, mapped rather than read."""
    try:
        with np.errstate(all="ignore"):
            mapped = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy does not say what a hostile header raises
        raise tr.LoadError(f"{path}: {error}") from error
    array: NDArray[Any] = np.asarray(mapped)
    known: Sequence[int | None] | None = frame if frame is not None else net._frame()
    if known is None:
        known = array.shape[1:]
    if tuple(known) == (1,) and array.ndim == 1:
        array = array[:, np.newaxis]
    leading = array.ndim - len(known)
    fits = all(want in (None, got) for want, got in zip(known, array.shape[leading:], strict=False))
    if leading not in (1, 2) or not fits:
        batched = "B, T" if batch_first else "T, B"
        sizes = _sizes(["T", *known])
        raise tr.ShapeError(
            f"{path}: shape {array.shape}, expected ({sizes}) or ({batched}{sizes.removeprefix('T')})"
        )
    wanted = "iu" if _reads_indices(net) else "fiub"
    if array.dtype.kind not in wanted:
        raise tr.LoadError(
            f"{path}: dtype {array.dtype}, expected {'integers' if wanted == 'iu' else 'real numbers'}"
        )
    rows = array if batch_first and leading == 2 else array[np.newaxis]
    steps = rows.shape[1]

    def chunks(row: int, most: int) -> Iterator[Chunk]:
        for start in range(0, steps, most):
            stop = min(start + most, steps)
            yield rows[row, start:stop], (row + stop / steps) / len(rows)
            if isinstance(mapped.base, mmap.mmap):  # what has been read need not stay resident
                mapped.base.madvise(mmap.MADV_DONTNEED)

    batch = 1 if leading == 1 or batch_first else array.shape[1]
    if 0 in array.shape:
        raise tr.ShapeError(f"{path}: shape {array.shape} holds no numbers")
    return _Frames(
        array.shape[leading:],
        array.shape[:leading],
        batch,
        lambda most: (chunks(row, most) for row in range(len(rows))),
    )


def _open_csv(path: str, net: tr.Net, frame: Shape | None, batch_first: bool) -> _Frames:
    """One frame in each line; a first line without any number is a header."""
    frame = _closed_frame(net, frame)
    width, whole = math.prod(frame), _reads_indices(net)
    longest = 4096 + 64 * width

    def number(text: str) -> float | None:
        try:
            return float(text)
        except ValueError:
            return None

    def lines(text: IO[str]) -> Iterator[list[float]]:
        begun = False
        for at in itertools.count(1):
            line = text.readline(longest)
            if not line:
                return
            if len(line) == longest:
                raise tr.LoadError(f"{path}:{at}: longer than {longest} characters, expected {width} numbers")
            if not line.strip():
                continue
            cells = line.replace('"', "").split(next((mark for mark in ",;\t" if mark in line), None))
            values = [number(cell) for cell in cells]
            header = not begun and any(map(str.strip, cells)) and all(value is None for value in values)
            begun = True
            if header:
                continue
            for column, value in enumerate(values, 1):
                if value is None or (whole and not (value.is_integer() and abs(value) < 2**31)):
                    kind = "an index" if whole else "a number"
                    cell = shown(cells[column - 1].strip())
                    raise tr.LoadError(f"{path}:{at}: column {column} holds {cell}, expected {kind}")
            if len(values) != width:
                raise tr.LoadError(f"{path}:{at}: {len(values)} columns, expected {width}")
            yield values  # type: ignore[misc]  # None was refused above

    def chunks(most: int) -> Iterator[Chunk]:
        with open(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8-sig") as text:
            size = os.fstat(raw.fileno()).st_size
            rows = lines(text)
            try:
                while block := list(itertools.islice(rows, most)):
                    numbers = np.array(block, np.int64 if whole else np.float64)
                    yield numbers.reshape(len(block), *frame), raw.tell() / size if size else 0.0
            except UnicodeDecodeError as error:
                raise tr.LoadError(f"{path}: is not text: {error}") from None

    return _Frames(frame, None, 1, lambda most: [chunks(most)])


def _open_wav(path: str, net: tr.Net, frame: Shape | None, batch_first: bool) -> _Frames:
    """PCM as float32 in -1 .. 1: a sample of every channel, or a run of samples, in each frame."""
    if _reads_indices(net):
        raise tr.ShapeError(f"{path}: holds samples, but the net reads indices")
    frame = _closed_frame(net, frame)
    with _wave(path) as sound:
        channels, width, count = sound.getnchannels(), sound.getsampwidth(), sound.getnframes()
    if width not in (1, 2, 3, 4):
        raise tr.LoadError(f"{path}: samples of {8 * width} bits, expected 8, 16, 24 or 32")
    if count == 0:
        raise tr.ShapeError(f"{path}: holds no samples")
    if len(frame) == 2:
        wanted, run = {frame[0]}, frame[1]
    else:
        wanted, run = {math.prod(frame), 1}, 1 if channels == math.prod(frame) else math.prod(frame)
    if channels not in wanted:
        raise tr.ShapeError(
            f"{path}: {channels} channels, but the net reads frames of shape {frame}: expected "
            f"{' or '.join(map(str, sorted(wanted)))} channels"
        )
    steps = -(-count // run)

    def chunks(most: int) -> Iterator[Chunk]:
        with _wave(path) as sound:
            for start in range(0, steps, most):
                now = min(most, steps - start)
                want = min(now * run, count - start * run)
                data = sound.readframes(want)
                if len(data) != want * channels * width:
                    raise tr.LoadError(f"{path}: cut short: its header promises {count} samples")
                samples = np.zeros((now * run, channels), np.float32)
                samples[:want] = _pcm(data, width).reshape(want, channels)
                shaped = samples.reshape(now, run, channels)
                if len(frame) == 2:
                    shaped = shaped.swapaxes(1, 2)
                yield shaped.reshape(now, *frame), (start + now) / steps

    return _Frames(frame, (steps,), 1, lambda most: [chunks(most)])


@contextmanager
def _wave(path: str) -> Iterator[wave.Wave_read]:
    try:
        with wave.open(path, "rb") as sound:
            yield sound
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk past its own end
        raise tr.LoadError(f"{path}: {str(error) or 'cut short'}, expected a .wav of PCM samples") from None


def _pcm(data: bytes, width: int) -> NDArray[np.floating[Any]]:
    """Samples of ``width`` bytes; what 32 bits hold beyond float32 is rounded."""
    if width == 1:  # the only unsigned one
        return (np.frombuffer(data, np.uint8) - np.float32(128)) / np.float32(128)
    if width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = np.pad(raw, ((0, 0), (1, 0))).tobytes()  # now 32 bits, of which the low 8 are zero
        width = 4
    return np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)


def _reads_indices(net: tr.Net) -> bool:
    return isinstance(net._leaves()[0][1], tr.Embedding)


def _closed_frame(net: tr.Net, frame: Shape | None) -> Shape:
    """``--frame``, or what the layers tell if they tell all of it."""
    known: Sequence[int | None] | None = frame if frame is not None else net._frame()
    if known is None or None in known:
        sizes = _sizes(known or [None])
        raise UsageError(f"the layers leave the frame open, ({sizes}): say --frame, such as 1,512")
    return tuple(size for size in known if size is not None)


_INPUTS = {".npy": _open_npy, ".csv": _open_csv, ".wav": _open_wav}


# ---- run: what comes out ------------------------------------------------------------------------


class _Writer(Protocol):
    """What writes outputs in one format."""

    def __init__(self, file: IO[bytes]) -> None: ...

    def write(self, y: NDArray[np.float32]) -> None: ...

    def finish(self, shape: Shape) -> None: ...


class _NpyWriter:
    """A ``.npy`` of float32 whose number of steps is known at the end only."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.finish((0,))

    def write(self, y: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(y, "<f4").tobytes())

    def finish(self, shape: Shape) -> None:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\1\0" + struct.pack("<H", 118) + f"{text:<117}\n".encode())


class _CsvWriter:
    """A line for each step, with digits enough to give the same float32 back."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, y: NDArray[np.float32]) -> None:
        np.savetxt(self.file, y.reshape(len(y), -1), "%.9g", ",")

    def finish(self, shape: Shape) -> None:
        pass


_OUTPUTS: dict[str, type[_Writer]] = {".npy": _NpyWriter, ".csv": _CsvWriter}


@contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """A file that takes the name ``path`` when it is complete, and vanishes if it will not be."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EINVAL, "is not a regular file, cannot be replaced", path)
    part = os.path.join(folder, f".tinyrnn-{os.urandom(8).hex()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(part, os.stat(target).st_mode & 0o7777)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


# ---- run ----------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    begun = time.perf_counter()
    open_input = _INPUTS[_suffix(args.input, _INPUTS)]
    make_writer = _OUTPUTS[_suffix(args.output, _OUTPUTS)]
    net = _open_model(args)
    frames = open_input(args.input, net, args.frame, args.batch_first or net._batch_first)
    if make_writer is _CsvWriter and len(frames.lead or ()) == 2:
        raise UsageError(f"{args.output}: a .csv has no room for a batch of sequences: write .npy")
    _, _, out_frame = net._streamed(frames.frame)
    compute = _computer(net, frames)
    most = max(1, CHUNK // (frames.batch * max(math.prod(frames.frame), math.prod(out_frame))))
    progress, steps, busy = _Progress(), 0, 0.0
    try:
        with _replacing(args.output) as file:
            writer = make_writer(file)
            for sequence in frames.sequences(most):
                for y, seconds, done in compute(sequence):
                    writer.write(y)
                    steps, busy = steps + len(y), busy + seconds
                    progress.show(done)
            if not steps:
                raise tr.ShapeError(f"{args.input}: holds no frames")
            shape = (*(frames.lead or (steps,)), *out_frame)
            writer.finish(shape)
    finally:
        progress.clear()
    seconds = time.perf_counter() - begun
    _say(
        f"{shown(args.output, 1000)}: {steps:,} steps, shape {shape}, {seconds:.3f} s in all, "
        f"{1e6 * busy / steps:.2f} µs per step in the net"
    )
    return 0


def _suffix(path: str, known: Mapping[str, Any]) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in known:
        raise UsageError(f"{path}: the suffix is {suffix or 'missing'}, expected one of {' '.join(known)}")
    return suffix


def _computer(
    net: tr.Net, frames: _Frames
) -> Callable[[Iterable[Chunk]], Iterator[tuple[NDArray[np.float32], float, float]]]:
    """What turns one sequence of chunks into outputs, with the seconds that each took."""

    def whole(sequence: Iterable[Chunk]) -> Iterator[tuple[NDArray[np.float32], float, float]]:
        parts = [chunk for chunk, _ in sequence]
        if parts:
            begun = time.perf_counter()
            y = net(np.concatenate(parts))
            yield y[0] if isinstance(y, tuple) else y, time.perf_counter() - begun, 1.0

    def streamed(sequence: Iterable[Chunk]) -> Iterator[tuple[NDArray[np.float32], float, float]]:
        stream.reset()
        for chunk, done in sequence:
            begun = time.perf_counter()
            y = stream.run(chunk)
            yield y, time.perf_counter() - begun, done

    if any(getattr(leaf, "bidirectional", False) for _, leaf in net._leaves()):
        return whole
    stream = net.stream(frames.batch, frame=frames.frame)
    return streamed


# ---- bench --------------------------------------------------------------------------------------

_SPEC = re.compile(r"(lstm|gru|rnn):(\d{1,6})x(\d{1,6})(?:x(\d{1,4}))?", re.IGNORECASE)
_KINDS: dict[str, Callable[[int, int, int], tr.Net]] = {"lstm": tr.LSTM, "gru": tr.GRU, "rnn": tr.RNN}


def _bench(args: argparse.Namespace) -> int:
    if args.isa is not None and args.isa not in tr.available_isas():
        raise UsageError(f"--isa {args.isa}: not here, expected one of {' '.join(tr.available_isas())}")
    spec = _SPEC.fullmatch(args.model)
    if spec:
        inputs, hidden, layers = (int(number or 1) for number in spec.groups()[1:])
        net = _KINDS[spec[1].lower()](inputs, hidden, layers)
    elif re.match(r"\w+:\d", args.model) and not os.path.exists(args.model):
        raise UsageError(f"{args.model}: no size of a net, expected KIND:INPUTxHIDDEN[xLAYERS], lstm:64x128")
    else:
        net = _open_model(args)
    before = tr.isa()
    try:
        tr.set_isa(args.isa or before)
        row = _measure(net, args)
    finally:
        tr.set_isa(before)
    if args.json:
        _say(json.dumps(row))
        return 0
    us = {name: f"{value:.2f}" for name, value in row["us_per_step"].items()}
    _say(f"{_one_line(args.model)}: {row['isa']}, batch {row['batch']}, {row['cpu']} ({row['machine']})")
    _say(
        f"  {us['p50']} µs per step p50, {us['p99']} p99, {us['p99.9']} p99.9, {us['min']} min: "
        f"{row['steps']:,} steps, less the clock's own {row['clock_ns']:.0f} ns"
    )
    _say(f"  {row['weight_bytes']:,} bytes of weights a step: {row['weight_gb_per_s']:.1f} GB/s at p50")
    return 0


def _measure(net: tr.Net, args: argparse.Namespace) -> dict[str, Any]:
    """Time single steps of a stream as a program makes them, into ``out``."""
    frame = _closed_frame(net, args.frame)
    stream = net.stream(args.batch, frame=frame)
    shape = frame if args.batch == 1 else (args.batch, *frame)
    random = np.random.default_rng(0)
    if _reads_indices(net):
        x = random.integers(0, net._leaves()[0][1].num_embeddings, shape).astype(np.int32)
    else:
        x = random.standard_normal(shape).astype(np.float32)
    out = np.empty_like(stream.step(x))
    step, clock = stream.step, time.perf_counter_ns

    def times(count: int) -> NDArray[np.float64]:
        taken = np.empty(count)
        for i in range(count):
            begun = clock()
            step(x, out=out)
            taken[i] = clock() - begun
        return taken

    # Without --steps, about a second of them: enough for a tail, whatever the size of the net.
    warm = float(np.median(times(50)))
    steps = args.steps or int(np.clip(1e9 / warm, 1000, 50_000))
    times(min(steps, int(1e8 / warm) + 1))
    taken = times(steps)
    idle = np.empty(1000)
    for i in range(len(idle)):
        begun = clock()
        idle[i] = clock() - begun
    own = float(np.median(idle))
    p50, p99, p999 = np.percentile(taken, [50, 99, 99.9]) - own
    # A step reads one row of an embedding's table, and all of the other weights.
    tables = sum(leaf.memory().weights for _, leaf in net._leaves() if isinstance(leaf, tr.Embedding))
    weights = net.memory(args.batch, frame=frame).weights - tables
    return {
        "model": args.model,
        "isa": tr.isa(),
        "batch": args.batch,
        "steps": steps,
        "us_per_step": {
            "min": (taken.min() - own) / 1e3,
            "p50": p50 / 1e3,
            "p99": p99 / 1e3,
            "p99.9": p999 / 1e3,
        },
        "clock_ns": own,
        "weight_bytes": weights,
        "weight_gb_per_s": weights / max(p50, 1.0),
        "cpu": _cpu(),
        "machine": platform.machine(),
        "tinyrnn": tr.__version__,
    }


def _cpu() -> str:
    """What Linux calls the board or the processor."""
    for path, pattern in (("/proc/device-tree/model", "(.+)"), ("/proc/cpuinfo", r"model name\s*: (.+)")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = re.search(pattern, file.read())
        except OSError:
            continue
        if found:
            return _one_line(found[1].strip("\0 "))
    return platform.processor() or "unknown CPU"


# ---- arguments ----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors leave through `main`'s door."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from 1 to 999999999")
    return int(text)


def _frame_of(text: str) -> Shape:
    sizes = text.split(",")
    if len(sizes) > 2:
        raise argparse.ArgumentTypeError(f"{text!r}, expected FEATURES or CHANNELS,LENGTH")
    return tuple(_count(size) for size in sizes)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("tinyrnn", description="Look at, run and time recurrent networks.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tinyrnn {tr.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    file = _Parser(add_help=False)
    file.add_argument("--key", help="part of a PyTorch checkpoint that holds the weights, such as generator")
    file.add_argument(
        "--frame",
        type=_frame_of,
        help="a step's input where the layers leave it open: FEATURES or CHANNELS,LENGTH",
    )
    model = _Parser(add_help=False)
    model.add_argument("--prefix", help="the layer of a checkpoint to run, such as decoder.rnn")
    model.add_argument(
        "--kind", help="which layer it is, where tensors cannot tell: linear, embedding, rnn_tanh, rnn_relu"
    )
    weights = "saved by net.save(), or a .pt, .pth, .safetensors or .npz of which one layer is run"

    info = commands.add_parser("info", parents=[file], allow_abbrev=False, help="what is in a file")
    info.add_argument("file", metavar="FILE", help=".pt, .pth, .safetensors or .npz")
    info.add_argument("--all", action="store_true", help="list everything, however long")
    info.set_defaults(command=_info)

    run = commands.add_parser(
        "run",
        parents=[file, model],
        allow_abbrev=False,
        help="run a net over a file",
        description="Stream a file through a net, in bounded memory. Bidirectional nets take it as a whole.",
    )
    run.add_argument("model", metavar="MODEL", help=weights)
    run.add_argument(
        "input",
        metavar="INPUT",
        help=".npy: (T, frame) or (T, B, frame); .csv: a frame in each line; .wav: PCM, as many channels "
        "as a frame has numbers, or mono that is cut into frames",
    )
    run.add_argument("-o", "--output", metavar="OUT", required=True, help=".npy or .csv, replaced at the end")
    run.add_argument("--batch-first", action="store_true", help="a batched .npy is (B, T, frame)")
    run.set_defaults(command=_run)

    bench = commands.add_parser(
        "bench", parents=[file, model], allow_abbrev=False, help="time steps of a net"
    )
    bench.add_argument("model", metavar="MODEL", help=weights + "; or sizes: lstm:64x128, gru:40x64x2")
    bench.add_argument("--steps", type=_count, help="steps to time; by default about a second of them")
    bench.add_argument("--batch", type=_count, default=1)
    bench.add_argument("--isa", help=f"one of {' '.join(tr.available_isas())}; now {tr.isa()}")
    bench.add_argument("--json", action="store_true", help="one JSON object instead of text")
    bench.set_defaults(command=_bench)
    return parser


# What bad input raises; anything else is a bug of ours and shows its traceback.
_FAILURES = (OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default the process's.

    Returns
    -------
    int
        Exit status: 0, 1 if the command failed, 2 if the command line is wrong, 130 if interrupted, 141
        if what reads stdout went away.
    """
    problem: Exception
    try:
        try:
            args = _parser().parse_args(argv)
            return int(args.command(args))
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be answered for
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads on. Python would complain when it flushes stdout at exit: let it flush elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UsageError as error:
        status, problem = 2, error
    except _FAILURES as error:
        status, problem = 1, error
    sys.stderr.write(f"tinyrnn: error: {_one_line(_message(problem))}\n")
    return status
