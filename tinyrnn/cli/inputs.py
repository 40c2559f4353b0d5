"""Inputs of `tinyrnn run`: .npy, .csv, .wav and bare samples, a chunk of steps at a time."""

from __future__ import annotations

import codecs
import io
import math
import os
import stat
import sys
import time
import warnings
import wave
from argparse import Namespace
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn.cli.console import named, one_line
from tinyrnn.cli.models import closed_frame, reads_indices, sizes_of
from tinyrnn.cli.options import RAW
from tinyrnn.cli.recognition import Shape
from tinyrnn.weights.spec import shown

STDIN = "standard input"  # its name in messages

Chunk = tuple[NDArray[Any], float]  # some steps, and the part of the work that is done after them


class Frames(NamedTuple):
    """An input file, understood: sequences of chunks of frames."""

    frame: Shape
    lead: Shape | None  # axes before the frame; None while the number of steps is not known
    sequences: Callable[[int], Iterable[Iterable[Chunk]]]  # with the most steps of one chunk
    batch: int = 1
    note: str | None = None  # a remark on the reading of the file that the output does not show


def open_npy(args: Namespace, net: tr.Net) -> Frames:
    """``(T, frame)``, ``(T, B, frame)`` or ``(B, T, frame)``, read a chunk at a time.

    In Fortran's order it is read whole. It is not mapped: a process that cut it short would end this one.
    """
    path, batch_first = args.input, args.batch_first or net._batch_first
    shape, fortran, dtype, offset, seen = _npy_header(path)
    known = args.frame or net._frame()
    if known is None:
        known = shape[1:]
    if known == (1,) and len(shape) == 1:
        shape = (*shape, 1)
    leading = len(shape) - len(known)
    fits = all(want in (None, got) for want, got in zip(known, shape[leading:], strict=False))
    if leading not in (1, 2) or not fits:
        batched = "B, T" if batch_first else "T, B"
        sizes = sizes_of(["T", *known])
        raise tr.ShapeError(
            f"{path}: got shape {shape}, expected ({sizes}) or ({batched}{sizes.removeprefix('T')})"
        )
    kinds, wanted = ("iu", "integers") if reads_indices(net) else ("fiub", "real numbers")
    if dtype.kind not in kinds:
        raise tr.LoadError(f"{path}: got dtype {dtype}, expected {wanted}")
    if 0 in shape:
        raise tr.ShapeError(f"{path}: got shape {shape}, expected at least one number")
    rows = shape[0] if batch_first and leading == 2 else 1
    each = shape[1:] if batch_first and leading == 2 else shape
    steps, step = each[0], each[1:]

    def numbers(file: IO[bytes], first: int, count: int) -> NDArray[Any]:
        with named(path):  # here, since the caller's generator is not running when a chunk is read
            file.seek(offset + first * dtype.itemsize)
            data = file.read(count * dtype.itemsize)
        if len(data) < count * dtype.itemsize:
            raise tr.LoadError(f"{path}: was cut short while it was read")
        return np.frombuffer(data, dtype)

    def chunks(file: IO[bytes], whole: NDArray[Any] | None, row: int, most: int) -> Iterator[Chunk]:
        width = math.prod(step)
        for start in range(0, steps, most):
            stop = min(start + most, steps)
            if whole is None:
                chunk = numbers(file, (row * steps + start) * width, (stop - start) * width)
                chunk = chunk.reshape(stop - start, *step)
            else:
                chunk = whole[row, start:stop]
            yield chunk, (row + stop / steps) / rows

    def sequences(most: int) -> Iterator[Iterator[Chunk]]:
        with named(path), open(path, "rb") as file:
            if _identity(file) != seen:
                raise tr.LoadError(f"{path}: changed while it was read")
            whole = None
            if fortran:
                whole = numbers(file, 0, math.prod(shape)).reshape(shape, order="F").reshape(rows, *each)
            for row in range(rows):
                yield chunks(file, whole, row, most)

    return Frames(shape[leading:], shape[:leading], sequences, 1 if leading == 1 or batch_first else shape[1])


def _identity(file: IO[bytes]) -> tuple[int, ...]:
    """A key that tells a file from any other, and from itself with other contents."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _npy_header(path: str) -> tuple[Shape, bool, np.dtype[Any], int, tuple[int, ...]]:
    """Read a .npy header, and compare it with the file's size.

    Returns shape, order (True for Fortran's), dtype, the offset of the numbers, and the file's identity.
    """
    _only_regular(path)
    with named(path), open(path, "rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(6)
        if not head:
            raise tr.LoadError(f"{path}: is empty, expected a .npy as numpy.save writes it")
        if head != b"\x93NUMPY":
            begins = head.hex(" ")
            raise tr.LoadError(f"{path}: begins with {begins}, expected a .npy as numpy.save writes it")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are as good
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0), (3, 0)):
                    raise ValueError(f"got version {version[0]}.{version[1]}, expected 1.0, 2.0 or 3.0")
                one = version == (1, 0)
                read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                if any(length < 0 for length in shape):
                    raise ValueError(f"got shape {shape}, expected no negative size")
        except OSError:
            raise
        except Exception as error:  # NumPy does not document the exceptions of a hostile header
            raise tr.LoadError(f"{path}: malformed .npy header: {shown(one_line(str(error)))}") from error
        offset, seen = file.tell(), _identity(file)
    if dtype.hasobject:
        raise tr.LoadError(f"{path}: got Python objects, a pickle that is never loaded, expected numbers")
    needed = math.prod(shape) * dtype.itemsize
    if needed > size - offset:
        raise tr.LoadError(
            f"{path}: cut short: got {size - offset} bytes, expected {needed} for shape {shape} of {dtype}"
        )
    return shape, fortran, dtype, offset, seen


def _only_regular(path: str) -> None:
    """Refuse a pipe, which can be read only once: a second look would wait for ever."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder gives its own error
        raise tr.LoadError(f"{path}: is not a regular file")


def open_csv(args: Namespace, net: tr.Net) -> Frames:
    """One frame in each line; a first line without any number is a header."""
    path, frame, whole = input_name(args), closed_frame(net, args.frame), reads_indices(net)
    width = math.prod(frame)

    def chunk(numbers: array[float]) -> NDArray[Any]:
        steps = np.frombuffer(numbers).reshape(-1, *frame)
        return steps.astype(np.int64) if whole else steps

    def chunks(most: int) -> Iterator[Chunk]:
        with _opened(args) as file:
            size = os.fstat(file.fileno()).st_size  # 0 of a pipe, which cannot tell how far it is
            rows, numbers = (
                _csv_rows(path, _lines(_pieces(args, file), _longest(width)), width, whole),
                array("d"),
            )
            try:
                for row in rows:
                    numbers.extend(row or ())
                    if numbers and (len(numbers) == most * width or (row is None and most < sys.maxsize)):
                        yield chunk(numbers), file.tell() / size if size else 0.0
                        numbers = array("d")
            except UnicodeDecodeError as error:
                raise tr.LoadError(f"{path}: is not text: {error}") from None
            if numbers:
                yield chunk(numbers), 1.0

    return Frames(frame, None, lambda most: [chunks(most)])


def input_name(args: Namespace) -> str:
    """The input's name in messages."""
    return STDIN if args.input == "-" else str(args.input)


@contextmanager
def _opened(args: Namespace) -> Iterator[io.FileIO]:
    """The input, whose reads return what has come."""
    if args.input == "-" and sys.stdin is None:
        raise tr.LoadError(f"{STDIN}: is closed, expected a pipe or a file")
    with (
        named(input_name(args)),
        io.FileIO(sys.stdin.fileno() if args.input == "-" else args.input, closefd=args.input != "-") as file,
    ):
        yield file


def _pieces(args: Namespace, file: io.FileIO) -> Iterator[bytes]:
    """The bytes of the input as they come."""
    path = input_name(args)
    grows = args.follow and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    while True:
        with named(path):
            data = file.read(1 << 18)
        if data:
            yield data
        elif grows:
            if os.fstat(file.fileno()).st_size < file.tell():
                raise tr.LoadError(f"{path}: was cut short while it was read")
            time.sleep(0.05)
        elif data is None:  # a pipe that does not block
            time.sleep(0.01)
        else:
            return


def _longest(width: int) -> int:
    return 4096 + 64 * width


def _lines(pieces: Iterable[bytes], longest: int) -> Iterator[str | None]:
    """The lines of a text, and None where the next one has not come yet."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), True)
    rest = ""
    for data in pieces:
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        yield from lines
        if len(rest) >= longest:
            yield rest  # which its reader refuses
        if lines:
            yield None
    yield rest + decoder.decode(b"", True)


def _csv_rows(
    path: str, lines: Iterable[str | None], width: int, whole: bool
) -> Iterator[list[float] | None]:
    """The ``width`` numbers of each line that is not blank; with ``whole`` indices. None is passed on."""
    longest = _longest(width)
    begun, at = False, 0
    for line in lines:
        if line is None:
            yield None
            continue
        at += 1
        if len(line) >= longest:
            raise tr.LoadError(f"{path}:{at}: got more than {longest} characters, expected {width} numbers")
        if not line.strip():
            continue
        cells = line.replace('"', "").split(next((mark for mark in ",;\t" if mark in line), None))
        values = [_number(cell) for cell in cells]
        header = not begun and any(map(str.strip, cells)) and all(value is None for value in values)
        begun = True
        if header:
            continue
        numbers = []
        for column, value in enumerate(values, 1):
            if value is None or (whole and not (value.is_integer() and abs(value) < 2**31)):
                kind = "an index" if whole else "a number"
                cell = shown(cells[column - 1].strip())
                raise tr.LoadError(f"{path}:{at}: column {column} holds {cell}, expected {kind}")
            numbers.append(value)
        if len(numbers) != width:
            raise tr.LoadError(f"{path}:{at}: got {len(numbers)} columns, expected {width}")
        yield numbers


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def open_wav(args: Namespace, net: tr.Net) -> Frames:
    """PCM as float32 in -1 .. 1: a sample of every channel, or a run of samples, in each frame."""
    path = args.input
    if reads_indices(net):
        raise tr.ShapeError(f"{path}: got samples, expected indices: write them as .npy or .csv")
    frame = closed_frame(net, args.frame)
    _only_regular(path)
    with named(path), open(path, "rb") as file, _wave(path, file) as sound:
        channels, width, count = sound.getnchannels(), sound.getsampwidth(), sound.getnframes()
        rate, held = sound.getframerate(), os.fstat(file.fileno()).st_size - file.tell()
    if width not in (1, 2, 3, 4):
        raise tr.LoadError(f"{path}: got samples of {8 * width} bits, expected 8, 16, 24 or 32")
    if count == 0:
        raise tr.ShapeError(f"{path}: got no samples, expected at least one")
    wanted = {frame[0]} if len(frame) == 2 else {frame[0], 1}
    if channels not in wanted:
        raise tr.ShapeError(
            f"{path}: got {channels} channels, expected {' or '.join(map(str, sorted(wanted)))} for frames "
            f"of shape {frame}"
        )
    cut_short = tr.LoadError(f"{path}: cut short: its header promises {count} samples")
    if count * channels * width > held:
        raise cut_short
    run = math.prod(frame) // channels  # samples of each channel in a frame
    steps = -(-count // run)
    each = " per channel" if channels > 1 else ""
    padding = steps * run - count
    note = (
        f"{path}: {rate} Hz, {_count(channels, 'channel')}, {_count(count, 'sample')}{each}: "
        f"{_count(steps, 'frame')} of {run}{each}, "
        + (f"the last padded with {_count(padding, 'zero')}{each}" if padding else "no padding")
    )

    def chunks(most: int) -> Iterator[Chunk]:
        with named(path), open(path, "rb") as file, _wave(path, file) as sound:
            for start in range(0, steps, most):
                now = min(most, steps - start)
                want = min(now * run, count - start * run)
                data = sound.readframes(want)
                if len(data) != want * channels * width:
                    raise cut_short
                samples = np.zeros((now * run, channels), np.float32)  # the last frame is filled up
                samples[:want] = _pcm(data, width).reshape(want, channels)
                by_channel = samples.reshape(now, run, channels).swapaxes(1, 2)
                yield by_channel.reshape(now, *frame), (start + now) / steps

    return Frames(frame, (steps,), lambda most: [chunks(most)], note=note)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


@contextmanager
def _wave(path: str, file: IO[bytes]) -> Iterator[wave.Wave_read]:
    """The open file as a .wav, at the first of its samples."""
    try:
        with wave.open(file, "rb") as sound:
            yield sound
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk past its own end
        raise tr.LoadError(f"{path}: not a .wav of PCM samples: {str(error) or 'cut short'}") from None


def _pcm(data: bytes | bytearray, width: int) -> NDArray[np.float32]:
    """Samples of ``width`` bytes; 32-bit samples are rounded to float32."""
    if width == 1:  # the only unsigned one
        return np.frombuffer(data, np.uint8).astype(np.float32) / np.float32(128) - np.float32(1)
    if width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = np.pad(raw, ((0, 0), (1, 0))).tobytes()  # now 32 bits, of which the low 8 are zero
        width = 4
    return np.frombuffer(data, f"<i{width}").astype(np.float32) / np.float32(1 << (8 * width - 1))


def open_raw(args: Namespace, net: tr.Net) -> Frames:
    """Samples without a header; channels are interleaved, as in a .wav."""
    path, width = input_name(args), RAW[args.raw]
    if reads_indices(net):
        raise tr.ShapeError(f"{path}: got samples, expected indices: write them as .npy or .csv")
    frame = closed_frame(net, args.frame)
    channels = frame[0] if len(frame) == 2 else 1
    each = math.prod(frame) * width

    def chunk(data: bytearray) -> NDArray[np.float32]:
        samples = np.frombuffer(data, "<f4") if args.raw == "f32le" else _pcm(data, width)
        by_time = np.pad(samples, (0, -len(samples) % math.prod(frame))).reshape(
            -1, math.prod(frame) // channels, channels
        )
        return by_time.swapaxes(1, 2).reshape(-1, *frame)

    def chunks(most: int) -> Iterator[Chunk]:
        held = bytearray()
        with _opened(args) as file:
            for piece in _pieces(args, file):
                held += piece
                while most < sys.maxsize and len(held) >= each:
                    ready = min(len(held) // each, most) * each
                    yield chunk(held[:ready]), 0.0
                    del held[:ready]
        if len(held) % width:
            raise tr.LoadError(f"{path}: ends within a sample, expected {width} bytes for each")
        if held:
            yield chunk(held), 1.0  # the last frame is filled up with zeros

    return Frames(frame, None, lambda most: [chunks(most)])


INPUTS = {".npy": open_npy, ".csv": open_csv, ".wav": open_wav}
